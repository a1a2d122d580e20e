/* One connection, from the first byte to the last: TLS, the protocol's engine before login, authd's answers, then
 * the account's stream. While something is awaited the client is not read. */
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "auth/mechanisms.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/outcome.h"
#include "base/sm.h"
#include "front/front.h"

#define REFUSAL_DELAY_MS 1000 /* after the first wrong password, and as much more after each further one */
#define ATTACH_TAG_MAX 256

enum state {
    AT_DOOR,  /* tallyd is asked whether the client may come in, or it has to wait a moment */
    SHAKING,  /* implicit TLS: the handshake comes first */
    TALKING,  /* the engine reads */
    ASKING,   /* authd has the login */
    WAITING,  /* a wrong password is answered after a while */
    ATTACHED, /* the account's stream is on its way, or carries already */
    ENDING,   /* the last words are being sent */
};

static const struct sm_state states[] = {
    [AT_DOOR] = {"door", SM_TO(SHAKING) | SM_TO(TALKING) | SM_TO(ENDING)},
    [SHAKING] = {"shaking", SM_TO(TALKING) | SM_TO(ENDING)},
    [TALKING] = {"talking", SM_TO(TALKING) | SM_TO(SHAKING) | SM_TO(ASKING) | SM_TO(ENDING)},
    [ASKING] = {"asking", SM_TO(TALKING) | SM_TO(WAITING) | SM_TO(ATTACHED) | SM_TO(ENDING)},
    [WAITING] = {"waiting", SM_TO(TALKING) | SM_TO(ENDING)},
    [ATTACHED] = {"attached", SM_TO(TALKING) | SM_TO(ENDING)},
    [ENDING] = {"ending", 0},
};

struct front_session {
    struct link link;
    struct front *front;
    struct front_house *house;
    struct stream *client;
    struct stream *account; /* our end of the pair whose other end the account's process has */
    void *engine;
    struct sockaddr_storage peer;
    struct guest guest;
    int state;
    uint64_t id;       /* names the session to authd */
    uint64_t asked;    /* the request that is open */
    uint32_t asked_epoch;
    bool known;        /* authd has something of this session */
    bool attach_done;
    bool account_over; /* the account's stream ended before authd said whether it has it */
    unsigned failures;
    struct timer *timer; /* at the door and after a wrong password: until we go on; while it is the client's turn: until its time is up */
    int64_t left, since; /* of the time it has for logging in, in ms, and when its turn began */
    struct buf out;
};

static void move(struct front_session *s, enum state to)
{
    sm_move(states, COUNT_OF(states), &s->state, to);
}

/* ---- the time for logging in: only what the client takes counts, and nothing it sends adds to it ---- */

static void clock_run(struct front_session *s)
{
    s->since = loop_now(s->front->loop);
    timer_start(s->timer, s->left);
}

static void clock_stop(struct front_session *s)
{
    s->left -= loop_now(s->front->loop) - s->since;
    timer_stop(s->timer);
}

/* ---- the end ---- */

static void forget_login(struct front_session *s)
{
    if (s->asked)
        chan_forget(s->front->authd, s->asked);
    s->asked = 0;
    if (s->known)
        chan_say(s->front->authd, &(struct msg){.type = MSG_auth_forget, .auth_forget = {.session = s->id}}, -1);
    s->known = false;
}

static void session_free(struct front_session *s)
{
    struct front *f = s->front;
    forget_login(s);
    guest_leave(&s->guest, 0, 0);
    list_del(&s->link);
    gate_leave(&f->gate, &s->peer);
    if (s->engine)
        f->protocol->close(&s->engine);
    timer_free(&s->timer);
    stream_free(&s->client);
    stream_free(&s->account);
    house_unref(&s->house);
    buf_free(&s->out);
    mem_free(&s);
    if (--f->count == 0 && service_draining(f->service))
        service_done(f->service);
}

/* False: the client reads slower than we write. */
static bool say(struct front_session *s)
{
    bool room = stream_write(s->client, buf_span(&s->out));
    buf_clear(&s->out);
    return room;
}

static void end(struct front_session *s)
{
    if (s->state == ENDING)
        return;
    say(s);
    move(s, ENDING);
    timer_stop(s->timer);
    forget_login(s);
    stream_timeout(s->client, 10000);
    stream_finish(s->client);
}

static void end_with(struct front_session *s, enum login_bye why)
{
    if (s->engine && s->state != SHAKING)
        s->front->protocol->bye(s->engine, why, &s->out);
    end(s);
}

/* ---- carrying ---- */

