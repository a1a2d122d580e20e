/* Scenarios of tests/data/scenarios (its README has the language): the whole queue manager on a real queue, with threads and channels,
 * while the script moves its clock. The service's skeleton and all peers are played here. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <signal.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "db/db.h"
#include "ipc/rows.h"
#include "qmgr/operator.h"

#define NAMES_MAX 200
#define WORDS_MAX 40
#define RCPTS_MAX ATTEMPT_RCPTS_MAX
#define ACCOUNT 7 /* the first */
#define ACCOUNTS 2
#define BEGIN_MS INT64_C(1700000000000)
#define SPIN_MAX 20000 /* of up to 1 ms: a thread that never answers */

struct service {
    int none;
};

struct attempt {
    struct link link;
    uint64_t lease;
    bool whole;
    uint64_t delivery; /* of an account's process: what it was asked, 0: it is relay's */
    struct chan *process;
    uint32_t epoch;
    char qid[64], domain[256], sender[256];
    struct {
        uint64_t id;
        char address[256];
        bool answered;
    } rcpts[RCPTS_MAX];
    unsigned count;
    unsigned after; /* questions that the directory had answered by then */
    struct buf content;
};

/* A question that the directory has not answered yet. */
struct held {
    uint64_t id;
    char address[256];
};

struct named {
    char name[32], qid[64];
};

struct world {
    struct loop *loop;
    struct qmgr q;
    struct service service;
    const struct conf *conf;
    struct chan *near[ROLE_COUNT], *far[ROLE_COUNT]; /* qmgr's ends; the peers' */
    struct link attempts;                            /* that have come, the oldest first */
    struct link open;                                /* expected, and under way */
    struct attempt *current;                         /* expected last; NULL: it is answered */
    struct named names[NAMES_MAX];
    unsigned name_count;
    unsigned asked, answered;
    const struct conf *directory_conf; /* it has not followed the last reload yet; NULL: it has */
    bool directory_holds; /* its answers, until it is told to give them */
    struct held *held;
    unsigned held_count, held_cap;
    unsigned expanded; /* answers of the directory since then */
    struct chan *mda[ACCOUNTS]; /* the accounts' processes */
    bool store_broken, door_closed;
    int store_fd;
    bool drained, stopped;
    int64_t mark; /* when the last step was */
    struct buf said; /* by the last operator's command */
    uint64_t wrote;  /* transactions by it */
    char dir[64];
    const char *file; /* the script */
    unsigned line;
};

static struct world *w;

static void fail(const char *fmt, ...) PRINTF_LIKE(1, 2);
static void fail(const char *fmt, ...)
{
    char text[4000];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    cr_assert_fail("%s:%u: %s", w->file, w->line, text);
}

/* ---- the skeleton ---- */

struct loop *service_loop(struct service *s UNUSED)
{
    return w->loop;
}

const struct conf *service_conf(struct service *s UNUSED)
{
    return w->conf;
}

void *service_state(struct service *s UNUSED)
{
    return &w->q;
}

struct chan *service_chan(struct service *s UNUSED, enum role peer, uint32_t instance UNUSED)
{
    return w->near[peer];
}

/* The store, for syncfs. */
int service_resource(struct service *s UNUSED, unsigned what UNUSED)
{
    return w->store_broken ? -1 : w->store_fd;
}

void service_done(struct service *s UNUSED)
{
    w->drained = true;
}

static void near_msg(void *ctx UNUSED, struct chan *c, const struct msg *m, int fd)
{
    qmgr_program.on_msg(&w->service, c, m, fd);
}

static void near_room(void *ctx UNUSED, struct chan *c)
{
    qmgr_program.on_room(&w->service, c);
}

/* ---- the peers ---- */

static void settle(void);

static void put_text(char *to, size_t size, struct span s)
{
    snprintf(to, size, "%.*s", SPANV(s));
}

static void expand_item(struct chan *c, uint64_t id, struct span address)
{
    struct msg m = {.type = MSG_expand_item, .expand_item = {.kind = 2, .address = address}};
    chan_answer(c, chan_epoch(c), id, &m, -1);
}

static void only_item(struct msg *end, unsigned kind, struct span address)
{
    end->expand_end.item = (uint8_t)kind;
    end->expand_end.account = kind != 1 ? 0 : span_istarts(address, SPAN("other@")) ? ACCOUNT + 1 : ACCOUNT;
    end->expand_end.address = address;
}

/* local@x.test and other@x.test are accounts, team@x.test an alias of it and of friend@far.test, ring@x.test one of itself, nobody@x.test not there;
 * the others are elsewhere. */
static void directory_says(struct chan *c, uint64_t id, struct span to)
{
    char room[ADDRESS_DOMAIN_MAX + 1];
    const struct conf *says = w->directory_conf ? w->directory_conf : w->conf;
    const struct conf_domain *d = conf_domain_for(says, canonical_domain(to, room));
    struct msg end = {.type = MSG_expand_end, .expand_end = {.kind = OUTCOME_DONE, .count = 1, .held = d && d->hold}};
    if (span_ieqs(to, "local@x.test") || span_ieqs(to, "other@x.test")) {
        only_item(&end, 1, to);
    } else if (span_ieqs(to, "team@x.test")) {
        expand_item(c, id, SPAN("local@x.test"));
        expand_item(c, id, SPAN("friend@far.test"));
        end.expand_end.count = 2;
    } else if (span_ieqs(to, "ring@x.test")) {
        expand_item(c, id, to);
    } else if (span_ieqs(to, "nobody@x.test")) {
        end.expand_end = (struct msg_expand_end){.kind = OUTCOME_FAILED, .subject = 1, .detail = 1, .why = SPAN("no such address here")};
    } else {
        only_item(&end, 3, to);
        end.expand_end.held = d && d->hold ? 1 : d && d->on_demand ? 2 : 0;
    }
    chan_answer(c, chan_epoch(c), id, &end, -1);
    w->expanded++;
}

