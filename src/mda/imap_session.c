/* One IMAP session: bytes between the pipe and the engine, the store's changes to the engine. See imap_session.h. */
#include "mda/imap_session.h"

#include "base/log.h"
#include "base/mem.h"
#include "imap/engine.h"
#include "mda/imap_store.h"
#include "mda/pipe.h"

struct imap_session {
    struct loop *loop;
    struct store *store;
    struct pipe *pipe;
    struct imap *engine;
    struct store_watch watch;
    struct timer *soon; /* the engine wants to go on when others had their turn, or has news for an idling client */
    bool full;          /* the pipe takes no more for now */
    bool over;          /* nothing more will be said: the pipe sends what it has */
    void (*ended)(void *ctx, struct imap_session *s);
    void *ctx;
};

static void finish(struct imap_session *s)
{
    s->over = true;
    timer_stop(s->soon);
    pipe_finish(s->pipe);
}

/* Sends what the engine has said. */
static void send_output(struct imap_session *s)
{
    struct buf *out = imap_output(s->engine);
    if (!out->n)
        return;
    s->full = !pipe_write(s->pipe, buf_span(out));
    buf_free(out); /* an idle session holds nothing */
}

/* Lets the engine go on with that input; returns how much of it was used. While it is busy nothing is read from the
 * client. */
static size_t run(struct imap_session *s, struct span in)
{
    size_t before = in.n;
    enum imap_want want;
    do {
        want = imap_run(s->engine, &in);
        if (want == IMAP_INPUT && !s->full && imap_unsettled(s->engine) && pipe_more(s->pipe)) {
            pipe_resume(s->pipe); /* one sync for all commands that came together */
            return before - in.n;
        }
        want = imap_settle(s->engine, want);
        send_output(s);
    } while (want == IMAP_ROOM && !s->full);
    if (want == IMAP_OVER) {
        finish(s);
        return before;
    }
    if (want == IMAP_INPUT && !s->full) {
        pipe_resume(s->pipe);
        return before - in.n;
    }
    pipe_pause(s->pipe);
    if (want == IMAP_TURN)
        timer_start(s->soon, 0);
    return before - in.n;
}

static size_t on_data(void *ctx, struct span in)
{
    return run(ctx, in);
}

static void on_soon(void *ctx)
{
    struct imap_session *s = ctx;
    if (!s->over && !s->full)
        run(s, SPAN(""));
}

static void on_drained(void *ctx)
{
    struct imap_session *s = ctx;
    s->full = false;
    if (!s->over)
        run(s, SPAN(""));
}

static void on_end(void *ctx)
{
    struct imap_session *s = ctx;
    s->over = true;
    s->ended(s->ctx, s);
}

static const struct pipe_ops pipe_ops = {.on_data = on_data, .on_drained = on_drained, .on_end = on_end};

/* RFC3501:5.4 */
static void on_late(void *ctx)
{
    imap_session_bye(ctx, "Autologout: idle for too long");
}

static void on_change(void *ctx, const struct store_event *e)
{
    struct imap_session *s = ctx;
    struct imap_change c = {.mailbox = e->mailbox, .uids = e->uids, .n = e->n};
    uint32_t *uids = NULL;
    switch (e->kind) {
    case STORE_CHANGE_NEW: c.kind = IMAP_CHANGE_NEW; break;
    case STORE_CHANGE_EXPUNGED: c.kind = IMAP_CHANGE_EXPUNGED; break;
    case STORE_CHANGE_GONE: c.kind = IMAP_CHANGE_GONE; break;
    case STORE_CHANGE_RENAMED: c.kind = IMAP_CHANGE_RENAMED; break;
    case STORE_CHANGE_LIST: return;
    case STORE_CHANGE_FLAGS:
        c.kind = IMAP_CHANGE_FLAGS;
        c.uids = uids = mem_array(e->n, sizeof *uids);
        for (size_t i = 0; i < e->n; i++)
            uids[i] = e->rows[i].uid;
        break;
    }
    if (imap_changed(s->engine, &c) && !s->over)
        timer_start(s->soon, 0); /* not now: a watcher may not change the store, and telling claims \Recent */
    mem_free(&uids);
}

struct imap_session *imap_session_new(const struct imap_session_start *o)
{
    struct imap_session *s = mem_alloc(sizeof *s);
    *s = (struct imap_session){
        .loop = o->loop, .store = o->store, .ended = o->ended, .ctx = o->ctx, .watch = {.fn = on_change, .ctx = s}};
    s->pipe = pipe_new(o->loop, o->fd, o->early, &pipe_ops, s);
    if (!s->pipe) {
        mem_free(&s);
        return NULL;
    }
    struct imap_setup setup = {.backend = &imap_store, .ctx = o->store, .tag = o->tag, .message_max = o->message_max};
    s->engine = imap_new(&setup);
    s->soon = timer_new(o->loop, on_soon, s);
    pipe_timeout(s->pipe, o->idle_ms, on_late);
    store_watch(o->store, &s->watch);
    LOGI("imap-session", KVT("login", o->login), KVS("remote", o->remote), KVU("tls", o->tls));
    send_output(s);
    return s;
}

void imap_session_bye(struct imap_session *s, const char *why)
{
    if (s->over)
        return;
    imap_bye(s->engine, why);
    imap_settle(s->engine, IMAP_OVER);
    send_output(s);
    finish(s);
}

void imap_session_free(struct imap_session **address)
{
    struct imap_session *s = *address;
    if (!s)
        return;
    store_unwatch(s->store, &s->watch);
    timer_free(&s->soon);
    pipe_free(&s->pipe);
    imap_free(&s->engine);
    mem_free(address);
}
