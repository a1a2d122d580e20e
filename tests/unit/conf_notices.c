/* The texts of notifications: what is right, what is wrong and where, the shipped files, and their way to qmgr. To renew
 * etc/notices from the built-in texts: WAYPOST_WRITE_DOCS=1 tests/unit/t-conf in the source tree. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "conf/conf.h"
#include "conf/notice_text.h"

static void read_source(const char *name, struct buf *out)
{
    char path[4096];
    const char *src = getenv("srcdir");
    FILE *f = fopen(name, "r");
    size_t n;
    if (!f) {
        snprintf(path, sizeof path, "%s/%s", src ? src : ".", name);
        f = fopen(path, "r");
    }
    cr_assert(f, "%s is not there; run this in the source tree", name);
    while ((n = fread(buf_room(out, 65536), 1, 65536, f)) > 0)
        out->n += n;
    fclose(f);
}

Test(conf, the_shipped_texts_of_notifications)
{
    struct notice_text text;
    struct err err;
    unsigned line;
    for (unsigned k = 0; k < NOTICE_KINDS; k++) {
        struct span built_in = notice_text_built_in((enum notice_kind)k);
        for (unsigned german = 0; german < 2; german++) {
            struct buf have = {0};
            char name[100];
            snprintf(name, sizeof name, "etc/notices/%s%s", german ? "de/" : "", notice_kind_name((enum notice_kind)k));
            if (!german && getenv("WAYPOST_WRITE_DOCS")) {
                FILE *out = fopen(name, "w");
                cr_assert(out);
                fwrite(built_in.p, 1, built_in.n, out);
                fclose(out);
            }
            read_source(name, &have);
            cr_expect(german || span_eq(buf_span(&have), built_in), "%s is old", name);
            cr_expect_eq(notice_text_parse(buf_span(&have), (enum notice_kind)k, &text, &line, &err), 0, "%s:%u: %s", name, line, err.text);
            buf_free(&have);
        }
    }
}

#define GOOD "Subject: a\n\n{recipients}\n"

Test(conf, wrong_texts_of_notifications)
{
    static char long_line[600], large[NOTICE_TEXT_MAX + 100];
    memset(long_line, 'x', sizeof long_line - 1);
    memcpy(long_line, "Subject: a\n\n{recipients}\n", 25);
    memset(large, '\n', sizeof large - 1);
    memcpy(large, GOOD, sizeof GOOD - 1);
    const struct {
        const char *text;
        unsigned line; /* 0: it is right */
        const char *says;
    } cases[] = {
        {GOOD, 0, ""},
        {"\xef\xbb\xbfSubject: a\r\nsaid: {server}: {answer}\r\n\r\n  {recipients} \r\n{date}{{{day}}\r\n", 0, ""},
        {"", 1, "no \"Subject: "},
        {"\n{recipients}\n", 1, "no \"Subject: "},
        {"From: x\n\n{recipients}\n", 2, "no \"Subject: "},
        {"Subject: a\nHello\n\n{recipients}\n", 2, "begin this line with one of Subject:, From:, Leads-To:"},
        {"Subject: a\nColour: red\n\n{recipients}\n", 2, "begin this line with one of"},
        {"Subject: a\nSubject: b\n\n{recipients}\n", 2, "stands twice"},
        {"Subject:  \n\n{recipients}\n", 1, "is empty"},
        {"Subject: {recipients}\n\n{recipients}\n", 1, "there is no {recipients} here, write one of {host}, "},
        {"Subject: a\nMore: {address}\n\n{recipients}\n", 2, "there is no {address} here, write one of {count}, or {{"},
        {"Subject: a\nUnknown: {x}\n\n{recipients}\n", 2, "there is no {x} here, take it away"},
        {"Subject: a\n\n{recipients}\n\nHello {name}\n", 5, "there is no {name} here, write one of {host}, "},
        {"Subject: a\n\n{recipients}\n{}\n", 4, "there is no {} here"},
        {"Subject: a\n\n{recipients}\n{date\n", 4, "has no '}' on its line"},
        {"Subject: a\n\n{recipients}\n{answer}\n", 4, "there is no {answer} here"},
        {"Subject: a\n\nto {recipients}\n", 3, "on a line of its own"},
        {"Subject: a\n\n{recipients}\n{recipients}\n", 4, "stands twice"},
        {"Subject: a\n\nhello\n", 4, "no line {recipients}"},
        {"Subject: a", 3, "no line {recipients}"},
        {"Subject: a\n\n{recipients}\n\xfc\n", 4, "not UTF-8"},
        {"Subject: \xc3\n\n{recipients}\n", 1, "not UTF-8"},
        {"Subject: a\n\n{recipients}\na\tb\n", 4, "control character"},
        {"Subject: a\n\n{recipients}\na\rb\n", 4, "control character"},
        {long_line, 4, "longer than 400 bytes"},
        {large, 1, "larger than 16 KiB"},
    };
    struct notice_text text;
    struct err err;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        unsigned line = 77;
        int r = notice_text_parse(span_of(cases[i].text), NOTICE_FAILED, &text, &line, &err);
        cr_expect_eq(r, cases[i].line ? -1 : 0, "%zu: %s", i, r ? err.text : "taken");
        if (r == 0)
            continue;
        cr_expect_eq(line, cases[i].line, "%zu: line %u, %s", i, line, err.text);
        cr_expect(strstr(err.text, cases[i].says), "%zu: %s", i, err.text);
    }
}

