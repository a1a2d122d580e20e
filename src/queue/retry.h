/* When to try again, for how long, and when senders are told of a delay. Pure. */
#ifndef QUEUE_RETRY_H
#define QUEUE_RETRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RETRY_STEPS_MAX 32

struct retry_times {
    int64_t first, longest, expire, notice_expire; /* ms */
    int64_t steps[RETRY_STEPS_MAX];                /* a schedule, instead of first and longest */
    size_t step_count;                             /* 0: none */
};
/* The wait after attempt number `attempts` (1, 2, …): that step of the schedule (the last one for all that follow), or
 * first, doubling up to longest; moved by up to an eighth either way so that what failed together does not come back
 * together. random: any number. */
int64_t retry_wait(const struct retry_times *t, unsigned attempts, uint64_t random);
/* The last of these waits, not moved. */
int64_t retry_longest(const struct retry_times *t);
/* When a message is given up (RFC5321:4.5.4.1). */
int64_t retry_end(const struct retry_times *t, int64_t received, bool null_sender);

#endif
