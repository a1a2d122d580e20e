/* The authd program alone, in its sandbox: the test is its supervisor, an operator and a front. What must work behind
 * the sandbox is used once: the directory's database, hashing on threads, resolving, an operator's connection; and
 * RCPT's speed is looked at. */
#include <criterion/criterion.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "conf/conf.h"
#include "ipc/chan.h"

struct stage {
    pid_t authd;
    int control, mx, imapd;
    char dir[64];
};

static struct buf in;
static struct err err;

static void tell(int fd, const struct msg *m, int pass)
{
    cr_assert_eq(chan_send_now(fd, m, pass, &err), 0, "%s", err.text);
}

static struct msg hear(int fd, enum role sender, enum msg_type type)
{
    struct msg m;
    int got;
    cr_assert_eq(chan_recv_now(fd, sender, &in, &m, &got, &err), 1, "%s", err.text);
    cr_assert_eq((int)m.type, (int)type, "%s instead of %s: %.*s", msg_info(m.type)->name, msg_info(type)->name,
                 SPANV(m.type == MSG_refused ? m.refused.why : SPAN("")));
    return m;
}

static void tell_setting(void *ctx, const struct msg *m)
{
    tell(*(int *)ctx, m, -1);
}

static pid_t exec_authd(int control)
{
    pid_t pid = fork();
    if (pid)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (control == 3)
        fcntl(3, F_SETFD, 0);
    else
        dup2(control, 3);
    execl(AUTHD, "authd", "authd", "0", (char *)NULL);
    _exit(127);
}

static void pair_for(struct stage *st, enum role role, int *mine)
{
    int fds[2];
    cr_assert_eq(chan_pair(fds, &err), 0);
    tell(st->control, &(struct msg){.type = MSG_peer_end, .peer_end.role = (uint8_t)role}, fds[1]);
    close(fds[1]);
    *mine = fds[0];
}

static void stage_open(struct stage *st)
{
    int control[2];
    char path[100], text[200];
    struct conf_errors errors = {0};
    snprintf(st->dir, sizeof(st->dir), "/tmp/waypost-authd-XXXXXX");
    cr_assert(mkdtemp(st->dir));
    snprintf(path, sizeof(path), "%s/directory", st->dir);
    cr_assert_eq(mkdir(path, 0700), 0);
    snprintf(text, sizeof(text), "hostname mx.example.test; state %s; listen a { protocol smtp; port 2525; tls none; }",
             st->dir);
    struct conf *c = conf_parse("/test.conf", span_of(text), 1, &errors);
    cr_assert(c, "%s", buf_cstr(&errors.text));
    cr_assert_eq(chan_pair(control, &err), 0);
    st->control = control[0];
    st->authd = exec_authd(control[1]);
    close(control[1]);
    cr_assert_eq(conf_send(c, ROLE_AUTHD, tell_setting, &st->control, &err), 0);
    pair_for(st, ROLE_MX, &st->mx);
    pair_for(st, ROLE_IMAPD, &st->imapd);
    tell(st->control, &(struct msg){.type = MSG_go, .go = {.uid = getuid(), .gid = getgid()}}, -1);
    hear(st->control, ROLE_AUTHD, MSG_ready);
    const struct conf *held = c;
    conf_unref(&held);
    conf_errors_free(&errors);
}

static void stage_close(struct stage *st)
{
    int status;
    char command[100];
    tell(st->control, &(struct msg){.type = MSG_drain, .drain.ms = 5000}, -1);
    cr_assert_eq(waitpid(st->authd, &status, 0), st->authd);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "authd ended with %x", (unsigned)status);
    close(st->control);
    close(st->mx);
    close(st->imapd);
    buf_free(&in);
    snprintf(command, sizeof(command), "rm -r %s", st->dir);
    cr_assert_eq(system(command), 0);
}

