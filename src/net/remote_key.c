/* The provider: key management and signatures for RSA and EC, as far as the server's side of TLS 1.2 and 1.3 goes.
 *
 * A key is its public half, kept as a key of the default provider, and a signer. The library hands the whole content to
 * DigestSign in one call (RFC 8446 §4.4.3, RFC 8422 §5.4); update and final are not served, nor are decryption and raw
 * signatures. The key can't be exported, so that no other provider is tried with it. */
#include "net/remote_key.h"

#include <openssl/async.h>
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <string.h>

#include "base/mem.h"
#include "base/util.h"

#define PROVIDER "waypost"
#define ONLY_OURS "provider=" PROVIDER
#define MAKING "waypost-making" /* the parameter that says how to make a key: a struct making by value */

struct making {
    EVP_PKEY *public;
    const struct signer *signer;
};

struct remote_key {
    EVP_PKEY *public;
    const struct signer *signer; /* NULL: the public half alone, for a comparison */
    uint8_t id[SIGNER_KEY_BYTES];
};

static struct remote_sign *current;
static OSSL_PROVIDER *volatile held[2]; /* for as long as the process runs */

void remote_key_current(struct remote_sign *r)
{
    current = r;
}

/* ---- keys ---- */

static void *key_new(void *provider UNUSED)
{
    return mem_alloc(sizeof(struct remote_key));
}

static void key_free(void *k)
{
    struct remote_key *key = k;
    if (!key)
        return;
    EVP_PKEY_free(key->public);
    mem_free(&key);
}

static int key_has(const void *k, int selection)
{
    const struct remote_key *key = k;
    if (!key || !key->public)
        return 0;
    return !(selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) || key->signer;
}

static int key_match(const void *a, const void *b, int selection UNUSED)
{
    const struct remote_key *x = a, *y = b;
    return x->public && y->public && EVP_PKEY_eq(x->public, y->public) == 1;
}

static int key_id(struct remote_key *key)
{
    unsigned char *der = NULL;
    int n = i2d_PUBKEY(key->public, &der);
    if (n <= 0)
        return 0;
    SHA256(der, (size_t)n, key->id);
    OPENSSL_free(der);
    return 1;
}

/* Of another provider's key: the public half of it, which is all that a comparison needs. */
static int import_public(struct remote_key *key, const char *kind, const OSSL_PARAM params[])
{
    EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_name(NULL, kind, "provider=default");
    int ok = c && EVP_PKEY_fromdata_init(c) == 1 &&
             EVP_PKEY_fromdata(c, &key->public, EVP_PKEY_PUBLIC_KEY, (OSSL_PARAM *)params) == 1;
    EVP_PKEY_CTX_free(c);
    return ok;
}

static int import(struct remote_key *key, const char *kind, const OSSL_PARAM params[])
{
    const OSSL_PARAM *p = OSSL_PARAM_locate_const(params, MAKING);
    struct making m;
    if (key->public)
        return 0;
    if (!p)
        return import_public(key, kind, params);
    if (p->data_type != OSSL_PARAM_OCTET_STRING || p->data_size != sizeof m || !p->data)
        return 0;
    memcpy(&m, p->data, sizeof m);
    if (!EVP_PKEY_up_ref(m.public))
        return 0;
    key->public = m.public;
    key->signer = m.signer;
    return key_id(key);
}

static int rsa_import(void *key, int selection UNUSED, const OSSL_PARAM params[])
{
    return import(key, "RSA", params);
}

static int ec_import(void *key, int selection UNUSED, const OSSL_PARAM params[])
{
    return import(key, "EC", params);
}

static const OSSL_PARAM *rsa_import_types(int selection UNUSED)
{
    static const OSSL_PARAM types[] = {OSSL_PARAM_octet_string(MAKING, NULL, 0),
                                       OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_N, NULL, 0),
                                       OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_E, NULL, 0), OSSL_PARAM_END};
    return types;
}

static const OSSL_PARAM *ec_import_types(int selection UNUSED)
{
    static const OSSL_PARAM types[] = {OSSL_PARAM_octet_string(MAKING, NULL, 0),
                                       OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
                                       OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0), OSSL_PARAM_END};
    return types;
}

static int key_get_params(void *k, OSSL_PARAM params[])
{
    struct remote_key *key = k;
    return key->public && EVP_PKEY_get_params(key->public, params);
}

static const OSSL_PARAM *key_gettable(void *provider UNUSED)
{
    static const OSSL_PARAM list[] = {OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
                                      OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
                                      OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
                                      OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_DEFAULT_DIGEST, NULL, 0),
                                      OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0), OSSL_PARAM_END};
    return list;
}

static const char *rsa_operation(int operation UNUSED)
{
    return "RSA";
}

static const char *ec_operation(int operation UNUSED)
{
    return "ECDSA";
}

