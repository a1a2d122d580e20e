/* Logins by bearer tokens: those that a key of ours knows are judged here, all others at their issuer, whom tokend
 * asks. What tokend says is facts; whether they are enough, and whose account it is, is decided here. */
#include <stdio.h>

#include "authd/logins_impl.h"
#include "authd/oauth.h"
#include "base/mem.h"

/* A token that tokend asks about. The exchange waits, so the spans of its result stay. */
struct asked {
    struct session *session;
    struct reply_to to;
    struct sasl_result result;
    uint64_t id;
};

static struct service *service_of(const struct session *s)
{
    return s->front->logins->authd->service;
}

void token_forget(struct session *s)
{
    if (s->asked)
        chan_forget(service_chan(service_of(s), ROLE_TOKEND, 0), s->asked->id);
    mem_free(&s->asked);
}

static void later(struct session *s, const struct reply_to *to, struct span user, const char *why)
{
    log_deferred(s, user, why);
    say_later(to);
}

/* A bad one is not refused at once: the client is told of it and answers first (RFC7628:3.2.3). It has failed already,
 * whether it answers or goes. */
static void refuse(struct session *s, const struct reply_to *to, struct sasl_result *r, const char *why)
{
    struct buf answer = {0};
    log_failed(s, r->user, why);
    s->logged = true;
    oauth_refusal(service_conf(service_of(s)), &answer);
    sasl_token_refused(s->sasl, buf_span(&answer), r);
    say_challenge(to, r);
    buf_free(&answer);
}

static void decide(struct session *s, const struct reply_to *to, struct sasl_result *r, const char *address,
                   const char *why)
{
    struct account a;
    if (!why && oauth_account(s->front->logins->authd->directory, address, r->user, &a, &why))
        later(s, to, r->user, "the directory can't be read");
    else if (why)
        refuse(s, to, r, why);
    else
        log_in(s, to, a.id, a.login);
}

static void on_told(void *ctx, struct chan *c, enum chan_why how, const struct msg *m, int fd)
{
    struct asked *q = ctx;
    struct session *s = q->session;
    (void)c;
    (void)fd;
    s->asked = NULL;
    if (how != CHAN_ANSWERED || m->type != MSG_introspected) {
        later(s, &q->to, q->result.user, "tokend does not answer");
    } else if (!m->introspected.known) {
        char why[IPC_TEXT_MAX + 1];
        snprintf(why, sizeof why, "%.*s", SPANV(m->introspected.why));
        later(s, &q->to, q->result.user, why);
    } else {
        char address[TOKEN_NAME_MAX + 1];
        const char *why = oauth_told(service_conf(service_of(s)), &m->introspected, address);
        decide(s, &q->to, &q->result, address, why);
    }
    if (q->result.next != SASL_CHALLENGE)
        sasl_free(&s->sasl);
    mem_free(&q);
}

static bool ask(struct session *s, const struct reply_to *to, const struct sasl_result *r)
{
    struct chan *tokend = service_chan(service_of(s), ROLE_TOKEND, 0);
    struct msg m = {.type = MSG_introspect, .introspect = {.token = r->password}};
    if (!tokend || chan_full(tokend))
        return false;
    s->asked = mem_alloc(sizeof *s->asked);
    *s->asked = (struct asked){.session = s, .to = *to, .result = *r};
    s->asked->id = chan_ask(tokend, &m, -1, on_told, s->asked);
    if (s->asked->id)
        return true;
    mem_free(&s->asked);
    return false;
}

bool token_check(struct logins *l, struct session *s, const struct reply_to *to, struct sasl_result *r)
{
    const struct conf *c = service_conf(l->authd->service);
    char address[TOKEN_NAME_MAX + 1];
    bool final;
    const char *why = oauth_judge(c, l->authd->token_keys, r->password, address, &final);
    if (final) {
        decide(s, to, r, address, why);
        return true;
    }
    if (ask(s, to, r))
        return false;
    later(s, to, r->user, "too many tokens are being asked about");
    return true;
}
