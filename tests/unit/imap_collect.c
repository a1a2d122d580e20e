/* The parts under the IMAP engine: putting commands together, tokens, sets, modified UTF-7, capabilities. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "auth/mechanisms.h"
#include "base/util.h"
#include "imap/capability.h"
#include "imap/collect.h"
#include "imap/set.h"
#include "imap/utf7.h"

/* What came out, as one text: C<command> R<refused> L<too long> l<announced>. accept: how large a literal is taken. */
static void collect(struct span in, size_t piece, size_t max, uint64_t accept, struct buf *out)
{
    struct imap_collect c;
    imap_collect_init(&c, max);
    for (size_t at = 0; at < in.n; at += piece) {
        struct span some = span_sub(in, at, piece);
        for (enum imap_collected r; (r = imap_collect_feed(&c, &some)) != IMAP_MORE;) {
            if (r == IMAP_LITERAL) {
                buf_printf(out, "l%u%s;", (unsigned)c.literal, c.sync ? "" : "+");
                if (c.literal <= accept)
                    imap_collect_accept(&c);
                else
                    imap_collect_refuse(&c);
                continue;
            }
            buf_addc(out, r == IMAP_COMMAND ? 'C' : r == IMAP_REFUSED ? 'R' : 'L');
            buf_add(out, imap_collect_text(&c));
            buf_addc(out, ';');
            imap_collect_next(&c);
        }
        cr_assert_eq(some.n, 0);
    }
    imap_collect_free(&c);
}

Test(imap_parts, commands_whole_and_byte_by_byte)
{
    static const struct {
        const char *in, *out;
    } table[] = {
        {"a NOOP\r\nb NOOP\n", "Ca NOOP;Cb NOOP;"},
        {"a X {3}\r\nabc d\r\n", "l3;Ca X {3}\r\nabc d;"},
        {"a X {3+}\r\nabc {2}\r\nde\r\n", "l3+;l2;Ca X {3+}\r\nabc {2}\r\nde;"},
        {"a X {4+}\r\n{9+}\r\nb\r\n", "l4+;Ca X {4+}\r\n{9+};Cb;"}, /* what a literal holds is not syntax */
        {"a X {0}\r\n\r\n", "l0;Ca X {0}\r\n;"},
        {"a X {11}\r\nb NOOP\r\n", "l11;Ra X {11};Cb NOOP;"}, /* refused: its client sends nothing of it */
        {"a X {11+}\r\nhello world y\r\nb\r\n", "l11+;Ra X {11+}\r\n y;Cb;"}, /* RFC7888:4 */
        {"a X {11+}\r\nhello world {3+}\r\nabc\r\nb\r\n", "l11+;Ra X {11+}\r\n {3+}\r\n;Cb;"},
        {"a X {x}\r\n{}\r\n{+}\r\n", "Ca X {x};C{};C{+};"},
        {"a \"{3}\"\r\n", "Ca \"{3}\";"},
        {"a {99999999999999999999}\r\nb\r\n", "Ca {99999999999999999999};Cb;"},
    };
    for (size_t i = 0; i < COUNT_OF(table); i++)
        for (size_t piece = 1; piece < 64; piece += 5) {
            struct buf out = {0};
            collect(span_of(table[i].in), piece, 60, 10, &out);
            cr_expect(span_eqs(buf_span(&out), table[i].out), "%s in %zu: %.*s", table[i].in, piece,
                      SPANV(buf_span(&out)));
            buf_free(&out);
        }
}

Test(imap_parts, commands_have_a_budget) /* HAZARDS 23 */
{
    struct buf in = {0}, out = {0};
    for (int i = 0; i < 10000; i++)
        buf_adds(&in, "xxxxxxxxxx");
    buf_adds(&in, "{5+}\r\n\r\n\r\n\r\r\nb NOOP\r\n"); /* the literal at its end is skipped: 5 bytes */
    for (size_t piece = 1; piece < 40; piece += 13) {
        buf_clear(&out);
        collect(buf_span(&in), piece, 10, 100, &out);
        cr_expect(span_eqs(buf_span(&out), "Lxxxxxxxxxx;Cb NOOP;"), "%zu: %.*s", piece, SPANV(buf_span(&out)));
    }
    buf_clear(&out);
    collect(SPAN("a {9+}\r\n123456789\r\nb\r\n"), 3, 10, 100, &out); /* the literal alone is over it */
    cr_expect(span_starts(buf_span(&out), SPAN("l9+;R")) && span_ends(buf_span(&out), SPAN(";Cb;")), "%.*s",
              SPANV(buf_span(&out)));
    buf_free(&in);
    buf_free(&out);
}

