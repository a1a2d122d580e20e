/* Exactly the header is read from the socket, so that TLS or the protocol finds its own first byte. */
#include "net/proxied.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/proxy.h"

struct proxied {
    struct loop *loop;
    listener_fn *fn;
    void *ctx;
    void (*room)(void *ctx, bool there);
    void *room_ctx;
    struct link waiting;
    unsigned count;
    bool busy, freed;
};

struct guest {
    struct link link;
    struct proxied *p;
    struct io *io;
    struct timer *timer;
    int fd;
    struct sockaddr_storage peer;
    struct buf head;
};

static void guest_free(struct guest *g)
{
    struct proxied *p = g->p;
    list_del(&g->link);
    io_free(&g->io);
    timer_free(&g->timer);
    buf_free(&g->head);
    if (g->fd >= 0)
        close(g->fd);
    mem_free(&g);
    if (p->count-- == PROXIED_MAX && !p->freed)
        p->room(p->room_ctx, true);
}

static void turn_away(struct guest *g, const char *why)
{
    char text[INET6_ADDRSTRLEN] = "?";
    const struct sockaddr_storage *a = &g->peer;
    inet_ntop(a->ss_family,
              a->ss_family == AF_INET6 ? (const void *)&((const struct sockaddr_in6 *)a)->sin6_addr
                                       : (const void *)&((const struct sockaddr_in *)a)->sin_addr,
              text, sizeof text);
    LOGW("proxy-refused", KVT("proxy", text), KVT("why", why));
    guest_free(g);
}

/* The header is whole and read: the connection is its client's from here on. */
static void let_in(struct guest *g, const struct proxy_header *h)
{
    struct proxied *p = g->p;
    struct sockaddr_storage peer = h->known ? h->source : g->peer;
    int fd = g->fd;
    g->fd = -1;
    guest_free(g);
    p->busy = true;
    p->fn(p->ctx, fd, &peer);
    p->busy = false;
    if (p->freed)
        mem_free(&p);
}

/* Takes what was looked at off the socket; it is there. */
static bool take(struct guest *g, size_t n)
{
    ssize_t got = recv(g->fd, buf_room(&g->head, n), n, 0);
    if (got > 0)
        g->head.n += (size_t)got;
    return got == (ssize_t)n;
}

static void on_ready(void *ctx, unsigned events)
{
    (void)events;
    struct guest *g = ctx;
    char seen[PROXY_V2_MAX];
    struct proxy_header h;
    size_t used, had = g->head.n;
    ssize_t n = recv(g->fd, seen, sizeof seen - had, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        turn_away(g, n < 0 ? strerror(errno) : "it closed before its header was whole");
        return;
    }
    buf_add(&g->head, span_make(seen, (size_t)n));
    enum proxy_result r = proxy_parse(buf_span(&g->head), &h, &used);
    g->head.n = had;
    if (r == PROXY_BAD)
        turn_away(g, "what it sends begins with no PROXY header: let it send one, or say \"proxy no;\" there");
    else if (!take(g, r == PROXY_DONE ? used - had : (size_t)n))
        turn_away(g, "its header could not be read");
    else if (r == PROXY_DONE)
        let_in(g, &h);
}

static void on_late(void *ctx)
{
    turn_away(ctx, "no PROXY header came in time");
}

void proxied_take(struct proxied *p, int fd, const struct sockaddr_storage *peer)
{
    struct guest *g = mem_alloc(sizeof *g);
    *g = (struct guest){.p = p, .fd = fd, .peer = *peer};
    list_add_tail(&p->waiting, &g->link);
    g->timer = timer_new(p->loop, on_late, g);
    timer_start(g->timer, PROXIED_MS);
    g->io = io_new(p->loop, fd, on_ready, g);
    if (++p->count == PROXIED_MAX)
        p->room(p->room_ctx, false);
    if (g->io)
        io_want(g->io, IO_READ);
    else
        turn_away(g, "the kernel does not watch this descriptor");
}

struct proxied *proxied_new(struct loop *l, listener_fn *fn, void *ctx, void (*room)(void *ctx, bool there),
                            void *room_ctx)
{
    struct proxied *p = mem_alloc(sizeof *p);
    *p = (struct proxied){.loop = l, .fn = fn, .ctx = ctx, .room = room, .room_ctx = room_ctx};
    list_init(&p->waiting);
    return p;
}

void proxied_free(struct proxied **pp)
{
    struct proxied *p = *pp;
    *pp = NULL;
    if (!p)
        return;
    p->freed = true;
    LIST_EACH(&p->waiting, l)
    guest_free(container_of(l, struct guest, link));
    if (!p->busy)
        mem_free(&p);
}
