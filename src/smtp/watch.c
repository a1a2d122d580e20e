#include "smtp/watch.h"

#include "base/util.h"

void smtp_watch_begin(struct smtp_watch *w, const struct smtp_watched *all, size_t count)
{
    w->all = all;
    w->count = MIN_OF(count, (size_t)SMTP_WATCH_MAX);
    w->found = w->open = 0;
    w->n = 0;
}

bool smtp_watch_field(struct smtp_watch *w, struct span name)
{
    w->open = 0;
    w->n = 0;
    for (size_t i = 0; i < w->count; i++)
        if (span_ieq(name, w->all[i].name))
            w->open |= UINT64_C(1) << i;
    return w->open != 0;
}

void smtp_watch_value(struct smtp_watch *w, struct span piece)
{
    for (size_t i = 0; w->open && i < piece.n && w->n < sizeof w->value; i++)
        if (piece.p[i] != '\r' && piece.p[i] != '\n') /* RFC5322:2.2.3 */
            w->value[w->n++] = piece.p[i] == '\t' ? ' ' : piece.p[i];
}

void smtp_watch_end(struct smtp_watch *w)
{
    struct span value = span_trim(span_make(w->value, w->n));
    for (size_t i = 0; w->open && i < w->count; i++)
        if ((w->open >> i & 1) && span_fits(value, w->all[i].pattern))
            w->found |= UINT64_C(1) << i;
    w->open = 0;
}

void smtp_watch_forget(struct smtp_watch *w)
{
    w->open = 0;
}

void smtp_watch_section(struct smtp_watch *w, struct span fields)
{
    while (w->count && fields.n) {
        ptrdiff_t lf = span_find(fields, '\n');
        struct span line = span_sub(fields, 0, lf < 0 ? fields.n : (size_t)lf + 1);
        fields = span_from(fields, line.n);
        if (line.p[0] != ' ' && line.p[0] != '\t') {
            smtp_watch_end(w);
            smtp_watch_field(w, span_trim(span_cut(&line, ':')));
        }
        smtp_watch_value(w, line);
    }
    smtp_watch_end(w);
}
