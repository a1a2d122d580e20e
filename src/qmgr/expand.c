/* Who is that recipient now? authd says so at each attempt: an account here, other addresses, a domain elsewhere. Other
 * addresses become recipients of their own, in one transaction with the state of the one that they come from. */
#include <unistd.h>

#include "base/log.h"
#include "mail/address.h"
#include "qmgr/route.h"

#define CHILDREN_MAX 10000
#define AGREE_MS 1000 /* until the directory has the same configuration */

/* authd went away or is too slow. Somebody whose question kills it has to wait. */
static void no_answer(struct rcpt *r, enum chan_why why)
{
    if (why == CHAN_GONE && ++r->deaths < WORKER_DEATHS_MAX) {
        rcpt_move(r, RCPT_PICKED);
        rcpt_pick(r);
        return;
    }
    struct outcome o = outcome_make(OUTCOME_RETRY, 0, 4, 3, "the directory did not answer");
    r->msg->expanding--;
    settle_outcome(r, VERDICT_NONE, &o, SPAN_NONE);
    work_release_open(r->msg);
}

/* A target of an alias, or the one answer. */
static void take_item(struct rcpt *r, const struct msg_expand_item *i)
{
    struct arena *a = &r->msg->arena;
    if (r->child_count >= CHILDREN_MAX)
        return;
    if (i->kind == 1 && r->child_count == 0) {
        r->account = i->account;
        r->detail = arena_dup(a, i->detail);
        r->login = arena_dup(a, i->address);
    } else if (i->kind == 3) {
        r->relay = true;
    }
    if (r->child_count == r->child_cap) {
        struct queue_recipient *old = r->children;
        r->child_cap = r->child_cap ? r->child_cap * 4 : 1;
        r->children = arena_alloc(a, r->child_cap * sizeof *r->children);
        if (r->child_count)
            memcpy(r->children, old, r->child_count * sizeof *old);
    }
    r->children[r->child_count++] =
        (struct queue_recipient){.parent = r->r.id,
                                 .state = QUEUE_WAITING,
                                 .depth = (uint8_t)(r->r.depth + 1),
                                 .notify = r->r.notify,
                                 .passed = r->r.passed & QUEUE_PASSED_RULES,
                                 .orcpt = r->r.orcpt,
                                 .sender = r->r.sender,
                                 .route = r->r.route,
                                 .address = arena_dup(a, i->address),
                                 .original = r->r.original.p ? r->r.original : r->r.address};
    r->children[r->child_count - 1].state = i->kind == 2 ? QUEUE_WAITING : 0; /* 0: not another address */
}

static void on_item(void *ctx, struct chan *c, enum chan_why why, const struct msg *m, int fd)
{
    (void)c;
    (void)why;
    if (fd >= 0)
        close(fd);
    if (m->type == MSG_expand_item)
        take_item(ctx, &m->expand_item);
}

static bool only_addresses(const struct rcpt *r)
{
    for (size_t i = 0; i < r->child_count; i++)
        if (r->children[i].state != QUEUE_WAITING)
            return false;
    return r->child_count > 0;
}

static void expanded(struct rcpt *r)
{
    struct qmgr *q = r->msg->q;
    if (r->r.depth + 1 > DEPTH_MAX) { /* RFC3463:3.5 X.4.6 */
        struct outcome o = outcome_make(OUTCOME_FAILED, 0, 4, 6, "aliases lead to aliases without end");
        settle_rcpt(r, VERDICT_FAILED, &o, SPAN_NONE);
        return;
    }
    uint64_t id = queue_ids(q->queue, r->child_count);
    for (size_t i = 0; i < r->child_count; i++) {
        r->children[i].id = id + i;
        r->children[i].next = qmgr_wall(q);
        r->children[i].notify = notice_inherited(r->r.notify, r->child_count);
    }
    settle_rcpt(r, VERDICT_EXPANDED, NULL, SPAN_NONE);
}

static void remote_domain(struct rcpt *r)
{
    char room[ADDRESS_DOMAIN_MAX + 1];
    r->domain = arena_dup(&r->msg->arena, canonical_domain(r->children[0].address, room));
}

/* By an operator: a domain may be, also where a smarthost takes its mail; not what an operator has sent elsewhere. */
static bool is_suspended(const struct qmgr *q, struct span domain)
{
    const struct sched_dest *d = sched_find(&q->sched, SCHED_REMOTE, domain);
    return d && d->suspended;
}

