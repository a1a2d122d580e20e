/* Bearer tokens (OAUTHBEARER, XOAUTH2): the issuer's keys as configured, and whose a token is. */
#ifndef AUTHD_OAUTH_H
#define AUTHD_OAUTH_H

#include "auth/directory.h"
#include "auth/introspect.h"
#include "auth/token.h"
#include "conf/conf.h"

/* The keys in that file; *out is NULL without one (fd -1, which is no error unless keys are configured). */
int oauth_keys_open(const struct conf *c, int fd, struct token_keys **out, struct err *err);
/* NULL: the token is good, and `address` (TOKEN_NAME_MAX + 1 bytes) is the one in it; or why not, for the log. *final
 * false: its issuer may know more and has to be asked. */
const char *oauth_judge(const struct conf *c, const struct token_keys *keys, struct span token, char *address,
                        bool *final);
/* The same of what tokend says. */
const char *oauth_told(const struct conf *c, const struct msg_introspected *m, char *address);
/* user: whom the client wants to be, empty: whose the token is. *why: NULL, and *out is the account; or why not, for
 * the log. -1: the directory failed. */
int oauth_account(struct directory *d, const char *address, struct span user, struct account *out, const char **why);
/* What a client is told whose token is no good: RFC7628:3.2.2. */
void oauth_refusal(const struct conf *c, struct buf *out);

#endif
