/* Frames of ipc/ on the admin socket. What comes is trusted no further than the codec and the limits here. */
#include "waypost/client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/arena.h"
#include "ipc/chan.h"
#include "waypost/progress.h"

#define SERVICE_NAME_SIZE 32
#define CELLS_MAX 64 /* of a row */

/* The path of a socket has room for 107 bytes; through an open folder it is always short. */
static int connect_in(const char *run, int s, struct err *err)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int dir = open(run, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return errno == ENOENT
                   ? err_set(err, "waypost is not running here (%s is missing): 'waypost start' starts it", run)
                   : err_errno(err, "%s", run);
    snprintf(to.sun_path, sizeof(to.sun_path), "/proc/self/fd/%d/admin.sock", dir);
    int rc = connect(s, (struct sockaddr *)&to, sizeof(to));
    int why = errno;
    close(dir);
    if (rc == 0)
        return 0;
    if (why == ENOENT || why == ECONNREFUSED)
        return err_set(err, "waypost is not running here (%s): 'waypost start' starts it", run);
    if (why == EACCES || why == EPERM)
        return err_set(err, "%s/admin.sock: only root, the owner of the instance and the group waypost may connect",
                       run);
    return err_set(err, "%s/admin.sock: %s", run, strerror(why));
}

int client_open(const char *run, const char *service, struct err *err)
{
    char name[SERVICE_NAME_SIZE] = {0};
    int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (s < 0)
        return err_errno(err, "socket");
    snprintf(name, sizeof(name), "%s", service);
    if (connect_in(run, s, err) == 0) {
        if (send(s, name, sizeof(name), MSG_NOSIGNAL) == (ssize_t)sizeof(name))
            return s;
        err_errno(err, "%s/admin.sock", run);
    }
    close(s);
    return -1;
}

int client_send(int fd, const char *command, const struct span *args, size_t nargs, int file, struct err *err)
{
    struct msg m = {.type = MSG_adm_arg};
    for (size_t i = 0; i < nargs; i++) {
        m.adm_arg.value = args[i];
        if (chan_send_now(fd, &m, -1, err))
            return -1;
    }
    m = (struct msg){.type = MSG_adm_go};
    m.adm_go.command = span_of(command);
    return chan_send_now(fd, &m, file, err);
}

struct reading {
    struct buf frame;
    struct arena arena; /* the texts of one row */
    struct row_cell cells[CELLS_MAX];
    size_t count, kept; /* kept: so many are in the arena, the others in the frame */
};

/* The row goes on in another frame. */
static void keep_cells(struct reading *r)
{
    for (; r->kept < r->count; r->kept++) {
        struct row_cell *c = &r->cells[r->kept];
        c->name = arena_dup(&r->arena, c->name);
        c->value = arena_dup(&r->arena, c->value);
    }
}

static void end_row(struct reading *r, client_row_fn *fn, void *ctx)
{
    fn(ctx, &(struct client_row){r->cells, r->count});
    r->count = r->kept = 0;
    arena_reset(&r->arena);
}

static int take_rows(struct reading *r, struct span rest, client_row_fn *fn, void *ctx, struct err *err)
{
    struct row_cell c;
    enum rows_item item;
    while ((item = rows_next(&rest, &c)) == ROWS_CELL || item == ROWS_END)
        if (item == ROWS_END)
            end_row(r, fn, ctx);
        else if (r->count < CELLS_MAX)
            r->cells[r->count++] = c;
    keep_cells(r);
    return item == ROWS_OVER ? 0 : err_set(err, "rows that are none");
}

/* Until something comes, or who asked has enough (false). */
static bool await(int fd, client_pause_fn *pause, void *ctx)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    while (pause && poll(&p, 1, CLIENT_PAUSE_MS) == 0)
        if (!pause(ctx))
            return false;
    return true;
}

static int read_all(struct reading *r, int fd, enum role role, client_row_fn *fn, client_pause_fn *pause, void *ctx,
                    struct buf *message, struct err *err)
{
    for (;;) {
        struct msg m;
        int got_fd;
        if (!await(fd, pause, ctx))
            return err_set(err, "interrupted");
        int got = chan_recv_now(fd, role, &r->frame, &m, &got_fd, err);
        if (got_fd >= 0)
            close(got_fd);
        if (got < 0)
            return -1;
        if (got == 0)
            return err_set(err, "the connection ended without an answer: see the log");
        if (m.type == MSG_adm_progress)
            progress_show(&m.adm_progress);
        else
            progress_clear();
        if (m.type == MSG_adm_rows) {
            if (take_rows(r, m.adm_rows.rows, fn, ctx, err))
                return -1;
        } else if (m.type == MSG_adm_end) {
            buf_add(message, m.adm_end.message);
            return m.adm_end.status;
        } else if (m.type != MSG_adm_progress) {
            return err_set(err, "an answer that is none");
        }
    }
}

int client_read(int fd, const char *service, client_row_fn *fn, client_pause_fn *pause, void *ctx, struct buf *message,
                struct err *err)
{
    struct reading r = {0};
    int status = read_all(&r, fd, role_by_name(service), fn, pause, ctx, message, err);
    buf_free(&r.frame);
    arena_free(&r.arena);
    return status;
}

/* The peer of a connection is, to the kernel, the process that listens: the supervisor, whoever has the connection now.
 */
int client_supervisor(int fd)
{
    struct ucred who;
    socklen_t n = sizeof(who);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n) || who.pid <= 0)
        return -1;
    return (int)syscall(SYS_pidfd_open, who.pid, 0);
}

void client_wait_end(int process)
{
    struct pollfd p = {.fd = process, .events = POLLIN};
    if (process < 0)
        return;
    while (poll(&p, 1, -1) < 0 && errno == EINTR)
        ;
    close(process);
}
