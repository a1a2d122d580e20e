/* Mail addresses: the mailbox of RFC 5321 §4.1.2 (with the UTF-8 of RFC 6531), its canonical key, +detail, and domain
 * names. The local part is data: whatever bytes it holds, it is compared and stored, never run, never a path. */
#ifndef MAIL_ADDRESS_H
#define MAIL_ADDRESS_H

#include "base/buf.h"
#include "base/span.h"

#define ADDRESS_LOCAL_MAX \
    256 /* unquoted; RFC 5321 §4.5.3.1.1 asks for 64, longer ones are in use (RFC5321:4.5.3.1.1) */
#define ADDRESS_DOMAIN_MAX 255 /* RFC5321:4.5.3.1.2 */
#define ADDRESS_DETAIL_MAX 255

/* An address taken apart; spans point into the text. */
struct address {
    struct span local;  /* as given, with its quotes */
    struct span domain; /* as given; an address literal with its brackets */
    bool quoted;
    bool literal; /* the domain is "[…]" */
};

/* `local@domain`, nothing in front or behind. False: not an address. */
bool address_parse(struct span text, struct address *out);

/* What identifies a mailbox: the local part without quotes and in lower case, the domain as A-labels in lower case. Two
 * addresses that mean the same mailbox have the same key. */
struct address_key {
    char text[ADDRESS_LOCAL_MAX + 1 + ADDRESS_DOMAIN_MAX + 1]; /* local@domain with a NUL behind; the last @ divides */
    uint16_t local_n, n;
    bool literal;
};
bool address_key(struct span text, struct address_key *key);
static inline struct span address_key_span(const struct address_key *k)
{
    return (struct span){k->text, k->n};
}
static inline struct span address_key_local(const struct address_key *k)
{
    return (struct span){k->text, k->local_n};
}
static inline struct span address_key_domain(const struct address_key *k)
{
    return (struct span){k->text + k->local_n + 1, (size_t)k->n - k->local_n - 1};
}
/* The same key from an unquoted local part and a canonical domain. False: too long, or control characters. */
bool address_key_make(struct span local, struct span domain, struct address_key *key);

/* `user+detail` → user, detail. False, and base = local, when there is no detail (a leading + belongs to the name). */
bool address_detail(struct span local, struct span *base, struct span *detail);

/* The canonical form of a domain name: A-labels (IDNA 2008, UTS 46 non-transitional), lower case, no dot at the end, 1
 * to 255 bytes, labels of 1 to 63 letters, digits and inner hyphens. False: not a domain name. `out` holds
 * ADDRESS_DOMAIN_MAX + 1 bytes and gets a NUL. */
bool domain_canonical(struct span name, char *out, size_t *n);

/* Appends `local@domain` with the local part quoted when it has to be. */
void address_put(struct buf *out, struct span unquoted_local, struct span domain);

#endif
