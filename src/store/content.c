/* Contents: staged, published by a row, read, released by the last message that named them. doc/store-states.md */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "store/internal.h"

#define CHUNK 65536

/* ---- staging ---- */

struct store_stage *store_stage_new(struct store *st)
{
    struct store_stage *g = mem_alloc(sizeof(*g));
    g->st = st;
    g->fd = -1;
    st->stages++;
    return g;
}

void store_stage_free(struct store_stage **gp)
{
    struct store_stage *g = *gp;
    if (!g)
        return;
    g->st->stages--;
    if (g->fd >= 0) {
        store_large_unlink(g->st, g->id);
        close(g->fd);
    }
    buf_free(&g->mem);
    mem_free(gp);
}

void store_stage_published(struct store_stage **gp)
{
    struct store_stage *g = *gp;
    g->st->stages--;
    if (g->fd >= 0)
        close(g->fd);
    buf_free(&g->mem);
    mem_free(gp);
}

/* The header section ends with the first empty line. CR is not counted, so that an empty line may end in LF alone. */
static void scan_header(struct store_stage *g, struct span bytes)
{
    for (size_t i = 0; i < bytes.n && !g->header_ended; i++) {
        char c = bytes.p[i];
        g->header++;
        if (c == '\n') {
            g->header_ended = g->line == 0;
            g->line = 0;
        } else if (c != '\r') {
            g->line = 1;
        }
    }
}

static int disk_code(void)
{
    return errno == ENOSPC || errno == EDQUOT ? STORE_FULL : STORE_FAILED;
}

static int write_all(int fd, struct span bytes, struct err *err)
{
    while (bytes.n) {
        ssize_t n = write(fd, bytes.p, bytes.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            int code = disk_code();
            err_errno(err, "write of a content");
            return code;
        }
        bytes = span_from(bytes, (size_t)n);
    }
    return STORE_OK;
}

/* From memory to a file, under its final name. */
static int become_file(struct store_stage *g, struct err *err)
{
    struct store *st = g->st;
    if (store_mark_unsettled(st, err))
        return STORE_FAILED;
    g->id = st->next_content++;
    g->fd = store_large_open(st, g->id, O_RDWR | O_CREAT | O_EXCL, err);
    if (g->fd < 0)
        return disk_code();
    int code = write_all(g->fd, buf_span(&g->mem), err);
    buf_free(&g->mem);
    return code;
}

static int check_size(const struct store_stage *g, uint64_t more, struct err *err)
{
    if (more <= STORE_MESSAGE_MAX && g->size <= STORE_MESSAGE_MAX - more)
        return STORE_OK;
    err_set(err, "too large");
    return STORE_LIMIT;
}

int store_stage_write(struct store_stage *g, struct span bytes, struct err *err)
{
    int code = check_size(g, bytes.n, err);
    if (code)
        return code;
    if (g->fd < 0 && g->size + bytes.n > STORE_INLINE_MAX && (code = become_file(g, err)))
        return code;
    if (g->fd < 0)
        buf_add(&g->mem, bytes);
    else if ((code = write_all(g->fd, bytes, err)))
        return code;
    scan_header(g, bytes);
    g->size += bytes.n;
    return STORE_OK;
}

/* Through memory: while the header lasts, or what the kernel can't copy by itself. */
static int copy_some(struct store_stage *g, int fd, uint64_t at, uint64_t n, uint64_t *done, struct err *err)
{
    char *chunk = mem_alloc(CHUNK);
    ssize_t got = pread(fd, chunk, MIN_OF(n, (uint64_t)CHUNK), (off_t)at);
    int code = STORE_FAILED;
    if (got > 0)
        code = store_stage_write(g, span_make(chunk, (size_t)got), err);
    else if (got == 0)
        err_set(err, "the content's file is shorter than it should be");
    else
        err_errno(err, "read of the content's file");
    mem_free(&chunk);
    *done = got > 0 ? (uint64_t)got : 0;
    return code;
}

static ssize_t copy_in_kernel(struct store_stage *g, int fd, uint64_t at, uint64_t n)
{
    if (g->fd < 0 || !g->header_ended)
        return 0;
    off_t from = (off_t)at;
    ssize_t got = copy_file_range(fd, &from, g->fd, NULL, MIN_OF(n, UINT64_C(1) << 30), 0);
    if (got > 0)
        g->size += (uint64_t)got;
    return got;
}

