#include "keys/asker.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/util.h"

#define TRIES 3

struct question {
    struct asker *asker;
    signed_fn *fn;
    void *ctx;
    uint64_t asked; /* the channel's number; 0: not asked now */
    unsigned tries;
    struct defer again;
    uint8_t key[SIGNER_KEY_BYTES];
    uint16_t scheme;
    uint8_t content[IPC_SIGN_MAX];
    size_t n;
};

static void end(struct question *q, struct span signature, const char *why)
{
    signed_fn *fn = q->fn;
    void *ctx = q->ctx;
    mem_free(&q);
    fn(ctx, signature, why);
}

static void on_answer(void *ctx, struct chan *c UNUSED, enum chan_why why, const struct msg *m, int fd)
{
    struct question *q = ctx;
    char text[IPC_TEXT_MAX + 1];
    q->asked = 0;
    if (fd >= 0)
        close(fd);
    if (why == CHAN_ANSWERED && m->type == MSG_sign_made) {
        end(q, m->sign_made.signature, NULL);
    } else if (why == CHAN_ANSWERED && m->type == MSG_sign_refused) {
        snprintf(text, sizeof text, "%.*s", SPANV(m->sign_refused.why));
        end(q, SPAN_NONE, text);
    } else if (why == CHAN_GONE && q->tries < TRIES) {
        loop_defer(q->asker->loop, &q->again);
    } else {
        end(q, SPAN_NONE, why == CHAN_LATE ? "keyd did not answer in time" : "keyd has no answer to it");
    }
}

static void ask_now(void *ctx)
{
    struct question *q = ctx;
    struct msg m = {.type = MSG_sign,
                    .sign = {.key = span_make(q->key, sizeof q->key),
                             .scheme = q->scheme,
                             .content = span_make(q->content, q->n)}};
    q->tries++;
    if (q->n <= sizeof q->content)
        q->asked = chan_ask(q->asker->keyd, &m, -1, on_answer, q);
    if (!q->asked)
        end(q, SPAN_NONE, "it is too long for keyd");
}

static uint64_t ask(void *self, const struct to_sign *what, signed_fn *fn, void *ctx)
{
    struct asker *a = self;
    struct question *q = mem_alloc(sizeof *q);
    q->asker = a;
    q->fn = fn;
    q->ctx = ctx;
    q->again = (struct defer){.fn = ask_now, .ctx = q};
    q->scheme = what->scheme;
    q->n = what->content.n;
    memcpy(q->key, what->key, sizeof q->key);
    memcpy(q->content, what->content.p, MIN_OF(q->n, sizeof q->content));
    if (q->n > sizeof q->content)
        loop_defer(a->loop, &q->again); /* refused there: never from inside this call */
    else
        ask_now(q);
    return (uint64_t)(uintptr_t)q;
}

static void forget(void *self, uint64_t id)
{
    struct asker *a = self;
    struct question *q = (struct question *)(uintptr_t)id;
    if (q->asked)
        chan_forget(a->keyd, q->asked);
    loop_defer_cancel(a->loop, &q->again);
    mem_free(&q);
}

void asker_init(struct asker *a, struct loop *l, struct chan *keyd)
{
    *a = (struct asker){.signer = {.ask = ask, .forget = forget, .self = a}, .loop = l, .keyd = keyd};
}
