#include <criterion/criterion.h>

#include "smtp/data.h"
#include "smtp/limits.h"

static const struct smtp_data_limits plenty = {.size = 1u << 20, .line = 1000, .header = 65536};

struct result {
    bool over;
    size_t used;
    struct buf out;
    struct smtp_data d;
};

/* Reads `in`, given in two parts cut at `cut`, or in pieces of `step`. */
static void read_cut(struct result *r, struct span in, size_t cut, const struct smtp_data_limits *limits)
{
    buf_clear(&r->out);
    smtp_data_begin(&r->d, limits);
    r->over = false;
    r->used = 0;
    struct span parts[] = {span_sub(in, 0, cut), span_from(in, cut)};
    for (size_t i = 0; i < 2 && !r->over; i++) {
        size_t used = 0;
        if (parts[i].n)
            r->over = smtp_data_read(&r->d, parts[i], &used, &r->out);
        r->used += used;
    }
}

static void read_bytes(struct result *r, struct span in, const struct smtp_data_limits *limits)
{
    buf_clear(&r->out);
    smtp_data_begin(&r->d, limits);
    r->over = false;
    r->used = 0;
    while (r->used < in.n && !r->over) {
        size_t used;
        r->over = smtp_data_read(&r->d, span_sub(in, r->used, 1), &used, &r->out);
        r->used += used;
    }
}

static const struct {
    const char *in, *out;
    unsigned header_bytes;
} good[] = {
    {".\r\n", "", 0},
    {"\r\n.\r\n", "\r\n", 0},
    {"a: b\r\n\r\nbody\r\n.\r\n", "a: b\r\n\r\nbody\r\n", 6},
    {"a: b\r\n.\r\n", "a: b\r\n", 6},
    {"a: b\r\n\r\n..\r\n.\r\n", "a: b\r\n\r\n.\r\n", 6}, /* RFC5321:4.5.2 */
    {"..a: b\r\n...c: d\r\n\r\n.x\r\n...\r\n.\r\n", ".a: b\r\n..c: d\r\n\r\nx\r\n..\r\n", 15},
    {"\r\n\r\n\r\n.\r\n", "\r\n\r\n\r\n", 0},
    {"a: b\r\n c\r\n\td\r\n\r\ne\r\n.\r\n", "a: b\r\n c\r\n\td\r\n\r\ne\r\n", 14},
    /* without a header section: nothing of it may be read as part of the fields that go before */
    {"no header\r\na: b\r\n.\r\n", "\r\nno header\r\na: b\r\n", 0},
    {" folded: x\r\n\r\n.\r\n", "\r\n folded: x\r\n\r\n", 0},
    {"two words: x\r\n.\r\n", "\r\ntwo words: x\r\n", 0},
    {": nameless\r\n.\r\n", "\r\n: nameless\r\n", 0},
    {"a : b\r\n.\r\n", "a : b\r\n", 7},
    {"From x Mon\r\na: b\r\n.\r\n", "From x Mon\r\na: b\r\n", 18},
};

Test(smtp, data_content_and_header)
{
    struct result r = {0};
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        struct buf in = {0};
        buf_adds(&in, good[i].in);
        size_t n = in.n;
        buf_adds(&in, "QUIT\r\n");
        for (size_t cut = 0; cut <= n + 1; cut++) {
            if (cut <= n)
                read_cut(&r, buf_span(&in), cut, &plenty);
            else
                read_bytes(&r, buf_span(&in), &plenty);
            cr_assert(r.over && r.used == n && r.d.flaws == 0, "case %zu cut %zu", i, cut);
            cr_assert(span_eqs(buf_span(&r.out), good[i].out), "case %zu cut %zu", i, cut);
            cr_assert_eq(r.d.header_bytes, good[i].header_bytes, "case %zu cut %zu: %u", i, cut, r.d.header_bytes);
            bool parted = !span_starts(span_of(good[i].in), SPAN("\r\n")) && span_starts(buf_span(&r.out), SPAN("\r\n"));
            cr_assert(r.d.given == r.out.n && r.d.size + (parted ? 2 : 0) == r.out.n);
        }
        buf_free(&in);
    }
    buf_free(&r.out);
}

