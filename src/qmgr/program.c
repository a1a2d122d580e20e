/* The program: start, messages from its peers, reload, drain. */
#include <stdio.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "db/db.h"
#include "mail/words.h"
#include "qmgr/dests.h"
#include "qmgr/question.h"
#include "qmgr/route.h"

#define LOCAL_WINDOW_FIRST 64
#define LOCAL_WINDOW_MAX 256
#define LOCAL_TOTAL_MAX 4096
#define LOCAL_DOWN_MIN_MS 5000
#define REMOTE_WINDOW_FIRST 5

int64_t qmgr_wall(const struct qmgr *q)
{
    return loop_wall(q->loop);
}

uint64_t qmgr_random(struct qmgr *q)
{
    uint64_t x = q->random; /* xorshift64: for jitter only */
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return q->random = x;
}

static struct sched_limits limits_from(const struct conf *c)
{
    return (struct sched_limits){
        .window_first = {[SCHED_LOCAL] = LOCAL_WINDOW_FIRST, [SCHED_REMOTE] = REMOTE_WINDOW_FIRST},
        .window_max = {[SCHED_LOCAL] = LOCAL_WINDOW_MAX, [SCHED_REMOTE] = c->queue.destination_concurrency},
        .total_max = {[SCHED_LOCAL] = LOCAL_TOTAL_MAX, [SCHED_REMOTE] = c->relay.concurrency},
        .queue_max = MAX_OF(c->queue.max_active / 2, 1u), /* the rest: on their way in and out */
        .down_min = {[SCHED_LOCAL] = LOCAL_DOWN_MIN_MS, [SCHED_REMOTE] = c->queue.retry_min},
        .down_max = {[SCHED_LOCAL] = c->queue.retry_min, [SCHED_REMOTE] = c->queue.retry_max},
    };
}

void qmgr_configure(struct qmgr *q)
{
    const struct conf *c = service_conf(q->service);
    struct sched_limits limits = limits_from(c);
    q->conf = c;
    q->times = (struct retry_times){.first = c->queue.retry_min,
                                    .longest = MAX_OF(c->queue.retry_min, c->queue.retry_max),
                                    .expire = c->queue.expire,
                                    .notice_expire = c->queue.bounce_expire};
    q->sched.rule = policy_rule;
    q->sched.rule_ctx = q;
    sched_limit(&q->sched, &limits, qmgr_wall(q));
    queue_set_commit_wait(q->queue, c->queue.commit_wait);
    events_configure(q);
    limits_configure(q);
}

static int open_queue(struct qmgr *q, struct err *err)
{
    const struct conf *c = service_conf(q->service);
    char dir[4096];
    if ((size_t)snprintf(dir, sizeof dir, "%s/queue", c->state) >= sizeof dir)
        return err_set(err, "state: the path is too long");
    struct queue_options o = {.dir = dir, .commit_wait_ms = c->queue.commit_wait, .now_ms = qmgr_wall(q)};
    q->dir = mem_strdup(dir);
    if (queue_open(&q->queue, q->loop, &o, err))
        return -1;
    return queue_reader_open(&q->refill_reader, dir, err) || queue_reader_open(&q->content_reader, dir, err) ||
                   queue_reader_open(&q->operator_reader, dir, err) || events_open(q, dir, err) ||
                   limits_open(q, dir, err)
               ? -1
               : 0;
}

static void close_queue(struct qmgr *q)
{
    queue_close(&q->queue);
    limits_free(q);
    queue_reader_close(&q->refill_reader);
    queue_reader_close(&q->content_reader);
    queue_reader_close(&q->operator_reader);
    history_close(&q->history);
    buf_free(&q->routing);
    mem_free(&q->dir);
}

static void init_state(struct qmgr *q)
{
    struct sched_limits limits = limits_from(service_conf(q->service));
    if (getrandom(&q->random, sizeof q->random, 0) != (ssize_t)sizeof q->random || q->random == 0)
        q->random = (uint64_t)clock_wall() | 1;
    /* Never one that an earlier qmgr gave out, so that its report is recognised as stale. */
    q->next_lease = (uint64_t)clock_wall() * 1000000;
    sched_init(&q->sched, &limits, qmgr_wall(q));
    rates_init(&q->rates, loop_now(q->loop));
    list_init(&q->sender_list);
    turns_init(&q->picked);
    list_init(&q->leased);
    local_init(q);
    list_init(&q->loads);
    list_init(&q->settling);
    list_init(&q->unsettled);
    list_init(&q->notices);
    list_init(&q->pulls);
    q->next_pull = q->next_lease;
}

