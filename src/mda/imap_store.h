/* The mailboxes of the IMAP engine over the account's store. */
#ifndef MDA_IMAP_STORE_H
#define MDA_IMAP_STORE_H

#include "imap/backend.h"
#include "store/store.h"

/* Its functions take the struct store as their ctx. */
extern const struct imap_backend imap_store;

#endif
