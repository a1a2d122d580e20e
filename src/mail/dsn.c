#include "mail/dsn.h"

#include "mail/date.h"
#include "mail/dsn_priv.h"

static const char *const actions[DSN_ACTIONS] = {
    [DSN_FAILED] = "failed",   [DSN_DELAYED] = "delayed",     [DSN_EXPANDED] = "expanded",
    [DSN_RELAYED] = "relayed", [DSN_DELIVERED] = "delivered",
};

/* ---- pieces ---- */

/* The length of the well-formed UTF-8 sequence at the front; 0: it is none. */
static size_t sequence(struct span s)
{
    for (size_t n = 2; n <= 4 && n <= s.n; n++)
        if (span_is_utf8(span_sub(s, 0, n)))
            return n;
    return 0;
}

void dsn_put_line(struct buf *out, struct span s, size_t max)
{
    size_t end = out->n + max;
    while (s.n && out->n < end) {
        unsigned char c = (unsigned char)s.p[0];
        size_t n = c < 0x80 ? 1 : sequence(s);
        if (n > end - out->n)
            return;
        if (n > 1)
            buf_add(out, span_sub(s, 0, n));
        else
            buf_addc(out, n == 0 ? '?' : c < 0x20 || c == 0x7f ? ' ' : (char)c);
        s = span_from(s, MAX_OF(n, (size_t)1));
    }
}

static void put_line(struct buf *out, struct span s)
{
    dsn_put_line(out, s, DSN_LINE);
}

/* The same in a field that is ASCII in every notification. */
static void put_ascii(struct buf *out, struct span s)
{
    size_t start = out->n;
    put_line(out, s);
    for (size_t i = start; i < out->n; i++)
        if ((unsigned char)out->p[i] >= 0x80)
            out->p[i] = '?';
}

