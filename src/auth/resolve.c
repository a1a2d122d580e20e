/* Whom an address means: the rules of directory.h in their order, one lookup at a time. The hot path of RCPT: accounts that
 * were found are remembered until the directory changes. */
#include "auth/directory_priv.h"

#include <stdio.h>

#include "base/mem.h"

#define KNOWN_MAX 1000   /* answers that are remembered */
#define KNOWN_LENGTH 100 /* of an address that is worth it */
#define WALK_BUDGET 1000 /* lookups for one RCPT, sender or explanation */

/* ---- the rules ---- */

struct question {
    struct directory *d;
    struct resolution *r;
    struct span local, base, detail; /* of the key */
    bool detailed;
    struct err *err;
};

static void set_detail(struct resolution *r, struct span detail)
{
    size_t n = MIN_OF(detail.n, sizeof(r->detail) - 1);
    if (n)
        memcpy(r->detail, detail.p, n);
    r->detail[n] = 0;
}

static void set_alias(struct resolution *r, struct span local)
{
    r->kind = RESOLVE_ALIAS;
    if (local.n)
        memcpy(r->alias, local.p, local.n);
    r->alias[local.n] = 0;
}

/* Each rule: 1 it decides, 0 the next one, -1 failed. */
static int account_rule(struct question *q, struct span local)
{
    int got = directory_account_at(q->d, q->r->domain, local, &q->r->account, &q->r->state, q->r->login, q->err);
    if (got > 0)
        q->r->kind = RESOLVE_ACCOUNT;
    return got;
}

static int alias_rule(struct question *q, struct span local)
{
    int got = directory_alias_at(q->d, q->r->domain, local, q->err);
    if (got > 0)
        set_alias(q->r, local);
    return got;
}

static int rule_exact(struct question *q)
{
    return account_rule(q, q->local);
}

static int rule_detail(struct question *q)
{
    int got = q->detailed ? account_rule(q, q->base) : 0;
    if (got > 0)
        set_detail(q->r, q->detail);
    return got;
}

static int rule_alias(struct question *q)
{
    return q->local.n ? alias_rule(q, q->local) : 0;
}

static int rule_alias_detail(struct question *q)
{
    return q->detailed ? alias_rule(q, q->base) : 0;
}

static int lowest_id(struct db_stmt *s, struct resolution *r, struct err *err)
{
    int got = db_step(s, err);
    if (got <= 0)
        return got;
    r->account = (uint32_t)db_i64(s, 0);
    snprintf(r->login, sizeof(r->login), "%.*s", SPANV(db_text(s, 1)));
    db_reset(s);
    return 1;
}

static int first_account(struct directory *d, struct resolution *r, struct err *err)
{
    struct db_stmt *s = db_stmt(d->db, "SELECT id, login FROM account WHERE domain = ? AND state = 0 ORDER BY id LIMIT 1");
    db_bind_i64(s, 1, r->domain);
    int got = lowest_id(s, r, err);
    return got ? got : lowest_id(db_stmt(d->db, "SELECT id, login FROM account WHERE state = 0 ORDER BY id LIMIT 1"), r, err);
}

/* RFC5321:4.5.1 postmaster, RFC2142:4 abuse: always somebody's, without case. At our own host name root is, too: programs of this machine
 * write to him. */
static bool is_role(struct span local)
{
    return span_eqs(local, "postmaster") || span_eqs(local, "abuse");
}

static int rule_role(struct question *q)
{
    if (!is_role(q->base) && !(q->r->domain == 0 && span_eqs(q->base, "root")))
        return 0;
    int got = first_account(q->d, q->r, q->err);
    if (got > 0) {
        q->r->kind = RESOLVE_ACCOUNT;
        q->r->state = ACCOUNT_ENABLED;
        set_detail(q->r, q->detail);
    }
    return got;
}

static int rule_catch_all(struct question *q)
{
    return alias_rule(q, SPAN(""));
}

static const struct {
    enum resolve_rule rule;
    const char *name;
    int (*ask)(struct question *q);
} rules[] = {
    {RULE_EXACT, "account", rule_exact},
    {RULE_DETAIL, "account without detail", rule_detail},
    {RULE_ALIAS, "alias", rule_alias},
    {RULE_ALIAS_DETAIL, "alias without detail", rule_alias_detail},
    {RULE_ROLE, "postmaster and abuse", rule_role},
    {RULE_CATCH_ALL, "catch-all", rule_catch_all},
};

/* ---- one step ---- */

/* `postmaster` without a domain, and the role names and root at our own host name, mean the first account. */
static bool is_bare_role(const struct directory *d, struct span address, struct resolution *r)
{
    if (span_ieqs(address, "postmaster"))
        return address_key_make(SPAN("postmaster"), d->hostname[0] ? span_of(d->hostname) : SPAN("localhost"), &r->key);
    if (!address_key(address, &r->key))
        return false;
    struct span local = address_key_local(&r->key);
    return (is_role(local) || span_eqs(local, "root")) && d->hostname[0] &&
           span_eqs(address_key_domain(&r->key), d->hostname);
}

