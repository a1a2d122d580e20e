/* LIST and LSUB: RFC 3501 §6.3.8 and §6.3.9, extended by RFC 5258 (LIST-EXTENDED) and RFC 6154 (SPECIAL-USE), with the
 * attributes of RFC 3348. The hierarchy's delimiter is '/'. */
#include "base/map.h"
#include "imap/impl.h"
#include "imap/utf7.h"

enum {
    ONLY_SUBSCRIBED = 1, /* selection options */
    ONLY_SPECIAL = 2,
    RECURSIVE = 4,
    REMOTE = 8,
    RETURN_SUBSCRIBED = 16,
    RETURN_SPECIAL = 32,
    RETURN_CHILDREN = 64,
    EXTENDED = 128, /* written in the extended form */
};

#define PATTERNS_MAX 20
#define PATTERN_MAX 1024
#define NAME_ROW_MAX 2048 /* longer names match nothing */

struct listing {
    unsigned how;
    struct span patterns[PATTERNS_MAX]; /* UTF-8, reference in front */
    size_t patterns_n;
    struct imap_mailbox *boxes;
    size_t boxes_n;
    struct span *subscribed;
    size_t subscribed_n;
    struct map box_set, subscribed_set;
    struct map above; /* names that have a selected one below them, to what is said of that */
};

/* ---- patterns ---- */

/* The pattern's wildcards against the name: '*' anything, '%' anything but '/'. One table row for each byte of the
 * name: linear in the product of both lengths, whatever the wildcards (HAZARDS 23). */
static bool matches(struct span pattern, struct span name)
{
    bool row[NAME_ROW_MAX] = {true};
    if (name.n + 1 > COUNT_OF(row))
        return false;
    for (size_t i = 0; i < pattern.n; i++) {
        char p = pattern.p[i];
        bool wild = p == '*' || p == '%';
        bool before = row[0];
        row[0] = row[0] && wild;
        for (size_t k = 0; k < name.n; k++) {
            bool here = row[k + 1];
            if (wild)
                row[k + 1] = here || (row[k] && (p == '*' || name.p[k] != '/'));
            else
                row[k + 1] = before && p == name.p[k];
            before = here;
        }
    }
    return row[name.n];
}

/* INBOX is the same in any case (RFC3501:5.1). */
static struct span fold_inbox(struct span pattern, struct arena *a)
{
    struct span first = span_sub(pattern, 0, 5), rest = span_from(pattern, 5);
    if (!span_ieqs(first, "INBOX") || (rest.n && *rest.p != '/' && *rest.p != '*' && *rest.p != '%'))
        return pattern;
    return arena_printf(a, "INBOX%.*s", SPANV(rest));
}

static bool add_pattern(struct imap *s, struct lex *x, struct listing *l, struct span reference)
{
    struct span raw;
    struct buf name = {0};
    if (l->patterns_n == PATTERNS_MAX || !lex_list_mailbox(x, &raw) || raw.n > PATTERN_MAX)
        return false;
    buf_add(&name, reference);
    if (utf7_decode(raw, &name) == 0) /* what can't be a name matches none */
        l->patterns[l->patterns_n++] = fold_inbox(arena_dup(&s->arena, buf_span(&name)), &s->arena);
    buf_free(&name);
    return true;
}

static bool add_patterns(struct imap *s, struct lex *x, struct listing *l, struct span reference)
{
    if (!lex_char(x, '('))
        return add_pattern(s, x, l, reference);
    l->how |= EXTENDED;
    do {
        if (!add_pattern(s, x, l, reference))
            return false;
    } while (lex_sp(x));
    return lex_char(x, ')');
}

static bool wanted(const struct listing *l, struct span name)
{
    for (size_t i = 0; i < l->patterns_n; i++)
        if (matches(l->patterns[i], name))
            return true;
    return false;
}

/* ---- options ---- */

struct option {
    const char *name;
    unsigned bit;
};

static bool take_options(struct lex *x, const struct option *options, size_t n, unsigned *how)
{
    if (!lex_char(x, '('))
        return false;
    if (lex_char(x, ')'))
        return true;
    do {
        size_t i = 0;
        while (i < n && !lex_word(x, options[i].name))
            i++;
        if (i == n)
            return false;
        *how |= options[i].bit;
    } while (lex_sp(x));
    return lex_char(x, ')');
}

