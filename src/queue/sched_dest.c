/* Destinations: what is known of each, in which state it is and why, what changes that, when it is looked at next. */
#include "queue/sched_impl.h"

#include <stdlib.h>

#include "base/mem.h"
#include "base/util.h"

#define IDLE_MAX 10000 /* idle destinations whose window is remembered until the next sweep */
#define PROBE_MS 60000
#define REASON_MAX 200

/* ---- times: a heap ---- */

static void heap_put(struct sched *s, size_t at, struct sched_dest *d)
{
    s->heap[at] = d;
    d->heap_at = at;
}

static void heap_up(struct sched *s, size_t at, struct sched_dest *d)
{
    for (; at > 0 && s->heap[(at - 1) / 2]->wake > d->wake; at = (at - 1) / 2)
        heap_put(s, at, s->heap[(at - 1) / 2]);
    heap_put(s, at, d);
}

static void heap_down(struct sched *s, size_t at, struct sched_dest *d)
{
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= s->heap_n)
            break;
        if (child + 1 < s->heap_n && s->heap[child + 1]->wake < s->heap[child]->wake)
            child++;
        if (s->heap[child]->wake >= d->wake)
            break;
        heap_put(s, at, s->heap[child]);
        at = child;
    }
    heap_put(s, at, d);
}

static void wake_at(struct sched *s, struct sched_dest *d, int64_t when)
{
    if (d->wake == when)
        return;
    if (d->wake) {
        struct sched_dest *last = s->heap[--s->heap_n];
        size_t at = d->heap_at;
        d->wake = 0;
        if (last != d) {
            heap_up(s, at, last);
            heap_down(s, last->heap_at, last);
        }
    }
    if (!when)
        return;
    if (s->heap_n == s->heap_cap) {
        s->heap_cap = s->heap_cap ? s->heap_cap * 2 : 64;
        s->heap = mem_resize(s->heap, s->heap_cap * sizeof(struct sched_dest *));
    }
    d->wake = when;
    heap_up(s, s->heap_n++, d);
}

/* ---- destinations ---- */

static bool is_down(const struct sched_dest *d, int64_t now)
{
    return d->down_until > now;
}

bool sched_dest_closed(const struct sched_dest *d, int64_t now)
{
    return (d->suspended || is_down(d, now)) && d->probe_until <= now;
}

int64_t sched_rate_at(const struct sched_dest *d, int64_t now)
{
    return d->rule.rate && d->rate_us >= (now + 1) * 1000 ? d->rate_us / 1000 : 0;
}

enum sched_state sched_state(const struct sched_dest *d, int64_t now)
{
    return d->suspended                              ? SCHED_SUSPENDED
           : is_down(d, now)                         ? SCHED_DOWN
           : d->waiting && sched_rate_at(d, now) > 0 ? SCHED_THROTTLED
                                                     : SCHED_OPEN;
}

const char *sched_state_name(enum sched_state s)
{
    static const char *const names[] = {
        [SCHED_OPEN] = "open", [SCHED_THROTTLED] = "throttled", [SCHED_DOWN] = "down", [SCHED_SUSPENDED] = "suspended"};
    return names[s];
}

static void ring(struct link *head, struct link *l, bool in)
{
    if (!in)
        list_del(l);
    else if (!list_linked(l))
        list_add_tail(head, l);
}

/* Puts the destination where it belongs. */
void sched_dest_place(struct sched *s, struct sched_dest *d, int64_t now)
{
    bool closed = sched_dest_closed(d, now);
    int64_t rate = d->waiting ? sched_rate_at(d, now) : 0;
    ring(&s->turns[d->class], &d->turn, d->waiting && !closed && !rate && d->under_way < d->window);
    ring(&s->parking, &d->parking, d->waiting && closed);
    ring(&s->releasing, &d->releasing, d->parked && !d->asked && !closed && !d->full && d->held + d->coming <= SCHED_PORTION / 2);
    wake_at(s, d, is_down(d, now) ? d->down_until : rate);
}

static void take_rule(struct sched *s, struct sched_dest *d)
{
    d->rule = s->rule ? s->rule(s->rule_ctx, d->class, span_make(d->name, d->name_n)) : (struct sched_rule){0};
    if (!d->rule.window_max)
        d->rule.window_max = s->limits.window_max[d->class];
    d->window = MIN_OF(d->window, d->rule.window_max);
}

