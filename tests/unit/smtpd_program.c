/* The smtpd program alone: the test is its supervisor, its authd and its qmgr. The sender's local part tells that qmgr
 * how to behave. */
#include <criterion/criterion.h>
#include <criterion/redirect.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "conf/conf.h"
#include "ipc/chan.h"

#define PATIENCE_MS 20000

struct stage {
    pid_t smtpd, peers;
    int control, port;
    char dir[64];
};

/* ---- authd and qmgr, in a process of their own ---- */

struct message {
    uint64_t txn;
    struct buf sender, rcpts;
    int spool;
};

struct peers {
    enum role role;
    int control, authd, qmgr, record;
    const char *dir;
    struct message messages[64];
    struct buf tokens; /* of what was stored */
    unsigned stored;
    bool lost_once;
    struct buf once; /* recipients that were asked about, of those that are welcome once */
    struct buf in;
};

static void answer(int fd, uint64_t id, struct msg m, int pass)
{
    struct err err;
    m.id = id;
    m.answer = true;
    if (chan_send_now(fd, &m, pass, &err))
        exit(3);
}

/* One of them dies, and the supervisor makes a fresh pair. */
static void die(struct peers *p, int *end, enum role role)
{
    int fds[2];
    struct err err;
    struct msg m = {.type = MSG_peer_end, .peer_end.role = role};
    close(*end);
    usleep(20000);
    if (chan_pair(fds, &err) || chan_send_now(p->control, &m, fds[1], &err))
        exit(5);
    close(fds[1]);
    *end = fds[0];
}

/* "once" is welcome when it is asked about for the first time, and that may be kept; "changes" makes authd forget what it said; at "dies" it
 * dies once. False: there is no answer. */
static bool once(struct peers *p, struct span a, struct msg_verdict *v)
{
    bool again = p->once.n && span_search(buf_span(&p->once), a) >= 0;
    struct err err;
    if (span_starts(a, SPAN("changes@")) && chan_send_now(p->authd, &(struct msg){.type = MSG_rcpt_forget}, -1, &err))
        exit(3);
    if (span_starts(a, SPAN("once")) && again)
        *v = (struct msg_verdict){.kind = 5, .code = 550, .subject = 1, .detail = 1, .why = SPAN("no such user any more")};
    else if (span_starts(a, SPAN("once")))
        v->keep = 1;
    if (!again)
        buf_add(&p->once, a);
    if (span_starts(a, SPAN("dies@")) && !again) {
        die(p, &p->authd, ROLE_AUTHD);
        return false;
    }
    return true;
}

static void verdict(struct peers *p, const struct msg *m)
{
    struct span a = m->type == MSG_rcpt_check ? m->rcpt_check.address : m->sender_check.sender;
    struct msg v = {.type = MSG_verdict,
                    .verdict = {.kind = 2, .code = 250, .subject = 1, .detail = 5, .why = SPAN("ok")}};
    if (span_starts(a, SPAN("nobody@")))
        v.verdict =
            (struct msg_verdict){.kind = 5, .code = 550, .subject = 1, .detail = 1, .why = SPAN("no such user")};
    v.verdict.relayed = span_ends(a, SPAN("@remote.test"));
    if (m->type != MSG_rcpt_check || once(p, a, &v.verdict))
        answer(p->authd, m->id, v, -1);
}

static void login(struct peers *p, const struct msg *m)
{
    bool good =
        m->type == MSG_auth_begin && span_eq(m->auth_begin.initial, span_make("\0alice@example.test\0secret", 26));
    struct msg r = {
        .type = MSG_auth_result,
        .auth_result = {
            .kind = good ? 2 : 5, .subject = 7, .detail = good ? 0 : 8, .login = SPAN("alice@example.test")}};
    answer(p->authd, m->id, r, -1);
}

static void on_authd(struct peers *p, const struct msg *m)
{
    if (m->type == MSG_rcpt_check || m->type == MSG_sender_check)
        verdict(p, m);
    else if (m->type == MSG_auth_begin)
        login(p, m);
}

