/* Header sections: see header.h. One pass each, no limit is met by time growing faster than the input. */
#include "mail/header.h"

#include "base/util.h"

/* Takes one line with its end. */
static struct span take_line(struct span *s)
{
    const char *lf = s->n ? memchr(s->p, '\n', s->n) : NULL;
    size_t n = lf ? (size_t)(lf - s->p) + 1 : s->n;
    struct span line = span_sub(*s, 0, n);
    *s = span_from(*s, n);
    return line;
}

static struct span without_end(struct span line)
{
    if (line.n && line.p[line.n - 1] == '\n')
        line.n--;
    if (line.n && line.p[line.n - 1] == '\r')
        line.n--;
    return line;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

bool header_next(struct span *rest, struct header_field *f)
{
    if (!rest->n)
        return false;
    struct span start = *rest;
    struct span line = without_end(take_line(rest));
    if (!line.n)
        return false;
    while (rest->n && is_blank(*rest->p))
        take_line(rest);
    f->raw = span_sub(start, 0, start.n - rest->n);
    struct span whole = without_end(f->raw);
    ptrdiff_t colon = span_find(line, ':');
    f->name = colon < 0 ? span_sub(whole, 0, 0) : span_sub(whole, 0, (size_t)colon);
    f->value = colon < 0 ? whole : span_from(whole, (size_t)colon + 1);
    while (f->name.n && is_blank(f->name.p[f->name.n - 1]))
        f->name.n--;
    return true;
}

size_t header_length(struct span message)
{
    struct span rest = message;
    while (rest.n)
        if (!without_end(take_line(&rest)).n)
            break;
    return message.n - rest.n;
}

bool header_find(struct span header, const char *name, struct span *value)
{
    struct header_field f;
    while (header_next(&header, &f))
        if (span_ieqs(f.name, name)) {
            *value = f.value;
            return true;
        }
    return false;
}

void header_unfold(struct span value, struct buf *out)
{
    value = span_trim(value);
    while (value.n) {
        const char *lf = memchr(value.p, '\n', value.n);
        size_t n = lf ? (size_t)(lf - value.p) : value.n;
        struct span piece = span_sub(value, 0, n);
        if (lf && piece.n && piece.p[piece.n - 1] == '\r')
            piece.n--;
        buf_add(out, piece);
        value = span_from(value, n + (lf != NULL));
    }
}

/* ---- structured fields ---- */

/* A comment at the front, nested ones included: returns its length with both parentheses; an unended one reaches to the
 * end. */
static size_t comment_length(struct span s)
{
    size_t i = 0;
    unsigned depth = 0;
    while (i < s.n) {
        char c = s.p[i++];
        if (c == '\\' && i < s.n)
            i++;
        else if (c == '(')
            depth++;
        else if (c == ')' && --depth == 0)
            break;
    }
    return i;
}

static bool is_fws(char c)
{
    return is_blank(c) || c == '\r' || c == '\n';
}

void header_skip_cfws(struct span *s)
{
    while (s->n) {
        if (is_fws(*s->p))
            *s = span_from(*s, 1);
        else if (*s->p == '(')
            *s = span_from(*s, comment_length(*s));
        else
            return;
    }
}
