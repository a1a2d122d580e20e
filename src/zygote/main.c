/* zygote: forks the account processes. It hears authd (mda_fork) and passes channel ends on; it reads nothing that came
 * from outside. */
#include <signal.h>
#include <unistd.h>

#include "base/log.h"
#include "db/db.h"
#include "mail/words.h"
#include "store/store.h"
#include "zygote/zygote.h"

/* What every child needs is touched once here, so that a fork shares it. */
static int warm(struct service *s, struct err *err)
{
    struct zygote *z = service_state(s);
    if (store_read_boot_id(z->boot_id, sizeof(z->boot_id), err))
        return -1;
    words_warm(); /* charsets: in an empty root they can't be opened later */
    return db_warm(err);
}

static void on_child(void *ctx, int signo)
{
    (void)signo;
    mdas_reap(ctx);
}

static int start(struct service *s, struct err *err)
{
    struct zygote *z = service_state(s);
    (void)err;
    z->service = s;
    z->children = signal_watch_new(service_loop(s), SIGCHLD, on_child, z);
    return 0;
}

static void on_msg(struct service *s, struct chan *from, const struct msg *m, int fd)
{
    if (fd >= 0)
        close(fd);
    if (m->type == MSG_mda_fork && chan_peer(from) == ROLE_AUTHD)
        mdas_fork(service_state(s), from, m);
    else
        LOGW("unexpected-message", KVT("from", role_name(chan_peer(from))),
             KVT("message", msg_info((unsigned)m->type)->name));
}

static void on_up(struct service *s, struct chan *c)
{
    mdas_fresh_pairs(service_state(s), c);
}

static void drain(struct service *s)
{
    mdas_drain(service_state(s));
}

static void stop(struct service *s)
{
    struct zygote *z = service_state(s);
    mdas_free(z);
    signal_watch_free(&z->children);
}

int main(int argc, char **argv)
{
    static struct zygote zygote;
    static const struct service_def def = {.role = ROLE_ZYGOTE,
                                           .name = "zygote",
                                           .warm = warm,
                                           .start = start,
                                           .on_msg = on_msg,
                                           .on_up = on_up,
                                           .drain = drain,
                                           .stop = stop,
                                           .state = &zygote};
    return service_main(&def, argc, argv);
}
