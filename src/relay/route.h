/* Where mail for a domain goes: the hosts of RFC5321:5.1 in their order, then the addresses of one host after another. Lookups happen
 * when their turn comes, so a dead name server of a backup host delays nobody. */
#ifndef RELAY_ROUTE_H
#define RELAY_ROUTE_H

#include "base/outcome.h"
#include "net/dns.h"

#define ROUTE_HOSTS_MAX 16     /* MX hosts that are tried, in order */
#define ROUTE_ADDRESSES_MAX 16 /* addresses of one host */

struct route;

struct route_want {
    struct span domain; /* A-labels, or an address literal with its brackets */
    bool as_host;       /* domain is the host itself: no MX (a smarthost) */
    const char *own;    /* our own name, for the loop check */
    uint16_t port;
};

struct route_host {
    char name[DNS_NAME_MAX + 1]; /* "[192.0.2.1]" stays as it is */
    bool authentic; /* that this is a host of the domain was proven: signed MX (DNSSEC), the domain itself, or as_host */
    size_t count;
    struct sockaddr_storage addresses[ROUTE_ADDRESSES_MAX];
};

struct route_ops {
    /* The next host with at least one address; it lives until route_next() or route_free(). */
    void (*on_host)(void *ctx, const struct route_host *host);
    /* No host (is left). why: of the route as a whole when no host had an address; else of the last lookup that failed, kind DONE when
     * none did. */
    void (*on_end)(void *ctx, const struct outcome *why);
};

struct route *route_new(struct loop *l, struct dns *d, const struct route_want *w, const struct route_ops *ops, void *ctx);
void route_next(struct route *r); /* one of the two is called, later */
void route_free(struct route **r);

/* ---- the pure part ---- */
struct route_mx {
    uint16_t preference;
    uint32_t shuffle; /* random: the order among equals */
    char host[DNS_NAME_MAX + 1];
};
/* Sorts, then drops our own name and whatever is no better (RFC5321:5.1). Returns how many are left; *loop: our own name was in it. */
size_t route_order(struct route_mx *list, size_t count, const char *own, bool *loop);

#endif
