/* Inside of qmgr's operator part: a question or change over the pages of the queue, and how rows are shown. */
#ifndef QMGR_OPERATOR_H
#define QMGR_OPERATOR_H

#include "qmgr/qmgr.h"

struct query;
typedef void show_fn(struct query *u, const struct queue_item *i);

struct operator_jobs {
    struct link waiting; /* queries, each for its next page */
    struct link all;
    bool running;      /* a page is being read */
    struct idmap gone; /* recipients that left memory meanwhile */
};

/* A query of ours has ended. seen: rows matched. */
typedef void query_end_fn(struct qmgr *q, struct span name, bool seen);

struct query {
    struct link link;  /* in waiting */
    struct link known; /* in all */
    struct qmgr *q;
    struct admin_call *call; /* NULL: nobody asked, or he has gone */
    int64_t by;              /* uid + 1 of who asked, 0: nobody */
    struct queue_filter filter;
    bool all;
    size_t limit; /* 0: none */
    show_fn *show;
    enum verdict verdict; /* NONE: only shown */
    struct wish wish;     /* with a verdict */
    bool want_held;       /* only held and parked ones are changed, and pass their domain's hold */
    struct queue_place at, last; /* read so far; the row seen last */
    bool cut;                    /* it shows `limit` rows, and there are more */
    struct queue_item *items;
    size_t count, seen;
    bool end, ended;
    bool paused; /* the next page waits for changes to be recorded */
    bool lifted; /* the accounts that were down are so no longer */
    unsigned changed, pending, failed;
    int error;
    struct err err;
    struct arena page, arena;
    uint64_t shown_message;
    bool only_for_time;   /* not what waits for a destination */
    enum verdict counting; /* not NONE: how much that would change, instead */
    uint64_t messages, recipients;
    struct edit *edit; /* edit.c; NULL: it is none */
    unsigned too_deep; /* redirected too often already */
    bool only_freed; /* only what the configuration keeps no longer: no hold, and its domain doesn't ask for it */
    bool pass; /* what waits for its domain goes out by itself */
    int64_t before; /* not 0: only what was not attempted since */
    struct span dest; /* only what goes to that destination; empty: all */
    void (*done)(void *ctx, unsigned seen, unsigned changed, bool error);
    void *done_ctx;
    query_end_fn *on_end;
    struct buf on_end_name;
};

/* A question of pull.c: one domain. */
struct pull_query {
    struct span domain;
    uint8_t state; /* 0: any */
    bool change;   /* make them due */
    bool pass;
    int64_t before;
    size_t limit;
    show_fn *show;
    void (*done)(void *ctx, unsigned seen, unsigned changed, bool error);
    void *ctx;
};
void operator_pull(struct qmgr *q, const struct pull_query *w);

/* Makes one waiting recipient that goes to that destination (elsewhere) due now. */
void operator_retry_one(struct qmgr *q, struct span destination, query_end_fn *fn);

/* What all recipients in that state of an account's messages become. */
void operator_account(struct qmgr *q, uint32_t account, uint8_t state, enum verdict v, int64_t by,
                      void (*done)(void *ctx, unsigned seen, unsigned changed, bool error), void *ctx);

/* What arguments mean by "which", without --limit and --after; its texts in the arena. -1: they are not understood. */
int operator_filter(struct qmgr *q, const struct span *args, size_t n, struct queue_filter *out, struct arena *a);

/* schedule.c */
/* What is being done with it right now; empty: it waits on disk. */
const char *rcpt_activity(struct qmgr *q, const struct queue_recipient *row);
/* In words: what is next for it and when, why then, what would change it. */
void explain_schedule(struct qmgr *q, const struct queue_message *m, const struct queue_recipient *r, struct buf *out);

/* A query of an operator's arguments; NULL: they were wrong, and he was told. Then it begins, or is refused. */
struct query *operator_prepare(struct qmgr *q, struct admin_call *call, const struct span *args, size_t n, show_fn *show,
                               enum verdict v, bool want_held);
void operator_begin(struct query *u);
void operator_refuse(struct query *u, const char *why);
/* Whether that verdict is one for such a recipient. */
bool operator_concerns(const struct query *u, const struct queue_item *i, enum verdict v);

/* edit.c */
admin_fn edit_command;
/* Instead of a page, on a pool thread: the items are those recipients of the message that are meant. */
void edit_read(struct query *u);
/* Everything that was said does. False: it ends here, and who asked was told what does not. */
bool edit_makes_sense(struct query *u);
void edit_add(struct query *u, settle_done_fn *fn); /* the further ones */
/* What becomes of a recipient that is meant. */
void edit_wish(const struct query *u, const struct queue_recipient *r, struct wish *w);
void edit_free(struct edit **e);

/* verbs.c */
admin_fn verb_remove, verb_bounce, verb_redirect, verb_route, verb_flush;
void operator_end_count(struct query *u);

/* which.c: what of the queue is meant */
/* --older, --newer, --larger, --smaller, --after. False: another option, or a value that is none. */
bool which_option(struct query *u, struct span key, struct span value);
void which_ready(struct query *u); /* all options are taken */
/* Ends the call: its limit cut the list, and how to go on. */
void which_say_more(struct query *u);

/* report.c */
show_fn operator_show_listed, operator_show_whole, operator_show_why;

#endif
