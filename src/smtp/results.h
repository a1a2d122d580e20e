/* The Authentication-Results field (RFC 8601): writing ours, and knowing one that claims to be ours. Pure. */
#ifndef SMTP_RESULTS_H
#define SMTP_RESULTS_H

#include "base/buf.h"

/* What was found out about a client before it sent anything. */
struct smtp_results {
    struct span by;     /* our name: the authserv-id */
    struct span remote; /* the client's address, without brackets */
    const char *iprev;  /* "pass", "fail", "temperror", "permerror" (RFC8601:2.7.3); NULL: not looked at */
    struct span name;   /* the client's name by DNS; may be empty */
    struct span helo;   /* as the client gave it */
    const char *helo_result; /* "pass", "fail", "temperror"; NULL: not looked at */
    const char *helo_why;    /* a few words, for people */
    bool early;              /* it spoke before the greeting */
};

/* Nothing when nothing was looked at. */
void smtp_results_put(struct buf *out, const struct smtp_results *r);
/* Whether the value of that field (all behind its colon, folded or not) claims to come from `by`, which nobody else may
 * (RFC8601:5). What can't be read claims it, too. */
bool smtp_results_claims(struct span value, struct span by);

#endif
