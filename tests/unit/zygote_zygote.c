/* zygote/: the real program in a child process; the test plays supervisor, authd and qmgr. What the forked children run
 * is a worker of this file, which says what it sees: its uid, its descriptors, what it can open. As root with uids, and
 * as a user. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/outcome.h"
#include "ipc/chan.h"
#include "service/worker.h"

#undef main
int zygote_main(int argc, char **argv);

#define ZYGOTE_UID 64990
#define MAIL_GID 64991
#define FIRST_UID 200000

/* ---- the children's side ---- */

enum { CAN_READ_OUTSIDE = 1, CAN_WRITE_OWN = 2, NO_NEW_PRIVS = 4, CAN_BE_ROOT = 8, SEES_OTHERS = 16 };

static uint64_t what_i_can(const struct worker_start *w)
{
    uint64_t can = 0;
    char path[300];
    snprintf(path, sizeof(path), "%s/file", w->dir);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    can |= fd >= 0 ? CAN_WRITE_OWN : 0;
    close(fd);
    unlink(path);
    can |= open("/etc/hostname", O_RDONLY) >= 0 || open("/etc/passwd", O_RDONLY) >= 0 ? CAN_READ_OUTSIDE : 0;
    snprintf(path, sizeof(path), "%s/../other/file", w->dir);
    can |= open(path, O_RDONLY) >= 0 ? SEES_OTHERS : 0;
    can |= w->as_root && (setresuid(0, 0, 0) == 0 || setresuid(FIRST_UID + 99, FIRST_UID + 99, FIRST_UID + 99) == 0)
               ? CAN_BE_ROOT
               : 0;
    return can;
}

