#include "queue/qfile.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/util.h"

#define MAGIC "waypost queue 1\n"
#define MAGIC_N (sizeof MAGIC - 1)
#define HEAD 5 /* of a record: its kind, then the length of the rest */
#define FIELD 5 /* of a field: its number, then its length */
#define ADDRESS_MAX 1024
#define WORDS_MAX 4096
#define TIME_MAX (INT64_C(1) << 53)

enum { RECORD_BEGIN = 'Q', RECORD_MESSAGE = 'M', RECORD_RECIPIENT = 'R', RECORD_CONTENT = 'C', RECORD_SUM = 'S', RECORD_END = 'E' };

/* The fields, N(number, name, least, most) and T(number, name, most, wire): numbers are never used again for another meaning.
 * wire: it goes into commands to other hosts, so nothing but a line of text may be in it. */
#define BEGIN_FIELDS(N, T) T(1, host, 255, true) N(2, made, 0, TIME_MAX) N(3, total, 0, INT64_MAX)
#define MESSAGE_FIELDS(N, T)                                                                                           \
    N(1, id, 1, QID_MAX) T(2, sender, ADDRESS_MAX, true) N(3, origin, 1, 5) T(4, helo, ADDRESS_MAX, true)                   \
    T(5, remote, 255, true) N(6, received, 0, TIME_MAX) N(7, size, 0, INT64_C(1) << 40) N(8, header_bytes, 0, UINT32_MAX)  \
    T(9, message_id, WORDS_MAX, false) T(10, envid, ADDRESS_MAX, true) N(11, ret, 0, 2) N(12, body_kind, 0, 2)             \
    N(13, smtputf8, 0, 1) N(14, spooled, 0, 1) T(15, tls, WORDS_MAX, false) T(16, login, WORDS_MAX, false)                 \
    N(17, tls_need, 0, 2) N(18, by_mode, 0, 7) N(19, deliver_by, 0, TIME_MAX) N(20, hold_until, 0, TIME_MAX)               \
    T(21, hold, 255, true) N(22, priority, -9, 9) N(23, terminal, 0, 3) T(24, policy, WORDS_MAX, false) T(25, marks, WORDS_MAX, false)
#define PREFIX_FIELD 26
#define RECIPIENT_FIELDS(N, T)                                                                                         \
    N(1, id, 1, QID_MAX) N(2, parent, 0, QID_MAX) N(3, depth, 0, 255) N(4, notify, 0, 15) N(5, state, 1, 6)               \
    N(6, passed, 0, 3) N(7, told, 0, 1) N(8, attempts, 0, UINT32_MAX) N(9, next, 0, TIME_MAX)                              \
    T(10, address, ADDRESS_MAX, true) T(11, original, ADDRESS_MAX, true) T(12, orcpt, ADDRESS_MAX, true)                   \
    T(13, sender, ADDRESS_MAX, true) N(14, last, 0, TIME_MAX) N(15, kind, 0, 5) N(16, code, 0, 999)                        \
    N(17, subject, 0, 999) N(18, detail, 0, 999) T(19, why, WORDS_MAX, false) T(20, host, WORDS_MAX, false)                \
    T(21, dialogue, WORDS_MAX, false) T(22, destination, ADDRESS_MAX, false) T(23, route, ADDRESS_MAX, true)

static void put_le(unsigned char *to, uint64_t n, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        to[i] = (unsigned char)(n >> 8 * i);
}

static uint64_t get_le(const char *from, size_t bytes)
{
    uint64_t n = 0;
    for (size_t i = bytes; i > 0; i--)
        n = n << 8 | (unsigned char)from[i - 1];
    return n;
}

/* ---- checksums: BLAKE2b of 16 bytes (RFC 7693) ---- */

struct sums {
    crypto_generichash_state message, file; /* the file's: of its first record and of all messages' */
};

static struct sums *sums_new(void)
{
    size_t align = _Alignof(struct sums) < 64 ? 64 : _Alignof(struct sums);
    struct sums *s = aligned_alloc(align, (sizeof *s + align - 1) / align * align);
    if (!s)
        abort();
    crypto_generichash_init(&s->message, NULL, 0, QFILE_SUM);
    crypto_generichash_init(&s->file, NULL, 0, QFILE_SUM);
    return s;
}

static void sum_add(crypto_generichash_state *s, struct span bytes)
{
    crypto_generichash_update(s, (const unsigned char *)bytes.p, bytes.n);
}

static void sum_take(crypto_generichash_state *s, unsigned char out[QFILE_SUM])
{
    crypto_generichash_final(s, out, QFILE_SUM);
    crypto_generichash_init(s, NULL, 0, QFILE_SUM);
}

