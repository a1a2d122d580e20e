/* The life of a front: warm, start, reload, drain, stop. */
#include "front/front.h"

#include <unistd.h>

#include "base/log.h"

static int warm(struct service *s, struct err *err)
{
    struct front *f = service_state(s);
    f->service = s;
    tls_warm();
    if (gethostname(f->hostname, sizeof f->hostname - 1))
        return err_errno(err, "gethostname");
    return 0;
}

int front_start(struct front *f, const struct front_protocol *p, struct err *err)
{
    f->protocol = p;
    f->loop = service_loop(f->service);
    f->authd = service_chan(f->service, ROLE_AUTHD, 0);
    guests_open(&f->guests, service_chan(f->service, ROLE_TALLYD, 0), p->conf);
    asker_init(&f->asker, f->loop, service_chan(f->service, ROLE_KEYD, 0));
    list_init(&f->sessions);
    return doors_open(f, err);
}

static void on_msg(struct service *s UNUSED, struct chan *from UNUSED, const struct msg *m UNUSED, int fd)
{
    if (fd >= 0)
        close(fd); /* nobody has anything to tell a front but answers */
}

static void on_up(struct service *s, struct chan *c)
{
    struct front *f = service_state(s);
    if (c == f->guests.tallyd && f->guests.tallyd)
        guests_up(&f->guests);
}

static int can_reload(struct service *s, const struct conf *next, struct err *why)
{
    return doors_try(service_state(s), next, why);
}

static void reloaded(struct service *s)
{
    struct err err;
    if (doors_open(service_state(s), &err))
        LOGE("reload", KVT("why", err.text));
}

static int on_certs(struct service *s, struct err *err)
{
    return doors_certs(service_state(s), err);
}

static void drain(struct service *s)
{
    struct front *f = service_state(s);
    doors_close(f);
    front_sessions_drain(f);
    if (f->count == 0)
        service_done(s);
}

static void stop(struct service *s)
{
    struct front *f = service_state(s);
    doors_close(f);
    if (f->sessions.next)
        front_sessions_free(f);
    gate_free(&f->gate);
    guests_free(&f->guests);
}

void front_def(struct service_def *def, struct front *f, enum role role, const char *name,
               int (*start)(struct service *s, struct err *err))
{
    *def = (struct service_def){.role = role,
                                .name = name,
                                .warm = warm,
                                .start = start,
                                .on_msg = on_msg,
                                .on_up = on_up,
                                .can_reload = can_reload,
                                .reloaded = reloaded,
                                .on_certs = on_certs,
                                .drain = drain,
                                .stop = stop,
                                .state = f};
}
