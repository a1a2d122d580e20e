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
 * verifier of that password when one was wanted and it is right; else empty. Both NULL when the hasher is freed. */
typedef void hasher_fn(void *ctx, bool ok, const char *hash, const char *scram);
/* hash NULL: nobody's; the same work is done. -1: too many wait already, fn is not called. */
int hasher_check(struct hasher *h, const char *hash, struct span password, bool scram, hasher_fn *fn, void *ctx);
int hasher_make(struct hasher *h, struct span password, bool scram, hasher_fn *fn, void *ctx);

#endif
