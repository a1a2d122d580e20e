/* The message codec: what goes in comes out, and nothing else gets through. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "ipc/describe.h"
#include "ipc/msg.h"
#include "ipc/rows.h"

static struct msg sample(void)
{
    return (struct msg){.type = MSG_rcpt_check,
                        .id = 42,
                        .rcpt_check = {.session = 7, .address = SPAN("bob@example.test"), .sender = SPAN("a@remote.test"), .size = 4096}};
}

static void encode(const struct msg *m, struct buf *b)
{
    struct err err = {""};
    cr_assert_eq(msg_encode(m, b, &err), 0, "%s", err.text);
}

Test(ipc, a_message_survives_the_wire)
{
    struct buf b = {0};
    struct msg in = sample(), out;
    struct err err;
    encode(&in, &b);
    cr_assert_eq(msg_decode(buf_span(&b), ROLE_MX, false, &out, &err), 0);
    cr_assert(out.type == MSG_rcpt_check && out.id == 42 && !out.answer);
    cr_assert(span_eq(out.rcpt_check.address, SPAN("bob@example.test")) && out.rcpt_check.size == 4096 && out.rcpt_check.session == 7);
    buf_free(&b);
}

Test(ipc, every_truncation_and_any_surplus_is_refused)
{
    struct buf b = {0};
    struct msg in = sample(), out;
    struct err err;
    encode(&in, &b);
    for (size_t n = 0; n < b.n; n++)
        cr_assert_eq(msg_decode(span_make(b.p, n), ROLE_MX, false, &out, &err), -1, "cut at %zu", n);
    buf_addc(&b, 'x');
    cr_assert_eq(msg_decode(buf_span(&b), ROLE_MX, false, &out, &err), -1);
    buf_free(&b);
}

Test(ipc, senders_are_held_to_the_table)
{
    struct buf b = {0};
    struct msg in = sample(), out;
    struct err err;
    encode(&in, &b);
    for (unsigned role = 0; role < ROLE_COUNT; role++)
        cr_assert_eq(msg_decode(buf_span(&b), (enum role)role, false, &out, &err), role == ROLE_MX || role == ROLE_SUBMISSION ? 0 : -1);
    buf_free(&b);
}

Test(ipc, descriptors_come_only_where_declared)
{
    struct buf b = {0};
    struct msg in = sample(), out;
    struct err err;
    encode(&in, &b);
    cr_assert_eq(msg_decode(buf_span(&b), ROLE_MX, true, &out, &err), -1);
    buf_clear(&b);
    in = (struct msg){.type = MSG_spool_file, .id = 1, .answer = true, .spool_file = {.qid = SPAN("Q1")}};
    encode(&in, &b);
    cr_assert_eq(msg_decode(buf_span(&b), ROLE_QMGR, false, &out, &err), -1);
    cr_assert_eq(msg_decode(buf_span(&b), ROLE_QMGR, true, &out, &err), 0);
    buf_free(&b);
}

Test(ipc, fields_over_their_limit_neither_leave_nor_arrive)
{
    struct buf b = {0};
    struct err err;
    static char big[2000];
    memset(big, 'a', sizeof big);
    struct msg in = sample(), out;
    in.rcpt_check.address = span_make(big, IPC_ADDRESS_MAX + 1);
    cr_assert_eq(msg_encode(&in, &b, &err), -1);
    cr_assert_eq(b.n, 0);
    in.rcpt_check.address = SPAN("nul\0byte@example.test");
    cr_assert_eq(msg_encode(&in, &b, &err), -1, "text holds no NUL");
    /* the same, forged by hand: the length field of the address raised over what is there, and to 4 GiB */
    in = sample();
    encode(&in, &b);
    for (int v = 0; v < 2; v++) {
        memset(b.p + 12 + 8, 0xff, v ? 4 : 2);
        cr_assert_eq(msg_decode(buf_span(&b), ROLE_MX, false, &out, &err), -1);
    }
    buf_clear(&b);
    in = (struct msg){.type = MSG_verdict, .id = 1, .answer = true, .verdict = {.kind = 6}};
    cr_assert_eq(msg_encode(&in, &b, &err), -1, "a number over its limit");
    buf_free(&b);
}

Test(ipc, unknown_types_and_flags_are_refused)
{
    struct buf b = {0};
    struct msg in = sample(), out;
    struct err err;
    encode(&in, &b);
    static const struct {
        size_t at;
        char byte;
    } forged[] = {{0, (char)0xfe}, {1, 0x7f}, {2, 2}, {3, 1}};
    for (size_t i = 0; i < COUNT_OF(forged); i++) {
        char was = b.p[forged[i].at];
        b.p[forged[i].at] = forged[i].byte;
        cr_assert_eq(msg_decode(buf_span(&b), ROLE_MX, false, &out, &err), -1, "case %zu", i);
        b.p[forged[i].at] = was;
    }
    memset(b.p + 4, 0, 8); /* an answer to nothing */
    b.p[2] = 1;
    cr_assert_eq(msg_decode(buf_span(&b), ROLE_MX, false, &out, &err), -1);
    buf_free(&b);
}

