/* The operators' commands about quotas. */
#include "authd/authd.h"
#include "authd/workers.h"

/* "500M", "2G", a number of bytes, "none" (0), "default" (-1). */
static bool parse(struct span text, int64_t *out)
{
    static const char units[] = "kmgt";
    uint64_t n, factor = 1;
    *out = span_ieqs(text, "none") ? 0 : -1;
    if (*out == 0 || span_ieqs(text, "default"))
        return true;
    const char *unit = text.n ? memchr(units, ascii_lower(text.p[text.n - 1]), sizeof units - 1) : NULL;
    for (; unit && unit >= units; unit--)
        factor <<= 10;
    if (factor > 1)
        text.n--;
    if (!span_u64(text, (UINT64_C(1) << 50) / factor, &n) || n == 0)
        return false;
    *out = (int64_t)(n * factor);
    return true;
}

static void end(struct authd *a, struct admin_call *c, enum dir_result r, const struct err *err)
{
    if (r == DIR_OK)
        workers_quotas(a->workers);
    admin_end(c, r == DIR_OK ? ADMIN_DONE : r == DIR_MISSING ? ADMIN_NO_SUCH : r == DIR_USAGE ? ADMIN_USAGE : ADMIN_FAILED, "%s",
              r == DIR_OK ? "the quota holds from now on" : err->text);
}

static bool taken(struct admin_call *c, struct span text, int64_t *bytes)
{
    if (parse(text, bytes))
        return true;
    admin_end(c, ADMIN_USAGE, "a quota is a number of bytes such as 500M or 2G, or none, or default");
    return false;
}

void account_quota(void *ctx, struct admin_call *c, const struct span *args, size_t nargs)
{
    struct authd *a = ctx;
    struct account acc;
    struct err err;
    int64_t bytes;
    (void)nargs;
    if (!taken(c, args[1], &bytes))
        return;
    enum dir_result r = directory_account_named(a->directory, args[0], &acc, &err);
    end(a, c, r ? r : directory_account_quota_set(a->directory, acc.id, bytes, &err), &err);
}

void domain_quota(void *ctx, struct admin_call *c, const struct span *args, size_t nargs)
{
    struct authd *a = ctx;
    struct err err;
    int64_t bytes;
    (void)nargs;
    if (taken(c, args[1], &bytes))
        end(a, c, directory_domain_quota_set(a->directory, args[0], bytes, &err), &err);
}
