/* MIME structure in one pass: see mime.h. The input is cut into lines; of a line only its first bytes matter. Each line
 * that begins with "--" is compared with the boundaries that are open, at most MIME_DEPTH_MAX, so the time is linear.
 * RFC 2046 §5.1. */
#include "mail/mime.h"

#include "base/mem.h"
#include "mail/mime_priv.h"

/* Lines in the body of a part are counted as all lines so far, less those before it: kept in `lines` until the part
 * ends. */

static struct mime_part *open_part(struct mime *m, struct mime_part *parent)
{
    struct mime_part *p = arena_alloc(&m->arena, sizeof *p);
    p->parent = parent;
    p->header = p->body = p->end = m->pos;
    if (!parent)
        m->root = p;
    else if (parent->last_child)
        parent->last_child->next = p;
    else
        parent->children = p;
    if (parent)
        parent->last_child = p;
    m->cur = p;
    m->in_header = true;
    m->parts++;
    m->depth = 0;
    for (struct mime_part *up = parent; up; up = up->parent)
        m->depth++;
    buf_clear(&m->header);
    return p;
}

struct mime *mime_new(void)
{
    struct mime *m = mem_alloc(sizeof *m);
    open_part(m, NULL);
    return m;
}

void mime_free(struct mime **m)
{
    if (!*m)
        return;
    arena_free(&(*m)->arena);
    buf_free(&(*m)->header);
    buf_free(&(*m)->envelope);
    buf_free(&(*m)->hold);
    mem_free(m);
}

void mime_reset(struct mime *m)
{
    arena_reset(&m->arena);
    buf_clear(&m->header);
    buf_clear(&m->envelope);
    buf_clear(&m->hold);
    struct mime fresh = {.arena = m->arena, .header = m->header, .envelope = m->envelope, .hold = m->hold};
    *m = fresh;
    open_part(m, NULL);
}

/* RFC2046:5.1.1: a multipart can't be read without its boundary. */
static struct span boundary_of(const struct mime_part *p)
{
    struct span b = mime_param_value(p->params, "boundary");
    return b.n <= MIME_BOUNDARY_MAX ? b : SPAN_NONE;
}

static void keep_envelope(struct mime *m, struct mime_part *p)
{
    struct buf out = {0};
    if (!p->parent) {
        mime_put_envelope(&m->envelope, buf_span(&m->header));
    } else if (p->parent->rfc822) {
        mime_put_envelope(&out, buf_span(&m->header));
        if (m->arena.total + out.n <= MIME_KEEP_MAX)
            p->envelope = arena_dup(&m->arena, buf_span(&out));
        buf_free(&out);
    }
}

/* The header of cur is complete; its body begins at `body`. */
static void header_done(struct mime *m, uint64_t body)
{
    struct mime_part *p = m->cur;
    p->body = p->end = body;
    p->lines = m->line_ends;
    m->in_header = false;
    mime_read_fields(m, p, buf_span(&m->header));
    keep_envelope(m, p);
    bool deep = m->depth >= MIME_DEPTH_MAX || m->parts >= MIME_PARTS_MAX;
    if (span_ieqs(p->type, "multipart")) {
        p->multipart = !deep && boundary_of(p).n;
        p->leaf_by_limit = deep;
    } else if (span_ieqs(p->type, "message") && span_ieqs(p->subtype, "rfc822")) {
        p->rfc822 = !deep;
        p->leaf_by_limit = deep;
    }
}

/* IMAP can't show a multipart without parts (RFC3501:9 body-type-mpart). */
static void add_empty_child(struct mime *m, struct mime_part *p)
{
    struct mime_part *c = arena_alloc(&m->arena, sizeof *c);
    c->parent = p;
    c->header = c->body = c->end = p->end;
    mime_read_fields(m, c, SPAN(""));
    p->children = p->last_child = c;
}

/* Ends the open parts below `until` (NULL: all). line: where the line begins that ended them; the line end before it is
 * its own. */
static void end_parts(struct mime *m, struct mime_part *until, uint64_t line, unsigned end_n)
{
    while (m->in_header) {
        header_done(m, line);
        if (m->cur->rfc822)
            open_part(m, m->cur);
    }
    while (m->cur != until) {
        struct mime_part *p = m->cur;
        uint64_t least =
            p->last_child ? p->last_child->end : p->body; /* an empty part may have taken that line end already */
        bool spared = line >= least + end_n;
        p->end = spared ? line - end_n : MAX_OF(least, line);
        p->lines = m->line_ends - p->lines - (spared && end_n > 0);
        if (p->multipart && !p->children)
            add_empty_child(m, p);
        m->cur = p->parent;
    }
}

