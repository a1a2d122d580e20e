/* See scram.h. Trusts nothing: messages come from clients not yet known. Comparisons with what is secret take the same
 * time whatever they find (HAZARDS 24). SHA-256, HMAC and random bytes are libsodium's;
 * SHA-1 is libcrypto's. As HMAC and in PBKDF2 SHA-1 is not broken (RFC 6194 §3.3), but it is served for old clients only.
 *
 * Passwords come prepared (auth/saslprep.h, RFC5802:2.2). Names are mail addresses and compared as such. */
#include "auth/scram.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sodium.h>
#include <stdio.h>

#include "base/base64.h"
#include "base/mem.h"

#define NONCE_BYTES 18 /* 24 characters */

static const struct {
    struct span prefix; /* of a verifier as text */
    size_t key;
} hashes[SCRAM_HASHES] = {[SCRAM_SHA_256] = {{"SCRAM-SHA-256$", 14}, 32}, [SCRAM_SHA_1] = {{"SCRAM-SHA-1$", 12}, 20}};

struct scram {
    enum scram_hash hash;
    bool plus, known;
    const struct scram_channel *channel;
    struct span binding;      /* what the client bound itself to; empty for n and y */
    size_t user_n, authzid_n;
    char user[SCRAM_NAME_MAX], authzid[SCRAM_NAME_MAX];
    struct buf gs2, bare;     /* of the client's first message */
    struct buf nonce;         /* both parts */
    struct buf server_first, out;
    struct scram_verifier verifier;
    struct further {
        int64_t tag;
        struct scram_verifier v;
    } *further;
    size_t further_n;
    int64_t proven_by;
};

/* ---- keys ---- */

/* out: SCRAM_KEY bytes, of which the hash's are written. */
static void hmac_sha1(const uint8_t *key, size_t key_n, struct span data, uint8_t *out)
{
    unsigned n;
    if (!HMAC(EVP_sha1(), key, (int)key_n, (const unsigned char *)data.p, data.n, out, &n))
        abort(); /* out of memory */
}

static void hmac(enum scram_hash hash, const uint8_t *key, size_t key_n, struct span data, uint8_t *out)
{
    crypto_auth_hmacsha256_state h;
    if (hash == SCRAM_SHA_1) {
        hmac_sha1(key, key_n, data, out);
        return;
    }
    crypto_auth_hmacsha256_init(&h, key, key_n);
    crypto_auth_hmacsha256_update(&h, (const unsigned char *)data.p, data.n);
    crypto_auth_hmacsha256_final(&h, out);
    sodium_memzero(&h, sizeof(h));
}

static void digest(enum scram_hash hash, const uint8_t *in, uint8_t *out)
{
    if (hash == SCRAM_SHA_256)
        crypto_hash_sha256(out, in, hashes[hash].key);
    else if (!EVP_Digest(in, hashes[hash].key, out, NULL, EVP_sha1(), NULL))
        abort();
}

void scram_warm(void)
{
    uint8_t out[SCRAM_KEY];
    OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CONFIG, NULL);
    hmac_sha1((const uint8_t *)"k", 1, SPAN("warm"), out);
    digest(SCRAM_SHA_1, out, out);
}

/* Hi() of RFC5802:2.2, PBKDF2 with one block. The keyed state is made once and copied. */
static void salted_sha256(struct span password, const uint8_t *salt, uint32_t iterations, uint8_t *out)
{
    static const unsigned char one[4] = {0, 0, 0, 1};
    crypto_auth_hmacsha256_state keyed, h;
    uint8_t u[SCRAM_KEY];
    crypto_auth_hmacsha256_init(&keyed, (const unsigned char *)password.p, password.n);
    h = keyed;
    crypto_auth_hmacsha256_update(&h, salt, SCRAM_SALT);
    crypto_auth_hmacsha256_update(&h, one, sizeof(one));
    crypto_auth_hmacsha256_final(&h, u);
    memcpy(out, u, SCRAM_KEY);
    for (uint32_t i = 1; i < iterations; i++) {
        h = keyed;
        crypto_auth_hmacsha256_update(&h, u, sizeof(u));
        crypto_auth_hmacsha256_final(&h, u);
        for (size_t k = 0; k < SCRAM_KEY; k++)
            out[k] ^= u[k];
    }
    sodium_memzero(&keyed, sizeof(keyed));
    sodium_memzero(&h, sizeof(h));
    sodium_memzero(u, sizeof(u));
}

