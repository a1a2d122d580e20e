/* VRFY and EXPN (RFC 5321 §3.5, §4.1.1.6, §4.1.1.7; SMTPUTF8: RFC 6531 §3.7.4.2): here is the syntax, the owner has the
 * answer. Off, both say neither yes nor no, so nobody learns who exists (RFC5321:7.3). */
#include "smtp/server_impl.h"

static bool may_ask(const struct smtp_server *s, enum smtp_asking setting)
{
    return setting == SMTP_ASKING_ON || (setting == SMTP_ASKING_AUTHENTICATED && s->login.n > 0);
}

bool smtp_server_serves_vrfy(const struct smtp_server *s)
{
    return may_ask(s, s->config->vrfy);
}

bool smtp_server_serves_expn(const struct smtp_server *s)
{
    return may_ask(s, s->config->expn);
}

/* Takes SMTPUTF8 off the end. */
static bool take_utf8(struct span *arg)
{
    if (!span_iends(*arg, SPAN(" SMTPUTF8")))
        return false;
    *arg = span_trim(span_sub(*arg, 0, arg->n - 9));
    return true;
}

/* A mailbox, in brackets or not, or the local part of one: a user's name (RFC5321:3.5.1). */
static enum smtp_path_result parse_who(struct smtp_server *s, struct span arg, bool utf8, struct span *out)
{
    struct smtp_path path;
    unsigned allow = utf8 ? SMTP_PATH_UTF8 : 0;
    if (arg.n >= 2 && arg.p[0] == '<' && arg.p[arg.n - 1] == '>')
        arg = span_sub(arg, 1, arg.n - 2);
    *out = arg;
    enum smtp_path_result r = smtp_mailbox_parse(arg, allow, &path);
    if (r != SMTP_PATH_BAD)
        return r;
    buf_clear(&s->scratch);
    buf_add(&s->scratch, arg);
    buf_adds(&s->scratch, "@name.invalid");
    r = smtp_mailbox_parse(buf_span(&s->scratch), allow, &path);
    return r == SMTP_PATH_OK && path.local.n != arg.n ? SMTP_PATH_BAD : r;
}

static bool take_who(struct smtp_server *s, struct span arg, struct span *who)
{
    s->asked_utf8 = take_utf8(&arg);
    enum smtp_path_result r = parse_who(s, arg, s->asked_utf8, who);
    if (r == SMTP_PATH_NOT_ASCII)
        smtp_server_refuse(s, 553, "5.6.7", "A name outside of ASCII is UTF-8 and needs SMTPUTF8 behind it");
    else if (r != SMTP_PATH_OK)
        smtp_server_refuse(s, 501, "5.1.3", "That is neither an address nor the name of a user");
    return r == SMTP_PATH_OK;
}

static void ask(struct smtp_server *s, struct span who, bool expand)
{
    buf_clear(&s->scratch);
    buf_add(&s->scratch, who);
    s->ask.address = buf_span(&s->scratch);
    s->ask.expand = expand;
    s->asked_expand = expand;
    s->ask_back = s->state;
    smtp_server_move(s, S_ASK);
    smtp_server_want(s, SMTP_WANT_WHO);
}

void smtp_server_act_vrfy(struct smtp_server *s, struct span arg)
{
    struct span who;
    if (!take_who(s, arg, &who))
        return;
    if (smtp_server_serves_vrfy(s)) {
        ask(s, who, false);
        return;
    }
    smtp_server_say(s, 252, "2.5.0", "Addresses are not verified here; send the message and see"); /* RFC5321:3.5.3 */
    smtp_server_count_idle(s);
}

void smtp_server_act_expn(struct smtp_server *s, struct span arg)
{
    struct span who;
    if (arg.n == 0) {
        smtp_server_refuse(s, 501, "5.5.4", "That command needs an argument");
    } else if (!take_who(s, arg, &who)) {
        return;
    } else if (smtp_server_serves_expn(s)) {
        ask(s, who, true);
    } else {
        smtp_server_say(s, 252, "2.5.0", "Lists are not expanded here; send the message and see"); /* RFC5321:7.3 */
        smtp_server_count_idle(s);
    }
}

/* ---- the answer ---- */

static void put_members(struct smtp_server *s, unsigned code, const char *status, struct span members)
{
    while (members.n) {
        struct span one = span_cut(&members, '\n');
        smtp_reply_line_utf8(&s->out, code, status, members.n > 0, one);
    }
}

void smtp_server_who(struct smtp_server *s, const struct outcome *o, struct span members)
{
    if (s->state != S_ASK)
        return;
    size_t start = s->out.n;
    smtp_server_move(s, (enum smtp_state)s->ask_back);
    s->verb = s->asked_expand ? SPAN("EXPN") : SPAN("VRFY");
    if (!span_is_ascii(members) && !s->asked_utf8) { /* RFC6531:3.7.4.2 */
        if (s->asked_expand)
            smtp_server_refuse(s, 550, "5.6.8", "The answer is UTF-8: ask again with SMTPUTF8 behind the name");
        else
            smtp_server_say(s, 252, "2.6.8", "The answer is UTF-8: ask again with SMTPUTF8 behind the name");
    } else if (o->kind == OUTCOME_DONE && members.n) {
        put_members(s, o->code ? o->code : 250, "2.1.5", members);
    } else if (o->kind == OUTCOME_DONE) {
        smtp_reply_outcome(&s->out, o);
    } else if (members.n) { /* RFC5321:3.5.1: the possibilities follow */
        smtp_reply_line(&s->out, 553, "5.1.4", true, span_of(o->text));
        put_members(s, 553, "5.1.4", members);
        smtp_server_note(s, span_from(buf_span(&s->out), start));
    } else {
        smtp_reply_outcome(&s->out, o);
        smtp_server_note(s, span_from(buf_span(&s->out), start));
        /* Guessing names is no better here than at RCPT. */
        if (o->kind == OUTCOME_FAILED && ++s->refused > s->config->max_refused)
            smtp_server_end(s, 421, "4.7.0", "Too many names were refused, closing the connection");
    }
    if (smtp_server_leaves(s) && s->state != S_CLOSED)
        smtp_server_drain(s);
}

/* ---- XCLIENT: a trusted front says whom it speaks for; the session begins anew ---- */

void smtp_server_trust(struct smtp_server *s)
{
    s->trusted = true;
}

void smtp_server_act_xclient(struct smtp_server *s, struct span arg)
{
    struct smtp_xclient *x = &s->xclient;
    struct smtp_xclient told;
    if (!s->trusted) {
        smtp_server_refuse(s, 550, "5.7.0", "You may speak for nobody else here");
        return;
    }
    if (!smtp_xclient_parse(arg, &told)) {
        smtp_server_refuse(s, 501, "5.5.4", "XCLIENT takes " SMTP_XCLIENT_ATTRIBUTES " with values in xtext");
        return;
    }
    *x = told;
    smtp_server_forget(s);
    smtp_server_forget_login(s);
    buf_clear(&s->helo);
    s->login_failures = s->transactions = s->idle = 0;
    s->held_until = 0;
    if (x->has_helo) {
        buf_clear(&s->told_helo);
        buf_adds(&s->told_helo, x->helo);
    }
    if (x->has_proto)
        s->told_proto = x->esmtp ? 2 : 1;
    s->esmtp = false;
    smtp_server_move(s, S_CONNECT);
    smtp_server_want(s, SMTP_WANT_XCLIENT);
}

const struct smtp_xclient *smtp_server_xclient(const struct smtp_server *s)
{
    return &s->xclient;
}
