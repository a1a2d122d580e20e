/* Each invariant of the queue, broken by hand: it is named, mended where that is safe, and then nothing is wrong any more. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "db/db.h"
#include "queue/history.h"
#include "queue/verify.h"

#define NOW INT64_C(1800000000000)
#define MESSAGES 3 /* the first is held for its account's limits, the last one's content is a file */

static char dir[64];
static struct err err;
static uint64_t below = UINT64_MAX;

static void make_dir(void)
{
    snprintf(dir, sizeof dir, "/tmp/waypost-verify-XXXXXX");
    cr_assert(mkdtemp(dir));
    log_set_level(LOG_LEVEL_ERROR);
}

static void remove_dir(void)
{
    char cmd[128];
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir);
    cr_assert_eq(system(cmd), 0);
}

TestSuite(verify, .init = make_dir, .fini = remove_dir, .timeout = 120);

struct world {
    struct loop *loop;
    struct queue *q;
    unsigned left;
    uint64_t ids[MESSAGES];
    struct queue_mend mends[20];
    unsigned found;
    char named[2000]; /* faults that were found, by number */
};

static struct world *w;

static void open_queue(void)
{
    struct queue_options o = {.dir = dir, .now_ms = NOW};
    w->loop = loop_new();
    cr_assert_eq(queue_open(&w->q, w->loop, &o, &err), 0, "%s", err.text);
}

static void close_queue(void)
{
    queue_close(&w->q);
    loop_free(&w->loop);
}

static void on_done(struct queue_request *r)
{
    cr_assert_eq(r->fail, QUEUE_OK, "%s", r->why);
    if (--w->left == 0)
        loop_stop(w->loop);
}

static void add(unsigned n)
{
    uint64_t id = w->ids[n] = queue_ids(w->q, 4);
    struct queue_message m = {.id = id, .sender = SPAN("a@x.test"), .received = NOW, .size = 10, .account = n == 0 ? 7 : 0, .prefix = SPAN("12345"), .body = SPAN("67890"), .spooled = n == MESSAGES - 1};
    struct queue_recipient r[] = {
        {.id = id + 1, .state = n == 0 ? QUEUE_LIMITED : QUEUE_WAITING, .next = n == 0 ? 0 : NOW, .address = SPAN("b@far.test")},
        {.id = id + 2, .state = QUEUE_EXPANDED, .address = SPAN("alias@x.test")},
        {.id = id + 3, .parent = id + 2, .state = QUEUE_WAITING, .next = NOW, .address = SPAN("c@B\xc3\xbc" "cher.test"), .domain = SPAN("xn--bcher-kva.test"), .attempts = 1, .destination = SPAN("far.test")}};
    struct queue_limited limited = {.account = 7, .login = SPAN("l"), .reason = SPAN("r"), .since = NOW};
    struct queue_accept a = {.request.done = on_done, .message = &m, .recipients = r, .count = COUNT_OF(r), .limited = n == 0 ? &limited : NULL};
    if (m.spooled) {
        int fd = queue_spool_create(w->q, id, &err);
        cr_assert_eq(write(fd, "1234567890", 10), 10);
        close(fd);
    }
    w->left = 1;
    queue_accept(w->q, &a);
    loop_run(w->loop);
}

/* The same for the few names that are here. */
static bool canonical(struct span name, char *out, size_t *n)
{
    struct span c = span_ieq(name, SPAN("B\xc3\xbc" "cher.test")) ? SPAN("xn--bcher-kva.test") : name;
    *n = (size_t)snprintf(out, 256, "%.*s", SPANV(c));
    return c.n > 0;
}

static bool on_found(void *ctx, const struct queue_found *f)
{
    (void)ctx;
    snprintf(w->named + strlen(w->named), sizeof w->named - strlen(w->named), "[%s] %.*s; ", queue_fault_text(f->fault), SPANV(f->detail));
    cr_assert_lt(w->found, COUNT_OF(w->mends));
    w->mends[w->found] = (struct queue_mend){.request.done = on_done, .fault = f->fault, .message = f->message, .recipient = f->recipient, .has_domain = f->domain.p != NULL, .now = NOW};
    snprintf(w->mends[w->found].domain, sizeof w->mends[0].domain, "%.*s", SPANV(f->domain));
    w->found++;
    return true;
}

