/* `waypost dest`: destinations for people. */
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "qmgr/dests.h"
#include "qmgr/operator.h"
#include "qmgr/route.h"

#define PROBE_WAIT_MS 60000
#define COUNT_MOST 1000000

static void cells(struct qmgr *q, struct admin_call *c, const struct sched_dest *d)
{
    int64_t now = qmgr_wall(q);
    enum sched_state state = sched_state(d, now);
    char text[DEST_TEXT_MAX];
    struct buf rate = {0};
    bool known = state == SCHED_DOWN || state == SCHED_SUSPENDED;
    if (d->rule.rate)
        buf_printf(&rate, "%u in %lld s", d->rule.rate, (long long)(d->rule.rate_per / 1000));
    admin_text(c, "destination", dest_text(d->class, span_make(d->name, d->name_n), text));
    admin_text(c, "state", span_of(sched_state_name(state)));
    admin_text(c, "reason", span_of(d->reason ? d->reason : ""));
    admin_time(c, "since", known ? d->since : 0);
    admin_time(c, "until", state == SCHED_DOWN        ? d->down_until
                           : state == SCHED_THROTTLED ? sched_rate_at(d, now)
                                                      : 0);
    admin_number(c, "failures", d->failures);
    admin_number(c, "window", d->window);
    admin_number(c, "under-way", d->under_way);
    admin_number(c, "in-turn", d->held);
    admin_flag(c, "waits-on-disk", d->parked);
    admin_text(c, "rate", buf_span(&rate));
    buf_free(&rate);
}

/* ---- list: names first, so that a page may come when they have changed ---- */

struct listing {
    struct qmgr *q;
    struct arena arena;
    struct dest_name *names;
    size_t count, cap, at;
};

static void add_name(struct listing *l, const struct sched_dest *d)
{
    if (l->count == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 64;
        l->names = mem_resize(l->names, l->cap * sizeof *l->names);
    }
    struct span name = arena_dup(&l->arena, span_make(d->name, d->name_n));
    l->names[l->count++] = (struct dest_name){.class = d->class, .name = name};
}

static int by_name(const void *a, const void *b)
{
    const struct dest_name *x = a, *y = b;
    return x->class != y->class ? (x->class < y->class ? -1 : 1) : span_cmp(x->name, y->name);
}

static void listing_free(void *ctx)
{
    struct listing *l = ctx;
    mem_free(&l->names);
    arena_free(&l->arena);
    mem_free(&l);
}

static void list_page(void *ctx, struct admin_call *c)
{
    struct listing *l = ctx;
    for (; l->at < l->count && admin_room(c); l->at++) {
        const struct sched_dest *d = sched_find(&l->q->sched, l->names[l->at].class, l->names[l->at].name);
        if (!d)
            continue;
        cells(l->q, c, d);
        admin_row(c);
    }
    if (l->at < l->count) {
        admin_later(c, list_page, listing_free, l);
        return;
    }
    admin_end(c, ADMIN_DONE, "%s", "");
    listing_free(l);
}

static bool state_named(struct span word, enum sched_state *out)
{
    for (enum sched_state s = SCHED_OPEN; s <= SCHED_SUSPENDED; s++)
        if (span_ieqs(word, sched_state_name(s))) {
            *out = s;
            return true;
        }
    return false;
}

void dest_on_list(void *ctx, struct admin_call *c, const struct span *args, size_t n)
{
    struct qmgr *q = ctx;
    enum sched_state want = SCHED_OPEN;
    if (n && (n != 2 || !span_eqs(args[0], "--state") || !state_named(args[1], &want))) {
        admin_end(c, ADMIN_USAGE, "not understood: --state open, throttled, down or suspended");
        return;
    }
    struct listing *l = mem_alloc(sizeof *l);
    l->q = q;
    for (int class = 0; class < SCHED_CLASSES; class++) {
        size_t at = 0;
        struct span name;
        void *v;
        while (map_next(&q->sched.dests[class], &at, &name, &v))
            if (!n || sched_state(v, qmgr_wall(q)) == want)
                add_name(l, v);
    }
    if (l->count)
        qsort(l->names, l->count, sizeof *l->names, by_name);
    list_page(l, c);
}

