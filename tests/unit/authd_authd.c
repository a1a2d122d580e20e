/* authd/: logins, attaching to workers, their coming and going, with the peers played by this test over real channels.
 * Every case of the protocol where somebody dies or comes too late. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "authd/authd.h"
#include "authd/hasher.h"
#include "authd/logins.h"
#include "authd/workers.h"
#include "base/clock.h"

/* ---- what stands in for service/ ---- */

struct service {
    struct loop *loop;
    const struct conf *conf;
    struct chan *zygote, *tallyd;
};
static struct service service;

struct loop *service_loop(struct service *s)
{
    return s->loop;
}
void service_done(struct service *s)
{
    (void)s;
    cr_assert_fail("nobody drains here");
}
const struct conf *service_conf(struct service *s)
{
    return s->conf;
}
struct chan *service_chan(struct service *s, enum role peer, uint32_t instance)
{
    cr_assert((peer == ROLE_ZYGOTE || peer == ROLE_TALLYD) && instance == 0);
    return peer == ROLE_ZYGOTE ? s->zygote : s->tallyd;
}

/* ---- the stage ---- */

static struct authd authd = {.service = &service};
static struct chan *imapd, *submission, *qmgr;
static int zygote_fd, imapd_fd, submission_fd, qmgr_fd, mda_fd = -1; /* the peers' ends */
static char dir[64];
static struct err err;
static struct account alice;
static struct buf frame;
static struct msg got;
static int got_fd;

static void on_msg(void *ctx, struct chan *c, const struct msg *m, int fd)
{
    authd_message(ctx, c, m, fd);
}
static void on_change(void *ctx, struct chan *c)
{
    authd_peer_changed(ctx, c);
}
static const struct chan_ops ops = {.on_msg = on_msg, .on_down = on_change, .on_up = on_change};

static int fresh(struct chan *c)
{
    int fds[2];
    cr_assert_eq(chan_pair(fds, &err), 0);
    chan_connect(c, fds[0]);
    return fds[1];
}

static struct chan *peer(enum role role, int *fd)
{
    struct chan *c = chan_new(service.loop, -1, role, 0, &ops, &authd);
    *fd = fresh(c);
    return c;
}

static struct conf *conf;

static void stop_loop(void *ctx)
{
    loop_stop(ctx);
}

static void pump(int ms)
{
    struct timer *t = timer_new(service.loop, stop_loop, service.loop);
    timer_start(t, ms);
    loop_run(service.loop);
    timer_free(&t);
}

static bool readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) > 0;
}

/* The next message authd sends there. */
static void expect(int fd, enum msg_type type)
{
    for (int i = 0; i < 300 && !readable(fd); i++)
        pump(10);
    cr_assert(readable(fd), "nothing came, %s expected", msg_info(type)->name);
    cr_assert_eq(chan_recv_now(fd, ROLE_AUTHD, &frame, &got, &got_fd, &err), 1, "%s", err.text);
    cr_assert_eq((int)got.type, (int)type, "%s instead of %s", msg_info(got.type)->name, msg_info(type)->name);
}

/* A fresh mda hears its quota first. */
static void expect_quota(uint64_t bytes)
{
    expect(mda_fd, MSG_quota);
    cr_assert_eq(got.quota.bytes, bytes);
}

static void expect_nothing(int fd)
{
    pump(30);
    cr_assert(!readable(fd));
}

static void tell(int fd, struct msg m, int pass)
{
    cr_assert_eq(chan_send_now(fd, &m, pass, &err), 0, "%s", err.text);
    pump(5);
}

static void answer(int fd, struct msg m)
{
    m.id = got.id;
    m.answer = true;
    tell(fd, m, -1);
}

static struct account add(const char *address, const char *password)
{
    char hash[PASSWORD_HASH_MAX];
    struct account a;
    cr_assert_eq(password_hash(span_of(password), hash, &err), 0);
    cr_assert_eq(directory_account_add(authd.directory, span_of(address), hash, 1, &a, &err), DIR_OK);
    return a;
}

