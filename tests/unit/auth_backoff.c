/* Waiting for logins that failed: who waits, how long, and who never does. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "auth/backoff.h"
#include "auth/password.h"

#define ALICE SPAN("alice@example.test")
#define MINUTE INT64_C(60000)
enum { HOME = 1, BAD = 2, ELSEWHERE = 3 };

static struct backoff *fresh(void)
{
    struct err err;
    cr_assert_eq(password_init(&err), 0);
    return backoff_new(NULL);
}

static void owner_logs_in(struct backoff *b, uint64_t client, int64_t now)
{
    backoff_begin(b, client, ALICE, now);
    backoff_succeeded(b, client, ALICE, now);
}

/* From so many addresses. */
static void strangers_fail(struct backoff *b, unsigned n, int64_t now)
{
    for (unsigned i = 0; i < n; i++)
        backoff_begin(b, 1000 + i, ALICE, now);
}

Test(backoff, each_failure_of_an_address_with_an_account_doubles_the_wait)
{
    static const int64_t want[] = {0, 0, 500, 1000, 2000, 4000, 8000, 8000, 8000};
    struct backoff *b = fresh();
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        cr_expect_eq(backoff_begin(b, BAD, ALICE, 0), want[i], "%zu", i);
    cr_expect_eq(backoff_begin(b, ELSEWHERE, ALICE, 0), 0, "nine are not yet many for an account");
    cr_expect_eq(backoff_begin(b, BAD, ALICE, 60 * MINUTE), 0, "an hour later");
    backoff_free(&b);
}

Test(backoff, a_success_clears_and_what_was_never_decided_costs_nothing)
{
    struct backoff *b = fresh();
    for (int i = 0; i < 6; i++)
        backoff_begin(b, BAD, ALICE, 0);
    backoff_succeeded(b, BAD, ALICE, 0);
    cr_expect_eq(backoff_begin(b, BAD, ALICE, 0), 0);
    for (int i = 0; i < 1000; i++) {
        cr_expect_eq(backoff_begin(b, ELSEWHERE, SPAN("bob@example.test"), 0), 0);
        backoff_dropped(b, ELSEWHERE, SPAN("bob@example.test"), 0);
    }
    backoff_free(&b);
}

Test(backoff, an_owner_never_waits_for_what_strangers_do)
{
    struct backoff *b = fresh();
    owner_logs_in(b, HOME, 0);
    strangers_fail(b, 5000, 1000);
    cr_expect_eq(backoff_begin(b, ELSEWHERE, ALICE, 1000), BACKOFF_LONGEST_MS, "a stranger does");
    for (int i = 0; i < 100; i++) { /* nor for what others behind the same address do to other accounts */
        char name[40];
        int n = snprintf(name, sizeof name, "user%d@example.test", i);
        backoff_begin(b, HOME, span_make(name, (size_t)n), 1000);
    }
    cr_expect_eq(backoff_begin(b, HOME, ALICE, 1000), 0);
    backoff_succeeded(b, HOME, ALICE, 1000);
    cr_expect_eq(backoff_begin(b, HOME, SPAN("new@example.test"), 1000), BACKOFF_LONGEST_MS, "others there do");
    backoff_free(&b);
}

Test(backoff, however_many_there_are_an_owner_stays_known_and_memory_is_bounded)
{
    struct backoff *b = fresh();
    owner_logs_in(b, HOME, 0);
    for (uint64_t i = 0; i < 3 * BACKOFF_MAX; i++) {
        char name[40];
        int n = snprintf(name, sizeof name, "user%u@example.test", (unsigned)i);
        backoff_begin(b, 1000 + i, span_make(name, (size_t)n), 1000);
    }
    cr_expect_leq(backoff_count(b), 4 * (size_t)BACKOFF_MAX);
    cr_expect(backoff_knows(b, HOME, ALICE, 1000));
    cr_expect_not(backoff_knows(b, ELSEWHERE, ALICE, 1000));
    cr_expect_eq(backoff_begin(b, HOME, ALICE, 1000), 0);
    backoff_free(&b);
}

Test(backoff, known_ones_are_bounded_too_and_known_for_a_month)
{
    struct backoff *b = fresh();
    for (uint64_t i = 0; i < 2 * BACKOFF_MAX; i++)
        owner_logs_in(b, 1000 + i, 1000);
    cr_expect_leq(backoff_count(b), 4 * (size_t)BACKOFF_MAX);
    cr_expect(backoff_knows(b, 1000 + 2 * BACKOFF_MAX - 1, ALICE, 1000));
    owner_logs_in(b, HOME, 2000);
    cr_expect(backoff_knows(b, HOME, ALICE, 2000 + BACKOFF_KNOWN_MS));
    cr_expect_not(backoff_knows(b, HOME, ALICE, 2001 + BACKOFF_KNOWN_MS));
    owner_logs_in(b, HOME, 3000 + BACKOFF_KNOWN_MS);
    cr_expect(backoff_knows(b, HOME, ALICE, 3000 + BACKOFF_KNOWN_MS));
    backoff_free(&b);
}

