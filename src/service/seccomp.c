/* The system call filters. A set names what it allows; everything else fails with EPERM, and what only an intruder
 * would try kills the process. Libraries probe for calls that a kernel may lack and live with an error, so an error is
 * the safer answer for the unforeseen.
 *
 * Refused everywhere: signals to other processes, ptrace, process_vm_*, pidfd_*, execve, new namespaces, new sockets
 * (but for the set that dials). clone3 answers ENOSYS, because its arguments can't be judged; the C library then uses
 * clone. */
#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "service/sandbox_impl.h"

#define CALL(name) SCMP_SYS(name)
#define ARG(i, compare, value) ((struct scmp_arg_cmp){.arg = (i), .op = (compare), .datum_a = (value)})

/* Memory, threads, time, and descriptors that are open already. */
static const int base_calls[] = {
    CALL(read),
    CALL(readv),
    CALL(pread64),
    CALL(preadv),
    CALL(preadv2),
    CALL(write),
    CALL(writev),
    CALL(pwrite64),
    CALL(pwritev),
    CALL(pwritev2),
    CALL(close),
    CALL(close_range),
    CALL(lseek),
    CALL(fstat),
    CALL(newfstatat),
    CALL(statx),
    CALL(dup),
    CALL(dup2),
    CALL(dup3),
    CALL(fcntl),
    CALL(pipe2),
    CALL(memfd_create),
    CALL(ftruncate),
    CALL(fsync),
    CALL(fdatasync),
    CALL(mmap),
    CALL(munmap),
    CALL(mprotect),
    CALL(mremap),
    CALL(madvise),
    CALL(mlock),
    CALL(mlock2),
    CALL(munlock),
    CALL(brk),
    CALL(membarrier),
    CALL(rt_sigaction),
    CALL(rt_sigprocmask),
    CALL(rt_sigreturn),
    CALL(rt_sigtimedwait),
    CALL(sigaltstack),
    CALL(restart_syscall),
    CALL(epoll_create1),
    CALL(epoll_ctl),
    CALL(epoll_wait),
    CALL(epoll_pwait),
    CALL(epoll_pwait2),
    CALL(poll),
    CALL(ppoll),
    CALL(select),
    CALL(pselect6),
    CALL(eventfd2),
    CALL(timerfd_create),
    CALL(timerfd_settime),
    CALL(timerfd_gettime),
    CALL(futex),
    CALL(futex_waitv),
    CALL(set_robust_list),
    CALL(get_robust_list),
    CALL(rseq),
    CALL(set_tid_address),
    CALL(arch_prctl),
    CALL(sched_yield),
    CALL(sched_getaffinity),
    CALL(sched_getparam),
    CALL(sched_getscheduler),
    CALL(getcpu),
    CALL(exit),
    CALL(exit_group),
    CALL(clock_gettime),
    CALL(clock_getres),
    CALL(clock_nanosleep),
    CALL(nanosleep),
    CALL(gettimeofday),
    CALL(time),
    CALL(times),
    CALL(getrusage),
    CALL(getpid),
    CALL(getppid),
    CALL(gettid),
    CALL(getuid),
    CALL(geteuid),
    CALL(getgid),
    CALL(getegid),
    CALL(getresuid),
    CALL(getresgid),
    CALL(getrandom),
    CALL(uname),
    CALL(sysinfo),
    CALL(capget),
    CALL(getrlimit),
    CALL(umask),
    CALL(accept),
    CALL(accept4),
    CALL(listen),
    CALL(recvmsg),
    CALL(recvmmsg),
    CALL(recvfrom),
    CALL(sendmsg),
    CALL(sendmmsg),
    CALL(sendto),
    CALL(shutdown),
    CALL(getsockname),
    CALL(getpeername),
    CALL(getsockopt),
    CALL(setsockopt),
};

/* Files, below the folder that Landlock leaves. */
static const int file_calls[] = {
    CALL(open),       CALL(openat),   CALL(openat2),         CALL(creat),      CALL(stat),
    CALL(lstat),      CALL(access),   CALL(faccessat),       CALL(faccessat2), CALL(readlink),
    CALL(readlinkat), CALL(unlink),   CALL(unlinkat),        CALL(mkdir),      CALL(mkdirat),
    CALL(rmdir),      CALL(rename),   CALL(renameat),        CALL(renameat2),  CALL(link),
    CALL(linkat),     CALL(truncate), CALL(fallocate),       CALL(fadvise64),  CALL(sync_file_range),
    CALL(syncfs),     CALL(flock),    CALL(getdents64),      CALL(getcwd),     CALL(chdir),
    CALL(fchdir),     CALL(fchmod),   CALL(chmod),           CALL(fchmodat),   CALL(utimensat),
    CALL(statfs),     CALL(fstatfs),  CALL(copy_file_range), CALL(sendfile),   CALL(readahead),
    CALL(getgroups),
};

