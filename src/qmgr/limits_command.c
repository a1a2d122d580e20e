/* What operators see and do about limited accounts. */
#include "base/mem.h"
#include "qmgr/limits.h"

/* How much of each is held, counted on a pool thread. */
struct counting {
    struct qmgr *q;
    struct admin_call *call;
    uint32_t only; /* how much of that account; 0: who is limited */
    struct idmap counts; /* account → struct count */
    bool failed;
    struct err err;
};

struct count {
    uint64_t messages, recipients;
};

static void on_count(void *ctx, uint32_t account, uint64_t messages, uint64_t recipients)
{
    struct counting *k = ctx;
    struct count *c = mem_alloc(sizeof *c);
    *c = (struct count){messages, recipients};
    idmap_put(&k->counts, account, c);
}

static void count_run(void *ctx)
{
    struct counting *k = ctx;
    k->failed = queue_count_limited(k->q->limits->reader, on_count, k, &k->err) != 0;
}

/* What `account held discard` would delete. */
static void show_count(const struct counting *k)
{
    const struct count *c = idmap_get(&k->counts, k->only);
    admin_number(k->call, "messages", c ? c->messages : 0);
    admin_number(k->call, "recipients", c ? c->recipients : 0);
    admin_row(k->call);
}

static void show(const struct counting *k, const struct limited *w)
{
    static const char *const states[] = {
        [LIMITS_HELD] = "held", [LIMITS_RELEASING] = "being released", [LIMITS_DISCARDING] = "being discarded"};
    const struct count *c = idmap_get(&k->counts, w->account);
    admin_text(k->call, "account", span_of(w->login));
    admin_number(k->call, "id", w->account);
    admin_text(k->call, "state", span_of(states[w->ending]));
    admin_time(k->call, "since", w->since);
    admin_number(k->call, "messages", c ? c->messages : 0);
    admin_number(k->call, "recipients", c ? c->recipients : 0);
    admin_text(k->call, "why", span_of(w->reason));
    admin_row(k->call);
}

static void count_done(void *ctx)
{
    struct counting *k = ctx;
    struct qmgr *q = k->q;
    uint64_t account;
    void *v;
    q->limits->counting = false;
    for (size_t at = 0; !k->failed && !k->only && idmap_next(&q->limits->limited, &at, &account, &v);)
        show(k, v);
    if (k->only && !k->failed)
        show_count(k);
    admin_end(k->call, k->failed ? ADMIN_FAILED : ADMIN_DONE, "%s", k->failed ? k->err.text : "");
    for (size_t at = 0; idmap_next(&k->counts, &at, &account, &v);)
        mem_free(&v);
    idmap_free(&k->counts);
    mem_free(&k);
    qmgr_quiet(q);
}

static void count(struct qmgr *q, struct admin_call *call, uint32_t only)
{
    if (q->limits->counting || q->draining) {
        admin_end(call, ADMIN_LATER, "somebody else is asking just now");
        return;
    }
    struct counting *k = mem_alloc(sizeof *k);
    k->q = q;
    k->call = call;
    k->only = only;
    q->limits->counting = true;
    loop_work(q->loop, count_run, count_done, k);
}

void limits_list(void *ctx, struct admin_call *call, const struct span *args UNUSED, size_t nargs UNUSED)
{
    count(ctx, call, 0);
}

static struct limited *find(struct qmgr *q, struct span name)
{
    uint64_t id, account;
    void *v;
    if (span_u64(name, UINT32_MAX, &id))
        return limits_of(q, (uint32_t)id);
    for (size_t at = 0; idmap_next(&q->limits->limited, &at, &account, &v);)
        if (span_ieq(span_of(((struct limited *)v)->login), name))
            return v;
    return NULL;
}

/* NULL: it was answered. */
static struct limited *held(struct qmgr *q, struct admin_call *call, struct span name)
{
    struct limited *w = find(q, name);
    if (w && w->stored)
        return w;
    admin_end(call, ADMIN_NO_SUCH, "no mail of %.*s is held", SPANV(span_sub(name, 0, 320)));
    return NULL;
}

static void end(struct qmgr *q, struct admin_call *call, struct span name, enum limits_ending how)
{
    struct limited *w = held(q, call, name);
    if (!w)
        return;
    if (q->draining || w->busy)
        admin_end(call, ADMIN_LATER, "its mail is on its way already");
    else if (w->ending && w->ending != how)
        admin_end(call, ADMIN_FAILED, w->ending == LIMITS_RELEASING ? "it is being released: say that again"
                                                                   : "it is being discarded: say that again");
    else
        limits_end(w, how, call);
}

void limits_release(void *ctx, struct admin_call *call, const struct span *args, size_t nargs UNUSED)
{
    end(ctx, call, args[0], LIMITS_RELEASING);
}

void limits_discard(void *ctx, struct admin_call *call, const struct span *args, size_t nargs)
{
    const struct limited *w;
    if (nargs == 2 && span_eqs(args[1], "--yes"))
        end(ctx, call, args[0], LIMITS_DISCARDING);
    else if (nargs < 2 || !span_eqs(args[1], "--count"))
        admin_end(call, ADMIN_USAGE, "that can't be taken back: --count behind the address says how much it is, --yes does it");
    else if ((w = held(ctx, call, args[0])) != NULL)
        count(ctx, call, w->account);
}
