/* Mailboxes: rows with a name. List, create, delete, rename, subscribe, counters. RFC3501:6.3 RFC6154 */
#include <stdlib.h>

#include "base/mem.h"
#include "store/internal.h"

#define COLUMNS_AND(recent)                                                                                            \
    "id, name, noselect, special, uidvalidity, uidnext, messages, unseen, recent_from, size, modseq, keywords,"        \
    " " recent ", EXISTS(SELECT 1 FROM subscription WHERE subscription.name = mailbox.name)"
#define COLUMNS COLUMNS_AND("0")
/* It costs as much as there are recent ones: only where it is asked for. */
#define RECENT "(SELECT count(*) FROM message WHERE mailbox = mailbox.id AND uid >= mailbox.recent_from)"

static const struct {
    const char *flag, *name;
} specials[STORE_SPECIAL_COUNT] = {
    [STORE_SENT] = {"\\Sent", "Sent"}, [STORE_DRAFTS] = {"\\Drafts", "Drafts"},    [STORE_TRASH] = {"\\Trash", "Trash"},
    [STORE_JUNK] = {"\\Junk", "Junk"}, [STORE_ARCHIVE] = {"\\Archive", "Archive"},
};

const char *store_special_name(enum store_special s)
{
    return specials[s].flag;
}

static int no_such(struct err *err)
{
    err_set(err, "no such mailbox");
    return STORE_NO_SUCH;
}

/* ---- reading ---- */

static void read_mailbox(struct db_stmt *s, struct arena *a, struct store_mailbox *m)
{
    *m = (struct store_mailbox){
        .id = (uint64_t)db_i64(s, 0),
        .name = a ? arena_dup(a, db_text(s, 1)) : SPAN_NONE,
        .noselect = db_i64(s, 2) != 0,
        .special = (uint8_t)db_i64(s, 3),
        .uidvalidity = (uint32_t)db_i64(s, 4),
        .uidnext = (uint32_t)db_i64(s, 5),
        .messages = (uint32_t)db_i64(s, 6),
        .unseen = (uint32_t)db_i64(s, 7),
        .recent_from = (uint32_t)db_i64(s, 8),
        .size = (uint64_t)db_i64(s, 9),
        .modseq = (uint64_t)db_i64(s, 10),
        .keywords = (uint64_t)db_i64(s, 11),
        .recent = (uint32_t)db_i64(s, 12),
        .subscribed = db_i64(s, 13) != 0,
    };
}

static int read_one(struct store *st, struct db_stmt *s, struct arena *a, struct store_mailbox *out, struct err *err)
{
    int got = db_step(s, err);
    if (got < 0)
        return store_failed(st);
    if (got == 0)
        return no_such(err);
    read_mailbox(s, a, out);
    db_reset(s);
    return STORE_OK;
}

/* Everything below NAME/ is between NAME/ and NAME0: '0' follows '/'. */
static void bind_below(struct db_stmt *s, int index, struct span name, char lo[STORE_NAME_MAX + 1],
                       char hi[STORE_NAME_MAX + 1])
{
    memcpy(lo, name.p, name.n);
    memcpy(hi, name.p, name.n);
    lo[name.n] = '/';
    hi[name.n] = '0';
    db_bind_text(s, index, span_make(lo, name.n + 1));
    db_bind_text(s, index + 1, span_make(hi, name.n + 1));
}

static int has_children(struct store *st, struct span name, bool *out, struct err *err)
{
    char lo[STORE_NAME_MAX + 1], hi[STORE_NAME_MAX + 1];
    struct db_stmt *s = db_stmt(st->db, "SELECT 1 FROM mailbox WHERE name > ? AND name < ? LIMIT 1");
    bind_below(s, 1, name, lo, hi);
    int got = db_step(s, err);
    db_reset(s);
    *out = got > 0;
    return got < 0 ? store_failed(st) : STORE_OK;
}

