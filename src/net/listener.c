/* Accepting. At light load one accept4() for each wake-up and no call that finds nothing; when every call of a
 * wake-up found a connection, the next wake-up may take twice as many. HAZARDS 10. */
#include "net/listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/client.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/util.h"
#include "net/proxied.h"

/* Descriptors that no new connection gets: who is inside needs them, for spool files, for the way to a mailbox, for a fresh channel. */
#define KEPT 64

struct listener {
    struct loop *loop;
    struct io *io;
    struct timer *rest;
    int fd;
    int end;     /* connections are taken while their descriptor is below */
    int reserve; /* gives one descriptor back when there is no other; -1: spent */
    listener_fn *fn;
    void *ctx;
    unsigned budget;
    listener_trust_fn *trust; /* NULL: no PROXY headers */
    struct proxied *proxied;
    bool paused, resting, busy, freed, full;
    bool told; /* that there is no room, in the log: once until there is */
};

static void watch(struct listener *ln)
{
    io_want(ln->io, ln->paused || ln->resting || ln->full ? 0 : IO_READ);
}

static void rested(void *ctx)
{
    struct listener *ln = ctx;
    ln->resting = false;
    if (ln->reserve < 0)
        ln->reserve = fcntl(ln->fd, F_DUPFD_CLOEXEC, 3);
    watch(ln);
}

/* Takes one connection with the reserved descriptor and closes it, so that its client learns at once. */
static void shed_one(struct listener *ln)
{
    if (ln->reserve < 0)
        return;
    close(ln->reserve);
    int fd = accept4(ln->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0)
        close(fd);
    ln->reserve = fcntl(ln->fd, F_DUPFD_CLOEXEC, 3);
}

static void out_of_room(struct listener *ln, int error)
{
    if (!ln->told)
        LOGW("accept-failed", KVT("error", strerror(error)), KVT("mend", "it goes on by itself; raise LimitNOFILE or lower max-connections"));
    ln->told = true;
    ln->resting = true;
    ln->budget = 1;
    watch(ln);
    timer_start(ln->rest, LISTENER_REST_MS);
}

static void plain_ipv4(struct sockaddr_storage *a)
{
    const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)a;
    if (a->ss_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&six->sin6_addr))
        return;
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = six->sin6_port};
    memcpy(&four.sin_addr, six->sin6_addr.s6_addr + 12, 4);
    memcpy(a, &four, sizeof four);
}

static void arrived(struct listener *ln, int fd, const struct sockaddr_storage *peer)
{
    if (!ln->trust) {
        ln->fn(ln->ctx, fd, peer);
    } else if (ln->trust(ln->ctx, peer)) {
        proxied_take(ln->proxied, fd, peer);
    } else {
        char text[INET6_ADDRSTRLEN] = "?";
        inet_ntop(peer->ss_family,
                  peer->ss_family == AF_INET6 ? (const void *)&((const struct sockaddr_in6 *)peer)->sin6_addr
                                              : (const void *)&((const struct sockaddr_in *)peer)->sin_addr,
                  text, sizeof text);
        LOGW("proxy-refused", KVT("proxy", text), KVT("why", "it is not in proxy-from"));
        close(fd);
    }
}

/* True when there may be more. */
static bool take_one(struct listener *ln)
{
    struct sockaddr_storage peer = {0};
    socklen_t n = sizeof peer;
    int fd = accept4(ln->fd, (struct sockaddr *)&peer, &n, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= ln->end) { /* descriptors are given from below: so many are in use */
        close(fd);
        out_of_room(ln, EMFILE);
        return false;
    }
    if (fd >= 0) {
        if (ln->told)
            LOGI("accept-again");
        ln->told = false;
        plain_ipv4(&peer);
        arrived(ln, fd, &peer);
        return true;
    }
    int error = errno;
    switch (error) {
    case EAGAIN:
        ln->budget = 1;
        return false;
    case EMFILE:
    case ENFILE:
        shed_one(ln);
        out_of_room(ln, error);
        return false;
    case ENOBUFS:
    case ENOMEM:
        out_of_room(ln, error);
        return false;
    case EINVAL: /* not listening any more: nothing will ever come */
    case EBADF:
        LOGE("accept-failed", KVT("error", strerror(error)));
        ln->paused = true;
        watch(ln);
        return false;
    default: /* the connection died in the queue (ECONNABORTED and errors of its network) */
        return true;
    }
}

