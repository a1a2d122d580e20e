/* Addresses after RFC 5321 §4.1.2, RFC 6531 §3.3 and RFC 5890. It trusts nothing: the text comes from the network or an
 * operator. */
#include "mail/address.h"

#include <idn2.h>
#include <stdlib.h>

/* Wire form of a local part: every byte may be a quoted pair, and there are two quotes. */
#define LOCAL_WIRE_MAX (2 * ADDRESS_LOCAL_MAX + 2)

/* ---- the grammar ---- */

/* RFC5321:4.1.2 atext (RFC 5322 §3.2.3), and any byte of a UTF-8 sequence, which the caller has checked as a whole. */
static bool is_atext(unsigned char c)
{
    return c >= 0x80 || ascii_alpha((char)c) || ascii_digit((char)c) || (c && strchr("!#$%&'*+-/=?^_`{|}~", c));
}

/* RFC5321:4.1.2 Dot-string: atoms between single dots. Returns its length, 0 when there is none. */
static size_t scan_dot_string(struct span s)
{
    size_t i = 0;
    for (;;) {
        size_t atom = i;
        while (i < s.n && is_atext((unsigned char)s.p[i]))
            i++;
        if (i == atom)
            return 0;
        if (i == s.n || s.p[i] != '.')
            return i;
        i++;
    }
}

/* RFC5321:4.1.2 Quoted-string. Returns its length with both quotes, 0 when it isn't one. */
static size_t scan_quoted(struct span s)
{
    for (size_t i = 1; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c == '"')
            return i + 1;
        if (c == '\\' && (++i == s.n || (unsigned char)s.p[i] >= 0x80))
            return 0;
        c = (unsigned char)s.p[i];
        if (c < 0x20 || c == 0x7f)
            return 0;
    }
    return 0;
}

/* RFC5321:4.1.3 address literals, by their characters only: whoever connects to one parses it. */
static bool literal_valid(struct span d)
{
    if (d.n < 3 || d.p[0] != '[' || d.p[d.n - 1] != ']')
        return false;
    for (size_t i = 1; i + 1 < d.n; i++) {
        unsigned char c = (unsigned char)d.p[i];
        if (c < 0x21 || c > 0x7e || c == '[' || c == ']' || c == '\\')
            return false;
    }
    return true;
}

bool address_parse(struct span text, struct address *out)
{
    *out = (struct address){0};
    if (text.n < 3 || text.n > LOCAL_WIRE_MAX + 1 + 4 * ADDRESS_DOMAIN_MAX || !span_is_utf8(text))
        return false;
    out->quoted = text.p[0] == '"';
    size_t n = out->quoted ? scan_quoted(text) : scan_dot_string(text);
    if (n == 0 || n > LOCAL_WIRE_MAX || n >= text.n || text.p[n] != '@')
        return false;
    out->local = span_sub(text, 0, n);
    out->domain = span_from(text, n + 1);
    out->literal = out->domain.n && out->domain.p[0] == '[';
    char ignored[ADDRESS_DOMAIN_MAX + 1];
    size_t ignored_n;
    if (out->literal)
        return out->domain.n <= ADDRESS_DOMAIN_MAX && literal_valid(out->domain);
    return domain_canonical(out->domain, ignored, &ignored_n);
}

/* ---- domain names ---- */

/* Underscores are ours: hosts with such names send and get mail, and DNS has nothing against them. */
static bool is_in_label(char c)
{
    return ascii_alpha(c) || ascii_digit(c) || c == '-' || c == '_';
}

/* RFC5321:4.1.2 sub-domain with that tolerance, and the lengths of RFC 1035 §2.3.4; an A-label has no underscore (RFC
 * 5890 §2.3.1). */
static bool label_valid(struct span s)
{
    if (s.n == 0 || s.n > 63 || s.p[0] == '-' || s.p[s.n - 1] == '-')
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (!is_in_label(s.p[i]))
            return false;
    return span_find(s, '_') < 0 || !span_istarts(s, SPAN("xn--"));
}

