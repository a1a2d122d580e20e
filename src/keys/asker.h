/* The front's side of keyd: a signer (net/signer.h) that asks over the channel. A keyd that dies is asked again when it
 * is back, within the message's deadline; a request that it died of several times is given up. */
#ifndef KEYS_ASKER_H
#define KEYS_ASKER_H

#include "ipc/chan.h"
#include "net/signer.h"

struct asker {
    struct signer signer;
    struct loop *loop;
    struct chan *keyd;
};

/* The asker belongs to the caller, as the channel does; both outlive every TLS context made with the signer. */
void asker_init(struct asker *a, struct loop *l, struct chan *keyd);

#endif
