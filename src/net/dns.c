/* DNS lookups over libunbound. A lookup that was given to the library can't be taken back: its slot stays in use until the library
 * answers, so that the count of running lookups is true even when nobody waits for them any more.
 * Trusts: the library's packet parser. Names and records from it are checked again before anybody sees them. */
#include "net/dns.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <unbound.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/list.h"
#include "base/mem.h"

#define TEXT_FILE_MAX (1u << 20)
#define RESOLV_CONF "/etc/resolv.conf"
#define SERVERS_MAX 8

struct dns_texts {
    struct buf resolv, anchors;
};

struct slot {
    struct link in_slots;
    struct dns *dns;
    struct dns_query *query; /* NULL: nobody waits any more */
};

struct dns {
    struct loop *loop;
    struct ub_ctx *ub;
    struct io *io;
    int64_t timeout_ms;
    struct link waiting, running, done;
    struct link slots;
    size_t waiting_count, slot_count;
    struct defer deliver;
};

enum query_state { QUERY_WAITING, QUERY_RUNNING, QUERY_DONE };

struct dns_query {
    struct link in_list;
    struct dns *dns;
    enum query_state state;
    enum dns_type type;
    dns_fn *fn;
    void *ctx;
    struct slot *slot;
    struct timer *timer;
    struct ub_result *result;
    enum dns_status status;
    char name[DNS_NAME_MAX + 1];
};

/* ---- what must be read before the sandbox ---- */

static int read_text(const char *path, struct buf *out, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "%s", path);
    ssize_t n;
    do {
        n = read(fd, buf_room(out, 4096), 4096);
        if (n > 0)
            out->n += (size_t)n;
    } while (n > 0 && out->n <= TEXT_FILE_MAX);
    if (n < 0)
        err_errno(err, "%s", path);
    else if (n > 0)
        n = err_set(err, "%s: too large", path);
    close(fd);
    return n < 0 ? -1 : 0;
}

/* A context that is thrown away: whatever the library and libcrypto load at the first use is loaded by it. */
static int prime(const struct dns_texts *t, struct err *err)
{
    struct loop *l = loop_new();
    struct dns_options o = {.local_zones = false};
    struct dns *d = dns_new(l, &o, t, err);
    int r = d ? 0 : -1;
    dns_free(&d);
    loop_free(&l);
    return r;
}

struct dns_texts *dns_warm(const char *trust_anchor_file, struct err *err)
{
    struct dns_texts *t = mem_alloc(sizeof *t);
    struct err ignored;
    read_text(RESOLV_CONF, &t->resolv, &ignored); /* none: the library asks the root servers */
    if ((trust_anchor_file && read_text(trust_anchor_file, &t->anchors, err) < 0) || prime(t, err) < 0)
        dns_texts_free(&t);
    return t;
}

void dns_texts_free(struct dns_texts **tp)
{
    struct dns_texts *t = *tp;
    if (!t)
        return;
    buf_free(&t->resolv);
    buf_free(&t->anchors);
    mem_free(tp);
}

/* ---- the library's context ---- */

static int ub_failed(struct err *err, const char *what, int code)
{
    return err_set(err, "resolver: %s: %s", what, ub_strerror(code));
}

/* "ADDRESS" or "ADDRESS@PORT", checked here because the library takes nearly anything. */
static bool server_valid(struct span s)
{
    struct span host = span_cut(&s, '@');
    char text[64];
    unsigned char address[16];
    uint64_t port = 53;
    if (host.n == 0 || host.n >= sizeof text || (s.n && !span_u64(s, 65535, &port)) || port == 0)
        return false;
    memcpy(text, host.p, host.n);
    text[host.n] = '\0';
    return inet_pton(AF_INET, text, address) == 1 || inet_pton(AF_INET6, text, address) == 1;
}

static int add_server(struct ub_ctx *ub, struct span s, struct err *err)
{
    char text[80];
    if (!server_valid(s) || s.n >= sizeof text)
        return err_set(err, "resolver: \"%.*s\" is not ADDRESS or ADDRESS@PORT", (int)MIN_OF(s.n, 80u), s.p);
    memcpy(text, s.p, s.n);
    text[s.n] = '\0';
    int code = ub_ctx_set_fwd(ub, text);
    return code ? ub_failed(err, text, code) : 0;
}

