/* A configuration as messages: what one role is told of it, and back again. The program's side judges numbers by the
 * table once more. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "conf/notice_text.h"
#include "conf/priv.h"

#define SECRET_MAX 1024

struct sender {
    const struct conf *conf;
    enum role role;
    conf_say_fn *say;
    void *ctx;
    uint32_t count;
};

/* The first line of a file, for the role alone. */
static int read_secret(const char *path, struct buf *out, struct err *err)
{
    char line[SECRET_MAX];
    if (!*path)
        return 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "%s", path);
    ssize_t n = read(fd, line, sizeof line);
    close(fd);
    struct span rest = span_make(line, n > 0 ? (size_t)n : 0), first = span_trim(span_cut(&rest, '\n'));
    if (first.n == 0 || first.n == sizeof line || span_has_control(first))
        return err_set(err, "%s: its first line must be the password, at most %d bytes", path, SECRET_MAX - 1);
    buf_add(out, first);
    explicit_bzero(line, sizeof line);
    return 0;
}

/* All of a file, for the role alone; what it has to be like was checked with the configuration. */
int conf_read_text(const char *path, struct buf *out, struct err *err)
{
    int fd = *path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    ssize_t n;
    if (!*path)
        return 0;
    if (fd < 0)
        return err_errno(err, "%s", path);
    while ((n = read(fd, buf_room(out, NOTICE_TEXT_MAX + 1), NOTICE_TEXT_MAX + 1)) > 0 && out->n <= NOTICE_TEXT_MAX)
        out->n += (size_t)n;
    close(fd);
    if (n < 0)
        return err_errno(err, "%s", path);
    if (out->n > NOTICE_TEXT_MAX || span_find(buf_span(out), '\0') >= 0)
        return err_set(err, "%s: not a text of %u KiB at most", path, NOTICE_TEXT_MAX >> 10);
    return 0;
}

static void say(struct sender *s, enum conf_section section, unsigned instance, unsigned key, unsigned line,
                uint64_t number, struct span value)
{
    struct msg m = {.type = MSG_setting,
                    .setting = {.generation = s->conf->generation,
                                .section = (uint16_t)section,
                                .instance = (uint16_t)instance,
                                .key = (uint16_t)key,
                                .line = line,
                                .number = number,
                                .value = value}};
    s->say(s->ctx, &m);
    s->count++;
}

static int say_key(struct sender *s, size_t row, unsigned instance, const void *base, struct err *err)
{
    size_t count;
    const struct conf_key *k = &conf_keys(&count)[row];
    struct buf text = {0};
    uint64_t number = 0;
    int r = 0;
    if (k->type == CONF_IS_secret_file)
        r = read_secret(*(const char *const *)((const char *)base + k->offset), &text, err);
    else if (k->type == CONF_IS_text_file)
        r = conf_read_text(*(const char *const *)((const char *)base + k->offset), &text, err);
    else
        conf_value_put(k, (const char *)base + k->offset, &number, &text);
    if (r == 0)
        say(s, k->section, instance, (unsigned)row, conf_section_many(k->section) ? 0 : s->conf->lines[row], number,
            buf_span(&text));
    if (text.p)
        explicit_bzero(text.p, text.cap);
    buf_free(&text);
    return r;
}

static int say_section(struct sender *s, enum conf_section section, unsigned instance, const char *name, unsigned line,
                       const void *base, struct err *err)
{
    size_t count;
    const struct conf_key *keys = conf_keys(&count);
    if (name)
        say(s, section, instance, CONF_NAME_KEY, line, 0, span_of(name));
    for (size_t i = 0; i < count; i++)
        if (keys[i].section == section && (keys[i].roles & FROM(s->role)) && say_key(s, i, instance, base, err))
            return -1;
    return 0;
}

