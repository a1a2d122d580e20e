/* Sections hold of the configuration: mail that meets all conditions of one waits until an operator releases it. Asked at each attempt, so
 * that a reload holds for what is in the queue, too; what the header had was found when the message came in (smtpd), and is a fact. */
#include "qmgr/qmgr.h"

static bool one_fits(const struct conf_list *patterns, struct span s)
{
    for (size_t i = 0; i < patterns->n; i++)
        if (span_fits(s, span_of(patterns->items[i])))
            return true;
    return patterns->n == 0;
}

static bool sender_fits(const struct conf_list *patterns, struct span sender)
{
    return one_fits(patterns, sender.n ? sender : SPAN("<>"));
}

static bool is_marked(struct span marks, const char *name)
{
    for (struct span mark; (mark = span_word(&marks)).n;)
        if (span_eqs(mark, name))
            return true;
    return false;
}

static bool fits(const struct conf_hold *h, const struct queue_message *m, const struct queue_recipient *r)
{
    struct span domain = span_from(r->address, (size_t)(span_rfind(r->address, '@') + 1));
    return (!h->larger || m->size > h->larger) && (!*h->header || is_marked(m->marks, h->name)) &&
           sender_fits(&h->sender, r->sender.p ? r->sender : m->sender) && one_fits(&h->recipient, r->address) && one_fits(&h->domain, domain);
}

bool hold_applies(const struct qmgr *q, const struct queue_message *m, const struct queue_recipient *r, struct outcome *why)
{
    const struct conf *c = q->conf;
    for (size_t i = 0; i < c->hold_count && !(r->passed & QUEUE_PASSED_RULES); i++) {
        const struct conf_hold *h = &c->hold[i];
        if (!fits(h, m, r))
            continue;
        *why = outcome_make(OUTCOME_RETRY, 0, 0, 0, "held by rule %s (%s:%u)%s%s", h->name, c->file, h->line,
                            *h->reason ? ": " : "", h->reason);
        return true;
    }
    return false;
}

bool hold_stands(const struct qmgr *q, const struct queue_message *m, const struct queue_recipient *r, struct outcome *why)
{
    char room[ADDRESS_DOMAIN_MAX + 1];
    if (hold_applies(q, m, r, why))
        return true;
    const struct conf_domain *d = r->passed & QUEUE_PASSED ? NULL : conf_domain_for(q->conf, canonical_domain(r->address, room));
    if (!d || !d->hold)
        return false;
    hold_by_domain(why);
    return true;
}

void hold_by_domain(struct outcome *why)
{
    *why = outcome_make(OUTCOME_RETRY, 0, 0, 0, "its domain is held by the configuration (hold yes)");
}

bool hold_wanted(const struct rcpt *r, struct outcome *why)
{
    return hold_applies(r->msg->q, &r->msg->m, &r->r, why);
}
