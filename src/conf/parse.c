/* The grammar of the configuration file:
 *
 *     file    = *( key / section )
 *     key     = WORD *( WORD / STRING ) ";"        on one line
 *     section = WORD [ WORD ] "{" *key "}"
 *     STRING  = '"' … '"'  with \" and \\ inside;  "#" starts a comment that ends with the line
 *
 * Every error is reported, not only the first: after one, reading goes on with the next line. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "conf/priv.h"

#define WORDS_MAX 70 /* of one statement */
#define ERRORS_MAX 200

enum token_kind { TOKEN_WORD, TOKEN_OPEN, TOKEN_CLOSE, TOKEN_SEMICOLON, TOKEN_END };
struct token {
    enum token_kind kind;
    struct span text;
    unsigned line;
};
struct reader {
    struct conf_parse p;
    struct span rest;
    unsigned line;
    struct token next;
    struct conf_place *place; /* the section we are in; NULL: one that is like none we know, and skipped */
};

static void put_error(struct conf_parse *p, const char *file, unsigned line, const char *fmt, va_list ap)
{
    if (++p->errors->count > ERRORS_MAX)
        return;
    buf_printf(&p->errors->text, "%s:%u: ", file, line);
    buf_vprintf(&p->errors->text, fmt, ap);
    buf_addc(&p->errors->text, '\n');
}

void conf_error(struct conf_parse *p, unsigned line, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    put_error(p, p->file, line, fmt, ap);
    va_end(ap);
}

void conf_error_in(struct conf_parse *p, const char *file, unsigned line, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    put_error(p, file, line, fmt, ap);
    va_end(ap);
}

/* ---- the nearest word: letters changed, added, missing, swapped ---- */

static unsigned distance(struct span a, const char *b)
{
    enum { MOST = 40 };
    size_t bn = strlen(b);
    unsigned d[MOST + 1][MOST + 1];
    if (a.n > MOST || bn > MOST)
        return MOST;
    for (size_t i = 0; i <= a.n; i++)
        for (size_t j = 0; j <= bn; j++) {
            if (i == 0 || j == 0) {
                d[i][j] = (unsigned)(i + j);
                continue;
            }
            unsigned change = d[i - 1][j - 1] + (ascii_lower(a.p[i - 1]) != b[j - 1]);
            d[i][j] = MIN_OF(change, MIN_OF(d[i - 1][j], d[i][j - 1]) + 1);
            if (i > 1 && j > 1 && a.p[i - 1] == b[j - 2] && a.p[i - 2] == b[j - 1])
                d[i][j] = MIN_OF(d[i][j], d[i - 2][j - 2] + 1);
        }
    return d[a.n][bn];
}

const char *conf_nearest(struct span word, const char *const *words, size_t count)
{
    const char *best = NULL;
    unsigned least = (unsigned)MAX_OF(word.n / 3, (size_t)1) + 1;
    for (size_t i = 0; i < count; i++) {
        unsigned d = distance(word, words[i]);
        if (d < least) {
            least = d;
            best = words[i];
        }
    }
    return best;
}

/* ---- tokens ---- */

static void skip_blanks(struct reader *r)
{
    while (r->rest.n) {
        char c = *r->rest.p;
        if (c == '#') {
            ptrdiff_t end = span_find(r->rest, '\n');
            r->rest = span_from(r->rest, end < 0 ? r->rest.n : (size_t)end);
            continue;
        }
        if (c != ' ' && c != '\t' && c != '\r' && c != '\n')
            return;
        r->line += c == '\n';
        r->rest = span_from(r->rest, 1);
    }
}

