#include "front_support.h"

#include <criterion/criterion.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "keys/keys.h"
#include "net/pem.h"

struct fakes fakes;
struct loop *front_loop;
struct test_cert front_cert;

/* ---- the skeleton, as far as a front uses it ---- */

struct service {
    const struct service_def *def;
    struct conf *conf;
    struct service_listener listener;
    struct chan *authd, *keyd;
    int chain;
    EVP_PKEY *key; /* keyd's */
    bool draining, done;
};
static struct service sv;
static struct chan *far_authd, *far_keyd; /* authd's and keyd's ends */
static struct sockaddr_in address;
static enum role role;

int service_main(const struct service_def *def, int argc UNUSED, char **argv UNUSED)
{
    sv.def = def;
    return 0;
}

struct loop *service_loop(struct service *s UNUSED)
{
    return front_loop;
}

const struct conf *service_conf(struct service *s)
{
    return s->conf;
}

void *service_state(struct service *s)
{
    return s->def->state;
}

struct chan *service_chan(struct service *s, enum role peer, uint32_t instance UNUSED)
{
    cr_assert(peer == ROLE_AUTHD || peer == ROLE_TALLYD || peer == ROLE_KEYD);
    if (peer == ROLE_KEYD)
        return s->keyd;
    return peer == ROLE_AUTHD ? s->authd : NULL; /* the clients here are exempt from limits */
}

size_t service_listeners(struct service *s, const struct service_listener **list)
{
    *list = &s->listener;
    return 1;
}

int service_cert_fd(struct service *s, unsigned instance UNUSED, unsigned what)
{
    return what == 0 ? s->chain : -1;
}

void service_done(struct service *s)
{
    s->done = true;
    loop_stop(front_loop);
}

bool service_draining(struct service *s)
{
    return s->draining;
}

/* ---- the account's process ---- */

static size_t mda_data(struct end *e, struct span in)
{
    buf_add(&e->got, in);
    if (span_search(buf_span(&e->got), SPAN("LOGOUT\r\n")) >= 0) {
        stream_write(e->s, SPAN("* BYE\r\n"));
        stream_finish(e->s);
    } else
        stream_write(e->s, in); /* an echo */
    return in.n;
}

static void mda_event(struct end *e, enum stream_event ev)
{
    if (ev == STREAM_FLUSHED || ev == STREAM_EOF || ev == STREAM_ERROR)
        stream_free(&e->s);
}

static void mda_start(const struct msg_attach *a, int fd)
{
    fakes.attaches++;
    snprintf(fakes.tag, sizeof fakes.tag, "%.*s", SPANV(a->tag));
    buf_clear(&fakes.early);
    buf_add(&fakes.early, a->early);
    end_free(&fakes.mda);
    fakes.mda = (struct end){.loop = front_loop, .on_data = mda_data, .on_event = mda_event};
    fakes.mda.s = stream_new(front_loop, fd, &end_ops, &fakes.mda);
    if (fakes.mda_quiet)
        return;
    stream_write(fakes.mda.s, a->tag.n ? a->tag : SPAN("+"));
    stream_write(fakes.mda.s, SPAN("OK you are in\r\n"));
}

/* ---- keyd ---- */

static EVP_PKEY *key_of(const struct test_cert *c)
{
    struct err err;
    EVP_PKEY *key = pem_private_key(span_of(c->key), &err);
    cr_assert(key, "%s", err.text);
    EVP_PKEY_free(sv.key);
    return key;
}

static void keyd_msg(void *ctx UNUSED, struct chan *c, const struct msg *m, int fd UNUSED)
{
    uint8_t signature[SIGNER_SIGNATURE_MAX];
    cr_assert_eq(m->type, MSG_sign);
    cr_assert_null(keys_refusal(sv.key, m->sign.scheme, m->sign.content));
    size_t n = keys_sign(sv.key, m->sign.scheme, m->sign.content, signature);
    struct msg r = {.type = MSG_sign_made, .sign_made = {.signature = span_make(signature, n)}};
    chan_answer(c, chan_epoch(c), m->id, &r, -1);
}

static const struct chan_ops keyd_ops = {.on_msg = keyd_msg};

/* ---- authd ---- */

