/* The thread that writes history. Events are copied into a buffer under a lock that is held for that copy alone; once a
 * second, or when much has gathered, the thread takes the whole buffer and writes it in one transaction. */
#include "queue/history.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "db/db.h"

#define GATHER_MS 1000
#define GATHER_BYTES (1u << 20)
#define STACK_BYTES (512u << 10)
#define COMPLAIN_MS 60000 /* about a disk that does not take it */

enum {
#define COUNT_ONE(name) +1
#define COUNT_NONE(name)
    TEXTS = 0 HISTORY_FIELDS(COUNT_ONE, COUNT_NONE),
    NUMBERS = 0 HISTORY_FIELDS(COUNT_NONE, COUNT_ONE),
#undef COUNT_ONE
#undef COUNT_NONE
};

/* An event in the buffer; its texts follow, one after the other. */
struct packed {
    uint64_t message;
    int64_t at, day; /* at: µs, unlike that of any other event */
    int64_t numbers[NUMBERS];
    uint16_t lengths[TEXTS];
    uint8_t kind;
};

struct history {
    char *dir;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t work, written;
    /* under the lock: */
    struct buf pending;
    size_t pending_max;
    uint64_t dropped, untold; /* untold: of them, not in the log yet */
    int64_t last_at, keep, now;
    uint64_t added, done; /* events, in and written or given up */
    bool stopping, urgent, keep_changed;
    /* the thread's: */
    struct buf writing;
    struct db *db;
    int64_t day;
    int64_t complained;
};

const char *history_kind_name(unsigned kind)
{
    switch (kind) {
#define HISTORY_WORD(name, value, word) \
    case value: return word;
        HISTORY_KINDS(HISTORY_WORD)
#undef HISTORY_WORD
    }
    return "unknown";
}

/* ---- files ---- */

void history_name(int64_t day, char out[HISTORY_NAME_MAX])
{
    time_t t = (time_t)(day * (HISTORY_DAY_MS / 1000));
    struct tm tm = {0};
    gmtime_r(&t, &tm);
    strftime(out, HISTORY_NAME_MAX, "history-%Y-%m-%d.db", &tm);
}

static bool day_of_prefix(const char *name, int64_t *day, const char **rest)
{
    char back[HISTORY_NAME_MAX];
    int y, m, d, n = 0;
    if (sscanf(name, "history-%4d-%2d-%2d.db%n", &y, &m, &d, &n) != 3 || n == 0)
        return false;
    struct tm tm = {.tm_year = y - 1900, .tm_mon = m - 1, .tm_mday = d};
    *day = timegm(&tm) / (HISTORY_DAY_MS / 1000);
    history_name(*day, back);
    *rest = name + n;
    return strncmp(name, back, (size_t)n) == 0 && back[n] == '\0';
}

bool history_day_of(const char *name, int64_t *day)
{
    const char *rest;
    return day_of_prefix(name, day, &rest) && *rest == '\0';
}

static int newest_first(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

int history_days(const char *dir, int64_t *days, size_t max, struct err *err)
{
    DIR *d = opendir(dir);
    size_t n = 0;
    if (!d)
        return err_errno(err, "%s", dir);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        int64_t day;
        if (!history_day_of(e->d_name, &day))
            continue;
        if (n == max) { /* the oldest gives way */
            qsort(days, n, sizeof *days, newest_first);
            if (day <= days[--n]) {
                n++;
                continue;
            }
        }
        days[n++] = day;
    }
    closedir(d);
    qsort(days, n, sizeof *days, newest_first);
    return (int)n;
}

/* Days before `first` go, with all that SQLite or we have left beside them. */
static void expire(const char *dir, int64_t first)
{
    DIR *d = opendir(dir);
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        int64_t day;
        const char *rest;
        if (!day_of_prefix(e->d_name, &day, &rest) || day >= first)
            continue;
        if (unlinkat(dirfd(d), e->d_name, 0) && errno != ENOENT)
            LOGW("history-expire", KVT("file", e->d_name), KVT("why", strerror(errno)));
        else if (!*rest)
            LOGI("history-expired", KVT("file", e->d_name));
    }
    closedir(d);
}

