/* The part of authd_authd.c about SCRAM (RFC5802, RFC7677): verifiers, names that are not there, bindings; and about
 * app passwords. */
#include "scram_client.h"

static void keep_verifier(const char *password)
{
    struct scram_verifier v;
    char text[SCRAM_TEXT_MAX];
    static const uint8_t salt[SCRAM_SALT] = "of an older one";
    scram_derive(SCRAM_SHA_256, span_of(password), salt, SCRAM_ITERATIONS, &v);
    scram_put(&v, text);
    cr_assert_eq(directory_account_get(authd.directory, alice.id, &alice, &err), DIR_OK);
    cr_assert_eq(directory_account_scram(authd.directory, alice.id, alice.hash, SCRAM_SHA_256, text, &err), 0);
}

static void step(int fd, uint64_t session, struct span response)
{
    struct msg m = {.type = MSG_auth_step, .id = ++next_id, .auth_step = {.session = session, .response = response}};
    tell(fd, m, -1);
}

/* The first two messages; `server` gets the server's first. */
static void scram_begins(uint64_t session, const char *mechanism, const char *gs2, const char *user, struct buf *server)
{
    struct buf first = {0};
    struct msg m = {.type = MSG_auth_begin, .id = ++next_id};
    buf_printf(&first, "%sn=%s,r=abc", gs2, user);
    m.auth_begin = (struct msg_auth_begin){.session = session,
                                           .protocol = CONF_PROTOCOL_IMAP,
                                           .mechanism = span_of(mechanism),
                                           .remote = SPAN("192.0.2.1"),
                                           .tls = 1,
                                           .has_initial = 1,
                                           .initial = buf_span(&first),
                                           .exporter = SPAN("this session"),
                                           .end_point = SPAN("this certificate")};
    tell(imapd_fd, m, -1);
    expect(imapd_fd, MSG_auth_challenge);
    buf_clear(server);
    buf_add(server, got.auth_challenge.challenge);
    buf_free(&first);
}

/* To the end: what auth_result says. */
static unsigned scram_login(const char *mechanism, const char *gs2, const char *bound, const char *user,
                            const char *password)
{
    struct buf server = {0}, bare = {0}, last = {0};
    scram_begins(1, mechanism, gs2, user, &server);
    buf_printf(&bare, "n=%s,r=abc", user);
    scram_client_answer(span_of(gs2), span_of(bound), buf_span(&bare), buf_span(&server), span_of(password), &last);
    step(imapd_fd, 1, buf_span(&last));
    for (int i = 0; i < 300 && !readable(imapd_fd); i++)
        pump(10);
    cr_assert_eq(chan_recv_now(imapd_fd, ROLE_AUTHD, &frame, &got, &got_fd, &err), 1);
    if (got.type == MSG_auth_challenge) {
        cr_assert(span_starts(got.auth_challenge.challenge, SPAN("v=")));
        cr_assert_eq(logins_account(authd.logins, ROLE_IMAPD, 0, 1), 0, "not before the client has agreed");
        step(imapd_fd, 1, SPAN(""));
        expect(imapd_fd, MSG_auth_result);
    }
    cr_assert_eq((int)got.type, (int)MSG_auth_result);
    buf_free(&server);
    buf_free(&bare);
    buf_free(&last);
    return got.auth_result.kind;
}

Test(authd, scram)
{
    keep_verifier("secret");
    cr_expect_eq(scram_login("SCRAM-SHA-256", "n,,", "", "Alice@Example.test", "secret"), 2);
    cr_expect_eq(logins_account(authd.logins, ROLE_IMAPD, 0, 1), alice.id);
    cr_expect(span_eqs(got.auth_result.login, "alice@example.test"));
    cr_expect_eq(scram_login("SCRAM-SHA-256", "n,,", "", "alice@example.test", "wrong"), 5);
    cr_expect(span_eqs(got.auth_result.why, "authentication failed") && got.auth_result.detail == 8);
    cr_expect_eq(scram_login("SCRAM-SHA-256", "n,a=alice@example.test,", "", "alice@example.test", "secret"), 2);
    add("bob@example.test", "secret");
    cr_expect_eq(scram_login("SCRAM-SHA-256", "n,a=bob@example.test,", "", "alice@example.test", "secret"), 5);
    const char *plus = "SCRAM-SHA-256-PLUS", *who = "alice@example.test";
    cr_expect_eq(scram_login(plus, "p=tls-exporter,,", "this session", who, "secret"), 2);
    cr_expect_eq(scram_login(plus, "p=tls-server-end-point,,", "this certificate", who, "secret"), 2);
    /* HAZARDS 24: the right password over another's channel */
    cr_expect_eq(scram_login(plus, "p=tls-exporter,,", "another one", who, "secret"), 5);
    cr_expect_eq(logins_account(authd.logins, ROLE_IMAPD, 0, 1), 0);
}

