/* An attempt's way to a host: the route, one host after another, one address after another, and what TLS and login are due there. */
#include <stdio.h>
#include <unistd.h>

#include "net/dial.h"
#include "relay/policy.h"
#include "relay/wire.h"

/* ---- connecting ---- */

static void set_remote(struct attempt *a, size_t which)
{
    char text[DIAL_TEXT_MAX];
    dial_address_text(&a->host->addresses[which], text);
    if (a->host->name[0] == '[')
        snprintf(a->remote, sizeof a->remote, "%s", a->host->name);
    else
        snprintf(a->remote, sizeof a->remote, "%s[%s]", a->host->name, text);
}

static void talk(struct attempt *a, int fd)
{
    struct relay *r = a->relay;
    struct session_options o = {
        .smtp = {.helo = span_of(r->own), .tls = policy_tls_mode(a), .timeout_max = a->conf->relay.reply_timeout},
        .tls = policy_tls(a),
        .server_name = a->host->name,
        .remote = a->remote,
    };
    if (!o.tls) {
        close(fd);
        a->address = a->host->count;
        reach_next_address(a);
        return;
    }
    if (a->smarthost) {
        o.smtp.user = span_of(a->conf->relay.smarthost_user);
        o.smtp.password = span_of(a->conf->relay.smarthost_password);
        o.smtp.auth_in_clear = a->conf->relay.plaintext_login;
    }
    attempt_move(a, ATTEMPT_SESSION);
    a->session = session_new(r->loop, fd, &o, &attempt_session_ops, a);
}

static void on_dialled(void *ctx, int fd, size_t which, const struct err *err)
{
    struct attempt *a = ctx;
    a->dial = NULL;
    a->address += which;
    a->tries += (unsigned)which + 1;
    set_remote(a, a->address);
    if (fd >= 0) {
        talk(a, fd);
        return;
    }
    struct outcome o = outcome_make(OUTCOME_RETRY, 0, 4, 1, "%s", err->text);
    attempt_note_host(a, &o);
    a->address++;
    a->clear = false;
    reach_next_address(a);
}

static void take_source(const struct conf *c, struct dial_options *o, struct sockaddr_storage room[2])
{
    for (size_t i = 0; i < c->relay.source.n && i < 2; i++) {
        if (!dial_address_parse(span_of(c->relay.source.items[i]), 0, &room[i]))
            continue;
        if (room[i].ss_family == AF_INET)
            o->source4 = (const struct sockaddr_in *)&room[i];
        else
            o->source6 = (const struct sockaddr_in6 *)&room[i];
    }
}

void reach_next_address(struct attempt *a)
{
    struct sockaddr_storage source[2];
    struct dial_options o = {.each_ms = a->conf->relay.connect_timeout};
    if (!a->host || a->address >= a->host->count || a->tries >= RELAY_TRIES_MAX) {
        reach_next_host(a);
        return;
    }
    take_source(a->conf, &o, source);
    attempt_move(a, ATTEMPT_DIAL);
    size_t count = a->clear ? 1 : MIN_OF(a->host->count - a->address, (size_t)(RELAY_TRIES_MAX - a->tries));
    a->dial = dial_start(a->relay->loop, a->host->addresses + a->address, count, &o, on_dialled, a);
}

/* ---- routing ---- */

static void on_host(void *ctx, const struct route_host *host)
{
    struct attempt *a = ctx;
    a->host = host;
    a->address = 0;
    a->clear = false;
    if (policy_host(a))
        reach_next_address(a);
    else
        reach_next_host(a);
}

static void on_route_end(void *ctx, const struct outcome *why)
{
    struct attempt *a = ctx;
    struct outcome o = *why;
    if (attempt_is_named(a) && o.kind == OUTCOME_FAILED)
        o.kind = OUTCOME_RETRY;
    /* hosts that were talked to know better than a lookup, unless the lookup may bring another host later */
    if (a->why.kind && (o.kind != OUTCOME_RETRY || a->why.kind == OUTCOME_RETRY))
        o = a->why;
    if (policy_relaxes(a)) {
        reach_next_host(a);
        return;
    }
    if (o.kind == OUTCOME_DONE)
        o = outcome_make(OUTCOME_RETRY, 0, 4, 1, "no host could be reached");
    attempt_finish(a, &o);
}

static const struct route_ops route_ops = {on_host, on_route_end};

static struct span named_host(const struct attempt *a, uint16_t *port)
{
    struct span host;
    struct err err;
    return conf_hostport_of(a->smarthost ? span_of(a->conf->relay.smarthost) : a->via, &host, port, &err) ? SPAN_NONE : host;
}

static void begin_route(struct attempt *a)
{
    struct route_want w = {.own = a->relay->own, .port = (uint16_t)a->conf->relay.port, .as_host = attempt_is_named(a)};
    w.domain = attempt_is_named(a) ? named_host(a, &w.port) : wire_domain(&a->arena, a->domain);
    if (w.domain.n == 0) {
        struct outcome o = outcome_make(OUTCOME_FAILED, 0, 1, 2, "%.*s: not a domain name", (int)MIN_OF(a->domain.n, 255u), a->domain.p);
        attempt_finish(a, &o);
        return;
    }
    a->route = route_new(a->relay->loop, a->relay->dns, &w, &route_ops, a);
    route_next(a->route);
}

void reach_next_host(struct attempt *a)
{
    a->host = NULL;
    if (a->state != ATTEMPT_ROUTE)
        attempt_move(a, ATTEMPT_ROUTE);
    if (!a->route) {
        begin_route(a);
    } else if (a->tries >= RELAY_TRIES_MAX) {
        struct outcome o = a->why;
        attempt_finish(a, &o);
    } else {
        route_next(a->route);
    }
}
