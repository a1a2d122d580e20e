/* What becomes of a recipient: by an attempt, by the clock, by an operator. settle.c records it. */
#include "base/mem.h"
#include "qmgr/qmgr.h"

static void set_response(struct rcpt *r, const struct outcome *o, struct span host)
{
    struct arena *a = &r->msg->arena;
    r->r.kind = o->kind;
    r->r.code = o->code;
    r->r.subject = o->subject;
    r->r.detail = o->detail;
    r->r.why = arena_dup(a, span_of(o->text));
    r->r.host = host.n ? arena_dup(a, host) : SPAN_NONE;
    if (!r->reported) /* relay's report has brought its own */
        r->r.dialogue = SPAN_NONE;
}

static void set_row(struct queue_recipient *r, enum verdict v, int64_t now)
{
    if (v == VERDICT_ROUTED)
        return;
    r->state = v == VERDICT_PARKED     ? QUEUE_PARKED
               : v == VERDICT_PICKUP   ? QUEUE_PICKUP
               : v == VERDICT_HELD     ? QUEUE_HELD
               : v == VERDICT_EXPANDED || v == VERDICT_REDIRECTED ? QUEUE_EXPANDED
                                                                  : QUEUE_WAITING;
    if (r->state == QUEUE_HELD || r->state == QUEUE_EXPANDED)
        r->next = 0;
    else if (v == VERDICT_RELEASED)
        r->next = now;
}

static int64_t look_again_at(struct qmgr *q)
{
    return qmgr_wall(q) + retry_wait(&q->times, UINT32_MAX, qmgr_random(q));
}

void settle_rcpt(struct rcpt *r, enum verdict v, const struct outcome *o, struct span host)
{
    struct qmgr *q = r->msg->q;
    int64_t now = qmgr_wall(q);
    list_del(&r->link);
    rcpt_move(r, RCPT_SETTLING);
    r->verdict = v;
    r->was = r->r.state;
    if (o)
        set_response(r, o, host);
    if (v == VERDICT_DEFERRED) {
        r->delayed = notice_delay_due(r, r->r.last, now);
        r->r.attempts++;
        r->r.last = now;
        r->r.next = now + policy_wait(q, &r->r);
    } else if (v == VERDICT_PARKED) {
        r->r.next = look_again_at(q);
    }
    if (v == VERDICT_RELEASED)
        queue_unpark(&r->r);
    set_row(&r->r, v, now);
    if (v == VERDICT_RELEASED && r->was == QUEUE_LIMITED) /* RFC4865:4.2: what its sender asked for still holds */
        r->r.next = MAX_OF(now, r->msg->m.hold_until);
    list_add_tail(&r->msg->finished, &r->link);
    settle_again(r->msg);
}

void settle_park_new(struct rcpt *r, const struct outcome *why)
{
    r->verdict = VERDICT_PARKED;
    r->was = r->r.state;
    r->r.state = QUEUE_PARKED;
    r->r.next = qmgr_wall(r->msg->q) + retry_longest(&r->msg->q->times); /* as they came: their rows' places are beside each other */
    set_response(r, why, SPAN_NONE);
    settle_note_domain(&r->r, &r->msg->arena);
}

/* Given up when it has been tried for long enough (RFC5321:4.5.4.1); otherwise the last attempt is made at that time.
 */
static bool too_old(struct rcpt *r, int64_t now, int64_t *end)
{
    *end = retry_end(&r->msg->q->times, queue_message_begins(&r->msg->m), rcpt_sender(r).n == 0);
    return now >= *end;
}

static void expire(struct rcpt *r)
{
    if (settle_wish(r))
        return;
    r->expired = true;
    r->late = settle_too_late(r->msg);
    settle_rcpt(r, VERDICT_FAILED, NULL, SPAN_NONE);
}

/* ---- DELIVERBY ---- */

bool settle_too_late(const struct message *m)
{
    return (m->m.by_mode & QUEUE_BY_RETURN) && qmgr_wall(m->q) >= m->m.deliver_by;
}

