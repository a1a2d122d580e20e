/* Channels. What is sent leaves at the end of the loop's turn, up to FRAME_BATCH frames a call; what is received is handled straight from
 * one buffer that the process shares between its channels. Trusts nothing that comes: see msg_decode(). */
#include "ipc/chan.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "ipc/frame.h"

#define RECV_BATCH 64        /* frames handled before other descriptors get their turn */
#define TICK_MS 500          /* how exactly deadlines are kept; the shortest is some seconds */
#define SEND_RETRY_MS 20     /* after ETOOMANYREFS or ENOBUFS, which no poll reports the end of */
#define SOCKET_BUFFER 1048576

struct out_frame {
    struct link link;
    size_t n;
    int fd;
    char bytes[];
};

struct ask {
    struct link link; /* in chan.asked[type], oldest first: one type has one deadline */
    uint64_t id;
    int64_t until;
    enum msg_type last; /* with on_part: the type that ends it */
    chan_answer_fn *fn, *on_part;
    void *ctx;
};

struct chan {
    struct loop *loop;
    int fd; /* -1: down */
    enum role peer;
    uint32_t instance, epoch;
    const struct chan_ops *ops;
    void *ctx;
    struct io *io;
    struct timer *tick, *retry;
    struct defer flush;
    struct link out;
    size_t out_bytes;
    struct idmap asks;
    struct link asked[MSG__COUNT];
    uint64_t next_id;
    bool was_full;
    unsigned busy; /* inside a callback of ours */
    bool freed;    /* chan_free() came while busy */
};

static char recv_buffer[IPC_FRAME_MAX + 1]; /* one more, so that an oversized frame shows */

static void on_flush(void *ctx);
static void on_io(void *ctx, unsigned events);
static void on_tick(void *ctx);
static void on_retry(void *ctx);

/* ---- life ---- */

struct chan *chan_new(struct loop *l, int fd, enum role peer, uint32_t instance, const struct chan_ops *ops, void *ctx)
{
    struct chan *c = mem_alloc(sizeof *c);
    c->loop = l;
    c->fd = -1;
    c->peer = peer;
    c->instance = instance;
    c->ops = ops;
    c->ctx = ctx;
    c->flush = (struct defer){.fn = on_flush, .ctx = c};
    c->tick = timer_new(l, on_tick, c);
    c->retry = timer_new(l, on_retry, c);
    list_init(&c->out);
    for (size_t i = 0; i < MSG__COUNT; i++)
        list_init(&c->asked[i]);
    if (fd >= 0)
        chan_connect(c, fd);
    return c;
}

static void drop_frame(struct chan *c, struct out_frame *f)
{
    list_del(&f->link);
    c->out_bytes -= f->n;
    if (f->fd >= 0)
        close(f->fd);
    mem_free(&f);
}

static void end_ask(struct chan *c, struct ask *a, enum chan_why why, const struct msg *m, int fd)
{
    list_del(&a->link);
    idmap_del(&c->asks, a->id);
    if (c->asks.count == 0)
        timer_stop(c->tick);
    a->fn(a->ctx, c, why, m, fd);
    mem_free(&a);
}

static struct ask *oldest_ask(struct chan *c, uint64_t below)
{
    for (size_t i = 0; i < MSG__COUNT; i++)
        if (!list_empty(&c->asked[i])) {
            struct ask *a = container_of(c->asked[i].next, struct ask, link);
            if (a->id < below)
                return a;
        }
    return NULL;
}

/* Ends every request made so far; those that the callbacks make now stay. */
static void end_all_asks(struct chan *c)
{
    uint64_t below = c->next_id + 1;
    struct ask *a;
    while ((a = oldest_ask(c, below)) != NULL)
        end_ask(c, a, CHAN_GONE, NULL, -1);
}

static void close_pair(struct chan *c)
{
    io_free(&c->io);
    close(c->fd);
    c->fd = -1;
    timer_stop(c->retry);
    LIST_EACH(&c->out, l)
        drop_frame(c, container_of(l, struct out_frame, link));
}

static void release(struct chan *c)
{
    if (--c->busy > 0 || !c->freed)
        return;
    mem_free(&c);
}

static void go_down(struct chan *c)
{
    if (c->fd < 0)
        return;
    c->busy++;
    close_pair(c);
    end_all_asks(c);
    if (c->ops->on_down && !c->freed)
        c->ops->on_down(c->ctx, c);
    release(c);
}