/* One operator's command; the exit status. */
static int admin(struct stage *st, const char *command, const char *const *args, size_t nargs)
{
    int fds[2];
    struct msg m;
    int got;
    cr_assert_eq(chan_pair(fds, &err), 0);
    tell(st->control, &(struct msg){.type = MSG_admin_peer, .admin_peer.uid = getuid()}, fds[1]);
    close(fds[1]);
    for (size_t i = 0; i < nargs; i++)
        tell(fds[0], &(struct msg){.type = MSG_adm_arg, .adm_arg.value = span_of(args[i])}, -1);
    tell(fds[0], &(struct msg){.type = MSG_adm_go, .adm_go.command = span_of(command)}, -1);
    do
        cr_assert_eq(chan_recv_now(fds[0], ROLE_AUTHD, &in, &m, &got, &err), 1, "%s", err.text);
    while (m.type != MSG_adm_end);
    close(fds[0]);
    return m.adm_end.status;
}

static struct msg_verdict verdict_of(struct stage *st, struct msg_rcpt_check q)
{
    tell(st->mx, &(struct msg){.type = MSG_rcpt_check, .id = 7, .rcpt_check = q}, -1);
    return hear(st->mx, ROLE_AUTHD, MSG_verdict).verdict;
}

static unsigned rcpt(struct stage *st, const char *address)
{
    return verdict_of(st, (struct msg_rcpt_check){.address = span_of(address)}).kind;
}

static unsigned login(struct stage *st, struct span initial)
{
    struct msg m = {.type = MSG_auth_begin, .id = 9};
    m.auth_begin =
        (struct msg_auth_begin){.session = 1, .mechanism = SPAN("PLAIN"), .has_initial = 1, .initial = initial};
    tell(st->imapd, &m, -1);
    return hear(st->imapd, ROLE_AUTHD, MSG_auth_result).auth_result.kind;
}

Test(authd_program, works_in_its_sandbox, .timeout = 120)
{
    struct stage st;
    stage_open(&st);
    cr_expect_eq(admin(&st, "domain add",
                       (const char *const[]){"b\xc3\xbc"
                                             "cher.test"},
                       1),
                 0);
    cr_expect_eq(admin(&st, "domain add", (const char *const[]){"example.test"}, 1), 0);
    cr_expect_eq(admin(&st, "domain add", (const char *const[]){"example.test"}, 1), 1);
    cr_expect_eq(admin(&st, "account add", (const char *const[]){"alice@example.test", "secret-1"}, 2), 0);
    cr_expect_eq(admin(&st, "account add", (const char *const[]){"x@missing.test", "secret-1"}, 2), 3);
    cr_expect_eq(admin(&st, "account add", (const char *const[]){"x@example.test", "short"}, 2), 2);
    cr_expect_eq(admin(&st, "alias add",
                       (const char *const[]){"a@b\xc3\xbc"
                                             "cher.test",
                                             "alice@example.test"},
                       2),
                 0);
    cr_expect_eq(admin(&st, "account list", NULL, 0), 0);
    cr_expect_eq(login(&st, SPAN("\0alice@example.test\0secret-1")), 2);
    cr_expect_eq(login(&st, SPAN("\0alice@example.test\0secret-2")), 5);
    cr_expect_eq(login(&st, SPAN("\0nobody@example.test\0secret-2")), 5);
    cr_expect_eq(rcpt(&st, "alice@example.test"), 2);
    cr_expect_eq(rcpt(&st, "a@xn--bcher-kva.test"), 2);
    cr_expect_eq(rcpt(&st, "nobody@example.test"), 5);
    cr_expect_eq(rcpt(&st, "x@elsewhere.test"), 5);
    stage_close(&st);
}

static bool keeps(struct stage *st, struct msg_rcpt_check q)
{
    return verdict_of(st, q).keep;
}

