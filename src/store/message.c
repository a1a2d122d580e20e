/* Messages: rows that name a shared content. Scan, append, flags, copy, move, expunge. RFC3501:6.4 RFC4315 RFC6851 */
#include <stdlib.h>

#include "base/mem.h"
#include "store/internal.h"

/* ---- rows ---- */

void store_rows_add(struct store_rows *r, const struct store_row *row)
{
    if (r->n == r->cap) {
        r->cap = r->cap ? r->cap * 2 : 64;
        r->v = mem_resize(r->v, r->cap * sizeof(*r->v));
    }
    r->v[r->n++] = *row;
}

void store_rows_free(struct store_rows *r)
{
    mem_free(&r->v);
    r->n = r->cap = 0;
}

#define ROW "uid, flags, keywords, modseq, size, internaldate, content"

static void read_row(struct db_stmt *s, struct store_row *r)
{
    *r = (struct store_row){
        .uid = (uint32_t)db_i64(s, 0),
        .flags = (uint32_t)db_i64(s, 1),
        .keywords = (uint64_t)db_i64(s, 2),
        .modseq = (uint64_t)db_i64(s, 3),
        .size = (uint64_t)db_i64(s, 4),
        .internaldate = db_i64(s, 5),
        .content = (uint64_t)db_i64(s, 6),
    };
}

int store_scan(struct store *st, uint64_t mailbox, uint32_t lo, uint32_t hi, struct store_rows *out, struct err *err)
{
    struct db_stmt *s =
        db_stmt(st->db, "SELECT " ROW " FROM message WHERE mailbox = ? AND uid BETWEEN ? AND ? ORDER BY uid");
    db_bind_i64(s, 1, (int64_t)mailbox);
    db_bind_i64(s, 2, lo);
    db_bind_i64(s, 3, hi);
    int got;
    while ((got = db_step(s, err)) > 0) {
        struct store_row r;
        read_row(s, &r);
        store_rows_add(out, &r);
    }
    return got < 0 ? store_failed(st) : STORE_OK;
}

int store_row(struct store *st, uint64_t mailbox, uint32_t uid, struct store_row *out, struct err *err)
{
    struct db_stmt *s = db_stmt(st->db, "SELECT " ROW " FROM message WHERE mailbox = ? AND uid = ?");
    db_bind_i64(s, 1, (int64_t)mailbox);
    db_bind_i64(s, 2, uid);
    int got = db_step(s, err);
    if (got < 0)
        return store_failed(st);
    if (got == 0) {
        err_set(err, "no such message");
        return STORE_NO_SUCH;
    }
    read_row(s, out);
    db_reset(s);
    return STORE_OK;
}

/* Those of the uids that exist, in the order given. */
static int load(struct store *st, uint64_t mailbox, const uint32_t *uids, size_t n, struct store_rows *out,
                struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        struct store_row r;
        int code = store_row(st, mailbox, uids[i], &r, err);
        if (code == STORE_OK)
            store_rows_add(out, &r);
        else if (code != STORE_NO_SUCH)
            return code;
    }
    return STORE_OK;
}

/* ---- inserting ---- */

/* ---- into one mailbox: its row is read once and written once ---- */

static int no_room(const struct store_inserting *in, bool there, bool noselect, struct err *err)
{
    if (there && !noselect && in->uidnext < STORE_UID_MAX)
        return STORE_OK;
    err_set(err, noselect ? "only a name, it holds no messages" : there ? "uids have run out" : "no such mailbox");
    return noselect ? STORE_NOT_ALLOWED : there ? STORE_LIMIT : STORE_NO_SUCH;
}

