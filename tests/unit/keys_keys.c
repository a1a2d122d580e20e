/* What keyd signs, and for whom. */
#include <criterion/criterion.h>
#include <openssl/ec.h>
#include <openssl/rsa.h>
#include <string.h>

#include "base/buf.h"
#include "keys/keys.h"
#include "net/pem.h"
#include "net_support.h"

static EVP_PKEY *rsa, *p256, *p384;

static void setup(void)
{
    rsa = EVP_RSA_gen(2048);
    p256 = EVP_EC_gen("P-256");
    p384 = EVP_EC_gen("P-384");
}

static void teardown(void)
{
    EVP_PKEY_free(rsa);
    EVP_PKEY_free(p256);
    EVP_PKEY_free(p384);
}

static struct buf verify13(const char *context, size_t hash)
{
    struct buf b = {0};
    for (int i = 0; i < 64; i++)
        buf_add(&b, SPAN(" "));
    buf_add(&b, span_make(context, strlen(context) + 1));
    for (size_t i = 0; i < hash; i++)
        buf_add(&b, SPAN("h"));
    return b;
}

static struct buf exchange12(size_t point)
{
    struct buf b = {0};
    for (int i = 0; i < 64; i++)
        buf_add(&b, SPAN(" "));
    const char params[] = {3, 0, 23, (char)point};
    buf_add(&b, span_make(params, sizeof params));
    for (size_t i = 0; i < point; i++)
        buf_add(&b, SPAN("p"));
    return b;
}

#define SERVER "TLS 1.3, server CertificateVerify"

static bool allowed(EVP_PKEY *key, uint16_t scheme, struct buf b)
{
    bool yes = keys_refusal(key, scheme, buf_span(&b)) == NULL;
    buf_free(&b);
    return yes;
}

/* RFC8446:4.4.3 RFC8446:4.2.3 */
Test(keys, certificate_verify_of_a_server, .init = setup, .fini = teardown)
{
    cr_assert(allowed(rsa, 0x0804, verify13(SERVER, 32)) && allowed(rsa, 0x0805, verify13(SERVER, 48)));
    cr_assert(allowed(rsa, 0x0806, verify13(SERVER, 48)) && allowed(p256, 0x0403, verify13(SERVER, 32)));
    cr_assert(allowed(p384, 0x0503, verify13(SERVER, 48)));
    cr_assert_not(allowed(p384, 0x0403, verify13(SERVER, 32)), "bound to its curve");
    cr_assert_not(allowed(rsa, 0x0401, verify13(SERVER, 32)), "PKCS #1 v1.5 is over");
    cr_assert_not(allowed(rsa, 0x0403, verify13(SERVER, 32)), "another kind of key");
    cr_assert_not(allowed(p256, 0x0804, verify13(SERVER, 32)));
    cr_assert_not(allowed(rsa, 0x0201, verify13(SERVER, 32)), "SHA-1");
    cr_assert_not(allowed(rsa, 0x0807, verify13(SERVER, 32)));
}

/* Whoever took over a front gets nothing else signed with the certificate's key. */
Test(keys, foreign_content_is_refused, .init = setup, .fini = teardown)
{
    struct buf raw = {0}, spoiled = verify13(SERVER, 32), cut = verify13(SERVER, 32), text = {0};
    buf_add(&raw, SPAN("0123456789abcdef0123456789abcdef"));
    cr_assert_not(allowed(p256, 0x0403, raw), "a raw digest");
    cr_assert_not(allowed(p256, 0x0403, (struct buf){0}));
    cr_assert_not(allowed(p256, 0x0403, verify13("TLS 1.3, client CertificateVerify", 32)));
    cr_assert_not(allowed(p256, 0x0403, verify13("TLS 1.3, server certificateVerify", 32)));
    cr_assert_not(allowed(p256, 0x0403, verify13(SERVER, 33)));
    cr_assert_not(allowed(p256, 0x0403, verify13(SERVER, 0)));
    spoiled.p[63] = 'x';
    cr_assert_not(allowed(p256, 0x0403, spoiled));
    buf_drop(&cut, 1);
    cr_assert_not(allowed(p256, 0x0403, cut));
    buf_add(&text, SPAN("dkim-signature:v=1; a=rsa-sha256; d=example.test; s=x; h=from; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b="));
    cr_assert_not(allowed(rsa, 0x0401, text));
}

/* RFC8422:5.4 */
Test(keys, key_exchange_of_a_server, .init = setup, .fini = teardown)
{
    struct buf explicit_curve = exchange12(65), longer = exchange12(65), shorter = exchange12(65);
    cr_assert(allowed(rsa, 0x0401, exchange12(65)) && allowed(rsa, 0x0804, exchange12(32)));
    cr_assert(allowed(p256, 0x0403, exchange12(97)) && allowed(p384, 0x0403, exchange12(32)));
    cr_assert_not(allowed(p256, 0x0401, exchange12(65)));
    cr_assert_not(allowed(rsa, 0x0401, exchange12(0)));
    cr_assert_not(allowed(rsa, 0x0401, exchange12(134)));
    explicit_curve.p[64] = 1;
    cr_assert_not(allowed(rsa, 0x0401, explicit_curve));
    buf_add(&longer, SPAN("x"));
    cr_assert_not(allowed(rsa, 0x0401, longer));
    shorter.n--;
    cr_assert_not(allowed(rsa, 0x0401, shorter));
}

