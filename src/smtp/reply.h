/* The one writer of SMTP replies (RFC 5321 §4.2, RFC 2034): whatever text it is given, no control character leaves. */
#ifndef SMTP_REPLY_H
#define SMTP_REPLY_H

#include "base/buf.h"
#include "base/outcome.h"
#include "smtp/limits.h"

/* "250 2.1.0 text\r\n". status NULL: without an enhanced code (greeting, EHLO, 334, 354). The line is cut at its limit.
 */
void smtp_reply_put(struct buf *out, unsigned code, const char *status, struct span text);
/* The same for a client that said it takes UTF-8 (RFC6531:3.7.4.2); what is none becomes "?". */
void smtp_reply_line_utf8(struct buf *out, unsigned code, const char *status, bool more, struct span text);
/* One line of several: more means another one follows ("250-text"). */
void smtp_reply_line(struct buf *out, unsigned code, const char *status, bool more, struct span text);
/* The outcome as a reply; without a code 250, 451 or 550 stands for its kind. */
void smtp_reply_outcome(struct buf *out, const struct outcome *o);

#endif
