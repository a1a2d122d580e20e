/* Flags and keywords: in commands, and in FLAGS lists. RFC 3501 §2.3.2. */
#include "imap/impl.h"

static const struct {
    const char *name;
    uint32_t bit;
} system_flags[] = {
    {"\\Answered", IMAP_ANSWERED}, {"\\Flagged", IMAP_FLAGGED}, {"\\Deleted", IMAP_DELETED},
    {"\\Seen", IMAP_SEEN},         {"\\Draft", IMAP_DRAFT},
};

#define FLAGS_MAX 200 /* in one list */

static bool take_system(struct lex *x, struct flags *out)
{
    struct span name;
    if (!lex_atom(x, &name))
        return false;
    for (size_t i = 0; i < COUNT_OF(system_flags); i++)
        if (span_ieqs(name, system_flags[i].name + 1)) {
            out->system |= system_flags[i].bit;
            return true;
        }
    return false; /* \Recent can't be set, others don't exist */
}

static bool take_flag(struct lex *x, struct flags *out)
{
    if (lex_char(x, '\\'))
        return take_system(x, out);
    struct span name;
    if (out->keywords_n == FLAGS_MAX || !lex_atom(x, &name))
        return false;
    out->keywords[out->keywords_n++] = name;
    return true;
}

/* "(\Seen word)"; for STORE also without parentheses (RFC3501:9 store-att-flags). */
bool flags_parse(struct lex *x, struct flags *out, bool need_list)
{
    *out = (struct flags){.keywords = arena_alloc(x->arena, FLAGS_MAX * sizeof *out->keywords)};
    bool list = lex_char(x, '(');
    if (!list && need_list)
        return false;
    if (list && lex_char(x, ')'))
        return true;
    do {
        if (!take_flag(x, out))
            return false;
    } while (lex_sp(x));
    return !list || lex_char(x, ')');
}

int flags_bits(struct imap *s, uint64_t mailbox, const struct flags *f, bool create, uint64_t *bits)
{
    *bits = 0;
    for (size_t i = 0; i < f->keywords_n; i++) {
        unsigned bit = 0;
        int r = s->b->keyword(s->ctx, mailbox, f->keywords[i], create, &bit, &s->err);
        if (r == IMAP_NO_SUCH && !create)
            continue;
        if (r != IMAP_DONE)
            return r;
        *bits |= UINT64_C(1) << bit;
    }
    return IMAP_DONE;
}

void flags_put_system(struct imap *s, uint32_t system, const char **between)
{
    for (size_t i = 0; i < COUNT_OF(system_flags); i++)
        if (system & system_flags[i].bit) {
            imap_text(s, *between);
            imap_text(s, system_flags[i].name);
            *between = " ";
        }
}

static void put_keywords(struct imap *s, uint64_t bits, const char **between)
{
    for (unsigned i = 0; bits; i++, bits >>= 1)
        if ((bits & 1) && s->view.keywords[i].p) {
            imap_text(s, *between);
            buf_add(&s->out, s->view.keywords[i]);
            *between = " ";
        }
}

void view_put_flags(struct imap *s, const struct imap_row *row)
{
    const char *between = "";
    imap_text(s, "(");
    flags_put_system(s, row->flags, &between);
    put_keywords(s, row->keywords, &between);
    if (view_is_recent(&s->view, row->uid)) {
        imap_text(s, between);
        imap_text(s, "\\Recent");
    }
    imap_text(s, ")");
}

/* "* FLAGS (…)", and what of it can be kept. */
void view_put_all_flags(struct imap *s, bool permanent)
{
    const char *between = "";
    imap_text(s, "* FLAGS (");
    flags_put_system(s, UINT32_MAX, &between);
    put_keywords(s, s->view.keyword_bits, &between);
    imap_text(s, ")\r\n* OK [PERMANENTFLAGS (");
    between = "";
    if (permanent) {
        flags_put_system(s, UINT32_MAX, &between);
        put_keywords(s, s->view.keyword_bits, &between);
        imap_text(s, " \\*");
    }
    imap_text(s, permanent ? ")] New keywords are welcome\r\n" : ")] Nothing can be changed\r\n");
}

bool view_load_keywords(struct imap *s)
{
    struct view *v = &s->view;
    arena_reset(&v->keyword_arena);
    memset(v->keywords, 0, sizeof v->keywords);
    v->keyword_bits = 0;
    if (s->b->keywords(s->ctx, v->mailbox, &v->keyword_arena, v->keywords, &s->err) != IMAP_DONE)
        return false;
    for (unsigned i = 0; i < IMAP_KEYWORDS; i++)
        if (v->keywords[i].p)
            v->keyword_bits |= UINT64_C(1) << i;
    return true;
}

void view_know_keywords(struct imap *s, uint64_t bits)
{
    if (!(bits & ~s->view.keyword_bits) || !view_load_keywords(s))
        return;
    view_put_all_flags(s, !s->view.read_only);
}
