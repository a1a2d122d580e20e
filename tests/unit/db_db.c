/* db/: statements, transactions, migrations, the log kept at close, failures told apart. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "db/db.h"

static char dir[64];
static struct err err;

static void make_dir(void)
{
    snprintf(dir, sizeof(dir), "/tmp/waypost-db-XXXXXX");
    cr_assert(mkdtemp(dir));
}

static void remove_dir(void)
{
    char cmd[128];
    snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
    cr_assert_eq(system(cmd), 0);
}

TestSuite(db, .init = make_dir, .fini = remove_dir);

static struct db *open_with(struct db_options o)
{
    struct db *db;
    cr_assert_eq(db_open(&db, dir, "t.db", &o, &err), 0, "%s", err.text);
    return db;
}

static const char *const steps[] = {
    "CREATE TABLE a (id INTEGER PRIMARY KEY, name TEXT UNIQUE, data BLOB) STRICT;",
    "CREATE TABLE b (id INTEGER PRIMARY KEY, a INTEGER NOT NULL REFERENCES a(id)) STRICT; INSERT INTO a (id, name) "
    "VALUES (1, 'first');",
};

static struct db *open_migrated(void)
{
    struct db *db = open_with((struct db_options){.sync_full = true});
    cr_assert_eq(db_migrate(db, steps, 2, &err), 0, "%s", err.text);
    return db;
}

static off_t size_of(const char *name)
{
    char path[128];
    struct stat st;
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return stat(path, &st) ? -1 : st.st_size;
}

Test(db, any_bytes_come_back)
{
    struct db *db = open_migrated();
    struct span odd = SPAN("a\0b'\"; DROP TABLE a; --\xff");
    struct db_stmt *s = db_stmt(db, "INSERT INTO a (name, data) VALUES (?, ?)");
    db_bind_text(s, 1, SPAN("O'Brien\n"));
    db_bind_blob(s, 2, odd);
    cr_assert_eq(db_run(s, &err), 0);
    int64_t id = db_last_rowid(db);
    cr_assert_eq(db_changes(db), 1);
    s = db_stmt(db, "SELECT name, data, NULL, '' FROM a WHERE id = ?");
    db_bind_i64(s, 1, id);
    cr_assert_eq(db_step(s, &err), 1);
    cr_assert(span_eqs(db_text(s, 0), "O'Brien\n"));
    cr_assert(span_eq(db_blob(s, 1), odd));
    cr_assert(db_is_null(s, 2) && !db_text(s, 2).p);
    cr_assert(!db_is_null(s, 3) && db_text(s, 3).p && db_text(s, 3).n == 0);
    cr_assert_eq(db_step(s, &err), 0);
    db_close(&db);
    cr_assert_null(db);
}

Test(db, a_statement_is_prepared_once)
{
    struct db *db = open_migrated();
    static const char sql[] = "SELECT count(*) FROM a";
    struct db_stmt *s = db_stmt(db, sql);
    cr_assert_eq(db_step(s, &err), 1);
    db_reset(s);
    cr_assert_eq(db_stmt(db, sql), s);
    db_close(&db);
}

Test(db, many_statements_are_remembered)
{
    struct db *db = open_migrated();
    static char sql[300][32];
    static struct db_stmt *s[300];
    for (int i = 0; i < 300; i++) {
        snprintf(sql[i], sizeof(sql[i]), "SELECT %d", i);
        s[i] = db_stmt(db, sql[i]);
    }
    for (int i = 0; i < 300; i++) {
        cr_assert_eq(db_stmt(db, sql[i]), s[i]);
        cr_assert_eq(db_step(s[i], &err), 1);
        cr_assert_eq(db_i64(s[i], 0), i);
        db_reset(s[i]);
    }
    db_close(&db);
}

Test(db, asking_for_a_running_statement_aborts, .signal = SIGABRT)
{
    struct db *db = open_migrated();
    static const char sql[] = "SELECT id FROM a";
    db_step(db_stmt(db, sql), &err);
    db_stmt(db, sql);
}

Test(db, wrong_sql_is_an_error_not_a_crash)
{
    struct db *db = open_migrated();
    cr_assert_lt(db_run(db_stmt(db, "SELECT nothing FROM nowhere"), &err), 0);
    struct db_stmt *s = db_prepare(db, SPAN("SELEKT"));
    cr_assert_null(s);
    db_bind_i64(s, 1, 1);
    cr_assert_lt(db_step(s, &err), 0);
    db_finish(&s);
    db_close(&db);
}

Test(db, constraints_and_foreign_keys_hold)
{
    struct db *db = open_migrated();
    cr_assert_lt(db_run(db_stmt(db, "INSERT INTO a (name) VALUES ('first')"), &err), 0);
    cr_assert_eq(db_code(db), DB_CONSTRAINT);
    cr_assert_lt(db_run(db_stmt(db, "INSERT INTO b (a) VALUES (999)"), &err), 0);
    cr_assert_eq(db_code(db), DB_CONSTRAINT);
    db_close(&db);
}

Test(db, rollback_undoes_and_commit_keeps)
{
    struct db *db = open_migrated();
    int64_t n;
    cr_assert_eq(db_begin(db, &err), 0);
    cr_assert(db_in_transaction(db));
    cr_assert_eq(db_run(db_stmt(db, "INSERT INTO a (name) VALUES ('x')"), &err), 0);
    db_rollback(db);
    cr_assert(!db_in_transaction(db));
    cr_assert_eq(db_value(db, "SELECT count(*) FROM a", -1, &n, &err), 0);
    cr_assert_eq(n, 1);
    cr_assert_eq(db_begin(db, &err), 0);
    cr_assert_eq(db_run(db_stmt(db, "INSERT INTO a (name) VALUES ('x')"), &err), 0);
    cr_assert_eq(db_commit(db, &err), 0);
    cr_assert_eq(db_value(db, "SELECT count(*) FROM a", -1, &n, &err), 0);
    cr_assert_eq(n, 2);
    db_rollback(db); /* fine without a transaction */
    db_close(&db);
}

