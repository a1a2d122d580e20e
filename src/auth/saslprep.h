/* SASLprep (RFC 4013): one form for passwords that look the same, whatever keyboard or system they come from. */
#ifndef AUTH_SASLPREP_H
#define AUTH_SASLPREP_H

#include "base/span.h"

/* Prepares UTF-8 as a stored string (RFC5802:2.2, RFC4616:2): spaces are one kind, compatibility forms are theirs. out: `size` bytes,
 * of which *n are used. False: it has characters that are prohibited or were not assigned in Unicode 3.2, mixes directions, becomes
 * empty, or does not fit; out is wiped. */
bool saslprep(struct span in, char *out, size_t size, size_t *n);

#endif
