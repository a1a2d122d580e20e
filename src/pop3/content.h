/* A message as a multi-line response: lines end with CRLF, a dot at a line's beginning is doubled, ".CRLF" ends it.
 * RFC1939:3 */
#ifndef POP3_CONTENT_H
#define POP3_CONTENT_H

#include "base/buf.h"

struct pop3_stuffer {
    uint64_t body_lines; /* TOP: lines of the body still wanted; UINT64_MAX: all */
    bool in_line;        /* not at the beginning of a line */
    bool after_cr;
    bool body;           /* the empty line behind the header is out */
    bool empty;          /* the line so far is empty */
};

/* body_lines UINT64_MAX: everything (RETR). */
void pop3_stuffer_init(struct pop3_stuffer *s, uint64_t body_lines);
/* Appends what these bytes become. False: TOP has enough, nothing more is wanted. A bare LF becomes CRLF: clients
 * that take it for a line end must not see a terminator that is not one. */
bool pop3_stuff(struct pop3_stuffer *s, struct span bytes, struct buf *out);
void pop3_stuff_end(struct pop3_stuffer *s, struct buf *out);

#endif