Test(db, a_second_writer_is_busy)
{
    struct db *a = open_migrated();
    struct db *b = open_with((struct db_options){.busy_ms = 10});
    cr_assert_eq(db_begin(a, &err), 0);
    cr_assert_lt(db_begin(b, &err), 0);
    cr_assert_eq(db_code(b), DB_BUSY);
    db_rollback(a);
    cr_assert_eq(db_begin(b, &err), 0);
    db_rollback(b);
    db_close(&a);
    db_close(&b);
}

Test(db, a_reader_keeps_its_snapshot)
{
    struct db *w = open_migrated();
    struct db *r = open_with((struct db_options){.read_only = true});
    int64_t n;
    cr_assert_eq(db_begin_read(r, &err), 0);
    db_value(r, "SELECT count(*) FROM a", -1, &n, &err);
    cr_assert_eq(n, 1);
    cr_assert_eq(db_run(db_stmt(w, "INSERT INTO a (name) VALUES ('y')"), &err), 0);
    db_value(r, "SELECT count(*) FROM a", -1, &n, &err);
    cr_assert_eq(n, 1);
    cr_assert_eq(db_commit(r, &err), 0);
    db_value(r, "SELECT count(*) FROM a", -1, &n, &err);
    cr_assert_eq(n, 2);
    cr_assert_lt(db_run(db_stmt(r, "DELETE FROM a"), &err), 0);
    db_close(&r);
    db_close(&w);
}

Test(db, migrations_run_once_and_a_newer_file_is_refused)
{
    struct db *db = open_with((struct db_options){0});
    cr_assert_eq(db_migrate(db, steps, 1, &err), 0);
    cr_assert_eq(db_migrate(db, steps, 2, &err), 0);
    cr_assert_eq(db_migrate(db, steps, 2, &err), 0);
    int64_t v;
    cr_assert_eq(db_value(db, "PRAGMA user_version", -1, &v, &err), 0);
    cr_assert_eq(v, 2);
    cr_assert_lt(db_migrate(db, steps, 1, &err), 0);
    static const char *const broken[] = {"", "", "CREATE TABLE c (x INTEGER) STRICT; CREATE TABLE a (y);"};
    cr_assert_lt(db_migrate(db, broken, 3, &err), 0);
    cr_assert_eq(db_value(db, "SELECT count(*) FROM sqlite_schema WHERE name = 'c'", -1, &v, &err), 0);
    cr_assert_eq(v, 0, "a failed step leaves nothing behind");
    db_close(&db);
}

