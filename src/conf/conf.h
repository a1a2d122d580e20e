/* The configuration: one file, read and checked by the supervisor alone, sent to each program as typed settings (only
 * the keys its role is told of; all others have their defaults there). A generation is immutable and counted: sessions
 * keep the one they began with.
 *
 * Members are named in conf/keys.h: conf->hostname, conf->smtp.max_message_size, conf->queue.commit_wait (ms), … Texts
 * are never NULL ("" when not given) and hold no NUL or control character. */
#ifndef CONF_CONF_H
#define CONF_CONF_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/err.h"
#include "conf/keys.h"
#include "ipc/msg.h"

/* ---- what the table expands to ---- */
struct conf_list {
    const char *const *items;
    size_t n;
};

#define CONF_ENUM_VALUE(id, word) CONF_##id,
#define CONF_ENUM(type) enum conf_##type { CONF_CHOICES_##type(CONF_ENUM_VALUE) };
CONF_CHOICE_TYPES(CONF_ENUM)
#undef CONF_ENUM

typedef const char *conf_type_text;
typedef const char *conf_type_path; /* absolute: a relative one in the file is meant from the file's folder */
typedef const char *conf_type_host;
typedef const char *conf_type_hostport;
typedef const char
    *conf_type_secret_file; /* the supervisor: the path; the role that is told: the first line of that file */
typedef const char *conf_type_text_file; /* the supervisor: the path; the role that is told: what that file says */
typedef struct conf_list conf_type_words;
typedef struct conf_list conf_type_addresses; /* IP addresses as text, without brackets */
typedef struct conf_list conf_type_logins;    /* LOGIN@DOMAIN each */
typedef struct conf_list conf_type_times;     /* as text, for conf_time_of() */
typedef struct conf_list conf_type_rate;      /* none or one, for conf_rate_of() */
typedef struct conf_list conf_type_replies;   /* CODE/STATUS each, * for any part: "450/4.7.*" */
typedef struct conf_list conf_type_patterns;  /* for span_fits() */
typedef const char *conf_type_field;          /* "NAME: PATTERN", for conf_field_of() */
typedef struct conf_list conf_type_networks;  /* as text, for network_parse() of base/client.h */
typedef uint32_t conf_type_number;
typedef uint64_t conf_type_size; /* bytes */
typedef int64_t conf_type_time;  /* ms */
typedef bool conf_type_flag;
#define CONF_CHOICE_TYPEDEF(type) typedef enum conf_##type conf_type_##type;
CONF_CHOICE_TYPES(CONF_CHOICE_TYPEDEF)
#undef CONF_CHOICE_TYPEDEF

#define CONF_MEMBER(member, key, type, def, least, most, roles, doc) conf_type_##type member;
struct conf_listen {
    const char *name;
    uint32_t line; /* where it begins, here and below */
    uint16_t index; /* of the section in the file: the `instance` of its listeners and certificates */
    CONF_KEYS_listen(CONF_MEMBER)
};
struct conf_domain {
    const char *name; /* lower case */
    uint32_t line;
    uint16_t index;
    CONF_KEYS_domain(CONF_MEMBER)
};
#define CONF_HOLDS_MAX 64
struct conf_hold {
    const char *name;
    uint32_t line;
    uint16_t index;
    CONF_KEYS_hold(CONF_MEMBER)
};

struct conf {
    uint32_t generation;
    const char *file; /* its name, for people; "" when there is none */
    CONF_KEYS_main(CONF_MEMBER)
    struct { CONF_KEYS_tls(CONF_MEMBER) } tls;
    struct { CONF_KEYS_smtp(CONF_MEMBER) } smtp;
    struct { CONF_KEYS_door(CONF_MEMBER) } door;
    struct { CONF_KEYS_imap(CONF_MEMBER) } imap;
    struct { CONF_KEYS_pop3(CONF_MEMBER) } pop3;
    struct { CONF_KEYS_limits(CONF_MEMBER) } limits;
    struct { CONF_KEYS_sending(CONF_MEMBER) } sending;
    struct { CONF_KEYS_queue(CONF_MEMBER) } queue;
    struct { CONF_KEYS_notices(CONF_MEMBER) } notices;
    struct { CONF_KEYS_relay(CONF_MEMBER) } relay;
    struct { CONF_KEYS_dns(CONF_MEMBER) } dns;
    struct { CONF_KEYS_accounts(CONF_MEMBER) } accounts;
    struct { CONF_KEYS_oauth(CONF_MEMBER) } oauth;
    struct { CONF_KEYS_local_submission(CONF_MEMBER) } local_submission;
    struct conf_listen *listen; /* a program is told only of those of its protocol */
    size_t listen_count;
    struct conf_domain *domain; /* ordered by name */
    size_t domain_count;
    struct conf_hold *hold; /* in the order of the file */
    size_t hold_count;

    unsigned refs; /* the rest belongs to conf.c */
    uint32_t *lines; /* of the keys of single sections, by row of the table; 0: not in the file */
    struct arena arena;
};

struct sockaddr_storage;

const struct conf *conf_ref(const struct conf *c);
void conf_unref(const struct conf **c); /* the last one frees it */
/* Where a key of a single section stands: "FILE:LINE", or "the default". member: conf_where(c, &c->door.helo, …). */
#define CONF_WHERE_MAX 300
const char *conf_where(const struct conf *c, const void *member, char text[CONF_WHERE_MAX]);
/* All defaults (for tests, and what a program has before it is told more). */
struct conf *conf_new(uint32_t generation);

const struct conf_listen *conf_listen_at(const struct conf *c,
                                         unsigned index); /* NULL when there is none with that index */
