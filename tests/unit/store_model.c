/* The store against a model in memory: random operations, the same answers, the same state after each, also over
 * reopening. (name, UIDVALIDITY, uid) means one message for ever (HAZARDS 20); the counters add up (HAZARDS 19). */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/map.h"
#include "base/mem.h"
#include "db/db.h"
#include "store/store.h"

#define ROUNDS 2500
#define NAMES 12

static const char *const names[NAMES] = {"INBOX", "a",   "a/b",     "a/b/c",     "a/x",  "b",
                                         "b/a",   "a b", "INBOX/k", "INBOX/k/l", "Sent", "\xc3\xbc"};

struct model_message {
    uint32_t uid, flags;
    unsigned serial; /* which message it is */
    size_t size;
};

struct model_box {
    bool there, noselect;
    uint32_t validity, uidnext;
    struct model_message m[400];
    size_t n;
};

static char dir[64];
static struct err err;
static struct store *st;
static struct model_box box[NAMES];
static unsigned serials;
static struct map meaning; /* "name validity uid" to serial + 1 */
static unsigned seed;

static unsigned roll(unsigned n)
{
    return (unsigned)(rand_r(&seed) % (int)n);
}

static void open_store(void)
{
    struct store_options o = {.dir = dir, .boot_id = "b", .wait_ms = 100, .now_ms = 1000};
    cr_assert_eq(store_open(&st, &o, &err), 0, "%s", err.text);
}

static int look(int i, struct store_mailbox *m)
{
    return store_find(st, span_of(names[i]), NULL, m, &err);
}

/* ---- the model's own rules ---- */

static bool below(int child, int parent)
{
    size_t n = strlen(names[parent]);
    return strncmp(names[child], names[parent], n) == 0 && names[child][n] == '/';
}

static bool has_below(int i)
{
    for (int k = 0; k < NAMES; k++)
        if (box[k].there && below(k, i))
            return true;
    return false;
}

static void fresh(int i)
{
    struct store_mailbox m;
    cr_assert_eq(look(i, &m), 0, "%s", names[i]);
    for (int k = 0; k < NAMES; k++)
        if (k != i && box[k].there)
            cr_assert_neq(m.uidvalidity, box[k].validity);
    cr_assert(!box[i].there || m.uidvalidity > box[i].validity);
    box[i] = (struct model_box){.there = true, .validity = m.uidvalidity, .uidnext = 1};
}

static void fresh_with_parents(int i)
{
    for (int k = 0; k < NAMES; k++)
        if (below(i, k) && !box[k].there)
            fresh(k);
    fresh(i);
}

static void remember(int i, const struct model_message *m)
{
    char key[100];
    snprintf(key, sizeof(key), "%s %u %u", names[i], box[i].validity, m->uid);
    void *old = map_put(&meaning, span_of(key), (void *)(uintptr_t)(m->serial + 1));
    cr_assert(!old || old == (void *)(uintptr_t)(m->serial + 1), "%s meant another message before", key);
}

/* ---- operations ---- */

static void do_create(int i)
{
    int code = store_create(st, span_of(names[i]), STORE_PLAIN, NULL, &err);
    cr_assert_eq(code, box[i].there && !box[i].noselect ? STORE_EXISTS : STORE_OK, "%s: %s", names[i], err.text);
    if (code == STORE_OK)
        fresh_with_parents(i);
}

static void do_delete(int i)
{
    int want = !box[i].there                                 ? STORE_NO_SUCH
               : i == 0 || (box[i].noselect && has_below(i)) ? STORE_NOT_ALLOWED
                                                             : STORE_OK;
    cr_assert_eq(store_delete(st, span_of(names[i]), &err), want, "%s: %s", names[i], err.text);
    if (want != STORE_OK)
        return;
    box[i].n = 0;
    box[i].noselect = has_below(i);
    box[i].there = box[i].noselect;
}

