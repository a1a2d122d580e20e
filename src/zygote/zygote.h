/* The prepared parent of the mda processes: what its files share. It links no TLS, opens no mail, and knows of each
 * child only its account and its pid. */
#ifndef ZYGOTE_ZYGOTE_H
#define ZYGOTE_ZYGOTE_H

#include <sys/types.h>

#include "base/map.h"
#include "service/service.h"

#define BOOT_ID_SIZE 40

struct zygote {
    struct service *service;
    struct idmap by_account, by_pid; /* to struct mda */
    struct signal_watch *children;
    char boot_id[BOOT_ID_SIZE];
};

/* What a child starts with. */
struct child {
    uint32_t account, uid;
    const char *login;
    int control_fd, authd_fd, qmgr_fd;
};

/* child.c: never returns. In the child, right after the fork. */
void child_run(struct zygote *z, struct child c) __attribute__((noreturn));

/* mdas.c */
void mdas_fork(struct zygote *z, struct chan *from, const struct msg *m); /* mda_fork: answers it */
void mdas_fresh_pairs(struct zygote *z, struct chan *peer); /* authd or qmgr is new: it gets an end for each mda */
void mdas_reap(struct zygote *z);
void mdas_drain(struct zygote *z); /* all of them; service_done() when the last has left */
void mdas_free(struct zygote *z);

#endif
