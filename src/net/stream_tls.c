/* The TLS half of a stream: OpenSSL between the stream's two queues. OpenSSL reads through stream_recv(), so that it
 * makes no receive call that is known to find nothing, and writes into the wire queue, so that a whole flight or a
 * turn's records leave in one call.
 *
 * A handshake whose key is a signer's runs as an ASYNC job of the library (a stack of its own, which costs memory, so
 * that their number is bounded). The job pauses when something is to be signed; the signer is asked from here, on the
 * ordinary stack. A paused job can't be thrown away: it is told that there is no signature, and runs to its end. */
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/list.h"
#include "base/mem.h"
#include "net/remote_key.h"
#include "net/stream_impl.h"
#include "net/tls.h"
#include "net/tls_impl.h"

struct tls_half {
    SSL *ssl;
    struct tls_ctx *ctx;
    bool up;
    bool at_end; /* the socket gave its end */
    bool paused; /* the handshake's job */
    char *text;
    struct remote_sign *sign; /* while a handshake with a signer's key goes on */
    uint64_t asked;           /* the signer's request */
    struct link waiting;      /* for one of the jobs */
    struct stream *stream;
};

#define RECORD_PLAIN 16384 /* RFC8446:5.1 */
#define JOBS_MAX 512       /* paused handshakes of a process, each with a stack of 32 KiB */

static unsigned jobs_paused;
static struct link jobs_wanted; /* tls_half.waiting: handshakes that begin when another one goes on */

/* ---- OpenSSL's view of the stream ---- */

static int bio_write(BIO *b, const char *bytes, int n)
{
    struct stream *s = BIO_get_data(b);
    BIO_clear_retry_flags(b);
    if (n <= 0)
        return 0;
    outq_add(&s->wire, span_make(bytes, (size_t)n));
    return n;
}

static int bio_read(BIO *b, char *to, int room)
{
    struct stream *s = BIO_get_data(b);
    BIO_clear_retry_flags(b);
    ssize_t n = stream_recv(s, to, (size_t)room);
    if (n == 0)
        s->tls->at_end = true;
    if (n < 0 && errno == EAGAIN)
        BIO_set_retry_read(b);
    else if (n < 0)
        stream_fail(s, "%s", strerror(errno));
    return (int)n;
}

static long bio_ctrl(BIO *b, int cmd, long number, void *p)
{
    struct stream *s = BIO_get_data(b);
    (void)number;
    (void)p;
    switch (cmd) {
    case BIO_CTRL_FLUSH:
        return 1; /* the wire queue leaves at the end of the turn */
    case BIO_CTRL_EOF:
        return s && s->tls && s->tls->at_end;
    default:
        return 0;
    }
}

static BIO *bio_of(struct stream *s)
{
    static BIO_METHOD *method;
    if (!method) {
        method = BIO_meth_new(BIO_TYPE_SOURCE_SINK | BIO_get_new_index(), "stream");
        if (!method || !BIO_meth_set_write(method, bio_write) || !BIO_meth_set_read(method, bio_read) ||
            !BIO_meth_set_ctrl(method, bio_ctrl))
            abort();
    }
    BIO *b = BIO_new(method);
    if (!b)
        abort(); /* out of memory */
    BIO_set_data(b, s);
    BIO_set_init(b, 1);
    return b;
}

/* ---- beginning ---- */

static void make(struct stream *s, struct tls_ctx *ctx)
{
    struct tls_half *t = mem_alloc(sizeof *t);
    t->ctx = tls_ref(ctx);
    t->ssl = SSL_new(tls_ctx_ssl(ctx));
    if (!t->ssl)
        abort();
    BIO *b = bio_of(s);
    SSL_set_bio(t->ssl, b, b);
    t->stream = s;
    if (tls_ctx_remote(ctx)) {
        t->sign = mem_alloc(sizeof *t->sign);
        SSL_set_mode(t->ssl, SSL_MODE_ASYNC);
    }
    s->tls = t;
}

/* Clear text that waits now is dropped; inside on_data the span at hand follows when that has returned. */
static size_t drop_clear(struct stream *s)
{
    if (s->delivering) {
        s->switching = true;
        return 0;
    }
    size_t n = s->in.n;
    buf_free(&s->in);
    stream_discard(s, n);
    loop_defer(s->loop, &s->pump);
    return n;
}

size_t stream_tls_server(struct stream *s, struct tls_ctx *ctx)
{
    if (s->tls)
        abort();
    make(s, ctx);
    SSL_set_accept_state(s->tls->ssl);
    return drop_clear(s);
}

static bool is_address(const char *name)
{
    unsigned char raw[16];
    return inet_pton(AF_INET, name, raw) == 1 || inet_pton(AF_INET6, name, raw) == 1;
}

