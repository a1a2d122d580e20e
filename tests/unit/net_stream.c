#include <criterion/criterion.h>
#include <fcntl.h>
#include <malloc.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"
#include "net_support.h"

static struct loop *l;
static struct end a, b;

/* Stands before the C library's. */
static unsigned loop_waits;

int epoll_wait(int epfd, struct epoll_event *events, int max, int timeout)
{
    loop_waits++;
    return (int)syscall(SYS_epoll_wait, epfd, events, max, timeout);
}

static void stop_now(void *ctx)
{
    loop_stop(ctx);
}

static void turns_for(struct loop *lo, int64_t ms)
{
    struct timer *t = timer_new(lo, stop_now, lo);
    timer_start(t, ms);
    loop_run(lo);
    timer_free(&t);
}

static void setup(void)
{
    l = loop_new();
    ends_make(l, &a, &b);
}

static void teardown(void)
{
    end_free(&a);
    end_free(&b);
    loop_free(&l);
}

TestSuite(net, .timeout = 60);

static char *pattern(size_t n)
{
    char *p = mem_alloc(n);
    for (size_t i = 0; i < n; i++)
        p[i] = (char)((i * 7 + i / 251) & 0xff);
    return p;
}

Test(net, bytes_arrive_as_sent, .init = setup, .fini = teardown)
{
    b.stop_at = 11;
    stream_write(a.s, SPAN("hello"));
    stream_write(a.s, SPAN("\0world"));
    cr_assert_eq(stream_pending(a.s), 11);
    run_for(l, 5000);
    cr_assert(span_eq(buf_span(&b.got), SPAN("hello\0world")));
    cr_assert_eq(b.calls, 1, "what was written in one turn leaves in one call");
    cr_assert_eq(stream_pending(a.s), 0);
    cr_assert_str_eq(stream_remote(a.s), "local");
}

Test(net, unused_input_comes_again_with_more, .init = setup, .fini = teardown)
{
    b.take = 3;
    b.stop_at = 10;
    stream_write(a.s, SPAN("0123456789"));
    run_for(l, 5000);
    cr_assert(span_eq(buf_span(&b.got), SPAN("0123456789")));
    cr_assert_eq(b.calls, 4);
}

/* Uses whole lines only. */
static size_t whole_lines(struct end *e, struct span in)
{
    ptrdiff_t end = span_find(in, '\n');
    if (end < 0)
        return 0;
    buf_add(&e->got, span_sub(in, 0, (size_t)end + 1));
    if (e->got.n >= e->stop_at)
        loop_stop(e->loop);
    return (size_t)end + 1;
}

static void drip(void *ctx)
{
    static const char text[] = "one\ntwo\nthree\n";
    static size_t at;
    void **p = ctx;
    if (at == sizeof text - 1)
        return;
    stream_write(a.s, span_make(text + at++, 1));
    timer_start(*p, 1);
}

Test(net, byte_by_byte, .init = setup, .fini = teardown)
{
    struct timer *t = NULL;
    t = timer_new(l, drip, &t);
    timer_start(t, 0);
    b.on_data = whole_lines;
    b.stop_at = 14;
    run_for(l, 5000);
    cr_assert(span_eq(buf_span(&b.got), SPAN("one\ntwo\nthree\n")));
    timer_free(&t);
}

static size_t use_nothing(struct end *e UNUSED, struct span in UNUSED)
{
    return 0;
}

Test(net, input_without_use_is_bounded, .init = setup, .fini = teardown)
{
    char *p = pattern(STREAM_IN_MAX + 5000);
    b.on_data = use_nothing;
    b.stop_on = "X";
    stream_write(a.s, span_make(p, STREAM_IN_MAX + 5000));
    run_for(l, 5000);
    cr_assert_str_eq(b.events, "X");
    cr_assert(strlen(stream_error(b.s)) > 0);
    mem_free(&p);
}

static void refill(struct end *e, enum stream_event ev)
{
    if (ev == STREAM_DRAINED)
        loop_stop(e->loop);
}

