/* TLS contexts: certificates, keys and the settings that all connections of a listener (or of the relay) share. RFC
 * 8446, RFC 5246, RFC 7525's advice: TLS 1.2 at least, no compression, no renegotiation. Certificates and keys come
 * from the operator's files. */
#include "net/tls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>

#include "base/mem.h"
#include "net/pem.h"
#include "net/remote_key.h"
#include "net/tls_impl.h"

#define CHAIN_MAX 20 /* certificates of one chain */

struct tls_ctx {
    SSL_CTX *ssl;
    unsigned refs;
    bool verifies;
    bool remote; /* its key is a signer's */
};

SSL_CTX *tls_ctx_ssl(struct tls_ctx *c)
{
    return c->ssl;
}

bool tls_ctx_verifies(const struct tls_ctx *c)
{
    return c->verifies;
}

bool tls_ctx_remote(const struct tls_ctx *c)
{
    return c->remote;
}

struct tls_ctx *tls_ref(struct tls_ctx *c)
{
    c->refs++;
    return c;
}

void tls_unref(struct tls_ctx **cp)
{
    struct tls_ctx *c = *cp;
    *cp = NULL;
    if (!c || --c->refs)
        return;
    SSL_CTX_free(c->ssl);
    mem_free(&c);
}

/* Why the library refused, as one line. */
static int ssl_err(struct err *err, const char *what)
{
    unsigned long e = ERR_peek_last_error();
    const char *why = e ? ERR_reason_error_string(e) : NULL;
    int r = err_set(err, "%s: %s", what, why ? why : "out of memory");
    ERR_clear_error();
    return r;
}

void tls_warm(void)
{
    struct err ignored;
    unsigned char byte;
    OPENSSL_init_ssl(OPENSSL_INIT_LOAD_SSL_STRINGS | OPENSSL_INIT_LOAD_CONFIG, NULL);
    if (RAND_bytes(&byte, 1) != 1)
        abort();
    remote_key_warm();
    struct tls_ctx *c = tls_client_new(SPAN_NONE, &ignored); /* fetches the algorithms of the providers */
    tls_unref(&c);
}

