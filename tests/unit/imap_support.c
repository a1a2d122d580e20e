/* See imap_support.h. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "imap_support.h"
#include "mail/words.h"
#include "mda/imap_store.h"

struct store *account;
size_t piece = SIZE_MAX;
struct imap_backend backend;
unsigned syncs;
static char dir[64];
static struct err err;

static int counted_sync(void *ctx, struct err *e)
{
    syncs++;
    return imap_store.sync(ctx, e);
}

static int64_t fixed_now(void *ctx)
{
    (void)ctx;
    return INT64_C(1795426867000); /* Mon, 23 Nov 2026 09:41:07 +0000 */
}

void imap_set_up(void)
{
    snprintf(dir, sizeof dir, "/tmp/waypost-imap-XXXXXX");
    cr_assert(mkdtemp(dir));
    struct store_options o = {.dir = dir, .boot_id = "boot", .wait_ms = 100, .now_ms = 1000};
    cr_assert_eq(store_open(&account, &o, &err), 0, "%s", err.text);
    backend = imap_store;
    backend.sync = counted_sync;
    backend.now = fixed_now;
}

void imap_tear_down(void)
{
    store_close(&account, false);
    cr_assert_eq(store_purge(dir, &err), 0, "%s", err.text);
    cr_assert_eq(rmdir(dir), 0);
    words_cool();
}

static void on_change(void *ctx, const struct store_event *e)
{
    static const enum imap_change_kind kinds[] = {
        [STORE_CHANGE_NEW] = IMAP_CHANGE_NEW,           [STORE_CHANGE_FLAGS] = IMAP_CHANGE_FLAGS,
        [STORE_CHANGE_EXPUNGED] = IMAP_CHANGE_EXPUNGED, [STORE_CHANGE_GONE] = IMAP_CHANGE_GONE,
        [STORE_CHANGE_RENAMED] = IMAP_CHANGE_RENAMED,
    };
    struct client *c = ctx;
    if (e->kind == STORE_CHANGE_LIST)
        return;
    uint32_t *uids = mem_array(e->n + 1, sizeof *uids);
    for (size_t i = 0; i < e->n; i++)
        uids[i] = e->kind == STORE_CHANGE_FLAGS ? e->rows[i].uid : e->uids ? e->uids[i] : 0;
    struct imap_change change = {.kind = kinds[e->kind], .mailbox = e->mailbox, .uids = uids, .n = e->n};
    c->nudged |= imap_changed(c->engine, &change);
    mem_free(&uids);
}

static void take_output(struct client *c)
{
    buf_add(&c->got, buf_span(imap_output(c->engine)));
    buf_clear(imap_output(c->engine));
}

struct client *client_new(void)
{
    struct client *c = mem_alloc(sizeof *c);
    struct imap_setup o = {.backend = &backend, .ctx = account, .tag = SPAN("in"), .message_max = 1000000};
    c->engine = imap_new(&o);
    c->watch.fn = on_change;
    c->watch.ctx = c;
    store_watch(account, &c->watch);
    take_output(c);
    return c;
}

void client_free(struct client **c)
{
    store_unwatch(account, &(*c)->watch);
    imap_free(&(*c)->engine);
    buf_free(&(*c)->got);
    mem_free(c);
}

static void run(struct client *c, struct span in)
{
    enum imap_want want;
    do {
        want = imap_settle(c->engine, imap_run(c->engine, &in));
        cr_assert_leq(imap_output(c->engine)->n, IMAP_OUT_HIGH + 200000);
        take_output(c);
    } while (want == IMAP_ROOM || want == IMAP_TURN);
    c->over |= want == IMAP_OVER;
    cr_assert(c->over || in.n == 0);
}

const char *send_bytes(struct client *c, struct span bytes)
{
    buf_clear(&c->got);
    c->nudged = false;
    if (!bytes.n)
        run(c, bytes);
    while (bytes.n && !c->over) {
        run(c, span_sub(bytes, 0, piece));
        bytes = span_from(bytes, piece);
    }
    return buf_cstr(&c->got);
}

const char *say(struct client *c, const char *line)
{
    struct buf bytes = {0};
    buf_adds(&bytes, line);
    buf_adds(&bytes, "\r\n");
    const char *got = send_bytes(c, buf_span(&bytes));
    buf_free(&bytes);
    return got;
}

bool fits(const char *p, const char *t)
{
    if (*p == '~') {
        bool any = p[1] == '~';
        for (p += any ? 2 : 1;; t++) {
            if (fits(p, t))
                return true;
            if (!*t || (!any && (*t == '\r' || *t == '\n')))
                return false;
        }
    }
    if (!*p || !*t)
        return *p == *t;
    return *p == *t && fits(p + 1, t + 1);
}

void put_message(struct client *c, const char *mailbox, const char *flags, const char *text)
{
    struct buf command = {0};
    buf_printf(&command, "put APPEND %s (%s) {%zu+}\r\n%s\r\n", mailbox, flags, strlen(text), text);
    const char *got = send_bytes(c, buf_span(&command));
    cr_assert(fits("~~put OK [APPENDUID ~ ~] Appended\r\n", got), "%s", got);
    buf_free(&command);
}
