/* TLS contexts: certificates, keys and the settings that all connections of a listener (or of the relay) share. RFC
 * 8446, RFC 5246, RFC 7525's advice: TLS 1.2 at least, no compression, no renegotiation. Certificates and keys come
 * from the operator's files. */
#include "net/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <unistd.h>

#include "base/mem.h"
#include "net/tls_impl.h"

#define PEM_MAX (1u << 20)
#define CHAIN_MAX 20 /* certificates of one chain */

struct tls_ctx {
    SSL_CTX *ssl;
    unsigned refs;
    bool verifies;
};

SSL_CTX *tls_ctx_ssl(struct tls_ctx *c)
{
    return c->ssl;
}

bool tls_ctx_verifies(const struct tls_ctx *c)
{
    return c->verifies;
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

/* The library would ask at the terminal. */
static int no_password(char *to, int size, int writing, void *was_asked)
{
    (void)to;
    (void)size;
    (void)writing;
    *(bool *)was_asked = true;
    return -1;
}

static BIO *bio_of(struct span pem)
{
    BIO *b = BIO_new_mem_buf(pem.p, (int)pem.n);
    if (!b)
        abort();
    return b;
}

static bool end_of_pem(void)
{
    unsigned long e = ERR_peek_last_error();
    bool end = ERR_GET_LIB(e) == ERR_LIB_PEM && ERR_GET_REASON(e) == PEM_R_NO_START_LINE;
    ERR_clear_error();
    return end;
}

/* The certificates behind the first one. */
static int use_rest_of_chain(SSL_CTX *ssl, BIO *b, struct err *err)
{
    for (int i = 0; i < CHAIN_MAX; i++) {
        X509 *x = PEM_read_bio_X509(b, NULL, NULL, NULL);
        if (!x)
            return end_of_pem() ? 0 : err_set(err, "certificate %d of the chain can't be read", i + 2);
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
        r = end_of_pem() ? err_set(err, "no certificate in it (a PEM file has BEGIN CERTIFICATE)")
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
    BIO *b = bio_of(pem);
    bool encrypted = false;
    ERR_clear_error();
    EVP_PKEY *key = PEM_read_bio_PrivateKey(b, NULL, no_password, &encrypted);
    int r = 0;
    if (!key && encrypted)
        r = err_set(err, "the private key is encrypted: store it without a password");
    else if (!key && span_search(pem, SPAN("PRIVATE KEY-----")) < 0)
        r = err_set(err, "no private key in it (a PEM file has BEGIN PRIVATE KEY)");
    else if (!key)
        r = err_set(err, "the private key can't be read");
    else if (X509_check_private_key(SSL_CTX_get0_certificate(ssl), key) != 1)
        r = err_set(err, "the private key is not the one of the certificate");
    else if (SSL_CTX_use_PrivateKey(ssl, key) != 1)
        r = ssl_err(err, "the private key is not accepted");
    EVP_PKEY_free(key);
    BIO_free(b);
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
    if (use_chain(c->ssl, o->chain_pem, err) || use_key(c->ssl, o->key_pem, err))
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
    if (r == 0 && (!end_of_pem() || n == 0))
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

int tls_read_pem(int fd, char **pem, size_t *n, struct err *err)
{
    char *p = mem_alloc(PEM_MAX + 1);
    size_t have = 0;
    ssize_t r;
    while ((r = pread(fd, p + have, PEM_MAX + 1 - have, (off_t)have)) > 0)
        have += (size_t)r;
    if (r < 0)
        err_errno(err, "can't be read");
    else if (have > PEM_MAX)
        r = err_set(err, "larger than %u bytes: not a PEM file", PEM_MAX);
    else if (have == 0)
        r = err_set(err, "empty");
    if (r < 0) {
        tls_pem_free(&p, have);
        return -1;
    }
    *pem = p;
    *n = have;
    return 0;
}

void tls_pem_free(char **pem, size_t n)
{
    if (*pem)
        OPENSSL_cleanse(*pem, n);
    mem_free(pem);
}

struct tls_ctx *tls_server_open(int chain_fd, int key_fd, enum tls_min min, bool tickets, struct err *err)
{
    char *chain = NULL, *key = NULL;
    size_t chain_n = 0, key_n = 0;
    struct tls_ctx *c = NULL;
    if (chain_fd < 0 || key_fd < 0) {
        err_set(err, "no certificate came");
        return NULL;
    }
    if (tls_read_pem(chain_fd, &chain, &chain_n, err) == 0 && tls_read_pem(key_fd, &key, &key_n, err) == 0) {
        const struct tls_server_options o = {
            .chain_pem = span_make(chain, chain_n), .key_pem = span_make(key, key_n), .min = min, .tickets = tickets};
        c = tls_server_new(&o, err);
    }
    tls_pem_free(&chain, chain_n);
    tls_pem_free(&key, key_n);
    return c;
}
