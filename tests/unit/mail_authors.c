/* mail/authors: everybody that a header names as its author, however it is written (RFC5322:3.6.2, RFC6409:6.1). */
#include <criterion/criterion.h>

#include "base/buf.h"
#include "mail/authors.h"

/* What is found, with blanks between; or "! " and the reason. */
static void expect(const char *header, const char *want)
{
    struct arena a = {0};
    static struct author list[AUTHORS_MAX];
    struct buf got = {0};
    size_t n;
    const char *why = authors_read(span_of(header), &a, list, &n);
    if (why)
        buf_printf(&got, "! %s", why);
    for (size_t i = 0; !why && i < n; i++)
        buf_printf(&got, "%s%c:%.*s", i ? " " : "", list[i].field[0], SPANV(list[i].address));
    cr_expect_str_eq(buf_cstr(&got), want, "%s: %s, not %s", header, buf_cstr(&got), want);
    buf_free(&got);
    arena_free(&a);
}

#define NONE "! From names no address"
#define WITHOUT "! From names somebody without an address"

Test(authors, fields_as_they_should_be)
{
    expect("Subject: x\r\nTo: x@y\r\n", "");
    expect("From: a@b.test\r\n", "F:a@b.test");
    expect("from : Alice <A@b.test>\r\nSubject: x\r\n", "F:A@b.test");
    expect("From: \"Alice, the @ one <x@y>\" <a@b.test> (c@d)\r\n", "F:a@b.test");
    expect("From: =?utf-8?q?J=C3=B6rg?= <a@b.test>\r\n", "F:a@b.test");
    expect("From:\r\n Alice\r\n\t<a@b.test>\r\n", "F:a@b.test");
    expect("From: a@b.test, B <c@d.test>\r\nSender: c@d.test\r\n", "F:a@b.test F:c@d.test S:c@d.test");
    expect("From: us: a@b.test, c@d.test;\r\n", "F:a@b.test F:c@d.test");
    expect("From: \"two words\"@b.test\r\n", "F:\"two words\"@b.test");
    expect("From: \xc3\xb6@b\xc3\xbc.test\r\n", "F:\xc3\xb6@b\xc3\xbc.test");
    expect("From: a@b.test <A@B.test>\r\n", "F:A@B.test");
    expect("From: a @ b . test\r\n", "F:a@b.test");
    expect("From: a(x)@b.test\r\n", "F:a@b.test");
    expect("From: <@relay.test:a@b.test>\r\n", "F:a@b.test");
}

Test(authors, fields_that_readers_differ_on)
{
    expect("From: a@b.test\r\nFROM: c@d.test\r\n", "! The message has more than one From field");
    expect("From: a@b.test\r\nSender: a@b.test\r\nSender: a@b.test\r\n", "! The message has more than one Sender field");
    expect("From: \r\n", NONE);
    expect("From: us:;\r\n", NONE);
    expect("From: Alice\r\n", WITHOUT);
    expect("From: <>\r\n", WITHOUT);
    expect("From: a@b.test, Bob\r\n", WITHOUT);
    expect("From: a@b.test\r\nSender: x\r\n", "! Sender names somebody without an address");
    /* whichever of them is shown: all are authors */
    expect("From: <a@b.test> <v@bank.test>\r\n", "F:a@b.test F:v@bank.test");
    expect("From: v@bank.test <a@b.test>\r\n", "F:a@b.test F:v@bank.test");
    expect("From: a@b.test v@bank.test\r\n", "F:a@b.testv F:a@b.test F:v@bank.test");
    expect("From: us: a@b.test; v@bank.test\r\n", "F:a@b.test F:v@bank.test");
    expect("From: <a@b.test>v@bank.test\r\n", "F:a@b.test F:v@bank.test");
    expect("From: (a@b.test) v@bank.test\r\n", "F:v@bank.test");
}

Test(authors, many)
{
    struct arena a = {0};
    static struct author list[AUTHORS_MAX];
    struct buf h = {0};
    size_t n;
    buf_adds(&h, "From: x@y");
    for (int i = 0; i < AUTHORS_MAX - 1; i++)
        buf_printf(&h, ", a%d@b.test", i);
    cr_expect_null(authors_read(buf_span(&h), &a, list, &n));
    cr_expect_eq(n, AUTHORS_MAX);
    buf_adds(&h, ", one@more");
    cr_expect_not_null(authors_read(buf_span(&h), &a, list, &n));
    buf_free(&h);
    arena_free(&a);
}
