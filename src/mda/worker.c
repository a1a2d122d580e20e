/* The worker's life: its channels, when it may go, how it ends. It never leaves by itself: it asks authd, which says
 * yes when no attach is on its way. The end of its control channel means that the zygote died: then it leaves at once.
 */
#include <malloc.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/sm.h"
#include "mda/worker.h"

#define STORE_WAIT_MS 10000 /* for the account's last process to let go of the store */
#define SHRINK_MS 2000      /* without work: memory goes back */
#define END_MS 2000         /* for sessions to say goodbye */
#define LOST_MS 200
#define USAGE_MARK (UINT64_C(1) << 20)

enum { SERVING, ASKING, ENDING, ENDED };
static const struct sm_state states[] = {
    [SERVING] = {"serving", SM_TO(ASKING) | SM_TO(ENDING)},
    [ASKING] = {"asking", SM_TO(SERVING) | SM_TO(ENDING)}, /* mda_idle is with authd */
    [ENDING] = {"ending", SM_TO(ENDED)},                   /* sessions say goodbye */
    [ENDED] = {"ended", 0},
};

static void move(struct worker *w, int state)
{
    sm_move(states, COUNT_OF(states), &w->state, state);
}

/* ---- usage ---- */

static void tell_usage(struct worker *w)
{
    struct store_usage u = store_usage(w->store);
    struct msg m = {.type = MSG_usage, .usage = {.bytes = u.bytes, .messages = u.messages}};
    w->told_bytes = u.bytes;
    chan_say(w->authd, &m, -1);
}

void worker_usage(struct worker *w)
{
    uint64_t mark = w->quota ? MAX_OF(MIN_OF(USAGE_MARK, w->quota / 16), UINT64_C(1)) : USAGE_MARK;
    if (store_usage(w->store).bytes / mark != w->told_bytes / mark)
        tell_usage(w);
}

void worker_full(struct worker *w)
{
    tell_usage(w);
}

static void quota_told(struct worker *w, uint64_t bytes)
{
    bool first = !w->quota_known;
    w->quota = bytes;
    w->quota_known = true;
    if (first && w->state < ENDING) /* it may come behind the word that ends us */
        deliveries_commit(w->deliveries);
}

/* ---- ending ---- */

static void answer_evict(struct worker *w, bool done)
{
    struct msg m = {.type = MSG_mda_leave, .mda_leave = {.go = done}};
    if (w->evicted)
        chan_answer(w->authd, w->evict_epoch, w->evict_id, &m, -1);
    w->evicted = false;
}

static void end_now(struct worker *w)
{
    struct err err;
    bool done = true;
    move(w, ENDED);
    deliveries_free(&w->deliveries);
    sessions_free(&w->sessions);
    store_close(&w->store, w->clean);
    if (w->purge && store_purge(w->start->dir, &err)) {
        LOGE("purge", KVU("account", w->start->account), KVT("why", err.text));
        done = false;
    }
    answer_evict(w, done);
    chan_flush(w->authd);
    chan_flush(w->qmgr);
    loop_stop(w->loop);
}

static void end_when_quiet(struct worker *w)
{
    if (sessions_count(w->sessions) == 0)
        end_now(w);
}

static void on_ending_late(void *ctx)
{
    end_now(ctx);
}

/* Sessions say goodbye, what was leased to us is stored; then the end. */
static void end(struct worker *w, int64_t ms, const char *why)
{
    if (w->state >= ENDING)
        return;
    deliveries_commit(w->deliveries);
    move(w, ENDING);
    timer_stop(w->idle);
    sessions_bye(w->sessions, why);
    timer_start(w->ending, ms);
    end_when_quiet(w);
}

/* ---- leaving for want of work ---- */

static void may_i_go(void *ctx, struct chan *c, enum chan_why why, const struct msg *m, int fd)
{
    struct worker *w = ctx;
    (void)c;
    if (fd >= 0)
        close(fd);
    if (w->state != ASKING)
        return;
    bool go = why == CHAN_ANSWERED && m->type == MSG_mda_leave && m->mda_leave.go;
    if (go) {
        end(w, END_MS, "");
        return;
    }
    move(w, SERVING);
    worker_quiet(w);
}

