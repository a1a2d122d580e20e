/* What the supervisor opens for its programs: listening sockets, the log's socket, the store's root. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "waypostd/supervisor.h"

#define BACKLOG 1024
#define BIND_PATIENCE_MS 3000 /* since the start: a reload never waits */
#define RESOURCE_STORE 0
#define RESOURCE_LOG 1
#define RESOURCE_SUBMIT 2

/* ---- listeners ---- */

static struct bound *find_bound(struct supervisor *s, const char *address, unsigned port)
{
    LIST_EACH(&s->bounds, l) {
        struct bound *b = container_of(l, struct bound, link);
        if (b->port == port && strcmp(b->address, address) == 0)
            return b;
    }
    return NULL;
}

static socklen_t make_address(const char *text, unsigned port, struct sockaddr_storage *out)
{
    struct sockaddr_in *in4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;
    memset(out, 0, sizeof *out);
    if (inet_pton(AF_INET, text, &in4->sin_addr) == 1) {
        in4->sin_family = AF_INET;
        in4->sin_port = htons((uint16_t)port);
        return sizeof *in4;
    }
    inet_pton(AF_INET6, text, &in6->sin6_addr); /* the configuration was checked: it is one of the two */
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons((uint16_t)port);
    return sizeof *in6;
}

/* The socket, or -1 with errno. */
static int bind_one(const char *address, unsigned port)
{
    struct sockaddr_storage a;
    int on = 1;
    socklen_t n = make_address(address, port, &a);
    int fd = socket(a.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (a.ss_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&a, n) || listen(fd, BACKLOG)) {
        int why = errno;
        close(fd);
        errno = why;
        return -1;
    }
    return fd;
}

/* A supervisor that died leaves programs that hold its sockets for a moment, until they notice: a start right after it
 * waits for them. */
static int bind_patiently(const char *address, unsigned port)
{
    static int64_t until;
    const struct timespec moment = {.tv_nsec = 20000000};
    if (until == 0)
        until = clock_mono() + BIND_PATIENCE_MS;
    int fd;
    while ((fd = bind_one(address, port)) < 0 && errno == EADDRINUSE && clock_mono() < until)
        nanosleep(&moment, NULL);
    return fd;
}

static int no_ipv6(const char *address, int why)
{
    return strchr(address, ':') && (why == EAFNOSUPPORT || (why == EADDRNOTAVAIL && strcmp(address, "::") == 0));
}

static int bind_listen(struct supervisor *s, const struct conf_listen *l, struct err *err)
{
    for (size_t i = 0; i < l->address.n; i++) {
        const char *address = l->address.items[i];
        if (find_bound(s, address, l->port))
            continue;
        int fd = bind_patiently(address, l->port);
        if (fd < 0 && no_ipv6(address, errno)) {
            LOGW("no-ipv6", KVT("listen", l->name), KVT("address", address), KVT("why", strerror(errno)));
            continue;
        }
        if (fd < 0) {
            int why = errno; /* the caller looks at it */
            err_errno(err, "listen \"%s\": cannot listen on %s port %u", l->name, address, l->port);
            errno = why;
            return -1;
        }
        struct bound *b = mem_alloc(sizeof *b);
        b->port = l->port;
        b->fd = fd;
        snprintf(b->address, sizeof b->address, "%s", address);
        list_add_tail(&s->bounds, &b->link);
    }
    return 0;
}

int sockets_bind(struct supervisor *s, const struct conf *conf, struct err *err)
{
    for (size_t i = 0; i < conf->listen_count; i++)
        if (bind_listen(s, &conf->listen[i], err))
            return -1;
    return 0;
}

static void close_bound(struct bound *b)
{
    close(b->fd);
    list_del(&b->link);
    mem_free(&b);
}

void sockets_trim(struct supervisor *s, const struct conf *conf)
{
    LIST_EACH(&s->bounds, l)
        container_of(l, struct bound, link)->keep = false;
    for (size_t i = 0; i < conf->listen_count; i++)
        for (size_t j = 0; j < conf->listen[i].address.n; j++) {
            struct bound *b = find_bound(s, conf->listen[i].address.items[j], conf->listen[i].port);
            if (b)
                b->keep = true;
        }
    LIST_EACH(&s->bounds, l)
        if (!container_of(l, struct bound, link)->keep)
            close_bound(container_of(l, struct bound, link));
}

