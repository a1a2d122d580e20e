/* auth/scram: the example of RFC7677:3, every way to be wrong, channel bindings (RFC5802:6, RFC5929, RFC9266; HAZARDS
 * 24) and verifiers as text. The client is this test's own. */
#include <criterion/criterion.h>

#include "auth/password.h"
#include "auth/sasl.h"
#include "scram_client.h"
#include "base/base64.h"
#include "scram_client.h"

#define CNONCE "rOprNGfwEbeRWgbNEkqO"
#define SNONCE "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
#define PROOF "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
#define FINAL "c=biws,r=" CNONCE SNONCE "," PROOF

static struct scram_verifier pencil;
static struct scram_channel channel;
static struct scram *s;

static void set_up(void)
{
    struct buf salt = {0};
    struct err err;
    cr_assert_eq(password_init(&err), 0);
    cr_assert_eq(base64_decode(SPAN("W22ZaJ0SNY7soEsUEjb6gQ=="), &salt), 0);
    scram_derive(SCRAM_SHA_256, SPAN("pencil"), (const uint8_t *)salt.p, 4096, &pencil);
    buf_free(&salt);
    channel = (struct scram_channel){.nonce = SPAN(SNONCE)};
}

static void tear_down(void)
{
    scram_free(&s);
}

TestSuite(scram, .init = set_up, .fini = tear_down, .timeout = 30);

static void begin(bool plus)
{
    scram_free(&s);
    s = scram_new(SCRAM_SHA_256, plus, &channel);
}