static void read_string(struct reader *r)
{
    char *out = arena_alloc(&r->p.conf->arena, r->rest.n);
    size_t n = 0, i = 1;
    for (; i < r->rest.n && r->rest.p[i] != '"' && r->rest.p[i] != '\n'; i++) {
        if (r->rest.p[i] == '\\' && i + 1 < r->rest.n && (r->rest.p[i + 1] == '"' || r->rest.p[i + 1] == '\\'))
            i++;
        out[n++] = r->rest.p[i];
    }
    if (i < r->rest.n && r->rest.p[i] == '"')
        i++;
    else
        conf_error(&r->p, r->line, "a quote is not closed, put a \" at the end of the value");
    r->next.text = span_make(out, n);
    r->rest = span_from(r->rest, i);
}

static bool ends_word(char c)
{
    return strchr(" \t\r\n;{}\"#", c) != NULL; /* a NUL, too: strchr finds it */
}

static void read_word(struct reader *r)
{
    size_t n = 0;
    while (n < r->rest.n && !ends_word(r->rest.p[n]))
        n++;
    if (n == 0) /* a NUL: taken along, so that the control check below names it */
        n = 1;
    r->next.text = span_sub(r->rest, 0, n);
    r->rest = span_from(r->rest, n);
}

static void read_token(struct reader *r)
{
    skip_blanks(r);
    r->next = (struct token){TOKEN_END, SPAN("the end of the file"), r->line};
    if (r->rest.n == 0)
        return;
    char c = *r->rest.p;
    if (c == '{' || c == '}' || c == ';') {
        r->next.kind = c == '{' ? TOKEN_OPEN : c == '}' ? TOKEN_CLOSE : TOKEN_SEMICOLON;
        r->next.text = span_sub(r->rest, 0, 1);
        r->rest = span_from(r->rest, 1);
        return;
    }
    r->next.kind = TOKEN_WORD;
    if (c == '"')
        read_string(r);
    else
        read_word(r);
    if (span_has_control(r->next.text) || !span_is_utf8(r->next.text)) {
        conf_error(&r->p, r->line, "a value holds a control character or is not UTF-8, take it out");
        r->next.text = SPAN("?");
    }
}

/* ---- places ---- */

static struct conf_place *add_place(struct conf_parse *p, enum conf_section s, unsigned instance, unsigned line,
                                    struct span name)
{
    if (p->place_count == p->place_cap) {
        p->place_cap = MAX_OF(p->place_cap * 2, (size_t)16);
        p->places = mem_resize(p->places, p->place_cap * sizeof *p->places);
    }
    struct conf_place *at = mem_alloc(sizeof *at);
    at->section = s;
    at->instance = instance;
    at->line = line;
    at->name = name;
    return p->places[p->place_count++] = at;
}

static struct conf_place *find_place(const struct conf_parse *p, enum conf_section s, unsigned instance)
{
    for (size_t i = 0; i < p->place_count; i++)
        if (p->places[i]->section == s && p->places[i]->instance == instance)
            return p->places[i];
    return NULL;
}

unsigned conf_line(const struct conf_parse *p, enum conf_section s, unsigned instance, const char *key)
{
    size_t count;
    const struct conf_key *keys = conf_keys(&count);
    const struct conf_place *at = find_place(p, s, instance);
    if (!at)
        return 1;
    for (size_t i = 0; key && i < count; i++)
        if (keys[i].section == s && strcmp(keys[i].key, key) == 0 && at->key_line[i])
            return at->key_line[i];
    return MAX_OF(at->line, 1u);
}

/* ---- keys ---- */

