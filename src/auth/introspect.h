/* What an issuer's introspection endpoint says of a token (RFC 7662), pure: its answer and what is expected of it in,
 * facts out. */
#ifndef AUTH_INTROSPECT_H
#define AUTH_INTROSPECT_H

#include "auth/token.h"

#define INTROSPECT_ANSWER_MAX 65536

struct introspection {
    bool active;
    bool issuer, audience, scope; /* are what they have to be */
    bool early;                   /* not valid yet */
    bool verified;                /* false: an e-mail address that the issuer did not check */
    char account[TOKEN_NAME_MAX + 1]; /* the claim; empty: there is none that could be one */
    int64_t expires;              /* seconds since 1970; 0: not said */
};

/* False: it is no such answer (not a JSON object with "active", RFC7662:2.2). Rules that are "" are not looked at, but
 * the claim. now: seconds since 1970. */
bool introspect_read(struct span json, const struct token_rules *rules, int64_t now, struct introspection *out);
/* Why the token of these facts is no good, for the log; NULL: it is. */
const char *introspect_refusal(const struct introspection *i, int64_t leeway, int64_t now);

#endif
