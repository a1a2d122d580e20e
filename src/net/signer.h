/* Who signs handshakes for us, when the private key is not in this process: what is to be signed goes out, a signature
 * comes back. Never a digest and never a raw operation of the key, so that the other side can see what it signs. */
#ifndef NET_SIGNER_H
#define NET_SIGNER_H

#include "base/span.h"

#define SIGNER_KEY_BYTES 32       /* SHA-256 of the key's SubjectPublicKeyInfo (RFC 5280 §4.1.2.7) */
#define SIGNER_SIGNATURE_MAX 1024 /* RSA with 8192 bits */

struct to_sign {
    uint8_t key[SIGNER_KEY_BYTES];
    uint16_t scheme;     /* SignatureScheme, RFC 8446 §4.2.3 */
    struct span content; /* RFC8446:4.4.3 the content of CertificateVerify, or RFC8422:5.4 the signed parameters */
};

/* The end of a request. signature: empty when there is none, then why says so (else NULL). Both die at return. */
typedef void signed_fn(void *ctx, struct span signature, const char *why);

struct signer {
    /* Asks; `what` dies at return. fn is called once, never from inside this call. Returns what forget() takes, never 0. */
    uint64_t (*ask)(void *self, const struct to_sign *what, signed_fn *fn, void *ctx);
    void (*forget)(void *self, uint64_t id); /* fn will not be called */
    void *self;
};

#endif
