/* The parameters of delivery status notifications on MAIL and RCPT (RFC 3461 §4), for both sides of the protocol. Pure.
 */
#ifndef SMTP_DSN_H
#define SMTP_DSN_H

#include "base/buf.h"

#define SMTP_ENVID_MAX 100 /* characters of its xtext, RFC3461:4.4 */
#define SMTP_ORCPT_MAX 500 /* RFC3461:4.2 */

/* Bits of NOTIFY; 0: not given. The queue keeps them with these values. */
enum smtp_notify { SMTP_NOTIFY_NEVER = 1, SMTP_NOTIFY_SUCCESS = 2, SMTP_NOTIFY_FAILURE = 4, SMTP_NOTIFY_DELAY = 8 };
/* RET; 0: not given. Kept likewise. */
enum smtp_ret { SMTP_RET_FULL = 1, SMTP_RET_HDRS = 2 };

/* False: not in the grammar. */
bool smtp_notify_parse(struct span value, uint8_t *notify);
bool smtp_ret_parse(struct span value, uint8_t *ret);
/* Both stay as they were given, in xtext. */
bool smtp_envid_valid(struct span value);
/* utf8: in a transaction with SMTPUTF8, where an address of type utf-8 may stand as it is (RFC6533:3). */
bool smtp_orcpt_valid(struct span value, bool utf8);

/* " NOTIFY=…", " RET=…"; nothing for 0. */
void smtp_notify_put(struct buf *out, uint8_t notify);
void smtp_ret_put(struct buf *out, uint8_t ret);
/* " ORCPT=…"; without utf8, what is not ASCII is written as \x{…}. Nothing for what is not valid. */
void smtp_orcpt_put(struct buf *out, struct span orcpt, bool utf8);

#endif
