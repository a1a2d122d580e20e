/* REQUIRETLS: only hosts whose name is authentic (signed in DNS, or the domain itself, or a smarthost, which the configuration names), whose
 * certificate proves that name, and which offer REQUIRETLS behind STARTTLS; nobody else gets the message (RFC8689:4.2.1). "TLS-Required: No":
 * `tls must` counts as `tls may` for a host found by DNS (RFC8689:4.2.2). Others: the configuration. */
#include "relay/policy.h"

#include <stdio.h>

#include "base/log.h"
#include "relay/wire.h"

enum { NEED_ANY, NEED_MUST, NEED_NONE }; /* tls_need of the message `attempt` */

static bool softened(const struct attempt *a)
{
    return a->tls_need == NEED_NONE && !attempt_is_named(a) && a->conf->relay.tls == CONF_RELAY_TLS_MUST;
}

/* Connections of one key were made under the same demands. */
static void set_key(struct attempt *a)
{
    struct span plain = a->smarthost ? arena_printf(&a->arena, "@%s", a->conf->relay.smarthost)
                        : a->routed  ? arena_printf(&a->arena, ">%.*s", SPANV(a->via))
                                     : wire_domain(&a->arena, a->domain);
    if (a->strict || softened(a))
        a->key = arena_printf(&a->arena, "%c%.*s", a->strict ? '!' : '?', SPANV(plain));
    else
        a->key = plain;
}

void policy_begin(struct attempt *a)
{
    a->strict = a->tls_need == NEED_MUST;
    set_key(a);
}

bool policy_relaxes(struct attempt *a)
{
    if (!a->strict || a->sender.n || a->why.kind != OUTCOME_FAILED) /* RFC8689:5: a notification is not lost for it */
        return false;
    a->strict = false;
    a->why = (struct outcome){0};
    a->tries = 0;
    set_key(a);
    route_free(&a->route);
    return true;
}

enum smtp_client_tls policy_tls_mode(const struct attempt *a)
{
    static const enum smtp_client_tls modes[] = {
        [CONF_RELAY_TLS_NEVER] = SMTP_CLIENT_CLEAR,
        [CONF_RELAY_TLS_MAY] = SMTP_CLIENT_MAY,
        [CONF_RELAY_TLS_MUST] = SMTP_CLIENT_MUST,
        [CONF_RELAY_TLS_IMPLICIT] = SMTP_CLIENT_IS_TLS,
    };
    enum smtp_client_tls mode = modes[a->conf->relay.tls];
    if (a->clear)
        return SMTP_CLIENT_CLEAR;
    if (!a->smarthost && mode == SMTP_CLIENT_IS_TLS)
        mode = SMTP_CLIENT_MUST;
    if (a->strict)
        return mode == SMTP_CLIENT_IS_TLS ? mode : SMTP_CLIENT_MUST;
    if (softened(a))
        return SMTP_CLIENT_MAY;
    return a->smarthost && mode == SMTP_CLIENT_MAY && a->relay->tls_verified ? SMTP_CLIENT_MUST : mode;
}

/* ---- why not ---- */

/* For good at this host, our own setting or not: the sender wants it so. What may work later elsewhere outweighs it. */
static void note(struct attempt *a, unsigned detail, const char *text)
{
    struct outcome o = outcome_make(OUTCOME_FAILED, 0, 7, detail, "%s: %s", a->remote, text);
    if (a->why.kind != OUTCOME_RETRY)
        a->why = o;
    attempt_leave_host(a, &o);
    LOGI("host_failed", KVS("qid", a->qid), KVT("remote", a->remote), KVT("why", o.text));
}

struct tls_ctx *policy_tls(struct attempt *a)
{
    struct relay *r = a->relay;
    bool verify = a->smarthost || (a->routed && a->conf->relay.tls == CONF_RELAY_TLS_MUST);
    if (verify && r->tls_verified)
        return r->tls_verified;
    if (!a->strict)
        return r->tls;
    struct tls_ctx *trusted = relay_trusted(r);
    if (!trusted)
        note(a, 10, "TLS was required, and this server has no authorities to verify certificates with (trust-file)");
    return trusted;
}

bool policy_may_clear(const struct attempt *a)
{
    return !a->clear && !attempt_is_named(a) && !a->strict && (a->conf->relay.tls == CONF_RELAY_TLS_MAY || softened(a));
}

bool policy_host(struct attempt *a)
{
    if (!a->strict || a->host->authentic)
        return true;
    snprintf(a->remote, sizeof a->remote, "%s", a->host->name);
    note(a, 30, "TLS was required, and nothing proves that this is the mail host of the domain (DNSSEC)");
    return false;
}

bool policy_session(struct attempt *a)
{
    if (!a->strict || smtp_client_can(session_client(a->session), SMTP_CAP_REQUIRETLS))
        return true;
    note(a, 30, "TLS was required, and this host does not promise to pass that on (REQUIRETLS)");
    return false;
}

void policy_note_over(struct attempt *a, const struct outcome *why, bool tls_failed)
{
    bool at_tls = why->code == 0 && (tls_failed || (why->subject == 7 && why->detail == 4));
    if (a->strict && at_tls)
        note(a, 10, why->text);
    else
        attempt_note_host(a, why);
}
