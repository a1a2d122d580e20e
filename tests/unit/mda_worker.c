/* mda/: a worker in a child process, without its sandbox; the test plays zygote, authd and qmgr on its channels. Its
 * sessions are small ones of this file: the engines have tests of their own. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/outcome.h"
#include "conf/conf.h"
#include "conf/keys.h"
#include "ipc/chan.h"
#include "mda/imap_session.h"
#include "mda/pop3_session.h"
#include "service/worker.h"
#include "store/store.h"

#define IDLE_EXIT_MS 200

/* ---- sessions for the test: answer the tag, end with the stream ---- */

struct imap_session {
    int fd;
    struct io *io;
    struct imap_session_start o;
};

static void on_stream(void *ctx, unsigned events)
{
    struct imap_session *s = ctx;
    char some[64];
    (void)events;
    if (read(s->fd, some, sizeof(some)) <= 0) {
        io_want(s->io, 0);
        s->o.ended(s->o.ctx, s);
    }
}

struct imap_session *imap_session_new(const struct imap_session_start *o)
{
    struct imap_session *s = mem_alloc(sizeof(*s));
    s->fd = o->fd;
    s->o = *o;
    s->io = io_new(o->loop, o->fd, on_stream, s);
    io_want(s->io, IO_READ);
    dprintf(o->fd, "%.*s OK %s\r\n", SPANV(o->tag), o->login);
    return s;
}

void imap_session_bye(struct imap_session *s, const char *why)
{
    dprintf(s->fd, "* BYE %s\r\n", why);
    io_want(s->io, 0);
    s->o.ended(s->o.ctx, s);
}

void imap_session_free(struct imap_session **s)
{
    if (!*s)
        return;
    io_free(&(*s)->io);
    close((*s)->fd);
    mem_free(s);
}

struct pop3_session {
    int fd;
    struct pop3_session_start o;
};

struct pop3_session *pop3_session_new(const struct pop3_session_start *o)
{
    struct pop3_session *s = mem_alloc(sizeof(*s));
    s->fd = o->fd;
    s->o = *o;
    dprintf(o->fd, "+OK %s\r\n", o->login);
    return s;
}

void pop3_session_bye(struct pop3_session *s, const char *why)
{
    (void)why;
    s->o.ended(s->o.ctx, s);
}

void pop3_session_free(struct pop3_session **s)
{
    if (!*s)
        return;
    close((*s)->fd);
    mem_free(s);
}

/* ---- the worker ---- */

static char dir[64];
static struct err err;
static pid_t worker;
static int control, authd, qmgr;
static uint64_t next_id;

static void run_worker(int c, int a, int q)
{
    struct conf *conf = conf_new(1);
    conf->accounts.idle_exit = IDLE_EXIT_MS;
    struct worker_start s = {.account = 7,
                             .login = "alice@example.test",
                             .dir = dir,
                             .boot_id = "boot-1",
                             .conf = conf,
                             .control_fd = c,
                             .authd_fd = a,
                             .qmgr_fd = q};
    _exit(worker_run(&s));
}

static int64_t start_quota; /* said by authd at once; -1: later */

static void start(void)
{
    int c[2], a[2], q[2];
    cr_assert_eq(chan_pair(c, &err) || chan_pair(a, &err) || chan_pair(q, &err), 0, "%s", err.text);
    worker = fork();
    if (worker == 0) {
        close(c[0]);
        close(a[0]);
        close(q[0]);
        run_worker(c[1], a[1], q[1]);
    }
    close(c[1]);
    close(a[1]);
    close(q[1]);
    control = c[0];
    authd = a[0];
    qmgr = q[0];
    if (start_quota >= 0) {
        struct msg m = {.type = MSG_quota, .quota.bytes = (uint64_t)start_quota};
        cr_assert_eq(chan_send_now(authd, &m, -1, &err), 0, "%s", err.text);
    }
}

static void set_up(void)
{
    snprintf(dir, sizeof(dir), "/tmp/waypost-mda-XXXXXX");
    cr_assert(mkdtemp(dir));
    start();
}

static void exits(int status)
{
    int got;
    cr_assert_eq(waitpid(worker, &got, 0), worker);
    cr_assert(WIFEXITED(got), "the worker died of signal %d", WTERMSIG(got));
    cr_assert_eq(WEXITSTATUS(got), status);
    worker = 0;
}

