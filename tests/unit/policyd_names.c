/* What policyd finds out about names, against a small DNS server on the test's own loop. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdio.h>

#include "dns_server.h"
#include "policyd/names.h"

#define PTR_GOOD "\x04" "good\x04test\x00"
#define PTR_LIAR "\x04" "liar\x04test\x00"
#define PTR_FAIL "\x04" "fail\x04test\x00"
#define IP6_REVERSE "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
static const struct zone_record zone[] = {
    {"1.2.0.192.in-addr.arpa", DNS_PTR, {PTR_GOOD, 11}},
    {"good.test", DNS_A, {"\xc0\x00\x02\x01", 4}},
    {"2.2.0.192.in-addr.arpa", DNS_PTR, {PTR_LIAR, 11}},
    {"liar.test", DNS_A, {"\xc0\x00\x02\x63", 4}},
    {"3.2.0.192.in-addr.arpa", DNS_PTR, {PTR_FAIL, 11}},
    {"4.2.0.192.in-addr.arpa", DNS_PTR, {PTR_FAIL, 11}},
    {"4.2.0.192.in-addr.arpa", DNS_PTR, {PTR_GOOD, 11}},
    {"good.test", DNS_A, {"\xc0\x00\x02\x04", 4}},
    {"5.2.0.192.in-addr.arpa", DNS_PTR, {"\x07" "a\x00" "b\r\n/x\x04test\x00", 14}},
    {IP6_REVERSE, DNS_PTR, {PTR_GOOD, 11}},
    {"good.test", DNS_AAAA, {"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01", 16}},
};

struct world {
    struct loop *loop;
    struct dns_server server;
    struct dns_texts *texts;
    struct dns *dns;
    struct names *names;
    unsigned open;
};

static void begin(struct world *w, int64_t timeout)
{
    struct err err;
    *w = (struct world){.loop = loop_new()};
    dns_server_start(&w->server, w->loop, zone, COUNT_OF(zone));
    w->texts = dns_warm(NULL, &err);
    const char *servers[] = {w->server.address};
    struct dns_options o = {.servers = servers, .server_count = 1, .local_zones = false, .timeout_ms = timeout};
    w->dns = dns_new(w->loop, &o, w->texts, &err);
    cr_assert(w->dns, "%s", err.text);
    w->names = names_new(w->loop, w->dns);
}

static void end(struct world *w)
{
    names_free(&w->names);
    dns_free(&w->dns);
    dns_texts_free(&w->texts);
    dns_server_stop(&w->server);
    loop_free(&w->loop);
}

struct want {
    struct world *w;
    const char *host, *address; /* host NULL: the client's names */
    enum name_kind kind;
    const char *name;
    unsigned called;
};

static void on_names(void *ctx, enum name_kind kind, struct span name)
{
    struct want *x = ctx;
    x->called++;
    cr_expect_eq(kind, x->kind, "%s %s: %d", x->host ? x->host : "", x->address, kind);
    cr_expect(span_eqs(name, x->name), "%s %s: \"%.*s\"", x->host ? x->host : "", x->address, SPANV(name));
    if (--x->w->open == 0)
        loop_stop(x->w->loop);
}

static void ask_all(struct world *w, struct want *list, size_t count)
{
    w->open = (unsigned)count;
    for (size_t i = 0; i < count; i++) {
        list[i].w = w;
        if (list[i].host)
            names_of_host(w->names, span_of(list[i].host), span_of(list[i].address), on_names, &list[i]);
        else
            names_of_client(w->names, span_of(list[i].address), on_names, &list[i]);
    }
    if (w->open)
        loop_run(w->loop);
    for (size_t i = 0; i < count; i++)
        cr_expect_eq(list[i].called, 1, "%s was answered %u times", list[i].address, list[i].called);
}

