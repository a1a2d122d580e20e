/* Channels over real socket pairs: requests and answers, and above all what happens when the peer goes away and comes back. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ipc/chan.h"

struct side {
    struct loop *loop;
    struct chan *chan;
    unsigned msgs, downs, ups, rooms;
    uint64_t last_id;
    uint64_t last_size;
    int last_fd;
    bool answer; /* rcpt_check is answered at once */
};

static void on_msg(void *ctx, struct chan *c, const struct msg *m, int fd)
{
    struct side *s = ctx;
    s->msgs++;
    s->last_id = m->id;
    s->last_fd = fd;
    if (m->type != MSG_rcpt_check)
        return;
    s->last_size = m->rcpt_check.size;
    if (s->answer)
        chan_answer(c, chan_epoch(c), m->id, &(struct msg){.type = MSG_verdict, .verdict = {.kind = 2, .account = 9}}, -1);
}

static void on_down(void *ctx, struct chan *c UNUSED)
{
    ((struct side *)ctx)->downs++;
}

static void on_up(void *ctx, struct chan *c UNUSED)
{
    ((struct side *)ctx)->ups++;
}

static void on_room(void *ctx, struct chan *c UNUSED)
{
    ((struct side *)ctx)->rooms++;
}

static const struct chan_ops ops = {.on_msg = on_msg, .on_down = on_down, .on_up = on_up, .on_room = on_room};

struct end {
    unsigned calls;
    enum chan_why why;
    uint32_t account;
    struct loop *loop;
};

static void on_end(void *ctx, struct chan *c UNUSED, enum chan_why why, const struct msg *m, int fd UNUSED)
{
    struct end *e = ctx;
    e->calls++;
    e->why = why;
    e->account = m && m->type == MSG_verdict ? m->verdict.account : 0;
}

/* A loop with both sides of a pair in it: `a` plays the receiver (mx), `b` the directory. */
struct world {
    struct loop *loop;
    struct side a, b;
};

static void world_open(struct world *w)
{
    int fds[2];
    *w = (struct world){.loop = loop_new()};
    cr_assert_eq(chan_pair(fds, NULL), 0);
    w->a.chan = chan_new(w->loop, fds[0], ROLE_AUTHD, 0, &ops, &w->a);
    w->b.chan = chan_new(w->loop, fds[1], ROLE_MX, 0, &ops, &w->b);
}

static void world_close(struct world *w)
{
    chan_free(&w->a.chan);
    chan_free(&w->b.chan);
    loop_free(&w->loop);
}

static void stop(void *ctx)
{
    loop_stop(ctx);
}

/* Lets the loop turn for a moment: long enough for local sockets, which are ready at once. */
static void turn(struct world *w)
{
    struct timer *t = timer_new(w->loop, stop, w->loop);
    timer_start(t, 20);
    loop_run(w->loop);
    timer_free(&t);
}

static struct msg check(uint64_t size)
{
    return (struct msg){.type = MSG_rcpt_check, .rcpt_check = {.address = SPAN("bob@example.test"), .size = size}};
}

Test(ipc_chan, requests_are_answered_by_id)
{
    struct world w;
    struct end ends[100] = {{0}};
    world_open(&w);
    w.b.answer = true;
    for (size_t i = 0; i < COUNT_OF(ends); i++) {
        struct msg m = check(i);
        cr_assert(chan_ask(w.a.chan, &m, -1, on_end, &ends[i]));
    }
    cr_assert_eq(chan_open(w.a.chan), COUNT_OF(ends));
    turn(&w);
    for (size_t i = 0; i < COUNT_OF(ends); i++)
        cr_assert(ends[i].calls == 1 && ends[i].why == CHAN_ANSWERED && ends[i].account == 9);
    cr_assert_eq(chan_open(w.a.chan), 0);
    world_close(&w);
}

Test(ipc_chan, a_dead_peer_ends_requests_and_a_fresh_pair_serves_the_next)
{
    struct world w;
    struct end lost = {0}, waiting = {0};
    int fds[2];
    world_open(&w);
    struct msg m = check(1);
    chan_ask(w.a.chan, &m, -1, on_end, &lost);
    turn(&w);
    cr_assert(w.b.msgs == 1 && lost.calls == 0);
    chan_free(&w.b.chan); /* the peer dies with the request in its hands */
    turn(&w);
    cr_assert(lost.calls == 1 && lost.why == CHAN_GONE && w.a.downs == 1 && !chan_is_up(w.a.chan));
    chan_ask(w.a.chan, &m, -1, on_end, &waiting); /* asked while down: waits for the fresh pair */
    chan_say(w.a.chan, &(struct msg){.type = MSG_auth_forget}, -1);
    turn(&w);
    cr_assert_eq(waiting.calls, 0);
    cr_assert_eq(chan_pair(fds, NULL), 0);
    w.b = (struct side){.answer = true};
    w.b.chan = chan_new(w.loop, fds[1], ROLE_MX, 0, &ops, &w.b);
    chan_connect(w.a.chan, fds[0]);
    turn(&w);
    cr_assert(waiting.calls == 1 && waiting.why == CHAN_ANSWERED);
    cr_assert(w.b.msgs == 1, "a statement made while down is dropped");
    cr_assert_eq(chan_epoch(w.a.chan), 2);
    world_close(&w);
}

