/* What the files of conf/ share. */
#ifndef CONF_PRIV_H
#define CONF_PRIV_H

#include "conf/conf.h"

#define CONF_KEYS_MAX 256       /* rows of the table */
#define CONF_NAME_KEY 0xffff    /* on the wire: not a key but the section's name; of the keys outside of sections: the file's */
#define CONF_SECTIONS_MAX 10000 /* those with a name, of one file */

/* Judges one value. values: the words as written. On success the value is stored at `at`. err: what is wrong and how
 * to mend it. */
int conf_value_parse(const struct conf_key *k, const struct span *values, size_t n, const char *folder,
                     struct arena *arena, void *at, struct err *err);
bool conf_value_is_list(const struct conf_key *k);
/* Of a list, item i alone. */
int conf_value_judge(const struct conf_key *k, const struct span *values, size_t n, size_t i, struct err *err);
/* The default, from the table. */
void conf_value_default(const struct conf_key *k, struct arena *arena, void *at);
bool conf_value_equal(const struct conf_key *k, const void *a, const void *b);
/* To and from the wire. Texts are copied into the arena; -1: the number is out of its range. */
void conf_value_put(const struct conf_key *k, const void *at, uint64_t *number, struct buf *text);
int conf_value_get(const struct conf_key *k, uint64_t number, struct span text, struct arena *arena, void *at);
/* What a text_file says; nothing for an empty path. */
int conf_read_text(const char *path, struct buf *out, struct err *err);
bool conf_is_host(struct span s);
bool conf_is_address(const char *s, int *family); /* AF_INET, AF_INET6 */
bool conf_is_loopback(const char *address);

/* Adds a section of those that there may be many of, with its defaults. *index: its place in the file. */
void conf_add_section(struct conf *c, enum conf_section s, struct span name, uint32_t line, uint16_t **index);
/* Where the keys of that section instance are: the base that conf_key.offset counts from. */
void *conf_section_base(struct conf *c, enum conf_section s, unsigned instance);

/* ---- the parser's memory of places, for the checks that follow ---- */
struct conf_place {
    enum conf_section section;
    unsigned instance;
    unsigned line;                 /* 0: the section is not in the file */
    unsigned key_line[CONF_KEYS_MAX]; /* by row of the table; 0: not given */
    struct span name;
};
struct conf_parse {
    const char *file;
    char *folder;
    struct conf *conf;
    struct conf_errors *errors;
    struct conf_place **places;
    size_t place_count, place_cap;
    bool files; /* look at what the file names, too */
    conf_pair_fn *pair; /* NULL: nobody judges certificates and keys */
};

void conf_error(struct conf_parse *p, unsigned line, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* The same with another file than the configuration. */
void conf_error_in(struct conf_parse *p, const char *file, unsigned line, const char *fmt, ...) PRINTF_LIKE(4, 5);
/* The line of that key, or of its section, or 1. */
unsigned conf_line(const struct conf_parse *p, enum conf_section s, unsigned instance, const char *key);
/* What only shows when all keys are known. */
void conf_check(struct conf_parse *p);
/* The nearest of the words, or NULL when none is near. */
const char *conf_nearest(struct span word, const char *const *words, size_t count);

#endif