static void salted(enum scram_hash hash, struct span password, const uint8_t *salt, uint32_t iterations, uint8_t *out)
{
    if (hash == SCRAM_SHA_256)
        salted_sha256(password, salt, iterations, out);
    else if (!PKCS5_PBKDF2_HMAC(password.p, (int)password.n, salt, SCRAM_SALT, (int)iterations, EVP_sha1(),
                                (int)hashes[hash].key, out))
        abort();
}

void scram_derive(enum scram_hash hash, struct span password, const uint8_t *salt, uint32_t iterations,
                  struct scram_verifier *v)
{
    uint8_t key[SCRAM_KEY], client[SCRAM_KEY];
    size_t n = hashes[hash].key;
    memmove(v->salt, salt, SCRAM_SALT);
    v->hash = hash;
    v->iterations = iterations;
    salted(hash, password, v->salt, iterations, key);
    hmac(hash, key, n, SPAN("Client Key"), client);
    digest(hash, client, v->stored_key);
    hmac(hash, key, n, SPAN("Server Key"), v->server_key);
    sodium_memzero(key, sizeof(key));
    sodium_memzero(client, sizeof(client));
}

void scram_fake(enum scram_hash hash, const uint8_t *secret, struct span name, struct scram_verifier *v)
{
    uint8_t made[SCRAM_KEY];
    hmac(SCRAM_SHA_256, secret, SCRAM_KEY, name, made);
    if (hash != SCRAM_SHA_256) /* two salts of one name that are the same would show that it is not there */
        hmac(SCRAM_SHA_256, made, SCRAM_KEY, hashes[hash].prefix, made);
    *v = (struct scram_verifier){.hash = hash, .iterations = SCRAM_ITERATIONS};
    memcpy(v->salt, made, SCRAM_SALT);
    randombytes_buf(v->stored_key, SCRAM_KEY);
    randombytes_buf(v->server_key, SCRAM_KEY);
}

/* ---- verifiers as text ---- */

static void put64(struct buf *out, const void *bytes, size_t n)
{
    base64_encode(span_make(bytes, n), out);
}

void scram_put(const struct scram_verifier *v, char *out)
{
    struct buf b = {0};
    buf_printf(&b, "%.*s%u:", SPANV(hashes[v->hash].prefix), v->iterations);
    put64(&b, v->salt, SCRAM_SALT);
    buf_addc(&b, '$');
    put64(&b, v->stored_key, hashes[v->hash].key);
    buf_addc(&b, ':');
    put64(&b, v->server_key, hashes[v->hash].key);
    snprintf(out, SCRAM_TEXT_MAX, "%s", buf_cstr(&b));
    sodium_memzero(b.p, b.n);
    buf_free(&b);
}

static bool get64(struct span text, void *out, size_t n)
{
    struct buf b = {0};
    bool good = base64_decode(text, &b) == 0 && b.n == n;
    if (good)
        memcpy(out, b.p, n);
    buf_free(&b);
    return good;
}

bool scram_read(struct span text, struct scram_verifier *v)
{
    uint64_t iterations;
    int hash = 0;
    while (hash < SCRAM_HASHES && !span_starts(text, hashes[hash].prefix))
        hash++;
    if (hash == SCRAM_HASHES)
        return false;
    size_t n = hashes[hash].key;
    v->hash = (enum scram_hash)hash;
    text = span_from(text, hashes[hash].prefix.n);
    if (!span_u64(span_cut(&text, ':'), SCRAM_ITERATIONS_MAX, &iterations) || iterations < 4096)
        return false;
    v->iterations = (uint32_t)iterations;
    return get64(span_cut(&text, '$'), v->salt, SCRAM_SALT) && get64(span_cut(&text, ':'), v->stored_key, n) &&
           get64(text, v->server_key, n);
}

/* ---- the exchange ---- */

struct scram *scram_new(enum scram_hash hash, bool plus, const struct scram_channel *channel)
{
    struct scram *s = mem_alloc(sizeof(*s));
    s->hash = hash;
    s->plus = plus;
    s->channel = channel;
    return s;
}

void scram_free(struct scram **sp)
{
    struct scram *s = *sp;
    if (!s)
        return;
    buf_free(&s->gs2);
    buf_free(&s->bare);
    buf_free(&s->nonce);
    buf_free(&s->server_first);
    buf_free(&s->out);
    if (s->further)
        sodium_memzero(s->further, s->further_n * sizeof(*s->further));
    mem_free(&s->further);
    sodium_memzero(s, sizeof(*s));
    mem_free(sp);
}

struct span scram_user(const struct scram *s)
{
    return (struct span){s->user, s->user_n};
}

