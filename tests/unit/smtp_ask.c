/* VRFY, EXPN, XCLIENT, ETRN, ATRN, TURN, SEND, SOML and SAML: every answer, in every state, for who may ask and who may not. */
#include <criterion/criterion.h>

#include "smtp_owner.h"

struct talk {
    enum smtp_asking vrfy, expn;
    bool submission;
    const char *send, *heard; /* lines without CRLF, "\n" behind each */
};

#define LOGIN "EHLO c\r\nAUTH PLAIN AGFsaWNlQGV4YW1wbGUudGVzdABzZWNyZXQtd29yZHM=\r\n"

static void expect(const struct talk *t)
{
    struct smtp_owner o;
    smtp_owner_open(&o, t->submission);
    o.config.vrfy = t->vrfy;
    o.config.expn = t->expn;
    o.config.auth_in_clear = true;
    if (t->submission)
        smtp_owner_feed(&o, SPAN(LOGIN));
    buf_clear(&o.sent);
    smtp_owner_feed(&o, span_of(t->send));
    struct buf lines = {0};
    for (size_t i = 0; i < o.sent.n; i++)
        if (o.sent.p[i] != '\r')
            buf_addc(&lines, o.sent.p[i]);
    cr_assert_str_eq(buf_cstr(&lines), t->heard, "%s", t->send);
    buf_free(&lines);
    smtp_owner_close(&o);
}

#define OFF SMTP_ASKING_OFF
#define ON SMTP_ASKING_ON
#define AUTH SMTP_ASKING_AUTHENTICATED

#define NEITHER "252 2.5.0 Addresses are not verified here; send the message and see\n"
#define UNSERVED "502 5.5.1 That command is not served here\n"
#define UNTOLD "252 2.5.0 Lists are not expanded here; send the message and see\n"
#define NO_NAME "501 5.1.3 That is neither an address nor the name of a user\n"

Test(smtp_ask, every_answer)
{
    static const struct talk talks[] = {
        /* off: who exists and who doesn't sound the same (RFC5321:7.3, RFC5321:3.5.3) */
        {OFF, OFF, false, "VRFY alice\r\nVRFY nobody\r\nVRFY <alice@example.test>\r\n", NEITHER NEITHER NEITHER},
        {OFF, OFF, false, "VRFY a b\r\nVRFY a@\r\nVRFY <a@b\r\nVRFY a@b@c\r\n", NO_NAME NO_NAME NO_NAME NO_NAME},
        {OFF, OFF, false, "VRFY\r\nEXPN list\r\nEXPN\r\n",
         "501 5.5.4 That command needs an argument\n" UNTOLD "501 5.5.4 That command needs an argument\n"},
        {OFF, OFF, false, "VRFY j\xc3\xbcrgen\r\nVRFY j\xc3\xbcrgen SMTPUTF8\r\nVRFY \xff SMTPUTF8\r\n",
         "553 5.6.7 A name outside of ASCII is UTF-8 and needs SMTPUTF8 behind it\n" NEITHER NO_NAME},
        /* authenticated: not on port 25 */
        {AUTH, AUTH, false, "VRFY alice\r\nEXPN list\r\n", NEITHER UNTOLD},
        {AUTH, AUTH, true, "VRFY alice\r\nEXPN list\r\n",
         "250 2.1.5 <alice@example.test>\n250-2.1.5 <alice@example.test>\n250 2.1.5 <bob@example.test>\n"},
        /* on (RFC5321:3.5.1) */
        {ON, ON, false, "VRFY alice\r\nVRFY nobody\r\nVRFY bob\r\nVRFY x@elsewhere.test\r\n",
         "250 2.1.5 <alice@example.test>\n550 5.1.1 No such user here\n553-5.1.4 Ambiguous, it may be one of\n"
         "553-5.1.4 <bob@example.test>\n553 5.1.4 <bob@second.test>\n252 2.5.0 That domain is not served here\n"},
        {ON, ON, false, "EXPN alice\r\nEXPN\r\nEXPN a b\r\n",
         "550 5.1.1 No such user here\n501 5.5.4 That command needs an argument\n" NO_NAME},
        {ON, OFF, false, "EXPN list\r\nEXPN nobody\r\nEXPN a@b@c\r\nHELP EXPN\r\n", UNTOLD UNTOLD NO_NAME "504 5.5.4 There is no help on that\n"},
        {ON, ON, false, "HELP EXPN\r\n", "214 2.0.0 EXPN alias [SMTPUTF8]: its members\n"},
        /* RFC6531:3.7.4.2: UTF-8 leaves for who says it takes it only */
        {ON, ON, false, "VRFY jurgen\r\nVRFY jurgen SMTPUTF8\r\n",
         "252 2.6.8 The answer is UTF-8: ask again with SMTPUTF8 behind the name\n"
         "250 2.1.5 <j\xc3\xbcrgen@example.test>\n"},
        /* in a transaction, which goes on (RFC5321:4.1.4) */
        {ON, ON, false,
         "EHLO c\r\nMAIL FROM:<c@remote.test>\r\nVRFY alice\r\nRCPT TO:<alice@example.test>\r\nEXPN list\r\nRSET\r\n",
         "250-mx.example.test\n250-PIPELINING\n250-SIZE 100000\n250-8BITMIME\n250-BINARYMIME\n250-CHUNKING\n250-DSN\n250-SMTPUTF8\n"
         "250-LIMITS MAILMAX=50 RCPTMAX=100\n250-DELIVERBY 60\n250-STARTTLS\n250-VRFY\n250-EXPN\n250 ENHANCEDSTATUSCODES\n"
         "250 2.1.0 Ok\n250 2.1.5 <alice@example.test>\n250 2.1.5 Ok\n250-2.1.5 <alice@example.test>\n"
         "250 2.1.5 <bob@example.test>\n250 2.0.0 Ok\n"},
    };
    for (size_t i = 0; i < COUNT_OF(talks); i++)
        expect(&talks[i]);
}

