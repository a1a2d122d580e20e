/* ETRN and ATRN: who may have the mail of which domains, by the configuration's domain sections. qmgr asks, with the
 * session as its front named it; an account is known by its login alone. */
#include "authd/authd.h"
#include "authd/logins.h"
#include "base/client.h"
#include "base/log.h"

#define NAMES_MAX 64
#define ROOM 4096

struct asker {
    const struct conf *conf;
    struct sockaddr_storage remote;
    char login[ACCOUNT_LOGIN_MAX + 1]; /* empty: not logged in */
};

static void say(const struct reply_to *to, unsigned kind, unsigned code, unsigned subject, unsigned detail,
                const char *why, struct span names)
{
    struct msg m = {.type = MSG_pull_may};
    m.pull_may = (struct msg_pull_may){.kind = (uint8_t)kind,
                                       .code = (uint16_t)code,
                                       .subject = (uint16_t)subject,
                                       .detail = (uint16_t)detail,
                                       .why = span_of(why),
                                       .names = names.p ? names : SPAN("")};
    reply(to, &m);
}

static bool by_account(const struct asker *a, const struct conf_domain *d)
{
    struct span list = span_of(d->pull_by), one;
    while ((one = span_word(&list)).n)
        if (a->login[0] && span_ieqs(one, a->login))
            return true;
    return false;
}

/* ATRN needs the login; ETRN only brings mail where it belongs, so its address is enough (RFC1985:5.3). */
static bool may(const struct asker *a, const struct conf_domain *d, bool etrn)
{
    return by_account(a, d) || (etrn && conf_networks_have(&d->pull_from, &a->remote));
}

static bool add(struct buf *names, unsigned *count, const char *name)
{
    if (*count == NAMES_MAX || names->n + strlen(name) + 1 > ROOM)
        return false;
    ++*count;
    buf_printf(names, "%s%s", names->n ? " " : "", name);
    return true;
}

/* ETRN NODE, @NODE for all below it too. */
static void etrn(const struct asker *a, struct span node, struct buf *names)
{
    unsigned count = 0;
    bool below = node.n && node.p[0] == '@';
    struct span name = below ? span_from(node, 1) : node;
    for (size_t i = 0; i < a->conf->domain_count; i++) {
        const struct conf_domain *d = &a->conf->domain[i];
        struct span whole = span_of(d->name);
        bool under = below && whole.n > name.n && span_iends(whole, name) && whole.p[whole.n - name.n - 1] == '.';
        if ((under || span_ieq(whole, name)) && may(a, d, true) && !add(names, &count, d->name))
            return;
    }
}

/* RFC2645:5.2.1: all of those that are named, or none; without a name all there are. False: not entitled to one. */
static bool atrn(const struct asker *a, struct span list, struct buf *names)
{
    unsigned count = 0;
    if (list.n == 0) {
        for (size_t i = 0; i < a->conf->domain_count; i++)
            if (a->conf->domain[i].on_demand && may(a, &a->conf->domain[i], false))
                add(names, &count, a->conf->domain[i].name);
        return count > 0;
    }
    while (list.n) {
        const struct conf_domain *d = conf_domain_find(a->conf, span_cut(&list, ','));
        if (!d || !d->on_demand || !may(a, d, false) || !add(names, &count, d->name))
            return false;
    }
    return true;
}

static bool find_login(struct authd *d, const struct msg_pull_ask *q, struct asker *a)
{
    struct account who;
    struct err err;
    uint32_t id = q->session ? logins_account(d->logins, ROLE_SUBMISSION, q->instance, q->session) : 0;
    if (!id)
        return true;
    if (directory_account_get(d->directory, id, &who, &err)) {
        LOGE("directory", KVT("why", err.text));
        return false;
    }
    if (who.state == ACCOUNT_ENABLED)
        memcpy(a->login, who.login, sizeof a->login);
    return true;
}

void answer_pull(struct authd *d, struct chan *from, const struct msg *m)
{
    struct reply_to to = reply_to(from, m);
    const struct msg_pull_ask *q = &m->pull_ask;
    struct asker a = {.conf = service_conf(d->service)};
    struct buf names = {0};
    client_address(q->remote, &a.remote);
    if (!find_login(d, q, &a)) {
        say(&to, OUTCOME_RETRY, q->what ? 451 : 458, 3, 0, "the directory is not available", SPAN(""));
    } else if (q->what == 0) {
        etrn(&a, q->names, &names);
        if (names.n)
            say(&to, OUTCOME_DONE, 250, 0, 0, "", buf_span(&names));
        else
            say(&to, OUTCOME_RETRY, 459, 7, 1, "not allowed for you", SPAN(""));
    } else if (!a.login[0]) {
        say(&to, OUTCOME_FAILED, 530, 7, 0, "Log in first", SPAN(""));
    } else if (!atrn(&a, q->names, &names)) {
        say(&to, OUTCOME_FAILED, 550, 7, 1, "That mail is not yours to take", SPAN(""));
    } else {
        say(&to, OUTCOME_DONE, 250, 0, 0, "", buf_span(&names));
    }
    buf_free(&names);
}
