/* See session.h. The commands as a table; what takes long goes out in pieces, as fast as the client reads. */
#include "pop3/session.h"

#include <inttypes.h>

#include "auth/mechanisms.h"
#include "base/mem.h"
#include "pop3/content.h"
#include "pop3/line.h"

#define CHUNK 32768      /* of a content, read at a time */
#define LISTING_CHUNK 500 /* lines of LIST and UIDL written at a time */

struct pop3_transaction {
    const struct pop3_session_ops *ops;
    void *ctx;
    struct pop3_message *list;
    size_t n;
    uint32_t uidvalidity;
    struct pop3_lines lines;
    unsigned errors;
    bool over;
    bool full; /* the last write said that there is no room: no command runs until there is */
    struct buf out;
    /* what is being sent */
    enum { SENDING_NOTHING, SENDING_CONTENT, SENDING_LIST, SENDING_UIDL } sending;
    size_t at;       /* the next message of a listing */
    uint64_t offset; /* in the content */
    struct pop3_stuffer stuffer;
};

struct call {
    struct pop3_transaction *t;
    struct span args;
};

/* ---- replies ---- */

static void say(struct pop3_transaction *t)
{
    t->full = !t->ops->write(t->ctx, buf_span(&t->out));
    buf_clear(&t->out);
}

static void reply(struct pop3_transaction *t, const char *text)
{
    buf_printf(&t->out, "%s\r\n", text);
    say(t);
}

static void wrong(struct pop3_transaction *t, const char *text)
{
    buf_printf(&t->out, "-ERR %s\r\n", text);
    if (++t->errors >= POP3_ERRORS_MAX) {
        buf_adds(&t->out, "-ERR too many wrong commands, closing\r\n");
        t->over = true;
    }
    say(t);
}

/* ---- messages ---- */

static void totals(const struct pop3_transaction *t, size_t *count, uint64_t *size)
{
    *count = 0;
    *size = 0;
    for (size_t i = 0; i < t->n; i++)
        if (!t->list[i].deleted) {
            *count += 1;
            *size += t->list[i].size;
        }
}

/* The message that the word names; otherwise the client was told. Deleted ones are not there, RFC1939:5. */
static bool message(struct pop3_transaction *t, struct span word, size_t *i)
{
    uint64_t number;
    if (!span_u64(word, UINT32_MAX, &number) || number == 0) {
        wrong(t, "that is not a message number");
        return false;
    }
    if (number > t->n || t->list[number - 1].deleted) {
        reply(t, number > t->n ? "-ERR no such message" : "-ERR that message is deleted");
        return false;
    }
    *i = (size_t)number - 1;
    return true;
}

/* Unique for ever in this account, at most 70 printable characters: RFC1939:7 */
static void put_uidl(struct pop3_transaction *t, size_t i)
{
    buf_printf(&t->out, "%zu %" PRIu32 ".%" PRIu32 "\r\n", i + 1, t->uidvalidity, t->list[i].uid);
}

static void put_size(struct pop3_transaction *t, size_t i)
{
    buf_printf(&t->out, "%zu %" PRIu64 "\r\n", i + 1, t->list[i].size);
}

/* ---- what takes several turns ---- */

/* True when the listing is out. */
static bool list_some(struct pop3_transaction *t)
{
    size_t end = MIN_OF(t->n, t->at + LISTING_CHUNK);
    for (; t->at < end; t->at++) {
        if (t->list[t->at].deleted)
            continue;
        if (t->sending == SENDING_LIST)
            put_size(t, t->at);
        else
            put_uidl(t, t->at);
    }
    if (t->at < t->n)
        return false;
    buf_adds(&t->out, ".\r\n");
    return true;
}

/* The content can't be read to its end: the response can't be taken back, so it must not end as if it were whole. */
static bool broke_off(struct pop3_transaction *t)
{
    t->over = true;
    return true;
}

/* True when the content is out. */
static bool content_some(struct pop3_transaction *t)
{
    static char chunk[CHUNK];
    ptrdiff_t n = t->ops->read(t->ctx, t->offset, chunk, sizeof chunk);
    if (n < 0)
        return broke_off(t);
    t->offset += (uint64_t)n;
    bool more = n > 0 && pop3_stuff(&t->stuffer, span_make(chunk, (size_t)n), &t->out);
    if (!more)
        pop3_stuff_end(&t->stuffer, &t->out);
    return !more;
}

void pop3_transaction_more(struct pop3_transaction *t)
{
    t->full = false;
    while (t->sending != SENDING_NOTHING && !t->full) {
        bool content = t->sending == SENDING_CONTENT;
        bool done = content ? content_some(t) : list_some(t);
        if (done && content)
            t->ops->close(t->ctx);
        if (done)
            t->sending = SENDING_NOTHING;
        say(t);
    }
}

/* ---- commands ---- */

static void do_stat(struct call *c)
{
    size_t count;
    uint64_t size;
    totals(c->t, &count, &size);
    buf_printf(&c->t->out, "+OK %zu %" PRIu64 "\r\n", count, size);
    say(c->t);
}

static void listing(struct call *c, int kind, void (*put)(struct pop3_transaction *t, size_t i))
{
    struct pop3_transaction *t = c->t;
    size_t i;
    if (c->args.n) {
        if (!message(t, c->args, &i))
            return;
        buf_adds(&t->out, "+OK ");
        put(t, i);
        say(t);
        return;
    }
    buf_adds(&t->out, "+OK\r\n");
    t->at = 0;
    t->sending = kind;
    pop3_transaction_more(t);
}

