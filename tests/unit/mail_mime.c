/* The MIME parser against messages that other servers were tested with, and what Dovecot says of them; limits; linear
 * time. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/mem.h"
#include "mail/mime.h"

static const char *data_dir(void)
{
    return TEST_DATA "/mime";
}

/* The file with its line ends made CRLF. */
static struct buf read_message(const char *name)
{
    char path[1200];
    snprintf(path, sizeof path, "%s/%s", data_dir(), name);
    FILE *f = fopen(path, "rb");
    cr_assert(f, "%s", path);
    struct buf b = {0};
    int c, before = 0;
    while ((c = getc(f)) != EOF) {
        if (c == '\n' && before != '\r')
            buf_addc(&b, '\r');
        buf_addc(&b, (char)c);
        before = c;
    }
    fclose(f);
    return b;
}

/* IMAP's nested lists as JSON; strings in lower case where `lower`. */
static json_t *read_list(struct span *s);

static json_t *read_item(struct span *s)
{
    if (*s->p == '(')
        return read_list(s);
    if (*s->p == '"') {
        struct buf b = {0};
        size_t i = 1;
        for (; s->p[i] != '"'; i++) {
            if (s->p[i] == '\\')
                i++;
            buf_addc(&b, s->p[i]);
        }
        *s = span_from(*s, i + 1);
        json_t *j = json_stringn_nocheck(b.p ? b.p : "", b.n);
        buf_free(&b);
        return j;
    }
    if (*s->p == '{') {
        size_t n = strtoul(s->p + 1, NULL, 10);
        *s = span_from(*s, (size_t)span_find(*s, '\n') + 1);
        json_t *j = json_stringn_nocheck(s->p, n);
        *s = span_from(*s, n);
        return j;
    }
    if (span_starts(*s, SPAN("NIL"))) {
        *s = span_from(*s, 3);
        return json_null();
    }
    size_t n = 0;
    while (n < s->n && ascii_digit(s->p[n]))
        n++;
    cr_assert(n, "bad item: %.*s", (int)s->n, s->p);
    json_t *j = json_integer(strtoll(s->p, NULL, 10));
    *s = span_from(*s, n);
    return j;
}

static json_t *read_list(struct span *s)
{
    json_t *list = json_array();
    cr_assert_eq(*s->p, '(');
    *s = span_from(*s, 1);
    while (s->n && *s->p != ')') {
        if (*s->p == ' ')
            *s = span_from(*s, 1);
        else
            json_array_append_new(list, read_item(s));
    }
    cr_assert(s->n);
    *s = span_from(*s, 1);
    return list;
}

/* Dovecot writes names of its own where an address has no mailbox or domain; we write "". */
static json_t *plain(json_t *j)
{
    if (json_is_string(j) &&
        (!strcmp(json_string_value(j), "MISSING_DOMAIN") || !strcmp(json_string_value(j), "MISSING_MAILBOX")))
        return json_string("");
    if (!json_is_array(j))
        return json_incref(j);
    json_t *out = json_array();
    size_t i;
    json_t *v;
    json_array_foreach(j, i, v) json_array_append_new(out, plain(v));
    return out;
}

static void parse(struct mime *m, struct span text, size_t piece, struct buf *envelope, struct buf *structure)
{
    mime_reset(m);
    buf_clear(envelope);
    buf_clear(structure);
    for (size_t i = 0; i < text.n; i += piece)
        mime_feed(m, span_sub(text, i, piece));
    const struct mime_part *root = mime_end(m);
    buf_add(envelope, mime_envelope(m));
    mime_put_structure(structure, root, true);
}

static int differs(const char *name, const char *what, struct buf *ours, json_t *theirs, bool quiet)
{
    struct span s = buf_span(ours);
    json_t *a = read_list(&s), *b = plain(theirs);
    cr_expect_eq(s.n, 0);
    int bad = !json_equal(a, b);
    if (bad != quiet) {
        char *x = json_dumps(a, 0), *y = json_dumps(b, 0);
        printf("%s %s\n  ours   %s\n  theirs %s\n", name, what, x, y);
        free(x);
        free(y);
    }
    json_decref(a);
    json_decref(b);
    return bad;
}

