#include <criterion/criterion.h>

#include "auth/mechanisms.h"
#include "base/mem.h"
#include "pop3/prelogin.h"

static struct pop3_prelogin *p;
static struct buf out;
static struct login_action last;
static bool scram;

static void open_with(bool tls, bool starttls, bool clear)
{
    const struct pop3_prelogin_options o = {
        .tls = tls, .starttls = starttls, .login_in_clear = clear, .mechanisms = scram ? SASL_SCRAM : 0, .hostname = SPAN("mail.example.test")};
    buf_clear(&out);
    p = pop3_prelogin_new(&o, &out);
    cr_assert(span_eqs(buf_span(&out), "+OK mail.example.test ready\r\n"));
    buf_clear(&out);
}

static void done(void)
{
    pop3_prelogin_free(&p);
    buf_free(&out);
}

/* Feeds until an action or the end. Returns the bytes used. */
static size_t feed(struct span in)
{
    size_t used = 0, n = 1;
    buf_clear(&out);
    last = (struct login_action){0};
    while (n && used < in.n && last.what == LOGIN_NOTHING) {
        n = pop3_prelogin_input(p, span_from(in, used), &out, &last);
        used += n;
    }
    return used;
}

static const char *answer(const char *line)
{
    feed(span_of(line));
    return buf_cstr(&out);
}

static bool starts(const char *line, const char *beginning)
{
    answer(line);
    return span_starts(buf_span(&out), span_of(beginning));
}

Test(pop3_prelogin, user_and_pass_become_plain, .fini = done)
{
    open_with(true, false, false);
    cr_assert(starts("user alice@example.test\r\n", "+OK"));
    cr_assert_eq(last.what, LOGIN_NOTHING);
    feed(SPAN("PASS  two words \r\n")); /* RFC1939:7: blanks belong to the password */
    cr_assert_eq(out.n, 0);
    cr_assert_eq(last.what, LOGIN_BEGIN);
    cr_assert(span_eqs(last.mechanism, "PLAIN") && last.has_initial);
    cr_assert(span_eq(last.initial, SPAN("\0alice@example.test\0 two words ")));
    cr_assert(span_eqs(last.user, "alice@example.test"));
    buf_clear(&out);
    pop3_prelogin_refused(p, LOGIN_WRONG, &out);
    cr_assert(span_starts(buf_span(&out), SPAN("-ERR [AUTH] ")));
    cr_assert(starts("PASS x\r\n", "-ERR"), "USER comes first again");
    buf_clear(&out);
    pop3_prelogin_refused(p, LOGIN_LATER, &out);
    cr_assert(span_starts(buf_span(&out), SPAN("-ERR [SYS/TEMP] ")));
}

/* RFC5034:4 */
Test(pop3_prelogin, auth, .fini = done)
{
    open_with(true, false, false);
    feed(SPAN("AUTH PLAIN AGFAYi50ZXN0AHNlY3JldA==\r\n"));
    cr_assert_eq(last.what, LOGIN_BEGIN);
    cr_assert(span_eq(last.initial, SPAN("\0a@b.test\0secret")) && last.has_initial);
    cr_assert(span_eqs(last.user, "a@b.test"));
    feed(SPAN("AUTH LOGIN\r\n"));
    cr_assert(last.what == LOGIN_BEGIN && !last.has_initial);
    buf_clear(&out);
    pop3_prelogin_challenge(p, SPAN("Username:"), &out);
    cr_assert(span_eqs(buf_span(&out), "+ VXNlcm5hbWU6\r\n"));
    feed(SPAN("YWxpY2U=\r\n"));
    cr_assert(last.what == LOGIN_STEP && span_eqs(last.initial, "alice"));
    feed(SPAN("AUTH PLAIN =\r\n"));
    cr_assert(last.what == LOGIN_BEGIN && last.has_initial && last.initial.n == 0);
    buf_clear(&out);
    pop3_prelogin_challenge(p, SPAN_NONE, &out);
    cr_assert(span_eqs(buf_span(&out), "+ \r\n"));
    cr_assert(starts("*\r\n", "-ERR cancelled"));
    cr_assert_eq(last.what, LOGIN_CANCEL);
    cr_assert(starts("CAPA\r\n", "+OK"), "a command again");
    cr_assert(starts("AUTH PLAIN ???\r\n", "-ERR"));
    cr_assert(starts("AUTH CRAM-MD5\r\n", "-ERR"));
    cr_assert(starts("AUTH\r\n", "-ERR"));
    cr_assert_eq(last.what, LOGIN_NOTHING);
    pop3_prelogin_challenge(p, SPAN_NONE, &out);
    cr_assert(starts("not base64!\r\n", "-ERR"));
    cr_assert_eq(last.what, LOGIN_CANCEL);
}

