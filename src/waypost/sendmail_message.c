/* What sendmail makes of the text it is given. */
#include "base/base64.h"
#include "smtp/path.h"
#include "waypost/sendmail.h"

#define WORD_BYTES 42 /* of an encoded word, RFC2047:2 */

void sendmail_lines(struct span raw, bool dot_ends, struct buf *out)
{
    bool first = true;
    while (raw.n) {
        size_t n = 0;
        while (n < raw.n && raw.p[n] != '\n' && raw.p[n] != '\r')
            n++;
        struct span line = span_sub(raw, 0, n);
        n += n + 1 < raw.n && raw.p[n] == '\r' && raw.p[n + 1] == '\n' ? 2 : 1;
        raw = span_from(raw, n);
        if (dot_ends && span_eqs(line, "."))
            return;
        if (!first || !span_starts(line, SPAN("From "))) {
            buf_add(out, line);
            buf_adds(out, "\r\n");
        }
        first = false;
    }
}

static bool is_field(struct span line)
{
    ptrdiff_t colon = span_find(line, ':');
    struct span name = span_trim(span_sub(line, 0, colon < 0 ? 0 : (size_t)colon));
    for (size_t i = 0; i < name.n; i++)
        if (name.p[i] <= ' ' || name.p[i] > '~')
            return false;
    return name.n && line.p == name.p;
}

size_t sendmail_header_length(struct span lines)
{
    struct span rest = lines;
    size_t length = 0;
    while (rest.n) {
        struct span line = span_cut(&rest, '\n');
        bool goes_on = length && (line.p[0] == ' ' || line.p[0] == '\t');
        if (!goes_on && !is_field(line))
            break;
        length = lines.n - rest.n;
    }
    return length;
}

static void add_field(const struct header_field *f, struct span domain, struct buf *out)
{
    if (!recipients_field(f->name)) {
        buf_add(out, f->raw);
        if (!span_ends(f->raw, SPAN("\r\n")))
            buf_adds(out, "\r\n");
        return;
    }
    buf_add(out, f->name);
    buf_addc(out, ':');
    recipients_qualify(f->value, domain, out);
    buf_adds(out, "\r\n");
}

void sendmail_complete(struct span lines, struct span from, struct span domain, struct buf *out)
{
    size_t n = sendmail_header_length(lines);
    struct span head = span_sub(lines, 0, n), body = span_from(lines, n), has;
    struct header_field f;
    if (!header_find(head, "From", &has)) {
        buf_adds(out, "From: ");
        buf_add(out, from);
        buf_adds(out, "\r\n");
    }
    while (head.n && header_next(&head, &f))
        add_field(&f, domain, out);
    if (!span_starts(body, SPAN("\r\n")))
        buf_adds(out, "\r\n");
    buf_add(out, body);
}

/* ---- From ---- */

static void add_encoded(struct span name, struct buf *out)
{
    while (name.n) {
        size_t n = MIN_OF(name.n, (size_t)WORD_BYTES);
        while (n < name.n && n > 1 && ((unsigned char)name.p[n] & 0xc0) == 0x80)
            n--;
        buf_adds(out, "=?utf-8?B?");
        base64_encode(span_sub(name, 0, n), out);
        buf_adds(out, "?= ");
        name = span_from(name, n);
    }
}

void sendmail_from(struct span name, struct span address, struct buf *out)
{
    name = span_sub(name, 0, 200);
    bool fit = name.n && !span_has_control(name);
    if (fit && span_is_ascii(name)) {
        buf_add_quoted(out, name);
        buf_addc(out, ' ');
    } else if (fit && span_is_utf8(name)) {
        add_encoded(name, out);
    }
    if (fit && (span_is_ascii(name) || span_is_utf8(name)))
        buf_addc(out, '<');
    buf_add(out, address);
    if (fit && (span_is_ascii(name) || span_is_utf8(name)))
        buf_addc(out, '>');
}

/* ---- the session ---- */

static void add_mail(const struct sendmail_options *o, const struct sendmail_envelope *e, struct buf *out)
{
    bool ascii = span_is_ascii(e->sender);
    for (size_t i = 0; i < e->to->n; i++)
        ascii &= span_is_ascii(e->to->list[i]);
    buf_printf(out, "MAIL FROM:<%.*s> XTOKEN=%s", SPANV(e->sender), e->token);
    if (!o->seven_bit && !span_is_ascii(e->message))
        buf_adds(out, " BODY=8BITMIME");
    if (!ascii)
        buf_adds(out, " SMTPUTF8");
    if (o->ret)
        buf_printf(out, " RET=%s", o->ret);
    if (o->envid) {
        buf_adds(out, " ENVID=");
        smtp_xtext_encode(span_of(o->envid), out);
    }
    buf_adds(out, "\r\n");
}

size_t sendmail_batch(const struct sendmail_options *o, const struct sendmail_envelope *e, struct buf *out)
{
    struct span rest = e->message;
    buf_printf(out, "EHLO %.*s\r\n", SPANV(e->host));
    add_mail(o, e, out);
    for (size_t i = 0; i < e->to->n; i++)
        buf_printf(out, "RCPT TO:<%.*s>%s%s\r\n", SPANV(e->to->list[i]), o->notify ? " NOTIFY=" : "", o->notify ? o->notify : "");
    buf_adds(out, "DATA\r\n");
    size_t content = out->n;
    while (rest.n) {
        struct span line = span_cut(&rest, '\n');
        if (line.n && line.p[0] == '.')
            buf_addc(out, '.'); /* RFC5321:4.5.2 */
        buf_add(out, line);
        buf_addc(out, '\n');
    }
    buf_adds(out, ".\r\nQUIT\r\n");
    return content;
}
