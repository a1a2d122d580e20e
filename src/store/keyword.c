/* Keywords: user flags, a table of names for each mailbox, bits in its messages. RFC3501:2.3.2 */
#include "store/internal.h"

int store_keywords(struct store *st, uint64_t mailbox, struct arena *a, struct span names[STORE_KEYWORDS_MAX],
                   struct err *err)
{
    memset(names, 0, STORE_KEYWORDS_MAX * sizeof(*names));
    struct db_stmt *s = db_stmt(st->db, "SELECT bit, name FROM keyword WHERE mailbox = ?");
    db_bind_i64(s, 1, (int64_t)mailbox);
    int got;
    while ((got = db_step(s, err)) > 0) {
        int64_t bit = db_i64(s, 0);
        if (bit >= 0 && bit < STORE_KEYWORDS_MAX)
            names[bit] = arena_dup(a, db_text(s, 1));
    }
    return got < 0 ? store_failed(st) : STORE_OK;
}

static int find_keyword(struct store *st, uint64_t mailbox, struct span name, unsigned *bit, struct err *err)
{
    struct db_stmt *s = db_stmt(st->db, "SELECT bit FROM keyword WHERE mailbox = ? AND name = ?");
    db_bind_i64(s, 1, (int64_t)mailbox);
    db_bind_text(s, 2, name);
    int got = db_step(s, err);
    if (got < 0)
        return store_failed(st);
    if (got == 0) {
        err_set(err, "no such keyword");
        return STORE_NO_SUCH;
    }
    *bit = (unsigned)db_i64(s, 0);
    db_reset(s);
    return STORE_OK;
}

/* RFC3501:2.3.2 a keyword is an atom; here the door's grammar has seen to that, and this is what the table itself can't
 * hold. */
static bool keyword_ok(struct span name)
{
    if (name.n == 0 || name.n > STORE_KEYWORD_LEN_MAX || name.p[0] == '\\')
        return false;
    for (size_t i = 0; i < name.n; i++) {
        unsigned char c = (unsigned char)name.p[i];
        if (c <= 0x20 || c >= 0x7f || memchr("(){%*\"]\\", c, 8))
            return false;
    }
    return true;
}

int store_keyword_in(struct store *st, uint64_t mailbox, struct span name, unsigned *bit, struct err *err)
{
    int code = find_keyword(st, mailbox, name, bit, err);
    if (code != STORE_NO_SUCH)
        return code;
    struct db_stmt *get = db_stmt(st->db, "SELECT keywords FROM mailbox WHERE id = ? AND NOT noselect");
    db_bind_i64(get, 1, (int64_t)mailbox);
    int got = db_step(get, err);
    uint64_t used = got > 0 ? (uint64_t)db_i64(get, 0) : 0;
    db_reset(get);
    if (got <= 0)
        return got < 0 ? store_failed(st) : store_takes_messages(st, mailbox, err);
    if (used == UINT64_MAX) {
        err_set(err, "this mailbox has %d keywords already", STORE_KEYWORDS_MAX);
        return STORE_LIMIT;
    }
    *bit = (unsigned)__builtin_ctzll(~used);
    struct db_stmt *put = db_stmt(st->db, "INSERT INTO keyword(mailbox, name, bit) VALUES (?, ?, ?)");
    db_bind_i64(put, 1, (int64_t)mailbox);
    db_bind_text(put, 2, name);
    db_bind_i64(put, 3, *bit);
    struct db_stmt *set = db_stmt(st->db, "UPDATE mailbox SET keywords = ? WHERE id = ?");
    db_bind_i64(set, 1, (int64_t)(used | UINT64_C(1) << *bit));
    db_bind_i64(set, 2, (int64_t)mailbox);
    return db_run(put, err) || db_run(set, err) ? store_failed(st) : STORE_OK;
}

int store_keyword(struct store *st, uint64_t mailbox, struct span name, bool create, unsigned *bit, struct err *err)
{
    if (!keyword_ok(name)) {
        err_set(err, "not a keyword");
        return create ? STORE_BAD_NAME : STORE_NO_SUCH;
    }
    int code = find_keyword(st, mailbox, name, bit, err);
    if (code != STORE_NO_SUCH || !create)
        return code;
    code = store_begin(st, err);
    return code ? code : store_end(st, store_keyword_in(st, mailbox, name, bit, err), err);
}
