/* The MIME parser and everything under it: the same structure whole and in pieces, parts inside their parents, IMAP
 * text that no message can break out of, searching text that never runs off; and binary content that was made fit for
 * lines is. */
#include <stdlib.h>

#include "mail/date.h"
#include "mail/mime.h"
#include "mail/recode.h"
#include "mail/words.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool good)
{
    if (!good)
        abort();
}

/* Quoted strings, literals, atoms, parentheses: takes one list off the front. */
static void take_list(struct span *s, unsigned depth)
{
    must(depth < 3 * MIME_DEPTH_MAX && s->n && *s->p == '(');
    *s = span_from(*s, 1);
    while (s->n && *s->p != ')') {
        if (*s->p == '(') {
            take_list(s, depth + 1);
        } else if (*s->p == '"') {
            size_t i = 1;
            for (; i < s->n && s->p[i] != '"'; i++) {
                i += s->p[i] == '\\';
                must(i < s->n && s->p[i] && s->p[i] != '\r' && s->p[i] != '\n' && (unsigned char)s->p[i] < 0x80);
            }
            must(i < s->n);
            *s = span_from(*s, i + 1);
        } else if (*s->p == '{') {
            char *end;
            size_t n = strtoul(s->p + 1, &end, 10);
            *s = span_from(*s, (size_t)(end - s->p) + 3);
            must(n <= s->n && !memchr(s->p, 0, n));
            *s = span_from(*s, n);
        } else {
            must(*s->p == ' ' || ascii_digit(*s->p) || ascii_alpha(*s->p));
            *s = span_from(*s, 1);
        }
    }
    must(s->n > 0);
    *s = span_from(*s, 1);
}

static void check_parts(const struct mime_part *p, size_t *count)
{
    must(++*count <= 2 * MIME_PARTS_MAX && p->header <= p->body && p->body <= p->end && p->lines <= p->end - p->body);
    for (const struct mime_part *c = p->children; c; c = c->next) {
        must(c->parent == p && c->header >= p->body && c->end <= p->end);
        must(!c->next || c->end <= c->next->header);
        check_parts(c, count);
    }
}

static void describe(struct span text, size_t piece, struct buf *out)
{
    struct mime *m = mime_new();
    for (size_t i = 0; i < text.n; i += piece)
        mime_feed(m, span_sub(text, i, piece));
    const struct mime_part *root = mime_end(m);
    size_t count = 0;
    check_parts(root, &count);
    must(root->end == text.n);
    mime_put_structure(out, root, true);
    struct span list = buf_span(out);
    take_list(&list, 0);
    must(list.n == 0);
    list = mime_envelope(m);
    take_list(&list, 0);
    must(list.n == 0);
    buf_add(out, mime_envelope(m));
    mime_free(&m);
}

static int read_text(void *ctx, uint64_t at, char *to, size_t n, struct err *err)
{
    const struct span *s = ctx;
    (void)err;
    must(at + n <= s->n);
    memcpy(to, s->p + at, n);
    return 0;
}

static void recode(struct span text, bool seven, struct buf *out)
{
    const struct recode_source from = {read_text, &text, text.n};
    struct recode *r;
    struct err err;
    buf_clear(out);
    if (recode_open(&r, &from, seven, &err) != RECODE_READY)
        return;
    uint64_t size = recode_size(r);
    while (recode_next(r, out, &err) > 0)
        must(out->n <= size);
    must(out->n == size && (!seven || span_is_ascii(buf_span(out))));
    for (size_t i = 0; i < out->n; i++) {
        must(out->p[i] != '\0' && (out->p[i] != '\n' || (i && out->p[i - 1] == '\r')));
        must(out->p[i] != '\r' || (i + 1 < out->n && out->p[i + 1] == '\n'));
    }
    recode_free(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span text = span_make(data, size);
    struct buf whole = {0}, pieces = {0}, out = {0};
    describe(text, size + 1, &whole);
    describe(text, 1 + size % 7, &pieces);
    must(span_eq(buf_span(&whole), buf_span(&pieces)));
    words_decode(text, &out);
    must(span_is_utf8(buf_span(&out)) && !span_has_control(buf_span(&out)));
    for (enum transfer t = TRANSFER_NONE; t <= TRANSFER_QP; t++) {
        struct transfer_state st = {0};
        buf_clear(&out);
        for (size_t i = 0; i < text.n; i += 3)
            transfer_decode(t, &st, span_sub(text, i, 3), i + 3 >= text.n, &out);
        must(out.n <= text.n + 3);
    }
    recode(text, false, &out);
    recode(text, true, &out);
    struct mail_date d;
    if (date_parse(text, &d) == 0)
        must(date_unix(&d) > -70000000000000 && d.zone > -1440 && d.zone < 1440);
    buf_free(&whole);
    buf_free(&pieces);
    buf_free(&out);
    return 0;
}
