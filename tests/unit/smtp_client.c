/* The sending engine against good, odd and hostile peers. Every dialogue runs twice: replies whole, then byte by byte. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "base/mem.h"
#include "smtp/client.h"

/* ---- a driver that writes down what happens ---- */

struct driver {
    struct smtp_client *c;
    struct buf out, trace;
    const struct smtp_client_mail *next; /* given at on_ready, once */
    struct span content;
    bool free_at_ready, free_at_rcpt, quit_at_ready, tls_pending;
    enum smtp_client_stage failed_at;
    struct outcome failed;
    struct buf dialogues; /* of each recipient that is told, when `listen` */
    bool listen;
};

static void note(struct driver *d, const char *text)
{
    buf_adds(&d->trace, text);
    buf_addc(&d->trace, ' ');
}

static void on_ready(void *ctx)
{
    struct driver *d = ctx;
    note(d, "ready");
    if (d->free_at_ready) {
        smtp_client_free(&d->c);
        return;
    }
    if (d->next) {
        const struct smtp_client_mail *m = d->next;
        d->next = NULL;
        smtp_client_mail(d->c, m);
    } else if (d->quit_at_ready) {
        smtp_client_quit(d->c);
    }
}

static void on_start_tls(void *ctx)
{
    struct driver *d = ctx;
    note(d, "tls");
    d->tls_pending = true;
}

static void on_rcpt(void *ctx, size_t index, const struct outcome *o)
{
    struct driver *d = ctx;
    buf_printf(&d->trace, "%zu:%u/%u/%u.%u ", index, o->kind, o->code, o->subject, o->detail);
    if (d->listen) {
        struct buf text = {0};
        smtp_client_dialogue(d->c, index, &text);
        buf_printf(&d->dialogues, "%zu: %s\n", index, buf_cstr(&text));
        buf_free(&text);
    }
    if (d->free_at_rcpt)
        smtp_client_free(&d->c);
}

static void on_content(void *ctx)
{
    struct driver *d = ctx;
    note(d, "content");
    if (d->content.p)
        smtp_client_content(d->c, d->content, true);
}

static void on_done(void *ctx)
{
    note(ctx, "done");
}

static void on_failed(void *ctx, enum smtp_client_stage at, const struct outcome *why)
{
    struct driver *d = ctx;
    note(d, "failed");
    d->failed_at = at;
    d->failed = *why;
}

static void on_quit(void *ctx)
{
    note(ctx, "closed");
}

static const struct smtp_client_ops ops = {on_ready, on_start_tls, on_rcpt, on_content, on_done, on_failed, on_quit};

static void begin(struct driver *d, const struct smtp_client_options *o)
{
    struct smtp_client_options opts = *o;
    if (!opts.helo.n)
        opts.helo = SPAN("us.test");
    d->c = smtp_client_new(&opts, &d->out, &ops, d);
}

static void end(struct driver *d)
{
    smtp_client_free(&d->c);
    buf_free(&d->out);
    buf_free(&d->trace);
}

/* "> text" is fed, "< text" must be what the engine has said, "T" is the handshake. */
static void dialogue(struct driver *d, const char *const *steps, bool bytewise)
{
    for (; *steps; steps++) {
        const char *s = *steps;
        if (*s == 'T') {
            cr_assert(d->tls_pending, "TLS is not wanted");
            d->tls_pending = false;
            smtp_client_tls_up(d->c);
            continue;
        }
        struct span text = span_of(s + 2);
        if (*s == '<') {
            cr_assert(span_eq(text, buf_span(&d->out)), "expected <%s>, said <%s>", s + 2, buf_cstr(&d->out));
            buf_clear(&d->out);
        } else if (bytewise) {
            for (size_t i = 0; i < text.n && d->c; i++)
                smtp_client_feed(d->c, span_sub(text, i, 1));
        } else if (d->c) {
            smtp_client_feed(d->c, text);
        }
    }
}

static const struct span alice = {"a@us.test", 9};
static const struct span three[] = {{"one@far.test", 12}, {"two@far.test", 12}, {"three@far.test", 14}};

static struct smtp_client_mail mail_of(size_t rcpts)
{
    return (struct smtp_client_mail){.sender = alice, .rcpts = three, .rcpt_count = rcpts, .size = 99};
}

struct scene {
    const char *name;
    const char *const *steps;
    size_t rcpts;
    const char *trace;
    enum smtp_client_tls tls;
    const char *user;
};

static void play(const struct scene *s, bool bytewise)
{
    struct smtp_client_mail m = mail_of(s->rcpts);
    struct driver d = {.next = s->rcpts ? &m : NULL, .content = SPAN("Subject: x\r\n\r\n.\r\nend\r\n")};
    begin(&d, &(struct smtp_client_options){.tls = s->tls, .user = span_of(s->user), .password = SPAN("pass")});
    dialogue(&d, s->steps, bytewise);
    cr_assert_str_eq(buf_cstr(&d.trace), s->trace, "%s (%s): %s", s->name, bytewise ? "byte by byte" : "whole", buf_cstr(&d.trace));
    end(&d);
}

/* RFC3461:5.2.1, RFC3461:5.2.2: what is asked of notifications goes to hosts that offer DSN, and to no others. */
static const struct smtp_client_notify asked[] = {
    {SMTP_NOTIFY_SUCCESS | SMTP_NOTIFY_DELAY, {"rfc822;x+2By@us.test", 20}},
    {SMTP_NOTIFY_NEVER, {NULL, 0}},
    {0, {"broken", 6}}};

