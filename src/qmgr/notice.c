/* Notifications: whom to tell what became of recipients (RFC 3461 §5.2), and the message that says it. Nobody is told
 * for a null reverse-path, so that notifications never answer each other (RFC5321:4.5.5, HAZARDS 16 and 17); but the address
 * of double-bounce-to, once, when a notification to somebody else failed. */
#include "base/mem.h"
#include "conf/notice_text.h"
#include "mail/dsn.h"
#include "qmgr/qmgr.h"

#define HEADER_MAX_BACK 32768 /* of the original's header */

/* RFC2852:4.1.4, RFC2852:4.1.4.2: when a trace was asked for, or the next host doesn't watch the time. */
static bool by_relayed(const struct rcpt *r)
{
    const struct queue_message *m = &r->msg->m;
    return (m->by_mode & QUEUE_BY_TRACE) ||
           ((m->by_mode & QUEUE_BY_NOTIFY) && !r->by_taken && r->r.last < m->deliver_by);
}

/* Without case also before the @: it is our operator's word, and a loop would be worse than a notice that is missing. */
static bool is_double_bounce(const struct rcpt *r)
{
    const struct conf_list *to = &r->msg->q->conf->queue.double_bounce_to;
    return to->n && r->verdict == VERDICT_FAILED && r->msg->m.origin == QUEUE_NOTIFICATION && rcpt_sender(r).n == 0 &&
           !span_ieqs(r->r.original.p ? r->r.original : r->r.address, to->items[0]);
}

bool notice_wanted(const struct rcpt *r)
{
    uint8_t notify = r->r.notify;
    if (is_double_bounce(r))
        return true;
    if (rcpt_sender(r).n == 0 || (notify & QUEUE_NOTIFY_NEVER))
        return false;
    switch (r->verdict) {
    case VERDICT_FAILED: /* RFC3461:5.2.6 */ return notify == 0 || (notify & QUEUE_NOTIFY_FAILURE);
    case VERDICT_DEFERRED:
    case VERDICT_POSTPONED: return r->delayed;
    case VERDICT_DELIVERED: /* RFC3461:5.2.3 */ return notify & QUEUE_NOTIFY_SUCCESS;
    case VERDICT_RELAYED: /* RFC3461:5.2.2 */ return by_relayed(r) || ((notify & QUEUE_NOTIFY_SUCCESS) && !r->tells);
    case VERDICT_EXPANDED: /* RFC3461:5.2.7.2, RFC3461:5.2.7.3 */
        return (notify & QUEUE_NOTIFY_SUCCESS) && r->child_count > 1;
    default: return false;
    }
}

/* RFC3461:5.2.7.2: one target has all of it. RFC3461:5.2.7.3 (c): several have it without SUCCESS, which was answered
 * with "expanded"; who asked for nothing else is told nothing. */
uint8_t notice_inherited(uint8_t notify, size_t targets)
{
    if (targets < 2 || !(notify & QUEUE_NOTIFY_SUCCESS))
        return notify;
    notify = (uint8_t)(notify & ~QUEUE_NOTIFY_SUCCESS);
    return notify ? notify : QUEUE_NOTIFY_NEVER;
}

/* RFC3461:5.2.5. Who said nothing is told when it handed the message in here: another server's sender may be forged.
 * That it was told needs no mark on disk: the time of the last attempt says it. */
bool notice_delay_due(const struct rcpt *r, int64_t last, int64_t now)
{
    const struct message *m = r->msg;
    int64_t wait = m->q->conf->queue.delay_warning, at = queue_message_begins(&m->m) + wait;
    bool here = m->m.origin == QUEUE_FROM_SUBMISSION || m->m.origin == QUEUE_FROM_ACCOUNT ||
                m->m.origin == QUEUE_FROM_LOCAL;
    bool asked = r->r.notify ? (r->r.notify & QUEUE_NOTIFY_DELAY) != 0 : here;
    return wait && asked && last < at && now >= at;
}

bool notice_late_due(const struct rcpt *r)
{
    return r->r.notify == 0 || (r->r.notify & QUEUE_NOTIFY_DELAY);
}

static enum dsn_action action_of(enum verdict v)
{
    return v == VERDICT_DEFERRED    ? DSN_DELAYED
           : v == VERDICT_POSTPONED ? DSN_DELAYED
           : v == VERDICT_EXPANDED  ? DSN_EXPANDED
           : v == VERDICT_RELAYED   ? DSN_RELAYED
           : v == VERDICT_DELIVERED ? DSN_DELIVERED
                                    : DSN_FAILED;
}

static void fill_rcpt(struct dsn_rcpt *d, const struct rcpt *r)
{
    *d = (struct dsn_rcpt){.address = r->r.address,
                           .given = r->r.original.p ? r->r.original : r->r.address,
                           .orcpt = r->r.orcpt,
                           .expired = r->expired && r->r.attempts > 0,
                           .late = r->late,
                           .subject = r->r.subject,
                           .detail = r->r.detail,
                           .code = r->r.code,
                           .kind = r->r.kind ? r->r.kind : (uint8_t)OUTCOME_FAILED,
                           .why = r->r.why,
                           .host = r->r.host,
                           .dialogue = r->r.dialogue,
                           .last_attempt = r->r.last / 1000,
                           .attempts = r->r.attempts};
    if (r->expired || r->late) { /* RFC3463:3.5 X.4.7 delivery time expired; RFC2852:4.1.3 */
        d->kind = r->expired && r->late ? OUTCOME_FAILED : OUTCOME_RETRY;
        d->subject = 4;
        d->detail = 7;
    }
    d->action = action_of(r->verdict);
    if (d->action == DSN_DELAYED)
        d->retry_until = retry_end(&r->msg->q->times, queue_message_begins(&r->msg->m), false) / 1000;
    if (d->action == DSN_EXPANDED || d->action == DSN_DELIVERED) { /* what an earlier attempt met is over */
        d->kind = OUTCOME_DONE;
        d->code = d->subject = d->detail = 0;
        d->why = d->host = SPAN_NONE;
    }
}

