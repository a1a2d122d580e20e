/* The texts of conf/notice_text.h with their values, as they stand in a message: lines with CRLF, and what may come from mail on one line each,
 * without control characters. Pure. */
#ifndef MAIL_NOTICE_FILL_H
#define MAIL_NOTICE_FILL_H

#include "base/buf.h"
#include "conf/notice_text.h"

/* Appends the value of that placeholder; it stays one line. */
typedef void notice_value_fn(struct buf *out, const void *ctx, enum notice_place place);

/* An operator's own text, or (it is empty) the built-in one. */
void notice_text_of(struct span own, enum notice_kind kind, struct notice_text *out);
/* A line or phrase in place of what `out` had. False: it has placeholders and all of them are empty. */
bool notice_fill(struct buf *out, struct span text, notice_value_fn *value, const void *ctx);
/* Appends a line, unless it is one that is left out. */
void notice_put_line(struct buf *out, const char *indent, struct span text, notice_value_fn *value, const void *ctx);
/* The name in From and the Subject, each encoded where it is not ASCII (RFC 2047). */
void notice_put_from(struct buf *out, const struct notice_text *text, notice_value_fn *value, const void *ctx);
void notice_put_subject(struct buf *out, const struct notice_text *text, notice_value_fn *value, const void *ctx);
/* The fields of a part with such a text, language empty: it is not told (RFC 3282). */
void notice_put_type(struct buf *out, struct span language);

#endif
