#include <criterion/criterion.h>

#include "auth/mechanisms.h"
#include "smtp_owner.h"

/* Every reply's code and enhanced status, without texts: "250 2.1.0|354|…"; lines of one reply but the last are left
 * out. */
static void codes_of(struct span sent, struct buf *out)
{
    buf_clear(out);
    while (sent.n) {
        struct span line = span_cut(&sent, '\n');
        cr_assert(span_ends(line, SPAN("\r")) && line.n >= 4, "a reply line: %.*s", SPANV(line));
        if (line.p[3] == '-')
            continue;
        struct span rest = span_trim(line), code = span_word(&rest), status = span_word(&rest);
        if (out->n)
            buf_addc(out, '|');
        buf_add(out, code);
        if (status.n > 4 && status.p[1] == '.' && ascii_digit(status.p[0])) {
            buf_addc(out, ' ');
            buf_add(out, status);
        }
    }
}

struct script {
    bool submission;
    const char *send, *codes;
};

static void expect(const struct script *c, bool slowly)
{
    struct smtp_owner o;
    struct buf codes = {0};
    smtp_owner_open(&o, c->submission);
    if (slowly)
        smtp_owner_feed_slowly(&o, span_of(c->send));
    else
        smtp_owner_feed(&o, span_of(c->send));
    codes_of(buf_span(&o.sent), &codes);
    cr_assert(span_eqs(buf_span(&codes), c->codes), "%s\n%s\ngot  %.*s\nwant %s", slowly ? "slowly" : "whole", c->send,
              SPANV(buf_span(&codes)), c->codes);
    buf_free(&codes);
    smtp_owner_close(&o);
}

static void expect_all(const struct script *table, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        expect(&table[i], false);
        expect(&table[i], true);
    }
}

#define EHLO "EHLO client.test\r\n"
#define MAIL "MAIL FROM:<x@remote.test>\r\n"
#define RCPT "RCPT TO:<alice@example.test>\r\n"
#define BAD_RCPT "RCPT TO:<nobody@example.test>\r\n"
#define F50 "ffffffffffffffffffffffffffffffffffffffffffffffffff"
#define LOGIN "AUTH PLAIN AGFsaWNlQGV4YW1wbGUudGVzdABzZWNyZXQtd29yZHM=\r\n"
#define TLS "EHLO c\r\nSTARTTLS\r\n"

/* RFC5321:4.1.4: each command in each state. */
static const struct script in_state[] = {
    /* nobody said EHLO */
    {false, "NOOP\r\n", "220|250 2.0.0"},
    {false, "NOOP with words\r\n", "220|250 2.0.0"},
    {false, "HELP\r\n", "220|214 2.0.0"},
    {false, "HELP MAIL\r\n", "220|214 2.0.0"},
    {false, "RSET\r\n", "220|250 2.0.0"},
    {false, "VRFY alice\r\n", "220|252 2.5.0"},
    {false, "QUIT\r\n", "220|221 2.0.0"},
    {false, MAIL, "220|503 5.5.1"},
    {false, RCPT, "220|503 5.5.1"},
    {false, "DATA\r\n", "220|503 5.5.1"},
    {false, "STARTTLS\r\n", "220|503 5.5.1"},
    {true, "AUTH PLAIN\r\n", "220|503 5.5.1"},
    /* after EHLO */
    {false, "HELO client\r\n", "220|250"},
    {false, EHLO, "220|250"},
    {false, "ehlo [192.0.2.1]\r\n", "220|250"},
    {false, EHLO EHLO, "220|250|250"},
    {false, EHLO RCPT, "220|250|503 5.5.1"},
    {false, EHLO "DATA\r\n", "220|250|503 5.5.1"},
    {false, EHLO "RSET\r\nNOOP\r\nVRFY x\r\nHELP\r\n", "220|250|250 2.0.0|250 2.0.0|252 2.5.0|214 2.0.0"},
    {false, EHLO "AUTH PLAIN\r\n", "220|250|502 5.5.1"},
    {true, EHLO "AUTH PLAIN\r\n", "220|250|538 5.7.11"},
    {true, EHLO MAIL, "220|250|530 5.7.0"}, /* RFC3207:4, RFC6409:4.3 */
    /* within a transaction */
    {false, EHLO MAIL "NOOP\r\nHELP\r\nVRFY x\r\n", "220|250|250 2.1.0|250 2.0.0|214 2.0.0|252 2.5.0"},
    {false, EHLO MAIL MAIL, "220|250|250 2.1.0|503 5.5.1"},
    {false, EHLO MAIL "STARTTLS\r\n", "220|250|250 2.1.0|503 5.5.1"},
    {false, EHLO MAIL "AUTH PLAIN\r\n", "220|250|250 2.1.0|503 5.5.1"},
    {false, EHLO MAIL "DATA\r\n", "220|250|250 2.1.0|503 5.5.1"},
    {false, EHLO MAIL BAD_RCPT "DATA\r\n", "220|250|250 2.1.0|550 5.1.1|554 5.5.1"},
    {false, EHLO MAIL RCPT "RSET\r\n" RCPT, "220|250|250 2.1.0|250 2.1.5|250 2.0.0|503 5.5.1"},
    {false, EHLO MAIL RCPT EHLO RCPT, "220|250|250 2.1.0|250 2.1.5|250|503 5.5.1"},
    {false, EHLO MAIL RCPT "HELO x\r\n" MAIL, "220|250|250 2.1.0|250 2.1.5|250|250 2.1.0"},
    {false, EHLO MAIL RCPT RCPT "DATA\r\nx\r\n.\r\n", "220|250|250 2.1.0|250 2.1.5|250 2.1.5|354|250 2.0.0"},
    {false, EHLO MAIL RCPT "DATA\r\n.\r\n" MAIL RCPT "DATA\r\n.\r\nQUIT\r\n",
     "220|250|250 2.1.0|250 2.1.5|354|250 2.0.0|250 2.1.0|250 2.1.5|354|250 2.0.0|221 2.0.0"},
    /* after QUIT nothing is answered */
    {false, "QUIT\r\nNOOP\r\nMAIL FROM:<>\r\n", "220|221 2.0.0"},
    /* unknown, unserved, foreign */
    {false, "XYZZY\r\n", "220|500 5.5.1"},
    {false, "\r\n", "220|500 5.5.1"},
    {false, " NOOP\r\n", "220|500 5.5.1"},
    {false, "NOOPX\r\n", "220|500 5.5.1"},
    {false, "EXPN x\r\nETRN x\r\nTURN\r\nSEND x\r\nSOML x\r\nSAML x\r\nATRN\r\n",
     "220|252 2.5.0|502 5.5.1|502 5.5.1|502 5.5.1|502 5.5.1|502 5.5.1|502 5.5.1"},
    {false, EHLO "BDAT 5 LAST\r\n12345", "220|250|503 5.5.1"},
    {false, "BDAT 3\r\nabc" EHLO, "220|503 5.5.1|250"},
    {false, "GET / HTTP/1.1\r\nHost: x\r\n", "220|421 4.7.0"},
    {false, "post / HTTP/1.1\r\n", "220|421 4.7.0"},
};

Test(smtp, each_command_in_each_state)
{
    expect_all(in_state, COUNT_OF(in_state));
}

