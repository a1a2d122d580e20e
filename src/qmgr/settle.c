/* What became of recipients, recorded: one transaction for all of a message's that ended in the same turn, the
 * notification to the sender and the children of aliases included. Until it is on disk they stay in memory; a
 * transaction that fails is repeated. */
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "mail/address.h"
#include "qmgr/dests.h"

#define PATIENCE_LAZY_MS \
    20                /* delivered, deferred: these may wait for company; a crash repeats a step that is harmless */
#define PATIENCE_MS 1 /* relayed, failed, expanded */
#define AGAIN_MS 1000

/* A transaction on its way. */
struct settling {
    struct queue_settle s;
    struct qmgr *q;
    struct message *msg; /* NULL: a row that is not in memory */
    struct rcpt **rcpts;
    struct queue_change *changes;
    struct queue_recipient *children;
    struct message *notice;
    struct rcpt *notice_to;
    struct link link; /* in qmgr.unsettled */
    int64_t patience;
    /* without msg: */
    struct arena arena;
    enum verdict verdict;
    struct span sender;
    int64_t by;
    settle_done_fn *fn;
    void *ctx;
};

/* ---- verdicts ---- */

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
               : v == VERDICT_EXPANDED ? QUEUE_EXPANDED
                                       : QUEUE_WAITING;
    if (v == VERDICT_HELD || v == VERDICT_EXPANDED)
        r->next = 0;
    else if (v == VERDICT_RELEASED)
        r->next = now;
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
        r->r.next = now + retry_wait(&q->times, UINT32_MAX, qmgr_random(q));
    }
    set_row(&r->r, v, now);
    list_add_tail(&r->msg->finished, &r->link);
    settle_again(r->msg);
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

