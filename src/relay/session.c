/* A connection: moves bytes between stream and engine, makes TLS when the engine wants it, and watches the time. The time runs while the
 * engine makes no progress; a peer that trickles bytes without ever finishing a reply does not stop it. */
#include "relay/session.h"

#include <stdio.h>

#include "base/mem.h"
#include "net/stream.h"

struct session {
    struct loop *loop;
    struct stream *stream;
    struct smtp_client *client;
    struct buf out;
    struct timer *timer;
    struct defer start_tls; /* after on_data has returned: what was read is then used up */
    const struct session_ops *ops;
    void *ctx;
    struct tls_ctx *tls;
    char server_name[256], remote[SESSION_REMOTE_MAX], tls_text[101];
    uint64_t progress;
    unsigned messages, depth;
    bool handshake, tls_failed, want_room, freed;
};

/* Calls from below (stream, timer, engine) may end with session_free(): the memory stays until the outermost has returned. */
static void enter(struct session *s)
{
    s->depth++;
}

static void release(struct session *s)
{
    stream_free(&s->stream);
    smtp_client_free(&s->client);
    timer_free(&s->timer);
    loop_defer_cancel(s->loop, &s->start_tls);
}

static void leave(struct session *s)
{
    if (--s->depth || !s->freed)
        return;
    tls_unref(&s->tls);
    buf_free(&s->out);
    mem_free(&s);
}

/* Sends what the engine has to say and sets the clock. False: the stream is full. */
static bool pump(struct session *s)
{
    bool room = true;
    if (s->freed)
        return false;
    if (s->out.n)
        room = stream_write(s->stream, buf_span(&s->out));
    buf_clear(&s->out);
    if (s->progress != smtp_client_progress(s->client)) {
        s->progress = smtp_client_progress(s->client);
        int64_t ms = smtp_client_timeout(s->client);
        if (ms)
            timer_start(s->timer, ms);
        else
            timer_stop(s->timer);
    }
    return room;
}

static void lost(struct session *s, const char *what)
{
    s->tls_failed = s->handshake;
    smtp_client_lost(s->client, what);
}

/* ---- from the stream ---- */

static size_t on_data(void *ctx, struct span in)
{
    struct session *s = ctx;
    enter(s);
    smtp_client_feed(s->client, in);
    pump(s);
    leave(s);
    return in.n;
}

static void on_room(struct session *s)
{
    if (!s->want_room)
        return;
    s->want_room = false;
    s->ops->on_content(s->ctx);
}

static void on_tls_up(struct session *s)
{
    s->handshake = false;
    snprintf(s->tls_text, sizeof s->tls_text, "%s", stream_tls_text(s->stream));
    if (smtp_client_stage(s->client) == SMTP_STAGE_TLS)
        smtp_client_tls_up(s->client);
}

static void on_event(void *ctx, enum stream_event e)
{
    struct session *s = ctx;
    char text[256];
    enter(s);
    switch (e) {
    case STREAM_TLS_UP:
        on_tls_up(s);
        break;
    case STREAM_DRAINED:
        on_room(s);
        break;
    case STREAM_EOF:
        lost(s, "the next host closed the connection");
        break;
    case STREAM_ERROR:
        snprintf(text, sizeof text, "%s", stream_error(s->stream));
        lost(s, text);
        break;
    case STREAM_TIMEOUT:
    case STREAM_FLUSHED:
        break; /* neither is asked for */
    }
    pump(s);
    leave(s);
}

static const struct stream_ops stream_ops = {on_data, on_event};

static void on_late(void *ctx)
{
    struct session *s = ctx;
    enter(s);
    lost(s, "the time is over");
    leave(s);
}

static void do_start_tls(void *ctx)
{
    struct session *s = ctx;
    enter(s);
    if (stream_tls_client(s->stream, s->tls, s->server_name) > 0)
        smtp_client_lost(s->client, "bytes in clear text behind the answer to STARTTLS"); /* HAZARDS 3 */
    leave(s);
}

/* ---- from the engine ---- */

static void eng_ready(void *ctx)
{
    struct session *s = ctx;
    s->ops->on_ready(s->ctx);
}

static void eng_start_tls(void *ctx)
{
    struct session *s = ctx;
    s->handshake = true;
    loop_defer(s->loop, &s->start_tls);
}

static void eng_rcpt(void *ctx, size_t index, const struct outcome *o)
{
    struct session *s = ctx;
    s->ops->on_rcpt(s->ctx, index, o);
}

static void eng_content(void *ctx)
{
    struct session *s = ctx;
    s->ops->on_content(s->ctx);
}

static void eng_done(void *ctx)
{
    struct session *s = ctx;
    s->ops->on_done(s->ctx);
}

static void eng_failed(void *ctx, enum smtp_client_stage at, const struct outcome *why)
{
    struct session *s = ctx;
    timer_stop(s->timer);
    s->ops->on_over(s->ctx, at, why, s->tls_failed);
}

static void eng_quit(void *ctx)
{
    struct session *s = ctx;
    struct outcome o = outcome_make(OUTCOME_DONE, 0, 0, 0, "closed");
    timer_stop(s->timer);
    s->ops->on_over(s->ctx, SMTP_STAGE_IDLE, &o, false);
}

static const struct smtp_client_ops client_ops = {eng_ready, eng_start_tls, eng_rcpt, eng_content, eng_done, eng_failed, eng_quit};

/* ---- for its user ---- */

struct session *session_new(struct loop *l, int fd, const struct session_options *o, const struct session_ops *ops, void *ctx)
{
    struct session *s = mem_alloc(sizeof *s);
    s->loop = l;
    s->ops = ops;
    s->ctx = ctx;
    s->tls = o->tls ? tls_ref(o->tls) : NULL;
    s->start_tls = (struct defer){.fn = do_start_tls, .ctx = s};
    s->progress = UINT64_MAX; /* so that the clock starts */
    s->timer = timer_new(l, on_late, s);
    snprintf(s->server_name, sizeof s->server_name, "%s", o->server_name);
    snprintf(s->remote, sizeof s->remote, "%s", o->remote);
    s->client = smtp_client_new(&o->smtp, &s->out, &client_ops, s);
    s->stream = stream_new(l, fd, &stream_ops, s);
    if (o->smtp.tls == SMTP_CLIENT_IS_TLS)
        eng_start_tls(s);
    pump(s);
    return s;
}

void session_free(struct session **sp)
{
    struct session *s = *sp;
    *sp = NULL;
    if (!s)
        return;
    enter(s);
    if (!s->freed)
        release(s);
    s->freed = true;
    leave(s);
}

void session_use(struct session *s, const struct session_ops *ops, void *ctx)
{
    s->ops = ops;
    s->ctx = ctx;
}

void session_mail(struct session *s, const struct smtp_client_mail *m)
{
    enter(s);
    s->messages++;
    smtp_client_mail(s->client, m);
    pump(s);
    leave(s);
}

bool session_content(struct session *s, struct span chunk, bool last)
{
    enter(s);
    smtp_client_content(s->client, chunk, last);
    bool room = pump(s);
    s->want_room = !room && !last;
    leave(s);
    return room;
}

void session_quit(struct session *s)
{
    enter(s);
    smtp_client_quit(s->client);
    pump(s);
    leave(s);
}

struct smtp_client *session_client(struct session *s)
{
    return s->client;
}

const char *session_remote(const struct session *s)
{
    return s->remote;
}

const char *session_tls_text(const struct session *s)
{
    return s->tls_text;
}

unsigned session_messages(const struct session *s)
{
    return s->messages;
}