/* `name` is canonical. */
static int find(struct store *st, struct span name, struct arena *a, struct store_mailbox *out, struct err *err)
{
    struct db_stmt *s = db_stmt(st->db, "SELECT " COLUMNS " FROM mailbox WHERE name = ?");
    db_bind_text(s, 1, name);
    int code = read_one(st, s, a, out, err);
    return code ? code : has_children(st, name, &out->children, err);
}

int store_find(struct store *st, struct span name, struct arena *a, struct store_mailbox *out, struct err *err)
{
    struct arena own = {0};
    int code = store_name(name, &own, &name, err);
    if (!code)
        code = find(st, name, a, out, err);
    arena_free(&own);
    return code;
}

int store_status(struct store *st, uint64_t mailbox, struct arena *a, struct store_mailbox *out, struct err *err)
{
    struct arena own = {0};
    struct db_stmt *s = db_stmt(st->db, "SELECT " COLUMNS_AND(RECENT) " FROM mailbox WHERE id = ?");
    db_bind_i64(s, 1, (int64_t)mailbox);
    int code = read_one(st, s, a ? a : &own, out, err);
    if (!code)
        code = has_children(st, out->name, &out->children, err);
    if (!a)
        out->name = SPAN_NONE;
    arena_free(&own);
    return code;
}

/* Marks every mailbox that has one below it: names without a row don't exist, so the parent of each is enough. */
static void mark_children(struct store_mailbox *list, size_t n)
{
    struct map by_name = {0};
    for (size_t i = 0; i < n; i++)
        map_put(&by_name, list[i].name, &list[i]);
    for (size_t i = 0; i < n; i++) {
        ptrdiff_t at = span_rfind(list[i].name, '/');
        struct store_mailbox *up = at > 0 ? map_get(&by_name, span_sub(list[i].name, 0, (size_t)at)) : NULL;
        if (up)
            up->children = true;
    }
    map_free(&by_name);
}

int store_list(struct store *st, struct arena *a, struct store_mailbox **list, size_t *count, struct err *err)
{
    int64_t rows;
    *list = NULL;
    *count = 0;
    if (db_value(st->db, "SELECT count(*) FROM mailbox", 0, &rows, err))
        return store_failed(st);
    if (rows == 0)
        return STORE_OK;
    struct store_mailbox *v = arena_alloc(a, (size_t)rows * sizeof(*v));
    struct db_stmt *s = db_stmt(st->db, "SELECT " COLUMNS " FROM mailbox ORDER BY name <> 'INBOX', name");
    size_t n = 0;
    int got;
    while ((got = db_step(s, err)) > 0 && n < (size_t)rows)
        read_mailbox(s, a, &v[n++]);
    if (got < 0)
        return store_failed(st);
    db_reset(s);
    mark_children(v, n);
    *list = v;
    *count = n;
    return STORE_OK;
}

int store_subscriptions(struct store *st, struct arena *a, struct span **names, size_t *count, struct err *err)
{
    int64_t rows;
    *names = NULL;
    *count = 0;
    if (db_value(st->db, "SELECT count(*) FROM subscription", 0, &rows, err))
        return store_failed(st);
    if (rows == 0)
        return STORE_OK;
    struct span *v = arena_alloc(a, (size_t)rows * sizeof(*v));
    struct db_stmt *s = db_stmt(st->db, "SELECT name FROM subscription ORDER BY name");
    size_t n = 0;
    int got;
    while ((got = db_step(s, err)) > 0 && n < (size_t)rows)
        v[n++] = arena_dup(a, db_text(s, 0));
    if (got < 0)
        return store_failed(st);
    db_reset(s);
    *names = v;
    *count = n;
    return STORE_OK;
}

/* ---- creating ---- */

static int insert(struct store *st, struct span name, enum store_special special, uint64_t *id, struct err *err)
{
    uint32_t validity;
    int code = store_next_uidvalidity(st, &validity, err);
    if (code)
        return code;
    struct db_stmt *s = db_stmt(st->db, "INSERT INTO mailbox(name, noselect, special, uidvalidity, uidnext, "
                                        "recent_from, messages, unseen, size, modseq, keywords)"
                                        " VALUES (?, 0, ?, ?, 1, 1, 0, 0, 0, 1, 0)");
    db_bind_text(s, 1, name);
    db_bind_i64(s, 2, special);
    db_bind_i64(s, 3, validity);
    if (db_run(s, err))
        return store_failed(st);
    *id = (uint64_t)db_last_rowid(st->db);
    store_note_uids(st, STORE_CHANGE_LIST, *id, NULL, 0);
    return STORE_OK;
}

