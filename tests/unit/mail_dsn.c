/* Notifications, byte for byte: RFC 6522's three parts, RFC 3464's fields, no line of somebody else's making. */
#include <criterion/criterion.h>
#include <string.h>

#include "mail/dsn.h"

static const struct dsn_rcpt two[] = {
    {.address = {"bob@far.test", 12},
     .given = {"list@example.test", 17},
     .orcpt = {"rfc822;list+2Bx@example.test", 28},
     .kind = 5,
     .subject = 1,
     .detail = 1,
     .code = 550,
     .why = {"No such user", 12},
     .host = {"mx.far.test[192.0.2.7]", 22},
     .last_attempt = 1800000100,
     .attempts = 1},
    {.address = {"eve@slow.test", 13},
     .given = {"eve@slow.test", 13},
     .expired = true,
     .kind = 4,
     .subject = 4,
     .detail = 7,
     .why = {"connection timed out", 20},
     .attempts = 31},
};

static struct dsn base(void)
{
    return (struct dsn){.reporting_mta = SPAN("mail.example.test"),
                        .to = SPAN("carol@example.test"),
                        .qid = SPAN("1K0XY74Z57V"),
                        .original_qid = SPAN("1K0XY74Z000"),
                        .message_id = SPAN("<m1@example.test>"),
                        .envid = SPAN("QQ+2D314"),
                        .arrival = 1800000000,
                        .now = 1800000200,
                        .rcpts = two,
                        .count = 2,
                        .header = SPAN("From: carol@example.test\r\nSubject: hello\r\n")};
}

static const char golden[] = "Date: Fri, 15 Jan 2027 08:03:20 +0000\r\n"
                             "From: Mail Delivery System <MAILER-DAEMON@mail.example.test>\r\n"
                             "To: <carol@example.test>\r\n"
                             "Subject: Your message could not be delivered\r\n"
                             "Message-ID: <1K0XY74Z57V@mail.example.test>\r\n"
                             "In-Reply-To: <m1@example.test>\r\n"
                             "References: <m1@example.test>\r\n"
                             "Auto-Submitted: auto-replied\r\n"
                             "MIME-Version: 1.0\r\n"
                             "Content-Type: multipart/report; report-type=delivery-status;\r\n"
                             " boundary=\"=_1K0XY74Z57V_0\"\r\n"
                             "\r\n"
                             "--=_1K0XY74Z57V_0\r\n"
                             "Content-Type: text/plain; charset=utf-8\r\n"
                             "Content-Transfer-Encoding: 8bit\r\n"
                             "\r\n"
                             "This is the mail server of mail.example.test.\r\n"
                             "\r\n"
                             "Your message of Fri, 15 Jan 2027 08:00:00 +0000\r\n"
                             "could not be delivered to:\r\n"
                             "\r\n"
                             "  list@example.test\r\n"
                             "    (which leads to bob@far.test)\r\n"
                             "    mx.far.test[192.0.2.7] said: 550 No such user\r\n"
                             "  eve@slow.test\r\n"
                             "    It was tried 31 times, without success. The last answer was:\r\n"
                             "    connection timed out\r\n"
                             "\r\n"
                             "Nothing more will be tried. Please check the address. If it is right, write to the\r\n"
                             "recipient in another way, or to the postmaster of the domain, and pass on the\r\n"
                             "reason above.\r\n"
                             "\r\n"
                             "Our reference: 1K0XY74Z000\r\n"
                             "\r\n"
                             "--=_1K0XY74Z57V_0\r\n"
                             "Content-Type: message/delivery-status\r\n"
                             "\r\n"
                             "Original-Envelope-Id: QQ-314\r\n"
                             "Reporting-MTA: dns; mail.example.test\r\n"
                             "Arrival-Date: Fri, 15 Jan 2027 08:00:00 +0000\r\n"
                             "\r\n"
                             "Original-Recipient: rfc822;list+x@example.test\r\n"
                             "Final-Recipient: rfc822;bob@far.test\r\n"
                             "Action: failed\r\n"
                             "Status: 5.1.1\r\n"
                             "Remote-MTA: dns; mx.far.test\r\n"
                             "Diagnostic-Code: smtp; 550 No such user\r\n"
                             "Last-Attempt-Date: Fri, 15 Jan 2027 08:01:40 +0000\r\n"
                             "\r\n"
                             "Final-Recipient: rfc822;eve@slow.test\r\n"
                             "Action: failed\r\n"
                             "Status: 4.4.7\r\n"
                             "Diagnostic-Code: x-waypost; connection timed out\r\n"
                             "\r\n"
                             "--=_1K0XY74Z57V_0\r\n"
                             "Content-Type: text/rfc822-headers\r\n"
                             "\r\n"
                             "From: carol@example.test\r\n"
                             "Subject: hello\r\n"
                             "\r\n"
                             "--=_1K0XY74Z57V_0--\r\n";

