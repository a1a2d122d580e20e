/* Mail that its destination asks for: ETRN makes what waits for a domain due now; ATRN sends what waits for its customer
 * over the customer's own connection, whose far end relay gets. Who may is authd's word (the session as the front named
 * it); what waits for a domain is found by its index, page by page like every question of operators (operator.c).
 *
 * A reversed connection has rounds: recipients that wait are made due, find their way by expand.c to relay with the
 * number of the connection, and when all of a round have left memory the next one looks for more. */
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "qmgr/operator.h"

#define PULLS_MAX 64     /* under way at once */
#define ROUND 200        /* recipients of one round */
#define EARLY_MS 5000    /* ETRN is answered by then, whatever was found */
#define IDLE_MS 30000    /* recipients that were made due and never came */

struct pull {
    struct link link;
    struct qmgr *q;
    uint64_t id;
    struct chan *from; /* NULL: answered, or the front is gone */
    uint32_t epoch;
    uint64_t request, ask;
    bool turn;
    int fd; /* of a turn, until relay has it */
    struct buf names;
    struct span rest; /* names still to be looked for in this round */
    bool looking, releasing, reversed, dead;
    int64_t began; /* of a reversed connection: what it could not give is not tried on it again */
    unsigned seen, coming, under_way;
    struct timer *timer;
};

static void look(struct pull *p);

static void answer(struct pull *p, const struct outcome *o)
{
    struct msg m = {.type = MSG_turned};
    m.turned = (struct msg_turned){.kind = o->kind,
                                   .code = (uint16_t)o->code,
                                   .subject = o->subject,
                                   .detail = o->detail,
                                   .why = span_of(o->text)};
    if (p->from)
        chan_answer(p->from, p->epoch, p->request, &m, -1);
    p->from = NULL;
}

static void pull_free(struct pull *p)
{
    struct qmgr *q = p->q;
    if (p->looking) { /* its question comes back first */
        p->dead = true;
        return;
    }
    if (p->ask)
        chan_forget(service_chan(q->service, ROLE_AUTHD, 0), p->ask);
    if (p->fd >= 0)
        close(p->fd);
    list_del(&p->link);
    q->pull_count--;
    timer_free(&p->timer);
    buf_free(&p->names);
    mem_free(&p);
}

static void end(struct pull *p, unsigned kind, unsigned code, unsigned subject, unsigned detail, const char *why)
{
    struct outcome o = outcome_make(kind, code, subject, detail, "%s", why);
    answer(p, &o);
    pull_free(p);
}

/* ---- ETRN ---- */

static void flush_answer(struct pull *p, bool whole)
{
    struct outcome o = outcome_make(OUTCOME_DONE, 250, 0, 0, "OK, queuing started");
    if (whole && p->seen == 0) /* RFC1985:5.1 */
        o = outcome_make(OUTCOME_DONE, 251, 0, 0, "OK, no messages waiting");
    else if (whole)
        o = outcome_make(OUTCOME_DONE, 253, 0, 0, "OK, %u pending messages started", p->seen);
    else if (p->seen)
        o = outcome_make(OUTCOME_DONE, 252, 0, 0, "OK, pending messages started");
    answer(p, &o);
}

/* ---- ATRN ---- */

static bool relay_up(struct qmgr *q)
{
    return chan_is_up(service_chan(q->service, ROLE_RELAY, 0));
}

static void say_relay(struct qmgr *q, enum msg_type type, uint64_t id, int fd)
{
    struct msg m = {.type = type};
    if (type == MSG_reversed)
        m.reversed.pull = id;
    else
        m.reversed_end.pull = id;
    chan_say(service_chan(q->service, ROLE_RELAY, 0), &m, fd);
}

static void reverse(struct pull *p)
{
    struct outcome o = outcome_make(OUTCOME_DONE, 250, 0, 0, "OK now reversing the connection");
    if (!relay_up(p->q)) {
        end(p, OUTCOME_RETRY, 451, 3, 0, "Mail can't be sent just now, try again later");
        return;
    }
    say_relay(p->q, MSG_reversed, p->id, p->fd);
    close(p->fd);
    p->fd = -1;
    p->reversed = p->releasing = true;
    p->began = qmgr_wall(p->q);
    LOGI("reversed", KVU("pull", p->id), KVS("domains", buf_span(&p->names)));
    answer(p, &o);
    p->rest = buf_span(&p->names);
    p->seen = 0;
    look(p);
}

/* Everything of a round has left memory: the next one, or the end. */
static void round_over(struct pull *p)
{
    if (p->looking || p->coming || p->under_way)
        return;
    if (p->seen == 0 || p->q->draining) {
        say_relay(p->q, MSG_reversed_end, p->id, -1);
        LOGI("reversed-end", KVU("pull", p->id));
        pull_free(p);
        return;
    }
    p->seen = 0;
    p->rest = buf_span(&p->names);
    look(p);
}

static void on_timer(void *ctx)
{
    struct pull *p = ctx;
    if (!p->turn) {
        flush_answer(p, false);
        return;
    }
    p->coming = 0; /* removed, or held by an operator meanwhile */
    if (p->under_way)
        timer_start(p->timer, IDLE_MS);
    else
        round_over(p);
}

/* ---- looking ---- */

static void show_nothing(struct query *u, const struct queue_item *i)
{
    (void)u;
    (void)i;
}

static void looked_at_all(struct pull *p)
{
    if (!p->turn) {
        flush_answer(p, true);
        pull_free(p);
    } else if (!p->releasing) {
        end(p, OUTCOME_RETRY, 453, 0, 0, "You have no mail");
    } else {
        timer_start(p->timer, IDLE_MS);
        round_over(p);
    }
}

