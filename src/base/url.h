/* Addresses of HTTP services, as an operator writes them: https://HOST[:PORT]/PATH. RFC 3986, no more of it than that. */
#ifndef BASE_URL_H
#define BASE_URL_H

#include "base/span.h"

#define URL_MAX 2000
#define URL_HOST_MAX 253

struct url {
    bool tls;         /* https, not http */
    struct span host; /* a name or an address, without brackets; borrowed */
    bool is_address;  /* IPv4 or IPv6 */
    bool is_loopback; /* 127.0.0.0/8, ::1, or "localhost" */
    uint16_t port;
};

/* False: it is none. User names, fragments, blanks and everything beyond ASCII are refused. */
bool url_parse(struct span text, struct url *out);

#endif