/* RFC5802:6 a client that can bind and was not shown -PLUS; -PLUS without TLS is not there. */
Test(authd, scram_downgrade)
{
    struct msg m = {.type = MSG_auth_begin, .id = ++next_id};
    m.auth_begin = (struct msg_auth_begin){.session = 1,
                                           .mechanism = SPAN("SCRAM-SHA-256"),
                                           .tls = 1,
                                           .has_initial = 1,
                                           .initial = SPAN("y,,n=alice@example.test,r=abc"),
                                           .end_point = SPAN("this certificate")};
    tell(imapd_fd, m, -1);
    expect(imapd_fd, MSG_auth_result);
    cr_assert(got.auth_result.kind == 5 && got.auth_result.subject == 7);
    m.id = ++next_id;
    m.auth_begin.mechanism = SPAN("SCRAM-SHA-256-PLUS");
    m.auth_begin.tls = 0;
    tell(imapd_fd, m, -1);
    expect(imapd_fd, MSG_auth_result);
    cr_assert(got.auth_result.kind == 5 && got.auth_result.subject == 5, "no such mechanism without TLS");
}

static void challenge_for(const char *user, struct buf *salt)
{
    struct buf server = {0};
    scram_begins(9, "SCRAM-SHA-256", "n,,", user, &server);
    struct span rest = buf_span(&server);
    span_cut(&rest, ',');
    buf_clear(salt);
    buf_add(salt, rest);
    buf_free(&server);
}

/* Nobody learns by asking which accounts there are: RFC5802:9 and HAZARDS 24. */
Test(authd, scram_names_that_are_not_there_look_the_same)
{
    struct buf one = {0}, two = {0}, real = {0};
    keep_verifier("secret");
    challenge_for("alice@example.test", &real);
    challenge_for("nobody@example.test", &one);
    cr_assert_eq(one.n, real.n);
    cr_assert_not(span_eq(buf_span(&one), buf_span(&real)));
    challenge_for("nobody@example.test", &two);
    cr_assert(span_eq(buf_span(&one), buf_span(&two)), "the same salt each time");
    challenge_for("NoBody@EXAMPLE.test", &two);
    cr_assert(span_eq(buf_span(&one), buf_span(&two)), "however it is written");
    challenge_for("other@example.test", &two);
    cr_assert_not(span_eq(buf_span(&one), buf_span(&two)));
    directory_close(&authd.directory);
    struct directory_options o = {.uid_first = 200000, .uid_last = 299999, .hostname = SPAN("mx.example.test")};
    cr_assert_eq(directory_open(&authd.directory, dir, &o, &err), 0);
    challenge_for("nobody@example.test", &two);
    cr_assert(span_eq(buf_span(&one), buf_span(&two)), "after a restart, too");
    cr_expect_eq(scram_login("SCRAM-SHA-256", "n,,", "", "nobody@example.test", "secret"), 5);
    cr_expect_eq(scram_login("SCRAM-SHA-256", "n,,", "", "not an address", "secret"), 5);
    cr_assert_eq(directory_account_set_state(authd.directory, alice.id, ACCOUNT_DISABLED, &err), DIR_OK);
    cr_expect_eq(scram_login("SCRAM-SHA-256", "n,,", "", "alice@example.test", "secret"), 5);
    buf_free(&one);
    buf_free(&two);
    buf_free(&real);
}

