/* FETCH (RFC 3501 §6.4.5), and the FETCH replies of STORE. The messages are taken in chunks, one range read each; the
 * output stops at IMAP_OUT_HIGH and goes on where it stood, in the middle of a literal too. */
#include "base/mem.h"
#include "imap/section.h"
#include "mail/date.h"
#include "mail/nstring.h"

#define ITEMS_MAX 64
#define CHUNK_LIGHT 512 /* messages */
#define CHUNK_BODIES 16 /* where contents are sent: \Seen is set for a chunk at a time */
#define PIECE 32768
#define STEP_COST (UINT64_C(4) << 20) /* bytes of messages opened before others get their turn */

enum item_kind {
    ITEM_UID,
    ITEM_FLAGS,
    ITEM_INTERNALDATE,
    ITEM_SIZE,
    ITEM_ENVELOPE,
    ITEM_BODYSTRUCTURE,
    ITEM_BODY,
    ITEM_SECTION
};

struct item {
    enum item_kind kind;
    struct section section;
    struct span label; /* "BODY[…]" */
};

struct fetch {
    struct item *items;
    size_t items_n;
    bool sees;     /* sets \Seen */
    bool contents; /* sends parts of messages */
    const char *done;
    /* Where it stands. */
    struct set positions;
    size_t range;   /* of positions */
    uint32_t taken; /* positions of that range already loaded */
    struct imap_rows rows;
    bool seen_now[CHUNK_LIGHT];
    size_t row, item;
    bool open; /* "(" is written */
    struct imap_content *content;
    uint64_t from, left; /* of the literal being sent */
    struct buf made;
    struct arena arena; /* of one message */
    struct span envelope, structure;
    bool cached;   /* envelope and structure are this message's */
    bool missing;  /* some message is gone from the store */
    uint64_t cost; /* since the last turn */
};

void fetch_free(struct imap *s)
{
    struct fetch *f = s->fetch;
    if (!f)
        return;
    if (f->content)
        s->b->close(s->ctx, &f->content);
    mem_free(&f->rows.v);
    buf_free(&f->made);
    arena_free(&f->arena);
    mem_free(&s->fetch);
}

/* ---- what is wanted ---- */

static struct item *add_item(struct fetch *f, enum item_kind kind)
{
    if (f->items_n == ITEMS_MAX)
        return NULL;
    struct item *i = &f->items[f->items_n++];
    i->kind = kind;
    return i;
}

static bool add_section(struct lex *x, struct fetch *f, const struct section *q, const char *name, bool with_section,
                        bool peek)
{
    struct item *i = add_item(f, ITEM_SECTION);
    struct buf label = {0};
    if (!i)
        return false;
    i->section = *q;
    buf_adds(&label, name);
    if (with_section)
        section_put(q, &label);
    i->label = arena_dup(x->arena, buf_span(&label));
    buf_free(&label);
    f->sees |= !peek;
    f->contents = true;
    return true;
}

static struct span take_name(struct lex *x)
{
    size_t n = 0;
    while (n < x->rest.n && (ascii_alpha(x->rest.p[n]) || ascii_digit(x->rest.p[n]) || x->rest.p[n] == '.'))
        n++;
    struct span name = span_sub(x->rest, 0, n);
    x->rest = span_from(x->rest, n);
    return name;
}

/* "BODY", "BODY[…]", "BODY.PEEK[…]" */
static bool take_body(struct lex *x, struct fetch *f, bool peek)
{
    struct section q;
    if (!x->rest.n || *x->rest.p != '[')
        return !peek && add_item(f, ITEM_BODY);
    return section_parse(x, &q) && add_section(x, f, &q, "BODY", true, peek);
}

