#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

void buf_free(struct buf *b)
{
    mem_free(&b->p);
    b->n = b->cap = 0;
}

void buf_clear(struct buf *b)
{
    b->n = 0;
}

char *buf_grow(struct buf *b, size_t n)
{
    if (n > SIZE_MAX / 4 || b->n > SIZE_MAX / 4)
        abort();
    size_t want = b->cap ? b->cap * 2 : 64;
    while (want < b->n + n)
        want *= 2;
    b->p = mem_resize(b->p, want);
    b->cap = want;
    return b->p + b->n;
}

void buf_add(struct buf *b, struct span s)
{
    if (s.n == 0)
        return;
    memcpy(buf_room(b, s.n), s.p, s.n);
    b->n += s.n;
}

void buf_adds(struct buf *b, const char *text)
{
    buf_add(b, span_of(text));
}

void buf_add_quoted(struct buf *b, struct span s)
{
    char *p = buf_room(b, 2 * s.n + 2), *start = p;
    *p++ = '"';
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '"' || s.p[i] == '\\')
            *p++ = '\\';
        *p++ = s.p[i];
    }
    *p++ = '"';
    b->n += (size_t)(p - start);
}

void buf_addn(struct buf *b, int64_t n)
{
    char digits[20], *at = digits + sizeof digits;
    uint64_t left = n < 0 ? -(uint64_t)n : (uint64_t)n;
    do
        *--at = (char)('0' + left % 10);
    while (left /= 10);
    if (n < 0)
        *--at = '-';
    buf_add(b, span_make(at, (size_t)(digits + sizeof digits - at)));
}

/* Most fit into what room there is: one pass. */
void buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
    va_list again;
    va_copy(again, ap);
    size_t room = b->p ? b->cap - b->n : 0;
    int n = vsnprintf(room ? b->p + b->n : NULL, room, fmt, ap);
    if (n < 0)
        abort();
    if ((size_t)n >= room)
        vsnprintf(buf_room(b, (size_t)n + 1), (size_t)n + 1, fmt, again);
    va_end(again);
    b->n += (size_t)n;
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    buf_vprintf(b, fmt, ap);
    va_end(ap);
}

void buf_drop(struct buf *b, size_t n)
{
    if (n >= b->n) {
        b->n = 0;
        return;
    }
    memmove(b->p, b->p + n, b->n - n);
    b->n -= n;
}

const char *buf_cstr(struct buf *b)
{
    *buf_room(b, 1) = '\0';
    return b->p;
}
