/* The operators' commands about domains, accounts and aliases. Each says in its end what was done, or why not and how
 * to mend it. */
#include <stdio.h>

#include "authd/authd.h"
#include "authd/hasher.h"
#include "authd/logins.h"
#include "authd/terminals.h"
#include "authd/workers.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#define PAGE 100 /* rows read from the directory at a time */

static enum admin_status status_of(enum dir_result r)
{
    static const enum admin_status of[] = {[DIR_OK] = ADMIN_DONE,
                                           [DIR_FAILED] = ADMIN_FAILED,
                                           [DIR_MISSING] = ADMIN_NO_SUCH,
                                           [DIR_REFUSED] = ADMIN_FAILED,
                                           [DIR_USAGE] = ADMIN_USAGE};
    return of[r];
}

static void end(struct admin_call *c, enum dir_result r, const struct err *err, const char *done)
{
    admin_end(c, status_of(r), "%s", r == DIR_OK ? done : err->text);
}

/* ---- lists: a page, then the next when the operator has read it ---- */

struct listing {
    struct authd *authd;
    char domain[ADDRESS_DOMAIN_MAX + 1]; /* empty: all */
    char after_name[ADDRESS_DOMAIN_MAX + 1];
    int64_t after_row;
    unsigned rows; /* of this page */
    struct admin_call *call;
    int (*page)(struct listing *l, struct err *err);
};

static void listing_drop(void *ctx)
{
    mem_free(&ctx);
}

static void listing_go_on(void *ctx, struct admin_call *c)
{
    struct listing *l = ctx;
    struct err err;
    l->call = c;
    do {
        l->rows = 0;
        if (l->page(l, &err)) {
            mem_free(&l);
            admin_end(c, ADMIN_FAILED, "%s", err.text);
            return;
        }
    } while (l->rows == PAGE && admin_room(c));
    if (l->rows == PAGE) {
        admin_later(c, listing_go_on, listing_drop, l);
        return;
    }
    mem_free(&l);
    admin_end(c, ADMIN_DONE, "%s", "");
}

static void list(struct authd *a, struct admin_call *c, const struct span *args, size_t nargs,
                 int (*page)(struct listing *l, struct err *err))
{
    struct listing *l = mem_alloc(sizeof(*l));
    struct err err;
    size_t n;
    l->authd = a;
    l->page = page;
    if (nargs && !domain_canonical(args[0], l->domain, &n)) {
        mem_free(&l);
        admin_end(c, ADMIN_USAGE, "%.*s is not a domain name", SPANV(span_sub(args[0], 0, 100)));
        return;
    }
    int there = nargs ? directory_domain_local(a->directory, span_of(l->domain), &err) : 1;
    if (there <= 0) {
        admin_end(c, there ? ADMIN_FAILED : ADMIN_NO_SUCH, "%s%s", there ? err.text : "there is no domain ",
                  there ? "" : l->domain);
        mem_free(&l);
        return;
    }
    listing_go_on(l, c);
}

/* ---- domains ---- */

static void domain_add(void *ctx, struct admin_call *c, const struct span *args, size_t nargs)
{
    struct authd *a = ctx;
    struct err err;
    (void)nargs;
    end(c, directory_domain_add(a->directory, args[0], &err), &err, "the domain is served from now on");
}

static void domain_remove(void *ctx, struct admin_call *c, const struct span *args, size_t nargs)
{
    struct authd *a = ctx;
    struct err err;
    (void)nargs;
    end(c, directory_domain_remove(a->directory, args[0], &err), &err, "the domain is no longer served");
}

static void domain_row(void *ctx, const struct directory_domain *d)
{
    struct listing *l = ctx;
    l->rows++;
    snprintf(l->after_name, sizeof(l->after_name), "%.*s", SPANV(d->name));
    admin_text(l->call, "domain", d->name);
    admin_number(l->call, "accounts", (uint64_t)d->accounts);
    admin_number(l->call, "aliases", (uint64_t)d->aliases);
    admin_time(l->call, "created", d->created);
    admin_row(l->call);
}

static int domain_page(struct listing *l, struct err *err)
{
    char after[sizeof(l->after_name)];
    memcpy(after, l->after_name, sizeof(after));
    return directory_domains(l->authd->directory, span_of(after), PAGE, domain_row, l, err);
}

static void domain_list(void *ctx, struct admin_call *c, const struct span *args, size_t nargs)
{
    list(ctx, c, args, nargs, domain_page);
}

