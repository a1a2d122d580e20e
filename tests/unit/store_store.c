/* store/: names, mailboxes, messages, flags, keywords, events, the mark. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "db/db.h"
#include "store_support.h"

TestSuite(store, .init = set_up, .fini = tear_down);

/* ---- names ---- */

/* RFC3501:5.1 HAZARDS 22 */
Test(store, names)
{
    static const struct {
        const char *given;
        const char *want; /* NULL: refused */
    } rows[] = {
        {"a", "a"},
        {"a/b", "a/b"},
        {"a/b/", "a/b"},
        {"inbox", "INBOX"},
        {"InBoX/x", "INBOX/x"},
        {"inboxes", "inboxes"},
        {"a/inbox", "a/inbox"},
        {"M\xc3\xbcll", "M\xc3\xbcll"},
        {"a b", "a b"},
        {"~root", "~root"},
        {"a&b", "a&b"},
        {"...", "..."},
        {"", NULL},
        {"/", NULL},
        {"/a", NULL},
        {"a//b", NULL},
        {"a//", NULL},
        {".", NULL},
        {"..", NULL},
        {"a/../b", NULL},
        {"a/.", NULL},
        {"a\nb", NULL},
        {"a\x7f", NULL},
        {"\xc2\x85", NULL},
        {"a%", NULL},
        {"*", NULL},
        {"\xff", NULL},
        {"\xc0\xaf", NULL},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct arena a = {0};
        struct span out;
        int code = store_name(span_of(rows[i].given), &a, &out, &err);
        cr_assert_eq(code, rows[i].want ? STORE_OK : STORE_BAD_NAME, "%s", rows[i].given);
        if (rows[i].want)
            cr_assert(span_eqs(out, rows[i].want), "%s", rows[i].given);
        arena_free(&a);
    }
    char longest[STORE_NAME_MAX + 2];
    struct arena a = {0};
    struct span out;
    memset(longest, 'x', sizeof(longest));
    cr_assert_eq(store_name(span_make(longest, STORE_NAME_MAX), &a, &out, &err), STORE_OK);
    cr_assert_eq(store_name(span_make(longest, STORE_NAME_MAX + 1), &a, &out, &err), STORE_BAD_NAME);
    cr_assert_eq(store_name(SPAN("a\0b"), &a, &out, &err), STORE_BAD_NAME);
    arena_free(&a);
}

/* HAZARDS 22: whatever a name says, nothing appears outside of the database. */
Test(store, names_are_never_paths)
{
    static const char *const names[] = {"../../etc/x", "..",       "/etc/passwd", "a/../../b",
                                        "large/00/1",  "store.db", "store.db-wal"};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        store_create(st, span_of(names[i]), STORE_PLAIN, NULL, &err);
    char path[128];
    snprintf(path, sizeof(path), "%s/large", dir);
    cr_assert_neq(access(path, F_OK), 0);
    cr_assert_eq(find_code("store.db"), 0);
    reopen();
    cr_assert_eq(find_code("large/00/1"), 0);
}

/* ---- mailboxes ---- */

/* RFC6154:2 the special-use mailboxes of a new account. */
Test(store, new_account)
{
    static const char *const want[] = {"INBOX", "Archive", "Drafts", "Junk", "Sent", "Trash"};
    struct arena a = {0};
    struct store_mailbox *list;
    size_t n;
    cr_assert_eq(store_list(st, &a, &list, &n, &err), 0);
    cr_assert_eq(n, COUNT_OF(want));
    for (size_t i = 0; i < n; i++) {
        cr_assert(span_eqs(list[i].name, want[i]));
        cr_assert(list[i].subscribed);
        cr_assert_not(list[i].children);
        cr_assert_eq(list[i].uidnext, 1);
    }
    cr_assert_str_eq(store_special_name((enum store_special)list[4].special), "\\Sent");
    cr_assert_eq(list[0].special, STORE_PLAIN);
    arena_free(&a);
}

