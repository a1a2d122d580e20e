/* PEM: files, read from descriptors, and what stands in them. What held a private key is wiped. libcrypto only. */
#ifndef NET_PEM_H
#define NET_PEM_H

#include <openssl/evp.h>
#include <stddef.h>

#include "base/err.h"
#include "base/span.h"

/* Reads a whole PEM file from a descriptor (offset 0 up, which stays as it is), at most 1 MiB; wipe and free with
 * pem_free. */
int pem_read(int fd, char **pem, size_t *n, struct err *err);
void pem_free(char **pem, size_t n);
/* NULL: err says why not. Never asks for a password. */
EVP_PKEY *pem_private_key(struct span pem, struct err *err);
/* The last thing that PEM reading said was that nothing more is there; the errors are forgotten. */
bool pem_ended(void);

#endif