Test(smtp_client, notifications)
{
    for (int offered = 0; offered < 2; offered++) {
        struct smtp_client_mail m = mail_of(3);
        m.notify = asked;
        m.envid = SPAN("QQ+2D1");
        m.ret = SMTP_RET_HDRS;
        struct driver d = {.next = &m, .content = SPAN("x\r\n")};
        begin(&d, &(struct smtp_client_options){.tls = SMTP_CLIENT_CLEAR});
        smtp_client_feed(d.c, SPAN("220 far.test\r\n"));
        buf_clear(&d.out);
        smtp_client_feed(d.c, offered ? SPAN("250-far.test\r\n250-PIPELINING\r\n250 DSN\r\n")
                                      : SPAN("250-far.test\r\n250 PIPELINING\r\n"));
        const char *want = offered ? "MAIL FROM:<a@us.test> RET=HDRS ENVID=QQ+2D1\r\n"
                                     "RCPT TO:<one@far.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;x+2By@us.test\r\n"
                                     "RCPT TO:<two@far.test> NOTIFY=NEVER\r\nRCPT TO:<three@far.test>\r\nDATA\r\n"
                                   : "MAIL FROM:<a@us.test>\r\nRCPT TO:<one@far.test>\r\nRCPT TO:<two@far.test>\r\n"
                                     "RCPT TO:<three@far.test>\r\nDATA\r\n";
        cr_assert(span_eqs(buf_span(&d.out), want), "%s", buf_cstr(&d.out));
        cr_assert_eq(smtp_client_can(d.c, SMTP_CAP_DSN), offered == 1);
        end(&d);
    }
}

/* RFC6531:3.5, RFC6533:3: addresses that need SMTPUTF8 fail without it, an original recipient is written in ASCII. */
Test(smtp_client, internationalized_addresses)
{
    static const struct span rcpts[] = {{"j\xc3\xb6rg@far.test", 14}, {"a@far.test", 10}};
    static const struct smtp_client_notify orcpt[] = {{0, {"utf-8;j\xc3\xb6rg@x.test", 18}},
                                                      {0, {"utf-8;j\xc3\xb6rg@x.test", 18}}};
    for (int said = 0; said < 2; said++) {
        struct smtp_client_mail m = {
            .sender = alice, .rcpts = rcpts, .rcpt_count = 2, .notify = orcpt, .smtputf8 = said};
        struct driver d = {.next = &m, .content = SPAN("x\r\n")};
        begin(&d, &(struct smtp_client_options){.tls = SMTP_CLIENT_CLEAR});
        smtp_client_feed(d.c, SPAN("220 far.test\r\n"));
        buf_clear(&d.out);
        smtp_client_feed(d.c, SPAN("250-far.test\r\n250-PIPELINING\r\n250-SMTPUTF8\r\n250 DSN\r\n"));
        const char *want =
            said ? "MAIL FROM:<a@us.test> SMTPUTF8\r\nRCPT TO:<j\xc3\xb6rg@far.test> ORCPT=utf-8;j\xc3\xb6rg@x.test\r\n"
                   "RCPT TO:<a@far.test> ORCPT=utf-8;j\xc3\xb6rg@x.test\r\nDATA\r\n"
                 : "MAIL FROM:<a@us.test>\r\nRCPT TO:<a@far.test> ORCPT=utf-8;j\\x{F6}rg@x.test\r\nDATA\r\n";
        cr_assert(span_eqs(buf_span(&d.out), want), "%s", buf_cstr(&d.out));
        cr_assert_str_eq(buf_cstr(&d.trace), said ? "ready " : "ready 0:5/0/6.7 ");
        end(&d);
    }
}

#define STEPS(...) (const char *const[]){__VA_ARGS__, NULL}
#define CONTENT "< Subject: x\r\n\r\n..\r\nend\r\n.\r\n"

