/* Commands that change messages: STORE, COPY, MOVE (RFC 6851), EXPUNGE and UID EXPUNGE (RFC 4315), CLOSE. */
#include "base/mem.h"
#include "imap/impl.h"

static bool writable(struct imap *s)
{
    if (!s->view.read_only)
        return true;
    imap_no(s, "[NOPERM] The mailbox is open for reading only");
    return false;
}

/* ---- STORE ---- */

struct change {
    enum imap_flag_mode mode;
    bool silent;
    struct flags flags;
};

/* store-att-flags = (["+" / "-"] "FLAGS" [".SILENT"]) SP (flag-list / (flag *(SP flag))) */
static bool take_change(struct lex *x, struct change *c)
{
    if (!lex_sp(x))
        return false;
    c->mode = lex_char(x, '+') ? IMAP_FLAGS_ADD : lex_char(x, '-') ? IMAP_FLAGS_REMOVE : IMAP_FLAGS_REPLACE;
    c->silent = lex_word(x, "FLAGS.SILENT");
    return (c->silent || lex_word(x, "FLAGS")) && lex_sp(x) && flags_parse(x, &c->flags, false) && lex_end(x);
}

void cmd_store(struct imap *s, struct lex *x)
{
    struct set positions;
    struct change c;
    uint64_t bits;
    size_t n;
    if (!imap_take_set(s, x, &positions))
        return;
    if (!take_change(x, &c)) {
        imap_bad(s, "STORE wants FLAGS, +FLAGS or -FLAGS and a list");
        return;
    }
    if (!writable(s))
        return;
    int r = flags_bits(s, s->view.mailbox, &c.flags, c.mode != IMAP_FLAGS_REMOVE, &bits);
    if (r == IMAP_DONE) {
        uint32_t *uids = view_uids(s, &positions, &n);
        s->view.own = true;
        r = s->b->set_flags(s->ctx, s->view.mailbox, uids, n, c.mode, c.flags.system, bits, &s->err);
        s->view.own = false;
        mem_free(&uids);
    }
    if (r != IMAP_DONE)
        imap_no_code(s, r, "[EXPUNGEISSUED] These messages are gone");
    else if (c.silent)
        imap_ok(s, "Stored");
    else
        fetch_start_flags(s, &positions);
}

/* ---- COPY, MOVE ---- */

/* RFC4315:3: what went where, in the same order on both sides. */
static void put_copyuid(struct buf *out, uint32_t uidvalidity, const struct imap_pair *pairs, size_t n)
{
    uint32_t *v = mem_array(n, sizeof *v);
    buf_printf(out, "[COPYUID %u ", uidvalidity);
    for (size_t i = 0; i < n; i++)
        v[i] = pairs[i].from;
    set_put(out, v, n);
    buf_addc(out, ' ');
    for (size_t i = 0; i < n; i++)
        v[i] = pairs[i].to;
    set_put(out, v, n);
    buf_adds(out, "] ");
    mem_free(&v);
}

static int copy_to(struct imap *s, const struct imap_mailbox *target, const struct set *positions, bool move,
                   struct buf *copyuid)
{
    size_t n, done = 0;
    uint32_t *uids = view_uids(s, positions, &n);
    struct imap_pair *pairs = mem_array(n ? n : 1, sizeof *pairs);
    int r = n ? s->b->copy(s->ctx, s->view.mailbox, uids, n, target->id, move, pairs, &done, &s->err) : IMAP_DONE;
    if (r == IMAP_DONE && done)
        put_copyuid(copyuid, target->uidvalidity, pairs, done);
    s->unsynced |= done > 0;
    mem_free(&uids);
    mem_free(&pairs);
    return r;
}

static void answer_copy(struct imap *s, struct buf *copyuid, bool move)
{
    if (move && copyuid->n) { /* RFC6851:4.3: before the EXPUNGEs */
        imap_text(s, "* OK ");
        buf_add(&s->out, buf_span(copyuid));
        imap_text(s, "Moved\r\n");
        buf_clear(copyuid);
    }
    buf_adds(copyuid, move ? "Moved" : "Copied");
    imap_ok(s, buf_cstr(copyuid));
}

