/* Sections of a message: see section.h. */
#include "imap/section.h"

#include "mail/header.h"
#include "mail/nstring.h"

#define NAMES_MAX 200
#define NAME_BYTES_MAX 200

/* ---- grammar ---- */

static bool take_text(struct lex *x, const char *text)
{
    struct span t = span_of(text);
    if (!span_istarts(x->rest, t))
        return false;
    x->rest = span_from(x->rest, t.n);
    return true;
}

/* header-list = "(" header-fld-name *(SP header-fld-name) ")" */
static bool take_names(struct lex *x, struct section *q)
{
    q->names = arena_alloc(x->arena, NAMES_MAX * sizeof *q->names);
    if (!lex_sp(x) || !lex_char(x, '('))
        return false;
    do {
        if (q->names_n == NAMES_MAX || !lex_astring(x, &q->names[q->names_n]) ||
            q->names[q->names_n].n > NAME_BYTES_MAX)
            return false;
        q->names_n++;
    } while (lex_sp(x));
    return lex_char(x, ')');
}

/* section-msgtext, or "MIME" below a part */
static bool take_what(struct lex *x, struct section *q)
{
    if (take_text(x, "HEADER.FIELDS.NOT"))
        q->what = SECTION_FIELDS_NOT;
    else if (take_text(x, "HEADER.FIELDS"))
        q->what = SECTION_FIELDS;
    else if (take_text(x, "HEADER"))
        q->what = SECTION_HEADER;
    else if (take_text(x, "TEXT"))
        q->what = SECTION_TEXT;
    else if (q->depth && take_text(x, "MIME"))
        q->what = SECTION_MIME;
    else
        return false;
    return (q->what != SECTION_FIELDS && q->what != SECTION_FIELDS_NOT) || take_names(x, q);
}

/* section-part: numbers with dots, then perhaps a dot and words */
static bool take_path(struct lex *x, struct section *q)
{
    while (x->rest.n && ascii_digit(*x->rest.p)) {
        if (q->depth == SECTION_DEPTH_MAX || !lex_number(x, &q->path[q->depth]) || !q->path[q->depth])
            return false;
        q->depth++;
        if (!lex_char(x, '.'))
            return lex_char(x, ']');
    }
    if (!q->depth && lex_char(x, ']'))
        return true;
    return take_what(x, q) && lex_char(x, ']');
}

bool section_parse(struct lex *x, struct section *q)
{
    *q = (struct section){0};
    if (!lex_char(x, '[') || !take_path(x, q))
        return false;
    if (!lex_char(x, '<'))
        return true;
    q->partial = true;
    return lex_number(x, &q->from) && lex_char(x, '.') && lex_number(x, &q->count) && q->count && lex_char(x, '>');
}

void section_put(const struct section *q, struct buf *out)
{
    static const char *const words[] = {"", "HEADER", "HEADER.FIELDS", "HEADER.FIELDS.NOT", "TEXT", "MIME"};
    buf_addc(out, '[');
    for (size_t i = 0; i < q->depth; i++)
        buf_printf(out, i ? ".%u" : "%u", q->path[i]);
    if (q->depth && q->what != SECTION_ALL)
        buf_addc(out, '.');
    buf_adds(out, words[q->what]);
    for (size_t i = 0; i < q->names_n; i++) {
        buf_adds(out, i ? " " : " (");
        nstring_put_astring(out, q->names[i]);
    }
    buf_adds(out, q->names_n ? ")]" : "]");
    if (q->partial)
        buf_printf(out, "<%u>", q->from);
}

/* ---- bytes ---- */

static int need_content(struct imap *s, uint64_t content, struct imap_content **c)
{
    return *c ? IMAP_DONE : s->b->open(s->ctx, content, c, &s->err);
}

static bool named(const struct section *q, struct span name)
{
    for (size_t i = 0; i < q->names_n; i++)
        if (span_ieq(q->names[i], name))
            return true;
    return false;
}

