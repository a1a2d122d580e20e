/* The inside of a server session, for the files smtp/server*.c alone. */
#ifndef SMTP_SERVER_IMPL_H
#define SMTP_SERVER_IMPL_H

#include "base/sm.h"
#include "smtp/reply.h"
#include "smtp/server.h"

#define SMTP_QUEUE_CLOSED "The queue takes no mail just now, try again later"
#define SMTP_IDLE_MAX 100 /* of NOOP, RSET, HELP, EHLO, HELO and unanswered VRFY and EXPN since the last message that was accepted */

/* What a session waits for: one thing at a time. Recipients are the exception: in S_MAIL, `waiting` of them are being
 * asked about. */
enum smtp_state {
    S_CONNECT,    /* nobody spoke yet */
    S_HELLO,      /* greeted; EHLO has to come */
    S_READY,      /* between transactions */
    S_SENDER,     /* the owner says whether the login may use that reverse-path */
    S_MAIL,       /* a transaction is open */
    S_ASK,        /* the owner answers a question about a name; then it is `ask_back` again */
    S_LOGIN,      /* the owner has a login exchange to continue */
    S_LOGIN_LINE, /* the client has */
    S_TLS,        /* the handshake */
    S_DATA,       /* content */
    S_CHUNK,      /* the octets of a BDAT */
    S_CHUNKS,     /* a transaction whose content has begun with BDAT; the next chunk has to come */
    S_ROOM,       /* the owner takes content away */
    S_COMMIT,     /* the owner stores the message */
    S_CLOSED,
    S_COUNT
};

/* The BDAT being read. */
struct smtp_chunk {
    uint64_t size, left;
    bool last;
    unsigned code; /* not 0: it was refused with this; its octets are dropped, then the session is in state `back` */
    const char *status, *text;
    int back;
};

struct smtp_server {
    const struct smtp_server_config *config;
    const struct smtp_server_door *door;
    int state;
    uint32_t todo; /* bits 1 << enum smtp_want, what to ask the owner for */
    struct smtp_request ask;
    struct buf out;
    struct buf content;
    struct buf helo, login, scratch;
    char note_verb[16];
    struct buf note;
    struct span note_about;
    struct arena arena; /* one transaction */
    struct smtp_transaction txn;
    unsigned rcpt_cap, waiting, next_reply;
    unsigned errors, refused, login_failures, transactions;
    unsigned idle; /* commands without use since the last message */
    bool certified; /* the client's certificate verifies */
    bool tls, esmtp, skipping, spooling, turned_away;
    bool leaving; /* ends after its transaction */
    struct outcome why_not; /* with turned_away: the reply at the end of the content */
    struct span verb;       /* of the command being carried out */
    bool more_behind;       /* input had come behind it */
    struct smtp_chunk chunk;
    int64_t held_until; /* no MAIL before; 0: none is held back */
    struct buf held_text; /* why; empty for most */
    int ask_back;
    bool asked_utf8, asked_expand, asked_turn; /* asked_turn: TURN, not ATRN */
    bool trusted; /* may say XCLIENT */
    uint8_t told_proto; /* by XCLIENT: 1 SMTP, 2 ESMTP; 0: not */
    struct buf told_helo;
    struct smtp_xclient xclient;
};

/* It, or the whole program. */
static inline bool smtp_server_leaves(const struct smtp_server *s)
{
    return s->leaving || s->door->draining;
}
void smtp_server_move(struct smtp_server *s, enum smtp_state next);
void smtp_server_want(struct smtp_server *s, enum smtp_want want);
/* A positive or intermediate reply. */
void smtp_server_say(struct smtp_server *s, unsigned code, const char *status, const char *text);
/* A refusal: noted for the log and counted; over the limit the session ends with 421 instead. */
void smtp_server_refuse(struct smtp_server *s, unsigned code, const char *status, const char *text);
/* One error more: over the limit the session ends behind the reply that was given. */
void smtp_server_count_error(struct smtp_server *s);
/* A command that is answered on the spot and leads to no message: those beyond SMTP_IDLE_MAX count as errors. */
void smtp_server_count_idle(struct smtp_server *s);
/* 421 (or what is given) and the end. */
/* RFC4954:4: nothing stands behind AUTH in a group, nor behind a line of its exchange, but where PLAIN or EXTERNAL has its response with
 * it. What came all the same was sent blindly: a password that would run as a command, or commands that would run under a login that
 * their sender did not know of. */
