/* See endpoint.h. One entry for each token: it waits for its turn, runs (addresses, then the call), and is kept when the
 * token was good. */
#include "tokend/endpoint.h"

#include <sodium.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/url.h"
#include "net/https.h"

#define HASH crypto_generichash_BYTES
#define ADDRESSES_MAX 8

struct client {
    struct https *https;
    unsigned users; /* entries that run with it */
    bool current;
};

struct endpoint {
    struct loop *loop;
    struct dns *dns;
    struct client *client;
    struct map entries; /* those that may be joined or used, by hash */
    struct link waiting, running, kept;
    size_t waiting_n, running_n, kept_n;
    uint8_t secret[crypto_generichash_KEYBYTES];
};

struct asker {
    struct link link;
    endpoint_fn *fn;
    void *ctx;
};

struct entry {
    struct link link; /* of waiting, running or kept */
    size_t *counted;
    struct endpoint *endpoint;
    uint8_t hash[HASH];
    struct link askers;
    /* until it is decided */
    const struct conf *conf;
    struct buf token;
    struct timer *deadline;
    struct client *client;
    struct dns_query *a, *aaaa;
    unsigned lookups; /* under way */
    enum dns_status dns;
    struct sockaddr_storage addresses[ADDRESSES_MAX];
    size_t address_count;
    struct https_call *call;
    /* kept */
    struct introspection facts;
    int64_t until; /* loop ms */
};

struct token_rules endpoint_rules(const struct conf *c)
{
    return (struct token_rules){.issuer = c->oauth.issuer,
                                .audience = c->oauth.audience,
                                .claim = c->oauth.claim,
                                .scope = c->oauth.scope,
                                .leeway = c->oauth.leeway / 1000};
}

/* ---- clients: the old one lives until its last call has ended ---- */

static struct client *client_new(struct loop *l, struct span ca_pem)
{
    struct client *c = mem_alloc(sizeof *c);
    *c = (struct client){.https = https_new(l, ca_pem), .current = true};
    return c;
}

static void client_let_go(struct client *c)
{
    if (c->users || c->current)
        return;
    https_free(&c->https);
    mem_free(&c);
}

/* ---- entries ---- */

static void file(struct entry *e, struct link *list, size_t *count)
{
    if (e->counted)
        *e->counted -= 1;
    list_del(&e->link);
    list_add_tail(list, &e->link);
    e->counted = count;
    *count += 1;
}

/* Everything but what is kept of an answer. */
static void undo_work(struct entry *e)
{
    timer_free(&e->deadline);
    dns_forget(&e->a);
    dns_forget(&e->aaaa);
    https_forget(&e->call);
    if (e->token.p)
        sodium_memzero(e->token.p, e->token.cap);
    buf_free(&e->token);
    conf_unref(&e->conf);
    if (e->client) {
        e->client->users--;
        client_let_go(e->client);
        e->client = NULL;
    }
}

static struct span hash_of(const struct entry *e)
{
    return span_make(e->hash, HASH);
}

static void entry_free(struct entry *e)
{
    undo_work(e);
    if (map_get(&e->endpoint->entries, hash_of(e)) == e)
        map_del(&e->endpoint->entries, hash_of(e));
    *e->counted -= 1;
    list_del(&e->link);
    LIST_EACH(&e->askers, l)
    {
        struct asker *a = container_of(l, struct asker, link);
        mem_free(&a);
    }
    mem_free(&e);
}

static void run_next(struct endpoint *p);

/* How long the answer may be used: RFC7662:4 warns of keeping it longer than the token lives. */
static int64_t keep_for(const struct introspection *f)
{
    int64_t ms = ENDPOINT_KEEP_MS;
    if (!f || !f->active)
        return 0;
    return f->expires ? MIN_OF(ms, f->expires * 1000 - clock_wall()) : ms;
}

static void keep_or_free(struct entry *e, const struct introspection *facts)
{
    struct endpoint *p = e->endpoint;
    int64_t ms = keep_for(facts);
    if (ms <= 0 || map_get(&p->entries, hash_of(e)) != e) {
        entry_free(e);
        return;
    }
    e->facts = *facts;
    e->until = loop_now(p->loop) + ms;
    file(e, &p->kept, &p->kept_n);
    if (p->kept_n > ENDPOINT_KEPT_MAX)
        entry_free(container_of(p->kept.next, struct entry, link));
}

