/* The reader of what follows DATA or BDAT. Standards: RFC 5321 §4.1.1.4 and §4.5.2 (the end, transparency), RFC 1870
 * (what counts as size), RFC 3030 §2 (chunks). Trusts nothing. A line is begun by CRLF and by nothing else, so CR or LF
 * alone can never make an end (HAZARDS 1). */
#include "smtp/data.h"

#include "mail/date.h"
#include "mail/header.h"
#include "smtp/results.h"

enum { LINE_START, DOT, DOT_CR, IN_LINE, AFTER_CR };

void smtp_data_begin(struct smtp_data *d, const struct smtp_data_limits *limits)
{
    memset(d, 0, offsetof(struct smtp_data, watch));
    smtp_watch_begin(&d->watch, limits->watched, limits->watched_count);
    d->limits = *limits;
    d->state = LINE_START; /* the CRLF of the DATA command began it (RFC5321:4.1.1.4) */
    d->in_header = true;
}

struct span smtp_data_message_id(const struct smtp_data *d)
{
    return span_trim(span_make(d->id, d->id_n));
}

bool smtp_data_tls_needless(const struct smtp_data *d)
{
    return d->tls_n == 2 && span_ieqs(span_make(d->tls, 2), "no");
}

static void give(struct smtp_data *d, struct span s, struct buf *out)
{
    buf_add(out, s);
    d->given += s.n;
}

/* ---- the header section: which field is this, and what of it is wanted ---- */

static bool name_is(struct span name, const char *what)
{
    return span_ieqs(name, what);
}

/* Fields that are looked at when they are whole. */
enum judged { JUDGED_NOT, JUDGED_RESULTS, JUDGED_DATE, JUDGED_ID };

static void judge(struct smtp_data *d, enum judged what, bool wanted)
{
    d->judged = wanted ? (uint8_t)what : JUDGED_NOT;
    d->judged_begin = d->given;
}

static void results_begin(struct smtp_data *d)
{
    judge(d, JUDGED_RESULTS, d->limits.own.n > 0);
}

/* It is no business of those who get the message. */
static bool leaves(const struct smtp_data *d, struct span name)
{
    return d->limits.strip && (name_is(name, "bcc") || name_is(name, "resent-bcc") || name_is(name, "return-path"));
}

static void note_field(struct smtp_data *d, struct span name)
{
    smtp_watch_field(&d->watch, name);
    if (name_is(name, "received"))
        d->received++;
    else if (name_is(name, "date")) {
        judge(d, JUDGED_DATE, d->limits.strip && !d->has_date);
        d->has_date = true;
    } else if (name_is(name, "from"))
        d->has_from = true;
    else if (name_is(name, "authentication-results"))
        results_begin(d);
    else if (name_is(name, "message-id")) {
        judge(d, JUDGED_ID, d->limits.strip && !d->has_message_id);
        d->take_id = !d->has_message_id;
        d->has_message_id = true;
    } else if (name_is(name, "tls-required")) {
        d->take_tls = !d->has_tls_required;
        d->has_tls_required = true;
    } else
        d->drop = leaves(d, name);
}

/* RFC5322:3.6.4, with what others could refer to all the same: something in angle brackets. */
static bool is_id(struct span value)
{
    header_skip_cfws(&value);
    ptrdiff_t end = span_find(value, '>');
    if (end < 2 || value.p[0] != '<')
        return false;
    for (ptrdiff_t i = 1; i < end; i++)
        if ((unsigned char)value.p[i] <= ' ' || value.p[i] == '<' || value.p[i] == 0x7f)
            return false;
    return true;
}

static bool is_bad(const struct smtp_data *d, struct span value)
{
    struct mail_date date;
    return d->judged == JUDGED_DATE ? date_parse(value, &date) != 0
           : d->judged == JUDGED_ID ? !is_id(value)
                                    : smtp_results_claims(value, d->limits.own);
}

