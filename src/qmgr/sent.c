/* sent.db: what queue/sending.h counts, written behind by a pool thread. Losing the last seconds of it in a crash is fine; so
 * no commit waits for the disk, and a file that can't be read is set aside. */
#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "db/db.h"
#include "qmgr/limits.h"

#define FILE_NAME "sent.db"
#define WAIT_MS 5000 /* from a change to its row */
#define BATCH 200
#define SWEEP_ROWS 20000 /* written; then what is forgotten in memory is deleted */
#define COUNT_BYTES (SENDING_LIMITS * SENDING_STEPS * sizeof(uint32_t))

struct sent {
    struct qmgr *q;
    struct db *db; /* used by one thread at a time: the loop's, or the one that saves */
    struct timer *timer;
    struct sending_row *rows;
    size_t n, cap;
    unsigned written;
    bool saving, failed;
    struct err err;
};

/* steps: the last ones of the five counts; counts: theirs, little-endian. */
static const char *const schema[] = {
    "CREATE TABLE account (id INTEGER PRIMARY KEY, messages_hour INTEGER NOT NULL, recipients_hour INTEGER NOT NULL,"
    " messages_day INTEGER NOT NULL, recipients_day INTEGER NOT NULL, new_day INTEGER NOT NULL, counts BLOB NOT NULL) STRICT;"
    "CREATE TABLE known (key INTEGER PRIMARY KEY, account INTEGER NOT NULL, seen INTEGER NOT NULL) STRICT;"
    "CREATE INDEX known_seen ON known (seen);"};

/* ---- reading ---- */

static int load_accounts(struct sent *k, struct err *err)
{
    struct db_stmt *s = db_stmt(k->db, "SELECT id, messages_hour, recipients_hour, messages_day, recipients_day, new_day, counts "
                                       "FROM account");
    int got;
    while ((got = db_step(s, err)) > 0) {
        struct sending_row r = {.account = (uint32_t)db_i64(s, 0)};
        struct span counts = db_blob(s, 1 + SENDING_LIMITS);
        for (int i = 0; i < SENDING_LIMITS; i++)
            r.at[i] = db_i64(s, 1 + i);
        if (counts.n == COUNT_BYTES)
            memcpy(r.counts, counts.p, COUNT_BYTES);
        sending_restore(k->q->limits->sending, &r);
    }
    return got;
}

static int load_known(struct sent *k, struct err *err)
{
    struct db_stmt *s = db_stmt(k->db, "SELECT key, account, seen FROM (SELECT * FROM known ORDER BY seen DESC LIMIT ?) ORDER BY seen");
    int got;
    db_bind_i64(s, 1, (int64_t)k->cap);
    while ((got = db_step(s, err)) > 0) {
        struct sending_row r = {
            .key = (uint64_t)db_i64(s, 0), .account = (uint32_t)db_i64(s, 1), .seen = db_i64(s, 2)};
        if (r.key)
            sending_restore(k->q->limits->sending, &r);
    }
    return got;
}

/* -1: the file can't be read; -2: another failure. */
static int open_file(struct sent *k, const char *dir, struct err *err)
{
    const struct db_options o = {.one_process = true, .unsynced_setup = true, .small = true};
    if (db_open(&k->db, dir, FILE_NAME, &o, err) == 0 && db_migrate(k->db, schema, COUNT_OF(schema), err) == 0 &&
        load_accounts(k, err) == 0 && load_known(k, err) == 0)
        return 0;
    bool broken = !k->db || db_code(k->db) == DB_CORRUPT;
    db_close(&k->db);
    return broken ? -1 : -2;
}

static void set_aside(const char *dir)
{
    static const char *const parts[] = {"", "-wal", "-shm"};
    char from[4200], to[4200];
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        snprintf(from, sizeof from, "%s/" FILE_NAME "%s", dir, parts[i]);
        snprintf(to, sizeof to, "%s/" FILE_NAME ".broken%s", dir, parts[i]);
        if (rename(from, to) && errno != ENOENT)
            LOGW("sent-file", KVT("file", from), KVT("why", strerror(errno)));
    }
}

/* ---- writing ---- */

