/* Rows for people (an aligned table, a page at a time, so that memory is bounded, and none waits for long) or for programs (one JSON array,
 * written as it comes). */
#ifndef WAYPOST_OUTPUT_H
#define WAYPOST_OUTPUT_H

#include <stdio.h>

#include "waypost/client.h"

enum output_form {
    OUTPUT_TABLE,
    OUTPUT_RECORDS, /* a line for each cell, for commands that show one thing */
    OUTPUT_JSON,
};

struct output;
struct output *output_new(enum output_form form, FILE *to);
/* One more cell at the end of every row to come; kept, not copied. */
void output_extra(struct output *o, const char *name, const char *value);
void output_row(void *output, const struct client_row *row); /* a client_row_fn */
/* Nothing more comes for now: what is kept to be aligned with it is written. A client_pause_fn. */
bool output_pause(void *output);
/* Appends text that may come from mail, with nothing in it that a terminal obeys but, where it is allowed, line ends.
 */
void output_clean(struct buf *to, struct span text, bool lines);
/* The same for a piece of a message, line by line: CRLF becomes a line end, and one broken line spoils no other. */
void output_lines(struct buf *to, struct span text);
size_t output_rows(const struct output *o);
/* Writes what is left, ends the array, and frees it. -1: it could not be written. */
int output_end(struct output **o);

#endif
