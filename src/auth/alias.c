/* Aliases of the directory. A loop is refused when it would be made; what still arises later (an account in the middle
 * is removed) ends at ALIAS_DEPTH_MAX. Targets are addresses as facts: whom they mean is asked each time. */
#include "auth/directory_priv.h"

#include "base/mem.h"

int directory_alias_at(struct directory *d, int64_t domain, struct span local, struct err *err)
{
    struct db_stmt *s = db_stmt(d->db, "SELECT 1 FROM alias WHERE domain = ? AND local = ? LIMIT 1");
    db_bind_i64(s, 1, domain);
    db_bind_text(s, 2, local);
    int got = db_step(s, err);
    if (got > 0)
        db_reset(s);
    return got;
}

enum dir_result directory_no_alias_behind(struct directory *d, int64_t domain, struct span local, struct err *err)
{
    /* All names that begin with `local+` sort between it and `local,`. */
    struct db_stmt *s = db_stmt(
        d->db,
        "SELECT local FROM alias WHERE domain = ?1 AND (local = ?2 OR (local >= ?2 || '+' AND local < ?2 || ','))"
        " LIMIT 1");
    db_bind_i64(s, 1, domain);
    db_bind_text(s, 2, local);
    int got = db_step(s, err);
    if (got <= 0)
        return got ? DIR_FAILED : DIR_OK;
    dir_refuse(err, DIR_REFUSED, "the alias %.*s would no longer be reached: remove it first", SPANV(db_text(s, 0)));
    db_reset(s);
    return DIR_REFUSED;
}

/* ---- loops ---- */

struct walk {
    struct directory *d;
    unsigned budget; /* lookups left */
    unsigned depth;
    struct resolution *path; /* of depth entries */
    enum dir_result result;
    struct err *err;
};

struct target_list {
    struct span items[ALIAS_TARGETS_MAX];
    size_t count;
    struct buf text; /* the bytes; spans hold offsets until all are in */
};

static void collect(void *ctx, struct span target)
{
    struct target_list *l = ctx;
    if (l->count == ALIAS_TARGETS_MAX)
        return;
    l->items[l->count++] = (struct span){NULL, target.n};
    buf_add(&l->text, target);
}

static struct target_list *targets_of(struct directory *d, const struct resolution *r, struct err *err)
{
    struct target_list *l = mem_alloc(sizeof(*l));
    if (directory_targets(d, r, collect, l, err)) {
        buf_free(&l->text);
        mem_free(&l);
        return NULL;
    }
    size_t at = 0;
    for (size_t i = 0; i < l->count; i++) {
        l->items[i].p = l->text.p + at;
        at += l->items[i].n;
    }
    return l;
}

static bool same_alias(const struct resolution *a, const struct resolution *b)
{
    return a->domain == b->domain && strcmp(a->alias, b->alias) == 0;
}

static void walk_from(struct walk *w, const struct resolution *r);

static void walk_target(struct walk *w, struct span target)
{
    struct resolution next;
    if (w->result || w->budget == 0)
        return;
    w->budget--;
    w->result = directory_resolve(w->d, target, &next, w->err);
    if (w->result == DIR_OK && next.kind == RESOLVE_ALIAS)
        walk_from(w, &next);
}

static void walk_from(struct walk *w, const struct resolution *r)
{
    for (unsigned i = 0; i < w->depth; i++)
        if (same_alias(&w->path[i], r)) {
            w->result = dir_refuse(w->err, DIR_REFUSED, "%s would lead back to itself: aliases must not form a loop",
                                   r->key.text);
            return;
        }
    if (w->depth == ALIAS_DEPTH_MAX) {
        w->result = dir_refuse(w->err, DIR_REFUSED, "aliases may lead to aliases %u times at most", ALIAS_DEPTH_MAX);
        return;
    }
    w->path[w->depth++] = *r;
    struct target_list *l = targets_of(w->d, r, w->err);
    if (!l)
        w->result = DIR_FAILED;
    for (size_t i = 0; l && i < l->count; i++)
        walk_target(w, l->items[i]);
    if (l)
        buf_free(&l->text);
    mem_free(&l);
    w->depth--;
}

