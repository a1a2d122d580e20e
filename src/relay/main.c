/* relay: the SMTP client. It gets attempts from qmgr, finds the hosts of the destination, gives them the message, and reports.
 *
 * What it needs inside the sandbox (service/sandbox_table.c): no files at all. It dials: socket(AF_INET and AF_INET6, SOCK_STREAM) with
 * bind, connect, getsockopt, setsockopt. libunbound runs one thread of its own, started by the first lookup (clone3/clone with
 * CLONE_THREAD, set_robust_list, rseq, rt_sigprocmask, mmap, madvise, munmap, futex), which opens UDP and TCP sockets of both families
 * (socket, bind, connect, setsockopt, getsockopt, sendto, sendmsg, recvfrom, recvmsg, fcntl, ioctl FIONBIO, shutdown, close), waits with
 * epoll (epoll_create1, epoll_ctl, epoll_wait, epoll_pwait, or select) and takes time and randomness (gettimeofday, getrandom).
 * Contents: pread64 and fstat on descriptors that qmgr passes.
 *
 * Trusts: qmgr (what it says is checked for size only). Does not trust: DNS, and every server it talks to. */
#include <stdio.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "net/pem.h"
#include "relay/relay.h"
#include "relay/reversed.h"

static struct relay relay;

static void take_own_name(const struct conf *c)
{
    snprintf(relay.own, sizeof relay.own, "%s", c->hostname);
    if (!relay.own[0] && gethostname(relay.own, sizeof relay.own - 1) < 0)
        snprintf(relay.own, sizeof relay.own, "localhost");
}

/* The opportunistic context, and the verifying one when a ca-file was given. On failure nothing is changed. */
static int load_tls(struct service *s, struct err *err)
{
    struct tls_ctx *plain = tls_client_new(SPAN_NONE, err), *verified = NULL;
    int fd = service_cert_fd(s, 0, 2), r = plain ? 0 : -1;
    char *pem = NULL;
    size_t n = 0;
    if (r == 0 && fd >= 0) {
        r = pem_read(fd, &pem, &n, err);
        verified = r == 0 ? tls_client_new(span_make(pem, n), err) : NULL;
        r = verified ? 0 : -1;
        pem_free(&pem, n);
    }
    if (r < 0) {
        tls_unref(&plain);
        return -1;
    }
    tls_unref(&relay.tls);
    tls_unref(&relay.tls_verified);
    relay.tls = plain;
    relay.tls_verified = verified;
    return 0;
}

struct tls_ctx *relay_trusted(struct relay *r)
{
    struct err err = {""};
    char *pem = NULL;
    size_t n = 0;
    int fd = service_cert_fd(r->service, 0, 3);
    if (r->tls_trusted || fd < 0)
        return r->tls_trusted;
    if (pem_read(fd, &pem, &n, &err) == 0)
        r->tls_trusted = tls_client_new(span_make(pem, n), &err);
    if (!r->tls_trusted)
        LOGE("trust-file", KVT("why", err.text));
    pem_free(&pem, n);
    return r->tls_trusted;
}

static int warm(struct service *s, struct err *err)
{
    const struct conf *c = service_conf(s);
    tls_warm();
    take_own_name(c);
    relay.texts = dns_warm(c->dns.trust_anchor[0] ? c->dns.trust_anchor : NULL, err);
    return relay.texts ? load_tls(s, err) : -1;
}

static int start(struct service *s, struct err *err)
{
    const struct conf *c = service_conf(s);
    struct dns_options o = {.servers = c->dns.server.items, .server_count = c->dns.server.n, .local_zones = c->dns.local_zones,
                            .timeout_ms = c->dns.timeout};
    relay.service = s;
    relay.loop = service_loop(s);
    relay.dns = dns_new(relay.loop, &o, relay.texts, err);
    list_init(&relay.collecting);
    list_init(&relay.waiting);
    list_init(&relay.running);
    list_init(&relay.reversed);
    relay.run = (struct defer){.fn = attempt_run_waiting, .ctx = &relay};
    pool_init(&relay.pool, relay.loop, RELAY_IDLE_MAX);
    return relay.dns ? 0 : -1;
}

static void on_msg(struct service *s, struct chan *from, const struct msg *m, int fd)
{
    (void)s;
    if (chan_peer(from) == ROLE_QMGR) {
        switch (m->type) {
        case MSG_attempt:
            attempt_on_begin(&relay, &m->attempt);
            return;
        case MSG_attempt_rcpt:
            attempt_on_rcpt(&relay, &m->attempt_rcpt);
            return;
        case MSG_attempt_go:
            attempt_on_go(&relay, &m->attempt_go, fd);
            return;
        case MSG_reversed:
            reversed_begin(&relay, m->reversed.pull, fd);
            return;
        case MSG_reversed_end:
            reversed_end(&relay, m->reversed_end.pull);
            break;
        default:
            break;
        }
    }
    if (fd >= 0)
        close(fd);
}

static void on_down(struct service *s, struct chan *c)
{
    (void)s;
    if (chan_peer(c) != ROLE_QMGR)
        return;
    attempt_qmgr_gone(&relay);
    reversed_drop_all(&relay);
}

static void reloaded(struct service *s)
{
    take_own_name(service_conf(s));
    loop_defer(relay.loop, &relay.run); /* the cap may be wider */
}

static int on_certs(struct service *s, struct err *err)
{
    tls_unref(&relay.tls_trusted);
    return load_tls(s, err);
}

/* What has not begun is dropped without a report; what has is finished. */
static void drain(struct service *s)
{
    (void)s;
    relay.draining = true;
    attempt_drop_unstarted(&relay);
    reversed_drop_all(&relay);
    pool_close(&relay.pool);
    loop_defer(relay.loop, &relay.run);
}

static void stop(struct service *s)
{
    (void)s;
    attempt_drop_all(&relay);
    reversed_drop_all(&relay);
    pool_close(&relay.pool);
    loop_defer_cancel(relay.loop, &relay.run);
    dns_free(&relay.dns);
    dns_texts_free(&relay.texts);
    tls_unref(&relay.tls);
    tls_unref(&relay.tls_verified);
    tls_unref(&relay.tls_trusted);
    idmap_free(&relay.attempts);
}

int main(int argc, char **argv)
{
    static const struct service_def def = {
        .role = ROLE_RELAY,
        .name = "relay",
        .warm = warm,
        .start = start,
        .on_msg = on_msg,
        .on_down = on_down,
        .reloaded = reloaded,
        .on_certs = on_certs,
        .drain = drain,
        .stop = stop,
        .state = &relay,
    };
    return service_main(&def, argc, argv);
}
