/* The mailboxes of one account: one SQLite database (mailboxes, uids, flags, small contents) and files for large
 * contents, in one directory that one process opens at a time. Contents are immutable and shared: COPY and MOVE copy no
 * bytes. States on disk: doc/store-states.md. RFC 3501, RFC 4315 (UIDPLUS), RFC 6154 (SPECIAL-USE), RFC 6851 (MOVE).
 *
 * One thread. Every function that changes something is one transaction, visible to the other sessions of this process
 * when it returns (watchers are called before it returns). It is *durable* only after store_sync(): call that before OK
 * is said to APPEND, COPY, MOVE, CREATE, DELETE, RENAME, EXPUNGE and POP3's QUIT. Deliveries are not synced here: the
 * queue manager's syncfs does that.
 *
 * Results: STORE_OK (0) or a negative enum store_code, with `err` filled for people. */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

enum store_code {
    STORE_OK = 0,
    STORE_FAILED = -1,   /* the disk, the database */
    STORE_FULL = -2,     /* no room on disk */
    STORE_NO_SUCH = -3,  /* no such mailbox, message or content (any more) */
    STORE_EXISTS = -4,   /* that mailbox exists already */
    STORE_BAD_NAME = -5, /* not a name for a mailbox */
    STORE_LIMIT = -6,    /* one of the limits below, or UIDs have run out */
    STORE_NOT_ALLOWED =
        -7, /* INBOX can't be deleted, \Noselect can't be selected or appended to, a mailbox can't go below itself */
    STORE_BUSY = -8, /* another process holds the directory (store_open only) */
};

#define STORE_NAME_MAX 255 /* bytes of a whole mailbox name, UTF-8 */
#define STORE_MAILBOXES_MAX 10000
#define STORE_SUBSCRIPTIONS_MAX 20000
#define STORE_KEYWORDS_MAX 64 /* for each mailbox */
#define STORE_KEYWORD_LEN_MAX 100
#define STORE_INLINE_MAX 65536                 /* larger contents are files of their own */
#define STORE_MESSAGE_MAX UINT64_C(4000000000) /* what IMAP's number can say; the door's own limit is much lower */
/* How long a delivery's key is remembered: longer than the queue may go on trying (the most that queue.expire and
 * bounce-expire can be), with room for what an operator holds and for a server that is off in between. */
#define STORE_KEY_DAYS 100

struct store;

/* ---- opening ---- */

struct store_options {
    const char *dir;     /* the account's directory; must exist */
    const char *boot_id; /* of this boot, read before the sandbox (store_read_boot_id) */
    unsigned wait_ms;    /* how long to wait for another process to let go of the directory */
    int64_t now_ms;      /* wall clock */
};

/* Locks the directory, makes the database when it is new (INBOX and the special-use mailboxes, subscribed), brings it
 * to this version, settles what a crash left. */
int store_open(struct store **out, const struct store_options *o, struct err *err);
/* clean: everything is synced and marked so first (an orderly end of the service); otherwise costs no sync. */
void store_close(struct store **st, bool clean);
/* What was committed so far is on disk when it returns STORE_OK. No cost when nothing changed since the last time. */
int store_sync(struct store *st, struct err *err);
/* Gives back memory that only speed needs. */
void store_shrink(struct store *st);
/* Empties the directory of a removed account: database, contents, everything. The store must be closed. */
int store_purge(const char *dir, struct err *err);
/* The kernel's id of this boot; out holds at least 40 bytes. */
int store_read_boot_id(char *out, size_t size, struct err *err);
/* The time for new rows (internal dates are given, this is for keys and the UIDVALIDITY counter). The owner calls it
 * now and then. */
void store_set_now(struct store *st, int64_t now_ms);

/* ---- mailboxes ---- */

enum store_special {
    STORE_PLAIN,
    STORE_SENT,
    STORE_DRAFTS,
    STORE_TRASH,
    STORE_JUNK,
    STORE_ARCHIVE,
    STORE_SPECIAL_COUNT
};
/* "\\Sent" and so on, NULL for STORE_PLAIN. */
const char *store_special_name(enum store_special s);

struct store_mailbox {
    uint64_t id;
    struct span name; /* canonical, UTF-8, '/' between levels; lives as the caller of the function says */
    bool noselect;    /* only a name, with mailboxes below it */
    bool children;    /* has mailboxes below it */
    bool subscribed;
    uint8_t special; /* enum store_special */
    uint32_t uidvalidity, uidnext;
    uint32_t messages, unseen;
    uint32_t recent_from; /* messages with this uid or a higher one are \Recent for the next session that claims them */
    uint32_t recent;      /* how many those are: store_status() alone counts them */
    uint64_t size;        /* bytes of all messages */
    uint64_t modseq;      /* HIGHESTMODSEQ */
    uint64_t keywords;    /* bits in use: see store_keywords() */
};

/* The canonical form of a name as a client gave it (already decoded to UTF-8): INBOX in any case, alone or as the first
 * level, becomes "INBOX", one '/' at the end is taken off. STORE_BAD_NAME for the empty name, empty levels, "." and
 * "..", control characters, '%', '*', bad UTF-8, more than STORE_NAME_MAX bytes. The result is in the arena or in
 * `given`. */
