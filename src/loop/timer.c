/* Timers, real and virtual ones alike: a heap of those that run. */
#include "base/mem.h"
#include "loop/loop_impl.h"

#define STOPPED SIZE_MAX

struct timer {
    struct loop *loop;
    timer_fn *fn;
    void *ctx;
    int64_t due;
    uint64_t turn; /* timers.started when it was */
    size_t at;     /* in the heap */
};

/* ---- the heap ---- */

static bool before(const struct timer *a, const struct timer *b)
{
    return a->due != b->due ? a->due < b->due : a->turn < b->turn;
}

static void put(struct timers *h, struct timer *t, size_t at)
{
    h->heap[at] = t;
    t->at = at;
}

/* Puts `t` where it belongs, from the free place `at` up. */
static void rise(struct timers *h, struct timer *t, size_t at)
{
    for (; at > 0 && before(t, h->heap[(at - 1) / 2]); at = (at - 1) / 2)
        put(h, h->heap[(at - 1) / 2], at);
    put(h, t, at);
}

static void sink(struct timers *h, struct timer *t, size_t at)
{
    for (size_t child; (child = 2 * at + 1) < h->n; at = child) {
        if (child + 1 < h->n && before(h->heap[child + 1], h->heap[child]))
            child++;
        if (!before(h->heap[child], t))
            break;
        put(h, h->heap[child], at);
    }
    put(h, t, at);
}

static void take_out(struct timers *h, struct timer *t)
{
    size_t at = t->at;
    struct timer *last = h->heap[--h->n];
    t->at = STOPPED;
    if (last == t)
        return;
    if (before(last, t))
        rise(h, last, at);
    else
        sink(h, last, at);
}

static void put_in(struct timers *h, struct timer *t)
{
    if (h->n == h->room) {
        h->room = h->room ? h->room * 2 : 16;
        h->heap = mem_resize(h->heap, h->room * sizeof(struct timer *));
    }
    h->n++;
    rise(h, t, h->n - 1);
}

/* ---- what owners do ---- */

struct timer *timer_new(struct loop *l, timer_fn *fn, void *ctx)
{
    struct timer *t = mem_alloc(sizeof *t);
    *t = (struct timer){.loop = l, .fn = fn, .ctx = ctx, .at = STOPPED};
    l->live++;
    return t;
}

void timer_start(struct timer *t, int64_t ms)
{
    struct timers *h = &t->loop->timers;
    timer_stop(t);
    t->due = t->loop->now + (ms < 0 ? 0 : ms);
    t->turn = ++h->started;
    put_in(h, t);
}

void timer_stop(struct timer *t)
{
    if (t->at != STOPPED)
        take_out(&t->loop->timers, t);
}

bool timer_running(const struct timer *t)
{
    return t->at != STOPPED;
}

void timer_free(struct timer **tp)
{
    struct timer *t = *tp;
    if (!t)
        return;
    timer_stop(t);
    t->loop->live--;
    mem_free(tp);
}

/* ---- what the loop does ---- */

struct timer *timers_first(const struct loop *l)
{
    return l->timers.n ? l->timers.heap[0] : NULL;
}

int64_t timer_due(const struct timer *t)
{
    return t->due;
}

void timer_fire(struct timer *t)
{
    timer_stop(t);
    t->fn(t->ctx); /* which may free it */
}

/* A timer that starts itself anew for "at once" must not keep the loop from looking at anything else. */
void timers_fire(struct loop *l)
{
    uint64_t until = l->timers.started;
    struct timer *t;
    while ((t = timers_first(l)) != NULL && t->due <= l->now && t->turn <= until)
        timer_fire(t);
}

void timers_free(struct loop *l)
{
    mem_free(&l->timers.heap);
}