static int hex(char c)
{
    return ascii_digit(c) ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* RFC3461:4 xtext; what is not well-formed stays as it is. */
static void put_xtext(struct buf *out, struct span s)
{
    struct buf text = {0};
    for (size_t i = 0; i < s.n; i++) {
        int hi = s.p[i] == '+' && i + 2 < s.n ? hex(s.p[i + 1]) : -1, lo = hi >= 0 ? hex(s.p[i + 2]) : -1;
        buf_addc(&text, lo >= 0 ? (char)(hi << 4 | lo) : s.p[i]);
        i += lo >= 0 ? 2 : 0;
    }
    put_ascii(out, buf_span(&text));
    buf_free(&text);
}

static void put_code_point(struct buf *out, uint32_t u)
{
    if (u < 0x80) {
        buf_addc(out, (char)u);
        return;
    }
    unsigned more = u < 0x800 ? 1 : u < 0x10000 ? 2 : 3;
    static const unsigned char first[] = {0, 0xc0, 0xe0, 0xf0};
    buf_addc(out, (char)(first[more] | u >> (6 * more)));
    while (more-- > 0)
        buf_addc(out, (char)(0x80 | (u >> (6 * more) & 0x3f)));
}

/* RFC6533:3 EmbeddedUnicodeChar: "\x{HEXPOINT}" at the front of s. */
static bool take_embedded(struct span *s, uint32_t *u)
{
    ptrdiff_t end = span_find(*s, '}');
    if (!span_starts(*s, SPAN("\\x{")) || end < 5 || end > 9)
        return false;
    *u = 0;
    for (ptrdiff_t i = 3; i < end; i++) {
        int digit = hex(s->p[i]);
        if (digit < 0)
            return false;
        *u = *u << 4 | (uint32_t)digit;
    }
    *s = span_from(*s, (size_t)end + 1);
    return *u >= 0x20 && *u != 0x7f && *u <= 0x10ffff;
}

/* RFC6533:3: utf-8-addr-xtext and utf-8-addr-unitext as the address that they stand for. False: it is neither. */
static bool from_unitext(struct span s, struct buf *out)
{
    while (s.n) {
        uint32_t u;
        char c = s.p[0];
        if (c == '+' || c == '=' || c == ' ')
            return false;
        if (c != '\\') {
            buf_addc(out, c);
            s = span_from(s, 1);
        } else if (take_embedded(&s, &u)) {
            put_code_point(out, u);
        } else {
            return false;
        }
    }
    return span_is_utf8(buf_span(out)); /* surrogates are not */
}

/* RFC6533:3, RFC6533:4.1: the address itself where the part may hold it, else as it was given, which then is ASCII. What is not
 * of that syntax is copied without alteration. */
static void put_utf8_address(struct buf *out, struct span given, bool global)
{
    struct buf address = {0};
    if (global && from_unitext(given, &address))
        put_line(out, buf_span(&address));
    else
        put_line(out, given);
    buf_free(&address);
}

static void put_address(struct buf *out, struct span address)
{
    buf_adds(out, span_is_ascii(address) ? "rfc822;" : "utf-8;"); /* RFC6533:3 */
    put_line(out, address);
}

/* A boundary that is not in the header that we quote. */
static void put_boundary(struct buf *out, const struct dsn *d)
{
    for (unsigned i = 0;; i++) {
        struct buf b = {0};
        buf_printf(&b, "=_%.*s_%u", SPANV(d->qid), i);
        bool free_ = span_search(d->header, buf_span(&b)) < 0;
        if (free_)
            buf_add(out, buf_span(&b));
        buf_free(&b);
        if (free_)
            return;
    }
}

/* Whether the part for machines holds what is not ASCII (RFC6533:4.1). */
static bool international(const struct dsn *d)
{
    for (size_t i = 0; i < d->count; i++)
        if (!span_is_ascii(d->rcpts[i].address) || !span_is_ascii(d->rcpts[i].orcpt) || !span_is_ascii(d->rcpts[i].why))
            return true;
    return false;
}

/* ---- the parts ---- */

enum dsn_action dsn_first_action(const struct dsn *d)
{
    enum dsn_action first = DSN_DELIVERED;
    for (size_t i = 0; i < d->count; i++)
        first = MIN_OF(first, (enum dsn_action)d->rcpts[i].action);
    return d->count ? first : DSN_FAILED;
}

/* A header beyond ASCII needs SMTPUTF8 (RFC6531:3.1), which is asked for where the sender's own address does. */
static bool fits_header(const struct dsn *d, struct span id)
{
    return id.n && (span_is_ascii(id) || (!span_is_ascii(d->to) && span_is_utf8(id)));
}

static void put_header(struct buf *out, const struct dsn *d, struct span boundary)
{
    buf_adds(out, "Date: ");
    date_put(out, d->now, 0);
    buf_adds(out, "\r\nFrom: ");
    dsn_put_from(out, d);
    buf_printf(out, " <MAILER-DAEMON@%.*s>\r\nTo: <", SPANV(d->reporting_mta));
    put_line(out, d->to);
    buf_adds(out, ">\r\nSubject: ");
    dsn_put_subject(out, d);
    buf_printf(out, "\r\nMessage-ID: <%.*s@%.*s>\r\n", SPANV(d->qid), SPANV(d->reporting_mta));
    if (fits_header(d, d->message_id)) {
        buf_adds(out, "In-Reply-To: ");
        put_line(out, d->message_id);
        buf_adds(out, "\r\nReferences: ");
        put_line(out, d->message_id);
        buf_adds(out, "\r\n");
    }
    buf_printf(out,
               "Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"
               "Content-Type: multipart/report; report-type=delivery-status;\r\n boundary=\"%.*s\"\r\n",
               SPANV(boundary)); /* RFC3834:5, RFC6522:3 */
}

/* RFC3464:2.3 */
static void put_machine_rcpt(struct buf *out, const struct dsn_rcpt *r, bool global)
{
    buf_adds(out, "\r\n");
    struct span orcpt = r->orcpt, type = span_cut(&orcpt, ';');
    if (orcpt.n && type.n) {
        buf_adds(out, "Original-Recipient: ");
        put_ascii(out, type);
        buf_addc(out, ';');
        if (span_ieqs(type, "utf-8"))
            put_utf8_address(out, orcpt, global);
        else
            put_xtext(out, orcpt);
        buf_adds(out, "\r\n");
    }
    buf_adds(out, "Final-Recipient: ");
    put_address(out, r->address);
    buf_printf(out, "\r\nAction: %s\r\nStatus: %u.%u.%u\r\n", actions[r->action], r->kind, r->subject, r->detail);
    if (r->host.n) {
        struct span host = span_cut(&(struct span){r->host.p, r->host.n}, '[');
        buf_adds(out, "Remote-MTA: dns; ");
        put_ascii(out, host.n ? host : r->host);
        buf_adds(out, "\r\n");
    }
    if (r->code) {
        buf_printf(out, "Diagnostic-Code: smtp; %u ", r->code);
        put_line(out, r->why);
        buf_adds(out, "\r\n");
    } else if (r->why.n) {
        buf_adds(out, "Diagnostic-Code: x-waypost; ");
        put_line(out, r->why);
        buf_adds(out, "\r\n");
    }
    if (r->last_attempt) {
        buf_adds(out, "Last-Attempt-Date: ");
        date_put(out, r->last_attempt, 0);
        buf_adds(out, "\r\n");
    }
    if (r->action == DSN_DELAYED && r->retry_until) {
        buf_adds(out, "Will-Retry-Until: ");
        date_put(out, r->retry_until, 0);
        buf_adds(out, "\r\n");
    }
}

/* RFC3464:2.2 */
static void put_machine(struct buf *out, const struct dsn *d)
{
    bool global = international(d);
    buf_adds(out, global ? "Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
                         : "Content-Type: message/delivery-status\r\n\r\n");
    if (d->envid.n) {
        buf_adds(out, "Original-Envelope-Id: ");
        put_xtext(out, d->envid);
        buf_adds(out, "\r\n");
    }
    buf_printf(out, "Reporting-MTA: dns; %.*s\r\nArrival-Date: ", SPANV(d->reporting_mta));
    date_put(out, d->arrival, 0);
    buf_adds(out, "\r\n");
    if (d->deliver_by) { /* RFC2852:5 */
        buf_adds(out, "Deliver-By-Date: ");
        date_put(out, d->deliver_by, 0);
        buf_adds(out, "\r\n");
    }
    if (d->hold.n) { /* RFC4865:5.1.2 */
        buf_adds(out, "Future-Release-Request: ");
        put_ascii(out, d->hold);
        buf_adds(out, "\r\n");
    }
    for (size_t i = 0; i < d->count; i++)
        put_machine_rcpt(out, &d->rcpts[i], global);
}

/* Up to the last whole line; a part must end with one. */
static struct span whole_lines(struct span s)
{
    ptrdiff_t last = span_rfind(s, '\n');
    return span_sub(s, 0, (size_t)(last + 1));
}

/* RFC6532:3.7: such a message is message/global. */
static bool international_header(struct span message)
{
    ptrdiff_t end = span_search(message, SPAN("\r\n\r\n"));
    return !span_is_ascii(span_sub(message, 0, end < 0 ? message.n : (size_t)end));
}

static void put_original(struct buf *out, const struct dsn *d)
{
    struct span header = d->header_cut ? whole_lines(d->header) : d->header;
    if (d->whole)
        buf_printf(out, "Content-Type: message/%s\r\n%s\r\n", international_header(header) ? "global" : "rfc822",
                   span_is_ascii(header) ? "" : "Content-Transfer-Encoding: 8bit\r\n");
    else if (span_is_ascii(header))
        buf_adds(out, "Content-Type: text/rfc822-headers\r\n\r\n");
    else
        buf_adds(out, "Content-Type: message/global-headers\r\nContent-Transfer-Encoding: 8bit\r\n\r\n");
    buf_add(out, header);
    if (header.n && !span_ends(header, SPAN("\n")))
        buf_adds(out, "\r\n");
}

size_t dsn_write(struct buf *out, const struct dsn *d)
{
    struct buf boundary = {0};
    size_t start = out->n;
    put_boundary(&boundary, d);
    struct span b = buf_span(&boundary);
    put_header(out, d, b);
    size_t header = out->n - start;
    buf_printf(out, "\r\n--%.*s\r\n", SPANV(b));
    dsn_put_human(out, d);
    buf_printf(out, "\r\n--%.*s\r\n", SPANV(b));
    put_machine(out, d);
    buf_printf(out, "\r\n--%.*s\r\n", SPANV(b));
    put_original(out, d);
    buf_printf(out, "\r\n--%.*s--\r\n", SPANV(b));
    buf_free(&boundary);
    return header;
}
