#include "queue/history_read.h"

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/util.h"
#include "db/db.h"

static struct db_stmt *prepare(struct db *db, const struct history_filter *f)
{
    struct buf sql = {0};
    buf_adds(&sql, "SELECT message, at, kind"
#define NAME(name) ", " #name
                   HISTORY_FIELDS(NAME, NAME)
#undef NAME
                       " FROM event WHERE at >= ?1");
    if (f->message)
        buf_adds(&sql, " AND message = ?2");
    if (f->address.n)
        buf_adds(&sql, " AND (address = ?3 COLLATE NOCASE OR original = ?3 COLLATE NOCASE OR sender = ?3 COLLATE NOCASE)");
    if (f->message_id.n)
        buf_adds(&sql, " AND message_id = ?4");
    buf_adds(&sql, f->oldest_first ? " ORDER BY message, at" : " ORDER BY message DESC, at DESC");
    struct db_stmt *s = db_prepare(db, buf_span(&sql));
    buf_free(&sql);
    db_bind_i64(s, 1, f->since * 1000);
    if (f->message)
        db_bind_i64(s, 2, (int64_t)f->message);
    if (f->address.n)
        db_bind_text(s, 3, f->address);
    if (f->message_id.n)
        db_bind_text(s, 4, f->message_id);
    return s;
}

static void get(struct db_stmt *s, struct history_event *e)
{
    int column = 3;
    *e = (struct history_event){
        .message = (uint64_t)db_i64(s, 0), .time = db_i64(s, 1) / 1000, .kind = (enum history_kind)db_i64(s, 2)};
#define GET_TEXT(name) e->name = db_text(s, column++);
#define GET_NUMBER(name) e->name = db_i64(s, column++);
    HISTORY_FIELDS(GET_TEXT, GET_NUMBER)
#undef GET_TEXT
#undef GET_NUMBER
}

/* 0 all, 1 stopped, -1. */
static int read_day(const char *dir, int64_t day, const struct history_filter *f, history_row_fn *row,
                    bool (*over)(void *ctx), void *ctx, struct err *err)
{
    char name[HISTORY_NAME_MAX];
    struct db_options o = {
        .read_only = true, .one_process = true, .keep_wal = true, .own_checkpoints = true, .small = true, .cache_kib = 512};
    struct history_event e;
    struct db *db;
    int got;
    bool more = true;
    history_name(day, name);
    if (db_open(&db, dir, name, &o, err))
        return -1;
    db_on_progress(db, over, ctx);
    struct db_stmt *s = prepare(db, f);
    while (more && (got = db_step(s, err)) > 0) {
        get(s, &e);
        more = row(ctx, &e);
    }
    bool stopped = !more || (got < 0 && db_code(db) == DB_INTERRUPTED);
    db_finish(&s);
    db_close(&db);
    return stopped ? 1 : got;
}

int history_read(const char *dir, const struct history_filter *f, history_row_fn *row, bool (*over)(void *ctx), void *ctx,
                 struct err *err)
{
    int64_t *days = mem_array(HISTORY_DAYS_MAX, sizeof *days);
    int n = history_days(dir, days, HISTORY_DAYS_MAX, err), r = n < 0 ? -1 : 0;
    for (int i = 0; i < n && r <= 0; i++) {
        int64_t day = days[f->oldest_first ? n - 1 - i : i];
        if ((day + 1) * HISTORY_DAY_MS <= f->since)
            continue;
        r = over(ctx) ? 1 : read_day(dir, day, f, row, over, ctx, err);
        if (r < 0)
            LOGW("history-not-read", KVU("day", day), KVT("why", err->text));
    }
    mem_free(&days);
    return n < 0 ? -1 : MAX_OF(r, 0);
}
