/* Address lists of header fields, RFC 5322 §3.4 and its obsolete forms: see header.h. Lenient: real mail has unquoted
 * dots, missing brackets and words in odd places; each step takes at least one byte, so the time is linear. */
#include "base/util.h"
#include "mail/header.h"

struct list {
    struct span rest;
    struct arena *arena;
    struct header_address *first, **tail;
    size_t count;
    bool in_group;
    struct buf phrase;  /* words with single blanks between: a display name */
    struct buf local;   /* the same words with nothing between: a local part */
    struct buf comment; /* the last one seen */
    bool has_phrase, gap, has_comment, broken;
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* strchr() alone would find a NUL. */
static bool one_of(char c, const char *set)
{
    return c && strchr(set, c);
}

static void take_comment(struct list *x)
{
    size_t i = 1;
    unsigned depth = 1;
    buf_clear(&x->comment);
    for (; i < x->rest.n && depth; i++) {
        char c = x->rest.p[i];
        if (c == '\\' && i + 1 < x->rest.n)
            c = x->rest.p[++i];
        else if (c == '(')
            depth++;
        else if (c == ')' && --depth == 0)
            continue;
        if (c != '\r' && c != '\n')
            buf_addc(&x->comment, c);
    }
    x->has_comment = x->comment.n > 0;
    x->rest = span_from(x->rest, i);
}

static void skip_blanks(struct list *x)
{
    while (x->rest.n && (is_blank(*x->rest.p) || *x->rest.p == '(')) {
        x->gap = true;
        if (*x->rest.p == '(')
            take_comment(x);
        else
            x->rest = span_from(x->rest, 1);
    }
}

/* A quoted string's content without its quotes. */
static void take_quoted(struct list *x, struct buf *a, struct buf *b)
{
    size_t i = 1;
    for (; i < x->rest.n && x->rest.p[i] != '"'; i++) {
        char c = x->rest.p[i];
        if (c == '\\' && i + 1 < x->rest.n)
            c = x->rest.p[++i];
        if (c == '\r' || c == '\n')
            continue;
        buf_addc(a, c);
        if (b)
            buf_addc(b, c);
    }
    x->rest = span_from(x->rest, i + 1);
}

/* An encoded word may hold what would be special elsewhere: its length, 0 when there is none. */
static size_t encoded_word(struct span s)
{
    unsigned marks = 0;
    if (!span_starts(s, SPAN("=?")))
        return 0;
    for (size_t i = 2; i < s.n && i < 200 && !is_blank(s.p[i]); i++)
        if (s.p[i] == '?' && ++marks >= 3 && i + 1 < s.n && s.p[i + 1] == '=')
            return i + 2;
    return 0;
}

static struct span take_atom(struct list *x)
{
    size_t n = encoded_word(x->rest);
    while (!n || (n < x->rest.n && !is_blank(x->rest.p[n]) && !one_of(x->rest.p[n], "()<>@,;:\"")))
        n++;
    struct span atom = span_sub(x->rest, 0, n);
    x->rest = span_from(x->rest, n);
    return atom;
}

static void take_words(struct list *x)
{
    for (;;) {
        skip_blanks(x);
        if (!x->rest.n || one_of(*x->rest.p, "<@,;:"))
            return;
        if (x->gap && x->phrase.n)
            buf_addc(&x->phrase, ' ');
        x->gap = false;
        x->has_phrase = true;
        if (*x->rest.p == '"') {
            take_quoted(x, &x->phrase, &x->local);
        } else {
            struct span atom = take_atom(x);
            buf_add(&x->phrase, atom);
            buf_add(&x->local, atom);
        }
    }
}

static struct header_address *add(struct list *x, enum header_address_kind kind)
{
    if (x->count++ >= HEADER_ADDRESSES_MAX) {
        x->broken = true;
        return NULL;
    }
    struct header_address *a = arena_alloc(x->arena, sizeof *a);
    a->kind = kind;
    *x->tail = a;
    x->tail = &a->next;
    return a;
}

static struct span keep(struct list *x, const struct buf *b)
{
    struct span s = arena_dup(x->arena, buf_span(b));
    return s.p ? s : SPAN("");
}

/* The domain behind an @, up to what can't belong to it. */
static struct span take_domain(struct list *x)
{
    struct buf out = {0};
    skip_blanks(x);
    while (x->rest.n && !one_of(*x->rest.p, "<>@,;:\"")) {
        if (*x->rest.p == '[') {
            ptrdiff_t end = span_find(x->rest, ']');
            size_t n = end < 0 ? x->rest.n : (size_t)end + 1;
            buf_add(&out, span_sub(x->rest, 0, n));
            x->rest = span_from(x->rest, n);
        } else {
            buf_add(&out, take_atom(x));
        }
        skip_blanks(x);
    }
    struct span s = keep(x, &out);
    buf_free(&out);
    return s;
}

/* RFC5322:4.4 obs-route: "@a,@b:" in front of the address says nothing any more. */
static void skip_route(struct list *x)
{
    skip_blanks(x);
    if (!x->rest.n || *x->rest.p != '@')
        return;
    size_t n = 0;
    while (n < x->rest.n && !one_of(x->rest.p[n], ":<>;\""))
        n++;
    if (n < x->rest.n && x->rest.p[n] == ':')
        x->rest = span_from(x->rest, n + 1);
}

static void take_angle(struct list *x, struct header_address *a)
{
    struct buf local = {0};
    x->rest = span_from(x->rest, 1);
    skip_route(x);
    for (skip_blanks(x); x->rest.n && !one_of(*x->rest.p, "<>@,;"); skip_blanks(x)) {
        if (*x->rest.p == '"')
            take_quoted(x, &local, NULL);
        else if (*x->rest.p == ':' || *x->rest.p == ')')
            x->rest = span_from(x->rest, 1);
        else
            buf_add(&local, take_atom(x));
    }
    if (local.n)
        a->local = keep(x, &local);
    buf_free(&local);
    if (x->rest.n && *x->rest.p == '@') {
        x->rest = span_from(x->rest, 1);
        a->domain = take_domain(x);
        if (!a->domain.n)
            a->domain = SPAN_NONE;
    }
    while (x->rest.n && *x->rest.p != '>' && *x->rest.p != ',')
        x->rest = span_from(x->rest, 1);
    if (x->rest.n && *x->rest.p == '>')
        x->rest = span_from(x->rest, 1);
}

/* What is left before the next comma belongs to nothing, but a comment in it may be the name. */
static void skip_to_next(struct list *x)
{
    for (skip_blanks(x); x->rest.n && *x->rest.p != ',' && *x->rest.p != ';'; skip_blanks(x)) {
        struct buf none = {0};
        if (*x->rest.p == '"')
            take_quoted(x, &none, NULL);
        else
            x->rest = span_from(x->rest, 1);
        buf_free(&none);
    }
}

static void take_mailbox(struct list *x)
{
    struct header_address *a = add(x, HEADER_MAILBOX);
    if (!a)
        return;
    if (x->rest.n && *x->rest.p == '<') {
        if (x->phrase.n)
            a->name = keep(x, &x->phrase);
        take_angle(x, a);
    } else {
        if (x->phrase.n != x->local.n && (!x->rest.n || *x->rest.p != '@'))
            a->name = keep(x, &x->phrase); /* several words and no address: a name */
        else if (x->local.n)
            a->local = keep(x, &x->local);
        if (x->rest.n && *x->rest.p == '@') {
            x->rest = span_from(x->rest, 1);
            a->domain = take_domain(x);
            if (!a->domain.n)
                a->domain = SPAN_NONE;
        }
        if (x->rest.n && *x->rest.p == '<') { /* an address where the name should be */
            struct span local = a->local.p ? a->local : SPAN("");
            a->name = arena_printf(x->arena, "%.*s@%.*s", SPANV(local), SPANV(a->domain));
            a->local = a->domain = SPAN_NONE;
            take_angle(x, a);
        }
    }
    skip_to_next(x);
    if (!a->name.p && x->has_comment)
        a->name = keep(x, &x->comment);
}

static void begin_item(struct list *x)
{
    buf_clear(&x->phrase);
    buf_clear(&x->local);
    x->has_phrase = x->gap = x->has_comment = false;
}

static void end_group(struct list *x)
{
    if (x->in_group)
        add(x, HEADER_GROUP_END);
    x->in_group = false;
}

/* One step: a separator, the start of a group, or a mailbox. */
static void take_item(struct list *x)
{
    begin_item(x);
    take_words(x);
    char c = x->rest.n ? *x->rest.p : ',';
    if (c == ':') {
        x->rest = span_from(x->rest, 1);
        if (x->in_group || !x->has_phrase)
            return;
        struct header_address *a = add(x, HEADER_GROUP);
        if (a)
            a->local = keep(x, &x->phrase), a->name = a->local;
        x->in_group = a != NULL;
        return;
    }
    if (x->has_phrase || c == '<' || c == '@')
        take_mailbox(x);
    if (x->rest.n && (*x->rest.p == ',' || *x->rest.p == ';')) {
        if (*x->rest.p == ';')
            end_group(x);
        x->rest = span_from(x->rest, 1);
    }
}

struct header_address *header_addresses(struct span value, struct arena *a)
{
    struct list x = {.rest = value, .arena = a};
    x.tail = &x.first;
    while (x.rest.n && !x.broken)
        take_item(&x);
    if (!x.broken)
        end_group(&x);
    buf_free(&x.phrase);
    buf_free(&x.local);
    buf_free(&x.comment);
    return x.first;
}
