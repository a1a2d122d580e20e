/* The table of keys, and configurations as values: made, counted, asked. */
#include "conf/conf.h"

#include <stdio.h>
#include <string.h>

#include "auth/mechanisms.h"
#include "base/mem.h"
#include "conf/priv.h"

#define ROW(section_, base_, path_, key_, type_, def_, least_, most_, roles_, doc_)                             \
    {CONF_SECTION_##section_, key_, CONF_IS_##type_, def_, (uint64_t)(least_), (uint64_t)(most_), roles_, doc_, \
     offsetof(base_, path_)},
#define ROW_main(m, ...) ROW(main, struct conf, m, __VA_ARGS__)
#define ROW_listen(m, ...) ROW(listen, struct conf_listen, m, __VA_ARGS__)
#define ROW_tls(m, ...) ROW(tls, struct conf, tls.m, __VA_ARGS__)
#define ROW_smtp(m, ...) ROW(smtp, struct conf, smtp.m, __VA_ARGS__)
#define ROW_door(m, ...) ROW(door, struct conf, door.m, __VA_ARGS__)
#define ROW_imap(m, ...) ROW(imap, struct conf, imap.m, __VA_ARGS__)
#define ROW_pop3(m, ...) ROW(pop3, struct conf, pop3.m, __VA_ARGS__)
#define ROW_limits(m, ...) ROW(limits, struct conf, limits.m, __VA_ARGS__)
#define ROW_sending(m, ...) ROW(sending, struct conf, sending.m, __VA_ARGS__)
#define ROW_queue(m, ...) ROW(queue, struct conf, queue.m, __VA_ARGS__)
#define ROW_notices(m, ...) ROW(notices, struct conf, notices.m, __VA_ARGS__)
#define ROW_relay(m, ...) ROW(relay, struct conf, relay.m, __VA_ARGS__)
#define ROW_dns(m, ...) ROW(dns, struct conf, dns.m, __VA_ARGS__)
#define ROW_domain(m, ...) ROW(domain, struct conf_domain, m, __VA_ARGS__)
#define ROW_hold(m, ...) ROW(hold, struct conf_hold, m, __VA_ARGS__)
#define ROW_oauth(m, ...) ROW(oauth, struct conf, oauth.m, __VA_ARGS__)
#define ROW_local_submission(m, ...) ROW(local_submission, struct conf, local_submission.m, __VA_ARGS__)
#define ROW_accounts(m, ...) ROW(accounts, struct conf, accounts.m, __VA_ARGS__)

static const struct conf_key keys[] = {
#define SECTION_ROWS(id, word, many) CONF_KEYS_##id(ROW_##id)
    CONF_SECTIONS(SECTION_ROWS)
#undef SECTION_ROWS
};
_Static_assert(COUNT_OF(keys) <= CONF_KEYS_MAX, "CONF_KEYS_MAX is too small");

enum { ONE, MANY };
static const struct {
    const char *word;
    int many;
} sections[CONF_SECTION_COUNT] = {
#define SECTION_INFO(id, word, many) [CONF_SECTION_##id] = {word, many},
    CONF_SECTIONS(SECTION_INFO)
#undef SECTION_INFO
};

const struct conf_key *conf_keys(size_t *count)
{
    *count = COUNT_OF(keys);
    return keys;
}

const char *conf_section_word(enum conf_section s)
{
    return sections[s].word;
}

bool conf_section_many(enum conf_section s)
{
    return sections[s].many == MANY;
}

/* ---- values of it ---- */

static void set_defaults(struct arena *arena, enum conf_section s, void *base)
{
    for (size_t i = 0; i < COUNT_OF(keys); i++)
        if (keys[i].section == s)
            conf_value_default(&keys[i], arena, (char *)base + keys[i].offset);
}

