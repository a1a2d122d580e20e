#include "base/url.h"

#include <arpa/inet.h>

static bool is_plain(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] <= ' ' || s.p[i] >= 0x7f || strchr("\"#<>\\^`{|}", s.p[i]))
            return false;
    return s.n <= URL_MAX;
}

static bool name_good(struct span host)
{
    bool good = host.n > 0 && host.n <= URL_HOST_MAX && host.p[0] != '-' && host.p[0] != '.';
    for (size_t i = 0; good && i < host.n; i++) {
        char c = host.p[i];
        good = ascii_alpha(c) || ascii_digit(c) || c == '-' || c == '_' || (c == '.' && host.p[i - 1] != '.');
    }
    return good;
}

/* Whether it is an address of that family; a name of digits alone is neither that nor a name. */
static bool look_at_host(struct url *u, bool bracketed)
{
    char text[URL_HOST_MAX + 1];
    struct in_addr four;
    struct in6_addr six;
    if (u->host.n == 0 || u->host.n > URL_HOST_MAX)
        return false;
    memcpy(text, u->host.p, u->host.n);
    text[u->host.n] = 0;
    u->is_address = true;
    if (bracketed) {
        u->is_loopback = inet_pton(AF_INET6, text, &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six);
        return inet_pton(AF_INET6, text, &six) == 1;
    }
    if (inet_pton(AF_INET, text, &four) == 1) {
        u->is_loopback = ntohl(four.s_addr) >> 24 == 127;
        return true;
    }
    u->is_address = false;
    u->is_loopback = span_ieqs(u->host, "localhost");
    struct span last = span_from(u->host, (size_t)(span_rfind(u->host, '.') + 1));
    return name_good(u->host) && last.n && !ascii_digit(last.p[0]);
}

static bool take_authority(struct url *u, struct span a)
{
    struct span port = SPAN_NONE;
    bool bracketed = a.n && a.p[0] == '[';
    ptrdiff_t end = bracketed ? span_find(a, ']') : span_find(a, ':');
    uint64_t number = u->tls ? 443 : 80;
    if (bracketed && end < 0)
        return false;
    u->host = bracketed ? span_sub(a, 1, (size_t)end - 1) : span_sub(a, 0, end < 0 ? a.n : (size_t)end);
    if (end >= 0)
        port = span_from(a, (size_t)end + bracketed);
    if (port.n && (port.p[0] != ':' || !span_u64(span_from(port, 1), 65535, &number) || number == 0))
        return false;
    u->port = (uint16_t)number;
    return look_at_host(u, bracketed);
}

bool url_parse(struct span text, struct url *out)
{
    struct span rest = text;
    *out = (struct url){0};
    if (!is_plain(text))
        return false;
    out->tls = span_istarts(text, SPAN("https://"));
    if (!out->tls && !span_istarts(text, SPAN("http://")))
        return false;
    rest = span_from(text, out->tls ? 8 : 7);
    size_t n = 0;
    while (n < rest.n && rest.p[n] != '/' && rest.p[n] != '?')
        n++;
    return take_authority(out, span_sub(rest, 0, n));
}