/* Where we read a message otherwise, and why. */
static const struct {
    const char *name, *what, *why;
} otherwise[] = {
    {"malformed/004.eml", "bodystructure",
     "a line that only begins with the boundary is no delimiter (RFC2046:5.1.1 allows blanks behind it alone)"},
    {"malformed/007.eml", "bodystructure",
     "a boundary that is declared by the header section it stands in is not open yet"},
    {"malformed/016.eml", "bodystructure", "boundaries longer than 80 bytes are compared whole"},
    {"malformed/017.eml", "bodystructure", "a Content-Type that can't be read means text/plain (RFC2045:5.2)"},
    {"malformed/019.eml", "envelope", "of two Date fields the first counts"},
    {"thirdparty/007.eml", "bodystructure", "the line end before a delimiter belongs to it, in message/rfc822 too"},
    {"rfc/001.eml", "bodystructure", "an unquoted parameter value with an @ is kept"},
};

static bool excused(const char *name, const char *what)
{
    for (size_t i = 0; i < COUNT_OF(otherwise); i++)
        if (!strcmp(otherwise[i].name, name) && !strcmp(otherwise[i].what, what))
            return true;
    return false;
}

Test(mail, mime_structure_as_dovecot_gives_it)
{
    char path[1200];
    snprintf(path, sizeof path, "%s/dovecot-imap.json", data_dir());
    json_t *all = json_load_file(path, 0, NULL), *one;
    const char *name;
    int bad = 0;
    size_t seen = 0;
    struct mime *m = mime_new();
    struct buf envelope = {0}, structure = {0}, e2 = {0}, s2 = {0};
    cr_assert(all);
    json_object_foreach(all, name, one)
    {
        struct buf text = read_message(name);
        parse(m, buf_span(&text), 1u << 30, &envelope, &structure);
        bad += differs(name, "envelope", &envelope, json_object_get(one, "envelope"), excused(name, "envelope")) !=
               excused(name, "envelope");
        bad += differs(name, "bodystructure", &structure, json_object_get(one, "bodystructure"),
                       excused(name, "bodystructure")) != excused(name, "bodystructure");
        parse(m, buf_span(&text), 1, &e2, &s2); /* byte by byte */
        cr_expect(span_eq(buf_span(&envelope), buf_span(&e2)), "%s byte by byte", name);
        cr_expect(span_eq(buf_span(&structure), buf_span(&s2)), "%s byte by byte", name);
        parse(m, buf_span(&text), 7, &e2, &s2);
        cr_expect(span_eq(buf_span(&structure), buf_span(&s2)), "%s in pieces", name);
        buf_free(&text);
        seen++;
    }
    cr_expect_eq(bad, 0);
    cr_expect_gt(seen, 40);
    json_decref(all);
    mime_free(&m);
    buf_free(&envelope);
    buf_free(&structure);
    buf_free(&e2);
    buf_free(&s2);
}

/* ---- limits (HAZARDS 23) ---- */

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static size_t count_parts(const struct mime_part *p, size_t depth, size_t *deepest)
{
    size_t n = 1;
    *deepest = MAX_OF(*deepest, depth);
    for (const struct mime_part *c = p->children; c; c = c->next)
        n += count_parts(c, depth + 1, deepest);
    return n;
}

/* The piece with each %d replaced by the number. */
static void put_piece(struct buf *out, const char *piece, size_t number)
{
    for (const char *at; (at = strstr(piece, "%d")) != NULL; piece = at + 2) {
        buf_add(out, span_make(piece, (size_t)(at - piece)));
        buf_printf(out, "%zu", number);
    }
    buf_adds(out, piece);
}

