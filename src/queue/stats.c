/* The whole queue, row by row, for whoever adds it up. */
#include "queue/sql.h"

int queue_each_fact(struct queue_reader *r, struct queue_place *at, size_t look, queue_fact_fn *fn, void *ctx, bool *end,
                    struct err *err)
{
    struct db_stmt *s = db_stmt(r->db, "SELECT r.message, r.id, r.state, r.address, coalesce(r.destination, r.route), coalesce(r.sender, m.sender), "
                                       "m.size, m.received FROM recipient r NOT INDEXED JOIN message m ON m.id = r.message "
                                       "WHERE (r.message, r.id) > (?1, ?2) AND r.message >= ?1 ORDER BY r.message, r.id LIMIT ?3");
    size_t looked = 0;
    int got;
    db_bind_i64(s, 1, (int64_t)at->message);
    db_bind_i64(s, 2, (int64_t)at->recipient);
    db_bind_i64(s, 3, (int64_t)look);
    while ((got = db_step(s, err)) > 0) {
        struct queue_fact f = {.message = (uint64_t)db_i64(s, 0),
                               .state = (uint8_t)db_i64(s, 2),
                               .address = db_text(s, 3),
                               .destination = db_text(s, 4),
                               .sender = db_text(s, 5),
                               .size = (uint64_t)db_i64(s, 6),
                               .received = db_i64(s, 7)};
        at->message = f.message;
        at->recipient = (uint64_t)db_i64(s, 1);
        looked++;
        fn(ctx, &f);
    }
    *end = looked < look;
    return got;
}

/* Each count reads an index that holds nothing else. */
int queue_count(struct queue_reader *r, int64_t now, struct queue_counts *out, struct err *err)
{
    struct db_stmt *s = db_stmt(
        r->db, "SELECT (SELECT count(*) FROM recipient INDEXED BY recipient_due WHERE next IS NOT NULL AND next <= ?1),"
               " (SELECT count(*) FROM recipient INDEXED BY recipient_due WHERE next IS NOT NULL AND next > ?1),"
               " (SELECT count(*) FROM recipient INDEXED BY recipient_parked WHERE state = 2),"
               " (SELECT count(*) FROM recipient INDEXED BY recipient_held WHERE state = 3),"
               " (SELECT count(*) FROM recipient INDEXED BY recipient_pickup WHERE state = 5),"
               " (SELECT count(*) FROM recipient INDEXED BY recipient_limited WHERE state = 6)");
    db_bind_i64(s, 1, now);
    if (db_step(s, err) <= 0)
        return -1;
    *out = (struct queue_counts){.due = (uint64_t)db_i64(s, 0),
                                 .later = (uint64_t)db_i64(s, 1),
                                 .parked = (uint64_t)db_i64(s, 2),
                                 .held = (uint64_t)db_i64(s, 3),
                                 .pickup = (uint64_t)db_i64(s, 4),
                                 .limited = (uint64_t)db_i64(s, 5)};
    db_reset(s);
    return 0;
}
