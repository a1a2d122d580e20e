/* A message's way into the queue: msg_begin, msg_rcpt for each recipient, msg_commit with a random token. When qmgr
 * dies over it, the token is asked for before the client is answered, so that a message is neither lost nor taken
 * twice. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "mail/date.h"
#include "smtp/trace.h"
#include "smtpd/smtpd.h"

#define COMMIT_TRIES 3
#define POLICY_BYTES 1000
#define STALL_MS 30000 /* how long a message waits for qmgr to come back */
#define STALL_TICK_MS 1000
#define ZONE_MS 60000

/* The time in ms (48 bits, big-endian), then ten random bytes: tokens of one time lie side by side in the queue's index, so
 * that a batch of commits writes one page of it, not one for each. Random bytes are asked of the kernel for many at once. */
static void random_token(char token[16], int64_t now_ms)
{
    static char pool[4096];
    static size_t left;
    if (left == 0) {
        size_t n = 0;
        while (n < sizeof pool) {
            ssize_t r = getrandom(pool + n, MIN_OF(sizeof pool - n, (size_t)256), 0);
            if (r < 0 && errno != EINTR)
                abort();
            n += r > 0 ? (size_t)r : 0;
        }
        left = sizeof pool;
    }
    left -= 16;
    for (int i = 0; i < 6; i++)
        token[i] = (char)(now_ms >> (40 - 8 * i));
    memcpy(token + 6, pool + left, 10);
    memset(pool + left, 0, 16);
}

static int zone_now(struct smtpd *d, int64_t seconds)
{
    int64_t now = loop_now(d->loop);
    if (d->zone_checked == 0 || now - d->zone_checked > ZONE_MS) {
        d->zone = date_zone(seconds);
        d->zone_checked = now;
    }
    return d->zone;
}

static struct span only_recipient(const struct smtp_transaction *t)
{
    for (unsigned i = 0; t->welcome == 1 && i < t->rcpt_count; i++)
        if (t->rcpts[i].state == SMTP_RCPT_WELCOME)
            return t->rcpts[i].address;
    return SPAN("");
}

/* RFC5321:4.4; on submission also what is missing (RFC6409:8.1, RFC6409:8.2, RFC6409:8.3). */
void commit_prefix(struct session *s)
{
    const struct smtp_transaction *t = smtp_server_transaction(s->smtp);
    int64_t now_ms = loop_wall(s->d->loop), now = now_ms / 1000;
    int zone = zone_now(s->d, now);
    random_token(s->token, now_ms);
    if (t->has_token)
        memcpy(s->token, t->token, sizeof s->token);
    buf_clear(&s->prefix);
    if (s->local) {
        local_prefix(s, now, zone);
        return;
    }
    const struct smtp_trace trace = {.helo = smtp_server_helo(s->smtp),
                                     .remote = span_of(s->remote),
                                     .name = s->name[0] ? span_of(s->name) : names_client(s),
                                     .by = s->house->smtp.hostname,
                                     .tls = span_of(stream_tls_text(s->stream)),
                                     .for_ = only_recipient(t),
                                     .hidden = s->house->hide_client,
                                     .esmtp = smtp_server_is_esmtp(s->smtp),
                                     .smtputf8 = t->smtputf8,
                                     .authenticated = smtp_server_login_name(s->smtp).n > 0,
                                     .priority = t->priority,
                                     .seconds = now,
                                     .zone = zone};
    names_header(s, &s->prefix);
    smtp_trace_received(&s->prefix, &trace);
    if (s->d->submission && !t->data.has_date)
        smtp_trace_date(&s->prefix, now, zone);
    if (s->d->submission && !t->data.has_message_id)
        smtp_trace_message_id(&s->prefix, span_make(s->token, sizeof s->token), s->house->smtp.hostname);
    if (s->add_sender && smtp_server_login_name(s->smtp).n && (t->smtputf8 || span_is_ascii(smtp_server_login_name(s->smtp))))
        smtp_trace_sender(&s->prefix, smtp_server_login_name(s->smtp));
}

/* RFC8689:4.1: the parameter counts, else the header field. 0, 1, 2 of msg_begin. */
static uint8_t tls_need(const struct smtp_transaction *t)
{
    return t->requiretls ? 1 : smtp_data_tls_needless(&t->data) ? 2 : 0;
}

static void announce_others(const struct session *s, const struct smtp_transaction *t, const struct smtp_rcpt *first)
{
    struct msg m = {.type = MSG_msg_rcpt};
    for (unsigned i = 0; i < t->rcpt_count; i++)
        if (t->rcpts[i].state == SMTP_RCPT_WELCOME && &t->rcpts[i] != first) {
            m.msg_rcpt = (struct msg_msg_rcpt){.txn = s->txn,
                                               .address = t->rcpts[i].address,
                                               .notify = t->rcpts[i].notify,
                                               .orcpt = t->rcpts[i].orcpt};
            chan_say(s->d->qmgr, &m, -1);
        }
}

