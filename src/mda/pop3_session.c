/* POP3 sessions of this account: INBOX as it is at the login, one session at a time. RFC1939:3 RFC1939:4 (the
 * exclusive lock) */
#include "mda/pop3_session.h"

#include "base/log.h"
#include "base/mem.h"
#include "mda/pipe.h"
#include "pop3/session.h"

struct pop3_session {
    struct store *store;
    struct pipe *pipe;
    struct pop3_transaction *engine; /* NULL: refused, the reason is on its way out */
    struct store_content *content;   /* being sent */
    struct store_rows rows;          /* INBOX at the login, in the order of the engine's list */
    uint64_t inbox;
    char *remote;
    bool finishing, ended;
    void (*on_end)(void *ctx, struct pop3_session *s);
    void *ctx;
};

static struct pop3_session *holder; /* of the maildrop: the process has one account */

static void end(struct pop3_session *s)
{
    if (s->ended)
        return;
    s->ended = true;
    if (holder == s)
        holder = NULL;
    s->on_end(s->ctx, s);
}

static void finish(struct pop3_session *s)
{
    if (s->finishing)
        return;
    s->finishing = true;
    if (holder == s)
        holder = NULL; /* the maildrop is free as soon as its UPDATE is done */
    pipe_finish(s->pipe);
}

/* ---- what the engine asks for ---- */

static bool drop_write(void *ctx, struct span bytes)
{
    struct pop3_session *s = ctx;
    return pipe_write(s->pipe, bytes);
}

static int drop_open(void *ctx, size_t i, struct err *err)
{
    struct pop3_session *s = ctx;
    return store_content_open(s->store, s->rows.v[i].content, &s->content, err) == STORE_OK ? 0 : -1;
}

static ptrdiff_t drop_read(void *ctx, uint64_t offset, void *to, size_t n)
{
    struct pop3_session *s = ctx;
    struct err err;
    ptrdiff_t got = store_content_read(s->content, offset, to, n, &err);
    if (got < 0)
        LOGE("content-unreadable", KVT("why", err.text));
    return got;
}

static void drop_close(void *ctx)
{
    struct pop3_session *s = ctx;
    store_content_close(&s->content);
}

/* UPDATE: what was marked goes, for good, before QUIT is answered. RFC1939:6 */
static int drop_update(void *ctx, const struct pop3_message *list, size_t n, struct err *err)
{
    struct pop3_session *s = ctx;
    uint32_t *uids = mem_array(n, sizeof *uids);
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        if (list[i].deleted)
            uids[count++] = list[i].uid;
    int r = store_expunge(s->store, s->inbox, uids, count, false, NULL, NULL, err);
    if (r == STORE_OK)
        r = store_sync(s->store, err);
    if (r != STORE_OK)
        LOGE("pop3-update-failed", KVT("why", err->text));
    mem_free(&uids);
    return r == STORE_OK ? 0 : -1;
}

static const struct pop3_session_ops drop_ops = {drop_write, drop_open, drop_read, drop_close, drop_update};

/* ---- the stream ---- */

static size_t on_data(void *ctx, struct span in)
{
    struct pop3_session *s = ctx;
    size_t used = 0, n = 1;
    if (!s->engine || s->finishing)
        return in.n;
    while (n && used < in.n && !pop3_transaction_over(s->engine)) {
        n = pop3_transaction_input(s->engine, span_from(in, used));
        used += n;
    }
    if (pop3_transaction_over(s->engine))
        finish(s);
    else if (pop3_transaction_busy(s->engine))
        pipe_pause(s->pipe); /* pipelined commands wait in the client's kernel */
    return used;
}

static void on_drained(void *ctx)
{
    struct pop3_session *s = ctx;
    if (!s->engine || s->finishing)
        return;
    pop3_transaction_more(s->engine);
    if (pop3_transaction_over(s->engine))
        finish(s);
    else if (!pop3_transaction_busy(s->engine))
        pipe_resume(s->pipe); /* commands that came meanwhile */
}

static void on_end(void *ctx)
{
    end(ctx);
}

static const struct pipe_ops pipe_ops = {on_data, on_drained, on_end};

/* RFC1939:3: the session ends without the UPDATE state. */
static void too_late(void *ctx)
{
    pop3_session_bye(ctx, "nothing came for too long");
}

/* ---- beginning and end ---- */

static struct pop3_message *list_of(const struct store_rows *rows)
{
    struct pop3_message *list = mem_array(rows->n ? rows->n : 1, sizeof *list);
    for (size_t i = 0; i < rows->n; i++)
        list[i] = (struct pop3_message){.size = rows->v[i].size, .uid = rows->v[i].uid};
    return list;
}

static void refuse(struct pop3_session *s, const char *text)
{
    pipe_write(s->pipe, span_of(text));
    finish(s);
}

static void take_maildrop(struct pop3_session *s)
{
    struct store_mailbox inbox;
    struct err err;
    int r = store_find(s->store, SPAN("INBOX"), NULL, &inbox, &err);
    if (r == STORE_OK)
        r = store_scan(s->store, inbox.id, 1, UINT32_MAX, &s->rows, &err);
    if (r != STORE_OK) {
        LOGE("pop3-open-failed", KVT("why", err.text));
        refuse(s, "-ERR [SYS/TEMP] the mailbox can't be opened now\r\n");
        return;
    }
    holder = s;
    s->inbox = inbox.id;
    s->engine = pop3_transaction_new(&drop_ops, s, list_of(&s->rows), s->rows.n, inbox.uidvalidity);
}

struct pop3_session *pop3_session_new(const struct pop3_session_start *o)
{
    struct pop3_session *s = mem_alloc(sizeof *s);
    s->pipe = pipe_new(o->loop, o->fd, o->early, &pipe_ops, s);
    if (!s->pipe) {
        mem_free(&s);
        return NULL;
    }
    s->store = o->store;
    s->on_end = o->ended;
    s->ctx = o->ctx;
    s->remote = mem_strndup(o->remote.p ? o->remote.p : "", o->remote.n);
    pipe_timeout(s->pipe, o->idle_ms, too_late);
    if (holder)
        refuse(s, "-ERR [IN-USE] another POP3 session has this mailbox\r\n"); /* RFC2449:8.1.1 */
    else
        take_maildrop(s);
    LOGI("pop3-session", KVT("login", o->login), KVT("remote", s->remote), KVU("tls", o->tls),
         KVU("messages", s->rows.n));
    return s;
}

void pop3_session_bye(struct pop3_session *s, const char *why)
{
    struct buf b = {0};
    if (s->finishing)
        return;
    if (s->engine && !pop3_transaction_busy(s->engine)) { /* not in the middle of a message */
        pop3_put_bye(&b, why);
        pipe_write(s->pipe, buf_span(&b));
        buf_free(&b);
    }
    finish(s);
}

void pop3_session_free(struct pop3_session **sp)
{
    struct pop3_session *s = *sp;
    if (!s)
        return;
    if (holder == s)
        holder = NULL;
    pop3_transaction_free(&s->engine);
    store_content_close(&s->content);
    pipe_free(&s->pipe);
    store_rows_free(&s->rows);
    mem_free(&s->remote);
    mem_free(sp);
}