static struct message *message_of(struct peers *p, uint64_t txn, bool make)
{
    for (size_t i = 0; i < COUNT_OF(p->messages); i++)
        if (p->messages[i].txn == txn)
            return &p->messages[i];
    if (!make)
        return NULL;
    struct message *m = message_of(p, 0, false);
    m->txn = txn;
    m->spool = -1;
    return m;
}

static void message_free(struct message *m)
{
    if (!m->txn)
        return;
    buf_free(&m->sender);
    buf_free(&m->rcpts);
    if (m->spool >= 0)
        close(m->spool);
    *m = (struct message){0};
}

static void record(struct peers *p, struct message *msg, const struct msg_msg_commit *c)
{
    struct buf b = {0};
    buf_printf(&b, "Q%u from=%.*s to=%.*s size=%llu header=%u id=%.*s spooled=%u%s\n", ++p->stored,
               SPANV(buf_span(&msg->sender)), SPANV(buf_span(&msg->rcpts)), (unsigned long long)c->size,
               c->header_bytes, SPANV(c->message_id), c->spooled, c->eight_bit ? " 8bit" : "");
    if (c->spooled) {
        char path[100];
        snprintf(path, sizeof path, "%s/spool%llu", p->dir, (unsigned long long)c->txn);
        int fd = open(path, O_RDONLY);
        ssize_t n;
        while ((n = read(fd, buf_room(&b, 65536), 65536)) > 0)
            b.n += (size_t)n;
        close(fd);
    } else {
        buf_add(&b, c->prefix);
        buf_add(&b, c->body);
    }
    if (write(p->record, b.p, b.n) != (ssize_t)b.n)
        exit(4);
    buf_free(&b);
    buf_add(&p->tokens, c->token);
}

static struct msg queued(const struct peers *p)
{
    static char qid[16];
    snprintf(qid, sizeof qid, "Q%u", p->stored);
    return (struct msg){.type = MSG_queued, .queued.qid = span_of(qid)};
}

static void qmgr_dies(struct peers *p)
{
    die(p, &p->qmgr, ROLE_QMGR);
    for (size_t i = 0; i < COUNT_OF(p->messages); i++)
        message_free(&p->messages[i]);
}

static void commit(struct peers *p, const struct msg *m)
{
    struct message *msg = message_of(p, m->msg_commit.txn, false);
    struct msg no = {.type = MSG_not_queued,
                     .not_queued = {.kind = 4, .code = 452, .subject = 3, .detail = 1, .why = SPAN("queue full")}};
    if (!msg || span_starts(buf_span(&msg->sender), SPAN("full@"))) {
        answer(p->qmgr, m->id, no, -1);
    } else if (span_starts(buf_span(&msg->sender), SPAN("die-lost@")) && !p->lost_once) {
        p->lost_once = true;
        qmgr_dies(p);
        return;
    } else {
        bool dies = span_starts(buf_span(&msg->sender), SPAN("die-stored@"));
        record(p, msg, &m->msg_commit);
        if (dies) {
            qmgr_dies(p);
            return;
        }
        answer(p->qmgr, m->id, queued(p), -1);
    }
    if (msg)
        message_free(msg);
}

static void spool_open(struct peers *p, const struct msg *m)
{
    struct message *msg = message_of(p, m->spool_open.txn, false);
    char path[100];
    snprintf(path, sizeof path, "%s/spool%llu", p->dir, (unsigned long long)m->spool_open.txn);
    if (!msg || span_starts(buf_span(&msg->sender), SPAN("nospool@"))) {
        struct msg no = {.type = MSG_not_queued,
                         .not_queued = {.kind = 4, .code = 452, .subject = 3, .detail = 1, .why = SPAN("disk full")}};
        answer(p->qmgr, m->id, no, -1);
        return;
    }
    bool bad = span_starts(buf_span(&msg->sender), SPAN("badfile@"));
    msg->spool =
        bad ? open("/dev/full", O_WRONLY | O_CLOEXEC) : open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    answer(p->qmgr, m->id, (struct msg){.type = MSG_spool_file, .spool_file.qid = SPAN("Q")}, msg->spool);
}

