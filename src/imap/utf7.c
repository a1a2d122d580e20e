/* Modified UTF-7: see utf7.h. One name, one spelling: the decoder takes only what the encoder would write (HAZARDS 22).
 */
#include "imap/utf7.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

static int value_of(char c)
{
    const char *at = c ? strchr(alphabet, c) : NULL;
    return at ? (int)(at - alphabet) : -1;
}

static bool is_direct(uint32_t c)
{
    return c >= 0x20 && c <= 0x7e;
}

static void put_utf8(struct buf *out, uint32_t c)
{
    if (c < 0x80) {
        buf_addc(out, (char)c);
        return;
    }
    if (c < 0x800) {
        buf_addc(out, (char)(0xc0 | c >> 6));
    } else {
        if (c < 0x10000) {
            buf_addc(out, (char)(0xe0 | c >> 12));
        } else {
            buf_addc(out, (char)(0xf0 | c >> 18));
            buf_addc(out, (char)(0x80 | (c >> 12 & 0x3f)));
        }
        buf_addc(out, (char)(0x80 | (c >> 6 & 0x3f)));
    }
    buf_addc(out, (char)(0x80 | (c & 0x3f)));
}

/* One UTF-16 unit; *high: the surrogate that waits for its second half, or 0. */
static bool put_unit(struct buf *out, uint32_t unit, uint32_t *high)
{
    bool low = unit >= 0xdc00 && unit < 0xe000;
    if (low != (*high != 0))
        return false;
    if (low) {
        put_utf8(out, 0x10000 + ((*high - 0xd800) << 10) + (unit - 0xdc00));
        *high = 0;
    } else if (unit >= 0xd800 && unit < 0xdc00) {
        *high = unit;
    } else {
        if (is_direct(unit))
            return false;
        put_utf8(out, unit);
    }
    return true;
}

/* The base64 between '&' and '-'. */
static bool decode_run(struct span run, struct buf *out)
{
    uint32_t bits = 0, high = 0;
    unsigned n = 0;
    for (size_t i = 0; i < run.n; i++) {
        int v = value_of(run.p[i]);
        if (v < 0)
            return false;
        bits = (bits << 6 | (uint32_t)v) & 0xffffff;
        n += 6;
        if (n >= 16) {
            n -= 16;
            if (!put_unit(out, bits >> n & 0xffff, &high))
                return false;
        }
    }
    return !high && n < 6 && !(bits & ((1u << n) - 1));
}

int utf7_decode(struct span name, struct buf *out)
{
    size_t start = out->n;
    bool after_run = false; /* two runs in a row would be one */
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];
        if (!is_direct((unsigned char)c))
            goto bad;
        if (c != '&') {
            buf_addc(out, c);
            after_run = false;
            continue;
        }
        struct span rest = span_from(name, i + 1);
        ptrdiff_t end = span_find(rest, '-');
        if (end < 0 || (end > 0 && after_run) || !decode_run(span_sub(rest, 0, (size_t)end), out))
            goto bad;
        if (end == 0)
            buf_addc(out, '&');
        after_run = end > 0;
        i += (size_t)end + 1;
    }
    return 0;
bad:
    out->n = start;
    return -1;
}

/* ---- encoding ---- */

struct run {
    uint32_t bits;
    unsigned n;
    bool open;
};

static void put_bits(struct run *r, uint32_t unit, struct buf *out)
{
    r->bits = r->bits << 16 | unit;
    r->n += 16;
    while (r->n >= 6) {
        r->n -= 6;
        buf_addc(out, alphabet[r->bits >> r->n & 63]);
    }
    r->bits &= (1u << r->n) - 1;
}

static void close_run(struct run *r, struct buf *out)
{
    if (!r->open)
        return;
    if (r->n)
        buf_addc(out, alphabet[r->bits << (6 - r->n) & 63]);
    buf_addc(out, '-');
    *r = (struct run){0};
}

static uint32_t take_utf8(struct span *s)
{
    unsigned char b = (unsigned char)*s->p;
    size_t n = b < 0x80 ? 1 : b < 0xe0 ? 2 : b < 0xf0 ? 3 : 4;
    uint32_t c = n == 1 ? b : b & (0xffu >> (n + 1));
    for (size_t i = 1; i < n && i < s->n; i++)
        c = c << 6 | ((unsigned char)s->p[i] & 0x3f);
    *s = span_from(*s, n);
    return c;
}

void utf7_encode(struct span name, struct buf *out)
{
    struct run r = {0};
    while (name.n) {
        uint32_t c = take_utf8(&name);
        if (is_direct(c)) {
            close_run(&r, out);
            buf_addc(out, (char)c);
            if (c == '&')
                buf_addc(out, '-');
            continue;
        }
        if (!r.open)
            buf_addc(out, '&');
        r.open = true;
        if (c >= 0x10000) {
            put_bits(&r, 0xd800 + ((c - 0x10000) >> 10), out);
            put_bits(&r, 0xdc00 + ((c - 0x10000) & 0x3ff), out);
        } else {
            put_bits(&r, c, out);
        }
    }
    close_run(&r, out);
}
