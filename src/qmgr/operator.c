/* What operators see and do: list, show, why, retry, hold, release; what is asked about first is in verbs.c. The queue is read page by page on a pool
 * thread, each page with a snapshot of its own, so that a long listing delays nobody and holds nothing. A change goes
 * the way of every change: settle.c. */
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "qmgr/carry.h"
#include "qmgr/dests.h"
#include "qmgr/limits.h"
#include "qmgr/operator.h"
#include "qmgr/route.h"
#include "qmgr/trace.h"

#define PAGE 100
#define LOOK_MAX 5000 /* rows looked at for one page */
#define PENDING_MAX 2000 /* changes of a query on their way to the disk; with more the next page waits */

/* ---- changes ---- */

static bool applies(enum verdict v, uint8_t state)
{
    bool tried = state == QUEUE_WAITING || state == QUEUE_PARKED || state == QUEUE_PICKUP;
    switch (v) {
    case VERDICT_RELEASED:
    case VERDICT_HELD: return tried;
    case VERDICT_REMOVED:
    case VERDICT_FAILED:
    case VERDICT_REDIRECTED:
    case VERDICT_ADDED: /* an edit */
    case VERDICT_ROUTED: return state != QUEUE_EXPANDED;
    default: return false;
    }
}

static void query_end(struct query *u);
static void go_on(struct query *u);

static void on_changed(void *ctx, bool ok)
{
    struct query *u = ctx;
    u->failed += !ok;
    u->pending--;
    if (u->paused && u->pending <= PENDING_MAX / 2) {
        u->paused = false;
        go_on(u);
    } else if (u->pending == 0 && u->ended) {
        query_end(u);
    }
}

/* FUTURERELEASE: a retry of many does not hurry it, a release does. */
static bool held_by_sender(const struct qmgr *q, const struct queue_item *i)
{
    return i->recipient.state == QUEUE_WAITING && i->recipient.attempts == 0 &&
           i->message.hold_until > qmgr_wall(q) && i->recipient.next >= i->message.hold_until;
}

/* With what is on its way, or wanted already. */
static uint8_t state_of(const struct queue_recipient *row, const struct rcpt *r)
{
    return !r                                 ? row->state
           : r->wish.verdict == VERDICT_HELD     ? QUEUE_HELD
           : r->wish.verdict == VERDICT_RELEASED ? QUEUE_WAITING
                                                 : r->r.state;
}

static bool is_held(uint8_t state)
{
    return state == QUEUE_HELD || state == QUEUE_PARKED || state == QUEUE_PICKUP || state == QUEUE_LIMITED;
}

static bool still_held(const struct qmgr *q, const struct queue_item *i)
{
    struct outcome why;
    if (i->recipient.state == QUEUE_PICKUP)
        return policy_on_demand(q, i->recipient.address);
    return hold_stands(q, &i->message, &i->recipient, &why);
}

bool operator_concerns(const struct query *u, const struct queue_item *i, enum verdict v)
{
    return applies(v, state_of(&i->recipient, idmap_get(&u->q->rcpts, i->recipient.id)));
}

static bool concerns(const struct query *u, const struct queue_item *i, uint8_t state)
{
    if (u->only_for_time && i->recipient.destination.p)
        return false;
    if (u->only_freed && still_held(u->q, i))
        return false;
    bool later = held_by_sender(u->q, i);
    if (u->want_held)
        return is_held(state) || later;
    return applies(u->verdict, state) && !(u->verdict == VERDICT_RELEASED && later);
}

/* Its destination is down no longer: the one that it waits for, or its domain. Which account an address leads to is known
 * at its attempt only; one that is in vain costs little there. */
static void lift(struct query *u, const struct queue_recipient *row)
{
    struct qmgr *q = u->q;
    struct dest_name d;
    struct hop hop;
    if (row->destination.p && dest_parse(row->destination, &d))
        sched_up(&q->sched, d.class, d.name, qmgr_wall(q));
    hop_of_row(q->conf, row, &hop);
    sched_up(&q->sched, SCHED_REMOTE, span_make(hop.name, hop.n), qmgr_wall(q));
    if (u->by && !u->lifted)
        sched_all_up(&q->sched, SCHED_LOCAL, qmgr_wall(q));
    u->lifted = true;
}

