/* The two ends of a stream as text. Asked of the kernel once, and only when somebody wants to know. */
#include <arpa/inet.h>
#include <netinet/in.h>

#include "base/mem.h"
#include "net/stream_impl.h"

static char *address_text(const struct sockaddr_storage *a, uint16_t *port)
{
    char text[INET6_ADDRSTRLEN] = "local";
    if (a->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)a;
        inet_ntop(AF_INET, &in->sin_addr, text, sizeof text);
        *port = ntohs(in->sin_port);
    } else if (a->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)a;
        bool mapped = IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr);
        inet_ntop(mapped ? AF_INET : AF_INET6, in6->sin6_addr.s6_addr + (mapped ? 12 : 0), text, sizeof text);
        *port = ntohs(in6->sin6_port);
    }
    return mem_strdup(text);
}

void stream_set_peer(struct stream *s, const struct sockaddr_storage *peer)
{
    mem_free(&s->remote);
    s->remote = address_text(peer, &s->remote_port);
}

static void ask_remote(const struct stream *cs)
{
    struct stream *s = (struct stream *)(uintptr_t)cs; /* a cache: the same answer every time */
    struct sockaddr_storage a = {0};
    socklen_t n = sizeof a;
    if (s->remote)
        return;
    if (s->fd < 0 || getpeername(s->fd, (struct sockaddr *)&a, &n) < 0)
        a.ss_family = AF_UNSPEC;
    s->remote = address_text(&a, &s->remote_port);
}

const char *stream_remote(const struct stream *s)
{
    ask_remote(s);
    return s->remote;
}

uint16_t stream_remote_port(const struct stream *s)
{
    ask_remote(s);
    return s->remote_port;
}

const char *stream_local(const struct stream *cs)
{
    struct stream *s = (struct stream *)(uintptr_t)cs;
    struct sockaddr_storage a = {0};
    socklen_t n = sizeof a;
    uint16_t port = 0;
    if (s->local)
        return s->local;
    if (getsockname(s->fd, (struct sockaddr *)&a, &n) < 0)
        a.ss_family = AF_UNSPEC;
    s->local = address_text(&a, &port);
    return s->local;
}