/* A field is taken back out when it says that we wrote it (RFC8601:5), or is no Date or Message-ID: then one is missing (RFC6409:8.2,
 * RFC6409:8.3). All of the header section is still in `out`: the owner is not asked to take content away before its end. */
static void judged_end(struct smtp_data *d, struct buf *out)
{
    uint64_t n = d->given - d->judged_begin;
    struct span field = n <= out->n ? span_from(buf_span(out), out->n - (size_t)n) : SPAN_NONE;
    ptrdiff_t colon = span_find(field, ':');
    if (colon >= 0 && is_bad(d, span_from(field, (size_t)colon + 1))) {
        out->n -= (size_t)n;
        d->given -= n;
        smtp_watch_forget(&d->watch);
        d->has_date = d->has_date && d->judged != JUDGED_DATE;
        d->has_message_id = d->has_message_id && d->judged != JUDGED_ID;
        if (!d->has_message_id)
            d->id_n = 0;
    }
    d->judged = JUDGED_NOT;
}

static void field_ends(struct smtp_data *d, struct buf *out)
{
    if (d->judged)
        judged_end(d, out);
    smtp_watch_end(&d->watch);
}

/* A header line's fate is decided by its first octets; a continuation line shares that of its field (RFC5322:2.2.3). */
static void decide(struct smtp_data *d, struct span line, struct buf *out)
{
    d->decided = true;
    if (line.n && (line.p[0] == ' ' || line.p[0] == '\t'))
        return;
    field_ends(d, out);
    d->drop = d->take_id = d->take_tls = false;
    ptrdiff_t colon = span_find(line, ':');
    if (colon > 0)
        note_field(d, span_trim(span_sub(line, 0, (size_t)colon)));
    else if (colon < 0 && span_istarts(line, SPAN("authentication-results "))) /* RFC5322:4.5.8: blanks before the colon */
        results_begin(d);
    else if (line.n == sizeof d->head) /* as many blanks */
        d->drop = leaves(d, span_trim(line));
}

static void keep_id(struct smtp_data *d, struct span s)
{
    for (size_t i = 0; i < s.n && d->id_n < sizeof d->id; i++)
        if (s.p[i] != '\r' && s.p[i] != '\n' && (d->id_n || (s.p[i] != ' ' && s.p[i] != '\t')))
            d->id[d->id_n++] = s.p[i];
}

static void keep_tls(struct smtp_data *d, struct span s)
{
    for (size_t i = 0; i < s.n && d->tls_n <= sizeof d->tls; i++) {
        if (strchr(" \t\r\n", s.p[i]))
            continue;
        if (d->tls_n < sizeof d->tls)
            d->tls[d->tls_n] = s.p[i];
        d->tls_n++;
    }
}

static void keep_value(struct smtp_data *d, struct span s)
{
    if (d->take_id)
        keep_id(d, s);
    if (d->take_tls)
        keep_tls(d, s);
    smtp_watch_value(&d->watch, s);
}

static void header_out(struct smtp_data *d, struct span s, struct buf *out)
{
    keep_value(d, s);
    if (!d->drop)
        give(d, s, out);
}

/* Whether the front of a line may be that of a field (RFC5322:2.2), or of the line that mailbox files begin a message with, which some
 * senders leave in place. */
static bool may_be_field(struct span front, size_t most)
{
    size_t n = 0;
    front = span_sub(front, 0, MIN_OF(front.n, most));
    while (n < front.n && front.p[n] > ' ' && front.p[n] < 127 && front.p[n] != ':')
        n++;
    size_t name = n;
    while (n < front.n && (front.p[n] == ' ' || front.p[n] == '\t'))
        n++;
    return (name && (n == front.n || front.p[n] == ':')) || span_starts(front, SPAN("From "));
}

