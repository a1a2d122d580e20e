/* Every step of the queue on its disk, once as the last one before the power goes and once as one that fails: what was
 * acknowledged is there exactly once and whole, what was recorded stays so, and nothing else does harm.
 * doc/queue-states.md, RFC5321:4.2.5, RFC5321:6.1 */
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "disk.h"
#include "queue/impl.h"
#include "queue/queue.h"

#define LARGE 70000
#define NEVER SIZE_MAX
#define MESSAGES 16
#define TRIES 3

static char disk[64], after[64];
static struct err err;

/* A message of the script, and the steps at which its fate was asked for and known. */
struct mail {
    struct queue_message m;
    struct queue_recipient r[2];
    char token[QUEUE_TOKEN_BYTES];
    char body[64];
    bool large, is_notice;
    size_t asked, accepted, going, gone, deferring, deferred, expanding, expanded;
    struct queue_recipient child;
    struct mail *notice; /* made in the transaction in which this one goes */
};

struct run {
    struct loop *loop;
    struct queue *q;
    struct mail mails[MESSAGES];
    unsigned count;
    bool done;
};

/* ---- one request, to its end ---- */

static struct run *running;

static void on_done(struct queue_request *r)
{
    (void)r;
    running->done = true;
    loop_stop(running->loop);
}

static void wait_done(struct run *u)
{
    while (!u->done)
        loop_run(u->loop);
}

static int open_queue(struct run *u, const char *dir)
{
    struct queue_options o = {.dir = dir, .now_ms = 1800000000000};
    running = u;
    u->q = NULL;
    u->loop = loop_new();
    if (queue_open(&u->q, u->loop, &o, &err) == 0)
        return 0;
    loop_free(&u->loop);
    return -1;
}

static void close_queue(struct run *u)
{
    queue_close(&u->q);
    loop_free(&u->loop);
}

/* ---- the script ---- */

static struct mail *new_mail(struct run *u, bool large)
{
    uint64_t id = queue_ids(u->q, 3);
    struct mail *m = &u->mails[u->count++];
    *m = (struct mail){.large = large,
                       .asked = NEVER,
                       .accepted = NEVER,
                       .going = NEVER,
                       .gone = NEVER,
                       .deferring = NEVER,
                       .deferred = NEVER,
                       .expanding = NEVER,
                       .expanded = NEVER};
    snprintf(m->body, sizeof m->body, "Subject: %u\r\n\r\nhello %u\r\n", u->count, u->count);
    snprintf(m->token, sizeof m->token, "token %u", u->count);
    m->m = (struct queue_message){.id = id,
                                  .sender = SPAN("carol@remote.test"),
                                  .received = 1000,
                                  .header_bytes = 10,
                                  .size = large ? LARGE : strlen(m->body) + 6,
                                  .spooled = large,
                                  .origin = QUEUE_FROM_OUTSIDE,
                                  .prefix = SPAN("X: y\r\n"),
                                  .body = span_of(m->body)};
    for (unsigned i = 0; i < 2; i++)
        m->r[i] = (struct queue_recipient){.id = id + 1 + i,
                                           .state = QUEUE_WAITING,
                                           .next = 1000,
                                           .address = i ? SPAN("b@far.test") : SPAN("a@far.test")};
    return m;
}

/* As smtpd does it: written, synced, then committed. */
static bool write_large(struct run *u, const struct mail *m, bool whole)
{
    char bytes[LARGE];
    memset(bytes, (int)(m->m.id & 0x3f) + '0', sizeof bytes);
    int fd = queue_spool_create(u->q, m->m.id, &err);
    if (fd < 0)
        return false;
    bool good = write(fd, bytes, LARGE / 2) == LARGE / 2 && whole &&
                write(fd, bytes + LARGE / 2, LARGE / 2) == LARGE / 2 && fsync(fd) == 0;
    close(fd);
    return good;
}

