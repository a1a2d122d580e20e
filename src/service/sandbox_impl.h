/* What the files of the sandbox share. */
#ifndef SERVICE_SANDBOX_IMPL_H
#define SERVICE_SANDBOX_IMPL_H

#include <stddef.h>

#include "service/sandbox.h"

/* dir: the only folder, NULL none. dials: may connect. *abi: 0 when the kernel has no Landlock, which is no error. */
int sandbox_landlock(const char *dir, bool dials, int *abi, struct err *err);
/* The filter of those sets of system calls. uids: the range that SANDBOX_CALLS_FORK may take on. */
int sandbox_seccomp(unsigned calls, uint32_t uid_first, uint32_t uid_last, struct err *err);

#endif
