/* Operators' connections: one SEQPACKET socket each, arguments and a command in, rows and an end out. What waits to be
 * read by a slow operator is bounded by ADMIN_HIGH and one page more: the listing stops there and goes on in
 * admin_later()'s function. */
#include "admin/admin.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "ipc/frame.h"
#include "ipc/msg.h"
#include "ipc/rows.h"

#define ADMIN_LOW (ADMIN_HIGH / 4)
#define IDLE_MS 60000      /* for the command to come */
#define FAREWELL_MS 30000  /* for the end to be read */

struct admin {
    struct loop *loop;
    const struct admin_command *commands;
    size_t count;
    void *ctx;
    struct link calls;
    size_t open;
};

struct out_frame {
    struct link link;
    size_t n;
    char bytes[];
};

struct admin_call {
    struct link link;
    struct admin *admin;
    int fd; /* -1: the operator has gone */
    int file; /* came with the command; -1: none, or taken */
    uint32_t uid;
    struct io *io;
    struct timer *timer;
    struct arena arena;
    struct span args[ADMIN_ARGS_MAX];
    size_t nargs;
    const struct admin_command *command; /* NULL: not yet come */
    bool ended;
    struct buf rows; /* not a frame yet: others join it until it is full, or the turn ends */
    struct link out;
    size_t out_bytes;
    struct defer turn; /* sending, and the next page */
    admin_more_fn *more;
    void (*drop)(void *ctx);
    void *more_ctx;
    void (*gone)(void *ctx);
    void *gone_ctx;
};

static char recv_buffer[IPC_FRAME_MAX + 1];

/* ---- life ---- */

static void drop_output(struct admin_call *c)
{
    LIST_EACH(&c->out, l) {
        struct out_frame *f = container_of(l, struct out_frame, link);
        list_del(&f->link);
        mem_free(&f);
    }
    c->out_bytes = 0;
    buf_free(&c->rows);
}

static void hang_up(struct admin_call *c)
{
    if (c->fd < 0)
        return;
    io_free(&c->io);
    close(c->fd);
    c->fd = -1;
    timer_stop(c->timer);
    drop_output(c);
}

static void free_call(struct admin_call *c)
{
    hang_up(c);
    if (c->file >= 0)
        close(c->file);
    loop_defer_cancel(c->admin->loop, &c->turn);
    timer_free(&c->timer);
    list_del(&c->link);
    c->admin->open--;
    arena_free(&c->arena);
    mem_free(&c);
}

/* The operator has gone. A call under way stays until its owner ends it; one that waits for its next page ends here. */
static void lost(struct admin_call *c)
{
    hang_up(c);
    if (c->more) {
        void (*drop)(void *) = c->drop;
        c->more = NULL;
        if (drop)
            drop(c->more_ctx);
        c->ended = true;
    }
    if (c->gone && !c->ended)
        c->gone(c->gone_ctx);
    if (c->ended || !c->command)
        free_call(c);
}

/* ---- output ---- */

static void frame(struct admin_call *c, const struct msg *m)
{
    static struct buf encoded;
    struct err err;
    if (c->fd < 0 || c->ended)
        return;
    buf_clear(&encoded);
    if (msg_encode(m, &encoded, &err)) {
        LOGE("admin-message-over-limit", KVT("why", err.text));
        return;
    }
    struct out_frame *f = mem_resize(NULL, sizeof *f + encoded.n);
    f->n = encoded.n;
    memcpy(f->bytes, encoded.p, encoded.n);
    list_add_tail(&c->out, &f->link);
    c->out_bytes += f->n;
    loop_defer(c->admin->loop, &c->turn);
}

static void end_rows(struct admin_call *c)
{
    if (c->rows.n)
        frame(c, &(struct msg){.type = MSG_adm_rows, .adm_rows = {.rows = buf_span(&c->rows)}});
    buf_clear(&c->rows);
}

static void say(struct admin_call *c, const struct msg *m)
{
    end_rows(c);
    frame(c, m);
}