/* RFC3501:6.3.3 RFC3501:6.3.4 */
/* RFC3501:6.3 */
Test(store, create_and_delete)
{
    cr_assert_eq(store_create(st, SPAN("a/b/c"), STORE_PLAIN, NULL, &err), 0);
    cr_assert(status("a").children);
    cr_assert(status("a/b").children);
    cr_assert_not(status("a/b/c").children);
    cr_assert_eq(store_create(st, SPAN("a/b"), STORE_PLAIN, NULL, &err), STORE_EXISTS);
    cr_assert_eq(store_create(st, SPAN("inbox"), STORE_PLAIN, NULL, &err), STORE_EXISTS);
    cr_assert_eq(store_delete(st, SPAN("Inbox"), &err), STORE_NOT_ALLOWED);
    cr_assert_eq(store_delete(st, SPAN("zzz"), &err), STORE_NO_SUCH);
    append("a/b", 100, 0);
    uint32_t before = status("a/b").uidvalidity;
    cr_assert_eq(store_delete(st, SPAN("a/b"), &err), 0);
    cr_assert(status("a/b").noselect);
    cr_assert_eq(status("a/b").messages, 0);
    cr_assert_eq(store_usage(st).bytes, 0);
    cr_assert_eq(store_delete(st, SPAN("a/b"), &err), STORE_NOT_ALLOWED);
    struct store_stage *g = stage(20);
    cr_assert_eq(store_append(st, mailbox("a/b"), &g, &(struct store_new){0}, NULL, NULL, &err), STORE_NOT_ALLOWED);
    cr_assert_eq(store_create(st, SPAN("a/b"), STORE_PLAIN, NULL, &err), 0);
    cr_assert_gt(status("a/b").uidvalidity, before);
    cr_assert_eq(store_delete(st, SPAN("a/b/c"), &err), 0);
    cr_assert_eq(find_code("a/b/c"), STORE_NO_SUCH);
    cr_assert_not(status("a/b").children);
}

/* RFC3501:6.3.5 HAZARDS 20 */
Test(store, rename)
{
    cr_assert_eq(store_create(st, SPAN("a/b/c"), STORE_PLAIN, NULL, &err), 0);
    cr_assert_eq(store_create(st, SPAN("ab"), STORE_PLAIN, NULL, &err), 0);
    uint32_t uid = append("a/b", 100, STORE_SEEN), before = status("a/b").uidvalidity;
    cr_assert_eq(store_rename(st, SPAN("a"), SPAN("ab"), &err), STORE_EXISTS);
    cr_assert_eq(store_rename(st, SPAN("a"), SPAN("a/x"), &err), STORE_NOT_ALLOWED);
    cr_assert_eq(store_rename(st, SPAN("nope"), SPAN("x"), &err), STORE_NO_SUCH);
    cr_assert_eq(store_rename(st, SPAN("a"), SPAN("new/place"), &err), 0);
    cr_assert_eq(find_code("a/b"), STORE_NO_SUCH);
    cr_assert_eq(find_code("ab"), 0);
    cr_assert_eq(find_code("new"), 0);
    cr_assert_eq(find_code("new/place/b/c"), 0);
    cr_assert_gt(status("new/place/b").uidvalidity, before);
    struct store_row row;
    cr_assert_eq(store_row(st, mailbox("new/place/b"), uid, &row, &err), 0);
    char deep[STORE_NAME_MAX];
    memset(deep, 'd', sizeof(deep));
    cr_assert_eq(store_rename(st, SPAN("new"), span_make(deep, 250), &err), STORE_BAD_NAME);
    cr_assert_eq(find_code("new/place"), 0);
}

