/* What doc/store-states.md says of crashes: a child works on a store and is killed at random moments; then the store
 * opens, its counters add up, what was answered is there, nothing is there twice. And power losses, acted out on the
 * files. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "db/db.h"
#include "store/store.h"

#define KILLS 25

static char dir[64];
static struct err err;

static struct store *open_as(const char *boot)
{
    struct store *st;
    struct store_options o = {.dir = dir, .boot_id = boot, .wait_ms = 2000, .now_ms = 1000};
    cr_assert_eq(store_open(&st, &o, &err), 0, "%s", err.text);
    return st;
}

static void make_dir(void)
{
    snprintf(dir, sizeof(dir), "/tmp/waypost-crash-XXXXXX");
    cr_assert(mkdtemp(dir));
}

static void remove_dir(void)
{
    cr_assert_eq(store_purge(dir, &err), 0, "%s", err.text);
    cr_assert_eq(rmdir(dir), 0);
}

TestSuite(store_crash, .init = make_dir, .fini = remove_dir);

static struct store_stage *stage(struct store *st, size_t size)
{
    struct store_stage *g = store_stage_new(st);
    char *text = mem_alloc(size);
    memset(text, 'y', size);
    if (store_stage_write(g, span_make(text, size), &err))
        abort();
    mem_free(&text);
    return g;
}

static uint64_t id_of(struct store *st, const char *name)
{
    struct store_mailbox m;
    if (store_find(st, span_of(name), NULL, &m, &err))
        abort();
    return m.id;
}

/* ---- the invariants, from the tables themselves ---- */

static void zero(struct db *db, const char *sql)
{
    int64_t n;
    cr_assert_eq(db_value(db, sql, 0, &n, &err), 0, "%s", err.text);
    cr_assert_eq(n, 0, "%s", sql);
}

static void check_tables(void)
{
    struct db *db;
    struct db_options o = {.keep_wal = true, .one_process = true};
    cr_assert_eq(db_open(&db, dir, "store.db", &o, &err), 0, "%s", err.text);
    zero(db, "SELECT count(*) FROM mailbox b WHERE messages <> (SELECT count(*) FROM message WHERE mailbox = b.id)"
             " OR unseen <> (SELECT count(*) FROM message WHERE mailbox = b.id AND NOT flags & 1)"
             " OR size <> (SELECT coalesce(sum(size), 0) FROM message WHERE mailbox = b.id)"
             " OR uidnext <= (SELECT coalesce(max(uid), 0) FROM message WHERE mailbox = b.id)");
    zero(db, "SELECT count(*) FROM account WHERE bytes <> (SELECT coalesce(sum(size), 0) FROM message) OR messages <> "
             "(SELECT count(*) FROM message)");
    zero(db, "SELECT count(*) FROM content c WHERE refs <> (SELECT count(*) FROM message WHERE content = c.id)");
    zero(db, "SELECT count(*) FROM message WHERE mailbox NOT IN (SELECT id FROM mailbox) OR content NOT IN (SELECT id "
             "FROM content)");
    zero(db, "SELECT count(*) - count(DISTINCT uidvalidity) FROM mailbox");
    zero(db, "SELECT count(*) FROM mailbox WHERE uidvalidity > (SELECT uidvalidity FROM account)");
    db_close(&db);
}

static unsigned count_files(void)
{
    char cmd[200];
    unsigned n = 0;
    snprintf(cmd, sizeof(cmd), "find '%s/large' -type f 2>/dev/null | wc -l", dir);
    FILE *p = popen(cmd, "r");
    cr_assert_eq(fscanf(p, "%u", &n), 1);
    pclose(p);
    return n;
}

static void check_files(void)
{
    struct db *db;
    struct db_options o = {.keep_wal = true, .one_process = true};
    int64_t rows;
    cr_assert_eq(db_open(&db, dir, "store.db", &o, &err), 0, "%s", err.text);
    cr_assert_eq(db_value(db, "SELECT count(*) FROM content WHERE large", 0, &rows, &err), 0);
    db_close(&db);
    cr_assert_eq(count_files(), rows, "files %u, rows %d", count_files(), (int)rows);
}

/* ---- kill -9 ---- */

struct answer {
    uint32_t number; /* of the delivery */
    uint32_t uid;    /* of the append; 0: a delivery */
};

static void say(int fd, struct answer a)
{
    if (write(fd, &a, sizeof(a)) != sizeof(a))
        _exit(3);
}

