/* The grammar of SEARCH, RFC 3501 §6.4.4 and §9 search-key. */
#include "imap/search.h"
#include "mail/date.h"
#include "mail/words.h"

struct parse {
    struct imap *s;
    struct lex *x;
    struct span charset;
    unsigned keys, depth;
};

static struct search_key *take_key(struct parse *p);

static struct search_key *new_key(struct parse *p, enum search_op op)
{
    if (++p->keys > SEARCH_KEYS_MAX)
        return NULL;
    struct search_key *k = arena_alloc(p->x->arena, sizeof *k);
    k->op = op;
    return k;
}

static struct search_key *negated(struct parse *p, struct search_key *k)
{
    struct search_key *n = k ? new_key(p, SEARCH_NOT) : NULL;
    if (n)
        n->first = k;
    return n;
}

/* What kind of argument a key has. */
enum argument {
    ARG_NONE,
    ARG_FLAG,
    ARG_NOT_FLAG,
    ARG_NUMBER,
    ARG_DATE,
    ARG_STRING,
    ARG_FIELD,
    ARG_KEYWORD,
    ARG_NOT_KEYWORD,
    ARG_NAMED,
    ARG_UID,
    ARG_NEW,
    ARG_OLD,
    ARG_NOT,
    ARG_OR
};

static const struct key_name {
    const char *name;
    enum argument argument;
    enum search_op op;
    uint32_t flag; /* of ARG_FLAG, ARG_NOT_FLAG */
} key_names[] = {
    {"ALL", ARG_NONE, SEARCH_ALL, 0},
    {"ANSWERED", ARG_FLAG, SEARCH_FLAG, IMAP_ANSWERED},
    {"BCC", ARG_FIELD, SEARCH_HEADER, 0},
    {"BEFORE", ARG_DATE, SEARCH_BEFORE, 0},
    {"BODY", ARG_STRING, SEARCH_BODY, 0},
    {"CC", ARG_FIELD, SEARCH_HEADER, 0},
    {"DELETED", ARG_FLAG, SEARCH_FLAG, IMAP_DELETED},
    {"DRAFT", ARG_FLAG, SEARCH_FLAG, IMAP_DRAFT},
    {"FLAGGED", ARG_FLAG, SEARCH_FLAG, IMAP_FLAGGED},
    {"FROM", ARG_FIELD, SEARCH_HEADER, 0},
    {"HEADER", ARG_NAMED, SEARCH_HEADER, 0},
    {"KEYWORD", ARG_KEYWORD, SEARCH_KEYWORD, 0},
    {"LARGER", ARG_NUMBER, SEARCH_LARGER, 0},
    {"NEW", ARG_NEW, SEARCH_AND, 0},
    {"NOT", ARG_NOT, SEARCH_NOT, 0},
    {"OLD", ARG_OLD, SEARCH_NOT, 0},
    {"ON", ARG_DATE, SEARCH_ON, 0},
    {"OR", ARG_OR, SEARCH_OR, 0},
    {"RECENT", ARG_NONE, SEARCH_RECENT, 0},
    {"SEEN", ARG_FLAG, SEARCH_FLAG, IMAP_SEEN},
    {"SENTBEFORE", ARG_DATE, SEARCH_SENTBEFORE, 0},
    {"SENTON", ARG_DATE, SEARCH_SENTON, 0},
    {"SENTSINCE", ARG_DATE, SEARCH_SENTSINCE, 0},
    {"SINCE", ARG_DATE, SEARCH_SINCE, 0},
    {"SMALLER", ARG_NUMBER, SEARCH_SMALLER, 0},
    {"SUBJECT", ARG_FIELD, SEARCH_HEADER, 0},
    {"TEXT", ARG_STRING, SEARCH_TEXT, 0},
    {"TO", ARG_FIELD, SEARCH_HEADER, 0},
    {"UID", ARG_UID, SEARCH_SET, 0},
    {"UNANSWERED", ARG_NOT_FLAG, SEARCH_FLAG, IMAP_ANSWERED},
    {"UNDELETED", ARG_NOT_FLAG, SEARCH_FLAG, IMAP_DELETED},
    {"UNDRAFT", ARG_NOT_FLAG, SEARCH_FLAG, IMAP_DRAFT},
    {"UNFLAGGED", ARG_NOT_FLAG, SEARCH_FLAG, IMAP_FLAGGED},
    {"UNKEYWORD", ARG_NOT_KEYWORD, SEARCH_KEYWORD, 0},
    {"UNSEEN", ARG_NOT_FLAG, SEARCH_FLAG, IMAP_SEEN},
};

