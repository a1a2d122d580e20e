/* Leases at the processes of accounts: each has its channel, made by the zygote. "Stored" is what they report;
 * "delivered" is what it becomes when one syncfs for all that were stored meanwhile has come back; when that fails, they are
 * leased again.
 *
 * While many come, an account that was given something a moment ago gets the next ones together: its process wakes once
 * and writes one transaction for all of them, which costs little more than for one. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "qmgr/qmgr.h"

#define SYNC_AGAIN_MS 5000
#define SYNC_GATHER_MS 10 /* nobody waits for "delivered": others may join the same syncfs */
#define END_WAIT_MS 5000  /* the zygote's word and authd's come on different channels */
#define WANT_AGAIN_MS 1000
#define WANT_TRIES 5
#define GATHER_MS 200   /* the longest that one waits for others for its account */
#define GATHER_COUNT 32 /* so many don't wait for more: half of what an account may have under way at first */
#define GATHER_LOOK_MS 10
#define MANY_MS 50  /* LOCAL_STARTS_KEPT of them in that time are many */
#define QUIET_MS 15 /* none in that time: no more come for now */
#define NEVER (INT64_MIN / 2)

struct account_worker {
    struct qmgr *q;
    uint32_t account;
    struct chan *chan;   /* NULL: none */
    struct link waiting; /* jobs */
    unsigned count;      /* of them */
    struct link gather;  /* in the qmgr's list while they wait for more; longest first */
    int64_t since;       /* when that began */
    int64_t handed;      /* when it was given something last */
    uint64_t want;       /* mda_want at authd */
    unsigned tries;
    struct timer *timer;
};

static void want(struct account_worker *w);
static void send_waiting(struct account_worker *w);

/* ---- delivered ---- */

struct sync_work {
    struct qmgr *q;
    int fd, error;
};

static void sync_start(struct qmgr *q);

static void sync_run(void *ctx)
{
    struct sync_work *s = ctx;
    s->error = s->fd < 0 ? EBADF : syncfs(s->fd) ? errno : 0;
}

/* In the store, but maybe never on disk: after a sync that failed the kernel takes what it could not write for written, and the
 * next one would succeed without it. So the lease is repeated: it finds the message there, and the store writes it once more
 * before it answers. */
static void doubted(struct rcpt *r)
{
    list_del(&r->link);
    r->doubted = true;
    list_add_tail(&r->msg->q->doubted, &r->link);
}

/* What was stored while the sync ran is as doubtful as what it was for; what is under way, too (stored()). */
static void sync_failed(struct qmgr *q)
{
    q->doubt_at = loop_now(q->loop);
    while (!list_empty(&q->syncing))
        doubted(container_of(q->syncing.next, struct rcpt, link));
    while (!list_empty(&q->stored))
        doubted(container_of(q->stored.next, struct rcpt, link));
    timer_start(q->sync_timer, SYNC_AGAIN_MS);
}

/* What is left when qmgr ends is due at its next start, and its lease is repeated then. */
static void lease_doubted(struct qmgr *q)
{
    struct outcome o = outcome_make(OUTCOME_RETRY, 0, 3, 0, "it was delivered, but the store could not be synced");
    while (!list_empty(&q->doubted)) {
        struct rcpt *r = container_of(q->doubted.prev, struct rcpt, link); /* the last one first: each goes in front */
        list_del(&r->link);
        if (q->draining)
            settle_rcpt(r, VERDICT_POSTPONED, &o, SPAN_NONE);
        else
            work_again(r);
    }
}

static void sync_done(void *ctx)
{
    struct sync_work *s = ctx;
    struct qmgr *q = s->q;
    int error = s->error;
    struct outcome o = outcome_make(OUTCOME_DONE, 0, 0, 0, "delivered");
    mem_free(&s);
    q->sync_running = false;
    if (error) {
        LOGE("syncfs", KVT("why", strerror(error)));
        sync_failed(q);
        return;
    }
    while (!list_empty(&q->syncing)) {
        struct rcpt *r = container_of(q->syncing.next, struct rcpt, link);
        list_del(&r->link);
        settle_outcome(r, VERDICT_DELIVERED, &o, SPAN_NONE);
    }
    if (!list_empty(&q->stored) || !list_empty(&q->doubted))
        timer_start(q->sync_timer, SYNC_GATHER_MS);
}

