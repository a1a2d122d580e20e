/* Fields of a header section that somebody looks out for: which of them a message has. Field by field while it comes in, folded lines joined,
 * bounded. Pure. */
#ifndef SMTP_WATCH_H
#define SMTP_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/span.h"

#define SMTP_WATCH_MAX 64          /* that can be looked out for */
#define SMTP_WATCH_VALUE_BYTES 1000 /* of a field that are looked at */

struct smtp_watched {
    struct span name, pattern; /* pattern: for span_fits(), of the whole value without blanks at its ends */
};

struct smtp_watch {
    const struct smtp_watched *all; /* at most SMTP_WATCH_MAX */
    size_t count;
    uint64_t found; /* bits by their place in `all` */
    uint64_t open;  /* of the field being read */
    size_t n;
    char value[SMTP_WATCH_VALUE_BYTES];
};

void smtp_watch_begin(struct smtp_watch *w, const struct smtp_watched *all, size_t count);
/* A field of that name begins. True: its value is wanted, all behind the colon, in any pieces. */
bool smtp_watch_field(struct smtp_watch *w, struct span name);
void smtp_watch_value(struct smtp_watch *w, struct span piece);
void smtp_watch_end(struct smtp_watch *w);    /* of that field */
void smtp_watch_forget(struct smtp_watch *w); /* it is not part of the message */
/* Fields that are whole, lines with CRLF. */
void smtp_watch_section(struct smtp_watch *w, struct span fields);

#endif
