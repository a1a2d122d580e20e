/* The scheduler: which attempt may start now. Pure: the time is an argument, so that tests let days pass in a moment.
 *
 * A destination (an account here, a domain elsewhere) has a queue of jobs and a window: how many may be under way at
 * once. The window opens by one for each window of successes, up to the limit, and halves when the destination could
 * not be reached. After SCHED_DOWN_AFTER failures in a row it is down for a while that doubles; its jobs are then given
 * back to the disk (sched_park), and the first job after that time is a probe. Destinations with something to do take
 * turns, so none waits for another's queue. */
#ifndef QUEUE_SCHED_H
#define QUEUE_SCHED_H

#include "base/list.h"
#include "base/map.h"

#define SCHED_DOWN_AFTER 3
#define SCHED_PASSED_MAX 50

enum sched_class { SCHED_LOCAL, SCHED_REMOTE, SCHED_CLASSES };

struct sched_limits {
    unsigned window_first[SCHED_CLASSES], window_max[SCHED_CLASSES]; /* attempts under way to one destination */
    unsigned total_max[SCHED_CLASSES];                               /* attempts under way in that class */
    unsigned queue_max;                                              /* jobs that one destination may have in memory */
    int64_t down_min[SCHED_CLASSES]; /* ms a destination is down for at first; it doubles */
    int64_t down_max[SCHED_CLASSES];
};

struct sched_dest {
    struct link turn;    /* in the ring of those that may start something */
    struct link parking; /* in the list of those whose jobs are to be given back */
    struct link jobs;    /* waiting, first come first served */
    struct map *home;
    enum sched_class class;
    unsigned waiting, under_way;
    unsigned window;   /* how many may be under way */
    unsigned gained;   /* successes since the window last opened */
    unsigned failures; /* in a row */
    int64_t down_until, down_for;
    size_t name_n;
    char name[];
};

struct sched_job {
    struct link link;
    struct sched_dest *dest; /* NULL: in no queue and not under way */
    bool under_way;
    int8_t priority; /* RFC 6710: -9 to 9 */
    uint8_t passed;  /* how many of a higher one went before it */
};

struct sched {
    struct sched_limits limits;
    struct map dests[SCHED_CLASSES];
    struct link turns[SCHED_CLASSES];
    unsigned under_way[SCHED_CLASSES];
    struct link parking;
};

void sched_init(struct sched *s, const struct sched_limits *limits);
void sched_limit(struct sched *s, const struct sched_limits *limits); /* a reload: windows close to the new limit */
void sched_free(struct sched *s);                                     /* jobs that are in it are forgotten */

/* Puts the job behind the others of that destination that have its priority or a higher one; who was passed
 * SCHED_PASSED_MAX times is not passed again. False: that queue is full, or the destination is down: try at
 * *later (ms, wall) at the earliest (0: it is full). */
bool sched_push(struct sched *s, struct sched_job *j, enum sched_class class, struct span name, int64_t now,
                int64_t *later);
/* The same, in front: a lease that ended without a report. Never refused. */
void sched_again(struct sched *s, struct sched_job *j, enum sched_class class, struct span name, int64_t now);
/* A job that may start now, now under way; NULL: none of that class. */
struct sched_job *sched_next(struct sched *s, enum sched_class class, int64_t now);

enum sched_result {
    SCHED_REACHED,   /* somebody there answered, whatever he said */
    SCHED_UNREACHED, /* nobody did */
    SCHED_ENDED,     /* nothing is known: the worker died */
};
/* The job is no longer under way. */
void sched_done(struct sched *s, struct sched_job *j, enum sched_result result, int64_t now);
/* Takes a waiting job out. */
void sched_remove(struct sched *s, struct sched_job *j, int64_t now);
/* A job that waits for a destination that has gone down, taken out; *later: when that is tried again. NULL: none. */
struct sched_job *sched_park(struct sched *s, int64_t *later);
/* An operator wants an attempt: it is down no longer. */
void sched_up(struct sched *s, enum sched_class class, struct span name);
/* Forgets what is known of destinations that failed long ago. To be called now and then. */
void sched_sweep(struct sched *s, int64_t now);
/* For people; NULL when nothing is known of that destination. */
const struct sched_dest *sched_find(const struct sched *s, enum sched_class class, struct span name);

/* ---- when to try again ---- */
struct retry_times {
    int64_t first, longest, expire, notice_expire; /* ms */
};
/* The wait after attempt number `attempts` (1, 2, …): first, doubling up to longest, moved by up to an eighth either
 * way so that what failed together does not come back together. random: any number. */
int64_t retry_wait(const struct retry_times *t, unsigned attempts, uint64_t random);
/* When a message is given up. */
int64_t retry_end(const struct retry_times *t, int64_t received, bool null_sender);

#endif