static void unknown_key(struct reader *r, struct span word, unsigned line)
{
    const char *words[CONF_KEYS_MAX], *place = conf_section_word(r->place->section);
    size_t count, n = 0;
    const struct conf_key *keys = conf_keys(&count);
    for (size_t i = 0; i < count; i++)
        if (keys[i].section == r->place->section)
            words[n++] = keys[i].key;
    const char *near = conf_nearest(word, words, n);
    struct buf where = {0};
    if (*place)
        buf_printf(&where, "in a section %s", place);
    else
        buf_adds(&where, "outside of a section");
    if (near) {
        conf_error(&r->p, line, "unknown key \"%.*s\" %s, did you mean \"%s\"?", SPANV(word), buf_cstr(&where), near);
        buf_free(&where);
        return;
    }
    struct buf homes = {0};
    for (size_t i = 0; i < count; i++)
        if (span_eqs(word, keys[i].key))
            buf_printf(&homes, "%s%s", homes.n ? ", " : "",
                       keys[i].section == CONF_SECTION_main ? "outside of sections"
                                                            : conf_section_word(keys[i].section));
    if (homes.n)
        conf_error(&r->p, line, "unknown key \"%.*s\" %s, it belongs to: %s", SPANV(word), buf_cstr(&where),
                   buf_cstr(&homes));
    else
        conf_error(&r->p, line, "unknown key \"%.*s\" %s, take the line away (waypost.conf(5) lists all keys)",
                   SPANV(word), buf_cstr(&where));
    buf_free(&homes);
    buf_free(&where);
}

/* Each wrong item of a list has its own line. */
static void set_value(struct reader *r, const struct conf_key *k, const struct span *values, size_t n, unsigned line)
{
    struct err err;
    void *base = conf_section_base(r->p.conf, r->place->section, r->place->instance);
    bool said = false;
    for (size_t i = 0; i < n && conf_value_is_list(k); i++)
        if (conf_value_judge(k, values, n, i, &err)) {
            conf_error(&r->p, line, "%s: %s", k->key, err.text);
            said = true;
        }
    if (conf_value_parse(k, values, n, r->p.folder, &r->p.conf->arena, (char *)base + k->offset, &err) &&
        (!said || n < k->least || n > k->most))
        conf_error(&r->p, line, "%s: %s", k->key, err.text);
}

static void set_key(struct reader *r, struct span word, const struct span *values, size_t n, unsigned line)
{
    size_t count;
    const struct conf_key *keys = conf_keys(&count);
    struct conf_place *at = r->place;
    for (size_t i = 0; at && i < count; i++) {
        if (keys[i].section != at->section || !span_eqs(word, keys[i].key))
            continue;
        if (at->key_line[i]) {
            conf_error(&r->p, line, "\"%s\" is given twice, keep this one or the one of line %u", keys[i].key,
                       at->key_line[i]);
            return;
        }
        at->key_line[i] = line;
        if (!conf_section_many(at->section))
            r->p.conf->lines[i] = line;
        set_value(r, &keys[i], values, n, line);
        return;
    }
    if (at)
        unknown_key(r, word, line);
}

/* ---- sections ---- */

static void require_keys(struct reader *r)
{
    size_t count;
    const struct conf_key *keys = conf_keys(&count);
    for (size_t i = 0; r->place && i < count; i++)
        if (keys[i].section == r->place->section && !keys[i].def && !r->place->key_line[i])
            conf_error(&r->p, r->place->line, "section %s \"%.*s\" has no \"%s\", add it",
                       conf_section_word(r->place->section), SPANV(r->place->name), keys[i].key);
}

static int section_by_word(struct span word)
{
    for (int s = CONF_SECTION_main + 1; s < CONF_SECTION_COUNT; s++)
        if (span_eqs(word, conf_section_word((enum conf_section)s)))
            return s;
    return -1;
}

/* Says so. The nearest one, or -1. */
static int unknown_section(struct reader *r, struct span word, unsigned line)
{
    const char *words[CONF_SECTION_COUNT];
    for (int s = 1; s < CONF_SECTION_COUNT; s++)
        words[s - 1] = conf_section_word((enum conf_section)s);
    const char *near = conf_nearest(word, words, CONF_SECTION_COUNT - 1);
    if (near)
        conf_error(&r->p, line, "unknown section \"%.*s\", did you mean \"%s\"?", SPANV(word), near);
    else
        conf_error(&r->p, line, "unknown section \"%.*s\", take it away (waypost.conf(5) lists all sections)",
                   SPANV(word));
    return near ? section_by_word(span_of(near)) : -1;
}

