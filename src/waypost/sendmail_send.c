/* Handing in: a session on run/submit.sock, or a file in the drop directory. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sysexits.h>
#include <unistd.h>

#include "waypost/sendmail.h"

#define PATIENCE_MS 300000 /* RFC5321:4.5.3.2 */
#define REPLY_MAX 65536
#define PIECE 65536

int sendmail_connect(const char *run)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int dir = open(run, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return -1;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(to.sun_path, sizeof to.sun_path, "/proc/self/fd/%d/submit.sock", dir);
    int rc = fd < 0 ? -1 : connect(fd, (struct sockaddr *)&to, sizeof to);
    int why = errno;
    close(dir);
    if (rc && fd >= 0)
        close(fd);
    errno = why;
    return rc ? -1 : fd;
}

/* ---- a session ---- */

struct talk {
    int fd;
    bool verbose;
    struct buf in;
    struct span reply; /* the last one, in `in` */
};

static bool send_all(int fd, struct span s)
{
    while (s.n) {
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        if (poll(&p, 1, PATIENCE_MS) == 0)
            return false;
        ssize_t n = send(fd, s.p, s.n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return false;
        s = span_from(s, n > 0 ? (size_t)n : 0);
    }
    return true;
}

static bool more(struct talk *t)
{
    struct pollfd p = {.fd = t->fd, .events = POLLIN};
    ssize_t n;
    if (t->in.n > REPLY_MAX)
        return false;
    do {
        if (poll(&p, 1, PATIENCE_MS) == 0)
            return false;
        n = recv(t->fd, buf_room(&t->in, 4096), 4096, 0);
    } while (n < 0 && errno == EINTR);
    t->in.n += n > 0 ? (size_t)n : 0;
    return n > 0;
}

/* The code of one whole reply; 0: the connection is over. */
static int read_reply(struct talk *t)
{
    size_t at = 0;
    buf_drop(&t->in, t->reply.n);
    t->reply.n = 0;
    for (;;) {
        ptrdiff_t end = span_find(span_from(buf_span(&t->in), at), '\n');
        if (end < 0) {
            if (!more(t))
                return 0;
            continue;
        }
        struct span line = span_sub(buf_span(&t->in), at, (size_t)end + 1);
        at += line.n;
        if (line.n > 3 && line.p[3] == '-')
            continue;
        uint64_t code = 0;
        t->reply = span_sub(buf_span(&t->in), 0, at);
        if (t->verbose)
            fwrite(t->reply.p, 1, t->reply.n, stderr);
        return span_u64(span_sub(line, 0, 3), 999, &code) ? (int)code : 0;
    }
}

static int judge(struct talk *t, int code, int permanent, struct buf *why)
{
    if (code >= 200 && code < 400)
        return EX_OK;
    if (code)
        buf_add(why, span_trim(t->reply));
    else
        buf_adds(why, "the connection ended without an answer");
    return code >= 500 ? permanent : EX_TEMPFAIL;
}

static int say(struct talk *t, struct span what, int permanent, struct buf *why)
{
    send_all(t->fd, what); /* what the server said before it closed is there to be read even so */
    return judge(t, read_reply(t), permanent, why);
}

int sendmail_session(int fd, struct span batch, size_t content, bool verbose, struct buf *why)
{
    struct talk t = {.fd = fd, .verbose = verbose};
    struct span lines = span_sub(batch, 0, content), text = span_from(batch, content);
    int status = judge(&t, read_reply(&t), EX_NOPERM, why);
    while (status == EX_OK && lines.n) {
        struct span line = span_sub(lines, 0, (size_t)span_find(lines, '\n') + 1);
        lines = span_from(lines, line.n);
        if (verbose)
            fwrite(line.p, 1, line.n, stderr);
        status = say(&t, line, span_starts(line, SPAN("RCPT ")) ? EX_NOUSER : EX_UNAVAILABLE, why);
    }
    if (status == EX_OK)
        status = say(&t, span_sub(text, 0, text.n - SPAN("QUIT\r\n").n), EX_DATAERR, why);
    if (status == EX_OK)
        send_all(fd, SPAN("QUIT\r\n"));
    buf_free(&t.in);
    return status;
}

/* ---- -bs ---- */

static bool write_all(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t w = write(fd, p, n);
        if (w < 0 && errno != EINTR)
            return false;
        p += w > 0 ? w : 0;
        n -= w > 0 ? (size_t)w : 0;
    }
    return true;
}

int sendmail_pipe(int fd)
{
    static char piece[PIECE];
    bool more_in = true;
    for (;;) {
        struct pollfd p[2] = {{.fd = fd, .events = POLLIN}, {.fd = more_in ? STDIN_FILENO : -1, .events = POLLIN}};
        if (poll(p, 2, -1) < 0)
            continue;
        if (p[0].revents) {
            ssize_t n = recv(fd, piece, sizeof piece, 0);
            if (n <= 0)
                return n < 0 ? EX_IOERR : EX_OK;
            if (!write_all(STDOUT_FILENO, piece, (size_t)n))
                return EX_IOERR;
        } else if (p[1].revents) {
            ssize_t n = read(STDIN_FILENO, piece, sizeof piece);
            more_in = n > 0;
            if (!more_in)
                shutdown(fd, SHUT_WR);
            else if (!send_all(fd, span_make(piece, (size_t)n)))
                more_in = false; /* what it still says comes out above */
        }
    }
}

/* ---- the drop directory ---- */

/* The second sync is for the name; the folder itself can't be opened by those who may write to it. */
static int write_and_name(int dir, int fd, const char *hidden, const char *name, struct span batch)
{
    if (!write_all(fd, batch.p, batch.n) || fchmod(fd, 0600) || fsync(fd) || renameat(dir, hidden, dir, name)) {
        int why = errno;
        unlinkat(dir, hidden, 0);
        errno = why;
        return -1;
    }
    return fsync(fd);
}

int sendmail_drop(const char *folder, const char *name, struct span batch, struct err *err)
{
    char hidden[256];
    snprintf(hidden, sizeof hidden, ".%s", name);
    int dir = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC), rc = -1;
    int fd = dir < 0 ? -1 : openat(dir, hidden, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd >= 0)
        rc = write_and_name(dir, fd, hidden, name, batch);
    if (rc)
        err_errno(err, "%s", folder);
    if (fd >= 0)
        close(fd);
    if (dir >= 0)
        close(dir);
    return rc;
}