Test(net, back_pressure_both_ways, .init = setup, .fini = teardown)
{
    enum { BIG = 4 << 20 };
    char *p = pattern(BIG);
    stream_pause(b.s);
    a.on_event = refill;
    size_t sent = 0;
    bool full = false;
    while (!full && sent < BIG) {
        full = !stream_write(a.s, span_make(p + sent, 10000));
        sent += 10000;
    }
    cr_assert(full);
    cr_assert_lt(sent, STREAM_OUT_HIGH + 20000);
    stream_resume(b.s);
    run_for(l, 5000); /* until a is drained */
    cr_assert_str_eq(a.events, "D");
    a.on_event = NULL;
    b.stop_at = BIG;
    stream_write(a.s, span_make(p + sent, BIG - sent));
    run_for(l, 10000);
    cr_assert(span_eq(buf_span(&b.got), span_make(p, BIG)));
    mem_free(&p);
}

Test(net, half_close_lets_the_other_side_finish, .init = setup, .fini = teardown)
{
    b.stop_on = "E";
    stream_write(a.s, SPAN("last words"));
    stream_shutdown_write(a.s);
    run_for(l, 5000);
    cr_assert(span_eq(buf_span(&b.got), SPAN("last words")));
    a.stop_at = 6;
    stream_write(b.s, SPAN("answer"));
    run_for(l, 5000);
    cr_assert(span_eq(buf_span(&a.got), SPAN("answer")));
    cr_assert_str_eq(b.events, "E");
}

Test(net, finish_sends_then_tells, .init = setup, .fini = teardown)
{
    char *p = pattern(200000);
    a.stop_on = "F";
    b.stop_on = "";
    stream_write(a.s, span_make(p, 200000));
    stream_finish(a.s);
    run_for(l, 5000);
    stream_free(&a.s);
    b.stop_on = "E";
    run_for(l, 5000);
    cr_assert_eq(b.got.n, 200000);
    mem_free(&p);
}

/* A connection over TCP: the stream's end is *s, the client's is returned. */
static int tcp_pair(int *s)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof at;
    int ls = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert_eq(bind(ls, (struct sockaddr *)&at, n), 0);
    cr_assert_eq(listen(ls, 1), 0);
    getsockname(ls, (struct sockaddr *)&at, &n);
    cr_assert_eq(connect(c, (struct sockaddr *)&at, n), 0);
    *s = accept4(ls, NULL, NULL, SOCK_NONBLOCK);
    close(ls);
    return c;
}

Test(net, a_talking_peer_still_gets_the_last_words)
{
    /* Over TCP: closing with unread input would reset the connection and lose the reply. */
    int s, c = tcp_pair(&s);
    char junk[3000] = "x";
    cr_assert_eq(send(c, junk, sizeof junk, 0), (ssize_t)sizeof junk);
    struct loop *lo = loop_new();
    struct end e = {.loop = lo, .stop_on = "F"};
    e.s = stream_new(lo, s, &end_ops, &e);
    cr_assert_str_eq(stream_remote(e.s), "127.0.0.1");
    cr_assert_neq(stream_remote_port(e.s), 0);
    cr_assert_str_eq(stream_local(e.s), "127.0.0.1");
    stream_pause(e.s);
    stream_write(e.s, SPAN("go away\r\n"));
    stream_finish(e.s);
    run_for(lo, 10000);
    end_free(&e);
    char got[100];
    cr_assert_eq(recv(c, got, sizeof got, 0), 9);
    close(c);
    loop_free(&lo);
}

/* Whoever sends on and on while nobody reads fills the kernel's buffers, and no memory of ours; and wakes us once at most for each pause. */
Test(net, a_peer_that_floods_a_paused_stream_is_left_alone)
{
    int s, c = tcp_pair(&s);
    char *p = pattern(100000);
    size_t sent = 0;
    ssize_t n;
    struct loop *lo = loop_new();
    struct end e = {.loop = lo, .stop_on = ""};
    e.s = stream_new(lo, s, &end_ops, &e);
    stream_pause(e.s);
    unsigned before = loop_waits;
    for (int i = 0; i < 5; i++) {
        while ((n = send(c, p, 100000, MSG_DONTWAIT)) > 0)
            sent += (size_t)n;
        turns_for(lo, 20);
    }
    cr_assert_leq(loop_waits - before, 5u * 3, "%u", loop_waits - before);
    cr_assert_eq(e.got.n, 0u);
    cr_assert_eq(e.calls, 0u);
    e.stop_at = sent;
    stream_resume(e.s);
    run_for(lo, 20000);
    cr_assert_eq(e.got.n, sent);
    end_free(&e);
    close(c);
    mem_free(&p);
    loop_free(&lo);
}

