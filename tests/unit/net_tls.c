#include <criterion/criterion.h>
#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "net/pem.h"
#include "net_support.h"

static struct loop *l;
static struct end a, b; /* a: client, b: server */
static struct test_cert cert;
static struct tls_ctx *server, *client;

static void setup(void)
{
    l = loop_new();
    ends_make(l, &a, &b);
    cert = test_cert_new(TEST_EC, "mail.example.test");
    server = test_server_ctx(&cert, TLS_MIN_1_2, false);
    client = tls_client_new(SPAN_NONE, NULL);
}

static void teardown(void)
{
    end_free(&a);
    end_free(&b);
    tls_unref(&server);
    tls_unref(&client);
    test_cert_free(&cert);
    loop_free(&l);
}

static int ups;

static void count_ups(struct end *e, enum stream_event ev)
{
    if (ev == STREAM_TLS_UP && ++ups == 2)
        loop_stop(e->loop);
}

static void both_up(const char *name)
{
    ups = 0;
    a.on_event = b.on_event = count_ups;
    stream_tls_server(b.s, server);
    stream_tls_client(a.s, client, name);
    run_for(l, 5000);
}

Test(net_tls, handshake_and_bytes_both_ways, .init = setup, .fini = teardown)
{
    stream_write(a.s, SPAN("queued before")); /* after the start of TLS it would be in clear; here it is */
    stream_flush(a.s);
    b.stop_at = 13;
    run_for(l, 5000);
    b.got.n = 0;
    cr_assert_str_eq(stream_tls_text(b.s), "");
    both_up("mail.example.test");
    cr_assert(stream_is_tls(a.s) && stream_is_tls(b.s));
    cr_assert(span_starts(span_of(stream_tls_text(b.s)), SPAN("TLSv1.3 TLS_")));
    b.stop_at = 5;
    b.echo = true;
    stream_write(a.s, SPAN("he"));
    stream_write(a.s, SPAN("llo"));
    run_for(l, 5000);
    a.stop_at = 5;
    run_for(l, 5000);
    cr_assert(span_eq(buf_span(&a.got), SPAN("hello")));
    cr_assert_eq(stream_discarded(b.s), 0);
}

/* RFC9266:2 RFC9266:4.2 both sides have the same bytes, another session other ones; RFC5929:4.1 the hash of the certificate. */
Test(net_tls, channel_bindings, .init = setup, .fini = teardown)
{
    struct stream_binding client_side, server_side, none;
    uint8_t hash[32];
    unsigned n = 0;
    stream_tls_binding(b.s, &none);
    cr_assert(none.exporter_n == 0 && none.end_point_n == 0, "nothing before TLS");
    both_up("mail.example.test");
    stream_tls_binding(a.s, &client_side);
    stream_tls_binding(b.s, &server_side);
    cr_assert(server_side.exporter_n == 32 && client_side.exporter_n == 32);
    cr_assert_eq(memcmp(server_side.exporter, client_side.exporter, 32), 0);
    BIO *bio = BIO_new_mem_buf(cert.chain, -1);
    X509 *x = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    cr_assert(x && X509_digest(x, EVP_sha256(), hash, &n) && n == 32);
    cr_assert(server_side.end_point_n == 32 && memcmp(server_side.end_point, hash, 32) == 0);
    X509_free(x);
    BIO_free(bio);
    end_free(&a);
    end_free(&b);
    ends_make(l, &a, &b);
    both_up("mail.example.test");
    struct stream_binding again;
    stream_tls_binding(b.s, &again);
    cr_assert(again.exporter_n == 32 && memcmp(again.exporter, server_side.exporter, 32) != 0);
    cr_assert_eq(memcmp(again.end_point, hash, 32), 0);
}

/* RFC8446:5.1: many records, none larger than allowed */
Test(net_tls, large_transfer_with_back_pressure, .init = setup, .fini = teardown)
{
    enum { BIG = 3 << 20 };
    char *p = mem_alloc(BIG);
    for (size_t i = 0; i < BIG; i++)
        p[i] = (char)(i * 31 >> 3);
    both_up("mail.example.test");
    b.stop_at = BIG;
    cr_assert_not(stream_write(a.s, span_make(p, BIG)));
    stream_pause(b.s);
    stream_resume(b.s);
    run_for(l, 20000);
    cr_assert(span_eq(buf_span(&b.got), span_make(p, BIG)));
    cr_assert(strchr(a.events, 'D'));
    mem_free(&p);
}

