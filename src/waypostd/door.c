/* The operators' door: one named SOCK_SEQPACKET socket. It admits root, the instance's owner and the group waypost
 * (SO_PEERCRED), reads a fixed-size service name, nothing more, and passes the connection on with the caller's uid.
 * Three commands are answered here. */
#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "waypostd/supervisor.h"

#define NAME_BYTES 32
#define CALLERS_MAX 64
#define NAME_WAIT_MS 10000
#define GROUPS_MAX 256
#define REST_MS 500 /* after the kernel had no descriptor for us */

/* A connection whose service name has not come yet; or one that has its answer, kept open until the caller has read
 * it. */
struct caller {
    struct link link;
    struct door *door;
    int fd;
    uint32_t uid;
    bool answered;
    struct io *io;
    struct timer *timer;
};

struct door {
    struct supervisor *sup;
    int fd;
    char path[4096];
    struct io *io;
    struct timer *rest;
    struct link callers;
    size_t count;
};

/* ---- who may ---- */

/* Groups of the caller's process as of when it connected. */
static bool in_group(int fd, gid_t primary, gid_t wanted)
{
    gid_t groups[GROUPS_MAX];
    socklen_t n = sizeof groups;
    if (primary == wanted)
        return true;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &n))
        return false;
    for (size_t i = 0; i < n / sizeof *groups; i++)
        if (groups[i] == wanted)
            return true;
    return false;
}

static bool is_welcome(int fd, uint32_t *uid)
{
    struct ucred who;
    socklen_t n = sizeof who;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n))
        return false;
    *uid = who.uid;
    if (who.uid == 0 || who.uid == geteuid())
        return true;
    struct group *g = getgrnam(SANDBOX_ADMIN_GROUP);
    return g && in_group(fd, who.gid, g->gr_gid);
}

/* ---- where to ---- */

static void free_caller(struct caller *c)
{
    io_free(&c->io);
    timer_free(&c->timer);
    list_del(&c->link);
    c->door->count--;
    mem_free(&c);
}

/* Says the end of a call in one frame. The caller may still be writing his command: what comes is read and dropped
 * until he closes. */
static void answer_end(struct caller *c, enum admin_status status, const char *text)
{
    struct buf b = {0};
    struct msg m = {.type = MSG_adm_end, .adm_end = {.status = (uint8_t)status, .message = span_of(text)}};
    if (msg_encode(&m, &b, NULL) == 0)
        send(c->fd, b.p, b.n, MSG_DONTWAIT | MSG_NOSIGNAL);
    buf_free(&b);
    c->answered = true;
}

/* The connection goes to whoever the name means. */
static void pass_on(struct caller *c, const char *name)
{
    struct supervisor *s = c->door->sup;
    char text[100];
    struct child *to = child_find(s, role_by_name(name), 0);
    int fd = c->fd;
    uint32_t uid = c->uid;
    if (strcmp(name, "waypostd") == 0) {
        free_caller(c);
        admin_accept(s->admin, fd, uid);
    } else if (to && to->state == CHILD_READY && child_runs(to)) {
        free_caller(c);
        chan_say(to->control, &(struct msg){.type = MSG_admin_peer, .admin_peer = {.uid = uid}}, fd);
        close(fd);
    } else {
        snprintf(text, sizeof text, to ? "%s is not running now, try again" : "there is no service %s here", name);
        answer_end(c, to ? ADMIN_LATER : ADMIN_NO_SUCH, text);
    }
}

static bool is_name(const char name[NAME_BYTES])
{
    size_t n = strnlen(name, NAME_BYTES);
    if (n == 0 || n == NAME_BYTES)
        return false;
    for (size_t i = 0; i < NAME_BYTES; i++)
        if (i < n ? !ascii_alpha(name[i]) && !ascii_digit(name[i]) && name[i] != '-' : name[i] != 0)
            return false;
    return true;
}

static void hang_up(struct caller *c)
{
    close(c->fd);
    free_caller(c);
}

static void on_caller(void *ctx, unsigned events)
{
    struct caller *c = ctx;
    char name[NAME_BYTES + 1];
    if (!(events & IO_READ))
        return;
    ssize_t n = recv(c->fd, name, sizeof name, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0 && c->answered)
        return;
    if (n == NAME_BYTES && is_name(name))
        pass_on(c, name);
    else
        hang_up(c);
}

static void on_late(void *ctx)
{
    hang_up(ctx);
}

static void on_rested(void *ctx)
{
    io_want(((struct door *)ctx)->io, IO_READ);
}

static void on_door(void *ctx, unsigned events)
{
    struct door *d = ctx;
    uint32_t uid = 0;
    (void)events;
    int fd = accept4(d->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) { /* HAZARDS 10: it would spin */
            io_want(d->io, 0);
            timer_start(d->rest, REST_MS);
        }
        return;
    }
    struct caller *c = mem_alloc(sizeof *c);
    bool welcome = is_welcome(fd, &uid);
    *c = (struct caller){
        .door = d, .fd = fd, .uid = uid, .io = d->count < CALLERS_MAX ? io_new(d->sup->loop, fd, on_caller, c) : NULL};
    c->timer = timer_new(d->sup->loop, on_late, c);
    list_add_tail(&d->callers, &c->link);
    d->count++;
    if (!c->io) {
        hang_up(c);
        return;
    }
    io_want(c->io, IO_READ);
    timer_start(c->timer, NAME_WAIT_MS);
    if (welcome)
        return;
    LOGW("operator-refused", KVU("uid", uid));
    answer_end(c, ADMIN_FAILED,
               "only root, the owner of this instance and the group " SANDBOX_ADMIN_GROUP " may do this");
}

