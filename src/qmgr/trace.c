/* History for people: what happened to whose mail. */
#include "qmgr/trace.h"

#include <stdio.h>
#include <time.h>

#include "base/mem.h"
#include "conf/conf.h"
#include "qmgr/operator.h"
#include "qmgr/question.h"
#include "queue/history_read.h"

#define TRACE_TIME_MS 30000
#define FLUSH_MS 2000 /* for what just happened */
#define ROWS_DEFAULT 200
#define ROWS_MAX 100000
#define IDS_MAX 100 /* messages with one Message-ID */
#define PAGE 100
#define LOOK_MAX 5000

/* ---- an event in words ---- */

static const char *const origins[] = {[QUEUE_FROM_OUTSIDE] = "outside",
                                      [QUEUE_FROM_SUBMISSION] = "submission",
                                      [QUEUE_FROM_ACCOUNT] = "account",
                                      [QUEUE_FROM_LOCAL] = "local",
                                      [QUEUE_NOTIFICATION] = "notification"};

static const char *origin_name(int64_t origin)
{
    return origin > 0 && origin < (int64_t)COUNT_OF(origins) ? origins[origin] : "unknown";
}

static void put_client(struct buf *out, const struct history_event *e)
{
    struct qid_text about = qid_text((uint64_t)e->related);
    if (e->origin == QUEUE_NOTIFICATION) {
        buf_printf(out, "a notification about %s", about.text);
        return;
    }
    buf_printf(out, "from %s", origin_name(e->origin));
    if (e->helo.n || e->client.n)
        buf_printf(out, ": %.*s [%.*s]", SPANV(e->helo), SPANV(e->client));
    buf_adds(out, e->tls.n ? ", " : e->client.n ? ", in clear" : "");
    buf_add(out, e->tls);
    if (e->login.n)
        buf_printf(out, ", logged in as %.*s", SPANV(e->login));
}

static void put_status(struct buf *out, const struct history_event *e)
{
    if (e->code)
        buf_printf(out, "%lld ", (long long)e->code);
    if (e->status_class && (e->subject || e->detail))
        buf_printf(out, "%lld.%lld.%lld ", (long long)e->status_class, (long long)e->subject, (long long)e->detail);
    buf_add(out, e->reply);
}

static void put_attempt(struct buf *out, const struct history_event *e)
{
    if (e->attempts > 1)
        buf_printf(out, "attempt %lld, ", (long long)e->attempts);
    if (e->host.n)
        buf_printf(out, "%.*s, %.*s, ", SPANV(e->host), SPANV(e->tls.n ? e->tls : SPAN("in clear")));
    if (e->took)
        buf_printf(out, "%lld ms, ", (long long)e->took);
    put_status(out, e);
    if (e->dialogue.n)
        buf_printf(out, " (said: %.*s)", SPANV(e->dialogue));
}

static void put_time(struct buf *out, int64_t ms)
{
    char text[32];
    time_t t = (time_t)(ms / 1000);
    struct tm tm = {0};
    gmtime_r(&t, &tm);
    strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &tm);
    buf_adds(out, text);
}

static void put_words(struct buf *out, const struct history_event *e)
{
    struct qid_text related = qid_text((uint64_t)e->related);
    switch (e->kind) {
    case HISTORY_ACCEPTED:
        put_client(out, e);
        buf_printf(out, ", %lld bytes, %lld recipient%s", (long long)e->size, (long long)e->recipients,
                   e->recipients == 1 ? "" : "s");
        if (e->policy.n)
            buf_printf(out, ", %.*s", SPANV(e->policy));
        break;
    case HISTORY_EXPANDED: buf_printf(out, "an alias of %lld", (long long)e->recipients); break;
    case HISTORY_PARKED: buf_add(out, e->reply); break;
    case HISTORY_PICKUP: buf_adds(out, "it waits until its domain asks for it"); break;
    case HISTORY_REDIRECTED: buf_printf(out, "to %.*s", SPANV(e->reply)); break;
    case HISTORY_HELD:
    case HISTORY_RELEASED:
    case HISTORY_ROUTED: buf_printf(out, "to %.*s", SPANV(e->reply.n ? e->reply : SPAN("the host of its domain"))); break;
    case HISTORY_REMOVED:
    case HISTORY_ADDED: break;
    case HISTORY_TOLD: buf_printf(out, "its sender, that it %.*s: notification %s", SPANV(e->reply), related.text); break;
    default: put_attempt(out, e);
    }
    if (e->operator)
        buf_printf(out, "%sby uid %lld", out->n ? ", " : "", (long long)e->operator- 1);
    if (e->next) {
        buf_adds(out, out->n ? ", next " : "next ");
        put_time(out, e->next);
    }
}

