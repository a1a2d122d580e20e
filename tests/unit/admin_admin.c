/* Operators' connections: commands, rows, long listings with a slow reader, and operators who leave. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "admin/admin.h"
#include "ipc/chan.h"
#include "ipc/rows.h"

#define ROWS 100000

struct world {
    struct loop *loop;
    struct admin *admin;
    int op; /* the operator's end */
    unsigned pages, drops, at;
    struct admin_call *held;
};

static void cmd_echo(void *ctx, struct admin_call *c, const struct span *args, size_t n)
{
    (void)ctx;
    for (size_t i = 0; i < n; i++)
        admin_text(c, "arg", args[i]);
    admin_number(c, "n", n);
    admin_flag(c, "yes", true);
    admin_time(c, "when", 1000);
    admin_bytes(c, "size", 4096);
    admin_row(c);
    admin_end(c, ADMIN_DONE, "%zu arguments, uid %u", n, admin_uid(c));
}

static void page(void *ctx, struct admin_call *c)
{
    struct world *w = ctx;
    w->pages++;
    while (w->at < ROWS && admin_room(c)) {
        admin_number(c, "row", w->at++);
        admin_row(c);
    }
    if (w->at < ROWS)
        admin_later(c, page, NULL, w);
    else
        admin_end(c, ADMIN_DONE, "%s", "");
}

static void drop(void *ctx)
{
    ((struct world *)ctx)->drops++;
}

static void endless(void *ctx, struct admin_call *c)
{
    struct world *w = ctx;
    w->pages++;
    while (admin_room(c)) {
        admin_text(c, "x", SPAN("some text"));
        admin_row(c);
    }
    admin_later(c, endless, drop, w);
}

static void cmd_list(void *ctx, struct admin_call *c, const struct span *args UNUSED, size_t n UNUSED)
{
    page(ctx, c);
}

static void cmd_endless(void *ctx, struct admin_call *c, const struct span *args UNUSED, size_t n UNUSED)
{
    endless(ctx, c);
}

static void cmd_hold(void *ctx, struct admin_call *c, const struct span *args UNUSED, size_t n UNUSED)
{
    ((struct world *)ctx)->held = c;
    admin_on_gone(c, drop, ctx);
}

static void cmd_write(void *ctx, struct admin_call *c, const struct span *args UNUSED, size_t n UNUSED)
{
    int fd = admin_take_fd(c);
    bool good = fd >= 0 && write(fd, "written", 7) == 7;
    if (fd >= 0)
        close(fd);
    ((struct world *)ctx)->pages += admin_take_fd(c) < 0;
    admin_progress(c, 7, 9, "bytes");
    admin_progress(c, 8, 9, "bytes"); /* the first has not left: nobody waits for it */
    admin_end(c, good ? ADMIN_DONE : ADMIN_FAILED, "%s", "");
}

static void cmd_wide(void *ctx UNUSED, struct admin_call *c, const struct span *args UNUSED, size_t n UNUSED)
{
    static char text[40000];
    memset(text, 'x', sizeof text);
    for (unsigned i = 0; i < 4; i++)
        admin_text(c, "text", span_make(text, sizeof text));
    admin_row(c);
    admin_end(c, ADMIN_DONE, "%s", "");
}

static const struct admin_command commands[] = {
    {"wide", "", 0, 0, cmd_wide},
    {"write", "", 0, 0, cmd_write},
    {"echo", "WORD...", 1, 3, cmd_echo},
    {"list", "", 0, 0, cmd_list},
    {"endless", "", 0, 0, cmd_endless},
    {"hold", "", 0, 0, cmd_hold},
};

static void world_open(struct world *w)
{
    int fds[2];
    *w = (struct world){.loop = loop_new()};
    w->admin = admin_new(w->loop, commands, COUNT_OF(commands), w);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
    admin_accept(w->admin, fds[0], 77);
    w->op = fds[1];
}

static void world_close(struct world *w)
{
    if (w->op >= 0)
        close(w->op);
    admin_free(&w->admin);
    loop_free(&w->loop);
}

static void stop(void *ctx)
{
    loop_stop(ctx);
}

static void turn(struct world *w, int ms)
{
    struct timer *t = timer_new(w->loop, stop, w->loop);
    timer_start(t, ms);
    loop_run(w->loop);
    timer_free(&t);
}

static void say(struct world *w, struct msg m)
{
    cr_assert_eq(chan_send_now(w->op, &m, -1, NULL), 0);
}

static void arg(struct world *w, const char *text)
{
    say(w, (struct msg){.type = MSG_adm_arg, .adm_arg = {.value = span_of(text)}});
}

