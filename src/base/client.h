/* A client, as limits count it: an IPv4 address, or an IPv6 /64 (whoever has one address of it has all). IPv4 inside
 * IPv6 (::ffff:0:0/96) is IPv4. Networks as configuration names them. */
#ifndef BASE_CLIENT_H
#define BASE_CLIENT_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "base/span.h"

#define CLIENT_TEXT_MAX 64

/* An address as text. False: it isn't one. */
bool client_address(struct span text, struct sockaddr_storage *out);
/* The client's number: the upper half of its IPv6 address; 2^32 + an IPv4 address, which lies in ::/8, where no client
 * can be. Never 0. */
uint64_t client_key(const struct sockaddr_storage *a);
/* The same of an address as text. False: it isn't one. */
bool client_key_parse(struct span address, uint64_t *key);
/* "192.0.2.1", "2001:db8:1:2::/64". */
void client_text(uint64_t key, char out[CLIENT_TEXT_MAX]);

/* A network: an address and how many of its bits count. IPv4 is kept as IPv6. */
struct network {
    uint8_t address[16];
    uint8_t bits;
};

/* "192.0.2.0/24", "2001:db8::/32", or a single address. False: it isn't one; bits behind the mask may be set. */
bool network_parse(struct span text, struct network *out);
bool network_has(const struct network *n, const struct sockaddr_storage *a);
bool networks_have(const struct network *list, size_t n, const struct sockaddr_storage *a);
#endif