static struct mail *take_in(struct run *u, bool large)
{
    struct mail *m = new_mail(u, large);
    struct queue_accept a = {
        .request.done = on_done, .message = &m->m, .recipients = m->r, .count = 2, .token = m->token};
    m->asked = disk_steps();
    bool good = !large || write_large(u, m, true);
    if (good) {
        u->done = false;
        queue_accept(u->q, &a);
        wait_done(u);
        good = a.request.fail == QUEUE_OK && !a.damaged;
        cr_assert(!good || a.duplicate_of == 0);
    }
    if (good)
        m->accepted = disk_steps();
    else if (large)
        queue_spool_remove(u->q, m->m.id);
    return m;
}

/* What failed is repeated, as qmgr does. */
static size_t settle(struct run *u, struct queue_settle *s)
{
    for (int i = 0; i < TRIES; i++) {
        s->request.done = on_done;
        u->done = false;
        queue_settle(u->q, s, 0);
        wait_done(u);
        if (s->request.fail == QUEUE_OK)
            return disk_steps();
    }
    return NEVER;
}

static void defer(struct run *u, struct mail *m)
{
    struct queue_change c = {QUEUE_UPDATE, m->r[0]};
    struct queue_settle s = {.message = m->m.id, .spooled = m->large, .changes = &c, .count = 1};
    if (m->accepted == NEVER)
        return;
    c.row.attempts = 1;
    c.row.next = 5000;
    c.row.why = SPAN("later");
    m->deferring = disk_steps();
    m->deferred = settle(u, &s);
}

static void expand(struct run *u, struct mail *m)
{
    struct queue_change c = {QUEUE_UPDATE, m->r[0]};
    struct queue_settle s = {.message = m->m.id, .changes = &c, .count = 1, .children = &m->child, .child_count = 1};
    if (m->accepted == NEVER)
        return;
    c.row.state = QUEUE_EXPANDED;
    c.row.next = 0;
    m->child = (struct queue_recipient){.id = queue_ids(u->q, 1),
                                        .parent = m->r[0].id,
                                        .state = QUEUE_WAITING,
                                        .next = 1000,
                                        .depth = 1,
                                        .address = SPAN("c@far.test")};
    m->expanding = disk_steps();
    m->expanded = settle(u, &s);
}

/* All recipients at once: delivered, or failed with a notification. */
static void end(struct run *u, struct mail *m, bool bounce)
{
    struct queue_change c[3] = {{QUEUE_GONE, m->r[0]}, {QUEUE_GONE, m->r[1]}, {QUEUE_GONE, m->child}};
    struct queue_settle s = {
        .message = m->m.id, .spooled = m->large, .changes = c, .count = m->expanded != NEVER ? 3 : 2};
    if (m->accepted == NEVER)
        return;
    if (bounce) {
        m->notice = new_mail(u, false);
        m->notice->is_notice = true;
        s.notice = &m->notice->m;
        s.notice_to = &m->notice->r[0];
    }
    m->going = disk_steps();
    m->gone = settle(u, &s);
    if (bounce) {
        m->notice->asked = m->going;
        m->notice->accepted = m->gone;
    }
}

static void checkpoint(struct run *u)
{
    struct timespec ms = {.tv_nsec = 1000000};
    uint64_t before = queue_stats(u->q).checkpoints;
    queue_on_wal(u->q, INT32_MAX); /* as if the log had grown that much */
    for (int i = 0; i < 50 && queue_stats(u->q).checkpoints == before; i++)
        nanosleep(&ms, NULL); /* one that fails is not counted */
}

static void script(struct run *u)
{
    *u = (struct run){0};
    if (open_queue(u, disk))
        return;
    struct mail *small = take_in(u, false), *large = take_in(u, true), *alias = take_in(u, false);
    defer(u, small);
    end(u, small, false);
    expand(u, alias);
    struct mail *kept = take_in(u, true);
    checkpoint(u);
    end(u, large, true);
    take_in(u, false); /* the first after a checkpoint starts the log anew */
    end(u, alias, false);
    write_large(u, new_mail(u, true), false); /* its sender went away */
    close_queue(u);
    if (open_queue(u, disk))
        return;
    defer(u, kept);
    take_in(u, false);
    checkpoint(u);
    end(u, kept, true);
    close_queue(u);
}