static int save_account(struct sent *k, const struct sending_row *r)
{
    struct db_stmt *s = db_stmt(k->db, "INSERT OR REPLACE INTO account VALUES (?, ?, ?, ?, ?, ?, ?)");
    db_bind_i64(s, 1, r->account);
    for (int i = 0; i < SENDING_LIMITS; i++)
        db_bind_i64(s, 2 + i, r->at[i]);
    db_bind_blob(s, 2 + SENDING_LIMITS, span_make((const char *)r->counts, COUNT_BYTES));
    return db_run(s, &k->err);
}

static int save_known(struct sent *k, const struct sending_row *r)
{
    struct db_stmt *s = db_stmt(k->db, "INSERT OR REPLACE INTO known VALUES (?, ?, ?)");
    db_bind_i64(s, 1, (int64_t)r->key);
    db_bind_i64(s, 2, r->account);
    db_bind_i64(s, 3, r->seen);
    return db_run(s, &k->err);
}

static int sweep(struct sent *k)
{
    struct db_stmt *s = db_stmt(k->db, "DELETE FROM known WHERE seen < (SELECT seen FROM known ORDER BY seen DESC LIMIT 1 OFFSET ?)");
    db_bind_i64(s, 1, (int64_t)k->cap);
    k->written = 0;
    return db_run(s, &k->err);
}

/* On a pool thread. */
static void save_run(void *ctx)
{
    struct sent *k = ctx;
    k->failed = db_begin(k->db, &k->err) != 0;
    for (size_t i = 0; i < k->n && !k->failed; i++)
        k->failed = (k->rows[i].key ? save_known(k, &k->rows[i]) : save_account(k, &k->rows[i])) != 0;
    k->written += (unsigned)k->n;
    if (!k->failed && k->written >= SWEEP_ROWS)
        k->failed = sweep(k) != 0;
    if (k->failed || db_commit(k->db, &k->err)) {
        k->failed = true;
        db_rollback(k->db);
    }
}

static void save_done(void *ctx)
{
    struct sent *k = ctx;
    k->saving = false;
    if (k->failed)
        LOGW("sent-not-kept", KVT("why", k->err.text));
    sent_changed(k->q);
    qmgr_quiet(k->q);
}

static bool take(struct sent *k)
{
    k->n = sending_take_changed(k->q->limits->sending, k->rows, BATCH);
    return k->n > 0;
}

static void on_timer(void *ctx)
{
    struct sent *k = ctx;
    k->cap = k->q->conf->sending.remembered;
    if (k->saving || k->q->draining || !take(k))
        return;
    k->saving = true;
    loop_work(k->q->loop, save_run, save_done, k);
}

void sent_changed(struct qmgr *q)
{
    struct sent *k = q->limits->sent;
    if (!k->saving && !timer_running(k->timer) && sending_changed(q->limits->sending))
        timer_start(k->timer, k->n == BATCH ? 0 : WAIT_MS);
}

bool sent_busy(const struct qmgr *q)
{
    return q->limits->sent->saving;
}

/* ---- life ---- */

int sent_open(struct qmgr *q, const char *dir, struct err *err)
{
    struct sent *k = q->limits->sent = mem_alloc(sizeof *k);
    k->q = q;
    k->cap = service_conf(q->service)->sending.remembered;
    k->rows = mem_array(BATCH, sizeof *k->rows);
    k->timer = timer_new(q->loop, on_timer, k);
    int opened = open_file(k, dir, err);
    if (opened == -1) {
        LOGW("sent-file", KVT("why", err->text), KVT("effect", "set aside as " FILE_NAME ".broken, begun anew"));
        set_aside(dir);
        opened = open_file(k, dir, err);
    }
    return opened ? -1 : 0;
}

/* The loop has ended: no thread saves any more, but for one that a drain did not wait for. */
void sent_close(struct qmgr *q)
{
    struct sent *k = q->limits->sent;
    if (!k)
        return;
    timer_free(&k->timer);
    while (k->db && !k->saving && take(k)) {
        save_run(k);
        if (k->failed)
            break;
    }
    if (k->saving)
        return;
    db_close(&k->db);
    mem_free(&k->rows);
    mem_free(&q->limits->sent);
}
