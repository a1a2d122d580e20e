/* Attempts as qmgr hands them over: collected, waiting for their turn, started; and what becomes of them when qmgr or we go. */
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "relay/policy.h"
#include "relay/reversed.h"

#define ATTEMPT_BASE_MS (30 * 60000) /* how long an attempt may take at all … */
#define ATTEMPT_BYTES_PER_MS 4       /* … and for this many bytes a millisecond more */

static void on_deadline(void *ctx)
{
    struct attempt *a = ctx;
    struct outcome late = outcome_make(OUTCOME_RETRY, 0, 4, 7, "the attempt took too long");
    attempt_finish(a, &late);
}

/* ---- starting ---- */

static void begin(struct attempt *a)
{
    struct relay *r = a->relay;
    a->conf = conf_ref(service_conf(r->service));
    a->began = loop_now(r->loop);
    a->routed &= !a->pull;
    a->smarthost = !a->pull && !a->routed && a->conf->relay.smarthost[0] != '\0';
    policy_begin(a);
    a->order = mem_array(a->rcpt_count, sizeof *a->order);
    a->deadline = timer_new(r->loop, on_deadline, a);
    timer_start(a->deadline, ATTEMPT_BASE_MS + (int64_t)(a->content.size / ATTEMPT_BYTES_PER_MS));
    r->running_count++;
    list_del(&a->in_list);
    list_add_tail(&r->running, &a->in_list);
}

void attempt_start_reversed(struct attempt *a)
{
    begin(a);
    a->spoke = true;
    snprintf(a->remote, sizeof a->remote, "%s", session_remote(a->session));
    attempt_move(a, ATTEMPT_SESSION);
    session_use(a->session, &attempt_session_ops, a);
    attempt_mail(a);
}

/* Its recipients belong together for that smarthost only. A reload reaches one program before the other: qmgr hears of it. */
static bool is_outdated(const struct attempt *a)
{
    return !a->routed && a->via.n && !span_eqs(a->via, a->conf->relay.smarthost);
}

static void start(struct attempt *a)
{
    struct relay *r = a->relay;
    begin(a);
    a->outdated = is_outdated(a);
    if (a->outdated) {
        attempt_move(a, ATTEMPT_ROUTE);
        attempt_finish(a, NULL);
        return;
    }
    a->session = pool_take(&r->pool, a->key);
    if (!a->session) {
        reach_next_host(a);
        return;
    }
    a->kept = a->spoke = true;
    snprintf(a->remote, sizeof a->remote, "%s", session_remote(a->session));
    snprintf(a->tls_text, sizeof a->tls_text, "%s", session_tls_text(a->session));
    attempt_move(a, ATTEMPT_SESSION);
    session_use(a->session, &attempt_session_ops, a);
    attempt_mail(a);
}

void attempt_run_waiting(void *relay)
{
    struct relay *r = relay;
    while (!list_empty(&r->waiting) && !r->draining && r->running_count < service_conf(r->service)->relay.concurrency)
        start(container_of(r->waiting.next, struct attempt, in_list));
    if (r->draining && r->held == 0)
        service_done(r->service);
}

/* ---- from qmgr ---- */

/* A report that names no recipient: all of them are tried again later. */
static void refuse(struct relay *r, uint64_t lease)
{
    struct msg m = {.type = MSG_attempt_report, .attempt_report = {.lease = lease}};
    LOGW("too_many_attempts", KVU("held", r->held));
    chan_say(service_chan(r->service, ROLE_QMGR, 0), &m, -1);
}

