/* The fields of a MIME part: Content-Type and Content-Disposition with their parameters (RFC 2045 §5.1, RFC 2183, RFC
 * 2231), and the plain ones. What isn't understood is as if it weren't there. */
#include "base/util.h"
#include "mail/mime_priv.h"

static bool is_token_end(char c)
{
    return c == ';' || c == '(' || c == '"' || c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static struct span take_token(struct span *s, char also_ends)
{
    size_t n = 0;
    while (n < s->n && !is_token_end(s->p[n]) && s->p[n] != also_ends)
        n++;
    struct span token = span_sub(*s, 0, n);
    *s = span_from(*s, n);
    return token;
}

/* A quoted string's content; line ends in it go. The text begins with its quote. */
static struct span take_quoted(struct span *s, struct arena *a)
{
    char *out = arena_alloc(a, s->n);
    size_t i = 1, n = 0;
    for (; i < s->n && s->p[i] != '"'; i++) {
        if (s->p[i] == '\\' && i + 1 < s->n)
            i++;
        else if (s->p[i] == '\r' || s->p[i] == '\n')
            continue;
        out[n++] = s->p[i];
    }
    *s = span_from(*s, i + 1);
    return span_make(out, n);
}

static struct span take_value(struct span *s, struct arena *a)
{
    header_skip_cfws(s);
    if (!s->n || *s->p != '"')
        return take_token(s, ';');
    ptrdiff_t end = span_find(span_from(*s, 1), '"'); /* most have nothing to undo */
    struct span plain = end < 0 ? SPAN_NONE : span_sub(*s, 1, (size_t)end);
    if (!plain.p || span_find(plain, '\\') >= 0 || span_find(plain, '\n') >= 0)
        return take_quoted(s, a);
    *s = span_from(*s, (size_t)end + 2);
    return plain;
}

/* ---- RFC 2231: parameters in pieces ---- */

struct piece {
    struct mime_param *param;
    struct span name; /* without its marks */
    uint64_t number;  /* of "*N", UINT64_MAX: none */
    bool extended;    /* "*" at the end */
};

static struct piece piece_of(struct mime_param *p)
{
    struct piece out = {.param = p, .name = p->name, .number = UINT64_MAX};
    if (span_ends(out.name, SPAN("*"))) {
        out.extended = true;
        out.name.n--;
    }
    ptrdiff_t star = span_rfind(out.name, '*');
    if (star > 0 && span_u64(span_from(out.name, (size_t)star + 1), 999, &out.number))
        out.name.n = (size_t)star;
    return out;
}

/* RFC2231:4.1: a plain piece of an extended value: what would mean something there is encoded. */
static void put_encoded(struct buf *out, struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] == '%' || s.p[i] == '\'' || s.p[i] == '*' || s.p[i] <= ' ' || s.p[i] == 0x7f)
            buf_printf(out, "%%%02X", (unsigned char)s.p[i]);
        else
            buf_addc(out, s.p[i]);
}

/* Joins pieces 0, 1, 2, … of the same name into the first one, which then is `name` or, when any is extended, `name*`.
 */
static void join_pieces(struct piece *pieces, size_t n, size_t first, struct arena *a)
{
    struct piece *order[MIME_PARAMS_MAX] = {0};
    bool extended = false;
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        if (pieces[i].number < n && span_ieq(pieces[i].name, pieces[first].name) && !order[pieces[i].number])
            order[pieces[i].number] = &pieces[i];
    for (; count < n && order[count]; count++)
        extended |= order[count]->extended;
    struct buf value = {0};
    for (size_t i = 0; i < count; i++) {
        if (extended && !order[i]->extended)
            put_encoded(&value, order[i]->param->value);
        else
            buf_add(&value, order[i]->param->value);
        if (order[i]->param != pieces[first].param)
            order[i]->param->name = SPAN_NONE; /* to be dropped */
    }
    pieces[first].param->value = arena_dup(a, buf_span(&value));
    pieces[first].param->name = extended ? arena_printf(a, "%.*s*", SPANV(pieces[first].name)) : pieces[first].name;
    buf_free(&value);
}

static void join_params(struct mime_param **list, size_t n, struct arena *a)
{
    struct piece pieces[MIME_PARAMS_MAX];
    size_t i = 0;
    bool any = false;
    for (struct mime_param *p = *list; p && i < n; p = p->next) {
        pieces[i] = piece_of(p);
        any |= pieces[i++].number != UINT64_MAX;
    }
    for (size_t k = 0; any && k < i; k++)
        if (pieces[k].number == 0 && pieces[k].param->name.p)
            join_pieces(pieces, i, k, a);
    while (*list)
        if ((*list)->name.p)
            list = &(*list)->next;
        else
            *list = (*list)->next;
}

static bool has_param(const struct mime_param *p, struct span name)
{
    while (p && !span_ieq(p->name, name))
        p = p->next;
    return p != NULL;
}

