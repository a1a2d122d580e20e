/* See scram_client.h. RFC5802:3, written without the engine's own functions. */
#include "scram_client.h"

#include <criterion/criterion.h>
#include <sodium.h>

#include "base/base64.h"

#define KEY crypto_auth_hmacsha256_BYTES

static void hmac(struct span key, struct span data, uint8_t *out)
{
    crypto_auth_hmacsha256_state h;
    crypto_auth_hmacsha256_init(&h, (const unsigned char *)key.p, key.n);
    crypto_auth_hmacsha256_update(&h, (const unsigned char *)data.p, data.n);
    crypto_auth_hmacsha256_final(&h, out);
}

static void salted(struct span password, struct span salt, uint64_t iterations, uint8_t *out)
{
    struct buf first = {0};
    uint8_t u[KEY];
    buf_add(&first, salt);
    buf_add(&first, span_make("\0\0\0\1", 4));
    hmac(password, buf_span(&first), u);
    memcpy(out, u, KEY);
    for (uint64_t i = 1; i < iterations; i++) {
        hmac(password, span_make(u, KEY), u);
        for (size_t k = 0; k < KEY; k++)
            out[k] ^= u[k];
    }
    buf_free(&first);
}

void scram_client_answer(struct span gs2, struct span bound, struct span bare, struct span server_first,
                         struct span password, struct buf *out)
{
    struct buf b = {0}, salt = {0};
    struct span rest = server_first, nonce = span_cut(&rest, ','), s = span_cut(&rest, ',');
    uint8_t key[KEY], client[KEY], stored[KEY], signature[KEY];
    uint64_t iterations;
    cr_assert(base64_decode(span_from(s, 2), &salt) == 0 && span_u64(span_from(rest, 2), 1u << 30, &iterations));
    salted(password, buf_span(&salt), iterations, key);
    hmac(span_make(key, KEY), SPAN("Client Key"), client);
    crypto_hash_sha256(stored, client, KEY);
    buf_add(&b, gs2);
    buf_add(&b, bound);
    buf_adds(out, "c=");
    base64_encode(buf_span(&b), out);
    buf_addc(out, ',');
    buf_add(out, nonce);
    buf_clear(&b);
    buf_printf(&b, "%.*s,%.*s,%.*s", SPANV(bare), SPANV(server_first), SPANV(buf_span(out)));
    hmac(span_make(stored, KEY), buf_span(&b), signature);
    for (size_t i = 0; i < KEY; i++)
        client[i] ^= signature[i];
    buf_adds(out, ",p=");
    base64_encode(span_make(client, KEY), out);
    buf_free(&b);
    buf_free(&salt);
}
