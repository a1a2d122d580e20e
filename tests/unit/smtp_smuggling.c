/* HAZARDS 1: every sequence of CR, LF, NUL and dots around the end of data (CVE-2023-51764, -51765, -51766 and their encodings), by DATA, by
 * BDAT and as binary content. Only CRLF.CRLF ends DATA; and what we make of the content, in the store and for the next host, has no place
 * where another server could find an end. */
#include <criterion/criterion.h>

#include "mail/recode.h"
#include "smtp/client_content.h"
#include "smtp/data.h"

#define LONGEST 6
#define END SPAN("\r\n.\r\n")

static const char letters[] = {'\r', '\n', '\0', '.'};

static const struct smtp_data_limits as_is = {.size = 1 << 16, .line = 1000, .header = 1 << 14};
static const struct smtp_data_limits normalised = {.size = 1 << 16, .line = 1000, .header = 1 << 14, .normalise = true};
static const struct smtp_data_limits chunked = {.size = 1 << 16, .line = 1000, .header = 1 << 14, .chunked = true};
static const struct smtp_data_limits chunked_normalised = {
    .size = 1 << 16, .line = 1000, .header = 1 << 14, .chunked = true, .normalise = true};
static const struct smtp_data_limits binary = {.size = 1 << 16, .line = 1000, .header = 1 << 14, .chunked = true, .binary = true};

/* ---- what a reading should be, written a second time and simply ---- */

static size_t reference_end(struct span in)
{
    if (span_istarts(in, SPAN(".\r\n")))
        return 3;
    ptrdiff_t at = span_search(in, END);
    return at < 0 ? in.n : (size_t)at + 5;
}

static unsigned reference_flaws(struct span s, bool normalise)
{
    unsigned flaws = 0;
    for (size_t i = 0; i < s.n; i++) {
        bool cr = s.p[i] == '\r', lf = s.p[i] == '\n';
        if (s.p[i] == '\0')
            flaws |= SMTP_FLAW_NUL;
        if (lf && (i == 0 || s.p[i - 1] != '\r') && !normalise)
            flaws |= SMTP_FLAW_BARE_LF;
        if (cr && (i + 1 == s.n || s.p[i + 1] != '\n') && (!normalise || (i + 1 < s.n && s.p[i + 1] == '\r')))
            flaws |= SMTP_FLAW_BARE_CR;
    }
    return flaws;
}

/* Content that begins with no field is all body: an empty line goes before it. */
static void reference_parted(struct buf *out)
{
    ptrdiff_t colon = span_find(buf_span(out), ':');
    struct span name = span_sub(buf_span(out), 0, colon < 0 ? 0 : (size_t)colon);
    bool field = name.n > 0;
    for (size_t i = 0; i < name.n; i++)
        field = field && name.p[i] > ' ';
    if (out->n == 0 || field || span_starts(buf_span(out), SPAN("\r\n")))
        return;
    buf_adds(out, "\r\n");
    memmove(out->p + 2, out->p, out->n - 2);
    memcpy(out->p, "\r\n", 2);
}

/* Content without flaws: dots that begin a line go, unless chunked; CR and LF alone become CRLF; the last line ends. */
static void reference_content(struct span s, bool dots, struct buf *out)
{
    buf_clear(out);
    bool begins = true;
    for (size_t i = 0; i < s.n; i++) {
        bool pair = s.p[i] == '\r' && i + 1 < s.n && s.p[i + 1] == '\n';
        if (pair || s.p[i] == '\r' || s.p[i] == '\n') {
            buf_adds(out, "\r\n");
            i += pair;
            begins = pair;
            continue;
        }
        if (!(dots && begins && s.p[i] == '.'))
            buf_addc(out, s.p[i]);
        begins = false;
    }
    if (out->n && !span_ends(buf_span(out), SPAN("\r\n")))
        buf_adds(out, "\r\n");
    reference_parted(out);
}

/* ---- what others may take for an end ---- */

static const struct span ends[] = {
    SPAN("\n.\n"),   SPAN("\n.\r"),   SPAN("\r.\r"),       SPAN("\r.\n"),       SPAN("\n.\r\n"),      SPAN("\r.\r\n"),
    SPAN("\r\n.\r"), SPAN("\r\n.\n"), SPAN("\n\0.\r\n"),   SPAN("\n.\0\r\n"),   SPAN("\r\r\n.\r\n"),  SPAN("\r\n.\r\r\n"),
    SPAN("\n\n.\n"), SPAN("\r\r.\r"), SPAN("\n\r.\n\r"),   SPAN("\0\r\n.\r\n"), SPAN("\r\0\n.\r\n"),  SPAN("\r\n.\r\0\n"),
};