int store_insert_begin(struct store *st, uint64_t mailbox, struct store_inserting *in, struct err *err)
{
    struct db_stmt *s = db_stmt(st->db, "SELECT noselect, uidnext, uidvalidity, modseq FROM mailbox WHERE id = ?");
    db_bind_i64(s, 1, (int64_t)mailbox);
    *in = (struct store_inserting){0};
    int got = db_step(s, err);
    if (got < 0)
        return store_failed(st);
    bool noselect = got > 0 && db_i64(s, 0);
    if (got > 0) {
        in->uidnext = (uint32_t)db_i64(s, 1);
        in->uidvalidity = (uint32_t)db_i64(s, 2);
        in->modseq = (uint64_t)db_i64(s, 3);
        db_reset(s);
    }
    int code = no_room(in, got > 0, noselect, err);
    if (!code)
        in->mailbox = mailbox;
    return code;
}

int store_insert_room(const struct store_inserting *in, struct err *err)
{
    return no_room(in, true, false, err);
}

int store_insert(struct store *st, struct store_inserting *in, const struct store_row *row, uint32_t *uid,
                 struct err *err)
{
    int code = store_insert_room(in, err);
    if (code)
        return code;
    struct db_stmt *s = db_stmt(st->db, "INSERT INTO message(mailbox, uid, flags, keywords, modseq, size, "
                                        "internaldate, content) VALUES (?, ?, ?, ?, ?, ?, ?, ?)");
    *uid = in->uidnext++; /* RFC3501:2.3.1.1: uids only grow, in commit order */
    db_bind_i64(s, 1, (int64_t)in->mailbox);
    db_bind_i64(s, 2, *uid);
    db_bind_i64(s, 3, row->flags & STORE_FLAGS_ALL);
    db_bind_i64(s, 4, (int64_t)row->keywords);
    db_bind_i64(s, 5, (int64_t)++in->modseq);
    db_bind_i64(s, 6, (int64_t)row->size);
    db_bind_i64(s, 7, row->internaldate);
    db_bind_i64(s, 8, (int64_t)row->content);
    if (db_run(s, err))
        return store_failed(st);
    in->messages++;
    in->unseen += !(row->flags & STORE_SEEN);
    in->size += (int64_t)row->size;
    return STORE_OK;
}

int store_insert_end(struct store *st, struct store_inserting *in, struct err *err)
{
    if (in->messages == 0)
        return STORE_OK;
    struct db_stmt *s = db_stmt(st->db, "UPDATE mailbox SET uidnext = ?, modseq = ?, messages = messages + ?, "
                                        "unseen = unseen + ?, size = size + ? WHERE id = ?");
    db_bind_i64(s, 1, in->uidnext);
    db_bind_i64(s, 2, (int64_t)in->modseq);
    db_bind_i64(s, 3, in->messages);
    db_bind_i64(s, 4, in->unseen);
    db_bind_i64(s, 5, in->size);
    db_bind_i64(s, 6, (int64_t)in->mailbox);
    st->txn_bytes += in->size;
    st->txn_messages += in->messages;
    in->messages = in->unseen = in->size = 0;
    return db_run(s, err) ? store_failed(st) : STORE_OK;
}

int store_takes_messages(struct store *st, uint64_t mailbox, struct err *err)
{
    struct store_inserting in;
    return store_insert_begin(st, mailbox, &in, err);
}

static int append_in(struct store *st, uint64_t mailbox, struct store_stage *g, const struct store_new *m,
                     uint32_t *uid, uint32_t *uidvalidity, struct err *err)
{
    struct store_row row = {
        .flags = m->flags, .keywords = m->keywords, .internaldate = m->internaldate, .size = g->size};
    struct store_inserting in;
    int code = store_insert_begin(st, mailbox, &in, err);
    if (!code)
        code = store_content_insert(st, g, m, &row.content, err);
    if (!code)
        code = store_insert(st, &in, &row, uid, err);
    if (!code)
        code = store_insert_end(st, &in, err);
    if (code)
        return code;
    *uidvalidity = in.uidvalidity;
    store_note_uids(st, STORE_CHANGE_NEW, mailbox, uid, 1);
    return code;
}

