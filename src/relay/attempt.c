/* One attempt: a message, one destination, some of its recipients. It finds a connection (kept, or made to one host after another), gives
 * the message, and reports each recipient and then itself.
 *
 * What ends a host and what ends the attempt: no connection, no greeting, no EHLO, a session that breaks before the final dot: the next
 * address. An answer to MAIL, RCPT, DATA or to the content: final for this attempt, also a temporary one. A connection lost behind the
 * final dot: final, too, as the message may have been taken. */
#include "relay/policy.h"

#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/sm.h"
#include "net/dial.h"
#include "relay/reversed.h"
#include "relay/wire.h"
#include "smtp/wishes.h"

static const struct sm_state states[] = {
    [ATTEMPT_COLLECT] = {"collecting", SM_TO(ATTEMPT_WAIT) | SM_TO(ATTEMPT_END)},
    [ATTEMPT_WAIT] = {"waiting", SM_TO(ATTEMPT_ROUTE) | SM_TO(ATTEMPT_SESSION) | SM_TO(ATTEMPT_END)},
    [ATTEMPT_ROUTE] = {"routing", SM_TO(ATTEMPT_DIAL) | SM_TO(ATTEMPT_END)},
    [ATTEMPT_DIAL] = {"connecting", SM_TO(ATTEMPT_ROUTE) | SM_TO(ATTEMPT_SESSION) | SM_TO(ATTEMPT_END)},
    [ATTEMPT_SESSION] = {"talking", SM_TO(ATTEMPT_ROUTE) | SM_TO(ATTEMPT_DIAL) | SM_TO(ATTEMPT_END)},
    [ATTEMPT_END] = {"ended", 0},
};

void attempt_move(struct attempt *a, enum attempt_state next)
{
    sm_move(states, COUNT_OF(states), &a->state, next);
}

/* ---- reports ---- */

static void say(struct attempt *a, const struct msg *m)
{
    if (!a->stale)
        chan_say(service_chan(a->relay->service, ROLE_QMGR, 0), m, -1);
}

/* How this came about: hosts that were tried before, then what was said to this one. A success needs no more than the hosts. */
static struct span dialogue(struct attempt *a, size_t index, const struct outcome *o, struct buf *room)
{
    buf_add(room, buf_span(&a->hosts));
    if (o->kind != OUTCOME_DONE && a->session)
        smtp_client_dialogue(session_client(a->session), index, room);
    else if (o->kind != OUTCOME_DONE && a->said.n)
        buf_printf(room, "%s%.*s", room->n ? " | " : "", SPANV(buf_span(&a->said)));
    return span_utf8_cut(buf_span(room), ATTEMPT_DIALOGUE_BYTES);
}

/* index: in the transaction, SIZE_MAX: there is none. */
static void report_one(struct attempt *a, size_t i, size_t index, const struct outcome *o)
{
    struct rcpt *r = &a->rcpts[i];
    struct buf room = {0};
    if (r->state == RCPT_REPORTED)
        return;
    r->state = RCPT_REPORTED;
    *(o->kind == OUTCOME_DONE ? &a->taken : o->kind == OUTCOME_FAILED ? &a->refused : &a->later) += 1;
    struct msg m = {.type = MSG_rcpt_report,
                    .rcpt_report = {.lease = a->lease,
                                    .rcpt = r->id,
                                    .kind = o->kind,
                                    .code = (uint16_t)MIN_OF(o->code, 599),
                                    .subject = o->subject,
                                    .detail = o->detail,
                                    .why = span_of(o->text),
                                    .remote = span_of(a->remote),
                                    .tls = span_of(a->tls_text),
                                    .tells = o->kind == OUTCOME_DONE && a->tells,
                                    .by = o->kind == OUTCOME_DONE && a->by,
                                    .dialogue = dialogue(a, index, o, &room)}};
    say(a, &m);
    buf_free(&room);
}

static void report(struct attempt *a, size_t i, const struct outcome *o)
{
    report_one(a, i, SIZE_MAX, o);
}