static void tear_down(void)
{
    if (worker) {
        close(control);
        exits(0);
    }
    cr_assert_eq(store_purge(dir, &err), 0);
    cr_assert_eq(rmdir(dir), 0);
}

TestSuite(mda, .init = set_up, .fini = tear_down, .timeout = 20);

static void say(int to, struct msg *m, int fd)
{
    cr_assert_eq(chan_send_now(to, m, fd, &err), 0, "%s", err.text);
}

/* The next message of that type; usage comes when it likes. */
static struct buf frame;
static struct msg hear(int from, enum msg_type type)
{
    struct msg m;
    int fd;
    do
        cr_assert_eq(chan_recv_now(from, ROLE_MDA, &frame, &m, &fd, &err), 1, "%s", err.text);
    while (m.type == MSG_usage && type != MSG_usage);
    cr_assert_eq(m.type, type, "%s", msg_info((unsigned)m.type)->name);
    return m;
}

/* ---- deliveries ---- */

static struct msg deliver_msg(uint64_t rcpt, const char *body)
{
    struct msg m = {.type = MSG_deliver, .id = ++next_id};
    m.deliver = (struct msg_deliver){.lease = 100 + rcpt,
                                     .rcpt = rcpt,
                                     .qid = SPAN("QID1"),
                                     .sender = SPAN("bob@remote.test"),
                                     .delivered_to = SPAN("alice@example.test"),
                                     .received = 1700000000000,
                                     .prefix = SPAN("Received: by us\r\n"),
                                     .body = span_of(body)};
    m.deliver.size = m.deliver.prefix.n + m.deliver.body.n;
    return m;
}

static struct msg_delivered delivered(uint64_t rcpt)
{
    struct msg m = hear(qmgr, MSG_delivered);
    cr_assert_eq(m.delivered.rcpt, rcpt);
    cr_assert_eq(m.delivered.lease, 100 + rcpt);
    cr_assert(m.answer);
    return m.delivered;
}

static struct store *look(const char *boot)
{
    struct store *st;
    struct store_options o = {.dir = dir, .boot_id = boot, .wait_ms = 2000};
    cr_assert_eq(store_open(&st, &o, &err), 0, "%s", err.text);
    return st;
}

static void stop(void)
{
    close(control);
    exits(0);
}

static void content_is(struct store *st, uint32_t uid, const char *want)
{
    struct store_mailbox inbox;
    struct store_row row;
    struct store_content *c;
    cr_assert_eq(store_find(st, SPAN("INBOX"), NULL, &inbox, &err), 0);
    cr_assert_eq(store_row(st, inbox.id, uid, &row, &err), 0, "%s", err.text);
    cr_assert_eq(row.internaldate, 1700000000000);
    cr_assert_eq(store_content_open(st, row.content, &c, &err), 0);
    cr_assert(span_eqs(store_content_bytes(c), want), "%.*s", SPANV(store_content_bytes(c)));
    store_content_close(&c);
}

/* RFC5321:4.4 the reverse-path becomes Return-Path at delivery. */
Test(mda, knows_a_delivery_longer_than_the_queue_may_try)
{
    size_t count, found = 0;
    const struct conf_key *keys = conf_keys(&count);
    for (size_t i = 0; i < count; i++)
        if (strcmp(keys[i].key, "expire") == 0 || strcmp(keys[i].key, "bounce-expire") == 0) {
            found++;
            cr_expect_lt(2 * keys[i].most, (uint64_t)(STORE_KEY_DAYS * CONF_DAY), "%s", keys[i].key);
        }
    cr_expect_eq(found, 2u);
}

