/* Notifications, byte for byte: RFC 6522's three parts, RFC 3464's fields, no line of somebody else's making. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "conf/notice_text.h"
#include "mail/dsn.h"
#include "mail/words.h"

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
                        .sender = SPAN("carol@example.test"),
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
                             "  \"hello\"\r\n"
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
    d.header = SPAN("From: a@b.test\r\nX-Long: cut in the mid");
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

/* RFC6533:3, RFC6532:3.7 */
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
        cr_assert_eq(strstr(buf_cstr(&b), "\r\nIt is tried until Fri, 15 Jan 2027 08:05:00 +0000; then it comes back to you.\r\n") != NULL, n > 3);
        size_t parted = 0;
        for (const char *at = buf_cstr(&b); (at = strstr(at, "\r\n\r\n* * *\r\n\r\nThis is the mail server of ")) != NULL; at++)
            parted++;
        cr_assert_eq(parted, n - 1, "what became of others follows, each with its own text: %s", buf_cstr(&b));
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

static bool has(const struct buf *b, const char *text)
{
    return span_search(buf_span(b), span_of(text)) >= 0;
}

static void write_one(struct buf *b, const struct dsn *d, const struct dsn_rcpt *r)
{
    struct dsn one = *d;
    one.rcpts = r;
    one.count = 1;
    buf_clear(b);
    dsn_write(b, &one);
}

/* RFC6533:3, RFC6533:4.1: each form of a UTF-8 ORCPT, in a part of ASCII and in one of UTF-8. */
Test(mail_dsn, original_recipients_beyond_ascii)
{
    static const struct {
        const char *orcpt, *address, *want; /* of Original-Recipient */
        bool global;
    } cases[] = {
        {"rfc822;list+2Bx@a.test", "b@a.test", "rfc822;list+x@a.test", false},
        {"utf-8;j\xc3\xb6rg@a.test", "b@a.test", "utf-8;j\xc3\xb6rg@a.test", true},                        /* utf-8-address */
        {"utf-8;j\\x{F6}rg@a.test", "b@a.test", "utf-8;j\\x{F6}rg@a.test", false},                          /* utf-8-addr-xtext stays where it must */
        {"utf-8;j\\x{F6}rg@a.test", "\xc3\xbc@a.test", "utf-8;j\xc3\xb6rg@a.test", true},                  /* and is undone where it may be */
        {"UTF-8;\xc3\xa4\\x{5C}\\x{2B}\\x{1F600}@a.test", "b@a.test", "UTF-8;\xc3\xa4\\+\xf0\x9f\x98\x80@a.test", true}, /* unitext */
        {"utf-8;\xc3\xa4+2B@a.test", "b@a.test", "utf-8;\xc3\xa4+2B@a.test", true},                        /* none of them: as it is */
        {"utf-8;\xc3\xa4\\x{D800}@a.test", "b@a.test", "utf-8;\xc3\xa4\\x{D800}@a.test", true},
        {"utf-8;\xc3\xa4\\x{0A}@a.test", "b@a.test", "utf-8;\xc3\xa4\\x{0A}@a.test", true},
        {"utf-8;\xc3\xa4\\y@a.test", "b@a.test", "utf-8;\xc3\xa4\\y@a.test", true},
    };
    struct buf b = {0}, want = {0};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct dsn_rcpt r = {.address = span_of(cases[i].address), .given = SPAN("b@a.test"), .orcpt = span_of(cases[i].orcpt), .kind = 5, .why = SPAN("no")};
        struct dsn d = base();
        write_one(&b, &d, &r);
        buf_clear(&want);
        buf_printf(&want, "\r\n\r\nOriginal-Recipient: %s\r\nFinal-Recipient: ", cases[i].want);
        cr_expect(has(&b, buf_cstr(&want)), "%s in\n%s", buf_cstr(&want), buf_cstr(&b));
        cr_expect_eq(has(&b, "Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n"), cases[i].global, "%s", cases[i].orcpt);
        cr_expect_eq(has(&b, "Content-Type: message/delivery-status\r\n\r\n"), !cases[i].global, "%s", cases[i].orcpt);
    }
    buf_free(&b);
    buf_free(&want);
}

/* RFC6531:3.1, RFC6532:3.2: a header beyond ASCII goes with SMTPUTF8 only; what is not UTF-8 goes nowhere. */
Test(mail_dsn, a_header_of_ascii_unless_its_addressee_is_beyond)
{
    struct buf b = {0};
    struct dsn d = base();
    d.message_id = SPAN("<\xc3\xbc@b.test>");
    size_t header = dsn_write(&b, &d);
    cr_expect(span_is_ascii(span_sub(buf_span(&b), 0, header)));
    cr_expect_not(has(&b, "In-Reply-To") || has(&b, "References"));
    buf_clear(&b);
    d.to = SPAN("j\xc3\xb6rg@b.test");
    dsn_write(&b, &d);
    cr_expect(has(&b, "\r\nIn-Reply-To: <\xc3\xbc@b.test>\r\nReferences: <\xc3\xbc@b.test>\r\n"));
    buf_clear(&b);
    d.message_id = SPAN("<\xfc@b.test>");
    dsn_write(&b, &d);
    cr_expect_not(has(&b, "In-Reply-To"));
    buf_free(&b);
}

