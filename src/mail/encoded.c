/* Encoded words of header fields, RFC 2047: see words_decode() and words_encode() in words.h. */
#include "base/base64.h"
#include "mail/header.h"
#include "mail/words.h"

struct encoded_word {
    struct span charset, text;
    char encoding; /* 'q' or 'b' */
    size_t length; /* of the whole word */
};

/* The span up to '?', which is taken too. */
static bool take_to_mark(struct span *s, struct span *piece)
{
    ptrdiff_t n = span_find(*s, '?');
    if (n < 0)
        return false;
    *piece = span_sub(*s, 0, (size_t)n);
    *s = span_from(*s, (size_t)n + 1);
    return true;
}

/* RFC2047:2: "=?" charset "?" encoding "?" text "?=". Blanks in the text are forbidden and common. */
static bool encoded_word_at(struct span s, struct encoded_word *w)
{
    struct span rest = span_from(s, 2), encoding;
    if (!span_starts(s, SPAN("=?")) || !take_to_mark(&rest, &w->charset) || !take_to_mark(&rest, &encoding) ||
        encoding.n != 1)
        return false;
    if (!w->charset.n || w->charset.n > 64 || span_has_control(w->charset))
        return false;
    w->encoding = ascii_lower(*encoding.p);
    if (w->encoding != 'q' && w->encoding != 'b')
        return false;
    if (!take_to_mark(&rest, &w->text) || !rest.n || *rest.p != '=')
        return false;
    w->length = s.n - rest.n + 1;
    ptrdiff_t star = span_find(w->charset, '*'); /* RFC2231:5: a language */
    if (star >= 0)
        w->charset.n = (size_t)star;
    return true;
}

static void decode_text(const struct encoded_word *w, struct buf *bytes)
{
    struct transfer_state st = {0};
    if (w->encoding == 'b') {
        transfer_decode(TRANSFER_BASE64, &st, w->text, true, bytes);
        return;
    }
    size_t start = bytes->n;
    transfer_decode(TRANSFER_QP, &st, w->text, true, bytes);
    /* RFC2047:4.2: '_' is a blank. An encoded one (=5F) is the rare case: decoded piece by piece only when there is
     * one. */
    if (span_search(w->text, SPAN("=5F")) < 0 && span_search(w->text, SPAN("=5f")) < 0) {
        for (size_t i = start; i < bytes->n; i++)
            if (bytes->p[i] == '_')
                bytes->p[i] = ' ';
        return;
    }
    bytes->n = start;
    struct span rest = w->text;
    for (bool more = true; more;) {
        ptrdiff_t at = span_find(rest, '_');
        struct transfer_state one = {0};
        more = at >= 0;
        transfer_decode(TRANSFER_QP, &one, more ? span_sub(rest, 0, (size_t)at) : rest, true, bytes);
        if (more)
            buf_addc(bytes, ' ');
        rest = span_from(rest, (size_t)at + 1);
    }
}

static void put_plain(struct span text, struct buf *out)
{
    charset_to_utf8(SPAN("us-ascii"), text, out);
}

/* Adjacent words of one charset are converted together: a character may be cut in two between them. */
struct pending {
    struct span charset;
    struct buf bytes;
    bool any;
};

static void flush(struct pending *p, struct buf *out)
{
    if (p->any)
        charset_to_utf8(p->charset, buf_span(&p->bytes), out);
    buf_clear(&p->bytes);
    p->any = false;
}

static void decode_unfolded(struct span s, struct buf *out)
{
    struct pending p = {0};
    size_t plain = 0, i = 0; /* text from plain to i is not written yet */
    while (i < s.n) {
        const char *eq = memchr(s.p + i, '=', s.n - i);
        struct encoded_word w;
        i = eq ? (size_t)(eq - s.p) : s.n;
        if (!eq || !encoded_word_at(span_from(s, i), &w)) {
            i += eq != NULL;
            continue;
        }
        struct span between = span_sub(s, plain, i - plain);
        bool joined = p.any && span_trim(between).n == 0; /* RFC2047:6.2 */
        if (!joined || !span_ieq(p.charset, w.charset))
            flush(&p, out);
        if (!joined)
            put_plain(between, out);
        p.charset = w.charset;
        p.any = true;
        decode_text(&w, &p.bytes);
        i += w.length;
        plain = i;
    }
    flush(&p, out);
    put_plain(span_from(s, plain), out);
    buf_free(&p.bytes);
}

void words_decode(struct span value, struct buf *out)
{
    struct buf flat = {0};
    size_t start = out->n;
    header_unfold(value, &flat);
    decode_unfolded(buf_span(&flat), out);
    buf_free(&flat);
    for (size_t i = start; i < out->n; i++)
        if ((unsigned char)out->p[i] < 0x20 || out->p[i] == 0x7f)
            out->p[i] = ' ';
}

#define WORD_BYTES 39 /* 64 characters with what stands around: behind "Subject: " the line has not more than 76 (RFC2047:2) */

void words_encode(struct span text, struct buf *out)
{
    for (bool first = true; text.n; first = false) {
        size_t n = MIN_OF(text.n, (size_t)WORD_BYTES);
        while (n < text.n && n > 1 && ((unsigned char)text.p[n] & 0xc0) == 0x80)
            n--;
        buf_adds(out, first ? "=?utf-8?B?" : "\r\n =?utf-8?B?");
        base64_encode(span_sub(text, 0, n), out);
        buf_adds(out, "?=");
        text = span_from(text, n);
    }
}
