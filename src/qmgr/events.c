/* What the queue manager tells history, and counts: each thing once, when it is on disk. */
#include "qmgr/qmgr.h"

static const enum history_kind kinds[] = {
    [VERDICT_DELIVERED] = HISTORY_DELIVERED, [VERDICT_RELAYED] = HISTORY_RELAYED, [VERDICT_EXPANDED] = HISTORY_EXPANDED,
    [VERDICT_DEFERRED] = HISTORY_DEFERRED,   [VERDICT_PARKED] = HISTORY_PARKED,   [VERDICT_PICKUP] = HISTORY_PICKUP,
    [VERDICT_HELD] = HISTORY_HELD,           [VERDICT_RELEASED] = HISTORY_RELEASED,
    [VERDICT_REMOVED] = HISTORY_REMOVED,     [VERDICT_ROUTED] = HISTORY_ROUTED,
    [VERDICT_FAILED] = HISTORY_FAILED,       [VERDICT_REDIRECTED] = HISTORY_REDIRECTED,
    [VERDICT_ADDED] = HISTORY_ADDED,
};

static int64_t keep_of(const struct conf *c)
{
    return c->queue.history ? c->queue.history + c->queue.expire : 0;
}

int events_open(struct qmgr *q, const char *dir, struct err *err)
{
    struct history_options o = {.dir = dir, .keep = keep_of(service_conf(q->service)), .now = qmgr_wall(q)};
    return history_open(&q->history, &o, err);
}

void events_configure(struct qmgr *q)
{
    if (q->history)
        history_keep(q->history, keep_of(q->conf), qmgr_wall(q));
}

static void count(struct qmgr *q, enum rate what)
{
    rates_add(&q->rates, what, loop_now(q->loop));
}

void events_accepted(struct qmgr *q, const struct queue_message *m, size_t recipients, uint64_t about)
{
    struct history_event e = {.message = m->id,
                              .time = m->received,
                              .kind = HISTORY_ACCEPTED,
                              .sender = m->sender,
                              .message_id = m->message_id,
                              .origin = m->origin,
                              .account = m->account,
                              .client = m->remote,
                              .helo = m->helo,
                              .login = m->login,
                              .tls = m->tls,
                              .policy = m->policy,
                              .size = (int64_t)m->size,
                              .recipients = (int64_t)recipients,
                              .related = (int64_t)about};
    count(q, RATE_IN);
    history_add(q->history, &e);
}

static struct history_event event_of(struct qmgr *q, uint64_t message, const struct queue_recipient *r,
                                     enum history_kind kind, struct span sender)
{
    return (struct history_event){.message = message,
                                  .time = qmgr_wall(q),
                                  .kind = kind,
                                  .recipient = (int64_t)r->id,
                                  .sender = sender,
                                  .address = r->address,
                                  .original = r->original,
                                  .attempts = r->attempts};
}

static void count_verdict(struct qmgr *q, enum verdict v)
{
    if (v == VERDICT_DELIVERED)
        count(q, RATE_DELIVERED);
    else if (v == VERDICT_RELAYED)
        count(q, RATE_RELAYED);
    else if (v == VERDICT_DEFERRED)
        count(q, RATE_DEFERRED);
    else if (v == VERDICT_FAILED)
        count(q, RATE_BOUNCED);
}

static void put_response(struct history_event *e, const struct queue_recipient *r)
{
    e->host = r->host;
    e->status_class = r->kind;
    e->code = r->code;
    e->subject = r->subject;
    e->detail = r->detail;
    e->reply = r->why;
}

static void put_attempt(struct history_event *e, const struct queue_recipient *row, const struct rcpt *r)
{
    put_response(e, row);
    e->tls = r->tls;
    e->took = r->took;
    e->dialogue = row->dialogue;
}

/* The attempt that an operator's word had waited for. */
static void attempt_before(struct qmgr *q, const struct rcpt *r)
{
    struct history_event e = event_of(q, r->msg->m.id, r->tried, HISTORY_DEFERRED, rcpt_sender(r));
    put_attempt(&e, r->tried, r);
    history_add(q->history, &e);
}

void events_rcpt(struct qmgr *q, const struct rcpt *r)
{
    enum verdict v = r->verdict;
    bool tried = v == VERDICT_DELIVERED || v == VERDICT_RELAYED || v == VERDICT_DEFERRED || v == VERDICT_FAILED;
    count_verdict(q, v);
    if (r->tried)
        attempt_before(q, r);
    if (!kinds[v] || (v == VERDICT_PARKED && r->was == QUEUE_PARKED) || (v == VERDICT_PICKUP && r->was == QUEUE_PICKUP))
        return;
    if (v == VERDICT_RELEASED && !r->by)
        return; /* by a setting, or its domain asks for it */
    struct history_event e = event_of(q, r->msg->m.id, &r->r, r->expired ? HISTORY_EXPIRED : kinds[v], rcpt_sender(r));
    if (tried && !r->by)
        put_attempt(&e, &r->r, r);
    else if (tried)
        put_response(&e, &r->r);
    if (v == VERDICT_PARKED)
        e.reply = r->r.why;
    if (v == VERDICT_ROUTED)
        e.reply = r->r.route;
    e.operator = r->by;
    if (v == VERDICT_EXPANDED)
        e.recipients = (int64_t)r->child_count;
    if (v == VERDICT_REDIRECTED)
        e.reply = r->children[0].address;
    e.next = v == VERDICT_DEFERRED || v == VERDICT_PARKED ? r->r.next : 0;
    history_add(q->history, &e);
}

/* Held for its account's limits when it was accepted. */
void events_held(struct qmgr *q, uint64_t message, const struct queue_recipient *row, struct span sender)
{
    struct history_event e = event_of(q, message, row, HISTORY_HELD, sender);
    history_add(q->history, &e);
}

void events_told(struct qmgr *q, const struct rcpt *r, uint64_t notice)
{
    struct history_event e = event_of(q, r->msg->m.id, &r->r, HISTORY_TOLD, rcpt_sender(r));
    e.related = (int64_t)notice;
    e.reply = span_of(history_kind_name(r->expired ? HISTORY_EXPIRED : kinds[r->verdict] ? kinds[r->verdict] : HISTORY_DEFERRED));
    history_add(q->history, &e);
}