static void set_up(void)
{
    struct directory_options o = {.uid_first = 200000, .uid_last = 299999, .hostname = SPAN("mx.example.test")};
    snprintf(dir, sizeof(dir), "/tmp/waypost-authd-XXXXXX");
    cr_assert(mkdtemp(dir));
    cr_assert_eq(password_init(&err), 0);
    cr_assert_eq(directory_open(&authd.directory, dir, &o, &err), 0);
    cr_assert_eq(directory_domain_add(authd.directory, SPAN("example.test"), &err), DIR_OK);
    alice = add("alice@example.test", "secret");
    service.loop = loop_new();
    conf = conf_new(1);
    conf->accounts.scram = true;
    service.conf = conf;
    service.zygote = peer(ROLE_ZYGOTE, &zygote_fd);
    authd.hasher = hasher_new(service.loop);
    authd.logins = logins_new(&authd);
    authd.workers = workers_new(&authd);
    imapd = peer(ROLE_IMAPD, &imapd_fd);
    submission = peer(ROLE_SUBMISSION, &submission_fd);
    qmgr = peer(ROLE_QMGR, &qmgr_fd);
}

static void tear_down(void)
{
    char cmd[128];
    workers_free(&authd.workers);
    logins_free(&authd.logins);
    hasher_free(&authd.hasher);
    directory_close(&authd.directory);
    chan_free(&service.zygote);
    chan_free(&imapd);
    chan_free(&submission);
    chan_free(&qmgr);
    pump(50);
    loop_free(&service.loop);
    conf_unref(&service.conf);
    buf_free(&frame);
    snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
    cr_assert_eq(system(cmd), 0);
}

TestSuite(authd, .init = set_up, .fini = tear_down, .timeout = 60);

static uint64_t next_id = 100;

static void ask_login(int fd, uint64_t session, const char *mechanism, struct span initial)
{
    struct msg m = {.type = MSG_auth_begin, .id = ++next_id};
    m.auth_begin = (struct msg_auth_begin){.session = session,
                                           .protocol = CONF_PROTOCOL_IMAP,
                                           .mechanism = span_of(mechanism),
                                           .remote = SPAN("192.0.2.1"),
                                           .tls = 1,
                                           .has_initial = initial.p != NULL,
                                           .initial = initial};
    tell(fd, m, -1);
}

static void login(int fd, uint64_t session)
{
    ask_login(fd, session, "PLAIN", SPAN("\0Alice@Example.test\0secret"));
    expect(fd, MSG_auth_result);
    cr_assert_eq(got.auth_result.kind, 2);
    cr_assert(span_eqs(got.auth_result.login, "alice@example.test"));
}

/* Without a turn of the loop: what has to wait, waits. Its password is wrong, or nobody's. */
static void begin_from(const char *remote, uint64_t session)
{
    struct msg m = {.type = MSG_auth_begin, .id = ++next_id};
    m.auth_begin = (struct msg_auth_begin){.session = session,
                                           .protocol = CONF_PROTOCOL_IMAP,
                                           .mechanism = SPAN("SCRAM-SHA-256"),
                                           .remote = span_of(remote),
                                           .tls = 1,
                                           .has_initial = 1,
                                           .initial = SPAN("n,,n=alice@example.test,r=abc")};
    logins_begin(authd.logins, imapd, &m);
}

static uint64_t attach(uint64_t session)
{
    struct msg m = {.type = MSG_attach, .id = ++next_id};
    int fds[2];
    m.attach = (struct msg_attach){.session = session,
                                   .protocol = CONF_PROTOCOL_IMAP,
                                   .tag = SPAN("a1"),
                                   .remote = SPAN("192.0.2.1"),
                                   .tls = 1,
                                   .early = SPAN("a2 NOOP\r\n")};
    cr_assert_eq(pipe(fds), 0);
    tell(imapd_fd, m, fds[0]);
    close(fds[0]);
    close(fds[1]);
    return m.id;
}

