/* The commit of a transaction: one row of the queue's database for the message, one for each recipient, and what its account's limits or the
 * configuration make of it, all at once or not at all. Nothing is answered before it is on disk. RFC5321:4.2.5, RFC5321:6.1. */
#include "base/log.h"
#include "base/mem.h"
#include "qmgr/accept.h"

/* A commit on its way; what it holds has been taken out of the transaction. */
struct accepting {
    struct queue_accept accept;
    struct qmgr *q;
    struct message *msg;
    struct rcpt **rcpts;
    struct senders *from; /* NULL: its channel went away */
    struct link link;     /* nothing is done with it but finding it when the channel goes */
    uint32_t epoch;
    uint32_t generation; /* of the configuration that held its recipients */
    uint64_t commit_id;
    char token[QUEUE_TOKEN_BYTES];
    struct limits_verdict limits;
    struct held_commit *held; /* with limits.hold */
};

/* What goes in with a message that is held because of its account's limits. */
struct held_commit {
    struct queue_limited limited;
    struct queue_notice notices[LIMITS_NOTICES];
    struct message *messages[LIMITS_NOTICES]; /* NULL: none */
    struct rcpt *to[LIMITS_NOTICES];
};

static struct link in_flight = LIST_INIT(in_flight);

void commits_orphan(const struct senders *s)
{
    LIST_EACH(&in_flight, l)
    if (container_of(l, struct accepting, link)->from == s)
        container_of(l, struct accepting, link)->from = NULL;
}

/* ---- what it came to ---- */

static void log_queued(const struct accepting *a)
{
    const struct queue_message *m = &a->msg->m;
    struct qid_text qid = msg_qid(a->msg);
    LOGI("queued", KVT("qid", qid.text), KVS("from", m->sender), KVU("recipients", a->accept.count),
         KVU("size", m->size), KVU("account", m->account), KVS("message_id", m->message_id));
}

static void accepting_free(struct accepting *a)
{
    struct qmgr *q = a->q;
    list_del(&a->link);
    q->accepting--;
    for (size_t i = 0; a->held && i < LIMITS_NOTICES; i++)
        if (a->held->messages[i])
            message_unref(a->held->messages[i]);
    mem_free(&a->held);
    message_unref(a->msg);
    mem_free(&a->rcpts);
    mem_free(&a);
    qmgr_quiet(q);
}

static void refuse_accepted(struct accepting *a)
{
    struct outcome o = outcome_make(OUTCOME_RETRY, 451, 3, 0, "The content did not arrive whole, try again later");
    if (!a->accept.damaged) {
        door_close(a->q, a->accept.request.fail == QUEUE_FULL ? "Insufficient system storage, try again later"
                                                                : "The queue can't write, try again later");
        o = door_why(a->q);
    }
    /* A sync that failed: the row may yet be there after a restart, which settles both. */
    if (a->msg->m.spooled && a->accept.request.fail != QUEUE_BROKEN)
        queue_spool_remove(a->q->queue, a->msg->m.id);
    say_not_queued(a->from, a->epoch, a->commit_id, &o);
}

/* Its recipients wait; its notices, if any, go out. */
static void begin_held(struct accepting *a)
{
    struct qid_text qid = msg_qid(a->msg);
    LOGI("held", KVT("qid", qid.text), KVS("from", a->msg->m.sender), KVU("account", a->msg->m.account), KVT("why", "its account has sent more than it may"));
    for (size_t i = 0; i < a->accept.count; i++)
        events_held(a->q, a->msg->m.id, &a->accept.recipients[i], a->msg->m.sender);
    for (size_t i = 0; i < a->accept.notice_count; i++) {
        events_accepted(a->q, &a->held->messages[i]->m, 1, a->msg->m.id);
        activate(a->q, a->held->to[i]);
    }
}

