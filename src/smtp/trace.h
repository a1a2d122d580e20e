/* What a receiver writes in front of a message: the Received field (RFC 5321 §4.4), and on submission the fields that
 * are missing (RFC 6409 §8). Pure: the time is an argument. */
#ifndef SMTP_TRACE_H
#define SMTP_TRACE_H

#include "base/buf.h"

struct smtp_trace {
    struct span helo;   /* as the client gave it */
    struct span name;   /* of that address: by DNS and leading back to it, or as a trusted front told it; may be empty */
    struct span remote; /* its address, without brackets */
    struct span by;     /* our name */
    struct span tls;    /* "TLSv1.3 TLS_AES_256_GCM_SHA384"; empty without */
    struct span id;     /* may be empty */
    struct span for_;   /* the only recipient; empty when there are several (RFC5321:7.2) or none is told */
    bool hidden;        /* nothing is told of the client: neither helo nor name nor remote */
    bool esmtp, smtputf8, authenticated;
    int priority;    /* RFC 6710; 0: not told */
    int64_t seconds; /* since 1970 */
    int zone;        /* minutes east of Greenwich */
};

void smtp_trace_received(struct buf *out, const struct smtp_trace *t);
/* The same of mail that a user of this machine handed in. */
void smtp_trace_local(struct buf *out, struct span by, uint32_t uid, int64_t seconds, int zone);
void smtp_trace_date(struct buf *out, int64_t seconds, int zone);
/* unique: bytes that name no other message; they are written in hexadecimal. */
void smtp_trace_message_id(struct buf *out, struct span unique, struct span host);
/* address: as a login is written, its local part quoted where it has to be. */
void smtp_trace_sender(struct buf *out, struct span address);

#endif
