/* Password hashes on pool threads: a few at a time, so that memory is bounded, and a bounded queue before them. */
#ifndef AUTHD_HASHER_H
#define AUTHD_HASHER_H

#include "auth/password.h"
#include "auth/scram.h"
#include "loop/loop.h"

#define HASHER_AT_ONCE 2
#define HASHER_WAITING_MAX 500

struct hasher;
struct hasher *hasher_new(struct loop *l);
void hasher_free(struct hasher **h); /* jobs that have not ended end now, with ok = false and no hash */

/* ok: the password is right (check), the hash could be made (make). hash: that one, or the new one. scram: a
 * verifier of that password for each hash it was wanted for when it is right; else empty. Both NULL when the hasher is
 * freed. */
typedef char hasher_scram[SCRAM_HASHES][SCRAM_TEXT_MAX];
typedef void hasher_fn(void *ctx, bool ok, const char *hash, const hasher_scram *scram);
/* scram: bits 1 << enum scram_hash, the verifiers wanted. hash NULL: nobody's; the same work is done. -1: too many wait already, fn is not called. */
int hasher_check(struct hasher *h, const char *hash, struct span password, unsigned scram, hasher_fn *fn,
                 void *ctx);
int hasher_make(struct hasher *h, struct span password, unsigned scram, hasher_fn *fn, void *ctx);

#endif