#define ENTRY(id, fn) {id, (void (*)(void))fn}
#define KEY_ENTRIES                                                                                       \
    ENTRY(OSSL_FUNC_KEYMGMT_NEW, key_new), ENTRY(OSSL_FUNC_KEYMGMT_FREE, key_free),                       \
        ENTRY(OSSL_FUNC_KEYMGMT_HAS, key_has), ENTRY(OSSL_FUNC_KEYMGMT_MATCH, key_match),                 \
        ENTRY(OSSL_FUNC_KEYMGMT_GET_PARAMS, key_get_params), ENTRY(OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, key_gettable)

static const OSSL_DISPATCH rsa_keys[] = {KEY_ENTRIES, ENTRY(OSSL_FUNC_KEYMGMT_IMPORT, rsa_import),
                                         ENTRY(OSSL_FUNC_KEYMGMT_IMPORT_TYPES, rsa_import_types),
                                         ENTRY(OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, rsa_operation),
                                         {0, NULL}};
static const OSSL_DISPATCH ec_keys[] = {KEY_ENTRIES, ENTRY(OSSL_FUNC_KEYMGMT_IMPORT, ec_import),
                                        ENTRY(OSSL_FUNC_KEYMGMT_IMPORT_TYPES, ec_import_types),
                                        ENTRY(OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, ec_operation),
                                        {0, NULL}};

/* ---- signatures ---- */

struct signature {
    const struct remote_key *key;
    bool rsa, pss, other_padding;
    int hash; /* NID */
};

static void *rsa_signature_new(void *provider UNUSED, const char *query UNUSED)
{
    struct signature *s = mem_alloc(sizeof *s);
    s->rsa = true;
    return s;
}

static void *ec_signature_new(void *provider UNUSED, const char *query UNUSED)
{
    return mem_alloc(sizeof(struct signature));
}

static void signature_free(void *ctx)
{
    mem_free(&ctx);
}

static int take_padding(struct signature *s, const OSSL_PARAM *p)
{
    int number = 0;
    if (p->data_type == OSSL_PARAM_UTF8_STRING && p->data) {
        s->pss = strcmp(p->data, OSSL_PKEY_RSA_PAD_MODE_PSS) == 0;
        s->other_padding = !s->pss && strcmp(p->data, OSSL_PKEY_RSA_PAD_MODE_PKCSV15) != 0;
        return !s->other_padding;
    }
    if (!OSSL_PARAM_get_int(p, &number))
        return 0;
    s->pss = number == RSA_PKCS1_PSS_PADDING;
    s->other_padding = !s->pss && number != RSA_PKCS1_PADDING;
    return !s->other_padding;
}

/* RFC8446:4.2.3 the salt is as long as the digest; no other length has a name on the wire. */
static int take_salt(const OSSL_PARAM *p)
{
    int number = 0;
    if (p->data_type == OSSL_PARAM_UTF8_STRING && p->data)
        return strcmp(p->data, OSSL_PKEY_RSA_PSS_SALT_LEN_DIGEST) == 0;
    return OSSL_PARAM_get_int(p, &number) && number == RSA_PSS_SALTLEN_DIGEST;
}

static int signature_set(void *ctx, const OSSL_PARAM params[])
{
    struct signature *s = ctx;
    const OSSL_PARAM *padding = params ? OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PAD_MODE) : NULL;
    const OSSL_PARAM *salt = params ? OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PSS_SALTLEN) : NULL;
    return (!padding || (s->rsa && take_padding(s, padding))) && (!salt || take_salt(salt));
}

static const OSSL_PARAM *signature_settable(void *ctx UNUSED, void *provider UNUSED)
{
    static const OSSL_PARAM list[] = {OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, NULL, 0),
                                      OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, NULL, 0),
                                      OSSL_PARAM_END};
    return list;
}

static int digest_sign_init(void *ctx, const char *digest, void *key, const OSSL_PARAM params[])
{
    struct signature *s = ctx;
    const EVP_MD *md = digest ? EVP_get_digestbyname(digest) : NULL;
    if (key)
        s->key = key;
    if (md)
        s->hash = EVP_MD_get_type(md);
    return s->key && s->key->signer && s->hash && signature_set(s, params);
}

/* RFC8446:4.2.3 RFC5246:7.4.1.4.1 zero: none that we serve. */
static uint16_t scheme_of(const struct signature *s)
{
    static const struct {
        int hash;
        uint16_t pkcs1, pss, ecdsa;
    } schemes[] = {{NID_sha256, 0x0401, 0x0804, 0x0403},
                   {NID_sha384, 0x0501, 0x0805, 0x0503},
                   {NID_sha512, 0x0601, 0x0806, 0x0603}};
    for (size_t i = 0; i < COUNT_OF(schemes) && !s->other_padding; i++)
        if (schemes[i].hash == s->hash)
            return !s->rsa ? schemes[i].ecdsa : s->pss ? schemes[i].pss : schemes[i].pkcs1;
    return 0;
}