static const struct script arguments[] = {
    {false, "EHLO\r\n", "220|501 5.5.4"},
    {false, "HELO   \r\n", "220|501 5.5.4"},
    {false, "EHLO a b\r\n", "220|501 5.5.4"},
    {false, "EHLO client  \r\n", "220|250"}, /* RFC5321:4.1.1: blanks at the end */
    {false, "RSET now\r\n", "220|501 5.5.4"},
    {false, "QUIT now\r\n", "220|501 5.5.4"},
    {false, "VRFY\r\n", "220|501 5.5.4"},
    {false, EHLO "STARTTLS now\r\n", "220|250|501 5.5.4"},
    {false, EHLO MAIL RCPT "DATA now\r\n", "220|250|250 2.1.0|250 2.1.5|501 5.5.4"},
    {false, EHLO "MAIL\r\n", "220|250|501 5.5.4"},
    {false, EHLO "MAIL TO:<x@y>\r\n", "220|250|501 5.5.4"},
    {false, EHLO "MAIL FROM x@y\r\n", "220|250|501 5.5.4"},
    {false, EHLO "MAIL FROM:x@y\r\n", "220|250|501 5.1.7"},
    {false, EHLO "MAIL FROM:<x>\r\n", "220|250|501 5.1.7"},
    {false, EHLO "MAIL FROM:<postmaster>\r\n", "220|250|501 5.1.7"},
    {false, EHLO "MAIL FROM:<\xc3\xa9@y>\r\n", "220|250|553 5.6.7"},
    {false, EHLO "MAIL FROM:<>\r\n", "220|250|250 2.1.0"},
    {false, EHLO "mail from: <x@y>\r\n", "220|250|250 2.1.0"},
    {false, EHLO "MAIL FROM:<x@y> SIZE=100 BODY=8bitmime\r\n", "220|250|250 2.1.0"},
    {false, EHLO "MAIL FROM:<x@\xe2\x80\xae.test> SMTPUTF8\r\nMAIL FROM:<\xfc@y.test> SMTPUTF8\r\n", "220|250|501 5.1.7|553 5.6.7"}, /* RFC6531:3.3 */
    {false, EHLO "MAIL FROM:<x@y> SMTPUTF8\r\nRCPT TO:<x@\xe2\x80\xae.test>\r\n", "220|250|250 2.1.0|501 5.1.3"},
    {false, EHLO "MAIL FROM:<x@y> BODY=7BIT\r\n", "220|250|250 2.1.0"},
    {false, EHLO "MAIL FROM:<x@y> SIZE=100000\r\n", "220|250|250 2.1.0"},
    {false, EHLO "MAIL FROM:<x@y> SIZE=100001\r\n", "220|250|552 5.3.4"}, /* RFC1870:6.1 */
    {false, EHLO "MAIL FROM:<x@y> SIZE=99999999999999999999\r\n", "220|250|501 5.5.4"},
    {false, EHLO "MAIL FROM:<x@y> SIZE=-1\r\n", "220|250|501 5.5.4"},
    {false, EHLO "MAIL FROM:<x@y> SIZE=\r\n", "220|250|501 5.5.4"},
    {false, EHLO "MAIL FROM:<x@y> SIZE\r\n", "220|250|501 5.5.4"},
    {false, EHLO "MAIL FROM:<x@y> SIZE=1 SIZE=1\r\n", "220|250|501 5.5.4"},
    {false, EHLO "MAIL FROM:<x@y> BODY=BINARY\r\n", "220|250|501 5.5.4"},
    {false, EHLO "MAIL FROM:<x@y> =\r\n", "220|250|501 5.5.4"},
    /* RFC5321:4.1.1.11: what is not announced is not taken */
    /* RFC6531:3.4, RFC6531:3.5 */
    {false, EHLO "MAIL FROM:<x@y> SMTPUTF8\r\n", "220|250|250 2.1.0"},
    {false, EHLO "MAIL FROM:<x@y> SMTPUTF8=YES\r\n", "220|250|501 5.5.4"},
    {false,
     EHLO "MAIL FROM:<\xc3\xbc@d\xc3\xb6rf.test> smtputf8 BODY=8BITMIME\r\nRCPT TO:<j\xc3\xb6rg@remote.test>\r\n",
     "220|250|250 2.1.0|550 5.7.1"},
    {false, EHLO "MAIL FROM:<\xc3\xbc@d\xc3\xb6rf.test>\r\n", "220|250|553 5.6.7"},
    {false, EHLO "MAIL FROM:<\xfc@y> SMTPUTF8\r\n", "220|250|553 5.6.7"},
    {false, EHLO MAIL "RCPT TO:<j\xc3\xb6rg@example.test>\r\n", "220|250|250 2.1.0|553 5.6.7"},
    {false, EHLO "MAIL FROM:<> SMTPUTF8\r\nRCPT TO:<alice@example.test> ORCPT=utf-8;j\xc3\xb6rg@x.test\r\n",
     "220|250|250 2.1.0|250 2.1.5"},
    {false, EHLO MAIL "RCPT TO:<alice@example.test> ORCPT=utf-8;j\xc3\xb6rg@x.test\r\n", "220|250|250 2.1.0|501 5.5.4"},
    {false, EHLO MAIL "RCPT TO:<alice@example.test> ORCPT=utf-8;j\\x{F6}rg@x.test\r\n", "220|250|250 2.1.0|250 2.1.5"},
    /* RFC3461:4.3, RFC3461:4.4 */
    {false, EHLO "MAIL FROM:<x@y> RET=HDRS ENVID=a+2Bb\r\n", "220|250|250 2.1.0"},
    {false, EHLO "MAIL FROM:<x@y> ENVID=QQ314159 RET=full\r\n", "220|250|250 2.1.0"},
    {false, EHLO "MAIL FROM:<x@y> RET=BODY\r\n", "220|250|501 5.5.4"},
    {false, EHLO "MAIL FROM:<x@y> RET\r\n", "220|250|501 5.5.4"},
    {false, EHLO "MAIL FROM:<x@y> RET=FULL RET=FULL\r\n", "220|250|501 5.5.4"},
    {false, EHLO "MAIL FROM:<x@y> ENVID=a+2\r\n", "220|250|501 5.5.4"},
    {false, EHLO "MAIL FROM:<x@y> ENVID=a+0D+0Ab\r\n", "220|250|501 5.5.4"},
    {false, EHLO "MAIL FROM:<x@y> ENVID=" F50 F50 "\r\n", "220|250|250 2.1.0"},
    {false, EHLO "MAIL FROM:<x@y> ENVID=" F50 F50 "f\r\n", "220|250|501 5.5.4"},
    {false, EHLO "MAIL FROM:<x@y> AUTH=<>\r\n", "220|250|555 5.5.4"},
    {false, EHLO MAIL "RCPT\r\n", "220|250|250 2.1.0|501 5.5.4"},
    {false, EHLO MAIL "RCPT FROM:<x@y>\r\n", "220|250|250 2.1.0|501 5.5.4"},
    {false, EHLO MAIL "RCPT TO:<>\r\n", "220|250|250 2.1.0|501 5.1.3"},
    {false, EHLO MAIL "RCPT TO:alice@example.test\r\n", "220|250|250 2.1.0|501 5.1.3"},
    {false, EHLO MAIL "RCPT TO:<Postmaster>\r\n", "220|250|250 2.1.0|250 2.1.5"}, /* RFC5321:4.5.1 */
    {false, EHLO MAIL "RCPT TO:<@relay.test:alice@example.test>\r\n", "220|250|250 2.1.0|250 2.1.5"},
    /* RFC3461:4.1, RFC3461:4.2 */
    {false, EHLO MAIL "RCPT TO:<alice@example.test> NOTIFY=NEVER\r\n", "220|250|250 2.1.0|250 2.1.5"},
    {false, EHLO MAIL "RCPT TO:<alice@example.test> notify=success,Failure,DELAY ORCPT=rfc822;a+2Bb@c.test\r\n",
     "220|250|250 2.1.0|250 2.1.5"},
    {false, EHLO MAIL "RCPT TO:<alice@example.test> NOTIFY=NEVER,SUCCESS\r\n", "220|250|250 2.1.0|501 5.5.4"},
    {false, EHLO MAIL "RCPT TO:<alice@example.test> NOTIFY=SUCCESS,\r\n", "220|250|250 2.1.0|501 5.5.4"},
    {false, EHLO MAIL "RCPT TO:<alice@example.test> NOTIFY=\r\n", "220|250|250 2.1.0|501 5.5.4"},
    {false, EHLO MAIL "RCPT TO:<alice@example.test> NOTIFY=DELAY NOTIFY=DELAY\r\n", "220|250|250 2.1.0|501 5.5.4"},
    {false, EHLO MAIL "RCPT TO:<alice@example.test> ORCPT=rfc822\r\n", "220|250|250 2.1.0|501 5.5.4"},
    {false, EHLO MAIL "RCPT TO:<alice@example.test> ORCPT=rfc822;\r\n", "220|250|250 2.1.0|501 5.5.4"},
    {false, EHLO MAIL "RCPT TO:<alice@example.test> ORCPT=rfc822;a+00b\r\n", "220|250|250 2.1.0|501 5.5.4"},
    {false, EHLO MAIL "RCPT TO:<alice@example.test> ORCPT=rfc822;a ORCPT=rfc822;a\r\n", "220|250|250 2.1.0|501 5.5.4"},
    {false, EHLO MAIL "RCPT TO:<alice@example.test> ALT=x\r\n", "220|250|250 2.1.0|555 5.5.4"},
    {false, EHLO MAIL "RCPT TO:<later@example.test>\r\n", "220|250|250 2.1.0|450 4.2.1"},
    /* never an open relay */
    {false, EHLO MAIL "RCPT TO:<x@remote.test>\r\n", "220|250|250 2.1.0|550 5.7.1"},
    {false, EHLO MAIL "RCPT TO:<x%remote.test@elsewhere.test>\r\n", "220|250|250 2.1.0|550 5.7.1"},
};

Test(smtp, arguments)
{
    expect_all(arguments, COUNT_OF(arguments));
}

/* HAZARDS 2, RFC5321:2.3.8, RFC5321:4.5.3.1.4 */
Test(smtp, command_lines_that_are_none)
{
    static const struct {
        struct span send;
        const char *codes;
    } cases[] = {
        {SPAN("NOOP\nNOOP\r\n"), "220|500 5.5.2|250 2.0.0"},
        {SPAN("NO\rOP\r\n"), "220|500 5.5.2"},
        {SPAN("NOOP\r\r\n"), "220|500 5.5.2"},
        {SPAN("NOOP\0\r\nNOOP\r\n"), "220|500 5.5.2|250 2.0.0"},
        {SPAN("\0\r\n"), "220|500 5.5.2"},
        {SPAN("EHLO a\0b\r\n"), "220|500 5.5.2"},
        {SPAN("NOOP\tx\r\n"), "220|500 5.5.2"},
        {SPAN(EHLO "MAIL FROM:<x@y\0z>\r\n"), "220|250|500 5.5.2"},
    };
    struct buf codes = {0};
    for (size_t i = 0; i < COUNT_OF(cases) * 2; i++) {
        struct smtp_owner o;
        smtp_owner_open(&o, false);
        if (i % 2)
            smtp_owner_feed_slowly(&o, cases[i / 2].send);
        else
            smtp_owner_feed(&o, cases[i / 2].send);
        codes_of(buf_span(&o.sent), &codes);
        cr_assert(span_eqs(buf_span(&codes), cases[i / 2].codes), "case %zu: %.*s", i, SPANV(buf_span(&codes)));
        smtp_owner_close(&o);
    }
    buf_free(&codes);
}