void attempt_on_begin(struct relay *r, const struct msg_attempt *m)
{
    if (r->draining || idmap_get(&r->attempts, m->lease))
        return; /* no report: the lease ends with us */
    if (r->held >= RELAY_ATTEMPTS_MAX) {
        refuse(r, m->lease);
        return;
    }
    struct attempt *a = mem_alloc(sizeof *a);
    a->relay = r;
    a->state = ATTEMPT_COLLECT;
    a->lease = m->lease;
    a->pull = m->pull;
    a->content.fd = -1;
    a->qid = arena_dup(&a->arena, m->qid);
    a->domain = arena_dup(&a->arena, m->domain);
    a->sender = arena_dup(&a->arena, m->sender);
    a->envid = arena_dup(&a->arena, m->envid);
    a->ret = m->ret;
    a->header_bytes = m->header_bytes;
    a->body_8bit = m->body_kind != 0;
    a->binary = m->body_kind == 2;
    a->smtputf8 = m->smtputf8 != 0;
    a->tls_need = m->tls_need;
    a->by_mode = m->by_mode;
    a->deliver_by = (int64_t)MIN_OF(m->deliver_by, (uint64_t)INT64_MAX);
    a->priority = msg_priority_get(m->priority);
    a->via = arena_dup(&a->arena, m->route);
    a->routed = m->route.n && !m->smarthost;
    list_add_tail(&r->collecting, &a->in_list);
    idmap_put(&r->attempts, a->lease, a);
    r->held++;
}

void attempt_on_rcpt(struct relay *r, const struct msg_attempt_rcpt *m)
{
    struct attempt *a = idmap_get(&r->attempts, m->lease);
    if (!a || a->state != ATTEMPT_COLLECT || a->rcpt_count >= RELAY_RCPTS_MAX)
        return;
    if (a->rcpt_count == a->rcpt_cap) {
        a->rcpt_cap = a->rcpt_cap ? a->rcpt_cap * 2 : 4;
        a->rcpts = mem_resize(a->rcpts, a->rcpt_cap * sizeof *a->rcpts);
    }
    a->rcpts[a->rcpt_count++] = (struct rcpt){.id = m->rcpt,
                                              .address = arena_dup(&a->arena, m->address),
                                              .notify = {m->notify, arena_dup(&a->arena, m->orcpt)}};
}

void attempt_on_go(struct relay *r, const struct msg_attempt_go *m, int fd)
{
    struct attempt *a = idmap_get(&r->attempts, m->lease);
    struct err err;
    if (!a || a->state != ATTEMPT_COLLECT || a->rcpt_count == 0) {
        if (fd >= 0)
            content_close(&(struct content){.fd = fd});
        if (a && a->state == ATTEMPT_COLLECT)
            attempt_finish(a, NULL);
        return;
    }
    if (content_open(&a->content, m->prefix, m->body, fd, &err) < 0) {
        struct outcome o = outcome_make(OUTCOME_RETRY, 0, 3, 0, "%s", err.text);
        attempt_finish(a, &o);
        return;
    }
    attempt_move(a, ATTEMPT_WAIT);
    if (a->pull) {
        reversed_attempt(r, a);
        return;
    }
    list_del(&a->in_list);
    list_add_tail(&r->waiting, &a->in_list);
    loop_defer(r->loop, &r->run);
}

static void drop_list(struct link *head)
{
    LIST_EACH(head, l)
        attempt_free(container_of(l, struct attempt, in_list));
}

void attempt_drop_unstarted(struct relay *r)
{
    drop_list(&r->collecting);
    drop_list(&r->waiting);
}

void attempt_drop_all(struct relay *r)
{
    attempt_drop_unstarted(r);
    drop_list(&r->running);
}

void attempt_qmgr_gone(struct relay *r)
{
    attempt_drop_unstarted(r);
    LIST_EACH(&r->running, l) {
        struct attempt *a = container_of(l, struct attempt, in_list);
        if (a->stale)
            continue;
        if (a->session && smtp_client_stage(session_client(a->session)) == SMTP_STAGE_DOT) {
            idmap_del(&r->attempts, a->lease); /* the next qmgr may use the number again */
            a->stale = true;
        } else {
            attempt_free(a);
        }
    }
}
