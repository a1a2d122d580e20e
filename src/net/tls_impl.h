/* What tls.c shows to stream_tls.c; nobody else includes it. */
#ifndef NET_TLS_IMPL_H
#define NET_TLS_IMPL_H

#include <openssl/ssl.h>

#include "net/tls.h"

SSL_CTX *tls_ctx_ssl(struct tls_ctx *c);
struct tls_half;
SSL *tls_half_ssl(const struct tls_half *t);
bool tls_ctx_verifies(const struct tls_ctx *c);
bool tls_ctx_remote(const struct tls_ctx *c);

#endif
