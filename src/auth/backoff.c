#include "auth/backoff.h"

#include <sodium.h>

#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"

#define LEAK_MS 60000 /* a failure */
#define FAILURES_MAX (BACKOFF_FAILED_MS / LEAK_MS)

enum kind { PAIR, CLIENT, ACCOUNT, KINDS };

struct entry {
    struct link age, changed;
    uint64_t key, client; /* client: of a pair or a client */
    int64_t when;         /* the failures as of then */
    int64_t success;      /* of a known pair: the last one */
    float failures;
    bool known; /* a pair that succeeded, and is filed so; it may be too long ago */
    enum kind kind;
};

struct backoff {
    struct idmap entries;
    struct link failing[KINDS], known; /* the one used last at the end */
    struct link changed;
    size_t counts[KINDS], knowns;
    uint8_t secret[crypto_shorthash_KEYBYTES];
};

struct backoff *backoff_new(const uint8_t *secret)
{
    static const char what[] = "login back-off";
    struct backoff *b = mem_alloc(sizeof *b);
    if (secret)
        crypto_generichash(b->secret, sizeof b->secret, (const uint8_t *)what, sizeof what, secret, BACKOFF_SECRET);
    else
        randombytes_buf(b->secret, sizeof b->secret);
    list_init(&b->changed);
    for (size_t i = 0; i < KINDS; i++)
        list_init(&b->failing[i]);
    list_init(&b->known);
    return b;
}

void backoff_free(struct backoff **bp)
{
    struct backoff *b = *bp;
    uint64_t id;
    void *value;
    size_t at = 0;
    if (!b)
        return;
    while (idmap_next(&b->entries, &at, &id, &value))
        mem_free(&value);
    idmap_free(&b->entries);
    mem_free(bp);
}

/* ---- entries ---- */

/* A keyed hash: nobody outside can make two names meet. */
static uint64_t key_of(const struct backoff *b, enum kind kind, uint64_t client, struct span name)
{
    uint8_t text[16 + 512], out[crypto_shorthash_BYTES];
    uint64_t key;
    size_t n = kind == CLIENT ? 0 : MIN_OF(name.n, (size_t)512);
    memset(text, 0, 16);
    text[0] = (uint8_t)kind;
    if (kind != ACCOUNT)
        memcpy(text + 8, &client, 8);
    if (n)
        memcpy(text + 16, name.p, n);
    crypto_shorthash(out, text, 16 + n, b->secret);
    memcpy(&key, out, sizeof key);
    return key;
}

static void entry_free(struct backoff *b, struct entry *e)
{
    *(e->known ? &b->knowns : &b->counts[e->kind]) -= 1;
    list_del(&e->age);
    list_del(&e->changed);
    idmap_del(&b->entries, e->key);
    mem_free(&e);
}

static void leak(struct entry *e, int64_t now)
{
    double left = (double)e->failures - (double)MAX_OF(now - e->when, (int64_t)0) / LEAK_MS;
    e->failures = left > 0 ? (float)left : 0;
    e->when = now;
}

static bool is_known(const struct entry *e, int64_t now)
{
    return e->known && now - e->success <= BACKOFF_KNOWN_MS;
}

static void mark_changed(struct backoff *b, struct entry *e)
{
    list_del(&e->changed);
    list_add_tail(&b->changed, &e->changed);
}

static struct entry *find(struct backoff *b, enum kind kind, uint64_t client, struct span name, int64_t now)
{
    if (kind == ACCOUNT && name.n == 0)
        return NULL;
    struct entry *e = idmap_get(&b->entries, key_of(b, kind, client, name));
    if (e)
        leak(e, now);
    return e;
}

/* Those that are known have a list and a limit of their own: failures of strangers can't wash them away. */
static void file(struct backoff *b, struct entry *e)
{
    list_del(&e->age);
    list_add_tail(e->known ? &b->known : &b->failing[e->kind], &e->age);
}

static struct entry *make(struct backoff *b, enum kind kind, uint64_t client, struct span name, int64_t now)
{
    struct entry *e = find(b, kind, client, name, now);
    if (!e) {
        if (b->counts[kind] >= BACKOFF_MAX)
            entry_free(b, container_of(b->failing[kind].next, struct entry, age));
        e = mem_alloc(sizeof *e);
        e->key = key_of(b, kind, client, name);
        e->client = client;
        e->kind = kind;
        e->when = now;
        list_init(&e->age);
        list_init(&e->changed);
        b->counts[kind]++;
        idmap_put(&b->entries, e->key, e);
    }
    file(b, e);
    mark_changed(b, e);
    return e;
}

static void count(struct backoff *b, enum kind kind, uint64_t client, struct span name, int64_t now)
{
    if (kind == ACCOUNT && name.n == 0)
        return;
    struct entry *e = make(b, kind, client, name, now);
    if (e->failures < FAILURES_MAX)
        e->failures += 1;
}

static void take_back(struct backoff *b, enum kind kind, uint64_t client, struct span name, int64_t now)
{
    struct entry *e = find(b, kind, client, name, now);
    if (!e)
        return;
    e->failures = e->failures > 1 ? e->failures - 1 : 0;
    mark_changed(b, e);
}

