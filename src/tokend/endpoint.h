/* Asks the introspection endpoint (RFC 7662) that the configuration names what tokens are. Equal questions that come
 * meanwhile wait for the same answer; a token that was good is good for a minute more, but never beyond its end, and is
 * remembered by a keyed hash alone. Bounded: so many calls at a time, so many wait, so many answers are kept. */
#ifndef TOKEND_ENDPOINT_H
#define TOKEND_ENDPOINT_H

#include "auth/introspect.h"
#include "conf/conf.h"
#include "net/dns.h"

#define ENDPOINT_CALLS_MAX 16
#define ENDPOINT_WAITING_MAX 512
#define ENDPOINT_KEPT_MAX 4096
#define ENDPOINT_KEEP_MS 60000

struct endpoint;
/* facts: NULL when nobody could say; why (for the log) says why not. Both die at return. */
typedef void endpoint_fn(void *ctx, const struct introspection *facts, const char *why);

struct endpoint *endpoint_new(struct loop *l, struct dns *dns, struct span ca_pem);
void endpoint_free(struct endpoint **e); /* whoever waits is not called any more */
/* Another configuration, or other authorities: nothing is remembered, what is under way goes on as it began. */
void endpoint_changed(struct endpoint *e, struct span ca_pem);

/* fn is called exactly once, perhaps from inside this call. */
void endpoint_ask(struct endpoint *e, const struct conf *c, struct span token, endpoint_fn *fn, void *ctx);

/* What the rules of the configuration are for a token. */
struct token_rules endpoint_rules(const struct conf *c);

#endif
