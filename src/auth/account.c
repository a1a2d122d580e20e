/* Accounts of the directory. Numbers only grow: a row is never deleted, and `number` remembers the next uid. */
#include "auth/directory_priv.h"

#include <stdio.h>

const char *account_state_name(enum account_state s)
{
    static const char *const names[] = {[ACCOUNT_ENABLED] = "enabled",
                                        [ACCOUNT_DISABLED] = "disabled",
                                        [ACCOUNT_REMOVED] = "removed",
                                        [ACCOUNT_PURGED] = "purged"};
    return names[s];
}

#define ACCOUNT_COLUMNS "id, uid, state, created, bytes, messages, login, hash, scram, scram_sha_1, sha_1," \
                        " COALESCE(quota, (SELECT d.quota FROM domain d WHERE d.id = account.domain), -1)"

static void account_read(struct db_stmt *s, struct account *a)
{
    a->id = (uint32_t)db_i64(s, 0);
    a->uid = (uint32_t)db_i64(s, 1);
    a->state = (enum account_state)db_i64(s, 2);
    a->created = db_i64(s, 3);
    a->bytes = (uint64_t)db_i64(s, 4);
    a->messages = (uint64_t)db_i64(s, 5);
    snprintf(a->login, sizeof(a->login), "%.*s", SPANV(db_text(s, 6)));
    snprintf(a->hash, sizeof(a->hash), "%.*s", SPANV(db_text(s, 7)));
    for (int i = 0; i < SCRAM_HASHES; i++)
        snprintf(a->scram[i], sizeof(a->scram[i]), "%.*s", SPANV(db_text(s, 8 + i)));
    a->sha_1 = db_i64(s, 10) != 0;
    a->quota = db_i64(s, 11);
}

int directory_account_at(struct directory *d, int64_t domain, struct span local, uint32_t *id,
                         enum account_state *state, char *login, struct err *err)
{
    struct db_stmt *s =
        db_stmt(d->db, "SELECT id, state, login FROM account WHERE domain = ? AND local = ? AND state < 2");
    db_bind_i64(s, 1, domain);
    db_bind_text(s, 2, local);
    int got = db_step(s, err);
    if (got <= 0)
        return got;
    *id = (uint32_t)db_i64(s, 0);
    *state = (enum account_state)db_i64(s, 1);
    if (login)
        snprintf(login, ACCOUNT_LOGIN_MAX + 1, "%.*s", SPANV(db_text(s, 2)));
    db_reset(s);
    return 1;
}

int directory_logins_of(struct directory *d, struct span local, unsigned limit, directory_login_fn *fn, void *ctx,
                        struct err *err)
{
    struct address_key key;
    char address[ADDRESS_LOCAL_MAX + 16];
    if (local.n > ADDRESS_LOCAL_MAX)
        return 0;
    memcpy(address, local.p, local.n);
    memcpy(address + local.n, "@name.invalid", 13);
    if (!address_key(span_make(address, local.n + 13), &key))
        return 0;
    struct db_stmt *s = db_stmt(d->db, "SELECT login, state FROM account WHERE domain IN (SELECT id FROM domain)"
                                       " AND local = ? AND state < 2 ORDER BY login LIMIT ?");
    db_bind_text(s, 1, address_key_local(&key));
    db_bind_i64(s, 2, limit);
    int got;
    while ((got = db_step(s, err)) > 0)
        fn(ctx, db_text(s, 0), (enum account_state)db_i64(s, 1));
    return got;
}

enum dir_result directory_account_get(struct directory *d, uint32_t id, struct account *out, struct err *err)
{
    struct db_stmt *s = db_stmt(d->db, "SELECT " ACCOUNT_COLUMNS " FROM account WHERE id = ?");
    db_bind_i64(s, 1, id);
    int got = db_step(s, err);
    if (got < 0)
        return DIR_FAILED;
    if (got == 0)
        return dir_refuse(err, DIR_MISSING, "there is no account %u", id);
    account_read(s, out);
    db_reset(s);
    return DIR_OK;
}

static enum dir_result account_by_key(struct directory *d, const struct address_key *key, int64_t domain,
                                      struct account *out, struct err *err)
{
    struct db_stmt *s = db_stmt(d->db, "SELECT " ACCOUNT_COLUMNS " FROM account WHERE domain = ? AND local = ?");
    db_bind_i64(s, 1, domain);
    db_bind_text(s, 2, address_key_local(key));
    int got = db_step(s, err);
    if (got < 0)
        return DIR_FAILED;
    if (got == 0)
        return dir_refuse(err, DIR_MISSING, "there is no account %s", key->text);
    account_read(s, out);
    db_reset(s);
    return DIR_OK;
}