static void report_open(struct attempt *a, const struct outcome *o)
{
    for (size_t i = 0; i < a->rcpt_count; i++)
        report(a, i, o);
}

static void report_end(struct attempt *a)
{
    int64_t took = a->began ? loop_now(a->relay->loop) - a->began : 0;
    struct msg m = {.type = MSG_attempt_report,
                    .attempt_report = {.lease = a->lease, .unreached = !a->spoke && !a->outdated, .outdated = a->outdated, .remote = span_of(a->remote), .tls = span_of(a->tls_text),
                                       .took = (uint32_t)MIN_OF(took, (int64_t)UINT32_MAX)}};
    say(a, &m);
    LOGD("attempt_end", KVS("qid", a->qid), KVS("domain", a->domain), KVT("remote", a->remote), KVT("tls", a->tls_text), KVU("took", took),
         KVU("taken", a->taken), KVU("later", a->later), KVU("refused", a->refused));
}

/* ---- life ---- */

void attempt_free(struct attempt *a)
{
    struct relay *r = a->relay;
    if (a->state == ATTEMPT_ROUTE || a->state == ATTEMPT_DIAL || a->state == ATTEMPT_SESSION)
        r->running_count--;
    r->held--;
    attempt_move(a, ATTEMPT_END);
    if (!a->stale)
        idmap_del(&r->attempts, a->lease);
    list_del(&a->in_list);
    timer_free(&a->deadline);
    route_free(&a->route);
    dial_cancel(&a->dial);
    session_free(&a->session);
    content_close(&a->content);
    recode_free(&a->recode);
    buf_free(&a->recoded);
    buf_free(&a->hosts);
    buf_free(&a->said);
    conf_unref(&a->conf);
    mem_free(&a->rcpts);
    mem_free(&a->order);
    arena_free(&a->arena);
    mem_free(&a);
    loop_defer(r->loop, &r->run);
}

void attempt_finish(struct attempt *a, const struct outcome *rest)
{
    struct relay *r = a->relay;
    if (rest)
        report_open(a, rest);
    report_end(a);
    if (a->pull && (a->state == ATTEMPT_SESSION)) {
        struct session *s = rest ? NULL : a->session;
        uint64_t pull = a->pull;
        if (!rest)
            a->session = NULL;
        attempt_free(a);
        reversed_back(r, pull, s);
        return;
    }
    if (a->session && !rest) {
        bool worn = session_messages(a->session) >= a->conf->relay.reuse_messages || r->draining;
        pool_put(&r->pool, a->session, a->key, worn ? 0 : a->conf->relay.reuse_time);
        a->session = NULL;
    }
    attempt_free(a);
}

static void drop_session(struct attempt *a)
{
    buf_clear(&a->said);
    if (a->session)
        smtp_client_dialogue(session_client(a->session), SIZE_MAX, &a->said);
    session_free(&a->session);
    a->kept = false;
}

/* It is not the one: what is said from now on is said by another. */
void attempt_leave_host(struct attempt *a, const struct outcome *why)
{
    if (a->hosts.n < ATTEMPT_HOSTS_BYTES) {
        struct buf one = {0};
        buf_printf(&one, "%s: %.*s", a->remote, SPANV(buf_span(&a->said)));
        if (!a->said.n || !why->code) /* else it is the last thing said */
            buf_printf(&one, "%s%s", a->said.n ? " | " : "", why->text);
        buf_printf(&a->hosts, "%s%.*s", a->hosts.n ? " | " : "",
                   SPANV(span_utf8_cut(buf_span(&one), ATTEMPT_HOSTS_BYTES - a->hosts.n)));
        buf_free(&one);
    }
    buf_clear(&a->said);
}

