/* Inside of src/db. */
#ifndef DB_PRIV_H
#define DB_PRIV_H

#include <sqlite3.h>

#include "db/db.h"

sqlite3 *db_handle(const struct db *db);
struct db_stmt *db_adopt(struct db *db, sqlite3_stmt *st); /* as from db_prepare() */
void guard_configure(void);                                /* before SQLite is used */
bool guard_limited(void); /* this thread has a limit of memory: it is told when that is passed, and bad SQL is not ours */

#endif