/* RFC6066:3: a name, never an address, is asked for. */
static void expect_name(SSL *ssl, struct tls_ctx *ctx, const char *name)
{
    bool address = is_address(name);
    if (!address)
        SSL_set_tlsext_host_name(ssl, name);
    if (!tls_ctx_verifies(ctx))
        return;
    int ok = address ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) : SSL_set1_host(ssl, name);
    if (!ok)
        abort(); /* out of memory: verification must not be lost silently */
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
}

size_t stream_tls_client(struct stream *s, struct tls_ctx *ctx, const char *server_name)
{
    if (s->tls)
        abort();
    make(s, ctx);
    SSL_set_connect_state(s->tls->ssl);
    if (server_name && *server_name)
        expect_name(s->tls->ssl, ctx, server_name);
    else if (tls_ctx_verifies(ctx))
        abort(); /* nothing to verify against */
    return drop_clear(s);
}

/* ---- going on ---- */

static void fail_ssl(struct stream *s, const char *what)
{
    struct tls_half *t = s->tls;
    unsigned long e = ERR_peek_error();
    long verify = SSL_get_verify_result(t->ssl);
    if (t->sign && t->sign->state == REMOTE_REFUSED)
        stream_fail(s, "%s: %s", what, t->sign->why);
    else if (tls_ctx_verifies(t->ctx) && verify != X509_V_OK && !t->up)
        stream_fail(s, "%s: certificate: %s", what, X509_verify_cert_error_string(verify));
    else if (e && ERR_reason_error_string(e))
        stream_fail(s, "%s: %s", what, ERR_reason_error_string(e));
    else
        stream_fail(s, "%s: the peer closed the connection", what);
    ERR_clear_error();
}

SSL *tls_half_ssl(const struct tls_half *t)
{
    return t->ssl;
}

bool tls_is_up(const struct tls_half *t)
{
    return t->up;
}

/* ---- handshakes whose key is elsewhere ---- */

bool tls_waits(const struct tls_half *t)
{
    return list_linked(&t->waiting) || (t->sign && t->sign->state == REMOTE_ASKED);
}

/* One step of the job. */
static int shake_job(struct tls_half *t)
{
    bool was_paused = t->paused;
    remote_key_current(t->sign);
    ERR_clear_error();
    int r = SSL_do_handshake(t->ssl);
    remote_key_current(NULL);
    t->paused = r <= 0 && SSL_get_error(t->ssl, r) == SSL_ERROR_WANT_ASYNC;
    jobs_paused += (unsigned)t->paused - (unsigned)was_paused;
    if (!t->paused && t->sign->state == REMOTE_SIGNED)
        SSL_clear_mode(t->ssl, SSL_MODE_ASYNC); /* one handshake, one signature: what follows needs no job */
    if (was_paused && !t->paused && jobs_wanted.next && !list_empty(&jobs_wanted)) {
        struct tls_half *next = container_of(jobs_wanted.next, struct tls_half, waiting);
        list_del(&next->waiting);
        loop_defer(next->stream->loop, &next->stream->pump);
    }
    return r;
}

/* True: too many are paused, this one's turn comes. */
static bool waits_for_a_job(struct tls_half *t)
{
    if (!t->sign || t->paused || jobs_paused < JOBS_MAX)
        return false;
    if (!jobs_wanted.next)
        list_init(&jobs_wanted);
    list_add_tail(&jobs_wanted, &t->waiting);
    return true;
}

static void on_signed(void *ctx, struct span signature, const char *why)
{
    struct tls_half *t = ctx;
    t->asked = 0;
    if (signature.n == 0 || signature.n > sizeof t->sign->signature) {
        t->sign->state = REMOTE_REFUSED;
        snprintf(t->sign->why, sizeof t->sign->why, "no signature: %s", why ? why : "the answer is too long");
    } else {
        memcpy(t->sign->signature, signature.p, signature.n);
        t->sign->signature_n = signature.n;
        t->sign->state = REMOTE_SIGNED;
    }
    loop_defer(t->stream->loop, &t->stream->pump);
}

static void ask_signer(struct tls_half *t)
{
    const struct signer *signer = t->sign->signer;
    t->sign->state = REMOTE_ASKED;
    t->asked = signer->ask(signer->self, &t->sign->what, on_signed, t);
}

/* A resumed session needed none. */
static void end_of_signing(struct tls_half *t)
{
    if (t->sign)
        SSL_clear_mode(t->ssl, SSL_MODE_ASYNC);
    mem_free(&t->sign);
}

static void give_up_signing(struct tls_half *t)
{
    list_del(&t->waiting);
    if (t->asked)
        t->sign->signer->forget(t->sign->signer->self, t->asked);
    t->asked = 0;
    if (!t->paused)
        return;
    t->sign->state = REMOTE_REFUSED;
    shake_job(t);
    if (t->paused)
        abort(); /* our provider pauses for nothing else */
    ERR_clear_error();
}

/* ---- */

