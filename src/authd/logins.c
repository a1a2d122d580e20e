/* Logins: SASL by auth/sasl.h, passwords by the hasher. Wrong name, wrong password, disabled account and broken
 * response give one and the same answer; the log says which it was. */
#include "authd/logins_impl.h"

#include <stdio.h>

#include "auth/mechanisms.h"
#include "authd/external.h"
#include "authd/hasher.h"
#include "base/client.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#define SESSIONS_MAX 65536 /* of one front */
#define HELD_MAX 2000      /* logins that wait for their turn (auth/backoff.h) */
#define HELD_EACH 20       /* of one client */

/* A password under way. It outlives its session. */
struct attempt {
    struct session *session; /* NULL: forgotten meanwhile */
    struct directory *directory;
    struct reply_to to;
    uint32_t account; /* 0: it can't succeed */
    const char *why;  /* why it can't, for the log */
    char user[SASL_NAME_MAX + 1], login[SASL_NAME_MAX + 1];
};

/* A login that waits before anything is looked up. */
struct held {
    struct link link;
    struct session *session;
    struct timer *timer;
    struct sasl_result result; /* its spans are the exchange's, which waits, too */
    struct reply_to to;
};

static const char *const protocols[] = {"?", "submission", "imap", "pop3"};

static struct front *front_of(struct logins *l, enum role role, uint32_t instance)
{
    if (instance >= FRONTS_MAX)
        return NULL;
    switch (role) {
    case ROLE_SUBMISSION: return &l->fronts[0][instance];
    case ROLE_IMAPD: return &l->fronts[1][instance];
    case ROLE_POP3D: return &l->fronts[2][instance];
    default: return NULL;
    }
}

/* ---- sessions ---- */

static void held_free(struct session *s)
{
    struct logins *l = s->front->logins;
    uintptr_t n = (uintptr_t)idmap_get(&l->held_each, s->client);
    if (!s->held)
        return;
    if (n > 1)
        idmap_put(&l->held_each, s->client, (void *)(n - 1)); /* a number kept where the map keeps pointers */
    else
        idmap_del(&l->held_each, s->client);
    l->held_count--;
    list_del(&s->held->link);
    timer_free(&s->held->timer);
    mem_free(&s->held);
}

/* What has become of a login that was counted as a failure from its beginning. */
typedef void backoff_end_fn(struct backoff *b, uint64_t client, struct span name, int64_t now);
static void count_end(struct session *s, backoff_end_fn *fn)
{
    struct logins *l = s->front->logins;
    if (s->counted && fn)
        fn(l->backoff, s->client, buf_span(&s->name), loop_now(service_loop(l->authd->service)));
    kept_changed(l);
    s->counted = false;
    buf_free(&s->name);
}

static void session_reset(struct session *s)
{
    held_free(s);
    token_forget(s);
    count_end(s, s->attempt ? NULL : backoff_dropped); /* who leaves while his password is checked has failed */
    s->admitted = s->logged = false;
    sasl_free(&s->sasl);
    buf_free(&s->certificate);
    buf_free(&s->names);
    if (s->attempt)
        s->attempt->session = NULL;
    s->attempt = NULL;
    s->account = s->claimed = 0;
    s->claim_why = NULL;
}

static void session_free(struct session **sp)
{
    session_reset(*sp);
    idmap_del(&(*sp)->front->sessions, (*sp)->id);
    mem_free(sp);
}

static struct session *session_find(struct front *f, uint64_t id)
{
    return f ? idmap_get(&f->sessions, id) : NULL;
}

static struct session *session_make(struct front *f, uint64_t id)
{
    struct session *s = session_find(f, id);
    if (s) {
        session_reset(s);
        return s;
    }
    if (!f || f->sessions.count >= SESSIONS_MAX)
        return NULL;
    s = mem_alloc(sizeof(*s));
    s->front = f;
    s->id = id;
    idmap_put(&f->sessions, id, s);
    return s;
}

static void front_clear(struct front *f)
{
    uint64_t id;
    void *value;
    size_t at = 0;
    while (idmap_next(&f->sessions, &at, &id, &value)) {
        session_reset(value);
        mem_free(&value);
    }
    idmap_free(&f->sessions);
}