static bool take_item(struct lex *x, struct fetch *f)
{
    static const struct {
        const char *name;
        enum item_kind kind;
    } plain[] = {
        {"UID", ITEM_UID},          {"FLAGS", ITEM_FLAGS},       {"INTERNALDATE", ITEM_INTERNALDATE},
        {"RFC822.SIZE", ITEM_SIZE}, {"ENVELOPE", ITEM_ENVELOPE}, {"BODYSTRUCTURE", ITEM_BODYSTRUCTURE},
    };
    static const struct {
        const char *name;
        enum section_what what;
        bool peek;
    } whole[] = {
        {"RFC822", SECTION_ALL, false}, {"RFC822.HEADER", SECTION_HEADER, true}, {"RFC822.TEXT", SECTION_TEXT, false}};
    struct span name = take_name(x);
    if (span_ieqs(name, "BODY") || span_ieqs(name, "BODY.PEEK"))
        return take_body(x, f, name.n > 4);
    for (size_t i = 0; i < COUNT_OF(plain); i++)
        if (span_ieqs(name, plain[i].name))
            return add_item(f, plain[i].kind) != NULL;
    for (size_t i = 0; i < COUNT_OF(whole); i++)
        if (span_ieqs(name, whole[i].name))
            return add_section(x, f, &(struct section){.what = whole[i].what}, whole[i].name, false, whole[i].peek);
    return false;
}

static bool take_macro(struct lex *x, struct fetch *f)
{
    static const enum item_kind full[] = {ITEM_FLAGS, ITEM_INTERNALDATE, ITEM_SIZE, ITEM_ENVELOPE, ITEM_BODY};
    size_t n = lex_word(x, "FAST") ? 3 : lex_word(x, "ALL") ? 4 : lex_word(x, "FULL") ? 5 : 0;
    for (size_t i = 0; i < n; i++)
        add_item(f, full[i]);
    return n > 0;
}

static bool take_items(struct lex *x, struct fetch *f)
{
    if (!lex_sp(x))
        return false;
    if (take_macro(x, f))
        return lex_end(x);
    if (!lex_char(x, '('))
        return take_item(x, f) && lex_end(x);
    do {
        if (!take_item(x, f))
            return false;
    } while (lex_sp(x));
    return lex_char(x, ')') && lex_end(x);
}

static bool wants(const struct fetch *f, enum item_kind kind)
{
    for (size_t i = 0; i < f->items_n; i++)
        if (f->items[i].kind == kind)
            return true;
    return false;
}

/* ---- one item of one message ---- */

static void put_missing(struct imap *s)
{
    s->fetch->missing = true;
    s->b->trouble(s->ctx, &s->err);
    imap_text(s, "NIL");
}

static bool open_content(struct imap *s, const struct imap_row *row)
{
    struct fetch *f = s->fetch;
    return f->content || s->b->open(s->ctx, row->content, &f->content, &s->err) == IMAP_DONE;
}

/* ENVELOPE and BODYSTRUCTURE as remembered; else they are found now and remembered. */
static bool find_cached(struct imap *s, const struct imap_row *row)
{
    struct fetch *f = s->fetch;
    if (f->cached)
        return true;
    int r = s->b->cache_get(s->ctx, row->content, &f->arena, &f->envelope, &f->structure, &s->err);
    f->cached = r == IMAP_DONE && f->envelope.p && f->structure.p;
    if (f->cached)
        return true;
    const struct mime_part *root = open_content(s, row) ? structure_of(s, row->content, f->content) : NULL;
    if (!root)
        return false;
    struct buf structure = {0};
    mime_put_structure(&structure, root, true);
    f->structure = arena_dup(&f->arena, buf_span(&structure));
    f->envelope = arena_dup(&f->arena, mime_envelope(s->structure.mime));
    s->b->cache_put(s->ctx, row->content, f->envelope, f->structure);
    buf_free(&structure);
    f->cached = true;
    return true;
}

static void put_body_structure(struct imap *s, const struct imap_row *row)
{
    const struct mime_part *root = open_content(s, row) ? structure_of(s, row->content, s->fetch->content) : NULL;
    if (root)
        mime_put_structure(&s->out, root, false);
    else
        put_missing(s);
}