struct sched_dest *sched_dest_get(struct sched *s, enum sched_class class, struct span name)
{
    struct sched_dest *d = map_get(&s->dests[class], name);
    if (d)
        return d;
    d = mem_alloc(sizeof *d + name.n + 1);
    d->home = &s->dests[class];
    d->class = class;
    d->window = s->limits.window_first[class];
    d->name_n = name.n;
    memcpy(d->name, name.p, name.n);
    take_rule(s, d);
    /* What was sent just before a restart is not known: the rate holds from the start. */
    if (d->rule.rate)
        d->rate_us = s->born * 1000 + d->rule.rate_per * 1000 / d->rule.rate;
    list_init(&d->turn);
    list_init(&d->parking);
    list_init(&d->releasing);
    list_init(&d->changed);
    list_init(&d->flows);
    map_put(d->home, name, d);
    return d;
}

static void dest_free(struct sched *s, struct sched_dest *d)
{
    LIST_EACH(&d->flows, l)
    {
        struct sched_flow *f = container_of(l, struct sched_flow, turn);
        mem_free(&f);
    }
    wake_at(s, d, 0);
    list_del(&d->turn);
    list_del(&d->parking);
    list_del(&d->releasing);
    list_del(&d->changed);
    idmap_free(&d->senders);
    mem_free(&d->spare);
    mem_free(&d->reason);
    mem_free(&d);
}

static bool is_idle(const struct sched_dest *d)
{
    return !d->waiting && !d->under_way && !d->failures && !d->suspended && !d->parked && !d->asked && !d->probe_until &&
           !list_linked(&d->changed) && !d->rule.rate;
}

static void dest_forget(struct sched *s, struct sched_dest *d)
{
    map_del(d->home, span_make(d->name, d->name_n));
    dest_free(s, d);
}

/* Many idle ones are not kept, not even for the next minute. */
void sched_dest_leave(struct sched *s, struct sched_dest *d)
{
    if (d->home->count > IDLE_MAX && is_idle(d))
        dest_forget(s, d);
}

static void note_change(struct sched *s, struct sched_dest *d)
{
    ring(&s->changed, &d->changed, true);
}

static void set_reason(struct sched_dest *d, struct span why)
{
    mem_free(&d->reason);
    if (why.n)
        d->reason = mem_strndup(why.p, MIN_OF(why.n, (size_t)REASON_MAX));
}

/* ---- life ---- */

void sched_init(struct sched *s, const struct sched_limits *limits, int64_t now)
{
    *s = (struct sched){.limits = *limits, .born = now};
    for (int c = 0; c < SCHED_CLASSES; c++)
        list_init(&s->turns[c]);
    list_init(&s->parking);
    list_init(&s->releasing);
    list_init(&s->changed);
}

/* Calls fn for each; it may not add or forget any. */
static void each_dest(struct sched *s, void (*fn)(struct sched *s, struct sched_dest *d, int64_t now), int64_t now)
{
    for (int c = 0; c < SCHED_CLASSES; c++) {
        size_t at = 0;
        struct span name;
        void *v;
        while (map_next(&s->dests[c], &at, &name, &v))
            fn(s, v, now);
    }
}

static void limit_dest(struct sched *s, struct sched_dest *d, int64_t now)
{
    take_rule(s, d);
    sched_dest_place(s, d, now);
}

void sched_limit(struct sched *s, const struct sched_limits *limits, int64_t now)
{
    s->limits = *limits;
    each_dest(s, limit_dest, now);
}

static void free_one(struct sched *s, struct sched_dest *d, int64_t now)
{
    (void)now;
    dest_free(s, d);
}

void sched_free(struct sched *s)
{
    each_dest(s, free_one, 0);
    for (int c = 0; c < SCHED_CLASSES; c++)
        map_free(&s->dests[c]);
    mem_free(&s->heap);
}

void sched_sweep(struct sched *s, int64_t now)
{
    struct link old = LIST_INIT(old);
    for (int c = 0; c < SCHED_CLASSES; c++) {
        size_t at = 0;
        struct span name;
        void *v;
        while (map_next(&s->dests[c], &at, &name, &v)) {
            struct sched_dest *d = v;
            d->coming = 0; /* whatever was fetched and never came */
            if (d->probe_until <= now)
                d->probe_until = 0;
            if (d->failures && !d->waiting && !d->under_way && !d->parked &&
                d->down_until + s->limits.down_max[c] < now) {
                d->failures = 0;
                if (d->down_for)
                    note_change(s, d);
                d->down_for = d->down_until = 0;
            }
            sched_dest_place(s, d, now);
            bool rate_over = !d->rule.rate || d->rate_us <= now * 1000;
            struct sched_rule rule = d->rule;
            d->rule.rate = rate_over ? 0 : rule.rate;
            if (is_idle(d))
                list_add_tail(&old, &d->turn); /* idle: in no other ring */
            d->rule = rule;
        }
    }
    LIST_EACH(&old, l)
    dest_forget(s, container_of(l, struct sched_dest, turn));
}

