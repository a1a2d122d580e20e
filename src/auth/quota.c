/* How much an account may hold. Its mda decides; here are the numbers, and the hint for RCPT. */
#include "auth/directory_priv.h"

int directory_quotas_look(struct directory *d, struct err *err)
{
    int64_t any;
    if (db_value(d->db, "SELECT EXISTS (SELECT 1 FROM account WHERE quota IS NOT NULL)"
                        " OR EXISTS (SELECT 1 FROM domain WHERE quota IS NOT NULL)", 0, &any, err))
        return -1;
    d->quotas = any != 0;
    return 0;
}

bool directory_has_quotas(const struct directory *d)
{
    return d->quotas || d->quota;
}

uint64_t directory_account_quota(const struct directory *d, const struct account *a)
{
    return a->quota < 0 ? d->quota : (uint64_t)a->quota;
}

static void bind_quota(struct db_stmt *s, int64_t bytes)
{
    db_bind_i64(s, 1, bytes);
    db_bind_i64(s, 2, bytes);
}

enum dir_result directory_account_quota_set(struct directory *d, uint32_t id, int64_t bytes, struct err *err)
{
    struct db_stmt *s = db_stmt(d->db, "UPDATE account SET quota = iif(? < 0, NULL, ?) WHERE id = ? AND state < 3");
    bind_quota(s, bytes);
    db_bind_i64(s, 3, id);
    if (db_run(s, err))
        return DIR_FAILED;
    if (db_changes(d->db) == 0)
        return dir_refuse(err, DIR_MISSING, "there is no account %u", id);
    return directory_quotas_look(d, err) ? DIR_FAILED : DIR_OK;
}

enum dir_result directory_domain_quota_set(struct directory *d, struct span name, int64_t bytes, struct err *err)
{
    char canonical[ADDRESS_DOMAIN_MAX + 1];
    size_t n;
    if (!domain_canonical(name, canonical, &n))
        return dir_refuse(err, DIR_USAGE, "%.*s is not a domain name", SPANV(span_sub(name, 0, 100)));
    struct db_stmt *s = db_stmt(d->db, "UPDATE domain SET quota = iif(? < 0, NULL, ?) WHERE name = ?");
    bind_quota(s, bytes);
    db_bind_text(s, 3, span_make(canonical, n));
    if (db_run(s, err))
        return DIR_FAILED;
    if (db_changes(d->db) == 0)
        return dir_refuse(err, DIR_MISSING, "there is no domain %s", canonical);
    return directory_quotas_look(d, err) ? DIR_FAILED : DIR_OK;
}
