/* `waypost queue edit`: recipients of one message. All of them are read at once, however many there are; when everything that was said
 * makes sense, all of it is done in one turn of the loop, and so in one transaction. */
#include "base/mem.h"
#include "mail/address.h"
#include "qmgr/operator.h"

enum what { EDIT_ADD, EDIT_REMOVE, EDIT_REPLACE };

struct step {
    enum what what;
    struct span address, to;
    bool met; /* it is a recipient */
};

#define READ_SOME 100

struct edit {
    struct queue_message message;
    size_t rows, cap; /* recipients of it; room in the query's items */
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

/* On a pool thread. Of a message with many recipients only those that are meant are kept. */
static int keep(struct query *u, uint64_t recipient)
{
    struct edit *e = u->edit;
    if (u->count == e->cap) {
        e->cap = e->cap ? 2 * e->cap : 64;
        u->items = mem_resize(u->items, e->cap * sizeof *u->items);
    }
    struct queue_item *i = &u->items[u->count];
    i->message = e->message;
    int got = queue_read_recipient(u->q->operator_reader, e->message.id, recipient, &u->page, &i->recipient, &u->err);
    u->count += got == 0;
    return got < 0 ? -1 : 0;
}

void edit_read(struct query *u)
{
    struct edit *e = u->edit;
    struct arena row = {0};
    struct queue_recipient some[READ_SOME];
    size_t n = READ_SOME;
    uint64_t after = 0;
    u->count = e->rows = 0;
    for (size_t i = 0; i < e->n; i++)
        e->steps[i].met = false;
    u->error = queue_read_message(u->q->operator_reader, u->filter.message, false, &u->page, &e->message, &u->err);
    for (bool gone = u->error > 0; !u->error && !gone && n == READ_SOME; arena_reset(&row)) {
        u->error = queue_read_recipients(u->q->operator_reader, e->message.id, after, some, READ_SOME, &n, &row, &u->err);
        for (size_t i = 0; i < n && !u->error; i++) {
            struct step *s = step_for(e, &some[i]);
            after = some[i].id;
            e->rows++;
            if (s)
                s->met = true;
            if (s && s->what != EDIT_ADD)
                u->error = keep(u, after);
        }
    }
    if (u->error > 0)
        u->error = 0; /* it is gone */
    u->end = true;
    arena_free(&row);
}

/* NULL: it makes sense. */
static const struct step *nonsense(const struct edit *e)
{
    for (size_t i = 0; i < e->n; i++)
        if (e->steps[i].met == (e->steps[i].what == EDIT_ADD))
            return &e->steps[i];
    return NULL;
}

bool edit_makes_sense(struct query *u)
{
    const struct step *wrong = nonsense(u->edit);
    u->seen = u->edit->rows;
    if (u->error || u->seen == 0)
        return false;
    if (!wrong)
        return true;
    if (u->call)
        admin_end(u->call, ADMIN_NO_SUCH, wrong->what == EDIT_ADD ? "%.*s is a recipient of it already" : "%.*s is no recipient of it",
                  SPANV(wrong->address));
    u->call = NULL;
    return false;
}

void edit_add(struct query *u, settle_done_fn *fn)
{
    struct edit *e = u->edit;
    for (size_t i = 0; i < e->n; i++) {
        if (e->steps[i].what != EDIT_ADD)
            continue;
        u->pending++;
        u->changed++;
        settle_added(u->q, &e->message, e->steps[i].address, u->by, fn, u);
    }
}

void edit_wish(const struct query *u, const struct queue_recipient *r, struct wish *w)
{
    const struct step *s = step_for(u->edit, r);
    w->verdict = s->what == EDIT_REMOVE ? VERDICT_REMOVED : VERDICT_REDIRECTED;
    w->text = s->to;
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
    struct query *u = operator_prepare(ctx, c, args, 1, operator_show_listed, VERDICT_ADDED, false);
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
