#include "qmgr/carry.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <unistd.h>

#include "base/util.h"

#define LOOK_MS 200 /* whether somebody still wants it */

/* 1: it is ready, -1: it is over. */
static int wait_for(struct question *k, int fd, short events, struct err *err)
{
    for (;;) {
        struct pollfd p = {.fd = fd, .events = events};
        int got = poll(&p, 1, LOOK_MS);
        if (got < 0 && errno != EINTR)
            return err_errno(err, "the file");
        if (question_over(k))
            return err_set(err, "stopped");
        if (got > 0)
            return 1;
    }
}

int carry_write(struct question *k, int fd, struct span bytes, struct err *err)
{
    while (bytes.n) {
        if (wait_for(k, fd, POLLOUT, err) < 0)
            return -1;
        ssize_t n = write(fd, bytes.p, MIN_OF(bytes.n, (size_t)PIPE_BUF)); /* a pipe that is ready takes as much at once */
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return err_errno(err, "writing the file");
        bytes = span_from(bytes, n > 0 ? (size_t)n : 0);
    }
    return 0;
}

ssize_t carry_read(struct question *k, int fd, char *to, size_t n, struct err *err)
{
    for (;;) {
        if (wait_for(k, fd, POLLIN, err) < 0)
            return -1;
        ssize_t got = read(fd, to, n);
        if (got >= 0)
            return got;
        if (errno != EINTR && errno != EAGAIN)
            return err_errno(err, "reading the file");
    }
}
