/* Rows go from a view to the table of its name as they are. A table is declared from the view's columns: the same names in the
 * same order and with the same types, so that comparisons come out as they do there. */
#include "queue/copy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/util.h"
#include "queue/history_read.h"
#include "queue/views.h"

#define PAGE 500
#define CACHE_KIB 2048
#define PLACES 2
#define NONE (-1)
#define LAST (-2)

/* One table. */
struct part {
    const char *name, *unit;
    const char *rest;  /* of its declaration, behind the columns */
    const char *index; /* NULL: none */
    const char *page;  /* ?1, ?2: the place behind which it begins; ?3: rows */
    int place[PLACES]; /* columns; NONE, LAST */
    bool by_text;      /* the place is one text */
    int hidden;        /* columns at the end that are only there for the place */
};

static const struct part recipients = {
    .name = "v1_recipient",
    .unit = "recipients",
    .rest = ", PRIMARY KEY (message, recipient)) WITHOUT ROWID",
    .page = "SELECT * FROM v1_recipient WHERE (message, recipient) > (?1, ?2) ORDER BY message, recipient LIMIT ?3",
    .place = {0, 2},
};
static const struct part messages = {
    .name = "v1_message",
    .unit = "messages",
    .rest = ", PRIMARY KEY (message)) WITHOUT ROWID",
    .page = "SELECT * FROM v1_message WHERE message > ?1 ORDER BY message LIMIT ?3",
    .place = {0, NONE},
};
static const struct part destinations = {
    .name = "v1_destination",
    .unit = "destinations",
    .rest = ", PRIMARY KEY (name)) WITHOUT ROWID",
    .page = "SELECT * FROM v1_destination WHERE name > ?1 ORDER BY name LIMIT ?3",
    .place = {0, NONE},
    .by_text = true,
};
static const struct part events = {
    .name = "v1_event",
    .unit = "events",
    .rest = ")",
    .index = "CREATE INDEX IF NOT EXISTS v1_event_message ON v1_event (message)",
    .page = "SELECT * FROM v1_event WHERE (message, at) > (?1, ?2) ORDER BY message, at LIMIT ?3",
    .place = {0, LAST},
    .hidden = 1,
};

struct copy {
    const struct copy_watch *watch;
    const char *dir;
    struct db *from, *to;
    bool unread; /* what failed was reading */
};

/* Where a page has ended. */
struct place {
    int64_t number[PLACES];
    struct buf text;
};

/* ---- a table ---- */

static int make_table(struct copy *c, const struct part *p, struct db_stmt *rows, struct err *err)
{
    struct buf sql = {0};
    buf_printf(&sql, "CREATE TABLE IF NOT EXISTS %s (", p->name);
    for (int i = 0; i < db_columns(rows) - p->hidden; i++)
        buf_printf(&sql, "%s\"%s\" %s", i ? ", " : "", db_column_name(rows, i), db_column_declared(rows, i));
    buf_adds(&sql, p->rest);
    int rc = db_exec(c->to, buf_cstr(&sql), err);
    buf_free(&sql);
    return rc;
}

static struct db_stmt *insertion(struct copy *c, const struct part *p, int columns)
{
    struct buf sql = {0};
    buf_printf(&sql, "INSERT INTO %s VALUES (", p->name);
    for (int i = 0; i < columns; i++)
        buf_adds(&sql, i ? ",?" : "?");
    buf_adds(&sql, ")");
    struct db_stmt *s = db_prepare(c->to, buf_span(&sql));
    buf_free(&sql);
    return s;
}

static void bind_value(struct db_stmt *to, int index, struct db_stmt *from, int column)
{
    switch (db_type(from, column)) {
    case DB_INTEGER: db_bind_i64(to, index, db_i64(from, column)); break;
    case DB_REAL: db_bind_real(to, index, db_real(from, column)); break;
    case DB_TEXT: db_bind_text(to, index, db_text(from, column)); break;
    case DB_BLOB: db_bind_blob(to, index, db_blob(from, column)); break;
    case DB_NULL: db_bind_null(to, index); break;
    }
}

static void keep_place(struct place *at, const struct part *p, struct db_stmt *row)
{
    buf_clear(&at->text);
    if (p->by_text)
        buf_add(&at->text, db_text(row, p->place[0]));
    for (int i = 0; !p->by_text && i < PLACES; i++)
        if (p->place[i] != NONE)
            at->number[i] = db_i64(row, p->place[i] == LAST ? db_columns(row) - 1 : p->place[i]);
}

static void bind_place(struct db_stmt *rows, const struct part *p, const struct place *at)
{
    if (p->by_text)
        db_bind_text(rows, 1, at->text.n ? buf_span(&at->text) : SPAN(""));
    else
        db_bind_i64(rows, 1, at->number[0]);
    if (p->place[1] != NONE)
        db_bind_i64(rows, 2, at->number[1]);
    db_bind_i64(rows, 3, PAGE);
}

/* Rows there were; -1. */
static int put_page(struct copy *c, const struct part *p, struct db_stmt *rows, struct db_stmt *in, struct place *at, struct err *err)
{
    int n = 0, got;
    struct place from = *at; /* its text is bound until the last row */
    at->text = (struct buf){0};
    bind_place(rows, p, &from);
    while ((got = db_step(rows, err)) > 0) {
        for (int i = 0; i < db_columns(rows) - p->hidden; i++)
            bind_value(in, i + 1, rows, i);
        if (db_run(in, err))
            break;
        keep_place(at, p, rows);
        n++;
    }
    c->unread = got < 0;
    if (got > 0)
        db_reset(rows);
    buf_free(&from.text);
    return got ? -1 : n;
}

