/* SEND, SOML and SAML (RFC 821 §3.4): a recipient who is an account here is shown the message on its terminals, through
 * authd, before (SAML) or instead of (SEND; SOML when one is open) the mailbox. Asked at the door, so that SEND for who
 * has none is refused there; who has closed it since gets it into the mailbox (SOML, SAML), or the sender is told. */
#include <unistd.h>

#include "qmgr/qmgr.h"

#define SHOWN_MAX 32000 /* of the content: what a frame to the command holds */

static void over(struct job *j, const struct outcome *o)
{
    struct rcpt *r = j->rcpts;
    struct message *m = j->msg;
    message_ref(m);
    r->job = NULL;
    settle_outcome(r, VERDICT_DELIVERED, o, SPAN_NONE);
    job_end(j, SCHED_REACHED);
    message_unref(m);
}

static void on_shown(void *ctx, struct chan *c, enum chan_why why, const struct msg *m, int fd)
{
    struct job *j = ctx;
    struct rcpt *r = j->rcpts;
    uint8_t mode = j->msg->m.terminal;
    (void)c;
    r->ask = 0;
    if (fd >= 0)
        close(fd);
    bool answered = why == CHAN_ANSWERED && m->type == MSG_terminal_shown;
    bool shown = answered && m->terminal_shown.count > 0;
    struct outcome o = outcome_make(OUTCOME_DONE, 0, 0, 0, "shown on a terminal");
    if (mode == QUEUE_SEND && !answered)
        o = outcome_make(OUTCOME_RETRY, 0, 3, 0, "terminals can't be reached just now");
    else if (mode == QUEUE_SEND && !shown)
        o = outcome_make(OUTCOME_FAILED, 0, 2, 1, "the user's terminal was closed meanwhile");
    r->shown = true;
    if (mode == QUEUE_SEND || (mode == QUEUE_SOML && shown))
        over(j, &o);
    else
        local_start(j); /* the mailbox */
}

/* What is there of the content, up to the limit; a frame's text has no NUL, a binary body may. */
static struct span head_of(struct message *m, char *room)
{
    ssize_t n = m->m.spooled ? pread(m->fd, room, SHOWN_MAX, 0) : (ssize_t)MIN_OF(m->content_n, (size_t)SHOWN_MAX);
    if (!m->m.spooled)
        memcpy(room, m->content, (size_t)n);
    for (ssize_t i = 0; i < n; i++)
        if (room[i] == '\0')
            room[i] = ' ';
    return span_make(room, n > 0 ? (size_t)n : 0);
}

bool terminal_takes(struct job *j)
{
    struct rcpt *r = j->rcpts;
    struct message *m = j->msg;
    char room[SHOWN_MAX];
    if (!m->m.terminal || r->shown || r->r.depth)
        return false;
    enum content c = content_ready(j);
    if (c == CONTENT_COMING)
        return true;
    if (c != CONTENT_READY) {
        content_trouble(j, c);
        return true;
    }
    struct span head = head_of(m, room);
    struct msg o = {.type = MSG_terminal_show, .terminal_show = {.account = r->account, .content = head}};
    r->ask = chan_ask(service_chan(m->q->service, ROLE_AUTHD, 0), &o, -1, on_shown, j);
    content_done(m);
    if (!r->ask)
        r->shown = true; /* it holds what no frame does: the mailbox, or SEND fails below */
    if (!r->ask && m->m.terminal == QUEUE_SEND) {
        struct outcome no = outcome_make(OUTCOME_FAILED, 0, 2, 1, "the message can't be shown on a terminal");
        over(j, &no);
        return true;
    }
    return r->ask != 0;
}
