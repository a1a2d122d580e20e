/* Transactions of a store: begin, commit, roll back; what watchers hear and which files go once the commit is done. */
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "store/internal.h"

#define CHECKPOINT_PAGES 1000 /* of the WAL: 4 MB */

int store_failed(struct store *st)
{
    return db_code(st->db) == DB_FULL ? STORE_FULL : STORE_FAILED;
}

/* ---- events ---- */

static struct pending_event *note(struct store *st, enum store_change kind, uint64_t mailbox, size_t n)
{
    if (!st->watches)
        return NULL;
    struct pending_event *e = mem_alloc(sizeof(*e));
    e->kind = kind;
    e->mailbox = mailbox;
    e->n = n;
    *st->events_tail = e;
    st->events_tail = &e->next;
    return e;
}

void store_note_uids(struct store *st, enum store_change kind, uint64_t mailbox, const uint32_t *uids, size_t n)
{
    struct pending_event *e = note(st, kind, mailbox, n);
    if (!e || n == 0)
        return;
    e->uids = mem_array(n, sizeof(*uids));
    memcpy(e->uids, uids, n * sizeof(*uids));
}

void store_note_rows(struct store *st, uint64_t mailbox, const struct store_row *rows, size_t n)
{
    struct pending_event *e = note(st, STORE_CHANGE_FLAGS, mailbox, n);
    if (!e || n == 0)
        return;
    e->rows = mem_array(n, sizeof(*rows));
    memcpy(e->rows, rows, n * sizeof(*rows));
}

static void dispatch(struct store *st, bool tell)
{
    struct pending_event *e = st->events;
    st->events = NULL;
    st->events_tail = &st->events;
    while (e) {
        struct pending_event *next = e->next;
        struct store_event out = {.kind = e->kind, .mailbox = e->mailbox, .uids = e->uids, .rows = e->rows, .n = e->n};
        for (struct store_watch *w = tell ? st->watches : NULL; w; w = w->next)
            w->fn(w->ctx, &out);
        mem_free(&e->uids);
        mem_free(&e->rows);
        mem_free(&e);
        e = next;
    }
}

void store_watch(struct store *st, struct store_watch *w)
{
    w->next = st->watches;
    st->watches = w;
}

void store_unwatch(struct store *st, struct store_watch *w)
{
    for (struct store_watch **at = &st->watches; *at; at = &(*at)->next)
        if (*at == w) {
            *at = w->next;
            w->next = NULL;
            return;
        }
}

/* ---- files that go ---- */

void store_note_unlink(struct store *st, uint64_t content)
{
    if (st->unlink_n == st->unlink_cap) {
        st->unlink_cap = st->unlink_cap ? st->unlink_cap * 2 : 16;
        st->unlink = mem_resize(st->unlink, st->unlink_cap * sizeof(*st->unlink));
    }
    st->unlink[st->unlink_n++] = content;
}

/* ---- begin, commit ---- */

int store_begin(struct store *st, struct err *err)
{
    if (st->batch)
        abort(); /* a delivery batch never leaves the turn it began in */
    return db_begin(st->db, err) ? store_failed(st) : STORE_OK;
}

static int write_usage(struct store *st, struct err *err)
{
    if (st->txn_bytes == 0 && st->txn_messages == 0)
        return 0;
    struct db_stmt *s = db_stmt(st->db, "UPDATE account SET bytes = bytes + ?, messages = messages + ?");
    db_bind_i64(s, 1, st->txn_bytes);
    db_bind_i64(s, 2, st->txn_messages);
    return db_run(s, err);
}

static void forget(struct store *st)
{
    st->txn_bytes = st->txn_messages = 0;
    st->unlink_n = 0;
}

void store_rollback(struct store *st)
{
    db_rollback(st->db);
    forget(st);
    dispatch(st, false);
}

static void checkpoint_at_mark(struct store *st)
{
    if (st->wal_pages < CHECKPOINT_PAGES)
        return;
    struct err why;
    st->wal_pages = 0;
    if (db_checkpoint(st->db, false, NULL, &why)) {
        st->doubt = true; /* it may have been its sync */
        LOGW("checkpoint failed", KVT("why", why.text));
    }
}

int store_commit(struct store *st, struct err *err)
{
    if (write_usage(st, err) || store_cache_flush(st, err) || (st->unlink_n && store_mark_unsettled(st, err)) ||
        db_commit(st->db, err)) {
        int code = store_failed(st);
        store_rollback(st);
        return code;
    }
    store_cache_drop(st);
    st->dirty = true;
    st->usage.bytes += (uint64_t)st->txn_bytes;
    st->usage.messages += (uint64_t)st->txn_messages;
    for (size_t i = 0; i < st->unlink_n; i++)
        store_large_unlink(st, st->unlink[i]);
    forget(st);
    checkpoint_at_mark(st);
    dispatch(st, true);
    return STORE_OK;
}

int store_end(struct store *st, int result, struct err *err)
{
    if (result == STORE_OK)
        return store_commit(st, err);
    store_rollback(st);
    return result;
}

struct store_usage store_usage(const struct store *st)
{
    return st->usage;
}
