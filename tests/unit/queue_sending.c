/* queue/sending: what accounts send, on a clock of our own. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "base/mem.h"
#include "base/util.h"
#include "queue/sending.h"

#define HOUR INT64_C(3600000)
#define NOW (INT64_C(1795427048) * 1000)

static enum sending_limit take(struct sending *s, const uint32_t *most, uint64_t first, size_t count, int64_t at)
{
    uint64_t to[100];
    unsigned permille;
    for (size_t i = 0; i < count; i++)
        to[i] = first + i;
    return sending_take(s, 7, most, to, count, at, &permille);
}

Test(sending, nothing_passes_a_limit)
{
    static const uint32_t of[SENDING_LIMITS] = {5, 20, 12, 30, 25};
    for (int kind = 0; kind < SENDING_LIMITS; kind++) {
        struct sending *s = sending_new(1000);
        uint32_t most[SENDING_LIMITS] = {0};
        most[kind] = of[kind];
        unsigned n = 0;
        enum sending_limit got;
        bool each = kind == SENDING_MESSAGES_HOUR || kind == SENDING_MESSAGES_DAY;
        while ((got = take(s, most, 1 + n * 5, each ? 1 : 5, NOW)) == SENDING_LIMITS)
            n++;
        cr_expect_eq(got, (enum sending_limit)kind);
        cr_expect_eq(n * (each ? 1 : 5), of[kind], "%d: %u", kind, n);
        cr_expect_eq(sending_count(s, 7, kind, NOW), of[kind]);
        cr_expect_eq(sending_count(s, 8, kind, NOW), 0);
        sending_restart(s, 7);
        cr_expect_eq(take(s, most, 5000, 1, NOW), SENDING_LIMITS);
        sending_free(&s);
    }
}

Test(sending, the_window_moves)
{
    struct sending *s = sending_new(1000);
    const uint32_t most[SENDING_LIMITS] = {[SENDING_MESSAGES_HOUR] = 10, [SENDING_MESSAGES_DAY] = 25};
    unsigned in_hour = 0, days = 0;
    /* one a minute: never more than 10 in any hour, nor 25 in any day */
    int64_t taken[100];
    size_t n = 0;
    for (int64_t at = NOW; at < NOW + 60 * HOUR && n < 100; at += 60000)
        if (take(s, most, 1, 1, at) == SENDING_LIMITS)
            taken[n++] = at;
    cr_assert(n >= 50 && n < 100, "%zu", n);
    for (size_t i = 0; i < n; i++) {
        unsigned hour = 0, day = 0;
        for (size_t j = i; j < n; j++) {
            hour += taken[j] < taken[i] + HOUR * 23 / 24;
            day += taken[j] < taken[i] + 23 * HOUR;
        }
        in_hour = MAX_OF(in_hour, hour);
        days = MAX_OF(days, day);
    }
    cr_expect_eq(in_hour, 10);
    cr_expect_eq(days, 25);
    /* a clock that goes back a little frees nothing; by more than the window it is another time */
    int64_t last = taken[n - 1];
    cr_expect_eq(sending_count(s, 7, SENDING_MESSAGES_DAY, last), sending_count(s, 7, SENDING_MESSAGES_DAY, last - HOUR));
    cr_expect_eq(sending_count(s, 7, SENDING_MESSAGES_DAY, last - 48 * HOUR), 0);
    cr_expect_eq(take(s, most, 1, 1, last - 48 * HOUR), SENDING_LIMITS);
    sending_free(&s);
}

Test(sending, how_near_it_is)
{
    struct sending *s = sending_new(1000);
    const uint32_t most[SENDING_LIMITS] = {[SENDING_MESSAGES_HOUR] = 10, [SENDING_RECIPIENTS_DAY] = 40};
    uint64_t to[10] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    unsigned permille;
    cr_assert_eq(sending_take(s, 7, most, to, 1, NOW, &permille), SENDING_LIMITS);
    cr_expect_eq(permille, 100);
    cr_assert_eq(sending_take(s, 7, most, to, 10, NOW, &permille), SENDING_LIMITS);
    cr_expect_eq(permille, 275);
    sending_free(&s);
}