static bool not_over(void *ctx)
{
    (void)ctx;
    return false;
}

static void no_progress(void *ctx, uint64_t done, const char *unit)
{
    (void)ctx;
    (void)done;
    (void)unit;
}

static unsigned look(void)
{
    struct queue_verify v = {.dir = dir, .canonical = canonical, .below = below, .found = on_found, .over = not_over, .progress = no_progress};
    w->found = 0;
    *w->named = '\0';
    cr_assert_eq(queue_verify(&v, &err), 0, "%s", err.text);
    return w->found;
}

/* The writer removes files when nobody waits any more, but before whatever comes next. */
static void until_files_are_gone(void)
{
    struct queue_request next = {.done = on_done};
    w->left = 1;
    queue_probe(w->q, &next);
    loop_run(w->loop);
}

static void mend_all(void)
{
    w->left = 0;
    for (unsigned i = 0; i < w->found; i++)
        w->left += queue_fault_mending(w->mends[i].fault) != NULL;
    if (!w->left)
        return;
    for (unsigned i = 0; i < w->found; i++)
        if (queue_fault_mending(w->mends[i].fault))
            queue_mend(w->q, &w->mends[i]);
    loop_run(w->loop);
    until_files_are_gone();
    for (unsigned i = 0; i < w->found; i++)
        cr_expect_eq(w->mends[i].still, queue_fault_mending(w->mends[i].fault) != NULL);
}

/* $0, $1, $2 in sql: the messages. */
static void break_by(const char *sql)
{
    struct db *db;
    struct buf text = {0};
    struct db_options o = {.one_process = true, .keep_wal = true};
    for (; *sql; sql++)
        if (*sql == '$')
            buf_printf(&text, "%llu", (unsigned long long)w->ids[*++sql - '0']);
        else
            buf_addc(&text, *sql);
    cr_assert_eq(db_open(&db, dir, "queue.db", &o, &err), 0, "%s", err.text);
    cr_assert_eq(db_exec(db, buf_cstr(&text), &err), 0, "%s: %s", buf_cstr(&text), err.text);
    db_close(&db);
    buf_free(&text);
}

static void put_file(const char *name)
{
    char path[200];
    snprintf(path, sizeof path, "%s/spool/%s", dir, name);
    int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
    cr_assert_geq(fd, 0);
    close(fd);
}

static void world_new(void)
{
    w = mem_alloc(sizeof *w);
    open_queue();
    for (unsigned i = 0; i < MESSAGES; i++)
        add(i);
}

static void world_free(void)
{
    close_queue();
    mem_free(&w);
    remove_dir();
    make_dir();
}