static const int dial_calls[] = {CALL(connect), CALL(bind)};

/* The zygote: its children, and what they need to lock themselves in further. */
static const int fork_calls[] = {
    CALL(fork),
    CALL(vfork),
    CALL(wait4),
    CALL(waitid),
    CALL(capset),
    CALL(seccomp),
    CALL(landlock_create_ruleset),
    CALL(landlock_add_rule),
    CALL(landlock_restrict_self),
    CALL(prctl),
    CALL(setsid),
    CALL(prlimit64),
    CALL(setrlimit),
};

/* Nothing of ours or of a library ever tries these. */
static const int deadly_calls[] = {
    CALL(execve),
    CALL(execveat),
    CALL(process_vm_readv),
    CALL(process_vm_writev),
    CALL(pidfd_getfd),
    CALL(pidfd_send_signal),
    CALL(bpf),
    CALL(perf_event_open),
    CALL(userfaultfd),
    CALL(mount),
    CALL(umount2),
    CALL(pivot_root),
    CALL(chroot),
    CALL(unshare),
    CALL(setns),
    CALL(init_module),
    CALL(finit_module),
    CALL(kexec_load),
    CALL(keyctl),
    CALL(add_key),
    CALL(request_key),
    CALL(open_by_handle_at),
    CALL(reboot),
    CALL(swapon),
#ifndef WAYPOST_SANITIZE
    CALL(ptrace),
#endif
};

#ifdef WAYPOST_SANITIZE
/* The documented switch: AddressSanitizer and its leak check read /proc/self, clone a tracer and trace with it. */
static const int sanitizer_calls[] = {
    CALL(ptrace),   CALL(wait4),      CALL(readlink),  CALL(readlinkat), CALL(openat), CALL(open),
    CALL(getdents), CALL(getdents64), CALL(prlimit64), CALL(stat),       CALL(lstat),  CALL(kill),
    CALL(tkill),    CALL(tgkill),     CALL(prctl),     CALL(ioctl),      CALL(clone),  CALL(setrlimit),
    CALL(getcwd),   CALL(access),     CALL(unlink),    CALL(vfork),      CALL(fork),
};
#endif

struct filter {
    scmp_filter_ctx ctx;
    int failed; /* the first error, as libseccomp gives it */
};

static void keep(struct filter *f, int r)
{
    if (r < 0 && f->failed == 0)
        f->failed = r;
}

static void allow_all(struct filter *f, const int *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        keep(f, seccomp_rule_add(f->ctx, SCMP_ACT_ALLOW, list[i], 0));
}

#define ALLOW_ALL(f, list) allow_all(f, list, sizeof(list) / sizeof((list)[0]))
/* Allowed when its argument `i` is that value. */
static void allow_if(struct filter *f, int call, unsigned i, scmp_datum_t value)
{
    keep(f, seccomp_rule_add(f->ctx, SCMP_ACT_ALLOW, call, 1, ARG(i, SCMP_CMP_EQ, value)));
}

static void add_threads(struct filter *f)
{
    keep(f, seccomp_rule_add(f->ctx, SCMP_ACT_ALLOW, CALL(clone), 1,
                             SCMP_CMP(0, SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD)));
    keep(f, seccomp_rule_add(f->ctx, SCMP_ACT_ERRNO(ENOSYS), CALL(clone3), 0));
}

static void add_small_things(struct filter *f)
{
    static const unsigned long ioctls[] = {FIONBIO, FIONREAD, FIOCLEX, TCGETS, TIOCGWINSZ};
    static const int prctls[] = {PR_SET_NAME, PR_GET_NAME, PR_GET_DUMPABLE,
                                 0x53564d41 /* PR_SET_VMA: the allocator names its memory */};
    for (size_t i = 0; i < sizeof ioctls / sizeof *ioctls; i++)
        allow_if(f, CALL(ioctl), 1, ioctls[i]);
    for (size_t i = 0; i < sizeof prctls / sizeof *prctls; i++)
        allow_if(f, CALL(prctl), 0, (scmp_datum_t)prctls[i]);
    allow_if(f, CALL(socketpair), 0, AF_UNIX);
    /* a thread gives up its place: it runs when nobody else wants to, and can't take that back */
    keep(f, seccomp_rule_add(f->ctx, SCMP_ACT_ALLOW, CALL(sched_setscheduler), 2, ARG(0, SCMP_CMP_EQ, 0),
                             ARG(1, SCMP_CMP_EQ, SCHED_IDLE)));
    /* reading a limit, not setting one */
    keep(f,
         seccomp_rule_add(f->ctx, SCMP_ACT_ALLOW, CALL(prlimit64), 2, ARG(0, SCMP_CMP_EQ, 0), ARG(2, SCMP_CMP_EQ, 0)));
}