static void verdict(const struct msg *m, struct span response)
{
    ptrdiff_t at = span_rfind(response, '\0');
    struct span password = at < 0 ? SPAN_NONE : span_from(response, (size_t)at + 1);
    struct span user = at > 0 ? span_sub(response, 1, (size_t)at - 1) : SPAN_NONE;
    struct msg r = {.type = MSG_auth_result};
    snprintf(fakes.user, sizeof fakes.user, "%.*s", SPANV(user));
    r.auth_result.kind = span_eqs(password, "right") ? 2 : span_eqs(password, "later") ? 4 : 5;
    r.auth_result.login = user;
    r.auth_result.why = SPAN("");
    chan_answer(far_authd, chan_epoch(far_authd), m->id, &r, -1);
}

static void authd_msg(void *ctx UNUSED, struct chan *c, const struct msg *m, int fd)
{
    struct msg r = {.type = MSG_auth_challenge, .auth_challenge = {.challenge = SPAN("")}};
    switch (m->type) {
    case MSG_auth_begin:
        fakes.begins++;
        fakes.tls = m->auth_begin.tls;
        fakes.has_initial = m->auth_begin.has_initial;
        snprintf(fakes.remote, sizeof fakes.remote, "%.*s", SPANV(m->auth_begin.remote));
        snprintf(fakes.mechanism, sizeof fakes.mechanism, "%.*s", SPANV(m->auth_begin.mechanism));
        if (fakes.silent)
            break;
        if (m->auth_begin.has_initial)
            verdict(m, m->auth_begin.initial);
        else
            chan_answer(c, chan_epoch(c), m->id, &r, -1);
        break;
    case MSG_auth_step:
        fakes.steps++;
        verdict(m, m->auth_step.response);
        break;
    case MSG_auth_forget:
        fakes.forgets++;
        break;
    case MSG_attach:
        r = (struct msg){.type = MSG_attached, .attached = {.kind = fakes.no_mda ? 4 : 2, .why = SPAN("")}};
        chan_answer(c, chan_epoch(c), m->id, &r, -1);
        if (fakes.no_mda)
            close(fd);
        else
            mda_start(&m->attach, fd);
        break;
    default:
        cr_assert_fail("unexpected message %u", m->type);
    }
}

static void front_msg(void *ctx UNUSED, struct chan *c, const struct msg *m, int fd)
{
    sv.def->on_msg(&sv, c, m, fd);
}

static const struct chan_ops authd_ops = {.on_msg = authd_msg}, front_ops = {.on_msg = front_msg};

void authd_gone(void)
{
    chan_free(&far_authd);
}

void authd_back(void)
{
    int fds[2];
    cr_assert_eq(chan_pair(fds, NULL), 0);
    chan_connect(sv.authd, fds[0]);
    far_authd = chan_new(front_loop, fds[1], role, 0, &authd_ops, NULL);
}

/* ---- up and down ---- */

static int file_of(const char *text)
{
    int fd = memfd_create("pem", MFD_CLOEXEC);
    cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    return fd;
}

static int listening(void)
{
    socklen_t n = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    cr_assert_eq(bind(fd, (struct sockaddr *)&address, n), 0);
    cr_assert_eq(listen(fd, 50), 0);
    getsockname(fd, (struct sockaddr *)&address, &n);
    return fd;
}

static void set(uint32_t *to, uint32_t value)
{
    if (value)
        *to = value;
}

void front_up(const struct house *h)
{
    struct err err;
    bool imap = h->protocol == CONF_PROTOCOL_IMAP;
    front_loop = loop_new();
    role = imap ? ROLE_IMAPD : ROLE_POP3D;
    sv.conf = conf_new(1);
    sv.conf->hostname = "mail.example.test";
    sv.conf->listen = mem_alloc(sizeof *sv.conf->listen);
    *sv.conf->listen = (struct conf_listen){
        .name = "x", .client_ca = "", .protocol = h->protocol, .tls = h->tls, .plaintext_login = h->plaintext_login};
    sv.conf->listen_count = 1;
    set(&sv.conf->imap.max_connections, h->max_connections);
    set(&sv.conf->imap.max_connections_each, h->max_each);
    set(&sv.conf->imap.max_login_failures, h->max_failures);
    set(&sv.conf->pop3.max_login_failures, h->max_failures);
    if (h->login_timeout)
        sv.conf->imap.login_timeout = sv.conf->pop3.login_timeout = h->login_timeout;
    sv.listener = (struct service_listener){.conf = sv.conf->listen, .fd = listening()};
    front_cert = test_cert_new(TEST_EC, "mail.example.test");
    sv.chain = file_of(front_cert.chain);
    sv.key = key_of(&front_cert);
    int fds[2];
    cr_assert_eq(chan_pair(fds, NULL), 0);
    sv.keyd = chan_new(front_loop, fds[0], ROLE_KEYD, 0, &front_ops, NULL);
    far_keyd = chan_new(front_loop, fds[1], role, 0, &keyd_ops, NULL);
    cr_assert_eq(chan_pair(fds, NULL), 0);
    sv.authd = chan_new(front_loop, fds[0], ROLE_AUTHD, 0, &front_ops, NULL);
    far_authd = chan_new(front_loop, fds[1], role, 0, &authd_ops, NULL);
    if (imap)
        imapd_main(0, NULL);
    else
        pop3d_main(0, NULL);
    cr_assert_eq(sv.def->warm(&sv, &err), 0, "%s", err.text);
    cr_assert_eq(sv.def->start(&sv, &err), 0, "%s", err.text);
}