/* RFC5258:3.1, RFC6154:2 */
static bool take_selection(struct lex *x, struct listing *l)
{
    static const struct option options[] = {
        {"SUBSCRIBED", ONLY_SUBSCRIBED | RETURN_SUBSCRIBED},
        {"REMOTE", REMOTE},
        {"RECURSIVEMATCH", RECURSIVE},
        {"SPECIAL-USE", ONLY_SPECIAL | RETURN_SPECIAL},
    };
    l->how |= EXTENDED;
    if (!take_options(x, options, COUNT_OF(options), &l->how))
        return false;
    return !(l->how & RECURSIVE) ||
           (l->how & (ONLY_SUBSCRIBED | ONLY_SPECIAL)); /* RFC5258:3.1: it needs another one to act on */
}

/* RFC5258:3.2 */
static bool take_return(struct lex *x, struct listing *l)
{
    static const struct option options[] = {
        {"SUBSCRIBED", RETURN_SUBSCRIBED},
        {"CHILDREN", RETURN_CHILDREN},
        {"SPECIAL-USE", RETURN_SPECIAL},
    };
    if (lex_end(x))
        return true;
    l->how |= EXTENDED;
    return lex_sp(x) && lex_word(x, "RETURN") && lex_sp(x) && take_options(x, options, COUNT_OF(options), &l->how) &&
           lex_end(x);
}

/* ---- replies ---- */

struct attributes {
    struct imap *s;
    const char *between;
};

static void put_attribute(struct attributes *a, const char *name)
{
    imap_text(a->s, a->between);
    imap_text(a->s, name);
    a->between = " ";
}

static void put_entry(struct imap *s, const char *kind, struct span name)
{
    imap_text(s, ") \"/\" ");
    imap_put_mailbox(s, name);
    if (kind)
        imap_text(s, kind);
    imap_text(s, "\r\n");
}

static bool is_subscribed(const struct listing *l, struct span name)
{
    return map_get(&l->subscribed_set, name) != NULL;
}

static bool selected(const struct listing *l, const struct imap_mailbox *box)
{
    return (!(l->how & ONLY_SUBSCRIBED) || is_subscribed(l, box->name)) && (!(l->how & ONLY_SPECIAL) || box->use);
}

/* RFC5258:3.5: something below it is selected, and its own line would not show that. */
static const char *child_info(const struct listing *l, struct span name)
{
    return map_get(&l->above, name);
}

/* Notes the parents of a selected name that isn't listed itself. */
static void note_parents(struct listing *l, struct span name, const char *info)
{
    if (wanted(l, name))
        return;
    for (size_t i = 0; i < name.n; i++)
        if (name.p[i] == '/')
            map_put(&l->above, span_sub(name, 0, i), (void *)(uintptr_t)info);
}

static void put_box(struct imap *s, const struct listing *l, const struct imap_mailbox *box)
{
    const char *info = child_info(l, box->name);
    if (!wanted(l, box->name) || (!selected(l, box) && !info))
        return;
    struct attributes a = {s, ""};
    imap_text(s, "* LIST (");
    if (box->noselect)
        put_attribute(&a, "\\Noselect");
    put_attribute(&a, box->children ? "\\HasChildren" : "\\HasNoChildren"); /* RFC3348:3 */
    if ((l->how & RETURN_SUBSCRIBED) && is_subscribed(l, box->name))
        put_attribute(&a, "\\Subscribed");
    if (box->use) /* RFC6154:2: also in the plain form */
        put_attribute(&a, box->use);
    put_entry(s, info, box->name);
}

static const struct imap_mailbox *box_named(const struct listing *l, struct span name)
{
    return map_get(&l->box_set, name);
}

/* RFC5258:3.4: a subscribed name without a mailbox is listed too. */
static void put_lost_subscriptions(struct imap *s, const struct listing *l)
{
    if (!(l->how & ONLY_SUBSCRIBED) || (l->how & ONLY_SPECIAL))
        return;
    for (size_t i = 0; i < l->subscribed_n; i++)
        if (wanted(l, l->subscribed[i]) && !box_named(l, l->subscribed[i])) {
            imap_text(s, "* LIST (\\Subscribed \\NonExistent");
            put_entry(s, NULL, l->subscribed[i]);
        }
}

