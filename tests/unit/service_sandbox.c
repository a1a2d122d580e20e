/* The sandbox, tried from inside: each case runs in a child that locks itself in and tells by its exit status what it
 * could do. As root the cases run as root programs do (uid taken on, empty root), else as a user's. Plain build only:
 * the sanitizers need more than it gives. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "service/sandbox.h"

#ifndef WAYPOST_SANITIZE

#define OTHER_UID 61234 /* for the runs as root; needs no passwd entry */
#define FIRST 200000
#define LAST 200999

static char base[64], dir[80], empty[80], outside[96];

static void make_folders(void)
{
    snprintf(base, sizeof base, "/tmp/wp-sandbox-XXXXXX");
    cr_assert(mkdtemp(base));
    chmod(base, 0755);
    snprintf(dir, sizeof dir, "%s/dir", base);
    snprintf(empty, sizeof empty, "%s/empty", base);
    snprintf(outside, sizeof outside, "%s/outside", base);
    mkdir(dir, 0700);
    mkdir(empty, 0755);
    close(open(outside, O_CREAT | O_WRONLY, 0644));
    chmod(outside, 0666);
    if (geteuid() == 0)
        cr_assert_eq(chown(dir, OTHER_UID, OTHER_UID), 0);
}

static void remove_folders(void)
{
    char line[128];
    snprintf(line, sizeof line, "rm -rf %s", base);
    cr_assert_eq(system(line), 0);
}

TestSuite(sandbox, .init = make_folders, .fini = remove_folders);

static void lock_in(enum role role)
{
    struct sandbox_level level;
    struct err err;
    struct sandbox_want want = {.role = role,
                                .as_root = geteuid() == 0,
                                .uid = OTHER_UID,
                                .gid = OTHER_UID,
                                .dir = dir,
                                .uid_first = FIRST,
                                .uid_last = LAST};
    if (chdir(empty))
        _exit(100);
    if (sandbox_enter(&want, &level, &err)) {
        fprintf(stderr, "sandbox: %s\n", err.text);
        _exit(101);
    }
    if (!level.seccomp)
        _exit(102);
}

typedef int try_fn(void); /* 0: it could; else errno */

/* The exit status, or 1000 + the signal that ended it. */
static int inside(enum role role, try_fn *fn)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        lock_in(role);
        _exit(fn());
    }
    int status;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* ---- what is tried ---- */

static int result(long r)
{
    return r < 0 ? errno : 0;
}

static int try_open_etc(void)
{
    return result(open("/etc/passwd", O_RDONLY));
}

static int try_open_outside(void)
{
    return result(open(outside, O_RDWR));
}

static int try_climb(void)
{
    char path[200];
    snprintf(path, sizeof path, "%s/../outside", dir);
    return result(open(path, O_RDONLY));
}

static int try_own_file(void)
{
    char path[200], other[200];
    snprintf(path, sizeof path, "%s/file", dir);
    snprintf(other, sizeof other, "%s/sub", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
    if (fd < 0 || write(fd, "x", 1) != 1 || fsync(fd) || fdatasync(fd) || ftruncate(fd, 0) ||
        fcntl(fd, F_SETLK, &lock) || close(fd))
        return errno;
    if (mkdir(other, 0700) || rename(path, strcat(other, "/moved")) || unlink(other))
        return errno;
    return 0;
}

static int try_device(void)
{
    char path[200];
    snprintf(path, sizeof path, "%s/device", dir);
    return result(mknod(path, S_IFCHR | 0600, 0));
}

static int try_kill_parent(void)
{
    return result(kill(getppid(), 0));
}

static int try_kill_all(void)
{
    return result(kill(-1, 0));
}

static int try_signal_thread(void)
{
    return result(syscall(SYS_tkill, getppid(), 0));
}

static int try_raise(void)
{
    return raise(SIGTERM);
}

static int try_ptrace(void)
{
    return result(ptrace(PTRACE_ATTACH, getppid(), 0, 0));
}

static int try_read_other(void)
{
    char b[8];
    struct iovec l = {b, sizeof b}, r = {b, sizeof b};
    return result(process_vm_readv(getppid(), &l, 1, &r, 1, 0));
}

static int try_pidfd(void)
{
    return result(syscall(SYS_pidfd_open, getppid(), 0));
}

static int try_exec(void)
{
    return result(execl("/bin/true", "true", NULL));
}

static int try_socket_inet(void)
{
    return result(socket(AF_INET, SOCK_STREAM, 0));
}

static int try_socket_unix(void)
{
    return result(socket(AF_UNIX, SOCK_STREAM, 0));
}

static int try_socket_netlink(void)
{
    return result(socket(AF_NETLINK, SOCK_RAW, 0));
}

static int try_dial(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), udp = socket(AF_INET6, SOCK_DGRAM, 0);
    if (fd < 0 || udp < 0)
        return errno;
    return connect(fd, (struct sockaddr *)&a, sizeof a) == 0 || errno == ECONNREFUSED ? 0 : errno;
}

