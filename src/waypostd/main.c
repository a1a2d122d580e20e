/* waypostd: starts the programs, keeps them running, stops them in order.
 *
 *     waypostd [-c FILE] [-d]
 *
 * -c FILE  the configuration (else $WAYPOST_CONFIG, else the built-in path)
 * -d       go to the background once everything is ready
 *
 * Security: runs as root or as the invoking user and keeps these rights, so it reads nothing that comes from the
 * network. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "waypostd/supervisor.h"

#define BIND_TRIES 20
#define DEFAULT_CONFIG SYSCONFDIR "/waypost/waypost.conf"

enum { STATUS_GOOD, STATUS_FAILED, STATUS_USAGE };

/* Fronts and workers first, so that nothing new comes and open mailboxes say goodbye; then the queue, which takes what
 * the fronts were still receiving; then those that all ask. */
static const uint32_t stop_stages[] = {CONF_FRONTS | FROM(ROLE_LOCAL) | FROM(ROLE_RELAY) | FROM(ROLE_ZYGOTE), FROM(ROLE_QMGR),
                                       FROM(ROLE_AUTHD) | FROM(ROLE_JUDGE) | FROM(ROLE_TALLYD) | FROM(ROLE_KEYD) |
                                           FROM(ROLE_TOKEND)};

/* ---- systemd, and whoever started us with -d ---- */

/* One datagram, as sd_notify(3) describes it. */
void notify_systemd(const char *text)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    size_t n = path ? strlen(path) : 0;
    if (n == 0 || n >= sizeof a.sun_path || (path[0] != '/' && path[0] != '@'))
        return;
    memcpy(a.sun_path, path, n);
    if (path[0] == '@')
        a.sun_path[0] = 0;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&a,
               (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) < 0)
        LOGW("notify", KVT("why", strerror(errno)));
    close(fd);
}

static void tell_parent(struct supervisor *s, unsigned char status)
{
    if (s->parent_fd < 0)
        return;
    if (write(s->parent_fd, &status, 1) < 0)
        LOGW("parent-gone");
    close(s->parent_fd);
    close(s->terminal);
    s->parent_fd = -1;
    s->terminal = STDERR_FILENO;
}

/* A terminal or a pipe must not be held by programs in the background: our own last words have a descriptor that they
 * don't inherit. */
static void leave_terminal(struct supervisor *s)
{
    struct stat st;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    s->terminal = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
    for (int fd = 0; null >= 0 && fd < 3; fd++)
        if (fd == 0 || fstat(fd, &st) || !S_ISREG(st.st_mode))
            dup2(null, fd);
        else if (fd == STDERR_FILENO)
            s->log_kept = true;
    if (null > 2)
        close(null);
    if (!s->log_kept && s->conf->log != CONF_LOG_SYSLOG)
        dprintf(s->terminal,
                "waypostd: in the background log lines go nowhere: say \"log syslog;\" or send stderr to a file\n");
}

static int go_background(struct supervisor *s)
{
    int fds[2];
    unsigned char status = STATUS_FAILED;
    if (pipe2(fds, O_CLOEXEC))
        return -1;
    pid_t pid = fork();
    if (pid < 0)
        return -1;
    if (pid > 0) {
        close(fds[1]);
        if (read(fds[0], &status, 1) != 1)
            status = STATUS_FAILED;
        _exit(status);
    }
    close(fds[0]);
    setsid();
    s->parent_fd = fds[1];
    leave_terminal(s);
    return 0;
}

/* ---- phases ---- */

void supervisor_all_ready(struct supervisor *s)
{
    if (s->phase != PHASE_STARTING)
        return;
    s->phase = PHASE_RUNNING;
    LOGI("ready", KVU("took-ms", loop_now(s->loop) - s->started), KVU("pid", getpid()));
    notify_systemd("READY=1\nSTATUS=serving");
    tell_parent(s, STATUS_GOOD);
}

void supervisor_refused(struct supervisor *s, const char *who, const char *why)
{
    dprintf(s->terminal, "waypostd: %s cannot start: %s\n", who, why);
    s->status = STATUS_FAILED;
    supervisor_stop(s);
}

static bool any_runs(const struct supervisor *s, uint32_t roles)
{
    LIST_EACH((struct link *)&s->children, l) {
        const struct child *c = container_of(l, struct child, link);
        if ((roles & FROM(c->role)) && c->pid > 0)
            return true;
    }
    return false;
}

static void drain_stage(struct supervisor *s)
{
    int64_t left = MAX_OF(s->stop_until - loop_now(s->loop), (int64_t)100);
    LIST_EACH(&s->children, l) {
        struct child *c = container_of(l, struct child, link);
        if (stop_stages[s->stop_stage] & FROM(c->role))
            child_drain(c, left);
    }
}

void supervisor_child_ended(struct supervisor *s)
{
    if (s->phase != PHASE_STOPPING)
        return;
    while (s->stop_stage < COUNT_OF(stop_stages) && !any_runs(s, stop_stages[s->stop_stage])) {
        s->stop_stage++;
        if (s->stop_stage < COUNT_OF(stop_stages))
            drain_stage(s);
    }
    if (s->stop_stage == COUNT_OF(stop_stages))
        loop_stop(s->loop);
}

static void kill_all(struct supervisor *s)
{
    LIST_EACH(&s->children, l)
        child_kill(container_of(l, struct child, link));
}

