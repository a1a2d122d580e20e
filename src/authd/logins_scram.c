/* SCRAM (RFC 5802, RFC 7677) in authd: which verifiers are kept, with which salts, and what an exchange is checked against.
 *
 * The salt of a name is made of the name and a secret of the directory, whether an account has that name or not: an account that is made
 * or removed changes nothing that a stranger can see. All passwords of an account have the same one (a verifier that was made otherwise
 * hands its salt on), as the client names the account alone: the proof says which of them it knows. */
#include "authd/logins_impl.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "mail/address.h"

/* ---- what is kept ---- */

/* A salt for that name, and keys that nobody knows: the same however the name is written. */
static bool made_up(struct authd *a, enum scram_hash hash, struct span user, struct scram_verifier *v)
{
    struct address_key key;
    struct err err;
    uint8_t secret[SCRAM_KEY];
    if (directory_secret(a->directory, secret, &err)) {
        LOGE("directory", KVT("why", err.text));
        return false;
    }
    scram_fake(hash, secret, address_key(user, &key) ? span_of(key.text) : user, v);
    password_wipe(secret, sizeof(secret));
    return true;
}

struct apps {
    struct {
        int64_t id;
        struct scram_verifier v;
    } at[APP_PASSWORDS_MAX];
    size_t n;
};

static void take_app(void *ctx, int64_t id, struct span scram)
{
    struct apps *all = ctx;
    if (all->n < COUNT_OF(all->at) && scram_read(scram, &all->at[all->n].v) && all->at[all->n].v.hash == SCRAM_SHA_256)
        all->at[all->n++].id = id;
}

/* A verifier of the account, whose salt a further one has to have, too. */
static bool kept(struct authd *a, const struct account *acc, enum scram_hash hash, struct scram_verifier *v)
{
    struct apps apps = {.n = 0};
    struct err err;
    if (scram_read(span_of(acc->scram[hash]), v) && v->hash == hash)
        return true;
    if (hash == SCRAM_SHA_256 && directory_app_scrams(a->directory, acc->id, APP_SMTP | APP_IMAP | APP_POP3, take_app, &apps, &err))
        LOGE("directory", KVT("why", err.text));
    if (apps.n)
        *v = apps.at[0].v;
    bool any = apps.n > 0;
    password_wipe(&apps, sizeof(apps));
    return any;
}

/* hashes: bits 1 << enum scram_hash. Those whose salt can't be had are left out. */
static void want_of(struct authd *a, const struct account *acc, struct span address, unsigned which, struct hasher_want *want)
{
    *want = (struct hasher_want){0};
    for (unsigned i = 0; i < SCRAM_HASHES; i++) {
        struct scram_verifier v;
        if (!(which & 1u << i))
            continue;
        bool there = acc && kept(a, acc, (enum scram_hash)i, &v);
        if (!there && !made_up(a, (enum scram_hash)i, acc ? span_of(acc->login) : address, &v))
            continue;
        want->hashes |= 1u << i;
        memcpy(want->salt[i], v.salt, SCRAM_SALT);
        password_wipe(&v, sizeof(v));
    }
}

static unsigned wanted(const struct conf *c, const struct account *acc)
{
    return (c->accounts.scram ? 1u << SCRAM_SHA_256 : 0u) |
           (c->accounts.scram_sha_1 && acc && acc->sha_1 ? 1u << SCRAM_SHA_1 : 0u);
}

void scram_wanted(struct authd *a, const struct account *acc, struct span address, struct hasher_want *want)
{
    want_of(a, acc, address, wanted(service_conf(a->service), acc), want);
}

/* Of those, the ones that are missing: its password is older than SCRAM here. */
void scram_missing(struct authd *a, const struct account *acc, struct hasher_want *want)
{
    unsigned which = wanted(service_conf(a->service), acc);
    for (unsigned i = 0; i < SCRAM_HASHES; i++)
        if (acc->scram[i][0])
            which &= ~(1u << i);
    want_of(a, acc, SPAN_NONE, which, want);
}

/* ---- app passwords ---- */

struct app_job {
    struct authd *authd;
    int64_t id;
    void (*done)(void *ctx);
    void *ctx;
};