struct conf *conf_new(uint32_t generation)
{
    struct conf *c = mem_alloc(sizeof *c);
    c->generation = generation;
    c->refs = 1;
    c->file = "";
    c->lines = arena_alloc(&c->arena, COUNT_OF(keys) * sizeof *c->lines);
    for (unsigned s = 0; s < CONF_SECTION_COUNT; s++)
        if (!conf_section_many(s))
            set_defaults(&c->arena, s, c);
    return c;
}

const struct conf *conf_ref(const struct conf *c)
{
    ((struct conf *)c)->refs++; /* the count is ours, though what it guards is constant */
    return c;
}

void conf_unref(const struct conf **cp)
{
    struct conf *c = (struct conf *)*cp;
    *cp = NULL;
    if (!c || --c->refs > 0)
        return;
    mem_free(&c->listen);
    mem_free(&c->domain);
    mem_free(&c->hold);
    arena_free(&c->arena);
    mem_free(&c);
}

const char *conf_where(const struct conf *c, const void *member, char text[CONF_WHERE_MAX])
{
    size_t offset = (size_t)((const char *)member - (const char *)c);
    for (size_t i = 0; i < COUNT_OF(keys); i++)
        if (keys[i].offset == offset && !conf_section_many(keys[i].section) && c->lines[i]) {
            struct buf where = {.p = text, .cap = CONF_WHERE_MAX};
            buf_add(&where, span_sub(span_of(c->file), 0, 280));
            buf_addc(&where, ':');
            buf_addn(&where, c->lines[i]);
            return buf_cstr(&where);
        }
    return "the default";
}

static struct conf_listen *add_listen(struct conf *c, const char *name, uint32_t line)
{
    c->listen = mem_resize(c->listen, (c->listen_count + 1) * sizeof *c->listen);
    c->listen[c->listen_count] = (struct conf_listen){.name = name, .line = line, .index = (uint16_t)c->listen_count};
    return &c->listen[c->listen_count++];
}

static struct conf_domain *add_domain(struct conf *c, const char *name, uint32_t line)
{
    c->domain = mem_resize(c->domain, (c->domain_count + 1) * sizeof *c->domain);
    c->domain[c->domain_count] = (struct conf_domain){.name = name, .line = line, .index = (uint16_t)c->domain_count};
    return &c->domain[c->domain_count++];
}

static struct conf_hold *add_hold(struct conf *c, const char *name, uint32_t line)
{
    c->hold = mem_resize(c->hold, (c->hold_count + 1) * sizeof *c->hold);
    c->hold[c->hold_count] = (struct conf_hold){.name = name, .line = line, .index = (uint16_t)c->hold_count};
    return &c->hold[c->hold_count++];
}

void conf_add_section(struct conf *c, enum conf_section s, struct span name, uint32_t line, uint16_t **index)
{
    char *text = arena_str(&c->arena, name);
    if (s == CONF_SECTION_listen) {
        struct conf_listen *l = add_listen(c, text, line);
        set_defaults(&c->arena, s, l);
        *index = &l->index;
    } else if (s == CONF_SECTION_domain) {
        struct conf_domain *d = add_domain(c, text, line);
        for (char *p = text; *p; p++)
            *p = ascii_lower(*p);
        set_defaults(&c->arena, s, d);
        *index = &d->index;
    } else {
        struct conf_hold *h = add_hold(c, text, line);
        set_defaults(&c->arena, s, h);
        *index = &h->index;
    }
}

void *conf_section_base(struct conf *c, enum conf_section s, unsigned instance)
{
    if (!conf_section_many(s))
        return c;
    for (size_t i = c->listen_count; s == CONF_SECTION_listen && i-- > 0;) /* the last one is asked for most */
        if (c->listen[i].index == instance)
            return &c->listen[i];
    for (size_t i = c->domain_count; s == CONF_SECTION_domain && i-- > 0;)
        if (c->domain[i].index == instance)
            return &c->domain[i];
    for (size_t i = c->hold_count; s == CONF_SECTION_hold && i-- > 0;)
        if (c->hold[i].index == instance)
            return &c->hold[i];
    return NULL;
}

/* ---- questions ---- */

