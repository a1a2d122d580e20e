/* The queue's tables, and what changes messages and their recipients. A function is the rows of one request; transactions are the
 * writer's (queue/writer.c). */
#include "queue/sql.h"

#include <stdio.h>

#include "base/mem.h"
#include "base/util.h"

static const char *const migrations[] = {
    "CREATE TABLE message (\n"
    "  id INTEGER PRIMARY KEY,\n"
    "  sender TEXT NOT NULL,\n"
    "  account INTEGER NOT NULL,\n"
    "  origin INTEGER NOT NULL,\n"
    "  helo TEXT NOT NULL,\n"
    "  remote TEXT NOT NULL,\n"
    "  received INTEGER NOT NULL,\n"
    "  size INTEGER NOT NULL,\n"
    "  header_bytes INTEGER NOT NULL,\n"
    "  message_id TEXT NOT NULL,\n"
    "  envid TEXT NOT NULL,\n"
    "  ret INTEGER NOT NULL,\n"
    "  body_kind INTEGER NOT NULL,\n"
    "  smtputf8 INTEGER NOT NULL,\n"
    "  spooled INTEGER NOT NULL,\n"
    "  tls TEXT NOT NULL,\n"
    "  login TEXT NOT NULL,\n"
    "  tls_need INTEGER NOT NULL,\n"
    "  by_mode INTEGER NOT NULL,\n"
    "  deliver_by INTEGER NOT NULL,\n"
    "  hold_until INTEGER NOT NULL,\n"
    "  hold TEXT NOT NULL,\n"
    "  priority INTEGER NOT NULL,\n"
    "  terminal INTEGER NOT NULL,\n"
    "  policy TEXT NOT NULL,\n"
    "  marks TEXT NOT NULL\n"
    ") STRICT;\n"
    /* apart, so that who looks through messages reads none of it */
    "CREATE TABLE content (id INTEGER PRIMARY KEY, prefix BLOB NOT NULL, body BLOB NOT NULL) STRICT;\n"
    "CREATE INDEX message_spooled ON message (id) WHERE spooled = 1;\n"
    "CREATE TABLE recipient (\n"
    "  message INTEGER NOT NULL,\n"
    "  id INTEGER NOT NULL,\n"
    "  parent INTEGER NOT NULL,\n"
    "  depth INTEGER NOT NULL,\n"
    "  notify INTEGER NOT NULL,\n"
    "  state INTEGER NOT NULL,\n"
    "  attempts INTEGER NOT NULL,\n"
    "  next INTEGER,\n"
    "  address TEXT NOT NULL,\n"
    "  original TEXT,\n"
    "  orcpt TEXT NOT NULL,\n"
    "  sender TEXT,\n"
    "  last INTEGER NOT NULL,\n"
    "  kind INTEGER NOT NULL,\n"
    "  code INTEGER NOT NULL,\n"
    "  subject INTEGER NOT NULL,\n"
    "  detail INTEGER NOT NULL,\n"
    "  why TEXT,\n"
    "  host TEXT,\n"
    "  passed INTEGER NOT NULL,\n"
    "  destination TEXT,\n"
    "  told INTEGER NOT NULL,\n"
    "  domain TEXT,\n"
    "  dialogue TEXT,\n"
    "  route TEXT,\n"
    "  PRIMARY KEY (message, id)\n"
    ") STRICT, WITHOUT ROWID;\n"
    "CREATE INDEX recipient_domain ON recipient (domain) WHERE domain IS NOT NULL;\n"
    "CREATE INDEX recipient_due ON recipient (next) WHERE next IS NOT NULL;\n"
    "CREATE INDEX recipient_destination ON recipient (destination) WHERE destination IS NOT NULL;\n"
    "CREATE INDEX recipient_parked ON recipient (message) WHERE state = 2;\n"
    "CREATE INDEX recipient_held ON recipient (message) WHERE state = 3;\n"
    "CREATE INDEX recipient_pickup ON recipient (message) WHERE state = 5;\n"
    "CREATE INDEX recipient_limited ON recipient (message) WHERE state = 6;\n"
    "CREATE TABLE limited (\n"
    "  account INTEGER PRIMARY KEY,\n"
    "  login TEXT NOT NULL,\n"
    "  since INTEGER NOT NULL,\n"
    "  reason TEXT NOT NULL,\n"
    "  told INTEGER NOT NULL,\n"
    "  ending INTEGER NOT NULL\n"
    ") STRICT;\n"
    "CREATE TABLE destination (\n"
    "  name TEXT PRIMARY KEY,\n"
    "  suspended INTEGER NOT NULL,\n"
    "  failures INTEGER NOT NULL,\n"
    "  down_until INTEGER NOT NULL,\n"
    "  down_for INTEGER NOT NULL,\n"
    "  since INTEGER NOT NULL,\n"
    "  reason TEXT NOT NULL\n"
    ") STRICT, WITHOUT ROWID;\n"
    "CREATE TABLE token_a (token BLOB PRIMARY KEY, message INTEGER NOT NULL) STRICT, WITHOUT ROWID;\n"
    "CREATE TABLE token_b (token BLOB PRIMARY KEY, message INTEGER NOT NULL) STRICT, WITHOUT ROWID;\n"
    "CREATE TABLE mark (\n"
    "  one INTEGER PRIMARY KEY CHECK (one = 1),\n"
    "  id INTEGER NOT NULL,\n"
    "  tokens INTEGER NOT NULL,\n"
    "  imported INTEGER NOT NULL\n"
    ") STRICT;\n"
    "INSERT INTO mark VALUES (1, 0, 0, 0);\n"
    "CREATE TABLE imported (token BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;\n",
};

