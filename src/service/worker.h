/* What a child of the zygote runs: the one process of one account. Declared here, supplied by mda/ at link time, so
 * that zygote/ includes no other program's folder. */
#ifndef SERVICE_WORKER_H
#define SERVICE_WORKER_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/conf.h"

struct worker_start {
    uint32_t account;
    uint32_t uid; /* the account's; already ours when as_root */
    bool as_root;
    const char *login;       /* the account's canonical address */
    const char *dir;         /* its folder, made by the zygote's child and open to us alone */
    const char *boot_id;     /* the kernel's id of this boot, read before the sandbox */
    const struct conf *conf; /* one reference, the worker's */
    int control_fd;          /* to the zygote: peer_end, drain; its end means: leave */
    int authd_fd, qmgr_fd;   /* our ends of the first pairs */
};

/* Runs until the worker leaves; the return value is the exit status. Called in the child after the fork, with the
 * account's uid taken on and the sandbox of ROLE_MDA entered (sandbox_enter_worker); no other thread runs. */
int worker_run(const struct worker_start *w);

#endif