/* HAZARDS 1: whatever stands where the end of data could be, there is one reading: CRLF "." CRLF. Every combination of
 * line-end-like pieces around a dot, cut at every boundary, byte by byte and whole. The reference below is the plain
 * definition. */
static const char *const pieces[] = {"", "\r", "\n", "\r\n", "\r\r\n"};

/* Where the first CRLF.CRLF ends; the CRLF of the DATA command counts as standing before. */
static size_t reference_end(struct span s)
{
    char *with = malloc(s.n + 2);
    memcpy(with, "\r\n", 2);
    memcpy(with + 2, s.p, s.n);
    ptrdiff_t at = span_search(span_make(with, s.n + 2), SPAN("\r\n.\r\n"));
    free(with);
    return at < 0 ? 0 : (size_t)at + 3;
}

static bool reference_flaw(struct span s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '\n' && (i == 0 || s.p[i - 1] != '\r'))
            return true;
        if (s.p[i] == '\r' && (i + 1 == s.n || s.p[i + 1] != '\n'))
            return true;
    }
    return false;
}

Test(smtp, data_smuggling_table)
{
    struct result r = {0};
    unsigned tried = 0;
    for (int n = 0; n < 5 * 5 * 5 * 5 * 5; n++) {
        struct buf in = {0};
        buf_adds(&in, "Subject: x\r\n\r\nbody");
        buf_adds(&in, pieces[n % 5]);
        buf_adds(&in, pieces[n / 5 % 5]);
        buf_adds(&in, ".");
        buf_adds(&in, pieces[n / 25 % 5]);
        buf_adds(&in, pieces[n / 125 % 5]);
        buf_adds(&in, n / 625 ? "." : "");
        buf_adds(&in, pieces[n / 625]);
        buf_adds(&in, "MAIL FROM:<evil@example.net>\r\n.\r\n");
        size_t end = reference_end(buf_span(&in));
        bool flaw = reference_flaw(span_sub(buf_span(&in), 0, end));
        for (size_t cut = 17; cut <= in.n; cut++) {
            if (cut < in.n)
                read_cut(&r, buf_span(&in), cut, &plenty);
            else
                read_bytes(&r, buf_span(&in), &plenty);
            cr_assert(r.over && r.used == end, "%d at %zu: used %zu of %zu", n, cut, r.used, end);
            cr_assert_eq((r.d.flaws & (SMTP_FLAW_BARE_CR | SMTP_FLAW_BARE_LF)) != 0, flaw, "%d at %zu", n, cut);
            tried++;
        }
        buf_free(&in);
    }
    cr_assert_gt(tried, 3125 * 20);
    buf_free(&r.out);
}

/* HAZARDS 2 */
Test(smtp, data_nul_anywhere_is_refused)
{
    const char text[] = "Subject: x\r\n\r\nbody\r\n..more\r\n.\r\n";
    struct result r = {0};
    for (size_t at = 0; at < sizeof text - 1; at++) {
        char in[sizeof text + 16];
        memcpy(in, text, sizeof text);
        if (in[at] == '\r' || in[at] == '\n' || in[at] == '.')
            continue;
        in[at] = '\0';
        read_bytes(&r, span_make(in, sizeof text - 1), &plenty);
        cr_assert(r.over && r.used == sizeof text - 1 && r.d.flaws == SMTP_FLAW_NUL, "at %zu", at);
        read_cut(&r, span_make(in, sizeof text - 1), 0, &plenty);
        cr_assert(r.over && r.d.flaws == SMTP_FLAW_NUL, "at %zu", at);
    }
    buf_free(&r.out);
}

static void expect_flaw(struct span in, const struct smtp_data_limits *l, unsigned flaw)
{
    struct result r = {0};
    read_bytes(&r, in, l);
    cr_assert(r.over && r.d.flaws == flaw, "%.*s: %u", SPANV(in), r.d.flaws);
    read_cut(&r, in, 0, l);
    cr_assert(r.over && r.d.flaws == flaw, "%.*s: %u", SPANV(in), r.d.flaws);
    buf_free(&r.out);
}