enum dir_result directory_account_find(struct directory *d, struct span address, struct account *out, struct err *err)
{
    struct address_key key;
    int64_t domain;
    enum dir_result r = directory_locate(d, address, &key, &domain, err);
    return r ? r : account_by_key(d, &key, domain, out, err);
}

static enum dir_result removed_last(struct directory *d, const struct address_key *key, struct account *out,
                                    struct err *err)
{
    struct buf login = {0};
    struct db_stmt *s = db_stmt(d->db, "SELECT " ACCOUNT_COLUMNS
                                       " FROM account WHERE login = ? AND state = 2 ORDER BY id DESC LIMIT 1");
    address_put(&login, address_key_local(key), address_key_domain(key));
    db_bind_text(s, 1, buf_span(&login));
    int got = db_step(s, err);
    if (got > 0) {
        account_read(s, out);
        db_reset(s);
    }
    buf_free(&login);
    return got > 0 ? DIR_OK : got ? DIR_FAILED : dir_refuse(err, DIR_MISSING, "there is no account %s", key->text);
}

enum dir_result directory_account_named(struct directory *d, struct span name, struct account *out, struct err *err)
{
    uint64_t id;
    struct address_key key;
    int64_t domain;
    if (span_u64(name, UINT32_MAX, &id)) {
        enum dir_result got = directory_account_get(d, (uint32_t)id, out, err);
        return got == DIR_OK && out->state == ACCOUNT_PURGED
                   ? dir_refuse(err, DIR_MISSING, "there is no account %u", out->id)
                   : got;
    }
    enum dir_result r = directory_locate(d, name, &key, &domain, err);
    if (r == DIR_OK)
        r = account_by_key(d, &key, domain, out, err);
    return r == DIR_MISSING ? removed_last(d, &key, out, err) : r;
}

/* ---- adding ---- */

static int uid_take(struct directory *d, uint32_t *uid, struct err *err)
{
    int64_t next;
    if (db_value(d->db, "SELECT value FROM number WHERE name = 'next-uid'", 0, &next, err))
        return -1;
    if (next < d->uid_first)
        next = d->uid_first;
    if (next > d->uid_last)
        return err_set(err, "the uids for accounts are used up: widen uid-first and uid-last in the accounts section");
    struct db_stmt *s = db_stmt(
        d->db, "INSERT INTO number (name, value) VALUES ('next-uid', ?1) ON CONFLICT (name) DO UPDATE SET value = ?1");
    db_bind_i64(s, 1, next + 1);
    *uid = (uint32_t)next;
    return db_run(s, err);
}

static enum dir_result name_is_free(struct directory *d, const struct address_key *key, int64_t domain, struct err *err)
{
    struct account there;
    enum dir_result r = account_by_key(d, key, domain, &there, err);
    if (r == DIR_FAILED)
        return r;
    if (r == DIR_OK)
        return dir_refuse(err, DIR_REFUSED, "the account %s is there already", key->text);
    return directory_no_alias_behind(d, domain, address_key_local(key), err);
}

static int account_insert(struct directory *d, const struct address_key *key, int64_t domain, struct span login,
                          const char *hash, int64_t now, struct err *err)
{
    uint32_t uid = 0;
    if (uid_take(d, &uid, err))
        return -1;
    struct db_stmt *s = db_stmt(
        d->db, "INSERT INTO account (uid, domain, local, login, hash, state, created) VALUES (?, ?, ?, ?, ?, 0, ?)");
    db_bind_i64(s, 1, uid);
    db_bind_i64(s, 2, domain);
    db_bind_text(s, 3, address_key_local(key));
    db_bind_text(s, 4, login);
    db_bind_text(s, 5, span_of(hash));
    db_bind_i64(s, 6, now);
    return db_run(s, err);
}

