/* Streams: sockets read and written directly when the loop says so.
 *
 * System calls are counted here. Input is read into one buffer that all streams of the process share, and what the
 * owner leaves unused is the only input a stream keeps: idle connections hold none. A receive call that returned
 * less than asked for is not followed by another. Output gathers during a turn and leaves in one call before the
 * loop waits. Nothing here trusts the peer. */
#include "net/stream.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "net/stream_impl.h"

static char shared_in[READ_ROOM]; /* nothing that reads is ever called from inside an on_data */

/* ---- small parts ---- */

static void enter(struct stream *s)
{
    s->depth++;
}

/* False when the stream is gone. */
static bool leave(struct stream *s)
{
    s->depth--;
    if (!s->freed)
        return true;
    if (s->depth == 0) {
        buf_free(&s->in);
        mem_free(&s);
    }
    return false;
}

/* The caller stands between enter() and leave(). */
void stream_event(struct stream *s, enum stream_event e)
{
    if (!s->freed)
        s->ops->on_event(s->ctx, e);
}

static bool reads(const struct stream *s)
{
    bool shaking = s->tls && !tls_is_up(s->tls);
    if (shaking && !s->lingering && tls_waits(s->tls))
        return false;
    return !s->eof && (s->lingering || (!s->finishing && (shaking || !s->paused)));
}

static void want(struct stream *s)
{
    if (s->freed || !s->io)
        return;
    unsigned events = reads(s) ? IO_READ : 0;
    if (outq_size(&s->wire))
        events |= IO_WRITE;
    io_want(s->io, s->broken ? 0 : events);
}

void stream_fail(struct stream *s, const char *fmt, ...)
{
    if (s->broken || s->freed)
        return;
    va_list ap;
    struct buf b = {0};
    va_start(ap, fmt);
    buf_vprintf(&b, fmt, ap);
    va_end(ap);
    buf_cstr(&b);
    s->error = b.p;
    s->broken = true;
    want(s);
}

/* Tells the owner that the stream broke, once. The caller stands between enter() and leave(). */
static void tell_broken(struct stream *s)
{
    if (!s->broken || s->broken_told || s->freed)
        return;
    s->broken_told = true;
    stream_event(s, s->finishing ? STREAM_FLUSHED : STREAM_ERROR);
}

/* A handshake has its time as a whole: its peer gains none by single bytes. */
static void progress(struct stream *s)
{
    if (s->timeout && !(s->tls && !tls_is_up(s->tls)))
        s->heard = loop_now(s->loop);
}

/* ---- output ---- */

static struct buf spare_out; /* one for all: a reply that leaves gives its room to the next */

static void give_room_back(struct buf *b)
{
    if (spare_out.p || b->cap > WIRE_SPARE) {
        buf_free(b);
        return;
    }
    spare_out = *b;
    *b = (struct buf){0};
}

void outq_took(struct outq *q, size_t n)
{
    q->off += n;
    if (q->off == q->b.n) {
        give_room_back(&q->b);
        q->off = 0;
    } else if (q->off >= WIRE_ENOUGH) {
        buf_drop(&q->b, q->off);
        q->off = 0;
    }
}

void outq_add(struct outq *q, struct span bytes)
{
    if (!q->b.p && spare_out.p) {
        q->b = spare_out;
        q->b.n = 0;
        spare_out = (struct buf){0};
    }
    if (!q->b.p)
        buf_room(&q->b, MAX_OF(bytes.n, (size_t)WIRE_FIRST));
    buf_add(&q->b, bytes);
}

/* Sends until all is sent or the socket is full. */
static void send_wire(struct stream *s)
{
    for (;;) {
        if (s->tls)
            tls_encrypt(s);
        if (outq_size(&s->wire) == 0 || s->fd < 0)
            return;
        ssize_t n = send(s->fd, s->wire.b.p + s->wire.off, outq_size(&s->wire), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == ENOBUFS))
            return;
        if (n < 0) {
            stream_fail(s, "%s", strerror(errno));
            return;
        }
        progress(s);
        outq_took(&s->wire, (size_t)n);
    }
}

