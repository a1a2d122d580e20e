#include <criterion/criterion.h>

#include "base/base64.h"
#include "smtp/path.h"
#include "smtp/reply.h"

/* RFC5321:4.1.2 */
static const struct {
    const char *text;
    unsigned allow;
    enum smtp_path_result result;
    const char *address, *local, *domain, *rest;
} paths[] = {
    {"<a@b.example>", 0, SMTP_PATH_OK, "a@b.example", "a", "b.example", ""},
    {"  <a@b.example> SIZE=1", 0, SMTP_PATH_OK, "a@b.example", "a", "b.example", " SIZE=1"},
    {"<a.b+c!#$%&'*-/=?^_`{|}~@b>", 0, SMTP_PATH_OK, "a.b+c!#$%&'*-/=?^_`{|}~@b", "a.b+c!#$%&'*-/=?^_`{|}~", "b", ""},
    {"<\"a b\"@b>", 0, SMTP_PATH_OK, "\"a b\"@b", "\"a b\"", "b", ""},
    {"<\"a>b\\\"@\"@b> X", 0, SMTP_PATH_OK, "\"a>b\\\"@\"@b", "\"a>b\\\"@\"", "b", " X"},
    {"<\"\"@b>", 0, SMTP_PATH_OK, "\"\"@b", "\"\"", "b", ""},
    {"<a@[192.0.2.1]>", 0, SMTP_PATH_OK, "a@[192.0.2.1]", "a", "[192.0.2.1]", ""},
    {"<a@[IPv6:2001:db8::1]>", 0, SMTP_PATH_OK, "a@[IPv6:2001:db8::1]", "a", "[IPv6:2001:db8::1]", ""},
    {"<@one.example,@two.example:a@b>", 0, SMTP_PATH_OK, "a@b", "a", "b", ""}, /* RFC5321:C */
    {"<@one.example:a@b>", 0, SMTP_PATH_OK, "a@b", "a", "b", ""},
    {"<a@under_score.example>", 0, SMTP_PATH_OK, "a@under_score.example", "a", "under_score.example", ""},
    {"<>", SMTP_PATH_NULL, SMTP_PATH_OK, "", "", "", ""},
    {"<PostMaster>", SMTP_PATH_POSTMASTER, SMTP_PATH_OK, "PostMaster", "PostMaster", "", ""},
    {"<\xc3\xa9@b>", SMTP_PATH_UTF8, SMTP_PATH_OK, "\xc3\xa9@b", "\xc3\xa9", "b", ""},
    {"<a@\xc3\xa9.example>", SMTP_PATH_UTF8, SMTP_PATH_OK, "a@\xc3\xa9.example", "a", "\xc3\xa9.example", ""},
    {"<a@under_score.\xc3\xa9.example>", SMTP_PATH_UTF8, SMTP_PATH_OK, "a@under_score.\xc3\xa9.example", "a", "under_score.\xc3\xa9.example", ""},
    /* RFC6531:3.3, RFC 5890 §2.3.2.1: names that have no A-label */
    {"<a@\xe2\x80\xae.example>", SMTP_PATH_UTF8, SMTP_PATH_BAD, 0, 0, 0, 0},
    {"<a@\xcc\x81x.example>", SMTP_PATH_UTF8, SMTP_PATH_BAD, 0, 0, 0, 0},
    {"<a@\xc3\xa9_.example>", SMTP_PATH_UTF8, SMTP_PATH_BAD, 0, 0, 0, 0},
    {"<>", 0, SMTP_PATH_BAD, 0, 0, 0, 0},
    {"<postmaster>", 0, SMTP_PATH_BAD, 0, 0, 0, 0},
    {"", 0, SMTP_PATH_BAD, 0, 0, 0, 0},
    {"a@b", 0, SMTP_PATH_BAD, 0, 0, 0, 0},
    {"<a@b", 0, SMTP_PATH_BAD, 0, 0, 0, 0},
    {"a@b>", 0, SMTP_PATH_BAD, 0, 0, 0, 0},
    {"<a@b>x", 0, SMTP_PATH_BAD, 0, 0, 0, 0},
    {"<<a@b>>", 0, SMTP_PATH_BAD, 0, 0, 0, 0},
    {"<a>", 0, SMTP_PATH_BAD, 0, 0, 0, 0},
    {"<a@>", 0, SMTP_PATH_BAD, 0, 0, 0, 0},
    {"<@b>", 0, SMTP_PATH_BAD, 0, 0, 0, 0},
    {"<@b:>", 0, SMTP_PATH_BAD, 0, 0, 0, 0},
    {"<@:a@b>", 0, SMTP_PATH_BAD, 0, 0, 0, 0},
    {"<@x,y:a@b>", 0, SMTP_PATH_BAD, 0, 0, 0, 0},
    {"<.a@b>", 0, SMTP_PATH_BAD, 0, 0, 0, 0},
    {"<a.@b>", 0, SMTP_PATH_BAD, 0, 0, 0, 0},
    {"<a..b@b>", 0, SMTP_PATH_BAD, 0, 0, 0, 0},
    {"<a b@b>", 0, SMTP_PATH_BAD, 0, 0, 0, 0},
    {"<a@b@c>", 0, SMTP_PATH_BAD, 0, 0, 0, 0},
    {"<a(b)@c>", 0, SMTP_PATH_BAD, 0, 0, 0, 0},
    {"<a@b..c>", 0, SMTP_PATH_BAD, 0, 0, 0, 0},
    {"<a@.b>", 0, SMTP_PATH_BAD, 0, 0, 0, 0},
    {"<a@b.>", 0, SMTP_PATH_BAD, 0, 0, 0, 0},
    {"<a@-b>", 0, SMTP_PATH_BAD, 0, 0, 0, 0},
    {"<a@b->", 0, SMTP_PATH_BAD, 0, 0, 0, 0},
    {"<a@b$c>", 0, SMTP_PATH_BAD, 0, 0, 0, 0},
    {"<a@[192.0.2.256]>", 0, SMTP_PATH_BAD, 0, 0, 0, 0},
    {"<a@[192.0.2.1>", 0, SMTP_PATH_BAD, 0, 0, 0, 0},
    {"<a@[IPv6:zz]>", 0, SMTP_PATH_BAD, 0, 0, 0, 0},
    {"<a@[2001:db8::1]>", 0, SMTP_PATH_BAD, 0, 0, 0, 0},
    {"<\"a@b>", 0, SMTP_PATH_BAD, 0, 0, 0, 0},
    {"<\"a\"b@c>", 0, SMTP_PATH_BAD, 0, 0, 0, 0},
    {"<\"a\\\"@b>", 0, SMTP_PATH_BAD, 0, 0, 0, 0},
    {"<\xc3\xa9@b>", 0, SMTP_PATH_NOT_ASCII, 0, 0, 0, 0},
    {"<\xc3@b>", SMTP_PATH_UTF8, SMTP_PATH_BAD, 0, 0, 0, 0},
    {"<\xed\xa0\x80@b>", SMTP_PATH_UTF8, SMTP_PATH_BAD, 0, 0, 0, 0},
};

