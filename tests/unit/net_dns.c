/* Lookups through libunbound against a small DNS server in the test itself, on the same loop. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <unistd.h>

#include "dns_server.h"
#include "net/dns.h"

#define NAME_MX_FAR "\x02mx\x03" "far\x04test\x00"
static const struct zone_record zone[] = {
    {"far.test", DNS_MX, {"\x00\x14\x06" "backup\x03" "far\x04test\x00", 19}},
    {"far.test", DNS_MX, {"\x00\x0a" NAME_MX_FAR, 15}},
    {"null.test", DNS_MX, {"\x00\x00\x00", 3}},
    {"mx.far.test", DNS_A, {"\x7f\x01\x02\x03", 4}},
    {"mx.far.test", DNS_AAAA, {"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01", 16}},
    {"alias.test", TYPE_CNAME, {NAME_MX_FAR, 13}},
    {"odd.test", DNS_MX, {"\x00\x05\x07" "a\x00" "b c/.\x04test\x00", 16}},
    {"only-a.test", DNS_A, {"\x7f\x00\x00\x09", 4}},
};

/* ---- the asker ---- */

struct asker {
    struct loop *loop;
    struct dns_server server;
    struct dns_texts *texts;
    struct dns *dns;
    unsigned open;
};

static void asker_start(struct asker *a, bool local_zones, int64_t timeout)
{
    struct err err;
    a->loop = loop_new();
    dns_server_start(&a->server, a->loop, zone, COUNT_OF(zone));
    a->texts = dns_warm(NULL, &err);
    cr_assert(a->texts, "%s", err.text);
    const char *servers[] = {a->server.address};
    struct dns_options o = {.servers = servers, .server_count = 1, .local_zones = local_zones, .timeout_ms = timeout};
    a->dns = dns_new(a->loop, &o, a->texts, &err);
    cr_assert(a->dns, "%s", err.text);
}

static void asker_stop(struct asker *a)
{
    dns_free(&a->dns);
    dns_texts_free(&a->texts);
    dns_server_stop(&a->server);
    loop_free(&a->loop);
}

struct want {
    struct asker *asker;
    const char *name;
    enum dns_type type;
    enum dns_status status;
    size_t count;
    const char *canonical;
    void (*check)(const struct dns_answer *a);
};

static void on_answer(void *ctx, const struct dns_answer *a)
{
    const struct want *w = ctx;
    cr_expect_eq(a->status, w->status, "%s: %s", w->name, dns_status_text(a->status));
    cr_expect_eq(a->count, w->count, "%s: %zu records", w->name, a->count);
    cr_expect_not(a->secure);
    if (w->canonical)
        cr_expect_str_eq(a->canonical, w->canonical);
    if (w->check && a->status == DNS_FOUND)
        w->check(a);
    if (--w->asker->open == 0)
        loop_stop(w->asker->loop);
}

static void ask_all(struct asker *a, struct want *wants, size_t count)
{
    a->open = (unsigned)count;
    for (size_t i = 0; i < count; i++) {
        wants[i].asker = a;
        dns_ask(a->dns, span_of(wants[i].name), wants[i].type, on_answer, &wants[i]);
    }
    loop_run(a->loop);
    cr_assert_eq(a->open, 0);
}

static void check_mx(const struct dns_answer *a)
{
    bool first = false, second = false;
    for (size_t i = 0; i < a->count; i++) {
        struct dns_mx mx;
        cr_expect(dns_answer_mx(a, i, &mx));
        first |= mx.preference == 10 && strcmp(mx.host, "mx.far.test") == 0;
        second |= mx.preference == 20 && strcmp(mx.host, "backup.far.test") == 0;
    }
    cr_expect(first && second);
    cr_expect_not(dns_answer_mx(a, a->count, &(struct dns_mx){0}));
}

static void check_null(const struct dns_answer *a)
{
    struct dns_mx mx;
    cr_expect(dns_answer_mx(a, 0, &mx) && mx.host[0] == '\0');
}