static const struct scene scenes[] = {
    {"pipelined, all taken",
     STEPS("> 220 far.test hello\r\n", "< EHLO us.test\r\n", "> 250-far.test\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250 8BITMIME\r\n",
           "< MAIL FROM:<a@us.test> SIZE=99\r\nRCPT TO:<one@far.test>\r\nRCPT TO:<two@far.test>\r\nRCPT TO:<three@far.test>\r\nDATA\r\n",
           "> 250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n", CONTENT, "> 250 2.0.0 taken\r\n", "< "),
     3, "ready content 0:2/250/0.0 1:2/250/0.0 2:2/250/0.0 done ready ", SMTP_CLIENT_MAY, NULL},
    {"pipelined, the enhanced code of a refusal is kept, others go through",
     STEPS("> 220 far.test\r\n", "< EHLO us.test\r\n", "> 250-far.test\r\n250 PIPELINING\r\n",
           "< MAIL FROM:<a@us.test>\r\nRCPT TO:<one@far.test>\r\nRCPT TO:<two@far.test>\r\nRCPT TO:<three@far.test>\r\nDATA\r\n",
           "> 250 ok\r\n550-5.1.1 nobody\r\n550 5.1.1 of that name\r\n451 4.7.1 later\r\n250 ok\r\n354 go\r\n", CONTENT, "> 250 2.6.0 x\r\n"),
     3, "ready 0:5/550/1.1 1:4/451/7.1 content 2:2/250/6.0 done ready ", SMTP_CLIENT_MAY, NULL},
    {"one command after another",
     STEPS("> 220 far.test\r\n", "< EHLO us.test\r\n", "> 250 far.test\r\n", "< MAIL FROM:<a@us.test>\r\n", "> 250 ok\r\n",
           "< RCPT TO:<one@far.test>\r\n", "> 550 no\r\n", "< RCPT TO:<two@far.test>\r\n", "> 250 ok\r\n", "< DATA\r\n", "> 354 go\r\n", CONTENT,
           "> 552 5.3.4 too large\r\n", "< "),
     2, "ready 0:5/550/0.0 content 1:5/552/3.4 done ready ", SMTP_CLIENT_MAY, NULL},
    {"nobody accepted: no DATA, RSET, ready again", /* RFC5321:3.3 */
     STEPS("> 220 far.test\r\n", "< EHLO us.test\r\n", "> 250 far.test\r\n", "< MAIL FROM:<a@us.test>\r\n", "> 250 ok\r\n",
           "< RCPT TO:<one@far.test>\r\n", "> 450 no\r\n", "< RSET\r\n", "> 250 ok\r\n"),
     1, "ready 0:4/450/0.0 done ready ", SMTP_CLIENT_MAY, NULL},
    {"nobody accepted, but the peer waits for content: an empty one", /* RFC2920:3.1 */
     STEPS("> 220 far.test\r\n", "< EHLO us.test\r\n", "> 250-far.test\r\n250 PIPELINING\r\n",
           "< MAIL FROM:<a@us.test>\r\nRCPT TO:<one@far.test>\r\nDATA\r\n", "> 250 ok\r\n550 no\r\n354 go\r\n", "< .\r\n", "> 250 taken\r\n", "< RSET\r\n",
           "> 250 ok\r\n"),
     1, "ready 0:5/550/0.0 done ready ", SMTP_CLIENT_MAY, NULL},
    {"MAIL refused in a pipeline",
     STEPS("> 220 far.test\r\n", "< EHLO us.test\r\n", "> 250-far.test\r\n250 PIPELINING\r\n",
           "< MAIL FROM:<a@us.test>\r\nRCPT TO:<one@far.test>\r\nRCPT TO:<two@far.test>\r\nDATA\r\n", "> 550 5.7.1 not you\r\n503 x\r\n503 x\r\n503 x\r\n"),
     2, "ready 0:5/550/7.1 1:5/550/7.1 done ready ", SMTP_CLIENT_MAY, NULL},
    {"DATA refused",
     STEPS("> 220 far.test\r\n", "< EHLO us.test\r\n", "> 250-far.test\r\n250 PIPELINING\r\n", "< MAIL FROM:<a@us.test>\r\nRCPT TO:<one@far.test>\r\nDATA\r\n",
           "> 250 ok\r\n250 ok\r\n451 4.3.0 later\r\n", "< RSET\r\n", "> 250 ok\r\n"),
     1, "ready 0:4/451/3.0 done ready ", SMTP_CLIENT_MAY, NULL},
    {"EHLO unknown: HELO", /* RFC5321:3.2 */
     STEPS("> 220 far.test\r\n", "< EHLO us.test\r\n", "> 500 what?\r\n", "< HELO us.test\r\n", "> 250 far.test\r\n"), 0, "ready ", SMTP_CLIENT_MAY, NULL},
    {"a greeting of several lines", STEPS("> 220-far.test\r\n220-no spam\r\n220 please\r\n", "< EHLO us.test\r\n"), 0, "", SMTP_CLIENT_MAY, NULL},
    {"greeted with 554", STEPS("> 554 5.7.1 go away\r\n", "< "), 0, "failed ", SMTP_CLIENT_MAY, NULL},
    {"greeted with 421", STEPS("> 421 busy\r\n", "< "), 0, "failed ", SMTP_CLIENT_MAY, NULL},
    {"STARTTLS, and the capabilities from before are forgotten", /* RFC3207:4.2 */
     STEPS("> 220 far.test\r\n", "< EHLO us.test\r\n", "> 250-far.test\r\n250-PIPELINING\r\n250-SIZE 9\r\n250 STARTTLS\r\n", "< STARTTLS\r\n", "> 220 go\r\n", "T",
           "< EHLO us.test\r\n", "> 250 far.test\r\n", "< MAIL FROM:<a@us.test>\r\n"),
     1, "tls ready ", SMTP_CLIENT_MAY, NULL},
    {"STARTTLS refused: in clear", STEPS("> 220 far.test\r\n", "< EHLO us.test\r\n", "> 250-far.test\r\n250 STARTTLS\r\n", "< STARTTLS\r\n", "> 454 4.7.0 no\r\n", "< "), 0,
     "ready ", SMTP_CLIENT_MAY, NULL},
    {"STARTTLS refused though required", STEPS("> 220 far.test\r\n", "< EHLO us.test\r\n", "> 250-far.test\r\n250 STARTTLS\r\n", "< STARTTLS\r\n", "> 454 4.7.0 no\r\n"), 0,
     "failed ", SMTP_CLIENT_MUST, NULL},
    {"STARTTLS stripped though required", STEPS("> 220 far.test\r\n", "< EHLO us.test\r\n", "> 250 far.test\r\n", "< "), 0, "failed ", SMTP_CLIENT_MUST, NULL},
    {"EHLO refused though TLS is required: no HELO", STEPS("> 220 far.test\r\n", "< EHLO us.test\r\n", "> 502 no\r\n", "< "), 0, "failed ", SMTP_CLIENT_MUST, NULL},
    {"STARTTLS not wanted", STEPS("> 220 far.test\r\n", "< EHLO us.test\r\n", "> 250-far.test\r\n250 STARTTLS\r\n", "< "), 0, "ready ", SMTP_CLIENT_CLEAR, NULL},
    {"AUTH PLAIN", /* RFC4954:4 */
     STEPS("> 220 far.test\r\n", "< EHLO us.test\r\n", "> 250-far.test\r\n250 AUTH LOGIN PLAIN\r\n", "< AUTH PLAIN AG1lAHBhc3M=\r\n", "> 235 ok\r\n"), 0, "ready ",
     SMTP_CLIENT_IS_TLS, "me"},
    {"AUTH LOGIN",
     STEPS("> 220 far.test\r\n", "< EHLO us.test\r\n", "> 250-far.test\r\n250 AUTH login\r\n", "< AUTH LOGIN\r\n", "> 334 VXNlcm5hbWU6\r\n", "< bWU=\r\n",
           "> 334 UGFzc3dvcmQ6\r\n", "< cGFzcw==\r\n", "> 235 2.7.0 ok\r\n"),
     0, "ready ", SMTP_CLIENT_IS_TLS, "me"},
    {"AUTH refused", STEPS("> 220 far.test\r\n", "< EHLO us.test\r\n", "> 250-far.test\r\n250 AUTH PLAIN\r\n", "< AUTH PLAIN AG1lAHBhc3M=\r\n", "> 535 5.7.8 no\r\n"), 0,
     "failed ", SMTP_CLIENT_IS_TLS, "me"},
    {"AUTH not in clear", STEPS("> 220 far.test\r\n", "< EHLO us.test\r\n", "> 250-far.test\r\n250 AUTH PLAIN\r\n", "< "), 0, "failed ", SMTP_CLIENT_MAY, "me"},
    {"AUTH by an unknown way only", STEPS("> 220 far.test\r\n", "< EHLO us.test\r\n", "> 250-far.test\r\n250 AUTH GSSAPI\r\n", "< "), 0, "failed ", SMTP_CLIENT_IS_TLS, "me"},
    {"421 in the middle", /* RFC5321:3.8 */
     STEPS("> 220 far.test\r\n", "< EHLO us.test\r\n", "> 250 far.test\r\n", "< MAIL FROM:<a@us.test>\r\n", "> 421 4.3.2 going down\r\n"), 2, "ready failed ",
     SMTP_CLIENT_MAY, NULL},
};