static enum dir_result add_at(struct directory *d, const struct address_key *key, int64_t domain, const char *hash,
                              int64_t now, struct account *out, struct err *err)
{
    struct buf login = {0};
    address_put(&login, address_key_local(key), address_key_domain(key));
    bool fits = login.n <= ACCOUNT_LOGIN_MAX;
    int rc = !fits || db_begin(d->db, err) ? -1 : account_insert(d, key, domain, buf_span(&login), hash, now, err);
    uint32_t id = (uint32_t)db_last_rowid(d->db);
    buf_free(&login);
    if (!fits)
        return dir_refuse(err, DIR_USAGE, "the name of an account has %d bytes at most", ACCOUNT_LOGIN_MAX);
    if (rc) {
        db_rollback(d->db);
        return DIR_FAILED;
    }
    return db_commit(d->db, err) ? DIR_FAILED : directory_account_get(d, id, out, err);
}

enum dir_result directory_account_add(struct directory *d, struct span address, const char *hash, int64_t now,
                                      struct account *out, struct err *err)
{
    struct address_key key;
    int64_t domain;
    enum dir_result r = directory_locate(d, address, &key, &domain, err);
    if (r || (r = name_is_free(d, &key, domain, err)))
        return r;
    return add_at(d, &key, domain, hash, now, out, err);
}

/* ---- changing ---- */

enum dir_result directory_account_passwd(struct directory *d, uint32_t id, const char *hash, struct err *err)
{
    struct db_stmt *s = db_stmt(d->db, "UPDATE account SET hash = ?, scram = '', scram_sha_1 = '' WHERE id = ? AND state < 3");
    db_bind_text(s, 1, span_of(hash));
    db_bind_i64(s, 2, id);
    if (db_run(s, err))
        return DIR_FAILED;
    return db_changes(d->db) ? DIR_OK : dir_refuse(err, DIR_MISSING, "there is no account %u", id);
}

int directory_account_scram(struct directory *d, uint32_t id, const char *hash, enum scram_hash which,
                            const char *scram, struct err *err)
{
    struct db_stmt *s =
        which == SCRAM_SHA_1
            ? db_stmt(d->db, "UPDATE account SET scram_sha_1 = ? WHERE id = ? AND hash = ? AND sha_1 = 1")
            : db_stmt(d->db, "UPDATE account SET scram = ? WHERE id = ? AND hash = ?");
    db_bind_text(s, 1, span_of(scram));
    db_bind_i64(s, 2, id);
    db_bind_text(s, 3, span_of(hash));
    return db_run(s, err);
}

enum dir_result directory_account_sha_1(struct directory *d, uint32_t id, bool on, struct err *err)
{
    struct db_stmt *s = db_stmt(d->db, "UPDATE account SET sha_1 = ?1, scram_sha_1 = iif(?1, scram_sha_1, '')"
                                       " WHERE id = ?2 AND state < 3");
    db_bind_i64(s, 1, on);
    db_bind_i64(s, 2, id);
    if (db_run(s, err))
        return DIR_FAILED;
    return db_changes(d->db) ? DIR_OK : dir_refuse(err, DIR_MISSING, "there is no account %u", id);
}

int directory_scram_drop(struct directory *d, enum scram_hash which, struct err *err)
{
    if (which == SCRAM_SHA_1)
        return db_run(db_stmt(d->db, "UPDATE account SET scram_sha_1 = '' WHERE scram_sha_1 <> ''"), err);
    return db_run(db_stmt(d->db, "UPDATE account SET scram = '' WHERE scram <> ''"), err) ||
                   db_run(db_stmt(d->db, "UPDATE app_password SET scram = '' WHERE scram <> ''"), err)
               ? -1
               : 0;
}

static int secret_read(struct directory *d, uint8_t *out, struct err *err)
{
    struct db_stmt *s = db_stmt(d->db, "SELECT value FROM secret WHERE name = 'salt'");
    int got = db_step(s, err);
    if (got <= 0)
        return got;
    struct span v = db_blob(s, 0);
    bool good = v.n == SCRAM_KEY;
    if (good)
        memcpy(out, v.p, SCRAM_KEY);
    db_reset(s);
    return good ? 1 : err_set(err, "the directory's secret is broken");
}

int directory_secret(struct directory *d, uint8_t *out, struct err *err)
{
    int got = secret_read(d, out, err);
    if (got)
        return got < 0 ? -1 : 0;
    password_random(out, SCRAM_KEY);
    struct db_stmt *s = db_stmt(d->db, "INSERT INTO secret (name, value) VALUES ('salt', ?)");
    db_bind_blob(s, 1, span_make(out, SCRAM_KEY));
    return db_run(s, err);
}

