/* Into the queue: transactions of smtpd and mda. Nothing of a transaction is on disk before its commit, except the
 * spool file that its sender fills; nothing is answered before it is. RFC5321:4.2.5, RFC5321:6.1. The account of a
 * submission is authd's word, never smtpd's. */
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "qmgr/limits.h"

#define TXNS_MAX 20000 /* open on one channel */
#define TXN_RCPTS_MAX 100000
#define RCPT_ADDRESS_MAX 1024 /* octets, as in the message's list */
#define SESSIONS_FRESH_MS 1000 /* how long a sender's count of sessions is believed */

enum checked { CHECK_NONE, CHECK_ASKED, CHECK_GOOD, CHECK_REFUSED, CHECK_LATER };

struct senders {
    struct link link;
    struct chan *chan;
    struct idmap txns;
    unsigned sessions;
    int64_t sessions_at;
};

struct txn {
    struct qmgr *q;
    struct senders *from;
    uint64_t id;
    struct message *msg;
    struct link rcpts;
    unsigned count;
    enum checked checked;
    uint64_t ask;
    struct outcome refusal;
    uint32_t most[SENDING_LIMITS]; /* that its account may send */
    struct map named; /* addresses, from the second one on */
    bool too_many;
    bool spooled;       /* its file was opened */
    uint64_t commit_id; /* the request that waits for authd */
    char token[QUEUE_TOKEN_BYTES];
};

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

struct asking {
    struct queue_token token;
    struct qmgr *q;
    struct senders *from;
    struct link link;
    uint32_t epoch;
    uint64_t id;
};

static struct link in_flight = LIST_INIT(in_flight), questions = LIST_INIT(questions);

/* ---- answers ---- */

static void say_queued(struct senders *from, uint32_t epoch, uint64_t id, uint64_t message, uint32_t slow)
{
    struct qid_text qid = qid_text(message);
    struct msg m = {.type = MSG_queued, .queued = {.qid = span_of(qid.text), .slow = slow}};
    if (from)
        chan_answer(from->chan, epoch, id, &m, -1);
}

static void say_not_queued(struct senders *from, uint32_t epoch, uint64_t id, const struct outcome *o)
{
    struct msg m = {
        .type = MSG_not_queued,
        .not_queued = {
            .kind = o->kind, .code = o->code, .subject = o->subject, .detail = o->detail, .why = span_of(o->text)}};
    if (from)
        chan_answer(from->chan, epoch, id, &m, -1);
}

/* ---- senders ---- */

static void tell_door(struct qmgr *q, struct senders *s)
{
    struct msg m = {.type = MSG_queue_state,
                    .queue_state = {.open = q->open, .why = q->open ? SPAN("") : span_of(q->closed_why)}};
    chan_say(s->chan, &m, -1);
}

void accept_tell_senders(struct qmgr *q)
{
    LIST_EACH(&q->sender_list, l)
        tell_door(q, container_of(l, struct senders, link));
}

static struct senders *senders_of(struct qmgr *q, struct chan *c)
{
    LIST_EACH(&q->sender_list, l)
    {
        struct senders *s = container_of(l, struct senders, link);
        if (s->chan == c)
            return s;
    }
    struct senders *s = mem_alloc(sizeof *s);
    s->chan = c;
    list_add_head(&q->sender_list, &s->link);
    return s;
}

static void count_sessions(struct qmgr *q, struct senders *s, unsigned sessions)
{
    int64_t now = loop_now(q->loop);
    unsigned all = 0;
    s->sessions = sessions;
    s->sessions_at = now;
    LIST_EACH(&q->sender_list, l)
    {
        const struct senders *other = container_of(l, struct senders, link);
        if (now - other->sessions_at < SESSIONS_FRESH_MS)
            all += other->sessions;
    }
    queue_senders(q->queue, all);
}

static void txn_free(struct txn *t)
{
    idmap_del(&t->from->txns, t->id);
    if (t->ask)
        chan_forget(service_chan(t->q->service, ROLE_AUTHD, 0), t->ask);
    if (t->msg && t->spooled)
        queue_spool_remove(t->q->queue, t->msg->m.id);
    if (t->msg)
        message_unref(t->msg);
    map_free(&t->named);
    mem_free(&t);
}