/* The fields wanted as they stand, and an empty line (RFC3501:6.4.5). */
static void pick_fields(const struct section *q, struct span header, struct buf *out)
{
    struct header_field f;
    while (header_next(&header, &f))
        if (named(q, f.name) == (q->what == SECTION_FIELDS)) {
            buf_add(out, f.raw);
            if (!span_ends(f.raw, SPAN("\n")))
                buf_adds(out, "\r\n");
        }
    buf_adds(out, "\r\n");
}

/* Bytes from..to of the content, not more than a header may have. */
static int read_header(struct imap *s, struct imap_content *c, uint64_t from, uint64_t to, struct buf *out)
{
    size_t n = (size_t)MIN_OF(to - from, (uint64_t)HEADER_MAX);
    ptrdiff_t got = s->b->read(c, from, buf_room(out, n), n, &s->err);
    if (got < 0)
        return IMAP_FAILED;
    out->n += (size_t)got;
    return IMAP_DONE;
}

static void pick_from(const struct section *q, struct buf *header, struct buf *made, struct section_bytes *out)
{
    pick_fields(q, buf_span(header), made);
    out->made = buf_span(made);
}

/* Sections of the message itself: its structure need not be known. */
static int find_outer(struct imap *s, const struct section *q, uint64_t content, struct imap_content **c,
                      struct buf *made, struct section_bytes *out)
{
    struct buf header = {0};
    int r = IMAP_DONE;
    if (q->what == SECTION_FIELDS || q->what == SECTION_FIELDS_NOT) {
        r = s->b->header(s->ctx, content, HEADER_MAX, &header, &s->err);
        if (r == IMAP_DONE)
            pick_from(q, &header, made, out);
        buf_free(&header);
        return r;
    }
    r = need_content(s, content, c);
    if (r != IMAP_DONE)
        return r;
    uint64_t size = s->b->size(*c), header_n = s->b->header_size(*c);
    out->from = q->what == SECTION_TEXT ? header_n : 0;
    out->left = q->what == SECTION_HEADER ? header_n : size - out->from;
    return r;
}

static int find_inner(struct imap *s, const struct section *q, uint64_t content, struct imap_content **c,
                      struct buf *made, struct section_bytes *out)
{
    int r = need_content(s, content, c);
    const struct mime_part *root = r == IMAP_DONE ? structure_of(s, content, *c) : NULL;
    if (!root)
        return r == IMAP_DONE ? IMAP_FAILED : r;
    const struct mime_part *p = mime_part_at(root, q->path, q->depth);
    if (p && q->what != SECTION_ALL && q->what != SECTION_MIME) /* of a message inside alone */
        p = p->rfc822 ? p->children : NULL;
    if (!p) {
        out->missing = true;
        return IMAP_DONE;
    }
    bool head = q->what == SECTION_HEADER || q->what == SECTION_MIME;
    out->from = head ? p->header : p->body;
    out->left = head ? p->body - p->header : p->end - p->body;
    if (q->what != SECTION_FIELDS && q->what != SECTION_FIELDS_NOT)
        return IMAP_DONE;
    struct buf header = {0};
    r = read_header(s, *c, p->header, p->body, &header);
    if (r == IMAP_DONE)
        pick_from(q, &header, made, out);
    buf_free(&header);
    return r;
}

static void cut(const struct section *q, uint64_t *n, uint64_t *skip)
{
    *skip = MIN_OF((uint64_t)q->from, *n);
    *n = MIN_OF((uint64_t)q->count, *n - *skip);
}

int section_find(struct imap *s, const struct section *q, uint64_t content, struct imap_content **c, struct buf *made,
                 struct section_bytes *out)
{
    *out = (struct section_bytes){0};
    buf_clear(made);
    int r = q->depth ? find_inner(s, q, content, c, made, out) : find_outer(s, q, content, c, made, out);
    if (r != IMAP_DONE || !q->partial || out->missing)
        return r;
    uint64_t n = out->made.p ? out->made.n : out->left, skip;
    cut(q, &n, &skip);
    if (out->made.p)
        out->made = span_sub(out->made, (size_t)skip, (size_t)n);
    out->from += skip;
    out->left = n;
    return r;
}