static void ask_to_go(struct worker *w)
{
    struct msg m = {.type = MSG_mda_idle, .mda_idle = {.sessions = (uint32_t)sessions_count(w->sessions)}};
    move(w, ASKING);
    tell_usage(w);
    if (!chan_ask(w->authd, &m, -1, may_i_go, w))
        move(w, SERVING);
}

static void on_idle(void *ctx)
{
    struct worker *w = ctx;
    if (!w->shrunk) {
        w->shrunk = true;
        store_shrink(w->store);
        malloc_trim(0);
        worker_quiet(w);
    } else if (w->state == SERVING && sessions_count(w->sessions) == 0) {
        ask_to_go(w);
    }
}

void worker_busy(struct worker *w)
{
    w->shrunk = false;
    timer_stop(w->idle);
}

/* With sessions open there is still memory to give back; without any there is leaving to think of. */
void worker_quiet(struct worker *w)
{
    if (w->state == ENDING) {
        end_when_quiet(w);
        return;
    }
    if (w->state != SERVING || deliveries_waiting(w->deliveries))
        return;
    if (!w->shrunk)
        timer_start(w->idle, SHRINK_MS);
    else if (sessions_count(w->sessions) == 0)
        timer_start(w->idle, w->start->conf->accounts.idle_exit);
}

/* ---- what comes ---- */

static void refuse_attach(struct worker *w, const struct msg *m, int fd)
{
    struct msg answer = {.type = MSG_attached,
                         .attached = {.kind = OUTCOME_RETRY, .why = SPAN("the mailbox is closing")}};
    close(fd);
    chan_answer(w->authd, chan_epoch(w->authd), m->id, &answer, -1);
}

static void evict(struct worker *w, const struct msg *m)
{
    w->evicted = true;
    w->evict_epoch = chan_epoch(w->authd);
    w->evict_id = m->id;
    w->purge = w->purge || m->mda_evict.purge;
    end(w, END_MS, "this account is closed");
}

static void from_authd(void *ctx, struct chan *c, const struct msg *m, int fd)
{
    struct worker *w = ctx;
    (void)c;
    if (m->type == MSG_attach_mda) {
        if (w->state >= ENDING)
            refuse_attach(w, m, fd);
        else
            sessions_attach(w->sessions, m, fd);
        return;
    }
    if (fd >= 0)
        close(fd);
    if (m->type == MSG_quota)
        quota_told(w, m->quota.bytes);
    else if (m->type == MSG_mda_evict)
        evict(w, m);
    else
        LOGW("unexpected-message", KVT("from", "authd"), KVT("message", msg_info(m->type)->name));
}

/* While we end, a lease stays unanswered: our end of the channel makes it a retry. */
static void from_qmgr(void *ctx, struct chan *c, const struct msg *m, int fd)
{
    struct worker *w = ctx;
    (void)c;
    if (m->type == MSG_deliver && w->state < ENDING) {
        deliveries_add(w->deliveries, m, fd);
        return;
    }
    if (fd >= 0)
        close(fd);
    if (m->type != MSG_deliver)
        LOGW("unexpected-message", KVT("from", "qmgr"), KVT("message", msg_info(m->type)->name));
}

static void fresh_end(struct worker *w, unsigned role, int fd)
{
    if (role == ROLE_AUTHD)
        chan_connect(w->authd, fd);
    else if (role == ROLE_QMGR)
        chan_connect(w->qmgr, fd);
    else
        close(fd);
}

static void from_zygote(void *ctx, struct chan *c, const struct msg *m, int fd)
{
    struct worker *w = ctx;
    (void)c;
    if (m->type == MSG_peer_end) {
        fresh_end(w, m->peer_end.role, fd);
        return;
    }
    if (fd >= 0)
        close(fd);
    if (m->type == MSG_drain) {
        w->clean = true;
        end(w, m->drain.ms, "the server is stopping");
    }
}

