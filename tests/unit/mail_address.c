/* mail/address: the grammar, the canonical key, +detail, domain names. RFC5321:4.1.2 RFC5321:4.1.3 RFC5321:4.5.3.1.1
 * RFC5321:4.5.3.1.2 */
#include <criterion/criterion.h>
#include <stdio.h>

#include "mail/address.h"

static void expect_key(const char *text, const char *key)
{
    struct address_key k;
    bool ok = address_key(span_of(text), &k);
    cr_expect_eq(ok, key != NULL, "%s", text);
    if (ok && key)
        cr_expect(span_eqs(address_key_span(&k), key), "%s gave %s", text, k.text);
}

Test(mail, address_good_ones_and_their_keys)
{
    expect_key("alice@example.test", "alice@example.test");
    expect_key("Alice@EXAMPLE.Test", "alice@example.test");
    expect_key("a.b.c@x", "a.b.c@x");
    expect_key("x@My_Host.test", "x@my_host.test");
    expect_key("\"alice\"@example.test", "alice@example.test");
    expect_key("\"al\\ice\"@example.test", "alice@example.test");
    expect_key("\"a b\"@example.test", "a b@example.test");
    expect_key("\"a@b\"@example.test", "a@b@example.test");
    expect_key("\"q\\\"uote\\\\\"@example.test", "q\"uote\\@example.test");
    expect_key("\"..\"@example.test", "..@example.test");
    expect_key("!#$%&'*+-/=?^_`{|}~@example.test", "!#$%&'*+-/=?^_`{|}~@example.test");
    expect_key("user@[192.0.2.1]", "user@[192.0.2.1]");
    expect_key("user@[IPv6:2001:DB8::1]", "user@[ipv6:2001:db8::1]");
    expect_key("j\xc3\xb6rg@b\xc3\xbc"
               "cher.test",
               "j\xc3\xb6rg@xn--bcher-kva.test");
    expect_key("a@XN--BCHER-KVA.test", "a@xn--bcher-kva.test");
    expect_key("a@B\xc3\x9c"
               "CHER.test",
               "a@xn--bcher-kva.test");
}

