#include "smtp/helo.h"

#include <arpa/inet.h>

#include "smtp/path.h"

/* An address as 16 bytes, IPv4 inside IPv6. */
static bool parse(struct span text, unsigned char out[16])
{
    static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};
    char copy[INET6_ADDRSTRLEN];
    if (text.n >= sizeof copy)
        return false;
    memcpy(copy, text.p, text.n);
    copy[text.n] = '\0';
    if (inet_pton(AF_INET6, copy, out) == 1)
        return true;
    memcpy(out, mapped, sizeof mapped);
    return inet_pton(AF_INET, copy, out + 12) == 1;
}

static bool same_address(struct span a, struct span b)
{
    unsigned char x[16], y[16];
    return parse(a, x) && parse(b, y) && memcmp(x, y, 16) == 0;
}

/* RFC5321:4.1.3 */
static enum smtp_helo_kind literal_kind(struct span helo, struct span client, struct span local)
{
    struct span inside = span_sub(helo, 1, helo.n - 2);
    if (span_istarts(inside, SPAN("IPv6:")))
        inside = span_from(inside, 5);
    if (same_address(inside, client))
        return SMTP_HELO_LITERAL;
    return same_address(inside, local) ? SMTP_HELO_OURS : SMTP_HELO_OTHER_LITERAL;
}

enum smtp_helo_kind smtp_helo_kind(struct span helo, struct span hostname, struct span client, struct span local)
{
    unsigned char address[16];
    if (!smtp_domain_valid(helo, 0) || parse(helo, address))
        return SMTP_HELO_BAD;
    if (helo.p[0] == '[')
        return literal_kind(helo, client, local);
    if (span_ieq(helo, hostname))
        return same_address(client, local) ? SMTP_HELO_NAME : SMTP_HELO_OURS;
    return span_find(helo, '.') < 0 ? SMTP_HELO_WORD : SMTP_HELO_NAME;
}

const char *smtp_helo_flaw(enum smtp_helo_kind kind)
{
    static const char *const texts[] = {
        [SMTP_HELO_OTHER_LITERAL] = "is not the address you come from",
        [SMTP_HELO_WORD] = "is one word and no host name with its domain (RFC 5321 2.3.5)",
        [SMTP_HELO_OURS] = "is the one of this server",
        [SMTP_HELO_BAD] = "is neither a host name nor an address in brackets (RFC 5321 4.1.1.1)",
    };
    return (size_t)kind < sizeof texts / sizeof *texts ? texts[kind] : NULL;
}
