#include "relay/reversed.h"

#include <stdio.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

#define REVERSED_MAX 100

struct reversed {
    struct link link;
    struct relay *relay;
    uint64_t pull;
    struct session *session; /* NULL: an attempt has it */
    struct link waiting;     /* attempts */
    bool ready, ending;
    struct defer go; /* the next attempt begins outside of the last one's callbacks */
};

static struct reversed *find(struct relay *r, uint64_t pull)
{
    LIST_EACH(&r->reversed, l) {
        struct reversed *v = container_of(l, struct reversed, link);
        if (v->pull == pull)
            return v;
    }
    return NULL;
}

/* RFC8689:4.2.1: nothing proves who the customer's host is but its login, which another protocol has seen. */
static void not_trusted(struct attempt *a)
{
    struct outcome o = outcome_make(OUTCOME_FAILED, 0, 7, 30, "TLS was required, and a reversed connection has no proven host");
    a->spoke = true;
    attempt_finish(a, &o);
}

static void gone(struct attempt *a)
{
    struct outcome o = outcome_make(OUTCOME_RETRY, 0, 4, 2, "the connection that its domain's host had reversed is gone");
    a->spoke = true; /* nothing is known of any host */
    attempt_finish(a, &o);
}

/* The connection is over; those that waited for it are told. */
static void over(struct reversed *v)
{
    struct relay *r = v->relay;
    struct msg m = {.type = MSG_reversed_over, .reversed_over = {.pull = v->pull}};
    list_del(&v->link);
    loop_defer_cancel(r->loop, &v->go);
    r->reversed_count--;
    session_free(&v->session);
    while (!list_empty(&v->waiting))
        gone(container_of(v->waiting.next, struct attempt, in_list));
    chan_say(service_chan(r->service, ROLE_QMGR, 0), &m, -1);
    mem_free(&v);
}

static void next(void *ctx)
{
    struct reversed *v = ctx;
    if (!v->session || !v->ready)
        return;
    if (list_empty(&v->waiting)) {
        if (v->ending && smtp_client_is_ready(session_client(v->session))) {
            v->ready = false;
            session_quit(v->session);
        }
        return;
    }
    struct attempt *a = container_of(v->waiting.next, struct attempt, in_list);
    a->session = v->session;
    v->session = NULL;
    v->ready = false;
    attempt_start_reversed(a);
}

static void on_ready(void *ctx)
{
    struct reversed *v = ctx;
    v->ready = true;
    loop_defer(v->relay->loop, &v->go);
}

static void on_over(void *ctx, enum smtp_client_stage at UNUSED, const struct outcome *why, bool tls_failed UNUSED)
{
    struct reversed *v = ctx;
    LOGI("reversed_over", KVU("pull", v->pull), KVT("why", why->text));
    over(v);
}

static const struct session_ops ops = {.on_ready = on_ready, .on_over = on_over};

void reversed_begin(struct relay *r, uint64_t pull, int fd)
{
    if (r->draining || r->reversed_count >= REVERSED_MAX || find(r, pull)) {
        struct msg m = {.type = MSG_reversed_over, .reversed_over = {.pull = pull}};
        close(fd);
        chan_say(service_chan(r->service, ROLE_QMGR, 0), &m, -1);
        return;
    }
    struct reversed *v = mem_alloc(sizeof *v);
    *v = (struct reversed){.relay = r, .pull = pull};
    v->go = (struct defer){.fn = next, .ctx = v};
    list_init(&v->waiting);
    list_add_tail(&r->reversed, &v->link);
    r->reversed_count++;
    struct session_options o = {.smtp = {.helo = span_of(r->own), /* TLS is the front's */
                                         .tls = SMTP_CLIENT_CLEAR,
                                         .timeout_max = service_conf(r->service)->relay.reply_timeout},
                                .server_name = "",
                                .remote = "reversed connection"};
    v->session = session_new(r->loop, fd, &o, &ops, v);
}

void reversed_end(struct relay *r, uint64_t pull)
{
    struct reversed *v = find(r, pull);
    if (!v)
        return;
    v->ending = true;
    loop_defer(r->loop, &v->go);
}

void reversed_attempt(struct relay *r, struct attempt *a)
{
    struct reversed *v = find(r, a->pull);
    list_del(&a->in_list);
    if (!v) {
        list_add_tail(&r->waiting, &a->in_list);
        gone(a);
        return;
    }
    list_add_tail(&v->waiting, &a->in_list);
    if (a->tls_need == 1) /* F_attempt: must */ {
        not_trusted(a);
        return;
    }
    loop_defer(r->loop, &v->go);
}

void reversed_back(struct relay *r, uint64_t pull, struct session *s)
{
    struct reversed *v = find(r, pull);
    if (!v) {
        session_free(&s);
    } else if (!s) {
        over(v);
    } else {
        v->session = s;
        session_use(s, &ops, v);
        v->ready = smtp_client_is_ready(session_client(s));
        loop_defer(r->loop, &v->go);
    }
}

/* Without a word to anybody: qmgr is gone, or we go. Attempts under way are somebody else's. */
void reversed_drop_all(struct relay *r)
{
    LIST_EACH(&r->reversed, l) {
        struct reversed *v = container_of(l, struct reversed, link);
        while (!list_empty(&v->waiting))
            attempt_free(container_of(v->waiting.next, struct attempt, in_list));
        list_del(&v->link);
        loop_defer_cancel(r->loop, &v->go);
        session_free(&v->session);
        mem_free(&v);
    }
    r->reversed_count = 0;
}
