/* Base64, RFC 4648 §4. Strict: an alphabet character or padding at its place, everything else is refused (RFC4648:3.3,
 * RFC4648:3.5). */
#include "base/base64.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static int value_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* How many of the last group's characters are padding; -1 when the length is no multiple of four. */
static int padding_of(struct span text)
{
    if (text.n % 4)
        return -1;
    if (text.n == 0 || text.p[text.n - 1] != '=')
        return 0;
    return text.p[text.n - 2] == '=' ? 2 : 1;
}

static int decode_into(struct span text, int pad, char *to)
{
    uint32_t bits = 0;
    size_t data = text.n - (size_t)pad, n = 0;
    for (size_t i = 0; i < data; i++) {
        int v = value_of(text.p[i]);
        if (v < 0)
            return -1;
        bits = bits << 6 | (uint32_t)v;
        if (i % 4)
            to[n++] = (char)(bits >> (6 - 2 * (i % 4)));
    }
    /* RFC4648:3.5: the bits that belong to no byte must be zero, so that one value has one form. */
    uint32_t spare = pad == 2 ? 0xf : pad == 1 ? 0x3 : 0;
    return bits & spare ? -1 : (int)n;
}

int base64_decode(struct span text, struct buf *out)
{
    int pad = padding_of(text);
    if (pad < 0)
        return -1;
    int n = decode_into(text, pad, buf_room(out, text.n / 4 * 3 + 1));
    if (n < 0)
        return -1;
    out->n += (size_t)n;
    return 0;
}

void base64_encode(struct span bytes, struct buf *out)
{
    char *to = buf_room(out, (bytes.n + 2) / 3 * 4);
    size_t n = 0;
    for (size_t i = 0; i < bytes.n; i += 3) {
        size_t left = bytes.n - i;
        uint32_t v = (uint32_t)(unsigned char)bytes.p[i] << 16;
        if (left > 1)
            v |= (uint32_t)(unsigned char)bytes.p[i + 1] << 8;
        if (left > 2)
            v |= (unsigned char)bytes.p[i + 2];
        to[n++] = alphabet[v >> 18];
        to[n++] = alphabet[v >> 12 & 63];
        to[n++] = left > 1 ? alphabet[v >> 6 & 63] : '=';
        to[n++] = left > 2 ? alphabet[v & 63] : '=';
    }
    out->n += n;
}
