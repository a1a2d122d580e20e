/* Turns between domains and, inside of each, between senders. */
#include <criterion/criterion.h>

#include "queue/turns.h"

#define MANY 5000

static struct turns t;
static struct turns_entry many[MANY], one, two;

static void begin(void)
{
    turns_init(&t);
    memset(many, 0, sizeof many);
    one = two = (struct turns_entry){0};
}

static void end(void)
{
    turns_free(&t);
}

TestSuite(turns, .init = begin, .fini = end);

static unsigned place_of(const struct turns_entry *e)
{
    unsigned n = 1;
    for (struct turns_entry *got; (got = turns_next(&t)) != NULL; n++)
        if (got == e)
            return n;
    return 0;
}

Test(turns, first_come_first_served_in_one_line)
{
    for (int i = 0; i < MANY; i++)
        turns_add(&t, &many[i], 1, 1);
    cr_assert_eq(turns_waiting(&t, 1, 1), MANY);
    for (int i = 0; i < MANY; i++)
        cr_assert_eq(turns_next(&t), &many[i]);
    cr_assert_null(turns_next(&t));
    cr_assert_eq(t.count, 0);
    cr_assert_eq(t.by_domain.count, 0);
}

Test(turns, who_comes_last_waits_for_one_of_each)
{
    for (int i = 0; i < MANY; i++)
        turns_add(&t, &many[i], 1, 1);
    turns_add(&t, &one, 2, 1);
    turns_add(&t, &two, 1, 2);
    cr_assert_eq(place_of(&one), 2, "another domain");
    turns_add(&t, &one, 2, 1);
    cr_assert_leq(place_of(&two), 3, "another sender of the same domain");
}

/* The bound holds while others come again and again. */
Test(turns, who_comes_again_goes_to_the_end)
{
    for (int i = 0; i < 100; i++)
        turns_add(&t, &many[i], (uint64_t)i, 1);
    turns_add(&t, &one, 1000, 1);
    for (int i = 0; i < 100; i++) {
        struct turns_entry *e = turns_next(&t);
        cr_assert_eq(e, &many[i]);
        turns_add(&t, e, (uint64_t)i, 1);
    }
    cr_assert_eq(turns_next(&t), &one);
}

Test(turns, who_is_taken_out_leaves_nothing_behind)
{
    turns_add(&t, &one, 1, 1);
    turns_add(&t, &two, 1, 2);
    turns_remove(&t, &one);
    turns_remove(&t, &one);
    cr_assert_eq(turns_waiting(&t, 1, 1), 0);
    cr_assert_eq(turns_next(&t), &two);
    turns_remove(&t, &two);
    cr_assert_null(turns_next(&t));
    cr_assert_eq(t.by_domain.count, 0);
}

/* Keys of all kinds, and what is left in it at the end (seen by the leak checker). */
Test(turns, ends_with_entries_in_it)
{
    for (int i = 0; i < MANY; i++)
        turns_add(&t, &many[i], (uint64_t)(i % 70) * UINT64_C(0x9e3779b97f4a7c15), (uint64_t)(i % 11));
    cr_assert_eq(t.count, MANY);
    for (int i = 0; i < MANY / 2; i++)
        cr_assert_not_null(turns_next(&t));
}
