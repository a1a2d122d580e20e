/* logins.db: what auth/backoff.h remembers, so that it survives a restart. Written behind, two seconds late, on a pool
 * thread and without waiting for the disk: no login waits for it, and losing the last of it is fine. It never stands in
 * the way: a file that can't be read is set aside, and without one logins go on. */
#include <errno.h>
#include <stdio.h>

#include "authd/logins_impl.h"
#include "base/log.h"
#include "base/mem.h"
#include "db/db.h"

#define FILE_NAME "logins.db"
#define WAIT_MS 2000 /* from a change to its row */
#define BATCH 1000
#define SWEEP_ROWS 20000 /* written; then old ones are swept out */

_Static_assert(BACKOFF_SECRET == SCRAM_KEY, "the directory's secret is the back-off's");

struct kept {
    struct logins *logins;
    struct db *db; /* used by one thread at a time: the loop's, or the one that saves */
    struct timer *timer;
    struct backoff_row *rows;
    size_t n;
    unsigned written;
    int64_t wall;
    bool saving, failed, told, last; /* last: we leave when it is saved */
    struct err err;
};

static const char *const schema[] = {
    "CREATE TABLE login (key INTEGER PRIMARY KEY, client INTEGER NOT NULL, kind INTEGER NOT NULL, failures REAL NOT NULL,"
    " at INTEGER NOT NULL, known INTEGER NOT NULL) STRICT;"};

static struct service *service_of(const struct logins *l)
{
    return l->authd->service;
}

/* ---- reading ---- */

static int load_some(struct kept *k, struct db_stmt *s, size_t most, struct err *err)
{
    struct loop *loop = service_loop(service_of(k->logins));
    int got;
    db_bind_i64(s, 1, (int64_t)most);
    while ((got = db_step(s, err)) > 0) {
        const struct backoff_row r = {.key = (uint64_t)db_i64(s, 0),
                                      .client = (uint64_t)db_i64(s, 1),
                                      .kind = (uint8_t)db_i64(s, 2),
                                      .failures = db_real(s, 3),
                                      .when = db_i64(s, 4),
                                      .known = db_i64(s, 5)};
        backoff_restore(k->logins->backoff, &r, loop_now(loop), loop_wall(loop));
    }
    return got;
}

static int load(struct kept *k, struct err *err)
{
    if (load_some(k, db_stmt(k->db, "SELECT * FROM (SELECT * FROM login WHERE known > 0 ORDER BY known DESC LIMIT ?)"
                                    " ORDER BY known"), BACKOFF_MAX, err))
        return -1;
    return load_some(k, db_stmt(k->db, "SELECT * FROM (SELECT * FROM login WHERE known = 0 ORDER BY at DESC LIMIT ?)"
                                       " ORDER BY at"), (size_t)3 * BACKOFF_MAX, err);
}

static int open_file(struct kept *k, const char *dir, bool *broken, struct err *err)
{
    const struct db_options o = {.one_process = true, .unsynced_setup = true, .small = true};
    if (db_open(&k->db, dir, FILE_NAME, &o, err) == 0 && db_migrate(k->db, schema, COUNT_OF(schema), err) == 0 &&
        load(k, err) == 0)
        return 0;
    *broken = (k->db ? db_code(k->db) : db_open_code()) == DB_CORRUPT;
    db_close(&k->db);
    return -1;
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
            LOGW("logins-file", KVT("file", from), KVT("why", strerror(errno)));
    }
}

/* ---- writing ---- */

static int save_row(struct kept *k, const struct backoff_row *r)
{
    struct db_stmt *s;
    if (r->gone) {
        s = db_stmt(k->db, "DELETE FROM login WHERE key = ?");
        db_bind_i64(s, 1, (int64_t)r->key);
        return db_run(s, &k->err);
    }
    s = db_stmt(k->db, "INSERT OR REPLACE INTO login VALUES (?, ?, ?, ?, ?, ?)");
    db_bind_i64(s, 1, (int64_t)r->key);
    db_bind_i64(s, 2, (int64_t)r->client);
    db_bind_i64(s, 3, r->kind);
    db_bind_real(s, 4, r->failures);
    db_bind_i64(s, 5, r->when);
    db_bind_i64(s, 6, r->known);
    return db_run(s, &k->err);
}