Test(net_tls, close_notify_is_an_end, .init = setup, .fini = teardown)
{
    both_up("mail.example.test");
    b.stop_on = "E";
    stream_write(a.s, SPAN("bye"));
    stream_finish(a.s);
    run_for(l, 5000);
    cr_assert(span_eq(buf_span(&b.got), SPAN("bye")));
}

Test(net_tls, an_end_without_close_notify_is_an_end_too, .init = setup, .fini = teardown)
{
    both_up("mail.example.test");
    b.stop_on = "E";
    stream_write(a.s, SPAN("gone"));
    stream_flush(a.s);
    stream_free(&a.s);
    run_for(l, 5000);
    cr_assert(span_eq(buf_span(&b.got), SPAN("gone")));
}

/* A protocol of one command: STARTTLS, answered, then TLS, then an echo. */
static size_t starttls(struct end *e, struct span in)
{
    ptrdiff_t end = span_find(in, '\n');
    if (end < 0)
        return 0;
    if (!stream_is_tls(e->s) && span_istarts(in, SPAN("STARTTLS\r\n"))) {
        stream_write(e->s, SPAN("go ahead\r\n"));
        stream_tls_server(e->s, server);
    } else {
        stream_write(e->s, SPAN("clear? "));
        stream_write(e->s, span_sub(in, 0, (size_t)end + 1));
    }
    return (size_t)end + 1;
}

static size_t client_side(struct end *e, struct span in)
{
    buf_add(&e->got, in);
    if (!stream_is_tls(e->s) && span_find(in, '\n') >= 0)
        stream_tls_client(e->s, client, "mail.example.test");
    else if (stream_is_tls(e->s))
        loop_stop(e->loop);
    return in.n;
}

/* HAZARDS 3: what was sent behind STARTTLS in clear is never run, neither before nor after the handshake. */
Test(net_tls, bytes_behind_starttls_are_discarded, .init = setup, .fini = teardown)
{
    a.on_data = client_side;
    b.on_data = starttls;
    stream_write(a.s, SPAN("STARTTLS\r\nNOOP injected\r\nNOOP again\r\n"));
    b.stop_on = "U";
    run_for(l, 5000);
    cr_assert_eq(stream_discarded(b.s), 27);
    cr_assert(span_eq(buf_span(&a.got), SPAN("go ahead\r\n")));
    stream_write(a.s, SPAN("NOOP mine\r\n"));
    run_for(l, 5000);
    cr_assert(span_eq(buf_span(&a.got), SPAN("go ahead\r\nclear? NOOP mine\r\n")));
}

static size_t never(struct end *e UNUSED, struct span in UNUSED)
{
    cr_assert_fail("clear text reached the owner after TLS was started");
    return 0;
}

Test(net_tls, garbage_instead_of_a_handshake, .init = setup, .fini = teardown)
{
    b.on_data = never;
    stream_tls_server(b.s, server);
    b.stop_on = "X";
    stream_write(a.s, SPAN("GET / HTTP/1.0\r\n\r\n"));
    run_for(l, 5000);
    cr_assert_str_eq(b.events, "X");
    cr_assert(span_istarts(span_of(stream_error(b.s)), SPAN("TLS handshake: ")), "%s", stream_error(b.s));
}

Test(net_tls, finish_within_the_handshake, .init = setup, .fini = teardown)
{
    stream_tls_server(b.s, server);
    stream_write(b.s, SPAN("never sent"));
    stream_finish(b.s);
    b.stop_on = "F";
    run_for(l, 5000);
    cr_assert_str_eq(b.events, "F");
}

Test(net_tls, peer_gone_within_the_handshake, .init = setup, .fini = teardown)
{
    stream_tls_server(b.s, server);
    b.stop_on = "X";
    stream_free(&a.s);
    run_for(l, 5000);
    cr_assert_str_eq(b.events, "X");
}

/* Carries every byte alone between two streams that don't know. */
struct carrier {
    int from, to;
    struct io *io;
};

static void carry(void *ctx, unsigned events UNUSED)
{
    struct carrier *c = ctx;
    char byte;
    if (recv(c->from, &byte, 1, MSG_DONTWAIT) == 1)
        cr_assert_eq(send(c->to, &byte, 1, MSG_NOSIGNAL), 1);
}

