/* SASLprep: the examples of RFC 4013 and what passwords meet. */
#include <criterion/criterion.h>
#include <string.h>

#include "auth/saslprep.h"

static const char *prepared(const char *in)
{
    static char out[64];
    size_t n;
    return saslprep(span_of(in), out, sizeof out, &n) && strlen(out) == n ? out : NULL;
}

/* RFC4013:3 */
Test(auth_saslprep, examples)
{
    cr_assert_str_eq(prepared("I\u00adX"), "IX", "SOFT HYPHEN is mapped to nothing");
    cr_assert_str_eq(prepared("user"), "user");
    cr_assert_str_eq(prepared("USER"), "USER", "case stays");
    cr_assert_str_eq(prepared("\u00aa"), "a", "NFKC");
    cr_assert_str_eq(prepared("\u2168"), "IX", "NFKC, the same as the first");
    cr_assert_null(prepared("\007"), "prohibited character");
    cr_assert_null(prepared("\u0627" "1"), "bidirectional check");
}

Test(auth_saslprep, passwords)
{
    cr_assert_str_eq(prepared(" a~!\"\\ "), " a~!\"\\ ");
    cr_assert_str_eq(prepared("p\u00e4ss"), "p\u00e4ss");
    cr_assert_str_eq(prepared("pa\u0308ss"), "p\u00e4ss", "as other systems type it");
    cr_assert_str_eq(prepared("a\u00a0b"), "a b", "RFC4013:2.1: a space is a space");
    cr_assert_null(prepared("\U0001f600"), "RFC5802:2.2: not assigned in Unicode 3.2");
    cr_assert_null(prepared("\u00ad"), "nothing is left");
    cr_assert_null(prepared(""));
    cr_assert_null(prepared("p\xff"), "not UTF-8");
    cr_assert_null(prepared("\ue000"), "private use");
    cr_assert_null(prepared("\x7f"));
}

Test(auth_saslprep, what_does_not_fit)
{
    char out[8];
    size_t n;
    cr_assert(saslprep(SPAN("1234567"), out, sizeof out, &n) && n == 7);
    cr_assert_not(saslprep(SPAN("12345678"), out, sizeof out, &n));
    cr_assert_not(saslprep(SPAN("\uFB03\uFB03"), out, sizeof out - 2, &n), "ffiffi needs one more");
    cr_assert_not(saslprep(span_make("a\0b", 3), out, sizeof out, &n));
}