static void directory_keeps(const struct msg *m)
{
    if (w->held_count == w->held_cap) {
        w->held_cap = w->held_cap ? w->held_cap * 2 : 256;
        w->held = mem_resize(w->held, w->held_cap * sizeof *w->held);
    }
    struct held *h = &w->held[w->held_count++];
    h->id = m->id;
    put_text(h->address, sizeof h->address, m->expand.address);
}

static void directory_speaks(void)
{
    w->directory_holds = false;
    w->expanded = 0;
    for (unsigned i = 0; i < w->held_count; i++)
        directory_says(w->far[ROLE_AUTHD], w->held[i].id, span_of(w->held[i].address));
    w->held_count = 0;
    settle();
}

static void directory(struct chan *c, const struct msg *m)
{
    struct msg o = {.type = MSG_verdict, .verdict = {.kind = OUTCOME_DONE, .account = 1, .login = SPAN("a@x.test")}};
    if (m->type == MSG_expand && w->directory_holds)
        directory_keeps(m);
    else if (m->type == MSG_expand)
        directory_says(c, m->id, m->expand.address);
    if (m->type == MSG_expand)
        return;
    if (m->type == MSG_mda_want)
        o = (struct msg){.type = MSG_mda_started, .mda_started = {.account = m->mda_want.account, .kind = OUTCOME_RETRY, .why = SPAN("away")}};
    else if (m->type == MSG_sender_check)
        o.verdict.login = m->sender_check.sender;
    else
        fail("asked of the directory: %u", (unsigned)m->type);
    chan_answer(c, chan_epoch(c), m->id, &o, -1);
}

static struct attempt *attempt_of(uint64_t lease)
{
    LIST_EACH(&w->attempts, l)
    if (container_of(l, struct attempt, link)->lease == lease)
        return container_of(l, struct attempt, link);
    fail("nothing is known of that lease");
    return NULL;
}

static void relay(const struct msg *m, int fd)
{
    struct attempt *a;
    switch (m->type) {
    case MSG_attempt:
        a = mem_alloc(sizeof *a);
        a->lease = m->attempt.lease;
        put_text(a->qid, sizeof a->qid, m->attempt.qid);
        put_text(a->domain, sizeof a->domain, m->attempt.route.n ? m->attempt.route : m->attempt.domain);
        put_text(a->sender, sizeof a->sender, m->attempt.sender);
        a->after = w->expanded;
        list_add_tail(&w->attempts, &a->link);
        break;
    case MSG_attempt_rcpt:
        a = attempt_of(m->attempt_rcpt.lease);
        if (a->count == RCPTS_MAX)
            fail("more recipients than expected of one attempt");
        a->rcpts[a->count].id = m->attempt_rcpt.rcpt;
        put_text(a->rcpts[a->count].address, sizeof a->rcpts[0].address, m->attempt_rcpt.address);
        a->count++;
        break;
    case MSG_attempt_go:
        a = attempt_of(m->attempt_go.lease);
        buf_add(&a->content, m->attempt_go.prefix);
        buf_add(&a->content, m->attempt_go.body);
        for (ssize_t n; fd >= 0 && (n = pread(fd, buf_room(&a->content, 65536), 65536, (off_t)a->content.n)) > 0;)
            a->content.n += (size_t)n;
        a->whole = true;
        break;
    default:
        fail("asked of relay: %u", (unsigned)m->type);
    }
}

static void account_process(struct chan *c, const struct msg *m)
{
    if (m->type != MSG_deliver)
        fail("asked of the account's process: %u", (unsigned)m->type);
    const struct msg_deliver *d = &m->deliver;
    struct attempt *a = mem_alloc(sizeof *a);
    a->lease = d->lease;
    a->delivery = m->id;
    a->epoch = chan_epoch(c);
    put_text(a->qid, sizeof a->qid, d->qid);
    a->process = c;
    put_text(a->domain, sizeof a->domain, c == w->mda[0] ? SPAN("account:7") : SPAN("account:8"));
    put_text(a->sender, sizeof a->sender, d->sender);
    a->rcpts[a->count].id = d->rcpt;
    put_text(a->rcpts[a->count++].address, sizeof a->rcpts[0].address, d->delivered_to);
    buf_add(&a->content, d->prefix);
    buf_add(&a->content, d->body);
    a->whole = true;
    list_add_tail(&w->attempts, &a->link);
}

static void far_msg(void *ctx, struct chan *c, const struct msg *m, int fd)
{
    enum role me = *(enum role *)ctx;
    if (me == ROLE_MDA)
        account_process(c, m);
    if (me == ROLE_MX && m->type == MSG_queue_state)
        w->door_closed = !m->queue_state.open;
    if (me == ROLE_AUTHD)
        directory(c, m);
    else if (me == ROLE_RELAY)
        relay(m, fd);
    if (fd >= 0)
        close(fd);
}

static void attempt_free(struct attempt *a)
{
    list_del(&a->link);
    buf_free(&a->content);
    mem_free(&a);
}

/* ---- time ---- */

static void on_kicked(void *ctx UNUSED, struct chan *c UNUSED, enum chan_why why UNUSED, const struct msg *m UNUSED, int fd UNUSED)
{
    w->answered++;
}

