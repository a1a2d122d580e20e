#include "net/proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "base/util.h"

#define V2_HEAD 16
#define LOCAL 0x20
#define PROXY 0x21

static const char v2_sign[12] = {'\r', '\n', '\r', '\n', '\0', '\r', '\n', 'Q', 'U', 'I', 'T', '\n'};

static bool begins(struct span in, const char *sign, size_t n)
{
    return memcmp(in.p, sign, MIN_OF(in.n, n)) == 0;
}

static void set_four(struct proxy_header *h, const void *address, uint16_t port_net)
{
    struct sockaddr_in *four = (struct sockaddr_in *)&h->source;
    memset(&h->source, 0, sizeof h->source);
    four->sin_family = AF_INET;
    four->sin_port = port_net;
    memcpy(&four->sin_addr, address, 4);
    h->known = true;
}

static void set_six(struct proxy_header *h, const void *address, uint16_t port_net)
{
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)&h->source;
    memset(&h->source, 0, sizeof h->source);
    memcpy(&six->sin6_addr, address, 16);
    if (IN6_IS_ADDR_V4MAPPED(&six->sin6_addr)) {
        set_four(h, (const char *)address + 12, port_net);
        return;
    }
    six->sin6_family = AF_INET6;
    six->sin6_port = port_net;
    h->known = true;
}

/* ---- version 1: PROXY TCP4 SOURCE DESTINATION PORT PORT CRLF ---- */

static bool v1_address(struct span s, int family, void *out)
{
    char text[INET6_ADDRSTRLEN];
    if (s.n == 0 || s.n >= sizeof text || memchr(s.p, 0, s.n))
        return false;
    memcpy(text, s.p, s.n);
    text[s.n] = '\0';
    return inet_pton(family, text, out) == 1;
}

static bool v1_port(struct span s, uint64_t *out)
{
    return s.n >= 1 && s.n <= 5 && span_u64(s, 65535, out) && (s.n == 1 || s.p[0] != '0');
}

static bool v1_tcp(struct span rest, int family, struct proxy_header *out)
{
    uint8_t source[16], destination[16];
    uint64_t port, other;
    struct span words[3] = {span_cut(&rest, ' '), span_cut(&rest, ' '), span_cut(&rest, ' ')};
    if (!v1_address(words[0], family, source) || !v1_address(words[1], family, destination) ||
        !v1_port(words[2], &port) || !v1_port(rest, &other))
        return false;
    if (family == AF_INET)
        set_four(out, source, htons((uint16_t)port));
    else
        set_six(out, source, htons((uint16_t)port));
    return true;
}

static enum proxy_result v1(struct span in, struct proxy_header *out, size_t *used)
{
    const char *lf = memchr(in.p, '\n', MIN_OF(in.n, (size_t)PROXY_V1_MAX));
    if (!lf)
        return in.n >= PROXY_V1_MAX ? PROXY_BAD : PROXY_MORE;
    struct span line = span_make(in.p, (size_t)(lf - in.p));
    *used = line.n + 1;
    if (line.n == 0 || line.p[line.n - 1] != '\r')
        return PROXY_BAD;
    line.n--;
    line = span_from(line, 6); /* "PROXY " */
    struct span kind = span_cut(&line, ' ');
    if (span_eqs(kind, "UNKNOWN"))
        return PROXY_DONE;
    if (span_eqs(kind, "TCP4"))
        return v1_tcp(line, AF_INET, out) ? PROXY_DONE : PROXY_BAD;
    return span_eqs(kind, "TCP6") && v1_tcp(line, AF_INET6, out) ? PROXY_DONE : PROXY_BAD;
}

/* ---- version 2 ---- */

static unsigned be16(const char *p)
{
    return (unsigned)(uint8_t)p[0] << 8 | (uint8_t)p[1];
}

/* What stands behind the addresses: type, length, value; nothing of it is used here, but it has to be whole. */
static bool v2_tlvs(struct span rest)
{
    while (rest.n) {
        if (rest.n < 3 || rest.n - 3 < be16(rest.p + 1))
            return false;
        rest = span_from(rest, 3 + be16(rest.p + 1));
    }
    return true;
}

/* family and transport: 0x11 TCP over IPv4, 0x21 TCP over IPv6, 0x31 a Unix stream, 0 unspecified. */
static enum proxy_result v2_address(uint8_t what, struct span rest, struct proxy_header *out)
{
    size_t size = what == 0x11 ? 12 : what == 0x21 ? 36 : what == 0x31 ? 216 : 0;
    uint16_t port;
    if ((!size && what) || rest.n < size || !v2_tlvs(span_from(rest, size)))
        return PROXY_BAD;
    if (what == 0x11) {
        memcpy(&port, rest.p + 8, 2);
        set_four(out, rest.p, port);
    } else if (what == 0x21) {
        memcpy(&port, rest.p + 32, 2);
        set_six(out, rest.p, port);
    }
    return PROXY_DONE;
}

static enum proxy_result v2(struct span in, struct proxy_header *out, size_t *used)
{
    if (in.n >= 13 && in.p[12] != LOCAL && in.p[12] != PROXY)
        return PROXY_BAD;
    if (in.n < V2_HEAD)
        return PROXY_MORE;
    size_t size = V2_HEAD + be16(in.p + 14);
    if (size > PROXY_V2_MAX)
        return PROXY_BAD;
    if (in.n < size)
        return PROXY_MORE;
    *used = size;
    if (in.p[12] == LOCAL) /* whatever it says behind that is to be ignored */
        return PROXY_DONE;
    return v2_address((uint8_t)in.p[13], span_sub(in, V2_HEAD, size - V2_HEAD), out);
}

enum proxy_result proxy_parse(struct span in, struct proxy_header *out, size_t *used)
{
    *out = (struct proxy_header){0};
    *used = 0;
    if (in.n == 0)
        return PROXY_MORE;
    if (begins(in, "PROXY ", 6))
        return in.n < 6 ? PROXY_MORE : v1(in, out, used);
    if (begins(in, v2_sign, sizeof v2_sign))
        return in.n < sizeof v2_sign ? PROXY_MORE : v2(in, out, used);
    return PROXY_BAD;
}
