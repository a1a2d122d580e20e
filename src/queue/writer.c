/* The writer: one thread with the only connection that changes the database. Requests gather while a commit is on its
 * way to the disk; with several senders in the middle of a transaction a commit waits for a quarter of them, at most commit_wait
 * and no longer than commits take here: waiting for more would cost more than it saves. What comes while the rows are written
 * goes with them, and outcomes that nobody waits for ride along.
 *
 * A second thread moves the write-ahead log into the database file (checkpoints), so that no commit waits for that;
 * only the last few pages, written meanwhile, are moved by the writer itself, because the log can start anew only when
 * nothing is left in it. */
#include <stdio.h>
#include <sys/prctl.h>
#include <time.h>

#include "base/log.h"
#include "base/mem.h"
#include "queue/impl.h"

#define BATCH_MAX 2000
#ifndef TIDY_EVERY_US
#define TIDY_EVERY_US 50000
#endif

int64_t queue_now_us(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* ---- the batch ---- */

static enum queue_fail fail_of(enum db_code c)
{
    return c == DB_FULL ? QUEUE_FULL : QUEUE_BROKEN;
}

static void refuse(struct queue_request *r, enum queue_fail fail, const struct err *err)
{
    r->fail = fail;
    snprintf(r->why, sizeof r->why, "%.*s", (int)sizeof r->why - 1, err->text);
}

/* What waits joins the batch, as far as there is room. With the lock. */
static void take_waiting(struct queue *q, struct link *batch)
{
    while (!list_empty(&q->waiting) && q->batch_count < BATCH_MAX) {
        struct queue_request *r = container_of(q->waiting.next, struct queue_request, link);
        list_del(&r->link);
        list_add_tail(batch, &r->link);
        q->batch_count++;
        q->waiting_count--;
        q->waiting_senders -= r->waits;
    }
    q->first_sender_us = q->earliest_us = queue_now_us(CLOCK_MONOTONIC); /* of those that are left: they go next */
}

/* The first of those that came while the batch was being run; the list's head: there is none. */
static struct link *take_newcomers(struct queue *q, struct link *batch)
{
    struct link *last = batch->prev;
    pthread_mutex_lock(&q->lock);
    take_waiting(q, batch);
    pthread_mutex_unlock(&q->lock);
    q->spool_synced = false; /* a newcomer's file may be newer than that */
    return last->next;
}

/* One transaction for all of the list, and for what comes meanwhile if that may `join`. *guilty: the request that failed;
 * NULL: the commit itself did. */
static int run_batch(struct queue *q, struct link *batch, bool join, struct queue_request **guilty, struct err *err)
{
    struct sql before = q->sql;
    uint64_t highest = 0;
    *guilty = NULL;
    q->spool_synced = false;
    if (db_begin(q->sql.db, err))
        return -2;
    for (struct link *l = batch->next; l != batch; l = l->next == batch && join ? take_newcomers(q, batch) : l->next) {
        struct queue_request *r = container_of(l, struct queue_request, link);
        if (r->run(q, r, err)) {
            *guilty = r;
            goto undo;
        }
        highest = MAX_OF(highest, r->highest);
    }
    if (sql_finish(&q->sql, highest, queue_now_us(CLOCK_REALTIME), err))
        goto undo;
    if (db_commit(q->sql.db, err) == 0)
        return 0;
undo:;
    enum db_code code = db_code(q->sql.db);
    db_rollback(q->sql.db);
    q->sql.mark = before.mark;
    q->sql.tokens = before.tokens;
    q->sql.tokens_since_us = before.tokens_since_us;
    q->sql.imported_us = before.imported_us;
    return code == DB_FULL || code == DB_IOERR || code == DB_CORRUPT || !*guilty ? -2 : -1;
}

/* Each on its own: one of them can't be carried out. */
static unsigned run_alone(struct queue *q, struct link *batch)
{
    unsigned commits = 0;
    struct link all, one;
    list_init(&all);
    LIST_EACH(batch, l)
    {
        struct queue_request *r = container_of(l, struct queue_request, link), *guilty;
        struct err err = {""};
        list_del(l);
        list_init(&one);
        list_add_tail(&one, l);
        if (run_batch(q, &one, false, &guilty, &err))
            refuse(r, fail_of(db_code(q->sql.db)), &err);
        else
            commits++;
        list_del(l);
        list_add_tail(&all, l);
    }
    LIST_EACH(&all, l)
    {
        list_del(l);
        list_add_tail(batch, l);
    }
    return commits;
}

/* Files of messages that are gone from the database. Noted while the requests are still ours, removed when nobody waits
 * any more. */
static void note_files(struct queue *q, const struct link *batch)
{
    q->gone_count = 0;
    for (const struct link *l = batch->next; l != batch; l = l->next) {
        const struct queue_request *r = container_of(l, struct queue_request, link);
        if (!r->unlink || r->fail != QUEUE_OK)
            continue;
        if (q->gone_count == q->gone_cap) {
            q->gone_cap = q->gone_cap ? q->gone_cap * 2 : 16;
            q->gone = mem_resize(q->gone, q->gone_cap * sizeof *q->gone);
        }
        q->gone[q->gone_count++] = r->message;
    }
}

static unsigned carry_out(struct queue *q, struct link *batch)
{
    struct queue_request *guilty;
    struct err err = {""};
    int r = run_batch(q, batch, true, &guilty, &err);
    if (r == -1)
        return run_alone(q, batch);
    if (r == 0)
        return 1;
    LOGE("queue-commit", KVT("why", err.text));
    for (struct link *l = batch->next; l != batch; l = l->next)
        refuse(container_of(l, struct queue_request, link), fail_of(db_code(q->sql.db)), &err);
    return 0;
}

/* ---- when ---- */

/* When the batch leaves: now (<= the current time), later, or 0: there is nothing. With the lock. */
static int64_t leave_at(struct queue *q)
{
    if (list_empty(&q->waiting))
        return 0;
    if (q->stopping || q->waiting_count >= BATCH_MAX)
        return 1;
    if (q->waiting_senders) {
        unsigned open = atomic_load_explicit(&q->open_senders, memory_order_relaxed);
        return open <= 1 || q->waiting_senders * 4 >= open || q->commit_wait_us == 0
                   ? 1
                   : q->first_sender_us + MIN_OF(q->commit_wait_us, q->commit_takes_us);
    }
    return q->earliest_us;
}

static void sleep_until(struct queue *q, int64_t at_us)
{
    q->writer_sleeps = true;
    q->sleeps_until_us = at_us;
    if (at_us == 0) {
        pthread_cond_wait(&q->work, &q->lock);
    } else {
        struct timespec t = {.tv_sec = at_us / 1000000, .tv_nsec = at_us % 1000000 * 1000};
        pthread_cond_timedwait(&q->work, &q->lock, &t);
    }
    q->writer_sleeps = false;
}

/* What a start has left to look at in the spool. */
static void tidy_spool(struct queue *q)
{
    struct err err;
    if (!q->old.left || queue_spool_settle(q, q->old_below, SPOOL_STEP, &err) == 0)
        return;
    LOGW("queue-tidy", KVT("why", err.text));
    queue_spool_end(q); /* the next start looks again */
}

/* What a backlog has left free goes back to the disk in small steps, while nobody waits: a file that was large is small
 * again, and no start and no commit pays for it at once. With the lock, which is let go meanwhile. */
static void tidy(struct queue *q)
{
    struct err err;
    bool more = false;
    pthread_mutex_unlock(&q->lock);
    int rc = sql_give_back(&q->sql, &more, &err);
    if (rc && db_code(q->sql.db) != DB_BUSY)
        LOGW("queue-tidy", KVT("why", err.text));
    tidy_spool(q);
    pthread_mutex_lock(&q->lock);
    if (rc == 0 && more) {
        q->stats.tidied++;
        q->tidied = true;
    } else if (rc == 0 && q->tidied) { /* the file itself gets shorter with a checkpoint */
        q->tidied = false;
        q->checkpoint_wanted = true;
        pthread_cond_signal(&q->checkpoint_work);
    }
    q->tidy_at_us = (rc == 0 && more) || q->old.left ? queue_now_us(CLOCK_MONOTONIC) + TIDY_EVERY_US : 0;
}

/* False: it is time to stop. With the lock. */
static bool wait_for_batch(struct queue *q)
{
    for (;;) {
        int64_t at = leave_at(q), now = queue_now_us(CLOCK_MONOTONIC);
        if (at && at <= now)
            return true;
        if (!at && q->stopping)
            return false;
        if (q->tidy_at_us && q->tidy_at_us <= now && !q->waiting_senders)
            tidy(q);
        else
            sleep_until(q, q->tidy_at_us && !q->waiting_senders && (!at || q->tidy_at_us < at) ? q->tidy_at_us : at);
    }
}

static void move_rest(struct queue *q)
{
    struct err err;
    int64_t left = 0;
    bool failed = db_checkpoint(q->sql.db, false, &left, &err) != 0;
    if (failed && db_code(q->sql.db) != DB_BUSY) /* busy: the other thread is at it */
        LOGW("queue-checkpoint", KVT("why", err.text));
    q->wal_next = failed ? q->wal_next : left + WAL_MARK_PAGES;
}

void *queue_writer_run(void *ctx)
{
    struct queue *q = ctx;
    struct link batch;
    prctl(PR_SET_NAME, "queue-writer");
    pthread_mutex_lock(&q->lock);
    while (wait_for_batch(q)) {
        bool rest = q->rest_wanted;
        q->rest_wanted = false;
        list_init(&batch);
        q->batch_count = 0;
        take_waiting(q, &batch);
        pthread_mutex_unlock(&q->lock);
        int64_t began = queue_now_us(CLOCK_MONOTONIC);
        unsigned commits = carry_out(q, &batch);
        note_files(q, &batch);
        pthread_mutex_lock(&q->lock);
        q->commit_takes_us += (queue_now_us(CLOCK_MONOTONIC) - began - q->commit_takes_us) / 8;
        q->stats.commits += commits;
        while (!list_empty(&batch)) {
            struct link *l = batch.next;
            list_del(l);
            list_add_tail(&q->finished, l);
            q->stats.requests++;
        }
        pthread_mutex_unlock(&q->lock);
        wake_up(q->wake);
        for (size_t i = 0; i < q->gone_count; i++)
            queue_spool_remove(q, q->gone[i]);
        if (rest)
            move_rest(q);
        pthread_mutex_lock(&q->lock);
        if (!q->tidy_at_us)
            q->tidy_at_us = queue_now_us(CLOCK_MONOTONIC) + TIDY_EVERY_US;
    }
    pthread_mutex_unlock(&q->lock);
    return NULL;
}

void queue_on_finished(void *ctx)
{
    struct queue *q = ctx;
    struct link mine;
    list_init(&mine);
    pthread_mutex_lock(&q->lock);
    while (!list_empty(&q->finished)) {
        struct link *l = q->finished.next;
        list_del(l);
        list_add_tail(&mine, l);
    }
    pthread_mutex_unlock(&q->lock);
    while (!list_empty(&mine)) {
        struct queue_request *r = container_of(mine.next, struct queue_request, link);
        list_del(&r->link);
        r->done(r);
    }
}

void queue_submit(struct queue *q, struct queue_request *r, int64_t patience_ms)
{
    int64_t now = queue_now_us(CLOCK_MONOTONIC);
    r->fail = QUEUE_OK;
    r->latest_us = now + patience_ms * 1000;
    bool wake = false;
    pthread_mutex_lock(&q->lock);
    if (r->waits && q->waiting_senders++ == 0)
        q->first_sender_us = now;
    q->earliest_us = list_empty(&q->waiting) ? r->latest_us : MIN_OF(q->earliest_us, r->latest_us);
    list_add_tail(&q->waiting, &r->link);
    q->waiting_count++;
    if (q->writer_sleeps) {
        int64_t at = leave_at(q);
        wake = q->sleeps_until_us == 0 || at < q->sleeps_until_us;
    }
    pthread_mutex_unlock(&q->lock);
    if (wake) /* who wakes can have the lock at once */
        pthread_cond_signal(&q->work);
}

/* ---- checkpoints ---- */

void queue_on_wal(void *ctx, int64_t pages)
{
    struct queue *q = ctx;
    pthread_mutex_lock(&q->lock);
    q->stats.wal_pages = (uint64_t)pages;
    pthread_mutex_unlock(&q->lock);
    if (pages < WAL_MARK_PAGES) {
        q->wal_next = WAL_MARK_PAGES; /* the log has started anew */
        return;
    }
    if (pages < q->wal_next)
        return;
    q->wal_next = pages + WAL_MARK_PAGES;
    pthread_mutex_lock(&q->lock);
    q->checkpoint_wanted = true;
    pthread_cond_signal(&q->checkpoint_work);
    pthread_mutex_unlock(&q->lock);
}

static uint64_t wal_pages(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    uint64_t pages = q->stats.wal_pages;
    pthread_mutex_unlock(&q->lock);
    return pages;
}

static void checkpoint(struct queue *q)
{
    struct err err;
    /* Again while much was written meanwhile: the writer is left with little. */
    for (int i = 0; i < 3; i++) {
        uint64_t before = wal_pages(q);
        bool failed = db_checkpoint(q->checkpoint_db, false, NULL, &err) != 0;
        if (failed && db_code(q->checkpoint_db) != DB_BUSY) { /* busy: the writer is at it */
            LOGW("queue-checkpoint", KVT("why", err.text));
            return;
        }
        if (failed || wal_pages(q) - before < WAL_REST_PAGES)
            break;
    }
    pthread_mutex_lock(&q->lock);
    q->stats.checkpoints++;
    q->rest_wanted = true;
    pthread_mutex_unlock(&q->lock);
}

void *queue_checkpointer_run(void *ctx)
{
    struct queue *q = ctx;
    prctl(PR_SET_NAME, "queue-wal");
    pthread_mutex_lock(&q->lock);
    for (;;) {
        while (!q->checkpoint_wanted && !q->stopping)
            pthread_cond_wait(&q->checkpoint_work, &q->lock);
        if (q->stopping)
            break;
        q->checkpoint_wanted = false;
        pthread_mutex_unlock(&q->lock);
        checkpoint(q);
        pthread_mutex_lock(&q->lock);
    }
    pthread_mutex_unlock(&q->lock);
    return NULL;
}
