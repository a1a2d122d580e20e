/* The directory's database and its domains. Trusts only the database; names and addresses come from operators and the
 * network. */
#include "auth/directory_priv.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"

static const char *const steps[] = {
    "CREATE TABLE number (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE TABLE domain (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, created INTEGER NOT NULL) "
    "STRICT;"
    /* domain is NULL once the account is removed: its name is free then. The row stays, so that neither id nor uid is
       given again. */
    "CREATE TABLE account (id INTEGER PRIMARY KEY AUTOINCREMENT, uid INTEGER NOT NULL UNIQUE, domain INTEGER "
    "REFERENCES domain(id),"
    " local TEXT NOT NULL, login TEXT NOT NULL, hash TEXT NOT NULL, state INTEGER NOT NULL, created INTEGER NOT NULL,"
    " bytes INTEGER NOT NULL DEFAULT 0, messages INTEGER NOT NULL DEFAULT 0, UNIQUE (domain, local)) STRICT;"
    /* One row for each target; local is empty for the catch-all. */
    "CREATE TABLE alias (id INTEGER PRIMARY KEY AUTOINCREMENT, domain INTEGER NOT NULL REFERENCES domain(id), local "
    "TEXT NOT NULL,"
    " target TEXT NOT NULL, target_key TEXT NOT NULL, UNIQUE (domain, local, target_key)) STRICT;",
    /* SCRAM: what is kept of each password, and what fake salts are made of. */
    "ALTER TABLE account ADD COLUMN scram TEXT NOT NULL DEFAULT '';"
    "CREATE TABLE secret (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;",
    /* digest: a salt and the SHA-256 of it and the password. used: 0 for never. */
    "CREATE TABLE app_password (id INTEGER PRIMARY KEY AUTOINCREMENT, account INTEGER NOT NULL REFERENCES account(id),"
    " name TEXT NOT NULL, protocols INTEGER NOT NULL, digest BLOB NOT NULL, created INTEGER NOT NULL,"
    " used INTEGER NOT NULL DEFAULT 0, UNIQUE (account, name)) STRICT;",
    /* SCRAM-SHA-1, where it is switched on. */
    "ALTER TABLE account ADD COLUMN sha_1 INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE account ADD COLUMN scram_sha_1 TEXT NOT NULL DEFAULT '';",
    /* Clients' certificates: the SHA-256 of each says whose it is. Addresses that an account may send from without
       receiving their mail. */
    "CREATE TABLE certificate (id INTEGER PRIMARY KEY AUTOINCREMENT, account INTEGER NOT NULL REFERENCES account(id),"
    " fingerprint BLOB NOT NULL UNIQUE, created INTEGER NOT NULL, used INTEGER NOT NULL DEFAULT 0) STRICT;"
    "CREATE TABLE delegate (id INTEGER PRIMARY KEY AUTOINCREMENT, account INTEGER NOT NULL REFERENCES account(id),"
    " address TEXT NOT NULL, UNIQUE (account, address)) STRICT;",
    /* Bytes; 0: none; NULL: that of the domain, else the default of the configuration. */
    "ALTER TABLE account ADD COLUMN quota INTEGER;"
    "ALTER TABLE domain ADD COLUMN quota INTEGER;",
    /* Limits of what an account sends: of one account (domain 0) or of each of a domain (account 0). */
    "CREATE TABLE sending (account INTEGER NOT NULL, domain INTEGER NOT NULL, kind INTEGER NOT NULL, most INTEGER NOT NULL,"
    " PRIMARY KEY (account, domain, kind)) STRICT, WITHOUT ROWID;",
    /* What SCRAM-SHA-256 needs of an app password. */
    "ALTER TABLE app_password ADD COLUMN scram TEXT NOT NULL DEFAULT '';",
};

enum dir_result dir_refuse(struct err *err, enum dir_result which, const char *fmt, ...)
{
    char text[sizeof(err->text)];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    err_set(err, "%s", text);
    return which;
}

void directory_configure(struct directory *d, const struct directory_options *o)
{
    size_t n;
    d->uid_first = o->uid_first;
    d->uid_last = o->uid_last;
    d->quota = o->quota;
    memcpy(d->sending, o->sending, sizeof(d->sending));
    if (!domain_canonical(o->hostname, d->hostname, &n))
        d->hostname[0] = 0;
    directory_resolve_forget(d);
}

int directory_open(struct directory **out, const char *dir, const struct directory_options *o, struct err *err)
{
    struct directory *d = mem_alloc(sizeof(*d));
    struct db_options how = {.sync_full = true, .one_process = true};
    directory_configure(d, o);
    if (db_open(&d->db, dir, "directory.db", &how, err) || db_migrate(d->db, steps, COUNT_OF(steps), err) ||
        directory_quotas_look(d, err) || directory_sending_look(d, err)) {
        directory_close(&d);
        return -1;
    }
    *out = d;
    return 0;
}

void directory_close(struct directory **d)
{
    if (*d) {
        db_close(&(*d)->db);
        directory_resolve_forget(*d);
    }
    mem_free(d);
}

