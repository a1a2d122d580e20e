/* Taking connections from a listening socket, and counting who is there. Running out of descriptors (EMFILE, ENFILE,
 * ENOBUFS, ENOMEM) never spins: one waiting connection is taken with a descriptor held in reserve and closed, then
 * the listener rests for a while. */
#ifndef NET_LISTENER_H
#define NET_LISTENER_H

#include <sys/socket.h>

#include "loop/loop.h"

#define LISTENER_BURST 16      /* connections taken at a wake-up, at most */
#define LISTENER_REST_MS 200   /* how long it rests after the kernel had no descriptor or memory for us */

struct listener;

/* fd: connected, non-blocking, close-on-exec, the callee's. peer: its address; IPv4 in IPv6 has become IPv4. */
typedef void listener_fn(void *ctx, int fd, const struct sockaddr_storage *peer);

/* The listening socket stays the caller's and open for as long as the listener. What is accepted inherits
 * TCP_NODELAY and keep-alive from it. The last descriptors of the process (of RLIMIT_NOFILE as it is now) are kept for those
 * who are inside. NULL: the kernel refuses the descriptor. */
struct listener *listener_new(struct loop *l, int fd, listener_fn *fn, void *ctx);
/* Every connection begins with a PROXY header (net/proxy.h), whose client fn is told as the peer; who is not trusted to
 * send one is closed. ctx is the listener's. */
typedef bool listener_trust_fn(void *ctx, const struct sockaddr_storage *peer);
void listener_proxied(struct listener *ln, listener_trust_fn *trust);
void listener_free(struct listener **ln); /* allowed inside its own fn */
/* connections wait in the kernel's queue, or go to another process on the same socket */
void listener_pause(struct listener *ln);
void listener_resume(struct listener *ln);

/* ---- who is there: sessions of one program, in all and from each client ---- */

/* A client is an IPv4 address or an IPv6 /64. {0} with its limits set is an empty gate; a limit of 0 is none. */
struct gate {
    size_t max, max_each;
    size_t count;
    struct gate_table *clients;
};
enum gate_answer { GATE_IN, GATE_FULL, GATE_CLIENT_FULL };

/* GATE_IN: counted; call gate_leave() with the same address when the session is over. */
enum gate_answer gate_enter(struct gate *g, const struct sockaddr_storage *peer);
void gate_leave(struct gate *g, const struct sockaddr_storage *peer);
void gate_free(struct gate *g);

#endif
