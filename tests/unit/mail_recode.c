/* Binary content made fit for lines: what is changed, what is not, and what must not be. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "base/mem.h"
#include "mail/mime.h"
#include "mail/recode.h"
#include "mail/words.h"

static int from_span(void *ctx, uint64_t at, char *to, size_t n, struct err *err)
{
    const struct span *s = ctx;
    if (at + n > s->n)
        return err_set(err, "beyond the end");
    memcpy(to, s->p + at, n);
    return 0;
}

static int broken(void *ctx, uint64_t at, char *to, size_t n, struct err *err)
{
    return at > 100 ? err_set(err, "gone") : from_span(ctx, at, to, n, err);
}

static enum recode_result recode(struct span in, bool seven, struct buf *out)
{
    const struct recode_source from = {from_span, &in, in.n};
    struct recode *r;
    struct err err;
    enum recode_result why = recode_open(&r, &from, seven, &err);
    if (why != RECODE_READY)
        return why;
    uint64_t size = recode_size(r);
    while (recode_next(r, out, &err) > 0)
        ;
    cr_assert_eq(out->n, size, "%zu octets, %llu told", out->n, (unsigned long long)size);
    recode_free(&r);
    return why;
}

static void expect(struct span in, bool seven, enum recode_result why, const char *text)
{
    struct buf out = {0};
    enum recode_result got = recode(in, seven, &out);
    cr_assert_eq(got, why, "%d instead of %d: %.*s", (int)got, (int)why, SPANV(in));
    if (text)
        cr_assert(span_eqs(buf_span(&out), text), "got\n%s\nwant\n%s", buf_cstr(&out), text);
    buf_free(&out);
}

#define LITERAL(s) span_make(s, sizeof(s) - 1)

Test(mail_recode, one_part)
{
    expect(LITERAL("Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: binary\r\nTo: y\r\n\r\n\0\r\1\n"), false, RECODE_READY,
           "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: image/png\r\nTo: y\r\nContent-Transfer-Encoding: base64\r\n\r\nAA0BCg==\r\n");
    /* not labelled, and no MIME at all */
    expect(LITERAL("Subject: x\r\n\r\na\nb\r\n"), false, RECODE_READY, "Subject: x\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: base64\r\n\r\nYQpiDQo=\r\n");
    expect(LITERAL("Subject: x\r\n\r\nfine\r\n"), false, RECODE_AS_IT_IS, NULL);
    expect(LITERAL("Subject: x\r\n\r\nf\xc3\xbcr\r\n"), false, RECODE_AS_IT_IS, NULL);
    expect(LITERAL("Subject: x\r\n\r\nf\xc3\xbcr\r\n"), true, RECODE_READY, "Subject: x\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: base64\r\n\r\nZsO8cg0K\r\n");
    expect(LITERAL("Subject: x\r\n"), true, RECODE_AS_IT_IS, NULL);
    expect(SPAN(""), true, RECODE_AS_IT_IS, NULL);
    expect(LITERAL("Subject: f\xc3\xbcr\r\n\r\n\0"), false, RECODE_READY, "Subject: f\xc3\xbcr\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: base64\r\n\r\nAA==\r\n");
}

#define TOP "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: binary\r\n\r\nfirst\r\n--b\r\n"
#define TOP8 "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: 8bit\r\n\r\nfirst\r\n--b\r\n"

Test(mail_recode, parts_and_messages_inside)
{
    expect(LITERAL(TOP "Content-Type: text/plain\r\n\r\ntext\r\n--b\r\nContent-Transfer-Encoding: binary\r\n\r\n\0\0\0\r\n--b--\r\nlast\r\n"), false, RECODE_READY,
           TOP8 "Content-Type: text/plain\r\n\r\ntext\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n\r\n--b--\r\nlast\r\n");
    expect(LITERAL(TOP "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: binary\r\n\r\nSubject: in\r\n\r\n\0\0\0\r\n--b--\r\n"), false, RECODE_READY,
           TOP8 "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSubject: in\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n\r\n--b--\r\n");
    /* for seven bits: what is 8-bit too, and the labels around it */
    expect(LITERAL("Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: 8bit\r\nMIME-Version: 1.0\r\n\r\n--b\r\n\r\n\xc3\xbc\r\n--b--\r\n"), true, RECODE_READY,
           "Content-Type: multipart/mixed; boundary=b\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: 7bit\r\n\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\nw7w=\r\n\r\n--b--\r\n");
    /* one that is labelled 8-bit and is not */
    expect(LITERAL("MIME-Version: 1.0\r\nContent-Transfer-Encoding: 8bit\r\n\r\nx\r\n"), true, RECODE_READY, "MIME-Version: 1.0\r\nContent-Transfer-Encoding: 7bit\r\n\r\nx\r\n");
    expect(LITERAL("MIME-Version: 1.0\r\nContent-Transfer-Encoding: 8bit\r\n\r\nx\r\n"), false, RECODE_AS_IT_IS, NULL);
    /* a part without header, one without anything, no closing delimiter */
    expect(LITERAL(TOP "\r\na\rb\r\n--b\r\n--b\r\n\r\nz"), false, RECODE_READY, TOP8 "Content-Transfer-Encoding: base64\r\n\r\nYQ1i\r\n\r\n--b\r\n--b\r\n\r\nz");
}

