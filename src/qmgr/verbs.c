/* Operators' changes that can't be taken back: remove, bounce, redirect; and route, after which another host may have it. Of a single message
 * they are done at once; of what a filter finds only when it is said that this is meant (--yes), and --count tells beforehand how much it is.
 * And flush: everything is tried. */
#include "mail/address.h"
#include "qmgr/dests.h"
#include "qmgr/operator.h"
#include "qmgr/route.h"

/* Options of these verbs; the other arguments say which. */
struct verb {
    enum verdict verdict;
    bool yes, count;
    struct span reason, to;
    struct span which[ADMIN_ARGS_MAX];
    size_t n;
};

static void take_options(struct verb *v, const struct span *args, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (span_eqs(args[i], "--yes"))
            v->yes = true;
        else if (span_eqs(args[i], "--count"))
            v->count = true;
        else if (v->verdict == VERDICT_FAILED && span_eqs(args[i], "--reason") && i + 1 < n)
            v->reason = args[++i];
        else if (v->verdict == VERDICT_REDIRECTED && span_eqs(args[i], "--to") && i + 1 < n)
            v->to = args[++i];
        else
            v->which[v->n++] = args[i];
    }
}

static void count_item(struct query *u, const struct queue_item *i)
{
    if (!operator_concerns(u, i, u->counting))
        return;
    u->recipients++;
    if (u->shown_message != i->message.id)
        u->messages++;
    u->shown_message = i->message.id;
}

void operator_end_count(struct query *u)
{
    admin_number(u->call, "messages", u->messages);
    admin_number(u->call, "recipients", u->recipients);
    admin_row(u->call);
    admin_end(u->call, ADMIN_DONE, "%s", "");
}

/* The last word is where to, the others say which. */
static int take_host(struct verb *v, struct err *err)
{
    struct span to, host;
    uint16_t port = 0;
    if (v->n < 2)
        return err_set(err, "say which, and then HOST[:PORT] or none");
    to = v->which[--v->n];
    if (span_ieqs(to, "none"))
        return 0;
    v->to = to;
    return to.n > QUEUE_ROUTE_MAX ? err_set(err, "that is too long for a host") : conf_hostport_of(to, &host, &port, err);
}

static int take_words(struct verb *v, struct err *err)
{
    struct address to;
    if (v->verdict == VERDICT_ROUTED)
        return take_host(v, err);
    if (v->verdict == VERDICT_REDIRECTED && !v->count && !address_parse(v->to, &to))
        return err_set(err, v->to.n ? "\"%.*s\" is no address" : "say where to: --to ADDRESS%.*s", SPANV(v->to));
    return 0;
}

static void asked_about(struct qmgr *q, struct admin_call *c, const struct span *args, size_t n, enum verdict verdict)
{
    struct verb v = {.verdict = verdict};
    struct err err;
    take_options(&v, args, n);
    if (take_words(&v, &err)) {
        admin_end(c, ADMIN_USAGE, "%s", err.text);
        return;
    }
    struct query *u = operator_prepare(q, c, v.which, v.n, v.count ? count_item : operator_show_listed, v.count ? VERDICT_NONE : verdict, false);
    if (!u)
        return;
    if (!v.count && !v.yes && !u->filter.message) {
        operator_refuse(u, verdict == VERDICT_ROUTED ? "that may be much: --count says how much it is, --yes does it"
                                                     : "that can't be taken back: --count in its place says how much it is, --yes does it");
        return;
    }
    u->counting = v.count ? verdict : VERDICT_NONE;
    struct span text = verdict == VERDICT_FAILED ? v.reason : v.to;
    u->wish.text = text.n ? arena_dup(&u->arena, text) : SPAN("");
    operator_begin(u);
}

void verb_remove(void *ctx, struct admin_call *c, const struct span *args, size_t n)
{
    asked_about(ctx, c, args, n, VERDICT_REMOVED);
}

void verb_bounce(void *ctx, struct admin_call *c, const struct span *args, size_t n)
{
    asked_about(ctx, c, args, n, VERDICT_FAILED);
}

void verb_redirect(void *ctx, struct admin_call *c, const struct span *args, size_t n)
{
    asked_about(ctx, c, args, n, VERDICT_REDIRECTED);
}

void verb_route(void *ctx, struct admin_call *c, const struct span *args, size_t n)
{
    asked_about(ctx, c, args, n, VERDICT_ROUTED);
}

/* ---- flush ---- */

/* What waits on disk for a destination comes back by itself now that it is up; the rest becomes due. */
static void flush_rest(struct qmgr *q, struct admin_call *c, struct span dest)
{
    static const struct span all[] = {{"--all", 5}};
    struct query *u = operator_prepare(q, c, all, 1, operator_show_listed, VERDICT_RELEASED, false);
    struct span host;
    u->filter.state = QUEUE_WAITING;
    u->only_for_time = true;
    if (dest.n) {
        u->dest = arena_dup(&u->arena, dest);
        if (!hop_is_named(dest, &host))
            u->filter.domain = u->filter.canonical = u->dest;
    }
    pump_soon(q);
    operator_begin(u);
}

void verb_flush(void *ctx, struct admin_call *c, const struct span *args, size_t n)
{
    struct qmgr *q = ctx;
    struct dest_name name;
    char text[DEST_TEXT_MAX];
    size_t text_n;
    if (n == 0) {
        sched_all_up(&q->sched, SCHED_LOCAL, qmgr_wall(q));
        sched_all_up(&q->sched, SCHED_REMOTE, qmgr_wall(q));
        flush_rest(q, c, SPAN(""));
        return;
    }
    if (!dest_take(c, args[0], &name, text, &text_n))
        return;
    sched_up(&q->sched, name.class, name.name, qmgr_wall(q));
    if (name.class == SCHED_REMOTE) {
        flush_rest(q, c, span_make(text, text_n));
        return;
    }
    pump_soon(q);
    admin_end(c, ADMIN_DONE, "what waits for it is tried in its turn");
}