static void on_ready(void *ctx, unsigned events)
{
    struct listener *ln = ctx;
    (void)events;
    ln->busy = true;
    unsigned budget = ln->budget, taken = 0;
    bool more = true;
    while (taken < budget && more && !ln->paused && !ln->full && !ln->freed) {
        more = take_one(ln);
        taken++;
    }
    ln->busy = false;
    if (ln->freed) {
        mem_free(&ln);
        return;
    }
    if (more)
        ln->budget = MIN_OF(budget * 2, (unsigned)LISTENER_BURST);
}

static void inherited_options(int fd)
{
    int on = 1;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* output is gathered by the stream, one write a turn */
}

/* Of a small limit, a quarter is kept. */
static int end_of_ours(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) || r.rlim_cur > INT_MAX)
        return INT_MAX;
    return (int)(r.rlim_cur - MIN_OF((rlim_t)KEPT, r.rlim_cur / 4));
}

struct listener *listener_new(struct loop *l, int fd, listener_fn *fn, void *ctx)
{
    struct listener *ln = mem_alloc(sizeof *ln);
    ln->io = io_new(l, fd, on_ready, ln);
    if (!ln->io) {
        mem_free(&ln);
        return NULL;
    }
    inherited_options(fd);
    ln->loop = l;
    ln->fd = fd;
    ln->end = end_of_ours();
    ln->fn = fn;
    ln->ctx = ctx;
    ln->budget = 1;
    ln->reserve = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    ln->rest = timer_new(l, rested, ln);
    watch(ln);
    return ln;
}

static void on_proxied_room(void *ctx, bool there)
{
    struct listener *ln = ctx;
    ln->full = !there;
    watch(ln);
}

void listener_proxied(struct listener *ln, listener_trust_fn *trust)
{
    ln->trust = trust;
    ln->proxied = proxied_new(ln->loop, ln->fn, ln->ctx, on_proxied_room, ln);
}

void listener_free(struct listener **lnp)
{
    struct listener *ln = *lnp;
    *lnp = NULL;
    if (!ln)
        return;
    proxied_free(&ln->proxied);
    io_free(&ln->io);
    timer_free(&ln->rest);
    if (ln->reserve >= 0)
        close(ln->reserve);
    if (ln->busy)
        ln->freed = true;
    else
        mem_free(&ln);
}

void listener_pause(struct listener *ln)
{
    ln->paused = true;
    watch(ln);
}

void listener_resume(struct listener *ln)
{
    ln->paused = false;
    watch(ln);
}

/* ---- the gate ---- */

struct gate_table {
    struct idmap sessions; /* client → how many, as a pointer's value */
};

enum gate_answer gate_enter(struct gate *g, const struct sockaddr_storage *peer)
{
    uint64_t key = client_key(peer);
    if (g->max && g->count >= g->max)
        return GATE_FULL;
    if (!g->clients)
        g->clients = mem_alloc(sizeof *g->clients);
    uintptr_t n = (uintptr_t)idmap_get(&g->clients->sessions, key);
    if (g->max_each && n >= g->max_each)
        return GATE_CLIENT_FULL;
    idmap_put(&g->clients->sessions, key, (void *)(n + 1)); /* a number kept where the map keeps pointers */
    g->count++;
    return GATE_IN;
}

void gate_leave(struct gate *g, const struct sockaddr_storage *peer)
{
    uint64_t key = client_key(peer);
    uintptr_t n = g->clients ? (uintptr_t)idmap_get(&g->clients->sessions, key) : 0;
    if (n == 0)
        return;
    if (n == 1)
        idmap_del(&g->clients->sessions, key);
    else
        idmap_put(&g->clients->sessions, key, (void *)(n - 1));
    g->count--;
}

void gate_free(struct gate *g)
{
    if (g->clients)
        idmap_free(&g->clients->sessions);
    mem_free(&g->clients);
    g->count = 0;
}
