/* Inside of src/db. */
#ifndef DB_PRIV_H
#define DB_PRIV_H

#include <sqlite3.h>

#include "db/db.h"

sqlite3 *db_handle(const struct db *db);
struct db_stmt *db_adopt(struct db *db, sqlite3_stmt *st); /* as from db_prepare() */
void guard_configure(void);                                /* before SQLite is used */
/* wal.c: SQLite's file layer with logs that are written a commit at a time. Once, before the first db_open(). */
void wal_configure(void);
const char *wal_vfs(bool one_process); /* its name, for sqlite3_open_v2() */
bool guard_limited(void); /* this thread has a limit of memory: it is told when that is passed, and bad SQL is not ours */

#endif
