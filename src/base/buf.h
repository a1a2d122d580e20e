/* A growing byte buffer that owns its bytes. {0} is an empty one. What is appended has met its limit before. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdarg.h>

#include "base/span.h"
#include "base/util.h"

struct buf {
    char *p;
    size_t n;   /* bytes in use */
    size_t cap; /* bytes allocated */
};

void buf_free(struct buf *b);  /* releases the bytes, leaves an empty buffer */
void buf_clear(struct buf *b); /* forgets the content, keeps the room */
char *buf_grow(struct buf *b, size_t n); /* what buf_room() does when there is none */
void buf_add(struct buf *b, struct span s);
void buf_adds(struct buf *b, const char *text);
void buf_addn(struct buf *b, int64_t n); /* in decimal; much cheaper than buf_printf() */
void buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
void buf_vprintf(struct buf *b, const char *fmt, va_list ap);
/* Between double quotes, with a backslash before those and itself: quoted strings of RFC 5322 §3.2.4, RFC 5321 §4.1.2 and RFC 3501 §4.3. What may
 * stand in one is the caller's to know. */
void buf_add_quoted(struct buf *b, struct span s);
void buf_drop(struct buf *b, size_t n); /* removes the first n bytes */
const char *buf_cstr(struct buf *b);    /* a NUL behind the content (not counted); valid until the next change */

/* Makes room for n more bytes, returns where they go; then add to b->n. */
static inline char *buf_room(struct buf *b, size_t n)
{
    return b->p && b->cap - b->n >= n ? b->p + b->n : buf_grow(b, n);
}

static inline void buf_addc(struct buf *b, char c)
{
    *buf_room(b, 1) = c;
    b->n++;
}

static inline struct span buf_span(const struct buf *b)
{
    return (struct span){b->p, b->n};
}

#endif
