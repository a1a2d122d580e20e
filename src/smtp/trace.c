/* The Received field. Whatever the client said of itself is checked before it is written: it can't end a comment or a
 * line (HAZARDS 7). */
#include "smtp/trace.h"

#include "mail/date.h"
#include "smtp/path.h"

/* RFC3848, RFC4954:7, RFC6531:4.3 */
static const char *protocol(const struct smtp_trace *t)
{
    if (!t->esmtp)
        return "SMTP";
    if (t->smtputf8)
        return t->tls.n ? (t->authenticated ? "UTF8SMTPSA" : "UTF8SMTPS") : t->authenticated ? "UTF8SMTPA" : "UTF8SMTP";
    if (t->tls.n)
        return t->authenticated ? "ESMTPSA" : "ESMTPS";
    return t->authenticated ? "ESMTPA" : "ESMTP";
}

/* RFC5321:4.1.3 */
static void literal(struct buf *out, struct span address)
{
    buf_addc(out, '[');
    if (span_find(address, ':') >= 0)
        buf_add(out, SPAN("IPv6:"));
    buf_add(out, address);
    buf_addc(out, ']');
}

static bool comment_safe(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!ascii_alpha(s.p[i]) && !ascii_digit(s.p[i]) && !strchr(" ._-", s.p[i]))
            return false;
    return s.n > 0;
}

static void client(struct buf *out, const struct smtp_trace *t)
{
    buf_add(out, SPAN(" ("));
    if (t->name.n && smtp_domain_valid(t->name, 0)) {
        buf_add(out, t->name);
        buf_addc(out, ' ');
    }
    literal(out, t->remote);
    buf_addc(out, ')');
}

void smtp_trace_received(struct buf *out, const struct smtp_trace *t)
{
    buf_add(out, SPAN("Received: from "));
    buf_add(out, !t->hidden && smtp_domain_valid(t->helo, 0) ? t->helo : SPAN("unknown"));
    if (!t->hidden)
        client(out, t);
    buf_add(out, SPAN("\r\n\tby "));
    buf_add(out, t->by);
    buf_add(out, SPAN(" with "));
    buf_adds(out, protocol(t));
    if (comment_safe(t->tls)) {
        buf_add(out, SPAN(" ("));
        buf_add(out, t->tls);
        buf_addc(out, ')');
    }
    if (t->id.n) {
        buf_add(out, SPAN(" id "));
        buf_add(out, t->id);
    }
    if (t->for_.n && span_is_ascii(t->for_)) {
        buf_add(out, SPAN("\r\n\tfor <"));
        buf_add(out, t->for_);
        buf_addc(out, '>');
    }
    if (t->priority) /* RFC6710:4.1 */
        buf_printf(out, "\r\n\tpriority %d", t->priority);
    buf_add(out, SPAN(";\r\n\t"));
    date_put(out, t->seconds, t->zone);
    buf_add(out, SPAN("\r\n"));
}

/* RFC5322:3.6.7: there was no host that it came from. */
void smtp_trace_local(struct buf *out, struct span by, uint32_t uid, int64_t seconds, int zone)
{
    buf_add(out, SPAN("Received: by "));
    buf_add(out, by);
    buf_printf(out, " (Waypost, from userid %u);\r\n\t", uid);
    date_put(out, seconds, zone);
    buf_add(out, SPAN("\r\n"));
}

void smtp_trace_date(struct buf *out, int64_t seconds, int zone)
{
    buf_add(out, SPAN("Date: "));
    date_put(out, seconds, zone);
    buf_add(out, SPAN("\r\n"));
}

void smtp_trace_sender(struct buf *out, struct span address)
{
    buf_printf(out, "Sender: <%.*s>\r\n", SPANV(address));
}

void smtp_trace_message_id(struct buf *out, struct span unique, struct span host)
{
    static const char hex[] = "0123456789abcdef";
    buf_add(out, SPAN("Message-ID: <"));
    for (size_t i = 0; i < unique.n; i++) {
        buf_addc(out, hex[(unsigned char)unique.p[i] >> 4]);
        buf_addc(out, hex[unique.p[i] & 15]);
    }
    buf_addc(out, '@');
    buf_add(out, host);
    buf_add(out, SPAN(">\r\n"));
}
