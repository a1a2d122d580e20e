/* The mda processes as authd knows them: one for each active account, forked by the zygote when somebody needs it.
 * Several who ask at once wait for the one fork. A worker goes only when it was told that it may, and then nobody is
 * sent to it any more. */
#ifndef AUTHD_WORKERS_H
#define AUTHD_WORKERS_H

#include "authd/authd.h"

struct workers *workers_new(struct authd *a);
void workers_free(struct workers **w);

/* A front's proven session goes to its account's worker. fd: its stream, ours from here on. */
void workers_attach(struct workers *w, struct chan *from, const struct msg *m, int fd);
/* qmgr has mail for the account. */
void workers_want(struct workers *w, struct chan *from, const struct msg *m);
/* From the zygote. */
void workers_end(struct workers *w, uint32_t account, int fd);
void workers_gone(struct workers *w, uint32_t account);
void workers_zygote_down(struct workers *w);

/* Ends the account's sessions; with `purge` its mail is deleted (a worker is started for that when none runs). */
typedef void workers_evicted_fn(void *ctx, bool ok);
void workers_evict(struct workers *w, uint32_t account, bool purge, workers_evicted_fn *fn, void *ctx);
/* Quotas have changed: every worker hears its own. */
void workers_quotas(struct workers *w);
size_t workers_count(const struct workers *w);

#endif
