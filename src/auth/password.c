/* Argon2id (RFC 9106) by libsodium. It trusts nothing about the password but its length, which is checked here. */
#include "auth/password.h"

#include <sodium.h>

_Static_assert(PASSWORD_HASH_MAX >= crypto_pwhash_argon2id_STRBYTES, "a hash fits");

/* What an unknown user is checked against, so that it takes the same time. Nobody knows the password of it. */
static char nobody[PASSWORD_HASH_MAX];

int password_init(struct err *err)
{
    char secret[32];
    if (sodium_init() < 0)
        return err_set(err, "libsodium does not start");
    randombytes_buf(secret, sizeof(secret));
    return password_hash(span_make(secret, sizeof(secret)), nobody, err);
}

int password_hash(struct span password, char *out, struct err *err)
{
    if (password.n == 0 || password.n > PASSWORD_MAX)
        return err_set(err, "a password has 1 to %d bytes", PASSWORD_MAX);
    if (crypto_pwhash_argon2id_str(out, password.p, password.n, PASSWORD_PASSES, PASSWORD_MEMORY))
        return err_set(err, "no memory for a password hash");
    return 0;
}

bool password_check(const char *hash, struct span password)
{
    bool possible = password.n > 0 && password.n <= PASSWORD_MAX;
    /* The work is done in every case: how long it takes says nothing about what is wrong. */
    struct span tried = possible ? password : SPAN("?");
    bool same = crypto_pwhash_argon2id_str_verify(hash ? hash : nobody, tried.p, tried.n) == 0;
    return hash && possible && same;
}

void password_random(void *p, size_t n)
{
    randombytes_buf(p, n);
}

void password_wipe(void *p, size_t n)
{
    sodium_memzero(p, n);
}
