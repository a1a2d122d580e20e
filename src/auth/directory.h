/* The directory: domains, accounts, aliases; which address means whom. One SQLite database, one owner (authd).
 *
 * An address is looked for in this order, the first hit decides (HAZARDS 29):
 *   1. an account of that very name          2. an account of the name before its +detail
 *   3. an alias of that very name            4. an alias of the name before its +detail
 *   5. postmaster and abuse (RFC5321:4.5.1, RFC 2142): the domain's first enabled account, else the instance's
 *   6. the domain's catch-all
 * `postmaster` without a domain, and both names at the host's own name, follow rule 5. */
#ifndef AUTH_DIRECTORY_H
#define AUTH_DIRECTORY_H

#include "auth/password.h"
#include "auth/scram.h"
#include "base/err.h"
#include "base/outcome.h"
#include "base/sending.h"
#include "mail/address.h"

#define ACCOUNT_LOGIN_MAX 320 /* bytes, with quotes where they are needed */
#define ALIAS_TARGETS_MAX 1000
#define ALIAS_DEPTH_MAX 10

struct directory;

struct directory_options {
    uint32_t uid_first, uid_last; /* of accounts */
    struct span hostname;         /* this host's own name */
    uint64_t quota;               /* of an account without one of its own or of its domain; 0: none */
    uint32_t sending[SENDING_LIMITS]; /* likewise */
};

/* How a change or a look ended; err says why for all but DIR_OK. */
enum dir_result {
    DIR_OK,
    DIR_FAILED,  /* the database */
    DIR_MISSING, /* no such domain, account, alias */
    DIR_REFUSED, /* it would break a rule */
    DIR_USAGE,   /* not an address, not a domain name, … */
};

int directory_open(struct directory **out, const char *dir, const struct directory_options *o, struct err *err);
void directory_close(struct directory **d);
/* Called whenever something in it is about to change; must not ask it. */
void directory_on_change(struct directory *d, void (*fn)(void *ctx), void *ctx);
/* Whether who is welcome hangs on what mailboxes hold. */
bool directory_has_quotas(const struct directory *d);
/* After a reload. Accounts keep the uid they have. */
void directory_configure(struct directory *d, const struct directory_options *o);

/* ---- domains ---- */
enum dir_result directory_domain_add(struct directory *d, struct span name, struct err *err);
enum dir_result directory_domain_remove(struct directory *d, struct span name, struct err *err);
/* Whether mail for that domain (canonical name) ends here: 1, 0, -1. */
int directory_domain_local(struct directory *d, struct span name, struct err *err);
struct directory_domain {
    struct span name;
    int64_t accounts, aliases;
    int64_t created; /* ms since 1970 */
};
typedef void directory_domain_fn(void *ctx, const struct directory_domain *domain);
/* The next `limit` domains by name behind `after`; *last gets the last name. Lists are read in such pages, with changes
 * between them. */
int directory_domains(struct directory *d, struct span after, unsigned limit, directory_domain_fn *fn, void *ctx,
                      struct err *err);

/* ---- accounts ---- */
enum account_state {
    ACCOUNT_ENABLED,
    ACCOUNT_DISABLED, /* takes no login and no mail */
    ACCOUNT_REMOVED,  /* as if it weren't there; its mail is kept, its name is free for another */
    ACCOUNT_PURGED,   /* only its numbers are remembered, so that they are never given again */
};
const char *account_state_name(enum account_state s);

struct account {
    uint32_t id, uid;
    enum account_state state;
    int64_t created;                   /* ms since 1970 */
    uint64_t bytes, messages;          /* as its mda told last */
    int64_t quota;                     /* bytes, its own or its domain's; 0: none, -1: the default */
    char login[ACCOUNT_LOGIN_MAX + 1]; /* canonical local@domain */
    char hash[PASSWORD_HASH_MAX];
    char scram[SCRAM_HASHES][SCRAM_TEXT_MAX]; /* scram_put() of the same password; empty: none is kept */
    bool sha_1;                               /* SCRAM-SHA-1 is switched on for it */
};

