/* All SQL of the queue. A function is the rows of one request or one question; transactions are the writer's
 * (queue/writer.c) or, for readers, one statement each, so that no snapshot is held for long. */
#include "queue/sql.h"

#include <stdio.h>

#include "base/mem.h"
#include "base/util.h"
#include "mail/address.h"

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

/* ---- reading ---- */

int queue_reader_open(struct queue_reader **out, const char *dir, struct err *err)
{
    struct db_options o = {
        .read_only = true, .one_process = true, .keep_wal = true, .own_checkpoints = true, .cache_kib = 1024};
    struct queue_reader *r = mem_alloc(sizeof *r);
    if (db_open(&r->db, dir, "queue.db", &o, err)) {
        mem_free(&r);
        return -1;
    }
    *out = r;
    return 0;
}

void queue_reader_close(struct queue_reader **r)
{
    if (!*r)
        return;
    db_close(&(*r)->db);
    mem_free(r);
}

static int first_after(struct queue_reader *r, int64_t now, int64_t *coming, struct err *err)
{
    struct db_stmt *s =
        db_stmt(r->db, "SELECT next FROM recipient WHERE next IS NOT NULL AND next > ? ORDER BY next LIMIT 1");
    db_bind_i64(s, 1, now);
    int got = db_step(s, err);
    if (got < 0)
        return -1;
    *coming = got ? db_i64(s, 0) : 0;
    if (got)
        db_reset(s);
    return 0;
}

int queue_read_due(struct queue_reader *r, const struct queue_due *after, int64_t now, struct queue_due *out,
                   size_t max, size_t *count, int64_t *coming, struct err *err)
{
    struct db_stmt *s =
        db_stmt(r->db, "SELECT next, message, id FROM recipient WHERE next IS NOT NULL AND next <= ?1 AND next >= ?2 "
                       "AND (next, message, id) > (?2, ?3, ?4) ORDER BY next, message, id LIMIT ?5");
    size_t n = 0;
    int got;
    db_bind_i64(s, 1, now);
    db_bind_i64(s, 2, after->next);
    db_bind_i64(s, 3, (int64_t)after->message);
    db_bind_i64(s, 4, (int64_t)after->recipient);
    db_bind_i64(s, 5, (int64_t)max);
    while ((got = db_step(s, err)) > 0)
        out[n++] = (struct queue_due){db_i64(s, 0), (uint64_t)db_i64(s, 1), (uint64_t)db_i64(s, 2)};
    *count = n;
    if (got < 0)
        return -1;
    return n < max ? first_after(r, now, coming, err) : 0;
}

static struct span keep(struct arena *a, struct db_stmt *s, int column)
{
    struct span t = db_text(s, column);
    return t.p ? arena_dup(a, t) : SPAN_NONE;
}

#define MESSAGE_COLUMNS                                                                           \
    "m.id, m.sender, m.account, m.origin, m.helo, m.remote, m.received, m.size, m.header_bytes, " \
    "m.message_id, m.envid, m.ret, m.body_kind, m.smtputf8, m.spooled, m.tls, m.login, "          \
    "m.tls_need, m.by_mode, m.deliver_by, m.hold_until, m.hold, m.priority, m.terminal, m.policy, m.marks"
enum { MESSAGE_WIDTH = 26 };

static void get_message(struct db_stmt *s, struct arena *a, struct queue_message *m)
{
    *m = (struct queue_message){
        .id = (uint64_t)db_i64(s, 0),
        .sender = keep(a, s, 1),
        .account = (uint32_t)db_i64(s, 2),
        .origin = (uint8_t)db_i64(s, 3),
        .helo = keep(a, s, 4),
        .remote = keep(a, s, 5),
        .received = db_i64(s, 6),
        .size = (uint64_t)db_i64(s, 7),
        .header_bytes = (uint32_t)db_i64(s, 8),
        .message_id = keep(a, s, 9),
        .envid = keep(a, s, 10),
        .ret = (uint8_t)db_i64(s, 11),
        .body_kind = (uint8_t)db_i64(s, 12),
        .smtputf8 = (uint8_t)db_i64(s, 13),
        .spooled = db_i64(s, 14) != 0,
        .tls = keep(a, s, 15),
        .login = keep(a, s, 16),
        .tls_need = (uint8_t)db_i64(s, 17),
        .by_mode = (uint8_t)db_i64(s, 18),
        .deliver_by = db_i64(s, 19),
        .hold_until = db_i64(s, 20),
        .hold = keep(a, s, 21),
        .priority = (int8_t)db_i64(s, 22),
        .terminal = (uint8_t)db_i64(s, 23),
        .policy = keep(a, s, 24),
        .marks = keep(a, s, 25),
    };
}

#define RECIPIENT_COLUMNS                                                         \
    "r.id, r.parent, r.depth, r.notify, r.state, r.attempts, r.next, r.address, " \
    "r.original, r.orcpt, r.sender, r.last, r.kind, r.code, r.subject, r.detail, r.why, r.host, r.passed, "  \
    "r.destination, r.told, r.dialogue, r.route"