/* As at RCPT: who guesses names is sent away. */
Test(smtp_ask, guessing_ends)
{
    struct smtp_owner o;
    smtp_owner_open(&o, false);
    o.config.vrfy = SMTP_ASKING_ON;
    for (int i = 0; i < 21; i++)
        smtp_owner_feed(&o, SPAN("VRFY nobody\r\n"));
    cr_assert(o.closed);
    cr_assert(span_iends(buf_span(&o.sent), SPAN("421 4.7.0 Too many names were refused, closing the connection\r\n")));
    smtp_owner_close(&o);
}

/* ---- XCLIENT ---- */

Test(smtp_ask, xclient_begins_anew)
{
    struct smtp_owner o;
    smtp_owner_open(&o, false);
    smtp_server_trust(o.s);
    buf_clear(&o.sent);
    smtp_owner_feed(&o, SPAN("EHLO front.test\r\nHELP XCLIENT\r\n"));
    cr_assert_geq(span_search(buf_span(&o.sent), SPAN("250-XCLIENT NAME ADDR PORT PROTO HELO\r\n")), 0);
    cr_assert_geq(span_search(buf_span(&o.sent), SPAN("214 2.0.0 XCLIENT attribute=xtext")), 0);
    buf_clear(&o.sent);
    smtp_owner_feed(&o, SPAN("XCLIENT NAME=c.test ADDR=192.0.2.7 PORT=4000 PROTO=SMTP HELO=real+2Etest\r\n"));
    cr_assert(span_eqs(buf_span(&o.sent), "220 mx.example.test ESMTP Waypost\r\n"));
    const struct smtp_xclient *x = smtp_server_xclient(o.s);
    cr_assert(x->has_name && x->has_addr && x->has_port && x->has_proto && x->has_helo);
    cr_assert_str_eq(x->name, "c.test");
    cr_assert_eq(x->port, 4000);
    buf_clear(&o.sent);
    smtp_owner_feed(&o, SPAN("MAIL FROM:<>\r\nEHLO front.test\r\n"));
    cr_assert(span_starts(buf_span(&o.sent), SPAN("503 5.5.1 ")), "the session begins anew");
    cr_assert(span_eqs(smtp_server_helo(o.s), "real.test"), "what the front told of its client stays");
    cr_assert_not(smtp_server_is_esmtp(o.s));
    buf_clear(&o.sent);
    smtp_owner_feed(&o, SPAN("MAIL FROM:<>\r\nXCLIENT ADDR=192.0.2.8\r\nRSET\r\nXCLIENT ADDR=[UNAVAILABLE] HELO=[UNAVAILABLE]\r\n"));
    cr_assert(span_iends(buf_span(&o.sent), SPAN("250 2.0.0 Ok\r\n220 mx.example.test ESMTP Waypost\r\n")));
    cr_assert_geq(span_search(buf_span(&o.sent), SPAN("503 5.5.1 ")), 0, "not within a transaction");
    cr_assert_eq(smtp_server_xclient(o.s)->addr.ss_family, AF_UNSPEC);
    smtp_owner_feed(&o, SPAN("HELO front.test\r\n"));
    cr_assert(span_eqs(smtp_server_helo(o.s), "front.test"));
    smtp_owner_close(&o);
}

