#include "queue/retry.h"

#include "base/util.h"

#define JITTER_PARTS 8

static int64_t plain_wait(const struct retry_times *t, unsigned attempts)
{
    if (t->step_count)
        return t->steps[MIN_OF((size_t)MAX_OF(attempts, 1u), t->step_count) - 1];
    int64_t wait = t->first;
    for (unsigned i = 1; i < attempts && wait < t->longest; i++)
        wait *= 2;
    return MIN_OF(wait, t->longest);
}

int64_t retry_wait(const struct retry_times *t, unsigned attempts, uint64_t random)
{
    int64_t wait = plain_wait(t, attempts), room = wait / JITTER_PARTS;
    if (room > 0)
        wait += (int64_t)(random % (uint64_t)(2 * room + 1)) - room;
    return MAX_OF(wait, (int64_t)1);
}

int64_t retry_longest(const struct retry_times *t)
{
    return plain_wait(t, UINT32_MAX);
}

int64_t retry_end(const struct retry_times *t, int64_t received, bool null_sender)
{
    return received + (null_sender ? t->notice_expire : t->expire);
}