/* The zygote forks: both ends go out, then the answer. */
static void fork_one(void)
{
    int fds[2];
    expect(zygote_fd, MSG_mda_fork);
    cr_assert_eq(got.mda_fork.account, alice.id);
    cr_assert_eq(got.mda_fork.uid, alice.uid);
    struct msg end = {.type = MSG_mda_end, .mda_end = {.account = alice.id}};
    struct msg started = {.type = MSG_mda_started, .mda_started = {.account = alice.id, .kind = 2}};
    cr_assert_eq(chan_pair(fds, &err), 0);
    tell(zygote_fd, end, fds[0]);
    answer(zygote_fd, started);
    close(fds[0]);
    if (mda_fd >= 0)
        close(mda_fd);
    mda_fd = fds[1];
    expect_quota(0);
}

static void mda_gone(void)
{
    if (mda_fd >= 0)
        close(mda_fd);
    mda_fd = -1;
    pump(5);
    tell(zygote_fd, (struct msg){.type = MSG_mda_gone, .mda_gone = {.account = alice.id}}, -1);
}

static void mda_takes_it(void)
{
    expect(mda_fd, MSG_attach_mda);
    cr_assert(span_eqs(got.attach_mda.login, "alice@example.test") && span_eqs(got.attach_mda.tag, "a1"));
    cr_assert(span_eqs(got.attach_mda.early, "a2 NOOP\r\n"));
    cr_assert_geq(got_fd, 0);
    close(got_fd);
    answer(mda_fd, (struct msg){.type = MSG_attached, .attached = {.kind = 2}});
}

static void expect_attached(uint64_t id, unsigned kind)
{
    expect(imapd_fd, MSG_attached);
    cr_assert_eq(got.id, id);
    cr_assert_eq(got.attached.kind, kind, "kind %u: %.*s", got.attached.kind, SPANV(got.attached.why));
}

static bool idle(void)
{
    tell(mda_fd, (struct msg){.type = MSG_mda_idle, .id = ++next_id}, -1);
    expect(mda_fd, MSG_mda_leave);
    return got.mda_leave.go;
}

/* ---- logins ---- */

/* RFC4954:6 535 5.7.8 for all of them; RFC4954:4 5.5.4 for a mechanism that is not there. */
Test(authd, login_refusals_look_alike)
{
    add("bob@example.test", "secret");
    struct account b;
    cr_assert_eq(directory_account_find(authd.directory, SPAN("bob@example.test"), &b, &err), DIR_OK);
    cr_assert_eq(directory_account_set_state(authd.directory, b.id, ACCOUNT_DISABLED, &err), DIR_OK);
    const struct span tries[] = {SPAN("\0alice@example.test\0wrong"),
                                 SPAN("\0nobody@example.test\0secret"),
                                 SPAN("\0bob@example.test\0secret"),
                                 SPAN("\0alice\0secret"),
                                 SPAN("bob@example.test\0alice@example.test\0secret"),
                                 SPAN("garbage"),
                                 SPAN("\0alice@elsewhere.test\0secret"),
                                 SPAN("\0alice@example.test\0")};
    for (size_t i = 0; i < COUNT_OF(tries); i++) {
        ask_login(imapd_fd, i, "PLAIN", tries[i]);
        expect(imapd_fd, MSG_auth_result);
        cr_expect_eq(got.auth_result.kind, 5, "case %zu", i);
        cr_expect(got.auth_result.subject == 7 && got.auth_result.detail == 8, "case %zu", i);
        cr_expect(span_eqs(got.auth_result.why, "authentication failed") && got.auth_result.login.n == 0);
        cr_expect_eq(logins_account(authd.logins, ROLE_IMAPD, 0, i), 0);
    }
    ask_login(imapd_fd, 1, "CRAM-MD5", SPAN_NONE);
    expect(imapd_fd, MSG_auth_result);
    cr_expect(got.auth_result.kind == 5 && got.auth_result.subject == 5 && got.auth_result.detail == 4);
}