/* Answers of servers are whatever they are; the parts are well-formed. */
Test(mail_dsn, what_is_no_utf8_becomes_some)
{
    static char words[2000];
    struct buf b = {0};
    struct dsn d = base();
    struct dsn_rcpt r = {.address = SPAN("b@a.test"), .given = SPAN("b@a.test"), .kind = 5, .code = 550, .why = SPAN("f\xfcr Sie \xc3\xbc"), .host = SPAN("m\xfc.test")};
    write_one(&b, &d, &r);
    cr_expect(span_is_utf8(buf_span(&b)));
    cr_expect(has(&b, "Diagnostic-Code: smtp; 550 f?r Sie \xc3\xbc\r\n") && has(&b, "Remote-MTA: dns; m?.test\r\n"), "%s", buf_cstr(&b));
    for (size_t i = 0; i + 1 < sizeof words; i += 2)
        memcpy(words + i, "\xc3\xbc", 2);
    for (size_t n = 896; n < 904; n++) { /* a cut is between characters */
        words[0] = 'x';
        r.why = span_make(words + 1 - n % 2, n);
        write_one(&b, &d, &r);
        cr_expect(span_is_utf8(buf_span(&b)), "%zu", n);
    }
    buf_free(&b);
}

/* RFC3461:5.2.6: each recipient has its fields; people read of fifty. */
Test(mail_dsn, many_recipients)
{
    enum { N = 1000 };
    static struct dsn_rcpt many[N];
    static char names[N][32];
    struct buf b = {0}, line = {0};
    struct dsn d = base();
    for (unsigned i = 0; i < N; i++) {
        snprintf(names[i], sizeof names[i], "u%u@a.test", i);
        many[i] = (struct dsn_rcpt){.address = span_of(names[i]), .given = span_of(names[i]), .kind = 5, .subject = 1, .detail = 1, .why = SPAN("no")};
    }
    d.rcpts = many;
    d.count = N;
    dsn_write(&b, &d);
    for (unsigned i = 0; i < N; i++) {
        buf_clear(&line);
        buf_printf(&line, "\r\nFinal-Recipient: rfc822;u%u@a.test\r\nAction: failed\r\nStatus: 5.1.1\r\n", i);
        cr_assert(has(&b, buf_cstr(&line)), "%u", i);
    }
    cr_expect(has(&b, "\r\n  u49@a.test\r\n") && !has(&b, "\r\n  u50@a.test\r\n"));
    cr_expect(has(&b, "\r\n  and 950 more, who are all named in the next part of this message.\r\n\r\n"));
    buf_free(&b);
    buf_free(&line);
}

#define GERMAN_HEAD \
    "Subject: Nicht zugestellt: {subject} \xe2\x80\x93 {reference}\r\nFrom: Zustelldienst f\xc3\xbcr {{Post}\r\n" \
    "Leads-To: f\xc3\xbchrt zu {address}\r\nSaid: {server} antwortet: {answer}\r\nTried: {attempts} Versuche\r\n\r\n"

