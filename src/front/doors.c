/* Listeners, and the settings of the sessions that come through them. A reload or a renewed certificate makes new
 * houses; sessions keep the one they began in. */
#include "base/log.h"
#include "base/mem.h"
#include "front/front.h"

void house_unref(struct front_house **hp)
{
    struct front_house *h = *hp;
    *hp = NULL;
    if (!h || --h->refs)
        return;
    tls_unref(&h->tls);
    mem_free(&h);
}

static struct tls_ctx *read_tls(struct front *f, const struct conf *conf, unsigned index, struct err *err)
{
    return tls_server_open(service_cert_fd(f->service, index, 0), &f->asker.signer,
                           conf->tls.min_version == CONF_TLS_1_3 ? TLS_MIN_1_3 : TLS_MIN_1_2, true, err);
}

static struct front_house *house_new(struct front *f, const struct conf *conf, const struct conf_listen *l,
                                     struct err *err)
{
    struct front_house *h = mem_alloc(sizeof *h);
    h->refs = 1;
    h->limits = f->protocol->limits(conf);
    h->mode = l->tls;
    h->login_in_clear = l->plaintext_login;
    if (l->tls != CONF_TLS_NONE && !(h->tls = read_tls(f, conf, l->index, err)))
        house_unref(&h);
    if (h && *l->client_ca && tls_ask_clients(h->tls, service_cert_fd(f->service, l->index, 3), err))
        house_unref(&h);
    return h;
}

static void on_connection(void *ctx, int fd, const struct sockaddr_storage *peer)
{
    front_session_open(ctx, fd, peer);
}

static bool trusted(void *ctx, const struct sockaddr_storage *peer)
{
    const struct front_door *d = ctx;
    const struct conf_listen *l = conf_listen_at(service_conf(d->front->service), d->index);
    return l && conf_networks_have(&l->proxy_from, peer);
}

static void houses_free(struct front_door *doors, size_t n)
{
    for (size_t i = 0; i < n; i++)
        house_unref(&doors[i].house);
    mem_free(&doors);
}

static struct front_door *houses_new(struct front *f, const struct service_listener *list, size_t n, struct err *err)
{
    struct front_door *doors = mem_array(n, sizeof *doors);
    for (size_t i = 0; i < n; i++) {
        doors[i] = (struct front_door){.front = f,
                                       .index = list[i].conf->index,
                                       .house = house_new(f, service_conf(f->service), list[i].conf, err)};
        if (!doors[i].house) {
            houses_free(doors, n);
            return NULL;
        }
    }
    return doors;
}

/* What could fail for want of a good certificate comes first, so that a bad one leaves everything as it was. */
int doors_open(struct front *f, struct err *err)
{
    const struct service_listener *list;
    size_t n = service_listeners(f->service, &list);
    struct front_door *doors = houses_new(f, list, n, err);
    if (!doors)
        return -1;
    doors_close(f);
    f->doors = doors;
    f->door_count = n;
    struct front_limits limits = f->protocol->limits(service_conf(f->service));
    guests_configure(&f->guests, service_conf(f->service));
    f->gate.max = limits.max_connections;
    f->gate.max_each = limits.max_each;
    for (size_t i = 0; i < n; i++) {
        doors[i].listener = listener_new(f->loop, list[i].fd, on_connection, &doors[i]);
        if (!doors[i].listener)
            return err_set(err, "listen %s: the socket can't be watched", list[i].conf->name);
        if (list[i].conf->proxy)
            listener_proxied(doors[i].listener, trusted);
    }
    return 0;
}

void doors_close(struct front *f)
{
    for (size_t i = 0; i < f->door_count; i++)
        listener_free(&f->doors[i].listener);
    houses_free(f->doors, f->door_count);
    f->doors = NULL;
    f->door_count = 0;
}

int doors_certs(struct front *f, struct err *err)
{
    for (size_t i = 0; i < f->door_count; i++) {
        struct front_door *d = &f->doors[i];
        const struct conf_listen *l = conf_listen_at(service_conf(f->service), d->index);
        struct front_house *fresh = l ? house_new(f, service_conf(f->service), l, err) : NULL;
        if (!fresh)
            return -1; /* what we have stays in use */
        house_unref(&d->house);
        d->house = fresh;
    }
    return 0;
}

int doors_try(struct front *f, const struct conf *next, struct err *err)
{
    for (size_t i = 0; i < next->listen_count; i++) {
        if (next->listen[i].protocol != f->protocol->conf)
            continue;
        struct front_house *h = house_new(f, next, &next->listen[i], err);
        if (!h)
            return -1;
        house_unref(&h);
    }
    return 0;
}
