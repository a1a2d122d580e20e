/* The relay's pure parts: the order of hosts, domains as A-labels, content in pieces; and routes that need no DNS. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "relay/content.h"
#include "relay/route.h"
#include "relay/wire.h"

/* RFC5321:5.1: by preference, equal ones by chance; our own name and what is no better are dropped. */
Test(relay, route_order)
{
    static const struct {
        const char *in; /* preference, shuffle, host; one letter each */
        const char *out;
        bool loop;
    } cases[] = {
        {"", "", false},
        {"30c20b10a", "abc", false},
        {"11a12b10c", "cab", false},         /* the shuffle decides among equals */
        {"20m10a30b", "a", true},
        {"10m10a20b", "", true},             /* what is equal to us goes, too */
        {"10m", "", true},
        {"10a20M30b", "a", true},            /* names are compared without case */
        {"30m10a20m", "a", true},            /* our best preference counts */
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct route_mx list[4] = {0};
        size_t n = strlen(cases[i].in) / 3;
        bool loop;
        char got[8] = "";
        for (size_t k = 0; k < n; k++) {
            const char *p = cases[i].in + 3 * k;
            list[k].preference = (uint16_t)(p[0] - '0');
            list[k].shuffle = (uint32_t)(p[1] - '0');
            list[k].host[0] = p[2];
        }
        size_t left = route_order(list, n, "m", &loop);
        for (size_t k = 0; k < left; k++)
            got[k] = list[k].host[0];
        cr_expect_str_eq(got, cases[i].out, "case %zu: %s", i, got);
        cr_expect_eq(loop, cases[i].loop, "case %zu", i);
    }
}

struct seen {
    struct loop *loop;
    char name[300];
    size_t count;
    struct outcome why;
};

static void on_host(void *ctx, const struct route_host *h)
{
    struct seen *s = ctx;
    snprintf(s->name, sizeof s->name, "%s", h->name);
    s->count = h->count;
}

static void on_end(void *ctx, const struct outcome *why)
{
    struct seen *s = ctx;
    s->why = *why;
}

/* RFC5321:4.1.3 */
Test(relay, route_of_literals)
{
    static const struct {
        const char *domain;
        bool good;
    } cases[] = {{"[127.0.0.1]", true}, {"[IPv6:::1]", true}, {"[ipv6:2001:db8::1]", true}, {"[127.0.0.1", false}, {"[]", false}, {"[host.test]", false}, {"[", false}};
    static const struct route_ops ops = {on_host, on_end};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct seen s = {.loop = loop_new()};
        struct route_want w = {.domain = span_of(cases[i].domain), .own = "us.test", .port = 25};
        struct route *r = route_new(s.loop, NULL, &w, &ops, &s);
        route_next(r);
        loop_run(s.loop);
        if (cases[i].good)
            cr_expect(s.count == 1 && strcmp(s.name, cases[i].domain) == 0, "%s", cases[i].domain);
        else
            cr_expect(s.why.kind == OUTCOME_FAILED && s.why.subject == 1 && s.why.detail == 2, "%s", cases[i].domain);
        if (cases[i].good) { /* there is no second host */
            route_next(r);
            loop_run(s.loop);
            cr_expect_eq(s.why.kind, OUTCOME_DONE);
        }
        route_free(&r);
        loop_free(&s.loop);
    }
}

/* RFC6531:3.2 */
Test(relay, wire_domains_and_addresses)
{
    static const char *const domains[][2] = {
        {"Far.Test", "far.test"}, {"b\xc3\xbc" "cher.test", "xn--bcher-kva.test"}, {"B\xc3\x9c" "CHER.test", ""}, {"stra\xc3\x9f" "e.test", "xn--strae-oqa.test"},
        {"[127.0.0.1]", "[127.0.0.1]"}, {"", ""}, {"\xff.test", ""},
    };
    static const char *const addresses[][2] = {
        {"A@Far.Test", "A@Far.Test"}, {"j\xc3\xbc@far.test", "j\xc3\xbc@far.test"}, {"me@b\xc3\xbc" "cher.test", "me@xn--bcher-kva.test"}, {"postmaster", "postmaster"},
    };
    struct arena a = {0};
    for (size_t i = 0; i < COUNT_OF(domains); i++) {
        struct span got = wire_domain(&a, span_of(domains[i][0]));
        if (i == 2 && got.n) /* an upper case U-label: mapped or refused, as the library pleases, never passed on */
            cr_expect(span_is_ascii(got));
        else
            cr_expect(span_eqs(got, domains[i][1]), "%s: %.*s", domains[i][0], SPANV(got));
    }
    for (size_t i = 0; i < COUNT_OF(addresses); i++) {
        struct span got = wire_address(&a, span_of(addresses[i][0]));
        cr_expect(span_eqs(got, addresses[i][1]), "%s: %.*s", addresses[i][0], SPANV(got));
    }
    arena_free(&a);
}

static char room[CONTENT_CHUNK];

static size_t read_all(struct content *c)
{
    size_t total = 0;
    struct span piece;
    struct err err;
    content_rewind(c);
    do {
        cr_assert_eq(content_next(c, room, &piece, &err), 0, "%s", err.text);
        total += piece.n;
        cr_assert_leq(piece.n, CONTENT_CHUNK);
    } while (!content_at_end(c));
    return total;
}

Test(relay, content_in_memory_and_in_a_file)
{
    struct content c;
    struct err err;
    cr_assert_eq(content_open(&c, SPAN("Received: x\r\n"), SPAN("Subject: \xc3\xbc\r\n"), -1, &err), 0);
    cr_assert_eq(read_all(&c), 26);
    cr_assert_eq(content_has_8bit(&c, 13, room, &err), 0);
    cr_assert_eq(content_has_8bit(&c, UINT64_MAX, room, &err), 1);
    content_close(&c);

    char path[] = "/tmp/waypost-content-XXXXXX";
    int fd = mkstemp(path);
    unlink(path);
    cr_assert_eq(ftruncate(fd, 100000), 0);
    cr_assert_eq(pwrite(fd, "\xff", 1, 70000), 1);
    cr_assert_eq(content_open(&c, SPAN_NONE, SPAN_NONE, fd, &err), 0);
    cr_assert_eq(read_all(&c), 100000);
    cr_assert_eq(content_has_8bit(&c, 70000, room, &err), 0);
    cr_assert_eq(content_has_8bit(&c, 70001, room, &err), 1);
    cr_assert_eq(ftruncate(fd, 50000), 0); /* must never happen; must never look like the end */
    struct span piece;
    int r = 0;
    for (int i = 0; i < 10 && r == 0; i++)
        r = content_next(&c, room, &piece, &err);
    cr_assert_eq(r, -1);
    content_close(&c);
    cr_assert_eq(content_open(&c, SPAN_NONE, SPAN_NONE, open("/dev/null", O_RDONLY | O_CLOEXEC), &err), -1);
    content_close(&c);
}
