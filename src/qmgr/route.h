/* Where mail elsewhere goes, and so which destination it waits for: what an operator said of it (queue route), else what the configuration
 * names for its domain, else the smarthost, else the MX of the domain. Asked at each attempt, so that a reload holds from the next one on. */
#ifndef QMGR_ROUTE_H
#define QMGR_ROUTE_H

#include "qmgr/qmgr.h"

#define HOP_NAME_MAX 270

struct hop {
    struct span host;        /* HOST[:PORT] as it was named, the configuration's or `own`; empty: the MX */
    bool smarthost;          /* it is that of the configuration */
    size_t n;                /* of the destination's name: the domain, or "host:port" in small letters */
    char name[HOP_NAME_MAX]; /* without a NUL */
};
/* domain: canonical; own: an operator's word for the recipient, may be empty. */
void hop_find(const struct conf *c, struct span domain, struct span own, struct hop *h);
/* The same for a row. */
void hop_of_row(const struct conf *c, const struct queue_recipient *r, struct hop *h);
/* A row does not say whether its recipient is elsewhere at all, and a smarthost is for whatever domain. False: the last attempt met no host. */
static inline bool hop_is_likely(const struct queue_recipient *r, const struct hop *h)
{
    return !h->host.n || r->attempts == 0 || r->host.n > 0;
}
/* Whether a destination's name is "host:port"; host: of it. */
bool hop_is_named(struct span destination, struct span *host);

/* A domain that was suspended is so no longer: where another host takes its mail, what waits is looked at anew. */
void route_release(struct qmgr *q, const struct sched_dest *d);

/* A job was made for another destination than its recipients have now. */
bool route_is_old(const struct job *j);
/* The configuration names other hosts than before, or may do so (at the start): what waits on disk for a destination that is not its own any
 * more is looked at anew. */
void route_changed(struct qmgr *q);
void route_started(struct qmgr *q);

#endif
