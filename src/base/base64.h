/* Base64 of RFC 4648 §4, as SASL exchanges and protocol lines carry it: strict, no line ends inside. MIME's lenient
 * reading is not here. */
#ifndef BASE_BASE64_H
#define BASE_BASE64_H

#include "base/buf.h"

/* Appends the decoded bytes. -1 for anything but whole, padded groups with zero spare bits; nothing was appended then.
 */
int base64_decode(struct span text, struct buf *out);
void base64_encode(struct span bytes, struct buf *out);

#endif
