/* What the owner of a limited account and the operator are told, once for each time: messages of our own with a null
 * reverse-path, which nothing answers (RFC3834:2, HAZARDS 16). */
#include "mail/date.h"
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

static void put_owner_text(struct buf *out, const struct limited *w)
{
    buf_printf(out,
               "This is the mail server of %s.\r\n\r\n"
               "From your account %s more was sent than is allowed: %s.\r\n"
               "What passed that limit, and all that is sent from now on, is held here. Nothing is lost, and nothing more leaves.\r\n\r\n"
               "If it was you: write to nobody again, and ask your postmaster to release your mail.\r\n\r\n"
               "If it was not you, somebody else knows your password. Change it now, and have all app passwords removed that\r\n"
               "you do not need; then tell your postmaster that the held mail is not yours, so that it is deleted.\r\n\r\n"
               "Your postmaster: ",
               w->q->conf->hostname, w->login, w->reason);
    put_operator(out, w);
    buf_adds(out, "\r\n");
}

static void put_operator_text(struct buf *out, const struct limited *w, struct span from)
{
    buf_printf(out,
               "This is the mail server of %s.\r\n\r\n"
               "The account %s has sent more than it may: %s.\r\n"
               "The message that passed the limit came from %.*s. It is held, and so is all that the account sends from now on;\r\n"
               "its owner has been told. If the password is stolen, change it before you release anything.\r\n\r\n"
               "  waypost account held list\r\n"
               "  waypost queue list --state limited\r\n"
               "  waypost account held release %s\r\n"
               "  waypost account held discard %s --yes\r\n",
               w->q->conf->hostname, w->login, w->reason, SPANV(from.n ? from : SPAN("an unknown address")), w->login, w->login);
}

static size_t put_message(struct buf *out, const struct limited *w, unsigned which, struct span qid, struct span from)
{
    buf_adds(out, "Date: ");
    date_put(out, qmgr_wall(w->q) / 1000, 0);
    buf_printf(out, "\r\nFrom: Mail Delivery System <MAILER-DAEMON@%s>\r\nTo: <", w->q->conf->hostname);
    if (which == LIMITS_TO_OWNER)
        buf_adds(out, w->login);
    else
        put_operator(out, w);
    buf_printf(out, ">\r\nSubject: %s\r\nMessage-ID: <%.*s@%s>\r\n"
                    "Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n"
                    "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n",
               which == LIMITS_TO_OWNER ? "The mail that you send is being held" : "An account sends too much: its mail is held", SPANV(qid),
               w->q->conf->hostname); /* RFC3834:5 */
    size_t header = out->n;
    buf_adds(out, "\r\n");
    if (which == LIMITS_TO_OWNER)
        put_owner_text(out, w);
    else
        put_operator_text(out, w, from);
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
