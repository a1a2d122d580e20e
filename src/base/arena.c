#include "base/arena.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

/* With its head the first one is below what malloc keeps at hand for the next call (1,032 bytes): most arenas need no other. */
#define CHUNK_FIRST 960
#define CHUNK_SIZE 4000

struct arena_chunk {
    struct arena_chunk *older;
    size_t used, size;
    alignas(max_align_t) char bytes[];
};

/* Its bytes are whatever was there: they are zeroed when they are handed out. */
static struct arena_chunk *chunk_new(size_t size)
{
    struct arena_chunk *c = mem_resize(NULL, sizeof *c + size);
    *c = (struct arena_chunk){.size = size};
    return c;
}

static void *take(struct arena *a, size_t n)
{
    const size_t align = alignof(max_align_t);
    if (n > SIZE_MAX / 4)
        abort();
    n = (n + align - 1) / align * align;
    if (n == 0)
        n = align;
    struct arena_chunk *c = a->chunks;
    if (!c || c->size - c->used < n) {
        c = chunk_new(MAX_OF(n, c ? (size_t)CHUNK_SIZE : (size_t)CHUNK_FIRST));
        c->older = a->chunks;
        a->chunks = c;
    }
    void *p = c->bytes + c->used;
    c->used += n;
    a->total += n;
    return p;
}

void *arena_alloc(struct arena *a, size_t n)
{
    return memset(take(a, n), 0, n);
}

struct span arena_dup(struct arena *a, struct span s)
{
    char *p = take(a, s.n);
    if (s.n)
        memcpy(p, s.p, s.n);
    return (struct span){p, s.n};
}

struct span arena_dup_or_none(struct arena *a, struct span s)
{
    return s.p ? arena_dup(a, s) : SPAN_NONE;
}

char *arena_str(struct arena *a, struct span s)
{
    char *p = take(a, s.n + 1);
    if (s.n)
        memcpy(p, s.p, s.n);
    p[s.n] = '\0';
    return p;
}

struct span arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0)
        abort();
    char *p = take(a, (size_t)n + 1);
    vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    return (struct span){p, (size_t)n};
}

static void free_chain(struct arena_chunk *c)
{
    while (c) {
        struct arena_chunk *older = c->older;
        mem_free(&c);
        c = older;
    }
}

void arena_reset(struct arena *a)
{
    struct arena_chunk *keep = a->chunks;
    a->total = 0;
    if (!keep)
        return;
    free_chain(keep->older);
    keep->older = NULL;
    keep->used = 0;
    if (keep->size > CHUNK_SIZE) {
        free_chain(keep);
        a->chunks = NULL;
    }
}

void arena_free(struct arena *a)
{
    free_chain(a->chunks);
    *a = (struct arena){0};
}
