/* Text of messages for SEARCH: fields with their encoded words decoded, bodies with transfer encoding and charset
 * undone, case folded (RFC 3501 §6.4.4: substrings, without case). A body goes through in pieces; between two of them
 * the end of the first is kept, so that nothing is missed. What a message keeps in its attachments isn't text and isn't
 * looked at. */
#include "imap/search.h"

#include "mail/header.h"
#include "mail/words.h"

#define PIECE 32768
#define SPARE 4 /* the longest UTF-8 sequence may be cut at a piece's end */

struct span search_get_header(struct search_message *m)
{
    struct imap *s = m->s;
    if (!m->have_header) {
        buf_clear(m->header);
        int r = s->b->header(s->ctx, m->row->content, HEADER_MAX, m->header, &s->err);
        if (r != IMAP_DONE && r != IMAP_NO_SUCH)
            m->failed = true;
        m->have_header = true;
        m->cost += m->header->n;
    }
    return buf_span(m->header);
}

static bool contains(struct span text, struct span folded)
{
    return !folded.n || memmem(text.p, text.n, folded.p, folded.n) != NULL;
}

static bool value_contains(struct span value, struct span folded, struct buf *decoded, struct buf *text)
{
    if (!folded.n)
        return true;
    buf_clear(decoded);
    buf_clear(text);
    words_decode(value, decoded);
    words_fold(buf_span(decoded), text);
    return contains(buf_span(text), folded);
}

/* name.p NULL: every field, its name too. */
static bool header_contains(struct span header, struct span name, struct span folded)
{
    struct header_field f;
    struct buf decoded = {0}, text = {0};
    bool found = false;
    while (!found && header_next(&header, &f)) {
        if (!name.p) {
            struct span whole = f.raw; /* as one text: "subject: hello" can be looked for */
            found = value_contains(whole, folded, &decoded, &text);
        } else if (span_ieq(f.name, name)) {
            found = value_contains(f.value, folded, &decoded, &text);
        }
    }
    buf_free(&decoded);
    buf_free(&text);
    return found;
}

bool search_header(struct search_message *m, struct span name, struct span folded)
{
    return header_contains(search_get_header(m), name, folded);
}

/* ---- bodies ---- */

struct body {
    struct search_message *m;
    struct span folded;
    struct buf decoded, utf8, text;
};

/* The bytes of a content from `at`, at most n; in memory, or read into `piece`. n 0: none. */
static struct span bytes_at(struct search_message *m, uint64_t at, size_t n, char *piece)
{
    struct imap *s = m->s;
    struct span all = s->b->bytes(m->content);
    m->cost += n;
    if (all.p)
        return span_sub(all, (size_t)at, n);
    ptrdiff_t got = s->b->read(m->content, at, piece, n, &s->err);
    m->failed |= got < 0;
    return span_make(piece, got > 0 ? (size_t)got : 0);
}

/* Length of the text that ends with a whole character: best with a line, where charsets with states are in their first.
 */
static size_t whole_characters(struct span s)
{
    ptrdiff_t line = span_rfind(s, '\n');
    size_t n = s.n;
    if (line >= 0)
        return (size_t)line + 1;
    for (size_t back = 1; back <= SPARE && back <= s.n; back++) {
        unsigned char c = (unsigned char)s.p[s.n - back];
        if ((c & 0xc0) == 0x80)
            continue;
        size_t want = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
        return want > back ? s.n - back : n;
    }
    return n;
}

/* What was decoded so far becomes text and is looked at; the end of it stays for the next piece. */
static bool look_at(struct body *b, struct span charset, bool last)
{
    struct span bytes = buf_span(&b->decoded);
    if (!last)
        bytes.n = whole_characters(bytes);
    buf_clear(&b->utf8);
    charset_to_utf8(charset, bytes, &b->utf8);
    words_fold(buf_span(&b->utf8), &b->text);
    buf_drop(&b->decoded, bytes.n);
    bool found = contains(buf_span(&b->text), b->folded);
    if (b->text.n >= b->folded.n)
        buf_drop(&b->text, b->text.n - (b->folded.n ? b->folded.n - 1 : 0));
    return found;
}

static bool text_contains(struct body *b, const struct mime_part *p)
{
    struct transfer_state st = {0};
    enum transfer t = transfer_of(p->encoding);
    struct span charset = mime_param_value(p->params, "charset");
    char piece[PIECE];
    buf_clear(&b->decoded);
    buf_clear(&b->text);
    for (uint64_t at = p->body; at < p->end;) {
        struct span got = bytes_at(b->m, at, (size_t)MIN_OF(p->end - at, (uint64_t)PIECE), piece);
        if (!got.n)
            break;
        at += got.n;
        transfer_decode(t, &st, got, at == p->end, &b->decoded);
        if (look_at(b, charset, at == p->end))
            return true;
    }
    return false;
}

/* Header of a part or of a message inside: they belong to the body of the message around them. */
static bool part_header_contains(struct body *b, const struct mime_part *p)
{
    char piece[PIECE];
    struct span header = bytes_at(b->m, p->header, (size_t)MIN_OF(p->body - p->header, (uint64_t)PIECE), piece);
    return header_contains(header, SPAN_NONE, b->folded);
}

static bool part_contains(struct body *b, const struct mime_part *p)
{
    if (p->parent && part_header_contains(b, p))
        return true;
    for (const struct mime_part *c = p->children; c; c = c->next)
        if (part_contains(b, c))
            return true;
    bool text = !p->children && (span_ieqs(p->type, "text") || (span_ieqs(p->type, "multipart") && !p->leaf_by_limit));
    return text && text_contains(b, p);
}

bool search_text(struct search_message *m, struct span folded, bool with_header)
{
    struct imap *s = m->s;
    if (with_header && header_contains(search_get_header(m), SPAN_NONE, folded))
        return true;
    if (!m->content && s->b->open(s->ctx, m->row->content, &m->content, &s->err) != IMAP_DONE)
        return false;
    const struct mime_part *root = structure_of(s, m->row->content, m->content);
    if (!root) {
        m->failed = true;
        return false;
    }
    struct body b = {.m = m, .folded = folded};
    bool found = part_contains(&b, root);
    buf_free(&b.decoded);
    buf_free(&b.utf8);
    buf_free(&b.text);
    return found;
}
