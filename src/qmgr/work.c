/* From a known recipient to a lease: jobs, the scheduler's turns, and leases that end without a report. */
#include "base/log.h"
#include "base/mem.h"
#include "qmgr/dests.h"
#include "qmgr/route.h"

#define MINUTE_MS 60000
#define LEASE_MAX_MS \
    (3 * 3600000)           /* a worker that is silent for so long has forgotten; longer than any of its own limits */
#define AGAIN_MS 5000       /* what a broken worker left, once it broke too often */

/* ---- jobs ---- */

static struct job *job_new(struct rcpt *r, enum sched_class class, struct span name)
{
    struct message *m = r->msg;
    struct job *j = arena_alloc(&m->arena, sizeof *j);
    *j = (struct job){.msg = m, .class = class, .name = name, .generation = m->q->conf->generation};
    j->rcpts_end = &j->rcpts;
    list_init(&j->open);
    list_init(&j->link);
    list_init(&j->sched.link);
    j->sched.priority = m->m.priority;
    return j;
}

static void job_add(struct job *j, struct rcpt *r)
{
    r->job = j;
    r->job_next = NULL;
    r->reported = NULL;
    *j->rcpts_end = r;
    j->rcpts_end = &r->job_next;
    j->count++;
    j->left++;
}

/* Its recipients go back to the disk, and are looked at anew at once. */
static void job_again(struct job *j)
{
    int64_t now = qmgr_wall(j->msg->q);
    for (struct rcpt *r = j->rcpts, *next; r; r = next) {
        next = r->job_next;
        r->job = NULL;
        settle_postpone(r, now, "the configuration names another host for it");
    }
}

/* Its recipients go back to the disk without an attempt, and wait there for their destination. */
static void job_park(struct job *j, const char *why)
{
    if (route_is_old(j)) {
        job_again(j);
        return;
    }
    char text[DEST_TEXT_MAX];
    struct span name = dest_text(j->class, j->name, text);
    for (struct rcpt *r = j->rcpts, *next; r; r = next) {
        next = r->job_next;
        r->job = NULL;
        settle_park(r, name, why);
    }
}

static const char *why_not(enum sched_answer a)
{
    return a == SCHED_IS_DOWN        ? "the destination could not be reached lately"
           : a == SCHED_IS_SUSPENDED ? "the destination was suspended by an operator"
                                     : "many messages wait for this destination";
}

uint64_t work_key(struct span s)
{
    uint64_t h = UINT64_C(14695981039346656037); /* FNV-1a */
    for (size_t i = 0; i < s.n; i++)
        h = (h ^ (unsigned char)ascii_lower(s.p[i])) * UINT64_C(1099511628211);
    return h | UINT64_C(1) << 63;
}

uint64_t work_sender(const struct rcpt *r)
{
    return r->msg->m.account ? r->msg->m.account : work_key(rcpt_sender(r));
}

static void push(struct job *j)
{
    struct qmgr *q = j->msg->q;
    int64_t later;
    j->sched.cost = j->count;
    j->sched.sender = work_sender(j->rcpts);
    enum sched_answer a = sched_push(&q->sched, &j->sched, j->class, j->name, qmgr_wall(q), &later);
    if (a != SCHED_TAKEN)
        job_park(j, why_not(a));
    pump_soon(q);
}

/* A transaction has one reverse-path; recipients of several domains share it when one host takes them all. */
static bool fits_together(const struct rcpt *a, const struct rcpt *b)
{
    return span_eq(a->dest, b->dest) && span_eq(a->hop, b->hop) && a->smarthost == b->smarthost && a->pull == b->pull &&
           span_eq(rcpt_sender(a), rcpt_sender(b));
}

static struct job *open_job_for(struct message *m, const struct rcpt *r)
{
    LIST_EACH(&m->open_jobs, l)
    {
        struct job *j = container_of(l, struct job, open);
        if (j->count < ATTEMPT_RCPTS_MAX && fits_together(j->rcpts, r))
            return j;
    }
    return NULL;
}

void work_queue(struct rcpt *r)
{
    struct message *m = r->msg;
    rcpt_move(r, RCPT_QUEUED);
    if (!r->relay) {
        struct job *j = job_new(r, SCHED_LOCAL, arena_dup(&m->arena, span_make(&r->account, sizeof r->account)));
        job_add(j, r);
        push(j);
        return;
    }
    struct job *j = open_job_for(m, r);
    if (!j) {
        j = job_new(r, SCHED_REMOTE, r->dest);
        list_add_tail(&m->open_jobs, &j->open);
    }
    job_add(j, r);
}

static void push_again(struct job *j)
{
    struct qmgr *q = j->msg->q;
    j->sched.cost = j->count;
    j->sched.sender = work_sender(j->rcpts);
    sched_again(&q->sched, &j->sched, j->class, j->name, qmgr_wall(q));
    pump_soon(q);
}

void work_again(struct rcpt *r)
{
    rcpt_move(r, RCPT_QUEUED);
    struct job *j = job_new(r, SCHED_LOCAL, arena_dup(&r->msg->arena, span_make(&r->account, sizeof r->account)));
    job_add(j, r);
    push_again(j);
}

void work_release_open(struct message *m)
{
    if (m->expanding)
        return;
    settle_again(m); /* failures that waited for the rest */
    while (!list_empty(&m->open_jobs)) {
        struct job *j = container_of(m->open_jobs.next, struct job, open);
        list_del(&j->open);
        push(j);
    }
}

void job_drop_rcpt(struct rcpt *r)
{
    struct job *j = r->job;
    struct qmgr *q = r->msg->q;
    struct rcpt **at = &j->rcpts;
    while (*at != r)
        at = &(*at)->job_next;
    *at = r->job_next;
    if (!r->job_next)
        j->rcpts_end = at;
    r->job = NULL;
    j->count--;
    j->left--;
    if (j->count)
        return;
    list_del(&j->open);
    if (j->sched.dest)
        sched_remove(&q->sched, &j->sched, qmgr_wall(q));
}

