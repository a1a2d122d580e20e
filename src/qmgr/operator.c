/* What operators see and do: list, show, why, retry, hold, release, remove. The queue is read page by page on a pool
 * thread, each page with a snapshot of its own, so that a long listing delays nobody and holds nothing. A change goes
 * the way of every change: settle.c. */
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "qmgr/dests.h"
#include "qmgr/limits.h"
#include "qmgr/operator.h"
#include "qmgr/route.h"
#include "qmgr/trace.h"

#define PAGE 100
#define LOOK_MAX 5000 /* rows looked at for one page */

/* ---- changes ---- */

static bool applies(enum verdict v, const struct queue_recipient *r)
{
    switch (v) {
    case VERDICT_RELEASED:
        return r->state == QUEUE_WAITING || r->state == QUEUE_PARKED || r->state == QUEUE_PICKUP;
    case VERDICT_HELD:
        return r->state == QUEUE_WAITING || r->state == QUEUE_PARKED || r->state == QUEUE_PICKUP;
    case VERDICT_REMOVED:
    case VERDICT_ROUTED:
        return r->state != QUEUE_EXPANDED;
    default:
        return false;
    }
}

/* A recipient in memory: what has not started is taken out; what is under way is left to end first, and may end with a
 * delivery. */
static bool change_active(struct rcpt *r, enum verdict v, int64_t by)
{
    struct message *m = r->msg;
    if (v == VERDICT_RELEASED)
        return true; /* it is being tried */
    r->by = by;
    if (r->state == RCPT_STORED || r->state == RCPT_SETTLING ||
        (r->state == RCPT_QUEUED && (r->job->lease || r->job->sched.under_way))) {
        if (v != VERDICT_ROUTED || r->wish == VERDICT_NONE)
            r->wish = v;
        return true;
    }
    message_ref(m);
    if (r->state == RCPT_QUEUED)
        job_drop_rcpt(r);
    else
        m->expanding--;
    if (r->state == RCPT_EXPANDING)
        expand_forget(r);
    settle_rcpt(r, v, NULL, SPAN_NONE);
    work_release_open(m);
    message_unref(m);
    return true;
}

/* It is being looked at again just now, whether it is still held: the release counts at once, or when that is recorded. */
static void release_parked(struct rcpt *r, const struct queue_recipient *row, int64_t by)
{
    if (row->state != QUEUE_PARKED || r->r.passed == row->passed)
        return;
    r->r.passed = row->passed;
    if (r->state != RCPT_SETTLING || r->verdict != VERDICT_PARKED)
        return;
    r->wish = VERDICT_RELEASED;
    r->by = by;
}

static void look(struct query *u);
static void query_end(struct query *u);

static void on_changed(void *ctx, bool ok)
{
    struct query *u = ctx;
    u->failed += !ok;
    if (--u->pending == 0 && u->ended)
        query_end(u);
}

/* FUTURERELEASE: a retry of many does not hurry it, a release does. */
static bool held_by_sender(const struct qmgr *q, const struct queue_item *i)
{
    return i->recipient.state == QUEUE_WAITING && i->recipient.attempts == 0 &&
           i->message.hold_until > qmgr_wall(q) && i->recipient.next >= i->message.hold_until;
}

