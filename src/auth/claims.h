/* Claims of a token, wherever they stand: in the token itself (RFC 7519) or in what its issuer says of it (RFC 7662). */
#ifndef AUTH_CLAIMS_H
#define AUTH_CLAIMS_H

#include <jansson.h>

#include "auth/token.h"

bool claim_is(json_t *j, const char *text);             /* is that very text */
bool claim_names(json_t *aud, const char *ours);        /* RFC7519:4.1.3: one, or several */
bool claim_has_scope(json_t *scope, const char *wanted); /* RFC6749:3.3: words */
bool claim_text(json_t *claims, const char *claim, char *out); /* out: TOKEN_NAME_MAX + 1 bytes; false: no text, too long, empty */
/* OpenID Connect Core 5.1: an address that its issuer did not check proves nothing. Some write the flag as a text. */
bool claim_unverified(json_t *claims, const char *claim);

#endif