enum { RECIPIENT_WIDTH = 23 };

static void get_recipient(struct db_stmt *s, int c, struct arena *a, struct queue_recipient *r)
{
    *r = (struct queue_recipient){
        .id = (uint64_t)db_i64(s, c),
        .parent = (uint64_t)db_i64(s, c + 1),
        .depth = (uint8_t)db_i64(s, c + 2),
        .notify = (uint8_t)db_i64(s, c + 3),
        .state = (uint8_t)db_i64(s, c + 4),
        .attempts = (uint32_t)db_i64(s, c + 5),
        .next = db_i64(s, c + 6),
        .address = keep(a, s, c + 7),
        .original = keep(a, s, c + 8),
        .orcpt = keep(a, s, c + 9),
        .sender = keep(a, s, c + 10),
        .last = db_i64(s, c + 11),
        .kind = (uint8_t)db_i64(s, c + 12),
        .code = (uint16_t)db_i64(s, c + 13),
        .subject = (uint16_t)db_i64(s, c + 14),
        .detail = (uint16_t)db_i64(s, c + 15),
        .why = keep(a, s, c + 16),
        .host = keep(a, s, c + 17),
        .passed = (uint8_t)db_i64(s, c + 18),
        .destination = keep(a, s, c + 19),
        .told = db_i64(s, c + 20) != 0,
        .dialogue = keep(a, s, c + 21),
        .route = keep(a, s, c + 22),
    };
}

int queue_read_message(struct queue_reader *r, uint64_t id, bool content, struct arena *a, struct queue_message *out,
                       struct err *err)
{
    struct db_stmt *s = content
                            ? db_stmt(r->db, "SELECT " MESSAGE_COLUMNS ", c.prefix, c.body FROM message m "
                                             "LEFT JOIN content c ON c.id = m.id WHERE m.id = ?")
                            : db_stmt(r->db, "SELECT " MESSAGE_COLUMNS " FROM message m WHERE m.id = ?");
    db_bind_i64(s, 1, (int64_t)id);
    int got = db_step(s, err);
    if (got <= 0)
        return got < 0 ? -1 : 1;
    get_message(s, a, out);
    bool lost = content && !out->spooled && db_is_null(s, MESSAGE_WIDTH);
    if (content && !out->spooled && !lost) {
        out->prefix = arena_dup(a, db_blob(s, MESSAGE_WIDTH));
        out->body = arena_dup(a, db_blob(s, MESSAGE_WIDTH + 1));
    }
    db_reset(s);
    return lost ? 1 : 0;
}

int queue_read_recipient(struct queue_reader *r, uint64_t message, uint64_t id, struct arena *a,
                         struct queue_recipient *out, struct err *err)
{
    struct db_stmt *s = db_stmt(r->db, "SELECT " RECIPIENT_COLUMNS " FROM recipient r WHERE message = ? AND id = ?");
    db_bind_i64(s, 1, (int64_t)message);
    db_bind_i64(s, 2, (int64_t)id);
    int got = db_step(s, err);
    if (got <= 0)
        return got < 0 ? -1 : 1;
    get_recipient(s, 0, a, out);
    db_reset(s);
    return 0;
}

int queue_read_recipients(struct queue_reader *r, uint64_t message, uint64_t after, struct queue_recipient *out,
                          size_t max, size_t *count, struct arena *a, struct err *err)
{
    struct db_stmt *s = db_stmt(r->db, "SELECT " RECIPIENT_COLUMNS
                                       " FROM recipient r WHERE message = ? AND id > ? ORDER BY id LIMIT ?");
    int got;
    *count = 0;
    db_bind_i64(s, 1, (int64_t)message);
    db_bind_i64(s, 2, (int64_t)after);
    db_bind_i64(s, 3, (int64_t)max);
    while ((got = db_step(s, err)) > 0)
        get_recipient(s, 0, a, &out[(*count)++]);
    return got;
}

static bool in_range(const struct queue_filter *f, int64_t received, uint64_t size)
{
    return received >= f->since && (!f->before || received < f->before) && (!f->larger || size > f->larger) &&
           (!f->smaller || size < f->smaller);
}

/* Domains may be spelled as A-labels or U-labels. */
static bool same_domain(struct span domain, struct span canonical)
{
    char name[ADDRESS_DOMAIN_MAX + 1];
    size_t n;
    return span_ieq(domain, canonical) || (!span_is_ascii(domain) && domain_canonical(domain, name, &n) && span_eq(span_make(name, n), canonical));
}

static bool same_address(struct span a, struct span b)
{
    struct address_key x, y;
    if (span_ieq(a, b) || (span_is_ascii(a) && span_is_ascii(b)))
        return span_ieq(a, b);
    return address_key(a, &x) && address_key(b, &y) && span_eq(address_key_span(&x), address_key_span(&y));
}