int store_append(struct store *st, uint64_t mailbox, struct store_stage **gp, const struct store_new *m, uint32_t *uid,
                 uint32_t *uidvalidity, struct err *err)
{
    struct store_stage *g = *gp;
    uint32_t u = 0, v = 0;
    int code = STORE_OK;
    if (g->fd >= 0 && store_large_sync(st, g->id, g->fd, err))
        code = STORE_FAILED;
    if (!code && !(code = store_begin(st, err)))
        code = store_end(st, append_in(st, mailbox, g, m, &u, &v, err), err);
    if (code) {
        store_stage_free(gp);
        return code;
    }
    store_stage_published(gp);
    if (uid)
        *uid = u;
    if (uidvalidity)
        *uidvalidity = v;
    return STORE_OK;
}

/* ---- flags ---- */

struct flag_change {
    enum store_flag_mode mode;
    uint32_t flags;
    uint64_t keywords;
    int64_t unseen; /* change of the counter */
};

static uint64_t changed_bits(enum store_flag_mode mode, uint64_t have, uint64_t given)
{
    switch (mode) {
    case STORE_FLAGS_ADD: return have | given;
    case STORE_FLAGS_REMOVE: return have & ~given;
    case STORE_FLAGS_REPLACE: return given;
    }
    abort();
}

static int next_modseq(struct store *st, uint64_t mailbox, int64_t unseen, uint64_t *modseq, struct err *err)
{
    struct db_stmt *s =
        db_stmt(st->db, "UPDATE mailbox SET modseq = modseq + 1, unseen = unseen + ? WHERE id = ? RETURNING modseq");
    db_bind_i64(s, 1, unseen);
    db_bind_i64(s, 2, (int64_t)mailbox);
    if (db_step(s, err) != 1)
        return store_failed(st);
    *modseq = (uint64_t)db_i64(s, 0);
    db_reset(s);
    return STORE_OK;
}

/* Keeps the rows that become different, with their new flags. */
static void apply(struct store_rows *rows, struct flag_change *c)
{
    size_t kept = 0;
    for (size_t i = 0; i < rows->n; i++) {
        struct store_row r = rows->v[i];
        uint32_t flags = (uint32_t)changed_bits(c->mode, r.flags, c->flags & STORE_FLAGS_ALL);
        uint64_t keywords = changed_bits(c->mode, r.keywords, c->keywords);
        if (flags == r.flags && keywords == r.keywords)
            continue;
        c->unseen += (int64_t) !(flags & STORE_SEEN) - (int64_t) !(r.flags & STORE_SEEN);
        r.flags = flags;
        r.keywords = keywords;
        rows->v[kept++] = r;
    }
    rows->n = kept;
}

static int write_flags(struct store *st, uint64_t mailbox, struct store_rows *rows, int64_t unseen, struct err *err)
{
    uint64_t modseq = 0;
    int code = next_modseq(st, mailbox, unseen, &modseq, err);
    for (size_t i = 0; !code && i < rows->n; i++) {
        struct store_row *r = &rows->v[i];
        struct db_stmt *s =
            db_stmt(st->db, "UPDATE message SET flags = ?, keywords = ?, modseq = ? WHERE mailbox = ? AND uid = ?");
        r->modseq = modseq;
        db_bind_i64(s, 1, r->flags);
        db_bind_i64(s, 2, (int64_t)r->keywords);
        db_bind_i64(s, 3, (int64_t)modseq);
        db_bind_i64(s, 4, (int64_t)mailbox);
        db_bind_i64(s, 5, r->uid);
        if (db_run(s, err))
            code = store_failed(st);
    }
    if (!code)
        store_note_rows(st, mailbox, rows->v, rows->n);
    return code;
}

/* A uid given twice would be counted twice: only its first row stays. Rows come in the order of the uids, mostly
 * ascending. */
static void drop_twins(struct store_rows *rows)
{
    struct idmap seen = {0};
    size_t kept = 0;
    bool ascending = true;
    for (size_t i = 1; i < rows->n && ascending; i++)
        ascending = rows->v[i - 1].uid < rows->v[i].uid;
    if (ascending)
        return;
    for (size_t i = 0; i < rows->n; i++)
        if (!idmap_put(&seen, rows->v[i].uid, rows))
            rows->v[kept++] = rows->v[i];
    rows->n = kept;
    idmap_free(&seen);
}