static void expect_sent(struct smtp_owner *o, const char *want)
{
    struct buf codes = {0};
    codes_of(buf_span(&o->sent), &codes);
    cr_assert(span_eqs(buf_span(&codes), want), "got %.*s\nwant %s", SPANV(buf_span(&codes)), want);
    buf_free(&codes);
    buf_clear(&o->sent);
}

/* RFC5321:4.5.3.1.4, RFC5321:4.5.3.1.9 */
Test(smtp, long_command_lines)
{
    for (int slowly = 0; slowly < 2; slowly++)
        for (size_t n = 500; n < 2000; n += slowly ? 700 : 1) {
            struct smtp_owner o;
            smtp_owner_open(&o, false);
            struct buf line = {0};
            buf_adds(&line, "NOOP ");
            while (line.n < n - 2)
                buf_addc(&line, 'x');
            buf_adds(&line, "\r\nNOOP\r\n");
            if (slowly)
                smtp_owner_feed_slowly(&o, buf_span(&line));
            else
                smtp_owner_feed(&o, buf_span(&line));
            expect_sent(&o, n > 512 ? "220|500 5.5.2|250 2.0.0" : "220|250 2.0.0|250 2.0.0");
            cr_assert_eq(o.in.n, 0);
            buf_free(&line);
            smtp_owner_close(&o);
        }
}

Test(smtp, ehlo_announces_what_is_served)
{
    struct smtp_owner o;
    smtp_owner_open(&o, false);
    buf_clear(&o.sent);
    smtp_owner_feed(&o, SPAN(EHLO));
    cr_assert(span_eqs(buf_span(&o.sent), "250-mx.example.test\r\n250-PIPELINING\r\n250-SIZE "
                                          "100000\r\n250-8BITMIME\r\n250-BINARYMIME\r\n250-CHUNKING\r\n250-DSN\r\n250-SMTPUTF8\r\n250-"
                                          "LIMITS MAILMAX=50 RCPTMAX=100\r\n250-DELIVERBY 60\r\n250-STARTTLS\r\n"
                                          "250 ENHANCEDSTATUSCODES\r\n"));
    smtp_owner_feed(&o, SPAN("STARTTLS\r\n"));
    buf_clear(&o.sent);
    smtp_owner_feed(&o, SPAN(EHLO));
    cr_assert(span_eqs(buf_span(&o.sent), "250-mx.example.test\r\n250-PIPELINING\r\n250-SIZE "
                                          "100000\r\n250-8BITMIME\r\n250-BINARYMIME\r\n250-CHUNKING\r\n250-DSN\r\n250-SMTPUTF8\r\n250-"
                                          "LIMITS MAILMAX=50 RCPTMAX=100\r\n250-REQUIRETLS\r\n250-DELIVERBY 60\r\n"
                                          "250 ENHANCEDSTATUSCODES\r\n"));
    smtp_owner_close(&o);
    smtp_owner_open(&o, true);
    smtp_owner_feed(&o, SPAN(EHLO));
    cr_assert(span_search(buf_span(&o.sent), SPAN("AUTH")) < 0); /* HAZARDS 4 */
    smtp_owner_feed(&o, SPAN("STARTTLS\r\n"));
    buf_clear(&o.sent);
    smtp_owner_feed(&o, SPAN(EHLO));
    cr_assert(span_search(buf_span(&o.sent), SPAN("250-AUTH PLAIN LOGIN\r\n")) >= 0);
    smtp_owner_close(&o);
    /* RFC5802:6: a list of its own where there is TLS to bind to */
    smtp_owner_open(&o, true);
    o.config.mechanisms = SASL_SCRAM | SASL_SCRAM_1;
    o.config.auth_in_clear = true;
    smtp_owner_feed(&o, SPAN(EHLO "AUTH SCRAM-SHA-256-PLUS\r\n"));
    cr_assert(span_search(buf_span(&o.sent), SPAN("250-AUTH SCRAM-SHA-256 SCRAM-SHA-1 PLAIN LOGIN\r\n")) >= 0);
    cr_assert(span_search(buf_span(&o.sent), SPAN("504 5.5.4")) >= 0);
    smtp_owner_feed(&o, SPAN("STARTTLS\r\n"));
    buf_clear(&o.sent);
    smtp_owner_feed(&o, SPAN(EHLO "AUTH SCRAM-SHA-256-PLUS\r\n"));
    cr_assert(span_search(buf_span(&o.sent), SPAN("250-AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 SCRAM-SHA-1-PLUS SCRAM-SHA-1 "
                                                  "PLAIN LOGIN\r\n")) >= 0);
    cr_assert(span_ends(buf_span(&o.sent), SPAN("334 VXNlcm5hbWU6\r\n")), "the owner was asked");
    smtp_owner_close(&o);
}

