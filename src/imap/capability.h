/* What the server can, before and after login: one table for the front and for the account's process. */
#ifndef IMAP_CAPABILITY_H
#define IMAP_CAPABILITY_H

#include "base/buf.h"

enum imap_capability_when {
    IMAP_BEFORE_TLS,   /* a login needs STARTTLS first: STARTTLS LOGINDISABLED (RFC3501:6.2.1) */
    IMAP_BEFORE_LOGIN, /* SASL-IR AUTH=... */
    IMAP_AFTER_LOGIN,
};
/* Appends "IMAP4rev1 LITERAL+ …", no blank at either end. starttls: it is offered here; mechanisms: a list with blanks
 * (both only matter before login). */
void imap_put_capabilities(struct buf *out, enum imap_capability_when when, bool starttls, struct span mechanisms);

#endif