struct logins *logins_new(struct authd *a)
{
    struct logins *l = mem_alloc(sizeof(*l));
    l->authd = a;
    l->backoff = backoff_new(NULL);
    list_init(&l->held);
    for (size_t i = 0; i < COUNT_OF(l->fronts); i++)
        for (size_t j = 0; j < FRONTS_MAX; j++)
            l->fronts[i][j].logins = l;
    return l;
}

void logins_free(struct logins **l)
{
    for (size_t i = 0; *l && i < COUNT_OF((*l)->fronts); i++)
        for (size_t j = 0; j < FRONTS_MAX; j++)
            front_clear(&(*l)->fronts[i][j]);
    if (*l) {
        kept_close(*l);
        backoff_free(&(*l)->backoff);
        idmap_free(&(*l)->held_each);
    }
    mem_free(l);
}

void logins_remember(struct logins *l, const char *dir)
{
    kept_open(l, dir);
}

bool logins_are_saved(struct logins *l)
{
    return !kept_is_saving(l);
}

void logins_forget(struct logins *l, struct chan *from, uint64_t id)
{
    struct session *s = session_find(front_of(l, chan_peer(from), chan_instance(from)), id);
    if (s)
        session_free(&s);
}

void logins_front_gone(struct logins *l, struct chan *front)
{
    struct front *f = front_of(l, chan_peer(front), chan_instance(front));
    if (f)
        front_clear(f);
}

uint32_t logins_account(struct logins *l, enum role front, uint32_t instance, uint64_t id)
{
    struct session *s = session_find(front_of(l, front, instance), id);
    return s ? s->account : 0;
}

static void front_drop_account(struct front *f, uint32_t account)
{
    uint64_t id;
    void *value;
    size_t at = 0;
    while (idmap_next(&f->sessions, &at, &id, &value))
        if (((struct session *)value)->account == account)
            session_reset(value);
}

void logins_drop_account(struct logins *l, uint32_t account)
{
    for (size_t i = 0; i < COUNT_OF(l->fronts); i++)
        for (size_t j = 0; j < FRONTS_MAX; j++)
            front_drop_account(&l->fronts[i][j], account);
}

/* ---- answers ---- */

static void say_result(const struct reply_to *to, unsigned kind, unsigned subject, unsigned detail, struct span login,
                       const char *why)
{
    struct msg m = {.type = MSG_auth_result};
    m.auth_result = (struct msg_auth_result){.kind = (uint8_t)kind,
                                             .subject = (uint16_t)subject,
                                             .detail = (uint16_t)detail,
                                             .login = login,
                                             .why = span_of(why)};
    reply(to, &m);
}

/* RFC4954:6: 535 5.7.8 says nothing about what was wrong. */
void say_no(const struct reply_to *to)
{
    say_result(to, OUTCOME_FAILED, 7, 8, SPAN(""), "authentication failed");
}

void say_later(const struct reply_to *to)
{
    say_result(to, OUTCOME_RETRY, 7, 0, SPAN(""), "logins are not possible now, try again");
}

static const char *protocol_of(const struct session *s)
{
    return protocols[s->protocol < COUNT_OF(protocols) ? s->protocol : 0];
}

/* tallyd counts the failures of a client, and where logins succeed. */
static void tell_tallyd(const struct session *s, bool in)
{
    struct chan *tallyd = s->exempt ? NULL : service_chan(s->front->logins->authd->service, ROLE_TALLYD, 0);
    struct msg m = {.type = MSG_client_note,
                    .client_note = {.client = s->client, .failed_logins = !in, .trusted = in}};
    if (tallyd)
        chan_say(tallyd, &m, -1);
}

/* The one line of a failed login: contrib/fail2ban reads it. What the client chose stands last. */
void log_failed(struct session *s, struct span user, const char *why)
{
    LOGW("login-failed", KVT("remote", s->remote), KVT("protocol", protocol_of(s)), KVT("mechanism", s->mechanism),
         KVU("tls", s->tls), KVT("why", why), KVS("user", user.p ? user : SPAN("")));
    count_end(s, NULL);
    tell_tallyd(s, false);
}