Test(smtp_ask, xclient_drops_the_login)
{
    struct smtp_owner o;
    smtp_owner_open(&o, true);
    o.config.auth_in_clear = true;
    smtp_server_trust(o.s);
    smtp_owner_feed(&o, SPAN(LOGIN));
    cr_assert_gt(smtp_server_login_name(o.s).n, 0u);
    smtp_owner_feed(&o, SPAN("XCLIENT ADDR=192.0.2.7\r\nEHLO c\r\n"));
    cr_assert_eq(smtp_server_login_name(o.s).n, 0u);
    cr_assert_eq(o.forgets, 1u);
    smtp_owner_feed(&o, SPAN("MAIL FROM:<alice@example.test>\r\n"));
    cr_assert_geq(span_search(buf_span(&o.sent), SPAN("530 5.7.0 ")), 0);
    smtp_owner_close(&o);
}

Test(smtp_ask, xclient_errors)
{
    static const char *const bad[] = {"XCLIENT NAME", "XCLIENT NAME=", "XCLIENT =x", "XCLIENT LOGIN=alice", "XCLIENT DESTADDR=192.0.2.1",
                                      "XCLIENT ADDR=192.0.2", "XCLIENT ADDR=::1", "XCLIENT ADDR=IPV6:192.0.2.1", "XCLIENT PORT=0",
                                      "XCLIENT PORT=65536", "XCLIENT PORT=x", "XCLIENT PROTO=LMTP", "XCLIENT NAME=a+2", "XCLIENT NAME=a+0Ab",
                                      "XCLIENT NAME=a NAME=b", "XCLIENT ADDR=192.0.2.1 x", "XCLIENT HELO=a+20b", "XCLIENT NAME=(x)"};
    struct smtp_owner o;
    smtp_owner_open(&o, false);
    smtp_server_trust(o.s);
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        buf_clear(&o.sent);
        smtp_owner_feed(&o, span_of(bad[i]));
        smtp_owner_feed(&o, SPAN("\r\n"));
        cr_assert(span_starts(buf_span(&o.sent), SPAN("501 5.5.4 ")), "%s: %.*s", bad[i], SPANV(buf_span(&o.sent)));
    }
    smtp_owner_close(&o);
    smtp_owner_open(&o, false);
    smtp_owner_feed(&o, SPAN("EHLO c\r\nXCLIENT ADDR=192.0.2.7\r\nXCLIENT\r\nHELP XCLIENT\r\n"));
    cr_assert_lt(span_search(buf_span(&o.sent), SPAN("250-XCLIENT")), 0);
    cr_assert(span_iends(buf_span(&o.sent), SPAN("550 5.7.0 You may speak for nobody else here\r\n501 5.5.4 That command needs an argument\r\n"
                                                 "504 5.5.4 There is no help on that\r\n")));
    smtp_owner_close(&o);
}

