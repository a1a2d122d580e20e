#include <criterion/criterion.h>

#include "base/mem.h"
#include "imap/prelogin.h"

static struct imap_prelogin *p;
static struct buf out;
static struct login_action last;

static void open_with(bool tls, bool starttls, bool clear)
{
    const struct imap_prelogin_options o = {
        .tls = tls, .starttls = starttls, .login_in_clear = clear, .hostname = SPAN("mail.example.test")};
    buf_clear(&out);
    p = imap_prelogin_new(&o, &out);
}

static void done(void)
{
    imap_prelogin_free(&p);
    buf_free(&out);
}

static size_t feed(struct span in)
{
    size_t used = 0, n = 1;
    buf_clear(&out);
    last = (struct login_action){0};
    while (n && used < in.n && last.what == LOGIN_NOTHING) {
        n = imap_prelogin_input(p, span_from(in, used), &out, &last);
        used += n;
    }
    return used;
}

static void expect(struct span in, const char *reply)
{
    feed(in);
    cr_assert(span_starts(buf_span(&out), span_of(reply)), "%.*s → %.*s", SPANV(in), SPANV(buf_span(&out)));
    cr_assert(out.n == 0 || span_ends(buf_span(&out), SPAN("\r\n")));
}

#define EXPECT(in, reply) expect(SPAN(in), reply)
#define NOTHING() cr_assert_eq(last.what, LOGIN_NOTHING)

/* RFC3501:7.1 RFC3501:6.1.1 RFC7888:2 */
Test(imap_prelogin, greetings_say_what_can_be_done, .fini = done)
{
    open_with(false, true, false);
    cr_assert(span_eqs(buf_span(&out),
                       "* OK [CAPABILITY IMAP4rev1 LITERAL+ ID STARTTLS LOGINDISABLED] mail.example.test ready\r\n"));
    imap_prelogin_free(&p);
    open_with(true, true, false);
    cr_assert(span_eqs(buf_span(&out),
                       "* OK [CAPABILITY IMAP4rev1 LITERAL+ ID SASL-IR AUTH=PLAIN] mail.example.test ready\r\n"));
    imap_prelogin_free(&p);
    open_with(false, true, true);
    cr_assert(span_eqs(buf_span(&out),
                       "* OK [CAPABILITY IMAP4rev1 LITERAL+ ID STARTTLS SASL-IR AUTH=PLAIN] "
                       "mail.example.test ready\r\n"));
}

/* RFC3501:6.1 RFC3501:6.2 RFC2971:3.1 */
Test(imap_prelogin, any_state_commands, .fini = done)
{
    open_with(true, false, false);
    EXPECT("a1 NOOP\r\n", "a1 OK ");
    EXPECT("a2 capability\r\n", "* CAPABILITY IMAP4rev1 LITERAL+ ID SASL-IR AUTH=PLAIN\r\na2 OK ");
    EXPECT("a3 ID NIL\r\n", "* ID (");
    EXPECT("a4 ID (\"name\" \"x\" \"version\" NIL)\r\n", "* ID (");
    EXPECT("a5 ID (\"name\" {3}\r\n", "+ ");
    EXPECT("a(b)\r\n", "* ID (");
    EXPECT("a6 ID\r\n", "a6 BAD");
    EXPECT("a7 ID (x)\r\n", "a7 BAD");
    EXPECT("a8 NOOP x\r\n", "a8 BAD");
    NOTHING();
    EXPECT("a9 LOGOUT\r\n", "* BYE ");
    cr_assert_eq(last.what, LOGIN_CLOSE);
    cr_assert(span_search(buf_span(&out), SPAN("\r\na9 OK ")) > 0);
}

static void login_is(struct span in, struct span user, struct span password)
{
    struct buf want = {0};
    feed(in);
    buf_addc(&want, 0);
    buf_add(&want, user);
    buf_addc(&want, 0);
    buf_add(&want, password);
    cr_assert_eq(last.what, LOGIN_BEGIN, "%.*s", SPANV(in));
    cr_assert(span_eqs(last.mechanism, "PLAIN") && last.has_initial);
    cr_assert(span_eq(last.initial, buf_span(&want)), "%.*s", SPANV(in));
    cr_assert(span_eq(last.user, user));
    cr_assert(span_eqs(imap_prelogin_tag(p), "t.1"));
    buf_free(&want);
}

