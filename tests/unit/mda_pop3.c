/* mda/pop3_session over a real store and a socket pair. RFC 1939 */
#include <criterion/criterion.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "mda/pop3_session.h"

static char dir[] = "/tmp/mda-pop3-XXXXXX";
static struct loop *l;
static struct store *st;
static uint64_t inbox;

struct client {
    int fd;
    struct pop3_session *s;
    bool ended;
    struct buf got;
};

static void append(struct span bytes)
{
    struct err err;
    struct store_stage *g = store_stage_new(st);
    struct store_new m = {.internaldate = 1000};
    cr_assert_eq(store_stage_write(g, bytes, &err), STORE_OK);
    cr_assert_eq(store_append(st, inbox, &g, &m, NULL, NULL, &err), STORE_OK, "%s", err.text);
}

static uint32_t messages(void)
{
    struct store_mailbox m;
    struct err err;
    cr_assert_eq(store_status(st, inbox, NULL, &m, &err), STORE_OK);
    return m.messages;
}

static void setup(void)
{
    struct err err;
    struct store_mailbox m;
    cr_assert(mkdtemp(dir));
    struct store_options o = {.dir = dir, .boot_id = "boot", .now_ms = 1000000};
    cr_assert_eq(store_open(&st, &o, &err), STORE_OK, "%s", err.text);
    cr_assert_eq(store_find(st, SPAN("INBOX"), NULL, &m, &err), STORE_OK);
    inbox = m.id;
    l = loop_new();
    append(SPAN("Subject: one\r\n\r\nfirst\r\n"));
    append(SPAN("Subject: two\r\n\r\n.second\r\n"));
}

static void teardown(void)
{
    struct err err;
    loop_free(&l);
    store_close(&st, true);
    cr_assert_eq(store_purge(dir, &err), 0, "%s", err.text);
    rmdir(dir);
}

static void on_ended(void *ctx, struct pop3_session *s UNUSED)
{
    ((struct client *)ctx)->ended = true;
}

static void begin(struct client *c, const char *early)
{
    int fd[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
    struct pop3_session_start o = {.loop = l, .store = st, .fd = fd[0], .login = "alice@example.test",
                                   .remote = SPAN("192.0.2.1"),
                                   .early = span_of(early), .idle_ms = 600000, .ended = on_ended, .ctx = c};
    *c = (struct client){.fd = fd[1]};
    c->s = pop3_session_new(&o);
    cr_assert(c->s);
}

static void stop(void *ctx)
{
    loop_stop(ctx);
}

static void turn(void)
{
    struct timer *t = timer_new(l, stop, l);
    timer_start(t, 5);
    loop_run(l);
    timer_free(&t);
}

static void read_some(struct client *c)
{
    char some[65536];
    ssize_t n;
    while ((n = recv(c->fd, some, sizeof some, MSG_DONTWAIT)) > 0)
        buf_add(&c->got, span_make(some, (size_t)n));
}

static void tell(struct client *c, const char *text)
{
    cr_assert_eq(send(c->fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

static void expect(struct client *c, const char *text)
{
    for (int i = 0; i < 400 && span_search(buf_span(&c->got), span_of(text)) < 0; i++) {
        turn();
        read_some(c);
    }
    ptrdiff_t at = span_search(buf_span(&c->got), span_of(text));
    cr_assert(at >= 0, "wanted %s, have %.*s", text, SPANV(buf_span(&c->got)));
    buf_drop(&c->got, (size_t)at + strlen(text));
}

static void end(struct client *c)
{
    for (int i = 0; i < 400 && !c->ended; i++)
        turn();
    cr_assert(c->ended);
    pop3_session_free(&c->s);
    close(c->fd);
    buf_free(&c->got);
}

Test(mda_pop3, reads_and_removes, .init = setup, .fini = teardown, .timeout = 60)
{
    struct client c;
    begin(&c, "");
    expect(&c, "+OK 2 messages");
    tell(&c, "LIST\r\nRETR 2\r\n");
    expect(&c, "+OK\r\n1 23\r\n2 25\r\n.\r\n");
    expect(&c, "+OK 25 octets\r\nSubject: two\r\n\r\n..second\r\n.\r\n");
    append(SPAN("Subject: new\r\n\r\n")); /* not in this session's list */
    tell(&c, "DELE 1\r\nSTAT\r\nQUIT\r\n");
    expect(&c, "+OK 1 25\r\n+OK bye\r\n");
    end(&c);
    cr_assert_eq(messages(), 2);
    begin(&c, "UIDL\r\n"); /* what the front had read already */
    expect(&c, "+OK 2 messages");
    expect(&c, "+OK\r\n1 ");
    expect(&c, ".2\r\n2 ");
    expect(&c, ".3\r\n.\r\n");
    close(c.fd);
    c.fd = dup(0);
    end(&c);
}

/* RFC1939:6: no QUIT, no deletion. */
Test(mda_pop3, a_lost_client_removes_nothing, .init = setup, .fini = teardown, .timeout = 60)
{
    struct client c;
    begin(&c, "DELE 1\r\nDELE 2\r\n");
    expect(&c, "+OK message 2");
    shutdown(c.fd, SHUT_WR);
    end(&c);
    cr_assert_eq(messages(), 2);
}

/* RFC1939:4, RFC2449:8.1.1 */
Test(mda_pop3, one_session_at_a_time, .init = setup, .fini = teardown, .timeout = 60)
{
    struct client a, b;
    begin(&a, "");
    expect(&a, "+OK");
    begin(&b, "STAT\r\n");
    expect(&b, "-ERR [IN-USE]");
    end(&b);
    pop3_session_bye(a.s, "the server is stopping");
    expect(&a, "-ERR [SYS/TEMP] the server is stopping\r\n");
    end(&a);
    begin(&b, "QUIT\r\n");
    expect(&b, "+OK bye\r\n");
    end(&b);
}

/* A large message to a client that reads late, and commands behind it. */
Test(mda_pop3, large_contents_and_slow_readers, .init = setup, .fini = teardown, .timeout = 60)
{
    enum { BIG = 3 << 20 };
    struct client c;
    char *p = mem_alloc(BIG);
    memset(p, 'x', BIG);
    for (size_t i = 99; i < BIG; i += 100)
        memcpy(p + i - 1, "\r\n", 2);
    memcpy(p + BIG - 2, "\r\n", 2);
    append(span_make(p, BIG));
    begin(&c, "RETR 3\r\nSTAT\r\n");
    for (int i = 0; i < 20; i++)
        turn(); /* nobody reads */
    struct buf many = {0};
    for (int i = 0; i < 3000; i++)
        buf_adds(&many, "NOOP\r\n");
    buf_adds(&many, "QUIT\r\n");
    size_t sent = 0;
    expect(&c, "+OK 3145728 octets\r\nxxx");
    while (sent < many.n) {
        ssize_t n = send(c.fd, many.p + sent, many.n - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        sent += n > 0 ? (size_t)n : 0;
        turn();
        read_some(&c);
    }
    expect(&c, "\r\n.\r\n+OK 3 ");
    expect(&c, "+OK bye\r\n");
    end(&c);
    buf_free(&many);
    mem_free(&p);
}
