/* A small DNS server for tests, on the test's own loop: UDP on an ephemeral port of 127.0.0.1, answers out of a table. Names that begin
 * with "fail" are answered SERVFAIL. */
#ifndef TESTS_DNS_SERVER_H
#define TESTS_DNS_SERVER_H

#include "base/span.h"
#include "loop/loop.h"

#define TYPE_CNAME 5

struct zone_record {
    const char *name;
    uint16_t type;
    struct span rdata;
};

struct dns_server {
    struct loop *loop;
    struct io *io;
    int fd;
    unsigned questions;
    bool silent;
    char address[64]; /* "127.0.0.1@PORT" */
    const struct zone_record *zone;
    size_t zone_count;
};

void dns_server_start(struct dns_server *s, struct loop *l, const struct zone_record *zone, size_t count);
void dns_server_stop(struct dns_server *s);

#endif