/* One transaction. */
static int copy_page(struct copy *c, const struct part *p, struct db_stmt *rows, struct db_stmt *in, struct place *at, struct err *err)
{
    if (db_begin(c->to, err))
        return -1;
    int n = put_page(c, p, rows, in, at, err);
    if (n >= 0 && db_commit(c->to, err) == 0)
        return n;
    db_rollback(c->to);
    return -1;
}

static int copy_pages(struct copy *c, const struct part *p, struct db_stmt *rows, struct db_stmt *in, uint64_t *count, struct err *err)
{
    struct place at = {.number = {INT64_MIN, INT64_MIN}};
    int n;
    do {
        n = copy_page(c, p, rows, in, &at, err);
        *count += n > 0 ? (uint64_t)n : 0;
        if (n >= 0 && c->watch->look(c->watch->ctx, *count, p->unit, err))
            n = -1;
    } while (n == PAGE);
    buf_free(&at.text);
    return n < 0 ? -1 : 0;
}

static int copy_rows(struct copy *c, const struct part *p, uint64_t *count, struct err *err)
{
    struct db_stmt *rows = db_prepare(c->from, span_of(p->page)), *in = NULL;
    int rc = rows ? make_table(c, p, rows, err) : err_set(err, "%s can't be read", p->name);
    if (rc == 0 && p->index)
        rc = db_exec(c->to, p->index, err);
    if (rc == 0) {
        in = insertion(c, p, db_columns(rows) - p->hidden);
        rc = copy_pages(c, p, rows, in, count, err);
    }
    db_finish(&rows);
    db_finish(&in);
    return rc;
}

/* ---- all of them ---- */

static void watch(struct copy *c, struct db *db)
{
    db_on_progress(db, c->watch->over, c->watch->ctx);
}

/* Without a day v1_event is there, too, and empty. */
static int copy_queue(struct copy *c, struct copy_counts *n, struct err *err)
{
    static const struct part no_events = {.name = "v1_event", .unit = "events", .rest = ")", .page = "SELECT * FROM v1_event LIMIT ?3", .place = {NONE, NONE}};
    uint64_t others = 0;
    if (views_open_queue(&c->from, c->dir, err))
        return -1;
    watch(c, c->from);
    int rc = copy_rows(c, &recipients, &n->recipients, err) || copy_rows(c, &messages, &n->messages, err) ||
                     copy_rows(c, &destinations, &others, err) || (n->events == 0 && copy_rows(c, &no_events, &others, err))
                 ? -1
                 : 0;
    db_close(&c->from);
    return rc;
}

/* Each table was read by itself. */
static int make_agree(struct copy *c, struct copy_counts *n, struct err *err)
{
    if (db_exec(c->to, "DELETE FROM v1_message WHERE NOT EXISTS (SELECT 1 FROM v1_recipient r WHERE r.message = v1_message.message)", err))
        return -1;
    n->messages -= (uint64_t)db_changes(c->to);
    if (db_exec(c->to, "DELETE FROM v1_recipient WHERE NOT EXISTS (SELECT 1 FROM v1_message m WHERE m.message = v1_recipient.message)", err))
        return -1;
    n->recipients -= (uint64_t)db_changes(c->to);
    return 0;
}

/* What can't be read of it is left out. */
static int copy_day(struct copy *c, int64_t day, struct copy_counts *n, struct err *err)
{
    int rc = views_open_day(&c->from, c->dir, day, err);
    c->unread = rc != 0;
    if (rc == 0) {
        watch(c, c->from);
        rc = copy_rows(c, &events, &n->events, err);
        db_close(&c->from);
    }
    if (rc == 0 || !c->unread || c->watch->over(c->watch->ctx))
        return rc;
    LOGW("history-not-read", KVU("day", day), KVT("why", err->text));
    n->unread++;
    return 0;
}

static int copy_days(struct copy *c, struct copy_counts *n, struct err *err)
{
    int64_t *days = mem_array(HISTORY_DAYS_MAX, sizeof *days);
    int count = history_days(c->dir, days, HISTORY_DAYS_MAX, err), rc = count < 0 ? -1 : 0;
    for (int i = count - 1; rc == 0 && i >= 0; i--) /* the oldest first */
        rc = copy_day(c, days[i], n, err);
    mem_free(&days);
    return rc;
}

int copy_make(const char *dir, const struct copy_watch *w, struct copy_counts *counts, struct err *err)
{
    static const struct db_options o = {.scratch = true, .no_sync = true, .one_process = true, .own_checkpoints = true, .small = true, .cache_kib = CACHE_KIB};
    struct copy c = {.watch = w, .dir = dir};
    char path[4200];
    int fd = -1;
    *counts = (struct copy_counts){0};
    snprintf(path, sizeof path, "%s/%s", dir, COPY_NAME);
    if (unlink(path) && errno != ENOENT)
        return err_errno(err, "%s", path);
    if (db_open(&c.to, dir, COPY_NAME, &o, err) == 0) {
        watch(&c, c.to);
        if (copy_days(&c, counts, err) == 0 && copy_queue(&c, counts, err) == 0 && make_agree(&c, counts, err) == 0) {
            fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
            if (fd < 0)
                err_errno(err, "%s", path);
        }
        db_close(&c.to);
    }
    unlink(path);
    return fd;
}
