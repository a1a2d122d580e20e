/* For tests of net/: throw-away certificates, and a recording end of a stream. */
#ifndef UNIT_NET_SUPPORT_H
#define UNIT_NET_SUPPORT_H

#include "base/buf.h"
#include "net/stream.h"
#include "net/tls.h"

enum test_key { TEST_EC, TEST_RSA };
struct test_cert {
    char *chain, *key; /* PEM */
};
/* A self-signed certificate for `name` (a host name), with a fresh key. */
struct test_cert test_cert_new(enum test_key kind, const char *name);
void test_cert_free(struct test_cert *c);
struct tls_ctx *test_server_ctx(const struct test_cert *c, enum tls_min min, bool tickets);

/* One end: keeps what it got and the events, stops the loop when told. */
struct end {
    struct loop *loop;
    struct stream *s;
    struct buf got;
    char events[64]; /* U tls up, E eof, X error, D drained, T timeout, F flushed */
    size_t event_count, calls;
    size_t take;         /* bytes used at each on_data at most; 0: all */
    size_t stop_at;      /* stops the loop when so many bytes came; 0: never */
    const char *stop_on; /* stops the loop at one of these events */
    bool echo;
    size_t (*on_data)(struct end *e, struct span in); /* instead of recording */
    void (*on_event)(struct end *e, enum stream_event ev);
    void *other;
};
extern const struct stream_ops end_ops;
/* Two ends over a fresh socket pair. */
void ends_make(struct loop *l, struct end *a, struct end *b);
void end_free(struct end *e);
/* Runs the loop for at most that long; fails the test when nothing stopped it. */
void run_for(struct loop *l, int64_t ms);

#endif
