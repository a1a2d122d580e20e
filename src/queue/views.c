#include "queue/views.h"

#include <stdio.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/util.h"
#include "queue/history.h"
#include "queue/queue.h"

/* ---- what may be read and called ---- */

static bool is_one_of(const char *const *names, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcasecmp(names[i], name) == 0)
            return true;
    return false;
}

/* Without a column rows are only counted, and a name may be one that the statement itself gives (WITH). */
static bool readable(const char *table, const char *column)
{
    static const char *const tables[] = {"message",    "recipient",    "destination",    "event",
                                         "v1_message", "v1_recipient", "v1_destination", "v1_event"};
    /* contents are no operator's business */
    static const char *const hidden[] = {"mark", "token_a", "token_b", "limited", "content", "imported", "dbstat", "json_each", "json_tree"};
    if (!*column)
        return !is_one_of(hidden, COUNT_OF(hidden), table) && strncasecmp(table, "sqlite_", 7) != 0 &&
               strncasecmp(table, "pragma_", 7) != 0;
    return is_one_of(tables, COUNT_OF(tables), table);
}

static const char *const functions[] = {
    "abs", "avg", "coalesce", "count", "date", "datetime", "dense_rank", "domain_of", "event_name", "first_value", "group_concat",
    "ifnull", "iif", "instr", "julianday", "lag", "last_value", "lead", "length", "like", "glob", "lower", "ltrim", "max", "min",
    "nullif", "origin_name", "qid", "rank", "replace", "round", "row_number", "rtrim", "state_name", "strftime", "substr",
    "substring", "sum", "time", "total", "trim", "typeof", "unixepoch", "upper", NULL};

static const struct db_guard guard = {readable, functions};

static bool number_of(struct span arg, uint64_t *n)
{
    return span_u64(arg, INT64_MAX, n);
}

static bool put_text(char *out, size_t size, const char *text)
{
    snprintf(out, size, "%s", text);
    return true;
}

static bool sql_qid(struct span arg, char *out, size_t size)
{
    uint64_t n;
    return number_of(arg, &n) && put_text(out, size, qid_text(n).text);
}

static bool sql_state(struct span arg, char *out, size_t size)
{
    uint64_t n;
    return number_of(arg, &n) && put_text(out, size, queue_state_name((enum queue_state)n));
}

static bool sql_event(struct span arg, char *out, size_t size)
{
    uint64_t n;
    return number_of(arg, &n) && put_text(out, size, history_kind_name((unsigned)n));
}

static bool sql_origin(struct span arg, char *out, size_t size)
{
    static const char *const names[] = {[QUEUE_FROM_OUTSIDE] = "outside",
                                        [QUEUE_FROM_SUBMISSION] = "submission",
                                        [QUEUE_FROM_ACCOUNT] = "account",
                                        [QUEUE_NOTIFICATION] = "notification",
                                        [QUEUE_FROM_LOCAL] = "local"};
    uint64_t n;
    return number_of(arg, &n) && n < COUNT_OF(names) && names[n] && put_text(out, size, names[n]);
}

static bool sql_domain(struct span arg, char *out, size_t size)
{
    ptrdiff_t at = span_rfind(arg, '@');
    struct span domain = at < 0 ? SPAN("") : span_from(arg, (size_t)at + 1);
    if (domain.n == 0 || domain.n >= size)
        return false;
    for (size_t i = 0; i < domain.n; i++)
        out[i] = domain.p[i] >= 'A' && domain.p[i] <= 'Z' ? (char)(domain.p[i] + 32) : domain.p[i];
    out[domain.n] = '\0';
    return true;
}

/* ---- the views ---- */

#define STATUS(row) "CASE WHEN " row "kind > 0 THEN " row "kind || '.' || " row "subject || '.' || " row "detail END AS status"

static const char queue_views[] =
    "CREATE TEMP VIEW v1_message AS SELECT id AS message, qid(id) AS id, sender, origin_name(origin) AS origin, nullif(account, 0) AS account,"
    " remote AS client, helo, tls, login, received, size, message_id, envid, nullif(policy, '') AS policy, nullif(marks, '') AS marks, nullif(hold_until, 0) AS hold_until,"
    " nullif(deliver_by, 0) AS deliver_by, priority, spooled FROM main.message;"
    "CREATE TEMP VIEW v1_recipient AS SELECT r.message AS message, qid(r.message) AS id, r.id AS recipient, nullif(r.parent, 0) AS parent,"
    " coalesce(r.sender, m.sender) AS sender, r.address AS address, domain_of(r.address) AS domain, coalesce(r.original, r.address) AS original,"
    " state_name(r.state) AS state, r.attempts AS attempts, m.received AS received, r.next AS next_attempt, nullif(r.last, 0) AS last_attempt,"
    " nullif(r.code, 0) AS code, " STATUS("r.") ", r.why AS reason, r.host AS host, r.dialogue AS dialogue, r.route AS route, r.destination AS destination"
    " FROM main.recipient r JOIN main.message m ON m.id = r.message;"
    "CREATE TEMP VIEW v1_destination AS SELECT name, suspended, failures, nullif(down_until, 0) AS down_until, nullif(since, 0) AS since,"
    " nullif(reason, '') AS reason FROM main.destination;";

