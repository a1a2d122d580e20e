/* An owner of server sessions for tests, dialogues and fuzzers: answers the engine's requests out of its head.
 * example.test is local with alice, bob and postmaster; everything else is elsewhere. alice's password is
 * "secret-words". */
#ifndef TESTS_SMTP_OWNER_H
#define TESTS_SMTP_OWNER_H

#include "smtp/server.h"

#define SMTP_OWNER_WALL INT64_C(1790000000000) /* 2026-09-21T14:13:20Z */

struct smtp_owner {
    struct smtp_server_config config;
    struct smtp_server_door door;
    struct smtp_server *s;
    struct buf in;         /* fed and not used yet */
    struct buf sent;       /* all replies */
    struct buf stored;     /* content of all messages committed, one behind the other */
    struct buf taken;      /* content of a message taken away for room */
    struct buf recipients; /* of all messages committed, each with a line feed behind */
    struct buf message_id; /* of the last one */
    uint32_t header_bytes; /* the same */
    unsigned commits, aborts, forgets, notes, rooms;
    unsigned held[128], held_count;
    bool hold_rcpts;   /* RCPT requests are kept in held[] */
    bool hold_commits; /* the commit is not answered */
    bool hold_tls;
    bool refuse_room;
    bool closed;
    bool binary; /* a message with BODY=BINARYMIME was committed */
    bool entitled; /* to mail by TURN */
    int login_step;
};

void smtp_owner_open(struct smtp_owner *o, bool submission);
void smtp_owner_close(struct smtp_owner *o);
void smtp_owner_feed(struct smtp_owner *o, struct span bytes);
void smtp_owner_feed_slowly(struct smtp_owner *o, struct span bytes); /* byte by byte */
void smtp_owner_run(struct smtp_owner *o);
void smtp_owner_answer_rcpt(struct smtp_owner *o, unsigned held);

#endif
