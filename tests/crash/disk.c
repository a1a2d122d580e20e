#undef _FORTIFY_SOURCE /* its inline wrappers have the names that are made here */
#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FDS 1024
#define FILES_MAX 4096
#define NAME_LEN 160
#define SECTOR 512
#define NEVER SIZE_MAX

enum kind { MAKE_DIR, MAKE, REMOVE, WRITE, CUT, SYNC, SYNC_DIR, SYNC_ALL };

struct step {
    enum kind kind;
    unsigned file; /* WRITE, CUT, SYNC, MAKE */
    char name[NAME_LEN];
    size_t at, n;
    char *bytes;
    size_t safe; /* the step that made it safe */
    bool lost;   /* a write whose sync failed: a later one does not bring it back */
};

static struct {
    pthread_mutex_t lock;
    bool on, cheap_syncs, failed, cut_short;
    enum disk_failure fail_how;
    char root[NAME_LEN];
    struct step *steps;
    size_t count, cap;
    unsigned files;
    size_t fail_at;
    int error;
    struct {
        bool known, folder;
        unsigned file;
        char name[NAME_LEN];
    } fds[FDS];
    struct {
        char name[NAME_LEN];
        unsigned file;
    } names[FILES_MAX]; /* that exist */
    size_t name_count;
} d = {.lock = PTHREAD_MUTEX_INITIALIZER, .fail_at = NEVER};

/* ---- what happens, written down ---- */

static void keep_name(char out[NAME_LEN], const char *name)
{
    size_t n = strlen(name);
    if (n >= NAME_LEN)
        abort();
    memcpy(out, name, n + 1);
}

static bool inside(const char *path)
{
    size_t n = strlen(d.root);
    return d.on && strncmp(path, d.root, n) == 0 && path[n] == '/';
}

/* closedir() closes without our knowing: the number may be a socket's by now. */
static bool known(int fd)
{
    struct stat st;
    return d.on && fd >= 0 && fd < FDS && d.fds[fd].known && fstat(fd, &st) == 0 && (d.fds[fd].folder ? S_ISDIR(st.st_mode) : S_ISREG(st.st_mode));
}

/* The step's number comes; true: it is the one that fails. With the lock. */
static bool fails(enum kind kind)
{
    bool now = d.count == d.fail_at || (d.failed && d.fail_how == DISK_FAILS_ON && kind < SYNC && kind != REMOVE);
    if (!now)
        return false;
    d.failed = true;
    if (d.fail_how != DISK_FAILS_ON)
        d.fail_at = NEVER;
    errno = d.error;
    return true;
}

static struct step *add(enum kind kind, unsigned file, const char *name)
{
    if (d.count == d.cap) {
        d.cap = d.cap ? d.cap * 2 : 1024;
        d.steps = realloc(d.steps, d.cap * sizeof *d.steps);
    }
    struct step *s = &d.steps[d.count++];
    *s = (struct step){.kind = kind, .file = file, .safe = NEVER};
    keep_name(s->name, name);
    return s;
}

static size_t find_name(const char *name)
{
    size_t i = 0;
    while (i < d.name_count && strcmp(d.names[i].name, name) != 0)
        i++;
    return i;
}

static void remember(int fd, const char *name, unsigned file, bool folder)
{
    if (fd >= FDS)
        abort();
    d.fds[fd].known = true;
    d.fds[fd].folder = folder;
    d.fds[fd].file = file;
    keep_name(d.fds[fd].name, name);
}

static int watched_open(const char *path, int flags, mode_t mode)
{
    pthread_mutex_lock(&d.lock);
    size_t i = find_name(path);
    bool fresh = i == d.name_count && (flags & O_CREAT), folder = flags & O_DIRECTORY;
    if (i == d.name_count && !fresh && !folder && access(path, F_OK) == 0 &&
        strchr(path + strlen(d.root) + 1, '/') == NULL)
        folder = true; /* opened without O_DIRECTORY to be synced */
    int fd = fresh && fails(MAKE) ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    if (fd >= 0 && fresh) {
        if (d.name_count == FILES_MAX)
            abort();
        keep_name(d.names[i].name, path);
        d.names[i].file = d.files++;
        d.name_count++;
        add(MAKE, d.names[i].file, path);
    }
    if (fd >= 0)
        remember(fd, path, folder ? 0 : d.names[i].file, folder);
    pthread_mutex_unlock(&d.lock);
    return fd;
}