static void on_qmgr(struct peers *p, const struct msg *m)
{
    struct message *msg;
    switch (m->type) {
    case MSG_msg_begin:
        msg = message_of(p, m->msg_begin.txn, true);
        buf_add(&msg->sender, m->msg_begin.sender);
        buf_add(&msg->rcpts, m->msg_begin.rcpt);
        buf_addc(&msg->rcpts, ',');
        break;
    case MSG_msg_rcpt:
        msg = message_of(p, m->msg_rcpt.txn, false);
        buf_add(&msg->rcpts, m->msg_rcpt.address);
        buf_addc(&msg->rcpts, ',');
        break;
    case MSG_spool_open: spool_open(p, m); break;
    case MSG_msg_commit: commit(p, m); break;
    case MSG_token_ask:
        if (p->tokens.n && span_search(buf_span(&p->tokens), m->token_ask.token) >= 0)
            answer(p->qmgr, m->id, queued(p), -1);
        else
            answer(p->qmgr, m->id,
                   (struct msg){.type = MSG_not_queued, .not_queued = {.kind = 4, .code = 451, .subject = 3}}, -1);
        break;
    case MSG_msg_abort:
        msg = message_of(p, m->msg_abort.txn, false);
        if (msg && write(p->record, "abort\n", 6) == 6)
            message_free(msg);
        break;
    default: exit(6);
    }
}

static void peers_run(struct peers *p)
{
    for (;;) {
        struct pollfd f[2] = {{p->authd, POLLIN, 0}, {p->qmgr, POLLIN, 0}};
        poll(f, 2, -1);
        for (int i = 0; i < 2; i++) {
            struct msg m;
            struct err err;
            int fd = -1;
            if (!f[i].revents)
                continue;
            if (chan_recv_now(f[i].fd, p->role, &p->in, &m, &fd, &err) != 1)
                exit(0);
            if (i == 0)
                on_authd(p, &m);
            else
                on_qmgr(p, &m);
        }
    }
}

/* ---- the supervisor's part ---- */

static int listen_somewhere(int *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    cr_assert(fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && listen(fd, 512) == 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    *port = ntohs(a.sin_port);
    return fd;
}

static void tell(int control, const struct msg *m, int fd)
{
    struct err err = {""};
    cr_assert_eq(chan_send_now(control, m, fd, &err), 0, "%s", err.text);
}

static void tell_setting(void *ctx, const struct msg *m)
{
    tell(*(int *)ctx, m, -1);
}

static struct conf *settings(const struct stage *st, enum role role, const char *smtp)
{
    struct buf text = {0};
    struct conf_errors errors = {0};
    buf_printf(&text,
               "hostname mx.example.test; state %s; run %s; log-level info;\nlisten it { protocol %s; address "
               "127.0.0.1; port %d; tls none; %s }\nsmtp { %s }\n",
               st->dir, st->dir, role == ROLE_MX ? "smtp" : "submission", st->port,
               role == ROLE_MX ? "" : "plaintext-login yes;", smtp);
    struct conf *c = conf_parse("test.conf", buf_span(&text), 1, &errors);
    cr_assert(c, "%.*s", SPANV(buf_span(&errors.text)));
    conf_errors_free(&errors);
    buf_free(&text);
    return c;
}

static pid_t exec_smtpd(int control, enum role role)
{
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        setenv("ASAN_OPTIONS", "detect_leaks=0", 1); /* the leak checker can't work inside the sandbox */
        dup2(control, 3);
        if (!getenv("SMTPD_LOG"))
            dup2(open("/dev/null", O_WRONLY), 2);
        execl(SMTPD, "smtpd", role_name(role), "0", NULL);
        _exit(127);
    }
    return pid;
}

