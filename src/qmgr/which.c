/* What of the queue is meant: by age and size, and where a list that was cut goes on. */
#include <stdio.h>
#include <string.h>

#include "conf/conf.h"
#include "mail/address.h"
#include "qmgr/operator.h"
#include "qmgr/trace.h"

/* A place as text: the message, a dot, the recipient seen last in it, and a plus when it is among the rest. Of a message
 * alone: behind all its recipients. */
static bool take_place(struct span text, struct queue_place *at)
{
    struct span message = span_sub(text, 0, QID_LENGTH), more = span_from(text, QID_LENGTH);
    *at = (struct queue_place){.recipient = QID_MAX};
    if (!qid_parse(message, &at->message))
        return false;
    if (more.n == 0)
        return true;
    at->rest = more.p[more.n - 1] == '+';
    return *more.p == '.' && qid_parse(span_sub(more, 1, more.n - 1 - at->rest), &at->recipient);
}

void which_say_more(struct query *u)
{
    struct qid_text message = qid_text(u->last.message), recipient = qid_text(u->last.recipient);
    admin_end(u->call, ADMIN_DONE, "There is more: the same with --after %s.%s%s", message.text, recipient.text,
              u->last.rest ? "+" : "");
}

bool which_option(struct query *u, struct span key, struct span value)
{
    struct queue_filter *f = &u->filter;
    int64_t now = qmgr_wall(u->q);
    if (span_eqs(key, "--older"))
        return trace_time(value, now, &f->before);
    if (span_eqs(key, "--newer"))
        return trace_time(value, now, &f->since);
    if (span_eqs(key, "--larger"))
        return conf_size_of(value, &f->larger) && f->larger > 0;
    if (span_eqs(key, "--smaller"))
        return conf_size_of(value, &f->smaller) && f->smaller > 0;
    return span_eqs(key, "--after") && take_place(value, &u->at);
}

void which_ready(struct query *u)
{
    char name[ADDRESS_DOMAIN_MAX + 1];
    size_t n;
    if (u->filter.domain.n && domain_canonical(u->filter.domain, name, &n))
        u->filter.canonical = arena_dup(&u->arena, span_make(name, n));
}
