/* Whom a message is for, as its header says (`sendmail -t`), and addresses that lack a domain. Pure. */
#ifndef MAIL_RECIPIENTS_H
#define MAIL_RECIPIENTS_H

#include "mail/header.h"

struct recipients {
    struct span *list; /* local@domain, quoted as RFC5321:4.1.2 wants it; in the arena */
    size_t n, cap;
    struct arena arena;
};

void recipients_free(struct recipients *r);
/* The addresses of a field's value, or of one argument of a command line; those without a domain get this one. False:
 * `wrong` holds which is none. */
bool recipients_add(struct recipients *r, struct span value, struct span domain, struct buf *wrong);
/* Those of To, Cc and Bcc; of Resent-To, Resent-Cc and Resent-Bcc instead, when it was resent: those of the first block
 * alone, the last to be resent (RFC5322:3.6.6). */
bool recipients_add_header(struct recipients *r, struct span header, struct span domain, struct buf *wrong);
/* Each only once. */
void recipients_unique(struct recipients *r);

/* Whether a field of that name holds addresses. */
bool recipients_field(struct span name);
/* Appends the value of such a field with `@domain` put behind every address that lacks one; nothing else changes. */
void recipients_qualify(struct span value, struct span domain, struct buf *out);

#endif