/* False: the operator has gone. */
static bool send_some(struct admin_call *c)
{
    while (!list_empty(&c->out)) {
        struct frame_out batch[FRAME_BATCH];
        unsigned n = 0;
        for (struct link *l = c->out.next; l != &c->out && n < FRAME_BATCH; l = l->next) {
            struct out_frame *f = container_of(l, struct out_frame, link);
            batch[n++] = (struct frame_out){f->bytes, f->n, -1};
        }
        int sent = frame_send(c->fd, batch, n, false);
        if (sent < 0 && errno != EAGAIN && errno != ENOBUFS)
            return false;
        if (sent <= 0)
            return true;
        for (int i = 0; i < sent; i++) {
            struct out_frame *f = container_of(c->out.next, struct out_frame, link);
            list_del(&f->link);
            c->out_bytes -= f->n;
            mem_free(&f);
        }
    }
    return true;
}

static void next_page(struct admin_call *c)
{
    admin_more_fn *more = c->more;
    c->more = NULL;
    more(c->more_ctx, c);
}

/* Once a turn while there is something to send, or a page to be made. */
static void on_turn(void *ctx)
{
    struct admin_call *c = ctx;
    if (c->fd < 0)
        return;
    end_rows(c);
    if (!send_some(c)) {
        lost(c);
        return;
    }
    if (c->ended && list_empty(&c->out)) {
        free_call(c);
        return;
    }
    io_want(c->io, IO_READ | (list_empty(&c->out) ? 0 : IO_WRITE));
    if (c->more && c->out_bytes <= ADMIN_LOW)
        next_page(c);
}

/* False: nobody reads it. */
static bool rows_open(struct admin_call *c, size_t n)
{
    if (c->fd < 0 || c->ended)
        return false;
    if (c->rows.n + n > ROWS_BYTES_MAX)
        end_rows(c);
    loop_defer(c->admin->loop, &c->turn);
    return true;
}

static void cell(struct admin_call *c, enum row_kind kind, const char *name, uint64_t number, struct span value)
{
    struct row_cell r = {.kind = (uint8_t)kind, .name = span_of(name), .number = number, .value = span_sub(value, 0, ROWS_TEXT_MAX)};
    if (rows_open(c, rows_room(&r)))
        rows_put(&c->rows, &r);
}

void admin_text(struct admin_call *c, const char *name, struct span value)
{
    cell(c, ROW_TEXT, name, 0, value);
}

void admin_number(struct admin_call *c, const char *name, uint64_t value)
{
    cell(c, ROW_NUMBER, name, value, SPAN_NONE);
}

void admin_flag(struct admin_call *c, const char *name, bool value)
{
    cell(c, ROW_FLAG, name, value, SPAN_NONE);
}

void admin_time(struct admin_call *c, const char *name, int64_t wall_ms)
{
    cell(c, ROW_TIME, name, (uint64_t)wall_ms, SPAN_NONE);
}

void admin_bytes(struct admin_call *c, const char *name, uint64_t value)
{
    cell(c, ROW_BYTES, name, value, SPAN_NONE);
}

void admin_row(struct admin_call *c)
{
    if (rows_open(c, 1))
        rows_end(&c->rows);
}

void admin_progress(struct admin_call *c, uint64_t done, uint64_t total, const char *text)
{
    if (list_empty(&c->out) && c->rows.n == 0)
        say(c, &(struct msg){.type = MSG_adm_progress,
                             .adm_progress = {.done = done, .total = total, .text = span_of(text)}});
}

int admin_take_fd(struct admin_call *c)
{
    int fd = c->file;
    c->file = -1;
    return fd;
}

bool admin_room(const struct admin_call *c)
{
    return c->fd >= 0 && c->out_bytes + c->rows.n < ADMIN_HIGH;
}

void admin_later(struct admin_call *c, admin_more_fn *fn, void (*drop)(void *ctx), void *ctx)
{
    c->more = fn;
    c->drop = drop;
    c->more_ctx = ctx;
    if (c->fd < 0)
        lost(c);
    else
        loop_defer(c->admin->loop, &c->turn);
}

void admin_end(struct admin_call *c, enum admin_status status, const char *fmt, ...)
{
    char text[4096];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    say(c, &(struct msg){.type = MSG_adm_end, .adm_end = {.status = (uint8_t)status, .message = span_of(text)}});
    c->ended = true;
    LOGI("admin", KVT("command", c->command ? c->command->name : "?"), KVU("uid", c->uid), KVU("status", status));
    if (c->fd < 0) {
        free_call(c);
        return;
    }
    timer_start(c->timer, FAREWELL_MS);
    loop_defer(c->admin->loop, &c->turn);
}

/* ---- input ---- */

static const struct admin_command *find_command(const struct admin *a, struct span name)
{
    for (size_t i = 0; i < a->count; i++)
        if (span_eqs(name, a->commands[i].name))
            return &a->commands[i];
    return NULL;
}