static void shut_if_due(struct stream *s)
{
    if (!s->shut || s->shut_done || s->broken || stream_pending(s) || (s->tls && !tls_is_up(s->tls)))
        return;
    if (s->tls && !s->notified) {
        tls_close_notify(s);
        send_wire(s);
        if (stream_pending(s))
            return;
    }
    s->shut_done = true;
    shutdown(s->fd, SHUT_WR);
}

/* Everything was sent: lets a peer that is still sending come to its end before the socket is closed. */
static void finish_if_due(struct stream *s)
{
    if (!s->finishing || s->finished || s->lingering || s->broken || stream_pending(s))
        return;
    s->drained = false;
    s->calls = 1;
    ssize_t n = s->eof ? 0 : stream_recv(s, shared_in, sizeof shared_in);
    if (n <= 0) {
        s->finished = true;
        stream_event(s, STREAM_FLUSHED);
        return;
    }
    s->lingering = true;
    shutdown(s->fd, SHUT_WR);
    stream_timeout(s, LINGER_MS);
}

static void on_flush(void *ctx)
{
    struct stream *s = ctx;
    enter(s);
    if (!s->broken)
        send_wire(s);
    if (s->high && stream_pending(s) <= OUT_LOW && !s->broken) {
        s->high = false;
        stream_event(s, STREAM_DRAINED);
    }
    if (!s->freed) {
        shut_if_due(s);
        finish_if_due(s);
    }
    tell_broken(s);
    want(s);
    leave(s);
}

bool stream_write(struct stream *s, struct span bytes)
{
    if (s->broken || s->finishing || s->shut || s->freed)
        return true; /* the event is on its way, or the owner said it was done */
    outq_add(s->tls ? &s->plain : &s->wire, bytes);
    loop_defer(s->loop, &s->flush);
    if (stream_pending(s) > STREAM_OUT_HIGH)
        s->high = true;
    return !s->high;
}

size_t stream_pending(const struct stream *s)
{
    return outq_size(&s->wire) + outq_size(&s->plain);
}

void stream_flush(struct stream *s)
{
    if (s->broken || s->freed)
        return;
    send_wire(s);
    if (s->broken)
        loop_defer(s->loop, &s->pump);
    want(s);
}

void stream_finish(struct stream *s)
{
    if (s->finishing)
        return;
    if (s->tls && !tls_is_up(s->tls))
        buf_free(&s->plain.b); /* nothing can be said any more */
    else if (s->tls) {
        tls_encrypt(s);
        if (outq_size(&s->plain) == 0)
            tls_close_notify(s);
        else
            s->shut = true; /* the close_notify follows the rest */
    }
    s->finishing = true;
    if (!s->delivering)
        buf_free(&s->in);
    loop_defer(s->loop, &s->flush);
    if (s->broken)
        s->broken_told = false; /* the owner did not see it yet, or waits for STREAM_FLUSHED now */
    want(s);
}

void stream_shutdown_write(struct stream *s)
{
    s->shut = true;
    loop_defer(s->loop, &s->flush);
}

/* ---- input ---- */

ssize_t stream_recv(struct stream *s, void *to, size_t room)
{
    if (s->drained || s->calls == 0) {
        errno = EAGAIN;
        return -1;
    }
    s->calls--;
    ssize_t n;
    do
        n = recv(s->fd, to, room, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n > 0)
        progress(s);
    if (n < (ssize_t)room)
        s->drained = true;
    return n;
}

static enum pull pull_clear(struct stream *s, char *to, size_t room, size_t *got)
{
    ssize_t n = stream_recv(s, to, room);
    if (n > 0) {
        *got = (size_t)n;
        return PULL_DATA;
    }
    if (n == 0)
        return PULL_EOF;
    if (errno == EAGAIN)
        return PULL_AGAIN;
    stream_fail(s, "%s", strerror(errno));
    return PULL_ERROR;
}

static bool may_deliver(const struct stream *s)
{
    return !s->freed && !s->paused && !s->finishing && !s->broken && !s->switching;
}

