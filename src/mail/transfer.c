/* Transfer decoding of RFC 2045 §6 in pieces, lenient as mail is: see words.h. */
#include "mail/words.h"

enum transfer transfer_of(struct span name)
{
    name = span_trim(name);
    if (span_ieqs(name, "base64"))
        return TRANSFER_BASE64;
    return span_ieqs(name, "quoted-printable") ? TRANSFER_QP : TRANSFER_NONE;
}

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Writes the bytes of the 2 to 4 characters held. */
static void put_group(struct transfer_state *st, struct buf *out)
{
    uint32_t v = 0;
    for (unsigned i = 0; i < 4; i++)
        v = v << 6 | (i < st->held_n ? (unsigned char)st->held[i] : 0);
    for (unsigned i = 0; i + 1 < st->held_n; i++)
        buf_addc(out, (char)(v >> (16 - 8 * i)));
    st->held_n = 0;
}

static void decode_base64(struct transfer_state *st, struct span piece, bool last, struct buf *out)
{
    buf_room(out, piece.n / 4 * 3 + 3);
    for (size_t i = 0; i < piece.n; i++) {
        int v = base64_value(piece.p[i]);
        if (v >= 0) {
            st->held[st->held_n++] = (char)v;
            if (st->held_n == 4)
                put_group(st, out);
        } else if (piece.p[i] == '=') { /* padding: the next character begins anew */
            put_group(st, out);
        }
    }
    if (last)
        put_group(st, out);
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* What is held begins with '=': true when it says what it means. */
static bool settle_escape(struct transfer_state *st, struct buf *out)
{
    if (st->held_n == 2 && st->held[1] == '\n') { /* soft line end */
        st->held_n = 0;
        return true;
    }
    if (st->held_n < 3)
        return false;
    int high = hex_value(st->held[1]), low = hex_value(st->held[2]);
    if (high >= 0 && low >= 0)
        buf_addc(out, (char)(high << 4 | low));
    else if (st->held[1] != '\r' || st->held[2] != '\n')
        buf_add(out, span_make(st->held, 3));
    st->held_n = 0;
    return true;
}

static void decode_qp(struct transfer_state *st, struct span piece, bool last, struct buf *out)
{
    while (piece.n) {
        if (st->held_n) {
            st->held[st->held_n++] = *piece.p;
            piece = span_from(piece, 1);
            settle_escape(st, out);
            continue;
        }
        const char *eq = memchr(piece.p, '=', piece.n);
        size_t n = eq ? (size_t)(eq - piece.p) : piece.n;
        buf_add(out, span_sub(piece, 0, n));
        piece = span_from(piece, n);
        if (piece.n) {
            st->held[st->held_n++] = '=';
            piece = span_from(piece, 1);
        }
    }
    if (last && st->held_n > 1)
        buf_add(out, span_make(st->held, st->held_n));
}

void transfer_decode(enum transfer t, struct transfer_state *st, struct span piece, bool last, struct buf *out)
{
    if (t == TRANSFER_BASE64)
        decode_base64(st, piece, last, out);
    else if (t == TRANSFER_QP)
        decode_qp(st, piece, last, out);
    else
        buf_add(out, piece);
}