static unsigned open_fds(void)
{
    unsigned n = 0;
    for (int fd = 3; fd < 200; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void report(int fd, uint64_t a, uint64_t b)
{
    struct msg m = {.type = MSG_usage, .usage = {.bytes = a, .messages = b}};
    struct err err;
    if (chan_send_now(fd, &m, -1, &err))
        _exit(9);
}

int worker_run(const struct worker_start *w)
{
    struct buf in = {0};
    struct msg m;
    struct err err;
    int fd;
    unsigned fds = open_fds();
    report(w->authd_fd, geteuid(), fds);
    report(w->authd_fd, what_i_can(w), strlen(w->boot_id));
    report(w->qmgr_fd, w->account, strcmp(w->login, "alice@example.test") == 0 ? (uint64_t)getpid() : 0);
    while (chan_recv_now(w->control_fd, ROLE_ZYGOTE, &in, &m, &fd, &err) == 1) {
        if (m.type == MSG_peer_end)
            report(fd, m.peer_end.role, 0);
        if (m.type == MSG_drain)
            return 0;
    }
    return 0;
}

/* ---- the test's side ---- */

static char dir[64], state[100];
static struct err err;
static pid_t zygote;
static int control, authd, qmgr;
static struct buf frame;
static struct msg heard;

static void say(int to, struct msg m, int fd)
{
    cr_assert_eq(chan_send_now(to, &m, fd, &err), 0, "%s", err.text);
}

/* Returns the descriptor that came along. */
static int hear(int from, enum role sender, enum msg_type type)
{
    int fd = -1;
    cr_assert_eq(chan_recv_now(from, sender, &frame, &heard, &fd, &err), 1, "%s", err.text);
    cr_assert_eq(heard.type, type, "%s", msg_info((unsigned)heard.type)->name);
    return fd;
}

static void say_setting(void *ctx, const struct msg *m)
{
    (void)ctx;
    say(control, *m, -1);
}

static int give_peer(enum role role)
{
    int pair[2];
    cr_assert_eq(chan_pair(pair, &err), 0);
    say(control, (struct msg){.type = MSG_peer_end, .peer_end = {.role = (uint8_t)role}}, pair[1]);
    close(pair[1]);
    return pair[0];
}

static void send_settings(void)
{
    struct conf_errors errors = {0};
    char text[300];
    snprintf(text, sizeof(text), "hostname mx.example.test;\nstate %s;\naccounts { uid-first %d; uid-last %d; }\n",
             state, FIRST_UID, FIRST_UID + 9);
    struct conf *c = conf_parse("test", span_of(text), 1, &errors);
    cr_assert(c, "%.*s", SPANV(buf_span(&errors.text)));
    cr_assert_eq(conf_send(c, ROLE_ZYGOTE, say_setting, NULL, &err), 0);
    const struct conf *gone = c;
    conf_unref(&gone);
}

static void start(bool as_root)
{
    int pair[2];
    cr_assert_eq(chan_pair(pair, &err), 0);
    zygote = fork();
    if (zygote == 0) {
        char *argv[] = {"zygote", "zygote", "0", NULL};
        close(pair[0]);
        if (pair[1] != 3) {
            dup2(pair[1], 3);
            close(pair[1]);
        }
        _exit(zygote_main(3, argv));
    }
    close(pair[1]);
    control = pair[0];
    send_settings();
    authd = give_peer(ROLE_AUTHD);
    qmgr = give_peer(ROLE_QMGR);
    say(control, (struct msg){.type = MSG_go, .go = {.as_root = as_root, .uid = ZYGOTE_UID, .gid = MAIL_GID}}, -1);
    hear(control, ROLE_ZYGOTE, MSG_ready);
}

static void set_up(void)
{
    char path[200];
    snprintf(dir, sizeof(dir), "/tmp/waypost-zygote-XXXXXX");
    cr_assert(mkdtemp(dir));
    snprintf(state, sizeof(state), "%s/state", dir);
    snprintf(path, sizeof(path), "%s/mail", state);
    cr_assert_eq(chmod(dir, 0711) || mkdir(state, 0711) || chmod(state, 0711) || mkdir(path, 0700), 0);
    if (geteuid() == 0)
        cr_assert_eq(chown(path, 0, MAIL_GID) || chmod(path, 03771), 0);
}

static void ends(void)
{
    int status;
    cr_assert_eq(waitpid(zygote, &status, 0), zygote);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", (unsigned)status);
    zygote = 0;
}

static void tear_down(void)
{
    char cmd[200];
    if (zygote) {
        close(control);
        ends();
    }
    snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
    cr_assert_eq(system(cmd), 0);
}

TestSuite(zygote, .init = set_up, .fini = tear_down, .timeout = 20);

static void ask_fork(uint64_t id, uint32_t account, uint32_t uid)
{
    say(authd,
        (struct msg){.type = MSG_mda_fork,
                     .id = id,
                     .mda_fork = {.account = account, .uid = uid, .login = SPAN("alice@example.test")}},
        -1);
}

static void started(uint64_t id, unsigned kind)
{
    hear(authd, ROLE_ZYGOTE, MSG_mda_started);
    cr_assert_eq(heard.id, id);
    cr_assert_eq(heard.mda_started.kind, kind, "%.*s", SPANV(heard.mda_started.why));
}

struct ends {
    int authd, qmgr;
};

static struct ends fork_one(uint32_t account, uint32_t uid)
{
    struct ends e;
    ask_fork(account + 100, account, uid);
    e.authd = hear(authd, ROLE_ZYGOTE, MSG_mda_end);
    cr_assert_eq(heard.mda_end.account, account);
    started(account + 100, OUTCOME_DONE);
    e.qmgr = hear(qmgr, ROLE_ZYGOTE, MSG_mda_end);
    cr_assert_eq(heard.mda_end.account, account);
    return e;
}

/* Returns its pid. */
static pid_t check_child(struct ends e, uint32_t account, uint32_t uid)
{
    struct stat st;
    char path[300];
    hear(e.authd, ROLE_MDA, MSG_usage);
    cr_assert_eq(heard.usage.bytes, uid);
    cr_assert_eq(heard.usage.messages, 3, "its three channels, nothing else");
    hear(e.authd, ROLE_MDA, MSG_usage);
    cr_assert_eq(heard.usage.bytes, CAN_WRITE_OWN);
    cr_assert_gt(heard.usage.messages, 30, "the boot id");
    hear(e.qmgr, ROLE_MDA, MSG_usage);
    cr_assert_eq(heard.usage.bytes, account);
    pid_t pid = (pid_t)heard.usage.messages;
    cr_assert_gt(pid, 1);
    snprintf(path, sizeof(path), "%s/mail/%u", state, account);
    cr_assert_eq(stat(path, &st), 0);
    cr_assert_eq(st.st_uid, uid);
    cr_assert_eq(st.st_mode & 07777 & ~02000u, 0700);
    return pid;
}

static bool no_root(void)
{
    return geteuid() != 0;
}

/* The test that needs root runs as root: tests/run calls the unit tests both ways. */
Test(zygote, forks_as_root)
{
    if (no_root())
        return;
    start(true);
    struct ends a = fork_one(5, FIRST_UID + 5);
    check_child(a, 5, FIRST_UID + 5);
    struct ends b = fork_one(6, FIRST_UID + 6);
    check_child(b, 6, FIRST_UID + 6);
    ask_fork(1, 7, 0);
    started(1, OUTCOME_RETRY);
    ask_fork(2, 7, FIRST_UID + 10);
    started(2, OUTCOME_RETRY);
}

Test(zygote, forks_as_user)
{
    start(false);
    struct ends a = fork_one(5, 0);
    check_child(a, 5, geteuid());
    ask_fork(9, 5, 0);
    started(9, OUTCOME_DONE);
    ask_fork(10, 0, 0);
    started(10, OUTCOME_RETRY);
}

/* HAZARDS 32: a planted link, or somebody else's folder, is not opened. */
Test(zygote, refuses_planted_folders)
{
    char path[200], target[200];
    snprintf(target, sizeof(target), "%s/target", dir);
    snprintf(path, sizeof(path), "%s/mail/5", state);
    cr_assert_eq(mkdir(target, 0700) || symlink(target, path), 0);
    snprintf(path, sizeof(path), "%s/mail/6", state);
    cr_assert_eq(mkdir(path, 0755) || chmod(path, 0755), 0);
    start(!no_root());
    for (uint32_t account = 5; account <= 6; account++) {
        struct ends e = fork_one(account, FIRST_UID + account);
        int fd;
        cr_assert_eq(chan_recv_now(e.authd, ROLE_MDA, &frame, &heard, &fd, &err), 0, "it left without a word");
        hear(authd, ROLE_ZYGOTE, MSG_mda_gone);
        cr_assert_eq(heard.mda_gone.account, account);
        hear(qmgr, ROLE_ZYGOTE, MSG_mda_gone);
    }
}

/* authd and qmgr hear of every end; a new child can be forked afterwards. */
Test(zygote, reaps)
{
    start(false);
    struct ends a = fork_one(5, 0);
    pid_t child = check_child(a, 5, geteuid());
    close(authd);
    close(qmgr);
    authd = give_peer(ROLE_AUTHD);
    qmgr = give_peer(ROLE_QMGR);
    int again = hear(authd, ROLE_ZYGOTE, MSG_mda_end);
    hear(again, ROLE_MDA, MSG_usage);
    cr_assert_eq(heard.usage.bytes, ROLE_AUTHD, "a fresh pair for the running child");
    again = hear(qmgr, ROLE_ZYGOTE, MSG_mda_end);
    hear(again, ROLE_MDA, MSG_usage);
    cr_assert_eq(heard.usage.bytes, ROLE_QMGR);
    cr_assert_eq(kill(child, SIGKILL), 0);
    hear(authd, ROLE_ZYGOTE, MSG_mda_gone);
    hear(qmgr, ROLE_ZYGOTE, MSG_mda_gone);
    cr_assert_eq(heard.mda_gone.account, 5);
    struct ends b = fork_one(5, 0);
    check_child(b, 5, geteuid());
}

Test(zygote, drains)
{
    start(false);
    struct ends a = fork_one(5, 0);
    check_child(a, 5, geteuid());
    say(control, (struct msg){.type = MSG_drain, .drain = {.ms = 3000}}, -1);
    hear(authd, ROLE_ZYGOTE, MSG_mda_gone);
    ends();
}

/* The children leave with it. */
Test(zygote, dies)
{
    start(false);
    struct ends a = fork_one(5, 0);
    check_child(a, 5, geteuid());
    kill(zygote, SIGKILL);
    waitpid(zygote, NULL, 0);
    zygote = 0;
    int fd;
    cr_assert_eq(chan_recv_now(a.authd, ROLE_MDA, &frame, &heard, &fd, &err), 0);
}