/* ---- writing ---- */

struct qfile_writer {
    struct sums *sums;
    uint64_t messages, recipients;
};

struct qfile_writer *qfile_writer_new(void)
{
    struct qfile_writer *w = mem_alloc(sizeof *w);
    w->sums = sums_new();
    return w;
}

void qfile_writer_free(struct qfile_writer **w)
{
    if (!*w)
        return;
    free((*w)->sums);
    mem_free(w);
}

static size_t record_begin(struct buf *out, char kind)
{
    buf_addc(out, kind);
    buf_add(out, SPAN("\0\0\0\0"));
    return out->n;
}

static struct span record_end(struct buf *out, size_t from)
{
    put_le((unsigned char *)out->p + from - 4, out->n - from, 4);
    return span_make(out->p + from - HEAD, out->n - from + HEAD);
}

static void put_field(struct buf *out, unsigned number, struct span value)
{
    unsigned char head[FIELD] = {(unsigned char)number};
    put_le(head + 1, value.n, 4);
    buf_add(out, span_make((const char *)head, FIELD));
    buf_add(out, value);
}

/* What is 0 is left out. */
static void put_number(struct buf *out, unsigned number, int64_t n)
{
    unsigned char bytes[8];
    put_le(bytes, (uint64_t)n, 8);
    if (n)
        put_field(out, number, span_make((const char *)bytes, 8));
}

static void put_text(struct buf *out, unsigned number, struct span s, size_t most)
{
    if (s.p)
        put_field(out, number, span_sub(s, 0, most));
}

#define PUT_N(number, name, least, most) put_number(out, number, (int64_t)v->name);
#define PUT_T(number, name, most, wire) put_text(out, number, v->name, most);

struct begin {
    struct span host;
    int64_t made;
    uint64_t total;
};

void qfile_begin(struct qfile_writer *w, struct span host, int64_t made, uint64_t total, struct buf *out)
{
    const struct begin *v = &(struct begin){host, made, total};
    buf_adds(out, MAGIC);
    size_t from = record_begin(out, RECORD_BEGIN);
    BEGIN_FIELDS(PUT_N, PUT_T)
    sum_add(&w->sums->file, record_end(out, from));
}

void qfile_message(struct qfile_writer *w, const struct queue_message *v, uint32_t prefix, struct buf *out)
{
    size_t from = record_begin(out, RECORD_MESSAGE);
    MESSAGE_FIELDS(PUT_N, PUT_T)
    put_number(out, PREFIX_FIELD, prefix);
    sum_add(&w->sums->message, record_end(out, from));
    w->messages++;
}

void qfile_recipient(struct qfile_writer *w, const struct queue_recipient *v, struct buf *out)
{
    size_t from = record_begin(out, RECORD_RECIPIENT);
    RECIPIENT_FIELDS(PUT_N, PUT_T)
    sum_add(&w->sums->message, record_end(out, from));
    w->recipients++;
}

void qfile_content(struct qfile_writer *w, struct span part, struct buf *out)
{
    for (; part.n; part = span_from(part, MIN_OF(part.n, (size_t)QFILE_CHUNK))) {
        size_t from = record_begin(out, RECORD_CONTENT);
        buf_add(out, span_sub(part, 0, QFILE_CHUNK));
        sum_add(&w->sums->message, record_end(out, from));
    }
}

void qfile_message_end(struct qfile_writer *w, struct buf *out)
{
    unsigned char sum[QFILE_SUM];
    sum_take(&w->sums->message, sum);
    size_t from = record_begin(out, RECORD_SUM);
    buf_add(out, span_make((const char *)sum, sizeof sum));
    record_end(out, from);
    sum_add(&w->sums->file, span_make((const char *)sum, sizeof sum));
}

void qfile_end(struct qfile_writer *w, struct buf *out)
{
    unsigned char end[16 + QFILE_SUM];
    put_le(end, w->messages, 8);
    put_le(end + 8, w->recipients, 8);
    sum_take(&w->sums->file, end + 16);
    size_t from = record_begin(out, RECORD_END);
    buf_add(out, span_make((const char *)end, sizeof end));
    record_end(out, from);
}

/* ---- reading ---- */

enum where { AT_MAGIC, AT_BEGIN, BETWEEN, IN_RECIPIENTS, IN_CONTENT, AT_END, IS_BAD };

struct qfile_state {
    struct sums *sums;
    struct buf kept; /* a record whose end has not come */
    struct arena names, arena;
    size_t facts, cap;
    uint64_t content; /* of this message, until now */
    enum where where;
};