/* RFC2046:5.1.1: "--" boundary ["--"] and nothing but blanks behind. 0 no, 1 a delimiter, 2 the closing one. */
static int match_boundary(struct span line, struct span boundary)
{
    line = span_from(line, 2);
    if (!boundary.n || !span_starts(line, boundary))
        return 0;
    line = span_from(line, boundary.n);
    if (!span_trim(line).n)
        return 1;
    return span_starts(line, SPAN("--")) && !span_trim(span_from(line, 2)).n ? 2 : 0;
}

/* A line that begins with "--": true when it was a delimiter of an open multipart; the innermost one counts. */
static bool try_delimiter(struct mime *m, struct span line, uint64_t after)
{
    for (struct mime_part *p = m->in_header ? m->cur->parent : m->cur; p; p = p->parent) {
        int kind = p->multipart && !p->closed ? match_boundary(line, boundary_of(p)) : 0;
        if (!kind)
            continue;
        end_parts(m, p, m->pos, m->last_end);
        m->pos = after;
        if (kind == 2)
            p->closed = true;
        else if (m->parts < MIME_PARTS_MAX)
            open_part(m, p);
        return true;
    }
    return false;
}

static void header_line(struct mime *m, struct span line, unsigned end_n)
{
    if (line.n) {
        size_t room = HEADER_MAX - MIN_OF(m->header.n, HEADER_MAX);
        buf_add(&m->header, span_sub(line, 0, room));
        if (room > line.n + 2 && end_n)
            buf_adds(&m->header, "\r\n");
        return;
    }
    header_done(m, m->pos);
    if (m->cur->rfc822)
        open_part(m, m->cur);
}

/* A line of `n` bytes with its end of `end_n`, of which `line` (without the end) is the beginning or all. */
static void take_line(struct mime *m, struct span line, uint64_t n, unsigned end_n)
{
    uint64_t after = m->pos + n;
    bool delimiter =
        line.n > 2 && line.p[0] == '-' && line.p[1] == '-' && n <= MIME_HOLD && try_delimiter(m, line, after);
    m->line_ends += end_n > 0;
    m->pos = after;
    if (!delimiter && m->in_header)
        header_line(m, line, end_n);
    m->last_end = end_n;
}

static void hold(struct mime *m, struct span piece)
{
    size_t most = m->in_header ? HEADER_MAX : MIME_HOLD;
    buf_add(&m->hold, span_sub(piece, 0, most - MIN_OF(m->hold.n, most)));
    m->line_n += piece.n;
    if (piece.n)
        m->cr = piece.p[piece.n - 1] == '\r';
}

/* The line that came in pieces is complete. */
static void take_held(struct mime *m, unsigned end_n)
{
    uint64_t n = m->line_n;
    struct span line = span_sub(buf_span(&m->hold), 0, (size_t)MIN_OF(n - end_n, (uint64_t)m->hold.n));
    m->line_n = 0;
    m->cr = false;
    take_line(m, line, n, end_n);
    buf_clear(&m->hold);
}

void mime_feed(struct mime *m, struct span piece)
{
    while (piece.n) {
        const char *lf = memchr(piece.p, '\n', piece.n);
        if (!lf) {
            hold(m, piece);
            return;
        }
        size_t n = (size_t)(lf - piece.p) + 1;
        if (m->line_n) {
            hold(m, span_sub(piece, 0, n - 1));
            m->line_n++;
            take_held(m, m->cr ? 2 : 1);
        } else {
            unsigned end_n = n > 1 && lf[-1] == '\r' ? 2 : 1;
            take_line(m, span_sub(piece, 0, n - end_n), n, end_n);
        }
        piece = span_from(piece, n);
    }
}

const struct mime_part *mime_end(struct mime *m)
{
    if (m->line_n)
        take_held(m, 0);
    end_parts(m, NULL, m->pos, 0);
    return m->root;
}

struct span mime_envelope(const struct mime *m)
{
    return buf_span(&m->envelope);
}

/* ---- looking things up ---- */

struct span mime_param_value(const struct mime_param *params, const char *name)
{
    for (; params; params = params->next)
        if (span_ieqs(params->name, name))
            return params->value;
    return SPAN_NONE;
}

static const struct mime_part *nth_child(const struct mime_part *p, uint32_t n)
{
    const struct mime_part *c = p->children;
    while (c && --n)
        c = c->next;
    return c;
}

/* RFC3501:6.4.5: a message that isn't multipart has one part, 1, itself; the numbers under a message/rfc822 part are
 * those of the message inside. */
const struct mime_part *mime_part_at(const struct mime_part *root, const uint32_t *path, size_t depth)
{
    const struct mime_part *within = root, *part = NULL;
    bool message = true; /* `within` is a whole message, not just a part */
    for (size_t i = 0; i < depth; i++) {
        if (part && part->rfc822) {
            within = part->children;
            message = true;
        } else if (part) {
            within = part;
            message = false;
        }
        if (within->multipart)
            part = path[i] ? nth_child(within, path[i]) : NULL;
        else
            part = message && path[i] == 1 ? within : NULL;
        if (!part)
            return NULL;
    }
    return part;
}
