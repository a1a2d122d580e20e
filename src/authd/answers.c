/* Questions about addresses: RCPT, MAIL, and expansion for the queue. RCPT is the hot path: what was
 * looked up for it is at hand for the queue's question, and smtpd(mx) keeps what it was told until something changes. */
#include "authd/authd.h"
#include "authd/logins.h"
#include "authd/terminals.h"
#include "base/log.h"

static struct msg verdict(const struct outcome *o, bool relayed, uint32_t account, const char *login)
{
    struct msg m = {.type = MSG_verdict};
    m.verdict = (struct msg_verdict){.kind = o->kind,
                                     .code = o->code,
                                     .subject = o->subject,
                                     .detail = o->detail,
                                     .relayed = relayed,
                                     .account = account,
                                     .login = span_of(login),
                                     .why = span_of(o->text)};
    return m;
}

/* ---- RCPT ---- */

static bool is_on_demand(struct authd *a, struct span address)
{
    const struct conf *c = service_conf(a->service);
    char name[ADDRESS_DOMAIN_MAX + 1];
    size_t n;
    if (c->domain_count == 0 ||
        !domain_canonical(span_from(address, (size_t)(span_rfind(address, '@') + 1)), name, &n))
        return false;
    const struct conf_domain *d = conf_domain_find(c, span_make(name, n));
    return d && d->on_demand;
}

/* SEND and the like, for somebody who is welcome. What SOML and SAML mean without a terminal is MAIL. */
static struct outcome judge_terminal(struct authd *a, const struct msg_rcpt_check *q)
{
    struct resolution r;
    struct err err;
    if (!service_conf(a->service)->smtp.send_commands)
        return outcome_make(OUTCOME_FAILED, 550, 3, 3, "nobody is sent to at a terminal here");
    if (q->terminal > 1)
        return outcome_make(OUTCOME_DONE, 250, 2, 1, "ok");
    if (directory_resolve(a->directory, q->address, &r, &err))
        return outcome_make(OUTCOME_RETRY, 451, 3, 0, "the directory is not available");
    if (r.kind != RESOLVE_ACCOUNT)
        return outcome_make(OUTCOME_FAILED, 550, 3, 3, "that is no user with a terminal here, send mail");
    if (!terminal_is_open(r.account))
        return outcome_make(OUTCOME_RETRY, 450, 2, 1, "that user has no terminal open, send mail");
    return outcome_make(OUTCOME_DONE, 250, 2, 1, "ok");
}

void answers_forget(struct authd *a)
{
    const struct msg m = {.type = MSG_rcpt_forget};
    uint64_t instance;
    void *to;
    for (size_t at = 0; idmap_next(&a->keepers, &at, &instance, &to);)
        chan_say(to, &m, -1);
    idmap_free(&a->keepers);
}

/* It hangs on the address alone, as long as the directory and the configuration are as they are. */
static bool may_be_kept(const struct authd *a, const struct chan *from, const struct msg_rcpt_check *q, const struct outcome *o, bool relayed)
{
    return chan_peer(from) == ROLE_MX && o->kind == OUTCOME_DONE && !q->session && !q->terminal && !relayed && !directory_has_quotas(a->directory);
}

void answer_rcpt_check(struct authd *a, struct chan *from, const struct msg *m)
{
    struct reply_to to = reply_to(from, m);
    bool submission = chan_peer(from) == ROLE_SUBMISSION;
    bool relayed;
    uint32_t account =
        submission ? logins_account(a->logins, ROLE_SUBMISSION, chan_instance(from), m->rcpt_check.session) : 0;
    struct outcome o = directory_welcome_sized(a->directory, m->rcpt_check.address, m->rcpt_check.size, &relayed);
    if (relayed && is_on_demand(a, m->rcpt_check.address))
        relayed = false; /* we take it for our customer */
    if (submission && !account)
        o = outcome_make(OUTCOME_RETRY, 451, 7, 0, "please log in again");
    else if (relayed && o.kind == OUTCOME_DONE && !account)
        /* Never an open relay: only who proved to be an account here sends to elsewhere. */
        o = outcome_make(OUTCOME_FAILED, 550, 7, 1, "relaying denied");
    if (m->rcpt_check.terminal && o.kind == OUTCOME_DONE)
        o = judge_terminal(a, &m->rcpt_check);
    struct msg v = verdict(&o, relayed, account, "");
    v.verdict.keep = may_be_kept(a, from, &m->rcpt_check, &o, relayed);
    if (v.verdict.keep)
        idmap_put(&a->keepers, chan_instance(from), from);
    reply(&to, &v);
}

/* ---- MAIL ---- */

static struct outcome judge_sender(struct authd *a, uint32_t account, struct span sender, struct account *who)
{
    struct err err;
    if (!account)
        return outcome_make(OUTCOME_RETRY, 451, 7, 0, "please log in again");
    enum dir_result got = directory_account_get(a->directory, account, who, &err);
    /* The null reverse-path is everybody's: notifications of clients use it (RFC 8098 §2.1). */
    int may = got ? -1 : sender.n == 0 ? 1 : directory_may_send(a->directory, account, sender, &err);
    if (may < 0) {
        LOGE("directory", KVT("why", err.text));
        return outcome_make(OUTCOME_RETRY, 451, 3, 0, "the directory is not available");
    }
    if (who->state != ACCOUNT_ENABLED)
        return outcome_make(OUTCOME_FAILED, 550, 7, 1, "the account may not send");
    if (!may)
        return outcome_make(OUTCOME_FAILED, 550, 7, 1, "this sender address is not yours");
    return outcome_make(OUTCOME_DONE, 250, 1, 0, "ok");
}