/* RFC3501:6.2.3, RFC7888:3 */
Test(imap_prelogin, login_in_all_spellings, .fini = done)
{
    open_with(true, false, false);
    login_is(SPAN("t.1 LOGIN alice secret\r\n"), SPAN("alice"), SPAN("secret"));
    login_is(SPAN("t.1 login \"al ice\" \"s\\\"e\\\\c\"\r\n"), SPAN("al ice"), SPAN("s\"e\\c"));
    login_is(SPAN("t.1 LOGIN \"\" \"\"\r\n"), SPAN(""), SPAN(""));
    login_is(SPAN("t.1 LOGIN alice@example.test {4+}\r\na\r\nb\r\n"), SPAN("alice@example.test"), SPAN("a\r\nb"));
    login_is(SPAN("t.1 LOGIN {5}\r\nalice {3}\r\n\"\\{\r\n"), SPAN("alice"), SPAN("\"\\{"));
    cr_assert(span_eqs(buf_span(&out), "+ go on\r\n+ go on\r\n"));
    login_is(SPAN("t.1 LOGIN alice {0+}\r\n\r\n"), SPAN("alice"), SPAN(""));
    buf_clear(&out);
    imap_prelogin_refused(p, LOGIN_WRONG, &out);
    cr_assert(span_starts(buf_span(&out), SPAN("t.1 NO [AUTHENTICATIONFAILED] ")));
    buf_clear(&out);
    imap_prelogin_refused(p, LOGIN_LATER, &out);
    cr_assert(span_starts(buf_span(&out), SPAN("t.1 NO [UNAVAILABLE] ")));
}

Test(imap_prelogin, logins_that_are_none, .fini = done)
{
    static const char *const bad[] = {"t LOGIN\r\n", "t LOGIN alice\r\n", "t LOGIN alice a b\r\n",
                                      "t LOGIN  alice b\r\n", "t LOGIN (alice) b\r\n", "t LOGIN \"alice b\r\n",
                                      "t LOGIN alice \"b\\n\"\r\n"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        open_with(true, false, false);
        expect(span_of(bad[i]), "t BAD");
        NOTHING();
        done();
    }
    open_with(true, false, false);
    EXPECT("t LOGIN alice {3+}\r\na\0b\r\n", "t BAD"); /* it would be another response to authd: RFC4616:2 */
    NOTHING();
    EXPECT("\r\n", "* BAD");
    EXPECT("t\r\n", "* BAD");
    EXPECT("+ NOOP\r\n", "* BAD");
    EXPECT("t SELECT INBOX\r\n", "t BAD");
}

/* HAZARDS 4, RFC5530:3 */
Test(imap_prelogin, nothing_secret_in_clear, .fini = done)
{
    open_with(false, true, false);
    EXPECT("a LOGIN alice secret\r\n", "a NO [PRIVACYREQUIRED]");
    EXPECT("b AUTHENTICATE PLAIN\r\n", "b NO [PRIVACYREQUIRED]");
    EXPECT("c AUTHENTICATE PLAIN AGEAYg==\r\n", "c NO [PRIVACYREQUIRED]");
    NOTHING();
    EXPECT("d STARTTLS x\r\n", "d BAD");
    EXPECT("e STARTTLS\r\n", "e OK");
    cr_assert_eq(last.what, LOGIN_STARTTLS);
    imap_prelogin_secured(p, false);
    EXPECT("f STARTTLS\r\n", "f BAD");
    EXPECT("g CAPABILITY\r\n", "* CAPABILITY IMAP4rev1 LITERAL+ ID SASL-IR AUTH=PLAIN\r\n");
    feed(SPAN("h LOGIN a b\r\n"));
    cr_assert_eq(last.what, LOGIN_BEGIN);
}

