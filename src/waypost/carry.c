#include "waypost/carry.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int failed(struct span name, const char *why)
{
    fprintf(stderr, "waypost: %.*s: %s\n", SPANV(name), why);
    return -1;
}

static bool take_path(struct span name, char *path, size_t size)
{
    if (name.n == 0 || name.n >= size)
        return false;
    memcpy(path, name.p, name.n);
    path[name.n] = '\0';
    return true;
}

/* What is moved into the file is removed from the queue: after a crash its name must be there. */
static int sync_folder(const char *path)
{
    char folder[4096];
    const char *slash = strrchr(path, '/');
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path + 1) : 1, slash ? path : ".");
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd < 0 ? -1 : fsync(fd);
    int why = errno;
    if (fd >= 0)
        close(fd);
    errno = why;
    return rc;
}

int carry_make(struct span name, char *path, size_t size, bool *is_output)
{
    *is_output = span_eqs(name, "-");
    if (*is_output)
        return isatty(STDOUT_FILENO) ? failed(name, "not to a terminal") : fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    if (!take_path(name, path, size))
        return failed(name, "no name of a file");
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return failed(name, errno == EEXIST ? "is there already: name a new file" : strerror(errno));
    if (sync_folder(path) == 0)
        return fd;
    int why = errno;
    close(fd);
    unlink(path);
    return failed(name, strerror(why));
}

int carry_open(struct span name)
{
    char path[4096];
    if (span_eqs(name, "-"))
        return isatty(STDIN_FILENO) ? failed(name, "not from a terminal") : fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    if (!take_path(name, path, sizeof path))
        return failed(name, "no name of a file");
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? failed(name, strerror(errno)) : fd;
}