static void deliver_some(struct store *st, uint64_t inbox, uint32_t *number, int fd, unsigned *seed)
{
    uint32_t first = *number, n = 1 + (uint32_t)rand_r(seed) % 6;
    if (store_deliver_begin(st, &err))
        _exit(3);
    for (uint32_t i = 0; i < n; i++, ++*number) {
        bool already;
        struct store_stage *g = stage(st, rand_r(seed) % 4 == 0 ? 70000 : 500);
        char qid[20];
        snprintf(qid, sizeof(qid), "Q%u", *number);
        if (store_deliver_add(st, span_of(qid), 7, inbox, &g, &(struct store_new){0}, &already, &err))
            _exit(3);
    }
    if (store_deliver_commit(st, &err))
        _exit(3);
    for (uint32_t i = first; i < first + n; i++)
        say(fd, (struct answer){.number = i});
}

static void change_some(struct store *st, uint64_t inbox, unsigned *seed)
{
    struct store_rows rows = {0};
    struct store_copied pairs[3];
    size_t n;
    store_scan(st, inbox, 1, UINT32_MAX, &rows, &err);
    if (rows.n > 3) {
        uint32_t uids[3];
        for (int i = 0; i < 3; i++)
            uids[i] = rows.v[(size_t)rand_r(seed) % rows.n].uid;
        store_copy(st, inbox, uids, 3, id_of(st, "Archive"), pairs, &n, &err);
        store_flags(st, inbox, uids, 2, STORE_FLAGS_ADD, STORE_SEEN | STORE_DELETED, 0, NULL, &err);
        store_move(st, id_of(st, "Archive"), &pairs[0].to, 1, id_of(st, "Trash"), pairs, &n, &err);
    }
    store_rows_free(&rows);
    store_rows_free(&rows);
    if (store_scan(st, id_of(st, "Archive"), 1, UINT32_MAX, &rows, &err) == 0 && rows.n > 10)
        for (size_t i = 0; i < rows.n; i += 2)
            store_expunge(st, id_of(st, "Archive"), &rows.v[i].uid, 1, false, NULL, NULL, &err);
    store_rows_free(&rows);
    store_create(st, SPAN("x/y"), STORE_PLAIN, NULL, &err);
    store_rename(st, SPAN("x"), SPAN("z"), &err);
    store_delete(st, SPAN("z/y"), &err);
    store_delete(st, SPAN("z"), &err);
}

static void child(int fd, uint32_t number, unsigned seed)
{
    struct store *st = open_as("boot");
    uint64_t inbox = id_of(st, "INBOX");
    for (;;) {
        deliver_some(st, inbox, &number, fd, &seed);
        struct store_stage *g = stage(st, rand_r(&seed) % 3 == 0 ? 80000 : 300);
        uint32_t uid;
        if (store_append(st, id_of(st, "Drafts"), &g, &(struct store_new){0}, &uid, NULL, &err))
            _exit(3);
        say(fd, (struct answer){.uid = uid});
        change_some(st, inbox, &seed);
    }
}

/* Everything answered is there. Returns the highest delivery answered + 1. */
static uint32_t check_answers(int fd, uint32_t number, uint32_t *last_uid)
{
    struct store *st = open_as("boot");
    struct answer a;
    bool already;
    while (read(fd, &a, sizeof(a)) == sizeof(a)) {
        struct store_row row;
        if (a.uid) {
            cr_assert_gt(a.uid, *last_uid, "a uid came twice");
            *last_uid = a.uid;
            cr_assert_eq(store_row(st, id_of(st, "Drafts"), a.uid, &row, &err), 0, "an appended message is gone");
            continue;
        }
        char qid[20];
        snprintf(qid, sizeof(qid), "Q%u", a.number);
        struct store_stage *g = stage(st, 100);
        cr_assert_eq(store_deliver_begin(st, &err), 0);
        cr_assert_eq(
            store_deliver_add(st, span_of(qid), 7, id_of(st, "INBOX"), &g, &(struct store_new){0}, &already, &err), 0);
        store_deliver_abort(st);
        cr_assert(already, "delivery %u was answered and is not there", a.number);
        number = a.number + 1;
    }
    store_close(&st, false);
    return number;
}

Test(store_crash, killed_at_random_moments, .timeout = 120)
{
    unsigned seed = getenv("STORE_SEED") ? (unsigned)atoi(getenv("STORE_SEED")) : (unsigned)getpid();
    fprintf(stderr, "store_crash: STORE_SEED=%u\n", seed);
    uint32_t number = 0, last_uid = 0;
    for (int i = 0; i < KILLS; i++) {
        int fds[2];
        cr_assert_eq(pipe(fds), 0);
        pid_t pid = fork();
        if (pid == 0) {
            close(fds[0]);
            child(fds[1], number, seed + (unsigned)i);
        }
        close(fds[1]);
        struct timespec t = {.tv_nsec = 5000000 + rand_r(&seed) % 60000000};
        nanosleep(&t, NULL);
        kill(pid, SIGKILL);
        int status;
        waitpid(pid, &status, 0);
        cr_assert(WIFSIGNALED(status), "the child failed by itself");
        number = check_answers(fds[0], number, &last_uid) + 100;
        close(fds[0]);
        check_tables();
        check_files();
    }
    cr_assert_gt(last_uid, 5, "the children got nowhere");
}

