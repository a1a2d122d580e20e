/* A sync of the store that fails: what the kernel could not write it takes for written, so that the next sync succeeds and the
 * next loss of power takes it away. Whoever says "delivered" after that has had it written once more. doc/store-states.md */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "disk.h"
#include "store/store.h"

static char disk[64], after[64];
static struct err err;

static void make(void)
{
    snprintf(disk, sizeof disk, "/tmp/waypost-sync-XXXXXX");
    snprintf(after, sizeof after, "/tmp/waypost-sync-XXXXXX");
    cr_assert(mkdtemp(disk) && mkdtemp(after));
    disk_watch(disk);
}

static void drop(void)
{
    disk_forget();
    cr_assert_eq(store_purge(disk, &err), 0, "%s", err.text);
    cr_assert_eq(store_purge(after, &err), 0, "%s", err.text);
    cr_assert(rmdir(disk) == 0 && rmdir(after) == 0);
}

TestSuite(store_sync, .init = make, .fini = drop);

static struct store *open_in(const char *dir, const char *boot)
{
    struct store *st;
    struct store_options o = {.dir = dir, .boot_id = boot, .wait_ms = 2000, .now_ms = 1000};
    cr_assert_eq(store_open(&st, &o, &err), 0, "%s", err.text);
    return st;
}

static uint64_t inbox(struct store *st, unsigned *messages)
{
    struct store_mailbox m;
    cr_assert_eq(store_find(st, SPAN("INBOX"), NULL, &m, &err), 0);
    if (messages)
        *messages = m.messages;
    return m.id;
}

/* 0, or how the store failed. */
static int deliver(struct store *st, const char *qid, bool *already)
{
    char text[3000];
    struct store_stage *g = store_stage_new(st);
    memset(text, 'x', sizeof text);
    cr_assert_eq(store_stage_write(g, span_make(text, sizeof text), &err), 0);
    cr_assert_eq(store_deliver_begin(st, &err), 0, "%s", err.text);
    cr_assert_eq(store_deliver_add(st, span_of(qid), 1, inbox(st, NULL), &g, &(struct store_new){0}, already, &err), 0);
    return store_deliver_commit(st, &err);
}

/* As the queue manager syncs what was stored. */
static int sync_all(bool fails)
{
    int fd = open(disk, O_RDONLY | O_DIRECTORY);
    if (fails)
        disk_fail_at(disk_steps(), EIO, DISK_FAILS_ONCE);
    int r = syncfs(fd);
    close(fd);
    return r;
}

/* How many of the first n deliveries are there after a loss of power now. */
static unsigned left(unsigned n)
{
    bool already;
    unsigned found = 0, messages;
    disk_restore(disk_steps(), DISK_DROPPED, after);
    struct store *st = open_in(after, "boot-2");
    inbox(st, &messages);
    for (unsigned i = 0; i < n; i++) {
        char qid[20];
        snprintf(qid, sizeof qid, "Q%u", i);
        cr_assert_eq(deliver(st, qid, &already), 0, "%s", err.text);
        found += already;
    }
    cr_assert_eq(found, messages);
    inbox(st, &messages);
    cr_assert_eq(messages, n, "each of them once");
    store_close(&st, false);
    cr_assert_eq(store_purge(after, &err), 0);
    return found;
}

/* fresh: the store itself was never synced. */
static void repeated(bool fresh)
{
    bool already;
    struct store *st = open_in(disk, "boot-1");
    if (!fresh)
        cr_assert_eq(store_sync(st, &err), 0, "%s", err.text);
    cr_assert_eq(deliver(st, "Q0", &already), 0);
    cr_assert_eq(sync_all(true), -1);
    cr_assert_eq(deliver(st, "Q1", &already), 0);
    cr_assert_eq(sync_all(false), 0);
    cr_assert_eq(left(2), 0, "a later sync brings nothing back, and what follows needs it");
    cr_assert_eq(deliver(st, "Q0", &already), 0, "%s", err.text);
    cr_assert(already);
    cr_assert_eq(sync_all(false), 0);
    cr_assert_eq(left(2), 2);
    cr_assert_eq(deliver(st, "Q2", &already), 0);
    cr_assert_eq(sync_all(false), 0);
    cr_assert_eq(left(3), 3, "and goes on from there");
    store_close(&st, false);
}

Test(store_sync, a_repeated_lease_writes_once_more)
{
    repeated(false);
}

Test(store_sync, a_repeated_lease_of_a_store_that_was_never_synced)
{
    repeated(true);
}

/* While it is being written once more, any step may fail: then nobody is told, and the next lease does it. */
Test(store_sync, writing_once_more_fails)
{
    bool already;
    struct store *st = open_in(disk, "boot-1");
    cr_assert_eq(store_sync(st, &err), 0);
    cr_assert_eq(deliver(st, "Q0", &already), 0);
    cr_assert_eq(sync_all(true), -1);
    size_t first = disk_steps();
    cr_assert_eq(deliver(st, "Q0", &already), 0);
    for (size_t n = disk_steps() - first, i = 0; i < n; i++) {
        char qid[20];
        snprintf(qid, sizeof qid, "Q%zu", i + 1);
        cr_assert_eq(deliver(st, qid, &already), 0);
        cr_assert_eq(sync_all(true), -1);
        disk_fail_at(disk_steps() + i, EIO, DISK_FAILS_ONCE);
        if (deliver(st, qid, &already) != 0)
            cr_assert_eq(deliver(st, qid, &already), 0, "%s", err.text);
        cr_assert(already);
        disk_fail_at(SIZE_MAX, 0, DISK_FAILS_ONCE);
        cr_assert_eq(left((unsigned)i + 2), i + 2);
    }
    store_close(&st, false);
}

/* The same for what a client waits for. */
Test(store_sync, a_sync_that_failed_is_not_just_repeated)
{
    bool already;
    struct store *st = open_in(disk, "boot-1");
    cr_assert_eq(store_sync(st, &err), 0);
    cr_assert_eq(deliver(st, "Q0", &already), 0);
    disk_fail_at(disk_steps(), EIO, DISK_FAILS_ONCE);
    cr_assert_neq(store_sync(st, &err), 0);
    cr_assert_eq(store_sync(st, &err), 0, "%s", err.text);
    cr_assert_eq(left(1), 1);
    store_close(&st, false);
}
