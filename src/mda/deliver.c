/* Deliveries: what qmgr leased to us in this turn becomes one transaction of the store, then each is answered. "Stored"
 * is what the answer says: qmgr's syncfs makes it "delivered". RFC5321:4.4 (Return-Path). */
#include <stdio.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "mail/header.h"
#include "mail/mime.h"
#include "mail/recode.h"
#include "mda/worker.h"

/* Of a larger message the structure is found when somebody asks for it: others wait for us now. */
#define PARSE_MAX (8u << 20)
#define BATCH_BYTES_MAX (8u << 20) /* waiting in memory: more than that is committed at once */

struct waiting {
    struct waiting *next;
    uint32_t epoch;
    uint64_t id, lease, rcpt;
    int64_t received;
    size_t qid_n;
    struct store_stage *stage;
    bool already, failed;
    struct outcome outcome; /* when failed */
    char qid[IPC_QID_MAX];
};

struct deliveries {
    struct worker *w;
    uint64_t inbox;
    struct waiting *first, **last;
    uint64_t bytes;
    bool full;      /* something of it did not fit */
    uint64_t added; /* by the batch being stored */
    struct defer commit;
    struct mime *mime;
    struct buf structure;
};

static void on_turn_end(void *ctx)
{
    deliveries_commit(ctx);
}

struct deliveries *deliveries_new(struct worker *w, struct err *err)
{
    struct store_mailbox m;
    if (store_find(w->store, SPAN("INBOX"), NULL, &m, err))
        return NULL;
    struct deliveries *d = mem_alloc(sizeof(*d));
    *d = (struct deliveries){.w = w, .inbox = m.id, .last = &d->first};
    d->commit = (struct defer){.fn = on_turn_end, .ctx = d};
    return d;
}

bool deliveries_waiting(const struct deliveries *d)
{
    return d->first != NULL;
}

/* ---- answers ---- */

static void answer(struct deliveries *d, const struct waiting *t, const struct outcome *o)
{
    struct msg m = {.type = MSG_delivered};
    m.delivered = (struct msg_delivered){.lease = t->lease,
                                         .rcpt = t->rcpt,
                                         .kind = o->kind,
                                         .subject = o->subject,
                                         .detail = o->detail,
                                         .already = t->already,
                                         .why = span_of(o->text)};
    chan_answer(d->w->qmgr, t->epoch, t->id, &m, -1);
}

static struct outcome store_outcome(int code, const struct err *why)
{
    if (code == STORE_FULL)
        return outcome_make(OUTCOME_RETRY, 0, 3, 1, "%s", why->text);
    return outcome_make(OUTCOME_RETRY, 0, 2, 0, "%s", why->text);
}

static void refuse(struct waiting *t, struct outcome o)
{
    t->failed = true;
    t->outcome = o;
    store_stage_free(&t->stage);
}

static void log_trouble(const struct waiting *t)
{
    LOGW("not-stored", KVS("qid", span_make(t->qid, t->qid_n)), KVU("rcpt", t->rcpt), KVU("kind", t->outcome.kind),
         KVT("why", t->outcome.text));
}

static void finish(struct deliveries *d, struct waiting *t)
{
    static const struct outcome done = {.kind = OUTCOME_DONE, .text = "stored"};
    if (t->failed)
        log_trouble(t);
    else
        LOGD("stored", KVS("qid", span_make(t->qid, t->qid_n)), KVU("rcpt", t->rcpt), KVU("already", t->already));
    answer(d, t, t->failed ? &t->outcome : &done);
    store_stage_free(&t->stage);
    mem_free(&t);
}

/* ---- the batch ---- */

/* What a client's list view will need, found once. */
static void describe(struct deliveries *d, struct store_stage *g, struct store_new *m)
{
    char piece[32768];
    ptrdiff_t n;
    if (store_stage_size(g) > PARSE_MAX)
        return;
    if (d->mime)
        mime_reset(d->mime);
    else
        d->mime = mime_new();
    for (uint64_t at = 0; (n = store_stage_read(g, at, piece, sizeof(piece))) > 0; at += (uint64_t)n)
        mime_feed(d->mime, span_make(piece, (size_t)n));
    if (n < 0)
        return;
    buf_clear(&d->structure);
    mime_put_structure(&d->structure, mime_end(d->mime), true);
    m->structure = buf_span(&d->structure);
    m->envelope = mime_envelope(d->mime);
}

