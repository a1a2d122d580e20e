/* Connecting to the first of several addresses that answers: one socket and one timer at a time. */
#include "net/dial.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <unistd.h>

#include "base/mem.h"

struct dial {
    struct loop *loop;
    dial_fn *fn;
    void *ctx;
    struct sockaddr_storage *list;
    size_t count, at;
    int64_t each_ms;
    bool has4, has6;
    struct sockaddr_in source4;
    struct sockaddr_in6 source6;
    int fd; /* being connected, -1: none */
    struct io *io;
    struct timer *timer;
    struct defer begin; /* the first address is tried at the end of the turn, so that fn is never called from inside dial_start() */
    struct err why;
};

static void try_next(struct dial *d);

static socklen_t length_of(const struct sockaddr_storage *a)
{
    return a->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
}

static void close_current(struct dial *d)
{
    io_free(&d->io);
    if (d->fd >= 0)
        close(d->fd);
    d->fd = -1;
}

static void dial_free(struct dial *d)
{
    close_current(d);
    timer_free(&d->timer);
    loop_defer_cancel(d->loop, &d->begin);
    mem_free(&d->list);
    mem_free(&d);
}

static void finish(struct dial *d, size_t which)
{
    int fd = d->fd;
    struct err why = d->why;
    dial_fn *fn = d->fn;
    void *ctx = d->ctx;
    io_free(&d->io);
    d->fd = -1;
    dial_free(d);
    fn(ctx, fd, which, &why);
}

/* This address did not work: on to the one after it. */
static void leave_current(struct dial *d, int error)
{
    char text[DIAL_TEXT_MAX];
    dial_address_text(&d->list[d->at], text);
    errno = error;
    err_errno(&d->why, "connect to %s", text);
    close_current(d);
    d->at++;
}

static void connected(struct dial *d)
{
    int on = 1;
    setsockopt(d->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* output is gathered by the stream, one write a turn */
    finish(d, d->at);
}

static void on_writable(void *ctx, unsigned events)
{
    struct dial *d = ctx;
    (void)events;
    int error = 0;
    socklen_t n = sizeof error;
    if (getsockopt(d->fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0)
        error = errno;
    if (error == 0) {
        connected(d);
        return;
    }
    leave_current(d, error);
    try_next(d);
}

static void on_late(void *ctx)
{
    leave_current(ctx, ETIMEDOUT);
    try_next(ctx);
}

static int bind_source(const struct dial *d, int family)
{
    int on = 1;
    if (family == AF_INET6 ? !d->has6 : !d->has4)
        return 0;
    setsockopt(d->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on); /* the port is chosen by connect(): more of them */
    return family == AF_INET6 ? bind(d->fd, (const struct sockaddr *)&d->source6, sizeof d->source6)
                              : bind(d->fd, (const struct sockaddr *)&d->source4, sizeof d->source4);
}

/* 0 when the connection is on its way or made, else errno. */
static int start_one(struct dial *d)
{
    const struct sockaddr_storage *a = &d->list[d->at];
    d->fd = socket(a->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (d->fd < 0 || bind_source(d, a->ss_family) < 0)
        return errno;
    if (connect(d->fd, (const struct sockaddr *)a, length_of(a)) < 0 && errno != EINPROGRESS && errno != EINTR)
        return errno;
    d->io = io_new(d->loop, d->fd, on_writable, d);
    if (!d->io)
        return EMFILE;
    io_want(d->io, IO_WRITE);
    timer_start(d->timer, d->each_ms);
    return 0;
}

static void try_next(struct dial *d)
{
    timer_stop(d->timer);
    while (d->at < d->count) {
        int error = start_one(d);
        if (error == 0)
            return;
        leave_current(d, error);
    }
    finish(d, d->count ? d->count - 1 : 0);
}

static void begin(void *ctx)
{
    try_next(ctx);
}

struct dial *dial_start(struct loop *l, const struct sockaddr_storage *list, size_t count, const struct dial_options *o, dial_fn *fn, void *ctx)
{
    struct dial *d = mem_alloc(sizeof *d);
    d->loop = l;
    d->fn = fn;
    d->ctx = ctx;
    d->fd = -1;
    d->count = count;
    d->each_ms = o->each_ms ? o->each_ms : DIAL_EACH_MS;
    d->has4 = o->source4 != NULL;
    d->has6 = o->source6 != NULL;
    if (d->has4)
        d->source4 = *o->source4;
    if (d->has6)
        d->source6 = *o->source6;
    d->list = mem_array(count ? count : 1, sizeof *list);
    if (count)
        memcpy(d->list, list, count * sizeof *list);
    d->timer = timer_new(l, on_late, d);
    err_set(&d->why, "no address to connect to");
    d->begin = (struct defer){.fn = begin, .ctx = d};
    loop_defer(l, &d->begin);
    return d;
}

void dial_cancel(struct dial **dp)
{
    struct dial *d = *dp;
    *dp = NULL;
    if (d)
        dial_free(d);
}

void dial_address_text(const struct sockaddr_storage *a, char out[DIAL_TEXT_MAX])
{
    const void *raw = a->ss_family == AF_INET6 ? (const void *)&((const struct sockaddr_in6 *)a)->sin6_addr
                                               : (const void *)&((const struct sockaddr_in *)a)->sin_addr;
    if ((a->ss_family != AF_INET && a->ss_family != AF_INET6) || !inet_ntop(a->ss_family, raw, out, DIAL_TEXT_MAX))
        snprintf(out, DIAL_TEXT_MAX, "?");
}

bool dial_address_parse(struct span text, uint16_t port, struct sockaddr_storage *out)
{
    char copy[DIAL_TEXT_MAX];
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    if (text.n == 0 || text.n >= sizeof copy || memchr(text.p, 0, text.n))
        return false;
    memcpy(copy, text.p, text.n);
    copy[text.n] = '\0';
    memset(out, 0, sizeof *out);
    if (inet_pton(AF_INET, copy, &in.sin_addr) == 1) {
        memcpy(out, &in, sizeof in);
        return true;
    }
    if (inet_pton(AF_INET6, copy, &in6.sin6_addr) == 1) {
        memcpy(out, &in6, sizeof in6);
        return true;
    }
    return false;
}