static void decided(struct entry *e, const struct introspection *facts, const char *why)
{
    struct endpoint *p = e->endpoint;
    struct link askers;
    list_init(&askers);
    LIST_EACH(&e->askers, l)
    {
        list_del(l);
        list_add_tail(&askers, l);
    }
    undo_work(e);
    keep_or_free(e, facts);
    LIST_EACH(&askers, l)
    {
        struct asker *a = container_of(l, struct asker, link);
        a->fn(a->ctx, facts, why);
        mem_free(&a);
    }
    run_next(p);
}

/* ---- the call ---- */

static const char *wrong_status(unsigned status, char *out, size_t size)
{
    if (status == 401 || status == 403) /* RFC7662:2.3 */
        snprintf(out, size,
                 "the introspection endpoint does not let us ask (HTTP %u), check introspection-client and "
                 "introspection-secret-file",
                 status);
    else
        snprintf(out, size, "the introspection endpoint says HTTP %u", status);
    return out;
}

static void on_answer(void *ctx, unsigned status, struct span body, const char *why)
{
    struct entry *e = ctx;
    struct token_rules rules = endpoint_rules(e->conf);
    struct introspection facts;
    char text[300];
    e->call = NULL;
    if (why) {
        snprintf(text, sizeof text, "the introspection endpoint: %.200s", why);
        decided(e, NULL, text);
    } else if (status != 200) {
        decided(e, NULL, wrong_status(status, text, sizeof text));
    } else if (!introspect_read(body, &rules, clock_wall() / 1000, &facts)) {
        decided(e, NULL, "the introspection endpoint's answer is none (RFC 7662)");
    } else {
        decided(e, &facts, NULL);
    }
}

/* RFC6749:2.3.1: both are encoded as in a form before they become a login of HTTP Basic. */
static void call(struct entry *e, const struct url *u)
{
    const struct conf *c = e->conf;
    struct buf host = {0}, user = {0}, password = {0}, form = {0};
    buf_add(&host, u->host);
    https_encode(&user, span_of(c->oauth.introspection_client));
    https_encode(&password, span_of(c->oauth.introspection_secret));
    https_form(&form, "token", buf_span(&e->token));
    https_form(&form, "token_type_hint", SPAN("access_token"));
    struct https_post p = {.url = c->oauth.introspection,
                           .host = buf_cstr(&host),
                           .port = u->port,
                           .addresses = e->addresses,
                           .address_count = e->address_count,
                           .user = buf_cstr(&user),
                           .password = buf_cstr(&password),
                           .form = buf_span(&form),
                           .answer_max = INTROSPECT_ANSWER_MAX,
                           .timeout_ms = c->oauth.introspection_timeout};
    e->call = https_post(e->client->https, &p, on_answer, e);
    sodium_memzero(form.p, form.cap);
    if (password.p)
        sodium_memzero(password.p, password.cap);
    buf_free(&host);
    buf_free(&user);
    buf_free(&password);
    buf_free(&form);
}

/* ---- addresses ---- */

static void take_addresses(struct entry *e, const struct dns_answer *a, uint16_t port)
{
    for (size_t i = 0; i < a->count && e->address_count < ADDRESSES_MAX; i++)
        if (dns_answer_address(a, i, port, &e->addresses[e->address_count]))
            e->address_count++;
}

static void looked_up(struct entry *e, const struct dns_answer *a)
{
    struct url u;
    char text[320];
    url_parse(span_of(e->conf->oauth.introspection), &u);
    if (a->status == DNS_FOUND)
        take_addresses(e, a, u.port);
    else if (a->status != DNS_NODATA)
        e->dns = a->status;
    if (--e->lookups)
        return;
    if (e->address_count) {
        call(e, &u);
        return;
    }
    snprintf(text, sizeof text, "the introspection endpoint: %.*s: %s", SPANV(u.host), dns_status_text(e->dns));
    decided(e, NULL, text);
}

static void on_a(void *ctx, const struct dns_answer *a)
{
    ((struct entry *)ctx)->a = NULL;
    looked_up(ctx, a);
}