static void question_init(struct question *q, struct directory *d, struct resolution *r, struct err *err)
{
    *q = (struct question){.d = d, .r = r, .local = address_key_local(&r->key), .err = err};
    q->detailed = address_detail(q->local, &q->base, &q->detail);
}

static enum dir_result ask_rules(struct question *q, size_t from)
{
    for (size_t i = from; i < COUNT_OF(rules); i++) {
        int got = rules[i].ask(q);
        if (got < 0)
            return DIR_FAILED;
        if (got > 0) {
            q->r->rule = rules[i].rule;
            return DIR_OK;
        }
    }
    return DIR_OK;
}

static void resolution_clear(struct resolution *r)
{
    r->kind = RESOLVE_NONE;
    r->rule = RULE_NONE;
    r->local_domain = false;
    r->domain = 0;
    r->account = 0;
    r->state = ACCOUNT_ENABLED;
    r->alias[0] = r->detail[0] = r->login[0] = 0;
}

/* Finds the domain's row. DIR_OK with *row > 0: the rules are to be asked. */
static enum dir_result find_domain(struct directory *d, struct span address, struct resolution *r, int64_t *row,
                                   struct err *err)
{
    resolution_clear(r);
    bool bare = is_bare_role(d, address, r);
    *row = 0;
    if (!bare && !address_key(address, &r->key))
        return dir_refuse(err, DIR_USAGE, "%.*s is not an address: NAME@DOMAIN", SPANV(span_sub(address, 0, 100)));
    if (!r->key.literal)
        *row = r->domain = directory_domain_row(d, address_key_domain(&r->key), err);
    if (*row < 0)
        return DIR_FAILED;
    r->local_domain = *row > 0 || bare;
    if (!r->local_domain)
        r->kind = RESOLVE_ELSEWHERE;
    return DIR_OK;
}

static enum dir_result look_up(struct directory *d, struct span address, struct resolution *r, struct err *err)
{
    int64_t row;
    struct question q;
    enum dir_result result = find_domain(d, address, r, &row, err);
    if (result || !r->local_domain)
        return result;
    question_init(&q, d, r, err);
    if (row)
        return ask_rules(&q, 0);
    int got = rule_role(&q);
    if (got > 0)
        r->rule = RULE_ROLE;
    return got < 0 ? DIR_FAILED : DIR_OK;
}

/* ---- what was found before: one message asks twice, and more come for the same ---- */

void directory_resolve_forget(struct directory *d)
{
    struct span key;
    void *r;
    for (size_t at = 0; map_next(&d->known, &at, &key, &r);)
        mem_free(&r);
    map_free(&d->known);
}

static bool may_be_known(struct directory *d)
{
    int64_t now = db_changes_ever(d->db);
    if (db_in_transaction(d->db)) /* what it sees may be rolled back */
        return false;
    if (now != d->known_at || d->known.count >= KNOWN_MAX)
        directory_resolve_forget(d);
    d->known_at = now;
    return true;
}

enum dir_result directory_resolve(struct directory *d, struct span address, struct resolution *r, struct err *err)
{
    bool known = address.n <= KNOWN_LENGTH && may_be_known(d);
    const struct resolution *before = known ? map_get(&d->known, address) : NULL;
    if (before) {
        *r = *before;
        return DIR_OK;
    }
    enum dir_result result = look_up(d, address, r, err);
    if (known && result == DIR_OK && r->kind == RESOLVE_ACCOUNT) {
        struct resolution *keep = mem_alloc(sizeof(*keep));
        *keep = *r;
        map_put(&d->known, address, keep);
    }
    return result;
}

/* ---- following aliases ---- */

struct follow {
    struct directory *d;
    unsigned depth, budget;
    /* True: seen enough. */
    bool (*leaf)(void *ctx, const struct resolution *r);
    void *ctx;
    bool stop, failed;
    struct err *err;
};

struct pending_target {
    struct pending_target *next;
    size_t n;
    char text[];
};

struct gather {
    struct pending_target *first, **last;
};

static void gather_target(void *ctx, struct span target)
{
    struct gather *g = ctx;
    struct pending_target *t = mem_alloc(sizeof(*t) + target.n);
    t->n = target.n;
    memcpy(t->text, target.p, target.n);
    *g->last = t;
    g->last = &t->next;
}

static void follow_address(struct follow *f, struct span address);

