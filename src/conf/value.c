/* Values of the configuration: judged as written, compared, and carried over the wire. Every judgement starts from
 * "no". */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "base/client.h"
#include "base/mem.h"
#include "conf/priv.h"

#define LIST_MAX 64
#define PATTERN_MAX 320
#define FIELD_MAX 1000

struct place {
    const struct conf_key *k;
    const char *folder;
    struct arena *arena;
    void *at;
};

/* ---- forms ---- */

static bool is_label(struct span s)
{
    if (s.n == 0 || s.n > 63 || s.p[0] == '-' || s.p[s.n - 1] == '-')
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (!ascii_alpha(s.p[i]) && !ascii_digit(s.p[i]) && s.p[i] != '-' && s.p[i] != '_')
            return false;
    return true;
}

/* A domain name of RFC 1035 §2.3.1, A-labels, no last dot; not an address. */
bool conf_is_host(struct span s)
{
    if (s.n == 0 || s.n > 253)
        return false;
    struct span rest = s, label = SPAN_NONE;
    while (span_find(rest, '.') >= 0) {
        label = span_cut(&rest, '.');
        if (!is_label(label))
            return false;
    }
    bool digits = rest.n > 0;
    for (size_t i = 0; i < rest.n; i++)
        digits = digits && ascii_digit(rest.p[i]);
    return is_label(rest) && !digits;
}

bool conf_is_address(const char *s, int *family)
{
    struct in6_addr a;
    *family = strchr(s, ':') ? AF_INET6 : AF_INET;
    return inet_pton(*family, s, &a) == 1;
}

bool conf_is_loopback(const char *address)
{
    struct in6_addr a;
    if (inet_pton(AF_INET, address, &a) == 1)
        return strncmp(address, "127.", 4) == 0;
    return inet_pton(AF_INET6, address, &a) == 1 && IN6_IS_ADDR_LOOPBACK(&a);
}

struct unit {
    const char *word;
    uint64_t factor;
};
static const struct unit size_units[] = {{"", 1}, {"K", CONF_KIB}, {"M", CONF_MIB}, {"G", CONF_GIB}, {NULL, 0}};
static const struct unit time_units[] = {{"ms", CONF_MS}, {"s", CONF_SECOND},  {"m", CONF_MINUTE}, {"h", CONF_HOUR},
                                         {"d", CONF_DAY}, {"w", 7 * CONF_DAY}, {NULL, 0}};
static const struct unit no_units[] = {{"", 1}, {NULL, 0}};

/* Digits and a unit. -1 no number, -2 no such unit, -3 too large for anything. */
static int read_amount(struct span s, const struct unit *units, uint64_t *out)
{
    size_t digits = 0;
    while (digits < s.n && ascii_digit(s.p[digits]))
        digits++;
    uint64_t n = 0;
    if (digits == 0)
        return -1;
    if (!span_u64(span_sub(s, 0, digits), UINT64_MAX / 2, &n))
        return -3;
    struct span unit = span_from(s, digits);
    if (n == 0 && unit.n == 0) {
        *out = 0;
        return 0;
    }
    for (; units->word; units++)
        if (span_ieqs(unit, units->word)) {
            if (n > UINT64_MAX / 2 / units->factor)
                return -3;
            *out = n * units->factor;
            return 0;
        }
    return -2;
}

static void print_amount(struct buf *out, uint64_t n, const struct unit *units)
{
    const struct unit *best = units;
    for (const struct unit *u = units; u->word; u++)
        if (n && n % u->factor == 0)
            best = u;
    buf_printf(out, "%llu%s", (unsigned long long)(n / best->factor), best->word);
}

static const struct unit *units_of(enum conf_type t)
{
    return t == CONF_IS_size ? size_units : t == CONF_IS_time ? time_units : no_units;
}

