#include <criterion/criterion.h>

#include "pop3/content.h"

static void stuffed(struct span in, size_t piece, uint64_t lines, struct buf *out)
{
    struct pop3_stuffer s;
    bool more = true;
    pop3_stuffer_init(&s, lines);
    for (size_t at = 0; more && at < in.n; at += piece)
        more = pop3_stuff(&s, span_sub(in, at, piece), out);
    pop3_stuff_end(&s, out);
}

/* The same whatever the pieces. */
static void check(struct span in, uint64_t lines, struct span expect)
{
    for (size_t piece = 1; piece <= in.n + 1; piece++) {
        struct buf out = {0};
        stuffed(in, piece, lines, &out);
        cr_assert(span_eq(buf_span(&out), expect), "pieces of %zu: %.*s", piece, SPANV(buf_span(&out)));
        buf_free(&out);
    }
}

#define ALL UINT64_MAX

/* RFC1939:3 */
Test(pop3_content, dots_and_line_ends)
{
    check(SPAN(""), ALL, SPAN(".\r\n"));
    check(SPAN("a\r\n"), ALL, SPAN("a\r\n.\r\n"));
    check(SPAN("a"), ALL, SPAN("a\r\n.\r\n"));
    check(SPAN("a\r"), ALL, SPAN("a\r\n.\r\n"));
    check(SPAN(".\r\n"), ALL, SPAN("..\r\n.\r\n"));
    check(SPAN("a\r\n.b\r\n..\r\nc.\r\n"), ALL, SPAN("a\r\n..b\r\n...\r\nc.\r\n.\r\n"));
    check(SPAN("a\0b\r\n\xff\r\n"), ALL, SPAN("a\0b\r\n\xff\r\n.\r\n"));
    check(SPAN("\r\n\r\n"), ALL, SPAN("\r\n\r\n.\r\n"));
    check(SPAN("."), ALL, SPAN("..\r\n.\r\n"));
}

/* HAZARDS 1, the way out: no bare LF, so no terminator for those who take one for a line end. */
Test(pop3_content, bare_line_feeds_end_lines)
{
    check(SPAN("a\n.\nb\n"), ALL, SPAN("a\r\n..\r\nb\r\n.\r\n"));
    check(SPAN("a\r\n.\nb"), ALL, SPAN("a\r\n..\r\nb\r\n.\r\n"));
    check(SPAN("a\r\r\nb\r.\r\n"), ALL, SPAN("a\r\r\nb\r.\r\n.\r\n"));
}

/* RFC1939:7 TOP: the header, the empty line, n lines of the body. */
Test(pop3_content, top)
{
    static const char m[] = "A: 1\r\nB: 2\r\n\r\none\r\n.two\r\n\r\nfour\r\n";
    struct span in = span_make(m, sizeof m - 1);
    check(in, 0, SPAN("A: 1\r\nB: 2\r\n\r\n.\r\n"));
    check(in, 1, SPAN("A: 1\r\nB: 2\r\n\r\none\r\n.\r\n"));
    check(in, 3, SPAN("A: 1\r\nB: 2\r\n\r\none\r\n..two\r\n\r\n.\r\n"));
    check(in, 99, SPAN("A: 1\r\nB: 2\r\n\r\none\r\n..two\r\n\r\nfour\r\n.\r\n"));
    check(SPAN("A: 1\r\n"), 0, SPAN("A: 1\r\n.\r\n"));
    check(SPAN("\r\nbody\r\n"), 0, SPAN("\r\n.\r\n"));
    check(SPAN("A: 1\r\n\r\r\nB: 2\r\n\r\nx\r\n"), 0, SPAN("A: 1\r\n\r\r\nB: 2\r\n\r\n.\r\n"));
    check(SPAN("A: 1\n\nx\ny\n"), 1, SPAN("A: 1\r\n\r\nx\r\n.\r\n"));
}
