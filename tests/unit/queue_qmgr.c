/* The program qmgr, with this test as its supervisor and as all its peers: smtpd, authd, relay, zygote and the process
 * of one account. Leases that end without a report, stale reports, restarts, tokens, aliases, bounces. WAYPOST_PROGRAMS
 * names the folder of the program. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "conf/conf.h"
#include "ipc/chan.h"
#include "queue/queue.h"

#define PATIENCE_MS 20000
#define SEEN_MAX 64

static char dir[64];
static struct err err;

/* What came to a fake peer, the oldest first, with texts that stay. */
struct seen {
    struct msg m;
    struct buf frame;
    uint32_t epoch;
    struct chan *from;
};

struct box {
    struct seen list[SEEN_MAX];
    unsigned n, taken;
};

struct world {
    struct loop *loop;
    struct conf *conf;
    pid_t pid;
    struct chan *control, *mx, *submission, *local, *authd, *relay, *zygote, *mda;
    int store_fd;
    bool ready;
    struct box to_relay, to_mda, to_sender;
    bool silent_directory, refuse_sender;
    unsigned sender_checks, expands;
    uint64_t next_txn;
};

static struct world *w; /* one at a time */

/* ---- the loop, until something is so ---- */

static void on_give_up(void *ctx)
{
    *(bool *)ctx = true;
    loop_stop(w->loop);
}