static void do_list(struct call *c)
{
    listing(c, SENDING_LIST, put_size);
}

static void do_uidl(struct call *c)
{
    listing(c, SENDING_UIDL, put_uidl);
}

static void send_content(struct pop3_transaction *t, size_t i, uint64_t body_lines)
{
    struct err err;
    if (t->ops->open(t->ctx, i, &err)) {
        reply(t, "-ERR [SYS/TEMP] that message can't be read now");
        return;
    }
    if (body_lines == UINT64_MAX)
        buf_printf(&t->out, "+OK %" PRIu64 " octets\r\n", t->list[i].size);
    else
        buf_adds(&t->out, "+OK\r\n");
    pop3_stuffer_init(&t->stuffer, body_lines);
    t->offset = 0;
    t->sending = SENDING_CONTENT;
    pop3_transaction_more(t);
}

static void do_retr(struct call *c)
{
    size_t i;
    if (message(c->t, c->args, &i))
        send_content(c->t, i, UINT64_MAX);
}

static void do_top(struct call *c)
{
    struct span lines = c->args, number = span_cut(&lines, ' ');
    uint64_t count;
    size_t i;
    if (!span_u64(lines, UINT32_MAX, &count)) {
        wrong(c->t, "TOP message lines");
        return;
    }
    if (message(c->t, number, &i))
        send_content(c->t, i, count);
}

static void do_dele(struct call *c)
{
    size_t i;
    if (!message(c->t, c->args, &i))
        return;
    c->t->list[i].deleted = true;
    buf_printf(&c->t->out, "+OK message %zu will be deleted at QUIT\r\n", i + 1);
    say(c->t);
}

static void do_rset(struct call *c)
{
    for (size_t i = 0; i < c->t->n; i++)
        c->t->list[i].deleted = false;
    reply(c->t, "+OK");
}

static void do_noop(struct call *c)
{
    reply(c->t, "+OK");
}

static void do_capa(struct call *c)
{
    char names[SASL_OFFER_MAX];
    pop3_put_capabilities(&c->t->out, POP3_AFTER_LOGIN, false, sasl_offer(0, names));
    say(c->t);
}

static void do_quit(struct call *c)
{
    struct pop3_transaction *t = c->t;
    struct err err;
    size_t count;
    uint64_t size;
    totals(t, &count, &size);
    t->over = true;
    if (count < t->n && t->ops->update(t->ctx, t->list, t->n, &err))
        reply(t, "-ERR [SYS/TEMP] the deleted messages were not removed");
    else
        reply(t, "+OK bye");
}

static const struct {
    const char *keyword;
    void (*run)(struct call *c);
    bool args; /* may have some */
} commands[] = {
    {"STAT", do_stat, false}, {"LIST", do_list, true},  {"UIDL", do_uidl, true},  {"RETR", do_retr, true},
    {"TOP", do_top, true},    {"DELE", do_dele, true},  {"RSET", do_rset, false}, {"NOOP", do_noop, false},
    {"CAPA", do_capa, false}, {"QUIT", do_quit, false},
};

static void command(struct pop3_transaction *t, struct span line)
{
    struct pop3_command cmd = pop3_split(line);
    struct call c = {t, cmd.args};
    for (size_t i = 0; i < COUNT_OF(commands); i++) {
        if (!span_ieqs(cmd.keyword, commands[i].keyword))
            continue;
        if (c.args.n && !commands[i].args)
            wrong(t, "that command takes nothing");
        else
            commands[i].run(&c);
        return;
    }
    wrong(t, "not a command here");
}

size_t pop3_transaction_input(struct pop3_transaction *t, struct span in)
{
    struct span line;
    size_t used;
    if (t->over)
        return in.n;
    if (pop3_transaction_busy(t))
        return 0;
    switch (pop3_take_line(&t->lines, in, POP3_LINE_MAX, &used, &line)) {
    case POP3_LINE_MORE:
        break;
    case POP3_LINE_LONG:
        wrong(t, "the line is too long");
        break;
    case POP3_LINE_WHOLE:
        if (pop3_clean(line))
            command(t, line);
        else
            wrong(t, "control characters in a command");
        break;
    }
    return used;
}

bool pop3_transaction_busy(const struct pop3_transaction *t)
{
    return t->sending != SENDING_NOTHING || t->full;
}

bool pop3_transaction_over(const struct pop3_transaction *t)
{
    return t->over;
}

/* ---- life ---- */

struct pop3_transaction *pop3_transaction_new(const struct pop3_session_ops *ops, void *ctx, struct pop3_message *list,
                                              size_t n, uint32_t uidvalidity)
{
    struct pop3_transaction *t = mem_alloc(sizeof *t);
    size_t count;
    uint64_t size;
    t->ops = ops;
    t->ctx = ctx;
    t->list = list;
    t->n = n;
    t->uidvalidity = uidvalidity;
    totals(t, &count, &size);
    buf_printf(&t->out, "+OK %zu messages (%" PRIu64 " octets)\r\n", count, size);
    say(t);
    return t;
}

void pop3_transaction_free(struct pop3_transaction **tp)
{
    struct pop3_transaction *t = *tp;
    if (!t)
        return;
    if (t->sending == SENDING_CONTENT)
        t->ops->close(t->ctx);
    mem_free(&t->list);
    buf_free(&t->out);
    mem_free(tp);
}

void pop3_put_bye(struct buf *out, const char *why)
{
    buf_printf(out, "-ERR [SYS/TEMP] %s\r\n", why);
}
