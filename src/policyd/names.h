/* Who is that, says DNS: the names of an address and whether they lead back to it (RFC 8601 §3, RFC 1912 §2.1), and whether the name a
 * client gives itself exists and leads to it. Answers are kept for a while and equal questions that come meanwhile wait for the same
 * lookup. Bounded: so many answers are kept, so many askers wait; beyond that the answer is "not known now". */
#ifndef POLICYD_NAMES_H
#define POLICYD_NAMES_H

#include "net/dns.h"

enum name_kind {
    NAME_UNKNOWN,   /* DNS gave no usable answer; later, perhaps */
    NAME_NONE,      /* the address has no name; that name does not exist */
    NAME_UNMATCHED, /* the address has names and none leads back to it; the name leads elsewhere */
    NAME_MATCHED,   /* both ways */
};

#define NAMES_KEPT_MAX 4096 /* answers in memory, those being looked up included */
#define NAMES_EACH_MAX 10   /* names of one address that are looked at (RFC 7208 §4.6.4 has the same bound) */
#define NAMES_KEEP_MS 60000
#define NAMES_KEEP_UNKNOWN_MS 10000

struct names;
/* name: the first that leads back, else the first there is, or empty. It dies at return. */
typedef void names_fn(void *ctx, enum name_kind kind, struct span name);

struct names *names_new(struct loop *l, struct dns *dns);
void names_free(struct names **n); /* whoever waits is not called any more */

/* address: IPv4 or IPv6 as text. fn is called exactly once, perhaps from inside this call. */
void names_of_client(struct names *n, struct span address, names_fn *fn, void *ctx);
/* host: what the client said in EHLO, a domain name. */
void names_of_host(struct names *n, struct span host, struct span address, names_fn *fn, void *ctx);

#endif
