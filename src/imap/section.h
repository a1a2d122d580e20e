/* BODY[section]<partial> of FETCH, RFC 3501 §6.4.5: its grammar, and where its bytes are. */
#ifndef IMAP_SECTION_H
#define IMAP_SECTION_H

#include "imap/impl.h"

#define SECTION_DEPTH_MAX 64

enum section_what { SECTION_ALL, SECTION_HEADER, SECTION_FIELDS, SECTION_FIELDS_NOT, SECTION_TEXT, SECTION_MIME };

struct section {
    enum section_what what;
    uint32_t path[SECTION_DEPTH_MAX];
    size_t depth;
    struct span *names; /* of FIELDS */
    size_t names_n;
    bool partial;
    uint32_t from, count;
};

/* "[1.2.HEADER.FIELDS (a b)]<0.10>": from '[' on. */
bool section_parse(struct lex *x, struct section *out);
/* "[…]<0>" as the reply repeats it. */
void section_put(const struct section *q, struct buf *out);

/* The bytes of a section: some of a content, or made for it. */
struct section_bytes {
    bool missing;        /* no such part: NIL */
    struct span made;    /* p not NULL: these */
    uint64_t from, left; /* else: of the content */
};
/* made: where made bytes are kept. *c is opened when it is needed. Returns a code. */
int section_find(struct imap *s, const struct section *q, uint64_t content, struct imap_content **c, struct buf *made,
                 struct section_bytes *out);

#endif