static void sync_start(struct qmgr *q)
{
    struct sync_work *s = mem_alloc(sizeof *s);
    *s = (struct sync_work){.q = q, .fd = service_resource(q->service, 0)};
    while (!list_empty(&q->stored)) {
        struct link *l = q->stored.next;
        list_del(l);
        list_add_tail(&q->syncing, l);
    }
    q->sync_running = true;
    loop_work(q->loop, sync_run, sync_done, s);
}

static void on_sync_timer(void *ctx)
{
    struct qmgr *q = ctx;
    lease_doubted(q);
    if (!q->sync_running && !list_empty(&q->stored))
        sync_start(q);
    qmgr_quiet(q);
}

static void stored(struct rcpt *r, int64_t leased_at)
{
    struct qmgr *q = r->msg->q;
    rcpt_move(r, RCPT_STORED);
    list_add_tail(&q->stored, &r->link);
    if (!q->sync_timer)
        q->sync_timer = timer_new(q->loop, on_sync_timer, q);
    if (q->doubt_at && leased_at <= q->doubt_at) /* it may have been written before that sync */
        doubted(r);
    if (!q->sync_running && !timer_running(q->sync_timer))
        timer_start(q->sync_timer, SYNC_GATHER_MS);
}

/* ---- deliveries ---- */

static void on_delivered(void *ctx, struct chan *c, enum chan_why why, const struct msg *m, int fd)
{
    struct job *j = ctx;
    (void)c;
    j->ask = 0;
    if (fd >= 0)
        close(fd);
    if (why != CHAN_ANSWERED || m->type != MSG_delivered || m->delivered.lease != j->lease) {
        job_lost(j, why == CHAN_LATE   ? "no answer in time"
                    : why == CHAN_LOST ? "the account's process has no descriptor left"
                                       : "the account's process ended");
        return;
    }
    const struct msg_delivered *d = &m->delivered;
    struct rcpt *r = j->rcpts;
    struct message *msg = j->msg;
    message_ref(msg);
    r->job = NULL;
    r->took = loop_now(msg->q->loop) - j->leased_at;
    j->said = arena_dup(&msg->arena, d->why);
    if (d->kind == OUTCOME_DONE) {
        stored(r, j->leased_at);
    } else {
        struct outcome o = outcome_make(d->kind == OUTCOME_FAILED ? OUTCOME_FAILED : OUTCOME_RETRY, 0, d->subject,
                                        d->detail, "%.*s", SPANV(d->why));
        settle_outcome(r, VERDICT_DELIVERED, &o, SPAN_NONE);
    }
    job_end(j, SCHED_REACHED);
    message_unref(msg);
}

/* RFC5321:4.4: the store writes Return-Path from the sender. */
static void deliver(struct account_worker *w, struct job *j)
{
    struct message *m = j->msg;
    struct rcpt *r = j->rcpts;
    if (!r->doubted && job_too_late(j))
        return;
    enum content c = content_ready(j);
    if (c == CONTENT_COMING)
        return;
    if (c != CONTENT_READY) {
        content_trouble(j, c);
        return;
    }
    struct qid_text qid = msg_qid(m);
    job_lease(j);
    struct msg o = {.type = MSG_deliver};
    o.deliver = (struct msg_deliver){.lease = j->lease,
                                     .rcpt = r->r.id,
                                     .qid = span_of(qid.text),
                                     .sender = rcpt_sender(r),
                                     .delivered_to = r->login,
                                     .detail = r->detail,
                                     .received = (uint64_t)m->m.received,
                                     .size = m->m.size,
                                     .header_bytes = m->m.header_bytes,
                                     .body_kind = m->m.body_kind,
                                     .prefix = m->m.prefix,
                                     .body = m->m.body};
    if (m->m.spooled)
        o.deliver.prefix = o.deliver.body = SPAN("");
    j->ask = chan_ask(w->chan, &o, m->m.spooled ? m->fd : -1, on_delivered, j);
    content_done(m);
    if (!j->ask)
        job_lost(j, "the delivery could not be written");
}