Test(db, the_log_is_kept_at_close_when_asked)
{
    struct db *db = open_with((struct db_options){.keep_wal = true, .own_checkpoints = true});
    cr_assert_eq(db_migrate(db, steps, 2, &err), 0);
    db_close(&db);
    cr_assert_gt(size_of("t.db-wal"), 0);
    db = open_with((struct db_options){0});
    int64_t n;
    cr_assert_eq(db_value(db, "SELECT count(*) FROM a", -1, &n, &err), 0);
    cr_assert_eq(n, 1);
    cr_assert_eq(db_checkpoint(db, true, &n, &err), 0);
    cr_assert_eq(n, 0);
    cr_assert_eq(size_of("t.db-wal"), 0);
    db_close(&db);
    cr_assert_eq(size_of("t.db-wal"), -1);
}

static void count_pages(void *ctx, int64_t pages)
{
    *(int64_t *)ctx = pages;
}

Test(db, the_log_length_is_told)
{
    struct db *db = open_with((struct db_options){.one_process = true, .own_checkpoints = true});
    int64_t pages = 0;
    db_on_wal(db, count_pages, &pages);
    cr_assert_eq(db_migrate(db, steps, 2, &err), 0);
    cr_assert_gt(pages, 1);
    cr_assert_eq(size_of("t.db-shm"), -1, "one process needs no shared memory");
    db_close(&db);
}

Test(db, files_are_private_and_links_refused)
{
    struct db *db = open_migrated();
    char path[128], other[128];
    struct stat st;
    snprintf(path, sizeof(path), "%s/t.db", dir);
    cr_assert_eq(stat(path, &st), 0);
    cr_assert_eq(st.st_mode & 0777, 0600);
    snprintf(path, sizeof(path), "%s/t.db-wal", dir);
    cr_assert_eq(stat(path, &st), 0);
    cr_assert_eq(st.st_mode & 0777, 0600);
    db_close(&db);
    snprintf(other, sizeof(other), "%s/planted.db", dir);
    cr_assert_eq(symlink("/tmp/elsewhere.db", other), 0);
    cr_assert_lt(db_open(&db, dir, "planted.db", &(struct db_options){0}, &err), 0);
    cr_assert_lt(db_open(&db, dir, "missing.db", &(struct db_options){.read_only = true}, &err), 0);
}

Test(db, a_damaged_file_is_an_error)
{
    struct db *db = open_migrated();
    db_close(&db);
    char path[128];
    snprintf(path, sizeof(path), "%s/t.db", dir);
    FILE *f = fopen(path, "r+");
    cr_assert(f);
    for (int i = 0; i < 2048; i++)
        fputc(0x55, f);
    fclose(f);
    cr_assert_lt(db_open(&db, dir, "t.db", &(struct db_options){0}, &err), 0);
    cr_assert_null(db);
}

Test(db, a_full_disk_is_told_apart)
{
    struct db *db = open_migrated();
    cr_assert_eq(db_exec(db, "PRAGMA max_page_count=8", &err), 0);
    struct db_stmt *s = db_stmt(db, "INSERT INTO a (data) VALUES (zeroblob(100000))");
    cr_assert_lt(db_run(s, &err), 0);
    cr_assert_eq(db_code(db), DB_FULL);
    cr_assert_eq(db_exec(db, "PRAGMA max_page_count=100000", &err), 0);
    cr_assert_eq(db_run(s, &err), 0, "it works again once there is room");
    db_close(&db);
}

/* ---- the log ---- */

static uint64_t write_calls(void)
{
    FILE *f = fopen("/proc/self/io", "r");
    char line[80];
    unsigned long long n = 0;
    cr_assert(f);
    while (fgets(line, sizeof line, f) && sscanf(line, "syscw: %llu", &n) != 1)
        ;
    fclose(f);
    return n;
}

static void insert_many(struct db *db, int from, int count, size_t size)
{
    char *data = malloc(size);
    cr_assert(data);
    memset(data, 'x', size);
    for (int i = from; i < from + count; i++) {
        struct db_stmt *s = db_stmt(db, "INSERT INTO a (id, data) VALUES (?, ?)");
        db_bind_i64(s, 1, i);
        db_bind_blob(s, 2, span_make(data, size));
        cr_assert_eq(db_run(s, &err), 0, "%s", err.text);
    }
    free(data);
}