void chan_connect(struct chan *c, int fd)
{
    c->busy++;
    if (c->fd >= 0) {
        close_pair(c);
        end_all_asks(c);
    }
    c->epoch++;
    c->fd = fd;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    c->io = io_new(c->loop, fd, on_io, c);
    if (!c->io) {
        close(fd);
        c->fd = -1;
        LOGE("channel-refused", KVT("peer", role_name(c->peer)));
    } else {
        io_want(c->io, IO_READ);
        if (!list_empty(&c->out))
            loop_defer(c->loop, &c->flush);
        if (c->ops->on_up)
            c->ops->on_up(c->ctx, c);
    }
    release(c);
}

void chan_missed(struct chan *c)
{
    c->busy++;
    c->epoch++;
    if (c->fd >= 0) {
        close_pair(c);
        end_all_asks(c);
    }
    if (c->ops->on_down && !c->freed)
        c->ops->on_down(c->ctx, c);
    release(c);
}

void chan_free(struct chan **cp)
{
    struct chan *c = *cp;
    *cp = NULL;
    if (!c || c->freed)
        return;
    c->busy++;
    c->freed = true;
    if (c->fd >= 0)
        close_pair(c);
    LIST_EACH(&c->out, l)
        drop_frame(c, container_of(l, struct out_frame, link));
    end_all_asks(c);
    loop_defer_cancel(c->loop, &c->flush);
    timer_free(&c->tick);
    timer_free(&c->retry);
    idmap_free(&c->asks);
    release(c);
}

/* ---- questions about it ---- */

enum role chan_peer(const struct chan *c)
{
    return c->peer;
}

uint32_t chan_instance(const struct chan *c)
{
    return c->instance;
}

bool chan_is_up(const struct chan *c)
{
    return c->fd >= 0;
}

uint32_t chan_epoch(const struct chan *c)
{
    return c->epoch;
}

size_t chan_open(const struct chan *c)
{
    return c->asks.count;
}

bool chan_full(const struct chan *c)
{
    return c->asks.count >= CHAN_OPEN_MAX || c->out_bytes >= CHAN_QUEUE_BYTES;
}

static void tell_room(struct chan *c)
{
    if (chan_full(c)) {
        c->was_full = true;
    } else if (c->was_full && c->asks.count < CHAN_OPEN_MAX / 2 && c->out_bytes < CHAN_QUEUE_BYTES / 2) {
        c->was_full = false;
        if (c->ops->on_room && !c->freed)
            c->ops->on_room(c->ctx, c);
    }
}

/* ---- sending ---- */

static int enqueue(struct chan *c, const struct msg *m, int fd)
{
    static struct buf encoded; /* kept: its room is used again and again */
    struct err err;
    buf_clear(&encoded);
    if (msg_encode(m, &encoded, &err)) {
        LOGE("message-over-limit", KVT("peer", role_name(c->peer)), KVT("why", err.text));
        return -1;
    }
    struct out_frame *f = mem_resize(NULL, sizeof *f + encoded.n);
    f->n = encoded.n;
    memcpy(f->bytes, encoded.p, encoded.n);
    f->fd = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -1;
    if (fd >= 0 && f->fd < 0) {
        LOGE("descriptor-not-passed", KVT("peer", role_name(c->peer)), KVT("why", strerror(errno)));
        mem_free(&f);
        return -1;
    }
    list_add_tail(&c->out, &f->link);
    c->out_bytes += f->n;
    if (c->out_bytes >= CHAN_QUEUE_BYTES)
        c->was_full = true;
    if (c->fd >= 0)
        loop_defer(c->loop, &c->flush);
    return 0;
}

static unsigned fill_batch(struct chan *c, struct frame_out batch[FRAME_BATCH])
{
    unsigned n = 0;
    for (struct link *l = c->out.next; l != &c->out && n < FRAME_BATCH; l = l->next) {
        struct out_frame *f = container_of(l, struct out_frame, link);
        batch[n++] = (struct frame_out){f->bytes, f->n, f->fd};
    }
    return n;
}

