#include "queue/verify.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/util.h"
#include "queue/history_read.h"
#include "queue/sql.h"

#define LOOK 5000 /* rows with one snapshot */
#define DOMAIN_MAX 255

const char *queue_fault_text(enum queue_fault f)
{
    static const char *const texts[] = {
#define QUEUE_FAULT_TEXT(name, what, mending) what,
        QUEUE_FAULTS(QUEUE_FAULT_TEXT)
#undef QUEUE_FAULT_TEXT
    };
    return texts[f];
}

const char *queue_fault_mending(enum queue_fault f)
{
    static const char *const texts[] = {
#define QUEUE_FAULT_MENDING(name, what, mending) mending,
        QUEUE_FAULTS(QUEUE_FAULT_MENDING)
#undef QUEUE_FAULT_MENDING
    };
    return texts[f];
}

struct check {
    const struct queue_verify *v;
    struct queue_reader *r;
    int spool;
    uint64_t highest; /* id in use */
    uint64_t seen;
    bool stopped;
};

static void tell(struct check *c, struct queue_found f)
{
    c->stopped |= !c->v->found(c->v->ctx, &f);
}

static bool over(struct check *c, uint64_t more, const char *unit)
{
    c->seen += more;
    c->v->progress(c->v->ctx, c->seen, unit);
    c->stopped |= c->v->over(c->v->ctx);
    return c->stopped;
}

/* ---- what SQLite says ---- */

/* Its rows are "ok", or faults. *good: the first. */
static int pragma(struct check *c, struct db *db, const char *sql, enum queue_fault fault, const char *about, bool *good,
                  struct err *err)
{
    struct db_stmt *s = db_prepare(db, span_of(sql));
    int got = 0;
    *good = true;
    while (!c->stopped && (got = db_step(s, err)) > 0)
        if (!span_eqs(db_text(s, 0), "ok")) {
            char text[600];
            *good = false;
            snprintf(text, sizeof text, "%s%s%.*s", about, *about ? ": " : "", (int)MIN_OF(db_text(s, 0).n, (size_t)500),
                     db_text(s, 0).p);
            tell(c, (struct queue_found){.fault = fault, .detail = span_of(text)});
        }
    db_finish(&s);
    if (!c->stopped && got < 0 && db_code(db) == DB_INTERRUPTED)
        c->stopped = true;
    return c->stopped ? 0 : got;
}

/* The quick check reads every page; the whole one compares indexes with their tables, one at a time, each with a
 * snapshot of its own. */
static int check_database(struct check *c, struct err *err)
{
    static const char *const tables[] = {
        "PRAGMA integrity_check(recipient)", "PRAGMA integrity_check(message)", "PRAGMA integrity_check(content)",
        "PRAGMA integrity_check(limited)",   "PRAGMA integrity_check(destination)", "PRAGMA integrity_check(token_a)",
        "PRAGMA integrity_check(token_b)",   "PRAGMA integrity_check(mark)"};
    bool good;
    int rc = pragma(c, c->r->db, "PRAGMA quick_check", QUEUE_FAULT_DATABASE, "", &good, err);
    for (size_t i = 0; rc == 0 && good && !c->stopped && i < COUNT_OF(tables); i++) {
        bool fine;
        rc = pragma(c, c->r->db, tables[i], QUEUE_FAULT_DATABASE, "", &fine, err);
    }
    return rc;
}

static int check_day(struct check *c, int64_t day)
{
    char name[HISTORY_NAME_MAX];
    struct db_options o = {
        .read_only = true, .one_process = true, .keep_wal = true, .own_checkpoints = true, .small = true, .cache_kib = 512};
    struct db *db;
    struct err err = {""};
    bool good;
    history_name(day, name);
    int rc = db_open(&db, c->v->dir, name, &o, &err);
    if (rc == 0) {
        db_on_progress(db, c->v->over, c->v->ctx);
        rc = pragma(c, db, "PRAGMA quick_check(10)", QUEUE_FAULT_HISTORY, name, &good, &err);
        db_close(&db);
    }
    if (rc) {
        char text[sizeof name + sizeof err.text + 2];
        snprintf(text, sizeof text, "%s: %s", name, err.text);
        tell(c, (struct queue_found){.fault = QUEUE_FAULT_HISTORY, .detail = span_of(text)});
    }
    return 0;
}