int store_stage_fd(struct store_stage *g, int fd, uint64_t n, struct err *err)
{
    int code = check_size(g, n, err);
    for (uint64_t at = 0; !code && at < n;) {
        uint64_t done;
        ssize_t fast = copy_in_kernel(g, fd, at, n - at);
        if (fast > 0)
            done = (uint64_t)fast;
        else
            code = copy_some(g, fd, at, n - at, &done, err);
        at += done;
    }
    return code;
}

uint64_t store_stage_size(const struct store_stage *g)
{
    return g->size;
}

uint64_t store_stage_header(const struct store_stage *g)
{
    return g->header;
}

ptrdiff_t store_stage_read(struct store_stage *g, uint64_t offset, void *to, size_t n)
{
    if (g->fd >= 0)
        return pread(g->fd, to, n, (off_t)offset);
    struct span s = span_sub(buf_span(&g->mem), (size_t)MIN_OF(offset, g->size), n);
    if (s.n)
        memcpy(to, s.p, s.n);
    return (ptrdiff_t)s.n;
}

/* ---- rows, inside a transaction ---- */

static int insert_body(struct store *st, uint64_t id, struct span bytes, struct err *err)
{
    struct db_stmt *s = db_stmt(st->db, "INSERT INTO body(content, bytes) VALUES (?, ?)");
    db_bind_i64(s, 1, (int64_t)id);
    db_bind_blob(s, 2, bytes.p ? bytes : SPAN(""));
    return db_run(s, err) ? store_failed(st) : STORE_OK;
}

int store_content_insert(struct store *st, struct store_stage *g, const struct store_new *m, uint64_t *id,
                         struct err *err)
{
    bool large = g->fd >= 0;
    *id = large ? g->id : st->next_content++;
    struct db_stmt *s = db_stmt(
        st->db, "INSERT INTO content(id, refs, size, header, large, envelope, structure) VALUES (?, 1, ?, ?, ?, ?, ?)");
    db_bind_i64(s, 1, (int64_t)*id);
    db_bind_i64(s, 2, (int64_t)g->size);
    db_bind_i64(s, 3, (int64_t)g->header);
    db_bind_i64(s, 4, large);
    db_bind_text(s, 5, m->envelope);
    db_bind_text(s, 6, m->structure);
    if (db_run(s, err))
        return store_failed(st);
    return large ? STORE_OK : insert_body(st, *id, buf_span(&g->mem), err);
}

int store_content_ref(struct store *st, uint64_t id, struct err *err)
{
    struct db_stmt *s = db_stmt(st->db, "UPDATE content SET refs = refs + 1 WHERE id = ?");
    db_bind_i64(s, 1, (int64_t)id);
    return db_run(s, err) ? store_failed(st) : STORE_OK;
}

int store_content_release(struct store *st, uint64_t id, struct err *err)
{
    struct db_stmt *s = db_stmt(st->db, "UPDATE content SET refs = refs - 1 WHERE id = ? RETURNING refs, large");
    db_bind_i64(s, 1, (int64_t)id);
    int got = db_step(s, err);
    if (got < 0)
        return store_failed(st);
    bool last = got > 0 && db_i64(s, 0) <= 0;
    bool large = got > 0 && db_i64(s, 1);
    db_reset(s);
    if (!last)
        return STORE_OK;
    struct db_stmt *content = db_stmt(st->db, "DELETE FROM content WHERE id = ?");
    struct db_stmt *body = db_stmt(st->db, "DELETE FROM body WHERE content = ?");
    db_bind_i64(content, 1, (int64_t)id);
    db_bind_i64(body, 1, (int64_t)id);
    if (db_run(content, err) || db_run(body, err))
        return store_failed(st);
    if (large)
        store_note_unlink(st, id);
    return STORE_OK;
}

/* ---- reading ---- */

struct store_content {
    int fd; /* -1: the bytes are in memory */
    struct buf mem;
    uint64_t size, header;
};

static int no_such(struct err *err)
{
    err_set(err, "no such content");
    return STORE_NO_SUCH;
}

