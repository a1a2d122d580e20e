#include "queue/sched.h"

#include "base/mem.h"
#include "base/util.h"

#define JITTER_PARTS 8

void sched_init(struct sched *s, const struct sched_limits *limits)
{
    *s = (struct sched){.limits = *limits};
    for (int c = 0; c < SCHED_CLASSES; c++)
        list_init(&s->turns[c]);
    list_init(&s->parking);
}

void sched_limit(struct sched *s, const struct sched_limits *limits)
{
    s->limits = *limits;
    for (int c = 0; c < SCHED_CLASSES; c++) {
        size_t at = 0;
        struct span name;
        void *v;
        while (map_next(&s->dests[c], &at, &name, &v)) {
            struct sched_dest *d = v;
            d->window = MIN_OF(d->window, limits->window_max[c]);
        }
    }
}

void sched_free(struct sched *s)
{
    for (int c = 0; c < SCHED_CLASSES; c++) {
        size_t at = 0;
        struct span name;
        void *v;
        while (map_next(&s->dests[c], &at, &name, &v)) {
            struct sched_dest *d = v;
            mem_free(&d);
        }
        map_free(&s->dests[c]);
    }
}

/* ---- destinations ---- */

static struct sched_dest *dest_get(struct sched *s, enum sched_class class, struct span name)
{
    struct sched_dest *d = map_get(&s->dests[class], name);
    if (d)
        return d;
    d = mem_alloc(sizeof *d + name.n + 1);
    d->home = &s->dests[class];
    d->class = class;
    d->window = MIN_OF(s->limits.window_first[class], s->limits.window_max[class]);
    d->name_n = name.n;
    memcpy(d->name, name.p, name.n);
    list_init(&d->turn);
    list_init(&d->parking);
    list_init(&d->jobs);
    map_put(d->home, name, d);
    return d;
}

/* Forgets a destination with nothing to do and nothing worth remembering. */
static void dest_leave(struct sched_dest *d)
{
    if (d->waiting || d->under_way || d->failures)
        return;
    list_del(&d->turn);
    list_del(&d->parking);
    map_del(d->home, span_make(d->name, d->name_n));
    mem_free(&d);
}

static void ring(struct link *head, struct link *l, bool in)
{
    if (!in)
        list_del(l);
    else if (!list_linked(l))
        list_add_tail(head, l);
}

/* Puts the destination where it belongs: among those that could start something, or those whose jobs go back. */
static void dest_place(struct sched *s, struct sched_dest *d, int64_t now)
{
    bool down = d->down_until > now;
    ring(&s->turns[d->class], &d->turn, d->waiting && !down && d->under_way < d->window);
    ring(&s->parking, &d->parking, d->waiting && down);
}

void sched_sweep(struct sched *s, int64_t now)
{
    struct link old;
    list_init(&old);
    for (int c = 0; c < SCHED_CLASSES; c++) {
        size_t at = 0;
        struct span name;
        void *v;
        while (map_next(&s->dests[c], &at, &name, &v)) {
            struct sched_dest *d = v;
            if (!d->waiting && !d->under_way && d->down_until + s->limits.down_max[c] < now)
                list_add_tail(&old, &d->turn); /* idle: in no other ring */
        }
    }
    LIST_EACH(&old, l)
    {
        struct sched_dest *d = container_of(l, struct sched_dest, turn);
        list_del(l);
        d->failures = 0;
        dest_leave(d);
    }
}

const struct sched_dest *sched_find(const struct sched *s, enum sched_class class, struct span name)
{
    return map_get(&s->dests[class], name);
}

/* ---- jobs ---- */

/* RFC6710:5.1: before those of a lower priority. Without priorities it costs one look at the last. */
static void line_up(struct sched_dest *d, struct sched_job *j)
{
    struct link *at = d->jobs.prev;
    for (; at != &d->jobs; at = at->prev) {
        struct sched_job *other = container_of(at, struct sched_job, link);
        if (other->priority >= j->priority || other->passed >= SCHED_PASSED_MAX)
            break;
        other->passed++;
    }
    list_add_head(at, &j->link);
}