/* ---- arguments ---- */

/* The text as UTF-8, folded as the messages' text will be. */
static bool take_string(struct parse *p, struct span *out)
{
    struct span raw;
    if (!lex_sp(p->x) || !lex_astring(p->x, &raw))
        return false;
    struct buf utf8 = {0}, folded = {0};
    charset_to_utf8(p->charset, raw, &utf8);
    words_fold(buf_span(&utf8), &folded);
    *out = arena_dup(p->x->arena, buf_span(&folded));
    buf_free(&utf8);
    buf_free(&folded);
    return true;
}

static bool take_day(struct parse *p, uint64_t *out)
{
    struct span text;
    struct mail_date d;
    if (!lex_sp(p->x) || !lex_astring(p->x, &text) || date_parse_imap_day(text, &d) != 0)
        return false;
    *out = (uint64_t)date_day(&d);
    return true;
}

static bool take_keyword(struct parse *p, struct search_key *k)
{
    struct span name;
    if (!lex_sp(p->x) || !lex_atom(p->x, &name))
        return false;
    struct flags f = {.keywords = &name, .keywords_n = 1};
    return flags_bits(p->s, p->s->view.mailbox, &f, false, &k->number) == IMAP_DONE; /* an unknown one: no bits */
}

static bool resolve(struct parse *p, struct search_key *k, bool by_uid)
{
    struct set set;
    return set_parse(p->x, &set) && set_resolve(&set, by_uid, p->s->view.uids, p->s->view.n, p->x->arena, &k->set);
}

static bool take_header_pair(struct parse *p, struct search_key *k)
{
    return lex_sp(p->x) && lex_astring(p->x, &k->name) && take_string(p, &k->text);
}

static struct search_key *flag_key(struct parse *p, uint32_t flag)
{
    struct search_key *k = new_key(p, SEARCH_FLAG);
    if (k)
        k->number = flag;
    return k;
}

/* NEW: RECENT UNSEEN */
static bool make_new(struct parse *p, struct search_key *k)
{
    k->first = new_key(p, SEARCH_RECENT);
    struct search_key *unseen = negated(p, flag_key(p, IMAP_SEEN));
    if (!k->first || !unseen)
        return false;
    k->first->next = unseen;
    return true;
}

static bool take_two(struct parse *p, struct search_key *k)
{
    k->first = lex_sp(p->x) ? take_key(p) : NULL;
    struct search_key *second = k->first && lex_sp(p->x) ? take_key(p) : NULL;
    if (!second)
        return false;
    k->first->next = second;
    return true;
}

static bool take_argument(struct parse *p, const struct key_name *n, struct search_key *k)
{
    switch (n->argument) {
    case ARG_NONE: return true;
    case ARG_FLAG:
    case ARG_NOT_FLAG: k->number = n->flag; return true;
    case ARG_NUMBER: return lex_sp(p->x) && lex_number64(p->x, &k->number);
    case ARG_DATE: return take_day(p, &k->number);
    case ARG_STRING: return take_string(p, &k->text);
    case ARG_FIELD: k->name = span_of(n->name); return take_string(p, &k->text);
    case ARG_KEYWORD:
    case ARG_NOT_KEYWORD: return take_keyword(p, k);
    case ARG_NAMED: return take_header_pair(p, k);
    case ARG_UID: return lex_sp(p->x) && resolve(p, k, true);
    case ARG_NEW: return make_new(p, k);
    case ARG_OLD: k->first = new_key(p, SEARCH_RECENT); return k->first != NULL;
    case ARG_NOT: k->first = lex_sp(p->x) ? take_key(p) : NULL; return k->first != NULL;
    case ARG_OR: return take_two(p, k);
    }
    return false;
}

