/* Handshakes whose private key is elsewhere: the provider in net/remote_key.c with a signer that answers, answers late,
 * refuses, or says nothing. */
#include <criterion/criterion.h>
#include <openssl/ssl.h>

#include "base/mem.h"
#include "keys/keys.h"
#include "net/pem.h"
#include "net/remote_key.h"
#include "net_support.h"

enum mood { PROMPT, HOLD, REFUSE, GARBAGE };

#define ASKED_MAX 600
static struct asked {
    signed_fn *fn;
    void *ctx;
    uint8_t signature[SIGNER_SIGNATURE_MAX];
    size_t n;
} asked[ASKED_MAX];
static unsigned asked_n, forgotten;
static enum mood mood;
static uint16_t last_scheme;
static struct loop *l;
static struct test_cert cert;
static EVP_PKEY *key;
static struct tls_ctx *server, *client;
static struct defer answers;

static void answer(struct asked *q)
{
    signed_fn *fn = q->fn;
    q->fn = NULL;
    if (!fn)
        return;
    if (mood == REFUSE)
        fn(q->ctx, SPAN_NONE, "not today");
    else
        fn(q->ctx, span_make(q->signature, q->n), NULL);
}

static void answer_all(void *ctx UNUSED)
{
    for (unsigned i = 0; i < asked_n; i++)
        answer(&asked[i]);
}

static uint64_t ask(void *self UNUSED, const struct to_sign *what, signed_fn *fn, void *ctx)
{
    struct asked *q = &asked[asked_n++];
    uint8_t id[SIGNER_KEY_BYTES];
    cr_assert(keys_id(key, id) == 0 && memcmp(id, what->key, sizeof id) == 0);
    cr_assert_null(keys_refusal(key, what->scheme, what->content), "what a server signs");
    q->fn = fn;
    q->ctx = ctx;
    q->n = keys_sign(key, what->scheme, what->content, q->signature);
    cr_assert_neq(q->n, 0);
    if (mood == GARBAGE)
        q->signature[q->n / 2] ^= 1;
    last_scheme = what->scheme;
    if (mood != HOLD)
        loop_defer(l, &answers);
    return asked_n;
}

static void forget(void *self UNUSED, uint64_t id)
{
    cr_assert_not_null(asked[id - 1].fn);
    asked[id - 1].fn = NULL;
    forgotten++;
}

static const struct signer signer = {ask, forget, NULL};

static void setup_kind(enum test_key kind)
{
    struct err err;
    l = loop_new();
    answers = (struct defer){.fn = answer_all};
    cert = test_cert_new(kind, "mail.example.test");
    key = pem_private_key(span_of(cert.key), &err);
    struct tls_server_options o = {.chain_pem = span_of(cert.chain), .signer = &signer};
    server = tls_server_new(&o, &err);
    cr_assert(server, "%s", err.text);
    client = tls_client_new(SPAN_NONE, NULL);
}

static void setup_rsa(void)
{
    setup_kind(TEST_RSA);
}

static void setup_ec(void)
{
    setup_kind(TEST_EC);
}

static void teardown(void)
{
    tls_unref(&server);
    tls_unref(&client);
    EVP_PKEY_free(key);
    test_cert_free(&cert);
    loop_free(&l);
}

static unsigned ups, ups_wanted;

static void count_ups(struct end *e, enum stream_event ev)
{
    if (ev == STREAM_TLS_UP && ++ups == ups_wanted)
        loop_stop(e->loop);
}

struct both {
    struct end a, b; /* client, server */
};

static void begin(struct both *x)
{
    ends_make(l, &x->a, &x->b);
    x->a.on_event = x->b.on_event = count_ups;
    stream_tls_server(x->b.s, server);
    stream_tls_client(x->a.s, client, "mail.example.test");
}

static void end_both(struct both *x)
{
    end_free(&x->a);
    end_free(&x->b);
}

static void both_up(struct both *x)
{
    ups = 0;
    ups_wanted = 2;
    begin(x);
    run_for(l, 5000);
    cr_assert(stream_is_tls(x->a.s) && stream_is_tls(x->b.s));
    x->b.echo = true;
    x->a.stop_at = 5;
    stream_write(x->a.s, SPAN("hello"));
    run_for(l, 5000);
    cr_assert(span_eq(buf_span(&x->a.got), SPAN("hello")));
}

/* The peer speaks TLS 1.2 at most: a client of the library's own over the other end of the pair would block, so the
 * context itself is asked. */
static void only_tls12(void)
{
    SSL_CTX *raw = *(SSL_CTX **)client; /* its first member */
    cr_assert(SSL_CTX_set_max_proto_version(raw, TLS1_2_VERSION));
}

/* RFC8446:4.2.3, RFC5246:7.4.1.4.1: the peer accepts the scheme that was named to the signer. */
Test(net_signer, rsa_tls13, .init = setup_rsa, .fini = teardown)
{
    struct both x = {0};
    both_up(&x);
    cr_assert(span_starts(span_of(stream_tls_text(x.b.s)), SPAN("TLSv1.3 ")));
    cr_assert_eq(last_scheme & 0xff00, 0x0800, "PSS");
    cr_assert_eq(asked_n, 1);
    end_both(&x);
}

/* RFC5246:7.4.3 */
Test(net_signer, rsa_tls12, .init = setup_rsa, .fini = teardown)
{
    struct both x = {0};
    only_tls12();
    both_up(&x);
    cr_assert(span_starts(span_of(stream_tls_text(x.b.s)), SPAN("TLSv1.2 ECDHE-RSA-")));
    cr_assert_eq(asked_n, 1);
    end_both(&x);
}

