#include <criterion/criterion.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "front_support.h"

static const struct house imap = {.protocol = CONF_PROTOCOL_IMAP, .tls = CONF_TLS_STARTTLS};
static const struct house imaps = {.protocol = CONF_PROTOCOL_IMAP, .tls = CONF_TLS_IMPLICIT};
static const struct house clear = {.protocol = CONF_PROTOCOL_IMAP, .tls = CONF_TLS_NONE, .plaintext_login = true};
static const struct house pop3 = {.protocol = CONF_PROTOCOL_POP3, .tls = CONF_TLS_STARTTLS};

TestSuite(front, .timeout = 60);

Test(front, login_over_implicit_tls_and_bytes_both_ways)
{
    front_up(&imaps);
    struct end *c = client_new_tls();
    expect(c, "* OK [CAPABILITY IMAP4rev1 ");
    expect(c, "AUTH=PLAIN");
    tell(c, "a1 LOGIN alice@example.test right\r\n");
    expect(c, "a1OK you are in\r\n");
    cr_assert_str_eq(fakes.user, "alice@example.test");
    cr_assert_str_eq(fakes.mechanism, "PLAIN");
    cr_assert_str_eq(fakes.remote, "127.0.0.1");
    cr_assert(fakes.tls);
    tell(c, "a2 anything \x01\x02 goes\r\n");
    expect(c, "a2 anything \x01\x02 goes\r\n");
    tell(c, "a3 LOGOUT\r\n");
    expect(c, "* BYE\r\n");
    expect_end(c);
    client_free(&c);
    cr_assert_geq(fakes.forgets, 1);
    front_down();
}

/* HAZARDS 4 */
Test(front, no_login_without_tls_then_starttls)
{
    front_up(&imap);
    struct end *c = client_new();
    expect(c, "STARTTLS LOGINDISABLED");
    expect(c, "ready\r\n");
    tell(c, "a LOGIN alice right\r\nb AUTHENTICATE PLAIN AGEAcmlnaHQ=\r\n");
    expect(c, "a NO [PRIVACYREQUIRED]");
    expect(c, "b NO [PRIVACYREQUIRED]");
    tell(c, "c STARTTLS\r\n");
    expect(c, "c OK begin TLS now\r\n");
    client_tls(c);
    tell(c, "d CAPABILITY\r\n");
    expect(c, "* CAPABILITY IMAP4rev1 LITERAL+ ID SASL-IR AUTH=PLAIN\r\nd OK");
    tell(c, "e AUTHENTICATE PLAIN\r\n");
    expect(c, "+ \r\n");
    tell(c, "AGJvYgByaWdodA==\r\n");
    expect(c, "eOK you are in\r\n");
    cr_assert(fakes.begins == 1 && fakes.steps == 1 && !fakes.has_initial);
    client_free(&c);
    front_down();
}

/* HAZARDS 3: commands behind STARTTLS in the same segment. */
Test(front, commands_behind_starttls_are_dropped)
{
    front_up(&imap);
    struct end *c = client_new();
    expect(c, "ready\r\n");
    tell(c, "a STARTTLS\r\nb NOOP\r\nc LOGIN eve right\r\n");
    expect(c, "a OK begin TLS now\r\n");
    client_tls(c);
    tell(c, "d NOOP\r\n");
    expect(c, "d OK");
    cr_assert_eq(span_search(buf_span(&c->got), SPAN("b OK")), -1);
    cr_assert_eq(fakes.begins, 0);
    client_free(&c);
    front_down();
}

Test(front, plaintext_where_configured_and_pipelined_commands_follow)
{
    front_up(&clear);
    struct end *c = client_new();
    expect(c, "ready\r\n");
    tell(c, "a LOGIN {5+}\r\nalice {5}\r\n");
    expect(c, "+ ");
    tell(c, "right\r\nb SELECT INBOX\r\nc NOOP\r\n");
    expect(c, "aOK you are in\r\n");
    /* from the echo: they reached the account's process, in order, after the answer */
    expect(c, "b SELECT INBOX\r\nc NOOP\r\n");
    cr_assert_not(fakes.tls);
    client_free(&c);
    front_down();
}

Test(front, wrong_passwords_wait_and_then_end_the_session)
{
    struct house h = clear;
    h.max_failures = 2;
    front_up(&h);
    struct end *c = client_new();
    expect(c, "ready\r\n");
    int64_t began = loop_now(front_loop);
    tell(c, "a LOGIN alice wrong\r\nb NOOP\r\n");
    expect(c, "a NO [AUTHENTICATIONFAILED]");
    cr_assert_geq(loop_now(front_loop) - began, 900);
    expect(c, "b OK");
    tell(c, "c LOGIN alice wrong\r\n");
    expect(c, "c NO [AUTHENTICATIONFAILED]");
    cr_assert_geq(loop_now(front_loop) - began, 2800, "longer each time");
    expect(c, "* BYE");
    expect_end(c);
    client_free(&c);
    front_down();
}