const struct conf_listen *conf_listen_at(const struct conf *c, unsigned index)
{
    return conf_section_base((struct conf *)c, CONF_SECTION_listen, index);
}

const struct conf_domain *conf_domain_find(const struct conf *c, struct span name)
{
    size_t low = 0, high = c->domain_count;
    char lower[256];
    if (name.n >= sizeof lower)
        return NULL;
    for (size_t i = 0; i < name.n; i++)
        lower[i] = ascii_lower(name.p[i]);
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int d = span_cmp(span_make(lower, name.n), span_of(c->domain[mid].name));
        if (d == 0)
            return &c->domain[mid];
        if (d < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return NULL;
}

const struct conf_domain *conf_domain_for(const struct conf *c, struct span name)
{
    char pattern[256] = "*";
    const struct conf_domain *d = conf_domain_find(c, name);
    if (d || c->domain_count == 0 || name.n >= sizeof pattern - 1)
        return d;
    for (size_t at = 0; at < name.n; at++) {
        size_t left = name.n - at;
        if (name.p[at] != '.')
            continue;
        memcpy(pattern + 1, name.p + at, left);
        d = conf_domain_find(c, span_make(pattern, left + 1));
        if (d)
            return d;
    }
    return conf_domain_find(c, SPAN("*"));
}

bool conf_domain_is_pattern(const struct conf_domain *d)
{
    return d->name[0] == '*';
}

enum role conf_listen_role(const struct conf_listen *l)
{
    static const enum role roles[] = {
        [CONF_PROTOCOL_SMTP] = ROLE_MX,
        [CONF_PROTOCOL_SUBMISSION] = ROLE_SUBMISSION,
        [CONF_PROTOCOL_IMAP] = ROLE_IMAPD,
        [CONF_PROTOCOL_POP3] = ROLE_POP3D,
        [CONF_PROTOCOL_ODMR] = ROLE_SUBMISSION,
    };
    return roles[l->protocol];
}

const char *conf_listen_certificate(const struct conf *c, const struct conf_listen *l)
{
    if (l->tls == CONF_TLS_NONE)
        return "";
    return *l->certificate ? l->certificate : c->tls.certificate;
}

const char *conf_listen_key(const struct conf *c, const struct conf_listen *l)
{
    if (l->tls == CONF_TLS_NONE)
        return "";
    return *l->certificate ? l->key : c->tls.key;
}

unsigned conf_mechanisms(const struct conf *c)
{
    return (c->accounts.scram ? SASL_SCRAM : 0u) | (c->accounts.scram_sha_1 ? SASL_SCRAM_1 : 0u) |
           (*c->oauth.keys || conf_introspects(c) ? SASL_OAUTH : 0u);
}

bool conf_judges(const struct conf *c)
{
    for (size_t i = 0; i < c->listen_count; i++)
        if (c->listen[i].protocol == CONF_PROTOCOL_SMTP)
            return c->door.helo != CONF_GRADE_OFF || c->door.reverse_dns != CONF_GRADE_OFF;
    return false;
}

bool conf_introspects(const struct conf *c)
{
    return *c->oauth.introspection != 0;
}

unsigned conf_instances(const struct conf *c, enum role role)
{
    switch (role) {
    case ROLE_MX:
    case ROLE_SUBMISSION:
        return c->smtp.instances;
    case ROLE_IMAPD:
        return c->imap.instances;
    case ROLE_POP3D:
        return c->pop3.instances;
    default:
        return 1;
    }
}

/* ---- what a reload changes ---- */

static bool differs(const struct conf *a, const struct conf *b, size_t offset)
{
    for (size_t i = 0; i < COUNT_OF(keys); i++)
        if (keys[i].offset == offset && !conf_section_many(keys[i].section))
            return !conf_value_equal(&keys[i], (const char *)a + offset, (const char *)b + offset);
    return false;
}

#define OFFSET_main(m) offsetof(struct conf, m)
#define OFFSET_dns(m) offsetof(struct conf, dns.m)
#define OFFSET_oauth(m) offsetof(struct conf, oauth.m)
#define OFFSET_local_submission(m) offsetof(struct conf, local_submission.m)
#define OFFSET_accounts(m) offsetof(struct conf, accounts.m)

static uint32_t roles_at(size_t offset)
{
    for (size_t i = 0; i < COUNT_OF(keys); i++)
        if (keys[i].offset == offset && !conf_section_many(keys[i].section))
            return keys[i].roles;
    return 0;
}

bool conf_needs_restart(const struct conf *a, const struct conf *b, enum role role)
{
    static const size_t offsets[] = {
#define RESTART_OFFSET(section, m) OFFSET_##section(m),
        CONF_RESTARTS(RESTART_OFFSET)
#undef RESTART_OFFSET
    };
    for (size_t i = 0; i < COUNT_OF(offsets); i++)
        if ((roles_at(offsets[i]) & FROM(role)) && differs(a, b, offsets[i]))
            return true;
    return false;
}

const char *conf_fixed_differs(const struct conf *a, const struct conf *b)
{
#define FIXED_DIFFERS(section, m)                  \
    if (differs(a, b, OFFSET_##section(m)))        \
        return #m;
    CONF_FIXED(FIXED_DIFFERS)
#undef FIXED_DIFFERS
    return NULL;
}

static bool section_equal(enum conf_section s, const void *a, const void *b)
{
    for (size_t i = 0; i < COUNT_OF(keys); i++)
        if (keys[i].section == s &&
            !conf_value_equal(&keys[i], (const char *)a + keys[i].offset, (const char *)b + keys[i].offset))
            return false;
    return true;
}

static const struct conf_listen *listen_named(const struct conf *c, const char *name)
{
    for (size_t i = 0; i < c->listen_count; i++)
        if (strcmp(c->listen[i].name, name) == 0)
            return &c->listen[i];
    return NULL;
}

static const struct conf_hold *hold_named(const struct conf *c, const char *name)
{
    for (size_t i = 0; i < c->hold_count; i++)
        if (strcmp(c->hold[i].name, name) == 0)
            return &c->hold[i];
    return NULL;
}

/* One that is in a and gone or different in b; with `gone_only`, just gone (the other way round, the different ones
 * were told already). */
static void many_changes(const struct conf *a, const struct conf *b, bool gone_only, struct buf *out)
{
    for (size_t i = 0; i < a->listen_count; i++) {
        const struct conf_listen *other = listen_named(b, a->listen[i].name);
        if (!other || (!gone_only && !section_equal(CONF_SECTION_listen, &a->listen[i], other)))
            buf_printf(out, "%slisten %s", out->n ? ", " : "", a->listen[i].name);
    }
    for (size_t i = 0; i < a->domain_count; i++) {
        const struct conf_domain *other = conf_domain_find(b, span_of(a->domain[i].name));
        if (!other || (!gone_only && !section_equal(CONF_SECTION_domain, &a->domain[i], other)))
            buf_printf(out, "%sdomain %s", out->n ? ", " : "", a->domain[i].name);
    }
    for (size_t i = 0; i < a->hold_count; i++) {
        const struct conf_hold *other = hold_named(b, a->hold[i].name);
        if (!other || (!gone_only && !section_equal(CONF_SECTION_hold, &a->hold[i], other)))
            buf_printf(out, "%shold %s", out->n ? ", " : "", a->hold[i].name);
    }
}

void conf_changes(const struct conf *a, const struct conf *b, struct buf *out)
{
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        const char *section = conf_section_word(keys[i].section);
        if (!conf_section_many(keys[i].section) &&
            !conf_value_equal(&keys[i], (const char *)a + keys[i].offset, (const char *)b + keys[i].offset))
            buf_printf(out, "%s%s%s%s", out->n ? ", " : "", section, *section ? "." : "", keys[i].key);
    }
    many_changes(a, b, false, out);
    many_changes(b, a, true, out);
}

void conf_errors_free(struct conf_errors *e)
{
    buf_free(&e->text);
    e->count = 0;
}