void front_down(void)
{
    const struct conf *c = sv.conf;
    sv.def->stop(&sv);
    end_free(&fakes.mda);
    buf_free(&fakes.early);
    chan_free(&sv.authd);
    chan_free(&far_authd);
    conf_unref(&c);
    close(sv.listener.fd);
    close(sv.chain);
    EVP_PKEY_free(sv.key);
    chan_free(&sv.keyd);
    chan_free(&far_keyd);
    test_cert_free(&front_cert);
    loop_free(&front_loop);
}

void front_renew(const struct test_cert *c)
{
    close(sv.chain);
    sv.chain = file_of(c->chain);
    struct err err;
    if (sv.def->on_certs(&sv, &err) == 0)
        sv.key = key_of(c);
}

void front_drain(void)
{
    sv.draining = true;
    sv.def->drain(&sv);
}

bool front_is_done(void)
{
    return sv.done;
}

/* ---- clients ---- */


static bool arrived(struct end *c)
{
    return c->other && span_search(buf_span(&c->got), span_of(c->other)) >= 0;
}

static size_t client_data(struct end *c, struct span in)
{
    buf_add(&c->got, in);
    if (arrived(c))
        loop_stop(c->loop);
    return in.n;
}

struct end *client_new(void)
{
    struct end *c = mem_alloc(sizeof *c);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    c->loop = front_loop;
    c->on_data = client_data;
    c->s = stream_new(front_loop, fd, &end_ops, c);
    return c;
}

void client_tls(struct end *c)
{
    struct err err;
    struct tls_ctx *ctx = tls_client_new(span_of(front_cert.chain), &err);
    cr_assert(ctx, "%s", err.text);
    size_t before = c->event_count;
    c->stop_on = "UXE";
    stream_tls_client(c->s, ctx, "mail.example.test");
    tls_unref(&ctx);
    if (c->event_count == before)
        run_for(front_loop, 10000);
    cr_assert_eq(c->events[before], 'U', "%s", stream_error(c->s));
    c->stop_on = "";
}

struct end *client_new_tls(void)
{
    struct end *c = client_new();
    client_tls(c);
    return c;
}

void client_free(struct end **cp)
{
    end_free(*cp);
    mem_free(cp);
}

void tell(struct end *c, const char *text)
{
    stream_write(c->s, span_of(text));
}

void expect(struct end *c, const char *text)
{
    c->other = (void *)(uintptr_t)text;
    c->stop_on = "EX";
    if (!arrived(c) && c->event_count == 0)
        run_for(front_loop, 10000);
    else if (!arrived(c) && !strpbrk(c->events, "EX"))
        run_for(front_loop, 10000);
    cr_assert(arrived(c), "wanted %s, have %.*s (events %s)", text, SPANV(buf_span(&c->got)), c->events);
    buf_drop(&c->got, (size_t)span_search(buf_span(&c->got), span_of(text)) + strlen(text));
    c->other = NULL;
}

void expect_end(struct end *c)
{
    c->stop_on = "EX";
    if (!strpbrk(c->events, "EX"))
        run_for(front_loop, 10000);
    cr_assert(strpbrk(c->events, "EX"));
}

void pass_time(int64_t ms)
{
    struct timer *t = timer_new(front_loop, (timer_fn *)(void *)loop_stop, front_loop);
    timer_start(t, ms);
    loop_run(front_loop);
    timer_free(&t);
}