static void change(struct query *u, const struct queue_item *i)
{
    struct qmgr *q = u->q;
    struct rcpt *r = idmap_get(&q->rcpts, i->recipient.id);
    struct queue_recipient row = i->recipient;
    struct hop hop;
    bool later = held_by_sender(q, i);
    if (u->want_held && row.state != QUEUE_HELD && row.state != QUEUE_PARKED &&
        row.state != QUEUE_PICKUP && row.state != QUEUE_LIMITED && !later)
        return;
    if (u->verdict == VERDICT_RELEASED && later && !u->want_held)
        return;
    if (u->want_held && row.state == QUEUE_PARKED)
        row.passed |= QUEUE_PASSED | QUEUE_PASSED_RULES;
    if ((u->want_held || u->pass) && row.state == QUEUE_PICKUP)
        row.passed |= QUEUE_PASSED;
    if (u->verdict == VERDICT_RELEASED) {
        hop_of_row(q->conf, &row, &hop);
        sched_up(&q->sched, SCHED_REMOTE, span_make(hop.name, hop.n), qmgr_wall(q));
    }
    if (u->verdict == VERDICT_ROUTED)
        row.route = u->route;
    if (r) {
        if (u->verdict == VERDICT_ROUTED)
            r->r.route = u->route.p ? arena_dup(&r->msg->arena, u->route) : SPAN_NONE;
        release_parked(r, &row, u->by);
        u->changed += change_active(r, u->verdict, u->by);
        return;
    }
    if (!u->want_held && !applies(u->verdict, &i->recipient))
        return;
    u->changed++;
    u->pending++;
    settle_row(q, &i->message, &row, u->verdict, u->by, on_changed, u);
}

/* ---- pages ---- */

static void page_run(void *ctx)
{
    struct query *u = ctx;
    u->last.rest = u->at.rest;
    u->error = queue_read_page(u->q->operator_reader, &u->filter, &u->at, LOOK_MAX, u->items, PAGE, &u->count, &u->end,
                               &u->page, &u->err);
}

static void query_free(struct query *u)
{
    arena_free(&u->page);
    arena_free(&u->arena);
    buf_free(&u->on_end_name);
    mem_free(&u->items);
    mem_free(&u);
}

static void next_query(struct qmgr *q)
{
    struct operator_jobs *o = q->operators;
    if (o->running || list_empty(&o->waiting) || q->draining)
        return;
    struct query *u = container_of(o->waiting.next, struct query, link);
    list_del(&u->link);
    look(u);
}

static void query_end(struct query *u)
{
    if (u->on_end)
        u->on_end(u->q, buf_span(&u->on_end_name), u->seen > 0);
    bool history = u->show == operator_show_why || (u->show == operator_show_whole && u->seen > 0);
    if (u->call && !u->error && history && u->filter.message)
        trace_why(u->q, u->call, u->filter.message, u->seen > 0);
    else if (u->call && u->error)
        admin_end(u->call, ADMIN_FAILED, "the queue can't be read: %s", u->err.text);
    else if (u->call && u->failed)
        admin_end(u->call, ADMIN_FAILED, "%u of %u changes could not be recorded", u->failed, u->changed);
    else if (u->call && u->seen == 0 && u->filter.message)
        admin_end(u->call, ADMIN_NO_SUCH, "no such message in the queue (it may have been delivered)");
    else if (u->call && u->verdict != VERDICT_NONE)
        admin_end(u->call, ADMIN_DONE, "%u recipient%s", u->changed, u->changed == 1 ? "" : "s");
    else if (u->call && u->cut)
        which_say_more(u);
    else if (u->call)
        admin_end(u->call, ADMIN_DONE, "%s", "");
    if (u->done)
        u->done(u->done_ctx, (unsigned)u->seen, u->changed, u->error || u->failed);
    query_free(u);
}

static void finished(struct query *u)
{
    u->ended = true;
    if (u->pending == 0)
        query_end(u);
}

static void on_drop(void *ctx)
{
    struct query *u = ctx;
    u->call = NULL;
    finished(u);
}

static void on_more(void *ctx, struct admin_call *call)
{
    (void)call;
    struct query *u = ctx;
    list_add_tail(&u->q->operators->waiting, &u->link);
    next_query(u->q);
}

static void go_on_later(struct query *u)
{
    if (u->verdict == VERDICT_NONE)
        admin_progress(u->call, u->at.looked, 0, "recipients looked at");
    else
        admin_progress(u->call, u->changed, 0, "recipients changed");
    admin_later(u->call, on_more, on_drop, u);
}

