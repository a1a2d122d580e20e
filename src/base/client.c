#include "base/client.h"

#include <arpa/inet.h>
#include <stdio.h>

#include "base/util.h"

#define IPV4_KEY (UINT64_C(1) << 32)

static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

/* Every address as one of IPv6. False: neither IPv4 nor IPv6. */
static bool to_six(const struct sockaddr_storage *a, uint8_t six[16])
{
    if (a->ss_family == AF_INET6) {
        memcpy(six, ((const struct sockaddr_in6 *)a)->sin6_addr.s6_addr, 16);
        return true;
    }
    memcpy(six, mapped, sizeof mapped);
    memcpy(six + 12, &((const struct sockaddr_in *)a)->sin_addr, 4);
    return a->ss_family == AF_INET;
}

uint64_t client_key(const struct sockaddr_storage *a)
{
    uint8_t six[16];
    uint64_t key = 0;
    if (!to_six(a, six))
        return 1;
    bool four = memcmp(six, mapped, sizeof mapped) == 0;
    for (size_t i = 0; i < 8; i++)
        key = key << 8 | (four ? i < 4 ? 0 : six[8 + i] : six[i]);
    if (four)
        return IPV4_KEY | (key & 0xffffffff);
    return key ? key : 1; /* ::1 and the like */
}

bool client_address(struct span text, struct sockaddr_storage *out)
{
    char copy[INET6_ADDRSTRLEN];
    memset(out, 0, sizeof *out);
    if (text.n == 0 || text.n >= sizeof copy || memchr(text.p, 0, text.n))
        return false;
    memcpy(copy, text.p, text.n);
    copy[text.n] = 0;
    if (inet_pton(AF_INET, copy, &((struct sockaddr_in *)out)->sin_addr) == 1) {
        out->ss_family = AF_INET;
        return true;
    }
    out->ss_family = AF_INET6;
    return inet_pton(AF_INET6, copy, &((struct sockaddr_in6 *)out)->sin6_addr) == 1;
}

bool client_key_parse(struct span address, uint64_t *key)
{
    struct sockaddr_storage a;
    if (!client_address(address, &a))
        return false;
    *key = client_key(&a);
    return true;
}

void client_text(uint64_t key, char out[CLIENT_TEXT_MAX])
{
    char text[INET6_ADDRSTRLEN] = "?";
    uint8_t bytes[16] = {0};
    if (key >> 32 == 1) {
        uint32_t four = htonl((uint32_t)key);
        inet_ntop(AF_INET, &four, text, sizeof text);
        snprintf(out, CLIENT_TEXT_MAX, "%s", text);
        return;
    }
    for (size_t i = 0; i < 8 && key != 1; i++)
        bytes[i] = (uint8_t)(key >> (56 - 8 * i));
    inet_ntop(AF_INET6, bytes, text, sizeof text);
    snprintf(out, CLIENT_TEXT_MAX, "%s/64", text);
}

/* ---- networks ---- */

bool network_parse(struct span text, struct network *out)
{
    struct sockaddr_storage a;
    uint64_t bits;
    bool has_bits = span_find(text, '/') >= 0;
    struct span address = span_cut(&text, '/');
    if (!client_address(address, &a))
        return false;
    bits = a.ss_family == AF_INET ? 32 : 128;
    if (has_bits && !span_u64(text, bits, &bits))
        return false;
    to_six(&a, out->address);
    out->bits = (uint8_t)(a.ss_family == AF_INET ? bits + 96 : bits);
    return true;
}

bool network_has(const struct network *n, const struct sockaddr_storage *a)
{
    uint8_t six[16];
    size_t whole = n->bits / 8, rest = n->bits % 8;
    if (!to_six(a, six) || memcmp(six, n->address, whole) != 0)
        return false;
    return rest == 0 || (six[whole] ^ n->address[whole]) >> (8 - rest) == 0;
}

bool networks_have(const struct network *list, size_t n, const struct sockaddr_storage *a)
{
    for (size_t i = 0; i < n; i++)
        if (network_has(&list[i], a))
            return true;
    return false;
}