#define WAIT_FOR(condition)                                        \
    do {                                                           \
        bool late_ = false;                                        \
        struct timer *t_ = timer_new(w->loop, on_give_up, &late_); \
        timer_start(t_, PATIENCE_MS);                              \
        while (!(condition) && !late_)                             \
            loop_run(w->loop);                                     \
        timer_free(&t_);                                           \
        cr_assert(!late_, "never happened: %s", #condition);       \
    } while (0)

static void pause_ms(int64_t ms)
{
    bool late = false;
    struct timer *t = timer_new(w->loop, on_give_up, &late);
    timer_start(t, ms);
    while (!late)
        loop_run(w->loop);
    timer_free(&t);
}

static void put(struct box *b, struct chan *from, const struct msg *m)
{
    cr_assert_lt(b->n, SEEN_MAX);
    struct seen *s = &b->list[b->n++];
    struct msg copy = *m;
    cr_assert_eq(msg_encode(&copy, &s->frame, &err), 0);
    cr_assert_eq(msg_decode(buf_span(&s->frame), ROLE_QMGR, false, &s->m, &err), 0, "%s", err.text);
    s->epoch = chan_epoch(from);
    s->from = from;
    loop_stop(w->loop);
}

static struct seen *take(struct box *b, enum msg_type type)
{
    WAIT_FOR(b->taken < b->n);
    struct seen *s = &b->list[b->taken++];
    cr_assert_eq(s->m.type, type, "%s instead of %s", msg_info(s->m.type)->name, msg_info(type)->name);
    return s;
}

/* ---- the directory ---- */

static void item(struct chan *c, uint64_t id, unsigned kind, uint32_t account, const char *address)
{
    struct msg m = {.type = MSG_expand_item,
                    .expand_item = {.kind = (uint8_t)kind, .account = account, .address = span_of(address)}};
    chan_answer(c, chan_epoch(c), id, &m, -1);
}

static void expand(struct chan *c, const struct msg *m)
{
    struct span a = m->expand.address;
    char address[256];
    struct msg end = {.type = MSG_expand_end, .expand_end = {.kind = 2}};
    snprintf(address, sizeof address, "%.*s", SPANV(a));
    w->expands++;
    if (span_starts(a, SPAN("local"))) {
        item(c, m->id, 1, 7, "local@here.test");
    } else if (span_starts(a, SPAN("team"))) {
        item(c, m->id, 2, 0, "local@here.test");
        item(c, m->id, 2, 0, "friend@far.test");
    } else if (span_starts(a, SPAN("loop"))) {
        item(c, m->id, 2, 0, "loop@here.test");
    } else if (span_starts(a, SPAN("held"))) {
        item(c, m->id, 3, 0, address);
        end.expand_end.held = 1;
    } else if (span_starts(a, SPAN("nobody"))) {
        end.expand_end =
            (struct msg_expand_end){.kind = 5, .subject = 1, .detail = 1, .why = SPAN("no such address here")};
    } else {
        item(c, m->id, 3, 0, address);
    }
    chan_answer(c, chan_epoch(c), m->id, &end, -1);
}

static void on_authd(void *ctx, struct chan *c, const struct msg *m, int fd)
{
    (void)ctx;
    (void)fd;
    if (w->silent_directory)
        return;
    if (m->type == MSG_expand)
        expand(c, m);
    else if (m->type == MSG_mda_want)
        chan_answer(c, chan_epoch(c), m->id,
                    &(struct msg){.type = MSG_mda_started, .mda_started = {.account = m->mda_want.account, .kind = 2}},
                    -1);
    else if (m->type == MSG_sender_check) {
        w->sender_checks++;
        cr_assert_eq(m->sender_check.session, 99);
        struct msg v = {.type = MSG_verdict,
                        .verdict = {.kind = w->refuse_sender ? 5 : 2,
                                    .code = 550,
                                    .subject = 7,
                                    .detail = 1,
                                    .account = 7,
                                    .login = SPAN("local@here.test"),
                                    .why = SPAN("not yours")}};
        chan_answer(c, chan_epoch(c), m->id, &v, -1);
    }
    loop_stop(w->loop);
}

/* ---- the others ---- */

static void on_control(void *ctx, struct chan *c, const struct msg *m, int fd)
{
    (void)ctx;
    (void)c;
    (void)fd;
    cr_assert_neq(m->type, MSG_refused, "%.*s", SPANV(m->refused.why));
    w->ready |= m->type == MSG_ready;
    loop_stop(w->loop);
}

static void on_relay(void *ctx, struct chan *c, const struct msg *m, int fd)
{
    (void)ctx;
    if (fd >= 0)
        close(fd);
    put(&w->to_relay, c, m);
}

static void on_mda(void *ctx, struct chan *c, const struct msg *m, int fd)
{
    (void)ctx;
    if (fd >= 0)
        close(fd);
    put(&w->to_mda, c, m);
}

static void on_other(void *ctx, struct chan *c, const struct msg *m, int fd)
{
    (void)ctx;
    (void)c;
    (void)m;
    if (fd >= 0)
        close(fd);
}

static const struct chan_ops control_ops = {.on_msg = on_control}, authd_ops = {.on_msg = on_authd},
                             relay_ops = {.on_msg = on_relay}, mda_ops = {.on_msg = on_mda},
                             other_ops = {.on_msg = on_other};

/* ---- supervising ---- */

static void say_now(void *ctx, const struct msg *m)
{
    cr_assert_eq(chan_send_now(*(int *)ctx, m, -1, &err), 0, "%s", err.text);
}

/* A pair for that peer: one end to qmgr, the other into our channel. */
static void pair(int control, struct chan **c, enum role role, const struct chan_ops *ops)
{
    int fds[2];
    cr_assert_eq(chan_pair(fds, &err), 0);
    struct msg m = {.type = MSG_peer_end, .peer_end = {.role = (uint8_t)role}};
    if (control >= 0)
        cr_assert_eq(chan_send_now(control, &m, fds[0], &err), 0);
    else
        chan_say(w->control, &m, fds[0]);
    close(fds[0]);
    if (*c)
        chan_connect(*c, fds[1]);
    else
        *c = chan_new(w->loop, fds[1], ROLE_QMGR, 0, ops, NULL);
}

static void mda_up(void)
{
    int fds[2];
    cr_assert_eq(chan_pair(fds, &err), 0);
    chan_say(w->zygote, &(struct msg){.type = MSG_mda_end, .mda_end = {.account = 7}}, fds[0]);
    close(fds[0]);
    if (w->mda)
        chan_connect(w->mda, fds[1]);
    else
        w->mda = chan_new(w->loop, fds[1], ROLE_QMGR, 0, &mda_ops, NULL);
}

static void exec_qmgr(int control)
{
    if (control == 3)
        fcntl(3, F_SETFD, 0);
    else
        dup2(control, 3);
    setenv("MALLOC_PERTURB_", "165", 1); /* what was freed can't be mistaken for what it was */
    execl(QMGR, "qmgr", "qmgr", "0", (char *)NULL);
    perror(QMGR);
    _exit(127);
}

static void start_qmgr(void)
{
    int control[2];
    cr_assert_eq(chan_pair(control, &err), 0);
    w->pid = fork();
    if (w->pid == 0)
        exec_qmgr(control[1]);
    close(control[1]);
    cr_assert_eq(conf_send(w->conf, ROLE_QMGR, say_now, &control[0], &err), 0, "%s", err.text);
    cr_assert_eq(
        chan_send_now(control[0], &(struct msg){.type = MSG_resource, .resource = {.what = 0}}, w->store_fd, &err), 0);
    pair(control[0], &w->authd, ROLE_AUTHD, &authd_ops);
    pair(control[0], &w->zygote, ROLE_ZYGOTE, &other_ops);
    pair(control[0], &w->relay, ROLE_RELAY, &relay_ops);
    pair(control[0], &w->mx, ROLE_MX, &other_ops);
    pair(control[0], &w->submission, ROLE_SUBMISSION, &other_ops);
    cr_assert_eq(
        chan_send_now(control[0], &(struct msg){.type = MSG_go, .go = {.uid = getuid(), .gid = getgid()}}, -1, &err),
        0);
    w->ready = false;
    if (w->control)
        chan_connect(w->control, control[0]);
    else
        w->control = chan_new(w->loop, control[0], ROLE_QMGR, 0, &control_ops, NULL);
    WAIT_FOR(w->ready);
}

static void kill_qmgr(void)
{
    kill(w->pid, SIGKILL);
    waitpid(w->pid, NULL, 0);
}

static void world_open(void)
{
    char path[128];
    w = mem_alloc(sizeof *w);
    w->loop = loop_new();
    w->conf = conf_new(1);
    w->conf->state = dir;
    w->conf->hostname = "mail.here.test";
    w->conf->queue.retry_min = 1000;
    w->conf->queue.retry_max = 2000;
    w->conf->log_level = CONF_LOG_ERROR;
    snprintf(path, sizeof path, "%s/queue", dir);
    mkdir(path, 0700);
    w->store_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    start_qmgr();
}

static void world_close(void)
{
    chan_say(w->control, &(struct msg){.type = MSG_drain, .drain = {.ms = 5000}}, -1);
    chan_flush(w->control);
    int status = -1;
    for (int64_t end = clock_mono() + PATIENCE_MS; waitpid(w->pid, &status, WNOHANG) == 0 && clock_mono() < end;)
        pause_ms(20);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", (unsigned)status);
    struct chan **all[] = {&w->control, &w->mx, &w->submission, &w->local, &w->authd, &w->relay, &w->zygote, &w->mda};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        chan_free(all[i]);
    struct box *boxes[] = {&w->to_relay, &w->to_mda, &w->to_sender};
    for (size_t i = 0; i < COUNT_OF(boxes); i++)
        for (unsigned k = 0; k < boxes[i]->n; k++)
            buf_free(&boxes[i]->list[k].frame);
    close(w->store_fd);
    loop_free(&w->loop);
    const struct conf *c = w->conf;
    conf_unref(&c);
    mem_free(&w);
}

static void make_dir(void)
{
    snprintf(dir, sizeof dir, "/tmp/waypost-qmgr-XXXXXX");
    cr_assert(mkdtemp(dir));
    signal(SIGPIPE, SIG_IGN);
    world_open();
}

static void remove_dir(void)
{
    char cmd[128];
    world_close();
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir);
    cr_assert_eq(system(cmd), 0);
}

