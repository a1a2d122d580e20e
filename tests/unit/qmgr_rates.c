/* Rates of the last hour, on a clock of numbers. */
#include <criterion/criterion.h>

#include "qmgr/rates.h"

#define MINUTE INT64_C(60000)
#define BEGIN (1000 * MINUTE)

static void add(struct rates *r, enum rate what, int64_t at, unsigned n)
{
    while (n--)
        rates_add(r, what, at);
}

Test(rates, count_over_the_minutes_asked_for)
{
    struct rates r;
    rates_init(&r, BEGIN);
    add(&r, RATE_IN, BEGIN + 1000, 30);
    cr_expect_eq(rates_per_minute(&r, RATE_IN, 1, BEGIN + 2000), 30000, "at least a minute is what it is divided by");
    cr_expect_eq(rates_per_minute(&r, RATE_RELAYED, 1, BEGIN + 2000), 0);
    cr_expect_eq(rates_per_minute(&r, RATE_IN, 1, BEGIN + MINUTE + MINUTE / 4), 22500, "a quarter has left the minute");
    cr_expect_eq(rates_per_minute(&r, RATE_IN, 60, BEGIN + 2 * MINUTE), 15000, "since it began, two minutes ago");
    cr_expect_eq(rates_per_minute(&r, RATE_IN, 1, BEGIN + 2 * MINUTE), 0);
    cr_expect_eq(rates_per_minute(&r, RATE_IN, 5, BEGIN + 5 * MINUTE), 6000);
    cr_expect_eq(rates_per_minute(&r, RATE_IN, 5, BEGIN + 6 * MINUTE), 0);
    cr_expect_eq(rates_per_minute(&r, RATE_IN, 60, BEGIN + 30 * MINUTE), 1000);
    cr_expect_eq(rates_per_minute(&r, RATE_IN, 60, BEGIN + 60 * MINUTE), 500);
    cr_expect_eq(rates_per_minute(&r, RATE_IN, 60, BEGIN + 61 * MINUTE), 0);
    cr_expect_eq(r.totals[RATE_IN], 30);
}

Test(rates, minutes_without_events_are_empty_however_many)
{
    static const int64_t gaps[] = {1, 2, 59, 60, 61, 62, 5000};
    for (unsigned g = 0; g < sizeof gaps / sizeof *gaps; g++) {
        struct rates r;
        int64_t now = BEGIN;
        rates_init(&r, now);
        for (int i = 0; i < 200; i++, now += MINUTE)
            add(&r, RATE_DEFERRED, now, 7);
        now += (gaps[g] - 1) * MINUTE; /* the last were then, `gaps` minutes before now */
        uint64_t within = gaps[g] > 60 ? 0 : (uint64_t)(60 - gaps[g] + 1) * 7;
        cr_expect_eq(rates_per_minute(&r, RATE_DEFERRED, 60, now), within * 1000 / 60, "%d minutes later", (int)gaps[g]);
        add(&r, RATE_DEFERRED, now, 3);
        cr_expect_eq(rates_per_minute(&r, RATE_DEFERRED, 1, now), gaps[g] == 1 ? 10000 : 3000);
    }
}
