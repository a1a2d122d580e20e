/* Worker states (what ends each in parentheses):
 *   FORKING  mda_fork is at the zygote (mda_end, or a refusal)
 *   UP       its channel is in place (it went down, or the worker was told to leave)
 *   LEAVING  told to leave, or its channel is down (mda_gone; then a new fork if somebody waits)
 * Who needs it while it isn't UP waits in the record; a fork that fails ends all of them. */
#include "authd/workers.h"

#include <stdio.h>
#include <unistd.h>

#include "authd/logins.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/sm.h"

#define WAITING_MAX 1000     /* for one account */
#define FORK_TRIES 3         /* when the zygote died meanwhile */
#define GONE_WAIT_MS 5000    /* a worker whose channel broke should be gone by then */
#define WANT_GRACE_MS 2000   /* after qmgr was told that it runs, mail is on its way */
#define USAGE_WRITE_MS 10000 /* marks of several accounts share one commit */

enum { NEW, FORKING, UP, LEAVING };
static const struct sm_state states[] = {
    [NEW] = {"new", SM_TO(FORKING) | SM_TO(UP)},
    [FORKING] = {"forking", SM_TO(FORKING) | SM_TO(UP)},
    [UP] = {"up", SM_TO(UP) | SM_TO(LEAVING) | SM_TO(FORKING)},
    [LEAVING] = {"leaving", SM_TO(FORKING) | SM_TO(UP)},
};

struct worker {
    struct workers *all;
    uint32_t account;
    int state;
    struct chan *chan;  /* NULL before the first mda_end */
    struct timer *late; /* in LEAVING: mda_gone does not come */
    struct link waiting;
    unsigned waiting_n;
    unsigned on_the_way; /* attaches sent, not yet answered */
    unsigned tries;
    uint64_t fork_ask; /* 0: none open */
    int64_t wanted;    /* when qmgr was told last */
};

struct workers {
    struct authd *authd;
    struct idmap by_account;
    struct idmap usage; /* account → struct account_usage, not yet written */
    struct timer *write;
};

/* Somebody who needs the worker. `up` sends him on, `no` ends him; either takes the waiter over. */
struct waiter {
    struct link link;
    struct workers *all;
    uint32_t account;
    void (*up)(struct waiter *t, struct worker *w);
    void (*no)(struct waiter *t, enum outcome_kind kind, const char *why);
    struct reply_to to;
    int fd;
    uint8_t protocol, tls;
    bool purge;
    workers_evicted_fn *evicted;
    void *ctx;
    size_t early_n;
    char login[ACCOUNT_LOGIN_MAX + 1];
    char tag[257], remote[65];
    char early[];
};

static void fork_it(struct worker *w);
static const struct chan_ops worker_ops;

/* ---- records ---- */

static void leaves_late(void *ctx)
{
    struct worker *w = ctx;
    LOGW("mda-not-gone", KVU("account", w->account));
    if (!list_empty(&w->waiting))
        fork_it(w);
}

static struct worker *worker_of(struct workers *all, uint32_t account)
{
    struct worker *w = idmap_get(&all->by_account, account);
    if (w)
        return w;
    w = mem_alloc(sizeof(*w));
    w->all = all;
    w->account = account;
    w->late = timer_new(service_loop(all->authd->service), leaves_late, w);
    list_init(&w->waiting);
    idmap_put(&all->by_account, account, w);
    return w;
}