/* RFC3501:6.2.2, RFC4959:3 */
Test(imap_prelogin, authenticate, .fini = done)
{
    open_with(true, false, false);
    feed(SPAN("a AUTHENTICATE PLAIN AGEAYg==\r\n"));
    cr_assert(last.what == LOGIN_BEGIN && last.has_initial && span_eq(last.initial, SPAN("\0a\0b")));
    feed(SPAN("b authenticate plain =\r\n"));
    cr_assert(last.what == LOGIN_BEGIN && last.has_initial && last.initial.n == 0);
    feed(SPAN("c AUTHENTICATE LOGIN\r\n"));
    cr_assert(last.what == LOGIN_BEGIN && !last.has_initial && span_eqs(last.mechanism, "LOGIN"));
    buf_clear(&out);
    imap_prelogin_challenge(p, SPAN("User"), &out);
    cr_assert(span_eqs(buf_span(&out), "+ VXNlcg==\r\n"));
    feed(SPAN("YQ==\r\n"));
    cr_assert(last.what == LOGIN_STEP && span_eqs(last.initial, "a"));
    imap_prelogin_challenge(p, SPAN_NONE, &out);
    EXPECT("*\r\n", "c BAD");
    cr_assert_eq(last.what, LOGIN_CANCEL);
    imap_prelogin_challenge(p, SPAN_NONE, &out);
    EXPECT("d NOOP\r\n", "c BAD");
    cr_assert_eq(last.what, LOGIN_CANCEL);
    EXPECT("e AUTHENTICATE\r\n", "e BAD");
    EXPECT("f AUTHENTICATE PLAIN !!\r\n", "f BAD");
    EXPECT("g AUTHENTICATE PLAIN AA== x\r\n", "g BAD");
}

/* HAZARDS 23 */
Test(imap_prelogin, commands_have_a_budget, .fini = done)
{
    size_t n = 200000;
    char *big = mem_alloc(n);
    memset(big, 'x', n);
    open_with(true, false, false);
    cr_assert_eq(feed(span_make(big, n)), n);
    cr_assert_eq(out.n, 0);
    EXPECT("\r\n", "* BAD");
    EXPECT("a LOGIN {1000000}\r\n", "a BAD");
    EXPECT("b LOGIN {99999999999999999999}\r\n", "b BAD");
    memcpy(big, "c LOGIN {150000+}\r\n", 19);
    feed(span_make(big, 150019)); /* its bytes are swallowed, none is taken for a command */
    cr_assert_eq(out.n, 0);
    EXPECT("\r\n", "c BAD");
    EXPECT("d NOOP\r\n", "d OK");
    mem_free(&big);
}

Test(imap_prelogin, wrong_commands_end_it, .fini = done)
{
    int n = 0;
    open_with(true, false, false);
    do
        feed(SPAN("a FETCH 1 ALL\r\n"));
    while (last.what == LOGIN_NOTHING && ++n < 100);
    cr_assert(n < 20 && last.what == LOGIN_CLOSE);
    cr_assert(span_search(buf_span(&out), SPAN("* BYE ")) >= 0);
}

Test(imap_prelogin, byte_by_byte_and_pipelined, .fini = done)
{
    static const char text[] = "a NOOP\r\nb LOGIN {5+}\r\nalice \"se cret\"\r\nc SELECT INBOX\r\n";
    struct buf held = {0}, all = {0};
    struct login_action a = {0};
    open_with(true, false, false);
    for (size_t i = 0; i < sizeof text - 1; i++) {
        buf_addc(&held, text[i]);
        if (a.what == LOGIN_NOTHING)
            buf_drop(&held, imap_prelogin_input(p, buf_span(&held), &all, &a));
    }
    cr_assert(a.what == LOGIN_BEGIN && span_eq(a.initial, SPAN("\0alice\0se cret")));
    cr_assert(span_eqs(buf_span(&held), "c SELECT INBOX\r\n"), "what follows the login is not the front's");
    cr_assert(span_starts(buf_span(&all), SPAN("a OK")));
    cr_assert_eq(feed(SPAN("x LOGIN a b\r\ny SELECT INBOX\r\n")), 13);
    buf_free(&held);
    buf_free(&all);
}