static void add_limits(struct authd *a, uint32_t account, struct msg_verdict *v)
{
    uint32_t most[SENDING_LIMITS];
    enum sending_from source[SENDING_LIMITS];
    struct err err;
    if (directory_sending(a->directory, account, most, source, &err))
        LOGE("directory", KVT("why", err.text)); /* the defaults */
    v->messages_hour = most[SENDING_MESSAGES_HOUR];
    v->recipients_hour = most[SENDING_RECIPIENTS_HOUR];
    v->messages_day = most[SENDING_MESSAGES_DAY];
    v->recipients_day = most[SENDING_RECIPIENTS_DAY];
    v->new_day = most[SENDING_NEW_DAY];
}

void answer_sender_check(struct authd *a, struct chan *from, const struct msg *m)
{
    struct reply_to to = reply_to(from, m);
    const struct msg_sender_check *q = &m->sender_check;
    /* qmgr asks about a session of the front it names; a front only about its own. */
    uint32_t instance = chan_peer(from) == ROLE_QMGR ? q->instance : chan_instance(from);
    uint32_t account = logins_account(a->logins, ROLE_SUBMISSION, instance, q->session);
    struct account who = {.login = ""};
    struct outcome o = judge_sender(a, account, q->sender, &who);
    if (o.kind == OUTCOME_FAILED)
        LOGI("sender-refused", KVU("account", account), KVS("sender", q->sender));
    struct msg v = verdict(&o, false, account, who.login);
    if (o.kind == OUTCOME_DONE && chan_peer(from) == ROLE_QMGR)
        add_limits(a, account, &v.verdict);
    reply(&to, &v);
}

/* ---- expansion ---- */

struct expansion {
    const struct reply_to *to;
    uint32_t count;
};


static void end(const struct expansion *e, unsigned kind, unsigned subject, unsigned detail, unsigned held,
                const char *why)
{
    struct msg m = {.type = MSG_expand_end};
    m.expand_end = (struct msg_expand_end){.kind = (uint8_t)kind,
                                           .subject = (uint16_t)subject,
                                           .detail = (uint16_t)detail,
                                           .held = (uint8_t)held,
                                           .count = e->count,
                                           .why = span_of(why)};
    reply(e->to, &m);
}

/* The whole answer. */
static void end_one(const struct expansion *e, unsigned kind, uint32_t account, struct span address, struct span detail,
                    unsigned held)
{
    struct msg m = {.type = MSG_expand_end};
    m.expand_end = (struct msg_expand_end){.kind = OUTCOME_DONE,
                                           .held = (uint8_t)held,
                                           .count = 1,
                                           .item = (uint8_t)kind,
                                           .account = account,
                                           .address = address,
                                           .mailbox_detail = detail};
    reply(e->to, &m);
}

static void target_item(void *ctx, struct span target)
{
    struct expansion *e = ctx;
    struct msg m = {.type = MSG_expand_item, .expand_item = {.kind = 2, .address = target}};
    reply(e->to, &m);
    e->count++;
}

/* 1: held; 2: a customer's, whose mail waits until it is asked for. */
static unsigned is_held(struct authd *a, const struct resolution *r)
{
    const struct conf_domain *d = conf_domain_for(service_conf(a->service), address_key_domain(&r->key));
    return !d ? 0 : d->hold ? 1 : d->on_demand && r->kind == RESOLVE_ELSEWHERE ? 2 : 0;
}

static void expand_account(struct authd *a, struct expansion *e, const struct resolution *r)
{
    if (r->state != ACCOUNT_ENABLED) {
        end(e, OUTCOME_FAILED, 2, 1, 0, "this mailbox is disabled");
        return;
    }
    end_one(e, 1, r->account, span_of(r->login), span_of(r->detail), is_held(a, r));
}

static void expand_alias(struct authd *a, struct expansion *e, const struct resolution *r, unsigned depth)
{
    struct err err;
    if (depth >= ALIAS_DEPTH_MAX) /* RFC3463:3.5 X.4.6 routing loop detected */
        end(e, OUTCOME_FAILED, 4, 6, 0, "aliases lead to aliases without end");
    else if (directory_targets(a->directory, r, target_item, e, &err))
        end(e, OUTCOME_RETRY, 3, 0, 0, "the directory is not available");
    else
        end(e, OUTCOME_DONE, 0, 0, is_held(a, r), "");
}

void answer_expand(struct authd *a, struct chan *from, const struct msg *m)
{
    struct reply_to to = reply_to(from, m);
    struct expansion e = {.to = &to};
    struct resolution r;
    struct err err;
    enum dir_result got = directory_resolve(a->directory, m->expand.address, &r, &err);
    if (got == DIR_USAGE)
        end(&e, OUTCOME_FAILED, 1, 3, 0, "not an address");
    else if (got)
        end(&e, OUTCOME_RETRY, 3, 0, 0, "the directory is not available");
    else if (r.kind == RESOLVE_ACCOUNT)
        expand_account(a, &e, &r);
    else if (r.kind == RESOLVE_ALIAS)
        expand_alias(a, &e, &r, m->expand.depth);
    else if (r.kind == RESOLVE_ELSEWHERE)
        end_one(&e, 3, 0, m->expand.address, SPAN(""), is_held(a, &r));
    else
        end(&e, OUTCOME_FAILED, 1, 1, 0, "no such address here");
}
