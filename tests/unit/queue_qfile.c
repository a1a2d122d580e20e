/* The file of `waypost queue export`: what is written is read back, in pieces of any size; what was cut off, changed in one
 * bit or made to harm is refused, and no message of it is told that was not written so. */
#include <criterion/criterion.h>
#include <sodium.h>
#include <string.h>

#include "queue/qfile.h"

static const struct queue_message messages[] = {
    {.id = 1000, .sender = SPAN("a@b.test"), .helo = SPAN("c.test"), .remote = SPAN("192.0.2.1"), .message_id = SPAN("<1@c.test>"), .envid = SPAN("QQ"), .tls = SPAN("TLSv1.3 X"),
     .login = SPAN("a@b.test"), .policy = SPAN("spf=pass"), .marks = SPAN("m1 m2"), .hold = SPAN("for;3600"), .received = 1700000000000, .size = 12, .header_bytes = 4, .origin = QUEUE_FROM_SUBMISSION,
     .ret = 2, .body_kind = 1, .smtputf8 = 1, .tls_need = 1, .by_mode = 5, .terminal = 0, .priority = -4, .deliver_by = 1700000100000, .hold_until = 1700000200000},
    {.id = 2000, .sender = SPAN(""), .helo = SPAN(""), .remote = SPAN(""), .message_id = SPAN(""), .envid = SPAN(""), .tls = SPAN(""), .login = SPAN(""), .policy = SPAN(""), .hold = SPAN(""),
     .size = 200000, .origin = QUEUE_NOTIFICATION, .spooled = true},
    {.id = QID_MAX, .sender = SPAN("x@y.test"), .helo = SPAN(""), .remote = SPAN(""), .message_id = SPAN(""), .envid = SPAN(""), .tls = SPAN(""), .login = SPAN(""), .policy = SPAN(""), .hold = SPAN(""),
     .origin = QUEUE_FROM_OUTSIDE},
};
static const struct queue_recipient recipients[][3] = {
    {{.id = 1001, .state = QUEUE_EXPANDED, .address = SPAN("all@b.test"), .orcpt = SPAN("")},
     {.id = 1002, .parent = 1001, .depth = 1, .notify = 6, .state = QUEUE_WAITING, .passed = 3, .told = true, .attempts = 7, .next = 1700000300000, .address = SPAN("d@e.test"),
      .original = SPAN("all@b.test"), .orcpt = SPAN("rfc822;all@b.test"), .sender = SPAN(""), .last = 1700000000500, .kind = 4, .code = 451, .subject = 4, .detail = 999,
      .why = SPAN("later\tplease"), .host = SPAN("mx.e.test"), .dialogue = SPAN("RCPT"), .destination = SPAN("e.test"), .route = SPAN("mx2.test")},
     {.id = 1003, .parent = 1001, .state = QUEUE_HELD, .address = SPAN("f@e.test"), .orcpt = SPAN("")}},
    {{.id = 2001, .state = QUEUE_LIMITED, .address = SPAN("g@h.test"), .orcpt = SPAN("")}},
    {{.id = 2002, .state = QUEUE_PARKED, .address = SPAN("i@j.test"), .orcpt = SPAN(""), .next = 5}},
};
static const size_t counts[] = {3, 1, 1};

static char content_at(size_t message, size_t i)
{
    return (char)(i * 7 + message);
}

static void put_all(struct buf *out)
{
    struct qfile_writer *w = qfile_writer_new();
    qfile_begin(w, SPAN("old.test"), 1700000000000, 5, out);
    for (size_t m = 0; m < COUNT_OF(messages); m++) {
        struct buf body = {0};
        for (size_t i = 0; i < messages[m].size; i++)
            buf_addc(&body, content_at(m, i));
        qfile_message(w, &messages[m], (uint32_t)messages[m].size / 3, out);
        for (size_t i = 0; i < counts[m]; i++)
            qfile_recipient(w, &recipients[m][i], out);
        qfile_content(w, span_sub(buf_span(&body), 0, 5), out);
        qfile_content(w, span_from(buf_span(&body), MIN_OF(body.n, (size_t)5)), out);
        qfile_message_end(w, out);
        buf_free(&body);
    }
    qfile_end(w, out);
    qfile_writer_free(&w);
}

#define SAME_SPAN(a, b, what) cr_assert(((a).p != NULL) == ((b).p != NULL) && span_eq(a, b), "%s", what)

static void same_message(const struct queue_message *a, const struct queue_message *b)
{
    cr_assert(a->id == b->id && a->received == b->received && a->size == b->size && a->header_bytes == b->header_bytes && a->origin == b->origin && a->ret == b->ret &&
              a->body_kind == b->body_kind && a->smtputf8 == b->smtputf8 && a->tls_need == b->tls_need && a->by_mode == b->by_mode && a->terminal == b->terminal &&
              a->priority == b->priority && a->deliver_by == b->deliver_by && a->hold_until == b->hold_until && a->spooled == b->spooled);
    SAME_SPAN(a->sender, b->sender, "sender");
    SAME_SPAN(a->helo, b->helo, "helo");
    SAME_SPAN(a->remote, b->remote, "remote");
    SAME_SPAN(a->message_id, b->message_id, "message_id");
    SAME_SPAN(a->envid, b->envid, "envid");
    SAME_SPAN(a->tls, b->tls, "tls");
    SAME_SPAN(a->login, b->login, "login");
    SAME_SPAN(a->policy, b->policy, "policy");
    SAME_SPAN(a->hold, b->hold, "hold");
    SAME_SPAN(a->marks, b->marks, "marks");
}