static int any_open(int dir, const char *name, int flags, mode_t mode)
{
    char path[NAME_LEN * 2];
    if (name[0] != '/' && known(dir)) {
        if (strcmp(name, ".") == 0)
            snprintf(path, sizeof path, "%s", d.fds[dir].name);
        else
            snprintf(path, sizeof path, "%s/%s", d.fds[dir].name, name);
    } else {
        snprintf(path, sizeof path, "%s", name);
    }
    if (d.on && strcmp(path, d.root) == 0) {
        int fd = (int)syscall(SYS_openat, dir, name, flags, mode);
        if (fd >= 0)
            remember(fd, path, 0, true);
        return fd;
    }
    return inside(path) ? watched_open(path, flags, mode) : (int)syscall(SYS_openat, dir, name, flags, mode);
}

static int our_sync(int fd)
{
    int r = 0;
    if (!known(fd))
        return d.cheap_syncs ? 0 : (int)syscall(SYS_fsync, fd);
    pthread_mutex_lock(&d.lock);
    bool folder = d.fds[fd].folder, bad = fails(folder ? SYNC_DIR : SYNC);
    size_t n = strlen(d.fds[fd].name);
    for (size_t i = 0; i < d.count; i++) {
        struct step *s = &d.steps[i];
        bool name = s->kind == MAKE || s->kind == REMOVE || s->kind == MAKE_DIR;
        bool mine = folder ? name && strncmp(s->name, d.fds[fd].name, n) == 0 && s->name[n] == '/' &&
                                 !strchr(s->name + n + 1, '/')
                           : (s->kind == WRITE || s->kind == CUT) && s->file == d.fds[fd].file;
        if (mine && s->safe == NEVER && bad && !folder)
            s->lost = true;
        else if (mine && s->safe == NEVER && !s->lost && !bad)
            s->safe = d.count;
    }
    if (bad)
        r = -1;
    else
        add(folder ? SYNC_DIR : SYNC, d.fds[fd].file, d.fds[fd].name);
    pthread_mutex_unlock(&d.lock);
    return r;
}

/* All of it. Names are in the file system's journal, which a failure of the disk stops: they are not lost by one that goes on. */
static int our_sync_all(void)
{
    pthread_mutex_lock(&d.lock);
    bool bad = fails(SYNC_ALL);
    for (size_t i = 0; i < d.count; i++) {
        struct step *s = &d.steps[i];
        bool content = s->kind == WRITE || s->kind == CUT;
        if (s->safe != NEVER)
            continue;
        if (bad && content)
            s->lost = true;
        else if (!bad && !s->lost)
            s->safe = d.count;
    }
    if (!bad)
        add(SYNC_ALL, 0, d.root);
    pthread_mutex_unlock(&d.lock);
    return bad ? -1 : 0;
}

static ssize_t our_write(int fd, const void *bytes, size_t n, off_t at)
{
    pthread_mutex_lock(&d.lock);
    bool bad = fails(WRITE);
    if (bad && d.fail_how == DISK_FAILS_SHORT && n > 1) { /* whoever goes on with the rest is told */
        d.cut_short = true;
        d.fail_how = DISK_FAILS_ONCE;
        d.fail_at = d.count + 1;
        bad = false;
        n /= 2;
    }
    ssize_t r = bad ? -1 : (ssize_t)syscall(SYS_pwrite64, fd, bytes, n, at);
    if (r > 0) {
        struct step *s = add(WRITE, d.fds[fd].file, d.fds[fd].name);
        s->at = (size_t)at;
        s->n = (size_t)r;
        s->bytes = malloc(s->n);
        memcpy(s->bytes, bytes, s->n);
    }
    pthread_mutex_unlock(&d.lock);
    return r;
}

