/* The arguments of XCLIENT, as Postfix documents it: what a trusted front says of the client it speaks for. Pure. */
#ifndef SMTP_XCLIENT_H
#define SMTP_XCLIENT_H

#include <sys/socket.h>

#include "base/buf.h"
#include "smtp/limits.h"

#define SMTP_XCLIENT_ATTRIBUTES "NAME ADDR PORT PROTO HELO" /* what is served and announced; LOGIN would be impersonation */

struct smtp_xclient {
    bool has_name, has_addr, has_port, has_proto, has_helo; /* what was said at all */
    char name[SMTP_DOMAIN_MAX + 1];                         /* empty: it is not known */
    struct sockaddr_storage addr;                           /* AF_UNSPEC: it is not known; without a port */
    uint16_t port;                                          /* 0: it is not known */
    bool esmtp;
    char helo[SMTP_DOMAIN_MAX + 1]; /* empty: it is not known */
};

/* False: a syntax error, or an attribute that is not served. */
bool smtp_xclient_parse(struct span arg, struct smtp_xclient *out);

#endif
