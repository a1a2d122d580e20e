/* See store_support.h. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "store_support.h"

char dir[64];
struct err err;
struct store *st;

void open_store_as(const char *boot, int64_t now)
{
    struct store_options o = {.dir = dir, .boot_id = boot, .wait_ms = 100, .now_ms = now};
    cr_assert_eq(store_open(&st, &o, &err), 0, "%s", err.text);
}

void open_store(void)
{
    open_store_as("boot-1", 1000);
}

void reopen(void)
{
    store_close(&st, false);
    open_store();
}

void set_up(void)
{
    snprintf(dir, sizeof(dir), "/tmp/waypost-store-XXXXXX");
    cr_assert(mkdtemp(dir));
    open_store();
}

void tear_down(void)
{
    store_close(&st, false);
    cr_assert_eq(store_purge(dir, &err), 0, "%s", err.text);
    cr_assert_eq(rmdir(dir), 0);
}


uint64_t mailbox(const char *name)
{
    struct store_mailbox m;
    cr_assert_eq(store_find(st, span_of(name), NULL, &m, &err), 0, "%s: %s", name, err.text);
    return m.id;
}

struct store_mailbox status(const char *name)
{
    struct store_mailbox m;
    cr_assert_eq(store_find(st, span_of(name), NULL, &m, &err), 0, "%s: %s", name, err.text);
    cr_assert_eq(store_status(st, m.id, NULL, &m, &err), 0, "%s: %s", name, err.text);
    return m;
}

int find_code(const char *name)
{
    struct store_mailbox m;
    return store_find(st, span_of(name), NULL, &m, &err);
}

struct store_stage *stage(size_t size)
{
    struct store_stage *g = store_stage_new(st);
    struct buf text = {0};
    buf_adds(&text, "Subject: x\r\n\r\n");
    while (text.n < size)
        buf_addc(&text, (char)('a' + text.n % 26));
    cr_assert_eq(store_stage_write(g, buf_span(&text), &err), 0);
    buf_free(&text);
    return g;
}

uint32_t append(const char *name, size_t size, uint32_t flags)
{
    struct store_stage *g = stage(size);
    struct store_new m = {.flags = flags, .internaldate = 77};
    uint32_t uid, validity;
    cr_assert_eq(store_append(st, mailbox(name), &g, &m, &uid, &validity, &err), 0, "%s", err.text);
    cr_assert_null(g);
    cr_assert_eq(validity, status(name).uidvalidity);
    return uid;
}

unsigned large_files(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < 256; i++)
        for (unsigned id = i; id < 2000; id += 256) {
            char path[128];
            snprintf(path, sizeof(path), "%s/large/%02x/%u", dir, i, id);
            n += access(path, F_OK) == 0;
        }
    return n;
}

bool deliver(const char *qid, uint64_t rcpt, size_t size)
{
    bool already;
    struct store_stage *g = stage(size);
    cr_assert_eq(store_deliver_add(st, span_of(qid), rcpt, mailbox("INBOX"), &g, &(struct store_new){.internaldate = 5},
                                   &already, &err),
                 0, "%s", err.text);
    cr_assert_null(g);
    return already;
}
