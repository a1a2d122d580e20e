/* Mail that its domain asks for: ETRN (RFC 1985), ATRN (RFC 2645) and TURN (RFC 821 §3.8, RFC 5321 F.1: as ATRN, for
 * whom the login entitles). Here is the syntax; the owner knows who may, and what there is. */
#include "smtp/server_impl.h"

static void ask(struct smtp_server *s, enum smtp_want want)
{
    s->ask_back = s->state;
    smtp_server_move(s, S_ASK);
    smtp_server_want(s, want);
}

static void reply(struct smtp_server *s, const char *verb, const struct outcome *o)
{
    size_t start = s->out.n;
    s->verb = span_of(verb);
    smtp_reply_outcome(&s->out, o);
    if (o->kind == OUTCOME_DONE)
        return;
    smtp_server_note(s, span_from(buf_span(&s->out), start));
    if (++s->errors > s->config->max_errors)
        smtp_server_end(s, 421, "4.7.0", "Too many errors, closing the connection");
}

/* ---- ETRN ---- */

bool smtp_server_serves_etrn(const struct smtp_server *s)
{
    return s->config->etrn;
}

/* RFC1985:5: a node's name; "@" for all below it, "#" for a queue of another kind, of which there are none. */
void smtp_server_act_etrn(struct smtp_server *s, struct span arg)
{
    char option = arg.n && (arg.p[0] == '@' || arg.p[0] == '#') ? arg.p[0] : '\0';
    struct span name = span_from(arg, option != '\0');
    if (option == '#') {
        smtp_server_refuse(s, 458, "4.4.0", "Unable to queue messages: there are no queues but those of domains");
    } else if (name.n == 0 || name.p[0] == '[' || !smtp_domain_valid(name, 0)) {
        smtp_server_refuse(s, 501, "5.5.4", "ETRN takes the name of a domain, with @ before it for all below");
    } else {
        buf_clear(&s->scratch);
        buf_add(&s->scratch, arg);
        s->ask.address = buf_span(&s->scratch);
        ask(s, SMTP_WANT_ETRN);
    }
}

void smtp_server_flushed(struct smtp_server *s, const struct outcome *o)
{
    if (s->state != S_ASK)
        return;
    smtp_server_move(s, (enum smtp_state)s->ask_back);
    reply(s, "ETRN", o);
    if (smtp_server_leaves(s) && s->state != S_CLOSED)
        smtp_server_drain(s);
}

/* ---- ATRN and TURN ---- */

bool smtp_server_serves_atrn(const struct smtp_server *s)
{
    return s->config->on_demand;
}

static bool names_valid(struct span list)
{
    while (list.n) {
        bool more = span_find(list, ',') >= 0;
        struct span one = span_cut(&list, ',');
        if (one.n == 0 || one.p[0] == '[' || !smtp_domain_valid(one, 0) || (more && !list.n))
            return false;
    }
    return true;
}

static void turn(struct smtp_server *s, struct span names, bool plain)
{
    buf_clear(&s->scratch);
    buf_add(&s->scratch, names);
    s->ask.data = buf_span(&s->scratch);
    s->asked_turn = plain;
    ask(s, SMTP_WANT_TURN);
}

void smtp_server_act_atrn(struct smtp_server *s, struct span arg)
{
    if (s->login.n == 0) /* RFC2645:5.2.1 */
        smtp_server_refuse(s, 530, "5.7.0", s->tls || s->config->auth_in_clear ? "Log in first" : "Start TLS first");
    else if (!names_valid(arg))
        smtp_server_refuse(s, 501, "5.5.4", "ATRN takes names of domains with commas between, or none");
    else
        turn(s, arg, false);
}

/* RFC5321:F.1: without a login it is as if there were no such command. */
bool smtp_server_serves_turn(const struct smtp_server *s)
{
    return s->login.n > 0;
}

void smtp_server_act_turn(struct smtp_server *s, struct span arg UNUSED)
{
    turn(s, SPAN(""), true);
}

void smtp_server_turned(struct smtp_server *s, const struct outcome *o)
{
    if (s->state != S_ASK)
        return;
    smtp_server_move(s, (enum smtp_state)s->ask_back);
    if (o->kind == OUTCOME_FAILED && s->asked_turn) {
        s->verb = SPAN("TURN");
        smtp_server_refuse(s, 502, "5.5.1", "That command is not served here");
        return;
    }
    reply(s, s->asked_turn ? "TURN" : "ATRN", o);
    if (o->kind == OUTCOME_DONE)
        smtp_server_move(s, S_CLOSED);
    else if (smtp_server_leaves(s) && s->state != S_CLOSED)
        smtp_server_drain(s);
}
