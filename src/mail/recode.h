/* A message with binary content (RFC 3030 §3) made fit for lines: parts that hold what no line can hold become base64, their labels and
 * those of what encloses them say so. Nothing else is touched, no information is lost, encodings are never nested (RFC2045:6.4). Large
 * messages are read in pieces, twice; memory is bounded. Pure: the bytes come from a callback. */
#ifndef MAIL_RECODE_H
#define MAIL_RECODE_H

#include "base/buf.h"
#include "base/err.h"

struct recode;

struct recode_source {
    int (*read)(void *ctx, uint64_t at, char *to, size_t n, struct err *err); /* exactly n bytes; 0, or -1 and err */
    void *ctx;
    uint64_t size;
};

enum recode_result {
    RECODE_AS_IT_IS, /* nothing has to be changed: no struct recode was made */
    RECODE_READY,
    RECODE_SIGNED, /* what would have to be changed is signed (RFC 1847): it must not be */
    RECODE_HARD,   /* a header, text between parts, or a part that can't be encoded holds it */
    RECODE_FAILED, /* it can't be read: err */
};

/* seven: for a host that takes 7-bit content only; parts with 8-bit content become base64, too. The source must outlive *out. */
enum recode_result recode_open(struct recode **out, const struct recode_source *from, bool seven, struct err *err);
uint64_t recode_size(const struct recode *r); /* of what comes out */
/* Appends some of it: 1, 0 at the end, -1 and err. */
int recode_next(struct recode *r, struct buf *out, struct err *err);
void recode_free(struct recode **r);

#endif
