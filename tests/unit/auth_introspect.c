/* What an introspection endpoint says: RFC7662:2.2, RFC7662:4. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "auth/introspect.h"

#define NOW INT64_C(1800000000)
#define GOOD "\"active\":true,\"aud\":\"mail\",\"scope\":\"openid mail\",\"email\":\"alice@example.test\""

static const struct token_rules rules = {
    .issuer = "https://issuer.test", .audience = "mail", .claim = "email", .scope = "mail", .leeway = 60};

static const char *judge(const char *json)
{
    struct introspection i;
    if (!introspect_read(span_of(json), &rules, NOW, &i))
        return "no answer";
    return introspect_refusal(&i, rules.leeway, NOW);
}

Test(introspect, good_answers)
{
    static const char *const good[] = {"{" GOOD "}", "{" GOOD ",\"iss\":\"https://issuer.test\"}", "{" GOOD ",\"exp\":1800000001,\"nbf\":1800000059}",
                                       "{" GOOD ",\"exp\":1799999941.5}", "{" GOOD ",\"email_verified\":true}",
                                       "{\"active\":true,\"aud\":[\"web\",\"mail\"],\"scope\":\"mail\",\"email\":\"alice@example.test\",\"x\":{\"y\":[1]}}"};
    struct introspection i;
    for (size_t n = 0; n < sizeof good / sizeof *good; n++)
        cr_expect_null(judge(good[n]), "%s: %s", good[n], judge(good[n]));
    cr_assert(introspect_read(span_of(good[2]), &rules, NOW, &i));
    cr_expect_str_eq(i.account, "alice@example.test");
    cr_expect_eq(i.expires, NOW + 1);
    const struct token_rules by_name = {.issuer = "", .audience = "mail", .claim = "username", .scope = ""};
    cr_assert(introspect_read(SPAN("{\"active\":true,\"aud\":\"mail\",\"username\":\"b@c.test\",\"iss\":\"any\"}"), &by_name, NOW, &i));
    cr_expect_null(introspect_refusal(&i, 0, NOW));
    cr_expect_str_eq(i.account, "b@c.test");
}

Test(introspect, answers_that_refuse)
{
    static const char *const bad[][2] = {
        {"{\"active\":false}", "not active"},
        {"{\"active\":false,\"aud\":\"mail\",\"scope\":\"mail\",\"email\":\"alice@example.test\"}", "not active"},
        {"{" GOOD ",\"iss\":\"https://evil.test\"}", "issuer"},
        {"{" GOOD ",\"iss\":7}", "issuer"},
        {"{\"active\":true,\"scope\":\"mail\",\"email\":\"a@b.test\"}", "audience"},
        {"{\"active\":true,\"aud\":[\"web\"],\"scope\":\"mail\",\"email\":\"a@b.test\"}", "audience"},
        {"{\"active\":true,\"aud\":{\"mail\":1},\"scope\":\"mail\",\"email\":\"a@b.test\"}", "audience"},
        {"{\"active\":true,\"aud\":\"mail\",\"email\":\"a@b.test\"}", "scope"},
        {"{\"active\":true,\"aud\":\"mail\",\"scope\":[\"mail\"],\"email\":\"a@b.test\"}", "scope"},
        {"{" GOOD ",\"exp\":1799999940}", "expired"},
        {"{" GOOD ",\"exp\":\"1800000600\"}", "expired"},
        {"{" GOOD ",\"exp\":-1}", "expired"},
        {"{" GOOD ",\"exp\":null}", "expired"},
        {"{" GOOD ",\"exp\":1e300}", "expired"},
        {"{" GOOD ",\"nbf\":1800000061}", "valid yet"},
        {"{" GOOD ",\"nbf\":true}", "valid yet"},
        {"{" GOOD ",\"email_verified\":false}", "verified"},
        {"{" GOOD ",\"email_verified\":\"false\"}", "verified"},
        {"{\"active\":true,\"aud\":\"mail\",\"scope\":\"mail\"}", "names no account"},
        {"{\"active\":true,\"aud\":\"mail\",\"scope\":\"mail\",\"email\":\"\"}", "names no account"},
        {"{\"active\":true,\"aud\":\"mail\",\"scope\":\"mail\",\"email\":[\"a@b.test\"]}", "names no account"},
        {"{\"active\":true,\"aud\":\"mail\",\"scope\":\"mail\",\"email\":\"a@b.test\\u0000c\"}", "no answer"},
    };
    for (size_t n = 0; n < sizeof bad / sizeof *bad; n++)
        cr_expect(judge(bad[n][0]) && strstr(judge(bad[n][0]), bad[n][1]), "%s: %s", bad[n][0], judge(bad[n][0]));
}

Test(introspect, no_answers)
{
    static const char *const none[] = {"", "{}", "[]", "true", "\"active\"", "{\"active\":\"true\"}", "{\"active\":1}", "{\"active\":null}",
                                       "[{\"active\":true}]", "{\"active\":true,\"active\":false}", "{" GOOD, "{" GOOD "} x", "{" GOOD ",}", "<html>"};
    for (size_t n = 0; n < sizeof none / sizeof *none; n++)
        cr_expect_str_eq(judge(none[n]), "no answer", "%s", none[n]);
    struct introspection i;
    static char large[INTROSPECT_ANSWER_MAX + 1];
    memset(large, ' ', sizeof large);
    memcpy(large, "{" GOOD "}", sizeof("{" GOOD "}") - 1);
    cr_expect(introspect_read(span_make(large, sizeof large - 1), &rules, NOW, &i));
    cr_expect(!introspect_read(span_make(large, sizeof large), &rules, NOW, &i));
    char long_name[TOKEN_NAME_MAX + 100];
    snprintf(long_name, sizeof long_name, "{\"active\":true,\"aud\":\"mail\",\"scope\":\"mail\",\"email\":\"%0*d\"}", TOKEN_NAME_MAX, 1);
    cr_expect_null(judge(long_name));
    snprintf(long_name, sizeof long_name, "{\"active\":true,\"aud\":\"mail\",\"scope\":\"mail\",\"email\":\"%0*d\"}", TOKEN_NAME_MAX + 1, 1);
    cr_expect_not_null(judge(long_name));
}
