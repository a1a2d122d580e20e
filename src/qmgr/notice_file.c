/* Notices that no frame holds: those of many recipients, or with a large message that comes back whole (RET=FULL). Their content is a
 * spool file, as that of any large message, written and synced before the transaction that makes its row. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "qmgr/qmgr.h"

struct writing {
    struct link link; /* in qmgr.notices */
    struct qmgr *q;
    struct message *notice;
    notice_spooled_fn *done;
    void *ctx;
    bool good;
    struct err err;
};

bool notice_is_large(const struct message *notice)
{
    return !notice->m.spooled && notice->content_n > IPC_INLINE_MAX;
}

static int write_all(int fd, struct span content)
{
    while (content.n) {
        ssize_t n = write(fd, content.p, content.n);
        if (n < 0 && errno != EINTR)
            return -1;
        content = span_from(content, n > 0 ? (size_t)n : 0);
    }
    return fsync(fd);
}

static void write_run(void *ctx)
{
    struct writing *w = ctx;
    const struct message *n = w->notice;
    int fd = queue_spool_create(w->q->queue, n->m.id, &w->err);
    if (fd < 0) { /* perhaps what an earlier try left */
        queue_spool_remove(w->q->queue, n->m.id);
        fd = queue_spool_create(w->q->queue, n->m.id, &w->err);
    }
    if (fd < 0)
        return;
    w->good = write_all(fd, span_make(n->content, n->content_n)) == 0;
    if (!w->good)
        err_errno(&w->err, "spool");
    close(fd);
    if (!w->good)
        queue_spool_remove(w->q->queue, n->m.id);
}

static void write_next(struct qmgr *q);

static void write_done(void *ctx)
{
    struct writing *w = ctx;
    struct message *n = w->notice;
    struct qid_text qid = msg_qid(n);
    struct qmgr *q = w->q;
    list_del(&w->link);
    if (--q->spooling)
        write_next(q);
    if (w->good) {
        n->m.spooled = true;
        message_drop_content(n);
    } else {
        LOGE("spool-write", KVT("qid", qid.text), KVT("why", w->err.text));
    }
    w->done(w->ctx, w->good);
    mem_free(&w);
    content_load_next(q);
}

/* One at a time, in their order: they are few, and of those that a sender gets the first one comes first. */
static void write_next(struct qmgr *q)
{
    loop_work(q->loop, write_run, write_done, container_of(q->notices.next, struct writing, link));
}

void notice_spool(struct message *notice, notice_spooled_fn *done, void *ctx)
{
    struct writing *w = mem_alloc(sizeof *w);
    *w = (struct writing){.q = notice->q, .notice = notice, .done = done, .ctx = ctx};
    list_add_tail(&notice->q->notices, &w->link);
    if (notice->q->spooling++ == 0)
        write_next(notice->q);
}