/* Offers the bytes as long as some are used; returns how many were. */
static size_t offer(struct stream *s, struct span data)
{
    size_t used = 0;
    while (used < data.n && may_deliver(s)) {
        s->delivering = true;
        size_t n = s->ops->on_data(s->ctx, span_from(data, used));
        s->delivering = false;
        if (s->freed)
            return data.n;
        if (n > data.n - used)
            n = data.n - used;
        used += n;
        if (n == 0)
            break;
    }
    return used;
}

/* What was left of a clear-text span when TLS was started: never for on_data. RFC3207:4.2 */
void stream_discard(struct stream *s, size_t n)
{
    if (n == 0)
        return;
    s->discarded += n;
    LOGW("tls-injection", KVT("remote", stream_remote(s)), KVU("bytes", n));
}

static void after_switch(struct stream *s, size_t unused)
{
    s->switching = false;
    buf_free(&s->in);
    stream_discard(s, unused);
    loop_defer(s->loop, &s->pump);
}

/* Offers what was kept from before. */
static void offer_kept(struct stream *s)
{
    if (!s->in.n || !may_deliver(s))
        return;
    size_t used = offer(s, buf_span(&s->in));
    if (s->freed)
        return;
    if (s->switching) {
        after_switch(s, s->in.n - used);
        return;
    }
    buf_drop(&s->in, used);
    if (!s->in.n || s->finishing)
        buf_free(&s->in);
}

static void offer_fresh(struct stream *s, size_t n)
{
    size_t used = offer(s, span_make(shared_in, n));
    if (s->freed || s->finishing)
        return;
    if (s->switching)
        after_switch(s, n - used);
    else
        buf_add(&s->in, span_make(shared_in + used, n - used));
}

static enum pull pull_some(struct stream *s, char *to, size_t room, size_t *got)
{
    *got = 0;
    return s->tls ? tls_pull(s, to, room, got) : pull_clear(s, to, room, got);
}

/* One receive and what follows from it. */
static enum pull read_once(struct stream *s)
{
    size_t got;
    enum pull p;
    if (s->in.n >= STREAM_IN_MAX) {
        stream_fail(s, "too much input without a use for it");
        return PULL_ERROR;
    }
    p = pull_some(s, shared_in, sizeof shared_in - s->in.n, &got);
    if (p != PULL_DATA)
        return p;
    if (s->in.n == 0) {
        offer_fresh(s, got);
        return p;
    }
    buf_add(&s->in, span_make(shared_in, got));
    offer_kept(s);
    return p;
}

/* Reads until the socket has no more, somebody stops us, or it is the others' turn. */
static void read_data(struct stream *s)
{
    enum pull p = PULL_DATA;
    if (s->pump.pending)
        offer_kept(s); /* resumed earlier in this turn: what was kept comes first, and makes room */
    while (p == PULL_DATA && may_deliver(s) && !s->eof)
        p = read_once(s);
    if (!s->freed && p == PULL_EOF)
        s->eof = true;
    if (s->eof && !s->eof_told && may_deliver(s)) {
        s->eof_told = true;
        stream_event(s, STREAM_EOF);
    }
}

static void linger(struct stream *s)
{
    ssize_t n = stream_recv(s, shared_in, sizeof shared_in);
    if (n < 0 && errno == EAGAIN)
        return;
    s->lingered += n > 0 ? (size_t)n : 0;
    if (n > 0 && s->lingered < LINGER_BYTES)
        return;
    s->finished = true;
    s->lingering = false;
    s->eof = true;
    stream_event(s, STREAM_FLUSHED);
}

static void read_turn(struct stream *s)
{
    if (s->lingering) {
        linger(s);
        return;
    }
    if (s->finishing)
        return;
    if (s->tls && !tls_is_up(s->tls)) {
        if (!tls_shake(s))
            return;
        stream_event(s, STREAM_TLS_UP);
    }
    read_data(s);
}

/* What a turn of reading leaves: output of the handshake, a broken stream. */
static void settle(struct stream *s)
{
    if (s->freed)
        return;
    if (outq_size(&s->wire))
        loop_defer(s->loop, &s->flush);
    if (s->broken && !s->broken_told && outq_size(&s->wire) && s->tls)
        send(s->fd, s->wire.b.p + s->wire.off, outq_size(&s->wire), MSG_NOSIGNAL | MSG_DONTWAIT); /* the alert, if it fits */
    tell_broken(s);
    want(s);
}