static bool lines_only(struct span s)
{
    return reference_flaws(s, false) == 0;
}

/* What goes to the next host: lines, and one end, whoever reads it and however. */
static void write_outbound(struct span content, size_t cut, struct span cause, struct buf *out)
{
    struct client_content c;
    client_content_begin(&c);
    client_content_put(&c, span_sub(content, 0, cut), out);
    client_content_put(&c, span_from(content, cut), out);
    client_content_end(&c, out);
    cr_assert(!(reference_flaws(buf_span(out), false) & (SMTP_FLAW_BARE_CR | SMTP_FLAW_BARE_LF)), "sent on for %.*s: %.*s", SPANV(cause),
              SPANV(buf_span(out)));
    for (size_t i = 0; i < COUNT_OF(ends); i++) {
        ptrdiff_t at = span_search(buf_span(out), ends[i]);
        cr_assert(at < 0 || (size_t)at + 5 >= out->n, "sent on for %.*s: end %zu at %td of %zu", SPANV(cause), i, at, out->n);
    }
}

static void check_outbound(struct span content, struct span cause)
{
    struct buf out = {0}, back = {0};
    struct smtp_data d;
    size_t used;
    write_outbound(content, content.n / 2, cause, &out);
    /* and read again it is what it was */
    smtp_data_begin(&d, &as_is);
    cr_assert(smtp_data_read(&d, buf_span(&out), &used, &back) && used == out.n && d.flaws == 0);
    cr_assert(span_eq(buf_span(&back), content) || (back.n == content.n + 2 && !span_ends(content, SPAN("\n"))));
    buf_free(&out);
    buf_free(&back);
}

/* ---- every sequence ---- */

struct seq {
    struct buf text; /* the whole content and what stands behind it */
    size_t from, to; /* the sequence */
};

static void put_seq(struct seq *q, const char *before, unsigned n, unsigned length, const char *behind)
{
    buf_clear(&q->text);
    buf_adds(&q->text, before);
    q->from = q->text.n;
    for (unsigned i = 0; i < length; i++, n /= COUNT_OF(letters))
        buf_addc(&q->text, letters[n % COUNT_OF(letters)]);
    q->to = q->text.n;
    buf_adds(&q->text, behind);
}

typedef void seq_fn(const struct seq *q, const struct smtp_data_limits *limits);

static void each_seq(const char *before, const char *behind, const struct smtp_data_limits *limits, seq_fn *check)
{
    struct seq q = {0};
    unsigned count = 1;
    for (unsigned length = 0; length <= LONGEST; length++, count *= COUNT_OF(letters))
        for (unsigned n = 0; n < count; n++) {
            put_seq(&q, before, n, length, behind);
            check(&q, limits);
        }
    buf_free(&q.text);
}

/* Reads with a cut before each octet of the sequence, and the one behind it, and none. */
static void check_data(const struct seq *q, const struct smtp_data_limits *limits)
{
    struct span in = buf_span(&q->text);
    size_t end = reference_end(in);
    struct span content = span_sub(in, 0, end < 5 ? 0 : end - 3);
    unsigned flaws = reference_flaws(content, limits->normalise);
    struct buf out = {0}, want = {0};
    if (!flaws)
        reference_content(content, true, &want);
    for (size_t cut = q->from; cut <= q->to + 1; cut++) {
        struct smtp_data d;
        size_t used, more = 0;
        buf_clear(&out);
        smtp_data_begin(&d, limits);
        bool over = smtp_data_read(&d, span_sub(in, 0, cut), &used, &out);
        if (!over)
            over = smtp_data_read(&d, span_from(in, cut), &more, &out);
        cr_assert(over && used + more == end, "%.*s: ended at %zu, not %zu", SPANV(in), used + more, end);
        cr_assert_eq(d.flaws, flaws, "%.*s: flaws %u, not %u", SPANV(in), d.flaws, flaws);
        cr_assert(flaws || span_eq(buf_span(&out), buf_span(&want)), "%.*s: %.*s", SPANV(in), SPANV(buf_span(&out)));
    }
    if (!flaws) {
        cr_assert(lines_only(buf_span(&out)));
        check_outbound(buf_span(&out), in);
    }
    buf_free(&out);
    buf_free(&want);
}

#define BODY "Subject: x\r\n\r\nbody"
#define EVIL "MAIL FROM:<evil@remote.test>\r\nDATA\r\nevil\r\n.\r\n"

/* RFC5321:4.1.1.4 */
Test(smtp_smuggling, by_data)
{
    each_seq(BODY, EVIL, &as_is, check_data);
    each_seq("", EVIL, &as_is, check_data);
}

