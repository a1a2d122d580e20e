/* Tokens of IMAP commands: see lex.h. */
#include "imap/lex.h"

static bool is_atom_char(char c)
{
    return c > 0x20 && c < 0x7f && !strchr("(){%*\"\\]", c);
}

static bool is_astring_char(char c)
{
    return is_atom_char(c) || c == ']';
}

static bool is_list_char(char c)
{
    return is_astring_char(c) || c == '%' || c == '*';
}

static bool is_tag_char(char c)
{
    return is_astring_char(c) && c != '+';
}

static bool take_while(struct lex *x, bool (*is)(char c), struct span *out)
{
    size_t n = 0;
    while (n < x->rest.n && is(x->rest.p[n]))
        n++;
    if (!n)
        return false;
    *out = span_sub(x->rest, 0, n);
    x->rest = span_from(x->rest, n);
    return true;
}

bool lex_tag(struct lex *x, struct span *out)
{
    return take_while(x, is_tag_char, out);
}

bool lex_atom(struct lex *x, struct span *out)
{
    return take_while(x, is_atom_char, out);
}

/* RFC3501:9 quoted: no CR, LF, NUL inside; only quote and backslash are escaped. Bytes above 0x7f are let through: what
 * they mean is decided where the string goes. */
static bool take_quoted(struct lex *x, struct span *out)
{
    size_t i = 1, escapes = 0;
    for (;; i++) {
        if (i >= x->rest.n || x->rest.p[i] == '\r' || x->rest.p[i] == '\n' || !x->rest.p[i])
            return false;
        if (x->rest.p[i] == '"')
            break;
        if (x->rest.p[i] != '\\')
            continue;
        if (++i >= x->rest.n || (x->rest.p[i] != '"' && x->rest.p[i] != '\\'))
            return false;
        escapes++;
    }
    struct span inside = span_sub(x->rest, 1, i - 1);
    x->rest = span_from(x->rest, i + 1);
    *out = inside;
    if (!escapes)
        return true;
    char *p = arena_alloc(x->arena, inside.n);
    size_t n = 0;
    for (size_t k = 0; k < inside.n; k++) {
        k += inside.p[k] == '\\';
        p[n++] = inside.p[k];
    }
    *out = span_make(p, n);
    return true;
}

/* "{3}\r\nabc", as the collector left it in the text. A NUL has no place in a literal (RFC3501:9 CHAR8). */
static bool take_literal(struct lex *x, struct span *out)
{
    ptrdiff_t close = span_find(x->rest, '}');
    struct span number = close < 0 ? SPAN_NONE : span_sub(x->rest, 1, (size_t)close - 1);
    uint64_t n;
    if (span_ends(number, SPAN("+")))
        number.n--;
    if (close < 0 || !span_u64(number, SIZE_MAX / 2, &n))
        return false;
    struct span after = span_from(x->rest, (size_t)close + 1);
    if (span_starts(after, SPAN("\r\n")))
        after = span_from(after, 2);
    else if (span_starts(after, SPAN("\n")))
        after = span_from(after, 1);
    else
        return false;
    if (n > after.n || span_find(span_sub(after, 0, (size_t)n), '\0') >= 0)
        return false;
    *out = span_sub(after, 0, (size_t)n);
    x->rest = span_from(after, (size_t)n);
    return true;
}

bool lex_string(struct lex *x, struct span *out)
{
    if (!x->rest.n)
        return false;
    if (*x->rest.p == '"')
        return take_quoted(x, out);
    return *x->rest.p == '{' && take_literal(x, out);
}

bool lex_astring(struct lex *x, struct span *out)
{
    return lex_string(x, out) || take_while(x, is_astring_char, out);
}

bool lex_list_mailbox(struct lex *x, struct span *out)
{
    return lex_string(x, out) || take_while(x, is_list_char, out);
}

bool lex_nstring(struct lex *x, struct span *out)
{
    if (lex_word(x, "NIL")) {
        *out = SPAN_NONE;
        return true;
    }
    return lex_string(x, out);
}

bool lex_number64(struct lex *x, uint64_t *out)
{
    size_t n = 0;
    while (n < x->rest.n && ascii_digit(x->rest.p[n]))
        n++;
    if (!n || n > 18 || !span_u64(span_sub(x->rest, 0, n), INT64_MAX, out))
        return false;
    x->rest = span_from(x->rest, n);
    return true;
}

bool lex_number(struct lex *x, uint32_t *out)
{
    struct lex back = *x;
    uint64_t v;
    if (!lex_number64(x, &v) || v > UINT32_MAX) {
        *x = back;
        return false;
    }
    *out = (uint32_t)v;
    return true;
}

bool lex_char(struct lex *x, char c)
{
    if (!x->rest.n || *x->rest.p != c)
        return false;
    x->rest = span_from(x->rest, 1);
    return true;
}

bool lex_sp(struct lex *x)
{
    return lex_char(x, ' ');
}

bool lex_word(struct lex *x, const char *word)
{
    struct lex back = *x;
    struct span atom;
    if (lex_atom(x, &atom) && span_ieqs(atom, word))
        return true;
    *x = back;
    return false;
}

bool lex_end(const struct lex *x)
{
    return x->rest.n == 0;
}