int store_name(struct span given, struct arena *a, struct span *out, struct err *err);

/* All of them, in the order of their names, INBOX first. The array and the names are in the arena. */
int store_list(struct store *st, struct arena *a, struct store_mailbox **list, size_t *count, struct err *err);
/* Subscribed names, sorted, also of mailboxes that no longer exist. */
int store_subscriptions(struct store *st, struct arena *a, struct span **names, size_t *count, struct err *err);
/* Names below go through store_name() inside: any spelling is welcome. The mailbox's name is in the arena (which may be
 * NULL when the name is not wanted). */
int store_find(struct store *st, struct span name, struct arena *a, struct store_mailbox *out, struct err *err);
/* The same by id: counters as they are now. STORE_NO_SUCH when it was deleted. */
int store_status(struct store *st, uint64_t mailbox, struct arena *a, struct store_mailbox *out, struct err *err);
/* Missing parents are created too, as ordinary mailboxes. A \Noselect name becomes a mailbox again. id may be NULL. */
int store_create(struct store *st, struct span name, enum store_special special, uint64_t *id, struct err *err);
/* With mailboxes below it the messages go and the name stays \Noselect; a \Noselect name with mailboxes below it is
 * STORE_NOT_ALLOWED. RFC3501:6.3.4 */
int store_delete(struct store *st, struct span name, struct err *err);
/* With everything below it; each renamed mailbox gets a new UIDVALIDITY and keeps its id and uids. INBOX: its messages
 * move to the new mailbox (with new uids), INBOX stays, empty; what is below INBOX stays. RFC3501:6.3.5 */
int store_rename(struct store *st, struct span from, struct span to, struct err *err);
int store_subscribe(struct store *st, struct span name, bool on, struct err *err);
/* Makes everything up to now not recent for others: returns the recent_from that was, the caller's messages from there
 * up are \Recent. */
int store_claim_recent(struct store *st, uint64_t mailbox, uint32_t *recent_from, struct err *err);

/* ---- flags ---- */

enum store_flag {
    STORE_SEEN = 1,
    STORE_ANSWERED = 2,
    STORE_FLAGGED = 4,
    STORE_DELETED = 8,
    STORE_DRAFT = 16,
    STORE_FLAGS_ALL = 31,
};

/* Keywords are bits 0..63 of each mailbox's own table. Fills names[bit] (p NULL: bit not in use), spelled as first
 * given; in the arena. */
int store_keywords(struct store *st, uint64_t mailbox, struct arena *a, struct span names[STORE_KEYWORDS_MAX],
                   struct err *err);
/* The bit of that keyword (ASCII case ignored). create: adds it, STORE_LIMIT when the table is full. STORE_NO_SUCH
 * otherwise. */
int store_keyword(struct store *st, uint64_t mailbox, struct span name, bool create, unsigned *bit, struct err *err);

/* ---- messages ---- */

struct store_row {
    uint32_t uid;
    uint32_t flags;    /* enum store_flag bits */
    uint64_t keywords; /* bits of the mailbox's table */
    uint64_t modseq;
    uint64_t size;
    int64_t internaldate; /* ms since 1970 */
    uint64_t content;
};

struct store_rows {
    struct store_row *v; /* sorted by uid */
    size_t n, cap;
};
void store_rows_free(struct store_rows *r);

/* The messages with lo <= uid <= hi, appended to `out`. Ten thousand in a few ms. */
int store_scan(struct store *st, uint64_t mailbox, uint32_t lo, uint32_t hi, struct store_rows *out, struct err *err);
/* One message; STORE_NO_SUCH when it is gone. */
int store_row(struct store *st, uint64_t mailbox, uint32_t uid, struct store_row *out, struct err *err);

enum store_flag_mode { STORE_FLAGS_ADD, STORE_FLAGS_REMOVE, STORE_FLAGS_REPLACE };
/* For those of the messages that still exist. changed (may be NULL): the rows that are different now, as they are now,
 * sorted as given. */
int store_flags(struct store *st, uint64_t mailbox, const uint32_t *uids, size_t n, enum store_flag_mode mode,
                uint32_t flags, uint64_t keywords, struct store_rows *changed, struct err *err);
/* Removes those of the messages that exist (whatever their flags); only_deleted: only those that have \Deleted now.
 * gone (may be NULL, else room for n): the uids that went, in the order given; *gone_n how many. */
int store_expunge(struct store *st, uint64_t mailbox, const uint32_t *uids, size_t n, bool only_deleted, uint32_t *gone,
                  size_t *gone_n, struct err *err);

struct store_copied {
    uint32_t from, to; /* uids */
};
/* Copies (moves) those of the messages that exist, in the order given, with flags, keywords and internal date: new uids
 * are consecutive. pairs has room for n. All or nothing. RFC3501:6.4.7 RFC6851 */
int store_copy(struct store *st, uint64_t from, const uint32_t *uids, size_t n, uint64_t to, struct store_copied *pairs,
               size_t *pairs_n, struct err *err);
