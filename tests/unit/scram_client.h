/* For tests: a client's side of SCRAM-SHA-256. */
#ifndef TESTS_SCRAM_CLIENT_H
#define TESTS_SCRAM_CLIENT_H

#include "base/buf.h"

/* The final message. bound: what the client believes its channel is; bare: its first message without the header gs2. */
void scram_client_answer(struct span gs2, struct span bound, struct span bare, struct span server_first,
                         struct span password, struct buf *out);

#endif
