/* SQLite, narrowed to what our databases need: opening, prepared statements, transactions, migrations, checkpoints. The
 * only home of sqlite3.h. One connection belongs to one thread (it has no mutex); only db_interrupt() may come from
 * another.
 *
 *     struct db_stmt *s = db_stmt(db, "SELECT uid, flags FROM message WHERE mailbox = ? AND uid > ?");
 *     db_bind_i64(s, 1, mailbox);
 *     db_bind_i64(s, 2, after);
 *     int got;
 *     while ((got = db_step(s, err)) > 0)
 *         use(db_i64(s, 0), db_blob(s, 1));
 *     if (got < 0)
 *         return -1;
 *
 * A statement that failed to prepare is NULL, and every function below takes NULL: db_step() then reports the failure.
 */
#ifndef DB_DB_H
#define DB_DB_H

#include "base/err.h"
#include "base/span.h"

struct db;
struct db_stmt;

/* What kind of failure the last one was. */
enum db_code {
    DB_OK,
    DB_BUSY,       /* another connection held the lock longer than busy_ms */
    DB_CONSTRAINT, /* a unique key, a foreign key, a check */
    DB_FULL,       /* no room on disk */
    DB_IOERR,
    DB_CORRUPT,
    DB_INTERRUPTED,
    DB_CANTOPEN,
    DB_FAILED, /* anything else */
};

struct db_options {
    bool read_only; /* the file must exist */
    bool sync_full; /* every commit is on disk when it returns; otherwise only checkpoints sync, and the owner runs
                       syncfs */
    bool no_sync;   /* no sync at all: the file may be damaged after a crash of the machine */
    bool scratch;   /* no file beside it: its journal is in memory, and after a crash of ours it may be damaged, too */
    bool keep_wal;  /* keep the WAL file, and don't checkpoint, at close: no syncs and unlinks there */
    bool own_checkpoints; /* never checkpoint by itself: the owner calls db_checkpoint() */
    bool unsynced_setup; /* making a new file costs no sync: the owner runs syncfs before anything in it counts */
    bool small;           /* one of many connections on this machine: a small buffer for SQLite's own allocations */
    bool one_process;     /* no other process opens it while we do: no shared-memory file, no lock calls for each
                             transaction */
    unsigned busy_ms;     /* 0: 5 s */
    unsigned cache_kib;   /* 0: 2 MiB */
    unsigned page_size;   /* of a new file; 0: 4096 */
    bool gives_back;      /* of a new file: its free pages can be given back in steps, db_give_back() */
    int64_t wal_limit;    /* bytes the WAL file is cut back to when it starts anew; 0: 4 MiB */
};

/* Touches what every connection needs, without any file: for a process whose children open databases. */
int db_warm(struct err *err);
/* Opens `name` in directory `dir`, making it (mode 0600) when it is missing and not read_only. The file itself must not
 * be a symbolic link. */
int db_open(struct db **out, const char *dir, const char *name, const struct db_options *o, struct err *err);
/* To be called before that, while nobody has it open, or by its only owner between two transactions. When a sync failed, the
 * kernel takes what was not written for written: what is in the log can be read, and a later sync succeeds, but the next loss
 * of power takes it away. So what is in the log is written and synced once more. frames (may be NULL): how many frames are whole; with
 * less than the last commit said (db_on_wal) the kernel has forgotten what it could not write. */
int db_renew_log(const char *dir, const char *name, int64_t *frames, struct err *err);
/* Of this thread's last db_open() that failed. */
enum db_code db_open_code(void);
/* Every statement ends here, a transaction still open is rolled back. */
void db_close(struct db **db);
/* Runs the numbered steps that the file has not seen yet (user_version says how many it has), each in one transaction.
 * A file that is newer than `count` is refused. */
int db_migrate(struct db *db, const char *const *steps, unsigned count, struct err *err);

