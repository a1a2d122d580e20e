/* Putting commands together: see collect.h. Lines end with CRLF; a lone LF is taken for one. What is over the budget is
 * swallowed and counted, so that the stream stays in step. */
#include "imap/collect.h"

#include "base/util.h"

enum state { LINE, ANNOUNCED, IN_LITERAL, SKIPPING_LITERAL, STREAMED, ENDED };

#define LITERAL_DIGITS_MAX 19

void imap_collect_init(struct imap_collect *c, size_t max)
{
    *c = (struct imap_collect){.max = max, .state = LINE};
}

void imap_collect_free(struct imap_collect *c)
{
    buf_free(&c->text);
}

void imap_collect_next(struct imap_collect *c)
{
    struct buf text = c->text;
    size_t max = c->max;
    if (text.cap > 4096)
        buf_free(&text);
    buf_clear(&text);
    *c = (struct imap_collect){.text = text, .max = max, .state = LINE};
}

static void keep(struct imap_collect *c, struct span s)
{
    if (c->text.n + s.n > c->max) {
        c->over = true;
        s.n = c->max - c->text.n;
    }
    buf_add(&c->text, s);
}

/* Remembers the end of the line, also of one that is over the budget. What a literal holds never gets here. */
static void keep_tail(struct imap_collect *c, struct span s)
{
    if (s.n >= sizeof c->tail) {
        memcpy(c->tail, s.p + s.n - sizeof c->tail, sizeof c->tail);
        c->tail_n = sizeof c->tail;
        return;
    }
    size_t old = MIN_OF((size_t)c->tail_n, sizeof c->tail - s.n);
    memmove(c->tail, c->tail + c->tail_n - old, old);
    memcpy(c->tail + old, s.p, s.n);
    c->tail_n = (uint8_t)(old + s.n);
}

/* RFC3501:9 literal, RFC7888:4: "{" number ["+"] "}" at the end of the line. */
static bool announces_literal(struct imap_collect *c, struct span line)
{
    if (!span_ends(line, SPAN("}")))
        return false;
    ptrdiff_t open = span_rfind(line, '{');
    if (open < 0)
        return false;
    struct span number = span_sub(line, (size_t)open + 1, line.n - (size_t)open - 2);
    c->sync = !span_ends(number, SPAN("+"));
    if (!c->sync)
        number.n--;
    return number.n <= LITERAL_DIGITS_MAX && span_u64(number, UINT64_MAX / 2, &c->literal);
}

static struct span without_end(struct span s)
{
    if (span_ends(s, SPAN("\n")))
        s.n--;
    if (span_ends(s, SPAN("\r")))
        s.n--;
    return s;
}

static enum imap_collected end_command(struct imap_collect *c)
{
    c->text.n = without_end(buf_span(&c->text)).n;
    c->state = ENDED;
    return c->refused ? IMAP_REFUSED : c->over ? IMAP_TOO_LONG : IMAP_COMMAND;
}

/* A line is complete. */
static enum imap_collected end_line(struct imap_collect *c)
{
    bool literal = announces_literal(c, without_end(span_make(c->tail, c->tail_n)));
    c->tail_n = 0;
    if (!literal)
        return end_command(c);
    if (!c->over && !c->refused) {
        c->state = ANNOUNCED;
        return IMAP_LITERAL;
    }
    if (c->sync) /* its client waits for our answer */
        return end_command(c);
    c->left = c->literal;
    c->state = SKIPPING_LITERAL;
    return IMAP_MORE;
}

static enum imap_collected feed_line(struct imap_collect *c, struct span *in)
{
    const char *lf = memchr(in->p, '\n', in->n);
    size_t n = lf ? (size_t)(lf - in->p) + 1 : in->n;
    struct span piece = span_sub(*in, 0, n);
    keep(c, piece);
    keep_tail(c, piece);
    *in = span_from(*in, n);
    return lf ? end_line(c) : IMAP_MORE;
}

static void feed_literal(struct imap_collect *c, struct span *in)
{
    size_t n = c->left < in->n ? (size_t)c->left : in->n;
    if (c->state == IN_LITERAL)
        keep(c, span_sub(*in, 0, n));
    *in = span_from(*in, n);
    c->left -= n;
    if (!c->left)
        c->state = LINE;
}

enum imap_collected imap_collect_feed(struct imap_collect *c, struct span *in)
{
    if (c->state == ANNOUNCED && c->refused)
        return end_command(c);
    while (in->n || ((c->state == IN_LITERAL || c->state == SKIPPING_LITERAL) && !c->left)) {
        if (c->state == LINE || c->state == STREAMED) {
            enum imap_collected r = feed_line(c, in);
            if (r != IMAP_MORE)
                return r;
        } else {
            feed_literal(c, in);
        }
    }
    return IMAP_MORE;
}

bool imap_collect_accept(struct imap_collect *c)
{
    if (c->literal > c->max - c->text.n) {
        imap_collect_refuse(c);
        return false;
    }
    c->left = c->literal;
    c->state = c->left ? IN_LITERAL : LINE;
    return true;
}

void imap_collect_stream(struct imap_collect *c)
{
    c->state = STREAMED;
}

void imap_collect_refuse(struct imap_collect *c)
{
    c->refused = true;
    if (c->sync)
        return; /* the next feed ends it */
    c->left = c->literal;
    c->state = SKIPPING_LITERAL;
}
