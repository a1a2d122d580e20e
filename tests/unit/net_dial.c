#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/util.h"
#include "net/dial.h"

struct result {
    struct loop *loop;
    int fd;
    size_t which;
    struct err why;
    bool called;
};

static void on_dialled(void *ctx, int fd, size_t which, const struct err *why)
{
    struct result *r = ctx;
    r->fd = fd;
    r->which = which;
    r->why = *why;
    r->called = true;
    loop_stop(r->loop);
}

static struct sockaddr_storage address_of(const char *text, uint16_t port)
{
    struct sockaddr_storage a;
    cr_assert(dial_address_parse(span_of(text), port, &a));
    return a;
}

/* A listening socket (or one that only holds its port) on that address; *port is given or filled. */
static int hold_port(const char *text, uint16_t *port, bool listening)
{
    struct sockaddr_storage a = address_of(text, *port);
    socklen_t n = sizeof(struct sockaddr_in);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(fd, (struct sockaddr *)&a, n), 0);
    cr_assert(!listening || listen(fd, 5) == 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    *port = ntohs(((struct sockaddr_in *)&a)->sin_port);
    return fd;
}

static void on_too_late(void *ctx)
{
    loop_stop(ctx);
}

static struct result dial(const struct sockaddr_storage *list, size_t n, const struct dial_options *o)
{
    struct result r = {.loop = loop_new(), .fd = -2};
    struct dial *d = dial_start(r.loop, list, n, o, on_dialled, &r);
    cr_assert(d);
    cr_assert_not(r.called, "never from inside dial_start()");
    struct timer *limit = timer_new(r.loop, on_too_late, r.loop);
    timer_start(limit, 30000);
    loop_run(r.loop);
    cr_assert(r.called);
    timer_free(&limit);
    loop_free(&r.loop);
    return r;
}

Test(net, dial_takes_the_first_that_answers)
{
    uint16_t good = 0, closed = 0;
    int listener = hold_port("127.3.0.1", &good, true), held = hold_port("127.3.0.2", &closed, false);
    struct sockaddr_storage list[] = {address_of("127.3.0.2", closed), address_of("127.3.0.1", good), address_of("127.3.0.1", good)};
    struct dial_options o = {0};
    struct result r = dial(list, COUNT_OF(list), &o);
    cr_assert_geq(r.fd, 0);
    cr_assert_eq(r.which, 1);
    cr_assert(fcntl(r.fd, F_GETFL) & O_NONBLOCK);
    cr_assert(fcntl(r.fd, F_GETFD) & FD_CLOEXEC);
    close(r.fd);
    close(listener);
    close(held);
}

Test(net, dial_says_why_none_answered)
{
    uint16_t closed = 0;
    int held = hold_port("127.3.1.2", &closed, false);
    struct sockaddr_storage list[] = {address_of("127.3.1.2", closed), address_of("127.3.1.2", closed)};
    struct dial_options o = {0};
    struct result r = dial(list, 2, &o);
    cr_assert_eq(r.fd, -1);
    cr_assert_eq(r.which, 1);
    cr_assert(strstr(r.why.text, "127.3.1.2") && strstr(r.why.text, "refused"), "%s", r.why.text);
    r = dial(list, 0, &o);
    cr_assert(r.fd == -1 && strstr(r.why.text, "no address"));
    close(held);
}

/* A listener whose queue is full answers no SYN: the address is given up after its time, the next one is taken. */
Test(net, dial_gives_an_address_its_time)
{
    uint16_t good = 0, full = 0;
    int listener = hold_port("127.3.2.1", &good, true), stuck = hold_port("127.3.2.2", &full, false);
    cr_assert_eq(listen(stuck, 0), 0);
    int fill[4];
    struct sockaddr_storage a = address_of("127.3.2.2", full);
    for (size_t i = 0; i < COUNT_OF(fill); i++) {
        fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        connect(fill[i], (struct sockaddr *)&a, sizeof(struct sockaddr_in));
    }
    struct sockaddr_storage list[] = {a, address_of("127.3.2.1", good)};
    struct dial_options o = {.each_ms = 200};
    struct result r = dial(list, 2, &o);
    cr_assert_geq(r.fd, 0);
    cr_assert_eq(r.which, 1);
    close(r.fd);
    for (size_t i = 0; i < COUNT_OF(fill); i++)
        close(fill[i]);
    close(listener);
    close(stuck);
}

Test(net, dial_uses_its_source_address)
{
    uint16_t good = 0;
    int listener = hold_port("127.3.3.1", &good, true);
    struct sockaddr_storage list[] = {address_of("127.3.3.1", good)}, source = address_of("127.3.3.9", 0), seen;
    struct dial_options o = {.source4 = (struct sockaddr_in *)&source};
    struct result r = dial(list, 1, &o);
    cr_assert_geq(r.fd, 0);
    socklen_t n = sizeof seen;
    int got = accept4(listener, (struct sockaddr *)&seen, &n, SOCK_CLOEXEC);
    char text[DIAL_TEXT_MAX];
    dial_address_text(&seen, text);
    cr_assert_str_eq(text, "127.3.3.9");
    close(got);
    close(r.fd);
    close(listener);
}

Test(net, dial_can_be_cancelled)
{
    struct sockaddr_storage list[] = {address_of("127.3.4.1", 9)};
    struct result r = {.loop = loop_new()};
    struct dial *d = dial_start(r.loop, list, 1, &(struct dial_options){0}, on_dialled, &r);
    dial_cancel(&d);
    cr_assert_null(d);
    loop_run(r.loop);
    cr_assert_not(r.called);
    loop_free(&r.loop);
}

Test(net, dial_addresses)
{
    static const char *const good[] = {"192.0.2.1", "2001:db8::1", "::1", "::ffff:192.0.2.1"};
    static const struct span bad[] = {{"", 0}, {"[::1]", 5}, {"1.2.3", 5}, {"192.0.2.1 ", 10}, {"192.0.2.1\0x", 11}, {"host.test", 9}, {"fe80::1%eth0", 12}};
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        char text[DIAL_TEXT_MAX];
        struct sockaddr_storage a = address_of(good[i], 25);
        dial_address_text(&a, text);
        cr_expect_str_eq(text, good[i]);
    }
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        cr_expect_not(dial_address_parse(bad[i], 25, &(struct sockaddr_storage){0}), "case %zu", i);
}
