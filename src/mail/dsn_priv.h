/* What the files of a notification share. */
#ifndef MAIL_DSN_PRIV_H
#define MAIL_DSN_PRIV_H

#include "mail/dsn.h"

#define DSN_HALF_LINE 450 /* of two that share a line */
#define DSN_LINE 900      /* of a field that holds somebody's words; RFC5322:2.1.1 allows 998 */

/* Somebody's words on one line: no line breaks, no control characters, well-formed UTF-8, at most `max` bytes. */
void dsn_put_line(struct buf *out, struct span s, size_t max);
/* The action that matters most. */
enum dsn_action dsn_first_action(const struct dsn *d);
/* The name in From and the Subject, each encoded where it is not ASCII (RFC 2047). */
void dsn_put_from(struct buf *out, const struct dsn *d);
void dsn_put_subject(struct buf *out, const struct dsn *d);
/* What people read. */
void dsn_put_human(struct buf *out, const struct dsn *d);

#endif