static bool goes_there(const struct query *u, const struct queue_recipient *r)
{
    struct hop hop;
    if (!u->dest.n)
        return true;
    hop_of_row(u->q->conf, r, &hop);
    return hop_is_likely(r) && span_eq(span_make(hop.name, hop.n), u->dest);
}

static void page_done(void *ctx)
{
    struct query *u = ctx;
    struct qmgr *q = u->q;
    q->operators->running = false;
    for (size_t i = 0; i < u->count && !u->cut; i++) {
        if ((u->before && u->items[i].recipient.last >= u->before) || !goes_there(u, &u->items[i].recipient))
            continue;
        u->cut = u->limit && u->seen >= u->limit;
        if (u->cut)
            break;
        u->seen++;
        u->last.message = u->items[i].message.id;
        u->last.recipient = u->items[i].recipient.id;
        if (u->verdict == VERDICT_NONE)
            u->show(u, &u->items[i]);
        else
            change(u, &u->items[i]);
    }
    arena_reset(&u->page);
    u->cut |= u->limit && u->seen >= u->limit && u->verdict != VERDICT_NONE; /* who lists asks whether there are more */
    if (u->error || u->end || u->cut || (u->call && admin_gone(u->call)))
        finished(u);
    else if (u->call)
        go_on_later(u);
    else
        on_more(u, NULL);
    next_query(q);
    qmgr_quiet(q);
}

static void look(struct query *u)
{
    u->q->operators->running = true;
    loop_work(u->q->loop, page_run, page_done, u);
}

static struct query *query_new(struct qmgr *q, struct admin_call *call)
{
    struct query *u = mem_alloc(sizeof *u);
    u->q = q;
    u->call = call;
    u->by = call ? (int64_t)admin_uid(call) + 1 : 0;
    u->items = mem_array(PAGE, sizeof *u->items);
    list_init(&u->link);
    return u;
}

/* ---- arguments ---- */

static bool take_state(struct query *u, struct span value)
{
    for (unsigned s = QUEUE_WAITING; s <= QUEUE_LIMITED; s++)
        if (span_ieqs(value, queue_state_name(s)))
            u->filter.state = (uint8_t)s;
    return u->filter.state != 0;
}

/* One option with its value, or a queue id. False: not understood. */
static bool take_option(struct query *u, struct span key, struct span value)
{
    struct span *text = span_eqs(key, "--sender")      ? &u->filter.sender
                        : span_eqs(key, "--recipient") ? &u->filter.recipient
                        : span_eqs(key, "--domain")    ? &u->filter.domain
                                                       : NULL;
    uint64_t n;
    if (text) {
        *text = arena_dup(&u->arena, value);
        return value.n > 0;
    }
    if (span_eqs(key, "--state"))
        return take_state(u, value);
    if (span_eqs(key, "--limit") && span_u64(value, UINT32_MAX, &n) && n > 0) {
        u->limit = (size_t)n;
        return true;
    }
    return which_option(u, key, value) || (span_eqs(key, "--id") && qid_parse(value, &u->filter.message));
}

/* An ID, an address or a domain. */
static bool take_word(struct query *u, struct span word)
{
    if (!u->filter.message && qid_parse(word, &u->filter.message))
        return true;
    if (u->filter.either.n || u->filter.domain.n || word.n == 0 || span_starts(word, SPAN("-")))
        return false;
    if (span_find(word, '@') >= 0)
        u->filter.either = arena_dup(&u->arena, word);
    else if (span_find(word, '.') >= 0)
        u->filter.domain = arena_dup(&u->arena, word);
    else
        return false;
    return true;
}

static bool take_args(struct query *u, const struct span *args, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (span_eqs(args[i], "--all"))
            u->all = true;
        else if (take_word(u, args[i]))
            continue;
        else if (i + 1 < n && take_option(u, args[i], args[i + 1]))
            i++;
        else
            return false;
    }
    which_ready(u);
    return true;
}

