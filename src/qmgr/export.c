/* `waypost queue export`: the queue page by page into a file (queue/qfile.h). Each page is read with a snapshot of its own, so
 * that a long export holds nothing up.
 *
 * With --move each page is held first, and what is written is what is held then, in the state that it had before; what is
 * being attempted at that moment comes at the end, when its attempt has ended. When the file is synced it is read back, and
 * what is found whole in it is removed from the queue. So at each moment, a crash too, a recipient is in the queue, in the
 * file, or in both, and is attempted by nobody while it is in both. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "qmgr/carry.h"
#include "qmgr/operator.h"
#include "queue/qfile.h"

#define EXPORT_TIME_MS (24 * INT64_C(3600000))
#define PAGE 200
#define LOOK_MAX 5000
#define WRITE_AT (512u << 10)
#define LEFT_MS 60000 /* for attempts that are under way, where --wait says nothing */
#define LEFT_LOOK_MS 100

/* What is to be written of a recipient: its row now, in the state that it had. */
struct left {
    uint64_t message, recipient;
    uint32_t attempts;
    uint8_t state;
    int64_t next;
};

struct export {
    struct queue *queue;
    int fd;
    struct queue_filter filter;
    struct arena arena; /* of the filter */
    bool move, all;
    int64_t wait; /* with move, for attempts that are under way */
    int64_t by;
    char host[256];
    int64_t made;
    /* the thread's */
    struct question *k;
    struct queue_reader *reader;
    struct qfile_writer *writer;
    struct buf out;
    struct arena page, one;
    struct left *left; /* in memory when they were to be held */
    size_t left_count, left_cap;
    uint64_t total, messages, recipients, lost, removed, stay;
    unsigned failed;
};

/* ---- one message ---- */

static int flush(struct export *x, size_t above, struct err *err)
{
    if (x->out.n <= above)
        return 0;
    int rc = carry_write(x->k, x->fd, buf_span(&x->out), err);
    buf_clear(&x->out);
    return rc;
}

static int put_file(struct export *x, int fd, uint64_t size, struct err *err)
{
    char part[QFILE_CHUNK];
    for (uint64_t at = 0; at < size;) {
        ssize_t n = read(fd, part, sizeof part);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0 || (uint64_t)n > size - at)
            return n < 0 ? err_errno(err, "a spool file") : err_set(err, "a spool file has changed meanwhile");
        qfile_content(x->writer, span_make(part, (size_t)n), &x->out);
        at += (uint64_t)n;
        if (flush(x, WRITE_AT, err))
            return -1;
    }
    return 0;
}

/* The recipients that were picked, with the expanded aliases that they come from, in the order of their ids. */
static int with_parents(struct export *x, uint64_t message, const struct queue_recipient *rows, size_t n,
                        struct queue_recipient **out, size_t *count, struct err *err)
{
    struct queue_recipient *all = mem_array(n + n * DEPTH_MAX, sizeof *all);
    size_t have = 0;
    for (size_t i = 0; i < n; i++) {
        all[have++] = rows[i];
        uint64_t parent = rows[i].parent;
        for (unsigned depth = 0; parent && depth < DEPTH_MAX; depth++) {
            bool there = false;
            for (size_t j = 0; j < have && !there; j++)
                there = all[j].id == parent;
            int got = there ? 1 : queue_read_recipient(x->reader, message, parent, &x->one, &all[have], err);
            if (got < 0) {
                mem_free(&all);
                return -1;
            }
            if (got)
                break;
            parent = all[have++].parent;
        }
    }
    for (size_t i = 1; i < have; i++) /* nearly in order already */
        for (size_t j = i; j && all[j - 1].id > all[j].id; j--) {
            struct queue_recipient swap = all[j];
            all[j] = all[j - 1];
            all[j - 1] = swap;
        }
    *out = all;
    *count = have;
    return 0;
}

static void drop_orphans(struct queue_recipient *all, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        bool there = all[i].parent == 0;
        for (size_t j = 0; j < i && !there; j++)
            there = all[j].id == all[i].parent && all[j].state == QUEUE_EXPANDED;
        if (!there)
            all[i].parent = 0;
    }
}