/* hash: of password_hash(). */
enum dir_result directory_account_add(struct directory *d, struct span address, const char *hash, int64_t now,
                                      struct account *out, struct err *err);
/* Takes the SCRAM verifiers away, too. */
enum dir_result directory_account_passwd(struct directory *d, uint32_t id, const char *hash, struct err *err);
/* Keeps the verifier, unless the password is another by now: hash is the one that it belongs to. One of SCRAM-SHA-1
 * only where that is switched on. */
int directory_account_scram(struct directory *d, uint32_t id, const char *hash, enum scram_hash which,
                            const char *scram, struct err *err);
/* Off deletes its verifier. */
enum dir_result directory_account_sha_1(struct directory *d, uint32_t id, bool on, struct err *err);
/* Deletes every verifier of that hash, those of app passwords, too. */
int directory_scram_drop(struct directory *d, enum scram_hash which, struct err *err);
/* SCRAM_KEY random bytes that stay the same as long as the directory is there; made at the first call. */
int directory_secret(struct directory *d, uint8_t *out, struct err *err);
/* A removed account comes back when its domain is there and nothing has taken its name meanwhile. */
enum dir_result directory_account_set_state(struct directory *d, uint32_t id, enum account_state state,
                                            struct err *err);
/* Enabled or disabled, by its address. */
enum dir_result directory_account_find(struct directory *d, struct span address, struct account *out, struct err *err);
/* The logins of accounts with that local part in any domain, enabled or disabled, up to `limit` of them. */
typedef void directory_login_fn(void *ctx, struct span login, enum account_state state);
int directory_logins_of(struct directory *d, struct span local, unsigned limit, directory_login_fn *fn, void *ctx,
                        struct err *err);
/* For operators: by address or number; without one of that address, the one removed last. Purged ones are gone. */
enum dir_result directory_account_named(struct directory *d, struct span name, struct account *out, struct err *err);
enum dir_result directory_account_get(struct directory *d, uint32_t id, struct account *out, struct err *err);
typedef void directory_account_fn(void *ctx, const struct account *a);
/* The next `limit` accounts by id, purged ones left out; domain: canonical, or empty for all. */
int directory_accounts(struct directory *d, struct span domain, uint32_t after, unsigned limit,
                       directory_account_fn *fn, void *ctx, struct err *err);
/* What applies to it: bytes, 0 for none. */
uint64_t directory_account_quota(const struct directory *d, const struct account *a);
/* bytes: 0 for none, -1 takes it away, so that the domain's or the default applies. */
enum dir_result directory_account_quota_set(struct directory *d, uint32_t id, int64_t bytes, struct err *err);
/* Of its accounts without one of their own. */
enum dir_result directory_domain_quota_set(struct directory *d, struct span name, int64_t bytes, struct err *err);
/* What an account may send, and where each limit comes from. */
enum sending_from { SENDING_BY_DEFAULT, SENDING_BY_DOMAIN, SENDING_BY_ACCOUNT };
int directory_sending(struct directory *d, uint32_t account, uint32_t most[SENDING_LIMITS],
                      enum sending_from from[SENDING_LIMITS], struct err *err);
/* most: 0 for none, -1 takes it away, so that the domain's or the default applies. */
enum dir_result directory_account_sending_set(struct directory *d, uint32_t account, enum sending_limit kind, int64_t most,
                                              struct err *err);
enum dir_result directory_domain_sending_set(struct directory *d, struct span name, enum sending_limit kind, int64_t most,
                                             struct err *err);
struct account_usage {
    uint32_t account;
    uint64_t bytes, messages;
};
/* All in one transaction. */
int directory_usage(struct directory *d, const struct account_usage *list, size_t count, struct err *err);

