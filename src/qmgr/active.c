/* The active set: messages and recipients in memory. At most max-active recipients; what has no room waits in the
 * database until the refill reads it. A message, its recipients and their attempts share one arena and go together. */
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "qmgr/qmgr.h"

static const struct sm_state states[] = {
    [RCPT_PICKED] = {"picked", SM_TO(RCPT_EXPANDING) | SM_TO(RCPT_SETTLING)},
    [RCPT_EXPANDING] = {"expanding", SM_TO(RCPT_PICKED) | SM_TO(RCPT_QUEUED) | SM_TO(RCPT_SETTLING)},
    [RCPT_QUEUED] = {"queued", SM_TO(RCPT_STORED) | SM_TO(RCPT_SETTLING)},
    [RCPT_STORED] = {"stored", SM_TO(RCPT_SETTLING) | SM_TO(RCPT_QUEUED)},
    [RCPT_SETTLING] = {"settling", SM_TO(RCPT_GONE)},
    [RCPT_GONE] = {"gone", 0},
};

void rcpt_move(struct rcpt *r, enum rcpt_state next)
{
    struct qmgr *q = r->msg->q;
    bool before = r->state <= RCPT_EXPANDING, after = next <= RCPT_EXPANDING, picked = r->state == RCPT_PICKED;
    turns_remove(&q->picked, &r->turn);
    q->asked -= r->state == RCPT_EXPANDING;
    q->asked += next == RCPT_EXPANDING;
    if (r->state == RCPT_EXPANDING && q->picked.count)
        pump_soon(q);
    sm_move(states, COUNT_OF(states), &r->state, next);
    if (before && !after && q->expanding-- == EXPANDING_MAX / 2 && q->backlog && !q->draining)
        refill_soon(q);
    if (picked && q->picked.count == 0)
        refill_rest(q);
}

/* ---- messages ---- */

struct message *message_new(struct qmgr *q, uint64_t id)
{
    struct message *m = mem_alloc(sizeof *m);
    m->q = q;
    m->m.id = id;
    m->refs = 1;
    m->fd = -1;
    list_init(&m->open_jobs);
    list_init(&m->finished);
    list_init(&m->settle);
    list_init(&m->loads);
    list_init(&m->load);
    return m;
}

void message_drop_content(struct message *m)
{
    if (!m->content)
        return;
    m->q->content_bytes -= m->content_n;
    mem_free(&m->content);
    m->content_n = 0;
    m->m.prefix = m->m.body = SPAN_NONE;
}

void message_keep_content(struct message *m, struct span prefix, struct span body)
{
    message_drop_content(m);
    m->content_n = prefix.n + body.n;
    m->content = mem_resize(NULL, m->content_n ? m->content_n : 1);
    memcpy(m->content, prefix.p ? prefix.p : "", prefix.n);
    memcpy(m->content + prefix.n, body.p ? body.p : "", body.n);
    m->m.prefix = span_make(m->content, prefix.n);
    m->m.body = span_make(m->content + prefix.n, body.n);
    m->q->content_bytes += m->content_n;
}

void message_ref(struct message *m)
{
    m->refs++;
}

static void message_free(struct message *m)
{
    if (m->m.id && idmap_get(&m->q->messages, m->m.id) == m)
        idmap_del(&m->q->messages, m->m.id);
    message_drop_content(m);
    if (m->fd >= 0)
        close(m->fd);
    list_del(&m->settle);
    list_del(&m->load);
    arena_free(&m->arena);
    mem_free(&m);
}

void message_unref(struct message *m)
{
    if (--m->refs == 0)
        message_free(m);
}

struct message *message_from_row(struct qmgr *q, const struct queue_message *row)
{
    struct message *m = message_new(q, row->id);
    m->m = *row;
    m->m.prefix = m->m.body = SPAN_NONE;
    queue_keep_message(&m->m, &m->arena);
    return m;
}

/* ---- recipients ---- */

struct rcpt *rcpt_new(struct message *m)
{
    struct rcpt *r = arena_alloc(&m->arena, sizeof *r);
    r->msg = m;
    list_init(&r->link);
    return r;
}

struct rcpt *rcpt_from_row(struct message *m, const struct queue_recipient *row)
{
    struct rcpt *r = rcpt_new(m);
    r->r = *row;
    r->r.destination = r->r.domain = SPAN_NONE; /* it is taken up */
    queue_unpark(&r->r);                        /* looked at anew */
    queue_keep_recipient(&r->r, &m->arena);
    return r;
}

bool active_room(const struct qmgr *q)
{
    return q->rcpts.count < q->conf->queue.max_active;
}

size_t active_free_room(const struct qmgr *q)
{
    size_t max = q->conf->queue.max_active / 4 * 3;
    return max > q->rcpts.count ? max - q->rcpts.count : 0;
}

static uint64_t domain_key(const struct rcpt *r)
{
    return work_key(span_from(r->r.address, (size_t)(span_rfind(r->r.address, '@') + 1)));
}

/* A domain's mail of one sender may have as much as it leaves free; the last quarter is for those who have none there. */
static bool fits(const struct qmgr *q, const struct rcpt *r)
{
    size_t line = turns_waiting(&q->picked, domain_key(r), work_sender(r));
    return active_room(q) && (line == 0 || line < active_free_room(q));
}

void rcpt_pick(struct rcpt *r)
{
    turns_add(&r->msg->q->picked, &r->turn, domain_key(r), work_sender(r));
    pump_soon(r->msg->q);
}

void activate(struct qmgr *q, struct rcpt *r)
{
    struct message *m = r->msg;
    /* A refill that ran while its row was being committed has read it before the writer's word came. */
    if (idmap_get(&q->rcpts, r->r.id))
        return;
    if (!fits(q, r) || q->draining || m->expanding >= EXPANDING_MAX) {
        q->backlog = true; /* its row is due */
        return;
    }
    if (idmap_get(&q->messages, m->m.id) != m)
        idmap_put(&q->messages, m->m.id, m);
    idmap_put(&q->rcpts, r->r.id, r);
    r->state = RCPT_PICKED;
    m->refs++;
    m->expanding++;
    q->expanding++;
    rcpt_pick(r);
    if (q->content_bytes > CONTENT_BYTES_MAX)
        message_drop_content(m);
}

void rcpt_gone(struct rcpt *r)
{
    struct qmgr *q = r->msg->q;
    rcpt_move(r, RCPT_GONE);
    idmap_del(&q->rcpts, r->r.id);
    if (r->pull)
        pull_left(q, r->pull);
    refill_note_gone(q, r->r.id);
    operator_note_gone(q, r->r.id);
    message_unref(r->msg);
    if (q->backlog && !q->draining && active_free_room(q))
        refill_soon(q);
}

/* ---- the end ---- */

static void forget_asks(struct qmgr *q)
{
    uint64_t key;
    void *v;
    for (size_t at = 0; idmap_next(&q->rcpts, &at, &key, &v);) {
        struct rcpt *r = v;
        if (r->ask)
            expand_forget(r);
    }
}

void active_free(struct qmgr *q)
{
    uint64_t key;
    void *v;
    forget_asks(q);
    turns_free(&q->picked);
    for (size_t at = 0; idmap_next(&q->messages, &at, &key, &v); at = 0)
        message_free(v);
    idmap_free(&q->messages);
    idmap_free(&q->rcpts);
}
