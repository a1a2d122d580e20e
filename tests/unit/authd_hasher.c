/* The queue before the hashes: clients take turns, and nobody keeps others out of it. A loop that does not run keeps
 * all jobs waiting but the first two. */
#include <criterion/criterion.h>

#include "authd/hasher.h"

enum { WRONG = 1, SHED = 2 };

static unsigned order[1000], ended;
struct asked {
    unsigned client;
    int end;
};

static void on_end(void *ctx, bool ok, const char *hash, const hasher_scram *scram)
{
    struct asked *a = ctx;
    (void)ok;
    (void)scram;
    a->end = hash ? WRONG : SHED;
    if (hash)
        order[ended++] = a->client;
}

static int ask(struct hasher *h, struct asked *a, unsigned client)
{
    *a = (struct asked){.client = client};
    return hasher_check(h, client, NULL, SPAN(""), NULL, on_end, a);
}

Test(hasher, clients_take_turns)
{
    struct err err;
    cr_assert_eq(password_init(&err), 0);
    setenv("UV_THREADPOOL_SIZE", "1", 1); /* so jobs end in the order they were started in */
    struct loop *l = loop_new();
    struct hasher *h = hasher_new(l);
    static struct asked a[12];
    for (unsigned i = 0; i < 10; i++)
        cr_assert_eq(ask(h, &a[i], 7), 0);
    cr_assert_eq(ask(h, &a[10], 8), 0);
    cr_assert_eq(ask(h, &a[11], 9), 0);
    loop_run(l); /* until nothing is under way */
    cr_assert_eq(ended, 12);
    /* two of the first client's had been started already */
    static const unsigned expected[] = {7, 7, 8, 9, 7, 7, 7, 7, 7, 7, 7, 7};
    cr_expect_arr_eq(order, expected, sizeof(expected));
    hasher_free(&h);
    loop_free(&l);
}

Test(hasher, a_full_queue_makes_room_for_who_has_less_in_it)
{
    struct loop *l = loop_new();
    struct hasher *h = hasher_new(l);
    static struct asked a[HASHER_WAITING_MAX + 100];
    unsigned n = 0;
    for (unsigned client = 1; client <= 10; client++)
        for (unsigned i = 0; i < HASHER_WAITING_EACH; i++)
            cr_assert_eq(ask(h, &a[n++], client), 0, "%u", n);
    cr_expect_eq(ask(h, &a[n], 1), -1, "no more of one client");
    while (ask(h, &a[n], 11) == 0 && n < HASHER_WAITING_MAX + 99)
        n++;
    unsigned shed = 0;
    for (unsigned i = 0; i < n; i++)
        shed += a[i].end == SHED;
    cr_expect_geq(shed, 30, "%u", shed);
    for (unsigned i = HASHER_WAITING_MAX; i < n; i++)
        cr_expect_eq(a[i].end, 0, "the new client's wait");
    for (unsigned i = 0; i < HASHER_WAITING_MAX; i++) /* those that came last of the others' */
        cr_expect(a[i].end == 0 || i % HASHER_WAITING_EACH >= 40, "%u", i);
    hasher_free(&h); /* all others end */
    for (unsigned i = 0; i < n; i++)
        cr_expect_eq(a[i].end, SHED);
    loop_run(l); /* the two that are being computed are let go by their threads */
    loop_free(&l);
}
