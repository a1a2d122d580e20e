/* Files of the drop directory: what sendmail was given while nobody listened. A file is what a client says in a session
 * (batch SMTP, as RFC 2442 describes it); it speaks through a session of its owner's over a socket pair, so that nothing
 * is taken from a file that would not be taken from its owner.
 *
 * Afterwards the file is truncated, and the supervisor removes it. The lock on it, which came with the descriptor, says
 * that it is being dealt with. A crash in between is harmless: the file's XTOKEN names a message that is queued already.
 * A file that can't be queued is kept as it is and said once: it stays open, and so locked. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "smtpd/smtpd.h"

#define AT_ONCE 4
#define WAITING_MAX 256 /* further ones are offered again */
#define KEPT_MAX 256    /* damaged ones; with more the oldest is said once more */
#define PIECE 16384

struct drop {
    struct link link;
    struct smtpd *d;
    struct session *s;
    struct stream *feed; /* the client's end */
    int fd;
    uint32_t uid;
    char name[256];
    off_t at;
    unsigned queued;
    char reply[200]; /* the first refusal */
    bool unread; /* not to the end */
};

struct drops {
    struct link waiting, speaking, kept;
    unsigned waiting_n, speaking_n, kept_n;
    struct defer next;
};

/* ---- life ---- */

static void drop_free(struct drop *f)
{
    stream_free(&f->feed);
    if (f->fd >= 0)
        close(f->fd);
    list_del(&f->link);
    mem_free(&f);
}

static void next(void *ctx);

static struct drops *drops_of(struct smtpd *d)
{
    if (d->drops)
        return d->drops;
    struct drops *x = d->drops = mem_alloc(sizeof *x);
    list_init(&x->waiting);
    list_init(&x->speaking);
    list_init(&x->kept);
    x->next = (struct defer){.fn = next, .ctx = d};
    return x;
}

void drops_free(struct smtpd *d)
{
    if (!d->drops)
        return;
    struct link *all[] = {&d->drops->waiting, &d->drops->speaking, &d->drops->kept};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        LIST_EACH(all[i], l)
            drop_free(container_of(l, struct drop, link));
    loop_defer_cancel(d->loop, &d->drops->next);
    mem_free(&d->drops);
}

/* ---- the client's side ---- */

static void feed(struct drop *f)
{
    static char piece[PIECE];
    bool room = true;
    while (room) {
        ssize_t n = pread(f->fd, piece, sizeof piece, f->at);
        if (n <= 0) {
            f->unread = n < 0;
            stream_shutdown_write(f->feed);
            return;
        }
        f->at += n;
        room = stream_write(f->feed, span_make(piece, (size_t)n));
    }
}

/* Its replies are known from the session. */
static size_t on_reply(void *ctx UNUSED, struct span in)
{
    return in.n;
}

static void on_feed(void *ctx, enum stream_event e)
{
    struct drop *f = ctx;
    if (e == STREAM_DRAINED)
        feed(f);
    else if (e == STREAM_ERROR) /* the session is over, and says so itself */
        stream_free(&f->feed);
}

static const struct stream_ops feed_ops = {.on_data = on_reply, .on_event = on_feed};

static void speak(struct drop *f)
{
    int fds[2];
    struct smtpd *d = f->d;
    d->drops->speaking_n++;
    list_add_tail(&d->drops->speaking, &f->link);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds)) {
        d->drops->speaking_n--;
        drop_free(f); /* offered again */
        return;
    }
    f->s = session_open_local(local_port(d), fds[0], f->uid);
    if (!f->s) {
        close(fds[1]);
        d->drops->speaking_n--;
        drop_free(f);
        return;
    }
    f->s->drop = f;
    f->feed = stream_new(d->loop, fds[1], &feed_ops, f);
    if (!local_may(d, f->uid)) {
        drop_refused(f, SPAN("554 5.7.1 its owner may not hand in mail here"));
        session_end(f->s);
        return;
    }
    feed(f);
    session_begin(f->s);
}

/* At the end of a turn: nobody is inside of what it begins. */
static void next(void *ctx)
{
    struct smtpd *d = ctx;
    struct drops *x = d->drops;
    while (x->speaking_n < AT_ONCE && !list_empty(&x->waiting) && !d->door.draining) {
        struct drop *f = container_of(x->waiting.next, struct drop, link);
        list_del(&f->link);
        x->waiting_n--;
        speak(f);
    }
}

void drop_take(struct smtpd *d, int fd, uint32_t uid, struct span name)
{
    struct drops *x = drops_of(d);
    if (x->waiting_n >= WAITING_MAX || d->door.draining) {
        close(fd);
        return;
    }
    struct drop *f = mem_alloc(sizeof *f);
    *f = (struct drop){.d = d, .fd = fd, .uid = uid};
    memcpy(f->name, name.p, MIN_OF(name.n, sizeof f->name - 1));
    list_add_tail(&x->waiting, &f->link);
    x->waiting_n++;
    loop_defer(d->loop, &x->next);
}

/* ---- what became of it ---- */

void drop_refused(struct drop *f, struct span reply)
{
    if (f->reply[0] == 0)
        memcpy(f->reply, reply.p, MIN_OF(reply.n, sizeof f->reply - 1));
}

void drop_queued(struct drop *f)
{
    f->queued++;
}

/* Without waiting for the disk: should the file come back after a power failure, its XTOKEN is known still. */
static void truncate_it(struct drop *f)
{
    if (ftruncate(f->fd, 0))
        LOGE("drop-truncate", KVT("file", f->name), KVU("uid", f->uid), KVT("why", strerror(errno)));
}

static void keep(struct drop *f)
{
    struct drops *x = f->d->drops;
    LOGE("drop-damaged", KVT("file", f->name), KVU("uid", f->uid),
         KVT("why", f->reply[0] ? f->reply : "it holds no whole message"),
         KVT("mend", "read it in the folder drop of the state folder, and remove it"));
    list_add_tail(&x->kept, &f->link);
    if (++x->kept_n > KEPT_MAX) {
        x->kept_n--;
        drop_free(container_of(x->kept.next, struct drop, link));
    }
}

static bool is_for_now(const struct drop *f)
{
    return f->unread || f->reply[0] == '4' || f->d->door.draining;
}

void drop_session_over(struct drop *f)
{
    struct smtpd *d = f->d;
    if (commit_pending(f->s)) /* its answer will come too late for us */
        f->unread = true;
    f->s = NULL;
    stream_free(&f->feed);
    list_del(&f->link);
    d->drops->speaking_n--;
    loop_defer(d->loop, &d->drops->next);
    if (is_for_now(f)) {
        LOGI("drop-later", KVT("file", f->name), KVU("uid", f->uid), KVT("why", f->unread ? "it was not read to its end" : f->reply));
    } else if (f->queued) {
        if (f->reply[0])
            LOGW("drop-refused", KVT("file", f->name), KVU("uid", f->uid), KVT("why", f->reply));
        truncate_it(f);
    } else {
        keep(f);
        return;
    }
    drop_free(f);
}