/* RFC6522:3, RFC3464:2.2, RFC3464:2.3, RFC3834:5 */
Test(mail_dsn, the_whole_message)
{
    struct buf b = {0};
    struct dsn d = base();
    size_t header = dsn_write(&b, &d);
    cr_assert_str_eq(buf_cstr(&b), golden);
    cr_assert_eq(strncmp(golden + header, "\r\n--", 4), 0, "the header's length leaves the empty line out");
    buf_free(&b);
}

Test(mail_dsn, words_of_others_stay_on_their_line)
{
    struct buf b = {0};
    struct dsn_rcpt r = {.address = SPAN("a@b.test\r\nAction: delivered"),
                         .given = SPAN("x\r\n\r\n--evil"),
                         .orcpt = SPAN("rfc822;a+0D+0ABcc: y"),
                         .kind = 5,
                         .code = 550,
                         .why = SPAN("no\r\nStatus: 2.0.0\n\0x"),
                         .host = SPAN("h\r\nX: y")};
    struct dsn d = base();
    d.rcpts = &r;
    d.count = 1;
    d.to = SPAN("c@d.test\r\nBcc: everybody@d.test");
    d.message_id = SPAN("<x>\r\nSubject: other");
    d.envid = SPAN("a+0AReporting-MTA: evil");
    dsn_write(&b, &d);
    struct span s = buf_span(&b);
    const char *never[] = {"\nAction: delivered",  "\n--evil", "\nBcc: ", "\nStatus: 2", "\nX: y", "\nSubject: other",
                           "\nReporting-MTA: evil"};
    for (size_t i = 0; i < COUNT_OF(never); i++)
        cr_assert_lt(span_search(s, span_of(never[i])), 0, "%s", never[i]);
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] == '\n')
            cr_assert(i > 0 && s.p[i - 1] == '\r', "no bare line feed");
    cr_assert_lt(span_find(s, '\0'), 0);
    buf_free(&b);
}

Test(mail_dsn, the_boundary_is_not_in_what_it_bounds)
{
    struct buf b = {0};
    struct dsn d = base();
    d.header = SPAN("X: =_1K0XY74Z57V_0\r\nY: =_1K0XY74Z57V_1\r\n");
    dsn_write(&b, &d);
    cr_assert_geq(span_search(buf_span(&b), SPAN("boundary=\"=_1K0XY74Z57V_2\"")), 0);
    buf_free(&b);
}

Test(mail_dsn, a_cut_header_ends_with_a_whole_line)
{
    struct buf b = {0};
    struct dsn d = base();
    d.header = SPAN("From: a@b.test\r\nSubject: cut in the mid");
    d.header_cut = true;
    dsn_write(&b, &d);
    cr_assert_geq(span_search(buf_span(&b), SPAN("From: a@b.test\r\n\r\n--=_")), 0);
    cr_assert_lt(span_search(buf_span(&b), SPAN("cut in the mid")), 0);
    buf_free(&b);
}

/* RFC5322:2.1.1 */
Test(mail_dsn, no_line_is_longer_than_a_line_may_be)
{
    static char words[5000];
    struct buf b = {0};
    memset(words, 'w', sizeof words);
    struct dsn_rcpt r = {.address = span_make(words, sizeof words),
                         .given = span_make(words, sizeof words),
                         .kind = 5,
                         .code = 550,
                         .why = span_make(words, sizeof words),
                         .host = span_make(words, sizeof words)};
    struct dsn d = base();
    d.rcpts = &r;
    d.count = 1;
    dsn_write(&b, &d);
    size_t line = 0;
    for (size_t i = 0; i < b.n; i++) {
        line = b.p[i] == '\n' ? 0 : line + 1;
        cr_assert_leq(line, 999, "998 and the CR");
    }
    buf_free(&b);
}

/* RFC6533:3 */
Test(mail_dsn, international_addresses)
{
    struct buf b = {0};
    struct dsn_rcpt r = {.address = SPAN("j\xc3\xb6rg@d\xc3\xb6rf.test"),
                         .given = SPAN("j\xc3\xb6rg@d\xc3\xb6rf.test"),
                         .kind = 5,
                         .subject = 1,
                         .detail = 1,
                         .why = SPAN("no")};
    struct dsn d = base();
    d.rcpts = &r;
    d.count = 1;
    d.header = SPAN("Subject: \xc3\xbc\r\n");
    dsn_write(&b, &d);
    struct span s = buf_span(&b);
    cr_assert_geq(span_search(s, SPAN("Content-Type: message/global-delivery-status\r\n")), 0);
    cr_assert_geq(span_search(s, SPAN("Final-Recipient: utf-8;j\xc3\xb6rg@d\xc3\xb6rf.test\r\n")), 0);
    cr_assert_geq(span_search(s, SPAN("Content-Type: message/global-headers\r\n")), 0);
    buf_free(&b);
}

