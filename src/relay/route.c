/* Routes: MX, else the domain's own address (RFC5321:5.1), null MX (RFC 7505), our own name in the list.
 * What DNS says is data: names were checked by net/dns, counts have limits here. */
#include "relay/route.h"

#include <stdlib.h>
#include <sys/random.h>

#include "base/mem.h"
#include "net/dial.h"

struct route {
    struct loop *loop;
    struct dns *dns;
    const struct route_ops *ops;
    void *ctx;
    char domain[DNS_NAME_MAX + 3];
    char own[DNS_NAME_MAX + 1];
    uint16_t port;
    bool as_host, have_hosts, found_any;
    struct route_mx hosts[ROUTE_HOSTS_MAX];
    size_t host_count, host_at;
    struct route_host current;
    struct dns_query *mx, *a, *aaaa;
    enum dns_status a_status, aaaa_status;
    struct outcome why; /* kind 0: nothing has failed so far */
    struct defer later;
    bool literal;
};

/* ---- the pure part ---- */

static int compare(const void *a, const void *b)
{
    const struct route_mx *x = a, *y = b;
    if (x->preference != y->preference)
        return x->preference < y->preference ? -1 : 1;
    return x->shuffle < y->shuffle ? -1 : x->shuffle > y->shuffle;
}

size_t route_order(struct route_mx *list, size_t count, const char *own, bool *loop)
{
    qsort(list, count, sizeof *list, compare);
    *loop = false;
    unsigned limit = 65536;
    for (size_t i = 0; i < count && !*loop; i++)
        if (span_ieqs(span_of(list[i].host), own)) {
            limit = list[i].preference;
            *loop = true;
        }
    size_t n = 0;
    while (n < count && list[n].preference < limit)
        n++;
    return n;
}

/* ---- ends ---- */

static void note(struct route *r, struct outcome o)
{
    if (r->why.kind != OUTCOME_RETRY) /* what may work later outweighs what will not */
        r->why = o;
}

static void end(struct route *r)
{
    if (!r->why.kind)
        r->why = outcome_make(OUTCOME_DONE, 0, 0, 0, "no more hosts");
    r->ops->on_end(r->ctx, &r->why);
}

static void fail(struct route *r, enum outcome_kind kind, unsigned subject, unsigned detail, const char *what)
{
    r->why = outcome_make(kind, 0, subject, detail, "%s: %s", r->domain, what);
    r->host_count = 0;
    r->ops->on_end(r->ctx, &r->why);
}

static struct outcome lookup_failed(const char *name, enum dns_status s)
{
    return outcome_make(OUTCOME_RETRY, 0, 4, 3, "%s: %s", name, dns_status_text(s));
}

/* ---- addresses of the next host ---- */

static void next_host(struct route *r);

static bool is_absent(enum dns_status s)
{
    return s == DNS_NODATA || s == DNS_NXDOMAIN || s == DNS_BAD_NAME;
}

static void addresses_done(struct route *r)
{
    if (r->current.count) {
        r->found_any = true;
        r->ops->on_host(r->ctx, &r->current);
        return;
    }
    enum dns_status bad = is_absent(r->a_status) || r->a_status == DNS_FOUND ? r->aaaa_status : r->a_status;
    if (!is_absent(bad) && bad != DNS_FOUND)
        note(r, lookup_failed(r->current.name, bad));
    else if (r->host_count == 1 && span_ieqs(span_of(r->current.name), r->domain))
        note(r, outcome_make(OUTCOME_FAILED, 0, 1, 2, "%s: %s", r->domain,
                             r->a_status == DNS_NXDOMAIN ? "no such domain" : "this domain has neither a mail host nor an address"));
    else
        note(r, outcome_make(OUTCOME_FAILED, 0, 4, 4, "%s: the mail host has no address", r->current.name));
    next_host(r);
}

static void take_addresses(struct route *r, const struct dns_answer *a)
{
    for (size_t i = 0; i < a->count && r->current.count < ROUTE_ADDRESSES_MAX; i++)
        if (dns_answer_address(a, i, r->port, &r->current.addresses[r->current.count]))
            r->current.count++;
}

/* IPv6 stands before IPv4, whichever answer came first. */
static void on_a(void *ctx, const struct dns_answer *a)
{
    struct route *r = ctx;
    r->a = NULL;
    r->a_status = a->status;
    take_addresses(r, a);
    addresses_done(r);
}

static void on_aaaa(void *ctx, const struct dns_answer *a)
{
    struct route *r = ctx;
    r->aaaa = NULL;
    r->aaaa_status = a->status;
    take_addresses(r, a);
    r->a = dns_ask(r->dns, span_of(r->current.name), DNS_A, on_a, r);
}

static void next_host(struct route *r)
{
    if (r->host_at == r->host_count) {
        end(r);
        return;
    }
    r->current.count = 0;
    memcpy(r->current.name, r->hosts[r->host_at++].host, sizeof r->current.name);
    if (dial_address_parse(span_of(r->current.name), r->port, &r->current.addresses[0])) { /* a smarthost given by its address */
        r->current.count = 1;
        addresses_done(r);
        return;
    }
    r->aaaa = dns_ask(r->dns, span_of(r->current.name), DNS_AAAA, on_aaaa, r);
}

/* ---- the hosts ---- */

