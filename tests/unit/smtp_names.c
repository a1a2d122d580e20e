/* What a client calls itself, and the Authentication-Results field. */
#include <criterion/criterion.h>

#include "smtp/data.h"
#include "smtp/helo.h"
#include "smtp/results.h"

/* RFC5321:2.3.5, RFC5321:4.1.1.1, RFC5321:4.1.3 */
Test(names, ehlo)
{
    static const struct {
        const char *helo, *client;
        enum smtp_helo_kind kind;
    } cases[] = {
        {"client.test", "192.0.2.1", SMTP_HELO_NAME},
        {"a.b.client.test", "192.0.2.1", SMTP_HELO_NAME},
        {"my_host.test", "192.0.2.1", SMTP_HELO_NAME}, /* tolerated, as in addresses */
        {"[192.0.2.1]", "192.0.2.1", SMTP_HELO_LITERAL},
        {"[IPv6:2001:db8::1]", "2001:db8::1", SMTP_HELO_LITERAL},
        {"[ipv6:2001:DB8:0::1]", "2001:db8::1", SMTP_HELO_LITERAL},
        {"[192.0.2.2]", "192.0.2.1", SMTP_HELO_OTHER_LITERAL},
        {"[192.0.2.25]", "192.0.2.1", SMTP_HELO_OURS},
        {"MX.Example.test", "192.0.2.1", SMTP_HELO_OURS},
        {"mx.example.test", "192.0.2.25", SMTP_HELO_NAME}, /* it is us */
        {"localhost", "192.0.2.1", SMTP_HELO_WORD},
        {"192.0.2.1", "192.0.2.1", SMTP_HELO_BAD},
        {"2001:db8::1", "2001:db8::1", SMTP_HELO_BAD},
        {"[2001:db8::1]", "2001:db8::1", SMTP_HELO_BAD},
        {"[client.test]", "192.0.2.1", SMTP_HELO_BAD},
        {"-.-", "192.0.2.1", SMTP_HELO_BAD},
        {"a..b", "192.0.2.1", SMTP_HELO_BAD},
        {"cl(ient.test", "192.0.2.1", SMTP_HELO_BAD},
        {"[", "192.0.2.1", SMTP_HELO_BAD},
        {"", "192.0.2.1", SMTP_HELO_BAD},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum smtp_helo_kind k = smtp_helo_kind(span_of(cases[i].helo), SPAN("mx.example.test"), span_of(cases[i].client),
                                               SPAN("192.0.2.25"));
        cr_expect_eq(k, cases[i].kind, "%s: %d", cases[i].helo, k);
        cr_expect_eq(smtp_helo_flaw(k) != NULL, k >= SMTP_HELO_OTHER_LITERAL);
    }
}

/* RFC8601:2.2, RFC8601:2.7.3; methods of our own begin with "x-": RFC8601:2.7.7; RFC2045:5.1: what is no token is quoted. */
Test(names, results_field)
{
    struct buf out = {0};
    struct smtp_results r = {.by = SPAN("mx.test"), .remote = SPAN("192.0.2.1"), .helo = SPAN("h.test")};
    smtp_results_put(&out, &r);
    cr_expect_eq(out.n, 0, "nothing was looked at");
    r.iprev = "pass";
    r.name = SPAN("good.test");
    smtp_results_put(&out, &r);
    cr_expect_str_eq(buf_cstr(&out),
                     "Authentication-Results: mx.test;\r\n\tiprev=pass policy.iprev=192.0.2.1 (good.test)\r\n");
    buf_clear(&out);
    r.remote = SPAN("2001:db8::1");
    r.name = SPAN("evil) name\r\nX: y");
    r.helo_result = "fail";
    r.helo_why = "no such name";
    r.early = true;
    smtp_results_put(&out, &r);
    cr_expect_str_eq(buf_cstr(&out), "Authentication-Results: mx.test;\r\n\tiprev=pass policy.iprev=\"2001:db8::1\""
                                     ";\r\n\tx-helo=fail (no such name) smtp.helo=h.test;\r\n\tx-early-talker=fail\r\n");
    buf_clear(&out);
    r = (struct smtp_results){.by = SPAN("mx.test"), .helo = SPAN("\"x; spf=pass"), .helo_result = "fail", .helo_why = ""};
    smtp_results_put(&out, &r);
    cr_expect_str_eq(buf_cstr(&out), "Authentication-Results: mx.test;\r\n\tx-helo=fail\r\n");
    buf_free(&out);
}

