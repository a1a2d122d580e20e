/* The connection cache. An entry owns its session; what the peer does with it meanwhile (closes it, talks unasked) ends the entry. */
#include "relay/pool.h"

#include "base/mem.h"

#define KEY_MAX 320

struct entry {
    struct link in_list;
    struct pool *pool;
    struct session *session;
    struct timer *timer;
    bool closing;
    int64_t keep_ms;
    size_t key_n;
    char key[KEY_MAX];
};

static void entry_free(struct entry *e)
{
    if (!e->closing)
        e->pool->idle_count--;
    list_del(&e->in_list);
    session_free(&e->session);
    timer_free(&e->timer);
    mem_free(&e);
}

/* QUIT when the session is between messages, else no more words. */
static void entry_close(struct entry *e)
{
    if (!smtp_client_is_ready(session_client(e->session))) {
        entry_free(e);
        return;
    }
    timer_stop(e->timer);
    e->closing = true;
    e->pool->idle_count--;
    list_del(&e->in_list);
    list_add_tail(&e->pool->closing, &e->in_list);
    session_quit(e->session);
}

static void on_expired(void *ctx)
{
    entry_close(ctx);
}

/* After RSET: now it can be used, or be closed politely. */
static void on_ready(void *ctx)
{
    struct entry *e = ctx;
    if (e->keep_ms == 0)
        entry_close(e);
}

static void on_over(void *ctx, enum smtp_client_stage at UNUSED, const struct outcome *why UNUSED, bool tls_failed UNUSED)
{
    entry_free(ctx);
}

static const struct session_ops ops = {.on_ready = on_ready, .on_over = on_over};

void pool_init(struct pool *p, struct loop *l, size_t idle_max)
{
    p->loop = l;
    list_init(&p->idle);
    list_init(&p->closing);
    p->idle_count = 0;
    p->idle_max = idle_max;
}

void pool_close(struct pool *p)
{
    LIST_EACH(&p->idle, l)
        entry_free(container_of(l, struct entry, in_list));
    LIST_EACH(&p->closing, m)
        entry_free(container_of(m, struct entry, in_list));
}

void pool_put(struct pool *p, struct session *s, struct span key, int64_t keep_ms)
{
    if (key.n > KEY_MAX) {
        session_free(&s);
        return;
    }
    struct entry *e = mem_alloc(sizeof *e);
    e->pool = p;
    e->session = s;
    e->keep_ms = keep_ms;
    e->key_n = key.n;
    memcpy(e->key, key.p, key.n);
    e->timer = timer_new(p->loop, on_expired, e);
    timer_start(e->timer, keep_ms);
    list_add_tail(&p->idle, &e->in_list);
    p->idle_count++;
    session_use(s, &ops, e);
    if (p->idle_count > p->idle_max)
        entry_close(container_of(p->idle.next, struct entry, in_list));
}

struct session *pool_take(struct pool *p, struct span key)
{
    LIST_EACH(&p->idle, l) {
        struct entry *e = container_of(l, struct entry, in_list);
        if (e->keep_ms == 0 || !span_eq(span_make(e->key, e->key_n), key) || !smtp_client_is_ready(session_client(e->session)))
            continue;
        struct session *s = e->session;
        e->session = NULL;
        entry_free(e);
        return s;
    }
    return NULL;
}