static int check_history(struct check *c, struct err *err)
{
    int64_t *days = mem_array(HISTORY_DAYS_MAX, sizeof *days);
    int n = history_days(c->v->dir, days, HISTORY_DAYS_MAX, err);
    for (int i = 0; i < n && !over(c, 1, "rows, files and days"); i++)
        check_day(c, days[i]);
    mem_free(&days);
    return n < 0 ? -1 : 0;
}

/* ---- recipients ---- */

/* A recipient, its message, its parent, its account's limit: one row, of one snapshot. */
#define RECIPIENTS                                                                                                       \
    "SELECT r.message, r.id, r.state, r.next IS NULL, r.parent, r.attempts, r.destination, r.address, r.domain, "        \
    "m.id IS NULL, p.state, l.account IS NULL FROM recipient r NOT INDEXED LEFT JOIN message m ON m.id = r.message "     \
    "LEFT JOIN recipient p ON p.message = r.message AND p.id = r.parent LEFT JOIN limited l ON l.account = m.account "   \
    "WHERE (r.message, r.id) > (?1, ?2) AND r.message >= ?1 ORDER BY r.message, r.id LIMIT ?3"
enum { MESSAGE, ID, STATE, NO_NEXT, PARENT, ATTEMPTS, DESTINATION, ADDRESS, DOMAIN, NO_MESSAGE, PARENT_STATE, NO_LIMIT };

static bool waits(int64_t state)
{
    return state == QUEUE_WAITING || state == QUEUE_PARKED || state == QUEUE_PICKUP;
}

/* What has waited can be found by the domain of its address, and nothing is found under another. */
static void check_domain(struct check *c, struct db_stmt *s, struct queue_found f)
{
    char name[DOMAIN_MAX + 1];
    size_t n;
    struct span address = db_text(s, ADDRESS), domain = db_text(s, DOMAIN);
    bool has_waited = db_i64(s, STATE) == QUEUE_PARKED || db_i64(s, STATE) == QUEUE_PICKUP ||
                      (db_i64(s, STATE) == QUEUE_WAITING && db_i64(s, ATTEMPTS) > 0);
    if (c->v->canonical(span_from(address, (size_t)(span_rfind(address, '@') + 1)), name, &n))
        f.domain = span_make(name, n);
    if (domain.p ? f.domain.p && span_eq(domain, f.domain) : !has_waited || !f.domain.p)
        return;
    f.fault = QUEUE_FAULT_DOMAIN;
    tell(c, f);
}

static void check_recipient(struct check *c, struct db_stmt *s)
{
    struct queue_found f = {
        .message = (uint64_t)db_i64(s, MESSAGE), .recipient = (uint64_t)db_i64(s, ID), .detail = db_text(s, ADDRESS)};
    int64_t state = db_i64(s, STATE);
    c->highest = MAX_OF(c->highest, MAX_OF(f.message, f.recipient));
#define FAULT(name, when)                 \
    if (when) {                           \
        f.fault = QUEUE_FAULT_##name;     \
        tell(c, f);                       \
    }
    if (db_i64(s, NO_MESSAGE)) {
        FAULT(NO_MESSAGE, true)
        return; /* the rest of it goes with it */
    }
    if (state < QUEUE_WAITING || state > QUEUE_LIMITED) {
        FAULT(STATE, true)
        return;
    }
    FAULT(NEXT_MISSING, waits(state) && db_i64(s, NO_NEXT))
    FAULT(NEXT_GIVEN, !waits(state) && !db_i64(s, NO_NEXT))
    FAULT(PARENT, db_i64(s, PARENT) && db_i64(s, PARENT_STATE) != QUEUE_EXPANDED)
    FAULT(DESTINATION, !db_is_null(s, DESTINATION) && state != QUEUE_WAITING)
    FAULT(LIMITED, state == QUEUE_LIMITED && db_i64(s, NO_LIMIT))
#undef FAULT
    check_domain(c, s, f);
}

