/* Password hashes: Argon2id, of bounded memory. Both functions take tens of milliseconds: they belong on a pool thread.
 */
#ifndef AUTH_PASSWORD_H
#define AUTH_PASSWORD_H

#include "base/err.h"
#include "base/span.h"

#define PASSWORD_MIN 6   /* bytes; for new ones */
#define PASSWORD_MAX 255 /* RFC4616:2 */
#define PASSWORD_HASH_MAX 128
#define PASSWORD_MEMORY (19u << 20) /* bytes of one hash */
#define PASSWORD_PASSES 2

/* Once, before the threads start and before the sandbox: it opens the source of randomness. */
int password_init(struct err *err);
/* Fills `out` (PASSWORD_HASH_MAX bytes) with the hash as text. */
int password_hash(struct span password, char *out, struct err *err);
/* hash: what password_hash() gave, or NULL: the same work is done and the answer is no. */
bool password_check(const char *hash, struct span password);
void password_random(void *p, size_t n);
/* Overwrites what was secret. */
void password_wipe(void *p, size_t n);

#endif
