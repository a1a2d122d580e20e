/* An IMAP session between a socket and the store: bytes read early, news while idling, a client that doesn't read, the
 * ends. And the pipe under it. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "mail/words.h"
#include "mda/imap_session.h"
#include "mda/pipe.h"

static struct loop *loop;
static struct store *account;
static struct err err;
static char dir[64];
static int client; /* our end */
static struct imap_session *session;
static bool ended;
static struct buf got;
static struct timer *tick;

static void on_ended(void *ctx, struct imap_session *s)
{
    (void)ctx;
    cr_assert(s == session);
    imap_session_free(&session);
    ended = true;
}

static void stop(void *ctx)
{
    loop_stop(ctx);
}

/* Lets the loop run for so long. */
static void turn(int64_t ms)
{
    timer_start(tick, ms);
    loop_run(loop);
}

static void read_some(void)
{
    ssize_t n;
    while ((n = recv(client, buf_room(&got, 65536), 65536, MSG_DONTWAIT)) > 0)
        got.n += (size_t)n;
}

/* Until that text has come. False: it didn't within two seconds. */
static bool comes(const char *text)
{
    for (int i = 0; i < 400; i++) {
        turn(5);
        read_some();
        if (span_search(buf_span(&got), span_of(text)) >= 0)
            return true;
    }
    return false;
}

static void tell(const char *text)
{
    cr_assert_eq(write(client, text, strlen(text)), (ssize_t)strlen(text));
}

static void set_up(void)
{
    snprintf(dir, sizeof dir, "/tmp/waypost-mda-imap-XXXXXX");
    cr_assert(mkdtemp(dir));
    struct store_options o = {.dir = dir, .boot_id = "boot", .wait_ms = 100, .now_ms = clock_wall()};
    cr_assert_eq(store_open(&account, &o, &err), 0, "%s", err.text);
    loop = loop_new();
    tick = timer_new(loop, stop, loop);
    ended = false;
}

static void start(const char *early, int64_t idle_ms)
{
    int fds[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    cr_assert_eq(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
    client = fds[1];
    struct imap_session_start s = {.loop = loop,
                                   .store = account,
                                   .fd = fds[0],
                                   .login = "a@b.test",
                                   .tag = SPAN("in"),
                                   .early = span_of(early),
                                   .message_max = 10000000,
                                   .idle_ms = idle_ms,
                                   .ended = on_ended};
    session = imap_session_new(&s);
    cr_assert(session);
}

static void tear_down(void)
{
    imap_session_free(&session);
    if (client > 0)
        close(client);
    timer_free(&tick);
    loop_free(&loop); /* aborts when something is left */
    store_close(&account, false);
    cr_assert_eq(store_purge(dir, &err), 0);
    cr_assert_eq(rmdir(dir), 0);
    buf_free(&got);
    words_cool();
}

TestSuite(mda_imap, .init = set_up, .fini = tear_down);

Test(mda_imap, what_was_read_early_is_served_first)
{
    start("b SELECT INBOX\r\nc NO", 60000);
    cr_assert(comes("b OK"));
    cr_expect(span_starts(buf_span(&got), SPAN("in OK [CAPABILITY IMAP4rev1")));
    tell("OP\r\n");
    cr_expect(comes("c OK"));
    tell("d LOGOUT\r\n");
    cr_expect(comes("d OK"));
    turn(20);
    cr_expect(ended);
}

Test(mda_imap, an_idling_client_hears_of_new_mail_at_once)
{
    start("b SELECT INBOX\r\nc IDLE\r\n", 60000);
    cr_assert(comes("+ Waiting"));
    struct store_mailbox box;
    struct store_new fresh = {.internaldate = 0};
    struct store_stage *g = store_stage_new(account);
    cr_assert_eq(store_find(account, SPAN("INBOX"), NULL, &box, &err), 0);
    store_stage_write(g, SPAN("Subject: x\r\n\r\ny\r\n"), &err);
    cr_assert_eq(store_append(account, box.id, &g, &fresh, NULL, NULL, &err), 0);
    int64_t t = clock_mono();
    cr_assert(comes("* 1 EXISTS\r\n* 1 RECENT\r\n"));
    cr_expect_lt(clock_mono() - t, 50);
    tell("DONE\r\n");
    cr_expect(comes("c OK"));
}

static void append_large(size_t n)
{
    struct buf all = {0};
    buf_printf(&all, "a APPEND INBOX {%zu+}\r\n", n);
    for (size_t i = 0; i < n; i++)
        buf_addc(&all, i % 70 == 69 ? '\n' : 'x');
    buf_adds(&all, "\r\n");
    for (size_t at = 0; at < all.n;) {
        ssize_t w = send(client, all.p + at, all.n - at, MSG_DONTWAIT);
        at += w > 0 ? (size_t)w : 0;
        turn(1);
    }
    buf_free(&all);
}

Test(mda_imap, a_client_that_does_not_read_costs_no_memory)
{
    start("", 60000);
    append_large(3000000);
    cr_assert(comes("a OK [APPENDUID"));
    tell("b SELECT INBOX\r\nc FETCH 1 BODY.PEEK[]\r\nd FETCH 1 BODY.PEEK[]\r\ne NOOP\r\n");
    turn(100); /* nobody reads: the session stops at its limits */
    size_t before = got.n;
    read_some();
    cr_expect_lt(got.n - before, 2u << 20);
    cr_expect(comes("\r\ne OK"));
    cr_expect_gt(got.n, 6000000u);
    cr_expect_geq(span_search(buf_span(&got), SPAN("c OK Fetched")), 0);
}

Test(mda_imap, the_end_of_the_service_is_told)
{
    start("b SELECT INBOX\r\n", 60000);
    cr_assert(comes("b OK"));
    imap_session_bye(session, "Shutting down");
    cr_expect(comes("* BYE Shutting down\r\n"));
    cr_expect(ended);
}

Test(mda_imap, a_silent_client_is_told_to_go) /* RFC3501:5.4 */
{
    start("", 30);
    cr_expect(comes("* BYE Autologout"));
    cr_expect(ended);
}

Test(mda_imap, a_client_that_goes)
{
    start("b IDLE\r\n", 60000);
    cr_assert(comes("+ Waiting"));
    close(client);
    client = -1;
    turn(50);
    cr_expect(ended);
}

/* What was asked before the client half-closed is still answered. */
Test(mda_imap, a_client_that_says_its_last_word)
{
    start("", 60000);
    tell("a NOOP\r\nb SELECT INBOX\r\n");
    shutdown(client, SHUT_WR);
    cr_expect(comes("b OK"));
    turn(20);
    cr_expect(ended);
}
