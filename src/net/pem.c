#include "net/pem.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <sys/types.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"

#define PEM_MAX (1u << 20)

int pem_read(int fd, char **pem, size_t *n, struct err *err)
{
    char *p = mem_alloc(PEM_MAX + 1);
    size_t have = 0;
    ssize_t r;
    while ((r = pread(fd, p + have, PEM_MAX + 1 - have, (off_t)have)) > 0)
        have += (size_t)r;
    if (r < 0)
        err_errno(err, "can't be read");
    else if (have > PEM_MAX)
        r = err_set(err, "larger than %u bytes: not a PEM file", PEM_MAX);
    else if (have == 0)
        r = err_set(err, "empty");
    if (r < 0) {
        pem_free(&p, have);
        return -1;
    }
    *pem = p;
    *n = have;
    return 0;
}

void pem_free(char **pem, size_t n)
{
    if (*pem)
        OPENSSL_cleanse(*pem, n);
    mem_free(pem);
}

/* The library would ask at the terminal. */
static int no_password(char *to, int size, int writing, void *was_asked)
{
    (void)to;
    (void)size;
    (void)writing;
    *(bool *)was_asked = true;
    return -1;
}

bool pem_ended(void)
{
    unsigned long e = ERR_peek_last_error();
    bool end = ERR_GET_LIB(e) == ERR_LIB_PEM && ERR_GET_REASON(e) == PEM_R_NO_START_LINE;
    ERR_clear_error();
    return end;
}

EVP_PKEY *pem_private_key(struct span pem, struct err *err)
{
    bool encrypted = false;
    ERR_clear_error();
    BIO *b = BIO_new_mem_buf(pem.p, (int)pem.n);
    if (!b)
        abort();
    EVP_PKEY *key = PEM_read_bio_PrivateKey(b, NULL, no_password, &encrypted);
    if (!key && encrypted)
        err_set(err, "the private key is encrypted: store it without a password");
    else if (!key && span_search(pem, SPAN("PRIVATE KEY-----")) < 0)
        err_set(err, "no private key in it (a PEM file has BEGIN PRIVATE KEY)");
    else if (!key)
        err_set(err, "the private key can't be read");
    BIO_free(b);
    ERR_clear_error();
    return key;
}