/* ---- what is found ---- */

struct found {
    struct run now;
    struct queue_reader *r;
    struct arena a;
    size_t step;
    const char *how;
};

#define AT "step %zu %s, message %u", f->step, f->how, i

static bool content_whole(struct found *f, const struct mail *m, const struct queue_message *row)
{
    if (!m->large)
        return span_eq(row->prefix, m->m.prefix) && span_eq(row->body, m->m.body);
    char bytes[LARGE + 1];
    int fd = queue_spool_open(f->now.q, m->m.id);
    ssize_t n = fd < 0 ? -1 : read(fd, bytes, sizeof bytes);
    if (fd >= 0)
        close(fd);
    for (ssize_t i = 0; i < n; i++)
        if (bytes[i] != (char)((m->m.id & 0x3f) + '0'))
            return false;
    return n == LARGE;
}

static uint64_t ask_token(struct found *f, const struct mail *m)
{
    struct queue_token t = {.request.done = on_done};
    memcpy(t.token, m->token, sizeof t.token);
    f->now.done = false;
    queue_token_ask(f->now.q, &t);
    wait_done(&f->now);
    return t.message;
}

static void check_recipients(struct found *f, const struct mail *m, unsigned i)
{
    struct queue_recipient r[4];
    size_t n;
    cr_assert_eq(queue_read_recipients(f->r, m->m.id, 0, r, 4, &n, &f->a, &err), 0, "%s", err.text);
    bool expanded = r[0].state == QUEUE_EXPANDED, deferred = r[0].attempts == 1;
    cr_assert_eq(n, m->is_notice ? 1 : expanded ? 3 : 2, AT);
    cr_assert(m->expanded > f->step || expanded, AT);
    cr_assert(!expanded || m->expanding < f->step, AT);
    cr_assert(m->deferred > f->step || (deferred && r[0].next == 5000), AT);
    cr_assert(!deferred || m->deferring < f->step, AT);
}

/* True: it is there. */
static bool check_mail(struct found *f, const struct mail *m, unsigned i)
{
    struct queue_message row;
    int got = queue_read_message(f->r, m->m.id, true, &f->a, &row, &err);
    cr_assert_geq(got, 0, "%s", err.text);
    bool there = got == 0;
    if (m->accepted <= f->step) {
        cr_assert(there || m->going < f->step, "lost: " AT);
        if (!m->is_notice)
            cr_assert_eq(ask_token(f, m), m->m.id, "token: " AT);
    }
    cr_assert(!there || m->gone > f->step, "came back: " AT);
    cr_assert(!there || m->asked < f->step, "not asked for: " AT);
    if (there) {
        cr_assert(content_whole(f, m, &row), "content: " AT);
        check_recipients(f, m, i);
    }
    return there;
}

static unsigned spool_files(const char *dir)
{
    char path[96];
    unsigned n = 0;
    snprintf(path, sizeof path, "%s/spool", dir);
    DIR *s = opendir(path);
    for (struct dirent *e; s && (e = readdir(s)) != NULL;)
        n += e->d_name[0] != '.';
    if (s)
        closedir(s);
    return n;
}

