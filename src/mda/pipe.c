/* A plain byte stream in the loop: see pipe.h. Input is read into one buffer that shrinks to nothing when it is empty:
 * an idle session holds no memory for it. */
#include "mda/pipe.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"

#define OUT_LOW (64 << 10)
#define READ_SIZE 65536

struct pipe {
    struct loop *loop;
    struct io *io;
    int fd;
    const struct pipe_ops *ops;
    void *ctx;
    struct buf in, out;
    size_t out_done; /* of out */
    struct defer turn;
    struct timer *timer;
    int64_t idle_ms;
    void (*late)(void *ctx);
    bool paused, finishing, ended, told, high, eof;
    bool *freed; /* set by pipe_free() while a callback runs */
};

static void run(void *ctx);

static void later(struct pipe *p)
{
    loop_defer(p->loop, &p->turn);
}

static void want(struct pipe *p)
{
    bool read = !p->ended && !p->eof && !p->paused && !p->finishing && p->in.n < PIPE_IN_MAX;
    io_want(p->io, (read ? IO_READ : 0u) | (p->out.n > p->out_done && !p->ended ? IO_WRITE : 0u));
}

static void end(struct pipe *p)
{
    p->ended = true;
    later(p);
}

static void send_some(struct pipe *p)
{
    while (p->out_done < p->out.n && !p->ended) {
        ssize_t n = send(p->fd, p->out.p + p->out_done, p->out.n - p->out_done, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0)
            p->out_done += (size_t)n;
        else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            break;
        else if (n >= 0 || errno != EINTR)
            end(p);
    }
    if (p->out_done == p->out.n) {
        p->out_done = 0;
        if (p->out.cap > 65536)
            buf_free(&p->out);
        buf_clear(&p->out);
        if (p->finishing)
            end(p);
    } else if (p->out_done > p->out.n / 2) {
        buf_drop(&p->out, p->out_done);
        p->out_done = 0;
    }
}

static void read_some(struct pipe *p)
{
    size_t room = PIPE_IN_MAX - p->in.n;
    size_t n = room < READ_SIZE ? room : READ_SIZE;
    ssize_t got = recv(p->fd, buf_room(&p->in, n), n, MSG_DONTWAIT);
    if (got > 0) {
        p->in.n += (size_t)got;
        if (p->timer && p->idle_ms)
            timer_start(p->timer, p->idle_ms);
    } else if (got == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)) {
        p->eof = true;
    }
}

/* Gives what waits to the owner. False: the pipe is freed. */
static bool give(struct pipe *p)
{
    bool freed = false;
    p->freed = &freed;
    while (p->in.n && !p->paused && !p->finishing && !p->ended) {
        size_t used = p->ops->on_data(p->ctx, buf_span(&p->in));
        if (freed)
            return false;
        buf_drop(&p->in, used);
        if (!used)
            break;
    }
    p->freed = NULL;
    if (!p->in.n)
        buf_free(&p->in);
    return true;
}

/* Once: the owner may free the pipe later than now. */
static void tell_end(struct pipe *p)
{
    io_want(p->io, 0);
    if (p->told)
        return;
    p->told = true;
    p->ops->on_end(p->ctx);
}

/* Everything that is to be done in this turn. */
static void run(void *ctx)
{
    struct pipe *p = ctx;
    if (!p->ended && !give(p))
        return;
    if (!p->paused && (p->eof || p->in.n >= PIPE_IN_MAX))
        p->finishing = true; /* what is written already is still sent */
    if (!p->ended)
        send_some(p);
    if (p->ended) {
        tell_end(p);
        return;
    }
    if (p->high && p->out.n - p->out_done < OUT_LOW) {
        bool freed = false;
        p->high = false;
        p->freed = &freed;
        p->ops->on_drained(p->ctx);
        if (freed)
            return;
        p->freed = NULL;
        if (p->out.n > p->out_done || p->in.n)
            later(p);
    }
    want(p);
}

static void on_io(void *ctx, unsigned events)
{
    struct pipe *p = ctx;
    if ((events & IO_READ) && !p->paused && !p->finishing && !p->eof && p->in.n < PIPE_IN_MAX)
        read_some(p);
    run(p);
}

static void on_late(void *ctx)
{
    struct pipe *p = ctx;
    p->late(p->ctx);
}

struct pipe *pipe_new(struct loop *l, int fd, struct span early, const struct pipe_ops *ops, void *ctx)
{
    struct pipe *p = mem_alloc(sizeof *p);
    *p = (struct pipe){.loop = l, .fd = fd, .ops = ops, .ctx = ctx, .turn = {.fn = run, .ctx = p}};
    p->io = io_new(l, fd, on_io, p);
    if (!p->io) {
        close(fd);
        mem_free(&p);
        return NULL;
    }
    buf_add(&p->in, early);
    want(p);
    if (early.n)
        later(p);
    return p;
}

void pipe_free(struct pipe **address)
{
    struct pipe *p = *address;
    if (!p)
        return;
    if (p->freed)
        *p->freed = true;
    loop_defer_cancel(p->loop, &p->turn);
    if (p->timer)
        timer_free(&p->timer);
    io_free(&p->io);
    close(p->fd);
    buf_free(&p->in);
    buf_free(&p->out);
    mem_free(address);
}

bool pipe_write(struct pipe *p, struct span bytes)
{
    if (p->ended)
        return true;
    buf_add(&p->out, bytes);
    later(p);
    if (p->out.n - p->out_done > PIPE_OUT_HIGH)
        p->high = true;
    return !p->high;
}

size_t pipe_pending(const struct pipe *p)
{
    return p->out.n - p->out_done;
}

bool pipe_more(const struct pipe *p)
{
    char c;
    return !p->ended && !p->eof && !p->finishing && recv(p->fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

void pipe_pause(struct pipe *p)
{
    p->paused = true;
    want(p);
}

void pipe_resume(struct pipe *p)
{
    p->paused = false;
    later(p);
}

void pipe_finish(struct pipe *p)
{
    p->finishing = true;
    later(p);
}

void pipe_timeout(struct pipe *p, int64_t ms, void (*late)(void *ctx))
{
    p->idle_ms = ms;
    p->late = late;
    if (!p->timer && ms)
        p->timer = timer_new(p->loop, on_late, p);
    if (p->timer && ms)
        timer_start(p->timer, ms);
    else if (p->timer)
        timer_stop(p->timer);
}
