/* The writer of a message's content after DATA: transparency dots (RFC5321:4.5.2), and no CR or LF but in CRLF (HAZARDS 1). */
#ifndef SMTP_CLIENT_CONTENT_H
#define SMTP_CLIENT_CONTENT_H

#include "base/buf.h"

struct client_content {
    bool line_start;
    bool cr; /* the last byte was a CR that waits for what comes behind it */
};

void client_content_begin(struct client_content *c);
void client_content_put(struct client_content *c, struct span chunk, struct buf *out);
void client_content_end(struct client_content *c, struct buf *out); /* a last CRLF if it was missing, and the final dot */

#endif
