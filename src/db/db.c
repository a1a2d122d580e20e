/* SQLite behind db.h. It trusts the SQL text, which is ours, and nothing in the file: corruption is an error, never a
 * crash. */
#include "db/db.h"
#include "db/guard.h"
#include "db/priv.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sqlite3.h>

#include "base/log.h"
#include "base/mem.h"

#define BUSY_MS 5000
#define CACHE_KIB 2048
#define PAGE_SIZE_DEFAULT 4096
#define WAL_LIMIT (4 << 20)
#define AUTO_CHECKPOINT_PAGES 1000
#define PROGRESS_STEPS 2000
#define SMALL_SLOT 128
#define SMALL_SLOTS 64

struct db_stmt {
    sqlite3_stmt *st;
    struct db *db;
    const char *key; /* the literal's address; NULL: not remembered */
};

struct db {
    sqlite3 *h;
    struct db_stmt **cache; /* open addressing by the literal's address */
    size_t count, cap;      /* cap: a power of two */
    enum db_code code;
    char trouble[200]; /* of the statement that could not be prepared */
    void (*on_wal)(void *ctx, int64_t pages);
    void *on_wal_ctx;
    void (*on_commit)(void *ctx);
    void *on_commit_ctx;
    bool (*over)(void *ctx);
    void *over_ctx;
};

/* ---- failures ---- */

static enum db_code code_of(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE: return DB_OK;
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return DB_BUSY;
    case SQLITE_CONSTRAINT: return DB_CONSTRAINT;
    case SQLITE_FULL: return DB_FULL;
    case SQLITE_IOERR: return DB_IOERR;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return DB_CORRUPT;
    case SQLITE_INTERRUPT: return DB_INTERRUPTED;
    case SQLITE_CANTOPEN: return DB_CANTOPEN;
    case SQLITE_NOMEM:
        if (guard_limited())
            return DB_FAILED;
        abort();
    default: return DB_FAILED;
    }
}

/* ENOSPC and EDQUOT reach us as an I/O error from some calls: for our callers they are one thing. */
static enum db_code code_now(sqlite3 *h, int rc)
{
    enum db_code c = code_of(rc);
    if (c == DB_IOERR && h) {
        int e = sqlite3_system_errno(h);
        if (e == ENOSPC || e == EDQUOT)
            return DB_FULL;
    }
    return c;
}

static int fail(struct db *db, int rc, const char *doing, struct err *err)
{
    db->code = code_now(db->h, rc);
    int sys = db->code == DB_IOERR || db->code == DB_FULL || db->code == DB_CANTOPEN ? sqlite3_system_errno(db->h) : 0;
    return err_set(err, "%s: %s (%d)%s%s", doing, sqlite3_errmsg(db->h), sqlite3_extended_errcode(db->h),
                   sys ? ": " : "", sys ? strerror(sys) : "");
}

enum db_code db_code(const struct db *db)
{
    return db->code;
}

/* ---- opening and closing ---- */

static void sqlite_says(void *ctx, int rc, const char *text)
{
    (void)ctx;
    int kind = rc & 0xff;
    /* Busy, constraint and interrupt are the caller's business; a schema change is not worth a line. */
    if (kind == SQLITE_BUSY || kind == SQLITE_CONSTRAINT || kind == SQLITE_INTERRUPT || kind == SQLITE_SCHEMA ||
        kind == SQLITE_NOTICE || guard_limited())
        return;
    LOGW("sqlite", KVU("code", rc), KVT("why", text));
}

static pthread_once_t configured = PTHREAD_ONCE_INIT;

static void configure_once(void)
{
    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    sqlite3_config(SQLITE_CONFIG_LOG, sqlite_says, NULL);
    guard_configure();
    wal_configure();
}

static int path_put(char *path, size_t size, const char *dir, const char *name, struct err *err)
{
    int n = snprintf(path, size, "%s/%s", dir, name);
    return n > 0 && (size_t)n < size ? 0 : err_set(err, "%s/%s: the path is too long", dir, name);
}

