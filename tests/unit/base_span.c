#include <criterion/criterion.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/base64.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/map.h"
#include "base/outcome.h"
#include "base/span.h"

Test(base, span_u64_takes_digits_only_and_the_limit)
{
    uint64_t v = 7;
    cr_assert(span_u64(SPAN("0"), 10, &v) && v == 0);
    cr_assert(span_u64(SPAN("18446744073709551615"), UINT64_MAX, &v) && v == UINT64_MAX);
    v = 7;
    static const char *const bad[] = {"", "-1", "+1", " 1", "1 ", "1x", "18446744073709551616", "99999999999999999999999"};
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        cr_assert(!span_u64(span_of(bad[i]), UINT64_MAX, &v) && v == 7, "%s", bad[i]);
    cr_assert(!span_u64(SPAN("11"), 10, &v));
}

Test(base, span_utf8)
{
    static const struct {
        const char *s;
        bool good;
    } cases[] = {{"", true}, {"plain", true}, {"\xc3\xa9", true}, {"\xe2\x82\xac", true}, {"\xf0\x9f\x98\x80", true},
                 {"\xc0\x80", false}, {"\xc1\xbf", false}, {"\xe0\x9f\xbf", false}, {"\xed\xa0\x80", false}, {"\xf4\x90\x80\x80", false},
                 {"\xf0\x8f\xbf\xbf", false}, {"\x80", false}, {"\xe2\x82", false}, {"a\xff", false}};
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        cr_assert_eq(span_is_utf8(span_of(cases[i].s)), cases[i].good, "case %zu", i);
}

Test(base, span_fits)
{
    static const struct {
        const char *text, *pattern;
        bool fits;
    } cases[] = {{"", "", true},          {"", "*", true},          {"a", "", false},          {"abc", "ABC", true},
                 {"abc", "a*", true},     {"abc", "*c", true},      {"abc", "*b*", true},      {"abc", "a*b", false},
                 {"abab", "*ab", true},   {"aab", "*ab", true},     {"abcabd", "a*bd", true},  {"abc", "**", true},
                 {"a*c", "a*c", true},    {"ann@b.test", "*@*.test", true}, {"ann@b.tes", "*@*.test", false}, {"x", "*x*x*", false}};
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        cr_expect_eq(span_fits(span_of(cases[i].text), span_of(cases[i].pattern)), cases[i].fits, "%s %s", cases[i].text, cases[i].pattern);
}

Test(base, span_words_and_cuts)
{
    struct span s = SPAN("  one \t two");
    cr_assert(span_eq(span_word(&s), SPAN("one")));
    cr_assert(span_eq(span_word(&s), SPAN("two")));
    cr_assert_eq(span_word(&s).n, 0);
    s = SPAN("a:b:c");
    cr_assert(span_eq(span_cut(&s, ':'), SPAN("a")));
    cr_assert(span_eq(s, SPAN("b:c")));
    cr_assert(span_eq(span_cut(&s, '/'), SPAN("b:c")) && s.n == 0);
    cr_assert_eq(span_search(SPAN("needle in hay"), SPAN("in")), 7);
    cr_assert(span_iends(SPAN("x@Example.TEST"), SPAN("@example.test")));
}

/* RFC 4648 §10, and what RFC4648:3.3 and RFC4648:3.5 let a strict decoder refuse. */
Test(base, base64)
{
    static const char *const good[][2] = {{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}, {"\xff\xef\xbe", "/+++"}};
    static const char *const bad[] = {"Zg", "Zg=", "Z", "Z===", "====", "=Zg=", "Zg==Zg==", "Zm9v\r\n==", "Zm 9", "Zm9v ", " Zm9", "Zm9-", "Zm9_", "Zh==", "Zm9=", "Zg=A"};
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        struct buf text = {0}, bytes = {0};
        base64_encode(span_of(good[i][0]), &text);
        cr_expect(span_eqs(buf_span(&text), good[i][1]), "%s", good[i][0]);
        cr_expect(base64_decode(span_of(good[i][1]), &bytes) == 0 && span_eqs(buf_span(&bytes), good[i][0]), "%s", good[i][1]);
        buf_free(&text);
        buf_free(&bytes);
    }
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct buf bytes = {0};
        buf_adds(&bytes, "kept");
        cr_expect(base64_decode(span_of(bad[i]), &bytes) == -1 && span_eqs(buf_span(&bytes), "kept"), "%s", bad[i]);
        buf_free(&bytes);
    }
}

