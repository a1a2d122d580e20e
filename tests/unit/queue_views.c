/* The views, and what hostile SQL gets: an error. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/util.h"
#include "queue/history.h"
#include "queue/queue.h"
#include "queue/views.h"

#define NOON (INT64_C(20000) * HISTORY_DAY_MS + HISTORY_DAY_MS / 2)

static char dir[64];
static struct err err;

static void make_dir(void)
{
    struct queue *q;
    struct loop *l = loop_new();
    struct queue_options o = {.dir = dir, .now_ms = NOON};
    snprintf(dir, sizeof dir, "/tmp/waypost-views-XXXXXX");
    cr_assert(mkdtemp(dir));
    log_set_level(LOG_LEVEL_ERROR);
    cr_assert_eq(queue_open(&q, l, &o, &err), 0, "%s", err.text);
    queue_close(&q);
    loop_free(&l);
}

static void remove_dir(void)
{
    char cmd[128];
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir);
    cr_assert_eq(system(cmd), 0);
}

TestSuite(views, .init = make_dir, .fini = remove_dir, .timeout = 120);

/* Rows it gave; -1: refused or failed, err says how. */
static int ask(const char *sql)
{
    struct db *db;
    int got = -1, n = 0;
    db_memory_limit(16u << 20);
    cr_assert_eq(views_open(&db, dir, &err), 0, "%s", err.text);
    struct db_stmt *s = db_question(db, span_of(sql), &err);
    while (s && (got = db_step(s, &err)) > 0)
        n++;
    db_finish(&s);
    db_close(&db);
    db_memory_limit(0);
    return got ? -1 : n;
}

Test(views, each_view_can_be_read_without_and_with_history)
{
    const char *const views[] = {"v1_message", "v1_recipient", "v1_destination", "v1_event"};
    char sql[100];
    for (size_t i = 0; i < COUNT_OF(views); i++) {
        snprintf(sql, sizeof sql, "SELECT * FROM %s", views[i]);
        cr_assert_eq(ask(sql), 0, "%s: %s", sql, err.text);
    }
    struct history *h;
    struct history_options o = {.dir = dir, .keep = 100 * HISTORY_DAY_MS, .now = NOON};
    cr_assert_eq(history_open(&h, &o, &err), 0, "%s", err.text);
    for (int day = 0; day < VIEWS_DAYS + 2; day++)
        history_add(h, &(struct history_event){.message = 7, .time = NOON + day * HISTORY_DAY_MS, .kind = HISTORY_DELIVERED, .sender = SPAN(""), .address = SPAN("a@B.test")});
    history_flush(h, 60000);
    cr_assert_eq(ask("SELECT * FROM v1_event WHERE event = 'delivered' AND domain = 'b.test' AND id = qid(7)"), VIEWS_DAYS, "%s", err.text);
    history_close(&h);
}

Test(views, nothing_but_reading_is_possible)
{
    const char *const hostile[] = {
        "INSERT INTO message(id) VALUES (1)", "DELETE FROM recipient", "UPDATE mark SET id = 0", "DROP TABLE message", "VACUUM",
        "VACUUM INTO '/tmp/x'", "CREATE TABLE t(a)", "CREATE TEMP TABLE t(a)", "CREATE TEMP VIEW v AS SELECT 1", "DROP VIEW v1_message",
        "BEGIN", "COMMIT", "SAVEPOINT a", "REINDEX", "ANALYZE", "ATTACH ':memory:' AS x", "DETACH main", "PRAGMA query_only=0",
        "PRAGMA user_version", "PRAGMA wal_checkpoint(TRUNCATE)", "SELECT * FROM pragma_table_info('message')", "SELECT * FROM sqlite_schema",
        "SELECT * FROM temp.sqlite_schema", "SELECT count(*) FROM mark", "SELECT 1 FROM MARK", "SELECT count(*) FROM sqlite_master", "SELECT BODY FROM CONTENT", "SELECT token FROM token_a", "SELECT prefix FROM content",
        "SELECT c.body FROM main.content c", "SELECT * FROM content", "SELECT count(*) FROM content", "SELECT count(*) FROM imported",
        "SELECT m.id FROM message m JOIN content c USING (id)", "WITH v1_message AS (SELECT body FROM content) SELECT * FROM v1_message",
        "SELECT load_extension('x')", "SELECT readfile('/etc/passwd')", "SELECT randomblob(100000000)", "SELECT zeroblob(100000000)",
        "SELECT printf('%.*c', 100000000, 'x')", "SELECT hex(zeroblob(10))", "SELECT 1; SELECT 2", "SELECT 1; DELETE FROM message", "", ";",
        "-- nothing", "SELECT ?1", "EXPLAIN DELETE FROM message", "SELECT * FROM json_each('[1]')", "SELECT replace(1, 2)", "SELECT qid()",
    };
    for (size_t i = 0; i < COUNT_OF(hostile); i++)
        cr_assert_eq(ask(hostile[i]), -1, "%s", hostile[i]);
    cr_assert_eq(ask("WITH c AS (SELECT 1) SELECT count(*) FROM c"), 1, "%s", err.text);
    cr_assert_eq(ask("SELECT 1; -- and no more"), 1, "%s", err.text);
}

Test(views, memory_is_bounded_and_the_next_question_is_answered)
{
    struct buf sql = {0};
    buf_adds(&sql, "WITH a0 AS (SELECT 1 AS x)");
    for (int i = 1; i < 100; i++)
        buf_printf(&sql, ", a%d AS (SELECT x FROM a%d UNION ALL SELECT x FROM a%d)", i, i - 1, i - 1);
    buf_adds(&sql, " SELECT * FROM a99");
    cr_assert_eq(ask(buf_cstr(&sql)), -1, "doubled a hundred times");
    buf_free(&sql);
    cr_assert_eq(ask("WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c ORDER BY -x"), -1, "sorted for ever");
    cr_assert_eq(ask("WITH RECURSIVE c(x) AS (SELECT 'x' UNION ALL SELECT x || x FROM c) SELECT max(x) FROM c"), -1, "longer for ever");
    cr_assert_eq(ask("SELECT 1"), 1, "%s", err.text);
}

static bool at_once(void *ctx)
{
    return ++*(int *)ctx > 100;
}

Test(views, what_runs_for_ever_is_stopped)
{
    struct db *db;
    int asked = 0;
    cr_assert_eq(views_open(&db, dir, &err), 0, "%s", err.text);
    db_on_progress(db, at_once, &asked);
    struct db_stmt *s = db_question(db, SPAN("WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"), &err);
    cr_assert_not_null(s, "%s", err.text);
    cr_assert_eq(db_step(s, &err), -1);
    cr_assert_eq(db_code(db), DB_INTERRUPTED);
    db_finish(&s);
    db_close(&db);
}