/* RFC1035:3.5, RFC3596:2.5: the zone above has the names that addresses of both kinds are asked by. */
Test(names, a_client_is_known_by_names_that_lead_back)
{
    struct world w;
    struct want list[] = {
        {.address = "192.0.2.1", .kind = NAME_MATCHED, .name = "good.test"},
        {.address = "192.0.2.2", .kind = NAME_UNMATCHED, .name = "liar.test"},
        {.address = "192.0.2.3", .kind = NAME_UNKNOWN, .name = "fail.test"},
        {.address = "192.0.2.4", .kind = NAME_MATCHED, .name = "good.test"}, /* one of several, and another fails */
        {.address = "192.0.2.5", .kind = NAME_NONE, .name = ""},             /* what it has is no host name */
        {.address = "192.0.2.9", .kind = NAME_NONE, .name = ""},
        {.address = "2001:db8::1", .kind = NAME_MATCHED, .name = "good.test"},
        {.address = "2001:db8::2", .kind = NAME_NONE, .name = ""},
        {.address = "nonsense", .kind = NAME_UNKNOWN, .name = ""},
    };
    begin(&w, 0);
    ask_all(&w, list, COUNT_OF(list));
    end(&w);
}

Test(names, a_host_exists_or_not_and_leads_to_the_client_or_not)
{
    struct world w;
    struct want list[] = {
        {.host = "good.test", .address = "192.0.2.1", .kind = NAME_MATCHED, .name = "good.test"},
        {.host = "GOOD.test", .address = "2001:db8::1", .kind = NAME_MATCHED, .name = "GOOD.test"},
        {.host = "good.test", .address = "192.0.2.77", .kind = NAME_UNMATCHED, .name = "good.test"},
        {.host = "liar.test", .address = "2001:db8::1", .kind = NAME_UNMATCHED, .name = "liar.test"},
        {.host = "nobody.test", .address = "192.0.2.1", .kind = NAME_NONE, .name = "nobody.test"},
        {.host = "fail.test", .address = "192.0.2.1", .kind = NAME_UNKNOWN, .name = "fail.test"},
        {.host = "no name", .address = "192.0.2.1", .kind = NAME_NONE, .name = "no name"},
    };
    begin(&w, 0);
    ask_all(&w, list, COUNT_OF(list));
    end(&w);
}

/* One lookup serves all who ask meanwhile, and those who ask soon after. */
Test(names, equal_questions_share_one_lookup)
{
    struct world w;
    struct want list[50], again = {.address = "192.0.2.1", .kind = NAME_MATCHED, .name = "good.test"};
    for (size_t i = 0; i < COUNT_OF(list); i++)
        list[i] = again;
    begin(&w, 0);
    ask_all(&w, list, COUNT_OF(list));
    unsigned asked = w.server.questions;
    cr_expect_leq(asked, 8, "%u questions", asked);
    w.server.silent = true;
    ask_all(&w, &again, 1);
    cr_expect_eq(w.server.questions, asked);
    end(&w);
}

Test(names, silence_is_not_an_answer)
{
    struct world w;
    struct want list[] = {{.address = "192.0.2.1", .kind = NAME_UNKNOWN, .name = ""},
                          {.host = "good.test", .address = "192.0.2.1", .kind = NAME_UNKNOWN, .name = "good.test"}};
    begin(&w, 50);
    w.server.silent = true;
    ask_all(&w, list, COUNT_OF(list));
    end(&w);
}

/* More clients than are kept: everyone is answered, memory stays bounded, and a free in the middle of lookups is clean. */
Test(names, a_crowd_is_answered)
{
    struct world w;
    static struct want list[NAMES_KEPT_MAX + 500];
    static char texts[COUNT_OF(list)][20];
    begin(&w, 20);
    w.server.silent = true;
    w.open = COUNT_OF(list);
    for (size_t i = 0; i < COUNT_OF(list); i++) {
        snprintf(texts[i], sizeof texts[i], "10.1.%zu.%zu", i / 250, i % 250);
        list[i] = (struct want){.w = &w, .address = texts[i], .kind = NAME_UNKNOWN, .name = ""};
        names_of_client(w.names, span_of(texts[i]), on_names, &list[i]);
    }
    cr_expect_leq(w.open, NAMES_KEPT_MAX, "what is beyond the limit is answered at once");
    loop_run(w.loop);
    cr_expect_eq(w.open, 0);
    w.open = 1;
    struct want last = {.w = &w, .address = "192.0.2.1", .kind = NAME_UNKNOWN, .name = ""};
    names_of_client(w.names, span_of(last.address), on_names, &last);
    cr_expect_eq(last.called, 0);
    end(&w);
}
