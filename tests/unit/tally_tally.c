/* Limits of clients: buckets under a virtual clock, the bound on memory, what survives. */
#include <criterion/criterion.h>

#include "base/mem.h"
#include "base/util.h"
#include "tally/tally.h"

#define MINUTE INT64_C(60000)
#define HOUR (60 * MINUTE)
#define WALL INT64_C(1800000000000)

enum { A = 1000, B = 2000 };

static struct tally_limits limits(void)
{
    return (struct tally_limits){.of = {[TALLY_CONNECTIONS + TALLY_SMTP] = {10, MINUTE},
                                        [TALLY_CONNECTIONS + TALLY_IMAP] = {10, MINUTE},
                                        [TALLY_MESSAGES] = {100, MINUTE},
                                        [TALLY_REFUSED] = {20, HOUR},
                                        [TALLY_ERRORS] = {20, HOUR},
                                        [TALLY_LOGINS] = {20, HOUR}},
                                 .sessions = {3, 5, 0},
                                 .tarpit = 1000,
                                 .clients = 1000};
}

static struct tally *fresh(void)
{
    struct tally_limits l = limits();
    return tally_new(&l);
}

/* Comes and goes. */
static struct tally_verdict visit(struct tally *t, uint64_t client, int64_t now)
{
    struct tally_verdict v;
    tally_come(t, client, TALLY_SMTP, now, &v);
    if (!v.refuse)
        tally_leave(t, client, TALLY_SMTP, now);
    return v;
}

Test(tally, a_rate_slows_then_refuses_and_leaks_away)
{
    struct tally *t = fresh();
    uint32_t slow = 0;
    for (int i = 1; i <= 10; i++) {
        struct tally_verdict v = visit(t, A, 0);
        cr_expect_not(v.refuse, "%d", i);
        cr_expect_eq(v.slow > 0, i > 5, "%d: %u", i, v.slow);
        cr_expect(v.slow >= slow && v.slow <= 1000, "%d: %u", i, v.slow);
        slow = v.slow;
    }
    struct tally_verdict v = visit(t, A, 0);
    cr_expect(v.refuse);
    cr_expect_str_eq(v.why, "Too many connections from your address, try again later");
    cr_expect_not(visit(t, B, 0).refuse, "another client is not concerned");
    /* who keeps knocking gets in at the rate that is allowed: one in 6 s */
    unsigned in = 0;
    for (int64_t now = 100; now <= MINUTE; now += 100)
        in += !visit(t, A, now).refuse;
    cr_expect(in >= 9 && in <= 10, "%u", in);
    cr_expect_eq(visit(t, A, 3 * MINUTE).slow, 0);
    tally_free(&t);
}

static void more(struct tally *t, uint64_t client, uint32_t messages, int64_t now, struct tally_verdict *v)
{
    tally_more(t, client, &(struct tally_done){.messages = messages}, now, v);
}

/* A session that stays goes slower and slower, and at the limit waits for as long as one message takes to leak away. */
Test(tally, messages_of_one_that_is_inside)
{
    struct tally *t = fresh();
    struct tally_verdict v;
    tally_come(t, A, TALLY_SMTP, 0, &v);
    cr_expect_eq(v.room, TALLY_ROOM);
    more(t, A, 40, 0, &v);
    cr_expect(!v.refuse && v.slow == 0 && v.wait == 0 && v.room == TALLY_ROOM);
    more(t, A, 39, 0, &v);
    cr_expect(!v.refuse && v.slow == 600 && v.room == 10, "%u %u", v.slow, v.room);
    more(t, A, 20, 0, &v);
    cr_expect(!v.refuse && v.slow == 1000 && v.room == 1, "%u %u", v.slow, v.room);
    more(t, A, 1, 0, &v);
    cr_expect(v.refuse && v.wait >= 600 && v.wait <= 602 && v.room == 1, "%u", v.wait);
    cr_expect_str_eq(v.why, "Too many messages from your address, try again later");
    uint32_t wait = v.wait;
    more(t, A, 1, wait, &v); /* the one that fits then */
    cr_expect(v.refuse && v.wait >= 598 && v.wait <= 602, "%u", v.wait);
    more(t, B, 20, 0, &v);
    cr_expect_not(v.refuse, "another client is not concerned");
    more(t, A, 1, 3 * MINUTE, &v);
    cr_expect(!v.refuse && v.slow == 0 && v.room == TALLY_ROOM);
    struct tally_limits none = limits();
    none.of[TALLY_MESSAGES].most = 0;
    tally_configure(t, &none);
    more(t, A, 1000, 3 * MINUTE, &v);
    cr_expect(!v.refuse && v.slow == 0 && v.room == TALLY_ROOM);
    tally_free(&t);
}

