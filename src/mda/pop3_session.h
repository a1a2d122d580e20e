/* One POP3 session of this account: the engine (pop3/) between the stream a front handed over and the store's INBOX.
 * RFC 1939 */
#ifndef MDA_POP3_SESSION_H
#define MDA_POP3_SESSION_H

#include "base/span.h"
#include "loop/loop.h"
#include "store/store.h"

struct pop3_session;

struct pop3_session_start {
    struct loop *loop;
    struct store *store;
    int fd;             /* the stream's end: taken over */
    const char *login;  /* the account's canonical address */
    struct span remote; /* the client, for the log */
    struct span early;  /* what the front had read behind the login */
    bool tls;
    int64_t idle_ms;                                  /* at least 10 minutes, RFC1939:3 */
    void (*ended)(void *ctx, struct pop3_session *s); /* the client is gone: free it (not before this call, or with
                                                         pop3_session_free at any time) */
    void *ctx;
};

/* Writes the +OK of the login (or -ERR, when another session has the maildrop) and goes on from there. All spans are
 * copied. */
struct pop3_session *pop3_session_new(const struct pop3_session_start *o);
/* An orderly end, without the deletions of an unfinished session: then ended(). */
void pop3_session_bye(struct pop3_session *s, const char *why);
void pop3_session_free(struct pop3_session **s);

#endif