Test(net_tls, handshake_byte_by_byte, .init = setup, .fini = teardown)
{
    int x[2], y[2];
    end_free(&a);
    end_free(&b);
    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, x);
    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, y);
    a.s = stream_new(l, x[0], &end_ops, &a);
    b.s = stream_new(l, y[0], &end_ops, &b);
    struct carrier ways[2] = {{x[1], y[1], NULL}, {y[1], x[1], NULL}};
    for (int i = 0; i < 2; i++) {
        ways[i].io = io_new(l, ways[i].from, carry, &ways[i]);
        io_want(ways[i].io, IO_READ);
    }
    both_up("mail.example.test");
    b.stop_at = 300;
    for (int i = 0; i < 100; i++)
        stream_write(a.s, SPAN("abc"));
    run_for(l, 10000);
    cr_assert_eq(b.got.n, 300);
    io_free(&ways[0].io);
    io_free(&ways[1].io);
    close(x[1]);
    close(y[1]);
}

static void verify_with(const char *ca, const char *name, const char *expect)
{
    struct err err;
    tls_unref(&client);
    client = tls_client_new(span_of(ca), &err);
    cr_assert(client, "%s", err.text);
    a.stop_on = "UX";
    stream_tls_server(b.s, server);
    stream_tls_client(a.s, client, name);
    run_for(l, 5000);
    cr_assert_str_eq(a.events, expect, "%s", stream_error(a.s));
}

Test(net_tls, verified_client_accepts_the_right_name, .init = setup, .fini = teardown)
{
    verify_with(cert.chain, "mail.example.test", "U");
}

Test(net_tls, verified_client_refuses_another_name, .init = setup, .fini = teardown)
{
    verify_with(cert.chain, "evil.example.test", "X");
    cr_assert(strstr(stream_error(a.s), "mismatch"), "%s", stream_error(a.s));
}

Test(net_tls, verified_client_refuses_another_authority, .init = setup, .fini = teardown)
{
    struct test_cert other = test_cert_new(TEST_EC, "mail.example.test");
    verify_with(other.chain, "mail.example.test", "X");
    test_cert_free(&other);
}

static const char *bad_server(const char *chain, const char *key)
{
    static struct err err;
    struct tls_server_options o = {.chain_pem = span_of(chain), .key_pem = span_of(key)};
    err.text[0] = '\0';
    struct tls_ctx *c = tls_server_new(&o, &err);
    cr_assert_null(c);
    return err.text;
}

Test(net_tls, certificates_and_keys_are_judged)
{
    struct test_cert ec = test_cert_new(TEST_EC, "a.test"), rsa = test_cert_new(TEST_RSA, "b.test"),
                     ec2 = test_cert_new(TEST_EC, "c.test");
    cr_assert(strstr(bad_server(ec.chain, rsa.key), "not the one of the certificate"));
    cr_assert(strstr(bad_server(ec.chain, ec2.key), "not the one of the certificate"));
    cr_assert(strstr(bad_server("", ec.key), "no certificate"));
    cr_assert(strstr(bad_server("hello", ec.key), "no certificate"));
    cr_assert(strstr(bad_server(ec.chain, ec.chain), "no private key"));
    static const char cut[] = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    cr_assert(strstr(bad_server(cut, ec.key), "can't be read"));
    static const char locked[] = "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"
                                 "DEK-Info: AES-128-CBC,00112233445566778899AABBCCDDEEFF\n\n"
                                 "AAAAAAAAAAAAAAAAAAAAAA==\n-----END EC PRIVATE KEY-----\n";
    cr_assert(strstr(bad_server(ec.chain, locked), "encrypted"));
    struct tls_ctx *c = test_server_ctx(&rsa, TLS_MIN_1_3, true);
    tls_unref(&c);
    test_cert_free(&ec);
    test_cert_free(&rsa);
    test_cert_free(&ec2);
}

Test(net_tls, rsa_key_and_tls_1_3_only, .init = setup, .fini = teardown)
{
    struct test_cert rsa = test_cert_new(TEST_RSA, "mail.example.test");
    tls_unref(&server);
    server = test_server_ctx(&rsa, TLS_MIN_1_3, false);
    both_up("mail.example.test");
    cr_assert(span_starts(span_of(stream_tls_text(a.s)), SPAN("TLSv1.3")));
    test_cert_free(&rsa);
}

