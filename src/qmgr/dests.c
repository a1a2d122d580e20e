#include "qmgr/dests.h"

#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "mail/address.h"

#define SAVE_PATIENCE_MS 1000 /* it goes with a batch that is written anyway */
#define LOAD_PAGE 500
#define FETCH_AGAIN_MS 5000

/* ---- names ---- */

struct span dest_text(enum sched_class class, struct span name, char text[DEST_TEXT_MAX])
{
    uint32_t account;
    if (class == SCHED_REMOTE)
        return name;
    memcpy(&account, name.p, sizeof account);
    return span_make(text, (size_t)snprintf(text, DEST_TEXT_MAX, "account:%u", account));
}

bool dest_parse(struct span text, struct dest_name *out)
{
    uint64_t n;
    *out = (struct dest_name){.class = SCHED_REMOTE, .name = text};
    if (!span_istarts(text, SPAN("account:")))
        return text.n > 0 && text.n < DEST_TEXT_MAX && span_find(text, '@') < 0 && text.p[0] != '-';
    if (!span_u64(span_from(text, 8), UINT32_MAX, &n))
        return false;
    out->class = SCHED_LOCAL;
    out->account = (uint32_t)n;
    out->name = span_make(&out->account, sizeof out->account);
    return true;
}

/* ---- states on disk ---- */

struct saving {
    struct queue_destination d;
    struct qmgr *q;
    struct arena arena;
    struct admin_call *call;
};

static void on_saved(struct queue_request *r)
{
    struct saving *s = container_of(container_of(r, struct queue_destination, request), struct saving, d);
    if (r->fail != QUEUE_OK)
        LOGW("destination-not-saved", KVS("destination", s->d.name), KVT("why", r->why));
    if (s->call && !s->q->stopping)
        admin_end(s->call, r->fail == QUEUE_OK ? ADMIN_DONE : ADMIN_FAILED, "%s",
                  r->fail == QUEUE_OK ? "" : "done, but it could not be written down and ends with a restart");
    s->q->settles--;
    qmgr_quiet(s->q);
    arena_free(&s->arena);
    mem_free(&s);
}

void dests_save(struct qmgr *q, const struct sched_dest *mine, struct admin_call *call)
{
    const struct sched_dest *d;
    char text[DEST_TEXT_MAX];
    while ((d = sched_changed(&q->sched)) != NULL) {
        struct saving *s = mem_alloc(sizeof *s);
        s->q = q;
        s->call = d == mine ? call : NULL;
        s->d = (struct queue_destination){
            .request.done = on_saved,
            .name = arena_dup(&s->arena, dest_text(d->class, span_make(d->name, d->name_n), text)),
            .reason = arena_dup(&s->arena, span_of(d->reason ? d->reason : "")),
            .forget = !sched_worth_saving(d),
            .suspended = d->suspended,
            .failures = d->failures,
            .down_until = d->down_until,
            .down_for = d->down_for,
            .since = d->since};
        q->settles++;
        queue_destination(q->queue, &s->d, s->call ? 1 : SAVE_PATIENCE_MS);
    }
}

static int load_states(struct qmgr *q, struct err *err)
{
    struct queue_destination page[LOAD_PAGE];
    struct arena a = {0};
    struct span after = SPAN("");
    size_t n;
    do {
        if (queue_read_destinations(q->refill_reader, after, page, LOAD_PAGE, &n, &a, err)) {
            arena_free(&a);
            return -1;
        }
        for (size_t i = 0; i < n; i++) {
            struct dest_name name;
            if (!dest_parse(page[i].name, &name))
                continue;
            struct sched_saved saved = {.class = name.class,
                                        .name = name.name,
                                        .reason = page[i].reason,
                                        .suspended = page[i].suspended,
                                        .failures = page[i].failures,
                                        .down_until = page[i].down_until,
                                        .down_for = page[i].down_for,
                                        .since = page[i].since};
            sched_restore(&q->sched, &saved, qmgr_wall(q));
        }
        after = n ? page[n - 1].name : after;
    } while (n == LOAD_PAGE);
    arena_free(&a);
    return 0;
}

/* Whatever it is that they wait for: the destination decides, also one whose state was lost. */
static int load_waited(struct qmgr *q, struct err *err)
{
    struct arena a = {0};
    struct span name = SPAN("");
    int got;
    while ((got = queue_read_waited(q->refill_reader, name, &name, &a, err)) == 0)
        dests_parked(q, name);
    arena_free(&a);
    return got < 0 ? -1 : 0;
}

int dests_load(struct qmgr *q, struct err *err)
{
    return load_states(q, err) || load_waited(q, err) ? -1 : 0;
}

/* ---- what waits ---- */

void dests_parked(struct qmgr *q, struct span destination)
{
    struct dest_name name;
    if (dest_parse(destination, &name))
        sched_parked(&q->sched, name.class, name.name, qmgr_wall(q));
    if (q->pump.fn)
        pump_soon(q);
}

struct fetching {
    struct queue_release r;
    struct qmgr *q;
    dest_fetched_fn *fn;
    struct arena arena;
};

static void on_fetched(struct queue_request *req)
{
    struct fetching *f = container_of(container_of(req, struct queue_release, request), struct fetching, r);
    struct qmgr *q = f->q;
    struct dest_name name;
    bool failed = req->fail != QUEUE_OK;
    unsigned count = failed ? 0 : f->r.count;
    if (failed) /* asked for again by the minute */
        LOGW("destination-not-fetched", KVS("destination", f->r.destination), KVT("why", req->why));
    if (dest_parse(f->r.destination, &name) && !failed)
        sched_released(&q->sched, name.class, name.name, count, count == f->r.max, qmgr_wall(q));
    else if (failed)
        sched_unanswered(&q->sched, name.class, name.name);
    if (count && !q->stopping)
        refill_soon(q);
    if (f->fn && !q->stopping)
        f->fn(q, f->r.destination, count);
    q->settles--;
    if (!q->stopping)
        pump_soon(q);
    qmgr_quiet(q);
    arena_free(&f->arena);
    mem_free(&f);
}

void dests_fetch(struct qmgr *q, const struct sched_dest *d, unsigned max, dest_fetched_fn *fn)
{
    struct fetching *f = mem_alloc(sizeof *f);
    char text[DEST_TEXT_MAX];
    f->q = q;
    f->fn = fn;
    f->r = (struct queue_release){
        .request.done = on_fetched,
        .destination = arena_dup(&f->arena, dest_text(d->class, span_make(d->name, d->name_n), text)),
        .now = qmgr_wall(q),
        .max = max};
    q->settles++;
    queue_release(q->queue, &f->r);
}

void dests_work(struct qmgr *q, int64_t wake)
{
    const struct sched_dest *d;
    unsigned max;
    while ((d = sched_release(&q->sched, &max)) != NULL)
        dests_fetch(q, d, max, NULL);
    dests_save(q, NULL, NULL);
    int64_t after = sched_wake(&q->sched, qmgr_wall(q)); /* starts have moved some */
    wake = after && (!wake || after < wake) ? after : wake;
    if (wake)
        timer_start(q->dest_timer, wake - qmgr_wall(q));
}

static void on_timer(void *ctx)
{
    pump_soon(ctx);
}

void dests_attempted(const struct job *j, enum sched_result result)
{
    dest_probe_attempted(j->msg->q, j->class, j->name, result, j->said);
}

void dests_init(struct qmgr *q)
{
    list_init(&q->probes);
    q->dest_timer = timer_new(q->loop, on_timer, q);
}

void dests_free(struct qmgr *q)
{
    dest_probe_free(q);
    timer_free(&q->dest_timer);
}