Test(mda, delivers)
{
    for (uint64_t i = 1; i <= 3; i++) {
        struct msg m = deliver_msg(i, "Subject: x\r\n\r\nbody\r\n");
        say(qmgr, &m, -1);
    }
    for (uint64_t i = 1; i <= 3; i++) {
        struct msg_delivered d = delivered(i);
        cr_assert_eq(d.kind, OUTCOME_DONE);
        cr_assert_not(d.already);
    }
    struct msg again = deliver_msg(2, "Subject: x\r\n\r\nbody\r\n");
    say(qmgr, &again, -1);
    struct msg_delivered d = delivered(2);
    cr_assert_eq(d.kind, OUTCOME_DONE);
    cr_assert(d.already, "a repeated lease delivers once");
    stop();
    struct store *st = look("boot-1");
    cr_assert_eq(store_usage(st).messages, 3);
    content_is(st, 3,
               "Return-Path: <bob@remote.test>\r\nDelivered-To: alice@example.test\r\nReceived: by us\r\nSubject: "
               "x\r\n\r\nbody\r\n");
    store_close(&st, false);
}

Test(mda, delivers_from_a_descriptor)
{
    int fd = memfd_create("content", MFD_CLOEXEC);
    struct buf text = {0};
    buf_adds(&text, "Received: by us\r\nSubject: large\r\n\r\n");
    while (text.n < 300000)
        buf_adds(&text, "0123456789\r\n");
    cr_assert_eq(write(fd, text.p, text.n), (ssize_t)text.n);
    struct msg m = deliver_msg(1, "");
    m.deliver.prefix = m.deliver.body = SPAN("");
    m.deliver.size = text.n;
    say(qmgr, &m, fd);
    cr_assert_eq(delivered(1).kind, OUTCOME_DONE);
    m = deliver_msg(2, "");
    m.deliver.prefix = m.deliver.body = SPAN("");
    m.deliver.size = text.n + 1;
    say(qmgr, &m, fd);
    cr_assert_eq(delivered(2).kind, OUTCOME_RETRY, "a file that is too short");
    close(fd);
    stop();
    struct store *st = look("boot-1");
    cr_assert_eq(store_usage(st).messages, 1);
    cr_assert_eq(store_usage(st).bytes,
                 text.n + strlen("Return-Path: <bob@remote.test>\r\nDelivered-To: alice@example.test\r\n"));
    store_close(&st, false);
    buf_free(&text);
}

/* The same Delivered-To met again stops a loop; somebody else's, or one in the body, does not. */
Test(mda, stops_loops)
{
    struct msg m = deliver_msg(1, "Subject: x\r\ndelivered-to:  Alice@Example.Test \r\n\r\nbody\r\n");
    say(qmgr, &m, -1);
    struct msg_delivered d = delivered(1);
    cr_assert_eq(d.kind, OUTCOME_FAILED);
    cr_assert_eq(d.subject, 4);
    cr_assert_eq(d.detail, 6);
    m = deliver_msg(2, "Delivered-To: carol@example.test\r\n\r\nDelivered-To: alice@example.test\r\n");
    say(qmgr, &m, -1);
    cr_assert_eq(delivered(2).kind, OUTCOME_DONE);
}

/* HAZARDS 7: what stands in our header lines is one line. */
Test(mda, refuses_control_characters)
{
    struct msg m = deliver_msg(1, "\r\nbody\r\n");
    m.deliver.sender = SPAN("a\r\nBcc: everybody@b.test");
    say(qmgr, &m, -1);
    cr_assert_eq(delivered(1).kind, OUTCOME_FAILED);
    m = deliver_msg(2, "\r\nbody\r\n");
    m.deliver.sender = SPAN("");
    say(qmgr, &m, -1);
    cr_assert_eq(delivered(2).kind, OUTCOME_DONE);
}

/* ---- sessions ---- */