/* ---- keys ---- */

static struct search_key *take_named(struct parse *p)
{
    struct span name;
    if (!lex_atom(p->x, &name))
        return NULL;
    for (size_t i = 0; i < COUNT_OF(key_names); i++) {
        const struct key_name *n = &key_names[i];
        if (!span_ieqs(name, n->name))
            continue;
        struct search_key *k = new_key(p, n->op);
        if (!k || !take_argument(p, n, k))
            return NULL;
        return n->argument == ARG_NOT_FLAG || n->argument == ARG_NOT_KEYWORD ? negated(p, k) : k;
    }
    return NULL;
}

/* Keys with blanks between: all of them. */
static struct search_key *take_keys(struct parse *p)
{
    struct search_key *all = new_key(p, SEARCH_AND), **tail = all ? &all->first : NULL;
    if (!all)
        return NULL;
    do {
        struct search_key *k = take_key(p);
        if (!k)
            return NULL;
        *tail = k;
        tail = &k->next;
    } while (lex_sp(p->x));
    return all;
}

static struct search_key *take_inner(struct parse *p)
{
    char c = p->x->rest.n ? *p->x->rest.p : '\0';
    if (c == '(') {
        lex_char(p->x, '(');
        struct search_key *k = take_keys(p);
        return k && lex_char(p->x, ')') ? k : NULL;
    }
    if (c == '*' || ascii_digit(c)) {
        struct search_key *k = new_key(p, SEARCH_SET);
        return k && resolve(p, k, false) ? k : NULL;
    }
    return take_named(p);
}

static struct search_key *take_key(struct parse *p)
{
    if (p->depth == SEARCH_DEPTH_MAX)
        return NULL;
    p->depth++;
    struct search_key *k = take_inner(p);
    p->depth--;
    return k;
}

/* What costs little is asked first: it may settle the matter. */
static unsigned price(const struct search_key *k)
{
    if (k->op >= SEARCH_BODY)
        return 3;
    if (k->op == SEARCH_HEADER || (k->op >= SEARCH_SENTBEFORE && k->op <= SEARCH_SENTSINCE))
        return 2;
    unsigned most = 0;
    for (const struct search_key *c = k->first; c; c = c->next)
        most = MAX_OF(most, price(c));
    return most;
}

static void cheap_first(struct search_key *k)
{
    struct search_key *by_price[4] = {0}, **tails[4] = {&by_price[0], &by_price[1], &by_price[2], &by_price[3]};
    for (struct search_key *c = k->first, *next; c; c = next) {
        next = c->next;
        c->next = NULL;
        cheap_first(c);
        unsigned i = price(c);
        *tails[i] = c;
        tails[i] = &c->next;
    }
    struct search_key **tail = &k->first;
    *tail = NULL;
    for (unsigned i = 0; i < 4; i++)
        if (by_price[i]) {
            *tail = by_price[i];
            tail = tails[i];
        }
}

int search_parse(struct imap *s, struct lex *x, struct search_key **out)
{
    struct parse p = {.s = s, .x = x, .charset = SPAN("us-ascii")};
    if (!lex_sp(x))
        return 0;
    if (lex_word(x, "CHARSET")) {
        if (!lex_sp(x) || !lex_astring(x, &p.charset) || !lex_sp(x))
            return 0;
        if (!p.charset.n || !charset_known(p.charset))
            return -1;
    }
    *out = take_keys(&p);
    if (!*out || !lex_end(x))
        return 0;
    cheap_first(*out);
    return 1;
}
