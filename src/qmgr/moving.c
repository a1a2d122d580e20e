/* What `queue export --move` changes: rows page by page, each page of a thread that waits for it. */
#include <pthread.h>
#include <time.h>

#include "base/mem.h"
#include "qmgr/carry.h"
#include "qmgr/operator.h"

#define LOOK_MS 200

struct page {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned refs; /* under the lock: the thread, the loop */
    bool done;
    unsigned pending, failed; /* the loop's */
    enum verdict verdict;     /* NONE: let go */
    int64_t by;
    size_t count;
    struct queue_item *items;
    struct arena arena;
};

static void unref(struct page *p)
{
    pthread_mutex_lock(&p->lock);
    unsigned left = --p->refs;
    pthread_mutex_unlock(&p->lock);
    if (left)
        return;
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->changed);
    arena_free(&p->arena);
    mem_free(&p->items);
    mem_free(&p);
}

static void finished(struct page *p)
{
    pthread_mutex_lock(&p->lock);
    p->done = true;
    pthread_cond_signal(&p->changed);
    pthread_mutex_unlock(&p->lock);
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
    if (active && p->verdict == VERDICT_NONE)
        active->wish = VERDICT_NONE;
    else if (active && p->verdict == VERDICT_HELD)
        operator_hold(active, p->by);
    if (active || p->verdict == VERDICT_NONE || (p->verdict == VERDICT_HELD && is_held(&i->recipient)))
        return;
    p->pending++;
    settle_row(q, &i->message, &i->recipient, p->verdict, p->by, on_settled, p);
}

static void change_page(struct qmgr *q, void *ctx)
{
    struct page *p = ctx;
    p->pending = 1; /* ourselves */
    for (size_t i = 0; i < p->count; i++)
        change_one(q, p, &p->items[i]);
    on_settled(p, true);
}

static struct span dup_or_none(struct arena *a, struct span s)
{
    return s.p ? arena_dup(a, s) : SPAN_NONE;
}

/* What settle_row() needs of a row. */
static void copy_item(struct arena *a, struct queue_item *to, const struct queue_item *from)
{
    *to = (struct queue_item){.message = {.id = from->message.id,
                                          .spooled = from->message.spooled,
                                          .hold_until = from->message.hold_until,
                                          .received = from->message.received,
                                          .sender = arena_dup(a, from->message.sender)},
                              .recipient = from->recipient};
    struct queue_recipient *r = &to->recipient;
    r->address = arena_dup(a, r->address);
    r->original = dup_or_none(a, r->original);
    r->orcpt = dup_or_none(a, r->orcpt);
    r->sender = dup_or_none(a, r->sender);
    r->why = dup_or_none(a, r->why);
    r->host = dup_or_none(a, r->host);
    r->dialogue = dup_or_none(a, r->dialogue);
    r->destination = r->domain = SPAN_NONE;
}

static bool change(struct question *k, const struct queue_item *items, size_t n, enum verdict v, int64_t by, unsigned *failed)
{
    struct page *p = mem_alloc(sizeof *p);
    *p = (struct page){.refs = 2, .verdict = v, .by = by, .count = n, .items = mem_array(n ? n : 1, sizeof *p->items)};
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->changed, NULL);
    for (size_t i = 0; i < n; i++)
        copy_item(&p->arena, &p->items[i], &items[i]);
    question_call(k, change_page, p);
    pthread_mutex_lock(&p->lock);
    while (!p->done && !question_over(k)) {
        struct timespec t;
        clock_gettime(CLOCK_REALTIME, &t);
        t.tv_nsec += LOOK_MS * 1000000L;
        t.tv_sec += t.tv_nsec / 1000000000;
        t.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&p->changed, &p->lock, &t);
    }
    bool done = p->done;
    *failed += done ? p->failed : 0;
    pthread_mutex_unlock(&p->lock);
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
