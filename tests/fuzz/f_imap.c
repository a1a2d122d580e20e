/* The IMAP engine over two mailboxes in memory; the input is what the client sends, its first part (up to a NUL) also a
 * message there. Whatever comes: replies are lines and literals of the protocol, the same whole and in pieces, and the
 * engine always goes on. */
#include <stdlib.h>

#include "base/mem.h"
#include "imap/engine.h"
#include "mail/header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MESSAGES 4

static void must(bool good)
{
    if (!good)
        abort();
}

static struct imap *session;
static struct imap_row rows[2][64]; /* of INBOX and Other */
static size_t rows_n[2];
static uint32_t uidnext[2];
static struct span contents[MESSAGES];
static unsigned open_contents, stages;

static struct imap_mailbox box_of(uint64_t id)
{
    return (struct imap_mailbox){.id = id,
                                 .name = id == 1 ? SPAN("INBOX") : SPAN("Other"),
                                 .use = id == 2 ? "\\Sent" : NULL,
                                 .uidvalidity = (uint32_t)id,
                                 .uidnext = uidnext[id - 1],
                                 .messages = (uint32_t)rows_n[id - 1],
                                 .recent_from = 2};
}

static void tell(enum imap_change_kind kind, uint64_t box, const uint32_t *uids, size_t n)
{
    struct imap_change c = {.kind = kind, .mailbox = box, .uids = uids, .n = n};
    if (session)
        imap_changed(session, &c);
}

static bool add(uint64_t box, struct imap_row row, uint32_t *uid)
{
    size_t i = box - 1;
    if (rows_n[i] == 64)
        return false;
    *uid = row.uid = uidnext[i]++;
    rows[i][rows_n[i]++] = row;
    return true;
}

static int64_t now(void *ctx UNUSED)
{
    return 1795426867000;
}

static void trouble(void *ctx UNUSED, const struct err *why)
{
    must(why != NULL);
}

static int list(void *ctx UNUSED, struct arena *a, struct imap_mailbox **out, size_t *n, struct err *err UNUSED)
{
    *out = arena_alloc(a, 2 * sizeof **out);
    (*out)[0] = box_of(1);
    (*out)[1] = box_of(2);
    *n = 2;
    return 0;
}

static int subscriptions(void *ctx UNUSED, struct arena *a, struct span **names, size_t *n, struct err *err UNUSED)
{
    *names = arena_alloc(a, 2 * sizeof **names);
    (*names)[0] = SPAN("Other");
    (*names)[1] = SPAN("gone/away");
    *n = 2;
    return 0;
}

static int find(void *ctx UNUSED, struct span name, struct arena *a UNUSED, struct imap_mailbox *out,
                struct err *err UNUSED)
{
    must(span_is_utf8(name));
    if (!span_ieqs(name, "INBOX") && !span_eqs(name, "Other"))
        return IMAP_NO_SUCH;
    *out = box_of(name.n == 5 && ascii_lower(*name.p) == 'i' ? 1 : 2);
    return 0;
}

static int status(void *ctx UNUSED, uint64_t box, struct imap_mailbox *out, struct err *err UNUSED)
{
    *out = box_of(box);
    return 0;
}

static int one_name(void *ctx UNUSED, struct span name, struct err *err UNUSED)
{
    must(span_is_utf8(name));
    return name.n % 2 ? IMAP_EXISTS : IMAP_DONE;
}

static int two_names(void *ctx UNUSED, struct span from, struct span to, struct err *err UNUSED)
{
    must(span_is_utf8(from) && span_is_utf8(to));
    return IMAP_BAD_NAME;
}

static int subscribe(void *ctx UNUSED, struct span name, bool on UNUSED, struct err *err UNUSED)
{
    return name.n % 3 ? IMAP_DONE : IMAP_LIMIT;
}

static int claim_recent(void *ctx UNUSED, uint64_t box UNUSED, uint32_t *from, struct err *err UNUSED)
{
    *from = 2;
    return 0;
}

static int keywords(void *ctx UNUSED, uint64_t box UNUSED, struct arena *a UNUSED, struct span names[IMAP_KEYWORDS],
                    struct err *err UNUSED)
{
    names[3] = SPAN("three");
    return 0;
}

static int keyword(void *ctx UNUSED, uint64_t box UNUSED, struct span name, bool create, unsigned *bit,
                   struct err *err UNUSED)
{
    *bit = 3;
    return create || span_ieqs(name, "three") ? IMAP_DONE : IMAP_NO_SUCH;
}

static int scan(void *ctx UNUSED, uint64_t box, uint32_t lo, uint32_t hi, struct imap_rows *out, struct err *err UNUSED)
{
    out->v = mem_resize(out->v, (out->n + 64) * sizeof *out->v);
    for (size_t i = 0; i < rows_n[box - 1]; i++)
        if (rows[box - 1][i].uid >= lo && rows[box - 1][i].uid <= hi)
            out->v[out->n++] = rows[box - 1][i];
    return 0;
}

