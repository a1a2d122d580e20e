/* The children, one for each active account: forking them with their channels, fresh pairs after a crash of authd or
 * qmgr, reaping.
 *
 * A child is RUNNING from the fork, LEAVING from the moment its control channel ended or it said so, and gone when it
 * was reaped. A fork that is asked for while the account's last child is LEAVING waits for the reaping: one process for
 * each account, ever. */
#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/outcome.h"
#include "zygote/zygote.h"

#define DRAIN_MS 5000

struct mda {
    struct zygote *z;
    uint32_t account;
    pid_t pid;
    struct chan *control; /* down: it is leaving */
    bool waits;           /* a fork was asked for meanwhile */
    uint32_t epoch, uid;
    uint64_t id;
    char *login;
};

static struct chan *authd(struct zygote *z)
{
    return service_chan(z->service, ROLE_AUTHD, 0);
}

static struct chan *qmgr(struct zygote *z)
{
    return service_chan(z->service, ROLE_QMGR, 0);
}

/* ---- what is said ---- */

static void say_started(struct zygote *z, uint32_t epoch, uint64_t id, uint32_t account, unsigned kind, const char *why)
{
    struct msg m = {.type = MSG_mda_started,
                    .mda_started = {.account = account, .kind = (uint8_t)kind, .why = span_of(why)}};
    chan_answer(authd(z), epoch, id, &m, -1);
}

static void say_gone(struct zygote *z, uint32_t account)
{
    struct msg m = {.type = MSG_mda_gone, .mda_gone = {.account = account}};
    chan_say(authd(z), &m, -1);
    chan_say(qmgr(z), &m, -1);
}

/* chan_say() duplicates the descriptor. */
static void give_end(struct chan *to, uint32_t account, int fd)
{
    struct msg m = {.type = MSG_mda_end, .mda_end = {.account = account}};
    chan_say(to, &m, fd);
    close(fd);
}

/* ---- its control channel ---- */

static void fresh_pair(struct mda *a, struct chan *peer);

/* A channel of it broke while both ends live: they get a fresh one. A dead peer gets its ends when it is back. */
static void pair_lost(struct mda *a, unsigned role)
{
    struct chan *peer = role == ROLE_AUTHD ? authd(a->z) : role == ROLE_QMGR ? qmgr(a->z) : NULL;
    if (peer && chan_is_up(peer))
        fresh_pair(a, peer);
}

static void on_control(void *ctx, struct chan *c, const struct msg *m, int fd)
{
    (void)c;
    if (fd >= 0)
        close(fd);
    if (m->type == MSG_pair_lost)
        pair_lost(ctx, m->pair_lost.role);
    else
        LOGW("unexpected-message", KVT("from", "mda"), KVT("message", msg_info((unsigned)m->type)->name));
}

static const struct chan_ops control_ops = {.on_msg = on_control};

/* ---- forking ---- */

struct pairs {
    int control[2], authd[2], qmgr[2];
};

static void close_pair(int pair[2])
{
    for (int i = 0; i < 2; i++)
        if (pair[i] >= 0)
            close(pair[i]);
}

static int make_pairs(struct pairs *p, struct err *err)
{
    *p = (struct pairs){{-1, -1}, {-1, -1}, {-1, -1}};
    if (chan_pair(p->control, err) == 0 && chan_pair(p->authd, err) == 0 && chan_pair(p->qmgr, err) == 0)
        return 0;
    close_pair(p->control);
    close_pair(p->authd);
    close_pair(p->qmgr);
    return -1;
}

static void remember(struct zygote *z, uint32_t account, pid_t pid, struct pairs *p)
{
    struct mda *a = mem_alloc(sizeof(*a));
    *a = (struct mda){.z = z, .account = account, .pid = pid};
    a->control = chan_new(service_loop(z->service), p->control[0], ROLE_MDA, account, &control_ops, a);
    idmap_put(&z->by_account, account, a);
    idmap_put(&z->by_pid, (uint64_t)pid, a);
    close(p->control[1]);
    close(p->authd[1]);
    close(p->qmgr[1]);
    give_end(authd(z), account, p->authd[0]);
    give_end(qmgr(z), account, p->qmgr[0]);
    chan_flush(qmgr(z)); /* before authd's answer can reach qmgr another way */
}

static int fork_one(struct zygote *z, uint32_t account, uint32_t uid, const char *login, struct err *err)
{
    struct pairs p;
    if (make_pairs(&p, err))
        return -1;
    pid_t pid = fork();
    if (pid == 0)
        child_run(z, (struct child){.account = account,
                                    .uid = uid,
                                    .login = login,
                                    .control_fd = p.control[1],
                                    .authd_fd = p.authd[1],
                                    .qmgr_fd = p.qmgr[1]});
    if (pid < 0) {
        close_pair(p.control);
        close_pair(p.authd);
        close_pair(p.qmgr);
        return err_errno(err, "fork");
    }
    remember(z, account, pid, &p);
    LOGD("mda-started", KVU("account", account), KVU("child", pid));
    return 0;
}

static void fork_and_say(struct zygote *z, uint32_t epoch, uint64_t id, uint32_t account, uint32_t uid,
                         const char *login)
{
    struct err err = {""};
    int rc = fork_one(z, account, uid, login, &err);
    if (rc)
        LOGE("mda-fork", KVU("account", account), KVT("why", err.text));
    say_started(z, epoch, id, account, rc ? OUTCOME_RETRY : OUTCOME_DONE, err.text);
}

