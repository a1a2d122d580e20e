/* Several sessions of one mailbox doing things at random, each beside a model of what its client must believe: numbers
 * from EXISTS and EXPUNGE alone. At every step the model's uids and flags are those that FETCH shows, in the end those
 * of the store. RFC3501:7.4.1 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "imap_support.h"

TestSuite(imap_model, .init = imap_set_up, .fini = imap_tear_down);

#define SESSIONS 3
#define MODEL_MAX 2000

struct model {
    struct client *c;
    uint32_t uids[MODEL_MAX]; /* 0: not told yet */
    size_t n;
};

static struct model models[SESSIONS];
static unsigned seed;

static unsigned rnd(unsigned n)
{
    seed = seed * 1103515245 + 12345;
    return seed / 65536 % n;
}

/* What one reply line does to a client's beliefs. keep: no EXPUNGE may come now. */
static void believe(struct model *m, struct span line, bool keep)
{
    struct span word = span_word(&line), number = span_word(&line), what = span_word(&line);
    uint64_t n;
    if (!span_eqs(word, "*") || !span_u64(number, MODEL_MAX - 1, &n))
        return;
    if (span_eqs(what, "EXISTS")) {
        cr_assert_geq(n, m->n);
        while (m->n < n)
            m->uids[m->n++] = 0;
    } else if (span_eqs(what, "EXPUNGE")) {
        cr_assert(!keep && n >= 1 && n <= m->n);
        memmove(&m->uids[n - 1], &m->uids[n], (m->n - n) * sizeof *m->uids);
        m->n--;
    } else if (span_eqs(what, "FETCH")) {
        cr_assert(n >= 1 && n <= m->n);
        ptrdiff_t at = span_search(line, SPAN("UID "));
        if (at < 0)
            return;
        uint32_t uid = (uint32_t)strtoul(line.p + at + 4, NULL, 10);
        cr_assert(m->uids[n - 1] == 0 || m->uids[n - 1] == uid, "number %u is uid %u and not %u", (unsigned)n,
                  m->uids[n - 1], uid);
        m->uids[n - 1] = uid;
    }
}

static const char *act(struct model *m, const char *line, bool keep)
{
    const char *got = say(m->c, line);
    struct span rest = span_of(got);
    while (rest.n)
        believe(m, span_trim(span_cut(&rest, '\n')), keep);
    return got;
}

static void act_random(struct model *m)
{
    char line[100];
    unsigned a = 1 + rnd((unsigned)m->n + 1), b = a + rnd(5);
    unsigned uid = m->n ? m->uids[rnd((unsigned)m->n)] : 1;
    b = b > m->n ? (unsigned)m->n : b;
    a = a > b ? b : a;
    bool some = a > 0;
    switch (rnd(12)) {
    case 0:
    case 1:
    case 2:
    case 3:
        snprintf(line, sizeof line, "x APPEND %s {15+}\r\nSubject: x\r\n\r\ny", rnd(4) ? "INBOX" : "Other");
        act(m, line, false);
        return;
    case 4: snprintf(line, sizeof line, "x STORE %u:%u +FLAGS (\\Deleted k%u)", a, b, rnd(4)); break;
    case 5: snprintf(line, sizeof line, "x STORE %u:%u -FLAGS.SILENT (\\Deleted)", a, b); break;
    case 6: act(m, "x EXPUNGE", false); return;
    case 7:
        snprintf(line, sizeof line, "x UID EXPUNGE %u:*", uid ? uid : 1);
        act(m, line, false);
        return;
    case 8: act(m, "x NOOP", false); return;
    case 9:
        snprintf(line, sizeof line, "x UID MOVE %u Other", uid ? uid : 1);
        act(m, line, false);
        return;
    case 10: snprintf(line, sizeof line, "x SEARCH %u:%u DELETED", a, b); break;
    default: snprintf(line, sizeof line, "x FETCH %u:%u (UID FLAGS)", a, b); break;
    }
    if (some)
        act(m, line, true);
}

/* Every number's uid as FETCH shows it now is the one believed; ascending. */
static void check(struct model *m)
{
    act(m, "x FETCH 1:* (UID)", true);
    for (size_t i = 1; i < m->n; i++)
        cr_assert(!m->uids[i] || m->uids[i] > m->uids[i - 1]);
}

static void check_end(struct model *m)
{
    struct store_mailbox box;
    struct store_rows rows = {0};
    struct err err;
    act(m, "x NOOP", false);
    act(m, "x UID FETCH 1:* (UID)", false);
    cr_assert_eq(store_find(account, SPAN("INBOX"), NULL, &box, &err), 0);
    cr_assert_eq(store_scan(account, box.id, 1, UINT32_MAX, &rows, &err), 0);
    cr_assert_eq(rows.n, m->n);
    for (size_t i = 0; i < m->n; i++)
        cr_assert_eq(m->uids[i], rows.v[i].uid);
    store_rows_free(&rows);
}

Test(imap_model, sessions_believe_what_is_so)
{
    for (unsigned round = 1; round <= 6; round++) {
        seed = round * 7919;
        for (size_t i = 0; i < SESSIONS; i++) {
            models[i] = (struct model){.c = client_new()};
            say(models[i].c, "c CREATE Other");
            act(&models[i], "s SELECT INBOX", false);
        }
        for (int step = 0; step < 300; step++) {
            act_random(&models[rnd(SESSIONS)]);
            if (step % 20 == 0)
                check(&models[rnd(SESSIONS)]);
        }
        for (size_t i = 0; i < SESSIONS; i++) {
            check_end(&models[i]);
            client_free(&models[i].c);
        }
    }
}