Test(sending, strangers_and_known_ones)
{
    struct sending *s = sending_new(1000);
    const uint32_t most[SENDING_LIMITS] = {[SENDING_NEW_DAY] = 3};
    uint64_t a = sending_key(7, SPAN("A@Remote.Test")), b = sending_key(7, SPAN("b@remote.test"));
    cr_expect_eq(a, sending_key(7, SPAN("a@remote.test")));
    cr_expect_neq(a, b);
    cr_expect_neq(a, sending_key(8, SPAN("a@remote.test")));
    unsigned permille;
    for (int i = 0; i < 50; i++) { /* known ones are nothing */
        cr_assert_eq(sending_take(s, 7, most, &a, 1, NOW + i, &permille), SENDING_LIMITS);
        cr_assert_eq(sending_take(s, 7, most, &b, 1, NOW + i, &permille), SENDING_LIMITS);
    }
    cr_expect_eq(sending_count(s, 7, SENDING_NEW_DAY, NOW), 2);
    cr_expect_eq(take(s, most, 100, 2, NOW), SENDING_NEW_DAY);
    cr_expect_eq(take(s, most, 100, 1, NOW), SENDING_LIMITS);
    cr_expect_eq(take(s, most, 200, 1, NOW), SENDING_NEW_DAY);
    cr_expect_eq(take(s, most, 100, 1, NOW), SENDING_LIMITS, "one that is known by now passes");
    cr_expect_eq(take(s, most, 200, 3, NOW + 25 * HOUR), SENDING_LIMITS, "another day");
    sending_free(&s);
}

/* Bounded: an account has an eighth, and the oldest go first. */
Test(sending, memory_is_bounded)
{
    struct sending *s = sending_new(80);
    const uint32_t most[SENDING_LIMITS] = {[SENDING_NEW_DAY] = 1000000};
    unsigned permille;
    for (uint64_t i = 1; i <= 1000; i++)
        cr_assert_eq(sending_take(s, 7, most, &i, 1, NOW, &permille), SENDING_LIMITS);
    cr_expect_eq(sending_count(s, 7, SENDING_NEW_DAY, NOW), 1000);
    cr_expect_eq(take(s, most, 991, 10, NOW), SENDING_LIMITS);
    cr_expect_eq(sending_count(s, 7, SENDING_NEW_DAY, NOW), 1000, "the last ten are known");
    cr_expect_eq(take(s, most, 1, 1, NOW), SENDING_LIMITS);
    cr_expect_eq(sending_count(s, 7, SENDING_NEW_DAY, NOW), 1001);
    for (uint32_t account = 100; account < 200; account++)
        for (uint64_t i = 1; i <= 20; i++) {
            uint64_t key = (uint64_t)account << 32 | i;
            cr_assert_eq(sending_take(s, account, most, &key, 1, NOW, &permille), SENDING_LIMITS);
        }
    size_t rows = 0, n;
    struct sending_row *row = mem_array(10, sizeof *row);
    while ((n = sending_take_changed(s, row, 10)) > 0)
        for (size_t i = 0; i < n; i++)
            rows += row[i].key != 0;
    cr_expect_eq(rows, 80);
    mem_free(&row);
    sending_remember(s, 0);
    sending_free(&s);
}

Test(sending, rows_bring_it_back)
{
    struct sending *s = sending_new(1000), *t = sending_new(1000);
    const uint32_t most[SENDING_LIMITS] = {[SENDING_MESSAGES_HOUR] = 4, [SENDING_NEW_DAY] = 4};
    struct sending_row *row = mem_array(3, sizeof *row);
    size_t n;
    cr_assert_eq(take(s, most, 10, 3, NOW), SENDING_LIMITS);
    cr_assert(sending_changed(s));
    while ((n = sending_take_changed(s, row, 3)) > 0)
        for (size_t i = 0; i < n; i++)
            sending_restore(t, &row[i]);
    cr_assert(!sending_changed(s) && !sending_changed(t));
    cr_expect_eq(take(t, most, 10, 3, NOW), SENDING_LIMITS, "they are known");
    cr_expect_eq(take(t, most, 13, 2, NOW), SENDING_NEW_DAY);
    cr_expect_eq(sending_count(t, 7, SENDING_MESSAGES_HOUR, NOW), 2);
    cr_assert_eq(sending_take_changed(t, row, 3), 1, "known on the same day: only the counts changed");
    mem_free(&row);
    sending_free(&s);
    sending_free(&t);
}
