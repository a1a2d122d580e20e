#include "mail/dsn.h"

#include "mail/date.h"

#define HALF_LINE_BYTES 450 /* of two that share a line */
#define LINE_MAX_BYTES 900 /* of a field that holds somebody's words; RFC5322:2.1.1 allows 998 */

/* ---- pieces ---- */

/* Somebody's words on one line: no line breaks, no control characters, not longer than a line may be. */
static void put_line(struct buf *out, struct span s)
{
    s = span_sub(s, 0, LINE_MAX_BYTES);
    for (size_t i = 0; i < s.n; i++)
        buf_addc(out, (unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f ? ' ' : s.p[i]);
}

static int hex(char c)
{
    return ascii_digit(c) ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* RFC3461:4 xtext; what is not well-formed stays as it is. */
static void put_xtext(struct buf *out, struct span s)
{
    for (size_t i = 0; i < s.n; i++) {
        int hi = s.p[i] == '+' && i + 2 < s.n ? hex(s.p[i + 1]) : -1, lo = hi >= 0 ? hex(s.p[i + 2]) : -1;
        char c = s.p[i];
        if (lo >= 0) {
            c = (char)(hi << 4 | lo);
            i += 2;
        }
        buf_addc(out, (unsigned char)c < 0x20 || c == 0x7f ? ' ' : c);
    }
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

static bool international(const struct dsn *d)
{
    for (size_t i = 0; i < d->count; i++)
        if (!span_is_ascii(d->rcpts[i].address) || !span_is_ascii(d->rcpts[i].given) || !span_is_ascii(d->rcpts[i].why))
            return true;
    return false;
}

/* ---- the parts ---- */

static const struct {
    const char *name, *subject, *says, *then;
} about[DSN_ACTIONS] = {
    [DSN_FAILED] =
        {"failed", "Your message could not be delivered", "could not be delivered to:",
         "Nothing more will be tried. Please check the address. If it is right, write to the\r\n"
         "recipient in another way, or to the postmaster of the domain, and pass on the\r\nreason above.\r\n"},
    [DSN_DELAYED] = {"delayed", "Your message is delayed", "could not be delivered yet to:",
                     "It is being tried further; there is nothing that you need to do.\r\n"},
    [DSN_EXPANDED] = {"expanded", "Your message was passed on", "was passed on to all behind:",
                      "You will hear of those only if one of them can't be reached and you asked to be told.\r\n"},
    [DSN_RELAYED] = {"relayed", "Your message was passed on",
                     "was taken by the next server for:", "That server does not tell whether it was delivered.\r\n"},
    [DSN_DELIVERED] = {"delivered", "Your message was delivered", "was delivered to:", ""},
};

/* The one that matters most. */
static enum dsn_action first_action(const struct dsn *d)
{
    enum dsn_action first = DSN_DELIVERED;
    for (size_t i = 0; i < d->count; i++)
        first = MIN_OF(first, (enum dsn_action)d->rcpts[i].action);
    return d->count ? first : DSN_FAILED;
}

static void put_header(struct buf *out, const struct dsn *d, struct span boundary)
{
    buf_adds(out, "Date: ");
    date_put(out, d->now, 0);
    buf_printf(out, "\r\nFrom: Mail Delivery System <MAILER-DAEMON@%.*s>\r\nTo: <", SPANV(d->reporting_mta));
    put_line(out, d->to);
    buf_printf(out, ">\r\nSubject: %s\r\nMessage-ID: <%.*s@%.*s>\r\n", about[first_action(d)].subject, SPANV(d->qid),
               SPANV(d->reporting_mta));
    if (d->message_id.n) {
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

/* The transcript, a line for each reply. */
static void put_dialogue(struct buf *out, struct span all)
{
    const struct span between = SPAN(" | ");
    if (!all.n)
        return;
    buf_adds(out, "    What was said there:\r\n");
    for (ptrdiff_t at; all.n; all = span_from(all, (size_t)at + between.n)) {
        at = span_search(all, between);
        at = at < 0 ? (ptrdiff_t)all.n : at;
        buf_adds(out, "      ");
        put_line(out, span_sub(all, 0, (size_t)at));
        buf_adds(out, "\r\n");
    }
}

static void put_human_rcpt(struct buf *out, const struct dsn_rcpt *r)
{
    buf_adds(out, "  ");
    put_line(out, r->given);
    buf_adds(out, "\r\n");
    if (!span_eq(r->given, r->address)) {
        buf_adds(out, "    (which leads to ");
        put_line(out, r->address);
        buf_adds(out, ")\r\n");
    }
    if (r->action > DSN_DELAYED)
        return;
    if (r->late)
        buf_adds(out, r->action == DSN_FAILED
                          ? "    You asked for it back when it is not delivered by a certain time, which has passed.\r\n"
                          : "    The time by which you wanted it delivered has passed.\r\n");
    if (r->expired)
        buf_printf(out, "    It was tried %u times, without success. The last answer was:\r\n", r->attempts);
    buf_adds(out, "    ");
    if (r->host.n) {
        put_line(out, span_sub(r->host, 0, HALF_LINE_BYTES));
        buf_adds(out, " said: ");
    }
    if (r->code)
        buf_printf(out, "%u ", r->code);
    put_line(out, r->why.n ? span_sub(r->why, 0, HALF_LINE_BYTES) : SPAN("no reason is known"));
    buf_adds(out, "\r\n");
    if (r->action == DSN_FAILED)
        put_dialogue(out, r->dialogue);
}

/* Recipients of whom the same is to be said. */
static void put_group(struct buf *out, const struct dsn *d, unsigned action)
{
    bool any = false;
    for (size_t i = 0; i < d->count; i++) {
        if (d->rcpts[i].action != action)
            continue;
        if (!any)
            buf_printf(out, "%s%s\r\n\r\n", action > first_action(d) ? "\r\nIt " : "", about[action].says);
        any = true;
        put_human_rcpt(out, &d->rcpts[i]);
    }
    if (any && about[action].then[0])
        buf_printf(out, "\r\n%s", about[action].then);
}

static void put_human(struct buf *out, const struct dsn *d)
{
    buf_adds(out, "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n");
    buf_printf(out, "This is the mail server of %.*s.\r\n\r\nYour message of ", SPANV(d->reporting_mta));
    date_put(out, d->arrival, 0);
    buf_adds(out, "\r\n");
    for (unsigned action = 0; action < DSN_ACTIONS; action++)
        put_group(out, d, action);
    if (d->unlisted)
        buf_printf(out, "\r\nThere are %zu more recipients that are not listed here.\r\n", d->unlisted);
    buf_printf(out, "\r\nOur reference: %.*s\r\n", SPANV(d->original_qid));
}

/* RFC3464:2.3 */
static void put_machine_rcpt(struct buf *out, const struct dsn_rcpt *r)
{
    buf_adds(out, "\r\n");
    struct span orcpt = r->orcpt, type = span_cut(&orcpt, ';');
    if (orcpt.n && type.n) {
        buf_adds(out, "Original-Recipient: ");
        put_line(out, type);
        buf_addc(out, ';');
        put_xtext(out, orcpt);
        buf_adds(out, "\r\n");
    }
    buf_adds(out, "Final-Recipient: ");
    put_address(out, r->address);
    buf_printf(out, "\r\nAction: %s\r\nStatus: %u.%u.%u\r\n", about[r->action].name, r->kind, r->subject, r->detail);
    if (r->host.n) {
        struct span host = span_cut(&(struct span){r->host.p, r->host.n}, '[');
        buf_adds(out, "Remote-MTA: dns; ");
        put_line(out, host.n ? host : r->host);
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
    bool utf8 = international(d);
    buf_adds(out, utf8 ? "Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
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
        put_line(out, d->hold);
        buf_adds(out, "\r\n");
    }
    for (size_t i = 0; i < d->count; i++)
        put_machine_rcpt(out, &d->rcpts[i]);
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
    put_human(out, d);
    buf_printf(out, "\r\n--%.*s\r\n", SPANV(b));
    put_machine(out, d);
    buf_printf(out, "\r\n--%.*s\r\n", SPANV(b));
    put_original(out, d);
    buf_printf(out, "\r\n--%.*s--\r\n", SPANV(b));
    buf_free(&boundary);
    return header;
}