/* Threads are started here, inside the sandbox: it holds for those that come after it. */
static int warm(struct service *s, struct err *err)
{
    (void)s;
    words_warm(); /* subjects, in notices */
    return db_warm(err);
}

static int start(struct service *s, struct err *err)
{
    struct qmgr *q = service_state(s);
    q->service = s;
    q->loop = service_loop(s);
    init_state(q);
    if (open_queue(q, err) || dests_load(q, err)) {
        close_queue(q);
        return -1;
    }
    qmgr_configure(q);
    dests_init(q);
    door_init(q);
    pump_init(q);
    settle_init(q);
    refill_init(q);
    operator_init(q);
    route_started(q);
    limits_begin(q);
    refill_soon(q);
    operator_release_freed(q);
    return 0;
}

static void on_msg(struct service *s, struct chan *from, const struct msg *m, int fd)
{
    struct qmgr *q = service_state(s);
    switch (m->type) {
    case MSG_mda_end:
        local_mda_end(q, m->mda_end.account, fd);
        break;
    case MSG_mda_gone: /* its channel says the same */
        break;
    case MSG_turn_ask:
        pull_begin(q, from, m, fd);
        break;
    case MSG_reversed_over:
        pull_over(q, m->reversed_over.pull);
        break;
    case MSG_rcpt_report:
    case MSG_attempt_report:
        remote_report(q, m);
        break;
    default:
        accept_message(q, from, m);
    }
}

/* Down, or straight from one pair to the next. */
static void peer_changed(struct service *s, struct chan *c)
{
    struct qmgr *q = service_state(s);
    pull_peer_changed(q, c);
    switch (chan_peer(c)) {
    case ROLE_MX:
    case ROLE_SUBMISSION:
    case ROLE_LOCAL:
        accept_peer_changed(q, c, false);
        break;
    case ROLE_RELAY:
        remote_changed(q);
        break;
    default:
        break;
    }
    pump_soon(q);
}

static void on_room(struct service *s, struct chan *c)
{
    (void)c;
    pump_soon(service_state(s));
}

static void on_admin(struct service *s, int fd, uint32_t uid)
{
    struct qmgr *q = service_state(s);
    admin_accept(q->admin, fd, uid);
}

static void reloaded(struct service *s)
{
    struct qmgr *q = service_state(s);
    qmgr_configure(q);
    route_changed(q);
    operator_release_freed(q);
    pump_soon(q);
}

/* In flight are commits that somebody waits for, attempts, and what is being recorded. The rest is on disk. */
void qmgr_quiet(struct qmgr *q)
{
    if (q->draining && !q->stopping && q->accepting == 0 && list_empty(&q->leased) && q->settles == 0 &&
        list_empty(&q->stored) && list_empty(&q->doubted) && !q->sync_running && list_empty(&q->settling) && !q->load_running &&
        !refill_running(q) && !operator_running(q) && !limits_busy(q))
        service_done(q->service);
}

static void drain(struct service *s)
{
    struct qmgr *q = service_state(s);
    q->draining = true;
    qmgr_quiet(q);
}

static void stop(struct service *s)
{
    struct qmgr *q = service_state(s);
    q->draining = true;
    loop_end_works(q->loop); /* the drain may have been cut short while threads read and write with what is closed here */
    q->stopping = true;
    pulls_free(q);
    operator_free(q);
    questions_free(q);
    accept_free(q);
    door_free(q);
    close_queue(q); /* calls everybody who waits for it */
    local_free(q);
    refill_free(q);
    settle_free(q);
    active_free(q);
    dests_free(q);
    pump_free(q);
}

const struct service_def qmgr_program = {
    .role = ROLE_QMGR,
    .name = "qmgr",
    .warm = warm,
    .start = start,
    .on_msg = on_msg,
    .on_up = peer_changed,
    .on_down = peer_changed,
    .on_room = on_room,
    .on_admin = on_admin,
    .reloaded = reloaded,
    .drain = drain,
    .stop = stop,
};