void attempt_note_host(struct attempt *a, const struct outcome *why)
{
    struct outcome o = *why;
    if (attempt_is_named(a)) /* nothing fails for good because of the host as such */
        o.kind = OUTCOME_RETRY;
    if (a->why.kind != OUTCOME_RETRY || o.kind == OUTCOME_RETRY)
        a->why = o;
    attempt_leave_host(a, &o);
    LOGI("host_failed", KVS("qid", a->qid), KVT("remote", a->remote), KVT("why", o.text));
}

/* ---- the transaction ---- */

static int64_t by_left(const struct attempt *a)
{
    int64_t ms = a->deliver_by - loop_wall(a->relay->loop);
    return ms / 1000 - (ms % 1000 < 0);
}

/* RFC2852:4.1.4.1: who wants it back when it is late wants every hop to know. kind 0: it fits. */
static struct outcome by_fits(struct attempt *a)
{
    struct smtp_client *c = session_client(a->session);
    struct outcome o = {0};
    if (!(a->by_mode & SMTP_BY_RETURN))
        return o;
    if (by_left(a) <= 0)
        o = outcome_make(OUTCOME_FAILED, 0, 4, 7, "the time by which it was to be delivered has passed");
    else if (!smtp_client_can(c, SMTP_CAP_DELIVERBY))
        o = outcome_make(OUTCOME_FAILED, 0, 3, 3, "%s does not watch the time by which it is to be delivered (DELIVERBY)", a->remote);
    else if ((uint64_t)by_left(a) < smtp_client_by_min(c))
        o = outcome_make(OUTCOME_FAILED, 0, 4, 7, "%s wants more time than is left (DELIVERBY)", a->remote);
    return o;
}

/* RFC2852:4.1.4.2: who is to be told that it is late hears it from a host that doesn't know the time as a delay. */
static uint8_t notify_of(const struct attempt *a, uint8_t notify)
{
    if (!(a->by_mode & SMTP_BY_NOTIFY) || a->by || (notify & SMTP_NOTIFY_NEVER))
        return notify;
    return (uint8_t)(notify ? notify | SMTP_NOTIFY_DELAY : SMTP_NOTIFY_FAILURE | SMTP_NOTIFY_DELAY);
}

static struct outcome too_large(const struct attempt *a, uint64_t size)
{
    struct outcome o = {0};
    uint64_t limit = smtp_client_size_limit(session_client(a->session));
    if (limit && size > limit) /* RFC1870:6.1 */
        o = outcome_make(OUTCOME_FAILED, 0, 3, 4, "%s takes messages of %llu bytes at most", a->remote,
                         (unsigned long long)limit);
    return o;
}

/* RFC3030:3, RFC6152:3: in an encoding that the host takes, or not at all. what: it does not take. kind 0: it fits. */
static struct outcome encode(struct attempt *a, bool seven, const char *what)
{
    const struct recode_source from = {content_read, &a->content, a->content.size};
    struct outcome o = {0};
    struct err err;
    switch (recode_open(&a->recode, &from, seven, &err)) {
    case RECODE_AS_IT_IS:
        break;
    case RECODE_READY:
        o = too_large(a, recode_size(a->recode));
        break;
    case RECODE_SIGNED:
        o = outcome_make(OUTCOME_FAILED, 0, 6, 2, "%s does not take %s, and what is signed must not be changed", a->remote, what);
        break;
    case RECODE_HARD:
        o = outcome_make(OUTCOME_FAILED, 0, 6, 3, "%s does not take %s, and this can't be encoded for it", a->remote, what);
        break;
    case RECODE_FAILED:
        o = outcome_make(OUTCOME_RETRY, 0, 3, 0, "%s", err.text);
    }
    return o;
}

/* As it is where that is taken. */
static struct outcome fit_binary(struct attempt *a, bool say_8bit, bool *say_binary)
{
    struct smtp_client *c = session_client(a->session);
    *say_binary = smtp_client_can(c, SMTP_CAP_BINARYMIME) && smtp_client_can(c, SMTP_CAP_CHUNKING);
    return *say_binary ? (struct outcome){0} : encode(a, !say_8bit, "binary content (BINARYMIME)");
}