static int put_message(struct export *x, uint64_t id, const struct queue_recipient *rows, size_t n, struct err *err)
{
    struct queue_message m;
    struct queue_recipient *all;
    size_t count;
    int fd = -1, rc = 0;
    int got = queue_read_message(x->reader, id, true, &x->one, &m, err);
    if (got == 0 && m.spooled) {
        struct stat st;
        fd = queue_spool_open(x->queue, id);
        got = fd < 0 || fstat(fd, &st) || (uint64_t)st.st_size != m.size;
    }
    if (got > 0) { /* its content is lost, or it has left the queue meanwhile */
        if (fd >= 0)
            close(fd);
        got = queue_read_message(x->reader, id, false, &x->one, &m, err);
        x->lost += got == 0;
    } else if (got == 0 && (rc = with_parents(x, id, rows, n, &all, &count, err)) == 0) {
        drop_orphans(all, count);
        if (!m.spooled)
            m.size = m.prefix.n + m.body.n;
        qfile_message(x->writer, &m, (uint32_t)m.prefix.n, &x->out);
        for (size_t i = 0; i < count; i++)
            qfile_recipient(x->writer, &all[i], &x->out);
        mem_free(&all);
        qfile_content(x->writer, m.prefix, &x->out);
        qfile_content(x->writer, m.body, &x->out);
        rc = fd >= 0 ? put_file(x, fd, m.size, err) : 0;
        qfile_message_end(x->writer, &x->out);
        x->messages++;
        x->recipients += n;
        if (fd >= 0)
            close(fd);
    }
    arena_reset(&x->one);
    return got < 0 || rc ? -1 : flush(x, WRITE_AT, err);
}

/* ---- --move: what is held, in the state that it had ---- */

static void keep_left(struct export *x, const struct queue_item *i)
{
    if (x->left_count == x->left_cap) {
        x->left_cap = x->left_cap ? x->left_cap * 2 : 64;
        x->left = mem_resize(x->left, x->left_cap * sizeof *x->left);
    }
    const struct queue_recipient *r = &i->recipient;
    x->left[x->left_count++] = (struct left){i->message.id, r->id, r->attempts, r->state, r->next};
}

static bool is_held(const struct queue_recipient *r)
{
    return r->state == QUEUE_HELD || r->state == QUEUE_LIMITED;
}

/* The row as it is now, with the state that it had. 0: it is held, 1: not, 2: gone, -1. */
static int held_row(struct export *x, const struct left *was, struct queue_recipient *row, struct err *err)
{
    int got = queue_read_recipient(x->reader, was->message, was->recipient, &x->page, row, err);
    if (got)
        return got < 0 ? -1 : 2;
    if (!is_held(row))
        return 1;
    row->state = was->state;
    row->next = was->state == QUEUE_HELD || was->state == QUEUE_LIMITED ? 0 : row->attempts == was->attempts ? was->next : x->made;
    return 0;
}

/* Keeps of a page what may be written. */
static int hold_page(struct export *x, struct queue_item *items, size_t *n, struct err *err)
{
    size_t kept = 0;
    if (!moving_hold(x->k, items, *n, x->by, &x->failed))
        return err_set(err, "stopped");
    for (size_t i = 0; i < *n; i++) {
        const struct queue_recipient *r = &items[i].recipient;
        struct left was = {items[i].message.id, r->id, r->attempts, r->state, r->next};
        struct queue_recipient row;
        int got = held_row(x, &was, &row, err);
        if (got < 0)
            return -1;
        if (got == 1)
            keep_left(x, &items[i]);
        if (got)
            continue;
        items[kept] = items[i];
        items[kept++].recipient = row;
    }
    *n = kept;
    return 0;
}

/* ---- pages ---- */

static size_t without_expanded(struct queue_item *items, size_t n)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (items[i].recipient.state != QUEUE_EXPANDED)
            items[kept++] = items[i];
    return kept;
}

static int put_page(struct export *x, const struct queue_item *items, size_t n, struct err *err)
{
    struct queue_recipient rows[PAGE];
    for (size_t i = 0; i < n;) {
        size_t count = 0;
        uint64_t id = items[i].message.id;
        for (; i < n && items[i].message.id == id; i++)
            rows[count++] = items[i].recipient;
        if (put_message(x, id, rows, count, err))
            return -1;
    }
    question_progress(x->k, x->recipients, x->total, "recipients");
    return 0;
}