static struct account_worker *worker_get(struct qmgr *q, uint32_t account)
{
    struct account_worker *w = idmap_get(&q->workers, account);
    if (w)
        return w;
    w = mem_alloc(sizeof *w);
    w->q = q;
    w->account = account;
    w->handed = NEVER;
    list_init(&w->waiting);
    list_init(&w->gather);
    idmap_put(&q->workers, account, w);
    return w;
}

/* Forgets an account without process and work. */
static void worker_leave(struct account_worker *w)
{
    if (w->chan || w->want || !list_empty(&w->waiting))
        return;
    idmap_del(&w->q->workers, w->account);
    list_del(&w->gather);
    timer_free(&w->timer);
    mem_free(&w);
}

/* ---- gathering ---- */

static void note_start(struct qmgr *q)
{
    q->local_starts[q->local_start_at] = loop_now(q->loop);
    q->local_start_at = (q->local_start_at + 1) % LOCAL_STARTS_KEPT;
}

static bool many_come(const struct qmgr *q)
{
    return loop_now(q->loop) - q->local_starts[q->local_start_at] < MANY_MS; /* the oldest that is kept */
}

static bool more_come(const struct qmgr *q)
{
    int64_t last = q->local_starts[(q->local_start_at + LOCAL_STARTS_KEPT - 1) % LOCAL_STARTS_KEPT];
    return many_come(q) && loop_now(q->loop) - last < QUIET_MS;
}

static void on_gather_timer(void *ctx)
{
    struct qmgr *q = ctx;
    bool more = more_come(q);
    if (q->draining)
        return; /* their rows are due at the next start */
    while (!list_empty(&q->gathering)) {
        struct account_worker *w = container_of(q->gathering.next, struct account_worker, gather);
        if (more && loop_now(q->loop) - w->since < GATHER_MS) {
            timer_start(q->gather_timer, GATHER_LOOK_MS);
            return;
        }
        send_waiting(w);
    }
}

/* True: it waits for others. */
static bool gathers(struct account_worker *w)
{
    struct qmgr *q = w->q;
    if (w->count >= GATHER_COUNT)
        return false;
    if (list_linked(&w->gather))
        return true;
    if (!many_come(q) || loop_now(q->loop) - w->handed >= GATHER_MS)
        return false;
    w->since = loop_now(q->loop);
    list_add_tail(&q->gathering, &w->gather);
    if (!q->gather_timer)
        q->gather_timer = timer_new(q->loop, on_gather_timer, q);
    if (!timer_running(q->gather_timer))
        timer_start(q->gather_timer, GATHER_LOOK_MS);
    return true;
}

void local_start(struct job *j)
{
    if (!j->rcpts->doubted && terminal_takes(j))
        return;
    struct account_worker *w = worker_get(j->msg->q, j->rcpts->account);
    list_add_tail(&w->waiting, &j->link);
    w->count++;
    note_start(w->q);
    if (!gathers(w))
        send_waiting(w);
}

static struct job *next_waiting(struct account_worker *w)
{
    struct job *j = container_of(w->waiting.next, struct job, link);
    list_del(&j->link);
    w->count--;
    return j;
}

static void send_waiting(struct account_worker *w)
{
    list_del(&w->gather);
    if (!list_empty(&w->waiting))
        w->handed = loop_now(w->q->loop);
    while (w->chan && chan_is_up(w->chan) && !chan_full(w->chan) && !list_empty(&w->waiting))
        deliver(w, next_waiting(w));
    if (!list_empty(&w->waiting) && (!w->chan || !chan_is_up(w->chan)))
        want(w);
}

/* ---- having the process there ---- */

static void give_up(struct account_worker *w, struct span why)
{
    struct outcome o = outcome_make(OUTCOME_RETRY, 0, 2, 0, "the mailbox is not available: %.*s", SPANV(why));
    struct link jobs = LIST_INIT(jobs);
    w->tries = 0;
    list_del(&w->gather);
    while (!list_empty(&w->waiting))
        list_add_tail(&jobs, &next_waiting(w)->link);
    while (!list_empty(&jobs)) {
        struct job *j = container_of(jobs.next, struct job, link);
        struct rcpt *r = j->rcpts;
        struct message *m = j->msg;
        message_ref(m);
        r->job = NULL;
        j->said = arena_dup(&m->arena, span_of(o.text));
        settle_outcome(r, VERDICT_DELIVERED, &o, SPAN_NONE);
        job_end(j, SCHED_UNREACHED);
        message_unref(m);
    }
}

