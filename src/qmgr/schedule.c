/* The schedule in words: what is next for a recipient, when, why then, and what would change it. */
#include "qmgr/operator.h"

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
        return r->job && r->job->lease ? "being attempted" : "waiting for its destination's turn";
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

static void explain_waiting(struct qmgr *q, const struct queue_message *m, const struct queue_recipient *r,
                            struct buf *out)
{
    int64_t now = qmgr_wall(q);
    struct span domain = span_from(r->address, (size_t)(span_rfind(r->address, '@') + 1));
    const struct sched_dest *d = sched_find(&q->sched, SCHED_REMOTE, domain);
    const char *doing = rcpt_activity(q, r);
    if (*doing)
        buf_printf(out, "In delivery: %s.", doing);
    else if (r->next <= now)
        buf_adds(out, "Due now: it is taken as soon as there is room among the active ones.");
    else if (r->attempts == 0 && m->hold_until > now)
        buf_adds(out, "Held for its sender, who asked for a later release (FUTURERELEASE). `waypost queue release` lets "
                      "it go on now. Next attempt in ");
    else if (r->attempts == 0)
        buf_adds(out, "Not attempted yet: its destination could not be reached, or was full, when its turn came. "
                      "Next attempt in ");
    else
        buf_printf(out,
                   "Attempt %u failed for now. The wait doubles after each attempt, up to a limit. Next attempt in ",
                   r->attempts);
    if (!*doing && r->next > now) {
        put_duration(out, r->next - now);
        buf_adds(out, ".");
    }
    if (d && d->down_until > now) {
        buf_printf(out, " %.*s did not answer %u times in a row and is left alone for ", SPANV(domain), d->failures);
        put_duration(out, d->down_until - now);
        buf_adds(out, ".");
    }
    explain_by(m, now, out);
    int64_t end = retry_end(&q->times, queue_message_begins(m), m->sender.n == 0);
    buf_adds(out, end > now ? " It is given up in " : " It is given up with the next failure");
    if (end > now)
        put_duration(out, end - now);
    buf_adds(out, ". `waypost queue retry` attempts it now.");
}


void explain_schedule(struct qmgr *q, const struct queue_message *m, const struct queue_recipient *r, struct buf *out)
{
    if (r->state == QUEUE_WAITING)
        explain_waiting(q, m, r, out);
    else if (r->state == QUEUE_PARKED)
        buf_adds(out, "Its domain is held by the configuration (hold yes). It goes on after hold was taken away and "
                      "`waypost reload`; `waypost queue release` lets this one go on now.");
    else if (r->state == QUEUE_PICKUP)
        buf_adds(out, "It waits until the host of its domain asks for it: by ATRN, which takes it over that connection, or by "
                      "ETRN. No other host is tried. `waypost queue release` sends it to the domain's MX now.");
    else if (r->state == QUEUE_HELD)
        buf_adds(out, "Held by an operator. `waypost queue release` lets it go on.");
    else
        buf_adds(out, "An alias: its targets are recipients of their own, below.");
}
