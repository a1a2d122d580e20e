/* What a terminal shows of a message: text and line ends, whatever the message holds. */
#include <criterion/criterion.h>

#include "waypost/terminal.h"

static void expect(struct span message, const char *shown)
{
    struct buf out = {0};
    terminal_render(message, &out);
    cr_assert_str_eq(buf_cstr(&out), shown);
    for (size_t i = 0; i < out.n; i++)
        cr_assert(out.p[i] == '\n' || ((unsigned char)out.p[i] >= 0x20 && out.p[i] != 0x7f), "%02x at %zu", out.p[i], i);
    buf_free(&out);
}

Test(terminal, plain)
{
    expect(SPAN("Received: from x\r\nFrom: Alice <alice@example.test>\r\nSubject: hello\r\n there\r\nDate: Tue, 24 Nov 2026 "
                "10:00:00 +0000\r\n\r\nLunch?\r\n\tAt one.\r\n\r\n"),
           "From: Alice <alice@example.test>\nSubject: hello there\nDate: Tue, 24 Nov 2026 10:00:00 +0000\n\nLunch?\n At one.\n");
    expect(SPAN("no header at all"), "\n\n");
    expect(SPAN(""), "\n\n");
}

Test(terminal, utf8_stays_and_codes_do_not)
{
    expect(SPAN("Subject: =?utf-8?q?J=C3=BCrgen_=1B[31m?=\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
                "gr\xc3\xbc\xc3\x9f dich \x1b]0;title\x07\x1b[2J\x08\x9b\r\n"),
           "Subject: J\xc3\xbcrgen  [31m\n\ngr\xc3\xbc\xc3\x9f dich \\x1b]0;title\\x07\\x1b[2J\\x08\xef\xbf\xbd\n");
    expect(SPAN("Content-Type: text/plain; charset=utf-8\r\n\r\n\xc2\x9b" "31m a\rb\r\n"), "\n\\x9b31m a\\x0db\n");
}

Test(terminal, mime)
{
    expect(SPAN("From: a@b.test\r\nContent-Type: multipart/alternative; boundary=x\r\n\r\n--x\r\nContent-Type: text/html\r\n\r\n<b>\r\n"
                "--x\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
                "gr=FC=1B=DF\r\n--x--\r\n"),
           "From: a@b.test\n\ngr\xc3\xbc\\x1b\xc3\x9f\n");
    expect(SPAN("Content-Type: image/png\r\n\r\nxx"), "\n(no text that could be shown)\n");
}

Test(terminal, bounded)
{
    struct buf message = {0}, out = {0};
    buf_adds(&message, "Subject: ");
    for (int i = 0; i < 3000; i++)
        buf_adds(&message, "\xc3\xbc");
    buf_adds(&message, "\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n");
    for (int i = 0; i < 20000; i++)
        buf_adds(&message, "\xc3\xbc");
    terminal_render(buf_span(&message), &out);
    cr_assert_lt(out.n, 18000u);
    cr_assert(span_is_utf8(buf_span(&out)), "cut between characters");
    cr_assert(span_ends(buf_span(&out), SPAN("\n(more was cut off)\n")));
    buf_free(&message);
    buf_free(&out);
}
