/* The writer of a message's content. A stray CR or LF becomes a blank: no line that the sender did not write comes into being, so neither
 * header nor body changes its shape, and no reader can find an end where there is none. */
#include "smtp/client_content.h"

void client_content_begin(struct client_content *c)
{
    c->line_start = true;
    c->cr = false;
}

static void put_piece(struct client_content *c, struct span piece, struct buf *out)
{
    if (piece.n == 0)
        return;
    if (c->line_start && piece.p[0] == '.')
        buf_addc(out, '.');
    buf_add(out, piece);
    c->line_start = false;
}

static void put_stray(struct client_content *c, struct buf *out)
{
    buf_addc(out, ' ');
    c->line_start = false;
}

static void put_line_end(struct client_content *c, struct buf *out)
{
    buf_add(out, SPAN("\r\n"));
    c->line_start = true;
}

/* The first `c` at or after `at`, or the end; *known is where the last search stood, so that no byte is searched twice. */
static size_t next_of(struct span s, size_t at, char c, size_t *known)
{
    if (*known == SIZE_MAX || *known < at) {
        ptrdiff_t i = span_find(span_from(s, at), c);
        *known = i < 0 ? s.n : at + (size_t)i;
    }
    return *known;
}

void client_content_put(struct client_content *c, struct span chunk, struct buf *out)
{
    size_t at = 0, next_cr = SIZE_MAX, next_lf = SIZE_MAX;
    while (at < chunk.n) {
        if (c->cr) {
            c->cr = false;
            if (chunk.p[at] == '\n') {
                put_line_end(c, out);
                at++;
                continue;
            }
            put_stray(c, out);
        }
        size_t cr = next_of(chunk, at, '\r', &next_cr), lf = next_of(chunk, at, '\n', &next_lf);
        size_t end = cr < lf ? cr : lf;
        put_piece(c, span_sub(chunk, at, end - at), out);
        if (end == chunk.n)
            return;
        if (end == cr)
            c->cr = true;
        else
            put_stray(c, out);
        at = end + 1;
    }
}

void client_content_end(struct client_content *c, struct buf *out)
{
    if (c->cr)
        put_stray(c, out);
    c->cr = false;
    if (!c->line_start)
        put_line_end(c, out);
    buf_add(out, SPAN(".\r\n"));
}
