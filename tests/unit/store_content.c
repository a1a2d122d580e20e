/* store/: contents staged, shared and read; deliveries under their keys. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "store_support.h"

TestSuite(store_content, .init = set_up, .fini = tear_down);

/* ---- contents ---- */

/* A content is shared by its copies and goes with the last of them. */
Test(store_content, shared_contents)
{
    uint32_t uid = append("INBOX", 200000, 0);
    uint64_t from = mailbox("INBOX"), to = mailbox("Trash");
    struct store_copied pair;
    size_t n;
    cr_assert_eq(store_copy(st, from, &uid, 1, to, &pair, &n, &err), 0);
    struct store_row a, b;
    cr_assert_eq(store_row(st, from, uid, &a, &err), 0);
    cr_assert_eq(store_row(st, to, pair.to, &b, &err), 0);
    cr_assert_eq(a.content, b.content);
    cr_assert_eq(large_files(), 1);
    cr_assert_eq(store_usage(st).bytes, 400000);
    cr_assert_eq(store_expunge(st, from, &uid, 1, false, NULL, NULL, &err), 0);
    cr_assert_eq(large_files(), 1);
    struct store_content *c;
    cr_assert_eq(store_content_open(st, b.content, &c, &err), 0);
    cr_assert_eq(store_expunge(st, to, &pair.to, 1, false, NULL, NULL, &err), 0);
    cr_assert_eq(large_files(), 0);
    char last;
    cr_assert_eq(store_content_read(c, 199999, &last, 1, &err), 1, "an open content stays readable");
    cr_assert_eq(last, 'a' + 199999 % 26);
    store_content_close(&c);
    cr_assert_eq(store_content_open(st, b.content, &c, &err), STORE_NO_SUCH);
    cr_assert_null(c);
}

Test(store_content, reading_contents)
{
    static const size_t sizes[] = {14, 100, STORE_INLINE_MAX, STORE_INLINE_MAX + 1, 300000};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        uint32_t uid = append("INBOX", sizes[i], 0);
        struct store_row row;
        cr_assert_eq(store_row(st, mailbox("INBOX"), uid, &row, &err), 0);
        cr_assert_eq(row.size, sizes[i]);
        struct store_content *c;
        cr_assert_eq(store_content_open(st, row.content, &c, &err), 0);
        cr_assert_eq(store_content_size(c), sizes[i]);
        cr_assert_eq(store_content_header(c), 14);
        cr_assert_eq(store_content_bytes(c).p != NULL, sizes[i] <= STORE_INLINE_MAX);
        char got[64];
        cr_assert_eq(store_content_read(c, 9, got, 5, &err), 5);
        cr_assert_eq(memcmp(got, "x\r\n\r\n", 5), 0);
        cr_assert_eq(store_content_read(c, sizes[i] - 3, got, 64, &err), 3);
        cr_assert_eq(store_content_read(c, sizes[i], got, 64, &err), 0);
        store_content_close(&c);
        struct buf head = {0};
        cr_assert_eq(store_header(st, row.content, 1000, &head, &err), 0);
        cr_assert(span_eq(buf_span(&head), SPAN("Subject: x\r\n\r\n")));
        buf_clear(&head);
        cr_assert_eq(store_header(st, row.content, 7, &head, &err), 0);
        cr_assert(span_eq(buf_span(&head), SPAN("Subject")));
        buf_free(&head);
    }
}

/* The end of the header is found however the bytes come in pieces. */
Test(store_content, header_end)
{
    static const struct {
        const char *text;
        uint64_t header;
    } rows[] = {
        {"A: b\r\n\r\nbody", 8},
        {"\r\nbody", 2},
        {"A: b\n\nbody", 6},
        {"A: b\r\n", 6},
        {"A: b", 4},
        {"", 0},
        {"A: b\r\n c\r\n\r\n\r\n", 12},
        {"A:\r\n \r\n\r\nx", 9},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        for (size_t step = 1; step < 20; step += 18) {
            struct store_stage *g = store_stage_new(st);
            struct span s = span_of(rows[i].text);
            for (size_t at = 0; at < s.n; at += step)
                cr_assert_eq(store_stage_write(g, span_sub(s, at, step), &err), 0);
            cr_assert_eq(store_stage_header(g), rows[i].header, "row %zu", i);
            cr_assert_eq(store_stage_size(g), s.n);
            store_stage_free(&g);
        }
}

/* From a descriptor: small ones into memory, large ones into a file, both whole; a file that is too short is refused.
 */
Test(store_content, from_a_descriptor)
{
    static const size_t sizes[] = {1000, 65536, 65537, 1 << 20};
    char path[] = "/tmp/waypost-fd-XXXXXX";
    int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    unlink(path);
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        struct buf text = {0};
        buf_adds(&text, "A: b\r\n\r\n");
        while (text.n < sizes[i])
            buf_addc(&text, (char)(text.n * 7 % 251));
        cr_assert_eq(pwrite(fd, text.p, text.n, 0), (ssize_t)text.n);
        struct store_stage *g = store_stage_new(st);
        cr_assert_eq(store_stage_write(g, SPAN("Return-Path: <>\r\n"), &err), 0);
        cr_assert_eq(store_stage_fd(g, fd, text.n, &err), 0, "%s", err.text);
        cr_assert_eq(store_stage_size(g), text.n + 17);
        char *got = mem_alloc(text.n);
        cr_assert_eq(store_stage_read(g, 17, got, text.n), (ptrdiff_t)text.n);
        cr_assert_eq(memcmp(got, text.p, text.n), 0);
        mem_free(&got);
        store_stage_free(&g);
        g = store_stage_new(st);
        cr_assert_lt(store_stage_fd(g, fd, text.n + 1, &err), 0);
        store_stage_free(&g);
        buf_free(&text);
    }
    close(fd);
    cr_assert_eq(large_files(), 0);
}

