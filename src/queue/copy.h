/* The views (queue/views.h) as tables of a database of their own, for work with sqlite3 (doc/queue-sql.md). On any thread but
 * the loop's. */
#ifndef QUEUE_COPY_H
#define QUEUE_COPY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define COPY_NAME "copy.db" /* in the queue's folder, while it is made; one at a time */

struct copy_watch {
    bool (*over)(void *ctx); /* asked now and then; true: stop */
    /* After each page: rows of that unit that are done. -1: stop, err says why. */
    int (*look)(void *ctx, uint64_t done, const char *unit, struct err *err);
    void *ctx;
};
struct copy_counts {
    uint64_t messages, recipients, events;
    unsigned unread; /* days of history that could not be read */
};
/* A descriptor of the database's file, at its begin, whose name is gone already; -1. Rows are read a page at a time, each with
 * a snapshot of its own: what came or left meanwhile may be missing, but each message has a recipient, and the other way
 * round. */
int copy_make(const char *dir, const struct copy_watch *w, struct copy_counts *counts, struct err *err);

#endif
