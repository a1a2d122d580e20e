/* The SASL mechanisms that a front offers: one list for SMTP, IMAP and POP3, the strongest first. Pure data, so that
 * protocol engines need no more than this. */
#ifndef AUTH_MECHANISMS_H
#define AUTH_MECHANISMS_H

#include "base/span.h"

/* Names with blanks between. scram: as configured. tls: the connection has it; without it there is nothing to bind to
 * (RFC5802:6). */
static inline struct span sasl_offer(bool scram, bool tls)
{
    if (!scram)
        return SPAN("PLAIN LOGIN");
    return tls ? SPAN("SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN") : SPAN("SCRAM-SHA-256 PLAIN LOGIN");
}

/* Whether that name is on the list, without case. */
static inline bool sasl_offered(struct span list, struct span name)
{
    while (list.n)
        if (span_ieq(span_word(&list), name))
            return true;
    return false;
}

#endif