/* ---- ETRN, ATRN, TURN ---- */

static void lines_of(struct smtp_owner *o, struct buf *lines)
{
    buf_clear(lines);
    for (size_t i = 0; i < o->sent.n; i++)
        if (o->sent.p[i] != '\r')
            buf_addc(lines, o->sent.p[i]);
    buf_clear(&o->sent);
}

Test(smtp_ask, etrn)
{
    struct smtp_owner o;
    struct buf lines = {0};
    smtp_owner_open(&o, false);
    o.config.etrn = true;
    smtp_owner_feed(&o, SPAN("EHLO c\r\n"));
    cr_assert_geq(span_search(buf_span(&o.sent), SPAN("250-ETRN\r\n")), 0);
    buf_clear(&o.sent);
    smtp_owner_feed(&o, SPAN("ETRN customer.test\r\nETRN @customer.test\r\nETRN empty.test\r\nETRN rival.test\r\nETRN #uucp\r\n"
                             "ETRN\r\nETRN @\r\nETRN a b\r\nETRN [192.0.2.1]\r\nETRN a..b\r\n"
                             "MAIL FROM:<>\r\nETRN customer.test\r\nHELP ETRN\r\n")); /* RFC1985:5, RFC1985:5.1, RFC1985:5.3 */
    lines_of(&o, &lines);
#define NO_NODE "501 5.5.4 ETRN takes the name of a domain, with @ before it for all below\n"
    cr_assert_str_eq(buf_cstr(&lines), "253 2.0.0 OK, 3 pending messages started\n253 2.0.0 OK, 3 pending messages started\n"
                                       "251 2.0.0 OK, no messages waiting\n459 4.7.1 not allowed for you\n"
                                       "458 4.4.0 Unable to queue messages: there are no queues but those of domains\n"
                                       "501 5.5.4 That command needs an argument\n" NO_NODE NO_NODE NO_NODE NO_NODE
                                       "250 2.1.0 Ok\n503 5.5.1 A transaction is open, finish it or say RSET\n"
                                       "214 2.0.0 ETRN [@]domain: starts the queue for that domain, for those who may\n");
    smtp_owner_close(&o);
    buf_free(&lines);
}

/* RFC2645:5.1 to RFC2645:5.4 */
Test(smtp_ask, atrn)
{
    struct smtp_owner o;
    struct buf lines = {0};
    smtp_owner_open(&o, true);
    o.config.on_demand = o.config.auth_in_clear = true;
    o.config.starttls = false;
    buf_clear(&o.sent);
    smtp_owner_feed(&o, SPAN("EHLO c\r\nATRN\r\nMAIL FROM:<>\r\nRCPT TO:<a@b>\r\nBDAT 1\r\nVRFY a\r\nETRN a.test\r\nTURN\r\nXCLIENT NAME=a\r\nDATA\r\n"));
    smtp_owner_feed(&o, SPAN("NOOP\r\n"));
    lines_of(&o, &lines);
    cr_assert_str_eq(buf_cstr(&lines), "250-mx.example.test\n250-AUTH PLAIN LOGIN\n250-ATRN\n250 ENHANCEDSTATUSCODES\n"
                                       "530 5.7.0 Log in first\n" UNSERVED UNSERVED UNSERVED UNSERVED UNSERVED UNSERVED UNSERVED UNSERVED
                                       "250 2.0.0 Ok\n");
    smtp_owner_feed(&o, SPAN(LOGIN));
    buf_clear(&o.sent);
#define NO_LIST "501 5.5.4 ATRN takes names of domains with commas between, or none\n"
    smtp_owner_feed(&o, SPAN("ATRN a.test,\r\nATRN ,a.test\r\nATRN a b\r\nATRN [192.0.2.1]\r\nATRN rival.test\r\nATRN empty.test,empty2.test\r\n"
                             "ATRN customer.test\r\n220 mine\r\n"));
    lines_of(&o, &lines);
    cr_assert_str_eq(buf_cstr(&lines), NO_LIST NO_LIST NO_LIST NO_LIST "550 5.7.1 That mail is not yours to take\n"
                                       "453 4.0.0 You have no mail\n250 2.0.0 OK now reversing the connection\n");
    cr_assert_not(o.closed, "the owner carries on");
    smtp_owner_feed(&o, SPAN("MAIL FROM:<>\r\n"));
    cr_assert_eq(o.sent.n, 0u, "the engine has nothing more to say");
    smtp_owner_close(&o);
    buf_free(&lines);
}