/* ---- app passwords: further ones of an account, named, each for some protocols ---- */
#define APP_PASSWORD_NAME_MAX 64
#define APP_PASSWORD_SIZE 24 /* with its NUL */
#define APP_PASSWORDS_MAX 50 /* of one account */
enum { APP_SMTP = 1, APP_IMAP = 2, APP_POP3 = 4 };

/* Makes one and fills secret (APP_PASSWORD_SIZE), which nobody can ask for again. protocols: APP_… bits. */
enum dir_result directory_app_add(struct directory *d, uint32_t account, struct span name, unsigned protocols,
                                  int64_t now, char *secret, struct err *err);
enum dir_result directory_app_remove(struct directory *d, uint32_t account, struct span name, struct err *err);
struct app_password {
    struct span name;
    unsigned protocols;
    int64_t created, used; /* ms since 1970; used: to the minute, 0: never */
};
typedef void directory_app_fn(void *ctx, const struct app_password *p);
int directory_app_list(struct directory *d, uint32_t account, directory_app_fn *fn, void *ctx, struct err *err);
enum app_check {
    APP_RIGHT,
    APP_NONE,      /* not one of them */
    APP_ELSEWHERE, /* one of them, but not for that protocol */
    APP_FAILED,
};
struct app_found {
    int64_t id;
    bool bare; /* no SCRAM verifier is kept of it */
    char name[APP_PASSWORD_NAME_MAX + 1];
};
/* Quick. Notes the use. */
enum app_check directory_app_check(struct directory *d, uint32_t account, struct span password, unsigned protocol,
                                   int64_t now, struct app_found *found, struct err *err);
/* 0: the account has none of that name; -1: see err. */
int64_t directory_app_id(struct directory *d, uint32_t account, struct span name, struct err *err);
/* SCRAM-SHA-256: keeps scram_put() of it, while it is there. All of an account share their salt, the main password's: SCRAM names the
 * account only, so the proof has to say which of them it was. */
int directory_app_scram(struct directory *d, int64_t id, const char *scram, struct err *err);
/* The verifiers of those that are for that protocol. */
typedef void directory_app_scram_fn(void *ctx, int64_t id, struct span scram);
int directory_app_scrams(struct directory *d, uint32_t account, unsigned protocol, directory_app_scram_fn *fn, void *ctx, struct err *err);
/* That one was proven: notes the use. APP_NONE: it is not there any more. */
enum app_check directory_app_use(struct directory *d, uint32_t account, int64_t id, int64_t now, struct app_found *found, struct err *err);

/* ---- clients' certificates: whose each is ---- */
#define CERTIFICATE_FINGERPRINT 32 /* SHA-256 of the certificate */
#define CERTIFICATES_MAX 50        /* of one account */
enum dir_result directory_certificate_add(struct directory *d, uint32_t account, const uint8_t *fingerprint,
                                          int64_t now, struct err *err);
enum dir_result directory_certificate_remove(struct directory *d, uint32_t account, const uint8_t *fingerprint,
                                             struct err *err);
struct certificate {
    uint8_t fingerprint[CERTIFICATE_FINGERPRINT];
    int64_t created, used; /* ms since 1970; used: to the minute, 0: never */
};
typedef void directory_certificate_fn(void *ctx, const struct certificate *c);
int directory_certificate_list(struct directory *d, uint32_t account, directory_certificate_fn *fn, void *ctx,
                               struct err *err);
/* Whose it is: 1, 0, -1. */
int directory_certificate_owner(struct directory *d, const uint8_t *fingerprint, uint32_t *account, struct err *err);
int directory_certificate_used(struct directory *d, const uint8_t *fingerprint, int64_t now, struct err *err);
/* A fingerprint as text: hex digits, with or without colons; or a certificate, PEM, whose fingerprint is made. */
bool certificate_read(struct span text, uint8_t *fingerprint);