Test(authd, login_by_steps)
{
    ask_login(imapd_fd, 7, "LOGIN", SPAN_NONE);
    expect(imapd_fd, MSG_auth_challenge);
    cr_assert(span_eqs(got.auth_challenge.challenge, "Username:"));
    struct msg m = {
        .type = MSG_auth_step, .id = ++next_id, .auth_step = {.session = 7, .response = SPAN("alice@example.test")}};
    tell(imapd_fd, m, -1);
    expect(imapd_fd, MSG_auth_challenge);
    m.id = ++next_id;
    m.auth_step.response = SPAN("secret");
    tell(imapd_fd, m, -1);
    expect(imapd_fd, MSG_auth_result);
    cr_assert_eq(got.auth_result.kind, 2);
    cr_assert_eq(logins_account(authd.logins, ROLE_IMAPD, 0, 7), alice.id);
    cr_assert_eq(logins_account(authd.logins, ROLE_SUBMISSION, 0, 7), 0,
                 "the same number of another front is another session");
    m.id = ++next_id;
    tell(imapd_fd, m, -1);
    expect(imapd_fd, MSG_auth_result);
    cr_assert_eq(got.auth_result.kind, 4, "there is no exchange any more");
}

#include "authd_scram.h"

/* HAZARDS 24: a forgotten session, or one begun anew, does not get the answer of the old one. */
Test(authd, an_answer_for_a_forgotten_session_is_dropped)
{
    ask_login(imapd_fd, 1, "PLAIN", SPAN("\0alice@example.test\0secret"));
    tell(imapd_fd, (struct msg){.type = MSG_auth_forget, .auth_forget = {.session = 1}}, -1);
    pump(300);
    cr_assert(!readable(imapd_fd));
    cr_assert_eq(logins_account(authd.logins, ROLE_IMAPD, 0, 1), 0);
}

Test(authd, a_front_that_came_back_has_no_sessions)
{
    login(imapd_fd, 1);
    close(imapd_fd);
    imapd_fd = fresh(imapd); /* before the end of the old pair was noticed */
    uint64_t id = attach(1);
    expect_attached(id, 5);
    login(imapd_fd, 1);
    close(imapd_fd);
    pump(20);
    cr_assert_eq(logins_account(authd.logins, ROLE_IMAPD, 0, 1), 0);
    imapd_fd = fresh(imapd);
}

/* ---- attaching ---- */

Test(authd, attach_needs_a_login_and_uses_it_up)
{
    uint64_t id = attach(1);
    expect_attached(id, 5);
    login(imapd_fd, 1);
    id = attach(1);
    fork_one();
    mda_takes_it();
    expect_attached(id, 2);
    id = attach(1);
    expect_attached(id, 5);
    expect_nothing(zygote_fd);
}

Test(authd, those_who_ask_at_once_wait_for_one_fork)
{
    uint64_t ids[3];
    for (uint64_t i = 0; i < 3; i++)
        login(imapd_fd, i);
    for (uint64_t i = 0; i < 3; i++)
        ids[i] = attach(i);
    fork_one();
    expect_nothing(zygote_fd);
    for (int i = 0; i < 3; i++) {
        mda_takes_it();
        expect_attached(ids[i], 2);
    }
    login(imapd_fd, 9);
    uint64_t id = attach(9);
    mda_takes_it();
    expect_attached(id, 2);
    expect_nothing(zygote_fd);
}

Test(authd, a_worker_goes_only_when_nobody_is_on_his_way)
{
    login(imapd_fd, 1);
    login(imapd_fd, 2);
    uint64_t first = attach(1);
    fork_one();
    expect(mda_fd, MSG_attach_mda);
    close(got_fd);
    struct msg held = got;
    cr_assert(!idle(), "an attach is on its way");
    got = held;
    answer(mda_fd, (struct msg){.type = MSG_attached, .attached = {.kind = 2}});
    expect_attached(first, 2);
    cr_assert(idle());
    /* It was told to go: who comes now waits until it is gone, and gets a new one. */
    uint64_t second = attach(2);
    expect_nothing(zygote_fd);
    expect_nothing(mda_fd);
    mda_gone();
    fork_one();
    mda_takes_it();
    expect_attached(second, 2);
}

/* It had given up waiting for the answer, which authd can't know: it may not be refused for ever, nor may anybody wait for
 * its end in vain. */
