/* `waypost queue edit`: recipients of one message. A first walk over them sees that everything that was said makes sense, a second one
 * does it; what is in one page of it is one transaction. */
#include "base/mem.h"
#include "mail/address.h"
#include "qmgr/operator.h"

enum what { EDIT_ADD, EDIT_REMOVE, EDIT_REPLACE };

struct step {
    enum what what;
    struct span address, to;
    bool met; /* it is a recipient */
};

struct edit {
    bool doing, added;
    size_t n;
    struct step steps[ADMIN_ARGS_MAX];
};

static bool same(struct span a, struct span b)
{
    struct address_key x, y;
    return address_key(a, &x) && address_key(b, &y) && span_eq(address_key_span(&x), address_key_span(&y));
}

static struct step *step_for(struct edit *e, const struct queue_recipient *r)
{
    for (size_t i = 0; i < e->n && r->state != QUEUE_EXPANDED; i++)
        if (same(e->steps[i].address, r->address) || (e->steps[i].what != EDIT_ADD && same(e->steps[i].address, r->original)))
            return &e->steps[i];
    return NULL;
}

static void look(struct query *u, const struct queue_item *i)
{
    struct step *s = step_for(u->edit, &i->recipient);
    if (s)
        s->met = true;
}

/* NULL: it makes sense. */
static const struct step *nonsense(const struct edit *e)
{
    for (size_t i = 0; i < e->n; i++)
        if (e->steps[i].met == (e->steps[i].what == EDIT_ADD))
            return &e->steps[i];
    return NULL;
}

bool edit_goes_on(struct query *u)
{
    if (!u->edit || u->edit->doing || u->error || u->seen == 0)
        return false;
    const struct step *wrong = nonsense(u->edit);
    if (wrong) {
        admin_end(u->call, ADMIN_NO_SUCH, wrong->what == EDIT_ADD ? "%.*s is a recipient of it already" : "%.*s is no recipient of it",
                  SPANV(wrong->address));
        u->call = NULL;
        return false;
    }
    u->edit->doing = true;
    u->verdict = VERDICT_ADDED;
    u->at = (struct queue_place){0};
    u->seen = 0;
    u->end = u->ended = false;
    return true;
}

void edit_add(struct query *u, const struct queue_message *m, settle_done_fn *fn)
{
    struct edit *e = u->edit;
    for (size_t i = 0; i < e->n && !e->added; i++) {
        if (e->steps[i].what != EDIT_ADD)
            continue;
        u->pending++;
        u->changed++;
        settle_added(u->q, m, e->steps[i].address, u->by, fn, u);
    }
    e->added = true;
}

bool edit_wish(struct query *u, const struct queue_recipient *r, struct wish *w)
{
    const struct step *s = step_for(u->edit, r);
    if (!s || s->what == EDIT_ADD)
        return false;
    w->verdict = s->what == EDIT_REMOVE ? VERDICT_REMOVED : VERDICT_REDIRECTED;
    w->text = s->to;
    return true;
}

void edit_free(struct edit **e)
{
    mem_free(e);
}

static bool is_address(struct span s)
{
    struct address a;
    return address_parse(s, &a);
}

/* One option with its addresses; how many words it takes, 0: it is none. */
static size_t take(struct query *u, struct edit *e, const struct span *args, size_t n)
{
    static const struct {
        const char *option;
        size_t words;
    } options[] = {[EDIT_ADD] = {"--add", 2}, [EDIT_REMOVE] = {"--remove", 2}, [EDIT_REPLACE] = {"--replace", 3}};
    for (size_t i = 0; i < COUNT_OF(options); i++) {
        if (!span_eqs(args[0], options[i].option))
            continue;
        if (n < options[i].words || !is_address(args[1]) || (i == EDIT_REPLACE && !is_address(args[2])))
            return 0;
        struct step *s = &e->steps[e->n++];
        *s = (struct step){.what = (enum what)i, .address = arena_dup(&u->arena, args[1])};
        s->to = i == EDIT_REPLACE ? arena_dup(&u->arena, args[2]) : SPAN("");
        return options[i].words;
    }
    return 0;
}

void edit_command(void *ctx, struct admin_call *c, const struct span *args, size_t n)
{
    struct query *u = operator_prepare(ctx, c, args, 1, look, VERDICT_NONE, false);
    if (!u)
        return;
    struct edit *e = u->edit = mem_alloc(sizeof *e);
    size_t at = 1, words = 1;
    for (; at < n && words; at += words)
        words = take(u, e, args + at, n - at);
    if (!u->filter.message || !words || !e->n)
        operator_refuse(u, "not understood: an ID, and --add ADDRESS, --remove ADDRESS or --replace ADDRESS ADDRESS, one or several times");
    else
        operator_begin(u);
}