static int attach(unsigned protocol, const char *first)
{
    int pair[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    struct msg m = {.type = MSG_attach_mda, .id = ++next_id};
    m.attach_mda = (struct msg_attach_mda){.protocol = (uint8_t)protocol,
                                           .login = SPAN("alice@example.test"),
                                           .tag = SPAN("a1"),
                                           .remote = SPAN("192.0.2.1"),
                                           .tls = 1};
    say(authd, &m, pair[1]);
    close(pair[1]);
    struct msg answer = hear(authd, MSG_attached);
    cr_assert_eq(answer.attached.kind, first ? OUTCOME_DONE : OUTCOME_RETRY);
    char got[100] = "";
    cr_assert_geq(read(pair[0], got, sizeof(got) - 1), 0);
    cr_assert_str_eq(got, first ? first : "");
    return pair[0];
}

Test(mda, attaches)
{
    int imap = attach(CONF_PROTOCOL_IMAP, "a1 OK alice@example.test\r\n");
    int pop3 = attach(CONF_PROTOCOL_POP3, "+OK alice@example.test\r\n");
    int none = attach(CONF_PROTOCOL_SMTP, NULL);
    close(imap);
    close(pop3);
    close(none);
}

/* ---- leaving ---- */

Test(mda, asks_before_it_leaves)
{
    int imap = attach(CONF_PROTOCOL_IMAP, "a1 OK alice@example.test\r\n");
    close(imap);
    struct msg m = hear(authd, MSG_mda_idle);
    cr_assert_eq(m.mda_idle.sessions, 0);
    struct msg no = {.type = MSG_mda_leave, .answer = true, .id = m.id, .mda_leave = {.go = 0}};
    say(authd, &no, -1);
    struct msg mail = deliver_msg(1, "\r\nstill here\r\n");
    say(qmgr, &mail, -1);
    cr_assert_eq(delivered(1).kind, OUTCOME_DONE);
    m = hear(authd, MSG_mda_idle);
    struct msg yes = {.type = MSG_mda_leave, .answer = true, .id = m.id, .mda_leave = {.go = 1}};
    say(authd, &yes, -1);
    exits(0);
}

Test(mda, stays_while_a_session_is_open)
{
    int imap = attach(CONF_PROTOCOL_IMAP, "a1 OK alice@example.test\r\n");
    struct timeval t = {.tv_sec = 3};
    struct msg m;
    int fd;
    cr_assert_eq(setsockopt(authd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t)), 0);
    while (chan_recv_now(authd, ROLE_MDA, &frame, &m, &fd, &err) == 1)
        cr_assert_neq(m.type, MSG_mda_idle);
    close(imap);
}

Test(mda, evicts_and_purges)
{
    struct msg mail = deliver_msg(1, "\r\nsecret\r\n");
    say(qmgr, &mail, -1);
    delivered(1);
    int imap = attach(CONF_PROTOCOL_IMAP, "a1 OK alice@example.test\r\n");
    struct msg m = {.type = MSG_mda_evict, .id = ++next_id, .mda_evict = {.purge = 1}};
    say(authd, &m, -1);
    cr_assert_eq(hear(authd, MSG_mda_leave).mda_leave.go, 1);
    char got[100] = "";
    cr_assert_gt(read(imap, got, sizeof(got) - 1), 0);
    cr_assert_eq(strncmp(got, "* BYE", 5), 0);
    close(imap);
    exits(0);
    cr_assert_eq(rmdir(dir), 0, "nothing is left");
    cr_assert(mkdtemp(strcpy(dir, "/tmp/waypost-mda-XXXXXX")));
}

/* An orderly end marks the store clean: after a reboot no uid is skipped. */
Test(mda, drains)
{
    struct msg mail = deliver_msg(1, "\r\nbody\r\n");
    say(qmgr, &mail, -1);
    int imap = attach(CONF_PROTOCOL_IMAP, "a1 OK alice@example.test\r\n");
    struct msg m = {.type = MSG_drain, .drain = {.ms = 1000}};
    say(control, &m, -1);
    cr_assert_eq(delivered(1).kind, OUTCOME_DONE);
    char got[100] = "";
    cr_assert_gt(read(imap, got, sizeof(got) - 1), 0);
    cr_assert_str_eq(got, "* BYE the server is stopping\r\n");
    close(imap);
    exits(0);
    struct store *st = look("boot-2");
    struct store_mailbox inbox;
    cr_assert_eq(store_find(st, SPAN("INBOX"), NULL, &inbox, &err), 0);
    cr_assert_eq(inbox.uidnext, 2);
    store_close(&st, false);
}

Test(mda, ends_with_the_zygote)
{
    int imap = attach(CONF_PROTOCOL_IMAP, "a1 OK alice@example.test\r\n");
    stop();
    close(imap);
}