int conf_send(const struct conf *c, enum role role, conf_say_fn *fn, void *ctx, struct err *err)
{
    struct sender s = {c, role, fn, ctx, 0};
    say(&s, CONF_SECTION_main, 0, CONF_NAME_KEY, 0, 0, span_of(c->file));
    for (unsigned i = 0; i < CONF_SECTION_COUNT; i++)
        if (!conf_section_many((enum conf_section)i) && say_section(&s, (enum conf_section)i, 0, NULL, 0, c, err))
            return -1;
    for (size_t i = 0; i < c->listen_count; i++)
        if ((conf_listen_role(&c->listen[i]) == role || role == ROLE_KEYD) &&
            say_section(&s, CONF_SECTION_listen, c->listen[i].index, c->listen[i].name, c->listen[i].line, &c->listen[i], err))
            return -1;
    for (size_t i = 0; i < c->domain_count && (role == ROLE_AUTHD || role == ROLE_QMGR); i++)
        if (say_section(&s, CONF_SECTION_domain, c->domain[i].index, c->domain[i].name, c->domain[i].line, &c->domain[i], err))
            return -1;
    for (size_t i = 0; i < c->hold_count && (FROM(role) & (FROM_SMTPD | FROM(ROLE_QMGR))); i++)
        if (say_section(&s, CONF_SECTION_hold, c->hold[i].index, c->hold[i].name, c->hold[i].line, &c->hold[i], err))
            return -1;
    struct msg end = {.type = MSG_settings_end, .settings_end = {.generation = c->generation, .count = s.count}};
    fn(ctx, &end);
    return 0;
}

/* ---- receiving ---- */

struct conf_receiver {
    struct conf *building;
    uint32_t count;
};

struct conf_receiver *conf_receiver_new(void)
{
    return mem_alloc(sizeof(struct conf_receiver));
}

static void forget(struct conf_receiver *r)
{
    const struct conf *c = r->building;
    conf_unref(&c);
    r->building = NULL;
    r->count = 0;
}

void conf_receiver_free(struct conf_receiver **r)
{
    if (*r)
        forget(*r);
    mem_free(r);
}

static int take_name(struct conf *c, const struct msg_setting *m, struct err *err)
{
    uint16_t *index;
    if (c->listen_count + c->domain_count + c->hold_count >= CONF_SECTIONS_MAX || c->hold_count > CONF_HOLDS_MAX)
        return err_set(err, "too many sections");
    if (conf_section_base(c, (enum conf_section)m->section, m->instance))
        return err_set(err, "section %u %u comes twice", m->section, m->instance);
    conf_add_section(c, (enum conf_section)m->section, m->value, m->line, &index);
    *index = m->instance;
    return 0;
}

static int take_setting(struct conf *c, const struct msg_setting *m, struct err *err)
{
    size_t count;
    const struct conf_key *keys = conf_keys(&count);
    if (m->section >= CONF_SECTION_COUNT)
        return err_set(err, "no section %u", m->section);
    if (m->key == CONF_NAME_KEY && conf_section_many((enum conf_section)m->section))
        return take_name(c, m, err);
    if (m->key == CONF_NAME_KEY && m->section == CONF_SECTION_main) {
        c->file = arena_str(&c->arena, m->value);
        return 0;
    }
    void *base = conf_section_base(c, (enum conf_section)m->section, m->instance);
    if (m->key >= count || keys[m->key].section != (enum conf_section)m->section || !base)
        return err_set(err, "no key %u in section %u %u", m->key, m->section, m->instance);
    if (conf_value_get(&keys[m->key], m->number, m->value, &c->arena, (char *)base + keys[m->key].offset))
        return err_set(err, "a wrong value for %s", keys[m->key].key);
    if (!conf_section_many((enum conf_section)m->section))
        c->lines[m->key] = m->line;
    return 0;
}

int conf_receive(struct conf_receiver *r, const struct msg *m, const struct conf **out, struct err *err)
{
    uint32_t generation = m->type == MSG_setting ? m->setting.generation : m->settings_end.generation;
    if (r->building && r->building->generation != generation)
        forget(r); /* that one was given up */
    if (!r->building)
        r->building = conf_new(generation);
    if (m->type == MSG_setting) {
        r->count++;
        if (take_setting(r->building, &m->setting, err) == 0)
            return 0;
        forget(r);
        return -1;
    }
    if (r->count != m->settings_end.count) {
        err_set(err, "%u settings came, %u were sent", r->count, m->settings_end.count);
        forget(r);
        return -1;
    }
    *out = r->building;
    r->building = NULL;
    r->count = 0;
    return 1;
}