static struct conf_place *same_name(struct reader *r, enum conf_section s, struct span name)
{
    for (size_t i = 0; i < r->p.place_count; i++)
        if (r->p.places[i]->section == s && span_ieq(r->p.places[i]->name, name))
            return r->p.places[i];
    return NULL;
}

/* *.NAME is all below NAME, * is all. */
static bool is_domain_or_pattern(struct span name)
{
    return span_eqs(name, "*") || conf_is_host(span_starts(name, SPAN("*.")) ? span_from(name, 2) : name);
}

static struct conf_place *open_many(struct reader *r, enum conf_section s, struct span name, unsigned line)
{
    struct conf_place *other = same_name(r, s, name);
    if (other) {
        conf_error(&r->p, line, "%s \"%.*s\" stands twice, put all into the one of line %u", conf_section_word(s),
                   SPANV(name), other->line);
        return other;
    }
    if (s == CONF_SECTION_domain && name.n && !is_domain_or_pattern(name))
        conf_error(&r->p, line, "\"%.*s\" is not a domain name, write one such as example.org, *.example.org or *", SPANV(name));
    if (r->p.place_count >= CONF_SECTIONS_MAX) {
        conf_error(&r->p, line, "more than %d sections, take some away", CONF_SECTIONS_MAX);
        return NULL;
    }
    uint16_t *instance;
    conf_add_section(r->p.conf, s, name, line, &instance);
    return add_place(&r->p, s, *instance, line, name);
}

/* The section that these words open. One that is wrong itself is said to be, and read on as what it is meant to be, so
 * that what is wrong in it is said, too: the file is refused in any case. NULL: nobody knows what it is meant to be. */
static struct conf_place *open_section(struct reader *r, const struct span *words, size_t n, unsigned line)
{
    int s = section_by_word(words[0]);
    if (s < 0)
        s = unknown_section(r, words[0], line);
    if (s < 0)
        return NULL;
    bool many = conf_section_many((enum conf_section)s);
    if (n != (many ? 2u : 1u))
        conf_error(&r->p, line,
                   many ? "a section %s needs one name, write \"%s NAME {\""
                        : "a section %s takes no name, write \"%s {\"",
                   conf_section_word((enum conf_section)s), conf_section_word((enum conf_section)s));
    if (many)
        return open_many(r, (enum conf_section)s, n > 1 ? words[1] : SPAN_NONE, line);
    struct conf_place *other = find_place(&r->p, (enum conf_section)s, 0);
    if (other)
        conf_error(&r->p, line, "section %s stands twice, put all its keys into the one of line %u",
                   conf_section_word((enum conf_section)s), other->line);
    return other ? other : add_place(&r->p, (enum conf_section)s, 0, line, SPAN_NONE);
}

/* ---- statements ---- */

static void read_statement(struct reader *r, bool *inside)
{
    struct span words[WORDS_MAX];
    size_t n = 0;
    unsigned line = r->next.line;
    while (r->next.kind == TOKEN_WORD && r->next.line == line) {
        if (n < WORDS_MAX)
            words[n++] = r->next.text;
        read_token(r);
    }
    if (r->next.kind == TOKEN_OPEN) {
        if (*inside)
            conf_error(&r->p, r->next.line, "a section inside a section, close the one before with '}' first");
        r->place = open_section(r, words, n, line);
        *inside = true;
        read_token(r);
        return;
    }
    if (r->next.kind == TOKEN_SEMICOLON && r->next.line == line)
        read_token(r);
    else
        conf_error(&r->p, line, "\"%.*s\" has no ';' at its end, add one", SPANV(words[0]));
    set_key(r, words[0], words + 1, n - 1, line);
}

