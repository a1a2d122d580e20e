/* What the files of store/ share: the open store, its transactions, the steps that several operations are made of. */
#ifndef STORE_INTERNAL_H
#define STORE_INTERNAL_H

#include "base/map.h"
#include "db/db.h"
#include "store/store.h"

#define STORE_UID_MAX UINT32_MAX

/* What a commit will tell the watchers. */
struct pending_event {
    struct pending_event *next;
    enum store_change kind;
    uint64_t mailbox;
    uint32_t *uids;
    struct store_row *rows;
    size_t n;
};

struct cache_entry {
    struct cache_entry *next;
    uint64_t content;
    struct span envelope, structure; /* in the entry's own memory */
};

/* Messages on their way into one mailbox, in one transaction. While it lasts nothing else may change the mailbox's row. */
struct store_inserting {
    uint64_t mailbox; /* 0: none */
    uint32_t uidnext, uidvalidity;
    uint64_t modseq;
    int64_t messages, unseen, size; /* that its row doesn't count yet */
};

struct store {
    struct db *db;
    char *dir;
    int dir_fd; /* holds the lock */
    int wal_fd; /* for store_sync(); opened at the first */
    int64_t now_ms;
    bool dirty;          /* something was committed since the last sync */
    bool doubt;          /* a sync failed, or nobody knows that one succeeded: what was committed is to be written once more */
    bool fresh;          /* the database itself was never synced as a whole: account.clean is MARK_FRESH */
    bool dir_synced;     /* by this process */
    bool large_unsynced; /* a delivery's file: syncfs before the clean mark */
    bool marked;         /* `unsettled` is there */
    bool orphan;         /* a file could not be removed: `unsettled` stays for the next open */
    bool batch;          /* between store_deliver_begin and its end */
    struct store_inserting arrivals; /* of the batch */
    bool batch_broken;   /* a step failed in the middle: the batch can only be rolled back */
    unsigned stages;     /* alive */
    uint64_t next_content;
    struct store_usage usage;        /* as committed */
    int64_t txn_bytes, txn_messages; /* change in this transaction */
    struct pending_event *events, **events_tail;
    uint64_t *unlink; /* large contents whose row goes with this transaction */
    size_t unlink_n, unlink_cap;
    int64_t wal_pages; /* 0 again after a checkpoint */
    int64_t log_pages; /* as the last commit said */
    struct store_watch *watches;
    struct idmap cache; /* content id to struct cache_entry, not yet written */
    struct cache_entry *cache_list;
    size_t cache_n;
    int64_t prune_at; /* when delivery keys are pruned next */
};

struct store_stage {
    struct store *st;
    struct buf mem; /* while small */
    int fd;         /* -1 while small */
    uint64_t id;    /* of the file */
    uint64_t size;
    uint64_t header; /* bytes of the header section seen so far */
    bool header_ended;
    unsigned line; /* bytes of the current line, CR not counted; only while the header lasts */
};

/* schema.c */
extern const char *const store_schema[];
extern const unsigned store_schema_count;

/* txn.c */
int store_begin(struct store *st, struct err *err);
int store_commit(struct store *st,
                 struct err *err); /* writes usage, dispatches events, unlinks, checkpoints at the mark */
void store_rollback(struct store *st);
/* Ends it by what the operation returned: commit when STORE_OK, else rollback; returns the final result. */
int store_end(struct store *st, int result, struct err *err);
int store_failed(struct store *st); /* the code for the database's last failure */
/* Both take copies. */
void store_note_uids(struct store *st, enum store_change kind, uint64_t mailbox, const uint32_t *uids, size_t n);
void store_note_rows(struct store *st, uint64_t mailbox, const struct store_row *rows, size_t n);
void store_note_unlink(struct store *st, uint64_t content);

/* mark.c */
enum store_mark { MARK_IN_USE, MARK_CLEAN, MARK_FRESH }; /* account.clean */
int store_mark_open(struct store *st, const char *boot_id, bool made, struct err *err);
int store_mark_synced(struct store *st, struct err *err); /* no longer fresh */
int store_mark_clean(struct store *st, struct err *err);
/* Its log has lost its end, as by a loss of power, while the machine went on: that is for the next open. */
void store_mark_torn(struct store *st);
int store_next_uidvalidity(struct store *st, uint32_t *out, struct err *err);

/* large.c */
int store_large_open(struct store *st, uint64_t id, int flags, struct err *err); /* descriptor, or -1 */
int store_large_sync(struct store *st, uint64_t id, int fd, struct err *err);
/* A sync of it may have failed: it is written once more from the same content, and synced. */
int store_large_renew(struct store *st, uint64_t id, struct store_stage *g, struct err *err);
void store_large_unlink(struct store *st, uint64_t id);
int store_mark_unsettled(struct store *st, struct err *err);
int store_settle(struct store *st, bool check_rows, struct err *err);
void store_settled(struct store *st); /* at close */

/* message.c: steps inside a transaction */
void store_rows_add(struct store_rows *r, const struct store_row *row);
int store_takes_messages(struct store *st, uint64_t mailbox, struct err *err);
/* Begin (the codes of store_takes_messages), any number of store_insert(), end. */
int store_insert_begin(struct store *st, uint64_t mailbox, struct store_inserting *in, struct err *err);
int store_insert_room(const struct store_inserting *in, struct err *err); /* STORE_LIMIT: uids have run out */
int store_insert(struct store *st, struct store_inserting *in, const struct store_row *row, uint32_t *uid,
                 struct err *err);
int store_insert_end(struct store *st, struct store_inserting *in, struct err *err);
int store_remove_rows(struct store *st, uint64_t mailbox, const struct store_row *rows, size_t n, bool release,
                      struct err *err);
int store_transfer(struct store *st, uint64_t from, struct store_rows *rows, uint64_t to, bool move,
                   struct store_copied *pairs, struct err *err);

/* content.c: steps inside a transaction */
int store_content_insert(struct store *st, struct store_stage *g, const struct store_new *m, uint64_t *id,
                         struct err *err);
int store_content_ref(struct store *st, uint64_t id, struct err *err);
int store_content_release(struct store *st, uint64_t id, struct err *err);
void store_stage_published(struct store_stage **g); /* the row took it over */

/* cache.c */
int store_cache_flush(struct store *st, struct err *err); /* inside a transaction */
void store_cache_drop(struct store *st);

/* mailbox.c */
int store_make_account(struct store *st, struct err *err);

/* keyword.c: found or added, inside a transaction */
int store_keyword_in(struct store *st, uint64_t mailbox, struct span name, unsigned *bit, struct err *err);

#endif
