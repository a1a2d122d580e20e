/* mail/submission: what a user's message must be like to leave (RFC6409:6.3, RFC6409:8.1, RFC5322:3.6). */
#include <criterion/criterion.h>

#include "mail/submission.h"

static void expect(const char *header, bool utf8, const char *want)
{
    unsigned subject, detail;
    const char *got = submission_flaw(span_of(header), utf8, &subject, &detail);
    cr_expect_str_eq(got ? got : "good", want, "%s: %s", header, got ? got : "good");
    cr_expect_eq(subject, 6); /* RFC3463:3.7 */
    cr_expect_eq(detail, got && strstr(got, "RFC 2047") ? 7 : got && strstr(got, "UTF-8") ? 7 : detail);
}

Test(submission, fields_that_come_once)
{
    static const char *const names[] = {"Date", "Sender", "Reply-To", "To", "Cc", "Message-ID", "In-Reply-To", "References", "Subject"};
    expect("From: a@b.test\r\nReceived: x\r\nReceived: y\r\nComments: a\r\nComments: b\r\n", false, "good");
    expect("From: a@b.test\r\nfrom : c@d.test\r\n", false, "The message has more than one From field");
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        struct buf h = {0}, want = {0};
        buf_printf(&h, "From: a@b.test\r\n%s: x\r\n", names[i]);
        expect(buf_cstr(&h), false, "good");
        buf_printf(&h, "%s:\r\n y\r\n", names[i]);
        buf_printf(&want, "The message has more than one %s field", names[i]);
        expect(buf_cstr(&h), false, buf_cstr(&want));
        buf_free(&h);
        buf_free(&want);
    }
}

Test(submission, what_can_not_be_mended)
{
    expect("", false, "The message has no From field");
    expect("Subject: x\r\nTo: a@b.test\r\n", false, "The message has no From field");
    expect("From: a@b.test\r\nhello\r\n", false, "The header has a line that is no field (or there is no empty line behind it)");
    expect("From: a@b.test\r\nTwo words: x\r\n", false, "The header has a line that is no field (or there is no empty line behind it)");
    expect(">From a@b.test\r\nFrom: a@b.test\r\n", false, "The header has a line that is no field (or there is no empty line behind it)");
    expect("From: a@b.test\r\nX-\xc3\xa9: x\r\n", true, "The header has a field whose name is not ASCII");
}

/* RFC6532:3, RFC6409:6.5: 8-bit only where it was asked for. */
Test(submission, characters_beyond_ascii)
{
    expect("From: a@b.test\r\nSubject: \xc3\xa9\r\n", true, "good");
    expect("From: a@b.test\r\nSubject: \xc3\xa9\r\n", false,
           "The header has characters beyond ASCII: encode them (RFC 2047), or use SMTPUTF8");
    expect("From: a@b.test\r\nSubject: \xe9\r\n", true, "The header is not UTF-8");
}

/* RFC6409:8.1, RFC5322:3.6.2 */
Test(submission, who_sent_it)
{
    cr_expect(!submission_wants_sender(SPAN("From: a@b.test\r\n")));
    cr_expect(submission_wants_sender(SPAN("From: a@b.test, c@d.test\r\n")));
    cr_expect(submission_wants_sender(SPAN("From: us: a@b.test, c@d.test;\r\nTo: x@y.test\r\n")));
    cr_expect(!submission_wants_sender(SPAN("From: a@b.test, c@d.test\r\nSender: c@d.test\r\n")));
    cr_expect(!submission_wants_sender(SPAN("To: a@b.test, c@d.test\r\nFrom: \"a, b\" <a@b.test>\r\n")));
}
