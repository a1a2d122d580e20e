/* An OpenSSL provider whose private keys are elsewhere: an EVP_PKEY that knows its public half and a signer
 * (net/signer.h). Inside net/ only. */
#ifndef NET_REMOTE_KEY_H
#define NET_REMOTE_KEY_H

#include <openssl/evp.h>

#include "base/err.h"
#include "net/signer.h"

/* One signature that a handshake needs. It belongs to its connection, whose handshake runs as an ASYNC job: the job
 * pauses in WANTED; the connection asks the signer, and goes on with the job when the state is one of the last two. */
enum remote_state { REMOTE_IDLE, REMOTE_WANTED, REMOTE_ASKED, REMOTE_SIGNED, REMOTE_REFUSED };
struct remote_sign {
    int state;
    const struct signer *signer;
    struct to_sign what; /* its content lives as long as the job is paused */
    uint8_t signature[SIGNER_SIGNATURE_MAX];
    size_t signature_n;
    char why[160]; /* there is none */
};

void remote_key_warm(void); /* loads the provider; before the sandbox */
/* The private key of which `public` is the public half; NULL: a kind that is not served. The signer stays the caller's
 * and must outlive the key. */
EVP_PKEY *remote_key_new(EVP_PKEY *public, const struct signer *signer, struct err *err);
/* Whose handshake runs now; NULL: nobody's, then nothing can be signed. */
void remote_key_current(struct remote_sign *r);

#endif