/* Faults slow it and then send it away, whatever it hands in. */
Test(tally, faults_of_one_that_is_inside)
{
    struct tally *t = fresh();
    struct tally_verdict v;
    tally_come(t, A, TALLY_SMTP, 0, &v);
    tally_more(t, A, &(struct tally_done){.refused = 9}, 0, &v);
    cr_expect(!v.refuse && v.slow == 0);
    tally_more(t, A, &(struct tally_done){.errors = 9, .refused = 5}, 0, &v);
    cr_expect(!v.refuse && v.slow == 500, "%u", v.slow);
    tally_more(t, A, &(struct tally_done){.messages = 100, .refused = 6}, 0, &v);
    cr_expect(v.refuse && v.wait == 0);
    cr_expect_str_eq(v.why, "Too many wrong recipients from your address, try again later");
    tally_more(t, A, &(struct tally_done){0}, HOUR / 2, &v);
    cr_expect(!v.refuse, "it leaks");
    tally_more(t, A, &(struct tally_done){.errors = 20}, HOUR / 2, &v);
    cr_expect(v.refuse && v.wait == 0);
    cr_expect_str_eq(v.why, "Too many errors from your address, try again later");
    tally_free(&t);
}

Test(tally, sessions_at_a_time_are_counted_by_kind)
{
    struct tally *t = fresh();
    struct tally_verdict v;
    for (int i = 0; i < 3; i++) {
        tally_come(t, A, TALLY_SMTP, 0, &v);
        cr_expect_not(v.refuse);
    }
    tally_come(t, A, TALLY_SMTP, 0, &v);
    cr_expect(v.refuse);
    cr_expect_str_eq(v.why, "Too many connections from your address at a time");
    tally_come(t, A, TALLY_IMAP, 0, &v);
    cr_expect_not(v.refuse);
    tally_leave(t, A, TALLY_SMTP, 0);
    tally_come(t, A, TALLY_SMTP, 0, &v);
    cr_expect_not(v.refuse);
    for (int i = 0; i < 9; i++)
        tally_leave(t, A, TALLY_SMTP, 0); /* more than came: never below none */
    struct tally_view view;
    cr_assert(tally_look(t, A, 0, WALL, &view));
    cr_expect_eq(view.here[TALLY_SMTP], 0);
    cr_expect_eq(view.here[TALLY_IMAP], 1);
    cr_expect_eq(view.turned_away, 1);
    for (int i = 0; i < 100; i++)
        tally_come(t, B, TALLY_POP3, 0, &v);
    cr_expect_not(v.refuse, "0 is no limit");
    tally_free(&t);
}

Test(tally, sessions_at_a_time_slow_before_they_refuse)
{
    struct tally_limits l = limits();
    l.sessions[TALLY_SMTP] = 10;
    l.of[TALLY_CONNECTIONS + TALLY_SMTP].most = 0;
    struct tally *t = tally_new(&l);
    struct tally_verdict v;
    for (uint32_t i = 1; i <= 10; i++) {
        tally_come(t, A, TALLY_SMTP, 0, &v);
        cr_expect_not(v.refuse, "%u", i);
        uint32_t want = i > 5 ? (i - 5) * 200 : 0;
        cr_expect(v.slow <= want && v.slow + 1 >= want, "%u: %u", i, v.slow);
        cr_expect_str_eq(v.why, i > 5 ? "Too many connections from your address at a time" : "");
    }
    tally_come(t, A, TALLY_SMTP, 0, &v);
    cr_expect(v.refuse);
    tally_come(t, B, TALLY_SMTP, 0, &v);
    cr_expect(!v.refuse && v.slow == 0, "another client is not concerned");
    tally_free(&t);
}

