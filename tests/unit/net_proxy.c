/* The PROXY protocol: headers of both versions, whole and byte by byte, and what is none. */
#include <criterion/criterion.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/util.h"
#include "net/proxy.h"

#define SIGN "\r\n\r\n\0\r\nQUIT\n"
#define SIX "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07"
#define MAPPED "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\x02\x07"

static void text_of(const struct proxy_header *h, char *out, size_t n)
{
    char address[INET6_ADDRSTRLEN] = "";
    unsigned port = 0;
    if (h->known && h->source.ss_family == AF_INET) {
        inet_ntop(AF_INET, &((const struct sockaddr_in *)&h->source)->sin_addr, address, sizeof address);
        port = ntohs(((const struct sockaddr_in *)&h->source)->sin_port);
    } else if (h->known) {
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)&h->source)->sin6_addr, address, sizeof address);
        port = ntohs(((const struct sockaddr_in6 *)&h->source)->sin6_port);
    }
    snprintf(out, n, h->known ? "%s %u" : "-", address, port);
}

static const struct {
    struct span header;
    const char *source;
} good[] = {
    {SPAN("PROXY TCP4 192.0.2.7 198.51.100.1 40000 25\r\n"), "192.0.2.7 40000"},
    {SPAN("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"), "255.255.255.255 65535"},
    {SPAN("PROXY TCP6 2001:db8::7 ::1 0 25\r\n"), "2001:db8::7 0"},
    {SPAN("PROXY TCP6 ::ffff:192.0.2.7 ::1 4 25\r\n"), "192.0.2.7 4"},
    {SPAN("PROXY UNKNOWN\r\n"), "-"},
    {SPAN("PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n"), "-"},
    {SPAN(SIGN "\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\x9c\x40\0\x19"), "192.0.2.7 40000"},
    {SPAN(SIGN "\x21\x21\0\x24" SIX SIX "\x9c\x40\0\x19"), "2001:db8::7 40000"},
    {SPAN(SIGN "\x21\x21\0\x24" MAPPED SIX "\x9c\x40\0\x19"), "192.0.2.7 40000"},
    /* TLVs behind the addresses */
    {SPAN(SIGN "\x21\x11\0\x16\xc0\0\x02\x07\xc6\x33\x64\x01\x9c\x40\0\x19\x04\0\x04" "abcd\x20\0\0"), "192.0.2.7 40000"},
    {SPAN(SIGN "\x20\0\0\0"), "-"},
    {SPAN(SIGN "\x20\x11\0\x03xyz"), "-"}, /* LOCAL: the rest is nobody's business */
    {SPAN(SIGN "\x21\0\0\0"), "-"},
};

Test(proxy, headers_whole_and_cut)
{
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        struct buf in = {0};
        struct proxy_header h;
        size_t used;
        char source[80];
        buf_add(&in, good[i].header);
        for (size_t n = 0; n < in.n; n++)
            cr_assert_eq((int)proxy_parse(span_sub(buf_span(&in), 0, n), &h, &used), PROXY_MORE, "%zu at %zu", i, n);
        buf_adds(&in, "EHLO c\r\n");
        cr_assert_eq((int)proxy_parse(buf_span(&in), &h, &used), PROXY_DONE, "%zu", i);
        cr_assert_eq(used, good[i].header.n, "%zu", i);
        text_of(&h, source, sizeof source);
        cr_assert_str_eq(source, good[i].source, "%zu", i);
        buf_free(&in);
    }
}

Test(proxy, what_is_none)
{
    static const struct span bad[] = {
        SPAN("EHLO client.test\r\n"),
        SPAN("proxy TCP4 192.0.2.7 198.51.100.1 40000 25\r\n"),
        SPAN("PROXY TCP4 192.0.2.7 198.51.100.1 40000 25\n"),
        SPAN("PROXY TCP4 192.0.2.7 198.51.100.1 40000\r\n"),
        SPAN("PROXY TCP4 192.0.2.7 198.51.100.1 40000 25 1\r\n"),
        SPAN("PROXY TCP4 192.0.2.7  198.51.100.1 40000 25\r\n"),
        SPAN("PROXY TCP4 192.0.2.07 198.51.100.1 40000 25\r\n"),
        SPAN("PROXY TCP4 192.0.2.7 198.51.100.1 65536 25\r\n"),
        SPAN("PROXY TCP4 192.0.2.7 198.51.100.1 040 25\r\n"),
        SPAN("PROXY TCP4 192.0.2.7 198.51.100.1 -1 25\r\n"),
        SPAN("PROXY TCP4 2001:db8::7 ::1 1 25\r\n"),
        SPAN("PROXY TCP6 192.0.2.7 ::1 1 25\r\n"),
        SPAN("PROXY TCP6 2001:db8::7\0 ::1 1 25\r\n"),
        SPAN("PROXY UDP4 192.0.2.7 198.51.100.1 4 25\r\n"),
        SPAN("PROXY \r\n"),
        SPAN("PROXY UNKNOWNX\r\n"),
        SPAN("\r\n\r\n\0\r\nQUIT\r"),
        SPAN(SIGN "\x11\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\x9c\x40\0\x19"), /* version 1 in its clothes */
        SPAN(SIGN "\x22\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\x9c\x40\0\x19"), /* no such command */
        SPAN(SIGN "\x21\x12\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\x9c\x40\0\x19"), /* datagrams */
        SPAN(SIGN "\x21\x41\0\0"),
        SPAN(SIGN "\x21\x11\0\x0b\xc0\0\x02\x07\xc6\x33\x64\x01\x9c\x40\0"), /* too short for its addresses */
        SPAN(SIGN "\x21\x11\0\x0e\xc0\0\x02\x07\xc6\x33\x64\x01\x9c\x40\0\x19\x04\0"), /* half a TLV */
        SPAN(SIGN "\x21\x11\0\x10\xc0\0\x02\x07\xc6\x33\x64\x01\x9c\x40\0\x19\x04\0\x02x"), /* a TLV longer than the header */
        SPAN(SIGN "\x21\x11\xff\xff\xc0\0\x02\x07"), /* longer than we wait for */
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct proxy_header h;
        size_t used;
        cr_assert_eq((int)proxy_parse(bad[i], &h, &used), PROXY_BAD, "%zu", i);
        cr_assert_not(h.known && used == 0);
    }
    struct buf endless = {0};
    struct proxy_header h;
    size_t used;
    buf_adds(&endless, "PROXY UNKNOWN ");
    while (endless.n < PROXY_V1_MAX)
        buf_addc(&endless, 'x');
    cr_assert_eq((int)proxy_parse(span_sub(buf_span(&endless), 0, PROXY_V1_MAX - 1), &h, &used), PROXY_MORE);
    cr_assert_eq((int)proxy_parse(buf_span(&endless), &h, &used), PROXY_BAD);
    buf_free(&endless);
}