static void stage_open(struct stage *st, enum role role, const char *smtp)
{
    int control[2], authd[2], qmgr[2];
    struct err err = {""};
    strcpy(st->dir, "/tmp/smtpd-test-XXXXXX");
    cr_assert(mkdtemp(st->dir));
    int lfd = listen_somewhere(&st->port);
    cr_assert(chan_pair(control, &err) == 0 && chan_pair(authd, &err) == 0 && chan_pair(qmgr, &err) == 0);
    st->control = control[0];
    st->smtpd = exec_smtpd(control[1], role);
    close(control[1]);
    struct conf *c = settings(st, role, smtp);
    const struct conf *held = c;
    cr_assert_eq(conf_send(c, role, tell_setting, &st->control, &err), 0, "%s", err.text);
    tell(st->control, &(struct msg){.type = MSG_listener, .listener.instance = c->listen[0].index}, lfd);
    tell(st->control, &(struct msg){.type = MSG_peer_end, .peer_end.role = ROLE_AUTHD}, authd[1]);
    tell(st->control, &(struct msg){.type = MSG_peer_end, .peer_end.role = ROLE_QMGR}, qmgr[1]);
    tell(st->control, &(struct msg){.type = MSG_go, .go = {.uid = getuid(), .gid = getgid()}}, -1);
    conf_unref(&held);
    struct buf in = {0};
    struct msg m;
    int fd;
    cr_assert_eq(chan_recv_now(st->control, role, &in, &m, &fd, &err), 1, "%s", err.text);
    cr_assert(m.type == MSG_ready, "%.*s", SPANV(m.type == MSG_refused ? m.refused.why : SPAN("?")));
    buf_free(&in);
    st->peers = fork();
    if (st->peers == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        char path[100];
        snprintf(path, sizeof path, "%s/record", st->dir);
        struct peers p = {.role = role, .control = st->control, .authd = authd[0], .qmgr = qmgr[0], .dir = st->dir};
        p.record = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        close(authd[1]);
        close(qmgr[1]);
        peers_run(&p);
    }
    int mine[] = {lfd, authd[0], authd[1], qmgr[0], qmgr[1]};
    for (size_t i = 0; i < COUNT_OF(mine); i++)
        close(mine[i]);
}

static void stage_close(struct stage *st)
{
    int status;
    struct err err;
    chan_send_now(st->control, &(struct msg){.type = MSG_drain, .drain.ms = 5000}, -1,
                  &err); /* it may be gone already */
    cr_assert_eq(waitpid(st->smtpd, &status, 0), st->smtpd);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "smtpd ended with %x", (unsigned)status);
    kill(st->peers, SIGKILL);
    waitpid(st->peers, NULL, 0);
    close(st->control);
    char command[100];
    snprintf(command, sizeof command, "rm -r %s", st->dir);
    cr_assert_eq(system(command), 0);
}

/* ---- a client ---- */

static int dial(const struct stage *st)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)st->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert(fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) == 0);
    return fd;
}

static void say(int fd, struct span s)
{
    for (size_t at = 0; at < s.n;) {
        ssize_t n = send(fd, s.p + at, s.n - at, MSG_NOSIGNAL);
        cr_assert(n > 0);
        at += (size_t)n;
    }
}

/* Reads until the text ends with a last line of a reply that begins with `last`. */
static void hear(int fd, const char *last, struct buf *got)
{
    struct buf mine = {0}, *b = got ? got : &mine;
    buf_clear(b);
    for (;;) {
        struct pollfd f = {fd, POLLIN, 0};
        cr_assert_eq(poll(&f, 1, PATIENCE_MS), 1, "waiting for %s, got %.*s", last, SPANV(buf_span(b)));
        ssize_t n = recv(fd, buf_room(b, 4096), 4096, 0);
        cr_assert(n > 0, "waiting for %s, got %.*s", last, SPANV(buf_span(b)));
        b->n += (size_t)n;
        struct span s = buf_span(b);
        if (!span_ends(s, SPAN("\r\n")))
            continue;
        ptrdiff_t at = span_rfind(span_sub(s, 0, s.n - 1), '\n');
        if (span_starts(span_from(s, (size_t)(at + 1)), span_of(last)))
            break;
    }
    buf_free(&mine);
}

static void gone(int fd)
{
    char c[100];
    struct pollfd f = {fd, POLLIN, 0};
    ssize_t n;
    do
        cr_assert_eq(poll(&f, 1, PATIENCE_MS), 1);
    while ((n = recv(fd, c, sizeof c, 0)) > 0);
    close(fd);
}

static void recorded(const struct stage *st, struct buf *out)
{
    char path[100];
    snprintf(path, sizeof path, "%s/record", st->dir);
    int fd = open(path, O_RDONLY);
    buf_clear(out);
    ssize_t n;
    while (fd >= 0 && (n = read(fd, buf_room(out, 65536), 65536)) > 0)
        out->n += (size_t)n;
    if (fd >= 0)
        close(fd);
}

