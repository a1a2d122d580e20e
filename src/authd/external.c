/* See external.h. A certificate may belong to several accounts (by its fingerprint and by the addresses in it); then
 * the client has to say which it means. */
#include "authd/external.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/util.h"

#define OWNERS_MAX 16

struct owners {
    uint32_t ids[OWNERS_MAX];
    size_t n;
};

static void owners_add(struct owners *o, uint32_t id)
{
    for (size_t i = 0; i < o->n; i++)
        if (o->ids[i] == id)
            return;
    if (o->n < OWNERS_MAX)
        o->ids[o->n++] = id;
}

static bool owners_have(const struct owners *o, uint32_t id)
{
    for (size_t i = 0; i < o->n; i++)
        if (o->ids[i] == id)
            return true;
    return false;
}

static int by_names(struct directory *d, struct span names, struct owners *o, struct err *err)
{
    while (names.n) {
        struct account a;
        enum dir_result r = directory_account_find(d, span_cut(&names, '\n'), &a, err);
        if (r == DIR_FAILED)
            return -1;
        if (r == DIR_OK)
            owners_add(o, a.id);
    }
    return 0;
}

/* RFC4422:A.1 an empty identity is derived from the certificate, any other has to be one of it. */
static int choose(struct directory *d, const struct owners *o, struct span authzid, struct account *out,
                  const char **why, struct err *err)
{
    enum dir_result r = DIR_MISSING;
    if (authzid.n)
        r = directory_account_find(d, authzid, out, err);
    else if (o->n == 1)
        r = directory_account_get(d, o->ids[0], out, err);
    if (r == DIR_FAILED)
        return -1;
    if (o->n == 0)
        *why = "the certificate belongs to no account";
    else if (!authzid.n && o->n > 1)
        *why = "the certificate belongs to several accounts and the client did not say which it means";
    else if (r || !owners_have(o, out->id))
        *why = "the certificate is not that account's";
    else if (out->state != ACCOUNT_ENABLED)
        *why = "the account is disabled";
    return 0;
}

int external_identify(struct directory *d, const struct conf *c, const uint8_t *fingerprint, struct span names,
                      struct span authzid, struct account *out, const char **why)
{
    struct owners o = {.n = 0};
    struct err err;
    uint32_t id;
    *why = NULL;
    int got = directory_certificate_owner(d, fingerprint, &id, &err);
    if (got > 0)
        owners_add(&o, id);
    if (got < 0 || (c->accounts.certificate_names && by_names(d, names, &o, &err)) ||
        choose(d, &o, authzid, out, why, &err)) {
        LOGE("directory", KVT("why", err.text));
        return -1;
    }
    if (!*why && directory_certificate_used(d, fingerprint, clock_wall(), &err))
        LOGE("directory", KVT("why", err.text));
    return 0;
}