/* RFC6066:3: a name that the server does not have is no reason to fail */
Test(net_tls, contexts_may_go_before_their_streams, .init = setup, .fini = teardown)
{
    ups = 0;
    a.on_event = b.on_event = count_ups;
    stream_tls_server(b.s, server);
    stream_tls_client(a.s, client, "x.test");
    tls_unref(&server);
    tls_unref(&client);
    run_for(l, 5000);
}

static int tickets_seen;

static void count_tickets(int writing, int version, int type, const void *p, size_t n, SSL *ssl, void *arg)
{
    (void)version;
    (void)ssl;
    (void)arg;
    if (!writing && type == SSL3_RT_HANDSHAKE && n && *(const unsigned char *)p == SSL3_MT_NEWSESSION_TICKET)
        tickets_seen++;
}

/* HAZARDS 26: an ordinary OpenSSL client counts the NewSessionTicket messages it gets. */
static int tickets_sent(bool tickets)
{
    struct loop *lo = loop_new();
    struct test_cert c = test_cert_new(TEST_EC, "mail.example.test");
    struct tls_ctx *ctx = test_server_ctx(&c, TLS_MIN_1_2, tickets);
    struct end e = {.loop = lo, .stop_at = 2, .echo = true};
    int fd[2];
    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd);
    e.s = stream_new(lo, fd[0], &end_ops, &e);
    stream_tls_server(e.s, ctx);
    SSL_CTX *cc = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(cc);
    SSL_set_fd(ssl, fd[1]);
    SSL_set_connect_state(ssl);
    SSL_set_msg_callback(ssl, count_tickets);
    tickets_seen = 0;
    char got[10];
    size_t have = 0, n;
    bool said = false;
    e.stop_at = 0;
    struct timer *stop = timer_new(lo, (timer_fn *)(void *)loop_stop, lo);
    for (int i = 0; i < 200 && have < 2; i++) {
        if (SSL_do_handshake(ssl) == 1 && !said)
            said = SSL_write(ssl, "hi", 2) == 2;
        if (said && SSL_read_ex(ssl, got, sizeof got, &n) == 1)
            have += n;
        timer_start(stop, 2);
        loop_run(lo);
    }
    cr_assert_eq(have, 2);
    timer_free(&stop);
    SSL_free(ssl);
    SSL_CTX_free(cc);
    close(fd[1]);
    end_free(&e);
    tls_unref(&ctx);
    test_cert_free(&c);
    loop_free(&lo);
    return tickets_seen;
}

Test(net_tls, no_session_tickets_when_off)
{
    cr_assert_eq(tickets_sent(false), 0);
    cr_assert_eq(tickets_sent(true), 1);
}

Test(net_tls, pem_files)
{
    char path[] = "/tmp/net-tls-XXXXXX", *pem;
    int fd = mkstemp(path);
    size_t n;
    struct err err;
    unlink(path);
    cr_assert_eq(pem_read(fd, &pem, &n, &err), -1);
    cr_assert(strstr(err.text, "empty"));
    cr_assert_eq(write(fd, "some text", 9), 9);
    cr_assert_eq(pem_read(fd, &pem, &n, &err), 0); /* from the start, wherever the position is */
    cr_assert(n == 9 && memcmp(pem, "some text", 9) == 0);
    pem_free(&pem, n);
    cr_assert_null(pem);
    cr_assert_eq(ftruncate(fd, (1 << 20) + 1), 0);
    cr_assert_eq(pem_read(fd, &pem, &n, &err), -1);
    close(fd);
}

/* RFC5321:4.5.3.2: the time of a handshake is one for all of it; single bytes win none. */
static const char drops[] = "\x16\x03\x01\x3f\xff";
static size_t dropped;
static struct timer *dropper;

static void drop_one(void *ctx)
{
    char c = dropped < 5 ? drops[dropped] : 0;
    (void)ctx;
    dropped++;
    stream_write(a.s, span_make(&c, 1));
    timer_start(dropper, 10);
}

Test(net_tls, single_bytes_keep_no_handshake_alive, .init = setup, .fini = teardown)
{
    dropped = 0;
    dropper = timer_new(l, drop_one, NULL);
    stream_tls_server(b.s, server);
    stream_timeout(b.s, 300);
    b.stop_on = "T";
    timer_start(dropper, 10);
    run_for(l, 20000);
    cr_assert_eq(b.event_count, 1);
    cr_assert_gt(dropped, 1);
    timer_free(&dropper);
}