Test(smtp, client_dialogues_whole)
{
    for (size_t i = 0; i < COUNT_OF(scenes); i++)
        play(&scenes[i], false);
}

Test(smtp, client_dialogues_byte_by_byte)
{
    for (size_t i = 0; i < COUNT_OF(scenes); i++)
        play(&scenes[i], true);
}

/* ---- hostile peers: HAZARDS 3, 4, 5, 23; RFC5321:4.2 and RFC5321:4.5.3.1.5 ---- */

static void fails(const char *name, const char *const *steps, enum smtp_client_tls tls, const char *because)
{
    struct smtp_client_mail m = mail_of(1);
    struct driver d = {.next = &m};
    begin(&d, &(struct smtp_client_options){.tls = tls});
    dialogue(&d, steps, false);
    cr_assert(span_ends(buf_span(&d.trace), SPAN("failed ")), "%s: %s", name, buf_cstr(&d.trace));
    cr_assert_eq(d.failed.kind, OUTCOME_RETRY, "%s", name);
    cr_assert(strstr(d.failed.text, because), "%s: %s", name, d.failed.text);
    end(&d);
}

Test(smtp, client_refuses_bytes_injected_after_starttls)
{
    fails("injected EHLO answer", STEPS("> 220 x\r\n", "< EHLO us.test\r\n", "> 250-x\r\n250 STARTTLS\r\n", "< STARTTLS\r\n", "> 220 go\r\n250-evil\r\n250 AUTH PLAIN\r\n"),
          SMTP_CLIENT_MAY, "behind its answer to STARTTLS");
    fails("injected in a later packet", STEPS("> 220 x\r\n", "< EHLO us.test\r\n", "> 250-x\r\n250 STARTTLS\r\n", "< STARTTLS\r\n", "> 220 go\r\n", "> 2"), SMTP_CLIENT_MAY,
          "behind its answer to STARTTLS");
}

Test(smtp, client_refuses_replies_before_commands)
{
    fails("EHLO answered ahead", STEPS("> 220 x\r\n250 x\r\n"), SMTP_CLIENT_MAY, "before its command");
    fails("a half reply ahead", STEPS("> 220 x\r\n25"), SMTP_CLIENT_MAY, "before its command");
    fails("one reply too many", STEPS("> 220 x\r\n", "< EHLO us.test\r\n", "> 250-x\r\n250 PIPELINING\r\n", "< MAIL FROM:<a@us.test>\r\nRCPT TO:<one@far.test>\r\nDATA\r\n",
                                      "> 250 ok\r\n250 ok\r\n451 no\r\n250 ok\r\n250 ok\r\n"), SMTP_CLIENT_MAY, "before its command");
    fails("2yz in the middle of content", STEPS("> 220 x\r\n", "< EHLO us.test\r\n", "> 250-x\r\n250 PIPELINING\r\n",
                                                "< MAIL FROM:<a@us.test>\r\nRCPT TO:<one@far.test>\r\nDATA\r\n", "> 250 ok\r\n250 ok\r\n354 go\r\n", "> 250 thanks\r\n"),
          SMTP_CLIENT_MAY, "in the middle of the content");
    fails("3yz for MAIL", STEPS("> 220 x\r\n", "< EHLO us.test\r\n", "> 250 x\r\n", "< MAIL FROM:<a@us.test>\r\n", "> 354 go\r\n"), SMTP_CLIENT_MAY, "intermediate");
    fails("2yz for DATA", STEPS("> 220 x\r\n", "< EHLO us.test\r\n", "> 250 x\r\n", "< MAIL FROM:<a@us.test>\r\n", "> 250 ok\r\n", "< RCPT TO:<one@far.test>\r\n", "> 250 ok\r\n",
                                "< DATA\r\n", "> 250 ok\r\n"), SMTP_CLIENT_MAY, "answer to DATA");
}

