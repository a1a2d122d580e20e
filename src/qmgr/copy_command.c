/* `waypost queue export --db`: what `waypost queue sql` shows as a database for sqlite3 (queue/copy.h). It is made in the queue's
 * folder, where SQLite may write, and copied into the operator's file. */
#include <errno.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "db/guard.h"
#include "qmgr/carry.h"
#include "queue/copy.h"

#define COPY_TIME_MS (24 * INT64_C(3600000))
#define FLUSH_MS 1000
#define MEMORY_MAX (64u << 20)
#define PART (64u << 10)
#define ROOM_MS 200

struct copying {
    struct queue *queue;
    int fd;
    uint64_t min_free;
    /* the thread's */
    struct question *k;
    uint64_t total; /* recipients */
    int64_t room_looked;
};

/* Mail needs the room more: the door is closed where less is free than the setting says. */
static int look_for_room(struct copying *x, struct err *err)
{
    uint64_t bytes, files;
    int64_t now = clock_mono();
    if (now - x->room_looked < ROOM_MS)
        return 0;
    x->room_looked = now;
    if (queue_room(x->queue, &bytes, &files) || bytes / 2 >= x->min_free)
        return 0;
    return err_set(err, "the queue's disk has less free than twice what queue.min-free says");
}

static int look(void *ctx, uint64_t done, const char *unit, struct err *err)
{
    struct copying *x = ctx;
    question_progress(x->k, done, strcmp(unit, "recipients") == 0 ? x->total : 0, unit);
    return question_over(x->k) ? err_set(err, "stopped") : look_for_room(x, err);
}

static bool over(void *ctx)
{
    struct copying *x = ctx;
    return question_over(x->k);
}

static int count_recipients(struct copying *x, struct err *err)
{
    struct queue_reader *r;
    if (queue_reader_open(&r, question_dir(x->k), err))
        return -1;
    int rc = queue_count_recipients(r, &x->total, err);
    queue_reader_close(&r);
    return rc;
}

static int carry(struct copying *x, int from, struct err *err)
{
    char *part = mem_resize(NULL, PART);
    ssize_t n;
    while ((n = carry_read(x->k, from, part, PART, err)) > 0)
        if (carry_write(x->k, x->fd, span_make(part, (size_t)n), err)) {
            n = -1;
            break;
        }
    mem_free(&part);
    if (n == 0 && fsync(x->fd) && errno != EINVAL && errno != EROFS) /* a pipe has no disk */
        return err_errno(err, "the file");
    return n < 0 ? -1 : 0;
}

static int copy_all(struct copying *x, struct copy_counts *n, struct err *err)
{
    const struct copy_watch w = {over, look, x};
    if (look_for_room(x, err) || count_recipients(x, err))
        return -1;
    int fd = copy_make(question_dir(x->k), &w, n, err);
    if (fd < 0)
        return -1;
    int rc = carry(x, fd, err);
    close(fd);
    return rc;
}

static void run(struct question *k, void *ctx)
{
    struct copying *x = ctx;
    struct copy_counts n;
    struct err err = {""};
    x->k = k;
    db_memory_limit(MEMORY_MAX);
    int rc = copy_all(x, &n, &err);
    db_memory_limit(0);
    if (rc)
        question_end(k, ADMIN_FAILED, "%s", err.text);
    else if (n.unread)
        question_end(k, ADMIN_FAILED, "%u days of history could not be read: see the log for why", n.unread);
    else
        question_end(k, ADMIN_DONE, "%llu recipients of %llu messages and %llu events are in the file", (unsigned long long)n.recipients,
                     (unsigned long long)n.messages, (unsigned long long)n.events);
}

static void copying_free(void *ctx)
{
    struct copying *x = ctx;
    if (x->fd >= 0)
        close(x->fd);
    mem_free(&x);
}

void copy_command(void *ctx, struct admin_call *c, const struct span *args UNUSED, size_t n UNUSED)
{
    struct qmgr *q = ctx;
    struct copying *x = mem_alloc(sizeof *x);
    *x = (struct copying){.queue = q->queue, .fd = admin_take_fd(c), .min_free = q->conf->queue.min_free, .room_looked = -ROOM_MS};
    if (x->fd < 0) {
        copying_free(x);
        admin_end(c, ADMIN_USAGE, "no file came with the command");
        return;
    }
    question_ask(q, c, &(struct question_work){run, copying_free, x, COPY_TIME_MS, FLUSH_MS, 1}); /* COPY_NAME is one file */
}
