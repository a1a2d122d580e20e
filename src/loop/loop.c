/* The event loop over libuv. One `live` count covers every handle, so that loop_free() proves that nothing leaked.
 * A virtual loop's timers wait in a list ordered by time; it has no uv_loop_t at all, unless it is a stepped one. */
#include "loop/loop.h"

#include <stdlib.h>
#include <uv.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/mem.h"

struct loop {
    uv_loop_t uv;
    uv_prepare_t prepare; /* runs deferred calls right before the loop would wait */
    uv_timer_t turn_over; /* stepped: ends a turn that nothing else ends */
    struct defer *deferred, **deferred_end;
    struct timer *firing; /* whose fn runs */
    size_t live; /* handles that were made and not yet freed by their owner */
    bool is_virtual, has_uv;
    size_t works, events; /* stepped: on pool threads; descriptors, wake-ups and results handled so far */
    int64_t now, wall;  /* virtual only */
    struct link timers; /* virtual: running ones by time, those of the same time as they were started */
};

static void must(int r)
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

static void on_prepare(uv_prepare_t *p)
{
    run_deferred(p->data);
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

/* ---- the loop itself ---- */

static struct loop *loop_make(void)
{
    struct loop *l = mem_alloc(sizeof *l);
    l->deferred_end = &l->deferred;
    list_init(&l->timers);
    return l;
}

static void begin_uv(struct loop *l)
{
    l->has_uv = true;
    must(uv_loop_init(&l->uv));
    l->uv.data = l;
    must(uv_prepare_init(&l->uv, &l->prepare));
    l->prepare.data = l;
    must(uv_prepare_start(&l->prepare, on_prepare));
    uv_unref((uv_handle_t *)&l->prepare);
    must(uv_timer_init(&l->uv, &l->turn_over));
}

struct loop *loop_new(void)
{
    struct loop *l = loop_make();
    begin_uv(l);
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

void loop_run(struct loop *l)
{
    if (l->is_virtual)
        abort();
    uv_run(&l->uv, UV_RUN_DEFAULT);
    run_deferred(l);
}

static void on_turn_over(uv_timer_t *t)
{
    (void)t;
}

bool loop_turn(struct loop *l, unsigned real_ms)
{
    size_t before = l->events;
    if (!l->has_uv || !l->is_virtual)
        abort();
    run_deferred(l);
    if (real_ms) /* repeated: libuv looks at timers before it waits, and with one that was over by then it would wait for ever */
        must(uv_timer_start(&l->turn_over, on_turn_over, real_ms, real_ms));
    uv_run(&l->uv, real_ms ? UV_RUN_ONCE : UV_RUN_NOWAIT);
    must(uv_timer_stop(&l->turn_over));
    run_deferred(l);
    return l->events != before;
}

size_t loop_works(const struct loop *l)
{
    return l->works;
}

void loop_stop(struct loop *l)
{
    if (l->has_uv)
        uv_stop(&l->uv);
}

void loop_free(struct loop **lp)
{
    struct loop *l = *lp;
    if (!l)
        return;
    run_deferred(l);
    if (l->live)
        abort();
    if (l->has_uv) {
        uv_close((uv_handle_t *)&l->prepare, NULL);
        uv_close((uv_handle_t *)&l->turn_over, NULL);
        while (uv_loop_alive(&l->uv)) /* the last close callbacks; a loop_stop() since the last turn would end the first run at once */
            uv_run(&l->uv, UV_RUN_DEFAULT);
        must(uv_loop_close(&l->uv));
    }
    mem_free(lp);
}

int64_t loop_now(struct loop *l)
{
    return l->is_virtual ? l->now : (int64_t)uv_now(&l->uv);
}

int64_t loop_wall(struct loop *l)
{
    return l->is_virtual ? l->wall : clock_wall();
}

static void free_data(uv_handle_t *h)
{
    void *p = h->data;
    mem_free(&p);
}

/* ---- timers ---- */

struct timer {
    uv_timer_t uv;
    struct loop *loop;
    timer_fn *fn;
    void *ctx;
    struct link in_timers; /* virtual */
    int64_t due;
    bool firing, freed; /* virtual: freed inside its own fn */
};

struct timer *timer_new(struct loop *l, timer_fn *fn, void *ctx)
{
    struct timer *t = mem_alloc(sizeof *t);
    t->loop = l;
    t->fn = fn;
    t->ctx = ctx;
    list_init(&t->in_timers);
    if (!l->is_virtual) {
        must(uv_timer_init(&l->uv, &t->uv));
        t->uv.data = t;
    }
    l->live++;
    return t;
}

static void on_timer(uv_timer_t *uv)
{
    struct timer *t = uv->data;
    struct loop *l = t->loop;
    l->firing = t;
    t->fn(t->ctx);
    l->firing = NULL;
}

static void virtual_start(struct timer *t, int64_t ms)
{
    struct loop *l = t->loop;
    list_del(&t->in_timers);
    t->due = l->now + ms;
    struct link *at = l->timers.prev;
    while (at != &l->timers && container_of(at, struct timer, in_timers)->due > t->due)
        at = at->prev;
    list_add_head(at, &t->in_timers);
}

void timer_start(struct timer *t, int64_t ms)
{
    if (ms < 0)
        ms = 0;
    if (t->loop->is_virtual)
        virtual_start(t, ms);
    else /* a timer that starts itself anew for "at once" would keep libuv from ever looking at anything else */
        must(uv_timer_start(&t->uv, on_timer, ms == 0 && t->loop->firing == t ? 1 : (uint64_t)ms, 0));
}

void timer_stop(struct timer *t)
{
    if (t->loop->is_virtual)
        list_del(&t->in_timers);
    else
        uv_timer_stop(&t->uv);
}

bool timer_running(const struct timer *t)
{
    return t->loop->is_virtual ? list_linked(&t->in_timers) : uv_is_active((const uv_handle_t *)&t->uv) != 0;
}

void timer_free(struct timer **tp)
{
    struct timer *t = *tp;
    *tp = NULL;
    if (!t)
        return;
    t->loop->live--;
    if (!t->loop->is_virtual) {
        uv_close((uv_handle_t *)&t->uv, free_data);
        return;
    }
    list_del(&t->in_timers);
    if (t->firing)
        t->freed = true;
    else
        mem_free(&t);
}

static void virtual_fire(struct timer *t)
{
    list_del(&t->in_timers);
    t->firing = true;
    t->fn(t->ctx);
    t->firing = false;
    if (t->freed)
        mem_free(&t);
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
    struct timer *t = list_empty(&l->timers) ? NULL : container_of(l->timers.next, struct timer, in_timers);
    if (!t || t->due > end) {
        move_clock(l, end);
        *ms = 0;
        return false;
    }
    move_clock(l, t->due);
    *ms = end - l->now;
    virtual_fire(t);
    run_deferred(l);
    return true;
}

void loop_advance(struct loop *l, int64_t ms)
{
    while (loop_advance_step(l, &ms)) {
    }
}

/* ---- descriptors ---- */

struct io {
    uv_poll_t uv;
    struct loop *loop;
    io_fn *fn;
    void *ctx;
    unsigned want;
};

struct io *io_new(struct loop *l, int fd, io_fn *fn, void *ctx)
{
    struct io *io = mem_alloc(sizeof *io);
    if (!l->has_uv)
        abort();
    if (uv_poll_init(&l->uv, &io->uv, fd) < 0) {
        mem_free(&io);
        return NULL;
    }
    io->uv.data = io;
    io->loop = l;
    io->fn = fn;
    io->ctx = ctx;
    l->live++;
    return io;
}

static void on_io(uv_poll_t *uv, int status, int events)
{
    struct io *io = uv->data;
    unsigned ready = status < 0 ? IO_READ | IO_WRITE : 0;
    if (events & UV_READABLE)
        ready |= IO_READ;
    if (events & UV_WRITABLE)
        ready |= IO_WRITE;
    io->loop->events++;
    io->fn(io->ctx, ready);
}

void io_want(struct io *io, unsigned events)
{
    if (io->want == events)
        return;
    io->want = events;
    int uv_events = (events & IO_READ ? UV_READABLE : 0) | (events & IO_WRITE ? UV_WRITABLE : 0);
    if (uv_events)
        must(uv_poll_start(&io->uv, uv_events, on_io));
    else
        must(uv_poll_stop(&io->uv));
}

void io_free(struct io **iop)
{
    struct io *io = *iop;
    *iop = NULL;
    if (!io)
        return;
    io->loop->live--;
    uv_poll_stop(&io->uv);
    uv_close((uv_handle_t *)&io->uv, free_data);
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
    must(uv_queue_work(&l->uv, &w->uv, work_run, work_done));
}

void loop_end_works(struct loop *l)
{
    do {
        while (l->works)
            uv_run(&l->uv, UV_RUN_ONCE);
        run_deferred(l);
    } while (l->works);
}

/* ---- wake-ups and signals ---- */

struct wake {
    uv_async_t uv;
    struct loop *loop;
    void (*fn)(void *ctx);
    void *ctx;
};

static void on_wake(uv_async_t *uv)
{
    struct wake *w = uv->data;
    w->loop->events++;
    w->fn(w->ctx);
}

struct wake *wake_new(struct loop *l, void (*fn)(void *ctx), void *ctx)
{
    struct wake *w = mem_alloc(sizeof *w);
    if (!l->has_uv)
        abort();
    must(uv_async_init(&l->uv, &w->uv, on_wake));
    w->uv.data = w;
    w->loop = l;
    w->fn = fn;
    w->ctx = ctx;
    l->live++;
    return w;
}

void wake_up(struct wake *w)
{
    uv_async_send(&w->uv);
}

void wake_free(struct wake **wp)
{
    struct wake *w = *wp;
    *wp = NULL;
    if (!w)
        return;
    w->loop->live--;
    uv_close((uv_handle_t *)&w->uv, free_data);
}

struct signal_watch {
    uv_signal_t uv;
    struct loop *loop;
    void (*fn)(void *ctx, int signo);
    void *ctx;
};

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
    must(uv_signal_init(&l->uv, &s->uv));
    must(uv_signal_start(&s->uv, on_signal, signo));
    uv_unref((uv_handle_t *)&s->uv);
    s->uv.data = s;
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
    uv_close((uv_handle_t *)&s->uv, free_data);
}
