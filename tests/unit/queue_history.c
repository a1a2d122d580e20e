/* History: what is added is there after a flush, days are files that go by unlink, and nothing of it can hold up its
 * owner: what has no room is dropped and counted. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "db/db.h"
#include "queue/history.h"
#include "queue/history_read.h"

#define DAY HISTORY_DAY_MS
#define NOON (INT64_C(20000) * DAY + DAY / 2) /* 2024-10-04 */
#define PATIENCE_MS 60000

static char dir[64];
static struct err err;

static void make_dir(void)
{
    snprintf(dir, sizeof dir, "/tmp/waypost-history-XXXXXX");
    cr_assert(mkdtemp(dir));
    log_set_level(LOG_LEVEL_ERROR);
}

static void remove_dir(void)
{
    char cmd[128];
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir);
    cr_assert_eq(system(cmd), 0);
}

TestSuite(history, .init = make_dir, .fini = remove_dir);

static struct history *open_at(int64_t keep, int64_t now, size_t pending_max)
{
    struct history *h;
    struct history_options o = {.dir = dir, .keep = keep, .now = now, .pending_max = pending_max};
    cr_assert_eq(history_open(&h, &o, &err), 0, "%s", err.text);
    return h;
}

static void add(struct history *h, uint64_t message, int64_t time, enum history_kind kind, struct span address)
{
    struct history_event e = {.message = message, .time = time, .kind = kind, .sender = SPAN(""), .address = address, .attempts = 3};
    history_add(h, &e);
}

static int64_t ask_day(int64_t day, const char *sql)
{
    char name[HISTORY_NAME_MAX];
    struct db_options o = {.read_only = true, .one_process = true};
    struct db *db;
    int64_t n = -1;
    history_name(day, name);
    cr_assert_eq(db_open(&db, dir, name, &o, &err), 0, "%s", err.text);
    cr_assert_eq(db_value(db, sql, -1, &n, &err), 0, "%s", err.text);
    db_close(&db);
    return n;
}

static bool there(const char *name)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return access(path, F_OK) == 0;
}

