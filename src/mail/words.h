/* Text of mail to UTF-8: character sets, encoded words (RFC 2047), quoted-printable and base64 as bodies carry them
 * (RFC 2045), and folding of case for search. What can't be decoded shows as U+FFFD; nothing here fails. */
#ifndef MAIL_WORDS_H
#define MAIL_WORDS_H

#include "base/buf.h"
#include "base/span.h"

/* Opens what conversions need: in an empty root it can't be opened later. Before the sandbox; safe to call again. */
void words_warm(void);
void words_cool(void); /* closes it again (leak checks) */

/* Whether text in that charset can be converted. Empty: us-ascii. */
bool charset_known(struct span charset);
/* Appends the bytes as UTF-8. False: charset unknown (then ASCII is kept, the rest is U+FFFD). Us-ascii with bytes
 * above 0x7f is read as UTF-8 when it is that, else as windows-1252. */
bool charset_to_utf8(struct span charset, struct span bytes, struct buf *out);

/* A field's value for people: unfolded, encoded words decoded (blanks between two of them go, RFC2047:6.2), control
 * characters blanked. */
void words_decode(struct span value, struct buf *out);

/* The other way: UTF-8 text as encoded words, folded (RFC2047:2: 75 characters each, of whole characters). */
void words_encode(struct span text, struct buf *out);

/* Appends UTF-8 text with its case folded, so that two spellings that differ in case are equal bytes. Bad UTF-8 bytes
 * are kept. */
void words_fold(struct span text, struct buf *out);

/* Transfer decoding in pieces: {0} at the start; feed in order. Lenient: what isn't base64 is skipped; a broken =XX
 * stays as it is. */
enum transfer { TRANSFER_NONE, TRANSFER_BASE64, TRANSFER_QP };
struct transfer_state {
    char held[4];
    unsigned held_n;
    bool ended;
};
enum transfer transfer_of(struct span name); /* the value of Content-Transfer-Encoding; unknown: TRANSFER_NONE */
void transfer_decode(enum transfer t, struct transfer_state *st, struct span piece, bool last, struct buf *out);

#endif
