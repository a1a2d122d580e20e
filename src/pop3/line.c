/* See line.h. What comes in is a stranger's: nothing of it is kept here. */
#include "pop3/line.h"

enum pop3_line pop3_take_line(struct pop3_lines *l, struct span in, size_t max, size_t *used, struct span *line)
{
    ptrdiff_t end = span_find(in, '\n');
    *line = SPAN_NONE;
    if (end < 0 && (l->swallowing || in.n >= max)) {
        l->swallowing = true;
        *used = in.n;
        return POP3_LINE_MORE;
    }
    if (end < 0) {
        *used = 0;
        return POP3_LINE_MORE;
    }
    *used = (size_t)end + 1;
    bool too_long = l->swallowing || *used > max;
    l->swallowing = false;
    *line = span_sub(in, 0, (size_t)end);
    if (line->n && line->p[line->n - 1] == '\r')
        line->n--;
    return too_long ? POP3_LINE_LONG : POP3_LINE_WHOLE;
}

struct pop3_command pop3_split(struct span line)
{
    struct pop3_command c = {.args = line};
    c.keyword = span_cut(&c.args, ' ');
    return c;
}

bool pop3_clean(struct span line)
{
    return !span_has_control(line);
}

/* In the order of RFC2449:6. RFC2449:6.1 TOP, 6.2 USER, 6.3 SASL, 6.4 RESP-CODES, 6.6 PIPELINING, 6.7 EXPIRE, 6.8
 * UIDL; RFC2595:4 STLS; AUTH-RESP-CODE is RFC 3206's. */
void pop3_put_capabilities(struct buf *out, enum pop3_when when, bool starttls, struct span mechanisms)
{
    buf_adds(out, "+OK what this server can\r\nTOP\r\n");
    if (when != POP3_NO_LOGIN_YET)
        buf_printf(out, "USER\r\nSASL %.*s\r\n", SPANV(mechanisms));
    buf_adds(out, "RESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\nEXPIRE NEVER\r\nUIDL\r\n");
    if (starttls)
        buf_adds(out, "STLS\r\n");
    buf_adds(out, ".\r\n");
}
