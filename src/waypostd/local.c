/* Local submission, the supervisor's part: the socket that everybody may connect to, and the drop directory, where
 * sendmail puts what it could not hand in. Nothing is read here: files are judged by what the kernel says of them
 * (HAZARDS 32) and passed on, open, to smtpd-local. A lock on the open file says that it is being dealt with; it goes along
 * with the descriptor, so nobody has to report. An empty file is one that was queued.
 *
 * The directory is open to every user of the machine: a look takes a bounded number of entries, and goes on there next
 * time. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "waypostd/supervisor.h"

#define LOOK_MS 1000        /* an unchanged directory costs one call */
#define GO_ON_MS 100
#define LOOK_AGAIN_MS 30000 /* files that are there and stay there are tried again, soon and then seldom */
#define ENTRIES_MAX 1000    /* of one look */
#define HAND_MAX 32
#define SAID_MAX 256
#define LEFT_OVER_S 86400 /* a file whose writer died is no message */
#define ENVELOPE_ROOM (4u << 20) /* beside the message */

struct local {
    struct supervisor *sup;
    int fd; /* the listening socket; -1: none */
    char path[4096];
    DIR *dir; /* NULL: none */
    struct timer *timer;
    struct timespec seen; /* the directory's time at the beginning of a round */
    int64_t again, wait;  /* when it is looked at even so */
    bool under_way;       /* a round goes on */
    bool left;            /* files were there in this round */
    ino_t said[SAID_MAX]; /* strange ones that the log has been told of */
    unsigned said_n;
};

/* ---- one file ---- */

static void say_strange(struct local *x, const char *name, const struct stat *st, const char *why)
{
    for (unsigned i = 0; i < MIN_OF(x->said_n, (unsigned)SAID_MAX); i++)
        if (x->said[i] == st->st_ino)
            return;
    x->said[x->said_n++ % SAID_MAX] = st->st_ino;
    LOGW("drop-strange", KVT("file", name), KVU("uid", st->st_uid), KVT("why", why),
         KVT("mend", "remove it from the folder drop of the state folder"));
}

static const char *strange(const struct local *x, const struct stat *st)
{
    if (!S_ISREG(st->st_mode))
        return "it is no file";
    if (st->st_nlink != 1)
        return "it has another name, too";
    if (st->st_mode & 07077)
        return "others than its owner may use it";
    if (!x->sup->as_root && st->st_uid != geteuid())
        return "it is another user's";
    if ((uint64_t)st->st_size > x->sup->conf->smtp.max_message_size * 2 + ENVELOPE_ROOM)
        return "it is larger than any message that is taken";
    return NULL;
}

/* True: it was handed on. */
static bool deal_with(struct local *x, const char *name, int fd, struct child *to)
{
    struct stat st;
    if (fstat(fd, &st) || flock(fd, LOCK_EX | LOCK_NB))
        return false;
    const char *why = strange(x, &st);
    if (why) {
        say_strange(x, name, &st, why);
        return false;
    }
    if (st.st_size == 0) {
        unlinkat(dirfd(x->dir), name, 0);
        return false;
    }
    struct msg m = {.type = MSG_drop_file, .drop_file = {.uid = st.st_uid, .name = span_of(name)}};
    chan_say(to->control, &m, fd);
    return true;
}

static bool open_and_deal(struct local *x, const char *name, struct child *to)
{
    struct stat st;
    int fd = openat(dirfd(x->dir), name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) {
        if (errno != ENOENT && fstatat(dirfd(x->dir), name, &st, AT_SYMLINK_NOFOLLOW) == 0)
            say_strange(x, name, &st, S_ISREG(st.st_mode) ? "it can't be opened" : "it is no file");
        return false;
    }
    bool handed = deal_with(x, name, fd, to);
    close(fd);
    return handed;
}

/* One that is being written has a dot in front. */
static void unfinished(struct local *x, const char *name)
{
    struct stat st;
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || fstatat(dirfd(x->dir), name, &st, AT_SYMLINK_NOFOLLOW))
        return;
    if (!S_ISDIR(st.st_mode) && loop_wall(x->sup->loop) / 1000 - st.st_mtime > LEFT_OVER_S)
        unlinkat(dirfd(x->dir), name, 0);
}

