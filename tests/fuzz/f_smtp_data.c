/* The reader of DATA and of chunks: however the input is cut, it finds the same end, the same flaws and the same content, and never
 * an end that is not CRLF.CRLF (HAZARDS 1). The first octet chooses what is asked of it, the second how the input is cut. */
#include <stdlib.h>

#include "smtp/data.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct result {
    struct smtp_data d;
    struct buf out;
    size_t used;
    bool over;
};

enum { STRIP = 1, CHUNKED = 2, BINARY = 4, NORMALISE = 8, OWN = 16 };

static void read_in(struct result *r, struct span in, size_t piece, unsigned mode)
{
    const struct smtp_data_limits limits = {.size = 1u << 16,
                                            .line = 1000,
                                            .header = 1u << 12,
                                            .strip = mode & STRIP,
                                            .chunked = mode & CHUNKED,
                                            .binary = (mode & CHUNKED) && (mode & BINARY), /* RFC3030:3: BDAT only */
                                            .normalise = mode & NORMALISE,
                                            .own = mode & OWN ? SPAN("mx.example.test") : SPAN("")};
    *r = (struct result){0};
    smtp_data_begin(&r->d, &limits);
    while (r->used < in.n && !r->over) {
        size_t used;
        r->over = smtp_data_read(&r->d, span_sub(in, r->used, piece), &used, &r->out);
        r->used += used;
    }
    if (mode & CHUNKED)
        smtp_data_end(&r->d, &r->out);
}

/* What goes on from here has lines that end with CRLF, and nothing that another server could take for a line end. */
static void check_content(const struct result *r)
{
    struct span s = buf_span(&r->out);
    const struct smtp_data_limits *l = &r->d.limits;
    if (r->d.flaws || l->binary)
        return;
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] == '\0' || (s.p[i] == '\n' && (i == 0 || s.p[i - 1] != '\r')) || (s.p[i] == '\r' && (i + 1 == s.n || s.p[i + 1] != '\n')))
            abort();
    if ((l->chunked || r->over) && s.n && !span_ends(s, SPAN("\r\n")))
        abort();
    if (r->d.given != s.n || r->d.header_bytes > s.n)
        abort();
}

static size_t end_of(struct span in)
{
    if (span_starts(in, SPAN(".\r\n")))
        return 3;
    ptrdiff_t at = span_search(in, SPAN("\r\n.\r\n"));
    return at < 0 ? 0 : (size_t)at + 5;
}

static void same(const struct result *a, const struct result *b)
{
    if (a->over != b->over || a->used != b->used || !a->d.flaws != !b->d.flaws)
        abort();
    /* where binary content has a flaw in its first line, what is looked for in the rest depends on how much of that line was known */
    if (!a->d.limits.binary && (a->d.flaws != b->d.flaws || a->d.doubtful_end != b->d.doubtful_end))
        abort();
    if (a->d.flaws || !(a->over || a->d.limits.chunked))
        return;
    if (!span_eq(buf_span(&a->out), buf_span(&b->out)) || a->d.header_bytes != b->d.header_bytes ||
        a->d.received != b->d.received || !span_eq(smtp_data_message_id(&a->d), smtp_data_message_id(&b->d)))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3)
        return 0;
    struct span in = span_make(data + 2, size - 2);
    struct result whole, cut;
    unsigned mode = data[0];
    read_in(&whole, in, in.n, mode);
    size_t end = mode & CHUNKED ? 0 : end_of(in);
    if (whole.over != (end > 0) || whole.used != (end ? end : in.n))
        abort();
    if ((mode & NORMALISE) && ((whole.d.flaws & SMTP_FLAW_BARE_LF) || ((whole.d.flaws & SMTP_FLAW_BARE_CR) && span_search(in, SPAN("\r\r")) < 0)))
        abort(); /* CR CR is refused all the same */
    check_content(&whole);
    size_t pieces[] = {1, 1u + data[1]};
    for (size_t i = 0; i < 2; i++) {
        read_in(&cut, in, pieces[i], mode);
        same(&whole, &cut);
        buf_free(&cut.out);
    }
    buf_free(&whole.out);
    return 0;
}
