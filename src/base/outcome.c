#include "base/outcome.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* As it is: fits, and has nothing that would have to be changed. */
static bool is_plain(struct span s)
{
    bool plain = s.n < sizeof((struct outcome *)0)->text;
    for (size_t i = 0; plain && i < s.n; i++)
        plain = s.p[i] >= 0x20 && s.p[i] < 0x7f;
    return plain;
}

static void set_text(struct outcome *o, struct span s)
{
    if (is_plain(s)) {
        if (s.n)
            memcpy(o->text, s.p, s.n);
        o->text[s.n] = '\0';
        return;
    }
    size_t n = span_utf8_cut(s, sizeof o->text - 1).n;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        o->text[i] = c < 0x20 || c == 0x7f ? ' ' : (char)c;
    }
    if (!span_is_utf8(span_make(o->text, n)))
        for (size_t i = 0; i < n; i++)
            if ((unsigned char)o->text[i] > 0x7f)
                o->text[i] = '?';
    o->text[n] = '\0';
}

struct outcome outcome_text(enum outcome_kind kind, unsigned code, unsigned subject, unsigned detail, struct span text)
{
    struct outcome o;
    o.kind = (uint8_t)kind;
    o.code = (uint16_t)code;
    o.subject = (uint16_t)subject;
    o.detail = (uint16_t)detail;
    set_text(&o, text);
    return o;
}

struct outcome outcome_make(enum outcome_kind kind, unsigned code, unsigned subject, unsigned detail, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    if (!strchr(fmt, '%')) /* as most */
        return outcome_text(kind, code, subject, detail, span_of(fmt));
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return outcome_text(kind, code, subject, detail, span_of(text));
}

/* "5.1.1 rest" → the three numbers; the class must agree with the reply code (RFC 2034 §4). */
static bool take_enhanced(struct span *s, unsigned kind, struct outcome *o)
{
    struct span rest = *s, word = span_word(&rest);
    struct span a = span_cut(&word, '.'), b = span_cut(&word, '.');
    uint64_t cls, subject, detail;
    if (!span_u64(a, 5, &cls) || !span_u64(b, 999, &subject) || !span_u64(word, 999, &detail) || cls != kind)
        return false;
    o->subject = (uint16_t)subject;
    o->detail = (uint16_t)detail;
    *s = rest;
    return true;
}

struct outcome outcome_from_reply(unsigned code, struct span text)
{
    struct outcome o = {.code = (uint16_t)code};
    o.kind = code / 100 == 2 ? OUTCOME_DONE : code / 100 == 5 ? OUTCOME_FAILED : OUTCOME_RETRY;
    take_enhanced(&text, o.kind, &o);
    set_text(&o, text);
    return o;
}

void outcome_put_status(struct buf *out, unsigned kind, unsigned subject, unsigned detail)
{
    buf_addn(out, kind);
    buf_addc(out, '.');
    buf_addn(out, subject);
    buf_addc(out, '.');
    buf_addn(out, detail);
}

void outcome_put(struct buf *out, const struct outcome *o)
{
    if (o->code) {
        buf_addn(out, o->code);
        buf_addc(out, ' ');
    }
    outcome_put_status(out, o->kind, o->subject, o->detail);
    buf_addc(out, ' ');
    buf_adds(out, o->text);
}
