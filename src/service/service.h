/* The skeleton of every daemon: it reads what the supervisor sends on descriptor 3, warms up, locks itself in (uid,
 * root, Landlock, seccomp: service/sandbox.h), says ready, runs the loop, follows reloads and drains. A program
 * supplies the functions below. */
#ifndef SERVICE_SERVICE_H
#define SERVICE_SERVICE_H

#include "base/err.h"
#include "conf/conf.h"
#include "ipc/chan.h"
#include "loop/loop.h"

struct service;

struct service_def {
    enum role role; /* smtpd: the role comes from its argument, see service_role() */
    const char *name;
    /* Before the sandbox, configuration and descriptors at hand: open and prepare whatever later would need a file. */
    int (*warm)(struct service *s, struct err *err);
    /* Inside the sandbox, the loop about to run. Ready is said when it returned 0 (unless it called
     * service_ready_later()). */
    int (*start)(struct service *s, struct err *err);
    /* A message from any peer channel. */
    void (*on_msg)(struct service *s, struct chan *from, const struct msg *m, int fd);
    void (*on_up)(struct service *s, struct chan *c);   /* optional: a peer's fresh pair is in place (also the first) */
    void (*on_down)(struct service *s, struct chan *c); /* optional */
    void (*on_room)(struct service *s, struct chan *c); /* optional */
    /* optional: an operator's connection, the callee's; see admin/admin.h */
    void (*on_admin)(struct service *s, int fd, uint32_t uid);
    void (*on_told)(struct service *s, const struct msg *m, int fd); /* optional: what else the supervisor says */
    /* Reload, phase one: could you run with this? Phase two: the switch; service_conf() is the new one from here on,
     * the old one is freed when the last conf_unref() came (sessions keep the generation they began with: conf_ref). */
    int (*can_reload)(struct service *s, const struct conf *next, struct err *why); /* optional: always can */
    void (*reloaded)(struct service *s);                                           /* optional */
    void (*forgotten)(struct service *s); /* optional: after can_reload said yes, another program said no */
    /* optional: renewed certificates came, service_cert_fd() has them. -1: what was there before stays in use. */
    int (*on_certs)(struct service *s, struct err *err);
    /* Stop taking new work, finish what is in flight, then call service_done(). NULL: done at once. */
    void (*drain)(struct service *s);
    void (*stop)(struct service *s); /* optional: the loop has ended; free everything, so that leaks show */
    void *state;                     /* the program's own, for service_state() */
};

int service_main(const struct service_def *def, int argc, char **argv);

struct loop *service_loop(struct service *s);
const struct conf *service_conf(struct service *s);
enum role service_role(struct service *s);
uint32_t service_instance(struct service *s);
bool service_as_root(struct service *s); /* whether programs and accounts have uids of their own */
void *service_state(struct service *s);
/* The channel to that peer (never NULL for a pair in the table of service/roles.c; down while the peer is dead). */
struct chan *service_chan(struct service *s, enum role peer, uint32_t instance);
/* The listening sockets handed to us: walks them. After a reload: those of the new generation. A socket that stays
 * keeps its descriptor; one that is no longer listed is closed as soon as reloaded() returns, so let go of it there. */
struct service_listener {
    const struct conf_listen *conf;
    int fd;
};
size_t service_listeners(struct service *s, const struct service_listener **list);
/* Certificate chain (what=0) or key (what=1; keyd alone) that the listener of that index uses (its own or the tls section's), or
 * with instance 0 the trust file of the relay or of tokend (what=2) or the keys of tokens' issuer (what=4); what=3: authorities of the listener's clients; open for reading at offset 0; -1: none. Stays the service's. */
int service_cert_fd(struct service *s, unsigned instance, unsigned what);
/* A resource of F_resource; -1: none. */
int service_resource(struct service *s, unsigned what);
void service_ready_later(struct service *s); /* from start(): ready will be said by service_ready() */
void service_ready(struct service *s);
void service_done(struct service *s); /* the drain is over: leave */
bool service_draining(struct service *s);

#endif