/* RFC5321:4.5.3.1.6: a thousand octets with CRLF, the dot that is doubled not counted. */
Test(smtp, text_lines_that_everybody_takes)
{
    for (int over = 0; over < 2; over++)
        for (int dot = 0; dot < 2; dot++) {
            struct buf in = {0};
            buf_adds(&in, dot ? "a: b\r\n\r\n.." : "a: b\r\n\r\nx");
            for (int i = 0; i < SMTP_TEXT_LINE - 3 + over; i++)
                buf_addc(&in, 'x');
            buf_adds(&in, "\r\n.\r\n");
            expect_flaw(buf_span(&in), &plenty, over ? SMTP_FLAW_LINE : 0);
            buf_free(&in);
        }
}

Test(smtp, data_limits)
{
    struct smtp_data_limits l = {.size = 20, .line = 10, .header = 12};
    expect_flaw(SPAN("12345678\r\n.\r\n"), &l, 0);
    expect_flaw(SPAN("123456789\r\n.\r\n"), &l, SMTP_FLAW_LINE);
    expect_flaw(SPAN("\r\n12345678\r\n123456\r\n.\r\n"), &l, 0);
    expect_flaw(SPAN("\r\n12345678\r\n1234567\r\n.\r\n"), &l, SMTP_FLAW_SIZE);
    expect_flaw(SPAN("a: bcd\r\nef\r\n\r\n.\r\n"), &l, 0);
    expect_flaw(SPAN("a: bcd\r\nefg\r\n\r\n.\r\n"), &l, SMTP_FLAW_HEADER);
    /* the transparency dot does not count */
    expect_flaw(SPAN("\r\n..2345678\r\n123456\r\n.\r\n"), &(struct smtp_data_limits){.size = 19, .line = 11, .header = 12},
                SMTP_FLAW_SIZE);
    expect_flaw(SPAN("\r\n..2345678\r\n123456\r\n.\r\n"), &(struct smtp_data_limits){.size = 20, .line = 11, .header = 12}, 0);
}

Test(smtp, data_facts)
{
    const struct span in =
        SPAN("Received: a\r\nreceived : b\r\nX-Received: c\r\nDate: d\r\nMessage-Id:\r\n <one@two>  \r\n"
             "Message-ID: <second@one>\r\nFrom: \xc3\xa9\r\nReceived-SPF: x\r\n\r\nReceived: body\r\nMessage-ID: "
             "<b>\r\n.\r\n");
    struct result r = {0};
    for (int slow = 0; slow < 2; slow++) {
        if (slow)
            read_bytes(&r, in, &plenty);
        else
            read_cut(&r, in, 0, &plenty);
        cr_assert(r.over && r.d.flaws == 0);
        cr_assert_eq(r.d.received, 2);
        cr_assert(r.d.has_date && r.d.has_from && r.d.has_message_id && r.d.eight_bit);
        cr_assert(span_eqs(smtp_data_message_id(&r.d), "<one@two>"), "%.*s", SPANV(smtp_data_message_id(&r.d)));
        cr_assert(r.out.n == in.n - 3);
    }
    read_bytes(&r, SPAN("Subject: x\r\n\r\nDate: y\r\nFrom: x\r\n.\r\n"), &plenty);
    cr_assert(!r.d.has_date && !r.d.has_from && !r.d.has_message_id && !r.d.eight_bit &&
              smtp_data_message_id(&r.d).n == 0);
    buf_free(&r.out);
}