/* What nobody waits for is written with the next request that somebody waits for. */
static void kick(void)
{
    struct msg m = {.type = MSG_token_ask, .token_ask = {.token = SPAN("0123456789abcdef")}};
    w->asked++;
    chan_ask(w->far[ROLE_MX], &m, -1, on_kicked, NULL);
}

static bool busy(void)
{
    const struct qmgr *q = &w->q;
    return q->accepting || q->settles || q->probing || !list_empty(&q->settling) || (q->picked.count && !w->directory_holds) || q->sync_running || q->load_running ||
           refill_running(q) || operator_running(q) || loop_works(w->loop) || w->asked != w->answered;
}

/* Everything that goes on without the clock has ended. */
static void settle(void)
{
    unsigned quiet = 0, spins = 0;
    while (quiet < 3) {
        if (loop_turn(w->loop, 0)) {
            quiet = 0;
        } else if (busy()) {
            quiet = 0;
            if (w->q.settles && w->asked == w->answered)
                kick();
            loop_turn(w->loop, 1);
            if (++spins > SPIN_MAX)
                fail("never quiet: accepting %u, settles %u, works %zu", w->q.accepting, w->q.settles, loop_works(w->loop));
        } else {
            quiet++;
        }
    }
}

/* Until an attempt has come, or ms have passed. */
static bool advance(int64_t ms, bool to_attempt)
{
    settle();
    while (!(to_attempt && !list_empty(&w->attempts))) {
        if (!loop_advance_step(w->loop, &ms))
            break;
        settle();
    }
    settle();
    return !list_empty(&w->attempts);
}

/* ---- start and end ---- */

static const struct chan_ops far = {.on_msg = far_msg};

static void account_up(unsigned i)
{
    static enum role mda = ROLE_MDA;
    struct err err;
    int fds[2];
    cr_assert_eq(chan_pair(fds, &err), 0, "%s", err.text);
    if (w->mda[i])
        chan_free(&w->mda[i]);
    w->mda[i] = chan_new(w->loop, fds[1], ROLE_QMGR, 0, &far, &mda);
    local_mda_end(&w->q, ACCOUNT + i, fds[0]);
}

static void program_start(void)
{
    static const struct chan_ops near = {.on_msg = near_msg, .on_room = near_room};
    static enum role roles[ROLE_COUNT];
    struct err err;
    int fds[2];
    for (enum role r = 0; r < ROLE_COUNT; r++) {
        roles[r] = r;
        fds[0] = -1;
        if (r == ROLE_MX || r == ROLE_SUBMISSION || r == ROLE_AUTHD || r == ROLE_RELAY)
            cr_assert_eq(chan_pair(fds, &err), 0, "%s", err.text);
        w->near[r] = chan_new(w->loop, fds[0], r, 0, &near, NULL);
        w->far[r] = fds[0] >= 0 ? chan_new(w->loop, fds[1], ROLE_QMGR, 0, &far, &roles[r]) : NULL;
    }
    w->door_closed = false;
    memset(&w->q, 0, sizeof w->q);
    if (qmgr_program.warm(&w->service, &err) || qmgr_program.start(&w->service, &err))
        fail("no start: %s", err.text);
    w->q.random = 4711; /* the same jitter each time */
    for (unsigned i = 0; i < ACCOUNTS; i++)
        account_up(i);
    settle();
}

/* A pool thread that is busy until the program ends. */
static void held_up(void *ctx UNUSED)
{
    while (!__atomic_load_n(&w->q.draining, __ATOMIC_RELAXED) && !__atomic_load_n(&w->q.stopping, __ATOMIC_RELAXED))
        sched_yield();
}

static void nothing(void *ctx UNUSED)
{
}

/* Its end comes while what is due is being read: all threads are busy with something else, and that one is to come. */
static void program_reads(void)
{
    for (unsigned i = 0; i < 64; i++) /* more than libuv has by default, fewer than it may have */
        loop_work(w->loop, held_up, nothing, NULL);
    refill_soon(&w->q);
    cr_assert(refill_running(&w->q));
}

static void program_end(void)
{
    LIST_EACH(&w->attempts, l)
    attempt_free(container_of(l, struct attempt, link));
    LIST_EACH(&w->open, l)
    attempt_free(container_of(l, struct attempt, link));
    w->current = NULL;
    qmgr_program.stop(&w->service);
    if (loop_works(w->loop))
        fail("it ended under its threads");
    for (enum role r = 0; r < ROLE_COUNT; r++) {
        chan_free(&w->near[r]);
        if (w->far[r])
            chan_free(&w->far[r]);
    }
    for (unsigned i = 0; i < ACCOUNTS; i++)
        chan_free(&w->mda[i]);
    w->asked = w->answered = 0;
}

static void configure(struct span text)
{
    struct conf_errors errors = {0};
    struct buf all = {0};
    const struct conf *before = w->conf;
    buf_printf(&all, "hostname mx.x.test; state %s;\n", w->dir);
    buf_add(&all, text);
    w->conf = conf_parse(w->file, buf_span(&all), before ? before->generation + 1 : 1, &errors);
    if (!w->conf)
        fail("%s", buf_cstr(&errors.text));
    conf_errors_free(&errors);
    buf_free(&all);
    if (!before || w->stopped) {
        w->stopped = false;
        program_start();
        if (before)
            conf_unref(&before);
        return;
    }
    qmgr_program.reloaded(&w->service);
    settle();
    conf_unref(&before);
}

/* ---- steps ---- */

struct words {
    char at[WORDS_MAX][256];
    unsigned n;
};

