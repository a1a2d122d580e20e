#include "qmgr/question.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#define STACK_BYTES (512u << 10)
#define BUFFER_MAX (256u << 10)
#define NAME_MAX_BYTES 64
#define PROGRESS_MS 200
#define TEXT_MAX_BYTES 32768

/* A cell in the buffer, its name and text behind it; a row ends with kind ROW_END. */
#define ROW_END 0xff
struct cell {
    int64_t number;
    uint32_t text_n;
    uint8_t kind, name_n;
};

struct question {
    struct link link; /* in questions.all */
    struct qmgr *q;
    struct admin_call *call; /* NULL: the operator has gone */
    struct question_work work;
    struct wake *wake;
    pthread_t thread;
    char *dir;
    struct history *history;
    int64_t ends; /* on the monotonic clock, ms */
    _Atomic bool stop;
    pthread_mutex_t lock;
    pthread_cond_t room;
    /* under the lock: */
    struct buf rows;
    uint64_t done, total;
    const char *unit; /* NULL: no progress to tell */
    bool ended;
    enum admin_status status;
    char message[1000];
    /* the thread's: */
    struct buf row;
    uint64_t row_count;
    int64_t told; /* progress, last */
    /* the loop's: */
    struct buf giving;
    size_t given;
    bool waiting; /* for the operator to read */
};

struct questions {
    struct link all;
    unsigned count;
};

/* ---- on its thread ---- */

const char *question_dir(const struct question *k)
{
    return k->dir;
}

struct history *question_history(const struct question *k)
{
    return k->history;
}

bool question_late(const struct question *k)
{
    return clock_mono() >= k->ends;
}

bool question_over(void *question)
{
    struct question *k = question;
    return atomic_load_explicit(&k->stop, memory_order_relaxed) || question_late(k);
}

uint64_t question_rows(const struct question *k)
{
    return k->row_count;
}

static void put(struct question *k, unsigned kind, const char *name, int64_t number, struct span text)
{
    text = span_sub(text, 0, TEXT_MAX_BYTES);
    struct span n = span_sub(span_of(name), 0, NAME_MAX_BYTES);
    struct cell c = {.number = number, .text_n = (uint32_t)text.n, .kind = (uint8_t)kind, .name_n = (uint8_t)n.n};
    buf_add(&k->row, span_make(&c, sizeof c));
    buf_add(&k->row, n);
    buf_add(&k->row, text);
}

void question_text(struct question *k, const char *name, struct span value)
{
    put(k, CELL_TEXT, name, 0, value);
}

void question_number(struct question *k, enum question_cell kind, const char *name, int64_t value)
{
    put(k, kind, name, value, SPAN_NONE);
}

bool question_row(struct question *k)
{
    put(k, ROW_END, "", 0, SPAN_NONE);
    pthread_mutex_lock(&k->lock);
    while (k->rows.n && k->rows.n + k->row.n > BUFFER_MAX && !question_over(k)) {
        struct timespec t = {.tv_sec = k->ends / 1000 + 1};
        pthread_cond_timedwait(&k->room, &k->lock, &t);
    }
    bool over = question_over(k), first = k->rows.n == 0;
    if (!over)
        buf_add(&k->rows, buf_span(&k->row));
    pthread_mutex_unlock(&k->lock);
    buf_clear(&k->row);
    if (over)
        return false;
    k->row_count++;
    if (first)
        wake_up(k->wake);
    return true;
}

void question_progress(struct question *k, uint64_t done, uint64_t total, const char *unit)
{
    int64_t now = clock_mono();
    if (now - k->told < PROGRESS_MS)
        return;
    k->told = now;
    pthread_mutex_lock(&k->lock);
    k->done = done;
    k->total = total;
    k->unit = unit;
    pthread_mutex_unlock(&k->lock);
    wake_up(k->wake);
}

void question_end(struct question *k, enum admin_status status, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    pthread_mutex_lock(&k->lock);
    vsnprintf(k->message, sizeof k->message, fmt, ap);
    k->status = status;
    k->ended = true;
    pthread_mutex_unlock(&k->lock);
    va_end(ap);
    wake_up(k->wake);
}

static void *run(void *ctx)
{
    struct question *k = ctx;
    prctl(PR_SET_NAME, "question");
    if (sched_setscheduler(0, SCHED_IDLE, &(struct sched_param){0}))
        LOGW("question-priority", KVT("why", strerror(errno)));
    k->work.run(k, k->work.ctx);
    return NULL;
}

/* ---- on the loop ---- */

static void stop(struct question *k)
{
    atomic_store(&k->stop, true);
    pthread_mutex_lock(&k->lock);
    pthread_cond_signal(&k->room);
    pthread_mutex_unlock(&k->lock);
}

static void release(struct question *k)
{
    struct questions *all = k->q->questions;
    list_del(&k->link);
    all->count--;
    k->work.free(k->work.ctx);
    wake_free(&k->wake);
    pthread_mutex_destroy(&k->lock);
    pthread_cond_destroy(&k->room);
    buf_free(&k->rows);
    buf_free(&k->row);
    buf_free(&k->giving);
    mem_free(&k->dir);
    mem_free(&k);
}