/* ---- opening ---- */

#define QUEUE_PAGE 4096 /* a commit of few messages writes little; SQLite checks and copies whole pages */

int sql_open(struct sql *q, const char *dir, int64_t now_us, struct err *err)
{
    struct db_options o = {.sync_full = true,
                           .keep_wal = true,
                           .own_checkpoints = true,
                           .one_process = true,
                           .cache_kib = 4096,
                           .page_size = QUEUE_PAGE,
                           .gives_back = true,
                           .wal_limit = INT64_C(64) << 20};
    int64_t mark, tokens;
    *q = (struct sql){.tokens_since_us = now_us};
    if (db_renew_log(dir, "queue.db", NULL, err) || db_open(&q->db, dir, "queue.db", &o, err))
        return -1;
    if (db_migrate(q->db, migrations, COUNT_OF(migrations), err) ||
        db_value(q->db, "SELECT id FROM mark", 0, &mark, err) ||
        db_value(q->db, "SELECT tokens FROM mark", 0, &tokens, err) ||
        db_value(q->db, "SELECT imported FROM mark", 0, &q->imported_us, err)) {
        sql_close(q);
        return -1;
    }
    q->mark = (uint64_t)mark;
    q->tokens = tokens != 0;
    return 0;
}

void sql_close(struct sql *q)
{
    db_close(&q->db);
}

/* ---- rows ---- */

static struct span text_or_empty(struct span s)
{
    return s.p ? s : SPAN("");
}

static int insert_content(struct sql *q, const struct queue_message *m, struct err *err)
{
    struct db_stmt *s = db_stmt(q->db, "INSERT INTO content VALUES (?, ?, ?)");
    db_bind_i64(s, 1, (int64_t)m->id);
    db_bind_blob(s, 2, text_or_empty(m->prefix));
    db_bind_blob(s, 3, text_or_empty(m->body));
    return db_run(s, err);
}

