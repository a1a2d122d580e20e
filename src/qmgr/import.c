/* `waypost queue import`: the messages of a file (queue/qfile.h) become ours. A thread reads, checks and writes spool files;
 * the queue's writer takes what it hands in, some hundred messages a transaction. Ids are new; what was once taken over is not
 * taken again (queue_import()), so that an import that was interrupted is simply repeated.
 *
 * A message that is on its way to the disk outlives the thread: it belongs to itself, and to the loop when it is done. */
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "ipc/messages.h"
#include "mail/address.h"
#include "qmgr/carry.h"
#include "qmgr/meeting.h"
#include "queue/qfile.h"

#define IMPORT_TIME_MS (24 * INT64_C(3600000))
#define READ_BYTES (256u << 10)
#define FLYING_MAX 3000
#define FLYING_BYTES (32u << 20)
#define ROOM_MS 1000   /* how often the disk is looked at */
#define REFILL_MS 200  /* what is due is read together with what comes soon */

/* What the thread and the loop share; the last of them frees it. */
struct flight {
    struct qmgr *q; /* the loop's */
    struct queue *queue;
    struct meeting meeting; /* woken when one has landed */
    /* with its lock: */
    unsigned flying;
    size_t bytes;
    uint64_t messages, recipients, known; /* new here, and recipients that were here already */
    char failed[200];                     /* why the first of them could not be taken over; empty: none */
};

struct carried {
    struct queue_import import;
    struct flight *flight;
    struct arena arena;
    struct queue_message message;
    size_t bytes;
};

struct import {
    struct queue *queue;
    struct flight *flight;
    int fd;
    uint64_t min_free, min_free_files;
    /* the thread's */
    struct question *k;
    struct qfile_reader reader;
    struct carried *now; /* being read */
    char *body;          /* its content, in its arena; NULL: spooled */
    size_t body_n;
    int spool;
    int64_t room_looked;
    uint64_t seen;
};

/* ---- in flight ---- */

static void flight_unref(struct flight *f)
{
    if (meeting_leave(&f->meeting))
        mem_free(&f);
}

static void carried_free(struct carried *c)
{
    arena_free(&c->arena);
    mem_free(&c);
}

/* What is due is taken up; later ones when it is their time. */
static void tell_refill(struct qmgr *q, const struct queue_import *m)
{
    int64_t soon = qmgr_wall(q) + REFILL_MS;
    for (size_t i = 0; i < m->count; i++)
        if (m->recipients[i].next)
            refill_at(q, MAX_OF(m->recipients[i].next, soon));
}

static void on_imported(struct queue_request *r)
{
    struct carried *c = container_of(container_of(r, struct queue_import, request), struct carried, import);
    struct flight *f = c->flight;
    size_t real = 0;
    for (size_t i = 0; i < c->import.count; i++)
        real += c->import.recipients[i].state != QUEUE_EXPANDED;
    bool good = r->fail == QUEUE_OK && !c->import.damaged;
    if (c->message.spooled && (!good || c->import.made == 0))
        queue_spool_remove(f->queue, c->message.id);
    if (good && c->import.made)
        tell_refill(f->q, &c->import);
    meeting_lock(&f->meeting);
    f->flying--;
    f->bytes -= c->bytes;
    if (good) {
        f->messages += c->import.made > 0;
        f->recipients += c->import.made;
        f->known += real - c->import.made;
    } else if (!*f->failed) {
        snprintf(f->failed, sizeof f->failed, "%s", r->fail == QUEUE_FULL ? "the disk is full" : c->import.damaged ? "a spool file is damaged" : r->why);
    }
    meeting_wake(&f->meeting);
    meeting_unlock(&f->meeting);
    carried_free(c);
    flight_unref(f);
}

static bool crowded(const struct flight *f, unsigned most, size_t bytes)
{
    return f->flying > most || (f->flying && f->bytes > bytes);
}