static void cell_text(struct question *k, const char *name, struct span s)
{
    question_text(k, name, s.p ? s : SPAN(""));
}

/* A row: when, what, whose; false: stop. */
static bool put_event(struct question *k, const struct history_event *e, bool with_id)
{
    struct qid_text qid = qid_text(e->message);
    struct buf words = {0};
    put_words(&words, e);
    question_number(k, CELL_TIME, "time", e->time);
    if (with_id)
        question_text(k, "id", span_of(qid.text));
    question_text(k, "event", span_of(history_kind_name(e->kind)));
    if (with_id)
        cell_text(k, "sender", e->sender);
    cell_text(k, "recipient", e->address);
    question_text(k, "what", buf_span(&words));
    buf_free(&words);
    return question_row(k);
}

/* Every fact in a cell of its own, for programs. */
static bool put_fields(struct question *k, const struct history_event *e)
{
    struct qid_text qid = qid_text(e->message), related = qid_text((uint64_t)e->related);
    struct buf reply = {0};
    put_status(&reply, e);
    question_number(k, CELL_TIME, "time", e->time);
    question_text(k, "id", span_of(qid.text));
    question_text(k, "event", span_of(history_kind_name(e->kind)));
    cell_text(k, "sender", e->sender);
    cell_text(k, "recipient", e->address);
    cell_text(k, "original", e->original);
    cell_text(k, "message-id", e->message_id);
    question_text(k, "origin", span_of(e->origin ? origin_name(e->origin) : ""));
    cell_text(k, "client", e->client);
    cell_text(k, "helo", e->helo);
    cell_text(k, "login", e->login);
    cell_text(k, "tls", e->tls);
    cell_text(k, "policy", e->policy);
    question_number(k, CELL_BYTES, "size", e->size);
    question_number(k, CELL_NUMBER, "recipients", e->recipients);
    cell_text(k, "host", e->host);
    question_number(k, CELL_NUMBER, "took-ms", e->took);
    question_number(k, CELL_NUMBER, "attempts", e->attempts);
    cell_text(k, "dialogue", e->dialogue);
    question_text(k, "reply", buf_span(&reply));
    question_number(k, CELL_TIME, "next-attempt", e->next);
    question_number(k, CELL_FLAG, "by-operator", e->operator!= 0);
    question_number(k, CELL_NUMBER, "uid", e->operator? e->operator- 1 : 0);
    question_text(k, "related", span_of(e->related ? related.text : ""));
    buf_free(&reply);
    return question_row(k);
}

/* ---- waypost trace ---- */

struct trace {
    struct history_filter filter;
    char text[1100];
    size_t limit;
    bool fields;
    struct question *k;
    uint64_t ids[IDS_MAX];
    size_t id_count;
    bool full;
};

static bool over(void *ctx)
{
    return question_over(((struct trace *)ctx)->k);
}

static bool on_event(void *ctx, const struct history_event *e)
{
    struct trace *t = ctx;
    t->full = question_rows(t->k) >= t->limit;
    return !t->full && (t->fields ? put_fields(t->k, e) : put_event(t->k, e, true));
}

static bool on_id(void *ctx, const struct history_event *e)
{
    struct trace *t = ctx;
    t->ids[t->id_count++] = e->message;
    return t->id_count < IDS_MAX;
}

