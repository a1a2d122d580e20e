/* Commands on mailboxes as wholes: SELECT to STATUS (RFC 3501 §6.3), NAMESPACE (RFC 2342), ID (RFC 2971). */
#include "imap/impl.h"

/* ---- SELECT, EXAMINE, UNSELECT ---- */

static void put_line(struct imap *s, const char *before, uint64_t n, const char *after)
{
    imap_text(s, before);
    imap_number(s, n);
    imap_text(s, after);
}

/* RFC3501:6.3.1 */
static void put_selected(struct imap *s, const struct imap_mailbox *box, uint32_t first_unseen)
{
    view_put_all_flags(s, !s->view.read_only);
    put_line(s, "* ", s->view.n, " EXISTS\r\n");
    put_line(s, "* ", view_recent_count(&s->view), " RECENT\r\n");
    if (first_unseen)
        put_line(s, "* OK [UNSEEN ", first_unseen, "] The first of them\r\n");
    put_line(s, "* OK [UIDVALIDITY ", box->uidvalidity, "] While this stays, uids do\r\n");
    put_line(s, "* OK [UIDNEXT ", box->uidnext, "] The next uid, at least\r\n");
}

static void select_mailbox(struct imap *s, struct lex *x, bool read_only)
{
    struct span name;
    struct imap_mailbox box;
    uint32_t unseen;
    if (!imap_take_mailbox(s, x, &name))
        return;
    if (!lex_end(x)) {
        imap_bad(s, "Nothing may follow the name");
        return;
    }
    view_close(s); /* RFC3501:6.3.1: also when the new one can't be selected */
    int r = s->b->find(s->ctx, name, x->arena, &box, &s->err);
    if (r == IMAP_DONE && box.noselect)
        r = IMAP_NOT_ALLOWED;
    if (r == IMAP_DONE)
        r = view_open(s, &box, read_only, &unseen);
    if (r != IMAP_DONE) {
        imap_no_code(s, r, "[NONEXISTENT] There is no such mailbox");
        return;
    }
    put_selected(s, &box, unseen);
    imap_ok(s, read_only ? "[READ-ONLY] Opened for reading" : "[READ-WRITE] Opened");
}

void cmd_select(struct imap *s, struct lex *x)
{
    select_mailbox(s, x, false);
}

void cmd_examine(struct imap *s, struct lex *x)
{
    select_mailbox(s, x, true);
}

void cmd_unselect(struct imap *s, struct lex *x)
{
    (void)x;
    view_close(s);
    imap_ok(s, "Closed");
}

/* ---- CREATE, DELETE, RENAME, SUBSCRIBE ---- */

static bool take_end(struct imap *s, struct lex *x)
{
    if (lex_end(x))
        return true;
    imap_bad(s, "That is more than was expected");
    return false;
}

static void answer_change(struct imap *s, int r, const char *done)
{
    if (r != IMAP_DONE) {
        imap_no_code(s, r, "[NONEXISTENT] There is no such mailbox");
        return;
    }
    s->unsynced = true;
    imap_ok(s, done);
}

void cmd_create(struct imap *s, struct lex *x)
{
    struct span name;
    if (imap_take_mailbox(s, x, &name) && take_end(s, x))
        answer_change(s, s->b->create(s->ctx, name, &s->err), "Made");
}

void cmd_delete(struct imap *s, struct lex *x)
{
    struct span name;
    if (imap_take_mailbox(s, x, &name) && take_end(s, x))
        answer_change(s, s->b->remove(s->ctx, name, &s->err), "Deleted");
}

void cmd_rename(struct imap *s, struct lex *x)
{
    struct span from, to;
    if (imap_take_mailbox(s, x, &from) && imap_take_mailbox(s, x, &to) && take_end(s, x))
        answer_change(s, s->b->rename(s->ctx, from, to, &s->err), "Renamed");
}

static void subscribe(struct imap *s, struct lex *x, bool on)
{
    struct span name;
    if (imap_take_mailbox(s, x, &name) && take_end(s, x))
        answer_change(s, s->b->subscribe(s->ctx, name, on, &s->err), "Done");
}

