/* See sending.h. Trusts authd's account numbers; addresses are anybody's. */
#include "queue/sending.h"

#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"

#define HOUR_MS INT64_C(3600000)
#define DAY_MS (24 * HOUR_MS)
#define EACH 8 /* one account has at most that part of what is remembered */

struct who {
    uint32_t account;
    struct link changed; /* in sending.accounts_changed */
    struct link known;   /* oldest first */
    size_t known_count;
    uint32_t counts[SENDING_LIMITS][SENDING_STEPS];
    int64_t at[SENDING_LIMITS];
};

struct known {
    struct link all, mine; /* oldest first: of everybody, of its account */
    struct link changed;
    struct who *who;
    uint64_t key;
    int64_t day;
};

struct sending {
    struct idmap accounts, known;
    struct link all, accounts_changed, known_changed;
    size_t remembered;
};

static const int64_t window[SENDING_LIMITS] = {[SENDING_MESSAGES_HOUR] = HOUR_MS,
                                               [SENDING_RECIPIENTS_HOUR] = HOUR_MS,
                                               [SENDING_MESSAGES_DAY] = DAY_MS,
                                               [SENDING_RECIPIENTS_DAY] = DAY_MS,
                                               [SENDING_NEW_DAY] = DAY_MS};

struct sending *sending_new(size_t remembered)
{
    struct sending *s = mem_alloc(sizeof *s);
    list_init(&s->all);
    list_init(&s->accounts_changed);
    list_init(&s->known_changed);
    s->remembered = remembered;
    return s;
}

static void forget(struct sending *s, struct known *k)
{
    idmap_del(&s->known, k->key);
    list_del(&k->all);
    list_del(&k->mine);
    list_del(&k->changed);
    k->who->known_count--;
    mem_free(&k);
}

void sending_free(struct sending **sp)
{
    struct sending *s = *sp;
    uint64_t key;
    void *v;
    if (!s)
        return;
    while (!list_empty(&s->all))
        forget(s, container_of(s->all.next, struct known, all));
    for (size_t at = 0; idmap_next(&s->accounts, &at, &key, &v);)
        mem_free(&v);
    idmap_free(&s->accounts);
    idmap_free(&s->known);
    mem_free(sp);
}

void sending_remember(struct sending *s, size_t remembered)
{
    s->remembered = remembered;
    while (s->known.count > remembered)
        forget(s, container_of(s->all.next, struct known, all));
}

static struct who *who_of(struct sending *s, uint32_t account)
{
    struct who *w = idmap_get(&s->accounts, account);
    if (w)
        return w;
    w = mem_alloc(sizeof *w);
    w->account = account;
    list_init(&w->changed);
    list_init(&w->known);
    idmap_put(&s->accounts, account, w);
    return w;
}

static void who_changed(struct sending *s, struct who *w)
{
    if (!list_linked(&w->changed))
        list_add_tail(&s->accounts_changed, &w->changed);
}

/* ---- counts ---- */

static int64_t step_of(int kind, int64_t wall)
{
    return wall / (window[kind] / SENDING_STEPS);
}

/* Of what was counted, the part that is in the window; a clock that was set back by less than a window counts as it was. */
static uint64_t sum(const struct who *w, int kind, int64_t wall)
{
    int64_t now = step_of(kind, wall), at = w->at[kind];
    uint64_t n = 0;
    if (now < at)
        now = at - now < SENDING_STEPS ? at : at + SENDING_STEPS;
    for (int64_t step = at; step > now - SENDING_STEPS && step > at - SENDING_STEPS; step--)
        n += w->counts[kind][step % SENDING_STEPS];
    return n;
}

static void add(struct who *w, int kind, size_t n, int64_t wall)
{
    int64_t now = step_of(kind, wall), at = w->at[kind];
    if (now < at && at - now < SENDING_STEPS)
        now = at;
    if (now < at || now - at >= SENDING_STEPS)
        memset(w->counts[kind], 0, sizeof w->counts[kind]);
    else
        for (int64_t step = at + 1; step <= now; step++)
            w->counts[kind][step % SENDING_STEPS] = 0;
    w->at[kind] = now;
    uint32_t *c = &w->counts[kind][now % SENDING_STEPS];
    *c = n > UINT32_MAX - *c ? UINT32_MAX : *c + (uint32_t)n;
}

uint32_t sending_count(const struct sending *s, uint32_t account, enum sending_limit kind, int64_t wall)
{
    const struct who *w = idmap_get(&s->accounts, account);
    return w ? (uint32_t)MIN_OF(sum(w, kind, wall), (uint64_t)UINT32_MAX) : 0;
}

