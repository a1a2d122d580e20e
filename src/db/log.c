/* The write-ahead log as a file: https://www.sqlite.org/fileformat2.html#walformat. A header, then frames; those with the
 * header's salt are in use, what is behind them is left from before it started anew. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "db/db.h"

#define HEADER 32
#define FRAME_HEADER 24
#define PAGE_MAX 65536

static uint32_t big_endian(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static bool read_all(int fd, void *to, size_t n, off_t at)
{
    return pread(fd, to, n, at) == (ssize_t)n;
}

/* Up to the end of the last frame in use; a header that says nothing sensible is in use itself. */
static off_t in_use(int fd)
{
    unsigned char header[HEADER], frame[FRAME_HEADER];
    off_t end = HEADER;
    if (!read_all(fd, header, sizeof header, 0))
        return 0;
    uint32_t page = big_endian(header + 8);
    if (page < 512 || page > PAGE_MAX)
        return end;
    while (read_all(fd, frame, sizeof frame, end) && memcmp(frame + 8, header + 16, 8) == 0)
        end += FRAME_HEADER + (off_t)page;
    return end;
}

static int write_again(int fd, off_t end)
{
    static _Thread_local char bytes[1 << 16];
    for (off_t at = 0; at < end;) {
        ssize_t n = pread(fd, bytes, end - at < (off_t)sizeof bytes ? (size_t)(end - at) : sizeof bytes, at);
        if (n == 0)
            break; /* the last frame is not whole */
        if (n < 0 || pwrite(fd, bytes, (size_t)n, at) != n)
            return -1;
        at += n;
    }
    return fdatasync(fd);
}

int db_renew_log(const char *dir, const char *name, struct err *err)
{
    char path[4096];
    if ((size_t)snprintf(path, sizeof path, "%s/%s-wal", dir, name) >= sizeof path)
        return err_set(err, "%s/%s: the path is too long", dir, name);
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT ? 0 : err_errno(err, "%s", path);
    int rc = write_again(fd, in_use(fd)) ? err_errno(err, "%s", path) : 0;
    close(fd);
    return rc;
}
