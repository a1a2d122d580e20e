/* Locking a program in: uid and gid, capabilities, empty root, no-new-privileges, Landlock, seccomp. What each role
 * may do stands in one table: service/roles.c. Nothing here can be undone. */
#ifndef SERVICE_SANDBOX_H
#define SERVICE_SANDBOX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "ipc/role.h"

struct sandbox_want {
    enum role role;
    bool as_root;      /* take on uid and gid, empty the root; else keep them */
    uint32_t uid, gid; /* the role's system user; for ROLE_MDA the account's */
    const char
        *dir; /* the folder the role may use (state/directory, state/queue, state/mail, an account's own); NULL: none */
    uint32_t uid_first, uid_last; /* zygote: the uids its children may take on */
};

/* What of the sandbox is in place, for the log and `waypost status`. */
struct sandbox_level {
    int landlock_abi; /* 0: the kernel has none */
    bool seccomp;
    bool empty_root; /* chroot into an empty folder */
};

/* Locks this process in. -1: it is not locked in and must not go on. */
int sandbox_enter(const struct sandbox_want *want, struct sandbox_level *level, struct err *err);
/* The zygote's child, right after the fork: as root takes on the account's uid and gid; makes its folder when it is
 * missing (0700); then the sandbox of ROLE_MDA with that folder. */
int sandbox_enter_worker(uint32_t uid, bool as_root, const char *dir, struct sandbox_level *level, struct err *err);
/* "seccomp, landlock 7, empty root", or what is missing: "seccomp, no landlock". */
#define SANDBOX_TEXT_MAX 80
void sandbox_level_text(const struct sandbox_level *level, char out[SANDBOX_TEXT_MAX]);
/* The kernel's Landlock version, 0 when it has none. */
int sandbox_landlock_abi(void);

/* ---- the table ---- */
enum sandbox_calls { /* sets of system calls, service/seccomp.c */
    SANDBOX_CALLS_BASE = 1, /* memory, threads, time, descriptors that are open already */
    SANDBOX_CALLS_FILES = 2, /* opening and changing files (where: Landlock says) */
    SANDBOX_CALLS_DIAL = 4, /* new internet sockets */
    SANDBOX_CALLS_FORK = 8, /* the zygote: children, their uids, their sandbox */
};
struct sandbox_role {
    enum role role;
    const char *program;  /* the executable */
    const char *user;     /* system user as root; NULL: root itself, or (mda) the account's uid */
    const char *group;    /* its group, when it isn't called as the user */
    const char *dir;      /* folder below state that it may use; NULL: none, and its root is empty */
    unsigned dir_mode;    /* as root; the folder belongs to the user, or with dir_shared to root and the group */
    bool dir_shared;
    unsigned calls;       /* SANDBOX_CALLS_ sets */
    uint32_t channels;    /* FROM(role) of the roles at the other ends; the supervisor always */
};
/* NULL for a role without a program of its own (the operator's command). */
const struct sandbox_role *sandbox_role(enum role role);
#define SANDBOX_ADMIN_GROUP "waypost" /* its members may use the operators' socket */

#endif