/* ---- delegated addresses: an account may write as them, wherever their mail goes ---- */
#define DELEGATES_MAX 1000 /* of one account */
/* address: local@domain, or @domain for all of it. */
enum dir_result directory_delegate_add(struct directory *d, uint32_t account, struct span address, struct err *err);
enum dir_result directory_delegate_remove(struct directory *d, uint32_t account, struct span address,
                                          struct err *err);
typedef void directory_delegate_fn(void *ctx, struct span address);
int directory_delegate_list(struct directory *d, uint32_t account, directory_delegate_fn *fn, void *ctx,
                            struct err *err);

/* ---- aliases ---- */
/* address: local@domain, or @domain for the catch-all. Adds the targets to those it has; refuses what would make a
 * loop. */
enum dir_result directory_alias_add(struct directory *d, struct span address, const struct span *targets, size_t count,
                                    struct err *err);
/* No targets: the whole alias. */
enum dir_result directory_alias_remove(struct directory *d, struct span address, const struct span *targets,
                                       size_t count, struct err *err);
typedef void directory_alias_fn(void *ctx, int64_t row, struct span local, struct span domain, struct span target);
/* The next `limit` pairs of alias and target behind `row` (0 at first), in the order they were made. */
int directory_aliases(struct directory *d, struct span domain, int64_t row, unsigned limit, directory_alias_fn *fn,
                      void *ctx, struct err *err);

/* ---- whom an address means ---- */
enum resolve_kind { RESOLVE_NONE, RESOLVE_ACCOUNT, RESOLVE_ALIAS, RESOLVE_ELSEWHERE };
enum resolve_rule { RULE_NONE, RULE_EXACT, RULE_DETAIL, RULE_ALIAS, RULE_ALIAS_DETAIL, RULE_ROLE, RULE_CATCH_ALL };

struct resolution {
    enum resolve_kind kind;
    enum resolve_rule rule;
    bool local_domain;
    int64_t domain; /* its row, 0: not ours */
    uint32_t account;
    enum account_state state;          /* of the account: enabled or disabled */
    char login[ACCOUNT_LOGIN_MAX + 1]; /* of the account */
    struct address_key key;            /* of the address asked for */
    char alias[ADDRESS_LOCAL_MAX + 1]; /* which alias of the domain; empty: the catch-all */
    char detail[ADDRESS_DETAIL_MAX + 1];
};

/* One step: aliases are not followed. DIR_USAGE: not an address. */
enum dir_result directory_resolve(struct directory *d, struct span address, struct resolution *r, struct err *err);
typedef void directory_target_fn(void *ctx, struct span target);
/* The targets of a resolution that is an alias, in the order they were given. */
int directory_targets(struct directory *d, const struct resolution *r, directory_target_fn *fn, void *ctx,
                      struct err *err);

/* Would mail for that address reach anybody now, aliases followed? Done, or the refusal, or a retry when the database
 * fails. `relayed`: the address itself is not ours, and whoever asks decides. HAZARDS 16: decided at RCPT, after
 * expansion. */
struct outcome directory_welcome(struct directory *d, struct span address, bool *relayed);
/* The same for a message of so many bytes (0: not known): a mailbox that has no room for it takes none of it, by what its
 * mda told last. */
struct outcome directory_welcome_sized(struct directory *d, struct span address, uint64_t size, bool *relayed);
/* May this account write as that address: its own, its +details, an alias or a catch-all that leads to it, one that was
 * delegated to it? 1, 0, -1. */
int directory_may_send(struct directory *d, uint32_t account, struct span sender, struct err *err);

/* Every rule in its order with what was looked for and found; then, indented by `depth`, the same for each target. */
struct explain_step {
    unsigned depth;
    const char *rule;
    struct span looked_for;
    const char *found; /* text for people */
    bool decides;
};
typedef void directory_explain_fn(void *ctx, const struct explain_step *step);
enum dir_result directory_explain(struct directory *d, struct span address, directory_explain_fn *fn, void *ctx,
                                  struct err *err);

#endif
