/* PLAIN (RFC 4616), LOGIN (draft-murchison-sasl-login), and SCRAM by its own engine. Trusts nothing: responses
 * come from clients not yet known.
 */
#include "auth/sasl.h"

#include "auth/password.h"
#include "base/mem.h"
#include "base/util.h"

#define SASL_BINDING_MAX 64
#define SASL_TOKEN_MAX 8192

struct mechanism;
struct sasl {
    const struct mechanism *mechanism;
    int step;
    size_t user_n, authzid_n, password_n;
    char user[SASL_NAME_MAX];
    char authzid[SASL_NAME_MAX];
    char password[PASSWORD_MAX];
    struct scram *scram;
    struct buf token;
    struct scram_channel channel;
    char exporter[SASL_BINDING_MAX], end_point[SASL_BINDING_MAX];
};

struct mechanism {
    struct span name;
    struct span first; /* the challenge when the client sent no initial response */
    void (*take)(struct sasl *s, struct span response, struct sasl_result *r);
    enum scram_hash hash; /* SCRAM's */
    bool plus;
};

static void refuse(struct sasl_result *r, const char *why)
{
    *r = (struct sasl_result){.next = SASL_REFUSED, .why = why};
}

/* Copies one field; a NUL or broken UTF-8 in it is refused with the field. */
static bool take_field(char *to, size_t *to_n, size_t max, struct span s, bool may_be_empty)
{
    if ((s.n == 0 && !may_be_empty) || s.n > max || !span_is_utf8(s) || (s.n && memchr(s.p, 0, s.n)))
        return false;
    if (s.n)
        memcpy(to, s.p, s.n);
    *to_n = s.n;
    return true;
}

static void verify(struct sasl *s, struct sasl_result *r)
{
    *r = (struct sasl_result){.next = SASL_VERIFY,
                              .user = {s->user, s->user_n},
                              .authzid = {s->authzid, s->authzid_n},
                              .password = {s->password, s->password_n}};
}

/* RFC4616:2 message = [authzid] NUL authcid NUL passwd; exactly two NULs. */
static void plain_take(struct sasl *s, struct span response, struct sasl_result *r)
{
    if (span_find(response, 0) < 0) {
        refuse(r, "PLAIN without its separators");
        return;
    }
    struct span authzid = span_cut(&response, 0);
    if (span_find(response, 0) < 0) {
        refuse(r, "PLAIN without its second separator");
        return;
    }
    struct span user = span_cut(&response, 0);
    if (!take_field(s->authzid, &s->authzid_n, sizeof(s->authzid), authzid, true) ||
        !take_field(s->user, &s->user_n, sizeof(s->user), user, false) ||
        !take_field(s->password, &s->password_n, sizeof(s->password), response, false)) {
        refuse(r, "PLAIN with a field that is empty, too long or not UTF-8");
        return;
    }
    verify(s, r);
}

static void login_take(struct sasl *s, struct span response, struct sasl_result *r)
{
    if (s->step++ == 0) {
        if (!take_field(s->user, &s->user_n, sizeof(s->user), response, false)) {
            refuse(r, "LOGIN with a name that is empty, too long or not UTF-8");
            return;
        }
        *r = (struct sasl_result){.next = SASL_CHALLENGE, .challenge = SPAN("Password:")};
        return;
    }
    if (s->step > 2 || !take_field(s->password, &s->password_n, sizeof(s->password), response, false)) {
        refuse(r, "LOGIN with a password that is empty, too long or not UTF-8");
        return;
    }
    verify(s, r);
}

/* RFC4422:A.1: the authorization identity, or nothing. */
static void external_take(struct sasl *s, struct span response, struct sasl_result *r)
{
    if (s->step++ || !take_field(s->authzid, &s->authzid_n, sizeof(s->authzid), response, true)) {
        refuse(r, "EXTERNAL with an identity that is too long or not UTF-8");
        return;
    }
    *r = (struct sasl_result){.next = SASL_CERTIFICATE, .authzid = {s->authzid, s->authzid_n}};
}

/* ---- OAUTHBEARER and XOAUTH2 ---- */

enum { TOKEN_SAID = 1, TOKEN_REFUSED };

/* RFC6750:2.1 b64token */
static bool token_good(struct span s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && (c == 0 || !strchr("-._~+/=", c)))
            return false;
    }
    return s.n > 0 && s.n <= SASL_TOKEN_MAX;
}

