/* See content.h. Contents may hold any octets; only line ends and dots at their beginning mean something. */
#include "pop3/content.h"

void pop3_stuffer_init(struct pop3_stuffer *s, uint64_t body_lines)
{
    *s = (struct pop3_stuffer){.body_lines = body_lines, .empty = true};
}

/* The end of a line is out: true while more is wanted. */
static bool line_done(struct pop3_stuffer *s)
{
    bool was_empty = s->empty;
    s->in_line = false;
    s->empty = true;
    if (s->body_lines == UINT64_MAX)
        return true;
    if (s->body)
        s->body_lines--;
    else if (was_empty)
        s->body = true;
    return !s->body || s->body_lines > 0;
}

static void put_part(struct pop3_stuffer *s, struct span part, struct buf *out)
{
    if (part.n == 0)
        return;
    if (!s->in_line && part.p[0] == '.')
        buf_addc(out, '.');
    s->in_line = true;
    if (s->empty && !(part.n == 1 && part.p[0] == '\r' && !s->after_cr))
        s->empty = false;
    s->after_cr = part.p[part.n - 1] == '\r';
    buf_add(out, part);
}

bool pop3_stuff(struct pop3_stuffer *s, struct span bytes, struct buf *out)
{
    while (bytes.n) {
        ptrdiff_t end = span_find(bytes, '\n');
        if (end < 0) {
            put_part(s, bytes, out);
            return true;
        }
        put_part(s, span_sub(bytes, 0, (size_t)end), out);
        buf_adds(out, s->after_cr ? "\n" : "\r\n");
        s->after_cr = false;
        bytes = span_from(bytes, (size_t)end + 1);
        if (!line_done(s))
            return false;
    }
    return true;
}

void pop3_stuff_end(struct pop3_stuffer *s, struct buf *out)
{
    if (s->in_line)
        buf_adds(out, s->after_cr ? "\n" : "\r\n");
    buf_adds(out, ".\r\n");
}