/* ---- accounts ---- */

/* A password on its way through the hasher. */
struct password_change {
    struct authd *authd;
    struct admin_call *call;
    uint32_t id; /* 0: a new account */
    char address[IPC_ADDRESS_MAX + 1];
};

/* A verifier that could not be kept is made at the next login with the password. */
static void keep_scram(struct authd *a, uint32_t id, const char *hash, const hasher_scram *scram)
{
    struct err err;
    if (service_conf(a->service)->accounts.scram && !(*scram)[SCRAM_SHA_256][0])
        LOGW("scram-not-kept", KVU("account", id), KVT("why", "the password has characters that SASLprep does not take: PLAIN works, SCRAM can't"));
    for (unsigned i = 0; i < SCRAM_HASHES; i++)
        if ((*scram)[i][0] &&
            directory_account_scram(a->directory, id, hash, (enum scram_hash)i, (*scram)[i], &err))
            LOGE("directory", KVT("why", err.text));
}

static void password_hashed(void *ctx, bool ok, const char *hash, const hasher_scram *scram)
{
    struct password_change *p = ctx;
    struct account a;
    struct err err;
    if (!ok) {
        admin_end(p->call, ADMIN_LATER, "the password could not be hashed now, try again");
    } else if (p->id) {
        enum dir_result r = directory_account_passwd(p->authd->directory, p->id, hash, &err);
        if (r == DIR_OK)
            keep_scram(p->authd, p->id, hash, scram);
        end(p->call, r, &err, "the password is changed");
    } else {
        enum dir_result r =
            directory_account_add(p->authd->directory, span_of(p->address), hash, clock_wall(), &a, &err);
        if (r == DIR_OK) {
            keep_scram(p->authd, a.id, hash, scram);
            admin_text(p->call, "account", span_of(a.login));
            admin_number(p->call, "id", a.id);
            admin_number(p->call, "uid", a.uid);
            admin_row(p->call);
        }
        end(p->call, r, &err, "the account is there");
    }
    mem_free(&p);
}

static void hash_for(struct authd *a, struct admin_call *c, const struct account *acc, struct span address,
                     struct span password)
{
    if (password.n < PASSWORD_MIN || password.n > PASSWORD_MAX || memchr(password.p, 0, password.n) ||
        !span_is_utf8(password)) {
        admin_end(c, ADMIN_USAGE, "a password has %d to %d bytes of UTF-8", PASSWORD_MIN, PASSWORD_MAX);
        return;
    }
    struct password_change *p = mem_alloc(sizeof(*p));
    p->authd = a;
    p->call = c;
    p->id = acc ? acc->id : 0;
    snprintf(p->address, sizeof(p->address), "%.*s", SPANV(address));
    struct hasher_want want;
    scram_wanted(a, acc, address, &want);
    if (hasher_make(a->hasher, 0, password, &want, password_hashed, p) == 0)
        return;
    mem_free(&p);
    admin_end(c, ADMIN_LATER, "too many logins at the moment, try again");
}

static void account_add(void *ctx, struct admin_call *c, const struct span *args, size_t nargs)
{
    struct authd *a = ctx;
    struct account there;
    struct err err;
    (void)nargs;
    /* Asked before the hash is made, so that a wrong domain is said at once; the add itself checks again. */
    enum dir_result r = directory_account_find(a->directory, args[0], &there, &err);
    struct address_key key;
    bool domain_missing = r == DIR_MISSING && address_key(args[0], &key) &&
                          directory_domain_local(a->directory, address_key_domain(&key), NULL) == 0;
    if (r == DIR_USAGE || r == DIR_FAILED || domain_missing || args[0].n > IPC_ADDRESS_MAX)
        end(c, r ? r : DIR_USAGE, &err, "");
    else
        hash_for(a, c, NULL, args[0], args[1]);
}

static bool find(struct authd *a, struct admin_call *c, struct span address, struct account *out)
{
    struct err err;
    enum dir_result r = directory_account_named(a->directory, address, out, &err);
    if (r)
        end(c, r, &err, "");
    return r == DIR_OK;
}

static void account_passwd(void *ctx, struct admin_call *c, const struct span *args, size_t nargs)
{
    struct account a;
    (void)nargs;
    if (find(ctx, c, args[0], &a))
        hash_for(ctx, c, &a, args[0], args[1]);
}

