/* mail/recipients: whom a header names, and addresses that lack a domain. */
#include <criterion/criterion.h>

#include "mail/recipients.h"

static void expect(const char *header, const char *want)
{
    struct recipients r = {0};
    struct buf wrong = {0}, got = {0};
    bool good = recipients_add_header(&r, span_of(header), SPAN("here.test"), &wrong);
    recipients_unique(&r);
    for (size_t i = 0; i < r.n; i++)
        buf_printf(&got, "%s%.*s", i ? " " : "", SPANV(r.list[i]));
    cr_expect_str_eq(good ? buf_cstr(&got) : "wrong", want, "%s: %s (%s)", header, buf_cstr(&got), buf_cstr(&wrong));
    recipients_free(&r);
    buf_free(&got);
    buf_free(&wrong);
}

Test(recipients, header)
{
    expect("To: a@x.test, \"B, b\" <b@x.test>\r\nCc: root\r\nBcc: c@x.test\r\n", "a@x.test b@x.test c@x.test root@here.test");
    expect("To: a@x.test,\r\n b@x.test\r\nTO: a@x.test\r\n", "a@x.test b@x.test");
    expect("To: friends: a@x.test, b;, c@x.test\r\nBcc: undisclosed:;\r\n", "a@x.test b@here.test c@x.test");
    expect("To: =?utf-8?Q?J=C3=BCrgen?= <j@x.test> (a, b)\r\n", "j@x.test");
    expect("To: \"odd one\"@x.test\r\n", "\"odd one\"@x.test");
    expect("Subject: To: z@x.test\r\n", "");
    expect("To: a@x.test, @\r\n", "wrong");
}

Test(recipients, resent) /* RFC5322:3.6.6 */
{
    expect("Resent-From: me@x.test\r\nResent-To: n@x.test\r\nReceived: x\r\nResent-To: old@x.test\r\nTo: a@x.test\r\n", "n@x.test");
    expect("Resent-Bcc: n@x.test\r\nResent-To: m@x.test\r\nTo: a@x.test\r\n", "m@x.test n@x.test");
}

static void expect_qualified(const char *value, const char *want)
{
    struct buf got = {0};
    recipients_qualify(span_of(value), SPAN("h.test"), &got);
    cr_expect_str_eq(buf_cstr(&got), want, "%s: %s", value, buf_cstr(&got));
    buf_free(&got);
}

Test(recipients, qualify)
{
    expect_qualified(" root", " root@h.test");
    expect_qualified(" root , bob ", " root@h.test , bob@h.test ");
    expect_qualified(" a@x.test", " a@x.test");
    expect_qualified(" Root <root>, \"x, y\" <b@x.test>", " Root <root@h.test>, \"x, y\" <b@x.test>");
    expect_qualified(" list: a, b@x.test;, c", " list: a@h.test, b@x.test;, c@h.test");
    expect_qualified(" root (Charlie, root)", " root@h.test (Charlie, root)");
    expect_qualified(" \"odd one\"", " \"odd one\"@h.test");
    expect_qualified(" undisclosed:;", " undisclosed:;");
    expect_qualified(" <>", " <>");
    expect_qualified(" \"unclosed", " \"unclosed@h.test");
    expect_qualified("", "");
}
