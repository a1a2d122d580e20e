/* SQL for messages that come from another queue. What was taken over is remembered by what it was there, each recipient for
 * itself, so that a file that is read twice, or two files with the same recipient in them, make nothing twice. */
#include "queue/sql.h"

#define TOKEN_N 16

/* The source's id in front: what comes in the order of ids is written in one place of the table. */
static void token_of(const struct queue_import *m, size_t i, char token[TOKEN_N])
{
    for (size_t b = 0; b < 8; b++) {
        token[b] = (char)(m->sources[i] >> (56 - 8 * b));
        token[8 + b] = (char)(m->fingerprint >> (56 - 8 * b));
    }
}

static int take_token(struct sql *q, const struct queue_import *m, size_t i, bool *fresh, struct err *err)
{
    char token[TOKEN_N];
    struct db_stmt *s = db_stmt(q->db, "INSERT INTO imported VALUES (?) ON CONFLICT DO NOTHING");
    token_of(m, i, token);
    db_bind_blob(s, 1, span_make(token, sizeof token));
    if (db_run(s, err))
        return -1;
    *fresh = db_changes(q->db) > 0;
    return 0;
}

static int note_time(struct sql *q, int64_t now_us, struct err *err)
{
    if (now_us - q->imported_us < SQL_IMPORT_NOTE_US)
        return 0;
    struct db_stmt *s = db_stmt(q->db, "UPDATE mark SET imported = ?");
    db_bind_i64(s, 1, now_us);
    q->imported_us = now_us;
    return db_run(s, err);
}

int sql_import(struct sql *q, struct queue_import *m, int64_t now_us, struct err *err)
{
    m->made = 0;
    for (size_t i = 0; i < m->count; i++) {
        bool fresh = false;
        if (m->recipients[i].state == QUEUE_EXPANDED)
            continue;
        if (take_token(q, m, i, &fresh, err) || (fresh && sql_insert_recipient(q, m->message->id, &m->recipients[i], err)))
            return -1;
        m->made += fresh;
    }
    if (m->made == 0)
        return 0;
    for (size_t i = 0; i < m->count; i++)
        if (m->recipients[i].state == QUEUE_EXPANDED && sql_insert_recipient(q, m->message->id, &m->recipients[i], err))
            return -1;
    return sql_insert_message(q, m->message, err) || note_time(q, now_us, err) ? -1 : 0;
}

int sql_forget_imported(struct sql *q, int64_t now_us, struct err *err)
{
    if (!q->imported_us || now_us - q->imported_us < SQL_IMPORT_LIFE_US)
        return 0;
    if (db_run(db_stmt(q->db, "DELETE FROM imported"), err) || db_run(db_stmt(q->db, "UPDATE mark SET imported = 0"), err))
        return -1;
    q->imported_us = 0;
    return 0;
}

int queue_count_recipients(struct queue_reader *r, uint64_t *count, struct err *err)
{
    struct db_stmt *s = db_stmt(r->db, "SELECT count(*) FROM recipient");
    int got = db_step(s, err);
    *count = got > 0 ? (uint64_t)db_i64(s, 0) : 0;
    if (got > 0)
        db_reset(s);
    return got < 0 ? -1 : 0;
}
