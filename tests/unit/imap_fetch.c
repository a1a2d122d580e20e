/* FETCH: dialogues with the IMAP engine; sections, partials, the cache, many and large messages. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "imap_support.h"

TestSuite(imap_fetch, .init = imap_set_up, .fini = imap_tear_down);

#define SIMPLE                                                                                                         \
    "Date: Mon, 23 Nov 2026 09:41:07 +0000\r\nSubject: hi\r\nFrom: A <a@b.test>\r\nTo: c@d.test\r\n\r\nbody\r\n"
#define NESTED                                                                                                         \
    "Subject: out\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\npre\r\n--x\r\nContent-Type: "                    \
    "text/plain\r\n\r\none\r\n--x\r\n"                                                                                 \
    "Content-Type: message/rfc822\r\n\r\nSubject: in\r\nFrom: e@f.test\r\n\r\ntwo\r\n--x--\r\n"

static struct client *with(const char *text)
{
    struct client *c = client_new();
    put_message(c, "INBOX", "\\Seen", text);
    say(c, "s SELECT INBOX");
    return c;
}

Test(imap_fetch, items)
{
    struct client *c = with(SIMPLE);
    EXPECT(c, "1 FETCH 1 ENVELOPE",
           "* 1 FETCH (ENVELOPE (\"Mon, 23 Nov 2026 09:41:07 +0000\" \"hi\" ((\"A\" NIL \"a\" \"b.test\")) ((\"A\" NIL "
           "\"a\" \"b.test\")) "
           "((\"A\" NIL \"a\" \"b.test\")) ((NIL NIL \"c\" \"d.test\")) NIL NIL NIL NIL))\r\n1 OK Fetched\r\n");
    EXPECT(c, "2 FETCH 1 BODYSTRUCTURE",
           "* 1 FETCH (BODYSTRUCTURE (\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 6 1 NIL NIL NIL "
           "NIL))\r\n2 OK Fetched\r\n");
    EXPECT(c, "3 FETCH 1 BODY",
           "* 1 FETCH (BODY (\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 6 1))\r\n3 OK Fetched\r\n");
    EXPECT(
        c, "4 FETCH 1 FAST",
        "* 1 FETCH (FLAGS (\\Seen \\Recent) INTERNALDATE \"23-Nov-2026 ~ +0000\" RFC822.SIZE ~)\r\n4 OK Fetched\r\n");
    EXPECT(c, "5 FETCH 1 FULL",
           "* 1 FETCH (FLAGS ~ INTERNALDATE ~ RFC822.SIZE ~ ENVELOPE (~) BODY (~))\r\n5 OK Fetched\r\n");
    EXPECT(c, "6 UID FETCH 1 (FLAGS)", "* 1 FETCH (FLAGS (~) UID 1)\r\n6 OK Fetched\r\n");
    EXPECT(c, "7 UID FETCH 1 UID", "* 1 FETCH (UID 1)\r\n7 OK Fetched\r\n");
    EXPECT(c, "8 UID FETCH 9 UID", "8 OK Fetched\r\n");
    EXPECT(c, "9 FETCH * UID", "* 1 FETCH (UID 1)\r\n9 OK Fetched\r\n");
    client_free(&c);
}

Test(imap_fetch, what_the_store_forgot_is_found_again)
{
    struct client *c = with(SIMPLE);
    static struct span none;
    struct store_rows rows = {0};
    struct err err;
    struct store_mailbox box;
    cr_assert_eq(store_find(account, SPAN("INBOX"), NULL, &box, &err), 0);
    struct store_stage *g = store_stage_new(account);
    store_stage_write(g, SPAN(SIMPLE), &err);
    struct store_new fresh = {.envelope = none, .structure = none};
    cr_assert_eq(store_append(account, box.id, &g, &fresh, NULL, NULL, &err), 0);
    EXPECT(c, "0 NOOP", "* 2 EXISTS\r\n* 2 RECENT\r\n0 OK Done\r\n");
    EXPECT(c, "1 FETCH 2 (ENVELOPE BODYSTRUCTURE)",
           "* 2 FETCH (ENVELOPE (~ \"hi\" ~) BODYSTRUCTURE (\"text\" ~))\r\n1 OK Fetched\r\n");
    cr_assert_eq(store_scan(account, box.id, 2, 2, &rows, &err), 0);
    struct arena a = {0};
    struct store_cache cache;
    cr_assert_eq(store_cache_get(account, rows.v[0].content, &a, &cache, &err), 0);
    cr_expect(cache.envelope.p && cache.structure.p);
    arena_free(&a);
    store_rows_free(&rows);
    client_free(&c);
}

Test(imap_fetch, sections) /* RFC3501:6.4.5 */
{
    static const struct {
        const char *ask, *label, *body; /* body NULL: NIL */
    } table[] = {
        {"BODY.PEEK[]", "BODY[]", NESTED},
        {"RFC822", "RFC822", NESTED},
        {"BODY.PEEK[HEADER]", "BODY[HEADER]", "Subject: out\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n"},
        {"RFC822.HEADER", "RFC822.HEADER", "Subject: out\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n"},
        {"BODY[HEADER.FIELDS (subject X-None)]", "BODY[HEADER.FIELDS (subject X-None)]", "Subject: out\r\n\r\n"},
        {"BODY[HEADER.FIELDS (none)]", "BODY[HEADER.FIELDS (none)]", "\r\n"},
        {"body[header.fields.not (subject)]", "BODY[HEADER.FIELDS.NOT (subject)]",
         "Content-Type: multipart/mixed; boundary=x\r\n\r\n"},
        {"BODY[1]", "BODY[1]", "one"},
        {"BODY[1.MIME]", "BODY[1.MIME]", "Content-Type: text/plain\r\n\r\n"},
        {"BODY[2]", "BODY[2]", "Subject: in\r\nFrom: e@f.test\r\n\r\ntwo"},
        {"BODY[2.HEADER]", "BODY[2.HEADER]", "Subject: in\r\nFrom: e@f.test\r\n\r\n"},
        {"BODY[2.TEXT]", "BODY[2.TEXT]", "two"},
        {"BODY[2.1]", "BODY[2.1]", "two"},
        {"BODY[2.HEADER.FIELDS (FROM)]", "BODY[2.HEADER.FIELDS (FROM)]", "From: e@f.test\r\n\r\n"},
        {"BODY[2.MIME]", "BODY[2.MIME]", "Content-Type: message/rfc822\r\n\r\n"},
        {"BODY[3]", "BODY[3]", NULL},
        {"BODY[1.HEADER]", "BODY[1.HEADER]", NULL},
        {"BODY[1.1]", "BODY[1.1]", NULL},
        {"BODY[]<0.7>", "BODY[]<0>", "Subject"},
        {"BODY[]<9.3>", "BODY[]<9>", "out"},
        {"BODY[1]<1.100>", "BODY[1]<1>", "ne"},
        {"BODY[1]<5.1>", "BODY[1]<5>", ""},
        {"BODY[1]<4294967295.4294967295>", "BODY[1]<4294967295>", ""},
        {"BODY[HEADER.FIELDS (Subject)]<3.5>", "BODY[HEADER.FIELDS (Subject)]<3>", "ject:"},
        {"BODY[HEADER.FIELDS (\"a b\")]", "BODY[HEADER.FIELDS (\"a b\")]", "\r\n"},
    };
    struct client *c = with(NESTED);
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        struct buf ask = {0}, want = {0};
        buf_printf(&ask, "x FETCH 1 %s", table[i].ask);
        if (table[i].body)
            buf_printf(&want, "* 1 FETCH (%s {%zu}\r\n%s)\r\nx OK Fetched\r\n", table[i].label, strlen(table[i].body),
                       table[i].body);
        else
            buf_printf(&want, "* 1 FETCH (%s NIL)\r\nx OK Fetched\r\n", table[i].label);
        const char *got = say(c, buf_cstr(&ask));
        cr_expect_str_eq(got, buf_cstr(&want), "%s", table[i].ask);
        buf_free(&ask);
        buf_free(&want);
    }
    client_free(&c);
}

