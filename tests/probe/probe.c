/* A program that plays every service in the tests of the supervisor: it does nothing but stay, die, refuse and tell on
 * command. Copied under the services' names beside a copy of waypostd, so that the supervisor starts it as each of
 * them.
 *
 * Its behaviour at start comes from the configuration: hostname "refuse.ROLE.test" makes that role refuse to start, and
 * to follow a reload; "crash.ROLE.test" makes it crash at start, "hang.ROLE.test" makes it never answer a drain. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "admin/admin.h"
#include "base/log.h"
#include "service/sandbox.h"
#include "service/service.h"

#define PEERS_MAX 16

static struct probe {
    struct service *service;
    struct admin *admin;
    unsigned ups, downs, msgs, reloads, certs;
    struct chan *peers[PEERS_MAX];
    size_t peer_count;
} probe;

static bool told_to(const char *what, const char *hostname)
{
    char want[128];
    snprintf(want, sizeof want, "%s.%s.test", what, role_name(service_role(probe.service)));
    return strcmp(hostname, want) == 0;
}

static int warm(struct service *s, struct err *err)
{
    probe.service = s;
    if (told_to("refuse", service_conf(s)->hostname))
        return err_set(err, "told to refuse");
    if (told_to("crash", service_conf(s)->hostname))
        abort();
    return 0;
}

/* ---- what is asked of it ---- */

static void cmd_tell(void *ctx, struct admin_call *c, const struct span *args UNUSED, size_t n UNUSED)
{
    struct service *s = ((struct probe *)ctx)->service;
    const struct service_listener *list;
    size_t count = service_listeners(s, &list);
    const struct conf *conf = service_conf(s);
    admin_text(c, "hostname", span_of(service_conf(s)->hostname));
    admin_number(c, "generation", service_conf(s)->generation);
    admin_number(c, "listeners", count);
    admin_number(c, "pid", (uint64_t)getpid());
    admin_number(c, "uid", getuid());
    admin_number(c, "ups", probe.ups);
    admin_number(c, "downs", probe.downs);
    admin_number(c, "msgs", probe.msgs);
    admin_number(c, "reloads", probe.reloads);
    admin_number(c, "certs", probe.certs);
    admin_flag(c, "cert", conf->listen_count && service_cert_fd(s, conf->listen[0].index, 0) >= 0);
    admin_flag(c, "key", conf->listen_count && service_cert_fd(s, conf->listen[0].index, 1) >= 0);
    admin_flag(c, "store", service_resource(s, 0) >= 0);
    admin_row(c);
    admin_end(c, ADMIN_DONE, "%s", "");
}

static void cmd_peers(void *ctx UNUSED, struct admin_call *c, const struct span *args UNUSED, size_t n UNUSED)
{
    for (size_t i = 0; i < probe.peer_count; i++) {
        admin_text(c, "peer", span_of(role_name(chan_peer(probe.peers[i]))));
        admin_number(c, "instance", chan_instance(probe.peers[i]));
        admin_flag(c, "up", chan_is_up(probe.peers[i]));
        admin_number(c, "epoch", chan_epoch(probe.peers[i]));
        admin_row(c);
    }
    admin_end(c, ADMIN_DONE, "%s", "");
}

static void cmd_crash(void *ctx UNUSED, struct admin_call *c UNUSED, const struct span *args UNUSED, size_t n UNUSED)
{
    abort();
}

/* Sends a frame that breaks the rules on every peer channel: the peers must close it, and the supervisor make a fresh
 * pair. */
static void cmd_garbage(void *ctx UNUSED, struct admin_call *c, const struct span *args UNUSED, size_t n UNUSED)
{
    struct msg forbidden = {.type = MSG_setting, .setting = {.generation = 1}};
    for (size_t i = 0; i < probe.peer_count; i++)
        chan_say(probe.peers[i], &forbidden, -1);
    admin_end(c, ADMIN_DONE, "%s", "");
}

/* Says something harmless to every peer, so that a test sees which pairs carry. */
static void cmd_greet(void *ctx UNUSED, struct admin_call *c, const struct span *args UNUSED, size_t n UNUSED)
{
    struct service *s = probe.service;
    struct msg m = service_role(s) == ROLE_QMGR ? (struct msg){.type = MSG_queue_state, .queue_state = {.open = 1}}
                                                : (struct msg){.type = MSG_msg_abort, .msg_abort = {.txn = 1}};
    for (size_t i = 0; i < probe.peer_count; i++)
        chan_say(probe.peers[i], &m, -1);
    admin_end(c, ADMIN_DONE, "%s", "");
}

/* The sandbox from inside a running program: what each attempt answers. */
static void cmd_try(void *ctx UNUSED, struct admin_call *c, const struct span *args UNUSED, size_t n UNUSED)
{
    int fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
    admin_flag(c, "open-etc", fd >= 0);
    admin_flag(c, "kill-parent", kill(getppid(), 0) == 0);
    admin_row(c);
    if (fd >= 0)
        close(fd);
    admin_end(c, ADMIN_DONE, "%s", "");
}

static const struct admin_command commands[] = {
    {"tell", "", 0, 0, cmd_tell}, {"peers", "", 0, 0, cmd_peers}, {"crash", "", 0, 0, cmd_crash},
    {"garbage", "", 0, 0, cmd_garbage}, {"greet", "", 0, 0, cmd_greet}, {"try", "", 0, 0, cmd_try},
};

/* ---- its life ---- */

static int start(struct service *s, struct err *err UNUSED)
{
    probe.admin = admin_new(service_loop(s), commands, COUNT_OF(commands), &probe);
    return 0;
}

static void on_msg(struct service *s UNUSED, struct chan *from UNUSED, const struct msg *m UNUSED, int fd)
{
    probe.msgs++;
    if (fd >= 0)
        close(fd);
}

static void on_up(struct service *s UNUSED, struct chan *c)
{
    probe.ups++;
    for (size_t i = 0; i < probe.peer_count; i++)
        if (probe.peers[i] == c)
            return;
    if (probe.peer_count < PEERS_MAX)
        probe.peers[probe.peer_count++] = c;
}

static void on_down(struct service *s UNUSED, struct chan *c UNUSED)
{
    probe.downs++;
}

static void on_admin(struct service *s UNUSED, int fd, uint32_t uid)
{
    admin_accept(probe.admin, fd, uid);
}

static int can_reload(struct service *s, const struct conf *next, struct err *why)
{
    (void)s;
    return told_to("refuse", next->hostname) ? err_set(why, "told to refuse") : 0;
}

static void reloaded(struct service *s UNUSED)
{
    probe.reloads++;
}

static int on_certs(struct service *s, struct err *err)
{
    probe.certs++;
    return told_to("certs", service_conf(s)->hostname) ? err_set(err, "told to refuse") : 0;
}

static void drain(struct service *s)
{
    if (!told_to("hang", service_conf(s)->hostname))
        service_done(s);
}

static void stop(struct service *s UNUSED)
{
    admin_free(&probe.admin);
}

int main(int argc, char **argv)
{
    static const struct service_def def = {.name = "probe",
                                           .warm = warm,
                                           .start = start,
                                           .on_msg = on_msg,
                                           .on_up = on_up,
                                           .on_down = on_down,
                                           .on_admin = on_admin,
                                           .can_reload = can_reload,
                                           .reloaded = reloaded,
                                           .on_certs = on_certs,
                                           .drain = drain,
                                           .stop = stop,
                                           .state = &probe};
    return service_main(&def, argc, argv);
}