static void check_odd(const struct dns_answer *a)
{
    cr_expect_not(dns_answer_mx(a, 0, &(struct dns_mx){0}), "a name with NUL, blank and slash is none");
}

static void check_a(const struct dns_answer *a)
{
    struct sockaddr_storage ss;
    cr_expect(dns_answer_address(a, 0, 25, &ss));
    struct sockaddr_in *in = (struct sockaddr_in *)&ss;
    cr_expect(in->sin_family == AF_INET && in->sin_addr.s_addr == htonl(0x7f010203) && in->sin_port == htons(25));
}

static void check_aaaa(const struct dns_answer *a)
{
    struct sockaddr_storage ss;
    cr_expect(dns_answer_address(a, 0, 25, &ss) && ss.ss_family == AF_INET6);
}

Test(net, dns_tells_answers_apart)
{
    struct asker a = {0};
    asker_start(&a, false, 0);
    struct want wants[] = {
        {NULL, "far.test", DNS_MX, DNS_FOUND, 2, "far.test", check_mx},
        {NULL, "FAR.test.", DNS_MX, DNS_FOUND, 2, NULL, check_mx},
        {NULL, "null.test", DNS_MX, DNS_FOUND, 1, NULL, check_null},
        {NULL, "odd.test", DNS_MX, DNS_FOUND, 1, NULL, check_odd},
        {NULL, "mx.far.test", DNS_A, DNS_FOUND, 1, NULL, check_a},
        {NULL, "mx.far.test", DNS_AAAA, DNS_FOUND, 1, NULL, check_aaaa},
        {NULL, "alias.test", DNS_A, DNS_FOUND, 1, "mx.far.test", check_a},
        {NULL, "only-a.test", DNS_MX, DNS_NODATA, 0, NULL, NULL},
        {NULL, "nowhere.test", DNS_MX, DNS_NXDOMAIN, 0, NULL, NULL},
        {NULL, "fail.test", DNS_MX, DNS_SERVFAIL, 0, NULL, NULL},
    };
    ask_all(&a, wants, COUNT_OF(wants));
    cr_assert_eq(dns_open(a.dns), 0);
    unsigned asked = a.server.questions;
    ask_all(&a, wants, 1);
    cr_assert_eq(a.server.questions, asked, "the second time it comes out of the cache");
    asker_stop(&a);
}

/* RFC1035:2.3.1 and RFC1035:2.3.4 */
Test(net, dns_refuses_what_is_no_name)
{
    struct asker a = {0};
    asker_start(&a, false, 0);
    char label[80], name[300];
    memset(label, 'a', 64);
    strcpy(label + 64, ".test");
    memset(name, 'a', sizeof name);
    for (size_t i = 50; i < 260; i += 50)
        name[i] = '.';
    name[260] = '\0';
    struct want wants[] = {
        {NULL, "", DNS_A, DNS_BAD_NAME, 0, NULL, NULL},         {NULL, ".", DNS_A, DNS_BAD_NAME, 0, NULL, NULL},
        {NULL, "a..test", DNS_A, DNS_BAD_NAME, 0, NULL, NULL},  {NULL, ".test", DNS_A, DNS_BAD_NAME, 0, NULL, NULL},
        {NULL, "a b.test", DNS_A, DNS_BAD_NAME, 0, NULL, NULL}, {NULL, "a\\000.test", DNS_A, DNS_BAD_NAME, 0, NULL, NULL},
        {NULL, "b\xc3\xbc.test", DNS_A, DNS_BAD_NAME, 0, NULL, NULL}, {NULL, label, DNS_A, DNS_BAD_NAME, 0, NULL, NULL},
        {NULL, name, DNS_A, DNS_BAD_NAME, 0, NULL, NULL},
    };
    ask_all(&a, wants, COUNT_OF(wants));
    cr_assert_eq(a.server.questions, 0);
    asker_stop(&a);
}