/* RFC4954:4, HAZARDS 5: nothing that was sent before the end of an exchange is ever read as a command. */
Test(smtp, nothing_behind_auth_runs)
{
    static const struct {
        const char *before, *in, *want; /* before: by itself, its replies are not looked at */
    } cases[] = {
        {"", "AUTH LOGIN\r\nYWxpY2VAZXhhbXBsZS50ZXN0\r\nc2VjcmV0LXdvcmRz\r\n" MAIL, "503 5.5.1"},
        {"", "AUTH LOGIN YWxpY2VAZXhhbXBsZS50ZXN0\r\nc2VjcmV0LXdvcmRz\r\n", "503 5.5.1"},
        {"", "AUTH PLAIN\r\nAGFsaWNlQGV4YW1wbGUudGVzdABzZWNyZXQtd29yZHM=\r\n", "503 5.5.1"},
        {"", "AUTH CRAM-MD5\r\nNOOP\r\n", "503 5.5.1"},
        {"", "auth xoauth2 dXNlcj0=\r\n" MAIL, "503 5.5.1"},
        {"AUTH PLAIN\r\n", "AGFsaWNlQGV4YW1wbGUudGVzdABzZWNyZXQtd29yZHM=\r\n" MAIL, "503 5.5.1"},
        {"AUTH LOGIN\r\n", "YWxpY2VAZXhhbXBsZS50ZXN0\r\nc2VjcmV0LXdvcmRz\r\n", "503 5.5.1"},
        {"AUTH LOGIN\r\n", "*\r\n" MAIL, "503 5.5.1"},
        {"AUTH LOGIN\r\n", "*\n" MAIL, "503 5.5.1"},
        {"AUTH LOGIN\r\n", "*\r\n", "501 5.7.0"},
        {"", "AUTH CRAM-MD5\r\n", "504 5.5.4"},
        /* the exception: over in one round-trip */
        {"", LOGIN "MAIL FROM:<alice@example.test>\r\n", "235 2.7.0|250 2.1.0"},
        {"", "AUTH PLAIN AHgAeA==\r\n" MAIL, "535 5.7.8|530 5.7.0"},
        {"", "AUTH EXTERNAL =\r\nNOOP\r\n", "504 5.5.4|250 2.0.0"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct smtp_owner o;
        smtp_owner_open(&o, true);
        o.config.auth_in_clear = true;
        smtp_owner_feed(&o, SPAN(EHLO));
        smtp_owner_feed(&o, span_of(cases[i].before));
        buf_clear(&o.sent);
        smtp_owner_feed(&o, span_of(cases[i].in));
        expect_sent(&o, cases[i].want);
        cr_assert_eq(o.closed, span_starts(span_of(cases[i].want), SPAN("503")), "%s", cases[i].in);
        smtp_owner_close(&o);
    }
}

/* HAZARDS 3, RFC3207:4.2 */
Test(smtp, starttls_forgets_and_nothing_behind_it_runs)
{
    struct smtp_owner o;
    smtp_owner_open(&o, false);
    o.hold_tls = true;
    smtp_owner_feed(&o, SPAN(EHLO "STARTTLS\r\nNOOP\r\n" MAIL RCPT));
    expect_sent(&o, "220|250|220 2.0.0");
    cr_assert_eq(o.in.n, 0);
    smtp_owner_feed(&o, SPAN("NOOP\r\n")); /* nothing is read while the handshake runs */
    expect_sent(&o, "");
    buf_clear(&o.in);
    smtp_server_tls_up(o.s);
    smtp_owner_feed(&o, SPAN(MAIL));
    expect_sent(&o, "503 5.5.1");
    smtp_owner_feed(&o, SPAN(EHLO "STARTTLS\r\n"));
    expect_sent(&o, "250|503 5.5.1");
    smtp_owner_close(&o);
    /* a login in clear (loopback) does not survive either */
    smtp_owner_open(&o, true);
    o.config.auth_in_clear = true;
    smtp_owner_feed(&o, SPAN(EHLO LOGIN "STARTTLS\r\n"));
    expect_sent(&o, "220|250|235 2.7.0|220 2.0.0");
    cr_assert_eq(o.forgets, 1);
    smtp_owner_feed(&o, SPAN(EHLO MAIL));
    expect_sent(&o, "250|530 5.7.0");
    smtp_owner_close(&o);
    smtp_owner_open(&o, false);
    o.config.starttls = false;
    smtp_owner_feed(&o, SPAN(EHLO "STARTTLS\r\n"));
    expect_sent(&o, "220|250|502 5.5.1");
    smtp_owner_close(&o);
}

/* HAZARDS 5: one packet, one recipient of three refused: as many replies as commands, in order. */
Test(smtp, pipelining_counts_replies)
{
    const struct span packet =
        SPAN(EHLO MAIL RCPT BAD_RCPT "RCPT TO:<bob@example.test>\r\nDATA\r\nMAIL FROM:<>\r\n.\r\nQUIT\r\n");
    for (int slowly = 0; slowly < 2; slowly++) {
        struct smtp_owner o;
        smtp_owner_open(&o, false);
        if (slowly)
            smtp_owner_feed_slowly(&o, packet);
        else
            smtp_owner_feed(&o, packet);
        expect_sent(&o, "220|250|250 2.1.0|250 2.1.5|550 5.1.1|250 2.1.5|354|250 2.0.0|221 2.0.0");
        cr_assert(o.commits == 1 && o.closed);
        cr_assert(span_eqs(buf_span(&o.stored), "\r\nMAIL FROM:<>\r\n"));
        cr_assert(span_eqs(buf_span(&o.recipients), "alice@example.test\nbob@example.test\n"));
        smtp_owner_close(&o);
    }
}

/* Content sent without waiting for 354, and DATA was refused: it does not run as commands. */
Test(smtp, content_behind_refused_data_never_runs)
{
    struct smtp_owner o;
    smtp_owner_open(&o, false);
    smtp_owner_feed(&o, SPAN(EHLO MAIL BAD_RCPT "DATA\r\nRSET\r\n" MAIL RCPT "DATA\r\nevil\r\n.\r\n"));
    expect_sent(&o, "220|250|250 2.1.0|550 5.1.1|554 5.5.1");
    cr_assert(o.closed && o.commits == 0);
    smtp_owner_close(&o);
}

/* RFC2920:3.1: answers come in any order, replies in the order of commands; other commands wait. */
Test(smtp, recipients_in_flight)
{
    struct smtp_owner o;
    smtp_owner_open(&o, false);
    smtp_owner_feed(&o, SPAN(EHLO MAIL));
    buf_clear(&o.sent);
    o.hold_rcpts = true;
    smtp_owner_feed(&o, SPAN(RCPT BAD_RCPT "RCPT TO:oops\r\nRCPT TO:<bob@example.test>\r\nNOOP\r\n"));
    cr_assert_eq(o.held_count, 3);
    expect_sent(&o, "");
    smtp_owner_answer_rcpt(&o, 2);
    expect_sent(&o, "");
    smtp_owner_answer_rcpt(&o, 0);
    expect_sent(&o, "250 2.1.5");
    smtp_owner_answer_rcpt(&o, 0); /* a second answer means nothing */
    expect_sent(&o, "");
    cr_assert(smtp_server_blocked(o.s));
    smtp_owner_answer_rcpt(&o, 1);
    expect_sent(&o, "550 5.1.1|501 5.1.3|250 2.1.5|250 2.0.0");
    cr_assert(!smtp_server_blocked(o.s));
    smtp_owner_close(&o);
}

static void add_many(struct buf *b, const char *text, int n)
{
    while (n-- > 0)
        buf_adds(b, text);
}

/* RFC5321:4.5.3.1.8, RFC5321:4.5.3.1.10 */
Test(smtp, too_many_recipients)
{
    struct smtp_owner o;
    struct buf in = {0};
    smtp_owner_open(&o, false);
    buf_adds(&in, EHLO MAIL);
    add_many(&in, RCPT, 100);
    smtp_owner_feed(&o, buf_span(&in));
    buf_clear(&o.sent);
    smtp_owner_feed(&o, SPAN(RCPT "DATA\r\nx\r\n.\r\n"));
    expect_sent(&o, "452 4.5.3|354|250 2.0.0");
    cr_assert_eq(o.commits, 1);
    buf_free(&in);
    smtp_owner_close(&o);
}

Test(smtp, too_many_errors)
{
    struct smtp_owner o;
    struct buf in = {0};
    smtp_owner_open(&o, false);
    add_many(&in, "WHAT\r\n", 20);
    smtp_owner_feed(&o, buf_span(&in));
    cr_assert(!o.closed);
    buf_clear(&o.sent);
    smtp_owner_feed(&o, SPAN("WHAT\r\nNOOP\r\n"));
    expect_sent(&o, "421 4.7.0");
    cr_assert(o.closed);
    smtp_owner_close(&o);
    smtp_owner_open(&o, false);
    buf_clear(&in);
    buf_adds(&in, EHLO MAIL);
    add_many(&in, BAD_RCPT, 20);
    smtp_owner_feed(&o, buf_span(&in));
    cr_assert(!o.closed);
    smtp_owner_feed(&o, SPAN(BAD_RCPT));
    cr_assert(o.closed && span_search(buf_span(&o.sent), SPAN("\r\n421 4.7.0 ")) > 0);
    buf_free(&in);
    smtp_owner_close(&o);
}

static void secure(struct smtp_owner *o)
{
    smtp_owner_open(o, true);
    smtp_owner_feed(o, SPAN(TLS));
    smtp_owner_feed(o, SPAN(EHLO));
    buf_clear(&o->sent);
}

/* As clients of AUTH do: the next line when the one before was answered. */
static void feed_lines(struct smtp_owner *o, struct span in)
{
    while (in.n) {
        const char *lf = memchr(in.p, '\n', in.n);
        size_t n = lf ? (size_t)(lf + 1 - in.p) : in.n;
        smtp_owner_feed(o, span_sub(in, 0, n));
        in = span_from(in, n);
    }
}

/* RFC4954:4 */
Test(smtp, login)
{
    static const struct {
        const char *send, *codes;
        bool in;
        unsigned forgets;
    } cases[] = {
        {LOGIN, "235 2.7.0", true, 0},
        {"auth plain AGFsaWNlQGV4YW1wbGUudGVzdABzZWNyZXQtd29yZHM=\r\n", "235 2.7.0", true, 0},
        {"AUTH PLAIN\r\nAGFsaWNlQGV4YW1wbGUudGVzdABzZWNyZXQtd29yZHM=\r\n", "334|235 2.7.0", true, 0},
        {"AUTH LOGIN\r\nYWxpY2VAZXhhbXBsZS50ZXN0\r\nc2VjcmV0LXdvcmRz\r\n", "334|334|235 2.7.0", true, 0},
        {"AUTH LOGIN YWxpY2VAZXhhbXBsZS50ZXN0\r\nc2VjcmV0LXdvcmRz\r\n", "334|235 2.7.0", true, 0},
        {"AUTH LOGIN\r\nYWxpY2VAZXhhbXBsZS50ZXN0\r\nd3Jvbmc=\r\n", "334|334|535 5.7.8", false, 0},
        {"AUTH PLAIN AGFsaWNlAHdyb25n\r\n", "535 5.7.8", false, 0},
        {"AUTH PLAIN =\r\n", "535 5.7.8", false, 0},
        {"AUTH PLAIN !!!\r\n", "501 5.5.2", false, 0},
        {"AUTH PLAIN\r\n*\r\n", "334|501 5.7.0", false, 1},
        {"AUTH LOGIN\r\nYWxpY2U=\r\n*\r\nNOOP\r\n", "334|334|501 5.7.0|250 2.0.0", false, 1},
        {"AUTH PLAIN\r\n!!!\r\nNOOP\r\n", "334|501 5.5.2|250 2.0.0", false, 1},
        {"AUTH PLAIN\r\nNO\nOP\r\n", "334|500 5.5.2|500 5.5.1", false, 1},
        {"AUTH CRAM-MD5\r\n", "504 5.5.4", false, 0},
        {"AUTH\r\n", "501 5.5.4", false, 0},
        {LOGIN LOGIN, "235 2.7.0|503 5.5.1", true, 0},
        {LOGIN "MAIL FROM:<alice@example.test>\r\nAUTH PLAIN\r\n", "235 2.7.0|250 2.1.0|503 5.5.1", true, 0},
        {LOGIN "MAIL FROM:<alice@example.test> AUTH=<>\r\n", "235 2.7.0|250 2.1.0", true, 0}, /* RFC4954:5 */
        {LOGIN "MAIL FROM:<alice@example.test> AUTH=e+3Dmc2@example.com\r\n", "235 2.7.0|250 2.1.0", true, 0},
        {LOGIN "MAIL FROM:<alice@example.test> AUTH=a+b\r\n", "235 2.7.0|501 5.5.4", true, 0},
        {LOGIN "MAIL FROM:<bob@example.test>\r\n" RCPT, "235 2.7.0|550 5.7.1|503 5.5.1", true, 0},
        {LOGIN "MAIL FROM:<alice@example.test>\r\nRCPT TO:<x@remote.test>\r\nDATA\r\nBcc: y\r\nA: b\r\n.\r\n",
         "235 2.7.0|250 2.1.0|250 2.1.5|354|250 2.0.0", true, 0},
    };
    for (size_t i = 0; i < COUNT_OF(cases) * 2; i++) {
        struct smtp_owner o;
        secure(&o);
        if (i % 2)
            smtp_owner_feed_slowly(&o, span_of(cases[i / 2].send));
        else
            feed_lines(&o, span_of(cases[i / 2].send));
        expect_sent(&o, cases[i / 2].codes);
        cr_assert_eq(smtp_server_login_name(o.s).n > 0, cases[i / 2].in, "case %zu", i);
        cr_assert_eq(o.forgets, cases[i / 2].forgets, "case %zu", i);
        cr_assert(o.commits == 0 || span_eqs(buf_span(&o.stored), "A: b\r\n"));
        smtp_owner_close(&o);
    }
}

Test(smtp, login_limits)
{
    struct smtp_owner o;
    struct buf in = {0};
    secure(&o);
    add_many(&in, "AUTH PLAIN AGFsaWNlAHdyb25n\r\n", 3);
    smtp_owner_feed(&o, buf_span(&in));
    expect_sent(&o, "535 5.7.8|535 5.7.8|421 4.7.0");
    cr_assert(o.closed);
    smtp_owner_close(&o);
    /* RFC4954:4: lines of a login may have 12288 octets, no more */
    for (int over = 0; over < 2; over++) {
        secure(&o);
        buf_clear(&in);
        buf_adds(&in, "AUTH PLAIN\r\n");
        size_t start = in.n;
        add_many(&in, "AAAA", 12284 / 4);
        buf_adds(&in, over ? "AAA" : "");
        buf_adds(&in, "\r\n");
        cr_assert_eq(in.n - start, over ? 12289 : 12286);
        buf_adds(&in, "NOOP\r\n");
        feed_lines(&o, buf_span(&in));
        expect_sent(&o, over ? "334|500 5.5.6|250 2.0.0" : "334|535 5.7.8|250 2.0.0");
        smtp_owner_close(&o);
    }
    buf_free(&in);
}

static bool lines_end_well(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((s.p[i] == '\n' && (i == 0 || s.p[i - 1] != '\r')) ||
            (s.p[i] == '\r' && (i + 1 == s.n || s.p[i + 1] != '\n')))
            return false;
    return true;
}

/* HAZARDS 1, the session's side: one message or a refusal, never two messages, whatever stands at the end and wherever
 * it is cut. */
Test(smtp, smuggling_never_makes_two_messages)
{
    static const char *const pieces[] = {"", "\r", "\n", "\r\n", "\r\r\n"};
    for (int n = 0; n < 5 * 5 * 5; n++) {
        struct buf in = {0};
        buf_adds(&in, EHLO MAIL RCPT "DATA\r\nSubject: x\r\n\r\nbody");
        size_t from = in.n;
        buf_adds(&in, pieces[n % 5]);
        buf_adds(&in, pieces[n / 5 % 5]);
        buf_adds(&in, ".");
        buf_adds(&in, pieces[n / 25]);
        bool real = span_search(span_from(buf_span(&in), from), SPAN("\r\n.\r\n")) >= 0;
        bool only_crlf = lines_end_well(span_from(buf_span(&in), from));
        bool clean = real && only_crlf;
        buf_adds(&in, MAIL RCPT "DATA\r\nevil\r\n.\r\nQUIT\r\n");
        for (size_t cut = from; cut < in.n; cut++) {
            struct smtp_owner o;
            smtp_owner_open(&o, false);
            smtp_owner_feed(&o, span_sub(buf_span(&in), 0, cut));
            smtp_owner_feed(&o, span_from(buf_span(&in), cut));
            /* The clean end followed by commands is two messages by right. A flawed message with a real end is refused,
             * and what follows runs; unless CR CR LF stood before that end. Without a real end all of it is one
             * message. */
            bool doubtful = span_search(span_from(buf_span(&in), from), SPAN("\r\r\n.\r\n")) >= 0;
            bool refused = span_search(buf_span(&o.sent), SPAN("\r\n554 5.6.0")) >= 0;
            cr_assert_eq(refused, !only_crlf, "%d at %zu", n, cut);
            cr_assert_eq(o.commits,
                         clean               ? 2
                         : real && !doubtful ? 1
                         : only_crlf         ? 1
                                             : 0,
                         "%d at %zu: %u", n, cut, o.commits);
            cr_assert(!real || refused || clean, "%d at %zu", n, cut);
            cr_assert_eq(o.closed, true);
            smtp_owner_close(&o);
        }
        buf_free(&in);
    }
}

static void content_session(struct smtp_owner *o, struct span content, const char *codes)
{
    smtp_owner_open(o, false);
    smtp_owner_feed(o, SPAN(EHLO MAIL RCPT "DATA\r\n"));
    buf_clear(&o->sent);
    smtp_owner_feed(o, content);
    smtp_owner_feed(o, SPAN(".\r\n"));
    if (!o->closed)
        smtp_owner_feed(o, SPAN("NOOP\r\n"));
    expect_sent(o, codes);
    smtp_owner_close(o);
}

Test(smtp, content_that_is_refused)
{
    struct smtp_owner o;
    struct buf b = {0};
    content_session(&o, SPAN("a\nb\r\n"), "554 5.6.0|250 2.0.0");
    content_session(&o, SPAN("a\rb\r\n"), "554 5.6.0|250 2.0.0");
    content_session(&o, SPAN("a\r\r\nb\r\n"), "554 5.6.0|250 2.0.0");
    content_session(&o, SPAN("a\r\r\n"), "554 5.6.0"); /* HAZARDS 1: the end is in doubt, and so is what follows */
    content_session(&o, SPAN("a\0b\r\n"), "554 5.6.0|250 2.0.0");
    add_many(&b, "0123456789", 100);
    buf_adds(&b, "\r\n");
    content_session(&o, buf_span(&b), "554 5.6.0|250 2.0.0");
    buf_clear(&b);
    add_many(&b, "\r\n01234567", 10001);
    buf_adds(&b, "\r\n");
    content_session(&o, buf_span(&b), "552 5.3.4|250 2.0.0"); /* RFC1870:6.3 */
    buf_clear(&b);
    add_many(&b, "A: 0123456789\r\n", 1500);
    content_session(&o, buf_span(&b), "552 5.3.4|250 2.0.0");
    buf_clear(&b);
    add_many(&b, "Received: x\r\n", 101);
    content_session(&o, buf_span(&b), "554 5.4.6|250 2.0.0"); /* RFC5321:6.3 */
    buf_clear(&b);
    add_many(&b, "Received: x\r\n", 100);
    content_session(&o, buf_span(&b), "250 2.0.0|250 2.0.0");
    buf_free(&b);
}

/* Whoever sends without end is cut off, and costs no memory meanwhile. */
Test(smtp, endless_content)
{
    struct smtp_owner o;
    smtp_owner_open(&o, false);
    smtp_owner_feed(&o, SPAN(EHLO MAIL RCPT "DATA\r\n\r\n"));
    buf_clear(&o.sent);
    struct buf b = {0};
    add_many(&b, "01234567\r\n", 1000);
    for (int i = 0; i < 1000 && !o.closed; i++) {
        smtp_owner_feed(&o, buf_span(&b));
        cr_assert(smtp_server_content(o.s)->n <= o.config.content_high + b.n);
    }
    cr_assert(o.closed);
    expect_sent(&o, "552 5.3.4");
    buf_free(&b);
    smtp_owner_close(&o);
}

static void large(struct buf *b)
{
    buf_adds(b, "Subject: large\r\n\r\n");
    while (b->n < 90000)
        buf_adds(b, "0123456789012345678901234567890123456789012345678901234567890123456789\r\n");
}

Test(smtp, large_content_asks_for_room)
{
    struct buf b = {0};
    large(&b);
    for (size_t step = 1000; step < 100000; step *= 9) {
        struct smtp_owner o;
        smtp_owner_open(&o, false);
        smtp_owner_feed(&o, SPAN(EHLO MAIL RCPT "DATA\r\n"));
        buf_clear(&o.sent);
        for (size_t i = 0; i < b.n; i += step) {
            smtp_owner_feed(&o, span_sub(buf_span(&b), i, step));
            cr_assert(smtp_server_content(o.s)->n <= o.config.content_high + step);
        }
        smtp_owner_feed(&o, SPAN(".\r\n"));
        expect_sent(&o, "250 2.0.0");
        cr_assert(span_eq(buf_span(&o.stored), buf_span(&b)));
        cr_assert(o.aborts == 0 && (o.rooms > 0 || step > 50000));
        smtp_owner_close(&o);
    }
    struct smtp_owner o;
    smtp_owner_open(&o, false);
    o.refuse_room = true;
    smtp_owner_feed(&o, SPAN(EHLO MAIL RCPT "DATA\r\n"));
    buf_clear(&o.sent);
    smtp_owner_feed(&o, span_sub(buf_span(&b), 0, 40000));
    smtp_owner_feed(&o, span_from(buf_span(&b), 40000));
    smtp_owner_feed(&o, SPAN(".\r\nNOOP\r\n"));
    expect_sent(&o, "452 4.3.1|250 2.0.0");
    cr_assert(o.commits == 0 && o.rooms == 1 && o.aborts == 0);
    o.refuse_room = false;
    smtp_owner_feed(&o, SPAN(MAIL RCPT "DATA\r\n"));
    smtp_owner_feed(&o, span_sub(buf_span(&b), 0, 40000));
    smtp_owner_feed(&o, span_from(buf_span(&b), 40000));
    smtp_owner_feed(&o, SPAN("bare\nfeed\r\n.\r\n"));
    cr_assert(o.rooms > 2 && o.aborts == 1 && o.commits == 0);
    smtp_owner_close(&o);
    buf_free(&b);
}

/* Whether HELP's list has that verb, in a session of its own. */
static bool help_lists(const struct smtp_owner *o, const char *verb)
{
    struct span sent = buf_span(&o->sent), list = span_cut(&sent, '\r');
    span_cut(&list, ' ');
    while (list.n)
        if (span_eqs(span_cut(&list, ' '), verb))
            return true;
    return false;
}

/* RFC5321:4.1.1.8: HELP has every verb that is served there, and no other; so have its topics. */
Test(smtp, help_is_what_is_served)
{
    static const char *const verbs[] = {"EHLO", "MAIL", "RCPT", "DATA", "QUIT", "RSET", "NOOP", "HELO", "STARTTLS", "AUTH", "VRFY", "HELP", "BDAT",
                                        "EXPN", "XCLIENT", "ETRN", "ATRN", "TURN", "SEND", "SOML", "SAML", "GET", "XYZZY"};
    for (unsigned kind = 0; kind < 8; kind++) {
        for (size_t i = 0; i < COUNT_OF(verbs); i++) {
            struct smtp_owner o;
            smtp_owner_open(&o, kind & 1);
            o.config.on_demand = kind == 7; /* and of our users' */
            o.config.starttls = (kind & 2) == 0;
            o.config.send_commands = o.config.etrn = (kind & 2) != 0;
            o.config.expn = kind & 2 ? SMTP_ASKING_ON : SMTP_ASKING_OFF;
            if (kind & 4)
                smtp_server_trust(o.s);
            buf_clear(&o.sent);
            smtp_owner_feed(&o, SPAN("HELP\r\n"));
            bool listed = help_lists(&o, verbs[i]);
            struct buf said = {0};
            buf_printf(&said, "HELP %s\r\n", verbs[i]);
            buf_clear(&o.sent);
            smtp_owner_feed(&o, buf_span(&said));
            cr_expect(span_starts(buf_span(&o.sent), listed ? SPAN("214 ") : SPAN("504 ")), "%u %s", kind, verbs[i]);
            buf_clear(&said);
            buf_printf(&said, "%s\r\n", verbs[i]);
            buf_clear(&o.sent);
            smtp_owner_feed(&o, SPAN("EHLO c\r\n"));
            buf_clear(&o.sent);
            smtp_owner_feed(&o, buf_span(&said));
            bool unknown = span_starts(buf_span(&o.sent), SPAN("500 ")) || span_starts(buf_span(&o.sent), SPAN("502 ")) ||
                           span_starts(buf_span(&o.sent), SPAN("421 "));
            /* these are refused in other words, or as to their argument, where they are not offered */
            bool own_words = span_eqs(span_of(verbs[i]), "EXPN") || span_eqs(span_of(verbs[i]), "XCLIENT") || span_eqs(span_of(verbs[i]), "AUTH");
            cr_expect(listed != unknown || own_words, "%u %s: %s", kind, verbs[i], buf_cstr(&o.sent));
            buf_free(&said);
            smtp_owner_close(&o);
        }
    }
}

/* RFC5321:4.1.1.8, RFC9422:4 */
Test(smtp, help_and_limits)
{
    struct smtp_owner o;
    smtp_owner_open(&o, false);
    buf_clear(&o.sent);
    smtp_owner_feed(&o, SPAN("HELP rcpt\r\n"));
    cr_assert(span_starts(buf_span(&o.sent), SPAN("214 2.0.0 RCPT TO:<address> [NOTIFY=")), "%s", buf_cstr(&o.sent));
    buf_clear(&o.sent);
    smtp_owner_feed(&o, SPAN("HELP mail\r\n")); /* the parameters that are served there and then */
    cr_assert(span_eqs(buf_span(&o.sent), "214 2.0.0 MAIL FROM:<address> [SIZE=octets] [BODY=7BIT|8BITMIME|BINARYMIME] [RET=FULL|HDRS] "
                                          "[ENVID=xtext] [SMTPUTF8] [BY=seconds;R|N[T]]\r\n"),
              "%s", buf_cstr(&o.sent));
    buf_clear(&o.sent);
    smtp_owner_feed(&o, SPAN("HELP\r\n"));
    cr_assert(span_starts(buf_span(&o.sent),
                          SPAN("214-2.0.0 EHLO MAIL RCPT DATA QUIT RSET NOOP HELO STARTTLS VRFY HELP BDAT\r\n")),
              "%s", buf_cstr(&o.sent));
    buf_clear(&o.sent);
    smtp_owner_feed(&o, SPAN("HELP TURN\r\nHELP me\r\n"));
    cr_assert(
        span_eqs(buf_span(&o.sent), "504 5.5.4 There is no help on that\r\n504 5.5.4 There is no help on that\r\n"));
    o.config.max_transactions = 0;
    buf_clear(&o.sent);
    smtp_owner_feed(&o, SPAN(EHLO));
    cr_assert(span_search(buf_span(&o.sent), SPAN("\r\n250-LIMITS RCPTMAX=100\r\n")) > 0);
    smtp_owner_close(&o);
}

/* RFC3030:2 */
static const struct script chunks[] = {
    {false,
     EHLO MAIL RCPT "BDAT 6\r\na: b\r\nBDAT 7 LAST\r\n\r\n.\r\nx\r"
                    "NOOP\r\n",
     "220|250|250 2.1.0|250 2.1.5|250 2.0.0|554 5.6.0|250 2.0.0"},
    {false,
     EHLO MAIL RCPT "BDAT 6\r\na: b\r\nBDAT 8 last\r\n\r\n.\r\nx\r\n"
                    "NOOP\r\n",
     "220|250|250 2.1.0|250 2.1.5|250 2.0.0|250 2.0.0|250 2.0.0"},
    {false, EHLO MAIL RCPT "BDAT 0\r\nBDAT 0 LAST\r\n", "220|250|250 2.1.0|250 2.1.5|250 2.0.0|250 2.0.0"},
    /* after the last one, and after a failed one, what is pipelined is dropped */
    {false, EHLO MAIL RCPT "BDAT 2 LAST\r\n\r\nBDAT 6\r\nQUIT\r\nNOOP\r\n",
     "220|250|250 2.1.0|250 2.1.5|250 2.0.0|503 5.5.1|250 2.0.0"},
    {false, EHLO MAIL RCPT "BDAT 6\r\na: b\n\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n",
     "220|250|250 2.1.0|250 2.1.5|554 5.6.0|503 5.5.1|250 2.0.0"},
    {false, EHLO MAIL BAD_RCPT "BDAT 6 LAST\r\nQUIT\r\nRSET\r\n", "220|250|250 2.1.0|550 5.1.1|554 5.5.1|250 2.0.0"},
    {false, EHLO MAIL "BDAT 6 LAST\r\nQUIT\r\n" RCPT "BDAT 2 LAST\r\n\r\n",
     "220|250|250 2.1.0|503 5.5.1|503 5.5.1|503 5.5.1"},
    {false, EHLO MAIL "BDAT 6\r\nQUIT\r\n" RCPT "BDAT 2 LAST\r\n\r\n",
     "220|250|250 2.1.0|503 5.5.1|250 2.1.5|250 2.0.0"},
    /* RFC3030:2: behind a last one that was refused the transaction is over: no recipient of the next message is one of this */
    {false, EHLO MAIL BAD_RCPT "BDAT 2 LAST\r\n\r\n" MAIL RCPT "BDAT 2 LAST\r\n\r\n",
     "220|250|250 2.1.0|550 5.1.1|554 5.5.1|250 2.1.0|250 2.1.5|250 2.0.0"},
    /* no mix with DATA, no other transaction between the chunks */
    {false, EHLO MAIL RCPT "BDAT 2\r\n\r\n" MAIL RCPT "RSET\r\n" MAIL,
     "220|250|250 2.1.0|250 2.1.5|250 2.0.0|503 5.5.1|503 5.5.1|250 2.0.0|250 2.1.0"},
    {false, EHLO MAIL RCPT "BDAT 2\r\n\r\n" EHLO "BDAT 2 LAST\r\n\r\n",
     "220|250|250 2.1.0|250 2.1.5|250 2.0.0|250|503 5.5.1"},
    /* where the content would end is not known: the end */
    {false, EHLO MAIL RCPT "BDAT LAST\r\nNOOP\r\n", "220|250|250 2.1.0|250 2.1.5|501 5.5.4"},
    {false, EHLO MAIL RCPT "BDAT -1\r\nNOOP\r\n", "220|250|250 2.1.0|250 2.1.5|501 5.5.4"},
    {false, EHLO MAIL RCPT "BDAT 2 LAS\r\nNOOP\r\n", "220|250|250 2.1.0|250 2.1.5|501 5.5.4"},
    {false, EHLO MAIL RCPT "BDAT\r\nNOOP\r\n", "220|250|250 2.1.0|250 2.1.5|501 5.5.4"},
    {false, EHLO MAIL RCPT "BDAT 18446744073709551616\r\nNOOP\r\n", "220|250|250 2.1.0|250 2.1.5|501 5.5.4"},
    {false, EHLO MAIL RCPT "BDAT 18446744073709551615\r\nNOOP\r\n", "220|250|250 2.1.0|250 2.1.5|552 5.3.4"},
    /* a NUL is no more welcome than behind DATA: BINARYMIME is not offered */
    {false, EHLO "MAIL FROM:<> BODY=BINARY\r\n", "220|250|501 5.5.4"},
};

Test(smtp, chunks)
{
    expect_all(chunks, COUNT_OF(chunks));
    /* HAZARDS 5: content sent behind the DATA that is refused never runs */
    const struct script mix = {false, EHLO MAIL RCPT "BDAT 2\r\n\r\nDATA\r\nMAIL FROM:<evil@remote.test>\r\n.\r\n",
                               "220|250|250 2.1.0|250 2.1.5|250 2.0.0|503 5.5.1"};
    expect(&mix, false);
}

/* RFC3030:2, HAZARDS 1: dots and commands in a chunk are content, as it stands; a last line gets its CRLF. */
Test(smtp, chunks_are_stored_as_they_stand)
{
    for (int slowly = 0; slowly < 2; slowly++) {
        struct smtp_owner o;
        struct span in = SPAN(EHLO MAIL RCPT "BDAT 27\r\nSubject: x\r\n\r\n.\r\n..\r\nRSET\r\nBDAT 3 LAST\r\nend");
        smtp_owner_open(&o, false);
        if (slowly)
            smtp_owner_feed_slowly(&o, in);
        else
            smtp_owner_feed(&o, in);
        cr_assert(o.commits == 1 && span_eqs(buf_span(&o.stored), "Subject: x\r\n\r\n.\r\n..\r\nRSET\r\nend\r\n"),
                  "%.*s", SPANV(buf_span(&o.stored)));
        cr_assert(o.header_bytes == 12);
        smtp_owner_close(&o);
    }
}

/* Large chunks ask for room like DATA, and the limit on the size holds over all chunks. */
Test(smtp, large_chunks)
{
    struct smtp_owner o;
    struct buf in = {0}, codes = {0};
    smtp_owner_open(&o, false);
    buf_add(&in, SPAN(EHLO MAIL RCPT "BDAT 2\r\n\r\n"));
    for (int i = 0; i < 9; i++) {
        buf_add(&in, SPAN("BDAT 10000\r\n"));
        for (int k = 0; k < 100; k++)
            buf_printf(&in, "%098d\r\n", k);
    }
    buf_add(&in, SPAN("BDAT 0 LAST\r\n"));
    smtp_owner_feed(&o, buf_span(&in));
    cr_assert(o.commits == 1 && o.stored.n == 90002 && o.rooms > 0);
    buf_clear(&in);
    buf_add(&in, SPAN(MAIL RCPT "BDAT 2\r\n\r\n"));
    for (int i = 0; i < 11; i++) {
        buf_add(&in, SPAN("BDAT 10000\r\n"));
        for (int k = 0; k < 100; k++)
            buf_printf(&in, "%098d\r\n", k);
    }
    size_t before = o.sent.n;
    smtp_owner_feed(&o, buf_span(&in));
    codes_of(span_from(buf_span(&o.sent), before), &codes);
    cr_assert(o.commits == 1 && span_ends(buf_span(&codes), SPAN("250 2.0.0|552 5.3.4|503 5.5.1")), "%.*s",
              SPANV(buf_span(&codes)));
    buf_free(&in);
    buf_free(&codes);
    smtp_owner_close(&o);
}

/* RFC5321:4.5.3.1.10: however many too many there are, the message goes to those that were taken; pipelined or not. */
Test(smtp, too_many_recipients_are_put_off)
{
    for (unsigned piped = 0; piped < 2; piped++) {
        struct smtp_owner o;
        struct buf all = {0};
        unsigned taken = 0, later = 0;
        smtp_owner_open(&o, false);
        smtp_owner_feed(&o, SPAN(EHLO MAIL));
        buf_clear(&o.sent);
        for (unsigned i = 0; i < 300; i++) {
            buf_add(&all, SPAN(RCPT));
            if (!piped) {
                smtp_owner_feed(&o, buf_span(&all));
                buf_clear(&all);
            }
        }
        smtp_owner_feed(&o, buf_span(&all));
        struct span sent = buf_span(&o.sent);
        while (sent.n) {
            struct span line = span_cut(&sent, '\n');
            cr_expect(later ? span_starts(line, SPAN("452 4.5.3 ")) : span_starts(line, SPAN("250 2.1.5 ")) || span_starts(line, SPAN("452 4.5.3 ")));
            taken += span_starts(line, SPAN("250 "));
            later += span_starts(line, SPAN("452 "));
        }
        cr_expect_eq(taken, o.config.max_recipients);
        cr_expect_eq(later, 300 - o.config.max_recipients);
        buf_clear(&o.sent);
        smtp_owner_feed(&o, SPAN("DATA\r\n"));
        smtp_owner_feed(&o, SPAN("x\r\n.\r\n"));
        expect_sent(&o, "354|250 2.0.0");
        cr_expect_eq(o.commits, 1u);
        buf_free(&all);
        smtp_owner_close(&o);
    }
}

/* What is refused for good at MAIL and behind the content counts, as a wrong command does. */
Test(smtp, final_refusals_count_as_errors)
{
    struct smtp_owner o;
    unsigned errors, refused;
    struct outcome no = outcome_make(OUTCOME_FAILED, 554, 7, 1, "No"), later = outcome_make(OUTCOME_RETRY, 451, 3, 0, "Later");
    smtp_owner_open(&o, false);
    o.config.max_errors = 2;
    o.hold_commits = true;
    smtp_owner_feed(&o, SPAN(EHLO));
    buf_clear(&o.sent);
    for (unsigned i = 0; i < 6; i++) {
        smtp_owner_feed(&o, SPAN(MAIL RCPT "DATA\r\nx\r\n.\r\n"));
        buf_clear(&o.sent);
        smtp_server_committed(o.s, i < 3 ? &later : &no);
        smtp_owner_run(&o);
        expect_sent(&o, i < 3 ? "451 4.3.0" : i < 5 ? "554 5.7.1" : "554 5.7.1|421 4.7.0");
        smtp_server_faults(o.s, &errors, &refused);
        cr_expect_eq(errors, i < 3 ? 0 : i - 2);
    }
    cr_expect(o.closed);
    smtp_owner_close(&o);

    smtp_owner_open(&o, true);
    o.config.max_errors = 1;
    smtp_owner_feed(&o, SPAN(EHLO "STARTTLS\r\n"));
    smtp_owner_feed(&o, SPAN(EHLO "AUTH PLAIN AGFsaWNlQGV4YW1wbGUudGVzdABzZWNyZXQtd29yZHM=\r\n"));
    buf_clear(&o.sent);
    smtp_owner_feed(&o, SPAN(MAIL MAIL));
    expect_sent(&o, "550 5.7.1|550 5.7.1|421 4.7.0");
    cr_expect(o.closed);
    smtp_owner_close(&o);
}

/* Commands that lead nowhere are free a hundred times for each message. */
Test(smtp, idle_commands_are_not_free_for_ever)
{
    static const char *const idle[] = {"NOOP\r\n", "RSET\r\n", "HELP\r\n", "HELP mail\r\n", "VRFY alice\r\n", "EXPN list\r\n", EHLO, "HELO c\r\n"};
    for (size_t i = 0; i < COUNT_OF(idle); i++) {
        struct smtp_owner o;
        unsigned errors, refused;
        smtp_owner_open(&o, false);
        smtp_owner_feed(&o, SPAN(EHLO));
        for (unsigned n = 1; n < 100; n++)
            smtp_owner_feed(&o, span_of(idle[i]));
        smtp_server_faults(o.s, &errors, &refused);
        cr_expect_eq(errors, 0, "%s", idle[i]);
        smtp_owner_feed(&o, SPAN("RSET\r\n" MAIL RCPT "DATA\r\n"));
        smtp_owner_feed(&o, SPAN("x\r\n.\r\n"));
        cr_assert_eq(o.commits, 1u);
        smtp_server_faults(o.s, &errors, &refused);
        unsigned before = errors;
        cr_expect(before <= 1, "%s", idle[i]);
        for (unsigned n = 0; n < 100; n++)
            smtp_owner_feed(&o, span_of(idle[i]));
        smtp_server_faults(o.s, &errors, &refused);
        cr_expect_eq(errors, before, "the message began it anew: %s", idle[i]);
        buf_clear(&o.sent);
        for (unsigned n = before; n < o.config.max_errors; n++)
            smtp_owner_feed(&o, span_of(idle[i]));
        cr_expect_not(o.closed, "%s", idle[i]);
        cr_expect_lt(span_search(buf_span(&o.sent), SPAN("421")), 0, "%s", idle[i]);
        smtp_owner_feed(&o, span_of(idle[i]));
        cr_expect(o.closed && span_search(buf_span(&o.sent), SPAN("\r\n421 4.7.0 ")) > 0, "%s", idle[i]);
        smtp_owner_close(&o);
    }
}

/* Whether an end now would have somebody send a message twice; and whose faults they were. */
Test(smtp, between_messages)
{
    struct smtp_owner o;
    unsigned errors, refused;
    smtp_owner_open(&o, false);
    o.hold_commits = true;
    smtp_owner_feed(&o, SPAN(EHLO "NONSENSE\r\n"));
    cr_expect(smtp_server_between(o.s));
    smtp_owner_feed(&o, SPAN(MAIL RCPT));
    cr_expect(smtp_server_between(o.s));
    smtp_owner_feed(&o, SPAN("DATA\r\nx\r\n"));
    cr_expect_not(smtp_server_between(o.s));
    smtp_owner_feed(&o, SPAN(".\r\n"));
    cr_expect_not(smtp_server_between(o.s), "it is being stored");
    smtp_server_committed(o.s, &(struct outcome){.kind = OUTCOME_DONE, .code = 250});
    cr_expect(smtp_server_between(o.s));
    smtp_server_faults(o.s, &errors, &refused);
    cr_expect_eq(errors, 1);
    smtp_server_pardon(o.s);
    smtp_server_faults(o.s, &errors, &refused);
    cr_expect_eq(errors + refused, 0);
    smtp_owner_close(&o);
}

/* What tallyd has it do: no transaction until then, no error, and whatever is open goes on. */
Test(smtp, held_back)
{
    struct smtp_owner o;
    smtp_owner_open(&o, false);
    smtp_owner_feed(&o, SPAN(EHLO MAIL));
    smtp_server_hold_back(o.s, o.door.wall + 500, SPAN("Slower, please"));
    smtp_owner_feed(&o, SPAN(RCPT "DATA\r\nx\r\n.\r\n"));
    expect_sent(&o, "220|250|250 2.1.0|250 2.1.5|354|250 2.0.0");
    for (int i = 0; i < 10; i++)
        smtp_owner_feed(&o, SPAN(MAIL));
    cr_expect_gt(span_search(buf_span(&o.sent), SPAN("\r\n450 4.7.0 Slower, please\r\n450 4.7.0 Slower, please\r\n")), 0);
    unsigned errors, refused;
    smtp_server_faults(o.s, &errors, &refused);
    cr_expect_eq(errors, 0);
    smtp_owner_feed(&o, SPAN("RCPT TO:<bob@example.test>\r\nNOOP\r\n"));
    buf_clear(&o.sent);
    o.door.wall += 500;
    smtp_owner_feed(&o, SPAN(MAIL RCPT));
    expect_sent(&o, "250 2.1.0|250 2.1.5");
    smtp_server_hold_back(o.s, 0, SPAN(""));
    smtp_owner_feed(&o, SPAN("RSET\r\n" MAIL));
    expect_sent(&o, "250 2.0.0|250 2.1.0");
    smtp_owner_close(&o);
}

Test(smtp, the_door)
{
    struct smtp_owner o;
    smtp_owner_open(&o, false);
    o.door.queue_closed = true;
    smtp_owner_feed(&o, SPAN(EHLO MAIL));
    expect_sent(&o, "220|250|452 4.3.1");
    o.door.queue_closed = false;
    o.door.crowded = true;
    smtp_owner_feed(&o, SPAN(MAIL));
    expect_sent(&o, "452 4.3.1");
    o.door.crowded = false;
    smtp_owner_feed(&o, SPAN(MAIL RCPT));
    expect_sent(&o, "250 2.1.0|250 2.1.5");
    o.door.crowded = true; /* those that are in go on */
    smtp_owner_feed(&o, SPAN(RCPT RCPT));
    expect_sent(&o, "452 4.3.1|452 4.3.1");
    o.door.crowded = false;
    /* draining: the transaction is finished, then it is over */
    o.door.draining = true;
    smtp_server_drain(o.s);
    smtp_owner_feed(&o, SPAN(RCPT "DATA\r\nx\r\n.\r\n"));
    expect_sent(&o, "250 2.1.5|354|250 2.0.0|421 4.3.2");
    cr_assert(o.closed && o.commits == 1);
    smtp_owner_close(&o);
    smtp_owner_open(&o, false);
    smtp_owner_feed(&o, SPAN(EHLO));
    smtp_server_drain(o.s);
    smtp_owner_run(&o);
    expect_sent(&o, "220|250|421 4.3.2");
    cr_assert(o.closed);
    smtp_owner_close(&o);
}

Test(smtp, one_session_leaves_and_the_door_stays_open)
{
    static const struct {
        const char *text, *sent;
    } cases[] = {{RCPT "DATA\r\nx\r\n.\r\n", "250 2.1.5|354|250 2.0.0|421 4.3.2"},
                 {"RSET\r\nNOOP\r\n", "250 2.0.0|421 4.3.2"},
                 {"RSET\r\nQUIT\r\n", "250 2.0.0|221 2.0.0"}};
    struct smtp_owner o;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        smtp_owner_open(&o, false);
        smtp_owner_feed(&o, SPAN(EHLO MAIL));
        expect_sent(&o, "220|250|250 2.1.0");
        smtp_server_drain(o.s);
        smtp_owner_feed(&o, span_of(cases[i].text));
        expect_sent(&o, cases[i].sent);
        cr_assert(o.closed);
        o.closed = false;
        smtp_server_open(o.s, &o.config, &o.door, false);
        smtp_server_greet(o.s);
        smtp_owner_feed(&o, SPAN(EHLO MAIL));
        expect_sent(&o, "220|250|250 2.1.0");
        smtp_owner_close(&o);
    }
}

