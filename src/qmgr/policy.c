/* What the configuration says of a destination's concurrency and rate, and of the wait after a failure. Asked at each
 * attempt, so that a reload holds from the next one on. */
#include "qmgr/route.h"

struct span canonical_domain(struct span address, char room[ADDRESS_DOMAIN_MAX + 1])
{
    struct span domain = span_from(address, (size_t)(span_rfind(address, '@') + 1));
    size_t n;
    return domain_canonical(domain, room, &n) ? span_make(room, n) : domain;
}

bool policy_on_demand(const struct qmgr *q, struct span address)
{
    char room[ADDRESS_DOMAIN_MAX + 1];
    const struct conf_domain *d = conf_domain_for(q->conf, canonical_domain(address, room));
    return d && d->on_demand && !d->hold;
}

struct sched_rule policy_rule(void *ctx, enum sched_class class, struct span name)
{
    const struct qmgr *q = ctx;
    struct span host;
    const struct conf_domain *d = class != SCHED_REMOTE        ? NULL
                                  : hop_is_named(name, &host) ? conf_domain_find(q->conf, host)
                                                              : conf_domain_for(q->conf, name);
    struct sched_rule rule = {0};
    if (!d)
        return rule;
    rule.window_max = d->concurrency;
    if (d->rate.n)
        conf_rate_of(span_of(d->rate.items[0]), &rule.rate, &rule.rate_per);
    return rule;
}

static bool part_is(struct span part, unsigned value)
{
    uint64_t n;
    return span_eqs(part, "*") || (span_u64(part, UINT32_MAX, &n) && n == value);
}

/* "none": there was no status, which is kept as X.0.0, and that says no more (RFC3463:3.1). */
static bool reply_is(struct span pattern, const struct queue_recipient *r)
{
    struct span rest = pattern, code = span_cut(&rest, '/');
    if (span_eqs(rest, "none"))
        return part_is(code, r->code) && r->subject == 0 && r->detail == 0;
    struct span kind = span_cut(&rest, '.'), subject = span_cut(&rest, '.');
    return part_is(code, r->code) && part_is(kind, r->kind) && part_is(subject, r->subject) && part_is(rest, r->detail);
}

static bool comes_back_soon(const struct qmgr *q, const struct queue_recipient *r)
{
    const struct conf_list *l = &q->conf->queue.retry_soon_for;
    for (size_t i = 0; i < l->n && r->code; i++)
        if (reply_is(span_of(l->items[i]), r))
            return true;
    return false;
}

bool policy_is_soon(const struct qmgr *q, const struct queue_recipient *r)
{
    return r->attempts <= q->conf->queue.retry_soon.n && comes_back_soon(q, r);
}

static void use(struct retry_times *t, const struct conf_list *steps)
{
    t->step_count = 0;
    for (size_t i = 0; i < steps->n && i < RETRY_STEPS_MAX; i++)
        if (conf_time_of(span_of(steps->items[i]), &t->steps[t->step_count]))
            t->step_count++;
}

int64_t policy_wait(struct qmgr *q, const struct queue_recipient *r)
{
    const struct conf_list *soon = &q->conf->queue.retry_soon;
    char room[ADDRESS_DOMAIN_MAX + 1];
    const struct conf_domain *d = conf_domain_for(q->conf, canonical_domain(r->address, room));
    struct retry_times t = {.first = q->times.first, .longest = q->times.longest};
    use(&t, d && d->retry.n ? &d->retry : &q->conf->queue.retry);
    int64_t wait = retry_wait(&t, r->attempts, qmgr_random(q));
    if (!policy_is_soon(q, r))
        return wait;
    use(&t, soon);
    return MIN_OF(wait, retry_wait(&t, r->attempts, qmgr_random(q)));
}
