/* Scripts that a queue goes through while its disk is watched, and what of each request was asked for and known when. */
#ifndef CRASH_QUEUE_SCRIPT_H
#define CRASH_QUEUE_SCRIPT_H

#include "base/mem.h"
#include "disk.h"
#include "queue/impl.h"
#include "queue/queue.h"

#define LARGE 70000
#define NEVER SIZE_MAX
#define MESSAGES 16
#define FACTS 32


/* A message of the script, and the steps at which its fate was asked for and known. */
struct mail {
    struct queue_message m;
    struct queue_recipient r[2];
    char token[QUEUE_TOKEN_BYTES];
    char body[64];
    bool large, is_notice, imported;
    size_t asked, accepted, going, gone, deferring, deferred, expanding, expanded;
    struct queue_recipient child;
    struct mail *notice; /* made in the transaction in which this one goes */
    struct mail *with;   /* taken in in the same transaction as that one */
};

/* What else the queue knows: each has one value at a time, 0 at first. */
enum fact_kind {
    DESTINATION, /* 1: suspended, 2: has failed */
    LIMITED,     /* the account: 1: over its limit, 2: what is held of it is being released */
    PARKED,      /* a message: 1: waits for its destination, 2: is due since that is ready */
    FACT_KINDS
};
struct fact {
    enum fact_kind kind;
    int value;
    size_t asked, known; /* the steps at which it was asked for, and known to be recorded */
};

struct run {
    struct loop *loop;
    struct queue *q;
    struct mail mails[MESSAGES], *parked;
    struct fact facts[FACTS];
    unsigned count, fact_count;
    uint64_t tidied;
    bool done;
};

/* A queue in that folder, and a loop; -1: it can't be opened. */
int run_open(struct run *u, const char *dir, struct err *err);
void run_close(struct run *u);
/* Takes the message over from another queue, or finds that it was: how many recipients were made. */
unsigned run_import(struct run *u, struct mail *m);
void run_on_done(struct queue_request *r);
void run_wait(struct run *u);

typedef void script_fn(struct run *u, const char *disk);
/* Messages large and small: taken in, deferred, expanded, ended with and without a notice. */
script_fn mail_script;
/* Operators, destinations, limits, and what goes back to the disk. */
script_fn other_script;

#endif