/* The nameserver lines of resolv.conf; those the library can't use (scoped addresses) are left out. */
static int add_resolv(struct ub_ctx *ub, struct span text, struct err *err)
{
    size_t count = 0;
    while (text.n && count < SERVERS_MAX) {
        struct span line = span_trim(span_cut(&text, '\n')), word = span_word(&line), server = span_word(&line);
        if (!span_eqs(word, "nameserver") || !server_valid(server))
            continue;
        if (add_server(ub, server, err) < 0)
            return -1;
        count++;
    }
    return 0;
}

static int add_servers(struct ub_ctx *ub, const struct dns_options *o, const struct dns_texts *t, struct err *err)
{
    if (o->server_count == 0)
        return add_resolv(ub, buf_span(&t->resolv), err);
    for (size_t i = 0; i < o->server_count; i++)
        if (add_server(ub, span_of(o->servers[i]), err) < 0)
            return -1;
    return 0;
}

/* Each record of the zone file text on a line of its own, comments left out. */
static int add_anchors(struct ub_ctx *ub, struct span text, struct err *err)
{
    while (text.n) {
        struct span line = span_cut(&text, '\n'), record = span_trim(span_cut(&line, ';'));
        if (record.n == 0)
            continue;
        char *copy = mem_strndup(record.p, record.n);
        int code = ub_ctx_add_ta(ub, copy);
        mem_free(&copy);
        if (code)
            return ub_failed(err, "trust anchor", code);
    }
    return 0;
}

/* Zones that the library would answer itself, RFC 6761 and 6303. What must never be asked of anybody (onion, invalid) stays. */
static int drop_local_zones(struct ub_ctx *ub, struct err *err)
{
    static const char *const zones[] = {"test.", "localhost.", "home.arpa.", "127.in-addr.arpa.",
                                        "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa."};
    for (size_t i = 0; i < COUNT_OF(zones); i++) {
        int code = ub_ctx_zone_remove(ub, zones[i]);
        if (code)
            return ub_failed(err, zones[i], code);
    }
    return 0;
}

static int set_options(struct ub_ctx *ub, bool local_zones, struct err *err)
{
    static const struct {
        const char *name, *value;
    } options[] = {
        {"infra-keep-probing:", "yes"}, /* a server that was down is used again soon after it is back */
        {"num-queries-per-thread:", "512"},
        {"outgoing-range:", "256"},
        {"trust-anchor-signaling:", "no"},
    };
    for (size_t i = 0; i < COUNT_OF(options); i++) {
        int code = ub_ctx_set_option(ub, options[i].name, options[i].value);
        if (code)
            return ub_failed(err, options[i].name, code);
    }
    int code = local_zones ? 0 : ub_ctx_set_option(ub, "unblock-lan-zones:", "yes");
    return code ? ub_failed(err, "unblock-lan-zones", code) : 0;
}

static int prepare(struct ub_ctx *ub, const struct dns_options *o, const struct dns_texts *t, struct err *err)
{
    int code = ub_ctx_debugout(ub, NULL); /* its log lines would have a form of their own */
    if (code)
        return ub_failed(err, "log", code);
    if (set_options(ub, o->local_zones, err) < 0 || add_servers(ub, o, t, err) < 0 || add_anchors(ub, buf_span(&t->anchors), err) < 0)
        return -1;
    code = ub_ctx_async(ub, 1); /* a thread, not a process */
    if (code)
        return ub_failed(err, "thread", code);
    /* either way the library now takes its settings over: mistakes show here and not at the first lookup */
    if (!o->local_zones)
        return drop_local_zones(ub, err);
    code = ub_ctx_zone_remove(ub, "waypost.invalid.");
    return code ? ub_failed(err, "settings", code) : 0;
}

/* ---- answers ---- */

static void settle(struct dns_query *q, enum dns_status status)
{
    struct dns *d = q->dns;
    if (q->state == QUERY_WAITING && list_linked(&q->in_list))
        d->waiting_count--;
    list_del(&q->in_list);
    if (q->slot)
        q->slot->query = NULL;
    q->slot = NULL;
    if (q->timer)
        timer_stop(q->timer);
    q->state = QUERY_DONE;
    q->status = status;
    list_add_tail(&d->done, &q->in_list);
    loop_defer(d->loop, &d->deliver);
}

static enum dns_status status_of(int error, const struct ub_result *r)
{
    if (error || !r)
        return DNS_SERVFAIL;
    if (r->bogus)
        return DNS_BOGUS;
    if (r->nxdomain)
        return DNS_NXDOMAIN;
    if (r->rcode != 0)
        return DNS_SERVFAIL;
    return r->havedata ? DNS_FOUND : DNS_NODATA;
}

static void run_waiting(struct dns *d);