static void send_mail(const struct stage *st, const char *from, struct span content, const char *reply)
{
    struct buf b = {0};
    int fd = dial(st);
    hear(fd, "220 ", NULL);
    buf_printf(&b, "EHLO client\r\nMAIL FROM:<%s>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n", from);
    say(fd, buf_span(&b));
    hear(fd, "354 ", NULL);
    say(fd, content);
    say(fd, SPAN(".\r\n"));
    hear(fd, reply, NULL);
    say(fd, SPAN("QUIT\r\n"));
    hear(fd, "221 ", NULL);
    gone(fd);
    buf_free(&b);
}

static void expect_recorded(const struct stage *st, const char *text)
{
    struct buf b = {0};
    recorded(st, &b);
    cr_assert(span_search(buf_span(&b), span_of(text)) >= 0, "%s not in %.*s", text, SPANV(buf_span(&b)));
    buf_free(&b);
}

static size_t count_recorded(const struct stage *st, const char *text)
{
    struct buf b = {0};
    recorded(st, &b);
    struct span s = buf_span(&b);
    size_t n = 0;
    for (ptrdiff_t at; s.n && (at = span_search(s, span_of(text))) >= 0; n++)
        s = span_from(s, (size_t)at + 1);
    buf_free(&b);
    return n;
}

/* ---- tests ---- */

Test(smtpd, takes_mail)
{
    struct stage st;
    stage_open(&st, ROLE_MX, "");
    int fd = dial(&st);
    struct buf got = {0};
    hear(fd, "220 mx.example.test ESMTP", NULL);
    say(fd, SPAN("EHLO client.test\r\nMAIL FROM:<x@remote.test>\r\nRCPT TO:<alice@example.test>\r\nRCPT "
                 "TO:<nobody@example.test>\r\n"
                 "RCPT TO:<x@remote.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\nMessage-ID: "
                 "<m@x>\r\n\r\n..hello\r\n.\r\nQUIT\r\n"));
    hear(fd, "221 ", &got);
    cr_assert(
        span_search(buf_span(&got), SPAN("250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n550 5.1.1 no such user\r\n550 5.7.1 ")) > 0);
    cr_assert(
        span_search(
            buf_span(&got),
            SPAN("\r\n250 2.1.5 Ok\r\n354 End data with <CR><LF>.<CR><LF>\r\n250 2.0.0 Ok: queued as Q1\r\n221 ")) > 0);
    gone(fd);
    recorded(&st, &got);
    cr_assert(span_starts(buf_span(&got), SPAN("Q1 from=x@remote.test to=alice@example.test,bob@example.test, size=")));
    cr_assert(
        span_search(buf_span(&got),
                    SPAN("\nReceived: from client.test ([127.0.0.1])\r\n\tby mx.example.test with ESMTP;\r\n\t")) > 0);
    cr_assert(span_search(buf_span(&got), SPAN(" id=<m@x> spooled=0\n")) > 0);
    cr_assert(span_ends(buf_span(&got), SPAN("\r\nMessage-ID: <m@x>\r\n\r\n.hello\r\n")));
    buf_free(&got);
    stage_close(&st);
}

/* The answer to RCPT in a session of its own. */
static void rcpt_as(const struct stage *st, const char *verb, const char *address, const char *want)
{
    char text[200];
    struct buf got = {0};
    int fd = dial(st);
    hear(fd, "220 ", NULL);
    snprintf(text, sizeof text, "EHLO client.test\r\n%s FROM:<x@remote.test>\r\nRCPT TO:<%s>\r\nQUIT\r\n", verb, address);
    say(fd, span_of(text));
    hear(fd, "221 ", &got);
    cr_assert(span_search(buf_span(&got), span_of(want)) > 0, "%s: no %s in %.*s", address, want, SPANV(buf_span(&got)));
    gone(fd);
    buf_free(&got);
}

static void rcpt(const struct stage *st, const char *address, const char *want)
{
    rcpt_as(st, "MAIL", address, want);
}

