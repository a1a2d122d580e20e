/* A deterministic simulation of the scheduler: its clock, the destinations of both classes, their failures, priorities, what
 * operators do, reloads, when the program dies, are all made from a seed. The world around it does what qmgr does (work.c,
 * dests.c, refill.c): rows on a disk that are due, come into memory, are attempted, or given back to wait for their destination.
 *
 * A failing seed prints itself; WAYPOST_SEED=N runs that one alone. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "queue/retry.h"
#include "queue/sched.h"

#ifdef WAYPOST_SANITIZE
#define SEEDS 1000
#else
#define SEEDS 10000
#endif
#define ROWS_MAX 60
#define DESTS_MAX 6
#define SENDERS_MAX 5
#define COST_MAX 5
#define STARTS_MAX 64 /* remembered for the rate; above every rate here */
#define HOUR INT64_C(3600000)
#define MINUTE INT64_C(60000)
#define START INT64_C(1800000000000)
#define SWEEP (5 * MINUTE)
#define LAZY 1000 /* how late a state is written */

static const struct retry_times times = {
    .first = MINUTE, .longest = HOUR, .expire = 6 * HOUR, .notice_expire = 2 * HOUR};

enum row_state { ROW_COMING, ROW_WAITING, ROW_IN_TURN, ROW_UNDER_WAY, ROW_DELIVERED, ROW_BOUNCED, ROW_EXPIRED };

struct row {
    struct sched_job job;
    enum row_state state;
    unsigned dest, attempts;
    int64_t received, next, ends; /* ends: of the attempt under way */
    bool waits;                   /* for its destination, on disk */
    bool null_sender;
    unsigned before, bound; /* starts there since it came first of its sender, and how many there may be */
    bool bounded;
    bool again; /* in turn since its lease was lost: never refused */
};

struct saved {
    bool there;
    struct sched_saved s;
};

struct dest {
    char name[16];
    enum sched_class class;
    int64_t latency, dead_from, dead_until;
    unsigned temporary, permanent; /* of 100 answers */
    struct sched_rule rule;
    unsigned under_way;
    int64_t starts[STARTS_MAX];
    size_t start_count;
    bool suspended, probe;
    int64_t suspended_at; /* the last time that it was so */
    struct saved disk, late; /* late: written LAZY ms after */
    int64_t late_at;
};

struct sim {
    uint64_t seed, random;
    int64_t now, sweep, crash, deed;
    struct sched s;
    struct sched_limits limits;
    size_t held; /* when it last paused */
    bool priorities;
    struct dest dests[DESTS_MAX];
    struct row rows[ROWS_MAX];
    unsigned dest_count, row_count, ended, deeds;
};

/* Of all seeds: a world in which these never happen proves nothing. */
static unsigned long seen_expired, seen_local, seen_passed, seen_reloads, seen_full;