Test(imap_parts, tokens)
{
    static const struct {
        const char *in, *astring; /* NULL: none */
        size_t left;
    } table[] = {
        {"INBOX x", "INBOX", 2},
        {"\"a b\"", "a b", 0},
        {"\"a\\\"\\\\\"z", "a\"\\", 1},
        {"{3}\r\nabcd", "abc", 1},
        {"{3+}\r\nabc", "abc", 0},
        {"a]b", "a]b", 0},
        {"", NULL, 0},
        {"(", NULL, 1},
        {"\"a", NULL, 2},
        {"\"a\\b\"", NULL, 5},
        {"{5}\r\nabc", NULL, 8},
        {"{3}abc", NULL, 6},
        {"\"a\nb\"", NULL, 5},
        {"*", NULL, 1},
        {"{\r\n", NULL, 3},
        {"{3", NULL, 2},
        {"\xff", NULL, 1},
        {"\"\xff\"", "\xff", 0},
        {"{}\r\n", NULL, 4},
    };
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        struct arena a = {0};
        struct lex x = {.rest = span_of(table[i].in), .arena = &a};
        struct span got;
        bool ok = lex_astring(&x, &got);
        cr_expect_eq(ok, table[i].astring != NULL, "%s", table[i].in);
        if (ok && table[i].astring)
            cr_expect(span_eqs(got, table[i].astring), "%s", table[i].in);
        cr_expect_eq(x.rest.n, table[i].left, "%s: %zu left", table[i].in, x.rest.n);
        arena_free(&a);
    }
    struct arena a = {0};
    struct lex x = {.rest = SPAN("12 4294967296 NIL"), .arena = &a};
    struct span s;
    uint32_t n;
    cr_expect(lex_number(&x, &n) && n == 12 && lex_sp(&x) && !lex_number(&x, &n));
    uint64_t n64;
    cr_expect(lex_number64(&x, &n64) && n64 == 4294967296 && lex_sp(&x) && lex_nstring(&x, &s) && !s.p && lex_end(&x));
    arena_free(&a);
}

Test(imap_parts, sets)
{
    static const uint32_t uids[] = {2, 5, 7, 100};
    static const struct {
        const char *set, *numbers, *by_uid; /* NULL: bad syntax or no such message */
    } table[] = {
        {"1", "1", ""},
        {"1:4", "1:4", "1"},
        {"4:1", "1:4", "1"},
        {"*", "4", "4"},
        {"1,3,2", "1:3", "1"},
        {"2:*", "2:4", "1:4"},
        {"*:3", "3:4", "2:4"},
        {"5", NULL, "2"},
        {"7:100", NULL, "3:4"},
        {"101:*", "4", "4"},
        {"1:4294967295", NULL, "1:4"},
        {"3:6,99:101", NULL, "2,4"},
        {"0", NULL, NULL},
        {"1:", NULL, NULL},
        {"a", NULL, NULL},
        {"1,,2", NULL, NULL},
        {"", NULL, NULL},
        {"4294967296", NULL, NULL},
        {"1:2:3", "", ""},
    };
    for (size_t i = 0; i < COUNT_OF(table); i++)
        for (int by_uid = 0; by_uid < 2; by_uid++) {
            struct arena a = {0};
            struct lex x = {.rest = span_of(table[i].set), .arena = &a};
            struct set set, at;
            struct buf out = {0};
            const char *want = by_uid ? table[i].by_uid : table[i].numbers;
            bool ok = set_parse(&x, &set) && set_resolve(&set, by_uid, uids, 4, &a, &at);
            if (!strcmp(table[i].set, "1:2:3"))
                cr_expect(!lex_end(&x));
            else
                cr_expect_eq(ok, want != NULL, "%s %d", table[i].set, by_uid);
            if (ok && want && *table[i].set != '1') {
                uint32_t numbers[10];
                size_t n = 0;
                for (uint32_t p = 0; p < 4; p++)
                    if (set_has(&at, p))
                        numbers[n++] = p + 1;
                cr_expect_eq(set_count(&at), n);
                set_put(&out, numbers, n);
                cr_expect(span_eqs(buf_span(&out), want), "%s %d: %.*s", table[i].set, by_uid, SPANV(buf_span(&out)));
            }
            buf_free(&out);
            arena_free(&a);
        }
    struct arena a = {0};
    struct lex x = {.rest = SPAN("1:*"), .arena = &a};
    struct set set, at;
    cr_expect(set_parse(&x, &set) && set_resolve(&set, false, NULL, 0, &a, &at) && at.n == 0); /* an empty mailbox */
    arena_free(&a);
}