/* ---- a round ---- */

static void begin_round(struct local *x)
{
    struct stat st;
    int64_t now = loop_now(x->sup->loop);
    if (fstat(dirfd(x->dir), &st))
        return;
    bool same = st.st_mtim.tv_sec == x->seen.tv_sec && st.st_mtim.tv_nsec == x->seen.tv_nsec;
    if (same && (!x->left || now < x->again))
        return;
    x->wait = same ? MIN_OF(x->wait * 2, (int64_t)LOOK_AGAIN_MS) : LOOK_MS;
    x->seen = st.st_mtim;
    x->again = now + x->wait;
    x->left = false;
    x->under_way = true;
    rewinddir(x->dir);
}

static void go_on(struct local *x, struct child *to)
{
    unsigned handed = 0;
    for (unsigned i = 0; i < ENTRIES_MAX && handed < HAND_MAX; i++) {
        const struct dirent *e = readdir(x->dir);
        if (!e) {
            x->under_way = false;
            break;
        }
        if (e->d_name[0] == '.') {
            unfinished(x, e->d_name);
            continue;
        }
        x->left = true;
        handed += open_and_deal(x, e->d_name, to);
    }
}

static void on_timer(void *ctx)
{
    struct local *x = ctx;
    struct child *to = child_find(x->sup, ROLE_LOCAL, 0);
    timer_start(x->timer, LOOK_MS);
    if (!to || to->state != CHILD_READY || !child_runs(to) || x->sup->phase != PHASE_RUNNING)
        return;
    if (!x->under_way)
        begin_round(x);
    if (x->under_way)
        go_on(x, to);
    if (x->under_way)
        timer_start(x->timer, GO_ON_MS);
}

/* ---- open and close ---- */

static int open_socket(struct local *x, const struct conf *conf, struct err *err)
{
    if (x->fd >= 0)
        return 0;
    if ((size_t)snprintf(x->path, sizeof x->path, "%s/submit.sock", conf->run) >= sizeof x->path)
        return err_set(err, "run: the path is too long");
    int fd = socket_on_path(SOCK_STREAM, conf->run, "submit.sock", 0666, err);
    if (fd < 0)
        return -1;
    if (listen(fd, 256)) {
        close(fd);
        return err_errno(err, "listen on %s", x->path);
    }
    x->fd = fd;
    return 0;
}

/* Everybody may put files there, and only root sees which there are. */
static int open_drop(struct local *x, const struct conf *conf, struct err *err)
{
    char path[4096];
    if (x->dir)
        return 0;
    if ((size_t)snprintf(path, sizeof path, "%s/drop", conf->state) >= sizeof path)
        return err_set(err, "state: the path is too long");
    if (start_folder(path, geteuid(), getegid(), x->sup->as_root ? 01733 : 0700, err))
        return -1;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    x->dir = fd < 0 ? NULL : fdopendir(fd);
    return x->dir ? 0 : err_errno(err, "%s", path);
}

int local_open(struct supervisor *s, const struct conf *conf, struct err *err)
{
    if (!conf->local_submission.enabled)
        return 0;
    if (!s->local) {
        s->local = mem_alloc(sizeof *s->local);
        *s->local = (struct local){.sup = s, .fd = -1};
        s->local->timer = timer_new(s->loop, on_timer, s->local);
    }
    if (open_socket(s->local, conf, err) || open_drop(s->local, conf, err))
        return -1;
    timer_start(s->local->timer, LOOK_MS);
    return 0;
}

int local_socket(struct supervisor *s)
{
    return s->local ? s->local->fd : -1;
}

void local_free(struct supervisor *s)
{
    struct local *x = s->local;
    if (!x)
        return;
    if (x->fd >= 0) {
        close(x->fd);
        unlink(x->path);
    }
    if (x->dir)
        closedir(x->dir);
    timer_free(&x->timer);
    mem_free(&s->local);
}

void local_trim(struct supervisor *s)
{
    if (!s->conf->local_submission.enabled)
        local_free(s);
}