Test(store, rename_inbox)
{
    append("INBOX", 100, 0);
    append("INBOX", 200, STORE_SEEN);
    cr_assert_eq(store_create(st, SPAN("INBOX/below"), STORE_PLAIN, NULL, &err), 0);
    cr_assert_eq(store_rename(st, SPAN("inbox"), SPAN("old/mail"), &err), 0);
    cr_assert_eq(status("INBOX").messages, 0);
    cr_assert_eq(status("INBOX").uidnext, 3);
    cr_assert_eq(status("old/mail").messages, 2);
    cr_assert_eq(status("old/mail").unseen, 1);
    cr_assert_eq(status("old/mail").size, 300);
    cr_assert_eq(find_code("INBOX/below"), 0);
    cr_assert_eq(append("INBOX", 10, 0), 3);
}

/* RFC3501:6.3.6 a name stays subscribed when its mailbox goes. */
Test(store, subscriptions)
{
    struct arena a = {0};
    struct span *names;
    size_t n;
    cr_assert_eq(store_subscribe(st, SPAN("Later"), true, &err), 0);
    cr_assert_eq(store_subscribe(st, SPAN("Later"), true, &err), 0);
    cr_assert_eq(store_subscribe(st, SPAN("Junk"), false, &err), 0);
    cr_assert_eq(store_delete(st, SPAN("Archive"), &err), 0);
    cr_assert_eq(store_subscriptions(st, &a, &names, &n, &err), 0);
    cr_assert_eq(n, 6);
    cr_assert(span_eqs(names[0], "Archive"));
    cr_assert(span_eqs(names[3], "Later"));
    cr_assert_not(status("Junk").subscribed);
    arena_free(&a);
}

/* ---- messages ---- */

/* RFC3501:6.4 */
Test(store, flags_and_counters)
{
    uint32_t uids[] = {append("INBOX", 100, 0), append("INBOX", 100, STORE_SEEN), 99, append("INBOX", 100, 0)};
    uint64_t box = mailbox("INBOX"), modseq = status("INBOX").modseq;
    struct store_rows changed = {0};
    cr_assert_eq(store_flags(st, box, uids, 4, STORE_FLAGS_ADD, STORE_SEEN, 0, &changed, &err), 0);
    cr_assert_eq(changed.n, 2);
    cr_assert_eq(status("INBOX").unseen, 0);
    cr_assert_gt(status("INBOX").modseq, modseq);
    cr_assert_eq(changed.v[0].modseq, status("INBOX").modseq);
    store_rows_free(&changed);
    cr_assert_eq(store_flags(st, box, uids, 4, STORE_FLAGS_ADD, STORE_SEEN, 0, &changed, &err), 0);
    cr_assert_eq(changed.n, 0);
    uint32_t twice[] = {uids[0], uids[0]};
    cr_assert_eq(store_flags(st, box, twice, 2, STORE_FLAGS_REPLACE, STORE_DELETED, 5, NULL, &err), 0);
    cr_assert_eq(status("INBOX").unseen, 1);
    struct store_row row;
    cr_assert_eq(store_row(st, box, uids[0], &row, &err), 0);
    cr_assert_eq(row.flags, STORE_DELETED);
    cr_assert_eq(row.keywords, 5);
    cr_assert_eq(row.internaldate, 77);
    cr_assert_eq(store_flags(st, box, uids, 1, STORE_FLAGS_REMOVE, STORE_DELETED | STORE_SEEN, 4, NULL, &err), 0);
    cr_assert_eq(store_row(st, box, uids[0], &row, &err), 0);
    cr_assert_eq(row.flags, 0);
    cr_assert_eq(row.keywords, 1);
}

