#include <criterion/criterion.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/util.h"
#include "loop/loop.h"

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
