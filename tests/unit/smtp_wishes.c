/* DELIVERBY, FUTURERELEASE, MT-PRIORITY, REQUIRETLS and TLS-Required: their grammar, and what the door makes of them. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "smtp/wishes.h"
#include "smtp_owner.h"

/* RFC2852:4 */
Test(smtp_wishes, by)
{
    static const struct {
        const char *text;
        bool good;
        int64_t seconds;
        unsigned mode;
    } cases[] = {
        {"120;R", true, 120, SMTP_BY_RETURN},
        {"120;r", true, 120, SMTP_BY_RETURN},
        {"+120;NT", true, 120, SMTP_BY_NOTIFY | SMTP_BY_TRACE},
        {"999999999;Rt", true, 999999999, SMTP_BY_RETURN | SMTP_BY_TRACE},
        {"0;N", true, 0, SMTP_BY_NOTIFY},
        {"-999999999;N", true, -999999999, SMTP_BY_NOTIFY},
        {"000000001;R", true, 1, SMTP_BY_RETURN},
        {"0;R", false, 0, 0},
        {"-1;R", false, 0, 0},
        {"-0;RT", false, 0, 0},
        {"1000000000;N", false, 0, 0},
        {"0000000001;N", false, 0, 0},
        {"", false, 0, 0},
        {";R", false, 0, 0},
        {"+;R", false, 0, 0},
        {"120", false, 0, 0},
        {"120;", false, 0, 0},
        {"120;T", false, 0, 0},
        {"120;X", false, 0, 0},
        {"120;RN", false, 0, 0},
        {"120;RTT", false, 0, 0},
        {"--1;N", false, 0, 0},
        {"1 ;N", false, 0, 0},
        {"1.5;N", false, 0, 0},
        {"120;R;T", false, 0, 0},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        int64_t seconds = 0;
        uint8_t mode = 0;
        cr_expect_eq(smtp_by_parse(span_of(cases[i].text), &seconds, &mode), cases[i].good, "%s", cases[i].text);
        if (cases[i].good)
            cr_expect(seconds == cases[i].seconds && mode == cases[i].mode, "%s", cases[i].text);
    }
    struct buf out = {0};
    smtp_by_put(&out, 98, SMTP_BY_RETURN);
    smtp_by_put(&out, -5, SMTP_BY_NOTIFY | SMTP_BY_TRACE);
    smtp_by_put(&out, INT64_C(-4000000000), SMTP_BY_NOTIFY);
    cr_assert_str_eq(buf_cstr(&out), " BY=98;R BY=-5;NT BY=-999999999;N");
    buf_free(&out);
}

/* RFC4865:3; the date-time of RFC 3339 §5.6. */
Test(smtp_wishes, hold)
{
    static const char *const bad_for[] = {"", "0", "01", "-1", "+1", "1000000000", "1h", " 1"};
    static const struct {
        const char *text;
        int64_t seconds; /* 0: no such time */
    } until[] = {
        {"2026-09-21T14:13:20Z", 1790000000},
        {"2026-09-21t14:13:20z", 1790000000},
        {"2026-09-21T14:13:20.000Z", 1790000000},
        {"2026-09-21T14:13:20.001Z", 1790000001}, /* never before */
        {"2026-09-21T16:13:20+02:00", 1790000000},
        {"2026-09-21T08:43:20-05:30", 1790000000},
        {"2028-02-29T00:00:00Z", 1835395200},
        {"2026-02-29T00:00:00Z", 0},
        {"2100-02-29T00:00:00Z", 0},
        {"2026-09-31T00:00:00Z", 0},
        {"2026-13-01T00:00:00Z", 0},
        {"2026-00-01T00:00:00Z", 0},
        {"2026-01-00T00:00:00Z", 0},
        {"2026-09-21T24:00:00Z", 0},
        {"2026-09-21T14:60:00Z", 0},
        {"2026-09-21T14:13:61Z", 0},
        {"2026-09-21T14:13:20", 0},
        {"2026-09-21T14:13Z", 0},
        {"2026-09-21 14:13:20Z", 0},
        {"2026-9-21T14:13:20Z", 0},
        {"2026-09-21T14:13:20.Z", 0},
        {"2026-09-21T14:13:20+0200", 0},
        {"2026-09-21T14:13:20+24:00", 0},
        {"2026-09-21T14:13:20ZZ", 0},
        {"1790000000", 0},
        {"", 0},
    };
    uint32_t seconds;
    cr_expect(smtp_hold_for_parse(SPAN("999999999"), &seconds) && seconds == 999999999);
    cr_expect(smtp_hold_for_parse(SPAN("1"), &seconds) && seconds == 1);
    for (size_t i = 0; i < COUNT_OF(bad_for); i++)
        cr_expect_not(smtp_hold_for_parse(span_of(bad_for[i]), &seconds), "%s", bad_for[i]);
    for (size_t i = 0; i < COUNT_OF(until); i++) {
        int64_t at = 0;
        bool good = smtp_hold_until_parse(span_of(until[i].text), &at);
        cr_expect_eq(good, until[i].seconds != 0, "%s", until[i].text);
        cr_expect(!good || at == until[i].seconds, "%s: %lld", until[i].text, (long long)at);
    }
    struct buf out = {0};
    smtp_time_put(&out, 1790000000);
    cr_assert_str_eq(buf_cstr(&out), "2026-09-21T14:13:20Z");
    buf_free(&out);
}