static void on_aaaa(void *ctx, const struct dns_answer *a)
{
    ((struct entry *)ctx)->aaaa = NULL;
    looked_up(ctx, a);
}

/* ---- turns ---- */

static void on_deadline(void *ctx)
{
    struct entry *e = ctx;
    decided(e, NULL, e->lookups ? "the introspection endpoint's name is not found in time"
                                : "the introspection endpoint does not answer in time");
}

static void run(struct entry *e)
{
    struct endpoint *p = e->endpoint;
    struct url u;
    file(e, &p->running, &p->running_n);
    e->client = p->client;
    e->client->users++;
    url_parse(span_of(e->conf->oauth.introspection), &u);
    if (u.is_address || u.is_loopback) { /* libcurl knows what localhost is */
        call(e, &u);
        return;
    }
    e->lookups = 2;
    e->a = dns_ask(p->dns, u.host, DNS_A, on_a, e);
    e->aaaa = dns_ask(p->dns, u.host, DNS_AAAA, on_aaaa, e);
}

static void run_next(struct endpoint *p)
{
    while (p->running_n < ENDPOINT_CALLS_MAX && !list_empty(&p->waiting))
        run(container_of(p->waiting.next, struct entry, link));
}

/* ---- questions ---- */

static struct entry *entry_new(struct endpoint *p, const struct conf *c, struct span token, const uint8_t *hash)
{
    struct entry *e = mem_alloc(sizeof *e);
    *e = (struct entry){.endpoint = p, .conf = conf_ref(c), .dns = DNS_NODATA};
    memcpy(e->hash, hash, HASH);
    list_init(&e->askers);
    buf_add(&e->token, token);
    e->deadline = timer_new(p->loop, on_deadline, e);
    timer_start(e->deadline, c->oauth.introspection_timeout);
    file(e, &p->waiting, &p->waiting_n);
    map_put(&p->entries, hash_of(e), e);
    return e;
}

void endpoint_ask(struct endpoint *p, const struct conf *c, struct span token, endpoint_fn *fn, void *ctx)
{
    uint8_t hash[HASH];
    crypto_generichash(hash, sizeof hash, (const unsigned char *)token.p, token.n, p->secret, sizeof p->secret);
    struct entry *e = map_get(&p->entries, span_make(hash, HASH));
    if (e && e->counted == &p->kept_n && e->until > loop_now(p->loop)) {
        fn(ctx, &e->facts, NULL);
        return;
    }
    if (e && e->counted == &p->kept_n) {
        entry_free(e);
        e = NULL;
    }
    if (!e && p->waiting_n >= ENDPOINT_WAITING_MAX) {
        fn(ctx, NULL, "too many tokens wait for the introspection endpoint");
        return;
    }
    if (!e)
        e = entry_new(p, c, token, hash);
    struct asker *a = mem_alloc(sizeof *a);
    *a = (struct asker){.fn = fn, .ctx = ctx};
    list_add_tail(&e->askers, &a->link);
    run_next(p);
}

struct endpoint *endpoint_new(struct loop *l, struct dns *dns, struct span ca_pem)
{
    struct endpoint *p = mem_alloc(sizeof *p);
    *p = (struct endpoint){.loop = l, .dns = dns, .client = client_new(l, ca_pem)};
    randombytes_buf(p->secret, sizeof p->secret);
    list_init(&p->waiting);
    list_init(&p->running);
    list_init(&p->kept);
    return p;
}

void endpoint_changed(struct endpoint *p, struct span ca_pem)
{
    LIST_EACH(&p->kept, l)
    entry_free(container_of(l, struct entry, link));
    map_free(&p->entries); /* who runs or waits by the old rules is joined by nobody, and not kept */
    p->client->current = false;
    client_let_go(p->client);
    p->client = client_new(p->loop, ca_pem);
}

void endpoint_free(struct endpoint **pp)
{
    struct endpoint *p = *pp;
    if (!p)
        return;
    struct link *lists[] = {&p->waiting, &p->running, &p->kept};
    for (size_t i = 0; i < COUNT_OF(lists); i++)
        LIST_EACH(lists[i], l)
        entry_free(container_of(l, struct entry, link));
    map_free(&p->entries);
    p->client->current = false;
    client_let_go(p->client);
    sodium_memzero(p->secret, sizeof p->secret);
    mem_free(pp);
}