/* Fields that are looked out for: whole and unfolded, in whatever pieces they come, and none that is not part of the message. */
Test(smtp, data_watches_fields)
{
    static const struct smtp_watched watched[] = {{{"subject", 7}, {"*free  money*", 13}},
                                                  {{"Authentication-Results", 22}, {"*pass", 5}},
                                                  {{"bcc", 3}, {"*", 1}},
                                                  {{"X-A", 3}, {"a", 1}}};
    static const struct {
        const char *in;
        uint64_t found;
        const char *out;
    } cases[] = {
        {"Subject: no\r\n\r\nSubject: free  money\r\n.\r\n", 0, NULL},
        {"To: x\r\nSUBJECT: so Free\r\n\t money now\r\n\r\n.\r\n", 1, NULL},
        {"Subject: free  money\r\n.\r\n", 1, NULL},
        {"Authentication-Results: us.test; x=pass\r\nX-A: b\r\nX-A:\r\n a \r\n\r\n.\r\n", 8, "X-A: b\r\nX-A:\r\n a \r\n\r\n"},
        {"Authentication-Results: them.test; x=pass\r\nBcc: x@y\r\nX-Ab: a\r\n\r\n.\r\n", 6, "Authentication-Results: them.test; x=pass\r\nX-Ab: a\r\n\r\n"},
    };
    struct smtp_data_limits limits = plenty;
    struct result r = {0};
    limits.watched = watched;
    limits.watched_count = COUNT_OF(watched);
    limits.own = SPAN("us.test");
    limits.strip = true;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        for (int bytewise = 0; bytewise < 2; bytewise++) {
            if (bytewise)
                read_bytes(&r, span_of(cases[i].in), &limits);
            else
                read_cut(&r, span_of(cases[i].in), 0, &limits);
            cr_expect(r.over);
            cr_expect_eq(r.d.watch.found, cases[i].found, "%zu: %llx", i, (unsigned long long)r.d.watch.found);
            cr_expect(!cases[i].out || strcmp(buf_cstr(&r.out), cases[i].out) == 0, "%zu: %s", i, buf_cstr(&r.out));
        }
    }
    struct smtp_watch w;
    smtp_watch_begin(&w, watched, COUNT_OF(watched));
    smtp_watch_section(&w, SPAN("Authentication-Results: us.test;\r\n\tiprev=pass\r\nReceived: x\r\n\tpass\r\n"));
    cr_expect_eq(w.found, 2u, "what is put before it is ours");
    buf_free(&r.out);
}

/* RFC6409:8, RFC5322:3.6.3: Bcc leaves, with its continuation lines, wherever it is cut; in the body it is text. */
Test(smtp, data_strips_bcc)
{
    const struct span in = SPAN("To: a\r\nBcc: secret\r\n and more\r\n\tand more\r\nSubject: x\r\nBCC :\r\nBccx: "
                                "stays\r\nResent-Bcc: y\r\n\r\nBcc: body\r\n.\r\n");
    const char *out = "To: a\r\nSubject: x\r\nBccx: stays\r\n\r\nBcc: body\r\n";
    struct smtp_data_limits l = plenty;
    l.strip = true;
    struct result r = {0};
    for (size_t cut = 0; cut <= in.n; cut++) {
        read_cut(&r, in, cut, &l);
        cr_assert(r.over && span_eqs(buf_span(&r.out), out), "cut %zu: %.*s", cut, SPANV(buf_span(&r.out)));
        cr_assert_eq(r.d.header_bytes, strlen("To: a\r\nSubject: x\r\nBccx: stays\r\n"));
    }
    read_bytes(&r, in, &l);
    cr_assert(span_eqs(buf_span(&r.out), out));
    read_bytes(&r, SPAN("Bcc: all\r\n.\r\n"), &l);
    cr_assert(r.over && r.out.n == 0 && r.d.header_bytes == 0);
    /* RFC5321:4.4: who submits writes no Return-Path; RFC5322:4.5.8: as many blanks as somebody likes */
    read_bytes(&r, SPAN("Return-Path: <a@b>\r\nreturn-path :\r\n <c@d>\r\nReturn-Paths: x\r\n\r\n.\r\n"), &l);
    cr_assert(span_eqs(buf_span(&r.out), "Return-Paths: x\r\n\r\n"));
    for (int blanks = 0; blanks < 130; blanks++) {
        struct buf odd = {0};
        buf_printf(&odd, "Bcc%*s: x@y\r\n z@y\r\nBcc%*s.: x\r\n\r\n.\r\n", blanks, "", blanks, "");
        read_bytes(&r, buf_span(&odd), &l);
        cr_assert(r.over && span_search(buf_span(&r.out), SPAN("@y")) < 0, "%d: %s", blanks, buf_cstr(&r.out));
        buf_free(&odd);
    }
    l.strip = false;
    read_bytes(&r, SPAN("Return-Path: <a@b>\r\nBcc: x\r\n.\r\n"), &l);
    cr_assert(span_eqs(buf_span(&r.out), "Return-Path: <a@b>\r\nBcc: x\r\n"), "what others relay through us is not looked at");
    buf_free(&r.out);
}

