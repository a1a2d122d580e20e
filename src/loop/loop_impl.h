/* What the files of the loop share; nobody else includes it. */
#ifndef LOOP_LOOP_IMPL_H
#define LOOP_LOOP_IMPL_H

#include <sys/epoll.h>
#include <uv.h>

#include "base/list.h"
#include "loop/loop.h"

#define EVENTS_MAX 256 /* taken from the kernel at once, then deferred calls and timers have their turn */

struct timers {
    struct timer **heap; /* of those that run: the one that is due first, and of those the one that was started first, is at 0 */
    size_t n, room;
    uint64_t started; /* so many times, of all of them */
};

struct poller {
    int fd;
    struct link changed; /* io.in_changed: the kernel does not know yet what is wanted of them */
    struct link dead;    /* io.in_changed: freed while events were being handled, which may name them */
    size_t watching;     /* of which something is wanted */
    bool handling;
};

struct wakes {
    int fd; /* an eventfd; -1: nobody ever asked for one */
    struct link all;
};

struct loop {
    uv_loop_t uv;         /* the thread pool and signals */
    uv_prepare_t keeper;  /* always active: without it libuv would not look at what came for handles that nobody waits for */
    bool is_virtual, has_uv, uv_due, stopped; /* uv_due: libuv has something to do or to be told */
    struct poller poller;
    struct timers timers;
    struct wakes wakes;
    struct defer *deferred, **deferred_end;
    size_t live;          /* timers, descriptors and the like that were made and not yet freed by their owner */
    size_t works, events; /* works: on pool threads; events: of descriptors, wake-ups and results handled so far */
    int64_t now, wall;    /* wall: virtual only */
};

/* loop.c */
void loop_must(int r); /* aborts when it is negative */
void loop_look_at_clock(struct loop *l);

/* timer.c */
struct timer *timers_first(const struct loop *l); /* NULL: none runs */
int64_t timer_due(const struct timer *t);
void timer_fire(struct timer *t); /* now */
void timers_fire(struct loop *l); /* those that are due; one that is started meanwhile waits for the next turn */
void timers_free(struct loop *l);

/* io.c */
void poller_begin(struct loop *l);
void poller_end(struct loop *l);
void poller_watch(struct loop *l, int fd, void *what); /* for reading; aborts when that fails. what: &l->uv or &l->wakes */
/* Waits for at most so many ms (-1: for ever) and handles what comes. */
void poller_turn(struct loop *l, int ms);

/* wake.c */
void wakes_handle(struct loop *l);
void wakes_free(struct loop *l);

#endif
