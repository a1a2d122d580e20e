/* What is done once, before any program runs: limits, users, folders with their owners, the lock. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "waypostd/supervisor.h"

#define FILES_WANTED 65536 /* descriptors: sessions, and those in flight between programs */

void start_limits(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r))
        return;
    struct rlimit more = {FILES_WANTED, FILES_WANTED};
    if (r.rlim_max < FILES_WANTED && setrlimit(RLIMIT_NOFILE, &more) == 0)
        return; /* we may, being root outside of a container */
    r.rlim_cur = MIN_OF(r.rlim_max, (rlim_t)FILES_WANTED);
    setrlimit(RLIMIT_NOFILE, &r);
}

/* ---- users ---- */

int start_ids(enum role role, uid_t *uid, gid_t *gid, struct err *err)
{
    const struct sandbox_role *r = sandbox_role(role);
    struct passwd *pw = getpwnam(r->user);
    if (!pw)
        return err_set(err, "no system user %s", r->user);
    *uid = pw->pw_uid;
    *gid = pw->pw_gid;
    if (*uid == 0)
        return err_set(err, "system user %s has uid 0", r->user);
    struct group *gr = r->group ? getgrnam(r->group) : NULL;
    if (r->group && !gr)
        return err_set(err, "no system group %s", r->group);
    if (gr)
        *gid = gr->gr_gid;
    return 0;
}

int start_users(struct supervisor *s, struct err *err)
{
    struct buf missing = {0};
    for (unsigned i = 0; s->as_root && i < ROLE_COUNT; i++) {
        const struct sandbox_role *r = sandbox_role((enum role)i);
        uid_t uid;
        gid_t gid;
        struct err one;
        if (r && r->user && start_ids((enum role)i, &uid, &gid, &one))
            buf_printf(&missing, "%s%s", missing.n ? ", " : "", one.text);
    }
    int r = missing.n ? err_set(err, "%s; run contrib/make-users as root (installed as %s/make-users)",
                                buf_cstr(&missing), PKGLIBEXECDIR)
                      : 0;
    buf_free(&missing);
    return r;
}

/* ---- folders ---- */

static int make_parents(const char *path, struct err *err)
{
    char part[4096];
    if (strlen(path) >= sizeof part)
        return err_set(err, "%s: the path is too long", path);
    for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        memcpy(part, path, (size_t)(slash - path));
        part[slash - path] = 0;
        if (mkdir(part, 0755) && errno != EEXIST)
            return err_errno(err, "cannot make the folder %s", part);
    }
    return 0;
}

/* A folder with that owner and mode, made when it is missing. Never through a symbolic link at its end (HAZARDS 32). */
int start_folder(const char *path, uid_t uid, gid_t gid, mode_t mode, struct err *err)
{
    struct stat st;
    if (mkdir(path, 0700) && errno != EEXIST)
        return err_errno(err, "cannot make the folder %s", path);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "cannot open the folder %s", path);
    int r = fstat(fd, &st);
    if (r == 0 && (st.st_uid != uid || st.st_gid != gid) && geteuid() == 0)
        r = fchown(fd, uid, gid);
    else if (r == 0 && st.st_uid != uid)
        r = (errno = EPERM, -1);
    if (r == 0 && (st.st_mode & 07777) != mode)
        r = fchmod(fd, mode);
    if (r)
        err_errno(err, "cannot give the folder %s its owner and mode", path);
    close(fd);
    return r ? -1 : 0;
}

static int role_folder(struct supervisor *s, const struct sandbox_role *r, struct err *err)
{
    char path[4096];
    uid_t uid = geteuid();
    gid_t gid = getegid();
    if ((size_t)snprintf(path, sizeof path, "%s/%s", s->conf->state, r->dir) >= sizeof path)
        return err_set(err, "state: the path is too long");
    if (s->as_root && start_ids(r->role, &uid, &gid, err))
        return -1;
    return start_folder(path, r->dir_shared && s->as_root ? 0 : uid, gid, s->as_root ? r->dir_mode : 0700, err);
}

/* As root programs of other users walk to their folders by path. */
static int reachable(const char *path, struct err *err)
{
    char part[4096];
    struct stat st;
    for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        memcpy(part, path, (size_t)(slash - path));
        part[slash - path] = 0;
        if (stat(part, &st) == 0 && !(st.st_mode & S_IXOTH))
            return err_set(err, "state: system users cannot pass through %s, run: chmod o+x %s", part, part);
    }
    return 0;
}

int start_folders(struct supervisor *s, struct err *err)
{
    char path[4096];
    if (s->as_root && reachable(s->conf->state, err))
        return -1;
    for (unsigned i = 0; i < ROLE_COUNT; i++) {
        const struct sandbox_role *r = sandbox_role((enum role)i);
        if (r && r->dir && role_folder(s, r, err))
            return -1;
    }
    if (make_parents(s->conf->run, err) || start_folder(s->conf->run, geteuid(), getegid(), 0755, err))
        return -1;
    if ((size_t)snprintf(path, sizeof path, "%s/empty", s->conf->run) >= sizeof path)
        return err_set(err, "run: the path is too long");
    if (start_folder(path, geteuid(), getegid(), 0555, err))
        return -1;
    s->empty_dir = mem_strdup(path);
    return 0;
}

/* ---- the lock ---- */

static int held_by(int fd, const char *path, struct err *err)
{
    char pid[24] = "";
    ssize_t n = read(fd, pid, sizeof pid - 1);
    while (n > 0 && (pid[n - 1] == '\n' || pid[n - 1] == ' '))
        pid[--n] = 0;
    return err_set(err, "waypost is running already on this state folder%s%s (lock %s); run: waypost stop",
                   n > 0 ? ", pid " : "", n > 0 ? pid : "", path);
}

static int write_pid(int fd, const char *path, struct err *err)
{
    char text[24];
    int n = snprintf(text, sizeof text, "%d\n", (int)getpid());
    if (ftruncate(fd, 0) || pwrite(fd, text, (size_t)n, 0) != n)
        return err_errno(err, "%s", path);
    return 0;
}

int start_lock(struct supervisor *s, struct err *err)
{
    char path[4096];
    if (make_parents(s->conf->state, err) ||
        start_folder(s->conf->state, geteuid(), getegid(), s->as_root ? 0711 : 0700, err))
        return -1;
    snprintf(path, sizeof path, "%s/waypostd.pid", s->conf->state);
    s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (s->lock_fd < 0)
        return err_errno(err, "%s", path);
    if (flock(s->lock_fd, LOCK_EX | LOCK_NB))
        return errno == EWOULDBLOCK ? held_by(s->lock_fd, path, err) : err_errno(err, "%s", path);
    return write_pid(s->lock_fd, path, err);
}
