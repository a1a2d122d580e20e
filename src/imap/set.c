/* Sequence sets: see set.h. */
#include "imap/set.h"

#include <stdlib.h>

static bool take_number(struct lex *x, uint32_t *out)
{
    *out = 0;
    return lex_char(x, '*') || (lex_number(x, out) && *out > 0);
}

static bool take_range(struct lex *x, struct set_range *r)
{
    if (!take_number(x, &r->lo))
        return false;
    r->hi = r->lo;
    return !lex_char(x, ':') || take_number(x, &r->hi);
}

bool set_parse(struct lex *x, struct set *out)
{
    struct lex back = *x;
    size_t most = 1; /* ranges: one more than commas */
    for (size_t i = 0; i < x->rest.n && strchr("0123456789:*,", x->rest.p[i]) && x->rest.p[i]; i++)
        most += x->rest.p[i] == ',';
    out->v = arena_alloc(x->arena, most * sizeof *out->v);
    out->n = 0;
    do {
        if (!take_range(x, &out->v[out->n++])) {
            *x = back;
            return false;
        }
    } while (lex_char(x, ','));
    return true;
}

size_t set_lower(const uint32_t *uids, size_t n, uint32_t uid)
{
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (uids[mid] < uid)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static int by_lo(const void *a, const void *b)
{
    const struct set_range *x = a, *y = b;
    return x->lo < y->lo ? -1 : x->lo > y->lo;
}

static void merge(struct set *s)
{
    size_t n = 0;
    qsort(s->v, s->n, sizeof *s->v, by_lo);
    for (size_t i = 0; i < s->n; i++)
        if (n && s->v[i].lo <= s->v[n - 1].hi + 1)
            s->v[n - 1].hi = MAX_OF(s->v[n - 1].hi, s->v[i].hi);
        else
            s->v[n++] = s->v[i];
    s->n = n;
}

/* "*" is the last message: RFC3501:9 seq-range has no order of its own. */
static bool resolve_one(struct set_range r, bool by_uid, const uint32_t *uids, size_t n, struct set_range *out)
{
    bool star = !r.lo || !r.hi;
    uint32_t last = by_uid ? uids[n - 1] : (uint32_t)n;
    uint32_t a = r.lo ? r.lo : last, b = r.hi ? r.hi : last;
    uint32_t lo = MIN_OF(a, b), hi = MAX_OF(a, b);
    if (by_uid) {
        size_t first = set_lower(uids, n, lo), end = hi == UINT32_MAX ? n : set_lower(uids, n, hi + 1);
        *out = (struct set_range){(uint32_t)first, (uint32_t)end - 1};
        return first < end;
    }
    if (star)
        hi = MIN_OF(hi, last), lo = MIN_OF(lo, last);
    *out = (struct set_range){lo - 1, hi - 1};
    return hi <= last;
}

bool set_resolve(const struct set *s, bool by_uid, const uint32_t *uids, size_t n, struct arena *a,
                 struct set *positions)
{
    *positions = (struct set){.v = arena_alloc(a, s->n * sizeof *s->v)};
    for (size_t i = 0; i < s->n; i++) {
        bool star = !s->v[i].lo || !s->v[i].hi;
        if (n && resolve_one(s->v[i], by_uid, uids, n, &positions->v[positions->n]))
            positions->n++;
        else if (!by_uid && !(star && !n))
            return false;
    }
    merge(positions);
    return true;
}

bool set_has(const struct set *s, uint32_t position)
{
    size_t lo = 0, hi = s->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (s->v[mid].hi < position)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < s->n && s->v[lo].lo <= position;
}

uint64_t set_count(const struct set *s)
{
    uint64_t n = 0;
    for (size_t i = 0; i < s->n; i++)
        n += s->v[i].hi - s->v[i].lo + 1;
    return n;
}

void set_put(struct buf *out, const uint32_t *v, size_t n)
{
    for (size_t i = 0, j = 0; i < n; i = j) {
        for (j = i + 1; j < n && v[j] == v[j - 1] + 1; j++)
            ;
        buf_printf(out, "%s%u", i ? "," : "", v[i]);
        if (j - i > 1)
            buf_printf(out, ":%u", v[j - 1]);
    }
}
