#include <criterion/criterion.h>

#include "base/mem.h"
#include "pop3/session.h"

/* A maildrop of three messages in memory, and an output that can be full. */
static const char *contents[4];
static struct buf out;
static size_t room, opens, closes, open_now, updates;
static bool broken_open, broken_read, broken_update;
static char removed[16];
static struct pop3_transaction *t;

static bool drop_write(void *ctx UNUSED, struct span bytes)
{
    buf_add(&out, bytes);
    if (room == 0)
        return true;
    return out.n < room;
}

static int drop_open(void *ctx UNUSED, size_t i, struct err *err)
{
    if (broken_open)
        return err_set(err, "no");
    opens++;
    open_now = i;
    return 0;
}

static ptrdiff_t drop_read(void *ctx UNUSED, uint64_t offset, void *to, size_t n)
{
    size_t size = strlen(contents[open_now]);
    if (broken_read && offset > 0)
        return -1;
    if (offset >= size)
        return 0;
    n = MIN_OF(n, size - (size_t)offset);
    if (broken_read)
        n = 1;
    memcpy(to, contents[open_now] + offset, n);
    return (ptrdiff_t)n;
}

static void drop_close(void *ctx UNUSED)
{
    closes++;
}

static int drop_update(void *ctx UNUSED, const struct pop3_message *list, size_t n, struct err *err)
{
    size_t at = 0;
    updates++;
    if (broken_update)
        return err_set(err, "disk");
    for (size_t i = 0; i < n; i++)
        if (list[i].deleted)
            removed[at++] = (char)('1' + i);
    return 0;
}

static const struct pop3_session_ops ops = {drop_write, drop_open, drop_read, drop_close, drop_update};

static void setup(void)
{
    contents[0] = "S: 1\r\n\r\nfirst\r\n";
    contents[1] = "S: 2\r\n\r\n.dot\r\n";
    contents[2] = "S: 3\r\n\r\nx\r\ny\r\nz\r\n";
    struct pop3_message *list = mem_array(3, sizeof *list);
    for (uint32_t i = 0; i < 3; i++)
        list[i] = (struct pop3_message){.size = strlen(contents[i]), .uid = 10 + i};
    t = pop3_transaction_new(&ops, NULL, list, 3, 777);
    cr_assert(span_eqs(buf_span(&out), "+OK 3 messages (46 octets)\r\n"));
    buf_clear(&out);
}

static void teardown(void)
{
    pop3_transaction_free(&t);
    buf_free(&out);
    cr_assert_eq(opens, closes);
}

static void feed(struct span in)
{
    size_t n = 1;
    while (n && in.n) {
        n = pop3_transaction_input(t, in);
        in = span_from(in, n);
    }
}

static const char *answer(const char *line)
{
    buf_clear(&out);
    feed(span_of(line));
    return buf_cstr(&out);
}

#define EXPECT(line, text)                                                                    \
    do {                                                                                      \
        answer(line);                                                                         \
        cr_assert(span_eqs(buf_span(&out), text), "%s → %.*s", line, SPANV(buf_span(&out))); \
    } while (0)
#define REFUSED(line)                                                                                          \
    do {                                                                                                       \
        answer(line);                                                                                          \
        cr_assert(span_starts(buf_span(&out), SPAN("-ERR")), "%s → %.*s", line, SPANV(buf_span(&out)));       \
        cr_assert_eq(span_find(buf_span(&out), '\n'), (ptrdiff_t)out.n - 1, "one line");                      \
    } while (0)

/* RFC1939:5 */
Test(pop3_session, listings, .init = setup, .fini = teardown)
{
    EXPECT("STAT\r\n", "+OK 3 46\r\n");
    EXPECT("LIST\r\n", "+OK\r\n1 15\r\n2 14\r\n3 17\r\n.\r\n");
    EXPECT("list 2\r\n", "+OK 2 14\r\n");
    EXPECT("UIDL\r\n", "+OK\r\n1 777.10\r\n2 777.11\r\n3 777.12\r\n.\r\n");
    EXPECT("UIDL 3\r\n", "+OK 3 777.12\r\n");
    EXPECT("NOOP\r\n", "+OK\r\n");
    REFUSED("LIST 4\r\n");
    REFUSED("LIST 0\r\n");
    REFUSED("LIST -1\r\n");
    REFUSED("LIST x\r\n");
    REFUSED("LIST 99999999999999999999\r\n");
    REFUSED("UIDL 1 2\r\n");
    REFUSED("STAT 1\r\n");
    REFUSED("USER alice\r\n");
}

Test(pop3_session, retr_and_top, .init = setup, .fini = teardown)
{
    EXPECT("RETR 2\r\n", "+OK 14 octets\r\nS: 2\r\n\r\n..dot\r\n.\r\n");
    EXPECT("TOP 3 2\r\n", "+OK\r\nS: 3\r\n\r\nx\r\ny\r\n.\r\n");
    EXPECT("TOP 3 0\r\n", "+OK\r\nS: 3\r\n\r\n.\r\n");
    REFUSED("RETR\r\n");
    REFUSED("RETR 9\r\n");
    REFUSED("TOP 1\r\n");
    REFUSED("TOP 1 -1\r\n");
    REFUSED("TOP 1 1 1\r\n");
    REFUSED("TOP x 1\r\n");
}