static const struct smtp_rcpt *first_welcome(const struct smtp_transaction *t)
{
    for (unsigned i = 0; i < t->rcpt_count; i++)
        if (t->rcpts[i].state == SMTP_RCPT_WELCOME)
            return &t->rcpts[i];
    return NULL;
}

void commit_announce(struct session *s)
{
    const struct smtp_transaction *t = smtp_server_transaction(s->smtp);
    struct msg m = {.type = MSG_msg_begin};
    struct buf policy = {0};
    const struct smtp_rcpt *first = first_welcome(t);
    names_policy(s, &policy);
    s->txn = smtpd_id(s->d);
    m.msg_begin = (struct msg_msg_begin){.txn = s->txn,
                                         .session = s->login_begun ? s->id : 0,
                                         .sender = t->sender,
                                         .helo = smtp_server_helo(s->smtp),
                                         .remote = span_of(s->remote),
                                         .body_kind = t->binary ? 2 : t->body_8bit,
                                         .tls = s->stream ? span_of(stream_tls_text(s->stream)) : SPAN(""),
                                         .smtputf8 = t->smtputf8,
                                         .envid = t->envid,
                                         .ret = t->ret,
                                         .tls_need = tls_need(t),
                                         .deliver_by = (uint64_t)t->deliver_by,
                                         .by_mode = t->by_mode,
                                         .hold_until = (uint64_t)t->hold_until,
                                         .hold = t->hold,
                                         .priority = msg_priority_put(t->priority),
                                         .terminal = t->terminal,
                                         .policy = span_utf8_cut(buf_span(&policy), POLICY_BYTES)};
    if (first) {
        m.msg_begin.rcpt = first->address;
        m.msg_begin.notify = first->notify;
        m.msg_begin.orcpt = first->orcpt;
    }
    chan_say(s->d->qmgr, &m, -1);
    buf_free(&policy);
    announce_others(s, t, first);
}

bool commit_pending(const struct session *s)
{
    return s->commit_id || list_linked(&s->stall) || spool_busy(s);
}

void commit_abort(struct session *s)
{
    if (s->commit_id)
        chan_forget(s->d->qmgr, s->commit_id);
    s->commit_id = 0;
    list_del(&s->stall);
    spool_drop(s);
}

/* ---- the end ---- */

static struct span shown(struct span s)
{
    return s.p ? s : SPAN("");
}

static void log_accepted(const struct session *s, struct span qid)
{
    const struct smtp_transaction *t = smtp_server_transaction(s->smtp);
    char priority[8] = "";
    if (t->priority) /* RFC6710:4.1 */
        snprintf(priority, sizeof priority, "%d", t->priority);
    LOGI("accepted", KVS("qid", qid), KVS("from", t->sender), KVS("to", only_recipient(t)),
         KVU("recipients", t->welcome), KVU("size", s->prefix.n + t->data.given), KVT("client", s->remote),
         KVS("helo", shown(smtp_server_helo(s->smtp))), KVT("tls", s->stream ? stream_tls_text(s->stream) : ""),
         KVS("login", shown(smtp_server_login_name(s->smtp))), KVS("message_id", smtp_data_message_id(&t->data)),
         KVT("priority", priority));
}

void commit_done(struct session *s, const struct outcome *o, struct span qid)
{
    s->commit_id = 0;
    s->commit_tries = 0;
    if (qid.n)
        log_accepted(s, qid);
    if (qid.n && s->drop)
        drop_queued(s->drop);
    spool_drop(s);
    /* What is in the queue is never answered with the end of the session: it would be sent again. */
    s->prompt = s->account_slow == 0 || !tarpit_room(s);
    smtp_server_committed(s->smtp, o);
    session_settled(s);
}

static void not_stored(struct session *s)
{
    struct outcome o = outcome_make(OUTCOME_RETRY, 451, 3, 0, "The queue does not answer just now, try again later");
    commit_done(s, &o, SPAN(""));
}

/* slow: its account comes near to what it may send; this reply and those that follow wait. */
static void stored(struct session *s, struct span qid, uint32_t slow)
{
    s->account_slow = slow;
    struct outcome o = outcome_make(OUTCOME_DONE, 250, 0, 0, "Ok: queued as %.*s", SPANV(qid));
    commit_done(s, &o, qid);
}

static void refused(struct session *s, const struct msg_not_queued *n)
{
    if (n->kind != OUTCOME_RETRY && n->kind != OUTCOME_FAILED) {
        not_stored(s);
        return;
    }
    struct outcome o = outcome_text(n->kind, n->code, n->subject, n->detail, n->why);
    commit_done(s, &o, SPAN(""));
}

/* ---- asking ---- */

static void ask_token(struct session *s);

