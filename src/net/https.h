/* A small HTTPS client on the loop: the only home of libcurl. One form is posted, one short answer comes back. The
 * peer's certificate is verified for the name in the address, there are no redirects, no proxies, no cookies and no
 * files; addresses of names are the caller's to look up, so that nothing here asks the system. */
#ifndef NET_HTTPS_H
#define NET_HTTPS_H

#include <sys/socket.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"
#include "loop/loop.h"

struct https;
struct https_call;

void https_warm(void); /* what the libraries would read lazily; before the sandbox */
/* ca_pem: whose certificates are trusted, copied; empty: nobody's. */
struct https *https_new(struct loop *l, struct span ca_pem);
void https_free(struct https **h); /* open calls are forgotten */

struct https_post {
    const char *url, *host; /* host: as in the url, without brackets */
    uint16_t port;
    const struct sockaddr_storage *addresses; /* of the host, when it is a name; 0: it is an address */
    size_t address_count;
    const char *user, *password; /* HTTP Basic (RFC 7617); empty: none */
    struct span form;            /* application/x-www-form-urlencoded */
    size_t answer_max;
    int64_t timeout_ms;
};
/* why: NULL, and status and body are what the peer said; or why it said nothing usable. Called once, never from inside
 * https_post(); all dies at return. */
typedef void https_fn(void *ctx, unsigned status, struct span body, const char *why);
struct https_call *https_post(struct https *h, const struct https_post *p, https_fn *fn, void *ctx);
void https_forget(struct https_call **c); /* fn will not be called */

/* Adds NAME=VALUE to a form, encoded, with & in front of all but the first. */
void https_form(struct buf *form, const char *name, struct span value);
void https_encode(struct buf *out, struct span value);

#endif