/* The targets are read to the end first: the statement is needed again below. */
static void follow_alias(struct follow *f, const struct resolution *r)
{
    struct gather g = {NULL, &g.first};
    if (f->depth == ALIAS_DEPTH_MAX)
        return;
    if (directory_targets(f->d, r, gather_target, &g, f->err))
        f->failed = true;
    f->depth++;
    while (g.first) {
        struct pending_target *t = g.first;
        g.first = t->next;
        if (!f->failed && !f->stop)
            follow_address(f, span_make(t->text, t->n));
        mem_free(&t);
    }
    f->depth--;
}

static void follow_address(struct follow *f, struct span address)
{
    struct resolution r;
    if (f->budget == 0)
        return;
    f->budget--;
    enum dir_result got = directory_resolve(f->d, address, &r, f->err);
    if (got == DIR_FAILED)
        f->failed = true;
    else if (got == DIR_OK && r.kind == RESOLVE_ALIAS)
        follow_alias(f, &r);
    else if (got == DIR_OK)
        f->stop = f->leaf(f->ctx, &r);
}

/* ---- RCPT ---- */

struct welcome {
    struct directory *d;
    uint64_t size;
    bool someone, disabled, full, never; /* never: the message alone is more than the mailbox may hold */
};

/* Whether that account has room, as far as is known; a directory that fails is no reason to refuse for it. */
static bool has_room(struct welcome *w, uint32_t account)
{
    struct account a;
    struct err err;
    if (!directory_has_quotas(w->d) || directory_account_get(w->d, account, &a, &err))
        return true;
    uint64_t quota = directory_account_quota(w->d, &a);
    if (quota == 0 || (a.bytes < quota && w->size <= quota - a.bytes))
        return true;
    if (w->size > quota)
        w->never = true;
    else
        w->full = true;
    return false;
}

static bool welcome_leaf(void *ctx, const struct resolution *r)
{
    struct welcome *w = ctx;
    if (r->kind == RESOLVE_ELSEWHERE)
        w->someone = true;
    else if (r->kind == RESOLVE_ACCOUNT && r->state == ACCOUNT_ENABLED)
        w->someone = has_room(w, r->account);
    else if (r->kind == RESOLVE_ACCOUNT)
        w->disabled = true;
    return w->someone;
}

static struct outcome welcome_outcome(const struct welcome *w)
{
    if (w->someone)
        return outcome_make(OUTCOME_DONE, 250, 2, 1, "ok");
    if (w->full) /* RFC3463:3.3 */
        return outcome_make(OUTCOME_RETRY, 452, 2, 2, "the mailbox is full");
    if (w->never)
        return outcome_make(OUTCOME_FAILED, 552, 2, 2, "the message is larger than the whole mailbox may be");
    if (w->disabled)
        return outcome_make(OUTCOME_FAILED, 550, 2, 1, "this mailbox is disabled");
    return outcome_make(OUTCOME_FAILED, 550, 1, 1, "no such address here");
}

struct outcome directory_welcome(struct directory *d, struct span address, bool *relayed)
{
    return directory_welcome_sized(d, address, 0, relayed);
}

struct outcome directory_welcome_sized(struct directory *d, struct span address, uint64_t size, bool *relayed)
{
    struct resolution r;
    struct welcome w = {.d = d, .size = size};
    struct err err;
    struct follow f = {.d = d, .budget = WALK_BUDGET, .leaf = welcome_leaf, .ctx = &w, .err = &err};
    *relayed = false;
    enum dir_result got = directory_resolve(d, address, &r, &err);
    if (got == DIR_USAGE)
        return outcome_make(OUTCOME_FAILED, 553, 1, 3, "not an address");
    if (got == DIR_OK && r.kind == RESOLVE_ALIAS)
        follow_alias(&f, &r);
    else if (got == DIR_OK)
        welcome_leaf(&w, &r);
    if (got == DIR_FAILED || f.failed)
        return outcome_make(OUTCOME_RETRY, 451, 3, 0, "the directory is not available");
    *relayed = r.kind == RESOLVE_ELSEWHERE;
    /* RFC5321:4.5.1: postmaster is never refused for good, even before the first account exists. */
    if (r.kind == RESOLVE_NONE && is_role(address_key_local(&r.key)))
        return outcome_make(OUTCOME_RETRY, 450, 2, 1, "no account takes mail for this address yet");
    return welcome_outcome(&w);
}

/* ---- MAIL ---- */

struct owner {
    uint32_t account;
    bool found;
};

static bool owner_leaf(void *ctx, const struct resolution *r)
{
    struct owner *o = ctx;
    if (r->kind == RESOLVE_ACCOUNT && r->account == o->account)
        o->found = true;
    return o->found;
}