static void change(struct query *u, const struct queue_item *i)
{
    struct qmgr *q = u->q;
    struct rcpt *r = idmap_get(&q->rcpts, i->recipient.id);
    struct queue_item item = *i;
    uint8_t state = state_of(&i->recipient, r);
    uint8_t *passed = r ? &r->r.passed : &item.recipient.passed;
    bool coming = true;
    struct wish wish = u->wish;
    if (!concerns(u, i, state))
        return;
    if (u->edit)
        edit_wish(u, &i->recipient, &wish);
    if (wish.verdict == VERDICT_REDIRECTED && i->recipient.depth >= DEPTH_MAX) {
        u->too_deep++;
        return;
    }
    if (u->verdict == VERDICT_RELEASED) {
        lift(u, &i->recipient);
        if (u->want_held && state == QUEUE_PARKED)
            *passed |= QUEUE_PASSED | QUEUE_PASSED_RULES;
        if ((u->want_held || u->pass) && state == QUEUE_PICKUP)
            *passed |= QUEUE_PASSED;
    }
    u->pending++;
    if (!r)
        settle_item(q, &item, &wish, on_changed, u);
    else if (!settle_active(r, &wish, on_changed, u, &coming))
        coming = false, u->changed--;
    u->changed++;
    if (!coming)
        u->pending--;
}

/* ---- pages ---- */

static void page_run(void *ctx)
{
    struct query *u = ctx;
    u->last.rest = u->at.rest;
    if (u->edit)
        edit_read(u);
    else
        u->error = queue_read_page(u->q->operator_reader, &u->filter, &u->at, LOOK_MAX, u->items, PAGE, &u->count, &u->end,
                                   &u->page, &u->err);
}

static void query_free(struct query *u)
{
    list_del(&u->known);
    arena_free(&u->page);
    arena_free(&u->arena);
    buf_free(&u->on_end_name);
    edit_free(&u->edit);
    mem_free(&u->items);
    mem_free(&u);
}

static void look(struct query *u);

static void next_query(struct qmgr *q)
{
    struct operator_jobs *o = q->operators;
    if (o->running || list_empty(&o->waiting) || q->draining)
        return;
    struct query *u = container_of(o->waiting.next, struct query, link);
    list_del(&u->link);
    look(u);
}

static void ask_page(struct query *u)
{
    list_add_tail(&u->q->operators->waiting, &u->link);
    next_query(u->q);
}