/* ---- our own commands ---- */

static void row(struct admin_call *call, const struct child *c)
{
    struct supervisor *s = c->sup;
    uid_t uid = geteuid();
    gid_t gid;
    struct err ignored;
    if (s->as_root)
        start_ids(c->role, &uid, &gid, &ignored);
    admin_text(call, "service", span_of(role_name(c->role)));
    admin_number(call, "instance", c->instance);
    admin_text(call, "state", span_of(child_state_name(c)));
    admin_number(call, "pid", (uint64_t)c->pid);
    admin_number(call, "uid", uid);
    admin_number(call, "uptime", c->pid ? (uint64_t)(loop_now(s->loop) - c->started) / 1000 : 0);
    admin_number(call, "restarts", c->restarts);
    admin_text(call, "sandbox", span_of(c->sandbox));
    admin_row(call);
}

static void own_row(struct supervisor *s, struct admin_call *call)
{
    static const char *const phases[] = {"starting", "ready", "draining"};
    admin_text(call, "service", SPAN("waypostd"));
    admin_number(call, "instance", 0);
    admin_text(call, "state", span_of(phases[s->phase]));
    admin_number(call, "pid", (uint64_t)getpid());
    admin_number(call, "uid", geteuid());
    admin_number(call, "uptime", (uint64_t)(loop_now(s->loop) - s->started) / 1000);
    admin_number(call, "restarts", 0);
    admin_text(call, "sandbox", SPAN("none"));
    admin_row(call);
}

static void cmd_status(void *ctx, struct admin_call *call, const struct span *args, size_t nargs)
{
    struct supervisor *s = ctx;
    (void)args;
    (void)nargs;
    own_row(s, call);
    LIST_EACH(&s->children, l)
        row(call, container_of(l, struct child, link));
    if (s->as_root)
        admin_end(call, ADMIN_DONE, "accounts are separated by uid and Landlock, generation %u", s->conf->generation);
    else if (sandbox_landlock_abi())
        admin_end(call, ADMIN_DONE,
                  "not root: all run as uid %u, accounts are separated by Landlock only, generation %u", geteuid(),
                  s->conf->generation);
    else
        admin_end(call, ADMIN_DONE,
                  "not root, and this kernel has no Landlock: accounts are not separated, generation %u",
                  s->conf->generation);
}

static void cmd_reload(void *ctx, struct admin_call *call, const struct span *args, size_t nargs)
{
    (void)args;
    (void)nargs;
    reload_begin(ctx, call);
}

static void cmd_stop(void *ctx, struct admin_call *call, const struct span *args, size_t nargs)
{
    (void)args;
    (void)nargs;
    admin_end(call, ADMIN_DONE, "stopping, pid %d", (int)getpid());
    supervisor_stop(ctx);
}

static const struct admin_command commands[] = {
    {"status", "", 0, 0, cmd_status},
    {"reload", "", 0, 0, cmd_reload},
    {"stop", "", 0, 0, cmd_stop},
};

/* ---- open and close ---- */

static int bind_door(struct door *d, const char *run, bool as_root, struct err *err)
{
    struct group *g = as_root ? getgrnam(SANDBOX_ADMIN_GROUP) : NULL;
    d->fd = socket_on_path(SOCK_SEQPACKET, run, "admin.sock", 0600, err);
    if (d->fd < 0)
        return -1;
    if (g && (chown(d->path, 0, g->gr_gid) || chmod(d->path, 0660)))
        return err_errno(err, "cannot give %s to the group " SANDBOX_ADMIN_GROUP, d->path);
    return listen(d->fd, 64) ? err_errno(err, "listen on %s", d->path) : 0;
}

int door_open(struct supervisor *s, struct err *err)
{
    struct door *d = mem_alloc(sizeof *d);
    s->door = d;
    d->sup = s;
    list_init(&d->callers);
    d->fd = -1;
    if ((size_t)snprintf(d->path, sizeof d->path, "%s/admin.sock", s->conf->run) >= sizeof d->path)
        return err_set(err, "run: the path is too long");
    if (bind_door(d, s->conf->run, s->as_root, err))
        return -1;
    d->io = io_new(s->loop, d->fd, on_door, d);
    d->rest = timer_new(s->loop, on_rested, d);
    s->admin = admin_new(s->loop, commands, COUNT_OF(commands), s);
    if (!d->io)
        return err_set(err, "the kernel refuses to watch %s", d->path);
    io_want(d->io, IO_READ);
    return 0;
}

void door_close(struct supervisor *s)
{
    struct door *d = s->door;
    if (!d)
        return;
    LIST_EACH(&d->callers, l)
        hang_up(container_of(l, struct caller, link));
    io_free(&d->io);
    timer_free(&d->rest);
    if (d->fd >= 0)
        close(d->fd);
    if (d->io || *d->path)
        unlink(d->path);
    admin_free(&s->admin);
    mem_free(&s->door);
}
