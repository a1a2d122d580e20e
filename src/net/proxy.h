/* The PROXY protocol, versions 1 and 2 (haproxy's proxy-protocol.txt): what a load balancer says in front of a connection
 * about who made it. Pure. */
#ifndef NET_PROXY_H
#define NET_PROXY_H

#include <sys/socket.h>

#include "base/span.h"

#define PROXY_V1_MAX 107  /* octets with CRLF */
#define PROXY_V2_MAX 4096 /* octets with TLVs; senders stay far below */

enum proxy_result { PROXY_MORE, PROXY_DONE, PROXY_BAD };

struct proxy_header {
    bool known;                     /* source is told; else the connection is the balancer's own (LOCAL, UNKNOWN) */
    struct sockaddr_storage source; /* IPv4 in IPv6 has become IPv4 */
};

/* MORE: all of `in` belongs to the header, which is not whole yet. DONE: it is the first *used octets. BAD: it is none. */
enum proxy_result proxy_parse(struct span in, struct proxy_header *out, size_t *used);

#endif
