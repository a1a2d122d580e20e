/* The reader of a peer's replies (RFC5321:4.2): single and multi-line, everything bounded. */
#ifndef SMTP_CLIENT_REPLY_H
#define SMTP_CLIENT_REPLY_H

#include "base/buf.h"
#include "base/outcome.h"
#include "smtp/client.h"

struct client_reply_reader {
    struct buf line; /* a line that is not complete yet */
    struct buf text; /* texts of the lines so far, each ended by LF */
    unsigned code, lines;
    bool whole; /* the last read gave a reply: the next one starts afresh */
};

enum client_reply_result { CLIENT_REPLY_MORE, CLIENT_REPLY_DONE, CLIENT_REPLY_BAD };

/* Takes bytes off *in up to the end of one reply. DONE: code and text are the reply's until the next call. BAD: *why says which rule broke. */
enum client_reply_result client_reply_read(struct client_reply_reader *r, struct span *in, const char **why);
/* Nothing of a reply has been read. */
bool client_reply_empty(const struct client_reply_reader *r);
/* The reply as an outcome: its lines joined by blanks, the enhanced status code once. */
struct outcome client_reply_outcome(const struct client_reply_reader *r);
void client_reply_free(struct client_reply_reader *r);

#endif