TestSuite(qmgr, .init = make_dir, .fini = remove_dir, .timeout = 120);

/* ---- sending ---- */

struct answer {
    bool came;
    enum chan_why why;
    enum msg_type type;
    char qid[IPC_QID_MAX + 1];
    unsigned code, kind, subject;
};

static void on_answer(void *ctx, struct chan *c, enum chan_why why, const struct msg *m, int fd)
{
    struct answer *a = ctx;
    (void)c;
    (void)fd;
    a->came = true;
    a->why = why;
    a->type = m ? m->type : MSG_none;
    if (m && m->type == MSG_queued)
        snprintf(a->qid, sizeof a->qid, "%.*s", SPANV(m->queued.qid));
    if (m && m->type == MSG_not_queued)
        a->code = m->not_queued.code, a->kind = m->not_queued.kind, a->subject = m->not_queued.subject;
    loop_stop(w->loop);
}

#define HEADER "Subject: hello\r\nMessage-ID: <m@there.test>\r\n"
static const char body[] = HEADER "\r\nhi\r\n";

/* What send_message() asks for beside; zero: nothing. */
static struct msg_msg_begin wishes;

static void send_message(struct chan *c, struct answer *a, const char *token, const char *sender, uint64_t session,
                         unsigned notify, const char *const *rcpts)
{
    uint64_t txn = ++w->next_txn;
    chan_say(c,
             &(struct msg){.type = MSG_msg_begin,
                           .msg_begin = {.txn = txn,
                                         .session = session,
                                         .sender = span_of(sender),
                                         .helo = SPAN("h"),
                                         .remote = SPAN("1.2.3.4"),
                                         .tls = wishes.tls,
                                         .tls_need = wishes.tls_need,
                                         .deliver_by = wishes.deliver_by,
                                         .by_mode = wishes.by_mode,
                                         .hold_until = wishes.hold_until,
                                         .hold = wishes.hold,
                                         .priority = wishes.priority,
                                         .rcpt = *rcpts ? span_of(*rcpts) : SPAN(""),
                                         .notify = (uint8_t)notify}},
             -1);
    for (rcpts += *rcpts != NULL; *rcpts; rcpts++)
        chan_say(c,
                 &(struct msg){.type = MSG_msg_rcpt,
                               .msg_rcpt = {.txn = txn, .address = span_of(*rcpts), .notify = (uint8_t)notify}},
                 -1);
    struct msg m = {.type = MSG_msg_commit,
                    .msg_commit = {.txn = txn,
                                   .token = span_make(token, 16),
                                   .size = sizeof body - 1 + 6,
                                   .header_bytes = sizeof HEADER - 1 + 6,
                                   .message_id = SPAN("<m@there.test>"),
                                   .prefix = SPAN("X: y\r\n"),
                                   .body = span_of(body)}};
    *a = (struct answer){0};
    chan_ask(c, &m, -1, on_answer, a);
}

static void accept_one(const char *token, const char *sender, const char *const *rcpts)
{
    struct answer a;
    send_message(w->mx, &a, token, sender, 0, 0, rcpts);
    WAIT_FOR(a.came);
    cr_assert_eq(a.type, MSG_queued);
    cr_assert_eq(strlen(a.qid), 11);
}

#define TO(...)           \
    (const char *const[]) \
    {                     \
        __VA_ARGS__, NULL \
    }
#define TOKEN(c) #c "_5678901234567890"

static void answer_delivery(const struct seen *s, unsigned kind)
{
    struct msg m = {.type = MSG_delivered,
                    .delivered = {.lease = s->m.deliver.lease,
                                  .rcpt = s->m.deliver.rcpt,
                                  .kind = (uint8_t)kind,
                                  .subject = 2,
                                  .detail = 2,
                                  .why = SPAN("full")}};
    chan_answer(s->from, s->epoch, s->m.id, &m, -1);
}

static void report(uint64_t lease, uint64_t rcpt, unsigned kind, unsigned code)
{
    chan_say(w->relay,
             &(struct msg){.type = MSG_rcpt_report,
                           .rcpt_report = {.lease = lease,
                                           .rcpt = rcpt,
                                           .kind = (uint8_t)kind,
                                           .code = (uint16_t)code,
                                           .subject = 1,
                                           .detail = 1,
                                           .why = SPAN("said so")}},
             -1);
}

static void report_end(uint64_t lease)
{
    chan_say(w->relay,
             &(struct msg){.type = MSG_attempt_report,
                           .attempt_report = {.lease = lease, .remote = SPAN("mx.far.test[192.0.2.1]")}},
             -1);
}

struct attempt {
    uint64_t lease, rcpts[4], deliver_by;
    unsigned n, tls_need, by_mode, priority, smtputf8;
    char domain[64], sender[64], addresses[256], content[8192];
};