/* ---- leases ---- */

void job_lease(struct job *j)
{
    struct qmgr *q = j->msg->q;
    message_ref(j->msg); /* its recipients may all be recorded and gone before the attempt ends */
    j->lease = q->next_lease++;
    j->leased_at = loop_now(q->loop);
    j->left = j->count;
    j->retriable = false;
    idmap_put(&q->jobs, j->lease, j);
    list_add_tail(&q->leased, &j->link);
}

struct job *job_by_lease(struct qmgr *q, uint64_t lease)
{
    return idmap_get(&q->jobs, lease);
}

/* The job may be gone afterwards, with its message. */
static void end_lease(struct job *j, enum sched_result result)
{
    struct message *m = j->msg;
    struct qmgr *q = m->q;
    bool leased = j->lease != 0;
    if (leased)
        idmap_del(&q->jobs, j->lease);
    j->lease = 0;
    list_del(&j->link);
    if (j->sched.under_way)
        sched_done(&q->sched, &j->sched, result, j->said, qmgr_wall(q));
    if (result != SCHED_ENDED && leased)
        sched_took(&q->sched, j->class, j->name, loop_now(q->loop) - j->leased_at);
    if (result != SCHED_ENDED)
        dests_attempted(j, result);
    if (leased)
        message_unref(m);
    pump_soon(q);
}

void job_end(struct job *j, enum sched_result result)
{
    struct qmgr *q = j->msg->q;
    end_lease(j, result);
    qmgr_quiet(q);
}

/* Recipients with a report keep it; the others get their turn again, in front. */
static void requeue(struct job *j)
{
    struct qmgr *q = j->msg->q;
    struct job *again = NULL;
    for (struct rcpt *r = j->rcpts, *next; r; r = next) {
        next = r->job_next;
        if (r->job != j)
            continue;
        r->job = NULL;
        if (settle_wish(r))
            continue;
        if (++r->deaths >= WORKER_DEATHS_MAX || q->draining) {
            settle_postpone(r, qmgr_wall(q) + AGAIN_MS, "the program that was to deliver it ended");
        } else {
            if (!again) {
                again = job_new(r, j->class, j->name);
                again->generation = j->generation;
            }
            job_add(again, r);
        }
    }
    if (again)
        push_again(again);
}

void job_take_back(struct job *j)
{
    struct qmgr *q = j->msg->q;
    sched_remove(&q->sched, &j->sched, qmgr_wall(q));
    job_again(j);
}

bool job_misrouted(struct job *j)
{
    if (!route_is_old(j))
        return false;
    job_again(j);
    job_end(j, SCHED_ENDED);
    return true;
}

bool job_too_late(struct job *j)
{
    if (!settle_too_late(j->msg))
        return false;
    for (struct rcpt *r = j->rcpts, *next; r; r = next) {
        next = r->job_next;
        r->job = NULL;
        settle_late(r);
    }
    job_end(j, SCHED_ENDED);
    return true;
}

void job_lost(struct job *j, const char *why)
{
    struct qmgr *q = j->msg->q;
    struct qid_text qid = msg_qid(j->msg);
    LOGI("lease-lost", KVT("qid", qid.text), KVU("lease", j->lease), KVU("recipients", j->left), KVT("why", why));
    message_ref(j->msg);
    end_lease(j, SCHED_ENDED);
    requeue(j);
    message_unref(j->msg);
    qmgr_quiet(q);
}

static void on_minute(void *ctx)
{
    struct qmgr *q = ctx;
    int64_t now = loop_now(q->loop);
    while (!list_empty(&q->leased)) {
        struct job *j = container_of(q->leased.next, struct job, link);
        if (now - j->leased_at < LEASE_MAX_MS)
            break;
        job_lost(j, "no report in time");
    }
    sched_sweep(&q->sched, qmgr_wall(q));
    events_configure(q); /* days go where nothing happens, too */
    timer_start(q->minute, MINUTE_MS);
}

/* ---- turns ---- */

static void park_closed(struct qmgr *q)
{
    const struct sched_dest *d;
    struct sched_job *s;
    while ((s = sched_park(&q->sched, &d, qmgr_wall(q))) != NULL)
        job_park(container_of(s, struct job, sched), why_not(d->suspended ? SCHED_IS_SUSPENDED : SCHED_IS_DOWN));
}

static void pump(void *ctx)
{
    struct qmgr *q = ctx;
    struct sched_job *s;
    if (q->draining)
        return;
    expand_some(q);
    int64_t wake = sched_wake(&q->sched, qmgr_wall(q));
    park_closed(q);
    while (remote_ready(q) && (s = sched_next(&q->sched, SCHED_REMOTE, qmgr_wall(q))) != NULL)
        remote_start(container_of(s, struct job, sched));
    while ((s = sched_next(&q->sched, SCHED_LOCAL, qmgr_wall(q))) != NULL)
        local_start(container_of(s, struct job, sched));
    dests_work(q, wake);
}

void pump_soon(struct qmgr *q)
{
    loop_defer(q->loop, &q->pump);
}

void pump_init(struct qmgr *q)
{
    q->pump = (struct defer){.fn = pump, .ctx = q};
    q->minute = timer_new(q->loop, on_minute, q);
    timer_start(q->minute, MINUTE_MS);
}

void pump_free(struct qmgr *q)
{
    loop_defer_cancel(q->loop, &q->pump);
    timer_free(&q->minute);
    idmap_free(&q->jobs);
    sched_free(&q->sched);
}