Test(pop3_session, deletions_happen_at_quit, .init = setup, .fini = teardown)
{
    cr_assert(span_starts(span_of(answer("DELE 1\r\n")), SPAN("+OK")));
    REFUSED("DELE 1\r\n");
    REFUSED("RETR 1\r\n");
    REFUSED("LIST 1\r\n");
    EXPECT("STAT\r\n", "+OK 2 31\r\n");
    EXPECT("LIST\r\n", "+OK\r\n2 14\r\n3 17\r\n.\r\n");
    EXPECT("UIDL\r\n", "+OK\r\n2 777.11\r\n3 777.12\r\n.\r\n");
    EXPECT("RSET\r\n", "+OK\r\n");
    EXPECT("STAT\r\n", "+OK 3 46\r\n");
    answer("DELE 3\r\n");
    answer("DELE 1\r\n");
    cr_assert_eq(updates, 0);
    EXPECT("QUIT\r\n", "+OK bye\r\n");
    cr_assert_str_eq(removed, "13");
    cr_assert(pop3_transaction_over(t));
    EXPECT("STAT\r\n", "");
}

/* RFC1939:6: without QUIT nothing is removed. */
Test(pop3_session, a_lost_connection_removes_nothing, .init = setup)
{
    answer("DELE 1\r\n");
    pop3_transaction_free(&t);
    buf_free(&out);
    cr_assert_eq(updates, 0);
}

Test(pop3_session, a_failed_update_is_told, .init = setup, .fini = teardown)
{
    broken_update = true;
    answer("DELE 1\r\n");
    cr_assert(span_starts(span_of(answer("QUIT\r\n")), SPAN("-ERR [SYS/TEMP]")));
    cr_assert(pop3_transaction_over(t));
}

Test(pop3_session, unreadable_contents, .init = setup, .fini = teardown)
{
    broken_open = true;
    cr_assert(span_starts(span_of(answer("RETR 1\r\n")), SPAN("-ERR [SYS/TEMP]")));
    broken_open = false;
    broken_read = true;
    answer("RETR 1\r\n");
    cr_assert_not(span_ends(buf_span(&out), SPAN(".\r\n")), "a broken content never looks whole");
    cr_assert(pop3_transaction_over(t));
}

/* RFC2449:6.6 */
Test(pop3_session, pipelining_byte_by_byte, .init = setup, .fini = teardown)
{
    static const char text[] = "STAT\r\nRETR 1\r\nDELE 1\r\nUIDL\r\nQUIT\r\n";
    struct buf held = {0}, whole = {0};
    answer(text);
    buf_add(&whole, buf_span(&out));
    teardown();
    t = NULL;
    setup();
    for (size_t i = 0; i < sizeof text - 1; i++) {
        buf_addc(&held, text[i]);
        buf_drop(&held, pop3_transaction_input(t, buf_span(&held)));
    }
    cr_assert(span_eq(buf_span(&out), buf_span(&whole)));
    cr_assert_eq(updates, 2);
    buf_free(&held);
    buf_free(&whole);
}

Test(pop3_session, output_that_is_full_holds_commands_back, .init = setup, .fini = teardown)
{
    size_t size = 300000;
    char *big = mem_alloc(size + 1);
    memset(big, 'a', size);
    for (size_t i = 77; i < size; i += 78)
        memcpy(big + i - 1, "\r\n", 2);
    contents[0] = big;
    room = 1000;
    feed(SPAN("RETR 1\r\n"));
    cr_assert(pop3_transaction_busy(t));
    cr_assert_lt(out.n, 100000, "not all of it at once");
    cr_assert_eq(pop3_transaction_input(t, SPAN("NOOP\r\n")), 0);
    size_t turns = 0, total = out.n;
    while (pop3_transaction_busy(t) && ++turns < 1000) {
        buf_clear(&out);
        pop3_transaction_more(t);
        total += out.n;
    }
    cr_assert_gt(total, size);
    cr_assert(span_ends(buf_span(&out), SPAN("\r\n.\r\n")));
    EXPECT("NOOP\r\n", "+OK\r\n");
    room = 1;
    EXPECT("NOOP\r\nNOOP\r\n", "+OK\r\n"); /* the second one waits */
    cr_assert(pop3_transaction_busy(t));
    pop3_transaction_more(t);
    cr_assert_not(pop3_transaction_busy(t));
    mem_free(&big);
}

Test(pop3_session, limits, .init = setup, .fini = teardown)
{
    char *big = mem_alloc(5000);
    memset(big, 'x', 5000);
    feed(span_make(big, 5000));
    cr_assert_eq(out.n, 0);
    cr_assert(span_starts(span_of(answer("\r\n")), SPAN("-ERR the line is too long")));
    feed(SPAN("RETR\0 1\r\n"));
    int n = 0;
    while (!pop3_transaction_over(t) && ++n < 100)
        answer("BAD\r\n");
    cr_assert_lt(n, 20);
    mem_free(&big);
}

/* RFC2449:5 RFC2449:6 RFC2449:6.1 */
Test(pop3_session, capa, .init = setup, .fini = teardown)
{
    EXPECT("CAPA\r\n",
           "+OK what this server can\r\nTOP\r\nUSER\r\nSASL PLAIN LOGIN\r\nRESP-CODES\r\n"
           "AUTH-RESP-CODE\r\nPIPELINING\r\nEXPIRE NEVER\r\nUIDL\r\n.\r\n");
}

Test(pop3_session, an_empty_maildrop)
{
    t = pop3_transaction_new(&ops, NULL, mem_array(1, sizeof(struct pop3_message)), 0, 1);
    EXPECT("STAT\r\n", "+OK 0 0\r\n");
    EXPECT("LIST\r\n", "+OK\r\n.\r\n");
    EXPECT("UIDL\r\n", "+OK\r\n.\r\n");
    EXPECT("QUIT\r\n", "+OK bye\r\n");
    cr_assert_eq(updates, 0);
    pop3_transaction_free(&t);
    buf_free(&out);
}