/* Decides for good; what is there already stays "already there". */
static bool fits(struct deliveries *d, const struct waiting *t)
{
    uint64_t quota = d->w->quota, used = store_usage(d->w->store).bytes + d->added, size = store_stage_size(t->stage);
    return quota == 0 || (used < quota && size <= quota - used) ||
           store_deliver_has(d->w->store, span_make(t->qid, t->qid_n), t->rcpt);
}

static void add_to_batch(struct deliveries *d, struct waiting *t)
{
    struct err err;
    if (!fits(d, t)) { /* RFC3463:3.3; tried again until it expires: its owner may make room */
        refuse(t, outcome_make(OUTCOME_RETRY, 0, 2, 2, "the mailbox is full"));
        d->full = true;
        return;
    }
    uint64_t size = store_stage_size(t->stage);
    struct store_new m = {.internaldate = t->received};
    describe(d, t->stage, &m);
    int code = store_deliver_add(d->w->store, span_make(t->qid, t->qid_n), t->rcpt, d->inbox, &t->stage, &m,
                                 &t->already, &err);
    if (code)
        refuse(t, store_outcome(code, &err));
    else if (!t->already)
        d->added += size;
}

static void fail_all(struct waiting *list, int code, const struct err *why)
{
    for (struct waiting *t = list; t; t = t->next)
        if (!t->failed)
            refuse(t, store_outcome(code, why));
}

void deliveries_commit(struct deliveries *d)
{
    struct waiting *list = d->first;
    struct err err;
    if (!list)
        return;
    d->first = NULL;
    d->last = &d->first;
    d->bytes = d->added = 0;
    d->full = false;
    loop_defer_cancel(d->w->loop, &d->commit);
    store_set_now(d->w->store, loop_wall(d->w->loop));
    int code = store_deliver_begin(d->w->store, &err);
    if (!code) {
        for (struct waiting *t = list; t; t = t->next)
            if (!t->failed)
                add_to_batch(d, t);
        code = store_deliver_commit(d->w->store, &err);
    }
    if (code)
        fail_all(list, code, &err);
    while (list) {
        struct waiting *next = list->next;
        finish(d, list);
        list = next;
    }
    mime_free(&d->mime);
    buf_free(&d->structure);
    if (d->full)
        worker_full(d->w);
    else
        worker_usage(d->w);
    worker_quiet(d->w);
}

void deliveries_free(struct deliveries **dp)
{
    struct deliveries *d = *dp;
    if (!d)
        return;
    loop_defer_cancel(d->w->loop, &d->commit);
    while (d->first) {
        struct waiting *next = d->first->next;
        store_stage_free(&d->first->stage);
        mem_free(&d->first);
        d->first = next;
    }
    mime_free(&d->mime);
    buf_free(&d->structure);
    mem_free(dp);
}

/* ---- one delivery ---- */

/* A line of ours in front of the message must stay one line (HAZARDS 7). */
static bool unfit(struct span s)
{
    return span_has_control(s);
}

/* ---- binary content (RFC 3030 §3): IMAP and POP3 show lines, so it is stored in an encoding that has them ---- */

#define NOT_FOR_LINES (-100) /* beside the store's codes */

struct binary {
    const struct msg_deliver *q;
    int fd;
};

