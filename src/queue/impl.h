/* Inside of src/queue: the queue's structure, shared by its threads. */
#ifndef QUEUE_IMPL_H
#define QUEUE_IMPL_H

#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>

#include "queue/sql.h"

#define WAL_MARK_PAGES 4096 /* 16 MiB: a checkpoint is due */
#define WAL_REST_PAGES 1024 /* what the writer moves itself */

#define SPOOL_FIRST 1000 /* spool files and their rows that are looked at before the start is over */
#define SPOOL_STEP 100   /* at a time, of the others, while nobody waits */

/* What of the spool is still to be looked at since the start: the files, then the rows. */
struct old_spool {
    bool left;
    DIR *files;    /* NULL: all have been */
    uint64_t row;  /* the last one */
};

struct queue {
    struct loop *loop;
    struct sql sql; /* the writer's thread only */
    struct db *checkpoint_db;
    char *dir;
    int dir_fd, spool_fd;
    uint64_t first_id;
    struct wake *wake;
    pthread_t writer, checkpointer;

    pthread_mutex_t lock;
    pthread_cond_t work, checkpoint_work;
    /* under the lock: */
    struct qid_source ids;
    struct link waiting, finished;
    unsigned waiting_senders; /* requests in `waiting` that a sender waits for */
    int64_t first_sender_us;
    size_t waiting_count;
    bool stopping, writer_sleeps, checkpoint_wanted, rest_wanted;
    int64_t sleeps_until_us; /* of the writer; 0: until it is woken */
    int64_t commit_wait_us, commit_takes_us; /* the setting; what one takes here, a moving average */
    int64_t earliest_us; /* when the most urgent of `waiting` has to leave */
    struct queue_stats stats;
    _Atomic unsigned open_senders;
    /* the writer's: */
    size_t batch_count; /* requests in the batch that is being carried out */
    int64_t tidy_at_us; /* when the file is looked at for free pages; 0: after the next batch */
    int64_t wal_next;  /* pages at which the next checkpoint is asked for */
    struct old_spool old;
    uint64_t old_below; /* ids from here on are of this run */
    bool tidied;       /* since the last checkpoint that was asked for because of it */
    bool spool_synced; /* in this batch */
    uint64_t *gone;    /* messages whose files go after this batch */
    size_t gone_count, gone_cap;
};

int64_t queue_now_us(clockid_t id);
void *queue_writer_run(void *q);
void *queue_checkpointer_run(void *q);
void queue_on_wal(void *q, int64_t pages);
void queue_on_finished(void *q);
void queue_submit(struct queue *q, struct queue_request *r, int64_t patience_ms);

/* spool.c */
int queue_spool_init(struct queue *q, struct err *err);
/* At start, when nobody is writing one: a copy (queue/copy.h) that was not ended goes. */
int queue_spool_begin(struct queue *q, struct err *err);
/* Files without a row go; rows without a file are logged: so many of those that were there at the start, and are below that id;
 * until old.left is false. With the writer's connection. */
int queue_spool_settle(struct queue *q, uint64_t below, size_t most, struct err *err);
void queue_spool_end(struct queue *q);
/* Whether the file is what its writer announced. */
bool queue_spool_verify(struct queue *q, uint64_t id, uint64_t size);

#endif
