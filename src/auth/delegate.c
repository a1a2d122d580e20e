/* Delegated addresses: what an account may write as though its mail goes elsewhere, here or in the world. Kept as keys,
 * so that one address is one row however it is written. */
#include "auth/directory_priv.h"

/* `@domain` has an empty local part. */
static enum dir_result key_of(struct span address, struct address_key *key, struct err *err)
{
    bool whole = address.n > 1 && address.p[0] == '@';
    char domain[ADDRESS_DOMAIN_MAX + 1];
    size_t n;
    bool good = whole ? domain_canonical(span_from(address, 1), domain, &n) &&
                            address_key_make(SPAN(""), span_make(domain, n), key)
                      : address_key(address, key) && key->local_n > 0 && !key->literal;
    return good ? DIR_OK
                : dir_refuse(err, DIR_USAGE, "%.*s is neither an address nor @DOMAIN", SPANV(span_sub(address, 0, 100)));
}

int directory_delegated(struct directory *d, uint32_t account, const struct address_key *key, struct err *err)
{
    struct address_key plain, domain;
    struct span base, detail;
    address_detail(address_key_local(key), &base, &detail);
    if (!address_key_make(base, address_key_domain(key), &plain) ||
        !address_key_make(SPAN(""), address_key_domain(key), &domain))
        return 0; /* an address literal: nobody's but its host's */
    struct db_stmt *s =
        db_stmt(d->db, "SELECT 1 FROM delegate WHERE account = ? AND address IN (?, ?, ?) LIMIT 1");
    db_bind_i64(s, 1, account);
    db_bind_text(s, 2, address_key_span(key));
    db_bind_text(s, 3, address_key_span(&plain));
    db_bind_text(s, 4, address_key_span(&domain));
    int got = db_step(s, err);
    if (got > 0)
        db_reset(s);
    return got;
}

enum dir_result directory_delegate_add(struct directory *d, uint32_t account, struct span address, struct err *err)
{
    struct address_key key;
    if (key_of(address, &key, err))
        return DIR_USAGE;
    struct db_stmt *s = db_stmt(d->db, "INSERT OR IGNORE INTO delegate (account, address) SELECT ?1, ?2"
                                       " WHERE (SELECT count(*) FROM delegate WHERE account = ?1) < ?3");
    db_bind_i64(s, 1, account);
    db_bind_text(s, 2, address_key_span(&key));
    db_bind_i64(s, 3, DELEGATES_MAX);
    if (db_run(s, err))
        return DIR_FAILED;
    return db_changes(d->db) ? DIR_OK
                             : dir_refuse(err, DIR_REFUSED, "it is delegated already (or %d addresses are)", DELEGATES_MAX);
}

enum dir_result directory_delegate_remove(struct directory *d, uint32_t account, struct span address,
                                          struct err *err)
{
    struct address_key key;
    if (key_of(address, &key, err))
        return DIR_USAGE;
    struct db_stmt *s = db_stmt(d->db, "DELETE FROM delegate WHERE account = ? AND address = ?");
    db_bind_i64(s, 1, account);
    db_bind_text(s, 2, address_key_span(&key));
    if (db_run(s, err))
        return DIR_FAILED;
    return db_changes(d->db) ? DIR_OK : dir_refuse(err, DIR_MISSING, "that address is not delegated to the account");
}

int directory_delegate_list(struct directory *d, uint32_t account, directory_delegate_fn *fn, void *ctx,
                            struct err *err)
{
    struct db_stmt *s = db_stmt(d->db, "SELECT address FROM delegate WHERE account = ? ORDER BY address");
    int got;
    db_bind_i64(s, 1, account);
    while ((got = db_step(s, err)) > 0)
        fn(ctx, db_text(s, 0));
    return got;
}