/* What an account is told has texts and placeholders of its own, and no recipients. */
Test(conf, texts_of_accounts_that_are_held)
{
    static const struct {
        const char *text;
        unsigned line; /* 0: it is right */
        const char *says;
    } cases[] = {
        {"Subject: {account}\nMessages-Hour: {count} an hour\n\n{host} {reason} {postmaster}\n{client}\n", 0, ""},
        {"Subject: a", 0, ""},
        {"Subject: a\nMore: {count}\n\nb\n", 2, "begin this line with one of Subject:, From:, Messages-Hour:, Recipients-Hour:, Messages-Day:, "
                                               "Recipients-Day:, New-Recipients-Day:"},
        {"Subject: {subject}\n\nb\n", 1, "there is no {subject} here, write one of {host}, {account}, {reason}, {postmaster}, {client}, or {{"},
        {"Subject: a\n\n{recipients}\n", 3, "there is no {recipients} here"},
        {"Subject: a\nNew-Recipients-Day: {reason}\n\nb\n", 2, "there is no {reason} here, write one of {count}, or {{"},
    };
    struct notice_text text;
    struct err err;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        unsigned line = 77;
        int r = notice_text_parse(span_of(cases[i].text), NOTICE_ACCOUNT_HELD, &text, &line, &err);
        cr_expect_eq(r, cases[i].line ? -1 : 0, "%zu: %s", i, r ? err.text : "taken");
        cr_expect(r == 0 || (line == cases[i].line && strstr(err.text, cases[i].says)), "%zu: line %u, %s", i, line, err.text);
    }
    cr_assert_eq(notice_text_parse(SPAN("Subject: a\nMessages-Hour: x\n\n{recipients}\n"), NOTICE_FAILED, &text, &(unsigned){0}, &err), -1);
}

/* ---- files of a configuration ---- */

struct folder {
    char path[64], conf[100], text[100];
};

static void write_file(const char *path, const char *content)
{
    FILE *f = fopen(path, "w");
    cr_assert(f);
    fwrite(content, 1, strlen(content), f);
    fclose(f);
}

static void make(struct folder *f, const char *conf, const char *text)
{
    strcpy(f->path, "/tmp/wp-notices-XXXXXX");
    cr_assert(mkdtemp(f->path));
    snprintf(f->conf, sizeof f->conf, "%s/waypost.conf", f->path);
    snprintf(f->text, sizeof f->text, "%s/failed.txt", f->path);
    write_file(f->conf, conf);
    if (text)
        write_file(f->text, text);
}

