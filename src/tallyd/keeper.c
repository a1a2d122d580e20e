/* tally.db: one row for each client worth remembering. Losing the last seconds of it in a crash is fine; so no commit
 * waits for the disk, and a file that can't be read is set aside. */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "db/db.h"
#include "tallyd/tallyd.h"

#define FILE_NAME "tally.db"
#define WAIT_MS 15000 /* from a change to its row */
#define BATCH 1000
#define SWEEP_ROWS 20000 /* written; then old ones are swept out */

struct keeper {
    struct tallyd *d;
    struct db *db; /* used by one thread at a time: the loop's, or the one that saves */
    struct timer *timer;
    struct tally_row *rows;
    size_t n;
    unsigned written, cap; /* cap: rows that are kept */
    bool saving, failed, last; /* last: we leave when it is saved */
    struct err err;
};

static const char *const schema[] = {
    "CREATE TABLE client (id INTEGER PRIMARY KEY, seen INTEGER NOT NULL, trusted INTEGER NOT NULL,"
    " turned_away INTEGER NOT NULL, smtp REAL NOT NULL, imap REAL NOT NULL, pop3 REAL NOT NULL, messages REAL NOT NULL,"
    " refused REAL NOT NULL, errors REAL NOT NULL, logins REAL NOT NULL) STRICT;"
    "CREATE INDEX client_seen ON client (seen);"};

/* ---- reading ---- */

static int load(struct keeper *k, struct err *err)
{
    struct tallyd *d = k->d;
    int64_t now = loop_now(d->loop), wall = loop_wall(d->loop);
    int got;
    struct db_stmt *s = db_stmt(k->db, "SELECT id, seen, trusted, turned_away, smtp, imap, pop3, messages, refused,"
                                       " errors, logins FROM (SELECT * FROM client ORDER BY seen DESC LIMIT ?)"
                                       " ORDER BY seen");
    db_bind_i64(s, 1, (int64_t)service_conf(d->service)->limits.clients);
    while ((got = db_step(s, err)) > 0) {
        struct tally_row r = {.client = (uint64_t)db_i64(s, 0),
                              .seen = db_i64(s, 1),
                              .trusted = db_i64(s, 2),
                              .turned_away = (uint32_t)db_i64(s, 3)};
        for (int i = 0; i < TALLY_WHATS; i++)
            r.level[i] = db_real(s, 4 + i);
        tally_restore(d->tally, &r, now, wall);
    }
    return got;
}

static int open_file(struct keeper *k, const char *dir, struct err *err)
{
    const struct db_options o = {.one_process = true, .unsynced_setup = true, .small = true};
    if (db_open(&k->db, dir, FILE_NAME, &o, err) == 0 && db_migrate(k->db, schema, COUNT_OF(schema), err) == 0 &&
        load(k, err) == 0)
        return 0;
    bool broken = !k->db || db_code(k->db) == DB_CORRUPT;
    db_close(&k->db);
    return broken ? -1 : -2;
}

/* What can't be read is kept for whoever wants to look, and its place taken by a new file. */
static void set_aside(const char *dir)
{
    static const char *const parts[] = {"", "-wal", "-shm"};
    char from[4200], to[4200];
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        snprintf(from, sizeof from, "%s/" FILE_NAME "%s", dir, parts[i]);
        snprintf(to, sizeof to, "%s/" FILE_NAME ".broken%s", dir, parts[i]);
        if (rename(from, to) && errno != ENOENT)
            LOGW("tally-file", KVT("file", from), KVT("why", strerror(errno)));
    }
}

/* ---- writing ---- */

static int save_row(struct keeper *k, const struct tally_row *r)
{
    struct db_stmt *s;
    if (r->gone) {
        s = db_stmt(k->db, "DELETE FROM client WHERE id = ?");
        db_bind_i64(s, 1, (int64_t)r->client);
        return db_run(s, &k->err);
    }
    s = db_stmt(k->db, "INSERT OR REPLACE INTO client VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
    db_bind_i64(s, 1, (int64_t)r->client);
    db_bind_i64(s, 2, r->seen);
    db_bind_i64(s, 3, r->trusted);
    db_bind_i64(s, 4, r->turned_away);
    for (int i = 0; i < TALLY_WHATS; i++)
        db_bind_real(s, 5 + i, r->level[i]);
    return db_run(s, &k->err);
}

static int sweep(struct keeper *k)
{
    struct db_stmt *s = db_stmt(k->db, "DELETE FROM client WHERE seen < (SELECT seen FROM client ORDER BY seen DESC"
                                       " LIMIT 1 OFFSET ?)");
    db_bind_i64(s, 1, k->cap);
    k->written = 0;
    return db_run(s, &k->err);
}

/* On a pool thread. */
static void save_run(void *ctx)
{
    struct keeper *k = ctx;
    k->failed = db_begin(k->db, &k->err) != 0;
    for (size_t i = 0; i < k->n && !k->failed; i++)
        k->failed = save_row(k, &k->rows[i]) != 0;
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
    struct keeper *k = ctx;
    k->saving = false;
    if (k->failed)
        LOGW("tally-not-kept", KVT("why", k->err.text));
    if (k->last)
        service_done(k->d->service);
    keeper_changed(k->d);
}

static bool take(struct keeper *k)
{
    struct tallyd *d = k->d;
    k->cap = service_conf(d->service)->limits.clients;
    k->n = tally_take_changed(d->tally, k->rows, BATCH, loop_now(d->loop), loop_wall(d->loop));
    return k->n > 0;
}

static void on_timer(void *ctx)
{
    struct keeper *k = ctx;
    if (k->saving || !take(k))
        return;
    k->saving = true;
    loop_work(k->d->loop, save_run, save_done, k);
}

void keeper_changed(struct tallyd *d)
{
    struct keeper *k = d->keeper;
    if (k && !k->saving && !timer_running(k->timer) && tally_changed(d->tally))
        timer_start(k->timer, k->n == BATCH ? 0 : WAIT_MS);
}

/* ---- life ---- */

int keeper_open(struct tallyd *d, struct err *err)
{
    char dir[4096];
    struct keeper *k = mem_alloc(sizeof *k);
    k->d = d;
    d->keeper = k;
    k->rows = mem_array(BATCH, sizeof *k->rows);
    k->timer = timer_new(d->loop, on_timer, k);
    if ((size_t)snprintf(dir, sizeof dir, "%s/tally", service_conf(d->service)->state) >= sizeof dir)
        return err_set(err, "state: the path is too long");
    int opened = open_file(k, dir, err);
    if (opened == -1) {
        LOGW("tally-file", KVT("why", err->text), KVT("effect", "set aside as " FILE_NAME ".broken, begun anew"));
        set_aside(dir);
        opened = open_file(k, dir, err);
    }
    return opened ? -1 : 0;
}

bool keeper_is_saving(struct tallyd *d)
{
    return d->keeper->last = d->keeper->saving;
}

/* The loop has ended: no thread saves any more. */
void keeper_close(struct tallyd *d)
{
    struct keeper *k = d->keeper;
    if (!k)
        return;
    timer_free(&k->timer);
    while (k->db && !k->saving && take(k)) {
        save_run(k);
        if (k->failed)
            break;
    }
    if (!k->saving) {
        db_close(&k->db);
        mem_free(&k->rows);
        mem_free(&d->keeper);
    }
}