#define SMTP_AUTH_LAST "Wait for the answer to each line of AUTH"
bool smtp_server_auth_is_last(const struct smtp_server *s, struct span arg);
void smtp_server_end(struct smtp_server *s, unsigned code, const char *status, const char *text);
void smtp_server_note(struct smtp_server *s, struct span reply);
/* Forgets the transaction; a taken content is aborted. */
void smtp_server_forget(struct smtp_server *s);
void smtp_server_forget_login(struct smtp_server *s);

/* server_command.c: one line without its CRLF, checked for octets that no command has. */
void smtp_server_command(struct smtp_server *s, struct span line);
/* server_mail.c: no further recipient is taken now. */
bool smtp_server_is_full(const struct smtp_server *s);
/* server_auth.c */
unsigned smtp_server_mechanisms(const struct smtp_server *s); /* enum sasl_can bits: what AUTH announces and accepts now */
void smtp_server_act_starttls(struct smtp_server *s, struct span arg);
void smtp_server_act_auth(struct smtp_server *s, struct span arg);
void smtp_server_login_line(struct smtp_server *s, struct span line);
bool smtp_server_offers_auth(const struct smtp_server *s);
/* server_ask.c */
bool smtp_server_serves_vrfy(const struct smtp_server *s);
bool smtp_server_serves_expn(const struct smtp_server *s);
void smtp_server_act_vrfy(struct smtp_server *s, struct span arg);
bool smtp_server_serves_etrn(const struct smtp_server *s);
bool smtp_server_serves_atrn(const struct smtp_server *s);
bool smtp_server_serves_turn(const struct smtp_server *s);
void smtp_server_act_etrn(struct smtp_server *s, struct span arg);
void smtp_server_act_atrn(struct smtp_server *s, struct span arg);
void smtp_server_act_turn(struct smtp_server *s, struct span arg);
void smtp_server_act_xclient(struct smtp_server *s, struct span arg);
void smtp_server_act_expn(struct smtp_server *s, struct span arg);
/* server_params.c: what stands behind the address of MAIL. -1: it was refused. */
int smtp_server_mail_params(struct smtp_server *s, struct span text);
/* The forms of those that are served now, each behind a blank, for HELP. */
void smtp_server_mail_forms(const struct smtp_server *s, struct buf *out);
bool smtp_server_serves_requiretls(const struct smtp_server *s);
bool smtp_server_serves_hold(const struct smtp_server *s);
bool smtp_server_serves_priority(const struct smtp_server *s);
/* server_mail.c */
void smtp_server_act_mail(struct smtp_server *s, struct span arg);
bool smtp_server_serves_send(const struct smtp_server *s);
void smtp_server_act_send(struct smtp_server *s, struct span arg); /* RFC 821 §3.4, §4.1.1 */
void smtp_server_act_soml(struct smtp_server *s, struct span arg);
void smtp_server_act_saml(struct smtp_server *s, struct span arg);
void smtp_server_act_rcpt(struct smtp_server *s, struct span arg);
void smtp_server_act_data(struct smtp_server *s, struct span arg);
bool smtp_server_read_content(struct smtp_server *s, struct span in, size_t *used);
/* Content begins: DATA or the first BDAT. */
void smtp_server_content_begin(struct smtp_server *s, bool chunked);
/* Content for the transaction, of which *used is taken; true: the end of DATA. */
bool smtp_server_content_take(struct smtp_server *s, struct span in, size_t *used);
/* The owner has to take what is there before more is read. */
bool smtp_server_content_full(struct smtp_server *s);
/* The content is whole, or has a flaw that ends the transaction. */
void smtp_server_content_over(struct smtp_server *s);
/* More than a sender that was told the limit would send: the session ends. */
bool smtp_server_content_endless(struct smtp_server *s);
/* server_chunk.c */
void smtp_server_act_bdat(struct smtp_server *s, struct span arg);
bool smtp_server_read_chunk(struct smtp_server *s, struct span in, size_t *used);

#endif