#define CHECK(sim, condition, ...)                                                                     \
    do {                                                                                               \
        if (!(condition)) {                                                                            \
            fprintf(stderr, "WAYPOST_SEED=%llu at %lld ms: ", (unsigned long long)(sim)->seed,         \
                    (long long)((sim)->now - START));                                                  \
            fprintf(stderr, __VA_ARGS__);                                                              \
            fputc('\n', stderr);                                                                       \
            cr_assert_fail("seed %llu: %s", (unsigned long long)(sim)->seed, #condition);              \
        }                                                                                              \
    } while (0)

static uint64_t roll(struct sim *m, uint64_t n)
{
    uint64_t x = m->random;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    m->random = x;
    return x % n;
}

static struct sched_rule rule_of(void *ctx, enum sched_class class, struct span name)
{
    struct sim *m = ctx;
    (void)class;
    return m->dests[name.p[1] - '0'].rule;
}

static struct sched_limits make_limits(struct sim *m)
{
    return (struct sched_limits){.window_first = {4, 2},
                                 .window_max = {2 + (unsigned)roll(m, 8), 1 + (unsigned)roll(m, 8)},
                                 .total_max = {2 + (unsigned)roll(m, 20), 2 + (unsigned)roll(m, 8)},
                                 .queue_max = 6 + (unsigned)roll(m, 40),
                                 .down_min = {1000, MINUTE},
                                 .down_max = {8000, HOUR}};
}

static unsigned window_max(const struct sim *m, const struct dest *d)
{
    return d->rule.window_max ? d->rule.window_max : m->limits.window_max[d->class];
}

static struct span name_of(const struct dest *d)
{
    return span_of(d->name);
}

/* ---- the world ---- */

static void make_dest(struct sim *m, unsigned i)
{
    struct dest *d = &m->dests[i];
    snprintf(d->name, sizeof d->name, "d%u.test", i);
    d->class = roll(m, 3) == 0 ? SCHED_LOCAL : SCHED_REMOTE;
    d->suspended_at = INT64_MIN;
    d->latency = (int64_t)(1 + roll(m, 10) * roll(m, 3000));
    if (roll(m, 3) == 0) {
        d->dead_from = START + (int64_t)roll(m, 2 * HOUR);
        d->dead_until = d->dead_from + (int64_t)roll(m, roll(m, 4) ? 2 * HOUR : 20 * HOUR);
    }
    d->temporary = (unsigned)roll(m, 60);
    d->permanent = (unsigned)roll(m, 20);
    if (roll(m, 4) == 0)
        d->rule.window_max = 1 + (unsigned)roll(m, 4);
    if (roll(m, 4) == 0) {
        d->rule.rate = 1 + (unsigned)roll(m, 20);
        d->rule.rate_per = roll(m, 2) ? 1000 : MINUTE;
    }
    seen_local += d->class == SCHED_LOCAL;
}

/* Half of the runs have a mailing: one sender, one destination, all at once. */
static void make_rows(struct sim *m)
{
    bool mailing = roll(m, 2) == 0;
    m->priorities = roll(m, 3) == 0;
    m->row_count = 10 + (unsigned)roll(m, ROWS_MAX - 10);
    for (unsigned i = 0; i < m->row_count; i++) {
        struct row *r = &m->rows[i];
        bool in_mailing = mailing && i < m->row_count * 3 / 4;
        r->dest = in_mailing ? 0 : (unsigned)roll(m, m->dest_count);
        r->job.sender = in_mailing ? 0 : roll(m, SENDERS_MAX);
        r->job.cost = 1 + (unsigned)roll(m, COST_MAX);
        r->received = r->next = START + (in_mailing ? 0 : (int64_t)roll(m, 2 * HOUR));
        r->null_sender = !in_mailing && roll(m, 8) == 0;
        if (m->priorities)
            r->job.priority = (int8_t)((int)roll(m, 19) - 9);
    }
}

static bool is_ended(const struct row *r)
{
    return r->state >= ROW_DELIVERED;
}

static void row_ends(struct sim *m, struct row *r, enum row_state how)
{
    CHECK(m, !is_ended(r), "a row ended twice");
    r->state = how;
    r->waits = false;
    m->ended++;
}

static int64_t row_end(const struct row *r)
{
    return retry_end(&times, r->received, r->null_sender);
}

/* RFC5321:4.5.4.1: who expires has been tried for as long as was said, and as often as the waits in that time ask for; or its
 * destination could not be reached, was suspended, or its rate let not all of them through. */
static bool has_excuse(const struct sim *m, const struct row *r)
{
    const struct dest *d = &m->dests[r->dest];
    bool dead = d->dead_until && d->dead_from <= m->now && d->dead_until + HOUR >= r->received;
    bool slow = d->rule.rate && d->rule.rate_per == MINUTE && d->rule.rate < 5;
    return dead || slow || d->suspended_at >= r->received || r->attempts >= (r->null_sender ? 5 : 8);
}

static void row_expires(struct sim *m, struct row *r)
{
    CHECK(m, has_excuse(m, r), "%s: gave up after %u attempts, and it was there all the time", m->dests[r->dest].name,
          r->attempts);
    seen_expired++;
    row_ends(m, r, ROW_EXPIRED);
}

/* ---- what qmgr does ---- */

static void give_back(struct sim *m, struct row *r)
{
    if (m->now >= row_end(r)) {
        row_expires(m, r);
        return;
    }
    r->state = ROW_WAITING;
    r->waits = true;
    r->next = row_end(r);
    sched_parked(&m->s, m->dests[r->dest].class, name_of(&m->dests[r->dest]), m->now);
}

static unsigned flows_of(struct sim *m, const struct row *r)
{
    bool senders[SENDERS_MAX] = {false};
    unsigned n = 0;
    for (unsigned i = 0; i < m->row_count; i++) {
        const struct row *o = &m->rows[i];
        if (o != r && o->state == ROW_IN_TURN && o->dest == r->dest && !senders[o->job.sender]) {
            senders[o->job.sender] = true;
            n++;
        }
    }
    return senders[r->job.sender] ? 0 : n;
}

static bool sender_waits(struct sim *m, const struct row *r)
{
    for (unsigned i = 0; i < m->row_count; i++) {
        const struct row *o = &m->rows[i];
        if (o != r && o->state == ROW_IN_TURN && o->dest == r->dest && o->job.sender == r->job.sender)
            return true;
    }
    return false;
}

static void push(struct sim *m, struct row *r)
{
    int64_t later;
    const struct dest *d = &m->dests[r->dest];
    bool first = !sender_waits(m, r) && !m->priorities;
    unsigned flows = flows_of(m, r);
    r->waits = r->again = false;
    enum sched_answer a = sched_push(&m->s, &r->job, d->class, name_of(d), m->now, &later);
    seen_full += a == SCHED_IS_FULL;
    if (a != SCHED_TAKEN) {
        give_back(m, r);
        return;
    }
    r->state = ROW_IN_TURN;
    r->bounded = first;
    r->before = 0;
    r->bound = flows;
}

static void check_rate(struct sim *m, struct dest *d)
{
    unsigned n = 1;
    for (size_t i = d->start_count; i-- > 0 && d->start_count - i < STARTS_MAX;)
        n += d->starts[i % STARTS_MAX] > m->now - d->rule.rate_per;
    CHECK(m, n <= d->rule.rate + 1, "%s: %u attempts in %lld ms, %u are allowed", d->name, n,
          (long long)d->rule.rate_per, d->rule.rate);
}

/* RFC6710:5.1: of a sender's mail for one destination what has a higher priority goes first, but nobody is passed for ever,
 * and who stands before such a one stays there. */
static void check_priority(struct sim *m, const struct row *r)
{
    int8_t highest = r->job.priority;
    bool enough = r->again || r->job.passed >= SCHED_PASSED_MAX;
    for (unsigned i = 0; i < m->row_count; i++) {
        const struct row *o = &m->rows[i];
        if (o->state != ROW_IN_TURN || o->dest != r->dest || o->job.sender != r->job.sender)
            continue;
        highest = o->again ? highest : MAX_OF(highest, o->job.priority);
        enough |= o->job.passed >= SCHED_PASSED_MAX;
    }
    CHECK(m, highest == r->job.priority || enough, "%s: priority %d went before %d", m->dests[r->dest].name,
          r->job.priority, highest);
    CHECK(m, r->job.passed <= SCHED_PASSED_MAX, "%u went before it", r->job.passed);
    seen_passed += r->job.passed > 0;
}

static void start(struct sim *m, struct row *r)
{
    struct dest *d = &m->dests[r->dest];
    CHECK(m, r->state == ROW_IN_TURN, "%s: an attempt of a row that is not in turn (%d)", d->name, r->state);
    CHECK(m, m->now >= r->received && (r->attempts == 0 || m->now >= r->next), "attempted before its time");
    CHECK(m, !d->suspended || d->probe, "%s is suspended and gets an attempt", d->name);
    CHECK(m, !r->bounded || r->before <= r->bound, "%s: %u others went first, %u senders had a turn", d->name, r->before,
          r->bound);
    if (d->suspended)
        d->probe = false;
    if (d->rule.rate)
        check_rate(m, d);
    check_priority(m, r);
    d->starts[d->start_count++ % STARTS_MAX] = m->now;
    d->under_way++;
    CHECK(m, d->under_way <= window_max(m, d), "%s: %u under way", d->name, d->under_way);
    CHECK(m, m->s.under_way[d->class] <= m->limits.total_max[d->class], "too many in all");
    for (unsigned i = 0; i < m->row_count; i++)
        if (&m->rows[i] != r && m->rows[i].dest == r->dest && m->rows[i].state == ROW_IN_TURN)
            m->rows[i].before++;
    r->state = ROW_UNDER_WAY;
    r->ends = m->now + 1 + (int64_t)roll(m, (uint64_t)d->latency);
}

/* What waits on disk for that one comes back. */
static void release(struct sim *m)
{
    const struct sched_dest *d;
    unsigned max;
    while ((d = sched_release(&m->s, &max)) != NULL) {
        unsigned at = (unsigned)(d->name[1] - '0'), n = 0;
        for (unsigned i = 0; i < m->row_count && n < max; i++) {
            struct row *r = &m->rows[i];
            if (r->state == ROW_WAITING && r->waits && r->dest == at) {
                r->waits = false;
                r->next = m->now;
                n++;
            }
        }
        sched_released(&m->s, d->class, span_make(d->name, d->name_n), n, n == max, m->now);
    }
}

static struct saved snapshot(const struct sched_dest *d)
{
    return (struct saved){.there = sched_worth_saving(d),
                          .s = {.class = d->class,
                                .suspended = d->suspended,
                                .failures = d->failures,
                                .down_until = d->down_until,
                                .down_for = d->down_for,
                                .since = d->since}};
}

static void save(struct sim *m, bool at_once)
{
    const struct sched_dest *d;
    while ((d = sched_changed(&m->s)) != NULL) {
        struct dest *on = &m->dests[d->name[1] - '0'];
        on->late = snapshot(d);
        on->late_at = m->now + LAZY;
        if (at_once)
            on->disk = on->late;
    }
}

/* What waits in memory is bounded: a destination may always have one job, and who lost its lease is never refused. After a
 * reload with a lower bound it only becomes less. */
static void check_memory(struct sim *m)
{
    size_t held = 0, again = 0;
    for (unsigned i = 0; i < m->row_count; i++) {
        const struct row *r = &m->rows[i];
        held += r->state == ROW_IN_TURN ? r->job.cost : 0;
        again += r->state == ROW_IN_TURN && r->again ? r->job.cost : 0;
    }
    CHECK(m, m->s.held == held, "%zu recipients wait in memory, it says %zu", held, m->s.held);
    CHECK(m, held <= m->limits.queue_max + m->dest_count * COST_MAX + again || held <= m->held,
          "%zu recipients wait in memory, %u are allowed", held, m->limits.queue_max);
    m->held = held;
}

static void pump(struct sim *m)
{
    const struct sched_dest *d;
    struct sched_job *j;
    unsigned rounds = 0;
    sched_wake(&m->s, m->now);
    for (bool more = true; more;) {
        more = false;
        CHECK(m, rounds++ < 1000, "rows go in and out for ever");
        for (unsigned i = 0; i < m->row_count; i++) {
            struct row *r = &m->rows[i];
            if ((r->state == ROW_COMING || r->state == ROW_WAITING) && r->next <= m->now) {
                push(m, r);
                more = true;
            }
        }
        while ((j = sched_park(&m->s, &d, m->now)) != NULL)
            give_back(m, container_of(j, struct row, job));
        for (int c = 0; c < SCHED_CLASSES; c++)
            while ((j = sched_next(&m->s, (enum sched_class)c, m->now)) != NULL)
                start(m, container_of(j, struct row, job));
        release(m);
    }
    save(m, false);
    check_memory(m);
}

static void attempt_ends(struct sim *m, struct row *r)
{
    struct dest *d = &m->dests[r->dest];
    bool dead = m->now >= d->dead_from && m->now < d->dead_until;
    unsigned said = (unsigned)roll(m, 100);
    d->under_way--;
    r->attempts++;
    r->state = ROW_WAITING;
    sched_done(&m->s, &r->job, dead ? SCHED_UNREACHED : SCHED_REACHED, dead ? SPAN("timed out") : SPAN_NONE, m->now);
    if (!dead && said >= d->temporary + d->permanent)
        row_ends(m, r, ROW_DELIVERED);
    else if (!dead && said >= d->temporary)
        row_ends(m, r, ROW_BOUNCED);
    else if (m->now >= row_end(r))
        row_expires(m, r);
    else
        r->next = MIN_OF(m->now + retry_wait(&times, r->attempts, roll(m, UINT32_MAX)), row_end(r));
}

/* ---- what happens to it ---- */

/* A worker died: its leases end without a report. */
static void lose_leases(struct sim *m, unsigned at)
{
    struct dest *d = &m->dests[at];
    for (unsigned i = 0; i < m->row_count; i++) {
        struct row *r = &m->rows[i];
        if (r->state != ROW_UNDER_WAY || r->dest != at)
            continue;
        d->under_way--;
        sched_done(&m->s, &r->job, SCHED_ENDED, SPAN_NONE, m->now);
        sched_again(&m->s, &r->job, d->class, name_of(d), m->now);
        r->state = ROW_IN_TURN;
        r->bounded = false;
        r->again = true;
        for (unsigned k = 0; k < m->row_count; k++) /* it goes before all that wait */
            m->rows[k].bound++;
    }
}

/* Other limits, and another rule for one destination. */
static void reload(struct sim *m, unsigned at)
{
    struct dest *d = &m->dests[at];
    m->limits = make_limits(m);
    d->rule = (struct sched_rule){.window_max = roll(m, 2) ? 1 + (unsigned)roll(m, 4) : 0};
    sched_limit(&m->s, &m->limits, m->now);
    seen_reloads++;
}

static void operator_acts(struct sim *m)
{
    unsigned at = (unsigned)roll(m, m->dest_count);
    struct dest *d = &m->dests[at];
    switch (roll(m, 5)) {
    case 0:
        sched_suspend(&m->s, d->class, name_of(d), SPAN("an operator"), m->now);
        d->suspended = true;
        d->probe = false;
        save(m, true);
        break;
    case 1:
        CHECK(m, sched_resume(&m->s, d->class, name_of(d), m->now) == d->suspended, "resumed what was not suspended");
        if (d->suspended)
            d->suspended_at = m->now;
        d->suspended = d->probe = false;
        save(m, true);
        break;
    case 2:
        sched_probe(&m->s, d->class, name_of(d), m->now);
        d->probe = true;
        break;
    case 3:
        reload(m, at);
        break;
    default:
        lose_leases(m, at);
    }
    m->deed = ++m->deeds < 8 ? m->now + (int64_t)roll(m, HOUR) : INT64_MAX;
}

/* The program dies: what is in memory is gone, rows are as they were on disk. */
static void dies(struct sim *m)
{
    sched_free(&m->s);
    sched_init(&m->s, &m->limits, m->now);
    m->held = 0;
    m->s.rule = rule_of;
    m->s.rule_ctx = m;
    for (unsigned i = 0; i < m->dest_count; i++) {
        struct dest *d = &m->dests[i];
        d->under_way = 0;
        d->probe = false;
        d->late_at = 0;
        if (!d->disk.there)
            continue;
        d->disk.s.name = span_of(d->name);
        sched_restore(&m->s, &d->disk.s, m->now);
    }
    for (unsigned i = 0; i < m->row_count; i++) {
        struct row *r = &m->rows[i];
        r->job.dest = NULL;
        r->job.under_way = false;
        if (r->state == ROW_IN_TURN || r->state == ROW_UNDER_WAY)
            r->state = ROW_WAITING;
        if (r->state == ROW_WAITING && r->waits)
            sched_parked(&m->s, m->dests[r->dest].class, name_of(&m->dests[r->dest]), m->now);
    }
    for (unsigned i = 0; i < m->dest_count; i++) {
        const struct sched_dest *d = sched_find(&m->s, m->dests[i].class, name_of(&m->dests[i]));
        CHECK(m, (d && d->suspended) == m->dests[i].suspended, "%s: a suspension did not survive", m->dests[i].name);
    }
    m->crash = roll(m, 2) ? m->now + (int64_t)roll(m, 2 * HOUR) : INT64_MAX;
}

static int64_t next_time(struct sim *m)
{
    int64_t at = MIN_OF(MIN_OF(m->sweep, m->crash), m->deed), wake = sched_wake(&m->s, m->now);
    if (wake)
        at = MIN_OF(at, wake);
    for (unsigned i = 0; i < m->row_count; i++) {
        const struct row *r = &m->rows[i];
        if (r->state == ROW_UNDER_WAY)
            at = MIN_OF(at, r->ends);
        else if (r->state == ROW_COMING || r->state == ROW_WAITING)
            at = MIN_OF(at, r->next);
    }
    for (unsigned i = 0; i < m->dest_count; i++)
        if (m->dests[i].late_at)
            at = MIN_OF(at, m->dests[i].late_at);
    return MAX_OF(at, m->now);
}

static void step(struct sim *m)
{
    m->now = next_time(m);
    for (unsigned i = 0; i < m->dest_count; i++)
        if (m->dests[i].late_at && m->dests[i].late_at <= m->now) {
            m->dests[i].disk = m->dests[i].late;
            m->dests[i].late_at = 0;
        }
    if (m->crash <= m->now)
        dies(m);
    if (m->deed <= m->now)
        operator_acts(m);
    for (unsigned i = 0; i < m->row_count; i++)
        if (m->rows[i].state == ROW_UNDER_WAY && m->rows[i].ends <= m->now)
            attempt_ends(m, &m->rows[i]);
    if (m->sweep <= m->now) {
        sched_sweep(&m->s, m->now);
        m->sweep = m->now + SWEEP;
    }
    pump(m);
}

static bool some_wait(const struct sim *m, unsigned dest)
{
    for (unsigned i = 0; i < m->row_count; i++)
        if (m->rows[i].waits && m->rows[i].dest == dest && m->rows[i].state == ROW_WAITING)
            return true;
    return false;
}

/* Nobody waits who could go: nothing in the way of a waiting one but a limit. */
static void check_idle(struct sim *m)
{
    for (unsigned i = 0; i < m->dest_count; i++) {
        const struct sched_dest *d = sched_find(&m->s, m->dests[i].class, name_of(&m->dests[i]));
        if (!d || sched_state(d, m->now) != SCHED_OPEN || m->s.under_way[d->class] >= m->limits.total_max[d->class])
            continue;
        CHECK(m, !d->waiting || d->under_way >= d->window, "%s: %u wait for nothing", m->dests[i].name, d->waiting);
        bool alone = !d->held && !d->under_way && !d->coming;
        CHECK(m, !alone || !some_wait(m, i), "%s: rows wait on disk for nothing", m->dests[i].name);
    }
}

static void run(uint64_t seed)
{
    struct sim *m = calloc(1, sizeof *m);
    m->seed = seed;
    m->random = seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
    m->now = START;
    m->sweep = START + SWEEP;
    m->dest_count = 1 + (unsigned)roll(m, DESTS_MAX);
    m->deed = roll(m, 2) ? START + (int64_t)roll(m, HOUR) : INT64_MAX;
    m->crash = roll(m, 2) ? START + (int64_t)roll(m, 2 * HOUR) : INT64_MAX;
    for (unsigned i = 0; i < m->dest_count; i++)
        make_dest(m, i);
    make_rows(m);
    m->limits = make_limits(m);
    sched_init(&m->s, &m->limits, START - HOUR);
    m->s.rule = rule_of;
    m->s.rule_ctx = m;
    for (unsigned steps = 0; m->ended < m->row_count; steps++) {
        CHECK(m, steps < 200000, "%u of %u ended: somebody starves", m->ended, m->row_count);
        CHECK(m, m->now <= START + 2 * HOUR + times.expire + HOUR, "%u of %u ended in time", m->ended, m->row_count);
        for (unsigned i = 0; i < m->dest_count; i++)
            if (m->dests[i].suspended)
                m->dests[i].suspended_at = m->now;
        step(m);
        check_idle(m);
    }
    sched_free(&m->s);
    free(m);
}

Test(queue_simulation, every_message_ends_and_nothing_breaks_a_rule, .timeout = 300)
{
    const char *one = getenv("WAYPOST_SEED");
    if (one) {
        run(strtoull(one, NULL, 10));
        return;
    }
    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        run(seed);
    cr_assert(seen_expired && seen_local && seen_passed && seen_reloads && seen_full, "%lu %lu %lu %lu %lu", seen_expired,
              seen_local, seen_passed, seen_reloads, seen_full);
}

/* ---- the two bounds of fairness, with numbers ---- */

#define MAILING 1000 /* jobs of 100 recipients */

static bool put(struct sched *s, struct sched_job *j, const char *dest, uint64_t sender, unsigned cost)
{
    int64_t later;
    j->sender = sender;
    j->cost = cost;
    return sched_push(s, j, SCHED_REMOTE, span_of(dest), START, &later) == SCHED_TAKEN;
}

Test(queue_simulation, a_mailing_to_a_slow_host_delays_nobody)
{
    static const struct sched_limits large = {
        .window_first = {4, 5}, .window_max = {8, 20}, .total_max = {100, 200}, .queue_max = 10000};
    static struct sched_job mailing[MAILING], other, neighbour, after;
    struct sched s;
    unsigned taken = 0;
    sched_init(&s, &large, START);
    for (unsigned i = 0; i < MAILING; i++)
        taken += put(&s, &mailing[i], "slow.test", 1, 100);
    cr_assert(taken >= 10 && taken * 100 <= large.queue_max / 2, "%u jobs: its sender leaves room in memory", taken);
    for (int i = 0; i < 5; i++)
        cr_assert_not_null(sched_next(&s, SCHED_REMOTE, START));
    cr_assert_null(sched_next(&s, SCHED_REMOTE, START), "the window is full");
    cr_assert(put(&s, &other, "fast.test", 2, 1), "there is room");
    cr_assert_eq(sched_next(&s, SCHED_REMOTE, START), &other, "at once");
    cr_assert(put(&s, &neighbour, "slow.test", 2, 1), "and in that destination's share");
    cr_assert(put(&s, &after, "slow.test", 1, 100));
    sched_done(&s, &mailing[0], SCHED_REACHED, SPAN_NONE, START);
    struct sched_job *first = sched_next(&s, SCHED_REMOTE, START);
    sched_done(&s, &mailing[1], SCHED_REACHED, SPAN_NONE, START);
    struct sched_job *second = sched_next(&s, SCHED_REMOTE, START);
    cr_assert(first == &neighbour || second == &neighbour, "another's message waits for one turn");
    sched_free(&s);
}

/* Recipients are counted, not attempts: who sends to a hundred at a time has a hundredth of the turns. */
Test(queue_simulation, turns_are_counted_in_recipients)
{
    static const struct sched_limits narrow = {
        .window_first = {1, 1}, .window_max = {1, 1}, .total_max = {1, 1}, .queue_max = 100000};
    static struct sched_job large[50], small[500];
    struct sched s;
    unsigned counts[2] = {0};
    sched_init(&s, &narrow, START);
    for (unsigned i = 0; i < 50; i++)
        cr_assert(put(&s, &large[i], "a.test", 1, 100));
    for (unsigned i = 0; i < 500; i++)
        cr_assert(put(&s, &small[i], "a.test", 2, 1));
    for (unsigned i = 0; i < 200; i++) {
        struct sched_job *j = sched_next(&s, SCHED_REMOTE, START);
        cr_assert_not_null(j);
        counts[j->sender - 1] += j->cost;
        sched_done(&s, j, SCHED_REACHED, SPAN_NONE, START);
    }
    cr_assert(counts[0] <= counts[1] + 110 && counts[1] <= counts[0] + 110, "%u and %u recipients", counts[0],
              counts[1]);
    sched_free(&s);
}
