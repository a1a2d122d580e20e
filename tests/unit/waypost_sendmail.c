/* waypost/sendmail: the command line, and what is made of the text. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "waypost/sendmail.h"

static bool parse(struct sendmail_options *o, const char *line)
{
    static char text[512];
    static char *argv[32];
    struct err err;
    int argc = 0;
    snprintf(text, sizeof text, "%s", line);
    for (char *word = strtok(text, " "); word; word = strtok(NULL, " "))
        argv[argc++] = word;
    argv[argc] = NULL;
    return sendmail_options(o, argc, argv, &err);
}

Test(sendmail, options)
{
    struct sendmail_options o;
    cr_assert(parse(&o, "sendmail -i -FCronDaemon -B8BITMIME -oem root")); /* cron */
    cr_expect(o.dots_stay && !o.seven_bit && o.rest_n == 1);
    cr_expect_str_eq(o.name, "CronDaemon");
    cr_assert(parse(&o, "sendmail -t -oi -f a@x.test -N success,failure -R hdrs -V id -v"));
    cr_expect(o.by_header && o.dots_stay && o.verbose && o.rest_n == 0);
    cr_expect_str_eq(o.sender, "a@x.test");
    cr_expect_str_eq(o.notify, "success,failure");
    cr_expect_str_eq(o.ret, "HDRS");
    cr_expect_str_eq(o.envid, "id");
    cr_assert(parse(&o, "sendmail root -t -C/x"));
    cr_expect(!o.by_header && !o.config && o.rest_n == 3, "behind an address nothing is an option");
    cr_assert(parse(&o, "sendmail -bs") && o.mode == SENDMAIL_SMTP);
    cr_assert(parse(&o, "sendmail -bp") && o.mode == SENDMAIL_LIST);
    cr_assert(parse(&o, "sendmail -bi") && o.mode == SENDMAIL_ALIASES);
    cr_assert(parse(&o, "sendmail -q") && o.mode == SENDMAIL_RETRY);
    cr_expect_str_eq(o.which, "--all");
    cr_assert(parse(&o, "sendmail -qRbob@x.test") && o.mode == SENDMAIL_RETRY);
    cr_expect_str_eq(o.which, "--recipient");
    cr_expect_str_eq(o.of, "bob@x.test");
    cr_assert(parse(&o, "sendmail -qS bob@x.test"));
    cr_expect_str_eq(o.which, "--sender");
    cr_expect_str_eq(o.of, "bob@x.test");
}

Test(sendmail, wrong_options)
{
    static const char *const wrong[] = {"-bd", "-bt", "-q15m", "-qR", "-N never,success", "-N x", "-N", "-R some", "-B 9BIT", "-Z", "-f"};
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        struct sendmail_options o;
        char line[64];
        snprintf(line, sizeof line, "sendmail %s", wrong[i]);
        cr_expect(!parse(&o, line), "%s", wrong[i]);
    }
}

static void expect_complete(const char *text, bool dot_ends, const char *want)
{
    struct buf lines = {0}, got = {0};
    sendmail_lines(span_of(text), dot_ends, &lines);
    sendmail_complete(buf_span(&lines), SPAN("me@h.test"), SPAN("h.test"), &got);
    cr_expect_str_eq(buf_cstr(&got), want, "%s: %s", text, buf_cstr(&got));
    buf_free(&lines);
    buf_free(&got);
}

Test(sendmail, text)
{
    expect_complete("From: a\nTo: b\n\nHello\n", false, "From: a@h.test\r\nTo: b@h.test\r\n\r\nHello\r\n");
    expect_complete("Subject: x\n\nHello\n.\nmore", true, "From: me@h.test\r\nSubject: x\r\n\r\nHello\r\n");
    expect_complete("Subject: x\n\n.\nmore", false, "From: me@h.test\r\nSubject: x\r\n\r\n.\r\nmore\r\n");
    expect_complete("From someone Mon Jan 1\nSubject: x\r\n\tfolded\r\n\r\nFrom here\r\n", false,
                    "From: me@h.test\r\nSubject: x\r\n\tfolded\r\n\r\nFrom here\r\n");
    expect_complete("just text\n", false, "From: me@h.test\r\n\r\njust text\r\n");
    expect_complete("Subject: x\njust text\n", false, "From: me@h.test\r\nSubject: x\r\n\r\njust text\r\n");
    expect_complete(" indented\n", false, "From: me@h.test\r\n\r\n indented\r\n");
    expect_complete("", false, "From: me@h.test\r\n\r\n");
    expect_complete("Subject: x\n", false, "From: me@h.test\r\nSubject: x\r\n\r\n");
    expect_complete("Subject: a\rb: c\r\n\n", false, "From: me@h.test\r\nSubject: a\r\nb: c\r\n\r\n");
}

static void expect_from(struct span name, const char *want)
{
    struct buf got = {0};
    sendmail_from(name, SPAN("a@h.test"), &got);
    cr_expect_str_eq(buf_cstr(&got), want, "%s", buf_cstr(&got));
    buf_free(&got);
}

Test(sendmail, from)
{
    expect_from(SPAN(""), "a@h.test");
    expect_from(SPAN("Cron Daemon"), "\"Cron Daemon\" <a@h.test>");
    expect_from(SPAN("x\" <evil@x.test>, \\"), "\"x\\\" <evil@x.test>, \\\\\" <a@h.test>");
    expect_from(SPAN("x\r\nBcc: evil@x.test"), "a@h.test");
    expect_from(SPAN("J\xc3\xbcrgen"), "=?utf-8?B?SsO8cmdlbg==?= <a@h.test>");
    expect_from(SPAN("\xff\xfe"), "a@h.test");
}

Test(sendmail, batch)
{
    struct sendmail_options o = {.notify = "never", .ret = "FULL", .envid = "a b"};
    struct recipients to = {0};
    struct buf got = {0}, wrong = {0};
    recipients_add(&to, SPAN("a@x.test, b"), SPAN("h.test"), &wrong);
    struct sendmail_envelope e = {.sender = SPAN("s@h.test"), .message = SPAN("S: \xc3\xbc\r\n\r\n.\r\n..x\r\n"), .host = SPAN("h.test"), .to = &to, .token = "00"};
    size_t content = sendmail_batch(&o, &e, &got);
    cr_expect_str_eq(buf_cstr(&got), "EHLO h.test\r\nMAIL FROM:<s@h.test> XTOKEN=00 BODY=8BITMIME RET=FULL ENVID=a+20b\r\n"
                                     "RCPT TO:<a@x.test> NOTIFY=never\r\nRCPT TO:<b@h.test> NOTIFY=never\r\nDATA\r\n"
                                     "S: \xc3\xbc\r\n\r\n..\r\n...x\r\n.\r\nQUIT\r\n");
    cr_expect(span_starts(span_from(buf_span(&got), content), SPAN("S: ")));
    recipients_free(&to);
    buf_free(&got);
    buf_free(&wrong);
}
