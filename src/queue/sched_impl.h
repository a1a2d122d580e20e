/* Inside of the scheduler: what jobs (sched.c) ask of destinations (sched_dest.c). */
#ifndef QUEUE_SCHED_IMPL_H
#define QUEUE_SCHED_IMPL_H

#include "queue/sched.h"

#define SCHED_PORTION 200 /* recipients that are fetched from disk at a time */

/* The jobs of one sender for one destination. */
struct sched_flow {
    struct link turn; /* in its destination's flows */
    struct link jobs;
    uint64_t sender;
    unsigned held; /* recipients */
    unsigned passed;
    int deficit;
};

struct sched_dest *sched_dest_get(struct sched *s, enum sched_class class, struct span name); /* made when it is not known */
/* Something of it has changed: puts it where it belongs, among those that may start something, give back, or get more. */
void sched_dest_place(struct sched *s, struct sched_dest *d, int64_t now);
/* A job of it has gone, and it may go with that: d is not touched afterwards. */
void sched_dest_leave(struct sched *s, struct sched_dest *d);
bool sched_dest_closed(const struct sched_dest *d, int64_t now);
/* An attempt reached it, or did not. */
void sched_dest_succeeded(struct sched *s, struct sched_dest *d);
void sched_dest_failed(struct sched *s, struct sched_dest *d, struct span why, int64_t now);

#endif
