/* Header sections: fields, folding, address lists. RFC 5322 §2.2, §3.4. Reads what is there, valid or not: lines end
 * with CRLF or LF. */
#ifndef MAIL_HEADER_H
#define MAIL_HEADER_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/span.h"

#define HEADER_MAX (256u << 10)   /* of one header section, what is beyond is not looked at (HAZARDS 23) */
#define HEADER_ADDRESSES_MAX 2000 /* of one field */

struct header_field {
    struct span raw;   /* name to line end, continuation lines included */
    struct span name;  /* without blanks before the colon; empty for a line without a colon */
    struct span value; /* behind the colon, folds inside, without the last line end */
};

/* Takes the next field off *rest. False at the end of the header; *rest is then what follows the empty line. */
bool header_next(struct span *rest, struct header_field *f);
/* Length of the header section, the empty line included; the whole length when there is none. */
size_t header_length(struct span message);
/* The first field of that name. */
bool header_find(struct span header, const char *name, struct span *value);
/* Appends the value unfolded: line ends removed (RFC5322:2.2.3), blanks at both ends trimmed. */
void header_unfold(struct span value, struct buf *out);

/* Structured fields: takes blanks, folds and comments off the front. */
void header_skip_cfws(struct span *s);

enum header_address_kind { HEADER_MAILBOX, HEADER_GROUP, HEADER_GROUP_END };
struct header_address {
    struct header_address *next;
    enum header_address_kind kind;
    struct span name;   /* display name (a group's name), quotes removed, encoded words as they are; p NULL: none */
    struct span local;  /* quotes removed; p NULL: none */
    struct span domain; /* p NULL: none was given */
};
/* The value of From, To and the like: mailboxes and groups, `<>`, obsolete routes (dropped), comments (a trailing one
 * is the name when there is no other). Everything in the arena; NULL: no address. RFC5322:3.4 */
struct header_address *header_addresses(struct span value, struct arena *a);

#endif