/* ---- show ---- */

bool dest_take(struct admin_call *c, struct span arg, struct dest_name *name, char text[DEST_TEXT_MAX], size_t *n)
{
    char canonical[ADDRESS_DOMAIN_MAX + 1];
    size_t cn;
    if (domain_canonical(arg, canonical, &cn))
        arg = span_make(canonical, cn);
    if (arg.n < DEST_TEXT_MAX) {
        for (size_t i = 0; i < arg.n; i++)
            text[i] = ascii_lower(arg.p[i]);
        *n = arg.n;
        if (dest_parse(span_make(text, arg.n), name))
            return true;
    }
    admin_end(c, ADMIN_USAGE, "\"%.*s\" is no destination: a domain, HOST:PORT, or account:ID", SPANV(arg));
    return false;
}

struct counting {
    struct qmgr *q;
    struct admin_call *call;
    struct dest_name name;
    char text[DEST_TEXT_MAX], dir[4096];
    size_t n;
    uint64_t count;
    bool failed;
};

static void count_run(void *ctx)
{
    struct counting *k = ctx;
    struct queue_reader *r;
    struct err err;
    k->failed = queue_reader_open(&r, k->dir, &err) != 0;
    if (k->failed)
        return;
    k->failed = queue_count_waiting(r, span_make(k->text, k->n), COUNT_MOST, &k->count, &err) != 0;
    queue_reader_close(&r);
}

static void count_done(void *ctx)
{
    struct counting *k = ctx;
    struct qmgr *q = k->q;
    q->settles--;
    if (q->stopping) {
        mem_free(&k);
        return;
    }
    dest_parse(span_make(k->text, k->n), &k->name);
    const struct sched_dest *d = sched_find(&q->sched, k->name.class, k->name.name);
    if (!d) {
        admin_end(k->call, ADMIN_NO_SUCH, "nothing is known of it: nothing goes there now, and no attempt failed lately");
    } else if (k->failed) {
        admin_end(k->call, ADMIN_FAILED, "the queue can't be read");
    } else {
        cells(q, k->call, d);
        admin_number(k->call, "on-disk", k->count);
        admin_row(k->call);
        admin_end(k->call, ADMIN_DONE, "%s", "");
    }
    mem_free(&k);
    qmgr_quiet(q);
}

void dest_on_show(void *ctx, struct admin_call *c, const struct span *args, size_t n)
{
    struct qmgr *q = ctx;
    struct counting *k = mem_alloc(sizeof *k);
    (void)n;
    k->q = q;
    k->call = c;
    snprintf(k->dir, sizeof k->dir, "%s/queue", q->conf->state);
    if (!dest_take(c, args[0], &k->name, k->text, &k->n)) {
        mem_free(&k);
        return;
    }
    q->settles++;
    loop_work(q->loop, count_run, count_done, k);
}

/* ---- suspend, resume ---- */

void dest_on_suspend(void *ctx, struct admin_call *c, const struct span *args, size_t n)
{
    struct qmgr *q = ctx;
    struct dest_name name;
    char text[DEST_TEXT_MAX];
    size_t text_n;
    struct buf reason = {0};
    if (!dest_take(c, args[0], &name, text, &text_n))
        return;
    buf_adds(&reason, "suspended by an operator");
    for (size_t i = 1; i < n; i++)
        buf_printf(&reason, "%s%.*s", i == 1 ? ": " : " ", SPANV(args[i]));
    sched_suspend(&q->sched, name.class, name.name, buf_span(&reason), qmgr_wall(q));
    LOGI("destination-suspended", KVS("destination", span_make(text, text_n)), KVS("why", buf_span(&reason)));
    buf_free(&reason);
    dests_save(q, sched_find(&q->sched, name.class, name.name), c);
    pump_soon(q);
}