static void drop_transactions(struct senders *s)
{
    uint64_t key;
    void *v;
    for (size_t at = 0; idmap_next(&s->txns, &at, &key, &v); at = 0)
        txn_free(v);
}

void accept_peer_changed(struct qmgr *q, struct chan *c, bool gone)
{
    struct senders *s = senders_of(q, c);
    drop_transactions(s);
    if (!gone) {
        if (chan_is_up(c) && !q->open)
            tell_door(q, s);
        return;
    }
    LIST_EACH(&in_flight, l)
    if (container_of(l, struct accepting, link)->from == s)
        container_of(l, struct accepting, link)->from = NULL;
    LIST_EACH(&questions, l)
    if (container_of(l, struct asking, link)->from == s)
        container_of(l, struct asking, link)->from = NULL;
    list_del(&s->link);
    idmap_free(&s->txns);
    mem_free(&s);
}

/* ---- a transaction ---- */

static enum queue_origin origin_of(enum role r)
{
    static const enum queue_origin origins[ROLE_COUNT] = {[ROLE_MX] = QUEUE_FROM_OUTSIDE,
                                                          [ROLE_SUBMISSION] = QUEUE_FROM_SUBMISSION,
                                                          [ROLE_LOCAL] = QUEUE_FROM_LOCAL,
                                                          [ROLE_MDA] = QUEUE_FROM_ACCOUNT};
    return origins[r];
}

static void commit_go(struct txn *t);

/* RFC6710:3: smtpd has said so to the client; here it is made sure. */
static bool may_hurry(const struct qmgr *q, struct span login)
{
    const struct conf_list *l = &q->conf->smtp.priority_accounts;
    for (size_t i = 0; i < l->n; i++)
        if (span_ieqs(login, l->items[i]))
            return true;
    return false;
}

static void take_limits(struct txn *t, const struct msg_verdict *v)
{
    t->most[SENDING_MESSAGES_HOUR] = v->messages_hour;
    t->most[SENDING_RECIPIENTS_HOUR] = v->recipients_hour;
    t->most[SENDING_MESSAGES_DAY] = v->messages_day;
    t->most[SENDING_RECIPIENTS_DAY] = v->recipients_day;
    t->most[SENDING_NEW_DAY] = v->new_day;
}

static void on_verdict(void *ctx, struct chan *c, enum chan_why why, const struct msg *m, int fd)
{
    struct txn *t = ctx;
    (void)c;
    t->ask = 0;
    if (fd >= 0)
        close(fd);
    if (why != CHAN_ANSWERED || m->type != MSG_verdict) {
        t->checked = CHECK_LATER;
        t->refusal = outcome_make(OUTCOME_RETRY, 451, 3, 0, "Your login can't be checked just now, try again later");
    } else if (m->verdict.kind == OUTCOME_DONE) {
        t->checked = CHECK_GOOD;
        t->msg->m.account = m->verdict.account;
        t->msg->m.login = arena_dup(&t->msg->arena, m->verdict.login);
        take_limits(t, &m->verdict);
        if (t->msg->m.priority > 0 && !may_hurry(t->q, m->verdict.login))
            t->msg->m.priority = 0;
    } else {
        const struct msg_verdict *v = &m->verdict;
        t->checked = v->kind == OUTCOME_RETRY ? CHECK_LATER : CHECK_REFUSED;
        t->refusal = outcome_make(v->kind == OUTCOME_RETRY ? OUTCOME_RETRY : OUTCOME_FAILED, v->code ? v->code : 550u,
                                  v->subject, v->detail, "%.*s", SPANV(v->why));
    }
    if (t->commit_id)
        commit_go(t);
}

static void check_sender(struct txn *t, const struct msg_msg_begin *b)
{
    enum role role = chan_peer(t->from->chan);
    t->checked = CHECK_GOOD;
    if (role != ROLE_SUBMISSION)
        return;
    t->checked = CHECK_REFUSED;
    t->refusal = outcome_make(OUTCOME_FAILED, 530, 7, 0, "Authentication required");
    if (b->session == 0)
        return;
    struct msg m = {
        .type = MSG_sender_check,
        .sender_check = {.instance = chan_instance(t->from->chan), .session = b->session, .sender = b->sender}};
    t->ask = chan_ask(service_chan(t->q->service, ROLE_AUTHD, 0), &m, -1, on_verdict, t);
    t->checked = t->ask ? CHECK_ASKED : CHECK_REFUSED;
}

