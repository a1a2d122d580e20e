/* One IMAP session of this account: the engine (imap/) between the stream a front handed over and the store. */
#ifndef MDA_IMAP_SESSION_H
#define MDA_IMAP_SESSION_H

#include "base/span.h"
#include "loop/loop.h"
#include "store/store.h"

struct imap_session;

struct imap_session_start {
    struct loop *loop;
    struct store *store;
    int fd;             /* the stream's end: taken over */
    const char *login;  /* the account's canonical address */
    struct span tag;    /* of the LOGIN or AUTHENTICATE to answer */
    struct span remote; /* the client, for the log */
    struct span early;  /* what the front had read behind the login */
    bool tls;
    uint64_t message_max;                             /* of APPEND */
    int64_t idle_ms;                                  /* at least 30 minutes, RFC3501:5.4 */
    void (*ended)(void *ctx, struct imap_session *s); /* the client is gone: free it (not before this call, or with
                                                         imap_session_free at any time) */
    void *ctx;
};

/* Writes the tagged OK and goes on from there. All spans are copied. */
struct imap_session *imap_session_new(const struct imap_session_start *o);
/* An orderly end: `* BYE why`, then ended(). */
void imap_session_bye(struct imap_session *s, const char *why);
void imap_session_free(struct imap_session **s);

#endif
