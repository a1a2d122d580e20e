/* The schedule in words: what is next for a recipient, when, why then, and what would change it. */
#include "qmgr/dests.h"
#include "qmgr/operator.h"
#include "qmgr/route.h"

const char *rcpt_activity(struct qmgr *q, const struct queue_recipient *row)
{
    const struct rcpt *r = idmap_get(&q->rcpts, row->id);
    if (!r)
        return "";
    switch (r->state) {
    case RCPT_PICKED:
    case RCPT_EXPANDING:
        return "asking the directory";
    case RCPT_QUEUED:
        return r->job && r->job->lease ? "being attempted" : r->doubted ? "stored, to be written once more" : "waiting for its destination's turn";
    case RCPT_STORED:
        return "stored, waiting for the disk";
    default:
        return "being recorded";
    }
}

static void put_duration(struct buf *out, int64_t ms)
{
    int64_t s = ms / 1000;
    if (s < 120)
        buf_printf(out, "%lld s", (long long)s);
    else if (s < 7200)
        buf_printf(out, "%lld min", (long long)(s / 60));
    else
        buf_printf(out, "%lld h", (long long)(s / 3600));
}

static void explain_by(const struct queue_message *m, int64_t now, struct buf *out)
{
    if (!m->by_mode)
        return;
    buf_adds(out, m->by_mode & QUEUE_BY_RETURN ? " Its sender wants it back when it is not delivered"
                                               : " Its sender is to be told when it is not delivered");
    if (m->deliver_by > now) {
        buf_adds(out, " in ");
        put_duration(out, m->deliver_by - now);
    } else {
        buf_adds(out, " by a time that has passed");
    }
    buf_adds(out, ".");
}

/* What its destination is up to. */
static void explain_destination(const struct sched_dest *d, struct span name, int64_t now, struct buf *out)
{
    enum sched_state state = sched_state(d, now);
    if (state == SCHED_SUSPENDED) {
        buf_printf(out, " %.*s is suspended, since ", SPANV(name));
        put_duration(out, now - d->since);
        buf_printf(out, " (%s). `waypost dest resume %.*s` takes that back.", d->reason ? d->reason : "no reason kept",
                   SPANV(name));
    } else if (state == SCHED_DOWN) {
        buf_printf(out, " %.*s did not answer %u times in a row", SPANV(name), d->failures);
        if (d->reason)
            buf_printf(out, " (%s)", d->reason);
        buf_adds(out, " and is left alone for ");
        put_duration(out, d->down_until - now);
        buf_printf(out, ". `waypost dest probe %.*s` makes an attempt now.", SPANV(name));
    } else if (state == SCHED_THROTTLED) {
        buf_printf(out, " %.*s gets at most %u attempts in %lld s, by its section `domain`; the next one in ",
                   SPANV(name), d->rule.rate, (long long)(d->rule.rate_per / 1000));
        put_duration(out, sched_rate_at(d, now) - now);
        buf_adds(out, ".");
    } else if (d->waiting && d->under_way >= d->window) {
        buf_printf(out, " %u attempts to %.*s are under way, as many as its window allows now; %u wait for their turn.",
                   d->under_way, SPANV(name), d->waiting);
    }
}

static void explain_next(struct qmgr *q, const struct queue_message *m, const struct queue_recipient *r, int64_t now,
                         struct buf *out)
{
    char room[ADDRESS_DOMAIN_MAX + 1];
    const struct conf_domain *d = conf_domain_for(q->conf, canonical_domain(r->address, room));
    const char *doing = rcpt_activity(q, r);
    if (*doing) {
        buf_printf(out, "In delivery: %s.", doing);
    } else if (r->destination.p) {
        buf_printf(out, "It waits for its destination %.*s, and is attempted when its turn comes there.",
                   SPANV(r->destination));
    } else if (r->next <= now) {
        buf_adds(out, "Due now: it is taken as soon as there is room among the active ones.");
    } else {
        if (r->attempts)
            buf_printf(out, "Attempt %u failed for now%s. Next attempt in ", r->attempts,
                       policy_is_soon(q, r) ? "; a reply like that is over soon, and the wait is the one of retry-soon"
                       : q->conf->queue.retry.n || (d && d->retry.n) ? "; the wait after it is the configured one"
                                                                   : ". The wait doubles after each attempt, up to a limit");
        else if (m->hold_until > now)
            buf_adds(out, "Held for its sender, who asked for a later release (FUTURERELEASE). `waypost queue release` "
                          "lets it go on now. Next attempt in ");
        else
            buf_adds(out, "Not attempted yet. Next attempt in ");
        put_duration(out, r->next - now);
        buf_adds(out, ".");
    }
}

static const struct sched_dest *dest_of(struct qmgr *q, const struct queue_recipient *r, struct span *shown,
                                        struct dest_name *name, struct hop *hop)
{
    const struct rcpt *active = idmap_get(&q->rcpts, r->id);
    if (active && active->state == RCPT_QUEUED && active->job)
        *name = (struct dest_name){.class = active->job->class, .name = active->job->name};
    else {
        hop_of_row(q->conf, r, hop);
        if ((!r->destination.p && !hop_is_likely(r, hop)) ||
            !dest_parse(r->destination.p ? r->destination : span_make(hop->name, hop->n), name))
            return NULL;
    }
    *shown = r->destination.p ? r->destination : name->class == SCHED_REMOTE ? name->name : SPAN("the account");
    return sched_find(&q->sched, name->class, name->name);
}

static void explain_waiting(struct qmgr *q, const struct queue_message *m, const struct queue_recipient *r,
                            struct buf *out)
{
    int64_t now = qmgr_wall(q), end = retry_end(&q->times, queue_message_begins(m), m->sender.n == 0);
    struct span shown = SPAN_NONE;
    struct dest_name name;
    struct hop hop;
    const struct sched_dest *d = dest_of(q, r, &shown, &name, &hop);
    explain_next(q, m, r, now, out);
    if (d)
        explain_destination(d, shown, now, out);
    if (r->route.p)
        buf_printf(out, " An operator has it sent to %.*s; `waypost queue route ... none` takes that back.", SPANV(r->route));
    explain_by(m, now, out);
    buf_adds(out, end > now ? " It is given up in " : " It is given up with the next failure");
    if (end > now)
        put_duration(out, end - now);
    buf_adds(out, d && d->suspended ? "." : ". `waypost queue retry` attempts it now.");
}

void explain_schedule(struct qmgr *q, const struct queue_message *m, const struct queue_recipient *r, struct buf *out)
{
    if (r->state == QUEUE_WAITING)
        explain_waiting(q, m, r, out);
    else if (r->state == QUEUE_PARKED)
        buf_printf(out, "Held by the configuration: %.*s. It goes on after that was taken away and `waypost reload`; `waypost queue release` "
                        "lets this one go on now.", SPANV(r->why));
    else if (r->state == QUEUE_PICKUP)
        buf_adds(out, "It waits until the host of its domain asks for it: by ATRN, which takes it over that connection, or by "
                      "ETRN. No other host is tried. `waypost queue release` sends it to the domain's MX now.");
    else if (r->state == QUEUE_LIMITED)
        buf_printf(out, "Held, because its account has sent more than it may. `waypost account held list` says since when; "
                        "`waypost account held release %.*s` lets all of it go on, `waypost account held discard %.*s` deletes it.",
                   SPANV(m->login), SPANV(m->login));
    else if (r->state == QUEUE_HELD)
        buf_adds(out, "Held by an operator. `waypost queue release` lets it go on.");
    else
        buf_adds(out, "An alias, or redirected by an operator: where it leads to are recipients of their own, below.");
}