/* Ending an account's sessions takes its mda's answer. */
struct ending {
    struct authd *authd;
    struct admin_call *call;
    uint32_t id;
    bool purge;
    const char *done;
};

static void ended(void *ctx, bool ok)
{
    struct ending *e = ctx;
    struct err err;
    if (!ok && e->purge)
        admin_end(e->call, ADMIN_LATER,
                  "the account is removed, but its mail could not be deleted now: run the command again");
    else if (!ok)
        admin_end(e->call, ADMIN_DONE, "%s, but its sessions may go on until they end", e->done);
    else
        end(e->call, e->purge ? directory_account_set_state(e->authd->directory, e->id, ACCOUNT_PURGED, &err) : DIR_OK,
            &err, e->done);
    mem_free(&e);
}

static void end_account(struct authd *a, struct admin_call *c, const struct account *acc, enum account_state state,
                        bool purge, const char *done)
{
    struct err err;
    enum dir_result r = acc->state == state ? DIR_OK : directory_account_set_state(a->directory, acc->id, state, &err);
    if (r) {
        end(c, r, &err, "");
        return;
    }
    logins_drop_account(a->logins, acc->id);
    struct ending *e = mem_alloc(sizeof(*e));
    *e = (struct ending){a, c, acc->id, purge, done};
    workers_evict(a->workers, acc->id, purge, ended, e);
}

static void account_remove(void *ctx, struct admin_call *c, const struct span *args, size_t nargs)
{
    struct account a;
    struct span address = SPAN_NONE;
    bool purge = false;
    for (size_t i = 0; i < nargs; i++) {
        if (span_eqs(args[i], "--purge"))
            purge = true;
        else
            address = args[i];
    }
    if (!address.p) {
        admin_end(c, ADMIN_USAGE, "account remove ADDRESS|ID [--purge]");
        return;
    }
    if (!find(ctx, c, address, &a))
        return;
    if (a.state == ACCOUNT_REMOVED && !purge)
        admin_end(c, ADMIN_NO_SUCH, "%s is removed already; 'waypost account remove --purge %u' deletes its mail",
                  a.login, a.id);
    else
        end_account(ctx, c, &a, ACCOUNT_REMOVED, purge,
                    purge ? "the account is removed and its mail deleted" : "the account is removed, its mail is kept");
}

static void account_disable(void *ctx, struct admin_call *c, const struct span *args, size_t nargs)
{
    struct account a;
    (void)nargs;
    if (!find(ctx, c, args[0], &a))
        return;
    if (a.state == ACCOUNT_REMOVED)
        admin_end(c, ADMIN_FAILED, "%s is removed", a.login);
    else
        end_account(ctx, c, &a, ACCOUNT_DISABLED, false, "the account is disabled");
}

static void account_enable(void *ctx, struct admin_call *c, const struct span *args, size_t nargs)
{
    struct authd *authd = ctx;
    struct account a;
    struct err err;
    (void)nargs;
    if (find(authd, c, args[0], &a))
        end(c, directory_account_set_state(authd->directory, a.id, ACCOUNT_ENABLED, &err), &err,
            "the account is enabled");
}

static void account_row(void *ctx, const struct account *a)
{
    struct listing *l = ctx;
    l->rows++;
    l->after_row = a->id;
    admin_text(l->call, "account", span_of(a->login));
    admin_text(l->call, "state", span_of(account_state_name(a->state)));
    admin_number(l->call, "id", a->id);
    admin_number(l->call, "uid", a->uid);
    admin_number(l->call, "messages", a->messages);
    admin_bytes(l->call, "size", a->bytes);
    admin_bytes(l->call, "quota", directory_account_quota(l->authd->directory, a));
    admin_time(l->call, "created", a->created);
    admin_row(l->call);
}

static int account_page(struct listing *l, struct err *err)
{
    return directory_accounts(l->authd->directory, span_of(l->domain), (uint32_t)l->after_row, PAGE, account_row, l,
                              err);
}

static void account_list(void *ctx, struct admin_call *c, const struct span *args, size_t nargs)
{
    list(ctx, c, args, nargs, account_page);
}