Test(net, timeouts_restart_at_input, .init = setup, .fini = teardown)
{
    struct timer *t = NULL;
    int64_t began = loop_now(l);
    t = timer_new(l, drip, &t); /* fourteen bytes, 1 ms between them */
    timer_start(t, 30);
    b.stop_on = "T";
    stream_timeout(b.s, 60);
    run_for(l, 5000);
    cr_assert_geq(loop_now(l) - began, 90);
    cr_assert_str_eq(b.events, "T");
    b.event_count = 0;
    stream_timeout(b.s, 5000);
    stream_timeout(b.s, 20); /* sooner than the one that runs */
    run_for(l, 1000);
    timer_free(&t);
}

static size_t free_yourself(struct end *e, struct span in)
{
    stream_free(&e->s);
    loop_stop(e->loop);
    return in.n;
}

Test(net, freed_inside_its_own_callback, .init = setup, .fini = teardown)
{
    b.on_data = free_yourself;
    stream_write(a.s, SPAN("x"));
    run_for(l, 5000);
    a.stop_on = "EX";
    run_for(l, 5000);
}

static void free_on_event(struct end *e, enum stream_event ev UNUSED)
{
    stream_free(&e->s);
    loop_stop(e->loop);
}

Test(net, freed_inside_an_event, .init = setup, .fini = teardown)
{
    b.on_event = free_on_event;
    stream_free(&a.s);
    run_for(l, 5000);
    cr_assert_str_eq(b.events, "E");
}

static size_t two_then_pause(struct end *e, struct span in)
{
    cr_assert_geq(in.n, 2);
    buf_add(&e->got, span_sub(in, 0, 2));
    stream_pause(e->s);
    loop_stop(e->loop);
    return 2;
}

Test(net, pause_holds_the_rest_back, .init = setup, .fini = teardown)
{
    b.on_data = two_then_pause;
    stream_write(a.s, SPAN("abcdef"));
    run_for(l, 5000);
    cr_assert(span_eq(buf_span(&b.got), SPAN("ab")));
    stream_resume(b.s);
    run_for(l, 5000);
    cr_assert(span_eq(buf_span(&b.got), SPAN("abcd")));
    b.on_data = NULL;
    b.stop_at = 6;
    stream_resume(b.s);
    run_for(l, 5000);
    cr_assert(span_eq(buf_span(&b.got), SPAN("abcdef")));
}

static size_t wait_for_me(struct end *e, struct span in)
{
    if (e->echo) {
        buf_add(&e->got, in);
        loop_stop(e->loop);
        return in.n;
    }
    loop_stop(e->loop);
    return 0;
}

Test(net, resume_offers_what_was_left_again, .init = setup, .fini = teardown)
{
    b.on_data = wait_for_me;
    stream_write(a.s, SPAN("later"));
    run_for(l, 5000);
    cr_assert_eq(b.got.n, 0);
    b.echo = true;
    stream_resume(b.s); /* no more input comes: this alone brings it */
    run_for(l, 5000);
    cr_assert(span_eq(buf_span(&b.got), SPAN("later")));
}

static size_t full_then_pause(struct end *e, struct span in)
{
    if (e->echo) {
        buf_add(&e->got, in);
        if (e->got.n >= e->stop_at)
            loop_stop(e->loop);
        return in.n;
    }
    if (in.n == STREAM_IN_MAX) {
        stream_pause(e->s);
        loop_stop(e->loop);
    }
    return 0;
}