/* Makes the file for its owner alone (SQLite gives its companions the same mode) and refuses a planted symbolic link.
 */
static int file_prepare(const char *path, bool read_only, struct err *err)
{
    int fd = open(path, (read_only ? O_RDONLY : O_RDWR | O_CREAT) | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_errno(err, "%s", path);
    struct stat st;
    int rc = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? 0 : err_set(err, "%s is not a regular file", path);
    close(fd);
    return rc;
}

static int set_up(struct db *db, const struct db_options *o, struct err *err)
{
    char sql[640];
    sqlite3_busy_timeout(db->h, (int)(o->busy_ms ? o->busy_ms : BUSY_MS));
    sqlite3_extended_result_codes(db->h, 1);
    sqlite3_db_config(db->h, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(db->h, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_db_config(db->h, SQLITE_DBCONFIG_ENABLE_FKEY, 1, NULL);
    if (o->keep_wal) {
        int on = 1;
        sqlite3_file_control(db->h, "main", SQLITE_FCNTL_PERSIST_WAL, &on);
        sqlite3_db_config(db->h, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    }
    if (o->small)
        sqlite3_db_config(db->h, SQLITE_DBCONFIG_LOOKASIDE, NULL, SMALL_SLOT, SMALL_SLOTS);
    sqlite3_wal_autocheckpoint(db->h, o->own_checkpoints ? 0 : AUTO_CHECKPOINT_PAGES);
    snprintf(
        sql, sizeof(sql),
        "PRAGMA page_size=%u;%s%s%sPRAGMA synchronous=%s;PRAGMA temp_store=MEMORY;PRAGMA mmap_size=0;PRAGMA cache_size=-%u;"
        "PRAGMA journal_size_limit=%lld;",
        o->page_size ? o->page_size : PAGE_SIZE_DEFAULT, o->gives_back ? "PRAGMA auto_vacuum=INCREMENTAL;" : "", o->unsynced_setup ? "PRAGMA synchronous=OFF;" : "",
        o->read_only ? "PRAGMA query_only=1;" : o->scratch ? "PRAGMA journal_mode=MEMORY;" : "PRAGMA journal_mode=WAL;", o->no_sync ? "OFF" : o->sync_full ? "FULL" : "NORMAL",
        o->cache_kib ? o->cache_kib : CACHE_KIB, (long long)(o->wal_limit ? o->wal_limit : WAL_LIMIT));
    return db_exec(db, sql, err);
}

static __thread enum db_code open_code;

enum db_code db_open_code(void)
{
    return open_code;
}

int db_open(struct db **out, const char *dir, const char *name, const struct db_options *o, struct err *err)
{
    pthread_once(&configured, configure_once);
    *out = NULL;
    char path[4096];
    struct err why;
    open_code = DB_CANTOPEN;
    if (path_put(path, sizeof(path), dir, name, err) || file_prepare(path, o->read_only, err))
        return -1;
    struct db *db = mem_alloc(sizeof(*db));
    int flags =
        SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE | (o->read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE);
    int rc = sqlite3_open_v2(path, &db->h, flags, wal_vfs(o->one_process));
    if (rc != SQLITE_OK || set_up(db, o, &why)) {
        err_set(err, "%s: %s", path, rc != SQLITE_OK ? sqlite3_errstr(rc) : why.text);
        open_code = rc != SQLITE_OK ? code_of(rc) : db->code;
        db_close(&db);
        return -1;
    }
    *out = db;
    return 0;
}

int db_warm(struct err *err)
{
    struct db *db = mem_alloc(sizeof(*db));
    pthread_once(&configured, configure_once);
    int rc = sqlite3_open_v2(":memory:", &db->h, SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_READWRITE, NULL);
    int r = rc != SQLITE_OK ? err_set(err, "sqlite: %s", sqlite3_errstr(rc))
                            : db_exec(db,
                                      "CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT UNIQUE); INSERT INTO t(b) VALUES "
                                      "('x'); SELECT * FROM t WHERE b = 'x';",
                                      err);
    db_close(&db);
    return r;
}

void db_close(struct db **dbp)
{
    struct db *db = *dbp;
    if (!db)
        return;
    *dbp = NULL;
    for (size_t i = 0; i < db->cap; i++)
        if (db->cache[i]) {
            sqlite3_finalize(db->cache[i]->st);
            mem_free(&db->cache[i]);
        }
    mem_free(&db->cache);
    /* A statement of db_prepare() that is still open would be a leak: it keeps the connection, and SQLite says so. */
    if (sqlite3_close(db->h) != SQLITE_OK)
        abort();
    mem_free(&db);
}

int db_exec(struct db *db, const char *sql, struct err *err)
{
    int rc = sqlite3_exec(db->h, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? 0 : fail(db, rc, "database", err);
}

static int migrate_one(struct db *db, const char *sql, unsigned version, struct err *err)
{
    char mark[64];
    snprintf(mark, sizeof(mark), "PRAGMA user_version=%u", version);
    if (db_begin(db, err))
        return -1;
    if (db_exec(db, sql, err) || db_exec(db, mark, err)) {
        db_rollback(db);
        return -1;
    }
    return db_commit(db, err);
}

int db_migrate(struct db *db, const char *const *steps, unsigned count, struct err *err)
{
    int64_t have;
    if (db_value(db, "PRAGMA user_version", 0, &have, err))
        return -1;
    if (have < 0 || have > count)
        return err_set(err, "the database has version %lld, this program knows %u: it was written by a newer one",
                       (long long)have, count);
    for (unsigned v = (unsigned)have; v < count; v++)
        if (migrate_one(db, steps[v], v + 1, err))
            return -1;
    return 0;
}

int db_value(struct db *db, const char *sql, int64_t otherwise, int64_t *out, struct err *err)
{
    struct db_stmt *s = db_prepare(db, span_of(sql));
    int got = s ? db_step(s, err) : err_set(err, "%s", db->trouble);
    if (got >= 0)
        *out = got && !db_is_null(s, 0) ? db_i64(s, 0) : otherwise;
    db_finish(&s);
    return got < 0 ? -1 : 0;
}

/* ---- statements ---- */

static struct db_stmt *prepare(struct db *db, struct span sql, const char *key)
{
    sqlite3_stmt *st;
    int rc = sqlite3_prepare_v3(db->h, sql.p, (int)sql.n, key ? SQLITE_PREPARE_PERSISTENT : 0, &st, NULL);
    if (rc != SQLITE_OK || !st) {
        struct err e;
        fail(db, rc, "cannot prepare", &e);
        snprintf(db->trouble, sizeof(db->trouble), "%.199s", e.text);
        LOGE("statement", KVS("sql", sql), KVT("why", e.text));
        return NULL;
    }
    struct db_stmt *s = mem_alloc(sizeof(*s));
    *s = (struct db_stmt){st, db, key};
    return s;
}

static size_t cache_slot(struct db_stmt **cache, size_t cap, const char *key)
{
    size_t i = (size_t)(((uintptr_t)key * UINT64_C(0x9E3779B97F4A7C15)) >> 32) & (cap - 1);
    while (cache[i] && cache[i]->key != key)
        i = (i + 1) & (cap - 1);
    return i;
}

static void cache_grow(struct db *db)
{
    size_t cap = db->cap ? db->cap * 2 : 64;
    struct db_stmt **bigger = mem_array(cap, sizeof(struct db_stmt *));
    for (size_t i = 0; i < db->cap; i++)
        if (db->cache[i])
            bigger[cache_slot(bigger, cap, db->cache[i]->key)] = db->cache[i];
    mem_free(&db->cache);
    db->cache = bigger;
    db->cap = cap;
}

struct db_stmt *db_stmt(struct db *db, const char *sql)
{
    if ((db->count + 1) * 2 > db->cap)
        cache_grow(db);
    size_t i = cache_slot(db->cache, db->cap, sql);
    struct db_stmt *s = db->cache[i];
    if (s) {
        /* Text that changed at the same address was no literal; a statement between two rows would lose its place. */
        if (sqlite3_stmt_busy(s->st) || strcmp(sqlite3_sql(s->st), sql) != 0) {
            LOGE("statement misused", KVT("sql", sql));
            abort();
        }
        return s;
    }
    s = prepare(db, span_of(sql), sql);
    if (s) {
        db->cache[i] = s;
        db->count++;
    }
    return s;
}

struct db_stmt *db_prepare(struct db *db, struct span sql)
{
    return prepare(db, sql, NULL);
}

void db_finish(struct db_stmt **sp)
{
    struct db_stmt *s = *sp;
    if (!s)
        return;
    if (s->key)
        abort();
    sqlite3_finalize(s->st);
    mem_free(sp);
}

/* A parameter that does not exist, a statement still running, or bytes that met no limit before: our bug. */
static void bound(int rc)
{
    if (rc != SQLITE_OK)
        abort();
}

void db_bind_i64(struct db_stmt *s, int index, int64_t value)
{
    if (s)
        bound(sqlite3_bind_int64(s->st, index, value));
}

void db_bind_text(struct db_stmt *s, int index, struct span text)
{
    if (s)
        bound(text.p ? sqlite3_bind_text64(s->st, index, text.p, text.n, SQLITE_STATIC, SQLITE_UTF8)
                     : sqlite3_bind_null(s->st, index));
}

void db_bind_blob(struct db_stmt *s, int index, struct span bytes)
{
    if (s)
        bound(bytes.p ? sqlite3_bind_blob64(s->st, index, bytes.p, bytes.n, SQLITE_STATIC)
                      : sqlite3_bind_null(s->st, index));
}

void db_bind_null(struct db_stmt *s, int index)
{
    if (s)
        bound(sqlite3_bind_null(s->st, index));
}

void db_bind_real(struct db_stmt *s, int index, double value)
{
    if (s)
        bound(sqlite3_bind_double(s->st, index, value));
}

void db_reset(struct db_stmt *s)
{
    if (!s)
        return;
    sqlite3_reset(s->st);
    sqlite3_clear_bindings(s->st); /* borrowed bytes are let go */
}

int db_step(struct db_stmt *s, struct err *err)
{
    if (!s)
        return err_set(err, "the statement could not be prepared");
    int rc = sqlite3_step(s->st);
    if (rc == SQLITE_ROW)
        return 1;
    int result = rc == SQLITE_DONE ? 0 : fail(s->db, rc, "database", err);
    db_reset(s);
    return result;
}

int db_run(struct db_stmt *s, struct err *err)
{
    int got;
    while ((got = db_step(s, err)) > 0)
        ;
    return got;
}

int64_t db_i64(struct db_stmt *s, int column)
{
    return sqlite3_column_int64(s->st, column);
}

double db_real(struct db_stmt *s, int column)
{
    return sqlite3_column_double(s->st, column);
}

struct span db_text(struct db_stmt *s, int column)
{
    if (db_is_null(s, column))
        return SPAN_NONE;
    const void *p = sqlite3_column_text(s->st, column);
    return span_make(p ? p : "", (size_t)sqlite3_column_bytes(s->st, column));
}

struct span db_blob(struct db_stmt *s, int column)
{
    if (db_is_null(s, column))
        return SPAN_NONE;
    const void *p = sqlite3_column_blob(s->st, column);
    return span_make(p ? p : "", (size_t)sqlite3_column_bytes(s->st, column));
}

bool db_is_null(struct db_stmt *s, int column)
{
    return sqlite3_column_type(s->st, column) == SQLITE_NULL;
}

int db_columns(struct db_stmt *s)
{
    return s ? sqlite3_column_count(s->st) : 0;
}

const char *db_column_name(struct db_stmt *s, int column)
{
    return sqlite3_column_name(s->st, column);
}

const char *db_column_declared(struct db_stmt *s, int column)
{
    const char *type = sqlite3_column_decltype(s->st, column);
    return type ? type : "";
}

enum db_type db_type(struct db_stmt *s, int column)
{
    switch (sqlite3_column_type(s->st, column)) {
    case SQLITE_INTEGER: return DB_INTEGER;
    case SQLITE_FLOAT: return DB_REAL;
    case SQLITE_TEXT: return DB_TEXT;
    case SQLITE_BLOB: return DB_BLOB;
    default: return DB_NULL;
    }
}

sqlite3 *db_handle(const struct db *db)
{
    return db->h;
}

struct db_stmt *db_adopt(struct db *db, sqlite3_stmt *st)
{
    struct db_stmt *s = mem_alloc(sizeof(*s));
    *s = (struct db_stmt){st, db, NULL};
    return s;
}

/* ---- transactions ---- */

static int run_text(struct db *db, const char *sql, struct err *err)
{
    return db_run(db_stmt(db, sql), err);
}

int db_begin(struct db *db, struct err *err)
{
    return run_text(db, "BEGIN IMMEDIATE", err);
}

int db_begin_read(struct db *db, struct err *err)
{
    return run_text(db, "BEGIN", err);
}

int db_commit(struct db *db, struct err *err)
{
    if (run_text(db, "COMMIT", err) == 0)
        return 0;
    enum db_code why = db->code;
    db_rollback(db);
    db->code = why;
    return -1;
}

void db_rollback(struct db *db)
{
    /* Some failures have rolled back by themselves already. */
    if (db_in_transaction(db))
        run_text(db, "ROLLBACK", NULL);
}

bool db_in_transaction(const struct db *db)
{
    return !sqlite3_get_autocommit(db->h);
}

int64_t db_last_rowid(const struct db *db)
{
    return sqlite3_last_insert_rowid(db->h);
}

int64_t db_changes(const struct db *db)
{
    return sqlite3_changes64(db->h);
}

int64_t db_changes_ever(const struct db *db)
{
    return sqlite3_total_changes64(db->h);
}

/* ---- the write-ahead log ---- */

int db_checkpoint(struct db *db, bool truncate, int64_t *left, struct err *err)
{
    int in_log = 0, moved = 0;
    int rc = sqlite3_wal_checkpoint_v2(db->h, "main", truncate ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_PASSIVE,
                                       &in_log, &moved);
    if (rc != SQLITE_OK)
        return fail(db, rc, "checkpoint", err);
    if (left)
        *left = in_log > moved ? in_log - moved : 0;
    return 0;
}

static int commit_begins(void *ctx)
{
    struct db *db = ctx;
    db->on_commit(db->on_commit_ctx);
    return 0; /* it may go on */
}

void db_on_commit(struct db *db, void (*fn)(void *ctx), void *ctx)
{
    db->on_commit = fn;
    db->on_commit_ctx = ctx;
    sqlite3_commit_hook(db->h, fn ? commit_begins : NULL, db);
}

static int wal_committed(void *ctx, sqlite3 *h, const char *schema, int pages)
{
    (void)h;
    (void)schema;
    struct db *db = ctx;
    db->on_wal(db->on_wal_ctx, pages);
    return SQLITE_OK;
}

void db_on_wal(struct db *db, void (*fn)(void *ctx, int64_t pages), void *ctx)
{
    db->on_wal = fn;
    db->on_wal_ctx = ctx;
    if (fn)
        sqlite3_wal_hook(db->h, wal_committed, db);
    else
        sqlite3_wal_autocheckpoint(db->h, 0);
}

static int is_over(void *ctx)
{
    struct db *db = ctx;
    return db->over(db->over_ctx);
}

void db_on_progress(struct db *db, bool (*over)(void *ctx), void *ctx)
{
    db->over = over;
    db->over_ctx = ctx;
    sqlite3_progress_handler(db->h, PROGRESS_STEPS, over ? is_over : NULL, db);
}

void db_interrupt(struct db *db)
{
    sqlite3_interrupt(db->h);
}
