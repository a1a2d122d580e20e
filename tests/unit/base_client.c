/* Who a client is for the limits, and which network an address belongs to. */
#include <criterion/criterion.h>

#include "base/client.h"
#include "base/util.h"

static struct sockaddr_storage address(const char *text)
{
    struct sockaddr_storage a;
    cr_assert(client_address(span_of(text), &a), "%s", text);
    return a;
}

static const char *shown(const char *text)
{
    static char out[CLIENT_TEXT_MAX];
    uint64_t key;
    cr_assert(client_key_parse(span_of(text), &key), "%s", text);
    cr_assert_neq(key, 0);
    client_text(key, out);
    return out;
}

Test(client, ipv4_is_one_address_and_ipv6_a_network_of_64_bits)
{
    cr_expect_str_eq(shown("192.0.2.1"), "192.0.2.1");
    cr_expect_str_eq(shown("::ffff:192.0.2.1"), "192.0.2.1");
    cr_expect_str_eq(shown("255.255.255.255"), "255.255.255.255");
    cr_expect_str_eq(shown("0.0.0.0"), "0.0.0.0");
    cr_expect_str_eq(shown("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
    cr_expect_str_eq(shown("::1"), "::/64");
}

Test(client, what_is_no_address_is_none)
{
    static const char *const bad[] = {"", "192.0.2", "192.0.2.1.", "1.2.3.4/32", "::g", "2001:db8::1%eth0", " 1.2.3.4"};
    uint64_t key;
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        cr_expect_not(client_key_parse(span_of(bad[i]), &key), "\"%s\"", bad[i]);
    cr_expect_not(client_key_parse(SPAN("192.0.2.1\0x"), &key));
}

static bool in(const char *network, const char *who)
{
    struct network n;
    struct sockaddr_storage a = address(who);
    cr_assert(network_parse(span_of(network), &n), "%s", network);
    return networks_have(&n, 1, &a);
}

Test(client, networks_have_what_their_mask_says)
{
    cr_expect(in("192.0.2.0/24", "192.0.2.255"));
    cr_expect_not(in("192.0.2.0/24", "192.0.3.0"));
    cr_expect(in("192.0.2.7/24", "192.0.2.1")); /* bits behind the mask don't count */
    cr_expect(in("192.0.2.128/25", "192.0.2.128"));
    cr_expect_not(in("192.0.2.128/25", "192.0.2.127"));
    cr_expect(in("192.0.2.1", "192.0.2.1"));
    cr_expect_not(in("192.0.2.1", "192.0.2.2"));
    cr_expect(in("192.0.2.1", "::ffff:192.0.2.1"));
    cr_expect(in("0.0.0.0/0", "203.0.113.9"));
    cr_expect_not(in("0.0.0.0/0", "2001:db8::1"));
    cr_expect(in("::/0", "2001:db8::1"));
    cr_expect(in("2001:db8::/33", "2001:db8:7fff::"));
    cr_expect_not(in("2001:db8::/33", "2001:db8:8000::"));
}

Test(client, what_is_no_network_is_none)
{
    static const char *const bad[] = {"", "/8", "192.0.2.0/", "192.0.2.0/33", "192.0.2.0/-1", "::/129", "192.0.2.0/8/8", "x"};
    struct network n;
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        cr_expect_not(network_parse(span_of(bad[i]), &n), "\"%s\"", bad[i]);
}
