/* Large contents: files under their final name, large/NN/ID. Who may be there in which state: doc/store-states.md.
 * Everything is reached from the directory's descriptor, without following symbolic links (HAZARDS 32). */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "store/internal.h"

#define MARKER "unsettled"

static void large_path(char out[64], uint64_t id)
{
    snprintf(out, 64, "large/%02x/%llu", (unsigned)(id & 0xff), (unsigned long long)id);
}

static void large_dir(char out[16], uint64_t id)
{
    snprintf(out, 16, "large/%02x", (unsigned)(id & 0xff));
}

int store_mark_unsettled(struct store *st, struct err *err)
{
    if (st->marked)
        return 0;
    int fd = openat(st->dir_fd, MARKER, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_errno(err, MARKER);
    close(fd);
    st->marked = true;
    return 0;
}

void store_settled(struct store *st)
{
    if (st->marked && !st->orphan && st->stages == 0 && unlinkat(st->dir_fd, MARKER, 0) == 0)
        st->marked = false;
}

static int make_dirs(struct store *st, uint64_t id)
{
    char dir[16];
    large_dir(dir, id);
    if (mkdirat(st->dir_fd, "large", 0700) && errno != EEXIST)
        return -1;
    return mkdirat(st->dir_fd, dir, 0700) && errno != EEXIST ? -1 : 0;
}

/* No link is followed in any part of the path. */
static int open_beneath(struct store *st, const char *path, int flags)
{
    struct open_how how = {.flags = (unsigned)(flags | O_CLOEXEC),
                           .mode = flags & O_CREAT ? 0600 : 0,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
    return (int)syscall(SYS_openat2, st->dir_fd, path, &how, sizeof(how));
}

int store_large_open(struct store *st, uint64_t id, int flags, struct err *err)
{
    char path[64];
    large_path(path, id);
    int fd = open_beneath(st, path, flags);
    if (fd < 0 && errno == ENOENT && (flags & O_CREAT) && make_dirs(st, id) == 0)
        fd = open_beneath(st, path, flags);
    return fd < 0 ? err_errno(err, "%s/%s", st->dir, path) : fd;
}

static int sync_dir(struct store *st, const char *name)
{
    int fd = open_beneath(st, name, O_RDONLY | O_DIRECTORY);
    if (fd < 0)
        return -1;
    int rc = fsync(fd);
    close(fd);
    return rc;
}

int store_large_sync(struct store *st, uint64_t id, int fd, struct err *err)
{
    char dir[16];
    large_dir(dir, id);
    if (fdatasync(fd) || sync_dir(st, dir) || sync_dir(st, "large") || fsync(st->dir_fd))
        return err_errno(err, "sync of a large content");
    return 0;
}

static bool row_is_there(struct store *st, uint64_t id, uint64_t *size)
{
    struct db_stmt *s = db_stmt(st->db, "SELECT size FROM content WHERE id = ? AND large");
    db_bind_i64(s, 1, (int64_t)id);
    int got = db_step(s, NULL);
    if (got > 0 && size)
        *size = (uint64_t)db_i64(s, 0);
    db_reset(s);
    return got != 0; /* a failure keeps the file */
}

int store_large_renew(struct store *st, uint64_t id, struct store_stage *g, struct err *err)
{
    char piece[16384];
    uint64_t size = 0;
    if (!row_is_there(st, id, &size))
        return STORE_OK; /* its owner has removed it meanwhile */
    bool same = size == store_stage_size(g); /* else its account has another name by now: from what is in the file */
    int fd = store_large_open(st, id, O_RDWR | (same ? O_CREAT : 0), err), code = fd < 0 ? -1 : 0;
    for (uint64_t at = 0; !code && at < size;) {
        ptrdiff_t n = same ? store_stage_read(g, at, piece, sizeof piece) : pread(fd, piece, sizeof piece, (off_t)at);
        if (n <= 0 || pwrite(fd, piece, (size_t)n, (off_t)at) != n)
            code = err_errno(err, "content %llu", (unsigned long long)id);
        at += (uint64_t)(n > 0 ? n : 0);
    }
    if (!code)
        code = store_large_sync(st, id, fd, err);
    if (fd >= 0)
        close(fd);
    return code ? STORE_FAILED : STORE_OK;
}

void store_large_unlink(struct store *st, uint64_t id)
{
    char path[64];
    large_path(path, id);
    if (unlinkat(st->dir_fd, path, 0) && errno != ENOENT) {
        struct err why;
        err_errno(&why, "%s", path);
        st->orphan = true;
        LOGW("a content stays behind", KVT("why", why.text));
    }
}

/* ---- settling ---- */

static void settle_dir(struct store *st, DIR *d)
{
    const struct dirent *e;
    while ((e = readdir(d))) {
        uint64_t id;
        if (!span_u64(span_of(e->d_name), INT64_MAX, &id) || row_is_there(st, id, NULL))
            continue;
        if (unlinkat(dirfd(d), e->d_name, 0) == 0)
            LOGI("unreferenced content removed", KVU("content", id), KVT("dir", st->dir));
    }
}

static void settle_files(struct store *st)
{
    for (unsigned nn = 0; nn < 256; nn++) {
        char dir[16];
        large_dir(dir, nn);
        int fd = open_beneath(st, dir, O_RDONLY | O_DIRECTORY);
        DIR *d = fd < 0 ? NULL : fdopendir(fd);
        if (d) {
            settle_dir(st, d);
            closedir(d);
        } else if (fd >= 0) {
            close(fd);
        }
    }
}

static bool file_is_whole(struct store *st, uint64_t id, uint64_t size)
{
    char path[64];
    struct stat sb;
    large_path(path, id);
    return fstatat(st->dir_fd, path, &sb, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(sb.st_mode) &&
           (uint64_t)sb.st_size == size;
}

/* Large rows whose file is missing or short. They are in no one's hands: no session runs yet. */
static int lost_contents(struct store *st, struct buf *ids, struct err *err)
{
    struct db_stmt *s = db_stmt(st->db, "SELECT id, size FROM content WHERE large");
    int got;
    while ((got = db_step(s, err)) > 0) {
        uint64_t id = (uint64_t)db_i64(s, 0);
        if (!file_is_whole(st, id, (uint64_t)db_i64(s, 1)))
            buf_add(ids, span_make(&id, sizeof(id)));
    }
    return got < 0 ? store_failed(st) : STORE_OK;
}

static int remove_lost(struct store *st, uint64_t id, struct err *err)
{
    struct {
        uint64_t mailbox;
        struct store_row row;
    } at;
    struct db_stmt *find = db_stmt(st->db, "SELECT mailbox, uid, flags, size FROM message WHERE content = ? LIMIT 1");
    for (;;) {
        db_bind_i64(find, 1, (int64_t)id);
        int got = db_step(find, err);
        if (got < 0)
            return store_failed(st);
        if (got == 0)
            break;
        at.mailbox = (uint64_t)db_i64(find, 0);
        at.row = (struct store_row){.uid = (uint32_t)db_i64(find, 1),
                                    .flags = (uint32_t)db_i64(find, 2),
                                    .size = (uint64_t)db_i64(find, 3),
                                    .content = id};
        db_reset(find);
        int code = store_remove_rows(st, at.mailbox, &at.row, 1, true, err);
        if (code)
            return code;
        LOGW("content lost in a power failure, the message is removed", KVU("content", id), KVU("mailbox", at.mailbox),
             KVU("uid", at.row.uid), KVT("dir", st->dir));
    }
    struct db_stmt *row = db_stmt(st->db, "DELETE FROM content WHERE id = ?");
    db_bind_i64(row, 1, (int64_t)id);
    struct db_stmt *key = db_stmt(st->db, "DELETE FROM delivery WHERE content = ?");
    db_bind_i64(key, 1, (int64_t)id);
    return db_run(row, err) || db_run(key, err) ? store_failed(st) : STORE_OK;
}

static int settle_rows(struct store *st, struct err *err)
{
    struct buf ids = {0};
    int code = lost_contents(st, &ids, err);
    if (!code && ids.n && !(code = store_begin(st, err))) {
        for (size_t i = 0; !code && i < ids.n / sizeof(uint64_t); i++) {
            uint64_t id;
            memcpy(&id, ids.p + i * sizeof(id), sizeof(id));
            code = remove_lost(st, id, err);
        }
        code = store_end(st, code, err);
    }
    buf_free(&ids);
    return code;
}

int store_settle(struct store *st, bool check_rows, struct err *err)
{
    st->marked = faccessat(st->dir_fd, MARKER, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    if (!st->marked && !check_rows)
        return STORE_OK;
    int code = check_rows ? settle_rows(st, err) : STORE_OK;
    if (code)
        return code;
    settle_files(st);
    store_settled(st);
    return STORE_OK;
}
