#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/util.h"
#include "loop/loop.h"

/* What the loop asks of the kernel, counted: these stand before the C library's. */
static unsigned controls, waits;

int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
    controls++;
    return (int)syscall(SYS_epoll_ctl, epfd, op, fd, event);
}

int epoll_wait(int epfd, struct epoll_event *events, int max, int timeout)
{
    waits++;
    return (int)syscall(SYS_epoll_wait, epfd, events, max, timeout);
}

static char trace[64];
static size_t traced;

static void note(void *ctx)
{
    trace[traced++] = *(const char *)ctx;
}

Test(loop, virtual_timers_run_in_order_at_their_time)
{
    struct loop *l = loop_new_virtual(1000000);
    struct timer *a = timer_new(l, note, (void *)"a"), *b = timer_new(l, note, (void *)"b"), *c = timer_new(l, note, (void *)"c");
    timer_start(a, 500);
    timer_start(b, 100);
    timer_start(c, 500);
    loop_advance(l, 99);
    cr_assert_eq(traced, 0);
    loop_advance(l, 1);
    cr_assert_str_eq(trace, "b");
    cr_assert_eq(loop_wall(l), 1000100);
    timer_start(b, 1000); /* moved */
    timer_stop(c);
    loop_advance(l, 86400000);
    cr_assert_str_eq(trace, "bab");
    cr_assert_not(timer_running(a));
    timer_free(&a);
    timer_free(&b);
    timer_free(&c);
    loop_free(&l);
}

#define MANY 500
static struct timer *many[MANY];
static int64_t due[MANY], last_fired;
static size_t fired, order_of[MANY];

static void note_order(void *ctx)
{
    size_t i = (size_t)((struct timer **)ctx - many);
    cr_assert_geq(due[i], last_fired);
    last_fired = due[i];
    order_of[i] = ++fired;
}

/* Whatever was stopped, moved and freed before, each fires at its time, and those of one time in the order they were started in. */
Test(loop, many_timers_in_their_order)
{
    struct loop *l = loop_new_virtual(0);
    int64_t from = loop_now(l);
    size_t gone = 0;
    srand(7);
    for (size_t i = 0; i < MANY; i++) {
        many[i] = timer_new(l, note_order, &many[i]);
        timer_start(many[i], rand() % 50);
    }
    for (size_t i = 0; i < MANY; i++) {
        due[i] = rand() % 50;
        if (i % 7 == 0)
            timer_stop(many[i]);
        else if (i % 11 == 0)
            timer_free(&many[i]);
        else
            timer_start(many[i], due[i]);
        gone += i % 7 == 0 || i % 11 == 0;
    }
    loop_advance(l, 100);
    cr_assert_eq(loop_now(l), from + 100);
    cr_assert_eq(fired, MANY - gone);
    for (size_t i = 0; i < MANY; i++)
        for (size_t k = i + 1; k < MANY; k++)
            cr_assert(!order_of[i] || !order_of[k] || due[i] != due[k] || order_of[i] < order_of[k]);
    for (size_t i = 0; i < MANY; i++)
        timer_free(&many[i]);
    loop_free(&l);
}

struct chain {
    struct loop *loop;
    struct defer d;
    int left;
};

static void again(void *ctx)
{
    struct chain *c = ctx;
    if (--c->left > 0)
        loop_defer(c->loop, &c->d);
    else
        loop_stop(c->loop);
}

Test(loop, deferred_calls_run_before_the_loop_waits)
{
    struct loop *l = loop_new();
    struct chain c = {.loop = l, .left = 3};
    c.d = (struct defer){.fn = again, .ctx = &c};
    struct timer *t = timer_new(l, note, (void *)"x");
    timer_start(t, 60000);
    loop_defer(l, &c.d);
    loop_defer(l, &c.d);
    loop_run(l);
    cr_assert_eq(c.left, 0);
    timer_free(&t);
    loop_free(&l);
}

struct pipe_end {
    struct loop *loop;
    struct io *io;
    int fd;
    char got;
};