/* RFC6710:7 */
Test(smtp_wishes, priority)
{
    static const char *const bad[] = {"", "10", "-10", "-0", "+1", "00", "01", "a", "-", "1.0"};
    int8_t p;
    for (int i = -9; i <= 9; i++) {
        char text[8];
        snprintf(text, sizeof text, "%d", i);
        cr_expect(smtp_priority_parse(span_of(text), &p) && p == i, "%d", i);
    }
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        cr_expect_not(smtp_priority_parse(span_of(bad[i]), &p), "%s", bad[i]);
}

/* ---- at the door ---- */

#define LOGIN "AUTH PLAIN AGFsaWNlQGV4YW1wbGUudGVzdABzZWNyZXQtd29yZHM=\r\n"
#define IN "EHLO c\r\n" LOGIN

static void door_open(struct smtp_owner *o, bool submission, bool tls)
{
    smtp_owner_open(o, submission);
    o->config.auth_in_clear = true;
    if (tls)
        smtp_owner_feed(o, SPAN("EHLO c\r\nSTARTTLS\r\n"));
    smtp_owner_feed(o, submission ? SPAN(IN) : SPAN("EHLO c\r\n"));
    buf_clear(&o->sent);
}

static void expect_mail(bool submission, bool tls, const char *params, const char *reply)
{
    struct smtp_owner o;
    struct buf line = {0};
    door_open(&o, submission, tls);
    buf_printf(&line, "MAIL FROM:<alice@example.test> %s\r\n", params);
    smtp_owner_feed(&o, buf_span(&line));
    cr_expect(span_starts(buf_span(&o.sent), span_of(reply)), "%s: %s", params, buf_cstr(&o.sent));
    buf_free(&line);
    smtp_owner_close(&o);
}

