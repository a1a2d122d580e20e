/* The sessions of the fronts as far as authd knows them: who is proving who he is, and who has. A session is known by
 * the channel it came on and the number its front gave it; no front can name another's. */
#ifndef AUTHD_LOGINS_H
#define AUTHD_LOGINS_H

#include "authd/authd.h"
#include "authd/hasher.h"

struct logins *logins_new(struct authd *a);
void logins_free(struct logins **l);
/* What failed and who is known where, from the last run and for the next: in that folder. Before the first login. */
void logins_remember(struct logins *l, const char *dir);
/* False: it is being written, and service_done() is called when that is over. */
bool logins_are_saved(struct logins *l);

void logins_begin(struct logins *l, struct chan *from, const struct msg *m);
void logins_step(struct logins *l, struct chan *from, const struct msg *m);
void logins_forget(struct logins *l, struct chan *from, uint64_t session);
/* The front is gone, and its sessions with it. */
void logins_front_gone(struct logins *l, struct chan *front);
/* The account that this session proved to be; 0: none, or no such session. */
uint32_t logins_account(struct logins *l, enum role front, uint32_t instance, uint64_t session);
/* Which SCRAM verifiers are kept of that account's password, and with which salts. acc NULL: a new account of that address. */
void scram_wanted(struct authd *a, const struct account *acc, struct span address, struct hasher_want *want);
/* Makes the verifier of an app password on a pool thread and keeps it. done (may be NULL): afterwards. False: not now; nothing is called. */
bool scram_keep_app(struct authd *a, const struct account *acc, int64_t id, uint64_t client, struct span password, void (*done)(void *ctx),
                    void *ctx);
/* An operator lifts what is held against that client. */
void logins_client_forget(struct logins *l, uint64_t client);
/* The account may no longer do anything: its sessions have to log in again. */
void logins_drop_account(struct logins *l, uint32_t account);

#endif
