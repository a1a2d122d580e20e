/* Every step of the queue on its disk, once as the last one before the power goes and once as one that fails: what was
 * acknowledged is there exactly once and whole, what was recorded stays so, and nothing else does harm.
 * doc/queue-states.md, RFC5321:4.2.5, RFC5321:6.1 */
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "queue_script.h"

#ifdef WAYPOST_SANITIZE
#define STRIDE 4 /* the plain build takes every step; here it is about memory */
#else
#define STRIDE 1
#endif

static char disk[64], after[64];
static struct err err;

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
    struct queue_token t = {.request.done = run_on_done};
    memcpy(t.token, m->token, sizeof t.token);
    f->now.done = false;
    queue_token_ask(f->now.q, &t);
    run_wait(&f->now);
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
        if (!m->is_notice && !m->imported)
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

/* The value of a fact, as the queue has it now. */
static int value_of(struct found *f, const struct run *was, enum fact_kind kind)
{
    struct queue_destination d;
    struct queue_limited l;
    struct queue_recipient r[2];
    uint64_t waiting;
    size_t n = 0;
    switch (kind) {
    case DESTINATION:
        cr_assert_eq(queue_read_destinations(f->r, SPAN_NONE, &d, 1, &n, &f->a, &err), 0, "%s", err.text);
        return n == 0 ? 0 : d.suspended ? 1 : 2;
    case LIMITED:
        cr_assert_eq(queue_read_limited(f->r, 0, &l, 1, &n, &f->a, &err), 0, "%s", err.text);
        return n == 0 ? 0 : l.ending ? 2 : 1;
    default:
        cr_assert_eq(queue_count_waiting(f->r, SPAN("far.test"), 10, &waiting, &err), 0, "%s", err.text);
        if (was->parked)
            cr_assert_eq(queue_read_recipients(f->r, was->parked->m.id, 0, r, 2, &n, &f->a, &err), 0, "%s", err.text);
        cr_assert(waiting == 0 || waiting == 2, "%s: only one of both waits", f->how);
        return waiting ? 1 : n && r[0].next == 2000 ? 2 : 0;
    }
}

/* It has the value that was recorded last, or one that was asked for since. */
static void check_facts(struct found *f, const struct run *was)
{
    for (enum fact_kind k = 0; k < FACT_KINDS; k++) {
        int have = value_of(f, was, k);
        bool good = have == 0;
        for (unsigned i = 0; i < was->fact_count; i++) {
            const struct fact *t = &was->facts[i];
            if (t->kind != k || t->asked >= f->step)
                continue;
            good = (good && t->known > f->step) || have == t->value;
        }
        cr_assert(good, "step %zu %s: fact %d is %d", f->step, f->how, (int)k, have);
    }
}