/* The pairs KEY=VALUE, each with ^A behind it, then one ^A more (RFC7628:3.1). Only `auth` means something here, and it
 * has to be there once. */
static bool take_pairs(struct sasl *s, struct span pairs)
{
    while (pairs.n && pairs.p[0] != 1) {
        if (span_find(pairs, 1) < 0)
            return false;
        struct span value = span_cut(&pairs, 1), key = span_cut(&value, '=');
        if (!span_eqs(key, "auth"))
            continue;
        if (s->token.n || !span_istarts(value, SPAN("Bearer ")))
            return false;
        value = span_trim(span_from(value, 7));
        if (!token_good(value))
            return false;
        buf_add(&s->token, value);
    }
    return pairs.n == 1 && s->token.n;
}

/* saslname: "=2C" and "=3D" (RFC5801:4). */
static bool take_saslname(struct sasl *s, struct span name)
{
    struct buf plain = {0};
    bool good = true;
    while (good && name.n) {
        bool coded = name.p[0] == '=';
        good = !coded || span_starts(name, SPAN("=2C")) || span_starts(name, SPAN("=3D"));
        buf_addc(&plain, !coded ? name.p[0] : good && name.p[1] == '2' ? ',' : '=');
        name = span_from(name, coded ? 3 : 1);
    }
    good = good && take_field(s->user, &s->user_n, sizeof(s->user), buf_span(&plain), false);
    buf_free(&plain);
    return good;
}

/* RFC7628:3.1: "n,a=USER," ^A pairs ^A */
static bool oauthbearer_parse(struct sasl *s, struct span response)
{
    struct span flag = span_cut(&response, ','), name = span_cut(&response, ',');
    if (!span_eqs(flag, "n") && !span_eqs(flag, "y"))
        return false;
    if (name.n && (!span_starts(name, SPAN("a=")) || !take_saslname(s, span_from(name, 2))))
        return false;
    return response.n && response.p[0] == 1 && take_pairs(s, span_from(response, 1));
}

/* "user=USER" ^A "auth=Bearer TOKEN" ^A ^A */
static bool xoauth2_parse(struct sasl *s, struct span response)
{
    if (!span_starts(response, SPAN("user=")) || span_find(response, 1) < 0)
        return false;
    struct span user = span_from(span_cut(&response, 1), 5);
    return take_field(s->user, &s->user_n, sizeof(s->user), user, false) && take_pairs(s, response);
}

static void token_take(struct sasl *s, struct span response, struct sasl_result *r,
                       bool (*parse)(struct sasl *s, struct span response))
{
    if (s->step == TOKEN_REFUSED) { /* RFC7628:3.2.3: whatever the client says to that, it is over */
        refuse(r, "the token was no good");
    } else if (s->step || !parse(s, response)) {
        refuse(r, "a response that is not well-formed");
    } else {
        s->step = TOKEN_SAID;
        *r = (struct sasl_result){
            .next = SASL_TOKEN, .user = {s->user, s->user_n}, .password = buf_span(&s->token)};
    }
    r->user = (struct span){s->user, s->user_n};
}

static void oauthbearer_take(struct sasl *s, struct span response, struct sasl_result *r)
{
    token_take(s, response, r, oauthbearer_parse);
}

static void xoauth2_take(struct sasl *s, struct span response, struct sasl_result *r)
{
    token_take(s, response, r, xoauth2_parse);
}

void sasl_token_refused(struct sasl *s, struct span answer, struct sasl_result *r)
{
    s->step = TOKEN_REFUSED;
    *r = (struct sasl_result){.next = SASL_CHALLENGE, .challenge = answer};
}

/* ---- SCRAM: first message, final message, and the empty answer to ours (RFC4422:4, RFC5802:5) ---- */

static void scram_begin(struct sasl *s, struct span response, struct sasl_result *r)
{
    s->scram = scram_new(s->mechanism->hash, s->mechanism->plus, &s->channel);
    const char *why = scram_client_first(s->scram, response);
    if (why)
        refuse(r, why);
    else
        *r = (struct sasl_result){.next = SASL_CREDENTIALS,
                                  .user = scram_user(s->scram),
                                  .authzid = scram_authzid(s->scram),
                                  .hash = s->mechanism->hash};
}

