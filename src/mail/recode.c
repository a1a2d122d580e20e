#include "mail/recode.h"

#include "base/base64.h"
#include "base/mem.h"
#include "mail/mime.h"
#include "mail/words.h"

#define LINE_IN 57            /* octets of a line of base64: 76 characters, RFC2045:6.8 */
#define PIECE (LINE_IN * 512) /* read at a time */
#define LINE_MAX_BYTES 998    /* RFC5322:2.1.1 */

enum op_kind { OP_COPY, OP_BASE64, OP_TEXT };

struct op {
    struct op *next;
    enum op_kind kind;
    uint64_t at, n; /* of the source */
    struct span text;
};

struct recode {
    struct recode_source from;
    struct arena arena;
    struct op *first, **last;
    uint64_t size;
    char room[PIECE];
    /* while planning: */
    bool seven, changed;
    uint64_t planned; /* up to here the source has its place */
    unsigned inside_signed;
    enum recode_result why;
    struct err *err;
};

/* ---- looking ---- */

enum { EIGHT = 1, ODD = 2 }; /* bytes above 0x7f; NUL, CR or LF alone, a line too long */

struct look {
    unsigned found;
    bool cr;
    size_t line;
};

static void look_at(struct look *l, struct span s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (l->cr != (c == '\n') || c == '\0')
            l->found |= ODD;
        l->cr = c == '\r';
        l->line = c == '\n' ? 0 : l->line + (c != '\r');
        if (l->line > LINE_MAX_BYTES)
            l->found |= ODD;
        if (c >= 0x80)
            l->found |= EIGHT;
    }
}

static unsigned look_through(struct recode *r, uint64_t at, uint64_t end)
{
    struct look l = {0};
    while (at < end && r->why == RECODE_READY) {
        size_t n = (size_t)MIN_OF(end - at, (uint64_t)PIECE);
        if (r->from.read(r->from.ctx, at, r->room, n, r->err))
            r->why = RECODE_FAILED;
        else
            look_at(&l, span_make(r->room, n));
        at += n;
    }
    return l.found | (l.cr ? ODD : 0u);
}

static void give_up(struct recode *r, enum recode_result why)
{
    if (r->why == RECODE_READY)
        r->why = why;
}

/* ---- the plan ---- */

static void add_op(struct recode *r, enum op_kind kind, uint64_t at, uint64_t n, struct span text)
{
    struct op *o = arena_alloc(&r->arena, sizeof *o);
    uint64_t lines = (n + LINE_IN - 1) / LINE_IN;
    *o = (struct op){.kind = kind, .at = at, .n = n, .text = text};
    *r->last = o;
    r->last = &o->next;
    r->size += kind == OP_TEXT ? text.n : kind == OP_COPY ? n : lines * 2 + (n + 2) / 3 * 4;
}

/* What stays as it is, up to there. loose: it is neither a header nor a body, and was not looked at. */
static void copy_to(struct recode *r, uint64_t end, bool loose)
{
    if (end < r->planned) {
        give_up(r, RECODE_HARD);
        return;
    }
    if (loose && look_through(r, r->planned, end) & (ODD | (r->seven ? EIGHT : 0u)))
        give_up(r, RECODE_HARD);
    if (end > r->planned)
        add_op(r, OP_COPY, r->planned, end - r->planned, SPAN_NONE);
    r->planned = end;
}

/* The header with another Content-Transfer-Encoding; the MIME-Version of a message that had none comes with it. */
static void relabel(struct recode *r, const struct mime_part *p, const char *encoding)
{
    uint64_t n = p->body - p->header;
    struct buf text = {0};
    struct header_field f;
    bool versioned = p->parent && !p->parent->rfc822;
    if (n > HEADER_MAX) {
        give_up(r, RECODE_HARD);
        return;
    }
    char *header = arena_alloc(&r->arena, (size_t)n + 1);
    if (r->from.read(r->from.ctx, p->header, header, (size_t)n, r->err)) {
        give_up(r, RECODE_FAILED);
        return;
    }
    for (struct span rest = span_make(header, (size_t)n); header_next(&rest, &f);) {
        versioned |= span_ieqs(f.name, "MIME-Version");
        if (!span_ieqs(f.name, "Content-Transfer-Encoding"))
            buf_add(&text, f.raw);
    }
    buf_printf(&text, "%sContent-Transfer-Encoding: %s\r\n\r\n", versioned ? "" : "MIME-Version: 1.0\r\n", encoding);
    copy_to(r, p->header, false);
    add_op(r, OP_TEXT, 0, 0, arena_dup(&r->arena, buf_span(&text)));
    r->planned = p->body;
    r->changed = true;
    buf_free(&text);
}

