/* The SASL mechanisms that a front offers: one list for SMTP, IMAP and POP3, the strongest first. Pure data, so that
 * protocol engines need no more than this. */
#ifndef AUTH_MECHANISMS_H
#define AUTH_MECHANISMS_H

#include "base/span.h"
#include "base/util.h"

/* What there is besides PLAIN and LOGIN. */
enum sasl_can {
    SASL_SCRAM = 1,   /* SCRAM-SHA-256 is configured */
    SASL_SCRAM_1 = 2, /* SCRAM-SHA-1, too */
    SASL_EXTERNAL = 8, /* the client showed a certificate that verifies */
    SASL_OAUTH = 16,   /* bearer tokens are configured; never without TLS (RFC6750:5.3) */
    SASL_TLS = 4,     /* the connection has it; without it there is nothing to bind to (RFC5802:6) */
};

#define SASL_OFFER_MAX 160

static const struct sasl_offer_row {
    const char *name;
    unsigned needs; /* sasl_can bits, all of them */
} sasl_offers[] = {
    {"EXTERNAL", SASL_EXTERNAL | SASL_TLS},
    {"SCRAM-SHA-256-PLUS", SASL_SCRAM | SASL_TLS},
    {"SCRAM-SHA-256", SASL_SCRAM},
    {"SCRAM-SHA-1-PLUS", SASL_SCRAM_1 | SASL_TLS},
    {"SCRAM-SHA-1", SASL_SCRAM_1},
    {"OAUTHBEARER", SASL_OAUTH | SASL_TLS},
    {"XOAUTH2", SASL_OAUTH | SASL_TLS},
    {"PLAIN", 0},
    {"LOGIN", 0},
};

/* Writes the names with blanks between, for engines that keep them. out: SASL_OFFER_MAX bytes. */
static inline struct span sasl_offer(unsigned can, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < COUNT_OF(sasl_offers); i++)
        if ((sasl_offers[i].needs & can) == sasl_offers[i].needs) {
            size_t len = strlen(sasl_offers[i].name);
            if (n)
                out[n++] = ' ';
            memcpy(out + n, sasl_offers[i].name, len);
            n += len;
        }
    return span_make(out, n);
}

/* Whether that name is offered, without case. */
static inline bool sasl_offered(unsigned can, struct span name)
{
    for (size_t i = 0; i < COUNT_OF(sasl_offers); i++)
        if (span_ieqs(name, sasl_offers[i].name))
            return (sasl_offers[i].needs & can) == sasl_offers[i].needs;
    return false;
}

/* Whether it is over with the client's initial response, whatever that is. */
static inline bool sasl_is_one_step(struct span name)
{
    return span_ieqs(name, "PLAIN") || span_ieqs(name, "EXTERNAL");
}

#endif
