#include "tally/tally.h"

#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"

struct entry {
    struct link age;     /* in plain or marked, the one seen last at the end; in none while sessions are open */
    struct link changed; /* since it was taken last */
    uint64_t client;
    int64_t seen;    /* now */
    int64_t trusted; /* wall */
    float level[TALLY_WHATS];
    uint32_t here[TALLY_KINDS], turned_away;
    bool marked; /* it has done what is worth remembering */
    bool kept;   /* there is a row of it */
};

struct tally {
    struct tally_limits limits;
    struct idmap clients;
    struct link plain, marked, changed;
};

/* What a client is told, in the order of tally_what. */
static const char *const reasons[TALLY_WHATS] = {
    [TALLY_CONNECTIONS + TALLY_SMTP] = "Too many connections from your address, try again later",
    [TALLY_CONNECTIONS + TALLY_IMAP] = "Too many connections from your address, try again later",
    [TALLY_CONNECTIONS + TALLY_POP3] = "Too many connections from your address, try again later",
    [TALLY_MESSAGES] = "Too many messages from your address, try again later",
    [TALLY_REFUSED] = "Too many wrong recipients from your address, try again later",
    [TALLY_ERRORS] = "Too many errors from your address, try again later",
    [TALLY_LOGINS] = "Too many failed logins from your address, try again later",
};
static const char *const too_many_at_once = "Too many connections from your address at a time";

struct tally *tally_new(const struct tally_limits *limits)
{
    struct tally *t = mem_alloc(sizeof *t);
    list_init(&t->plain);
    list_init(&t->marked);
    list_init(&t->changed);
    t->limits = *limits;
    return t;
}

void tally_configure(struct tally *t, const struct tally_limits *limits)
{
    t->limits = *limits;
}

static void entry_free(struct tally *t, struct entry *e)
{
    list_del(&e->age);
    list_del(&e->changed);
    idmap_del(&t->clients, e->client);
    mem_free(&e);
}

void tally_free(struct tally **tp)
{
    struct tally *t = *tp;
    uint64_t id;
    void *value;
    size_t at = 0;
    if (!t)
        return;
    while (idmap_next(&t->clients, &at, &id, &value))
        mem_free(&value);
    idmap_free(&t->clients);
    mem_free(tp);
}

/* ---- levels ---- */

static double leaked(const struct tally *t, const struct entry *e, enum tally_what what, int64_t now)
{
    const struct tally_limit *l = &t->limits.of[what];
    double passed = (double)MAX_OF(now - e->seen, (int64_t)0);
    if (!l->most || l->window <= 0)
        return 0;
    double level = (double)e->level[what] - (double)l->most * passed / (double)l->window;
    return level > 0 ? level : 0;
}

static bool anyone_here(const struct entry *e)
{
    for (size_t i = 0; i < TALLY_KINDS; i++)
        if (e->here[i])
            return true;
    return false;
}

/* Worth a row, and worth remembering when room is scarce. */
static bool is_marked(const struct tally *t, const struct entry *e)
{
    if (e->trusted || e->level[TALLY_REFUSED] >= 1 || e->level[TALLY_ERRORS] >= 1 || e->level[TALLY_LOGINS] >= 1)
        return true;
    for (size_t i = 0; i < TALLY_REFUSED; i++)
        if (t->limits.of[i].most && e->level[i] > (float)t->limits.of[i].most / 10)
            return true;
    return false;
}

static void file_away(struct tally *t, struct entry *e)
{
    e->marked = is_marked(t, e);
    list_del(&e->age);
    if (!anyone_here(e))
        list_add_tail(e->marked ? &t->marked : &t->plain, &e->age);
    if ((e->marked || e->kept) && !list_linked(&e->changed))
        list_add_tail(&t->changed, &e->changed);
}

static void make_room(struct tally *t)
{
    while (t->clients.count >= t->limits.clients) {
        struct link *from = list_empty(&t->plain) ? &t->marked : &t->plain;
        if (list_empty(from))
            return; /* all of them are here */
        entry_free(t, container_of(from->next, struct entry, age));
    }
}

/* The client as of now. */
static struct entry *touch(struct tally *t, uint64_t client, int64_t now)
{
    struct entry *e = idmap_get(&t->clients, client);
    if (!e) {
        make_room(t);
        e = mem_alloc(sizeof *e);
        e->client = client;
        idmap_put(&t->clients, client, e);
    } else {
        for (size_t i = 0; i < TALLY_WHATS; i++)
            e->level[i] = (float)leaked(t, e, (enum tally_what)i, now);
    }
    e->seen = now;
    return e;
}

