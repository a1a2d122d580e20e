/* Into the queue: transactions of smtpd and mda, up to their commit (commit.c). Nothing of a transaction is on disk before that, except
 * the spool file that its sender fills. The account of a submission is authd's word, never smtpd's. */
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "qmgr/accept.h"

#define TXNS_MAX 20000 /* open on one channel */
#define TXN_RCPTS_MAX 100000
#define RCPT_ADDRESS_MAX 1024 /* octets, as in the message's list */
#define SESSIONS_FRESH_MS 1000 /* how long a sender's count of sessions is believed */

struct asking {
    struct queue_token token;
    struct qmgr *q;
    struct senders *from;
    struct link link;
    uint32_t epoch;
    uint64_t id;
};

static struct link questions = LIST_INIT(questions);

/* ---- answers ---- */

void say_queued(struct senders *from, uint32_t epoch, uint64_t id, uint64_t message, uint32_t slow)
{
    struct qid_text qid = qid_text(message);
    struct msg m = {.type = MSG_queued, .queued = {.qid = span_of(qid.text), .slow = slow}};
    if (from)
        chan_answer(from->chan, epoch, id, &m, -1);
}

void say_not_queued(struct senders *from, uint32_t epoch, uint64_t id, const struct outcome *o)
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

void txn_free(struct txn *t)
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
    commits_orphan(s);
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
        count_sessions(q, s, m->msg_commit.sessions);
        commit_on_msg(s, m);
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
