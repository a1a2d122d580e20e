/* A byte stream over a connected socket, with or without TLS: buffered output, back-pressure both ways, one idle
 * timer. The only home of OpenSSL's SSL is net/. A stream belongs to one owner; its last callback is never after
 * stream_free(). */
#ifndef NET_STREAM_H
#define NET_STREAM_H

#include <sys/socket.h>

#include "base/err.h"
#include "base/span.h"
#include "loop/loop.h"

struct stream;
struct tls_ctx;

enum stream_event {
    STREAM_TLS_UP,  /* the handshake is done */
    STREAM_EOF,     /* the peer will send no more; what was sent before has been given to on_data */
    STREAM_ERROR,   /* broken (stream_error() says why): free it */
    STREAM_DRAINED, /* output fell below the low-water mark after stream_write() had returned false */
    STREAM_TIMEOUT, /* nothing came (and nothing could be sent) for the time set */
    STREAM_FLUSHED, /* after stream_finish(): everything was sent (TLS: close_notify too) */
};

struct stream_ops {
    /* `in` is everything that waits. Returns how much of it was used; the rest comes again with more behind. Called
     * again at once as long as it uses something. May write, pause, start TLS (the rest is then discarded: see
     * stream_tls_server) or free the stream. */
    size_t (*on_data)(void *ctx, struct span in);
    void (*on_event)(void *ctx, enum stream_event e);
};

#define STREAM_IN_MAX 65536        /* input held at most when on_data uses nothing: then it is a STREAM_ERROR */
#define STREAM_OUT_HIGH (256 << 10) /* stream_write() returns false above; the owner stops producing */

/* Takes the connected, non-blocking socket over. Reading starts at once; no callback runs before this returns. */
struct stream *stream_new(struct loop *l, int fd, const struct stream_ops *ops, void *ctx);
/* The peer's address when the caller knows it (accepting told): saves asking the kernel. */
void stream_set_peer(struct stream *s, const struct sockaddr_storage *peer);
void stream_free(struct stream **s); /* closes the socket now; unsent output is lost */
/* Sends what waits, then STREAM_FLUSHED; input is ignored from here on. A peer that is still sending gets a moment
 * to stop, as a socket closed with unread input would take back what we sent last. */
void stream_finish(struct stream *s);
/* Half-close after what waits has been sent (no effect inside TLS before the close_notify). */
void stream_shutdown_write(struct stream *s);

/* Queues the bytes (copied); they leave at the end of this turn in one write. False: above the high mark, wait for
 * STREAM_DRAINED. */
bool stream_write(struct stream *s, struct span bytes);
size_t stream_pending(const struct stream *s);
void stream_flush(struct stream *s); /* now */
bool stream_has_spoken(const struct stream *s); /* bytes of the peer wait in the kernel, right now */
void stream_pause(struct stream *s); /* no on_data until stream_resume(): the kernel's window closes */
/* also when not paused: what on_data left unused is offered again at the end of this turn */
void stream_resume(struct stream *s);
/* restarts the idle timer with that time; 0: none. Input restarts it. */
void stream_timeout(struct stream *s, int64_t ms);

/* TLS from here on; what was written before still leaves in clear. Input that was already received in clear is
 * discarded (HAZARDS 3) and logged here: returns how many bytes that were, inside on_data without the span at hand
 * (its unused rest is counted when on_data has returned; stream_discarded() has the sum at STREAM_TLS_UP).
 * STREAM_TLS_UP or STREAM_ERROR follows. The context may be freed afterwards (it is counted). server_name: what is
 * asked for, and what the certificate must be valid for if the context verifies. */
size_t stream_tls_server(struct stream *s, struct tls_ctx *ctx);
size_t stream_tls_client(struct stream *s, struct tls_ctx *ctx, const char *server_name);
size_t stream_discarded(const struct stream *s);
bool stream_is_tls(const struct stream *s);
/* "TLSv1.3 TLS_AES_256_GCM_SHA384", or "" without TLS. */
const char *stream_tls_text(const struct stream *s);
/* What names this TLS session and no other, for logins that bind to it: tls-exporter (RFC 9266) and tls-server-end-point
 * (RFC 5929; the side that serves). A part is empty where it isn't defined: without TLS, before the handshake is done,
 * an exporter of TLS 1.2 without the extended master secret, a certificate whose signature names no hash. */
#define STREAM_BINDING_MAX 64
struct stream_binding {
    uint8_t exporter[STREAM_BINDING_MAX], end_point[STREAM_BINDING_MAX];
    size_t exporter_n, end_point_n;
};
void stream_tls_binding(const struct stream *s, struct stream_binding *out);
/* Server side, after tls_ask_clients(): the client showed a certificate that verifies. */
bool stream_tls_certified(const struct stream *s);
#define STREAM_NAMES_MAX 2048
struct stream_client {
    uint8_t fingerprint[32]; /* SHA-256 of the certificate */
    char names[STREAM_NAMES_MAX]; /* the mail addresses it was issued for, a line end between */
    size_t names_n;
};
/* False: not certified, *out is of no use. */
bool stream_tls_client_certificate(const struct stream *s, struct stream_client *out);
const char *stream_error(const struct stream *s);
/* The peer's (local) address as text without brackets, and port. */
const char *stream_remote(const struct stream *s);
uint16_t stream_remote_port(const struct stream *s);
const char *stream_local(const struct stream *s);

#endif
