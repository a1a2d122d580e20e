/* `waypost queue top`: what the queue does now, drawn again and again on the terminal. */
#ifndef WAYPOST_TOP_H
#define WAYPOST_TOP_H

#include "waypost/client.h"

/* What one answer of `queue sample` becomes: lines for people. {0} is an empty one. */
struct top_view {
    struct buf counts, rates, dests;
};
void top_row(void *view, const struct client_row *row); /* a client_row_fn */
/* Appends the whole screen: lines of at most `width` columns, at most `height` of them, with the sequences that place
 * them. note: a line of its own, may be empty. */
void top_draw(const struct top_view *v, struct span note, unsigned width, unsigned height, struct buf *out);
void top_view_free(struct top_view *v);

/* Until `q` or Ctrl-C. run: the instance's folder. The exit status. */
int top_show(const char *run, const struct span *args, size_t nargs);

#endif