Test(smtp_smuggling, by_data_where_line_ends_are_normalised)
{
    each_seq(BODY, EVIL, &normalised, check_data);
    each_seq("", EVIL, &normalised, check_data);
}

/* RFC3030:2: no dot and no line ends a chunk, wherever chunks are cut. */
static void check_chunks(const struct seq *q, const struct smtp_data_limits *limits)
{
    struct span in = buf_span(&q->text);
    unsigned flaws = reference_flaws(in, limits->normalise);
    struct buf out = {0}, want = {0};
    if (!flaws)
        reference_content(in, false, &want);
    for (size_t cut = q->from; cut <= q->to; cut++) {
        struct smtp_data d;
        size_t used;
        buf_clear(&out);
        smtp_data_begin(&d, limits);
        cr_assert(!smtp_data_read(&d, span_sub(in, 0, cut), &used, &out) && used == cut);
        cr_assert(!smtp_data_read(&d, span_from(in, cut), &used, &out) && used == in.n - cut);
        smtp_data_end(&d, &out);
        cr_assert_eq(d.flaws, flaws, "%.*s: flaws %u, not %u", SPANV(in), d.flaws, flaws);
        cr_assert(flaws || span_eq(buf_span(&out), buf_span(&want)), "%.*s: %.*s", SPANV(in), SPANV(buf_span(&out)));
    }
    if (!flaws) {
        cr_assert(lines_only(buf_span(&out)));
        check_outbound(buf_span(&out), in);
    }
    buf_free(&out);
    buf_free(&want);
}

Test(smtp_smuggling, by_bdat)
{
    each_seq(BODY, EVIL, &chunked, check_chunks);
    each_seq(BODY, "", &chunked, check_chunks);
    each_seq("", EVIL, &chunked, check_chunks);
}

Test(smtp_smuggling, by_bdat_where_line_ends_are_normalised)
{
    each_seq(BODY, EVIL, &chunked_normalised, check_chunks);
    each_seq(BODY, "", &chunked_normalised, check_chunks);
}

static int read_span(void *ctx, uint64_t at, char *to, size_t n, struct err *err UNUSED)
{
    const struct span *s = ctx;
    memcpy(to, s->p + at, n);
    return 0;
}

/* RFC3030:3: binary content is kept as it is; mailboxes and hosts that know lines alone get it encoded. */
static void check_binary(const struct seq *q, const struct smtp_data_limits *limits)
{
    struct span in = buf_span(&q->text);
    struct smtp_data d;
    struct buf out = {0}, coded = {0};
    struct recode *r = NULL;
    struct err err = {0};
    size_t used;
    smtp_data_begin(&d, limits);
    smtp_data_read(&d, in, &used, &out);
    smtp_data_end(&d, &out);
    cr_assert(d.flaws == 0 && span_eq(buf_span(&out), in));
    struct span kept = buf_span(&out);
    const struct recode_source from = {read_span, &kept, kept.n};
    enum recode_result what = recode_open(&r, &from, false, &err);
    cr_assert(what == RECODE_READY || what == RECODE_AS_IT_IS, "%.*s: %d", SPANV(in), what);
    if (r)
        while (recode_next(r, &coded, &err) > 0) {
        }
    else
        buf_add(&coded, kept);
    recode_free(&r);
    cr_assert(lines_only(buf_span(&coded)), "%.*s: %.*s", SPANV(in), SPANV(buf_span(&coded)));
    check_outbound(buf_span(&coded), in);
    buf_free(&out);
    buf_free(&coded);
}

Test(smtp_smuggling, as_binary_content)
{
    each_seq(BODY, EVIL, &binary, check_binary);
    each_seq(BODY, "", &binary, check_binary);
    each_seq("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nbody", "\r\n--b--\r\n", &binary, check_binary);
}

/* The writer trusts nobody: what should not be in a queue makes no end either. NUL can't be there: by DATA and BDAT it is refused, in
 * binary content encoded. */
static void check_writer(const struct seq *q, const struct smtp_data_limits *limits UNUSED)
{
    struct span in = buf_span(&q->text);
    if (in.n && memchr(in.p, '\0', in.n))
        return;
    for (size_t cut = q->from; cut <= q->to; cut++) {
        struct buf out = {0};
        write_outbound(in, cut, in, &out);
        buf_free(&out);
    }
}

Test(smtp_smuggling, written_for_the_next_host)
{
    each_seq(BODY, EVIL, NULL, check_writer);
    each_seq("", "", NULL, check_writer);
}
