/* SEARCH: each key of RFC 3501 §6.4.4 against a few messages; text in other charsets and encodings; bad ones. */
#include <criterion/criterion.h>

#include "imap_support.h"

TestSuite(imap_search, .init = imap_set_up, .fini = imap_tear_down);

#define ONE                                                                                                            \
    "Date: Tue, 03 Nov 2026 23:30:00 -0500\r\nFrom: Ann <ann@one.test>\r\nTo: bob@two.test\r\nCc: "                    \
    "carl@three.test\r\nBcc: dora@four.test\r\n"                                                                       \
    "Subject: Hello World\r\nX-Odd: \r\n\r\nThe quick brown fox\r\n"
#define TWO                                                                                                            \
    "Date: Wed, 04 Nov 2026 10:00:00 +0000\r\nFrom: =?utf-8?Q?J=C3=B6rg?= <j@one.test>\r\nSubject: "                   \
    "=?iso-8859-1?Q?Gr=FC=DFe?=\r\n"                                                                                   \
    "Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nsch=F6ne "     \
    "Gr=FC=\r\n=DFe aus K=F6ln\r\n"
#define THREE                                                                                                          \
    "Subject: mixed\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html; "              \
    "charset=utf-8\r\n"                                                                                                \
    "Content-Transfer-Encoding: base64\r\n\r\nPGI+w4RwZmVsPC9iPiB1bmQgQmlybmVu\r\n--b\r\nContent-Type: image/png; "    \
    "name=fox.png\r\n"                                                                                                 \
    "Content-Transfer-Encoding: base64\r\n\r\nZmlzaA==\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: "        \
    "inner\r\n\r\ndeep water\r\n--b--\r\n"

static void put_dated(struct client *c, const char *flags, const char *date, const char *text)
{
    struct buf line = {0};
    buf_printf(&line, "a APPEND INBOX (%s) \"%s\" {%zu+}\r\n%s", flags, date, strlen(text), text);
    EXPECT(c, buf_cstr(&line), "~~a OK ~\r\n");
    buf_free(&line);
}

static const struct {
    const char *keys, *found; /* NULL: BAD */
} table[] = {
    {"ALL", "1 2 3"},
    {"1:2", "1 2"},
    {"*", "3"},
    {"UID 2:3", "2 3"},
    {"UID 99", ""},
    {"NOT 2", "1 3"},
    {"SEEN", "1"},
    {"UNSEEN", "2 3"},
    {"ANSWERED", "1"},
    {"UNANSWERED", "2 3"},
    {"DELETED", "2"},
    {"UNDELETED", "1 3"},
    {"FLAGGED", "2"},
    {"UNFLAGGED", "1 3"},
    {"DRAFT", "3"},
    {"UNDRAFT", "1 2"},
    {"KEYWORD kw", "3"},
    {"KEYWORD KW", "3"},
    {"UNKEYWORD kw", "1 2"},
    {"KEYWORD none", ""},
    {"UNKEYWORD none", "1 2 3"},
    {"NEW", "2 3"},
    {"OLD", ""},
    {"RECENT", "1 2 3"},
    {"BEFORE 4-Nov-2026", "1"},
    {"ON 4-Nov-2026", "2"},
    {"SINCE 4-Nov-2026", "2 3"},
    {"SINCE \"4-Nov-2026\"", "2 3"},
    {"SENTBEFORE 4-Nov-2026", "1"},
    {"SENTON 3-Nov-2026", "1"},
    {"SENTSINCE 4-Nov-2026", "2"}, /* the date as written, no zone */
    {"LARGER 300", "3"},
    {"SMALLER 300", "1 2"},
    {"FROM ann", "1"},
    {"FROM ONE.TEST", "1 2"},
    {"TO bob", "1"},
    {"CC carl", "1"},
    {"BCC dora", "1"},
    {"SUBJECT \"lo wo\"", "1"},
    {"HEADER X-Odd \"\"", "1"},
    {"HEADER Subject mix", "3"},
    {"HEADER none \"\"", ""},
    {"SUBJECT {5+}\r\nHELLO", "1"},
    {"BODY fox", "1 3"},
    {"BODY hello", ""},
    {"TEXT hello", "1"},
    {"TEXT \"Subject: hello\"", "1"},
    {"BODY deep", "3"},
    {"BODY inner", "3"},
    {"BODY birnen", "3"},
    {"BODY fish", ""},
    {"CHARSET UTF-8 SUBJECT {7+}\r\ngr\u00fc\u00dfe", "2"},
    {"CHARSET UTF-8 FROM {5+}\r\nJ\u00d6RG", "2"},
    {"CHARSET UTF-8 BODY {7+}\r\nGR\u00dc\u00dfE", "2"},
    {"CHARSET utf-8 BODY {7+}\r\n\u00e4pfel ", ""},
    {"CHARSET UTF-8 BODY {6+}\r\n\u00c4pfel", "3"},
    {"CHARSET ISO-8859-1 BODY {4+}\r\nK\xf6ln", "2"},
    {"CHARSET US-ASCII BODY aus", "2"},
    {"OR SEEN DRAFT", "1 3"},
    {"OR (SEEN ANSWERED) (NOT (UNDRAFT))", "1 3"},
    {"NOT NOT SEEN", "1"},
    {"(ALL)", "1 2 3"},
    {"SEEN UNSEEN", ""},
    {"TEXT fox SEEN", "1"},
    {"NOT (BODY fox SEEN)", "2 3"},
    {"", NULL},
    {"()", NULL},
    {"(", NULL},
    {"ALL)", NULL},
    {"BOGUS", NULL},
    {"OR SEEN", NULL},
    {"NOT", NULL},
    {"LARGER x", NULL},
    {"ON 31-Feb-2026", NULL},
    {"FROM", NULL},
    {"KEYWORD \"a b\"", NULL},
    {"ALL  ALL", NULL},
    {"4", NULL},
    {"HEADER Subject", NULL},
    {"CHARSET", NULL},
    {"CHARSET UTF-8", NULL},
    {"UID a", NULL},
};

