/* Landlock (kernel 5.13 and newer): nothing of the file system but the role's own folder, and from later versions on
 * no new TCP connections, no signals and no abstract sockets beyond ourselves. Uses what the running kernel offers:
 * its versions only add. */
#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "service/sandbox_impl.h"

/* From the kernel's interface (linux/landlock.h), complete here because the headers we build with may be older than
 * the kernel. */
struct ruleset_attr {
    uint64_t handled_access_fs, handled_access_net, scoped;
};
struct path_beneath_attr {
    uint64_t allowed_access;
    int32_t parent_fd;
} __attribute__((packed));

enum {
    FS_EXECUTE = 1 << 0,
    FS_WRITE_FILE = 1 << 1,
    FS_READ_FILE = 1 << 2,
    FS_READ_DIR = 1 << 3,
    FS_REMOVE_DIR = 1 << 4,
    FS_REMOVE_FILE = 1 << 5,
    FS_MAKE_CHAR = 1 << 6,
    FS_MAKE_DIR = 1 << 7,
    FS_MAKE_REG = 1 << 8,
    FS_MAKE_SOCK = 1 << 9,
    FS_MAKE_FIFO = 1 << 10,
    FS_MAKE_BLOCK = 1 << 11,
    FS_MAKE_SYM = 1 << 12,
    FS_REFER = 1 << 13,
    FS_TRUNCATE = 1 << 14,
    FS_IOCTL_DEV = 1 << 15,
};
enum { NET_BIND_TCP = 1, NET_CONNECT_TCP = 2 };
enum { SCOPE_ABSTRACT_UNIX_SOCKET = 1, SCOPE_SIGNAL = 2 };
#define CREATE_RULESET_VERSION 1
#define RULE_PATH_BENEATH 1

#define FS_ABI_1 ((UINT64_C(1) << 13) - 1)
#define FS_FOLDER                                                                                              \
    (FS_WRITE_FILE | FS_READ_FILE | FS_READ_DIR | FS_REMOVE_DIR | FS_REMOVE_FILE | FS_MAKE_DIR | FS_MAKE_REG | \
     FS_REFER | FS_TRUNCATE)

int sandbox_landlock_abi(void)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_RULESET_VERSION);
    return abi > 0 ? (int)abi : 0;
}

static uint64_t handled_fs(int abi)
{
    return FS_ABI_1 | (abi >= 2 ? FS_REFER : 0) | (abi >= 3 ? FS_TRUNCATE : 0) | (abi >= 5 ? FS_IOCTL_DEV : 0);
}

static int allow_beneath(int ruleset, const char *path, uint64_t access, struct err *err)
{
    struct path_beneath_attr rule = {.allowed_access = access};
    rule.parent_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (rule.parent_fd < 0)
        return err_errno(err, "landlock: %s", path);
    long r = syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &rule, 0);
    int why = errno;
    close(rule.parent_fd);
    errno = why;
    return r ? err_errno(err, "landlock: %s", path) : 0;
}

int sandbox_landlock(const char *dir, bool dials, int *abi, struct err *err)
{
    *abi = sandbox_landlock_abi();
    if (*abi == 0)
        return 0;
    struct ruleset_attr attr = {.handled_access_fs = handled_fs(*abi)};
    if (*abi >= 4 && !dials)
        attr.handled_access_net = NET_BIND_TCP | NET_CONNECT_TCP;
    if (*abi >= 6)
        attr.scoped = SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL;
    size_t size = *abi >= 6   ? sizeof attr
                  : *abi >= 4 ? offsetof(struct ruleset_attr, scoped)
                              : offsetof(struct ruleset_attr, handled_access_net);
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
    if (ruleset < 0)
        return err_errno(err, "landlock");
    int r = dir ? allow_beneath(ruleset, dir, FS_FOLDER & attr.handled_access_fs, err) : 0;
#ifdef WAYPOST_SANITIZE
    if (r == 0) /* the sanitizers read their own maps */
        r = allow_beneath(ruleset, "/proc", FS_READ_FILE | FS_READ_DIR, err);
#endif
    if (r == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0))
        r = err_errno(err, "landlock");
    close(ruleset);
    return r;
}