/* What only our own users may ask for is nobody else's (RFC4865:4.2, RFC6710:5). */
static void take_wishes(struct message *msg, const struct msg_msg_begin *b)
{
    struct queue_message *m = &msg->m;
    bool ours = m->origin != QUEUE_FROM_OUTSIDE;
    m->tls = arena_dup(&msg->arena, b->tls);
    m->tls_need = b->tls_need;
    m->deliver_by = (int64_t)MIN_OF(b->deliver_by, (uint64_t)INT64_MAX);
    m->by_mode = m->deliver_by ? b->by_mode : 0;
    m->hold_until = ours ? (int64_t)MIN_OF(b->hold_until, (uint64_t)INT64_MAX) : 0;
    m->hold = m->hold_until ? arena_dup(&msg->arena, b->hold) : SPAN("");
    m->terminal = b->terminal;
    m->priority = ours ? msg_priority_get(b->priority) : 0;
}

static void on_begin(struct qmgr *q, struct senders *from, const struct msg_msg_begin *b)
{
    struct txn *t = idmap_get(&from->txns, b->txn);
    if (t) {
        LOGW("transaction-repeated", KVT("peer", role_name(chan_peer(from->chan))));
        txn_free(t);
    }
    if (from->txns.count >= TXNS_MAX)
        return; /* its commit will not be known, and be refused for now */
    t = mem_alloc(sizeof *t);
    *t = (struct txn){.q = q, .from = from, .id = b->txn, .msg = message_new(q, 0)};
    list_init(&t->rcpts);
    struct queue_message *m = &t->msg->m;
    struct arena *a = &t->msg->arena;
    m->sender = arena_dup(a, b->sender);
    m->helo = arena_dup(a, b->helo);
    m->remote = arena_dup(a, b->remote);
    m->envid = arena_dup(a, b->envid);
    m->policy = arena_dup(a, b->policy);
    m->body_kind = b->body_kind;
    m->smtputf8 = b->smtputf8;
    m->ret = b->ret;
    m->origin = origin_of(chan_peer(from->chan));
    if (m->origin == QUEUE_FROM_ACCOUNT)
        m->account = chan_instance(from->chan);
    if (m->origin == QUEUE_FROM_LOCAL) /* "uid 1000": the kernel's word to smtpd-local */
        m->login = m->remote;
    take_wishes(t->msg, b);
    idmap_put(&from->txns, t->id, t);
    check_sender(t, b);
}

/* The address with its domain in small letters, in `room`. */
static struct span small_domain(struct span address, char *room)
{
    ptrdiff_t at = span_rfind(address, '@');
    for (size_t i = 0; i < address.n; i++)
        room[i] = at >= 0 && i > (size_t)at ? ascii_lower(address.p[i]) : address.p[i];
    return span_make(room, address.n);
}

static bool name(struct txn *t, struct span address)
{
    char room[RCPT_ADDRESS_MAX];
    return address.n <= sizeof room && map_put(&t->named, small_domain(address, room), t);
}

/* Nobody gets a message twice because a client names him twice; what the first naming asked for holds. Only the domain is
 * without case for everybody (RFC5321:2.4). */
static bool is_repeated(struct txn *t, struct span address)
{
    if (!t->named.count)
        LIST_EACH(&t->rcpts, l)
            name(t, container_of(l, struct rcpt, link)->r.address);
    return name(t, address);
}

static void on_rcpt(struct senders *from, const struct msg_msg_rcpt *m)
{
    struct txn *t = idmap_get(&from->txns, m->txn);
    if (!t)
        return;
    if (t->count && is_repeated(t, m->address))
        return;
    if (t->count >= TXN_RCPTS_MAX) {
        t->too_many = true;
        return;
    }
    struct rcpt *r = rcpt_new(t->msg);
    r->r.address = arena_dup(&t->msg->arena, m->address);
    r->r.orcpt = arena_dup(&t->msg->arena, m->orcpt);
    r->r.notify = m->notify;
    list_add_tail(&t->rcpts, &r->link);
    t->count++;
}

static void first_rcpt(struct senders *from, const struct msg_msg_begin *b)
{
    if (b->rcpt.n)
        on_rcpt(from, &(struct msg_msg_rcpt){.txn = b->txn, .address = b->rcpt, .notify = b->notify, .orcpt = b->orcpt});
}