Test(base, buf_grows_and_drops)
{
    struct buf b = {0};
    for (int i = 0; i < 10000; i++)
        buf_printf(&b, "%d,", i);
    cr_assert(span_starts(buf_span(&b), SPAN("0,1,2,")));
    cr_assert(span_ends(buf_span(&b), SPAN("9998,9999,")));
    buf_drop(&b, b.n - 5);
    cr_assert_str_eq(buf_cstr(&b), "9999,");
    buf_free(&b);
    cr_assert_not_null(buf_room(&b, 0), "a place to add nothing to is a place, too");
    buf_free(&b);
}

Test(base, arena_gives_zeroed_memory_also_where_something_was)
{
    struct arena a = {0};
    for (size_t round = 0; round < 4; round++) {
        for (size_t n = 1; n < 3000; n *= 3) {
            unsigned char *p = arena_alloc(&a, n);
            for (size_t i = 0; i < n; i++)
                cr_assert_eq(p[i], 0);
            memset(p, 0xee, n);
            cr_assert_str_eq(arena_str(&a, SPAN("sixteen letters.")), "sixteen letters.");
            cr_assert_str_eq(arena_printf(&a, "%s", "sixteen letters.").p, "sixteen letters.");
        }
        arena_reset(&a);
    }
    arena_free(&a);
}

Test(base, arena_keeps_what_it_was_given_until_reset)
{
    struct arena a = {0};
    struct span kept[200];
    for (size_t i = 0; i < COUNT_OF(kept); i++)
        kept[i] = arena_printf(&a, "%0*zu", (int)(i * 10 + 1), i);
    for (size_t i = 0; i < COUNT_OF(kept); i++) {
        uint64_t v = 0;
        cr_assert(kept[i].n == i * 10 + 1);
        cr_assert(span_u64(kept[i], UINT64_MAX, &v) && v == i);
    }
    arena_reset(&a);
    cr_assert_eq(a.total, 0);
    arena_free(&a);
}

/* A model test: the maps must agree with a plain array after many random steps, deletions included. */
Test(base, maps_agree_with_a_model)
{
    struct map m = {0};
    struct idmap ids = {0};
    static int model[500], values[500];
    unsigned seed = 42;
    for (int step = 0; step < 50000; step++) {
        seed = seed * 1103515245 + 12345;
        size_t k = seed / 65536 % COUNT_OF(model);
        char key[32];
        snprintf(key, sizeof key, "key-%zu", k);
        if (seed / 3 % 2) {
            map_put(&m, span_of(key), &values[k]);
            idmap_put(&ids, k * 7919, &values[k]);
            model[k] = 1;
        } else {
            cr_assert_eq(map_del(&m, span_of(key)), model[k] ? &values[k] : NULL);
            cr_assert_eq(idmap_del(&ids, k * 7919), model[k] ? &values[k] : NULL);
            model[k] = 0;
        }
    }
    size_t count = 0;
    for (size_t k = 0; k < COUNT_OF(model); k++) {
        char key[32];
        snprintf(key, sizeof key, "key-%zu", k);
        cr_assert_eq(map_get(&m, span_of(key)), model[k] ? &values[k] : NULL);
        cr_assert_eq(idmap_get(&ids, k * 7919), model[k] ? &values[k] : NULL);
        count += (size_t)model[k];
    }
    cr_assert(m.count == count && ids.count == count);
    map_free(&m);
    idmap_free(&ids);
}

Test(base, log_values_cannot_forge_a_line)
{
    static const struct {
        struct span in;
        const char *out;
    } cases[] = {{SPAN("plain@x.test"), "plain@x.test"},
                 {SPAN(""), "\"\""},
                 {SPAN("two words"), "\"two words\""},
                 {SPAN("a\r\nfake=1"), "\"a\\r\\nfake=1\""},
                 {SPAN("q\"\\"), "\"q\\\"\\\\\""},
                 {SPAN("nul\0end"), "\"nul\\x00end\""},
                 {SPAN("\xff"), "\"\\xff\""},
                 {SPAN("\xc3\xa9"), "\xc3\xa9"}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct buf b = {0};
        log_value(&b, cases[i].in);
        cr_assert_str_eq(buf_cstr(&b), cases[i].out);
        buf_free(&b);
    }
}

