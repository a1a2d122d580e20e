/* Runs the scripts of tests/dialogue/smtp against the engine; tests/dialogue/README says what they are. */
#include <criterion/criterion.h>

#include <dirent.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <unistd.h>

#include "smtp_owner.h"

struct play {
    const char *file;
    unsigned line;
    bool slowly, open;
    struct smtp_owner o;
    struct buf say;
    size_t heard; /* of o.sent */
};

static void unescape(struct span s, struct buf *out)
{
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] != '\\' || i + 1 == s.n) {
            buf_addc(out, s.p[i]);
            continue;
        }
        char c = s.p[++i];
        if (c == 'x') {
            char hex[3] = {s.p[i + 1], s.p[i + 2], 0};
            buf_addc(out, (char)strtol(hex, NULL, 16));
            i += 2;
        } else {
            buf_addc(out, c == 'r' ? '\r' : c == 'n' ? '\n' : c == 't' ? '\t' : c == '0' ? '\0' : c);
        }
    }
}

static void send_all(struct play *p)
{
    if (p->slowly)
        smtp_owner_feed_slowly(&p->o, buf_span(&p->say));
    else
        smtp_owner_feed(&p->o, buf_span(&p->say));
    buf_clear(&p->say);
}

static struct span next_line(struct play *p)
{
    struct span rest = span_from(buf_span(&p->o.sent), p->heard);
    cr_assert(rest.n, "%s:%u%s: nothing more was said", p->file, p->line, p->slowly ? " slowly" : "");
    struct span line = span_cut(&rest, '\n');
    p->heard += line.n + 1;
    return span_sub(line, 0, line.n - (line.n > 0 && line.p[line.n - 1] == '\r'));
}

static void hear_line(struct play *p, const char *pattern)
{
    char line[SMTP_REPLY_LINE_MAX + 1];
    struct span l = next_line(p);
    cr_assert(l.n < sizeof line);
    memcpy(line, l.p, l.n);
    line[l.n] = '\0';
    cr_assert(fnmatch(pattern, line, FNM_NOESCAPE) == 0, "%s:%u%s: heard %s", p->file, p->line,
              p->slowly ? " slowly" : "", line);
}

static void hear_reply(struct play *p, struct span code)
{
    struct span l;
    do
        l = next_line(p);
    while (l.n > 3 && l.p[3] == '-');
    cr_assert(span_starts(l, code), "%s:%u%s: heard %.*s", p->file, p->line, p->slowly ? " slowly" : "", SPANV(l));
}

static void all_heard(const struct play *p)
{
    cr_assert(p->heard == p->o.sent.n, "%s:%u: said beyond that: %.*s", p->file, p->line,
              SPANV(span_from(buf_span(&p->o.sent), p->heard)));
}

static void step(struct play *p, struct span line)
{
    struct span rest = line, verb = span_word(&rest);
    if (verb.n == 0 || verb.p[0] == '#' || span_eqs(verb, "whole"))
        return;
    if (span_eqs(verb, "role")) {
        smtp_owner_open(&p->o, span_eqs(rest, "submission"));
        p->o.hold_tls = p->open = true;
        return;
    }
    if (span_eqs(verb, ">")) {
        buf_add(&p->say, rest);
        buf_adds(&p->say, "\r\n");
        return;
    }
    if (span_eqs(verb, ">>")) {
        unescape(rest, &p->say);
        return;
    }
    send_all(p);
    char text[1024] = "";
    cr_assert(rest.n < sizeof text);
    memcpy(text, rest.n ? rest.p : "", rest.n);
    if (span_eqs(verb, "<"))
        hear_line(p, text);
    else if (span_eqs(verb, "<<"))
        hear_reply(p, rest);
    else if (span_eqs(verb, "tls")) {
        all_heard(p);
        buf_clear(&p->o.in); /* what a client that is slow to write sent in clear: the stream drops it */
        smtp_server_tls_up(p->o.s);
    } else if (span_eqs(verb, "closed")) {
        all_heard(p);
        cr_assert(p->o.closed, "%s:%u: not closed", p->file, p->line);
    } else if (span_eqs(verb, "stored"))
        cr_assert_eq(p->o.commits, (unsigned)atoi(text), "%s:%u: %u", p->file, p->line, p->o.commits);
    else
        cr_assert_fail("%s:%u: no such step", p->file, p->line);
}

static void play(const char *file, struct span text, bool slowly)
{
    struct play p = {.file = file, .slowly = slowly};
    while (text.n) {
        p.line++;
        step(&p, span_trim(span_cut(&text, '\n')));
    }
    cr_assert(p.open, "%s: no role", file);
    all_heard(&p);
    buf_free(&p.say);
    smtp_owner_close(&p.o);
}

static void read_file(const char *path, struct buf *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    cr_assert(fd >= 0, "%s", path);
    ssize_t n;
    while ((n = read(fd, buf_room(out, 4096), 4096)) > 0)
        out->n += (size_t)n;
    close(fd);
}

Test(smtp, dialogues)
{
    DIR *d = opendir(DIALOGUES);
    cr_assert(d, "%s", DIALOGUES);
    unsigned played = 0;
    for (struct dirent *e; (e = readdir(d)); played += e->d_name[0] != '.') {
        if (e->d_name[0] == '.')
            continue;
        struct buf path = {0}, text = {0};
        buf_printf(&path, "%s/%s", DIALOGUES, e->d_name);
        read_file(buf_cstr(&path), &text);
        play(e->d_name, buf_span(&text), false);
        if (span_search(buf_span(&text), SPAN("\nwhole\n")) < 0)
            play(e->d_name, buf_span(&text), true);
        buf_free(&path);
        buf_free(&text);
    }
    closedir(d);
    cr_assert_geq(played, 7);
}