static void copy_or_move(struct imap *s, struct lex *x, bool move)
{
    struct set positions;
    struct span name;
    struct imap_mailbox target;
    struct buf copyuid = {0};
    if (!imap_take_set(s, x, &positions) || !imap_take_mailbox(s, x, &name))
        return;
    if (!lex_end(x)) {
        imap_bad(s, "Nothing may follow the name");
        return;
    }
    if (move && !writable(s))
        return;
    int r = s->b->find(s->ctx, name, x->arena, &target, &s->err);
    if (r == IMAP_DONE && target.noselect)
        r = IMAP_NOT_ALLOWED;
    if (r != IMAP_DONE) {
        imap_no_code(s, r, "[TRYCREATE] There is no such mailbox"); /* RFC3501:6.4.7 */
        return;
    }
    r = copy_to(s, &target, &positions, move, &copyuid);
    if (r == IMAP_DONE)
        answer_copy(s, &copyuid, move);
    else
        imap_no_code(s, r, "[EXPUNGEISSUED] Some of these messages are gone");
    buf_free(&copyuid);
}

void cmd_copy(struct imap *s, struct lex *x)
{
    copy_or_move(s, x, false);
}

void cmd_move(struct imap *s, struct lex *x)
{
    copy_or_move(s, x, true);
}

/* ---- EXPUNGE ---- */

/* UID EXPUNGE has a set, EXPUNGE has none (RFC4315:2.1). */
static bool take_expunge_set(struct imap *s, struct lex *x, struct set *positions)
{
    *positions = (struct set){.v = arena_alloc(x->arena, sizeof *positions->v)};
    if (s->uid)
        return imap_take_set(s, x, positions);
    if (s->view.n) {
        positions->v[0] = (struct set_range){0, (uint32_t)s->view.n - 1};
        positions->n = 1;
    }
    return true;
}

/* Uids of those that are \Deleted: a range read is cheaper than asking for each. */
static int find_deleted(struct imap *s, const struct set *positions, uint32_t **uids, size_t *n)
{
    struct imap_rows rows = {0};
    int r = IMAP_DONE;
    *n = 0;
    *uids = mem_array(set_count(positions) + 1, sizeof **uids);
    for (size_t i = 0; i < positions->n && r == IMAP_DONE; i++) {
        rows.n = 0;
        r = view_rows(s, positions->v[i].lo, positions->v[i].hi, &rows);
        for (size_t k = 0; r == IMAP_DONE && k < rows.n; k++)
            if (rows.v[k].flags & IMAP_DELETED)
                (*uids)[(*n)++] = rows.v[k].uid;
    }
    mem_free(&rows.v);
    return r;
}

static int expunge(struct imap *s, const struct set *positions)
{
    uint32_t *uids = NULL;
    size_t n;
    int r = find_deleted(s, positions, &uids, &n);
    if (r == IMAP_DONE && n) {
        r = s->b->expunge(s->ctx, s->view.mailbox, uids, n, &s->err);
        s->unsynced = true;
    }
    mem_free(&uids);
    return r;
}

void cmd_expunge(struct imap *s, struct lex *x)
{
    struct set positions;
    if (!take_expunge_set(s, x, &positions))
        return;
    if (!lex_end(x)) {
        imap_bad(s, "That is more than was expected");
        return;
    }
    if (!writable(s))
        return;
    int r = expunge(s, &positions);
    if (r == IMAP_DONE)
        imap_ok(s, "Expunged");
    else
        imap_no_code(s, r, "[NONEXISTENT] The mailbox is gone");
}

/* RFC3501:6.4.2: what is \Deleted goes, nothing is told. */
void cmd_close(struct imap *s, struct lex *x)
{
    struct set all;
    int r = IMAP_DONE;
    if (!s->view.read_only && take_expunge_set(s, x, &all))
        r = expunge(s, &all);
    view_close(s);
    if (r == IMAP_DONE || r == IMAP_NO_SUCH)
        imap_ok(s, "Closed");
    else
        imap_no_code(s, r, "");
}