/* ---- power losses, acted out ---- */

static uint32_t deliver_one(struct store *st, const char *qid, size_t size, bool *already)
{
    struct store_mailbox m;
    struct store_stage *g = stage(st, size);
    cr_assert_eq(store_deliver_begin(st, &err), 0);
    cr_assert_eq(store_deliver_add(st, span_of(qid), 1, id_of(st, "INBOX"), &g, &(struct store_new){0}, already, &err),
                 0);
    cr_assert_eq(store_deliver_commit(st, &err), 0);
    cr_assert_eq(store_status(st, id_of(st, "INBOX"), NULL, &m, &err), 0);
    return m.uidnext - 1;
}

static void path_of_first_large(char out[128])
{
    snprintf(out, 128, "%s/large/01/1", dir);
    cr_assert_eq(access(out, F_OK), 0);
}

static void lost_file(bool shorten)
{
    bool already;
    char path[128];
    struct store *st = open_as("boot-1");
    uint32_t uid = deliver_one(st, "Q1", 100000, &already);
    struct store_copied pair;
    size_t n;
    cr_assert_eq(store_copy(st, id_of(st, "INBOX"), &uid, 1, id_of(st, "Trash"), &pair, &n, &err), 0);
    deliver_one(st, "Q2", 100, &already);
    store_close(&st, false);
    path_of_first_large(path);
    cr_assert_eq(shorten ? truncate(path, 5000) : unlink(path), 0);
    st = open_as("boot-2");
    struct store_mailbox m;
    cr_assert_eq(store_status(st, id_of(st, "INBOX"), NULL, &m, &err), 0);
    cr_assert_eq(m.messages, 1, "the message without its file is gone, the other stays");
    cr_assert_eq(store_status(st, id_of(st, "Trash"), NULL, &m, &err), 0);
    cr_assert_eq(m.messages, 0);
    deliver_one(st, "Q2", 100, &already);
    cr_assert(already);
    uint32_t again = deliver_one(st, "Q1", 100000, &already);
    cr_assert_not(already, "the queue delivers it again");
    cr_assert_gt(again, uid);
    store_close(&st, false);
    check_tables();
    check_files();
}

Test(store_crash, delivery_whose_file_was_lost)
{
    lost_file(false);
}

Test(store_crash, delivery_whose_file_is_short)
{
    lost_file(true);
}

/* The child dies between writing a large content and its row: the next open removes the file. */
Test(store_crash, staged_file_is_removed)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct store *st = open_as("boot");
        stage(st, 100000);
        _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    cr_assert_eq(count_files(), 1);
    struct store *st = open_as("boot");
    cr_assert_eq(count_files(), 0);
    store_close(&st, false);
}

/* The store's directory as a power loss would leave it: the WAL cut anywhere. What opens is a prefix of what was
 * committed, and new uids are above everything that was ever given. */
Test(store_crash, log_cut_anywhere, .timeout = 60)
{
    bool already;
    struct store *st = open_as("boot-1");
    uint32_t last = 0;
    for (int i = 0; i < 30; i++) {
        char qid[20];
        snprintf(qid, sizeof(qid), "Q%d", i);
        last = deliver_one(st, qid, 300, &already);
    }
    store_close(&st, false);
    char wal[128], keep[140], cmd[600];
    struct stat sb;
    snprintf(wal, sizeof(wal), "%s/store.db-wal", dir);
    snprintf(keep, sizeof(keep), "%s.keep", dir);
    cr_assert_eq(stat(wal, &sb), 0);
    snprintf(cmd, sizeof(cmd), "cp -r %s %s", dir, keep);
    cr_assert_eq(system(cmd), 0);
    off_t first = sb.st_size * 2 / 5; /* the account itself exists from there on */
    for (off_t cut = first; cut < sb.st_size; cut += sb.st_size / 23) {
        snprintf(cmd, sizeof(cmd), "rm -rf %s && cp -r %s %s", dir, keep, dir);
        cr_assert_eq(system(cmd), 0);
        cr_assert_eq(truncate(wal, cut), 0);
        st = open_as("boot-2");
        struct store_mailbox m;
        cr_assert_eq(store_status(st, id_of(st, "INBOX"), NULL, &m, &err), 0);
        cr_assert_leq(m.messages, 30);
        cr_assert_gt(deliver_one(st, "Q29", 300, &already), m.messages < 30 ? last : 0);
        cr_assert_eq(already, m.messages == 30);
        store_close(&st, false);
        check_tables();
    }
    snprintf(cmd, sizeof(cmd), "rm -rf %s", keep);
    cr_assert_eq(system(cmd), 0);
}

