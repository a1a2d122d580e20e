/* See oauth.h. */
#include "authd/oauth.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

int oauth_keys_open(const struct conf *c, int fd, struct token_keys **out, struct err *err)
{
    *out = NULL;
    if (!*c->oauth.keys)
        return 0;
    char *text = mem_alloc(TOKEN_KEYS_FILE_MAX + 1);
    size_t n = 0;
    ssize_t r = fd < 0 ? -1 : 1;
    struct err why;
    while (r > 0 && n <= TOKEN_KEYS_FILE_MAX)
        if ((r = pread(fd, text + n, TOKEN_KEYS_FILE_MAX + 1 - n, (off_t)n)) > 0)
            n += (size_t)r;
    if (r < 0 || n > TOKEN_KEYS_FILE_MAX)
        err_set(&why, r < 0 ? "can't be read" : "too large for keys");
    else
        *out = token_keys_read(span_make(text, n), &why);
    mem_free(&text);
    return *out ? 0 : err_set(err, "oauth: keys: %s", why.text);
}

static struct token_rules rules_of(const struct conf *c)
{
    return (struct token_rules){.issuer = c->oauth.issuer,
                                .audience = c->oauth.audience,
                                .claim = c->oauth.claim,
                                .scope = c->oauth.scope,
                                .leeway = c->oauth.leeway / 1000};
}

const char *oauth_judge(const struct conf *c, const struct token_keys *keys, struct span token, char *address,
                        bool *final)
{
    const struct token_rules rules = rules_of(c);
    const char *why = "no keys of an issuer are here";
    *final = false;
    if (keys)
        why = token_judge_ours(token, keys, &rules, clock_wall() / 1000, address, final);
    *final = *final || !conf_introspects(c) || token.n > TOKEN_MAX;
    return why;
}

const char *oauth_told(const struct conf *c, const struct msg_introspected *m, char *address)
{
    struct introspection i = {.active = m->active,
                              .issuer = m->issuer,
                              .audience = m->audience,
                              .scope = m->scope,
                              .early = m->early,
                              .verified = m->verified,
                              .expires = (int64_t)MIN_OF(m->expires, (uint64_t)INT64_MAX / 2)};
    snprintf(i.account, sizeof i.account, "%.*s", SPANV(m->account));
    snprintf(address, TOKEN_NAME_MAX + 1, "%s", i.account);
    return introspect_refusal(&i, c->oauth.leeway / 1000, clock_wall() / 1000);
}

int oauth_account(struct directory *d, const char *address, struct span user, struct account *out, const char **why)
{
    struct account other;
    struct err err;
    enum dir_result wanted = DIR_OK, r = directory_account_find(d, span_of(address), out, &err);
    *why = NULL;
    if (r == DIR_OK && user.n)
        wanted = directory_account_find(d, user, &other, &err);
    if (r == DIR_FAILED || wanted == DIR_FAILED) {
        LOGE("directory", KVT("why", err.text));
        return -1;
    }
    if (r)
        *why = "the token is of no account here";
    else if (wanted || (user.n && other.id != out->id))
        *why = "the token is another's";
    else if (out->state != ACCOUNT_ENABLED)
        *why = "the account is disabled";
    return 0;
}

void oauth_refusal(const struct conf *c, struct buf *out)
{
    json_t *j = json_pack("{s:s}", "status", "invalid_token"); /* RFC6750:3.1 */
    if (*c->oauth.scope)
        json_object_set_new(j, "scope", json_string(c->oauth.scope));
    if (*c->oauth.discovery)
        json_object_set_new(j, "openid-configuration", json_string(c->oauth.discovery));
    char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
    if (!text)
        abort(); /* out of memory */
    buf_adds(out, text);
    free(text);
    json_decref(j);
}
