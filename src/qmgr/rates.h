/* How much happens: counters for each minute of the last hour, in memory only. Pure: the time is an argument, on a clock
 * that never jumps. */
#ifndef QMGR_RATES_H
#define QMGR_RATES_H

#include <stdint.h>

#define RATES_MINUTES 60

/* R(ENUM, "word"): messages come in; the others are recipients. */
#define RATES(R)           \
    R(IN, "in")            \
    R(DELIVERED, "delivered") \
    R(RELAYED, "relayed")  \
    R(DEFERRED, "deferred") \
    R(BOUNCED, "bounced")

enum rate {
#define RATE_ENUM(name, word) RATE_##name,
    RATES(RATE_ENUM)
#undef RATE_ENUM
    RATE_COUNT
};
const char *rate_name(enum rate r);

struct rates {
    int64_t began;   /* ms; counting began then */
    int64_t minute;  /* the last that was counted in */
    uint32_t counts[RATES_MINUTES + 1][RATE_COUNT]; /* by minute, in turns: this one and the hour before it */
    uint64_t totals[RATE_COUNT];
};
void rates_init(struct rates *r, int64_t now);
void rates_add(struct rates *r, enum rate what, int64_t now);
/* How many a minute, in thousandths, over the last `minutes` (1 to RATES_MINUTES), or since counting began when that is
 * shorter (a minute at least). Of the minute at the far end the part counts that is still within. */
uint64_t rates_per_minute(struct rates *r, enum rate what, unsigned minutes, int64_t now);

#endif