static const struct {
    enum queue_fault fault;
    unsigned times;
    const char *sql;
} breaks[] = {
    {QUEUE_FAULT_NO_MESSAGE, 3, "DELETE FROM message WHERE id = $1; DELETE FROM content WHERE id = $1"},
    {QUEUE_FAULT_NO_RECIPIENT, 1, "DELETE FROM recipient WHERE message = $1"},
    {QUEUE_FAULT_NO_RECIPIENT, 1, "DELETE FROM recipient WHERE message = $2 AND state <> 4"},
    {QUEUE_FAULT_STATE, 1, "UPDATE recipient SET state = 7 WHERE message = $1 AND id = $1 + 1"},
    {QUEUE_FAULT_STATE, 1, "UPDATE recipient SET state = 0, next = NULL WHERE message = $1 AND id = $1 + 1"},
    {QUEUE_FAULT_NEXT_MISSING, 1, "UPDATE recipient SET next = NULL WHERE message = $1 AND id = $1 + 1"},
    {QUEUE_FAULT_NEXT_MISSING, 1, "UPDATE recipient SET state = 2, next = NULL, destination = NULL WHERE message = $1 AND id = $1 + 3"},
    {QUEUE_FAULT_NEXT_GIVEN, 1, "UPDATE recipient SET state = 3 WHERE message = $1 AND id = $1 + 1"},
    {QUEUE_FAULT_NEXT_GIVEN, 1, "UPDATE recipient SET next = 5 WHERE message = $1 AND state = 4"},
    {QUEUE_FAULT_NEXT_GIVEN, 1, "UPDATE recipient SET next = 5 WHERE message = $0 AND state = 6"},
    {QUEUE_FAULT_PARENT, 1, "DELETE FROM recipient WHERE message = $1 AND state = 4"},
    {QUEUE_FAULT_PARENT, 1, "UPDATE recipient SET state = 1, next = 5 WHERE message = $1 AND state = 4"},
    {QUEUE_FAULT_DESTINATION, 1, "UPDATE recipient SET state = 5 WHERE message = $1 AND id = $1 + 3"},
    {QUEUE_FAULT_DOMAIN, 1, "UPDATE recipient SET domain = 'b\xc3\xbc" "cher.test' WHERE message = $1 AND id = $1 + 3"},
    {QUEUE_FAULT_DOMAIN, 1, "UPDATE recipient SET domain = NULL WHERE message = $1 AND id = $1 + 3"},
    {QUEUE_FAULT_DOMAIN, 1, "UPDATE recipient SET domain = 'x', address = 'nodomain@' WHERE message = $1 AND id = $1 + 3"},
    {QUEUE_FAULT_LIMITED, 1, "DELETE FROM limited"},
    {QUEUE_FAULT_CONTENT_MISSING, 1, "DELETE FROM content WHERE id = $1"},
    {QUEUE_FAULT_CONTENT_ORPHAN, 1, "INSERT INTO content VALUES ($1 + 1, x'', x'')"},
    {QUEUE_FAULT_FILE_MISSING, 1, "UPDATE message SET size = 11 WHERE id = $2"},
    {QUEUE_FAULT_MARK, 1, "UPDATE mark SET id = $2 + 3"},
};

Test(verify, each_invariant_that_is_broken_is_named_and_mended)
{
    for (size_t i = 0; i < COUNT_OF(breaks); i++) {
        bool mendable = queue_fault_mending(breaks[i].fault) != NULL;
        world_new();
        cr_assert_eq(look(), 0, "at first: %s", w->named);
        break_by(breaks[i].sql);
        cr_assert_eq(look(), breaks[i].times, "%s: %s", breaks[i].sql, w->named);
        for (unsigned k = 0; k < w->found; k++)
            cr_assert_eq(w->mends[k].fault, breaks[i].fault, "%s: %s", breaks[i].sql, w->named);
        mend_all();
        cr_assert_eq(look(), mendable ? 0 : breaks[i].times, "mended, %s: %s", breaks[i].sql, w->named);
        mend_all();
        close_queue(); /* and again from the disk */
        open_queue();
        cr_assert_eq(look(), mendable ? 0 : breaks[i].times, "opened anew, %s: %s", breaks[i].sql, w->named);
        world_free();
    }
}

Test(verify, what_was_mended_says_what_it_promises)
{
    struct arena a = {0};
    struct queue_reader *r;
    struct queue_recipient row;
    struct queue_message m;
    world_new();
    break_by("UPDATE recipient SET state = 9 WHERE message = $1 AND id = $1 + 1; UPDATE recipient SET next = NULL, domain = 'y' WHERE message = $1 AND id = $1 + 3;"
             "DELETE FROM recipient WHERE message = $2; DELETE FROM limited");
    cr_assert_eq(look(), 5, "%s", w->named);
    mend_all();
    cr_assert_eq(queue_reader_open(&r, dir, &err), 0);
    cr_assert_eq(queue_read_recipient(r, w->ids[1], w->ids[1] + 1, &a, &row, &err), 0);
    cr_expect(row.state == QUEUE_HELD && row.next == 0);
    cr_assert_eq(queue_read_recipient(r, w->ids[1], w->ids[1] + 3, &a, &row, &err), 0);
    cr_expect(row.state == QUEUE_WAITING && row.next == NOW && span_eqs(row.destination, "far.test"));
    cr_assert_eq(queue_read_recipient(r, w->ids[0], w->ids[0] + 1, &a, &row, &err), 0);
    cr_expect(row.state == QUEUE_HELD && row.next == 0);
    cr_expect_eq(queue_read_message(r, w->ids[2], true, &a, &m, &err), 1);
    cr_expect_lt(queue_spool_open(w->q, w->ids[2]), 0, "the file went with its message");
    queue_reader_close(&r);
    arena_free(&a);
    world_free();
}

