/* Role smtpd-local: programs of this machine speak SMTP on a Unix socket that everybody may connect to (sendmail does).
 * Who they are is the kernel's word (SO_PEERCRED): nobody logs in, any reverse-path is taken, and the Received line names
 * the uid. */
#include <pwd.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "smtp/trace.h"
#include "smtpd/smtpd.h"

#define RESOURCE_SUBMIT 2

struct local {
    struct listener *listener;
    struct port port;
    uid_t *users; /* the only ones who may */
    size_t count;
    bool all;
};

/* ---- who may ---- */

/* A change of the list starts this program anew: here is the only place with a user database. */
int local_warm(struct smtpd *d, const struct conf *c, struct err *err)
{
    struct span rest = span_of(c->local_submission.users), word;
    struct local *x = d->users = mem_alloc(sizeof *x);
    x->users = mem_array(rest.n + 1, sizeof *x->users);
    x->users[x->count++] = geteuid(); /* the owner of this instance; as root: root */
    x->all = true;
    while ((word = span_word(&rest)).n) {
        char name[256];
        uint64_t n;
        struct passwd *p = NULL;
        snprintf(name, sizeof name, "%.*s", SPANV(word));
        if (!span_u64(word, UINT32_MAX - 1, &n) && !(p = getpwnam(name)))
            return err_set(err, "local-submission: users: there is no user %s, take the name away", name);
        x->users[x->count++] = p ? p->pw_uid : (uid_t)n;
        x->all = false;
    }
    return 0;
}

bool local_may(const struct smtpd *d, uint32_t uid)
{
    const struct local *x = d->users;
    bool may = x->all || uid == 0;
    for (size_t i = 0; i < x->count && !may; i++)
        may = x->users[i] == uid;
    return may;
}

/* ---- the socket ---- */

static void on_connection(void *ctx, int fd, const struct sockaddr_storage *peer UNUSED)
{
    struct smtpd *d = ctx;
    struct ucred who;
    socklen_t n = sizeof who;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n)) {
        close(fd);
        return;
    }
    struct session *s = session_open_local(&d->users->port, fd, who.uid);
    if (s && local_may(d, who.uid))
        session_begin(s);
    else if (s)
        door_refuse(s, 554, "5.7.1", "You may not hand in mail here");
}

int local_open(struct smtpd *d, struct err *err)
{
    struct local *x = d->users;
    const struct conf *c = service_conf(d->service);
    int fd = service_resource(d->service, RESOURCE_SUBMIT);
    house_unref(&x->port.house);
    x->port = (struct port){.d = d, .house = house_local(d, c)};
    d->gate.max = c->smtp.max_connections;
    d->gate.max_each = c->smtp.max_connections_per_client;
    if (x->listener)
        return 0;
    x->listener = fd < 0 ? NULL : listener_new(d->loop, fd, on_connection, d);
    return x->listener ? 0 : err_set(err, "the socket of local submission can't be watched");
}

void local_close(struct smtpd *d)
{
    if (d->users)
        listener_free(&d->users->listener);
}

void local_free(struct smtpd *d)
{
    if (!d->users)
        return;
    local_close(d);
    house_unref(&d->users->port.house);
    mem_free(&d->users->users);
    mem_free(&d->users);
}

struct port *local_port(struct smtpd *d)
{
    return &d->users->port;
}

/* ---- what is put in front ---- */

/* As on submission, what is missing is added (RFC6409:8); here From, too, which RFC5322:3.6 asks for. */
void local_prefix(struct session *s, int64_t seconds, int zone)
{
    const struct smtp_transaction *t = smtp_server_transaction(s->smtp);
    struct span by = s->house->smtp.hostname;
    smtp_trace_local(&s->prefix, by, s->uid, seconds, zone);
    if (!t->data.has_from && t->sender.n) {
        buf_adds(&s->prefix, "From: ");
        buf_add(&s->prefix, t->sender);
        buf_adds(&s->prefix, "\r\n");
    }
    if (!t->data.has_date)
        smtp_trace_date(&s->prefix, seconds, zone);
    if (!t->data.has_message_id)
        smtp_trace_message_id(&s->prefix, span_make(s->token, sizeof s->token), by);
}