bool tls_shake(struct stream *s)
{
    struct tls_half *t = s->tls;
    if (t->up || s->broken || tls_waits(t) || waits_for_a_job(t))
        return false;
    int r = t->sign ? shake_job(t) : (ERR_clear_error(), SSL_do_handshake(t->ssl));
    if (r == 1) {
        t->up = true;
        end_of_signing(t);
        if (outq_size(&s->plain))
            loop_defer(s->loop, &s->flush);
        return true;
    }
    int why = SSL_get_error(t->ssl, r);
    if (why == SSL_ERROR_WANT_ASYNC)
        ask_signer(t);
    else if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE)
        fail_ssl(s, "TLS handshake");
    return false;
}

enum pull tls_pull(struct stream *s, char *to, size_t room, size_t *got)
{
    struct tls_half *t = s->tls;
    size_t n;
    int r = 1;
    ERR_clear_error();
    while (*got < room && (r = SSL_read_ex(t->ssl, to + *got, room - *got, &n)) == 1)
        *got += n;
    if (*got)
        return PULL_DATA; /* an end or error comes again at the next call */
    switch (SSL_get_error(t->ssl, r)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return PULL_AGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return PULL_EOF;
    default:
        fail_ssl(s, "TLS");
        return PULL_ERROR;
    }
}

void tls_encrypt(struct stream *s)
{
    struct tls_half *t = s->tls;
    size_t n;
    if (!t->up || s->broken || s->notified)
        return;
    while (outq_size(&s->plain) && outq_size(&s->wire) < WIRE_ENOUGH) {
        ERR_clear_error();
        size_t some = MIN_OF(outq_size(&s->plain), (size_t)RECORD_PLAIN);
        int r = SSL_write_ex(t->ssl, s->plain.b.p + s->plain.off, some, &n);
        if (r == 1) {
            outq_took(&s->plain, n);
            continue;
        }
        int why = SSL_get_error(t->ssl, r);
        if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE)
            fail_ssl(s, "TLS");
        return;
    }
}

void tls_close_notify(struct stream *s)
{
    struct tls_half *t = s->tls;
    if (!t->up || s->notified || s->broken)
        return;
    s->notified = true;
    ERR_clear_error();
    SSL_shutdown(t->ssl);
    ERR_clear_error();
}

bool tls_holds_input(const struct tls_half *t)
{
    return t->up && SSL_has_pending(t->ssl);
}

void tls_half_free(struct stream *s)
{
    struct tls_half *t = s->tls;
    if (!t)
        return;
    if (t->sign)
        give_up_signing(t);
    mem_free(&t->sign);
    SSL_free(t->ssl);
    tls_unref(&t->ctx);
    mem_free(&t->text);
    mem_free(&s->tls);
}

/* ---- what others ask ---- */

bool stream_is_tls(const struct stream *s)
{
    return s->tls && s->tls->up;
}

/* RFC9266:2, with an empty context, which TLS 1.2 tells from none. RFC9266:4.2: not over TLS 1.2 without the extended master secret (RFC7627), whose keys two sessions can share. */
static size_t exporter_of(SSL *ssl, uint8_t *out)
{
    static const char label[] = "EXPORTER-Channel-Binding";
    if (SSL_version(ssl) < TLS1_3_VERSION && SSL_get_extms_support(ssl) != 1)
        return 0;
    bool made = SSL_export_keying_material(ssl, out, 32, label, sizeof label - 1, (const unsigned char *)"", 0, 1) == 1;
    ERR_clear_error();
    return made ? 32 : 0;
}

/* RFC5929:4.1: the hash of the certificate's own signature, SHA-256 in place of MD5 and SHA-1. */
static size_t end_point_of(SSL *ssl, uint8_t *out)
{
    int hash = NID_undef;
    unsigned n = 0;
    const EVP_MD *md;
    X509 *cert = SSL_get_certificate(ssl);
    if (!cert || !X509_get_signature_info(cert, &hash, NULL, NULL, NULL) || hash == NID_undef)
        return 0;
    md = hash == NID_md5 || hash == NID_sha1 ? EVP_sha256() : EVP_get_digestbynid(hash);
    bool made = md && EVP_MD_get_size(md) <= STREAM_BINDING_MAX && X509_digest(cert, md, out, &n) == 1;
    ERR_clear_error();
    return made ? n : 0;
}

void stream_tls_binding(const struct stream *s, struct stream_binding *out)
{
    *out = (struct stream_binding){.exporter_n = 0};
    if (!stream_is_tls(s))
        return;
    out->exporter_n = exporter_of(s->tls->ssl, out->exporter);
    out->end_point_n = end_point_of(s->tls->ssl, out->end_point);
}

const char *stream_tls_text(const struct stream *s)
{
    struct tls_half *t = s->tls;
    if (!t || !t->up)
        return "";
    if (!t->text) {
        struct buf b = {0};
        buf_printf(&b, "%s %s", SSL_get_version(t->ssl), SSL_get_cipher_name(t->ssl));
        buf_cstr(&b);
        t->text = b.p;
    }
    return t->text;
}