static int64_t time_of(const char *text)
{
    int64_t ms = 0;
    if (!conf_time_of(span_of(text), &ms))
        fail("no time: %s", text);
    return ms;
}

static void range_of(const char *text, int64_t *least, int64_t *most, int64_t (*of)(const char *))
{
    struct span rest = span_of(text), first;
    char a[64], b[64];
    const char *dots = strstr(text, "..");
    if (!dots)
        fail("no range: %s", text);
    first = span_make(text, (size_t)(dots - text));
    put_text(a, sizeof a, first);
    put_text(b, sizeof b, span_from(rest, first.n + 2));
    *least = of(a);
    *most = of(b);
}

static int64_t number_of(const char *text)
{
    return strtoll(text, NULL, 10);
}

static const char *value_of(const struct words *v, const char *key)
{
    size_t n = strlen(key);
    for (unsigned i = 0; i < v->n; i++)
        if (strncmp(v->at[i], key, n) == 0 && v->at[i][n] == '=')
            return v->at[i] + n + 1;
    return NULL;
}

static const char *qid_of(const char *name)
{
    for (unsigned i = 0; i < w->name_count; i++)
        if (strcmp(w->names[i].name, name) == 0)
            return w->names[i].qid;
    return name;
}

static void on_refused(void *ctx UNUSED, struct chan *c UNUSED, enum chan_why why, const struct msg *m, int fd UNUSED)
{
    w->answered++;
    if (why != CHAN_ANSWERED || m->type != MSG_not_queued || m->not_queued.kind != OUTCOME_RETRY)
        fail("not refused");
}

static void on_queued(void *ctx, struct chan *c UNUSED, enum chan_why why, const struct msg *m, int fd UNUSED)
{
    struct named *n = ctx;
    w->answered++;
    if (why != CHAN_ANSWERED || m->type != MSG_queued)
        fail("%s was not queued", n->name);
    put_text(n->qid, sizeof n->qid, m->queued.qid);
}

static uint8_t notify_of(const char *text)
{
    uint8_t bits = 0;
    if (!text)
        return 0;
    bits |= strstr(text, "success") ? QUEUE_NOTIFY_SUCCESS : 0;
    bits |= strstr(text, "failure") ? QUEUE_NOTIFY_FAILURE : 0;
    bits |= strstr(text, "delay") ? QUEUE_NOTIFY_DELAY : 0;
    bits |= strstr(text, "never") ? QUEUE_NOTIFY_NEVER : 0;
    return bits;
}

static void take_by(struct msg_msg_begin *b, const char *text)
{
    char time[64];
    put_text(time, sizeof time, span_make(text, strcspn(text, ";")));
    b->deliver_by = (uint64_t)(loop_wall(w->loop) + time_of(time));
    b->by_mode = strstr(text, ";R") ? QUEUE_BY_RETURN : QUEUE_BY_NOTIFY;
}

static void submit_to(struct chan *c, uint64_t txn, const char *address, const struct words *v)
{
    const char *each = value_of(v, "each");
    int64_t many = each ? number_of(each) : 1;
    for (int64_t i = 0; i < many; i++) {
        char text[300] = "";
        if (each)
            snprintf(text, sizeof text, "%lld.", (long long)i);
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s", address);
        struct msg m = {.type = MSG_msg_rcpt,
                        .msg_rcpt = {.txn = txn, .address = span_of(text), .notify = notify_of(value_of(v, "notify"))}};
        chan_say(c, &m, -1);
        if (i % 100 == 99)
            settle(); /* no channel holds them all */
    }
}

static void hand_in(const struct words *v, chan_answer_fn *fn, void *ctx)
{
    static uint64_t txn;
    struct span content = SPAN("Subject: x\r\nMessage-ID: <1@x.test>\r\n\r\nhello\r\n");
    const char *hold = value_of(v, "hold"), *by = value_of(v, "by"), *priority = value_of(v, "priority");
    struct chan *c = w->far[value_of(v, "outside") ? ROLE_MX : ROLE_SUBMISSION];
    char token[17];
    if (v->n < 6 || strcmp(v->at[2], "from") || strcmp(v->at[4], "to"))
        fail("submit NAME from SENDER to RECIPIENT...");
    struct msg m = {.type = MSG_msg_begin};
    const char *marks = value_of(v, "marks");
    m.msg_begin = (struct msg_msg_begin){.txn = ++txn, .session = 1, .sender = strcmp(v->at[3], "<>") ? span_of(v->at[3]) : SPAN(""),
                                         .helo = SPAN("me"), .remote = SPAN("192.0.2.1")};
    if (hold) {
        m.msg_begin.hold_until = (uint64_t)(loop_wall(w->loop) + time_of(hold));
        m.msg_begin.hold = SPAN("until later");
    }
    if (by)
        take_by(&m.msg_begin, by);
    if (priority)
        m.msg_begin.priority = msg_priority_put((int)number_of(priority));
    chan_say(c, &m, -1);
    for (unsigned i = 5; i < v->n && !strchr(v->at[i], '='); i++)
        submit_to(c, txn, v->at[i], v);
    snprintf(token, sizeof token, "token%011llu", (unsigned long long)txn);
    m = (struct msg){.type = MSG_msg_commit};
    m.msg_commit = (struct msg_msg_commit){.txn = txn, .token = span_of(token), .size = content.n, .header_bytes = (uint32_t)content.n - 9,
                                           .message_id = SPAN("<1@x.test>"), .marks = span_of(marks ? marks : ""), .body = content};
    w->asked++;
    cr_assert(chan_ask(c, &m, -1, fn, ctx));
}

