/* IMAP strings: see nstring.h. */
#include "mail/nstring.h"

#define QUOTED_MAX 1000 /* longer ones are literals: clients have limits on lines */

static bool may_be_quoted(struct span s)
{
    if (s.n > QUOTED_MAX)
        return false;
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] > 0x7f || s.p[i] == '\r' || s.p[i] == '\n' || s.p[i] == '\0')
            return false;
    return true;
}

/* RFC3501:9 ATOM-CHAR: no specials, blanks, controls, 8-bit */
static bool is_atom_char(char c)
{
    return c > 0x20 && c < 0x7f && !strchr("(){%*\"\\]", c);
}

bool nstring_is_atom(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!is_atom_char(s.p[i]))
            return false;
    return s.n > 0;
}

void nstring_put_literal_head(struct buf *out, uint64_t n)
{
    char digits[24];
    size_t at = sizeof digits;
    do
        digits[--at] = (char)('0' + n % 10);
    while (n /= 10);
    buf_addc(out, '{');
    buf_add(out, span_make(digits + at, sizeof digits - at));
    buf_adds(out, "}\r\n");
}

void nstring_put_literal_bytes(struct buf *out, struct span bytes)
{
    size_t start = out->n;
    buf_add(out, bytes);
    char *p = out->p + start, *end = out->p + out->n;
    while (p < end && (p = memchr(p, '\0', (size_t)(end - p))) != NULL)
        *p++ = (char)0x80;
}

void nstring_put_string(struct buf *out, struct span s)
{
    if (!may_be_quoted(s)) {
        nstring_put_literal_head(out, s.n);
        nstring_put_literal_bytes(out, s);
        return;
    }
    buf_add_quoted(out, s);
}

void nstring_put(struct buf *out, struct span s)
{
    if (s.p)
        nstring_put_string(out, s);
    else
        buf_adds(out, "NIL");
}

void nstring_put_astring(struct buf *out, struct span s)
{
    if (nstring_is_atom(s) && !span_ieqs(s, "NIL"))
        buf_add(out, s);
    else
        nstring_put_string(out, s);
}