static bool labels_valid(struct span s)
{
    if (s.n == 0 || s.p[s.n - 1] == '.')
        return false;
    while (s.n)
        if (!label_valid(span_cut(&s, '.')))
            return false;
    return true;
}

static bool domain_to_ascii(struct span name, char *out, size_t *n)
{
    char text[4 * ADDRESS_DOMAIN_MAX + 1];
    char *ascii = NULL;
    if (name.n >= sizeof(text) || memchr(name.p, 0, name.n) || !span_is_utf8(name))
        return false;
    memcpy(text, name.p, name.n);
    text[name.n] = 0;
    if (idn2_to_ascii_8z(text, &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) != IDN2_OK)
        return false;
    size_t len = strlen(ascii);
    bool fits = len >= 1 && len <= ADDRESS_DOMAIN_MAX;
    if (fits)
        memcpy(out, ascii, len);
    idn2_free(ascii);
    *n = len;
    return fits;
}

bool domain_canonical(struct span name, char *out, size_t *n)
{
    if (name.n == 0)
        return false;
    if (!span_is_ascii(name)) {
        if (!domain_to_ascii(name, out, n))
            return false;
    } else {
        if (name.n > ADDRESS_DOMAIN_MAX)
            return false;
        memcpy(out, name.p, name.n);
        *n = name.n;
    }
    for (size_t i = 0; i < *n; i++)
        out[i] = ascii_lower(out[i]);
    out[*n] = 0;
    return labels_valid((struct span){out, *n});
}

/* ---- keys ---- */

static bool key_put_local(struct address_key *k, char c)
{
    if (k->local_n >= ADDRESS_LOCAL_MAX)
        return false;
    k->text[k->local_n++] = ascii_lower(c);
    return true;
}

static bool key_put_domain(struct address_key *k, struct span domain)
{
    size_t n = 0;
    char *at = k->text + k->local_n;
    *at++ = '@';
    if (k->literal) {
        for (n = 0; n < domain.n; n++)
            at[n] = ascii_lower(domain.p[n]);
        at[n] = 0;
    } else if (!domain_canonical(domain, at, &n)) {
        return false;
    }
    k->n = (uint16_t)(k->local_n + 1 + n);
    return true;
}

bool address_key(struct span text, struct address_key *k)
{
    struct address a;
    k->local_n = k->n = 0;
    if (!address_parse(text, &a))
        return false;
    k->literal = a.literal;
    struct span local = a.quoted ? span_sub(a.local, 1, a.local.n - 2) : a.local;
    for (size_t i = 0; i < local.n; i++) {
        if (a.quoted && local.p[i] == '\\')
            i++;
        if (!key_put_local(k, local.p[i]))
            return false;
    }
    return key_put_domain(k, a.domain);
}

bool address_key_make(struct span local, struct span domain, struct address_key *k)
{
    k->local_n = k->n = 0;
    k->literal = domain.n && domain.p[0] == '[';
    if (span_has_control(local) || !span_is_utf8(local) ||
        (k->literal && (domain.n > ADDRESS_DOMAIN_MAX || !literal_valid(domain))))
        return false;
    for (size_t i = 0; i < local.n; i++)
        if (!key_put_local(k, local.p[i]))
            return false;
    return key_put_domain(k, domain);
}

bool address_detail(struct span local, struct span *base, struct span *detail)
{
    ptrdiff_t at = span_find(local, '+');
    *base = local;
    *detail = SPAN_NONE;
    if (at <= 0)
        return false;
    *base = span_sub(local, 0, (size_t)at);
    *detail = span_from(local, (size_t)at + 1);
    return true;
}

/* ---- writing ---- */

void address_put(struct buf *out, struct span local, struct span domain)
{
    if (local.n && scan_dot_string(local) == local.n)
        buf_add(out, local);
    else
        buf_add_quoted(out, local);
    buf_addc(out, '@');
    buf_add(out, domain);
}
