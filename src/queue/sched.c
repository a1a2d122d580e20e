/* Jobs: whose turn it is, of destinations and inside of each of senders; what there is no room for, and what comes back from disk. */
#include "queue/sched_impl.h"

#include <stdlib.h>

#include "base/mem.h"
#include "base/util.h"

#define PROBE_PORTION 2 /* as SCHED_PORTION, for one that was down: the rest follows when it answers */

static unsigned cost_of(const struct sched_job *j)
{
    return MAX_OF(j->cost, 1u);
}

/* ---- senders ---- */

static struct sched_flow *flow_get(struct sched_dest *d, uint64_t sender)
{
    struct sched_flow *f = idmap_get(&d->senders, sender);
    if (f)
        return f;
    f = d->spare ? d->spare : mem_alloc(sizeof *f);
    d->spare = NULL;
    *f = (struct sched_flow){.sender = sender, .deficit = SCHED_QUANTUM};
    list_init(&f->jobs);
    list_init(&f->turn);
    idmap_put(&d->senders, sender, f);
    return f;
}

static void flow_leave(struct sched_dest *d, struct sched_flow *f)
{
    if (!list_empty(&f->jobs))
        return;
    list_del(&f->turn);
    idmap_del(&d->senders, f->sender);
    if (d->spare)
        mem_free(&f);
    else
        d->spare = f;
}

/* RFC6710:5.1: before those of a lower priority. Without priorities it costs one look at the last. */
static void job_line_up(struct sched_flow *f, struct sched_job *j)
{
    struct link *at = f->jobs.prev;
    for (; at != &f->jobs; at = at->prev) {
        struct sched_job *other = container_of(at, struct sched_job, link);
        if (other->priority >= j->priority || other->passed >= SCHED_PASSED_MAX)
            break;
        other->passed++;
    }
    list_add_head(at, &j->link);
}

static int flow_priority(const struct sched_flow *f)
{
    return container_of(f->jobs.next, struct sched_job, link)->priority;
}

/* The same among senders. */
static void flow_line_up(struct sched_dest *d, struct sched_flow *f)
{
    struct link *at = d->flows.prev;
    for (; at != &d->flows; at = at->prev) {
        struct sched_flow *other = container_of(at, struct sched_flow, turn);
        if (flow_priority(other) >= flow_priority(f) || other->passed >= SCHED_PASSED_MAX)
            break;
        other->passed++;
    }
    list_add_head(at, &f->turn);
}

static void job_in(struct sched *s, struct sched_job *j, struct sched_dest *d, bool front)
{
    struct sched_flow *f = flow_get(d, j->sender);
    j->dest = d;
    j->flow = f;
    if (front)
        list_add_head(&f->jobs, &j->link);
    else
        job_line_up(f, j);
    if (front) {
        list_del(&f->turn);
        list_add_head(&d->flows, &f->turn);
        f->deficit = MAX_OF(f->deficit, 1);
    } else if (!list_linked(&f->turn) || j->priority > 0) {
        list_del(&f->turn);
        flow_line_up(d, f);
    }
    d->waiting++;
    d->held += cost_of(j);
    f->held += cost_of(j);
    s->held += cost_of(j);
}

/* its_turn: its sender's turn is over with it. */
static void job_out(struct sched *s, struct sched_job *j, bool its_turn)
{
    struct sched_dest *d = j->dest;
    struct sched_flow *f = j->flow;
    list_del(&j->link);
    j->flow = NULL;
    d->waiting--;
    d->held -= cost_of(j);
    d->full = false;
    f->held -= cost_of(j);
    s->held -= cost_of(j);
    if (its_turn && !list_empty(&f->jobs))
        flow_line_up(d, f);
    flow_leave(d, f);
}

/* ---- jobs ---- */

/* A destination may have as much as is left free of the whole, a sender in it as much as is left of that: whoever comes
 * later finds room. */
static size_t free_room(const struct sched *s)
{
    return s->limits.queue_max > s->held ? s->limits.queue_max - s->held : 0;
}

static bool fits(const struct sched *s, const struct sched_dest *d, uint64_t sender)
{
    size_t room = free_room(s);
    const struct sched_flow *f = d->waiting ? idmap_get(&d->senders, sender) : NULL;
    if (!d->waiting)
        return true;
    return d->held < room && (!f || f->held < room - d->held);
}

enum sched_answer sched_push(struct sched *s, struct sched_job *j, enum sched_class class, struct span name,
                             int64_t now, int64_t *later)
{
    struct sched_dest *d = sched_dest_get(s, class, name);
    *later = 0;
    d->coming -= MIN_OF(d->coming, cost_of(j));
    if (sched_dest_closed(d, now)) {
        *later = d->down_until;
        sched_dest_place(s, d, now);
        return d->suspended ? SCHED_IS_SUSPENDED : SCHED_IS_DOWN;
    }
    if (!fits(s, d, j->sender)) {
        d->full = true;
        sched_dest_place(s, d, now);
        return SCHED_IS_FULL;
    }
    job_in(s, j, d, false);
    sched_dest_place(s, d, now);
    return SCHED_TAKEN;
}