/* Nobody's fault. */
void log_deferred(struct session *s, struct span user, const char *why)
{
    LOGW("login-deferred", KVT("remote", s->remote), KVT("protocol", protocol_of(s)), KVT("why", why),
         KVS("user", user.p ? user : SPAN("")));
    count_end(s, backoff_dropped);
}

void log_in(struct session *s, const struct reply_to *to, uint32_t account, const char *login)
{
    s->account = account;
    LOGI("login", KVT("user", login), KVT("remote", s->remote), KVT("protocol", protocol_of(s)),
         KVT("mechanism", s->mechanism), KVU("tls", s->tls));
    count_end(s, backoff_succeeded);
    tell_tallyd(s, true);
    say_result(to, OUTCOME_DONE, 7, 0, span_of(login), "");
}

void say_challenge(const struct reply_to *to, const struct sasl_result *r)
{
    struct msg m = {.type = MSG_auth_challenge};
    m.auth_challenge.challenge = r->challenge;
    reply(to, &m);
}

/* ---- a password ---- */

static void password_checked(void *ctx, bool ok, const char *hash, const hasher_scram *scram)
{
    struct attempt *t = ctx;
    struct session *s = t->session;
    for (unsigned i = 0; ok && t->account && i < SCRAM_HASHES; i++) {
        struct err err;
        if ((*scram)[i][0] &&
            directory_account_scram(t->directory, t->account, hash, (enum scram_hash)i, (*scram)[i], &err))
            LOGE("directory", KVT("why", err.text));
    }
    if (s) {
        s->attempt = NULL;
        if (!hash) {
            log_deferred(s, span_of(t->user), "too many logins at once");
            say_later(&t->to);
        } else if (ok && t->account) {
            log_in(s, &t->to, t->account, t->login);
        } else {
            log_failed(s, span_of(t->user), t->why ? t->why : "wrong password");
            say_no(&t->to);
        }
    }
    mem_free(&t);
}

bool identify(struct logins *l, const struct sasl_result *r, struct account *a, bool *found, const char **why)
{
    struct account other;
    struct address_key key;
    struct err err;
    enum dir_result got = directory_account_find(l->authd->directory, r->user, a, &err);
    *found = got == DIR_OK;
    *why = NULL;
    if (got == DIR_FAILED) {
        LOGE("directory", KVT("why", err.text));
        return false;
    }
    if (got != DIR_OK)
        *why = "no such account";
    /* RFC4616:2, RFC5802:5.1: nobody may act for another here. */
    else if (r->authzid.n && (!address_key(r->authzid, &key) ||
                              directory_account_find(l->authd->directory, r->authzid, &other, &err) != DIR_OK ||
                              other.id != a->id))
        *why = "wants to act for another";
    else if (a->state != ACCOUNT_ENABLED)
        *why = "the account is disabled";
    return true;
}

/* Whether it is an app password of that account, good for this door. The main one is checked after it: *why says if it
 * need not be. */
static bool app_password(struct logins *l, struct session *s, const struct account *a, struct span password,
                         const char **why)
{
    struct app_found found;
    struct err err;
    switch (directory_app_check(l->authd->directory, a->id, password, app_protocol(s), clock_wall(), &found, &err)) {
    case APP_RIGHT:
        log_app(s, a, &found);
        if (found.bare)
            scram_keep_app(l->authd, a, found.id, s->client, password, NULL, NULL);
        return true;
    case APP_ELSEWHERE: *why = "an app password for other protocols"; break;
    case APP_NONE: break;
    case APP_FAILED: LOGE("directory", KVT("why", err.text)); break;
    }
    return false;
}

static void verify(struct logins *l, struct session *s, const struct reply_to *to, const struct sasl_result *r)
{
    struct account a;
    bool found;
    struct attempt *t = mem_alloc(sizeof(*t));
    t->to = *to;
    t->session = s;
    t->directory = l->authd->directory;
    memcpy(t->user, r->user.p, MIN_OF(r->user.n, (size_t)SASL_NAME_MAX));
    bool known = identify(l, r, &a, &found, &t->why);
    if (known && !t->why && app_password(l, s, &a, r->password, &t->why)) {
        log_in(s, to, a.id, a.login);
        mem_free(&t);
        return;
    }
    if (known && !t->why) {
        t->account = a.id;
        snprintf(t->login, sizeof(t->login), "%.*s", SASL_NAME_MAX, a.login);
    }
    struct hasher_want keep = {0};
    if (t->account)
        scram_missing(l->authd, &a, &keep);
    if (!known ||
        hasher_check(l->authd->hasher, s->client, found ? a.hash : NULL, r->password, &keep, password_checked, t)) {
        log_deferred(s, r->user, known ? "too many logins at once" : "the directory can't be read");
        mem_free(&t);
        say_later(to);
        return;
    }
    s->attempt = t;
}