int store_flags(struct store *st, uint64_t mailbox, const uint32_t *uids, size_t n, enum store_flag_mode mode,
                uint32_t flags, uint64_t keywords, struct store_rows *changed, struct err *err)
{
    struct flag_change c = {.mode = mode, .flags = flags, .keywords = keywords};
    struct store_rows rows = {0};
    int code = load(st, mailbox, uids, n, &rows, err);
    drop_twins(&rows);
    if (!code)
        apply(&rows, &c);
    if (!code && rows.n && !(code = store_begin(st, err)))
        code = store_end(st, write_flags(st, mailbox, &rows, c.unseen, err), err);
    for (size_t i = 0; !code && changed && i < rows.n; i++)
        store_rows_add(changed, &rows.v[i]);
    store_rows_free(&rows);
    return code;
}

/* ---- removing ---- */

static int subtract(struct store *st, uint64_t mailbox, const struct store_row *rows, size_t n, struct err *err)
{
    int64_t unseen = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        unseen += !(rows[i].flags & STORE_SEEN);
        size += (int64_t)rows[i].size;
    }
    struct db_stmt *s = db_stmt(st->db, "UPDATE mailbox SET modseq = modseq + 1, messages = messages - ?, unseen = "
                                        "unseen - ?, size = size - ? WHERE id = ?");
    db_bind_i64(s, 1, (int64_t)n);
    db_bind_i64(s, 2, unseen);
    db_bind_i64(s, 3, size);
    db_bind_i64(s, 4, (int64_t)mailbox);
    st->txn_bytes -= size;
    st->txn_messages -= (int64_t)n;
    return db_run(s, err) ? store_failed(st) : STORE_OK;
}

static void note_gone(struct store *st, uint64_t mailbox, const struct store_row *rows, size_t n)
{
    if (!st->watches)
        return;
    uint32_t *uids = mem_array(n, sizeof(*uids));
    for (size_t i = 0; i < n; i++)
        uids[i] = rows[i].uid;
    store_note_uids(st, STORE_CHANGE_EXPUNGED, mailbox, uids, n);
    mem_free(&uids);
}

/* release: their contents lose a reference; not when they have moved. The rows exist, each once. */
int store_remove_rows(struct store *st, uint64_t mailbox, const struct store_row *rows, size_t n, bool release,
                      struct err *err)
{
    if (n == 0)
        return STORE_OK;
    int code = STORE_OK;
    for (size_t i = 0; !code && i < n; i++) {
        struct db_stmt *s = db_stmt(st->db, "DELETE FROM message WHERE mailbox = ? AND uid = ?");
        db_bind_i64(s, 1, (int64_t)mailbox);
        db_bind_i64(s, 2, rows[i].uid);
        if (db_run(s, err))
            code = store_failed(st);
        else if (release)
            code = store_content_release(st, rows[i].content, err);
    }
    if (!code)
        code = subtract(st, mailbox, rows, n, err);
    if (!code)
        note_gone(st, mailbox, rows, n);
    return code;
}

static void keep_deleted(struct store_rows *rows)
{
    size_t kept = 0;
    for (size_t i = 0; i < rows->n; i++)
        if (rows->v[i].flags & STORE_DELETED)
            rows->v[kept++] = rows->v[i];
    rows->n = kept;
}

int store_expunge(struct store *st, uint64_t mailbox, const uint32_t *uids, size_t n, bool only_deleted, uint32_t *gone,
                  size_t *gone_n, struct err *err)
{
    struct store_rows rows = {0};
    int code = load(st, mailbox, uids, n, &rows, err);
    drop_twins(&rows);
    if (only_deleted)
        keep_deleted(&rows);
    if (!code && rows.n && !(code = store_begin(st, err)))
        code = store_end(st, store_remove_rows(st, mailbox, rows.v, rows.n, true, err), err);
    for (size_t i = 0; !code && gone && i < rows.n; i++)
        gone[i] = rows.v[i].uid;
    if (gone_n)
        *gone_n = code ? 0 : rows.n;
    store_rows_free(&rows);
    return code;
}