static bool refused_after(enum tally_what what, uint32_t n, const char *why)
{
    struct tally *t = fresh();
    tally_add(t, A, what, n, 0);
    struct tally_verdict v = visit(t, A, 0);
    bool refused = v.refuse;
    if (refused)
        cr_expect_str_eq(v.why, why);
    tally_free(&t);
    return refused;
}

Test(tally, what_goes_wrong_is_held_against_the_next_connection)
{
    cr_expect(refused_after(TALLY_REFUSED, 20, "Too many wrong recipients from your address, try again later"));
    cr_expect(refused_after(TALLY_ERRORS, 20, "Too many errors from your address, try again later"));
    cr_expect(refused_after(TALLY_LOGINS, 20, "Too many failed logins from your address, try again later"));
    cr_expect(refused_after(TALLY_MESSAGES, 100, "Too many messages from your address, try again later"));
    cr_expect_not(refused_after(TALLY_REFUSED, 19, ""));
    cr_expect_not(refused_after(TALLY_MESSAGES, 99, ""));
}

Test(tally, however_much_it_was_two_windows_are_enough)
{
    struct tally *t = fresh();
    tally_add(t, A, TALLY_ERRORS, UINT32_MAX, 0);
    tally_add(t, A, TALLY_ERRORS, UINT32_MAX, 0);
    cr_expect(visit(t, A, HOUR / 2).refuse);
    cr_expect_not(visit(t, A, 2 * HOUR).refuse);
    tally_free(&t);
}

Test(tally, failed_logins_are_not_held_against_who_logged_in_there)
{
    struct tally *t = fresh();
    tally_trust(t, A, 0, WALL);
    tally_add(t, A, TALLY_LOGINS, 1000, 0);
    struct tally_verdict v = visit(t, A, 0);
    cr_expect_not(v.refuse);
    cr_expect_eq(v.slow, 0);
    tally_add(t, A, TALLY_ERRORS, 20, 0);
    cr_expect(visit(t, A, 0).refuse, "other things are");
    /* not for ever */
    struct tally_view view;
    struct tally_row row;
    cr_assert_eq(tally_take_changed(t, &row, 1, TALLY_TRUST_MS, WALL + TALLY_TRUST_MS), 1);
    cr_expect_eq(row.trusted, 0);
    tally_add(t, A, TALLY_LOGINS, 1000, TALLY_TRUST_MS);
    cr_assert(tally_look(t, A, TALLY_TRUST_MS, WALL + TALLY_TRUST_MS, &view));
    cr_expect(view.verdict.refuse);
    cr_expect_eq(view.trusted, 0);
    tally_free(&t);
}

Test(tally, a_limit_of_0_is_none)
{
    struct tally_limits l = limits();
    for (size_t i = 0; i < TALLY_WHATS; i++)
        l.of[i].most = 0;
    l.sessions[TALLY_SMTP] = 0;
    struct tally *t = tally_new(&l);
    for (size_t i = 0; i < TALLY_WHATS; i++)
        tally_add(t, A, (enum tally_what)i, 1000000, 0);
    for (int i = 0; i < 10000; i++) {
        struct tally_verdict v;
        tally_come(t, A, TALLY_SMTP, 0, &v);
        cr_assert(!v.refuse && !v.slow);
    }
    tally_free(&t);
}

Test(tally, new_limits_hold_from_the_next_connection)
{
    struct tally *t = fresh();
    for (int i = 0; i < 10; i++)
        visit(t, A, 0);
    cr_expect(visit(t, A, 0).refuse);
    struct tally_limits l = limits();
    l.of[TALLY_CONNECTIONS].most = 100;
    tally_configure(t, &l);
    cr_expect_not(visit(t, A, 0).refuse);
    tally_free(&t);
}