/* RFC5321:4.2.1 */
Test(smtp, client_refuses_garbage)
{
    static const char *const bad[] = {"> hello\r\n", "> 2\r\n", "> 22x hi\r\n", "> 199 x\r\n", "> 600 x\r\n", "> 2200 x\r\n", "> \r\n", "> 220-a\r\n250 b\r\n", "> 220_x\r\n"};
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        fails(bad[i], STEPS(bad[i]), SMTP_CLIENT_MAY, "broke the protocol");
}

Test(smtp, client_bounds_lines_and_replies)
{
    struct driver d = {0};
    begin(&d, &(struct smtp_client_options){.tls = SMTP_CLIENT_MAY});
    char *chunk = mem_alloc(100000);
    memset(chunk, 'x', 100000);
    smtp_client_feed(d.c, SPAN("220 "));
    for (int i = 0; i < 100; i++) /* 10 MB without a line's end */
        smtp_client_feed(d.c, span_make(chunk, 100000));
    cr_assert_str_eq(buf_cstr(&d.trace), "failed ");
    cr_assert(strstr(d.failed.text, "too long"));
    end(&d);
    struct driver e = {0};
    begin(&e, &(struct smtp_client_options){.tls = SMTP_CLIENT_MAY});
    for (int i = 0; i < 100000 && e.trace.n == 0; i++) /* a reply that never ends */
        smtp_client_feed(e.c, SPAN("220-more and more and more\r\n"));
    cr_assert_str_eq(buf_cstr(&e.trace), "failed ");
    cr_assert(strstr(e.failed.text, "too many lines"));
    end(&e);
    mem_free(&chunk);
}

/* Whatever it is fed, the engine ends or goes on, within its bounds. */
Test(smtp, client_survives_noise)
{
    uint32_t seed = 1;
    static const char *const words[] = {"220 ", "250 ", "250-", "354 ", "421 ", "\r\n", "\n", "x", "STARTTLS", "PIPELINING", "550 5.1.1 ", "\0\0", "334 "};
    for (int round = 0; round < 2000; round++) {
        struct smtp_client_mail m = mail_of(3);
        struct driver d = {.next = &m, .content = SPAN("x\r\n")};
        begin(&d, &(struct smtp_client_options){.tls = SMTP_CLIENT_MAY});
        for (int i = 0; i < 40 && d.failed.kind == 0; i++) {
            seed = seed * 1664525 + 1013904223;
            const char *w = words[(seed >> 16) % COUNT_OF(words)];
            smtp_client_feed(d.c, i % 3 == 0 ? SPAN("250 ok\r\n") : span_make(w, strlen(w) ? strlen(w) : 2));
            if (d.tls_pending) {
                d.tls_pending = false;
                smtp_client_tls_up(d.c);
            }
        }
        smtp_client_lost(d.c, "the end");
        cr_assert(d.failed.kind != 0);
        end(&d);
    }
}

/* ---- what goes on the wire ---- */

/* HAZARDS 1 and 7: an address that would change the command is never said. */
Test(smtp, client_addresses_that_do_not_fit)
{
    static const struct span rcpts[] = {{"a@b\r\nRCPT TO:<evil@far.test>", 29}, {"a@b> SIZE=1", 11}, {"a b@far.test", 12}, {"nodomain", 8}, {"a@\0.test", 8},
                                        {"ok@far.test", 11}, {"b\xc3\xbc@far.test", 12}, {"", 0}};
    struct smtp_client_mail m = {.sender = SPAN_NONE, .rcpts = rcpts, .rcpt_count = COUNT_OF(rcpts), .size = 1};
    struct driver d = {.next = &m};
    begin(&d, &(struct smtp_client_options){.tls = SMTP_CLIENT_CLEAR});
    dialogue(&d, STEPS("> 220 x\r\n", "< EHLO us.test\r\n", "> 250-x\r\n250 PIPELINING\r\n", "< MAIL FROM:<>\r\nRCPT TO:<ok@far.test>\r\nDATA\r\n"), false);
    cr_assert_str_eq(buf_cstr(&d.trace),
                     "ready 0:5/0/1.3 1:5/0/1.3 2:5/0/1.3 3:5/0/1.3 4:5/0/1.3 6:5/0/6.7 7:5/0/1.3 ");
    end(&d);
    struct smtp_client_mail bad = {.sender = SPAN("a@b\r\nDATA"), .rcpts = three, .rcpt_count = 2};
    struct driver e = {.next = &bad};
    begin(&e, &(struct smtp_client_options){.tls = SMTP_CLIENT_CLEAR});
    dialogue(&e, STEPS("> 220 x\r\n", "< EHLO us.test\r\n", "> 250 x\r\n", "< "), false);
    cr_assert_str_eq(buf_cstr(&e.trace), "ready 0:5/0/1.7 1:5/0/1.7 done ready ");
    end(&e);
}