static void plan_leaf(struct recode *r, const struct mime_part *p)
{
    unsigned found = look_through(r, p->body, p->end);
    bool encoded = p->encoding.p && transfer_of(p->encoding) != TRANSFER_NONE;
    bool binary = p->encoding.p && span_ieqs(span_trim(p->encoding), "binary");
    bool unfit = (found & ODD) || (r->seven && (found & EIGHT));
    bool labelled = r->seven && p->encoding.p && span_ieqs(span_trim(p->encoding), "8bit") && !r->inside_signed;
    if (!unfit && !binary && labelled)
        relabel(r, p, "7bit");
    if (!unfit && !binary)
        return;
    if (r->inside_signed)
        give_up(r, RECODE_SIGNED);
    if (encoded || span_ieqs(p->type, "message") || span_ieqs(p->type, "multipart"))
        give_up(r, RECODE_HARD); /* RFC2045:6.4 */
    relabel(r, p, "base64");
    if (p->end > p->body)
        add_op(r, OP_BASE64, p->body, p->end - p->body, SPAN_NONE);
    r->planned = p->end;
}

static void plan_part(struct recode *r, const struct mime_part *p)
{
    bool within = p->multipart || p->rfc822;
    bool signed_ = p->multipart && span_ieqs(p->subtype, "signed");
    struct span encoding = p->encoding.p ? span_trim(p->encoding) : SPAN("");
    bool label = within && (span_ieqs(encoding, "binary") || (r->seven && span_ieqs(encoding, "8bit")));
    if (r->why != RECODE_READY || p->end == p->header)
        return;
    copy_to(r, p->header, true);
    if (look_through(r, p->header, p->body) & (ODD | (r->seven ? EIGHT : 0u)))
        give_up(r, RECODE_HARD);
    if (label && r->inside_signed)
        give_up(r, RECODE_SIGNED);
    if (label)
        relabel(r, p, r->seven ? "7bit" : "8bit");
    if (!within) {
        plan_leaf(r, p);
        copy_to(r, p->end, false);
        return;
    }
    copy_to(r, p->body, false);
    r->inside_signed += signed_;
    for (const struct mime_part *c = p->children; c; c = c->next)
        plan_part(r, c);
    r->inside_signed -= signed_;
    copy_to(r, p->end, true);
}

static struct mime *parse(struct recode *r)
{
    struct mime *m = mime_new();
    for (uint64_t at = 0; at < r->from.size && r->why == RECODE_READY;) {
        size_t n = (size_t)MIN_OF(r->from.size - at, (uint64_t)PIECE);
        if (r->from.read(r->from.ctx, at, r->room, n, r->err))
            r->why = RECODE_FAILED;
        else
            mime_feed(m, span_make(r->room, n));
        at += n;
    }
    return m;
}

enum recode_result recode_open(struct recode **out, const struct recode_source *from, bool seven, struct err *err)
{
    struct recode *r = mem_alloc(sizeof *r);
    r->from = *from;
    r->seven = seven;
    r->last = &r->first;
    r->why = RECODE_READY;
    r->err = err;
    struct mime *m = parse(r);
    plan_part(r, mime_end(m));
    copy_to(r, r->from.size, true);
    mime_free(&m);
    enum recode_result why = r->why == RECODE_READY && !r->changed ? RECODE_AS_IT_IS : r->why;
    *out = r;
    if (why != RECODE_READY)
        recode_free(out);
    return why;
}

void recode_free(struct recode **r)
{
    if (!*r)
        return;
    arena_free(&(*r)->arena);
    mem_free(r);
}

uint64_t recode_size(const struct recode *r)
{
    return r->size;
}

/* ---- carrying it out ---- */

static void put_base64(struct buf *out, struct span s)
{
    for (; s.n; s = span_from(s, LINE_IN)) {
        base64_encode(span_sub(s, 0, LINE_IN), out);
        buf_adds(out, "\r\n");
    }
}

int recode_next(struct recode *r, struct buf *out, struct err *err)
{
    struct op *o = r->first;
    if (!o)
        return 0;
    if (o->kind == OP_TEXT) {
        buf_add(out, o->text);
        r->first = o->next;
        return 1;
    }
    size_t n = (size_t)MIN_OF(o->n, (uint64_t)PIECE);
    if (r->from.read(r->from.ctx, o->at, r->room, n, err))
        return -1;
    if (o->kind == OP_COPY)
        buf_add(out, span_make(r->room, n));
    else
        put_base64(out, span_make(r->room, n));
    o->at += n;
    o->n -= n;
    if (o->n == 0)
        r->first = o->next;
    return 1;
}