static void go(struct world *w, const char *command)
{
    say(w, (struct msg){.type = MSG_adm_go, .adm_go = {.command = span_of(command)}});
}

/* The next message for the operator, without waiting. */
static bool hear(struct world *w, struct buf *in, struct msg *m)
{
    struct err err;
    int fd;
    char peek;
    if (recv(w->op, &peek, 1, MSG_PEEK | MSG_DONTWAIT) <= 0)
        return false;
    return chan_recv_now(w->op, ROLE_QMGR, in, m, &fd, &err) == 1;
}

static int end_status(struct world *w, char *text, size_t size)
{
    struct buf in = {0};
    struct msg m;
    int status = -1;
    while (status < 0 && hear(w, &in, &m))
        if (m.type == MSG_adm_end) {
            status = m.adm_end.status;
            snprintf(text, size, "%.*s", SPANV(m.adm_end.message));
        }
    buf_free(&in);
    return status;
}

static unsigned count_rows(const struct msg *m, unsigned kinds[5])
{
    unsigned rows = 0;
    struct row_cell c;
    struct span rest = m->type == MSG_adm_rows ? m->adm_rows.rows : SPAN("");
    for (enum rows_item item; (item = rows_next(&rest, &c)) != ROWS_OVER; rows += item == ROWS_END) {
        cr_assert_neq(item, ROWS_BAD);
        if (item == ROWS_CELL)
            kinds[c.kind]++;
    }
    return rows;
}

Test(admin, a_command_answers_rows_and_an_end)
{
    struct world w;
    struct buf in = {0};
    struct msg m;
    unsigned kinds[5] = {0}, rows = 0, frames = 0;
    world_open(&w);
    arg(&w, "one");
    arg(&w, "two\nlines");
    go(&w, "echo");
    turn(&w, 20);
    while (hear(&w, &in, &m) && m.type != MSG_adm_end) {
        rows += count_rows(&m, kinds);
        frames++;
    }
    cr_assert_eq(m.type, MSG_adm_end);
    cr_assert(span_eqs(m.adm_end.message, "2 arguments, uid 77"));
    cr_assert_eq(kinds[0], 2u);
    for (unsigned i = 1; i < 5; i++)
        cr_assert_eq(kinds[i], 1u);
    cr_assert_eq(rows, 1u);
    cr_assert_eq(frames, 1u, "with all its cells");
    cr_assert_eq(admin_open(w.admin), 0u, "the call is over");
    buf_free(&in);
    world_close(&w);
}

/* Text is cut at its limit; a row that is larger than a frame goes on in the next. */
Test(admin, a_wide_row_is_several_frames)
{
    struct world w;
    struct buf in = {0};
    struct msg m;
    unsigned kinds[5] = {0}, rows = 0, frames = 0;
    world_open(&w);
    go(&w, "wide");
    turn(&w, 20);
    for (; hear(&w, &in, &m) && m.type != MSG_adm_end; frames++) {
        rows += count_rows(&m, kinds);
        cr_assert_leq(m.adm_rows.rows.n, (size_t)ROWS_BYTES_MAX);
    }
    cr_assert(m.type == MSG_adm_end && rows == 1 && kinds[0] == 4 && frames == 4, "%u rows, %u cells, %u frames", rows, kinds[0], frames);
    buf_free(&in);
    world_close(&w);
}

Test(admin, wrong_use_is_told)
{
    static const struct {
        const char *command;
        unsigned args;
        const char *said;
    } wrong[] = {{"nothing", 0, "no command \"nothing\" here"},
                 {"echo", 0, "usage: waypost echo WORD..."},
                 {"echo", 4, "usage: waypost echo WORD..."}};
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        struct world w;
        char text[200] = "";
        world_open(&w);
        for (unsigned a = 0; a < wrong[i].args; a++)
            arg(&w, "x");
        go(&w, wrong[i].command);
        turn(&w, 20);
        cr_expect_eq(end_status(&w, text, sizeof text), ADMIN_USAGE);
        cr_expect_str_eq(text, wrong[i].said);
        world_close(&w);
    }
}

Test(admin, garbage_ends_that_connection_only)
{
    struct world w;
    char byte;
    world_open(&w);
    cr_assert_eq(send(w.op, "garbage", 7, 0), 7);
    turn(&w, 20);
    cr_assert_eq(recv(w.op, &byte, 1, MSG_DONTWAIT), 0, "closed");
    cr_assert_eq(admin_open(w.admin), 0u);
    world_close(&w);
    world_open(&w);
    say(&w, (struct msg){.type = MSG_adm_arg, .adm_arg = {.value = SPAN("x")}});
    for (unsigned i = 0; i < ADMIN_ARGS_MAX + 5; i++)
        chan_send_now(w.op, &(struct msg){.type = MSG_adm_arg, .adm_arg = {.value = SPAN("x")}}, -1, NULL);
    turn(&w, 20);
    cr_assert_eq(admin_open(w.admin), 0u, "too many arguments");
    world_close(&w);
}

