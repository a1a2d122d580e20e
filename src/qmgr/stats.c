/* `waypost queue stats`: the queue added up, in one walk through its rows; memory is for the groups only. */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "qmgr/question.h"
#include "qmgr/trace.h"

#define STATS_TIME_MS 120000
#define LOOK 20000 /* rows with one snapshot */
#define GROUPS_MAX 100000
#define ROWS_DEFAULT 100
#define ROWS_MAX 100000
#define KEY_MAX 400

struct group {
    uint64_t messages, recipients, bytes, last;
    int64_t oldest;
    size_t name_n;
    char name[];
};

enum by { BY_STATE, BY_DESTINATION, BY_DOMAIN, BY_SENDER };
static const char *const by_names[] = {"state", "destination", "domain", "sender"};

struct stats {
    enum by by;
    bool given; /* --by */
    uint64_t limit;
    struct rate_texts rates;
    struct map groups;
    struct group *all, *others;
};

/* ---- adding up ---- */

static struct span lowered(struct span s, char *out)
{
    s = span_sub(s, 0, KEY_MAX);
    for (size_t i = 0; i < s.n; i++)
        out[i] = ascii_lower(s.p[i]);
    return span_make(out, s.n);
}

static struct span domain_of(struct span address)
{
    return span_from(address, (size_t)(span_rfind(address, '@') + 1));
}

static struct span key_of(const struct stats *t, const struct queue_fact *f, char *out)
{
    switch (t->by) {
    case BY_STATE: return span_of(queue_state_name(f->state));
    case BY_DESTINATION: return f->destination.p ? f->destination : lowered(domain_of(f->address), out);
    case BY_DOMAIN: return lowered(domain_of(f->address), out);
    case BY_SENDER: return f->sender.n ? span_sub(f->sender, 0, KEY_MAX) : SPAN("<>");
    }
    return SPAN_NONE;
}

static struct group *group_new(struct span name)
{
    struct group *g = mem_resize(NULL, sizeof *g + name.n);
    *g = (struct group){.name_n = name.n};
    memcpy(g->name, name.p, name.n);
    return g;
}

static struct group *group_of(struct stats *t, struct span key)
{
    struct group *g = map_get(&t->groups, key);
    if (g)
        return g;
    if (t->groups.count >= GROUPS_MAX)
        return t->others = t->others ? t->others : group_new(SPAN("(all others)"));
    g = group_new(key);
    map_put(&t->groups, key, g);
    return g;
}

static void add(struct group *g, const struct queue_fact *f)
{
    g->recipients++;
    if (g->last == f->message)
        return;
    g->last = f->message;
    g->messages++;
    g->bytes += f->size;
    g->oldest = g->oldest ? MIN_OF(g->oldest, f->received) : f->received;
}

static void on_fact(void *ctx, const struct queue_fact *f)
{
    struct stats *t = ctx;
    char text[KEY_MAX];
    add(group_of(t, key_of(t, f, text)), f);
    add(t->all, f);
}

static int add_up(struct question *k, struct stats *t, struct err *err)
{
    struct queue_reader *r;
    struct queue_place at = {0};
    bool end = false;
    int rc = 0;
    if (queue_reader_open(&r, question_dir(k), err))
        return -1;
    while (rc == 0 && !end && !question_over(k)) {
        rc = queue_each_fact(r, &at, LOOK, on_fact, t, &end, err);
        question_progress(k, t->all->recipients, 0, "recipients");
    }
    queue_reader_close(&r);
    return rc;
}

/* ---- rows ---- */

static bool put_group(struct question *k, const struct stats *t, const struct group *g)
{
    question_text(k, by_names[t->by], span_make(g->name, g->name_n));
    question_number(k, CELL_NUMBER, "messages", (int64_t)g->messages);
    question_number(k, CELL_NUMBER, "recipients", (int64_t)g->recipients);
    question_number(k, CELL_BYTES, "size", (int64_t)g->bytes);
    question_number(k, CELL_TIME, "oldest", g->oldest);
    return question_row(k);
}

static int by_recipients(const void *a, const void *b)
{
    const struct group *x = *(struct group *const *)a, *y = *(struct group *const *)b;
    return x->recipients != y->recipients ? (x->recipients < y->recipients ? 1 : -1)
                                          : span_cmp(span_make(x->name, x->name_n), span_make(y->name, y->name_n));
}

