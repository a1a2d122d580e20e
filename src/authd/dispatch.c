/* Which message goes where. ipc/ has checked already that the peer's role may send it. */
#include <unistd.h>

#include "authd/authd.h"
#include "authd/logins.h"
#include "authd/terminals.h"
#include "authd/workers.h"
#include "base/log.h"

void authd_message(struct authd *a, struct chan *from, const struct msg *m, int fd)
{
    switch (m->type) {
    case MSG_rcpt_check: answer_rcpt_check(a, from, m); break;
    case MSG_sender_check: answer_sender_check(a, from, m); break;
    case MSG_who_ask: answer_who(a, from, m); break;
    case MSG_terminal_show: answer_terminal_show(a, from, m); break;
    case MSG_pull_ask: answer_pull(a, from, m); break;
    case MSG_expand: answer_expand(a, from, m); break;
    case MSG_auth_begin: logins_begin(a->logins, from, m); break;
    case MSG_auth_step: logins_step(a->logins, from, m); break;
    case MSG_auth_forget: logins_forget(a->logins, from, m->auth_forget.session); break;
    case MSG_client_forget: logins_client_forget(a->logins, m->client_forget.client); break;
    case MSG_mda_want: workers_want(a->workers, from, m); break;
    case MSG_mda_gone: workers_gone(a->workers, m->mda_gone.account); break;
    case MSG_attach: workers_attach(a->workers, from, m, fd); return;
    case MSG_mda_end: workers_end(a->workers, m->mda_end.account, fd); return;
    default:
        LOGW("unexpected-message", KVT("from", role_name(chan_peer(from))),
             KVT("message", msg_info((unsigned)m->type)->name));
    }
    if (fd >= 0)
        close(fd);
}

/* A new pair means a new process at the other end, which knows nothing of the old one's sessions: they go with the old
 * pair. */
void authd_peer_changed(struct authd *a, struct chan *c)
{
    if (a->logins)
        logins_front_gone(a->logins, c);
    if (chan_peer(c) == ROLE_MX)
        idmap_del(&a->keepers, chan_instance(c));
    if (a->workers && chan_peer(c) == ROLE_ZYGOTE)
        workers_zygote_down(a->workers);
}