/* What held it may be gone since its commit was on its way. */
static void begin_rcpt(struct qmgr *q, struct rcpt *r, uint32_t generation)
{
    struct outcome why;
    if (r->verdict == VERDICT_PARKED) {
        if (generation == q->conf->generation || hold_stands(q, &r->msg->m, &r->r, &why)) {
            settle_parked_new(r);
            return;
        }
        refill_at(q, r->r.next); /* as its row has it, if there is no room now */
        queue_unpark(&r->r);
        r->verdict = VERDICT_NONE;
    }
    activate(q, r);
}

static void begin(struct accepting *a)
{
    if (a->limits.hold) {
        begin_held(a);
        return;
    }
    int64_t at = queue_message_begins(&a->msg->m);
    if (at > qmgr_wall(a->q)) { /* RFC4865:4.2: not before its time */
        refill_at(a->q, at);
        return;
    }
    for (size_t i = 0; i < a->accept.count; i++)
        begin_rcpt(a->q, a->rcpts[i], a->generation);
}

static void on_accepted(struct queue_request *r)
{
    struct accepting *a = container_of(container_of(r, struct queue_accept, request), struct accepting, accept);
    bool good = r->fail == QUEUE_OK && !a->accept.damaged && !a->accept.duplicate_of;
    if (r->fail != QUEUE_OK || a->accept.damaged) {
        refuse_accepted(a);
    } else if (a->accept.duplicate_of) {
        if (a->msg->m.spooled)
            queue_spool_remove(a->q->queue, a->msg->m.id);
        say_queued(a->from, a->epoch, a->commit_id, a->accept.duplicate_of, 0);
    } else {
        log_queued(a);
        events_accepted(a->q, &a->msg->m, a->accept.count, 0);
        say_queued(a->from, a->epoch, a->commit_id, a->msg->m.id, a->limits.slow);
        begin(a);
    }
    if (a->limits.hold)
        limits_committed(a->q, a->msg->m.account, a->limits.tell, good);
    accepting_free(a);
}

/* ---- on its way ---- */

/* Accepted and held: nothing of it is due, its account's state goes in with it. */
static void hold(struct accepting *a, struct queue_recipient *rows, size_t n)
{
    const struct limited *w = limits_of(a->q, a->msg->m.account);
    struct held_commit *h = a->held = mem_alloc(sizeof *h);
    struct span why = arena_printf(&a->msg->arena, "its account has sent more than it may: %s", w->reason);
    for (size_t i = 0; i < n; i++) {
        rows[i].state = QUEUE_LIMITED;
        rows[i].next = 0;
        rows[i].kind = OUTCOME_RETRY; /* RFC3463:3.8 X.7.1 */
        rows[i].subject = 7;
        rows[i].detail = 1;
        rows[i].why = why;
    }
    h->limited = (struct queue_limited){.account = w->account,
                                        .login = a->msg->m.login,
                                        .since = w->since,
                                        .reason = arena_dup(&a->msg->arena, span_of(w->reason)),
                                        .told = a->limits.tell};
    a->accept.limited = &h->limited;
    for (unsigned i = 0; a->limits.tell && i < LIMITS_NOTICES; i++) {
        h->messages[i] = limits_notice(w, i, a->msg->m.remote, &h->to[i]);
        h->notices[i] = (struct queue_notice){&h->messages[i]->m, &h->to[i]->r};
        a->accept.notice_count++;
    }
    a->accept.notices = h->notices;
}