static void on_io(void *ctx, unsigned events)
{
    struct stream *s = ctx;
    enter(s);
    if (events & IO_WRITE)
        loop_defer(s->loop, &s->flush);
    if ((events & IO_READ) && reads(s) && !s->broken) {
        s->drained = false;
        s->calls = READ_CALLS;
        read_turn(s);
    }
    settle(s);
    leave(s);
}

/* Input that is already here: kept bytes, or what TLS holds. No receive call. */
static void on_pump(void *ctx)
{
    struct stream *s = ctx;
    enter(s);
    s->drained = true;
    if (!s->broken && !s->lingering) {
        offer_kept(s);
        if (!s->freed && (s->tls || s->eof) && s->in.n < STREAM_IN_MAX)
            read_turn(s);
    }
    settle(s);
    leave(s);
}

bool stream_has_spoken(const struct stream *s)
{
    char c;
    return recv(s->fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

void stream_pause(struct stream *s)
{
    s->paused = true;
    want(s);
}

void stream_resume(struct stream *s)
{
    s->paused = false;
    if (s->in.n || (s->eof && !s->eof_told) || (s->tls && tls_holds_input(s->tls)))
        loop_defer(s->loop, &s->pump);
    want(s);
}

/* ---- the idle timer: moved when it fires, not at every input ---- */

static void on_timer(void *ctx)
{
    struct stream *s = ctx;
    int64_t left = s->heard + s->timeout - loop_now(s->loop);
    if (!s->timeout || s->broken)
        return;
    if (left > 0) {
        timer_start(s->timer, left);
        return;
    }
    enter(s);
    s->timeout = 0;
    if (s->lingering || s->finishing) {
        s->finished = true;
        s->lingering = false;
        stream_event(s, STREAM_FLUSHED);
    } else
        stream_event(s, STREAM_TIMEOUT);
    leave(s);
}

void stream_timeout(struct stream *s, int64_t ms)
{
    bool sooner = ms && (!s->timeout || ms < s->timeout);
    s->timeout = ms;
    s->heard = loop_now(s->loop);
    if (!ms) {
        if (s->timer)
            timer_stop(s->timer);
        return;
    }
    if (!s->timer)
        s->timer = timer_new(s->loop, on_timer, s);
    if (sooner || !timer_running(s->timer))
        timer_start(s->timer, ms);
}

/* ---- life ---- */

struct stream *stream_new(struct loop *l, int fd, const struct stream_ops *ops, void *ctx)
{
    struct stream *s = mem_alloc(sizeof *s);
    s->loop = l;
    s->fd = fd;
    s->ops = ops;
    s->ctx = ctx;
    s->flush = (struct defer){.fn = on_flush, .ctx = s};
    s->pump = (struct defer){.fn = on_pump, .ctx = s};
    s->io = io_new(l, fd, on_io, s);
    if (!s->io) {
        stream_fail(s, "the kernel does not watch this descriptor");
        loop_defer(l, &s->pump);
    }
    want(s);
    return s;
}

void stream_free(struct stream **sp)
{
    struct stream *s = *sp;
    *sp = NULL;
    if (!s || s->freed)
        return;
    s->freed = true;
    io_free(&s->io);
    timer_free(&s->timer);
    loop_defer_cancel(s->loop, &s->flush);
    loop_defer_cancel(s->loop, &s->pump);
    tls_half_free(s);
    close(s->fd);
    s->fd = -1;
    buf_free(&s->wire.b);
    buf_free(&s->plain.b);
    mem_free(&s->error);
    mem_free(&s->remote);
    mem_free(&s->local);
    if (s->depth == 0) {
        buf_free(&s->in);
        mem_free(&s);
    }
}

const char *stream_error(const struct stream *s)
{
    return s->error ? s->error : "";
}

size_t stream_discarded(const struct stream *s)
{
    return s->discarded;
}
