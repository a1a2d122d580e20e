#include "qmgr/rates.h"

#include <string.h>

#include "base/util.h"

#define MINUTE INT64_C(60000)
#define SLOTS (RATES_MINUTES + 1)

const char *rate_name(enum rate r)
{
    static const char *const names[] = {
#define RATE_NAME(name, word) [RATE_##name] = word,
        RATES(RATE_NAME)
#undef RATE_NAME
    };
    return names[r];
}

void rates_init(struct rates *r, int64_t now)
{
    *r = (struct rates){.began = now, .minute = now / MINUTE};
}

/* Empties the minutes that have begun since. */
static void turn(struct rates *r, int64_t now)
{
    int64_t minute = now / MINUTE;
    for (int64_t m = MAX_OF(r->minute + 1, minute - RATES_MINUTES); m <= minute; m++)
        memset(r->counts[m % SLOTS], 0, sizeof r->counts[0]);
    r->minute = MAX_OF(r->minute, minute);
}

void rates_add(struct rates *r, enum rate what, int64_t now)
{
    turn(r, now);
    r->counts[r->minute % SLOTS][what]++;
    r->totals[what]++;
}

uint64_t rates_per_minute(struct rates *r, enum rate what, unsigned minutes, int64_t now)
{
    turn(r, now);
    int64_t left = MINUTE - now % MINUTE; /* of the oldest minute, what is still within */
    int64_t over = MIN_OF((int64_t)minutes * MINUTE, MAX_OF(now - r->began, MINUTE));
    uint64_t sum = 0; /* of events, each MINUTE times */
    for (unsigned i = 0; i <= minutes && r->minute >= i; i++)
        sum += (uint64_t)r->counts[(r->minute - i) % SLOTS][what] * (uint64_t)(i == minutes ? left : MINUTE);
    return sum * 1000 / (uint64_t)over;
}
