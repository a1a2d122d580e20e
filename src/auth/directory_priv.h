/* What the directory's files share among themselves. */
#ifndef AUTH_DIRECTORY_PRIV_H
#define AUTH_DIRECTORY_PRIV_H

#include "auth/directory.h"
#include "base/map.h"
#include "db/db.h"

struct directory {
    struct db *db;
    uint32_t uid_first, uid_last;
    uint64_t quota; /* the default, 0: none */
    bool quotas;    /* whether any account has one: else nothing is looked up for it */
    uint32_t sending[SENDING_LIMITS]; /* the defaults */
    bool sendings; /* whether any account or domain has limits of its own */
    char hostname[ADDRESS_DOMAIN_MAX + 1]; /* canonical */
    struct map known; /* resolve.c: address → struct resolution */
    int64_t known_at; /* db_changes_ever() then; nothing is known that is older */
};

/* The id in the only row of it; 0: there is none; -1: see err. */
int64_t directory_id(struct db_stmt *s, struct err *err);
/* The row of a canonical domain name: > 0, 0 none, -1 failed. */
int64_t directory_domain_row(struct directory *d, struct span name, struct err *err);
/* Enabled or disabled account of that name: 1, 0, -1. login may be NULL, or has room for ACCOUNT_LOGIN_MAX and a NUL. */
int directory_account_at(struct directory *d, int64_t domain, struct span local, uint32_t *id,
                         enum account_state *state, char *login, struct err *err);
/* Forgets what directory_resolve() has found. */
void directory_resolve_forget(struct directory *d);
/* Whether there is such an alias: 1, 0, -1. */
int directory_alias_at(struct directory *d, int64_t domain, struct span local, struct err *err);
/* DIR_REFUSED when an alias would stand behind an account at `local`: the alias itself, or one of its +details. */
enum dir_result directory_no_alias_behind(struct directory *d, int64_t domain, struct span local, struct err *err);
/* Address and its domain's row for a change; DIR_USAGE and DIR_MISSING with their reasons. */
enum dir_result directory_locate(struct directory *d, struct span address, struct address_key *key, int64_t *domain,
                                 struct err *err);
/* Learns whether there are quotas at all. */
int directory_quotas_look(struct directory *d, struct err *err);
/* Learns whether there are limits at all. */
int directory_sending_look(struct directory *d, struct err *err);
/* Whether that address was delegated to the account: 1, 0, -1. */
int directory_delegated(struct directory *d, uint32_t account, const struct address_key *key, struct err *err);
/* Fills err and returns which. */
enum dir_result dir_refuse(struct err *err, enum dir_result which, const char *fmt, ...) PRINTF_LIKE(3, 4);

#endif