/* A recipient that may be kept is asked about once, until authd says that something changed, or is another. */
Test(smtpd, who_is_welcome_is_kept_until_authd_says_so)
{
    struct stage st;
    stage_open(&st, ROLE_MX, "");
    for (int i = 0; i < 3; i++)
        rcpt(&st, "once@example.test", "250 2.1.5 ");
    rcpt(&st, "changes@example.test", "250 2.1.5 ");
    rcpt(&st, "once@example.test", "550 5.1.1 no such user any more");
    rcpt(&st, "once2@example.test", "250 2.1.5 ");
    rcpt(&st, "dies@example.test", "250 2.1.5 ");
    rcpt(&st, "once2@example.test", "550 5.1.1 ");
    stage_close(&st);

    stage_open(&st, ROLE_MX, "send-commands yes;"); /* what is asked about SEND is something else */
    rcpt(&st, "once@example.test", "250 2.1.5 ");
    rcpt_as(&st, "SEND", "once@example.test", "550 5.1.1 ");
    stage_close(&st);
}

static void large(struct buf *b, size_t n)
{
    buf_adds(b, "Subject: large\r\n\r\n");
    for (unsigned i = 0; b->n < n; i++)
        buf_printf(b, "%08u 0123456789012345678901234567890123456789012345678901234567\r\n", i);
}

/* Content around what fits a frame, and far above it: what is stored is what was sent. */
Test(smtpd, large_content_goes_to_a_file)
{
    static const size_t sizes[] = {48000, 49000, 49152, 50000, 70000, 200000, 3000000};
    struct stage st;
    stage_open(&st, ROLE_MX, "");
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        struct buf b = {0}, got = {0};
        large(&b, sizes[i]);
        send_mail(&st, "x@remote.test", buf_span(&b), "250 2.0.0 Ok: queued as ");
        recorded(&st, &got);
        cr_assert(span_ends(buf_span(&got), buf_span(&b)), "size %zu", sizes[i]);
        buf_free(&b);
        buf_free(&got);
    }
    expect_recorded(&st, "spooled=0\n");
    cr_assert_eq(count_recorded(&st, "spooled=1\n"), 5);
    struct buf b = {0};
    large(&b, 300000);
    buf_adds(&b, "\xc3\xa9\r\n"); /* RFC6152:2: nobody said BODY=8BITMIME, and the queue learns it at the end */
    send_mail(&st, "x@remote.test", buf_span(&b), "250 2.0.0 Ok: queued as ");
    expect_recorded(&st, "spooled=1 8bit\n");
    buf_clear(&b);
    large(&b, 300000);
    send_mail(&st, "nospool@remote.test", buf_span(&b), "452 4.3.1 disk full");
    send_mail(&st, "badfile@remote.test", buf_span(&b), "452 4.3.1 ");
    cr_assert_eq(count_recorded(&st, "spooled="), 8);
    expect_recorded(&st, "abort\n");
    buf_free(&b);
    stage_close(&st);
}

/* qmgr's refusal, and its death over a commit: made or not, the client hears the truth, and nothing is stored twice. */
Test(smtpd, qmgr_refuses_and_dies)
{
    struct stage st;
    stage_open(&st, ROLE_MX, "");
    send_mail(&st, "full@remote.test", SPAN("a: b\r\n"), "452 4.3.1 queue full");
    cr_assert_eq(count_recorded(&st, "spooled="), 0);
    send_mail(&st, "die-stored@remote.test", SPAN("a: b\r\n"), "250 2.0.0 Ok: queued as Q1");
    cr_assert_eq(count_recorded(&st, "spooled="), 1);
    send_mail(&st, "die-lost@remote.test", SPAN("a: b\r\n"), "250 2.0.0 Ok: queued as Q2");
    cr_assert_eq(count_recorded(&st, "spooled="), 2);
    struct buf b = {0};
    large(&b, 300000);
    send_mail(&st, "die-stored@remote.test", buf_span(&b), "250 2.0.0 Ok: queued as Q3");
    send_mail(&st, "x@remote.test", SPAN("a: b\r\n"), "250 2.0.0 Ok: queued as Q4");
    cr_assert_eq(count_recorded(&st, "spooled="), 4);
    buf_free(&b);
    stage_close(&st);
}