static void query_end(struct query *u)
{
    if (u->q->stopping) { /* who would be told is gone */
        query_free(u);
        return;
    }
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
    else if (u->call && u->counting)
        operator_end_count(u);
    else if (u->call && u->too_deep)
        admin_end(u->call, ADMIN_DONE, "%u recipient%s; %u led from address to address %d times already, and stay", u->changed,
                  u->changed == 1 ? "" : "s", u->too_deep, DEPTH_MAX);
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

static void on_more(void *ctx, struct admin_call *call UNUSED)
{
    ask_page(ctx);
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
    const struct sched_dest *d;
    struct hop hop;
    if (!u->dest.n)
        return true;
    hop_of_row(u->q->conf, r, &hop);
    if (span_eq(span_make(hop.name, hop.n), u->dest))
        return hop_is_likely(r, &hop);
    d = sched_find(&u->q->sched, SCHED_REMOTE, u->dest);
    return u->filter.domain.n && d && d->suspended; /* a domain is its own destination then */
}

/* The next page, when the operator has room for it, and what is being changed is not too much already. */
static void go_on(struct query *u)
{
    if (u->error || u->end || u->cut || (u->call && admin_gone(u->call)))
        finished(u);
    else if (u->pending > PENDING_MAX)
        u->paused = true;
    else if (u->call)
        go_on_later(u);
    else
        ask_page(u);
}

/* A recipient that left memory while the page was read may have been written since: it is read again, with all behind
 * it. */
static bool stale(const struct query *u, const struct queue_item *i)
{
    return u->verdict != VERDICT_NONE && idmap_get(&u->q->operators->gone, i->recipient.id) != NULL;
}

static void take_item(struct query *u, const struct queue_item *i)
{
    if ((u->before && i->recipient.last >= u->before) || !goes_there(u, &i->recipient))
        return;
    u->cut = u->limit && u->seen >= u->limit;
    if (u->cut)
        return;
    u->seen++;
    u->last.message = i->message.id;
    u->last.recipient = i->recipient.id;
    if (u->verdict == VERDICT_NONE)
        u->show(u, i);
    else
        change(u, i);
}

/* All of it in this turn, or none of it. */
static void take_edit(struct query *u)
{
    for (size_t i = 0; i < u->count && u->end; i++)
        u->end = !stale(u, &u->items[i]);
    if (!u->end || (u->call && admin_gone(u->call)) || !edit_makes_sense(u))
        return; /* read again, or over */
    edit_add(u, on_changed);
    for (size_t i = 0; i < u->count; i++)
        change(u, &u->items[i]);
}

static void take_page(struct query *u)
{
    for (size_t i = 0; i < u->count && !u->cut; i++) {
        const struct queue_item *item = &u->items[i];
        if (stale(u, item)) {
            u->at.message = item->message.id;
            u->at.recipient = item->recipient.id - 1;
            u->at.rest = u->last.rest;
            u->end = false;
            break;
        }
        take_item(u, item);
    }
}

static void page_done(void *ctx)
{
    struct query *u = ctx;
    struct qmgr *q = u->q;
    q->operators->running = false;
    if (u->edit)
        take_edit(u);
    else
        take_page(u);
    idmap_free(&q->operators->gone);
    arena_reset(&u->page);
    u->cut |= u->limit && u->seen >= u->limit && u->verdict != VERDICT_NONE; /* who lists asks whether there are more */
    go_on(u);
    next_query(q);
    qmgr_quiet(q);
}

static void look(struct query *u)
{
    u->q->operators->running = true;
    loop_work(u->q->loop, page_run, page_done, u);
}

void operator_note_gone(struct qmgr *q, uint64_t rcpt)
{
    if (q->operators && q->operators->running)
        idmap_put(&q->operators->gone, rcpt, q);
}

static struct query *query_new(struct qmgr *q, struct admin_call *call)
{
    struct query *u = mem_alloc(sizeof *u);
    u->q = q;
    u->call = call;
    u->by = u->wish.by = call ? (int64_t)admin_uid(call) + 1 : 0;
    u->items = mem_array(PAGE, sizeof *u->items);
    list_init(&u->link);
    list_add_tail(&q->operators->all, &u->known);
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

static bool take_domain(struct query *u, struct span domain)
{
    char room[ADDRESS_DOMAIN_MAX + 1];
    u->filter.domain = arena_dup(&u->arena, canonical_domain(domain, room));
    return domain.n > 0;
}

/* One option with its value, or a queue id. False: not understood. */
static bool take_option(struct query *u, struct span key, struct span value)
{
    struct span *text = span_eqs(key, "--sender")      ? &u->filter.sender
                        : span_eqs(key, "--recipient") ? &u->filter.recipient
                                                       : NULL;
    uint64_t n;
    if (text) {
        *text = arena_dup(&u->arena, value);
        return value.n > 0;
    }
    if (span_eqs(key, "--domain"))
        return take_domain(u, value);
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
        return take_domain(u, word);
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

void operator_refuse(struct query *u, const char *why)
{
    admin_end(u->call, ADMIN_USAGE, "%s", why);
    u->call = NULL;
    query_free(u);
}

struct query *operator_prepare(struct qmgr *q, struct admin_call *call, const struct span *args, size_t n, show_fn *show,
                           enum verdict v, bool want_held)
{
    struct query *u = query_new(q, call);
    u->show = show;
    u->verdict = u->wish.verdict = v;
    u->want_held = want_held;
    const char *wrong = !take_args(u, args, n)
                            ? "not understood: an ID, ADDRESS, DOMAIN, --id ID, --sender ADDRESS, --recipient ADDRESS, "
                              "--domain NAME, --state STATE, --older TIME, --newer TIME, --larger SIZE, --smaller SIZE, "
                              "--limit N, --after PLACE or --all"
                        : (v != VERDICT_NONE || show != operator_show_listed) && !narrowed(u)
                            ? "say which: an ID, a filter, or --all"
                            : NULL;
    if (!wrong)
        return u;
    operator_refuse(u, wrong);
    return NULL;
}

void operator_begin(struct query *u)
{
    ask_page(u);
}

/* NULL: it was answered already. */
static struct query *start(struct qmgr *q, struct admin_call *call, const struct span *args, size_t n, show_fn *show,
                           enum verdict v, bool want_held)
{
    struct query *u = operator_prepare(q, call, args, n, show, v, want_held);
    if (u)
        ask_page(u);
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
    {"queue remove", WHICH " [--count | --yes]", 1, ADMIN_ARGS_MAX, verb_remove},
    {"queue bounce", WHICH " [--reason TEXT] [--count | --yes]", 1, ADMIN_ARGS_MAX, verb_bounce},
    {"queue redirect", WHICH " --to ADDRESS [--count | --yes]", 1, ADMIN_ARGS_MAX, verb_redirect},
    {"queue edit", "ID (--add ADDRESS | --remove ADDRESS | --replace ADDRESS ADDRESS)…", 3, ADMIN_ARGS_MAX, edit_command},
    {"queue flush", "[DEST]", 0, 1, verb_flush},
    {"queue route", WHICH " HOST[:PORT]|none [--count | --yes]", 2, ADMIN_ARGS_MAX, verb_route},
    {"queue stats", "[--by destination|domain|sender|state] [--limit N]", 0, 4, stats_command},
    {"queue sample", NULL, 0, 0, top_sample},
    {"queue verify", "[--repair]", 0, 1, verify_command},
    {"queue export", "FILE [--move [--wait TIME]] [WHICH...]", 0, ADMIN_ARGS_MAX, export_command},
    {"queue export --db", "FILE", 0, 0, copy_command},
    {"queue import", "FILE", 0, 0, import_command},
    {"queue sql", "SELECT [--limit N]", 1, 3, sql_command},
    {"trace", "ADDRESS|ID|MESSAGE-ID [--since TIME] [--limit N]", 1, 7, trace_command},
};

int operator_filter(struct qmgr *q, const struct span *args, size_t n, struct queue_filter *out, struct arena *a)
{
    struct query *u = query_new(q, NULL);
    bool good = take_args(u, args, n) && !u->limit && !u->at.message;
    struct queue_filter *f = &u->filter;
    f->sender = arena_dup(a, f->sender);
    f->recipient = arena_dup(a, f->recipient);
    f->domain = arena_dup(a, f->domain);
    f->either = arena_dup(a, f->either);
    f->canonical = SPAN_NONE; /* each message once, and in the order of ids */
    *out = *f;
    query_free(u);
    return good ? 0 : -1;
}

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
    u->verdict = u->wish.verdict = VERDICT_RELEASED;
    u->on_end = fn;
    buf_add(&u->on_end_name, destination);
    ask_page(u);
}

static void release_freed(struct qmgr *q, uint8_t state)
{
    struct query *u = query_new(q, NULL);
    u->filter.state = state;
    u->only_freed = true;
    u->verdict = u->wish.verdict = VERDICT_RELEASED;
    ask_page(u);
}

void operator_release_freed(struct qmgr *q)
{
    release_freed(q, QUEUE_PARKED);
    release_freed(q, QUEUE_PICKUP);
}

void operator_account(struct qmgr *q, uint32_t account, uint8_t state, enum verdict v, int64_t by,
                      void (*done)(void *ctx, unsigned seen, unsigned changed, bool error), void *ctx)
{
    struct query *u = query_new(q, NULL);
    u->filter.account = account;
    u->filter.state = state;
    u->verdict = u->wish.verdict = v;
    u->want_held = v == VERDICT_RELEASED;
    u->by = u->wish.by = by;
    u->done = done;
    u->done_ctx = ctx;
    ask_page(u);
}

void operator_pull(struct qmgr *q, const struct pull_query *w)
{
    struct query *u = query_new(q, NULL);
    u->filter.waits = arena_dup(&u->arena, w->domain);
    u->filter.state = w->state;
    u->limit = w->limit;
    u->show = w->show;
    u->verdict = u->wish.verdict = w->change ? VERDICT_RELEASED : VERDICT_NONE;
    u->pass = w->pass;
    u->before = w->before;
    u->done = w->done;
    u->done_ctx = w->ctx;
    ask_page(u);
}

void operator_init(struct qmgr *q)
{
    q->operators = mem_alloc(sizeof *q->operators);
    list_init(&q->operators->waiting);
    list_init(&q->operators->all);
    q->admin = admin_new(q->loop, commands, COUNT_OF(commands), q);
}

/* A query with changes on their way ends when these have: the queue is closed behind this. */
void operator_free(struct qmgr *q)
{
    admin_free(&q->admin);
    LIST_EACH(&q->operators->all, l)
    {
        struct query *u = container_of(l, struct query, known);
        bool idle = list_linked(&u->link) && u->pending == 0;
        u->ended = true;
        u->paused = false;
        list_del(&u->link);
        list_del(&u->known);
        if (idle)
            query_free(u);
    }
    idmap_free(&q->operators->gone);
    mem_free(&q->operators);
}
