/* Descriptors, in an epoll of our own: libuv's watchers cost five system calls for each descriptor that comes and goes, and two for each change.
 *
 * What an owner wants is told to the kernel right before the loop waits, so that what changes and changes back within a turn costs nothing.
 * Less than before is not told at all until something comes that nobody wants: an owner that stops reading while it works on what it read, as
 * most do, has started again by then. Nothing spins: what came unwanted is not asked for any more, and a descriptor that nothing is wanted of
 * leaves the epoll, whose hang-up would be reported else. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "loop/loop_impl.h"

struct io {
    struct link in_changed;
    struct loop *loop;
    io_fn *fn;
    void *ctx;
    int fd;
    uint8_t want, told; /* IO_ bits; told: to the kernel */
    bool known, freed;  /* known: it is in the epoll */
};

static uint32_t epoll_bits(unsigned events)
{
    return (events & IO_READ ? EPOLLIN : 0u) | (events & IO_WRITE ? EPOLLOUT : 0u);
}

static int control(struct io *io, int op, unsigned events)
{
    struct epoll_event e = {.events = epoll_bits(events), .data.ptr = io};
    io->told = (uint8_t)events;
    io->known = op != EPOLL_CTL_DEL;
    return epoll_ctl(io->loop->poller.fd, op, io->fd, &e);
}

/* Nothing but these from here on. */
static void tell(struct io *io, unsigned events)
{
    if (events == io->told && (events || !io->known))
        return;
    if (!events)
        control(io, EPOLL_CTL_DEL, 0); /* an error says that its owner has closed it, and with it this */
    else
        loop_must(control(io, io->known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, events));
}

/* ---- what owners do ---- */

/* Nearly all are read from first: it is told at once. */
struct io *io_new(struct loop *l, int fd, io_fn *fn, void *ctx)
{
    struct io *io = mem_alloc(sizeof *io);
    if (!l->has_uv)
        abort();
    *io = (struct io){.loop = l, .fn = fn, .ctx = ctx, .fd = fd};
    if (control(io, EPOLL_CTL_ADD, IO_READ)) {
        mem_free(&io);
        return NULL;
    }
    l->live++;
    return io;
}

void io_want(struct io *io, unsigned events)
{
    struct poller *p = &io->loop->poller;
    if (io->want == events)
        return;
    if (!io->want)
        p->watching++;
    else if (!events)
        p->watching--;
    io->want = (uint8_t)events;
    if (!list_linked(&io->in_changed))
        list_add_tail(&p->changed, &io->in_changed);
}

void io_free(struct io **iop)
{
    struct io *io = *iop;
    if (!io)
        return;
    struct poller *p = &io->loop->poller;
    io_want(io, 0);
    tell(io, 0); /* closing alone would not do: another process may have the same */
    list_del(&io->in_changed);
    io->loop->live--;
    if (!p->handling) {
        mem_free(iop);
        return;
    }
    *iop = NULL;
    io->freed = true;
    list_add_tail(&p->dead, &io->in_changed);
}

/* ---- a turn ---- */

static void tell_changes(struct poller *p)
{
    LIST_EACH(&p->changed, l) {
        struct io *io = container_of(l, struct io, in_changed);
        list_del(l);
        tell(io, io->want | (io->told & IO_READ)); /* there is always room to write: that would come at once */
    }
}

/* An error is for who reads and who writes; a hang-up alone for who wants anything. */
static unsigned ready(const struct io *io, uint32_t bits)
{
    unsigned events = (bits & EPOLLIN ? IO_READ : 0u) | (bits & EPOLLOUT ? IO_WRITE : 0u);
    if (bits & EPOLLERR)
        events |= IO_READ | IO_WRITE;
    if (bits & EPOLLHUP)
        events |= io->want;
    return events;
}

static void io_came(struct io *io, uint32_t bits)
{
    if (io->freed)
        return;
    unsigned events = ready(io, bits);
    if (!io->want || (events & io->told & ~(unsigned)io->want))
        tell(io, io->want);
    if (!(bits & EPOLLERR))
        events &= io->want;
    if (!io->want || !events)
        return;
    io->loop->events++;
    io->fn(io->ctx, events);
}

static void came(struct loop *l, const struct epoll_event *e)
{
    if (e->data.ptr == &l->uv)
        l->uv_due = true;
    else if (e->data.ptr == &l->wakes)
        wakes_handle(l);
    else
        io_came(e->data.ptr, e->events);
}

void poller_turn(struct loop *l, int ms)
{
    struct poller *p = &l->poller;
    struct epoll_event events[EVENTS_MAX];
    tell_changes(p);
    int n = epoll_wait(p->fd, events, EVENTS_MAX, ms);
    if (n < 0 && errno != EINTR)
        abort();
    loop_look_at_clock(l);
    p->handling = true;
    for (int i = 0; i < n; i++)
        came(l, &events[i]);
    p->handling = false;
    LIST_EACH(&p->dead, d) {
        struct io *io = container_of(d, struct io, in_changed);
        mem_free(&io);
    }
    list_init(&p->dead);
}

void poller_watch(struct loop *l, int fd, void *what)
{
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = what};
    loop_must(epoll_ctl(l->poller.fd, EPOLL_CTL_ADD, fd, &e));
}

void poller_begin(struct loop *l)
{
    list_init(&l->poller.changed);
    list_init(&l->poller.dead);
    l->poller.fd = epoll_create1(EPOLL_CLOEXEC);
    loop_must(l->poller.fd);
}

void poller_end(struct loop *l)
{
    close(l->poller.fd);
}
