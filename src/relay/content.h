/* A message's content as qmgr gave it: small ones in memory, large ones behind a read-only descriptor, read in pieces. */
#ifndef RELAY_CONTENT_H
#define RELAY_CONTENT_H

#include "base/buf.h"
#include "base/err.h"

#define CONTENT_CHUNK 32768

struct content {
    struct buf bytes; /* all of it, when fd is -1 */
    int fd;
    uint64_t size, at;
};

/* fd (-1: none) becomes the content's. */
int content_open(struct content *c, struct span prefix, struct span body, int fd, struct err *err);
void content_close(struct content *c);
void content_rewind(struct content *c);
/* The next piece; it lives until the next call, in `room` (CONTENT_CHUNK bytes) or in the content. -1: the file is shorter than it was. */
int content_next(struct content *c, char *room, struct span *piece, struct err *err);
bool content_at_end(const struct content *c);
/* Exactly n bytes from there, wherever it stands: 0, or -1. */
int content_read(void *content, uint64_t at, char *to, size_t n, struct err *err);
/* Whether a byte above 0x7f is in the first `upto` bytes: 1, 0, or -1. Rewinds. */
int content_has_8bit(struct content *c, uint64_t upto, char *room, struct err *err);

#endif
