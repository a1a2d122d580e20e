/* Password hashes on pool threads: a few at a time, so that memory is bounded, and a bounded queue before them. Clients
 * take turns in it, and when it is full the one with most in it makes room, so that nobody who tries many passwords
 * keeps others from logging in. */
#ifndef AUTHD_HASHER_H
#define AUTHD_HASHER_H

#include "auth/password.h"
#include "auth/scram.h"
#include "loop/loop.h"

#define HASHER_AT_ONCE 2
#define HASHER_WAITING_MAX 500
#define HASHER_WAITING_EACH 50 /* of one client */

struct hasher;
struct hasher *hasher_new(struct loop *l);
void hasher_free(struct hasher **h); /* jobs that have not ended end now, with ok = false and no hash */

/* ok: the password is right (check), the hash could be made (make). hash: that one, or the new one. scram: a
 * verifier of that password for each hash it was wanted for when it is right; else empty. Both NULL when it was
 * not looked at: the hasher is freed, or the job had to make room for another client's. */
typedef char hasher_scram[SCRAM_HASHES][SCRAM_TEXT_MAX];
typedef void hasher_fn(void *ctx, bool ok, const char *hash, const hasher_scram *scram);
/* The verifiers that are wanted (bits 1 << enum scram_hash), and with which salts. */
struct hasher_want {
    unsigned hashes;
    uint8_t salt[SCRAM_HASHES][SCRAM_SALT];
};
/* client: whose turn it takes (client_key() of base/client.h; 0: an operator). want: NULL for none. hash NULL: nobody's; the same
 * work is done. -1: too many wait already, fn is not called. */
int hasher_check(struct hasher *h, uint64_t client, const char *hash, struct span password, const struct hasher_want *want,
                 hasher_fn *fn, void *ctx);
int hasher_make(struct hasher *h, uint64_t client, struct span password, const struct hasher_want *want, hasher_fn *fn, void *ctx);
/* Verifiers alone, of a password that is known to be right; hash is "" in the answer. */
int hasher_derive(struct hasher *h, uint64_t client, struct span password, const struct hasher_want *want, hasher_fn *fn, void *ctx);

#endif
