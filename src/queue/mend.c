/* What queue_verify() found, mended by the writer: each statement asks once more whether it is so. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "queue/impl.h"
#include "queue/verify.h"

#define THIS "message = ?1 AND id = ?2"

static const char *const statements[QUEUE_FAULT_COUNT] = {
    [QUEUE_FAULT_NO_MESSAGE] = "DELETE FROM recipient WHERE " THIS " AND NOT EXISTS (SELECT 1 FROM message WHERE id = ?1)",
    [QUEUE_FAULT_STATE] = "UPDATE recipient SET state = 3, next = NULL, destination = NULL WHERE " THIS " AND state NOT BETWEEN 1 AND 6",
    [QUEUE_FAULT_NEXT_MISSING] = "UPDATE recipient SET next = ?3 WHERE " THIS " AND next IS NULL AND state IN (1, 2, 5)",
    [QUEUE_FAULT_NEXT_GIVEN] = "UPDATE recipient SET next = NULL WHERE " THIS " AND next IS NOT NULL AND state IN (3, 4, 6)",
    [QUEUE_FAULT_PARENT] = "UPDATE recipient SET parent = 0 WHERE " THIS " AND parent <> 0 AND NOT EXISTS "
                           "(SELECT 1 FROM recipient p WHERE p.message = ?1 AND p.id = recipient.parent AND p.state = 4)",
    [QUEUE_FAULT_DESTINATION] = "UPDATE recipient SET destination = NULL WHERE " THIS " AND destination IS NOT NULL AND state <> 1",
    [QUEUE_FAULT_DOMAIN] = "UPDATE recipient SET domain = ?4 WHERE " THIS " AND domain IS NOT ?4",
    [QUEUE_FAULT_LIMITED] = "UPDATE recipient SET state = 3 WHERE " THIS " AND state = 6 AND NOT EXISTS "
                            "(SELECT 1 FROM message m JOIN limited l ON l.account = m.account WHERE m.id = ?1)",
    [QUEUE_FAULT_NO_RECIPIENT] = "DELETE FROM message WHERE id = ?1 AND NOT EXISTS "
                                 "(SELECT 1 FROM recipient WHERE message = ?1 AND state <> 4)",
    [QUEUE_FAULT_CONTENT_ORPHAN] = "DELETE FROM content WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM message WHERE id = ?1)",
    [QUEUE_FAULT_MARK] = "UPDATE mark SET id = ?1 + 1 WHERE id <= ?1",
};

static int run(struct queue *q, const char *sql, const struct queue_mend *m, int64_t *changed, struct err *err)
{
    struct db_stmt *s = db_stmt(q->sql.db, sql);
    db_bind_i64(s, 1, (int64_t)m->message);
    if (m->recipient)
        db_bind_i64(s, 2, (int64_t)m->recipient);
    if (m->fault == QUEUE_FAULT_NEXT_MISSING)
        db_bind_i64(s, 3, m->now);
    if (m->fault == QUEUE_FAULT_DOMAIN)
        db_bind_text(s, 4, m->has_domain ? span_of(m->domain) : SPAN_NONE);
    if (db_run(s, err))
        return -1;
    *changed = db_changes(q->sql.db);
    return 0;
}

static int mend_file(struct queue *q, struct queue_mend *m, struct err *err)
{
    bool row;
    struct stat st;
    if (sql_has_message(&q->sql, m->message, &row, err))
        return -1;
    m->still = !row && fstatat(q->spool_fd, qid_text(m->message).text, &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (m->still && !m->look)
        queue_spool_remove(q, m->message);
    return 0;
}

/* What belongs to a message that had no recipient. */
static int drop_rest(struct queue *q, struct queue_mend *m, struct err *err)
{
    int64_t changed;
    if (run(q, "DELETE FROM recipient WHERE message = ?1", m, &changed, err) ||
        run(q, "DELETE FROM content WHERE id = ?1", m, &changed, err))
        return -1;
    m->request.unlink = true;
    return 0;
}

static int run_mend(struct queue *q, struct queue_request *r, struct err *err)
{
    struct queue_mend *m = container_of(r, struct queue_mend, request);
    int64_t changed;
    m->still = false;
    r->unlink = false;
    if (m->fault == QUEUE_FAULT_FILE_ORPHAN)
        return mend_file(q, m, err);
    if (run(q, statements[m->fault], m, &changed, err))
        return -1;
    m->still = changed > 0;
    if (m->fault == QUEUE_FAULT_NO_RECIPIENT && m->still)
        return drop_rest(q, m, err);
    if (m->fault == QUEUE_FAULT_MARK)
        q->sql.mark = MAX_OF(q->sql.mark, m->message + 1);
    return 0;
}

void queue_mend(struct queue *q, struct queue_mend *m)
{
    m->request.run = run_mend;
    m->request.waits = m->request.unlink = false;
    m->request.message = m->message;
    m->request.highest = 0;
    queue_submit(q, &m->request, 1);
}

void queue_ids_above(struct queue *q, uint64_t id)
{
    q->ids.last = MAX_OF(q->ids.last, id);
}
