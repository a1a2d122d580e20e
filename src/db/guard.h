/* Statements that an operator wrote: a connection that can only read, and of that only what it is shown; bounded in
 * memory, in the size of its statement, and (db_on_progress) in time. */
#ifndef DB_GUARD_H
#define DB_GUARD_H

#include "db/db.h"

struct db_guard {
    bool (*readable)(const char *table, const char *column); /* column "": the table as such */
    const char *const *functions;                            /* that may be called, ended by NULL */
};
/* From here on no statement of this connection does anything else. The guard is kept, not copied. */
void db_guard(struct db *db, const struct db_guard *g);
/* One statement, which reads. NULL: err says why not. db_finish() it. */
struct db_stmt *db_question(struct db *db, struct span sql, struct err *err);
/* What SQLite takes on this thread from now on, in bytes; what needs more fails. 0: no limit. For threads that have
 * their connections to themselves and close them before they lift it. */
void db_memory_limit(size_t bytes);

/* A function of one argument in SQL: writes its text to out; false: NULL. */
typedef bool db_text_fn(struct span arg, char *out, size_t size);
int db_define(struct db *db, const char *name, db_text_fn *fn, struct err *err);

enum db_type { DB_NULL, DB_INTEGER, DB_REAL, DB_TEXT, DB_BLOB };
enum db_type db_type(struct db_stmt *s, int column);

#endif
