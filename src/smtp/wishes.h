/* What MAIL may ask of a message's time: DELIVERBY (RFC 2852 §4), FUTURERELEASE (RFC 4865 §3), MT-PRIORITY (RFC 6710
 * §7), for both sides of the protocol. Pure: nothing here asks the clock. */
#ifndef SMTP_WISHES_H
#define SMTP_WISHES_H

#include "base/buf.h"

#define SMTP_BY_TIME_MAX 999999999 /* seconds, either way: RFC2852:4 */
#define SMTP_HOLD_MAX 999999999    /* seconds: RFC4865:3 */
#define SMTP_HOLD_TEXT_MAX 64      /* octets of HOLDUNTIL's value that are taken */
#define SMTP_PRIORITY_MAX 9        /* RFC6710:5 */

/* Bits. The queue keeps them with these values. */
enum smtp_by { SMTP_BY_RETURN = 1, SMTP_BY_NOTIFY = 2, SMTP_BY_TRACE = 4 };

/* by-time ";" by-mode [by-trace]. False: not in the grammar, or a time that is over with mode R. */
bool smtp_by_parse(struct span value, int64_t *seconds, uint8_t *mode);
/* " BY=…"; the time is clipped to what the grammar can say. */
void smtp_by_put(struct buf *out, int64_t seconds, uint8_t mode);
bool smtp_hold_for_parse(struct span value, uint32_t *seconds);
/* An RFC 3339 date-time; *seconds since 1970, a fraction is rounded up. */
bool smtp_hold_until_parse(struct span value, int64_t *seconds);
bool smtp_priority_parse(struct span value, int8_t *priority);
/* "2026-11-24T11:48:00Z" */
void smtp_time_put(struct buf *out, int64_t seconds);

#endif