void chan_flush(struct chan *c)
{
    while (c->fd >= 0 && !list_empty(&c->out)) {
        struct frame_out batch[FRAME_BATCH];
        int sent = frame_send(c->fd, batch, fill_batch(c, batch), false);
        if (sent < 0 && errno == EAGAIN) {
            io_want(c->io, IO_READ | IO_WRITE);
            return;
        }
        if (sent < 0 && (errno == ETOOMANYREFS || errno == ENOBUFS || errno == ENOMEM)) {
            io_want(c->io, IO_READ);
            timer_start(c->retry, SEND_RETRY_MS);
            return;
        }
        if (sent < 0 && (errno == EPIPE || errno == ECONNRESET)) {
            io_want(c->io, IO_READ); /* the peer is gone; its last words are read before its end is */
            return;
        }
        if (sent < 0) {
            go_down(c);
            return;
        }
        for (int i = 0; i < sent; i++)
            drop_frame(c, container_of(c->out.next, struct out_frame, link));
    }
    if (c->fd >= 0)
        io_want(c->io, IO_READ);
}

static void on_flush(void *ctx)
{
    struct chan *c = ctx;
    c->busy++;
    chan_flush(c);
    if (!c->freed)
        tell_room(c);
    release(c);
}

static void on_retry(void *ctx)
{
    on_flush(ctx);
}

int chan_say(struct chan *c, const struct msg *m, int fd)
{
    if (c->fd < 0 || c->freed)
        return 0;
    return enqueue(c, m, fd);
}

uint64_t chan_ask(struct chan *c, const struct msg *m, int fd, chan_answer_fn *fn, void *ctx)
{
    return chan_ask_many(c, m, fd, fn, NULL, MSG_none, ctx);
}

uint64_t chan_ask_many(struct chan *c, const struct msg *m, int fd, chan_answer_fn *fn, chan_answer_fn *on_part, enum msg_type last,
                       void *ctx)
{
    struct msg out = *m;
    out.id = ++c->next_id;
    out.answer = false;
    if (c->freed || enqueue(c, &out, fd))
        return 0;
    struct ask *a = mem_alloc(sizeof *a);
    a->id = out.id;
    a->fn = fn;
    a->on_part = on_part;
    a->last = last;
    a->ctx = ctx;
    a->until = loop_now(c->loop) + msg_info((unsigned)m->type)->deadline;
    list_add_tail(&c->asked[m->type], &a->link);
    idmap_put(&c->asks, a->id, a);
    if (c->asks.count == 1)
        timer_start(c->tick, TICK_MS);
    if (c->asks.count >= CHAN_OPEN_MAX)
        c->was_full = true;
    return a->id;
}

void chan_forget(struct chan *c, uint64_t id)
{
    struct ask *a = idmap_del(&c->asks, id);
    if (!a)
        return;
    list_del(&a->link);
    mem_free(&a);
}

int chan_answer(struct chan *c, uint32_t epoch, uint64_t id, const struct msg *m, int fd)
{
    struct msg out = *m;
    if (c->fd < 0 || c->freed || epoch != c->epoch || id == 0)
        return 0;
    out.id = id;
    out.answer = true;
    return enqueue(c, &out, fd);
}

static void on_tick(void *ctx)
{
    struct chan *c = ctx;
    int64_t now = loop_now(c->loop);
    c->busy++;
    for (size_t i = 0; i < MSG__COUNT && !c->freed; i++)
        while (!c->freed && !list_empty(&c->asked[i])) {
            struct ask *a = container_of(c->asked[i].next, struct ask, link);
            if (a->until > now)
                break;
            LOGW("answer-late", KVT("peer", role_name(c->peer)), KVT("message", msg_info((unsigned)i)->name));
            end_ask(c, a, CHAN_LATE, NULL, -1);
        }
    if (!c->freed && c->asks.count)
        timer_start(c->tick, TICK_MS);
    if (!c->freed)
        tell_room(c);
    release(c);
}

/* ---- receiving ---- */

static void take_answer(struct chan *c, const struct msg *m, int fd)
{
    struct ask *a = idmap_get(&c->asks, m->id);
    if (!a) { /* late, or forgotten */
        if (fd >= 0)
            close(fd);
        return;
    }
    if (m->type == MSG_no_descriptor)
        end_ask(c, a, CHAN_LOST, NULL, -1);
    else if (a->on_part && m->type != a->last)
        a->on_part(a->ctx, c, CHAN_ANSWERED, m, fd);
    else
        end_ask(c, a, CHAN_ANSWERED, m, fd);
}

