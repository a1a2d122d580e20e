/* The scheduler on a virtual clock: windows, turns, destinations that are down, retry times. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "loop/loop.h"
#include "queue/qid.h"
#include "queue/retry.h"
#include "queue/sched.h"

static const struct sched_limits limits = {.window_first = {4, 2},
                                           .window_max = {8, 6},
                                           .total_max = {100, 100},
                                           .queue_max = 1000,
                                           .down_min = {1000, 60000},
                                           .down_max = {8000, 480000}};

struct world {
    struct sched s;
    struct sched_job jobs[64];
};

static void world_open(struct world *w)
{
    memset(w, 0, sizeof *w);
    sched_init(&w->s, &limits, 0);
}

static bool push(struct world *w, int i, const char *dest, int64_t now)
{
    int64_t later;
    return sched_push(&w->s, &w->jobs[i], SCHED_REMOTE, span_of(dest), now, &later) == SCHED_TAKEN;
}

static int next(struct world *w, int64_t now)
{
    struct sched_job *j = sched_next(&w->s, SCHED_REMOTE, now);
    return j ? (int)(j - w->jobs) : -1;
}

Test(queue_sched, the_window_opens_with_successes_and_bounds_what_is_under_way)
{
    struct world w;
    world_open(&w);
    for (int i = 0; i < 20; i++)
        cr_assert(push(&w, i, "a.test", 0));
    cr_assert_eq(next(&w, 0), 0);
    cr_assert_eq(next(&w, 0), 1);
    cr_assert_eq(next(&w, 0), -1, "two at first");
    sched_done(&w.s, &w.jobs[0], SCHED_REACHED, SPAN_NONE, 0);
    sched_done(&w.s, &w.jobs[1], SCHED_REACHED, SPAN_NONE, 0);
    for (int i = 2; i < 5; i++)
        cr_assert_eq(next(&w, 0), i, "three after two successes");
    cr_assert_eq(next(&w, 0), -1);
    for (int i = 2; i < 5; i++)
        sched_done(&w.s, &w.jobs[i], SCHED_REACHED, SPAN_NONE, 0);
    unsigned under_way = 0, most = 0;
    for (int i = 0; i < 15; i++) {
        int n = next(&w, 0);
        cr_assert_geq(n, 0);
        under_way++;
        most = under_way > most ? under_way : most;
        if (under_way >= 4) {
            sched_done(&w.s, &w.jobs[n], SCHED_REACHED, SPAN_NONE, 0);
            under_way--;
        }
    }
    cr_assert_leq(most, limits.window_max[SCHED_REMOTE]);
    sched_free(&w.s);
}

Test(queue_sched, destinations_take_turns)
{
    struct world w;
    world_open(&w);
    for (int i = 0; i < 10; i++)
        push(&w, i, "big.test", 0);
    push(&w, 20, "small.test", 0);
    push(&w, 21, "other.test", 0);
    int got[4];
    for (int i = 0; i < 4; i++)
        got[i] = next(&w, 0);
    cr_assert_eq(got[0], 0);
    cr_assert_eq(got[1], 20, "the small one does not wait behind the big one's queue");
    cr_assert_eq(got[2], 21);
    cr_assert_eq(got[3], 1);
    sched_free(&w.s);
}

/* RFC6710:5.1, and nobody starves. */
Test(queue_sched, higher_priorities_go_first)
{
    static const int8_t priorities[] = {0, -4, 0, 4, -4, 9, 4}, order[] = {5, 3, 6, 0, 2, 1, 4};
    struct world w;
    world_open(&w);
    for (int i = 0; i < (int)COUNT_OF(priorities); i++) {
        w.jobs[i].priority = priorities[i];
        cr_assert(push(&w, i, "a.test", 0));
    }
    for (size_t i = 0; i < COUNT_OF(order); i++) {
        int n = next(&w, 0);
        cr_assert_eq(n, order[i], "turn %zu: job %d", i, n);
        sched_done(&w.s, &w.jobs[n], SCHED_REACHED, SPAN_NONE, 0);
    }
    memset(w.jobs, 0, sizeof w.jobs);
    w.jobs[0].priority = -9;
    cr_assert(push(&w, 0, "a.test", 0));
    unsigned before = 0;
    for (int turn = 1; turn < 200 && w.jobs[0].dest; turn++, before++) { /* one comes, one goes */
        int i = 1 + turn % 50;
        w.jobs[i] = (struct sched_job){.priority = 9};
        cr_assert(push(&w, i, "a.test", 0));
        int n = next(&w, 0);
        sched_done(&w.s, &w.jobs[n], SCHED_REACHED, SPAN_NONE, 0);
        if (n == 0)
            break;
    }
    cr_assert_eq(before, SCHED_PASSED_MAX, "%u went before it", before);
    sched_free(&w.s);
}