/* A message that asks for as much work as it can: header, then the piece n times. */
static double time_of(const char *head, const char *piece, size_t n, size_t *parts, size_t *deepest)
{
    struct mime *m = mime_new();
    struct buf text = {0}, out = {0};
    buf_adds(&text, head);
    for (size_t i = 0; i < n; i++)
        put_piece(&text, piece, i);
    double t = seconds();
    mime_feed(m, buf_span(&text));
    const struct mime_part *root = mime_end(m);
    mime_put_structure(&out, root, true);
    t = seconds() - t;
    *deepest = 0;
    *parts = count_parts(root, 0, deepest);
    mime_free(&m);
    buf_free(&text);
    buf_free(&out);
    return t;
}

Test(mail, mime_limits_hold_and_time_is_linear)
{
    static const struct {
        const char *what, *head, *piece;
        size_t n;
    } worst[] = {
        {"parts", "Content-Type: multipart/mixed; boundary=b\r\n\r\n", "--b\r\n\r\nx\r\n", 200000},
        {"nesting", "", "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", 20000},
        {"messages in messages", "", "Content-Type: message/rfc822\r\n\r\n", 20000},
        {"parameters", "Content-Type: text/plain", "; p%d=%d", 100000},
        {"pieces of a parameter", "Content-Type: text/plain", "; p*%d=%d", 100000},
        {"extended pieces", "Content-Type: text/plain", "; p*%d*=%d", 100000},
        {"lines like delimiters", "Content-Type: multipart/mixed; boundary=b\r\n\r\n", "--b%d%d\r\n", 500000},
        {"comments", "Content-Type: text/plain ", "((((((((", 100000},
        {"fields", "", "Content-ID%d: <%d>\r\n", 200000},
        {"addresses", "To: ", "a%d@b%d, ", 200000},
        {"open quotes", "To: ", "\"\"\"a<\"", 100000},
        {"open brackets", "To: ", "<<@a:", 100000},
        {"groups", "To: ", "g:;", 100000},
        {"languages", "Content-Language: ", "a,", 100000},
    };
    for (size_t i = 0; i < COUNT_OF(worst); i++) {
        size_t parts, deepest;
        double half = time_of(worst[i].head, worst[i].piece, worst[i].n / 4, &parts, &deepest);
        double whole = time_of(worst[i].head, worst[i].piece, worst[i].n, &parts, &deepest);
        cr_expect_leq(parts, MIME_PARTS_MAX + 1, "%s: %zu parts", worst[i].what, parts);
        cr_expect_leq(deepest, MIME_DEPTH_MAX + 1, "%s: %zu deep", worst[i].what, deepest);
        cr_expect_lt(whole, half * 12 + 0.2, "%s: %f then %f", worst[i].what, half, whole);
    }
}

Test(mail, mime_one_long_line_costs_no_memory)
{
    struct mime *m = mime_new();
    static char block[65536];
    memset(block, 'x', sizeof block);
    mime_feed(m, SPAN("Subject: a\r\n\r\n"));
    for (int i = 0; i < 1000; i++)
        mime_feed(m, span_make(block, sizeof block));
    const struct mime_part *root = mime_end(m);
    cr_expect_eq(root->end, 14 + 1000 * sizeof block);
    cr_expect_eq(root->lines, 0);
    mime_free(&m);
}

