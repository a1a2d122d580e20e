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

static struct span dup_or_none(struct arena *a, struct span s)
{
    return s.p ? arena_dup(a, s) : SPAN_NONE;
}

static void copy_item(struct arena *a, struct queue_item *to, const struct queue_item *from)
{
    *to = *from;
    struct queue_message *m = &to->message;
    struct queue_recipient *r = &to->recipient;
    m->sender = dup_or_none(a, m->sender);
    m->helo = dup_or_none(a, m->helo);
    m->remote = dup_or_none(a, m->remote);
    m->message_id = dup_or_none(a, m->message_id);
    m->envid = dup_or_none(a, m->envid);
    m->tls = dup_or_none(a, m->tls);
    m->login = dup_or_none(a, m->login);
    m->policy = dup_or_none(a, m->policy);
    m->marks = dup_or_none(a, m->marks);
    m->hold = dup_or_none(a, m->hold);
    r->address = arena_dup(a, r->address);
    r->original = dup_or_none(a, r->original);
    r->orcpt = dup_or_none(a, r->orcpt);
    r->sender = dup_or_none(a, r->sender);
    r->why = dup_or_none(a, r->why);
    r->host = dup_or_none(a, r->host);
    r->dialogue = dup_or_none(a, r->dialogue);
    r->route = dup_or_none(a, r->route);
    r->destination = dup_or_none(a, r->destination);
    r->domain = SPAN_NONE;
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