Test(net, dns_late_and_forgotten)
{
    struct asker a = {0};
    asker_start(&a, false, 300);
    a.server.silent = true;
    struct want late = {NULL, "far.test", DNS_MX, DNS_TIMEOUT, 0, NULL, NULL};
    struct dns_query *q = dns_ask(a.dns, SPAN("other.test"), DNS_A, on_answer, NULL);
    dns_forget(&q);
    cr_assert_null(q);
    ask_all(&a, &late, 1);
    cr_assert_gt(dns_open(a.dns), 0, "the library still works on them");
    asker_stop(&a);
}

/* Local zones: .test is answered by the library itself, and nobody is asked. */
Test(net, dns_local_zones)
{
    struct asker a = {0};
    asker_start(&a, true, 0);
    struct want w = {NULL, "far.test", DNS_MX, DNS_NXDOMAIN, 0, NULL, NULL};
    ask_all(&a, &w, 1);
    cr_assert_eq(a.server.questions, 0);
    asker_stop(&a);
}

Test(net, dns_refuses_bad_settings)
{
    struct err err;
    cr_assert_null(dns_warm("/nonexistent/anchor", &err));
    cr_assert(strstr(err.text, "/nonexistent/anchor"));
    struct dns_texts *t = dns_warm(NULL, &err);
    struct loop *l = loop_new();
    static const char *const bad[] = {"", "localhost", "127.0.0.1@", "127.0.0.1@0x", "127.0.0.1@70000", "1.2.3", "127.0.0.1@5@3", "127.0.0.1@0"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct dns_options o = {.servers = &bad[i], .server_count = 1};
        struct dns *d = dns_new(l, &o, t, &err);
        if (strcmp(bad[i], "127.0.0.1@") != 0) /* no port is the usual port */
            cr_expect_null(d, "%s", bad[i]);
        dns_free(&d);
    }
    dns_texts_free(&t);
    loop_free(&l);
}

/* DNSSEC: with an anchor for the root, an unsigned answer under a signed root is bogus, never "found". */
Test(net, dns_bogus_is_told)
{
    char path[] = "/tmp/waypost-anchor-XXXXXX";
    int fd = mkstemp(path);
    static const char text[] = "; the root\n. IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D ; a comment\n";
    cr_assert_eq(write(fd, text, sizeof text - 1), (ssize_t)sizeof text - 1);
    close(fd);
    struct asker a = {0};
    struct err err;
    asker_start(&a, false, 0);
    dns_free(&a.dns);
    dns_texts_free(&a.texts);
    a.texts = dns_warm(path, &err);
    cr_assert(a.texts, "%s", err.text);
    const char *servers[] = {a.server.address};
    struct dns_options o = {.servers = servers, .server_count = 1, .timeout_ms = 20000};
    a.dns = dns_new(a.loop, &o, a.texts, &err);
    cr_assert(a.dns, "%s", err.text);
    struct want w = {NULL, "far.test", DNS_MX, DNS_BOGUS, 0, NULL, NULL};
    ask_all(&a, &w, 1);
    asker_stop(&a);
    unlink(path);
}

Test(net, dns_names_from_the_wire)
{
    static const struct {
        struct span wire;
        const char *text; /* NULL: refused */
    } cases[] = {
        {{"\x03" "far\x04test\x00", 10}, "far.test"}, {{"\x00", 1}, ""},          {{"", 0}, NULL},
        {{"\x03" "fa", 3}, NULL},                     {{"\x03" "far", 4}, NULL}, {{"\x03" "far\x00x", 6}, NULL},
        {{"\xc0\x0c", 2}, NULL},                      {{"\x03" "f.r\x00", 5}, NULL}, {{"\x02" "a\n\x00", 4}, NULL},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char out[DNS_NAME_MAX + 1];
        bool ok = dns_name_text(cases[i].wire, out);
        cr_expect_eq(ok, cases[i].text != NULL, "case %zu", i);
        if (ok)
            cr_expect_str_eq(out, cases[i].text);
    }
}