/* A \Noselect name becomes a mailbox again: nothing of what it was, so a new UIDVALIDITY and uids from 1. */
static int revive(struct store *st, uint64_t id, enum store_special special, struct err *err)
{
    uint32_t validity;
    int code = store_next_uidvalidity(st, &validity, err);
    if (code)
        return code;
    struct db_stmt *s = db_stmt(
        st->db,
        "UPDATE mailbox SET noselect = 0, special = ?, uidvalidity = ?, uidnext = 1, recent_from = 1 WHERE id = ?");
    db_bind_i64(s, 1, special);
    db_bind_i64(s, 2, validity);
    db_bind_i64(s, 3, (int64_t)id);
    if (db_run(s, err))
        return store_failed(st);
    store_note_uids(st, STORE_CHANGE_LIST, id, NULL, 0);
    return STORE_OK;
}

static int check_room(struct store *st, struct err *err)
{
    int64_t rows;
    if (db_value(st->db, "SELECT count(*) FROM mailbox", 0, &rows, err))
        return store_failed(st);
    if (rows < STORE_MAILBOXES_MAX)
        return STORE_OK;
    err_set(err, "too many mailboxes (%d)", STORE_MAILBOXES_MAX);
    return STORE_LIMIT;
}

/* RFC3501:6.3.3 superior names are created when they are missing. */
static int create_parents(struct store *st, struct span name, struct err *err)
{
    for (size_t i = 1; i < name.n; i++) {
        if (name.p[i] != '/')
            continue;
        struct store_mailbox up;
        uint64_t id;
        struct span above = span_sub(name, 0, i);
        int code = find(st, above, NULL, &up, NULL);
        if (code == STORE_NO_SUCH)
            code = insert(st, above, STORE_PLAIN, &id, err);
        if (code)
            return code;
    }
    return STORE_OK;
}

static int create_in(struct store *st, struct span name, enum store_special special, uint64_t *id, struct err *err)
{
    struct store_mailbox m;
    int code = find(st, name, NULL, &m, err);
    if (code == STORE_OK) {
        *id = m.id;
        if (m.noselect)
            return revive(st, m.id, special, err);
        err_set(err, "the mailbox exists already");
        return STORE_EXISTS;
    }
    if (code == STORE_NO_SUCH)
        code = check_room(st, err);
    if (!code)
        code = create_parents(st, name, err);
    return code ? code : insert(st, name, special, id, err);
}

int store_create(struct store *st, struct span name, enum store_special special, uint64_t *id, struct err *err)
{
    uint64_t made;
    struct arena a = {0};
    int code = store_name(name, &a, &name, err);
    if (!code && !(code = store_begin(st, err)))
        code = store_end(st, create_in(st, name, special, &made, err), err);
    if (!code && id)
        *id = made;
    arena_free(&a);
    return code;
}

static int put_subscription(struct store *st, struct span name, struct err *err)
{
    struct db_stmt *s = db_stmt(st->db, "INSERT OR IGNORE INTO subscription VALUES (?)");
    db_bind_text(s, 1, name);
    return db_run(s, err) ? store_failed(st) : STORE_OK;
}

int store_make_account(struct store *st, struct err *err)
{
    uint64_t id;
    int code = insert(st, SPAN("INBOX"), STORE_PLAIN, &id, err);
    if (!code)
        code = put_subscription(st, SPAN("INBOX"), err);
    for (int i = STORE_SENT; !code && i < STORE_SPECIAL_COUNT; i++) {
        code = insert(st, span_of(specials[i].name), (enum store_special)i, &id, err);
        if (!code)
            code = put_subscription(st, span_of(specials[i].name), err);
    }
    return code;
}

/* ---- deleting ---- */

