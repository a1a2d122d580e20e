/* The structure of a MIME message (RFC 2045, 2046, 2231), found in one pass over the bytes in pieces of any size;
 * memory is bounded whatever comes (HAZARDS 23). Writes what IMAP shows of it: ENVELOPE, BODY, BODYSTRUCTURE (RFC 3501
 * §7.4.2). Trusts nothing. */
#ifndef MAIL_MIME_H
#define MAIL_MIME_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/span.h"
#include "mail/header.h"

#define MIME_DEPTH_MAX 32        /* deeper parts are leaves */
#define MIME_PARTS_MAX 1000      /* further ones belong to the last part's multipart as nothing */
#define MIME_PARAMS_MAX 100      /* of one field */
#define MIME_BOUNDARY_MAX 200    /* RFC 2046 allows 70 */
#define MIME_KEEP_MAX (1u << 20) /* bytes of field values kept for a whole message */

struct mime_param {
    struct mime_param *next;
    struct span name;  /* as written; RFC 2231 continuations joined under the plain name */
    struct span value; /* unquoted; extended ones (RFC 2231) stay encoded, under "name*" */
};

struct mime_part {
    struct mime_part *parent, *next;         /* next sibling */
    struct mime_part *children, *last_child; /* of a multipart; of message/rfc822: the message inside */
    struct span type, subtype;               /* "text", "plain": as written */
    struct mime_param *params;
    struct span id, description, encoding, md5, location; /* p NULL: none */
    struct span disposition;
    struct mime_param *disposition_params;
    struct span *languages;
    size_t languages_n;
    struct span envelope;       /* of a message inside (the child of message/rfc822), already written for IMAP */
    uint64_t header, body, end; /* offsets: the header section from header to body, the body from body to end */
    uint64_t lines;             /* line ends in the body */
    bool multipart;             /* has (or would have) children divided by a boundary */
    bool rfc822;                /* message/rfc822: children is the message inside */
    bool closed;                /* its closing boundary came */
    bool leaf_by_limit;         /* a multipart or message that was not looked into */
};

struct mime; /* a parse in progress, and its result */
struct mime *mime_new(void);
void mime_free(struct mime **m);
void mime_reset(struct mime *m); /* for the next message, keeps its memory */
/* The message's bytes in order. */
void mime_feed(struct mime *m, struct span piece);
/* All of it came: the root part, which lives until mime_free() or mime_reset(). */
const struct mime_part *mime_end(struct mime *m);

/* "(date subject from sender reply-to to cc bcc in-reply-to message-id)" of a header section. */
void mime_put_envelope(struct buf *out, struct span header);
/* The root's own, after mime_end(). */
struct span mime_envelope(const struct mime *m);
/* extended: BODYSTRUCTURE, else BODY. */
void mime_put_structure(struct buf *out, const struct mime_part *root, bool extended);

/* The part that a section number names ("1.2"): NULL when there is none. RFC3501:6.4.5 */
const struct mime_part *mime_part_at(const struct mime_part *root, const uint32_t *path, size_t depth);
/* The value of that parameter (name without case), p NULL: not there. */
struct span mime_param_value(const struct mime_param *params, const char *name);

#endif
