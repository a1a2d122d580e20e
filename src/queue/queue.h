/* The queue: messages and recipients in one SQLite database, large contents in spool files. States on disk:
 * doc/queue-states.md.
 *
 * Every change is a request: the loop's thread submits it, the writer's thread gathers requests into one transaction
 * (group commit) and the request's `done` runs on the loop's thread when it is on disk. Reading is done by queue_reader
 * on whatever thread its owner likes. All of this stays narrow so that another database can take SQLite's place. */
#ifndef QUEUE_QUEUE_H
#define QUEUE_QUEUE_H

#include "base/arena.h"
#include "base/err.h"
#include "base/list.h"
#include "base/outcome.h"
#include "loop/loop.h"
#include "queue/qid.h"

#define QUEUE_TOKEN_BYTES 16
#define QUEUE_ROUTE_MAX 270
#define QUEUE_WHY_MAX 400 /* bytes of a reason that are kept */

/* Values are on disk: never renumbered. */
enum queue_state { QUEUE_WAITING = 1, QUEUE_PARKED = 2, QUEUE_HELD = 3, QUEUE_EXPANDED = 4, QUEUE_PICKUP = 5, QUEUE_LIMITED = 6 };
const char *queue_state_name(enum queue_state s);
/* Who handed it in. On disk. */
enum queue_origin { QUEUE_FROM_OUTSIDE = 1, QUEUE_FROM_SUBMISSION = 2, QUEUE_FROM_ACCOUNT = 3, QUEUE_NOTIFICATION = 4, QUEUE_FROM_LOCAL = 5 };
/* RFC 3461 §4.1, bits of NOTIFY; 0: not given. */
enum queue_notify {
    QUEUE_NOTIFY_NEVER = 1,
    QUEUE_NOTIFY_SUCCESS = 2,
    QUEUE_NOTIFY_FAILURE = 4,
    QUEUE_NOTIFY_DELAY = 8
};

/* RFC 3461 §4.3; 0: not given. On disk. */
enum queue_ret { QUEUE_RET_FULL = 1, QUEUE_RET_HDRS = 2 };

/* Of the content, as declared or seen. On disk. */
enum queue_body { QUEUE_BODY_7BIT = 0, QUEUE_BODY_8BIT = 1, QUEUE_BODY_BINARY = 2 };
/* How it was sent (RFC 821 §3.4): MAIL, or to terminals. On disk. */
enum queue_terminal { QUEUE_MAIL = 0, QUEUE_SEND = 1, QUEUE_SOML = 2, QUEUE_SAML = 3 };
/* REQUIRETLS, and "TLS-Required: No" (RFC 8689). On disk. */
enum queue_tls { QUEUE_TLS_ANY = 0, QUEUE_TLS_MUST = 1, QUEUE_TLS_NEEDLESS = 2 };
/* DELIVERBY (RFC 2852 §4), bits. On disk. */
enum queue_by { QUEUE_BY_RETURN = 1, QUEUE_BY_NOTIFY = 2, QUEUE_BY_TRACE = 4 };

/* The facts of a message. Spans belong to whoever made it. */
struct queue_message {
    uint64_t id;
    struct span sender; /* reverse-path, empty: null */
    struct span helo, remote, message_id, envid;
    struct span tls, login; /* of the client: "TLSv1.3 CIPHER"; who it proved to be */
    struct span policy;     /* for people: what was found out at the door, and which settings decided */
    struct span marks;      /* sections hold of the configuration whose header condition it met as it came in, blanks between */
    struct span hold;       /* FUTURERELEASE as it was asked for: "for;3600", "until;2026-01-01T00:00:00Z" */
    int64_t received; /* ms since 1970 */
    uint64_t size;    /* prefix and body */
    uint32_t header_bytes;
    uint32_t account; /* of a submission, 0: none */
    uint8_t origin;   /* enum queue_origin */
    uint8_t ret, body_kind, smtputf8; /* enum queue_ret, enum queue_body */
    uint8_t tls_need;                 /* enum queue_tls */
    uint8_t by_mode;                  /* enum queue_by bits */
    uint8_t terminal;                 /* enum queue_terminal */
    int8_t priority;                  /* RFC 6710: -9 to 9 */
    int64_t deliver_by, hold_until;   /* ms since 1970, 0: not asked for */
    bool spooled;
    struct span prefix, body; /* p NULL: not in memory, or spooled */
};

