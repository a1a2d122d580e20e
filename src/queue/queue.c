/* Opening and closing the queue, and its requests. */
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "base/mem.h"
#include "queue/impl.h"

#define STACK_BYTES (512u << 10)
#define IMPORT_PATIENCE_MS 5 /* nobody waits for one of them: they go together */

const char *queue_state_name(enum queue_state s)
{
    switch (s) {
    case QUEUE_WAITING:
        return "waiting";
    case QUEUE_PARKED:
        return "parked";
    case QUEUE_HELD:
        return "held";
    case QUEUE_EXPANDED:
        return "expanded";
    case QUEUE_PICKUP:
        return "pickup";
    case QUEUE_LIMITED:
        return "limited";
    }
    return "unknown";
}

void queue_keep_message(struct queue_message *m, struct arena *a)
{
    struct span *const texts[] = {&m->sender, &m->helo, &m->remote, &m->message_id, &m->envid, &m->tls, &m->login, &m->hold, &m->policy, &m->marks};
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        *texts[i] = arena_dup(a, *texts[i]);
}

void queue_keep_recipient(struct queue_recipient *r, struct arena *a)
{
    struct span *const texts[] = {&r->address, &r->original, &r->orcpt, &r->sender, &r->why, &r->host, &r->dialogue, &r->destination, &r->route, &r->domain};
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        *texts[i] = arena_dup_or_none(a, *texts[i]);
}

