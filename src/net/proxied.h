/* Connections that a load balancer hands on: the header is taken off before anybody else reads. Inside of net/; see
 * listener_proxied(). */
#ifndef NET_PROXIED_H
#define NET_PROXIED_H

#include "net/listener.h"

#define PROXIED_MS 10000 /* for the header */
#define PROXIED_MAX 512  /* connections of one listener that wait for theirs */

struct proxied;

/* Calls fn when the header has come, or closes the connection with a line in the log. full: room was or is lacking. */
struct proxied *proxied_new(struct loop *l, listener_fn *fn, void *ctx, void (*room)(void *ctx, bool there),
                            void *room_ctx);
void proxied_free(struct proxied **p); /* those that wait are closed */
void proxied_take(struct proxied *p, int fd, const struct sockaddr_storage *peer);

#endif
