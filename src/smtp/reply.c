/* Writing SMTP replies: RFC5321:4.2, enhanced codes RFC2034:4. The only place where reply bytes are made, so that no
 * text from outside can start a line of its own (HAZARDS 7). */
#include "smtp/reply.h"

/* Control characters become blanks; bytes above 0x7f become "?", as nobody negotiated UTF-8 replies (RFC6531:3.7.4.1).
 */
static void add_text(struct buf *out, struct span text, size_t room, bool utf8)
{
    size_t n = MIN_OF(text.n, room);
    utf8 = utf8 && n == text.n && span_is_utf8(text);
    char *to = buf_room(out, n);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text.p[i];
        to[i] = c < 0x20 || c == 0x7f ? ' ' : c >= 0x80 && !utf8 ? '?' : (char)c;
    }
    out->n += n;
}

static void put_line(struct buf *out, unsigned code, const char *status, bool more, struct span text, bool utf8)
{
    size_t start = out->n;
    char digits[4] = {(char)('0' + code / 100 % 10), (char)('0' + code / 10 % 10), (char)('0' + code % 10),
                      more ? '-' : ' '};
    buf_add(out, span_make(digits, 4));
    if (status) {
        buf_adds(out, status);
        buf_addc(out, ' ');
    }
    add_text(out, text, SMTP_REPLY_LINE_MAX - 2 - (out->n - start), utf8);
    buf_add(out, SPAN("\r\n"));
}

void smtp_reply_line(struct buf *out, unsigned code, const char *status, bool more, struct span text)
{
    put_line(out, code, status, more, text, false);
}

void smtp_reply_line_utf8(struct buf *out, unsigned code, const char *status, bool more, struct span text)
{
    put_line(out, code, status, more, text, true);
}

void smtp_reply_put(struct buf *out, unsigned code, const char *status, struct span text)
{
    smtp_reply_line(out, code, status, false, text);
}

void smtp_reply_outcome(struct buf *out, const struct outcome *o)
{
    char status[24];
    struct buf b = {.p = status, .cap = sizeof status};
    unsigned code = o->code;
    if (code / 100 != o->kind)
        code = o->kind == OUTCOME_DONE ? 250 : o->kind == OUTCOME_RETRY ? 451 : 550;
    outcome_put_status(&b, o->kind, o->subject % 1000u, o->detail % 1000u);
    smtp_reply_put(out, code, buf_cstr(&b), span_of(o->text));
}
