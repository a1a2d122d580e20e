/* Nothing that the thread can hold while it waits for a processor is ever waited for by the loop: no lock is
 * shared. Full buffers pass through `full`, empty ones come back in `idle`, and each side is woken by an eventfd of the
 * other's. What the thread has allocated it frees. */
#include "qmgr/question.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#define STACK_BYTES (512u << 10)
#define BUFFER_MAX (256u << 10)
#define BUFFERS 3 /* one is filled, one on its way, one given to the operator */
#define NAME_MAX_BYTES 64
#define PROGRESS_MS 200
#define WAIT_MS 200
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
    struct admin_call *call; /* NULL: he has his answer, or has gone */
    struct question_work work;
    bool works; /* it runs as mail does */
    char *dir;
    struct history *history;
    int64_t ends; /* on the monotonic clock, ms */
    int ready, ready_too; /* eventfd to the loop; the thread's own descriptor of it, so that it may use it last of all */
    int room;             /* eventfd to the thread: a buffer came back, or it is to stop */
    struct io *io;
    /* between both: */
    struct buf buffers[BUFFERS];
    _Atomic int full;      /* the one on its way, -1: none */
    _Atomic unsigned idle; /* bits of those that can be filled */
    _Atomic uint64_t done, total;
    _Atomic(const char *) unit; /* NULL: no progress to tell */
    _Atomic(question_fn *) call_fn; /* to be called by the loop, with call_ctx; NULL: nothing */
    void *call_ctx;
    _Atomic bool stop;
    _Atomic bool ended; /* nothing more comes; status and message are the loop's */
    _Atomic bool left;  /* the thread touches nothing of this any more */
    enum admin_status status;
    char message[1000];
    /* the thread's: */
    int filling;
    struct buf row;
    uint64_t row_count;
    int64_t told; /* progress, last */
    /* the loop's: */
    int giving; /* -1: none */
    size_t given;
    bool waiting; /* for the operator to read */
};

struct questions {
    struct link all;
};

