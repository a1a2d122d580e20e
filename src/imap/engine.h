/* The IMAP4rev1 server after login (RFC 3501 with IDLE, UIDPLUS, MOVE, NAMESPACE, LITERAL+, LIST-EXTENDED, SPECIAL-USE,
 * UNSELECT, ID): bytes and changes in, bytes out; no socket, clock or database. Commands are carried out one after the
 * other, in the order they came.
 *
 * Memory is bounded: a command by IMAP_COMMAND_MAX, output by IMAP_OUT_HIGH and one message's structure; messages go
 * through in pieces. */
#ifndef IMAP_ENGINE_H
#define IMAP_ENGINE_H

#include "imap/backend.h"

#define IMAP_COMMAND_MAX (64u << 10) /* with its literals, APPEND's message not counted */
#define IMAP_OUT_HIGH (64u << 10)    /* the engine stops producing above */
#define IMAP_ERRORS_MAX 20           /* commands in a row that can't be understood, then it hangs up */

struct imap;

struct imap_setup {
    const struct imap_backend *backend;
    void *ctx;            /* the backend's */
    struct span tag;      /* of the login to answer */
    uint64_t message_max; /* of APPEND */
};

struct imap *imap_new(const struct imap_setup *o); /* the tagged OK is in the output */
void imap_free(struct imap **s);

enum imap_want {
    IMAP_INPUT, /* more bytes from the client */
    IMAP_ROOM,  /* send the output, then call again */
    IMAP_TURN,  /* call again soon, others may go first */
    IMAP_OVER,  /* send the output, then hang up */
};
/* Goes on as far as it can, taking bytes off *in. */
enum imap_want imap_run(struct imap *s, struct span *in);
/* The output says something that isn't on disk yet: worth waiting for what the client has already sent behind it. */
bool imap_unsettled(const struct imap *s);
/* Before output is sent: what it says is durable then, with one sync for everything since the last call. Returns
 * `want`, or IMAP_OVER when the disk failed. */
enum imap_want imap_settle(struct imap *s, enum imap_want want);
/* To be sent, then cleared by the caller. */
struct buf *imap_output(struct imap *s);
/* "* BYE why" and the end. */
void imap_bye(struct imap *s, const char *why);

enum imap_change_kind {
    IMAP_CHANGE_NEW,
    IMAP_CHANGE_FLAGS,
    IMAP_CHANGE_EXPUNGED,
    IMAP_CHANGE_GONE,
    IMAP_CHANGE_RENAMED
};
struct imap_change {
    enum imap_change_kind kind;
    uint64_t mailbox;
    const uint32_t *uids; /* of FLAGS and EXPUNGED */
    size_t n;
};
/* A mailbox changed, by whomever; called from inside the backend's functions too. Only notes it. True: the client waits
 * in IDLE and wants to know: call imap_run() (also with no input) soon. */
bool imap_changed(struct imap *s, const struct imap_change *c);

#endif