/* RFC1870:5, RFC5321:4.1.1.1 */
Test(smtp, client_says_what_the_message_needs)
{
    struct span rcpts[] = {SPAN("j\xc3\xbcrgen@b\xc3\xbc" "cher.test")};
    struct smtp_client_mail m = {.sender = alice, .rcpts = rcpts, .rcpt_count = 1, .size = 7, .body_8bit = true, .smtputf8 = true};
    struct driver d = {.next = &m};
    begin(&d, &(struct smtp_client_options){.tls = SMTP_CLIENT_CLEAR});
    dialogue(&d, STEPS("> 220 x\r\n", "< EHLO us.test\r\n", "> 250-x\r\n250-size 500\r\n250-8bitmime\r\n250 SMTPUTF8\r\n",
                       "< MAIL FROM:<a@us.test> SIZE=7 BODY=8BITMIME SMTPUTF8\r\n", "> 250 ok\r\n", "< RCPT TO:<j\xc3\xbcrgen@b\xc3\xbc" "cher.test>\r\n"), false);
    cr_assert_eq(smtp_client_size_limit(d.c), 500);
    end(&d);
}

/* What was said, for people: each recipient with the reply to its own RCPT and no other's, cut, on one line, in UTF-8. */
Test(smtp, client_keeps_the_dialogue)
{
    struct smtp_client_mail m = mail_of(3);
    struct driver d = {.next = &m, .content = SPAN("x\r\n"), .listen = true};
    begin(&d, &(struct smtp_client_options){.tls = SMTP_CLIENT_CLEAR});
    dialogue(&d, STEPS("> 220 x | y\r\n", "> 250-x\r\n250 PIPELINING\r\n", "> 250 2.1.0 ok\r\n", "> 250 one\r\n",
                       "> 550-5.1.1 nobody\t\xff here\r\n550 5.1.1 go away\r\n", "> 251 three\r\n", "> 354 go\r\n",
                       "> 451 4.3.0 0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789\r\n"), false);
    cr_expect_str_eq(buf_cstr(&d.dialogues),
                     "1: connect -> 220 x / y | EHLO -> 250 x | MAIL -> 250 2.1.0 ok | RCPT -> 550 5.1.1 nobody ? here\n"
                     "0: EHLO -> 250 x | MAIL -> 250 2.1.0 ok | RCPT -> 250 | DATA -> 354 go | content -> 451 4.3.0 "
                     "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123\n"
                     "2: EHLO -> 250 x | MAIL -> 250 2.1.0 ok | RCPT -> 251 three | DATA -> 354 go | content -> 451 4.3.0 "
                     "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123\n");
    buf_free(&d.dialogues);
    end(&d);
}

/* The window: never more than SMTP_CLIENT_WINDOW commands without a reply. */
Test(smtp, client_window_of_pipelining)
{
    size_t n = 350;
    struct span *rcpts = mem_array(n, sizeof *rcpts);
    for (size_t i = 0; i < n; i++)
        rcpts[i] = SPAN("one@far.test");
    struct smtp_client_mail m = {.sender = alice, .rcpts = rcpts, .rcpt_count = n, .size = 1};
    struct driver d = {.next = &m};
    begin(&d, &(struct smtp_client_options){.tls = SMTP_CLIENT_CLEAR});
    dialogue(&d, STEPS("> 220 x\r\n", "< EHLO us.test\r\n", "> 250-x\r\n250 PIPELINING\r\n"), false);
    size_t answered = 0, seen = 0;
    while (!strstr(buf_cstr(&d.trace), "content")) {
        struct span out = buf_span(&d.out);
        while (out.n) {
            span_cut(&out, '\n');
            seen++;
        }
        buf_clear(&d.out);
        cr_assert_leq(seen - answered, SMTP_CLIENT_WINDOW);
        smtp_client_feed(d.c, answered == n + 1 ? SPAN("354 go\r\n") : SPAN("250 ok\r\n"));
        answered++;
        cr_assert_null(strstr(buf_cstr(&d.trace), "failed"));
    }
    cr_assert_eq(seen, n + 2);
    end(&d);
    mem_free(&rcpts);
}

static void to_content(struct driver *d, struct smtp_client_mail *m)
{
    d->next = m;
    begin(d, &(struct smtp_client_options){.tls = SMTP_CLIENT_CLEAR});
    dialogue(d, STEPS("> 220 x\r\n", "> 250-x\r\n250 PIPELINING\r\n", "> 250 ok\r\n250 ok\r\n354 go\r\n"), false);
    buf_clear(&d->out);
}