void qfile_reader_init(struct qfile_reader *r)
{
    *r = (struct qfile_reader){.state = mem_alloc(sizeof *r->state)};
    r->state->sums = sums_new();
}

void qfile_reader_free(struct qfile_reader *r)
{
    struct qfile_state *s = r->state;
    if (!s)
        return;
    free(s->sums);
    buf_free(&s->kept);
    arena_free(&s->names);
    arena_free(&s->arena);
    mem_free(&r->recipients);
    mem_free(&r->state);
}

struct field {
    unsigned number;
    struct span value;
};

/* The next field, behind `last`. 1: there is one, 0: the end, -1: bad. */
static int next_field(struct span *rest, unsigned last, struct field *f, struct err *err)
{
    if (rest->n == 0)
        return 0;
    if (rest->n < FIELD || get_le(rest->p + 1, 4) > rest->n - FIELD)
        return err_set(err, "a field is longer than its record");
    f->number = (unsigned char)rest->p[0];
    f->value = span_sub(*rest, FIELD, (size_t)get_le(rest->p + 1, 4));
    *rest = span_from(*rest, FIELD + f->value.n);
    return f->number > last ? 1 : err_set(err, "field %u comes after field %u", f->number, last);
}

static int take_number(const struct field *f, const char *name, int64_t least, int64_t most, int64_t *out, struct err *err)
{
    if (f->value.n != 8)
        return err_set(err, "%s is no number", name);
    *out = (int64_t)get_le(f->value.p, 8);
    return *out < least || *out > most ? err_set(err, "%s is out of its range", name) : 0;
}

static bool is_line(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f)
            return false;
    return true;
}

static int take_text(const struct field *f, const char *name, size_t most, bool wire, struct arena *a, struct span *out,
                     struct err *err)
{
    if (f->value.n > most)
        return err_set(err, "%s is longer than %zu bytes", name, most);
    if (span_find(f->value, '\0') >= 0 || (wire && !is_line(f->value)))
        return err_set(err, "%s has control characters in it", name);
    *out = arena_dup(a, f->value);
    return 0;
}