static int start_threads(struct queue *q, struct err *err)
{
    sigset_t all, old;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are the loop's */
    int rc = pthread_create(&q->writer, &attr, queue_writer_run, q);
    if (rc == 0 && (rc = pthread_create(&q->checkpointer, &attr, queue_checkpointer_run, q)) != 0) {
        pthread_mutex_lock(&q->lock);
        q->stopping = true;
        pthread_cond_signal(&q->work);
        pthread_mutex_unlock(&q->lock);
        pthread_join(q->writer, NULL);
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    errno = rc;
    return rc ? err_errno(err, "thread") : 0;
}

static void release(struct queue *q)
{
    queue_spool_end(q);
    sql_close(&q->sql);
    db_close(&q->checkpoint_db);
    if (q->wake)
        wake_free(&q->wake);
    if (q->spool_fd >= 0)
        close(q->spool_fd);
    if (q->dir_fd >= 0)
        close(q->dir_fd);
    pthread_mutex_destroy(&q->lock);
    pthread_cond_destroy(&q->work);
    pthread_cond_destroy(&q->checkpoint_work);
    mem_free(&q->gone);
    mem_free(&q->dir);
    mem_free(&q);
}

static int open_databases(struct queue *q, int64_t now_ms, struct err *err)
{
    struct db_options o = {.sync_full = true,
                           .keep_wal = true,
                           .own_checkpoints = true,
                           .one_process = true,
                           .cache_kib = 256,
                           .wal_limit = INT64_C(64) << 20};
    if (sql_open(&q->sql, q->dir, now_ms * 1000, err) || db_open(&q->checkpoint_db, q->dir, "queue.db", &o, err))
        return -1;
    if (fsync(q->dir_fd)) /* the names of the database and its log: SQLite overlooks it when their sync fails */
        return err_errno(err, "%s", q->dir);
    q->ids.last = q->sql.mark;
    q->first_id = q->sql.mark + 1;
    q->wal_next = WAL_MARK_PAGES;
    db_on_wal(q->sql.db, queue_on_wal, q);
    return 0;
}

/* A start takes no longer with many files; the writer looks at the rest. No id is older from here on. */
static int settle_spool(struct queue *q, struct err *err)
{
    if (queue_spool_begin(q, err) || queue_spool_settle(q, UINT64_MAX, SPOOL_FIRST, err))
        return -1;
    q->old_below = queue_ids(q, 1);
    q->tidy_at_us = q->old.left ? 1 : 0;
    return 0;
}

int queue_open(struct queue **out, struct loop *l, const struct queue_options *o, struct err *err)
{
    struct queue *q = mem_alloc(sizeof *q);
    pthread_condattr_t attr;
    q->loop = l;
    q->dir = mem_strdup(o->dir);
    q->dir_fd = q->spool_fd = -1;
    q->commit_wait_us = o->commit_wait_ms * 1000;
    list_init(&q->waiting);
    list_init(&q->finished);
    pthread_mutex_init(&q->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&q->work, &attr);
    pthread_condattr_destroy(&attr);
    pthread_cond_init(&q->checkpoint_work, NULL);
    if (queue_spool_init(q, err) || open_databases(q, o->now_ms, err) || settle_spool(q, err)) {
        release(q);
        return -1;
    }
    q->wake = wake_new(l, queue_on_finished, q);
    if (start_threads(q, err)) {
        release(q);
        return -1;
    }
    *out = q;
    return 0;
}

void queue_close(struct queue **qp)
{
    struct queue *q = *qp;
    if (!q)
        return;
    *qp = NULL;
    pthread_mutex_lock(&q->lock);
    q->stopping = true;
    pthread_cond_signal(&q->work);
    pthread_cond_signal(&q->checkpoint_work);
    pthread_mutex_unlock(&q->lock);
    pthread_join(q->writer, NULL);
    pthread_join(q->checkpointer, NULL);
    queue_on_finished(q);
    release(q);
}

/* ---- requests ---- */

/* A spool file was synced by its writer; its name is our business, once for all files of the batch. */
static int sync_names(struct queue *q, struct err *err)
{
    if (!q->spool_synced && fsync(q->spool_fd))
        return err_errno(err, "spool");
    q->spool_synced = true;
    return 0;
}

static int check_file(struct queue *q, const struct queue_message *m, bool *damaged, struct err *err)
{
    if (!m->spooled)
        return 0;
    *damaged = !queue_spool_verify(q, m->id, m->size);
    return *damaged ? 0 : sync_names(q, err);
}

static int run_accept(struct queue *q, struct queue_request *r, struct err *err)
{
    struct queue_accept *a = container_of(r, struct queue_accept, request);
    if (check_file(q, a->message, &a->damaged, err))
        return -1;
    return a->damaged ? 0 : sql_accept(&q->sql, a, err);
}

void queue_accept(struct queue *q, struct queue_accept *a)
{
    a->request.run = run_accept;
    a->request.waits = true;
    a->request.unlink = false;
    a->request.message = a->message->id;
    a->request.highest = a->count ? a->recipients[a->count - 1].id : a->message->id;
    if (a->notice_count)
        a->request.highest = MAX_OF(a->request.highest, a->notices[a->notice_count - 1].to->id);
    a->damaged = false;
    queue_submit(q, &a->request, 0);
}

static int run_import(struct queue *q, struct queue_request *r, struct err *err)
{
    struct queue_import *m = container_of(r, struct queue_import, request);
    if (check_file(q, m->message, &m->damaged, err))
        return -1;
    return m->damaged ? 0 : sql_import(&q->sql, m, queue_now_us(CLOCK_REALTIME), err);
}

void queue_import(struct queue *q, struct queue_import *m)
{
    m->request.run = run_import;
    m->request.waits = false;
    m->request.unlink = false;
    m->request.message = m->message->id;
    m->request.highest = m->count ? m->recipients[m->count - 1].id : m->message->id;
    m->damaged = false;
    queue_submit(q, &m->request, IMPORT_PATIENCE_MS);
}

static int run_settle(struct queue *q, struct queue_request *r, struct err *err)
{
    struct queue_settle *s = container_of(r, struct queue_settle, request);
    if ((s->notice && s->notice->spooled && sync_names(q, err)) || sql_settle(&q->sql, s, err))
        return -1;
    r->unlink = s->spooled && s->message_gone;
    return 0;
}

void queue_settle(struct queue *q, struct queue_settle *s, int64_t patience)
{
    s->request.run = run_settle;
    s->request.waits = false;
    s->request.unlink = false;
    s->request.message = s->message;
    s->request.highest = s->child_count ? s->children[s->child_count - 1].id : 0;
    for (size_t i = 0; i < s->count; i++)
        if (s->changes[i].kind == QUEUE_INSERT)
            s->request.highest = MAX_OF(s->request.highest, s->changes[i].row.id);
    if (s->notice)
        s->request.highest = MAX_OF(s->request.highest, s->notice_to->id);
    queue_submit(q, &s->request, patience);
}

static int run_token(struct queue *q, struct queue_request *r, struct err *err)
{
    struct queue_token *t = container_of(r, struct queue_token, request);
    return sql_token(&q->sql, t->token, &t->message, err);
}

void queue_token_ask(struct queue *q, struct queue_token *t)
{
    t->request.run = run_token;
    t->request.waits = t->request.unlink = false;
    t->request.message = t->request.highest = 0;
    queue_submit(q, &t->request, 0);
}

static int run_release(struct queue *q, struct queue_request *r, struct err *err)
{
    return sql_release(&q->sql, container_of(r, struct queue_release, request), err);
}

static int run_destination(struct queue *q, struct queue_request *r, struct err *err)
{
    return sql_destination(&q->sql, container_of(r, struct queue_destination, request), err);
}

static void submit_plain(struct queue *q, struct queue_request *r,
                         int (*run)(struct queue *q, struct queue_request *r, struct err *err), int64_t patience)
{
    r->run = run;
    r->waits = r->unlink = false;
    r->message = r->highest = 0;
    queue_submit(q, r, patience);
}

void queue_release(struct queue *q, struct queue_release *r)
{
    submit_plain(q, &r->request, run_release, 1);
}

void queue_destination(struct queue *q, struct queue_destination *d, int64_t patience)
{
    submit_plain(q, &d->request, run_destination, patience);
}

static int run_limited_end(struct queue *q, struct queue_request *r, struct err *err)
{
    return sql_limited_end(&q->sql, container_of(r, struct queue_limited_end, request), err);
}

void queue_limited_end(struct queue *q, struct queue_limited_end *e)
{
    submit_plain(q, &e->request, run_limited_end, 1);
}

static int run_probe(struct queue *q, struct queue_request *r UNUSED, struct err *err)
{
    return sql_probe(&q->sql, err);
}

void queue_probe(struct queue *q, struct queue_request *r)
{
    submit_plain(q, r, run_probe, 1);
}

void queue_set_commit_wait(struct queue *q, int64_t ms)
{
    pthread_mutex_lock(&q->lock);
    q->commit_wait_us = ms * 1000;
    pthread_mutex_unlock(&q->lock);
}

uint64_t queue_ids(struct queue *q, uint64_t count)
{
    pthread_mutex_lock(&q->lock);
    uint64_t first = qid_take(&q->ids, queue_now_us(CLOCK_REALTIME), count);
    pthread_mutex_unlock(&q->lock);
    return first;
}

uint64_t queue_first_id(const struct queue *q)
{
    return q->first_id;
}

void queue_senders(struct queue *q, unsigned open)
{
    atomic_store_explicit(&q->open_senders, open, memory_order_relaxed);
}

struct queue_stats queue_stats(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    struct queue_stats s = q->stats;
    pthread_mutex_unlock(&q->lock);
    return s;
}