Test(verify, files)
{
    char path[200];
    world_new();
    uint64_t old = w->ids[0] + 1;
    close_queue();
    open_queue();
    uint64_t under_way = queue_ids(w->q, 1);
    cr_assert(queue_first_id(w->q) > w->ids[2] + 3 && queue_first_id(w->q) <= under_way);
    below = queue_first_id(w->q);
    put_file(qid_text(under_way).text);
    cr_assert_eq(look(), 0, "%s", w->named);
    put_file(qid_text(old).text);
    put_file("notes");
    cr_assert_eq(look(), 2, "%s", w->named);
    for (unsigned i = 0; i < 2; i++)
        cr_assert(w->mends[i].fault == QUEUE_FAULT_FILE_STRANGER || (w->mends[i].fault == QUEUE_FAULT_FILE_ORPHAN && w->mends[i].message == old));
    struct queue_mend m = {.request.done = on_done, .fault = QUEUE_FAULT_FILE_ORPHAN, .message = old, .look = true};
    w->left = 1;
    queue_mend(w->q, &m);
    loop_run(w->loop);
    cr_expect(m.still, "it is only looked at");
    cr_expect_eq(close(queue_spool_open(w->q, old)), 0);
    mend_all();
    cr_expect_lt(queue_spool_open(w->q, old), 0);
    cr_expect_eq(close(queue_spool_open(w->q, under_way)), 0);
    snprintf(path, sizeof path, "%s/spool/%s", dir, qid_text(w->ids[2]).text);
    unlink(path);
    cr_expect(look() == 2 && strstr(w->named, "missing or damaged") && strstr(w->named, "notes"), "%s", w->named);
    world_free();
}

Test(verify, damage_in_the_file_and_in_history)
{
    struct db *db;
    struct db_options o = {.one_process = true};
    char path[200], name[HISTORY_NAME_MAX];
    int64_t root, left;
    world_new();
    close_queue();
    cr_assert_eq(db_open(&db, dir, "queue.db", &o, &err), 0, "%s", err.text);
    cr_assert_eq(db_checkpoint(db, true, &left, &err), 0, "%s", err.text);
    cr_assert_eq(db_value(db, "SELECT rootpage FROM sqlite_schema WHERE name = 'destination'", 0, &root, &err), 0, "%s", err.text);
    db_close(&db);
    snprintf(path, sizeof path, "%s/queue.db", dir);
    int fd = open(path, O_WRONLY);
    cr_assert_eq(pwrite(fd, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, (root - 1) * 4096), 8);
    close(fd);
    history_name(20000, name);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    fd = open(path, O_WRONLY | O_CREAT, 0600);
    cr_assert_eq(write(fd, "no database, but words that are long enough", 43), 43);
    close(fd);
    open_queue();
    cr_expect_geq(look(), 2);
    cr_expect(strstr(w->named, "the database is damaged") && strstr(w->named, name), "%s", w->named);
    world_free();
}

static bool at_once(void *ctx)
{
    return ++*(int *)ctx > 0;
}

Test(verify, it_can_be_stopped)
{
    int asked = 0;
    world_new();
    struct queue_verify v = {.dir = dir, .canonical = canonical, .below = below, .found = on_found, .over = at_once, .progress = no_progress, .ctx = &asked};
    cr_expect_eq(queue_verify(&v, &err), 1);
    world_free();
}
