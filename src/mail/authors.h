/* Who a message says wrote and sent it: the addresses in From and Sender (RFC 5322 §3.6.2), for a server that lets its
 * users write as themselves only (RFC6409:6.1). Strict where readers differ: whatever anybody could take for an author
 * is one. Pure. */
#ifndef MAIL_AUTHORS_H
#define MAIL_AUTHORS_H

#include "mail/header.h"

#define AUTHORS_MAX 100

struct author {
    const char *field;   /* "From" or "Sender" */
    struct span address; /* local@domain, its local part quoted where it has to be; not judged further */
};

/* header: the header section. list: AUTHORS_MAX entries, without those that come twice; what they point to is in the
 * arena. NULL: *n of them are there (none when there is neither field). Else what is wrong with the message, for its
 * sender. */
const char *authors_read(struct span header, struct arena *a, struct author *list, size_t *n);

#endif