/* RFC2034:4: an enhanced status code counts only when its class agrees with the reply code. */
Test(base, outcome_from_replies)
{
    struct outcome o = outcome_from_reply(550, SPAN("5.1.1 no such user"));
    cr_assert(o.kind == OUTCOME_FAILED && o.subject == 1 && o.detail == 1);
    cr_assert_str_eq(o.text, "no such user");
    o = outcome_from_reply(451, SPAN("5.1.1 odd"));
    cr_assert(o.kind == OUTCOME_RETRY && o.subject == 0 && o.detail == 0);
    cr_assert_str_eq(o.text, "5.1.1 odd");
    o = outcome_from_reply(250, SPAN("bell\a"));
    cr_assert_str_eq(o.text, "bell ");
    struct buf b = {0};
    o = outcome_make(OUTCOME_RETRY, 452, 4, 3, "%s", "busy");
    outcome_put(&b, &o);
    cr_assert_str_eq(buf_cstr(&b), "452 4.4.3 busy");
    buf_clear(&b);
    o = outcome_make(OUTCOME_DONE, 0, 999, 0, "a text\twith 100 %% of \x7f");
    outcome_put(&b, &o);
    cr_assert_str_eq(buf_cstr(&b), "2.999.0 a text with 100 % of  ");
    buf_free(&b);
}

/* A constant text, a formatted one, a reply: cut to what fits, between characters; what is no UTF-8 has question marks. */
Test(base, outcome_texts)
{
    char many[1000];
    struct outcome o;
    memset(many, 'x', sizeof many);
    many[sizeof many - 1] = '\0';
    memcpy(many + sizeof o.text - 2, "\u00e4", 2); /* the first byte would fit */
    o = outcome_make(OUTCOME_DONE, 250, 0, 0, "%s", many);
    cr_assert_eq(strlen(o.text), sizeof o.text - 2);
    o = outcome_from_reply(250, span_make(many, sizeof o.text - 2));
    cr_assert_eq(strlen(o.text), sizeof o.text - 2);
    o = outcome_from_reply(250, span_make(many + 500, sizeof o.text - 1));
    cr_assert_eq(strlen(o.text), sizeof o.text - 1);
    o = outcome_from_reply(250, span_make(many + 500, 499));
    cr_assert_eq(strlen(o.text), sizeof o.text - 1);
    o = outcome_make(OUTCOME_DONE, 250, 0, 0, "gr\u00fc\u00df \a");
    cr_assert_str_eq(o.text, "gr\u00fc\u00df  ");
    o = outcome_make(OUTCOME_DONE, 250, 0, 0, "odd \xff\xfe");
    cr_assert_str_eq(o.text, "odd ??");
    o = outcome_make(OUTCOME_DONE, 250, 0, 0, "plain");
    cr_assert_str_eq(o.text, "plain");
    o = outcome_from_reply(250, SPAN(""));
    cr_assert_str_eq(o.text, "");
}

Test(base, numbers_in_buffers)
{
    static const int64_t numbers[] = {0, 7, -7, 10, 1234567890123, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        char want[24];
        struct buf b = {0};
        snprintf(want, sizeof want, "%lld", (long long)numbers[i]);
        buf_addn(&b, numbers[i]);
        cr_assert_str_eq(buf_cstr(&b), want);
        buf_free(&b);
    }
}

/* Whatever room there is: what is printed is whole, and what was there before stays. */
Test(base, printing_into_any_room)
{
    for (size_t before = 0; before < 130; before++) {
        struct buf b = {0};
        for (size_t i = 0; i < before; i++)
            buf_addc(&b, '.');
        buf_printf(&b, "%s %d", "seventeen and", 401);
        cr_assert_eq(b.n, before + 17);
        cr_assert(span_eqs(span_from(buf_span(&b), before), "seventeen and 401"));
        cr_assert_leq(b.n, b.cap);
        buf_free(&b);
    }
}
