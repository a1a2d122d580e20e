/* IMAP before login, pure: CAPABILITY NOOP ID LOGOUT STARTTLS LOGIN AUTHENTICATE. RFC3501:6.1 RFC3501:6.2 RFC4959 RFC2971
 * Bytes in, replies and one action out; a whole command with its literals stays within IMAP_PRELOGIN_MAX bytes (HAZARDS 23). */
#ifndef IMAP_PRELOGIN_H
#define IMAP_PRELOGIN_H

#include "base/buf.h"
#include "front/login.h"

#define IMAP_PRELOGIN_MAX 20000 /* a command: holds the longest SASL response, in base64 */
#define IMAP_PRELOGIN_ERRORS 10 /* wrong commands before the connection is closed */

struct imap_prelogin;

struct imap_prelogin_options {
    bool tls, starttls, login_in_clear;
    unsigned mechanisms; /* enum sasl_can bits as configured */
    struct span hostname;
};

/* Writes the greeting. */
struct imap_prelogin *imap_prelogin_new(const struct imap_prelogin_options *o, struct buf *out);
void imap_prelogin_free(struct imap_prelogin **p);
/* Takes one command, or a part of one, off `in`; returns bytes used. At most one action; a->what stays LOGIN_NOTHING otherwise. */
size_t imap_prelogin_input(struct imap_prelogin *p, struct span in, struct buf *out, struct login_action *a);
void imap_prelogin_secured(struct imap_prelogin *p, bool certified); /* TLS is up: everything said before is forgotten */
void imap_prelogin_challenge(struct imap_prelogin *p, struct span challenge, struct buf *out);
void imap_prelogin_refused(struct imap_prelogin *p, enum login_refusal why, struct buf *out);
struct span imap_prelogin_tag(const struct imap_prelogin *p);
/* p may be NULL: a connection that never got a greeting. */
void imap_prelogin_bye(enum login_bye why, struct buf *out);

#endif