static enum dir_result no_loop(struct directory *d, int64_t domain, const struct address_key *key, struct err *err)
{
    struct resolution path[ALIAS_DEPTH_MAX];
    struct resolution start = {.kind = RESOLVE_ALIAS, .domain = domain, .key = *key};
    struct walk w = {.d = d, .budget = 10000, .path = path, .err = err};
    memcpy(start.alias, key->text, key->local_n);
    walk_from(&w, &start);
    return w.result;
}

/* ---- adding ---- */

/* `@domain` is the catch-all: its key has an empty local part. */
static enum dir_result locate_alias(struct directory *d, struct span address, struct address_key *key, int64_t *domain,
                                    struct err *err)
{
    if (address.n < 2 || address.p[0] != '@')
        return directory_locate(d, address, key, domain, err);
    struct span name = span_from(address, 1);
    if (name.p[0] == '[' || !address_key_make(SPAN(""), name, key))
        return dir_refuse(err, DIR_USAGE, "%.*s is not a catch-all: @DOMAIN", SPANV(span_sub(address, 0, 100)));
    *domain = directory_domain_row(d, address_key_domain(key), err);
    if (*domain == 0)
        return dir_refuse(err, DIR_MISSING, "the domain %s is not served here: 'waypost domain add %s' first",
                          key->text + 1, key->text + 1);
    return *domain < 0 ? DIR_FAILED : DIR_OK;
}

/* An alias behind an account would never be asked (rules 1 and 2 come first). */
static enum dir_result not_behind_account(struct directory *d, int64_t domain, const struct address_key *key,
                                          struct err *err)
{
    struct span local = address_key_local(key), base, detail;
    uint32_t id;
    enum account_state state;
    bool detailed = address_detail(local, &base, &detail);
    int there = key->local_n ? directory_account_at(d, domain, local, &id, &state, NULL, err) : 0;
    if (there == 0 && detailed)
        there = directory_account_at(d, domain, base, &id, &state, NULL, err);
    if (there < 0)
        return DIR_FAILED;
    return there ? dir_refuse(err, DIR_REFUSED, "mail for %s goes to the account %.*s@%.*s already", key->text,
                              SPANV(detailed ? base : local), SPANV(address_key_domain(key)))
                 : DIR_OK;
}

static enum dir_result target_insert(struct directory *d, int64_t domain, const struct address_key *key,
                                     struct span target, struct err *err)
{
    struct address_key to;
    if (!address_key(target, &to))
        return dir_refuse(err, DIR_USAGE, "%.*s is not an address: NAME@DOMAIN", SPANV(span_sub(target, 0, 100)));
    struct db_stmt *s = db_stmt(d->db, "INSERT INTO alias (domain, local, target, target_key) VALUES (?, ?, ?, ?)");
    db_bind_i64(s, 1, domain);
    db_bind_text(s, 2, address_key_local(key));
    db_bind_text(s, 3, target);
    db_bind_text(s, 4, address_key_span(&to));
    if (db_run(s, err) == 0)
        return DIR_OK;
    return db_code(d->db) == DB_CONSTRAINT ? dir_refuse(err, DIR_REFUSED, "%s leads to %s already", key->text, to.text)
                                           : DIR_FAILED;
}

static enum dir_result insert_all(struct directory *d, int64_t domain, const struct address_key *key,
                                  const struct span *targets, size_t count, struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        enum dir_result r = target_insert(d, domain, key, targets[i], err);
        if (r)
            return r;
    }
    struct db_stmt *s = db_stmt(d->db, "SELECT count(*) FROM alias WHERE domain = ? AND local = ?");
    db_bind_i64(s, 1, domain);
    db_bind_text(s, 2, address_key_local(key));
    int got = db_step(s, err);
    int64_t have = got > 0 ? db_i64(s, 0) : 0;
    if (got <= 0)
        return DIR_FAILED;
    db_reset(s);
    if (have > ALIAS_TARGETS_MAX)
        return dir_refuse(err, DIR_REFUSED, "an alias has %d targets at most", ALIAS_TARGETS_MAX);
    return no_loop(d, domain, key, err);
}

