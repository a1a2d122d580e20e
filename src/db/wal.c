/* SQLite writes each page of a commit to its log with two calls, one for 24 octets before it. Here the pieces of a commit gather, and
 * leave with one call when its last page is there: that page's header says so. Nobody can tell the difference: who reads the log through
 * the same file sees what has gathered (it leaves first), others look no further than commits, and a write that fails fails
 * the commit, as it would have one call earlier. Layout of the log: https://www.sqlite.org/fileformat2.html, section 4. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/util.h"
#include "db/priv.h"

#define FRAME_HEADER 24
#define GATHER_FIRST 16384
#define GATHER_MAX 131000 /* octets; what is larger leaves in pieces. SQLite's own files take no 131,072 at once */

struct log_file {
    sqlite3_file base; /* SQLite's idea of it */
    char *gathered;    /* what has been written and not yet passed on: `n` octets from `at` on; NULL: nothing */
    size_t n, room, page; /* of the last page */
    sqlite3_int64 at;
    bool last; /* the header of a commit's last page is among it, the page comes next */
};

/* The real file lies behind ours. */
static sqlite3_file *under(sqlite3_file *f)
{
    return (sqlite3_file *)((struct log_file *)f + 1);
}

static int pass_on(sqlite3_file *f)
{
    struct log_file *l = (struct log_file *)f;
    if (!l->gathered)
        return SQLITE_OK;
    int rc = under(f)->pMethods->xWrite(under(f), l->gathered, (int)l->n, l->at);
    free(l->gathered); /* idle connections are many: each holds no buffer */
    l->gathered = NULL;
    l->n = l->room = 0;
    l->last = false;
    return rc;
}

static void keep(struct log_file *l, const void *p, size_t n)
{
    if (l->n + n > l->room) {
        l->room = MAX_OF(MAX_OF(l->room * 2, GATHER_FIRST), l->n + n);
        l->gathered = mem_resize(l->gathered, l->room);
    }
    memcpy(l->gathered + l->n, p, n);
    l->n += n;
}

static bool ends_a_commit(const unsigned char *header)
{
    return header[4] || header[5] || header[6] || header[7]; /* the size of the database after it, in pages */
}

static int log_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
    struct log_file *l = (struct log_file *)f;
    bool header = n == FRAME_HEADER;
    size_t whole = (size_t)n + (header ? l->page : 0); /* no page goes without its header */
    bool follows = at == l->at + (sqlite3_int64)l->n && l->n + whole <= GATHER_MAX;
    int rc = l->gathered && !follows ? pass_on(f) : SQLITE_OK;
    if (rc != SQLITE_OK)
        return rc;
    bool last = l->last;
    if (!l->gathered) {
        if (!header)
            return under(f)->pMethods->xWrite(under(f), p, n, at);
        l->at = at;
    }
    if (header)
        l->last = ends_a_commit(p);
    else
        l->page = (size_t)n;
    keep(l, p, (size_t)n);
    return !header && last ? pass_on(f) : SQLITE_OK;
}

static int log_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at)
{
    int rc = pass_on(f);
    return rc != SQLITE_OK ? rc : under(f)->pMethods->xRead(under(f), p, n, at);
}

static int log_truncate(sqlite3_file *f, sqlite3_int64 size)
{
    int rc = pass_on(f);
    return rc != SQLITE_OK ? rc : under(f)->pMethods->xTruncate(under(f), size);
}

static int log_sync(sqlite3_file *f, int flags)
{
    int rc = pass_on(f);
    return rc != SQLITE_OK ? rc : under(f)->pMethods->xSync(under(f), flags);
}

static int log_size(sqlite3_file *f, sqlite3_int64 *size)
{
    int rc = pass_on(f);
    return rc != SQLITE_OK ? rc : under(f)->pMethods->xFileSize(under(f), size);
}

static int log_close(sqlite3_file *f)
{
    int rc = pass_on(f), closed = under(f)->pMethods->xClose(under(f));
    return rc != SQLITE_OK ? rc : closed;
}

static int log_lock(sqlite3_file *f, int how)
{
    return under(f)->pMethods->xLock(under(f), how);
}

static int log_unlock(sqlite3_file *f, int how)
{
    return under(f)->pMethods->xUnlock(under(f), how);
}

static int log_is_reserved(sqlite3_file *f, int *out)
{
    return under(f)->pMethods->xCheckReservedLock(under(f), out);
}

static int log_control(sqlite3_file *f, int op, void *arg)
{
    return under(f)->pMethods->xFileControl(under(f), op, arg);
}

static int log_sector(sqlite3_file *f)
{
    return under(f)->pMethods->xSectorSize(under(f));
}

static int log_device(sqlite3_file *f)
{
    return under(f)->pMethods->xDeviceCharacteristics(under(f));
}

static const sqlite3_io_methods log_methods = {
    .iVersion = 1, /* a log has no shared memory and is not mapped */
    .xClose = log_close,
    .xRead = log_read,
    .xWrite = log_write,
    .xTruncate = log_truncate,
    .xSync = log_sync,
    .xFileSize = log_size,
    .xLock = log_lock,
    .xUnlock = log_unlock,
    .xCheckReservedLock = log_is_reserved,
    .xFileControl = log_control,
    .xSectorSize = log_sector,
    .xDeviceCharacteristics = log_device,
};

/* SQLite's own two: files of their own, and those that no other process opens. */
static struct {
    sqlite3_vfs ours, *base;
} kinds[2];

static int open_file(sqlite3_vfs *vfs, const char *name, sqlite3_file *f, int flags, int *out_flags)
{
    sqlite3_vfs *base = vfs == &kinds[0].ours ? kinds[0].base : kinds[1].base;
    if (!(flags & SQLITE_OPEN_WAL))
        return base->xOpen(base, name, f, flags, out_flags);
    struct log_file *l = (struct log_file *)f;
    *l = (struct log_file){0};
    int rc = base->xOpen(base, name, under(f), flags, out_flags);
    if (under(f)->pMethods)
        l->base.pMethods = &log_methods;
    return rc;
}

void wal_configure(void)
{
    static const char *const names[2][2] = {{"waypost", "unix"}, {"waypost-excl", "unix-excl"}};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        kinds[i].base = sqlite3_vfs_find(names[i][1]);
        if (!kinds[i].base)
            abort();
        kinds[i].ours = *kinds[i].base;
        kinds[i].ours.zName = names[i][0];
        kinds[i].ours.szOsFile += (int)sizeof(struct log_file);
        kinds[i].ours.xOpen = open_file;
        sqlite3_vfs_register(&kinds[i].ours, 0);
    }
}

const char *wal_vfs(bool one_process)
{
    return kinds[one_process].ours.zName;
}