/* RFC8689:5: the header alone when TLS was required; binary content has no place in a part of a report (RFC3030:3). A
 * notification that nobody got says in its body what it is about. */
static bool may_return_whole(const struct message *msg)
{
    const struct queue_message *m = &msg->m;
    return (m->ret == QUEUE_RET_FULL || m->origin == QUEUE_NOTIFICATION) && m->tls_need != QUEUE_TLS_MUST &&
           m->body_kind != QUEUE_BODY_BINARY && m->size <= msg->q->conf->queue.return_max;
}

/* What of the original goes back: all of it when a failure is told, the sender wants it, and it is not too large
 * (RFC3461:4.3), else its header. */
static void put_original(struct dsn *d, struct message *m)
{
    struct span header = span_make(m->content, m->content ? MIN_OF(m->content_n, (size_t)m->m.header_bytes) : 0);
    bool failure = false;
    for (size_t i = 0; i < d->count; i++)
        failure |= d->rcpts[i].action == DSN_FAILED;
    d->whole = failure && may_return_whole(m) && m->content && m->content_n == m->m.size;
    d->header = d->whole ? span_make(m->content, m->content_n) : span_sub(header, 0, HEADER_MAX_BACK);
    d->header_cut = !d->whole && (header.n > HEADER_MAX_BACK || header.n < m->m.header_bytes);
}

/* Before a row is made of it: what of the content notice_make() will want to have in memory. */
uint64_t notice_needs(const struct message *m)
{
    bool failure = false;
    for (const struct link *l = m->finished.next; l != &m->finished; l = l->next) {
        const struct rcpt *r = container_of(l, struct rcpt, link);
        failure |= r->verdict == VERDICT_FAILED && notice_wanted(r);
    }
    return failure && may_return_whole(m) ? m->m.size : MIN_OF((uint64_t)m->m.header_bytes, (uint64_t)HEADER_MAX_BACK);
}

static void take_texts(const struct conf *c, struct span texts[NOTICE_KINDS])
{
    texts[NOTICE_FAILED] = span_of(c->notices.failed);
    texts[NOTICE_DELAYED] = span_of(c->notices.delayed);
    texts[NOTICE_EXPANDED] = span_of(c->notices.expanded);
    texts[NOTICE_RELAYED] = span_of(c->notices.relayed);
    texts[NOTICE_DELIVERED] = span_of(c->notices.delivered);
    texts[NOTICE_DOUBLE_BOUNCE] = span_of(c->notices.double_bounce);
}

struct message *notice_make(struct message *m, const struct rcpt *const *about, size_t count, struct rcpt **to)
{
    struct qmgr *q = m->q;
    uint64_t id = queue_ids(q->queue, 2);
    struct message *n = message_new(q, id);
    struct qid_text qid = qid_text(id), original = msg_qid(m);
    struct dsn_rcpt *rcpts = mem_array(count, sizeof *rcpts);
    struct span texts[NOTICE_KINDS];
    bool double_bounce = is_double_bounce(about[0]);
    size_t header_bytes;
    struct buf text = {0};
    for (size_t i = 0; i < count; i++)
        fill_rcpt(&rcpts[i], about[i]);
    take_texts(q->conf, texts);
    struct dsn d = {.reporting_mta = span_of(q->conf->hostname),
                    .to = double_bounce ? span_of(q->conf->queue.double_bounce_to.items[0]) : rcpt_sender(about[0]),
                    .sender = rcpt_sender(about[0]),
                    .double_bounce = double_bounce,
                    .texts = texts,
                    .language = span_of(q->conf->notices.language),
                    .qid = span_of(qid.text),
                    .original_qid = span_of(original.text),
                    .message_id = m->m.message_id,
                    .envid = m->m.envid,
                    .arrival = m->m.received / 1000,
                    .deliver_by = m->m.by_mode ? m->m.deliver_by / 1000 : 0,
                    .hold = m->m.hold,
                    .now = qmgr_wall(q) / 1000,
                    .rcpts = rcpts,
                    .count = count};
    put_original(&d, m);
    header_bytes = dsn_write(&text, &d);
    message_keep_content(n, SPAN(""), buf_span(&text));
    n->m.size = text.n;
    buf_free(&text);
    mem_free(&rcpts);
    n->m.sender = SPAN("");
    n->m.received = qmgr_wall(q);
    n->m.header_bytes = (uint32_t)header_bytes;
    n->m.origin = QUEUE_NOTIFICATION;
    n->m.tls_need = m->m.tls_need; /* RFC8689:5, RFC8689:6 */
    n->m.priority = m->m.priority; /* RFC6710:4.6 */
    n->m.body_kind = span_is_ascii(n->m.body) ? QUEUE_BODY_7BIT : QUEUE_BODY_8BIT;
    n->m.smtputf8 = !span_is_ascii(d.to);
    n->m.message_id = arena_printf(&n->arena, "<%s@%s>", qid.text, q->conf->hostname);
    *to = rcpt_new(n);
    (*to)->r = (struct queue_recipient){.id = id + 1,
                                        .state = QUEUE_WAITING,
                                        .notify = QUEUE_NOTIFY_NEVER,
                                        .next = n->m.received,
                                        .address = arena_dup(&n->arena, d.to)};
    return n;
}
