/* Domains as A-labels: RFC 5890, RFC6531:3.2. */
#include "relay/wire.h"

#include <idn2.h>

static struct span lower(struct arena *a, struct span s)
{
    char *p = arena_alloc(a, s.n ? s.n : 1);
    for (size_t i = 0; i < s.n; i++)
        p[i] = ascii_lower(s.p[i]);
    return span_make(p, s.n);
}

struct span wire_domain(struct arena *a, struct span domain)
{
    if (domain.n == 0 || domain.n > 255 || memchr(domain.p, 0, domain.n))
        return SPAN_NONE;
    if (span_is_ascii(domain))
        return lower(a, domain);
    uint8_t *out = NULL;
    const char *text = arena_str(a, domain);
    if (idn2_lookup_u8((const uint8_t *)text, &out, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) != IDN2_OK)
        return SPAN_NONE;
    struct span result = lower(a, span_of((const char *)out));
    idn2_free(out);
    return result;
}

struct span wire_address(struct arena *a, struct span address)
{
    ptrdiff_t at = span_rfind(address, '@');
    if (at < 0 || span_is_ascii(span_from(address, (size_t)at)))
        return address;
    struct span domain = wire_domain(a, span_from(address, (size_t)at + 1));
    if (domain.n == 0)
        return address;
    char *p = arena_alloc(a, (size_t)at + 1 + domain.n);
    memcpy(p, address.p, (size_t)at + 1);
    memcpy(p + at + 1, domain.p, domain.n);
    return span_make(p, (size_t)at + 1 + domain.n);
}
