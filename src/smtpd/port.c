/* Listeners, and the settings of the sessions that come through them. A reload or a renewed certificate makes new
 * houses; sessions keep the one they began in. */
#include "base/log.h"
#include "base/mem.h"
#include "smtpd/smtpd.h"

void house_unref(struct house **hp)
{
    struct house *h = *hp;
    *hp = NULL;
    if (!h || --h->refs)
        return;
    tls_unref(&h->tls);
    conf_unref(&h->conf);
    mem_free(&h);
}

static struct tls_ctx *read_tls(struct smtpd *d, const struct conf *conf, unsigned index, struct err *err)
{
    return tls_server_open(service_cert_fd(d->service, index, 0), &d->asker.signer,
                           conf->tls.min_version == CONF_TLS_1_3 ? TLS_MIN_1_3 : TLS_MIN_1_2,
                           d->submission /* HAZARDS 26: no tickets on port 25 */, err);
}

_Static_assert((int)SMTP_ASKING_ON == (int)CONF_ASKING_ON, "the same words");

static struct smtp_server_config engine_config(struct smtpd *d, const struct conf *c, const struct conf_listen *l)
{
    return (struct smtp_server_config){
        .hostname = c->hostname[0] ? span_of(c->hostname) : span_of(d->hostname),
        .submission = d->submission,
        .starttls = l->tls == CONF_TLS_STARTTLS,
        .on_demand = l->protocol == CONF_PROTOCOL_ODMR,
        .etrn = c->smtp.etrn,
        .send_commands = c->smtp.send_commands,
        .auth_in_clear = l->plaintext_login,
        .mechanisms = conf_mechanisms(c),
        .normalise = c->smtp.bare_line_ends == CONF_BARE_NORMALISE,
        .strip_results = d->submission ? SPAN("") : c->hostname[0] ? span_of(c->hostname) : span_of(d->hostname),
        .max_size = c->smtp.max_message_size,
        .max_command_line = c->smtp.max_command_line,
        .max_text_line = c->smtp.max_text_line,
        .max_header = (uint32_t)c->smtp.max_header,
        .max_recipients = c->smtp.max_recipients,
        .max_refused = c->smtp.max_refused,
        .max_errors = c->smtp.max_errors,
        .max_login_failures = c->smtp.max_login_failures,
        .max_transactions = c->smtp.max_transactions,
        .by_min = (uint32_t)(c->smtp.deliver_by_min / CONF_SECOND),
        .hold_max = (uint32_t)(c->smtp.future_release / CONF_SECOND),
        .priority_logins = c->smtp.priority_accounts.items,
        .priority_login_count = c->smtp.priority_accounts.n,
        .content_high = IPC_INLINE_MAX,
        .vrfy = (enum smtp_asking)c->smtp.vrfy,
        .expn = (enum smtp_asking)c->smtp.expn,
    };
}

_Static_assert(CONF_HOLDS_MAX <= SMTP_WATCH_MAX, "a bit for each");

static void watch_headers(struct house *h)
{
    const struct conf *c = h->conf;
    size_t n = 0;
    for (size_t i = 0; i < c->hold_count && n < CONF_HOLDS_MAX; i++)
        if (conf_field_of(span_of(c->hold[i].header), &h->watched[n].name, &h->watched[n].pattern))
            h->marks[n++] = c->hold[i].name;
    h->smtp.watched = h->watched;
    h->smtp.watched_count = n;
}

static struct house *house_new(struct smtpd *d, const struct conf *conf, const struct conf_listen *l, struct err *err)
{
    struct house *h = mem_alloc(sizeof *h);
    h->refs = 1;
    h->conf = conf_ref(conf);
    h->smtp = engine_config(d, h->conf, l);
    watch_headers(h);
    h->implicit = l->tls == CONF_TLS_IMPLICIT;
    h->check_from = l->check_from;
    h->hide_client = l->hide_client;
    if (l->tls != CONF_TLS_NONE && !(h->tls = read_tls(d, h->conf, l->index, err)))
        house_unref(&h);
    if (h && *l->client_ca && tls_ask_clients(h->tls, service_cert_fd(d->service, l->index, 3), err))
        house_unref(&h);
    return h;
}

