/* tokend: asks the issuer of OAuth tokens, over HTTPS, what a token is (RFC 7662), for authd, which talks to nobody.
 *
 * Security: own uid, empty root, opens no file: the certificates of authorities are read and the libraries made ready
 * before the sandbox. It dials, for libcurl and for libunbound (see src/relay/main.c for the calls of its thread). It
 * sees tokens and the secret of our client at the endpoint, and tells authd facts that authd checks once more; it can't
 * log anybody in whose token authd wasn't given. What the endpoint says is bounded and read by auth/introspect.h. */
#include <sodium.h>
#include <unistd.h>

#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/https.h"
#include "net/pem.h"
#include "net/tls.h"
#include "service/service.h"
#include "tokend/endpoint.h"

struct tokend {
    struct dns_texts *texts;
    struct dns *dns;
    struct endpoint *endpoint;
    struct link open; /* questions being looked into */
    bool draining;
    struct service *service;
};

/* Where an answer goes. */
struct reply {
    struct link link;
    struct tokend *t;
    struct chan *chan;
    uint32_t epoch;
    uint64_t id;
};

static struct tokend program;

/* The certificates that the endpoint's must come from; empty without that file: then no endpoint is trusted. */
static int read_trust(struct service *s, char **pem, size_t *n, struct err *err)
{
    int fd = service_cert_fd(s, 0, 2);
    *pem = NULL;
    *n = 0;
    return fd < 0 ? 0 : pem_read(fd, pem, n, err);
}

static int warm(struct service *s, struct err *err)
{
    const struct conf *c = service_conf(s);
    if (sodium_init() < 0)
        return err_set(err, "libsodium does not work here");
    tls_warm();
    https_warm();
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
    char *pem;
    size_t n;
    program.service = s;
    list_init(&program.open);
    program.dns = dns_new(service_loop(s), &o, program.texts, err);
    if (!program.dns || read_trust(s, &pem, &n, err))
        return -1;
    program.endpoint = endpoint_new(service_loop(s), program.dns, span_make(pem, n));
    pem_free(&pem, n);
    return 0;
}

static void say(void *ctx, const struct introspection *f, const char *why)
{
    struct reply *r = ctx;
    struct tokend *t = r->t;
    struct msg m = {.type = MSG_introspected};
    if (f)
        m.introspected = (struct msg_introspected){.known = 1,
                                                   .active = f->active,
                                                   .issuer = f->issuer,
                                                   .audience = f->audience,
                                                   .scope = f->scope,
                                                   .early = f->early,
                                                   .verified = f->verified,
                                                   .account = span_of(f->account),
                                                   .expires = (uint64_t)f->expires};
    else
        m.introspected.why = span_of(why);
    chan_answer(r->chan, r->epoch, r->id, &m, -1);
    list_del(&r->link);
    mem_free(&r);
    if (t->draining && list_empty(&t->open))
        service_done(t->service);
}

static void on_msg(struct service *s, struct chan *from, const struct msg *m, int fd)
{
    if (fd >= 0)
        close(fd);
    if (m->type != MSG_introspect)
        return;
    struct reply *r = mem_alloc(sizeof *r);
    *r = (struct reply){.t = &program, .chan = from, .epoch = chan_epoch(from), .id = m->id};
    list_add_tail(&program.open, &r->link);
    endpoint_ask(program.endpoint, service_conf(s), m->introspect.token, say, r);
}

static int on_certs(struct service *s, struct err *err)
{
    char *pem;
    size_t n;
    if (read_trust(s, &pem, &n, err))
        return -1;
    endpoint_changed(program.endpoint, span_make(pem, n));
    pem_free(&pem, n);
    return 0;
}

static void reloaded(struct service *s)
{
    struct err err;
    if (on_certs(s, &err))
        LOGE("introspection-ca", KVT("why", err.text), KVT("note", "what was there before stays in use"));
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
    endpoint_free(&program.endpoint);
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
        .role = ROLE_TOKEND,
        .name = "tokend",
        .warm = warm,
        .start = start,
        .on_msg = on_msg,
        .on_certs = on_certs,
        .reloaded = reloaded,
        .drain = drain,
        .stop = stop,
        .state = &program,
    };
    return service_main(&def, argc, argv);
}
