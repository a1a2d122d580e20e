/* Paths and parameters of MAIL and RCPT, RFC 5321 §4.1.2, with the tolerances of RFC5321:4.1.1 (blanks around) and those of
 * mail/address.h for domains. Every check starts from "no".
 *
 *     Reverse-path = Path / "<>"               Path    = "<" [ A-d-l ":" ] Mailbox ">"
 *     A-d-l        = At-domain *( "," At-domain )      At-domain = "@" Domain
 *     Mailbox      = Local-part "@" ( Domain / address-literal )
 *     Local-part   = Dot-string / Quoted-string
 *     Dot-string   = Atom *( "." Atom )        Quoted-string = DQUOTE *QcontentSMTP DQUOTE
 *     esmtp-param  = esmtp-keyword [ "=" esmtp-value ] */
#include "smtp/path.h"

#include <arpa/inet.h>

#include "mail/address.h"

static bool is_atext(char c, unsigned allow)
{
    if ((unsigned char)c >= 0x80)
        return allow & SMTP_PATH_UTF8;
    return ascii_alpha(c) || ascii_digit(c) || (c && strchr("!#$%&'*+-/=?^_`{|}~", c));
}

/* The length of the Dot-string at the front of s; 0 when there is none. */
static size_t dot_string(struct span s, unsigned allow)
{
    size_t i = 0;
    for (;;) {
        size_t atom = i;
        while (i < s.n && is_atext(s.p[i], allow))
            i++;
        if (i == atom)
            return 0;
        if (i == s.n || s.p[i] != '.')
            return i;
        i++;
    }
}

/* The length of the Quoted-string at the front of s, quotes included; 0 when there is none. */
static size_t quoted_string(struct span s, unsigned allow)
{
    if (s.n < 2 || s.p[0] != '"')
        return 0;
    for (size_t i = 1; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c == '"')
            return i + 1;
        if (c == '\\') {
            if (++i == s.n)
                return 0;
            c = (unsigned char)s.p[i];
            if (c < 0x20 || c > 0x7e)
                return 0;
        } else if (c < 0x20 || c == 0x7f || (c >= 0x80 && !(allow & SMTP_PATH_UTF8))) {
            return 0;
        }
    }
    return 0;
}

static size_t local_part(struct span s, unsigned allow)
{
    return s.n && s.p[0] == '"' ? quoted_string(s, allow) : dot_string(s, allow);
}

/* One rule for all of us, as the directory has it: what is accepted here can be asked for there, and told of a failure later.
 * RFC6531:3.3: U-labels are those of IDNA (RFC 5890 §2.3.2.1). */
static bool name_valid(struct span s, unsigned allow)
{
    char canonical[ADDRESS_DOMAIN_MAX + 1];
    size_t n;
    return ((allow & SMTP_PATH_UTF8) || span_is_ascii(s)) && domain_canonical(s, canonical, &n);
}

bool smtp_literal_valid(struct span s)
{
    char text[64];
    unsigned char addr[16];
    if (s.n < 3 || s.n >= sizeof text || s.p[0] != '[' || s.p[s.n - 1] != ']')
        return false;
    struct span inner = span_sub(s, 1, s.n - 2);
    bool v6 = span_istarts(inner, SPAN("IPv6:"));
    if (v6)
        inner = span_from(inner, 5);
    if (memchr(inner.p, 0, inner.n))
        return false;
    memcpy(text, inner.p, inner.n);
    text[inner.n] = '\0';
    return inet_pton(v6 ? AF_INET6 : AF_INET, text, addr) == 1;
}

bool smtp_domain_valid(struct span s, unsigned allow)
{
    if (s.n && s.p[0] == '[')
        return smtp_literal_valid(s);
    return name_valid(s, allow);
}

enum smtp_path_result smtp_mailbox_parse(struct span s, unsigned allow, struct smtp_path *path)
{
    if (!(allow & SMTP_PATH_UTF8) && !span_is_ascii(s))
        return SMTP_PATH_NOT_ASCII;
    if ((allow & SMTP_PATH_UTF8) && !span_is_utf8(s))
        return SMTP_PATH_BAD;
    size_t n = local_part(s, allow);
    bool bare = n && n == s.n && (allow & SMTP_PATH_BARE);
    if (!bare && (n == 0 || n == s.n || s.p[n] != '@'))
        return SMTP_PATH_BAD;
    if (bare && n <= SMTP_LOCAL_MAX) {
        *path = (struct smtp_path){.address = s, .local = s, .domain = SPAN("")};
        return SMTP_PATH_OK;
    }
    struct span domain = span_from(s, n + 1);
    if (n > SMTP_LOCAL_MAX || domain.n > SMTP_DOMAIN_MAX)
        return SMTP_PATH_TOO_LONG;
    if (!smtp_domain_valid(domain, allow))
        return SMTP_PATH_BAD;
    *path = (struct smtp_path){.address = s, .local = span_sub(s, 0, n), .domain = domain};
    return SMTP_PATH_OK;
}

