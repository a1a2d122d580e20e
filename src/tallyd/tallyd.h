/* tallyd: what is remembered of clients and isn't mail: how often they come, how many sessions they have, what went
 * wrong with them; across all fronts and restarts. Never in the accept transaction: a front that gets no answer goes
 * on without one.
 *
 * Security: its own uid and folder, no network. It believes fronts what they say of their clients; a broken one can
 * make others look bad or good, and nothing more. */
#ifndef TALLYD_TALLYD_H
#define TALLYD_TALLYD_H

#include "admin/admin.h"
#include "base/client.h"
#include "service/service.h"
#include "tally/tally.h"

struct keeper;
struct visits;

struct tallyd {
    struct service *service;
    struct loop *loop;
    struct tally *tally;
    struct visits *visits;
    struct keeper *keeper;
    struct admin *admin;
};

/* visits.c: the open sessions of each front, so that those of a dead one are given back. */
struct visits *visits_new(void);
void visits_free(struct visits **v);
void visits_ask(struct tallyd *d, struct chan *from, const struct msg *m);
void visits_more(struct tallyd *d, struct chan *from, const struct msg *m);
void visits_note(struct tallyd *d, struct chan *from, const struct msg *m);
void visits_front_gone(struct tallyd *d, struct chan *front);

/* keeper.c: the file. It is written behind, on a pool thread, in batches and without waiting for the disk. */
int keeper_open(struct tallyd *d, struct err *err); /* fills d->tally */
void keeper_changed(struct tallyd *d);              /* something may have to be written, in a while */
/* True: service_done() is called when it has. */
bool keeper_is_saving(struct tallyd *d);
void keeper_close(struct tallyd *d);                /* writes what is left */

/* commands.c: waypost client … */
struct admin *commands_new(struct tallyd *d);

#endif