static int remove_messages(struct store *st, uint64_t mailbox, struct err *err)
{
    struct store_rows rows = {0};
    int code = store_scan(st, mailbox, 1, STORE_UID_MAX, &rows, err);
    if (!code)
        code = store_remove_rows(st, mailbox, rows.v, rows.n, true, err);
    store_rows_free(&rows);
    return code;
}

static int run_with_id(struct store *st, const char *sql, uint64_t id, struct err *err)
{
    struct db_stmt *s = db_stmt(st->db, sql);
    db_bind_i64(s, 1, (int64_t)id);
    return db_run(s, err) ? store_failed(st) : STORE_OK;
}

static int delete_in(struct store *st, struct span name, struct err *err)
{
    struct store_mailbox m;
    int code = find(st, name, NULL, &m, err);
    if (code)
        return code;
    if (span_eqs(name, "INBOX") || (m.noselect && m.children)) {
        err_set(err, m.noselect ? "there are mailboxes below it" : "INBOX can't be deleted");
        return STORE_NOT_ALLOWED;
    }
    code = remove_messages(st, m.id, err);
    if (!code)
        code = run_with_id(st, "DELETE FROM keyword WHERE mailbox = ?", m.id, err);
    if (!code)
        code = m.children ? run_with_id(st, "UPDATE mailbox SET noselect = 1, special = 0, keywords = 0 WHERE id = ?",
                                        m.id, err)
                          : run_with_id(st, "DELETE FROM mailbox WHERE id = ?", m.id, err);
    store_note_uids(st, STORE_CHANGE_GONE, m.id, NULL, 0);
    return code;
}

int store_delete(struct store *st, struct span name, struct err *err)
{
    struct arena a = {0};
    int code = store_name(name, &a, &name, err);
    if (!code && !(code = store_begin(st, err)))
        code = store_end(st, delete_in(st, name, err), err);
    arena_free(&a);
    return code;
}

/* ---- renaming ---- */

/* RFC3501:6.3.5 renaming INBOX moves its messages to a new mailbox. */
static int rename_inbox(struct store *st, uint64_t inbox, struct span to, struct err *err)
{
    uint64_t id;
    struct store_rows rows = {0};
    int code = create_in(st, to, STORE_PLAIN, &id, err);
    if (!code)
        code = store_scan(st, inbox, 1, STORE_UID_MAX, &rows, err);
    if (!code && rows.n) {
        struct store_copied *pairs = mem_array(rows.n, sizeof(*pairs));
        code = store_transfer(st, inbox, &rows, id, true, pairs, err);
        mem_free(&pairs);
    }
    store_rows_free(&rows);
    return code;
}

struct renamed {
    uint64_t id;
    struct span name;
};

/* The mailbox and all below it. */
static int load_tree(struct store *st, struct span from, struct arena *a, struct renamed **list, size_t *n,
                     struct err *err)
{
    char lo[STORE_NAME_MAX + 1], hi[STORE_NAME_MAX + 1];
    struct renamed *v = arena_alloc(a, STORE_MAILBOXES_MAX * sizeof(*v));
    struct db_stmt *s = db_stmt(st->db, "SELECT id, name FROM mailbox WHERE name = ? OR (name > ? AND name < ?)");
    db_bind_text(s, 1, from);
    bind_below(s, 2, from, lo, hi);
    size_t count = 0;
    int got;
    while ((got = db_step(s, err)) > 0 && count < STORE_MAILBOXES_MAX) {
        v[count].id = (uint64_t)db_i64(s, 0);
        v[count++].name = arena_dup(a, db_text(s, 1));
    }
    if (got < 0)
        return store_failed(st);
    db_reset(s);
    *list = v;
    *n = count;
    return STORE_OK;
}

