/* POP3 before login (the AUTHORIZATION state), pure: CAPA STLS USER PASS AUTH QUIT. RFC1939:4 RFC2449:5 RFC2595:4
 * RFC5034 Lines in, replies and one action out; logins of every kind become a SASL exchange, so that authd knows one
 * kind. */
#ifndef POP3_PRELOGIN_H
#define POP3_PRELOGIN_H

#include "base/buf.h"
#include "front/login.h"

struct pop3_prelogin;

struct pop3_prelogin_options {
    bool tls, starttls, login_in_clear;
    unsigned mechanisms; /* enum sasl_can bits as configured */
    struct span hostname;
};

/* Writes the greeting. */
struct pop3_prelogin *pop3_prelogin_new(const struct pop3_prelogin_options *o, struct buf *out);
void pop3_prelogin_free(struct pop3_prelogin **p); /* wipes what it knows of passwords */
/* Takes one line, or a part of one, off `in`; returns bytes used (0: no whole line yet). At most one action. */
size_t pop3_prelogin_input(struct pop3_prelogin *p, struct span in, struct buf *out, struct login_action *a);
void pop3_prelogin_secured(struct pop3_prelogin *p, bool certified); /* TLS is up: everything said before is forgotten */
void pop3_prelogin_challenge(struct pop3_prelogin *p, struct span challenge, struct buf *out);
void pop3_prelogin_refused(struct pop3_prelogin *p, enum login_refusal why, struct buf *out);
void pop3_prelogin_bye(enum login_bye why, struct buf *out);

#endif
