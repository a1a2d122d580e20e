/* The configuration file's parser: any text is taken or refused with lines of the right form, and what was taken
 * travels to every role. */
#include <stdlib.h>

#include "conf/conf.h"

struct wire {
    struct conf_receiver *receiver;
    const struct conf *got;
};

static void on_say(void *ctx, const struct msg *m)
{
    struct wire *w = ctx;
    struct err err;
    if (conf_receive(w->receiver, m, &w->got, &err) < 0)
        abort(); /* what one side says the other must take */
}

static void carry(const struct conf *c, enum role role)
{
    struct wire w = {.receiver = conf_receiver_new()};
    struct err err;
    if (conf_send(c, role, on_say, &w, &err) == 0 && !w.got)
        abort();
    conf_unref(&w.got);
    conf_receiver_free(&w.receiver);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct conf_errors errors = {0};
    const struct conf *c = conf_parse("F", span_make(data, size), 1, &errors);
    if (!c != (errors.count > 0))
        abort();
    for (unsigned role = 0; c && role < ROLE_COUNT; role++)
        if (role != ROLE_RELAY || !*c->relay.smarthost_password) /* no file is read here */
            carry(c, (enum role)role);
    conf_unref(&c);
    conf_errors_free(&errors);
    return 0;
}