static size_t account_data(void *ctx, struct span in)
{
    struct front_session *s = ctx;
    if (s->state != ATTACHED)
        return in.n;
    if (!stream_write(s->client, in))
        stream_pause(s->account);
    return in.n;
}

static void account_event(void *ctx, enum stream_event e)
{
    struct front_session *s = ctx;
    if (s->state != ATTACHED)
        return;
    if (e == STREAM_DRAINED)
        stream_resume(s->client);
    else if ((e == STREAM_EOF || e == STREAM_ERROR) && !s->attach_done)
        s->account_over = true; /* the answer, which is on its way, says what that means */
    else if (e == STREAM_EOF || e == STREAM_ERROR)
        end(s); /* the session on the account is over; whatever it said last has been written */
}

static const struct stream_ops account_ops = {account_data, account_event};

/* ---- logging in ---- */

static void back_to_talk(struct front_session *s)
{
    say(s);
    move(s, TALKING);
    clock_run(s);
    stream_resume(s->client);
}

static void enter(struct front_session *s);

static void time_is_up(void *ctx)
{
    struct front_session *s = ctx;
    if (s->state == AT_DOOR) {
        enter(s);
        return;
    }
    if (s->state == SHAKING) {
        session_free(s);
        return;
    }
    if (s->state == TALKING) {
        end_with(s, LOGIN_BYE_IDLE);
        return;
    }
    s->front->protocol->refused(s->engine, LOGIN_WRONG, &s->out);
    if (s->failures >= s->house->limits.max_login_failures)
        end_with(s, LOGIN_BYE_FAILURES);
    else
        back_to_talk(s);
}

static void refuse(struct front_session *s, enum login_refusal why)
{
    if (why == LOGIN_LATER) {
        s->front->protocol->refused(s->engine, LOGIN_LATER, &s->out);
        back_to_talk(s);
        return;
    }
    s->failures++;
    move(s, WAITING);
    timer_start(s->timer, (int64_t)s->failures * REFUSAL_DELAY_MS);
}

static void on_attached(void *ctx, struct chan *c UNUSED, enum chan_why why, const struct msg *m, int fd)
{
    struct front_session *s = ctx;
    s->asked = 0;
    if (fd >= 0)
        close(fd);
    if (why == CHAN_ANSWERED && m->type == MSG_attached && m->attached.kind == OUTCOME_DONE) {
        s->attach_done = true;
        if (s->account_over) {
            end(s);
            return;
        }
        stream_timeout(s->client, s->house->limits.idle_timeout);
        stream_resume(s->client); /* what the client sent behind its login is carried now, in order */
        return;
    }
    LOGW("attach-failed", KVT("remote", stream_remote(s->client)),
         KVS("why", why == CHAN_ANSWERED && m->type == MSG_attached ? m->attached.why : SPAN("no answer from authd")));
    if (s->attach_done || s->state != ATTACHED)
        return;
    stream_free(&s->account);
    s->account_over = false;
    forget_login(s);
    s->front->protocol->refused(s->engine, LOGIN_LATER, &s->out);
    back_to_talk(s);
}

/* Hands the far end of the session to authd. What the client sent already stays unread here and is carried
 * afterwards. */
static void attach(struct front_session *s)
{
    int fds[2];
    struct front *f = s->front;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds)) {
        LOGE("attach", KVT("why", strerror(errno)));
        refuse(s, LOGIN_LATER);
        return;
    }
    struct msg m = {.type = MSG_attach,
                    .attach = {.session = s->id,
                               .protocol = f->protocol->number,
                               .tag = span_sub(f->protocol->tag(s->engine), 0, ATTACH_TAG_MAX),
                               .remote = span_of(stream_remote(s->client)),
                               .tls = stream_is_tls(s->client)}};
    s->asked = chan_ask(f->authd, &m, fds[1], on_attached, s);
    close(fds[1]);
    s->account = s->asked ? stream_new(f->loop, fds[0], &account_ops, s) : NULL;
    if (!s->account) {
        if (!s->asked)
            close(fds[0]);
        refuse(s, LOGIN_LATER);
        return;
    }
    move(s, ATTACHED);
}

