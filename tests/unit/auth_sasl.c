/* auth/sasl: PLAIN (RFC4616:2, authorization identity included) and LOGIN, good and broken. Names of mechanisms:
 * RFC4422:3.1. */
#include <criterion/criterion.h>

#include "auth/mechanisms.h"
#include "auth/password.h"
#include "auth/sasl.h"

static enum sasl_next plain(struct span response, struct sasl_result *r, struct sasl **s)
{
    *s = sasl_begin(SPAN("PLAIN"), &response, r);
    cr_assert(*s);
    return r->next;
}

/* RFC6750:5.3, RFC5802:6: tokens and bindings go with TLS, whatever else is configured. */
Test(auth, sasl_what_needs_tls)
{
    static const char *const with[] = {"OAUTHBEARER", "XOAUTH2", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "EXTERNAL"};
    unsigned all = SASL_OAUTH | SASL_SCRAM | SASL_SCRAM_1 | SASL_EXTERNAL;
    for (size_t i = 0; i < COUNT_OF(with); i++) {
        cr_expect_not(sasl_offered(all, span_of(with[i])), "%s", with[i]);
        cr_expect(sasl_offered(all | SASL_TLS, span_of(with[i])), "%s", with[i]);
    }
    char names[SASL_OFFER_MAX];
    cr_expect(span_eqs(sasl_offer(all, names), "SCRAM-SHA-256 SCRAM-SHA-1 PLAIN LOGIN"), "%s", names);
}

Test(auth, sasl_plain_initial)
{
    struct sasl_result r;
    struct sasl *s;
    cr_assert_eq(plain(SPAN("\0alice@example.test\0secret"), &r, &s), SASL_VERIFY);
    cr_assert(span_eqs(r.user, "alice@example.test") && span_eqs(r.password, "secret") && r.authzid.n == 0);
    sasl_free(&s);
    cr_assert_null(s);
    cr_assert_eq(plain(SPAN("boss@x\0alice@x\0pass word\xc3\xa9"), &r, &s), SASL_VERIFY);
    cr_assert(span_eqs(r.authzid, "boss@x") && span_eqs(r.user, "alice@x") &&
              span_eqs(r.password, "pass word\xc3\xa9"));
    sasl_free(&s);
}

Test(auth, sasl_plain_asks_first)
{
    struct sasl_result r;
    struct sasl *s = sasl_begin(SPAN("plain"), NULL, &r);
    cr_assert(s && r.next == SASL_CHALLENGE && r.challenge.n == 0);
    sasl_step(s, SPAN("\0a@b\0c"), &r);
    cr_assert_eq(r.next, SASL_VERIFY);
    sasl_free(&s);
}

Test(auth, sasl_plain_broken)
{
    char many[1000], field[600];
    memset(many, 'x', sizeof(many));
    memset(field, 'x', sizeof(field));
    field[0] = 0;
    field[321] = 0; /* a name of 320 bytes, a password of 278 */
    const struct span bad[] = {
        SPAN(""),
        SPAN("\0"),
        SPAN("a"),
        SPAN("a\0b"),
        SPAN("\0\0"),
        SPAN("\0a\0"),
        SPAN("\0\0b"),
        SPAN("\0a\0b\0"),
        SPAN("\0a\0b\0c"),
        SPAN("\0\xff\0b"),
        SPAN("\0a\0\xc3"),
        SPAN("\xff\0a\0b"),
        {many, sizeof(many)},
        {field, sizeof(field)},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct sasl_result r;
        struct sasl *s;
        cr_expect_eq(plain(bad[i], &r, &s), SASL_REFUSED, "case %zu", i);
        cr_expect(r.why);
        sasl_free(&s);
    }
}

Test(auth, sasl_login)
{
    struct sasl_result r;
    struct sasl *s = sasl_begin(SPAN("LOGIN"), NULL, &r);
    cr_assert(s && r.next == SASL_CHALLENGE && span_eqs(r.challenge, "Username:"));
    sasl_step(s, SPAN("alice@example.test"), &r);
    cr_assert(r.next == SASL_CHALLENGE && span_eqs(r.challenge, "Password:"));
    sasl_step(s, SPAN("secret"), &r);
    cr_assert(r.next == SASL_VERIFY && span_eqs(r.user, "alice@example.test") && span_eqs(r.password, "secret"));
    sasl_step(s, SPAN("again"), &r);
    cr_assert_eq(r.next, SASL_REFUSED);
    sasl_free(&s);
    struct span name = SPAN("alice@example.test");
    s = sasl_begin(SPAN("LOGIN"), &name, &r);
    cr_assert(r.next == SASL_CHALLENGE && span_eqs(r.challenge, "Password:"));
    sasl_step(s, SPAN(""), &r);
    cr_assert_eq(r.next, SASL_REFUSED);
    sasl_free(&s);
    s = sasl_begin(SPAN("LOGIN"), NULL, &r);
    sasl_step(s, SPAN("a\0b"), &r);
    cr_assert_eq(r.next, SASL_REFUSED);
    sasl_free(&s);
}

Test(auth, sasl_unknown)
{
    struct sasl_result r;
    static const char *const names[] = {"",          "PLAI",      "PLAINX",      "CRAM-MD5",
                                        "EXTERNA", "ANONYMOUS", "SCRAM-SHA-512", "SCRAM-SHA-256-"};
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        cr_expect_null(sasl_begin(span_of(names[i]), NULL, &r), "%s", names[i]);
        cr_expect(!sasl_known(span_of(names[i])));
    }
    cr_expect(sasl_known(SPAN("login")));
}

Test(auth, password)
{
    struct err err;
    char hash[PASSWORD_HASH_MAX], again[PASSWORD_HASH_MAX], longest[PASSWORD_MAX + 1];
    cr_assert_eq(password_init(&err), 0);
    cr_assert_eq(password_hash(SPAN("secret"), hash, &err), 0);
    cr_assert_eq(strncmp(hash, "$argon2id$v=19$m=19456,t=2,p=1$", 31), 0, "%s", hash);
    cr_assert_eq(password_hash(SPAN("secret"), again, &err), 0);
    cr_assert_str_neq(hash, again, "salted");
    cr_assert(password_check(hash, SPAN("secret")));
    cr_assert(!password_check(hash, SPAN("secret ")));
    cr_assert(!password_check(hash, SPAN("Secret")));
    cr_assert(!password_check(hash, SPAN("")));
    cr_assert(!password_check(hash, SPAN("secret\0")));
    cr_assert(!password_check(NULL, SPAN("secret")));
    cr_assert(!password_check("", SPAN("")));
    cr_assert(!password_check("not a hash", SPAN("secret")));
    memset(longest, 'p', sizeof(longest));
    cr_assert_eq(password_hash((struct span){longest, PASSWORD_MAX}, hash, &err), 0);
    cr_assert(password_check(hash, (struct span){longest, PASSWORD_MAX}));
    cr_assert(!password_check(hash, (struct span){longest, PASSWORD_MAX + 1}));
    cr_assert_lt(password_hash((struct span){longest, PASSWORD_MAX + 1}, hash, &err), 0);
    cr_assert_lt(password_hash(SPAN(""), hash, &err), 0);
}
