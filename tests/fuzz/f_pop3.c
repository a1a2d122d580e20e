/* POP3 after login over a maildrop made of the input's first part; the commands are the rest. Whatever comes: every
 * content sent can be read back by a client that knows only lines, and only what QUIT saw marked is removed. */
#include <stdlib.h>

#include "base/mem.h"
#include "pop3/session.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct span content;
static struct buf out;
static bool is_open;

static void must(bool good)
{
    if (!good)
        abort();
}

static bool drop_write(void *ctx UNUSED, struct span bytes)
{
    buf_add(&out, bytes);
    return out.n % 3 != 0;
}

static int drop_open(void *ctx UNUSED, size_t i, struct err *err UNUSED)
{
    must(!is_open && i < 3);
    is_open = true;
    return 0;
}

static ptrdiff_t drop_read(void *ctx UNUSED, uint64_t offset, void *to, size_t n)
{
    must(is_open);
    struct span some = span_sub(content, (size_t)offset, MIN_OF(n, 7));
    if (some.n)
        memcpy(to, some.p, some.n);
    return (ptrdiff_t)some.n;
}

static void drop_close(void *ctx UNUSED)
{
    must(is_open);
    is_open = false;
}

static int drop_update(void *ctx UNUSED, const struct pop3_message *list, size_t n, struct err *err UNUSED)
{
    bool any = false;
    for (size_t i = 0; i < n; i++)
        any = any || list[i].deleted;
    must(any && n == 3);
    return 0;
}

static const struct pop3_session_ops ops = {drop_write, drop_open, drop_read, drop_close, drop_update};

/* Every LF ends a line and follows a CR; a reply begins with +OK or -ERR; a RETR's terminator is the first "." line
 * behind it. */
static void check(struct span sent)
{
    for (size_t i = 0; i < sent.n; i++)
        must(sent.p[i] != '\n' || (i && sent.p[i - 1] == '\r'));
    must(span_starts(sent, SPAN("+OK")));
}

/* Gives it all of that, with room for output whenever it waits for some. */
static void feed(struct pop3_transaction *t, struct span in)
{
    do {
        while (pop3_transaction_busy(t))
            pop3_transaction_more(t);
        size_t n = in.n ? pop3_transaction_input(t, in) : 0;
        in = span_from(in, n);
        if (n == 0)
            break;
    } while (!pop3_transaction_over(t));
    while (pop3_transaction_busy(t))
        pop3_transaction_more(t);
}

static void retr_reads_back(struct pop3_transaction *t)
{
    buf_clear(&out);
    if (pop3_transaction_over(t))
        return;
    feed(t, SPAN("RSET\r\n"));
    buf_clear(&out);
    feed(t, SPAN("RETR 2\r\n"));
    ptrdiff_t first = span_search(buf_span(&out), SPAN("\r\n.\r\n"));
    must(first >= 0 && (size_t)first + 5 == out.n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > 65536)
        return 0;
    size_t split = (size_t)data[0] * 256 + data[1];
    struct span rest = span_make(data + 2, size - 2);
    content = span_sub(rest, 0, split);
    rest = span_from(rest, split);
    struct pop3_message *list = mem_array(3, sizeof *list);
    for (uint32_t i = 0; i < 3; i++)
        list[i] = (struct pop3_message){.size = content.n, .uid = i + 1};
    struct pop3_transaction *t = pop3_transaction_new(&ops, NULL, list, 3, 1);
    feed(t, rest);
    check(buf_span(&out));
    feed(t, SPAN("\r\n")); /* the end of a line that is still open */
    retr_reads_back(t);
    pop3_transaction_free(&t);
    must(!is_open);
    buf_free(&out);
    return 0;
}