/* RFC5321:4.1.1.11: what EHLO did not announce is refused; RFC2852:3, RFC4865:4.2, RFC6710:4.1, RFC8689:2. */
Test(smtp_wishes, at_mail)
{
    static const struct {
        bool submission, tls;
        const char *params, *reply;
    } cases[] = {
        {false, false, "BY=60;R", "250 2.1.0"},
        {false, false, "by=60;rt", "250 2.1.0"},
        {false, false, "BY=59;R", "555 5.5.4"},
        {false, false, "BY=59;N", "250 2.1.0"},
        {false, false, "BY=-59;N", "250 2.1.0"},
        {false, false, "BY=0;R", "501 5.5.4"},
        {false, false, "BY", "501 5.5.4"},
        {false, false, "BY=", "501 5.5.4"},
        {false, false, "BY=100;N BY=100;N", "501 5.5.4"},
        {false, false, "HOLDFOR=60", "555 5.5.4"},
        {false, false, "HOLDUNTIL=2026-09-21T15:00:00Z", "555 5.5.4"},
        {false, false, "MT-PRIORITY=-1", "555 5.5.4"},
        {false, false, "REQUIRETLS", "555 5.5.4"},
        {false, true, "REQUIRETLS", "250 2.1.0"},
        {false, true, "REQUIRETLS=1", "501 5.5.4"},
        {false, true, "REQUIRETLS REQUIRETLS", "501 5.5.4"},
        {true, true, "REQUIRETLS BY=3600;N HOLDFOR=60 MT-PRIORITY=-4 SIZE=10 BODY=8BITMIME", "250 2.1.0"},
        {true, false, "HOLDFOR=86400", "250 2.1.0"},
        {true, false, "HOLDFOR=86401", "501 5.5.4"},
        {true, false, "HOLDFOR=0", "501 5.5.4"},
        {true, false, "HOLDFOR", "501 5.5.4"},
        {true, false, "HOLDUNTIL=2026-09-22T14:13:20Z", "250 2.1.0"},
        {true, false, "HOLDUNTIL=2026-09-22T14:13:21Z", "501 5.5.4"},
        {true, false, "HOLDUNTIL=tomorrow", "501 5.5.4"},
        {true, false, "HOLDFOR=60 HOLDUNTIL=2026-09-21T15:00:00Z", "501 5.5.4"},
        {true, false, "HOLDFOR=60 HOLDFOR=60", "501 5.5.4"},
        {true, false, "HOLDFOR=120 BY=119;R", "501 5.5.4"}, /* RFC4865:5.2.2 */
        {true, false, "BY=119;N HOLDFOR=120", "501 5.5.4"},
        {true, false, "HOLDFOR=120 BY=120;R", "250 2.1.0"},
        {true, false, "MT-PRIORITY=9", "250 2.3.6 0 "},
        {true, false, "MT-PRIORITY=0", "250 2.1.0"},
        {true, false, "MT-PRIORITY=-9", "250 2.1.0"},
        {true, false, "MT-PRIORITY=10", "501 5.5.2"},
        {true, false, "MT-PRIORITY", "501 5.5.2"},
        {true, false, "MT-PRIORITY=1 MT-PRIORITY=1", "501 5.5.4"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        expect_mail(cases[i].submission, cases[i].tls, cases[i].params, cases[i].reply);
}

/* RFC6710:9.2 */
Test(smtp_wishes, announced_where_served)
{
    static const char *const submission[] = {"250-DELIVERBY 60\r\n", "250-FUTURERELEASE 86400 2026-09-22T14:13:20Z\r\n",
                                             "250-MT-PRIORITY MIXER\r\n"};
    struct smtp_owner o;
    smtp_owner_open(&o, true);
    smtp_owner_feed(&o, SPAN("EHLO c\r\n"));
    for (size_t i = 0; i < COUNT_OF(submission); i++)
        cr_expect(strstr(buf_cstr(&o.sent), submission[i]), "%s", submission[i]);
    cr_expect_not(strstr(buf_cstr(&o.sent), "REQUIRETLS")); /* RFC8689:2: over TLS only */
    smtp_owner_feed(&o, SPAN("STARTTLS\r\n"));
    smtp_owner_feed(&o, SPAN("EHLO c\r\n"));
    cr_expect(strstr(buf_cstr(&o.sent), "250-REQUIRETLS\r\n"));
    smtp_owner_close(&o);
    smtp_owner_open(&o, false);
    smtp_owner_feed(&o, SPAN("EHLO c\r\n"));
    cr_expect(strstr(buf_cstr(&o.sent), "250-DELIVERBY 60\r\n"));
    cr_expect_not(strstr(buf_cstr(&o.sent), "FUTURERELEASE") || strstr(buf_cstr(&o.sent), "MT-PRIORITY"));
    smtp_owner_close(&o);
}

Test(smtp_wishes, kept_until_the_transaction_ends)
{
    static const char *const allowed[] = {"alice@example.test"};
    struct smtp_owner o;
    door_open(&o, true, true);
    o.config.priority_logins = allowed;
    o.config.priority_login_count = 1;
    smtp_owner_feed(&o, SPAN("MAIL FROM:<alice@example.test> REQUIRETLS BY=3600;RT HOLDUNTIL=2026-09-21T14:14:20Z MT-PRIORITY=7\r\n"));
    const struct smtp_transaction *t = smtp_server_transaction(o.s);
    cr_assert(t && t->requiretls && t->by_mode == (SMTP_BY_RETURN | SMTP_BY_TRACE) && t->priority == 7);
    cr_assert_eq(t->deliver_by, SMTP_OWNER_WALL + 3600000);
    cr_assert_eq(t->hold_until, SMTP_OWNER_WALL + 60000);
    cr_assert(span_eqs(t->hold, "until;2026-09-21T14:14:20Z"));
    smtp_owner_feed(&o, SPAN("RSET\r\nMAIL FROM:<alice@example.test>\r\n"));
    t = smtp_server_transaction(o.s);
    cr_assert(t && !t->requiretls && !t->by_mode && !t->priority && !t->hold_until && !t->hold.n && !t->deliver_by);
    smtp_owner_close(&o);
}

/* RFC8689:3, RFC8689:4.1 */
Test(smtp_wishes, tls_required_no)
{
    static const struct {
        const char *header;
        bool needless;
    } cases[] = {
        {"TLS-Required: No\r\n", true},        {"tls-required:no\r\n", true}, {"TLS-Required:\r\n No\r\n", true},
        {"TLS-Required: No \t\r\n", true},     {"TLS-Required: Nope\r\n", false},
        {"TLS-Required: Yes\r\n", false},      {"TLS-Required:\r\n", false},  {"TLS-Required: N\r\n", false},
        {"X-TLS-Required: No\r\n", false},     {"Subject: x\r\n\r\nTLS-Required: No\r\n", false},
        {"TLS-Required: x\r\nTLS-Required: No\r\n", false}, {"Subject: TLS-Required:\r\n No\r\n", false},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        for (size_t piece = 1; piece < 200; piece *= 5) {
            struct smtp_data d;
            struct buf out = {0}, in = {0};
            const struct smtp_data_limits limits = {.size = 10000, .line = 1000, .header = 1000};
            size_t used;
            smtp_data_begin(&d, &limits);
            buf_printf(&in, "From: x\r\n%s\r\nhi\r\n.\r\n", cases[i].header);
            for (size_t at = 0; at < in.n; at += piece)
                smtp_data_read(&d, span_sub(buf_span(&in), at, piece), &used, &out);
            cr_expect_eq(smtp_data_tls_needless(&d), cases[i].needless, "%s by %zu", cases[i].header, piece);
            cr_expect_eq(out.n, in.n - 3, "nothing of it is lost");
            buf_free(&out);
            buf_free(&in);
        }
}