void settle_late(struct rcpt *r)
{
    if (!r->r.why.p) {
        struct outcome o = outcome_make(OUTCOME_FAILED, 0, 4, 7, "its time had passed before it could be attempted");
        set_response(r, &o, SPAN_NONE);
    }
    expire(r);
}

/* It is looked at when the time comes; RFC2852:4.1.3: with mode N the sender is told then, once, and it goes on. */
static void watch_time(struct rcpt *r, int64_t now)
{
    const struct queue_message *m = &r->msg->m;
    if (!m->by_mode || r->r.next == 0)
        return;
    if (now < m->deliver_by) {
        r->r.next = MIN_OF(r->r.next, m->deliver_by);
    } else if ((m->by_mode & QUEUE_BY_NOTIFY) && !r->r.told) {
        r->r.told = true;
        r->late = r->delayed = notice_late_due(r);
    }
}

void settle_pickup(struct rcpt *r, const struct outcome *o, struct span host)
{
    int64_t end, now = qmgr_wall(r->msg->q);
    struct outcome waits = outcome_make(OUTCOME_RETRY, 0, 0, 0, "it waits until its domain asks for it (ATRN, ETRN)");
    if (o) {
        r->r.attempts++;
        r->r.last = now;
    }
    if (o || !r->r.why.p)
        set_response(r, o ? o : &waits, host);
    r->r.passed &= (uint8_t)~QUEUE_PASSED;
    if (too_old(r, now, &end) || settle_too_late(r->msg)) {
        expire(r);
        return;
    }
    settle_rcpt(r, VERDICT_PICKUP, NULL, SPAN_NONE);
    r->r.next = end;
    watch_time(r, now);
}

/* An attempt has ended otherwise than with a delivery, and an operator had his say meanwhile. What it met is kept; who
 * was to hear of a failure hears of the one that there was. */
static bool tried_and_wished(struct rcpt *r, const struct outcome *o, struct span host)
{
    if (r->wish.verdict == VERDICT_NONE || o->kind == OUTCOME_DONE ||
        (o->kind == OUTCOME_FAILED && r->wish.verdict == VERDICT_FAILED))
        return false;
    set_response(r, o, host);
    r->r.attempts++;
    r->r.last = qmgr_wall(r->msg->q);
    struct queue_recipient *row = arena_alloc(&r->msg->arena, sizeof *row);
    *row = r->r;
    r->tried = row;
    return settle_wish(r);
}

void settle_outcome(struct rcpt *r, enum verdict done, const struct outcome *o, struct span host)
{
    struct qmgr *q = r->msg->q;
    int64_t end, now = qmgr_wall(q);
    if (tried_and_wished(r, o, host))
        return;
    if (o->kind != OUTCOME_RETRY) {
        r->r.attempts++;
        r->r.last = now;
        settle_rcpt(r, o->kind == OUTCOME_DONE ? done : VERDICT_FAILED, o, host);
        return;
    }
    set_response(r, o, host);
    if (r->on_demand) {
        settle_pickup(r, o, host);
    } else if (too_old(r, now, &end) || settle_too_late(r->msg)) {
        r->r.attempts++;
        r->r.last = now;
        expire(r);
    } else {
        settle_rcpt(r, VERDICT_DEFERRED, NULL, SPAN_NONE);
        r->r.next = MIN_OF(r->r.next, end);
        watch_time(r, now);
    }
}

void settle_postpone(struct rcpt *r, int64_t at, const char *why)
{
    struct qmgr *q = r->msg->q;
    int64_t end, now = qmgr_wall(q);
    if (settle_wish(r))
        return;
    if (!r->r.why.p) {
        struct outcome o = outcome_make(OUTCOME_RETRY, 0, 4, 1, "%s", why);
        set_response(r, &o, SPAN_NONE);
    }
    if (r->on_demand) {
        settle_pickup(r, NULL, SPAN_NONE);
        return;
    }
    if (too_old(r, now, &end) || settle_too_late(r->msg)) {
        expire(r);
        return;
    }
    int64_t last = r->r.last;
    if (notice_delay_due(r, last, now)) { /* it has not been attempted for so long */
        r->delayed = true;
        r->r.last = now;
    }
    settle_rcpt(r, VERDICT_POSTPONED, NULL, SPAN_NONE);
    r->r.next = MIN_OF(at + (int64_t)(qmgr_random(q) % (uint64_t)(MAX_OF(at - now, (int64_t)1) / 8 + 1)), end);
    watch_time(r, now);
}

