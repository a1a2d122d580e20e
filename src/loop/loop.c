/* The event loop: turns, deferred calls, and what is left of libuv: its thread pool and its signals, whose own epoll is one descriptor of
 * ours. One `live` count covers everything, so that loop_free() proves that nothing leaked.
 * A virtual loop has timers and deferred calls only, unless it is a stepped one. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "loop/loop_impl.h"

void loop_must(int r)
{
    if (r < 0)
        abort();
}

/* ---- deferred calls ---- */

static void run_deferred(struct loop *l)
{
    while (l->deferred) {
        struct defer *d = l->deferred;
        l->deferred = d->next;
        if (!l->deferred)
            l->deferred_end = &l->deferred;
        d->pending = false;
        d->fn(d->ctx);
    }
}

void loop_defer(struct loop *l, struct defer *d)
{
    if (d->pending)
        return;
    d->pending = true;
    d->next = NULL;
    *l->deferred_end = d;
    l->deferred_end = &d->next;
}

void loop_defer_cancel(struct loop *l, struct defer *d)
{
    if (!d->pending)
        return;
    for (struct defer **at = &l->deferred; *at; at = &(*at)->next)
        if (*at == d) {
            *at = d->next;
            if (!*at)
                l->deferred_end = at;
            break;
        }
    d->pending = false;
}

/* ---- making and freeing ---- */

static struct loop *loop_make(void)
{
    struct loop *l = mem_alloc(sizeof *l);
    l->deferred_end = &l->deferred;
    l->wakes.fd = -1;
    list_init(&l->wakes.all);
    return l;
}

static void on_keeper(uv_prepare_t *p)
{
    (void)p;
}

static void begin_uv(struct loop *l)
{
    l->has_uv = l->uv_due = true;
    loop_must(uv_loop_init(&l->uv));
    l->uv.data = l;
    loop_must(uv_prepare_init(&l->uv, &l->keeper));
    loop_must(uv_prepare_start(&l->keeper, on_keeper));
    poller_begin(l);
    poller_watch(l, uv_backend_fd(&l->uv), &l->uv);
}

struct loop *loop_new(void)
{
    struct loop *l = loop_make();
    begin_uv(l);
    loop_look_at_clock(l);
    return l;
}

struct loop *loop_new_stepped(int64_t wall_ms)
{
    struct loop *l = loop_new_virtual(wall_ms);
    begin_uv(l);
    return l;
}

struct loop *loop_new_virtual(int64_t wall_ms)
{
    struct loop *l = loop_make();
    l->is_virtual = true;
    l->now = 1000;
    l->wall = wall_ms;
    return l;
}

static void end_uv(struct loop *l)
{
    uv_close((uv_handle_t *)&l->keeper, NULL);
    uv_run(&l->uv, UV_RUN_DEFAULT); /* the last close callbacks */
    loop_must(uv_loop_close(&l->uv));
    poller_end(l);
    wakes_free(l);
}

void loop_free(struct loop **lp)
{
    struct loop *l = *lp;
    if (!l)
        return;
    run_deferred(l);
    if (l->live)
        abort();
    if (l->has_uv)
        end_uv(l);
    timers_free(l);
    mem_free(lp);
}

/* ---- turns ---- */

static void run_uv(struct loop *l)
{
    l->uv_due = false;
    uv_run(&l->uv, UV_RUN_NOWAIT);
}

/* There is something to wait for: of a stepped loop, in real time. */
static bool alive(const struct loop *l)
{
    return l->poller.watching || l->works || !list_empty(&l->wakes.all) || (!l->is_virtual && timers_first(l));
}

static int time_left(const struct loop *l)
{
    const struct timer *t = timers_first(l);
    int64_t ms = t ? timer_due(t) - l->now : 0;
    return !t || l->is_virtual ? -1 : ms < 0 ? 0 : (int)MIN_OF(ms, (int64_t)INT_MAX);
}

static void before_waiting(struct loop *l)
{
    loop_look_at_clock(l);
    if (!l->is_virtual)
        timers_fire(l);
    if (l->uv_due)
        run_uv(l);
    run_deferred(l);
}

void loop_run(struct loop *l)
{
    if (l->is_virtual)
        abort();
    log_gather(true);
    for (;;) {
        before_waiting(l);
        log_flush(); /* what is to be sent has been: nobody waits for the log */
        if (l->stopped || !alive(l))
            break;
        poller_turn(l, time_left(l));
    }
    log_gather(false);
    l->stopped = false;
}

