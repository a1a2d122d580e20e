/* The sessions of this account: each is a byte stream that a front handed over through authd, and the engine that
 * speaks on it. */
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "mda/imap_session.h"
#include "mda/pop3_session.h"
#include "mda/worker.h"

#define SESSIONS_MAX 2000 /* of one account; an idle one costs a few KiB here */

struct session {
    struct link link;
    struct sessions *all;
    struct imap_session *imap; /* one of the two */
    struct pop3_session *pop3;
    bool over; /* ended() came: it waits for the sweep */
};

struct sessions {
    struct worker *w;
    struct link list;
    size_t count;
    struct defer sweep; /* an ended session is freed after its own callback */
    struct link ended;
};

static void free_list(struct link *head)
{
    LIST_EACH(head, l) {
        struct session *one = container_of(l, struct session, link);
        list_del(&one->link);
        imap_session_free(&one->imap);
        pop3_session_free(&one->pop3);
        mem_free(&one);
    }
}

static void sweep(void *ctx)
{
    struct sessions *s = ctx;
    free_list(&s->ended);
    worker_usage(s->w);
    worker_quiet(s->w);
}

struct sessions *sessions_new(struct worker *w)
{
    struct sessions *s = mem_alloc(sizeof(*s));
    s->w = w;
    list_init(&s->list);
    list_init(&s->ended);
    s->sweep = (struct defer){.fn = sweep, .ctx = s};
    return s;
}

void sessions_free(struct sessions **sp)
{
    struct sessions *s = *sp;
    if (!s)
        return;
    loop_defer_cancel(s->w->loop, &s->sweep);
    free_list(&s->list);
    free_list(&s->ended);
    mem_free(sp);
}

size_t sessions_count(const struct sessions *s)
{
    return s->count;
}

static void session_ended(struct session *one)
{
    struct sessions *s = one->all;
    if (one->over)
        return; /* the goodbye and the client's own end may both be told */
    one->over = true;
    list_del(&one->link);
    list_add_tail(&s->ended, &one->link);
    s->count--;
    loop_defer(s->w->loop, &s->sweep);
}

/* ---- IMAP ---- */

static void imap_ended(void *ctx, struct imap_session *s)
{
    (void)s;
    session_ended(ctx);
}

static bool start_imap(struct session *one, const struct msg_attach_mda *q, int fd)
{
    struct worker *w = one->all->w;
    struct imap_session_start o = {.loop = w->loop,
                                   .store = w->store,
                                   .fd = fd,
                                   .login = w->start->login,
                                   .tag = q->tag,
                                   .remote = q->remote,
                                   .early = q->early,
                                   .tls = q->tls,
                                   .message_max = w->start->conf->smtp.max_message_size,
                                   .idle_ms = w->start->conf->imap.idle_timeout,
                                   .ended = imap_ended,
                                   .ctx = one};
    one->imap = imap_session_new(&o);
    return one->imap != NULL;
}

/* ---- POP3 ---- */

static void pop3_ended(void *ctx, struct pop3_session *s)
{
    (void)s;
    session_ended(ctx);
}

static bool start_pop3(struct session *one, const struct msg_attach_mda *q, int fd)
{
    struct worker *w = one->all->w;
    struct pop3_session_start o = {.loop = w->loop,
                                   .store = w->store,
                                   .fd = fd,
                                   .login = w->start->login,
                                   .remote = q->remote,
                                   .early = q->early,
                                   .tls = q->tls,
                                   .idle_ms = w->start->conf->pop3.idle_timeout,
                                   .ended = pop3_ended,
                                   .ctx = one};
    one->pop3 = pop3_session_new(&o);
    return one->pop3 != NULL;
}

/* ---- attaching ---- */

static bool start_protocol(struct session *one, const struct msg_attach_mda *q, int fd)
{
    switch (q->protocol) {
    case CONF_PROTOCOL_IMAP: return start_imap(one, q, fd);
    case CONF_PROTOCOL_POP3: return start_pop3(one, q, fd);
    }
    close(fd);
    return false;
}

/* Takes the descriptor over in any case. */
static const char *start_session(struct sessions *s, const struct msg_attach_mda *q, int fd)
{
    struct session *one = mem_alloc(sizeof(*one));
    one->all = s;
    if (!start_protocol(one, q, fd)) {
        mem_free(&one);
        return "no session of this kind can be opened here";
    }
    list_add_tail(&s->list, &one->link);
    s->count++;
    return NULL;
}

/* The answer goes first: the front copies bytes from then on, and the session's first line follows on the stream
 * itself. */
void sessions_attach(struct sessions *s, const struct msg *m, int fd)
{
    const char *why = NULL;
    worker_busy(s->w);
    store_set_now(s->w->store, loop_wall(s->w->loop));
    if (s->count >= SESSIONS_MAX)
        why = "too many sessions of this account";
    if (why)
        close(fd);
    else
        why = start_session(s, &m->attach_mda, fd);
    struct msg answer = {.type = MSG_attached};
    answer.attached = (struct msg_attached){.kind = why ? OUTCOME_RETRY : OUTCOME_DONE, .why = span_of(why ? why : "")};
    chan_answer(s->w->authd, chan_epoch(s->w->authd), m->id, &answer, -1);
    if (why)
        worker_quiet(s->w);
}

void sessions_bye(struct sessions *s, const char *why)
{
    LIST_EACH(&s->list, l) {
        struct session *one = container_of(l, struct session, link);
        if (one->imap)
            imap_session_bye(one->imap, why);
        else
            pop3_session_bye(one->pop3, why);
    }
}