static void submit(struct txn *t, const struct limits_verdict *limits)
{
    struct qmgr *q = t->q;
    struct message *msg = t->msg;
    struct accepting *a = mem_alloc(sizeof *a);
    struct queue_recipient *rows = arena_alloc(&msg->arena, t->count * sizeof *rows);
    uint64_t ids = queue_ids(q->queue, (uint64_t)t->count + (t->spooled ? 0 : 1));
    size_t n = 0;
    if (!t->spooled)
        msg->m.id = ids++;
    msg->m.received = qmgr_wall(q);
    *a = (struct accepting){
        .q = q, .msg = msg, .from = t->from, .epoch = chan_epoch(t->from->chan), .generation = q->conf->generation, .commit_id = t->commit_id, .limits = *limits};
    memcpy(a->token, t->token, sizeof a->token);
    a->rcpts = mem_array(t->count, sizeof *a->rcpts);
    bool at_once = queue_message_begins(&msg->m) <= msg->m.received && !limits->hold;
    LIST_EACH(&t->rcpts, l)
    {
        struct rcpt *r = container_of(l, struct rcpt, link);
        struct outcome why;
        list_del(l);
        r->r.id = ids++;
        r->r.state = QUEUE_WAITING;
        r->r.next = queue_message_begins(&msg->m);
        if (at_once && hold_stands(q, &msg->m, &r->r, &why))
            settle_park_new(r, &why);
        a->rcpts[n] = r;
        rows[n++] = r->r;
    }
    a->accept = (struct queue_accept){
        .request.done = on_accepted, .message = &msg->m, .recipients = rows, .count = n, .token = a->token};
    if (limits->hold)
        hold(a, rows, n);
    list_add_tail(&in_flight, &a->link);
    q->accepting++;
    t->msg = NULL; /* the reference is the commit's now, and so is the file */
    txn_free(t);
    queue_accept(q->queue, &a->accept);
}

static bool sizes_agree(const struct txn *t, const struct msg_msg_commit *c)
{
    uint64_t given = (uint64_t)c->prefix.n + c->body.n;
    if (c->token.n != QUEUE_TOKEN_BYTES || c->header_bytes > c->size || (c->spooled != 0) != t->spooled)
        return false;
    return c->spooled ? given == 0 : given == c->size && given <= IPC_INLINE_MAX;
}

static bool is_refused(struct txn *t, struct limits_verdict *limits, struct outcome *why)
{
    if (t->checked != CHECK_GOOD) {
        *why = t->refusal;
    } else if (!door_open(t->q)) {
        *why = door_why(t->q);
    } else {
        *limits = limits_judge(t->q, &t->msg->m, t->most, &t->rcpts, t->count);
        if (!limits->refuse)
            return false;
        *why = outcome_make(OUTCOME_RETRY, 450, 7, 1, "Your account has sent more than it may, try again later");
    }
    return true;
}

void commit_go(struct txn *t)
{
    struct limits_verdict limits;
    struct outcome why;
    if (t->checked == CHECK_ASKED)
        return;
    if (!is_refused(t, &limits, &why)) {
        submit(t, &limits);
        return;
    }
    say_not_queued(t->from, chan_epoch(t->from->chan), t->commit_id, &why);
    txn_free(t);
}

static void take_content(struct txn *t, const struct msg_msg_commit *c)
{
    struct queue_message *m = &t->msg->m;
    memcpy(t->token, c->token.p, sizeof t->token);
    m->size = c->size;
    m->header_bytes = c->header_bytes;
    m->message_id = arena_dup(&t->msg->arena, c->message_id);
    m->marks = arena_dup(&t->msg->arena, c->marks);
    m->spooled = t->spooled;
    if (c->eight_bit && m->body_kind == QUEUE_BODY_7BIT) /* it came without BODY=8BITMIME */
        m->body_kind = QUEUE_BODY_8BIT;
    if (!t->spooled)
        message_keep_content(t->msg, c->prefix, c->body);
}

void commit_on_msg(struct senders *from, const struct msg *m)
{
    const struct msg_msg_commit *c = &m->msg_commit;
    struct txn *t = idmap_get(&from->txns, c->txn);
    if (t && !t->too_many && t->count > 0 && !t->commit_id && sizes_agree(t, c)) {
        t->commit_id = m->id;
        take_content(t, c);
        commit_go(t);
        return;
    }
    struct outcome why = !t            ? outcome_make(OUTCOME_RETRY, 451, 3, 0, "The transaction is not known, try again later")
                         : t->too_many ? outcome_make(OUTCOME_RETRY, 452, 5, 3, "Too many recipients")
                                       : outcome_make(OUTCOME_RETRY, 451, 3, 0, "The transaction is not complete");
    say_not_queued(from, chan_epoch(from->chan), m->id, &why);
    if (t && !t->commit_id)
        txn_free(t);
}