Test(mail, mime_parts_by_number)
{
    static const char text[] =
        "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n\r\none\r\n--a\r\nContent-Type: message/rfc822\r\n\r\n"
        "Subject: in\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\n\r\ntwo\r\n--b\r\nContent-Type: "
        "text/html\r\n\r\nthree\r\n--b--\r\n--a\r\nContent-Type: message/rfc822\r\n\r\nSubject: "
        "x\r\n\r\nfour\r\n--a--\r\n";
    static const struct {
        uint32_t path[4];
        size_t n;
        const char *body; /* NULL: no such part */
    } want[] = {
        {{1}, 1, "one"},      {{2, 1}, 2, "two"},   {{2, 2}, 2, "three"}, {{3, 1}, 2, "four"},
        {{1, 1}, 2, NULL},    {{4}, 1, NULL},       {{2, 3}, 2, NULL},    {{0}, 1, NULL},
        {{2, 2, 1}, 3, NULL}, {{3, 1, 1}, 3, NULL}, {{3, 2}, 2, NULL},    {{3}, 1, "Subject: x\r\n\r\nfour"},
    };
    struct mime *m = mime_new();
    mime_feed(m, span_of(text));
    const struct mime_part *root = mime_end(m);
    for (size_t i = 0; i < COUNT_OF(want); i++) {
        const struct mime_part *p = mime_part_at(root, want[i].path, want[i].n);
        cr_expect_eq(p == NULL, want[i].body == NULL, "case %zu", i);
        if (p && want[i].body)
            cr_expect(span_eqs(span_make(text + p->body, p->end - p->body), want[i].body), "case %zu: %.*s", i,
                      (int)(p->end - p->body), text + p->body);
    }
    mime_free(&m);
}

Test(mail, mime_parameters_in_pieces)
{
    static const char text[] =
        "Content-Type: text/plain; charset=utf-8;\r\n name*0=\"a b\"; name*1=c\r\nContent-Disposition: attachment;\r\n"
        " filename*0*=utf-8''%e2%82; filename*1*=%ac; filename*2=\" x.txt\"\r\n\r\n";
    struct mime *m = mime_new();
    mime_feed(m, span_of(text));
    const struct mime_part *p = mime_end(m); /* RFC2231:3 RFC2231:4.1 */
    cr_expect(span_eqs(mime_param_value(p->params, "NAME"), "a bc"));
    cr_expect(span_eqs(mime_param_value(p->disposition_params, "filename*"), "utf-8''%e2%82%ac%20x.txt"));
    mime_free(&m);
}

Test(mail, mime_strings_cannot_break_out)
{
    struct mime *m = mime_new();
    struct buf out = {0};
    mime_feed(m, span_make("Subject: a\0b\r\n c\"\\\r\nFrom: \"x\r\n y\" <a\xff@b>\r\n\r\n", 45));
    mime_end(m);
    buf_add(&out, mime_envelope(m));
    cr_expect_eq(memchr(out.p, 0, out.n), NULL); /* RFC3501:9 CHAR8 */
    cr_expect_geq(span_search(buf_span(&out), SPAN("{7}\r\na\x80"
                                                   "b c\"\\")),
                  0, "%.*s", (int)out.n, out.p);
    cr_expect_geq(span_search(buf_span(&out), SPAN("((\"x y\" NIL {2}\r\na\xff \"b\"))")), 0, "%.*s", (int)out.n,
                  out.p);
    mime_free(&m);
    buf_free(&out);
}

Test(mail, mime_digest_and_group_addresses)
{
    static const char text[] = "From: a@b\r\nTo: Friends: C <c@d>, e@f;, nobody:;\r\nContent-Type: multipart/digest; "
                               "boundary=x\r\n\r\n--x\r\n\r\n"
                               "Subject: one\r\n\r\ntext\r\n--x\r\nContent-Type: text/plain\r\n\r\ntwo\r\n--x--\r\n";
    struct mime *m = mime_new();
    mime_feed(m, span_of(text));
    const struct mime_part *p = mime_end(m);
    cr_assert(p->children && p->children->next);
    cr_expect(p->children->rfc822); /* RFC2046:5.1.5 */
    cr_expect(span_eqs(p->children->next->type, "text"));
    /* RFC3501:7.4.2: a group's name stands as a mailbox without a host, and its end is all NIL */
    cr_expect_geq(
        span_search(mime_envelope(m),
                    SPAN("((NIL NIL \"Friends\" NIL)(\"C\" NIL \"c\" \"d\")(NIL NIL \"e\" \"f\")(NIL NIL NIL NIL)"
                         "(NIL NIL \"nobody\" NIL)(NIL NIL NIL NIL))")),
        0, "%.*s", SPANV(mime_envelope(m)));
    mime_free(&m);
}
