/* See mail/recipients.h. */
#include "mail/recipients.h"

#include <stdlib.h>

#include "base/mem.h"
#include "mail/address.h"

void recipients_free(struct recipients *r)
{
    mem_free(&r->list);
    arena_free(&r->arena);
    r->n = r->cap = 0;
}

static void add(struct recipients *r, struct span address)
{
    if (r->n == r->cap) {
        r->cap = r->cap ? r->cap * 2 : 16;
        r->list = mem_resize(r->list, r->cap * sizeof *r->list);
    }
    r->list[r->n++] = arena_dup(&r->arena, address);
}

static bool add_mailbox(struct recipients *r, const struct header_address *m, struct span domain, struct buf *wrong)
{
    struct buf text = {0};
    struct address whole;
    if (m->local.p)
        address_put(&text, m->local, m->domain.p ? m->domain : domain);
    bool good = m->local.n && !span_has_control(buf_span(&text)) && address_parse(buf_span(&text), &whole);
    if (good)
        add(r, buf_span(&text));
    else
        buf_add(wrong, m->local.p ? buf_span(&text) : m->name);
    buf_free(&text);
    return good;
}

bool recipients_add(struct recipients *r, struct span value, struct span domain, struct buf *wrong)
{
    struct arena arena = {0};
    bool good = true;
    size_t seen = 0;
    for (const struct header_address *m = header_addresses(value, &arena); m && good; m = m->next) {
        good = m->kind != HEADER_MAILBOX || add_mailbox(r, m, domain, wrong);
        if (++seen == HEADER_ADDRESSES_MAX) { /* what is beyond was not read */
            buf_adds(wrong, "more addresses than a field may have");
            good = false;
        }
    }
    arena_free(&arena);
    return good;
}

/* ---- the header ---- */

static bool is_one_of(struct span name, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (span_ieqs(name, names[i]))
            return true;
    return false;
}

static bool is_recipient(struct span name, bool resent)
{
    static const char *const names[] = {"To", "Cc", "Bcc"};
    static const char *const again[] = {"Resent-To", "Resent-Cc", "Resent-Bcc"};
    return is_one_of(name, resent ? again : names, 3);
}

static bool was_resent(struct span header)
{
    struct header_field f;
    while (header_next(&header, &f))
        if (is_recipient(f.name, true))
            return true;
    return false;
}

bool recipients_add_header(struct recipients *r, struct span header, struct span domain, struct buf *wrong)
{
    struct header_field f;
    bool resent = was_resent(header), within = false;
    while (header_next(&header, &f)) {
        bool of_block = span_istarts(f.name, SPAN("Resent-"));
        if (resent && within && !of_block)
            break;
        within |= of_block;
        if (is_recipient(f.name, resent) && !recipients_add(r, f.value, domain, wrong))
            return false;
    }
    return true;
}

static int compare(const void *a, const void *b)
{
    return span_cmp(*(const struct span *)a, *(const struct span *)b);
}

void recipients_unique(struct recipients *r)
{
    size_t kept = 0;
    if (r->n)
        qsort(r->list, r->n, sizeof *r->list, compare);
    for (size_t i = 0; i < r->n; i++)
        if (kept == 0 || !span_eq(r->list[kept - 1], r->list[i]))
            r->list[kept++] = r->list[i];
    r->n = kept;
}

/* ---- addresses without a domain ---- */

bool recipients_field(struct span name)
{
    static const char *const names[] = {"From", "Sender", "Reply-To", "To", "Cc", "Bcc"};
    if (span_istarts(name, SPAN("Resent-")))
        name = span_from(name, 7);
    return is_one_of(name, names, COUNT_OF(names));
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* The length of the quoted string or comment at the front; 0: there is none. */
static size_t closed(struct span s)
{
    unsigned depth = 1;
    size_t i = 1;
    if (s.n == 0 || (s.p[0] != '"' && s.p[0] != '('))
        return 0;
    bool comment = s.p[0] == '(';
    for (; i < s.n && depth; i++) {
        if (s.p[i] == '\\')
            i++;
        else if (s.p[i] == (comment ? ')' : '"'))
            depth--;
        else if (comment && s.p[i] == '(')
            depth++;
    }
    return MIN_OF(i, s.n);
}

/* What stands between two separators. */
struct item {
    bool angle, at, ended;
    unsigned words; /* outside of comments, and of the angle brackets when there are any */
    size_t end;     /* behind the last of them, in `out` */
};

static void qualify_item(struct item *x, struct span domain, struct buf *out)
{
    if (x->words == 1 && !x->at && !x->ended) {
        struct buf rest = {0};
        buf_add(&rest, span_from(buf_span(out), x->end));
        out->n = x->end;
        buf_addc(out, '@');
        buf_add(out, domain);
        buf_add(out, buf_span(&rest));
        buf_free(&rest);
    }
}

static void one_char(struct item *x, char c, struct span domain, struct buf *out)
{
    if (c == '<') {
        *x = (struct item){.angle = true};
    } else if ((c == '>' && x->angle) || ((c == ',' || c == ';') && !x->angle)) {
        qualify_item(x, domain, out);
        *x = (struct item){.ended = c == '>'};
    } else if (c == ':' && !x->angle) { /* the name of a group */
        *x = (struct item){0};
    } else if (c == '@') {
        x->at = true;
    }
    buf_addc(out, c);
}

void recipients_qualify(struct span value, struct span domain, struct buf *out)
{
    struct item x = {0};
    while (value.n) {
        size_t n = closed(value);
        char c = value.p[0];
        bool comment = n && c == '(';
        if (n == 0 && (is_blank(c) || strchr("<>@,;:", c))) {
            if (c)
                one_char(&x, c, domain, out);
            value = span_from(value, 1);
            continue;
        }
        while (!comment && n < value.n && !is_blank(value.p[n]) && value.p[n] && !strchr("<>@,;:(", value.p[n]))
            n++;
        buf_add(out, span_sub(value, 0, n ? n : 1));
        if (!comment) {
            x.words++;
            x.end = out->n;
        }
        value = span_from(value, n ? n : 1);
    }
    if (!x.angle)
        qualify_item(&x, domain, out);
}