static struct chan *zygote(struct workers *all)
{
    return service_chan(all->authd->service, ROLE_ZYGOTE, 0);
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void waiter_free(struct waiter **t)
{
    close_fd(&(*t)->fd);
    mem_free(t);
}

static struct waiter *take_waiter(struct worker *w)
{
    struct waiter *t = container_of(w->waiting.next, struct waiter, link);
    list_del(&t->link);
    w->waiting_n--;
    return t;
}

/* The record goes, and whoever waited hears why. */
static void worker_drop(struct worker *w, enum outcome_kind kind, const char *why)
{
    idmap_del(&w->all->by_account, w->account);
    if (w->fork_ask)
        chan_forget(zygote(w->all), w->fork_ask);
    while (!list_empty(&w->waiting)) {
        struct waiter *t = take_waiter(w);
        t->no(t, kind, why);
    }
    timer_free(&w->late);
    chan_free(&w->chan);
    mem_free(&w);
}

static void now_up(struct worker *w)
{
    sm_move(states, COUNT_OF(states), &w->state, UP);
    timer_stop(w->late);
    w->tries = 0;
    while (w->state == UP && !list_empty(&w->waiting)) {
        struct waiter *t = take_waiter(w);
        t->up(t, w);
    }
}

/* ---- forking ---- */

static void fork_answered(void *ctx, struct chan *c, enum chan_why why, const struct msg *m, int fd)
{
    struct worker *w = ctx;
    (void)c;
    close_fd(&fd);
    w->fork_ask = 0;
    if (w->state != FORKING) /* mda_end came before the answer */
        return;
    if (why == CHAN_GONE && w->tries < FORK_TRIES) {
        fork_it(w);
        return;
    }
    char text[IPC_TEXT_MAX + 1] = "the account's process does not start";
    if (why == CHAN_ANSWERED && m->type == MSG_mda_started && m->mda_started.why.n)
        snprintf(text, sizeof(text), "%.*s", SPANV(m->mda_started.why));
    LOGE("mda-not-started", KVU("account", w->account), KVT("why", text));
    worker_drop(w, OUTCOME_RETRY, text);
}

static void fork_it(struct worker *w)
{
    struct account a;
    struct err err;
    struct msg m = {.type = MSG_mda_fork};
    sm_move(states, COUNT_OF(states), &w->state, FORKING);
    timer_stop(w->late);
    w->tries++;
    enum dir_result got = directory_account_get(w->all->authd->directory, w->account, &a, &err);
    if (got || a.state == ACCOUNT_PURGED) {
        worker_drop(w, got == DIR_FAILED ? OUTCOME_RETRY : OUTCOME_FAILED,
                    got == DIR_FAILED ? err.text : "no such account");
        return;
    }
    m.mda_fork = (struct msg_mda_fork){.account = a.id, .uid = a.uid, .login = span_of(a.login)};
    w->fork_ask = chan_ask(zygote(w->all), &m, -1, fork_answered, w);
    if (!w->fork_ask)
        worker_drop(w, OUTCOME_FAILED, "the account's name is too long");
}

/* The waiter is served now or when the worker is up. */
static void need(struct workers *all, struct waiter *t)
{
    struct worker *w = worker_of(all, t->account);
    if (w->state == UP) {
        t->up(t, w);
        return;
    }
    if (w->waiting_n >= WAITING_MAX) {
        t->no(t, OUTCOME_RETRY, "too many wait for this account");
        return;
    }
    list_add_tail(&w->waiting, &t->link);
    w->waiting_n++;
    /* Without its timer a leaving worker is overdue. */
    if (w->state == NEW || (w->state == LEAVING && !timer_running(w->late)))
        fork_it(w);
}

static void tell_quota(struct worker *w)
{
    struct account a;
    struct err err;
    struct msg m = {.type = MSG_quota};
    if (!w->chan || directory_account_get(w->all->authd->directory, w->account, &a, &err))
        return;
    m.quota.bytes = directory_account_quota(w->all->authd->directory, &a);
    chan_say(w->chan, &m, -1);
}

void workers_quotas(struct workers *all)
{
    uint64_t account;
    void *value;
    for (size_t at = 0; idmap_next(&all->by_account, &at, &account, &value);)
        tell_quota(value);
}

void workers_end(struct workers *all, uint32_t account, int fd)
{
    struct worker *w = worker_of(all, account);
    if (w->chan)
        chan_connect(w->chan, fd);
    else
        w->chan = chan_new(service_loop(all->authd->service), fd, ROLE_MDA, account, &worker_ops, w);
    tell_quota(w);
    now_up(w);
}

void workers_gone(struct workers *all, uint32_t account)
{
    struct worker *w = idmap_get(&all->by_account, account);
    if (!w || w->state == FORKING) /* the one before it */
        return;
    /* Ends what is on its way to it; those waiters only hear, none is added. */
    chan_free(&w->chan);
    if (list_empty(&w->waiting)) {
        worker_drop(w, OUTCOME_RETRY, "");
        return;
    }
    fork_it(w);
}

void workers_zygote_down(struct workers *all)
{
    uint64_t account;
    void *value;
    size_t at = 0, n = 0;
    /* Its children leave with it. Dropping changes the map, so they are gathered first. */
    struct worker **list = mem_array(all->by_account.count + 1, sizeof(struct worker *));
    while (idmap_next(&all->by_account, &at, &account, &value))
        if (((struct worker *)value)->state != FORKING)
            list[n++] = value;
    for (size_t i = 0; i < n; i++)
        workers_gone(all, list[i]->account);
    mem_free(&list);
}

/* ---- its channel ---- */

static void leave(struct worker *w)
{
    sm_move(states, COUNT_OF(states), &w->state, LEAVING);
    timer_start(w->late, GONE_WAIT_MS);
}

static void worker_down(void *ctx, struct chan *c)
{
    struct worker *w = ctx;
    (void)c;
    if (w->state == UP)
        leave(w);
}

/* It may go when nobody is on his way to it: after this answer everyone waits for the next one. One that was told so
 * and asks again had given up waiting for that answer: it is still there. */
static void may_it_leave(struct worker *w, struct chan *c, const struct msg *m)
{
    struct reply_to to = reply_to(c, m);
    struct msg answer = {.type = MSG_mda_leave};
    if (w->state == LEAVING)
        now_up(w);
    bool mail_comes = w->wanted && loop_now(service_loop(w->all->authd->service)) - w->wanted < WANT_GRACE_MS;
    answer.mda_leave.go =
        w->state == UP && m->mda_idle.sessions == 0 && w->on_the_way == 0 && list_empty(&w->waiting) && !mail_comes;
    reply(&to, &answer);
    if (answer.mda_leave.go)
        leave(w);
}

static void usage_write(void *ctx)
{
    struct workers *all = ctx;
    struct account_usage *list = mem_array(all->usage.count + 1, sizeof(*list));
    struct err err;
    size_t at = 0, n = 0;
    uint64_t account;
    void *value;
    while (idmap_next(&all->usage, &at, &account, &value)) {
        list[n++] = *(struct account_usage *)value;
        mem_free(&value);
    }
    idmap_free(&all->usage);
    if (n && directory_usage(all->authd->directory, list, n, &err))
        LOGW("usage-not-written", KVT("why", err.text));
    mem_free(&list);
}

static void usage_told(struct worker *w, const struct msg_usage *u)
{
    struct account_usage *there = idmap_get(&w->all->usage, w->account);
    if (!there) {
        there = mem_alloc(sizeof(*there));
        idmap_put(&w->all->usage, w->account, there);
    }
    *there = (struct account_usage){w->account, u->bytes, u->messages};
    if (!timer_running(w->all->write))
        timer_start(w->all->write, USAGE_WRITE_MS);
}

static void worker_says(void *ctx, struct chan *c, const struct msg *m, int fd)
{
    struct worker *w = ctx;
    close_fd(&fd);
    if (m->type == MSG_mda_idle)
        may_it_leave(w, c, m);
    else if (m->type == MSG_usage)
        usage_told(w, &m->usage);
    else
        LOGW("unexpected-message", KVT("from", "mda"), KVT("message", msg_info((unsigned)m->type)->name));
}

static const struct chan_ops worker_ops = {.on_msg = worker_says, .on_down = worker_down};

/* ---- attach ---- */

static void say_attached(const struct reply_to *to, enum outcome_kind kind, const char *why)
{
    struct msg m = {.type = MSG_attached};
    m.attached = (struct msg_attached){.kind = (uint8_t)kind, .why = span_of(why)};
    reply(to, &m);
}

static void attach_no(struct waiter *t, enum outcome_kind kind, const char *why)
{
    say_attached(&t->to, kind, why);
    waiter_free(&t);
}

static void attach_answered(void *ctx, struct chan *c, enum chan_why why, const struct msg *m, int fd)
{
    struct waiter *t = ctx;
    struct worker *w = idmap_get(&t->all->by_account, t->account);
    (void)c;
    close_fd(&fd);
    if (w && w->on_the_way)
        w->on_the_way--;
    if (why != CHAN_ANSWERED || m->type != MSG_attached) {
        attach_no(t, OUTCOME_RETRY, "the mailbox is not available now");
        return;
    }
    struct msg answer = {.type = MSG_attached, .attached = m->attached};
    reply(&t->to, &answer);
    waiter_free(&t);
}

static void attach_up(struct waiter *t, struct worker *w)
{
    struct msg m = {.type = MSG_attach_mda};
    m.attach_mda = (struct msg_attach_mda){.protocol = t->protocol,
                                           .login = span_of(t->login),
                                           .tag = span_of(t->tag),
                                           .remote = span_of(t->remote),
                                           .tls = t->tls,
                                           .early = {t->early, t->early_n}};
    if (chan_full(w->chan) || !chan_ask(w->chan, &m, t->fd, attach_answered, t)) {
        attach_no(t, OUTCOME_RETRY, "the mailbox is busy");
        return;
    }
    w->on_the_way++;
    close_fd(&t->fd); /* the channel has its own by now */
}

static void copy_text(char *to, size_t size, struct span s)
{
    size_t n = MIN_OF(s.n, size - 1);
    if (n)
        memcpy(to, s.p, n);
    to[n] = 0;
}

void workers_attach(struct workers *all, struct chan *from, const struct msg *m, int fd)
{
    const struct msg_attach *q = &m->attach;
    struct account a;
    struct err err;
    struct reply_to to = reply_to(from, m);
    uint32_t account = logins_account(all->authd->logins, chan_peer(from), chan_instance(from), q->session);
    enum dir_result got = account ? directory_account_get(all->authd->directory, account, &a, &err) : DIR_MISSING;
    if (got || a.state != ACCOUNT_ENABLED) {
        say_attached(&to, got == DIR_FAILED ? OUTCOME_RETRY : OUTCOME_FAILED, "not logged in");
        close_fd(&fd);
        return;
    }
    struct waiter *t = mem_alloc(sizeof(*t) + q->early.n);
    *t = (struct waiter){.all = all,
                         .account = account,
                         .up = attach_up,
                         .no = attach_no,
                         .to = to,
                         .fd = fd,
                         .protocol = q->protocol,
                         .tls = q->tls,
                         .early_n = q->early.n};
    copy_text(t->login, sizeof(t->login), span_of(a.login));
    copy_text(t->tag, sizeof(t->tag), q->tag);
    copy_text(t->remote, sizeof(t->remote), q->remote);
    if (q->early.n)
        memcpy(t->early, q->early.p, q->early.n);
    /* The proof is used up: one login, one stream. */
    logins_forget(all->authd->logins, from, q->session);
    need(all, t);
}

/* ---- want ---- */

static void say_started(const struct reply_to *to, uint32_t account, enum outcome_kind kind, const char *why)
{
    struct msg m = {.type = MSG_mda_started};
    m.mda_started = (struct msg_mda_started){.account = account, .kind = (uint8_t)kind, .why = span_of(why)};
    reply(to, &m);
}

static void want_up(struct waiter *t, struct worker *w)
{
    w->wanted = loop_now(service_loop(t->all->authd->service));
    say_started(&t->to, t->account, OUTCOME_DONE, "");
    waiter_free(&t);
}

static void want_no(struct waiter *t, enum outcome_kind kind, const char *why)
{
    say_started(&t->to, t->account, kind, why);
    waiter_free(&t);
}

void workers_want(struct workers *all, struct chan *from, const struct msg *m)
{
    struct reply_to to = reply_to(from, m);
    uint32_t account = m->mda_want.account;
    struct account a;
    struct err err;
    enum dir_result got = directory_account_get(all->authd->directory, account, &a, &err);
    if (got || a.state != ACCOUNT_ENABLED) {
        say_started(&to, account, got == DIR_FAILED ? OUTCOME_RETRY : OUTCOME_FAILED,
                    got == DIR_FAILED ? "the directory is not available" : "the mailbox is disabled or gone");
        return;
    }
    struct waiter *t = mem_alloc(sizeof(*t));
    *t = (struct waiter){.all = all, .account = account, .up = want_up, .no = want_no, .to = to, .fd = -1};
    need(all, t);
}

/* ---- evict ---- */

static void evict_no(struct waiter *t, enum outcome_kind kind, const char *why)
{
    (void)kind;
    LOGW("evict", KVU("account", t->account), KVT("why", why));
    t->evicted(t->ctx, false);
    waiter_free(&t);
}

static void evict_answered(void *ctx, struct chan *c, enum chan_why why, const struct msg *m, int fd)
{
    struct waiter *t = ctx;
    (void)c;
    close_fd(&fd);
    bool left = why == CHAN_ANSWERED && m->type == MSG_mda_leave && m->mda_leave.go;
    struct worker *w = idmap_get(&t->all->by_account, t->account);
    if (left && w && w->state == UP)
        leave(w);
    /* One that died had its sessions end with it; whether it deleted everything it can't say any more. */
    t->evicted(t->ctx, left || (why == CHAN_GONE && !t->purge));
    waiter_free(&t);
}

static void evict_up(struct waiter *t, struct worker *w)
{
    struct msg m = {.type = MSG_mda_evict};
    m.mda_evict.purge = t->purge;
    if (!chan_ask(w->chan, &m, -1, evict_answered, t))
        evict_no(t, OUTCOME_RETRY, "not sent");
}

void workers_evict(struct workers *all, uint32_t account, bool purge, workers_evicted_fn *fn, void *ctx)
{
    if (!purge && !idmap_get(&all->by_account, account)) {
        fn(ctx, true);
        return;
    }
    struct waiter *t = mem_alloc(sizeof(*t));
    *t = (struct waiter){.all = all,
                         .account = account,
                         .up = evict_up,
                         .no = evict_no,
                         .fd = -1,
                         .purge = purge,
                         .evicted = fn,
                         .ctx = ctx};
    need(all, t);
}

/* ---- life ---- */

size_t workers_count(const struct workers *all)
{
    return all->by_account.count;
}

struct workers *workers_new(struct authd *a)
{
    struct workers *all = mem_alloc(sizeof(*all));
    all->authd = a;
    all->write = timer_new(service_loop(a->service), usage_write, all);
    return all;
}

void workers_free(struct workers **wp)
{
    struct workers *all = *wp;
    uint64_t account;
    void *value;
    size_t at = 0;
    if (!all)
        return;
    while (idmap_next(&all->by_account, &at, &account, &value)) {
        worker_drop(value, OUTCOME_RETRY, "stopping");
        at = 0;
    }
    usage_write(all);
    idmap_free(&all->by_account);
    timer_free(&all->write);
    mem_free(wp);
}
