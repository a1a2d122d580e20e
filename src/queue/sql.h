/* Inside of src/queue: what the writer runs. Each function is the rows of one request, inside a transaction that the
 * writer began. */
#ifndef QUEUE_SQL_H
#define QUEUE_SQL_H

#include "db/db.h"
#include "queue/queue.h"

/* The writer's connection and what it has to remember. */
struct sql {
    struct db *db;
    uint64_t mark;   /* as on disk: above every committed id */
    unsigned tokens; /* 0 or 1: the table that new tokens go into */
    int64_t tokens_since_us;
    int64_t imported_us; /* as on disk: about when something was imported last; 0: nothing is remembered of it */
};

#define SQL_MARK_AHEAD UINT64_C(600000000) /* ids that the mark is ahead by, when it is moved */
#define SQL_TOKEN_LIFE_US INT64_C(60000000)

int sql_open(struct sql *q, const char *dir, int64_t now_us, struct err *err);
void sql_close(struct sql *q);

struct queue_reader {
    struct db *db;
};

int sql_accept(struct sql *q, struct queue_accept *a, struct err *err);
#define SQL_IMPORT_NOTE_US INT64_C(3600000000)
#define SQL_IMPORT_LIFE_US (INT64_C(30) * 86400 * 1000000) /* longer than any mail waits */
int sql_import(struct sql *q, struct queue_import *m, int64_t now_us, struct err *err);
/* What was imported is forgotten, all of it, when the last of it was long ago. */
int sql_forget_imported(struct sql *q, int64_t now_us, struct err *err);
int sql_insert_message(struct sql *q, const struct queue_message *m, struct err *err);
int sql_insert_recipient(struct sql *q, uint64_t message, const struct queue_recipient *r, struct err *err);
int sql_settle(struct sql *q, struct queue_settle *s, struct err *err);
int sql_release(struct sql *q, struct queue_release *r, struct err *err);
int sql_destination(struct sql *q, const struct queue_destination *d, struct err *err);
int sql_limited(struct sql *q, const struct queue_limited *l, struct err *err);
int sql_limited_end(struct sql *q, const struct queue_limited_end *e, struct err *err);
int sql_token(struct sql *q, const char *token, uint64_t *message, struct err *err);
/* Moves the mark by one: SQLite doesn't write a row that is the same as before. */
int sql_probe(struct sql *q, struct err *err);
/* At the end of a batch: moves the mark and lets old tokens go when it is time. */
int sql_finish(struct sql *q, uint64_t highest_id, int64_t now_us, struct err *err);
#ifndef SQL_FREE_PAGES /* a test of what happens has fewer */
/* 512 KiB stay in the file for what comes next. Few, because SQLite looks through its list of them, up to a thousand, whenever it takes one. */
#define SQL_FREE_PAGES 128
#endif
#define SQL_STEP_PAGES "256" /* 1 MiB: what one step moves and gives back */
/* Outside of a transaction: one step towards a file without more free pages than that. *more: it was needed. */
int sql_give_back(struct sql *q, bool *more, struct err *err);
/* *there: a message with that id. */
int sql_has_message(struct sql *q, uint64_t id, bool *there, struct err *err);
/* Calls fn for each message whose content is a file. */
/* Messages with a spool file, in the order of ids; how many, or -1. */
int sql_some_spooled(struct sql *q, uint64_t after, uint64_t below, size_t most, void (*fn)(void *ctx, uint64_t id), void *ctx, struct err *err);

#endif