static void signal_fd(int fd)
{
    uint64_t one = 1;
    while (write(fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

static void drain_fd(int fd)
{
    uint64_t n;
    while (read(fd, &n, sizeof n) < 0 && errno == EINTR)
        ;
}

/* ---- on its thread ---- */

const char *question_dir(const struct question *k)
{
    return k->dir;
}

bool question_late(const struct question *k)
{
    return clock_mono() >= k->ends;
}

/* Sends what was filled, as soon as the one before has been taken. */
static void publish(struct question *k)
{
    if (k->buffers[k->filling].n == 0 || atomic_load(&k->full) >= 0)
        return;
    unsigned idle = atomic_load(&k->idle); /* never none: of three, one is filled and at most one is given */
    int next = 0;
    while (!(idle & (1u << next)))
        next++;
    atomic_fetch_and(&k->idle, ~(1u << next));
    atomic_store(&k->full, k->filling);
    k->filling = next;
    buf_clear(&k->buffers[next]);
    signal_fd(k->ready);
}

static bool is_over(const struct question *k)
{
    return atomic_load_explicit(&k->stop, memory_order_relaxed) || question_late(k);
}

bool question_over(void *question)
{
    struct question *k = question;
    publish(k);
    return is_over(k);
}

static void wait_for_room(struct question *k)
{
    struct pollfd p = {.fd = k->room, .events = POLLIN};
    if (poll(&p, 1, WAIT_MS) > 0)
        drain_fd(k->room);
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
    if (is_over(k))
        return false;
    put(k, ROW_END, "", 0, SPAN_NONE);
    buf_add(&k->buffers[k->filling], buf_span(&k->row));
    buf_clear(&k->row);
    k->row_count++;
    publish(k);
    while (k->buffers[k->filling].n > BUFFER_MAX && !question_over(k))
        wait_for_room(k);
    return !is_over(k);
}

void question_progress(struct question *k, uint64_t done, uint64_t total, const char *unit)
{
    int64_t now = clock_mono();
    if (now - k->told < PROGRESS_MS)
        return;
    k->told = now;
    atomic_store(&k->done, done);
    atomic_store(&k->total, total);
    atomic_store(&k->unit, unit);
    signal_fd(k->ready);
}

void question_call(struct question *k, question_fn *fn, void *ctx)
{
    k->call_ctx = ctx;
    atomic_store(&k->call_fn, fn);
    signal_fd(k->ready);
}

void question_end(struct question *k, enum admin_status status, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(k->message, sizeof k->message, fmt, ap);
    k->status = status;
    va_end(ap);
}

/* The rest of the rows, and then every buffer back. */
static void hand_over(struct question *k)
{
    for (publish(k); k->buffers[k->filling].n && !atomic_load(&k->stop); publish(k))
        wait_for_room(k);
    atomic_store(&k->ended, true);
    signal_fd(k->ready);
    while ((atomic_load(&k->idle) | 1u << k->filling) != (1u << BUFFERS) - 1)
        wait_for_room(k);
}

static void *run(void *ctx)
{
    struct question *k = ctx;
    prctl(PR_SET_NAME, "question");
    if (k->work.history_ms)
        history_flush(k->history, k->work.history_ms); /* its lock is the loop's, too */
    if (!k->works && sched_setscheduler(0, SCHED_IDLE, &(struct sched_param){0}))
        LOGW("question-priority", KVT("why", strerror(errno)));
    k->work.run(k, k->work.ctx);
    hand_over(k);
    for (int i = 0; i < BUFFERS; i++)
        buf_free(&k->buffers[i]);
    buf_free(&k->row);
    k->work.free(k->work.ctx);
    int ready = k->ready_too;
    atomic_store(&k->left, true);
    signal_fd(ready);
    close(ready);
    return NULL;
}

/* ---- on the loop ---- */

static void stop(struct question *k)
{
    atomic_store(&k->stop, true);
    signal_fd(k->room);
}

static void call(struct question *k)
{
    question_fn *fn = atomic_exchange(&k->call_fn, NULL);
    if (fn)
        fn(k->q, k->call_ctx);
}

static void release(struct question *k)
{
    call(k); /* what it asked for is not left undone */
    list_del(&k->link);
    io_free(&k->io);
    close(k->ready);
    close(k->room);
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

/* What was taken from the thread, as far as the operator has room. True: all of it. */
static bool give(struct question *k)
{
    const struct buf *b = &k->buffers[k->giving];
    while (k->given < b->n && admin_room(k->call)) {
        struct cell c;
        char name[NAME_MAX_BYTES + 1];
        const char *at = b->p + k->given;
        memcpy(&c, at, sizeof c);
        memcpy(name, at + sizeof c, c.name_n);
        name[c.name_n] = '\0';
        give_cell(k->call, &c, name, span_make(at + sizeof c + c.name_n, c.text_n));
        k->given += sizeof c + c.name_n + c.text_n;
    }
    return k->given == b->n;
}

static void give_back(struct question *k)
{
    if (k->giving < 0)
        return;
    atomic_fetch_or(&k->idle, 1u << k->giving);
    k->giving = -1;
    signal_fd(k->room);
}

static bool take(struct question *k)
{
    give_back(k);
    k->giving = atomic_exchange(&k->full, -1);
    k->given = 0;
    if (k->giving >= 0)
        signal_fd(k->room);
    return k->giving >= 0;
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
    signal_fd(k->ready); /* what it has sent is given back */
}

/* What sends nothing for long would not notice. */
static void on_gone(void *ctx)
{
    struct question *k = ctx;
    signal_fd(k->ready);
}

static void tell_progress(struct question *k)
{
    const char *unit = atomic_exchange(&k->unit, NULL);
    if (unit)
        admin_progress(k->call, atomic_load(&k->done), atomic_load(&k->total), unit);
}

/* False: the operator has yet to read. */
static bool give_all(struct question *k)
{
    while (k->giving >= 0 || take(k)) {
        if (!give(k)) {
            k->waiting = true;
            admin_later(k->call, on_room, on_drop, k);
            return false;
        }
        give_back(k);
    }
    return true;
}

static void go_on(struct question *k)
{
    bool left = atomic_load(&k->left), ended = atomic_load(&k->ended); /* before what it sent is taken: that was earlier */
    if (k->call && admin_gone(k->call)) {
        admin_end(k->call, ADMIN_FAILED, "gone");
        k->call = NULL;
        stop(k);
    }
    if (k->call && give_all(k)) {
        tell_progress(k);
        if (ended) {
            admin_end(k->call, k->status, "%s", k->message);
            k->call = NULL;
        }
    }
    if (!k->call)
        while (take(k))
            ;
    if (left)
        release(k);
}

static void on_ready(void *ctx, unsigned events)
{
    struct question *k = ctx;
    (void)events;
    drain_fd(k->ready);
    call(k);
    if (!k->waiting)
        go_on(k);
}

static int start(struct question *k)
{
    sigset_t all, old;
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED); /* to wait for its end is to wait for its turn */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are the loop's */
    int rc = pthread_create(&thread, &attr, run, k);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    return rc;
}

/* How many are being answered; alike: of that kind. */
static unsigned count(const struct questions *all, const struct question_work *alike)
{
    unsigned n = 0;
    for (const struct link *l = all->all.next; l != &all->all; l = l->next) {
        const struct question *k = container_of(l, struct question, link);
        n += !atomic_load(&k->ended) && (!alike || k->work.run == alike->run);
    }
    return n;
}

static struct question *question_new(struct qmgr *q, struct admin_call *call, const struct question_work *w, bool works)
{
    struct question *k = mem_alloc(sizeof *k);
    *k = (struct question){.q = q,
                           .call = call,
                           .work = *w,
                           .works = works,
                           .dir = mem_strdup(q->dir),
                           .history = q->history,
                           .ends = clock_mono() + w->time,
                           .full = -1,
                           .idle = ((1u << BUFFERS) - 1) & ~1u,
                           .giving = -1};
    k->ready = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    k->room = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    k->ready_too = k->ready < 0 ? -1 : fcntl(k->ready, F_DUPFD_CLOEXEC, 0);
    k->io = k->ready_too < 0 || k->room < 0 ? NULL : io_new(q->loop, k->ready, on_ready, k);
    list_add_tail(&q->questions->all, &k->link);
    return k;
}

static void ask(struct qmgr *q, struct admin_call *call, const struct question_work *w, bool works)
{
    if (!q->questions) {
        q->questions = mem_alloc(sizeof *q->questions);
        list_init(&q->questions->all);
    }
    bool many = w->most && count(q->questions, w) >= w->most;
    if (many || count(q->questions, NULL) >= QUESTIONS_MAX) {
        w->free(w->ctx);
        admin_end(call, ADMIN_LATER, "%u questions %sare being answered, ask again later", many ? w->most : QUESTIONS_MAX,
                  many ? "like this one " : "");
        return;
    }
    struct question *k = question_new(q, call, w, works);
    int rc = k->io ? start(k) : EMFILE;
    if (rc == 0) {
        admin_on_gone(call, on_gone, k);
        io_want(k->io, IO_READ);
        return;
    }
    admin_end(call, ADMIN_FAILED, "no thread for it: %s", strerror(rc));
    w->free(w->ctx);
    if (k->ready_too >= 0)
        close(k->ready_too);
    release(k);
}

void question_ask(struct qmgr *q, struct admin_call *call, const struct question_work *w)
{
    ask(q, call, w, false);
}

void question_work_on(struct qmgr *q, struct admin_call *call, const struct question_work *w)
{
    ask(q, call, w, true);
}

void questions_free(struct qmgr *q)
{
    if (!q->questions)
        return;
    while (!list_empty(&q->questions->all)) {
        struct question *k = container_of(q->questions->all.next, struct question, link);
        struct pollfd p = {.fd = k->ready, .events = POLLIN};
        k->call = NULL;
        for (stop(k); !atomic_load(&k->left); poll(&p, 1, WAIT_MS)) {
            drain_fd(k->ready);
            while (take(k))
                ;
        }
        release(k);
    }
    mem_free(&q->questions);
}
