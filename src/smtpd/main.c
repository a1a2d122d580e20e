/* smtpd: start, reload, drain. The roles are told apart by the supervisor's argument (service_role()).
 *
 * Security: runs with its own uid in an empty root, opens no file and no socket, holds channels to authd and qmgr and
 * the listening sockets it was given. What it says to them is checked there. */
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "mail/date.h"
#include "smtpd/smtpd.h"

static struct smtpd program;

static int warm(struct service *sv, struct err *err)
{
    struct smtpd *d = service_state(sv);
    tls_warm();
    date_zone(clock_wall() / 1000); /* reads the zone file */
    if (service_role(sv) == ROLE_LOCAL && local_warm(d, service_conf(sv), err))
        return -1;
    if (gethostname(d->hostname, sizeof d->hostname - 1))
        return err_errno(err, "gethostname");
    return 0;
}

static int start(struct service *sv, struct err *err)
{
    struct smtpd *d = service_state(sv);
    d->service = sv;
    d->loop = service_loop(sv);
    d->submission = service_role(sv) == ROLE_SUBMISSION;
    d->local = service_role(sv) == ROLE_LOCAL;
    d->qmgr = service_chan(sv, ROLE_QMGR, 0);
    list_init(&d->sessions);
    list_init(&d->spare);
    list_init(&d->stalled);
    if (d->local)
        return local_open(d, err);
    d->authd = service_chan(sv, ROLE_AUTHD, 0);
    guests_open(&d->guests, service_chan(sv, ROLE_TALLYD, 0),
                d->submission ? CONF_PROTOCOL_SUBMISSION : CONF_PROTOCOL_SMTP);
    d->judge = d->submission ? NULL : service_chan(sv, ROLE_JUDGE, 0);
    asker_init(&d->asker, d->loop, service_chan(sv, ROLE_KEYD, 0));
    return ports_open(d, err);
}

static void on_msg(struct service *sv, struct chan *from, const struct msg *m, int fd)
{
    struct smtpd *d = service_state(sv);
    if (fd >= 0)
        close(fd);
    if (m->type == MSG_rcpt_forget)
        welcome_forget(d);
    if (m->type != MSG_queue_state || from != d->qmgr)
        return;
    d->door.queue_closed = !m->queue_state.open;
    LOGI(m->queue_state.open ? "queue-open" : "queue-closed", KVS("why", m->queue_state.why));
}

/* A file of the drop directory. */
static void on_told(struct service *sv, const struct msg *m, int fd)
{
    struct smtpd *d = service_state(sv);
    if (m->type == MSG_drop_file && d->local)
        drop_take(d, fd, m->drop_file.uid, m->drop_file.name);
    else
        close(fd);
}

static void on_up(struct service *sv, struct chan *c)
{
    struct smtpd *d = service_state(sv);
    if (!d->local && c == d->guests.tallyd)
        guests_up(&d->guests);
    if (c != d->qmgr)
        return;
    d->door.queue_closed = false; /* until it says otherwise */
    stalled_go(d);
}

static void on_room(struct service *sv, struct chan *c)
{
    struct smtpd *d = service_state(sv);
    if (c == d->qmgr)
        stalled_go(d);
}

/* authd forgot every login: whoever has one must log in again, in a new session. */
static void on_down(struct service *sv, struct chan *c)
{
    struct smtpd *d = service_state(sv);
    if (c != d->authd)
        return;
    welcome_forget(d); /* a new one does not know what was told */
    if (!d->submission)
        return;
    LIST_EACH(&d->sessions, l)
    {
        struct session *s = container_of(l, struct session, link);
        if (s->login_begun)
            session_drain(s);
    }
}

static int can_reload(struct service *sv, const struct conf *next, struct err *why)
{
    return ports_try(service_state(sv), next, why);
}

static void reloaded(struct service *sv)
{
    struct err err;
    struct smtpd *d = service_state(sv);
    if (d->local ? local_open(d, &err) : ports_open(d, &err))
        LOGE("reload", KVT("why", err.text));
}

static int on_certs(struct service *sv, struct err *err)
{
    return ports_certs(service_state(sv), err);
}

static void drain(struct service *sv)
{
    struct smtpd *d = service_state(sv);
    d->door.draining = true;
    ports_close(d);
    local_close(d);
    LIST_EACH(&d->sessions, l)
    session_drain(container_of(l, struct session, link));
    if (d->session_count == 0)
        service_done(sv);
}

static void stop(struct service *sv)
{
    struct smtpd *d = service_state(sv);
    ports_close(d);
    if (d->sessions.next)
        sessions_free(d);
    drops_free(d);
    local_free(d);
    welcome_forget(d);
    gate_free(&d->gate);
    guests_free(&d->guests);
    timer_free(&d->stall_timer);
}

int main(int argc, char **argv)
{
    static const struct service_def def = {.role = ROLE_MX,
                                           .name = "smtpd",
                                           .warm = warm,
                                           .start = start,
                                           .on_msg = on_msg,
                                           .on_told = on_told,
                                           .on_up = on_up,
                                           .on_down = on_down,
                                           .on_room = on_room,
                                           .can_reload = can_reload,
                                           .reloaded = reloaded,
                                           .on_certs = on_certs,
                                           .drain = drain,
                                           .stop = stop,
                                           .state = &program};
    return service_main(&def, argc, argv);
}