void dest_on_resume(void *ctx, struct admin_call *c, const struct span *args, size_t n)
{
    struct qmgr *q = ctx;
    struct dest_name name;
    char text[DEST_TEXT_MAX];
    size_t text_n;
    (void)n;
    if (!dest_take(c, args[0], &name, text, &text_n))
        return;
    if (!sched_resume(&q->sched, name.class, name.name, qmgr_wall(q))) {
        admin_end(c, ADMIN_NO_SUCH, "it is not suspended");
        return;
    }
    LOGI("destination-resumed", KVS("destination", span_make(text, text_n)));
    route_release(q, sched_find(&q->sched, name.class, name.name));
    dests_save(q, sched_find(&q->sched, name.class, name.name), c);
    pump_soon(q);
}

/* ---- probe ---- */

struct probe {
    struct link link;
    struct qmgr *q;
    struct admin_call *call;
    struct timer *timer;
    struct dest_name name;
    char text[DEST_TEXT_MAX];
    size_t n;
};

static void probe_free(struct probe *p)
{
    list_del(&p->link);
    timer_free(&p->timer);
    mem_free(&p);
}

static void on_probe_late(void *ctx)
{
    struct probe *p = ctx;
    admin_end(p->call, ADMIN_LATER, "the attempt has not ended in %d s: see `waypost dest show`", PROBE_WAIT_MS / 1000);
    probe_free(p);
}

void dest_probe_attempted(struct qmgr *q, enum sched_class class, struct span name, enum sched_result result,
                          struct span said)
{
    LIST_EACH(&q->probes, l)
    {
        struct probe *p = container_of(l, struct probe, link);
        if (p->name.class != class || !span_eq(p->name.name, name))
            continue;
        admin_text(p->call, "destination", span_make(p->text, p->n));
        admin_flag(p->call, "reached", result == SCHED_REACHED);
        admin_text(p->call, "answer", said.p ? said : SPAN(""));
        admin_row(p->call);
        admin_end(p->call, ADMIN_DONE, "%s", "");
        probe_free(p);
    }
}

static void nothing_waits(struct qmgr *q, struct span text)
{
    LIST_EACH(&q->probes, l)
    {
        struct probe *p = container_of(l, struct probe, link);
        if (!span_eq(span_make(p->text, p->n), text))
            continue;
        admin_end(p->call, ADMIN_NO_SUCH, "no mail waits for it that could be attempted");
        probe_free(p);
    }
}

static void on_looked(struct qmgr *q, struct span name, bool seen)
{
    if (!seen && !q->stopping)
        nothing_waits(q, name);
}

static void on_fetched(struct qmgr *q, struct span text, unsigned count)
{
    struct dest_name name;
    if (count || !dest_parse(text, &name))
        return;
    const struct sched_dest *d = sched_find(&q->sched, name.class, name.name);
    if (d && (d->waiting || d->under_way))
        return;
    if (name.class == SCHED_REMOTE)
        operator_retry_one(q, text, on_looked);
    else
        nothing_waits(q, text);
}

void dest_on_probe(void *ctx, struct admin_call *c, const struct span *args, size_t n)
{
    struct qmgr *q = ctx;
    struct probe *p = mem_alloc(sizeof *p);
    (void)n;
    p->q = q;
    p->call = c;
    if (!dest_take(c, args[0], &p->name, p->text, &p->n)) {
        mem_free(&p);
        return;
    }
    list_add_tail(&q->probes, &p->link);
    p->timer = timer_new(q->loop, on_probe_late, p);
    timer_start(p->timer, PROBE_WAIT_MS);
    sched_probe(&q->sched, p->name.class, p->name.name, qmgr_wall(q));
    const struct sched_dest *d = sched_find(&q->sched, p->name.class, p->name.name);
    if (!d->waiting)
        dests_fetch(q, d, 1, on_fetched);
    pump_soon(q);
}

void dest_probe_free(struct qmgr *q)
{
    LIST_EACH(&q->probes, l)
    probe_free(container_of(l, struct probe, link));
}