static int check_recipients(struct check *c, struct err *err)
{
    int64_t message = 0, recipient = 0;
    int got = 0;
    for (size_t n = LOOK; n == LOOK && !c->stopped;) {
        struct db_stmt *s = db_stmt(c->r->db, RECIPIENTS);
        db_bind_i64(s, 1, message);
        db_bind_i64(s, 2, recipient);
        db_bind_i64(s, 3, LOOK);
        for (n = 0; !c->stopped && (got = db_step(s, err)) > 0; n++) {
            check_recipient(c, s);
            message = db_i64(s, MESSAGE);
            recipient = db_i64(s, ID);
        }
        if (got > 0)
            db_reset(s);
        if (got < 0)
            return -1;
        over(c, n, "recipients");
    }
    return 0;
}

/* ---- messages, contents, the mark ---- */

/* Also of a message that has left meanwhile: its file goes after its row. */
static bool file_is_good(const struct check *c, uint64_t id, uint64_t size)
{
    struct stat st;
    return fstatat(c->spool, qid_text(id).text, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
           (uint64_t)st.st_size == size;
}

static int row_of(struct check *c, const char *sql, uint64_t id, bool *there, struct err *err)
{
    struct db_stmt *s = db_stmt(c->r->db, sql);
    db_bind_i64(s, 1, (int64_t)id);
    int got = db_step(s, err);
    *there = got > 0;
    if (got > 0)
        db_reset(s);
    return got < 0 ? -1 : 0;
}

#define HAS_MESSAGE "SELECT 1 FROM message WHERE id = ?"

static int check_file(struct check *c, uint64_t id, uint64_t size, struct err *err)
{
    bool there = true;
    char text[100];
    if (file_is_good(c, id, size))
        return 0;
    if (row_of(c, HAS_MESSAGE, id, &there, err))
        return -1;
    snprintf(text, sizeof text, "spool/%s, %llu bytes", qid_text(id).text, (unsigned long long)size);
    if (there)
        tell(c, (struct queue_found){.fault = QUEUE_FAULT_FILE_MISSING, .message = id, .detail = span_of(text)});
    return 0;
}

struct message_row {
    uint64_t id, size;
    bool spooled;
};

static void check_message(struct check *c, struct db_stmt *s)
{
    struct queue_found f = {.message = (uint64_t)db_i64(s, 0)};
    c->highest = MAX_OF(c->highest, f.message);
    f.fault = QUEUE_FAULT_NO_RECIPIENT;
    if (!db_i64(s, 4))
        tell(c, f);
    f.fault = QUEUE_FAULT_CONTENT_MISSING;
    if (db_i64(s, 4) && !db_i64(s, 1) && !db_i64(s, 3))
        tell(c, f);
}

static int check_messages(struct check *c, struct err *err)
{
    struct message_row *rows = mem_array(LOOK, sizeof *rows);
    int64_t after = 0;
    int rc = 0;
    for (size_t n = LOOK; n == LOOK && rc == 0 && !c->stopped;) {
        struct db_stmt *s =
            db_stmt(c->r->db, "SELECT m.id, m.spooled, m.size, EXISTS (SELECT 1 FROM content c WHERE c.id = m.id), "
                              "EXISTS (SELECT 1 FROM recipient r WHERE r.message = m.id AND r.state <> 4) "
                              "FROM message m WHERE m.id > ?1 ORDER BY m.id LIMIT ?2");
        db_bind_i64(s, 1, after);
        db_bind_i64(s, 2, LOOK);
        for (n = 0; !c->stopped && (rc = db_step(s, err)) > 0; n++) {
            check_message(c, s);
            rows[n] = (struct message_row){(uint64_t)db_i64(s, 0), (uint64_t)db_i64(s, 2), db_i64(s, 1) && db_i64(s, 4)};
            after = db_i64(s, 0);
        }
        if (rc > 0) {
            db_reset(s);
            rc = 0;
        }
        for (size_t i = 0; rc == 0 && i < n && !c->stopped; i++)
            rc = rows[i].spooled ? check_file(c, rows[i].id, rows[i].size, err) : 0;
        over(c, n, "rows");
    }
    mem_free(&rows);
    return rc;
}

static int check_contents(struct check *c, struct err *err)
{
    struct db_stmt *s = db_stmt(c->r->db, "SELECT c.id FROM content c LEFT JOIN message m ON m.id = c.id WHERE m.id IS NULL");
    int got = 0;
    while (!c->stopped && (got = db_step(s, err)) > 0)
        tell(c, (struct queue_found){.fault = QUEUE_FAULT_CONTENT_ORPHAN, .message = (uint64_t)db_i64(s, 0)});
    if (got > 0)
        db_reset(s);
    return got < 0 ? -1 : 0;
}

static int check_mark(struct check *c, struct err *err)
{
    int64_t mark;
    if (db_value(c->r->db, "SELECT id FROM mark", 0, &mark, err))
        return -1;
    if ((uint64_t)mark <= c->highest && c->highest)
        tell(c, (struct queue_found){.fault = QUEUE_FAULT_MARK, .message = c->highest});
    return 0;
}

/* ---- files ---- */

static int check_name(struct check *c, const char *name, struct err *err)
{
    uint64_t id;
    bool there;
    struct queue_found f = {.detail = span_of(name)};
    if (!qid_parse(span_of(name), &id) || strcmp(qid_text(id).text, name) != 0) {
        f.fault = QUEUE_FAULT_FILE_STRANGER;
        tell(c, f);
        return 0;
    }
    if (id >= c->v->below)
        return 0;
    if (row_of(c, HAS_MESSAGE, id, &there, err))
        return -1;
    f.fault = QUEUE_FAULT_FILE_ORPHAN;
    f.message = id;
    if (!there)
        tell(c, f);
    return 0;
}

static int check_files(struct check *c, struct err *err)
{
    int fd = openat(c->spool, ".", O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    int rc = 0;
    if (!d)
        return err_errno(err, "%s/spool", c->v->dir);
    for (struct dirent *e; rc == 0 && !c->stopped && (e = readdir(d)) != NULL;)
        if (e->d_name[0] != '.') {
            rc = check_name(c, e->d_name, err);
            over(c, 1, "rows and files");
        }
    closedir(d);
    return rc;
}

/* ---- all ---- */

int queue_verify(const struct queue_verify *v, struct err *err)
{
    static int (*const checks[])(struct check *c, struct err *err) = {
        check_database, check_recipients, check_messages, check_contents, check_mark, check_files, check_history};
    struct check c = {.v = v};
    char path[4200];
    int rc = 0;
    snprintf(path, sizeof path, "%s/spool", v->dir);
    c.spool = open(path, O_DIRECTORY | O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (c.spool < 0)
        return err_errno(err, "%s", path);
    if (queue_reader_open(&c.r, v->dir, err)) {
        close(c.spool);
        return -1;
    }
    db_on_progress(c.r->db, v->over, v->ctx);
    for (size_t i = 0; rc == 0 && !c.stopped && i < COUNT_OF(checks); i++) {
        rc = checks[i](&c, err);
        if (rc && db_code(c.r->db) == DB_CORRUPT) { /* what can still be read is looked at */
            tell(&c, (struct queue_found){.fault = QUEUE_FAULT_DATABASE, .detail = span_of(err->text)});
            rc = 0;
        }
    }
    if (rc && db_code(c.r->db) == DB_INTERRUPTED)
        c.stopped = true;
    queue_reader_close(&c.r);
    close(c.spool);
    return c.stopped ? 1 : rc;
}