static int put_all(struct export *x, struct err *err)
{
    struct queue_item *items = mem_array(PAGE, sizeof *items);
    struct queue_place at = {0};
    bool end = false;
    int rc = 0;
    while (rc == 0 && !end) {
        size_t n;
        rc = queue_read_page(x->reader, &x->filter, &at, LOOK_MAX, items, PAGE, &n, &end, &x->page, err);
        n = rc ? 0 : without_expanded(items, n);
        if (rc == 0 && n && x->move)
            rc = hold_page(x, items, &n, err);
        if (rc == 0 && n)
            rc = put_page(x, items, n, err);
        if (rc == 0 && question_over(x->k))
            rc = err_set(err, "stopped");
        arena_reset(&x->page);
    }
    mem_free(&items);
    return rc;
}

/* Those whose attempts were under way, as these end. */
static int put_left(struct export *x, bool last, struct err *err)
{
    size_t kept = 0;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < x->left_count; i++) {
        struct queue_recipient row;
        int got = held_row(x, &x->left[i], &row, err);
        if (got == 1)
            x->left[kept++] = x->left[i];
        rc = got < 0 ? -1 : got == 0 ? put_message(x, x->left[i].message, &row, 1, err) : 0;
        arena_reset(&x->page);
    }
    x->left_count = kept;
    x->stay = last ? kept : 0;
    return rc;
}

static int wait_for_left(struct export *x, struct err *err)
{
    int rc = 0;
    for (int64_t waited = 0; rc == 0 && x->left_count && waited < x->wait; waited += LEFT_LOOK_MS) {
        nanosleep(&(struct timespec){.tv_nsec = LEFT_LOOK_MS * 1000000L}, NULL);
        rc = question_over(x->k) ? err_set(err, "stopped") : put_left(x, false, err);
    }
    if (rc || !x->left_count)
        return rc;
    struct queue_item *items = mem_array(x->left_count, sizeof *items);
    for (size_t i = 0; i < x->left_count; i++) {
        items[i].message.id = x->left[i].message;
        items[i].message.sender = items[i].recipient.address = SPAN("");
        items[i].recipient.id = x->left[i].recipient;
    }
    bool done = moving_let_go(x->k, items, x->left_count);
    mem_free(&items);
    return done ? put_left(x, true, err) : err_set(err, "stopped");
}

/* ---- --move: what the file has goes ---- */

struct taken {
    struct queue_item items[PAGE];
    size_t n;
    struct arena arena;
};

static int remove_taken(struct export *x, struct taken *t, struct err *err)
{
    bool done = t->n == 0 || moving_remove(x->k, t->items, t->n, x->by, &x->failed);
    x->removed += t->n;
    t->n = 0;
    arena_reset(&t->arena);
    question_progress(x->k, x->removed, x->recipients, "recipients removed here");
    return done ? 0 : err_set(err, "stopped");
}

/* Rows as they are now: one that was released meanwhile stays. */
static int take_whole(struct export *x, struct taken *t, const struct qfile_reader *r, struct err *err)
{
    for (size_t i = 0; i < r->count; i++) {
        struct queue_item *to = &t->items[t->n];
        if (r->recipients[i].state == QUEUE_EXPANDED)
            continue;
        int got = queue_read_message(x->reader, r->message.id, false, &t->arena, &to->message, err);
        if (got == 0)
            got = queue_read_recipient(x->reader, r->message.id, r->recipients[i].id, &t->arena, &to->recipient, err);
        if (got < 0)
            return -1;
        if (got == 0 && is_held(&to->recipient) && ++t->n == PAGE && remove_taken(x, t, err))
            return -1;
    }
    return 0;
}

/* Reads it back from the disk, to its end, before anything goes: `remove` false, then true. */
static int read_back(struct export *x, bool removing, struct err *err)
{
    struct taken *t = mem_alloc(sizeof *t);
    char *part = mem_resize(NULL, WRITE_AT);
    struct qfile_reader r;
    enum qfile_got got = QFILE_MORE;
    ssize_t n = 1;
    int rc = lseek(x->fd, 0, SEEK_SET) < 0 ? err_errno(err, "the file can't be read back") : 0;
    qfile_reader_init(&r);
    while (rc == 0 && n > 0) {
        n = carry_read(x->k, x->fd, part, WRITE_AT, err);
        struct span in = span_make(part, n > 0 ? (size_t)n : 0);
        rc = n < 0 ? -1 : 0;
        while (rc == 0 && n > 0 && (got = qfile_next(&r, &in, err)) != QFILE_MORE) {
            if (got == QFILE_BAD)
                rc = -1;
            else if (got == QFILE_MESSAGE && removing)
                rc = take_whole(x, t, &r, err);
        }
    }
    if (rc == 0)
        rc = qfile_finish(&r, err);
    if (rc == 0)
        rc = remove_taken(x, t, err);
    qfile_reader_free(&r);
    arena_free(&t->arena);
    mem_free(&part);
    mem_free(&t);
    return rc;
}

