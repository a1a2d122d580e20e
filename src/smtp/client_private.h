/* What the two halves of the sending engine share: client.c makes the session, client_mail.c carries transactions through it. */
#ifndef SMTP_CLIENT_PRIVATE_H
#define SMTP_CLIENT_PRIVATE_H

#include "smtp/client.h"
#include "smtp/client_content.h"
#include "smtp/client_reply.h"
#include "smtp/limits.h"

enum client_state {
    CLIENT_GREETING,
    CLIENT_EHLO,
    CLIENT_HELO,
    CLIENT_STARTTLS,
    CLIENT_TLS, /* the driver makes TLS */
    CLIENT_AUTH,
    CLIENT_READY,
    CLIENT_ENVELOPE, /* MAIL, RCPT and DATA are under way */
    CLIENT_CONTENT,
    CLIENT_DOT,
    CLIENT_RSET,
    CLIENT_QUIT,
    CLIENT_OVER,
    CLIENT_STATES
};

#define SMTP_CLIENT_SAID_MAX 4
#define SMTP_CLIENT_SAID_TEXT 100

/* A reply that is remembered. */
struct client_said {
    const char *verb;
    uint16_t code;
    char text[SMTP_CLIENT_SAID_TEXT + 1]; /* of its first line, as it came */
};

enum client_rcpt { CLIENT_RCPT_OPEN, CLIENT_RCPT_ACCEPTED, CLIENT_RCPT_TOLD };

struct smtp_client {
    struct buf *out;
    const struct smtp_client_ops *ops;
    void *ctx;
    char helo[SMTP_DOMAIN_MAX + 1];
    enum smtp_client_tls tls;
    struct buf user, password;
    bool auth_in_clear;
    int64_t timeout_max;

    int state;
    unsigned depth; /* how deep we are in calls from the driver: smtp_client_free() waits for the outermost */
    bool freed;
    bool tls_on;
    unsigned caps; /* enum smtp_client_cap bits of the last EHLO */
    uint64_t size_limit, by_min, progress;
    struct client_reply_reader reply;
    unsigned auth_step;
    bool auth_plain;
    char peer_name[SMTP_DOMAIN_MAX + 1];
    struct client_said said[SMTP_CLIENT_SAID_MAX]; /* the latest, replies to RCPT apart */
    unsigned said_count;

    /* the transaction: command 0 is MAIL, then a RCPT for each entry of `order`, DATA is the last */
    struct smtp_client_mail mail;
    uint8_t *rcpts; /* enum client_rcpt for each recipient */
    uint16_t *rcpt_codes;         /* of the replies to RCPT, 0: none yet */
    struct client_said rcpt_said; /* the latest of them */
    size_t rcpt_said_of;          /* whose */
    size_t *order, order_count;
    size_t sent, answered, accepted;
    bool mail_refused, empty_content;
    uint64_t chunk_left; /* of a binary content */
    struct client_content content;
};

void client_move(struct smtp_client *c, enum client_state next);
/* The session is over: on_failed. */
void client_fail(struct smtp_client *c, const struct outcome *why);
void client_broke_rules(struct smtp_client *c, const char *how);
void client_enter(struct smtp_client *c);
void client_leave(struct smtp_client *c);
bool client_over(const struct smtp_client *c); /* freed, or the session has ended */

/* client_dialogue.c: a reply is whole, and about to be dealt with. */
void client_note_reply(struct smtp_client *c);

void client_mail_drop(struct smtp_client *c);
size_t client_mail_outstanding(const struct smtp_client *c);
void client_on_envelope(struct smtp_client *c, unsigned code);
void client_on_early(struct smtp_client *c, unsigned code);
void client_on_dot(struct smtp_client *c, unsigned code);

#endif
