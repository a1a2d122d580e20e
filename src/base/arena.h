/* An arena: memory with one lifetime (a transaction, an attempt, a command, a frame). Nothing in it is freed alone. {0} is an empty one. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "base/span.h"
#include "base/util.h"

struct arena_chunk;
struct arena {
    struct arena_chunk *chunks; /* newest first */
    size_t total;               /* bytes handed out, for whoever wants to bound them */
};

void *arena_alloc(struct arena *a, size_t n); /* zeroed, aligned for any type */
struct span arena_dup(struct arena *a, struct span s);
struct span arena_dup_or_none(struct arena *a, struct span s); /* SPAN_NONE stays that; an empty one is another thing */
char *arena_str(struct arena *a, struct span s); /* with a NUL behind */
struct span arena_printf(struct arena *a, const char *fmt, ...) PRINTF_LIKE(2, 3);
void arena_reset(struct arena *a); /* ends the lifetime, keeps one chunk for the next */
void arena_free(struct arena *a);

#endif