/* RFC5321:4.1.1.3 and C: a source route is accepted and ignored. False: it begins like one and is none. */
static bool skip_route(struct span *s, unsigned allow)
{
    if (s->n == 0 || s->p[0] != '@')
        return true;
    ptrdiff_t colon = span_find(*s, ':');
    if (colon < 0)
        return false;
    struct span route = span_sub(*s, 0, (size_t)colon);
    while (route.n) {
        struct span hop = span_cut(&route, ',');
        if (hop.n < 2 || hop.p[0] != '@' || !name_valid(span_from(hop, 1), allow))
            return false;
    }
    *s = span_from(*s, (size_t)colon + 1);
    return true;
}

/* The index of the ">" that ends the path: the first one outside of a quoted string. */
static ptrdiff_t path_end(struct span s)
{
    bool quoted = false;
    for (size_t i = 0; i < s.n; i++) {
        if (quoted && s.p[i] == '\\')
            i++;
        else if (s.p[i] == '"')
            quoted = !quoted;
        else if (s.p[i] == '>' && !quoted)
            return (ptrdiff_t)i;
    }
    return -1;
}

static enum smtp_path_result path_inside(struct span in, unsigned allow, struct smtp_path *path)
{
    if (in.n == 0) {
        *path = (struct smtp_path){SPAN(""), SPAN(""), SPAN("")};
        return allow & SMTP_PATH_NULL ? SMTP_PATH_OK : SMTP_PATH_BAD;
    }
    if ((allow & SMTP_PATH_POSTMASTER) && span_ieqs(in, "postmaster")) {
        *path = (struct smtp_path){.address = in, .local = in, .domain = SPAN("")};
        return SMTP_PATH_OK;
    }
    if (!skip_route(&in, allow))
        return SMTP_PATH_BAD;
    return smtp_mailbox_parse(in, allow, path);
}

enum smtp_path_result smtp_path_take(struct span *s, unsigned allow, struct smtp_path *path)
{
    struct span in = *s;
    while (in.n && in.p[0] == ' ')
        in = span_from(in, 1);
    if (in.n == 0 || in.p[0] != '<')
        return SMTP_PATH_BAD;
    ptrdiff_t end = path_end(in);
    if (end < 0)
        return SMTP_PATH_BAD;
    struct span rest = span_from(in, (size_t)end + 1);
    if (rest.n && rest.p[0] != ' ')
        return SMTP_PATH_BAD;
    enum smtp_path_result r = path_inside(span_sub(in, 1, (size_t)end - 1), allow, path);
    if (r == SMTP_PATH_OK)
        *s = rest;
    return r;
}

static bool keyword_valid(struct span s)
{
    if (s.n == 0 || s.p[0] == '-')
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (!ascii_alpha(s.p[i]) && !ascii_digit(s.p[i]) && s.p[i] != '-')
            return false;
    return true;
}

static bool value_valid(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < 33 || s.p[i] == '=' || s.p[i] == 0x7f)
            return false;
    return s.n > 0;
}

int smtp_param_take(struct span *s, struct smtp_param *p)
{
    while (s->n && s->p[0] == ' ')
        *s = span_from(*s, 1);
    if (s->n == 0)
        return 0;
    struct span word = span_cut(s, ' ');
    ptrdiff_t eq = span_find(word, '=');
    p->keyword = eq < 0 ? word : span_sub(word, 0, (size_t)eq);
    p->value = eq < 0 ? SPAN_NONE : span_from(word, (size_t)eq + 1);
    if (!keyword_valid(p->keyword) || (eq >= 0 && !value_valid(p->value)))
        return -1;
    return 1;
}

static int hex_digit(char c)
{
    return ascii_digit(c) ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int smtp_xtext_decode(struct span text, struct buf *out)
{
    char *to = buf_room(out, text.n);
    size_t n = 0;
    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];
        if (c < 33 || c > 126 || c == '=')
            return -1;
        if (c == '+') {
            int hi = i + 2 < text.n ? hex_digit(text.p[i + 1]) : -1, lo = hi >= 0 ? hex_digit(text.p[i + 2]) : -1;
            if (lo < 0)
                return -1;
            c = (unsigned char)(hi << 4 | lo);
            i += 2;
        }
        to[n++] = (char)c;
    }
    out->n += n;
    return 0;
}

void smtp_xtext_encode(struct span bytes, struct buf *out)
{
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < bytes.n; i++) {
        unsigned char c = (unsigned char)bytes.p[i];
        if (c < 33 || c > 126 || c == '+' || c == '=') {
            buf_addc(out, '+');
            buf_addc(out, hex[c >> 4]);
            c = (unsigned char)hex[c & 15];
        }
        buf_addc(out, (char)c);
    }
}