static void submit(const struct words *v)
{
    if (w->name_count == NAMES_MAX)
        fail("too many names");
    struct named *n = &w->names[w->name_count++];
    put_text(n->name, sizeof n->name, span_of(v->at[1]));
    hand_in(v, on_queued, n);
    settle();
}

/* flood N from SENDER to RECIPIENT...: so many messages, without a name */
static void flood(const struct words *v)
{
    static struct named nameless;
    for (int64_t i = number_of(v->at[1]); i > 0; i--) {
        hand_in(v, on_queued, &nameless);
        loop_turn(w->loop, 0);
    }
    settle();
}

/* What has come, for a failure's text. */
static const char *have(void)
{
    static struct buf text;
    buf_clear(&text);
    LIST_EACH(&w->attempts, l)
    {
        const struct attempt *a = container_of(l, struct attempt, link);
        buf_printf(&text, "; %s %s from <%s>", a->domain, a->qid, a->sender);
        for (unsigned i = 0; i < a->count; i++)
            buf_printf(&text, " %s", a->rcpts[i].address);
    }
    return text.n ? buf_cstr(&text) + 2 : "none";
}

static struct attempt *next_attempt(void)
{
    if (list_empty(&w->attempts))
        fail("no attempt has come");
    struct attempt *a = container_of(w->attempts.next, struct attempt, link);
    if (!a->whole)
        fail("an attempt without its end");
    return a;
}

/* It is under way; the clock's mark is set. */
static void take(struct attempt *a)
{
    list_del(&a->link);
    list_add_tail(&w->open, &a->link);
    w->current = a;
    w->mark = loop_wall(w->loop);
}

static bool has_rcpt(const struct attempt *a, const char *address)
{
    for (unsigned i = 0; i < a->count; i++)
        if (strcmp(a->rcpts[i].address, address) == 0)
            return true;
    return false;
}

/* v from `at` on: DOMAIN NAME RECIPIENT... */
static void want_attempt(const struct words *v, unsigned at)
{
    struct attempt *a = next_attempt();
    if (v->n == at + 2 && strcmp(v->at[at + 1], "*") == 0 && strcmp(a->domain, v->at[at]) == 0) {
        take(a);
        return;
    }
    if (v->n < at + 3)
        fail("attempt DOMAIN NAME RECIPIENT...");
    if (strcmp(a->domain, v->at[at]) || strcmp(a->qid, qid_of(v->at[at + 1])) || a->count != v->n - at - 2)
        fail("other attempts: %s (%s is %s)", have(), v->at[at + 1], qid_of(v->at[at + 1]));
    for (unsigned i = at + 2; i < v->n; i++)
        if (!has_rcpt(a, v->at[i]))
            fail("other attempts: %s", have());
    take(a);
}

/* ACTION TO ABOUT: RFC3464:2.3.3, a null reverse-path (RFC5321:4.5.5) */
static void want_dsn(const struct words *v, unsigned at)
{
    struct attempt *a = next_attempt();
    char action[80], about[300];
    if (v->n != at + 3)
        fail("dsn ACTION TO ABOUT");
    snprintf(action, sizeof action, "\nAction: %s\r\n", v->at[at]);
    snprintf(about, sizeof about, "\nFinal-Recipient: rfc822;%s\r\n", v->at[at + 2]);
    if (*a->sender || a->count != 1 || !has_rcpt(a, v->at[at + 1]))
        fail("no notification, but %s", have());
    if (!strstr(buf_cstr(&a->content), action) || !strstr(buf_cstr(&a->content), about))
        fail("another notification: %s", buf_cstr(&a->content));
    take(a);
}

static void want(const struct words *v, unsigned at)
{
    settle();
    if (at < v->n && strcmp(v->at[at], "nothing") == 0) {
        if (!list_empty(&w->attempts))
            fail("there are attempts: %s", have());
    } else if (at < v->n && strcmp(v->at[at], "attempt") == 0) {
        want_attempt(v, at + 1);
    } else if (at < v->n && strcmp(v->at[at], "dsn") == 0) {
        want_dsn(v, at + 1);
    } else {
        fail("nothing, attempt or dsn");
    }
}

/* Somewhere among those that have come, after so many answers of the directory at most. */
static void soon(const struct words *v)
{
    int64_t most = number_of(v->at[1]);
    LIST_EACH(&w->attempts, l)
    {
        struct attempt *a = container_of(l, struct attempt, link);
        if (strcmp(a->domain, v->at[3]) != 0)
            continue;
        if (a->after > most)
            fail("that attempt came after %u answers of the directory", a->after);
        list_del(l);
        list_add_head(&w->attempts, l);
        want_attempt(v, 3);
        return;
    }
    fail("no such attempt has come");
}

static void after(const struct words *v)
{
    int64_t least, most, from = w->mark, took;
    if (strstr(v->at[1], "..")) {
        range_of(v->at[1], &least, &most, time_of);
    } else { /* with the jitter of queue/retry.h */
        least = time_of(v->at[1]) * 7 / 8;
        most = time_of(v->at[1]) * 9 / 8;
    }
    if (!advance(most - (loop_wall(w->loop) - from), true))
        fail("no attempt until then");
    took = loop_wall(w->loop) - from;
    if (took < least || took > most)
        fail("after %lld s: %s", (long long)took / 1000, have());
    want(v, 2);
}