void directory_on_change(struct directory *d, void (*fn)(void *ctx), void *ctx)
{
    db_on_commit(d->db, fn, ctx);
}

/* ---- domains ---- */

int64_t directory_id(struct db_stmt *s, struct err *err)
{
    int got = db_step(s, err);
    int64_t id = got > 0 ? db_i64(s, 0) : got;
    if (got > 0)
        db_reset(s);
    return id;
}

int64_t directory_domain_row(struct directory *d, struct span name, struct err *err)
{
    struct db_stmt *s = db_stmt(d->db, "SELECT id FROM domain WHERE name = ?");
    db_bind_text(s, 1, name);
    return directory_id(s, err);
}

int directory_domain_local(struct directory *d, struct span name, struct err *err)
{
    int64_t row = directory_domain_row(d, name, err);
    return row < 0 ? -1 : row > 0;
}

static enum dir_result canonical(struct span name, char *out, size_t *n, struct err *err)
{
    if (domain_canonical(name, out, n))
        return DIR_OK;
    return dir_refuse(err, DIR_USAGE, "%.*s is not a domain name", SPANV(span_sub(name, 0, 100)));
}

enum dir_result directory_domain_add(struct directory *d, struct span name, struct err *err)
{
    char text[ADDRESS_DOMAIN_MAX + 1];
    size_t n;
    if (canonical(name, text, &n, err))
        return DIR_USAGE;
    struct db_stmt *s = db_stmt(d->db, "INSERT INTO domain (name, created) VALUES (?, ?)");
    db_bind_text(s, 1, (struct span){text, n});
    db_bind_i64(s, 2, clock_wall());
    if (db_run(s, err) == 0)
        return DIR_OK;
    return db_code(d->db) == DB_CONSTRAINT ? dir_refuse(err, DIR_REFUSED, "the domain %s is there already", text)
                                           : DIR_FAILED;
}

static int count_in(struct directory *d, const char *sql, int64_t domain, int64_t *out, struct err *err)
{
    struct db_stmt *s = db_stmt(d->db, sql);
    db_bind_i64(s, 1, domain);
    int got = db_step(s, err);
    if (got <= 0)
        return -1;
    *out = db_i64(s, 0);
    db_reset(s);
    return 0;
}

enum dir_result directory_domain_remove(struct directory *d, struct span name, struct err *err)
{
    char text[ADDRESS_DOMAIN_MAX + 1];
    size_t n;
    int64_t accounts, aliases;
    if (canonical(name, text, &n, err))
        return DIR_USAGE;
    int64_t row = directory_domain_row(d, (struct span){text, n}, err);
    if (row < 0)
        return DIR_FAILED;
    if (row == 0)
        return dir_refuse(err, DIR_MISSING, "there is no domain %s", text);
    if (count_in(d, "SELECT count(*) FROM account WHERE domain = ?", row, &accounts, err) ||
        count_in(d, "SELECT count(DISTINCT local) FROM alias WHERE domain = ?", row, &aliases, err))
        return DIR_FAILED;
    if (accounts)
        return dir_refuse(err, DIR_REFUSED,
                          "%s has %lld account(s): 'waypost account remove ADDRESS' each of them first", text,
                          (long long)accounts);
    if (aliases)
        return dir_refuse(err, DIR_REFUSED, "%s has %lld alias(es): 'waypost alias remove ADDRESS' each of them first",
                          text, (long long)aliases);
    struct db_stmt *s = db_stmt(d->db, "DELETE FROM domain WHERE id = ?");
    db_bind_i64(s, 1, row);
    return db_run(s, err) ? DIR_FAILED : DIR_OK;
}

int directory_domains(struct directory *d, struct span after, unsigned limit, directory_domain_fn *fn, void *ctx,
                      struct err *err)
{
    struct db_stmt *s = db_stmt(d->db, "SELECT name, (SELECT count(*) FROM account WHERE domain = domain.id),"
                                       " (SELECT count(DISTINCT local) FROM alias WHERE domain = domain.id), created"
                                       " FROM domain WHERE name > ? ORDER BY name LIMIT ?");
    db_bind_text(s, 1, after.p ? after : SPAN(""));
    db_bind_i64(s, 2, limit);
    int got;
    while ((got = db_step(s, err)) > 0)
        fn(ctx, &(struct directory_domain){db_text(s, 0), db_i64(s, 1), db_i64(s, 2), db_i64(s, 3)});
    return got;
}

enum dir_result directory_locate(struct directory *d, struct span address, struct address_key *key, int64_t *domain,
                                 struct err *err)
{
    if (!address_key(address, key) || key->literal || key->local_n == 0)
        return dir_refuse(err, DIR_USAGE, "%.*s is not an address: NAME@DOMAIN", SPANV(span_sub(address, 0, 100)));
    *domain = directory_domain_row(d, address_key_domain(key), err);
    if (*domain < 0)
        return DIR_FAILED;
    if (*domain == 0)
        return dir_refuse(err, DIR_MISSING, "the domain %.*s is not served here: 'waypost domain add %.*s' first",
                          SPANV(address_key_domain(key)), SPANV(address_key_domain(key)));
    return DIR_OK;
}