static void check(const struct run *was, const char *dir, size_t step, const char *how)
{
    struct found found = {.step = step, .how = how}, *f = &found;
    unsigned large = 0;
    bool there[MESSAGES];
    cr_assert_eq(open_queue(&f->now, dir), 0, "step %zu %s: %s", step, how, err.text);
    cr_assert_eq(queue_reader_open(&f->r, dir, &err), 0);
    for (unsigned i = 0; i < was->count; i++) {
        there[i] = check_mail(f, &was->mails[i], i);
        large += there[i] && was->mails[i].large;
    }
    for (unsigned i = 0; i < was->count; i++)
        if (was->mails[i].notice && was->mails[i].accepted <= step)
            cr_assert_neq(there[i], there[was->mails[i].notice - was->mails], "never one without the other: " AT);
    cr_assert_eq(spool_files(dir), large, "step %zu %s: orphans", step, how);
    uint64_t id = queue_ids(f->now.q, 1);
    for (unsigned i = 0; i < was->count; i++)
        cr_assert(was->mails[i].accepted > step || id > was->mails[i].m.id, "an id comes again: " AT);
    queue_reader_close(&f->r);
    arena_free(&f->a);
    close_queue(&f->now);
}

/* ---- the tests ---- */

static void empty(const char *dir)
{
    char command[160];
    snprintf(command, sizeof command, "%s/spool", dir);
    DIR *s = opendir(command);
    for (struct dirent *e; s && (e = readdir(s)) != NULL;)
        unlinkat(dirfd(s), e->d_name, 0);
    if (s)
        closedir(s);
    rmdir(command);
    s = opendir(dir);
    for (struct dirent *e; s && (e = readdir(s)) != NULL;)
        unlinkat(dirfd(s), e->d_name, 0);
    if (s)
        closedir(s);
}

static void make_dirs(void)
{
    snprintf(disk, sizeof disk, "/tmp/waypost-disk-XXXXXX");
    snprintf(after, sizeof after, "/tmp/waypost-disk-XXXXXX");
    cr_assert(mkdtemp(disk) && mkdtemp(after));
    log_set_level(LOG_LEVEL_ERROR);
    log_open("crash", -1, LOG_TO_STDERR); /* thousands of failures that are meant */
}

static void remove_dirs(void)
{
    disk_forget();
    empty(disk);
    empty(after);
    rmdir(disk);
    rmdir(after);
}

TestSuite(queue_crash, .init = make_dirs, .fini = remove_dirs, .timeout = 300);

Test(queue_crash, the_power_may_go_at_any_step)
{
    static const char *const names[] = {"kept", "dropped", "torn", "scrambled"};
    static struct run u;
    disk_watch(disk);
    script(&u);
    disk_stop();
    cr_assert_gt(disk_steps(), 150, "%zu steps", disk_steps());
    for (unsigned i = 0; i < u.count; i++)
        cr_assert(u.mails[i].accepted != NEVER || u.mails[i].asked == NEVER);
    for (size_t step = 0; step <= disk_steps(); step++)
        for (enum disk_loss how = 0; how < DISK_LOSSES; how++) {
            empty(after);
            disk_restore(step, how, after);
            check(&u, after, step, names[how]);
        }
}

/* Then the process dies, or the power goes, after the first message was accepted and at the end. */
static void fail_every_step(int error, bool on, enum disk_loss how)
{
    static struct run u;
    for (size_t step = 0;; step++) {
        empty(disk);
        disk_watch(disk);
        disk_fail_at(step, error, on);
        script(&u);
        bool failed = disk_failed();
        disk_stop();
        if (!failed)
            break;
        size_t ends[] = {u.mails[0].accepted, disk_steps()};
        for (unsigned i = 0; i < COUNT_OF(ends); i++) {
            char what[64];
            if (ends[i] == NEVER || (i == 0 && u.count == 0))
                continue;
            snprintf(what, sizeof what, "failed with %d at %zu, %s", error, step,
                     how == DISK_KEPT ? "kept" : "dropped");
            empty(after);
            disk_restore(ends[i], how, after);
            check(&u, after, ends[i], what);
        }
    }
}

Test(queue_crash, any_step_may_fail)
{
    fail_every_step(EIO, false, DISK_KEPT);
}

Test(queue_crash, any_step_may_fail_before_the_power_goes)
{
    fail_every_step(EIO, false, DISK_DROPPED);
}

Test(queue_crash, the_disk_may_be_full_from_any_step_on)
{
    fail_every_step(ENOSPC, true, DISK_KEPT);
}