int store_move(struct store *st, uint64_t from, const uint32_t *uids, size_t n, uint64_t to, struct store_copied *pairs,
               size_t *pairs_n, struct err *err);

/* ---- contents ---- */

/* Content on its way in: in memory up to STORE_INLINE_MAX, above that in a file under its final name. */
struct store_stage;
struct store_stage *store_stage_new(struct store *st);
int store_stage_write(struct store_stage *g, struct span bytes, struct err *err);
/* n bytes from offset 0 of a file's descriptor (its position is not used): shared with the file where the file system
 * can. */
int store_stage_fd(struct store_stage *g, int fd, uint64_t n, struct err *err);
uint64_t store_stage_size(const struct store_stage *g);
/* Length of the header section so far, the empty line included (all of it while no empty line came). */
uint64_t store_stage_header(const struct store_stage *g);
/* Reads back what is staged: for the mail parser. Returns bytes read, 0 at the end, -1. */
ptrdiff_t store_stage_read(struct store_stage *g, uint64_t offset, void *to, size_t n);
void store_stage_free(struct store_stage **g); /* what was not appended is thrown away; fine on NULL inside */

struct store_new {
    uint32_t flags;
    uint64_t keywords;               /* bits of the target mailbox */
    int64_t internaldate;            /* ms since 1970 */
    struct span envelope, structure; /* as FETCH shows them; p NULL: computed later, see store_cache_put() */
};
/* Appends the staged content and frees the stage. uid and uidvalidity may be NULL. Durable after store_sync(). */
int store_append(struct store *st, uint64_t mailbox, struct store_stage **g, const struct store_new *m, uint32_t *uid,
                 uint32_t *uidvalidity, struct err *err);

/* A content open for reading. It stays readable when the message goes meanwhile. */
struct store_content;
int store_content_open(struct store *st, uint64_t content, struct store_content **out, struct err *err);
void store_content_close(struct store_content **c);
uint64_t store_content_size(const struct store_content *c);
uint64_t store_content_header(const struct store_content *c); /* bytes of the header section, empty line included */
/* Like pread: bytes read (fewer than n only at the end), 0 at the end, -1 and err. */
ptrdiff_t store_content_read(struct store_content *c, uint64_t offset, void *to, size_t n, struct err *err);
/* Small contents are in memory: all bytes; p is NULL for a large one. */
struct span store_content_bytes(const struct store_content *c);
/* The header section alone, appended to `out` (at most `max` bytes of it): cheaper than opening the content. */
int store_header(struct store *st, uint64_t content, size_t max, struct buf *out, struct err *err);

/* What FETCH shows and costs parsing. Spans in the arena; p NULL: not computed yet. */
struct store_cache {
    struct span envelope, structure;
};
int store_cache_get(struct store *st, uint64_t content, struct arena *a, struct store_cache *out, struct err *err);
/* Remembers it: written with the next change, or a few hundred together. */
void store_cache_put(struct store *st, uint64_t content, struct span envelope, struct span structure);

/* ---- usage ---- */
struct store_usage {
    uint64_t bytes, messages; /* sum over all messages of all mailboxes: a copy counts again */
};
struct store_usage store_usage(const struct store *st);

/* ---- delivery ---- */

/* One transaction for everything that waits: begin, add…, commit. A failed add undoes only itself; a failed commit,
 * everything. */
int store_deliver_begin(struct store *st, struct err *err);
/* Whether that was delivered before. */
bool store_deliver_has(struct store *st, struct span qid, uint64_t rcpt);
/* (qid, rcpt) is the key: *already = true and nothing done when it was delivered before (also earlier in this batch).
 * Frees the stage. */
int store_deliver_add(struct store *st, struct span qid, uint64_t rcpt, uint64_t mailbox, struct store_stage **g,
                      const struct store_new *m, bool *already, struct err *err);
int store_deliver_commit(struct store *st, struct err *err);
void store_deliver_abort(struct store *st);

/* ---- change notification ---- */

enum store_change {
    STORE_CHANGE_NEW,      /* uids: one or more new messages, ascending */
    STORE_CHANGE_FLAGS,    /* rows: as they are now */
    STORE_CHANGE_EXPUNGED, /* uids: gone, in no particular order */
    STORE_CHANGE_GONE,     /* the mailbox was deleted, or is \Noselect now */
    STORE_CHANGE_RENAMED,  /* it has another name and UIDVALIDITY */
    STORE_CHANGE_LIST,     /* mailbox created (mailbox: its id) or subscription changed (0) */
};

struct store_event {
    enum store_change kind;
    uint64_t mailbox;
    const uint32_t *uids;
    const struct store_row *rows;
    size_t n;
};

/* Called for each change after its commit, inside the function that made it (so a session knows its own changes: it is
 * in the call). A watcher may read the store; it must not change it, nor add or remove watchers. */
struct store_watch {
    struct store_watch *next;
    void (*fn)(void *ctx, const struct store_event *e);
    void *ctx;
};
void store_watch(struct store *st, struct store_watch *w); /* the caller's memory */
void store_unwatch(struct store *st, struct store_watch *w);

#endif