/* From when on it is tried: a hold of FUTURERELEASE counts neither for expiry nor for warnings. */
static inline int64_t queue_message_begins(const struct queue_message *m)
{
    return m->hold_until > m->received ? m->hold_until : m->received;
}

/* What an operator's release took away. On disk. */
enum queue_passed {
    QUEUE_PASSED = 1,      /* a hold of its domain counts no longer, nor does that its domain asks for its mail */
    QUEUE_PASSED_RULES = 2 /* nor do sections hold; also for what an alias leads to */
};

struct queue_recipient {
    uint64_t id, parent; /* parent 0: given by the sender */
    uint8_t state, depth, notify;
    uint8_t passed; /* enum queue_passed bits */
    bool told;   /* the sender knows that the time of DELIVERBY has passed */
    uint32_t attempts;
    int64_t next; /* ms since 1970; 0: nothing is due */
    struct span address;
    struct span original; /* the address that the sender gave; p NULL: the same */
    struct span orcpt;
    struct span sender; /* reverse-path of its own; p NULL: the message's */
    /* the last response */
    int64_t last; /* when, 0: never */
    uint8_t kind;
    uint16_t code, subject, detail;
    struct span why, host;
    struct span dialogue;    /* how the last attempt came to it, for people; p NULL: nothing is known */
    struct span destination; /* it waits for that one to be ready (queue_release); p NULL: only for `next` */
    struct span route;       /* HOST[:PORT] that an operator named for it; p NULL: none */
    struct span domain;      /* of the address, canonical, once it waits: what `waits` of a filter looks for. Not read back */
};

/* Their texts are copied into the arena; the content is not. */
void queue_keep_message(struct queue_message *m, struct arena *a);
void queue_keep_recipient(struct queue_recipient *r, struct arena *a);

/* What held it is no answer of anybody. */
static inline void queue_unpark(struct queue_recipient *r)
{
    if (r->state != QUEUE_PARKED)
        return;
    r->kind = 0;
    r->code = r->subject = r->detail = 0;
    r->why = r->host = r->dialogue = SPAN_NONE;
}

/* ---- the queue ---- */

struct queue;
struct queue_options {
    const char *dir; /* exists */
    int64_t commit_wait_ms;
    int64_t now_ms;
};

/* Opens or makes the database, starts the writer's and the checkpoints' threads, and settles what a crash left: orphaned spool
 * files go, rows without file are logged; where there are many, most of that is done later, while nobody waits. */
int queue_open(struct queue **out, struct loop *l, const struct queue_options *o, struct err *err);
/* Carries out what was submitted (done is called for all of it), then stops the threads and closes. */
void queue_close(struct queue **q);
void queue_set_commit_wait(struct queue *q, int64_t ms);
/* Ids for a message and its recipients; on any thread. */
uint64_t queue_ids(struct queue *q, uint64_t count);
/* Ids from that one on are of this opening of the queue, lower ones of those before. */
uint64_t queue_first_id(const struct queue *q);
/* How many senders are in the middle of a transaction, waiting ones included: with more than one a commit waits for the
 * others. */
void queue_senders(struct queue *q, unsigned open);

enum queue_fail { QUEUE_OK, QUEUE_FULL, QUEUE_BROKEN };

struct queue_request {
    void (*done)(struct queue_request *r); /* on the loop's thread */
    enum queue_fail fail;
    char why[160]; /* with fail */
    /* the rest is the queue's */
    struct link link;
    int (*run)(struct queue *q, struct queue_request *r, struct err *err);
    int64_t latest_us;         /* when it has to be on its way */
    bool waits;                /* a sender waits for the answer */
    bool unlink;               /* its message's spool file goes */
    uint64_t message, highest; /* highest: id that it uses */
};

/* An account that has passed a limit of what it may send: what it hands in is held until an operator says what becomes of it. */
struct queue_limited {
    uint32_t account;
    struct span login, reason;
    int64_t since;
    bool told;      /* its owner and the operator */
    uint8_t ending; /* 1: being released, 2: being discarded */
};

struct queue_notice {
    const struct queue_message *message;
    const struct queue_recipient *to;
};