static size_t wake_the_other(struct end *e, struct span in)
{
    struct end *other = e->other;
    other->echo = true;
    stream_resume(other->s);
    return in.n;
}

static void stop_loop(void *ctx)
{
    loop_stop(ctx);
}

/* All that may be held is held and the stream is paused; in one turn another stream resumes it, and then more input
 * shows. */
Test(net, resumed_with_a_full_buffer_and_more_input_at_once)
{
    struct loop *lo = loop_new();
    struct end w = {0}, x = {0}, c = {0}, d = {0};
    char *p = pattern(STREAM_IN_MAX + 5);
    ends_make(lo, &w, &x);
    ends_make(lo, &c, &d);
    d.on_data = wake_the_other;
    d.other = &x;
    x.on_data = full_then_pause;
    x.stop_at = STREAM_IN_MAX + 5;
    stream_write(w.s, span_make(p, STREAM_IN_MAX));
    run_for(lo, 5000);
    /* a turn without news, so that the kernel forgets which was ready last */
    struct timer *t = timer_new(lo, stop_loop, lo);
    timer_start(t, 1);
    loop_run(lo);
    timer_free(&t);
    stream_write(c.s, SPAN("!"));
    stream_flush(c.s); /* in this order the loop finds them readable */
    stream_write(w.s, span_make(p + STREAM_IN_MAX, 5));
    stream_flush(w.s);
    run_for(lo, 5000);
    cr_assert_eq(x.event_count, 0, "%s", stream_error(x.s));
    cr_assert(span_eq(buf_span(&x.got), span_make(p, STREAM_IN_MAX + 5)));
    mem_free(&p);
    end_free(&w);
    end_free(&x);
    end_free(&c);
    end_free(&d);
    loop_free(&lo);
}

Test(net, a_broken_peer_is_an_error, .init = setup, .fini = teardown)
{
    char *p = pattern(1 << 20);
    a.stop_on = "X";
    stream_pause(a.s);
    stream_write(a.s, span_make(p, 1 << 20));
    stream_free(&b.s);
    run_for(l, 5000);
    cr_assert_str_eq(a.events, "X");
    cr_assert(stream_write(a.s, SPAN("ignored")));
    mem_free(&p);
}

static long resident_kib(void)
{
    long pages = 0, all = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    cr_assert(f && fscanf(f, "%ld %ld", &all, &pages) == 2);
    fclose(f);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

Test(net, ten_thousand_idle_streams_are_small)
{
    enum { MANY = 10000, NEED = 2 * MANY + 100 };
    struct rlimit rl;
    getrlimit(RLIMIT_NOFILE, &rl);
    size_t count = rl.rlim_max < NEED ? (rl.rlim_max - 100) / 2 : MANY;
    rl.rlim_cur = rl.rlim_max < NEED ? rl.rlim_max : NEED;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &rl), 0);
    struct loop *lo = loop_new();
    struct end *ends = mem_array(count, sizeof *ends);
    int *far = mem_array(count, sizeof *far);
    long before = resident_kib();
    for (size_t i = 0; i < count; i++) {
        int fd[2];
        cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
        ends[i].loop = lo;
        ends[i].echo = true;
        ends[i].s = stream_new(lo, fd[0], &end_ops, &ends[i]);
        stream_timeout(ends[i].s, 600000);
        far[i] = fd[1];
        cr_assert_eq(send(far[i], "ping", 4, 0), 4);
    }
    ends[count - 1].stop_at = 4;
    run_for(lo, 20000);
    for (size_t i = 0; i < count; i++)
        buf_free(&ends[i].got);
    malloc_trim(0);
    long each = (resident_kib() - before) * 1024 / (long)count;
#ifdef WAYPOST_SANITIZE
    enum { LIMIT = 15000 }; /* red zones and the like */
#else
    enum { LIMIT = 1500 };
#endif
    cr_assert_lt(each, LIMIT, "%ld bytes for each idle stream", each);
    for (size_t i = 0; i < count; i++) {
        end_free(&ends[i]);
        close(far[i]);
    }
    mem_free(&ends);
    mem_free(&far);
    loop_free(&lo);
}