/* Whether the peer can take it, as it is or encoded anew. Not: everybody has failed. */
static bool fits(struct attempt *a, bool *say_8bit, bool *say_utf8, bool *say_binary)
{
    struct smtp_client *c = session_client(a->session);
    struct err err;
    struct outcome o = {0};
    int found = 0;
    recode_free(&a->recode); /* another host's */
    *say_8bit = a->body_8bit && smtp_client_can(c, SMTP_CAP_8BITMIME);
    *say_utf8 = a->smtputf8 && smtp_client_can(c, SMTP_CAP_SMTPUTF8);
    if ((o = by_fits(a)).kind || (o = too_large(a, a->content.size)).kind)
        ;
    else if (a->smtputf8 && !*say_utf8 && (found = content_has_8bit(&a->content, a->header_bytes, a->relay->room, &err)) > 0)
        o = outcome_make(OUTCOME_FAILED, 0, 6, 7, "%s does not take internationalized headers (SMTPUTF8)", a->remote); /* RFC6531:3.5 */
    else if (found == 0 && a->binary)
        o = fit_binary(a, *say_8bit, say_binary);
    else if (found == 0 && a->body_8bit && !*say_8bit && (found = content_has_8bit(&a->content, UINT64_MAX, a->relay->room, &err)) > 0)
        o = encode(a, true, "8-bit content (8BITMIME)");
    if (found < 0)
        o = outcome_make(OUTCOME_RETRY, 0, 3, 0, "%s", err.text);
    if (o.kind)
        report_open(a, &o);
    return o.kind == 0;
}

static struct span spell(struct attempt *a, struct span address, bool utf8)
{
    return utf8 ? address : wire_address(&a->arena, address);
}

void attempt_mail(struct attempt *a)
{
    struct smtp_client_mail m = {.size = a->content.size};
    if (!fits(a, &m.body_8bit, &m.smtputf8, &m.binary)) {
        attempt_finish(a, NULL);
        return;
    }
    if (a->recode)
        m.size = recode_size(a->recode);
    a->by = a->by_mode && smtp_client_can(session_client(a->session), SMTP_CAP_DELIVERBY);
    struct span *spans = arena_alloc(&a->arena, a->rcpt_count * sizeof *spans);
    struct smtp_client_notify *notify = arena_alloc(&a->arena, a->rcpt_count * sizeof *notify);
    a->order_count = a->taken_now = 0;
    for (size_t i = 0; i < a->rcpt_count; i++) {
        if (a->rcpts[i].state == RCPT_REPORTED)
            continue;
        a->rcpts[i].state = RCPT_OPEN;
        notify[a->order_count] = a->rcpts[i].notify;
        notify[a->order_count].notify = notify_of(a, a->rcpts[i].notify.notify);
        spans[a->order_count] = spell(a, a->rcpts[i].address, m.smtputf8);
        a->order[a->order_count++] = i;
    }
    m.sender = spell(a, a->sender, m.smtputf8);
    m.rcpts = spans;
    m.notify = notify;
    m.envid = a->envid;
    m.ret = a->ret;
    m.requiretls = a->strict;
    m.by_mode = a->by ? a->by_mode : 0;
    m.by_seconds = a->by ? by_left(a) : 0;
    m.priority = a->priority;
    a->tells = smtp_client_can(session_client(a->session), SMTP_CAP_DSN);
    m.rcpt_count = a->order_count;
    content_rewind(&a->content);
    session_mail(a->session, &m);
}

/* A name that is ours: whatever we give it comes back to us. */
static bool is_ourselves(const struct attempt *a)
{
    return !a->smarthost && !a->pull && span_ieqs(smtp_client_peer_name(session_client(a->session)), a->relay->own);
}

