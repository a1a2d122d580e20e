/* pop3d: the POP3 front. TLS and the state before login are here; what follows belongs to the account's process
 * (src/mda), to which bytes are carried. RFC 1939, RFC 8314. Security: see front/front.h. */
#include <unistd.h>

#include "front/front.h"
#include "pop3/prelogin.h"

static struct front front;

static struct front_limits limits(const struct conf *c)
{
    return (struct front_limits){.max_connections = c->pop3.max_connections,
                                 .max_each = c->pop3.max_connections_each,
                                 .max_login_failures = c->pop3.max_login_failures,
                                 .login_timeout = c->pop3.login_timeout,
                                 /* the account's process says the last words first */
                                 .idle_timeout = c->pop3.idle_timeout + 60000};
}

static void *engine_open(const struct front_place *p, struct buf *out)
{
    const struct pop3_prelogin_options o = {
        .tls = p->tls, .starttls = p->starttls, .login_in_clear = p->login_in_clear, .mechanisms = p->mechanisms, .hostname = p->hostname};
    return pop3_prelogin_new(&o, out);
}

static void engine_close(void **engine)
{
    struct pop3_prelogin *p = *engine;
    pop3_prelogin_free(&p);
    *engine = NULL;
}

static size_t engine_input(void *engine, struct span in, struct buf *out, struct login_action *a)
{
    return pop3_prelogin_input(engine, in, out, a);
}

static void engine_secured(void *engine, bool certified)
{
    pop3_prelogin_secured(engine, certified);
}

static void engine_challenge(void *engine, struct span challenge, struct buf *out)
{
    pop3_prelogin_challenge(engine, challenge, out);
}

static void engine_refused(void *engine, enum login_refusal why, struct buf *out)
{
    pop3_prelogin_refused(engine, why, out);
}

static struct span engine_tag(void *engine UNUSED)
{
    return SPAN_NONE; /* POP3 has none */
}

static void engine_bye(void *engine UNUSED, enum login_bye why, struct buf *out)
{
    pop3_prelogin_bye(why, out);
}

static const struct front_protocol protocol = {
    .number = FRONT_POP3,
    .conf = CONF_PROTOCOL_POP3,
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
    front_def(&def, &front, ROLE_POP3D, "pop3d", start);
    return service_main(&def, argc, argv);
}