Test(authd, a_worker_that_asks_again_has_not_gone)
{
    login(imapd_fd, 1);
    login(imapd_fd, 2);
    uint64_t id = attach(1);
    fork_one();
    mda_takes_it();
    expect_attached(id, 2);
    cr_assert(idle());
    cr_assert(idle());
    id = attach(2);
    expect_nothing(mda_fd);
    tell(mda_fd, (struct msg){.type = MSG_mda_idle, .id = ++next_id}, -1);
    mda_takes_it();
    expect(mda_fd, MSG_mda_leave);
    cr_assert(!got.mda_leave.go);
    expect_attached(id, 2);
    expect_nothing(zygote_fd);
}

/* How many logins with ids below that have been answered "later", since the last call; the loop does not turn for it. */
static unsigned refused_below(uint64_t id)
{
    unsigned n = 0;
    do {
        while (readable(imapd_fd)) {
            cr_assert_eq(chan_recv_now(imapd_fd, ROLE_AUTHD, &frame, &got, &got_fd, &err), 1);
            n += got.type == MSG_auth_result && got.auth_result.kind == OUTCOME_RETRY && got.id < id;
        }
        chan_flush(imapd);
    } while (readable(imapd_fd));
    return n;
}

/* Logins that wait for failures before them have 2,000 places, 20 for each client: who comes from an address that has none finds one. */
Test(authd, logins_that_wait_share_their_places)
{
    char remote[32];
    uint64_t session = 1;
    for (unsigned client = 0; client < 100; client++)
        for (unsigned i = 0; i < 30; i++) {
            snprintf(remote, sizeof remote, "192.0.2.%u", client + 1);
            begin_from(remote, session++);
        }
    uint64_t mine = next_id + 1;
    cr_assert_gt(refused_below(mine), 900, "all places are taken");
    for (unsigned i = 0; i < 3; i++)
        begin_from("198.51.100.1", session++);
    cr_assert_eq(refused_below(mine), 3, "of those who have most");
    for (unsigned i = 0; i < 30; i++)
        begin_from("198.51.100.1", session++);
    cr_assert_eq(refused_below(mine), 16, "but nobody makes room for one who has as many");
}

Test(authd, a_worker_that_dies_ends_its_attaches_and_is_replaced)
{
    login(imapd_fd, 1);
    login(imapd_fd, 2);
    uint64_t id = attach(1);
    fork_one();
    expect(mda_fd, MSG_attach_mda);
    close(got_fd);
    close(mda_fd);
    mda_fd = -1;
    expect_attached(id, 4);
    id = attach(2);
    expect_nothing(zygote_fd);
    mda_gone();
    fork_one();
    mda_takes_it();
    expect_attached(id, 2);
}

Test(authd, a_zygote_that_dies_while_forking_is_asked_again)
{
    login(imapd_fd, 1);
    uint64_t id = attach(1);
    expect(zygote_fd, MSG_mda_fork);
    close(zygote_fd);
    pump(20);
    zygote_fd = fresh(service.zygote);
    fork_one();
    mda_takes_it();
    expect_attached(id, 2);
    /* And with workers up: they left with it. */
    close(zygote_fd);
    zygote_fd = fresh(service.zygote);
    cr_assert_eq(workers_count(authd.workers), 0);
    login(imapd_fd, 2);
    id = attach(2);
    fork_one();
    mda_takes_it();
    expect_attached(id, 2);
}

Test(authd, a_refused_fork_is_told_to_everyone)
{
    login(imapd_fd, 1);
    uint64_t id = attach(1);
    tell(qmgr_fd, (struct msg){.type = MSG_mda_want, .id = 5, .mda_want = {.account = alice.id}}, -1);
    expect(zygote_fd, MSG_mda_fork);
    answer(zygote_fd, (struct msg){.type = MSG_mda_started,
                                   .mda_started = {.account = alice.id, .kind = 4, .why = SPAN("no more processes")}});
    expect_attached(id, 4);
    expect(qmgr_fd, MSG_mda_started);
    cr_assert(got.id == 5 && got.mda_started.kind == 4 && span_eqs(got.mda_started.why, "no more processes"));
    cr_assert_eq(workers_count(authd.workers), 0);
}