void cmd_subscribe(struct imap *s, struct lex *x)
{
    subscribe(s, x, true);
}

void cmd_unsubscribe(struct imap *s, struct lex *x)
{
    subscribe(s, x, false);
}

/* ---- STATUS ---- */

enum { STATUS_MESSAGES, STATUS_RECENT, STATUS_UIDNEXT, STATUS_UIDVALIDITY, STATUS_UNSEEN, STATUS_COUNT };
static const char *const status_names[STATUS_COUNT] = {"MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY", "UNSEEN"};

static bool take_status_items(struct lex *x, unsigned *items)
{
    *items = 0;
    if (!lex_sp(x) || !lex_char(x, '('))
        return false;
    do {
        unsigned i = 0;
        while (i < STATUS_COUNT && !lex_word(x, status_names[i]))
            i++;
        if (i == STATUS_COUNT)
            return false;
        *items |= 1u << i;
    } while (lex_sp(x));
    return lex_char(x, ')') && lex_end(x);
}

static void put_status(struct imap *s, const struct imap_mailbox *box, unsigned items)
{
    const uint32_t values[STATUS_COUNT] = {box->messages, box->recent, box->uidnext, box->uidvalidity, box->unseen};
    const char *between = "(";
    imap_text(s, "* STATUS ");
    imap_put_mailbox(s, box->name);
    imap_text(s, " ");
    for (unsigned i = 0; i < STATUS_COUNT; i++)
        if (items & 1u << i) {
            imap_text(s, between);
            imap_text(s, status_names[i]);
            imap_text(s, " ");
            imap_number(s, values[i]);
            between = " ";
        }
    imap_text(s, ")\r\n");
}

static int count_recent(struct imap *s, struct imap_mailbox *box)
{
    struct imap_mailbox now;
    int r = s->b->status(s->ctx, box->id, &now, &s->err);
    if (r == IMAP_DONE)
        box->recent = now.recent;
    return r;
}

void cmd_status(struct imap *s, struct lex *x)
{
    struct span name;
    struct imap_mailbox box;
    unsigned items;
    if (!imap_take_mailbox(s, x, &name))
        return;
    if (!take_status_items(x, &items)) {
        imap_bad(s, "STATUS of what? MESSAGES, RECENT, UIDNEXT, UIDVALIDITY, UNSEEN");
        return;
    }
    int r = s->b->find(s->ctx, name, x->arena, &box, &s->err);
    if (r == IMAP_DONE && box.noselect)
        r = IMAP_NOT_ALLOWED;
    if (r == IMAP_DONE && items & 1u << STATUS_RECENT)
        r = count_recent(s, &box);
    if (r != IMAP_DONE) {
        imap_no_code(s, r, "[NONEXISTENT] There is no such mailbox");
        return;
    }
    put_status(s, &box, items);
    imap_ok(s, "Done");
}

/* ---- NAMESPACE, ID ---- */

void cmd_namespace(struct imap *s, struct lex *x)
{
    (void)x;
    imap_text(s, "* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n"); /* RFC2342:5 */
    imap_ok(s, "Done");
}

/* RFC2971:3.3: at most 30 pairs, names of at most 30 bytes, values of 1024. */
static bool take_id(struct lex *x)
{
    struct span name, value;
    if (!lex_sp(x))
        return false;
    if (lex_word(x, "NIL"))
        return lex_end(x);
    if (!lex_char(x, '('))
        return false;
    if (lex_char(x, ')'))
        return lex_end(x);
    for (unsigned pairs = 0; pairs < 30; pairs++) {
        if (!lex_string(x, &name) || name.n > 30 || !lex_sp(x) || !lex_nstring(x, &value) || value.n > 1024)
            return false;
        if (lex_char(x, ')'))
            return lex_end(x);
        if (!lex_sp(x))
            return false;
    }
    return false;
}

void cmd_id(struct imap *s, struct lex *x)
{
    if (!take_id(x)) {
        imap_bad(s, "ID wants a list of pairs");
        return;
    }
    imap_text(s, "* ID (\"name\" \"Waypost\")\r\n");
    imap_ok(s, "Done");
}