/* A new message with its recipients, all waiting or parked as their rows say. */
struct queue_accept {
    struct queue_request request;
    const struct queue_message *message;
    const struct queue_recipient *recipients;
    size_t count;
    const char *token;     /* QUEUE_TOKEN_BYTES; NULL: none */
    uint64_t duplicate_of; /* out: a message with this token is there already; nothing was made */
    const struct queue_limited *limited; /* its account is from now on; NULL: it is not */
    const struct queue_notice *notices;  /* further messages, with it or not at all */
    size_t notice_count;
    bool damaged;          /* out: the spool file is not what was announced; nothing was made */
};
void queue_accept(struct queue *q, struct queue_accept *a);

/* A message that comes from another queue, with what of its recipients did not come before. May be submitted by any
 * thread. */
struct queue_import {
    struct queue_request request;
    const struct queue_message *message;
    const struct queue_recipient *recipients; /* in the order of their ids, expanded aliases too */
    const uint64_t *sources;                  /* the ids that they had there */
    size_t count;
    uint64_t fingerprint; /* of the message there: other queues may have had the same ids */
    size_t made;          /* out: recipients that are new here; 0: nothing was made, its spool file is of no use */
    bool damaged;         /* out: the spool file is not what was announced; nothing was made */
};
void queue_import(struct queue *q, struct queue_import *m);

/* What became of recipients of one message, in one transaction. */
enum queue_change_kind {
    QUEUE_GONE,   /* delivered, failed, removed: the row goes */
    QUEUE_UPDATE, /* state, attempts, next and the last response are written */
    QUEUE_INSERT, /* a further recipient, unless its message is gone */
};
struct queue_change {
    enum queue_change_kind kind;
    struct queue_recipient row; /* QUEUE_GONE: its id */
};
struct queue_settle {
    struct queue_request request;
    uint64_t message;
    bool spooled;
    const struct queue_change *changes;
    size_t count;
    const struct queue_recipient *children; /* new recipients of the message */
    size_t child_count;
    const struct queue_message *notice; /* NULL: none; else a new message with its one recipient */
    const struct queue_recipient *notice_to;
    bool message_gone; /* out; with QUEUE_INSERT also: it was gone before */
};
/* patience: how long it may wait for company, ms. */
void queue_settle(struct queue *q, struct queue_settle *s, int64_t patience);

/* Was a commit with this token made? Answered behind everything that was submitted before. */
struct queue_token {
    struct queue_request request;
    char token[QUEUE_TOKEN_BYTES];
    uint64_t message; /* out, 0: no */
};
void queue_token_ask(struct queue *q, struct queue_token *t);

/* What waits on disk for a destination: up to `max` of its waiting recipients become due at `now`. */
struct queue_release {
    struct queue_request request;
    struct span destination;
    int64_t now;
    unsigned max, count; /* count: out */
};
void queue_release(struct queue *q, struct queue_release *r);

/* The state of a destination, kept over restarts. */
struct queue_destination {
    struct queue_request request;
    struct span name, reason;
    bool forget; /* the row goes */
    bool suspended;
    uint32_t failures;
    int64_t down_until, down_for, since;
};
/* patience: as with queue_settle(). */
void queue_destination(struct queue *q, struct queue_destination *d, int64_t patience);

/* That account's held mail is on its way out, or is gone: behind everything that was submitted before. */
struct queue_limited_end {
    struct queue_request request;
    uint32_t account;
    uint8_t ending;
    bool over; /* its row goes */
};
void queue_limited_end(struct queue *q, struct queue_limited_end *e);

/* Writes something that changes nothing: whether the database can be written at all. */
void queue_probe(struct queue *q, struct queue_request *r);

struct queue_stats {
    uint64_t commits, requests, checkpoints, wal_pages;
    uint64_t tidied; /* steps that gave free pages back to the disk */
};
struct queue_stats queue_stats(struct queue *q);

/* ---- spool files ---- */
int queue_spool_create(struct queue *q, uint64_t id, struct err *err); /* a descriptor open for writing, or -1 */
int queue_spool_open(struct queue *q, uint64_t id);                    /* for reading; -1 with errno */
void queue_spool_remove(struct queue *q, uint64_t id);                 /* a transaction that did not commit */
/* Room on the queue's disk: bytes, and how many files can be made. -1: it can't be told. */
int queue_room(struct queue *q, uint64_t *bytes, uint64_t *files);

/* ---- reading ---- */

/* A connection for reading, used by one thread at a time. */
struct queue_reader;
int queue_reader_open(struct queue_reader **out, const char *dir, struct err *err);
void queue_reader_close(struct queue_reader **r);