/* RFC5321:F.1: for whom the login entitles; for the others there is no such command. */
Test(smtp_ask, turn)
{
    struct smtp_owner o;
    struct buf lines = {0};
    smtp_owner_open(&o, true);
    o.config.auth_in_clear = true;
    buf_clear(&o.sent);
    smtp_owner_feed(&o, SPAN("EHLO c\r\n"));
    buf_clear(&o.sent);
    smtp_owner_feed(&o, SPAN("TURN\r\nHELP TURN\r\n"));
    smtp_owner_feed(&o, SPAN("AUTH PLAIN AGFsaWNlQGV4YW1wbGUudGVzdABzZWNyZXQtd29yZHM=\r\nTURN\r\nTURN x\r\nHELP TURN\r\n"));
    o.entitled = true;
    smtp_owner_feed(&o, SPAN("TURN\r\n"));
    lines_of(&o, &lines);
    cr_assert_str_eq(buf_cstr(&lines), UNSERVED "504 5.5.4 There is no help on that\n235 2.7.0 Welcome\n" UNSERVED
                                       "501 5.5.4 That command has no argument\n"
                                       "214 2.0.0 TURN: as ATRN, for every domain that the login is entitled to\n250 2.0.0 OK now reversing the connection\n");
    smtp_owner_close(&o);
    buf_free(&lines);
}

/* RFC 821 §3.4; RFC5321:F.6: announced when served. */
Test(smtp_ask, send_commands)
{
    static const char *const verbs[] = {"SEND", "SOML", "SAML"};
    struct smtp_owner o;
    smtp_owner_open(&o, false);
    o.config.send_commands = true;
    smtp_owner_feed(&o, SPAN("SEND FROM:<c@remote.test>\r\nEHLO c\r\n"));
    cr_assert_geq(span_search(buf_span(&o.sent), SPAN("503 5.5.1 ")), 0);
    cr_assert_geq(span_search(buf_span(&o.sent), SPAN("250-SEND\r\n250-SOML\r\n250-SAML\r\n")), 0);
    for (size_t i = 0; i < COUNT_OF(verbs); i++) {
        struct buf line = {0};
        buf_printf(&line, "%s\r\n%s TO:<a@b>\r\n%s FROM:<a\r\n%s FROM:<c@remote.test> SIZE=10 X=1\r\n%s FROM:<c@remote.test> SIZE=10\r\n",
                   verbs[i], verbs[i], verbs[i], verbs[i], verbs[i]);
        buf_clear(&o.sent);
        smtp_owner_feed(&o, buf_span(&line));
        struct buf lines = {0};
        lines_of(&o, &lines);
        cr_assert_str_eq(buf_cstr(&lines), "501 5.5.4 That command needs an argument\n501 5.5.4 MAIL FROM:<address> is its form\n"
                                           "501 5.1.7 That is no address in angle brackets\n"
                                           "555 5.5.4 A parameter of MAIL that is not served here\n250 2.1.0 Ok\n");
        cr_assert_eq(smtp_server_transaction(o.s)->terminal, SMTP_SEND + i);
        smtp_owner_feed(&o, SPAN("RSET\r\nMAIL FROM:<>\r\n"));
        cr_assert_eq(smtp_server_transaction(o.s)->terminal, SMTP_MAIL);
        smtp_owner_feed(&o, SPAN("RSET\r\n"));
        buf_free(&line);
        buf_free(&lines);
    }
    smtp_owner_close(&o);
}