int sql_insert_message(struct sql *q, const struct queue_message *m, struct err *err)
{
    struct db_stmt *s =
        db_stmt(q->db, "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
    db_bind_i64(s, 1, (int64_t)m->id);
    db_bind_text(s, 2, text_or_empty(m->sender));
    db_bind_i64(s, 3, m->account);
    db_bind_i64(s, 4, m->origin);
    db_bind_text(s, 5, text_or_empty(m->helo));
    db_bind_text(s, 6, text_or_empty(m->remote));
    db_bind_i64(s, 7, m->received);
    db_bind_i64(s, 8, (int64_t)m->size);
    db_bind_i64(s, 9, m->header_bytes);
    db_bind_text(s, 10, text_or_empty(m->message_id));
    db_bind_text(s, 11, text_or_empty(m->envid));
    db_bind_i64(s, 12, m->ret);
    db_bind_i64(s, 13, m->body_kind);
    db_bind_i64(s, 14, m->smtputf8);
    db_bind_i64(s, 15, m->spooled);
    db_bind_text(s, 16, text_or_empty(m->tls));
    db_bind_text(s, 17, text_or_empty(m->login));
    db_bind_i64(s, 18, m->tls_need);
    db_bind_i64(s, 19, m->by_mode);
    db_bind_i64(s, 20, m->deliver_by);
    db_bind_i64(s, 21, m->hold_until);
    db_bind_text(s, 22, text_or_empty(m->hold));
    db_bind_i64(s, 23, m->priority);
    db_bind_i64(s, 24, m->terminal);
    db_bind_text(s, 25, text_or_empty(m->policy));
    db_bind_text(s, 26, text_or_empty(m->marks));
    return db_run(s, err) || (!m->spooled && insert_content(q, m, err)) ? -1 : 0;
}

static void bind_next(struct db_stmt *s, int index, int64_t next)
{
    if (next)
        db_bind_i64(s, index, next);
    else
        db_bind_null(s, index);
}

int sql_insert_recipient(struct sql *q, uint64_t message, const struct queue_recipient *r, struct err *err)
{
    struct db_stmt *s =
        db_stmt(q->db, "INSERT INTO recipient VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
    db_bind_i64(s, 1, (int64_t)message);
    db_bind_i64(s, 2, (int64_t)r->id);
    db_bind_i64(s, 3, (int64_t)r->parent);
    db_bind_i64(s, 4, r->depth);
    db_bind_i64(s, 5, r->notify);
    db_bind_i64(s, 6, r->state);
    db_bind_i64(s, 7, r->attempts);
    bind_next(s, 8, r->next);
    db_bind_text(s, 9, text_or_empty(r->address));
    db_bind_text(s, 10, r->original);
    db_bind_text(s, 11, text_or_empty(r->orcpt));
    db_bind_text(s, 12, r->sender);
    db_bind_i64(s, 13, r->last);
    db_bind_i64(s, 14, r->kind);
    db_bind_i64(s, 15, r->code);
    db_bind_i64(s, 16, r->subject);
    db_bind_i64(s, 17, r->detail);
    db_bind_text(s, 18, r->why);
    db_bind_text(s, 19, r->host);
    db_bind_i64(s, 20, r->passed);
    db_bind_text(s, 21, r->destination);
    db_bind_i64(s, 22, r->told);
    db_bind_text(s, 23, r->domain);
    db_bind_text(s, 24, r->dialogue);
    db_bind_text(s, 25, r->route);
    return db_run(s, err);
}

static int update_recipient(struct sql *q, uint64_t message, const struct queue_recipient *r, struct err *err)
{
    struct db_stmt *s = db_stmt(
        q->db, "UPDATE recipient SET state = ?, attempts = ?, next = ?, last = ?, kind = ?, code = ?, subject = ?, "
               "detail = ?, "
               "why = ?, host = ?, passed = ?, destination = ?, told = ?, domain = ?, dialogue = ?, route = ? WHERE message = ? AND id = ?");
    db_bind_i64(s, 1, r->state);
    db_bind_i64(s, 2, r->attempts);
    bind_next(s, 3, r->next);
    db_bind_i64(s, 4, r->last);
    db_bind_i64(s, 5, r->kind);
    db_bind_i64(s, 6, r->code);
    db_bind_i64(s, 7, r->subject);
    db_bind_i64(s, 8, r->detail);
    db_bind_text(s, 9, r->why);
    db_bind_text(s, 10, r->host);
    db_bind_i64(s, 11, r->passed);
    db_bind_text(s, 12, r->destination);
    db_bind_i64(s, 13, r->told);
    db_bind_text(s, 14, r->domain);
    db_bind_text(s, 15, r->dialogue);
    db_bind_text(s, 16, r->route);
    db_bind_i64(s, 17, (int64_t)message);
    db_bind_i64(s, 18, (int64_t)r->id);
    return db_run(s, err);
}

static int with_two_ids(struct sql *q, const char *sql, uint64_t message, uint64_t id, struct err *err)
{
    struct db_stmt *s = db_stmt(q->db, sql);
    db_bind_i64(s, 1, (int64_t)message);
    if (id)
        db_bind_i64(s, 2, (int64_t)id);
    return db_run(s, err);
}

/* ---- requests ---- */

static const char *const token_insert[2] = {
    "INSERT INTO token_a SELECT ?1, ?2 WHERE NOT EXISTS (SELECT 1 FROM token_b WHERE token = ?1) "
    "ON CONFLICT DO NOTHING",
    "INSERT INTO token_b SELECT ?1, ?2 WHERE NOT EXISTS (SELECT 1 FROM token_a WHERE token = ?1) "
    "ON CONFLICT DO NOTHING",
};

int sql_accept(struct sql *q, struct queue_accept *a, struct err *err)
{
    a->duplicate_of = 0;
    if (a->token) {
        struct db_stmt *s = db_stmt(q->db, token_insert[q->tokens]);
        db_bind_blob(s, 1, span_make(a->token, QUEUE_TOKEN_BYTES));
        db_bind_i64(s, 2, (int64_t)a->message->id);
        if (db_run(s, err))
            return -1;
        if (db_changes(q->db) == 0)
            return sql_token(q, a->token, &a->duplicate_of, err);
    }
    if (sql_insert_message(q, a->message, err))
        return -1;
    for (size_t i = 0; i < a->count; i++)
        if (sql_insert_recipient(q, a->message->id, &a->recipients[i], err))
            return -1;
    for (size_t i = 0; i < a->notice_count; i++)
        if (sql_insert_message(q, a->notices[i].message, err) ||
            sql_insert_recipient(q, a->notices[i].message->id, a->notices[i].to, err))
            return -1;
    return a->limited ? sql_limited(q, a->limited, err) : 0;
}

/* The message goes with its last recipient that is not an expanded alias. */
static int drop_if_done(struct sql *q, uint64_t message, bool *gone, struct err *err)
{
    struct db_stmt *s = db_stmt(q->db, "SELECT 1 FROM recipient WHERE message = ? AND state <> 4 LIMIT 1");
    db_bind_i64(s, 1, (int64_t)message);
    int more = db_step(s, err);
    if (more > 0)
        db_reset(s);
    *gone = more == 0;
    if (more)
        return more < 0 ? -1 : 0;
    return with_two_ids(q, "DELETE FROM recipient WHERE message = ?", message, 0, err) ||
                   with_two_ids(q, "DELETE FROM content WHERE id = ?", message, 0, err) ||
                   with_two_ids(q, "DELETE FROM message WHERE id = ?", message, 0, err)
               ? -1
               : 0;
}

static int insert_if_there(struct sql *q, struct queue_settle *s, const struct queue_recipient *r, struct err *err)
{
    bool there;
    if (sql_has_message(q, s->message, &there, err))
        return -1;
    s->message_gone = !there;
    return there ? sql_insert_recipient(q, s->message, r, err) : 0;
}

int sql_settle(struct sql *q, struct queue_settle *s, struct err *err)
{
    bool check = false;
    s->message_gone = false;
    for (size_t i = 0; i < s->count; i++) {
        const struct queue_recipient *r = &s->changes[i].row;
        check |= s->changes[i].kind == QUEUE_GONE || r->state == QUEUE_EXPANDED;
        if (s->changes[i].kind == QUEUE_INSERT) {
            if (insert_if_there(q, s, r, err))
                return -1;
            continue;
        }
        if (s->changes[i].kind == QUEUE_GONE
                ? with_two_ids(q, "DELETE FROM recipient WHERE message = ? AND id = ?", s->message, r->id, err)
                : update_recipient(q, s->message, r, err))
            return -1;
    }
    for (size_t i = 0; i < s->child_count; i++)
        if (sql_insert_recipient(q, s->message, &s->children[i], err))
            return -1;
    if (s->notice && (sql_insert_message(q, s->notice, err) || sql_insert_recipient(q, s->notice->id, s->notice_to, err)))
        return -1;
    return check ? drop_if_done(q, s->message, &s->message_gone, err) : 0;
}

int sql_token(struct sql *q, const char *token, uint64_t *message, struct err *err)
{
    struct db_stmt *s = db_stmt(
        q->db, "SELECT message FROM token_a WHERE token = ?1 UNION ALL SELECT message FROM token_b WHERE token = ?1");
    db_bind_blob(s, 1, span_make(token, QUEUE_TOKEN_BYTES));
    int got = db_step(s, err);
    *message = got > 0 ? (uint64_t)db_i64(s, 0) : 0;
    if (got > 0)
        db_reset(s);
    return got < 0 ? -1 : 0;
}

static int turn_tokens(struct sql *q, int64_t now_us, struct err *err)
{
    unsigned other = !q->tokens;
    struct db_stmt *s = db_stmt(q->db, "UPDATE mark SET tokens = ?");
    db_bind_i64(s, 1, other);
    if (db_run(db_stmt(q->db, other ? "DELETE FROM token_b" : "DELETE FROM token_a"), err) || db_run(s, err))
        return -1;
    q->tokens = other;
    q->tokens_since_us = now_us;
    return sql_forget_imported(q, now_us, err);
}

static int move_mark(struct sql *q, uint64_t to, struct err *err)
{
    struct db_stmt *s = db_stmt(q->db, "UPDATE mark SET id = ?");
    db_bind_i64(s, 1, (int64_t)to);
    if (db_run(s, err))
        return -1;
    q->mark = to;
    return 0;
}

int sql_probe(struct sql *q, struct err *err)
{
    return move_mark(q, q->mark + 1, err);
}

int sql_finish(struct sql *q, uint64_t highest_id, int64_t now_us, struct err *err)
{
    if (now_us - q->tokens_since_us > SQL_TOKEN_LIFE_US && turn_tokens(q, now_us, err))
        return -1;
    return highest_id < q->mark ? 0 : move_mark(q, highest_id + SQL_MARK_AHEAD, err);
}

int sql_give_back(struct sql *q, bool *more, struct err *err)
{
    struct db_stmt *s = db_stmt(q->db, "PRAGMA freelist_count");
    int got = db_step(s, err);
    int64_t free_pages = got > 0 ? db_i64(s, 0) : 0;
    if (got > 0)
        db_reset(s);
    *more = free_pages > SQL_FREE_PAGES;
    return got < 0 || (*more && db_run(db_stmt(q->db, "PRAGMA incremental_vacuum(" SQL_STEP_PAGES ")"), err)) ? -1 : 0;
}

int sql_has_message(struct sql *q, uint64_t id, bool *there, struct err *err)
{
    struct db_stmt *s = db_stmt(q->db, "SELECT 1 FROM message WHERE id = ?");
    db_bind_i64(s, 1, (int64_t)id);
    int got = db_step(s, err);
    *there = got > 0;
    if (got > 0)
        db_reset(s);
    return got < 0 ? -1 : 0;
}

int sql_some_spooled(struct sql *q, uint64_t after, uint64_t below, size_t most, void (*fn)(void *ctx, uint64_t id), void *ctx, struct err *err)
{
    struct db_stmt *s = db_stmt(q->db, "SELECT id FROM message INDEXED BY message_spooled WHERE spooled = 1 AND id > ? AND id < ? "
                                       "ORDER BY id LIMIT ?");
    int got, n = 0;
    db_bind_i64(s, 1, (int64_t)after);
    db_bind_i64(s, 2, (int64_t)MIN_OF(below, (uint64_t)INT64_MAX));
    db_bind_i64(s, 3, (int64_t)most);
    for (; (got = db_step(s, err)) > 0; n++)
        fn(ctx, (uint64_t)db_i64(s, 0));
    return got < 0 ? -1 : n;
}
