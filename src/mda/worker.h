/* The one process of one account: what its files share. It owns the store; delivers what qmgr leases to it; serves the
 * sessions that authd attaches; never leaves by itself. */
#ifndef MDA_WORKER_H
#define MDA_WORKER_H

#include "base/list.h"
#include "base/outcome.h"
#include "ipc/chan.h"
#include "service/worker.h"
#include "store/store.h"

struct deliveries;
struct sessions;

struct worker {
    const struct worker_start *start;
    struct loop *loop;
    struct store *store;
    struct chan *control, *authd, *qmgr;
    struct deliveries *deliveries;
    struct sessions *sessions;
    struct timer *idle;   /* when nothing is left to do: give memory back, then ask to leave */
    struct timer *ending; /* how long an orderly end may take */
    struct timer *lost;   /* a channel is down: ask for a fresh pair, not too often */
    bool shrunk;          /* since the last work */
    int state;
    bool clean, purge; /* how the store is closed */
    bool evicted;      /* authd waits for our answer */
    uint32_t evict_epoch;
    uint64_t evict_id;
    bool quota_known;    /* authd has said it; nothing is delivered before */
    uint64_t quota;      /* bytes, 0: no limit */
    uint64_t told_bytes; /* usage as authd was told last */
};

/* ---- worker.c ---- */
void worker_busy(struct worker *w);  /* something came */
void worker_quiet(struct worker *w); /* something ended: perhaps nothing is left */
void worker_full(struct worker *w);  /* something was refused for want of room: authd hears what is used */
void worker_usage(struct worker *w); /* after changes: tells authd on crossing a mark */

/* ---- deliver.c ---- */
struct deliveries *deliveries_new(struct worker *w, struct err *err);
void deliveries_free(struct deliveries **d);
void deliveries_add(struct deliveries *d, const struct msg *m, int fd); /* fd is taken over */
void deliveries_commit(struct deliveries *d);                           /* what waits, now */
bool deliveries_waiting(const struct deliveries *d);

/* ---- attach.c ---- */
struct sessions *sessions_new(struct worker *w);
void sessions_free(struct sessions **s);
void sessions_attach(struct sessions *s, const struct msg *m, int fd); /* fd is taken over; answers it */
void sessions_bye(struct sessions *s, const char *why);
size_t sessions_count(const struct sessions *s);

#endif