static bool verifies(EVP_PKEY *key, const char *digest, bool pss, struct span content, const uint8_t *sig, size_t n)
{
    EVP_PKEY_CTX *p;
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    bool good = EVP_DigestVerifyInit_ex(c, &p, digest, NULL, NULL, key, NULL) == 1 &&
                (!pss || EVP_PKEY_CTX_ctrl_str(p, "rsa_padding_mode", "pss") == 1) &&
                (!pss || EVP_PKEY_CTX_ctrl_str(p, "rsa_pss_saltlen", "digest") == 1) &&
                EVP_DigestVerify(c, sig, n, (const unsigned char *)content.p, content.n) == 1;
    EVP_MD_CTX_free(c);
    return good;
}

Test(keys, signatures_verify, .init = setup, .fini = teardown)
{
    uint8_t out[SIGNER_SIGNATURE_MAX];
    struct span what = SPAN("what is to be signed");
    cr_assert(verifies(rsa, "SHA256", true, what, out, keys_sign(rsa, 0x0804, what, out)));
    cr_assert(verifies(rsa, "SHA512", true, what, out, keys_sign(rsa, 0x0806, what, out)));
    cr_assert(verifies(rsa, "SHA384", false, what, out, keys_sign(rsa, 0x0501, what, out)));
    cr_assert(verifies(p256, "SHA256", false, what, out, keys_sign(p256, 0x0403, what, out)));
    cr_assert(verifies(p384, "SHA384", false, what, out, keys_sign(p384, 0x0503, what, out)));
    cr_assert_eq(keys_sign(rsa, 0x0201, what, out), 0);
    cr_assert(keys_slow(rsa) && !keys_slow(p256));
}

Test(keys, a_key_is_its_listeners_roles)
{
    struct test_cert a = test_cert_new(TEST_EC, "a.test"), b = test_cert_new(TEST_RSA, "b.test");
    struct key_set *s = key_set_new();
    struct err err;
    uint8_t id[SIGNER_KEY_BYTES];
    struct span name = span_make(id, sizeof id);
    cr_assert_eq(key_set_add(s, span_of(a.chain), span_of(a.key), ROLE_MX, &err), 0);
    cr_assert_eq(key_set_add(s, span_of(a.chain), span_of(a.key), ROLE_IMAPD, &err), 0);
    cr_assert_eq(key_set_add(s, span_of(b.chain), span_of(b.key), ROLE_POP3D, &err), 0);
    EVP_PKEY *key = pem_private_key(span_of(a.key), &err);
    cr_assert_eq(keys_id(key, id), 0);
    EVP_PKEY *mine = key_set_find(s, name, ROLE_MX);
    cr_assert(mine && EVP_PKEY_eq(mine, key) == 1 && key_set_find(s, name, ROLE_IMAPD) == mine);
    cr_assert_null(key_set_find(s, name, ROLE_POP3D));
    cr_assert_null(key_set_find(s, name, ROLE_SUBMISSION));
    cr_assert_null(key_set_find(s, span_sub(name, 0, 31), ROLE_MX));
    id[0] ^= 1;
    cr_assert_null(key_set_find(s, name, ROLE_MX));
    EVP_PKEY_free(key);
    key_set_free(&s);
    test_cert_free(&a);
    test_cert_free(&b);
}

Test(keys, bad_pairs_are_named)
{
    struct test_cert a = test_cert_new(TEST_EC, "a.test"), b = test_cert_new(TEST_EC, "b.test");
    struct key_set *s = key_set_new();
    struct err err;
    cr_assert_eq(key_set_add(s, span_of(a.chain), span_of(b.key), ROLE_MX, &err), -1);
    cr_assert_str_eq(err.text, "the private key is not the one of the certificate");
    cr_assert_eq(key_set_add(s, span_of(a.chain), SPAN("hello"), ROLE_MX, &err), -1);
    cr_assert_str_eq(err.text, "no private key in it (a PEM file has BEGIN PRIVATE KEY)");
    cr_assert_eq(key_set_add(s, span_of(a.key), span_of(a.key), ROLE_MX, &err), -1);
    cr_assert_str_eq(err.text, "no certificate in it (a PEM file has BEGIN CERTIFICATE)");
    EVP_PKEY *ed = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    cr_assert_not_null(keys_refusal(ed, 0x0807, SPAN("x")));
    EVP_PKEY_free(ed);
    key_set_free(&s);
    test_cert_free(&a);
    test_cert_free(&b);
}
