/* The event loop: timers, descriptors, deferred calls, a small thread pool, signals. The only home of epoll and libuv.
 * Everything runs on the loop's thread unless it says otherwise. A virtual loop has the same timers and deferred calls on a clock
 * that only loop_advance() moves: the scheduler's tests let days pass in it. */
#ifndef LOOP_LOOP_H
#define LOOP_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loop;

struct loop *loop_new(void);
struct loop *loop_new_virtual(int64_t wall_ms);
/* A virtual loop that has descriptors, pool threads and wake-ups, too: a whole program runs in it while a test moves its clock. */
struct loop *loop_new_stepped(int64_t wall_ms);
void loop_run(struct loop *l);  /* until loop_stop(), or nothing is left to wait for */
void loop_stop(struct loop *l); /* loop_run() returns after this turn */
/* Frees it. Every timer, io and the like must have been freed before: aborts otherwise, as that is a leak. */
void loop_free(struct loop **l);

int64_t loop_now(struct loop *l);  /* monotonic ms, as of this turn */
int64_t loop_wall(struct loop *l); /* ms since 1970 */
/* Virtual loops only: moves the clock, running timers in their order at their time. Runs deferred calls first, and between them. */
void loop_advance(struct loop *l, int64_t ms);
/* The same as far as the next timer, which is run; *ms becomes what is left. False: none was due, the clock has arrived. */
bool loop_advance_step(struct loop *l, int64_t *ms);
/* Stepped loops only: handles what descriptors, threads and wake-ups have brought, waiting for that at most real_ms. False: nothing came. */
bool loop_turn(struct loop *l, unsigned real_ms);
size_t loop_works(const struct loop *l); /* of loop_work(), under way */

/* ---- timers ---- */
struct timer;
typedef void timer_fn(void *ctx);
struct timer *timer_new(struct loop *l, timer_fn *fn, void *ctx);
void timer_start(struct timer *t, int64_t ms); /* once, from now; starting again moves it; ms < 0 counts as 0 */
void timer_stop(struct timer *t);
bool timer_running(const struct timer *t);
void timer_free(struct timer **t); /* allowed inside its own fn */

/* ---- descriptors ---- */
enum { IO_READ = 1, IO_WRITE = 2 };
struct io;
/* events: IO_ bits that are ready, of those that are wanted (an error shows as both). The descriptor is non-blocking, or is used as one
 * (MSG_DONTWAIT). */
typedef void io_fn(void *ctx, unsigned events);
struct io *io_new(struct loop *l, int fd, io_fn *fn, void *ctx); /* watches nothing yet; NULL when the kernel refuses the descriptor */
void io_want(struct io *io, unsigned events);                    /* told to the kernel before the loop waits, and less than before only when more has come */
void io_free(struct io **io); /* the descriptor stays the caller's, who may close it right after; allowed inside its own fn */

/* ---- calls at the end of this turn, before the loop waits again ---- */
struct defer {
    struct defer *next;
    void (*fn)(void *ctx);
    void *ctx;
    bool pending;
};
void loop_defer(struct loop *l, struct defer *d); /* the defer is the caller's; doing it twice runs it once */
void loop_defer_cancel(struct loop *l, struct defer *d);

/* ---- work on a pool thread (UV_THREADPOOL_SIZE threads, else loop_threads(), else 4) ---- */
typedef void work_fn(void *ctx);
void loop_threads(unsigned n); /* of the process, before its first work; the environment goes before it */
/* `run` on a thread, then `done` on the loop. A virtual loop runs both at once. */
void loop_work(struct loop *l, work_fn *run, work_fn *done, void *ctx);
/* For the end, when loop_run() has returned: goes on until no thread works any more and `done` was called for all. What else comes meanwhile is
 * handled, too. */
void loop_end_works(struct loop *l);

/* ---- waking the loop from another thread ---- */
struct wake;
struct wake *wake_new(struct loop *l, void (*fn)(void *ctx), void *ctx);
void wake_up(struct wake *w); /* any thread; several may become one call */
void wake_free(struct wake **w);

/* ---- signals ---- */
struct signal_watch;
struct signal_watch *signal_watch_new(struct loop *l, int signo, void (*fn)(void *ctx, int signo), void *ctx);
void signal_watch_free(struct signal_watch **s);

#endif
