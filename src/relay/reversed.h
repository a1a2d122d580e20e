/* Connections on which the roles are reversed (ATRN, RFC 2645): a customer's host is the server, and takes what waits for
 * its domains, one message after another. */
#ifndef RELAY_REVERSED_H
#define RELAY_REVERSED_H

#include "relay/attempt.h"

void reversed_begin(struct relay *r, uint64_t pull, int fd); /* fd is taken over */
void reversed_end(struct relay *r, uint64_t pull);           /* QUIT when it is idle */
/* The attempt waits for its turn on that connection; when that is gone it ends at once. */
void reversed_attempt(struct relay *r, struct attempt *a);
/* The attempt is over: s, still good, or NULL. */
void reversed_back(struct relay *r, uint64_t pull, struct session *s);
void reversed_drop_all(struct relay *r);

#endif