/* Content without a header section: its first line would become part of the fields that are put before it. */
static void body_begins(struct smtp_data *d, struct buf *out)
{
    d->in_header = false;
    d->header_bytes = 0;
    give(d, SPAN("\r\n"), out);
}

/* The front of a line, enough to decide. */
static void header_front(struct smtp_data *d, struct span front, struct buf *out)
{
    bool folded = front.p[0] == ' ' || front.p[0] == '\t', first = d->size == d->line;
    if (first && !may_be_field(front, sizeof d->head)) {
        body_begins(d, out);
        d->decided = true;
        give(d, front, out);
        return;
    }
    decide(d, front, out);
    if ((d->take_id || d->take_tls || d->watch.open) && !folded) {
        keep_value(d, span_from(front, (size_t)span_find(front, ':') + 1));
        if (!d->drop)
            give(d, front, out);
    } else {
        header_out(d, front, out);
    }
}

/* Part of a header line: complete says that its CRLF is in it. */
static void header_part(struct smtp_data *d, struct span s, bool complete, struct buf *out)
{
    if (d->decided) {
        header_out(d, s, out);
        return;
    }
    if (d->head_n == 0 && (complete || s.n >= sizeof d->head || span_find(s, ':') >= 0)) {
        header_front(d, s, out);
        return;
    }
    size_t n = MIN_OF(s.n, sizeof d->head - d->head_n);
    memcpy(d->head + d->head_n, s.p, n);
    d->head_n = (uint8_t)(d->head_n + n);
    struct span head = span_make(d->head, d->head_n);
    if (complete || d->head_n == sizeof d->head || span_find(head, ':') >= 0) {
        header_front(d, head, out);
        if (n < s.n)
            header_out(d, span_from(s, n), out);
    }
}

/* ---- content ---- */

static bool has_eight_bit(struct span s)
{
    uint64_t any = 0, w;
    size_t i = 0;
    for (; i + 8 <= s.n; i += 8) {
        memcpy(&w, s.p + i, 8);
        any |= w;
    }
    for (; i < s.n; i++)
        any |= (unsigned char)s.p[i];
    return any & UINT64_C(0x8080808080808080);
}

static void check_limits(struct smtp_data *d, struct span s)
{
    if (memchr(s.p, 0, s.n))
        d->flaws |= SMTP_FLAW_NUL;
    if (d->line > d->limits.line)
        d->flaws |= SMTP_FLAW_LINE;
    if (d->size > d->limits.size)
        d->flaws |= SMTP_FLAW_SIZE;
    if (d->in_header && d->size > d->limits.header)
        d->flaws |= SMTP_FLAW_HEADER;
}

/* Octets of one line, its CRLF at the end when complete. */
static void content(struct smtp_data *d, struct span s, bool complete, struct buf *out)
{
    d->size += s.n;
    d->line = d->line > UINT32_MAX / 2 ? d->line : (uint32_t)(d->line + MIN_OF(s.n, UINT32_MAX / 4));
    /* The empty line belongs to no field; it ends the section before it could be over the section's limit. */
    if (complete && d->in_header && d->line == 2) {
        field_ends(d, out);
        d->in_header = false;
        d->header_bytes = (uint32_t)d->given;
        d->drop = false;
    }
    check_limits(d, s);
    if (d->flaws)
        return;
    if (!d->eight_bit)
        d->eight_bit = has_eight_bit(s);
    if (d->in_header)
        header_part(d, s, complete, out);
    else
        give(d, s, out);
}

static void line_begins(struct smtp_data *d)
{
    d->line = 0;
    d->head_n = 0;
    d->decided = d->after_two_crs = false;
    d->state = IN_LINE;
}

/* CR or LF without the other, within a line. Where that is to end lines, a line of content ends here and the next one begins inside:
 * a dot there is content, and nothing ends DATA (HAZARDS 1). */
