/* One look at what happens now, for `waypost queue top`: rates, destinations that have the most to do, how much waits. */
#include <stdlib.h>

#include "base/mem.h"
#include "qmgr/dests.h"
#include "qmgr/question.h"
#include "qmgr/trace.h"

#define SAMPLE_TIME_MS 10000
#define DESTS_SHOWN 100

struct sample {
    int64_t now;
};

/* ---- on the loop ---- */

static void put_rates(struct qmgr *q, struct admin_call *c)
{
    struct rate_texts t;
    stats_rates(q, &t);
    for (unsigned r = 0; r < RATE_COUNT; r++) {
        admin_text(c, "event", span_of(rate_name(r)));
        admin_number(c, "since-start", t.totals[r]);
        admin_text(c, "1-min", span_of(t.text[r][0]));
        admin_text(c, "5-min", span_of(t.text[r][1]));
        admin_text(c, "60-min", span_of(t.text[r][2]));
        admin_row(c);
    }
}

static uint64_t burden(const struct sched_dest *d)
{
    return (uint64_t)d->held + d->under_way;
}

/* What has the most to do is slow, or its attempts take long. */
static int slowest_first(const void *a, const void *b)
{
    const struct sched_dest *x = *(const struct sched_dest *const *)a, *y = *(const struct sched_dest *const *)b;
    if (burden(x) != burden(y))
        return burden(x) < burden(y) ? 1 : -1;
    if (x->parked != y->parked)
        return x->parked ? -1 : 1;
    if (x->took != y->took)
        return x->took < y->took ? 1 : -1;
    return span_cmp(span_make(x->name, x->name_n), span_make(y->name, y->name_n));
}

static void put_dest(struct qmgr *q, struct admin_call *c, const struct sched_dest *d)
{
    char text[DEST_TEXT_MAX];
    admin_text(c, "destination", dest_text(d->class, span_make(d->name, d->name_n), text));
    admin_text(c, "state", span_of(sched_state_name(sched_state(d, qmgr_wall(q)))));
    admin_number(c, "in-turn", d->held);
    admin_number(c, "under-way", d->under_way);
    admin_number(c, "attempt-ms", (uint64_t)d->took);
    admin_flag(c, "waits-on-disk", d->parked);
    admin_text(c, "reason", span_of(d->reason ? d->reason : ""));
    admin_row(c);
}

static void put_dests(struct qmgr *q, struct admin_call *c)
{
    size_t most = q->sched.dests[SCHED_LOCAL].count + q->sched.dests[SCHED_REMOTE].count, n = 0;
    const struct sched_dest **all = mem_array(most, sizeof *all);
    struct span key;
    void *value;
    for (unsigned class = 0; class < SCHED_CLASSES; class++)
        for (size_t at = 0; map_next(&q->sched.dests[class], &at, &key, &value);)
            all[n++] = value;
    qsort(all, n, sizeof *all, slowest_first);
    for (size_t i = 0; i < n && i < DESTS_SHOWN; i++)
        put_dest(q, c, all[i]);
    mem_free(&all);
}

/* ---- on a thread ---- */

static void run(struct question *k, void *ctx)
{
    const struct sample *s = ctx;
    struct queue_reader *r;
    struct queue_counts n;
    struct err err;
    if (queue_reader_open(&r, question_dir(k), &err)) {
        question_end(k, ADMIN_FAILED, "the queue can't be read: %s", err.text);
        return;
    }
    int rc = queue_count(r, s->now, &n, &err);
    queue_reader_close(&r);
    if (rc) {
        question_end(k, ADMIN_FAILED, "the queue can't be read: %s", err.text);
        return;
    }
    n.later -= MIN_OF(n.later, n.parked + n.pickup); /* they are told apart */
    question_number(k, CELL_NUMBER, "due", (int64_t)n.due);
    question_number(k, CELL_NUMBER, "later", (int64_t)n.later);
    question_number(k, CELL_NUMBER, "parked", (int64_t)n.parked);
    question_number(k, CELL_NUMBER, "held", (int64_t)n.held);
    question_number(k, CELL_NUMBER, "pickup", (int64_t)n.pickup);
    question_number(k, CELL_NUMBER, "limited", (int64_t)n.limited);
    question_row(k);
    question_end(k, ADMIN_DONE, "%s", "");
}

static void sample_free(void *ctx)
{
    struct sample *s = ctx;
    mem_free(&s);
}

void top_sample(void *ctx, struct admin_call *c, const struct span *args, size_t n)
{
    struct qmgr *q = ctx;
    struct sample *s = mem_alloc(sizeof *s);
    (void)args;
    (void)n;
    s->now = qmgr_wall(q);
    put_rates(q, c);
    put_dests(q, c);
    question_ask(q, c, &(struct question_work){run, sample_free, s, SAMPLE_TIME_MS, 0, 0});
}