/* RFC8601:5 */
Test(names, who_claims_to_be_us)
{
    static const struct {
        const char *value;
        bool ours;
    } cases[] = {
        {" mx.test; spf=pass", true},
        {" MX.Test 1; spf=pass", true},
        {"mx.test", true},
        {"\r\n\tmx.test; dkim=pass", true},
        {" (a (nested) \\) comment)\r\n (another) mx.test; x=y", true},
        {" \"mx.test\"; spf=pass", true},
        {" \"m\\x.test\"; spf=pass", true},
        {" mx.test.; spf=pass", true},
        {" other.test; spf=pass", false},
        {" amx.test; spf=pass", false},
        {" mx.test.example; spf=pass", false},
        {" \"other.test\"; spf=pass", false},
        {" ", true},
        {" (no end mx.other", true},
        {" \"no end", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        cr_expect_eq(smtp_results_claims(span_of(cases[i].value), SPAN("mx.test")), cases[i].ours, "%s", cases[i].value);
}

/* RFC5322:4.5.8 (blanks before the colon), RFC5322:3.2.2 (comments). The fields that are taken out of content, wherever it is cut into pieces; what is counted stays right. */
Test(names, forged_results_leave)
{
    static const char in[] = "Authentication-Results: mx.test; spf=pass\r\n"
                             "Received: x\r\n"
                             "authentication-results :\r\n (c)\r\n MX.TEST;\r\n\tdkim=pass\r\n"
                             "Authentication-Results: other.test; spf=pass\r\n"
                             "AUTHENTICATION-RESULTS                                                     : mx.test; a=b\r\n"
                             "X-Authentication-Results: mx.test; kept\r\n"
                             "Authentication-Results: mx.test; last\r\n"
                             "\r\n"
                             "Authentication-Results: mx.test; body\r\n.\r\n";
    static const char want[] = "Received: x\r\nAuthentication-Results: other.test; spf=pass\r\n"
                               "X-Authentication-Results: mx.test; kept\r\n\r\nAuthentication-Results: mx.test; body\r\n";
    const struct smtp_data_limits l = {.size = 1 << 16, .line = 1000, .header = 1 << 14, .own = SPAN("mx.test")};
    for (size_t piece = 1; piece <= sizeof in; piece++) {
        struct smtp_data d;
        struct buf out = {0};
        size_t used;
        bool over = false;
        smtp_data_begin(&d, &l);
        for (size_t at = 0; at < sizeof in - 1 && !over; at += used)
            over = smtp_data_read(&d, span_sub(span_make(in, sizeof in - 1), at, piece), &used, &out);
        cr_assert(over);
        cr_expect(span_eqs(buf_span(&out), want), "in pieces of %zu: %.*s", piece, SPANV(buf_span(&out)));
        cr_expect_eq(d.given, out.n);
        cr_expect_eq(d.header_bytes, span_search(buf_span(&out), SPAN("\r\n\r\n")) + 2);
        buf_free(&out);
    }
}

/* A field that ends the content, and one behind a flaw. */
Test(names, forged_results_at_the_end)
{
    const struct smtp_data_limits l = {.size = 1 << 16, .line = 1000, .header = 1 << 14, .own = SPAN("mx.test")};
    static const char *const inputs[] = {"A: b\r\nAuthentication-Results: mx.test; x\r\n.\r\n",
                                         "A: b\r\nAuthentication-Results: mx.test;\n x\r\nB: c\r\n\r\n.\r\n"};
    for (size_t i = 0; i < 2; i++) {
        struct smtp_data d;
        struct buf out = {0};
        size_t used;
        smtp_data_begin(&d, &l);
        cr_assert(smtp_data_read(&d, span_of(inputs[i]), &used, &out));
        if (i == 0)
            cr_expect(span_eqs(buf_span(&out), "A: b\r\n"));
        else
            cr_expect_neq(d.flaws, 0);
        buf_free(&out);
    }
}
