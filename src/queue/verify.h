/* The queue's invariants (doc/queue-states.md), each looked at on disk, and what can be mended without losing mail. */
#ifndef QUEUE_VERIFY_H
#define QUEUE_VERIFY_H

#include "queue/queue.h"

/* F(ENUM, what is wrong, what mends it; NULL: nothing that is safe) */
#define QUEUE_FAULTS(F)                                                                                                \
    F(DATABASE, "the database is damaged", NULL)                                                                       \
    F(NO_MESSAGE, "a recipient without its message", "deleted")                                                        \
    F(NO_RECIPIENT, "a message without a recipient", "deleted")                                                        \
    F(STATE, "a recipient in a state that there is not", "held, 'queue release' lets it go")                           \
    F(NEXT_MISSING, "a recipient that waits without a next attempt", "due now")                                        \
    F(NEXT_GIVEN, "a recipient that does not wait, with a next attempt", "taken away")                                 \
    F(PARENT, "a recipient of an alias that is not there", "on its own")                                               \
    F(DESTINATION, "a recipient that does not wait, under a destination it waits for", "taken away")                   \
    F(DOMAIN, "a recipient under another domain than that of its address", "put right")                                \
    F(LIMITED, "a recipient held for an account that is over no limit", "held, 'queue release' lets it go")            \
    F(CONTENT_MISSING, "a message without its content: its recipients fail at their next attempt", NULL)               \
    F(CONTENT_ORPHAN, "a content without its message", "deleted")                                                      \
    F(FILE_MISSING, "a message whose file is missing or damaged: its recipients fail at their next attempt", NULL)     \
    F(FILE_ORPHAN, "a file without its message", "deleted")                                                            \
    F(FILE_STRANGER, "a file that is not the queue's", NULL)                                                           \
    F(MARK, "a mark below an id that is in use", "put above it")                                                       \
    F(HISTORY, "a day of history that is damaged", NULL)

enum queue_fault {
#define QUEUE_FAULT_ENUM(name, what, mending) QUEUE_FAULT_##name,
    QUEUE_FAULTS(QUEUE_FAULT_ENUM)
#undef QUEUE_FAULT_ENUM
    QUEUE_FAULT_COUNT
};
const char *queue_fault_text(enum queue_fault f);
const char *queue_fault_mending(enum queue_fault f); /* NULL: there is none */

struct queue_found {
    enum queue_fault fault;
    uint64_t message, recipient; /* 0: none */
    struct span detail;          /* an address, a file, SQLite's words; may be empty */
    struct span domain;          /* DOMAIN: what it should be; p NULL: none */
};

struct queue_verify {
    const char *dir;
    bool (*canonical)(struct span name, char *out, size_t *n); /* domain_canonical() */
    uint64_t below; /* queue_first_id(): files from that id on may be those of transactions under way, or of one of which only
                       the next start can tell whether it was committed */
    /* False: stop. Spans live until it returns. */
    bool (*found)(void *ctx, const struct queue_found *f);
    bool (*over)(void *ctx); /* asked now and then; true: stop */
    void (*progress)(void *ctx, uint64_t done, const char *unit);
    void *ctx;
};
/* On any thread but the loop's, page by page. 0: all was looked at; 1: stopped; -1. */
int queue_verify(const struct queue_verify *v, struct err *err);

/* Mends what was found, if it is still so. May be submitted from any thread; `done` is called on the loop's. */
struct queue_mend {
    struct queue_request request;
    enum queue_fault fault;
    uint64_t message, recipient;
    char domain[256];
    bool has_domain;
    bool look; /* only look whether it is still so */
    int64_t now;
    bool still; /* out: it was so */
};
void queue_mend(struct queue *q, struct queue_mend *m);
/* Ids that are given out from now on are above it. On the loop's thread. */
void queue_ids_above(struct queue *q, uint64_t id);

#endif
