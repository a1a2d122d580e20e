/* doc/waypost.conf.5 and etc/waypost.conf.example against the table of keys. To renew the page: WAYPOST_WRITE_DOCS=1
 * tests/unit/t-conf in the source tree. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "conf/conf.h"
#include "conf/describe.h"

static FILE *open_source(const char *name)
{
    char path[4096];
    const char *src = getenv("srcdir");
    FILE *f = fopen(name, "r");
    if (f)
        return f;
    snprintf(path, sizeof path, "%s/%s", src ? src : ".", name);
    f = fopen(path, "r");
    cr_assert(f, "%s is not there; run this in the source tree", name);
    return f;
}

static void read_source(const char *name, struct buf *out)
{
    FILE *f = open_source(name);
    size_t n;
    while ((n = fread(buf_room(out, 65536), 1, 65536, f)) > 0)
        out->n += n;
    fclose(f);
}

/* The defaults that depend on where it is installed are shown as the page has them. */
static void built_in_paths(struct buf *b)
{
    static const struct {
        const char *built, *shown;
    } paths[] = {{LOCALSTATEDIR "/lib/waypost\n", "/var/lib/waypost\n"}, {RUNSTATEDIR "/waypost\n", "/run/waypost\n"}};
    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        ptrdiff_t at = span_search(buf_span(b), span_of(paths[i].built));
        cr_assert(at >= 0);
        struct buf out = {0};
        buf_add(&out, span_sub(buf_span(b), 0, (size_t)at));
        buf_adds(&out, paths[i].shown);
        buf_add(&out, span_from(buf_span(b), (size_t)at + strlen(paths[i].built)));
        buf_free(b);
        *b = out;
    }
}

Test(conf, the_manual_page_is_what_the_table_says)
{
    struct buf want = {0}, have = {0};
    conf_describe(&want);
    built_in_paths(&want);
    if (getenv("WAYPOST_WRITE_DOCS")) {
        FILE *out = fopen("doc/waypost.conf.5", "w");
        cr_assert(out);
        fwrite(want.p, 1, want.n, out);
        fclose(out);
    }
    read_source("doc/waypost.conf.5", &have);
    cr_assert(span_eq(buf_span(&want), buf_span(&have)), "doc/waypost.conf.5 is old");
    buf_free(&want);
    buf_free(&have);
}

Test(conf, the_example_is_right_and_names_every_section)
{
    struct buf text = {0};
    struct conf_errors e = {0};
    read_source("etc/waypost.conf.example", &text);
    const struct conf *c = conf_parse("etc/waypost.conf.example", buf_span(&text), 1, &e);
    cr_assert(c, "%s", buf_cstr(&e.text));
    conf_unref(&c);
    /* with its commented settings switched on, too: "#key value;" */
    for (size_t i = 0; i + 1 < text.n; i++)
        if (text.p[i] == '#' && (i == 0 || text.p[i - 1] == '\n' || text.p[i - 1] == ' ') && ascii_alpha(text.p[i + 1]))
            text.p[i] = ' ';
    c = conf_parse("etc/waypost.conf.example", buf_span(&text), 1, &e);
    cr_assert(c, "%s", buf_cstr(&e.text));
    conf_unref(&c);
    for (unsigned s = 1; s < CONF_SECTION_COUNT; s++) {
        char word[64];
        snprintf(word, sizeof word, "\n%s ", conf_section_word((enum conf_section)s));
        cr_expect(span_search(buf_span(&text), span_of(word)) >= 0, "no section %s in the example", word + 1);
    }
    buf_free(&text);
    conf_errors_free(&e);
}

Test(conf, every_key_has_its_line_in_the_table)
{
    size_t count;
    const struct conf_key *keys = conf_keys(&count);
    for (size_t i = 0; i < count; i++) {
        cr_expect(strlen(keys[i].doc) > 10, "%s", keys[i].key);
        cr_expect(keys[i].doc[strlen(keys[i].doc) - 1] == '.', "%s", keys[i].key);
        cr_expect(keys[i].type != CONF_IS_number || keys[i].most > keys[i].least, "%s", keys[i].key);
    }
}