/* ---- the command ---- */

static int export_all(struct export *x, struct err *err)
{
    if (queue_reader_open(&x->reader, question_dir(x->k), err))
        return -1;
    if (x->all && queue_count_recipients(x->reader, &x->total, err))
        return -1;
    qfile_begin(x->writer, span_of(x->host), x->made, x->total, &x->out);
    if (put_all(x, err) || (x->left_count && wait_for_left(x, err)))
        return -1;
    qfile_end(x->writer, &x->out);
    if (flush(x, 0, err))
        return -1;
    if (fsync(x->fd) && errno != EINVAL && errno != EROFS) /* a pipe has no disk */
        return err_errno(err, "the file");
    return x->move && x->recipients ? (read_back(x, false, err) || read_back(x, true, err) ? -1 : 0) : 0;
}

static void run(struct question *k, void *ctx)
{
    struct export *x = ctx;
    struct err err = {""};
    char more[200] = "";
    x->k = k;
    x->writer = qfile_writer_new();
    int rc = export_all(x, &err);
    queue_reader_close(&x->reader);
    if (x->stay)
        snprintf(more, sizeof more, "; %llu more were being attempted all the time and stay", (unsigned long long)x->stay);
    if (rc && x->move)
        question_end(k, ADMIN_FAILED, "%s; what was held for it and is not removed is in the queue, held: 'waypost queue release' lets it go, "
                                      "where the file is of no use", err.text);
    else if (rc)
        question_end(k, ADMIN_FAILED, "%s", err.text);
    else if (x->failed || x->lost)
        question_end(k, ADMIN_FAILED, "%llu recipients of %llu messages are in the file; %u changes could not be recorded, %llu messages have lost "
                                      "their content and are not in it%s",
                     (unsigned long long)x->recipients, (unsigned long long)x->messages, x->failed, (unsigned long long)x->lost, more);
    else
        question_end(k, ADMIN_DONE, "%llu recipients of %llu messages are in the file%s%s", (unsigned long long)x->recipients,
                     (unsigned long long)x->messages, x->move ? ", and here no longer" : "", more);
}

static void export_free(void *ctx)
{
    struct export *x = ctx;
    if (x->fd >= 0)
        close(x->fd);
    qfile_writer_free(&x->writer);
    buf_free(&x->out);
    arena_free(&x->page);
    arena_free(&x->one);
    arena_free(&x->arena);
    mem_free(&x->left);
    mem_free(&x);
}

static bool is_file(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR;
}

void export_command(void *ctx, struct admin_call *c, const struct span *args, size_t n)
{
    struct qmgr *q = ctx;
    struct export *x = mem_alloc(sizeof *x);
    struct span which[ADMIN_ARGS_MAX];
    size_t count = 0;
    x->fd = admin_take_fd(c);
    x->queue = q->queue;
    x->by = (int64_t)admin_uid(c) + 1;
    x->made = qmgr_wall(q);
    x->wait = LEFT_MS;
    snprintf(x->host, sizeof x->host, "%s", q->conf->hostname);
    for (size_t i = 0; i < n; i++)
        if (span_eqs(args[i], "--move"))
            x->move = true;
        else if (i + 1 < n && span_eqs(args[i], "--wait") && conf_time_of(args[i + 1], &x->wait))
            i++;
        else
            which[count++] = args[i];
    x->all = count == 0;
    const char *wrong = x->fd < 0                                                   ? "no file came with the command"
                        : operator_filter(q, which, count, &x->filter, &x->arena)    ? "not understood: FILE [--move [--wait TIME]] [WHICH...]"
                        : x->move && !is_file(x->fd)                                ? "--move needs a file: a pipe can't be synced and read back"
                                                                                    : NULL;
    if (wrong) {
        export_free(x);
        admin_end(c, ADMIN_USAGE, "%s", wrong);
        return;
    }
    struct question_work w = {.run = run, .free = export_free, .ctx = x, .time = EXPORT_TIME_MS, .most = 2};
    if (x->move)
        question_work_on(q, c, &w);
    else
        question_ask(q, c, &w);
}
