/* Private keys and what they may sign: the server's side of TLS handshakes, nothing else. The key of a listener signs
 * for that listener's role only. libcrypto; no socket, no file. */
#ifndef KEYS_KEYS_H
#define KEYS_KEYS_H

#include <openssl/evp.h>

#include "base/err.h"
#include "ipc/role.h"
#include "net/signer.h"

/* ---- check.c: what may be signed ---- */

/* NULL when the content is one that a TLS server signs in a handshake, and the scheme fits it and the key; else why
 * not. RFC 8446 §4.4.3 (CertificateVerify of a server), RFC 8422 §5.4 (ServerKeyExchange over TLS 1.2). */
const char *keys_refusal(const EVP_PKEY *key, uint16_t scheme, struct span content);

/* ---- sign.c ---- */

/* Signs what keys_refusal() let pass. Any thread. Returns the length, 0 when the library failed. */
size_t keys_sign(EVP_PKEY *key, uint16_t scheme, struct span content, uint8_t out[SIGNER_SIGNATURE_MAX]);
/* Slow enough to be worth a thread of its own. */
bool keys_slow(const EVP_PKEY *key);
/* How many such are made at a time: as many as half of the processors. More would only take turns with each other, and with the fronts
 * that wait for them. */
unsigned keys_threads(void);
int keys_id(EVP_PKEY *key, uint8_t id[SIGNER_KEY_BYTES]);

/* ---- set.c: the keys of one generation ---- */

struct key_set;

struct key_set *key_set_new(void);
void key_set_free(struct key_set **s);
/* The key that belongs to the first certificate of that chain, for that role. -1: they don't, or one is bad. */
int key_set_add(struct key_set *s, struct span chain_pem, struct span key_pem, enum role role, struct err *err);
/* The set's; NULL: none that this role may use. */
EVP_PKEY *key_set_find(const struct key_set *s, struct span id, enum role role);

#endif
