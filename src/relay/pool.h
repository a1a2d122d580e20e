/* Connections that nobody uses at the moment, kept for the next message to the same destination, and those that say QUIT. */
#ifndef RELAY_POOL_H
#define RELAY_POOL_H

#include "base/list.h"
#include "relay/session.h"

struct pool {
    struct loop *loop;
    struct link idle, closing;
    size_t idle_count, idle_max;
};

void pool_init(struct pool *p, struct loop *l, size_t idle_max);
void pool_close(struct pool *p); /* all of them, now */
/* Takes a session over whose message is done. keep_ms 0: it is closed. */
void pool_put(struct pool *p, struct session *s, struct span key, int64_t keep_ms);
/* A ready session for that key, the caller's (session_use() it); NULL when there is none. */
struct session *pool_take(struct pool *p, struct span key);

#endif