/* Inside ub_process(): only notes the result; whoever asked is called at the end of the turn. */
static void on_result(void *ctx, int error, struct ub_result *r)
{
    struct slot *s = ctx;
    struct dns_query *q = s->query;
    struct dns *d = s->dns;
    list_del(&s->in_slots);
    d->slot_count--;
    if (q) {
        q->result = r;
        settle(q, status_of(error, r));
    } else {
        ub_resolve_free(r);
    }
    mem_free(&s);
}

static void on_readable(void *ctx, unsigned events)
{
    struct dns *d = ctx;
    (void)events;
    ub_process(d->ub);
    run_waiting(d);
}

static void query_free(struct dns_query *q)
{
    list_del(&q->in_list);
    timer_free(&q->timer);
    ub_resolve_free(q->result);
    mem_free(&q);
}

static size_t collect(const struct ub_result *r, struct span *records)
{
    size_t n = 0;
    while (n < DNS_RECORDS_MAX && r->data[n]) {
        records[n] = span_make(r->data[n], (size_t)r->len[n]);
        n++;
    }
    return n;
}

static void deliver_one(struct dns_query *q)
{
    struct span records[DNS_RECORDS_MAX];
    char canonical[DNS_NAME_MAX + 1];
    struct dns_answer a = {.status = q->status, .canonical = q->name, .records = records};
    if (q->status == DNS_FOUND)
        a.count = collect(q->result, records);
    if (q->result) {
        a.secure = q->result->secure;
        const char *name = q->result->canonname;
        size_t n = name ? strlen(name) : 0;
        if (n && name[n - 1] == '.')
            n--;
        if (n && n <= DNS_NAME_MAX) {
            memcpy(canonical, name, n);
            canonical[n] = '\0';
            a.canonical = canonical;
        }
    }
    list_del(&q->in_list);
    q->fn(q->ctx, &a);
    query_free(q);
}

static void deliver(void *ctx)
{
    struct dns *d = ctx;
    while (!list_empty(&d->done))
        deliver_one(container_of(d->done.next, struct dns_query, in_list));
}

/* ---- questions ---- */

static void on_late(void *ctx)
{
    settle(ctx, DNS_TIMEOUT);
}

static void run_waiting(struct dns *d)
{
    while (d->slot_count < DNS_RUNNING_MAX && !list_empty(&d->waiting)) {
        struct dns_query *q = container_of(d->waiting.next, struct dns_query, in_list);
        struct slot *s = mem_alloc(sizeof *s);
        s->dns = d;
        s->query = q;
        if (ub_resolve_async(d->ub, q->name, q->type, 1, s, on_result, NULL) != 0) {
            mem_free(&s);
            settle(q, DNS_SERVFAIL);
            continue;
        }
        list_add_tail(&d->slots, &s->in_slots);
        d->slot_count++;
        d->waiting_count--;
        q->slot = s;
        q->state = QUERY_RUNNING;
        list_del(&q->in_list);
        list_add_tail(&d->running, &q->in_list);
    }
}

static bool name_char(char c)
{
    return ascii_alpha(c) || ascii_digit(c) || c == '-' || c == '_';
}

/* Letters, digits, '-' and '_' in labels of 1 to 63 (RFC1035:2.3.1, and the underscore of service names). */
static bool name_take(struct span name, char out[DNS_NAME_MAX + 1])
{
    size_t label = 0;
    if (name.n && name.p[name.n - 1] == '.')
        name.n--;
    if (name.n == 0 || name.n > DNS_NAME_MAX - 2) /* 253 characters are 255 octets on the wire */
        return false;
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];
        if (c == '.' ? label == 0 : !name_char(c) || label == 63)
            return false;
        label = c == '.' ? 0 : label + 1;
        out[i] = c;
    }
    out[name.n] = '\0';
    return label > 0;
}

struct dns_query *dns_ask(struct dns *d, struct span name, enum dns_type type, dns_fn *fn, void *ctx)
{
    struct dns_query *q = mem_alloc(sizeof *q);
    q->dns = d;
    q->type = type;
    q->fn = fn;
    q->ctx = ctx;
    list_init(&q->in_list);
    if (!name_take(name, q->name)) {
        q->name[0] = '\0';
        settle(q, DNS_BAD_NAME);
    } else if (d->waiting_count >= DNS_WAITING_MAX) {
        settle(q, DNS_BUSY);
    } else {
        q->timer = timer_new(d->loop, on_late, q);
        timer_start(q->timer, d->timeout_ms);
        list_add_tail(&d->waiting, &q->in_list);
        d->waiting_count++;
        run_waiting(d);
    }
    return q;
}

