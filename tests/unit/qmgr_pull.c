/* qmgr/pull.c: what ETRN and ATRN are answered, with the directory, the queue and the channels played by this test on a
 * virtual clock. RFC1985:5.1 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <unistd.h>

#include "qmgr/operator.h"

/* ---- what stands in for the rest of qmgr ---- */

static struct qmgr q;
static char said[200]; /* the last answer */
static unsigned answers;
static struct {
    chan_answer_fn *fn;
    void *ctx;
} directory; /* the question that waits there */
static struct pull_query looking;
static char looked_for[64];
static bool directory_away, relay_is_up;

struct chan *service_chan(struct service *s, enum role peer, uint32_t instance)
{
    (void)s;
    (void)instance;
    return peer == ROLE_RELAY ? (struct chan *)&relay_is_up : (struct chan *)&directory;
}

bool chan_is_up(const struct chan *c)
{
    return c == (const struct chan *)&relay_is_up && relay_is_up;
}

enum role chan_peer(const struct chan *c)
{
    (void)c;
    return ROLE_MX;
}

uint32_t chan_instance(const struct chan *c)
{
    (void)c;
    return 0;
}

uint32_t chan_epoch(const struct chan *c)
{
    (void)c;
    return 1;
}

int chan_say(struct chan *c, const struct msg *m, int fd)
{
    (void)c;
    (void)m;
    (void)fd;
    return 0;
}

int chan_answer(struct chan *c, uint32_t epoch, uint64_t id, const struct msg *m, int fd)
{
    (void)c;
    (void)epoch;
    (void)id;
    (void)fd;
    cr_assert_eq(m->type, MSG_turned);
    snprintf(said, sizeof said, "%u %u.%u %.*s", m->turned.code, m->turned.subject, m->turned.detail,
             SPANV(m->turned.why));
    answers++;
    return 0;
}

uint64_t chan_ask(struct chan *c, const struct msg *m, int fd, chan_answer_fn *fn, void *ctx)
{
    (void)c;
    (void)fd;
    cr_assert_eq(m->type, MSG_pull_ask);
    directory.fn = fn;
    directory.ctx = ctx;
    return directory_away ? 0 : 1;
}

void chan_forget(struct chan *c, uint64_t id)
{
    (void)c;
    (void)id;
}

void sched_up(struct sched *s, enum sched_class class, struct span name, int64_t now)
{
    (void)s;
    (void)class;
    (void)name;
    (void)now;
}

int64_t qmgr_wall(const struct qmgr *m)
{
    return loop_wall(m->loop);
}

void operator_pull(struct qmgr *m, const struct pull_query *w)
{
    (void)m;
    looking = *w;
    snprintf(looked_for, sizeof looked_for, "%.*s", SPANV(w->domain));
}

/* ---- the stage ---- */

static void set_up(void)
{
    q = (struct qmgr){.loop = loop_new_virtual(1000000), .next_pull = 1};
    list_init(&q.pulls);
    said[0] = 0;
    answers = 0;
    directory_away = relay_is_up = false;
}

static void tear_down(void)
{
    pulls_free(&q);
    cr_expect_eq(q.pull_count, 0u);
    loop_free(&q.loop);
}

static void etrn(void)
{
    struct msg m = {.type = MSG_turn_ask, .id = 5, .turn_ask = {.what = 0, .remote = SPAN("192.0.2.1"), .names = SPAN("a.test")}};
    said[0] = 0;
    pull_begin(&q, (struct chan *)&q, &m, -1);
}

static void directory_says(const char *names)
{
    struct msg m = {.type = MSG_pull_may, .pull_may = {.kind = OUTCOME_DONE, .code = 250, .why = SPAN(""), .names = span_of(names)}};
    directory.fn(directory.ctx, NULL, CHAN_ANSWERED, &m, -1);
}

static void found(const char *domain, unsigned n)
{
    cr_assert_str_eq(looked_for, domain);
    cr_assert(looking.change && looking.pass && looking.state == 0);
    looking.done(looking.ctx, n, n, false);
}

TestSuite(pull, .init = set_up, .fini = tear_down, .timeout = 30);

/* ---- ETRN ---- */

Test(pull, etrn_tells_the_number_when_all_was_looked_through)
{
    etrn();
    directory_says("a.test b.test");
    found("a.test", 2);
    cr_expect_str_eq(said, "");
    found("b.test", 3);
    cr_expect_str_eq(said, "253 0.0 OK, 5 pending messages started");
    etrn();
    directory_says("a.test");
    found("a.test", 0);
    cr_expect_str_eq(said, "251 0.0 OK, no messages waiting");
    loop_advance(q.loop, 60000);
    cr_expect_eq(answers, 2u);
}

Test(pull, etrn_is_answered_early_when_looking_takes_long)
{
    etrn();
    directory_says("a.test b.test");
    loop_advance(q.loop, 4999);
    cr_expect_str_eq(said, "");
    loop_advance(q.loop, 1);
    cr_expect_str_eq(said, "250 0.0 OK, queuing started");
    found("a.test", 2); /* it goes on, and nobody is told */
    found("b.test", 0);
    cr_expect_eq(answers, 1u);
    etrn();
    directory_says("a.test b.test");
    found("a.test", 1);
    loop_advance(q.loop, 5000);
    cr_expect_str_eq(said, "252 0.0 OK, pending messages started");
    found("b.test", 7);
    cr_expect_eq(answers, 2u);
}

Test(pull, etrn_that_can_t_be_answered_is_for_later)
{
    directory_away = true;
    etrn();
    cr_expect_str_eq(said, "458 3.0 The directory does not answer just now, try again later");
    directory_away = false;
    etrn();
    directory.fn(directory.ctx, NULL, CHAN_LATE, NULL, -1);
    cr_expect_str_eq(said, "458 3.0 The directory does not answer just now, try again later");
    etrn();
    directory_says("a.test");
    looking.done(looking.ctx, 0, 0, true);
    cr_expect_str_eq(said, "458 3.0 The queue can't be read just now");
    q.draining = true;
    etrn();
    cr_expect_str_eq(said, "458 3.2 Too many ask at once, try again later");
}

Test(pull, a_front_that_is_gone_is_not_answered)
{
    etrn();
    directory_says("a.test");
    pull_peer_changed(&q, (struct chan *)&q);
    loop_advance(q.loop, 5000);
    found("a.test", 1);
    cr_expect_eq(answers, 0u);
}

/* ---- ATRN ---- */

Test(pull, atrn_needs_relay)
{
    struct msg m = {.type = MSG_turn_ask, .id = 5, .turn_ask = {.what = 1, .remote = SPAN("192.0.2.1"), .names = SPAN("")}};
    int ends[2];
    cr_assert_eq(pipe(ends), 0);
    pull_begin(&q, (struct chan *)&q, &m, ends[0]);
    directory_says("a.test");
    cr_assert(looking.state == QUEUE_PICKUP && !looking.change && looking.limit == 1);
    looking.done(looking.ctx, 1, 0, false);
    cr_expect_str_eq(said, "451 3.0 Mail can't be sent just now, try again later");
    close(ends[1]);
    pull_begin(&q, (struct chan *)&q, &m, -1);
    cr_expect_str_eq(said, "450 3.2 Too many ask at once, try again later", "without a connection nothing can be turned");
}
