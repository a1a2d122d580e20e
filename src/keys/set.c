#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "base/mem.h"
#include "keys/keys.h"
#include "net/pem.h"

/* One key; listeners that share a file, or a key, share it. */
struct entry {
    struct link link;
    uint8_t id[SIGNER_KEY_BYTES];
    EVP_PKEY *key;
    uint32_t roles; /* FROM(role) of its listeners */
};

struct key_set {
    struct link entries;
};

struct key_set *key_set_new(void)
{
    struct key_set *s = mem_alloc(sizeof *s);
    list_init(&s->entries);
    return s;
}

void key_set_free(struct key_set **sp)
{
    struct key_set *s = *sp;
    *sp = NULL;
    if (!s)
        return;
    LIST_EACH(&s->entries, l) {
        struct entry *e = container_of(l, struct entry, link);
        EVP_PKEY_free(e->key); /* wipes it */
        mem_free(&e);
    }
    mem_free(&s);
}

static struct entry *find(const struct key_set *s, const uint8_t *id)
{
    for (struct link *l = s->entries.next; l != &s->entries; l = l->next)
        if (memcmp(container_of(l, struct entry, link)->id, id, SIGNER_KEY_BYTES) == 0)
            return container_of(l, struct entry, link);
    return NULL;
}

EVP_PKEY *key_set_find(const struct key_set *s, struct span id, enum role role)
{
    const struct entry *e = id.n == SIGNER_KEY_BYTES ? find(s, (const uint8_t *)id.p) : NULL;
    return e && (e->roles & FROM(role)) ? e->key : NULL;
}

static X509 *first_certificate(struct span pem, struct err *err)
{
    ERR_clear_error();
    BIO *b = BIO_new_mem_buf(pem.p, (int)pem.n);
    if (!b)
        abort(); /* out of memory */
    X509 *x = PEM_read_bio_X509_AUX(b, NULL, NULL, NULL);
    BIO_free(b);
    if (!x && pem_ended())
        err_set(err, "no certificate in it (a PEM file has BEGIN CERTIFICATE)");
    else if (!x)
        err_set(err, "the first certificate can't be read");
    ERR_clear_error();
    return x;
}

static int is_served(const EVP_PKEY *key, struct err *err)
{
    if (!EVP_PKEY_is_a(key, "RSA") && !EVP_PKEY_is_a(key, "EC"))
        return err_set(err, "the private key is neither RSA nor ECDSA");
    if (EVP_PKEY_get_size(key) > SIGNER_SIGNATURE_MAX)
        return err_set(err, "the private key is too long, at most 8192 bits");
    return 0;
}

static int add(struct key_set *s, EVP_PKEY *key, enum role role, struct err *err)
{
    uint8_t id[SIGNER_KEY_BYTES];
    if (keys_id(key, id))
        return err_set(err, "the private key can't be used");
    struct entry *e = find(s, id);
    if (!e) {
        e = mem_alloc(sizeof *e);
        memcpy(e->id, id, sizeof id);
        EVP_PKEY_up_ref(key);
        e->key = key;
        list_add_tail(&s->entries, &e->link);
    }
    e->roles |= FROM(role);
    return 0;
}

int key_set_add(struct key_set *s, struct span chain_pem, struct span key_pem, enum role role, struct err *err)
{
    X509 *own = first_certificate(chain_pem, err);
    EVP_PKEY *key = own ? pem_private_key(key_pem, err) : NULL;
    int r = key ? is_served(key, err) : -1;
    if (r == 0 && X509_check_private_key(own, key) != 1)
        r = err_set(err, "the private key is not the one of the certificate");
    if (r == 0)
        r = add(s, key, role, err);
    ERR_clear_error();
    EVP_PKEY_free(key);
    X509_free(own);
    return r;
}