struct house *house_local(struct smtpd *d, const struct conf *conf)
{
    static const struct conf_listen none = {.protocol = CONF_PROTOCOL_SMTP, .tls = CONF_TLS_NONE, .client_ca = ""};
    struct err ignored; /* only TLS could go wrong */
    struct house *h = house_new(d, conf, &none, &ignored);
    struct smtp_server_config *c = &h->smtp;
    c->local = true;
    c->domain = *conf->local_submission.domain ? span_of(conf->local_submission.domain) : c->hostname;
    c->vrfy = c->expn = SMTP_ASKING_OFF; /* these, and the next, would need authd */
    c->send_commands = c->etrn = false;
    c->strip_results = SPAN("");
    return h;
}

static void on_connection(void *ctx, int fd, const struct sockaddr_storage *peer)
{
    session_open(ctx, fd, peer);
}

static bool trusted(void *ctx, const struct sockaddr_storage *peer)
{
    const struct port *p = ctx;
    const struct conf_listen *l = conf_listen_at(p->house->conf, p->index);
    return l && conf_networks_have(&l->proxy_from, peer);
}

static void houses_free(struct port *ports, size_t n)
{
    for (size_t i = 0; i < n; i++)
        house_unref(&ports[i].house);
    mem_free(&ports);
}

static struct port *houses_new(struct smtpd *d, const struct service_listener *list, size_t n, struct err *err)
{
    struct port *ports = mem_array(n ? n : 1, sizeof *ports);
    for (size_t i = 0; i < n; i++) {
        ports[i] = (struct port){
            .d = d, .index = list[i].conf->index, .house = house_new(d, service_conf(d->service), list[i].conf, err)};
        if (!ports[i].house) {
            houses_free(ports, n);
            return NULL;
        }
    }
    return ports;
}

/* What could fail for want of a good certificate comes first, so that a bad one leaves everything as it was. */
int ports_open(struct smtpd *d, struct err *err)
{
    const struct service_listener *list;
    size_t n = service_listeners(d->service, &list);
    const struct conf *c = service_conf(d->service);
    struct port *ports = houses_new(d, list, n, err);
    if (!ports)
        return -1;
    ports_close(d);
    d->ports = ports;
    d->port_count = n;
    guests_configure(&d->guests, c);
    d->gate.max = c->smtp.max_connections;
    d->gate.max_each = c->smtp.max_connections_per_client;
    for (size_t i = 0; i < n; i++) {
        ports[i].listener = listener_new(d->loop, list[i].fd, on_connection, &ports[i]);
        if (!ports[i].listener)
            return err_set(err, "listen %s: the socket can't be watched", list[i].conf->name);
        if (list[i].conf->proxy)
            listener_proxied(ports[i].listener, trusted);
    }
    return 0;
}

void ports_close(struct smtpd *d)
{
    for (size_t i = 0; i < d->port_count; i++) {
        listener_free(&d->ports[i].listener);
        house_unref(&d->ports[i].house);
    }
    d->port_count = 0;
    mem_free(&d->ports);
}

int ports_certs(struct smtpd *d, struct err *err)
{
    for (size_t i = 0; i < d->port_count; i++) {
        struct port *p = &d->ports[i];
        const struct conf_listen *l = conf_listen_at(p->house->conf, p->index);
        struct house *fresh = l ? house_new(d, p->house->conf, l, err) : NULL;
        if (!fresh)
            return -1; /* what we have stays in use */
        house_unref(&p->house);
        p->house = fresh;
    }
    return 0;
}

int ports_try(struct smtpd *d, const struct conf *next, struct err *err)
{
    enum role mine = service_role(d->service);
    for (size_t i = 0; i < next->listen_count; i++) {
        if (conf_listen_role(&next->listen[i]) != mine)
            continue;
        struct house *h = house_new(d, next, &next->listen[i], err);
        if (!h)
            return -1;
        house_unref(&h);
    }
    return 0;
}
