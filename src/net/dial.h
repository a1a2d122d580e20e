/* Connecting: tries the addresses of a list in their order, each for a bounded time, and hands over the first connected socket. */
#ifndef NET_DIAL_H
#define NET_DIAL_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/span.h"
#include "loop/loop.h"

struct dial;

/* fd: connected, non-blocking, close-on-exec, the callee's; -1: no address worked and why says what the last one said. which: the index
 * in the list of the address that is connected, or was the last one tried. Called once, never from inside dial_start(). */
typedef void dial_fn(void *ctx, int fd, size_t which, const struct err *why);

struct dial_options {
    int64_t each_ms; /* for one address; 0: DIAL_EACH_MS */
    const struct sockaddr_in *source4;  /* the address to connect from; NULL: the kernel's choice */
    const struct sockaddr_in6 *source6;
};
#define DIAL_EACH_MS 30000

/* The list is copied. */
struct dial *dial_start(struct loop *l, const struct sockaddr_storage *list, size_t count, const struct dial_options *o, dial_fn *fn, void *ctx);
void dial_cancel(struct dial **d); /* fn will not be called */

/* "192.0.2.1" or "2001:db8::1"; no brackets. */
#define DIAL_TEXT_MAX 64
void dial_address_text(const struct sockaddr_storage *a, char out[DIAL_TEXT_MAX]);
/* The other way round, IPv4 or IPv6 in text without brackets; false when it is neither. */
bool dial_address_parse(struct span text, uint16_t port, struct sockaddr_storage *out);

#endif
