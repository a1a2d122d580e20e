#include "dns_server.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <unistd.h>

#include "base/buf.h"

enum { RCODE_OK = 0, RCODE_SERVFAIL = 2, RCODE_NXDOMAIN = 3 };

static size_t put_answers(const struct dns_server *s, struct buf *out, const char *name, uint16_t type, bool *exists)
{
    size_t n = 0;
    for (size_t i = 0; i < s->zone_count; i++) {
        const struct zone_record *r = &s->zone[i];
        if (strcmp(r->name, name) != 0)
            continue;
        *exists = true;
        if (r->type != type && r->type != TYPE_CNAME)
            continue;
        buf_add(out, span_make("\xc0\x0c\x00", 3)); /* the name of the question */
        buf_addc(out, (char)r->type);
        buf_add(out, span_make("\x00\x01\x00\x00\x00\x3c\x00", 7)); /* IN, 60 seconds */
        buf_addc(out, (char)r->rdata.n);
        buf_add(out, r->rdata);
        n++;
    }
    return n;
}

static size_t read_name(const unsigned char *p, size_t n, char *name)
{
    size_t at = 12, out = 0;
    while (at < n && p[at]) {
        size_t label = p[at++];
        if (out)
            name[out++] = '.';
        for (size_t i = 0; i < label; i++)
            name[out++] = ascii_lower((char)p[at + i]);
        at += label;
    }
    name[out] = '\0';
    return at + 1;
}

static void on_question(void *ctx, unsigned events)
{
    struct dns_server *s = ctx;
    unsigned char in[1500];
    char name[300];
    struct sockaddr_in peer;
    socklen_t peer_n = sizeof peer;
    ssize_t n = recvfrom(s->fd, in, sizeof in, 0, (struct sockaddr *)&peer, &peer_n);
    (void)events;
    if (n < 17)
        return;
    s->questions++;
    size_t end = read_name(in, (size_t)n, name);
    uint16_t type = (uint16_t)(in[end] << 8 | in[end + 1]);
    struct buf answers = {0}, out = {0};
    bool exists = strcmp(name, "test") == 0 || name[0] == '\0';
    size_t count = put_answers(s, &answers, name, type, &exists);
    char header[12] = {(char)in[0], (char)in[1], (char)0x81, (char)0x80, 0, 1, 0, (char)count, 0, 0, 0, 0};
    header[3] = (char)(0x80 | (strncmp(name, "fail", 4) == 0 ? RCODE_SERVFAIL : exists ? RCODE_OK : RCODE_NXDOMAIN));
    buf_add(&out, span_make(header, 12));
    buf_add(&out, span_make(in + 12, end + 4 - 12));
    buf_add(&out, buf_span(&answers));
    if (!s->silent)
        sendto(s->fd, out.p, out.n, 0, (struct sockaddr *)&peer, peer_n);
    buf_free(&answers);
    buf_free(&out);
}

void dns_server_start(struct dns_server *s, struct loop *l, const struct zone_record *zone, size_t count)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    s->loop = l;
    s->zone = zone;
    s->zone_count = count;
    s->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    cr_assert_eq(bind(s->fd, (struct sockaddr *)&a, sizeof a), 0);
    cr_assert_eq(getsockname(s->fd, (struct sockaddr *)&a, &n), 0);
    snprintf(s->address, sizeof s->address, "127.0.0.1@%u", ntohs(a.sin_port));
    s->io = io_new(l, s->fd, on_question, s);
    io_want(s->io, IO_READ);
}

void dns_server_stop(struct dns_server *s)
{
    io_free(&s->io);
    close(s->fd);
}