/* The next whole attempt that relay gets. */
static struct attempt take_attempt(void)
{
    struct attempt a = {0};
    struct seen *s = take(&w->to_relay, MSG_attempt);
    a.lease = s->m.attempt.lease;
    a.tls_need = s->m.attempt.tls_need;
    a.smtputf8 = s->m.attempt.smtputf8;
    a.by_mode = s->m.attempt.by_mode;
    a.deliver_by = s->m.attempt.deliver_by;
    a.priority = s->m.attempt.priority;
    snprintf(a.domain, sizeof a.domain, "%.*s", SPANV(s->m.attempt.domain));
    snprintf(a.sender, sizeof a.sender, "%.*s", SPANV(s->m.attempt.sender));
    for (;;) {
        WAIT_FOR(w->to_relay.taken < w->to_relay.n);
        if (w->to_relay.list[w->to_relay.taken].m.type != MSG_attempt_rcpt)
            break;
        s = take(&w->to_relay, MSG_attempt_rcpt);
        cr_assert_eq(s->m.attempt_rcpt.lease, a.lease);
        a.rcpts[a.n++] = s->m.attempt_rcpt.rcpt;
        size_t at = strlen(a.addresses);
        snprintf(a.addresses + at, sizeof a.addresses - at, "%.*s ", SPANV(s->m.attempt_rcpt.address));
    }
    s = take(&w->to_relay, MSG_attempt_go);
    snprintf(a.content, sizeof a.content, "%.*s%.*s", SPANV(s->m.attempt_go.prefix), SPANV(s->m.attempt_go.body));
    return a;
}

static void nothing_more(void)
{
    pause_ms(300);
    cr_assert_eq(w->to_relay.taken, w->to_relay.n, "an attempt too many");
    cr_assert_eq(w->to_mda.taken, w->to_mda.n, "a delivery too many");
}

/* ---- tests ---- */

Test(qmgr, a_delivery_is_repeated_until_its_report_and_never_after_it)
{
    accept_one(TOKEN(a), "c@there.test", TO("local@here.test"));
    mda_up();
    struct seen *first = take(&w->to_mda, MSG_deliver);
    uint64_t rcpt = first->m.deliver.rcpt, lease = first->m.deliver.lease;
    cr_assert(span_eqs(first->m.deliver.delivered_to, "local@here.test") && span_eqs(first->m.deliver.body, body) &&
              span_eqs(first->m.deliver.prefix, "X: y\r\n"));
    mda_up(); /* its process died; the fresh one gets it at once */
    struct seen *again = take(&w->to_mda, MSG_deliver);
    cr_assert_eq(again->m.deliver.rcpt, rcpt, "the same key, so that the store knows it");
    cr_assert_neq(again->m.deliver.lease, lease, "a lease of its own");
    kill_qmgr();
    start_qmgr();
    mda_up();
    again = take(&w->to_mda, MSG_deliver);
    cr_assert_eq(again->m.deliver.rcpt, rcpt);
    answer_delivery(again, 2);
    pause_ms(500);
    kill_qmgr();
    start_qmgr();
    mda_up();
    nothing_more();
}

Test(qmgr, a_lost_relay_ends_its_leases_and_a_stale_report_changes_nothing)
{
    accept_one(TOKEN(a), "c@there.test", TO("x@far.test", "y@far.test", "z@other.test"));
    struct attempt one = take_attempt(), two = take_attempt();
    struct attempt far = one.n == 2 ? one : two;
    cr_assert_eq(far.n, 2, "one attempt for both recipients of a domain");
    cr_assert_str_eq(far.domain, "far.test");
    pair(-1, &w->relay, ROLE_RELAY, &relay_ops);
    struct attempt a = take_attempt(), b = take_attempt();
    struct attempt far2 = a.n == 2 ? a : b, other2 = a.n == 2 ? b : a;
    cr_assert_neq(far2.lease, far.lease);
    cr_assert_str_eq(far2.addresses, "x@far.test y@far.test ");
    report(far.lease, far.rcpts[0], 2, 250); /* from the dead: must not count */
    report_end(far.lease);
    report(far2.lease, far2.rcpts[0], 2, 250);
    report(far2.lease, far2.rcpts[1], 2, 250);
    report_end(far2.lease);
    report(other2.lease, other2.rcpts[0], 2, 250);
    report_end(other2.lease);
    pause_ms(300);
    kill_qmgr();
    start_qmgr();
    nothing_more();
}

Test(qmgr, a_stale_report_does_not_end_the_recipient)
{
    accept_one(TOKEN(a), "c@there.test", TO("x@far.test"));
    struct attempt old = take_attempt();
    pair(-1, &w->relay, ROLE_RELAY, &relay_ops);
    take_attempt();
    report(old.lease, old.rcpts[0], 2, 250);
    report_end(old.lease);
    pause_ms(300);
    kill_qmgr();
    start_qmgr();
    struct attempt a = take_attempt();
    report(a.lease, a.rcpts[0], 2, 250);
    report_end(a.lease);
    pause_ms(200);
}

/* An acceptance is recorded at once; the attempt ends later, or never, when its message has left memory. */
Test(qmgr, an_attempt_may_outlive_its_message)
{
    for (int end = 0; end < 4; end++) {
        char token[] = TOKEN(a);
        token[0] = (char)('a' + end);
        accept_one(token, "c@there.test", TO("x@far.test", "y@far.test"));
        struct attempt a = take_attempt();
        report(a.lease, a.rcpts[0], 2, 250);
        report(a.lease, a.rcpts[1], 2, 250);
        pause_ms(150); /* recorded meanwhile */
        if (end % 2) {
            pair(-1, &w->relay, ROLE_RELAY, &relay_ops);
        } else {
            report(a.lease, a.rcpts[1], 2, 250); /* once more */
            report_end(a.lease);
        }
    }
    nothing_more();
}

