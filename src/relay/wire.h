/* Domains and addresses as they go on the wire: internationalized domains as A-labels (IDNA2008, through libidn2). */
#ifndef RELAY_WIRE_H
#define RELAY_WIRE_H

#include "base/arena.h"

/* The domain in lower case and A-labels; an address literal stays as it is. Empty when it can't be one. */
struct span wire_domain(struct arena *a, struct span domain);
/* The address with its domain in A-labels; the local part stays. An address that needs no change is given back as it is. */
struct span wire_address(struct arena *a, struct span address);

#endif
