/* The reader of DATA: however the input is cut, it finds the same end, the same flaws and the same content, and never
 * an end that is not CRLF.CRLF (HAZARDS 1). */
#include <stdlib.h>

#include "smtp/data.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct result {
    struct smtp_data d;
    struct buf out;
    size_t used;
    bool over;
};

static void read_in(struct result *r, struct span in, size_t piece, bool strip)
{
    const struct smtp_data_limits limits = {.size = 1u << 16, .line = 1000, .header = 1u << 12, .strip_bcc = strip};
    *r = (struct result){0};
    smtp_data_begin(&r->d, &limits);
    while (r->used < in.n && !r->over) {
        size_t used;
        r->over = smtp_data_read(&r->d, span_sub(in, r->used, piece), &used, &r->out);
        r->used += used;
    }
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
    if (a->over != b->over || a->used != b->used || a->d.flaws != b->d.flaws || a->d.doubtful_end != b->d.doubtful_end)
        abort();
    if (a->d.flaws || !a->over)
        return;
    if (!span_eq(buf_span(&a->out), buf_span(&b->out)) || a->d.header_bytes != b->d.header_bytes ||
        a->d.received != b->d.received || !span_eq(smtp_data_message_id(&a->d), smtp_data_message_id(&b->d)))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct span in = span_make(data + 1, size - 1);
    struct result whole, cut;
    bool strip = data[0] & 1;
    read_in(&whole, in, in.n, strip);
    size_t end = end_of(in);
    if (whole.over != (end > 0) || (end && whole.used != end))
        abort();
    size_t pieces[] = {1, 1u + data[0] / 2};
    for (size_t i = 0; i < 2; i++) {
        read_in(&cut, in, pieces[i], strip);
        same(&whole, &cut);
        buf_free(&cut.out);
    }
    buf_free(&whole.out);
    return 0;
}