static void same_recipient(const struct queue_recipient *a, const struct queue_recipient *b)
{
    cr_assert(a->id == b->id && a->parent == b->parent && a->state == b->state && a->depth == b->depth && a->notify == b->notify && a->passed == b->passed && a->told == b->told &&
              a->attempts == b->attempts && a->next == b->next && a->last == b->last && a->kind == b->kind && a->code == b->code && a->subject == b->subject && a->detail == b->detail);
    SAME_SPAN(a->address, b->address, "address");
    SAME_SPAN(a->original, b->original, "original");
    SAME_SPAN(a->orcpt, b->orcpt, "orcpt");
    SAME_SPAN(a->sender, b->sender, "sender");
    SAME_SPAN(a->why, b->why, "why");
    SAME_SPAN(a->host, b->host, "host");
    SAME_SPAN(a->dialogue, b->dialogue, "dialogue");
    SAME_SPAN(a->destination, b->destination, "destination");
    SAME_SPAN(a->route, b->route, "route");
}

/* Reads in pieces of `step`; whatever is told must be as it was written. Returns the last answer; *whole: messages told. */
static enum qfile_got read_all(struct span file, size_t step, size_t *whole, struct err *err)
{
    struct qfile_reader r;
    enum qfile_got got = QFILE_MORE;
    size_t content = 0;
    *whole = 0;
    qfile_reader_init(&r);
    while (got != QFILE_BAD && (file.n || got != QFILE_MORE)) {
        struct span in = span_sub(file, 0, step);
        size_t given = in.n;
        got = qfile_next(&r, &in, err);
        file = span_from(file, given - in.n);
        if (got == QFILE_FACTS)
            content = 0;
        for (size_t i = 0; got == QFILE_CONTENT && i < r.part.n; i++, content++)
            if (*whole < COUNT_OF(messages) && r.message.size == messages[*whole].size && r.part.p[i] != content_at(*whole, content))
                content = SIZE_MAX / 2; /* seen to be wrong: it must not become whole */
        if (got == QFILE_MESSAGE) {
            cr_assert(*whole < COUNT_OF(messages) && content == messages[*whole].size && r.count == counts[*whole]);
            same_message(&r.message, &messages[*whole]);
            for (size_t i = 0; i < r.count; i++)
                same_recipient(&r.recipients[i], &recipients[*whole][i]);
            cr_assert_eq(r.prefix, messages[*whole].size / 3);
            ++*whole;
        }
        if (got == QFILE_END && file.n == 0)
            break;
    }
    if (got != QFILE_BAD && qfile_finish(&r, err) && got == QFILE_END)
        got = QFILE_MORE;
    qfile_reader_free(&r);
    return got;
}

Test(qfile, what_is_written_is_read_back)
{
    static const size_t steps[] = {1, 2, 3, 7, 100, 65536, SIZE_MAX};
    struct buf f = {0};
    struct err err = {""};
    size_t whole;
    put_all(&f);
    for (size_t i = 0; i < COUNT_OF(steps); i++) {
        cr_assert_eq(read_all(buf_span(&f), steps[i], &whole, &err), QFILE_END, "%zu: %s", steps[i], err.text);
        cr_assert_eq(whole, COUNT_OF(messages));
    }
    buf_free(&f);
}

Test(qfile, what_is_cut_off_has_no_end)
{
    struct buf f = {0};
    struct err err;
    size_t whole;
    put_all(&f);
    for (size_t n = 0; n < f.n; n += n < 2000 || f.n - n < 2000 ? 1 : 997) {
        cr_assert_eq(read_all(span_make(f.p, n), 4096, &whole, &err), QFILE_MORE, "%zu of %zu", n, f.n);
        cr_assert(strstr(err.text, "cut off"), "%s", err.text);
    }
    buf_addc(&f, 'E');
    cr_assert_neq(read_all(buf_span(&f), 4096, &whole, &err), QFILE_END, "one byte behind it");
    buf_free(&f);
}

Test(qfile, a_changed_bit_is_seen)
{
    struct buf f = {0};
    struct err err;
    size_t whole;
    put_all(&f);
    for (size_t n = 0; n < f.n; n += n < 2000 || f.n - n < 1000 ? 1 : 1999)
        for (int bit = 0; bit < 8; bit++) {
            f.p[n] ^= (char)(1 << bit);
            cr_assert_neq(read_all(buf_span(&f), 70000, &whole, &err), QFILE_END, "bit %d of byte %zu", bit, n);
            f.p[n] ^= (char)(1 << bit);
        }
    buf_free(&f);
}