void sched_again(struct sched *s, struct sched_job *j, enum sched_class class, struct span name, int64_t now)
{
    struct sched_dest *d = sched_dest_get(s, class, name);
    job_in(s, j, d, true);
    sched_dest_place(s, d, now);
}

void sched_remove(struct sched *s, struct sched_job *j, int64_t now)
{
    struct sched_dest *d = j->dest;
    job_out(s, j, false);
    j->dest = NULL;
    sched_dest_place(s, d, now);
    sched_dest_leave(s, d);
}

/* Whoever has used up his share lets the others pass. Ends: each pass adds to everybody's. */
static struct sched_dest *dest_turn(struct link *turns)
{
    for (;;) {
        struct sched_dest *d = container_of(turns->next, struct sched_dest, turn);
        list_del(&d->turn);
        if (d->deficit <= 0)
            d->deficit += SCHED_QUANTUM;
        if (d->deficit > 0)
            return d;
        list_add_tail(turns, &d->turn);
    }
}

static struct sched_flow *flow_turn(struct sched_dest *d)
{
    for (;;) {
        struct sched_flow *f = container_of(d->flows.next, struct sched_flow, turn);
        list_del(&f->turn);
        if (f->deficit <= 0)
            f->deficit += SCHED_QUANTUM;
        if (f->deficit > 0) {
            f->passed = 0;
            return f;
        }
        list_add_tail(&d->flows, &f->turn);
    }
}

struct sched_job *sched_next(struct sched *s, enum sched_class class, int64_t now)
{
    if (s->under_way[class] >= s->limits.total_max[class] || list_empty(&s->turns[class]))
        return NULL;
    struct sched_dest *d = dest_turn(&s->turns[class]);
    struct sched_flow *f = flow_turn(d);
    struct sched_job *j = container_of(f->jobs.next, struct sched_job, link);
    d->deficit -= (int)cost_of(j);
    f->deficit -= (int)cost_of(j);
    job_out(s, j, true);
    d->under_way++;
    s->under_way[class]++;
    j->under_way = true;
    d->probe_until = 0;
    if (d->rule.rate)
        d->rate_us = MAX_OF(d->rate_us, now * 1000) + d->rule.rate_per * 1000 / d->rule.rate;
    sched_dest_place(s, d, now); /* at the end of the ring: the others' turn first */
    return j;
}

void sched_done(struct sched *s, struct sched_job *j, enum sched_result result, struct span why, int64_t now)
{
    struct sched_dest *d = j->dest;
    j->under_way = false;
    j->dest = NULL;
    d->under_way--;
    s->under_way[d->class]--;
    if (result == SCHED_REACHED)
        sched_dest_succeeded(s, d);
    else if (result == SCHED_UNREACHED)
        sched_dest_failed(s, d, why, now);
    sched_dest_place(s, d, now);
    sched_dest_leave(s, d);
}

struct sched_job *sched_park(struct sched *s, const struct sched_dest **from, int64_t now)
{
    if (list_empty(&s->parking))
        return NULL;
    struct sched_dest *d = container_of(s->parking.next, struct sched_dest, parking);
    struct sched_flow *f = container_of(d->flows.next, struct sched_flow, turn);
    struct sched_job *j = container_of(f->jobs.next, struct sched_job, link);
    job_out(s, j, false);
    j->dest = NULL;
    *from = d;
    sched_dest_place(s, d, now);
    return j;
}

/* ---- what waits on disk ---- */

void sched_parked(struct sched *s, enum sched_class class, struct span name, int64_t now)
{
    struct sched_dest *d = sched_dest_get(s, class, name);
    d->parked = true;
    sched_dest_place(s, d, now);
}

const struct sched_dest *sched_release(struct sched *s, unsigned *max)
{
    if (list_empty(&s->releasing))
        return NULL;
    struct sched_dest *d = container_of(s->releasing.next, struct sched_dest, releasing);
    list_del(&d->releasing);
    d->asked = true;
    size_t room = free_room(s), share = room > d->held ? (room - d->held) / 2 : 0;
    *max = d->failures >= SCHED_DOWN_AFTER || d->probe_until ? PROBE_PORTION
                                                             : (unsigned)MIN_OF(MAX_OF(share, (size_t)1), (size_t)SCHED_PORTION);
    return d;
}

void sched_released(struct sched *s, enum sched_class class, struct span name, unsigned count, bool more, int64_t now)
{
    struct sched_dest *d = sched_dest_get(s, class, name);
    d->asked = false;
    d->parked = more;
    d->coming += count;
    sched_dest_place(s, d, now);
}

void sched_unanswered(struct sched *s, enum sched_class class, struct span name)
{
    struct sched_dest *d = map_get(&s->dests[class], name);
    if (d)
        d->asked = false;
}