static void scram_finish(struct sasl *s, struct span response, struct sasl_result *r)
{
    struct span last;
    const char *why = scram_client_final(s->scram, response, &last);
    struct span user = scram_user(s->scram);
    if (why)
        refuse(r, why);
    else
        *r = (struct sasl_result){.next = SASL_CHALLENGE, .challenge = last};
    r->user = user;
    s->step = why ? 0 : 2; /* after a refusal there is no step left */
}

static void scram_take(struct sasl *s, struct span response, struct sasl_result *r)
{
    if (!s->scram)
        scram_begin(s, response, r);
    else if (s->step == 1)
        scram_finish(s, response, r);
    else if (s->step == 2 && response.n == 0)
        *r = (struct sasl_result){.next = SASL_PROVEN, .user = scram_user(s->scram), .by = scram_proven_by(s->scram)};
    else
        refuse(r, "SCRAM with a message too many");
}

void sasl_credentials(struct sasl *s, const struct scram_verifier *v, bool known, struct sasl_result *r)
{
    s->step = 1;
    *r = (struct sasl_result){.next = SASL_CHALLENGE, .challenge = scram_server_first(s->scram, v, known)};
}

void sasl_also(struct sasl *s, const struct scram_verifier *v, int64_t tag)
{
    scram_also(s->scram, v, tag);
}

static const struct mechanism mechanisms[] = {
    {{"SCRAM-SHA-256-PLUS", 18}, {"", 0}, scram_take, SCRAM_SHA_256, true},
    {{"SCRAM-SHA-256", 13}, {"", 0}, scram_take, SCRAM_SHA_256, false},
    {{"SCRAM-SHA-1-PLUS", 16}, {"", 0}, scram_take, SCRAM_SHA_1, true},
    {{"SCRAM-SHA-1", 11}, {"", 0}, scram_take, SCRAM_SHA_1, false},
    {.name = {"EXTERNAL", 8}, .first = {"", 0}, .take = external_take},
    {.name = {"OAUTHBEARER", 11}, .first = {"", 0}, .take = oauthbearer_take},
    {.name = {"XOAUTH2", 7}, .first = {"", 0}, .take = xoauth2_take},
    {.name = {"PLAIN", 5}, .first = {"", 0}, .take = plain_take},
    {.name = {"LOGIN", 5}, .first = {"Username:", 9}, .take = login_take},
};

static const struct mechanism *mechanism_find(struct span name)
{
    for (size_t i = 0; i < COUNT_OF(mechanisms); i++)
        if (span_ieq(name, mechanisms[i].name))
            return &mechanisms[i];
    return NULL;
}

bool sasl_known(struct span name)
{
    return mechanism_find(name) != NULL;
}

struct sasl *sasl_begin(struct span name, const struct span *initial, struct sasl_result *r)
{
    return sasl_begin_over(&(struct scram_channel){.nonce = SPAN_NONE}, name, initial, r);
}

static struct span keep(char *to, struct span bytes)
{
    if (bytes.n > SASL_BINDING_MAX)
        return SPAN_NONE;
    if (bytes.n)
        memcpy(to, bytes.p, bytes.n);
    return (struct span){to, bytes.n};
}

struct sasl *sasl_begin_over(const struct scram_channel *channel, struct span name, const struct span *initial,
                             struct sasl_result *r)
{
    const struct mechanism *m = mechanism_find(name);
    if (!m)
        return NULL;
    struct sasl *s = mem_alloc(sizeof(*s));
    s->mechanism = m;
    s->channel = (struct scram_channel){.exporter = keep(s->exporter, channel->exporter),
                                        .end_point = keep(s->end_point, channel->end_point),
                                        .nonce = channel->nonce};
    if (initial)
        m->take(s, *initial, r);
    else
        *r = (struct sasl_result){.next = SASL_CHALLENGE, .challenge = m->first};
    return s;
}

void sasl_step(struct sasl *s, struct span response, struct sasl_result *r)
{
    s->mechanism->take(s, response, r);
}

void sasl_free(struct sasl **s)
{
    if (*s) {
        scram_free(&(*s)->scram);
        password_wipe((*s)->token.p, (*s)->token.n);
        buf_free(&(*s)->token);
        password_wipe(*s, sizeof(**s));
    }
    mem_free(s);
}