Test(tally, memory_is_bounded_and_the_bad_are_remembered_longest)
{
    struct tally *t = fresh();
    struct tally_view view;
    struct tally_verdict v;
    tally_add(t, A, TALLY_REFUSED, 19, 0);
    tally_come(t, B, TALLY_SMTP, 0, &v); /* stays connected */
    for (uint64_t i = 0; i < 100000; i++)
        visit(t, (UINT64_C(0x20010db8) << 32) + i, (int64_t)i / 100);
    cr_expect_leq(tally_count(t), 1000);
    cr_expect(tally_look(t, A, 1000, WALL, &view), "a crowd of good ones washed away a bad one");
    cr_assert(tally_look(t, B, 1000, WALL, &view), "one that is connected was forgotten");
    cr_expect_eq(view.here[TALLY_SMTP], 1);
    cr_expect(tally_look(t, (UINT64_C(0x20010db8) << 32) + 99999, 1000, WALL, &view));
    cr_expect_not(tally_look(t, UINT64_C(0x20010db8) << 32, 1000, WALL, &view), "the oldest goes first");
    for (uint64_t i = 0; i < 5000; i++) /* a crowd of bad ones is bounded, too */
        tally_add(t, (UINT64_C(0x20010db9) << 32) + i, TALLY_ERRORS, 5, 1000);
    cr_expect_leq(tally_count(t), 1000);
    size_t n;
    uint64_t *all = tally_clients(t, SIZE_MAX, &n);
    cr_expect_eq(n, tally_count(t));
    mem_free(&all);
    tally_free(&t);
}

Test(tally, what_is_worth_it_is_kept_and_comes_back)
{
    struct tally *t = fresh();
    struct tally_row rows[10];
    struct tally_view view;
    tally_add(t, A, TALLY_REFUSED, 20, 0);
    tally_trust(t, B, 0, WALL);
    visit(t, 3000, 0); /* one connection is nothing */
    cr_assert(tally_changed(t));
    size_t n = tally_take_changed(t, rows, COUNT_OF(rows), 1000, WALL + 1000);
    cr_assert_eq(n, 2);
    cr_expect_not(tally_changed(t));
    cr_expect_eq(rows[0].client, A);
    cr_expect_eq(rows[0].seen, WALL);
    cr_expect_not(rows[0].gone);
    struct tally *next = fresh(); /* half an hour later, on another monotonic clock */
    for (size_t i = 0; i < n; i++)
        tally_restore(next, &rows[i], 77, WALL + HOUR / 2);
    cr_expect_not(tally_changed(next), "what was read need not be written");
    cr_assert(tally_look(next, A, 77, WALL + HOUR / 2, &view));
    cr_expect(view.level[TALLY_REFUSED] > 9.9 && view.level[TALLY_REFUSED] < 10.1, "%f", view.level[TALLY_REFUSED]);
    cr_assert(tally_look(next, B, 77, WALL + HOUR / 2, &view));
    cr_expect_eq(view.trusted, WALL);
    tally_free(&next);
    tally_free(&t);
}

Test(tally, rows_from_a_file_are_not_believed)
{
    struct tally *t = fresh();
    struct tally_view view;
    struct tally_row row = {.client = A, .seen = WALL + 1000 * HOUR, .trusted = WALL + 1000 * HOUR};
    row.level[TALLY_ERRORS] = 1e300;
    row.level[TALLY_REFUSED] = -5;
    tally_restore(t, &row, 0, WALL);
    cr_assert(tally_look(t, A, 0, WALL, &view));
    cr_expect_leq(view.level[TALLY_ERRORS], 40);
    cr_expect_eq(view.level[TALLY_REFUSED], 0);
    cr_expect_leq(view.trusted, WALL);
    tally_free(&t);
}

Test(tally, forgetting_lifts_everything_and_its_row)
{
    struct tally *t = fresh();
    struct tally_row row;
    tally_add(t, A, TALLY_ERRORS, 20, 0);
    cr_expect(visit(t, A, 0).refuse);
    cr_assert_eq(tally_take_changed(t, &row, 1, 0, WALL), 1);
    cr_expect_not(row.gone);
    cr_expect(tally_forget(t, A, 0));
    cr_assert_eq(tally_take_changed(t, &row, 1, 0, WALL), 1);
    cr_expect(row.gone);
    cr_expect_not(visit(t, A, 0).refuse);
    cr_expect_not(tally_forget(t, B, 0));
    struct tally_verdict v;
    tally_come(t, B, TALLY_SMTP, 0, &v);
    tally_add(t, B, TALLY_ERRORS, 20, 0);
    cr_expect(tally_forget(t, B, 0), "also while it is connected");
    struct tally_view view;
    cr_assert(tally_look(t, B, 0, WALL, &view));
    cr_expect_eq(view.here[TALLY_SMTP], 1);
    tally_free(&t);
}