/* Until no more than that are on their way. */
static int wait_landed(struct import *m, unsigned most, size_t bytes, struct err *err)
{
    struct flight *f = m->flight;
    meeting_lock(&f->meeting);
    while (crowded(f, most, bytes) && !*f->failed && meeting_wait(&f->meeting, m->k))
        ;
    int rc = *f->failed ? err_set(err, "%s", f->failed) : crowded(f, most, bytes) ? err_set(err, "stopped") : 0;
    meeting_unlock(&f->meeting);
    return rc;
}

/* ---- a message ---- */

static int bad_fact(struct import *m, const char *what, struct err *err)
{
    return err_set(err, "before byte %llu: message %s: %s", (unsigned long long)m->reader.at, qid_text(m->reader.message.id).text, what);
}

static bool is_address(struct span s)
{
    struct address a;
    return address_parse(s, &a) || span_ieqs(s, "postmaster");
}

static uint64_t fingerprint_of(const struct queue_message *m)
{
    unsigned char sum[16];
    uint64_t n = 0;
    struct buf b = {0};
    buf_printf(&b, "%llu %lld %llu ", (unsigned long long)m->id, (long long)m->received, (unsigned long long)m->size);
    buf_add(&b, m->sender);
    buf_addc(&b, '\0');
    buf_add(&b, m->message_id);
    crypto_generichash(sum, sizeof sum, (const unsigned char *)b.p, b.n, NULL, 0);
    buf_free(&b);
    for (size_t i = 0; i < sizeof n; i++)
        n = n << 8 | sum[i];
    return n;
}

static void take_message(struct import *m, struct carried *c)
{
    const struct queue_message *from = &m->reader.message;
    struct arena *a = &c->arena;
    c->message = *from;
    c->message.account = 0; /* a number of the directory there; the login says who it was */
    c->message.spooled = from->size > IPC_INLINE_MAX;
    c->message.prefix = c->message.body = SPAN_NONE;
    queue_keep_message(&c->message, a);
}

/* What the state means here: what waits for a destination or its domain there is tried at once, and waits here where it has
 * to; whoever was over a limit there is held. */
static void take_state(struct queue_recipient *r, int64_t now)
{
    if (r->state == QUEUE_LIMITED)
        r->state = QUEUE_HELD;
    if (r->state == QUEUE_PICKUP || (r->state == QUEUE_WAITING && (r->destination.p || !r->next))) {
        r->state = QUEUE_WAITING;
        r->next = now;
    }
    if (r->state == QUEUE_PARKED && !r->next)
        r->next = now;
    if (r->state == QUEUE_HELD || r->state == QUEUE_EXPANDED)
        r->next = 0;
    r->destination = SPAN_NONE;
}

static struct span domain_of(struct arena *a, const struct queue_recipient *r)
{
    char name[ADDRESS_DOMAIN_MAX + 1];
    size_t n;
    struct span domain = span_from(r->address, (size_t)(span_rfind(r->address, '@') + 1));
    bool waits = r->attempts && (r->state == QUEUE_WAITING || r->state == QUEUE_PARKED);
    return waits && domain_canonical(domain, name, &n) ? arena_dup(a, span_make(name, n)) : SPAN_NONE;
}

static void take_recipients(struct import *m, struct carried *c)
{
    size_t n = m->reader.count;
    struct arena *a = &c->arena;
    struct queue_recipient *to = arena_alloc(a, n * sizeof *to);
    uint64_t *sources = arena_alloc(a, n * sizeof *sources);
    int64_t now = clock_wall();
    c->message.id = queue_ids(m->queue, n + 1);
    for (size_t i = 0; i < n; i++) {
        struct queue_recipient *r = &to[i];
        *r = m->reader.recipients[i];
        sources[i] = r->id;
        r->id = c->message.id + 1 + i;
        for (size_t j = i; r->parent && j > 0; j--) /* it comes before its children */
            if (sources[j - 1] == r->parent) {
                r->parent = to[j - 1].id;
                break;
            }
        queue_keep_recipient(r, a);
        take_state(r, now);
        r->domain = domain_of(a, r);
    }
    c->import = (struct queue_import){.request.done = on_imported,
                                      .message = &c->message,
                                      .recipients = to,
                                      .sources = sources,
                                      .count = n,
                                      .fingerprint = fingerprint_of(&m->reader.message)};
}

