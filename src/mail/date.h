/* Dates of mail: RFC 5322 §3.3 with its obsolete forms, IMAP's INTERNALDATE (RFC 3501 §9 date-time), Received lines.
 * Years 1 to 9999. Nothing here asks the clock. */
#ifndef MAIL_DATE_H
#define MAIL_DATE_H

#include "base/buf.h"
#include "base/span.h"

struct mail_date {
    int year, month, day;     /* month and day from 1 */
    int hour, minute, second; /* second 60 is a leap second */
    int zone;                 /* minutes east of Greenwich */
};

/* A Date field's value: comments, folds, obsolete years and zone names (an unknown zone counts as +0000), a missing day
 * name. -1: no date. */
int date_parse(struct span text, struct mail_date *out);
/* `dd-Mon-yyyy hh:mm:ss +zzzz` without its quotes, as APPEND has it. */
int date_parse_imap(struct span text, struct mail_date *out);
/* `d-Mon-yyyy`, as SEARCH has it (without quotes). */
int date_parse_imap_day(struct span text, struct mail_date *out);

int64_t date_unix(const struct mail_date *d); /* seconds since 1970 */
int64_t date_day(const struct mail_date *d);  /* days since 1970 of the date as written, whatever its zone */
void date_from_unix(int64_t seconds, int zone, struct mail_date *out); /* clipped to the years above */
int date_zone(
    int64_t seconds); /* the machine's own zone at that time; call once before the sandbox (it reads the zone file) */

/* "Mon, 23 Nov 2026 09:41:07 +0100": Date and Received (RFC5322:3.3). */
void date_put(struct buf *out, int64_t seconds, int zone);
/* "23-Nov-2026 09:41:07 +0100" without quotes, the day padded with a blank (RFC3501:9). */
void date_put_imap(struct buf *out, int64_t seconds, int zone);

#endif
