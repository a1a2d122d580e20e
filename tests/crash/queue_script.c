#include "queue_script.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define FAT 40000 /* in the database, and free pages when it goes */
#define TRIES 3

static char fat_body[FAT];
static struct err why;

/* ---- one request, to its end ---- */

static struct run *running;

void run_on_done(struct queue_request *r)
{
    (void)r;
    running->done = true;
    loop_stop(running->loop);
}

void run_wait(struct run *u)
{
    while (!u->done)
        loop_run(u->loop);
}

int run_open(struct run *u, const char *dir, struct err *err)
{
    struct queue_options o = {.dir = dir, .now_ms = 1800000000000};
    running = u;
    u->q = NULL;
    u->loop = loop_new();
    if (queue_open(&u->q, u->loop, &o, err) == 0)
        return 0;
    loop_free(&u->loop);
    return -1;
}

void run_close(struct run *u)
{
    queue_close(&u->q);
    loop_free(&u->loop);
}

/* ---- its mail ---- */

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
    int fd = queue_spool_create(u->q, m->m.id, &why);
    if (fd < 0)
        return false;
    bool good = write(fd, bytes, LARGE / 2) == LARGE / 2 && whole &&
                write(fd, bytes + LARGE / 2, LARGE / 2) == LARGE / 2 && fsync(fd) == 0;
    close(fd);
    return good;
}

static struct mail *take_in_mail(struct run *u, struct mail *m)
{
    bool large = m->large;
    struct queue_accept a = {
        .request.done = run_on_done, .message = &m->m, .recipients = m->r, .count = 2, .token = m->token};
    m->asked = disk_steps();
    bool good = !large || write_large(u, m, true);
    if (good) {
        u->done = false;
        queue_accept(u->q, &a);
        run_wait(u);
        good = a.request.fail == QUEUE_OK && !a.damaged;
        cr_assert(!good || a.duplicate_of == 0);
    }
    if (good)
        m->accepted = disk_steps();
    else if (large && a.request.fail != QUEUE_BROKEN) /* as qmgr does it */
        queue_spool_remove(u->q, m->m.id);
    return m;
}

static struct mail *take_in(struct run *u, bool large)
{
    return take_in_mail(u, new_mail(u, large));
}

static struct mail *take_in_fat(struct run *u)
{
    struct mail *m = new_mail(u, false);
    memset(fat_body, 'f', sizeof fat_body);
    m->m.body = span_make(fat_body, sizeof fat_body);
    m->m.size = sizeof fat_body + m->m.prefix.n;
    return take_in_mail(u, m);
}

unsigned run_import(struct run *u, struct mail *m)
{
    static const uint64_t sources[] = {1001, 1002};
    struct queue_import i = {.request.done = run_on_done,
                             .message = &m->m,
                             .recipients = m->r,
                             .sources = sources,
                             .count = 2,
                             .fingerprint = m->large ? 8 : 7};
    u->done = false;
    queue_import(u->q, &i);
    run_wait(u);
    if (m->large && (i.request.fail == QUEUE_OK ? i.made == 0 : i.request.fail != QUEUE_BROKEN))
        queue_spool_remove(u->q, m->m.id);
    return i.request.fail == QUEUE_OK ? (unsigned)i.made : 0;
}

static struct mail *take_over(struct run *u, bool large)
{
    struct mail *m = new_mail(u, large);
    m->imported = true;
    m->asked = disk_steps();
    if ((!large || write_large(u, m, true)) && run_import(u, m))
        m->accepted = disk_steps();
    return m;
}

