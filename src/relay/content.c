/* Content out of memory or of a spool file. A spool file is complete and immutable when we get it, so its size at the start is its size. */
#include "relay/content.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

int content_open(struct content *c, struct span prefix, struct span body, int fd, struct err *err)
{
    struct stat st;
    *c = (struct content){.fd = fd};
    if (fd < 0) {
        buf_add(&c->bytes, prefix);
        buf_add(&c->bytes, body);
        c->size = c->bytes.n;
        return 0;
    }
    if (fstat(fd, &st) < 0)
        return err_errno(err, "content");
    if (!S_ISREG(st.st_mode))
        return err_set(err, "content: not a regular file");
    c->size = (uint64_t)st.st_size;
    return 0;
}

void content_close(struct content *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    buf_free(&c->bytes);
}

void content_rewind(struct content *c)
{
    c->at = 0;
}

bool content_at_end(const struct content *c)
{
    return c->at == c->size;
}

int content_next(struct content *c, char *room, struct span *piece, struct err *err)
{
    size_t want = (size_t)MIN_OF(c->size - c->at, (uint64_t)CONTENT_CHUNK);
    if (c->fd < 0) {
        *piece = span_sub(buf_span(&c->bytes), (size_t)c->at, want);
        c->at += want;
        return 0;
    }
    ssize_t n = 0;
    if (want)
        do
            n = pread(c->fd, room, want, (off_t)c->at);
        while (n < 0 && errno == EINTR);
    if (n < 0)
        return err_errno(err, "content");
    if (n == 0 && want)
        return err_set(err, "content: the file is shorter than it was");
    *piece = span_make(room, (size_t)n);
    c->at += (uint64_t)n;
    return 0;
}

int content_read(void *content, uint64_t at, char *to, size_t n, struct err *err)
{
    const struct content *c = content;
    if (c->fd < 0) {
        memcpy(to, span_from(buf_span(&c->bytes), (size_t)at).p, n);
        return 0;
    }
    while (n) {
        ssize_t got = pread(c->fd, to, n, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got ? err_errno(err, "content") : err_set(err, "content: the file is shorter than it was");
        to += got;
        n -= (size_t)got;
        at += (uint64_t)got;
    }
    return 0;
}

int content_has_8bit(struct content *c, uint64_t upto, char *room, struct err *err)
{
    int found = 0;
    content_rewind(c);
    while (!found && c->at < upto && !content_at_end(c)) {
        struct span piece;
        uint64_t left = upto - c->at;
        if (content_next(c, room, &piece, err) < 0)
            return -1;
        found = !span_is_ascii(span_sub(piece, 0, (size_t)MIN_OF(left, (uint64_t)piece.n)));
    }
    content_rewind(c);
    return found;
}