/* RFC6409:8.2, RFC6409:8.3, RFC5322:3.6.4: a Date or Message-ID that is none is as good as missing, in what is submitted. */
Test(smtp, data_without_a_date_or_id)
{
    static const struct {
        const char *in, *out;
        bool date;
        const char *id;
    } cases[] = {
        {"Date: Mon, 23 Nov 2026 10:00:00 +0100\r\nMessage-ID: <1@x>\r\n", "Date: Mon, 23 Nov 2026 10:00:00 +0100\r\nMessage-ID: <1@x>\r\n", true, "<1@x>"},
        {"date:\r\n 23 Nov 26 10:00 EST (so)\r\nMessage-ID:\r\n (c) <1>\r\n", "date:\r\n 23 Nov 26 10:00 EST (so)\r\nMessage-ID:\r\n (c) <1>\r\n", true, "(c) <1>"},
        {"Date:\r\nMessage-ID:\r\nX: y\r\n", "X: y\r\n", false, ""},
        {"X: y\r\nDate: yesterday,\r\n  I think\r\nMessage-ID: <a b>\r\n c\r\n", "X: y\r\n", false, ""},
        {"Message-ID: 1@x\r\nDate: 2026-11-23\r\nTo: z\r\nMessage-ID: <>\r\n", "To: z\r\n", false, ""},
        {"Message-ID: none\r\nMessage-ID: <2@x>\r\nDate: x\r\nDate: 1 Jan 2026 00:00 +0000\r\n", "Message-ID: <2@x>\r\nDate: 1 Jan 2026 00:00 +0000\r\n", true, "<2@x>"},
    };
    struct result r = {0};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        for (int empty_line = 0; empty_line < 2; empty_line++) {
            struct buf in = {0}, out = {0};
            struct smtp_data_limits l = plenty;
            buf_printf(&in, "%s%s.\r\n", cases[i].in, empty_line ? "\r\nDate: body\r\n" : "");
            buf_printf(&out, "%s%s", cases[i].out, empty_line ? "\r\nDate: body\r\n" : "");
            l.strip = true;
            for (size_t cut = 0; cut <= in.n; cut++) {
                read_cut(&r, buf_span(&in), cut, &l);
                cr_assert(r.over && span_eq(buf_span(&r.out), buf_span(&out)), "%zu cut %zu: %s", i, cut, buf_cstr(&r.out));
                cr_assert(r.d.has_date == cases[i].date && r.d.has_message_id == (cases[i].id[0] != 0), "%zu cut %zu", i, cut);
                cr_assert(span_eqs(smtp_data_message_id(&r.d), cases[i].id), "%zu: %.*s", i, SPANV(smtp_data_message_id(&r.d)));
                cr_assert_eq(r.d.header_bytes, strlen(cases[i].out));
            }
            l.strip = false;
            read_bytes(&r, buf_span(&in), &l);
            cr_assert(r.d.has_date && r.out.n == in.n - 3, "others' are not looked at");
            buf_free(&in);
            buf_free(&out);
        }
    }
    buf_free(&r.out);
}

/* A field name longer than what is looked at, and lines that are no fields. */
Test(smtp, data_odd_headers)
{
    struct buf in = {0};
    for (int i = 0; i < 200; i++)
        buf_addc(&in, 'x');
    buf_adds(&in, ": y\r\nno field at all\r\n: nameless\r\n\r\n.\r\n");
    struct result r = {0};
    read_bytes(&r, buf_span(&in), &plenty);
    cr_assert(r.over && r.d.flaws == 0 && r.out.n == in.n - 3);
    cr_assert(span_starts(buf_span(&in), buf_span(&r.out)));
    cr_assert_eq(r.d.header_bytes, in.n - 5);
    buf_free(&in);
    buf_free(&r.out);
}