/* The same file once more: what is there, or was, is not made again. */
static void check_import(struct found *f, const struct mail *m, bool there, unsigned i)
{
    struct mail again = *m;
    bool known = m->accepted <= f->step, gone = m->going < f->step;
    again.m.id = queue_ids(f->now.q, 3);
    again.m.spooled = again.large = false;
    again.m.size = m->m.prefix.n + m->m.body.n;
    again.r[0].id = again.m.id + 1;
    again.r[1].id = again.m.id + 2;
    if (m->large)
        return; /* its bytes would have to be there again */
    unsigned made = run_import(&f->now, &again);
    cr_assert_eq(made, there || known || gone ? 0 : 2, "taken over again: " AT);
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
    cr_assert_eq(run_open(&f->now, dir, &err), 0, "step %zu %s: %s", step, how, err.text);
    cr_assert_eq(queue_reader_open(&f->r, dir, &err), 0);
    for (unsigned i = 0; i < was->count; i++) {
        there[i] = check_mail(f, &was->mails[i], i);
        large += there[i] && was->mails[i].large;
    }
    for (unsigned i = 0; i < was->count; i++)
        if (was->mails[i].notice && was->mails[i].accepted <= step)
            cr_assert_neq(there[i], there[was->mails[i].notice - was->mails], "never one without the other: " AT);
    for (unsigned i = 0; i < was->count; i++)
        if (was->mails[i].with)
            cr_assert_eq(there[i], there[was->mails[i].with - was->mails], "never one without the other: " AT);
    check_facts(f, was);
    cr_assert_eq(spool_files(dir), large, "step %zu %s: orphans", step, how);
    for (unsigned i = 0; i < was->count; i++)
        if (was->mails[i].imported)
            check_import(f, &was->mails[i], there[i], i);
    uint64_t id = queue_ids(f->now.q, 1);
    for (unsigned i = 0; i < was->count; i++)
        cr_assert(was->mails[i].accepted > step || id > was->mails[i].m.id, "an id comes again: " AT);
    queue_reader_close(&f->r);
    arena_free(&f->a);
    run_close(&f->now);
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

static const char *const losses[] = {"kept", "dropped", "torn", "scrambled"};

static void power_goes(script_fn *script, size_t steps)
{
    static struct run u;
    disk_watch(disk);
    script(&u, disk);
    disk_stop();
    cr_assert_gt(disk_steps(), steps, "%zu steps", disk_steps());
    for (unsigned i = 0; i < u.count; i++)
        cr_assert(u.mails[i].accepted != NEVER || u.mails[i].asked == NEVER);
    for (unsigned i = 0; i < u.fact_count; i++)
        cr_assert_neq(u.facts[i].known, NEVER);
    cr_assert(script == mail_script || u.tidied, "nothing was given back to the disk");
    for (size_t step = 0; step <= disk_steps(); step += STRIDE)
        for (enum disk_loss how = 0; how < DISK_LOSSES; how++) {
            empty(after);
            disk_restore(step, how, after);
            check(&u, after, step, losses[how]);
        }
}

Test(queue_crash, the_power_may_go_at_any_step_of_mail)
{
    power_goes(mail_script, 100);
}

Test(queue_crash, the_power_may_go_at_any_step_of_the_rest)
{
    power_goes(other_script, 80);
}

/* Then the process dies, or the power goes: once the first message is accepted, right after the failure, later, and at the end. */
static void fail_every_step(script_fn *script, int error, enum disk_failure failure)
{
    static struct run u;
    for (size_t step = 0;; step += STRIDE) {
        empty(disk);
        disk_watch(disk);
        disk_fail_at(step, error, failure);
        script(&u, disk);
        bool failed = disk_failed();
        disk_stop();
        if (!failed)
            break;
        if (failure == DISK_FAILS_SHORT && !disk_cut_short())
            continue; /* another test has it */
        size_t all = disk_steps(), turn = step / STRIDE;
        struct {
            size_t at;
            enum disk_loss how;
        } ends[] = {{u.count ? u.mails[0].accepted : NEVER, turn % DISK_LOSSES},
                    {step + 1, DISK_KEPT},
                    {step + 1, DISK_DROPPED},
                    {(step + all) / 2, (turn + 1) % DISK_LOSSES},
                    {all, DISK_DROPPED},
                    {all, DISK_SCRAMBLED}};
        for (unsigned i = 0; i < COUNT_OF(ends); i++) {
            enum disk_loss how = ends[i].how;
            char what[64];
            if (ends[i].at == NEVER || ends[i].at > all)
                continue;
            snprintf(what, sizeof what, "failed with %d at %zu, %s", error, step, losses[how]);
            empty(after);
            disk_restore(ends[i].at, how, after);
            check(&u, after, ends[i].at, what);
        }
    }
}

Test(queue_crash, any_step_of_mail_may_fail)
{
    fail_every_step(mail_script, EIO, DISK_FAILS_ONCE);
}

Test(queue_crash, any_step_of_the_rest_may_fail)
{
    fail_every_step(other_script, EIO, DISK_FAILS_ONCE);
}

Test(queue_crash, any_write_may_be_done_in_part)
{
    fail_every_step(mail_script, ENOSPC, DISK_FAILS_SHORT);
    fail_every_step(other_script, EIO, DISK_FAILS_SHORT);
}

Test(queue_crash, the_disk_may_be_full_from_any_step_on)
{
    fail_every_step(mail_script, ENOSPC, DISK_FAILS_ON);
    fail_every_step(other_script, ENOSPC, DISK_FAILS_ON);
}