static void on_readable(void *ctx, unsigned events UNUSED)
{
    struct pipe_end *p = ctx;
    cr_assert_eq(read(p->fd, &p->got, 1), 1);
    io_free(&p->io);
    close(p->fd);
}

static int doubled;

static void in_thread(void *ctx)
{
    doubled = 2 * *(int *)ctx;
}

static void after_thread(void *ctx)
{
    cr_assert_eq(doubled, 2 * *(int *)ctx);
    doubled = -1;
}

Test(loop, descriptors_and_pool_work)
{
    struct loop *l = loop_new();
    struct pipe_end p = {.loop = l};
    int fds[2], number = 21;
    cr_assert_eq(pipe(fds), 0);
    p.fd = fds[0];
    p.io = io_new(l, fds[0], on_readable, &p);
    io_want(p.io, IO_READ);
    cr_assert_eq(write(fds[1], "z", 1), 1);
    loop_work(l, in_thread, after_thread, &number);
    loop_run(l); /* ends when nothing is left to wait for */
    cr_assert(p.got == 'z' && doubled == -1);
    close(fds[1]);
    loop_free(&l);
}

struct eager {
    struct loop *loop;
    struct timer *timer;
    int left;
    bool read;
};

static void start_again(void *ctx)
{
    struct eager *e = ctx;
    if (e->left-- > 0 && !e->read)
        timer_start(e->timer, 0);
}

static void note_read(void *ctx, unsigned events UNUSED)
{
    struct eager *e = ctx;
    e->read = true;
    loop_stop(e->loop);
}

Test(loop, a_timer_that_starts_itself_at_once_lets_others_go_first)
{
    struct eager e = {.loop = loop_new(), .left = 1000000};
    int fds[2];
    cr_assert_eq(pipe(fds), 0);
    cr_assert_eq(write(fds[1], "x", 1), 1);
    struct io *io = io_new(e.loop, fds[0], note_read, &e);
    e.timer = timer_new(e.loop, start_again, &e);
    io_want(io, IO_READ);
    timer_start(e.timer, 0);
    loop_run(e.loop);
    cr_assert(e.read && e.left > 0);
    timer_free(&e.timer);
    io_free(&io);
    close(fds[0]);
    close(fds[1]);
    loop_free(&e.loop);
}

/* ---- what the kernel is asked for ---- */

struct side {
    struct loop *loop;
    struct io *io, *other; /* other: freed in the call */
    struct defer later;
    int fd;
    unsigned calls, events;
};

static void start_reading(void *ctx)
{
    struct side *s = ctx;
    io_want(s->io, IO_READ);
}

/* As a session does: not to be disturbed while it works, an answer that is about to leave, then the next command. */
static void command(void *ctx, unsigned events UNUSED)
{
    struct side *s = ctx;
    char c;
    cr_assert_eq(read(s->fd, &c, 1), 1);
    io_want(s->io, 0);
    io_want(s->io, IO_READ | IO_WRITE);
    s->later = (struct defer){.fn = start_reading, .ctx = s};
    loop_defer(s->loop, &s->later);
    s->calls++;
}

