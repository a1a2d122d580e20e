/* What an IMAP session needs of the mailboxes it serves: a table of functions, so that the engine knows no database.
 * mda/imap_store.c is the one over the store. All names are canonical UTF-8; every change is visible to other sessions
 * when its function returns, and durable after sync(). Functions return IMAP_DONE or a negative enum imap_code with
 * `err` filled. */
#ifndef IMAP_BACKEND_H
#define IMAP_BACKEND_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

enum imap_code {
    IMAP_DONE = 0,
    IMAP_FAILED = -1,
    IMAP_FULL = -2,
    IMAP_NO_SUCH = -3,
    IMAP_EXISTS = -4,
    IMAP_BAD_NAME = -5,
    IMAP_LIMIT = -6,
    IMAP_NOT_ALLOWED = -7,
};

enum imap_flag { IMAP_SEEN = 1, IMAP_ANSWERED = 2, IMAP_FLAGGED = 4, IMAP_DELETED = 8, IMAP_DRAFT = 16 };
#define IMAP_KEYWORDS 64 /* bits of a mailbox's own table */

struct imap_mailbox {
    uint64_t id;
    struct span name;
    const char *use; /* "\\Sent" and so on, or NULL */
    bool noselect, children, subscribed;
    uint32_t uidvalidity, uidnext, messages, unseen, recent_from, recent;
};

struct imap_row {
    uint32_t uid, flags;
    uint64_t keywords, size, content;
    int64_t date_ms; /* INTERNALDATE */
};

struct imap_rows {
    struct imap_row *v; /* by uid */
    size_t n, cap;
};

struct imap_new {
    uint32_t flags;
    uint64_t keywords;
    int64_t date_ms;
    struct span envelope, structure; /* for cache_get later */
};

struct imap_pair {
    uint32_t from, to;
};

enum imap_flag_mode { IMAP_FLAGS_ADD, IMAP_FLAGS_REMOVE, IMAP_FLAGS_REPLACE };

struct imap_stage;   /* content on its way in */
struct imap_content; /* content open for reading */

struct imap_backend {
    int64_t (*now)(void *ctx); /* ms since 1970 */
    void (*trouble)(
        void *ctx,
        const struct err *why); /* something failed that the client can't be told about in full: for the log */

    /* Mailboxes. Arrays and names are in the arena; lists are sorted by name, INBOX first. */
    int (*list)(void *ctx, struct arena *a, struct imap_mailbox **list, size_t *n, struct err *err);
    int (*subscriptions)(void *ctx, struct arena *a, struct span **names, size_t *n, struct err *err);
    int (*find)(void *ctx, struct span name, struct arena *a, struct imap_mailbox *out, struct err *err);
    /* Without its name; the only one that counts `recent`. */
    int (*status)(void *ctx, uint64_t mailbox, struct imap_mailbox *out, struct err *err);
    int (*create)(void *ctx, struct span name, struct err *err);
    int (*remove)(void *ctx, struct span name, struct err *err);
    int (*rename)(void *ctx, struct span from, struct span to, struct err *err);
    int (*subscribe)(void *ctx, struct span name, bool on, struct err *err);
    int (*claim_recent)(void *ctx, uint64_t mailbox, uint32_t *from, struct err *err);
    int (*keywords)(void *ctx, uint64_t mailbox, struct arena *a, struct span names[IMAP_KEYWORDS], struct err *err);
    int (*keyword)(void *ctx, uint64_t mailbox, struct span name, bool create, unsigned *bit, struct err *err);

    /* Messages. */
    int (*scan)(void *ctx, uint64_t mailbox, uint32_t lo, uint32_t hi, struct imap_rows *out,
                struct err *err); /* appends */
    int (*set_flags)(void *ctx, uint64_t mailbox, const uint32_t *uids, size_t n, enum imap_flag_mode mode,
                     uint32_t flags, uint64_t keywords, struct err *err);
    int (*expunge)(void *ctx, uint64_t mailbox, const uint32_t *uids, size_t n,
                   struct err *err); /* those that have \Deleted now */
    /* pairs: room for n. Messages that are gone are left out. */
    int (*copy)(void *ctx, uint64_t from, const uint32_t *uids, size_t n, uint64_t to, bool move,
                struct imap_pair *pairs, size_t *pairs_n, struct err *err);

    /* Contents. */
    struct imap_stage *(*stage_new)(void *ctx);
    int (*stage_write)(void *ctx, struct imap_stage *g, struct span bytes, struct err *err);
    void (*stage_free)(void *ctx, struct imap_stage **g);
    int (*append)(void *ctx, uint64_t mailbox, struct imap_stage **g, const struct imap_new *m, uint32_t *uid,
                  uint32_t *uidvalidity, struct err *err); /* frees the stage */
    int (*open)(void *ctx, uint64_t content, struct imap_content **out, struct err *err);
    void (*close)(void *ctx, struct imap_content **c);
    uint64_t (*size)(const struct imap_content *c);
    uint64_t (*header_size)(const struct imap_content *c);
    struct span (*bytes)(const struct imap_content *c); /* all of it when it is in memory, else p is NULL */
    ptrdiff_t (*read)(struct imap_content *c, uint64_t offset, void *to, size_t n,
                      struct err *err); /* 0 at the end, -1 */
    int (*header)(void *ctx, uint64_t content, size_t max, struct buf *out, struct err *err);
    int (*cache_get)(void *ctx, uint64_t content, struct arena *a, struct span *envelope, struct span *structure,
                     struct err *err);
    void (*cache_put)(void *ctx, uint64_t content, struct span envelope, struct span structure);

    int (*sync)(void *ctx, struct err *err);
};

#endif