Test(store_content, cache)
{
    uint32_t uid = append("INBOX", 100, 0);
    struct store_row row;
    struct arena a = {0};
    struct store_cache c;
    cr_assert_eq(store_row(st, mailbox("INBOX"), uid, &row, &err), 0);
    cr_assert_eq(store_cache_get(st, row.content, &a, &c, &err), 0);
    cr_assert_null(c.envelope.p);
    store_cache_put(st, row.content, SPAN("(env)"), SPAN("(str)"));
    cr_assert_eq(store_cache_get(st, row.content, &a, &c, &err), 0);
    cr_assert(span_eqs(c.envelope, "(env)"));
    reopen();
    cr_assert_eq(store_cache_get(st, row.content, &a, &c, &err), 0);
    cr_assert(span_eqs(c.envelope, "(env)"));
    cr_assert(span_eqs(c.structure, "(str)"));
    for (uint64_t i = 0; i < 600; i++)
        store_cache_put(st, row.content + i, SPAN("(e)"), SPAN("(s)"));
    arena_free(&a);
}

/* ---- delivery ---- */

/* HAZARDS 11: a repeated lease delivers once. */
Test(store_content, delivery_is_exactly_once)
{
    cr_assert_eq(store_deliver_begin(st, &err), 0);
    cr_assert_not(deliver("Q1", 1, 100));
    cr_assert_not(deliver("Q1", 2, 100));
    cr_assert(deliver("Q1", 1, 100));
    cr_assert_not(deliver("Q2", 1, 100000));
    cr_assert_eq(store_deliver_commit(st, &err), 0);
    reopen();
    cr_assert_eq(store_deliver_begin(st, &err), 0);
    cr_assert(deliver("Q1", 1, 100));
    cr_assert(deliver("Q2", 1, 100000));
    cr_assert_eq(store_deliver_commit(st, &err), 0);
    cr_assert_eq(status("INBOX").messages, 3);
    cr_assert_eq(large_files(), 1);
    cr_assert_eq(store_deliver_begin(st, &err), 0);
    cr_assert_not(deliver("Q3", 1, 100));
    store_deliver_abort(st);
    cr_assert_eq(status("INBOX").messages, 3);
    cr_assert_eq(store_deliver_begin(st, &err), 0);
    cr_assert_not(deliver("Q3", 1, 100));
    cr_assert_eq(store_deliver_commit(st, &err), 0);
}

/* A refused delivery costs the others of its batch nothing. */
Test(store_content, refused_delivery)
{
    bool already;
    cr_assert_eq(store_deliver_begin(st, &err), 0);
    cr_assert_not(deliver("Q1", 1, 100));
    struct store_stage *g = stage(100);
    cr_assert_eq(store_deliver_add(st, SPAN("Q1"), 2, 4711, &g, &(struct store_new){0}, &already, &err), STORE_NO_SUCH);
    cr_assert_null(g);
    cr_assert_eq(store_deliver_commit(st, &err), 0);
    cr_assert_eq(status("INBOX").messages, 1);
}

/* The row of a mailbox is written once for all that a batch brings it: each has its own uid and modseq, and is counted once. */
Test(store_content, a_batch_is_counted)
{
    struct store_mailbox before = status("INBOX"), after;
    struct store_row row;
    bool already;
    cr_assert_eq(store_deliver_begin(st, &err), 0);
    for (uint64_t i = 0; i < 3; i++)
        deliver("Q1", i, 100);
    struct store_stage *g = stage(50);
    cr_assert_eq(store_deliver_add(st, SPAN("Q1"), 7, mailbox("Junk"), &g, &(struct store_new){.flags = STORE_SEEN}, &already, &err), 0);
    deliver("Q1", 3, 200);
    deliver("Q1", 2, 100); /* already there */
    cr_assert_eq(store_deliver_commit(st, &err), 0);
    reopen();
    after = status("INBOX");
    cr_assert_eq(after.uidnext, before.uidnext + 4);
    cr_assert_eq(after.modseq, before.modseq + 4);
    cr_assert(after.messages == 4 && after.unseen == 4 && after.size == 500);
    for (uint32_t i = 0; i < 4; i++) {
        cr_assert_eq(store_row(st, after.id, before.uidnext + i, &row, &err), 0);
        cr_assert_eq(row.modseq, before.modseq + 1 + i);
    }
    after = status("Junk");
    cr_assert(after.messages == 1 && after.unseen == 0 && after.size == 50);
    cr_assert(store_usage(st).messages == 5 && store_usage(st).bytes == 550);
}

Test(store_content, old_keys_are_forgotten)
{
    cr_assert_eq(store_deliver_begin(st, &err), 0);
    deliver("Q1", 1, 10);
    cr_assert_eq(store_deliver_commit(st, &err), 0);
    int64_t day = 86400000;
    store_set_now(st, 1000 + 9 * day);
    store_shrink(st);
    cr_assert_eq(store_deliver_begin(st, &err), 0);
    cr_assert(deliver("Q1", 1, 10));
    cr_assert_eq(store_deliver_commit(st, &err), 0);
    store_set_now(st, 1000 + (9 + STORE_KEY_DAYS + 1) * day); /* after the last lease */
    store_shrink(st);
    cr_assert_eq(store_deliver_begin(st, &err), 0);
    cr_assert_not(deliver("Q1", 1, 10));
    cr_assert_eq(store_deliver_commit(st, &err), 0);
}