void dns_forget(struct dns_query **qp)
{
    struct dns_query *q = *qp;
    *qp = NULL;
    if (!q)
        return;
    if (q->state == QUERY_WAITING)
        q->dns->waiting_count--;
    if (q->slot)
        q->slot->query = NULL;
    query_free(q);
}

size_t dns_open(const struct dns *d)
{
    return d->slot_count + d->waiting_count;
}

struct dns *dns_new(struct loop *l, const struct dns_options *o, const struct dns_texts *t, struct err *err)
{
    struct dns *d = mem_alloc(sizeof *d);
    d->loop = l;
    d->timeout_ms = o->timeout_ms ? o->timeout_ms : DNS_TIMEOUT_MS;
    d->deliver = (struct defer){.fn = deliver, .ctx = d};
    list_init(&d->waiting);
    list_init(&d->running);
    list_init(&d->done);
    list_init(&d->slots);
    d->ub = ub_ctx_create();
    if (!d->ub) {
        err_set(err, "resolver: libunbound could not be started");
        mem_free(&d);
        return NULL;
    }
    if (prepare(d->ub, o, t, err) < 0) {
        ub_ctx_delete(d->ub);
        mem_free(&d);
        return NULL;
    }
    d->io = io_new(l, ub_fd(d->ub), on_readable, d);
    if (!d->io) {
        err_set(err, "resolver: its pipe can't be watched");
        ub_ctx_delete(d->ub);
        mem_free(&d);
        return NULL;
    }
    io_want(d->io, IO_READ);
    return d;
}

static void free_all(struct link *head)
{
    LIST_EACH(head, l)
        query_free(container_of(l, struct dns_query, in_list));
}

void dns_free(struct dns **dp)
{
    struct dns *d = *dp;
    if (!d)
        return;
    io_free(&d->io);
    loop_defer_cancel(d->loop, &d->deliver);
    ub_ctx_delete(d->ub); /* its thread has ended when this returns; nothing calls on_result any more */
    free_all(&d->waiting);
    free_all(&d->running);
    free_all(&d->done);
    LIST_EACH(&d->slots, l) {
        struct slot *s = container_of(l, struct slot, in_slots);
        mem_free(&s);
    }
    mem_free(dp);
}

const char *dns_status_text(enum dns_status s)
{
    static const char *const texts[] = {
        [DNS_FOUND] = "found",
        [DNS_NODATA] = "no such record",
        [DNS_NXDOMAIN] = "no such domain",
        [DNS_SERVFAIL] = "the DNS servers gave no usable answer",
        [DNS_BOGUS] = "the DNS answer fails DNSSEC validation",
        [DNS_TIMEOUT] = "no DNS answer in time",
        [DNS_BUSY] = "too many DNS lookups wait",
        [DNS_BAD_NAME] = "not a domain name",
    };
    return (size_t)s < COUNT_OF(texts) ? texts[s] : "unknown";
}

/* ---- records ---- */

bool dns_name_text(struct span wire, char out[DNS_NAME_MAX + 1])
{
    size_t at = 0, n = 0;
    while (at < wire.n) {
        size_t label = (unsigned char)wire.p[at++];
        if (label == 0) {
            out[n] = '\0';
            return at == wire.n;
        }
        if (label > 63 || label > wire.n - at || n + label + 1 > DNS_NAME_MAX)
            return false;
        if (n)
            out[n++] = '.';
        for (size_t i = 0; i < label; i++)
            if (!name_char(wire.p[at + i]))
                return false;
        memcpy(out + n, wire.p + at, label);
        n += label;
        at += label;
    }
    return false;
}

bool dns_answer_mx(const struct dns_answer *a, size_t i, struct dns_mx *mx)
{
    if (i >= a->count || a->records[i].n < 3)
        return false;
    const unsigned char *p = (const unsigned char *)a->records[i].p;
    mx->preference = (uint16_t)(p[0] << 8 | p[1]);
    return dns_name_text(span_from(a->records[i], 2), mx->host);
}

bool dns_answer_address(const struct dns_answer *a, size_t i, uint16_t port, struct sockaddr_storage *out)
{
    if (i >= a->count)
        return false;
    struct span r = a->records[i];
    memset(out, 0, sizeof *out);
    if (r.n == 4) {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
        memcpy(&in.sin_addr, r.p, 4);
        memcpy(out, &in, sizeof in);
        return true;
    }
    if (r.n == 16) {
        struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
        memcpy(&in6.sin6_addr, r.p, 16);
        memcpy(out, &in6, sizeof in6);
        return true;
    }
    return false;
}