static struct imap_row *row_of(uint64_t box, uint32_t uid)
{
    for (size_t i = 0; i < rows_n[box - 1]; i++)
        if (rows[box - 1][i].uid == uid)
            return &rows[box - 1][i];
    return NULL;
}

static int set_flags(void *ctx UNUSED, uint64_t box, const uint32_t *uids, size_t n, enum imap_flag_mode mode,
                     uint32_t flags, uint64_t bits, struct err *err UNUSED)
{
    for (size_t i = 0; i < n; i++) {
        struct imap_row *r = row_of(box, uids[i]);
        if (!r)
            continue;
        r->flags = mode == IMAP_FLAGS_ADD ? r->flags | flags : mode == IMAP_FLAGS_REMOVE ? r->flags & ~flags : flags;
        r->keywords = mode == IMAP_FLAGS_ADD      ? r->keywords | bits
                      : mode == IMAP_FLAGS_REMOVE ? r->keywords & ~bits
                                                  : bits;
    }
    tell(IMAP_CHANGE_FLAGS, box, uids, n);
    return 0;
}

static void remove_row(uint64_t box, uint32_t uid)
{
    struct imap_row *r = row_of(box, uid);
    size_t i = (size_t)(r - rows[box - 1]);
    memmove(r, r + 1, (--rows_n[box - 1] - i) * sizeof *r);
}

static int expunge(void *ctx UNUSED, uint64_t box, const uint32_t *uids, size_t n, struct err *err UNUSED)
{
    for (size_t i = 0; i < n; i++)
        if (row_of(box, uids[i]) && (row_of(box, uids[i])->flags & IMAP_DELETED)) {
            remove_row(box, uids[i]);
            tell(IMAP_CHANGE_EXPUNGED, box, &uids[i], 1);
        }
    return 0;
}

static int copy(void *ctx UNUSED, uint64_t from, const uint32_t *uids, size_t n, uint64_t to, bool move,
                struct imap_pair *pairs, size_t *pairs_n, struct err *err UNUSED)
{
    *pairs_n = 0;
    for (size_t i = 0; i < n; i++) {
        struct imap_row *r = row_of(from, uids[i]);
        uint32_t uid;
        if (!r || !add(to, *r, &uid))
            continue;
        pairs[(*pairs_n)++] = (struct imap_pair){uids[i], uid};
        if (move) {
            remove_row(from, uids[i]);
            tell(IMAP_CHANGE_EXPUNGED, from, &uids[i], 1);
        }
    }
    tell(IMAP_CHANGE_NEW, to, NULL, 0);
    return 0;
}

static struct imap_stage *stage_new(void *ctx UNUSED)
{
    stages++;
    return mem_alloc(1);
}

static int stage_write(void *ctx UNUSED, struct imap_stage *g, struct span bytes, struct err *err UNUSED)
{
    must(g && bytes.n > 0);
    return 0;
}

static void stage_free(void *ctx UNUSED, struct imap_stage **g)
{
    stages -= *g != NULL;
    mem_free(g);
}

static int append(void *ctx UNUSED, uint64_t box, struct imap_stage **g, const struct imap_new *m, uint32_t *uid,
                  uint32_t *uidvalidity, struct err *err UNUSED)
{
    stage_free(NULL, g);
    *uidvalidity = (uint32_t)box;
    struct imap_row row = {
        .flags = m->flags, .keywords = m->keywords, .date_ms = m->date_ms, .content = 1, .size = contents[1].n};
    bool done = add(box, row, uid);
    tell(IMAP_CHANGE_NEW, box, NULL, 0);
    return done ? IMAP_DONE : IMAP_FULL;
}

static int open_content(void *ctx UNUSED, uint64_t content, struct imap_content **out, struct err *err UNUSED)
{
    *out = (struct imap_content *)&contents[content];
    open_contents++;
    return 0;
}

static void close_content(void *ctx UNUSED, struct imap_content **c)
{
    open_contents--;
    *c = NULL;
}

static uint64_t content_size(const struct imap_content *c)
{
    return ((const struct span *)c)->n;
}

static uint64_t header_size(const struct imap_content *c)
{
    return header_length(*(const struct span *)c);
}

static struct span content_bytes(const struct imap_content *c)
{
    return (const struct span *)c == &contents[2] ? SPAN_NONE : *(const struct span *)c;
}

static ptrdiff_t read_content(struct imap_content *c, uint64_t offset, void *to, size_t n, struct err *err UNUSED)
{
    struct span some = span_sub(*(const struct span *)c, (size_t)offset, n);
    if (some.n)
        memcpy(to, some.p, some.n);
    return (ptrdiff_t)some.n;
}

