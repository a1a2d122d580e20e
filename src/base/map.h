/* Hash tables: from bytes, and from 64-bit ids, to pointers. {0} is an empty one. Keys of a map are copied. */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include "base/span.h"

struct map_slot;
struct map {
    struct map_slot *slots;
    size_t count, cap; /* cap: a power of two, or 0 */
};

void *map_get(const struct map *m, struct span key);
void *map_put(struct map *m, struct span key, void *value); /* value not NULL; returns the value it replaced, or NULL */
void *map_del(struct map *m, struct span key);              /* returns the value that was there, or NULL */
void map_free(struct map *m);                               /* the values are the caller's */
/* Walks the map: *at starts at 0. False at the end. The map must not change meanwhile (map_del of the current key is not allowed). */
bool map_next(const struct map *m, size_t *at, struct span *key, void **value);

struct idmap_slot;
struct idmap {
    struct idmap_slot *slots;
    size_t count, cap;
};

void *idmap_get(const struct idmap *m, uint64_t key);
void *idmap_put(struct idmap *m, uint64_t key, void *value);
void *idmap_del(struct idmap *m, uint64_t key);
void idmap_free(struct idmap *m);
bool idmap_next(const struct idmap *m, size_t *at, uint64_t *key, void **value);

#endif