/* RFC5321:4.1.2, RFC5321:4.1.1.3: source routes are left out */
Test(smtp, paths)
{
    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        struct span s = span_of(paths[i].text), before = s;
        struct smtp_path p = {0};
        enum smtp_path_result r = smtp_path_take(&s, paths[i].allow, &p);
        cr_assert_eq(r, paths[i].result, "%s: %d", paths[i].text, (int)r);
        if (r != SMTP_PATH_OK) {
            cr_assert(s.p == before.p && s.n == before.n, "%s: taken", paths[i].text);
            continue;
        }
        cr_assert(span_eqs(p.address, paths[i].address), "%s", paths[i].text);
        cr_assert(span_eqs(p.local, paths[i].local), "%s", paths[i].text);
        cr_assert(span_eqs(p.domain, paths[i].domain), "%s", paths[i].text);
        cr_assert(span_eqs(s, paths[i].rest), "%s", paths[i].text);
    }
}

/* HAZARDS 8: a local part is data, and what isn't in the grammar isn't taken. */
Test(smtp, paths_with_hostile_octets)
{
    for (int c = 0; c < 256; c++) {
        char text[] = "<a?b@c.example>";
        text[2] = (char)c;
        struct span s = span_make(text, sizeof text - 1);
        struct smtp_path p;
        bool good = smtp_path_take(&s, 0, &p) == SMTP_PATH_OK;
        bool expected =
            c > 0 && c < 128 && (ascii_alpha((char)c) || ascii_digit((char)c) || strchr("!#$%&'*+-/=?^_`{|}~.", c));
        cr_assert_eq(good, expected, "octet %d", c);
    }
}

/* RFC5321:4.5.3.1.1, RFC5321:4.5.3.1.2 */
Test(smtp, path_limits)
{
    char text[700];
    for (size_t local = SMTP_LOCAL_MAX; local <= SMTP_LOCAL_MAX + 1; local++) {
        memset(text, 'a', local);
        memcpy(text + local, "@b", 2);
        struct smtp_path p;
        enum smtp_path_result want = local > SMTP_LOCAL_MAX ? SMTP_PATH_TOO_LONG : SMTP_PATH_OK;
        cr_assert_eq(smtp_mailbox_parse(span_make(text, local + 2), 0, &p), want);
    }
    memset(text, 'a', sizeof text);
    text[1] = '@';
    for (size_t i = 60; i < 255; i += 60)
        text[i] = '.';
    struct smtp_path p;
    cr_assert_eq(smtp_mailbox_parse(span_make(text, 2 + 255), 0, &p), SMTP_PATH_OK);
    cr_assert_eq(smtp_mailbox_parse(span_make(text, 2 + 256), 0, &p), SMTP_PATH_TOO_LONG);
    memcpy(text, "x@", 2);
    memset(text + 2, 'a', 64);
    cr_assert_eq(smtp_mailbox_parse(span_make(text, 2 + 64), 0, &p), SMTP_PATH_BAD);
    cr_assert_eq(smtp_mailbox_parse(span_make(text, 2 + 63), 0, &p), SMTP_PATH_OK);
}

