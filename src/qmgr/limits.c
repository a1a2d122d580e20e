/* See limits.h. */
#include "qmgr/limits.h"

#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "mail/address.h"
#include "qmgr/operator.h"

#define READ_ROWS 100

/* ---- who is limited ---- */

struct limited *limits_of(struct qmgr *q, uint32_t account)
{
    return idmap_get(&q->limits->limited, account);
}

static struct limited *add(struct qmgr *q, uint32_t account, struct span login, struct span reason, int64_t since)
{
    struct limited *w = mem_alloc(sizeof *w);
    *w = (struct limited){.account = account, .since = since, .over = SENDING_LIMITS, .q = q};
    snprintf(w->login, sizeof w->login, "%.*s", SPANV(login));
    snprintf(w->reason, sizeof w->reason, "%.*s", SPANV(reason));
    idmap_put(&q->limits->limited, account, w);
    return w;
}

static void drop(struct limited *w)
{
    idmap_del(&w->q->limits->limited, w->account);
    mem_free(&w);
}

static void say_reason(enum sending_limit over, uint32_t most, char *out, size_t n)
{
    static const char *const of[SENDING_LIMITS] = {[SENDING_MESSAGES_HOUR] = "message",
                                                   [SENDING_RECIPIENTS_HOUR] = "recipient",
                                                   [SENDING_MESSAGES_DAY] = "message",
                                                   [SENDING_RECIPIENTS_DAY] = "recipient",
                                                   [SENDING_NEW_DAY] = "new recipient"};
    bool hour = over == SENDING_MESSAGES_HOUR || over == SENDING_RECIPIENTS_HOUR;
    snprintf(out, n, "more than %u %s%s in %s", most, of[over], most == 1 ? "" : "s", hour ? "an hour" : "a day");
}

/* ---- a message that wants in ---- */

static uint64_t key_of(uint32_t account, struct span address)
{
    struct address_key key;
    return sending_key(account, address_key(address, &key) ? address_key_span(&key) : address);
}

static enum sending_limit take(struct qmgr *q, const struct queue_message *m, const uint32_t *most, const struct link *rcpts,
                               size_t count, unsigned *permille)
{
    uint64_t few[16], *to = few;
    size_t n = 0;
    if (most[SENDING_NEW_DAY] && count > COUNT_OF(few))
        to = mem_array(count, sizeof *to);
    for (const struct link *l = rcpts->next; l != rcpts && most[SENDING_NEW_DAY]; l = l->next)
        to[n++] = key_of(m->account, container_of(l, struct rcpt, link)->r.address);
    enum sending_limit over = sending_take(q->limits->sending, m->account, most, to, count, qmgr_wall(q), permille);
    if (to != few)
        mem_free(&to);
    return over;
}

static uint32_t slowness(const struct qmgr *q, unsigned permille)
{
    return permille > 500 ? (uint32_t)(q->conf->limits.tarpit * (MIN_OF(permille, 1000u) * 2 - 1000) / 1000) : 0;
}

struct limits_verdict limits_judge(struct qmgr *q, const struct queue_message *m, const uint32_t most[SENDING_LIMITS],
                                   const struct link *rcpts, size_t count)
{
    struct limits_verdict v = {0};
    struct limited *w = m->account && m->origin == QUEUE_FROM_SUBMISSION ? limits_of(q, m->account) : NULL;
    unsigned permille = 0;
    bool any = w != NULL;
    for (int i = 0; i < SENDING_LIMITS; i++)
        any |= most[i] != 0;
    if (!any || m->origin != QUEUE_FROM_SUBMISSION)
        return v;
    if (!w || w->ending) {
        enum sending_limit over = take(q, m, most, rcpts, count, &permille);
        v.slow = slowness(q, permille);
        sent_changed(q);
        if (over == SENDING_LIMITS)
            return v;
        v.refuse = w != NULL; /* what is held is on its way out just now */
        if (v.refuse)
            return v;
        char reason[sizeof w->reason];
        say_reason(over, most[over], reason, sizeof reason);
        w = add(q, m->account, m->login, span_of(reason), qmgr_wall(q));
        w->over = over;
        w->most = most[over];
        LOGW("sending-limit", KVU("account", w->account), KVT("login", w->login), KVT("why", w->reason), KVS("client", m->remote));
    }
    v.hold = true;
    v.tell = !w->told && !w->telling;
    v.slow = (uint32_t)q->conf->limits.tarpit;
    w->telling |= v.tell;
    w->in_flight++;
    return v;
}

void limits_committed(struct qmgr *q, uint32_t account, bool told, bool ok)
{
    struct limited *w = limits_of(q, account);
    if (!w)
        return;
    w->in_flight--;
    w->stored |= ok;
    w->told |= told && ok;
    if (told)
        w->telling = false;
    if (!w->stored && w->in_flight == 0 && !w->busy)
        drop(w); /* nothing of it is held */
}

/* ---- the end of a batch ---- */

