/* SCRAM-SHA-256, SCRAM-SHA-1 and their -PLUS, the server's side, pure: messages in, messages out. RFC 5802, RFC 7677; channel
 * bindings tls-exporter (RFC 9266) and tls-server-end-point (RFC 5929), whose bytes the front that holds the TLS
 * session gives. No socket, no database: who the user is and what is stored of him the caller finds out in between. */
#ifndef AUTH_SCRAM_H
#define AUTH_SCRAM_H

#include "base/buf.h"
#include "base/err.h"

#define SCRAM_ITERATIONS 100000 /* of new verifiers; RFC7677:4 asks for 4096 at least */
#define SCRAM_ITERATIONS_MAX 10000000
#define SCRAM_SALT 16
#define SCRAM_KEY 32 /* SHA-256; 20 of them for SHA-1 */
#define SCRAM_TEXT_MAX 160 /* a verifier as text */
#define SCRAM_NAME_MAX 320
#define SCRAM_NONCE_MAX 256   /* of the client's */
#define SCRAM_MESSAGE_MAX 4096

enum scram_hash { SCRAM_SHA_256, SCRAM_SHA_1, SCRAM_HASHES };

/* Once, before the sandbox: SHA-1 is libcrypto's, which reads its configuration when it is first used. */
void scram_warm(void);

/* What is stored instead of the password: enough to check a proof, not enough to make one. RFC5802:2.2 */
struct scram_verifier {
    enum scram_hash hash;
    uint32_t iterations;
    uint8_t salt[SCRAM_SALT], stored_key[SCRAM_KEY], server_key[SCRAM_KEY];
};

/* Takes tens of milliseconds: it belongs on a pool thread. password: prepared by saslprep(). */
void scram_derive(enum scram_hash hash, struct span password, const uint8_t *salt, uint32_t iterations,
                  struct scram_verifier *out);
/* As text: SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY (RFC5803:3); SCRAM-SHA-1 likewise. out: SCRAM_TEXT_MAX bytes. */
void scram_put(const struct scram_verifier *v, char *out);
bool scram_read(struct span text, struct scram_verifier *out);
/* The salt of a name, for one that has none and for new verifiers: the same whenever that name is asked for (another for each hash), keys that nobody
 * knows. secret: SCRAM_KEY bytes that stay in the directory. */
void scram_fake(enum scram_hash hash, const uint8_t *secret, struct span name, struct scram_verifier *out);

/* The channel that the exchange goes over. Both spans are empty without TLS; they must outlive the engine. */
struct scram_channel {
    struct span exporter, end_point;
    struct span nonce; /* for tests: the server's part; empty: 24 random characters */
};

struct scram;
/* plus: the mechanism's -PLUS was asked for. */
struct scram *scram_new(enum scram_hash hash, bool plus, const struct scram_channel *channel);
void scram_free(struct scram **s);
/* Each answers NULL, or what was wrong with the message, for the log. */
const char *scram_client_first(struct scram *s, struct span message);
struct span scram_user(const struct scram *s);    /* after client_first */
struct span scram_authzid(const struct scram *s); /* may be empty */
/* A further password of that name, under the same salt: a proof of it is right, too. tag: not 0. Behind server_first; one of another
 * salt, hash or count of iterations is left out, as nobody can prove it in this exchange. */
void scram_also(struct scram *s, const struct scram_verifier *v, int64_t tag);
/* The server's first message. v: of the exchange's hash. known: false for what scram_fake() made; no proof will be right. */
struct span scram_server_first(struct scram *s, const struct scram_verifier *v, bool known);
/* NULL: the proof is right, and the binding is that of our channel; *out is the server's final message. */
const char *scram_client_final(struct scram *s, struct span message, struct span *out);
/* Behind a right proof: whose it was, a tag of scram_also(); 0: of the verifier that the exchange began with. */
int64_t scram_proven_by(const struct scram *s);

#endif