static int sweep_some(struct kept *k, struct db_stmt *s, int64_t since, size_t most)
{
    db_bind_i64(s, 1, since);
    db_bind_i64(s, 2, (int64_t)most);
    return db_run(s, &k->err);
}

/* Each of the two on its own: failures of strangers wash out nobody who is known. */
static int sweep(struct kept *k)
{
    k->written = 0;
    if (sweep_some(k, db_stmt(k->db, "DELETE FROM login WHERE known > 0 AND known < max(?, ifnull((SELECT known FROM"
                                     " login WHERE known > 0 ORDER BY known DESC LIMIT 1 OFFSET ?), 0))"),
                   k->wall - BACKOFF_KNOWN_MS, BACKOFF_MAX))
        return -1;
    return sweep_some(k, db_stmt(k->db, "DELETE FROM login WHERE known = 0 AND at < max(?, ifnull((SELECT at FROM"
                                        " login WHERE known = 0 ORDER BY at DESC LIMIT 1 OFFSET ?), 0))"),
                      k->wall - BACKOFF_FAILED_MS, (size_t)3 * BACKOFF_MAX);
}

/* On a pool thread. */
static void save_run(void *ctx)
{
    struct kept *k = ctx;
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
    struct kept *k = ctx;
    k->saving = false;
    if (k->failed && !k->told)
        LOGW("logins-not-kept", KVT("why", k->err.text));
    k->told = k->failed;
    if (k->last)
        service_done(service_of(k->logins));
    kept_changed(k->logins);
}

static bool take(struct kept *k)
{
    struct loop *loop = service_loop(service_of(k->logins));
    k->wall = loop_wall(loop);
    k->n = backoff_take_changed(k->logins->backoff, k->rows, BATCH, loop_now(loop), k->wall);
    return k->n > 0;
}

static void on_timer(void *ctx)
{
    struct kept *k = ctx;
    if (k->saving || !take(k))
        return;
    k->saving = true;
    loop_work(service_loop(service_of(k->logins)), save_run, save_done, k);
}

void kept_changed(struct logins *l)
{
    struct kept *k = l->kept;
    if (k && !k->saving && !timer_running(k->timer) && backoff_changed(l->backoff))
        timer_start(k->timer, k->n == BATCH ? 0 : WAIT_MS);
}

/* ---- life ---- */

void kept_open(struct logins *l, const char *dir)
{
    uint8_t secret[BACKOFF_SECRET];
    struct err err;
    bool broken = false;
    struct kept *k = mem_alloc(sizeof *k);
    k->logins = l;
    int opened = directory_secret(l->authd->directory, secret, &err);
    if (opened == 0) {
        backoff_free(&l->backoff);
        l->backoff = backoff_new(secret);
        password_wipe(secret, sizeof secret);
        opened = open_file(k, dir, &broken, &err);
    }
    if (broken) {
        LOGW("logins-file", KVT("why", err.text), KVT("effect", "set aside as " FILE_NAME ".broken, begun anew"));
        set_aside(dir);
        opened = open_file(k, dir, &broken, &err);
    }
    if (opened) {
        LOGW("logins-not-kept", KVT("why", err.text));
        mem_free(&k);
        return;
    }
    k->rows = mem_array(BATCH, sizeof *k->rows);
    k->timer = timer_new(service_loop(service_of(l)), on_timer, k);
    l->kept = k;
}

bool kept_is_saving(struct logins *l)
{
    return l->kept && (l->kept->last = l->kept->saving);
}

void kept_close(struct logins *l)
{
    struct kept *k = l->kept;
    if (!k)
        return;
    timer_free(&k->timer);
    while (!k->saving && take(k)) {
        save_run(k);
        if (k->failed)
            break;
    }
    if (!k->saving) {
        db_close(&k->db);
        mem_free(&k->rows);
        mem_free(&l->kept);
    }
}
