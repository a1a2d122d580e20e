/* `waypost queue sql`: one SELECT over the views (queue/views.h), on a thread of its own. */
#include <stdio.h>

#include "base/mem.h"
#include "qmgr/question.h"
#include "qmgr/trace.h"
#include "queue/views.h"

#define SQL_TIME_MS 5000 /* also how long it may hold a snapshot, and so the checkpoint back */
#define AT_A_TIME 2
#define MEMORY_MAX (64u << 20)
#define BYTES_MAX (32u << 20) /* of an answer */
#define ROWS_DEFAULT 1000
#define ROWS_MAX 1000000
#define COLUMNS_MAX 60
#define FLUSH_MS 1000

struct asked {
    struct buf sql;
    uint64_t limit, bytes;
    bool full;
};

static void put_cell(struct question *k, struct asked *a, struct db_stmt *s, int column)
{
    const char *name = db_column_name(s, column);
    char number[40];
    switch (db_type(s, column)) {
    case DB_INTEGER:
        if (db_i64(s, column) >= 0) {
            question_number(k, CELL_NUMBER, name, db_i64(s, column));
            a->bytes += sizeof(int64_t);
            return;
        }
        snprintf(number, sizeof number, "%lld", (long long)db_i64(s, column));
        question_text(k, name, span_of(number));
        return;
    case DB_REAL:
        snprintf(number, sizeof number, "%.15g", db_real(s, column));
        question_text(k, name, span_of(number));
        return;
    case DB_NULL: question_text(k, name, SPAN("")); return;
    default: question_text(k, name, db_text(s, column)); a->bytes += db_text(s, column).n;
    }
}

static bool columns_named(struct db_stmt *s, struct err *err)
{
    int n = db_columns(s);
    if (n > COLUMNS_MAX) {
        err_set(err, "at most %d columns", COLUMNS_MAX);
        return false;
    }
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++)
            if (strcmp(db_column_name(s, i), db_column_name(s, j)) == 0) {
                err_set(err, "two columns are named %.60s: give one of them another name (AS)", db_column_name(s, i));
                return false;
            }
    return true;
}

static int rows(struct question *k, struct asked *a, struct db *db, struct db_stmt *s, struct err *err)
{
    int got;
    while ((got = db_step(s, err)) > 0) {
        a->full = question_rows(k) >= a->limit || a->bytes >= BYTES_MAX;
        if (a->full)
            return 0;
        for (int i = 0; i < db_columns(s); i++)
            put_cell(k, a, s, i);
        a->bytes += 16;
        if (!question_row(k))
            return 0;
    }
    return got < 0 && db_code(db) == DB_INTERRUPTED ? 0 : got;
}

static enum admin_status answer(struct question *k, struct asked *a, struct err *err)
{
    struct db *db;
    if (views_open(&db, question_dir(k), err))
        return ADMIN_FAILED;
    db_on_progress(db, question_over, k);
    struct db_stmt *s = db_question(db, buf_span(&a->sql), err);
    enum admin_status status = s && columns_named(s, err) ? ADMIN_DONE : ADMIN_USAGE;
    if (status == ADMIN_DONE && rows(k, a, db, s, err))
        status = ADMIN_FAILED;
    db_finish(&s);
    db_close(&db);
    return status;
}

static void run(struct question *k, void *ctx)
{
    struct asked *a = ctx;
    struct err err = {""};
    db_memory_limit(MEMORY_MAX);
    enum admin_status status = answer(k, a, &err);
    db_memory_limit(0);
    if (status != ADMIN_DONE)
        question_end(k, status, "%s", err.text);
    else if (question_late(k))
        question_end(k, ADMIN_FAILED, "stopped after %d s: a narrower question takes less", SQL_TIME_MS / 1000);
    else if (a->full)
        question_end(k, ADMIN_DONE, "There is more behind these %llu rows: --limit N",
                     (unsigned long long)question_rows(k));
    else
        question_end(k, ADMIN_DONE, "%s", "");
}

static void asked_free(void *ctx)
{
    struct asked *a = ctx;
    buf_free(&a->sql);
    mem_free(&a);
}

void sql_command(void *ctx, struct admin_call *c, const struct span *args, size_t n)
{
    struct asked *a = mem_alloc(sizeof *a);
    bool good = true;
    a->limit = ROWS_DEFAULT;
    for (size_t i = 0; i < n && good; i++) {
        if (span_eqs(args[i], "--limit") && i + 1 < n && span_u64(args[i + 1], ROWS_MAX, &a->limit) && a->limit)
            i++;
        else if (a->sql.n == 0 && args[i].n)
            buf_add(&a->sql, args[i]);
        else
            good = false;
    }
    if (!good || a->sql.n == 0) {
        asked_free(a);
        admin_end(c, ADMIN_USAGE, "say one SELECT as one word, in quotes; --limit N (at most %d)", ROWS_MAX);
        return;
    }
    question_ask(ctx, c, &(struct question_work){run, asked_free, a, SQL_TIME_MS, FLUSH_MS, AT_A_TIME});
}