static void run_command(struct admin_call *c, struct span name)
{
    static const struct admin_command unknown = {.name = "unknown"};
    const struct admin_command *cmd = find_command(c->admin, name);
    timer_stop(c->timer);
    c->command = cmd ? cmd : &unknown;
    if (!cmd)
        admin_end(c, ADMIN_USAGE, "no command \"%.*s\" here", SPANV(name));
    else if (c->nargs < cmd->min_args || c->nargs > cmd->max_args)
        admin_end(c, ADMIN_USAGE, "usage: waypost %s %s", cmd->name, cmd->usage ? cmd->usage : "");
    else
        cmd->fn(c->admin->ctx, c, c->args, c->nargs);
}

/* False: the operator breaks the rules. fd (-1: none) is taken over. */
static bool take(struct admin_call *c, const struct msg *m, int fd)
{
    if (c->command) { /* one command for each connection */
        if (fd >= 0)
            close(fd);
        return false;
    }
    if (m->type == MSG_adm_arg) {
        if (c->nargs == ADMIN_ARGS_MAX)
            return false;
        c->args[c->nargs++] = arena_dup(&c->arena, m->adm_arg.value);
        return true;
    }
    c->file = fd;
    run_command(c, m->adm_go.command);
    return true;
}

static void on_io(void *ctx, unsigned events)
{
    struct admin_call *c = ctx;
    if (events & IO_WRITE)
        loop_defer(c->admin->loop, &c->turn);
    if (!(events & IO_READ))
        return;
    size_t n = 0;
    int fd = -1;
    struct msg m;
    struct err err = {"not a frame"};
    enum frame_status st = frame_recv(c->fd, recv_buffer, sizeof recv_buffer, false, &n, &fd);
    if (st == FRAME_AGAIN)
        return;
    bool good = st == FRAME_GOT && msg_decode(span_make(recv_buffer, n), ROLE_ADMIN, fd >= 0, &m, &err) == 0;
    if (!good && fd >= 0)
        close(fd);
    if (st != FRAME_END && !good)
        LOGW("admin-bad-frame", KVU("uid", c->uid), KVT("why", err.text));
    if (!good || !take(c, &m, fd))
        lost(c);
}

static void on_timer(void *ctx)
{
    lost(ctx);
}

/* ---- the table ---- */

struct admin *admin_new(struct loop *l, const struct admin_command *commands, size_t count, void *ctx)
{
    struct admin *a = mem_alloc(sizeof *a);
    a->loop = l;
    a->commands = commands;
    a->count = count;
    a->ctx = ctx;
    list_init(&a->calls);
    return a;
}

void admin_free(struct admin **ap)
{
    struct admin *a = *ap;
    if (!a)
        return;
    LIST_EACH(&a->calls, l) {
        struct admin_call *c = container_of(l, struct admin_call, link);
        if (c->more && c->drop)
            c->drop(c->more_ctx);
        free_call(c);
    }
    mem_free(ap);
}

void admin_accept(struct admin *a, int fd, uint32_t uid)
{
    struct admin_call *c = mem_alloc(sizeof *c);
    *c = (struct admin_call){.admin = a, .fd = fd, .file = -1, .uid = uid, .turn = {.fn = on_turn, .ctx = c}};
    list_init(&c->out);
    list_add_tail(&a->calls, &c->link);
    a->open++;
    c->timer = timer_new(a->loop, on_timer, c);
    c->io = a->open <= ADMIN_CALLS_MAX ? io_new(a->loop, fd, on_io, c) : NULL;
    if (!c->io) {
        LOGW("admin-refused", KVU("uid", uid), KVU("open", a->open));
        close(fd);
        c->fd = -1;
        free_call(c);
        return;
    }
    io_want(c->io, IO_READ);
    timer_start(c->timer, IDLE_MS);
}

size_t admin_open(const struct admin *a)
{
    return a->open;
}

uint32_t admin_uid(const struct admin_call *c)
{
    return c->uid;
}

const char *admin_command_name(const struct admin_call *c)
{
    return c->command ? c->command->name : "";
}

void admin_on_gone(struct admin_call *c, void (*fn)(void *ctx), void *ctx)
{
    c->gone = fn;
    c->gone_ctx = ctx;
}

bool admin_gone(const struct admin_call *c)
{
    return c->fd < 0;
}