void sockets_send(struct child *c, const struct conf *conf)
{
    for (size_t i = 0; i < conf->listen_count; i++)
        for (size_t j = 0; conf_listen_role(&conf->listen[i]) == c->role && j < conf->listen[i].address.n; j++) {
            struct bound *b = find_bound(c->sup, conf->listen[i].address.items[j], conf->listen[i].port);
            struct msg m = {.type = MSG_listener,
                            .listener = {.instance = conf->listen[i].index, .address = (uint16_t)j}};
            if (b)
                chan_say(c->control, &m, b->fd);
        }
}

void sockets_free(struct supervisor *s)
{
    LIST_EACH(&s->bounds, l)
        close_bound(container_of(l, struct bound, link));
}

/* ---- on a path ---- */

/* The path of a socket has room for 107 bytes; through an open folder it is always short. */
static int bind_in(const char *folder, const char *name, int fd, struct err *err)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int dir = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return err_errno(err, "%s", folder);
    snprintf(a.sun_path, sizeof a.sun_path, "/proc/self/fd/%d/%s", dir, name);
    unlinkat(dir, name, 0); /* the lock says that nobody else is on it */
    int r = bind(fd, (struct sockaddr *)&a, sizeof a);
    if (r)
        err_errno(err, "cannot make the socket %s/%s", folder, name);
    close(dir);
    return r;
}

int socket_on_path(int type, const char *folder, const char *name, mode_t mode, struct err *err)
{
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_errno(err, "socket");
    mode_t old = umask(0777 & ~mode);
    int r = bind_in(folder, name, fd, err);
    umask(old);
    if (r == 0)
        return fd;
    close(fd);
    return -1;
}

/* ---- log and store ---- */

/* The socket to syslogd: one, which every program and every account's process holds. When syslogd has been restarted it
 * is dead for all of them, and connecting it again mends it for all; none but the supervisor could reach the path. */
static int syslog_fd = -1;

void log_socket_connect(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};
    if (syslog_fd < 0)
        syslog_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (syslog_fd >= 0 && connect(syslog_fd, (struct sockaddr *)&a, sizeof a))
        return; /* nobody there: lines go to standard error, and each asks for this again */
}

void log_socket_send(struct child *c)
{
    if (c->sup->conf->log == CONF_LOG_SYSLOG && c->control && syslog_fd >= 0)
        chan_say(c->control, &(struct msg){.type = MSG_resource, .resource = {.what = RESOURCE_LOG}}, syslog_fd);
}

void supervisor_open_log(struct supervisor *s)
{
    static const enum log_form forms[] = {
        [CONF_LOG_STDERR] = LOG_TO_STDERR, [CONF_LOG_SYSLOG] = LOG_TO_SYSLOG, [CONF_LOG_JOURNAL] = LOG_TO_JOURNAL};
    static const enum log_level levels[] = {[CONF_LOG_ERROR] = LOG_LEVEL_ERROR,
                                            [CONF_LOG_WARN] = LOG_LEVEL_WARN,
                                            [CONF_LOG_INFO] = LOG_LEVEL_INFO,
                                            [CONF_LOG_DEBUG] = LOG_LEVEL_DEBUG};
    bool syslog = s->conf->log == CONF_LOG_SYSLOG;
    if (syslog)
        log_socket_connect();
    log_on_lost(syslog ? log_socket_connect : NULL);
    if (syslog && syslog_fd < 0)
        log_open("waypostd", STDERR_FILENO, LOG_TO_STDERR);
    else
        log_open("waypostd", syslog ? syslog_fd : STDERR_FILENO, forms[s->conf->log]);
    log_set_level(levels[s->conf->log_level]);
}

static void store_send(struct child *c)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", c->sup->conf->state, sandbox_role(ROLE_ZYGOTE)->dir);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        LOGE("store-root", KVT("folder", path), KVT("why", strerror(errno)));
        return;
    }
    chan_say(c->control, &(struct msg){.type = MSG_resource, .resource = {.what = RESOURCE_STORE}}, fd);
    close(fd);
}

void resources_send(struct child *c)
{
    log_socket_send(c);
    if (c->role == ROLE_QMGR)
        store_send(c);
    if (c->role == ROLE_LOCAL && local_socket(c->sup) >= 0)
        chan_say(c->control, &(struct msg){.type = MSG_resource, .resource = {.what = RESOURCE_SUBMIT}}, local_socket(c->sup));
}
