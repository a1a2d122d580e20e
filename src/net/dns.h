/* DNS lookups through libunbound, which validates and caches; its only home. Lookups run on a thread of the library, answers come on the
 * loop's thread. Bounded: so many lookups run, so many more wait, the rest is refused at once as DNS_BUSY.
 *
 * libunbound would read resolv.conf and trust anchors at its first lookup; a sandbox has no files. So dns_warm() reads them before, and
 * dns_new() works from those texts alone. The library's thread starts with the first lookup: inside the sandbox, which must let it. */
#ifndef NET_DNS_H
#define NET_DNS_H

#include <sys/socket.h>

#include "base/err.h"
#include "base/span.h"
#include "loop/loop.h"

#define DNS_NAME_MAX 255      /* RFC1035:2.3.4, as text without the last dot */
#define DNS_RUNNING_MAX 256   /* lookups given to the library at a time */
#define DNS_WAITING_MAX 4096  /* and behind them */
#define DNS_RECORDS_MAX 256   /* records of an answer that are looked at */

struct dns;
struct dns_query;
struct dns_texts;

enum dns_type { DNS_A = 1, DNS_PTR = 12, DNS_MX = 15, DNS_TXT = 16, DNS_AAAA = 28 };

enum dns_status {
    DNS_FOUND,
    DNS_NODATA,   /* the name exists, this type does not */
    DNS_NXDOMAIN, /* the name does not exist */
    DNS_SERVFAIL, /* no usable answer from the servers; later, perhaps */
    DNS_BOGUS,    /* the answer fails DNSSEC validation; never use it, later, perhaps */
    DNS_TIMEOUT,  /* no answer in the time set */
    DNS_BUSY,     /* too many lookups wait */
    DNS_BAD_NAME, /* that can't be a domain name */
};

struct dns_answer {
    enum dns_status status;
    bool secure;           /* validated */
    const char *canonical; /* the name at the end of the CNAME chain, without the last dot; the one asked for when there is none */
    const struct span *records; /* rdata in network form */
    size_t count;
};

/* Called once, never from inside dns_ask(); the answer dies at return. */
typedef void dns_fn(void *ctx, const struct dns_answer *a);

struct dns_options {
    const char *const *servers; /* "ADDRESS" or "ADDRESS@PORT" each; none: those of resolv.conf */
    size_t server_count;
    bool local_zones;   /* whether the library answers .test, localhost, private reverse zones and the like itself */
    int64_t timeout_ms; /* for one lookup; 0: DNS_TIMEOUT_MS */
};
#define DNS_TIMEOUT_MS 30000

/* Before the sandbox: reads resolv.conf and the trust anchor file (NULL: no validation), and has the library load what it needs.
 * Only an unreadable trust anchor is an error. */
struct dns_texts *dns_warm(const char *trust_anchor_file, struct err *err);
void dns_texts_free(struct dns_texts **t);

/* NULL and err when the library refuses an option. The texts stay the caller's, and are needed only during the call. */
struct dns *dns_new(struct loop *l, const struct dns_options *o, const struct dns_texts *t, struct err *err);
void dns_free(struct dns **d); /* open lookups are forgotten */

/* The query ends with the call of fn, or with dns_forget() (then fn is not called). name: A-labels, with or without the last dot. */
struct dns_query *dns_ask(struct dns *d, struct span name, enum dns_type type, dns_fn *fn, void *ctx);
void dns_forget(struct dns_query **q);
size_t dns_open(const struct dns *d); /* lookups running and waiting */

const char *dns_status_text(enum dns_status s); /* for people: "no such domain", … */

/* The records decoded; false when record i is not well-formed. */
struct dns_mx {
    uint16_t preference;
    char host[DNS_NAME_MAX + 1]; /* empty: the root, a null MX (RFC 7505) */
};
bool dns_answer_mx(const struct dns_answer *a, size_t i, struct dns_mx *mx);
/* From an A or AAAA record, told apart by length. */
bool dns_answer_address(const struct dns_answer *a, size_t i, uint16_t port, struct sockaddr_storage *out);
/* A name in network form (no compression) as text; false unless it is well-formed and only of letters, digits, '-', '_' and dots. */
bool dns_name_text(struct span wire, char out[DNS_NAME_MAX + 1]);

#endif