Test(front, authd_says_later)
{
    front_up(&clear);
    struct end *c = client_new();
    expect(c, "ready\r\n");
    tell(c, "a LOGIN alice later\r\n");
    expect(c, "a NO [UNAVAILABLE]");
    fakes.no_mda = true;
    tell(c, "b LOGIN alice right\r\n");
    expect(c, "b NO [UNAVAILABLE]");
    fakes.no_mda = false;
    tell(c, "c LOGIN alice right\r\n");
    expect(c, "cOK you are in\r\n");
    client_free(&c);
    front_down();
}

Test(front, authd_dies_within_a_login)
{
    front_up(&clear);
    struct end *c = client_new(), *in = client_new();
    expect(c, "ready\r\n");
    tell(in, "x LOGIN bob right\r\n");
    expect(in, "xOK you are in\r\n");
    fakes.silent = true;
    tell(c, "a LOGIN alice right\r\n");
    pass_time(100);
    authd_gone();
    expect(c, "a NO [UNAVAILABLE]");
    tell(in, "still here\r\n");
    expect(in, "still here\r\n");
    fakes.silent = false;
    authd_back();
    tell(c, "b LOGIN alice right\r\n");
    expect(c, "bOK you are in\r\n");
    client_free(&c);
    client_free(&in);
    front_down();
}

Test(front, a_client_that_leaves_within_a_login)
{
    front_up(&clear);
    struct end *c = client_new();
    expect(c, "ready\r\n");
    fakes.silent = true;
    tell(c, "a LOGIN alice right\r\n");
    pass_time(100);
    cr_assert_eq(fakes.begins, 1);
    client_free(&c);
    /* It is not read while authd thinks, so its end shows at the latest when the answer comes: a second client is
     * served meanwhile. */
    fakes.silent = false;
    c = client_new();
    expect(c, "ready\r\n");
    tell(c, "b LOGIN alice right\r\n");
    expect(c, "bOK you are in\r\n");
    client_free(&c);
    front_down();
}

Test(front, the_clients_half_close_reaches_the_account)
{
    front_up(&clear);
    struct end *c = client_new();
    expect(c, "ready\r\n");
    tell(c, "a LOGIN alice right\r\n");
    expect(c, "aOK you are in\r\n");
    tell(c, "bye");
    stream_shutdown_write(c->s);
    expect(c, "bye");
    expect_end(c);
    cr_assert_null(fakes.mda.s);
    client_free(&c);
    front_down();
}

Test(front, the_accounts_end_is_the_clients)
{
    front_up(&imaps);
    struct end *c = client_new_tls();
    tell(c, "a LOGIN alice right\r\n");
    expect(c, "aOK you are in\r\n");
    stream_write(fakes.mda.s, SPAN("* BYE crashed\r\n"));
    stream_flush(fakes.mda.s);
    stream_free(&fakes.mda.s);
    expect(c, "* BYE crashed\r\n");
    expect_end(c);
    client_free(&c);
    front_down();
}

/* Ten megabytes to a client that does not read: what is held in between is bounded, and all of it arrives once it
 * reads. */
Test(front, back_pressure_from_client_to_account)
{
    enum { BIG = 10 << 20 };
    front_up(&imaps);
    struct end *c = client_new_tls();
    fakes.mda_quiet = true;
    tell(c, "a LOGIN alice right\r\n");
    while (!fakes.mda.s)
        pass_time(10);
    char *p = mem_alloc(BIG);
    memset(p, 'm', BIG);
    memcpy(p + BIG - 5, "END\r\n", 5);
    stream_pause(c->s);
    stream_write(fakes.mda.s, span_make(p, BIG));
    pass_time(300);
    cr_assert_gt(stream_pending(fakes.mda.s), BIG / 4, "the front took nearly everything though nobody reads");
    stream_resume(c->s);
    expect(c, "END\r\n");
    cr_assert_eq(stream_pending(fakes.mda.s), 0);
    mem_free(&p);
    client_free(&c);
    front_down();
}

Test(front, renewed_certificates_serve_new_connections)
{
    front_up(&imaps);
    struct end *old = client_new_tls();
    expect(old, "ready\r\n");
    struct test_cert fresh = test_cert_new(TEST_RSA, "mail.example.test");
    front_renew(&fresh);
    struct test_cert was = front_cert;
    front_cert = fresh; /* what clients trust: the handshake below fails with the old one */
    struct end *c = client_new_tls();
    expect(c, "ready\r\n");
    tell(old, "a NOOP\r\n");
    expect(old, "a OK");
    front_renew(&(struct test_cert){.chain = (char *)(uintptr_t) "broken", .key = (char *)(uintptr_t) "broken"});
    struct end *d = client_new_tls(); /* a broken file leaves what we have in use */
    expect(d, "ready\r\n");
    client_free(&old);
    client_free(&c);
    client_free(&d);
    test_cert_free(&was);
    front_down();
}