/* One or more statements without results, for set-up. */
int db_exec(struct db *db, const char *sql, struct err *err);
/* The first column of the first row, or `otherwise` when there is no row or it is NULL. */
int db_value(struct db *db, const char *sql, int64_t otherwise, int64_t *out, struct err *err);

/* ---- statements ---- */
/* The prepared statement for that text (a string literal: it is remembered by address and compared), ready for binding.
 * It stays the connection's. Asking again while it is between two rows is our bug and aborts: let db_step() reach the
 * end, or call db_reset(). */
struct db_stmt *db_stmt(struct db *db, const char *sql);
/* One that is not remembered, for text made at run time: db_finish() it. Values are always bound, never written into
 * the text. */
struct db_stmt *db_prepare(struct db *db, struct span sql);
void db_finish(struct db_stmt **s);

/* Parameters count from 1. Bytes are borrowed until the statement is reset. A span whose p is NULL is bound as NULL; an
 * empty one with p set as the empty text (blob). */
void db_bind_i64(struct db_stmt *s, int index, int64_t value);
void db_bind_text(struct db_stmt *s, int index, struct span text);
void db_bind_blob(struct db_stmt *s, int index, struct span bytes);
void db_bind_null(struct db_stmt *s, int index);
void db_bind_real(struct db_stmt *s, int index, double value);

/* 1: a row. 0: the end, the statement is reset. -1: failed (the statement is reset, db_code() says how). */
int db_step(struct db_stmt *s, struct err *err);
/* Steps to the end, ignoring rows: for INSERT, UPDATE, DELETE. */
int db_run(struct db_stmt *s, struct err *err);
/* Ends it before its last row. Values of its row and bound bytes are no longer needed. */
void db_reset(struct db_stmt *s);

/* Columns count from 0; spans live until the next step or reset. */
int64_t db_i64(struct db_stmt *s, int column);
double db_real(struct db_stmt *s, int column);
struct span db_text(struct db_stmt *s, int column); /* p is NULL for NULL only */
struct span db_blob(struct db_stmt *s, int column);
bool db_is_null(struct db_stmt *s, int column);
int db_columns(struct db_stmt *s);
const char *db_column_name(struct db_stmt *s, int column);
const char *db_column_declared(struct db_stmt *s, int column); /* the type of the table's column; "": it is an expression */

/* ---- transactions ---- */
int db_begin(struct db *db, struct err *err);      /* for writing: takes the lock now */
int db_begin_read(struct db *db, struct err *err); /* one snapshot for several reads */
int db_commit(struct db *db, struct err *err);     /* when it fails the transaction has been rolled back */
void db_rollback(struct db *db);                   /* fine without one */
bool db_in_transaction(const struct db *db);

int64_t db_last_rowid(const struct db *db);
int64_t db_changes(const struct db *db); /* rows that the last INSERT, UPDATE or DELETE changed */
int64_t db_changes_ever(const struct db *db); /* that all of this connection have changed, also those that were rolled back */
enum db_code db_code(const struct db *db);

/* ---- the write-ahead log ---- */
/* Moves the log into the file: as much as readers allow, and with `truncate` waits for them (busy_ms) and empties the
 * log's file. left: pages still in the log afterwards (may be NULL). */
int db_checkpoint(struct db *db, bool truncate, int64_t *left, struct err *err);
/* Called when a transaction that changed something is about to be committed; must not use the database. */
void db_on_commit(struct db *db, void (*fn)(void *ctx), void *ctx);
/* Called after each commit with the log's length in pages; replaces automatic checkpoints. */
void db_on_wal(struct db *db, void (*fn)(void *ctx, int64_t pages), void *ctx);

/* Asks now and then, while a statement runs; true ends it with DB_INTERRUPTED. NULL: no more. */
void db_on_progress(struct db *db, bool (*over)(void *ctx), void *ctx);
/* Any thread: the statement running now ends with DB_INTERRUPTED. */
void db_interrupt(struct db *db);

#endif