static bool load(struct imap *s, struct listing *l)
{
    int r = s->b->list(s->ctx, &s->arena, &l->boxes, &l->boxes_n, &s->err);
    if (r == IMAP_DONE)
        r = s->b->subscriptions(s->ctx, &s->arena, &l->subscribed, &l->subscribed_n, &s->err);
    if (r != IMAP_DONE) {
        imap_no_code(s, r, "");
        return false;
    }
    for (size_t i = 0; i < l->boxes_n; i++)
        map_put(&l->box_set, l->boxes[i].name, &l->boxes[i]);
    for (size_t i = 0; i < l->subscribed_n; i++)
        map_put(&l->subscribed_set, l->subscribed[i], &l->subscribed[i]);
    if (!(l->how & RECURSIVE))
        return true;
    for (size_t i = 0; (l->how & ONLY_SUBSCRIBED) && i < l->subscribed_n; i++)
        note_parents(l, l->subscribed[i], " (\"CHILDINFO\" (\"SUBSCRIBED\"))");
    for (size_t i = 0; !(l->how & ONLY_SUBSCRIBED) && i < l->boxes_n; i++)
        if (l->boxes[i].use)
            note_parents(l, l->boxes[i].name, " (\"CHILDINFO\" (\"SPECIAL-USE\"))");
    return true;
}

static void unload(struct listing *l)
{
    map_free(&l->box_set);
    map_free(&l->subscribed_set);
    map_free(&l->above);
}

static bool take_reference(struct imap *s, struct lex *x, struct span *reference)
{
    struct span raw;
    struct buf name = {0};
    if (!lex_sp(x) || !lex_astring(x, &raw) || raw.n > PATTERN_MAX)
        return false;
    if (utf7_decode(raw, &name) != 0)
        buf_addc(&name, '/'); /* no mailbox begins with it */
    *reference = arena_dup(&s->arena, buf_span(&name));
    buf_free(&name);
    return lex_sp(x);
}

void cmd_list(struct imap *s, struct lex *x)
{
    struct listing l = {0};
    struct span reference;
    struct lex before = *x;
    if (lex_sp(x) && x->rest.n && *x->rest.p == '(') {
        if (!take_selection(x, &l)) {
            imap_bad(s, "Unknown selection option");
            return;
        }
    } else {
        *x = before;
    }
    if (!take_reference(s, x, &reference) || !add_patterns(s, x, &l, reference) || !take_return(x, &l)) {
        imap_bad(s, "LIST wants a reference and a pattern");
        return;
    }
    if (!(l.how & EXTENDED) && l.patterns_n &&
        l.patterns[0].n == reference.n) { /* RFC3501:6.3.8: an empty pattern asks for the delimiter */
        imap_text(s, "* LIST (\\Noselect) \"/\" \"\"\r\n");
        imap_ok(s, "Done");
        return;
    }
    if (!load(s, &l))
        return;
    for (size_t i = 0; i < l.boxes_n; i++)
        put_box(s, &l, &l.boxes[i]);
    put_lost_subscriptions(s, &l);
    unload(&l);
    imap_ok(s, "Done");
}

/* ---- LSUB ---- */

static void put_lsub(struct imap *s, const struct listing *l, struct span name)
{
    const struct imap_mailbox *box = box_named(l, name);
    imap_text(s, box && box->noselect ? "* LSUB (\\Noselect" : "* LSUB (");
    put_entry(s, NULL, name);
}

/* RFC3501:6.3.9: with '%', a parent that isn't subscribed stands for what is subscribed below it. Names are sorted: the
 * last one told is enough to tell each parent once. */
static void put_parent(struct imap *s, const struct listing *l, struct span name, struct span *told)
{
    for (size_t i = 0; i < name.n; i++) {
        struct span parent = span_sub(name, 0, i);
        if (name.p[i] != '/' || !wanted(l, parent) || is_subscribed(l, parent) || span_eq(parent, *told))
            continue;
        *told = parent;
        imap_text(s, "* LSUB (\\Noselect");
        put_entry(s, NULL, parent);
        return;
    }
}

void cmd_lsub(struct imap *s, struct lex *x)
{
    struct listing l = {0};
    struct span reference, told = SPAN_NONE;
    if (!take_reference(s, x, &reference) || !add_pattern(s, x, &l, reference) || !lex_end(x)) {
        imap_bad(s, "LSUB wants a reference and a pattern");
        return;
    }
    if (!load(s, &l))
        return;
    for (size_t i = 0; i < l.subscribed_n; i++)
        if (wanted(&l, l.subscribed[i]))
            put_lsub(s, &l, l.subscribed[i]);
        else
            put_parent(s, &l, l.subscribed[i], &told);
    unload(&l);
    imap_ok(s, "Done");
}
