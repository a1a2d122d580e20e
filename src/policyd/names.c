/* The lookups behind policyd/names.h. A look begins with PTR records (a client) or with the name itself (a host); each name is asked
 * for the addresses of the client's family, all at once, and the first that matches decides. */
#include "policyd/names.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>

#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"

#define WAITING_MAX 1024 /* askers of one look */
#define HOST_KEY_MAX (DNS_NAME_MAX + 1 + INET6_ADDRSTRLEN)

struct asker {
    struct asker *next;
    names_fn *fn;
    void *ctx;
};

struct look;

/* One name being asked for its addresses. */
struct candidate {
    struct look *look;
    struct dns_query *query;
    char name[DNS_NAME_MAX + 1];
};

/* The lookups under way for one answer. */
struct look {
    struct kept *kept;
    struct dns_query *ptr;
    struct candidate *candidates;
    unsigned count, open;
    bool failed;  /* one of them got no usable answer */
    bool matters; /* a host: one of them exists */
};

/* An answer, or what will become one. */
struct kept {
    struct link age; /* oldest first; only those that are answered */
    struct names *names;
    char *key;
    size_t key_n;
    int family;
    uint8_t address[16];
    int64_t until;
    struct look *look; /* NULL: answered */
    struct asker *askers;
    unsigned waiting;
    bool host;
    enum name_kind kind;
    char *name;
};

struct names {
    struct loop *loop;
    struct dns *dns;
    struct map kept;
    struct link aged;
};

/* ---- what is kept ---- */

static void look_free(struct look **lp)
{
    struct look *l = *lp;
    if (!l)
        return;
    dns_forget(&l->ptr);
    for (unsigned i = 0; i < l->count; i++)
        dns_forget(&l->candidates[i].query);
    mem_free(&l->candidates);
    mem_free(lp);
}

static void kept_free(struct kept *k)
{
    list_del(&k->age);
    look_free(&k->look);
    while (k->askers) {
        struct asker *next = k->askers->next;
        mem_free(&k->askers);
        k->askers = next;
    }
    mem_free(&k->key);
    mem_free(&k->name);
    mem_free(&k);
}

static void kept_drop(struct kept *k)
{
    map_del(&k->names->kept, span_make(k->key, k->key_n));
    kept_free(k);
}

/* Room for one more: what is too old goes, then the oldest. False when all of them are being looked up. */
static bool make_room(struct names *n)
{
    int64_t now = loop_now(n->loop);
    while (!list_empty(&n->aged)) {
        struct kept *k = container_of(n->aged.next, struct kept, age);
        if (k->until > now && n->kept.count < NAMES_KEPT_MAX)
            break;
        kept_drop(k);
    }
    return n->kept.count < NAMES_KEPT_MAX;
}

/* ---- the end of a look ---- */

static void settle(struct look *l, enum name_kind kind, const char *name)
{
    struct kept *k = l->kept;
    struct asker *a = k->askers;
    struct span found = span_of(name);
    k->askers = NULL;
    k->kind = kind;
    k->name = found.n ? mem_strndup(found.p, found.n) : NULL;
    k->until = loop_now(k->names->loop) + (kind == NAME_UNKNOWN ? NAMES_KEEP_UNKNOWN_MS : NAMES_KEEP_MS);
    list_add_tail(&k->names->aged, &k->age);
    look_free(&k->look);
    char copy[DNS_NAME_MAX + 1]; /* an asker may ask again, and that may push this answer out */
    snprintf(copy, sizeof copy, "%s", k->name ? k->name : "");
    while (a) {
        struct asker one = *a;
        mem_free(&a);
        one.fn(one.ctx, kind, span_of(copy));
        a = one.next;
    }
}

static bool temporary(enum dns_status s)
{
    return s != DNS_FOUND && s != DNS_NODATA && s != DNS_NXDOMAIN && s != DNS_BAD_NAME;
}

/* Every name was asked and none matched. */
static void settle_unmatched(struct look *l)
{
    const char *first = l->count ? l->candidates[0].name : "";
    if (l->failed)
        settle(l, NAME_UNKNOWN, first);
    else
        settle(l, l->count == 0 || (l->kept->host && !l->matters) ? NAME_NONE : NAME_UNMATCHED, first);
}

static bool holds(const struct dns_answer *a, const struct kept *k)
{
    size_t n = k->family == AF_INET6 ? 16 : 4;
    for (size_t i = 0; i < a->count; i++)
        if (a->records[i].n == n && memcmp(a->records[i].p, k->address, n) == 0)
            return true;
    return false;
}

static void on_addresses(void *ctx, const struct dns_answer *a)
{
    struct candidate *c = ctx;
    struct look *l = c->look;
    c->query = NULL;
    l->open--;
    l->failed |= temporary(a->status);
    l->matters |= a->status == DNS_FOUND || a->status == DNS_NODATA;
    if (a->status == DNS_FOUND && holds(a, l->kept))
        settle(l, NAME_MATCHED, c->name);
    else if (l->open == 0)
        settle_unmatched(l);
}

static void add_candidate(struct look *l, struct span name)
{
    struct candidate *c = &l->candidates[l->count++];
    c->look = l;
    snprintf(c->name, sizeof c->name, "%.*s", SPANV(name));
}