/* Whose turn it waits for. Over the connection that the host of its domain has reversed there is no other host. */
static void find_hop(struct rcpt *r)
{
    struct hop h;
    if (r->pull) {
        r->dest = r->domain;
        r->hop = SPAN_NONE;
        r->smarthost = false;
        return;
    }
    hop_find(r->msg->q->conf, r->domain, r->r.route, &h);
    r->dest = !r->r.route.n && is_suspended(r->msg->q, r->domain) ? r->domain : arena_dup(&r->msg->arena, span_make(h.name, h.n));
    r->hop = arena_dup(&r->msg->arena, h.host);
    r->smarthost = h.smarthost;
}

/* A customer's domain: over the connection that it reversed, or when it has asked for it; else it waits. */
static void on_demand(struct rcpt *r)
{
    struct qmgr *q = r->msg->q;
    if (!policy_on_demand(q, r->r.address)) { /* else what was read before a reload would wait until it expires */
        r->on_demand = false;
        settle_postpone(r, qmgr_wall(q) + AGREE_MS, "the directory has another configuration");
        return;
    }
    remote_domain(r);
    r->on_demand = true;
    r->pull = pull_for(q, r->domain);
    find_hop(r);
    if (r->pull || (r->r.passed & QUEUE_PASSED))
        work_queue(r);
    else
        settle_pickup(r, NULL, SPAN_NONE);
}

static void known(struct rcpt *r, const struct msg_expand_end *e)
{
    struct outcome o = outcome_make(e->kind == OUTCOME_FAILED ? OUTCOME_FAILED : OUTCOME_RETRY, 0, e->subject,
                                    e->detail, "%.*s", SPANV(e->why));
    if (e->kind != OUTCOME_DONE || r->child_count == 0) {
        settle_outcome(r, VERDICT_NONE, &o, SPAN_NONE);
    } else if (hold_wanted(r, &o)) {
        settle_rcpt(r, VERDICT_PARKED, &o, SPAN_NONE);
    } else if (e->held == 2 && r->relay && r->child_count == 1) {
        on_demand(r);
    } else if (e->held && !(r->r.passed & QUEUE_PASSED)) {
        hold_by_domain(&o);
        settle_rcpt(r, VERDICT_PARKED, &o, SPAN_NONE);
    } else if (only_addresses(r)) {
        expanded(r);
    } else if (r->child_count != 1) {
        o = outcome_make(OUTCOME_RETRY, 0, 3, 5, "the directory gave an answer that makes no sense");
        settle_rcpt(r, VERDICT_DEFERRED, &o, SPAN_NONE);
    } else {
        if (r->relay) {
            remote_domain(r);
            find_hop(r);
        }
        work_queue(r);
    }
}

static void on_end(void *ctx, struct chan *c, enum chan_why why, const struct msg *m, int fd)
{
    struct rcpt *r = ctx;
    (void)c;
    r->ask = 0;
    if (fd >= 0)
        close(fd);
    if (why != CHAN_ANSWERED || m->type != MSG_expand_end) {
        no_answer(r, why);
        return;
    }
    const struct msg_expand_end *e = &m->expand_end;
    if (e->item)
        take_item(r, &(struct msg_expand_item){.kind = e->item, .account = e->account, .address = e->address, .detail = e->mailbox_detail});
    r->msg->expanding--;
    known(r, e);
    work_release_open(r->msg);
}

static void ask(struct rcpt *r)
{
    struct chan *authd = service_chan(r->msg->q->service, ROLE_AUTHD, 0);
    struct msg m = {.type = MSG_expand, .expand = {.address = r->r.address, .depth = r->r.depth}};
    r->child_count = 0;
    r->relay = false;
    r->account = 0;
    rcpt_move(r, RCPT_EXPANDING);
    r->ask = chan_ask_many(authd, &m, -1, on_end, on_item, MSG_expand_end, r);
    if (r->ask)
        return;
    struct outcome o = outcome_make(OUTCOME_FAILED, 0, 1, 3, "not an address");
    r->msg->expanding--;
    settle_rcpt(r, VERDICT_FAILED, &o, SPAN_NONE);
    work_release_open(r->msg);
}

void expand_some(struct qmgr *q)
{
    struct chan *authd = service_chan(q->service, ROLE_AUTHD, 0);
    while (!q->draining && q->picked.count && q->asked < ASKED_MAX && chan_is_up(authd) && !chan_full(authd))
        ask(container_of(turns_next(&q->picked), struct rcpt, turn));
}

void expand_forget(struct rcpt *r)
{
    chan_forget(service_chan(r->msg->q->service, ROLE_AUTHD, 0), r->ask);
    r->ask = 0;
}