Test(authd, an_account_of_before_gets_its_verifier_at_a_login)
{
    cr_expect_eq(scram_login("SCRAM-SHA-256", "n,,", "", "alice@example.test", "secret"), 5);
    ask_login(imapd_fd, 2, "PLAIN", SPAN("\0alice@example.test\0wrong"));
    expect(imapd_fd, MSG_auth_result);
    cr_assert_eq(directory_account_get(authd.directory, alice.id, &alice, &err), DIR_OK);
    cr_assert_str_empty(alice.scram[0]);
    login(imapd_fd, 2);
    cr_expect_eq(scram_login("SCRAM-SHA-256", "n,,", "", "alice@example.test", "secret"), 2);
    /* a verifier belongs to the password it was made of */
    cr_assert_eq(directory_account_scram(authd.directory, alice.id, "another hash", SCRAM_SHA_256, "x", &err), 0);
    cr_expect_eq(scram_login("SCRAM-SHA-256", "n,,", "", "alice@example.test", "secret"), 2);
    cr_assert_eq(directory_account_passwd(authd.directory, alice.id, alice.hash, &err), DIR_OK);
    cr_assert_eq(directory_account_get(authd.directory, alice.id, &alice, &err), DIR_OK);
    cr_assert_str_empty(alice.scram[0], "gone with the password");
    keep_verifier("secret");
    cr_assert_eq(directory_scram_drop(authd.directory, SCRAM_SHA_256, &err), 0);
    cr_expect_eq(scram_login("SCRAM-SHA-256", "n,,", "", "alice@example.test", "secret"), 5);
}

Test(authd, scram_ends_with_the_account)
{
    struct buf server = {0}, last = {0};
    keep_verifier("secret");
    scram_begins(1, "SCRAM-SHA-256", "n,,", "alice@example.test", &server);
    scram_client_answer(SPAN("n,,"), SPAN(""), SPAN("n=alice@example.test,r=abc"), buf_span(&server), SPAN("secret"),
                        &last);
    step(imapd_fd, 1, buf_span(&last));
    expect(imapd_fd, MSG_auth_challenge);
    cr_assert_eq(directory_account_set_state(authd.directory, alice.id, ACCOUNT_DISABLED, &err), DIR_OK);
    step(imapd_fd, 1, SPAN(""));
    expect(imapd_fd, MSG_auth_result);
    cr_assert_eq(got.auth_result.kind, 5);
    buf_free(&server);
    buf_free(&last);
}

/* ---- app passwords ---- */

static unsigned plain_login(uint64_t session, const char *password)
{
    struct buf plain = {0};
    buf_addc(&plain, 0);
    buf_adds(&plain, "alice@example.test");
    buf_addc(&plain, 0);
    buf_adds(&plain, password);
    ask_login(imapd_fd, session, "PLAIN", buf_span(&plain));
    expect(imapd_fd, MSG_auth_result);
    buf_free(&plain);
    return got.auth_result.kind;
}

static void count_one(void *ctx, int64_t id UNUSED, struct span scram UNUSED)
{
    ++*(unsigned *)ctx;
}

static void wait_verifiers(unsigned want)
{
    unsigned n = 0;
    for (int i = 0; i < 300 && n != want; i++) {
        n = 0;
        cr_assert_eq(directory_app_scrams(authd.directory, alice.id, APP_SMTP | APP_IMAP | APP_POP3, count_one, &n, &err), 0);
        pump(10);
    }
    cr_assert_eq(n, want);
}

Test(authd, app_passwords)
{
    char phone[APP_PASSWORD_SIZE], printer[APP_PASSWORD_SIZE];
    keep_verifier("secret");
    cr_assert_eq(directory_app_add(authd.directory, alice.id, SPAN("phone"), APP_IMAP, 1, phone, &err), DIR_OK);
    cr_assert_eq(directory_app_add(authd.directory, alice.id, SPAN("printer"), APP_SMTP, 1, printer, &err), DIR_OK);
    cr_expect_eq(plain_login(1, phone), 2);
    cr_expect(span_eqs(got.auth_result.login, "alice@example.test"));
    cr_expect_eq(logins_account(authd.logins, ROLE_IMAPD, 0, 1), alice.id);
    cr_expect_eq(plain_login(1, printer), 5, "not for this door");
    cr_expect_eq(logins_account(authd.logins, ROLE_IMAPD, 0, 1), 0);
    cr_expect(span_eqs(got.auth_result.why, "authentication failed"));
    cr_expect_eq(plain_login(1, "secret"), 2, "the main one goes on");
    cr_assert_eq(directory_app_remove(authd.directory, alice.id, SPAN("phone"), &err), DIR_OK);
    cr_expect_eq(plain_login(1, phone), 5);
    cr_assert_eq(directory_app_add(authd.directory, alice.id, SPAN("phone"), APP_IMAP, 1, phone, &err), DIR_OK);
    cr_assert_eq(directory_account_set_state(authd.directory, alice.id, ACCOUNT_DISABLED, &err), DIR_OK);
    cr_expect_eq(plain_login(1, phone), 5, "a disabled account has none");
}