static bool narrowed(const struct query *u)
{
    const struct queue_filter *f = &u->filter;
    return f->message || f->sender.n || f->either.n || f->recipient.n || f->domain.n || f->state || f->since || f->before ||
           f->larger || f->smaller || u->all;
}

/* NULL: it was answered already. */
static struct query *start(struct qmgr *q, struct admin_call *call, const struct span *args, size_t n, show_fn *show,
                           enum verdict v, bool want_held)
{
    struct query *u = query_new(q, call);
    u->show = show;
    u->verdict = v;
    u->want_held = want_held;
    const char *wrong = !take_args(u, args, n)
                            ? "not understood: an ID, ADDRESS, DOMAIN, --id ID, --sender ADDRESS, --recipient ADDRESS, "
                              "--domain NAME, --state STATE, --older TIME, --newer TIME, --larger SIZE, --smaller SIZE, "
                              "--limit N, --after PLACE or --all"
                        : (v != VERDICT_NONE || show != operator_show_listed) && !narrowed(u)
                            ? "say which: an ID, a filter, or --all"
                            : NULL;
    if (wrong) {
        admin_end(call, ADMIN_USAGE, "%s", wrong);
        u->call = NULL;
        query_free(u);
        return NULL;
    }
    list_add_tail(&q->operators->waiting, &u->link);
    next_query(q);
    return u;
}

/* ---- the commands ---- */

static void on_list(void *ctx, struct admin_call *c, const struct span *args, size_t n)
{
    start(ctx, c, args, n, operator_show_listed, VERDICT_NONE, false);
}

static void on_show(void *ctx, struct admin_call *c, const struct span *args, size_t n)
{
    if (n == 1)
        start(ctx, c, args, n, operator_show_whole, VERDICT_NONE, false);
    else
        show_content(ctx, c, args, n);
}

static void on_why(void *ctx, struct admin_call *c, const struct span *args, size_t n)
{
    start(ctx, c, args, n, operator_show_why, VERDICT_NONE, false);
}

static void on_retry(void *ctx, struct admin_call *c, const struct span *args, size_t n)
{
    start(ctx, c, args, n, operator_show_listed, VERDICT_RELEASED, false);
}

static void on_hold(void *ctx, struct admin_call *c, const struct span *args, size_t n)
{
    start(ctx, c, args, n, operator_show_listed, VERDICT_HELD, false);
}

static void on_release(void *ctx, struct admin_call *c, const struct span *args, size_t n)
{
    start(ctx, c, args, n, operator_show_listed, VERDICT_RELEASED, true);
}

static void on_remove(void *ctx, struct admin_call *c, const struct span *args, size_t n)
{
    start(ctx, c, args, n, operator_show_listed, VERDICT_REMOVED, false);
}

/* The last argument is where to, the others say which. */
static void on_route(void *ctx, struct admin_call *c, const struct span *args, size_t n)
{
    struct span to = args[n - 1], host;
    uint16_t port = 0;
    struct err err = {""};
    bool none = span_ieqs(to, "none");
    if (!none && (to.n > QUEUE_ROUTE_MAX || conf_hostport_of(to, &host, &port, &err))) {
        admin_end(c, ADMIN_USAGE, "%s", *err.text ? err.text : "that is too long for a host");
        return;
    }
    struct query *u = start(ctx, c, args, n - 1, operator_show_listed, VERDICT_ROUTED, false);
    if (u && !none)
        u->route = arena_dup(&u->arena, to);
}

#define WHICH \
    "(ID | ADDRESS | DOMAIN | --sender ADDRESS | --recipient ADDRESS | --domain NAME | --state STATE | --older TIME | --newer TIME | " \
    "--larger SIZE | --smaller SIZE | --all)…"