/* RFC3501:2.3.2 */
Test(store, keywords)
{
    uint64_t box = mailbox("INBOX");
    unsigned bit = 99;
    cr_assert_eq(store_keyword(st, box, SPAN("$Forwarded"), false, &bit, &err), STORE_NO_SUCH);
    cr_assert_eq(store_keyword(st, box, SPAN("$Forwarded"), true, &bit, &err), 0);
    cr_assert_eq(bit, 0);
    cr_assert_eq(store_keyword(st, box, SPAN("$forwarded"), true, &bit, &err), 0);
    cr_assert_eq(bit, 0);
    cr_assert_eq(store_keyword(st, box, SPAN("\\Bad"), true, &bit, &err), STORE_BAD_NAME);
    cr_assert_eq(store_keyword(st, box, SPAN("a b"), true, &bit, &err), STORE_BAD_NAME);
    cr_assert_eq(store_keyword(st, box, SPAN("a]"), true, &bit, &err), STORE_BAD_NAME);
    for (unsigned i = 1; i < STORE_KEYWORDS_MAX; i++) {
        char name[16];
        snprintf(name, sizeof(name), "k%u", i);
        cr_assert_eq(store_keyword(st, box, span_of(name), true, &bit, &err), 0);
        cr_assert_eq(bit, i);
    }
    cr_assert_eq(store_keyword(st, box, SPAN("one-more"), true, &bit, &err), STORE_LIMIT);
    cr_assert_eq(status("INBOX").keywords, UINT64_MAX);
    struct arena a = {0};
    struct span names[STORE_KEYWORDS_MAX];
    cr_assert_eq(store_keywords(st, box, &a, names, &err), 0);
    cr_assert(span_eqs(names[0], "$Forwarded"));
    cr_assert(span_eqs(names[63], "k63"));
    arena_free(&a);
}

/* Keywords go along by name, not by bit. RFC3501:6.4.7 */
Test(store, copy_maps_keywords)
{
    unsigned in, out;
    uint64_t from = mailbox("INBOX"), to = mailbox("Trash");
    cr_assert_eq(store_keyword(st, to, SPAN("other"), true, &out, &err), 0);
    cr_assert_eq(store_keyword(st, from, SPAN("mine"), true, &in, &err), 0);
    uint32_t uid = append("INBOX", 50, STORE_FLAGGED);
    cr_assert_eq(store_flags(st, from, &uid, 1, STORE_FLAGS_ADD, 0, UINT64_C(1) << in, NULL, &err), 0);
    struct store_copied pair;
    size_t n;
    cr_assert_eq(store_copy(st, from, &uid, 1, to, &pair, &n, &err), 0);
    cr_assert_eq(n, 1);
    struct store_row row;
    cr_assert_eq(store_row(st, to, pair.to, &row, &err), 0);
    cr_assert_eq(store_keyword(st, to, SPAN("mine"), false, &out, &err), 0);
    cr_assert_eq(out, 1);
    cr_assert_eq(row.keywords, UINT64_C(1) << out);
    cr_assert_eq(row.flags, STORE_FLAGGED);
}

/* RFC3501:2.3.2 \Recent belongs to the first session that is told. */
Test(store, recent)
{
    append("INBOX", 10, 0);
    append("INBOX", 10, 0);
    cr_assert_eq(status("INBOX").recent, 2);
    uint32_t from;
    cr_assert_eq(store_claim_recent(st, mailbox("INBOX"), &from, &err), 0);
    cr_assert_eq(from, 1);
    cr_assert_eq(status("INBOX").recent, 0);
    append("INBOX", 10, 0);
    reopen();
    cr_assert_eq(status("INBOX").recent, 1);
    cr_assert_eq(store_claim_recent(st, mailbox("INBOX"), &from, &err), 0);
    cr_assert_eq(from, 3);
}

/* RFC3501:2.3.1.1 */
Test(store, expunge)
{
    uint32_t uids[3], gone[3];
    size_t n;
    for (int i = 0; i < 3; i++)
        uids[i] = append("INBOX", 100, i == 1 ? STORE_DELETED : 0);
    uint64_t box = mailbox("INBOX");
    cr_assert_eq(store_expunge(st, box, uids, 3, true, gone, &n, &err), 0);
    cr_assert_eq(n, 1);
    cr_assert_eq(gone[0], uids[1]);
    cr_assert_eq(store_usage(st).messages, 2);
    cr_assert_eq(store_expunge(st, box, uids, 3, false, gone, &n, &err), 0);
    cr_assert_eq(n, 2);
    cr_assert_eq(store_usage(st).bytes, 0);
    cr_assert_eq(status("INBOX").unseen, 0);
    cr_assert_eq(append("INBOX", 10, 0), 4, "a uid is never given twice");
}