/* `; name=value` as often as they come. */
static struct mime_param *read_params(struct span s, struct arena *a)
{
    struct mime_param *first = NULL, **tail = &first;
    size_t n = 0;
    while (n < MIME_PARAMS_MAX) {
        header_skip_cfws(&s);
        if (!s.n)
            break;
        if (*s.p == ';') {
            s = span_from(s, 1);
            continue;
        }
        struct span before = s, name = take_token(&s, '=');
        header_skip_cfws(&s);
        if (name.n && s.n && *s.p == '=') {
            s = span_from(s, 1);
            struct mime_param *p = arena_alloc(a, sizeof *p);
            *p = (struct mime_param){.name = name, .value = take_value(&s, a)};
            if (span_has_control(name) || has_param(first, name)) /* the first of a name counts */
                continue;
            *tail = p;
            tail = &p->next;
            n++;
        } else if (s.n == before.n) { /* something that belongs nowhere */
            s = span_from(s, 1);
        }
    }
    join_params(&first, n, a);
    return first;
}

/* ---- the fields ---- */

static bool in_digest(const struct mime_part *p)
{
    return p->parent && p->parent->multipart && span_ieqs(p->parent->subtype, "digest");
}

/* RFC2045:5.2, RFC2046:5.1.5: what a part is that doesn't say it, or not well. */
static void set_default_type(struct mime_part *p)
{
    bool digest = in_digest(p);
    p->type = digest ? SPAN("message") : SPAN("text");
    p->subtype = digest ? SPAN("rfc822") : SPAN("plain");
    p->params = NULL;
}

static void read_type(struct mime_part *p, struct span value, struct arena *a)
{
    header_skip_cfws(&value);
    struct span type = take_token(&value, '/');
    header_skip_cfws(&value);
    if (!type.n || !value.n || *value.p != '/')
        return;
    value = span_from(value, 1);
    header_skip_cfws(&value);
    struct span subtype = take_token(&value, '/');
    header_skip_cfws(&value);
    if (!subtype.n || (value.n && *value.p != ';'))
        return;
    p->type = type;
    p->subtype = subtype;
    p->params = read_params(value, a);
}

static void read_disposition(struct mime_part *p, struct span value, struct arena *a)
{
    header_skip_cfws(&value);
    struct span kind = take_token(&value, ';');
    if (!kind.n)
        return;
    p->disposition = kind;
    p->disposition_params = read_params(value, a);
}

/* RFC3282: tags with commas between. */
static void read_languages(struct mime_part *p, struct span value, struct arena *a)
{
    struct span tags[MIME_PARAMS_MAX];
    size_t n = 0;
    while (n < COUNT_OF(tags)) {
        header_skip_cfws(&value);
        struct span tag = take_token(&value, ',');
        if (tag.n)
            tags[n++] = tag;
        if (!value.n)
            break;
        if (!tag.n)
            value = span_from(value, 1);
    }
    if (!n)
        return;
    p->languages = arena_alloc(a, n * sizeof *tags);
    memcpy(p->languages, tags, n * sizeof *tags);
    p->languages_n = n;
}

static void read_encoding(struct mime_part *p, struct span value)
{
    header_skip_cfws(&value);
    struct span token = take_token(&value, ';');
    header_skip_cfws(&value);
    if (token.n && (!value.n || *value.p == ';'))
        p->encoding = token;
}

static struct span unfolded(struct span value, struct arena *a)
{
    struct buf flat = {0};
    header_unfold(value, &flat);
    struct span s = arena_dup(a, buf_span(&flat));
    buf_free(&flat);
    return s;
}

static void read_field(struct mime_part *p, const struct header_field *f, struct arena *a)
{
    struct span kind = span_from(f->name, 8), value = arena_dup(a, f->value);
    if (span_ieqs(kind, "type") && !p->type.p)
        read_type(p, value, a);
    else if (span_ieqs(kind, "disposition") && !p->disposition.p)
        read_disposition(p, value, a);
    else if (span_ieqs(kind, "transfer-encoding") && !p->encoding.p)
        read_encoding(p, value);
    else if (span_ieqs(kind, "language") && !p->languages)
        read_languages(p, value, a);
    else if (span_ieqs(kind, "id") && !p->id.p)
        p->id = unfolded(value, a);
    else if (span_ieqs(kind, "description") && !p->description.p)
        p->description = unfolded(value, a);
    else if (span_ieqs(kind, "md5") && !p->md5.p)
        p->md5 = unfolded(value, a);
    else if (span_ieqs(kind, "location") && !p->location.p)
        p->location = unfolded(value, a);
}

void mime_read_fields(struct mime *m, struct mime_part *p, struct span header)
{
    struct header_field f;
    while (header_next(&header, &f))
        if (span_istarts(f.name, SPAN("content-")) && m->arena.total + 4 * f.value.n <= MIME_KEEP_MAX)
            read_field(p, &f, &m->arena);
    if (!p->type.p)
        set_default_type(p);
}