static void move_model(int from, int to)
{
    uint32_t before = box[from].validity;
    struct store_mailbox m;
    cr_assert_eq(look(to, &m), 0);
    box[to] = box[from];
    box[from].there = false;
    box[from].n = 0;
    box[to].validity = m.uidvalidity;
    cr_assert_gt(m.uidvalidity, before);
    for (size_t k = 0; k < box[to].n; k++)
        remember(to, &box[to].m[k]);
}

/* Only within the names of this test: everything below must land on one of them. */
static int renamed(int i, int from, int to)
{
    char name[200];
    snprintf(name, sizeof(name), "%s%s", names[to], names[i] + strlen(names[from]));
    for (int k = 0; k < NAMES; k++)
        if (strcmp(names[k], name) == 0)
            return k;
    return -1;
}

static void rename_inbox(int to)
{
    fresh_with_parents(to);
    for (size_t k = 0; k < box[0].n; k++) {
        struct model_message m = box[0].m[k];
        m.uid = box[to].uidnext++;
        box[to].m[box[to].n++] = m;
        remember(to, &m);
    }
    box[0].n = 0;
}

static void do_rename(int from, int to)
{
    for (int k = 0; k < NAMES; k++)
        if (box[k].there && below(k, from) && renamed(k, from, to) < 0 && from != 0)
            return;
    int want = !box[from].there               ? STORE_NO_SUCH
               : box[to].there                ? STORE_EXISTS
               : from != 0 && below(to, from) ? STORE_NOT_ALLOWED
                                              : STORE_OK;
    cr_assert_eq(store_rename(st, span_of(names[from]), span_of(names[to]), &err), want, "%s to %s: %s", names[from],
                 names[to], err.text);
    if (want != STORE_OK)
        return;
    if (from == 0) {
        rename_inbox(to);
        return;
    }
    for (int k = 0; k < NAMES; k++)
        if (below(to, k) && !box[k].there)
            fresh(k);
    move_model(from, to);
    for (int k = 0; k < NAMES; k++)
        if (box[k].there && below(k, from))
            move_model(k, renamed(k, from, to));
}

static struct store_stage *stage(size_t size, unsigned serial)
{
    struct store_stage *g = store_stage_new(st);
    char *text = mem_alloc(size + 32);
    memset(text, 'x', size);
    snprintf(text, 32, "%u\r\n\r\n", serial);
    text[strlen(text)] = 'x';
    cr_assert_eq(store_stage_write(g, span_make(text, size), &err), 0);
    mem_free(&text);
    return g;
}

static size_t pick_size(void)
{
    return roll(10) == 0 ? 65500 + roll(100) : 20 + roll(3000);
}

static void do_append(int i)
{
    struct store_mailbox m;
    if (look(i, &m) || box[i].n == 300)
        return;
    struct model_message mm = {.flags = roll(32), .serial = serials++, .size = pick_size()};
    struct store_stage *g = stage(mm.size, mm.serial);
    uint32_t validity;
    bool batch = roll(2), already;
    int code;
    if (batch) {
        char qid[20];
        snprintf(qid, sizeof(qid), "Q%u", mm.serial);
        cr_assert_eq(store_deliver_begin(st, &err), 0);
        code = store_deliver_add(st, span_of(qid), 1, m.id, &g, &(struct store_new){.flags = mm.flags}, &already, &err);
        cr_assert_eq(store_deliver_commit(st, &err), 0);
        mm.uid = m.uidnext;
    } else {
        code = store_append(st, m.id, &g, &(struct store_new){.flags = mm.flags}, &mm.uid, &validity, &err);
    }
    cr_assert_eq(code, box[i].noselect ? STORE_NOT_ALLOWED : STORE_OK, "%s", err.text);
    if (code)
        return;
    cr_assert_eq(mm.uid, box[i].uidnext);
    box[i].uidnext++;
    box[i].m[box[i].n++] = mm;
    remember(i, &mm);
}