static void put_section(struct imap *s, const struct imap_row *row, const struct item *i)
{
    struct fetch *f = s->fetch;
    struct section_bytes bytes;
    buf_add(&s->out, i->label);
    imap_text(s, " ");
    if (section_find(s, &i->section, row->content, &f->content, &f->made, &bytes) != IMAP_DONE) {
        put_missing(s);
        return;
    }
    if (bytes.missing) {
        imap_text(s, "NIL");
        return;
    }
    nstring_put_literal_head(&s->out, bytes.made.p ? bytes.made.n : bytes.left);
    if (bytes.made.p) {
        nstring_put_literal_bytes(&s->out, bytes.made);
    } else {
        f->from = bytes.from;
        f->left = bytes.left;
    }
}

static void put_cached(struct imap *s, const struct imap_row *row, const char *name, bool envelope)
{
    imap_text(s, name);
    if (find_cached(s, row))
        buf_add(&s->out, envelope ? s->fetch->envelope : s->fetch->structure);
    else
        put_missing(s);
}

static void put_item(struct imap *s, const struct imap_row *row, const struct item *i)
{
    switch (i->kind) {
    case ITEM_UID:
        imap_text(s, "UID ");
        imap_number(s, row->uid);
        break;
    case ITEM_FLAGS:
        imap_text(s, "FLAGS ");
        view_put_flags(s, row);
        break;
    case ITEM_INTERNALDATE:
        imap_text(s, "INTERNALDATE \"");
        date_put_imap(&s->out, row->date_ms / 1000, 0);
        imap_text(s, "\"");
        break;
    case ITEM_SIZE:
        imap_text(s, "RFC822.SIZE ");
        imap_number(s, row->size);
        break;
    case ITEM_ENVELOPE: put_cached(s, row, "ENVELOPE ", true); break;
    case ITEM_BODYSTRUCTURE: put_cached(s, row, "BODYSTRUCTURE ", false); break;
    case ITEM_BODY:
        imap_text(s, "BODY ");
        put_body_structure(s, row);
        break;
    case ITEM_SECTION: put_section(s, row, i); break;
    }
}

/* ---- going through the messages ---- */

/* RFC3501:6.4.5: what is sent without PEEK is \Seen. */
static void set_seen(struct imap *s)
{
    struct fetch *f = s->fetch;
    uint32_t uids[CHUNK_BODIES];
    size_t n = 0;
    for (size_t i = 0; i < f->rows.n; i++) {
        f->seen_now[i] = !(f->rows.v[i].flags & IMAP_SEEN);
        if (f->seen_now[i])
            uids[n++] = f->rows.v[i].uid;
    }
    if (!n)
        return;
    s->view.own = true;
    int r = s->b->set_flags(s->ctx, s->view.mailbox, uids, n, IMAP_FLAGS_ADD, IMAP_SEEN, 0, &s->err);
    s->view.own = false;
    for (size_t i = 0; i < f->rows.n; i++) {
        f->seen_now[i] = f->seen_now[i] && r == IMAP_DONE;
        if (f->seen_now[i])
            f->rows.v[i].flags |= IMAP_SEEN;
    }
}

/* The rows of the next positions. False: there are no more. */
static bool load_chunk(struct imap *s)
{
    struct fetch *f = s->fetch;
    f->rows.n = f->row = 0;
    if (f->range == f->positions.n)
        return false;
    struct set_range r = f->positions.v[f->range];
    uint32_t most = f->contents ? CHUNK_BODIES : CHUNK_LIGHT;
    uint32_t lo = r.lo + f->taken, hi = MIN_OF(r.hi, lo + most - 1);
    f->taken += hi - lo + 1;
    if (hi == r.hi) {
        f->range++;
        f->taken = 0;
    }
    if (view_rows(s, lo, hi, &f->rows) != IMAP_DONE)
        f->rows.n = 0;
    f->missing |= f->rows.n < hi - lo + 1;
    memset(f->seen_now, 0, sizeof f->seen_now);
    if (f->sees && !s->view.read_only)
        set_seen(s);
    return true;
}