/* Every message of the list, all fields at their limits, must fit a frame and come back. */
Test(ipc, the_largest_of_each_message_fits_a_frame)
{
    static char text[IPC_FRAME_MAX];
    memset(text, 't', sizeof text);
    struct buf b = {0};
    struct err err;
#define BIG_u8(limit) (limit) ? (uint8_t)(limit) : UINT8_MAX
#define BIG_u16(limit) (limit) ? (uint16_t)(limit) : UINT16_MAX
#define BIG_u32(limit) (limit) ? (uint32_t)(limit) : UINT32_MAX
#define BIG_u64(limit) (limit) ? (uint64_t)(limit) : UINT64_MAX
#define BIG_text(limit) span_make(text, (limit))
#define BIG_blob(limit) span_make(text, (limit))
#define FILL(type_, name_, limit_) .name_ = BIG_##type_(limit_),
#define TRY(name_, senders_, fd_, deadline_, late_)                                                          \
    {                                                                                                        \
        struct msg m = {.type = MSG_##name_, .id = 1, .name_ = {F_##name_(FILL)}};                           \
        const bool inline_content = MSG_##name_ == MSG_msg_commit || MSG_##name_ == MSG_attempt_go || MSG_##name_ == MSG_deliver; \
        buf_clear(&b);                                                                                       \
        if (!inline_content) /* prefix and body share IPC_INLINE_MAX: see below */                           \
            cr_assert_eq(msg_encode(&m, &b, &err), 0, "%s", #name_);                                         \
    }
    MESSAGES(TRY)
    struct msg m = {.type = MSG_deliver,
                    .id = 1,
                    .deliver = {F_deliver(FILL)}};
    m.deliver.prefix = span_make(text, IPC_PREFIX_MAX);
    m.deliver.body = span_make(text, IPC_INLINE_MAX - IPC_PREFIX_MAX);
    buf_clear(&b);
    cr_assert_eq(msg_encode(&m, &b, &err), 0, "%s", err.text);
    buf_free(&b);
}

/* doc/messages.md is what the list says. To renew it: WAYPOST_WRITE_DOCS=1 tests/unit/t-ipc in the source tree. */
Test(ipc, the_document_matches_the_list)
{
    struct buf want = {0}, have = {0};
    ipc_describe(&want);
    if (getenv("WAYPOST_WRITE_DOCS")) {
        FILE *out = fopen("doc/messages.md", "w");
        cr_assert(out && fwrite(want.p, 1, want.n, out) == want.n);
        fclose(out);
    }
    FILE *f = fopen("doc/messages.md", "r");
    if (!f) {
        const char *src = getenv("srcdir");
        char path[4096];
        snprintf(path, sizeof path, "%s/doc/messages.md", src ? src : ".");
        f = fopen(path, "r");
    }
    cr_assert_not_null(f, "run in the source tree, or with srcdir set");
    char chunk[4096];
    size_t n;
    while ((n = fread(chunk, 1, sizeof chunk, f)) > 0)
        buf_add(&have, span_make(chunk, n));
    fclose(f);
    cr_assert(span_eq(buf_span(&want), buf_span(&have)), "doc/messages.md is old");
    buf_free(&want);
    buf_free(&have);
}

/* ---- rows ---- */

static const struct row_cell cells[] = {{.kind = ROW_TEXT, .name = SPAN("reason"), .value = SPAN("a\0b\xff")},
                                        {.kind = ROW_TEXT, .name = SPAN("empty"), .value = SPAN("")},
                                        {.kind = ROW_BYTES, .name = SPAN("size"), .number = UINT64_C(0x8070605040302010)},
                                        {.kind = ROW_TIME, .name = SPAN(""), .number = 1}};

Test(ipc, rows_survive_the_wire)
{
    struct buf b = {0};
    struct row_cell c;
    for (unsigned row = 0; row < 2; row++) {
        for (size_t i = 0; i < COUNT_OF(cells); i++) {
            size_t before = b.n;
            rows_put(&b, &cells[i]);
            cr_assert_leq(b.n - before, rows_room(&cells[i]));
        }
        rows_end(&b);
    }
    struct span rest = buf_span(&b);
    for (unsigned row = 0; row < 2; row++) {
        for (size_t i = 0; i < COUNT_OF(cells); i++) {
            cr_assert_eq(rows_next(&rest, &c), ROWS_CELL);
            cr_assert(c.kind == cells[i].kind && span_eq(c.name, cells[i].name) && span_eq(c.value, cells[i].value) && c.number == cells[i].number);
        }
        cr_assert_eq(rows_next(&rest, &c), ROWS_END);
    }
    cr_assert_eq(rows_next(&rest, &c), ROWS_OVER);
    buf_free(&b);
}

/* An item that is cut anywhere is none; whatever comes, reading ends. */
Test(ipc, rows_that_are_none)
{
    struct row_cell c;
    srand(1);
    for (size_t i = 0; i < COUNT_OF(cells); i++) {
        struct buf b = {0};
        rows_put(&b, &cells[i]);
        for (size_t n = 1; n < b.n; n++) {
            char *copy = malloc(n); /* the sanitizer sees a byte too far */
            memcpy(copy, b.p, n);
            struct span rest = span_make(copy, n);
            cr_assert_eq(rows_next(&rest, &c), ROWS_BAD, "%zu of cell %zu", n, i);
            free(copy);
        }
        buf_free(&b);
    }
    for (unsigned round = 0; round < 20000; round++) {
        char bytes[40];
        struct span rest = span_make(bytes, (size_t)rand() % sizeof bytes);
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (char)(rand() % (i % 4 ? 8 : 256));
        for (enum rows_item item = ROWS_CELL; item == ROWS_CELL || item == ROWS_END;)
            item = rows_next(&rest, &c);
    }
    cr_assert_eq(rows_next(&(struct span){"\5\1n\0\0\0\0\0\0\0\0", 11}, &c), ROWS_BAD, "no such kind");
    cr_assert_eq(rows_next(&(struct span){"\0\0\1\200\0\0", 6}, &c), ROWS_BAD, "over the limit");
}