static unsigned open_files(void)
{
    unsigned n = 0;
    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

Test(admin, a_command_may_bring_a_file_and_say_how_far_it_is)
{
    struct world w;
    struct buf in = {0};
    struct msg m;
    unsigned said = 0;
    int p[2];
    char text[8] = "";
    cr_assert_eq(pipe(p), 0);
    world_open(&w);
    cr_assert_eq(chan_send_now(w.op, &(struct msg){.type = MSG_adm_go, .adm_go = {.command = SPAN("write")}}, p[1], NULL), 0);
    close(p[1]);
    turn(&w, 20);
    while (hear(&w, &in, &m) && m.type != MSG_adm_end)
        said += m.type == MSG_adm_progress && m.adm_progress.done == 7 && m.adm_progress.total == 9 && span_eqs(m.adm_progress.text, "bytes");
    cr_assert(m.type == MSG_adm_end && m.adm_end.status == ADMIN_DONE);
    cr_assert_eq(said, 1u);
    cr_assert_eq(w.pages, 1u, "it is taken once");
    cr_assert_eq(read(p[0], text, 8), 7);
    cr_assert_str_eq(text, "written");
    cr_assert_eq(read(p[0], text, 8), 0, "nobody else holds it");
    close(p[0]);
    buf_free(&in);
    world_close(&w);
}

Test(admin, a_file_that_nobody_wants_is_closed)
{
    static const char *const names[] = {"hold", "nothing", "echo"};
    unsigned before = 0;
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        struct world w;
        world_open(&w);
        cr_assert_eq(chan_send_now(w.op, &(struct msg){.type = MSG_adm_go, .adm_go = {.command = span_of(names[i])}}, 2, NULL), 0);
        cr_assert_eq(chan_send_now(w.op, &(struct msg){.type = MSG_adm_go, .adm_go = {.command = SPAN("again")}}, 2, NULL), 0);
        turn(&w, 20);
        world_close(&w);
        before = before ? before : open_files(); /* the first loop of a process keeps some */
    }
    cr_assert_eq(open_files(), before);
}

Test(admin, a_long_listing_waits_for_its_reader)
{
    struct world w;
    struct buf in = {0};
    struct msg m = {0};
    unsigned rows = 0, frames = 0, kinds[5] = {0};
    world_open(&w);
    go(&w, "list");
    turn(&w, 50);
    cr_assert_lt(w.at, ROWS, "what nobody reads is not made");
    cr_assert_gt(w.at, 100u);
    while (m.type != MSG_adm_end) {
        while (m.type != MSG_adm_end && hear(&w, &in, &m))
            rows += count_rows(&m, kinds), frames++;
        turn(&w, 2);
    }
    cr_assert_eq(rows, ROWS);
    cr_assert_lt(frames, ROWS / 10, "many in one");
    cr_assert_gt(w.pages, 2u);
    buf_free(&in);
    world_close(&w);
}

Test(admin, an_operator_who_leaves_ends_his_listing)
{
    struct world w;
    world_open(&w);
    go(&w, "endless");
    turn(&w, 20);
    cr_assert_eq(w.drops, 0u);
    close(w.op);
    w.op = -1;
    turn(&w, 20);
    cr_assert_eq(w.drops, 1u);
    cr_assert_eq(admin_open(w.admin), 0u);
    world_close(&w);
}

Test(admin, a_call_under_way_outlives_its_operator)
{
    struct world w;
    world_open(&w);
    go(&w, "hold");
    turn(&w, 20);
    cr_assert(w.held);
    close(w.op);
    w.op = -1;
    turn(&w, 20);
    cr_assert(admin_gone(w.held));
    cr_assert_eq(w.drops, 1, "its owner is told");
    cr_assert_not(admin_room(w.held));
    admin_text(w.held, "x", SPAN("lost"));
    admin_row(w.held);
    admin_end(w.held, ADMIN_DONE, "%s", "");
    cr_assert_eq(admin_open(w.admin), 0u);
    world_close(&w);
}

Test(admin, the_program_may_end_at_any_moment)
{
    static const char *const names[] = {"endless", "hold", "list", "echo"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        struct world w;
        world_open(&w);
        go(&w, names[i]);
        turn(&w, 10);
        world_close(&w);
    }
}