/* A file that is made to harm has right checksums: it is written by the writer, with facts that no queue has. */
static void refused(const struct queue_message *m, const struct queue_recipient *r, size_t n, const char *part, const char *why)
{
    struct qfile_writer *w = qfile_writer_new();
    struct qfile_reader rd;
    struct buf f = {0};
    struct err err = {""};
    enum qfile_got got;
    qfile_begin(w, SPAN("h.test"), 1, 0, &f);
    qfile_message(w, m, 0, &f);
    for (size_t i = 0; i < n; i++)
        qfile_recipient(w, &r[i], &f);
    qfile_content(w, span_of(part), &f);
    qfile_message_end(w, &f);
    qfile_end(w, &f);
    qfile_reader_init(&rd);
    struct span in = buf_span(&f);
    while ((got = qfile_next(&rd, &in, &err)) != QFILE_BAD && got != QFILE_END && got != QFILE_MORE)
        ;
    if (why)
        cr_assert(got == QFILE_BAD && strstr(err.text, why) && strstr(err.text, "at byte"), "%s: %d %s", why, (int)got, err.text);
    else
        cr_assert_eq(got, QFILE_END, "%s", err.text);
    cr_assert_eq(rd.messages, why ? 0u : 1u);
    qfile_reader_free(&rd);
    qfile_writer_free(&w);
    buf_free(&f);
}

Test(qfile, what_no_queue_has_is_refused)
{
    static const struct queue_message good = {.id = 5, .origin = QUEUE_FROM_OUTSIDE, .sender = SPAN("a@b.test"), .size = 3};
    static const struct queue_recipient to = {.id = 6, .state = QUEUE_WAITING, .address = SPAN("c@d.test")};
    struct queue_message m = good;
    struct queue_recipient r[2] = {to, to};
    refused(&good, r, 1, "abc", NULL);
    refused(&good, r, 1, "ab", "shorter");
    refused(&good, r, 1, "abcd", "longer");
    refused(&good, r, 0, "abc", "without a recipient");
    refused(&good, r, 2, "abc", "order");
#define WITH(field, value, why) m = good, m.field = value, refused(&m, r, 1, "abc", why)
    WITH(id, 0, "without id");
    WITH(id, QID_MAX + 1, "id is out of its range");
    WITH(origin, 0, "without origin");
    WITH(origin, 9, "origin is out");
    WITH(received, -1, "received is out");
    WITH(header_bytes, 4, "larger than itself");
    WITH(size, UINT64_C(1) << 41, "size is out");
    WITH(priority, 10, "priority is out");
    WITH(sender, SPAN("a@b.test>\r\nRCPT TO:<x@y.test"), "sender has control");
    WITH(envid, SPAN("x\n"), "envid has control");
    WITH(message_id, SPAN("x\0y"), "message_id has control");
#undef WITH
#define WITH(field, value, why) r[0] = to, r[0].field = value, refused(&good, r, 1, "abc", why)
    WITH(id, 0, "without id");
    WITH(state, 0, "without state");
    WITH(state, 7, "state is out");
    WITH(address, SPAN(""), "without address");
    WITH(address, SPAN("x@y.test\r"), "address has control");
    WITH(parent, 5, "parent is missing");
    WITH(state, QUEUE_EXPANDED, "without a recipient");
    WITH(code, 1000, "code is out");
#undef WITH
}

static void raw(struct span bytes, const char *why)
{
    struct qfile_reader r;
    struct err err = {""};
    enum qfile_got got;
    qfile_reader_init(&r);
    while ((got = qfile_next(&r, &bytes, &err)) != QFILE_BAD && got != QFILE_END && (got != QFILE_MORE || bytes.n))
        ;
    cr_assert(got == QFILE_BAD && strstr(err.text, why), "%s: %d %s", why, (int)got, err.text);
    cr_assert_eq(qfile_next(&r, &bytes, &err), QFILE_BAD, "for ever");
    qfile_reader_free(&r);
}

Test(qfile, what_is_no_such_file_is_refused_at_once)
{
    raw(SPAN("From a@b.test"), "not a file of");
    raw(SPAN("waypost queue 1\nQ\xff\xff\xff\xff"), "4294967295 bytes");
    raw(SPAN("waypost queue 1\nM\0\0\0\0"), "kind 0x4d");
    raw(SPAN("waypost queue 1\nQ\x04\0\0\0\x01\0\0\0"), "longer than its record");
    raw(SPAN("waypost queue 1\nQ\x06\0\0\0\x01\x02\0\0\0x"), "longer than its record");
    raw(SPAN("waypost queue 1\nQ\x05\0\0\0\x63\0\0\0\0"), "field 99 is unknown");
    raw(SPAN("waypost queue 1\nQ\x0a\0\0\0\x01\0\0\0\0\x01\0\0\0\0"), "field 1 comes after field 1");
    raw(SPAN("waypost queue 1\nQ\x06\0\0\0\x02\x01\0\0\0x"), "made is no number");
    raw(SPAN("waypost queue 1\nQ\0\0\0\0Z\0\0\0\0"), "kind 0x5a");
}
