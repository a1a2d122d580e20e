/* Delivery status notifications: a multipart/report (RFC 6522) with a text for people first, then the fields of RFC
 * 3464 for machines, then the original or its header. Internationalised addresses as in RFC 6533. Pure: the caller
 * brings the times and the id. */
#ifndef MAIL_DSN_H
#define MAIL_DSN_H

#include "base/buf.h"
#include "base/outcome.h"

/* RFC3464:2.3.3; 0 is failed. In the order of how much they matter to the sender. */
enum dsn_action { DSN_FAILED, DSN_DELAYED, DSN_EXPANDED, DSN_RELAYED, DSN_DELIVERED, DSN_ACTIONS };

struct dsn_rcpt {
    uint8_t action;      /* enum dsn_action */
    struct span address; /* whom it was for in the end */
    struct span given;   /* the address that the sender gave */
    struct span orcpt;   /* "rfc822;xtext" as the sender gave it, or empty */
    bool expired;        /* given up after many attempts */
    bool late;           /* with it, or delayed: the time of DELIVERBY has passed */
    uint8_t kind;        /* class of the status: 2, 4 or 5 */
    uint16_t subject, detail;
    uint16_t code;        /* SMTP reply code; 0: not from SMTP */
    struct span why;      /* the response, one line */
    struct span host;     /* who gave it: host or host[address]; empty: ourselves */
    struct span dialogue; /* what was said in that attempt, " | " between; or empty */
    int64_t last_attempt; /* seconds since 1970, 0: none */
    unsigned attempts;
    int64_t retry_until; /* delayed: when it is given up, seconds since 1970 */
};

struct dsn {
    struct span reporting_mta; /* our host name */
    struct span to;            /* who is told: the original's reverse-path, or with double_bounce a postmaster */
    struct span sender;        /* the original's reverse-path */
    bool double_bounce;        /* the original is a notification */
    const struct span *texts;  /* NOTICE_KINDS of conf/notice_text.h, empty ones built in; NULL: all are */
    struct span language;      /* of these texts (RFC 3282); or empty */
    struct span qid, original_qid;
    struct span message_id; /* the original's, with its brackets; or empty */
    struct span envid;      /* ENVID as given (xtext), or empty */
    int64_t arrival, now;   /* seconds since 1970 */
    int64_t deliver_by;     /* of DELIVERBY, seconds since 1970; 0: not asked for */
    struct span hold;       /* of FUTURERELEASE as it was asked for, "for;3600"; or empty */
    const struct dsn_rcpt *rcpts;
    size_t count;
    struct span header;     /* the original's header section, or with `whole` all of it */
    bool header_cut;        /* it is not whole */
    bool whole;             /* RFC3461:4.3 RET=FULL */
};

/* Appends the whole message, lines with CRLF. Returns the length of its header section, the empty line not included. */
size_t dsn_write(struct buf *out, const struct dsn *d);

#endif
