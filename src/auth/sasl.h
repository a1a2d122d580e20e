/* SASL, the server's side, pure: raw responses in, challenges and what is to be verified out. No socket, no database,
 * no hashing; base64 and `*` belong to the protocols. The caller looks up and verifies: PLAIN (RFC 4616) and LOGIN
 * bring a password, EXTERNAL (RFC4422:A) a certificate's owner, OAUTHBEARER (RFC 7628) and XOAUTH2 a token; SCRAM-SHA-256, SCRAM-SHA-1 and their -PLUS (auth/scram.h) need what is stored, and prove. */
#ifndef AUTH_SASL_H
#define AUTH_SASL_H

#include "auth/scram.h"
#include "base/span.h"

#define SASL_NAME_MAX 320 /* a login name: an address */

struct sasl;

enum sasl_next {
    SASL_CHALLENGE, /* send `challenge`, then sasl_step() with the response */
    SASL_VERIFY,    /* the exchange is over: is `password` the one of `user`, and may it act as `authzid`? */
    SASL_CREDENTIALS, /* what is stored for `user` (of `hash`)? may it act as `authzid`? then sasl_credentials() */
    SASL_CERTIFICATE, /* the exchange is over: whose is the certificate? may it act as `authzid` (empty: as itself)? */
    SASL_TOKEN, /* is `password` a good token, and of `user` (empty: of whomever)? if not, sasl_token_refused() */
    SASL_PROVEN,      /* the exchange is over: it was `user` */
    SASL_REFUSED, /* broken response; `why` says for the log what was wrong. The same as a wrong password to the client
                   */
};

struct sasl_result {
    enum sasl_next next;
    struct span challenge;
    struct span user, authzid, password; /* live until sasl_free() or the next step; authzid may be empty */
    enum scram_hash hash;
    int64_t by; /* SASL_PROVEN: the tag of sasl_also() whose password it was; 0: that of sasl_credentials() */
    const char *why;
};

/* Whether we have it; without case, as RFC4422:3.1 names are upper case. */
bool sasl_known(struct span mechanism);
/* initial: NULL when the client sent none. NULL: no such mechanism. */
struct sasl *sasl_begin(struct span mechanism, const struct span *initial, struct sasl_result *r);
void sasl_step(struct sasl *s, struct span response, struct sasl_result *r);
/* The same over that channel (its bytes are copied): SCRAM can be bound to it. */
struct sasl *sasl_begin_over(const struct scram_channel *channel, struct span mechanism, const struct span *initial,
                             struct sasl_result *r);
/* known: whether the client can succeed at all; the exchange looks the same if not. */
void sasl_credentials(struct sasl *s, const struct scram_verifier *v, bool known, struct sasl_result *r);
/* Behind it: a further password of that user (scram_also()). */
void sasl_also(struct sasl *s, const struct scram_verifier *v, int64_t tag);
/* The token was no good: `answer` (JSON, RFC7628:3.2.2) is what the client is told before it is refused. */
void sasl_token_refused(struct sasl *s, struct span answer, struct sasl_result *r);
/* Wipes the secrets. */
void sasl_free(struct sasl **s);

#endif
