/* Any bytes as what brings a token or speaks of one: a SASL response of OAUTHBEARER and XOAUTH2, a token, the claims of a
 * token that is well signed, an introspection endpoint's answer, its address. No crash, and nothing is good that names
 * no account. */
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdlib.h>

#include "auth/introspect.h"
#include "auth/sasl.h"
#include "base/base64.h"
#include "base/url.h"

#define NOW INT64_C(1800000000)

static const struct token_rules rules = {
    .issuer = "https://issuer.test", .audience = "mail", .claim = "email", .scope = "mail", .leeway = 60};
static EVP_PKEY *key;
static struct token_keys *keys;

static void must(bool good)
{
    if (!good)
        abort();
}

static void make_keys(void)
{
    struct err err;
    char *text;
    BIO *b = BIO_new(BIO_s_mem());
    key = EVP_EC_gen("P-256");
    must(b && key && PEM_write_bio_PUBKEY(b, key) == 1);
    long n = BIO_get_mem_data(b, &text);
    keys = token_keys_read(span_make(text, (size_t)n), &err);
    BIO_free(b);
    must(keys != NULL);
}

static void url64(struct span raw, struct buf *out)
{
    struct buf plain = {0};
    base64_encode(raw, &plain);
    for (size_t i = 0; i < plain.n && plain.p[i] != '='; i++)
        buf_addc(out, plain.p[i] == '+' ? '-' : plain.p[i] == '/' ? '_' : plain.p[i]);
    buf_free(&plain);
}

static void sign(struct buf *token)
{
    unsigned char der[128], raw[64];
    const unsigned char *p = der;
    size_t n = sizeof der;
    EVP_MD_CTX *m = EVP_MD_CTX_new();
    must(m && EVP_DigestSignInit(m, NULL, EVP_sha256(), NULL, key) == 1 &&
         EVP_DigestSign(m, der, &n, (unsigned char *)token->p, token->n) == 1);
    EVP_MD_CTX_free(m);
    ECDSA_SIG *s = d2i_ECDSA_SIG(NULL, &p, (long)n);
    must(s != NULL);
    BN_bn2binpad(ECDSA_SIG_get0_r(s), raw, 32);
    BN_bn2binpad(ECDSA_SIG_get0_s(s), raw + 32, 32);
    ECDSA_SIG_free(s);
    buf_addc(token, '.');
    url64(span_make(raw, sizeof raw), token);
}

static void judge(struct span token, bool signed_by_us)
{
    char account[TOKEN_NAME_MAX + 1] = "";
    bool ours;
    const char *why = token_judge_ours(token, keys, &rules, NOW, account, &ours);
    must(why || (ours && signed_by_us && account[0]));
}

static void try_claims(struct span claims)
{
    struct buf token = {0};
    if (claims.n > 4096)
        return;
    url64(SPAN("{\"alg\":\"ES256\"}"), &token);
    buf_addc(&token, '.');
    url64(claims, &token);
    sign(&token);
    judge(buf_span(&token), true);
    buf_free(&token);
}

static void try_answer(struct span json)
{
    struct introspection i;
    if (introspect_read(json, &rules, NOW, &i) && !introspect_refusal(&i, rules.leeway, NOW))
        must(i.active && i.account[0] && i.issuer && i.audience && i.scope);
}

static void try_sasl(struct span text)
{
    static const char *const mechanisms[] = {"OAUTHBEARER", "XOAUTH2"};
    for (size_t i = 0; i < COUNT_OF(mechanisms); i++) {
        struct sasl_result r;
        struct sasl *s = sasl_begin(span_of(mechanisms[i]), &text, &r);
        must(r.next == SASL_TOKEN || r.next == SASL_REFUSED);
        if (r.next == SASL_TOKEN) {
            must(r.password.n > 0);
            sasl_token_refused(s, SPAN("{}"), &r);
            sasl_step(s, text, &r);
            must(r.next == SASL_REFUSED);
        }
        sasl_free(&s);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span text = span_make(data, size);
    struct url u;
    if (!keys)
        make_keys();
    judge(text, false);
    try_claims(text);
    try_answer(text);
    try_sasl(text);
    must(!url_parse(text, &u) || (u.port && u.host.n));
    return 0;
}
