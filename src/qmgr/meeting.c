#include "qmgr/meeting.h"

#include <time.h>

#define LOOK_MS 200 /* how soon a thread hears that its question is over */

void meeting_init(struct meeting *m, unsigned refs)
{
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->changed, NULL);
    m->refs = refs;
}

bool meeting_wait(struct meeting *m, struct question *k)
{
    struct timespec t;
    if (question_over(k))
        return false;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_nsec += LOOK_MS * 1000000L;
    t.tv_sec += t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    pthread_cond_timedwait(&m->changed, &m->lock, &t);
    return true;
}

bool meeting_leave(struct meeting *m)
{
    meeting_lock(m);
    unsigned left = --m->refs;
    meeting_unlock(m);
    if (left)
        return false;
    pthread_mutex_destroy(&m->lock);
    pthread_cond_destroy(&m->changed);
    return true;
}