/* ---- verdicts ---- */

/* Nothing up to half of what is allowed, then slower and slower, then no more. */
static void ramp(const struct tally *t, double level, double most, const char *why, struct tally_verdict *v)
{
    if (level > most) {
        *v = (struct tally_verdict){.refuse = true, .why = why};
        return;
    }
    double beyond = level / most * 2 - 1;
    uint32_t slow = beyond > 0 ? (uint32_t)(beyond * t->limits.tarpit) : 0;
    if (slow > v->slow)
        *v = (struct tally_verdict){.slow = slow, .why = why};
}

static void weigh(const struct tally *t, const struct entry *e, enum tally_what what, double more,
                  struct tally_verdict *v)
{
    double most = t->limits.of[what].most;
    if (most <= 0 || v->refuse || (what == TALLY_LOGINS && e->trusted))
        return;
    ramp(t, (double)e->level[what] + more, most, reasons[what], v);
}

/* Half of what is left of the limit, so that sessions beside each other do not run far past it. */
static uint32_t room(const struct tally *t, const struct entry *e)
{
    double most = t->limits.of[TALLY_MESSAGES].most, left = (most - (double)e->level[TALLY_MESSAGES]) / 2;
    return most <= 0 || left >= TALLY_ROOM ? TALLY_ROOM : left > 1 ? (uint32_t)left : 1;
}

static void judge(const struct tally *t, const struct entry *e, enum tally_kind kind, struct tally_verdict *v)
{
    *v = (struct tally_verdict){.why = ""};
    if (t->limits.sessions[kind])
        ramp(t, (double)e->here[kind] + 1, t->limits.sessions[kind], too_many_at_once, v);
    weigh(t, e, (enum tally_what)(TALLY_CONNECTIONS + kind), 1, v);
    for (size_t i = TALLY_MESSAGES; i < TALLY_WHATS; i++)
        weigh(t, e, (enum tally_what)i, 1, v);
}

void tally_come(struct tally *t, uint64_t client, enum tally_kind kind, int64_t now, struct tally_verdict *v)
{
    struct entry *e = touch(t, client, now);
    judge(t, e, kind, v);
    if (v->refuse) {
        e->turned_away++;
    } else {
        e->level[TALLY_CONNECTIONS + kind] += t->limits.of[TALLY_CONNECTIONS + kind].most ? 1 : 0;
        e->here[kind]++;
    }
    v->room = room(t, e);
    file_away(t, e);
}

void tally_here(struct tally *t, uint64_t client, enum tally_kind kind, int64_t now)
{
    struct entry *e = touch(t, client, now);
    e->here[kind]++;
    file_away(t, e);
}

void tally_leave(struct tally *t, uint64_t client, enum tally_kind kind, int64_t now)
{
    struct entry *e = touch(t, client, now);
    e->here[kind] -= e->here[kind] ? 1 : 0;
    file_away(t, e);
}

/* No higher than twice the limit: what is over it takes one more window to leak away, not days. */
void tally_add(struct tally *t, uint64_t client, enum tally_what what, uint32_t n, int64_t now)
{
    float most = (float)t->limits.of[what].most;
    struct entry *e = touch(t, client, now);
    e->level[what] = MIN_OF(e->level[what] + (float)n, most * 2);
    file_away(t, e);
}

/* How long it takes until one message more fits, ms. */
static uint32_t until_room(const struct tally *t, const struct entry *e)
{
    const struct tally_limit *l = &t->limits.of[TALLY_MESSAGES];
    double over = (double)e->level[TALLY_MESSAGES] + 1 - (double)l->most;
    double wait = over * (double)l->window / (double)l->most + 1;
    return wait < UINT32_MAX ? (uint32_t)wait : UINT32_MAX;
}

void tally_more(struct tally *t, uint64_t client, const struct tally_done *done, int64_t now, struct tally_verdict *v)
{
    tally_add(t, client, TALLY_MESSAGES, done->messages, now);
    tally_add(t, client, TALLY_REFUSED, done->refused, now);
    tally_add(t, client, TALLY_ERRORS, done->errors, now);
    struct entry *e = touch(t, client, now);
    *v = (struct tally_verdict){.why = ""};
    weigh(t, e, TALLY_REFUSED, 1, v);
    weigh(t, e, TALLY_ERRORS, 1, v);
    bool leaves = v->refuse;
    weigh(t, e, TALLY_MESSAGES, 1, v);
    v->wait = v->refuse && !leaves ? until_room(t, e) : 0;
    v->room = room(t, e);
    file_away(t, e);
}