static int parse_amount(const struct place *p, struct span v, uint64_t *n, struct err *err)
{
    const struct unit *units = units_of(p->k->type);
    const char *example = p->k->type == CONF_IS_size ? "a number with K, M or G behind, such as 50M"
                          : p->k->type == CONF_IS_time ? "a number with ms, s, m, h, d or w behind, such as 5m"
                                                       : "a whole number";
    int r = read_amount(v, units, n);
    if (r == -1 || r == -2)
        return err_set(err, "\"%.*s\" is not %s, write %s", SPANV(v),
                       p->k->type == CONF_IS_size   ? "a size"
                       : p->k->type == CONF_IS_time ? "a time"
                                                    : "a number",
                       example);
    if (r == -3 || *n < p->k->least || *n > p->k->most) {
        struct buf least = {0}, most = {0};
        print_amount(&least, p->k->least, units);
        print_amount(&most, p->k->most, units);
        err_set(err, "\"%.*s\" is out of range, write %s to %s", SPANV(v), buf_cstr(&least), buf_cstr(&most));
        buf_free(&least);
        buf_free(&most);
        return -1;
    }
    return 0;
}

/* ---- choices ---- */

#define CHOICE_WORD(id, word) word,
#define CHOICE_WORDS(type) static const char *const words_##type[] = {CONF_CHOICES_##type(CHOICE_WORD) NULL};
CONF_CHOICE_TYPES(CHOICE_WORDS)

const char *const *conf_type_choices(enum conf_type t)
{
    switch (t) {
#define CHOICE_CASE(type) case CONF_IS_##type: return words_##type;
        CONF_CHOICE_TYPES(CHOICE_CASE)
#undef CHOICE_CASE
    default:
        return NULL;
    }
}

static int parse_choice(const struct place *p, struct span v, struct err *err)
{
    const char *const *words = conf_type_choices(p->k->type);
    unsigned i = 0;
    for (; words[i]; i++)
        if (span_eqs(v, words[i])) {
            *(unsigned *)p->at = i; /* enums without negative values are unsigned */
            return 0;
        }
    struct buf all = {0};
    for (unsigned j = 0; j < i; j++)
        buf_printf(&all, "%s%s", j == 0 ? "" : j == i - 1 ? " or " : ", ", words[j]);
    const char *near = conf_nearest(v, words, i);
    if (near)
        err_set(err, "\"%.*s\" is none of %s, did you mean \"%s\"?", SPANV(v), buf_cstr(&all), near);
    else
        err_set(err, "\"%.*s\" is not known here, write %s", SPANV(v), buf_cstr(&all));
    buf_free(&all);
    return -1;
}

/* ---- texts and lists ---- */

int conf_hostport_of(struct span s, struct span *host, uint16_t *port, struct err *err)
{
    int family;
    char text[64];
    uint64_t n = *port;
    ptrdiff_t colon = span_rfind(s, ':');
    *host = s;
    if (s.n && s.p[0] == '[') { /* an IPv6 address in brackets */
        ptrdiff_t end = span_find(s, ']');
        if (end < 0 || end > 60)
            return err_set(err, "\"%.*s\" lacks a ']', write [ADDRESS] or [ADDRESS]:PORT", SPANV(s));
        *host = span_sub(s, 1, (size_t)end - 1);
        colon = (size_t)end + 1 < s.n ? end + 1 : -1;
    } else if (colon >= 0) {
        *host = span_sub(s, 0, (size_t)colon);
    }
    if (colon >= 0 && (s.p[colon] != ':' || !span_u64(span_from(s, (size_t)colon + 1), 65535, &n) || n == 0))
        return err_set(err, "\"%.*s\" has no port behind the colon, write HOST:PORT with 1 to 65535", SPANV(s));
    *port = (uint16_t)n;
    if (host->n < sizeof text) {
        memcpy(text, host->p, host->n);
        text[host->n] = 0;
        if (conf_is_address(text, &family))
            return 0;
    }
    return conf_is_host(*host)
               ? 0
               : err_set(
                     err,
                     "\"%.*s\" is not a host, write a domain name or an address, with :PORT behind when it is not 25",
                     SPANV(s));
}