struct span scram_authzid(const struct scram *s)
{
    return (struct span){s->authzid, s->authzid_n};
}

/* saslname, RFC5802:5.1: "=2C" is a comma, "=3D" an equals sign, no other "=". */
static bool take_name(struct span text, char *to, size_t *to_n)
{
    size_t n = 0;
    if (text.n == 0 || !span_is_utf8(text) || span_find(text, '\0') >= 0)
        return false;
    while (text.n) {
        char c = text.p[0];
        size_t used = 1;
        if (c == '=') {
            if (!span_starts(text, SPAN("=2C")) && !span_starts(text, SPAN("=3D")))
                return false;
            c = text.p[1] == '2' ? ',' : '=';
            used = 3;
        }
        if (n == SCRAM_NAME_MAX)
            return false;
        to[n++] = c;
        text = span_from(text, used);
    }
    *to_n = n;
    return true;
}

/* RFC5802:5.1: printable ASCII without the comma. */
static bool nonce_good(struct span nonce)
{
    for (size_t i = 0; i < nonce.n; i++)
        if (nonce.p[i] < 0x21 || nonce.p[i] > 0x7e || nonce.p[i] == ',')
            return false;
    return nonce.n > 0 && nonce.n <= SCRAM_NONCE_MAX;
}

/* RFC5802:6: what the client says of channel binding must fit the mechanism and what we can. */
static const char *take_flag(struct scram *s, struct span flag)
{
    const struct scram_channel *c = s->channel;
    bool can_bind = c->exporter.n || c->end_point.n;
    if (span_eqs(flag, "n"))
        return s->plus ? "-PLUS without a channel binding" : NULL;
    if (span_eqs(flag, "y")) /* it can bind and believes that we can't: somebody took -PLUS off our list */
        return s->plus    ? "-PLUS without a channel binding"
               : can_bind ? "downgrade: the client did not see -PLUS"
                          : NULL;
    if (!span_starts(flag, SPAN("p=")))
        return "not a channel binding flag";
    if (!s->plus)
        return "a channel binding without -PLUS";
    struct span name = span_from(flag, 2);
    if (span_eqs(name, "tls-exporter"))
        s->binding = c->exporter;
    else if (span_eqs(name, "tls-server-end-point"))
        s->binding = c->end_point;
    return s->binding.n ? NULL : "a channel binding that this connection does not have";
}

static const char *take_bare(struct scram *s, struct span bare)
{
    struct span name = span_cut(&bare, ','), nonce = span_cut(&bare, ',');
    if (span_starts(name, SPAN("m="))) /* RFC5802:5.1: an extension that must be understood */
        return "an unknown mandatory extension";
    if (!span_starts(name, SPAN("n=")) || !take_name(span_from(name, 2), s->user, &s->user_n))
        return "a name that is empty, too long or not well-formed";
    if (!span_starts(nonce, SPAN("r=")) || !nonce_good(span_from(nonce, 2)))
        return "a nonce that is empty, too long or not well-formed";
    buf_add(&s->nonce, span_from(nonce, 2));
    return NULL; /* what follows are extensions that may be ignored */
}

const char *scram_client_first(struct scram *s, struct span message)
{
    struct span rest = message;
    if (message.n > SCRAM_MESSAGE_MAX || span_find(message, '\0') >= 0 || !span_is_utf8(message))
        return "a first message that is too long or not UTF-8";
    const char *why = take_flag(s, span_cut(&rest, ','));
    if (why)
        return why;
    if (!rest.n || (rest.p[0] != ',' && !span_starts(rest, SPAN("a="))))
        return "a first message without its header";
    struct span authzid = span_cut(&rest, ',');
    if (authzid.n && !take_name(span_from(authzid, 2), s->authzid, &s->authzid_n))
        return "an authorization identity that is empty, too long or not well-formed";
    buf_add(&s->gs2, span_sub(message, 0, message.n - rest.n));
    buf_add(&s->bare, rest);
    return take_bare(s, rest);
}

struct span scram_server_first(struct scram *s, const struct scram_verifier *v, bool known)
{
    uint8_t random[NONCE_BYTES];
    s->verifier = *v;
    s->known = known;
    if (s->channel->nonce.n) {
        buf_add(&s->nonce, s->channel->nonce);
    } else {
        randombytes_buf(random, sizeof(random));
        put64(&s->nonce, random, sizeof(random));
    }
    buf_adds(&s->server_first, "r=");
    buf_add(&s->server_first, buf_span(&s->nonce));
    buf_adds(&s->server_first, ",s=");
    put64(&s->server_first, v->salt, SCRAM_SALT);
    buf_printf(&s->server_first, ",i=%u", v->iterations);
    return buf_span(&s->server_first);
}