static void on_auth(void *ctx, struct chan *c UNUSED, enum chan_why why, const struct msg *m, int fd)
{
    struct front_session *s = ctx;
    s->asked = 0;
    if (fd >= 0)
        close(fd);
    if (why != CHAN_ANSWERED || (m->type != MSG_auth_challenge && m->type != MSG_auth_result)) {
        s->known = false;
        refuse(s, LOGIN_LATER);
    } else if (m->type == MSG_auth_challenge) {
        s->front->protocol->challenge(s->engine, m->auth_challenge.challenge, &s->out);
        back_to_talk(s);
    } else if (m->auth_result.kind == OUTCOME_DONE) {
        attach(s);
    } else {
        refuse(s, m->auth_result.kind == OUTCOME_RETRY ? LOGIN_LATER : LOGIN_WRONG);
    }
}

static void ask(struct front_session *s, const struct login_action *a)
{
    struct front *f = s->front;
    struct stream_binding bound;
    struct stream_client client;
    struct msg m = {.type = MSG_auth_step, .auth_step = {.session = s->id, .response = a->initial}};
    if (a->what == LOGIN_BEGIN) {
        forget_login(s);
        stream_tls_binding(s->client, &bound);
        bool shown = span_ieqs(a->mechanism, "EXTERNAL") && stream_tls_client_certificate(s->client, &client);
        m = (struct msg){.type = MSG_auth_begin,
                         .auth_begin = {.session = s->id,
                                        .protocol = f->protocol->number,
                                        .mechanism = a->mechanism,
                                        .remote = span_of(stream_remote(s->client)),
                                        .tls = stream_is_tls(s->client),
                                        .has_initial = a->has_initial,
                                        .initial = a->initial,
                                        .exporter = span_make(bound.exporter, bound.exporter_n),
                                        .end_point = span_make(bound.end_point, bound.end_point_n)}};
        if (shown) {
            m.auth_begin.certificate = span_make(client.fingerprint, sizeof client.fingerprint);
            m.auth_begin.names = span_make(client.names, client.names_n);
        }
    }
    clock_stop(s);
    move(s, ASKING);
    stream_pause(s->client);
    s->known = true;
    s->asked = chan_ask(f->authd, &m, -1, on_auth, s);
    if (!s->asked)
        refuse(s, LOGIN_WRONG); /* over a limit: no login of ours is that long */
}

/* ---- talking ---- */

static void start_tls(struct front_session *s)
{
    say(s);
    stream_flush(s->client);
    move(s, SHAKING);
    stream_tls_server(s->client, s->house->tls);
}

static void act(struct front_session *s, const struct login_action *a)
{
    switch (a->what) {
    case LOGIN_NOTHING:
        break;
    case LOGIN_STARTTLS:
        start_tls(s);
        break;
    case LOGIN_BEGIN:
    case LOGIN_STEP:
        say(s);
        ask(s, a);
        break;
    case LOGIN_CANCEL:
        forget_login(s);
        break;
    case LOGIN_CLOSE:
        end(s);
        break;
    }
}

static size_t talk(struct front_session *s, struct span in)
{
    size_t used = 0;
    while (used < in.n && s->state == TALKING) {
        struct login_action a = {.what = LOGIN_NOTHING};
        size_t n = s->front->protocol->input(s->engine, span_from(in, used), &s->out, &a);
        used += n;
        act(s, &a);
        if (n == 0)
            break;
    }
    if (s->state == TALKING && !say(s))
        stream_pause(s->client); /* whoever does not read our replies gets no more of them */
    return used;
}

static size_t client_data(void *ctx, struct span in)
{
    struct front_session *s = ctx;
    if (s->state == TALKING)
        return talk(s, in);
    if (s->state == ATTACHED && s->attach_done) {
        if (!stream_write(s->account, in))
            stream_pause(s->client);
        return in.n;
    }
    return s->state == ENDING ? in.n : 0;
}

static void greet(struct front_session *s)
{
    struct front *f = s->front;
    const char *conf_name = service_conf(f->service)->hostname;
    const struct front_place place = {.tls = stream_is_tls(s->client),
                                      .starttls = s->house->mode == CONF_TLS_STARTTLS,
                                      .login_in_clear = s->house->login_in_clear,
                                      .mechanisms = conf_mechanisms(service_conf(f->service)) |
                                                    (stream_tls_certified(s->client) ? SASL_EXTERNAL : 0u),
                                      .hostname = conf_name[0] ? span_of(conf_name) : span_of(f->hostname)};
    s->engine = f->protocol->open(&place, &s->out);
    say(s);
}

static void on_tls_up(struct front_session *s)
{
    if (s->state != SHAKING)
        return;
    move(s, TALKING);
    if (s->engine)
        s->front->protocol->secured(s->engine, stream_tls_certified(s->client));
    else
        greet(s);
}