static int parse_hostport(struct span v, struct err *err)
{
    struct span host;
    uint16_t port = 25;
    return conf_hostport_of(v, &host, &port, err);
}

static int parse_address(struct span v, struct err *err)
{
    char text[64];
    int family;
    if (v.n < sizeof text) {
        memcpy(text, v.p, v.n);
        text[v.n] = 0;
        if (conf_is_address(text, &family))
            return 0;
    }
    return err_set(err, "\"%.*s\" is not an IP address, write one such as 192.0.2.1 or 2001:db8::1", SPANV(v));
}

bool conf_networks_have(const struct conf_list *networks, const struct sockaddr_storage *a)
{
    struct network n;
    for (size_t i = 0; i < networks->n; i++)
        if (network_parse(span_of(networks->items[i]), &n) && network_has(&n, a))
            return true;
    return false;
}

/* DNS servers: ADDRESS or ADDRESS@PORT. The only list of words there is. */
static int parse_server(struct span v, struct err *err)
{
    struct span rest = v, address = span_cut(&rest, '@');
    uint64_t port = 0;
    if (span_find(v, '@') >= 0 && (!span_u64(rest, 65535, &port) || port == 0))
        return err_set(err, "\"%.*s\" has no port behind the @, write ADDRESS@PORT with 1 to 65535", SPANV(v));
    return parse_address(address, err);
}

static int parse_login(struct span v, struct err *err)
{
    ptrdiff_t at = span_rfind(v, '@');
    if (at > 0 && (size_t)at + 1 < v.n)
        return 0;
    return err_set(err, "\"%.*s\" is not an account, write LOGIN@DOMAIN", SPANV(v));
}

static int parse_network(struct span v, struct err *err)
{
    struct network n;
    return network_parse(v, &n) ? 0
                                : err_set(err,
                                          "\"%.*s\" is not a network, write ADDRESS or ADDRESS/BITS such as 192.0.2.0/24 "
                                          "or 2001:db8::/32",
                                          SPANV(v));
}

bool conf_time_of(struct span s, int64_t *ms)
{
    uint64_t n;
    if (read_amount(s, time_units, &n) || n > (uint64_t)INT64_MAX)
        return false;
    *ms = (int64_t)n;
    return true;
}

bool conf_size_of(struct span s, uint64_t *bytes)
{
    return read_amount(s, size_units, bytes) == 0;
}

static int parse_step(struct span v, struct err *err)
{
    int64_t ms;
    return conf_time_of(v, &ms) && ms >= CONF_SECOND && ms <= 7 * CONF_DAY
               ? 0
               : err_set(err, "\"%.*s\" is not a wait, write times from 1s to 1w such as 5m 30m 2h", SPANV(v));
}

bool conf_rate_of(struct span s, uint32_t *n, int64_t *per)
{
    struct span unit = s, count = span_cut(&unit, '/');
    uint64_t value;
    if (!span_u64(count, 100000, &value) || value == 0)
        return false;
    *n = (uint32_t)value;
    *per = span_eqs(unit, "s") ? CONF_SECOND : span_eqs(unit, "m") ? CONF_MINUTE : span_eqs(unit, "h") ? CONF_HOUR : 0;
    return *per != 0;
}

static int parse_rate(struct span v, struct err *err)
{
    uint32_t n;
    int64_t per;
    return conf_rate_of(v, &n, &per)
               ? 0
               : err_set(err, "\"%.*s\" is not a rate, write NUMBER/s, NUMBER/m or NUMBER/h such as 10/s", SPANV(v));
}

static bool is_part(struct span s, uint64_t least, uint64_t most)
{
    uint64_t n;
    return span_eqs(s, "*") || (span_u64(s, most, &n) && n >= least);
}

