/* The one writer of IMAP strings (RFC 3501 §4.3): nothing a message or a client says can break out of it. */
#ifndef MAIL_NSTRING_H
#define MAIL_NSTRING_H

#include "base/buf.h"
#include "base/span.h"

/* Quoted when the bytes may stand in quotes (no CR, LF, NUL, nothing above 0x7f, not too long), else a literal; a NUL
 * becomes 0x80. */
void nstring_put(struct buf *out, struct span s);         /* s.p NULL: NIL */
void nstring_put_string(struct buf *out, struct span s);  /* never NIL */
void nstring_put_astring(struct buf *out, struct span s); /* a bare atom where that is enough */
/* "{n}\r\n" */
void nstring_put_literal_head(struct buf *out, uint64_t n);
/* Bytes of a literal: NUL can't be sent (RFC3501:9 CHAR8) and becomes 0x80, the length stays. */
void nstring_put_literal_bytes(struct buf *out, struct span bytes);
bool nstring_is_atom(struct span s); /* 1*ATOM-CHAR */

#endif
