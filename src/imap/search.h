/* SEARCH: the keys as a tree, and looking for text in messages. */
#ifndef IMAP_SEARCH_H
#define IMAP_SEARCH_H

#include "imap/impl.h"

#define SEARCH_KEYS_MAX 1000
#define SEARCH_DEPTH_MAX 32

enum search_op {
    SEARCH_ALL,  /* everything; also the end of a tree that is empty */
    SEARCH_AND,  /* all of `first` and its siblings */
    SEARCH_OR,   /* any of them */
    SEARCH_NOT,  /* `first` doesn't hold */
    SEARCH_FLAG, /* flags has a bit of `number` */
    SEARCH_KEYWORD,
    SEARCH_RECENT,
    SEARCH_LARGER,
    SEARCH_SMALLER,
    SEARCH_BEFORE, /* day < number, of INTERNALDATE */
    SEARCH_ON,
    SEARCH_SINCE,
    SEARCH_SENTBEFORE, /* the same of the Date field */
    SEARCH_SENTON,
    SEARCH_SENTSINCE,
    SEARCH_SET,    /* the position is in `set` */
    SEARCH_HEADER, /* field `name` contains `text` */
    SEARCH_BODY,
    SEARCH_TEXT,
};

struct search_key {
    enum search_op op;
    struct search_key *first, *next; /* next: sibling */
    uint64_t number;
    struct span name;
    struct span text; /* folded */
    struct set set;
};

/* 1: parsed; 0: not understood; -1: a charset that isn't known (RFC3501:6.4.4 BADCHARSET). */
int search_parse(struct imap *s, struct lex *x, struct search_key **out);

/* A message as the keys see it; what is dear is got when a key asks for it. */
struct search_message {
    struct imap *s;
    const struct imap_row *row;
    uint32_t position;
    struct imap_content *content;
    struct buf *header; /* scratch of the owner */
    bool have_header, failed;
    uint64_t cost; /* bytes looked at */
};
bool search_holds(struct search_message *m, const struct search_key *k);

/* Does the message's text contain it? With its header (TEXT) or without (BODY); transfer encodings and charsets undone,
 * case folded. */
bool search_text(struct search_message *m, struct span folded, bool with_header);
/* Some field of that name contains it. */
bool search_header(struct search_message *m, struct span name, struct span folded);
/* The header section's bytes. */
struct span search_get_header(struct search_message *m);

#endif
