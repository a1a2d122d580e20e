/* Rows of the queue for people: what each recipient is, and why. */
#include <stdio.h>

#include "qmgr/operator.h"

static const char *const origins[] = {[QUEUE_FROM_OUTSIDE] = "outside",
                                      [QUEUE_FROM_SUBMISSION] = "submission",
                                      [QUEUE_FROM_ACCOUNT] = "account",
                                      [QUEUE_FROM_LOCAL] = "local",
                                      [QUEUE_NOTIFICATION] = "notification"};

static void put_response(struct buf *out, const struct queue_recipient *r)
{
    if (r->host.n)
        buf_printf(out, "%.*s: ", SPANV(r->host));
    if (r->code)
        buf_printf(out, "%u ", r->code);
    if (r->kind && (r->subject || r->detail))
        buf_printf(out, "%u.%u.%u ", r->kind, r->subject, r->detail);
    buf_add(out, r->why);
}

static void cells_of_rcpt(struct query *u, const struct queue_item *i)
{
    const struct queue_recipient *r = &i->recipient;
    struct buf response = {0};
    if (r->why.n)
        put_response(&response, r);
    admin_text(u->call, "recipient", r->address);
    admin_text(u->call, "state", span_of(queue_state_name(r->state)));
    admin_text(u->call, "activity", span_of(rcpt_activity(u->q, r)));
    admin_number(u->call, "attempts", r->attempts);
    admin_time(u->call, "next-attempt", r->next);
    admin_text(u->call, "route", r->route.p ? r->route : SPAN(""));
    admin_text(u->call, "reason", buf_span(&response));
    buf_free(&response);
}

void operator_show_listed(struct query *u, const struct queue_item *i)
{
    struct qid_text qid = qid_text(i->message.id);
    admin_text(u->call, "id", span_of(qid.text));
    admin_time(u->call, "received", i->message.received);
    admin_bytes(u->call, "size", i->message.size);
    admin_text(u->call, "sender", i->recipient.sender.p ? i->recipient.sender : i->message.sender);
    cells_of_rcpt(u, i);
    admin_row(u->call);
}

/* What the sender asked for beside the message. */
static void cells_of_wishes(struct query *u, const struct queue_message *m)
{
    static const char *const tls[] = {
        [QUEUE_TLS_ANY] = "", [QUEUE_TLS_MUST] = "required", [QUEUE_TLS_NEEDLESS] = "not required"};
    static const char *const body[] = {
        [QUEUE_BODY_7BIT] = "7bit", [QUEUE_BODY_8BIT] = "8bit", [QUEUE_BODY_BINARY] = "binary"};
    struct buf text = {0};
    admin_text(u->call, "body", span_of(m->body_kind < COUNT_OF(body) ? body[m->body_kind] : ""));
    admin_text(u->call, "tls-onward", span_of(m->tls_need < COUNT_OF(tls) ? tls[m->tls_need] : ""));
    admin_time(u->call, "deliver-by", m->deliver_by);
    admin_text(u->call, "deliver-by-mode",
               span_of(m->by_mode & QUEUE_BY_RETURN   ? "return"
                       : m->by_mode & QUEUE_BY_NOTIFY ? "notify"
                                                      : ""));
    admin_time(u->call, "held-until", m->hold_until);
    if (m->priority)
        buf_printf(&text, "%d", m->priority);
    admin_text(u->call, "priority", buf_span(&text));
    buf_free(&text);
}

static void show_message(struct query *u, const struct queue_message *m)
{
    struct qid_text qid = qid_text(m->id);
    u->shown_message = m->id;
    admin_text(u->call, "id", span_of(qid.text));
    admin_time(u->call, "received", m->received);
    admin_text(u->call, "origin",
               span_of(m->origin < COUNT_OF(origins) && origins[m->origin] ? origins[m->origin] : "unknown"));
    admin_text(u->call, "sender", m->sender);
    admin_number(u->call, "account", m->account);
    admin_text(u->call, "client", m->remote);
    admin_text(u->call, "helo", m->helo);
    admin_text(u->call, "tls", m->tls);
    admin_text(u->call, "login", m->login);
    admin_text(u->call, "policy", m->policy);
    admin_text(u->call, "marks", m->marks);
    cells_of_wishes(u, m);
    admin_bytes(u->call, "size", m->size);
    admin_text(u->call, "message-id", m->message_id);
    admin_flag(u->call, "spooled", m->spooled);
    admin_time(u->call, "expires", retry_end(&u->q->times, queue_message_begins(m), m->sender.n == 0));
    admin_row(u->call);
}

void operator_show_whole(struct query *u, const struct queue_item *i)
{
    struct qid_text qid = qid_text(i->message.id);
    if (u->shown_message != i->message.id)
        show_message(u, &i->message);
    admin_text(u->call, "id", span_of(qid.text));
    cells_of_rcpt(u, i);
    admin_text(u->call, "original", i->recipient.original);
    admin_number(u->call, "depth", i->recipient.depth);
    admin_text(u->call, "dialogue", i->recipient.dialogue.p ? i->recipient.dialogue : SPAN(""));
    admin_time(u->call, "last-attempt", i->recipient.last);
    admin_row(u->call);
}

/* ---- why ---- */

void operator_show_why(struct query *u, const struct queue_item *i)
{
    const struct queue_recipient *r = &i->recipient;
    struct buf text = {0}, response = {0};
    struct qid_text qid = qid_text(i->message.id);
    if (u->shown_message != i->message.id)
        show_message(u, &i->message);
    explain_schedule(u->q, &i->message, r, &text);
    if (r->why.n)
        put_response(&response, r);
    admin_text(u->call, "id", span_of(qid.text));
    admin_text(u->call, "recipient", r->address);
    admin_text(u->call, "original", r->original);
    admin_text(u->call, "state", span_of(queue_state_name(r->state)));
    admin_text(u->call, "route", r->route.p ? r->route : SPAN(""));
    admin_text(u->call, "why", buf_span(&text));
    admin_text(u->call, "last-response", buf_span(&response));
    admin_text(u->call, "dialogue", r->dialogue.p ? r->dialogue : SPAN(""));
    admin_time(u->call, "last-attempt", r->last);
    admin_number(u->call, "attempts", r->attempts);
    admin_time(u->call, "next-attempt", r->next);
    admin_row(u->call);
    buf_free(&text);
    buf_free(&response);
}