Test(imap_fetch, what_is_no_fetch)
{
    static const char *const bad[] = {
        "FETCH",
        "FETCH 1",
        "FETCH 1 ()",
        "FETCH 1 (FLAGS",
        "FETCH 1 BOGUS",
        "FETCH 1 BODY[",
        "FETCH 1 BODY[0]",
        "FETCH 1 BODY[1.]",
        "FETCH 1 BODY[MIME]",
        "FETCH 1 BODY[HEADER.FIELDS]",
        "FETCH 1 BODY[HEADER.FIELDS ()]",
        "FETCH 1 BODY[]<1>",
        "FETCH 1 BODY[]<1.0>",
        "FETCH 1 BODY[]<.1>",
        "FETCH 1 BODY.PEEK",
        "FETCH 1 BODY[TEXT.1]",
        "FETCH 1 FLAGS UID",
        "FETCH 1 (FLAGS  UID)",
        "FETCH 2 FLAGS",
        "FETCH x FLAGS",
        "FETCH 1 (ALL)",
        "FETCH 1 RFC822.PEEK",
        "FETCH 1 "
        "BODY[1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1."
        "1.1.1.1.1.1.1.1.1.1.1.1.1.1]",
    };
    struct client *c = with(SIMPLE);
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct buf line = {0};
        buf_printf(&line, "x %s", bad[i]);
        cr_expect(fits("x BAD ~\r\n", say(c, buf_cstr(&line))), "%s: %s", bad[i], buf_cstr(&c->got));
        say(c, "n NOOP");
        buf_free(&line);
    }
    client_free(&c);
}

