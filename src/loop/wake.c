/* Waking the loop from other threads, through one eventfd for all. */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/mem.h"
#include "loop/loop_impl.h"

struct wake {
    struct link link;
    struct loop *loop;
    void (*fn)(void *ctx);
    void *ctx;
    atomic_bool up; /* any thread */
    bool due;
};

struct wake *wake_new(struct loop *l, void (*fn)(void *ctx), void *ctx)
{
    struct wake *w = mem_alloc(sizeof *w);
    if (!l->has_uv)
        abort();
    if (l->wakes.fd < 0) {
        l->wakes.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        loop_must(l->wakes.fd);
        poller_watch(l, l->wakes.fd, &l->wakes);
    }
    w->loop = l;
    w->fn = fn;
    w->ctx = ctx;
    list_add_tail(&l->wakes.all, &w->link);
    l->live++;
    return w;
}

void wake_up(struct wake *w)
{
    static const uint64_t one = 1;
    int saved = errno;
    if (!atomic_exchange(&w->up, true))
        while (write(w->loop->wakes.fd, &one, sizeof one) < 0 && errno == EINTR) {
        }
    errno = saved;
}

void wake_free(struct wake **wp)
{
    struct wake *w = *wp;
    if (!w)
        return;
    list_del(&w->link);
    w->loop->live--;
    mem_free(wp);
}

static struct wake *next_due(struct loop *l)
{
    LIST_EACH(&l->wakes.all, at) {
        struct wake *w = container_of(at, struct wake, link);
        if (w->due)
            return w;
    }
    return NULL;
}

/* Each has one call: one that is woken again meanwhile has its next in the next turn. */
void wakes_handle(struct loop *l)
{
    uint64_t rings;
    struct wake *w;
    if (read(l->wakes.fd, &rings, sizeof rings) < 0)
        return;
    LIST_EACH(&l->wakes.all, at) {
        w = container_of(at, struct wake, link);
        w->due = atomic_exchange(&w->up, false) || w->due;
    }
    while ((w = next_due(l)) != NULL) {
        w->due = false;
        l->events++;
        w->fn(w->ctx);
    }
}

void wakes_free(struct loop *l)
{
    if (l->wakes.fd >= 0)
        close(l->wakes.fd);
}