/* After a crash of qmgr or authd the zygote sends a fresh end. */
Test(mda, takes_fresh_pairs)
{
    int pair[2];
    close(qmgr);
    cr_assert_eq(chan_pair(pair, &err), 0);
    struct msg m = {.type = MSG_peer_end, .peer_end = {.role = ROLE_QMGR}};
    say(control, &m, pair[1]);
    close(pair[1]);
    qmgr = pair[0];
    struct msg mail = deliver_msg(1, "\r\nbody\r\n");
    say(qmgr, &mail, -1);
    cr_assert_eq(delivered(1).kind, OUTCOME_DONE);
    close(authd);
    cr_assert_eq(chan_pair(pair, &err), 0);
    m.peer_end.role = ROLE_AUTHD;
    say(control, &m, pair[1]);
    close(pair[1]);
    authd = pair[0];
    cr_assert_eq(hear(authd, MSG_usage).usage.messages, 1, "a fresh authd hears the usage");
}

/* Bytes that are no message end that channel, not the worker, which asks for a fresh one. */
Test(mda, garbage_ends_the_channel_only)
{
    cr_assert_eq(send(qmgr, "garbage", 7, 0), 7);
    char some[10];
    cr_assert_eq(recv(qmgr, some, sizeof(some), 0), 0);
    struct msg m = hear(control, MSG_pair_lost);
    cr_assert_eq(m.pair_lost.role, ROLE_QMGR);
    int imap = attach(CONF_PROTOCOL_IMAP, "a1 OK alice@example.test\r\n");
    close(imap);
}

/* ---- quota ---- */

static struct msg_delivered offer(uint64_t rcpt, const char *body)
{
    struct msg m = deliver_msg(rcpt, body);
    say(qmgr, &m, -1);
    return delivered(rcpt);
}

static void quota(uint64_t bytes)
{
    struct msg m = {.type = MSG_quota, .quota.bytes = bytes};
    say(authd, &m, -1);
}

/* RFC3463:3.3 X.2.2; HAZARDS 19: exactly what fits is stored, in one batch too, and a repeated lease is no new mail. */
Test(mda, a_full_mailbox_takes_no_more)
{
    static char body[1000];
    memset(body, 'x', sizeof body - 1);
    memcpy(body, "S: x\r\n\r\n", 8);
    cr_assert_eq(offer(1, body).kind, OUTCOME_DONE);
    uint64_t one = strlen("Return-Path: <bob@remote.test>\r\nDelivered-To: alice@example.test\r\nReceived: by us\r\n") + strlen(body);
    quota(3 * one + 10);
    cr_assert_eq(offer(2, body).kind, OUTCOME_DONE);
    for (uint64_t i = 3; i < 10; i++) { /* in one turn, or not */
        struct msg m = deliver_msg(i, body);
        say(qmgr, &m, -1);
    }
    unsigned done = 0;
    for (uint64_t i = 3; i < 10; i++) {
        struct msg_delivered d = delivered(i);
        done += d.kind == OUTCOME_DONE;
        if (d.kind != OUTCOME_DONE)
            cr_expect(d.kind == OUTCOME_RETRY && d.subject == 2 && d.detail == 2, "%d", d.kind);
    }
    cr_expect_eq(done, 1);
    struct msg_delivered again = offer(1, body);
    cr_expect(again.kind == OUTCOME_DONE && again.already);
    quota(0);
    cr_expect_eq(offer(20, body).kind, OUTCOME_DONE);
}

static void set_up_unsaid(void)
{
    start_quota = -1;
    set_up();
    start_quota = 0;
}

Test(mda, nothing_is_delivered_before_the_quota_is_known, .init = set_up_unsaid)
{
    struct msg m = deliver_msg(1, "S: x\r\n\r\nlonger than the quota\r\n");
    say(qmgr, &m, -1);
    quota(10);
    struct msg_delivered d = delivered(1);
    cr_expect(d.kind == OUTCOME_RETRY && d.subject == 2 && d.detail == 2);
}

/* Both wait when the worker wakes: nothing is left to commit when the second is read. */
Test(mda, a_quota_behind_the_word_to_leave, .init = set_up_unsaid)
{
    struct msg leave = {.type = MSG_mda_evict, .id = ++next_id};
    struct msg m = {.type = MSG_quota, .quota.bytes = 10};
    cr_assert_eq(kill(worker, SIGSTOP), 0);
    say(authd, &leave, -1);
    say(authd, &m, -1);
    cr_assert_eq(kill(worker, SIGCONT), 0);
    cr_assert_eq(hear(authd, MSG_mda_leave).mda_leave.go, 1);
    exits(0);
}
