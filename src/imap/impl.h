/* What the files of the engine share: the session, its view of the selected mailbox, the command in progress. */
#ifndef IMAP_IMPL_H
#define IMAP_IMPL_H

#include "imap/collect.h"
#include "imap/engine.h"
#include "imap/lex.h"
#include "imap/set.h"
#include "mail/mime.h"

#define IMAP_TAG_MAX 256
#define IMAP_RECENT_RANGES 16

/* What this session believes of the mailbox: changes are noted when they happen and told when the protocol allows it
 * (RFC3501:7.4.1). */
struct view {
    bool selected, read_only;
    uint64_t mailbox;
    uint32_t *uids; /* position is sequence number - 1 */
    size_t n, cap;
    uint32_t uidvalidity;
    struct {
        uint32_t from, to; /* uids: \Recent in this session */
    } recent[IMAP_RECENT_RANGES];
    size_t recent_n;
    struct span keywords[IMAP_KEYWORDS]; /* as last told to the client; in keyword_arena */
    uint64_t keyword_bits;
    struct arena keyword_arena;
    uint32_t *gone, *flagged; /* uids to tell of, unsorted, may repeat */
    size_t gone_n, gone_cap, flagged_n, flagged_cap;
    bool fresh;   /* there may be new messages */
    bool renamed; /* UIDVALIDITY is another now */
    bool own;     /* the session itself is changing flags: it tells that in its own way */
};

struct fetch; /* fetch.c */
struct search;
struct append;

struct imap {
    const struct imap_backend *b;
    void *ctx;
    uint64_t message_max;
    struct buf out;
    struct imap_collect collect;
    struct arena arena; /* of the command in progress */
    char tag[IMAP_TAG_MAX];
    size_t tag_n;
    bool uid;          /* the command began with UID */
    bool keep_numbers; /* no EXPUNGE may be told during this command */
    bool idling, over;
    bool unsynced; /* the output says something that isn't on disk yet */
    unsigned errors;
    struct view view;
    /* A command that takes more than one step: true when it is done. */
    bool (*work)(struct imap *s);
    struct fetch *fetch;
    struct search *search;
    struct append *append;
    struct {
        struct mime *mime; /* parsed, of this content */
        const struct mime_part *root;
        uint64_t content;
        bool valid;
    } structure;
    struct err err;
};

/* ---- engine.c: replies. Each ends the command: what is to be told comes first, then the tagged line. ---- */
void imap_ok(struct imap *s, const char *text); /* "[CODE] text" as it stands */
void imap_no(struct imap *s, const char *text);
void imap_bad(struct imap *s, const char *text);
/* NO with the response code (RFC 5530) that fits; missing: the code for IMAP_NO_SUCH. */
void imap_no_code(struct imap *s, int code, const char *missing);
void imap_text(struct imap *s, const char *text);
void imap_number(struct imap *s, uint64_t n);

/* ---- names.c ---- */
/* Takes " mailbox" off the command, decoded to UTF-8. False: the command was answered. */
bool imap_take_mailbox(struct imap *s, struct lex *x, struct span *name);
bool imap_decode_name(struct arena *a, struct span raw, struct span *name); /* from modified UTF-7 */
void imap_put_mailbox(struct imap *s, struct span name);

/* ---- view.c ---- */
void view_tell(struct imap *s);
void view_close(struct imap *s);
int view_open(struct imap *s, const struct imap_mailbox *box, bool read_only, uint32_t *first_unseen);
bool view_is_recent(const struct view *v, uint32_t uid);
size_t view_recent_count(const struct view *v);
bool view_load_keywords(struct imap *s);
void view_put_flags(struct imap *s, const struct imap_row *row); /* "(\Seen …)" */
void view_put_all_flags(struct imap *s, bool permanent);
/* A new keyword has come into use: tell its name before it is used (RFC3501:7.2.6). */
void view_know_keywords(struct imap *s, uint64_t bits);
/* The rows of positions a to b; those that are gone from the store are missing. */
int view_rows(struct imap *s, uint32_t a, uint32_t b, struct imap_rows *rows);
uint32_t *view_uids(struct imap *s, const struct set *positions, size_t *n); /* mem_free() it */

/* ---- flags.c ---- */
struct flags {
    uint32_t system;
    struct span *keywords; /* in the arena */
    size_t keywords_n;
};
bool flags_parse(struct lex *x, struct flags *out, bool need_list);
/* Their bits in that mailbox; new keywords are made. */
int flags_bits(struct imap *s, uint64_t mailbox, const struct flags *f, bool create, uint64_t *bits);
void flags_put_system(struct imap *s, uint32_t system, const char **between);

/* ---- commands: each answers by itself, or sets s->work ---- */
typedef void command_fn(struct imap *s, struct lex *x);
command_fn cmd_select, cmd_examine, cmd_close, cmd_unselect, cmd_create, cmd_delete, cmd_rename, cmd_subscribe,
    cmd_unsubscribe;
command_fn cmd_list, cmd_lsub, cmd_status, cmd_namespace, cmd_id;
command_fn cmd_fetch, cmd_store, cmd_copy, cmd_move, cmd_expunge, cmd_search, cmd_append;

/* append.c: what to do with the literal that the collector announced. */
enum append_literal { APPEND_ARGUMENT, APPEND_MESSAGE, APPEND_REFUSED };
enum append_literal append_announced(struct imap *s);
bool append_streaming(const struct imap *s);       /* the message is coming in */
bool append_take(struct imap *s, struct span *in); /* false: more input is needed */
void append_free(struct imap *s);

/* fetch.c */
void fetch_start_flags(struct imap *s, const struct set *positions); /* answers STORE */
void fetch_free(struct imap *s);
void search_free(struct imap *s);

/* structure.c: the parsed structure of a content, remembered until another is asked for. NULL: it can't be read. */
const struct mime_part *structure_of(struct imap *s, uint64_t content, struct imap_content *c);
void structure_free(struct imap *s);

/* Takes the set of the command and resolves it. False: the command was answered. */
bool imap_take_set(struct imap *s, struct lex *x, struct set *positions);

#endif
