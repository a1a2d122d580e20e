/* TLS contexts: server ones from a certificate chain and whoever signs for it, client ones for the relay.
 * Reference-counted, so that sessions keep theirs when a certificate is renewed. */
#ifndef NET_TLS_H
#define NET_TLS_H

#include "base/err.h"
#include "base/span.h"
#include "net/signer.h"

struct tls_ctx;

enum tls_min { TLS_MIN_1_2, TLS_MIN_1_3 };
struct tls_server_options {
    struct span chain_pem;
    const struct signer *signer; /* has the private key; it outlives the context and all that was made with it */
    struct span key_pem;         /* without a signer: the key is held here (tests, measurements) */
    enum tls_min min;
    bool tickets; /* TLS 1.3 session tickets: off on port 25 (HAZARDS 26) */
};

void tls_warm(void); /* loads providers and whatever else the library would read lazily; before the sandbox */
struct tls_ctx *tls_server_new(const struct tls_server_options *o, struct err *err);
/* Opportunistic unless ca_pem is given, then the peer must verify for its name. */
struct tls_ctx *tls_client_new(struct span ca_pem, struct err *err);
struct tls_ctx *tls_ref(struct tls_ctx *c);
void tls_unref(struct tls_ctx **c);
/* A server context from the descriptor of its chain, which stays the caller's. NULL when it is -1, or bad: err says why. */
struct tls_ctx *tls_server_open(int chain_fd, const struct signer *signer, enum tls_min min, bool tickets,
                                struct err *err);

/* Clients are asked for a certificate of the authorities in that file (PEM, the descriptor stays the caller's); none is
 * needed. stream_tls_certified() says what came of it. Sessions of such a context are not resumed. */
int tls_ask_clients(struct tls_ctx *c, int ca_fd, struct err *err);

#endif
