/* What FETCH shows and costs parsing, computed once for each content. Kept here until the next change writes it, or
 * some hundred are together: reading a mailbox for the first time is not a transaction for each message. */
#include "base/log.h"
#include "base/mem.h"
#include "store/internal.h"

#define FLUSH_AT 256

int store_cache_get(struct store *st, uint64_t content, struct arena *a, struct store_cache *out, struct err *err)
{
    *out = (struct store_cache){0};
    const struct cache_entry *e = idmap_get(&st->cache, content);
    if (e) {
        *out = (struct store_cache){arena_dup(a, e->envelope), arena_dup(a, e->structure)};
        return STORE_OK;
    }
    struct db_stmt *s = db_stmt(st->db, "SELECT envelope, structure FROM content WHERE id = ?");
    db_bind_i64(s, 1, (int64_t)content);
    int got = db_step(s, err);
    if (got < 0)
        return store_failed(st);
    if (got == 0) {
        err_set(err, "no such content");
        return STORE_NO_SUCH;
    }
    if (!db_is_null(s, 0) && !db_is_null(s, 1))
        *out = (struct store_cache){arena_dup(a, db_text(s, 0)), arena_dup(a, db_text(s, 1))};
    db_reset(s);
    return STORE_OK;
}

void store_cache_put(struct store *st, uint64_t content, struct span envelope, struct span structure)
{
    if (idmap_get(&st->cache, content))
        return;
    struct cache_entry *e = mem_alloc(sizeof(*e) + envelope.n + structure.n);
    char *text = (char *)(e + 1);
    memcpy(text, envelope.p, envelope.n);
    memcpy(text + envelope.n, structure.p, structure.n);
    *e = (struct cache_entry){.next = st->cache_list,
                              .content = content,
                              .envelope = {text, envelope.n},
                              .structure = {text + envelope.n, structure.n}};
    st->cache_list = e;
    idmap_put(&st->cache, content, e);
    if (++st->cache_n < FLUSH_AT || st->batch)
        return;
    struct err why;
    int code = store_begin(st, &why);
    if (code || store_commit(st, &why)) {
        LOGW("envelopes not remembered", KVT("why", why.text));
        store_cache_drop(st);
    }
}

int store_cache_flush(struct store *st, struct err *err)
{
    for (const struct cache_entry *e = st->cache_list; e; e = e->next) {
        struct db_stmt *s = db_stmt(st->db, "UPDATE content SET envelope = ?, structure = ? WHERE id = ?");
        db_bind_text(s, 1, e->envelope);
        db_bind_text(s, 2, e->structure);
        db_bind_i64(s, 3, (int64_t)e->content);
        if (db_run(s, err))
            return -1;
    }
    return 0;
}

void store_cache_drop(struct store *st)
{
    for (struct cache_entry *e = st->cache_list; e;) {
        struct cache_entry *next = e->next;
        idmap_del(&st->cache, e->content);
        mem_free(&e);
        e = next;
    }
    st->cache_list = NULL;
    st->cache_n = 0;
}
