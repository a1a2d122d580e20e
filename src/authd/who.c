/* VRFY and EXPN: what the directory says of a name, for those whom the settings allow to ask. */
#include "authd/authd.h"
#include "authd/logins.h"
#include "base/log.h"

#define MEMBERS_MAX 100 /* of an alias that are shown; longer ones are not */
#define NAMES_MAX 10    /* that a name is said to mean */
#define ROOM 16384      /* F_who's members */

struct answer {
    const struct reply_to *to;
    struct buf members;
    unsigned count;
    bool over;
};

static void say(struct answer *a, unsigned kind, unsigned code, unsigned subject, unsigned detail, const char *why)
{
    struct msg m = {.type = MSG_who};
    m.who = (struct msg_who){.kind = (uint8_t)kind,
                             .code = (uint16_t)code,
                             .subject = (uint16_t)subject,
                             .detail = (uint16_t)detail,
                             .why = span_of(why),
                             .members = a->members.n ? buf_span(&a->members) : SPAN("")};
    reply(a->to, &m);
    buf_free(&a->members);
}

static void add(struct answer *a, const char *before, struct span address)
{
    if (a->count == MEMBERS_MAX || a->members.n + address.n + 64 > ROOM) {
        a->over = true;
        return;
    }
    a->count++;
    buf_printf(&a->members, "%s<", before);
    buf_add(&a->members, address);
    buf_adds(&a->members, ">\n");
}

static void add_target(void *ctx, struct span target)
{
    add(ctx, "", target);
}

static void no_directory(struct answer *a)
{
    buf_clear(&a->members);
    say(a, OUTCOME_RETRY, 451, 3, 0, "the directory is not available");
}

/* ---- a name without a domain ---- */

struct names {
    struct answer *a;
    unsigned enabled;
};

static void add_login(void *ctx, struct span login, enum account_state state)
{
    struct names *n = ctx;
    if (state != ACCOUNT_ENABLED)
        return;
    n->enabled++;
    add(n->a, "", login);
}

/* RFC5321:3.5.1: the name of a user; several of them are ambiguous. */
static void verify_name(struct authd *d, struct answer *a, struct span name)
{
    struct names n = {.a = a};
    struct err err;
    if (directory_logins_of(d->directory, name, NAMES_MAX, add_login, &n, &err))
        no_directory(a);
    else if (n.enabled == 0)
        say(a, OUTCOME_FAILED, 550, 1, 1, "no such user here");
    else if (n.enabled == 1)
        say(a, OUTCOME_DONE, 250, 1, 5, "");
    else
        say(a, OUTCOME_FAILED, 553, 1, 4, "ambiguous, it may be one of");
}

/* ---- an address ---- */

static void verify_account(struct authd *d, struct answer *a, const struct resolution *r)
{
    struct account who;
    struct err err;
    if (directory_account_get(d->directory, r->account, &who, &err)) {
        no_directory(a);
    } else if (r->state != ACCOUNT_ENABLED) {
        say(a, OUTCOME_FAILED, 550, 2, 1, "this mailbox is disabled");
    } else {
        add(a, "", span_of(who.login));
        say(a, OUTCOME_DONE, 250, 1, 5, "");
    }
}

/* One target elsewhere is a user who has moved on (251); else the alias is an address like any other. */
static void verify_alias(struct authd *d, struct answer *a, struct span name, const struct resolution *r)
{
    struct err err;
    struct resolution target;
    struct answer targets = {.to = a->to};
    if (directory_targets(d->directory, r, add_target, &targets, &err)) {
        buf_free(&targets.members);
        no_directory(a);
        return;
    }
    struct span first = span_sub(buf_span(&targets.members), 1, targets.members.n > 3 ? targets.members.n - 3 : 0);
    bool away = targets.count == 1 && directory_resolve(d->directory, first, &target, &err) == DIR_OK &&
                target.kind == RESOLVE_ELSEWHERE;
    add(a, away ? "User not local; will forward to " : "", away ? first : name);
    buf_free(&targets.members);
    say(a, OUTCOME_DONE, away ? 251 : 250, 1, 5, "");
}

static void expand(struct authd *d, struct answer *a, const struct resolution *r)
{
    struct err err;
    if (r->kind == RESOLVE_ACCOUNT) {
        say(a, OUTCOME_FAILED, 550, 2, 4, "that is the name of a user, not of a list");
    } else if (r->kind != RESOLVE_ALIAS) {
        say(a, OUTCOME_FAILED, 550, 1, 1, "no such list here");
    } else if (directory_targets(d->directory, r, add_target, a, &err)) {
        no_directory(a);
    } else if (a->over) {
        buf_clear(&a->members);
        say(a, OUTCOME_DONE, 252, 5, 0, "it has more members than are shown; mail to it is taken");
    } else {
        say(a, OUTCOME_DONE, 250, 1, 5, "");
    }
}

static void verify(struct authd *d, struct answer *a, struct span name, const struct resolution *r)
{
    if (r->kind == RESOLVE_ACCOUNT)
        verify_account(d, a, r);
    else if (r->kind == RESOLVE_ALIAS)
        verify_alias(d, a, name, r);
    else if (r->kind == RESOLVE_ELSEWHERE)
        say(a, OUTCOME_DONE, 252, 5, 0, "that domain is not served here, who knows");
    else
        say(a, OUTCOME_FAILED, 550, 1, 1, "no such address here");
}

static bool allowed(struct authd *d, struct chan *from, const struct msg_who_ask *q)
{
    const struct conf *c = service_conf(d->service);
    enum conf_asking setting = q->what ? c->smtp.expn : c->smtp.vrfy;
    if (setting == CONF_ASKING_AUTHENTICATED)
        return chan_peer(from) == ROLE_SUBMISSION && q->session &&
               logins_account(d->logins, ROLE_SUBMISSION, chan_instance(from), q->session);
    return setting == CONF_ASKING_ON;
}

void answer_who(struct authd *d, struct chan *from, const struct msg *m)
{
    struct reply_to to = reply_to(from, m);
    struct answer a = {.to = &to};
    const struct msg_who_ask *q = &m->who_ask;
    struct resolution r;
    struct err err;
    if (!allowed(d, from, q)) {
        say(&a, OUTCOME_FAILED, 550, 7, 1, "that may not be asked here");
        return;
    }
    if (!q->what && span_find(q->name, '@') < 0 && !span_ieqs(q->name, "postmaster")) {
        verify_name(d, &a, q->name);
        return;
    }
    enum dir_result got = directory_resolve(d->directory, q->name, &r, &err);
    if (got == DIR_USAGE)
        say(&a, OUTCOME_FAILED, 550, 1, 1, q->what ? "no such list here: NAME@DOMAIN" : "no such address here");
    else if (got)
        no_directory(&a);
    else if (q->what)
        expand(d, &a, &r);
    else
        verify(d, &a, q->name, &r);
}
