/* See token.h. Trusts nothing: tokens come from clients not yet known. What verifies a signature is chosen by the key,
 * never by the token alone: an algorithm that is not the key's own is refused, so "none" and a MAC made with a public
 * key are no signatures (RFC8725:2.1, RFC8725:3.1). */
#include "auth/token.h"

#include <jansson.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "auth/claims.h"
#include "base/base64.h"
#include "base/mem.h"

#define ES256_HALF 32 /* RFC7518:3.4: R and S, each as long as the curve's order */

struct token_keys {
    EVP_PKEY *list[TOKEN_KEYS_MAX];
    size_t n;
};

/* ---- keys ---- */

static bool key_is_rsa(EVP_PKEY *k)
{
    return EVP_PKEY_is_a(k, "RSA") && EVP_PKEY_get_bits(k) >= 2048; /* RFC7518:3.3 */
}

static bool key_is_p256(EVP_PKEY *k)
{
    char curve[32] = "";
    size_t n;
    return EVP_PKEY_is_a(k, "EC") && EVP_PKEY_get_group_name(k, curve, sizeof curve, &n) == 1 &&
           strcmp(curve, "prime256v1") == 0;
}

/* The next block of the file: 1, 0 at its end, -1 when it is no public key. */
static int next_key(BIO *b, EVP_PKEY **key)
{
    char *name = NULL, *header = NULL;
    unsigned char *der = NULL;
    long n;
    *key = NULL;
    ERR_clear_error();
    if (PEM_read_bio(b, &name, &header, &der, &n) != 1) {
        bool end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
        ERR_clear_error();
        return end ? 0 : -1;
    }
    const unsigned char *p = der;
    if (strcmp(name, PEM_STRING_PUBLIC) == 0)
        *key = d2i_PUBKEY(NULL, &p, n);
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_free(der);
    ERR_clear_error();
    return *key ? 1 : -1;
}

struct token_keys *token_keys_read(struct span pem, struct err *err)
{
    struct token_keys *keys = mem_alloc(sizeof *keys);
    BIO *b = BIO_new_mem_buf(pem.p ? pem.p : "", (int)pem.n);
    EVP_PKEY *k;
    int got;
    if (!b)
        abort(); /* out of memory */
    while ((got = next_key(b, &k)) > 0) {
        if (keys->n < TOKEN_KEYS_MAX && (key_is_rsa(k) || key_is_p256(k))) {
            keys->list[keys->n++] = k;
            continue;
        }
        EVP_PKEY_free(k);
        err_set(err, "key %zu is neither RSA of 2048 bits or more nor P-256, or one of more than %d", keys->n + 1,
                TOKEN_KEYS_MAX);
        break;
    }
    BIO_free(b);
    if (got == 0 && keys->n)
        return keys;
    if (got <= 0)
        err_set(err, got ? "key %zu can't be read as a public one" : "no public key in it (a PEM file has BEGIN PUBLIC KEY)",
                keys->n + 1);
    token_keys_free(&keys);
    return NULL;
}

void token_keys_free(struct token_keys **kp)
{
    for (size_t i = 0; *kp && i < (*kp)->n; i++)
        EVP_PKEY_free((*kp)->list[i]);
    mem_free(kp);
}

/* ---- base64url without padding, one spelling for each value (RFC7515:2) ---- */

static bool url_decode(struct span text, struct buf *out)
{
    struct buf plain = {0};
    bool good = text.n > 0 && text.n % 4 != 1;
    for (size_t i = 0; good && i < text.n; i++) {
        char c = text.p[i];
        good = c != '+' && c != '/' && c != '=';
        buf_addc(&plain, c == '-' ? '+' : c == '_' ? '/' : c);
    }
    for (size_t i = text.n; good && i % 4; i++)
        buf_addc(&plain, '=');
    good = good && base64_decode(buf_span(&plain), out) == 0;
    buf_free(&plain);
    return good;
}

static json_t *url_json(struct span text)
{
    struct buf raw = {0};
    json_t *j = url_decode(text, &raw) ? json_loadb(raw.p, raw.n, JSON_REJECT_DUPLICATES, NULL) : NULL;
    buf_free(&raw);
    if (!json_is_object(j)) {
        json_decref(j);
        return NULL;
    }
    return j;
}

/* ---- the signature ---- */

/* The library wants R and S as DER. */
static bool es256_der(struct span raw, struct buf *der)
{
    unsigned char *p = NULL;
    ECDSA_SIG *sig = raw.n == 2 * ES256_HALF ? ECDSA_SIG_new() : NULL;
    if (!sig)
        return false;
    BIGNUM *r = BN_bin2bn((const unsigned char *)raw.p, ES256_HALF, NULL);
    BIGNUM *s = BN_bin2bn((const unsigned char *)raw.p + ES256_HALF, ES256_HALF, NULL);
    if (!r || !s || ECDSA_SIG_set0(sig, r, s) != 1)
        abort(); /* out of memory */
    int n = i2d_ECDSA_SIG(sig, &p);
    if (n > 0)
        buf_add(der, span_make(p, (size_t)n));
    OPENSSL_free(p);
    ECDSA_SIG_free(sig);
    return n > 0;
}