Test(smtp, parameters)
{
    struct span s = SPAN("  SIZE=100  body=8BITMIME X-Y2 ");
    struct smtp_param p;
    cr_assert_eq(smtp_param_take(&s, &p), 1);
    cr_assert(span_eqs(p.keyword, "SIZE") && span_eqs(p.value, "100"));
    cr_assert_eq(smtp_param_take(&s, &p), 1);
    cr_assert(span_eqs(p.keyword, "body") && span_eqs(p.value, "8BITMIME"));
    cr_assert_eq(smtp_param_take(&s, &p), 1);
    cr_assert(span_eqs(p.keyword, "X-Y2") && p.value.p == NULL);
    cr_assert_eq(smtp_param_take(&s, &p), 0);
    static const char *const bad[] = {"=1", "A=", "A=b=c", "-A=1", "A_B=1", "A=\x01", "A=\x7f", "\xc3\xa9=1", "a:b"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        s = span_of(bad[i]);
        cr_assert_eq(smtp_param_take(&s, &p), -1, "%s", bad[i]);
    }
}

/* RFC3461:4 */
Test(smtp, xtext)
{
    struct buf out = {0};
    cr_assert_eq(smtp_xtext_decode(SPAN("e+3Dmc2@example.com"), &out), 0);
    cr_assert(span_eqs(buf_span(&out), "e=mc2@example.com"));
    static const char *const bad[] = {"+", "+3", "+3d", "+G0", "a=b", "a b", "\x7f"};
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        cr_assert_eq(smtp_xtext_decode(span_of(bad[i]), &out), -1, "%s", bad[i]);
    char all[256];
    for (int i = 0; i < 256; i++)
        all[i] = (char)i;
    struct buf text = {0};
    smtp_xtext_encode(span_make(all, 256), &text);
    buf_clear(&out);
    cr_assert_eq(smtp_xtext_decode(buf_span(&text), &out), 0);
    cr_assert(span_eq(buf_span(&out), span_make(all, 256)));
    buf_free(&text);
    buf_free(&out);
}

/* RFC4648:10 and what must not pass */
Test(smtp, base64)
{
    static const char *const vectors[][2] = {{"", ""},
                                             {"f", "Zg=="},
                                             {"fo", "Zm8="},
                                             {"foo", "Zm9v"},
                                             {"foob", "Zm9vYg=="},
                                             {"fooba", "Zm9vYmE="},
                                             {"foobar", "Zm9vYmFy"}};
    struct buf b = {0};
    for (size_t i = 0; i < COUNT_OF(vectors); i++) {
        buf_clear(&b);
        base64_encode(span_of(vectors[i][0]), &b);
        cr_assert(span_eqs(buf_span(&b), vectors[i][1]));
        buf_clear(&b);
        cr_assert_eq(base64_decode(span_of(vectors[i][1]), &b), 0);
        cr_assert(span_eqs(buf_span(&b), vectors[i][0]));
    }
    static const char *const bad[] = {
        "Z", "Zg", "Zg=", "Zh==", "Zm9=", "====", "Z===", "=Zg=", "Zg==Zg==", "Zm 9", "Zm9v\n", "Zm-_"};
    buf_clear(&b);
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        cr_assert(base64_decode(span_of(bad[i]), &b) == -1 && b.n == 0, "%s", bad[i]);
    buf_free(&b);
}

/* HAZARDS 7: whatever the text, one reply is one line of at most 512 octets (RFC5321:4.5.3.1.5), and ASCII (RFC6531:3.7.4.1). */
Test(smtp, replies_are_one_line)
{
    struct buf out = {0};
    struct outcome o = {
        .kind = OUTCOME_FAILED, .code = 250, .subject = 1, .detail = 1, .text = "a\r\n250 ok\tb\xc3\xa9"};
    smtp_reply_outcome(&out, &o);
    cr_assert(span_eqs(buf_span(&out), "550 5.1.1 a  250 ok b??\r\n"), "%.*s", SPANV(buf_span(&out)));
    char text[2000];
    memset(text, 'x', sizeof text);
    buf_clear(&out);
    smtp_reply_put(&out, 250, "2.0.0", span_make(text, sizeof text));
    cr_assert_eq(out.n, SMTP_REPLY_LINE_MAX);
    cr_assert(span_ends(buf_span(&out), SPAN("xx\r\n")));
    buf_free(&out);
}
