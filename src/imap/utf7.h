/* Mailbox names on the wire: modified UTF-7, RFC 3501 §5.1.3. */
#ifndef IMAP_UTF7_H
#define IMAP_UTF7_H

#include "base/buf.h"
#include "base/span.h"

/* Appends UTF-8. -1: not in its one right form (bad base64, characters encoded without need, lone surrogates, bytes
 * above 0x7f). */
int utf7_decode(struct span name, struct buf *out);
/* The name is well-formed UTF-8. */
void utf7_encode(struct span name, struct buf *out);

#endif
