/* Any bytes from a server, in any cut: the sending engine ends or goes on, tells each recipient once, and its content has one end.
 * The first byte chooses the options, the second one how the input is cut. */
#include <stdlib.h>

#include "smtp/client.h"

struct driver {
    struct smtp_client *c;
    struct buf out;
    unsigned told[3], mails;
    bool open, over, tls;
};

static const struct span rcpts[] = {{"one@far.test", 12}, {"two@far.test", 12}, {"three@far.test", 14}};

static void on_ready(void *ctx)
{
    struct driver *d = ctx;
    struct smtp_client_mail m = {.sender = SPAN("a@us.test"), .rcpts = rcpts, .rcpt_count = 3, .size = 5, .body_8bit = smtp_client_can(d->c, SMTP_CAP_8BITMIME),
                                 .smtputf8 = smtp_client_can(d->c, SMTP_CAP_SMTPUTF8)};
    if (d->mails++ >= 3) {
        smtp_client_quit(d->c);
        return;
    }
    memset(d->told, 0, sizeof d->told);
    d->open = true;
    smtp_client_mail(d->c, &m);
}

static void on_start_tls(void *ctx)
{
    struct driver *d = ctx;
    d->tls = true;
}

static void on_rcpt(void *ctx, size_t index, const struct outcome *o)
{
    struct driver *d = ctx;
    if (!d->open || index >= 3 || ++d->told[index] > 1 || (o->kind != 2 && o->kind != 4 && o->kind != 5))
        abort();
}

static void on_content(void *ctx)
{
    struct driver *d = ctx;
    smtp_client_content(d->c, SPAN(".x\n.\r"), false);
    smtp_client_content(d->c, SPAN("\n.\r\n"), true);
}

static void on_done(void *ctx)
{
    struct driver *d = ctx;
    if (!d->open || d->told[0] + d->told[1] + d->told[2] != 3)
        abort();
    d->open = false;
}

static void on_failed(void *ctx, enum smtp_client_stage at, const struct outcome *why)
{
    struct driver *d = ctx;
    (void)at;
    if (d->over || !why->kind)
        abort();
    d->over = true;
}

static void on_quit(void *ctx)
{
    struct driver *d = ctx;
    if (d->over)
        abort();
    d->over = true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct smtp_client_ops ops = {on_ready, on_start_tls, on_rcpt, on_content, on_done, on_failed, on_quit};
    if (size < 2)
        return 0;
    struct driver d = {0};
    struct smtp_client_options o = {.helo = SPAN("us.test"), .tls = data[0] & 3, .auth_in_clear = data[0] & 8};
    if (data[0] & 4)
        o.user = o.password = SPAN("me");
    size_t cut = (size_t)data[1] + 1;
    d.c = smtp_client_new(&o, &d.out, &ops, &d);
    struct span in = span_make(data + 2, size - 2);
    while (in.n && !d.over) {
        smtp_client_feed(d.c, span_sub(in, 0, cut));
        in = span_from(in, cut);
        if (d.tls && !d.over)
            smtp_client_tls_up(d.c);
        d.tls = false;
    }
    smtp_client_lost(d.c, "the end");
    if (!d.over)
        abort();
    smtp_client_free(&d.c);
    buf_free(&d.out);
    return 0;
}
