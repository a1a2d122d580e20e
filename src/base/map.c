/* Open addressing with linear probing and back-shift deletion: no tombstones, so that a table that lives for months stays fast.
 * The hash is keyed by a random seed, since keys (addresses, hosts) come from outside. */
#include "base/map.h"

#include <stdlib.h>
#include <sys/random.h>

#include "base/mem.h"
#include "base/util.h"

struct map_slot {
    uint64_t hash;
    char *key;
    size_t n;
    void *value; /* NULL: free */
};

struct idmap_slot {
    uint64_t key;
    void *value;
};

static uint64_t seed(void)
{
    static uint64_t s;
    while (s == 0)
        if (getrandom(&s, sizeof s, 0) != (ssize_t)sizeof s)
            abort();
    return s;
}

static uint64_t mix(uint64_t h)
{
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdULL;
    h ^= h >> 33;
    h *= 0xc4ceb9fe1a85ec53ULL;
    return h ^ h >> 33;
}

static uint64_t hash_bytes(struct span s)
{
    uint64_t h = seed() ^ s.n;
    for (size_t i = 0; i < s.n;) {
        uint64_t w = 0;
        size_t k = MIN_OF(s.n - i, sizeof w);
        memcpy(&w, s.p + i, k);
        h = mix(h ^ w) + 0x9e3779b97f4a7c15ULL;
        i += k;
    }
    return mix(h);
}

static size_t map_find(const struct map *m, struct span key, uint64_t hash)
{
    size_t i = hash & (m->cap - 1);
    while (m->slots[i].value) {
        const struct map_slot *s = &m->slots[i];
        if (s->hash == hash && span_eq(span_make(s->key, s->n), key))
            return i;
        i = (i + 1) & (m->cap - 1);
    }
    return i;
}

static void map_grow(struct map *m)
{
    struct map old = *m;
    m->cap = old.cap ? old.cap * 2 : 16;
    m->slots = mem_array(m->cap, sizeof *m->slots);
    for (size_t i = 0; i < old.cap; i++) {
        struct map_slot *s = &old.slots[i];
        if (!s->value)
            continue;
        size_t at = s->hash & (m->cap - 1);
        while (m->slots[at].value)
            at = (at + 1) & (m->cap - 1);
        m->slots[at] = *s;
    }
    mem_free(&old.slots);
}

void *map_get(const struct map *m, struct span key)
{
    return m->cap ? m->slots[map_find(m, key, hash_bytes(key))].value : NULL;
}

void *map_put(struct map *m, struct span key, void *value)
{
    if (!value)
        abort();
    if ((m->count + 1) * 4 > m->cap * 3)
        map_grow(m);
    uint64_t hash = hash_bytes(key);
    struct map_slot *s = &m->slots[map_find(m, key, hash)];
    void *was = s->value;
    if (!was) {
        s->hash = hash;
        s->key = mem_strndup(key.p, key.n);
        s->n = key.n;
        m->count++;
    }
    s->value = value;
    return was;
}

void *map_del(struct map *m, struct span key)
{
    if (!m->cap)
        return NULL;
    size_t i = map_find(m, key, hash_bytes(key)), mask = m->cap - 1;
    void *was = m->slots[i].value;
    if (!was)
        return NULL;
    mem_free(&m->slots[i].key);
    m->slots[i].value = NULL;
    m->count--;
    for (size_t j = (i + 1) & mask; m->slots[j].value; j = (j + 1) & mask) {
        size_t home = m->slots[j].hash & mask;
        if (((j - home) & mask) >= ((j - i) & mask)) {
            m->slots[i] = m->slots[j];
            m->slots[j].value = NULL;
            i = j;
        }
    }
    return was;
}

void map_free(struct map *m)
{
    for (size_t i = 0; i < m->cap; i++)
        if (m->slots[i].value)
            mem_free(&m->slots[i].key);
    mem_free(&m->slots);
    *m = (struct map){0};
}

bool map_next(const struct map *m, size_t *at, struct span *key, void **value)
{
    for (; *at < m->cap; ++*at) {
        const struct map_slot *s = &m->slots[*at];
        if (!s->value)
            continue;
        *key = span_make(s->key, s->n);
        *value = s->value;
        ++*at;
        return true;
    }
    return false;
}

static size_t idmap_find(const struct idmap *m, uint64_t key)
{
    size_t i = mix(key ^ seed()) & (m->cap - 1);
    while (m->slots[i].value && m->slots[i].key != key)
        i = (i + 1) & (m->cap - 1);
    return i;
}

static void idmap_grow(struct idmap *m)
{
    struct idmap old = *m;
    m->cap = old.cap ? old.cap * 2 : 16;
    m->slots = mem_array(m->cap, sizeof *m->slots);
    for (size_t i = 0; i < old.cap; i++)
        if (old.slots[i].value)
            m->slots[idmap_find(m, old.slots[i].key)] = old.slots[i];
    mem_free(&old.slots);
}

void *idmap_get(const struct idmap *m, uint64_t key)
{
    return m->cap ? m->slots[idmap_find(m, key)].value : NULL;
}

void *idmap_put(struct idmap *m, uint64_t key, void *value)
{
    if (!value)
        abort();
    if ((m->count + 1) * 4 > m->cap * 3)
        idmap_grow(m);
    struct idmap_slot *s = &m->slots[idmap_find(m, key)];
    void *was = s->value;
    s->key = key;
    s->value = value;
    if (!was)
        m->count++;
    return was;
}

void *idmap_del(struct idmap *m, uint64_t key)
{
    if (!m->cap)
        return NULL;
    size_t i = idmap_find(m, key), mask = m->cap - 1;
    void *was = m->slots[i].value;
    if (!was)
        return NULL;
    m->slots[i].value = NULL;
    m->count--;
    for (size_t j = (i + 1) & mask; m->slots[j].value; j = (j + 1) & mask) {
        size_t home = mix(m->slots[j].key ^ seed()) & mask;
        if (((j - home) & mask) >= ((j - i) & mask)) {
            m->slots[i] = m->slots[j];
            m->slots[j].value = NULL;
            i = j;
        }
    }
    return was;
}

void idmap_free(struct idmap *m)
{
    mem_free(&m->slots);
    *m = (struct idmap){0};
}

bool idmap_next(const struct idmap *m, size_t *at, uint64_t *key, void **value)
{
    for (; *at < m->cap; ++*at) {
        if (!m->slots[*at].value)
            continue;
        *key = m->slots[*at].key;
        *value = m->slots[*at].value;
        ++*at;
        return true;
    }
    return false;
}