/* A file of the store with something else in it from there on, as what the kernel could not write and has forgotten. */
static void forgotten(const char *name, off_t from)
{
    char path[128], zeros[4096] = {0};
    struct stat sb;
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    int fd = open(path, O_WRONLY);
    cr_assert_eq(fstat(fd, &sb), 0);
    for (off_t at = from; at < sb.st_size; at += (off_t)sizeof(zeros))
        cr_assert_gt(pwrite(fd, zeros, MIN_OF((size_t)(sb.st_size - at), sizeof(zeros)), at), 0);
    close(fd);
}

/* A sync may have failed after the first lease: its file is written once more from what the repeated one brings. */
Test(store_crash, repeated_lease_of_a_large_content)
{
    bool already;
    char path[128], byte;
    struct store *st = open_as("boot-1");
    uint32_t uid = deliver_one(st, "Q1", 100000, &already);
    for (int missing = 0; missing < 2; missing++) {
        path_of_first_large(path);
        forgotten("large/01/1", 50000);
        cr_assert(!missing || unlink(path) == 0);
        cr_assert_eq(deliver_one(st, "Q1", 100000, &already), uid);
        cr_assert(already);
        int fd = open(path, O_RDONLY);
        for (off_t at = 0; at < 100000; at += 999)
            cr_assert(pread(fd, &byte, 1, at) == 1 && byte == 'y', "%d", (int)at);
        cr_assert_eq(lseek(fd, 0, SEEK_END), 100000);
        close(fd);
    }
    store_close(&st, false);
    check_tables();
    check_files();
}

/* The end of the log can't be read any more: nobody works on, and what comes next is above all that was given out. */
Test(store_crash, log_that_has_lost_its_end)
{
    bool already;
    uint32_t last = 0;
    struct store *st = open_as("boot");
    for (int i = 0; i < 10; i++) {
        char qid[20];
        snprintf(qid, sizeof(qid), "Q%d", i);
        last = deliver_one(st, qid, 3000, &already);
    }
    store_close(&st, false);
    pid_t pid = fork();
    if (pid == 0) {
        st = open_as("boot");
        char wal[128];
        struct stat sb;
        snprintf(wal, sizeof(wal), "%s/store.db-wal", dir);
        deliver_one(st, "Q10", 3000, &already);
        stat(wal, &sb);
        deliver_one(st, "Q11", 3000, &already);
        forgotten("store.db-wal", sb.st_size);
        deliver_one(st, "Q11", 3000, &already);
        _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1, "it went on");
    st = open_as("boot");
    deliver_one(st, "Q10", 3000, &already);
    cr_assert(already);
    cr_assert_gt(deliver_one(st, "Q11", 3000, &already), last + 2);
    cr_assert_not(already);
    store_close(&st, false);
    check_tables();
    st = open_as("boot");
    uint32_t then = deliver_one(st, "Q12", 3000, &already);
    cr_assert_eq(deliver_one(st, "Q13", 3000, &already), then + 1, "once");
    store_close(&st, false);
}

/* HAZARDS 10: a disk that takes no more is an answer, not the end: what was there stays readable, and later it goes on.
 */
static void full_disk_child(void)
{
    bool already;
    struct store *st = open_as("boot");
    uint32_t n = 0;
    deliver_one(st, "first", 500, &already);
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit small = {.rlim_cur = 400000, .rlim_max = RLIM_INFINITY}, none = {RLIM_INFINITY, RLIM_INFINITY};
    setrlimit(RLIMIT_FSIZE, &small);
    int code = 0;
    while (code == 0 && n < 1000) {
        char qid[20];
        snprintf(qid, sizeof(qid), "Q%u", n++);
        struct store_stage *g = stage(st, 20000);
        if ((code = store_deliver_begin(st, &err)))
            break;
        store_deliver_add(st, span_of(qid), 1, id_of(st, "INBOX"), &g, &(struct store_new){0}, &already, &err);
        code = store_deliver_commit(st, &err);
    }
    struct store_stage *g = store_stage_new(st);
    char *large = mem_alloc(1000000);
    int large_code = store_stage_write(g, span_make(large, 1000000), &err);
    store_stage_free(&g);
    struct store_row row;
    int read_code = store_row(st, id_of(st, "INBOX"), 1, &row, &err);
    setrlimit(RLIMIT_FSIZE, &none);
    deliver_one(st, "last", 500, &already);
    struct store_usage u = store_usage(st);
    store_close(&st, false);
    _exit(code < 0 && large_code < 0 && read_code == 0 && !already && u.messages == n + 1 ? 0 : 1);
}

Test(store_crash, disk_full)
{
    int status;
    pid_t pid = fork();
    if (pid == 0)
        full_disk_child();
    waitpid(pid, &status, 0);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", (unsigned)status);
    check_tables();
    check_files();
}