static void on_looked(void *ctx, unsigned seen, unsigned changed, bool error)
{
    struct pull *p = ctx;
    p->looking = false;
    if (p->dead) {
        pull_free(p);
        return;
    }
    if (error) {
        if (p->reversed)
            say_relay(p->q, MSG_reversed_end, p->id, -1);
        end(p, OUTCOME_RETRY, p->turn ? 451 : 458, 3, 0, "The queue can't be read just now");
        return;
    }
    p->seen += p->turn && p->releasing ? changed : seen;
    if (p->releasing && p->turn)
        p->coming += changed;
    if (p->turn && !p->releasing && seen)
        reverse(p);
    else if (p->rest.n)
        look(p);
    else
        looked_at_all(p);
}

/* The next of the names. */
static void look(struct pull *p)
{
    const struct pull_query w = {.domain = span_word(&p->rest),
                                 .state = p->turn ? QUEUE_PICKUP : 0,
                                 .change = !p->turn || p->releasing,
                                 .pass = !p->turn,
                                 .before = p->began,
                                 .limit = !p->turn ? 0 : p->releasing ? ROUND : 1,
                                 .show = show_nothing,
                                 .done = on_looked,
                                 .ctx = p};
    p->looking = true;
    if (w.change)
        sched_up(&p->q->sched, SCHED_REMOTE, w.domain, qmgr_wall(p->q));
    operator_pull(p->q, &w);
}

static void on_may(void *ctx, struct chan *c, enum chan_why why, const struct msg *m, int fd)
{
    struct pull *p = ctx;
    (void)c;
    p->ask = 0;
    if (fd >= 0)
        close(fd);
    if (why != CHAN_ANSWERED || m->type != MSG_pull_may) {
        end(p, OUTCOME_RETRY, p->turn ? 451 : 458, 3, 0, "The directory does not answer just now, try again later");
        return;
    }
    const struct msg_pull_may *w = &m->pull_may;
    if (w->kind != OUTCOME_DONE || w->names.n == 0) {
        struct outcome o = outcome_make(w->kind == OUTCOME_FAILED ? OUTCOME_FAILED : OUTCOME_RETRY, w->code, w->subject,
                                        w->detail, "%.*s", SPANV(w->why));
        answer(p, &o);
        pull_free(p);
        return;
    }
    buf_add(&p->names, w->names);
    p->rest = buf_span(&p->names);
    if (!p->turn)
        timer_start(p->timer, EARLY_MS);
    look(p);
}

void pull_begin(struct qmgr *q, struct chan *from, const struct msg *m, int fd)
{
    const struct msg_turn_ask *t = &m->turn_ask;
    struct pull *p = mem_alloc(sizeof *p);
    *p = (struct pull){.q = q,
                       .id = q->next_pull++,
                       .from = from,
                       .epoch = chan_epoch(from),
                       .request = m->id,
                       .turn = t->what != 0,
                       .fd = fd};
    p->timer = timer_new(q->loop, on_timer, p);
    list_add_tail(&q->pulls, &p->link);
    if (++q->pull_count > PULLS_MAX || q->draining || (p->turn && fd < 0)) {
        end(p, OUTCOME_RETRY, p->turn ? 450 : 458, 3, 2, "Too many ask at once, try again later");
        return;
    }
    struct msg o = {.type = MSG_pull_ask};
    o.pull_ask = (struct msg_pull_ask){.instance = chan_instance(from),
                                       .session = chan_peer(from) == ROLE_SUBMISSION ? t->session : 0,
                                       .what = t->what,
                                       .remote = t->remote,
                                       .names = t->names};
    p->ask = chan_ask(service_chan(q->service, ROLE_AUTHD, 0), &o, -1, on_may, p);
    if (!p->ask)
        end(p, OUTCOME_RETRY, p->turn ? 451 : 458, 3, 0, "The directory does not answer just now, try again later");
}

/* ---- the recipients of a reversed connection ---- */

static struct pull *pull_by_id(struct qmgr *q, uint64_t id)
{
    LIST_EACH(&q->pulls, l)
    {
        struct pull *p = container_of(l, struct pull, link);
        if (p->id == id)
            return p;
    }
    return NULL;
}

uint64_t pull_for(struct qmgr *q, struct span domain)
{
    LIST_EACH(&q->pulls, l)
    {
        struct pull *p = container_of(l, struct pull, link);
        struct span names = buf_span(&p->names), one;
        while (p->reversed && !p->dead && (one = span_word(&names)).n)
            if (span_ieq(one, domain)) {
                p->coming -= p->coming > 0;
                p->under_way++;
                return p->id;
            }
    }
    return 0;
}

void pull_left(struct qmgr *q, uint64_t id)
{
    struct pull *p = pull_by_id(q, id);
    if (!p || --p->under_way || p->coming)
        return;
    round_over(p);
}

void pull_over(struct qmgr *q, uint64_t id)
{
    struct pull *p = pull_by_id(q, id);
    if (!p)
        return;
    LOGI("reversed-end", KVU("pull", id), KVT("why", "the connection ended"));
    pull_free(p);
}

/* A front's channel, or relay's, is another one from here on. */
void pull_peer_changed(struct qmgr *q, struct chan *c)
{
    LIST_EACH(&q->pulls, l)
    {
        struct pull *p = container_of(l, struct pull, link);
        if (p->from == c)
            p->from = NULL;
        if (p->reversed && chan_peer(c) == ROLE_RELAY)
            pull_free(p);
    }
}

void pulls_free(struct qmgr *q)
{
    LIST_EACH(&q->pulls, l)
    {
        struct pull *p = container_of(l, struct pull, link);
        p->looking = false;
        pull_free(p);
    }
}