static int check_facts(struct import *m, struct err *err)
{
    const struct queue_message *from = &m->reader.message;
    if (from->sender.n && !is_address(from->sender))
        return bad_fact(m, "its sender is no address", err);
    if (from->size <= IPC_INLINE_MAX && m->reader.prefix > IPC_PREFIX_MAX)
        return bad_fact(m, "its prefix is too long", err);
    for (size_t i = 0; i < m->reader.count; i++) {
        const struct queue_recipient *r = &m->reader.recipients[i];
        if (!is_address(r->address) || (r->original.n && !is_address(r->original)))
            return bad_fact(m, "a recipient is no address", err);
        if (r->sender.n && !is_address(r->sender))
            return bad_fact(m, "a recipient's sender is no address", err);
    }
    return 0;
}

static int begin_message(struct import *m, struct err *err)
{
    if (check_facts(m, err))
        return -1;
    struct carried *c = mem_alloc(sizeof *c);
    m->now = c;
    take_message(m, c);
    take_recipients(m, c);
    m->body_n = 0;
    m->body = c->message.spooled ? NULL : arena_alloc(&c->arena, c->message.size ? (size_t)c->message.size : 1);
    c->bytes = sizeof *c + c->import.count * sizeof(struct queue_recipient) + (m->body ? (size_t)c->message.size : 0);
    if (c->message.spooled)
        m->spool = queue_spool_create(m->queue, c->message.id, err);
    return c->message.spooled && m->spool < 0 ? -1 : 0;
}

static int take_content(struct import *m, struct err *err)
{
    struct span part = m->reader.part;
    if (m->body) {
        memcpy(m->body + m->body_n, part.p, part.n);
        m->body_n += part.n;
        return 0;
    }
    while (part.n) {
        ssize_t n = write(m->spool, part.p, part.n);
        if (n < 0 && errno != EINTR)
            return err_errno(err, "a spool file");
        part = span_from(part, n > 0 ? (size_t)n : 0);
    }
    return 0;
}

static int end_message(struct import *m, struct err *err)
{
    struct carried *c = m->now;
    struct flight *f = m->flight;
    if (m->spool >= 0) {
        int rc = fsync(m->spool) ? err_errno(err, "a spool file") : 0;
        close(m->spool);
        m->spool = -1;
        if (rc)
            return -1;
    } else {
        size_t prefix = MIN_OF((size_t)m->reader.prefix, m->body_n);
        c->message.prefix = span_make(m->body, prefix);
        c->message.body = span_make(m->body + prefix, m->body_n - prefix);
    }
    if (wait_landed(m, FLYING_MAX, FLYING_BYTES, err))
        return -1;
    meeting_lock(&f->meeting);
    f->meeting.refs++;
    f->flying++;
    f->bytes += c->bytes;
    meeting_unlock(&f->meeting);
    c->flight = f;
    m->now = NULL;
    m->seen += m->reader.count;
    queue_import(m->queue, &c->import);
    question_progress(m->k, m->seen, m->reader.total, "recipients");
    return 0;
}

static void drop_message(struct import *m)
{
    if (m->spool >= 0)
        close(m->spool);
    m->spool = -1;
    if (!m->now)
        return;
    if (m->now->message.spooled)
        queue_spool_remove(m->queue, m->now->message.id);
    carried_free(m->now);
    m->now = NULL;
}

/* ---- the file ---- */