Test(authd, authd_that_came_back_finds_the_workers_there)
{
    int fds[2];
    cr_assert_eq(chan_pair(fds, &err), 0);
    tell(zygote_fd, (struct msg){.type = MSG_mda_end, .mda_end = {.account = alice.id}}, fds[0]);
    close(fds[0]);
    mda_fd = fds[1];
    expect_quota(0);
    login(imapd_fd, 1);
    uint64_t id = attach(1);
    mda_takes_it();
    expect_attached(id, 2);
    expect_nothing(zygote_fd);
}

Test(authd, mail_makes_a_worker_and_keeps_it_a_while)
{
    tell(qmgr_fd, (struct msg){.type = MSG_mda_want, .id = 5, .mda_want = {.account = alice.id}}, -1);
    fork_one();
    expect(qmgr_fd, MSG_mda_started);
    cr_assert(got.id == 5 && got.mda_started.kind == 2 && got.mda_started.account == alice.id);
    cr_assert(!idle(), "the mail is on its way");
    tell(qmgr_fd, (struct msg){.type = MSG_mda_want, .id = 6, .mda_want = {.account = 999}}, -1);
    expect(qmgr_fd, MSG_mda_started);
    cr_assert_eq(got.mda_started.kind, 5);
    tell(mda_fd, (struct msg){.type = MSG_usage, .usage = {.bytes = 77, .messages = 3}}, -1);
    workers_free(&authd.workers);
    authd.workers = workers_new(&authd);
    struct account a;
    cr_assert_eq(directory_account_get(authd.directory, alice.id, &a, &err), DIR_OK);
    cr_assert(a.bytes == 77 && a.messages == 3);
}

static void note(void *ctx, bool ok)
{
    *(int *)ctx = ok;
}

Test(authd, evicting_and_purging)
{
    int ok = -1;
    workers_evict(authd.workers, alice.id, false, note, &ok);
    cr_assert_eq(ok, 1, "none runs: nothing to end");
    ok = -1;
    workers_evict(authd.workers, alice.id, true, note, &ok);
    fork_one();
    expect(mda_fd, MSG_mda_evict);
    cr_assert_eq(got.mda_evict.purge, 1);
    answer(mda_fd, (struct msg){.type = MSG_mda_leave, .mda_leave = {.go = 1}});
    pump(10);
    cr_assert_eq(ok, 1);
    mda_gone();
    cr_assert_eq(workers_count(authd.workers), 0);
    ok = -1;
    workers_evict(authd.workers, alice.id, true, note, &ok);
    fork_one();
    expect(mda_fd, MSG_mda_evict);
    mda_gone();
    pump(10);
    cr_assert_eq(ok, 0, "it died: whether the mail is deleted is not known");
}

Test(authd, a_disabled_account_is_not_attached)
{
    login(imapd_fd, 1);
    cr_assert_eq(directory_account_set_state(authd.directory, alice.id, ACCOUNT_DISABLED, &err), DIR_OK);
    uint64_t id = attach(1);
    expect_attached(id, 5);
    ask_login(submission_fd, 1, "PLAIN", SPAN("\0alice@example.test\0secret"));
    expect(submission_fd, MSG_auth_result);
    cr_assert_eq(got.auth_result.kind, 5);
}

/* ---- addresses ---- */

static void rcpt(int fd, uint64_t session, const char *address)
{
    tell(fd,
         (struct msg){
             .type = MSG_rcpt_check, .id = ++next_id, .rcpt_check = {.session = session, .address = span_of(address)}},
         -1);
    expect(fd, MSG_verdict);
}