Test(imap_fetch, reading_sets_seen)
{
    struct client *c = client_new(), *other = client_new();
    put_message(c, "INBOX", "", SIMPLE);
    put_message(c, "INBOX", "", SIMPLE);
    say(c, "s SELECT INBOX");
    say(other, "s SELECT INBOX");
    EXPECT(c, "1 FETCH 1 (BODY.PEEK[TEXT])", "* 1 FETCH (BODY[TEXT] {6}\r\nbody\r\n)\r\n1 OK Fetched\r\n");
    EXPECT(c, "2 FETCH 1 BODY[TEXT]",
           "* 1 FETCH (BODY[TEXT] {6}\r\nbody\r\n FLAGS (\\Seen \\Recent))\r\n2 OK Fetched\r\n");
    EXPECT(c, "3 FETCH 1 BODY[TEXT]", "* 1 FETCH (BODY[TEXT] {6}\r\nbody\r\n)\r\n3 OK Fetched\r\n");
    EXPECT(c, "4 FETCH 2 (FLAGS RFC822.TEXT)",
           "* 2 FETCH (FLAGS (\\Seen \\Recent) RFC822.TEXT {6}\r\nbody\r\n)\r\n4 OK Fetched\r\n");
    EXPECT(other, "5 NOOP", "* 1 FETCH (UID 1 FLAGS (\\Seen))\r\n* 2 FETCH (UID 2 FLAGS (\\Seen))\r\n5 OK Done\r\n");
    EXPECT(c, "6 NOOP", "6 OK Done\r\n");
    client_free(&c);
    client_free(&other);
}

/* ---- much of it ---- */

static void answered(struct client *c, const char *line, const char *end)
{
    cr_expect(strstr(say(c, line), end), "%s", line);
}

Test(imap_fetch, ten_thousand_messages)
{
    struct client *c = client_new();
    struct buf all = {0};
    for (int i = 0; i < 10000; i++)
        buf_printf(&all, "a APPEND INBOX {%zu+}\r\n%s\r\n", strlen(SIMPLE), SIMPLE);
    piece = 65536;
    send_bytes(c, buf_span(&all));
    piece = SIZE_MAX;
    answered(c, "s SELECT INBOX", "* 10000 EXISTS\r\n");
    answered(c, "f FETCH 1:* (UID FLAGS)", "* 10000 FETCH (UID 10000 FLAGS (\\Recent))\r\nf OK");
    answered(c, "f FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)", "* 10000 FETCH (UID 10000");
    answered(c, "f FETCH 1:* BODY.PEEK[HEADER.FIELDS (DATE FROM SUBJECT)]", "f OK");
    answered(c, "f FETCH 1:* BODY.PEEK[]", "f OK");
    answered(c, "f UID SEARCH SUBJECT zzz", "* SEARCH\r\nf OK");
    answered(c, "f UID SEARCH TEXT zzz", "* SEARCH\r\nf OK");
    answered(c, "f UID STORE 1:* +FLAGS (\\Seen)", "f OK");
    answered(c, "f UID STORE 1:* -FLAGS.SILENT (\\Seen)", "f OK");
    answered(c, "f MOVE 1:1000 Archive", "* 1 EXPUNGE\r\nf OK");
    buf_free(&all);
    client_free(&c);
}

Test(imap_fetch, a_large_message_goes_out_in_pieces)
{
    struct client *c = client_new();
    struct buf text = {0}, command = {0};
    buf_adds(&text, "Subject: large\r\n\r\n");
    while (text.n < 900000)
        buf_adds(&text, "0123456789012345678901234567890123456789012345678901234567890123456789\r\n");
    buf_printf(&command, "a APPEND INBOX {%zu+}\r\n%s\r\n", text.n, buf_cstr(&text));
    piece = 16000;
    send_bytes(c, buf_span(&command));
    piece = SIZE_MAX;
    say(c, "s SELECT INBOX");
    const char *got =
        say(c, "f FETCH 1 BODY.PEEK[]\r\nn NOOP"); /* the checks of the output's size are in imap_support.c */
    cr_expect(strstr(got, "\r\nf OK Fetched\r\nn OK Done\r\n"));
    cr_expect_geq(span_search(buf_span(&c->got), buf_span(&text)), 0);
    buf_free(&text);
    buf_free(&command);
    client_free(&c);
}