/* 4yz/4.x.y of RFC 5321 §4.2 and RFC 3463; 4yz/none: a reply without a status. */
static int parse_reply(struct span v, struct err *err)
{
    struct span rest = v, code = span_cut(&rest, '/');
    if (is_part(code, 400, 499) && span_eqs(rest, "none"))
        return 0;
    struct span kind = span_cut(&rest, '.'), subject = span_cut(&rest, '.');
    if (is_part(code, 400, 499) && is_part(kind, 4, 4) && is_part(subject, 0, 999) && is_part(rest, 0, 999))
        return 0;
    return err_set(err, "\"%.*s\" is not a reply, write CODE/STATUS such as 450/4.7.1, 451/4.7.* or 450/none", SPANV(v));
}

static int parse_pattern(struct span v, struct err *err)
{
    if (v.n == 0 || v.n > PATTERN_MAX || span_find(v, ' ') >= 0)
        return err_set(err, "\"%.*s\" is not a pattern, write 1 to %d characters without a blank, * stands for any", SPANV(v), PATTERN_MAX);
    return 0;
}

bool conf_field_of(struct span s, struct span *name, struct span *pattern)
{
    struct span rest = s;
    *name = span_cut(&rest, ':');
    *pattern = span_trim(rest);
    for (size_t i = 0; i < name->n; i++) /* RFC5322:2.2 */
        if (name->p[i] <= ' ' || name->p[i] > '~')
            return false;
    return name->n && name->n < s.n && pattern->n;
}

static int parse_field(struct span v, struct err *err)
{
    struct span name, pattern;
    if (conf_field_of(v, &name, &pattern) && v.n <= FIELD_MAX)
        return 0;
    return err_set(err, "\"%.*s\" is not a field of a header, write \"NAME: PATTERN\" such as \"Subject: *invoice*\", at most %d bytes",
                   SPANV(span_utf8_cut(v, 100)), FIELD_MAX);
}

bool conf_value_is_list(const struct conf_key *k)
{
    return k->type == CONF_IS_words || k->type == CONF_IS_addresses || k->type == CONF_IS_networks ||
           k->type == CONF_IS_logins || k->type == CONF_IS_times || k->type == CONF_IS_rate ||
           k->type == CONF_IS_replies || k->type == CONF_IS_patterns;
}

static int parse_item(enum conf_type type, struct span v, struct err *err)
{
    return type == CONF_IS_logins      ? parse_login(v, err)
           : type == CONF_IS_times     ? parse_step(v, err)
           : type == CONF_IS_rate      ? parse_rate(v, err)
           : type == CONF_IS_replies   ? parse_reply(v, err)
           : type == CONF_IS_networks  ? parse_network(v, err)
           : type == CONF_IS_patterns  ? parse_pattern(v, err)
           : type == CONF_IS_addresses ? parse_address(v, err)
                                       : parse_server(v, err);
}

static bool is_none(const struct conf_key *k, const struct span *values, size_t n)
{
    return k->type == CONF_IS_networks && n == 1 && span_eqs(values[0], "none");
}

int conf_value_judge(const struct conf_key *k, const struct span *values, size_t n, size_t i, struct err *err)
{
    return is_none(k, values, n) ? 0 : parse_item(k->type, values[i], err);
}

static int parse_list(const struct place *p, const struct span *values, size_t n, struct err *err)
{
    if (n < p->k->least || n > p->k->most || n > LIST_MAX)
        return err_set(err, "takes %llu to %llu values and has %zu, take some away", (unsigned long long)p->k->least,
                       (unsigned long long)p->k->most, n);
    if (is_none(p->k, values, n))
        n = 0;
    const char **items = arena_alloc(p->arena, (n + 1) * sizeof *items);
    for (size_t i = 0; i < n; i++) {
        if (parse_item(p->k->type, values[i], err))
            return -1;
        items[i] = arena_str(p->arena, values[i]);
    }
    *(struct conf_list *)p->at = (struct conf_list){items, n};
    return 0;
}

static void store_path(const struct place *p, struct span v)
{
    struct span whole = v.p[0] == '/' ? v : arena_printf(p->arena, "%s/%.*s", p->folder, SPANV(v));
    *(const char **)p->at = arena_str(p->arena, whole);
}

