/* A user's terminal: see terminal.c. */
#ifndef WAYPOST_TERMINAL_H
#define WAYPOST_TERMINAL_H

#include "waypost/client.h"

/* A message as people read it: From, Subject, Date, the first plain text; nothing that a terminal obeys but line ends. */
void terminal_render(struct span message, struct buf *out);
void terminal_row(void *to, const struct client_row *row); /* a client_row_fn; to: a FILE */

#endif