static int header(void *ctx UNUSED, uint64_t content, size_t max, struct buf *out, struct err *err UNUSED)
{
    size_t n = header_length(contents[content]);
    buf_add(out, span_sub(contents[content], 0, MIN_OF(n, max)));
    return 0;
}

static int cache_get(void *ctx UNUSED, uint64_t content UNUSED, struct arena *a UNUSED, struct span *envelope,
                     struct span *structure, struct err *err UNUSED)
{
    *envelope = *structure = SPAN_NONE;
    return 0;
}

static void cache_put(void *ctx UNUSED, uint64_t content UNUSED, struct span envelope, struct span structure)
{
    must(envelope.n && structure.n);
}

static int sync_all(void *ctx UNUSED, struct err *err UNUSED)
{
    return 0;
}

static const struct imap_backend backend = {
    now,         trouble,       list,         subscriptions, find,      status,       one_name,      one_name,
    two_names,   subscribe,     claim_recent, keywords,      keyword,   scan,         set_flags,     expunge,
    copy,        stage_new,     stage_write,  stage_free,    append,    open_content, close_content, content_size,
    header_size, content_bytes, read_content, header,        cache_get, cache_put,    sync_all,
};

/* Lines end with CRLF, quotes close on their line, a literal is as long as it says; nothing holds a NUL (HAZARDS 7). */
static void check_replies(struct span s)
{
    must(!memchr(s.p ? s.p : "", 0, s.n));
    while (s.n) {
        const char *lf = memchr(s.p, '\n', s.n);
        must(lf && lf > s.p && lf[-1] == '\r');
        struct span line = span_make(s.p, (size_t)(lf - s.p) - 1);
        must(!memchr(line.p, '\r', line.n));
        s = span_from(s, line.n + 2);
        ptrdiff_t open = span_rfind(line, '{');
        uint64_t n;
        if (span_ends(line, SPAN("}")) && open >= 0 &&
            span_u64(span_sub(line, (size_t)open + 1, line.n - (size_t)open - 2), 1u << 30, &n)) {
            must(n <= s.n);
            s = span_from(s, (size_t)n);
            must(s.n > 0);
        }
    }
}

static void set_up(struct span message)
{
    static const char nested[] = "Subject: x\r\nContent-Type: multipart/mixed; "
                                 "boundary=b\r\n\r\n--b\r\n\r\none\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n"
                                 "From: a@b\r\n\r\ntwo\r\n--b--\r\n";
    contents[0] = SPAN("From: a@b.test\r\nSubject: hi\r\nDate: 1 Jan 2020 00:00 +0000\r\n\r\nbody\r\n");
    contents[1] = span_of(nested);
    contents[2] = contents[3] = message;
    memset(rows_n, 0, sizeof rows_n);
    uidnext[0] = uidnext[1] = 1;
    for (size_t i = 0; i < MESSAGES; i++) {
        uint32_t uid;
        add(1, (struct imap_row){.flags = (uint32_t)i, .keywords = i == 3 ? 8 : 0, .content = i, .size = contents[i].n},
            &uid);
        uidnext[0] += 2;
    }
}

static void drive(struct span message, struct span in, size_t piece, struct buf *out)
{
    set_up(message);
    struct imap_setup o = {.backend = &backend, .tag = SPAN("in"), .message_max = 10000};
    session = imap_new(&o);
    enum imap_want want = IMAP_INPUT;
    struct span first = SPAN("s SELECT INBOX\r\n");
    for (imap_run(session, &first); in.n && want != IMAP_OVER; in = span_from(in, piece)) {
        struct span some = span_sub(in, 0, piece);
        size_t steps = 0;
        do {
            want = imap_settle(session, imap_run(session, &some));
            buf_add(out, buf_span(imap_output(session)));
            buf_clear(imap_output(session));
            must(steps++ < 100000);
        } while (want == IMAP_ROOM || want == IMAP_TURN);
        must(want == IMAP_OVER || some.n == 0);
    }
    struct imap *s = session;
    session = NULL;
    imap_free(&s);
    must(open_contents == 0 && stages == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span in = span_make(data, size), message = in;
    struct buf whole = {0}, pieces = {0};
    ptrdiff_t nul = span_find(in, '\0');
    if (nul >= 0) {
        message.n = (size_t)nul;
        in = span_from(in, (size_t)nul + 1);
    }
    if (!message.p)
        message = SPAN("");
    drive(message, in, SIZE_MAX, &whole);
    check_replies(buf_span(&whole));
    drive(message, in, 1 + size % 5, &pieces);
    must(span_eq(buf_span(&whole), buf_span(&pieces)));
    buf_free(&whole);
    buf_free(&pieces);
    return 0;
}
