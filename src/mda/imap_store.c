/* The IMAP engine's backend over the store: the same things under the engine's names. */
#include "mda/imap_store.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

_Static_assert((int)STORE_FAILED == (int)IMAP_FAILED && (int)STORE_FULL == (int)IMAP_FULL &&
                   (int)STORE_NO_SUCH == (int)IMAP_NO_SUCH && (int)STORE_EXISTS == (int)IMAP_EXISTS &&
                   (int)STORE_BAD_NAME == (int)IMAP_BAD_NAME && (int)STORE_LIMIT == (int)IMAP_LIMIT &&
                   (int)STORE_NOT_ALLOWED == (int)IMAP_NOT_ALLOWED,
               "codes are passed on as they are");
_Static_assert((int)STORE_SEEN == (int)IMAP_SEEN && (int)STORE_ANSWERED == (int)IMAP_ANSWERED &&
                   (int)STORE_FLAGGED == (int)IMAP_FLAGGED && (int)STORE_DELETED == (int)IMAP_DELETED &&
                   (int)STORE_DRAFT == (int)IMAP_DRAFT && STORE_KEYWORDS_MAX == IMAP_KEYWORDS,
               "flags are passed on as they are");

static int64_t now(void *ctx)
{
    (void)ctx;
    return clock_wall();
}

static void trouble(void *ctx, const struct err *why)
{
    (void)ctx;
    LOGE("imap-trouble", KVT("why", why->text));
}

/* ---- mailboxes ---- */

static struct imap_mailbox mailbox_of(const struct store_mailbox *m)
{
    return (struct imap_mailbox){
        .id = m->id,
        .name = m->name,
        .use = store_special_name(m->special),
        .noselect = m->noselect,
        .children = m->children,
        .subscribed = m->subscribed,
        .uidvalidity = m->uidvalidity,
        .uidnext = m->uidnext,
        .messages = m->messages,
        .unseen = m->unseen,
        .recent_from = m->recent_from,
        .recent = m->recent,
    };
}

static int list(void *ctx, struct arena *a, struct imap_mailbox **out, size_t *n, struct err *err)
{
    struct store_mailbox *all;
    int r = store_list(ctx, a, &all, n, err);
    if (r != STORE_OK)
        return r;
    *out = arena_alloc(a, *n * sizeof **out);
    for (size_t i = 0; i < *n; i++)
        (*out)[i] = mailbox_of(&all[i]);
    return r;
}

static int subscriptions(void *ctx, struct arena *a, struct span **names, size_t *n, struct err *err)
{
    return store_subscriptions(ctx, a, names, n, err);
}

static int find(void *ctx, struct span name, struct arena *a, struct imap_mailbox *out, struct err *err)
{
    struct store_mailbox m;
    int r = store_find(ctx, name, a, &m, err);
    if (r == STORE_OK)
        *out = mailbox_of(&m);
    return r;
}

static int status(void *ctx, uint64_t mailbox, struct imap_mailbox *out, struct err *err)
{
    struct store_mailbox m;
    int r = store_status(ctx, mailbox, NULL, &m, err);
    if (r == STORE_OK)
        *out = mailbox_of(&m);
    return r;
}

static int create(void *ctx, struct span name, struct err *err)
{
    return store_create(ctx, name, STORE_PLAIN, NULL, err);
}

static int remove_mailbox(void *ctx, struct span name, struct err *err)
{
    return store_delete(ctx, name, err);
}

static int rename_mailbox(void *ctx, struct span from, struct span to, struct err *err)
{
    return store_rename(ctx, from, to, err);
}

static int subscribe(void *ctx, struct span name, bool on, struct err *err)
{
    return store_subscribe(ctx, name, on, err);
}

static int claim_recent(void *ctx, uint64_t mailbox, uint32_t *from, struct err *err)
{
    return store_claim_recent(ctx, mailbox, from, err);
}

static int keywords(void *ctx, uint64_t mailbox, struct arena *a, struct span names[IMAP_KEYWORDS], struct err *err)
{
    return store_keywords(ctx, mailbox, a, names, err);
}

static int keyword(void *ctx, uint64_t mailbox, struct span name, bool make, unsigned *bit, struct err *err)
{
    return store_keyword(ctx, mailbox, name, make, bit, err);
}

/* ---- messages ---- */

static void add_rows(struct imap_rows *out, const struct store_rows *in)
{
    if (out->cap - out->n < in->n) {
        out->cap = out->n + in->n;
        out->v = mem_resize(out->v, out->cap * sizeof *out->v);
    }
    for (size_t i = 0; i < in->n; i++) {
        const struct store_row *r = &in->v[i];
        out->v[out->n++] = (struct imap_row){.uid = r->uid,
                                             .flags = r->flags,
                                             .keywords = r->keywords,
                                             .size = r->size,
                                             .content = r->content,
                                             .date_ms = r->internaldate};
    }
}