/* Some uids, with some that don't exist. */
static size_t pick(int i, uint32_t uids[20])
{
    size_t n = 1 + roll(8);
    for (size_t k = 0; k < n; k++)
        uids[k] = box[i].n && roll(5) ? box[i].m[roll((unsigned)box[i].n)].uid : 1 + roll(50);
    return n;
}

static struct model_message *in_model(int i, uint32_t uid)
{
    for (size_t k = 0; k < box[i].n; k++)
        if (box[i].m[k].uid == uid)
            return &box[i].m[k];
    return NULL;
}

static void model_remove(int i, uint32_t uid)
{
    struct model_message *m = in_model(i, uid);
    memmove(m, m + 1, (size_t)(box[i].m + box[i].n - (m + 1)) * sizeof(*m));
    box[i].n--;
}

static void do_copy(int from, int to, bool move)
{
    struct store_mailbox a, b;
    uint32_t uids[20];
    struct store_copied pairs[20];
    size_t n, want = pick(from, uids);
    if (look(from, &a) || look(to, &b) || box[to].n > 280)
        return;
    int code = (move ? store_move : store_copy)(st, a.id, uids, want, b.id, pairs, &n, &err);
    if (code == STORE_NOT_ALLOWED) {
        cr_assert(box[to].noselect);
        return;
    }
    cr_assert_eq(code, 0, "%s", err.text);
    for (size_t k = 0; k < n; k++) {
        struct model_message m = *in_model(from, pairs[k].from);
        m.uid = pairs[k].to;
        cr_assert_eq(m.uid, box[to].uidnext);
        box[to].uidnext++;
        if (move)
            model_remove(from, pairs[k].from);
        box[to].m[box[to].n++] = m;
        remember(to, &m);
    }
    for (size_t k = 0; k < want; k++)
        cr_assert(!move || from == to || !in_model(from, uids[k]));
}

static void do_flags(int i)
{
    struct store_mailbox m;
    uint32_t uids[20], flags = roll(32);
    size_t n = pick(i, uids);
    enum store_flag_mode mode = (enum store_flag_mode)roll(3);
    if (look(i, &m))
        return;
    cr_assert_eq(store_flags(st, m.id, uids, n, mode, flags, 0, NULL, &err), 0);
    for (size_t k = 0; k < n; k++) {
        struct model_message *mm = in_model(i, uids[k]);
        if (mm)
            mm->flags = mode == STORE_FLAGS_ADD      ? mm->flags | flags
                        : mode == STORE_FLAGS_REMOVE ? mm->flags & ~flags
                                                     : flags;
    }
}

static void do_expunge(int i)
{
    struct store_mailbox m;
    uint32_t uids[20], gone[20];
    size_t n = pick(i, uids), gone_n;
    bool only = roll(2);
    if (look(i, &m))
        return;
    cr_assert_eq(store_expunge(st, m.id, uids, n, only, gone, &gone_n, &err), 0);
    for (size_t k = 0; k < gone_n; k++) {
        struct model_message *mm = in_model(i, gone[k]);
        cr_assert(mm && (!only || mm->flags & STORE_DELETED));
        model_remove(i, gone[k]);
    }
    for (size_t k = 0; k < n; k++) {
        struct model_message *mm = in_model(i, uids[k]);
        cr_assert(!mm || (only && !(mm->flags & STORE_DELETED)));
    }
}

/* ---- comparing ---- */

static void same_message(const struct store_row *r, const struct model_message *m)
{
    cr_assert_eq(r->uid, m->uid);
    cr_assert_eq(r->flags, m->flags);
    cr_assert_eq(r->size, m->size);
    struct store_content *c;
    char got[32] = "", want[32];
    cr_assert_eq(store_content_open(st, r->content, &c, &err), 0, "%s", err.text);
    snprintf(want, sizeof(want), "%u\r\n\r\n", m->serial);
    cr_assert_eq(store_content_read(c, 0, got, strlen(want), &err), (ptrdiff_t)strlen(want));
    cr_assert_str_eq(got, want);
    store_content_close(&c);
}