#define SIGNED "MIME-Version: 1.0\r\nContent-Type: multipart/signed; boundary=s; protocol=\"application/pgp-signature\"\r\n\r\n--s\r\n"

/* RFC1847:2.1: what is signed stays as it is, or comes back. */
Test(mail_recode, what_must_not_be_changed)
{
    expect(LITERAL(SIGNED "Content-Transfer-Encoding: binary\r\n\r\n\0\r\n--s\r\nContent-Type: application/pgp-signature\r\n\r\nx\r\n--s--\r\n"), false, RECODE_SIGNED, NULL);
    expect(LITERAL(SIGNED "Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: binary\r\n\r\n--b\r\n\r\ntext\r\n--b--\r\n--s--\r\n"), false, RECODE_SIGNED, NULL);
    expect(LITERAL(SIGNED "\r\n\xc3\xbc\r\n--s--\r\n"), true, RECODE_SIGNED, NULL);
    expect(LITERAL(SIGNED "\r\ntext\r\n--s--\r\n"), true, RECODE_AS_IT_IS, NULL);
    expect(LITERAL("Content-Transfer-Encoding: base64\r\n\r\nAA\0==\r\n"), false, RECODE_HARD, NULL); /* RFC2045:6.4 */
    expect(LITERAL("Content-Type: message/partial\r\n\r\nAA\0==\r\n"), false, RECODE_HARD, NULL);
    expect(LITERAL("Subject: a\rb\r\n\r\n\0"), false, RECODE_HARD, NULL);
    expect(LITERAL("Subject: \xc3\xbc\r\n\r\nx\r\n"), true, RECODE_HARD, NULL);
    expect(LITERAL("Content-Type: multipart/mixed; boundary=b\r\n\r\n\0\r\n--b\r\n\r\nx\r\n--b--\r\n"), false, RECODE_HARD, NULL);
    expect(LITERAL("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n\0"), false, RECODE_HARD, NULL);
}

/* Large ones in pieces: the octets are all there, and no line of base64 has more than 76 characters, RFC2045:6.8. */
Test(mail_recode, large)
{
    struct buf in = {0}, out = {0};
    buf_adds(&in, TOP "Content-Transfer-Encoding: binary\r\n\r\n");
    size_t start = in.n, n = 300000;
    for (size_t i = 0; i < n; i++)
        buf_addc(&in, (char)(i * 7919 >> 3));
    buf_adds(&in, "\r\n--b--\r\n");
    cr_assert_eq(recode(buf_span(&in), true, &out), RECODE_READY);
    struct span body = buf_span(&out);
    body = span_from(body, (size_t)span_search(body, SPAN("base64\r\n\r\n")) + 10);
    struct buf decoded = {0};
    struct transfer_state st = {0};
    transfer_decode(TRANSFER_BASE64, &st, span_sub(body, 0, (size_t)span_search(body, SPAN("\r\n--b--"))), true, &decoded);
    cr_assert(span_eq(buf_span(&decoded), span_sub(buf_span(&in), start, n)));
    for (struct span rest = body; rest.n;)
        cr_assert_leq(span_trim(span_cut(&rest, '\n')).n, 76);
    cr_assert(span_is_ascii(buf_span(&out)));
    struct span all = buf_span(&in);
    const struct recode_source from = {broken, &all, all.n};
    struct recode *r;
    struct err err;
    cr_assert_eq(recode_open(&r, &from, false, &err), RECODE_FAILED);
    buf_free(&in);
    buf_free(&out);
    buf_free(&decoded);
}

/* Whatever comes: what comes out has lines only, of 7 bits when that was asked for. */
Test(mail_recode, any_octets)
{
    static const char *const words[] = {"\r\n", "--b", "--", "Content-Type: multipart/mixed; boundary=b\r\n", "Content-Type: message/rfc822\r\n", "Content-Transfer-Encoding: binary\r\n", "\r\n\r\n",
                                        "\n", "\r", "text", "\xff", "x: y\r\n"};
    srand(1);
    for (int round = 0; round < 20000; round++) {
        struct buf in = {0}, out = {0};
        for (int i = rand() % 20; i >= 0; i--)
            buf_adds(&in, words[rand() % (int)COUNT_OF(words)]);
        bool seven = round % 2;
        if (recode(buf_span(&in), seven, &out) == RECODE_READY) {
            struct span s = buf_span(&out);
            cr_assert(!seven || span_is_ascii(s), "%s", buf_cstr(&in));
            for (size_t i = 0; i < s.n; i++)
                cr_assert(s.p[i] != '\n' || (i && s.p[i - 1] == '\r'), "%s\n->\n%s", buf_cstr(&in), buf_cstr(&out));
        }
        buf_free(&in);
        buf_free(&out);
    }
}