/* ---- a certificate ---- */

static void certified(struct logins *l, struct session *s, const struct reply_to *to, const struct sasl_result *r)
{
    struct account a;
    const char *why;
    if (external_identify(l->authd->directory, service_conf(l->authd->service), (const uint8_t *)s->certificate.p,
                          buf_span(&s->names), r->authzid, &a, &why)) {
        say_later(to);
    } else if (why) {
        log_failed(s, r->authzid, why);
        say_no(to);
    } else {
        log_in(s, to, a.id, a.login);
    }
}

/* ---- waiting for what failed before ---- */

static void act(struct logins *l, struct session *s, const struct reply_to *to, struct sasl_result *r);

static void held_over(void *ctx)
{
    struct held *h = ctx;
    struct session *s = h->session;
    struct reply_to to = h->to;
    struct sasl_result r = h->result;
    held_free(s);
    act(s->front->logins, s, &to, &r);
}

static void turn_away(struct session *s, const struct reply_to *to, const struct sasl_result *r)
{
    log_deferred(s, r->user, "too many logins wait already");
    say_later(to);
    sasl_free(&s->sasl);
}

/* When all places are taken, the newest one of the client that has most goes; nobody makes room for one who would then have as many. So
 * whoever fills them with many addresses shares them with those who come from others. */
static bool make_room(struct logins *l, uintptr_t mine)
{
    uint64_t client, greediest = 0;
    uintptr_t most = 0;
    size_t at = 0;
    void *n;
    if (l->held_count < HELD_MAX)
        return true;
    while (idmap_next(&l->held_each, &at, &client, &n))
        if ((uintptr_t)n > most) {
            most = (uintptr_t)n;
            greediest = client;
        }
    if (most <= mine + 1)
        return false;
    struct link *x = l->held.prev;
    while (container_of(x, struct held, link)->session->client != greediest)
        x = x->prev;
    struct held h = *container_of(x, struct held, link);
    held_free(h.session);
    turn_away(h.session, &h.to, &h.result);
    return true;
}

static bool hold(struct logins *l, struct session *s, const struct reply_to *to, const struct sasl_result *r,
                 int64_t ms)
{
    uintptr_t n = (uintptr_t)idmap_get(&l->held_each, s->client);
    if (n >= HELD_EACH || !make_room(l, n))
        return false;
    s->held = mem_alloc(sizeof *s->held);
    *s->held = (struct held){.session = s, .result = *r, .to = *to};
    s->held->timer = timer_new(service_loop(l->authd->service), held_over, s->held);
    timer_start(s->held->timer, ms);
    list_add_tail(&l->held, &s->held->link);
    idmap_put(&l->held_each, s->client, (void *)(n + 1));
    l->held_count++;
    LOGI("login-slowed", KVT("remote", s->remote), KVT("protocol", protocol_of(s)), KVU("ms", ms),
         KVS("user", buf_span(&s->name).p ? buf_span(&s->name) : SPAN("")));
    return true;
}

/* False: it may go on now. */
static bool must_wait(struct logins *l, struct session *s, const struct reply_to *to, const struct sasl_result *r)
{
    struct address_key key;
    if (s->exempt || s->admitted)
        return false;
    struct span name = r->next == SASL_CERTIFICATE ? r->authzid : r->user; /* empty: the client did not say */
    s->admitted = s->counted = true;
    buf_clear(&s->name);
    buf_add(&s->name, address_key(name, &key) ? span_of(key.text) : name);
    int64_t ms =
        backoff_begin(l->backoff, s->client, buf_span(&s->name), loop_now(service_loop(l->authd->service)));
    if (ms == 0)
        return false;
    if (!hold(l, s, to, r, ms))
        turn_away(s, to, r);
    return true;
}