/* RFC6851:3.3 */
Test(store, move)
{
    uint32_t uids[] = {append("INBOX", 70000, 0), append("INBOX", 100, 0)};
    struct store_copied pairs[2];
    size_t n;
    struct store_usage before = store_usage(st);
    cr_assert_eq(store_move(st, mailbox("INBOX"), uids, 2, mailbox("Archive"), pairs, &n, &err), 0);
    cr_assert_eq(n, 2);
    cr_assert_eq(pairs[1].to, pairs[0].to + 1);
    cr_assert_eq(status("INBOX").messages, 0);
    cr_assert_eq(status("Archive").size, 70100);
    cr_assert_eq(store_usage(st).bytes, before.bytes);
    cr_assert_eq(store_move(st, mailbox("Archive"), &pairs[0].to, 1, 4711, pairs, &n, &err), STORE_NO_SUCH);
    cr_assert_eq(status("Archive").messages, 2);
}

/* ---- events ---- */

static char heard[500];

static void on_change(void *ctx, const struct store_event *e)
{
    static const char *const kinds[] = {"new", "flags", "expunged", "gone", "renamed", "list"};
    struct store_mailbox m;
    (void)ctx;
    size_t at = strlen(heard);
    at += (size_t)snprintf(heard + at, sizeof(heard) - at, "%s", kinds[e->kind]);
    for (size_t i = 0; i < e->n; i++)
        at += (size_t)snprintf(heard + at, sizeof(heard) - at, ",%u", e->uids ? e->uids[i] : e->rows[i].uid);
    snprintf(heard + at, sizeof(heard) - at, " ");
    if (e->kind == STORE_CHANGE_NEW)
        cr_assert_eq(store_status(st, e->mailbox, NULL, &m, NULL), 0, "a watcher may read");
}

Test(store, events)
{
    struct store_watch w = {.fn = on_change};
    store_watch(st, &w);
    heard[0] = 0;
    uint32_t uid = append("INBOX", 10, 0);
    uint64_t box = mailbox("INBOX");
    store_flags(st, box, &uid, 1, STORE_FLAGS_ADD, STORE_SEEN, 0, NULL, &err);
    store_flags(st, box, &uid, 1, STORE_FLAGS_ADD, STORE_SEEN, 0, NULL, &err);
    store_deliver_begin(st, &err);
    deliver("Q", 1, 10);
    deliver("Q", 2, 10);
    cr_assert_str_eq(heard, "new,1 flags,1 ", "nothing is told before the commit");
    store_deliver_commit(st, &err);
    store_expunge(st, box, &uid, 1, false, NULL, NULL, &err);
    store_create(st, SPAN("x"), STORE_PLAIN, NULL, &err);
    store_create(st, SPAN("x"), STORE_PLAIN, NULL, &err);
    store_rename(st, SPAN("x"), SPAN("y"), &err);
    store_delete(st, SPAN("y"), &err);
    store_unwatch(st, &w);
    append("INBOX", 10, 0);
    cr_assert_str_eq(heard, "new,1 flags,1 new,2 new,3 expunged,1 list renamed gone ");
}

/* ---- one process, a planted link ---- */

Test(store, one_owner)
{
    struct store *other;
    struct store_options o = {.dir = dir, .boot_id = "boot-1", .wait_ms = 20};
    cr_assert_eq(store_open(&other, &o, &err), STORE_BUSY);
    cr_assert_null(other);
}