static int scan(void *ctx, uint64_t mailbox, uint32_t lo, uint32_t hi, struct imap_rows *out, struct err *err)
{
    struct store_rows rows = {0};
    int r = store_scan(ctx, mailbox, lo, hi, &rows, err);
    if (r == STORE_OK)
        add_rows(out, &rows);
    store_rows_free(&rows);
    return r;
}

static int set_flags(void *ctx, uint64_t mailbox, const uint32_t *uids, size_t n, enum imap_flag_mode mode,
                     uint32_t flags, uint64_t bits, struct err *err)
{
    static const enum store_flag_mode modes[] = {STORE_FLAGS_ADD, STORE_FLAGS_REMOVE, STORE_FLAGS_REPLACE};
    return store_flags(ctx, mailbox, uids, n, modes[mode], flags, bits, NULL, err);
}

static int expunge(void *ctx, uint64_t mailbox, const uint32_t *uids, size_t n, struct err *err)
{
    return store_expunge(ctx, mailbox, uids, n, true, NULL, NULL, err);
}

static int copy(void *ctx, uint64_t from, const uint32_t *uids, size_t n, uint64_t to, bool move,
                struct imap_pair *pairs, size_t *pairs_n, struct err *err)
{
    struct store_copied *copied = mem_array(n, sizeof *copied);
    int r = move ? store_move(ctx, from, uids, n, to, copied, pairs_n, err)
                 : store_copy(ctx, from, uids, n, to, copied, pairs_n, err);
    for (size_t i = 0; r == STORE_OK && i < *pairs_n; i++)
        pairs[i] = (struct imap_pair){copied[i].from, copied[i].to};
    mem_free(&copied);
    return r;
}

/* ---- contents ---- */

static struct imap_stage *stage_new(void *ctx)
{
    return (struct imap_stage *)store_stage_new(ctx);
}

static int stage_write(void *ctx, struct imap_stage *g, struct span bytes, struct err *err)
{
    (void)ctx;
    return store_stage_write((struct store_stage *)g, bytes, err);
}

static void stage_free(void *ctx, struct imap_stage **g)
{
    (void)ctx;
    store_stage_free((struct store_stage **)g);
}

static int append(void *ctx, uint64_t mailbox, struct imap_stage **g, const struct imap_new *m, uint32_t *uid,
                  uint32_t *uidvalidity, struct err *err)
{
    struct store_new fresh = {.flags = m->flags,
                              .keywords = m->keywords,
                              .internaldate = m->date_ms,
                              .envelope = m->envelope,
                              .structure = m->structure};
    return store_append(ctx, mailbox, (struct store_stage **)g, &fresh, uid, uidvalidity, err);
}

static int open_content(void *ctx, uint64_t content, struct imap_content **out, struct err *err)
{
    return store_content_open(ctx, content, (struct store_content **)out, err);
}

static void close_content(void *ctx, struct imap_content **c)
{
    (void)ctx;
    store_content_close((struct store_content **)c);
}

static uint64_t content_size(const struct imap_content *c)
{
    return store_content_size((const struct store_content *)c);
}

static uint64_t header_size(const struct imap_content *c)
{
    return store_content_header((const struct store_content *)c);
}

static struct span content_bytes(const struct imap_content *c)
{
    return store_content_bytes((const struct store_content *)c);
}

static ptrdiff_t read_content(struct imap_content *c, uint64_t offset, void *to, size_t n, struct err *err)
{
    return store_content_read((struct store_content *)c, offset, to, n, err);
}

static int header(void *ctx, uint64_t content, size_t max, struct buf *out, struct err *err)
{
    return store_header(ctx, content, max, out, err);
}

static int cache_get(void *ctx, uint64_t content, struct arena *a, struct span *envelope, struct span *structure,
                     struct err *err)
{
    struct store_cache c;
    int r = store_cache_get(ctx, content, a, &c, err);
    if (r == STORE_OK) {
        *envelope = c.envelope;
        *structure = c.structure;
    }
    return r;
}

static void cache_put(void *ctx, uint64_t content, struct span envelope, struct span structure)
{
    store_cache_put(ctx, content, envelope, structure);
}

static int sync_store(void *ctx, struct err *err)
{
    return store_sync(ctx, err);
}

const struct imap_backend imap_store = {
    .now = now,
    .trouble = trouble,
    .list = list,
    .subscriptions = subscriptions,
    .find = find,
    .status = status,
    .create = create,
    .remove = remove_mailbox,
    .rename = rename_mailbox,
    .subscribe = subscribe,
    .claim_recent = claim_recent,
    .keywords = keywords,
    .keyword = keyword,
    .scan = scan,
    .set_flags = set_flags,
    .expunge = expunge,
    .copy = copy,
    .stage_new = stage_new,
    .stage_write = stage_write,
    .stage_free = stage_free,
    .append = append,
    .open = open_content,
    .close = close_content,
    .size = content_size,
    .header_size = header_size,
    .bytes = content_bytes,
    .read = read_content,
    .header = header,
    .cache_get = cache_get,
    .cache_put = cache_put,
    .sync = sync_store,
};