static int read_body(struct store *st, uint64_t id, struct buf *out, struct err *err)
{
    struct db_stmt *s = db_stmt(st->db, "SELECT bytes FROM body WHERE content = ?");
    db_bind_i64(s, 1, (int64_t)id);
    int got = db_step(s, err);
    if (got > 0) {
        buf_add(out, db_blob(s, 0));
        db_reset(s);
    }
    return got > 0 ? STORE_OK : got < 0 ? store_failed(st) : no_such(err);
}

static int content_row(struct store *st, uint64_t id, struct store_content *c, bool *large, struct err *err)
{
    struct db_stmt *s = db_stmt(st->db, "SELECT size, header, large FROM content WHERE id = ?");
    db_bind_i64(s, 1, (int64_t)id);
    int got = db_step(s, err);
    if (got <= 0)
        return got < 0 ? store_failed(st) : no_such(err);
    c->size = (uint64_t)db_i64(s, 0);
    c->header = (uint64_t)db_i64(s, 1);
    *large = db_i64(s, 2) != 0;
    db_reset(s);
    return STORE_OK;
}

int store_content_open(struct store *st, uint64_t content, struct store_content **out, struct err *err)
{
    struct store_content *c = mem_alloc(sizeof(*c));
    bool large = false;
    c->fd = -1;
    int code = content_row(st, content, c, &large, err);
    if (!code && large)
        code = (c->fd = store_large_open(st, content, O_RDONLY, err)) < 0 ? STORE_FAILED : STORE_OK;
    else if (!code)
        code = read_body(st, content, &c->mem, err);
    if (code)
        store_content_close(&c);
    *out = c;
    return code;
}

void store_content_close(struct store_content **cp)
{
    struct store_content *c = *cp;
    if (!c)
        return;
    if (c->fd >= 0)
        close(c->fd);
    buf_free(&c->mem);
    mem_free(cp);
}

uint64_t store_content_size(const struct store_content *c)
{
    return c->size;
}

uint64_t store_content_header(const struct store_content *c)
{
    return c->header;
}

struct span store_content_bytes(const struct store_content *c)
{
    return c->fd >= 0 ? SPAN_NONE : c->mem.n ? buf_span(&c->mem) : SPAN("");
}

ptrdiff_t store_content_read(struct store_content *c, uint64_t offset, void *to, size_t n, struct err *err)
{
    size_t done = 0;
    if (offset >= c->size)
        return 0;
    n = (size_t)MIN_OF((uint64_t)n, c->size - offset);
    if (c->fd < 0) {
        memcpy(to, c->mem.p + offset, n);
        return (ptrdiff_t)n;
    }
    while (done < n) {
        ssize_t got = pread(c->fd, (char *)to + done, n - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_errno(err, "read of a content");
        if (got == 0)
            return err_set(err, "a content is shorter than its row says");
        done += (size_t)got;
    }
    return (ptrdiff_t)n;
}

static int large_header(struct store *st, uint64_t id, uint64_t n, struct buf *out, struct err *err)
{
    int fd = store_large_open(st, id, O_RDONLY, err);
    if (fd < 0)
        return STORE_FAILED;
    struct store_content c = {.fd = fd, .size = n};
    ptrdiff_t got = store_content_read(&c, 0, buf_room(out, (size_t)n), (size_t)n, err);
    close(fd);
    if (got < 0)
        return STORE_FAILED;
    out->n += (size_t)got;
    return STORE_OK;
}

int store_header(struct store *st, uint64_t content, size_t max, struct buf *out, struct err *err)
{
    struct db_stmt *s = db_stmt(st->db, "SELECT c.large, min(c.header, ?1), substr(b.bytes, 1, min(c.header, ?1)) FROM "
                                        "content c LEFT JOIN body b ON b.content = c.id"
                                        " WHERE c.id = ?2");
    db_bind_i64(s, 1, (int64_t)MIN_OF((uint64_t)max, (uint64_t)INT32_MAX));
    db_bind_i64(s, 2, (int64_t)content);
    int got = db_step(s, err);
    if (got <= 0)
        return got < 0 ? store_failed(st) : no_such(err);
    bool large = db_i64(s, 0) != 0;
    uint64_t n = (uint64_t)db_i64(s, 1);
    if (!large)
        buf_add(out, db_blob(s, 2));
    db_reset(s);
    return large ? large_header(st, content, n, out, err) : STORE_OK;
}