/* Which verifiers there are changes when a password is there to make them of. */
static void account_sha_1(struct authd *authd, struct admin_call *c, struct span address, bool on)
{
    struct account a;
    struct err err;
    if (!find(authd, c, address, &a))
        return;
    enum dir_result r = directory_account_sha_1(authd->directory, a.id, on, &err);
    if (r == DIR_OK && on && !service_conf(authd->service)->accounts.scram_sha_1)
        admin_end(c, ADMIN_DONE, "switched on, but \"scram-sha-1 yes;\" is missing in the accounts section");
    else
        end(c, r, &err, on ? "SCRAM-SHA-1 works from the next login with PLAIN or the next password on" : "switched off");
}

static void sha_1_on(void *ctx, struct admin_call *c, const struct span *args, size_t nargs UNUSED)
{
    account_sha_1(ctx, c, args[0], true);
}

static void sha_1_off(void *ctx, struct admin_call *c, const struct span *args, size_t nargs UNUSED)
{
    account_sha_1(ctx, c, args[0], false);
}

/* ---- clients' certificates ---- */

static bool fingerprint_arg(struct admin_call *c, struct span text, uint8_t *out)
{
    if (certificate_read(text, out))
        return true;
    admin_end(c, ADMIN_USAGE, "a certificate is named by a file with it (PEM), or by its SHA-256 fingerprint");
    return false;
}

static void certificate_cell(struct admin_call *c, const uint8_t *fingerprint)
{
    struct buf text = {0};
    for (size_t i = 0; i < CERTIFICATE_FINGERPRINT; i++)
        buf_printf(&text, "%02x", fingerprint[i]);
    admin_text(c, "fingerprint", buf_span(&text));
    buf_free(&text);
}

static void certificate_add(void *ctx, struct admin_call *c, const struct span *args, size_t nargs UNUSED)
{
    struct authd *authd = ctx;
    uint8_t fingerprint[CERTIFICATE_FINGERPRINT];
    struct account a;
    struct err err;
    if (!fingerprint_arg(c, args[1], fingerprint) || !find(authd, c, args[0], &a))
        return;
    if (a.state == ACCOUNT_REMOVED) {
        admin_end(c, ADMIN_FAILED, "%s is removed", a.login);
        return;
    }
    enum dir_result r = directory_certificate_add(authd->directory, a.id, fingerprint, clock_wall(), &err);
    if (r == DIR_OK) {
        certificate_cell(c, fingerprint);
        admin_row(c);
    }
    end(c, r, &err, "the certificate logs in as this account");
}

static void certificate_remove(void *ctx, struct admin_call *c, const struct span *args, size_t nargs UNUSED)
{
    struct authd *authd = ctx;
    uint8_t fingerprint[CERTIFICATE_FINGERPRINT];
    struct account a;
    struct err err;
    if (fingerprint_arg(c, args[1], fingerprint) && find(authd, c, args[0], &a))
        end(c, directory_certificate_remove(authd->directory, a.id, fingerprint, &err), &err,
            "it logs nobody in any more");
}

static void certificate_row(void *ctx, const struct certificate *cert)
{
    struct admin_call *c = ctx;
    certificate_cell(c, cert->fingerprint);
    admin_time(c, "created", cert->created);
    admin_time(c, "last-use", cert->used);
    admin_row(c);
}

static void certificate_list(void *ctx, struct admin_call *c, const struct span *args, size_t nargs UNUSED)
{
    struct authd *authd = ctx;
    struct account a;
    struct err err;
    if (find(authd, c, args[0], &a))
        end(c, directory_certificate_list(authd->directory, a.id, certificate_row, c, &err) ? DIR_FAILED : DIR_OK,
            &err, "");
}

/* ---- delegated addresses ---- */

static void delegate_add(void *ctx, struct admin_call *c, const struct span *args, size_t nargs UNUSED)
{
    struct authd *authd = ctx;
    struct account a;
    struct err err;
    if (find(authd, c, args[0], &a))
        end(c, directory_delegate_add(authd->directory, a.id, args[1], &err), &err,
            "the account may write as that address");
}

static void delegate_remove(void *ctx, struct admin_call *c, const struct span *args, size_t nargs UNUSED)
{
    struct authd *authd = ctx;
    struct account a;
    struct err err;
    if (find(authd, c, args[0], &a))
        end(c, directory_delegate_remove(authd->directory, a.id, args[1], &err), &err, "it may no longer");
}

static void delegate_row(void *ctx, struct span address)
{
    admin_text(ctx, "address", address);
    admin_row(ctx);
}

