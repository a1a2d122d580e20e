/* ETRN, and ATRN's reversed connection: qmgr gets the far end of a stream, on which relay is the client; here bytes are
 * carried between that and the customer's host, whose TLS stays ours. */
#include <errno.h>
#include <unistd.h>

#include "base/log.h"
#include "smtpd/smtpd.h"

#define IDLE_MS 600000 /* relay has its own, shorter times */

static struct outcome no_queue(unsigned code)
{
    return outcome_make(OUTCOME_RETRY, code, 3, 0, "The queue does not answer just now, try again later");
}

static struct outcome from_turned(enum chan_why why, const struct msg *m, unsigned code)
{
    const struct msg_turned *t = &m->turned;
    if (why != CHAN_ANSWERED || m->type != MSG_turned ||
        (t->kind != OUTCOME_DONE && t->kind != OUTCOME_RETRY && t->kind != OUTCOME_FAILED))
        return no_queue(code);
    return outcome_text(t->kind, t->code, t->subject, t->detail, t->why);
}

static uint64_t ask(struct session *s, unsigned what, struct span names, int fd, chan_answer_fn *fn)
{
    struct msg m = {.type = MSG_turn_ask};
    m.turn_ask = (struct msg_turn_ask){.session = s->login_begun ? s->id : 0,
                                       .what = (uint8_t)what,
                                       .remote = span_of(s->remote),
                                       .names = names.p ? names : SPAN("")};
    return !chan_is_up(s->d->qmgr) || chan_full(s->d->qmgr) ? 0 : chan_ask(s->d->qmgr, &m, fd, fn, s);
}

/* ---- ETRN ---- */

static void on_flushed(void *ctx, struct chan *c, enum chan_why why, const struct msg *m, int fd)
{
    struct session *s = ctx;
    (void)c;
    s->turn_id = 0;
    if (fd >= 0)
        close(fd);
    struct outcome o = from_turned(why, m, 458);
    smtp_server_flushed(s->smtp, &o);
    session_poke(s);
}

void ask_etrn(struct session *s, const struct smtp_request *r)
{
    s->turn_id = ask(s, 0, r->address, -1, on_flushed);
    if (s->turn_id)
        return;
    struct outcome o = no_queue(458);
    smtp_server_flushed(s->smtp, &o);
}

/* ---- ATRN: carrying ---- */

static size_t inner_data(void *ctx, struct span in)
{
    struct session *s = ctx;
    if (!stream_write(s->stream, in))
        stream_pause(s->turned);
    return in.n;
}

static void inner_event(void *ctx, enum stream_event e)
{
    struct session *s = ctx;
    if (e == STREAM_DRAINED)
        stream_resume(s->stream);
    else if ((e == STREAM_EOF || e == STREAM_ERROR) && !s->closing)
        session_finish(s); /* whatever relay said last has been written */
}

static const struct stream_ops inner_ops = {.on_data = inner_data, .on_event = inner_event};

size_t turn_data(struct session *s, struct span in)
{
    if (!stream_write(s->turned, in))
        stream_pause(s->stream);
    return in.n;
}

bool turn_event(struct session *s, enum stream_event e)
{
    if (!s->turned || s->closing)
        return false;
    switch (e) {
    case STREAM_DRAINED: stream_resume(s->turned); return true;
    case STREAM_EOF: stream_shutdown_write(s->turned); return true;
    case STREAM_TIMEOUT: session_finish(s); return true;
    default: return false;
    }
}

void turn_drop(struct session *s)
{
    if (s->turn_id)
        chan_forget(s->d->qmgr, s->turn_id);
    s->turn_id = 0;
    if (s->turn_fd > 0)
        close(s->turn_fd);
    s->turn_fd = 0;
    stream_free(&s->turned);
}

/* ---- ATRN: asking ---- */

static void on_turned(void *ctx, struct chan *c, enum chan_why why, const struct msg *m, int fd)
{
    struct session *s = ctx;
    int mine = s->turn_fd;
    (void)c;
    s->turn_id = 0;
    if (fd >= 0)
        close(fd);
    struct outcome o = from_turned(why, m, 451);
    smtp_server_turned(s->smtp, &o);
    if (o.kind != OUTCOME_DONE || s->eof) {
        turn_drop(s); /* relay finds its end closed */
        session_poke(s);
        return;
    }
    LOGI("reversed", KVT("client", s->remote), KVS("login", smtp_server_login_name(s->smtp)));
    s->turn_fd = 0;
    session_poke(s); /* the 250 comes before anything that relay says */
    s->turned = stream_new(s->d->loop, mine, &inner_ops, s);
    s->timeout = IDLE_MS;
    stream_timeout(s->stream, IDLE_MS);
}

void ask_turn(struct session *s, const struct smtp_request *r)
{
    int fds[2];
    struct outcome o = no_queue(451);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds)) {
        LOGE("turn", KVT("why", strerror(errno)));
        smtp_server_turned(s->smtp, &o);
        return;
    }
    s->turn_id = ask(s, 1, r->data, fds[1], on_turned);
    close(fds[1]);
    s->turn_fd = fds[0];
    if (s->turn_id)
        return;
    turn_drop(s);
    smtp_server_turned(s->smtp, &o);
}