/* We are out of descriptors: that peer's channel is down, until the zygote makes another pair. */
static void zygote_lost(void *ctx, struct chan *c, const struct msg *m)
{
    struct worker *w = ctx;
    (void)c;
    if (m->type == MSG_peer_end && m->peer_end.role == ROLE_AUTHD)
        chan_missed(w->authd);
    else if (m->type == MSG_peer_end && m->peer_end.role == ROLE_QMGR)
        chan_missed(w->qmgr);
}

static void zygote_down(void *ctx, struct chan *c)
{
    struct worker *w = ctx;
    (void)c;
    if (w->state == ENDED)
        return;
    if (w->state < ENDING)
        move(w, ENDING);
    end_now(w);
}

/* A fresh authd knows nothing of us: what the account uses, and that we may already be idle. */
static void authd_up(void *ctx, struct chan *c)
{
    struct worker *w = ctx;
    (void)c;
    if (w->store)
        tell_usage(w);
}

/* The zygote makes a fresh pair when the peer lives; when it died, one comes with the next. */
static void say_lost(struct worker *w, struct chan *c)
{
    struct msg m = {.type = MSG_pair_lost, .pair_lost = {.role = (uint8_t)chan_peer(c), .epoch = chan_epoch(c)}};
    if (!chan_is_up(c))
        chan_say(w->control, &m, -1);
}

static void on_lost(void *ctx)
{
    struct worker *w = ctx;
    say_lost(w, w->authd);
    say_lost(w, w->qmgr);
}

static void peer_down(void *ctx, struct chan *c)
{
    struct worker *w = ctx;
    (void)c;
    if (w->state < ENDING)
        timer_start(w->lost, LOST_MS);
}

static const struct chan_ops zygote_ops = {.on_msg = from_zygote, .on_down = zygote_down, .on_lost = zygote_lost};
static const struct chan_ops authd_ops = {.on_msg = from_authd, .on_up = authd_up, .on_down = peer_down};
static const struct chan_ops qmgr_ops = {.on_msg = from_qmgr, .on_down = peer_down};

/* ---- the whole ---- */

static int set_up(struct worker *w, struct err *err)
{
    struct store_options o = {
        .dir = w->start->dir, .boot_id = w->start->boot_id, .wait_ms = STORE_WAIT_MS, .now_ms = loop_wall(w->loop)};
    if (store_open(&w->store, &o, err))
        return -1;
    w->deliveries = deliveries_new(w, err);
    if (!w->deliveries)
        return -1;
    w->sessions = sessions_new(w);
    w->idle = timer_new(w->loop, on_idle, w);
    w->ending = timer_new(w->loop, on_ending_late, w);
    w->lost = timer_new(w->loop, on_lost, w);
    w->control = chan_new(w->loop, -1, ROLE_ZYGOTE, 0, &zygote_ops, w);
    w->authd = chan_new(w->loop, -1, ROLE_AUTHD, 0, &authd_ops, w);
    w->qmgr = chan_new(w->loop, -1, ROLE_QMGR, 0, &qmgr_ops, w);
    chan_connect(w->control, w->start->control_fd);
    chan_connect(w->authd, w->start->authd_fd);
    chan_connect(w->qmgr, w->start->qmgr_fd);
    worker_quiet(w);
    return 0;
}

static void tear_down(struct worker *w)
{
    deliveries_free(&w->deliveries);
    sessions_free(&w->sessions);
    store_close(&w->store, false);
    timer_free(&w->idle);
    timer_free(&w->ending);
    timer_free(&w->lost);
    chan_free(&w->control);
    chan_free(&w->authd);
    chan_free(&w->qmgr);
    loop_free(&w->loop);
}

int worker_run(const struct worker_start *start)
{
    struct worker w = {.start = start};
    struct err err;
    w.loop = loop_new();
    int rc = set_up(&w, &err);
    if (rc)
        LOGE("store", KVU("account", start->account), KVT("why", err.text));
    else
        loop_run(w.loop);
    tear_down(&w);
    return rc ? 1 : 0;
}
