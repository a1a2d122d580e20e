/* The scheduler: which attempt may start now. Pure: the time is an argument, so that tests let days pass in a moment.
 *
 * A destination (an account here, a domain elsewhere) has a window: how many attempts may be under way at once. It opens
 * by one for each window of successes, up to the limit, and halves when the destination could not be reached. After
 * SCHED_DOWN_AFTER failures in a row it is down for a while that doubles; the first attempt after that is a probe. It may
 * have a rate (attempts in a time), and an operator may suspend it.
 *
 * Turns are fair twice: between destinations, and inside of each between senders, by deficit round robin that counts
 * recipients. Memory is shared out: no destination may fill what is free, nor may one sender what its destination may
 * have. What is refused for one of these reasons waits on disk under its destination's name (sched_parked), costs
 * nothing there, and comes back in portions (sched_release) when the destination is ready for it. */
#ifndef QUEUE_SCHED_H
#define QUEUE_SCHED_H

#include "base/list.h"
#include "base/map.h"

#define SCHED_DOWN_AFTER 3
#define SCHED_PASSED_MAX 50
#define SCHED_QUANTUM 1        /* recipients for each turn */
#define SCHED_DESTS_MAX 100000 /* remembered for their failures; above, nothing goes down */

enum sched_class { SCHED_LOCAL, SCHED_REMOTE, SCHED_CLASSES };

struct sched_limits {
    unsigned window_first[SCHED_CLASSES], window_max[SCHED_CLASSES]; /* attempts under way to one destination */
    unsigned total_max[SCHED_CLASSES];                               /* attempts under way in that class */
    unsigned queue_max;                                              /* recipients that may wait in memory, of all */
    int64_t down_min[SCHED_CLASSES]; /* ms a destination is down for at first; it doubles */
    int64_t down_max[SCHED_CLASSES];
};

/* What is configured for one destination. */
struct sched_rule {
    unsigned window_max; /* 0: the class's */
    unsigned rate;       /* attempts in rate_per ms; 0: no limit */
    int64_t rate_per;
};
typedef struct sched_rule sched_rule_fn(void *ctx, enum sched_class class, struct span name);

enum sched_state { SCHED_OPEN, SCHED_THROTTLED, SCHED_DOWN, SCHED_SUSPENDED };

struct sched_flow;
struct sched_dest {
    struct link turn;      /* in the ring of those that may start something */
    struct link parking;   /* in the list of those whose jobs are to be given back */
    struct link releasing; /* of those that are ready for more of what waits on disk */
    struct link changed;   /* of those whose state is to be written */
    struct link flows;     /* of senders with waiting jobs, in their turns */
    struct idmap senders;  /* the same by sender */
    struct sched_flow *spare;
    struct map *home;
    enum sched_class class;
    unsigned waiting, under_way; /* jobs */
    unsigned held;               /* recipients of waiting ones */
    int deficit;
    unsigned window;   /* how many may be under way */
    unsigned gained;   /* successes since the window last opened */
    unsigned failures; /* in a row */
    int64_t down_until, down_for;
    struct sched_rule rule;
    int64_t rate_us; /* the next start, us */
    bool suspended, parked, asked; /* parked: rows wait on disk for it; asked: some are being fetched */
    bool full;                     /* one was refused, and none has left since */
    unsigned coming;               /* fetched ones that have not been pushed yet */
    int64_t probe_until;           /* until then one attempt is let through in spite of its state; 0: none */
    int64_t since;                 /* of being down or suspended */
    int64_t took;                  /* ms of an attempt, a moving average; 0: none has ended */
    char *reason;                  /* of its last failure, or the operator's; may be NULL */
    int64_t wake;                  /* in the heap; 0: not */
    size_t heap_at;
    size_t name_n;
    char name[];
};

struct sched_job {
    struct link link;
    struct sched_dest *dest; /* NULL: in no queue and not under way */
    struct sched_flow *flow;
    uint64_t sender; /* whose; set by the owner, any number */
    unsigned cost;   /* recipients; set by the owner, 0 counts as 1 */
    bool under_way;
    int8_t priority; /* RFC 6710: -9 to 9 */
    uint8_t passed;  /* how many of a higher one went before it */
};

struct sched {
    struct sched_limits limits;
    sched_rule_fn *rule; /* may be NULL */
    void *rule_ctx;
    struct map dests[SCHED_CLASSES];
    struct link turns[SCHED_CLASSES];
    unsigned under_way[SCHED_CLASSES];
    size_t held; /* recipients waiting in memory */
    struct link parking, releasing, changed;
    struct sched_dest **heap; /* by `wake` */
    size_t heap_n, heap_cap;
    int64_t born;
};