static void rfc_begins(void)
{
    begin(false);
    cr_assert_null(scram_client_first(s, SPAN("n,,n=user,r=" CNONCE)));
    cr_assert(span_eqs(scram_user(s), "user") && scram_authzid(s).n == 0);
    cr_assert(span_eqs(scram_server_first(s, &pencil, true),
                       "r=" CNONCE SNONCE ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"));
}

Test(scram, the_example_of_rfc7677)
{
    struct span last;
    rfc_begins();
    cr_assert_null(scram_client_final(s, SPAN(FINAL), &last));
    cr_assert(span_eqs(last, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="));
}

Test(scram, wrong_final_messages)
{
    static const char *const bad[] = {
        "",
        "p=",
        PROOF,
        "c=biws," PROOF,
        "c=biws,r=" CNONCE SNONCE,
        "c=biws,r=" CNONCE SNONCE ",p=",
        "c=biws,r=" CNONCE SNONCE ",p=AAAA",
        "c=biws,r=" CNONCE SNONCE ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVR=", /* spare bits */
        "c=biws,r=" CNONCE SNONCE ",p=eHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        "c=biws,r=" CNONCE SNONCE "x," PROOF,
        "c=biws,r=" CNONCE "," PROOF,
        "c=biws,r=," PROOF,
        "c=eSws,r=" CNONCE SNONCE "," PROOF, /* y,, after n,, */
        "c=,r=" CNONCE SNONCE "," PROOF,
        "c=!,r=" CNONCE SNONCE "," PROOF,
        "c=biwsAA==,r=" CNONCE SNONCE "," PROOF,
        "r=" CNONCE SNONCE ",c=biws," PROOF,
        "c=biws,r=" CNONCE SNONCE ",x=1," PROOF, /* signed by nobody */
        FINAL ",x=1",
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct span last;
        rfc_begins();
        cr_expect_not_null(scram_client_final(s, span_of(bad[i]), &last), "%s", bad[i]);
        cr_expect_eq(last.n, 0, "nothing is signed for it: %s", bad[i]);
    }
    static char huge[SCRAM_MESSAGE_MAX + 100];
    struct span last;
    memset(huge, 'c', sizeof(huge));
    rfc_begins();
    cr_expect_not_null(scram_client_final(s, span_make(huge, sizeof(huge)), &last));
}

Test(scram, an_unknown_user_fails_with_the_right_proof_too)
{
    struct span last;
    begin(false);
    cr_assert_null(scram_client_first(s, SPAN("n,,n=user,r=" CNONCE)));
    scram_server_first(s, &pencil, false);
    cr_assert_not_null(scram_client_final(s, SPAN(FINAL), &last));
    cr_assert_eq(last.n, 0);
}

/* RFC5802:5.1, :7 */
Test(scram, wrong_first_messages)
{
    static const char *const bad[] = {
        "", ",", ",,", "n", "n,", "n,,", "n,,n=", "n,,n=user", "n,,n=user,", "n,,n=user,r=", "n,,n=,r=abc", "n,,r=abc",
        "n,,n=us=er,r=abc", "n,,n=us=2c,r=abc", "n,,n=us=,r=abc", "n,,n=us=3,r=abc", "n,,m=x,n=user,r=abc",
        "n,a=,n=user,r=abc", "n,a=b=,n=user,r=abc", "n,b=x,n=user,r=abc", "n,n=user,r=abc", "N,,n=user,r=abc",
        "x,,n=user,r=abc", "nn,,n=user,r=abc", "n,,n=user,r=a\x7f", "n,,n=user,r=a b", "n,,n=user,r=\xc3\xa9",
        "n,,n=\xff,r=abc", "n,,n=\xc3,r=abc", "p=,,n=user,r=abc", "p=tls-exporter,,n=user,r=abc", "p,,n=user,r=abc",
        "n,,N=user,r=abc",
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        begin(false);
        cr_expect_not_null(scram_client_first(s, span_of(bad[i])), "%s", bad[i]);
    }
    begin(false);
    cr_expect_not_null(scram_client_first(s, SPAN("n,,n=us\0er,r=abc")));
    struct buf b = {0};
    buf_adds(&b, "n,,n=");
    for (int i = 0; i < SCRAM_NAME_MAX + 1; i++)
        buf_addc(&b, 'x');
    buf_adds(&b, ",r=abc");
    begin(false);
    cr_expect_not_null(scram_client_first(s, buf_span(&b)), "a name too long");
    buf_clear(&b);
    buf_adds(&b, "n,,n=u,r=");
    for (int i = 0; i < SCRAM_NONCE_MAX + 1; i++)
        buf_addc(&b, 'x');
    begin(false);
    cr_expect_not_null(scram_client_first(s, buf_span(&b)), "a nonce too long");
    buf_free(&b);
}

Test(scram, names_and_extensions)
{
    begin(false);
    cr_assert_null(scram_client_first(s, SPAN("n,a=b=3Dc,n=a=2Cb=3D=2C@x.test,r=abc,x=ignored,y=too")));
    cr_assert(span_eqs(scram_user(s), "a,b=,@x.test") && span_eqs(scram_authzid(s), "b=c"));
    cr_assert(span_starts(scram_server_first(s, &pencil, true), SPAN("r=abc" SNONCE ",")));
    channel.nonce = SPAN_NONE;
    begin(false);
    cr_assert_null(scram_client_first(s, SPAN("n,,n=u,r=abc")));
    struct span first = scram_server_first(s, &pencil, true);
    cr_assert_eq(span_search(first, SPAN(",s=")), 2 + 3 + 24, "24 random characters");
}

/* ---- whole exchanges ---- */

#define BARE "n=user,r=abc"

/* A whole exchange; what the client believes its channel is: `bound`. */
static const char *exchange(bool plus, const char *gs2, struct span bound)
{
    struct buf first = {0}, final = {0};
    struct span last;
    begin(plus);
    buf_adds(&first, gs2);
    buf_adds(&first, BARE);
    const char *why = scram_client_first(s, buf_span(&first));
    if (!why) {
        struct span server = scram_server_first(s, &pencil, true);
        scram_client_answer(span_of(gs2), bound, SPAN(BARE), server, SPAN("pencil"), &final);
        why = scram_client_final(s, buf_span(&final), &last);
    }
    buf_free(&first);
    buf_free(&final);
    return why;
}

Test(scram, channel_bindings)
{
    const struct span ex = SPAN("exporter-bytes-of-this-connectio"), end = SPAN("certificate-hash");
    cr_expect_null(exchange(false, "n,,", SPAN_NONE));
    cr_expect_null(exchange(false, "y,,", SPAN_NONE), "nothing to bind to: it is right");
    cr_expect_not_null(exchange(true, "p=tls-exporter,,", ex), "we have no TLS");
    channel.exporter = ex;
    channel.end_point = end;
    cr_expect_null(exchange(true, "p=tls-exporter,,", ex));
    cr_expect_null(exchange(true, "p=tls-server-end-point,,", end));
    cr_expect_null(exchange(true, "p=tls-exporter,a=user,", ex));
    cr_expect_null(exchange(false, "n,,", SPAN_NONE));
    /* HAZARDS 24: with the right password, over another channel */
    cr_expect_not_null(exchange(true, "p=tls-exporter,,", end));
    cr_expect_not_null(exchange(true, "p=tls-exporter,,", SPAN("Exporter-bytes-of-this-connectio")));
    cr_expect_not_null(exchange(true, "p=tls-exporter,,", SPAN("exporter-bytes-of-this-connecti")));
    cr_expect_not_null(exchange(true, "p=tls-exporter,,", SPAN_NONE));
    cr_expect_not_null(exchange(true, "p=tls-server-end-point,,", ex));
    cr_expect_not_null(exchange(true, "p=tls-unique,,", ex));
    cr_expect_not_null(exchange(true, "p=tls-exporte,,", ex));
    cr_expect_not_null(exchange(true, "n,,", SPAN_NONE), "-PLUS must bind");
    cr_expect_not_null(exchange(true, "y,,", SPAN_NONE));
    cr_expect_not_null(exchange(false, "p=tls-exporter,,", ex), "only -PLUS binds");
    /* RFC5802:6: it can bind, and somebody hid from it that we can */
    cr_expect_not_null(exchange(false, "y,,", SPAN_NONE), "downgrade");
    channel.exporter = SPAN_NONE;
    cr_expect_not_null(exchange(true, "p=tls-exporter,,", SPAN_NONE), "a binding that is not there");
    cr_expect_null(exchange(true, "p=tls-server-end-point,,", end));
}

/* ---- verifiers ---- */

/* RFC5803:3; RFC7677:4 iterations */
Test(scram, verifiers_as_text)
{
    char text[SCRAM_TEXT_MAX];
    struct scram_verifier a, b;
    cr_assert_geq(SCRAM_ITERATIONS, 100000);
    scram_derive(SCRAM_SHA_256, SPAN("secret"), pencil.salt, SCRAM_ITERATIONS, &a);
    scram_put(&a, text);
    cr_assert(scram_read(span_of(text), &b) && memcmp(&a, &b, sizeof(a)) == 0, "%s", text);
    size_t n = strlen(text);
    for (size_t i = 0; i < n; i++)
        cr_expect(!scram_read(span_make(text, i), &b), "cut at %zu", i);
    text[n++] = 'A';
    cr_expect(!scram_read(span_make(text, n), &b));
    cr_expect(!scram_read(SPAN("SCRAM-SHA-256$1:AAAA$AAAA:AAAA"), &b));
}

Test(scram, a_fake_salt_stays)
{
    const uint8_t secret[SCRAM_KEY] = {1, 2, 3}, other[SCRAM_KEY] = {1, 2, 4};
    struct scram_verifier a, b;
    scram_fake(SCRAM_SHA_256, secret, SPAN("nobody@x"), &a);
    scram_fake(SCRAM_SHA_256, secret, SPAN("nobody@x"), &b);
    cr_assert(memcmp(a.salt, b.salt, SCRAM_SALT) == 0 && a.iterations == SCRAM_ITERATIONS);
    cr_assert(memcmp(a.stored_key, b.stored_key, SCRAM_KEY) != 0);
    scram_fake(SCRAM_SHA_256, secret, SPAN("nobody@y"), &b);
    cr_assert_neq(memcmp(a.salt, b.salt, SCRAM_SALT), 0);
    scram_fake(SCRAM_SHA_256, other, SPAN("nobody@x"), &b);
    cr_assert_neq(memcmp(a.salt, b.salt, SCRAM_SALT), 0);
}

/* ---- by auth/sasl ---- */

/* RFC5802:5, RFC4422:4 */
static int64_t proven_with(const char *password, const struct scram_verifier *main, bool known, const struct scram_verifier *further, size_t n)
{
    struct buf last = {0};
    struct span out;
    begin(false);
    cr_assert_null(scram_client_first(s, SPAN("n,,n=user,r=" CNONCE)));
    struct span server = scram_server_first(s, main, known);
    for (size_t i = 0; i < n; i++)
        scram_also(s, &further[i], 7 + (int64_t)i);
    scram_client_answer(SPAN("n,,"), SPAN(""), SPAN("n=user,r=" CNONCE), server, span_of(password), &last);
    const char *why = scram_client_final(s, buf_span(&last), &out);
    cr_expect_eq(why == NULL, out.n > 0);
    buf_free(&last);
    return why ? -1 : scram_proven_by(s);
}

/* RFC5802:3: the proof says which of the passwords under one salt it knows. */
Test(scram, several_passwords_under_one_salt)
{
    struct scram_verifier further[4];
    uint8_t other[SCRAM_SALT] = {1};
    scram_derive(SCRAM_SHA_256, SPAN("eraser"), pencil.salt, 4096, &further[0]);
    scram_derive(SCRAM_SHA_256, SPAN("crayon"), pencil.salt, 4096, &further[1]);
    scram_derive(SCRAM_SHA_256, SPAN("marker"), other, 4096, &further[2]);
    scram_derive(SCRAM_SHA_256, SPAN("chalk"), pencil.salt, 4097, &further[3]);
    cr_expect_eq(proven_with("pencil", &pencil, true, further, 4), 0);
    cr_expect_eq(proven_with("eraser", &pencil, true, further, 4), 7);
    cr_expect_eq(proven_with("crayon", &pencil, true, further, 4), 8);
    cr_expect_eq(proven_with("marker", &pencil, true, further, 4), -1, "its salt is not the one that was shown");
    cr_expect_eq(proven_with("chalk", &pencil, true, further, 4), -1, "nor its count");
    cr_expect_eq(proven_with("eraser", &pencil, true, further, 0), -1);
    cr_expect_eq(proven_with("pencil", &pencil, false, further, 4), -1, "the first one lends its salt alone");
    cr_expect_eq(proven_with("eraser", &pencil, false, further, 4), 7);
}

Test(scram, by_sasl)
{
    struct sasl_result r;
    struct sasl *x = sasl_begin_over(&channel, SPAN("scram-sha-256"), NULL, &r);
    cr_assert(x && r.next == SASL_CHALLENGE && r.challenge.n == 0);
    sasl_step(x, SPAN("n,a=me,n=user,r=" CNONCE), &r);
    cr_assert(r.next == SASL_CREDENTIALS && span_eqs(r.user, "user") && span_eqs(r.authzid, "me"));
    sasl_free(&x);
    const struct span first = SPAN("n,,n=user,r=" CNONCE);
    x = sasl_begin_over(&channel, SPAN("SCRAM-SHA-256"), &first, &r);
    cr_assert_eq(r.next, SASL_CREDENTIALS);
    sasl_credentials(x, &pencil, true, &r);
    cr_assert_eq(r.next, SASL_CHALLENGE);
    sasl_step(x, SPAN(FINAL), &r);
    cr_assert(r.next == SASL_CHALLENGE && span_eqs(r.challenge, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="));
    sasl_step(x, SPAN(""), &r);
    cr_assert(r.next == SASL_PROVEN && span_eqs(r.user, "user"));
    sasl_free(&x);
}

Test(scram, by_sasl_no_step_is_skipped_or_repeated)
{
    struct sasl_result r;
    const struct span first = SPAN("n,,n=user,r=" CNONCE);
    struct sasl *x = sasl_begin_over(&channel, SPAN("SCRAM-SHA-256"), &first, &r);
    sasl_credentials(x, &pencil, true, &r);
    sasl_step(x, SPAN(""), &r);
    cr_assert_eq(r.next, SASL_REFUSED, "the empty answer before the proof");
    sasl_step(x, SPAN(FINAL), &r);
    cr_assert_eq(r.next, SASL_REFUSED, "one try");
    sasl_step(x, SPAN(""), &r);
    cr_assert_eq(r.next, SASL_REFUSED);
    sasl_free(&x);
    x = sasl_begin_over(&channel, SPAN("SCRAM-SHA-256"), &first, &r);
    sasl_credentials(x, &pencil, true, &r);
    sasl_step(x, SPAN(FINAL), &r);
    sasl_step(x, SPAN("x"), &r);
    cr_assert_eq(r.next, SASL_REFUSED, "the last answer is empty");
    sasl_free(&x);
    x = sasl_begin(SPAN("SCRAM-SHA-256-PLUS"), &first, &r);
    cr_assert_eq(r.next, SASL_REFUSED);
    sasl_free(&x);
}

/* RFC5802:3, RFC5803:3: keys of 20 bytes. The values were made with Python's hashlib. */
Test(scram, sha_1)
{
    static const char verifier[] = "SCRAM-SHA-1$4096:W22ZaJ0SNY7soEsUEjb6gQ==$g2pEzX2tMaoibxTD4YfBJkq1y8w=:ZGkNjsmKwVX5C5z80vGxHZ02jOI=";
    struct span last;
    struct scram_verifier v, w;
    char text[SCRAM_TEXT_MAX];
    scram_derive(SCRAM_SHA_1, SPAN("pencil"), pencil.salt, 4096, &v);
    scram_put(&v, text);
    cr_assert_str_eq(text, verifier);
    cr_assert(scram_read(span_of(text), &w) && w.hash == SCRAM_SHA_1 && memcmp(v.stored_key, w.stored_key, 20) == 0);
    for (size_t i = 0; i < strlen(text); i++)
        cr_expect(!scram_read(span_make(text, i), &w), "cut at %zu", i);
    channel.nonce = SPAN("3rfcNHYJY1ZVvWVs7j");
    s = scram_new(SCRAM_SHA_1, false, &channel);
    cr_assert_null(scram_client_first(s, SPAN("n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL")));
    cr_assert(span_eqs(scram_server_first(s, &v, true), "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"));
    cr_assert_not_null(scram_client_final(s, SPAN("c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j," PROOF), &last), "a proof of the other hash");
    cr_assert_null(scram_client_final(s, SPAN("c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=c3vl39dmaFmuO5AUJL09/yANcb0="), &last));
    cr_assert(span_eqs(last, "v=zboFW+ux96ICwzWB4XILiDvgfJI="));
}

/* One name, two salts: as it is with accounts that are there (HAZARDS 24). */
Test(scram, what_is_made_up_differs_with_the_hash)
{
    static const uint8_t secret[SCRAM_KEY] = {1};
    struct scram_verifier a, b, c;
    scram_fake(SCRAM_SHA_256, secret, SPAN("nobody@x"), &a);
    scram_fake(SCRAM_SHA_1, secret, SPAN("nobody@x"), &b);
    scram_fake(SCRAM_SHA_1, secret, SPAN("nobody@x"), &c);
    cr_assert(memcmp(a.salt, b.salt, SCRAM_SALT) != 0 && memcmp(b.salt, c.salt, SCRAM_SALT) == 0);
    cr_assert_eq(b.hash, SCRAM_SHA_1);
}