/* One that is under way is what is answered next. */
static void back_to(const struct words *v)
{
    LIST_EACH(&w->open, l)
    {
        struct attempt *a = container_of(l, struct attempt, link);
        if (strcmp(a->qid, qid_of(v->at[1])) == 0) {
            w->current = a;
            return;
        }
    }
    fail("no attempt of %s is under way", v->at[1]);
}

static void report(struct attempt *a, unsigned i, const struct msg_rcpt_report *like)
{
    if (a->delivery) {
        struct msg d = {.type = MSG_delivered, .delivered = {.lease = a->lease, .rcpt = a->rcpts[i].id, .kind = like->kind,
                                                             .subject = like->subject, .detail = like->detail, .why = like->why}};
        a->rcpts[i].answered = true;
        chan_answer(a->process, a->epoch, a->delivery, &d, -1);
        return;
    }
    struct msg m = {.type = MSG_rcpt_report, .rcpt_report = *like};
    m.rcpt_report.lease = a->lease;
    m.rcpt_report.rcpt = a->rcpts[i].id;
    a->rcpts[i].answered = true;
    chan_say(w->far[ROLE_RELAY], &m, -1);
}

/* To one of its recipients, or (NULL) to all that are open; with the last one the attempt ends. */
static void answer(struct attempt *a, const char *only, const struct msg_rcpt_report *like, bool unreached)
{
    struct msg m = {.type = MSG_attempt_report,
                    .attempt_report = {.lease = a->lease, .unreached = unreached, .remote = like->remote, .took = 10}};
    unsigned open = 0, given = 0;
    for (unsigned i = 0; i < a->count; i++) {
        if (!a->rcpts[i].answered && (!only || strcmp(only, a->rcpts[i].address) == 0)) {
            report(a, i, like);
            given++;
        }
        open += !a->rcpts[i].answered;
    }
    if (!given)
        fail("no such recipient is open");
    if (open == 0) {
        if (!a->delivery)
            chan_say(w->far[ROLE_RELAY], &m, -1);
        w->current = NULL;
        attempt_free(a);
    }
    settle();
}

/* v from `at` on: CODE STATUS [TEXT] */
static struct msg_rcpt_report reply_of(const struct words *v, unsigned at)
{
    static char text[1000], dialogue[1200];
    unsigned kind, subject, detail;
    text[0] = '\0';
    if (v->n < at + 2 || sscanf(v->at[at + 1], "%u.%u.%u", &kind, &subject, &detail) != 3)
        fail("CODE STATUS [TEXT]");
    for (unsigned i = at + 2; i < v->n; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", i > at + 2 ? " " : "", v->at[i]);
    snprintf(dialogue, sizeof dialogue, "MAIL -> 250 ok | RCPT -> %s %s", v->at[at], text);
    return (struct msg_rcpt_report){.kind = (uint8_t)kind,
                                    .code = (uint16_t)number_of(v->at[at]),
                                    .subject = (uint16_t)subject,
                                    .detail = (uint16_t)detail,
                                    .why = span_of(text),
                                    .remote = SPAN("mx.y.test[192.0.2.9]"),
                                    .dialogue = kind == OUTCOME_DONE ? SPAN_NONE : span_of(dialogue)};
}

static void outdated(struct attempt *a)
{
    struct msg m = {.type = MSG_attempt_report, .attempt_report = {.lease = a->lease, .outdated = 1}};
    chan_say(w->far[ROLE_RELAY], &m, -1);
    w->current = NULL;
    attempt_free(a);
    settle();
}

static void reply(const struct words *v)
{
    struct msg_rcpt_report r = {.kind = OUTCOME_RETRY, .subject = 4, .detail = 1, .why = SPAN("no answer")};
    unsigned at = 1;
    const char *only = v->n > 1 && strchr(v->at[1], '@') ? v->at[at++] : NULL;
    if (!w->current)
        fail("no attempt was expected");
    if (v->n == 2 && strcmp(v->at[1], "unreached") == 0) {
        answer(w->current, NULL, &r, true);
        return;
    }
    if (v->n == 2 && strcmp(v->at[1], "outdated") == 0) {
        outdated(w->current);
        return;
    }
    r = reply_of(v, at);
    answer(w->current, only, &r, false);
}

static void count(const struct words *v)
{
    struct msg_rcpt_report like = {.kind = OUTCOME_DONE, .code = 250, .why = SPAN("ok")};
    int64_t least, most, end = loop_wall(w->loop) + time_of(v->at[2]), n = 0;
    if (v->n > 3)
        like = reply_of(v, 3);
    range_of(v->at[1], &least, &most, number_of);
    while (advance(end - loop_wall(w->loop), true)) {
        struct attempt *a = next_attempt();
        take(a);
        answer(a, NULL, &like, false);
        n++;
    }
    if (n < least || n > most)
        fail("%lld attempts", (long long)n);
}

/* ---- operators ---- */

static void hear_rows(struct span rest)
{
    struct row_cell c;
    for (enum rows_item item; (item = rows_next(&rest, &c)) != ROWS_OVER;) {
        cr_assert_neq(item, ROWS_BAD);
        if (item == ROWS_CELL)
            buf_printf(&w->said, "%.*s=%.*s", SPANV(c.name), SPANV(c.value));
        if (item == ROWS_CELL && c.kind != ROW_TEXT)
            buf_printf(&w->said, "%llu", (unsigned long long)c.number);
        buf_addc(&w->said, item == ROWS_END ? '\n' : ' ');
    }
}

static void hear(int fd)
{
    struct buf in = {0};
    struct msg m;
    struct err err;
    char peek;
    int got;
    while (recv(fd, &peek, 1, MSG_PEEK | MSG_DONTWAIT) > 0 && chan_recv_now(fd, ROLE_QMGR, &in, &m, &got, &err) == 1) {
        if (m.type == MSG_adm_rows)
            hear_rows(m.adm_rows.rows);
        if (m.type == MSG_adm_end)
            buf_printf(&w->said, "end=%u %.*s\n", m.adm_end.status, SPANV(m.adm_end.message));
    }
    buf_free(&in);
}

/* A word is an argument; _ stands for a blank in it. */
static int operator_asks(const struct words *v)
{
    char command[600], arg[256];
    struct err err;
    int fds[2];
    if (v->n < 3)
        fail("operator COMMAND ARGUMENT...");
    snprintf(command, sizeof command, "%s %s", v->at[1], v->at[2]);
    cr_assert_eq(chan_pair(fds, &err), 0);
    admin_accept(w->q.admin, fds[0], 0);
    for (unsigned i = 3; i < v->n; i++) {
        put_text(arg, sizeof arg, span_of(strchr(v->at[i], '@') ? v->at[i] : qid_of(v->at[i])));
        for (char *p = arg; *p; p++)
            *p = *p == '_' ? ' ' : *p;
        cr_assert_eq(chan_send_now(fds[1], &(struct msg){.type = MSG_adm_arg, .adm_arg = {.value = span_of(arg)}}, -1, &err), 0);
    }
    cr_assert_eq(chan_send_now(fds[1], &(struct msg){.type = MSG_adm_go, .adm_go = {.command = span_of(command)}}, -1, &err), 0);
    return fds[1];
}

static void operator_says(const struct words *v)
{
    uint64_t before = queue_stats(w->q.queue).requests;
    unsigned kicks = w->asked;
    int fd = operator_asks(v);
    settle();
    buf_clear(&w->said);
    hear(fd);
    close(fd);
    settle();
    w->wrote = queue_stats(w->q.queue).requests - before - (w->asked - kicks);
    w->mark = loop_wall(w->loop);
}

/* Meanwhile what is due is read into memory again and again. */
static void operator_meets_refill(const struct words *v)
{
    int fd = operator_asks(v);
    for (unsigned turns = 0; turns < 300; turns++) {
        if (w->q.settles)
            refill_soon(&w->q);
        loop_turn(w->loop, 1);
    }
    settle();
    buf_clear(&w->said);
    hear(fd);
    close(fd);
}

/* He does not wait for an answer. */
static void operator_leaves(const struct words *v)
{
    int fd = operator_asks(v);
    loop_turn(w->loop, 0);
    close(fd);
    settle();
}

static void look(const char *text, bool there)
{
    if ((strstr(buf_cstr(&w->said), text) != NULL) != there)
        fail("the operator's answer %s: %s", there ? "lacks that" : "has that", buf_cstr(&w->said));
}

/* ---- the script ---- */

static void split(char *line, struct words *v)
{
    char *save = NULL;
    v->n = 0;
    for (char *t = strtok_r(line, " \t", &save); t; t = strtok_r(NULL, " \t", &save)) {
        if (v->n == WORDS_MAX)
            fail("too many words");
        put_text(v->at[v->n++], sizeof v->at[0], span_of(t));
    }
}

/* Every write to a file fails, not for want of room. */
static void break_disk(bool broken)
{
    struct rlimit l;
    signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &l), 0);
    l.rlim_cur = broken ? 0 : l.rlim_max;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &l), 0);
}