/* What SCRAM needs of them is made at their login with PLAIN, with the salt of the main one: the proof says which it was. */
Test(authd, app_passwords_by_scram)
{
    char phone[APP_PASSWORD_SIZE], printer[APP_PASSWORD_SIZE];
    const char *who = "alice@example.test", *scram = "SCRAM-SHA-256";
    struct buf server = {0}, last = {0};
    keep_verifier("secret");
    cr_assert_eq(directory_app_add(authd.directory, alice.id, SPAN("phone"), APP_IMAP, 1, phone, &err), DIR_OK);
    cr_assert_eq(directory_app_add(authd.directory, alice.id, SPAN("printer"), APP_SMTP, 1, printer, &err), DIR_OK);
    cr_expect_eq(plain_login(1, phone), 2);
    wait_verifiers(1);
    cr_expect_eq(scram_login(scram, "n,,", "", who, phone), 2);
    cr_expect_eq(logins_account(authd.logins, ROLE_IMAPD, 0, 1), alice.id);
    cr_expect_eq(scram_login("SCRAM-SHA-256-PLUS", "p=tls-exporter,,", "this session", who, phone), 2);
    cr_expect_eq(scram_login(scram, "n,,", "", who, "secret"), 2);
    cr_assert(scram_keep_app(&authd, &alice, directory_app_id(authd.directory, alice.id, SPAN("printer"), &err), 0, span_of(printer), NULL, NULL));
    wait_verifiers(2);
    cr_expect_eq(scram_login(scram, "n,,", "", who, printer), 5, "it is not for this door");
    /* one that is removed in the middle of it */
    scram_begins(1, scram, "n,,", who, &server);
    scram_client_answer(SPAN("n,,"), SPAN(""), SPAN("n=alice@example.test,r=abc"), buf_span(&server), span_of(phone), &last);
    step(imapd_fd, 1, buf_span(&last));
    expect(imapd_fd, MSG_auth_challenge);
    cr_assert_eq(directory_app_remove(authd.directory, alice.id, SPAN("phone"), &err), DIR_OK);
    step(imapd_fd, 1, SPAN(""));
    expect(imapd_fd, MSG_auth_result);
    cr_expect_eq(got.auth_result.kind, 5);
    buf_free(&server);
    buf_free(&last);
}

/* Without a verifier of the main password the salt is that of theirs. */
Test(authd, app_passwords_alone_by_scram)
{
    char phone[APP_PASSWORD_SIZE];
    cr_assert_eq(directory_account_get(authd.directory, alice.id, &alice, &err), DIR_OK);
    cr_assert_eq(directory_app_add(authd.directory, alice.id, SPAN("phone"), APP_IMAP, 1, phone, &err), DIR_OK);
    static const uint8_t salt[SCRAM_SALT] = "of an older one";
    struct scram_verifier v;
    char text[SCRAM_TEXT_MAX];
    scram_derive(SCRAM_SHA_256, span_of(phone), salt, SCRAM_ITERATIONS, &v);
    scram_put(&v, text);
    cr_assert_eq(directory_app_scram(authd.directory, directory_app_id(authd.directory, alice.id, SPAN("phone"), &err), text, &err), 0);
    cr_expect_eq(scram_login("SCRAM-SHA-256", "n,,", "", "alice@example.test", phone), 2);
    cr_expect_eq(plain_login(1, "secret"), 2, "and it makes one of the main one, with that salt");
    cr_expect_eq(scram_login("SCRAM-SHA-256", "n,,", "", "alice@example.test", "secret"), 2);
    cr_expect_eq(scram_login("SCRAM-SHA-256", "n,,", "", "alice@example.test", phone), 2);
    conf->accounts.scram = false;
    cr_expect_not(scram_keep_app(&authd, &alice, 1, 0, span_of(phone), NULL, NULL), "switched off: none is kept");
}