Test(smtp, ends_of_a_session)
{
    struct smtp_owner o;
    smtp_owner_open(&o, false);
    smtp_server_timed_out(o.s);
    smtp_owner_run(&o);
    expect_sent(&o, "220|421 4.4.2");
    cr_assert(o.closed);
    smtp_server_timed_out(o.s);
    smtp_owner_run(&o);
    expect_sent(&o, "");
    /* a session is used again: nothing of the last one is left */
    o.closed = false;
    smtp_server_open(o.s, &o.config, &o.door, false);
    smtp_owner_feed(&o, SPAN("EHLO early\r\n")); /* HAZARDS 5 */
    expect_sent(&o, "554 5.5.1");
    cr_assert(o.closed);
    smtp_owner_close(&o);
    smtp_owner_open(&o, false);
    o.hold_commits = true;
    smtp_owner_feed(&o, SPAN(EHLO MAIL RCPT "DATA\r\nMessage-ID: <m@x>\r\n\r\nx\r\n.\r\nNOOP\r\n"));
    expect_sent(&o, "220|250|250 2.1.0|250 2.1.5|354");
    cr_assert(smtp_server_blocked(o.s) && o.commits == 1);
    cr_assert(span_eqs(buf_span(&o.message_id), "<m@x>") && o.header_bytes == 19);
    struct outcome later = outcome_make(OUTCOME_RETRY, 451, 3, 0, "Try again");
    smtp_server_committed(o.s, &later);
    smtp_owner_run(&o);
    expect_sent(&o, "451 4.3.0|250 2.0.0");
    o.config.max_transactions = 1;
    o.hold_commits = false;
    smtp_owner_feed(&o, SPAN(MAIL RCPT "DATA\r\n.\r\n" MAIL));
    expect_sent(&o, "250 2.1.0|250 2.1.5|354|250 2.0.0|421 4.7.0");
    smtp_owner_close(&o);
}

