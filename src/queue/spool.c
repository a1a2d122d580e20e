/* Spool files: contents that are too large for the database, each under its queue id. What is settled here, and when:
 * doc/queue-states.md. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/log.h"
#include "queue/copy.h"
#include "queue/impl.h"

int queue_spool_init(struct queue *q, struct err *err)
{
    q->dir_fd = open(q->dir, O_DIRECTORY | O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (q->dir_fd < 0)
        return err_errno(err, "%s", q->dir);
    if (mkdirat(q->dir_fd, "spool", 0700) == 0)
        fsync(q->dir_fd);
    else if (errno != EEXIST)
        return err_errno(err, "%s/spool", q->dir);
    q->spool_fd = openat(q->dir_fd, "spool", O_DIRECTORY | O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    return q->spool_fd < 0 ? err_errno(err, "%s/spool", q->dir) : 0;
}

/* ---- what was there before the start ---- */

static void settle_copy(struct queue *q)
{
    if (unlinkat(q->dir_fd, COPY_NAME, 0) == 0)
        LOGI("queue-copy-removed", KVT("file", COPY_NAME));
    else if (errno != ENOENT)
        LOGW("queue-copy-stays", KVT("file", COPY_NAME), KVT("why", strerror(errno)));
}

int queue_spool_begin(struct queue *q, struct err *err)
{
    settle_copy(q);
    int fd = openat(q->spool_fd, ".", O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    q->old = (struct old_spool){.left = true, .files = fd < 0 ? NULL : fdopendir(fd)};
    if (q->old.files)
        return 0;
    err_errno(err, "%s/spool", q->dir);
    if (fd >= 0)
        close(fd);
    return -1;
}

void queue_spool_end(struct queue *q)
{
    if (q->old.files)
        closedir(q->old.files);
    q->old = (struct old_spool){0};
}

static int settle_name(struct queue *q, const char *name, uint64_t below, struct err *err)
{
    uint64_t id;
    bool there;
    if (name[0] == '.')
        return 0;
    if (!qid_parse(span_of(name), &id)) {
        LOGW("spool-stranger", KVT("file", name));
        return 0;
    }
    if (id >= below) /* somebody is writing it, maybe */
        return 0;
    if (sql_has_message(&q->sql, id, &there, err))
        return -1;
    if (!there) {
        LOGI("spool-orphan-removed", KVT("qid", name));
        queue_spool_remove(q, id);
    }
    return 0;
}

static int settle_files(struct queue *q, uint64_t below, size_t *most, struct err *err)
{
    for (; *most; --*most) {
        const struct dirent *e = readdir(q->old.files);
        if (!e) {
            closedir(q->old.files);
            q->old.files = NULL;
            return 0;
        }
        if (settle_name(q, e->d_name, below, err))
            return -1;
    }
    return 0;
}

static void look_at_file(void *ctx, uint64_t id)
{
    struct queue *q = ctx;
    q->old.row = id;
    if (faccessat(q->spool_fd, qid_text(id).text, F_OK, 0))
        LOGE("spool-file-missing", KVT("qid", qid_text(id).text), KVT("why", strerror(errno)));
}

int queue_spool_settle(struct queue *q, uint64_t below, size_t most, struct err *err)
{
    if (q->old.files && settle_files(q, below, &most, err))
        return -1;
    if (q->old.files)
        return 0;
    int got = sql_some_spooled(&q->sql, q->old.row, below, most, look_at_file, q, err);
    q->old.left = got < 0 || (size_t)got == most;
    return got < 0 ? -1 : 0;
}

/* ---- files ---- */

bool queue_spool_verify(struct queue *q, uint64_t id, uint64_t size)
{
    struct stat st;
    return fstatat(q->spool_fd, qid_text(id).text, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
           (uint64_t)st.st_size == size;
}

int queue_spool_create(struct queue *q, uint64_t id, struct err *err)
{
    int fd = openat(q->spool_fd, qid_text(id).text, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0600);
    return fd < 0 ? err_errno(err, "spool/%s", qid_text(id).text) : fd;
}

int queue_spool_open(struct queue *q, uint64_t id)
{
    return openat(q->spool_fd, qid_text(id).text, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
}

void queue_spool_remove(struct queue *q, uint64_t id)
{
    if (unlinkat(q->spool_fd, qid_text(id).text, 0) && errno != ENOENT)
        LOGW("spool-file-stays", KVT("qid", qid_text(id).text), KVT("why", strerror(errno)));
}

int queue_room(struct queue *q, uint64_t *bytes, uint64_t *files)
{
    struct statvfs v;
    if (fstatvfs(q->dir_fd, &v))
        return -1;
    *bytes = (uint64_t)v.f_bavail * v.f_frsize;
    *files = v.f_files == 0 ? UINT64_MAX : v.f_favail; /* some file systems count no files */
    return 0;
}