void scram_also(struct scram *s, const struct scram_verifier *v, int64_t tag)
{
    const struct scram_verifier *shown = &s->verifier;
    if (v->hash != s->hash || v->iterations != shown->iterations || memcmp(v->salt, shown->salt, SCRAM_SALT) != 0)
        return;
    struct further *all = mem_array(s->further_n + 1, sizeof(*all));
    if (s->further_n)
        memcpy(all, s->further, s->further_n * sizeof(*all));
    all[s->further_n] = (struct further){tag, *v};
    if (s->further)
        sodium_memzero(s->further, s->further_n * sizeof(*all));
    mem_free(&s->further);
    s->further = all;
    s->further_n++;
}

int64_t scram_proven_by(const struct scram *s)
{
    return s->proven_by;
}

/* c=: the header of the first message and the bytes of the binding, which the client can only know from our channel. */
static bool binding_right(const struct scram *s, struct span text)
{
    struct buf got = {0}, want = {0};
    buf_add(&want, buf_span(&s->gs2));
    buf_add(&want, s->binding);
    bool right = base64_decode(text, &got) == 0 && got.n == want.n && sodium_memcmp(got.p, want.p, want.n) == 0;
    buf_free(&got);
    buf_free(&want);
    return right;
}

static void auth_message(const struct scram *s, struct span final_bare, struct buf *out)
{
    buf_add(out, buf_span(&s->bare));
    buf_addc(out, ',');
    buf_add(out, buf_span(&s->server_first));
    buf_addc(out, ',');
    buf_add(out, final_bare);
}

/* RFC5802:3: H(ClientProof XOR HMAC(StoredKey, AuthMessage)) is StoredKey. */
static bool proof_of(const struct scram_verifier *v, const uint8_t *proof, struct span said)
{
    uint8_t key[SCRAM_KEY], hash[SCRAM_KEY];
    size_t n = hashes[v->hash].key;
    hmac(v->hash, v->stored_key, n, said, key);
    for (size_t i = 0; i < n; i++)
        key[i] ^= proof[i];
    digest(v->hash, key, hash);
    sodium_memzero(key, sizeof(key));
    return sodium_memcmp(hash, v->stored_key, n) == 0;
}

/* The verifier that it is a proof of; NULL: of none. Every one is tried, whichever it is. */
static const struct scram_verifier *proven(struct scram *s, const uint8_t *proof, struct span said)
{
    const struct scram_verifier *found = proof_of(&s->verifier, proof, said) && s->known ? &s->verifier : NULL;
    for (size_t i = 0; i < s->further_n; i++)
        if (proof_of(&s->further[i].v, proof, said) && !found) {
            found = &s->further[i].v;
            s->proven_by = s->further[i].tag;
        }
    return found;
}

static void server_final(struct scram *s, const struct scram_verifier *v, struct span said)
{
    uint8_t signature[SCRAM_KEY];
    hmac(s->hash, v->server_key, hashes[s->hash].key, said, signature);
    buf_adds(&s->out, "v=");
    put64(&s->out, signature, hashes[s->hash].key);
}

const char *scram_client_final(struct scram *s, struct span message, struct span *out)
{
    uint8_t proof[SCRAM_KEY];
    struct span rest = message, bound = span_cut(&rest, ','), nonce = span_cut(&rest, ',');
    ptrdiff_t at = span_rfind(message, ',');
    *out = SPAN_NONE;
    if (message.n > SCRAM_MESSAGE_MAX || !span_starts(bound, SPAN("c=")) || !span_starts(nonce, SPAN("r=")) || at < 0)
        return "a final message that is too long or not well-formed";
    struct span last = span_from(message, (size_t)at + 1);
    if (!span_starts(last, SPAN("p=")) || !get64(span_from(last, 2), proof, hashes[s->hash].key))
        return "a final message without a proof";
    nonce = span_from(nonce, 2);
    if (nonce.n != s->nonce.n || sodium_memcmp(nonce.p, s->nonce.p, nonce.n) != 0)
        return "another nonce";
    if (!binding_right(s, span_from(bound, 2)))
        return "the channel binding is not that of this connection";
    struct buf said = {0};
    auth_message(s, span_sub(message, 0, (size_t)at), &said);
    const struct scram_verifier *right = proven(s, proof, buf_span(&said));
    if (right)
        server_final(s, right, buf_span(&said));
    buf_free(&said);
    *out = buf_span(&s->out);
    return right ? NULL : "wrong password";
}