static void begin_message(struct imap *s, const struct imap_row *row)
{
    view_know_keywords(s, row->keywords);
    imap_text(s, "* ");
    imap_number(s, set_lower(s->view.uids, s->view.n, row->uid) + 1);
    imap_text(s, " FETCH (");
    s->fetch->open = true;
}

static void end_message(struct imap *s, const struct imap_row *row)
{
    struct fetch *f = s->fetch;
    if (f->seen_now[f->row] && !wants(f, ITEM_FLAGS)) {
        imap_text(s, " FLAGS ");
        view_put_flags(s, row);
    }
    imap_text(s, ")\r\n");
    if (f->content) {
        f->cost += row->size;
        s->b->close(s->ctx, &f->content);
    }
    arena_reset(&f->arena);
    f->open = f->cached = false;
    f->item = 0;
    f->row++;
}

/* Some more of the literal. What can't be read any more is sent as blanks: its length has been promised. */
static void send_piece(struct imap *s)
{
    struct fetch *f = s->fetch;
    size_t n = (size_t)MIN_OF(f->left, (uint64_t)PIECE);
    struct span all = s->b->bytes(f->content);
    if (all.p) {
        nstring_put_literal_bytes(&s->out, span_sub(all, (size_t)f->from, n));
    } else {
        char piece[PIECE];
        ptrdiff_t got = s->b->read(f->content, f->from, piece, n, &s->err);
        size_t have = got > 0 ? (size_t)got : 0;
        if (have < n)
            memset(piece + have, ' ', n - have);
        f->missing |= have < n;
        nstring_put_literal_bytes(&s->out, span_make(piece, n));
    }
    f->from += n;
    f->left -= n;
}

static bool fetch_work(struct imap *s)
{
    struct fetch *f = s->fetch;
    for (f->cost = 0; s->out.n < IMAP_OUT_HIGH && f->cost < STEP_COST;) {
        if (f->left) {
            send_piece(s);
            continue;
        }
        if (f->row == f->rows.n) {
            if (load_chunk(s))
                continue;
            if (f->missing && !s->uid) /* RFC5530:3 */
                imap_no(s, "[EXPUNGEISSUED] Some of these messages are gone");
            else
                imap_ok(s, f->done);
            return true;
        }
        const struct imap_row *row = &f->rows.v[f->row];
        if (!f->open)
            begin_message(s, row);
        if (f->item == f->items_n) {
            end_message(s, row);
            continue;
        }
        if (f->item)
            imap_text(s, " ");
        put_item(s, row, &f->items[f->item++]);
    }
    return false;
}

static struct fetch *new_fetch(struct imap *s)
{
    struct fetch *f = s->fetch = mem_alloc(sizeof *f);
    f->items = arena_alloc(&s->arena, (ITEMS_MAX + 1) * sizeof *f->items);
    f->done = "Fetched";
    return f;
}

void cmd_fetch(struct imap *s, struct lex *x)
{
    struct set positions;
    if (!imap_take_set(s, x, &positions))
        return;
    struct fetch *f = new_fetch(s);
    f->positions = positions;
    if (!take_items(x, f)) {
        imap_bad(s, "FETCH of what?");
        return;
    }
    if (s->uid && !wants(f, ITEM_UID)) /* RFC3501:6.4.8 */
        f->items[f->items_n++].kind = ITEM_UID;
    s->work = fetch_work;
}

void fetch_start_flags(struct imap *s, const struct set *positions)
{
    struct fetch *f = new_fetch(s);
    f->positions = *positions;
    f->done = "Stored";
    if (s->uid)
        add_item(f, ITEM_UID);
    add_item(f, ITEM_FLAGS);
    s->work = fetch_work;
}