/* What failed is repeated, as qmgr does. */
static size_t settle(struct run *u, struct queue_settle *s)
{
    for (int i = 0; i < TRIES; i++) {
        s->request.done = run_on_done;
        u->done = false;
        queue_settle(u->q, s, 0);
        run_wait(u);
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

/* A notice that no frame holds: its file first, as often as it takes. */
static bool write_notice(struct run *u, const struct mail *n)
{
    for (int i = 0; n->large && i < TRIES; i++) {
        if (write_large(u, n, true))
            return true;
        queue_spool_remove(u->q, n->m.id);
    }
    return !n->large;
}

/* All recipients at once: delivered, or failed with a notification, of a large message with a large one. */
static void end(struct run *u, struct mail *m, bool bounce)
{
    struct queue_change c[3] = {{QUEUE_GONE, m->r[0]}, {QUEUE_GONE, m->r[1]}, {QUEUE_GONE, m->child}};
    struct queue_settle s = {
        .message = m->m.id, .spooled = m->large, .changes = c, .count = m->expanded != NEVER ? 3 : 2};
    if (m->accepted == NEVER)
        return;
    if (bounce) {
        m->notice = new_mail(u, m->large);
        m->notice->is_notice = true;
        s.notice = &m->notice->m;
        s.notice_to = &m->notice->r[0];
    }
    m->going = disk_steps();
    m->gone = !bounce || write_notice(u, m->notice) ? settle(u, &s) : NEVER;
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

/* ---- what else is recorded ---- */

static struct fact *fact(struct run *u, enum fact_kind kind, int value)
{
    struct fact *f = &u->facts[u->fact_count++];
    *f = (struct fact){.kind = kind, .value = value, .asked = disk_steps(), .known = NEVER};
    u->done = false;
    return f;
}

static void fact_done(struct run *u, struct fact *f, const struct queue_request *r)
{
    run_wait(u);
    if (r->fail == QUEUE_OK)
        f->known = disk_steps();
}

static void destination(struct run *u, int value)
{
    struct fact *f = fact(u, DESTINATION, value);
    struct queue_destination d = {.request.done = run_on_done,
                                  .name = SPAN("far.test"),
                                  .reason = SPAN("why"),
                                  .forget = value == 0,
                                  .suspended = value == 1,
                                  .failures = value == 2 ? 3 : 0};
    queue_destination(u->q, &d, 0);
    fact_done(u, f, &d.request);
}

/* Both recipients of a message wait for the destination. */
static void park(struct run *u, struct mail *m)
{
    struct queue_change c[2] = {{QUEUE_UPDATE, m->r[0]}, {QUEUE_UPDATE, m->r[1]}};
    struct queue_settle s = {.message = m->m.id, .changes = c, .count = 2};
    if (m->accepted == NEVER)
        return;
    for (unsigned i = 0; i < 2; i++) {
        c[i].row.next = 9000;
        c[i].row.destination = SPAN("far.test");
    }
    u->parked = m;
    struct fact *f = fact(u, PARKED, 1);
    f->known = settle(u, &s);
}

static void release(struct run *u)
{
    if (!u->parked)
        return;
    struct fact *f = fact(u, PARKED, 2);
    struct queue_release r = {.request.done = run_on_done, .destination = SPAN("far.test"), .now = 2000, .max = 10};
    queue_release(u->q, &r);
    fact_done(u, f, &r.request);
    cr_assert(r.request.fail != QUEUE_OK || r.count == 2 || u->facts[f - u->facts - 1].known == NEVER);
}

/* A message of an account that has passed a limit: its state and two notices go in with it, or nothing does. */
static void take_in_limited(struct run *u)
{
    struct queue_limited l = {.account = 7, .login = SPAN("a@x.test"), .reason = SPAN("too much"), .since = 1000, .told = true};
    struct queue_notice notices[2];
    struct mail *m = new_mail(u, false);
    for (unsigned i = 0; i < 2; i++) {
        struct mail *n = new_mail(u, false);
        n->is_notice = true;
        n->with = m;
        notices[i] = (struct queue_notice){&n->m, &n->r[0]};
        m->r[i].state = QUEUE_LIMITED;
        m->r[i].next = 0;
    }
    struct queue_accept a = {.request.done = run_on_done,
                             .message = &m->m,
                             .recipients = m->r,
                             .count = 2,
                             .token = m->token,
                             .limited = &l,
                             .notices = notices,
                             .notice_count = 2};
    struct fact *f = fact(u, LIMITED, 1);
    m->asked = m[1].asked = m[2].asked = f->asked;
    queue_accept(u->q, &a);
    fact_done(u, f, &a.request);
    m->accepted = m[1].accepted = m[2].accepted = f->known;
}

static void limited_end(struct run *u, bool over)
{
    struct fact *f = fact(u, LIMITED, over ? 0 : 2);
    struct queue_limited_end e = {.request.done = run_on_done, .account = 7, .ending = 1, .over = over};
    if (f[-1].known == NEVER) { /* nothing to end */
        u->fact_count--;
        return;
    }
    queue_limited_end(u->q, &e);
    fact_done(u, f, &e.request);
}

/* Free pages go back to the disk, and the file gets shorter. */
static void tidy(struct run *u)
{
    struct timespec ms = {.tv_nsec = 1000000};
    uint64_t before = u->tidied;
    for (int i = 0; i < 50 && u->tidied == before; i++) {
        nanosleep(&ms, NULL);
        u->tidied = queue_stats(u->q).tidied;
    }
    checkpoint(u);
}

/* ---- the scripts ---- */

void mail_script(struct run *u, const char *disk)
{
    *u = (struct run){0};
    if (run_open(u, disk, &why))
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
    run_close(u);
    if (run_open(u, disk, &why))
        return;
    defer(u, kept);
    take_in(u, false);
    checkpoint(u);
    end(u, kept, true);
    run_close(u);
}

void other_script(struct run *u, const char *disk)
{
    *u = (struct run){0};
    if (run_open(u, disk, &why))
        return;
    struct mail *fat = take_in_fat(u), *parked = take_in(u, false), *second = take_in_fat(u);
    destination(u, 1);
    park(u, parked);
    destination(u, 2);
    release(u);
    take_in_limited(u);
    end(u, fat, false);
    end(u, second, false);
    tidy(u);
    struct mail *other = take_over(u, false);
    take_over(u, true);
    end(u, other, false);
    limited_end(u, false);
    destination(u, 0);
    run_close(u);
    if (run_open(u, disk, &why))
        return;
    limited_end(u, true);
    destination(u, 1);
    take_in(u, false);
    run_close(u);
}
