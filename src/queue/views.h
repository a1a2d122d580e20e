/* What operators ask in SQL: a connection that shows the queue and its history as views with a version
 * (doc/queue-sql.md), and can do nothing but read them. On any thread but the loop's. */
#ifndef QUEUE_VIEWS_H
#define QUEUE_VIEWS_H

#include "db/guard.h"

#define VIEWS_DAYS 10 /* of history, the newest: as many databases as SQLite joins to one connection */

/* Ended by db_close(). */
int views_open(struct db **out, const char *dir, struct err *err);

#endif