Test(imap_search, keys)
{
    struct client *c = client_new();
    put_dated(c, "\\Seen \\Answered", "03-Nov-2026 12:00:00 +0000", ONE);
    put_dated(c, "\\Flagged \\Deleted", "04-Nov-2026 12:00:00 +0000", TWO);
    put_dated(c, "\\Draft kw", "05-Nov-2026 12:00:00 +0000", THREE);
    EXPECT(c, "s SELECT INBOX", "~~s OK ~\r\n");
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        struct buf line = {0}, want = {0};
        buf_printf(&line, "x SEARCH %s", table[i].keys);
        if (table[i].found)
            buf_printf(&want, "* SEARCH%s%s\r\nx OK Searched\r\n", *table[i].found ? " " : "", table[i].found);
        else
            buf_adds(&want, "x BAD ~\r\n");
        const char *got = say(c, buf_cstr(&line));
        cr_expect(fits(buf_cstr(&want), got), "%s: %s", table[i].keys, got);
        say(c, "n NOOP");
        buf_free(&line);
        buf_free(&want);
    }
    EXPECT(c, "y SEARCH CHARSET X-NONE ALL", "y NO [BADCHARSET ~] ~\r\n"); /* RFC3501:6.4.4 */
    EXPECT(c, "z UID SEARCH 2", "* SEARCH 2\r\nz OK Searched\r\n");
    client_free(&c);
}

Test(imap_search, limits) /* HAZARDS 23 */
{
    struct client *c = client_new();
    put_dated(c, "", "03-Nov-2026 12:00:00 +0000", ONE);
    say(c, "s SELECT INBOX");
    struct buf line = {0};
    buf_adds(&line, "x SEARCH ");
    for (int i = 0; i < 30000; i++)
        buf_addc(&line, '(');
    EXPECT(c, buf_cstr(&line), "x BAD ~\r\n");
    buf_clear(&line);
    buf_adds(&line, "x SEARCH");
    for (int i = 0; i < 5000; i++)
        buf_adds(&line, " NOT ALL");
    EXPECT(c, buf_cstr(&line), "x BAD ~\r\n");
    buf_clear(&line);
    buf_adds(&line, "x SEARCH ");
    for (int i = 0; i < 10000; i++)
        buf_adds(&line, "OR ALL ALL");
    EXPECT(c, buf_cstr(&line), "x BAD Command too long\r\n");
    EXPECT(c, "y NOOP", "y OK ~\r\n");
    buf_free(&line);
    client_free(&c);
}

/* A text that lies across two pieces of what is read at a time is found; one that isn't there isn't. */
Test(imap_search, text_across_pieces)
{
    struct client *c = client_new();
    static const char *const encodings[] = {"7bit", "quoted-printable", "base64"};
    for (size_t i = 0; i < COUNT_OF(encodings); i++) {
        struct buf text = {0}, line = {0};
        buf_printf(&text, "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: %s\r\n\r\n",
                   encodings[i]);
        size_t start = text.n;
        while (text.n < start + 32768 - 5)
            buf_adds(&text, i == 2 ? "YWFh" : "a");
        buf_adds(&text, i == 2 ? "bmVlZGxl" : "needle"); /* "needle" */
        while (text.n < 100000)
            buf_adds(&text, i == 2 ? "YmJi" : "b");
        buf_printf(&line, "a APPEND INBOX {%zu+}\r\n%s", text.n, buf_cstr(&text));
        EXPECT(c, buf_cstr(&line), "~~a OK ~\r\n");
        buf_free(&text);
        buf_free(&line);
    }
    say(c, "s SELECT INBOX");
    EXPECT(c, "1 SEARCH BODY aneedleb", "* SEARCH 1 2 3\r\n1 OK ~\r\n");
    EXPECT(c, "2 SEARCH BODY needles", "* SEARCH\r\n2 OK ~\r\n");
    client_free(&c);
}