const struct conf_domain *conf_domain_find(const struct conf *c, struct span name); /* without case; NULL */
/* The section that holds for a domain: its own, else that of the longest pattern *.NAME that it is below, else *; NULL. */
const struct conf_domain *conf_domain_for(const struct conf *c, struct span name);
bool conf_domain_is_pattern(const struct conf_domain *d);
/* Whether one of the networks holds that address. */
bool conf_networks_have(const struct conf_list *networks, const struct sockaddr_storage *a);
/* Items of lists: a time in ms; how many in how many ms. False: it is none. */
bool conf_time_of(struct span s, int64_t *ms);
bool conf_size_of(struct span s, uint64_t *bytes);
/* HOST, HOST:PORT, [ADDRESS] or [ADDRESS]:PORT in its parts, host without brackets; *port stays as it is when none is given. -1: it is none of
 * these, and how to mend it. */
int conf_hostport_of(struct span s, struct span *host, uint16_t *port, struct err *err);
/* "NAME: PATTERN" in its two parts. */
bool conf_field_of(struct span s, struct span *name, struct span *pattern);
bool conf_rate_of(struct span s, uint32_t *n, int64_t *per);
/* The role that serves that listener. */
enum role conf_listen_role(const struct conf_listen *l);
/* The certificate and key file that apply to it; "" when it needs none. */
const char *conf_listen_certificate(const struct conf *c, const struct conf_listen *l);
const char *conf_listen_key(const struct conf *c, const struct conf_listen *l);
/* What is offered for logins: enum sasl_can bits of auth/mechanisms.h. */
unsigned conf_mechanisms(const struct conf *c);
/* Whether any check of section door asks DNS. */
bool conf_judges(const struct conf *c);
/* Whether tokens are asked about at their issuer. */
bool conf_introspects(const struct conf *c);
/* How many processes serve that role. */
unsigned conf_instances(const struct conf *c, enum role role);

/* ---- the supervisor's side ---- */

/* Errors of a file, all of them: each "FILE:LINE: what, how to mend" with a newline. */
struct conf_errors {
    struct buf text;
    size_t count;
};
void conf_errors_free(struct conf_errors *e);

#define CONF_FILE_MAX (4u << 20)

/* Reads the text of a file. `name` stands in errors, and its folder is where relative paths start. NULL when there was
 * any error. Only the text is judged; conf_check_files() looks at what it names. */
struct conf *conf_parse(const char *name, struct span text, uint32_t generation, struct conf_errors *errors);
/* Reads the file, and judges the files that it names, too: certificates and keys readable, folders there. */
struct conf *conf_load(const char *name, uint32_t generation, struct conf_errors *errors);
/* The same, and `pair` judges each certificate file with its key file: -1 and why, when they don't fit or one is bad. */
typedef int conf_pair_fn(const char *certificate, const char *key, struct err *err);
struct conf *conf_load_pairs(const char *name, uint32_t generation, struct conf_errors *errors, conf_pair_fn *pair);

/* Calls `say` for each setting that the role is told of, then settings_end. -1: a file whose content is told could not be read. */
typedef void conf_say_fn(void *ctx, const struct msg *m);
int conf_send(const struct conf *c, enum role role, conf_say_fn *say, void *ctx, struct err *err);
/* Whether the reload from a to b makes that role's programs start anew. */
bool conf_needs_restart(const struct conf *a, const struct conf *b, enum role role);
/* The first key of CONF_FIXED that differs ("state"), or NULL. */
const char *conf_fixed_differs(const struct conf *a, const struct conf *b);

/* The keys that differ, for people: "smtp.max-recipients, listen mx, domain a.test". Empty: nothing does. */
void conf_changes(const struct conf *a, const struct conf *b, struct buf *out);

/* ---- the program's side: settings come in, a configuration comes out ---- */
struct conf_receiver;
struct conf_receiver *conf_receiver_new(void);
void conf_receiver_free(struct conf_receiver **r);
/* A `setting` or `settings_end`. 1: the generation is complete, *out is it (one reference, the caller's); 0 more to
 * come; -1 wrong. */
int conf_receive(struct conf_receiver *r, const struct msg *m, const struct conf **out, struct err *err);

/* ---- the table, for the manual and tests ---- */
enum conf_type {
    CONF_IS_text, CONF_IS_path, CONF_IS_host, CONF_IS_hostport, CONF_IS_secret_file, CONF_IS_text_file, CONF_IS_words, CONF_IS_addresses, CONF_IS_networks, CONF_IS_logins, CONF_IS_times, CONF_IS_rate, CONF_IS_replies, CONF_IS_patterns, CONF_IS_field,
    CONF_IS_number, CONF_IS_size, CONF_IS_time, CONF_IS_flag,
#define CONF_IS(type) CONF_IS_##type,
    CONF_CHOICE_TYPES(CONF_IS)
#undef CONF_IS
};
enum conf_section {
#define CONF_SECTION_ENUM(id, word, many) CONF_SECTION_##id,
    CONF_SECTIONS(CONF_SECTION_ENUM)
#undef CONF_SECTION_ENUM
        CONF_SECTION_COUNT
};
struct conf_key {
    enum conf_section section;
    const char *key;
    enum conf_type type;
    const char *def; /* NULL: must be given */
    uint64_t least, most;
    uint32_t roles;
    const char *doc;
    size_t offset; /* in struct conf, or in the section's own structure when there are many of it */
};
const struct conf_key *conf_keys(size_t *count);
const char *conf_section_word(enum conf_section s);
bool conf_section_many(enum conf_section s);
/* The words of a choice type, NULL at the end; NULL for other types. */
const char *const *conf_type_choices(enum conf_type t);

#endif