static bool verified(EVP_PKEY *key, struct span said, struct span signature)
{
    EVP_MD_CTX *m = EVP_MD_CTX_new();
    if (!m)
        abort();
    bool good = EVP_DigestVerifyInit(m, NULL, EVP_sha256(), NULL, key) == 1 &&
                EVP_DigestVerify(m, (const unsigned char *)signature.p, signature.n, (const unsigned char *)said.p,
                                 said.n) == 1;
    EVP_MD_CTX_free(m);
    ERR_clear_error();
    return good;
}

static const char *check_signature(const struct token_keys *keys, json_t *header, struct span said, struct span text)
{
    struct buf raw = {0}, der = {0};
    const char *alg = json_string_value(json_object_get(header, "alg"));
    bool rs256 = alg && strcmp(alg, "RS256") == 0, es256 = alg && strcmp(alg, "ES256") == 0, good = false;
    if (json_object_get(header, "crit")) /* RFC7515:4.1.11: extensions that we don't know */
        return "the token's header has something critical";
    if (!rs256 && !es256)
        return "the token is not signed with RS256 or ES256";
    if (url_decode(text, &raw) && (rs256 || es256_der(buf_span(&raw), &der)))
        for (size_t i = 0; !good && i < keys->n; i++)
            if (rs256 ? key_is_rsa(keys->list[i]) : key_is_p256(keys->list[i]))
                good = verified(keys->list[i], said, buf_span(rs256 ? &raw : &der));
    buf_free(&raw);
    buf_free(&der);
    return good ? NULL : "the token's signature is of no key we know";
}

/* ---- the claims ---- */

bool claim_is(json_t *j, const char *text)
{
    return json_is_string(j) && json_string_length(j) == strlen(text) && strcmp(json_string_value(j), text) == 0;
}

/* RFC7519:4.1.3: one, or several. */
bool claim_names(json_t *aud, const char *ours)
{
    size_t i;
    json_t *one;
    if (claim_is(aud, ours))
        return true;
    json_array_foreach(aud, i, one) if (claim_is(one, ours)) return true;
    return false;
}

bool claim_has_scope(json_t *scope, const char *wanted)
{
    struct span all = json_is_string(scope) ? span_of(json_string_value(scope)) : SPAN_NONE;
    while (all.n)
        if (span_eqs(span_word(&all), wanted))
            return true;
    return false;
}

/* RFC7519:4.1.4, RFC7519:4.1.5 */
static const char *check_times(json_t *claims, const struct token_rules *r, int64_t now)
{
    json_t *exp = json_object_get(claims, "exp"), *nbf = json_object_get(claims, "nbf");
    if (!json_is_number(exp))
        return "the token never expires";
    if (json_number_value(exp) + (double)r->leeway <= (double)now)
        return "the token has expired";
    if (nbf && (!json_is_number(nbf) || json_number_value(nbf) - (double)r->leeway > (double)now))
        return "the token is not valid yet";
    return NULL;
}

bool claim_text(json_t *claims, const char *claim, char *out)
{
    json_t *who = json_object_get(claims, claim);
    size_t n = json_string_length(who);
    if (!json_is_string(who) || n == 0 || n > TOKEN_NAME_MAX || strlen(json_string_value(who)) != n)
        return false;
    memcpy(out, json_string_value(who), n + 1);
    return true;
}

bool claim_unverified(json_t *claims, const char *claim)
{
    json_t *said = json_object_get(claims, "email_verified");
    return strcmp(claim, "email") == 0 && (json_is_false(said) || claim_is(said, "false"));
}

static const char *take_account(json_t *claims, const char *claim, char *account)
{
    if (!claim_text(claims, claim, account))
        return "the token names no account";
    return claim_unverified(claims, claim) ? "the token's address was not verified by its issuer" : NULL;
}

static const char *check_claims(json_t *claims, const struct token_rules *r, int64_t now, char *account)
{
    if (!claim_is(json_object_get(claims, "iss"), r->issuer))
        return "the token is of another issuer";
    if (!claim_names(json_object_get(claims, "aud"), r->audience))
        return "the token is for another audience";
    const char *why = check_times(claims, r, now);
    if (!why && *r->scope && !claim_has_scope(json_object_get(claims, "scope"), r->scope))
        why = "the token lacks the scope";
    return why ? why : take_account(claims, r->claim, account);
}

const char *token_judge(struct span token, const struct token_keys *keys, const struct token_rules *rules, int64_t now,
                        char *account)
{
    bool ours;
    return token_judge_ours(token, keys, rules, now, account, &ours);
}

const char *token_judge_ours(struct span token, const struct token_keys *keys, const struct token_rules *rules,
                             int64_t now, char *account, bool *ours)
{
    *ours = false;
    struct span rest = token, header = span_cut(&rest, '.'), claims = span_cut(&rest, '.');
    if (token.n > TOKEN_MAX || !header.n || !claims.n || !rest.n || span_find(rest, '.') >= 0)
        return "not a signed JSON Web Token";
    json_t *h = url_json(header);
    const char *why = h ? check_signature(keys, h, span_sub(token, 0, header.n + 1 + claims.n), rest)
                        : "the token's header can't be read";
    json_decref(h);
    if (why)
        return why;
    *ours = true;
    json_t *c = url_json(claims);
    why = c ? check_claims(c, rules, now, account) : "the token's claims can't be read";
    json_decref(c);
    return why;
}