/* RFC5034:4 and :6, RFC5802:6: nothing to bind to without TLS; a last challenge is answered by an empty line. */
Test(pop3_prelogin, scram, .fini = done)
{
    scram = true;
    open_with(false, true, true);
    answer("CAPA\r\n");
    cr_assert(strstr(buf_cstr(&out), "\r\nSASL SCRAM-SHA-256 PLAIN LOGIN\r\n"));
    cr_assert(starts("AUTH SCRAM-SHA-256-PLUS\r\n", "-ERR no such mechanism"));
    cr_assert(starts("STLS\r\n", "+OK"));
    pop3_prelogin_secured(p, false);
    answer("CAPA\r\n");
    cr_assert(strstr(buf_cstr(&out), "\r\nSASL SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN\r\n"));
    feed(SPAN("AUTH scram-sha-256-plus cD0=\r\n"));
    cr_assert(last.what == LOGIN_BEGIN && span_eqs(last.mechanism, "scram-sha-256-plus") && span_eqs(last.initial, "p="));
    pop3_prelogin_challenge(p, SPAN("v=x"), &out);
    feed(SPAN("\r\n"));
    cr_assert(last.what == LOGIN_STEP && last.has_initial && last.initial.n == 0);
    done();
    scram = false;
    open_with(true, false, false);
    cr_assert(starts("AUTH SCRAM-SHA-256\r\n", "-ERR no such mechanism"), "switched off");
}

/* HAZARDS 4, RFC2595:4 */
Test(pop3_prelogin, no_password_without_tls, .fini = done)
{
    open_with(false, true, false);
    cr_assert(starts("USER alice\r\n", "-ERR STLS first"));
    cr_assert(starts("PASS x\r\n", "-ERR STLS first"));
    cr_assert(starts("AUTH PLAIN AGEAYg==\r\n", "-ERR STLS first"));
    cr_assert_eq(last.what, LOGIN_NOTHING);
    answer("CAPA\r\n");
    cr_assert(strstr(buf_cstr(&out), "\r\nSTLS\r\n"));
    cr_assert_not(strstr(buf_cstr(&out), "USER"));
    cr_assert_not(strstr(buf_cstr(&out), "SASL"));
    cr_assert(starts("STLS now\r\n", "-ERR"));
    cr_assert(starts("STLS\r\n", "+OK"));
    cr_assert_eq(last.what, LOGIN_STARTTLS);
    pop3_prelogin_secured(p, false);
    answer("CAPA\r\n");
    cr_assert_not(strstr(buf_cstr(&out), "STLS"));
    cr_assert(strstr(buf_cstr(&out), "\r\nUSER\r\nSASL PLAIN LOGIN\r\n"));
    cr_assert(starts("STLS\r\n", "-ERR TLS is active"));
    cr_assert(starts("USER alice\r\n", "+OK"));
}

/* A USER said in clear is not the user of a PASS said under TLS. */
Test(pop3_prelogin, stls_forgets_what_was_said, .fini = done)
{
    open_with(false, true, true);
    cr_assert(starts("USER mallory\r\n", "+OK"));
    cr_assert(starts("STLS\r\n", "+OK"));
    pop3_prelogin_secured(p, false);
    cr_assert(starts("PASS secret\r\n", "-ERR USER first"));
}

Test(pop3_prelogin, clear_where_configured, .fini = done)
{
    open_with(false, false, true);
    cr_assert(starts("USER alice\r\n", "+OK"));
    cr_assert(starts("STLS\r\n", "-ERR"));
    answer("CAPA\r\n");
    cr_assert_not(strstr(buf_cstr(&out), "STLS"));
    cr_assert(strstr(buf_cstr(&out), "\r\nUSER\r\n"));
}