void logins_client_forget(struct logins *l, uint64_t client)
{
    backoff_forget(l->backoff, client, loop_now(service_loop(l->authd->service)));
    kept_changed(l);
}

/* ---- the exchange ---- */

/* Where something could be guessed, or costs something, whoever failed before waits. */
static bool guesses(enum sasl_next next)
{
    return next == SASL_CREDENTIALS || next == SASL_VERIFY || next == SASL_TOKEN || next == SASL_CERTIFICATE;
}

static void act(struct logins *l, struct session *s, const struct reply_to *to, struct sasl_result *r)
{
    if (guesses(r->next) && must_wait(l, s, to, r))
        return;
    if (r->next == SASL_CREDENTIALS && !scram_credentials(l, s, r)) {
        say_later(to);
        sasl_free(&s->sasl);
        return;
    }
    switch (r->next) {
    case SASL_TOKEN:
        if (!token_check(l, s, to, r))
            return;
        break;
    case SASL_CREDENTIALS: break; /* it has become a challenge */
    case SASL_CHALLENGE: say_challenge(to, r); break;
    case SASL_VERIFY: verify(l, s, to, r); break;
    case SASL_CERTIFICATE: certified(l, s, to, r); break;
    case SASL_PROVEN: scram_proven(l, s, to, r); break;
    case SASL_REFUSED:
        if (!s->logged)
            log_failed(s, r->user, s->claim_why ? s->claim_why : r->why);
        say_no(to);
        break;
    }
    if (r->next != SASL_CHALLENGE)
        sasl_free(&s->sasl);
}

static void copy_text(char *to, size_t size, struct span s)
{
    size_t n = MIN_OF(s.n, size - 1);
    if (n)
        memcpy(to, s.p, n);
    to[n] = 0;
}

static void name_client(struct logins *l, struct session *s)
{
    struct sockaddr_storage a = {0};
    bool is_address = client_address(span_of(s->remote), &a);
    s->client = client_key(&a);
    s->exempt = !is_address || conf_networks_have(&service_conf(l->authd->service)->limits.exempt, &a);
}

void logins_begin(struct logins *l, struct chan *from, const struct msg *m)
{
    const struct msg_auth_begin *b = &m->auth_begin;
    struct reply_to to = reply_to(from, m);
    struct session *s = session_make(front_of(l, chan_peer(from), chan_instance(from)), b->session);
    struct sasl_result r;
    if (!s) {
        LOGW("too-many-sessions", KVT("front", role_name(chan_peer(from))));
        say_later(&to);
        return;
    }
    s->protocol = b->protocol;
    s->tls = b->tls;
    copy_text(s->remote, sizeof(s->remote), b->remote);
    copy_text(s->mechanism, sizeof(s->mechanism), b->mechanism);
    name_client(l, s);
    const struct scram_channel channel = {.exporter = b->exporter, .end_point = b->end_point};
    bool shown = b->tls && b->certificate.n == CERTIFICATE_FINGERPRINT;
    unsigned can = conf_mechanisms(service_conf(l->authd->service)) | (b->tls ? SASL_TLS : 0u) |
                   (shown ? SASL_EXTERNAL : 0u);
    buf_add(&s->certificate, b->certificate);
    buf_add(&s->names, b->names);
    if (sasl_offered(can, b->mechanism))
        s->sasl = sasl_begin_over(&channel, b->mechanism, b->has_initial ? &b->initial : NULL, &r);
    if (s->sasl)
        act(l, s, &to, &r);
    else /* RFC4954:4: 504 5.5.4 */
        say_result(&to, OUTCOME_FAILED, 5, 4, SPAN(""), "no such mechanism");
}

void logins_step(struct logins *l, struct chan *from, const struct msg *m)
{
    struct reply_to to = reply_to(from, m);
    struct session *s = session_find(front_of(l, chan_peer(from), chan_instance(from)), m->auth_step.session);
    struct sasl_result r;
    if (!s || !s->sasl) { /* we came back meanwhile and know nothing of its beginning */
        say_later(&to);
        return;
    }
    sasl_step(s->sasl, m->auth_step.response, &r);
    act(l, s, &to, &r);
}
