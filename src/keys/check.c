/* What a TLS server signs, recognised from its bytes. Everything else is refused: whoever took over a front could
 * otherwise have anything signed that a certificate's key is good for. The two forms can't be mistaken for one another:
 * at the same place one has the T of "TLS 1.3" and the other the 3 of named_curve (RFC8446:4.4.3 is made so). */
#include <string.h>

#include "base/util.h"
#include "keys/keys.h"

#define SPACES 64
#define RANDOMS 64     /* RFC5246:7.4.3 client_random and server_random, 32 bytes each */
#define NAMED_CURVE 3  /* RFC8422:5.4 */

enum kind { KIND_RSA_PKCS1, KIND_RSA_PSS, KIND_ECDSA };

struct scheme {
    uint16_t number;
    enum kind kind;
    const char *curve; /* RFC8446:4.2.3 binds it over TLS 1.3 */
};

static const struct scheme schemes[] = {
    {0x0401, KIND_RSA_PKCS1, NULL},     {0x0501, KIND_RSA_PKCS1, NULL},   {0x0601, KIND_RSA_PKCS1, NULL},
    {0x0804, KIND_RSA_PSS, NULL},       {0x0805, KIND_RSA_PSS, NULL},     {0x0806, KIND_RSA_PSS, NULL},
    {0x0403, KIND_ECDSA, "prime256v1"}, {0x0503, KIND_ECDSA, "secp384r1"}, {0x0603, KIND_ECDSA, "secp521r1"},
};

static const struct scheme *find(uint16_t number)
{
    for (size_t i = 0; i < COUNT_OF(schemes); i++)
        if (schemes[i].number == number)
            return &schemes[i];
    return NULL;
}

/* RFC8446:4.4.3: 64 spaces, the server's context string, a zero byte, the hash of the handshake so far. */
static bool is_certificate_verify(struct span content)
{
    static const char context[] = "TLS 1.3, server CertificateVerify"; /* with its zero byte */
    const size_t head = SPACES + sizeof context;
    if (content.n != head + 32 && content.n != head + 48)
        return false;
    for (size_t i = 0; i < SPACES; i++)
        if (content.p[i] != ' ')
            return false;
    return memcmp(content.p + SPACES, context, sizeof context) == 0;
}

/* RFC8422:5.4: the two randoms, then ECParameters that name a curve, then the point, whose length its byte says. */
static bool is_key_exchange(struct span content)
{
    const uint8_t *p = (const uint8_t *)content.p + RANDOMS;
    return content.n > RANDOMS + 4 && p[0] == NAMED_CURVE && p[3] >= 32 && p[3] <= 133 &&
           content.n == RANDOMS + 4 + (size_t)p[3];
}

static bool is_on_curve(const EVP_PKEY *key, const char *curve)
{
    char name[64];
    size_t n;
    return EVP_PKEY_get_group_name(key, name, sizeof name, &n) == 1 && strcmp(name, curve) == 0;
}

const char *keys_refusal(const EVP_PKEY *key, uint16_t scheme, struct span content)
{
    const struct scheme *s = find(scheme);
    bool tls13 = is_certificate_verify(content);
    if (!s)
        return "a signature scheme that is not served";
    if (!tls13 && !is_key_exchange(content))
        return "not what a TLS server signs";
    if (!EVP_PKEY_is_a(key, s->kind == KIND_ECDSA ? "EC" : "RSA"))
        return "the signature scheme is not one of this key";
    if (tls13 && s->kind == KIND_RSA_PKCS1)
        return "PKCS #1 v1.5 is not for TLS 1.3"; /* RFC8446:4.2.3 */
    if (tls13 && s->kind == KIND_ECDSA && !is_on_curve(key, s->curve))
        return "the signature scheme is of another curve";
    return NULL;
}
