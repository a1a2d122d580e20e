/* What the owner of a limited account and the operator are told, once for each time: messages of our own with a null
 * reverse-path, which nothing answers (RFC3834:2, HAZARDS 16). */
#include "mail/date.h"
#include "mail/notice_fill.h"
#include "qmgr/limits.h"

static struct span domain_of(const struct limited *w)
{
    struct span login = span_of(w->login);
    return span_from(login, (size_t)(span_rfind(login, '@') + 1));
}

static void put_operator(struct buf *out, const struct limited *w)
{
    const struct conf_list *set = &w->q->conf->sending.notify;
    if (set->n)
        buf_adds(out, set->items[0]);
    else
        buf_printf(out, "postmaster@%.*s", SPANV(domain_of(w)));
}

/* The values of the texts' placeholders. */
struct values {
    const struct limited *w;
    const struct notice_text *text;
    struct span from;
};

static void put_value(struct buf *out, const void *ctx, enum notice_place place)
{
    const struct values *v = ctx;
    const struct limited *w = v->w;
    struct buf reason = {0};
    switch (place) {
    case NOTICE_HOST: buf_adds(out, w->q->conf->hostname); break;
    case NOTICE_ACCOUNT: buf_adds(out, w->login); break;
    case NOTICE_POSTMASTER: put_operator(out, w); break;
    case NOTICE_CLIENT: buf_add(out, v->from); break;
    case NOTICE_COUNT: buf_printf(out, "%u", w->most); break;
    case NOTICE_REASON:
        if (w->over < SENDING_LIMITS && notice_fill(&reason, v->text->phrase[NOTICE_MESSAGES_HOUR + (unsigned)w->over], put_value, v))
            buf_add(out, buf_span(&reason));
        else
            buf_adds(out, w->reason);
        buf_free(&reason);
        break;
    default: break; /* not of these texts */
    }
}

static size_t put_message(struct buf *out, const struct limited *w, unsigned which, struct span qid, struct span from)
{
    const struct conf *c = w->q->conf;
    bool owner = which == LIMITS_TO_OWNER;
    struct notice_text text;
    struct values v = {w, &text, from};
    notice_text_of(span_of(owner ? c->notices.account_held : c->notices.account_held_operator), owner ? NOTICE_ACCOUNT_HELD : NOTICE_ACCOUNT_HELD_OPERATOR,
                   &text);
    buf_adds(out, "Date: ");
    date_put(out, qmgr_wall(w->q) / 1000, 0);
    buf_adds(out, "\r\nFrom: ");
    notice_put_from(out, &text, put_value, &v);
    buf_printf(out, " <MAILER-DAEMON@%s>\r\nTo: <", c->hostname);
    if (owner)
        buf_adds(out, w->login);
    else
        put_operator(out, w);
    buf_adds(out, ">\r\nSubject: ");
    notice_put_subject(out, &text, put_value, &v);
    buf_printf(out, "\r\nMessage-ID: <%.*s@%s>\r\nAuto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n", SPANV(qid), c->hostname); /* RFC3834:5 */
    notice_put_type(out, span_of(c->notices.language));
    size_t header = out->n;
    buf_adds(out, "\r\n");
    for (struct span body = text.body, line; notice_line_next(&body, &line);)
        notice_put_line(out, "", line, put_value, &v);
    return header;
}

struct message *limits_notice(const struct limited *w, unsigned which, struct span from, struct rcpt **to)
{
    struct qmgr *q = w->q;
    uint64_t id = queue_ids(q->queue, 2);
    struct message *n = message_new(q, id);
    struct qid_text qid = qid_text(id);
    struct buf text = {0}, address = {0};
    if (which == LIMITS_TO_OWNER)
        buf_adds(&address, w->login);
    else
        put_operator(&address, w);
    n->m.header_bytes = (uint32_t)put_message(&text, w, which, span_of(qid.text), from);
    message_keep_content(n, SPAN(""), buf_span(&text));
    n->m.size = text.n;
    n->m.sender = SPAN("");
    n->m.received = qmgr_wall(q);
    n->m.origin = QUEUE_NOTIFICATION;
    n->m.body_kind = span_is_ascii(n->m.body) ? QUEUE_BODY_7BIT : QUEUE_BODY_8BIT;
    n->m.smtputf8 = !span_is_ascii(buf_span(&address));
    n->m.message_id = arena_printf(&n->arena, "<%s@%s>", qid.text, q->conf->hostname);
    *to = rcpt_new(n);
    (*to)->r = (struct queue_recipient){.id = id + 1,
                                        .state = QUEUE_WAITING,
                                        .notify = QUEUE_NOTIFY_NEVER,
                                        .next = n->m.received,
                                        .address = arena_dup(&n->arena, buf_span(&address))};
    buf_free(&text);
    buf_free(&address);
    return n;
}