static void same_box(int i, struct store_usage *sum, bool deep)
{
    struct store_mailbox m;
    int code = look(i, &m);
    cr_assert_eq(code, box[i].there ? STORE_OK : STORE_NO_SUCH, "%s", names[i]);
    if (code)
        return;
    size_t size = 0, unseen = 0;
    for (size_t k = 0; k < box[i].n; k++) {
        size += box[i].m[k].size;
        unseen += !(box[i].m[k].flags & STORE_SEEN);
    }
    cr_assert_eq(m.noselect, box[i].noselect);
    cr_assert_eq(m.children, has_below(i));
    cr_assert_eq(m.messages, box[i].n);
    cr_assert_eq(m.size, size);
    cr_assert_eq(m.unseen, unseen);
    if (!m.noselect) {
        cr_assert_eq(m.uidvalidity, box[i].validity);
        cr_assert_eq(m.uidnext, box[i].uidnext);
    }
    sum->bytes += size;
    sum->messages += box[i].n;
    if (!deep)
        return;
    struct store_rows rows = {0};
    cr_assert_eq(store_scan(st, m.id, 1, UINT32_MAX, &rows, &err), 0);
    cr_assert_eq(rows.n, box[i].n);
    for (size_t k = 0; k < rows.n; k++)
        same_message(&rows.v[k], &box[i].m[k]);
    store_rows_free(&rows);
}

static void compare(bool deep)
{
    struct store_usage sum = {0, 0};
    for (int i = 0; i < NAMES; i++)
        same_box(i, &sum, deep);
    cr_assert_eq(store_usage(st).bytes, sum.bytes);
    cr_assert_eq(store_usage(st).messages, sum.messages);
}

static void step(void)
{
    int i = (int)roll(NAMES), k = (int)roll(NAMES);
    switch (roll(14)) {
    case 0: do_create(i); break;
    case 1: do_delete(i); break;
    case 2: do_rename(i, k); break;
    case 3:
    case 4: do_copy(i, k, false); break;
    case 5: do_copy(i, k, true); break;
    case 6:
    case 7: do_flags(i); break;
    case 8: do_expunge(i); break;
    default: do_append(i); break;
    }
}

/* Nothing but messages names contents. */
static void check_refs(void)
{
    struct db *db;
    struct db_options o = {.keep_wal = true, .one_process = true};
    int64_t bad;
    cr_assert_eq(db_open(&db, dir, "store.db", &o, &err), 0, "%s", err.text);
    cr_assert_eq(
        db_value(db,
                 "SELECT count(*) FROM content c WHERE refs <> (SELECT count(*) FROM message WHERE content = c.id)"
                 " OR NOT (large OR EXISTS(SELECT 1 FROM body WHERE content = c.id))",
                 0, &bad, &err),
        0);
    cr_assert_eq(bad, 0);
    cr_assert_eq(db_value(db,
                          "SELECT (SELECT count(*) FROM body) + (SELECT count(*) FROM content WHERE large) - (SELECT "
                          "count(*) FROM content)",
                          0, &bad, &err),
                 0);
    cr_assert_eq(bad, 0);
    db_close(&db);
}

Test(store_model, random_operations, .timeout = 120)
{
    seed = getenv("STORE_SEED") ? (unsigned)atoi(getenv("STORE_SEED")) : (unsigned)getpid();
    unsigned shown = seed;
    fprintf(stderr, "store_model: STORE_SEED=%u\n", shown);
    snprintf(dir, sizeof(dir), "/tmp/waypost-model-XXXXXX");
    cr_assert(mkdtemp(dir));
    open_store();
    fresh(0);
    fresh(10);
    for (int i = 0; i < ROUNDS; i++) {
        step();
        compare(i % 50 == 0);
        if (i % 100 == 99) {
            store_close(&st, roll(2));
            open_store();
            compare(true);
        }
    }
    store_close(&st, false);
    check_refs();
    map_free(&meaning);
    cr_assert_eq(store_purge(dir, &err), 0);
    cr_assert_eq(rmdir(dir), 0);
}
