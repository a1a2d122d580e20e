/* Deliveries: everything that waits in one transaction, each under its own key, so that a repeated lease delivers once
 * (HAZARDS 11). */
#include <stdlib.h>

#include "store/internal.h"

int store_deliver_begin(struct store *st, struct err *err)
{
    int code = store_begin(st, err);
    if (code)
        return code;
    st->batch = true;
    st->batch_broken = false;
    st->arrivals = (struct store_inserting){0};
    return STORE_OK;
}

static int take_key(struct store *st, struct span qid, uint64_t rcpt, bool *already, struct err *err)
{
    struct db_stmt *s = db_stmt(st->db, "INSERT OR IGNORE INTO delivery(qid, rcpt, content, at) VALUES (?, ?, 0, ?)");
    db_bind_text(s, 1, qid);
    db_bind_i64(s, 2, (int64_t)rcpt);
    db_bind_i64(s, 3, st->now_ms);
    if (db_run(s, err))
        return store_failed(st);
    *already = db_changes(st->db) == 0;
    return STORE_OK;
}

bool store_deliver_has(struct store *st, struct span qid, uint64_t rcpt)
{
    struct err err;
    struct db_stmt *s = db_stmt(st->db, "SELECT 1 FROM delivery WHERE qid = ? AND rcpt = ?");
    db_bind_text(s, 1, qid);
    db_bind_i64(s, 2, (int64_t)rcpt);
    int got = db_step(s, &err);
    if (got > 0)
        db_reset(s);
    return got > 0;
}

/* Only a large content can be lost without its row: settling looks for its key. */
static int name_content(struct store *st, struct span qid, uint64_t rcpt, uint64_t content, struct err *err)
{
    struct db_stmt *s = db_stmt(st->db, "UPDATE delivery SET content = ? WHERE qid = ? AND rcpt = ?");
    db_bind_i64(s, 1, (int64_t)content);
    db_bind_text(s, 2, qid);
    db_bind_i64(s, 3, (int64_t)rcpt);
    return db_run(s, err) ? store_failed(st) : STORE_OK;
}

/* A repeated lease: nobody knows that what the first one wrote is on disk, and if its sync failed the next one says nothing of
 * it. The key is touched, so that the commit says how long the log is; store_deliver_commit() writes that once more. */
static int write_again(struct store *st, struct span qid, uint64_t rcpt, struct store_stage *g, struct err *err)
{
    struct db_stmt *s = db_stmt(st->db, "UPDATE delivery SET at = ? WHERE qid = ? AND rcpt = ? RETURNING content");
    db_bind_i64(s, 1, st->now_ms);
    db_bind_text(s, 2, qid);
    db_bind_i64(s, 3, (int64_t)rcpt);
    if (db_step(s, err) != 1)
        return store_failed(st);
    uint64_t content = (uint64_t)db_i64(s, 0);
    db_reset(s);
    st->doubt = true;
    return content ? store_large_renew(st, content, g, err) : STORE_OK;
}

static int add(struct store *st, struct span qid, uint64_t rcpt, uint64_t mailbox, struct store_stage *g,
               const struct store_new *m, bool *already, struct err *err)
{
    struct store_row row = {
        .flags = m->flags, .keywords = m->keywords, .internaldate = m->internaldate, .size = g->size};
    uint32_t uid;
    int code = take_key(st, qid, rcpt, already, err);
    if (!code && *already)
        code = write_again(st, qid, rcpt, g, err);
    if (code || *already)
        return code;
    code = store_content_insert(st, g, m, &row.content, err);
    if (!code && g->fd >= 0)
        code = name_content(st, qid, rcpt, row.content, err);
    if (!code)
        code = store_insert(st, &st->arrivals, &row, &uid, err);
    if (!code)
        store_note_uids(st, STORE_CHANGE_NEW, mailbox, &uid, 1);
    return code;
}

/* What can be refused is refused before the first row, so that one refusal costs the others nothing. */
static int open_mailbox(struct store *st, uint64_t mailbox, struct err *err)
{
    if (st->arrivals.mailbox == mailbox)
        return store_insert_room(&st->arrivals, err);
    int code = store_insert_end(st, &st->arrivals, err);
    if (code) {
        st->batch_broken = true;
        return code;
    }
    return store_insert_begin(st, mailbox, &st->arrivals, err);
}

int store_deliver_add(struct store *st, struct span qid, uint64_t rcpt, uint64_t mailbox, struct store_stage **g,
                      const struct store_new *m, bool *already, struct err *err)
{
    if (!st->batch)
        abort();
    *already = false;
    int code = open_mailbox(st, mailbox, err);
    if (!code && (code = add(st, qid, rcpt, mailbox, *g, m, already, err)))
        st->batch_broken = true;
    if (code || *already) {
        store_stage_free(g);
        return code;
    }
    if ((*g)->fd >= 0)
        st->large_unsynced = true;
    store_stage_published(g);
    return STORE_OK;
}

int store_deliver_commit(struct store *st, struct err *err)
{
    if (!st->batch)
        abort();
    int code = st->batch_broken ? STORE_FAILED : store_insert_end(st, &st->arrivals, err);
    if (st->batch_broken)
        err_set(err, "a delivery of this batch failed");
    if (code) {
        store_deliver_abort(st);
        return code;
    }
    st->batch = false;
    code = store_commit(st, err);
    return code || !st->doubt ? code : store_sync(st, err);
}

void store_deliver_abort(struct store *st)
{
    if (!st->batch)
        return;
    st->batch = false;
    if (st->large_unsynced)
        st->orphan = true; /* maybe one of this batch: the next open settles it */
    store_rollback(st);
}