/* abort() and raise() end ourselves. The zygote has none of it: its filter is its children's, too, whose pids it can't
 * know; there abort() ends by an illegal instruction. */
static void add_own_end(struct filter *f)
{
    pid_t self = getpid();
    allow_if(f, CALL(tgkill), 0, (scmp_datum_t)self);
    allow_if(f, CALL(kill), 0, (scmp_datum_t)self);
}

static void add_dial(struct filter *f)
{
    ALLOW_ALL(f, dial_calls);
    allow_if(f, CALL(socket), 0, AF_INET);
    allow_if(f, CALL(socket), 0, AF_INET6);
}

static const int id_calls[] = {CALL(setresuid), CALL(setresgid)};
enum { ID_ARGS = 3 };

/* Children and their ids: no group besides, all three of an id at least `first`; that none is above `last` says the
 * filter of cap_ids(), because one rule can't ask one argument twice. */
static void add_fork(struct filter *f, uint32_t first)
{
    ALLOW_ALL(f, fork_calls);
    allow_if(f, CALL(setgroups), 0, 0);
    keep(f, seccomp_rule_add(f->ctx, SCMP_ACT_ALLOW, CALL(clone), 0));
    for (size_t i = 0; first && i < sizeof id_calls / sizeof *id_calls; i++)
        keep(f, seccomp_rule_add(f->ctx, SCMP_ACT_ALLOW, id_calls[i], ID_ARGS, ARG(0, SCMP_CMP_GE, first),
                                 ARG(1, SCMP_CMP_GE, first), ARG(2, SCMP_CMP_GE, first)));
}

static int load(struct filter *f, struct err *err)
{
    if (f->ctx && f->failed == 0)
        keep(f, seccomp_load(f->ctx));
    int r = f->ctx ? f->failed : -ENOMEM;
    if (f->ctx)
        seccomp_release(f->ctx);
    errno = -r;
    return r < 0 ? err_errno(err, "seccomp") : 0;
}

/* A filter of its own: no id above `last`. The kernel takes the strictest answer of all filters. */
static int cap_ids(uint32_t last, struct err *err)
{
    struct filter f = {.ctx = seccomp_init(SCMP_ACT_ALLOW)};
    for (size_t i = 0; f.ctx && i < sizeof id_calls / sizeof *id_calls; i++)
        for (unsigned arg = 0; arg < ID_ARGS; arg++)
            keep(&f, seccomp_rule_add(f.ctx, SCMP_ACT_ERRNO(EPERM), id_calls[i], 1, ARG(arg, SCMP_CMP_GT, last)));
    return load(&f, err);
}

int sandbox_seccomp(unsigned calls, uint32_t uid_first, uint32_t uid_last, struct err *err)
{
    if ((calls & SANDBOX_CALLS_FORK) && uid_first && cap_ids(uid_last, err))
        return -1;
    struct filter f = {.ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM))};
    if (!f.ctx)
        return err_set(err, "seccomp: no memory");
    for (size_t i = 0; i < sizeof deadly_calls / sizeof *deadly_calls; i++)
        keep(&f, seccomp_rule_add(f.ctx, SCMP_ACT_KILL_PROCESS, deadly_calls[i], 0));
    ALLOW_ALL(&f, base_calls);
    if (calls & SANDBOX_CALLS_FILES)
        ALLOW_ALL(&f, file_calls);
    if (calls & SANDBOX_CALLS_DIAL)
        add_dial(&f);
    if (calls & SANDBOX_CALLS_FORK)
        add_fork(&f, uid_first);
    else
        add_own_end(&f);
    add_threads(&f);
#ifdef WAYPOST_SANITIZE
    ALLOW_ALL(&f, sanitizer_calls);
#endif
    add_small_things(&f);
    return load(&f, err);
}
