/* What `queue export --move` changes: rows page by page, each page of a thread that waits for it. */
#include "base/mem.h"
#include "qmgr/carry.h"
#include "qmgr/meeting.h"
#include "qmgr/operator.h"

struct page {
    struct meeting meeting; /* of the thread and the loop */
    bool done;              /* with its lock */
    unsigned pending, failed; /* the loop's */
    enum verdict verdict;     /* NONE: let go */
    int64_t by;
    size_t count;
    struct queue_item *items;
    struct arena arena;
};

static void unref(struct page *p)
{
    if (!meeting_leave(&p->meeting))
        return;
    arena_free(&p->arena);
    mem_free(&p->items);
    mem_free(&p);
}

static void finished(struct page *p)
{
    meeting_lock(&p->meeting);
    p->done = true;
    meeting_wake(&p->meeting);
    meeting_unlock(&p->meeting);
    unref(p);
}

static void on_settled(void *ctx, bool ok)
{
    struct page *p = ctx;
    p->failed += !ok;
    if (--p->pending == 0)
        finished(p);
}

static bool is_held(const struct queue_recipient *r)
{
    return r->state == QUEUE_HELD || r->state == QUEUE_LIMITED;
}

static void change_one(struct qmgr *q, struct page *p, struct queue_item *i)
{
    struct rcpt *active = idmap_get(&q->rcpts, i->recipient.id);
    struct wish w = {.verdict = p->verdict, .by = p->by};
    bool coming = false;
    if (active && p->verdict == VERDICT_NONE && active->wish.verdict == VERDICT_HELD)
        active->wish = (struct wish){0};
    if (p->verdict == VERDICT_NONE || (active && p->verdict == VERDICT_REMOVED) ||
        (p->verdict == VERDICT_HELD && is_held(&i->recipient)))
        return;
    p->pending++;
    if (!active)
        settle_item(q, i, &w, on_settled, p);
    else if (!settle_active(active, &w, on_settled, p, &coming) || !coming)
        p->pending--; /* its attempt ends first, or has just ended */
}

static void change_page(struct qmgr *q, void *ctx)
{
    struct page *p = ctx;
    p->pending = 1; /* ourselves */
    for (size_t i = 0; i < p->count; i++)
        change_one(q, p, &p->items[i]);
    on_settled(p, true);
}

static bool change(struct question *k, const struct queue_item *items, size_t n, enum verdict v, int64_t by, unsigned *failed)
{
    struct page *p = mem_alloc(sizeof *p);
    *p = (struct page){.verdict = v, .by = by, .count = n, .items = mem_array(n ? n : 1, sizeof *p->items)};
    meeting_init(&p->meeting, 2);
    for (size_t i = 0; i < n; i++) {
        p->items[i] = items[i];
        queue_keep_message(&p->items[i].message, &p->arena);
        queue_keep_recipient(&p->items[i].recipient, &p->arena);
    }
    question_call(k, change_page, p);
    meeting_lock(&p->meeting);
    while (!p->done && meeting_wait(&p->meeting, k))
        ;
    bool done = p->done;
    *failed += done ? p->failed : 0;
    meeting_unlock(&p->meeting);
    unref(p);
    return done;
}

bool moving_hold(struct question *k, const struct queue_item *items, size_t n, int64_t by, unsigned *failed)
{
    return change(k, items, n, VERDICT_HELD, by, failed);
}

bool moving_remove(struct question *k, const struct queue_item *items, size_t n, int64_t by, unsigned *failed)
{
    return change(k, items, n, VERDICT_REMOVED, by, failed);
}

bool moving_let_go(struct question *k, const struct queue_item *items, size_t n)
{
    unsigned none = 0;
    return change(k, items, n, VERDICT_NONE, 0, &none);
}