static void on_token(void *ctx, struct chan *c, enum chan_why why, const struct msg *m, int fd)
{
    (void)c;
    struct session *s = ctx;
    s->commit_id = 0;
    if (fd >= 0)
        close(fd);
    if (why == CHAN_ANSWERED && m->type == MSG_queued)
        stored(s, m->queued.qid, m->queued.slow);
    else if (why == CHAN_GONE && ++s->commit_tries < COMMIT_TRIES)
        ask_token(s);
    else if (why == CHAN_ANSWERED && !s->spool && ++s->commit_tries < COMMIT_TRIES)
        commit_send(s, false); /* it was not made: once more, with the same token */
    else
        not_stored(s);
}

static void ask_token(struct session *s)
{
    struct msg m = {.type = MSG_token_ask};
    m.token_ask.token = span_make(s->token, sizeof s->token);
    s->commit_id = chan_ask(s->d->qmgr, &m, -1, on_token, s);
    if (!s->commit_id)
        not_stored(s);
}

static void on_commit(void *ctx, struct chan *c, enum chan_why why, const struct msg *m, int fd)
{
    (void)c;
    struct session *s = ctx;
    s->commit_id = 0;
    if (fd >= 0)
        close(fd);
    if (why == CHAN_ANSWERED && m->type == MSG_queued)
        stored(s, m->queued.qid, m->queued.slow);
    else if (why == CHAN_ANSWERED && m->type == MSG_not_queued)
        refused(s, &m->not_queued);
    else
        ask_token(s); /* REASK of ipc/messages.h */
}

static void on_stall_tick(void *ctx)
{
    struct smtpd *d = ctx;
    int64_t now = loop_now(d->loop);
    LIST_EACH(&d->stalled, l)
    {
        struct session *s = container_of(l, struct session, stall);
        if (now - s->stalled_at > STALL_MS) {
            list_del(&s->stall);
            not_stored(s);
        }
    }
    if (!list_empty(&d->stalled))
        timer_start(d->stall_timer, STALL_TICK_MS);
}

/* qmgr is away (or can't keep up): the message waits a while. */
static void stall(struct session *s)
{
    struct smtpd *d = s->d;
    if (!d->stall_timer)
        d->stall_timer = timer_new(d->loop, on_stall_tick, d);
    if (list_empty(&d->stalled))
        timer_start(d->stall_timer, STALL_TICK_MS);
    s->stalled_at = loop_now(d->loop);
    list_add_tail(&d->stalled, &s->stall);
}

void stalled_go(struct smtpd *d)
{
    struct link all = LIST_INIT(all);
    while (!list_empty(&d->stalled)) {
        struct link *l = d->stalled.next;
        list_del(l);
        list_add_tail(&all, l);
    }
    LIST_EACH(&all, l)
    {
        struct session *s = container_of(l, struct session, stall);
        list_del(l);
        commit_send(s, false);
    }
}

/* The sections hold whose header the message has, with blanks between: what came in, and what is put before it. */
static void put_marks(const struct session *s, const struct smtp_data *data, struct buf *out)
{
    struct smtp_watch added;
    smtp_watch_begin(&added, s->house->smtp.watched, s->house->smtp.watched_count);
    smtp_watch_section(&added, buf_span(&s->prefix));
    uint64_t found = data->watch.found | added.found;
    for (size_t i = 0; i < added.count; i++)
        if (found >> i & 1)
            buf_printf(out, "%s%s", out->n ? " " : "", s->house->marks[i]);
}

/* With spooled the announcement was made before, and the content lies in its file. */
void commit_send(struct session *s, bool spooled)
{
    struct smtpd *d = s->d;
    if (!spooled && (!chan_is_up(d->qmgr) || chan_full(d->qmgr))) {
        stall(s);
        return;
    }
    const struct smtp_transaction *t = smtp_server_transaction(s->smtp);
    struct msg m = {.type = MSG_msg_commit};
    struct buf marks = {0};
    put_marks(s, &t->data, &marks);
    if (!spooled)
        commit_announce(s);
    m.msg_commit = (struct msg_msg_commit){.txn = s->txn,
                                           .sessions = (uint32_t)d->session_count,
                                           .token = span_make(s->token, sizeof s->token),
                                           .size = s->prefix.n + t->data.given,
                                           .header_bytes = (uint32_t)(s->prefix.n + t->data.header_bytes),
                                           .message_id = smtp_data_message_id(&t->data),
                                           .spooled = spooled,
                                           .marks = buf_span(&marks),
                                           .eight_bit = t->data.eight_bit};
    if (!spooled) {
        m.msg_commit.prefix = buf_span(&s->prefix);
        m.msg_commit.body = buf_span(smtp_server_content(s->smtp));
    }
    s->commit_id = chan_ask(d->qmgr, &m, -1, on_commit, s);
    buf_free(&marks);
    if (!s->commit_id)
        not_stored(s);
}

void commit(struct session *s)
{
    if (s->spool) {
        spool_commit(s);
        return;
    }
    commit_prefix(s);
    if (s->prefix.n + smtp_server_content(s->smtp)->n > IPC_INLINE_MAX)
        spool_commit(s);
    else
        commit_send(s, false);
}