Test(pop3_prelogin, not_before_login, .fini = done)
{
    static const char *const lines[] = {"STAT\r\n", "LIST\r\n", "RETR 1\r\n", "NOOP\r\n",
                                        "GARBAGE\r\n", "\r\n", " CAPA\r\n"};
    open_with(true, false, false);
    for (size_t i = 0; i < COUNT_OF(lines); i++)
        cr_assert(starts(lines[i], "-ERR"), "%s", lines[i]);
    cr_assert(starts("QUIT\r\n", "+OK"));
    cr_assert_eq(last.what, LOGIN_CLOSE);
}

Test(pop3_prelogin, too_many_wrong_commands, .fini = done)
{
    int n = 0;
    open_with(true, false, false);
    do
        answer("HELO\r\n");
    while (last.what == LOGIN_NOTHING && ++n < 100);
    cr_assert(last.what == LOGIN_CLOSE && n < 20);
}

/* RFC2449:4; HAZARDS 2, 23 */
Test(pop3_prelogin, lines_have_limits_and_no_control_characters, .fini = done)
{
    char *big = mem_alloc(20000);
    open_with(true, false, false);
    memset(big, 'x', 20000);
    memcpy(big, "USER ", 5);
    cr_assert_eq(pop3_prelogin_input(p, span_make(big, 200), &out, &last), 0, "not a whole line yet");
    cr_assert_eq(feed(span_make(big, 20000)), 20000, "swallowed, not kept");
    cr_assert_eq(out.n, 0);
    cr_assert(starts("the rest\r\n", "-ERR the line is too long"));
    memcpy(big + 250, "\r\n", 2);
    feed(span_make(big, 252));
    cr_assert(span_starts(buf_span(&out), SPAN("+OK")));
    memset(big + 5, 'x', 300);
    memcpy(big + 254, "\r\n", 2); /* 256 octets */
    feed(span_make(big, 256));
    cr_assert(span_starts(buf_span(&out), SPAN("-ERR the line is too long")));
    memset(big, 'A', 20000);
    memcpy(big, "AUTH PLAIN ", 11);
    memcpy(big + 11 + 8000, "\r\n", 2);
    feed(span_make(big, 8013));
    cr_assert(last.what == LOGIN_BEGIN && last.initial.n == 6000, "RFC5034:4: AUTH has room for long responses");
    memset(big + 8000, 'A', 100);
    memcpy(big + 17000, "\r\n", 2);
    feed(span_make(big, 17002));
    cr_assert(span_starts(buf_span(&out), SPAN("-ERR")));
    cr_assert_eq(last.what, LOGIN_NOTHING);
    feed(SPAN("USER a\0b\r\n"));
    cr_assert(span_starts(buf_span(&out), SPAN("-ERR control")));
    mem_free(&big);
}

Test(pop3_prelogin, byte_by_byte, .fini = done)
{
    static const char text[] = "CAPA\r\nuser bob\nPASS p\r\n";
    struct buf held = {0}, all = {0};
    struct login_action a = {0};
    open_with(true, false, false);
    for (size_t i = 0; i < sizeof text - 1; i++) {
        buf_addc(&held, text[i]);
        cr_assert_eq(a.what, LOGIN_NOTHING);
        buf_drop(&held, pop3_prelogin_input(p, buf_span(&held), &all, &a));
    }
    cr_assert_eq(held.n, 0);
    cr_assert(a.what == LOGIN_BEGIN && span_eq(a.initial, SPAN("\0bob\0p")));
    cr_assert(span_ends(buf_span(&all), SPAN("\r\n.\r\n+OK now PASS\r\n")));
    buf_free(&held);
    buf_free(&all);
}

/* Commands behind one that waits for an answer stay where they are. RFC2449:6.6 */
Test(pop3_prelogin, pipelined_commands_wait, .fini = done)
{
    open_with(true, false, false);
    cr_assert_eq(feed(SPAN("USER a\r\nPASS b\r\nSTAT\r\nQUIT\r\n")), 16);
    cr_assert_eq(last.what, LOGIN_BEGIN);
}

Test(pop3_prelogin, byes)
{
    for (int why = LOGIN_BYE_IDLE; why <= LOGIN_BYE_GARBAGE; why++) {
        struct buf b = {0};
        pop3_prelogin_bye(why, &b);
        cr_assert(span_starts(buf_span(&b), SPAN("-ERR ")) && span_ends(buf_span(&b), SPAN("\r\n")) && b.n < 80);
        buf_free(&b);
    }
}
