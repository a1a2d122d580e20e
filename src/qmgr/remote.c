/* Leases at relay: an attempt for one domain with some recipients of one message. Reports of recipients come one by
 * one, attempt_report ends it. A report for a lease that is no longer known is ignored. */
#include "base/log.h"
#include "qmgr/qmgr.h"

static struct chan *relay(struct qmgr *q)
{
    return service_chan(q->service, ROLE_RELAY, 0);
}

bool remote_ready(struct qmgr *q)
{
    return chan_is_up(relay(q)) && !chan_full(relay(q));
}

static void send(struct job *j)
{
    struct message *m = j->msg;
    struct chan *c = relay(m->q);
    struct qid_text qid = msg_qid(m);
    struct msg o = {.type = MSG_attempt};
    o.attempt = (struct msg_attempt){.lease = j->lease,
                                     .qid = span_of(qid.text),
                                     .domain = j->rcpts->domain,
                                     .route = j->rcpts->hop,
                                     .smarthost = j->rcpts->smarthost,
                                     .sender = rcpt_sender(j->rcpts),
                                     .size = m->m.size,
                                     .header_bytes = m->m.header_bytes,
                                     .body_kind = m->m.body_kind,
                                     .smtputf8 = m->m.smtputf8,
                                     .envid = m->m.envid,
                                     .ret = m->m.ret,
                                     .tls_need = m->m.tls_need,
                                     .deliver_by = (uint64_t)m->m.deliver_by,
                                     .by_mode = m->m.by_mode,
                                     .priority = msg_priority_put(m->m.priority),
                                     .pull = j->rcpts->pull};
    chan_say(c, &o, -1);
    o.type = MSG_attempt_rcpt;
    for (struct rcpt *r = j->rcpts; r; r = r->job_next) {
        o.attempt_rcpt = (struct msg_attempt_rcpt){.lease = j->lease,
                                                   .rcpt = r->r.id,
                                                   .address = r->children[0].address,
                                                   .notify = r->r.notify,
                                                   .orcpt = r->r.orcpt};
        chan_say(c, &o, -1);
    }
    o.type = MSG_attempt_go;
    o.attempt_go = (struct msg_attempt_go){.lease = j->lease, .prefix = m->m.prefix, .body = m->m.body};
    if (m->m.spooled)
        o.attempt_go.prefix = o.attempt_go.body = SPAN("");
    chan_say(c, &o, m->m.spooled ? m->fd : -1);
}

void remote_start(struct job *j)
{
    if (job_too_late(j) || job_misrouted(j))
        return;
    enum content c = content_ready(j);
    if (c == CONTENT_COMING)
        return;
    if (c != CONTENT_READY) {
        content_trouble(j, c);
        return;
    }
    job_lease(j);
    send(j);
    content_done(j->msg);
}

static struct rcpt *rcpt_of(struct job *j, uint64_t id)
{
    for (struct rcpt *r = j->rcpts; r; r = r->job_next)
        if (r->r.id == id && r->job == j)
            return r;
    return NULL;
}

static void one_report(struct qmgr *q, const struct msg_rcpt_report *p)
{
    struct job *j = job_by_lease(q, p->lease);
    struct rcpt *r = j ? rcpt_of(j, p->rcpt) : NULL;
    if (!r || r->reported || (p->kind != OUTCOME_DONE && p->kind != OUTCOME_RETRY && p->kind != OUTCOME_FAILED)) {
        LOGW("report-stale", KVU("lease", p->lease), KVU("rcpt", p->rcpt));
        return;
    }
    r->reported = arena_alloc(&r->msg->arena, sizeof *r->reported);
    *r->reported = outcome_text(p->kind, p->code, p->subject, p->detail, p->why);
    j->left--;
    r->took = loop_now(q->loop) - j->leased_at;
    if (p->tls.n)
        r->tls = arena_dup(&r->msg->arena, p->tls);
    r->r.dialogue = p->dialogue.n ? arena_dup(&r->msg->arena, p->dialogue) : SPAN_NONE;
    if (!j->said.p)
        j->said = arena_dup(&r->msg->arena, p->why);
    j->retriable |= p->kind == OUTCOME_RETRY;
    /* A 250 is recorded at once: until then another attempt would be a duplicate. */
    if (p->kind == OUTCOME_DONE) {
        r->job = NULL;
        r->tells = p->tells;
        r->by_taken = p->by;
        settle_outcome(r, VERDICT_RELAYED, r->reported, p->remote);
    }
}

static void final_report(struct qmgr *q, const struct msg_attempt_report *p)
{
    struct job *j = job_by_lease(q, p->lease);
    struct outcome silent = outcome_make(OUTCOME_RETRY, 0, 4, 0, "no report for this recipient");
    if (!j || j->class != SCHED_REMOTE) {
        LOGW("report-stale", KVU("lease", p->lease));
        return;
    }
    if (p->outdated) { /* a reload has not reached both of us yet */
        job_lost(j, "relay has another configuration");
        return;
    }
    struct message *m = j->msg;
    struct qid_text qid = msg_qid(m);
    LOGI("attempt", KVT("qid", qid.text), KVS("domain", j->name), KVU("recipients", j->count), KVS("remote", p->remote),
         KVS("tls", p->tls), KVU("took", p->took), KVU("unreached", p->unreached));
    message_ref(m);
    for (struct rcpt *r = j->rcpts, *next; r; r = next) {
        next = r->job_next;
        if (r->job != j)
            continue; /* settled already */
        r->job = NULL;
        settle_outcome(r, VERDICT_RELAYED, r->reported ? r->reported : &silent, p->remote);
    }
    /* A domain that does not exist says so at once and for good: nothing is down. */
    job_end(j, p->unreached && j->retriable ? SCHED_UNREACHED : SCHED_REACHED);
    message_unref(m);
}

void remote_report(struct qmgr *q, const struct msg *m)
{
    if (m->type == MSG_rcpt_report)
        one_report(q, &m->rcpt_report);
    else
        final_report(q, &m->attempt_report);
}

/* Down, or a fresh pair: whatever the old one held has no report coming. */
void remote_changed(struct qmgr *q)
{
    struct link lost = LIST_INIT(lost);
    LIST_EACH(&q->leased, l)
    {
        struct job *j = container_of(l, struct job, link);
        if (j->class == SCHED_REMOTE) {
            list_del(l);
            list_add_tail(&lost, l);
        }
    }
    while (!list_empty(&lost))
        job_lost(container_of(lost.next, struct job, link), "relay ended");
}