static int read_binary(void *ctx, uint64_t at, char *to, size_t n, struct err *err)
{
    const struct binary *b = ctx;
    for (size_t i = 0; i < n && b->fd < 0; i++, at++)
        to[i] = at < b->q->prefix.n ? b->q->prefix.p[at] : b->q->body.p[at - b->q->prefix.n];
    while (n && b->fd >= 0) {
        ssize_t got = pread(b->fd, to, n, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return err_set(err, "the content can't be read");
        to += got;
        n -= (size_t)got;
        at += (uint64_t)got;
    }
    return 0;
}

static int stage_pieces(struct waiting *t, struct recode *r, struct err *err)
{
    struct buf piece = {0};
    int more, code = 0;
    while (!code && (more = recode_next(r, &piece, err)) != 0) {
        code = more < 0 ? STORE_FAILED : store_stage_write(t->stage, buf_span(&piece), err);
        buf_clear(&piece);
    }
    buf_free(&piece);
    return code;
}

static int stage_binary(struct waiting *t, const struct msg_deliver *q, int fd, struct err *err)
{
    struct binary b = {q, fd};
    const struct recode_source from = {read_binary, &b, fd < 0 ? (uint64_t)q->prefix.n + q->body.n : q->size};
    struct recode *r = NULL;
    int code;
    switch (recode_open(&r, &from, false, err)) {
    case RECODE_READY:
        code = stage_pieces(t, r, err);
        recode_free(&r);
        return code;
    case RECODE_AS_IT_IS:
        if (fd >= 0)
            return store_stage_fd(t->stage, fd, q->size, err);
        code = store_stage_write(t->stage, q->prefix, err);
        return code ? code : store_stage_write(t->stage, q->body, err);
    case RECODE_SIGNED:
        err_set(err, "signed content is binary, which mailboxes can't show and nobody may change");
        return NOT_FOR_LINES;
    case RECODE_HARD:
        err_set(err, "binary content that mailboxes can't show");
        return NOT_FOR_LINES;
    default:
        return STORE_FAILED;
    }
}

static int stage_text(struct waiting *t, const struct msg_deliver *q, int fd, struct err *err)
{
    char front[2 * IPC_ADDRESS_MAX + 64];
    int n = snprintf(front, sizeof(front), "Return-Path: <%.*s>\r\nDelivered-To: %.*s\r\n", SPANV(q->sender),
                     SPANV(q->delivered_to));
    int code = store_stage_write(t->stage, span_make(front, (size_t)n), err);
    if (!code && q->body_kind == 2)
        return stage_binary(t, q, fd, err);
    if (!code && fd >= 0)
        return store_stage_fd(t->stage, fd, q->size, err);
    if (!code)
        code = store_stage_write(t->stage, q->prefix, err);
    return code ? code : store_stage_write(t->stage, q->body, err);
}

/* The same Delivered-To met again: the message has been here, and somebody sends it back in a circle. */
static bool has_been_here(struct span header, struct span delivered_to)
{
    struct header_field f;
    while (header_next(&header, &f))
        if (span_ieqs(f.name, "Delivered-To") && span_ieq(span_trim(f.value), delivered_to))
            return true;
    return false;
}

static bool loops(struct waiting *t, const struct msg_deliver *q, size_t front)
{
    uint64_t all = store_stage_header(t->stage);
    size_t n = (size_t)(MIN_OF(all, (uint64_t)HEADER_MAX)) - front;
    char *header = mem_alloc(n + 1);
    ptrdiff_t got = store_stage_read(t->stage, front, header, n);
    bool found = got > 0 && has_been_here(span_make(header, (size_t)got), q->delivered_to);
    mem_free(&header);
    return found;
}

static size_t front_size(const struct msg_deliver *q)
{
    return q->sender.n + q->delivered_to.n + strlen("Return-Path: <>\r\nDelivered-To: \r\n");
}

static void take(struct deliveries *d, struct waiting *t, const struct msg_deliver *q, int fd)
{
    struct err err;
    if (unfit(q->sender) || unfit(q->delivered_to)) {
        refuse(t, outcome_make(OUTCOME_FAILED, 0, 1, 7, "an address with control characters"));
        return;
    }
    t->stage = store_stage_new(d->w->store);
    int code = stage_text(t, q, fd, &err);
    if (code == STORE_LIMIT)
        refuse(t, outcome_make(OUTCOME_FAILED, 0, 2, 3, "the message is too large"));
    else if (code == NOT_FOR_LINES)
        refuse(t, outcome_make(OUTCOME_FAILED, 0, 6, 3, "%s", err.text));
    else if (code)
        refuse(t, store_outcome(code, &err));
    else if (loops(t, q, front_size(q)))
        refuse(t, outcome_make(OUTCOME_FAILED, 0, 4, 6,
                               "the message has been delivered to this address before: a mail loop"));
}

void deliveries_add(struct deliveries *d, const struct msg *m, int fd)
{
    const struct msg_deliver *q = &m->deliver;
    struct waiting *t = mem_alloc(sizeof(*t));
    *t = (struct waiting){.epoch = chan_epoch(d->w->qmgr),
                          .id = m->id,
                          .lease = q->lease,
                          .rcpt = q->rcpt,
                          .received = (int64_t)q->received,
                          .qid_n = q->qid.n};
    memcpy(t->qid, q->qid.p, q->qid.n);
    take(d, t, q, fd);
    if (fd >= 0)
        close(fd);
    *d->last = t;
    d->last = &t->next;
    d->bytes += q->prefix.n + q->body.n;
    worker_busy(d->w);
    if (!d->w->quota_known)
        return; /* it comes in a moment */
    if (d->bytes > BATCH_BYTES_MAX)
        deliveries_commit(d);
    else
        loop_defer(d->w->loop, &d->commit);
}