static void on_stop_limit(void *ctx)
{
    LOGW("stop-cut-short");
    kill_all(ctx);
}

void supervisor_stop(struct supervisor *s)
{
    if (s->phase == PHASE_STOPPING) {
        kill_all(s); /* asked twice */
        return;
    }
    s->phase = PHASE_STOPPING;
    reload_cancel(s);
    LOGI("stopping");
    notify_systemd("STOPPING=1");
    s->stop_until = loop_now(s->loop) + s->conf->stop_timeout;
    s->stop_timer = timer_new(s->loop, on_stop_limit, s);
    timer_start(s->stop_timer, s->conf->stop_timeout + 3000);
    drain_stage(s);
    supervisor_child_ended(s);
}

static void on_signal(void *ctx, int signo)
{
    struct supervisor *s = ctx;
    if (signo == SIGCHLD)
        children_reap(s);
    else if (signo == SIGHUP)
        reload_begin(s, NULL);
    else
        supervisor_stop(s);
}

/* ---- start ---- */

static void first_start(void *ctx)
{
    children_start_next(ctx);
}

/* Programs of a supervisor that was killed leave by themselves, but hold our ports for a moment. */
static int bind_patiently(struct supervisor *s, struct err *err)
{
    static const struct timespec moment = {.tv_nsec = 100000000};
    int tries = 0;
    while (sockets_bind(s, s->conf, err)) {
        if (errno != EADDRINUSE || ++tries > BIND_TRIES)
            return -1;
        nanosleep(&moment, NULL);
    }
    return 0;
}

static int prepare(struct supervisor *s, struct err *err)
{
    if (start_users(s, err) || start_lock(s, err) || start_folders(s, err))
        return -1;
    if (bind_patiently(s, err) || door_open(s, err) || local_open(s, s->conf, err))
        return -1;
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    certs_watch(s);
    children_plan(s, s->conf);
    return 0;
}

static void run(struct supervisor *s)
{
    static const int signals[] = {SIGCHLD, SIGHUP, SIGTERM, SIGINT};
    struct signal_watch *watches[COUNT_OF(signals)];
    struct defer begin = {.fn = first_start, .ctx = s};
    for (size_t i = 0; i < COUNT_OF(signals); i++)
        watches[i] = signal_watch_new(s->loop, signals[i], on_signal, s);
    loop_defer(s->loop, &begin);
    loop_run(s->loop);
    for (size_t i = 0; i < COUNT_OF(signals); i++)
        signal_watch_free(&watches[i]);
}

static void free_all(struct supervisor *s)
{
    door_close(s);
    local_free(s);
    reload_free(s);
    children_free(s);
    pairs_free(s);
    sockets_free(s);
    certs_unwatch(s);
    timer_free(&s->stop_timer);
    loop_free(&s->loop);
    if (s->lock_fd >= 0 && ftruncate(s->lock_fd, 0) == 0)
        close(s->lock_fd); /* the file stays: who removes a lock file races with the next start */
    conf_unref(&s->conf);
    mem_free(&s->program_dir);
    mem_free(&s->empty_dir);
}

static char *own_folder(void)
{
    char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n <= 0)
        return mem_strdup(PKGLIBEXECDIR);
    path[n] = 0;
    *strrchr(path, '/') = 0;
    return mem_strdup(path);
}

static int supervise(struct supervisor *s)
{
    struct err err;
    start_limits();
    signal(SIGPIPE, SIG_IGN);
    umask(022);
    s->as_root = geteuid() == 0;
    s->program_dir = own_folder();
    s->loop = loop_new();
    s->started = loop_now(s->loop);
    list_init(&s->children);
    list_init(&s->bounds);
    pairs_init(s);
    supervisor_open_log(s);
    if (prepare(s, &err)) {
        dprintf(s->terminal, "waypostd: %s\n", err.text);
        LOGE("not-started", KVT("why", err.text));
        s->status = STATUS_FAILED;
    } else {
        run(s);
        LOGI("stopped", KVU("status", s->status));
    }
    tell_parent(s, (unsigned char)s->status);
    free_all(s);
    return s->status;
}

/* ---- arguments ---- */

static int usage(void)
{
    fputs("usage: waypostd [-c FILE] [-d]\n", stderr);
    return STATUS_USAGE;
}

int main(int argc, char **argv)
{
    static struct supervisor s = {.lock_fd = -1, .parent_fd = -1, .terminal = STDERR_FILENO, .generation = 1};
    struct conf_errors errors = {0};
    bool background = false;
    s.conf_file = getenv("WAYPOST_CONFIG") && *getenv("WAYPOST_CONFIG") ? getenv("WAYPOST_CONFIG") : DEFAULT_CONFIG;
    for (int o; (o = getopt(argc, argv, "c:d")) != -1;) {
        if (o == '?')
            return usage();
        if (o == 'c')
            s.conf_file = optarg;
        background = background || o == 'd';
    }
    if (optind != argc)
        return usage();
    char *whole = realpath(s.conf_file, NULL); /* -d and later reloads must not depend on the working folder */
    if (whole)
        s.conf_file = whole;
    s.conf = conf_load(s.conf_file, s.generation, &errors);
    if (!s.conf) {
        fputs(buf_cstr(&errors.text), stderr);
        conf_errors_free(&errors);
        free(whole);
        return STATUS_FAILED;
    }
    int status = background && go_background(&s) ? STATUS_FAILED : supervise(&s);
    free(whole);
    return status;
}