/* RFC2920:3.1, HAZARDS 5: who was not told of PIPELINING has to wait for 354; what it sent before never runs as commands. */
Test(smtp, content_before_354_without_pipelining)
{
    static const struct script table[] = {
        {false, "HELO client.test\r\n" MAIL RCPT "DATA\r\nSubject: x\r\n\r\nRSET\r\n.\r\nNOOP\r\n", "220|250|250 2.1.0|250 2.1.5|554 5.5.0"},
        {false, EHLO MAIL RCPT "DATA\r\nSubject: x\r\n\r\nRSET\r\n.\r\nNOOP\r\n", "220|250|250 2.1.0|250 2.1.5|354|250 2.0.0|250 2.0.0"},
    };
    for (size_t i = 0; i < COUNT_OF(table); i++)
        expect(&table[i], false);
}

/* RFC5321:3.1: who is not served hears why instead of the greeting, and nothing he says is read. */
Test(smtp, a_client_that_is_turned_away)
{
    struct smtp_owner o;
    smtp_owner_open(&o, false);
    buf_clear(&o.sent);
    smtp_server_open(o.s, &o.config, &o.door, false);
    smtp_server_turn_away(o.s, 421, "4.7.0", "Too many connections");
    smtp_owner_feed(&o, SPAN("EHLO x\r\nQUIT\r\n"));
    expect_sent(&o, "421 4.7.0");
    cr_assert(o.closed && o.in.n == 0);
    smtp_owner_close(&o);
}