static int our_remove(const char *path)
{
    pthread_mutex_lock(&d.lock);
    int r = fails(REMOVE) ? -1 : (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    size_t i = find_name(path);
    if (r == 0 && i < d.name_count) {
        add(REMOVE, d.names[i].file, path);
        d.names[i] = d.names[--d.name_count];
    }
    pthread_mutex_unlock(&d.lock);
    return r;
}

static int our_mkdir(const char *path, mode_t mode)
{
    pthread_mutex_lock(&d.lock);
    bool bad = fails(MAKE_DIR);
    int r = bad ? -1 : (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
    if (r == 0)
        add(MAKE_DIR, 0, path);
    pthread_mutex_unlock(&d.lock);
    return r;
}

/* ---- the C library's names ---- */

#define NAMED(name) __asm__(name)
int disk_open(const char *path, int flags, ...) NAMED("open");
int disk_open64(const char *path, int flags, ...) NAMED("open64");
int disk_openat(int dir, const char *path, int flags, ...) NAMED("openat");
int disk_openat64(int dir, const char *path, int flags, ...) NAMED("openat64");
int disk_openat_2(int dir, const char *path, int flags) NAMED("__openat_2");
int disk_open_2(const char *path, int flags) NAMED("__open_2");
int disk_close(int fd) NAMED("close");
ssize_t disk_pwrite(int fd, const void *p, size_t n, off_t at) NAMED("pwrite64");
ssize_t disk_pwrite_plain(int fd, const void *p, size_t n, off_t at) NAMED("pwrite");
ssize_t disk_write(int fd, const void *p, size_t n) NAMED("write");
int disk_ftruncate(int fd, off_t n) NAMED("ftruncate64");
int disk_fsync(int fd) NAMED("fsync");
int disk_fdatasync(int fd) NAMED("fdatasync");
int disk_syncfs(int fd) NAMED("syncfs");
int disk_unlink(const char *path) NAMED("unlink");
int disk_unlinkat(int dir, const char *path, int flags) NAMED("unlinkat");
int disk_mkdirat(int dir, const char *path, mode_t mode) NAMED("mkdirat");

#define MODE_OF(flags, mode) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list ap; \
        va_start(ap, flags); \
        mode = (mode_t)va_arg(ap, int); \
        va_end(ap); \
    }

int disk_open(const char *path, int flags, ...)
{
    MODE_OF(flags, mode)
    return any_open(AT_FDCWD, path, flags, mode);
}

int disk_open64(const char *path, int flags, ...)
{
    MODE_OF(flags, mode)
    return any_open(AT_FDCWD, path, flags, mode);
}

int disk_openat(int dir, const char *path, int flags, ...)
{
    MODE_OF(flags, mode)
    return any_open(dir, path, flags, mode);
}

int disk_openat64(int dir, const char *path, int flags, ...)
{
    MODE_OF(flags, mode)
    return any_open(dir, path, flags, mode);
}

int disk_openat_2(int dir, const char *path, int flags)
{
    return any_open(dir, path, flags, 0);
}

int disk_open_2(const char *path, int flags)
{
    return any_open(AT_FDCWD, path, flags, 0);
}

int disk_close(int fd)
{
    if (fd >= 0 && fd < FDS)
        d.fds[fd].known = false;
    return (int)syscall(SYS_close, fd);
}

ssize_t disk_pwrite(int fd, const void *p, size_t n, off_t at)
{
    return known(fd) ? our_write(fd, p, n, at) : (ssize_t)syscall(SYS_pwrite64, fd, p, n, at);
}

ssize_t disk_pwrite_plain(int fd, const void *p, size_t n, off_t at)
{
    return disk_pwrite(fd, p, n, at);
}

ssize_t disk_write(int fd, const void *p, size_t n)
{
    if (!known(fd))
        return (ssize_t)syscall(SYS_write, fd, p, n);
    off_t at = (off_t)syscall(SYS_lseek, fd, 0, SEEK_CUR);
    ssize_t r = our_write(fd, p, n, at);
    if (r > 0)
        syscall(SYS_lseek, fd, at + r, SEEK_SET);
    return r;
}

int disk_ftruncate(int fd, off_t n)
{
    if (!known(fd))
        return (int)syscall(SYS_ftruncate, fd, n);
    pthread_mutex_lock(&d.lock);
    int r = fails(CUT) ? -1 : (int)syscall(SYS_ftruncate, fd, n);
    if (r == 0)
        add(CUT, d.fds[fd].file, d.fds[fd].name)->n = (size_t)n;
    pthread_mutex_unlock(&d.lock);
    return r;
}

int disk_fsync(int fd)
{
    return our_sync(fd);
}

int disk_fdatasync(int fd)
{
    return our_sync(fd);
}

int disk_syncfs(int fd)
{
    return known(fd) ? our_sync_all() : d.cheap_syncs ? 0 : (int)syscall(SYS_syncfs, fd);
}

int disk_unlink(const char *path)
{
    return inside(path) ? our_remove(path) : (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

int disk_unlinkat(int dir, const char *path, int flags)
{
    char whole[NAME_LEN * 2];
    if (!known(dir))
        return (int)syscall(SYS_unlinkat, dir, path, flags);
    snprintf(whole, sizeof whole, "%s/%s", d.fds[dir].name, path);
    return our_remove(whole);
}

int disk_mkdirat(int dir, const char *path, mode_t mode)
{
    char whole[NAME_LEN * 2];
    if (!known(dir))
        return (int)syscall(SYS_mkdirat, dir, path, mode);
    snprintf(whole, sizeof whole, "%s/%s", d.fds[dir].name, path);
    return our_mkdir(whole, mode);
}

/* ---- watching ---- */

void disk_watch(const char *root)
{
    disk_forget();
    keep_name(d.root, root);
    d.on = d.cheap_syncs = true;
}

void disk_fail_at(size_t step, int error, enum disk_failure how)
{
    d.fail_at = step;
    d.error = error;
    d.fail_how = how;
}

bool disk_failed(void)
{
    return d.failed;
}

bool disk_cut_short(void)
{
    return d.cut_short;
}

size_t disk_steps(void)
{
    pthread_mutex_lock(&d.lock);
    size_t n = d.count;
    pthread_mutex_unlock(&d.lock);
    return n;
}

void disk_stop(void)
{
    d.on = false;
    for (int i = 0; i < FDS; i++)
        d.fds[i].known = false;
}

void disk_forget(void)
{
    disk_stop();
    for (size_t i = 0; i < d.count; i++)
        free(d.steps[i].bytes);
    free(d.steps);
    d.steps = NULL;
    d.count = d.cap = d.name_count = d.files = 0;
    d.failed = d.cut_short = false;
    d.fail_how = DISK_FAILS_ONCE;
    d.fail_at = NEVER;
}

/* ---- after the power went ---- */

struct file {
    char *bytes;
    size_t n, cap;
};

static void put(struct file *f, size_t at, const char *bytes, size_t n)
{
    if (at + n > f->cap) {
        f->cap = (at + n) * 2;
        f->bytes = realloc(f->bytes, f->cap);
    }
    if (at > f->n)
        memset(f->bytes + f->n, 0, at - f->n);
    memcpy(f->bytes + at, bytes, n);
    f->n = at + n > f->n ? at + n : f->n;
}

static void cut(struct file *f, size_t n)
{
    if (n > f->n)
        put(f, n - 1, "", 1);
    f->n = n;
}

static uint64_t dice_state;
static bool dice(void)
{
    dice_state ^= dice_state << 13;
    dice_state ^= dice_state >> 7;
    dice_state ^= dice_state << 17;
    return dice_state >> 40 & 1;
}

static void put_some(struct file *f, const struct step *s)
{
    for (size_t i = 0; i < s->n; i += SECTOR)
        if (dice())
            put(f, s->at + i, s->bytes + i, s->n - i < SECTOR ? s->n - i : SECTOR);
}

static bool survives(const struct step *s, size_t step, enum disk_loss how)
{
    if (s->safe < step || how == DISK_KEPT || how == DISK_TORN)
        return true;
    return how == DISK_SCRAMBLED && dice();
}

/* names[i]: the file of the i-th name ever made, when it is there. */
struct entry {
    const char *name;
    int file; /* -1: not there, -2: a folder */
};

static struct entry *entry_of(struct entry *all, size_t *count, const char *name)
{
    for (size_t i = 0; i < *count; i++)
        if (strcmp(all[i].name, name) == 0)
            return &all[i];
    all[*count] = (struct entry){name, -1};
    return &all[(*count)++];
}

static void write_out(const struct entry *e, const struct file *files, const char *to)
{
    char path[NAME_LEN * 2];
    snprintf(path, sizeof path, "%s%s", to, e->name + strlen(d.root));
    if (e->file == -2)
        syscall(SYS_mkdirat, AT_FDCWD, path, 0700);
    if (e->file < 0)
        return;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    if (fd < 0)
        return; /* its folder was lost */
    const struct file *f = &files[e->file];
    if (f->n && syscall(SYS_write, fd, f->bytes, f->n) != (long)f->n)
        abort();
    syscall(SYS_close, fd);
}

static void replay(const struct step *s, size_t step, enum disk_loss how, struct file *files, struct entry *names,
                   size_t *count)
{
    bool part = how == DISK_SCRAMBLED && s->kind == WRITE && s->safe >= step;
    if (part)
        put_some(&files[s->file], s);
    else if (s->kind >= SYNC || !survives(s, step, how))
        return;
    else if (s->kind == WRITE)
        put(&files[s->file], s->at, s->bytes, s->n);
    else if (s->kind == CUT)
        cut(&files[s->file], s->n);
    else
        entry_of(names, count, s->name)->file = s->kind == MAKE ? (int)s->file : s->kind == MAKE_DIR ? -2 : -1;
}

void disk_restore(size_t step, enum disk_loss how, const char *to)
{
    struct file *files = calloc(d.files + 1, sizeof *files);
    struct entry *names = calloc(d.count + 1, sizeof *names);
    size_t count = 0;
    dice_state = step * 2654435761u + 88172645463325252u;
    for (size_t i = 0; i < step && i < d.count; i++)
        replay(&d.steps[i], step, how, files, names, &count);
    if (how == DISK_TORN && step < d.count && d.steps[step].kind == WRITE)
        put(&files[d.steps[step].file], d.steps[step].at, d.steps[step].bytes, d.steps[step].n / 2);
    for (size_t i = 0; i < count; i++)
        if (names[i].file == -2)
            write_out(&names[i], files, to);
    for (size_t i = 0; i < count; i++)
        if (names[i].file >= 0)
            write_out(&names[i], files, to);
    for (unsigned i = 0; i < d.files; i++)
        free(files[i].bytes);
    free(files);
    free(names);
}
