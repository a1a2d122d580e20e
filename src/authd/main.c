/* authd: the directory, logins, and the way to each account's process. Requests come from fronts and qmgr, which are
 * trusted with nothing but their own sessions: what an account may do is decided by what its session proved here. */
#include <stdio.h>

#include "authd/authd.h"
#include "authd/hasher.h"
#include "authd/logins.h"
#include "authd/terminals.h"
#include "authd/oauth.h"
#include "authd/workers.h"
#include "base/log.h"
#include "db/db.h"

static struct directory_options options_from(const struct conf *c)
{
    return (struct directory_options){
        .uid_first = c->accounts.uid_first, .uid_last = c->accounts.uid_last, .hostname = span_of(c->hostname), .quota = c->accounts.quota,
        .sending = {[SENDING_MESSAGES_HOUR] = (uint32_t)c->sending.messages_hour,
                    [SENDING_RECIPIENTS_HOUR] = (uint32_t)c->sending.recipients_hour,
                    [SENDING_MESSAGES_DAY] = (uint32_t)c->sending.messages_day,
                    [SENDING_RECIPIENTS_DAY] = (uint32_t)c->sending.recipients_day,
                    [SENDING_NEW_DAY] = (uint32_t)c->sending.new_recipients_day}};
}

/* SCRAM verifiers are only kept where they are wanted. */
static int drop_unwanted(struct authd *a, struct err *err)
{
    const struct conf *c = service_conf(a->service);
    if (!c->accounts.scram && directory_scram_drop(a->directory, SCRAM_SHA_256, err))
        return -1;
    return c->accounts.scram_sha_1 ? 0 : directory_scram_drop(a->directory, SCRAM_SHA_1, err);
}

static int warm(struct service *s, struct err *err)
{
    (void)s;
    scram_warm();
    return password_init(err) ? -1 : db_warm(err);
}

static void directory_changes(void *ctx)
{
    answers_forget(ctx);
}

static int start(struct service *s, struct err *err)
{
    struct authd *a = service_state(s);
    const struct conf *c = service_conf(s);
    struct directory_options o = options_from(c);
    char dir[4096];
    if ((size_t)snprintf(dir, sizeof(dir), "%s/directory", c->state) >= sizeof(dir))
        return err_set(err, "state: the path is too long");
    a->service = s;
    if (directory_open(&a->directory, dir, &o, err) || drop_unwanted(a, err) ||
        oauth_keys_open(c, service_cert_fd(s, 0, 4), &a->token_keys, err))
        return -1;
    directory_on_change(a->directory, directory_changes, a);
    a->hasher = hasher_new(service_loop(s));
    a->logins = logins_new(a);
    logins_remember(a->logins, dir);
    a->workers = workers_new(a);
    a->admin = commands_new(a);
    return 0;
}

static void on_msg(struct service *s, struct chan *from, const struct msg *m, int fd)
{
    authd_message(service_state(s), from, m, fd);
}

/* Down, or straight from one pair to the next. */
static void peer_changed(struct service *s, struct chan *c)
{
    authd_peer_changed(service_state(s), c);
}

static void on_admin(struct service *s, int fd, uint32_t uid)
{
    admin_accept(((struct authd *)service_state(s))->admin, fd, uid);
}

static int can_reload(struct service *s, const struct conf *next, struct err *why)
{
    struct token_keys *keys;
    int r = oauth_keys_open(next, service_cert_fd(s, 0, 4), &keys, why);
    token_keys_free(&keys);
    return r;
}

/* What can't be read leaves what there was, unless nothing is wanted any more. */
static int take_keys(struct service *s, struct err *err)
{
    struct authd *a = service_state(s);
    struct token_keys *keys;
    if (oauth_keys_open(service_conf(s), service_cert_fd(s, 0, 4), &keys, err))
        return -1;
    token_keys_free(&a->token_keys);
    a->token_keys = keys;
    return 0;
}

static void reloaded(struct service *s)
{
    struct authd *a = service_state(s);
    struct directory_options o = options_from(service_conf(s));
    struct err err;
    if (take_keys(s, &err))
        LOGE("keys", KVT("why", err.text));
    directory_configure(a->directory, &o);
    answers_forget(a);
    workers_quotas(a->workers);
    if (drop_unwanted(a, &err))
        LOGE("directory", KVT("why", err.text));
}

static void drain(struct service *s)
{
    struct authd *a = service_state(s);
    if (logins_are_saved(a->logins))
        service_done(s);
}

static void stop(struct service *s)
{
    struct authd *a = service_state(s);
    terminals_close();
    workers_free(&a->workers);
    logins_free(&a->logins);
    hasher_free(&a->hasher);
    admin_free(&a->admin);
    token_keys_free(&a->token_keys);
    directory_close(&a->directory);
    idmap_free(&a->keepers);
}

int main(int argc, char **argv)
{
    static struct authd authd;
    static const struct service_def def = {.role = ROLE_AUTHD,
                                           .name = "authd",
                                           .warm = warm,
                                           .start = start,
                                           .on_msg = on_msg,
                                           .on_down = peer_changed,
                                           .on_up = peer_changed,
                                           .on_admin = on_admin,
                                           .can_reload = can_reload,
                                           .reloaded = reloaded,
                                           .on_certs = take_keys,
                                           .drain = drain,
                                           .stop = stop,
                                           .state = &authd};
    return service_main(&def, argc, argv);
}
