#include "net_support.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

#include "base/mem.h"

static char *pem_text(BIO *b)
{
    char *p;
    long n = BIO_get_mem_data(b, &p);
    char *copy = mem_strndup(p, (size_t)n);
    BIO_free(b);
    return copy;
}

struct test_cert test_cert_new(enum test_key kind, const char *name)
{
    EVP_PKEY *key = kind == TEST_EC ? EVP_EC_gen("P-256") : EVP_RSA_gen(2048);
    X509 *x = X509_new();
    char san[300];
    snprintf(san, sizeof san, "DNS:%s", name);
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x), 86400);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(x));
    X509_set_pubkey(x, key);
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, san);
    X509_add_ext(x, ext, -1);
    X509_EXTENSION_free(ext);
    cr_assert(X509_sign(x, key, EVP_sha256()) > 0);
    BIO *chain = BIO_new(BIO_s_mem()), *secret = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(chain, x);
    PEM_write_bio_PrivateKey(secret, key, NULL, NULL, 0, NULL, NULL);
    struct test_cert c = {pem_text(chain), pem_text(secret)};
    X509_free(x);
    EVP_PKEY_free(key);
    return c;
}

void test_cert_free(struct test_cert *c)
{
    mem_free(&c->chain);
    mem_free(&c->key);
}

struct tls_ctx *test_server_ctx(const struct test_cert *c, enum tls_min min, bool tickets)
{
    struct err err;
    struct tls_server_options o = {
        .chain_pem = span_of(c->chain), .key_pem = span_of(c->key), .min = min, .tickets = tickets};
    struct tls_ctx *ctx = tls_server_new(&o, &err);
    cr_assert(ctx, "%s", err.text);
    return ctx;
}

static size_t on_data(void *ctx, struct span in)
{
    struct end *e = ctx;
    e->calls++;
    if (e->on_data)
        return e->on_data(e, in);
    size_t n = e->take && e->take < in.n ? e->take : in.n;
    buf_add(&e->got, span_sub(in, 0, n));
    if (e->echo)
        stream_write(e->s, span_sub(in, 0, n));
    if (e->stop_at && e->got.n >= e->stop_at)
        loop_stop(e->loop);
    return n;
}

static void on_event(void *ctx, enum stream_event ev)
{
    struct end *e = ctx;
    char c = "UEXDTF"[ev];
    if (e->event_count < sizeof e->events - 1)
        e->events[e->event_count++] = c;
    if (e->stop_on && strchr(e->stop_on, c))
        loop_stop(e->loop);
    if (e->on_event)
        e->on_event(e, ev);
}

const struct stream_ops end_ops = {on_data, on_event};

void ends_make(struct loop *l, struct end *a, struct end *b)
{
    int fd[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
    a->loop = b->loop = l;
    a->s = stream_new(l, fd[0], &end_ops, a);
    b->s = stream_new(l, fd[1], &end_ops, b);
    a->other = b;
    b->other = a;
}

void end_free(struct end *e)
{
    stream_free(&e->s);
    buf_free(&e->got);
}

static void too_late(void *ctx)
{
    *(bool *)((void **)ctx)[1] = true;
    loop_stop(((void **)ctx)[0]);
}

void run_for(struct loop *l, int64_t ms)
{
    bool late = false;
    void *ctx[2] = {l, &late};
    struct timer *t = timer_new(l, too_late, ctx);
    timer_start(t, ms);
    loop_run(l);
    timer_free(&t);
    cr_assert_not(late, "nothing stopped the loop");
}