static bool matches(const struct queue_filter *f, struct db_stmt *s)
{
    struct span sender = db_text(s, 1), address = db_text(s, MESSAGE_WIDTH + 7),
                original = db_text(s, MESSAGE_WIDTH + 8);
    struct span domain = span_from(address, (size_t)(span_rfind(address, '@') + 1));
    bool found = f->canonical.n && span_eq(db_text(s, MESSAGE_WIDTH + RECIPIENT_WIDTH), f->canonical); /* in whatever spelling */
    bool rcpt = !f->recipient.n || same_address(address, f->recipient) || same_address(original, f->recipient);
    bool either = !f->either.n || same_address(sender, f->either) || same_address(address, f->either) || same_address(original, f->either);
    return rcpt && either && (!f->sender.n || same_address(sender, f->sender)) &&
           (!f->domain.n || found || same_domain(domain, f->domain)) && (!f->state || db_i64(s, MESSAGE_WIDTH + 4) == f->state) &&
           (!f->account || db_i64(s, 2) == f->account) && in_range(f, db_i64(s, 6), (uint64_t)db_i64(s, 7));
}

/* Each reads its index, or the table, in the order of rows: none sorts. */
#define ITEMS(index) \
    "SELECT " MESSAGE_COLUMNS ", " RECIPIENT_COLUMNS ", r.domain FROM recipient r " index " JOIN message m ON m.id = r.message WHERE "
#define PLACE "(r.message, r.id) > (?1, ?2) AND r.message >= ?1 AND r.message <= ?3 ORDER BY r.message, r.id LIMIT ?4"

static const char *const by_state[] = {
    [QUEUE_PARKED] = ITEMS("INDEXED BY recipient_parked") "r.state = 2 AND " PLACE,
    [QUEUE_HELD] = ITEMS("INDEXED BY recipient_held") "r.state = 3 AND " PLACE,
    [QUEUE_PICKUP] = ITEMS("INDEXED BY recipient_pickup") "r.state = 5 AND " PLACE,
    [QUEUE_LIMITED] = ITEMS("INDEXED BY recipient_limited") "r.state = 6 AND " PLACE,
};

static bool is_rare(uint8_t state)
{
    return state < COUNT_OF(by_state) && by_state[state];
}

/* What has waited is found by its domain, what has not is looked for among all. */
static bool has_parts(const struct queue_filter *f)
{
    return f->canonical.n && !f->waits.n && !is_rare(f->state);
}

static struct db_stmt *page_stmt(struct queue_reader *r, const struct queue_filter *f, const struct queue_place *at)
{
    if (f->waits.n || (has_parts(f) && !at->rest)) {
        struct db_stmt *s = db_stmt(r->db, ITEMS("INDEXED BY recipient_domain") "r.domain = ?5 AND " PLACE);
        db_bind_text(s, 5, f->waits.n ? f->waits : f->canonical);
        return s;
    }
    if (is_rare(f->state))
        return db_stmt(r->db, by_state[f->state]);
    return at->rest ? db_stmt(r->db, ITEMS("NOT INDEXED") "r.domain IS NULL AND " PLACE)
                    : db_stmt(r->db, ITEMS("NOT INDEXED") PLACE);
}

/* An id is never earlier than its message; it may be later by much, when a clock was set back or the message comes from
 * another queue. So ids tell where to begin, and not where to end. */
#define SLACK_MS INT64_C(3600000)

static void begin(const struct queue_filter *f, struct queue_place *at)
{
    uint64_t first = f->since > SLACK_MS ? (uint64_t)(f->since - SLACK_MS) * 1000 : 0;
    first = MAX_OF(first, f->message);
    if (at->message < first) {
        at->message = first;
        at->recipient = 0;
    }
}

int queue_read_page(struct queue_reader *r, const struct queue_filter *f, struct queue_place *at, size_t look,
                    struct queue_item *out, size_t max, size_t *count, bool *end, struct arena *a, struct err *err)
{
    struct db_stmt *s = page_stmt(r, f, at);
    size_t looked = 0;
    int got = 0;
    *count = 0;
    begin(f, at);
    db_bind_i64(s, 1, (int64_t)at->message);
    db_bind_i64(s, 2, (int64_t)at->recipient);
    db_bind_i64(s, 3, f->message ? (int64_t)f->message : INT64_MAX);
    db_bind_i64(s, 4, (int64_t)look);
    while (*count < max && (got = db_step(s, err)) > 0) {
        looked++;
        at->looked++;
        at->message = (uint64_t)db_i64(s, 0);
        at->recipient = (uint64_t)db_i64(s, MESSAGE_WIDTH);
        if (!matches(f, s))
            continue;
        struct queue_item *i = &out[(*count)++];
        get_message(s, a, &i->message);
        get_recipient(s, MESSAGE_WIDTH, a, &i->recipient);
    }
    if (got > 0)
        db_reset(s);
    *end = got == 0 && looked < look;
    if (*end && has_parts(f) && !at->rest) {
        *end = false;
        *at = (struct queue_place){.rest = true, .looked = at->looked};
    }
    return got < 0 ? -1 : 0;
}