Test(ipc_chan, an_answer_to_the_old_pair_never_reaches_the_new_one)
{
    struct world w;
    struct end old = {0}, fresh = {0};
    int fds[2];
    world_open(&w);
    struct msg m = check(1);
    chan_ask(w.a.chan, &m, -1, on_end, &old);
    turn(&w);
    uint64_t id = w.b.last_id;
    uint32_t epoch = chan_epoch(w.b.chan);
    cr_assert_eq(chan_pair(fds, NULL), 0);
    chan_connect(w.a.chan, fds[0]);
    chan_connect(w.b.chan, fds[1]);
    cr_assert(old.calls == 1 && old.why == CHAN_GONE);
    chan_ask(w.a.chan, &m, -1, on_end, &fresh);
    chan_answer(w.b.chan, epoch, id, &(struct msg){.type = MSG_verdict, .verdict = {.kind = 2}}, -1);
    turn(&w);
    cr_assert(old.calls == 1 && fresh.calls == 0);
    world_close(&w);
}

Test(ipc_chan, a_bad_frame_closes_that_channel_and_only_that)
{
    struct world w;
    int fds[2];
    world_open(&w);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
    struct side hostile = {0};
    hostile.chan = chan_new(w.loop, fds[0], ROLE_MX, 0, &ops, &hostile);
    cr_assert_eq(send(fds[1], "garbage!garbage!", 16, 0), 16);
    turn(&w);
    cr_assert(hostile.downs == 1 && hostile.msgs == 0 && !chan_is_up(hostile.chan));
    char c;
    cr_assert_eq(recv(fds[1], &c, 1, 0), 0, "the other end sees the end");
    cr_assert(chan_is_up(w.a.chan) && chan_is_up(w.b.chan));
    close(fds[1]);
    chan_free(&hostile.chan);
    world_close(&w);
}

/* Several descriptors in one frame: refused, and every one of them closed. */
Test(ipc_chan, surplus_descriptors_are_closed)
{
    struct world w;
    int fds[2], pipes[2];
    world_open(&w);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
    cr_assert_eq(pipe2(pipes, O_CLOEXEC | O_NONBLOCK), 0);
    struct side s = {0};
    s.chan = chan_new(w.loop, fds[0], ROLE_IMAPD, 0, &ops, &s);
    struct buf b = {0};
    struct msg m = {.type = MSG_attach, .id = 1, .attach = {.session = 1}};
    cr_assert_eq(msg_encode(&m, &b, NULL), 0);
    char control[CMSG_SPACE(3 * sizeof(int))] = {0};
    struct iovec iov = {b.p, b.n};
    struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *cm = CMSG_FIRSTHDR(&h);
    cm->cmsg_level = SOL_SOCKET;
    cm->cmsg_type = SCM_RIGHTS;
    cm->cmsg_len = CMSG_LEN(3 * sizeof(int));
    for (int i = 0; i < 3; i++)
        memcpy(CMSG_DATA(cm) + (size_t)i * sizeof(int), &pipes[1], sizeof(int));
    cr_assert_gt(sendmsg(fds[1], &h, 0), 0);
    close(pipes[1]);
    turn(&w);
    cr_assert(s.downs == 1 && s.msgs == 0);
    char c;
    cr_assert_eq(read(pipes[0], &c, 1), 0, "no copy of the write end is left open");
    close(pipes[0]);
    close(fds[1]);
    buf_free(&b);
    chan_free(&s.chan);
    world_close(&w);
}

Test(ipc_chan, a_full_channel_says_so_and_tells_when_there_is_room)
{
    struct world w;
    struct end e = {0};
    world_open(&w);
    struct msg m = check(1);
    for (size_t i = 0; i < CHAN_OPEN_MAX; i++)
        cr_assert(chan_ask(w.a.chan, &m, -1, on_end, &e));
    cr_assert(chan_full(w.a.chan));
    w.b.answer = true;
    for (int i = 0; i < 50 && e.calls < CHAN_OPEN_MAX; i++)
        turn(&w);
    cr_assert_eq(e.calls, CHAN_OPEN_MAX);
    cr_assert(w.a.rooms >= 1 && !chan_full(w.a.chan));
    world_close(&w);
}

