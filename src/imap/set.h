/* Sequence sets, RFC 3501 §9: as written, and as positions in a session's view of its mailbox. */
#ifndef IMAP_SET_H
#define IMAP_SET_H

#include "base/buf.h"
#include "imap/lex.h"

struct set_range {
    uint32_t lo, hi; /* 0: "*" in a set as written */
};

struct set {
    struct set_range *v; /* in the arena */
    size_t n;
};

bool set_parse(struct lex *x, struct set *out); /* "1,3:5,7:*" */
/* Sorted and merged positions (from 0) of the messages meant. uids: the view, ascending. Uids that don't exist mean
 * nothing. False: a sequence number that is in no message's name. */
bool set_resolve(const struct set *s, bool by_uid, const uint32_t *uids, size_t n, struct arena *a,
                 struct set *positions);
bool set_has(const struct set *positions, uint32_t position);
uint64_t set_count(const struct set *positions);
/* Position of that uid, or of the next greater one. */
size_t set_lower(const uint32_t *uids, size_t n, uint32_t uid);
/* "1:3,5" */
void set_put(struct buf *out, const uint32_t *numbers, size_t n);

#endif