static int try_fork(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    return result(pid);
}

static void *thread(void *ctx)
{
    *(int *)ctx = 1;
    return NULL;
}

static int try_thread(void)
{
    pthread_t t;
    int ran = 0;
    int r = pthread_create(&t, NULL, thread, &ran);
    if (r == 0)
        pthread_join(t, NULL);
    return r ? r : !ran;
}

static int try_policy(pid_t whose, int policy)
{
    struct sched_param p = {0};
    return result(sched_setscheduler(whose, policy, &p));
}

static int try_idle(void)
{
    return try_policy(0, SCHED_IDLE);
}

static int try_idle_other(void)
{
    return try_policy(getppid(), SCHED_IDLE);
}

static int try_batch(void)
{
    return try_policy(0, SCHED_BATCH);
}

static int try_pair(void)
{
    int fds[2];
    return result(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
}

static int try_setuid_zero(void)
{
    return result(syscall(SYS_setuid, 0));
}

static int try_unshare(void)
{
    return result(syscall(SYS_unshare, 0x10000000));
}

static int try_new_ids_of(unsigned uid)
{
    return result(syscall(SYS_setresuid, uid, uid, uid));
}

static int try_id_in_range(void)
{
    return try_new_ids_of(FIRST + 5);
}

static int try_id_below(void)
{
    return try_new_ids_of(FIRST - 1);
}

static int try_id_above(void)
{
    return try_new_ids_of(LAST + 1);
}

static int try_id_root(void)
{
    return try_new_ids_of(0);
}

static int try_id_saved_root(void)
{
    return result(syscall(SYS_setresuid, FIRST, FIRST, 0));
}

static int try_id_kept(void)
{
    return result(syscall(SYS_setresuid, FIRST, FIRST, -1));
}

static int try_group(void)
{
    gid_t group = FIRST + 5;
    return result(syscall(SYS_setgroups, 1, &group));
}

static int try_chroot(void)
{
    return result(chroot("."));
}

#define DIED (1000 + SIGSYS)
#define NO_FILE -1 /* EACCES, EPERM or ENOENT: as the root is empty, Landlock says no, or the filter does */
#define NO_WAY -2  /* EPERM or killed */

static bool as_wanted(int want, int got)
{
    if (want == NO_FILE)
        return got == EACCES || got == EPERM || got == ENOENT;
    if (want == NO_WAY)
        return got == EPERM || got == DIED;
    return got == want;
}

static const struct {
    const char *name;
    try_fn *fn;
    int front, relay, owner, zygote; /* smtpd-mx, relay, qmgr, zygote */
} cases[] = {
    {"open /etc/passwd", try_open_etc, NO_FILE, NO_FILE, NO_FILE, NO_FILE},
    {"open a file outside", try_open_outside, NO_FILE, NO_FILE, NO_FILE, NO_FILE},
    {"climb out of the folder", try_climb, NO_FILE, NO_FILE, NO_FILE, NO_FILE},
    {"use its own folder", try_own_file, NO_FILE, NO_FILE, 0, 0},
    {"make a device", try_device, NO_WAY, NO_WAY, NO_WAY, NO_WAY},
    {"signal the parent", try_kill_parent, EPERM, EPERM, EPERM, EPERM},
    {"signal everybody", try_kill_all, EPERM, EPERM, EPERM, EPERM},
    {"signal a thread of another", try_signal_thread, EPERM, EPERM, EPERM, EPERM},
    {"raise", try_raise, 1000 + SIGTERM, 1000 + SIGTERM, 1000 + SIGTERM, 255},
    {"ptrace", try_ptrace, DIED, DIED, DIED, DIED},
    {"process_vm_readv", try_read_other, DIED, DIED, DIED, DIED},
    {"pidfd_open", try_pidfd, NO_WAY, NO_WAY, NO_WAY, NO_WAY},
    {"exec", try_exec, DIED, DIED, DIED, DIED},
    {"an internet socket", try_socket_inet, EPERM, 0, EPERM, EPERM},
    {"a unix socket", try_socket_unix, EPERM, EPERM, EPERM, EPERM},
    {"a netlink socket", try_socket_netlink, EPERM, EPERM, EPERM, EPERM},
    {"dial", try_dial, EPERM, 0, EPERM, EPERM},
    {"fork", try_fork, EPERM, EPERM, EPERM, 0},
    {"a thread", try_thread, 0, 0, 0, 0},
    {"step back behind everybody", try_idle, 0, 0, 0, 0},
    {"put another behind everybody", try_idle_other, EPERM, EPERM, EPERM, EPERM},
    {"another way to be scheduled", try_batch, EPERM, EPERM, EPERM, EPERM},
    {"a socket pair", try_pair, 0, 0, 0, 0},
    {"become root", try_setuid_zero, EPERM, EPERM, EPERM, EPERM},
    {"unshare", try_unshare, DIED, DIED, DIED, DIED},
    {"chroot", try_chroot, DIED, DIED, DIED, DIED},
    {"a uid below the range", try_id_below, EPERM, EPERM, EPERM, EPERM},
    {"a uid above the range", try_id_above, EPERM, EPERM, EPERM, EPERM},
    {"uid 0", try_id_root, EPERM, EPERM, EPERM, EPERM},
    {"uid 0 as the saved one", try_id_saved_root, EPERM, EPERM, EPERM, EPERM},
    {"a group of one's choice", try_group, EPERM, EPERM, EPERM, EPERM},
    {"keeping the saved uid", try_id_kept, EPERM, EPERM, EPERM, EPERM},
};

static void check(enum role role, size_t column)
{
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const int wanted[] = {cases[i].front, cases[i].relay, cases[i].owner, cases[i].zygote};
        int got = inside(role, cases[i].fn);
        cr_expect(as_wanted(wanted[column], got), "%s, %s: wanted %d, got %d", role_name(role), cases[i].name,
                  wanted[column], got);
    }
}