static void free_in_answer(void *ctx, struct chan *c UNUSED, enum chan_why why UNUSED, const struct msg *m UNUSED, int fd UNUSED)
{
    struct side *s = ctx;
    chan_free(&s->chan);
}

Test(ipc_chan, may_be_freed_from_its_own_callbacks)
{
    struct world w;
    struct end left = {0};
    world_open(&w);
    w.b.answer = true;
    struct msg m = check(1);
    chan_ask(w.a.chan, &m, -1, free_in_answer, &w.a);
    chan_ask(w.a.chan, &m, -1, on_end, &left);
    turn(&w);
    cr_assert_null(w.a.chan);
    cr_assert(left.calls == 1 && left.why == CHAN_GONE);
    world_close(&w);
}

Test(ipc_chan, forgotten_requests_are_not_called_back)
{
    struct world w;
    struct end e = {0};
    world_open(&w);
    w.b.answer = true;
    struct msg m = check(1);
    uint64_t id = chan_ask(w.a.chan, &m, -1, on_end, &e);
    chan_forget(w.a.chan, id);
    turn(&w);
    cr_assert(e.calls == 0 && w.b.msgs == 1);
    world_close(&w);
}

/* Deadlines on a virtual clock, on a channel that is down: the shortest there is ends after its time and not before. */
Test(ipc_chan, a_request_ends_late_after_its_deadline)
{
    struct loop *l = loop_new_virtual(0);
    struct side s = {0};
    struct end e = {0};
    s.chan = chan_new(l, -1, ROLE_AUTHD, 0, &ops, &s);
    struct msg m = check(1);
    chan_ask(s.chan, &m, -1, on_end, &e);
    loop_advance(l, msg_info(MSG_rcpt_check)->deadline - 1);
    cr_assert_eq(e.calls, 0);
    loop_advance(l, 1000);
    cr_assert(e.calls == 1 && e.why == CHAN_LATE);
    chan_free(&s.chan);
    loop_free(&l);
}

/* A peer that answers and dies with more of ours unread: the kernel says "reset" first, but the answer counts. Whether the
 * next to touch the socket is a read or a send. */
Test(ipc_chan, the_last_words_of_a_dead_peer_are_heard)
{
    for (int sends = 0; sends < 2; sends++) {
        struct world w;
        int fds[2];
        world_open(&w);
        cr_assert_eq(chan_pair(fds, NULL), 0);
        struct side s = {0};
        struct end first = {0}, second = {0}, third = {0};
        s.chan = chan_new(w.loop, fds[0], ROLE_AUTHD, 0, &ops, &s);
        struct msg m = check(1);
        uint64_t id = chan_ask(s.chan, &m, -1, on_end, &first);
        chan_ask(s.chan, &m, -1, on_end, &second);
        chan_flush(s.chan);
        struct msg answer = {.type = MSG_verdict, .id = id, .answer = true, .verdict = {.kind = 2, .account = 5}};
        cr_assert_eq(chan_send_now(fds[1], &answer, -1, NULL), 0);
        close(fds[1]);
        if (sends)
            chan_ask(s.chan, &m, -1, on_end, &third); /* can't leave any more */
        turn(&w);
        cr_assert(first.why == CHAN_ANSWERED && first.account == 5, "sends %d: why %d", sends, first.why);
        cr_assert(second.calls == 1 && second.why == CHAN_GONE && third.calls == (unsigned)sends);
        cr_assert_eq(s.downs, 1);
        chan_free(&s.chan);
        world_close(&w);
    }
}

/* ---- out of descriptors ---- */

struct got {
    unsigned calls;
    enum chan_why why;
    int fd;
};

static void on_got(void *ctx, struct chan *c UNUSED, enum chan_why why, const struct msg *m UNUSED, int fd)
{
    struct got *g = ctx;
    g->calls++;
    g->why = why;
    g->fd = fd;
}

static struct rlimit all;

/* From here on no further descriptor fits in. */
static void take_all_descriptors(void)
{
    int first = dup(0);
    close(first);
    getrlimit(RLIMIT_NOFILE, &all);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &(struct rlimit){(rlim_t)first, all.rlim_max}), 0);
}

static void give_them_back(void)
{
    setrlimit(RLIMIT_NOFILE, &all);
}

static unsigned losses;

static void on_lost(void *ctx UNUSED, struct chan *c UNUSED, const struct msg *m)
{
    cr_assert_eq(m->type, MSG_peer_end);
    cr_assert_eq(m->peer_end.role, ROLE_QMGR);
    losses++;
}