Test(loop, what_changes_and_changes_back_costs_nothing)
{
    struct side s = {.loop = loop_new_stepped(0)};
    int fds[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    loop_turn(s.loop, 0);
    unsigned before = controls;
    s.fd = fds[0];
    s.io = io_new(s.loop, s.fd, command, &s);
    io_want(s.io, IO_READ);
    for (unsigned i = 1; i <= 20; i++) {
        cr_assert_eq(write(fds[1], "x", 1), 1);
        while (s.calls < i)
            loop_turn(s.loop, 1000);
    }
    io_free(&s.io);
    cr_assert_eq(controls - before, 2u, "%u", controls - before);
    close(fds[0]);
    close(fds[1]);
    loop_free(&s.loop);
}

/* ---- the log ---- */

struct speaker {
    struct loop *loop;
    struct defer later;
    int log;
    ssize_t at_end_of_turn, in_next;
};

static void look_at_log(void *ctx)
{
    struct speaker *s = ctx;
    char seen[1000];
    s->at_end_of_turn = recv(s->log, seen, sizeof seen, MSG_PEEK | MSG_DONTWAIT);
    LOGI("three");
}

static void say_something(void *ctx)
{
    struct speaker *s = ctx;
    s->later = (struct defer){.fn = look_at_log, .ctx = s};
    LOGI("one");
    LOGI("two");
    loop_defer(s->loop, &s->later);
}

static void look_again(void *ctx)
{
    struct speaker *s = ctx;
    char seen[1000] = "";
    s->in_next = recv(s->log, seen, sizeof seen - 1, MSG_DONTWAIT);
    char *at = strstr(seen, " one\n");
    cr_assert(at && (at = strstr(at, " two\n")) && strstr(at, " three\n"), "%s", seen);
    LOGI("four");
    loop_stop(s->loop);
}

/* What is said in a turn is in the log before the loop waits, in one write, behind what the turn has to send; afterwards lines leave at once. */
Test(loop, lines_of_a_turn_leave_at_its_end)
{
    struct speaker s = {.loop = loop_new()};
    char seen[1000];
    int ends[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
    log_open("test", ends[1], LOG_TO_STDERR);
    s.log = ends[0];
    struct timer *first = timer_new(s.loop, say_something, &s), *second = timer_new(s.loop, look_again, &s);
    timer_start(first, 0);
    timer_start(second, 5);
    loop_run(s.loop);
    cr_assert_eq(s.at_end_of_turn, -1);
    cr_assert_gt(s.in_next, 0);
    cr_assert_gt(recv(ends[0], seen, sizeof seen, MSG_DONTWAIT), 0);
    LOGI("five");
    cr_assert_gt(recv(ends[0], seen, sizeof seen, MSG_DONTWAIT), 0);
    log_open("test", 2, LOG_TO_STDERR);
    timer_free(&first);
    timer_free(&second);
    loop_free(&s.loop);
    close(ends[0]);
    close(ends[1]);
}

/* ---- what nobody wants ---- */

static void count_events(void *ctx, unsigned events)
{
    struct side *s = ctx;
    s->calls++;
    s->events |= events;
    if (s->other)
        io_free(&s->other);
}

static void stop_now(void *ctx)
{
    loop_stop(ctx);
}

/* Runs the loop until a timer of that many ms; how often it waited. */
static unsigned waits_in(struct loop *l, int64_t ms)
{
    struct timer *t = timer_new(l, stop_now, l);
    timer_start(t, ms);
    unsigned before = waits;
    loop_run(l);
    timer_free(&t);
    return waits - before;
}

/* A peer that goes on sending while nobody reads, and one that is gone, are reported once at most; then the loop sleeps. What came is told
 * when it is wanted. */
Test(loop, nothing_spins_for_what_nobody_wants)
{
    struct side s = {.loop = loop_new()};
    struct io *gone;
    int fds[2], ended[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ended), 0);
    s.io = io_new(s.loop, fds[0], count_events, &s);
    gone = io_new(s.loop, ended[0], count_events, &s);
    io_want(s.io, IO_READ);
    io_want(gone, IO_READ | IO_WRITE);
    io_want(s.io, 0);
    io_want(gone, 0);
    while (write(fds[1], "flood", 5) > 0) {
    }
    close(ended[1]);
    unsigned n = waits_in(s.loop, 100);
    cr_assert_leq(n, 5u, "%u", n);
    cr_assert_eq(s.calls, 0u);
    io_want(s.io, IO_WRITE); /* reading stays off */
    while (write(fds[0], "answer", 6) > 0) {
    }
    n = waits_in(s.loop, 100);
    cr_assert_leq(n, 5u, "%u", n);
    cr_assert_eq(s.calls, 0u);
    io_want(s.io, IO_READ);
    io_want(gone, IO_READ);
    waits_in(s.loop, 10);
    cr_assert_geq(s.calls, 2u);
    cr_assert_eq(s.events, (unsigned)IO_READ);
    io_free(&s.io);
    io_free(&gone);
    for (int i = 0; i < 2; i++)
        close(fds[i]);
    close(ended[0]);
    loop_free(&s.loop);
}

/* Both are ready in the same turn, and whoever comes first frees the other. */
Test(loop, one_that_was_freed_meanwhile_hears_nothing)
{
    struct side a = {.loop = loop_new_stepped(0)}, b = {.loop = a.loop};
    int fds[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    a.io = b.other = io_new(a.loop, fds[0], count_events, &a);
    b.io = a.other = io_new(a.loop, fds[1], count_events, &b);
    io_want(a.io, IO_WRITE);
    io_want(b.io, IO_WRITE);
    cr_assert(loop_turn(a.loop, 1000));
    cr_assert_eq(a.calls + b.calls, 1u);
    if (a.calls)
        io_free(&a.io);
    else
        io_free(&b.io);
    close(fds[0]);
    close(fds[1]);
    loop_free(&a.loop);
}

Test(loop, a_file_is_not_watched)
{
    struct loop *l = loop_new();
    FILE *f = tmpfile();
    cr_assert_null(io_new(l, fileno(f), count_events, NULL));
    fclose(f);
    loop_free(&l);
}

struct ringer {
    struct wake *wake;
    unsigned calls;
};

static void ring_again(void *ctx)
{
    struct ringer *r = ctx;
    r->calls++;
    wake_up(r->wake);
}

/* Others have their turn between. */
Test(loop, a_wake_that_wakes_itself_is_called_once_a_turn)
{
    struct loop *l = loop_new_stepped(0);
    struct ringer r = {.wake = wake_new(l, ring_again, &r)};
    wake_up(r.wake);
    wake_up(r.wake);
    for (unsigned i = 1; i <= 3; i++) {
        cr_assert(loop_turn(l, 0));
        cr_assert_eq(r.calls, i);
    }
    wake_free(&r.wake);
    loop_free(&l);
}

/* ---- a stepped loop ---- */

struct stepped {
    struct wake *wake;
    unsigned fired, woken, worked;
};

static void stepped_fired(void *ctx)
{
    ((struct stepped *)ctx)->fired++;
}

static void stepped_woken(void *ctx)
{
    ((struct stepped *)ctx)->woken++;
}

static void stepped_run(void *ctx)
{
    wake_up(((struct stepped *)ctx)->wake);
}

static void stepped_done(void *ctx)
{
    ((struct stepped *)ctx)->worked++;
}

/* Threads work and wake it while its clock stands; only the test moves that. */
Test(loop, stepped)
{
    struct loop *l = loop_new_stepped(1000);
    struct stepped s = {0};
    struct timer *soon = timer_new(l, stepped_fired, &s), *late = timer_new(l, stepped_fired, &s);
    int64_t ms = 100;
    s.wake = wake_new(l, stepped_woken, &s);
    timer_start(soon, 10);
    timer_start(late, 1000);
    cr_assert_not(loop_turn(l, 0), "nothing has come");
    loop_work(l, stepped_run, stepped_done, &s);
    cr_assert_eq(loop_works(l), 1u);
    while (!s.worked || !s.woken)
        loop_turn(l, 10);
    cr_assert_eq(loop_works(l), 0u);
    cr_assert_eq(s.fired, 0u);
    cr_assert_eq(loop_wall(l), 1000);
    cr_assert(loop_advance_step(l, &ms));
    cr_assert_eq(s.fired, 1u);
    cr_assert_eq(ms, 90);
    cr_assert_eq(loop_wall(l), 1010);
    cr_assert_not(loop_advance_step(l, &ms), "the other one is not due");
    cr_assert_eq(loop_wall(l), 1100);
    cr_assert_eq(s.fired, 1u);
    timer_free(&soon);
    timer_free(&late);
    wake_free(&s.wake);
    loop_free(&l);
}

/* The time between two turns may be longer than the second one is to last. */
Test(loop, a_turn_ends_however_late_it_begins, .timeout = 60)
{
    struct loop *l = loop_new_stepped(1000);
    struct stepped s = {0};
    s.wake = wake_new(l, stepped_woken, &s); /* something to wait for */
    loop_turn(l, 0);
    for (int64_t from = clock_mono(); clock_mono() < from + 5;) {
    }
    cr_assert_not(loop_turn(l, 1), "nothing has come");
    wake_free(&s.wake);
    loop_free(&l);
}
