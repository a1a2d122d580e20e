/* See introspect.h. The answer comes over TLS from whom the operator trusts with logins, yet nothing in it is taken for
 * more than it is: a member of the wrong type is one that is not there. */
#include "auth/introspect.h"

#include <string.h>

#include "auth/claims.h"

/* A time beyond what a number of JSON holds exactly is none. */
static bool time_of(json_t *j, int64_t *out)
{
    double n = json_number_value(j);
    if (!json_is_number(j) || !(n > 0 && n < 9e15))
        return false;
    *out = (int64_t)n;
    return true;
}

static void read_facts(json_t *j, const struct token_rules *r, int64_t now, struct introspection *out)
{
    json_t *issuer = json_object_get(j, "iss"), *exp = json_object_get(j, "exp"), *nbf = json_object_get(j, "nbf");
    int64_t from = 0;
    out->active = json_is_true(json_object_get(j, "active"));
    out->issuer = !*r->issuer || !issuer || claim_is(issuer, r->issuer); /* RFC7662:2.2: optional */
    out->audience = !*r->audience || claim_names(json_object_get(j, "aud"), r->audience);
    out->scope = !*r->scope || claim_has_scope(json_object_get(j, "scope"), r->scope);
    out->early = nbf && (!time_of(nbf, &from) || from - r->leeway > now);
    if (exp && !time_of(exp, &out->expires))
        out->expires = 1; /* not to be understood: long ago */
    out->verified = !claim_unverified(j, r->claim);
    if (!claim_text(j, r->claim, out->account))
        out->account[0] = 0;
}

bool introspect_read(struct span json, const struct token_rules *rules, int64_t now, struct introspection *out)
{
    *out = (struct introspection){0};
    json_t *j = json.n <= INTROSPECT_ANSWER_MAX ? json_loadb(json.p ? json.p : "", json.n, JSON_REJECT_DUPLICATES, NULL)
                                                : NULL;
    bool good = json_is_object(j) && json_is_boolean(json_object_get(j, "active"));
    if (good)
        read_facts(j, rules, now, out);
    json_decref(j);
    return good;
}

const char *introspect_refusal(const struct introspection *i, int64_t leeway, int64_t now)
{
    if (!i->active)
        return "the issuer says that the token is not active";
    if (!i->issuer)
        return "the token is of another issuer";
    if (!i->audience)
        return "the token is for another audience";
    if (i->expires && i->expires + leeway <= now)
        return "the token has expired";
    if (i->early)
        return "the token is not valid yet";
    if (!i->scope)
        return "the token lacks the scope";
    if (!i->account[0])
        return "the token names no account";
    return i->verified ? NULL : "the token's address was not verified by its issuer";
}