Test(ipc_chan, an_answer_without_its_descriptor_ends_that_request_alone)
{
    struct loop *l = loop_new();
    struct world w = {.loop = l};
    int fds[2];
    cr_assert_eq(chan_pair(fds, NULL), 0);
    struct side s = {0};
    struct got lost = {0}, next = {0};
    struct end other = {0};
    s.chan = chan_new(l, fds[0], ROLE_QMGR, 0, &ops, &s);
    struct msg m = {.type = MSG_spool_open}, plain = {.type = MSG_token_ask};
    uint64_t id = chan_ask(s.chan, &m, -1, on_got, &lost), plain_id = chan_ask(s.chan, &plain, -1, on_end, &other);
    turn(&w);
    struct msg file = {.type = MSG_spool_file, .id = id, .answer = true, .spool_file = {.qid = SPAN("x")}};
    struct msg queued = {.type = MSG_queued, .id = plain_id, .answer = true};
    cr_assert_eq(chan_send_now(fds[1], &file, fds[1], NULL), 0);
    cr_assert_eq(chan_send_now(fds[1], &queued, -1, NULL), 0);
    take_all_descriptors();
    struct timer *t = timer_new(l, stop, l);
    timer_start(t, 20);
    loop_run(l);
    give_them_back();
    timer_free(&t);
    cr_assert(lost.calls == 1 && lost.why == CHAN_LOST && lost.fd == -1);
    cr_assert(other.calls == 1 && other.why == CHAN_ANSWERED && s.downs == 0);
    id = chan_ask(s.chan, &m, -1, on_got, &next);
    turn(&w);
    file.id = id;
    cr_assert_eq(chan_send_now(fds[1], &file, fds[1], NULL), 0);
    turn(&w);
    cr_assert(next.calls == 1 && next.why == CHAN_ANSWERED && next.fd >= 0);
    close(next.fd);
    close(fds[1]);
    chan_free(&s.chan);
    loop_free(&l);
}

Test(ipc_chan, a_request_without_its_descriptor_is_answered_so)
{
    struct world w = {.loop = loop_new()};
    int fds[2];
    cr_assert_eq(chan_pair(fds, NULL), 0);
    struct got g = {0};
    w.a.chan = chan_new(w.loop, fds[0], ROLE_AUTHD, 0, &ops, &w.a);
    w.b.chan = chan_new(w.loop, fds[1], ROLE_IMAPD, 0, &ops, &w.b);
    struct msg m = {.type = MSG_attach, .attach = {.session = 1}};
    struct timer *t = timer_new(w.loop, stop, w.loop);
    timer_start(t, 20);
    chan_ask(w.a.chan, &m, 0, on_got, &g);
    chan_flush(w.a.chan); /* our own copy is gone */
    take_all_descriptors();
    loop_run(w.loop);
    give_them_back();
    timer_free(&t);
    cr_assert(g.calls == 1 && g.why == CHAN_LOST);
    cr_assert(w.b.msgs == 0 && w.b.downs == 0 && w.a.downs == 0);
    world_close(&w);
}

Test(ipc_chan, a_statement_without_its_descriptor_is_told_or_ends_the_pair)
{
    for (int told = 0; told < 2; told++) {
        struct world w = {.loop = loop_new()};
        struct chan_ops own = ops;
        own.on_lost = told ? on_lost : NULL;
        losses = 0;
        int fds[2];
        cr_assert_eq(chan_pair(fds, NULL), 0);
        w.a.chan = chan_new(w.loop, fds[0], ROLE_WAYPOSTD, 0, &own, &w.a);
        struct msg m = {.type = MSG_peer_end, .peer_end = {.role = ROLE_QMGR}};
        cr_assert_eq(chan_send_now(fds[1], &m, fds[1], NULL), 0);
        struct timer *t = timer_new(w.loop, stop, w.loop);
        timer_start(t, 20);
        take_all_descriptors();
        loop_run(w.loop);
        give_them_back();
        timer_free(&t);
        cr_assert(losses == (unsigned)told && w.a.downs == !told && w.a.msgs == 0);
        close(fds[1]);
        chan_free(&w.a.chan);
        loop_free(&w.loop);
    }
}

/* The fresh end that got lost counts: who asks for the next one names the right epoch. */
Test(ipc_chan, a_missed_end_is_a_pair_that_went_down)
{
    struct world w;
    struct end e = {0};
    world_open(&w);
    struct msg m = check(1);
    chan_ask(w.a.chan, &m, -1, on_end, &e);
    chan_missed(w.a.chan);
    cr_assert(e.calls == 1 && e.why == CHAN_GONE && w.a.downs == 1 && !chan_is_up(w.a.chan));
    cr_assert_eq(chan_epoch(w.a.chan), 2);
    chan_missed(w.a.chan);
    cr_assert(w.a.downs == 2 && chan_epoch(w.a.chan) == 3);
    world_close(&w);
}
