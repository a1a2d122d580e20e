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
    struct message *msg;
    struct rcpt **rcpts;
    struct queue_change *changes;
    struct queue_recipient *children;
    struct message *notice;
    struct rcpt *notice_to;
    struct link link; /* in qmgr.unsettled */
    int64_t patience;
};

/* ---- after the commit ---- */

static const char *const events[] = {
    [VERDICT_DELIVERED] = "delivered", [VERDICT_RELAYED] = "relayed",    [VERDICT_EXPANDED] = "expanded",
    [VERDICT_DEFERRED] = "deferred",   [VERDICT_POSTPONED] = "deferred", [VERDICT_PARKED] = "held",
    [VERDICT_PICKUP] = "held",
    [VERDICT_HELD] = "held",           [VERDICT_RELEASED] = "released",  [VERDICT_REMOVED] = "removed",
    [VERDICT_FAILED] = "failed",       [VERDICT_ROUTED] = "routed",
    [VERDICT_REDIRECTED] = "redirected", [VERDICT_ADDED] = "added",
};

static void log_row(const struct queue_message *m, const struct queue_recipient *r, enum verdict v, const char *event,
                    struct span sender, struct span tls)
{
    struct qid_text qid = qid_text(m->id);
    char status_text[24];
    struct buf status = {.p = status_text, .cap = sizeof status_text};
    if (r->kind)
        outcome_put_status(&status, r->kind, r->subject, r->detail);
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
        kvs[n++] = KVS("status", buf_span(&status));
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
    if ((r->verdict == VERDICT_PARKED && r->was == QUEUE_PARKED) || (r->verdict == VERDICT_PICKUP && r->was == QUEUE_PICKUP))
        return; /* as before */
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

void settle_parked_new(struct rcpt *r)
{
    log_row(&r->msg->m, &r->r, r->verdict, events[r->verdict], rcpt_sender(r), SPAN_NONE);
    events_rcpt(r->msg->q, r);
    refill_at(r->msg->q, r->r.next);
}

/* What an operator wanted of it while it was being expanded is for those that it leads to. */
static void activate_children(struct settling *s, struct rcpt *parent)
{
    for (size_t i = 0; i < parent->child_count; i++) {
        const struct queue_recipient *row = &parent->children[i];
        if (parent->wish.verdict != VERDICT_NONE) {
            settle_item(s->q, &(struct queue_item){s->msg->m, *row}, &parent->wish, NULL, NULL);
        } else if (row->next > qmgr_wall(s->q)) {
            refill_at(s->q, row->next);
        } else if (row->next) {
            struct rcpt *c = rcpt_new(s->msg);
            c->r = *row;
            activate(s->q, c);
        }
    }
}

static void settling_free(struct settling *s)
{
    if (s->notice)
        message_unref(s->notice);
    message_unref(s->msg);
    mem_free(&s->rcpts);
    mem_free(&s->changes);
    mem_free(&s->children);
    mem_free(&s);
}

/* It leaves memory; who waits for it hears of it. */
static void leave(struct rcpt *r, bool ok)
{
    settle_done_fn *fn = r->done;
    void *ctx = r->done_ctx;
    rcpt_gone(r);
    if (fn)
        fn(ctx, ok);
}

static void recorded_one(struct settling *s, struct rcpt *r, bool stays)
{
    log_rcpt(s, r);
    events_rcpt(s->q, r);
    if (s->notice && notice_wanted(r))
        events_told(s->q, r, s->notice->m.id);
    if (r->verdict == VERDICT_EXPANDED || r->verdict == VERDICT_REDIRECTED) {
        activate_children(s, r);
        stays = false;
    }
    if (stays && r->r.next)
        refill_at(s->q, r->r.next);
    if (stays && r->r.destination.p)
        dests_parked(s->q, r->r.destination);
    leave(r, true);
    if (stays && r->wish.verdict != VERDICT_NONE) /* an operator's, who came while this was on its way */
        settle_item(s->q, &(struct queue_item){s->msg->m, r->r}, &r->wish, NULL, NULL);
}

static void recorded(struct settling *s)
{
    for (size_t i = 0; i < s->s.count; i++)
        if (s->rcpts[i]->verdict == VERDICT_ADDED && s->s.message_gone)
            leave(s->rcpts[i], false);
        else
            recorded_one(s, s->rcpts[i], s->changes[i].kind != QUEUE_GONE);
    if (s->notice) {
        events_accepted(s->q, &s->notice->m, 1, s->msg->m.id);
        activate(s->q, s->notice_to);
    }
}

/* An operator waits for all of it: he is told that it can't be done, and it stays as it was on disk. */
static bool given_up(struct settling *s)
{
    for (size_t i = 0; i < s->s.count; i++)
        if (!s->rcpts[i]->done || s->rcpts[i]->wish.verdict != VERDICT_NONE)
            return false;
    for (size_t i = 0; i < s->s.count; i++)
        leave(s->rcpts[i], false);
    if (s->notice && s->notice->m.spooled)
        queue_spool_remove(s->q->queue, s->notice->m.id);
    refill_at(s->q, qmgr_wall(s->q) + AGAIN_MS);
    return true;
}

static void on_unsettled_timer(void *ctx);

static void close_door(struct qmgr *q, bool full)
{
    door_close(q, full ? "Insufficient system storage, try again later" : "The queue can't write, try again later");
}

static void try_again(struct settling *s)
{
    list_add_tail(&s->q->unsettled, &s->link);
    timer_start(s->q->unsettled_timer, AGAIN_MS);
}

static void on_spooled(void *ctx, bool good)
{
    struct settling *s = ctx;
    if (good) {
        queue_settle(s->q->queue, &s->s, s->patience);
        return;
    }
    close_door(s->q, false);
    try_again(s);
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
    if (req->fail != QUEUE_OK)
        close_door(q, req->fail == QUEUE_FULL);
    if (req->fail != QUEUE_OK && !given_up(s)) {
        s->patience = PATIENCE_LAZY_MS;
        try_again(s);
        return;
    }
    if (req->fail == QUEUE_OK)
        recorded(s);
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
                   v == VERDICT_HELD || v == VERDICT_RELEASED || v == VERDICT_REDIRECTED || v == VERDICT_ADDED
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
void settle_note_domain(struct queue_recipient *r, struct arena *a)
{
    char name[ADDRESS_DOMAIN_MAX + 1];
    size_t n;
    struct span domain = span_from(r->address, (size_t)(span_rfind(r->address, '@') + 1));
    bool waits = r->state == QUEUE_WAITING || r->state == QUEUE_PARKED || r->state == QUEUE_PICKUP;
    r->domain = waits && domain_canonical(domain, name, &n) ? arena_dup(a, span_make(name, n)) : SPAN_NONE;
}

static enum queue_change_kind change_of(enum verdict v)
{
    return row_goes(v) ? QUEUE_GONE : v == VERDICT_ADDED ? QUEUE_INSERT : QUEUE_UPDATE;
}

static bool leads_on(const struct rcpt *r)
{
    return r->verdict == VERDICT_EXPANDED || r->verdict == VERDICT_REDIRECTED;
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
            settle_note_domain(&r->r, &m->arena);
        s->changes[n++] = (struct queue_change){change_of(r->verdict), r->r};
        s->patience = MIN_OF(s->patience, patience_of(r->verdict));
        children += leads_on(r) ? r->child_count : 0;
    }
    s->children = mem_array(children, sizeof *s->children);
    for (size_t i = 0; i < n; i++)
        if (leads_on(s->rcpts[i])) {
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
    message_ref(m);
    if (s->s.count == 0) {
        settling_free(s);
    } else {
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
        for (size_t i = 0; i < s->s.count; i++)
            if (s->rcpts[i]->done)
                s->rcpts[i]->done(s->rcpts[i]->done_ctx, false);
        settling_free(s);
    }
}