int directory_may_send(struct directory *d, uint32_t account, struct span sender, struct err *err)
{
    struct resolution r;
    struct owner o = {.account = account};
    struct follow f = {.d = d, .budget = WALK_BUDGET, .leaf = owner_leaf, .ctx = &o, .err = err};
    enum dir_result got = directory_resolve(d, sender, &r, err);
    if (got)
        return got == DIR_FAILED ? -1 : 0;
    if (r.kind == RESOLVE_ALIAS)
        follow_alias(&f, &r);
    else if (r.kind == RESOLVE_ACCOUNT)
        owner_leaf(&o, &r);
    if (f.failed || o.found)
        return f.failed ? -1 : 1;
    return directory_delegated(d, account, &r.key, err);
}

/* ---- explaining ---- */

struct explain {
    struct directory *d;
    directory_explain_fn *fn;
    void *ctx;
    unsigned depth, budget;
    struct err *err;
};

static void say(struct explain *e, const char *rule, struct span looked_for, bool decides, const char *found)
{
    e->fn(e->ctx, &(struct explain_step){e->depth, rule, looked_for, found, decides});
}

static enum dir_result explain_address(struct explain *e, struct span address);

static enum dir_result explain_targets(struct explain *e, const struct resolution *r)
{
    struct gather g = {NULL, &g.first};
    enum dir_result result = directory_targets(e->d, r, gather_target, &g, e->err) ? DIR_FAILED : DIR_OK;
    e->depth++;
    while (g.first) {
        struct pending_target *t = g.first;
        g.first = t->next;
        if (result != DIR_FAILED && e->budget > 0 && e->depth <= ALIAS_DEPTH_MAX)
            result = explain_address(e, span_make(t->text, t->n));
        mem_free(&t);
    }
    e->depth--;
    return result;
}

static enum dir_result explain_found(struct explain *e, const char *rule, struct span looked_for,
                                     const struct resolution *r)
{
    char text[ADDRESS_LOCAL_MAX + 64];
    struct account a;
    if (r->kind == RESOLVE_ALIAS) {
        say(e, rule, looked_for, true, "leads to:");
        return explain_targets(e, r);
    }
    enum dir_result got = directory_account_get(e->d, r->account, &a, e->err);
    if (got)
        return got;
    struct span words[] = {SPAN("account "), span_of(a.login), r->detail[0] ? SPAN(", detail ") : SPAN(""),
                           span_of(r->detail), a.state == ACCOUNT_DISABLED ? SPAN(", disabled: refused") : SPAN("")};
    size_t n = 0;
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        size_t take = MIN_OF(words[i].n, sizeof(text) - 1 - n);
        if (take)
            memcpy(text + n, words[i].p, take);
        n += take;
    }
    text[n] = 0;
    say(e, rule, looked_for, true, text);
    return DIR_OK;
}

static struct span rule_subject(const struct question *q, enum resolve_rule rule)
{
    switch (rule) {
    case RULE_DETAIL:
    case RULE_ALIAS_DETAIL: return q->detailed ? q->base : SPAN("");
    case RULE_CATCH_ALL: return SPAN("");
    default: return q->local;
    }
}

static enum dir_result explain_rules(struct explain *e, struct question *q)
{
    for (size_t i = 0; i < COUNT_OF(rules); i++) {
        struct span subject = rule_subject(q, rules[i].rule);
        if (!q->detailed && (rules[i].rule == RULE_DETAIL || rules[i].rule == RULE_ALIAS_DETAIL)) {
            say(e, rules[i].name, subject, false, "the name has no +detail");
            continue;
        }
        int got = rules[i].ask(q);
        if (got < 0)
            return DIR_FAILED;
        if (got > 0)
            return explain_found(e, rules[i].name, subject, q->r);
        say(e, rules[i].name, subject, false,
            rules[i].rule == RULE_ROLE && !is_role(q->base) ? "the name is neither" : "none");
    }
    say(e, "end", q->local, true, "refused: no such address here");
    return DIR_OK;
}

static enum dir_result explain_address(struct explain *e, struct span address)
{
    struct resolution r;
    struct question q;
    int64_t row;
    e->budget--;
    enum dir_result got = find_domain(e->d, address, &r, &row, e->err);
    if (got)
        return got;
    if (!r.local_domain) {
        say(e, "domain", address, true, "not served here: relayed for who may relay");
        return DIR_OK;
    }
    say(e, "domain", address, false, row ? "served here" : "this host's own name");
    question_init(&q, e->d, &r, e->err);
    if (row)
        return explain_rules(e, &q);
    int role = rule_role(&q);
    if (role > 0)
        return explain_found(e, "postmaster and abuse", q.local, &r);
    say(e, "postmaster and abuse", q.local, true, "no enabled account to take it yet: deferred");
    return role < 0 ? DIR_FAILED : DIR_OK;
}

enum dir_result directory_explain(struct directory *d, struct span address, directory_explain_fn *fn, void *ctx,
                                  struct err *err)
{
    struct explain e = {.d = d, .fn = fn, .ctx = ctx, .budget = WALK_BUDGET, .err = err};
    return explain_address(&e, address);
}