static void read_file(struct reader *r)
{
    struct conf_place *outer = add_place(&r->p, CONF_SECTION_main, 0, 1, SPAN_NONE);
    bool inside = false;
    r->place = outer;
    read_token(r);
    while (r->next.kind != TOKEN_END) {
        if (r->next.kind == TOKEN_WORD) {
            read_statement(r, &inside);
            continue;
        }
        if (r->next.kind == TOKEN_CLOSE && inside) {
            require_keys(r);
            r->place = outer;
            inside = false;
        } else if (r->next.kind != TOKEN_SEMICOLON) {
            conf_error(&r->p, r->next.line, "a '%.*s' that nothing precedes, take it away", SPANV(r->next.text));
        }
        read_token(r);
    }
    if (inside)
        conf_error(&r->p, r->place ? r->place->line : r->line, "the section is not closed, add a '}' at its end");
}

/* ---- the whole ---- */

static char *folder_of(const char *file)
{
    char *whole = realpath(file, NULL), *cut;
    char *folder = mem_strdup(whole ? whole : file);
    free(whole);
    cut = strrchr(folder, '/');
    if (cut)
        *cut = 0;
    else {
        mem_free(&folder);
        folder = mem_strdup(".");
    }
    return folder;
}

static void machine_name(struct conf *c)
{
    char name[256] = "";
    gethostname(name, sizeof name - 1);
    c->hostname = conf_is_host(span_of(name)) ? arena_str(&c->arena, span_of(name)) : "localhost";
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct conf_domain *)a)->name, ((const struct conf_domain *)b)->name);
}

static struct conf *parse(const char *name, struct span text, uint32_t generation, struct conf_errors *errors,
                          bool files, conf_pair_fn *pair)
{
    struct reader r = {
        .p = {.file = name, .folder = folder_of(name), .conf = conf_new(generation), .errors = errors, .files = files, .pair = pair},
        .rest = text,
        .line = 1};
    size_t before = errors->count;
    r.p.conf->file = arena_str(&r.p.conf->arena, span_of(name));
    read_file(&r);
    if (!*r.p.conf->hostname)
        machine_name(r.p.conf);
    conf_check(&r.p);
    if (r.p.conf->domain_count)
        qsort(r.p.conf->domain, r.p.conf->domain_count, sizeof *r.p.conf->domain, by_name);
    for (size_t i = 0; i < r.p.place_count; i++)
        mem_free(&r.p.places[i]);
    mem_free(&r.p.places);
    mem_free(&r.p.folder);
    if (errors->count > before) {
        const struct conf *c = r.p.conf;
        conf_unref(&c);
        return NULL;
    }
    return r.p.conf;
}

struct conf *conf_parse(const char *name, struct span text, uint32_t generation, struct conf_errors *errors)
{
    return parse(name, text, generation, errors, false, NULL);
}

static int read_whole(const char *name, struct buf *text, struct err *err)
{
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "cannot be opened");
    for (;;) {
        ssize_t n = read(fd, buf_room(text, 65536), 65536);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0 || text->n + (size_t)n > CONF_FILE_MAX) {
            int why = n < 0 ? errno : 0;
            close(fd);
            errno = why;
            return n == 0  ? 0
                   : n < 0 ? err_errno(err, "cannot be read")
                           : err_set(err, "is larger than %u MiB", CONF_FILE_MAX >> 20);
        }
        text->n += (size_t)n;
    }
}

struct conf *conf_load(const char *name, uint32_t generation, struct conf_errors *errors)
{
    return conf_load_pairs(name, generation, errors, NULL);
}

struct conf *conf_load_pairs(const char *name, uint32_t generation, struct conf_errors *errors, conf_pair_fn *pair)
{
    struct buf text = {0};
    struct err err;
    struct conf *c = NULL;
    if (read_whole(name, &text, &err)) {
        errors->count++;
        buf_printf(&errors->text, "%s:1: the configuration %s, give its path with -c FILE or WAYPOST_CONFIG\n", name,
                   err.text);
    } else {
        c = parse(name, buf_span(&text), generation, errors, true, pair);
    }
    buf_free(&text);
    return c;
}
