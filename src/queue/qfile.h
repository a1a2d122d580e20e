/* The file of `waypost queue export`: messages with all their facts and contents, in a form of our own that does not depend on
 * this database (doc/queue-file.md). Bytes in and values out, and the other way round: no file and no database here.
 *
 * The reader trusts nothing: every length is bounded before it is used, every message has a checksum that is right before its
 * end is told, and numbers and texts are within what a queue may hold. Addresses are text without control characters;
 * whether they are addresses is for who takes them over. */
#ifndef QUEUE_QFILE_H
#define QUEUE_QFILE_H

#include "base/buf.h"
#include "queue/queue.h"

#define QFILE_SUM 16
#define QFILE_RECORD_MAX (256u << 10) /* bytes of one record, without its head */
#define QFILE_CHUNK (64u << 10)       /* of content, in a record */
#define QFILE_FACTS_MAX (16u << 20)   /* of one message with its recipients, in memory */

/* ---- writing: each appends records to `out` ---- */

struct qfile_writer;
struct qfile_writer *qfile_writer_new(void);
void qfile_writer_free(struct qfile_writer **w);
/* First: where and when (ms since 1970) it was made, how many recipients there will be about (0: unknown). */
void qfile_begin(struct qfile_writer *w, struct span host, int64_t made, uint64_t total, struct buf *out);
/* prefix: bytes of the content that are its prefix. */
void qfile_message(struct qfile_writer *w, const struct queue_message *m, uint32_t prefix, struct buf *out);
void qfile_recipient(struct qfile_writer *w, const struct queue_recipient *r, struct buf *out);
void qfile_content(struct qfile_writer *w, struct span part, struct buf *out); /* any number of times, m->size bytes in all */
void qfile_message_end(struct qfile_writer *w, struct buf *out);
void qfile_end(struct qfile_writer *w, struct buf *out);

/* ---- reading ---- */

enum qfile_got {
    QFILE_MORE,    /* all of the input is taken; the next part of the file, please */
    QFILE_BEGIN,   /* host, made, total are known */
    QFILE_FACTS,   /* message, recipients, prefix are known; its content follows */
    QFILE_CONTENT, /* part: a piece of it */
    QFILE_MESSAGE, /* the message is whole, and as it was written */
    QFILE_END,     /* so is the file */
    QFILE_BAD,     /* err says where and what; nothing more is read */
};

struct qfile_reader {
    struct span host;
    int64_t made;
    uint64_t total;
    struct queue_message message; /* id and recipients' ids are those of the queue that wrote it */
    struct queue_recipient *recipients;
    size_t count;
    uint32_t prefix;
    struct span part;
    uint64_t messages, recipient_count; /* whole ones, until now */
    uint64_t at;                        /* bytes taken */
    struct qfile_state *state;
};
/* What is told lives until the next call that begins another message; `part` until the next call. */
void qfile_reader_init(struct qfile_reader *r);
void qfile_reader_free(struct qfile_reader *r);
/* Takes from the front of *in. */
enum qfile_got qfile_next(struct qfile_reader *r, struct span *in, struct err *err);
/* Nothing more comes: -1 when QFILE_END was not reached. */
int qfile_finish(const struct qfile_reader *r, struct err *err);

#endif