/* HAZARDS 32 */
Test(store, planted_links)
{
    char path[128], target[128];
    append("INBOX", 100000, 0);
    snprintf(path, sizeof(path), "%s/large/03", dir);
    snprintf(target, sizeof(target), "%s/elsewhere", dir);
    cr_assert_eq(mkdir(target, 0700), 0);
    cr_assert_eq(symlink(target, path), 0);
    struct buf more = {0};
    memset(buf_room(&more, 100000), 'x', 100000);
    more.n = 100000;
    for (int id = 2; id <= 4; id++) {
        struct store_stage *g = store_stage_new(st);
        cr_assert_eq(store_stage_write(g, buf_span(&more), &err) == 0, id != 3,
                     "only the one behind the link is refused: %d %s", id, err.text);
        store_stage_free(&g);
    }
    buf_free(&more);
    cr_assert_eq(rmdir(target), 0, "nothing was written behind the link");
    store_close(&st, false);
    snprintf(path, sizeof(path), "%s/store.db", dir);
    snprintf(target, sizeof(target), "%s/moved.db", dir);
    cr_assert_eq(rename(path, target), 0);
    cr_assert_eq(symlink(target, path), 0);
    struct store_options o = {.dir = dir, .boot_id = "boot-1"};
    cr_assert_eq(store_open(&st, &o, &err), STORE_FAILED);
    cr_assert_eq(unlink(path), 0);
    cr_assert_eq(rename(target, path), 0);
    open_store();
}

/* ---- the mark ---- */

/* A power failure may have taken transactions: uids that were shown are never given again (HAZARDS 20, 21). */
Test(store, reboot_without_mark_skips)
{
    uint32_t last = append("INBOX", 10, 0);
    struct store_mailbox before = status("INBOX");
    store_close(&st, false);
    open_store_as("boot-2", 1000);
    struct store_mailbox after = status("INBOX");
    cr_assert_geq(after.uidnext, before.uidnext + 10000);
    cr_assert_geq(after.modseq, before.modseq + 1000000);
    cr_assert_eq(after.uidvalidity, before.uidvalidity);
    uint32_t next = append("INBOX", 10, 0);
    cr_assert_gt(next, last + 9999);
    store_close(&st, true);
    open_store_as("boot-3", 1000);
    cr_assert_eq(append("INBOX", 10, 0), next + 1, "closed in order: nothing to skip");
    store_close(&st, true);
    open_store_as("boot-3", 1000);
    cr_assert_eq(append("INBOX", 10, 0), next + 2);
    store_close(&st, false);
    open_store_as("boot-3", 1000);
    cr_assert_eq(append("INBOX", 10, 0), next + 3, "the kernel lost nothing: nothing to skip");
}

/* Making a store costs no sync; the first one that is asked for covers the file and its folder, and is remembered. */
Test(store, fresh_until_synced)
{
    struct db *db;
    struct db_options o = {.keep_wal = true, .one_process = true};
    for (int64_t want = 2; want >= 0; want -= 2) {
        int64_t mark;
        store_close(&st, false);
        cr_assert_eq(db_open(&db, dir, "store.db", &o, &err), 0, "%s", err.text);
        cr_assert_eq(db_value(db, "SELECT clean FROM account", -1, &mark, &err), 0);
        cr_assert_eq(mark, want);
        db_close(&db);
        open_store();
        cr_assert_eq(store_sync(st, &err), 0);
    }
}

/* UIDVALIDITY grows past the clock, so a store from a backup goes on above what it gave since. */
Test(store, uidvalidity_follows_the_clock)
{
    uint64_t id;
    store_set_now(st, INT64_C(1900000000) * 1000);
    cr_assert_eq(store_create(st, SPAN("n1"), STORE_PLAIN, &id, &err), 0);
    store_set_now(st, 5000);
    cr_assert_eq(store_create(st, SPAN("n2"), STORE_PLAIN, &id, &err), 0);
    cr_assert_eq(status("n1").uidvalidity, 1900000000u);
    cr_assert_eq(status("n2").uidvalidity, 1900000001u);
}
