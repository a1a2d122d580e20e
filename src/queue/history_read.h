/* Reading history: day by day, each with a connection of its own, on any thread but the loop's. */
#ifndef QUEUE_HISTORY_READ_H
#define QUEUE_HISTORY_READ_H

#include "queue/history.h"

#define HISTORY_DAYS_MAX 400 /* that are looked at */

/* All that is given counts. */
struct history_filter {
    uint64_t message;       /* 0: any */
    struct span address;    /* of the sender or the recipient, also as its sender gave it; without case; empty: any */
    struct span message_id; /* as the header has it; empty: any */
    int64_t since;          /* ms since 1970 */
    bool oldest_first;      /* else the newest, by the time of acceptance and then of the event */
};
/* Spans of the event live until it returns. False: enough. */
typedef bool history_row_fn(void *ctx, const struct history_event *e);
/* over: asked now and then; true: stop. 0: all was read; 1: stopped; -1. A day that can't be read is skipped and logged. */
int history_read(const char *dir, const struct history_filter *f, history_row_fn *row, bool (*over)(void *ctx), void *ctx,
                 struct err *err);

#endif
