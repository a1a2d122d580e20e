/* Channels between programs: a fresh SOCK_SEQPACKET pair whenever one of the two starts, or lost the last one to a bad
 * frame. */
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "waypostd/supervisor.h"

#define REMAKE_MS 1000 /* between two pairs for the same two programs, when frames go bad again and again */

static struct pair *find_pair(struct child *x, struct child *y)
{
    LIST_EACH(&x->sup->pairs, l) {
        struct pair *p = container_of(l, struct pair, link);
        if ((p->a == x && p->b == y) || (p->a == y && p->b == x))
            return p;
    }
    return NULL;
}

static bool may_talk(const struct child *x, const struct child *y)
{
    return x != y && (sandbox_role(x->role)->channels & FROM(y->role)) &&
           (sandbox_role(y->role)->channels & FROM(x->role));
}

static void send_end(struct child *to, const struct child *peer, int fd)
{
    chan_say(to->control,
             &(struct msg){.type = MSG_peer_end, .peer_end = {.role = (uint8_t)peer->role, .instance = peer->instance}},
             fd);
}

static void make(struct pair *p)
{
    int fds[2];
    struct err err;
    p->made = loop_now(p->a->sup->loop);
    p->wanted = false;
    if (chan_pair(fds, &err)) {
        LOGE("pair", KVT("why", err.text));
        p->wanted = true;
        timer_start(p->a->sup->pair_timer, REMAKE_MS);
        return;
    }
    send_end(p->a, p->b, fds[0]);
    send_end(p->b, p->a, fds[1]);
    p->ends_a++;
    p->ends_b++;
    close(fds[0]);
    close(fds[1]);
}

void pairs_for(struct child *c)
{
    LIST_EACH(&c->sup->children, l) {
        struct child *other = container_of(l, struct child, link);
        if (!may_talk(c, other) || !child_runs(other))
            continue;
        struct pair *p = find_pair(c, other);
        if (!p) {
            p = mem_alloc(sizeof *p);
            p->a = c;
            p->b = other;
            list_add_tail(&c->sup->pairs, &p->link);
        }
        *(p->a == c ? &p->ends_a : &p->ends_b) = 0; /* a new process counts from the beginning */
        make(p);
    }
}

void pair_lost(struct child *c, enum role role, uint32_t instance, uint32_t epoch)
{
    struct child *peer = child_find(c->sup, role, instance);
    struct pair *p = peer ? find_pair(c, peer) : NULL;
    if (!p || !child_runs(peer) || (p->a == c ? p->ends_a : p->ends_b) != epoch)
        return; /* its start brings a fresh one, or one is on its way */
    int64_t wait = p->made + REMAKE_MS - loop_now(c->sup->loop);
    p->wanted = true;
    if (!timer_running(c->sup->pair_timer))
        timer_start(c->sup->pair_timer, MAX_OF(wait, (int64_t)20)); /* a peer that has just died is reaped meanwhile */
}

static void on_pair_timer(void *ctx)
{
    struct supervisor *s = ctx;
    LIST_EACH(&s->pairs, l) {
        struct pair *p = container_of(l, struct pair, link);
        if (p->wanted && child_runs(p->a) && child_runs(p->b))
            make(p);
        else
            p->wanted = false;
    }
}

void pairs_forget(struct child *c)
{
    LIST_EACH(&c->sup->pairs, l) {
        struct pair *p = container_of(l, struct pair, link);
        if (p->a != c && p->b != c)
            continue;
        list_del(&p->link);
        mem_free(&p);
    }
}

void pairs_init(struct supervisor *s)
{
    list_init(&s->pairs);
    s->pair_timer = timer_new(s->loop, on_pair_timer, s);
}

void pairs_free(struct supervisor *s)
{
    LIST_EACH(&s->pairs, l) {
        struct pair *p = container_of(l, struct pair, link);
        list_del(&p->link);
        mem_free(&p);
    }
    timer_free(&s->pair_timer);
}