static void delegate_list(void *ctx, struct admin_call *c, const struct span *args, size_t nargs UNUSED)
{
    struct authd *authd = ctx;
    struct account a;
    struct err err;
    if (find(authd, c, args[0], &a))
        end(c, directory_delegate_list(authd->directory, a.id, delegate_row, c, &err) ? DIR_FAILED : DIR_OK, &err, "");
}

/* ---- app passwords ---- */

static const struct {
    const char *word;
    unsigned bit;
} protocols[] = {{"smtp", APP_SMTP}, {"imap", APP_IMAP}, {"pop3", APP_POP3}};

static bool protocols_read(const struct span *words, size_t n, unsigned *bits)
{
    *bits = 0;
    for (size_t i = 0; i < n; i++) {
        size_t k = 0;
        while (k < COUNT_OF(protocols) && !span_eqs(words[i], protocols[k].word))
            k++;
        if (k == COUNT_OF(protocols))
            return false;
        *bits |= protocols[k].bit;
    }
    return true;
}

static void protocols_cell(struct admin_call *c, unsigned bits)
{
    struct buf text = {0};
    for (size_t k = 0; k < COUNT_OF(protocols); k++)
        if (bits & protocols[k].bit)
            buf_printf(&text, "%s%s", text.n ? " " : "", protocols[k].word);
    admin_text(c, "protocols", buf_span(&text));
    buf_free(&text);
}

/* It is shown when what SCRAM needs of it is kept. */
static void app_made(void *ctx)
{
    admin_end(ctx, ADMIN_DONE, "the app password is there; it is not shown again");
}

static void app_add(void *ctx, struct admin_call *c, const struct span *args, size_t nargs)
{
    struct authd *authd = ctx;
    struct account a;
    struct err err;
    unsigned bits;
    char secret[APP_PASSWORD_SIZE];
    if (!protocols_read(args + 2, nargs - 2, &bits)) {
        admin_end(c, ADMIN_USAGE, "an app password is for smtp, imap, pop3, or several of them");
        return;
    }
    if (!find(authd, c, args[0], &a))
        return;
    if (a.state == ACCOUNT_REMOVED) {
        admin_end(c, ADMIN_FAILED, "%s is removed", a.login);
        return;
    }
    enum dir_result r = directory_app_add(authd->directory, a.id, args[1], bits, clock_wall(), secret, &err);
    if (r == DIR_OK) {
        admin_text(c, "name", args[1]);
        protocols_cell(c, bits);
        admin_text(c, "password", span_of(secret));
        admin_row(c);
        int64_t id = directory_app_id(authd->directory, a.id, args[1], &err);
        bool later = id > 0 && scram_keep_app(authd, &a, id, 0, span_of(secret), app_made, c);
        password_wipe(secret, sizeof(secret));
        if (later)
            return;
    }
    end(c, r, &err, "the app password is there; it is not shown again");
}

static void app_row(void *ctx, const struct app_password *p)
{
    struct admin_call *c = ctx;
    admin_text(c, "name", p->name);
    protocols_cell(c, p->protocols);
    admin_time(c, "created", p->created);
    admin_time(c, "last-use", p->used);
    admin_row(c);
}

static void app_list(void *ctx, struct admin_call *c, const struct span *args, size_t nargs)
{
    struct authd *authd = ctx;
    struct account a;
    struct err err;
    (void)nargs;
    if (find(authd, c, args[0], &a))
        end(c, directory_app_list(authd->directory, a.id, app_row, c, &err) ? DIR_FAILED : DIR_OK, &err, "");
}

static void app_remove(void *ctx, struct admin_call *c, const struct span *args, size_t nargs)
{
    struct authd *authd = ctx;
    struct account a;
    struct err err;
    (void)nargs;
    if (find(authd, c, args[0], &a))
        end(c, directory_app_remove(authd->directory, a.id, args[1], &err), &err, "it logs nobody in any more");
}

/* ---- aliases ---- */

static void alias_add(void *ctx, struct admin_call *c, const struct span *args, size_t nargs)
{
    struct authd *a = ctx;
    struct err err;
    end(c, directory_alias_add(a->directory, args[0], args + 1, nargs - 1, &err), &err, "the alias is there");
}

static void alias_remove(void *ctx, struct admin_call *c, const struct span *args, size_t nargs)
{
    struct authd *a = ctx;
    struct err err;
    end(c, directory_alias_remove(a->directory, args[0], args + 1, nargs - 1, &err), &err, "removed");
}