static const struct admin_command commands[] = {
    DEST_COMMANDS
    LIMITS_COMMANDS
    {"queue list",
     "[ID|ADDRESS|DOMAIN] [--sender ADDRESS] [--recipient ADDRESS] [--domain NAME] [--state STATE] [--older TIME] [--newer TIME] "
     "[--larger SIZE] [--smaller SIZE] [--limit N] [--after PLACE]", 0,
     ADMIN_ARGS_MAX, on_list},
    {"queue show", "ID [--headers | --body | --raw]", 1, 2, on_show},
    {"queue why", "ID", 1, 1, on_why},
    {"queue retry", WHICH, 1, ADMIN_ARGS_MAX, on_retry},
    {"queue hold", WHICH, 1, ADMIN_ARGS_MAX, on_hold},
    {"queue release", WHICH, 1, ADMIN_ARGS_MAX, on_release},
    {"queue remove", WHICH, 1, ADMIN_ARGS_MAX, on_remove},
    {"queue route", WHICH " HOST[:PORT]|none", 2, ADMIN_ARGS_MAX, on_route},
    {"queue stats", "[--by destination|domain|sender|state] [--limit N]", 0, 4, stats_command},
    {"queue sample", NULL, 0, 0, top_sample},
    {"queue verify", "[--repair]", 0, 1, verify_command},
    {"queue sql", "SELECT [--limit N]", 1, 3, sql_command},
    {"trace", "ADDRESS|ID|MESSAGE-ID [--since TIME] [--limit N]", 1, 7, trace_command},
};

bool operator_running(const struct qmgr *q)
{
    return q->operators->running;
}

void operator_retry_one(struct qmgr *q, struct span destination, query_end_fn *fn)
{
    struct query *u = query_new(q, NULL);
    struct span host;
    u->dest = arena_dup(&u->arena, destination);
    if (!hop_is_named(destination, &host))
        u->filter.domain = u->dest;
    u->filter.state = QUEUE_WAITING;
    u->limit = 1;
    u->verdict = VERDICT_RELEASED;
    u->on_end = fn;
    buf_add(&u->on_end_name, destination);
    list_add_tail(&q->operators->waiting, &u->link);
    next_query(q);
}

void operator_release_parked(struct qmgr *q)
{
    struct query *u = query_new(q, NULL);
    u->filter.state = QUEUE_PARKED;
    u->verdict = VERDICT_RELEASED;
    list_add_tail(&q->operators->waiting, &u->link);
    next_query(q);
}

void operator_account(struct qmgr *q, uint32_t account, uint8_t state, enum verdict v, int64_t by,
                      void (*done)(void *ctx, unsigned seen, unsigned changed, bool error), void *ctx)
{
    struct query *u = query_new(q, NULL);
    u->filter.account = account;
    u->filter.state = state;
    u->verdict = v;
    u->want_held = v == VERDICT_RELEASED;
    u->by = by;
    u->done = done;
    u->done_ctx = ctx;
    list_add_tail(&q->operators->waiting, &u->link);
    next_query(q);
}

void operator_pull(struct qmgr *q, const struct pull_query *w)
{
    struct query *u = query_new(q, NULL);
    u->filter.waits = arena_dup(&u->arena, w->domain);
    u->filter.state = w->state;
    u->limit = w->limit;
    u->show = w->show;
    u->verdict = w->change ? VERDICT_RELEASED : VERDICT_NONE;
    u->pass = w->pass;
    u->before = w->before;
    u->done = w->done;
    u->done_ctx = w->ctx;
    list_add_tail(&q->operators->waiting, &u->link);
    next_query(q);
}

void operator_init(struct qmgr *q)
{
    q->operators = mem_alloc(sizeof *q->operators);
    list_init(&q->operators->waiting);
    q->admin = admin_new(q->loop, commands, COUNT_OF(commands), q);
}

void operator_free(struct qmgr *q)
{
    while (!list_empty(&q->operators->waiting)) {
        struct query *u = container_of(q->operators->waiting.next, struct query, link);
        list_del(&u->link);
        query_free(u);
    }
    admin_free(&q->admin);
    mem_free(&q->operators);
}