static int rename_one(struct store *st, uint64_t id, struct span name, struct err *err)
{
    if (name.n > STORE_NAME_MAX) {
        err_set(err, "a mailbox below it would get too long a name");
        return STORE_BAD_NAME;
    }
    uint32_t validity;
    int code = store_next_uidvalidity(st, &validity, err);
    if (code)
        return code;
    struct db_stmt *s = db_stmt(st->db, "UPDATE mailbox SET name = ?, uidvalidity = ? WHERE id = ?");
    db_bind_text(s, 1, name);
    db_bind_i64(s, 2, validity);
    db_bind_i64(s, 3, (int64_t)id);
    if (db_run(s, err))
        return store_failed(st);
    store_note_uids(st, STORE_CHANGE_RENAMED, id, NULL, 0);
    return STORE_OK;
}

static int rename_tree(struct store *st, struct span from, struct span to, struct arena *a, struct err *err)
{
    struct renamed *list = NULL;
    size_t n = 0;
    int code = create_parents(st, to, err);
    if (!code)
        code = load_tree(st, from, a, &list, &n, err);
    for (size_t i = 0; !code && i < n; i++) {
        struct span rest = span_from(list[i].name, from.n);
        code = rename_one(st, list[i].id, arena_printf(a, "%.*s%.*s", SPANV(to), SPANV(rest)), err);
    }
    return code;
}

static int rename_in(struct store *st, struct span from, struct span to, struct arena *a, struct err *err)
{
    struct store_mailbox m, there;
    int code = find(st, from, NULL, &m, err);
    if (code)
        return code;
    code = find(st, to, NULL, &there, err);
    if (code == STORE_OK) {
        err_set(err, "the mailbox exists already");
        return STORE_EXISTS;
    }
    if (code != STORE_NO_SUCH)
        return code;
    if (span_eqs(from, "INBOX"))
        return rename_inbox(st, m.id, to, err);
    if (span_starts(to, from) && to.n > from.n && to.p[from.n] == '/') {
        err_set(err, "a mailbox can't go below itself");
        return STORE_NOT_ALLOWED;
    }
    code = check_room(st, err);
    return code ? code : rename_tree(st, from, to, a, err);
}

int store_rename(struct store *st, struct span from, struct span to, struct err *err)
{
    struct arena a = {0};
    int code = store_name(from, &a, &from, err);
    if (!code)
        code = store_name(to, &a, &to, err);
    if (!code && !(code = store_begin(st, err)))
        code = store_end(st, rename_in(st, from, to, &a, err), err);
    arena_free(&a);
    return code;
}

/* ---- subscriptions ---- */

static int subscribe_in(struct store *st, struct span name, bool on, struct err *err)
{
    int64_t rows = 0;
    if (on && db_value(st->db, "SELECT count(*) FROM subscription", 0, &rows, err))
        return store_failed(st);
    if (rows >= STORE_SUBSCRIPTIONS_MAX) {
        err_set(err, "too many subscriptions (%d)", STORE_SUBSCRIPTIONS_MAX);
        return STORE_LIMIT;
    }
    store_note_uids(st, STORE_CHANGE_LIST, 0, NULL, 0);
    if (on)
        return put_subscription(st, name, err);
    struct db_stmt *s = db_stmt(st->db, "DELETE FROM subscription WHERE name = ?");
    db_bind_text(s, 1, name);
    return db_run(s, err) ? store_failed(st) : STORE_OK;
}

/* A name need not exist to be (un)subscribed: RFC3501:6.3.6 lets the server verify, and an older one may have gone
 * since. */
int store_subscribe(struct store *st, struct span name, bool on, struct err *err)
{
    struct arena a = {0};
    int code = store_name(name, &a, &name, err);
    if (!code && !(code = store_begin(st, err)))
        code = store_end(st, subscribe_in(st, name, on, err), err);
    arena_free(&a);
    return code;
}

/* ---- \Recent ---- */

int store_claim_recent(struct store *st, uint64_t mailbox, uint32_t *recent_from, struct err *err)
{
    struct store_mailbox m;
    int code = store_status(st, mailbox, NULL, &m, err);
    if (code)
        return code;
    *recent_from = m.recent_from;
    if (m.recent_from == m.uidnext)
        return STORE_OK;
    code = store_begin(st, err);
    return code ? code
                : store_end(st, run_with_id(st, "UPDATE mailbox SET recent_from = uidnext WHERE id = ?", mailbox, err),
                            err);
}