static int parse_flag(const struct place *p, struct span v, struct err *err)
{
    if (!span_eqs(v, "yes") && !span_eqs(v, "no"))
        return err_set(err, "\"%.*s\" is neither yes nor no, write one of them", SPANV(v));
    *(bool *)p->at = span_eqs(v, "yes");
    return 0;
}

static int parse_number(const struct place *p, struct span v, struct err *err)
{
    uint64_t n = 0;
    bool none = p->k->type == CONF_IS_time && p->k->least == 0 && span_eqs(v, "no"); /* 0, as people say it */
    if (!none && parse_amount(p, v, &n, err))
        return -1;
    if (p->k->type == CONF_IS_number)
        *(uint32_t *)p->at = (uint32_t)n;
    else
        *(uint64_t *)p->at = n; /* times are int64_t and far below its end */
    return 0;
}

static int parse_text(const struct place *p, struct span v, struct err *err)
{
    if (v.n == 0 && !(p->k->def && !*p->k->def))
        return err_set(err, "is empty, give a value or take the line away");
    if (v.n > 4000)
        return err_set(err, "is too long, at most 4000 bytes");
    if (v.n && p->k->type == CONF_IS_host && !conf_is_host(v))
        return err_set(err, "\"%.*s\" is not a host name, write one such as mail.example.org", SPANV(v));
    if (v.n && p->k->type == CONF_IS_hostport && parse_hostport(v, err))
        return -1;
    if (v.n && p->k->type == CONF_IS_field && parse_field(v, err))
        return -1;
    if (v.n && (p->k->type == CONF_IS_path || p->k->type == CONF_IS_secret_file || p->k->type == CONF_IS_text_file))
        store_path(p, v);
    else
        *(const char **)p->at = arena_str(p->arena, v);
    return 0;
}

int conf_value_parse(const struct conf_key *k, const struct span *values, size_t n, const char *folder,
                     struct arena *arena, void *at, struct err *err)
{
    struct place p = {k, folder, arena, at};
    if (conf_value_is_list(k))
        return parse_list(&p, values, n, err);
    if (n == 0)
        return err_set(err, "has no value, give one");
    if (n > 1)
        return err_set(err, "takes one value and has %zu, put quotes around a value with blanks", n);
    switch (k->type) {
    case CONF_IS_number:
    case CONF_IS_size:
    case CONF_IS_time:
        return parse_number(&p, values[0], err);
    case CONF_IS_flag:
        return parse_flag(&p, values[0], err);
    case CONF_IS_text:
    case CONF_IS_path:
    case CONF_IS_host:
    case CONF_IS_hostport:
    case CONF_IS_field:
    case CONF_IS_secret_file:
    case CONF_IS_text_file:
        return parse_text(&p, values[0], err);
    default:
        return parse_choice(&p, values[0], err);
    }
}

void conf_value_default(const struct conf_key *k, struct arena *arena, void *at)
{
    struct span words[LIST_MAX], rest = span_of(k->def ? k->def : "");
    size_t n = 0;
    bool list = conf_value_is_list(k);
    if (!k->def && !conf_type_choices(k->type))
        return; /* a number that must be given: zero until then */
    if (!k->def) {
        *(unsigned *)at = 0;
        return;
    }
    if (!list)
        words[n++] = rest;
    else
        for (struct span w; (w = span_word(&rest)).n && n < LIST_MAX;)
            words[n++] = w;
    struct err err;
    if (list && n == 0) {
        static const char *const none[1];
        *(struct conf_list *)at = (struct conf_list){none, 0};
        return;
    }
    if (conf_value_parse(k, words, n, "/", arena, at, &err))
        abort(); /* the table breaks its own rules */
}

/* ---- comparing ---- */

static bool lists_equal(const struct conf_list *a, const struct conf_list *b)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (strcmp(a->items[i], b->items[i]) != 0)
            return false;
    return true;
}