/* ---- one day's database ---- */

static const char *const migrations[] = {
    "CREATE TABLE event (\n"
    "  message INTEGER NOT NULL,\n"
    "  at INTEGER NOT NULL,\n"
    "  kind INTEGER NOT NULL,\n"
#define COLUMN_TEXT(name) "  " #name " TEXT,\n"
#define COLUMN_NUMBER(name) "  " #name " INTEGER,\n"
    HISTORY_FIELDS(COLUMN_TEXT, COLUMN_NUMBER)
#undef COLUMN_TEXT
#undef COLUMN_NUMBER
    "  PRIMARY KEY (message, at)\n"
    ") STRICT, WITHOUT ROWID;\n",
};

static void set_aside(struct history *h, const char *name)
{
    char from[4200], to[4250];
    snprintf(from, sizeof from, "%s/%s", h->dir, name);
    snprintf(to, sizeof to, "%s.damaged", from);
    if (rename(from, to) == 0)
        LOGE("history-damaged", KVT("file", name), KVT("now", to));
    snprintf(from, sizeof from, "%s/%s-wal", h->dir, name);
    unlink(from);
}

static int open_day(struct history *h, int64_t day, struct err *err)
{
    char name[HISTORY_NAME_MAX];
    struct db_options o = {.no_sync = true, .one_process = true, .small = true, .cache_kib = 1024};
    if (h->db && h->day == day)
        return 0;
    db_close(&h->db);
    history_name(day, name);
    for (int tries = 0; tries < 2; tries++) {
        bool opened = db_open(&h->db, h->dir, name, &o, err) == 0;
        if (opened && db_migrate(h->db, migrations, COUNT_OF(migrations), err) == 0) {
            h->day = day;
            return 0;
        }
        enum db_code why = opened ? db_code(h->db) : db_open_code();
        db_close(&h->db);
        if (why != DB_CORRUPT)
            return -1;
        set_aside(h, name);
    }
    return -1;
}

static void bind_text(struct db_stmt *s, int *column, struct span text, bool keep_empty)
{
    db_bind_text(s, (*column)++, text.n || keep_empty ? text : SPAN_NONE);
}

static void bind_number(struct db_stmt *s, int *column, int64_t n)
{
    if (n)
        db_bind_i64(s, *column, n);
    else
        db_bind_null(s, *column);
    (*column)++;
}

