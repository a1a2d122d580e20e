/* What the files of logins share: logins.c has the exchange, passwords and SCRAM, logins_token.c the tokens,
 * logins_kept.c what is remembered over a restart. */
#ifndef AUTHD_LOGINS_IMPL_H
#define AUTHD_LOGINS_IMPL_H

#include "auth/backoff.h"
#include "auth/sasl.h"
#include "authd/authd.h"
#include "authd/logins.h"
#include "base/list.h"
#include "base/map.h"

#define FRONTS_MAX 16      /* instances of one role */

struct session {
    struct front *front;
    uint64_t id;
    struct sasl *sasl;       /* while the exchange goes on */
    struct attempt *attempt; /* while a password is being checked */
    uint32_t account;        /* proven */
    uint32_t claimed;        /* SCRAM: whose verifier the proof is checked against; 0: it can't succeed */
    const char *claim_why;   /* why it can't, for the log */
    uint8_t protocol, tls;
    char remote[65], mechanism[33];
    uint64_t client;   /* client_key() of remote */
    bool exempt;       /* limits.exempt: failures cost nothing */
    bool admitted;     /* this exchange has waited, or need not */
    bool counted;      /* as a failure, with `name`, until it is known */
    struct buf name;   /* the login name, canonical; while counted */
    bool logged;       /* its failure, before the client is told */
    struct held *held; /* while it waits */
    struct asked *asked; /* while tokend is asked */
    struct buf certificate, names; /* EXTERNAL, while the exchange goes on: of the client's certificate */
};

struct front {
    struct idmap sessions;
    struct logins *logins;
};

struct logins {
    struct authd *authd;
    struct front fronts[3][FRONTS_MAX]; /* submission, imapd, pop3d */
    struct backoff *backoff;
    struct kept *kept;      /* NULL: nothing is */
    struct idmap held_each; /* client → how many of its logins wait, as a pointer's value */
    struct link held; /* all that wait, the newest last */
    size_t held_count;
};

/* ---- answers ---- */
void say_no(const struct reply_to *to);    /* 535 5.7.8 */
void say_later(const struct reply_to *to); /* 454 4.7.0 */
void say_challenge(const struct reply_to *to, const struct sasl_result *r);
void log_failed(struct session *s, struct span user, const char *why);
void log_deferred(struct session *s, struct span user, const char *why); /* nobody's fault */
void log_in(struct session *s, const struct reply_to *to, uint32_t account, const char *login);
/* Who that name is. *why: why it can't log in, NULL when it can; *found: there is such an account. False: the directory
 * failed. */
bool identify(struct logins *l, const struct sasl_result *r, struct account *a, bool *found, const char **why);

/* ---- SCRAM (logins_scram.c) ---- */
unsigned app_protocol(const struct session *s); /* APP_… bit of its door; 0: app passwords are not for it */
void log_app(const struct session *s, const struct account *a, const struct app_found *found);
/* Which verifiers its main password lacks, and the salts they are to have. */
void scram_missing(struct authd *a, const struct account *acc, struct hasher_want *want);
/* What is stored for that name; who has nothing stored sees the same exchange. False: the directory failed. */
bool scram_credentials(struct logins *l, struct session *s, struct sasl_result *r);
/* The proof was right: answers. */
void scram_proven(struct logins *l, struct session *s, const struct reply_to *to, const struct sasl_result *r);

/* ---- tokens (logins_token.c) ---- */
/* *r is of SASL_TOKEN. False: the answer comes later; else the exchange is over unless *r is now a challenge, which has
 * been sent. */
bool token_check(struct logins *l, struct session *s, const struct reply_to *to, struct sasl_result *r);
void token_forget(struct session *s); /* the client has left meanwhile */

/* ---- over a restart (logins_kept.c) ---- */
void kept_open(struct logins *l, const char *dir); /* before the first login */
void kept_changed(struct logins *l);               /* the back-off has */
bool kept_is_saving(struct logins *l);             /* true: service_done() is called when it is over */
void kept_close(struct logins *l);                 /* saves the rest */

#endif
