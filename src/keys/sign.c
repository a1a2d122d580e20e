#include <openssl/err.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <unistd.h>

#include "base/util.h"
#include "keys/keys.h"

bool keys_slow(const EVP_PKEY *key)
{
    return EVP_PKEY_is_a(key, "RSA");
}

unsigned keys_threads(void)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    return processors > 2 ? (unsigned)processors / 2 : 1;
}

int keys_id(EVP_PKEY *key, uint8_t id[SIGNER_KEY_BYTES])
{
    unsigned char *der = NULL;
    int n = i2d_PUBKEY(key, &der);
    if (n <= 0)
        return -1;
    SHA256(der, (size_t)n, id);
    OPENSSL_free(der);
    return 0;
}

static const char *digest_of(uint16_t scheme)
{
    static const struct {
        uint16_t scheme;
        const char *digest;
    } digests[] = {{0x0401, "SHA256"}, {0x0501, "SHA384"}, {0x0601, "SHA512"}, {0x0804, "SHA256"}, {0x0805, "SHA384"},
                   {0x0806, "SHA512"}, {0x0403, "SHA256"}, {0x0503, "SHA384"}, {0x0603, "SHA512"}};
    for (size_t i = 0; i < COUNT_OF(digests); i++)
        if (digests[i].scheme == scheme)
            return digests[i].digest;
    return NULL;
}

/* RFC8446:4.2.3 the salt is as long as the digest. */
static bool set_pss(EVP_PKEY_CTX *c)
{
    return EVP_PKEY_CTX_set_rsa_padding(c, RSA_PKCS1_PSS_PADDING) == 1 &&
           EVP_PKEY_CTX_set_rsa_pss_saltlen(c, RSA_PSS_SALTLEN_DIGEST) == 1;
}

size_t keys_sign(EVP_PKEY *key, uint16_t scheme, struct span content, uint8_t out[SIGNER_SIGNATURE_MAX])
{
    const char *digest = digest_of(scheme);
    bool pss = (scheme & 0xff00) == 0x0800;
    EVP_PKEY_CTX *settings = NULL; /* belongs to c */
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    size_t n = SIGNER_SIGNATURE_MAX;
    bool made = c && digest && EVP_DigestSignInit_ex(c, &settings, digest, NULL, NULL, key, NULL) == 1 &&
                (!pss || set_pss(settings)) &&
                EVP_DigestSign(c, out, &n, (const unsigned char *)content.p, content.n) == 1;
    EVP_MD_CTX_free(c);
    ERR_clear_error();
    return made ? n : 0;
}