static unsigned files(void)
{
    unsigned n = 0;
    DIR *d = opendir(dir);
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

Test(history, what_was_added_is_there_after_a_flush)
{
    struct history *h = open_at(7 * DAY, NOON, 0);
    static char longer[3 * HISTORY_TEXT_MAX];
    memset(longer, 'x', sizeof longer);
    add(h, 77, NOON, HISTORY_ACCEPTED, SPAN(""));
    add(h, 77, NOON, HISTORY_DELIVERED, SPAN("bob@example.test"));
    add(h, 78, NOON, HISTORY_FAILED, span_make(longer, sizeof longer));
    history_flush(h, PATIENCE_MS);
    cr_assert_eq(ask_day(20000, "SELECT count(*) FROM event"), 3);
    cr_assert_eq(ask_day(20000, "SELECT count(DISTINCT at) FROM event"), 3, "each has its place in time");
    cr_assert_eq(ask_day(20000, "SELECT kind FROM event WHERE message = 77 AND address = 'bob@example.test' AND sender = '' AND "
                                "attempts = 3 AND host IS NULL AND next IS NULL"),
                 HISTORY_DELIVERED);
    cr_assert_eq(ask_day(20000, "SELECT length(address) FROM event WHERE message = 78"), HISTORY_TEXT_MAX);
    cr_assert_eq(history_dropped(h), 0);
    history_close(&h);
    h = open_at(7 * DAY, NOON, 0); /* goes on in the same file */
    add(h, 79, NOON + 1, HISTORY_HELD, SPAN("x@example.test"));
    history_close(&h);
    cr_assert_eq(ask_day(20000, "SELECT count(*) FROM event"), 4, "closing writes what waits");
}

Test(history, a_day_is_a_file_and_goes_by_unlink)
{
    struct history *h = open_at(2 * DAY, NOON, 0);
    int64_t days[8];
    for (int i = 0; i < 5; i++)
        add(h, 100 + (uint64_t)i, NOON + i * DAY, HISTORY_ACCEPTED, SPAN("x"));
    history_flush(h, PATIENCE_MS);
    history_keep(h, 2 * DAY, NOON + 4 * DAY);
    history_close(&h);
    int n = history_days(dir, days, COUNT_OF(days), &err);
    cr_assert_eq(n, 3, "%d days", n);
    cr_assert(days[0] == 20004 && days[1] == 20003 && days[2] == 20002, "newest first");
    cr_assert(there("history-2024-10-08.db") && !there("history-2024-10-05.db") && !there("history-2024-10-05.db-wal"));
    h = open_at(2 * DAY, NOON + 5 * DAY, 0); /* at a start, too, and without any event */
    history_close(&h);
    cr_assert_eq(history_days(dir, days, COUNT_OF(days), &err), 2);
    cr_assert_eq(history_days(dir, days, 1, &err), 1);
    cr_assert_eq(days[0], 20004, "the oldest gives way");
}

Test(history, switched_off_it_stores_nothing_and_leaves_nothing)
{
    struct history *h = open_at(DAY, NOON, 0);
    add(h, 1, NOON, HISTORY_ACCEPTED, SPAN("x"));
    history_flush(h, PATIENCE_MS);
    cr_assert(there("history-2024-10-04.db"));
    history_keep(h, 0, NOON);
    add(h, 2, NOON, HISTORY_ACCEPTED, SPAN("x"));
    history_close(&h);
    cr_assert_eq(files(), 0);
    h = open_at(0, NOON, 0);
    add(h, 2, NOON, HISTORY_ACCEPTED, SPAN("x"));
    history_flush(h, PATIENCE_MS);
    history_close(&h);
    cr_assert_eq(files(), 0);
}

Test(history, what_has_no_room_is_dropped_and_counted)
{
    enum { MANY = 100000 };
    struct history *h = open_at(DAY, NOON, 3000);
    for (unsigned i = 1; i <= MANY; i++)
        add(h, i, NOON, HISTORY_ACCEPTED, SPAN("somebody@example.test"));
    history_flush(h, PATIENCE_MS);
    uint64_t dropped = history_dropped(h);
    history_close(&h);
    cr_assert_gt(dropped, 0);
    cr_assert_eq((uint64_t)ask_day(20000, "SELECT count(*) FROM event") + dropped, MANY);
}

Test(history, a_disk_that_fails_costs_events_and_nothing_else)
{
    struct history *h = open_at(DAY, NOON, 0);
    remove_dir();
    for (unsigned i = 1; i <= 10; i++)
        add(h, i, NOON, HISTORY_ACCEPTED, SPAN("x"));
    history_flush(h, PATIENCE_MS);
    cr_assert_eq(history_dropped(h), 10);
    cr_assert_eq(mkdir(dir, 0700), 0); /* it is back */
    add(h, 11, NOON, HISTORY_ACCEPTED, SPAN("x"));
    history_close(&h);
    cr_assert_eq(ask_day(20000, "SELECT message FROM event"), 11);
}

Test(history, a_damaged_day_is_set_aside)
{
    char path[160];
    snprintf(path, sizeof path, "%s/history-2024-10-04.db", dir);
    FILE *f = fopen(path, "w");
    for (int i = 0; i < 5000; i++)
        fputs("no database ", f);
    fclose(f);
    struct history *h = open_at(DAY, NOON, 0);
    log_set_level(LOG_LEVEL_ERROR);
    add(h, 5, NOON, HISTORY_ACCEPTED, SPAN("x"));
    history_close(&h);
    cr_assert(there("history-2024-10-04.db.damaged"));
    cr_assert_eq(ask_day(20000, "SELECT message FROM event"), 5);
    h = open_at(DAY, NOON + 3 * DAY, 0);
    history_close(&h);
    cr_assert_eq(files(), 0, "and goes with its day");
}

Test(history, names_are_days)
{
    int64_t day;
    char name[HISTORY_NAME_MAX];
    history_name(0, name);
    cr_assert_str_eq(name, "history-1970-01-01.db");
    cr_assert(history_day_of("history-2024-10-04.db", &day) && day == 20000);
    const char *const others[] = {"history-2024-13-04.db", "history-2024-10-04.db-wal", "history-2024-10-4.db", "queue.db",
                                  "history-2024-10-04", "history-2024-10-04.dbx", ""};
    for (size_t i = 0; i < COUNT_OF(others); i++)
        cr_assert_not(history_day_of(others[i], &day), "%s", others[i]);
}

/* ---- reading ---- */

struct seen {
    uint64_t messages[64];
    enum history_kind kinds[64];
    size_t n, stop_at;
    bool over;
};

static bool see(void *ctx, const struct history_event *e)
{
    struct seen *s = ctx;
    s->messages[s->n] = e->message;
    s->kinds[s->n++] = e->kind;
    return s->n != s->stop_at;
}

static bool see_over(void *ctx)
{
    return ((struct seen *)ctx)->over;
}

static int read_into(struct seen *s, struct history_filter f)
{
    s->n = 0;
    return history_read(dir, &f, see, see_over, s, &err);
}

Test(history, it_is_read_by_message_address_and_message_id_the_newest_first)
{
    struct history *h = open_at(7 * DAY, NOON, 0);
    struct seen s = {0};
    struct history_event e = {.message = 5, .time = NOON, .kind = HISTORY_ACCEPTED, .sender = SPAN("Ann@x.test"), .message_id = SPAN("<m@x>")};
    history_add(h, &e);
    add(h, 5, NOON + 1, HISTORY_DEFERRED, SPAN("Bob@example.test"));
    add(h, 5, NOON + DAY, HISTORY_DELIVERED, SPAN("Bob@example.test"));
    add(h, 6, NOON + 2, HISTORY_FAILED, SPAN("eve@example.test"));
    history_flush(h, PATIENCE_MS);
    cr_assert_eq(read_into(&s, (struct history_filter){.message = 5}), 0);
    cr_assert(s.n == 3 && s.kinds[0] == HISTORY_DELIVERED && s.kinds[1] == HISTORY_DEFERRED && s.kinds[2] == HISTORY_ACCEPTED);
    cr_assert_eq(read_into(&s, (struct history_filter){.message = 5, .oldest_first = true}), 0);
    cr_assert(s.n == 3 && s.kinds[0] == HISTORY_ACCEPTED && s.kinds[2] == HISTORY_DELIVERED);
    cr_assert_eq(read_into(&s, (struct history_filter){.address = SPAN("bob@EXAMPLE.test")}), 0);
    cr_assert_eq(s.n, 2);
    cr_assert_eq(read_into(&s, (struct history_filter){.address = SPAN("ann@x.test")}), 0);
    cr_assert(s.n == 1 && s.messages[0] == 5);
    cr_assert_eq(read_into(&s, (struct history_filter){.message_id = SPAN("<m@x>")}), 0);
    cr_assert(s.n == 1 && s.messages[0] == 5);
    cr_assert_eq(read_into(&s, (struct history_filter){.message_id = SPAN("<M@x>")}), 0);
    cr_assert_eq(s.n, 0, "a Message-ID has its case");
    cr_assert_eq(read_into(&s, (struct history_filter){.since = NOON + DAY}), 0);
    cr_assert(s.n == 1 && s.kinds[0] == HISTORY_DELIVERED);
    s.stop_at = 2;
    cr_assert_eq(read_into(&s, (struct history_filter){0}), 1, "stopped");
    cr_assert_eq(s.n, 2);
    s = (struct seen){.over = true};
    cr_assert_eq(read_into(&s, (struct history_filter){0}), 1);
    cr_assert_eq(s.n, 0);
    history_close(&h);
}

Test(history, a_day_that_cannot_be_read_hides_no_other)
{
    char path[160];
    struct seen s = {0};
    struct history *h = open_at(7 * DAY, NOON, 0);
    add(h, 5, NOON, HISTORY_HELD, SPAN("x"));
    add(h, 6, NOON + DAY, HISTORY_HELD, SPAN("x"));
    history_close(&h);
    snprintf(path, sizeof path, "%s/history-2024-10-05.db", dir);
    FILE *f = fopen(path, "w");
    for (int i = 0; i < 5000; i++)
        fputs("no database ", f);
    fclose(f);
    cr_assert_eq(read_into(&s, (struct history_filter){0}), 0);
    cr_assert(s.n == 1 && s.messages[0] == 5);
}