static void only_domain(struct route *r)
{
    memcpy(r->hosts[0].host, r->domain, sizeof r->hosts[0].host);
    r->current.authentic = true;
    r->host_count = 1;
    r->have_hosts = true;
    next_host(r);
}

/* RFC7505:3: a single MX whose host is the root says that the domain takes no mail. */
static bool is_null_mx(const struct dns_answer *a)
{
    struct dns_mx mx;
    return a->count == 1 && dns_answer_mx(a, 0, &mx) && mx.host[0] == '\0';
}

static size_t take_mx(const struct dns_answer *a, struct route_mx *list)
{
    size_t n = 0;
    for (size_t i = 0; i < a->count; i++) {
        struct dns_mx mx;
        if (!dns_answer_mx(a, i, &mx) || mx.host[0] == '\0')
            continue;
        list[n].preference = mx.preference;
        if (getrandom(&list[n].shuffle, sizeof list[n].shuffle, 0) != sizeof list[n].shuffle)
            abort();
        memcpy(list[n].host, mx.host, sizeof mx.host);
        n++;
    }
    return n;
}

static void use_mx(struct route *r, const struct dns_answer *a)
{
    struct route_mx *list = mem_array(a->count ? a->count : 1, sizeof *list);
    bool loop = false;
    size_t found = take_mx(a, list), left = route_order(list, found, r->own, &loop);
    r->host_count = MIN_OF(left, (size_t)ROUTE_HOSTS_MAX);
    memcpy(r->hosts, list, r->host_count * sizeof *list);
    mem_free(&list);
    r->have_hosts = true;
    r->current.authentic = a->secure;
    if (r->host_count)
        next_host(r);
    else if (loop)
        fail(r, OUTCOME_FAILED, 4, 6, "this server is its best mail host but does not serve it: mail would loop");
    else
        fail(r, OUTCOME_FAILED, 4, 4, "none of its mail hosts has a usable name");
}

static void on_mx(void *ctx, const struct dns_answer *a)
{
    struct route *r = ctx;
    r->mx = NULL;
    switch (a->status) {
    case DNS_FOUND:
        if (is_null_mx(a))
            fail(r, OUTCOME_FAILED, 1, 10, "this domain does not take mail (null MX)");
        else
            use_mx(r, a);
        break;
    case DNS_NODATA: /* RFC5321:5.1: the domain itself, as if it were its MX */
        if (span_ieqs(span_of(r->domain), r->own))
            fail(r, OUTCOME_FAILED, 4, 6, "this is our own name, but mail for it is not served here: it would loop");
        else
            only_domain(r);
        break;
    case DNS_NXDOMAIN:
    case DNS_BAD_NAME:
        fail(r, OUTCOME_FAILED, 1, 2, dns_status_text(a->status));
        break;
    default:
        fail(r, OUTCOME_RETRY, 4, 3, dns_status_text(a->status));
    }
}

/* RFC5321:4.1.3: "[192.0.2.1]" or "[IPv6:2001:db8::1]". */
static void use_literal(struct route *r)
{
    struct span s = span_of(r->domain);
    s = span_sub(s, 1, s.n - 1);
    if (s.n == 0 || s.p[s.n - 1] != ']') {
        fail(r, OUTCOME_FAILED, 1, 2, "not an address");
        return;
    }
    s.n--;
    if (span_istarts(s, SPAN("IPv6:")))
        s = span_from(s, 5);
    if (!dial_address_parse(s, r->port, &r->current.addresses[0])) {
        fail(r, OUTCOME_FAILED, 1, 2, "not an address");
        return;
    }
    memcpy(r->current.name, r->domain, sizeof r->current.name);
    r->current.count = 1;
    r->found_any = true;
    r->ops->on_host(r->ctx, &r->current);
}

static void step(void *ctx)
{
    struct route *r = ctx;
    if (r->have_hosts) {
        next_host(r);
        return;
    }
    if (r->domain[0] == '[') {
        r->have_hosts = true;
        use_literal(r);
    } else if (r->as_host) {
        only_domain(r);
    } else {
        r->mx = dns_ask(r->dns, span_of(r->domain), DNS_MX, on_mx, r);
    }
}

void route_next(struct route *r)
{
    loop_defer(r->loop, &r->later);
}

struct route *route_new(struct loop *l, struct dns *d, const struct route_want *w, const struct route_ops *ops, void *ctx)
{
    struct route *r = mem_alloc(sizeof *r);
    r->loop = l;
    r->dns = d;
    r->ops = ops;
    r->ctx = ctx;
    r->as_host = w->as_host;
    r->port = w->port;
    size_t n = MIN_OF(w->domain.n, (size_t)DNS_NAME_MAX);
    memcpy(r->domain, w->domain.p, n);
    if (n && r->domain[n - 1] == '.')
        r->domain[n - 1] = '\0';
    n = MIN_OF(strlen(w->own), (size_t)DNS_NAME_MAX);
    memcpy(r->own, w->own, n);
    r->later = (struct defer){.fn = step, .ctx = r};
    return r;
}

void route_free(struct route **rp)
{
    struct route *r = *rp;
    if (!r)
        return;
    loop_defer_cancel(r->loop, &r->later);
    dns_forget(&r->mx);
    dns_forget(&r->a);
    dns_forget(&r->aaaa);
    mem_free(rp);
}
