/* The copy for sqlite3: the columns of the views, every row of many pages, and nothing left when it is stopped. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "queue/copy.h"
#include "queue/history.h"
#include "queue/queue.h"
#include "queue/views.h"

#define NOON (INT64_C(20000) * HISTORY_DAY_MS + HISTORY_DAY_MS / 2)
#define MANY 1700 /* events of each of two days, of one message each: more than a page */

static char dir[64];
static struct err err;

static void open_and_close(void)
{
    struct queue *q;
    struct loop *l = loop_new();
    struct queue_options o = {.dir = dir, .now_ms = NOON};
    cr_assert_eq(queue_open(&q, l, &o, &err), 0, "%s", err.text);
    queue_close(&q);
    loop_free(&l);
}

static void make_dir(void)
{
    snprintf(dir, sizeof dir, "/tmp/waypost-copy-XXXXXX");
    cr_assert(mkdtemp(dir));
    log_set_level(LOG_LEVEL_ERROR);
    open_and_close();
}

static void remove_dir(void)
{
    char cmd[128];
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir);
    cr_assert_eq(system(cmd), 0);
}

TestSuite(copy, .init = make_dir, .fini = remove_dir, .timeout = 120);

static void add_events(void)
{
    struct history *h;
    struct history_options o = {.dir = dir, .keep = 100 * HISTORY_DAY_MS, .now = NOON};
    cr_assert_eq(history_open(&h, &o, &err), 0, "%s", err.text);
    for (int day = 0; day < 2; day++)
        for (int i = 0; i < MANY; i++)
            history_add(h, &(struct history_event){.message = 7, .time = NOON + day * HISTORY_DAY_MS, .kind = HISTORY_DELIVERED, .sender = SPAN(""), .address = SPAN("a@B.test")});
    history_close(&h);
}

static bool there(void)
{
    char path[100];
    snprintf(path, sizeof path, "%s/%s", dir, COPY_NAME);
    return access(path, F_OK) == 0;
}

/* ctx: pages that are allowed. */
static int look(void *ctx, uint64_t done UNUSED, const char *unit UNUSED, struct err *e)
{
    return there() && --*(int *)ctx >= 0 ? 0 : err_set(e, "enough");
}

static bool over(void *ctx)
{
    return *(int *)ctx < 0;
}

/* Copies it to a name that can be opened. */
static void save(int from, const char *name)
{
    char path[100], part[4096];
    ssize_t n;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    while ((n = read(from, part, sizeof part)) > 0)
        cr_assert_eq(write(to, part, (size_t)n), n);
    cr_assert_eq(n, 0);
    close(to);
    close(from);
}

static void same_columns(struct db *views, struct db *copy)
{
    static const char *const names[] = {"SELECT * FROM v1_message", "SELECT * FROM v1_recipient", "SELECT * FROM v1_destination", "SELECT * FROM v1_event"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        struct db_stmt *a = db_prepare(views, span_of(names[i])), *b = db_prepare(copy, span_of(names[i]));
        cr_assert(a && b, "%s", names[i]);
        cr_assert_eq(db_columns(a), db_columns(b), "%s: %d, %d", names[i], db_columns(a), db_columns(b));
        for (int k = 0; k < db_columns(a); k++) {
            cr_assert_str_eq(db_column_name(a, k), db_column_name(b, k));
            cr_assert_str_eq(db_column_declared(a, k), db_column_declared(b, k), "%s: %s", names[i], db_column_name(a, k));
        }
        db_finish(&a);
        db_finish(&b);
    }
}

static void check_copy(const char *name, uint64_t events)
{
    struct copy_counts n;
    struct db *views, *copy;
    int pages = 1000, fd;
    int64_t rows, wrong;
    fd = copy_make(dir, &(struct copy_watch){over, look, &pages}, &n, &err);
    cr_assert(fd >= 0, "%s", err.text);
    cr_assert_not(there());
    cr_assert(n.events == events && n.unread == 0);
    save(fd, name);
    cr_assert_eq(db_open(&copy, dir, name, &(struct db_options){.read_only = true}, &err), 0, "%s", err.text);
    cr_assert_eq(views_open(&views, dir, &err), 0, "%s", err.text);
    same_columns(views, copy);
    cr_assert_eq(db_value(copy, "SELECT count(*) FROM v1_event", -1, &rows, &err), 0, "%s", err.text);
    cr_assert_eq(rows, (int64_t)events);
    cr_assert_eq(db_value(copy, "SELECT count(*) FROM v1_event WHERE message <> 7 OR event <> 'delivered' OR domain <> 'b.test'", -1, &wrong, &err), 0, "%s", err.text);
    cr_assert_eq(wrong, 0);
    db_close(&views);
    db_close(&copy);
}

Test(copy, has_the_views_columns_and_all_their_rows)
{
    check_copy("without", 0);
    add_events();
    check_copy("with", 2 * MANY);
}

Test(copy, stopped_at_each_page_it_leaves_nothing)
{
    add_events();
    int made = -1;
    for (int pages = 0; made < 0; pages++) {
        struct copy_counts n;
        int left = pages;
        cr_assert_lt(pages, 100);
        made = copy_make(dir, &(struct copy_watch){over, look, &left}, &n, &err);
        if (made < 0)
            cr_assert_str_eq(err.text, "enough");
        cr_assert_not(there());
        if (made >= 0)
            cr_assert_gt(pages, 8, "two days of %d events are eight pages", MANY);
    }
    close(made);
}

Test(copy, a_day_that_can_not_be_read_is_left_out_and_counted)
{
    char path[100], name[HISTORY_NAME_MAX];
    struct copy_counts n;
    int pages = 1000;
    add_events();
    history_name(NOON / HISTORY_DAY_MS, name);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    cr_assert_eq(write(fd, "no database at all", 18), 18);
    close(fd);
    fd = copy_make(dir, &(struct copy_watch){over, look, &pages}, &n, &err);
    cr_assert(fd >= 0, "%s", err.text);
    cr_assert_eq(n.unread, 1);
    cr_assert_eq(n.events, MANY);
    close(fd);
}

Test(copy, what_a_crash_left_goes_at_the_next_start)
{
    char path[100];
    snprintf(path, sizeof path, "%s/%s", dir, COPY_NAME);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    cr_assert(fd >= 0);
    close(fd);
    open_and_close();
    cr_assert_not(there());
}
