/* What can be said of the name a client gives itself, without asking anybody (RFC 5321 §2.3.5, §4.1.1.1, §4.1.3). Pure. */
#ifndef SMTP_HELO_H
#define SMTP_HELO_H

#include "base/span.h"

enum smtp_helo_kind {
    SMTP_HELO_NAME,          /* a name of several labels: DNS knows more of it */
    SMTP_HELO_LITERAL,       /* the client's own address in brackets */
    SMTP_HELO_OTHER_LITERAL, /* somebody else's address in brackets: behind address translation that happens to honest clients */
    SMTP_HELO_WORD,          /* one label: not fully qualified, RFC5321:2.3.5 */
    SMTP_HELO_OURS,          /* our own name or address */
    SMTP_HELO_BAD,           /* neither a domain nor an address literal, RFC5321:4.1.1.1; an address without its brackets */
};

/* hostname: our name. client, local: the two addresses of the connection as text without brackets. */
enum smtp_helo_kind smtp_helo_kind(struct span helo, struct span hostname, struct span client, struct span local);
/* "is one word and no host name with its domain (RFC 5321 2.3.5)": what is wrong with it, behind "The name you gave in EHLO".
 * NULL: nothing. */
const char *smtp_helo_flaw(enum smtp_helo_kind kind);

#endif