/* ---- copying ---- */

/* What each keyword bit of `from` is in `to`; 0 where the table of `to` is full. Only for bits in `used`. */
static int map_keywords(struct store *st, uint64_t from, uint64_t to, uint64_t used, uint64_t map[STORE_KEYWORDS_MAX],
                        struct err *err)
{
    memset(map, 0, STORE_KEYWORDS_MAX * sizeof(*map));
    if (!used)
        return STORE_OK;
    struct arena a = {0};
    struct span names[STORE_KEYWORDS_MAX];
    int code = store_keywords(st, from, &a, names, err);
    for (unsigned i = 0; !code && i < STORE_KEYWORDS_MAX; i++) {
        unsigned bit;
        if (!(used >> i & 1) || !names[i].p)
            continue;
        code = store_keyword_in(st, to, names[i], &bit, err);
        if (code == STORE_OK)
            map[i] = UINT64_C(1) << bit;
        else if (code == STORE_LIMIT)
            code = STORE_OK; /* the message is worth more than its last keyword */
    }
    arena_free(&a);
    return code;
}

static uint64_t mapped(uint64_t keywords, const uint64_t map[STORE_KEYWORDS_MAX])
{
    uint64_t out = 0;
    for (; keywords; keywords &= keywords - 1)
        out |= map[__builtin_ctzll(keywords)];
    return out;
}

static void note_new(struct store *st, uint64_t mailbox, const struct store_copied *pairs, size_t n)
{
    if (!st->watches)
        return;
    uint32_t *uids = mem_array(n, sizeof(*uids));
    for (size_t i = 0; i < n; i++)
        uids[i] = pairs[i].to;
    store_note_uids(st, STORE_CHANGE_NEW, mailbox, uids, n);
    mem_free(&uids);
}

int store_transfer(struct store *st, uint64_t from, struct store_rows *rows, uint64_t to, bool move,
                   struct store_copied *pairs, struct err *err)
{
    uint64_t used = 0, map[STORE_KEYWORDS_MAX];
    struct store_inserting in;
    for (size_t i = 0; i < rows->n; i++)
        used |= rows->v[i].keywords;
    int code = map_keywords(st, from, to, used, map, err);
    if (!code)
        code = store_insert_begin(st, to, &in, err);
    for (size_t i = 0; !code && i < rows->n; i++) {
        struct store_row r = rows->v[i];
        r.keywords = mapped(r.keywords, map);
        pairs[i].from = r.uid;
        code = store_insert(st, &in, &r, &pairs[i].to, err);
        if (!code && !move)
            code = store_content_ref(st, r.content, err);
    }
    if (!code)
        code = store_insert_end(st, &in, err);
    if (!code && rows->n)
        note_new(st, to, pairs, rows->n);
    if (!code && move)
        code = store_remove_rows(st, from, rows->v, rows->n, false, err);
    return code;
}

static int transfer(struct store *st, uint64_t from, const uint32_t *uids, size_t n, uint64_t to, bool move,
                    struct store_copied *pairs, size_t *pairs_n, struct err *err)
{
    struct store_rows rows = {0};
    int code = store_takes_messages(st, to, err);
    if (!code)
        code = load(st, from, uids, n, &rows, err);
    drop_twins(&rows);
    if (!code && rows.n && !(code = store_begin(st, err)))
        code = store_end(st, store_transfer(st, from, &rows, to, move, pairs, err), err);
    *pairs_n = code ? 0 : rows.n;
    store_rows_free(&rows);
    return code;
}

int store_copy(struct store *st, uint64_t from, const uint32_t *uids, size_t n, uint64_t to, struct store_copied *pairs,
               size_t *pairs_n, struct err *err)
{
    return transfer(st, from, uids, n, to, false, pairs, pairs_n, err);
}

int store_move(struct store *st, uint64_t from, const uint32_t *uids, size_t n, uint64_t to, struct store_copied *pairs,
               size_t *pairs_n, struct err *err)
{
    return transfer(st, from, uids, n, to, true, pairs, pairs_n, err);
}
