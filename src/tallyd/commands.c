/* waypost client: who is limited and why, and how to lift it. */
#include <stdio.h>

#include "base/mem.h"
#include "tallyd/tallyd.h"

static bool is_exempt(const struct tallyd *d, struct span address)
{
    struct sockaddr_storage a;
    return client_address(address, &a) && conf_networks_have(&service_conf(d->service)->limits.exempt, &a);
}

static void row(struct admin_call *c, const struct tallyd *d, const struct tally_view *v)
{
    static const char *const names[TALLY_WHATS] = {
        "smtp-connections", "imap-connections", "pop3-connections",  "messages",
        "refused-recipients", "errors",         "failed-logins"};
    char who[CLIENT_TEXT_MAX];
    client_text(v->client, who);
    admin_text(c, "client", span_of(who));
    admin_text(c, "state", v->verdict.refuse ? SPAN("refused") : v->verdict.slow ? SPAN("slowed") : SPAN("open"));
    admin_text(c, "why", span_of(v->verdict.why));
    admin_number(c, "delay-ms", v->verdict.slow);
    admin_number(c, "sessions", v->here[TALLY_SMTP] + v->here[TALLY_IMAP] + v->here[TALLY_POP3]);
    for (size_t i = 0; i < TALLY_WHATS; i++)
        admin_number(c, names[i], (uint64_t)(v->level[i] + 0.5));
    admin_number(c, "turned-away", v->turned_away);
    admin_time(c, "last-login", v->trusted);
    admin_time(c, "seen", loop_wall(d->loop) - v->seen);
    admin_row(c);
}

/* ---- list ---- */

struct listing {
    struct tallyd *d;
    uint64_t *clients;
    size_t n, at;
    bool all;
};

static void listing_drop(void *ctx)
{
    struct listing *l = ctx;
    mem_free(&l->clients);
    mem_free(&l);
}

static void listing_go_on(void *ctx, struct admin_call *c)
{
    struct listing *l = ctx;
    struct tallyd *d = l->d;
    struct tally_view v;
    for (unsigned looked = 0; l->at < l->n && looked < 1000 && admin_room(c); looked++)
        if (tally_look(d->tally, l->clients[l->at++], loop_now(d->loop), loop_wall(d->loop), &v) &&
            (l->all || v.verdict.refuse || v.verdict.slow))
            row(c, d, &v);
    if (l->at < l->n) {
        admin_later(c, listing_go_on, listing_drop, l);
        return;
    }
    listing_drop(l);
    admin_end(c, ADMIN_DONE, "%s", "");
}

static void client_list(void *ctx, struct admin_call *c, const struct span *args, size_t nargs)
{
    struct tallyd *d = ctx;
    if (nargs && !span_eqs(args[0], "--all")) {
        admin_end(c, ADMIN_USAGE, "usage: waypost client list [--all]");
        return;
    }
    struct listing *l = mem_alloc(sizeof *l);
    l->d = d;
    l->all = nargs == 1;
    l->clients = tally_clients(d->tally, SIZE_MAX, &l->n);
    listing_go_on(l, c);
}

/* ---- one ---- */

/* An address; "2001:db8:1:2::/64", as it is shown, too. */
static bool client_arg(struct admin_call *c, struct span arg, uint64_t *client)
{
    struct span address = span_ends(arg, SPAN("/64")) ? span_sub(arg, 0, arg.n - 3) : arg;
    if (client_key_parse(address, client))
        return true;
    admin_end(c, ADMIN_USAGE, "%.*s is not an IP address", SPANV(span_sub(arg, 0, 100)));
    return false;
}

static void client_show(void *ctx, struct admin_call *c, const struct span *args, size_t nargs UNUSED)
{
    struct tallyd *d = ctx;
    uint64_t client;
    struct tally_view v;
    if (!client_arg(c, args[0], &client))
        return;
    if (is_exempt(d, args[0])) {
        admin_end(c, ADMIN_NO_SUCH, "%.*s is exempt from limits (limits.exempt) and not counted", SPANV(args[0]));
        return;
    }
    if (!tally_look(d->tally, client, loop_now(d->loop), loop_wall(d->loop), &v)) {
        admin_end(c, ADMIN_NO_SUCH, "nothing is known of %.*s", SPANV(args[0]));
        return;
    }
    row(c, d, &v);
    admin_end(c, ADMIN_DONE, "%s", "");
}

/* authd, too: it slows the client's logins. */
static void client_forget(void *ctx, struct admin_call *c, const struct span *args, size_t nargs UNUSED)
{
    struct tallyd *d = ctx;
    uint64_t client;
    if (!client_arg(c, args[0], &client))
        return;
    struct msg m = {.type = MSG_client_forget, .client_forget = {.client = client}};
    chan_say(service_chan(d->service, ROLE_AUTHD, 0), &m, -1);
    bool known = tally_forget(d->tally, client, loop_now(d->loop));
    keeper_changed(d);
    admin_end(c, ADMIN_DONE, "%s", known ? "forgotten" : "nothing was known of it here; its failed logins are forgotten");
}

struct admin *commands_new(struct tallyd *d)
{
    static const struct admin_command commands[] = {
        {"client list", "[--all]", 0, 1, client_list},
        {"client show", "ADDRESS", 1, 1, client_show},
        {"client forget", "ADDRESS", 1, 1, client_forget},
    };
    return admin_new(d->loop, commands, COUNT_OF(commands), d);
}