Test(backoff, an_operator_lifts_what_is_held_against_an_address)
{
    struct backoff *b = fresh();
    for (int i = 0; i < 20; i++)
        backoff_begin(b, BAD, ALICE, 0);
    backoff_begin(b, ELSEWHERE, SPAN("bob@example.test"), 0);
    for (int i = 0; i < 6; i++)
        backoff_begin(b, ELSEWHERE, SPAN("bob@example.test"), 0);
    cr_expect_gt(backoff_begin(b, BAD, SPAN("other@example.test"), 0), 0);
    backoff_forget(b, BAD, 0);
    cr_expect_eq(backoff_begin(b, BAD, SPAN("third@example.test"), 0), 0);
    cr_expect_gt(backoff_begin(b, ELSEWHERE, SPAN("bob@example.test"), 0), 0, "others are not concerned");
    backoff_free(&b);
}

/* ---- over a restart ---- */

static const uint8_t secret[BACKOFF_SECRET] = "what the directory keeps";
#define ROWS 100

static size_t taken(struct backoff *b, struct backoff_row *rows, int64_t now, int64_t wall)
{
    size_t n = backoff_take_changed(b, rows, ROWS, now, wall);
    cr_assert_lt(n, (size_t)ROWS);
    cr_assert_not(backoff_changed(b));
    return n;
}

static struct backoff *again(const uint8_t *with, const struct backoff_row *rows, size_t n, int64_t now, int64_t wall)
{
    struct backoff *b = backoff_new(with);
    for (size_t i = 0; i < n; i++)
        backoff_restore(b, &rows[i], now, wall);
    cr_assert_not(backoff_changed(b), "what was read need not be written");
    return b;
}

/* Another clock of the process, which may begin anew with the machine; the wall's goes on. */
Test(backoff, what_is_held_and_who_is_known_survives_a_restart)
{
    struct backoff_row rows[ROWS];
    fresh();
    struct backoff *b = backoff_new(secret);
    owner_logs_in(b, HOME, 70 * MINUTE);
    for (int i = 0; i < 5; i++)
        backoff_begin(b, BAD, ALICE, 71 * MINUTE);
    strangers_fail(b, 6, 71 * MINUTE);
    size_t n = taken(b, rows, 72 * MINUTE, 1000 * MINUTE);
    for (size_t i = 0; i < n; i++)
        cr_expect_not(rows[i].gone && rows[i].known);
    backoff_free(&b);

    b = again(secret, rows, n, 0, 1000 * MINUTE);
    cr_expect_eq(backoff_begin(b, BAD, ALICE, 0), 2000, "five, less the one that leaked");
    cr_expect_gt(backoff_begin(b, ELSEWHERE, ALICE, 0), 0, "eleven strangers");
    cr_expect(backoff_knows(b, HOME, ALICE, 0));
    cr_expect_eq(backoff_begin(b, HOME, ALICE, 0), 0);
    cr_expect_not(backoff_knows(b, HOME, ALICE, BACKOFF_KNOWN_MS), "for a month from that login on");
    backoff_free(&b);

    b = again(secret, rows, n, 0, 1000 * MINUTE + BACKOFF_FAILED_MS);
    cr_expect_eq(backoff_begin(b, BAD, ALICE, 0), 0, "an hour later");
    backoff_free(&b);
    b = again(secret, rows, n, 0, 10 * MINUTE);
    cr_expect_eq(backoff_begin(b, BAD, ALICE, 0), 2000, "the clock was set back");
    cr_expect_not(backoff_knows(b, HOME, ALICE, BACKOFF_KNOWN_MS + MINUTE));
    backoff_free(&b);
    b = again(NULL, rows, n, 0, 1000 * MINUTE);
    cr_expect_eq(backoff_begin(b, BAD, ALICE, 0), 0, "another secret: they mean nobody");
    cr_expect_not(backoff_knows(b, HOME, ALICE, 0));
    backoff_free(&b);
}

Test(backoff, what_is_over_is_deleted)
{
    struct backoff_row rows[ROWS];
    fresh();
    struct backoff *b = backoff_new(secret);
    owner_logs_in(b, HOME, 0);
    size_t n = taken(b, rows, 0, MINUTE), gone = 0;
    for (size_t i = 0; i < n; i++)
        gone += rows[i].gone;
    cr_expect_eq(n, (size_t)3);
    cr_expect_eq(gone, (size_t)2, "the pair stays");
    for (int i = 0; i < 4; i++)
        backoff_begin(b, BAD, SPAN("bob@example.test"), 0);
    taken(b, rows, 0, MINUTE);
    backoff_forget(b, BAD, 0);
    cr_assert(backoff_changed(b));
    n = taken(b, rows, 0, MINUTE);
    cr_expect_eq(n, (size_t)2);
    cr_expect(rows[0].gone && rows[1].gone);
    backoff_free(&b);
}

Test(backoff, rows_that_make_no_sense_do_no_harm)
{
    static const struct backoff_row rows[] = {
        {.key = 1, .kind = 3, .failures = 5, .when = 1},
        {.key = 2, .kind = 255, .failures = 5, .when = 1},
        {.key = 3, .kind = 0, .failures = 1e300, .when = INT64_MAX, .known = INT64_MAX},
        {.key = 4, .kind = 1, .failures = -5, .when = 1, .known = 5},
        {.key = 5, .kind = 2, .failures = 0.0 / 0.0, .when = 0, .known = -7},
        {.key = 5, .kind = 2, .failures = 9, .when = 0},
    };
    fresh();
    struct backoff *b = again(secret, rows, sizeof rows / sizeof *rows, 1000, 1000);
    cr_expect_eq(backoff_count(b), (size_t)3);
    backoff_free(&b);
}