bool loop_turn(struct loop *l, unsigned real_ms)
{
    size_t before = l->events;
    if (!l->has_uv || !l->is_virtual)
        abort();
    before_waiting(l);
    poller_turn(l, alive(l) && l->events == before ? (int)MIN_OF(real_ms, (unsigned)INT_MAX) : 0);
    before_waiting(l);
    return l->events != before;
}

size_t loop_works(const struct loop *l)
{
    return l->works;
}

void loop_stop(struct loop *l)
{
    l->stopped = true;
}

/* ---- clocks ---- */

void loop_look_at_clock(struct loop *l)
{
    if (!l->is_virtual)
        l->now = clock_mono();
}

int64_t loop_now(struct loop *l)
{
    return l->now;
}

int64_t loop_wall(struct loop *l)
{
    return l->is_virtual ? l->wall : clock_wall();
}

static void move_clock(struct loop *l, int64_t to)
{
    if (to <= l->now)
        return;
    l->wall += to - l->now;
    l->now = to;
}

bool loop_advance_step(struct loop *l, int64_t *ms)
{
    if (!l->is_virtual)
        abort();
    int64_t end = l->now + *ms;
    run_deferred(l);
    struct timer *t = timers_first(l);
    if (!t || timer_due(t) > end) {
        move_clock(l, end);
        *ms = 0;
        return false;
    }
    move_clock(l, timer_due(t));
    *ms = end - l->now;
    timer_fire(t);
    run_deferred(l);
    return true;
}

void loop_advance(struct loop *l, int64_t ms)
{
    while (loop_advance_step(l, &ms)) {
    }
}

/* ---- pool work ---- */

struct work {
    uv_work_t uv;
    work_fn *run, *done;
    void *ctx;
    struct loop *loop;
};

static void work_run(uv_work_t *uv)
{
    struct work *w = uv->data;
    w->run(w->ctx);
}

static void work_done(uv_work_t *uv, int status)
{
    struct work *w = uv->data;
    (void)status; /* nothing cancels work here */
    w->loop->live--;
    w->loop->works--;
    w->loop->events++;
    w->done(w->ctx);
    mem_free(&w);
}

void loop_threads(unsigned n)
{
    char text[16];
    snprintf(text, sizeof text, "%u", n);
    setenv("UV_THREADPOOL_SIZE", text, 0);
}

void loop_work(struct loop *l, work_fn *run, work_fn *done, void *ctx)
{
    if (!l->has_uv) {
        run(ctx);
        done(ctx);
        return;
    }
    struct work *w = mem_alloc(sizeof *w);
    w->uv.data = w;
    w->run = run;
    w->done = done;
    w->ctx = ctx;
    w->loop = l;
    l->live++;
    l->works++;
    loop_must(uv_queue_work(&l->uv, &w->uv, work_run, work_done));
}

void loop_end_works(struct loop *l)
{
    for (;;) {
        before_waiting(l);
        if (!l->works)
            break;
        poller_turn(l, time_left(l));
    }
}

/* ---- signals ---- */

struct signal_watch {
    uv_signal_t uv;
    struct loop *loop;
    void (*fn)(void *ctx, int signo);
    void *ctx;
};

static void free_data(uv_handle_t *h)
{
    void *p = h->data;
    mem_free(&p);
}

static void on_signal(uv_signal_t *uv, int signo)
{
    struct signal_watch *s = uv->data;
    s->fn(s->ctx, signo);
}

struct signal_watch *signal_watch_new(struct loop *l, int signo, void (*fn)(void *ctx, int signo), void *ctx)
{
    struct signal_watch *s = mem_alloc(sizeof *s);
    if (!l->has_uv)
        abort();
    loop_must(uv_signal_init(&l->uv, &s->uv));
    loop_must(uv_signal_start(&s->uv, on_signal, signo));
    s->uv.data = s;
    l->uv_due = true;
    s->loop = l;
    s->fn = fn;
    s->ctx = ctx;
    l->live++;
    return s;
}

void signal_watch_free(struct signal_watch **sp)
{
    struct signal_watch *s = *sp;
    *sp = NULL;
    if (!s)
        return;
    s->loop->live--;
    s->loop->uv_due = true;
    uv_close((uv_handle_t *)&s->uv, free_data);
}
