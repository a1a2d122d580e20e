/* What the supervisor hands to a program: listening sockets and certificates, one set for each generation of the
 * configuration. */
#ifndef SERVICE_HANDED_H
#define SERVICE_HANDED_H

#include "base/list.h"
#include "service/service.h"

struct handed {
    struct service_listener *list;
    uint16_t *instances; /* of the list, until handed_tie() knows their sections */
    size_t count;
    struct link certs;
};

void handed_init(struct handed *h);
void handed_free(struct handed *h); /* closes all that is left */
void handed_listener(struct handed *h, const struct msg_listener *m, int fd);
void handed_cert(struct handed *h, const struct msg_cert_file *m, int fd);
int handed_cert_fd(struct handed *h, unsigned instance, unsigned what); /* at offset 0; -1: none */
/* Ties the sockets to the sections of that configuration; one without a section is closed. */
void handed_tie(struct handed *h, const struct conf *conf);
/* A socket that stays keeps the descriptor it had in `old`, so that the program need not touch it. */
void handed_keep(struct handed *next, struct handed *old);
void handed_move(struct handed *to, struct handed *from); /* `to` was init()ed and holds nothing */

#endif