static int64_t rows_of(struct db *db)
{
    int64_t n = -1;
    cr_assert_eq(db_value(db, "SELECT count(*) FROM a WHERE length(data) > 0", 0, &n, &err), 0, "%s", err.text);
    return n;
}

/* However many pages it changes, and others see it at once. */
Test(db, a_commit_is_one_write)
{
    for (int sync = 0; sync < 2; sync++) {
        struct db *db = open_with((struct db_options){.sync_full = sync == 1, .keep_wal = true, .own_checkpoints = true});
        cr_assert_eq(db_migrate(db, steps, 2, &err), 0, "%s", err.text);
        struct db *other = open_with((struct db_options){.read_only = true, .keep_wal = true, .own_checkpoints = true});
        cr_assert_eq(rows_of(other), sync * 12);
        insert_many(db, 100 + sync * 100, 1, 10);
        cr_assert_eq(db_begin(db, &err), 0);
        insert_many(db, 101 + sync * 100, 11, 4000);
        uint64_t before = write_calls();
        cr_assert_eq(db_commit(db, &err), 0, "%s", err.text);
        cr_assert_eq(write_calls() - before, 1, "with synchronous %d", sync);
        cr_assert_eq(rows_of(other), sync * 12 + 12);
        db_close(&other);
        db_close(&db);
    }
}

/* No page goes alone, apart from its header. */
Test(db, a_large_commit_is_few_writes)
{
    struct db *db = open_with((struct db_options){.page_size = 4096, .keep_wal = true, .own_checkpoints = true});
    cr_assert_eq(db_migrate(db, steps, 2, &err), 0, "%s", err.text);
    insert_many(db, 100, 1, 10);
    cr_assert_eq(db_begin(db, &err), 0);
    insert_many(db, 200, 50, 4000);
    uint64_t before = write_calls();
    cr_assert_eq(db_commit(db, &err), 0, "%s", err.text);
    cr_assert_eq(write_calls() - before, 2, "of more than fifty pages, 31 of which are less than 128 KiB");
    db_close(&db);
}

/* More than leaves at once, more than the cache holds, of all page sizes; a transaction that is undone after some of it has left. */
Test(db, large_commits_and_spilled_ones_are_whole)
{
    static const unsigned sizes[] = {512, 4096, 8192, 16384, 65536};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct db *db = open_with((struct db_options){.page_size = sizes[i], .cache_kib = 64, .keep_wal = true, .own_checkpoints = true});
        cr_assert_eq(db_migrate(db, steps, 2, &err), 0, "%s", err.text);
        for (int round = 0; round < 2; round++) {
            cr_assert_eq(db_begin(db, &err), 0);
            insert_many(db, 100, 100, 9000);
            cr_assert_eq(rows_of(db), 100, "it reads back what it has written itself");
            if (round == 0)
                db_rollback(db);
        }
        cr_assert_eq(db_commit(db, &err), 0, "%s", err.text);
        db_close(&db);
        db = open_with((struct db_options){.own_checkpoints = true});
        int64_t n;
        cr_assert_eq(rows_of(db), 100);
        cr_assert_eq(db_value(db, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check = 'ok'", 0, &n, &err), 0, "%s", err.text);
        cr_assert_eq(n, 1, "pages of %u", sizes[i]);
        cr_assert_eq(db_value(db, "PRAGMA page_size", 0, &n, &err), 0);
        cr_assert_eq(n, sizes[i]);
        db_close(&db);
        remove_dir();
        make_dir();
    }
}

/* What could not be written is not committed, and the next commit stands. */
Test(db, a_write_that_fails_fails_the_commit)
{
    struct db *db = open_with((struct db_options){.keep_wal = true, .own_checkpoints = true});
    cr_assert_eq(db_migrate(db, steps, 2, &err), 0, "%s", err.text);
    insert_many(db, 100, 1, 10);
    struct rlimit old, low;
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
    low = (struct rlimit){(rlim_t)size_of("t.db-wal"), old.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(db_begin(db, &err), 0);
    insert_many(db, 200, 20, 4000);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &low), 0);
    cr_assert_neq(db_commit(db, &err), 0, "nothing was written");
    db_rollback(db);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
    cr_assert_eq(rows_of(db), 1);
    insert_many(db, 300, 1, 4000);
    db_close(&db);
    db = open_with((struct db_options){.own_checkpoints = true});
    cr_assert_eq(rows_of(db), 2);
    db_close(&db);
}
