/* STARTTLS (RFC 3207) and AUTH (RFC 4954). Passwords are checked by the owner; here is only the exchange of lines. */
#include "auth/mechanisms.h"
#include "base/base64.h"
#include "smtp/server_impl.h"

void smtp_server_act_starttls(struct smtp_server *s, struct span arg UNUSED)
{
    if (s->tls) {
        smtp_server_refuse(s, 503, "5.5.1", "TLS is active already");
        return;
    }
    if (!s->config->starttls) {
        smtp_server_refuse(s, 502, "5.5.1", "TLS is not served here");
        return;
    }
    smtp_server_say(s, 220, "2.0.0", "Ready to start TLS");
    smtp_server_move(s, S_TLS);
    smtp_server_want(s, SMTP_WANT_TLS);
}

static bool may_auth(const struct smtp_server *s)
{
    return s->tls || s->config->auth_in_clear;
}

bool smtp_server_offers_auth(const struct smtp_server *s)
{
    return s->config->submission && may_auth(s) && s->login.n == 0;
}

unsigned smtp_server_mechanisms(const struct smtp_server *s)
{
    return s->config->mechanisms | (s->tls ? SASL_TLS : 0u) | (s->certified ? SASL_EXTERNAL : 0u);
}

void smtp_server_certified(struct smtp_server *s)
{
    s->certified = true;
}

/* Why AUTH can't begin; true when it can. */
static bool auth_welcome(struct smtp_server *s)
{
    if (!s->config->submission)
        smtp_server_refuse(s, 502, "5.5.1", "Nobody logs in here");
    else if (s->login.n)
        smtp_server_refuse(s, 503, "5.5.1", "You are logged in already"); /* RFC4954:4 */
    else if (!may_auth(s))
        smtp_server_refuse(s, 538, "5.7.11", "Start TLS before you log in"); /* HAZARDS 4 */
    else
        return true;
    return false;
}

/* The initial response: "=" stands for an empty one (RFC4954:4). */
static int initial_response(struct smtp_server *s, struct span text)
{
    buf_clear(&s->scratch);
    return span_eqs(text, "=") ? 0 : base64_decode(text, &s->scratch);
}

bool smtp_server_auth_is_last(const struct smtp_server *s, struct span arg)
{
    struct span mechanism = span_word(&arg);
    return !s->more_behind || (arg.n > 0 && sasl_is_one_step(mechanism));
}

void smtp_server_act_auth(struct smtp_server *s, struct span arg)
{
    if (!auth_welcome(s))
        return;
    struct span mechanism = span_word(&arg);
    if (!sasl_offered(smtp_server_mechanisms(s), mechanism)) {
        smtp_server_refuse(s, 504, "5.5.4", "That mechanism is not served here");
        return;
    }
    if (arg.n && initial_response(s, arg)) {
        smtp_server_refuse(s, 501, "5.5.2", "That is not base64");
        return;
    }
    s->ask.mechanism = arena_dup(&s->arena, mechanism);
    s->ask.has_data = arg.n > 0;
    s->ask.data = arg.n ? buf_span(&s->scratch) : SPAN_NONE;
    smtp_server_move(s, S_LOGIN);
    smtp_server_want(s, SMTP_WANT_LOGIN);
}

void smtp_server_login_line(struct smtp_server *s, struct span line)
{
    s->verb = SPAN("AUTH");
    buf_clear(&s->scratch);
    bool cancel = span_eqs(line, "*");
    if (cancel || base64_decode(line, &s->scratch)) {
        smtp_server_forget_login(s);
        smtp_server_move(s, S_READY);
        smtp_server_refuse(s, 501, cancel ? "5.7.0" : "5.5.2", cancel ? "Login cancelled" : "That is not base64");
        return;
    }
    s->ask.has_data = true;
    s->ask.data = buf_span(&s->scratch);
    smtp_server_move(s, S_LOGIN);
    smtp_server_want(s, SMTP_WANT_LOGIN_STEP);
}

void smtp_server_challenge(struct smtp_server *s, struct span challenge)
{
    if (s->state != S_LOGIN)
        return;
    buf_add(&s->out, SPAN("334 "));
    base64_encode(challenge, &s->out);
    buf_add(&s->out, SPAN("\r\n"));
    smtp_server_move(s, S_LOGIN_LINE);
}

void smtp_server_login(struct smtp_server *s, const struct outcome *o, struct span login)
{
    if (s->state != S_LOGIN)
        return;
    arena_reset(&s->arena);
    smtp_server_move(s, S_READY);
    if (o->kind == OUTCOME_DONE) {
        buf_clear(&s->login);
        buf_add(&s->login, login);
        smtp_server_say(s, 235, "2.7.0", "Welcome");
        return;
    }
    s->verb = SPAN("AUTH");
    if (o->kind == OUTCOME_FAILED && ++s->login_failures > s->config->max_login_failures) {
        smtp_server_end(s, 421, "4.7.0", "Too many failed logins");
        return;
    }
    size_t start = s->out.n;
    smtp_reply_outcome(&s->out, o);
    smtp_server_note(s, span_from(buf_span(&s->out), start));
}