/* Something is there for smtpd already. */
static bool is_told(const struct stage *st)
{
    char c;
    return recv(st->mx, &c, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

Test(authd_program, what_may_be_kept_is_taken_back_before_the_operator_hears_of_the_change, .timeout = 120)
{
    static const struct msg_rcpt_check alice = {.address = SPAN("alice@example.test")}, list = {.address = SPAN("list@example.test")};
    struct stage st;
    stage_open(&st);
    cr_assert_eq(admin(&st, "domain add", (const char *const[]){"example.test"}, 1), 0);
    cr_assert_eq(admin(&st, "account add", (const char *const[]){"alice@example.test", "secret-1"}, 2), 0);
    cr_assert_eq(admin(&st, "alias add", (const char *const[]){"list@example.test", "alice@example.test"}, 2), 0);
    cr_assert(!is_told(&st), "nothing is kept yet");
    cr_assert(keeps(&st, alice) && keeps(&st, list));
    cr_assert(!keeps(&st, (struct msg_rcpt_check){.address = SPAN("nobody@example.test")}));
    cr_assert(!keeps(&st, (struct msg_rcpt_check){.address = alice.address, .session = 5}));
    cr_assert(!keeps(&st, (struct msg_rcpt_check){.address = alice.address, .terminal = 3}));

    cr_assert_eq(admin(&st, "alias remove", (const char *const[]){"list@example.test"}, 1), 0);
    cr_assert(is_told(&st));
    hear(st.mx, ROLE_AUTHD, MSG_rcpt_forget);
    cr_assert_eq(verdict_of(&st, list).kind, 5);
    cr_assert_eq(admin(&st, "account add", (const char *const[]){"bob@example.test", "secret-1"}, 2), 0);
    cr_assert(!is_told(&st), "once is enough");

    cr_assert(keeps(&st, alice));
    cr_assert_eq(admin(&st, "account quota", (const char *const[]){"bob@example.test", "1G"}, 2), 0);
    hear(st.mx, ROLE_AUTHD, MSG_rcpt_forget);
    cr_assert(!keeps(&st, alice), "with quotas it hangs on what mailboxes hold");
    cr_assert_eq(admin(&st, "account quota", (const char *const[]){"bob@example.test", "default"}, 2), 0);
    cr_assert(keeps(&st, alice));
    stage_close(&st);
}

/* Wrong password and unknown user take the same time: the medians of interleaved tries, within a wide margin for a busy
 * machine. */
static int by_size(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

Test(authd_program, unknown_user_and_wrong_password_take_the_same_time, .timeout = 240)
{
    struct stage st;
    int64_t wrong[21], unknown[21];
    stage_open(&st);
    cr_assert_eq(admin(&st, "domain add", (const char *const[]){"example.test"}, 1), 0);
    cr_assert_eq(admin(&st, "account add", (const char *const[]){"alice@example.test", "secret-1"}, 2), 0);
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        int64_t t = clock_mono();
        login(&st, SPAN("\0alice@example.test\0secret-2"));
        wrong[i] = clock_mono() - t;
        t = clock_mono();
        login(&st, SPAN("\0nobody@example.test\0secret-2"));
        unknown[i] = clock_mono() - t;
    }
    qsort(wrong, COUNT_OF(wrong), sizeof(*wrong), by_size);
    qsort(unknown, COUNT_OF(unknown), sizeof(*unknown), by_size);
    int64_t a = wrong[COUNT_OF(wrong) / 2], b = unknown[COUNT_OF(unknown) / 2];
    cr_log_info("wrong password %d ms, unknown user %d ms", (int)a, (int)b);
    cr_expect(b * 2 >= a && a * 2 >= b, "wrong password %d ms, unknown user %d ms", (int)a, (int)b);
    stage_close(&st);
}

Test(authd_program, rcpt_is_fast, .timeout = 120)
{
    enum { N = 20000, WINDOW = 50 };
    struct stage st;
    stage_open(&st);
    cr_assert_eq(admin(&st, "domain add", (const char *const[]){"example.test"}, 1), 0);
    cr_assert_eq(admin(&st, "account add", (const char *const[]){"alice@example.test", "secret-1"}, 2), 0);
    struct msg m = {.type = MSG_rcpt_check, .id = 7, .rcpt_check = {.address = SPAN("alice@example.test")}};
    int64_t t = clock_mono();
    for (int sent = 0, heard = 0; heard < N; heard++) {
        for (; sent < N && sent < heard + WINDOW; sent++)
            tell(st.mx, &m, -1);
        cr_assert_eq(hear(st.mx, ROLE_AUTHD, MSG_verdict).verdict.kind, 2);
    }
    t = clock_mono() - t;
    cr_log_info("%d checks in %d ms", N, (int)t);
    cr_expect_lt(t, 20000);
    stage_close(&st);
}
