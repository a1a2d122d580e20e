#include "tally/guest.h"

#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/outcome.h"

void guests_open(struct guests *all, struct chan *tallyd, enum conf_protocol protocol)
{
    *all = (struct guests){.tallyd = tallyd, .protocol = protocol};
    list_init(&all->inside);
}

void guests_configure(struct guests *all, const struct conf *c)
{
    const struct conf_list *from = &c->limits.exempt;
    mem_free(&all->exempt);
    all->exempt = mem_array(from->n ? from->n : 1, sizeof *all->exempt);
    all->exempt_count = 0;
    for (size_t i = 0; i < from->n; i++)
        if (network_parse(span_of(from->items[i]), &all->exempt[all->exempt_count]))
            all->exempt_count++;
}

void guests_free(struct guests *all)
{
    mem_free(&all->exempt);
    all->exempt_count = 0;
}

/* ---- what tallyd is told ---- */

static void note(struct guest *g, bool came, bool gone, uint32_t errors, uint32_t refused)
{
    struct msg m = {.type = MSG_client_note};
    m.client_note = (struct msg_client_note){.client = g->client,
                                             .visit = g->visit,
                                             .protocol = (uint8_t)g->all->protocol,
                                             .came = came,
                                             .gone = gone,
                                             .messages = g->messages,
                                             .refused = refused - g->refused,
                                             .errors = errors - g->errors};
    chan_say(g->all->tallyd, &m, -1);
    g->messages = 0;
}

void guests_up(struct guests *all)
{
    all->silent = false;
    LIST_EACH(&all->inside, l)
    {
        struct guest *g = container_of(l, struct guest, link);
        note(g, true, false, g->errors, g->refused);
    }
}

static void go_inside(struct guest *g)
{
    list_add_tail(&g->all->inside, &g->link);
}

/* ---- the question ---- */

static void no_answer(struct guests *all, const char *why)
{
    if (!all->silent)
        LOGW("tally-silent", KVT("why", why), KVT("effect", "clients come in without a look at their limits"));
    all->silent = true;
}

/* Late: tallyd counts it when it gets to it. Gone: guests_up() tells the next one. */
static void on_verdict(void *ctx, struct chan *c UNUSED, enum chan_why why, const struct msg *m, int fd)
{
    struct guest *g = ctx;
    g->asked = 0;
    if (fd >= 0)
        close(fd);
    bool told = why == CHAN_ANSWERED && m->type == MSG_client_verdict;
    if (told)
        g->all->silent = false;
    else
        no_answer(g->all, why == CHAN_LATE ? "tallyd is late" : "tallyd went away");
    if (told && m->client_verdict.kind == OUTCOME_FAILED) {
        g->client = 0;
        g->fn(g, true, 0, m->client_verdict.why);
        return;
    }
    go_inside(g);
    if (told)
        g->room = MAX_OF(m->client_verdict.room, UINT32_C(1));
    g->fn(g, false, told ? m->client_verdict.slow : 0, SPAN(""));
}

bool guest_come(struct guests *all, struct guest *g, const struct sockaddr_storage *peer, guest_fn *fn)
{
    g->all = all;
    if (networks_have(all->exempt, all->exempt_count, peer))
        return true;
    g->client = client_key(peer);
    g->visit = ++all->visits;
    g->room = TALLY_ROOM;
    g->fn = fn;
    struct msg m = {.type = MSG_client_ask,
                    .client_ask = {.client = g->client, .visit = g->visit, .protocol = (uint8_t)all->protocol}};
    if (!chan_is_up(all->tallyd) || chan_full(all->tallyd)) {
        no_answer(all, chan_is_up(all->tallyd) ? "tallyd can't keep up" : "tallyd is away");
        go_inside(g);
        return true;
    }
    g->asked = chan_ask(all->tallyd, &m, -1, on_verdict, g);
    return false; /* the question is far below any limit of a message */
}

/* Without an answer it goes on as it did. */
static void on_pace(void *ctx, struct chan *c UNUSED, enum chan_why why, const struct msg *m, int fd)
{
    struct guest *g = ctx;
    g->asked = 0;
    if (fd >= 0)
        close(fd);
    if (why != CHAN_ANSWERED || m->type != MSG_client_verdict)
        return;
    const struct msg_client_verdict *v = &m->client_verdict;
    g->room = MAX_OF(v->room, UINT32_C(1));
    g->pace(g, v->kind == OUTCOME_FAILED, v->slow, v->wait, v->why);
}

static void tell(struct guest *g, uint32_t errors, uint32_t refused, guest_pace_fn *pace)
{
    if (!g->client || g->asked || !chan_is_up(g->all->tallyd) || chan_full(g->all->tallyd))
        return;
    struct msg m = {.type = MSG_client_more,
                    .client_more = {.client = g->client,
                                    .visit = g->visit,
                                    .protocol = (uint8_t)g->all->protocol,
                                    .messages = g->messages,
                                    .refused = refused - g->refused,
                                    .errors = errors - g->errors}};
    g->messages = 0;
    g->errors = errors;
    g->refused = refused;
    g->pace = pace;
    g->asked = chan_ask(g->all->tallyd, &m, -1, on_pace, g);
}

void guest_message(struct guest *g, guest_pace_fn *pace)
{
    if (++g->messages >= g->room)
        tell(g, g->errors, g->refused, pace);
}

void guest_faults(struct guest *g, uint32_t errors, uint32_t refused, guest_pace_fn *pace)
{
    if (errors - g->errors + refused - g->refused >= GUEST_FAULTS)
        tell(g, errors, refused, pace);
}

bool guest_is_counted(const struct guest *g)
{
    return g->client != 0;
}

/* Also for one that left while the question was open: tallyd knows by the visit's number whether it counted it. */
void guest_leave(struct guest *g, uint32_t errors, uint32_t refused)
{
    if (!g->client)
        return;
    if (g->asked)
        chan_forget(g->all->tallyd, g->asked);
    note(g, false, true, errors, refused);
    g->asked = g->errors = g->refused = 0;
    list_del(&g->link);
    g->client = 0;
}
