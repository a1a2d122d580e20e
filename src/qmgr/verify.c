/* `waypost queue verify`: the checks of queue/verify.h on a question's thread; repairs go the way of every change, through
 * the queue's writer, many in one commit. */
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "mail/address.h"
#include "qmgr/question.h"
#include "qmgr/trace.h"
#include "queue/verify.h"

#define VERIFY_TIME_MS INT64_C(86400000)
#define BATCH 200
#define WAIT_MS 5

/* Repairs under way: the thread waits for all of them, or leaves them to the last one that is done. The loop waits for
 * nothing of it. */
struct batch {
    struct qmgr *q;
    _Atomic unsigned users; /* the thread, and each that is not done */
    size_t count;
    struct item {
        struct queue_mend mend;
        struct batch *batch;
        char detail[600];
    } items[BATCH];
};

struct verify {
    struct qmgr *q;
    bool repair;
    uint64_t below;
    int64_t now;
    struct question *k;
    struct batch *batch;
    uint64_t problems, mended, mendable;
};

/* ---- rows ---- */

static bool put_problem(struct verify *v, enum queue_fault fault, uint64_t message, struct span detail, bool mended)
{
    struct qid_text qid = qid_text(message);
    const char *mending = queue_fault_mending(fault);
    v->problems++;
    v->mended += mended;
    v->mendable += mending != NULL;
    question_text(v->k, "id", span_of(message ? qid.text : ""));
    question_text(v->k, "problem", span_of(queue_fault_text(fault)));
    question_text(v->k, "detail", detail.p ? detail : SPAN(""));
    question_text(v->k, "repair", span_of(mending ? mending : "none"));
    question_number(v->k, CELL_FLAG, "repaired", mended);
    return question_row(v->k);
}

/* ---- repairs ---- */

static void batch_leave(struct batch *b)
{
    if (atomic_fetch_sub(&b->users, 1) == 1)
        mem_free(&b);
}

/* On the loop. */
static void on_mended(struct queue_request *r)
{
    struct item *i = container_of(container_of(r, struct queue_mend, request), struct item, mend);
    struct batch *b = i->batch;
    struct qid_text qid = qid_text(i->mend.message);
    if (r->fail == QUEUE_OK && i->mend.still && !i->mend.look) {
        LOGW("queue-mended", KVT("problem", queue_fault_text(i->mend.fault)), KVT("qid", qid.text), KVT("detail", i->detail));
        if (b->q->queue) /* else it is being closed */
            refill_soon(b->q);
    }
    if (i->mend.fault == QUEUE_FAULT_MARK && b->q->queue)
        queue_ids_above(b->q->queue, i->mend.message);
    batch_leave(b);
}

/* False: the question is over. */
static bool wait_for(struct verify *v, struct batch *b)
{
    while (atomic_load(&b->users) > 1 && !question_over(v->k))
        poll(NULL, 0, WAIT_MS);
    return atomic_load(&b->users) == 1;
}

static bool flush(struct verify *v)
{
    struct batch *b = v->batch;
    bool more = true;
    v->batch = NULL;
    if (!b)
        return true;
    atomic_store(&b->users, (unsigned)b->count + 1);
    for (size_t i = 0; i < b->count; i++)
        queue_mend(v->q->queue, &b->items[i].mend);
    more = wait_for(v, b);
    for (size_t i = 0; i < b->count && more; i++) {
        const struct item *it = &b->items[i];
        bool failed = it->mend.request.fail != QUEUE_OK;
        if (it->mend.still || failed) /* else it was so no more */
            more = put_problem(v, it->mend.fault, it->mend.message, span_of(it->detail), !failed && !it->mend.look);
    }
    batch_leave(b);
    return more;
}

static bool put_in_batch(struct verify *v, const struct queue_found *f, bool look)
{
    if (!v->batch) {
        v->batch = mem_alloc(sizeof *v->batch);
        v->batch->q = v->q;
    }
    struct batch *b = v->batch;
    struct item *i = &b->items[b->count++];
    *i = (struct item){.batch = b,
                       .mend = {.request.done = on_mended,
                                .fault = f->fault,
                                .message = f->message,
                                .recipient = f->recipient,
                                .has_domain = f->domain.p != NULL,
                                .look = look,
                                .now = v->now}};
    snprintf(i->mend.domain, sizeof i->mend.domain, "%.*s", SPANV(f->domain));
    snprintf(i->detail, sizeof i->detail, "%.*s", SPANV(f->detail));
    return b->count < BATCH || flush(v);
}

/* ---- on the thread ---- */

static bool on_found(void *ctx, const struct queue_found *f)
{
    struct verify *v = ctx;
    bool look = !v->repair && f->fault == QUEUE_FAULT_FILE_ORPHAN; /* the writer may be about to unlink it */
    if (look || (v->repair && queue_fault_mending(f->fault)))
        return put_in_batch(v, f, look);
    return put_problem(v, f->fault, f->message, f->detail, false);
}

static bool over(void *ctx)
{
    return question_over(((struct verify *)ctx)->k);
}

static void on_progress(void *ctx, uint64_t done, const char *unit)
{
    question_progress(((struct verify *)ctx)->k, done, 0, unit);
}

static void run(struct question *k, void *ctx)
{
    struct verify *v = ctx;
    struct err err = {""};
    v->k = k;
    struct queue_verify w = {.dir = question_dir(k),
                             .canonical = domain_canonical,
                             .below = v->below,
                             .found = on_found,
                             .over = over,
                             .progress = on_progress,
                             .ctx = v};
    int rc = queue_verify(&w, &err);
    bool all = flush(v) && rc == 0;
    unsigned long long n = v->problems, mended = v->mended, mendable = v->mendable;
    if (rc < 0)
        question_end(k, ADMIN_FAILED, "the queue can't be read: %s", err.text);
    else if (!all)
        question_end(k, ADMIN_FAILED, "not all was looked at");
    else if (n == 0)
        question_end(k, ADMIN_DONE, "The queue is as it should be.");
    else if (mended == n)
        question_end(k, ADMIN_DONE, "%llu problem%s, all repaired", n, n == 1 ? "" : "s");
    else if (v->repair)
        question_end(k, ADMIN_FAILED, "%llu problem%s, %llu repaired", n, n == 1 ? "" : "s", mended);
    else
        question_end(k, ADMIN_FAILED, "%llu problem%s, --repair mends %llu", n, n == 1 ? "" : "s", mendable);
}

static void verify_free(void *ctx)
{
    struct verify *v = ctx;
    mem_free(&v->batch);
    mem_free(&v);
}

void verify_command(void *ctx, struct admin_call *c, const struct span *args, size_t n)
{
    struct qmgr *q = ctx;
    if (n && !span_eqs(args[0], "--repair")) {
        admin_end(c, ADMIN_USAGE, "say nothing, or --repair");
        return;
    }
    struct verify *v = mem_alloc(sizeof *v);
    *v = (struct verify){.q = q, .repair = n > 0, .below = queue_first_id(q->queue), .now = qmgr_wall(q)};
    question_ask(q, c, &(struct question_work){run, verify_free, v, VERIFY_TIME_MS, 0, 1});
}
