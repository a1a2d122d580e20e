/* The two doors before login, IMAP's and POP3's, fed in pieces: the first octet chooses. Whatever comes, replies are
 * whole lines without control characters, and no login begins in clear where that is not allowed. */
#include <stdlib.h>

#include "imap/prelogin.h"
#include "pop3/prelogin.h"

#define BOUND (128 << 10)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool good)
{
    if (!good)
        abort();
}

static void check_lines(struct span sent)
{
    must(sent.n == 0 || sent.p[sent.n - 1] == '\n');
    while (sent.n) {
        struct span line = span_cut(&sent, '\n');
        must(line.n >= 2 && line.p[line.n - 1] == '\r');
        must(!span_has_control(span_sub(line, 0, line.n - 1)));
    }
}

struct door {
    bool imap, may_login;
    struct imap_prelogin *i;
    struct pop3_prelogin *p;
    struct buf out;
};

static size_t input(struct door *d, struct span in, struct login_action *a)
{
    return d->imap ? imap_prelogin_input(d->i, in, &d->out, a) : pop3_prelogin_input(d->p, in, &d->out, a);
}

static void act(struct door *d, const struct login_action *a, unsigned mode)
{
    if (a->what == LOGIN_STARTTLS) {
        must(!d->may_login || (mode & 8));
        d->may_login = true;
        d->imap ? imap_prelogin_secured(d->i, true) : pop3_prelogin_secured(d->p, true);
    }
    if (a->what != LOGIN_BEGIN && a->what != LOGIN_STEP)
        return;
    must(d->may_login && a->initial.n <= LOGIN_RESPONSE_MAX);
    if (mode & 16 && a->what == LOGIN_BEGIN)
        d->imap ? imap_prelogin_challenge(d->i, SPAN("x"), &d->out) : pop3_prelogin_challenge(d->p, SPAN("x"), &d->out);
    else
        d->imap ? imap_prelogin_refused(d->i, LOGIN_WRONG, &d->out) : pop3_prelogin_refused(d->p, LOGIN_WRONG, &d->out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > BOUND)
        return 0;
    unsigned mode = data[0];
    struct span in = span_make(data + 1, size - 1);
    struct door d = {.imap = mode & 1, .may_login = mode & (2 | 8)};
    const struct imap_prelogin_options io = {
        .tls = mode & 2, .starttls = mode & 4, .login_in_clear = mode & 8, .hostname = SPAN("h.test")};
    const struct pop3_prelogin_options po = {
        .tls = mode & 2, .starttls = mode & 4, .login_in_clear = mode & 8, .hostname = SPAN("h.test")};
    if (d.imap)
        d.i = imap_prelogin_new(&io, &d.out);
    else
        d.p = pop3_prelogin_new(&po, &d.out);
    size_t piece = mode & 32 ? 1 : mode & 64 ? 5 : in.n, end = 0, at = 0;
    bool over = false;
    while (!over && at < in.n) {
        struct login_action a = {.what = LOGIN_NOTHING};
        size_t n = at < end ? input(&d, span_sub(in, at, end - at), &a) : 0;
        must(n <= end - at);
        at += n;
        act(&d, &a, mode);
        over = a.what == LOGIN_CLOSE;
        if (n == 0 && end == in.n)
            break;
        if (n == 0)
            end = MIN_OF(in.n, end + piece);
    }
    check_lines(buf_span(&d.out));
    imap_prelogin_free(&d.i);
    pop3_prelogin_free(&d.p);
    buf_free(&d.out);
    return 0;
}
