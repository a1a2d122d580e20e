#include <unistd.h>

#include "base/log.h"
#include "db/db.h"
#include "tallyd/tallyd.h"

static struct tally_limits limits_from(const struct conf *c)
{
    struct tally_limits l = {.sessions = {[TALLY_SMTP] = c->smtp.max_connections_per_client,
                                          [TALLY_IMAP] = c->imap.max_connections_each,
                                          [TALLY_POP3] = c->pop3.max_connections_each},
                             .tarpit = (uint32_t)c->limits.tarpit,
                             .clients = c->limits.clients};
    for (unsigned i = 0; i < TALLY_KINDS; i++)
        l.of[TALLY_CONNECTIONS + i] = (struct tally_limit){c->limits.connection_rate, c->limits.rate_window};
    l.of[TALLY_MESSAGES] = (struct tally_limit){c->limits.message_rate, c->limits.rate_window};
    l.of[TALLY_REFUSED] = (struct tally_limit){c->limits.refused_recipients, c->limits.window};
    l.of[TALLY_ERRORS] = (struct tally_limit){c->limits.errors, c->limits.window};
    l.of[TALLY_LOGINS] = (struct tally_limit){c->limits.failed_logins, c->limits.window};
    return l;
}

static int warm(struct service *s, struct err *err)
{
    (void)s;
    return db_warm(err);
}

static int start(struct service *s, struct err *err)
{
    struct tallyd *d = service_state(s);
    struct tally_limits l = limits_from(service_conf(s));
    d->service = s;
    d->loop = service_loop(s);
    d->tally = tally_new(&l);
    d->visits = visits_new();
    d->admin = commands_new(d);
    return keeper_open(d, err);
}

static void on_msg(struct service *s, struct chan *from, const struct msg *m, int fd)
{
    struct tallyd *d = service_state(s);
    if (fd >= 0)
        close(fd);
    if (m->type == MSG_client_ask)
        visits_ask(d, from, m);
    else if (m->type == MSG_client_more)
        visits_more(d, from, m);
    else if (m->type == MSG_client_note)
        visits_note(d, from, m);
    else
        LOGW("unexpected-message", KVT("from", role_name(chan_peer(from))),
             KVT("message", msg_info((unsigned)m->type)->name));
}

/* Down, or straight from one pair to the next: the sessions of the process behind the old one are over, or will be
 * told of anew. */
static void peer_changed(struct service *s, struct chan *c)
{
    struct tallyd *d = service_state(s);
    if (d->visits)
        visits_front_gone(d, c);
}

static void on_admin(struct service *s, int fd, uint32_t uid)
{
    admin_accept(((struct tallyd *)service_state(s))->admin, fd, uid);
}

static void reloaded(struct service *s)
{
    struct tallyd *d = service_state(s);
    struct tally_limits l = limits_from(service_conf(s));
    tally_configure(d->tally, &l);
}

static void drain(struct service *s)
{
    if (!keeper_is_saving(service_state(s)))
        service_done(s);
}

static void stop(struct service *s)
{
    struct tallyd *d = service_state(s);
    admin_free(&d->admin);
    keeper_close(d);
    visits_free(&d->visits);
    tally_free(&d->tally);
}

int main(int argc, char **argv)
{
    static struct tallyd tallyd;
    static const struct service_def def = {.role = ROLE_TALLYD,
                                           .name = "tallyd",
                                           .warm = warm,
                                           .start = start,
                                           .on_msg = on_msg,
                                           .on_down = peer_changed,
                                           .on_up = peer_changed,
                                           .on_admin = on_admin,
                                           .reloaded = reloaded,
                                           .drain = drain,
                                           .stop = stop,
                                           .state = &tallyd};
    return service_main(&def, argc, argv);
}