Test(imap_parts, modified_utf7) /* RFC3501:5.1.3, HAZARDS 22 */
{
    static const struct {
        const char *wire, *utf8;
    } good[] = {
        {"INBOX", "INBOX"},
        {"a&-b", "a&b"},
        {"Entw&APw-rfe", "Entw\u00fcrfe"},
        {"&U,BTFw-", "\u53f0\u5317"},
        {"&2D3eCg-", "\U0001f60a"},
        {"~peter/mail/&U,BTFw-/&ZeVnLIqe-", "~peter/mail/\u53f0\u5317/\u65e5\u672c\u8a9e"},
        {"", ""},
        {"&-&-", "&&"},
        {"&AAAAAA-", NULL},
    };
    static const char *const bad[] = {
        "&",     "&A",   "&AGE-",      "&APw",   "&AP-",  "&2D0-",  "&3go-",          "a\xc3\xbc",
        "a\x7f", "a\tb", "&APw-&APw-", "&AP*A-", "&APx-", "&APwA-", "&U,BTFw-&-&ZeU",
    };
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        struct buf out = {0};
        if (!good[i].utf8)
            continue;
        cr_expect_eq(utf7_decode(span_of(good[i].wire), &out), 0, "%s", good[i].wire);
        cr_expect(span_eqs(buf_span(&out), good[i].utf8), "%s", good[i].wire);
        buf_clear(&out);
        utf7_encode(span_of(good[i].utf8), &out);
        cr_expect(span_eqs(buf_span(&out), good[i].wire), "%s: %.*s", good[i].wire, SPANV(buf_span(&out)));
        buf_free(&out);
    }
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct buf out = {0};
        cr_expect_eq(utf7_decode(span_of(bad[i]), &out), -1, "%s", bad[i]);
        cr_expect_eq(out.n, 0);
        buf_free(&out);
    }
}

Test(imap_parts, capabilities)
{
    struct buf out = {0};
    imap_put_capabilities(&out, IMAP_BEFORE_TLS, true, SPAN("PLAIN")); /* RFC3501:6.2.1 RFC3501:6.2.3 */
    cr_expect(span_eqs(buf_span(&out), "IMAP4rev1 LITERAL+ ID STARTTLS LOGINDISABLED"), "%.*s", SPANV(buf_span(&out)));
    buf_clear(&out);
    imap_put_capabilities(&out, IMAP_BEFORE_LOGIN, false, SPAN("PLAIN LOGIN"));
    cr_expect(span_eqs(buf_span(&out), "IMAP4rev1 LITERAL+ ID SASL-IR AUTH=PLAIN"), "%.*s", SPANV(buf_span(&out)));
    buf_clear(&out); /* RFC5802:6, RFC7677:3 */
    char names[SASL_OFFER_MAX];
    imap_put_capabilities(&out, IMAP_BEFORE_LOGIN, false, sasl_offer(SASL_SCRAM | SASL_TLS, names));
    cr_expect(span_iends(buf_span(&out), SPAN(" SASL-IR AUTH=SCRAM-SHA-256-PLUS AUTH=SCRAM-SHA-256 AUTH=PLAIN")));
    buf_clear(&out); /* what can't be bound is not offered with a binding */
    imap_put_capabilities(&out, IMAP_BEFORE_LOGIN, false, sasl_offer(SASL_SCRAM, names));
    cr_expect(span_iends(buf_span(&out), SPAN(" SASL-IR AUTH=SCRAM-SHA-256 AUTH=PLAIN")));
    buf_clear(&out);
    imap_put_capabilities(&out, IMAP_BEFORE_TLS, true, sasl_offer(SASL_SCRAM, names));
    cr_expect(span_search(buf_span(&out), SPAN("AUTH=")) < 0);
    buf_free(&out);
}
