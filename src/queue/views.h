/* What operators ask in SQL: a connection that shows the queue and its history as views with a version
 * (doc/queue-sql.md), and can do nothing but read them. On any thread but the loop's. */
#ifndef QUEUE_VIEWS_H
#define QUEUE_VIEWS_H

#include "db/guard.h"

#define VIEWS_DAYS 10 /* of history, the newest: as many databases as SQLite joins to one connection */

/* Ended by db_close(). */
int views_open(struct db **out, const char *dir, struct err *err);

/* ---- for statements of ours (queue/copy.c): no guard ---- */
int views_open_queue(struct db **out, const char *dir, struct err *err); /* v1_event is empty */
/* That day's v1_event, and `at` as its last column: no two events of a message have the same. */
int views_open_day(struct db **out, const char *dir, int64_t day, struct err *err);

#endif