/* HAZARDS 1: where CR or LF alone is normalised, it becomes a line end of content and nothing else. */
Test(smtp, lone_line_ends_can_be_normalised)
{
    static const struct {
        const char *in, *want;
        unsigned flaws;
    } cases[] = {
        {"A: b\nC: d\r\n\r\nx\ny\r\n.\r\n", "A: b\r\nC: d\r\n\r\nx\r\ny\r\n", 0},
        {"A: b\n\nbody\r\n.\r\n", "A: b\r\n\r\nbody\r\n", 0},
        {"\r\na\rb\r\n.\r\n", "\r\na\r\nb\r\n", 0},
        {"\r\na\n.\r\nMAIL FROM:<x>\r\n.\r\n", "\r\na\r\n.\r\nMAIL FROM:<x>\r\n", 0},
        {"\r\na\n.\nMAIL FROM:<x>\r\n.\r\n", "\r\na\r\n.\r\nMAIL FROM:<x>\r\n", 0},
        {"\r\na\r\n.\nMAIL FROM:<x>\r\n.\r\n", "\r\na\r\n\r\nMAIL FROM:<x>\r\n", 0},
        {"\r\na\r.\r\nb\r\n.\r\n", "\r\na\r\n.\r\nb\r\n", 0},
        {"\r\na\r\n.\rb\r\n.\r\n", "\r\na\r\n\r\nb\r\n", 0},
        {"\r\na\n..b\r\n..c\r\n.\r\n", "\r\na\r\n..b\r\n.c\r\n", 0},
        {"\r\na\r\r\n.\r\n", "\r\n", SMTP_FLAW_BARE_CR},
    };
    const struct smtp_data_limits l = {.size = 1 << 16, .line = 1000, .header = 1 << 14, .normalise = true};
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        for (size_t piece = 1; piece <= strlen(cases[i].in); piece++) {
            struct smtp_data d;
            struct buf out = {0};
            size_t used, at = 0;
            bool over = false;
            smtp_data_begin(&d, &l);
            for (; at < strlen(cases[i].in) && !over; at += used)
                over = smtp_data_read(&d, span_sub(span_of(cases[i].in), at, piece), &used, &out);
            cr_expect(over && at == strlen(cases[i].in), "case %zu in pieces of %zu", i, piece);
            cr_expect_eq(d.flaws, cases[i].flaws, "case %zu: flaws %u", i, d.flaws);
            if (!d.flaws)
                cr_expect(span_eqs(buf_span(&out), cases[i].want), "case %zu in pieces of %zu: %.*s", i, piece, SPANV(buf_span(&out)));
            buf_free(&out);
        }
}

/* RFC3030:3: binary content that has no header section: its first line is held to the rules of lines, wherever the input is cut. */
Test(smtp_data, binary_content_without_a_header)
{
    static const struct {
        struct span in, out;
        bool flawed;
    } cases[] = {
        {SPAN("no field\r\na\0\r\rb\n"), SPAN("\r\nno field\r\na\0\r\rb\n"), false},
        {SPAN(":\r\n\0"), SPAN("\r\n:\r\n\0"), false},
        {SPAN(":\0\r\nx"), SPAN(""), true},
        {SPAN(":a\nb\r\nx"), SPAN(""), true},
    };
    struct smtp_data_limits limits = plenty;
    struct result r = {0};
    limits.chunked = limits.binary = true;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        for (size_t cut = 0; cut <= cases[i].in.n; cut++) {
            read_cut(&r, cases[i].in, cut, &limits);
            smtp_data_end(&r.d, &r.out);
            cr_assert_eq(r.d.flaws != 0, cases[i].flawed, "%zu cut at %zu", i, cut);
            cr_assert(cases[i].flawed || span_eq(buf_span(&r.out), cases[i].out), "%zu cut at %zu", i, cut);
        }
    buf_free(&r.out);
}
