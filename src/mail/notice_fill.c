#include "mail/notice_fill.h"

#include <string.h>

#include "mail/dsn_priv.h"
#include "mail/words.h"

/* A text that is not right was refused with its configuration; what is sent says something in any case. */
void notice_text_of(struct span own, enum notice_kind kind, struct notice_text *out)
{
    unsigned line;
    struct err err;
    if (own.n == 0 || notice_text_parse(own, kind, out, &line, &err))
        notice_text_parse(notice_text_built_in(kind), kind, out, &line, &err);
}

bool notice_fill(struct buf *out, struct span text, notice_value_fn *value, const void *ctx)
{
    struct span literal;
    enum notice_place place;
    unsigned places = 0, empty = 0;
    buf_clear(out);
    while (notice_piece_next(&text, &place, &literal)) {
        size_t before = out->n;
        if (place == NOTICE_LITERAL) {
            buf_add(out, literal);
            continue;
        }
        value(out, ctx, place);
        places++;
        empty += out->n == before;
    }
    return places == 0 || empty < places;
}

void notice_put_line(struct buf *out, const char *indent, struct span text, notice_value_fn *value, const void *ctx)
{
    struct buf line = {0};
    if (notice_fill(&line, text, value, ctx)) {
        buf_adds(out, indent);
        dsn_put_line(out, buf_span(&line), DSN_LINE);
        buf_adds(out, "\r\n");
    }
    buf_free(&line);
}

void notice_put_subject(struct buf *out, const struct notice_text *text, notice_value_fn *value, const void *ctx)
{
    struct buf line = {0}, clean = {0};
    notice_fill(&line, text->phrase[NOTICE_SUBJECT], value, ctx);
    dsn_put_line(&clean, buf_span(&line), DSN_HALF_LINE);
    if (span_is_ascii(buf_span(&clean)))
        buf_add(out, buf_span(&clean));
    else
        words_encode(buf_span(&clean), out);
    buf_free(&line);
    buf_free(&clean);
}

/* RFC5322:3.2.3 */
static bool is_phrase(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!ascii_alpha(s.p[i]) && !ascii_digit(s.p[i]) && !strchr(" !#$%&'*+-/=?^_`{|}~", s.p[i]))
            return false;
    return true;
}

void notice_put_from(struct buf *out, const struct notice_text *text, notice_value_fn *value, const void *ctx)
{
    struct buf name = {0};
    notice_fill(&name, text->phrase[NOTICE_FROM], value, ctx);
    if (!span_is_ascii(buf_span(&name))) { /* RFC2047:2: such a line has 76 characters at most */
        words_encode(buf_span(&name), out);
        buf_adds(out, "\r\n");
    } else if (is_phrase(buf_span(&name))) {
        buf_add(out, buf_span(&name));
    } else {
        buf_add_quoted(out, buf_span(&name));
    }
    buf_free(&name);
}

void notice_put_type(struct buf *out, struct span language)
{
    buf_adds(out, "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n");
    if (language.n)
        buf_printf(out, "Content-Language: %.*s\r\n", SPANV(language));
}