#define DELAYED_LINES \
    "delayed\r\nStatus: 4.4.1\r\nDiagnostic-Code: x-waypost; no answer\r\n" \
    "Will-Retry-Until: Fri, 15 Jan 2027 08:05:00 +0000\r\n"

/* RFC3464:2.3.3, RFC3461:6.2: one notification of several outcomes; what was well needs no diagnosis. */
Test(mail_dsn, every_action)
{
    static const struct dsn_rcpt all[] = {
        {.action = DSN_DELIVERED, .address = {"in@a.test", 9}, .given = {"in@a.test", 9}, .kind = 2},
        {.action = DSN_RELAYED,
         .address = {"on@a.test", 9},
         .given = {"on@a.test", 9},
         .kind = 2,
         .code = 250,
         .why = {"ok", 2},
         .host = {"mx.a.test", 9}},
        {.action = DSN_EXPANDED, .address = {"all@a.test", 10}, .given = {"all@a.test", 10}, .kind = 2},
        {.action = DSN_DELAYED,
         .address = {"late@a.test", 11},
         .given = {"late@a.test", 11},
         .kind = 4,
         .subject = 4,
         .detail = 1,
         .why = {"no answer", 9},
         .retry_until = 1800000300},
        {.action = DSN_FAILED,
         .address = {"no@a.test", 9},
         .given = {"no@a.test", 9},
         .kind = 5,
         .subject = 1,
         .detail = 1,
         .why = {"nobody", 6}},
    };
    const char *subjects[] = {"was delivered", "was passed on", "was passed on", "is delayed",
                              "could not be delivered"};
    const char *actions[] = {"delivered\r\nStatus: 2.0.0\r\n\r\n",
                             "relayed\r\nStatus: 2.0.0\r\nRemote-MTA: dns; mx.a.test\r\n",
                             "expanded\r\nStatus: 2.0.0\r\n\r\n",
                             DELAYED_LINES,
                             "failed\r\nStatus: 5.1.1\r\n"};
    for (size_t n = 1; n <= COUNT_OF(all); n++) {
        struct buf b = {0}, subject = {0};
        struct dsn d = base();
        d.rcpts = all;
        d.count = n;
        dsn_write(&b, &d);
        buf_printf(&subject, "\r\nSubject: Your message %s\r\n", subjects[n - 1]);
        cr_assert_geq(span_search(buf_span(&b), buf_span(&subject)), 0, "%s", buf_cstr(&b));
        for (size_t i = 0; i < n; i++) {
            buf_clear(&subject);
            buf_printf(&subject, "\r\nAction: %s", actions[i]);
            cr_assert_geq(span_search(buf_span(&b), buf_span(&subject)), 0, "%s in\n%s", actions[i], buf_cstr(&b));
        }
        buf_free(&b);
        buf_free(&subject);
    }
}

/* RFC3461:4.3 */
Test(mail_dsn, the_whole_original)
{
    struct buf b = {0};
    struct dsn d = base();
    d.header = SPAN("Subject: x\r\n\r\nbody \xc3\xbc");
    d.whole = true;
    dsn_write(&b, &d);
    cr_assert_geq(
        span_search(buf_span(&b), SPAN("Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
                                       "Subject: x\r\n\r\nbody \xc3\xbc\r\n\r\n--=_")),
        0);
    buf_free(&b);
}

/* The transcript stands in the part for people, a line for each reply, of failures alone. */
Test(dsn, dialogue)
{
    struct dsn_rcpt r = two[0];
    struct dsn d = base();
    struct buf out = {0};
    r.dialogue = SPAN("MAIL -> 250 ok | RCPT -> 550 5.1.1 No\nsuch user");
    d.rcpts = &r;
    d.count = 1;
    dsn_write(&out, &d);
    cr_assert(strstr(buf_cstr(&out), "said: 550 No such user\r\n    What was said there:\r\n      MAIL -> 250 ok\r\n"
                                     "      RCPT -> 550 5.1.1 No such user\r\n\r\n"),
              "%s", buf_cstr(&out));
    r.action = DSN_DELAYED;
    buf_clear(&out);
    dsn_write(&out, &d);
    cr_assert_not(strstr(buf_cstr(&out), "RCPT ->"));
    buf_free(&out);
}