enum dir_result directory_alias_add(struct directory *d, struct span address, const struct span *targets, size_t count,
                                    struct err *err)
{
    struct address_key key;
    int64_t domain;
    if (count == 0)
        return dir_refuse(err, DIR_USAGE, "an alias needs a target");
    enum dir_result r = locate_alias(d, address, &key, &domain, err);
    if (r || (r = not_behind_account(d, domain, &key, err)))
        return r;
    if (db_begin(d->db, err))
        return DIR_FAILED;
    r = insert_all(d, domain, &key, targets, count, err);
    if (r) {
        db_rollback(d->db);
        return r;
    }
    return db_commit(d->db, err) ? DIR_FAILED : DIR_OK;
}

/* ---- removing and reading ---- */

static enum dir_result target_delete(struct directory *d, int64_t domain, const struct address_key *key,
                                     struct span target, struct err *err)
{
    struct address_key to;
    if (!address_key(target, &to))
        return dir_refuse(err, DIR_USAGE, "%.*s is not an address: NAME@DOMAIN", SPANV(span_sub(target, 0, 100)));
    struct db_stmt *s = db_stmt(d->db, "DELETE FROM alias WHERE domain = ? AND local = ? AND target_key = ?");
    db_bind_i64(s, 1, domain);
    db_bind_text(s, 2, address_key_local(key));
    db_bind_text(s, 3, address_key_span(&to));
    if (db_run(s, err))
        return DIR_FAILED;
    return db_changes(d->db) ? DIR_OK : dir_refuse(err, DIR_MISSING, "%s does not lead to %s", key->text, to.text);
}

static enum dir_result delete_whole(struct directory *d, int64_t domain, const struct address_key *key, struct err *err)
{
    struct db_stmt *s = db_stmt(d->db, "DELETE FROM alias WHERE domain = ? AND local = ?");
    db_bind_i64(s, 1, domain);
    db_bind_text(s, 2, address_key_local(key));
    if (db_run(s, err))
        return DIR_FAILED;
    return db_changes(d->db) ? DIR_OK : dir_refuse(err, DIR_MISSING, "there is no alias %s", key->text);
}

enum dir_result directory_alias_remove(struct directory *d, struct span address, const struct span *targets,
                                       size_t count, struct err *err)
{
    struct address_key key;
    int64_t domain;
    enum dir_result r = locate_alias(d, address, &key, &domain, err);
    if (r)
        return r;
    if (count == 0)
        return delete_whole(d, domain, &key, err);
    if (db_begin(d->db, err))
        return DIR_FAILED;
    for (size_t i = 0; i < count && !r; i++)
        r = target_delete(d, domain, &key, targets[i], err);
    if (r) {
        db_rollback(d->db);
        return r;
    }
    return db_commit(d->db, err) ? DIR_FAILED : DIR_OK;
}

int directory_aliases(struct directory *d, struct span domain, int64_t row, unsigned limit, directory_alias_fn *fn,
                      void *ctx, struct err *err)
{
    struct db_stmt *s =
        domain.n ? db_stmt(d->db, "SELECT a.id, a.local, d.name, a.target FROM alias a JOIN domain d ON d.id = a.domain"
                                  " WHERE a.id > ?1 AND d.name = ?3 ORDER BY a.id LIMIT ?2")
                 : db_stmt(d->db, "SELECT a.id, a.local, d.name, a.target FROM alias a JOIN domain d ON d.id = a.domain"
                                  " WHERE a.id > ? ORDER BY a.id LIMIT ?");
    int got;
    db_bind_i64(s, 1, row);
    db_bind_i64(s, 2, limit);
    if (domain.n)
        db_bind_text(s, 3, domain);
    while ((got = db_step(s, err)) > 0)
        fn(ctx, db_i64(s, 0), db_text(s, 1), db_text(s, 2), db_text(s, 3));
    return got;
}

int directory_targets(struct directory *d, const struct resolution *r, directory_target_fn *fn, void *ctx,
                      struct err *err)
{
    struct db_stmt *s = db_stmt(d->db, "SELECT target FROM alias WHERE domain = ? AND local = ? ORDER BY id LIMIT ?");
    int got;
    db_bind_i64(s, 1, r->domain);
    db_bind_text(s, 2, span_of(r->alias));
    db_bind_i64(s, 3, ALIAS_TARGETS_MAX);
    while ((got = db_step(s, err)) > 0)
        fn(ctx, db_text(s, 0));
    return got;
}