static const char event_columns[] =
    "message, qid(message) AS id, at / 1000 AS time, event_name(kind) AS event, recipient, sender, address, domain_of(address) AS domain,"
    " original, message_id, origin_name(origin) AS origin, account, client, helo, tls, login, policy, size, recipients, host, took, attempts,"
    " code, CASE WHEN status_class > 0 THEN status_class || '.' || coalesce(subject, 0) || '.' || coalesce(detail, 0) END AS status,"
    " reply, dialogue, next AS next_attempt, operator - 1 AS uid, qid(related) AS related";

/* An empty table of the right columns, when no day is there. */
static const char no_events[] =
    "NULL AS message, NULL AS id, NULL AS time, NULL AS event, NULL AS recipient, NULL AS sender, NULL AS address, NULL AS domain,"
    " NULL AS original, NULL AS message_id, NULL AS origin, NULL AS account, NULL AS client, NULL AS helo, NULL AS tls, NULL AS login,"
    " NULL AS policy, NULL AS size, NULL AS recipients, NULL AS host, NULL AS took, NULL AS attempts, NULL AS code, NULL AS status, NULL AS reply, NULL AS dialogue,"
    " NULL AS next_attempt, NULL AS uid, NULL AS related WHERE 0";

static int attach(struct db *db, const char *dir, int64_t day, int index, struct err *err)
{
    char path[4200], name[HISTORY_NAME_MAX], sql[64], probe[64];
    int64_t n;
    history_name(day, name);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    snprintf(sql, sizeof sql, "ATTACH ?1 AS day%d", index);
    snprintf(probe, sizeof probe, "SELECT 1 FROM day%d.event LIMIT 1", index);
    struct db_stmt *s = db_prepare(db, span_of(sql));
    db_bind_text(s, 1, span_of(path));
    int rc = db_run(s, err);
    db_finish(&s);
    if (rc)
        return -1;
    if (db_value(db, probe, 0, &n, err) == 0)
        return 0;
    snprintf(sql, sizeof sql, "DETACH day%d", index);
    (void)db_exec(db, sql, &(struct err){""});
    return -1;
}

static int define_events(struct db *db, const char *dir, struct err *err)
{
    int64_t days[VIEWS_DAYS];
    struct buf sql = {0};
    int n = history_days(dir, days, COUNT_OF(days), err), there = 0;
    if (n < 0)
        return -1;
    buf_adds(&sql, "CREATE TEMP VIEW v1_event AS ");
    for (int i = 0; i < n; i++) {
        struct err why;
        if (attach(db, dir, days[i], there, &why)) {
            LOGW("history-not-read", KVU("day", days[i]), KVT("why", why.text));
            continue;
        }
        buf_printf(&sql, "%sSELECT %s FROM day%d.event", there ? " UNION ALL " : "", event_columns, there);
        there++;
    }
    if (!there)
        buf_printf(&sql, "SELECT %s", no_events);
    int rc = db_exec(db, buf_cstr(&sql), err);
    buf_free(&sql);
    return rc;
}

static int define_functions(struct db *db, struct err *err)
{
    return db_define(db, "qid", sql_qid, err) || db_define(db, "state_name", sql_state, err) ||
                   db_define(db, "event_name", sql_event, err) || db_define(db, "origin_name", sql_origin, err) ||
                   db_define(db, "domain_of", sql_domain, err)
               ? -1
               : 0;
}

/* dir: of the history; NULL: none. */
static int set_up(struct db *db, const char *views, const char *dir, struct err *err)
{
    /* The file is open for reading only: what is written now is the connection's own. */
    if (define_functions(db, err) || db_exec(db, "PRAGMA query_only=0", err) || db_exec(db, views, err) ||
        (dir && define_events(db, dir, err)))
        return -1;
    return db_exec(db, "PRAGMA query_only=1", err);
}

static int open_for_reading(struct db **out, const char *dir, const char *name, const char *views, bool events, struct err *err)
{
    struct db_options o = {.read_only = true,
                           .one_process = true,
                           .keep_wal = true,
                           .own_checkpoints = true,
                           .small = true,
                           .cache_kib = 1024};
    if (db_open(out, dir, name, &o, err))
        return -1;
    if (set_up(*out, views, events ? dir : NULL, err)) {
        db_close(out);
        return -1;
    }
    return 0;
}

int views_open(struct db **out, const char *dir, struct err *err)
{
    if (open_for_reading(out, dir, "queue.db", queue_views, true, err))
        return -1;
    db_guard(*out, &guard);
    return 0;
}

int views_open_queue(struct db **out, const char *dir, struct err *err)
{
    struct buf views = {0};
    buf_printf(&views, "%sCREATE TEMP VIEW v1_event AS SELECT %s", queue_views, no_events);
    int rc = open_for_reading(out, dir, "queue.db", buf_cstr(&views), false, err);
    buf_free(&views);
    return rc;
}

int views_open_day(struct db **out, const char *dir, int64_t day, struct err *err)
{
    char name[HISTORY_NAME_MAX];
    struct buf view = {0};
    history_name(day, name);
    buf_printf(&view, "CREATE TEMP VIEW v1_event AS SELECT %s, at FROM main.event", event_columns);
    int rc = open_for_reading(out, dir, name, buf_cstr(&view), false, err);
    buf_free(&view);
    return rc;
}