void sending_restart(struct sending *s, uint32_t account)
{
    struct who *w = idmap_get(&s->accounts, account);
    if (!w)
        return;
    memset(w->counts, 0, sizeof w->counts);
    who_changed(s, w);
}

/* ---- who is known ---- */

/* FNV-1a, and a last mixing. Nobody gains by a collision: it makes one stranger look known. */
uint64_t sending_key(uint32_t account, struct span address)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325) ^ account;
    for (size_t i = 0; i < address.n; i++)
        h = (h ^ (unsigned char)ascii_lower(address.p[i])) * UINT64_C(0x100000001b3);
    h = (h ^ h >> 32) * UINT64_C(0xd6e8feb86659fd93);
    h ^= h >> 32;
    return h ? h : 1;
}

static void learn(struct sending *s, struct who *w, uint64_t key, int64_t day)
{
    struct known *k = idmap_get(&s->known, key);
    if (!k) {
        if (w->known_count >= MAX_OF(s->remembered / EACH, (size_t)1))
            forget(s, container_of(w->known.next, struct known, mine));
        else if (s->known.count >= s->remembered)
            forget(s, container_of(s->all.next, struct known, all));
        k = mem_alloc(sizeof *k);
        *k = (struct known){.who = w, .key = key};
        list_init(&k->changed);
        w->known_count++;
        idmap_put(&s->known, key, k);
    } else {
        list_del(&k->all);
        list_del(&k->mine);
    }
    list_add_tail(&s->all, &k->all);
    list_add_tail(&k->who->known, &k->mine);
    if (k->day != day && !list_linked(&k->changed))
        list_add_tail(&s->known_changed, &k->changed);
    k->day = day;
}

/* ---- a message ---- */

static size_t strangers(const struct sending *s, const uint64_t *to, size_t count)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        n += idmap_get(&s->known, to[i]) == NULL;
    return n;
}

enum sending_limit sending_take(struct sending *s, uint32_t account, const uint32_t most[SENDING_LIMITS], const uint64_t *to,
                                size_t count, int64_t wall, unsigned *permille)
{
    struct who *w = who_of(s, account);
    size_t n[SENDING_LIMITS] = {1, count, 1, count, most[SENDING_NEW_DAY] ? strangers(s, to, count) : 0};
    uint64_t used;
    *permille = 0;
    for (int i = 0; i < SENDING_LIMITS; i++) {
        if (!most[i])
            continue;
        used = sum(w, i, wall) + n[i];
        if (n[i] && used > most[i])
            return (enum sending_limit)i;
        *permille = MAX_OF(*permille, (unsigned)(used * 1000 / most[i]));
    }
    for (int i = 0; i < SENDING_LIMITS; i++)
        add(w, i, n[i], wall);
    for (size_t i = 0; most[SENDING_NEW_DAY] && i < count; i++)
        learn(s, w, to[i], wall / DAY_MS);
    who_changed(s, w);
    return SENDING_LIMITS;
}

/* ---- rows ---- */

bool sending_changed(const struct sending *s)
{
    return !list_empty(&s->accounts_changed) || !list_empty(&s->known_changed);
}

size_t sending_take_changed(struct sending *s, struct sending_row *out, size_t max)
{
    size_t n = 0;
    while (n < max && !list_empty(&s->accounts_changed)) {
        struct who *w = container_of(s->accounts_changed.next, struct who, changed);
        list_del(&w->changed);
        out[n] = (struct sending_row){.account = w->account};
        memcpy(out[n].counts, w->counts, sizeof w->counts);
        memcpy(out[n++].at, w->at, sizeof w->at);
    }
    while (n < max && !list_empty(&s->known_changed)) {
        struct known *k = container_of(s->known_changed.next, struct known, changed);
        list_del(&k->changed);
        out[n++] = (struct sending_row){.account = k->who->account, .key = k->key, .seen = k->day * DAY_MS};
    }
    return n;
}

void sending_restore(struct sending *s, const struct sending_row *row)
{
    struct who *w = who_of(s, row->account);
    if (row->key) {
        learn(s, w, row->key, row->seen / DAY_MS);
        struct known *k = idmap_get(&s->known, row->key);
        list_del(&k->changed);
        return;
    }
    memcpy(w->counts, row->counts, sizeof w->counts);
    for (int i = 0; i < SENDING_LIMITS; i++)
        w->at[i] = MAX_OF(row->at[i], (int64_t)0);
}
