/* Large content: qmgr opens a file, we write prefix and body into it on a pool thread, one buffer at a time, while the
 * engine fills the next one; then it is synced and committed. Memory does not depend on the size of the message. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "smtpd/smtpd.h"

struct spool {
    struct session *s; /* NULL: not wanted any more, freed when its write is done */
    struct loop *loop;
    struct chan *qmgr;
    uint64_t txn, open_id;
    uint32_t epoch; /* of the channel on which it was announced */
    int fd;         /* -1: not open yet */
    struct buf out;
    bool writing, sync;
    bool want_room, want_commit; /* the engine waits for the write under way */
    int error;
};

static void spool_free(struct spool *sp)
{
    if (sp->fd >= 0)
        close(sp->fd);
    buf_free(&sp->out);
    mem_free(&sp);
}

static void say_abort(struct spool *sp)
{
    struct msg m = {.type = MSG_msg_abort};
    m.msg_abort.txn = sp->txn;
    if (chan_epoch(sp->qmgr) == sp->epoch)
        chan_say(sp->qmgr, &m, -1);
}

/* After a commit this is harmless: qmgr knows nothing of the transaction any more. */
void spool_drop(struct session *s)
{
    struct spool *sp = s->spool;
    if (!sp)
        return;
    s->spool = NULL;
    say_abort(sp);
    if (sp->open_id)
        chan_forget(sp->qmgr, sp->open_id);
    sp->s = NULL;
    if (!sp->writing)
        spool_free(sp);
}

/* It can't be stored: the engine reads the rest and says so, or says so at once. */
static void spool_failed(struct session *s, const struct outcome *o)
{
    bool whole = s->spool->want_commit;
    spool_drop(s);
    if (whole) {
        commit_done(s, o, SPAN(""));
        return;
    }
    smtp_server_no_room(s->smtp, o);
    session_poke(s);
}

/* ---- writing ---- */

static void write_run(void *ctx)
{
    struct spool *sp = ctx;
    size_t at = 0;
    while (at < sp->out.n && !sp->error) {
        ssize_t n = write(sp->fd, sp->out.p + at, sp->out.n - at);
        if (n >= 0)
            at += (size_t)n;
        else if (errno != EINTR)
            sp->error = errno;
    }
    if (sp->sync && !sp->error && fsync(sp->fd))
        sp->error = errno;
}

static void write_done(void *ctx);

static void write_start(struct spool *sp)
{
    sp->writing = true;
    loop_work(sp->loop, write_run, write_done, sp);
}

static void take_content(struct session *s)
{
    struct spool *sp = s->spool;
    if (sp->out.n == 0) {
        smtp_server_take(s->smtp, &sp->out);
        return;
    }
    struct buf content = {0}; /* behind the prefix */
    smtp_server_take(s->smtp, &content);
    buf_add(&sp->out, buf_span(&content));
    buf_free(&content);
}

/* The file is open and no write is under way. */
static void go_on(struct session *s)
{
    struct spool *sp = s->spool;
    if (!sp->want_room && !sp->want_commit)
        return;
    sp->sync = sp->want_commit;
    sp->want_room = false;
    take_content(s);
    write_start(sp);
}

static void write_done(void *ctx)
{
    struct spool *sp = ctx;
    struct session *s = sp->s;
    sp->writing = false;
    buf_clear(&sp->out);
    if (!s) {
        spool_free(sp);
        return;
    }
    if (sp->error) {
        LOGE("spool-write", KVT("why", strerror(sp->error)));
        struct outcome o =
            outcome_make(OUTCOME_RETRY, 452, 3, 1, "The message can't be stored just now, try again later");
        spool_failed(s, &o);
    } else if (sp->sync) {
        if (chan_epoch(sp->qmgr) == sp->epoch && chan_is_up(sp->qmgr)) {
            commit_send(s, true);
        } else {
            struct outcome o = outcome_make(OUTCOME_RETRY, 451, 3, 0, "The queue went away, try again later");
            spool_failed(s, &o);
        }
    } else {
        go_on(s);
        session_poke(s);
    }
}

/* ---- opening ---- */

static struct outcome no_queue(void)
{
    return outcome_make(OUTCOME_RETRY, 451, 3, 0, "The queue does not answer just now, try again later");
}

static void on_open(void *ctx, struct chan *c, enum chan_why why, const struct msg *m, int fd)
{
    (void)c;
    struct spool *sp = ctx;
    struct session *s = sp->s;
    sp->open_id = 0;
    if (why == CHAN_ANSWERED && m->type == MSG_spool_file && fd >= 0) {
        sp->fd = fd;
        go_on(s);
        session_poke(s);
        return;
    }
    if (fd >= 0)
        close(fd);
    struct outcome o = why == CHAN_LOST ? outcome_make(OUTCOME_RETRY, 451, 3, 0, "Too much is going on here just now, try again later")
                                        : no_queue();
    if (why == CHAN_ANSWERED && m->type == MSG_not_queued &&
        (m->not_queued.kind == OUTCOME_RETRY || m->not_queued.kind == OUTCOME_FAILED)) {
        const struct msg_not_queued *n = &m->not_queued;
        o = outcome_text(n->kind, n->code, n->subject, n->detail, n->why);
    }
    spool_failed(s, &o);
}

/* Returns false when it can't even be asked for. */
static bool spool_begin(struct session *s)
{
    struct smtpd *d = s->d;
    if (!chan_is_up(d->qmgr) || chan_full(d->qmgr))
        return false;
    commit_announce(s);
    struct spool *sp = mem_alloc(sizeof *sp);
    *sp =
        (struct spool){.s = s, .loop = d->loop, .qmgr = d->qmgr, .txn = s->txn, .epoch = chan_epoch(d->qmgr), .fd = -1};
    buf_add(&sp->out, buf_span(&s->prefix));
    s->spool = sp;
    struct msg m = {.type = MSG_spool_open};
    m.spool_open = (struct msg_spool_open){.txn = s->txn, .size_hint = smtp_server_transaction(s->smtp)->declared};
    sp->open_id = chan_ask(d->qmgr, &m, -1, on_open, sp);
    return true;
}

void spool_room(struct session *s)
{
    if (!s->spool) {
        commit_prefix(s);
        if (!spool_begin(s)) {
            struct outcome o = no_queue();
            smtp_server_no_room(s->smtp, &o);
            return;
        }
    }
    s->spool->want_room = true;
    if (s->spool->fd >= 0 && !s->spool->writing)
        go_on(s);
}

void spool_commit(struct session *s)
{
    if (!s->spool && !spool_begin(s)) {
        struct outcome o = no_queue();
        smtp_server_committed(s->smtp, &o);
        return;
    }
    s->spool->want_commit = true;
    if (s->spool->fd >= 0 && !s->spool->writing)
        go_on(s);
}

bool spool_busy(const struct session *s)
{
    return s->spool && s->spool->want_commit;
}
