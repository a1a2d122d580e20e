/* What stream.c and stream_tls.c share; nobody else includes it. */
#ifndef NET_STREAM_IMPL_H
#define NET_STREAM_IMPL_H

#include <sys/types.h>

#include "base/buf.h"
#include "net/stream.h"

#define READ_ROOM STREAM_IN_MAX     /* the shared buffer that all streams of a process read into */
#define READ_CALLS 16               /* receive calls for one stream at a wake-up, then the others have their turn */
#define WIRE_ENOUGH (64 << 10)      /* TLS: encrypted ahead of the socket, at most about so much */
#define OUT_LOW (STREAM_OUT_HIGH / 4)
#define LINGER_MS 2000
#define LINGER_BYTES (4 << 20)
#define WIRE_SPARE 4096             /* room that is kept for the next output, when the last has left */
#define WIRE_FIRST 512              /* the first allocation for output: a reply or two */

/* Bytes on their way out: taken from the front without moving the rest. */
struct outq {
    struct buf b;
    size_t off;
};

static inline size_t outq_size(const struct outq *q)
{
    return q->b.n - q->off;
}

enum pull { PULL_DATA, PULL_AGAIN, PULL_EOF, PULL_ERROR };

struct tls_half; /* stream_tls.c */

struct stream {
    struct loop *loop;
    const struct stream_ops *ops;
    void *ctx;
    struct io *io;
    struct timer *timer;      /* made when first wanted */
    struct tls_half *tls;
    struct outq wire;         /* for the socket as it is */
    struct outq plain;        /* TLS only: not yet encrypted */
    struct buf in;            /* input that on_data did not use */
    struct defer flush, pump; /* flush: send; pump: offer input again, or report what broke outside a callback */
    int64_t timeout, heard;   /* ms; heard: when the idle time began */
    char *error, *remote, *local;
    size_t discarded, lingered;
    int fd;
    uint16_t remote_port;
    uint8_t calls;            /* receive calls left at this wake-up */
    uint8_t depth;            /* how many callbacks deep we are: freeing waits for the last */
    bool freed, broken, broken_told;
    bool paused, eof, eof_told;
    bool drained;             /* the last receive call took all there was */
    bool high;                /* stream_write() returned false */
    bool finishing, lingering, finished;
    bool shut, notified, shut_done; /* half-close: wanted, TLS told, made */
    bool delivering;          /* inside on_data */
    bool switching;           /* TLS was started: what was read in clear is not for on_data */
};

/* stream.c */
/* marks it broken; told by stream_tell() or the pump */
void stream_fail(struct stream *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
void stream_event(struct stream *s, enum stream_event e);
void stream_discard(struct stream *s, size_t n); /* counts and logs clear text that came before TLS */
void outq_add(struct outq *q, struct span bytes);
void outq_took(struct outq *q, size_t n);
/* recv() that knows the rules of this file: drained, calls. */
ssize_t stream_recv(struct stream *s, void *to, size_t room);

/* stream_tls.c */
bool tls_is_up(const struct tls_half *t);
/* Goes on with the handshake. True when it is done now (and STREAM_TLS_UP is due). */
bool tls_shake(struct stream *s);
enum pull tls_pull(struct stream *s, char *to, size_t room, size_t *got);
/* Moves plain to wire, up to WIRE_ENOUGH. */
void tls_encrypt(struct stream *s);
/* The handshake waits for a signature, or for its turn to ask for one: input is of no use to it. */
bool tls_waits(const struct tls_half *t);
void tls_close_notify(struct stream *s);
bool tls_holds_input(const struct tls_half *t);
void tls_half_free(struct stream *s); /* before the rest of the stream */

#endif
