/* auth/token: JSON Web Tokens (RFC7515:2, RFC7515:4.1.11, RFC7518:3.3, RFC7518:3.4, RFC7519:4.1.3, RFC7519:4.1.4,
 * RFC7519:4.1.5) and what RFC8725:2.1 warns of; the keys and signatures are made here. */
#include <criterion/criterion.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>

#include "auth/sasl.h"
#include "auth/token.h"
#include "base/base64.h"

#define NOW 1800000000
#define GOOD "\"iss\":\"https://issuer.test\",\"aud\":\"mail\",\"exp\":1800000100"
#define WHO ",\"email\":\"alice@example.test\""

static EVP_PKEY *ec, *rsa, *other;
static char *pem;
static size_t pem_n;
static struct token_keys *keys;
static struct token_rules rules;
static char who[TOKEN_NAME_MAX + 1];
static struct err err;

static void set_up(void)
{
    BIO *b = BIO_new(BIO_s_mem());
    char *p;
    ec = EVP_EC_gen("P-256");
    other = EVP_EC_gen("P-256");
    rsa = EVP_RSA_gen(2048);
    PEM_write_bio_PUBKEY(b, ec);
    PEM_write_bio_PUBKEY(b, rsa);
    pem_n = (size_t)BIO_get_mem_data(b, &p);
    pem = strndup(p, pem_n);
    BIO_free(b);
    keys = token_keys_read(span_make(pem, pem_n), &err);
    cr_assert_not_null(keys, "%s", err.text);
    rules = (struct token_rules){"https://issuer.test", "mail", "email", "", 10};
}

static void tear_down(void)
{
    token_keys_free(&keys);
    EVP_PKEY_free(ec);
    EVP_PKEY_free(rsa);
    EVP_PKEY_free(other);
    free(pem);
}

TestSuite(token, .init = set_up, .fini = tear_down, .timeout = 60);

static void url64(struct span raw, struct buf *out)
{
    struct buf plain = {0};
    base64_encode(raw, &plain);
    for (size_t i = 0; i < plain.n && plain.p[i] != '='; i++)
        buf_addc(out, plain.p[i] == '+' ? '-' : plain.p[i] == '/' ? '_' : plain.p[i]);
    buf_free(&plain);
}

/* The signature as JWS wants it: for ES256 R and S side by side. */
static void sign(EVP_PKEY *key, struct buf *token)
{
    unsigned char sig[512], raw[64] = {0};
    size_t n = sizeof sig;
    EVP_MD_CTX *m = EVP_MD_CTX_new();
    cr_assert(EVP_DigestSignInit(m, NULL, EVP_sha256(), NULL, key) == 1 &&
              EVP_DigestSign(m, sig, &n, (unsigned char *)token->p, token->n) == 1);
    EVP_MD_CTX_free(m);
    buf_addc(token, '.');
    if (EVP_PKEY_is_a(key, "RSA")) {
        url64(span_make(sig, n), token);
        return;
    }
    const unsigned char *p = sig;
    ECDSA_SIG *s = d2i_ECDSA_SIG(NULL, &p, (long)n);
    BN_bn2binpad(ECDSA_SIG_get0_r(s), raw, 32);
    BN_bn2binpad(ECDSA_SIG_get0_s(s), raw + 32, 32);
    ECDSA_SIG_free(s);
    url64(span_make(raw, 64), token);
}

static void unsigned_token(const char *header, const char *claims, struct buf *token)
{
    buf_clear(token);
    url64(span_of(header), token);
    buf_addc(token, '.');
    url64(span_of(claims), token);
}

static const char *judge(EVP_PKEY *key, const char *header, const char *claims)
{
    struct buf token = {0};
    unsigned_token(header, claims, &token);
    sign(key, &token);
    who[0] = 0;
    const char *why = token_judge(buf_span(&token), keys, &rules, NOW, who);
    buf_free(&token);
    return why;
}