Test(net_signer, rsa_tls12_pkcs1, .init = setup_rsa, .fini = teardown)
{
    struct both x = {0};
    only_tls12();
    cr_assert(SSL_CTX_set1_sigalgs_list(*(SSL_CTX **)client, "RSA+SHA256"));
    both_up(&x);
    cr_assert_eq(last_scheme, 0x0401);
    end_both(&x);
}

/* There is no key exchange that would need a decryption. */
Test(net_signer, rsa_key_exchange_is_not_served, .init = setup_rsa, .fini = teardown)
{
    struct both x = {0};
    only_tls12();
    cr_assert(SSL_CTX_set_cipher_list(*(SSL_CTX **)client, "AES256-GCM-SHA384:AES128-SHA"));
    begin(&x);
    x.b.stop_on = "X";
    run_for(l, 5000);
    cr_assert_eq(asked_n, 0);
    end_both(&x);
}

Test(net_signer, ecdsa_tls13, .init = setup_ec, .fini = teardown)
{
    struct both x = {0};
    both_up(&x);
    cr_assert_eq(last_scheme, 0x0403);
    end_both(&x);
}

Test(net_signer, ecdsa_tls12, .init = setup_ec, .fini = teardown)
{
    struct both x = {0};
    only_tls12();
    both_up(&x);
    cr_assert(span_starts(span_of(stream_tls_text(x.b.s)), SPAN("TLSv1.2 ECDHE-ECDSA-")));
    end_both(&x);
}

Test(net_signer, the_certificate_binds_channels_as_ever, .init = setup_ec, .fini = teardown)
{
    struct both x = {0};
    struct stream_binding mine, theirs;
    both_up(&x);
    stream_tls_binding(x.b.s, &mine);
    stream_tls_binding(x.a.s, &theirs);
    cr_assert(mine.exporter_n == 32 && memcmp(mine.exporter, theirs.exporter, 32) == 0 && mine.end_point_n == 32);
    end_both(&x);
}

static void when_asked(void *ctx)
{
    if (asked_n >= *(unsigned *)ctx)
        loop_stop(l);
}

/* Runs until so many signatures are wanted and none is made. */
static void run_until_asked(unsigned n)
{
    struct timer *t = timer_new(l, when_asked, &n);
    for (int i = 0; i < 5000 && asked_n < n; i++) {
        timer_start(t, 1);
        struct timer *out = timer_new(l, (timer_fn *)loop_stop, l);
        timer_start(out, 5);
        loop_run(l);
        timer_free(&out);
    }
    timer_free(&t);
    cr_assert_geq(asked_n, n);
}

/* A slow signature delays its own handshake only. */
Test(net_signer, one_waits_the_other_goes_on, .init = setup_rsa, .fini = teardown)
{
    struct both slow = {0}, fast = {0};
    mood = HOLD;
    begin(&slow);
    run_until_asked(1);
    struct asked kept = asked[0];
    asked[0].fn = NULL; /* answered by nobody but us */
    mood = PROMPT;
    both_up(&fast);
    cr_assert_not(stream_is_tls(slow.b.s));
    ups = 0;
    ups_wanted = 2;
    kept.fn(kept.ctx, span_make(kept.signature, kept.n), NULL);
    run_for(l, 5000);
    cr_assert(stream_is_tls(slow.a.s) && stream_is_tls(slow.b.s));
    end_both(&slow);
    end_both(&fast);
}

Test(net_signer, a_refusal_ends_that_handshake, .init = setup_ec, .fini = teardown)
{
    struct both x = {0};
    mood = REFUSE;
    begin(&x);
    x.b.stop_on = "X";
    run_for(l, 5000);
    cr_assert_str_eq(stream_error(x.b.s), "TLS handshake: no signature: not today");
    end_both(&x);
    mood = PROMPT;
    both_up(&x);
    end_both(&x);
}

Test(net_signer, a_wrong_signature_is_seen_by_the_client, .init = setup_ec, .fini = teardown)
{
    struct both x = {0};
    mood = GARBAGE;
    begin(&x);
    x.a.stop_on = "X";
    run_for(l, 5000);
    cr_assert_not(stream_is_tls(x.a.s));
    end_both(&x);
}

/* The connection goes away while its signature is awaited: nothing is left behind (the sanitizers look), nothing is
 * answered to it. */
Test(net_signer, a_lost_answer_and_a_lost_client, .init = setup_rsa, .fini = teardown)
{
    struct both x = {0};
    mood = HOLD;
    for (unsigned i = 1; i <= 20; i++) {
        begin(&x);
        run_until_asked(i);
        end_both(&x);
        cr_assert_eq(forgotten, i);
    }
    mood = PROMPT;
    both_up(&x);
    end_both(&x);
}

/* More handshakes than there are jobs: the rest waits for its turn. */
Test(net_signer, many_wait, .init = setup_ec, .fini = teardown, .timeout = 60)
{
    enum { MANY = 530 };
    struct both *x = mem_array(MANY, sizeof *x);
    mood = HOLD;
    ups = 0;
    ups_wanted = 2 * MANY;
    for (unsigned i = 0; i < MANY; i++)
        begin(&x[i]);
    run_until_asked(512);
    cr_assert_eq(asked_n, 512);
    end_both(&x[MANY - 1]); /* one that waits for its turn goes */
    ups_wanted -= 2;
    mood = PROMPT;
    loop_defer(l, &answers);
    run_for(l, 30000);
    cr_assert_eq(asked_n, MANY - 1);
    for (unsigned i = 0; i < MANY - 1; i++)
        end_both(&x[i]);
    mem_free(&x);
}
