#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "net/listener.h"
#include "net_support.h"

static struct loop *l;
static struct listener *ln;
static int taken[200];
static size_t count, stop_at;
static struct sockaddr_storage last;

static void on_connection(void *ctx UNUSED, int fd, const struct sockaddr_storage *peer)
{
    taken[count++] = fd;
    last = *peer;
    if (count == stop_at)
        loop_stop(l);
}

static int listening(struct sockaddr_in *at)
{
    socklen_t n = sizeof *at;
    *at = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(fd, (struct sockaddr *)at, n), 0);
    cr_assert_eq(listen(fd, 128), 0);
    getsockname(fd, (struct sockaddr *)at, &n);
    return fd;
}

static int client(const struct sockaddr_in *at)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(connect(fd, (const struct sockaddr *)at, sizeof *at), 0);
    return fd;
}

Test(net_listener, takes_what_comes, .timeout = 30)
{
    struct sockaddr_in at;
    int ls = listening(&at), c[50];
    l = loop_new();
    ln = listener_new(l, ls, on_connection, NULL);
    for (size_t i = 0; i < 50; i++)
        c[i] = client(&at);
    stop_at = 50;
    run_for(l, 5000);
    cr_assert_eq(last.ss_family, AF_INET);
    for (size_t i = 0; i < 50; i++) {
        cr_assert(fcntl(taken[i], F_GETFL) & O_NONBLOCK);
        cr_assert(fcntl(taken[i], F_GETFD) & FD_CLOEXEC);
        close(taken[i]);
        close(c[i]);
    }
    listener_free(&ln);
    close(ls);
    loop_free(&l);
}

static void stop(void *ctx)
{
    loop_stop(ctx);
}

static void turn(int64_t ms)
{
    struct timer *t = timer_new(l, stop, l);
    timer_start(t, ms);
    loop_run(l);
    timer_free(&t);
}

Test(net_listener, paused_ones_leave_connections_waiting, .timeout = 30)
{
    struct sockaddr_in at;
    int ls = listening(&at);
    l = loop_new();
    ln = listener_new(l, ls, on_connection, NULL);
    listener_pause(ln);
    int c = client(&at);
    turn(50);
    cr_assert_eq(count, 0);
    listener_resume(ln);
    stop_at = 1;
    run_for(l, 5000);
    close(taken[0]);
    close(c);
    listener_free(&ln);
    close(ls);
    loop_free(&l);
}

static long cpu_us(const struct rusage *r)
{
    return (r->ru_utime.tv_sec + r->ru_stime.tv_sec) * 1000000 + r->ru_utime.tv_usec + r->ru_stime.tv_usec;
}

/* HAZARDS 10: out of descriptors, it rests instead of spinning, and serves again when there are some. */
Test(net_listener, out_of_descriptors, .timeout = 30)
{
    struct sockaddr_in at;
    int ls = listening(&at), c[3];
    l = loop_new();
    ln = listener_new(l, ls, on_connection, NULL);
    struct timer *t = timer_new(l, stop, l);
    for (size_t i = 0; i < 3; i++)
        c[i] = client(&at);
    int highest = dup(0);
    close(highest);
    struct rlimit was, none;
    getrlimit(RLIMIT_NOFILE, &was);
    none = was;
    none.rlim_cur = (rlim_t)highest;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    timer_start(t, 500);
    loop_run(l);
    getrusage(RUSAGE_SELF, &after);
    cr_assert_eq(count, 0);
    long spent = cpu_us(&after) - cpu_us(&before);
    cr_assert_lt(spent, 150000, "%ld µs of CPU in half a second of waiting", spent);
    char byte;
    cr_assert_eq(recv(c[0], &byte, 1, MSG_DONTWAIT), 0, "the first one in the queue was told by closing it");
    setrlimit(RLIMIT_NOFILE, &was);
    int again = client(&at);
    stop_at = count + 1;
    run_for(l, 5000);
    timer_free(&t);
    listener_free(&ln);
    close(again);
    loop_free(&l);
}

/* The last descriptors are for those who are inside. */
Test(net_listener, keeps_some_descriptors_for_who_is_inside, .timeout = 30)
{
    struct sockaddr_in at;
    int ls = listening(&at), c[100];
    struct rlimit was;
    getrlimit(RLIMIT_NOFILE, &was);
    l = loop_new();
    for (size_t i = 0; i < 100; i++)
        c[i] = client(&at);
    int highest = dup(0);
    close(highest);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &(struct rlimit){(rlim_t)highest + 70, was.rlim_max}), 0);
    ln = listener_new(l, ls, on_connection, NULL);
    turn(100);
    int spare[64];
    size_t n = 0;
    while (n < 64 && (spare[n] = dup(0)) >= 0)
        n++;
    size_t kept = ((size_t)highest + 70) / 4 < 64 ? ((size_t)highest + 70) / 4 : 64;
    cr_assert(count > 0 && n >= kept, "%zu came in, %zu are left of %zu", count, n, kept);
    while (n)
        close(spare[--n]);
    while (count)
        close(taken[--count]);
    listener_free(&ln);
    setrlimit(RLIMIT_NOFILE, &was);
    for (size_t i = 0; i < 100; i++)
        close(c[i]);
    close(ls);
    loop_free(&l);
}

static struct sockaddr_storage address(const char *text)
{
    struct sockaddr_storage a = {0};
    struct sockaddr_in *four = (struct sockaddr_in *)&a;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)&a;
    if (inet_pton(AF_INET, text, &four->sin_addr) == 1)
        a.ss_family = AF_INET;
    else if (inet_pton(AF_INET6, text, &six->sin6_addr) == 1)
        a.ss_family = AF_INET6;
    return a;
}

Test(net_listener, the_gate_counts_clients)
{
    struct gate g = {.max = 5, .max_each = 2};
    struct sockaddr_storage x = address("192.0.2.1"), y = address("192.0.2.2"), p = address("2001:db8:1:2::1");
    struct sockaddr_storage q = address("2001:db8:1:2:ffff::9"), r = address("2001:db8:1:3::1");
    cr_assert_eq(gate_enter(&g, &x), GATE_IN);
    cr_assert_eq(gate_enter(&g, &x), GATE_IN);
    cr_assert_eq(gate_enter(&g, &x), GATE_CLIENT_FULL);
    cr_assert_eq(gate_enter(&g, &p), GATE_IN);
    cr_assert_eq(gate_enter(&g, &q), GATE_IN);
    cr_assert_eq(gate_enter(&g, &p), GATE_CLIENT_FULL, "one /64 is one client");
    cr_assert_eq(gate_enter(&g, &r), GATE_IN);
    cr_assert_eq(gate_enter(&g, &y), GATE_FULL);
    gate_leave(&g, &x);
    cr_assert_eq(gate_enter(&g, &y), GATE_IN);
    cr_assert_eq(g.count, 5);
    gate_leave(&g, &x);
    gate_leave(&g, &x); /* once too often: no harm */
    gate_leave(&g, &y);
    gate_leave(&g, &p);
    gate_leave(&g, &q);
    gate_leave(&g, &r);
    cr_assert_eq(g.count, 0);
    gate_free(&g);
}