void settle_park(struct rcpt *r, struct span destination, const char *why)
{
    const struct message *m = r->msg;
    const struct qmgr *q = m->q;
    int64_t begins = queue_message_begins(&m->m);
    int64_t end = retry_end(&q->times, begins, rcpt_sender(r).n == 0);
    int64_t tell = begins + q->conf->queue.delay_warning;
    int64_t at = qmgr_wall(q) < tell ? MIN_OF(tell, end) : end;
    settle_postpone(r, at, why);
    if (r->verdict != VERDICT_POSTPONED)
        return;
    r->r.next = MIN_OF(r->r.next, at);
    r->r.destination = arena_dup(&r->msg->arena, destination);
}

/* ---- what operators make of it ---- */

/* The one that it leads to: what its sender asked for goes along, and so does a hold that is not over. */
static void make_target(struct rcpt *r, struct span to)
{
    struct qmgr *q = r->msg->q;
    bool stays = r->r.state == QUEUE_HELD || r->r.state == QUEUE_LIMITED;
    r->children = arena_alloc(&r->msg->arena, sizeof *r->children);
    r->child_count = 1;
    *r->children = (struct queue_recipient){
        .id = queue_ids(q->queue, 1),
        .parent = r->r.id,
        .state = stays ? r->r.state : QUEUE_WAITING,
        .depth = (uint8_t)(r->r.depth + 1),
        .notify = r->r.notify,
        .passed = r->r.passed & QUEUE_PASSED_RULES,
        .told = r->r.told,
        .next = stays ? 0 : MAX_OF(qmgr_wall(q), queue_message_begins(&r->msg->m)),
        .address = to,
        .original = r->r.original.p ? r->r.original : r->r.address,
        .orcpt = r->r.orcpt,
        .sender = r->r.sender,
    };
}

bool settle_wish(struct rcpt *r)
{
    struct wish w = r->wish;
    struct outcome o = {0};
    r->wish = (struct wish){0};
    if (w.verdict == VERDICT_NONE)
        return false;
    r->by = w.by;
    if (w.verdict == VERDICT_FAILED) { /* RFC3463:3.8 X.7.1 */
        o = outcome_make(OUTCOME_FAILED, 0, 7, 1, "returned by the operator%s%.*s", w.text.n ? ": " : "", SPANV(w.text));
    } else if (w.verdict == VERDICT_ROUTED) {
        r->r.route = w.text.n ? w.text : SPAN_NONE;
    } else if (w.verdict == VERDICT_REDIRECTED) {
        make_target(r, w.text);
        o = outcome_make(0, 0, 0, 0, "redirected by an operator to %.*s", SPANV(w.text));
    }
    settle_rcpt(r, w.verdict, o.text[0] ? &o : NULL, SPAN_NONE);
    if (o.text[0])
        r->r.dialogue = SPAN_NONE;
    return true;
}

static struct wish copy_wish(struct arena *a, const struct wish *w)
{
    struct wish copy = *w;
    copy.text = w->text.n ? arena_dup(a, w->text) : SPAN("");
    return copy;
}

static struct message *message_for(struct qmgr *q, const struct queue_message *row)
{
    struct message *m = idmap_get(&q->messages, row->id);
    if (m) {
        message_ref(m);
        return m;
    }
    m = message_from_row(q, row);
    idmap_put(&q->messages, m->m.id, m);
    return m;
}

