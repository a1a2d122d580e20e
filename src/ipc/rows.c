#include "ipc/rows.h"

#include <string.h>

#define END_OF_ROW 255

static void put_number(struct buf *b, uint64_t n, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        buf_addc(b, (char)(n >> 8 * i));
}

void rows_put(struct buf *b, const struct row_cell *c)
{
    struct span name = span_sub(c->name, 0, ROWS_NAME_MAX), text = span_sub(c->value, 0, ROWS_TEXT_MAX);
    buf_addc(b, (char)c->kind);
    put_number(b, name.n, 1);
    buf_add(b, name);
    if (c->kind != ROW_TEXT) {
        put_number(b, c->number, 8);
        return;
    }
    put_number(b, text.n, 4);
    buf_add(b, text);
}

void rows_end(struct buf *b)
{
    buf_addc(b, (char)END_OF_ROW);
}

size_t rows_room(const struct row_cell *c)
{
    return 1 + 1 + c->name.n + 8 + c->value.n;
}

/* ---- reading ---- */

static bool take(struct span *rest, size_t n, struct span *out)
{
    if (rest->n < n)
        return false;
    *out = span_sub(*rest, 0, n);
    *rest = span_from(*rest, n);
    return true;
}

static bool take_number(struct span *rest, unsigned bytes, uint64_t *out)
{
    struct span s;
    if (!take(rest, bytes, &s))
        return false;
    *out = 0;
    for (unsigned i = bytes; i-- > 0;)
        *out = *out << 8 | (unsigned char)s.p[i];
    return true;
}

enum rows_item rows_next(struct span *rest, struct row_cell *c)
{
    uint64_t kind = 0, n = 0;
    if (rest->n == 0)
        return ROWS_OVER;
    *c = (struct row_cell){0};
    take_number(rest, 1, &kind);
    if (kind == END_OF_ROW)
        return ROWS_END;
    c->kind = (uint8_t)kind;
    if (kind >= ROW_KINDS || !take_number(rest, 1, &n) || n > ROWS_NAME_MAX || !take(rest, n, &c->name))
        return ROWS_BAD;
    if (kind != ROW_TEXT)
        return take_number(rest, 8, &c->number) ? ROWS_CELL : ROWS_BAD;
    return take_number(rest, 4, &n) && n <= ROWS_TEXT_MAX && take(rest, n, &c->value) ? ROWS_CELL : ROWS_BAD;
}
