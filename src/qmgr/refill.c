/* From the database into the active set: what is due and not in memory. Keys first, in chunks along the index on
 * `next`, on a pool thread; those that are in memory already are left out here; then the rows of the others. A row
 * whose recipient left memory meanwhile is not taken: the snapshot may be older than its end. */
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "qmgr/qmgr.h"

#define CHUNK 2000
#define FAILED_AGAIN_MS 5000

struct taken {
    struct queue_due key;
    struct queue_message message;
    struct queue_recipient recipient;
    bool there;
};

struct refill {
    struct qmgr *q;
    struct timer *timer;
    int64_t at; /* when the timer will fire, wall; 0: not set */
    bool running, again;
    struct idmap gone; /* recipients that left memory while it runs */
    /* of the run under way: */
    struct queue_due after, keys[CHUNK];
    size_t count;
    int64_t now, coming;
    struct taken *taken;
    size_t taken_count;
    struct arena arena;
    bool failed;
    struct err err;
};

static void keys_start(struct refill *f);

static size_t room(const struct qmgr *q)
{
    size_t all = active_free_room(q);
    size_t soon = q->expanding < EXPANDING_MAX ? EXPANDING_MAX - q->expanding : 0;
    return MIN_OF(all, soon); /* a backlog of one destination is sent back before all room is taken */
}

static void finish(struct refill *f)
{
    bool outdated = f->gone.count > 0; /* it may have read what was gone, and nothing else */
    f->running = false;
    idmap_free(&f->gone);
    if (f->failed) {
        LOGE("queue-read", KVT("why", f->err.text));
        refill_at(f->q, qmgr_wall(f->q) + FAILED_AGAIN_MS);
    } else if (f->coming) {
        refill_at(f->q, f->coming);
    }
    if (f->again)
        refill_soon(f->q);
    else if (outdated && !f->failed)
        refill_rest(f->q);
    qmgr_quiet(f->q);
}

/* ---- rows ---- */

static void rows_run(void *ctx)
{
    struct refill *f = ctx;
    uint64_t last = 0;
    struct queue_message m;
    for (size_t i = 0; i < f->taken_count && !f->failed; i++) {
        struct taken *t = &f->taken[i];
        int got = 0;
        if (t->key.message != last)
            got = queue_read_message(f->q->refill_reader, t->key.message, false, &f->arena, &m, &f->err);
        if (got == 0) {
            last = t->key.message;
            t->message = m;
            got = queue_read_recipient(f->q->refill_reader, t->key.message, t->key.recipient, &f->arena, &t->recipient,
                                       &f->err);
        } else {
            last = 0;
        }
        f->failed = got < 0;
        t->there = got == 0;
    }
}

static void take(struct qmgr *q, const struct taken *t)
{
    struct message *m = idmap_get(&q->messages, t->key.message);
    bool fresh = !m;
    if (fresh)
        m = message_from_row(q, &t->message);
    activate(q, rcpt_from_row(m, &t->recipient));
    if (fresh)
        message_unref(m);
}

static bool still_due(const struct refill *f, const struct taken *t)
{
    const struct queue_recipient *r = &t->recipient;
    return t->there && (r->state == QUEUE_WAITING || r->state == QUEUE_PARKED || r->state == QUEUE_PICKUP) && r->next && r->next <= f->now &&
           !idmap_get(&f->q->rcpts, r->id) && !idmap_get(&f->gone, r->id);
}

/* RFC6710:5.2: who is asked about first is answered first, and may start at once; among equals in the index's order. */
static int by_priority(const void *a, const void *b)
{
    const struct taken *x = a, *y = b;
    if (x->message.priority != y->message.priority)
        return x->message.priority > y->message.priority ? -1 : 1;
    if (x->key.next != y->key.next)
        return x->key.next < y->key.next ? -1 : 1;
    if (x->key.message != y->key.message)
        return x->key.message < y->key.message ? -1 : 1;
    return x->key.recipient < y->key.recipient ? -1 : 1;
}

static void rows_done(void *ctx)
{
    struct refill *f = ctx;
    bool more = f->count == CHUNK;
    qsort(f->taken, f->taken_count, sizeof *f->taken, by_priority);
    for (size_t i = 0; i < f->taken_count; i++)
        if (still_due(f, &f->taken[i]))
            take(f->q, &f->taken[i]);
    mem_free(&f->taken);
    arena_free(&f->arena);
    if (more && !f->failed && !f->q->draining && room(f->q)) {
        keys_start(f);
        return;
    }
    if (more)
        f->q->backlog = true;
    finish(f);
}

/* ---- keys ---- */

static void keys_run(void *ctx)
{
    struct refill *f = ctx;
    f->failed =
        queue_read_due(f->q->refill_reader, &f->after, f->now, f->keys, CHUNK, &f->count, &f->coming, &f->err) != 0;
}

static void keys_done(void *ctx)
{
    struct refill *f = ctx;
    struct qmgr *q = f->q;
    size_t space = room(q);
    if (f->failed) {
        finish(f);
        return;
    }
    f->taken = mem_array(f->count, sizeof *f->taken);
    f->taken_count = 0;
    for (size_t i = 0; i < f->count; i++) {
        f->after = f->keys[i];
        if (idmap_get(&q->rcpts, f->keys[i].recipient) || idmap_get(&f->gone, f->keys[i].recipient))
            continue;
        if (f->taken_count == space) {
            q->backlog = true;
            break;
        }
        f->taken[f->taken_count++].key = f->keys[i];
    }
    loop_work(q->loop, rows_run, rows_done, f);
}

static void keys_start(struct refill *f)
{
    f->coming = 0;
    f->taken_count = 0;
    loop_work(f->q->loop, keys_run, keys_done, f);
}

/* ---- from outside of this file ---- */

void refill_soon(struct qmgr *q)
{
    struct refill *f = q->refill;
    if (f->running) {
        f->again = true;
        return;
    }
    if (!active_room(q))
        q->backlog = true;
    if (q->draining || !active_room(q))
        return;
    f->running = true;
    f->again = false;
    f->failed = false;
    q->backlog = false;
    f->now = qmgr_wall(q);
    f->after = (struct queue_due){0};
    keys_start(f);
}

/* Nobody has to leave memory before, so nobody else would start it. */
void refill_rest(struct qmgr *q)
{
    if (q->backlog && q->picked.count == 0 && room(q))
        refill_soon(q);
}

static void on_timer(void *ctx)
{
    struct qmgr *q = ctx;
    q->refill->at = 0;
    refill_soon(q);
}

void refill_at(struct qmgr *q, int64_t wall)
{
    struct refill *f = q->refill;
    if (f->at && f->at <= wall)
        return;
    f->at = wall;
    timer_start(f->timer, wall - qmgr_wall(q));
}

bool refill_running(const struct qmgr *q)
{
    return q->refill->running;
}

void refill_note_gone(struct qmgr *q, uint64_t rcpt)
{
    if (q->refill->running)
        idmap_put(&q->refill->gone, rcpt, q);
}

void refill_init(struct qmgr *q)
{
    q->refill = mem_alloc(sizeof *q->refill);
    q->refill->q = q;
    q->refill->timer = timer_new(q->loop, on_timer, q);
}

void refill_free(struct qmgr *q)
{
    timer_free(&q->refill->timer);
    idmap_free(&q->refill->gone);
    mem_free(&q->refill->taken);
    arena_free(&q->refill->arena);
    mem_free(&q->refill);
}