void tally_trust(struct tally *t, uint64_t client, int64_t now, int64_t wall)
{
    struct entry *e = touch(t, client, now);
    e->trusted = wall;
    file_away(t, e);
}

bool tally_forget(struct tally *t, uint64_t client, int64_t now)
{
    struct entry *e = idmap_get(&t->clients, client);
    if (!e)
        return false;
    memset(e->level, 0, sizeof e->level);
    e->turned_away = 0;
    e->trusted = 0;
    e->seen = now;
    file_away(t, e);
    if (!anyone_here(e) && !e->kept)
        entry_free(t, e);
    return true;
}

/* ---- looking ---- */

static int64_t trusted_still(const struct entry *e, int64_t wall)
{
    return e->trusted && wall - e->trusted < TALLY_TRUST_MS ? e->trusted : 0;
}

bool tally_look(struct tally *t, uint64_t client, int64_t now, int64_t wall, struct tally_view *view)
{
    struct entry *e = idmap_get(&t->clients, client);
    if (!e)
        return false;
    *view = (struct tally_view){.client = client,
                                .turned_away = e->turned_away,
                                .seen = now - e->seen,
                                .trusted = trusted_still(e, wall),
                                .verdict = {.why = ""}};
    struct entry copy = *e;
    for (size_t i = 0; i < TALLY_WHATS; i++) {
        view->level[i] = leaked(t, e, (enum tally_what)i, now);
        copy.level[i] = (float)view->level[i];
    }
    copy.trusted = view->trusted;
    memcpy(view->here, e->here, sizeof view->here);
    for (size_t k = 0; k < TALLY_KINDS && !view->verdict.refuse; k++) {
        struct tally_verdict v;
        judge(t, &copy, (enum tally_kind)k, &v);
        if (v.refuse || v.slow > view->verdict.slow)
            view->verdict = v;
    }
    return true;
}

size_t tally_count(const struct tally *t)
{
    return t->clients.count;
}

uint64_t *tally_clients(const struct tally *t, size_t max, size_t *n)
{
    size_t at = 0, room = MIN_OF(max, t->clients.count);
    uint64_t *all = mem_array(room ? room : 1, sizeof *all), id;
    void *value;
    *n = 0;
    while (*n < room && idmap_next(&t->clients, &at, &id, &value))
        all[(*n)++] = id;
    return all;
}

/* ---- rows ---- */

bool tally_changed(const struct tally *t)
{
    return !list_empty(&t->changed);
}

size_t tally_take_changed(struct tally *t, struct tally_row *rows, size_t max, int64_t now, int64_t wall)
{
    size_t n = 0;
    while (n < max && !list_empty(&t->changed)) {
        struct entry *e = container_of(t->changed.next, struct entry, changed);
        struct tally_row *r = &rows[n++];
        list_del(&e->changed);
        e->trusted = trusted_still(e, wall);
        *r = (struct tally_row){.client = e->client,
                                .seen = wall - (now - e->seen),
                                .trusted = e->trusted,
                                .turned_away = e->turned_away,
                                .gone = !is_marked(t, e)};
        for (size_t i = 0; i < TALLY_WHATS; i++)
            r->level[i] = (double)e->level[i];
        e->kept = !r->gone;
    }
    return n;
}

/* A clock that was set back makes no row younger than now. */
void tally_restore(struct tally *t, const struct tally_row *row, int64_t now, int64_t wall)
{
    if (idmap_get(&t->clients, row->client) || t->clients.count >= t->limits.clients)
        return;
    struct entry *e = mem_alloc(sizeof *e);
    e->client = row->client;
    e->seen = now - MAX_OF(wall - row->seen, (int64_t)0);
    e->trusted = MIN_OF(row->trusted, wall);
    e->turned_away = row->turned_away;
    for (size_t i = 0; i < TALLY_WHATS; i++) {
        double most = (double)t->limits.of[i].most * 2;
        e->level[i] = (float)(row->level[i] > 0 ? MIN_OF(row->level[i], most) : 0);
    }
    e->kept = true;
    idmap_put(&t->clients, e->client, e);
    file_away(t, e);
    list_del(&e->changed);
}
