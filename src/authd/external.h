/* EXTERNAL (RFC 4422 appendix A): which account a client's certificate may act as. */
#ifndef AUTHD_EXTERNAL_H
#define AUTHD_EXTERNAL_H

#include "auth/directory.h"
#include "conf/conf.h"

/* fingerprint: of the certificate, which verified; names: the addresses in it, a line end between; authzid: what the
 * client wants to be, empty: whose the certificate is. *why: NULL, and *out is the account, or why not, for the log.
 * -1: the directory failed. */
int external_identify(struct directory *d, const struct conf *c, const uint8_t *fingerprint, struct span names,
                      struct span authzid, struct account *out, const char **why);

#endif