/* An operator's own text, byte for byte. */
Test(mail_dsn, texts_of_an_operator)
{
    struct span texts[NOTICE_KINDS] = {0};
    struct buf b = {0}, decoded = {0};
    struct dsn d = base();
    texts[NOTICE_FAILED] = SPAN(GERMAN_HEAD "Von {sender} am {day} um {time}, {{so}\r\nbis {until}{until-day}\r\nbis {until-time} {host}\r\n  {recipients}  \r\n\r\nEnde {date}");
    d.texts = texts;
    d.language = SPAN("de");
    d.header = SPAN("From: c@d.test\r\nSubject: =?iso-8859-1?q?Gr=FC=DFe?=\r\n aus Wien\r\n");
    size_t header = dsn_write(&b, &d);
    static const char human[] = "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\nContent-Language: de\r\n\r\n"
                                "Von carol@example.test am 2027-01-15 um 08:00, {so}\r\n"
                                "bis  mail.example.test\r\n"
                                "  list@example.test\r\n    f\xc3\xbchrt zu bob@far.test\r\n    mx.far.test[192.0.2.7] antwortet: 550 No such user\r\n"
                                "  eve@slow.test\r\n    31 Versuche\r\n    connection timed out\r\n"
                                "\r\nEnde Fri, 15 Jan 2027 08:00:00 +0000\r\n\r\n--=_";
    cr_expect(has(&b, human), "%s", buf_cstr(&b));
    struct span head = span_sub(buf_span(&b), 0, header);
    cr_expect(span_is_ascii(head), "RFC2047:2: %.*s", SPANV(head));
    ptrdiff_t from = span_search(head, SPAN("From: ")), subject = span_search(head, SPAN("Subject: ")), next = span_search(head, SPAN("\r\nMessage-ID:"));
    cr_assert(from > 0 && subject > from && next > subject);
    words_decode(span_sub(head, (size_t)subject + 9, (size_t)(next - subject) - 9), &decoded);
    cr_expect_str_eq(buf_cstr(&decoded), "Nicht zugestellt: Gr\xc3\xbc\xc3\x9f" "e aus Wien \xe2\x80\x93 1K0XY74Z000");
    buf_clear(&decoded);
    words_decode(span_sub(head, (size_t)from + 6, (size_t)(subject - from) - 6), &decoded);
    cr_expect(span_starts(buf_span(&decoded), SPAN("Zustelldienst f\xc3\xbcr {Post} <MAILER-DAEMON@mail.example.test>")), "%s", buf_cstr(&decoded));
    for (struct span rest = head; rest.n;)
        cr_expect_leq(span_cut(&rest, '\n').n, 77, "RFC2047:2: lines of encoded words have 76 characters");
    buf_clear(&b);
    texts[NOTICE_FAILED] = SPAN("Subject: no {{s}\nFrom: \"Mail\", {{inc.}\n\n{recipients}\n");
    dsn_write(&b, &d);
    cr_expect(has(&b, "\r\nFrom: \"\\\"Mail\\\", {inc.}\" <MAILER-DAEMON@mail.example.test>\r\n") && has(&b, "\r\nSubject: no {s}\r\n"), "RFC5322:3.2.4: %s", buf_cstr(&b));
    buf_clear(&b);
    texts[NOTICE_FAILED] = SPAN("Subject: no\nFrom: Mail system (1)\n\n{recipients}\n");
    dsn_write(&b, &d);
    cr_expect(has(&b, "\r\nFrom: \"Mail system (1)\" <MAILER-DAEMON@mail.example.test>\r\n"), "RFC5322:3.2.3: brackets are no atext: %s", buf_cstr(&b));
    buf_clear(&b);
    texts[NOTICE_FAILED] = SPAN("Subject: no\nFrom: Mail system #1\n\n{recipients}\n");
    dsn_write(&b, &d);
    cr_expect(has(&b, "\r\nFrom: Mail system #1 <MAILER-DAEMON@mail.example.test>\r\n"), "%s", buf_cstr(&b));
    buf_free(&b);
    buf_free(&decoded);
    words_cool();
}

/* Of a notification that nobody got: to a postmaster. */
Test(mail_dsn, a_double_bounce)
{
    struct buf b = {0};
    struct dsn d = base();
    d.double_bounce = true;
    d.to = SPAN("postmaster@example.test");
    d.sender = SPAN("");
    dsn_write(&b, &d);
    cr_expect(has(&b, "\r\nTo: <postmaster@example.test>\r\nSubject: A notification could not be delivered\r\n"));
    cr_expect(has(&b, "\r\nA notification that we sent on Fri, 15 Jan 2027 08:00:00 +0000\r\n  \"hello\"\r\ncould not be delivered to:\r\n\r\n  list@example.test\r\n"), "%s", buf_cstr(&b));
    buf_free(&b);
}

/* RFC2047:2, RFC2047:5: whole characters in each word, none too long. */
Test(mail_dsn, encoded_words)
{
    struct buf text = {0}, words = {0}, back = {0};
    for (unsigned n = 1; n < 90; n++) {
        buf_clear(&text);
        buf_clear(&words);
        buf_clear(&back);
        for (unsigned i = 0; i < n; i++)
            buf_adds(&text, i % 3 ? "\xe2\x82\xac" : i % 2 ? "\xc3\xbc" : "a b");
        words_encode(buf_span(&text), &words);
        words_decode(buf_span(&words), &back);
        cr_expect(span_eq(buf_span(&text), buf_span(&back)), "%s", buf_cstr(&words));
        for (struct span rest = buf_span(&words); rest.n;) {
            struct span word = span_trim(span_cut(&rest, '\n'));
            cr_expect(word.n <= 75 && span_starts(word, SPAN("=?utf-8?B?")) && span_ends(word, SPAN("?=")), "%.*s", SPANV(word));
            buf_clear(&back);
            words_decode(word, &back);
            cr_expect(span_is_utf8(buf_span(&back)) && span_search(buf_span(&back), SPAN("\xef\xbf\xbd")) < 0);
        }
    }
    buf_free(&text);
    buf_free(&words);
    buf_free(&back);
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