static unsigned spool_files(void)
{
    char path[128];
    unsigned n = 0;
    struct dirent *e;
    snprintf(path, sizeof path, "%s/queue/spool", dir);
    DIR *d = opendir(path);
    cr_assert(d);
    while ((e = readdir(d)) != NULL)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void on_file(void *ctx, struct chan *c, enum chan_why why, const struct msg *m, int fd)
{
    (void)c;
    cr_assert(why == CHAN_ANSWERED && m->type == MSG_spool_file);
    close(fd);
    *(bool *)ctx = true;
    loop_stop(w->loop);
}

/* What a front that died had begun is dropped, with its file. */
Test(qmgr, nothing_is_left_of_the_transactions_of_a_front_that_died)
{
    static const enum role roles[] = {ROLE_MX, ROLE_SUBMISSION, ROLE_LOCAL};
    pair(-1, &w->local, ROLE_LOCAL, &other_ops);
    struct chan **fronts[] = {&w->mx, &w->submission, &w->local};
    for (size_t i = 0; i < COUNT_OF(roles); i++) {
        bool there = false;
        chan_say(*fronts[i], &(struct msg){.type = MSG_msg_begin, .msg_begin = {.txn = 1, .sender = SPAN("c@there.test")}}, -1);
        chan_ask(*fronts[i], &(struct msg){.type = MSG_spool_open, .spool_open = {.txn = 1}}, -1, on_file, &there);
        WAIT_FOR(there);
        cr_assert_eq(spool_files(), 1);
        pair(-1, fronts[i], roles[i], &other_ops);
        for (int64_t end = clock_mono() + PATIENCE_MS; spool_files() && clock_mono() < end;)
            pause_ms(10);
        cr_assert_eq(spool_files(), 0, "%s", role_name(roles[i]));
    }
}

/* RFC5321:4.5.4.1 */
Test(qmgr, what_is_refused_for_now_comes_back)
{
    accept_one(TOKEN(a), "c@there.test", TO("x@far.test"));
    struct attempt a = take_attempt();
    report(a.lease, a.rcpts[0], 4, 451);
    report_end(a.lease);
    int64_t before = clock_mono();
    struct attempt b = take_attempt();
    cr_assert_geq(clock_mono() - before, 700);
    cr_assert_eq(b.rcpts[0], a.rcpts[0]);
    report(b.lease, b.rcpts[0], 2, 250);
    report_end(b.lease);
    pause_ms(200);
    nothing_more();
}

/* Also where a third and fourth come behind; the domain has no case, the local part may have (RFC5321:2.4). */
Test(qmgr, who_is_named_twice_gets_one_copy)
{
    accept_one(TOKEN(a), "c@there.test", TO("x@far.test", "x@FAR.test", "y@far.test", "X@far.test", "y@far.test"));
    struct attempt a = take_attempt();
    cr_assert_eq(a.n, 3);
}

/* RFC5321:6.1, HAZARDS 16, 17 */
Test(qmgr, one_bounce_for_all_that_failed_and_none_for_the_bounce)
{
    accept_one(TOKEN(a), "c@there.test", TO("nobody@here.test", "nobody2@here.test", "x@far.test"));
    struct attempt a, b = take_attempt();
    bool bounce_first = b.sender[0] == '\0';
    a = bounce_first ? b : take_attempt();
    struct attempt out = bounce_first ? take_attempt() : b;
    cr_assert_str_eq(a.sender, "");
    cr_assert_str_eq(a.domain, "there.test");
    cr_assert(strstr(a.content, "Final-Recipient: rfc822;nobody@here.test\r\n") &&
              strstr(a.content, "Final-Recipient: rfc822;nobody2@here.test\r\n"));
    cr_assert(strstr(a.content, "Auto-Submitted: auto-replied\r\n") && strstr(a.content, "Status: 5.1.1\r\n") &&
              strstr(a.content, "Message-ID: <m@there.test>\r\n"));
    report(a.lease, a.rcpts[0], 5, 550); /* the bounce itself fails: that is the end */
    report_end(a.lease);
    report(out.lease, out.rcpts[0], 2, 250);
    report_end(out.lease);
    pause_ms(300);
    kill_qmgr();
    start_qmgr();
    nothing_more();
}

/* RFC6531:3.7.3, RFC6533:3: only the one that needs it. */
Test(qmgr, a_notification_to_an_international_address_says_so)
{
    accept_one(TOKEN(a), "jürgen@there.test", TO("nobody@here.test"));
    struct attempt a = take_attempt();
    cr_assert_str_eq(a.addresses, "jürgen@there.test ");
    cr_assert_str_eq(a.sender, "");
    cr_assert_eq(a.smtputf8, 1);
    cr_assert(strstr(a.content, "\r\nTo: <jürgen@there.test>\r\n") || strstr(a.content, "\r\nTo: jürgen@there.test\r\n"), "%s", a.content);
    accept_one(TOKEN(b), "c@there.test", TO("nobody@here.test"));
    cr_assert_eq(take_attempt().smtputf8, 0);
}

/* RFC3461:4.1, RFC5321:4.5.5 */
Test(qmgr, nobody_hears_of_failures_who_does_not_want_to)
{
    struct answer a;
    accept_one(TOKEN(a), "", TO("nobody@here.test"));
    send_message(w->mx, &a, TOKEN(b), "c@there.test", 0, 1 /* NEVER */, TO("nobody@here.test"));
    WAIT_FOR(a.came);
    send_message(w->mx, &a, TOKEN(c), "c@there.test", 0, 2 /* SUCCESS only */, TO("nobody@here.test"));
    WAIT_FOR(a.came);
    WAIT_FOR(w->expands >= 3);
    nothing_more();
}

/* One message of c@there.test that asks for that. */
static void accept_asking(const char *token, unsigned notify, const char *const *rcpts)
{
    struct answer a;
    send_message(w->mx, &a, token, "c@there.test", 0, notify, rcpts);
    WAIT_FOR(a.came);
    cr_assert_eq(a.type, MSG_queued);
}

/* The next attempt is a notification that says so; it is taken. */
static void expect_notice(const char *action)
{
    char line[64];
    struct attempt a = take_attempt();
    cr_assert_str_eq(a.sender, "");
    snprintf(line, sizeof line, "\r\nAction: %s\r\n", action);
    cr_assert(strstr(a.content, line), "%s in\n%s", action, a.content);
    report(a.lease, a.rcpts[0], 2, 250);
    report_end(a.lease);
}

/* RFC3461:5.2.2 (b), RFC3461:5.2.1, RFC3461:5.2.3 */
Test(qmgr, success_is_told_to_who_asked)
{
    mda_up();
    accept_asking(TOKEN(a), 2, TO("local@here.test"));
    answer_delivery(take(&w->to_mda, MSG_deliver), 2);
    expect_notice("delivered");
    for (int tells = 0; tells < 2; tells++) {
        accept_asking(tells ? TOKEN(b) : TOKEN(c), 2, TO("x@far.test"));
        struct attempt a = take_attempt();
        chan_say(w->relay,
                 &(struct msg){.type = MSG_rcpt_report,
                               .rcpt_report = {.lease = a.lease,
                                               .rcpt = a.rcpts[0],
                                               .kind = 2,
                                               .code = 250,
                                               .why = SPAN("ok"),
                                               .tells = (uint8_t)tells}},
                 -1);
        report_end(a.lease);
        if (!tells)
            expect_notice("relayed");
    }
    accept_asking(TOKEN(d), 0, TO("local@here.test"));
    answer_delivery(take(&w->to_mda, MSG_deliver), 2);
    pause_ms(200);
    nothing_more();
}

/* RFC3461:5.2.7.2, RFC3461:5.2.7.3 (c): "expanded" for the alias, and no SUCCESS behind it. */
Test(qmgr, an_alias_tells_that_it_was_expanded)
{
    mda_up();
    accept_asking(TOKEN(a), 2, TO("team@here.test"));
    struct seen *d = take(&w->to_mda, MSG_deliver);
    answer_delivery(d, 2);
    struct attempt a = take_attempt(), b = take_attempt();
    bool notice_first = a.sender[0] == '\0';
    struct attempt notice = notice_first ? a : b, out = notice_first ? b : a;
    cr_assert(strstr(notice.content, "Final-Recipient: rfc822;team@here.test\r\nAction: expanded\r\n"), "%s",
              notice.content);
    report(notice.lease, notice.rcpts[0], 2, 250);
    report_end(notice.lease);
    report(out.lease, out.rcpts[0], 5, 550); /* FAILURE was not asked for */
    report_end(out.lease);
    pause_ms(200);
    nothing_more();
}

/* RFC3461:5.2.5: once, after delay-warning; a sender elsewhere only when it asked. */
Test(qmgr, delay_is_told_once)
{
    w->conf->queue.delay_warning = 500;
    kill_qmgr();
    start_qmgr();
    for (int asked = 0; asked < 2; asked++) {
        accept_asking(asked ? TOKEN(a) : TOKEN(b), asked ? 8 : 0, TO("x@far.test"));
        for (int attempt = 0; attempt < 3; attempt++) {
            struct attempt a = take_attempt();
            report(a.lease, a.rcpts[0], attempt < 2 ? 4 : 2, attempt < 2 ? 451 : 250);
            report_end(a.lease);
            if (asked && attempt == 1)
                expect_notice("delayed");
        }
    }
    pause_ms(200);
    nothing_more();
}

Test(qmgr, an_alias_becomes_recipients_of_their_own)
{
    mda_up();
    accept_one(TOKEN(a), "c@there.test", TO("team@here.test"));
    struct seen *d = take(&w->to_mda, MSG_deliver);
    struct attempt a = take_attempt();
    cr_assert_str_eq(a.addresses, "friend@far.test ");
    answer_delivery(d, 2);
    kill_qmgr();
    start_qmgr();
    a = take_attempt();
    report(a.lease, a.rcpts[0], 5, 550);
    report_end(a.lease);
    /* the sender hears of the address that he gave */
    struct attempt bounce = take_attempt();
    cr_assert(strstr(bounce.content, "  team@here.test\r\n    (which leads to friend@far.test)\r\n"));
    report(bounce.lease, bounce.rcpts[0], 2, 250);
    report_end(bounce.lease);
    pause_ms(300);
}

/* RFC3463:3.5 X.4.6 */
Test(qmgr, aliases_without_end_end)
{
    accept_one(TOKEN(a), "c@there.test", TO("loop@here.test"));
    struct attempt bounce = take_attempt();
    cr_assert(strstr(bounce.content, "Status: 5.4.6\r\n"));
    cr_assert_leq(w->expands, 12);
    report(bounce.lease, bounce.rcpts[0], 2, 250);
    report_end(bounce.lease);
    pause_ms(200);
}

Test(qmgr, a_token_tells_after_a_crash_what_was_queued)
{
    struct answer a, t;
    w->silent_directory = true;
    send_message(w->mx, &a, TOKEN(a), "c@there.test", 0, 0, TO("x@far.test"));
    WAIT_FOR(a.came);
    kill_qmgr();
    start_qmgr();
    t = (struct answer){0};
    chan_ask(w->mx, &(struct msg){.type = MSG_token_ask, .token_ask.token = span_make(TOKEN(a), 16)}, -1, on_answer,
             &t);
    WAIT_FOR(t.came);
    cr_assert_eq(t.type, MSG_queued);
    cr_assert_str_eq(t.qid, a.qid);
    t = (struct answer){0};
    chan_ask(w->mx, &(struct msg){.type = MSG_token_ask, .token_ask.token = span_make(TOKEN(z), 16)}, -1, on_answer,
             &t);
    WAIT_FOR(t.came);
    cr_assert(t.type == MSG_not_queued && t.kind == 4);
    /* the same commit once more is the same message */
    send_message(w->mx, &t, TOKEN(a), "c@there.test", 0, 0, TO("x@far.test"));
    WAIT_FOR(t.came);
    cr_assert_str_eq(t.qid, a.qid);
}

Test(qmgr, a_submission_is_checked_with_the_directory)
{
    struct answer a;
    send_message(w->submission, &a, TOKEN(a), "me@here.test", 0, 0, TO("x@far.test"));
    WAIT_FOR(a.came);
    cr_assert(a.type == MSG_not_queued && a.kind == 5 && a.subject == 7, "no login");
    w->refuse_sender = true;
    send_message(w->submission, &a, TOKEN(b), "boss@here.test", 99, 0, TO("x@far.test"));
    WAIT_FOR(a.came);
    cr_assert(a.type == MSG_not_queued && a.kind == 5 && a.code == 550);
    w->refuse_sender = false;
    send_message(w->submission, &a, TOKEN(c), "me@here.test", 99, 0, TO("x@far.test"));
    WAIT_FOR(a.came);
    cr_assert_eq(a.type, MSG_queued);
    cr_assert_eq(w->sender_checks, 2);
    struct attempt out = take_attempt();
    report(out.lease, out.rcpts[0], 2, 250);
    report_end(out.lease);
}

Test(qmgr, a_held_domain_is_not_attempted)
{
    accept_one(TOKEN(a), "c@there.test", TO("held@far.test", "x@far.test"));
    struct attempt a = take_attempt();
    cr_assert_str_eq(a.addresses, "x@far.test ");
    report(a.lease, a.rcpts[0], 2, 250);
    report_end(a.lease);
    nothing_more();
}

Test(qmgr, wrong_transactions_are_refused)
{
    struct answer a = {0};
    struct msg m = {.type = MSG_msg_commit,
                    .msg_commit = {.txn = 4711, .token = span_make(TOKEN(a), 16), .size = 4, .body = SPAN("body")}};
    chan_ask(w->mx, &m, -1, on_answer, &a);
    WAIT_FOR(a.came);
    cr_assert(a.type == MSG_not_queued && a.kind == 4, "never begun");
    send_message(w->mx, &a, TOKEN(a), "c@there.test", 0, 0, (const char *const[]){NULL});
    WAIT_FOR(a.came);
    cr_assert(a.type == MSG_not_queued && a.kind == 4, "no recipient");
    chan_say(w->mx, &(struct msg){.type = MSG_msg_begin, .msg_begin = {.txn = 5, .sender = SPAN("c@there.test")}}, -1);
    chan_say(w->mx, &(struct msg){.type = MSG_msg_rcpt, .msg_rcpt = {.txn = 5, .address = SPAN("x@far.test")}}, -1);
    m.msg_commit.txn = 5;
    m.msg_commit.size = 5;
    a = (struct answer){0};
    chan_ask(w->mx, &m, -1, on_answer, &a);
    WAIT_FOR(a.came);
    cr_assert(a.type == MSG_not_queued && a.kind == 4, "not the size that was said");
    nothing_more();
}

/* ---- what the sender asks for beside ---- */

static int64_t wall_now(void)
{
    return loop_wall(w->loop);
}

static void taken(const struct attempt *a, bool by)
{
    chan_say(w->relay,
             &(struct msg){.type = MSG_rcpt_report,
                           .rcpt_report = {.lease = a->lease, .rcpt = a->rcpts[0], .kind = 2, .code = 250, .by = by}},
             -1);
    report_end(a->lease);
}

/* RFC2852:4.1.3: back at that time, not when the retries are over. */
Test(qmgr, what_is_late_comes_back)
{
    wishes = (struct msg_msg_begin){.deliver_by = (uint64_t)wall_now() + 1500, .by_mode = QUEUE_BY_RETURN};
    accept_asking(TOKEN(a), 0, TO("x@far.test"));
    wishes = (struct msg_msg_begin){0};
    struct attempt a;
    for (a = take_attempt(); a.sender[0]; a = take_attempt()) {
        cr_assert_eq(a.by_mode, QUEUE_BY_RETURN);
        report(a.lease, a.rcpts[0], 4, 451);
        report_end(a.lease);
    }
    cr_assert(strstr(a.content, "\r\nAction: failed\r\nStatus: 5.4.7\r\n"), "%s", a.content);
    cr_assert(strstr(a.content, "\r\nDeliver-By-Date: "), "RFC2852:5: %s", a.content);
    taken(&a, false);
    nothing_more();
}

/* A message whose time passes while nobody could try it. */
Test(qmgr, what_is_late_is_not_attempted)
{
    struct answer a;
    w->silent_directory = true;
    wishes = (struct msg_msg_begin){.deliver_by = (uint64_t)wall_now() + 300, .by_mode = QUEUE_BY_RETURN};
    send_message(w->mx, &a, TOKEN(a), "c@there.test", 0, 0, TO("x@far.test"));
    wishes = (struct msg_msg_begin){0};
    WAIT_FOR(a.came);
    kill_qmgr();
    pause_ms(400);
    w->silent_directory = false;
    start_qmgr();
    struct attempt notice = take_attempt();
    cr_assert_str_eq(notice.sender, "");
    cr_assert(strstr(notice.content, "Status: 5.4.7\r\n"), "%s", notice.content);
    taken(&notice, false);
    nothing_more();
}

/* RFC2852:4.1.3: told once, and tried further. */
Test(qmgr, who_wants_to_know_is_told_that_it_is_late)
{
    wishes = (struct msg_msg_begin){.deliver_by = (uint64_t)wall_now() + 600, .by_mode = QUEUE_BY_NOTIFY};
    accept_asking(TOKEN(a), 0, TO("x@far.test"));
    wishes = (struct msg_msg_begin){0};
    unsigned notices = 0;
    for (unsigned attempts = 0; attempts < 4;) {
        struct attempt a = take_attempt();
        if (!a.sender[0]) {
            cr_assert(strstr(a.content, "\r\nAction: delayed\r\nStatus: 4.4.7\r\n"), "%s", a.content);
            taken(&a, false);
            notices++;
            continue;
        }
        attempts++;
        if (attempts == 4) {
            taken(&a, true);
        } else {
            report(a.lease, a.rcpts[0], 4, 451);
            report_end(a.lease);
        }
    }
    pause_ms(200);
    nothing_more();
    cr_assert_eq(notices, 1);
}

/* RFC2852:4.1.4, RFC2852:4.1.4.2 */
Test(qmgr, a_host_that_does_not_watch_the_time_is_told_of)
{
    static const struct {
        uint8_t mode;
        bool by, told;
        unsigned notify;
    } cases[] = {
        {QUEUE_BY_NOTIFY, false, true, 0},
        {QUEUE_BY_NOTIFY, true, false, 0},
        {QUEUE_BY_NOTIFY, false, false, QUEUE_NOTIFY_NEVER},
        {QUEUE_BY_RETURN, true, false, 0},
        {QUEUE_BY_RETURN | QUEUE_BY_TRACE, true, true, 0},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char token[24];
        snprintf(token, sizeof token, "by-%c-012345678901", (char)(65 + i));
        wishes = (struct msg_msg_begin){.deliver_by = (uint64_t)wall_now() + 60000, .by_mode = cases[i].mode};
        accept_asking(token, cases[i].notify, TO("x@far.test"));
        wishes = (struct msg_msg_begin){0};
        struct attempt a = take_attempt();
        taken(&a, cases[i].by);
        if (cases[i].told)
            expect_notice("relayed");
        else
            nothing_more();
    }
}

/* RFC4865:4.2: not before its time, also over a restart; only for our users. */
Test(qmgr, a_message_is_held_for_its_sender)
{
    struct answer a;
    int64_t until = wall_now() + 1500;
    wishes = (struct msg_msg_begin){.hold_until = (uint64_t)until, .hold = SPAN("for;1")};
    send_message(w->submission, &a, TOKEN(a), "local@here.test", 99, 0, TO("nobody@here.test"));
    WAIT_FOR(a.came);
    cr_assert_eq(a.type, MSG_queued);
    send_message(w->mx, &a, TOKEN(b), "c@there.test", 0, 0, TO("x@far.test"));
    WAIT_FOR(a.came);
    wishes = (struct msg_msg_begin){0};
    struct attempt out = take_attempt(); /* of another server: at once */
    cr_assert_str_eq(out.domain, "far.test");
    taken(&out, false);
    pause_ms(200);
    kill_qmgr();
    start_qmgr();
    nothing_more();
    mda_up();
    struct seen *notice = take(&w->to_mda, MSG_deliver); /* nobody there: the sender is told */
    cr_assert_geq(wall_now(), until);
    cr_assert(span_search(notice->m.deliver.body, SPAN("\r\nFuture-Release-Request: for;1\r\n")) > 0, "RFC4865:5.1.2");
    answer_delivery(notice, 2);
    pause_ms(100);
}

/* RFC6710:3, RFC6710:4.1, RFC6710:5; RFC8689:5, RFC8689:6 */
Test(qmgr, priority_and_tls_go_along)
{
    static const char *const allowed[] = {"local@here.test"};
    struct answer a;
    for (int listed = 0; listed < 2; listed++) {
        if (listed)
            w->conf->smtp.priority_accounts = (struct conf_list){allowed, 1};
        kill_qmgr();
        start_qmgr();
        wishes = (struct msg_msg_begin){.priority = msg_priority_put(4), .tls_need = QUEUE_TLS_MUST};
        send_message(w->submission, &a, listed ? TOKEN(a) : TOKEN(b), "local@here.test", 99, 0, TO("x@far.test"));
        WAIT_FOR(a.came);
        struct attempt out = take_attempt();
        cr_assert_eq(msg_priority_get((uint8_t)out.priority), listed ? 4 : 0, "%u, listed %d", out.priority, listed);
        cr_assert_eq(out.tls_need, QUEUE_TLS_MUST);
        taken(&out, false);
        pause_ms(200);
    }
    wishes.priority = msg_priority_put(-4);
    send_message(w->submission, &a, TOKEN(c), "local@here.test", 99, 0, TO("x@far.test"));
    WAIT_FOR(a.came);
    struct attempt low = take_attempt();
    cr_assert_eq(msg_priority_get((uint8_t)low.priority), -4);
    taken(&low, false);
    accept_asking(TOKEN(d), 0, TO("nobody@here.test"));
    wishes = (struct msg_msg_begin){0};
    struct attempt bounce = take_attempt();
    cr_assert_str_eq(bounce.sender, "");
    cr_assert_eq(bounce.tls_need, QUEUE_TLS_MUST);
    cr_assert_eq(bounce.priority, 0, "from outside nobody has one");
    taken(&bounce, false);
}