void settle_outcome(struct rcpt *r, enum verdict done, const struct outcome *o, struct span host)
{
    struct qmgr *q = r->msg->q;
    int64_t end, now = qmgr_wall(q);
    if (o->kind != OUTCOME_RETRY) {
        r->r.attempts++;
        r->r.last = now;
        settle_rcpt(r, o->kind == OUTCOME_DONE ? done : VERDICT_FAILED, o, host);
        return;
    }
    set_response(r, o, host);
    if (r->wish != VERDICT_NONE) {
        settle_rcpt(r, r->wish, NULL, SPAN_NONE);
    } else if (r->on_demand) {
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
    if (r->wish != VERDICT_NONE) {
        settle_rcpt(r, r->wish, NULL, SPAN_NONE);
        return;
    }
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

/* ---- after the commit ---- */

static const char *const events[] = {
    [VERDICT_DELIVERED] = "delivered", [VERDICT_RELAYED] = "relayed",    [VERDICT_EXPANDED] = "expanded",
    [VERDICT_DEFERRED] = "deferred",   [VERDICT_POSTPONED] = "deferred", [VERDICT_PARKED] = "held",
    [VERDICT_PICKUP] = "held",
    [VERDICT_HELD] = "held",           [VERDICT_RELEASED] = "released",  [VERDICT_REMOVED] = "removed",
    [VERDICT_FAILED] = "failed",       [VERDICT_ROUTED] = "routed",
};

static void log_row(const struct queue_message *m, const struct queue_recipient *r, enum verdict v, const char *event,
                    struct span sender, struct span tls)
{
    struct qid_text qid = qid_text(m->id);
    char status[24] = "";
    if (r->kind)
        snprintf(status, sizeof status, "%u.%u.%u", r->kind, r->subject, r->detail);
    bool later = v == VERDICT_DEFERRED || v == VERDICT_POSTPONED || v == VERDICT_PARKED || v == VERDICT_PICKUP;
    struct kv kvs[13];
    size_t n = 0;
    kvs[n++] = KVT("qid", qid.text);
    kvs[n++] = KVS("to", r->address);
    if (r->original.p)
        kvs[n++] = KVS("orig_to", r->original);
    kvs[n++] = KVS("from", sender.p ? sender : SPAN(""));
    if (v == VERDICT_DELIVERED || v == VERDICT_RELAYED)
        kvs[n++] = KVS("message_id", m->message_id);
    if (r->host.n)
        kvs[n++] = KVS("host", r->host);
    if (tls.n)
        kvs[n++] = KVS("tls", tls);
    kvs[n++] = KVU("attempts", r->attempts);
    if (v != VERDICT_DELIVERED && r->why.n) {
        if (r->code)
            kvs[n++] = KVU("code", r->code);
        kvs[n++] = KVT("status", status);
        kvs[n++] = KVS("why", r->why);
    }
    if (later)
        kvs[n++] = KVU("retry_in", (r->next - (r->last ? r->last : m->received)) / 1000);
    kvs[n] = (struct kv){0};
    log_event(LOG_LEVEL_INFO, event, kvs);
}

static void log_rcpt(const struct settling *s, const struct rcpt *r)
{
    const char *event = events[r->verdict];
    if (r->verdict == VERDICT_FAILED)
        event = r->expired ? "expired" : "failed";
    log_row(&r->msg->m, &r->r, r->verdict, event, rcpt_sender(r), r->tls);
    if (r->verdict != VERDICT_FAILED && !(s->notice && notice_wanted(r)))
        return;
    struct qid_text qid = msg_qid(r->msg);
    if (r->verdict != VERDICT_FAILED) {
        struct qid_text notice = msg_qid(s->notice);
        LOGI("told", KVT("qid", qid.text), KVS("to", r->r.address), KVS("from", rcpt_sender(r)),
             KVT("what", events[r->verdict]), KVT("notice", notice.text));
    } else if (s->notice && notice_wanted(r)) {
        struct qid_text notice = msg_qid(s->notice);
        LOGI("bounced", KVT("qid", qid.text), KVS("to", r->r.address), KVS("from", rcpt_sender(r)),
             KVT("notice", notice.text));
    } else {
        LOGI("not-bounced", KVT("qid", qid.text), KVS("to", r->r.address),
             KVT("why", rcpt_sender(r).n ? "not wanted" : "null sender"));
    }
}

static void activate_children(struct settling *s, struct rcpt *parent)
{
    for (size_t i = 0; i < parent->child_count; i++) {
        struct rcpt *c = rcpt_new(s->msg);
        c->r = parent->children[i];
        activate(s->q, c);
    }
}

static void settling_free(struct settling *s)
{
    if (s->notice)
        message_unref(s->notice);
    if (s->msg)
        message_unref(s->msg);
    mem_free(&s->rcpts);
    mem_free(&s->changes);
    mem_free(&s->children);
    arena_free(&s->arena);
    mem_free(&s);
}

static void recorded(struct settling *s)
{
    for (size_t i = 0; i < s->s.count; i++) {
        struct rcpt *r = s->rcpts[i];
        log_rcpt(s, r);
        events_rcpt(s->q, r);
        if (s->notice && notice_wanted(r))
            events_told(s->q, r, s->notice->m.id);
        if (r->verdict == VERDICT_EXPANDED)
            activate_children(s, r);
        if (s->changes[i].kind == QUEUE_UPDATE && r->r.next)
            refill_at(s->q, r->r.next);
        if (s->changes[i].kind == QUEUE_UPDATE && r->r.destination.p)
            dests_parked(s->q, r->r.destination);
        enum verdict wish =
            r->wish != r->verdict && s->changes[i].kind == QUEUE_UPDATE && (r->r.next || r->wish == VERDICT_ROUTED) ? r->wish
                                                                                                                      : VERDICT_NONE;
        rcpt_gone(r);
        if (wish != VERDICT_NONE) /* an operator's, who came while this was on its way */
            settle_row(s->q, &s->msg->m, &r->r, wish, r->by, NULL, NULL);
    }
    if (s->notice) {
        events_accepted(s->q, &s->notice->m, 1, s->msg->m.id);
        activate(s->q, s->notice_to);
    }
}

static void recorded_row(struct settling *s)
{
    const struct queue_recipient *r = &s->changes[0].row;
    events_row(s->q, s->s.message, r, s->verdict, s->sender, s->by);
    refill_note_gone(s->q, r->id);
    if (r->next && s->changes[0].kind == QUEUE_UPDATE)
        refill_at(s->q, r->next);
}

static void on_unsettled_timer(void *ctx);

static void try_again(struct settling *s, bool full)
{
    accept_close(s->q, full ? "Insufficient system storage, try again later" : "The queue can't write, try again later");
    list_add_tail(&s->q->unsettled, &s->link);
    timer_start(s->q->unsettled_timer, AGAIN_MS);
}

static void on_spooled(void *ctx, bool good)
{
    struct settling *s = ctx;
    if (good)
        queue_settle(s->q->queue, &s->s, s->patience);
    else
        try_again(s, false);
}

/* A notice's file comes before the row that names it. */
static void write_down(struct settling *s)
{
    if (s->notice && notice_is_large(s->notice))
        notice_spool(s->notice, on_spooled, s);
    else
        queue_settle(s->q->queue, &s->s, s->patience);
}

static void on_settled(struct queue_request *req)
{
    struct settling *s = container_of(container_of(req, struct queue_settle, request), struct settling, s);
    struct qmgr *q = s->q;
    if (req->fail != QUEUE_OK && !s->fn) {
        s->patience = PATIENCE_LAZY_MS;
        try_again(s, req->fail == QUEUE_FULL);
        return;
    }
    if (s->msg)
        recorded(s);
    else if (req->fail == QUEUE_OK)
        recorded_row(s);
    if (s->fn)
        s->fn(s->ctx, req->fail == QUEUE_OK);
    q->settles--;
    settling_free(s);
    qmgr_quiet(q);
}

static void on_unsettled_timer(void *ctx)
{
    struct qmgr *q = ctx;
    struct link again = LIST_INIT(again);
    while (!list_empty(&q->unsettled)) {
        struct link *l = q->unsettled.next;
        list_del(l);
        list_add_tail(&again, l);
    }
    while (!list_empty(&again)) {
        struct settling *s = container_of(again.next, struct settling, link);
        list_del(&s->link);
        write_down(s);
    }
}

/* ---- making the transaction ---- */

static bool row_goes(enum verdict v)
{
    return v == VERDICT_DELIVERED || v == VERDICT_RELAYED || v == VERDICT_REMOVED || v == VERDICT_FAILED;
}

static int64_t patience_of(enum verdict v)
{
    return v == VERDICT_RELAYED || v == VERDICT_FAILED || v == VERDICT_EXPANDED || v == VERDICT_REMOVED ||
                   v == VERDICT_HELD
               ? PATIENCE_MS
               : PATIENCE_LAZY_MS;
}

/* Failures wait until all recipients of their message are known, so that the sender hears of them together; and one
 * notification goes to one sender. What was delivered or relayed is recorded at once in any case. */
static bool not_yet(struct message *m, const struct rcpt *r, const struct rcpt *first, size_t told)
{
    if (!notice_wanted(r))
        return false;
    if (told >= NOTICE_RCPTS_MAX) /* RFC3461:5.2.6: each is named; those in another notice */
        return true;
    if (r->verdict == VERDICT_FAILED && m->expanding && chan_is_up(service_chan(m->q->service, ROLE_AUTHD, 0)))
        return true;
    return first && !span_eq(rcpt_sender(first), rcpt_sender(r));
}

/* ETRN and ATRN find by it what waits. What has its turn at once never gets there. */
static void note_domain(struct queue_recipient *r, struct arena *a)
{
    char name[ADDRESS_DOMAIN_MAX + 1];
    size_t n;
    struct span domain = span_from(r->address, (size_t)(span_rfind(r->address, '@') + 1));
    bool waits = r->state == QUEUE_WAITING || r->state == QUEUE_PARKED || r->state == QUEUE_PICKUP;
    r->domain = waits && domain_canonical(domain, name, &n) ? arena_dup(a, span_make(name, n)) : SPAN_NONE;
}

static struct settling *gather(struct message *m, const struct rcpt **told, size_t *told_count)
{
    struct settling *s = mem_alloc(sizeof *s);
    size_t max = 0, n = 0, children = 0;
    for (struct link *l = m->finished.next; l != &m->finished; l = l->next)
        max++;
    *s = (struct settling){.q = m->q, .msg = m, .patience = PATIENCE_LAZY_MS};
    s->rcpts = mem_array(max, sizeof *s->rcpts);
    s->changes = mem_array(max, sizeof *s->changes);
    *told_count = 0;
    LIST_EACH(&m->finished, l)
    {
        struct rcpt *r = container_of(l, struct rcpt, link);
        if (not_yet(m, r, *told_count ? told[0] : NULL, *told_count))
            continue;
        if (notice_wanted(r))
            told[(*told_count)++] = r;
        list_del(l);
        s->rcpts[n] = r;
        if (!row_goes(r->verdict))
            note_domain(&r->r, &m->arena);
        s->changes[n++] = (struct queue_change){row_goes(r->verdict) ? QUEUE_GONE : QUEUE_UPDATE, r->r};
        s->patience = MIN_OF(s->patience, patience_of(r->verdict));
        children += r->verdict == VERDICT_EXPANDED ? r->child_count : 0;
    }
    s->children = mem_array(children, sizeof *s->children);
    for (size_t i = 0; i < n; i++)
        if (s->rcpts[i]->verdict == VERDICT_EXPANDED) {
            memcpy(s->children + s->s.child_count, s->rcpts[i]->children,
                   s->rcpts[i]->child_count * sizeof *s->children);
            s->s.child_count += s->rcpts[i]->child_count;
        }
    s->s.count = n;
    return s;
}

static void submit(struct settling *s)
{
    struct qmgr *q = s->q;
    s->s.request.done = on_settled;
    s->s.changes = s->changes;
    s->s.children = s->children;
    q->settles++;
    write_down(s);
}

static bool something_to_tell(const struct message *m)
{
    for (const struct link *l = m->finished.next; l != &m->finished; l = l->next) {
        const struct rcpt *r = container_of(l, struct rcpt, link);
        if (notice_wanted(r))
            return true;
    }
    return false;
}

static void settle_message(struct message *m)
{
    if (something_to_tell(m) && !content_is_here(m, notice_needs(m))) {
        content_load(m, notice_needs(m)); /* comes back here */
        return;
    }
    size_t n = 0, most = 0;
    for (struct link *l = m->finished.next; l != &m->finished; l = l->next)
        most++;
    const struct rcpt **told = mem_array(most, sizeof *told);
    struct settling *s = gather(m, told, &n);
    if (s->s.count == 0) {
        s->msg = NULL;
        settling_free(s);
    } else {
        message_ref(m);
        s->s.message = m->m.id;
        s->s.spooled = m->m.spooled;
        s->notice = n ? notice_make(m, told, n, &s->notice_to) : NULL;
        s->s.notice = s->notice ? &s->notice->m : NULL;
        s->s.notice_to = s->notice ? &s->notice_to->r : NULL;
        if (m->m.spooled) /* attempts read its file */
            message_drop_content(m);
        submit(s);
        if (!list_empty(&m->finished) && m->expanding == 0)
            settle_again(m); /* another sender's, or more than one notice names */
    }
    mem_free(&told);
}

static void settle_all(void *ctx)
{
    struct qmgr *q = ctx;
    struct link now = LIST_INIT(now);
    while (!list_empty(&q->settling)) {
        struct link *l = q->settling.next;
        list_del(l);
        list_add_tail(&now, l);
    }
    while (!list_empty(&now)) {
        struct message *m = container_of(now.next, struct message, settle);
        list_del(&m->settle);
        settle_message(m);
    }
}

void settle_again(struct message *m)
{
    if (list_empty(&m->finished) || list_linked(&m->settle))
        return;
    list_add_tail(&m->q->settling, &m->settle);
    loop_defer(m->q->loop, &m->q->settle);
}

void settle_row(struct qmgr *q, const struct queue_message *msg, const struct queue_recipient *row, enum verdict v,
                int64_t by, settle_done_fn *fn, void *ctx)
{
    struct settling *s = mem_alloc(sizeof *s);
    int64_t now = qmgr_wall(q);
    *s = (struct settling){.q = q, .fn = fn, .ctx = ctx, .verdict = v, .by = by, .patience = PATIENCE_MS};
    s->changes = mem_array(1, sizeof *s->changes);
    s->changes[0] = (struct queue_change){row_goes(v) ? QUEUE_GONE : QUEUE_UPDATE, *row};
    struct queue_recipient *r = &s->changes[0].row;
    s->sender = arena_dup(&s->arena, msg->sender);
    r->address = arena_dup(&s->arena, row->address);
    r->original = row->original.p ? arena_dup(&s->arena, row->original) : SPAN_NONE;
    r->sender = row->sender.p ? arena_dup(&s->arena, row->sender) : SPAN_NONE;
    r->why = row->why.p ? arena_dup(&s->arena, row->why) : SPAN_NONE;
    r->host = row->host.p ? arena_dup(&s->arena, row->host) : SPAN_NONE;
    r->dialogue = row->dialogue.p ? arena_dup(&s->arena, row->dialogue) : SPAN_NONE;
    r->route = row->route.p ? arena_dup(&s->arena, row->route) : SPAN_NONE;
    r->destination = SPAN_NONE;
    if (v == VERDICT_ROUTED && row->destination.p) /* it waited for another one */
        r->next = now;
    if (v == VERDICT_RELEASED)
        queue_unpark(r);
    set_row(r, v, now);
    if (row->state == QUEUE_LIMITED && v == VERDICT_RELEASED) /* RFC4865:4.2: what its sender asked for still holds */
        r->next = MAX_OF(now, msg->hold_until);
    note_domain(r, &s->arena);
    log_row(msg, r, v, events[v], msg->sender, SPAN_NONE);
    s->s.message = msg->id;
    s->s.spooled = msg->spooled;
    s->s.count = 1;
    submit(s);
}

/* ---- life ---- */

void settle_init(struct qmgr *q)
{
    q->settle = (struct defer){.fn = settle_all, .ctx = q};
    q->unsettled_timer = timer_new(q->loop, on_unsettled_timer, q);
}

void settle_free(struct qmgr *q)
{
    loop_defer_cancel(q->loop, &q->settle);
    timer_free(&q->unsettled_timer);
    while (!list_empty(&q->unsettled)) {
        struct settling *s = container_of(q->unsettled.next, struct settling, link);
        list_del(&s->link);
        settling_free(s);
    }
}
