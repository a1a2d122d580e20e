/* TLS contexts: server ones from a certificate and key (read from descriptors), client ones for the relay.
 * Reference-counted, so that sessions keep theirs when a certificate is renewed. */
#ifndef NET_TLS_H
#define NET_TLS_H

#include "base/err.h"
#include "base/span.h"

struct tls_ctx;

enum tls_min { TLS_MIN_1_2, TLS_MIN_1_3 };
struct tls_server_options {
    struct span chain_pem, key_pem;
    enum tls_min min;
    bool tickets; /* TLS 1.3 session tickets: off on port 25 (HAZARDS 26) */
};

void tls_warm(void); /* loads providers and whatever else the library would read lazily; before the sandbox */
struct tls_ctx *tls_server_new(const struct tls_server_options *o, struct err *err);
/* Opportunistic unless ca_pem is given, then the peer must verify for its name. */
struct tls_ctx *tls_client_new(struct span ca_pem, struct err *err);
struct tls_ctx *tls_ref(struct tls_ctx *c);
void tls_unref(struct tls_ctx **c);
/* Reads a whole PEM file from a descriptor (offset 0 up), at most 1 MiB; wipe and free with tls_pem_free. */
int tls_read_pem(int fd, char **pem, size_t *n, struct err *err);
void tls_pem_free(char **pem, size_t n);
/* A server context from the descriptors of its chain and key, which stay the caller's. NULL when one is -1, or bad: err says which. */
struct tls_ctx *tls_server_open(int chain_fd, int key_fd, enum tls_min min, bool tickets, struct err *err);

/* Clients are asked for a certificate of the authorities in that file (PEM, the descriptor stays the caller's); none is
 * needed. stream_tls_certified() says what came of it. Sessions of such a context are not resumed. */
int tls_ask_clients(struct tls_ctx *c, int ca_fd, struct err *err);

#endif
