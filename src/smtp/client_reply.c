/* The reader of a peer's replies. Grammar: 3DIGIT ( "-" / SP ) text CRLF, the code the same in all lines (RFC5321:4.2.1); a bare LF is
 * taken as a line's end, a line of the code alone is taken too. Trusts nothing. */
#include "smtp/client_reply.h"

/* Codes run from 200 to 599; 1yz is not used in SMTP (RFC5321:4.2.1). */
static bool take_code(struct span line, unsigned *code)
{
    uint64_t n;
    if (line.n < 3 || !span_u64(span_sub(line, 0, 3), 599, &n) || n < 200)
        return false;
    *code = (unsigned)n;
    return line.n == 3 || line.p[3] == ' ' || line.p[3] == '-';
}

static void keep_text(struct client_reply_reader *r, struct span text)
{
    size_t room = SMTP_CLIENT_TEXT_MAX > r->text.n + 1 ? SMTP_CLIENT_TEXT_MAX - r->text.n - 1 : 0;
    if (room == 0)
        return;
    buf_add(&r->text, span_sub(text, 0, room));
    buf_addc(&r->text, '\n');
}

static enum client_reply_result take_line(struct client_reply_reader *r, struct span line, const char **why)
{
    unsigned code;
    if (line.n && line.p[line.n - 1] == '\r')
        line.n--;
    if (!take_code(line, &code)) {
        *why = "a reply without a reply code";
        return CLIENT_REPLY_BAD;
    }
    if (r->lines && code != r->code) {
        *why = "a reply whose lines have different codes";
        return CLIENT_REPLY_BAD;
    }
    if (++r->lines > SMTP_CLIENT_LINES_MAX) {
        *why = "a reply of too many lines";
        return CLIENT_REPLY_BAD;
    }
    r->code = code;
    keep_text(r, span_from(line, 4));
    return line.n > 3 && line.p[3] == '-' ? CLIENT_REPLY_MORE : CLIENT_REPLY_DONE;
}

static void begin(struct client_reply_reader *r)
{
    buf_clear(&r->text);
    r->lines = 0;
    r->whole = false;
}

enum client_reply_result client_reply_read(struct client_reply_reader *r, struct span *in, const char **why)
{
    if (r->whole)
        begin(r);
    while (in->n) {
        ptrdiff_t lf = span_find(*in, '\n');
        size_t n = lf < 0 ? in->n : (size_t)lf;
        if (r->line.n + n > SMTP_CLIENT_LINE_MAX) {
            *why = "a reply line that is too long";
            return CLIENT_REPLY_BAD;
        }
        buf_add(&r->line, span_sub(*in, 0, n));
        *in = span_from(*in, lf < 0 ? n : n + 1);
        if (lf < 0)
            break;
        enum client_reply_result result = take_line(r, buf_span(&r->line), why);
        buf_clear(&r->line);
        r->whole = result == CLIENT_REPLY_DONE;
        if (result != CLIENT_REPLY_MORE)
            return result;
    }
    return CLIENT_REPLY_MORE;
}

bool client_reply_empty(const struct client_reply_reader *r)
{
    return r->line.n == 0 && (r->whole || r->lines == 0);
}

/* "5.1.1 " at the front of a line, or nothing. */
static struct span enhanced_of(struct span line)
{
    struct span rest = line, word = span_word(&rest), w = word;
    struct span cls = span_cut(&w, '.'), subject = span_cut(&w, '.');
    uint64_t n;
    if (cls.n == 1 && span_u64(cls, 5, &n) && span_u64(subject, 999, &n) && span_u64(w, 999, &n))
        return word;
    return span_sub(line, 0, 0);
}

struct outcome client_reply_outcome(const struct client_reply_reader *r)
{
    struct buf joined = {0};
    struct span text = buf_span(&r->text), first = {0};
    for (unsigned i = 0; text.n; i++) {
        struct span line = span_cut(&text, '\n');
        if (i == 0)
            first = enhanced_of(line);
        else if (first.n && span_eq(enhanced_of(line), first))
            line = span_trim(span_from(line, first.n));
        if (i)
            buf_addc(&joined, ' ');
        buf_add(&joined, line);
    }
    struct outcome o = outcome_from_reply(r->code, buf_span(&joined));
    buf_free(&joined);
    return o;
}

void client_reply_free(struct client_reply_reader *r)
{
    buf_free(&r->line);
    buf_free(&r->text);
}
