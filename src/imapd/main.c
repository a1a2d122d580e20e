/* imapd: the IMAP front. TLS and the state before login are here; what follows belongs to the account's process (src/mda), to which bytes
 * are carried. RFC 3501, RFC 8314. Security: see front/front.h. */
#include <unistd.h>

#include "front/front.h"
#include "imap/prelogin.h"

static struct front front;

static struct front_limits limits(const struct conf *c)
{
    return (struct front_limits){.max_connections = c->imap.max_connections,
                                 .max_each = c->imap.max_connections_each,
                                 .max_login_failures = c->imap.max_login_failures,
                                 .login_timeout = c->imap.login_timeout,
                                 .idle_timeout = c->imap.idle_timeout + 60000}; /* the account's process says the last words first */
}

static void *engine_open(const struct front_place *p, struct buf *out)
{
    const struct imap_prelogin_options o = {
        .tls = p->tls, .starttls = p->starttls, .login_in_clear = p->login_in_clear, .mechanisms = p->mechanisms, .hostname = p->hostname};
    return imap_prelogin_new(&o, out);
}

static void engine_close(void **engine)
{
    struct imap_prelogin *p = *engine;
    imap_prelogin_free(&p);
    *engine = NULL;
}

static size_t engine_input(void *engine, struct span in, struct buf *out, struct login_action *a)
{
    return imap_prelogin_input(engine, in, out, a);
}

static void engine_secured(void *engine, bool certified)
{
    imap_prelogin_secured(engine, certified);
}

static void engine_challenge(void *engine, struct span challenge, struct buf *out)
{
    imap_prelogin_challenge(engine, challenge, out);
}

static void engine_refused(void *engine, enum login_refusal why, struct buf *out)
{
    imap_prelogin_refused(engine, why, out);
}

static struct span engine_tag(void *engine)
{
    return imap_prelogin_tag(engine);
}

static void engine_bye(void *engine UNUSED, enum login_bye why, struct buf *out)
{
    imap_prelogin_bye(why, out);
}

static const struct front_protocol protocol = {
    .number = FRONT_IMAP,
    .conf = CONF_PROTOCOL_IMAP,
    .limits = limits,
    .open = engine_open,
    .close = engine_close,
    .input = engine_input,
    .secured = engine_secured,
    .challenge = engine_challenge,
    .refused = engine_refused,
    .tag = engine_tag,
    .bye = engine_bye,
};

static int start(struct service *s UNUSED, struct err *err)
{
    return front_start(&front, &protocol, err);
}

int main(int argc, char **argv)
{
    static struct service_def def;
    front_def(&def, &front, ROLE_IMAPD, "imapd", start);
    return service_main(&def, argc, argv);
}
