#include "qmgr/route.h"

#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "mail/address.h"
#include "qmgr/dests.h"

#define RELEASE_PORTION 1000 /* rows that one transaction lets go */

/* "account:7" is an account's destination: a host of that name gets a dot. */
static void name_hop(struct hop *h, uint16_t port)
{
    struct span host;
    struct err err;
    if (conf_hostport_of(h->host, &host, &port, &err)) { /* it was looked at before; a name of its own at least */
        host = span_sub(h->host, 0, HOP_NAME_MAX / 2);
        port = 0;
    }
    bool six = span_find(host, ':') >= 0;
    int n = snprintf(h->name, sizeof h->name, "%s%.*s%s:%u", six ? "[" : "", SPANV(host), six ? "]" : span_ieqs(host, "account") ? "." : "", port);
    h->n = MIN_OF((size_t)n, sizeof h->name - 1);
    for (size_t i = 0; i < h->n; i++)
        h->name[i] = ascii_lower(h->name[i]);
}

void hop_find(const struct conf *c, struct span domain, struct span own, struct hop *h)
{
    const struct conf_domain *d = own.n ? NULL : conf_domain_for(c, domain);
    const char *route = d ? d->route : "";
    *h = (struct hop){.host = own.n ? own : *route ? span_of(route) : span_of(c->relay.smarthost)};
    h->smarthost = !own.n && !*route && h->host.n;
    if (h->host.n) {
        name_hop(h, (uint16_t)c->relay.port);
        return;
    }
    h->n = MIN_OF(domain.n, sizeof h->name);
    memcpy(h->name, domain.p, h->n);
}

void hop_of_row(const struct conf *c, const struct queue_recipient *r, struct hop *h)
{
    char name[ADDRESS_DOMAIN_MAX + 1];
    size_t n;
    struct span domain = span_from(r->address, (size_t)(span_rfind(r->address, '@') + 1));
    if (domain.n && domain.p[0] != '[' && domain_canonical(domain, name, &n))
        domain = span_make(name, n);
    hop_find(c, domain, r->route, h);
}

bool hop_is_named(struct span destination, struct span *host)
{
    ptrdiff_t colon = span_rfind(destination, ':');
    if (colon < 0 || colon < span_rfind(destination, ']'))
        return false;
    *host = span_sub(destination, 0, (size_t)colon);
    if (host->n && host->p[host->n - 1] == '.')
        host->n--;
    return true;
}

/* ---- the configuration has changed ---- */

static bool same_hop(const struct rcpt *r, const struct hop *h)
{
    return span_eq(r->dest, span_make(h->name, h->n)) && span_eq(r->hop, h->host) && r->smarthost == h->smarthost;
}

bool route_is_old(const struct job *j)
{
    const struct qmgr *q = j->msg->q;
    struct hop h;
    if (j->class != SCHED_REMOTE || j->generation == q->conf->generation)
        return false;
    for (const struct rcpt *r = j->rcpts; r; r = r->job_next) {
        hop_find(q->conf, r->domain, r->r.route, &h);
        if (!r->pull && !same_hop(r, &h))
            return true;
    }
    return false;
}

static void on_released(struct qmgr *q, struct span text, unsigned count)
{
    struct dest_name name;
    const struct sched_dest *d = dest_parse(text, &name) ? sched_find(&q->sched, name.class, name.name) : NULL;
    if (d && count == RELEASE_PORTION)
        dests_fetch(q, d, RELEASE_PORTION, on_released);
}

void route_release(struct qmgr *q, const struct sched_dest *d)
{
    struct hop h;
    hop_find(q->conf, span_make(d->name, d->name_n), SPAN(""), &h);
    if (d->class == SCHED_REMOTE && d->parked && h.host.n)
        dests_fetch(q, d, RELEASE_PORTION, on_released);
}

/* A host that the configuration names. */
static bool is_current(const struct conf *c, struct span destination)
{
    struct hop h;
    hop_find(c, SPAN(""), SPAN(""), &h);
    if (h.host.n && span_eq(destination, span_make(h.name, h.n)))
        return true;
    for (size_t i = 0; i < c->domain_count; i++) {
        hop_find(c, SPAN(""), span_of(c->domain[i].route), &h);
        if (*c->domain[i].route && span_eq(destination, span_make(h.name, h.n)))
            return true;
    }
    return false;
}

/* known: nothing else than the start tells that something may have changed. */
static void look(struct qmgr *q, bool known)
{
    size_t at = 0;
    struct span name, host;
    struct hop h;
    void *v;
    while (map_next(&q->sched.dests[SCHED_REMOTE], &at, &name, &v)) {
        const struct sched_dest *d = v;
        bool named = hop_is_named(name, &host);
        if (!named)
            hop_find(q->conf, name, SPAN(""), &h);
        if (d->parked && (named ? known || !is_current(q->conf, name) : h.host.n > 0 && !d->suspended)) {
            LOGI("route-changed", KVS("destination", name));
            dests_fetch(q, d, RELEASE_PORTION, on_released);
        }
    }
}

/* What waits in memory for its turn at a destination that is not its own any more. */
static void take_back(struct qmgr *q)
{
    uint64_t key;
    void *v;
    for (size_t at = 0; idmap_next(&q->rcpts, &at, &key, &v);) {
        struct rcpt *r = v;
        struct job *j = r->state == RCPT_QUEUED ? r->job : NULL;
        if (j && j->sched.dest && !j->lease && !j->sched.under_way && route_is_old(j))
            job_take_back(j);
    }
}

/* All that hop_find() looks at. */
static void describe(const struct conf *c, struct buf *out)
{
    buf_printf(out, "%s %u", c->relay.smarthost, c->relay.port);
    for (size_t i = 0; i < c->domain_count; i++) /* one without a route, too: it hides a pattern's */
        buf_printf(out, "\n%s %s", c->domain[i].name, c->domain[i].route);
}

void route_changed(struct qmgr *q)
{
    struct buf now = {0};
    describe(q->conf, &now);
    bool same = span_eq(buf_span(&now), buf_span(&q->routing));
    buf_free(&q->routing);
    q->routing = now;
    if (same)
        return;
    take_back(q);
    look(q, true);
}

void route_started(struct qmgr *q)
{
    buf_clear(&q->routing);
    describe(q->conf, &q->routing);
    look(q, false);
}