static void alias_row(void *ctx, int64_t row, struct span local, struct span domain, struct span target)
{
    struct listing *l = ctx;
    struct buf name = {0};
    l->rows++;
    l->after_row = row;
    if (local.n == 0) { /* the catch-all */
        buf_addc(&name, '@');
        buf_add(&name, domain);
    } else {
        address_put(&name, local, domain);
    }
    admin_text(l->call, "alias", buf_span(&name));
    admin_text(l->call, "target", target);
    admin_row(l->call);
    buf_free(&name);
}

static int alias_page(struct listing *l, struct err *err)
{
    return directory_aliases(l->authd->directory, span_of(l->domain), l->after_row, PAGE, alias_row, l, err);
}

static void alias_list(void *ctx, struct admin_call *c, const struct span *args, size_t nargs)
{
    list(ctx, c, args, nargs, alias_page);
}

static void explain_row(void *ctx, const struct explain_step *s)
{
    struct admin_call *c = ctx;
    admin_number(c, "depth", s->depth);
    admin_text(c, "rule", span_of(s->rule));
    admin_text(c, "name", s->looked_for.p ? s->looked_for : SPAN(""));
    admin_text(c, "found", span_of(s->found));
    admin_flag(c, "decides", s->decides);
    admin_row(c);
}

static void address_explain(void *ctx, struct admin_call *c, const struct span *args, size_t nargs)
{
    struct authd *a = ctx;
    struct err err;
    (void)nargs;
    enum dir_result r = directory_explain(a->directory, args[0], explain_row, c, &err);
    admin_end(c, status_of(r), "%s", r ? err.text : "");
}

static const struct admin_command commands[] = {
    {"domain add", "DOMAIN", 1, 1, domain_add},
    {"domain remove", "DOMAIN", 1, 1, domain_remove},
    {"domain list", "", 0, 0, domain_list},
    {"account add", "ADDRESS PASSWORD", 2, 2, account_add},
    {"account passwd", "ADDRESS|ID PASSWORD", 2, 2, account_passwd},
    {"terminal", "ADDRESS [PASSWORD]", 1, 2, terminal_command},
    {"account remove", "ADDRESS|ID [--purge]", 1, 2, account_remove},
    {"account list", "[DOMAIN]", 0, 1, account_list},
    {"account quota", "ADDRESS|ID SIZE|none|default", 2, 2, account_quota},
    {"domain quota", "DOMAIN SIZE|none|default", 2, 2, domain_quota},
    {"account limit", "ADDRESS|ID [LIMIT NUMBER|none|default]…", 1, 1 + SENDING_ARGS, account_limit},
    {"domain limit", "DOMAIN LIMIT NUMBER|none|default…", 3, 1 + SENDING_ARGS, domain_limit},
    {"account enable", "ADDRESS|ID", 1, 1, account_enable},
    {"account disable", "ADDRESS|ID", 1, 1, account_disable},
    {"account scram-sha-1 on", "ADDRESS|ID", 1, 1, sha_1_on},
    {"account scram-sha-1 off", "ADDRESS|ID", 1, 1, sha_1_off},
    {"account certificate add", "ADDRESS|ID CERTIFICATE", 2, 2, certificate_add},
    {"account certificate list", "ADDRESS|ID", 1, 1, certificate_list},
    {"account certificate remove", "ADDRESS|ID CERTIFICATE", 2, 2, certificate_remove},
    {"account delegate add", "ADDRESS|ID ADDRESS|@DOMAIN", 2, 2, delegate_add},
    {"account delegate list", "ADDRESS|ID", 1, 1, delegate_list},
    {"account delegate remove", "ADDRESS|ID ADDRESS|@DOMAIN", 2, 2, delegate_remove},
    {"account app-password add", "ADDRESS|ID NAME PROTOCOL…", 3, 5, app_add},
    {"account app-password list", "ADDRESS|ID", 1, 1, app_list},
    {"account app-password remove", "ADDRESS|ID NAME", 2, 2, app_remove},
    {"alias add", "ALIAS TARGET…", 2, ADMIN_ARGS_MAX, alias_add},
    {"alias remove", "ALIAS [TARGET…]", 1, ADMIN_ARGS_MAX, alias_remove},
    {"alias list", "[DOMAIN]", 0, 1, alias_list},
    {"address explain", "ADDRESS", 1, 1, address_explain},
};

struct admin *commands_new(struct authd *a)
{
    return admin_new(service_loop(a->service), commands, COUNT_OF(commands), a);
}