/* What is in the queue now, as an event of its own: history knows of what has happened only. */
static bool put_queued(struct trace *t, const struct queue_item *i)
{
    const struct queue_recipient *r = &i->recipient;
    struct qid_text qid = qid_text(i->message.id);
    struct span sender = r->sender.p ? r->sender : i->message.sender;
    struct buf words = {0};
    t->full = question_rows(t->k) >= t->limit;
    if (t->full)
        return false;
    struct history_event e = {.message = i->message.id,
                              .time = i->message.received,
                              .sender = sender,
                              .address = r->address,
                              .original = r->original,
                              .message_id = i->message.message_id,
                              .host = r->host,
                              .attempts = r->attempts,
                              .status_class = r->kind,
                              .code = r->code,
                              .subject = r->subject,
                              .detail = r->detail,
                              .reply = r->why,
                              .policy = i->message.policy,
                              .dialogue = r->dialogue,
                              .next = r->next};
    if (t->fields)
        return put_fields(t->k, &e);
    buf_printf(&words, "%s, %u attempt%s", queue_state_name(r->state), r->attempts, r->attempts == 1 ? "" : "s");
    if (r->why.n) {
        buf_adds(&words, ", last: ");
        put_status(&words, &e);
    }
    if (r->next) {
        buf_adds(&words, ", next ");
        put_time(&words, r->next);
    }
    question_number(t->k, CELL_TIME, "time", i->message.received);
    question_text(t->k, "id", span_of(qid.text));
    question_text(t->k, "event", SPAN("in the queue"));
    question_text(t->k, "sender", sender);
    question_text(t->k, "recipient", r->address);
    question_text(t->k, "what", buf_span(&words));
    buf_free(&words);
    return question_row(t->k);
}

static int queued_of(struct trace *t, struct queue_reader *r, const struct queue_filter *f, struct err *err)
{
    struct queue_item *items = mem_array(PAGE, sizeof *items);
    struct arena page = {0};
    struct queue_place at = {0};
    size_t n;
    bool end = false, more = true;
    int rc = 0;
    while (rc == 0 && !end && more && !question_over(t->k)) {
        rc = queue_read_page(r, f, &at, LOOK_MAX, items, PAGE, &n, &end, &page, err);
        for (size_t i = 0; rc == 0 && more && i < n; i++)
            more = items[i].recipient.state == QUEUE_EXPANDED || items[i].message.received < t->filter.since ||
                   put_queued(t, &items[i]);
        arena_reset(&page);
    }
    arena_free(&page);
    mem_free(&items);
    return rc;
}

static int queued(struct trace *t, struct err *err)
{
    struct queue_filter f = {.message = t->filter.message, .either = t->filter.address};
    struct queue_reader *r;
    if (queue_reader_open(&r, question_dir(t->k), err))
        return -1;
    int rc = 0;
    if (f.message || f.either.n)
        rc = queued_of(t, r, &f, err);
    for (size_t i = 0; rc == 0 && i < t->id_count; i++)
        rc = t->ids[i] == f.message ? 0 : queued_of(t, r, &(struct queue_filter){.message = t->ids[i]}, err);
    queue_reader_close(&r);
    return rc;
}

/* Messages with that Message-ID, with the brackets or without. */
static int find_ids(struct trace *t, struct err *err)
{
    char bracketed[sizeof t->text + 2];
    struct span text = span_of(t->text);
    snprintf(bracketed, sizeof bracketed, "<%s>", t->text);
    struct history_filter f = {.message_id = span_starts(text, SPAN("<")) ? text : span_of(bracketed),
                               .since = t->filter.since};
    return history_read(question_dir(t->k), &f, on_id, over, t, err) < 0 ? -1 : 0;
}

static int read_all(struct trace *t, struct err *err)
{
    const char *dir = question_dir(t->k);
    bool by_id = t->filter.message != 0;
    if ((!by_id && find_ids(t, err)) || queued(t, err))
        return -1;
    for (size_t i = 0; i < t->id_count && !t->full; i++) {
        struct history_filter f = {.message = t->ids[i], .since = t->filter.since};
        if (history_read(dir, &f, on_event, over, t, err) < 0)
            return -1;
    }
    if (t->full || (!by_id && !t->filter.address.n))
        return 0;
    return history_read(dir, &t->filter, on_event, over, t, err) < 0 ? -1 : 0;
}

static void run(struct question *k, void *ctx)
{
    struct trace *t = ctx;
    struct err err = {""};
    t->k = k;
    if (read_all(t, &err))
        question_end(k, ADMIN_FAILED, "%s", err.text);
    else if (t->full)
        question_end(k, ADMIN_DONE, "There is more: the newest %zu are shown; --limit N shows more", t->limit);
    else if (question_late(k))
        question_end(k, ADMIN_FAILED, "stopped after %d s; --since TIME makes it shorter", TRACE_TIME_MS / 1000);
    else if (question_rows(k) == 0)
        question_end(k, ADMIN_NO_SUCH, "nothing is known of it: neither in the queue nor in the days that history has");
    else
        question_end(k, ADMIN_DONE, "%s", "");
}

static void trace_free(void *ctx)
{
    struct trace *t = ctx;
    mem_free(&t);
}