static void ask_candidates(struct look *l)
{
    struct kept *k = l->kept;
    enum dns_type type = k->family == AF_INET6 ? DNS_AAAA : DNS_A;
    l->open = l->count;
    for (unsigned i = 0; i < l->count; i++)
        l->candidates[i].query =
            dns_ask(k->names->dns, span_of(l->candidates[i].name), type, on_addresses, &l->candidates[i]);
}

static void on_ptr(void *ctx, const struct dns_answer *a)
{
    struct look *l = ctx;
    char name[DNS_NAME_MAX + 1];
    l->ptr = NULL;
    l->failed = temporary(a->status);
    l->candidates = mem_array(NAMES_EACH_MAX, sizeof *l->candidates);
    for (size_t i = 0; i < a->count && l->count < NAMES_EACH_MAX; i++)
        if (dns_name_text(a->records[i], name) && name[0])
            add_candidate(l, span_of(name));
    if (l->count)
        ask_candidates(l);
    else
        settle_unmatched(l);
}

/* ---- asking ---- */

/* RFC1035:3.5, RFC3596:2.5 */
static void reverse_name(const struct kept *k, char out[80])
{
    const uint8_t *a = k->address;
    size_t n = 0;
    if (k->family == AF_INET) {
        snprintf(out, 80, "%u.%u.%u.%u.in-addr.arpa", a[3], a[2], a[1], a[0]);
        return;
    }
    for (int i = 15; i >= 0; i--) {
        out[n++] = "0123456789abcdef"[a[i] & 15];
        out[n++] = '.';
        out[n++] = "0123456789abcdef"[a[i] >> 4];
        out[n++] = '.';
    }
    memcpy(out + n, "ip6.arpa", 9);
}

static int parse_address(struct span text, uint8_t out[16])
{
    char copy[INET6_ADDRSTRLEN];
    if (text.n >= sizeof copy)
        return 0;
    memcpy(copy, text.p, text.n);
    copy[text.n] = '\0';
    if (inet_pton(AF_INET, copy, out) == 1)
        return AF_INET;
    return inet_pton(AF_INET6, copy, out) == 1 ? AF_INET6 : 0;
}

static bool wait_for(struct kept *k, names_fn *fn, void *ctx)
{
    if (k->waiting >= WAITING_MAX)
        return false;
    struct asker *a = mem_alloc(sizeof *a);
    *a = (struct asker){.next = k->askers, .fn = fn, .ctx = ctx};
    k->askers = a;
    k->waiting++;
    return true;
}

static struct kept *kept_new(struct names *n, struct span key, int family, const uint8_t address[16])
{
    struct kept *k = mem_alloc(sizeof *k);
    k->names = n;
    k->key = mem_strndup(key.p, key.n);
    k->key_n = key.n;
    k->family = family;
    memcpy(k->address, address, sizeof k->address);
    list_init(&k->age);
    k->look = mem_alloc(sizeof *k->look);
    k->look->kept = k;
    map_put(&n->kept, key, k);
    return k;
}

/* host: empty for a client's own names. */
static void ask(struct names *n, struct span key, struct span host, struct span address, names_fn *fn, void *ctx)
{
    uint8_t bytes[16] = {0};
    int family = parse_address(address, bytes);
    struct kept *k = map_get(&n->kept, key);
    if (k && !k->look && k->until <= loop_now(n->loop)) {
        kept_drop(k);
        k = NULL;
    }
    if (k && !k->look) {
        fn(ctx, k->kind, span_of(k->name));
    } else if (k) {
        if (!wait_for(k, fn, ctx))
            fn(ctx, NAME_UNKNOWN, SPAN(""));
    } else if (family == 0 || !make_room(n)) {
        fn(ctx, NAME_UNKNOWN, SPAN(""));
    } else {
        k = kept_new(n, key, family, bytes);
        wait_for(k, fn, ctx);
        k->host = host.n > 0;
        if (k->host) {
            k->look->candidates = mem_array(1, sizeof *k->look->candidates);
            add_candidate(k->look, host);
            ask_candidates(k->look);
        } else {
            char name[80];
            reverse_name(k, name);
            k->look->ptr = dns_ask(n->dns, span_of(name), DNS_PTR, on_ptr, k->look);
        }
    }
}

void names_of_client(struct names *n, struct span address, names_fn *fn, void *ctx)
{
    ask(n, address, SPAN(""), address, fn, ctx);
}

void names_of_host(struct names *n, struct span host, struct span address, names_fn *fn, void *ctx)
{
    char key[HOST_KEY_MAX];
    size_t at = 0;
    if (host.n == 0 || host.n > DNS_NAME_MAX || address.n >= INET6_ADDRSTRLEN) {
        fn(ctx, host.n ? NAME_UNKNOWN : NAME_NONE, SPAN(""));
        return;
    }
    while (at < host.n) {
        key[at] = ascii_lower(host.p[at]);
        at++;
    }
    key[at++] = ' ';
    memcpy(key + at, address.p, address.n);
    ask(n, span_make(key, at + address.n), host, address, fn, ctx);
}

struct names *names_new(struct loop *l, struct dns *dns)
{
    struct names *n = mem_alloc(sizeof *n);
    n->loop = l;
    n->dns = dns;
    list_init(&n->aged);
    return n;
}

void names_free(struct names **np)
{
    struct names *n = *np;
    struct span key;
    void *value;
    if (!n)
        return;
    for (size_t at = 0; map_next(&n->kept, &at, &key, &value);)
        kept_free(value);
    map_free(&n->kept);
    mem_free(np);
}