/* Runs on the stack of the handshake's job and pauses it until the answer is there. */
static int digest_sign(void *ctx, unsigned char *out, size_t *n, size_t room, const unsigned char *content, size_t size)
{
    const struct signature *s = ctx;
    struct remote_sign *r = current;
    uint16_t scheme = scheme_of(s);
    if (!out) {
        *n = (size_t)EVP_PKEY_get_size(s->key->public);
        return 1;
    }
    if (!r || !ASYNC_get_current_job() || scheme == 0 || r->state != REMOTE_IDLE)
        return 0;
    r->signer = s->key->signer;
    r->what.scheme = scheme;
    r->what.content = span_make(content, size);
    memcpy(r->what.key, s->key->id, sizeof r->what.key);
    r->state = REMOTE_WANTED;
    while (r->state == REMOTE_WANTED || r->state == REMOTE_ASKED)
        if (!ASYNC_pause_job())
            return 0;
    if (r->state != REMOTE_SIGNED || r->signature_n > room)
        return 0;
    memcpy(out, r->signature, r->signature_n);
    *n = r->signature_n;
    return 1;
}

#define SIGNATURE_ENTRIES                                                                               \
    ENTRY(OSSL_FUNC_SIGNATURE_FREECTX, signature_free),                                                 \
        ENTRY(OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, digest_sign_init),                                  \
        ENTRY(OSSL_FUNC_SIGNATURE_DIGEST_SIGN, digest_sign),                                            \
        ENTRY(OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS, signature_set),                                       \
        ENTRY(OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS, signature_settable), {0, NULL}

static const OSSL_DISPATCH rsa_signatures[] = {ENTRY(OSSL_FUNC_SIGNATURE_NEWCTX, rsa_signature_new), SIGNATURE_ENTRIES};
static const OSSL_DISPATCH ec_signatures[] = {ENTRY(OSSL_FUNC_SIGNATURE_NEWCTX, ec_signature_new), SIGNATURE_ENTRIES};

/* ---- the provider ---- */

/* The names are those of the default provider, as one algorithm must have the same ones everywhere. */
static const OSSL_ALGORITHM *query(void *provider UNUSED, int operation, int *no_cache)
{
    static const OSSL_ALGORITHM keys[] = {
        {"RSA:rsaEncryption:1.2.840.113549.1.1.1", ONLY_OURS, rsa_keys, NULL},
        {"EC:id-ecPublicKey:1.2.840.10045.2.1", ONLY_OURS, ec_keys, NULL},
        {NULL, NULL, NULL, NULL}};
    static const OSSL_ALGORITHM signatures[] = {
        {"RSA:rsaEncryption:1.2.840.113549.1.1.1", ONLY_OURS, rsa_signatures, NULL},
        {"ECDSA", ONLY_OURS, ec_signatures, NULL},
        {NULL, NULL, NULL, NULL}};
    *no_cache = 0;
    return operation == OSSL_OP_KEYMGMT ? keys : operation == OSSL_OP_SIGNATURE ? signatures : NULL;
}

static int start(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in UNUSED, const OSSL_DISPATCH **out, void **provider)
{
    static const OSSL_DISPATCH functions[] = {ENTRY(OSSL_FUNC_PROVIDER_QUERY_OPERATION, query), {0, NULL}};
    *out = functions;
    *provider = (void *)handle;
    return 1;
}

/* A provider that is loaded by name keeps the default one from being loaded by itself; and where both have an
 * algorithm, everybody else must get the default's. */
void remote_key_warm(void)
{
    static bool done;
    if (done)
        return;
    done = true;
    held[0] = OSSL_PROVIDER_load(NULL, "default");
    if (!ASYNC_is_capable() || !held[0] || !EVP_set_default_properties(NULL, "?provider=default") ||
        !OSSL_PROVIDER_add_builtin(NULL, PROVIDER, start) || !(held[1] = OSSL_PROVIDER_load(NULL, PROVIDER)))
        abort(); /* a broken installation of the library */
}

EVP_PKEY *remote_key_new(EVP_PKEY *public, const struct signer *signer, struct err *err)
{
    struct making m = {public, signer};
    const OSSL_PARAM params[] = {OSSL_PARAM_construct_octet_string(MAKING, &m, sizeof m), OSSL_PARAM_construct_end()};
    const char *kind = EVP_PKEY_is_a(public, "RSA") ? "RSA" : EVP_PKEY_is_a(public, "EC") ? "EC" : NULL;
    EVP_PKEY *key = NULL;
    remote_key_warm();
    if (!kind || EVP_PKEY_get_size(public) > SIGNER_SIGNATURE_MAX) {
        err_set(err, "its key is neither RSA (to 8192 bits) nor ECDSA");
        return NULL;
    }
    EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_name(NULL, kind, ONLY_OURS);
    if (!c || EVP_PKEY_fromdata_init(c) != 1 || EVP_PKEY_fromdata(c, &key, EVP_PKEY_KEYPAIR, (OSSL_PARAM *)params) != 1) {
        const char *why = ERR_reason_error_string(ERR_peek_last_error());
        err_set(err, "its key can't be used: %s", why ? why : "the library refused it");
        ERR_clear_error();
    }
    EVP_PKEY_CTX_free(c);
    return key;
}