Test(front, connection_limits)
{
    struct house h = clear;
    h.max_connections = 3;
    h.max_each = 2;
    front_up(&h);
    struct end *a = client_new(), *b = client_new();
    expect(a, "ready\r\n");
    expect(b, "ready\r\n");
    struct end *c = client_new();
    expect(c, "* BYE [UNAVAILABLE]");
    expect_end(c);
    client_free(&a);
    client_free(&c);
    pass_time(50);
    c = client_new();
    expect(c, "ready\r\n");
    client_free(&b);
    client_free(&c);
    front_down();
}

Test(front, silent_clients_are_let_go)
{
    struct house h = clear;
    h.login_timeout = 300;
    front_up(&h);
    struct end *c = client_new();
    expect(c, "ready\r\n");
    expect(c, "* BYE");
    expect_end(c);
    client_free(&c);
    front_down();
}

/* What it says wins no time; what we take for an answer does not count. */
Test(front, clients_that_never_log_in_are_let_go)
{
    struct house h = clear;
    h.login_timeout = 1000;
    front_up(&h);
    struct end *c = client_new();
    expect(c, "ready\r\n");
    tell(c, "a LOGIN alice wrong\r\n"); /* its answer takes a second */
    expect(c, "a NO");
    unsigned said = 0;
    while (!strpbrk(c->events, "EX") && said < 10000) {
        tell(c, said % 2 ? "b NOOP\r\n" : "c"); /* whole commands as well as single bytes */
        pass_time(10);
        said++;
    }
    cr_assert(said > 1 && said < 10000, "%u", said);
    expect(c, "* BYE");
    expect_end(c);
    client_free(&c);
    front_down();
}

Test(front, silent_handshakes_are_let_go)
{
    struct house h = imaps;
    h.login_timeout = 300;
    front_up(&h);
    struct end *c = client_new();
    expect_end(c);
    client_free(&c);
    front_down();
}

Test(front, garbage_is_bounded)
{
    front_up(&imap);
    struct end *c = client_new();
    expect(c, "ready\r\n");
    char *big = mem_alloc(1 << 20);
    memset(big, 'x', 1 << 20);
    for (int i = 0; i < 10; i++)
        stream_write(c->s, span_make(big, 1 << 20));
    tell(c, "\r\na NOOP\r\n");
    expect(c, "BAD");
    expect(c, "a OK");
    tell(c, "a LOGIN {99999999}\r\n");
    expect(c, "a BAD");
    for (int i = 0; i < 20; i++)
        tell(c, "b FETCH 1 ALL\r\n");
    expect(c, "* BYE");
    expect_end(c);
    mem_free(&big);
    client_free(&c);
    front_down();
}

Test(front, a_drain_lets_sessions_finish)
{
    front_up(&clear);
    struct end *idle = client_new(), *in = client_new();
    expect(idle, "ready\r\n");
    tell(in, "a LOGIN alice right\r\n");
    expect(in, "aOK you are in\r\n");
    front_drain();
    expect(idle, "* BYE [UNAVAILABLE]");
    expect_end(idle);
    cr_assert_not(front_is_done());
    tell(in, "b LOGOUT\r\n");
    expect(in, "* BYE\r\n");
    if (!front_is_done())
        pass_time(1000);
    cr_assert(front_is_done());
    client_free(&idle);
    client_free(&in);
    front_down();
}

Test(front, pop3)
{
    front_up(&pop3);
    struct end *c = client_new();
    expect(c, "+OK mail.example.test ready\r\n");
    tell(c, "USER alice@example.test\r\n");
    expect(c, "-ERR STLS first");
    tell(c, "CAPA\r\n");
    expect(c, "STLS\r\n.\r\n");
    tell(c, "STLS\r\nUSER evil\r\n");
    expect(c, "+OK begin TLS\r\n");
    client_tls(c);
    tell(c, "PASS right\r\n");
    expect(c, "-ERR USER first\r\n");
    tell(c, "USER alice@example.test\r\nPASS right\r\nSTAT\r\n");
    expect(c, "+OK now PASS\r\n");
    expect(c, "+OK you are in\r\n");
    expect(c, "STAT\r\n");
    cr_assert_str_eq(fakes.user, "alice@example.test");
    client_free(&c);
    c = client_new();
    client_free(&c);
    front_down();
}

Test(front, pop3_logins_that_fail)
{
    struct house h = pop3;
    h.tls = CONF_TLS_NONE;
    h.plaintext_login = true;
    front_up(&h);
    struct end *c = client_new();
    expect(c, "ready\r\n");
    tell(c, "USER a\r\nPASS wrong\r\n");
    expect(c, "-ERR [AUTH]");
    tell(c, "AUTH PLAIN AGEAbGF0ZXI=\r\n");
    expect(c, "-ERR [SYS/TEMP]");
    fakes.silent = true;
    tell(c, "USER a\r\nPASS right\r\n");
    pass_time(100);
    authd_gone();
    expect(c, "-ERR [SYS/TEMP]");
    client_free(&c);
    front_down();
}