static enum dir_result restore(struct directory *d, const struct account *a, enum account_state state, struct err *err)
{
    struct address_key key;
    int64_t domain;
    enum dir_result r = directory_locate(d, span_of(a->login), &key, &domain, err);
    if (r || (r = name_is_free(d, &key, domain, err)))
        return r;
    struct db_stmt *s = db_stmt(d->db, "UPDATE account SET state = ?, domain = ? WHERE id = ?");
    db_bind_i64(s, 1, state);
    db_bind_i64(s, 2, domain);
    db_bind_i64(s, 3, a->id);
    return db_run(s, err) ? DIR_FAILED : DIR_OK;
}

static struct db_stmt *state_change(struct directory *d, enum account_state state)
{
    switch (state) {
    case ACCOUNT_REMOVED: return db_stmt(d->db, "UPDATE account SET state = ?, domain = NULL WHERE id = ?");
    case ACCOUNT_PURGED:
        return db_stmt(d->db,
                       "UPDATE account SET state = ?, domain = NULL, hash = '', scram = '', scram_sha_1 = '', bytes = 0, messages = 0"
                       " WHERE id = ?");
    default: return db_stmt(d->db, "UPDATE account SET state = ? WHERE id = ?");
    }
}

enum dir_result directory_account_set_state(struct directory *d, uint32_t id, enum account_state state, struct err *err)
{
    struct account a;
    enum dir_result r = directory_account_get(d, id, &a, err);
    if (r == DIR_OK && a.state == ACCOUNT_PURGED)
        return dir_refuse(err, DIR_MISSING, "there is no account %u", id);
    if (r)
        return r;
    if (a.state == ACCOUNT_REMOVED && state < ACCOUNT_REMOVED)
        return restore(d, &a, state, err);
    struct db_stmt *s = state_change(d, state);
    db_bind_i64(s, 1, state);
    db_bind_i64(s, 2, id);
    if (db_run(s, err))
        return DIR_FAILED;
    if (state != ACCOUNT_PURGED)
        return DIR_OK;
    static const char *const goes[] = {"DELETE FROM app_password WHERE account = ?",
                                       "DELETE FROM certificate WHERE account = ?",
                                       "DELETE FROM delegate WHERE account = ?"};
    for (size_t i = 0; i < COUNT_OF(goes); i++) {
        s = db_stmt(d->db, goes[i]);
        db_bind_i64(s, 1, id);
        if (db_run(s, err))
            return DIR_FAILED;
    }
    return DIR_OK;
}

/* ---- reading ---- */

int directory_accounts(struct directory *d, struct span domain, uint32_t after, unsigned limit,
                       directory_account_fn *fn, void *ctx, struct err *err)
{
    struct db_stmt *s =
        db_stmt(d->db, "SELECT " ACCOUNT_COLUMNS " FROM account WHERE id > ?1 AND state < 3"
                       " AND (?3 = '' OR substr(login, -length(?3) - 1) = '@' || ?3) ORDER BY id LIMIT ?2");
    struct account a;
    int got;
    db_bind_i64(s, 1, after);
    db_bind_i64(s, 2, limit);
    db_bind_text(s, 3, domain.n ? domain : SPAN(""));
    while ((got = db_step(s, err)) > 0) {
        account_read(s, &a);
        fn(ctx, &a);
    }
    return got;
}

static int usage_one(struct directory *d, const struct account_usage *u, struct err *err)
{
    struct db_stmt *s = db_stmt(d->db, "UPDATE account SET bytes = ?1, messages = ?2 WHERE id = ?3 AND state < 3"
                                       " AND (bytes <> ?1 OR messages <> ?2)"); /* nothing new: nothing to sync */
    db_bind_i64(s, 1, (int64_t)MIN_OF(u->bytes, (uint64_t)INT64_MAX));
    db_bind_i64(s, 2, (int64_t)MIN_OF(u->messages, (uint64_t)INT64_MAX));
    db_bind_i64(s, 3, u->account);
    return db_run(s, err);
}

int directory_usage(struct directory *d, const struct account_usage *list, size_t count, struct err *err)
{
    if (db_begin(d->db, err))
        return -1;
    for (size_t i = 0; i < count; i++)
        if (usage_one(d, &list[i], err)) {
            db_rollback(d->db);
            return -1;
        }
    return db_commit(d->db, err);
}
