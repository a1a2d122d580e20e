/* Opening, closing, syncing, emptying the store of one account. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/internal.h"

#define DB_NAME "store.db"
#define WAL_NAME "store.db-wal"
#define CACHE_KIB 1024
#define WAL_LIMIT (8 << 20)
#define PRUNE_EVERY_MS INT64_C(86400000)
#define PURGE_DEPTH 3

/* One process at a time: the last one may still be closing. */
static int lock_dir(struct store *st, unsigned wait_ms, struct err *err)
{
    int64_t until = clock_mono() + wait_ms;
    while (flock(st->dir_fd, LOCK_EX | LOCK_NB)) {
        if (errno != EWOULDBLOCK && errno != EINTR) {
            err_errno(err, "%s: lock", st->dir);
            return STORE_FAILED;
        }
        if (clock_mono() >= until) {
            err_set(err, "%s: another process holds it", st->dir);
            return STORE_BUSY;
        }
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    return STORE_OK;
}

static void on_wal(void *ctx, int64_t pages)
{
    struct store *st = ctx;
    st->wal_pages = st->log_pages = pages;
}

static int open_db(struct store *st, struct err *err)
{
    const struct db_options o = {.keep_wal = true,
                                 .own_checkpoints = true,
                                 .unsynced_setup = true,
                                 .one_process = true,
                                 .small = true,
                                 .cache_kib = CACHE_KIB,
                                 .wal_limit = WAL_LIMIT};
    if (db_open(&st->db, st->dir, DB_NAME, &o, err))
        return STORE_FAILED;
    db_on_wal(st->db, on_wal, st);
    int64_t version;
    if (db_value(st->db, "PRAGMA user_version", 0, &version, err) ||
        (version == 0 && db_exec(st->db, "PRAGMA synchronous=OFF", err)))
        return store_failed(st);
    return db_migrate(st->db, store_schema, store_schema_count, err) ? store_failed(st) : STORE_OK;
}

static int make_if_new(struct store *st, const char *boot_id, bool *made, struct err *err)
{
    int64_t rows;
    if (db_value(st->db, "SELECT count(*) FROM account", 0, &rows, err))
        return store_failed(st);
    *made = rows == 0;
    if (rows)
        return STORE_OK;
    int code = store_begin(st, err);
    if (code)
        return code;
    struct db_stmt *s = db_stmt(st->db, "INSERT INTO account(id, boot, clean, uidvalidity, bytes, messages, "
                                        "next_content) VALUES (1, ?, 2, 0, 0, 0, 1)");
    db_bind_text(s, 1, span_of(boot_id));
    code = db_run(s, err) ? store_failed(st) : store_make_account(st, err);
    code = store_end(st, code, err);
    return code ? code : db_exec(st->db, "PRAGMA synchronous=NORMAL", err) ? store_failed(st) : STORE_OK;
}

int store_open(struct store **out, const struct store_options *o, struct err *err)
{
    *out = NULL;
    struct store *st = mem_alloc(sizeof(*st));
    *st = (struct store){.dir = mem_strdup(o->dir), .wal_fd = -1, .now_ms = o->now_ms, .prune_at = o->now_ms};
    st->events_tail = &st->events;
    st->dir_fd = open(o->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    bool made = false;
    int code = st->dir_fd < 0 ? err_errno(err, "%s", o->dir) : lock_dir(st, o->wait_ms, err);
    if (!code)
        code = open_db(st, err);
    if (!code)
        code = make_if_new(st, o->boot_id, &made, err);
    if (!code)
        code = store_mark_open(st, o->boot_id, made, err);
    if (code) {
        store_close(&st, false);
        return code;
    }
    *out = st;
    return STORE_OK;
}

static void flush_cache(struct store *st)
{
    struct err why;
    if (st->cache_n == 0)
        return;
    int code = store_begin(st, &why);
    if (code || store_commit(st, &why))
        LOGW("envelopes not remembered", KVT("why", why.text));
}

void store_close(struct store **stp, bool clean)
{
    struct store *st = *stp;
    if (!st)
        return;
    *stp = NULL;
    struct err why;
    if (st->db) {
        store_deliver_abort(st);
        flush_cache(st);
        if (clean && store_mark_clean(st, &why))
            LOGW("store not marked clean", KVT("dir", st->dir), KVT("why", why.text));
        store_settled(st);
    }
    db_close(&st->db);
    store_cache_drop(st);
    idmap_free(&st->cache);
    if (st->wal_fd >= 0)
        close(st->wal_fd);
    if (st->dir_fd >= 0)
        close(st->dir_fd);
    mem_free(&st->unlink);
    mem_free(&st->dir);
    mem_free(&st);
}

/* A new store was made without a sync: its file, its folder and that folder's entry all at once. */
static int sync_fresh(struct store *st, struct err *err)
{
    if (syncfs(st->dir_fd)) {
        st->doubt = true;
        err_errno(err, "%s: sync", st->dir);
        return STORE_FAILED;
    }
    int code = store_mark_synced(st, err);
    if (code)
        return code;
    st->fresh = st->dirty = false;
    st->dir_synced = true;
    return STORE_OK;
}

/* The kernel has dropped what it could not write. Nothing that this process knows of the store can be relied on, and nobody may
 * work on with it: who opens it next finds what is there, and counts on from above all that was given out. */
static _Noreturn void log_is_torn(struct store *st)
{
    LOGE("the store's log has lost its end", KVT("dir", st->dir));
    store_mark_torn(st);
    _exit(1);
}

/* After a sync that failed another one would succeed without writing what was lost (the kernel took it for written). What the
 * last checkpoint has moved is in the file and was synced there. */
static int renew(struct store *st, struct err *err)
{
    int64_t frames;
    if (db_renew_log(st->dir, DB_NAME, &frames, err))
        return STORE_FAILED;
    if (frames < st->log_pages)
        log_is_torn(st);
    if (st->fresh && db_checkpoint(st->db, false, NULL, err)) /* its first page is in the log, too */
        return store_failed(st);
    st->doubt = false;
    return STORE_OK;
}

/* The WAL holds every commit since the last checkpoint, which synced what it moved: syncing it makes everything
 * durable. */
int store_sync(struct store *st, struct err *err)
{
    int code = st->doubt ? renew(st, err) : STORE_OK;
    if (code)
        return code;
    if (st->fresh)
        return sync_fresh(st, err);
    if (!st->dirty)
        return STORE_OK;
    if (st->wal_fd < 0)
        st->wal_fd = openat(st->dir_fd, WAL_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (st->wal_fd < 0 || fdatasync(st->wal_fd)) {
        st->doubt = true;
        code = errno == ENOSPC || errno == EDQUOT ? STORE_FULL : STORE_FAILED;
        err_errno(err, "%s/%s: sync", st->dir, WAL_NAME);
        return code;
    }
    if (!st->dir_synced && fsync(st->dir_fd)) {
        err_errno(err, "%s: sync", st->dir);
        return STORE_FAILED;
    }
    st->dir_synced = true;
    st->dirty = false;
    return STORE_OK;
}

void store_set_now(struct store *st, int64_t now_ms)
{
    st->now_ms = now_ms;
}

/* Old delivery keys go once a day, and with the first call after opening. */
static void prune_keys(struct store *st)
{
    if (st->now_ms < st->prune_at)
        return;
    st->prune_at = st->now_ms + PRUNE_EVERY_MS;
    struct db_stmt *s = db_stmt(st->db, "DELETE FROM delivery WHERE at < ?");
    db_bind_i64(s, 1, st->now_ms - STORE_KEY_DAYS * PRUNE_EVERY_MS);
    struct err why;
    if (db_run(s, &why))
        LOGW("delivery keys not pruned", KVT("why", why.text));
    else if (db_changes(st->db) > 0)
        st->dirty = true;
}

void store_shrink(struct store *st)
{
    flush_cache(st);
    prune_keys(st);
    db_exec(st->db, "PRAGMA shrink_memory", NULL);
}

/* ---- emptying ---- */

static int purge_at(int dir, unsigned depth, struct err *err)
{
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        if (fd >= 0)
            close(fd);
        return err_errno(err, "purge");
    }
    int rc = 0;
    const struct dirent *e;
    while (rc == 0 && (e = readdir(d))) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 || unlinkat(fd, e->d_name, 0) == 0)
            continue;
        int sub = depth ? openat(fd, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW) : -1;
        if (sub >= 0) {
            rc = purge_at(sub, depth - 1, err);
            close(sub);
        }
        if (rc == 0 && unlinkat(fd, e->d_name, AT_REMOVEDIR))
            rc = err_errno(err, "purge: %s", e->d_name);
    }
    closedir(d);
    return rc;
}

int store_purge(const char *dir, struct err *err)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return err_errno(err, "%s", dir) ? STORE_FAILED : STORE_OK;
    int rc = purge_at(fd, PURGE_DEPTH, err);
    if (rc == 0 && fsync(fd))
        rc = err_errno(err, "%s", dir);
    close(fd);
    return rc ? STORE_FAILED : STORE_OK;
}