static void step(char *line)
{
    static struct words v;
    char whole[2000], *rest;
    put_text(whole, sizeof whole, span_of(line));
    rest = whole + strcspn(whole, " ");
    rest += *rest == ' ';
    split(line, &v);
    const char *verb = v.at[0];
    if (strcmp(verb, "submit") == 0) {
        submit(&v);
    } else if (strcmp(verb, "expect") == 0) {
        want(&v, 1);
    } else if (strcmp(verb, "after") == 0 && v.n > 2) {
        after(&v);
    } else if (strcmp(verb, "soon") == 0 && v.n > 4 && strcmp(v.at[2], "attempt") == 0) {
        soon(&v);
    } else if (strcmp(verb, "directory") == 0 && v.n == 2 && strcmp(v.at[1], "lags") == 0) {
        w->directory_conf = conf_ref(w->conf);
    } else if (strcmp(verb, "directory") == 0 && v.n == 2 && strcmp(v.at[1], "follows") == 0) {
        conf_unref(&w->directory_conf);
    } else if (strcmp(verb, "directory") == 0 && v.n == 2 && strcmp(v.at[1], "holds") == 0) {
        w->directory_holds = true;
    } else if (strcmp(verb, "directory") == 0 && v.n == 2 && strcmp(v.at[1], "answers") == 0) {
        directory_speaks();
    } else if (strcmp(verb, "reply") == 0) {
        reply(&v);
    } else if (strcmp(verb, "back-to") == 0 && v.n == 2) {
        back_to(&v);
    } else if (strcmp(verb, "pass") == 0 && v.n == 2) {
        advance(time_of(v.at[1]), false);
        w->mark = loop_wall(w->loop);
    } else if (strcmp(verb, "count") == 0 && v.n > 2) {
        count(&v);
    } else if (strcmp(verb, "memory") == 0 && v.n == 2) {
        if (w->q.rcpts.count != (size_t)number_of(v.at[1]))
            fail("%zu recipients are in memory", w->q.rcpts.count);
    } else if (strcmp(verb, "carries") == 0 && v.n == 2) {
        if (!w->current || w->current->count != number_of(v.at[1]))
            fail("not so many recipients");
    } else if (strcmp(verb, "flood") == 0 && v.n > 1) {
        flood(&v);
    } else if (strcmp(verb, "refused") == 0) {
        hand_in(&v, on_refused, NULL);
        settle();
    } else if (strcmp(verb, "disk") == 0 && v.n == 2) {
        break_disk(strcmp(v.at[1], "broken") == 0);
    } else if (strcmp(verb, "store") == 0 && v.n == 2) {
        w->store_broken = strcmp(v.at[1], "broken") == 0;
    } else if (strcmp(verb, "door") == 0 && v.n == 2) {
        if (w->door_closed != (strcmp(v.at[1], "closed") == 0))
            fail("the door is %s", w->door_closed ? "closed" : "open");
    } else if (strcmp(verb, "operator") == 0) {
        operator_says(&v);
    } else if (strcmp(verb, "operator-meets-refill") == 0) {
        operator_meets_refill(&v);
    } else if (strcmp(verb, "operator-leaves") == 0) {
        operator_leaves(&v);
    } else if (strcmp(verb, "wrote") == 0 && v.n == 2) {
        if ((int64_t)w->wrote != number_of(v.at[1]))
            fail("the operator's command wrote %u times", (unsigned)w->wrote);
    } else if (strcmp(verb, "shows") == 0) {
        look(rest, true);
    } else if (strcmp(verb, "content") == 0) {
        if (!w->current || !strstr(buf_cstr(&w->current->content), rest))
            fail("not in the content: %s", w->current ? buf_cstr(&w->current->content) : "no attempt was expected");
    } else if (strcmp(verb, "hides") == 0) {
        look(rest, false);
    } else if (strcmp(verb, "stop") == 0) {
        program_end();
        w->stopped = true;
    } else if (strcmp(verb, "restart") == 0) {
        if (v.n == 2 && strcmp(v.at[1], "reading") == 0)
            program_reads();
        program_end();
        program_start();
    } else {
        fail("no such step: %s", whole);
    }
}