bool conf_value_equal(const struct conf_key *k, const void *a, const void *b)
{
    switch (k->type) {
    case CONF_IS_text:
    case CONF_IS_path:
    case CONF_IS_host:
    case CONF_IS_hostport:
    case CONF_IS_field:
    case CONF_IS_secret_file:
    case CONF_IS_text_file:
        return strcmp(*(const char *const *)a, *(const char *const *)b) == 0;
    case CONF_IS_words:
    case CONF_IS_addresses:
    case CONF_IS_logins:
    case CONF_IS_times:
    case CONF_IS_rate:
    case CONF_IS_replies:
    case CONF_IS_patterns:
    case CONF_IS_networks:
        return lists_equal(a, b);
    case CONF_IS_size:
    case CONF_IS_time:
        return *(const uint64_t *)a == *(const uint64_t *)b;
    case CONF_IS_flag:
        return *(const bool *)a == *(const bool *)b;
    default:
        return *(const uint32_t *)a == *(const uint32_t *)b;
    }
}

/* ---- the wire: numbers as numbers, lists as words with a blank between ---- */

void conf_value_put(const struct conf_key *k, const void *at, uint64_t *number, struct buf *text)
{
    *number = 0;
    switch (k->type) {
    case CONF_IS_text:
    case CONF_IS_path:
    case CONF_IS_host:
    case CONF_IS_hostport:
    case CONF_IS_field:
    case CONF_IS_secret_file:
    case CONF_IS_text_file:
        buf_adds(text, *(const char *const *)at);
        break;
    case CONF_IS_words:
    case CONF_IS_addresses:
    case CONF_IS_logins:
    case CONF_IS_times:
    case CONF_IS_rate:
    case CONF_IS_replies:
    case CONF_IS_patterns:
    case CONF_IS_networks:
        for (size_t i = 0; i < ((const struct conf_list *)at)->n; i++)
            buf_printf(text, "%s%s", i ? " " : "", ((const struct conf_list *)at)->items[i]);
        break;
    case CONF_IS_size:
    case CONF_IS_time:
        *number = *(const uint64_t *)at;
        break;
    case CONF_IS_flag:
        *number = *(const bool *)at;
        break;
    default:
        *number = *(const uint32_t *)at;
    }
}

static int get_list(struct span text, struct arena *arena, void *at)
{
    const char **items = arena_alloc(arena, LIST_MAX * sizeof *items);
    size_t n = 0;
    for (struct span w; (w = span_word(&text)).n;) {
        if (n == LIST_MAX)
            return -1;
        items[n++] = arena_str(arena, w);
    }
    *(struct conf_list *)at = (struct conf_list){items, n};
    return 0;
}

static int get_choice(const struct conf_key *k, uint64_t number, void *at)
{
    const char *const *words = conf_type_choices(k->type);
    for (uint64_t i = 0; words && words[i]; i++)
        if (i == number) {
            *(unsigned *)at = (unsigned)i;
            return 0;
        }
    return -1;
}

int conf_value_get(const struct conf_key *k, uint64_t number, struct span text, struct arena *arena, void *at)
{
    switch (k->type) {
    case CONF_IS_text:
    case CONF_IS_path:
    case CONF_IS_host:
    case CONF_IS_hostport:
    case CONF_IS_field:
    case CONF_IS_secret_file:
    case CONF_IS_text_file:
        *(const char **)at = arena_str(arena, text);
        return 0;
    case CONF_IS_words:
    case CONF_IS_addresses:
    case CONF_IS_logins:
    case CONF_IS_times:
    case CONF_IS_rate:
    case CONF_IS_replies:
    case CONF_IS_patterns:
    case CONF_IS_networks:
        return get_list(text, arena, at);
    case CONF_IS_flag:
        *(bool *)at = number == 1;
        return number <= 1 ? 0 : -1;
    case CONF_IS_number:
        *(uint32_t *)at = (uint32_t)number;
        return number >= k->least && number <= k->most ? 0 : -1;
    case CONF_IS_size:
    case CONF_IS_time:
        *(uint64_t *)at = number;
        return number >= k->least && number <= k->most ? 0 : -1;
    default:
        return get_choice(k, number, at);
    }
}