bool sched_push(struct sched *s, struct sched_job *j, enum sched_class class, struct span name, int64_t now,
                int64_t *later)
{
    struct sched_dest *d = dest_get(s, class, name);
    *later = d->down_until;
    if (d->down_until > now)
        return false;
    *later = 0;
    if (d->waiting >= s->limits.queue_max)
        return false;
    j->dest = d;
    line_up(d, j);
    d->waiting++;
    dest_place(s, d, now);
    return true;
}

void sched_again(struct sched *s, struct sched_job *j, enum sched_class class, struct span name, int64_t now)
{
    struct sched_dest *d = dest_get(s, class, name);
    j->dest = d;
    list_add_head(&d->jobs, &j->link);
    d->waiting++;
    dest_place(s, d, now);
}

void sched_remove(struct sched *s, struct sched_job *j, int64_t now)
{
    struct sched_dest *d = j->dest;
    list_del(&j->link);
    j->dest = NULL;
    d->waiting--;
    dest_place(s, d, now);
    dest_leave(d);
}

struct sched_job *sched_next(struct sched *s, enum sched_class class, int64_t now)
{
    if (s->under_way[class] >= s->limits.total_max[class] || list_empty(&s->turns[class]))
        return NULL;
    struct sched_dest *d = container_of(s->turns[class].next, struct sched_dest, turn);
    struct sched_job *j = container_of(d->jobs.next, struct sched_job, link);
    list_del(&j->link);
    d->waiting--;
    d->under_way++;
    s->under_way[class]++;
    j->under_way = true;
    list_del(&d->turn); /* to the end of the ring: the others' turn first */
    dest_place(s, d, now);
    return j;
}

static void succeeded(struct sched *s, struct sched_dest *d)
{
    d->failures = 0;
    d->down_for = d->down_until = 0;
    if (++d->gained < d->window)
        return;
    d->gained = 0;
    d->window = MIN_OF(d->window + 1, s->limits.window_max[d->class]);
}

static void failed(struct sched *s, struct sched_dest *d, int64_t now)
{
    d->gained = 0;
    d->window = MAX_OF(d->window / 2, 1u);
    if (++d->failures < SCHED_DOWN_AFTER || d->down_until > now)
        return;
    d->down_for = d->down_for ? MIN_OF(d->down_for * 2, s->limits.down_max[d->class]) : s->limits.down_min[d->class];
    d->down_until = now + d->down_for;
    d->window = 1;
}

void sched_done(struct sched *s, struct sched_job *j, enum sched_result result, int64_t now)
{
    struct sched_dest *d = j->dest;
    j->under_way = false;
    j->dest = NULL;
    d->under_way--;
    s->under_way[d->class]--;
    if (result == SCHED_REACHED)
        succeeded(s, d);
    else if (result == SCHED_UNREACHED)
        failed(s, d, now);
    dest_place(s, d, now);
    dest_leave(d);
}

struct sched_job *sched_park(struct sched *s, int64_t *later)
{
    if (list_empty(&s->parking))
        return NULL;
    struct sched_dest *d = container_of(s->parking.next, struct sched_dest, parking);
    struct sched_job *j = container_of(d->jobs.next, struct sched_job, link);
    *later = d->down_until;
    list_del(&j->link);
    j->dest = NULL;
    if (--d->waiting == 0)
        list_del(&d->parking);
    return j;
}

void sched_up(struct sched *s, enum sched_class class, struct span name)
{
    struct sched_dest *d = map_get(&s->dests[class], name);
    if (d)
        d->down_until = 0;
}

/* ---- when to try again ---- */

int64_t retry_wait(const struct retry_times *t, unsigned attempts, uint64_t random)
{
    int64_t wait = t->first;
    for (unsigned i = 1; i < attempts && wait < t->longest; i++)
        wait *= 2;
    wait = MIN_OF(wait, t->longest);
    int64_t room = wait / JITTER_PARTS;
    if (room > 0)
        wait += (int64_t)(random % (uint64_t)(2 * room + 1)) - room;
    return MAX_OF(wait, (int64_t)1);
}

int64_t retry_end(const struct retry_times *t, int64_t received, bool null_sender)
{
    return received + (null_sender ? t->notice_expire : t->expire);
}