static void on_timeout(struct front_session *s)
{
    if (s->state == ENDING)
        session_free(s);
    else
        end(s); /* attached: the account's process, which speaks the protocol, has a shorter time and its own last words */
}

static void client_event(void *ctx, enum stream_event e)
{
    struct front_session *s = ctx;
    switch (e) {
    case STREAM_TLS_UP:
        on_tls_up(s);
        break;
    case STREAM_EOF:
        if (s->state == ATTACHED)
            stream_shutdown_write(s->account);
        else
            end(s);
        break;
    case STREAM_ERROR:
        if (s->state != ENDING && !s->account)
            LOGD("client-lost", KVT("remote", stream_remote(s->client)), KVT("why", stream_error(s->client)));
        session_free(s);
        break;
    case STREAM_FLUSHED:
        session_free(s);
        break;
    case STREAM_TIMEOUT:
        on_timeout(s);
        break;
    case STREAM_DRAINED:
        if (s->state == ATTACHED)
            stream_resume(s->account);
        else if (s->state == TALKING)
            stream_resume(s->client);
        break;
    }
}

static const struct stream_ops client_ops = {client_data, client_event};

/* ---- the beginning ---- */

/* No room: said in clear where the protocol starts in clear. */
static void turn_away(struct front_door *d, int fd, const struct sockaddr_storage *peer, enum gate_answer why)
{
    char host[64] = "";
    getnameinfo((const struct sockaddr *)peer, sizeof *peer, host, sizeof host, NULL, 0, NI_NUMERICHOST);
    LOGW("connection-refused", KVT("remote", host),
         KVT("why", why == GATE_FULL ? "max-connections" : "too many from this client"));
    if (d->house->mode != CONF_TLS_IMPLICIT) {
        struct buf out = {0};
        d->front->protocol->bye(NULL, LOGIN_BYE_FULL, &out);
        if (send(fd, out.p, out.n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
            LOGD("client-lost", KVT("remote", host));
        buf_free(&out);
    }
    close(fd);
}

/* The door is open. */
static void enter(struct front_session *s)
{
    bool implicit = s->house->mode == CONF_TLS_IMPLICIT;
    move(s, implicit ? SHAKING : TALKING);
    clock_run(s);
    stream_resume(s->client);
    if (implicit)
        stream_tls_server(s->client, s->house->tls);
    else
        greet(s);
}

static void on_guest(struct guest *g, bool refused, uint32_t slow, struct span why)
{
    struct front_session *s = container_of(g, struct front_session, guest);
    if (s->state != AT_DOOR)
        return;
    if (refused) {
        LOGI("connection-refused", KVT("remote", stream_remote(s->client)), KVS("why", why));
        if (s->house->mode != CONF_TLS_IMPLICIT)
            s->front->protocol->bye(NULL, LOGIN_BYE_FULL, &s->out);
        end(s);
    } else if (slow) {
        timer_start(s->timer, slow);
    } else {
        enter(s);
    }
}

void front_session_open(struct front_door *d, int fd, const struct sockaddr_storage *peer)
{
    struct front *f = d->front;
    enum gate_answer in = gate_enter(&f->gate, peer);
    if (in != GATE_IN) {
        turn_away(d, fd, peer, in);
        return;
    }
    struct front_session *s = mem_alloc(sizeof *s);
    s->front = f;
    s->house = d->house;
    s->house->refs++;
    s->peer = *peer;
    s->id = ++f->next_id;
    s->state = AT_DOOR;
    list_add_tail(&f->sessions, &s->link);
    f->count++;
    s->timer = timer_new(f->loop, time_is_up, s);
    s->client = stream_new(f->loop, fd, &client_ops, s);
    if (!s->client) {
        close(fd);
        session_free(s);
        return;
    }
    stream_set_peer(s->client, peer);
    s->left = s->house->limits.login_timeout;
    if (guest_come(&f->guests, &s->guest, peer, on_guest))
        enter(s);
    else
        stream_pause(s->client); /* its first bytes may be of a handshake: they stay with the kernel until then */
}

void front_sessions_drain(struct front *f)
{
    LIST_EACH(&f->sessions, l) {
        struct front_session *s = container_of(l, struct front_session, link);
        if (s->state == SHAKING || s->state == AT_DOOR)
            session_free(s);
        else if (s->state != ATTACHED && s->state != ENDING)
            end_with(s, LOGIN_BYE_STOPPING);
    }
}

void front_sessions_free(struct front *f)
{
    LIST_EACH(&f->sessions, l)
        session_free(container_of(l, struct front_session, link));
}
