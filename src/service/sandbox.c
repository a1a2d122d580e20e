/* Locking a program in, in the order that works: folder by its path, root, gid, uid, capabilities, no-new-privileges,
 * Landlock, seccomp. Trusts only its table (roles.c); any step that fails leaves a program that must not go on. */
#include "service/sandbox.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "service/sandbox_impl.h"

/* The sanitizers read /proc/self by its path, wherever they run: Landlock leaves them that folder and nothing else. */
#ifdef WAYPOST_SANITIZE
#define EMPTIES_ROOT false
#else
#define EMPTIES_ROOT true
#endif

#define CAP_BIT(cap) (UINT64_C(1) << (cap))

/* Keeps just these capabilities, permitted and effective, never inheritable. */
static int keep_caps(uint64_t caps, struct err *err)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {0};
    for (int i = 0; i < 2; i++)
        data[i].effective = data[i].permitted = (uint32_t)(caps >> (32 * i));
    return syscall(SYS_capset, &head, data) ? err_errno(err, "capset") : 0;
}

static void drop_bounds(uint64_t caps)
{
    for (unsigned cap = 0; cap < 64; cap++)
        if (!(caps & CAP_BIT(cap)) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) && errno == EINVAL)
            return; /* the kernel knows no more of them */
}

/* The folder that becomes the root: ours is made empty by the supervisor, but a program's root must not hang on that.
 */
static int is_empty(const char *dir, struct err *err)
{
    DIR *d = opendir(dir);
    if (!d)
        return err_errno(err, "%s", dir);
    bool more = false;
    for (struct dirent *e; !more && (e = readdir(d));)
        more = strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    closedir(d);
    return more ? err_set(err, "the folder that is to be the root is not empty") : 0;
}

/* Root goes: its folder, its groups, its ids, its capabilities. */
static int leave_root(const struct sandbox_want *want, bool empty_root, uint64_t caps, struct err *err)
{
    if (empty_root && is_empty(".", err))
        return -1;
    if (empty_root && (chroot(".") || chdir("/")))
        return err_errno(err, "chroot");
    drop_bounds(caps);
    if (setgroups(0, NULL) || setresgid(want->gid, want->gid, want->gid))
        return err_errno(err, "taking on gid %u", want->gid);
    if (caps && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0))
        return err_errno(err, "keeping capabilities");
    if (want->uid == 0 || setresuid(want->uid, want->uid, want->uid))
        return err_errno(err, "taking on uid %u", want->uid);
    return keep_caps(caps, err);
}

static int no_new_privs(struct err *err)
{
    umask(077);
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ? err_errno(err, "no-new-privileges") : 0;
}

int sandbox_enter(const struct sandbox_want *want, struct sandbox_level *level, struct err *err)
{
    const struct sandbox_role *r = sandbox_role(want->role);
    *level = (struct sandbox_level){0};
    if (!r || !r->user)
        return err_set(err, "role %s has no sandbox", role_name(want->role));
    bool forks = r->calls & SANDBOX_CALLS_FORK;
    uint64_t caps = forks ? CAP_BIT(CAP_SETUID) | CAP_BIT(CAP_SETGID) : 0;
    level->empty_root = EMPTIES_ROOT && want->as_root && !r->dir;
    if (want->as_root && leave_root(want, level->empty_root, caps, err))
        return -1;
    if (no_new_privs(err) ||
        sandbox_landlock(r->dir ? want->dir : NULL, r->calls & SANDBOX_CALLS_DIAL, &level->landlock_abi, err))
        return -1;
    if (sandbox_seccomp(r->calls, want->as_root ? want->uid_first : 0, want->uid_last, err))
        return -1;
    level->seccomp = true;
    return 0;
}

/* The uid first, because the store's root lets our group make folders and everybody own only his; then the gid; then
 * no way back. */
static int become_account(uint32_t uid, const char *dir, struct err *err)
{
    if (setresuid(uid, uid, uid))
        return err_errno(err, "taking on uid %u", uid);
    if (mkdir(dir, 0700) && errno != EEXIST)
        return err_errno(err, "%s", dir);
    if (setgroups(0, NULL) || setresgid(uid, uid, uid))
        return err_errno(err, "taking on gid %u", uid);
    return keep_caps(0, err);
}

static int is_ours_alone(const char *dir, struct err *err)
{
    struct stat st;
    if (lstat(dir, &st))
        return err_errno(err, "%s", dir);
    if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077))
        return err_set(err, "%s is not a folder of our own, check its owner and mode (0700)", dir);
    return 0;
}

int sandbox_enter_worker(uint32_t uid, bool as_root, const char *dir, struct sandbox_level *level, struct err *err)
{
    *level = (struct sandbox_level){0};
    umask(077);
    if (as_root && become_account(uid, dir, err))
        return -1;
    if (!as_root && mkdir(dir, 0700) && errno != EEXIST)
        return err_errno(err, "%s", dir);
    if (is_ours_alone(dir, err) || no_new_privs(err) || sandbox_landlock(dir, false, &level->landlock_abi, err) ||
        sandbox_seccomp(sandbox_role(ROLE_MDA)->calls, 0, 0, err))
        return -1;
    level->seccomp = true;
    return 0;
}

void sandbox_level_text(const struct sandbox_level *level, char out[SANDBOX_TEXT_MAX])
{
    char landlock[24] = "no landlock";
    if (level->landlock_abi)
        snprintf(landlock, sizeof landlock, "landlock %d", level->landlock_abi);
    snprintf(out, SANDBOX_TEXT_MAX, "%s, %s%s", level->seccomp ? "seccomp" : "no seccomp", landlock,
             level->empty_root ? ", empty root" : "");
}
