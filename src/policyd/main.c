/* policyd: answers what the receiver wants to know of a client before it takes its mail. Role `policyd-judge`: asks DNS, holds no keys.
 *
 * Security: own uid, empty root, opens no file. It dials like the relay does, for libunbound alone (see src/relay/main.c for the calls of
 * its thread). Trusts nobody: DNS least of all; what smtpd asks is checked for size. */
#include <unistd.h>

#include "base/list.h"
#include "base/mem.h"
#include "policyd/names.h"
#include "service/service.h"

struct policyd {
    struct dns_texts *texts;
    struct dns *dns;
    struct names *names;
    struct link open; /* questions being looked into */
    bool draining;
    struct service *service;
};

/* Where an answer goes. */
struct reply {
    struct link link;
    struct policyd *p;
    struct chan *chan;
    uint32_t epoch;
    uint64_t id;
};

static struct policyd program;

static int warm(struct service *s, struct err *err)
{
    const struct conf *c = service_conf(s);
    program.texts = dns_warm(c->dns.trust_anchor[0] ? c->dns.trust_anchor : NULL, err);
    return program.texts ? 0 : -1;
}

static int start(struct service *s, struct err *err)
{
    const struct conf *c = service_conf(s);
    struct dns_options o = {.servers = c->dns.server.items,
                            .server_count = c->dns.server.n,
                            .local_zones = c->dns.local_zones,
                            .timeout_ms = c->dns.timeout};
    program.service = s;
    list_init(&program.open);
    program.dns = dns_new(service_loop(s), &o, program.texts, err);
    if (!program.dns)
        return -1;
    program.names = names_new(service_loop(s), program.dns);
    return 0;
}

static void say(void *ctx, enum name_kind kind, struct span name)
{
    struct reply *r = ctx;
    struct policyd *p = r->p;
    struct msg m = {.type = MSG_named, .named = {.kind = (uint8_t)kind, .name = name}};
    chan_answer(r->chan, r->epoch, r->id, &m, -1);
    list_del(&r->link);
    mem_free(&r);
    if (p->draining && list_empty(&p->open))
        service_done(p->service);
}

static struct reply *reply_to(struct chan *from, const struct msg *m)
{
    struct reply *r = mem_alloc(sizeof *r);
    *r = (struct reply){.p = &program, .chan = from, .epoch = chan_epoch(from), .id = m->id};
    list_add_tail(&program.open, &r->link);
    return r;
}

static void on_msg(struct service *s, struct chan *from, const struct msg *m, int fd)
{
    (void)s;
    if (fd >= 0)
        close(fd);
    if (m->type == MSG_client_names)
        names_of_client(program.names, m->client_names.address, say, reply_to(from, m));
    else if (m->type == MSG_helo_names)
        names_of_host(program.names, m->helo_names.name, m->helo_names.address, say, reply_to(from, m));
}

static void drain(struct service *s)
{
    program.draining = true;
    if (list_empty(&program.open))
        service_done(s);
}

static void stop(struct service *s)
{
    (void)s;
    names_free(&program.names);
    dns_free(&program.dns);
    dns_texts_free(&program.texts);
    while (program.open.next && !list_empty(&program.open)) {
        struct reply *r = container_of(program.open.next, struct reply, link);
        list_del(&r->link);
        mem_free(&r);
    }
}

int main(int argc, char **argv)
{
    static const struct service_def def = {
        .role = ROLE_JUDGE,
        .name = "policyd",
        .warm = warm,
        .start = start,
        .on_msg = on_msg,
        .drain = drain,
        .stop = stop,
        .state = &program,
    };
    return service_main(&def, argc, argv);
}
