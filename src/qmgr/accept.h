/* Between accept.c and commit.c: a transaction, from its first word to what is answered. */
#ifndef QMGR_ACCEPT_H
#define QMGR_ACCEPT_H

#include "qmgr/limits.h"

enum checked { CHECK_NONE, CHECK_ASKED, CHECK_GOOD, CHECK_REFUSED, CHECK_LATER };

struct senders {
    struct link link;
    struct chan *chan;
    struct idmap txns;
    unsigned sessions;
    int64_t sessions_at;
};

struct txn {
    struct qmgr *q;
    struct senders *from;
    uint64_t id;
    struct message *msg;
    struct link rcpts;
    unsigned count;
    enum checked checked;
    uint64_t ask;
    struct outcome refusal;
    uint32_t most[SENDING_LIMITS]; /* that its account may send */
    struct map named; /* addresses, from the second one on */
    bool too_many;
    bool spooled;       /* its file was opened */
    uint64_t commit_id; /* the request that waits for authd */
    char token[QUEUE_TOKEN_BYTES];
};

/* ---- accept.c ---- */
/* The answer to a commit or to a question about its token. from NULL: its channel is gone, nobody is told. */
void say_queued(struct senders *from, uint32_t epoch, uint64_t id, uint64_t message, uint32_t slow);
void say_not_queued(struct senders *from, uint32_t epoch, uint64_t id, const struct outcome *o);
void txn_free(struct txn *t);

/* ---- commit.c ---- */
void commit_on_msg(struct senders *from, const struct msg *m);
void commit_go(struct txn *t); /* authd has spoken */
void commits_orphan(const struct senders *s); /* nobody is told what becomes of those that are on their way */

#endif