static int insert(struct db *db, const struct packed *p, const char *texts, struct err *err)
{
    struct db_stmt *s = db_stmt(db, "INSERT OR IGNORE INTO event VALUES (?, ?, ?"
#define PARAMETER(name) ", ?"
                                    HISTORY_FIELDS(PARAMETER, PARAMETER)
#undef PARAMETER
                                        ")");
    int column = 1, text = 0, number = 0;
    db_bind_i64(s, column++, (int64_t)p->message);
    db_bind_i64(s, column++, p->at);
    db_bind_i64(s, column++, p->kind);
#define BIND_TEXT(name)                                                                                       \
    bind_text(s, &column, span_make(texts, p->lengths[text]), __builtin_strcmp(#name, "sender") == 0); \
    texts += p->lengths[text++];
#define BIND_NUMBER(name) bind_number(s, &column, p->numbers[number++]);
    HISTORY_FIELDS(BIND_TEXT, BIND_NUMBER)
#undef BIND_TEXT
#undef BIND_NUMBER
    return db_run(s, err);
}

/* The events at the front that are of one day, in one transaction. Returns the bytes used; 0: it failed. */
static size_t write_day(struct history *h, size_t from, struct err *err)
{
    struct packed p;
    size_t at = from;
    memcpy(&p, h->writing.p + at, sizeof p);
    int64_t day = p.day;
    if (open_day(h, day, err) || db_begin(h->db, err))
        return 0;
    while (at < h->writing.n) {
        size_t texts = 0;
        memcpy(&p, h->writing.p + at, sizeof p);
        if (p.day != day)
            break;
        for (size_t i = 0; i < TEXTS; i++)
            texts += p.lengths[i];
        if (insert(h->db, &p, h->writing.p + at + sizeof p, err))
            break;
        at += sizeof p + texts;
    }
    bool failed = at == from || (at < h->writing.n && p.day == day);
    if (failed || db_commit(h->db, err)) {
        bool corrupt = db_code(h->db) == DB_CORRUPT;
        char name[HISTORY_NAME_MAX];
        db_rollback(h->db);
        db_close(&h->db);
        history_name(day, name);
        if (corrupt)
            set_aside(h, name);
        return 0;
    }
    return at - from;
}

static uint64_t count_from(const struct history *h, size_t at)
{
    uint64_t n = 0;
    for (; at < h->writing.n; n++) {
        struct packed p;
        memcpy(&p, h->writing.p + at, sizeof p);
        at += sizeof p;
        for (size_t i = 0; i < TEXTS; i++)
            at += p.lengths[i];
    }
    return n;
}

static int64_t mono_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Returns how many could not be written. */
static uint64_t write_all(struct history *h)
{
    struct err err = {""};
    for (size_t at = 0; at < h->writing.n;) {
        size_t used = write_day(h, at, &err);
        at += used;
        if (used)
            continue;
        uint64_t lost = count_from(h, at);
        if (h->complained == 0 || mono_ms() - h->complained > COMPLAIN_MS) {
            LOGW("history-not-written", KVU("events", lost), KVT("why", err.text));
            h->complained = mono_ms();
        }
        return lost;
    }
    return 0;
}

/* ---- the thread ---- */

static void wait_until(struct history *h, int64_t ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    pthread_cond_timedwait(&h->work, &h->lock, &t);
}

/* With the lock. False: it is time to stop, and nothing is left. */
static bool wait_for_work(struct history *h)
{
    int64_t until = 0;
    for (;;) {
        if (h->keep_changed)
            return true;
        if (h->stopping)
            return h->pending.n > 0;
        if (h->pending.n == 0) {
            h->urgent = false;
            pthread_cond_wait(&h->work, &h->lock);
            continue;
        }
        int64_t now = mono_ms();
        if (until == 0)
            until = now + GATHER_MS;
        if (h->urgent || h->pending.n >= GATHER_BYTES || now >= until)
            return true;
        wait_until(h, until);
    }
}

static int64_t first_kept(int64_t now, int64_t keep)
{
    return keep ? (now - keep) / HISTORY_DAY_MS : INT64_MAX;
}

static void *run(void *ctx)
{
    struct history *h = ctx;
    prctl(PR_SET_NAME, "history");
    pthread_mutex_lock(&h->lock);
    int64_t expired = INT64_MIN;
    while (wait_for_work(h)) {
        struct buf taken = h->pending;
        h->pending = h->writing;
        h->writing = taken;
        uint64_t added = h->added, untold = h->untold;
        int64_t first = first_kept(h->now, h->keep);
        h->keep_changed = h->urgent = false;
        h->untold = 0;
        pthread_mutex_unlock(&h->lock);
        if (untold)
            LOGW("history-dropped", KVU("events", untold), KVT("why", "they came faster than they are written"));
        uint64_t lost = write_all(h);
        buf_clear(&h->writing);
        if (first == INT64_MAX)
            db_close(&h->db);
        if (first > expired)
            expire(h->dir, first);
        expired = first;
        pthread_mutex_lock(&h->lock);
        h->dropped += lost;
        h->done = added;
        pthread_cond_broadcast(&h->written);
    }
    pthread_mutex_unlock(&h->lock);
    db_close(&h->db);
    return NULL;
}

/* ---- for its owner ---- */

static void release(struct history *h)
{
    pthread_mutex_destroy(&h->lock);
    pthread_cond_destroy(&h->work);
    pthread_cond_destroy(&h->written);
    buf_free(&h->pending);
    buf_free(&h->writing);
    mem_free(&h->dir);
    mem_free(&h);
}

int history_open(struct history **out, const struct history_options *o, struct err *err)
{
    struct history *h = mem_alloc(sizeof *h);
    pthread_condattr_t clock;
    pthread_attr_t attr;
    sigset_t all, old;
    *h = (struct history){.dir = mem_strdup(o->dir),
                          .keep = o->keep,
                          .now = o->now,
                          .keep_changed = true,
                          .pending_max = o->pending_max ? o->pending_max : HISTORY_PENDING_MAX};
    pthread_mutex_init(&h->lock, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&h->work, &clock);
    pthread_cond_init(&h->written, &clock);
    pthread_condattr_destroy(&clock);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are the loop's */
    int rc = pthread_create(&h->thread, &attr, run, h);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    if (rc) {
        release(h);
        errno = rc;
        return err_errno(err, "thread");
    }
    *out = h;
    return 0;
}

void history_close(struct history **hp)
{
    struct history *h = *hp;
    if (!h)
        return;
    *hp = NULL;
    pthread_mutex_lock(&h->lock);
    h->stopping = true;
    pthread_cond_signal(&h->work);
    pthread_mutex_unlock(&h->lock);
    pthread_join(h->thread, NULL);
    release(h);
}

void history_keep(struct history *h, int64_t keep, int64_t now)
{
    pthread_mutex_lock(&h->lock);
    h->keep_changed |= h->keep != keep || first_kept(h->now, keep) != first_kept(now, keep);
    h->keep = keep;
    h->now = now;
    if (h->keep_changed)
        pthread_cond_signal(&h->work);
    pthread_mutex_unlock(&h->lock);
}

static struct span bounded(struct span s)
{
    return span_sub(s, 0, HISTORY_TEXT_MAX);
}

void history_add(struct history *h, const struct history_event *e)
{
    if (!h)
        return;
    struct packed p = {.message = e->message, .day = e->time / HISTORY_DAY_MS, .kind = (uint8_t)e->kind};
    size_t text = 0, number = 0, bytes = sizeof p;
#define MEASURE(name) bytes += p.lengths[text++] = (uint16_t)bounded(e->name).n;
#define TAKE(name) p.numbers[number++] = e->name;
    HISTORY_FIELDS(MEASURE, TAKE)
#undef MEASURE
#undef TAKE
    pthread_mutex_lock(&h->lock);
    h->now = e->time;
    if (h->keep == 0 || h->stopping) {
        pthread_mutex_unlock(&h->lock);
        return;
    }
    if (h->pending.n + bytes > h->pending_max) {
        h->dropped++;
        h->untold++;
        pthread_mutex_unlock(&h->lock);
        return;
    }
    bool first = h->pending.n == 0, much = h->pending.n < GATHER_BYTES && h->pending.n + bytes >= GATHER_BYTES;
    p.at = h->last_at = MAX_OF(e->time * 1000, h->last_at + 1);
    buf_add(&h->pending, span_make(&p, sizeof p));
#define COPY(name) buf_add(&h->pending, bounded(e->name));
#define NOTHING(name)
    HISTORY_FIELDS(COPY, NOTHING)
#undef COPY
#undef NOTHING
    h->added++;
    if (first || much)
        pthread_cond_signal(&h->work);
    pthread_mutex_unlock(&h->lock);
}

void history_flush(struct history *h, int64_t ms)
{
    if (!h)
        return;
    int64_t end = mono_ms() + ms;
    struct timespec t = {.tv_sec = end / 1000, .tv_nsec = end % 1000 * 1000000};
    pthread_mutex_lock(&h->lock);
    uint64_t wanted = h->added;
    h->urgent = true;
    pthread_cond_signal(&h->work);
    while (h->done < wanted && mono_ms() < end)
        pthread_cond_timedwait(&h->written, &h->lock, &t);
    pthread_mutex_unlock(&h->lock);
}

uint64_t history_dropped(struct history *h)
{
    pthread_mutex_lock(&h->lock);
    uint64_t n = h->dropped;
    pthread_mutex_unlock(&h->lock);
    return n;
}