#define ES "{\"alg\":\"ES256\",\"typ\":\"JWT\",\"kid\":\"x\"}"
#define RS "{\"alg\":\"RS256\"}"

Test(token, good_ones)
{
    cr_expect_null(judge(ec, ES, "{" GOOD WHO "}"));
    cr_expect_str_eq(who, "alice@example.test");
    cr_expect_null(judge(rsa, RS, "{" GOOD WHO "}"));
    cr_expect_null(judge(ec, ES, "{\"iss\":\"https://issuer.test\",\"aud\":[\"web\",\"mail\"],\"exp\":1800000100.5" WHO "}"));
    cr_expect_null(judge(ec, ES, "{" GOOD ",\"nbf\":1800000005,\"email_verified\":true" WHO "}"), "within the leeway");
    rules.claim = "sub";
    cr_expect_null(judge(ec, ES, "{" GOOD WHO ",\"sub\":\"bob@example.test\"}"));
    cr_expect_str_eq(who, "bob@example.test");
    rules.scope = "mail";
    cr_expect_null(judge(ec, ES, "{" GOOD ",\"scope\":\"openid mail\",\"sub\":\"b@c\"}"));
}

Test(token, claims_that_do_not_fit)
{
    static const char *const bad[] = {
        "{}", "[]", "1", "", "{" GOOD WHO, "{" GOOD WHO "} x",
        "{\"aud\":\"mail\",\"exp\":1800000100" WHO "}",
        "{\"iss\":\"https://issuer.test/\",\"aud\":\"mail\",\"exp\":1800000100" WHO "}",
        "{\"iss\":[\"https://issuer.test\"],\"aud\":\"mail\",\"exp\":1800000100" WHO "}",
        "{\"iss\":\"https://issuer.test\",\"exp\":1800000100" WHO "}",
        "{\"iss\":\"https://issuer.test\",\"aud\":\"mails\",\"exp\":1800000100" WHO "}",
        "{\"iss\":\"https://issuer.test\",\"aud\":[],\"exp\":1800000100" WHO "}",
        "{\"iss\":\"https://issuer.test\",\"aud\":\"mail\"" WHO "}",
        "{\"iss\":\"https://issuer.test\",\"aud\":\"mail\",\"exp\":\"1800000100\"" WHO "}",
        "{\"iss\":\"https://issuer.test\",\"aud\":\"mail\",\"exp\":1799999990" WHO "}",
        "{" GOOD ",\"exp\":1900000000" WHO "}", /* twice */
        "{" GOOD ",\"nbf\":1800000011" WHO "}", "{" GOOD ",\"nbf\":\"1\"" WHO "}",
        "{" GOOD "}", "{" GOOD ",\"email\":1}", "{" GOOD ",\"email\":\"\"}", "{" GOOD ",\"email\":[\"alice@example.test\"]}",
        "{" GOOD ",\"email_verified\":false" WHO "}",
        "{" GOOD ",\"email\":\"a\\u0000@b\"}",
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        cr_expect_not_null(judge(ec, ES, bad[i]), "%s", bad[i]);
    rules.scope = "mail"; /* RFC6749:3.3: a word of them */
    cr_expect_not_null(judge(ec, ES, "{" GOOD ",\"scope\":\"openid mails\"" WHO "}"));
    cr_expect_not_null(judge(ec, ES, "{" GOOD WHO "}"));
}

Test(token, headers_and_signatures_that_are_none)
{
    static const char *const headers[] = {"{}", "{\"alg\":\"none\"}", "{\"alg\":\"HS256\"}", "{\"alg\":\"es256\"}",
                                          "{\"alg\":\"ES384\"}", "{\"alg\":\"PS256\"}", RS, "{\"alg\":[\"ES256\"]}",
                                          "{\"alg\":\"ES256\",\"crit\":[\"exp\"],\"exp\":1}", "[]",
                                          "{\"alg\":\"none\",\"alg\":\"ES256\"}"};
    struct buf t = {0};
    for (size_t i = 0; i < COUNT_OF(headers); i++)
        cr_expect_not_null(judge(ec, headers[i], "{" GOOD WHO "}"), "%s", headers[i]);
    cr_expect_not_null(judge(other, ES, "{" GOOD WHO "}"), "another's key");
    cr_expect_not_null(judge(rsa, ES, "{" GOOD WHO "}"), "the algorithm is not the key's");
    /* RFC8725:2.1, RFC8725:3.1: the public key as the secret of a MAC, and no signature at all */
    unsigned char mac[32];
    unsigned n;
    unsigned_token("{\"alg\":\"HS256\"}", "{" GOOD WHO "}", &t);
    HMAC(EVP_sha256(), pem, (int)pem_n, (unsigned char *)t.p, t.n, mac, &n);
    buf_addc(&t, '.');
    url64(span_make(mac, n), &t);
    cr_expect_not_null(token_judge(buf_span(&t), keys, &rules, NOW, who));
    unsigned_token("{\"alg\":\"none\"}", "{" GOOD WHO "}", &t);
    cr_expect_not_null(token_judge(buf_span(&t), keys, &rules, NOW, who));
    buf_addc(&t, '.');
    cr_expect_not_null(token_judge(buf_span(&t), keys, &rules, NOW, who));
    buf_free(&t);
}

/* Every bit of it is signed, or has one spelling. */
Test(token, nothing_of_it_can_be_changed)
{
    struct buf t = {0};
    unsigned_token(ES, "{" GOOD WHO "}", &t);
    sign(ec, &t);
    cr_assert_null(token_judge(buf_span(&t), keys, &rules, NOW, who));
    for (size_t i = 0; i < t.n; i++) {
        char was = t.p[i];
        t.p[i] = was == 'A' ? 'B' : 'A';
        cr_expect_not_null(token_judge(buf_span(&t), keys, &rules, NOW, who), "at %zu", i);
        t.p[i] = was;
        cr_expect_not_null(token_judge(span_make(t.p, i), keys, &rules, NOW, who), "cut at %zu", i);
    }
    static const char *const tails[] = {"=", "==", ".", "A", "\n", " ", ".x"};
    for (size_t i = 0; i < COUNT_OF(tails); i++) {
        size_t n = t.n;
        buf_adds(&t, tails[i]);
        cr_expect_not_null(token_judge(buf_span(&t), keys, &rules, NOW, who), "%s behind it", tails[i]);
        t.n = n;
    }
    while (t.n <= TOKEN_MAX)
        buf_addc(&t, 'A');
    cr_expect_not_null(token_judge(buf_span(&t), keys, &rules, NOW, who), "too long");
    buf_free(&t);
}

Test(token, files_of_keys)
{
    cr_expect_null(token_keys_read(SPAN(""), &err));
    cr_expect_null(token_keys_read(SPAN("hello"), &err));
    cr_expect_null(token_keys_read(span_make(pem, pem_n / 2), &err), "cut");
    BIO *b = BIO_new(BIO_s_mem());
    EVP_PKEY *weak = EVP_RSA_gen(1024);
    char *p;
    PEM_write_bio_PUBKEY(b, weak);
    long n = BIO_get_mem_data(b, &p);
    cr_expect_null(token_keys_read(span_make(p, (size_t)n), &err), "1024 bits");
    EVP_PKEY_free(weak);
    BIO_free(b);
}

/* ---- the exchange around it: RFC7628:3.1 ---- */

static enum sasl_next begin(const char *mechanism, struct span response, struct sasl **s, struct sasl_result *r)
{
    *s = sasl_begin(span_of(mechanism), &response, r);
    return r->next;
}

/* RFC6750:2.1, RFC7628:3.1, RFC7628:3.2.2, RFC7628:3.2.3 (whatever is said to the refusal, it is over), RFC5801:4 */
Test(token, sasl_well_formed)
{
    struct sasl *s;
    struct sasl_result r;
    cr_assert_eq(begin("OAUTHBEARER", SPAN("n,a=a=2Cb=3D@x.test,\1host=mail\1port=143\1auth=Bearer vF9.a-_~+/==\1\1"), &s, &r), SASL_TOKEN);
    cr_assert(span_eqs(r.user, "a,b=@x.test") && span_eqs(r.password, "vF9.a-_~+/=="));
    sasl_token_refused(s, SPAN("{}"), &r);
    cr_assert(r.next == SASL_CHALLENGE && span_eqs(r.challenge, "{}"));
    sasl_step(s, SPAN("\1"), &r);
    cr_assert(r.next == SASL_REFUSED && span_eqs(r.user, "a,b=@x.test"));
    sasl_free(&s);
    cr_assert_eq(begin("OAUTHBEARER", SPAN("n,,\1auth=bearer  x\1\1"), &s, &r), SASL_TOKEN);
    cr_assert(r.user.n == 0 && span_eqs(r.password, "x"));
    sasl_step(s, SPAN("n,,\1auth=Bearer y\1\1"), &r);
    cr_assert_eq(r.next, SASL_REFUSED, "once is all");
    sasl_free(&s);
    cr_assert_eq(begin("XOAUTH2", SPAN("user=a@x.test\1auth=Bearer x\1\1"), &s, &r), SASL_TOKEN);
    cr_assert(span_eqs(r.user, "a@x.test") && span_eqs(r.password, "x"));
    sasl_free(&s);
    s = sasl_begin(SPAN("OAUTHBEARER"), NULL, &r);
    cr_assert(r.next == SASL_CHALLENGE && r.challenge.n == 0);
    sasl_step(s, SPAN("n,,\1auth=Bearer x\1\1"), &r);
    cr_assert_eq(r.next, SASL_TOKEN);
    sasl_free(&s);
}

Test(token, sasl_broken)
{
    static const struct {
        const char *mechanism;
        struct span response;
    } bad[] = {
#define O(text) {"OAUTHBEARER", SPAN(text)}
#define X(text) {"XOAUTH2", SPAN(text)}
        O(""), O("\1"), O("n,,"), O("n,,\1"), O("n,,\1\1"), O("n,,auth=Bearer x\1\1"), O("n,,\1auth=Bearer x\1"),
        O("n,,\1auth=Bearer x\1\1\1"), O("n,,\1auth=Bearer x\1\1a"), O("n,,\1auth=Bearer x"), O("n,,\1auth=Basic x\1\1"),
        O("n,,\1auth=Bearer \1\1"), O("n,,\1auth=Bearer x y\1\1"), O("n,,\1auth=Bearer x\1auth=Bearer y\1\1"),
        O("p=tls-exporter,,\1auth=Bearer x\1\1"), O("n,b=x,\1auth=Bearer x\1\1"), O("n,a=,\1auth=Bearer x\1\1"),
        O("n,a=x=2,\1auth=Bearer x\1\1"), O("n,a=x\0y,\1auth=Bearer x\1\1"), O("n,a=\xff,\1auth=Bearer x\1\1"),
        O("n,,\1auth=Bearer x\0y\1\1"), O("n,,\1Auth=Bearer x\1\1"),
        X(""), X("user=a"), X("user=\1auth=Bearer x\1\1"), X("user=a\1\1"), X("auth=Bearer x\1\1"),
        X("user=a\1auth=Bearer x\1"), X("n,a=a,\1auth=Bearer x\1\1"), X("user=a\0b\1auth=Bearer x\1\1"),
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct sasl *s;
        struct sasl_result r;
        cr_expect_eq(begin(bad[i].mechanism, bad[i].response, &s, &r), SASL_REFUSED, "case %zu", i);
        sasl_free(&s);
    }
}
