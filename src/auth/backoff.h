/* How long a login has to wait for the failures before it. Nobody is refused here, and nobody is made to wait for what
 * others do to an account that he has logged in to from where he is:
 *
 *   from an address that has logged in to that account within BACKOFF_KNOWN_MS: only for failures of this address with
 *   this account;
 *   from elsewhere: for those, for failures of this address with any account, and for failures with this account from
 *   any such address; whichever is longest.
 *
 * So an attacker slows himself, other strangers to the account a little, and its owner not at all. A login counts as a
 * failure from its beginning, so that many at once don't slip through together. Failures leak away, one a minute.
 *
 * Names are compared as they come, the caller makes them canonical; whether an account exists makes no difference. A
 * login that names no account (a token, a certificate) has an empty name: only its address counts then. A client is
 * client_key() of base/client.h. Pure: the caller has the clock (ms). Bounded: BACKOFF_MAX entries of each
 * kind, those unused for longest go first. */
#ifndef AUTH_BACKOFF_H
#define AUTH_BACKOFF_H

#include "base/span.h"

#define BACKOFF_KNOWN_MS (INT64_C(30) * 24 * 3600 * 1000)
#define BACKOFF_FAILED_MS (INT64_C(3600) * 1000) /* failures older than that count nothing, however many there were */
#define BACKOFF_SECRET 32                        /* bytes */
#define BACKOFF_FREE_PAIR 2    /* failures that cost nothing yet; each further one doubles the wait */
#define BACKOFF_FREE_CLIENT 10
#define BACKOFF_FREE_ACCOUNT 10
#define BACKOFF_FIRST_MS 500
#define BACKOFF_LONGEST_MS 8000
#define BACKOFF_MAX 50000

struct backoff;
/* secret (BACKOFF_SECRET bytes): what is kept of one is of use for another with the same secret only. NULL: a random one. */
struct backoff *backoff_new(const uint8_t *secret);
void backoff_free(struct backoff **b);

/* A login begins: how many ms it waits before its password is looked at. It is a failure unless one of the following
 * is said of it. */
int64_t backoff_begin(struct backoff *b, uint64_t client, struct span name, int64_t now);
void backoff_succeeded(struct backoff *b, uint64_t client, struct span name, int64_t now);
void backoff_dropped(struct backoff *b, uint64_t client, struct span name, int64_t now); /* it was never decided */

/* Whether that client has logged in to that account lately. */
bool backoff_knows(struct backoff *b, uint64_t client, struct span name, int64_t now);
/* What is held against that client is lifted; where it has logged in stays known. */
void backoff_forget(struct backoff *b, uint64_t client, int64_t now);
size_t backoff_count(const struct backoff *b);

/* ---- what is worth keeping over a restart. wall: ms since 1970 ---- */
struct backoff_row {
    uint64_t key, client;
    int64_t when, known; /* wall; known: its last success, 0: none */
    double failures;
    uint8_t kind;
    bool gone; /* no longer worth it: delete what was kept */
};
/* Changed since they were taken last, at most `max`; 0: none. */
size_t backoff_take_changed(struct backoff *b, struct backoff_row *rows, size_t max, int64_t now, int64_t wall);
bool backoff_changed(const struct backoff *b);
/* Of rows of one kind the older ones first. A clock that was set back makes nothing younger than now; what is there
 * already stays. */
void backoff_restore(struct backoff *b, const struct backoff_row *row, int64_t now, int64_t wall);

#endif