static void play(FILE *f)
{
    char line[2000];
    struct buf conf = {0};
    bool in_conf = false;
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        if (in_conf && line[0] != ' ') {
            configure(buf_span(&conf));
            buf_clear(&conf);
            in_conf = false;
        }
        w->line++;
        if (in_conf)
            buf_printf(&conf, "%s\n", line);
        else if (strncmp(line, "conf", 4) == 0)
            in_conf = true;
        else if (line[0] && line[0] != '#')
            step(line);
    }
    buf_free(&conf);
    if (in_conf || !w->conf)
        fail("ends in conf, or has none");
    settle();
    if (!list_empty(&w->attempts) || !list_empty(&w->open))
        fail("attempts at the end: %s; under way: %d", have(), !list_empty(&w->open));
}

static void scenario(const char *name)
{
    static struct world world;
    char path[500], command[100];
    w = &world;
    memset(w, 0, sizeof *w);
    list_init(&w->attempts);
    list_init(&w->open);
    log_set_level(LOG_LEVEL_ERROR);
    snprintf(w->dir, sizeof w->dir, "/tmp/waypost-scenario-XXXXXX");
    cr_assert(mkdtemp(w->dir));
    snprintf(path, sizeof path, "%s/queue", w->dir);
    cr_assert_eq(mkdir(path, 0700), 0);
    w->store_fd = open(w->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    w->loop = loop_new_stepped(BEGIN_MS);
    w->mark = BEGIN_MS;
    w->file = name;
    snprintf(path, sizeof path, "%s/scenarios/%s", TEST_DATA, name);
    FILE *f = fopen(path, "r");
    cr_assert(f, "%s", path);
    play(f);
    fclose(f);
    program_end();
    conf_unref(&w->conf);
    buf_free(&w->said);
    mem_free(&w->held);
    close(w->store_fd);
    loop_free(&w->loop);
    snprintf(command, sizeof command, "rm -rf %s", w->dir);
    cr_assert_eq(system(command), 0);
}

/* One that never ends is named. */
TestSuite(scenario, .timeout = 120);

#define SCENARIO(name) Test(scenario, name) { scenario(#name); }

SCENARIO(retries)
SCENARIO(expiry)
SCENARIO(delay)
SCENARIO(greylisting)
SCENARIO(suspension)
SCENARIO(suspended_backlog)
SCENARIO(rate)
SCENARIO(down)
SCENARIO(restart)
SCENARIO(hold_until)
SCENARIO(deliver_by)
SCENARIO(priority)
SCENARIO(priority_notices)
SCENARIO(recipients)
SCENARIO(notifications)
SCENARIO(patterns)
SCENARIO(mailing)
SCENARIO(dialogue)
SCENARIO(rules)
SCENARIO(double_bounce)
SCENARIO(many_failures)
SCENARIO(smarthost)
SCENARIO(route)
SCENARIO(operator_route)
SCENARIO(backlog)
SCENARIO(mass)
SCENARIO(wishes)
SCENARIO(broken)
SCENARIO(local)
SCENARIO(local_many)
SCENARIO(spelling)
SCENARIO(reload)
SCENARIO(many)
SCENARIO(verbs)
SCENARIO(edit)
SCENARIO(on_demand)

/* A script that nothing plays would say nothing. */
Test(scenario, every_script_is_played)
{
    struct dirent *e;
    unsigned n = 0;
    DIR *d = opendir(TEST_DATA "/scenarios");
    cr_assert(d);
    while ((e = readdir(d)) != NULL)
        n += e->d_name[0] != '.' && strcmp(e->d_name, "README");
    closedir(d);
    cr_assert_eq(n, 36u);
}
