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

static uint32_t little_endian(const unsigned char *p)
{
    return (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
}

static void add_up(const unsigned char *p, size_t n, bool big, uint32_t *a, uint32_t *b)
{
    for (size_t i = 0; i + 8 <= n; i += 8) {
        *a += (big ? big_endian(p + i) : little_endian(p + i)) + *b;
        *b += (big ? big_endian(p + i + 4) : little_endian(p + i + 4)) + *a;
    }
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

/* Whole frames from the first one on, by the sums that go through all of them: what SQLite would find, were it opened now. */
static int64_t whole_frames(int fd)
{
    static _Thread_local unsigned char header[HEADER], frame[FRAME_HEADER + PAGE_MAX];
    uint32_t a = 0, b = 0, page;
    int64_t n = 0;
    if (!read_all(fd, header, sizeof header, 0) || (page = big_endian(header + 8)) < 512 || page > PAGE_MAX)
        return 0;
    bool big = header[3] & 1; /* of the magic number: how the summands are read */
    add_up(header, HEADER - 8, big, &a, &b);
    if (a != big_endian(header + 24) || b != big_endian(header + 28))
        return 0;
    for (off_t at = HEADER; read_all(fd, frame, FRAME_HEADER + page, at); at += FRAME_HEADER + (off_t)page, n++) {
        add_up(frame, 8, big, &a, &b);
        add_up(frame + FRAME_HEADER, page, big, &a, &b);
        if (memcmp(frame + 8, header + 16, 8) != 0 || a != big_endian(frame + 16) || b != big_endian(frame + 20))
            break;
    }
    return n;
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

int db_renew_log(const char *dir, const char *name, int64_t *frames, struct err *err)
{
    char path[4096];
    if (frames)
        *frames = 0;
    if ((size_t)snprintf(path, sizeof path, "%s/%s-wal", dir, name) >= sizeof path)
        return err_set(err, "%s/%s: the path is too long", dir, name);
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT ? 0 : err_errno(err, "%s", path);
    int rc = write_again(fd, in_use(fd)) ? err_errno(err, "%s", path) : 0;
    if (rc == 0 && frames)
        *frames = whole_frames(fd);
    close(fd);
    return rc;
}
