/* SQL for destinations: their states, and the rows that wait for them. */
#include "queue/sql.h"

static struct span text_or_empty(struct span s)
{
    return s.p ? s : SPAN("");
}

int sql_release(struct sql *q, struct queue_release *r, struct err *err)
{
    struct db_stmt *s =
        db_stmt(q->db, "UPDATE recipient SET next = ?1, destination = NULL WHERE (message, id) IN "
                       "(SELECT message, id FROM recipient WHERE destination = ?2 ORDER BY message, id LIMIT ?3)");
    db_bind_i64(s, 1, r->now);
    db_bind_text(s, 2, r->destination);
    db_bind_i64(s, 3, r->max);
    r->count = 0;
    if (db_run(s, err))
        return -1;
    r->count = (unsigned)db_changes(q->db);
    return 0;
}

int sql_destination(struct sql *q, const struct queue_destination *d, struct err *err)
{
    struct db_stmt *s = db_stmt(q->db, d->forget ? "DELETE FROM destination WHERE name = ?"
                                                 : "INSERT OR REPLACE INTO destination VALUES (?, ?, ?, ?, ?, ?, ?)");
    db_bind_text(s, 1, d->name);
    if (!d->forget) {
        db_bind_i64(s, 2, d->suspended);
        db_bind_i64(s, 3, d->failures);
        db_bind_i64(s, 4, d->down_until);
        db_bind_i64(s, 5, d->down_for);
        db_bind_i64(s, 6, d->since);
        db_bind_text(s, 7, text_or_empty(d->reason));
    }
    return db_run(s, err);
}

/* ---- reading ---- */

int queue_read_destinations(struct queue_reader *r, struct span after, struct queue_destination *out, size_t max,
                            size_t *count, struct arena *a, struct err *err)
{
    struct db_stmt *s = db_stmt(r->db, "SELECT name, suspended, failures, down_until, down_for, since, reason "
                                       "FROM destination WHERE name > ? ORDER BY name LIMIT ?");
    int got;
    *count = 0;
    db_bind_text(s, 1, text_or_empty(after));
    db_bind_i64(s, 2, (int64_t)max);
    while ((got = db_step(s, err)) > 0)
        out[(*count)++] = (struct queue_destination){.name = arena_dup(a, db_text(s, 0)),
                                                     .suspended = db_i64(s, 1) != 0,
                                                     .failures = (uint32_t)db_i64(s, 2),
                                                     .down_until = db_i64(s, 3),
                                                     .down_for = db_i64(s, 4),
                                                     .since = db_i64(s, 5),
                                                     .reason = arena_dup(a, db_text(s, 6))};
    return got;
}

int queue_read_waited(struct queue_reader *r, struct span after, struct span *name, struct arena *a, struct err *err)
{
    struct db_stmt *s =
        db_stmt(r->db, "SELECT destination FROM recipient WHERE destination > ? ORDER BY destination LIMIT 1");
    db_bind_text(s, 1, text_or_empty(after));
    int got = db_step(s, err);
    if (got <= 0)
        return got < 0 ? -1 : 1;
    *name = arena_dup(a, db_text(s, 0));
    db_reset(s);
    return 0;
}

int queue_count_waiting(struct queue_reader *r, struct span destination, unsigned most, uint64_t *count,
                        struct err *err)
{
    struct db_stmt *s =
        db_stmt(r->db, "SELECT count(*) FROM (SELECT 1 FROM recipient WHERE destination = ? LIMIT ?)");
    db_bind_text(s, 1, destination);
    db_bind_i64(s, 2, most);
    int got = db_step(s, err);
    *count = got > 0 ? (uint64_t)db_i64(s, 0) : 0;
    if (got > 0)
        db_reset(s);
    return got < 0 ? -1 : 0;
}
