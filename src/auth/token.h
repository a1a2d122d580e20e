/* Bearer tokens (RFC 6750) that are JSON Web Tokens (RFC 7519) signed by a key we know (RFC 7515, RFC 7518), pure: the
 * token, the keys and the time in, an account's address or a reason out. */
#ifndef AUTH_TOKEN_H
#define AUTH_TOKEN_H

#include "base/err.h"
#include "base/span.h"

#define TOKEN_MAX 8192      /* bytes of a token */
#define TOKEN_NAME_MAX 320  /* of the address in it */
#define TOKEN_KEYS_MAX 16
#define TOKEN_KEYS_FILE_MAX 65536

/* Public keys: RSA of 2048 bits at least (RS256), P-256 (ES256). */
struct token_keys;
/* pem: PUBLIC KEY blocks. NULL: err says what is wrong. */
struct token_keys *token_keys_read(struct span pem, struct err *err);
void token_keys_free(struct token_keys **k);

struct token_rules {
    const char *issuer, *audience; /* what iss has to be, what aud has to name */
    const char *claim;             /* which claim is the account's address */
    const char *scope;             /* a scope that it must have; "": none */
    int64_t leeway;                /* s: how far clocks may differ */
};

/* NULL: the token is good, and `account` (TOKEN_NAME_MAX + 1 bytes) gets the address in it. Else why it is not, for the
 * log. now: seconds since 1970. */
const char *token_judge(struct span token, const struct token_keys *keys, const struct token_rules *rules, int64_t now,
                        char *account);
/* The same; *ours: one of the keys signed it, so that nobody else need be asked. */
const char *token_judge_ours(struct span token, const struct token_keys *keys, const struct token_rules *rules,
                             int64_t now, char *account, bool *ours);

#endif
