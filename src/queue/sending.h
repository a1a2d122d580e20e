/* What accounts send, counted: messages and recipients in the last hour and day, and recipients that an account never wrote to
 * before. In memory, bounded, pure: the caller has the clock (wall: ms since 1970) and keeps the rows.
 *
 * A count covers the last hour or day in steps of a 24th of it. What would pass a limit adds nothing. */
#ifndef QUEUE_SENDING_H
#define QUEUE_SENDING_H

#include "base/sending.h"
#include "base/span.h"

#define SENDING_STEPS 24

struct sending;
/* remembered: recipients, of all accounts; an eighth of them of one. */
struct sending *sending_new(size_t remembered);
void sending_free(struct sending **s);
void sending_remember(struct sending *s, size_t remembered);

/* The recipient as one account knows it. address: in one spelling, but for case. */
uint64_t sending_key(uint32_t account, struct span address);
/* A message of that account to those. SENDING_LIMITS: it is within them and counted, and its recipients are known from now on;
 * *permille says how much of its nearest limit is used. to: looked at only with a limit of new recipients. Else the limit that it would pass. */
enum sending_limit sending_take(struct sending *s, uint32_t account, const uint32_t most[SENDING_LIMITS], const uint64_t *to,
                                size_t count, int64_t wall, unsigned *permille);
/* Counts begin anew; who is known stays so. */
void sending_restart(struct sending *s, uint32_t account);
uint32_t sending_count(const struct sending *s, uint32_t account, enum sending_limit kind, int64_t wall);

/* ---- rows ---- */

/* One account's counts, or (account 0 in neither) one recipient that is known to it. */
struct sending_row {
    uint32_t account;
    uint64_t key; /* 0: the counts */
    int64_t seen; /* of a recipient: ms since 1970, to the day */
    uint32_t counts[SENDING_LIMITS][SENDING_STEPS];
    int64_t at[SENDING_LIMITS]; /* the step that was counted last */
};
/* Up to `max` rows that changed since they were taken last. */
size_t sending_take_changed(struct sending *s, struct sending_row *out, size_t max);
bool sending_changed(const struct sending *s);
/* Recipients oldest first. */
void sending_restore(struct sending *s, const struct sending_row *row);

#endif
