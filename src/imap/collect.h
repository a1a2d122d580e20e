/* Puts one command together from bytes in pieces of any size: lines, literals (RFC 3501 §4.3), non-synchronizing ones
 * (RFC 7888), all within a byte budget (HAZARDS 23). The command's text holds its literals in place: "{3}\r\nabc".
 * Serves before and after login. */
#ifndef IMAP_COLLECT_H
#define IMAP_COLLECT_H

#include "base/buf.h"
#include "base/span.h"

enum imap_collected {
    IMAP_MORE,     /* all input used, the command isn't complete */
    IMAP_LITERAL,  /* a literal of c->literal bytes is announced: call accept, stream or refuse */
    IMAP_COMMAND,  /* imap_collect_text() is a whole command, its line end taken off */
    IMAP_TOO_LONG, /* a whole command that broke the budget was swallowed; what there is of it is its beginning (for the
                      tag) */
    IMAP_REFUSED,  /* the end of a command whose literal was refused */
};

struct imap_collect {
    struct buf text;
    size_t max;       /* budget of one command with its literals */
    uint64_t literal; /* size announced */
    bool sync;        /* the client waits for "+" before it sends it */
    uint64_t left;    /* of the literal still to come */
    uint8_t state;
    bool over, refused;
    char tail[32]; /* the end of the line so far: where a literal is announced */
    uint8_t tail_n;
};

void imap_collect_init(struct imap_collect *c, size_t max);
void imap_collect_free(struct imap_collect *c);
/* Takes bytes off the front of *in. After IMAP_COMMAND, IMAP_TOO_LONG, IMAP_REFUSED call imap_collect_next() before
 * feeding more. */
enum imap_collected imap_collect_feed(struct imap_collect *c, struct span *in);
/* The literal goes into the command's text. False: over the budget, it was refused instead. When c->sync, write "+ …"
 * after true. */
bool imap_collect_accept(struct imap_collect *c);
/* The owner takes c->literal bytes from the input itself, then feeds again: the rest of the line follows in the text.
 */
void imap_collect_stream(struct imap_collect *c);
/* Not wanted. The client of a synchronizing literal sends nothing more of this command: the next feed says IMAP_REFUSED
 * at once. Otherwise its bytes and the rest of the command are swallowed first. Answer with a tagged NO or BAD then. */
void imap_collect_refuse(struct imap_collect *c);
void imap_collect_next(struct imap_collect *c);
static inline struct span imap_collect_text(const struct imap_collect *c)
{
    return buf_span(&c->text);
}

#endif
