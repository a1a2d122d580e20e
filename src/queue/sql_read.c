/* Messages and recipients read. One statement each, so that no snapshot is held for long. */
#include "base/mem.h"
#include "base/util.h"
#include "mail/address.h"
#include "queue/sql.h"

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