const struct sched_dest *sched_find(const struct sched *s, enum sched_class class, struct span name)
{
    return map_get(&s->dests[class], name);
}

void sched_took(struct sched *s, enum sched_class class, struct span name, int64_t ms)
{
    struct sched_dest *d = map_get(&s->dests[class], name);
    if (d)
        d->took = MAX_OF(d->took ? d->took + (ms - d->took) / 8 : ms, (int64_t)1);
}

/* ---- attempts that end ---- */

void sched_dest_succeeded(struct sched *s, struct sched_dest *d)
{
    if (d->down_for)
        note_change(s, d);
    d->failures = 0;
    d->down_for = d->down_until = 0;
    if (!d->suspended)
        set_reason(d, SPAN_NONE);
    if (++d->gained < d->window)
        return;
    d->gained = 0;
    d->window = MIN_OF(d->window + 1, d->rule.window_max);
}

void sched_dest_failed(struct sched *s, struct sched_dest *d, struct span why, int64_t now)
{
    d->gained = 0;
    d->window = MAX_OF(d->window / 2, 1u);
    if (!d->suspended)
        set_reason(d, why);
    if (++d->failures < SCHED_DOWN_AFTER || is_down(d, now) || d->home->count > SCHED_DESTS_MAX)
        return;
    d->down_for = d->down_for ? MIN_OF(d->down_for * 2, s->limits.down_max[d->class]) : s->limits.down_min[d->class];
    d->down_until = now + d->down_for;
    d->window = 1;
    if (!d->suspended)
        d->since = now;
    note_change(s, d);
}

/* ---- the next of these times ---- */

int64_t sched_wake(struct sched *s, int64_t now)
{
    while (s->heap_n && s->heap[0]->wake <= now) {
        struct sched_dest *d = s->heap[0];
        wake_at(s, d, 0);
        sched_dest_place(s, d, now);
    }
    return s->heap_n ? s->heap[0]->wake : 0;
}

/* ---- operators ---- */

void sched_up(struct sched *s, enum sched_class class, struct span name, int64_t now)
{
    struct sched_dest *d = map_get(&s->dests[class], name);
    if (!d)
        return;
    d->down_until = 0;
    sched_dest_place(s, d, now);
}

void sched_all_up(struct sched *s, enum sched_class class, int64_t now)
{
    struct span name;
    void *v;
    for (size_t at = 0; map_next(&s->dests[class], &at, &name, &v);) {
        struct sched_dest *d = v;
        if (d->down_until)
            sched_up(s, class, name, now);
    }
}

void sched_suspend(struct sched *s, enum sched_class class, struct span name, struct span reason, int64_t now)
{
    struct sched_dest *d = sched_dest_get(s, class, name);
    d->suspended = true;
    d->since = now;
    d->probe_until = 0;
    set_reason(d, reason);
    note_change(s, d);
    sched_dest_place(s, d, now);
}

bool sched_resume(struct sched *s, enum sched_class class, struct span name, int64_t now)
{
    struct sched_dest *d = map_get(&s->dests[class], name);
    if (!d || !d->suspended)
        return false;
    d->suspended = false;
    d->down_until = 0; /* somebody says that it is fine */
    set_reason(d, SPAN_NONE);
    note_change(s, d);
    sched_dest_place(s, d, now);
    return true;
}

void sched_probe(struct sched *s, enum sched_class class, struct span name, int64_t now)
{
    struct sched_dest *d = sched_dest_get(s, class, name);
    d->probe_until = now + PROBE_MS;
    sched_dest_place(s, d, now);
}

/* ---- over a restart ---- */

const struct sched_dest *sched_changed(struct sched *s)
{
    if (list_empty(&s->changed))
        return NULL;
    struct sched_dest *d = container_of(s->changed.next, struct sched_dest, changed);
    list_del(&d->changed);
    return d;
}

bool sched_worth_saving(const struct sched_dest *d)
{
    return d->suspended || d->down_for;
}

void sched_restore(struct sched *s, const struct sched_saved *saved, int64_t now)
{
    struct sched_dest *d = sched_dest_get(s, saved->class, saved->name);
    d->suspended = saved->suspended;
    d->failures = saved->failures;
    /* A clock that was set back must not keep it down for ever. */
    d->down_for = MIN_OF(saved->down_for, s->limits.down_max[d->class]);
    d->down_until = MIN_OF(saved->down_until, now + s->limits.down_max[d->class]);
    d->since = saved->since;
    if (d->failures)
        d->window = 1;
    set_reason(d, saved->reason);
    sched_dest_place(s, d, now);
}