/* In memory for as long as its change takes to be recorded. */
static void enter(struct rcpt *r, settle_done_fn *fn, void *ctx)
{
    idmap_put(&r->msg->q->rcpts, r->r.id, r);
    message_ref(r->msg);
    r->state = RCPT_QUEUED; /* known; its turn is the operator's */
    r->done = fn;
    r->done_ctx = ctx;
}

void settle_added(struct qmgr *q, const struct queue_message *row, struct span address, int64_t by, settle_done_fn *fn, void *ctx)
{
    struct message *m = message_for(q, row);
    struct rcpt *r = rcpt_new(m);
    r->r = (struct queue_recipient){.id = queue_ids(q->queue, 1),
                                    .state = QUEUE_WAITING,
                                    .next = MAX_OF(qmgr_wall(q), queue_message_begins(&m->m)),
                                    .address = arena_dup(&m->arena, address),
                                    .orcpt = SPAN("")};
    r->by = by;
    enter(r, fn, ctx);
    settle_rcpt(r, VERDICT_ADDED, NULL, SPAN_NONE);
    message_unref(m);
}

void settle_item(struct qmgr *q, const struct queue_item *i, const struct wish *w, settle_done_fn *fn, void *ctx)
{
    struct message *m = message_for(q, &i->message);
    struct rcpt *r = rcpt_from_row(m, &i->recipient);
    enter(r, fn, ctx);
    r->wish = copy_wish(&m->arena, w);
    if (w->verdict == VERDICT_ROUTED && i->recipient.destination.p) /* it waited for another one */
        r->r.next = qmgr_wall(q);
    settle_wish(r);
    message_unref(m);
}

/* A wish that waits. Another host beside what was wanted before: with it. */
static void keep_wish(struct rcpt *r, const struct wish *w)
{
    struct wish copy = copy_wish(&r->msg->arena, w);
    if (w->verdict == VERDICT_ROUTED)
        r->r.route = copy.text.n ? copy.text : SPAN_NONE;
    if (w->verdict != VERDICT_ROUTED || r->wish.verdict == VERDICT_NONE)
        r->wish = copy;
}

/* It is being recorded: what its row becomes may be changed again afterwards, unless it goes. */
static bool wish_later(struct rcpt *r, const struct wish *w)
{
    switch (r->verdict) {
    case VERDICT_DELIVERED:
    case VERDICT_RELAYED:
    case VERDICT_REMOVED:
    case VERDICT_FAILED:
    case VERDICT_REDIRECTED:
        return false;
    case VERDICT_EXPANDED: /* then for each of those that it leads to */
        if (w->verdict == VERDICT_RELEASED || w->verdict == VERDICT_REDIRECTED)
            return false;
        break;
    default:
        break;
    }
    if (r->verdict == w->verdict && w->verdict != VERDICT_ROUTED)
        r->wish = (struct wish){0};
    else
        keep_wish(r, w);
    return true;
}

static bool under_way(const struct rcpt *r)
{
    return r->state == RCPT_STORED || (r->state == RCPT_QUEUED && (r->doubted || r->job->lease || r->job->sched.under_way));
}

bool settle_active(struct rcpt *r, const struct wish *w, settle_done_fn *fn, void *ctx, bool *coming)
{
    struct message *m = r->msg;
    *coming = false;
    if (r->state == RCPT_SETTLING)
        return wish_later(r, w);
    if (w->verdict == VERDICT_RELEASED) { /* it is being tried */
        r->wish = (struct wish){0};
        return true;
    }
    if (under_way(r)) {
        keep_wish(r, w);
        return true;
    }
    message_ref(m);
    if (r->state == RCPT_QUEUED)
        job_drop_rcpt(r);
    else
        m->expanding--;
    if (r->state == RCPT_EXPANDING)
        expand_forget(r);
    r->wish = copy_wish(&m->arena, w);
    r->done = fn;
    r->done_ctx = ctx;
    *coming = fn != NULL;
    settle_wish(r);
    work_release_open(m);
    message_unref(m);
    return true;
}