/* False: there are more than the limit. */
static bool put_groups(struct question *k, const struct stats *t)
{
    struct group **sorted = mem_array(t->groups.count, sizeof *sorted);
    struct span key;
    void *value;
    size_t at = 0, n = 0;
    while (map_next(&t->groups, &at, &key, &value))
        sorted[n++] = value;
    qsort(sorted, n, sizeof *sorted, by_recipients);
    size_t i = 0;
    while (i < n && i < t->limit && put_group(k, t, sorted[i]))
        i++;
    if (i == n && t->others)
        put_group(k, t, t->others);
    mem_free(&sorted);
    return i == n;
}

static void put_rates(struct question *k, const struct stats *t)
{
    static const char *const names[] = {"per-minute", "over-5-minutes", "over-60-minutes"};
    for (unsigned r = 0; r < RATE_COUNT; r++) {
        question_text(k, "event", span_of(rate_name(r)));
        question_number(k, CELL_NUMBER, "since-start", (int64_t)t->rates.totals[r]);
        for (unsigned i = 0; i < COUNT_OF(names); i++)
            question_text(k, names[i], span_of(t->rates.text[r][i]));
        question_row(k);
    }
}

static void run(struct question *k, void *ctx)
{
    struct stats *t = ctx;
    struct err err = {""};
    t->all = group_new(SPAN("all"));
    if (add_up(k, t, &err)) {
        question_end(k, ADMIN_FAILED, "the queue can't be read: %s", err.text);
        return;
    }
    if (question_over(k)) {
        question_end(k, ADMIN_FAILED, "stopped after %d s", STATS_TIME_MS / 1000);
        return;
    }
    bool whole = put_groups(k, t);
    put_group(k, t, t->all);
    if (!t->given)
        put_rates(k, t);
    if (whole)
        question_end(k, ADMIN_DONE, "%s", "");
    else
        question_end(k, ADMIN_DONE, "The first %llu of %zu are shown: --limit N shows more", (unsigned long long)t->limit,
                     t->groups.count);
}

static void stats_free(void *ctx)
{
    struct stats *t = ctx;
    struct span key;
    void *value;
    size_t at = 0;
    while (map_next(&t->groups, &at, &key, &value))
        mem_free(&value);
    map_free(&t->groups);
    mem_free(&t->all);
    mem_free(&t->others);
    mem_free(&t);
}

/* ---- the command ---- */

void stats_rates(struct qmgr *q, struct rate_texts *out)
{
    static const unsigned minutes[] = {1, 5, RATES_MINUTES};
    for (unsigned r = 0; r < RATE_COUNT; r++) {
        out->totals[r] = q->rates.totals[r];
        for (unsigned i = 0; i < COUNT_OF(minutes); i++) {
            uint64_t n = rates_per_minute(&q->rates, r, minutes[i], loop_now(q->loop));
            snprintf(out->text[r][i], sizeof out->text[r][i], "%llu.%llu", (unsigned long long)(n / 1000),
                     (unsigned long long)(n % 1000 / 100));
        }
    }
}

static bool take_by(struct stats *t, struct span word)
{
    for (unsigned i = 0; i < COUNT_OF(by_names); i++)
        if (span_eqs(word, by_names[i])) {
            t->by = i;
            t->given = true;
            return true;
        }
    return false;
}

void stats_command(void *ctx, struct admin_call *c, const struct span *args, size_t n)
{
    struct stats *t = mem_alloc(sizeof *t);
    bool good = n % 2 == 0;
    t->limit = ROWS_DEFAULT;
    for (size_t i = 0; good && i + 1 < n; i += 2)
        good = span_eqs(args[i], "--by")      ? take_by(t, args[i + 1])
               : span_eqs(args[i], "--limit") ? span_u64(args[i + 1], ROWS_MAX, &t->limit) && t->limit > 0
                                              : false;
    if (!good) {
        stats_free(t);
        admin_end(c, ADMIN_USAGE, "say --by destination, domain, sender or state; --limit N (at most %d)", ROWS_MAX);
        return;
    }
    stats_rates(ctx, &t->rates);
    question_ask(ctx, c, &(struct question_work){run, stats_free, t, STATS_TIME_MS, 0, 2});
}
