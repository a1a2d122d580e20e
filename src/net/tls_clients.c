/* Clients' certificates: asked for on a listener that names authorities (RFC8446:4.3.2), never demanded; whether one
 * verifies is remembered, and what it says of its owner. Trusts the authorities' file; certificates come from clients
 * not yet known, and one that does not verify is as good as none. */
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/mem.h"
#include "net/pem.h"
#include "net/stream_impl.h"
#include "net/tls.h"
#include "net/tls_impl.h"

#define DEPTH_MAX 8     /* certificates between a client's and its authority's */
#define AUTHORITIES_MAX 200

/* The handshake goes on whatever is wrong with the certificate: what was wrong stays the verify result. */
static int go_on(int ok, X509_STORE_CTX *ctx)
{
    (void)ok;
    (void)ctx;
    return 1;
}

static int add_authorities(BIO *b, X509_STORE *store, STACK_OF(X509_NAME) *names, struct err *err)
{
    int n = 0;
    for (X509 *x; (x = PEM_read_bio_X509(b, NULL, NULL, NULL)); n++) {
        bool good = n < AUTHORITIES_MAX && X509_STORE_add_cert(store, x) == 1;
        X509_NAME *name = good ? X509_NAME_dup(X509_get_subject_name(x)) : NULL;
        X509_free(x);
        if (!name || !sk_X509_NAME_push(names, name)) {
            X509_NAME_free(name);
            return err_set(err, "client-ca: certificate %d is not accepted", n + 1);
        }
    }
    bool end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    ERR_clear_error();
    if (n == 0 || !end)
        return err_set(err, n ? "client-ca: certificate %d can't be read"
                              : "client-ca: no certificate in it (a PEM file has BEGIN CERTIFICATE)", n + 1);
    return 0;
}

int tls_ask_clients(struct tls_ctx *c, int ca_fd, struct err *err)
{
    SSL_CTX *ssl = tls_ctx_ssl(c);
    char *pem = NULL;
    size_t n = 0;
    if (ca_fd < 0)
        return err_set(err, "client-ca: the file did not come");
    if (pem_read(ca_fd, &pem, &n, err))
        return -1;
    BIO *b = BIO_new_mem_buf(pem, (int)n);
    X509_STORE *store = X509_STORE_new();
    STACK_OF(X509_NAME) *names = sk_X509_NAME_new_null();
    if (!b || !store || !names)
        abort(); /* out of memory */
    ERR_clear_error();
    int r = add_authorities(b, store, names, err);
    BIO_free(b);
    pem_free(&pem, n);
    if (r) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
    } else {
        SSL_CTX_set1_verify_cert_store(ssl, store); /* not the one that our own chain could be filled from */
        SSL_CTX_set_client_CA_list(ssl, names);
        SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER, go_on);
        SSL_CTX_set_verify_depth(ssl, DEPTH_MAX);
        /* A resumed session would bring an old verdict along. */
        SSL_CTX_set_options(ssl, SSL_OP_NO_TICKET);
        SSL_CTX_set_num_tickets(ssl, 0);
    }
    X509_STORE_free(store);
    return r;
}

/* ---- what a client showed ---- */

bool stream_tls_certified(const struct stream *s)
{
    SSL *ssl = stream_is_tls(s) ? tls_half_ssl(s->tls) : NULL;
    return ssl && SSL_get_verify_mode(ssl) == SSL_VERIFY_PEER && SSL_get0_peer_certificate(ssl) &&
           SSL_get_verify_result(ssl) == X509_V_OK;
}

static void add_name(struct stream_client *out, const ASN1_STRING *text)
{
    struct span name = span_make(ASN1_STRING_get0_data(text), (size_t)ASN1_STRING_length(text));
    if (name.n == 0 || !span_is_utf8(name) || span_has_control(name) || name.n + 1 > sizeof out->names - out->names_n)
        return;
    if (out->names_n)
        out->names[out->names_n++] = '\n';
    memcpy(out->names + out->names_n, name.p, name.n);
    out->names_n += name.n;
}

/* rfc822Name (RFC5280:4.2.1.6) and SmtpUTF8Mailbox (RFC9598:3) of the subjectAltName. */
static void add_names(struct stream_client *out, X509 *cert)
{
    GENERAL_NAMES *all = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; all && i < sk_GENERAL_NAME_num(all); i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(all, i);
        if (g->type == GEN_EMAIL)
            add_name(out, g->d.rfc822Name);
        else if (g->type == GEN_OTHERNAME && OBJ_obj2nid(g->d.otherName->type_id) == NID_id_on_SmtpUTF8Mailbox &&
                 g->d.otherName->value->type == V_ASN1_UTF8STRING)
            add_name(out, g->d.otherName->value->value.utf8string);
    }
    GENERAL_NAMES_free(all);
    ERR_clear_error();
}

bool stream_tls_client_certificate(const struct stream *s, struct stream_client *out)
{
    unsigned n = 0;
    out->names_n = 0;
    if (!stream_tls_certified(s))
        return false;
    X509 *cert = SSL_get0_peer_certificate(tls_half_ssl(s->tls));
    if (X509_digest(cert, EVP_sha256(), out->fingerprint, &n) != 1 || n != sizeof out->fingerprint)
        return false;
    add_names(out, cert);
    return true;
}