Test(authd, never_an_open_relay)
{
    struct chan *mx = NULL;
    int mx_fd;
    mx = peer(ROLE_MX, &mx_fd);
    rcpt(mx_fd, 0, "alice@example.test");
    cr_expect_eq(got.verdict.kind, 2);
    rcpt(mx_fd, 0, "alice@elsewhere.test");
    cr_expect(got.verdict.kind == 5 && got.verdict.subject == 7 && got.verdict.detail == 1);
    rcpt(mx_fd, 0, "nobody@example.test");
    cr_expect(got.verdict.kind == 5 && got.verdict.subject == 1 && got.verdict.detail == 1);
    login(submission_fd, 3);
    rcpt(mx_fd, 3, "alice@elsewhere.test");
    cr_expect_eq(got.verdict.kind, 5, "another front's session does not count");
    rcpt(submission_fd, 3, "alice@elsewhere.test");
    cr_expect(got.verdict.kind == 2 && got.verdict.relayed == 1 && got.verdict.account == alice.id);
    rcpt(submission_fd, 4, "alice@elsewhere.test");
    cr_expect_eq(got.verdict.kind, 4);
    chan_free(&mx);
}

static void sender(int fd, uint64_t session, const char *address)
{
    tell(fd,
         (struct msg){.type = MSG_sender_check,
                      .id = ++next_id,
                      .sender_check = {.session = session, .sender = span_of(address)}},
         -1);
    expect(fd, MSG_verdict);
}

Test(authd, senders_are_checked_for_the_front_and_for_qmgr)
{
    login(submission_fd, 3);
    int fds[] = {submission_fd, qmgr_fd};
    for (int i = 0; i < 2; i++) {
        sender(fds[i], 3, "alice+x@example.test");
        cr_expect(got.verdict.kind == 2 && got.verdict.account == alice.id);
        sender(fds[i], 3, "");
        cr_expect_eq(got.verdict.kind, 2);
        sender(fds[i], 3, "bob@example.test");
        cr_expect(got.verdict.kind == 5 && got.verdict.code == 550 && got.verdict.subject == 7 &&
                  got.verdict.detail == 1);
        sender(fds[i], 8, "alice@example.test");
        cr_expect_eq(got.verdict.kind, 4);
    }
}

static void expand(const char *address, unsigned depth)
{
    tell(qmgr_fd,
         (struct msg){
             .type = MSG_expand, .id = ++next_id, .expand = {.address = span_of(address), .depth = (uint8_t)depth}},
         -1);
}

/* RFC3463:3.5 X.4.6 when aliases lead in circles. */
Test(authd, expansion)
{
    struct span targets[] = {SPAN("alice@example.test"), SPAN("x@elsewhere.test")};
    cr_assert_eq(directory_alias_add(authd.directory, SPAN("both@example.test"), targets, 2, &err), DIR_OK);
    expand("Alice+Lists@Example.test", 0);
    expect(qmgr_fd, MSG_expand_end);
    cr_expect(got.expand_end.item == 1 && got.expand_end.account == alice.id && span_eqs(got.expand_end.mailbox_detail, "lists"));
    cr_expect(span_eqs(got.expand_end.address, "alice@example.test"));
    cr_expect(got.expand_end.kind == 2 && got.expand_end.count == 1 && got.id == next_id);
    expand("both@example.test", 3);
    for (int i = 0; i < 2; i++) {
        expect(qmgr_fd, MSG_expand_item);
        cr_expect(got.expand_item.kind == 2 && span_eq(got.expand_item.address, targets[i]));
    }
    expect(qmgr_fd, MSG_expand_end);
    cr_expect(got.expand_end.kind == 2 && got.expand_end.count == 2 && got.expand_end.item == 0);
    expand("both@example.test", ALIAS_DEPTH_MAX);
    expect(qmgr_fd, MSG_expand_end);
    cr_expect(got.expand_end.kind == 5 && got.expand_end.subject == 4 && got.expand_end.detail == 6);
    expand("x@elsewhere.test", 0);
    expect(qmgr_fd, MSG_expand_end);
    cr_expect(got.expand_end.item == 3 && span_eqs(got.expand_end.address, "x@elsewhere.test") && got.expand_end.count == 1);
    expand("nobody@example.test", 0);
    expect(qmgr_fd, MSG_expand_end);
    cr_expect(got.expand_end.kind == 5 && got.expand_end.subject == 1 && got.expand_end.count == 0);
    expand("postmaster", 0);
    expect(qmgr_fd, MSG_expand_end);
    cr_expect_eq(got.expand_end.account, alice.id);
}
