/* Inside of qmgr: accounts that send more than they may. The counts are queue/sending.h's, decided on at commit in one thread, so
 * that parallel sessions overshoot nothing. An account over a limit is `limited`: what it hands in is accepted and held (state
 * limited) until an operator releases or discards it. That it is so is on disk with the first message that is held. */
#ifndef QMGR_LIMITS_H
#define QMGR_LIMITS_H

#include "qmgr/qmgr.h"
#include "queue/sending.h"

enum limits_ending { LIMITS_HELD, LIMITS_RELEASING, LIMITS_DISCARDING };

/* An account over a limit. */
struct limited {
    uint32_t account;
    int64_t since;
    bool stored;        /* its row is on disk */
    bool told, telling; /* owner and operator; telling: with a commit under way */
    unsigned in_flight; /* commits of it that are held */
    uint8_t ending;     /* enum limits_ending */
    bool busy;          /* that is under way */
    struct admin_call *call; /* who asked for it; NULL: a restart */
    struct queue_limited_end end;
    struct qmgr *q;
    enum sending_limit over; /* the limit and how much it is; SENDING_LIMITS: a restart has forgotten */
    uint32_t most;
    char login[321], reason[120];
};

struct limits {
    struct sending *sending;
    struct idmap limited; /* by account */
    struct queue_reader *reader;
    bool counting; /* for a listing, or before a discard */
    struct sent *sent;
};

/* What is to be done with a message that wants to be committed. */
struct limits_verdict {
    bool hold, refuse;
    bool tell;     /* with it the owner and the operator are told */
    uint32_t slow; /* ms */
};
struct limits_verdict limits_judge(struct qmgr *q, const struct queue_message *m, const uint32_t most[SENDING_LIMITS],
                                   const struct link *rcpts, size_t count);
/* A commit that is held: its beginning and end. NULL: not (any more) limited. */
struct limited *limits_of(struct qmgr *q, uint32_t account);
void limits_committed(struct qmgr *q, uint32_t account, bool told, bool ok);

/* limits_notice.c: messages to its owner and to the operator. from: the client whose message passed the limit. */
enum { LIMITS_TO_OWNER, LIMITS_TO_OPERATOR, LIMITS_NOTICES };
struct message *limits_notice(const struct limited *w, unsigned which, struct span from, struct rcpt **to);

/* Ends the batch: releases or discards all of it; the counts begin anew. */
void limits_end(struct limited *w, enum limits_ending how, struct admin_call *call);

/* limits_command.c */
#define LIMITS_COMMANDS                                                  \
    {"account held list", "", 0, 0, limits_list},                        \
    {"account held release", "ADDRESS|ID", 1, 1, limits_release},        \
    {"account held discard", "ADDRESS|ID --count | --yes", 1, 2, limits_discard},
admin_fn limits_list, limits_release, limits_discard;

/* sent.c: the counts on disk, written behind. */
int sent_open(struct qmgr *q, const char *dir, struct err *err);
void sent_changed(struct qmgr *q);
bool sent_busy(const struct qmgr *q);
void sent_close(struct qmgr *q);

#endif