static void alone(struct smtp_data *d, unsigned flaw, struct buf *out)
{
    if (!d->limits.normalise) {
        d->flaws |= flaw;
        return;
    }
    content(d, SPAN("\r\n"), true, out);
    line_begins(d);
}

/* Reads within a line from p; returns where it stopped. */
static const char *within_line(struct smtp_data *d, const char *p, const char *end, struct buf *out)
{
    const char *lf = memchr(p, '\n', (size_t)(end - p));
    const char *stop = lf ? lf : end;
    const char *cr = memchr(p, '\r', (size_t)(stop - p));
    if (cr && cr + 1 == lf) {
        content(d, span_make(p, (size_t)(lf + 1 - p)), true, out);
        d->doubtful_end = false;
        d->state = LINE_START;
        return lf + 1;
    }
    if (cr)
        stop = cr;
    if (stop > p)
        content(d, span_make(p, (size_t)(stop - p)), false, out);
    if (cr) {
        d->state = AFTER_CR;
        return cr + 1;
    }
    if (lf) {
        alone(d, SMTP_FLAW_BARE_LF, out);
        return lf + 1;
    }
    return end;
}

/* One octet in one of the states between lines; false: it was not used, the state has changed. */
static bool between(struct smtp_data *d, char c, struct buf *out, bool *over)
{
    switch (d->state) {
    case LINE_START:
        if (c == '.' && !d->limits.chunked) {
            d->state = DOT;
            return true;
        }
        line_begins(d);
        return false;
    case DOT:
        if (c == '\r') {
            d->state = DOT_CR;
            return true;
        }
        line_begins(d); /* RFC5321:4.5.2: the dot goes */
        return false;
    case DOT_CR:
        if (c == '\n') {
            *over = true;
            return true;
        }
        line_begins(d); /* the CR alone is dealt with there */
        d->state = AFTER_CR;
        return false;
    default: /* AFTER_CR */
        if (c == '\n') {
            content(d, SPAN("\r\n"), true, out);
            d->doubtful_end = d->after_two_crs;
            d->state = LINE_START;
            return true;
        }
        d->after_two_crs = c == '\r';
        if (c == '\r') { /* what CR CR LF means no two servers agree on */
            d->flaws |= SMTP_FLAW_BARE_CR;
            return true;
        }
        alone(d, SMTP_FLAW_BARE_CR, out);
        d->state = IN_LINE;
        return false;
    }
}

/* The end of content that has no body. */
static void header_closes(struct smtp_data *d, struct buf *out)
{
    if (!d->in_header)
        return;
    field_ends(d, out);
    d->in_header = false;
    d->header_bytes = (uint32_t)d->given;
}

/* RFC3030:3: the octets of a binary body. */
static void raw(struct smtp_data *d, struct span s, struct buf *out)
{
    d->size += s.n;
    if (d->size > d->limits.size)
        d->flaws |= SMTP_FLAW_SIZE;
    if (!d->flaws)
        give(d, s, out);
}

bool smtp_data_read(struct smtp_data *d, struct span in, size_t *used, struct buf *out)
{
    const char *p = in.p, *end = in.p + in.n;
    bool over = false;
    while (p < end && !over) {
        if (d->limits.binary && !d->in_header && d->state == LINE_START) { /* a first line that is no field is a line still */
            raw(d, span_make(p, (size_t)(end - p)), out);
            break;
        }
        if (d->state == IN_LINE)
            p = within_line(d, p, end, out);
        else if (between(d, *p, out, &over))
            p++;
    }
    if (over)
        header_closes(d, out);
    *used = over ? (size_t)(p - in.p) : in.n;
    return over;
}

void smtp_data_end(struct smtp_data *d, struct buf *out)
{
    if (d->state == AFTER_CR)
        alone(d, SMTP_FLAW_BARE_CR, out);
    else if (d->state == IN_LINE && d->line)
        content(d, SPAN("\r\n"), true, out);
    d->state = LINE_START;
    header_closes(d, out);
}