static void app_derived(void *ctx, bool ok, const char *hash, const hasher_scram *scram)
{
    struct app_job *j = ctx;
    struct err err;
    bool still = ok && hash && service_conf(j->authd->service)->accounts.scram; /* not switched off meanwhile */
    if (still && (*scram)[SCRAM_SHA_256][0] && directory_app_scram(j->authd->directory, j->id, (*scram)[SCRAM_SHA_256], &err))
        LOGE("directory", KVT("why", err.text));
    if (j->done)
        j->done(j->ctx);
    mem_free(&j);
}

bool scram_keep_app(struct authd *a, const struct account *acc, int64_t id, uint64_t client, struct span password, void (*done)(void *ctx),
                    void *ctx)
{
    struct hasher_want want;
    want_of(a, acc, SPAN_NONE, service_conf(a->service)->accounts.scram ? 1u << SCRAM_SHA_256 : 0u, &want);
    if (!want.hashes)
        return false;
    struct app_job *j = mem_alloc(sizeof(*j));
    *j = (struct app_job){a, id, done, ctx};
    if (hasher_derive(a->hasher, client, password, &want, app_derived, j) == 0)
        return true;
    mem_free(&j);
    return false;
}

unsigned app_protocol(const struct session *s)
{
    static const unsigned bits[] = {
        [CONF_PROTOCOL_SUBMISSION] = APP_SMTP, [CONF_PROTOCOL_IMAP] = APP_IMAP, [CONF_PROTOCOL_POP3] = APP_POP3};
    return s->protocol < COUNT_OF(bits) ? bits[s->protocol] : 0;
}

void log_app(const struct session *s, const struct account *a, const struct app_found *found)
{
    LOGI("app-password", KVT("user", a->login), KVT("name", found->name), KVT("remote", s->remote));
}

/* ---- the exchange ---- */

bool scram_credentials(struct logins *l, struct session *s, struct sasl_result *r)
{
    struct account a;
    struct scram_verifier v;
    struct apps apps = {.n = 0};
    struct err err;
    bool found;
    if (!identify(l, r, &a, &found, &s->claim_why))
        return false;
    bool able = !s->claim_why;
    bool stored = found && scram_read(span_of(a.scram[r->hash]), &v) && v.hash == r->hash;
    if (able && r->hash == SCRAM_SHA_256 && directory_app_scrams(l->authd->directory, a.id, app_protocol(s), take_app, &apps, &err)) {
        LOGE("directory", KVT("why", err.text));
        return false;
    }
    if (!stored && able)
        s->claim_why = r->hash == SCRAM_SHA_1 && !a.sha_1
                             ? "SCRAM-SHA-1 is not switched on for it"
                             : "no SCRAM verifier is kept for it: a login with PLAIN makes one";
    if (!stored && apps.n)
        v = apps.at[0].v; /* its salt: the main password has none yet */
    else if (!stored && !made_up(l->authd, r->hash, r->user, &v))
        return false;
    s->claimed = able && (stored || apps.n) ? a.id : 0;
    sasl_credentials(s->sasl, &v, able && stored, r);
    for (size_t i = 0; i < apps.n; i++)
        sasl_also(s->sasl, &apps.at[i].v, apps.at[i].id);
    password_wipe(&v, sizeof(v));
    password_wipe(&apps, sizeof(apps));
    return true;
}

/* What was proven may be gone since it was looked up. */
static enum dir_result still_there(struct logins *l, struct session *s, int64_t app, struct account *a, struct err *err)
{
    struct app_found found;
    enum dir_result got = directory_account_get(l->authd->directory, s->claimed, a, err);
    if (got != DIR_OK || app == 0)
        return got;
    switch (directory_app_use(l->authd->directory, a->id, app, clock_wall(), &found, err)) {
    case APP_RIGHT: log_app(s, a, &found); return DIR_OK;
    case APP_FAILED: return DIR_FAILED;
    default: err_set(err, "the app password was removed"); return DIR_MISSING;
    }
}

void scram_proven(struct logins *l, struct session *s, const struct reply_to *to, const struct sasl_result *r)
{
    struct account a;
    struct err err;
    enum dir_result got = still_there(l, s, r->by, &a, &err);
    if (got == DIR_OK && a.state == ACCOUNT_ENABLED) {
        log_in(s, to, a.id, a.login);
        return;
    }
    if (got == DIR_FAILED) {
        log_deferred(s, r->user, err.text);
        say_later(to);
        return;
    }
    log_failed(s, r->user, got == DIR_OK ? "the account is disabled" : err.text);
    say_no(to);
}