#define TAKE_N(number, name, least, most)                                      \
    case number:                                                               \
        if (take_number(&f, #name, least, most, &n, err))                      \
            return -1;                                                         \
        v->name = (__typeof__(v->name))n;                                      \
        break;
#define TAKE_T(number, name, most, wire)                                       \
    case number:                                                               \
        if (take_text(&f, #name, most, wire, a, &v->name, err))                \
            return -1;                                                         \
        break;
#define TAKE_FIELDS(list, more)                                                \
    struct field f = {0};                                                      \
    int64_t n = 0;                                                             \
    int got;                                                                   \
    while ((got = next_field(&rest, f.number, &f, err)) > 0)                   \
        switch (f.number) {                                                    \
            list(TAKE_N, TAKE_T) more                                          \
            default: return err_set(err, "field %u is unknown: a newer waypost wrote it", f.number); \
        }                                                                      \
    if (got < 0)                                                               \
        return -1;

static int read_begin(struct span rest, struct arena *a, struct begin *v, struct err *err)
{
    TAKE_FIELDS(BEGIN_FIELDS, )
    return 0;
}

static int read_message(struct span rest, struct arena *a, struct queue_message *v, uint32_t *prefix, struct err *err)
{
    *v = (struct queue_message){0};
    *prefix = 0;
    TAKE_FIELDS(MESSAGE_FIELDS,
                case PREFIX_FIELD:
                    if (take_number(&f, "prefix", 0, UINT32_MAX, &n, err))
                        return -1;
                    *prefix = (uint32_t)n;
                    break;)
    if (!v->id || !v->origin)
        return err_set(err, "a message without %s", v->id ? "origin" : "id");
    if (v->header_bytes > v->size || *prefix > v->size)
        return err_set(err, "a message whose parts are larger than itself");
    return 0;
}

static int read_recipient(struct span rest, struct arena *a, struct queue_recipient *v, struct err *err)
{
    *v = (struct queue_recipient){0};
    TAKE_FIELDS(RECIPIENT_FIELDS, )
    if (!v->id || !v->state || !v->address.n)
        return err_set(err, "a recipient without %s", !v->id ? "id" : !v->state ? "state" : "address");
    return 0;
}

static int add_recipient(struct qfile_reader *r, struct span rest, struct err *err)
{
    struct qfile_state *s = r->state;
    struct queue_recipient one;
    s->facts += sizeof one + rest.n;
    if (s->facts > QFILE_FACTS_MAX)
        return err_set(err, "a message with too many recipients");
    if (read_recipient(rest, &s->arena, &one, err))
        return -1;
    if (r->count && r->recipients[r->count - 1].id >= one.id)
        return err_set(err, "recipients that are not in the order of their ids");
    if (r->count == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 8;
        r->recipients = mem_resize(r->recipients, s->cap * sizeof *r->recipients);
    }
    r->recipients[r->count++] = one;
    return 0;
}

static int begin_file(struct qfile_reader *r, struct span rest, struct err *err)
{
    struct begin b = {.host = SPAN("")};
    if (read_begin(rest, &r->state->names, &b, err))
        return -1;
    r->host = b.host;
    r->made = b.made;
    r->total = b.total;
    r->state->where = BETWEEN;
    return QFILE_BEGIN;
}

static int begin_message(struct qfile_reader *r, struct span rest, struct err *err)
{
    struct qfile_state *s = r->state;
    arena_reset(&s->arena);
    s->facts = rest.n;
    s->content = 0;
    r->count = 0;
    s->where = IN_RECIPIENTS;
    return read_message(rest, &s->arena, &r->message, &r->prefix, err) ? -1 : QFILE_MORE;
}

static int content(struct qfile_reader *r, struct span rest, struct err *err)
{
    struct qfile_state *s = r->state;
    if (rest.n == 0 || rest.n > QFILE_CHUNK || rest.n > r->message.size - s->content)
        return err_set(err, "content that is longer than its message says, or none");
    s->content += rest.n;
    r->part = rest;
    return QFILE_CONTENT;
}

static int end_message(struct qfile_reader *r, struct span rest, struct err *err)
{
    struct qfile_state *s = r->state;
    unsigned char sum[QFILE_SUM];
    if (s->content != r->message.size)
        return err_set(err, "content that is shorter than its message says");
    sum_take(&s->sums->message, sum);
    if (rest.n != QFILE_SUM || memcmp(rest.p, sum, QFILE_SUM) != 0)
        return err_set(err, "message %s is not as it was written (its checksum is wrong)", qid_text(r->message.id).text);
    sum_add(&s->sums->file, rest);
    r->messages++;
    r->recipient_count += r->count;
    s->where = BETWEEN;
    return QFILE_MESSAGE;
}

static int end_file(struct qfile_reader *r, struct span rest, struct err *err)
{
    struct qfile_state *s = r->state;
    unsigned char sum[QFILE_SUM];
    sum_take(&s->sums->file, sum);
    if (rest.n != 16 + QFILE_SUM || get_le(rest.p, 8) != r->messages || get_le(rest.p + 8, 8) != r->recipient_count ||
        memcmp(rest.p + 16, sum, QFILE_SUM) != 0)
        return err_set(err, "messages are missing, or the end is not as it was written");
    s->where = AT_END;
    return QFILE_END;
}

static int misplaced(char kind, struct err *err)
{
    return err_set(err, "a record of kind 0x%02x where none may be", (unsigned char)kind);
}

/* One whole record. -1, or what is told. */
static int take_record(struct qfile_reader *r, char kind, struct span whole, struct err *err)
{
    struct qfile_state *s = r->state;
    struct span rest = span_from(whole, HEAD);
    if (kind == RECORD_MESSAGE || kind == RECORD_RECIPIENT || kind == RECORD_CONTENT)
        sum_add(&s->sums->message, whole);
    switch (s->where) {
    case AT_BEGIN:
        sum_add(&s->sums->file, whole);
        return kind == RECORD_BEGIN ? begin_file(r, rest, err) : misplaced(kind, err);
    case BETWEEN:
        return kind == RECORD_MESSAGE ? begin_message(r, rest, err)
               : kind == RECORD_END   ? end_file(r, rest, err)
                                      : misplaced(kind, err);
    case IN_RECIPIENTS:
        return kind == RECORD_RECIPIENT ? (add_recipient(r, rest, err) ? -1 : QFILE_MORE) : misplaced(kind, err);
    case IN_CONTENT:
        return kind == RECORD_CONTENT ? content(r, rest, err)
               : kind == RECORD_SUM   ? end_message(r, rest, err)
                                      : misplaced(kind, err);
    default: return err_set(err, "something behind the end");
    }
}

/* The record at the front, when all of it has come: in one piece, in *whole. 1, 0: more is needed, -1. */
static int whole_record(struct qfile_state *s, struct span *in, struct span *whole, struct err *err)
{
    while (s->kept.n < HEAD && (s->kept.n || in->n < HEAD)) {
        if (in->n == 0)
            return 0;
        size_t n = MIN_OF(HEAD - s->kept.n, in->n);
        buf_add(&s->kept, span_sub(*in, 0, n));
        *in = span_from(*in, n);
    }
    const char *head = s->kept.n ? s->kept.p : in->p;
    size_t length = (size_t)get_le(head + 1, 4);
    if (length > QFILE_RECORD_MAX)
        return err_set(err, "a record of %zu bytes: no file of waypost has one", length);
    if (s->kept.n == 0 && in->n >= HEAD + length) {
        *whole = span_sub(*in, 0, HEAD + length);
        *in = span_from(*in, HEAD + length);
        return 1;
    }
    size_t n = MIN_OF(HEAD + length - s->kept.n, in->n);
    buf_add(&s->kept, span_sub(*in, 0, n));
    *in = span_from(*in, n);
    *whole = buf_span(&s->kept);
    return s->kept.n == HEAD + length;
}

/* -1, 1: it is there, 0: more is needed. */
static int take_magic(struct qfile_state *s, struct span *in, struct err *err)
{
    size_t n = MIN_OF(MAGIC_N - s->kept.n, in->n);
    buf_add(&s->kept, span_sub(*in, 0, n));
    *in = span_from(*in, n);
    if (s->kept.n && memcmp(s->kept.p, MAGIC, s->kept.n) != 0)
        return err_set(err, "not a file of 'waypost queue export'");
    if (s->kept.n < MAGIC_N)
        return 0;
    buf_clear(&s->kept);
    s->where = AT_BEGIN;
    return 1;
}

static enum qfile_got bad(struct qfile_reader *r, const struct err *why, struct err *err)
{
    r->state->where = IS_BAD;
    err_set(err, "at byte %llu: %s", (unsigned long long)r->at, why->text);
    return QFILE_BAD;
}

/* True: the next record belongs to the content, and the facts were not told yet. */
static bool facts_due(const struct qfile_state *s, const struct span *in)
{
    char kind = s->kept.n ? s->kept.p[0] : in->n ? in->p[0] : 0;
    return s->where == IN_RECIPIENTS && (kind == RECORD_CONTENT || kind == RECORD_SUM);
}

static int parents_there(const struct qfile_reader *r, struct err *err)
{
    bool real = false;
    for (size_t i = 0; i < r->count; i++) {
        uint64_t parent = r->recipients[i].parent;
        bool found = parent == 0;
        for (size_t low = 0, high = i; !found && low < high;) {
            size_t middle = low + (high - low) / 2;
            found = r->recipients[middle].id == parent && r->recipients[middle].state == QUEUE_EXPANDED;
            if (r->recipients[middle].id < parent)
                low = middle + 1;
            else
                high = middle;
        }
        if (!found)
            return err_set(err, "a recipient whose parent is missing");
        real |= r->recipients[i].state != QUEUE_EXPANDED;
    }
    return real ? 0 : err_set(err, "a message without a recipient");
}

enum qfile_got qfile_next(struct qfile_reader *r, struct span *in, struct err *err)
{
    struct qfile_state *s = r->state;
    struct err why = {""};
    struct span whole = SPAN_NONE;
    int got = s->where == IS_BAD ? err_set(&why, "it was bad before") : 1;
    r->part = SPAN_NONE;
    while (got > 0) {
        size_t before = in->n;
        if (facts_due(s, in)) {
            s->where = IN_CONTENT;
            return parents_there(r, &why) ? bad(r, &why, err) : QFILE_FACTS;
        }
        if (s->where == AT_MAGIC) {
            got = take_magic(s, in, &why);
            r->at += got < 0 ? 0 : before - in->n;
            continue;
        }
        if (s->where == AT_END && in->n == 0)
            return QFILE_MORE;
        got = whole_record(s, in, &whole, &why);
        if (got > 0) {
            int told = take_record(r, whole.p[0], whole, &why);
            if (told < 0)
                return bad(r, &why, err);
            r->at += before - in->n;
            if (told != QFILE_CONTENT || whole.p != s->kept.p)
                buf_clear(&s->kept);
            else
                s->kept.n = 0; /* its bytes are still there until the next call */
            if (told != QFILE_MORE)
                return (enum qfile_got)told;
        } else {
            r->at += before - in->n;
        }
    }
    return got < 0 ? bad(r, &why, err) : QFILE_MORE;
}

int qfile_finish(const struct qfile_reader *r, struct err *err)
{
    return r->state->where == AT_END
               ? 0
               : err_set(err, "at byte %llu: the file ends before its end: it is cut off", (unsigned long long)r->at);
}