/* What is due, by its key only: in the order of `next`. */
struct queue_due {
    int64_t next;
    uint64_t message, recipient;
};
/* Up to `max` rows after `after` ({0}: from the start) with next <= now. *count of them; *coming: the first time after
 * now (0: none), told when count < max. */
int queue_read_due(struct queue_reader *r, const struct queue_due *after, int64_t now, struct queue_due *out,
                   size_t max, size_t *count, int64_t *coming, struct err *err);
/* A message, its content if wanted and not spooled. 0, or 1 when there is none (or its content is gone). Spans are in
 * the arena. */
int queue_read_message(struct queue_reader *r, uint64_t id, bool content, struct arena *a, struct queue_message *out,
                       struct err *err);
int queue_read_recipient(struct queue_reader *r, uint64_t message, uint64_t id, struct arena *a,
                         struct queue_recipient *out, struct err *err);
/* All recipients of a message in the order of their ids, from the one after `after`. */
int queue_read_recipients(struct queue_reader *r, uint64_t message, uint64_t after, struct queue_recipient *out,
                          size_t max, size_t *count, struct arena *a, struct err *err);

int queue_count_recipients(struct queue_reader *r, uint64_t *count, struct err *err);

/* Destinations in the order of their names, from the one after `after`. */
int queue_read_destinations(struct queue_reader *r, struct span after, struct queue_destination *out, size_t max,
                            size_t *count, struct arena *a, struct err *err);
/* The first name after `after` that recipients wait for. 1: there is none. */
int queue_read_waited(struct queue_reader *r, struct span after, struct span *name, struct arena *a, struct err *err);
/* How many wait for that destination; looks at no more than `most` of them. */
int queue_count_waiting(struct queue_reader *r, struct span destination, unsigned most, uint64_t *count,
                        struct err *err);

/* Accounts over a limit, by number from the one after `after`. */
int queue_read_limited(struct queue_reader *r, uint32_t after, struct queue_limited *out, size_t max, size_t *count,
                       struct arena *a, struct err *err);
/* How much of each account is held for that. */
typedef void queue_limited_fn(void *ctx, uint32_t account, uint64_t messages, uint64_t recipients);
int queue_count_limited(struct queue_reader *r, queue_limited_fn *fn, void *ctx, struct err *err);

/* A page of the whole queue. Empty spans and 0 match everything. */
struct queue_filter {
    uint64_t message;
    struct span sender, recipient, domain; /* without case; the domain canonical */
    struct span either;                    /* sender or recipient */
    struct span canonical;                 /* beside `domain`, its canonical form: what has waited is found by it at once */
    struct span waits;                     /* canonical domain: what has waited for it, found without looking at others */
    uint8_t state;
    uint32_t account;
    int64_t since, before; /* accepted then or later, and earlier than that: ms since 1970 */
    uint64_t larger, smaller; /* bytes, both excluded */
};
struct queue_item {
    struct queue_message message; /* without content */
    struct queue_recipient recipient;
};
/* Where a reading of pages is: {0} at the start. Rows come in the order of message and recipient; with `canonical` those
 * that have waited first and then, as `rest`, the others. */
struct queue_place {
    uint64_t message, recipient; /* the last row that was looked at */
    bool rest;
    uint64_t looked; /* rows, so far */
};
/* Up to `max` matching rows after `at`, which moves on; looks at no more than `look` rows. *end: there are no more. */
int queue_read_page(struct queue_reader *r, const struct queue_filter *f, struct queue_place *at, size_t look,
                    struct queue_item *out, size_t max, size_t *count, bool *end, struct arena *a, struct err *err);

/* ---- adding up (stats.c) ---- */

struct queue_fact {
    uint64_t message;
    uint8_t state;
    struct span address, sender;
    struct span destination; /* it waits for that one, or an operator named it; p NULL: for none */
    uint64_t size;           /* of the message */
    int64_t received;
};
typedef void queue_fact_fn(void *ctx, const struct queue_fact *f); /* spans live until it returns */
/* Calls fn for up to `look` recipients after `at`, which moves on, in their order. *end: there are no more. */
int queue_each_fact(struct queue_reader *r, struct queue_place *at, size_t look, queue_fact_fn *fn, void *ctx, bool *end,
                    struct err *err);

/* Recipients: with a time, which is now or later (parked and pickup ones among them), and in the states that are rare. */
struct queue_counts {
    uint64_t due, later, parked, held, pickup, limited;
};
int queue_count(struct queue_reader *r, int64_t now, struct queue_counts *out, struct err *err);

#endif