/* A frame is here and its descriptor is not, because this process has no room for one more. Only what hung on it fails. */
static void take_lost(struct chan *c, const struct msg *m)
{
    LOGW("descriptor-lost", KVT("peer", role_name(c->peer)), KVT("message", msg_info((unsigned)m->type)->name),
         KVT("mend", "it goes on by itself; raise LimitNOFILE or lower max-connections"));
    struct ask *a = m->answer ? idmap_get(&c->asks, m->id) : NULL;
    if (a)
        end_ask(c, a, CHAN_LOST, NULL, -1);
    else if (!m->answer && m->id)
        chan_answer(c, c->epoch, m->id, &(struct msg){.type = MSG_no_descriptor}, -1);
    else if (!m->answer && c->ops->on_lost)
        c->ops->on_lost(c->ctx, c, m);
    else if (!m->answer)
        go_down(c);
}

/* False: the channel is not to be read any further now. */
static bool receive_one(struct chan *c)
{
    size_t n = 0;
    int fd = -1;
    struct msg m;
    struct err err = {"truncated, or too many descriptors"};
    enum frame_status st = frame_recv(c->fd, recv_buffer, sizeof recv_buffer, false, &n, &fd);
    if (st == FRAME_AGAIN)
        return false;
    if (st == FRAME_END) {
        go_down(c);
        return false;
    }
    if (st == FRAME_BAD || msg_decode(span_make(recv_buffer, n), c->peer, fd >= 0 || st == FRAME_LOST, &m, &err)) {
        if (fd >= 0)
            close(fd);
        LOGE("bad-frame", KVT("peer", role_name(c->peer)), KVU("instance", c->instance), KVT("why", err.text));
        go_down(c);
        return false;
    }
    if (st == FRAME_LOST)
        take_lost(c, &m);
    else if (m.answer)
        take_answer(c, &m, fd);
    else
        c->ops->on_msg(c->ctx, c, &m, fd);
    return true;
}

static void on_io(void *ctx, unsigned events)
{
    struct chan *c = ctx;
    uint32_t epoch = c->epoch;
    c->busy++;
    if (events & IO_WRITE)
        chan_flush(c);
    if (events & IO_READ)
        for (int i = 0; i < RECV_BATCH && !c->freed && c->fd >= 0 && c->epoch == epoch; i++)
            if (!receive_one(c))
                break;
    if (!c->freed)
        tell_room(c);
    release(c);
}

/* ---- pairs, and frames without a loop ---- */

int chan_pair(int fds[2], struct err *err)
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds))
        return err_errno(err, "socketpair");
    int size = SOCKET_BUFFER;
    for (int i = 0; i < 2; i++)
        if (setsockopt(fds[i], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size))
            setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof size); /* the kernel clips it: its default holds a frame, too */
    return 0;
}

int chan_send_now(int fd, const struct msg *m, int pass_fd, struct err *err)
{
    struct buf b = {0};
    if (msg_encode(m, &b, err))
        return -1;
    struct frame_out out = {b.p, b.n, pass_fd};
    int r = frame_send(fd, &out, 1, true);
    buf_free(&b);
    return r == 1 ? 0 : err_errno(err, "sending %s", msg_info((unsigned)m->type)->name);
}

int chan_recv_now(int fd, enum role sender, struct buf *in, struct msg *m, int *got_fd, struct err *err)
{
    size_t n = 0;
    buf_clear(in);
    buf_room(in, IPC_FRAME_MAX + 1);
    *got_fd = -1;
    switch (frame_recv(fd, in->p, IPC_FRAME_MAX + 1, true, &n, got_fd)) {
    case FRAME_END:
        return 0;
    case FRAME_GOT:
        break;
    case FRAME_AGAIN: /* a receive time-out was set on the socket */
        return err_set(err, "no answer in time");
    case FRAME_LOST:
        return err_set(err, "no descriptor left: raise LimitNOFILE");
    case FRAME_BAD:
        return err_set(err, "bad frame");
    }
    in->n = n;
    if (msg_decode(buf_span(in), sender, *got_fd >= 0, m, err)) {
        if (*got_fd >= 0)
            close(*got_fd);
        *got_fd = -1;
        return -1;
    }
    return 1;
}