bool trace_time(struct span s, int64_t now, int64_t *since)
{
    char text[32];
    int n = 0;
    struct tm tm = {0};
    int64_t ago;
    if (conf_time_of(s, &ago)) {
        *since = now - ago;
        return true;
    }
    if (s.n >= sizeof text)
        return false;
    memcpy(text, s.p, s.n);
    text[s.n] = '\0';
    int got = sscanf(text, "%4d-%2d-%2d%nT%2d:%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &n, &tm.tm_hour, &tm.tm_min,
                     &n);
    if ((got != 3 && got != 5) || (size_t)n != s.n)
        return false;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    *since = (int64_t)timegm(&tm) * 1000;
    return true;
}

static bool take_args(struct trace *t, const struct span *args, size_t n, int64_t now)
{
    uint64_t limit;
    for (size_t i = 0; i < n; i++) {
        if (span_eqs(args[i], "--fields")) {
            t->fields = true;
        } else if (span_eqs(args[i], "--since") && i + 1 < n && trace_time(args[i + 1], now, &t->filter.since)) {
            i++;
        } else if (span_eqs(args[i], "--limit") && i + 1 < n && span_u64(args[i + 1], ROWS_MAX, &limit) && limit) {
            t->limit = (size_t)limit;
            i++;
        } else if (!*t->text && args[i].n && args[i].n < sizeof t->text && *args[i].p != '-') {
            memcpy(t->text, args[i].p, args[i].n);
        } else {
            return false;
        }
    }
    return *t->text != '\0';
}

void trace_command(void *ctx, struct admin_call *c, const struct span *args, size_t n)
{
    struct qmgr *q = ctx;
    struct trace *t = mem_alloc(sizeof *t);
    t->limit = ROWS_DEFAULT;
    bool good = take_args(t, args, n, qmgr_wall(q));
    struct span text = span_of(t->text);
    if (good && !qid_parse(text, &t->filter.message)) {
        good = span_find(text, '@') >= 0 || span_starts(text, SPAN("<"));
        t->filter.address = span_starts(text, SPAN("<")) ? SPAN_NONE : text;
    }
    if (!good) {
        trace_free(t);
        admin_end(c, ADMIN_USAGE,
                  "say whose: an address, an ID or a Message-ID; --since 2h, 3d, 2026-11-24 or 2026-11-24T10:30 (UTC), "
                  "--limit N (at most %d)",
                  ROWS_MAX);
        return;
    }
    question_ask(q, c, &(struct question_work){run, trace_free, t, TRACE_TIME_MS, FLUSH_MS, 0});
}

/* ---- waypost queue why ---- */

struct why {
    uint64_t message;
    bool queued, full;
    struct question *k;
};

static bool why_over(void *ctx)
{
    return question_over(((struct why *)ctx)->k);
}

static bool why_event(void *ctx, const struct history_event *e)
{
    struct why *w = ctx;
    w->full = question_rows(w->k) >= ROWS_DEFAULT;
    return !w->full && put_event(w->k, e, false);
}

static void why_run(struct question *k, void *ctx)
{
    struct why *w = ctx;
    struct err err = {""};
    struct qid_text qid = qid_text(w->message);
    struct history_filter f = {.message = w->message, .oldest_first = true};
    w->k = k;
    if (history_read(question_dir(k), &f, why_event, why_over, w, &err) < 0)
        question_end(k, ADMIN_FAILED, "%s", err.text);
    else if (w->full)
        question_end(k, ADMIN_DONE, "History has more: `waypost trace %s` shows the newest, and with --limit N all of it", qid.text);
    else if (question_late(k))
        question_end(k, ADMIN_FAILED, "history was not read to its end in %d s", TRACE_TIME_MS / 1000);
    else if (!w->queued && question_rows(k) == 0)
        question_end(k, ADMIN_NO_SUCH, "no such message in the queue, nor in the days that history has");
    else
        question_end(k, ADMIN_DONE, "%s", w->queued ? "" : "It is not in the queue any more.");
}

static void why_free(void *ctx)
{
    struct why *w = ctx;
    mem_free(&w);
}

void trace_why(struct qmgr *q, struct admin_call *call, uint64_t message, bool queued)
{
    struct why *w = mem_alloc(sizeof *w);
    *w = (struct why){.message = message, .queued = queued};
    question_ask(q, call, &(struct question_work){why_run, why_free, w, TRACE_TIME_MS, FLUSH_MS, 0});
}