Test(queue_sched, a_destination_that_fails_goes_down_and_gives_its_jobs_back)
{
    struct world w;
    int64_t later = 0;
    world_open(&w);
    for (int i = 0; i < 8; i++)
        push(&w, i, "dead.test", 0);
    for (int i = 0; i < SCHED_DOWN_AFTER; i++) {
        int n = next(&w, 0);
        cr_assert_geq(n, 0);
        sched_done(&w.s, &w.jobs[n], SCHED_UNREACHED, SPAN_NONE, 0);
    }
    cr_assert_eq(next(&w, 0), -1, "it is left alone");
    int back = 0;
    const struct sched_dest *d;
    while (sched_park(&w.s, &d, 0)) {
        cr_assert_eq(d->down_until, 60000);
        back++;
    }
    cr_assert_eq(back, 8 - SCHED_DOWN_AFTER);
    cr_assert_eq(sched_push(&w.s, &w.jobs[0], SCHED_REMOTE, SPAN("dead.test"), 59999, &later), SCHED_IS_DOWN);
    cr_assert_eq(later, 60000);
    cr_assert(push(&w, 0, "dead.test", 60000), "a probe");
    push(&w, 1, "dead.test", 60000);
    cr_assert_eq(next(&w, 60000), 0);
    cr_assert_eq(next(&w, 60000), -1, "one at a time");
    sched_done(&w.s, &w.jobs[0], SCHED_UNREACHED, SPAN_NONE, 60000);
    cr_assert_not_null(sched_park(&w.s, &d, 60000));
    cr_assert_eq(d->down_until, 60000 + 120000, "longer this time");
    cr_assert(push(&w, 0, "dead.test", 180000));
    cr_assert_eq(next(&w, 180000), 0);
    sched_done(&w.s, &w.jobs[0], SCHED_REACHED, SPAN_NONE, 180000);
    while (sched_changed(&w.s))
        ;
    sched_sweep(&w.s, 180000);
    cr_assert_null(sched_find(&w.s, SCHED_REMOTE, SPAN("dead.test")), "nothing to remember");
    sched_free(&w.s);
}

Test(queue_sched, a_lease_that_ended_goes_first_again_and_changes_no_window)
{
    struct world w;
    world_open(&w);
    for (int i = 0; i < 4; i++)
        push(&w, i, "a.test", 0);
    cr_assert_eq(next(&w, 0), 0);
    sched_done(&w.s, &w.jobs[0], SCHED_ENDED, SPAN_NONE, 0);
    sched_again(&w.s, &w.jobs[0], SCHED_REMOTE, SPAN("a.test"), 0);
    cr_assert_eq(sched_find(&w.s, SCHED_REMOTE, SPAN("a.test"))->failures, 0);
    cr_assert_eq(next(&w, 0), 0);
    sched_free(&w.s);
}

Test(queue_sched, old_failures_are_forgotten)
{
    struct world w;
    world_open(&w);
    push(&w, 0, "once.test", 0);
    next(&w, 0);
    sched_done(&w.s, &w.jobs[0], SCHED_UNREACHED, SPAN_NONE, 0);
    sched_sweep(&w.s, 1000);
    cr_assert_not_null(sched_find(&w.s, SCHED_REMOTE, SPAN("once.test")));
    sched_sweep(&w.s, limits.down_max[SCHED_REMOTE] + 1);
    cr_assert_null(sched_find(&w.s, SCHED_REMOTE, SPAN("once.test")));
    const struct sched_dest *d;
    cr_assert_null(sched_park(&w.s, &d, 0));
    sched_free(&w.s);
}

Test(queue_sched, retry_times_double_with_jitter_up_to_the_longest)
{
    const struct retry_times t = {.first = 300000, .longest = 14400000, .expire = 432000000, .notice_expire = 86400000};
    int64_t want[] = {300000, 600000, 1200000, 2400000, 4800000, 9600000, 14400000, 14400000};
    for (unsigned i = 0; i < 8; i++)
        for (uint64_t r = 0; r < 1000; r++) {
            int64_t w = retry_wait(&t, i + 1, r * 7919 * 65537);
            cr_assert(w >= want[i] - want[i] / 8 && w <= want[i] + want[i] / 8, "attempt %u: %lld", i + 1,
                      (long long)w);
        }
    cr_assert_eq(retry_wait(&t, UINT32_MAX, 0), 14400000 - 14400000 / 8);
    cr_assert_eq(retry_longest(&t), 14400000);
    cr_assert_eq(retry_end(&t, 1000, false), 432001000);
    cr_assert_eq(retry_end(&t, 1000, true), 86401000);
}

Test(queue_qid, text_and_number_agree_and_keep_their_order)
{
    struct qid_source s = {0};
    uint64_t before = 0, back;
    struct qid_text last = {""};
    for (int i = 0; i < 1000; i++) {
        uint64_t id = qid_take(&s, 1790000000000000 + (i % 7) * 3, 2);
        struct qid_text t = qid_text(id);
        cr_assert_gt(id, before, "only grows, also when the clock goes back");
        cr_assert_lt(strcmp(last.text, t.text), 0, "%s %s", last.text, t.text);
        cr_assert(qid_parse(span_of(t.text), &back) && back == id);
        before = id + 1;
        last = t;
    }
    cr_assert(!qid_parse(SPAN(""), &back));
    cr_assert(!qid_parse(SPAN("0123456789"), &back));
    cr_assert(!qid_parse(SPAN("0123456789U"), &back));
    cr_assert(!qid_parse(SPAN("01234567\0AB"), &back));
}

Test(queue_sched, how_long_attempts_take_is_a_moving_average)
{
    struct world w;
    world_open(&w);
    sched_took(&w.s, SCHED_REMOTE, SPAN("nowhere.test"), 5);
    cr_assert_null(sched_find(&w.s, SCHED_REMOTE, SPAN("nowhere.test")), "it makes none known");
    push(&w, 0, "a.test", 0);
    const struct sched_dest *d = sched_find(&w.s, SCHED_REMOTE, SPAN("a.test"));
    cr_expect_eq(d->took, 0);
    sched_took(&w.s, SCHED_REMOTE, SPAN("a.test"), 800);
    cr_expect_eq(d->took, 800);
    sched_took(&w.s, SCHED_REMOTE, SPAN("a.test"), 0);
    cr_expect_eq(d->took, 700);
    for (int i = 0; i < 100; i++)
        sched_took(&w.s, SCHED_REMOTE, SPAN("a.test"), 0);
    cr_expect(d->took >= 1 && d->took <= 8, "there was an attempt: %d", (int)d->took);
    sched_free(&w.s);
}
