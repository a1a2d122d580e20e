/* How fast a client has to be (RFC 5321 §4.5.3.2): a byte now and then keeps no session alive. A command has to be whole within a time
 * that begins with our last reply or the last whole command; of content, so many bytes have to come in each such time. Pure: the time
 * is an argument. */
#ifndef SMTP_PACE_H
#define SMTP_PACE_H

#include <stdbool.h>
#include <stdint.h>

struct smtp_pace {
    int64_t since;  /* ms, when the time began */
    uint64_t moved; /* bytes of content since then */
};

void smtp_pace_begin(struct smtp_pace *p, int64_t now);
/* Input came outside of content; whole: something was done with it. False: it is too slow. */
bool smtp_pace_command(struct smtp_pace *p, int64_t now, bool whole, int64_t limit);
/* So many bytes of content came; least: what has to come in each `limit`. */
bool smtp_pace_content(struct smtp_pace *p, int64_t now, uint64_t bytes, int64_t limit, uint64_t least);

#endif
