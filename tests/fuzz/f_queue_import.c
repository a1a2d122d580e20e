/* Any bytes as the file of `waypost queue export`. No crash; nothing is told that is not in its order and its bounds. The
 * checksums of the input are made right first, so that what lies behind them is reached. */
#include <sodium.h>
#include <stdlib.h>

#include "queue/qfile.h"

static void must(bool good)
{
    if (!good)
        abort();
}

static size_t length_at(const char *p)
{
    return (unsigned char)p[1] | (size_t)(unsigned char)p[2] << 8 | (size_t)(unsigned char)p[3] << 16 | (size_t)(unsigned char)p[4] << 24;
}

static void mend(struct buf *f)
{
    crypto_generichash_state message __attribute__((aligned(64)));
    size_t at = 16;
    crypto_generichash_init(&message, NULL, 0, QFILE_SUM);
    while (f->n - at >= 5 && length_at(f->p + at) <= f->n - at - 5) {
        size_t n = 5 + length_at(f->p + at);
        if (f->p[at] == 'M' || f->p[at] == 'R' || f->p[at] == 'C')
            crypto_generichash_update(&message, (unsigned char *)f->p + at, n);
        if (f->p[at] == 'S' && n == 5 + QFILE_SUM) {
            crypto_generichash_final(&message, (unsigned char *)f->p + at + 5, QFILE_SUM);
            crypto_generichash_init(&message, NULL, 0, QFILE_SUM);
        }
        at += n;
    }
}

static void read_in(struct span file, size_t step)
{
    struct qfile_reader r;
    struct err err;
    enum qfile_got got = QFILE_MORE;
    uint64_t content = 0, told = 0;
    bool facts = false;
    qfile_reader_init(&r);
    while (got != QFILE_BAD && (file.n || got != QFILE_MORE)) {
        struct span in = span_sub(file, 0, step);
        size_t given = in.n;
        got = qfile_next(&r, &in, &err);
        file = span_from(file, given - in.n);
        if (got == QFILE_FACTS) {
            must(!facts && r.count && r.message.id && r.message.id <= QID_MAX && r.prefix <= r.message.size);
            for (size_t i = 0; i < r.count; i++)
                must(r.recipients[i].address.n && span_find(r.recipients[i].address, '\n') < 0 && r.recipients[i].state <= QUEUE_LIMITED);
            facts = true;
            content = 0;
        } else if (got == QFILE_CONTENT) {
            must(facts && r.part.n);
            content += r.part.n;
        } else if (got == QFILE_MESSAGE) {
            must(facts && content == r.message.size && r.messages == ++told);
            facts = false;
        } else if (got == QFILE_END) {
            must(!facts);
            if (!file.n)
                break;
        }
    }
    qfile_reader_free(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct buf f = {0};
    read_in(span_make((const char *)data, n), 4096);
    buf_add(&f, span_make((const char *)data, n));
    if (n > 16)
        mend(&f);
    read_in(buf_span(&f), n % 13 + 1);
    buf_free(&f);
    return 0;
}