static int look_for_room(struct import *m, struct err *err)
{
    uint64_t bytes, files;
    int64_t now = clock_mono();
    if (now - m->room_looked < ROOM_MS)
        return 0;
    m->room_looked = now;
    if (queue_room(m->queue, &bytes, &files))
        return 0;
    return bytes < m->min_free || files < m->min_free_files ? err_set(err, "the queue's disk has less free than queue.min-free and min-free-files say") : 0;
}

static int take_part(struct import *m, struct span in, struct err *err)
{
    enum qfile_got got;
    while ((got = qfile_next(&m->reader, &in, err)) != QFILE_MORE) {
        int rc = got == QFILE_BAD       ? -1
                 : got == QFILE_FACTS   ? begin_message(m, err)
                 : got == QFILE_CONTENT ? take_content(m, err)
                 : got == QFILE_MESSAGE ? end_message(m, err)
                                        : 0;
        if (rc)
            return -1;
    }
    return look_for_room(m, err);
}

static int import_all(struct import *m, struct err *err)
{
    char *part = mem_resize(NULL, READ_BYTES);
    ssize_t n = 1;
    int rc = 0;
    while (rc == 0 && n > 0) {
        n = carry_read(m->k, m->fd, part, READ_BYTES, err);
        rc = n < 0 ? -1 : take_part(m, span_make(part, n > 0 ? (size_t)n : 0), err);
    }
    mem_free(&part);
    return rc ? rc : qfile_finish(&m->reader, err);
}

static void run(struct question *k, void *ctx)
{
    struct import *m = ctx;
    struct flight *f = m->flight;
    struct err err = {""}, late;
    m->k = k;
    int rc = import_all(m, &err);
    drop_message(m);
    if (wait_landed(m, 0, 0, &late) && rc == 0)
        rc = err_set(&err, "%s", late.text);
    meeting_lock(&f->meeting);
    uint64_t messages = f->messages, recipients = f->recipients, known = f->known;
    meeting_unlock(&f->meeting);
    LOGI("queue-imported", KVS("from", m->reader.host), KVU("messages", messages), KVU("recipients", recipients), KVU("known", known),
         KVT("failed", rc ? err.text : ""));
    if (rc)
        question_end(k, ADMIN_FAILED, "%s; %llu recipients of %llu messages were imported and stay: a repeated import makes none of them twice", err.text,
                     (unsigned long long)recipients, (unsigned long long)messages);
    else if (known)
        question_end(k, ADMIN_DONE, "%llu recipients of %llu messages imported; %llu had been before", (unsigned long long)recipients,
                     (unsigned long long)messages, (unsigned long long)known);
    else
        question_end(k, ADMIN_DONE, "%llu recipients of %llu messages imported", (unsigned long long)recipients, (unsigned long long)messages);
}

static void import_free(void *ctx)
{
    struct import *m = ctx;
    if (m->fd >= 0)
        close(m->fd);
    qfile_reader_free(&m->reader);
    flight_unref(m->flight);
    mem_free(&m);
}

void import_command(void *ctx, struct admin_call *c, const struct span *args, size_t n)
{
    struct qmgr *q = ctx;
    int fd = admin_take_fd(c);
    (void)args;
    (void)n;
    if (fd < 0) {
        admin_end(c, ADMIN_USAGE, "no file came with the command");
        return;
    }
    struct import *m = mem_alloc(sizeof *m);
    *m = (struct import){.queue = q->queue,
                         .fd = fd,
                         .spool = -1,
                         .min_free = q->conf->queue.min_free,
                         .min_free_files = q->conf->queue.min_free_files,
                         .flight = mem_alloc(sizeof *m->flight)};
    *m->flight = (struct flight){.q = q, .queue = q->queue};
    meeting_init(&m->flight->meeting, 1);
    qfile_reader_init(&m->reader);
    question_work_on(q, c, &(struct question_work){.run = run, .free = import_free, .ctx = m, .time = IMPORT_TIME_MS, .most = 1});
}
