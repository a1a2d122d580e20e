/* The mark that tells whether transactions may have been lost, and the counters that skip when they were.
 * doc/store-states.md. */
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "store/internal.h"

#define TORN "torn"
#define SKIP_UIDS 10000
#define SKIP_MODSEQ 1000000
#define SKIP_UIDVALIDITY 1000
#define SKIP_CONTENT 1000000

int store_read_boot_id(char *out, size_t size, struct err *err)
{
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "boot_id");
    ssize_t n = read(fd, out, size - 1);
    close(fd);
    if (n < 8)
        return err_set(err, "boot_id: too short");
    while (n > 0 && out[n - 1] == '\n')
        n--;
    out[n] = 0;
    return 0;
}

/* Never reused, always growing (HAZARDS 20): also past the clock, so that a store from a backup goes on above what it
 * gave since. */
int store_next_uidvalidity(struct store *st, uint32_t *out, struct err *err)
{
    struct db_stmt *s =
        db_stmt(st->db, "UPDATE account SET uidvalidity = max(uidvalidity + 1, ?) RETURNING uidvalidity");
    db_bind_i64(s, 1, st->now_ms / 1000);
    if (db_step(s, err) != 1)
        return store_failed(st);
    int64_t v = db_i64(s, 0);
    db_reset(s);
    if (v <= 0 || v > UINT32_MAX) {
        err_set(err, "UIDVALIDITY has run out");
        return STORE_LIMIT;
    }
    *out = (uint32_t)v;
    return STORE_OK;
}

static int set_boot(struct store *st, const char *boot_id, struct err *err)
{
    struct db_stmt *s = db_stmt(st->db, "UPDATE account SET boot = ?, clean = ?");
    db_bind_text(s, 1, span_of(boot_id));
    db_bind_i64(s, 2, st->fresh ? MARK_FRESH : MARK_IN_USE);
    return db_run(s, err) ? store_failed(st) : STORE_OK;
}

static int set_mark(struct store *st, enum store_mark mark, struct err *err)
{
    struct db_stmt *s = db_stmt(st->db, "UPDATE account SET clean = ?");
    db_bind_i64(s, 1, mark);
    return db_run(s, err) ? store_failed(st) : STORE_OK;
}

int store_mark_synced(struct store *st, struct err *err)
{
    return set_mark(st, MARK_IN_USE, err);
}

static int skip_forward(struct store *st, struct err *err)
{
    struct db_stmt *m = db_stmt(
        st->db, "UPDATE mailbox SET uidnext = min(uidnext + ?, 4294967295), modseq = modseq + ? WHERE NOT noselect");
    db_bind_i64(m, 1, SKIP_UIDS);
    db_bind_i64(m, 2, SKIP_MODSEQ);
    if (db_run(m, err))
        return store_failed(st);
    struct db_stmt *a = db_stmt(
        st->db, "UPDATE account SET uidvalidity = min(uidvalidity + ?, 4294967295), next_content = next_content + ?");
    db_bind_i64(a, 1, SKIP_UIDVALIDITY);
    db_bind_i64(a, 2, SKIP_CONTENT);
    return db_run(a, err) ? store_failed(st) : STORE_OK;
}

static int load(struct store *st, const char *boot_id, bool *same_boot, enum store_mark *mark, struct err *err)
{
    struct db_stmt *s = db_stmt(st->db, "SELECT boot, clean, bytes, messages FROM account");
    int got = db_step(s, err);
    if (got == 0)
        err_set(err, "the account's row is missing");
    if (got != 1)
        return STORE_FAILED;
    *same_boot = span_eqs(db_text(s, 0), boot_id);
    *mark = (enum store_mark)db_i64(s, 1);
    st->fresh = *mark == MARK_FRESH;
    st->usage.bytes = (uint64_t)db_i64(s, 2);
    st->usage.messages = (uint64_t)db_i64(s, 3);
    db_reset(s);
    return STORE_OK;
}

/* The next content id: after the highest row, and after what was skipped. */
static int load_next_content(struct store *st, struct err *err)
{
    int64_t next;
    if (db_value(st->db,
                 "SELECT max((SELECT next_content FROM account), coalesce((SELECT max(id) + 1 FROM content), 1))", 1,
                 &next, err))
        return store_failed(st);
    st->next_content = (uint64_t)next;
    return STORE_OK;
}

static int mark_in_use(struct store *st, const char *boot_id, bool lost, struct err *err)
{
    int code = store_begin(st, err);
    if (code)
        return code;
    code = set_boot(st, boot_id, err);
    if (!code && lost)
        code = skip_forward(st, err);
    code = store_end(st, code, err);
    return code ? code : store_sync(st, err);
}

void store_mark_torn(struct store *st)
{
    int fd = openat(st->dir_fd, TORN, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd >= 0)
        close(fd);
}

int store_mark_open(struct store *st, const char *boot_id, bool made, struct err *err)
{
    bool same_boot = false;
    enum store_mark mark = MARK_IN_USE;
    int code = load(st, boot_id, &same_boot, &mark, err);
    bool torn = faccessat(st->dir_fd, TORN, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    bool lost = torn || (!same_boot && mark != MARK_CLEAN && !made);
    st->doubt = torn; /* what is left of it was never synced */
    if (!code && (!same_boot || mark == MARK_CLEAN || torn))
        code = mark_in_use(st, boot_id, lost, err);
    if (!code)
        code = load_next_content(st, err);
    if (!code)
        code = store_settle(st, lost, err);
    if (!code && torn)
        unlinkat(st->dir_fd, TORN, 0);
    if (lost)
        LOGI("store not closed before a reboot, or torn: uids skip forward", KVT("dir", st->dir));
    return code;
}

int store_mark_clean(struct store *st, struct err *err)
{
    if (st->large_unsynced && syncfs(st->dir_fd))
        return err_errno(err, "syncfs");
    if (store_sync(st, err))
        return -1;
    return set_mark(st, MARK_CLEAN, err);
}