Test(mail, address_bad_ones)
{
    static const char *const bad[] = {
        "",
        "@",
        "a",
        "a@",
        "@b",
        "a@@b",
        "a@b@c",
        ".a@b",
        "a.@b",
        "a..b@c",
        "a b@c",
        "a@b c",
        " a@b",
        "a@b ",
        "<a@b>",
        "a@-b",
        "a@b-",
        "a@b..c",
        "a@.b",
        "a@b.",
        "a@xn--b_c",
        "\"a@b",
        "\"a\"b@c",
        "a\"b\"@c",
        "\"a\\\"@c",
        "a@[",
        "a@[]",
        "a@[1.2.3.4",
        "a@[1 2]",
        "a@[1]x",
        "a,b@c",
        "a(b)@c",
        "a:b@c",
        "a;b@c",
        "a\\b@c",
        "a@b\n",
        "a\r\n@b",
        "\"a\nb\"@c",
        "\"a\x7f\"@c",
        "\xff@b",
        "a@\xff",
        "a@b/c",
        "a@\xc3\xbc_.test",
        "\"\\\xc3\xbc\"@b",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        expect_key(bad[i], NULL);
    struct address_key k;
    cr_expect(!address_key(SPAN("a\0b@c"), &k));
    cr_expect(!address_key(SPAN("\"a\0b\"@c"), &k));
    cr_expect(!address_key(SPAN("a@c\0d"), &k));
    cr_expect(!address_key(SPAN("a@c\0"), &k));
}

/* HAZARDS 8: shell characters are ordinary bytes of a quoted local part, and come out as they went in. */
Test(mail, address_local_part_is_data)
{
    static const char *const locals[] = {
        ";|$(){}'", "`reboot`", "| /bin/sh", "../../etc/passwd", "-rf", "a b c", "%s%n", "' OR 1=1 --", "@", "\\\""};
    for (size_t i = 0; i < sizeof(locals) / sizeof(*locals); i++) {
        struct buf b = {0};
        struct address_key k;
        address_put(&b, span_of(locals[i]), SPAN("example.test"));
        cr_assert(address_key(buf_span(&b), &k), "%s", locals[i]);
        char lower[64];
        size_t n = strlen(locals[i]);
        for (size_t j = 0; j <= n; j++)
            lower[j] = ascii_lower(locals[i][j]);
        cr_assert(span_eqs(address_key_local(&k), lower), "%s", locals[i]);
        cr_assert(span_eqs(address_key_domain(&k), "example.test"));
        buf_free(&b);
    }
}

Test(mail, address_lengths)
{
    char text[2048];
    struct address_key k;
    struct address a;
    static const struct {
        int local, domain_labels;
        bool good;
    } cases[] = {{1, 1, true}, {64, 3, true}, {255, 3, true}, {256, 3, true}, {257, 3, false}, {1, 5, false}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        size_t n = 0;
        for (int j = 0; j < cases[i].local; j++)
            text[n++] = 'x';
        text[n++] = '@';
        for (int j = 0; j < cases[i].domain_labels; j++) {
            memset(text + n, 'd', 62);
            n += 62;
            text[n++] = '.';
        }
        n--;
        cr_expect_eq(address_key((struct span){text, n}, &k), cases[i].good, "case %zu", i);
    }
    memset(text, 'x', sizeof(text));
    cr_expect(!address_parse((struct span){text, sizeof(text)}, &a));
    char label[80];
    snprintf(label, sizeof(label), "a@%064d", 0);
    cr_expect(!address_parse(span_of(label), &a));
    cr_expect(address_parse(span_from(span_sub(span_of(label), 0, 65), 0), &a));
}

Test(mail, address_detail)
{
    struct span base, detail;
    cr_expect(address_detail(SPAN("alice+lists"), &base, &detail) && span_eqs(base, "alice") &&
              span_eqs(detail, "lists"));
    cr_expect(address_detail(SPAN("alice+a+b"), &base, &detail) && span_eqs(base, "alice") && span_eqs(detail, "a+b"));
    cr_expect(address_detail(SPAN("alice+"), &base, &detail) && span_eqs(base, "alice") && detail.n == 0);
    cr_expect(!address_detail(SPAN("alice"), &base, &detail) && span_eqs(base, "alice"));
    cr_expect(!address_detail(SPAN("+x"), &base, &detail) && span_eqs(base, "+x"));
}

Test(mail, address_key_from_parts)
{
    struct address_key k;
    cr_expect(address_key_make(SPAN("A b"), SPAN("Example.TEST"), &k) &&
              span_eqs(address_key_span(&k), "a b@example.test"));
    cr_expect(!address_key_make(SPAN("a\n"), SPAN("example.test"), &k));
    cr_expect(!address_key_make(SPAN("a"), SPAN("exa mple"), &k));
}

Test(mail, domain_names)
{
    char out[ADDRESS_DOMAIN_MAX + 1];
    size_t n;
    cr_expect(domain_canonical(SPAN("Mail.Example.TEST"), out, &n) && strcmp(out, "mail.example.test") == 0 && n == 17);
    cr_expect(domain_canonical(SPAN("1.2.3.4"), out, &n));
    cr_expect(domain_canonical(SPAN("stra\xc3\x9f"
                                    "e.test"),
                               out, &n) &&
              strcmp(out, "xn--strae-oqa.test") == 0);
    cr_expect(domain_canonical(SPAN("My_Host.B\xc3\xbc"
                                    "cher.test"),
                               out, &n) &&
                  strcmp(out, "my_host.xn--bcher-kva.test") == 0,
              "an underscore, as in smtp/path.h");
    static const char *const bad[] = {"",    ".",   "a.",  ".a", "a..b",  "-a",      "a-",
                                      "xn--a_b", "b.\xc3\xbc_", "a b", "a/b", "*",  "a\xff", "\xc2\xa0"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        cr_expect(!domain_canonical(span_of(bad[i]), out, &n), "%s", bad[i]);
}