/* The uid range is the kernel's to enforce too (seccomp); here it is refused with words. */
static const char *refusal(struct zygote *z, const struct msg_mda_fork *q)
{
    const struct conf *c = service_conf(z->service);
    if (service_draining(z->service))
        return "stopping";
    if (q->account == 0)
        return "no such account";
    if (service_as_root(z->service) && (q->uid < c->accounts.uid_first || q->uid > c->accounts.uid_last))
        return "the account's uid is outside of the configured range";
    return NULL;
}

static void wait_for_reaping(struct mda *a, uint32_t epoch, uint64_t id, const struct msg_mda_fork *q)
{
    if (a->waits)
        say_started(a->z, a->epoch, a->id, a->account, OUTCOME_RETRY, "asked for again");
    mem_free(&a->login);
    a->waits = true;
    a->epoch = epoch;
    a->id = id;
    a->uid = q->uid;
    a->login = mem_strndup(q->login.p, q->login.n);
}

void mdas_fork(struct zygote *z, struct chan *from, const struct msg *m)
{
    const struct msg_mda_fork *q = &m->mda_fork;
    uint32_t epoch = chan_epoch(from);
    const char *no = refusal(z, q);
    struct mda *a = idmap_get(&z->by_account, q->account);
    if (no) {
        say_started(z, epoch, m->id, q->account, OUTCOME_RETRY, no);
    } else if (a && chan_is_up(a->control)) {
        say_started(z, epoch, m->id, q->account, OUTCOME_DONE, "");
    } else if (a) {
        wait_for_reaping(a, epoch, m->id, q);
    } else {
        char *login = mem_strndup(q->login.p, q->login.n);
        fork_and_say(z, epoch, m->id, q->account, q->uid, login);
        mem_free(&login);
    }
}

/* ---- fresh pairs ---- */

static void fresh_pair(struct mda *a, struct chan *peer)
{
    int pair[2];
    struct err err;
    struct msg m = {.type = MSG_peer_end, .peer_end = {.role = (uint8_t)chan_peer(peer)}};
    if (chan_pair(pair, &err)) {
        LOGE("mda-pair", KVU("account", a->account), KVT("why", err.text));
        return;
    }
    chan_say(a->control, &m, pair[1]);
    close(pair[1]);
    give_end(peer, a->account, pair[0]);
}

void mdas_fresh_pairs(struct zygote *z, struct chan *peer)
{
    size_t at = 0;
    uint64_t account;
    void *value;
    while (idmap_next(&z->by_account, &at, &account, &value)) {
        struct mda *a = value;
        if (chan_is_up(a->control))
            fresh_pair(a, peer);
    }
}

/* ---- reaping ---- */

static void log_end(const struct mda *a, int status)
{
    if (WIFSIGNALED(status))
        LOGE("mda-died", KVU("account", a->account), KVU("child", a->pid), KVU("signal", WTERMSIG(status)));
    else if (WEXITSTATUS(status))
        LOGW("mda-failed", KVU("account", a->account), KVU("child", a->pid), KVU("status", WEXITSTATUS(status)));
    else
        LOGD("mda-left", KVU("account", a->account), KVU("child", a->pid));
}

static void forget(struct mda *a)
{
    idmap_del(&a->z->by_account, a->account);
    idmap_del(&a->z->by_pid, (uint64_t)a->pid);
    chan_free(&a->control);
    mem_free(&a->login);
    mem_free(&a);
}

static void reaped(struct mda *a, int status)
{
    struct zygote *z = a->z;
    bool waits = a->waits;
    uint32_t epoch = a->epoch, uid = a->uid, account = a->account;
    uint64_t id = a->id;
    char *login = a->login;
    a->login = NULL;
    log_end(a, status);
    forget(a);
    say_gone(z, account);
    if (waits && service_draining(z->service))
        say_started(z, epoch, id, account, OUTCOME_RETRY, "stopping");
    else if (waits)
        fork_and_say(z, epoch, id, account, uid, login);
    mem_free(&login);
}

void mdas_reap(struct zygote *z)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0 || (pid < 0 && errno == EINTR)) {
        struct mda *a = pid > 0 ? idmap_get(&z->by_pid, (uint64_t)pid) : NULL;
        if (a)
            reaped(a, status);
    }
    if (service_draining(z->service) && z->by_account.count == 0)
        service_done(z->service);
}

/* ---- the end ---- */

void mdas_drain(struct zygote *z)
{
    struct msg m = {.type = MSG_drain, .drain = {.ms = DRAIN_MS}};
    size_t at = 0;
    uint64_t account;
    void *value;
    while (idmap_next(&z->by_account, &at, &account, &value))
        chan_say(((struct mda *)value)->control, &m, -1);
    if (z->by_account.count == 0)
        service_done(z->service);
}

void mdas_free(struct zygote *z)
{
    size_t at = 0;
    uint64_t account;
    void *value;
    while (idmap_next(&z->by_account, &at, &account, &value)) {
        forget(value);
        at = 0;
    }
    idmap_free(&z->by_account);
    idmap_free(&z->by_pid);
}