static void on_spool_open(struct qmgr *q, struct senders *from, const struct msg *m)
{
    struct txn *t = idmap_get(&from->txns, m->spool_open.txn);
    struct outcome o = outcome_make(OUTCOME_RETRY, 451, 3, 0, "The transaction is not known, try again later");
    struct err err;
    uint32_t epoch = chan_epoch(from->chan);
    int fd = -1;
    if (t && !door_open(q)) {
        o = door_why(q);
    } else if (t && !t->spooled) {
        t->msg->m.id = queue_ids(q->queue, 1);
        fd = queue_spool_create(q->queue, t->msg->m.id, &err);
        t->spooled = fd >= 0;
        o = door_why(q);
        if (fd < 0)
            LOGE("spool-open", KVT("why", err.text));
    }
    if (fd < 0) {
        say_not_queued(from, epoch, m->id, &o);
        return;
    }
    struct qid_text qid = qid_text(t->msg->m.id);
    chan_answer(from->chan, epoch, m->id,
                &(struct msg){.type = MSG_spool_file, .spool_file = {.qid = span_of(qid.text)}}, fd);
    close(fd);
}

/* ---- the commit ---- */

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

/* authd has spoken. */
static void commit_go(struct txn *t)
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

static void on_commit(struct qmgr *q, struct senders *from, const struct msg *m)
{
    const struct msg_msg_commit *c = &m->msg_commit;
    struct txn *t = idmap_get(&from->txns, c->txn);
    count_sessions(q, from, c->sessions);
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

/* ---- the token ---- */

static void on_token(struct queue_request *r)
{
    struct asking *k = container_of(container_of(r, struct queue_token, request), struct asking, token);
    struct outcome o = outcome_make(OUTCOME_RETRY, 451, 3, 0,
                                    r->fail == QUEUE_OK ? "The message was not queued, try again later"
                                                        : "The queue can't be read just now, try again later");
    if (r->fail == QUEUE_OK && k->token.message)
        say_queued(k->from, k->epoch, k->id, k->token.message, 0);
    else
        say_not_queued(k->from, k->epoch, k->id, &o);
    list_del(&k->link);
    k->q->accepting--;
    qmgr_quiet(k->q);
    mem_free(&k);
}

static void on_token_ask(struct qmgr *q, struct senders *from, const struct msg *m)
{
    struct outcome o = outcome_make(OUTCOME_RETRY, 451, 3, 0, "Not a token");
    if (m->token_ask.token.n != QUEUE_TOKEN_BYTES) {
        say_not_queued(from, chan_epoch(from->chan), m->id, &o);
        return;
    }
    struct asking *k = mem_alloc(sizeof *k);
    *k = (struct asking){
        .q = q, .from = from, .epoch = chan_epoch(from->chan), .id = m->id, .token.request.done = on_token};
    memcpy(k->token.token, m->token_ask.token.p, QUEUE_TOKEN_BYTES);
    list_add_tail(&questions, &k->link);
    q->accepting++;
    queue_token_ask(q->queue, &k->token);
}

/* ---- from outside of this file ---- */

void accept_message(struct qmgr *q, struct chan *from, const struct msg *m)
{
    struct senders *s = senders_of(q, from);
    struct txn *t;
    switch (m->type) {
    case MSG_msg_begin:
        on_begin(q, s, &m->msg_begin);
        first_rcpt(s, &m->msg_begin);
        break;
    case MSG_msg_rcpt:
        on_rcpt(s, &m->msg_rcpt);
        break;
    case MSG_msg_abort:
        t = idmap_get(&s->txns, m->msg_abort.txn);
        if (t)
            txn_free(t);
        break;
    case MSG_spool_open:
        on_spool_open(q, s, m);
        break;
    case MSG_msg_commit:
        on_commit(q, s, m);
        break;
    case MSG_token_ask:
        on_token_ask(q, s, m);
        break;
    default:
        LOGW("message-not-expected", KVT("peer", role_name(chan_peer(from))),
             KVT("message", msg_info((unsigned)m->type)->name));
    }
}

void accept_free(struct qmgr *q)
{
    while (!list_empty(&q->sender_list))
        accept_peer_changed(q, container_of(q->sender_list.next, struct senders, link)->chan, true);
}