static struct tls_ctx *ctx_new(const SSL_METHOD *method)
{
    struct tls_ctx *c = mem_alloc(sizeof *c);
    c->refs = 1;
    c->ssl = SSL_CTX_new(method);
    if (!c->ssl)
        abort(); /* out of memory, or a broken installation of the library */
    SSL_CTX_set_min_proto_version(c->ssl, TLS1_2_VERSION);
    SSL_CTX_set_options(c->ssl, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(c->ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                 SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_session_cache_mode(c->ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_read_ahead(c->ssl, 1);
    return c;
}

/* ---- the server's certificate and key ---- */

static BIO *bio_of(struct span pem)
{
    BIO *b = BIO_new_mem_buf(pem.p, (int)pem.n);
    if (!b)
        abort();
    return b;
}

/* The certificates behind the first one. */
static int use_rest_of_chain(SSL_CTX *ssl, BIO *b, struct err *err)
{
    for (int i = 0; i < CHAIN_MAX; i++) {
        X509 *x = PEM_read_bio_X509(b, NULL, NULL, NULL);
        if (!x)
            return pem_ended() ? 0 : err_set(err, "certificate %d of the chain can't be read", i + 2);
        if (SSL_CTX_add0_chain_cert(ssl, x) != 1) {
            X509_free(x);
            return ssl_err(err, "the chain");
        }
    }
    return err_set(err, "more than %d certificates", CHAIN_MAX);
}

static int use_chain(SSL_CTX *ssl, struct span pem, struct err *err)
{
    BIO *b = bio_of(pem);
    ERR_clear_error();
    X509 *own = PEM_read_bio_X509_AUX(b, NULL, NULL, NULL);
    int r = 0;
    if (!own)
        r = pem_ended() ? err_set(err, "no certificate in it (a PEM file has BEGIN CERTIFICATE)")
                        : err_set(err, "the first certificate can't be read");
    else if (SSL_CTX_use_certificate(ssl, own) != 1)
        r = ssl_err(err, "the certificate is not accepted");
    else
        r = use_rest_of_chain(ssl, b, err);
    X509_free(own);
    BIO_free(b);
    return r;
}

static int use_key(SSL_CTX *ssl, struct span pem, struct err *err)
{
    EVP_PKEY *key = pem_private_key(pem, err);
    int r = key ? 0 : -1;
    if (key && X509_check_private_key(SSL_CTX_get0_certificate(ssl), key) != 1)
        r = err_set(err, "the private key is not the one of the certificate");
    else if (key && SSL_CTX_use_PrivateKey(ssl, key) != 1)
        r = ssl_err(err, "the private key is not accepted");
    EVP_PKEY_free(key);
    ERR_clear_error();
    return r;
}

/* The key that the chain's first certificate names is the signer's. */
static int use_signer(SSL_CTX *ssl, const struct signer *signer, struct err *err)
{
    EVP_PKEY *key = remote_key_new(X509_get0_pubkey(SSL_CTX_get0_certificate(ssl)), signer, err);
    int r = key ? 0 : -1;
    if (key && SSL_CTX_use_PrivateKey(ssl, key) != 1)
        r = ssl_err(err, "the certificate's key is not accepted");
    EVP_PKEY_free(key);
    ERR_clear_error();
    return r;
}

/* A server picks among its own settings; a name it does not know is no reason to fail (RFC6066:3: the client may go
 * on). */
static int any_name(SSL *ssl, int *alert, void *arg)
{
    (void)ssl;
    (void)alert;
    (void)arg;
    return SSL_TLSEXT_ERR_OK;
}

struct tls_ctx *tls_server_new(const struct tls_server_options *o, struct err *err)
{
    struct tls_ctx *c = ctx_new(TLS_server_method());
    if (o->min == TLS_MIN_1_3)
        SSL_CTX_set_min_proto_version(c->ssl, TLS1_3_VERSION);
    SSL_CTX_set_options(c->ssl, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_tlsext_servername_callback(c->ssl, any_name);
    SSL_CTX_set_num_tickets(c->ssl, o->tickets ? 1 : 0);
    if (!o->tickets)
        SSL_CTX_set_options(c->ssl, SSL_OP_NO_TICKET);
    c->remote = o->signer != NULL;
    if (use_chain(c->ssl, o->chain_pem, err) ||
        (c->remote ? use_signer(c->ssl, o->signer, err) : use_key(c->ssl, o->key_pem, err)))
        tls_unref(&c);
    return c;
}

/* ---- the client's side ---- */

static int trust(SSL_CTX *ssl, struct span pem, struct err *err)
{
    BIO *b = bio_of(pem);
    X509_STORE *store = SSL_CTX_get_cert_store(ssl);
    int n = 0, r = 0;
    ERR_clear_error();
    for (X509 *x; r == 0 && (x = PEM_read_bio_X509(b, NULL, NULL, NULL)); n++) {
        if (X509_STORE_add_cert(store, x) != 1)
            r = ssl_err(err, "a certificate of an authority is not accepted");
        X509_free(x);
    }
    if (r == 0 && (!pem_ended() || n == 0))
        r = err_set(err, n ? "certificate %d can't be read"
                           : "no certificate in it (a PEM file has BEGIN CERTIFICATE)", n + 1);
    BIO_free(b);
    return r;
}

struct tls_ctx *tls_client_new(struct span ca_pem, struct err *err)
{
    struct tls_ctx *c = ctx_new(TLS_client_method());
    if (ca_pem.n == 0) {
        /* RFC7435: unverified encryption against clear text; a weak key of the peer is no reason to choose clear
         * text. */
        SSL_CTX_set_security_level(c->ssl, 1);
        return c;
    }
    c->verifies = true;
    SSL_CTX_set_verify(c->ssl, SSL_VERIFY_PEER, NULL);
    if (trust(c->ssl, ca_pem, err))
        tls_unref(&c);
    return c;
}

/* ---- files ---- */

struct tls_ctx *tls_server_open(int chain_fd, const struct signer *signer, enum tls_min min, bool tickets,
                                struct err *err)
{
    char *chain = NULL;
    size_t n = 0;
    struct tls_ctx *c = NULL;
    if (chain_fd < 0) {
        err_set(err, "no certificate came");
        return NULL;
    }
    if (pem_read(chain_fd, &chain, &n, err) == 0) {
        const struct tls_server_options o = {
            .chain_pem = span_make(chain, n), .signer = signer, .min = min, .tickets = tickets};
        c = tls_server_new(&o, err);
    }
    pem_free(&chain, n);
    return c;
}