/* ---- waiting ---- */

static int64_t wait_of(const struct entry *e, unsigned free)
{
    int64_t ms = BACKOFF_FIRST_MS;
    float beyond = e ? e->failures + 0.5f - (float)free : -1; /* rounded: what has leaked since a moment ago is nothing */
    if (beyond < 0)
        return 0;
    for (float n = beyond; n >= 1 && ms < BACKOFF_LONGEST_MS; n -= 1)
        ms *= 2;
    return MIN_OF(ms, (int64_t)BACKOFF_LONGEST_MS);
}

bool backoff_knows(struct backoff *b, uint64_t client, struct span name, int64_t now)
{
    struct entry *pair = find(b, PAIR, client, name, now);
    return pair && is_known(pair, now);
}

int64_t backoff_begin(struct backoff *b, uint64_t client, struct span name, int64_t now)
{
    int64_t ms = wait_of(find(b, PAIR, client, name, now), BACKOFF_FREE_PAIR);
    bool known = backoff_knows(b, client, name, now);
    if (!known) {
        ms = MAX_OF(ms, wait_of(find(b, CLIENT, client, name, now), BACKOFF_FREE_CLIENT));
        ms = MAX_OF(ms, wait_of(find(b, ACCOUNT, client, name, now), BACKOFF_FREE_ACCOUNT));
    }
    count(b, PAIR, client, name, now);
    count(b, CLIENT, client, name, now);
    if (!known)
        count(b, ACCOUNT, client, name, now);
    return ms;
}

void backoff_dropped(struct backoff *b, uint64_t client, struct span name, int64_t now)
{
    take_back(b, PAIR, client, name, now);
    take_back(b, CLIENT, client, name, now);
    if (!backoff_knows(b, client, name, now))
        take_back(b, ACCOUNT, client, name, now);
}

void backoff_succeeded(struct backoff *b, uint64_t client, struct span name, int64_t now)
{
    backoff_dropped(b, client, name, now);
    struct entry *pair = make(b, PAIR, client, name, now);
    if (!pair->known) {
        b->counts[PAIR]--;
        if (++b->knowns > BACKOFF_MAX)
            entry_free(b, container_of(b->known.next, struct entry, age));
    }
    pair->known = true;
    pair->success = now;
    pair->failures = 0;
    file(b, pair);
}

static void clear(struct backoff *b, struct entry *e)
{
    if (e->failures > 0)
        mark_changed(b, e);
    e->failures = 0;
}

void backoff_forget(struct backoff *b, uint64_t client, int64_t now)
{
    struct entry *e = find(b, CLIENT, client, SPAN(""), now);
    if (e)
        clear(b, e);
    for (unsigned i = 0; i < 2; i++) {
        struct link *list = i ? &b->known : &b->failing[PAIR];
        LIST_EACH(list, l)
        {
            struct entry *pair = container_of(l, struct entry, age);
            if (pair->client == client)
                clear(b, pair);
        }
    }
}

size_t backoff_count(const struct backoff *b)
{
    return b->entries.count;
}

/* ---- rows ---- */

bool backoff_changed(const struct backoff *b)
{
    return !list_empty(&b->changed);
}

size_t backoff_take_changed(struct backoff *b, struct backoff_row *rows, size_t max, int64_t now, int64_t wall)
{
    size_t n = 0;
    while (n < max && !list_empty(&b->changed)) {
        struct entry *e = container_of(b->changed.next, struct entry, changed);
        list_del(&e->changed);
        leak(e, now);
        rows[n++] = (struct backoff_row){.key = e->key,
                                         .client = e->client,
                                         .kind = (uint8_t)e->kind,
                                         .failures = (double)e->failures,
                                         .when = wall,
                                         .known = is_known(e, now) ? wall - (now - e->success) : 0,
                                         .gone = e->failures <= 0 && !is_known(e, now)};
    }
    return n;
}

void backoff_restore(struct backoff *b, const struct backoff_row *row, int64_t now, int64_t wall)
{
    bool known = row->kind == PAIR && row->known > 0;
    if (row->kind >= KINDS || idmap_get(&b->entries, row->key) ||
        (known ? b->knowns : b->counts[row->kind]) >= BACKOFF_MAX)
        return;
    struct entry *e = mem_alloc(sizeof *e);
    *e = (struct entry){.key = row->key,
                        .client = row->client,
                        .kind = (enum kind)row->kind,
                        .when = now - MAX_OF(wall - row->when, (int64_t)0),
                        .success = known ? now - MAX_OF(wall - row->known, (int64_t)0) : 0,
                        .failures = (float)(row->failures > 0 ? MIN_OF(row->failures, (double)FAILURES_MAX) : 0),
                        .known = known};
    list_init(&e->age);
    list_init(&e->changed);
    *(known ? &b->knowns : &b->counts[e->kind]) += 1;
    idmap_put(&b->entries, e->key, e);
    file(b, e);
}