static void answer(struct limited *w, enum admin_status status, const char *text)
{
    if (w->call)
        admin_end(w->call, status, "%s", text);
    w->call = NULL;
    w->busy = false;
}

/* What is asked of the queue counts as being settled: a drain waits for it. */
static void ask(struct limited *w, void (*done)(struct queue_request *r))
{
    w->q->settles++;
    w->end.request.done = done;
    queue_limited_end(w->q->queue, &w->end);
}

static struct limited *answered(struct queue_request *r)
{
    struct limited *w = container_of(container_of(r, struct queue_limited_end, request), struct limited, end);
    w->q->settles--;
    if (w->q->stopping)
        w->call = NULL; /* gone with the operators */
    return w;
}

static void on_over(struct queue_request *r)
{
    struct limited *w = answered(r);
    struct qmgr *q = w->q;
    if (r->fail != QUEUE_OK) {
        answer(w, ADMIN_FAILED, "the queue can't write now: say it again");
        qmgr_quiet(q);
        return;
    }
    LOGI(w->ending == LIMITS_RELEASING ? "sending-released" : "sending-discarded", KVU("account", w->account), KVT("login", w->login));
    answer(w, ADMIN_DONE, w->ending == LIMITS_RELEASING ? "its mail goes on, and counting begins anew"
                                                       : "its mail is deleted, and counting begins anew");
    drop(w);
    qmgr_quiet(q);
}

static void on_walked(void *ctx, unsigned seen UNUSED, unsigned changed UNUSED, bool error)
{
    struct limited *w = ctx;
    if (error) {
        answer(w, ADMIN_FAILED, "not all of it could be recorded: say it again");
        return;
    }
    w->end.over = true;
    ask(w, on_over);
}

/* All that was accepted before is in the database now, so that the walk sees it. */
static void on_ending(struct queue_request *r)
{
    struct limited *w = answered(r);
    struct qmgr *q = w->q;
    if (q->stopping) {
        w->busy = false;
    } else if (r->fail != QUEUE_OK) {
        w->ending = LIMITS_HELD;
        answer(w, ADMIN_FAILED, "the queue can't write now: say it again");
    } else {
        operator_account(w->q, w->account, QUEUE_LIMITED,
                         w->ending == LIMITS_RELEASING ? VERDICT_RELEASED : VERDICT_REMOVED,
                         w->call ? (int64_t)admin_uid(w->call) + 1 : 0, on_walked, w);
    }
    qmgr_quiet(q);
}

void limits_end(struct limited *w, enum limits_ending how, struct admin_call *call)
{
    struct qmgr *q = w->q;
    w->ending = (uint8_t)how;
    w->call = call;
    w->busy = true;
    sending_restart(q->limits->sending, w->account);
    sent_changed(q);
    w->end = (struct queue_limited_end){.account = w->account, .ending = w->ending};
    ask(w, on_ending);
}

/* ---- life ---- */

static int load(struct qmgr *q, struct err *err)
{
    struct queue_limited rows[READ_ROWS];
    struct arena a = {0};
    size_t n = 0;
    uint32_t after = 0;
    int got;
    do {
        got = queue_read_limited(q->limits->reader, after, rows, READ_ROWS, &n, &a, err);
        for (size_t i = 0; i < n; i++) {
            struct limited *w = add(q, rows[i].account, rows[i].login, rows[i].reason, rows[i].since);
            w->stored = true;
            w->told = rows[i].told;
            w->ending = rows[i].ending;
            after = rows[i].account;
        }
        arena_reset(&a);
    } while (got == 0 && n == READ_ROWS);
    arena_free(&a);
    return got;
}

int limits_open(struct qmgr *q, const char *dir, struct err *err)
{
    q->limits = mem_alloc(sizeof *q->limits);
    q->limits->sending = sending_new(service_conf(q->service)->sending.remembered);
    return queue_reader_open(&q->limits->reader, dir, err) || load(q, err) || sent_open(q, dir, err) ? -1 : 0;
}

void limits_begin(struct qmgr *q)
{
    uint64_t account;
    void *v;
    for (size_t at = 0; idmap_next(&q->limits->limited, &at, &account, &v);) {
        struct limited *w = v;
        if (w->ending)
            limits_end(w, w->ending, NULL);
    }
}

void limits_configure(struct qmgr *q)
{
    sending_remember(q->limits->sending, q->conf->sending.remembered);
}

bool limits_busy(const struct qmgr *q)
{
    return sent_busy(q) || q->limits->counting;
}

void limits_free(struct qmgr *q)
{
    uint64_t account;
    void *v;
    if (!q->limits)
        return;
    sent_close(q);
    for (size_t at = 0; idmap_next(&q->limits->limited, &at, &account, &v);)
        mem_free(&v);
    idmap_free(&q->limits->limited);
    sending_free(&q->limits->sending);
    queue_reader_close(&q->limits->reader);
    mem_free(&q->limits);
}
