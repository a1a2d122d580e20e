#include <criterion/criterion.h>
#include <stdio.h>

#include "smtp/trace.h"

static void expect(const struct smtp_trace *t, const char *want)
{
    struct buf out = {0};
    smtp_trace_received(&out, t);
    cr_assert(span_eqs(buf_span(&out), want), "got %.*s", SPANV(buf_span(&out)));
    buf_free(&out);
}

/* RFC5321:4.4, RFC5321:7.2 (one recipient is named), RFC3848, RFC4954:7 (ESMTPA) */
Test(smtp, received_field)
{
    struct smtp_trace t = {.helo = SPAN("client.test"),
                           .remote = SPAN("192.0.2.1"),
                           .by = SPAN("mx.example.test"),
                           .esmtp = true,
                           .seconds = 1795427048};
    expect(&t, "Received: from client.test ([192.0.2.1])\r\n\tby mx.example.test with ESMTP;\r\n\tMon, 23 Nov 2026 "
               "09:44:08 +0000\r\n");
    t.tls = SPAN("TLSv1.3 TLS_AES_256_GCM_SHA384");
    t.authenticated = true;
    t.for_ = SPAN("bob@example.test");
    t.id = SPAN("X1");
    t.remote = SPAN("2001:db8::1");
    expect(&t, "Received: from client.test ([IPv6:2001:db8::1])\r\n\tby mx.example.test with ESMTPSA (TLSv1.3 "
               "TLS_AES_256_GCM_SHA384) id X1\r\n"
               "\tfor <bob@example.test>;\r\n\tMon, 23 Nov 2026 09:44:08 +0000\r\n");
    t.authenticated = false;
    t.for_ = SPAN("\xc3\xa9@example.test");
    t.id = SPAN("");
    t.zone = 60;
    expect(&t, "Received: from client.test ([IPv6:2001:db8::1])\r\n\tby mx.example.test with ESMTPS (TLSv1.3 "
               "TLS_AES_256_GCM_SHA384);\r\n"
               "\tMon, 23 Nov 2026 10:44:08 +0100\r\n");
    static const char *const names[] = {"UTF8SMTP", "UTF8SMTPA", "UTF8SMTPS", "UTF8SMTPSA"}; /* RFC6531:4.3 */
    for (unsigned i = 0; i < 4; i++) {
        struct buf out = {0};
        struct smtp_trace u = {
            .helo = SPAN("c"), .remote = SPAN("192.0.2.1"), .by = SPAN("mx"), .esmtp = true, .smtputf8 = true};
        u.authenticated = i & 1;
        u.tls = i & 2 ? SPAN("TLSv1.3 X") : SPAN("");
        smtp_trace_received(&out, &u);
        char want[40];
        snprintf(want, sizeof want, " by mx with %s%s", names[i], i & 2 ? " (" : ";");
        want[0] = '\t';
        cr_assert(span_search(buf_span(&out), span_of(want)) > 0, "%s", buf_cstr(&out));
        buf_free(&out);
    }
}

/* A listener with hide-client. */
Test(smtp, received_field_without_the_client)
{
    expect(&(struct smtp_trace){.helo = SPAN("laptop.home.test"),
                                .name = SPAN("dsl.isp.test"),
                                .remote = SPAN("192.0.2.1"),
                                .by = SPAN("mx.example.test"),
                                .hidden = true,
                                .esmtp = true,
                                .authenticated = true},
           "Received: from unknown\r\n\tby mx.example.test with ESMTPA;\r\n\tThu, 1 Jan 1970 00:00:00 +0000\r\n");
}

/* HAZARDS 7: nothing that the client says of itself gets out of its place. */
Test(smtp, received_field_with_a_hostile_helo)
{
    static const char *const bad[] = {"x)", "a;b", "(x", "<x>", "a\tb", "\"x\"", "[1.2.3]", "", "a..b", "\xc3\xa9"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct smtp_trace t = {.helo = span_of(bad[i]), .remote = SPAN("192.0.2.1"), .by = SPAN("mx"), .seconds = 0};
        expect(&t,
               "Received: from unknown ([192.0.2.1])\r\n\tby mx with SMTP;\r\n\tThu, 1 Jan 1970 00:00:00 +0000\r\n");
    }
    struct smtp_trace t = {.helo = SPAN("[192.0.2.9]"), .remote = SPAN("192.0.2.1"), .by = SPAN("mx"), .seconds = 0};
    expect(&t,
           "Received: from [192.0.2.9] ([192.0.2.1])\r\n\tby mx with SMTP;\r\n\tThu, 1 Jan 1970 00:00:00 +0000\r\n");
}

Test(smtp, added_fields)
{
    struct buf out = {0};
    smtp_trace_date(&out, 0, -330);
    smtp_trace_message_id(&out, span_make("\x00\xab\x7f", 3), SPAN("mx.example.test"));
    cr_assert(
        span_eqs(buf_span(&out), "Date: Wed, 31 Dec 1969 18:30:00 -0530\r\nMessage-ID: <00ab7f@mx.example.test>\r\n"),
        "%.*s", SPANV(buf_span(&out)));
    buf_free(&out);
}
