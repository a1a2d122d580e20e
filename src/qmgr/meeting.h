/* Where a question's thread and the loop meet: a lock for what both touch, a wake-up, and how many still hold it. It is part of what
 * they share, and the last of them frees that. Whoever waits here also hears that nobody wants his answer any more. */
#ifndef QMGR_MEETING_H
#define QMGR_MEETING_H

#include <pthread.h>

#include "qmgr/question.h"

struct meeting {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned refs; /* under the lock */
};

void meeting_init(struct meeting *m, unsigned refs);
static inline void meeting_lock(struct meeting *m)
{
    pthread_mutex_lock(&m->lock);
}
static inline void meeting_unlock(struct meeting *m)
{
    pthread_mutex_unlock(&m->lock);
}
/* The rest with the lock. */
static inline void meeting_wake(struct meeting *m)
{
    pthread_cond_signal(&m->changed);
}
/* The thread: until it is woken, and no longer than a moment. False: the question is over. */
bool meeting_wait(struct meeting *m, struct question *k);
/* One of them goes, without the lock. True: it was the last one, and the meeting is over: it frees what was shared. */
bool meeting_leave(struct meeting *m);

#endif
