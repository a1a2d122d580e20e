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
    return backoff_new();
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