static void on_want_timer(void *ctx)
{
    struct account_worker *w = ctx;
    if (list_empty(&w->waiting) || (w->chan && chan_is_up(w->chan)))
        worker_leave(w);
    else
        want(w);
}

static void want_again(struct account_worker *w, int64_t ms)
{
    if (++w->tries >= WANT_TRIES) {
        give_up(w, SPAN("its process does not come up"));
        worker_leave(w);
        return;
    }
    if (!w->timer)
        w->timer = timer_new(w->q->loop, on_want_timer, w);
    timer_start(w->timer, ms);
}

static void on_want(void *ctx, struct chan *c, enum chan_why why, const struct msg *m, int fd)
{
    struct account_worker *w = ctx;
    (void)c;
    w->want = 0;
    if (fd >= 0)
        close(fd);
    if (why != CHAN_ANSWERED || m->type != MSG_mda_started) {
        want_again(w, WANT_AGAIN_MS);
    } else if (m->mda_started.kind != OUTCOME_DONE) {
        give_up(w, m->mda_started.why);
        worker_leave(w);
    } else if (!list_empty(&w->waiting) && (!w->chan || !chan_is_up(w->chan))) {
        want_again(w, END_WAIT_MS); /* mda_end is on its way */
    }
}

static void want(struct account_worker *w)
{
    struct msg m = {.type = MSG_mda_want, .mda_want = {.account = w->account}};
    if (w->want || (w->timer && timer_running(w->timer)))
        return;
    w->want = chan_ask(service_chan(w->q->service, ROLE_AUTHD, 0), &m, -1, on_want, w);
}

/* ---- its channel ---- */

static void on_mda_msg(void *ctx, struct chan *c, const struct msg *m, int fd)
{
    struct account_worker *w = ctx;
    if (fd >= 0)
        close(fd);
    accept_message(w->q, c, m);
}

static void on_mda_down(void *ctx, struct chan *c)
{
    struct account_worker *w = ctx;
    accept_peer_changed(w->q, c, true);
    w->chan = NULL;
    chan_free(&c);
    if (!list_empty(&w->waiting))
        want(w);
    worker_leave(w);
}

static void on_mda_room(void *ctx, struct chan *c)
{
    (void)c;
    send_waiting(ctx);
}

static const struct chan_ops mda_ops = {.on_msg = on_mda_msg, .on_down = on_mda_down, .on_room = on_mda_room};

void local_mda_end(struct qmgr *q, uint32_t account, int fd)
{
    struct account_worker *w = worker_get(q, account);
    if (w->chan) { /* a process that replaced another before we heard of the end */
        struct chan *old = w->chan;
        w->chan = NULL;
        accept_peer_changed(q, old, true);
        chan_free(&old);
    }
    w->tries = 0;
    if (w->timer)
        timer_stop(w->timer);
    w->chan = chan_new(q->loop, fd, ROLE_MDA, account, &mda_ops, w);
    send_waiting(w);
}

void local_init(struct qmgr *q)
{
    list_init(&q->stored);
    list_init(&q->syncing);
    list_init(&q->doubted);
    list_init(&q->gathering);
    for (size_t i = 0; i < LOCAL_STARTS_KEPT; i++)
        q->local_starts[i] = NEVER;
}

void local_free(struct qmgr *q)
{
    uint64_t key;
    void *v;
    for (size_t at = 0; idmap_next(&q->workers, &at, &key, &v); at = 0) {
        struct account_worker *w = v;
        idmap_del(&q->workers, key);
        if (w->want)
            chan_forget(service_chan(q->service, ROLE_AUTHD, 0), w->want);
        chan_free(&w->chan); /* its deliveries end: their recipients stay in the database */
        list_del(&w->gather);
        timer_free(&w->timer);
        mem_free(&w);
    }
    idmap_free(&q->workers);
    timer_free(&q->sync_timer);
    timer_free(&q->gather_timer);
}