void sched_init(struct sched *s, const struct sched_limits *limits, int64_t now);
/* A reload: rules are asked for again, windows close to the new limit. */
void sched_limit(struct sched *s, const struct sched_limits *limits, int64_t now);
void sched_free(struct sched *s); /* jobs that are in it are forgotten */

enum sched_answer {
    SCHED_TAKEN,
    SCHED_IS_FULL,      /* it, or that sender's share of it */
    SCHED_IS_DOWN,      /* until *later */
    SCHED_IS_SUSPENDED, /* by an operator */
};
/* Puts the job behind its sender's others that have its priority or a higher one; senders' turns go by priority, too. Who
 * was passed SCHED_PASSED_MAX times is not passed again. Unless the job was taken it is to wait on disk under the destination's name. */
enum sched_answer sched_push(struct sched *s, struct sched_job *j, enum sched_class class, struct span name,
                             int64_t now, int64_t *later);
/* The same, in front: a lease that ended without a report. Never refused. */
void sched_again(struct sched *s, struct sched_job *j, enum sched_class class, struct span name, int64_t now);
/* A job that may start now, now under way; NULL: none of that class. */
struct sched_job *sched_next(struct sched *s, enum sched_class class, int64_t now);
/* Looks at destinations whose time has come. Returns when the next one's comes (ms, wall), 0: none. */
int64_t sched_wake(struct sched *s, int64_t now);

enum sched_result {
    SCHED_REACHED,   /* somebody there answered, whatever he said */
    SCHED_UNREACHED, /* nobody did */
    SCHED_ENDED,     /* nothing is known: the worker died */
};
/* The job is no longer under way. why: with UNREACHED, what happened. */
void sched_done(struct sched *s, struct sched_job *j, enum sched_result result, struct span why, int64_t now);
/* An attempt there took so long. */
void sched_took(struct sched *s, enum sched_class class, struct span name, int64_t ms);
/* Takes a waiting job out. */
void sched_remove(struct sched *s, struct sched_job *j, int64_t now);
/* A waiting job whose destination has gone down or was suspended, taken out; its destination is *from, which stays valid
 * until the next call. NULL: none. */
struct sched_job *sched_park(struct sched *s, const struct sched_dest **from, int64_t now);

/* ---- what waits on disk ---- */
/* Rows wait there under that name. To be called when it is so for certain. */
void sched_parked(struct sched *s, enum sched_class class, struct span name, int64_t now);
/* A destination that is ready for at most *max more recipients of what waits on disk; answered by sched_released(). */
const struct sched_dest *sched_release(struct sched *s, unsigned *max);
/* `count` are due now; `more`: others still wait there. */
void sched_released(struct sched *s, enum sched_class class, struct span name, unsigned count, bool more, int64_t now);
/* It could not be fetched: asked for again at the next sweep. */
void sched_unanswered(struct sched *s, enum sched_class class, struct span name);

/* ---- operators ---- */
/* It is down no longer; so with all of a class. */
void sched_up(struct sched *s, enum sched_class class, struct span name, int64_t now);
void sched_all_up(struct sched *s, enum sched_class class, int64_t now);
void sched_suspend(struct sched *s, enum sched_class class, struct span name, struct span reason, int64_t now);
/* False: it was not suspended. */
bool sched_resume(struct sched *s, enum sched_class class, struct span name, int64_t now);
/* Lets one attempt through whatever its state, for a minute. */
void sched_probe(struct sched *s, enum sched_class class, struct span name, int64_t now);

/* ---- states ---- */
enum sched_state sched_state(const struct sched_dest *d, int64_t now);
const char *sched_state_name(enum sched_state s);
/* When a rate lets the next attempt start, ms wall; 0: at once. */
int64_t sched_rate_at(const struct sched_dest *d, int64_t now);
/* NULL when nothing is known of that destination. */
const struct sched_dest *sched_find(const struct sched *s, enum sched_class class, struct span name);
/* One whose state is to be written (or deleted when it is not sched_worth_saving); NULL: none is left. */
const struct sched_dest *sched_changed(struct sched *s);
bool sched_worth_saving(const struct sched_dest *d);
struct sched_saved {
    enum sched_class class;
    struct span name, reason;
    bool suspended;
    unsigned failures;
    int64_t down_until, down_for, since;
};
void sched_restore(struct sched *s, const struct sched_saved *saved, int64_t now);
/* Forgets what is known of idle destinations, failures when they are old. To be called each minute. */
void sched_sweep(struct sched *s, int64_t now);

#endif
