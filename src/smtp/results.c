/* Methods whose names begin with "x-" are nobody's but ours, others ignore them (RFC8601:2.7.7). */
#include "smtp/results.h"

#include "smtp/path.h"

static bool comment_safe(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!ascii_alpha(s.p[i]) && !ascii_digit(s.p[i]) && !strchr(" ._-", s.p[i]))
            return false;
    return s.n > 0;
}

/* RFC2045:5.1: ":" and brackets need quotes. */
static void put_value(struct buf *out, struct span s)
{
    bool quote = span_find(s, ':') >= 0 || span_find(s, '[') >= 0;
    if (quote)
        buf_addc(out, '"');
    buf_add(out, s);
    if (quote)
        buf_addc(out, '"');
}

static void put_comment(struct buf *out, struct span text)
{
    if (!comment_safe(text))
        return;
    buf_adds(out, " (");
    buf_add(out, text);
    buf_addc(out, ')');
}

void smtp_results_put(struct buf *out, const struct smtp_results *r)
{
    if (!r->iprev && !r->helo_result && !r->early)
        return;
    buf_adds(out, "Authentication-Results: ");
    buf_add(out, r->by);
    if (r->iprev) {
        buf_printf(out, ";\r\n\tiprev=%s policy.iprev=", r->iprev);
        put_value(out, r->remote);
        put_comment(out, r->name);
    }
    if (r->helo_result) {
        buf_printf(out, ";\r\n\tx-helo=%s", r->helo_result);
        put_comment(out, span_of(r->helo_why));
        if (smtp_domain_valid(r->helo, 0)) {
            buf_adds(out, " smtp.helo=");
            put_value(out, r->helo);
        }
    }
    if (r->early)
        buf_adds(out, ";\r\n\tx-early-talker=fail");
    buf_adds(out, "\r\n");
}

/* ---- whose is it? ---- */

/* Takes blanks, line ends and comments off the front (RFC5322:3.2.2); false: a comment without its end. */
static bool skip_cfws(struct span *s)
{
    unsigned depth = 0;
    while (s->n) {
        char c = s->p[0];
        if (c == '(')
            depth++;
        else if (c == ')' && depth)
            depth--;
        else if (depth && c == '\\' && s->n > 1)
            *s = span_from(*s, 1);
        else if (!depth && c != ' ' && c != '\t' && c != '\r' && c != '\n')
            break;
        *s = span_from(*s, 1);
    }
    return depth == 0;
}

static bool is_token(char c)
{
    return c > ' ' && c < 0x7f && !strchr("()<>@,;:\\\"/[]?=", c);
}

/* A quoted string as what it says, at most 256 octets of it. False: it has no end, or is longer. */
static bool unquote(struct span *s, char *out, size_t *n)
{
    *s = span_from(*s, 1);
    for (*n = 0; s->n && s->p[0] != '"' && *n < SMTP_DOMAIN_MAX; *s = span_from(*s, 1)) {
        if (s->p[0] == '\\' && s->n > 1)
            *s = span_from(*s, 1);
        out[(*n)++] = s->p[0];
    }
    return s->n && s->p[0] == '"';
}

bool smtp_results_claims(struct span value, struct span by)
{
    char text[SMTP_DOMAIN_MAX];
    size_t n = 0;
    if (!skip_cfws(&value))
        return true;
    if (value.n && value.p[0] == '"')
        return !unquote(&value, text, &n) || span_ieq(span_trim(span_make(text, n)), by);
    while (n < value.n && (is_token(value.p[n]) || value.p[n] & 0x80))
        n++;
    struct span id = span_sub(value, 0, n);
    if (id.n && id.p[id.n - 1] == '.') /* some readers take it for the same name */
        id.n--;
    return n == 0 || span_ieq(id, by);
}
