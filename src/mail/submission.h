/* Whether the header section of a message that a user hands in is fit to leave (RFC6409:6.3, RFC5322:3.6): what can't be
 * mended is named to its sender, and what is missing is added by the server. Pure. */
#ifndef MAIL_SUBMISSION_H
#define MAIL_SUBMISSION_H

#include "mail/header.h"

/* utf8: the transaction has SMTPUTF8. NULL: it is good. Else what is wrong, in words for the sender; *subject and *detail of the
 * status (RFC 3463). */
const char *submission_flaw(struct span header, bool utf8, unsigned *subject, unsigned *detail);
/* RFC5322:3.6.2: several authors and nobody who sent it. */
bool submission_wants_sender(struct span header);

#endif
