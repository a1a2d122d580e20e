#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/outcome.h"
#include "tallyd/tallyd.h"

#define FRONTS_MAX 16    /* instances of one role */
#define VISITS_MAX 65536 /* of one front */

struct visit {
    uint64_t client;
    enum tally_kind kind;
    bool pressed; /* it was told to go slower, or to wait, and the log says so */
};

struct front {
    struct idmap visits;
};

struct visits {
    struct front fronts[4][FRONTS_MAX];
};

static enum tally_kind kind_of(unsigned protocol)
{
    return protocol == CONF_PROTOCOL_IMAP ? TALLY_IMAP : protocol == CONF_PROTOCOL_POP3 ? TALLY_POP3 : TALLY_SMTP;
}

static struct front *front_of(struct visits *v, struct chan *c)
{
    static const enum role roles[] = {ROLE_MX, ROLE_SUBMISSION, ROLE_IMAPD, ROLE_POP3D};
    for (size_t i = 0; i < COUNT_OF(roles); i++)
        if (chan_peer(c) == roles[i] && chan_instance(c) < FRONTS_MAX)
            return &v->fronts[i][chan_instance(c)];
    return NULL;
}

struct visits *visits_new(void)
{
    return mem_alloc(sizeof(struct visits));
}

static void front_clear(struct front *f, struct tally *t, int64_t now)
{
    uint64_t id;
    void *value;
    size_t at = 0;
    while (idmap_next(&f->visits, &at, &id, &value)) {
        struct visit *v = value;
        if (t)
            tally_leave(t, v->client, v->kind, now);
        mem_free(&v);
    }
    idmap_free(&f->visits);
}

void visits_free(struct visits **vp)
{
    for (size_t i = 0; *vp && i < COUNT_OF((*vp)->fronts); i++)
        for (size_t j = 0; j < FRONTS_MAX; j++)
            front_clear(&(*vp)->fronts[i][j], NULL, 0);
    mem_free(vp);
}

void visits_front_gone(struct tallyd *d, struct chan *c)
{
    struct front *f = front_of(d->visits, c);
    if (f)
        front_clear(f, d->tally, loop_now(d->loop));
}

static void begin(struct front *f, uint64_t id, uint64_t client, enum tally_kind kind)
{
    struct visit *v = mem_alloc(sizeof *v);
    *v = (struct visit){.client = client, .kind = kind};
    idmap_put(&f->visits, id, v);
}

static bool room_for(const struct front *f, uint64_t id)
{
    return f && id && f->visits.count < VISITS_MAX && !idmap_get(&f->visits, id);
}

static void answer(struct chan *to, uint64_t question, const struct tally_verdict *v)
{
    struct msg a = {.type = MSG_client_verdict,
                    .client_verdict = {.kind = v->refuse ? OUTCOME_FAILED : OUTCOME_DONE,
                                       .slow = v->refuse ? 0 : v->slow,
                                       .wait = v->wait,
                                       .room = v->room,
                                       .why = span_of(v->why)}};
    chan_answer(to, chan_epoch(to), question, &a, -1);
}

static void tell_log(const char *event, uint64_t client, struct chan *from, const struct tally_verdict *v)
{
    char who[CLIENT_TEXT_MAX];
    client_text(client, who);
    LOGI(event, KVT("client", who), KVT("front", role_name(chan_peer(from))), KVU("slow_ms", v->slow), KVT("why", v->why));
}

void visits_ask(struct tallyd *d, struct chan *from, const struct msg *m)
{
    const struct msg_client_ask *q = &m->client_ask;
    struct front *f = front_of(d->visits, from);
    struct tally_verdict v = {.room = TALLY_ROOM, .why = ""};
    if (room_for(f, q->visit)) {
        tally_come(d->tally, q->client, kind_of(q->protocol), loop_now(d->loop), &v);
        if (!v.refuse)
            begin(f, q->visit, q->client, kind_of(q->protocol));
        keeper_changed(d);
    }
    answer(from, m->id, &v);
    if (v.refuse || v.slow)
        tell_log(v.refuse ? "client-refused" : "client-slowed", q->client, from, &v);
}

/* Only what changes is logged: a client that is held back is asked about at every message. */
void visits_more(struct tallyd *d, struct chan *from, const struct msg *m)
{
    const struct msg_client_more *q = &m->client_more;
    struct front *f = front_of(d->visits, from);
    struct visit *visit = f ? idmap_get(&f->visits, q->visit) : NULL;
    struct tally_verdict v;
    const struct tally_done done = {q->messages, q->refused, q->errors};
    tally_more(d->tally, q->client, &done, loop_now(d->loop), &v);
    keeper_changed(d);
    answer(from, m->id, &v);
    bool pressed = v.refuse || v.slow;
    if (visit && pressed && !visit->pressed)
        tell_log(!v.refuse ? "client-slowed" : v.wait ? "client-held-back" : "client-refused", q->client, from, &v);
    if (visit)
        visit->pressed = pressed;
}

static void leave(struct tallyd *d, struct front *f, uint64_t id)
{
    struct visit *v = f ? idmap_del(&f->visits, id) : NULL;
    if (!v)
        return;
    tally_leave(d->tally, v->client, v->kind, loop_now(d->loop));
    mem_free(&v);
}

void visits_note(struct tallyd *d, struct chan *from, const struct msg *m)
{
    const struct msg_client_note *n = &m->client_note;
    struct front *f = front_of(d->visits, from);
    int64_t now = loop_now(d->loop);
    const struct {
        enum tally_what what;
        uint32_t n;
    } added[] = {{TALLY_MESSAGES, n->messages},
                 {TALLY_REFUSED, n->refused},
                 {TALLY_ERRORS, n->errors},
                 {TALLY_LOGINS, n->failed_logins}};
    if (n->came && room_for(f, n->visit)) {
        tally_here(d->tally, n->client, kind_of(n->protocol), now);
        begin(f, n->visit, n->client, kind_of(n->protocol));
    }
    for (size_t i = 0; i < COUNT_OF(added); i++)
        if (added[i].n)
            tally_add(d->tally, n->client, added[i].what, added[i].n, now);
    if (n->trusted)
        tally_trust(d->tally, n->client, now, loop_wall(d->loop));
    if (n->gone)
        leave(d, f, n->visit);
    keeper_changed(d);
}