static void give_cell(struct admin_call *call, const struct cell *c, const char *name, struct span text)
{
    switch (c->kind) {
    case ROW_END: admin_row(call); break;
    case CELL_NUMBER: admin_number(call, name, (uint64_t)c->number); break;
    case CELL_FLAG: admin_flag(call, name, c->number != 0); break;
    case CELL_TIME: admin_time(call, name, c->number); break;
    case CELL_BYTES: admin_bytes(call, name, (uint64_t)c->number); break;
    default: admin_text(call, name, text);
    }
}

/* What was taken from the thread, as far as the operator has room. */
static void give(struct question *k)
{
    while (k->given < k->giving.n && admin_room(k->call)) {
        struct cell c;
        char name[NAME_MAX_BYTES + 1];
        const char *at = k->giving.p + k->given;
        memcpy(&c, at, sizeof c);
        memcpy(name, at + sizeof c, c.name_n);
        name[c.name_n] = '\0';
        give_cell(k->call, &c, name, span_make(at + sizeof c + c.name_n, c.text_n));
        k->given += sizeof c + c.name_n + c.text_n;
    }
}

static bool take(struct question *k)
{
    pthread_mutex_lock(&k->lock);
    struct buf rows = k->rows;
    k->rows = k->giving;
    buf_clear(&k->rows);
    k->giving = rows;
    k->given = 0;
    pthread_cond_signal(&k->room);
    pthread_mutex_unlock(&k->lock);
    return rows.n > 0;
}

static void go_on(struct question *k);

static void on_room(void *ctx, struct admin_call *call)
{
    struct question *k = ctx;
    (void)call;
    k->waiting = false;
    go_on(k);
}

static void on_drop(void *ctx)
{
    struct question *k = ctx;
    k->waiting = false;
    k->call = NULL;
    stop(k);
    wake_up(k->wake); /* it may have ended meanwhile */
}

static bool has_ended(struct question *k)
{
    pthread_mutex_lock(&k->lock);
    bool ended = k->ended && k->rows.n == 0;
    pthread_mutex_unlock(&k->lock);
    return ended;
}

static void tell_progress(struct question *k)
{
    pthread_mutex_lock(&k->lock);
    uint64_t done = k->done, total = k->total;
    const char *unit = k->unit;
    k->unit = NULL;
    pthread_mutex_unlock(&k->lock);
    if (unit)
        admin_progress(k->call, done, total, unit);
}

static void go_on(struct question *k)
{
    if (k->call && admin_gone(k->call)) {
        admin_end(k->call, ADMIN_FAILED, "gone");
        k->call = NULL;
        stop(k);
    }
    while (k->call) {
        give(k);
        if (k->given < k->giving.n) {
            k->waiting = true;
            admin_later(k->call, on_room, on_drop, k);
            return;
        }
        if (!take(k))
            break;
    }
    if (k->call)
        tell_progress(k);
    else
        take(k);
    if (!has_ended(k))
        return;
    pthread_join(k->thread, NULL);
    if (k->call)
        admin_end(k->call, k->status, "%s", k->message);
    release(k);
}

static void on_wake(void *ctx)
{
    struct question *k = ctx;
    if (!k->waiting)
        go_on(k);
}

static int start(struct question *k)
{
    sigset_t all, old;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are the loop's */
    int rc = pthread_create(&k->thread, &attr, run, k);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    return rc;
}

/* How many of its kind are being answered. */
static unsigned alike(const struct questions *all, const struct question_work *w)
{
    unsigned n = 0;
    for (const struct link *l = all->all.next; l != &all->all; l = l->next)
        n += container_of(l, struct question, link)->work.run == w->run;
    return n;
}

void question_ask(struct qmgr *q, struct admin_call *call, const struct question_work *w)
{
    if (!q->questions) {
        q->questions = mem_alloc(sizeof *q->questions);
        list_init(&q->questions->all);
    }
    bool many = w->most && alike(q->questions, w) >= w->most;
    if (many || q->questions->count >= QUESTIONS_MAX) {
        w->free(w->ctx);
        admin_end(call, ADMIN_LATER, "%u questions %sare being answered, ask again later", many ? w->most : QUESTIONS_MAX,
                  many ? "like this one " : "");
        return;
    }
    struct question *k = mem_alloc(sizeof *k);
    *k = (struct question){.q = q,
                           .call = call,
                           .work = *w,
                           .dir = mem_strdup(q->dir),
                           .history = q->history,
                           .ends = clock_mono() + w->time};
    pthread_condattr_t clock;
    pthread_mutex_init(&k->lock, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&k->room, &clock);
    pthread_condattr_destroy(&clock);
    k->wake = wake_new(q->loop, on_wake, k);
    list_add_tail(&q->questions->all, &k->link);
    q->questions->count++;
    int rc = start(k);
    if (rc == 0)
        return;
    admin_end(call, ADMIN_FAILED, "no thread for it: %s", strerror(rc));
    release(k);
}

void questions_free(struct qmgr *q)
{
    if (!q->questions)
        return;
    while (!list_empty(&q->questions->all)) {
        struct question *k = container_of(q->questions->all.next, struct question, link);
        stop(k);
        pthread_join(k->thread, NULL);
        release(k);
    }
    mem_free(&q->questions);
}
