/* doc/waypost.conf.5, written from the table of keys; a test compares the two. */
#include "conf/describe.h"

#include "conf/conf.h"

static void man_text(struct buf *out, const char *s)
{
    for (; *s; s++) {
        if (*s == '-' || *s == '\\')
            buf_addc(out, '\\');
        buf_addc(out, *s);
    }
}

static const char *type_words(const struct conf_key *k)
{
    switch (k->type) {
    case CONF_IS_path:
    case CONF_IS_secret_file:
    case CONF_IS_text_file:
        return "path";
    case CONF_IS_host:
        return "host name";
    case CONF_IS_hostport:
        return "HOST or HOST:PORT";
    case CONF_IS_words:
        return "ADDRESS or ADDRESS@PORT, several with blanks between";
    case CONF_IS_times:
        return "times with blanks between";
    case CONF_IS_rate:
        return "NUMBER/s, NUMBER/m or NUMBER/h";
    case CONF_IS_replies:
        return "CODE/STATUS, several with blanks between";
    case CONF_IS_patterns:
        return "patterns with blanks between";
    case CONF_IS_field:
        return "\"NAME: PATTERN\"";
    case CONF_IS_logins:
        return "accounts with blanks between";
    case CONF_IS_networks:
        return "networks with blanks between, or none";
    case CONF_IS_addresses:
        return "IP addresses with blanks between";
    case CONF_IS_number:
        return "number";
    case CONF_IS_size:
        return "size";
    case CONF_IS_time:
        return "time";
    case CONF_IS_flag:
        return "yes or no";
    default:
        return "text";
    }
}

static void amount(struct buf *out, enum conf_type type, uint64_t n)
{
    static const struct {
        uint64_t factor;
        const char *word;
    } sizes[] = {{CONF_GIB, "G"}, {CONF_MIB, "M"}, {CONF_KIB, "K"}},
      times[] = {{CONF_DAY, "d"}, {CONF_HOUR, "h"}, {CONF_MINUTE, "m"}, {CONF_SECOND, "s"}, {CONF_MS, "ms"}};
    for (size_t i = 0; n && type == CONF_IS_size && i < COUNT_OF(sizes); i++)
        if (n % sizes[i].factor == 0) {
            buf_printf(out, "%llu%s", (unsigned long long)(n / sizes[i].factor), sizes[i].word);
            return;
        }
    for (size_t i = 0; n && type == CONF_IS_time && i < COUNT_OF(times); i++)
        if (n % times[i].factor == 0) {
            buf_printf(out, "%llu%s", (unsigned long long)(n / times[i].factor), times[i].word);
            return;
        }
    buf_printf(out, "%llu", (unsigned long long)n);
}

static void describe_key(struct buf *out, const struct conf_key *k)
{
    const char *const *choices = conf_type_choices(k->type);
    buf_adds(out, ".TP\n.B ");
    man_text(out, k->key);
    buf_adds(out, "\n");
    man_text(out, k->doc);
    buf_adds(out, "\n.br\n");
    if (choices) {
        for (size_t i = 0; choices[i]; i++)
            buf_printf(out, "%s%s", i == 0 ? "One of " : ", ", choices[i]);
    } else {
        buf_printf(out, "Value: %s", type_words(k));
    }
    if (k->type == CONF_IS_number || k->type == CONF_IS_size || k->type == CONF_IS_time) {
        buf_adds(out, ", ");
        amount(out, k->type, k->least);
        buf_adds(out, " to ");
        amount(out, k->type, k->most);
    }
    if (!k->def)
        buf_adds(out, ". Must be given.\n");
    else if (!*k->def)
        buf_adds(out, ". Default: none.\n");
    else {
        buf_adds(out, ". Default: ");
        man_text(out, k->def);
        buf_adds(out, "\n");
    }
}

static const char head[] =
    ".\\\" Written from src/conf/keys.h by tests/unit/t-conf (WAYPOST_WRITE_DOCS=1); change it there.\n"
    ".TH WAYPOST.CONF 5 \"\" \"waypost\" \"Waypost\"\n"
    ".SH NAME\nwaypost.conf \\- configuration of the Waypost mail server\n"
    ".SH DESCRIPTION\n"
    "One file holds the whole configuration. A key is written as\n.PP\n.RS\n.nf\nkey value;\n.fi\n.RE\n.PP\non one "
    "line, and keys that belong together stand in a section:\n"
    ".PP\n.RS\n.nf\nsection {\n    key value;\n}\n\nlisten mx {\n    protocol smtp;\n    port 25;\n}\n.fi\n.RE\n.PP\n"
    "A comment begins with # and ends with the line. A value with blanks is put into double quotes; inside, \\e\" and "
    "\\e\\e stand for \" and \\e.\n"
    "A size is a number of bytes with K, M or G behind (50M); a time is a number with ms, s, m, h, d or w behind (5d). "
    "A relative path is meant from the\n"
    "folder of this file. Unknown keys and sections are errors.\n.PP\n"
    "Domains, accounts and aliases are not configured here but with\n.BR waypost (8).\n"
    ".B waypost check\nreads the file and names every mistake with its line and how to mend it;\n.B waypost reload\n"
    "makes the running server follow it, all or nothing, without dropping a session.\n"
    "A reload that changes dns server, trust\\-anchor, local\\-zones or the uid range of accounts starts the programs "
    "concerned anew; state and run can't change\n"
    "while the server runs.\n";

static const char foot[] = ".SH FILES\n.TP\n.I /etc/waypost/waypost.conf\n.SH SEE ALSO\n.BR waypost (8)\n";

void conf_describe(struct buf *out)
{
    size_t count;
    const struct conf_key *keys = conf_keys(&count);
    buf_adds(out, head);
    for (size_t i = 0; i < count; i++) {
        const char *word = conf_section_word(keys[i].section);
        if (i == 0 || keys[i].section != keys[i - 1].section) {
            if (!*word)
                buf_adds(out, ".SH KEYS OUTSIDE OF SECTIONS\n");
            else
                buf_printf(out, ".SH SECTION %s%s\n", word, conf_section_many(keys[i].section) ? " NAME" : "");
        }
        describe_key(out, &keys[i]);
    }
    buf_adds(out, foot);
}
