/* SQL for accounts over a limit of what they may send: whose mail is held. Their recipients are in the state `limited`. */
#include "queue/sql.h"

int sql_limited(struct sql *q, const struct queue_limited *l, struct err *err)
{
    struct db_stmt *s = db_stmt(q->db, "INSERT INTO limited VALUES (?, ?, ?, ?, ?, 0) ON CONFLICT (account) DO UPDATE SET "
                                       "told = max(told, excluded.told)");
    db_bind_i64(s, 1, l->account);
    db_bind_text(s, 2, l->login);
    db_bind_i64(s, 3, l->since);
    db_bind_text(s, 4, l->reason);
    db_bind_i64(s, 5, l->told);
    return db_run(s, err);
}

int sql_limited_end(struct sql *q, const struct queue_limited_end *e, struct err *err)
{
    struct db_stmt *s = db_stmt(q->db, e->over ? "DELETE FROM limited WHERE account = ?"
                                               : "UPDATE limited SET ending = ?2 WHERE account = ?1");
    db_bind_i64(s, 1, e->account);
    if (!e->over)
        db_bind_i64(s, 2, e->ending);
    return db_run(s, err);
}

int queue_read_limited(struct queue_reader *r, uint32_t after, struct queue_limited *out, size_t max, size_t *count,
                       struct arena *a, struct err *err)
{
    struct db_stmt *s = db_stmt(r->db, "SELECT account, login, since, reason, told, ending FROM limited WHERE account > ? "
                                       "ORDER BY account LIMIT ?");
    int got;
    *count = 0;
    db_bind_i64(s, 1, after);
    db_bind_i64(s, 2, (int64_t)max);
    while ((got = db_step(s, err)) > 0)
        out[(*count)++] = (struct queue_limited){.account = (uint32_t)db_i64(s, 0),
                                                 .login = arena_dup(a, db_text(s, 1)),
                                                 .since = db_i64(s, 2),
                                                 .reason = arena_dup(a, db_text(s, 3)),
                                                 .told = db_i64(s, 4) != 0,
                                                 .ending = (uint8_t)db_i64(s, 5)};
    return got;
}

int queue_count_limited(struct queue_reader *r, queue_limited_fn *fn, void *ctx, struct err *err)
{
    struct db_stmt *s = db_stmt(r->db, "SELECT m.account, count(DISTINCT m.id), count(*) FROM recipient r "
                                       "JOIN message m ON m.id = r.message WHERE r.state = 6 GROUP BY m.account");
    int got;
    while ((got = db_step(s, err)) > 0)
        fn(ctx, (uint32_t)db_i64(s, 0), (uint64_t)db_i64(s, 1), (uint64_t)db_i64(s, 2));
    return got;
}
