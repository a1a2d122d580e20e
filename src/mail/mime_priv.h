/* What the files of the MIME parser share. */
#ifndef MAIL_MIME_PRIV_H
#define MAIL_MIME_PRIV_H

#include "mail/mime.h"

#define MIME_HOLD 512 /* bytes of a line's beginning that are kept: enough for any boundary */

struct mime {
    struct arena arena;
    struct mime_part *root;
    struct mime_part *cur; /* the innermost part that is open */
    struct buf header;     /* of cur, while in_header; at most HEADER_MAX */
    struct buf envelope;   /* the root's */
    bool in_header;
    unsigned parts, depth; /* depth: of cur */
    uint64_t pos;          /* offset of the line that is coming in */
    uint64_t line_ends;    /* LFs so far */
    unsigned last_end;     /* length of the previous line's end: 0, 1, 2 */
    struct buf hold;       /* the beginning of a line that came in pieces */
    uint64_t line_n;       /* that line's bytes so far */
    bool cr;               /* its last byte was CR */
};

/* Reads the header section into the part's fields, within MIME_KEEP_MAX. */
void mime_read_fields(struct mime *m, struct mime_part *p, struct span header);

#endif