static void drop(struct folder *f)
{
    unlink(f->conf);
    unlink(f->text);
    cr_assert_eq(rmdir(f->path), 0);
}

Test(conf, a_wrong_text_is_named_by_file_and_line)
{
    static const struct {
        const char *conf, *text, *says;
    } cases[] = {
        {"notices { failed failed.txt; language de; }", GOOD, NULL},
        {"notices { failed failed.txt; }", "Subject: a\n\n{recipients}\n{who}\n", "/failed.txt:4: there is no {who} here"},
        {"\nnotices {\n failed failed.txt; }", NULL, "/waypost.conf:3: failed: "},
        {"notices { failed .; }", NULL, "/waypost.conf:1: failed: "},
        {"notices { language de-AT-1996; }", NULL, NULL}, /* RFC3282:2, RFC5646:2.1 */
        {"notices { language de--AT; }", NULL, "is no language tag"},
        {"notices { language \"de AT\"; }", NULL, "/waypost.conf:1: language: \"de AT\" is no language tag"},
        {"notices { language de-; }", NULL, "is no language tag"},
        {"notices { language deutschland; }", NULL, "is no language tag"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct folder f;
        struct conf_errors e = {0};
        make(&f, cases[i].conf, cases[i].text);
        const struct conf *c = conf_load(f.conf, 1, &e);
        cr_expect_eq(c != NULL, cases[i].says == NULL, "%zu: %s", i, buf_cstr(&e.text));
        cr_expect(!cases[i].says || (e.count == 1 && strstr(buf_cstr(&e.text), cases[i].says)), "%zu: %s", i, buf_cstr(&e.text));
        conf_unref(&c);
        conf_errors_free(&e);
        drop(&f);
    }
}

struct way {
    struct conf_receiver *r;
    const struct conf *got;
};

static void on_say(void *ctx, const struct msg *m)
{
    struct way *w = ctx;
    struct err err;
    struct buf frame = {0};
    struct msg back;
    cr_assert_eq(msg_encode(m, &frame, &err), 0, "%s", err.text); /* the limit of a setting */
    cr_assert_eq(msg_decode(buf_span(&frame), ROLE_WAYPOSTD, false, &back, &err), 0, "%s", err.text);
    cr_assert_geq(conf_receive(w->r, &back, &w->got, &err), 0);
    buf_free(&frame);
}

Test(conf, texts_go_to_qmgr_and_nobody_else)
{
    static char text[NOTICE_TEXT_MAX + 1];
    struct folder f;
    struct conf_errors e = {0};
    struct err err;
    memset(text, '\n', NOTICE_TEXT_MAX);
    memcpy(text, GOOD, sizeof GOOD - 1);
    make(&f, "notices { failed failed.txt; }", text);
    const struct conf *c = conf_load(f.conf, 1, &e);
    cr_assert(c, "%s", buf_cstr(&e.text));
    for (int i = 0; i < 2; i++) {
        struct way w = {.r = conf_receiver_new()};
        cr_assert_eq(conf_send(c, i ? ROLE_RELAY : ROLE_QMGR, on_say, &w, &err), 0, "%s", err.text);
        cr_assert(w.got);
        cr_expect_str_eq(w.got->notices.failed, i ? "" : text);
        cr_expect_str_eq(w.got->notices.delayed, "");
        conf_unref(&w.got);
        conf_receiver_free(&w.r);
    }
    unlink(f.text);
    struct way w = {.r = conf_receiver_new()};
    cr_expect_eq(conf_send(c, ROLE_QMGR, on_say, &w, &err), -1, "it is gone");
    conf_receiver_free(&w.r);
    conf_unref(&c);
    drop(&f);
}