Test(smtpd, submission)
{
    struct stage st;
    struct buf got = {0};
    stage_open(&st, ROLE_SUBMISSION, "");
    int fd = dial(&st);
    hear(fd, "220 ", NULL);
    say(fd, SPAN("EHLO [127.0.0.1]\r\nMAIL FROM:<alice@example.test>\r\n"));
    hear(fd, "530 5.7.0", &got);
    cr_assert(span_search(buf_span(&got), SPAN("250-AUTH PLAIN LOGIN\r\n")) > 0);
    say(fd, SPAN("AUTH PLAIN AGFsaWNlAHdyb25n\r\n"));
    hear(fd, "535 5.7.8 ", NULL);
    say(fd, SPAN("AUTH PLAIN AGFsaWNlQGV4YW1wbGUudGVzdABzZWNyZXQ=\r\nMAIL FROM:<alice@example.test>\r\nRCPT "
                 "TO:<x@remote.test>\r\nDATA\r\n"));
    hear(fd, "354 ", NULL);
    say(fd, SPAN("Bcc: secret@remote.test\r\nFrom: alice@example.test\r\n\r\nhello\r\n.\r\nQUIT\r\n"));
    hear(fd, "221 ", NULL);
    gone(fd);
    expect_recorded(&st, "with ESMTPA\r\n\tfor <x@remote.test>;\r\n");
    expect_recorded(&st, "\r\nDate: ");
    expect_recorded(&st, "\r\nMessage-ID: <");
    expect_recorded(&st, "@mx.example.test>\r\nFrom: alice@example.test\r\n\r\nhello\r\n");
    cr_assert_eq(count_recorded(&st, "secret"), 0);
    buf_free(&got);
    stage_close(&st);
}

Test(smtpd, limits_of_connections)
{
    struct stage st;
    stage_open(&st, ROLE_MX, "max-connections 5; max-connections-per-client 3; command-timeout 1s;");
    int fds[3];
    for (int i = 0; i < 3; i++) {
        fds[i] = dial(&st);
        hear(fds[i], "220 ", NULL);
    }
    int fd = dial(&st);
    hear(fd, "421 4.7.0 ", NULL);
    gone(fd);
    for (int i = 0; i < 3; i++) {
        hear(fds[i], "421 4.4.2 ", NULL); /* RFC5321:4.5.3.2.7 */
        gone(fds[i]);
    }
    send_mail(&st, "x@remote.test", SPAN("a: b\r\n"), "250 ");
    stage_close(&st);
}

/* A client that asks and then closes its side hears all the answers. */
Test(smtpd, half_closed_client_is_answered)
{
    struct stage st;
    stage_open(&st, ROLE_MX, "");
    int fd = dial(&st);
    hear(fd, "220 ", NULL);
    say(fd, SPAN("EHLO c\r\nMAIL FROM:<x@remote.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\nx\r\n.\r\n"));
    shutdown(fd, SHUT_WR);
    hear(fd, "250 2.0.0 Ok: queued as Q1", NULL);
    gone(fd);
    stage_close(&st);
}

/* Draining: an idle session is told to go, one within a transaction finishes it. */
Test(smtpd, drains)
{
    struct stage st;
    stage_open(&st, ROLE_MX, "");
    int idle = dial(&st), busy = dial(&st);
    hear(idle, "220 ", NULL);
    hear(busy, "220 ", NULL);
    say(busy, SPAN("EHLO c\r\nMAIL FROM:<x@remote.test>\r\nRCPT TO:<alice@example.test>\r\n"));
    hear(busy, "250 2.1.5", NULL);
    tell(st.control, &(struct msg){.type = MSG_drain, .drain.ms = 5000}, -1);
    hear(idle, "421 4.3.2 ", NULL);
    gone(idle);
    say(busy, SPAN("DATA\r\n"));
    hear(busy, "354 ", NULL);
    say(busy, SPAN("x\r\n.\r\n"));
    hear(busy, "421 4.3.2 ", NULL);
    gone(busy);
    expect_recorded(&st, "Q1 ");
    stage_close(&st);
}