static void on_ready(void *ctx)
{
    struct attempt *a = ctx;
    if (is_ourselves(a)) {
        struct outcome o = outcome_make(OUTCOME_RETRY, 0, 4, 6, "%s gives itself our own name: mail would loop", a->remote);
        drop_session(a);
        attempt_note_host(a, &o);
        a->address++;
        reach_next_address(a);
        return;
    }
    if (!policy_session(a)) {
        drop_session(a);
        a->address++;
        reach_next_address(a);
        return;
    }
    a->spoke = true;
    snprintf(a->tls_text, sizeof a->tls_text, "%s", session_tls_text(a->session));
    attempt_mail(a);
}

/* RFC5321:4.5.3.1.10: too many recipients at a time; the rest goes right after those that were taken. */
static void on_rcpt(void *ctx, size_t index, const struct outcome *o)
{
    struct attempt *a = ctx;
    size_t i = a->order[index];
    if (o->kind == OUTCOME_RETRY && (o->code == 452 || o->code == 552) && (o->subject == 0 || (o->subject == 5 && o->detail == 3))) {
        a->rcpts[i].state = RCPT_AGAIN;
        a->again = *o;
        return;
    }
    if (o->kind == OUTCOME_DONE)
        a->taken_now++;
    report_one(a, i, index, o);
}

static void on_done(void *ctx)
{
    struct attempt *a = ctx;
    bool more = false;
    for (size_t i = 0; i < a->rcpt_count; i++)
        more |= a->rcpts[i].state == RCPT_AGAIN;
    if (more && a->taken_now)
        return; /* on_ready comes */
    if (more)
        report_open(a, &a->again);
    attempt_finish(a, NULL);
}

static void recoded_content(struct attempt *a)
{
    struct err err;
    int more = 1;
    for (bool room = true; room && more > 0;) {
        buf_clear(&a->recoded);
        more = recode_next(a->recode, &a->recoded, &err);
        if (more >= 0)
            room = session_content(a->session, buf_span(&a->recoded), more == 0);
    }
    if (more < 0) {
        struct outcome o = outcome_make(OUTCOME_RETRY, 0, 3, 0, "%s", err.text);
        attempt_finish(a, &o);
    }
}

static void on_content(void *ctx)
{
    struct attempt *a = ctx;
    if (a->recode) {
        recoded_content(a);
        return;
    }
    struct relay *r = a->relay;
    struct span piece;
    struct err err;
    bool room = true, last = false;
    while (room && !last) {
        if (content_next(&a->content, r->room, &piece, &err) < 0) {
            struct outcome o = outcome_make(OUTCOME_RETRY, 0, 3, 0, "%s", err.text);
            attempt_finish(a, &o); /* closes in the middle: the host throws away what it has */
            return;
        }
        last = content_at_end(&a->content);
        room = session_content(a->session, piece, last);
    }
}

static void on_over(void *ctx, enum smtp_client_stage at, const struct outcome *why, bool tls_failed)
{
    struct attempt *a = ctx;
    struct outcome copy = *why;
    bool kept = a->kept, may_clear = tls_failed && policy_may_clear(a);
    drop_session(a);
    if (a->pull) { /* there is no other way to it */
        if (copy.kind == OUTCOME_FAILED && at < SMTP_STAGE_CONTENT)
            copy.kind = OUTCOME_RETRY;
        attempt_finish(a, &copy);
        return;
    }
    if (at == SMTP_STAGE_DOT || (at == SMTP_STAGE_CONTENT && copy.code)) {
        attempt_finish(a, &copy);
        return;
    }
    a->tls_text[0] = '\0';
    if (kept && (at == SMTP_STAGE_IDLE || at == SMTP_STAGE_MAIL)) { /* closed meanwhile: nobody's fault */
        a->spoke = false;
        reach_next_host(a);
        return;
    }
    policy_note_over(a, &copy, tls_failed);
    if (may_clear) { /* opportunistic TLS: better in clear than not at all */
        a->clear = true;
        reach_next_address(a);
        return;
    }
    a->address++;
    a->clear = false;
    reach_next_address(a);
}

const struct session_ops attempt_session_ops = {on_ready, on_rcpt, on_content, on_done, on_over};
