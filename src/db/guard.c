#include "db/guard.h"

#include "base/util.h"
#include "db/priv.h"

#define SQL_MAX 8192
#define VALUE_MAX (1 << 20)

/* ---- memory ---- */

static sqlite3_mem_methods plain;
static __thread size_t limit, used;

bool guard_limited(void)
{
    return limit != 0;
}

void db_memory_limit(size_t bytes)
{
    limit = bytes;
    used = 0;
}

static void *take(int n)
{
    if (limit && used + (size_t)n > limit)
        return NULL;
    void *p = plain.xMalloc(n);
    if (limit && p)
        used += (size_t)plain.xSize(p);
    return p;
}

static void give_back(size_t n)
{
    used -= MIN_OF(n, used); /* what was taken before the limit was set may go, too */
}

static void drop(void *p)
{
    if (limit && p)
        give_back((size_t)plain.xSize(p));
    plain.xFree(p);
}

static void *resize(void *p, int n)
{
    if (!limit)
        return plain.xRealloc(p, n);
    size_t had = p ? (size_t)plain.xSize(p) : 0;
    if ((size_t)n > had && used + ((size_t)n - had) > limit)
        return NULL;
    void *now = plain.xRealloc(p, n);
    if (now) {
        give_back(had);
        used += (size_t)plain.xSize(now);
    }
    return now;
}

void guard_configure(void)
{
    if (sqlite3_config(SQLITE_CONFIG_GETMALLOC, &plain) != SQLITE_OK)
        return;
    sqlite3_mem_methods ours = plain;
    ours.xMalloc = take;
    ours.xFree = drop;
    ours.xRealloc = resize;
    sqlite3_config(SQLITE_CONFIG_MALLOC, &ours);
}

/* ---- what it may do ---- */

static bool is_among(const char *const *names, const char *name)
{
    for (; *names; names++)
        if (strcasecmp(*names, name) == 0)
            return true;
    return false;
}

static int allow(void *ctx, int action, const char *a, const char *b, const char *database, const char *inside)
{
    const struct db_guard *g = ctx;
    (void)database;
    (void)inside;
    switch (action) {
    case SQLITE_SELECT:
    case SQLITE_RECURSIVE: return SQLITE_OK;
    case SQLITE_READ: return a && g->readable(a, b ? b : "") ? SQLITE_OK : SQLITE_DENY;
    case SQLITE_FUNCTION: return b && is_among(g->functions, b) ? SQLITE_OK : SQLITE_DENY;
    default: return SQLITE_DENY;
    }
}

void db_guard(struct db *db, const struct db_guard *g)
{
    static const struct {
        int what, most;
    } limits[] = {
        {SQLITE_LIMIT_LENGTH, VALUE_MAX},      {SQLITE_LIMIT_SQL_LENGTH, SQL_MAX},
        {SQLITE_LIMIT_COLUMN, 100},            {SQLITE_LIMIT_EXPR_DEPTH, 100},
        {SQLITE_LIMIT_COMPOUND_SELECT, 20},    {SQLITE_LIMIT_FUNCTION_ARG, 16},
        {SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 100}, {SQLITE_LIMIT_VARIABLE_NUMBER, 0},
        {SQLITE_LIMIT_VDBE_OP, 50000},         {SQLITE_LIMIT_WORKER_THREADS, 0},
    };
    for (size_t i = 0; i < COUNT_OF(limits); i++)
        sqlite3_limit(db_handle(db), limits[i].what, limits[i].most);
    sqlite3_set_authorizer(db_handle(db), allow, (void *)g);
}

struct db_stmt *db_question(struct db *db, struct span sql, struct err *err)
{
    const char *rest = NULL;
    sqlite3_stmt *st = NULL, *more = NULL;
    if (sql.n > SQL_MAX || memchr(sql.p, 0, sql.n)) {
        err_set(err, "a statement may have %d bytes", SQL_MAX);
        return NULL;
    }
    if (sqlite3_prepare_v3(db_handle(db), sql.p, (int)sql.n, 0, &st, &rest) != SQLITE_OK) {
        err_set(err, "%s", sqlite3_errmsg(db_handle(db)));
        return NULL;
    }
    int rc = st ? sqlite3_prepare_v3(db_handle(db), rest, (int)(sql.p + sql.n - rest), 0, &more, NULL) : SQLITE_OK;
    if (!st || rc != SQLITE_OK || more || !sqlite3_stmt_readonly(st) || sqlite3_column_count(st) == 0) {
        err_set(err, "one SELECT, and nothing behind it");
        sqlite3_finalize(st);
        sqlite3_finalize(more);
        return NULL;
    }
    return db_adopt(db, st);
}

/* ---- functions and values ---- */

static void call(sqlite3_context *c, int n, sqlite3_value **args)
{
    char out[400];
    struct span arg = span_make((const char *)sqlite3_value_text(args[0]), (size_t)sqlite3_value_bytes(args[0]));
    db_text_fn *fn;
    void *data = sqlite3_user_data(c);
    memcpy(&fn, &data, sizeof fn);
    (void)n;
    if (arg.p && fn(arg, out, sizeof out))
        sqlite3_result_text(c, out, -1, SQLITE_TRANSIENT);
    else
        sqlite3_result_null(c);
}

int db_define(struct db *db, const char *name, db_text_fn *fn, struct err *err)
{
    void *data;
    memcpy(&data, &fn, sizeof data);
    int rc = sqlite3_create_function_v2(db_handle(db), name, 1,
                                        SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS, data, call, NULL, NULL, NULL);
    return rc == SQLITE_OK ? 0 : err_set(err, "%s: %s", name, sqlite3_errstr(rc));
}
