/* What an account may send: its own limits, its domain's, the configuration's. */
#include "auth/directory_priv.h"

int directory_sending_look(struct directory *d, struct err *err)
{
    int64_t any;
    if (db_value(d->db, "SELECT EXISTS (SELECT 1 FROM sending)", 0, &any, err))
        return -1;
    d->sendings = any != 0;
    return 0;
}

int directory_sending(struct directory *d, uint32_t account, uint32_t most[SENDING_LIMITS],
                      enum sending_from from[SENDING_LIMITS], struct err *err)
{
    for (int i = 0; i < SENDING_LIMITS; i++) {
        most[i] = d->sending[i];
        from[i] = SENDING_BY_DEFAULT;
    }
    if (!d->sendings)
        return 0;
    /* The domain's come first, so that the account's stand. */
    struct db_stmt *s = db_stmt(d->db, "SELECT account, kind, most FROM sending WHERE (account = ?1 AND domain = 0) OR"
                                       " (account = 0 AND domain = (SELECT domain FROM account WHERE id = ?1))"
                                       " ORDER BY account");
    int got;
    db_bind_i64(s, 1, account);
    while ((got = db_step(s, err)) > 0) {
        int64_t kind = db_i64(s, 1);
        if (kind < 0 || kind >= SENDING_LIMITS)
            continue;
        most[kind] = (uint32_t)db_i64(s, 2);
        from[kind] = db_i64(s, 0) ? SENDING_BY_ACCOUNT : SENDING_BY_DOMAIN;
    }
    return got;
}

static enum dir_result set(struct directory *d, int64_t account, int64_t domain, enum sending_limit kind, int64_t most,
                           struct err *err)
{
    struct db_stmt *s = db_stmt(d->db, most < 0 ? "DELETE FROM sending WHERE account = ? AND domain = ? AND kind = ?"
                                                : "INSERT OR REPLACE INTO sending VALUES (?, ?, ?, ?)");
    db_bind_i64(s, 1, account);
    db_bind_i64(s, 2, domain);
    db_bind_i64(s, 3, kind);
    if (most >= 0)
        db_bind_i64(s, 4, most);
    return db_run(s, err) || directory_sending_look(d, err) ? DIR_FAILED : DIR_OK;
}

enum dir_result directory_account_sending_set(struct directory *d, uint32_t account, enum sending_limit kind, int64_t most,
                                              struct err *err)
{
    return set(d, account, 0, kind, most, err);
}

enum dir_result directory_domain_sending_set(struct directory *d, struct span name, enum sending_limit kind, int64_t most,
                                             struct err *err)
{
    char canonical[ADDRESS_DOMAIN_MAX + 1];
    size_t n;
    if (!domain_canonical(name, canonical, &n))
        return dir_refuse(err, DIR_USAGE, "%.*s is not a domain name", SPANV(span_sub(name, 0, 100)));
    int64_t row = directory_domain_row(d, span_make(canonical, n), err);
    if (row < 0)
        return DIR_FAILED;
    return row ? set(d, 0, row, kind, most, err) : dir_refuse(err, DIR_MISSING, "there is no domain %s", canonical);
}
