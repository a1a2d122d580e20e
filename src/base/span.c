#include "base/span.h"

#include "base/util.h"

bool span_eq(struct span a, struct span b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

bool span_ieq(struct span a, struct span b)
{
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++)
        if (ascii_lower(a.p[i]) != ascii_lower(b.p[i]))
            return false;
    return true;
}

bool span_eqs(struct span a, const char *text)
{
    return span_eq(a, span_of(text));
}

bool span_ieqs(struct span a, const char *text)
{
    return span_ieq(a, span_of(text));
}

int span_cmp(struct span a, struct span b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.p, b.p, n) : 0;
    if (c)
        return c;
    return a.n < b.n ? -1 : a.n > b.n;
}

bool span_starts(struct span s, struct span prefix)
{
    return s.n >= prefix.n && span_eq((struct span){s.p, prefix.n}, prefix);
}

bool span_istarts(struct span s, struct span prefix)
{
    return s.n >= prefix.n && span_ieq((struct span){s.p, prefix.n}, prefix);
}

bool span_ends(struct span s, struct span suffix)
{
    return s.n >= suffix.n && span_eq(span_from(s, s.n - suffix.n), suffix);
}

bool span_iends(struct span s, struct span suffix)
{
    return s.n >= suffix.n && span_ieq(span_from(s, s.n - suffix.n), suffix);
}

ptrdiff_t span_find(struct span s, char c)
{
    const char *q = s.n ? memchr(s.p, c, s.n) : NULL;
    return q ? q - s.p : -1;
}

ptrdiff_t span_rfind(struct span s, char c)
{
    const char *q = s.n ? memrchr(s.p, c, s.n) : NULL;
    return q ? q - s.p : -1;
}

ptrdiff_t span_search(struct span s, struct span piece)
{
    if (piece.n == 0)
        return 0;
    const char *q = s.n ? memmem(s.p, s.n, piece.p, piece.n) : NULL;
    return q ? q - s.p : -1;
}

struct span span_sub(struct span s, size_t from, size_t n)
{
    if (from > s.n)
        from = s.n;
    if (n > s.n - from)
        n = s.n - from;
    return (struct span){s.p ? s.p + from : NULL, n};
}

struct span span_from(struct span s, size_t from)
{
    return span_sub(s, from, s.n);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct span span_trim(struct span s)
{
    while (s.n && is_blank(s.p[0]))
        s = span_from(s, 1);
    while (s.n && is_blank(s.p[s.n - 1]))
        s.n--;
    return s;
}

struct span span_word(struct span *s)
{
    size_t i = 0;
    while (i < s->n && (s->p[i] == ' ' || s->p[i] == '\t'))
        i++;
    size_t from = i;
    while (i < s->n && s->p[i] != ' ' && s->p[i] != '\t')
        i++;
    struct span word = span_sub(*s, from, i - from);
    while (i < s->n && (s->p[i] == ' ' || s->p[i] == '\t'))
        i++;
    *s = span_from(*s, i);
    return word;
}

struct span span_cut(struct span *s, char c)
{
    ptrdiff_t at = span_find(*s, c);
    if (at < 0) {
        struct span all = *s;
        *s = span_from(*s, s->n);
        return all;
    }
    struct span head = span_sub(*s, 0, (size_t)at);
    *s = span_from(*s, (size_t)at + 1);
    return head;
}

bool span_u64(struct span s, uint64_t max, uint64_t *out)
{
    uint64_t v = 0;
    if (s.n == 0)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (!ascii_digit(s.p[i]))
            return false;
        uint64_t d = (uint64_t)(s.p[i] - '0');
        if (v > (UINT64_MAX - d) / 10)
            return false;
        v = v * 10 + d;
    }
    if (v > max)
        return false;
    *out = v;
    return true;
}

bool span_has_control(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f)
            return true;
    return false;
}

bool span_is_ascii(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] > 0x7f)
            return false;
    return true;
}

bool span_fits(struct span s, struct span pattern)
{
    size_t i = 0, p = 0, star = SIZE_MAX, back = 0; /* behind the last *; where that was tried */
    while (i < s.n) {
        if (p < pattern.n && pattern.p[p] == '*') {
            star = ++p;
            back = i;
        } else if (p < pattern.n && ascii_lower(pattern.p[p]) == ascii_lower(s.p[i])) {
            p++;
            i++;
        } else if (star != SIZE_MAX) {
            p = star;
            i = ++back;
        } else {
            return false;
        }
    }
    while (p < pattern.n && pattern.p[p] == '*')
        p++;
    return p == pattern.n;
}

struct span span_utf8_cut(struct span s, size_t most)
{
    size_t n = MIN_OF(s.n, most);
    while (n && n < s.n && ((unsigned char)s.p[n] & 0xc0) == 0x80)
        n--;
    return span_sub(s, 0, n);
}

bool span_is_utf8(struct span s)
{
    size_t i = 0;
    while (i < s.n) {
        unsigned char c = (unsigned char)s.p[i];
        size_t more;
        uint32_t v, least;
        if (c < 0x80) {
            i++;
            continue;
        } else if (c >= 0xc2 && c <= 0xdf) {
            more = 1, v = c & 0x1f, least = 0x80;
        } else if (c >= 0xe0 && c <= 0xef) {
            more = 2, v = c & 0x0f, least = 0x800;
        } else if (c >= 0xf0 && c <= 0xf4) {
            more = 3, v = c & 0x07, least = 0x10000;
        } else {
            return false;
        }
        if (s.n - i <= more)
            return false;
        for (size_t k = 1; k <= more; k++) {
            unsigned char t = (unsigned char)s.p[i + k];
            if ((t & 0xc0) != 0x80)
                return false;
            v = v << 6 | (t & 0x3f);
        }
        if (v < least || v > 0x10ffff || (v >= 0xd800 && v <= 0xdfff))
            return false;
        i += more + 1;
    }
    return true;
}
