/* The content of a message for an attempt or a notification: in memory since it came, or read again, or its spool
 * file's descriptor. */
#include <errno.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "qmgr/qmgr.h"

#define SPOOLING_MAX 2 /* notices being written, with which no further content is read */

/* One reading at a time, on a pool thread. */
struct load {
    struct qmgr *q;
    struct message *msg;
    struct arena arena;
    struct queue_message row;
    uint64_t id;
    bool spooled;
    size_t bytes; /* of a spooled one */
    struct span front;
    int result; /* 0 read, 1 there is none, -1 failed */
    struct err err;
};

static void read_front(struct load *l)
{
    int fd = queue_spool_open(l->q->queue, l->id);
    char *p = arena_alloc(&l->arena, l->bytes);
    ssize_t n = fd < 0 ? -1 : pread(fd, p, l->bytes, 0);
    l->result = n == (ssize_t)l->bytes ? 0 : fd < 0 && errno != ENOENT ? -1 : 1;
    if (l->result < 0)
        err_errno(&l->err, "spool");
    l->front = span_make(p, l->bytes);
    if (fd >= 0)
        close(fd);
}

static void load_run(void *ctx)
{
    struct load *l = ctx;
    if (l->spooled)
        read_front(l);
    else
        l->result = queue_read_message(l->q->content_reader, l->id, true, &l->arena, &l->row, &l->err);
}

static void start_again(struct message *m)
{
    struct link jobs = LIST_INIT(jobs);
    while (!list_empty(&m->loads)) {
        struct link *l = m->loads.next;
        list_del(l);
        list_add_tail(&jobs, l);
    }
    while (!list_empty(&jobs)) {
        struct job *j = container_of(jobs.next, struct job, link);
        list_del(&j->link);
        if (m->q->draining)
            continue; /* its row is due at the next start */
        if (j->class == SCHED_LOCAL)
            local_start(j);
        else
            remote_start(j);
    }
    settle_again(m);
}

static void load_done(void *ctx)
{
    struct load *l = ctx;
    struct message *m = l->msg;
    struct qmgr *q = l->q;
    struct qid_text qid = msg_qid(m);
    m->loading = false;
    if (l->result == 0 && l->spooled)
        message_keep_content(m, l->front, SPAN(""));
    else if (l->result == 0)
        message_keep_content(m, l->row.prefix, l->row.body);
    else
        LOGE("content-not-read", KVT("qid", qid.text), KVT("why", l->result < 0 ? l->err.text : "it is gone"));
    m->lost = l->result > 0;
    m->unreadable = l->result < 0;
    arena_free(&l->arena);
    mem_free(&l);
    q->load_running = false;
    start_again(m);
    message_unref(m);
    content_load_next(q);
    qmgr_quiet(q);
}

void content_load_next(struct qmgr *q)
{
    if (q->load_running || q->spooling >= SPOOLING_MAX || list_empty(&q->loads))
        return;
    struct message *m = container_of(q->loads.next, struct message, load);
    list_del(&m->load);
    struct load *l = mem_alloc(sizeof *l);
    *l = (struct load){.q = q,
                       .msg = m,
                       .id = m->m.id,
                       .spooled = m->m.spooled,
                       .bytes = m->load_bytes};
    q->load_running = true;
    loop_work(q->loop, load_run, load_done, l);
}

void content_load(struct message *m, uint64_t bytes)
{
    if (m->loading)
        return;
    m->loading = true;
    m->load_bytes = (size_t)bytes;
    message_ref(m);
    list_add_tail(&m->q->loads, &m->load);
    content_load_next(m->q);
}

enum content content_ready(struct job *j)
{
    struct message *m = j->msg;
    if (m->m.spooled) {
        if (m->fd < 0)
            m->fd = queue_spool_open(m->q->queue, m->m.id);
        if (m->fd >= 0) {
            m->fd_users++;
            return CONTENT_READY;
        }
        return errno == ENOENT ? CONTENT_LOST : CONTENT_UNREADABLE;
    }
    if (m->content)
        return CONTENT_READY;
    if (m->lost)
        return CONTENT_LOST;
    if (m->unreadable) {
        m->unreadable = false; /* the next attempt tries again */
        return CONTENT_UNREADABLE;
    }
    list_add_tail(&m->loads, &j->link);
    content_load(m, m->m.size);
    return CONTENT_COMING;
}

void content_done(struct message *m)
{
    if (m->m.spooled && --m->fd_users == 0) {
        close(m->fd);
        m->fd = -1;
    }
    if (!m->m.spooled && m->q->content_bytes > CONTENT_BYTES_MAX)
        message_drop_content(m);
}

bool content_is_here(const struct message *m, uint64_t bytes)
{
    return (m->content && m->content_n >= bytes) || m->lost || m->unreadable;
}

/* The content can't be had: for good, or for now. */
void content_trouble(struct job *j, enum content c)
{
    struct outcome o = c == CONTENT_LOST
                           ? outcome_make(OUTCOME_FAILED, 0, 3, 0, "the message's content was lost on this server")
                           : outcome_make(OUTCOME_RETRY, 0, 3, 0, "the message's content can't be read just now");
    for (struct rcpt *r = j->rcpts, *next; r; r = next) {
        next = r->job_next;
        r->job = NULL;
        settle_outcome(r, VERDICT_NONE, &o, SPAN_NONE);
    }
    job_end(j, SCHED_ENDED);
}
