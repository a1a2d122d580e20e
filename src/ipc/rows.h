/* Rows of an answer to an operator, as many in one frame (adm_rows) as fit. One item after the other: a cell is its kind (u8), its name
 * (u8 length, bytes) and its value (kind 0: u32 length, bytes; else u64, little-endian); 255 ends a row. A row may go on in the next frame, an
 * item does not. */
#ifndef IPC_ROWS_H
#define IPC_ROWS_H

#include "base/buf.h"

#define ROWS_BYTES_MAX 49152 /* of one frame */
#define ROWS_TEXT_MAX 32768  /* of a cell */
#define ROWS_NAME_MAX 64

enum row_kind { ROW_TEXT, ROW_NUMBER, ROW_FLAG, ROW_TIME, ROW_BYTES, ROW_KINDS }; /* ROW_TIME: ms since 1970, 0: none */

struct row_cell {
    uint8_t kind; /* enum row_kind */
    struct span name;
    uint64_t number;   /* of all but ROW_TEXT */
    struct span value; /* of ROW_TEXT: any bytes */
};

/* Appends it. Name and text are cut at their limits. */
void rows_put(struct buf *b, const struct row_cell *c);
void rows_end(struct buf *b);
/* At most so much is appended by rows_put(). */
size_t rows_room(const struct row_cell *c);

enum rows_item { ROWS_CELL, ROWS_END, ROWS_OVER, ROWS_BAD };
/* The next item of *rest, which moves on. ROWS_CELL: c, whose spans are in it. ROWS_OVER: there is no more. ROWS_BAD: that is no item. */
enum rows_item rows_next(struct span *rest, struct row_cell *c);

#endif