/* HAZARDS 1, outbound: no CR or LF but in CRLF, one end only, whatever the content and however it is cut. RFC5321:4.5.2. */
Test(smtp, client_content_is_clean_however_it_is_cut)
{
    static const struct {
        struct span in, out;
    } cases[] = {
        {{"", 0}, {".\r\n", 3}},
        {{"a", 1}, {"a\r\n.\r\n", 6}},
        {{"a\r\n", 3}, {"a\r\n.\r\n", 6}},
        {{".\r\n", 3}, {"..\r\n.\r\n", 7}},
        {{"a\r\n.\r\nb\r\n", 9}, {"a\r\n..\r\nb\r\n.\r\n", 13}},
        {{"a\n.\nb", 5}, {"a . b\r\n.\r\n", 10}},
        {{"a\r.\rb\r\n", 7}, {"a . b\r\n.\r\n", 10}},
        {{"a\n.\r\nb", 6}, {"a .\r\nb\r\n.\r\n", 11}},
        {{"a\r\n.\nb\r\n", 8}, {"a\r\n.. b\r\n.\r\n", 12}},
        {{"a\r\n.\r\r\nb", 8}, {"a\r\n.. \r\nb\r\n.\r\n", 14}},
        {{"a\r\r\n.\r\n", 7}, {"a \r\n..\r\n.\r\n", 11}},
        {{"a\r", 2}, {"a \r\n.\r\n", 7}},
        {{"\r\n\r.\r\n", 6}, {"\r\n .\r\n.\r\n", 9}},
        {{"..x\r\n", 5}, {"...x\r\n.\r\n", 9}},
        {{"a\0b\r\n", 5}, {"a\0b\r\n.\r\n", 8}},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        for (size_t cut = 0; cut <= cases[i].in.n; cut++) {
            struct smtp_client_mail m = mail_of(1);
            struct driver d = {0};
            to_content(&d, &m);
            smtp_client_content(d.c, span_sub(cases[i].in, 0, cut), false);
            smtp_client_content(d.c, span_from(cases[i].in, cut), true);
            cr_assert(span_eq(buf_span(&d.out), cases[i].out), "case %zu cut at %zu: %s", i, cut, buf_cstr(&d.out));
            end(&d);
        }
}

/* All endings of four pieces each: the final dot stands once, at the end. */
Test(smtp, client_content_has_one_end)
{
    static const char *const pieces[] = {"\r", "\n", "\r\n", ".", "x", "\r\n.\r\n", "\n.\n", "\r.\r"};
    for (unsigned n = 0; n < 8 * 8 * 8 * 8; n++) {
        struct smtp_client_mail m = mail_of(1);
        struct driver d = {0};
        to_content(&d, &m);
        for (unsigned k = n, i = 0; i < 4; i++, k /= 8)
            smtp_client_content(d.c, span_of(pieces[k % 8]), i == 3);
        struct span out = buf_span(&d.out);
        cr_assert(span_eqs(out, ".\r\n") || span_ends(out, SPAN("\r\n.\r\n")));
        bool start = true;
        for (size_t i = 0; i < out.n; i++) {
            cr_assert(out.p[i] != '\n' || (i && out.p[i - 1] == '\r'), "bare LF, %u", n);
            cr_assert(out.p[i] != '\r' || (i + 1 < out.n && out.p[i + 1] == '\n'), "bare CR, %u", n);
            if (start && i + 3 < out.n)
                cr_assert(memcmp(out.p + i, ".\r\n", 3) != 0, "an end before the end, %u", n);
            start = out.p[i] == '\n';
        }
        end(&d);
    }
}

/* ---- ends and reuse ---- */

Test(smtp, client_takes_several_messages)
{
    struct smtp_client_mail m = mail_of(1), again = mail_of(2);
    struct driver d = {.next = &m, .content = SPAN("x\r\n")};
    begin(&d, &(struct smtp_client_options){.tls = SMTP_CLIENT_CLEAR});
    dialogue(&d, STEPS("> 220 x\r\n", "> 250-x\r\n250 PIPELINING\r\n", "> 250 ok\r\n250 ok\r\n354 go\r\n", "> 250 taken\r\n"), false);
    cr_assert(smtp_client_is_ready(d.c));
    cr_assert_eq(smtp_client_timeout(d.c), 0);
    buf_clear(&d.out);
    smtp_client_mail(d.c, &again);
    dialogue(&d, STEPS("< MAIL FROM:<a@us.test>\r\nRCPT TO:<one@far.test>\r\nRCPT TO:<two@far.test>\r\nDATA\r\n", "> 250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n",
                       "< x\r\n.\r\n", "> 250 taken\r\n"), false);
    smtp_client_quit(d.c);
    dialogue(&d, STEPS("< QUIT\r\n", "> 221 bye\r\n"), false);
    cr_assert_str_eq(buf_cstr(&d.trace), "ready content 0:2/250/0.0 done ready content 0:2/250/0.0 1:2/250/0.0 done ready closed ");
    end(&d);
}

Test(smtp, client_tells_where_a_session_broke)
{
    const struct {
        const char *const *steps;
        enum smtp_client_stage at;
    } cases[] = {
        {STEPS("> 2"), SMTP_STAGE_GREETING},
        {STEPS("> 220 x\r\n"), SMTP_STAGE_HELLO},
        {STEPS("> 220 x\r\n", "> 250-x\r\n250-STARTTLS\r\n250 PIPELINING\r\n", "> 220 go\r\n"), SMTP_STAGE_TLS},
        {STEPS("> 220 x\r\n", "> 250-x\r\n250 PIPELINING\r\n"), SMTP_STAGE_MAIL},
        {STEPS("> 220 x\r\n", "> 250-x\r\n250 PIPELINING\r\n", "> 250 ok\r\n250 ok\r\n"), SMTP_STAGE_RCPT},
        {STEPS("> 220 x\r\n", "> 250-x\r\n250 PIPELINING\r\n", "> 250 ok\r\n250 ok\r\n354 go\r\n"), SMTP_STAGE_DOT},
        {STEPS("> 220 x\r\n", "> 250-x\r\n250 PIPELINING\r\n", "> 250 ok\r\n250 ok\r\n354 go\r\n", "> 250 ok\r\n"), SMTP_STAGE_IDLE},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct smtp_client_mail m = mail_of(1);
        struct driver d = {.next = &m, .content = SPAN("x\r\n")};
        begin(&d, &(struct smtp_client_options){.tls = SMTP_CLIENT_MAY});
        dialogue(&d, cases[i].steps, false);
        smtp_client_lost(d.c, "gone");
        cr_assert_eq(d.failed_at, cases[i].at, "case %zu", i);
        cr_assert(d.failed.kind == OUTCOME_RETRY && d.failed.subject == 4 && d.failed.detail == 2);
        smtp_client_lost(d.c, "again"); /* nothing more */
        end(&d);
    }
}

/* A verdict in the middle of the content is kept: the peer refused the message, it did not break. */
Test(smtp, client_early_refusal_of_content)
{
    struct smtp_client_mail m = mail_of(1);
    struct driver d = {0};
    to_content(&d, &m);
    smtp_client_content(d.c, SPAN("x\r\n"), false);
    smtp_client_feed(d.c, SPAN("552 5.3.4 too large\r\n"));
    cr_assert(d.failed_at == SMTP_STAGE_CONTENT && d.failed.kind == OUTCOME_FAILED && d.failed.code == 552 && d.failed.detail == 4);
    end(&d);
}

/* RFC5321:4.5.3.1.10: 552 for a recipient after others were accepted is "too many", thus for now. */
Test(smtp, client_552_for_a_recipient)
{
    static const struct {
        const char *reply;
        unsigned kind;
    } cases[] = {{"> 250 ok\r\n250 ok\r\n552 too many\r\n", 4}, {"> 250 ok\r\n552 too many\r\n250 ok\r\n", 5}, {"> 250 ok\r\n250 ok\r\n552 5.2.2 full\r\n", 5}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct smtp_client_mail m = mail_of(2);
        struct driver d = {.next = &m};
        begin(&d, &(struct smtp_client_options){.tls = SMTP_CLIENT_CLEAR});
        dialogue(&d, STEPS("> 220 x\r\n", "> 250-x\r\n250 PIPELINING\r\n", cases[i].reply), false);
        char want[32];
        snprintf(want, sizeof want, ":%u/552", cases[i].kind);
        cr_assert(strstr(buf_cstr(&d.trace), want), "%s", buf_cstr(&d.trace));
        end(&d);
    }
}

Test(smtp, client_may_be_freed_inside_its_callbacks)
{
    struct smtp_client_mail m = mail_of(3);
    struct driver d = {.free_at_ready = true}, e = {.next = &m, .free_at_rcpt = true};
    begin(&d, &(struct smtp_client_options){.tls = SMTP_CLIENT_CLEAR});
    dialogue(&d, STEPS("> 220 x\r\n", "> 250 x\r\n"), false);
    cr_assert_null(d.c);
    end(&d);
    begin(&e, &(struct smtp_client_options){.tls = SMTP_CLIENT_CLEAR});
    dialogue(&e, STEPS("> 220 x\r\n", "> 250-x\r\n250 PIPELINING\r\n", "> 550 no\r\n550 no\r\n550 no\r\n"), false);
    cr_assert_str_eq(buf_cstr(&e.trace), "ready 0:5/550/0.0 ");
    end(&e);
}

/* RFC5321:4.5.3.2, RFC5321:4.5.3.2.1, RFC5321:4.5.3.2.2, RFC5321:4.5.3.2.4, RFC5321:4.5.3.2.5, RFC5321:4.5.3.2.6 */
Test(smtp, client_timeouts)
{
    struct smtp_client_mail m = mail_of(1);
    struct driver d = {.next = &m, .content = SPAN("x\r\n")};
    begin(&d, &(struct smtp_client_options){.tls = SMTP_CLIENT_CLEAR});
    cr_assert_eq(smtp_client_timeout(d.c), 300000);
    uint64_t before = smtp_client_progress(d.c);
    dialogue(&d, STEPS("> 220"), false);
    cr_assert_eq(smtp_client_progress(d.c), before, "a piece of a reply is no progress");
    dialogue(&d, STEPS("> \r\n", "> 250-x\r\n250 PIPELINING\r\n", "> 250 ok\r\n250 ok\r\n"), false);
    cr_assert_gt(smtp_client_progress(d.c), before);
    cr_assert_eq(smtp_client_timeout(d.c), 120000);
    dialogue(&d, STEPS("> 354 go\r\n"), false);
    cr_assert_eq(smtp_client_timeout(d.c), 600000);
    end(&d);
    struct driver e = {0};
    begin(&e, &(struct smtp_client_options){.tls = SMTP_CLIENT_CLEAR, .timeout_max = 1000});
    cr_assert_eq(smtp_client_timeout(e.c), 1000);
    end(&e);
}

/* RFC2852:2: the least time of DELIVERBY is the first of a list with commas; without one, or with none, there is no least. */
Test(smtp_client, the_least_time_of_deliverby)
{
    static const struct {
        const char *keyword;
        uint64_t least;
    } cases[] = {{"DELIVERBY 120", 120}, {"DELIVERBY 240,later,9", 240}, {"DELIVERBY", 0}, {"DELIVERBY x,5", 0}, {"SIZE 5", 0}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct driver d = {0};
        char reply[80];
        snprintf(reply, sizeof reply, "> 250-far.test\r\n250 %s\r\n", cases[i].keyword);
        begin(&d, &(struct smtp_client_options){.tls = SMTP_CLIENT_CLEAR});
        dialogue(&d, STEPS("> 220 far.test\r\n"), false);
        dialogue(&d, STEPS(reply), false);
        cr_assert_eq(smtp_client_by_min(d.c), cases[i].least, "%s", cases[i].keyword);
        end(&d);
    }
}