Test(sandbox, a_front)
{
    check(ROLE_MX, 0);
}

Test(sandbox, the_relay)
{
    check(ROLE_RELAY, 1);
}

Test(sandbox, the_owner_of_a_folder)
{
    check(ROLE_QMGR, 2);
}

Test(sandbox, the_zygote)
{
    check(ROLE_ZYGOTE, 3);
    int want = geteuid() == 0 ? 0 : EPERM; /* as a user there are no other uids */
    cr_expect_eq(inside(ROLE_ZYGOTE, try_id_in_range), want);
}

/* ---- the account's process ---- */

static int status_of(pid_t pid)
{
    int status;
    waitpid(pid, &status, 0);
    return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

static char mine[160], neighbour[160];

static int worker(try_fn *fn)
{
    pid_t zygote = fork();
    if (zygote == 0) {
        lock_in(ROLE_ZYGOTE);
        pid_t pid = fork();
        if (pid == 0) {
            struct sandbox_level level;
            struct err err;
            if (sandbox_enter_worker(FIRST + 7, geteuid() == OTHER_UID, mine, &level, &err)) {
                fprintf(stderr, "worker: %s\n", err.text);
                _exit(103);
            }
            _exit(fn());
        }
        int r = status_of(pid);
        _exit(r >= 1000 ? 200 + r - 1000 : r);
    }
    return status_of(zygote);
}

static int try_mine(void)
{
    char path[200];
    struct stat st;
    snprintf(path, sizeof path, "%s/store.db", mine);
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    if (fd < 0 || fstat(fd, &st) || stat(mine, &st))
        return errno;
    return (st.st_mode & 07777) == 0700 && st.st_uid == geteuid() ? 0 : 99;
}

static int try_neighbour(void)
{
    return result(open(neighbour, O_RDONLY));
}

static int try_fork_again(void)
{
    return try_fork();
}

static int try_back(void)
{
    return try_new_ids_of(FIRST + 8);
}

Test(sandbox, an_accounts_process_has_its_own_folder_and_no_other)
{
    snprintf(mine, sizeof mine, "%s/7", dir);
    snprintf(neighbour, sizeof neighbour, "%s/8", dir);
    if (geteuid() == 0) { /* as the supervisor makes it */
        cr_assert_eq(chown(dir, 0, OTHER_UID), 0);
        cr_assert_eq(chmod(dir, 01771), 0);
    }
    close(open(neighbour, O_CREAT | O_WRONLY, 0666));
    chmod(neighbour, 0666); /* so that nothing but Landlock stands between, as for a user */
    cr_expect_eq(worker(try_mine), 0);
    cr_expect_eq(worker(try_mine), 0, "and again when it is there");
    int got = worker(try_neighbour);
    cr_expect(got == EACCES || got == EPERM, "%d", got);
    cr_expect_eq(worker(try_fork_again), EPERM);
    cr_expect_eq(worker(try_thread), 0);
    cr_expect_eq(worker(try_back), EPERM, "no way to another account");
    cr_expect_eq(worker(try_kill_parent), EPERM);
    cr_expect_eq(worker(try_socket_inet), EPERM);
    cr_expect_eq(worker(try_exec), 200 + SIGSYS);
}

Test(sandbox, an_accounts_folder_that_is_a_link_is_refused)
{
    snprintf(mine, sizeof mine, "%s/7", dir);
    if (geteuid() == 0) {
        cr_assert_eq(chown(dir, 0, OTHER_UID), 0);
        cr_assert_eq(chmod(dir, 01771), 0);
    }
    cr_assert_eq(symlink(empty, mine), 0);
    cr_expect_eq(worker(try_mine), 103); /* HAZARDS 32 */
}

Test(sandbox, abort_still_ends_the_zygotes_children)
{
    snprintf(mine, sizeof mine, "%s/7", dir);
    if (geteuid() == 0) {
        cr_assert_eq(chown(dir, 0, OTHER_UID), 0);
        cr_assert_eq(chmod(dir, 01771), 0);
    }
    int got = worker((try_fn *)(void (*)(void))abort);
    cr_expect(got > 200, "%d", got);
}

Test(sandbox, a_root_that_is_not_empty_is_refused)
{
    if (geteuid() != 0)
        return; /* as a user there is no new root */
    pid_t pid = fork();
    if (pid == 0) {
        struct sandbox_level level;
        struct err err;
        struct sandbox_want want = {.role = ROLE_MX, .as_root = true, .uid = OTHER_UID, .gid = OTHER_UID};
        _exit(chdir(base) || sandbox_enter(&want, &level, &err) == 0);
    }
    cr_assert_eq(status_of(pid), 0);
}

static int look_at_status(void)
{
    FILE *f = fopen("/proc/self/status", "r");
    return f ? 0 : errno; /* not even that */
}

Test(sandbox, the_kernel_says_that_it_is_locked)
{
    cr_expect(as_wanted(NO_FILE, inside(ROLE_IMAPD, look_at_status)));
    int ready[2];
    cr_assert_eq(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        lock_in(ROLE_MX);
        if (write(ready[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    char byte, path[64], line[256];
    bool nnp = false, filter = false, caps = false;
    cr_assert_eq(read(ready[0], &byte, 1), 1);
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f)) {
        nnp = nnp || strcmp(line, "NoNewPrivs:\t1\n") == 0;
        filter = filter || strcmp(line, "Seccomp:\t2\n") == 0;
        caps = caps || strcmp(line, "CapPrm:\t0000000000000000\n") == 0;
    }
    fclose(f);
    kill(pid, SIGKILL);
    status_of(pid);
    cr_expect(nnp && filter && caps);
}

#endif

Test(roles, channels_are_mutual_and_as_designed)
{
    for (unsigned a = 0; a < ROLE_COUNT; a++)
        for (unsigned b = 0; b < ROLE_COUNT; b++) {
            const struct sandbox_role *ra = sandbox_role((enum role)a), *rb = sandbox_role((enum role)b);
            if (ra && rb && a != ROLE_MDA && b != ROLE_MDA) /* the zygote makes the account processes' channels */
                cr_expect_eq(!!(ra->channels & FROM(b)), !!(rb->channels & FROM(a)), "%s %s", role_name((enum role)a),
                             role_name((enum role)b));
        }
    cr_expect_not(sandbox_role(ROLE_MX)->channels & FROM(ROLE_ZYGOTE),
                  "who parses the network has no way to who changes uids");
    cr_expect_not(sandbox_role(ROLE_IMAPD)->channels & FROM(ROLE_QMGR));
    cr_expect_null(sandbox_role(ROLE_ADMIN));
}

Test(roles, make_users_knows_them_all)
{
    const char *src = getenv("srcdir");
    char line[4200];
    snprintf(line, sizeof line, "%s/contrib/make-users --list", src && *src ? src : ".");
    FILE *f = popen(line, "r");
    unsigned found = 0, wanted = 0;
    while (f && fgets(line, sizeof line, f))
        for (unsigned i = 0; i < ROLE_COUNT; i++) {
            const struct sandbox_role *r = sandbox_role((enum role)i);
            char want[128];
            if (!r || !r->user)
                continue;
            snprintf(want, sizeof want, "user %s %s\n", r->user, r->group ? r->group : r->user);
            found += strcmp(line, want) == 0;
        }
    pclose(f);
    for (unsigned i = 0; i < ROLE_COUNT; i++)
        wanted += sandbox_role((enum role)i) && sandbox_role((enum role)i)->user;
    cr_assert_eq(found, wanted);
}
