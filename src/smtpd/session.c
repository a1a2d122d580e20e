/* One client's connection: moves bytes between its stream and its engine, and carries out what the engine asks for.
 * Trusts nothing that comes from the client. Sessions are used again, so that a connection costs no allocation. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "smtpd/smtpd.h"

#define SPARE_MAX 256
#define CLOSE_MS 30000 /* for the last reply to leave */
#define HANDSHAKE_MS 60000

static size_t on_data(void *ctx, struct span in);
static void on_event(void *ctx, enum stream_event e);
static const struct stream_ops stream_ops = {.on_data = on_data, .on_event = on_event};

uint64_t smtpd_id(struct smtpd *d)
{
    return ++d->next_id;
}

/* ---- life ---- */

static struct session *session_take(struct smtpd *d)
{
    if (d->spare_count == 0) {
        struct session *s = mem_alloc(sizeof *s);
        s->smtp = smtp_server_new();
        return s;
    }
    struct session *s = container_of(d->spare.next, struct session, link);
    list_del(&s->link);
    d->spare_count--;
    return s;
}

static void session_delete(struct session *s)
{
    smtp_server_free(&s->smtp);
    buf_free(&s->prefix);
    mem_free(&s);
}

/* Near the limit the door stays closed for a while, so that it does not flap with every message. */
static void count_memory(struct session *s, size_t now)
{
    struct smtpd *d = s->d;
    uint64_t max = service_conf(d->service)->smtp.max_memory;
    d->held = d->held - s->memory + now;
    s->memory = now;
    bool crowded = d->held >= (d->door.crowded ? max - max / 8 : max);
    if (crowded != d->door.crowded)
        LOGW(crowded ? "memory-short" : "memory-again", KVU("held", d->held), KVU("max-memory", max), KVU("sessions", d->session_count));
    d->door.crowded = crowded;
}

/* The last of it: nobody waits for anything any more. */
static void session_release(struct session *s)
{
    struct smtpd *d = s->d;
    count_memory(s, 0);
    list_del(&s->link);
    house_unref(&s->house);
    d->session_count--;
    if (d->spare_count < SPARE_MAX) {
        d->spare_count++;
        list_add_head(&d->spare, &s->link);
    } else {
        session_delete(s);
    }
    if (d->door.draining && d->session_count == 0)
        service_done(d->service);
}

/* What it did is told to tallyd. */
static void guest_over(struct session *s)
{
    unsigned errors, refused;
    smtp_server_faults(s->smtp, &errors, &refused);
    guest_leave(&s->guest, errors, refused);
    tarpit_leave(s);
    s->slow = s->pace_slow = 0;
}

/* The client is gone, or is sent away. A commit under way is waited for, so that its message is logged. */
void session_end(struct session *s)
{
    if (s->drop)
        drop_session_over(s->drop);
    s->drop = NULL;
    door_leave(s);
    guest_over(s);
    stream_free(&s->stream);
    turn_drop(s);
    gate_leave(&s->d->gate, &s->peer);
    questions_forget(s);
    authors_drop(s);
    names_end(s);
    if (s->login_begun)
        ask_login_forget(s);
    if (commit_pending(s))
        return;
    spool_drop(s);
    session_release(s);
}

void session_settled(struct session *s)
{
    if (!s->stream)
        session_release(s);
    else
        session_poke(s);
}

void sessions_free(struct smtpd *d)
{
    LIST_EACH(&d->sessions, l)
    {
        struct session *s = container_of(l, struct session, link);
        door_leave(s);
        guest_over(s);
        stream_free(&s->stream);
        turn_drop(s);
        questions_forget(s);
        authors_drop(s);
        names_end(s);
        commit_abort(s);
        house_unref(&s->house);
        list_del(l);
        session_delete(s);
    }
    LIST_EACH(&d->spare, l)
    {
        list_del(l);
        session_delete(container_of(l, struct session, link));
    }
}

/* ---- who comes in ---- */

static void remote_text(const struct sockaddr_storage *peer, char *text, size_t n)
{
    const void *addr = peer->ss_family == AF_INET6 ? (const void *)&((const struct sockaddr_in6 *)peer)->sin6_addr
                                                   : (const void *)&((const struct sockaddr_in *)peer)->sin_addr;
    if (!inet_ntop(peer->ss_family, addr, text, (socklen_t)n))
        text[0] = '\0';
}

/* RFC5321:3.1: too many are there already. With implicit TLS nothing can be said. */
static void turn_away(const struct port *p, int fd, const char *remote, enum gate_answer why)
{
    static const char all[] = "421 4.3.2 Too many connections, try again later\r\n";
    static const char each[] = "421 4.7.0 Too many connections from your address\r\n";
    const char *text = why == GATE_FULL ? all : each;
    LOGI("turned-away", KVT("client", remote), KVT("why", why == GATE_FULL ? "all" : "client"));
    if (!p->house->implicit && send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        LOGD("turned-away-unheard", KVT("client", remote));
    close(fd);
}

static void set_timeout(struct session *s, int64_t ms)
{
    if (s->timeout == ms)
        return;
    s->timeout = ms;
    stream_timeout(s->stream, ms);
}

static struct session *session_make(struct port *p, const struct sockaddr_storage *peer)
{
    struct smtpd *d = p->d;
    struct session *s = session_take(d);
    struct session fresh = {
        .d = d, .house = p->house, .smtp = s->smtp, .peer = *peer, .id = smtpd_id(d), .prefix = s->prefix};
    *s = fresh;
    s->house->refs++;
    list_init(&s->questions);
    remote_text(peer, s->remote, sizeof s->remote);
    list_add_tail(&d->sessions, &s->link);
    d->session_count++;
    smtp_server_open(s->smtp, &s->house->smtp, &d->door, s->house->implicit);
    s->front = *peer;
    if (conf_networks_have(&s->house->conf->smtp.xclient_from, peer))
        smtp_server_trust(s->smtp);
    return s;
}

void session_open(struct port *p, int fd, const struct sockaddr_storage *peer)
{
    enum gate_answer a = gate_enter(&p->d->gate, peer);
    if (a != GATE_IN) {
        char remote[64];
        remote_text(peer, remote, sizeof remote);
        turn_away(p, fd, remote, a);
        return;
    }
    struct session *s = session_make(p, peer);
    s->stream = stream_new(p->d->loop, fd, &stream_ops, s);
    names_begin(s);
    door_enter(s);
}

/* What limits count a user of this machine by: an address that no packet comes from (100::/64 and on, RFC 6666), other
 * for each uid. */
static void local_peer(uint32_t uid, struct sockaddr_storage *peer)
{
    struct sockaddr_in6 a = {.sin6_family = AF_INET6};
    a.sin6_addr.s6_addr[0] = 1;
    for (int i = 0; i < 4; i++)
        a.sin6_addr.s6_addr[4 + i] = (uint8_t)(uid >> (24 - 8 * i));
    memset(peer, 0, sizeof *peer);
    memcpy(peer, &a, sizeof a);
}

struct session *session_open_local(struct port *p, int fd, uint32_t uid)
{
    struct sockaddr_storage peer;
    local_peer(uid, &peer);
    enum gate_answer a = gate_enter(&p->d->gate, &peer);
    char remote[64];
    snprintf(remote, sizeof remote, "uid %u", uid);
    if (a != GATE_IN) {
        turn_away(p, fd, remote, a);
        return NULL;
    }
    struct session *s = session_make(p, &peer);
    s->local = true;
    s->uid = uid;
    s->names.exempt = true;
    memcpy(s->remote, remote, sizeof s->remote);
    s->stream = stream_new(p->d->loop, fd, &stream_ops, s);
    return s;
}

static int64_t handshake_ms(const struct session *s)
{
    return MIN_OF(s->house->conf->smtp.command_timeout, (int64_t)HANDSHAKE_MS);
}

/* The door is open (door.c). */
void session_begin(struct session *s)
{
    if (s->house->implicit && !stream_is_tls(s->stream)) {
        stream_tls_server(s->stream, s->house->tls);
        s->shaking = true;
        set_timeout(s, handshake_ms(s));
        return;
    }
    smtp_server_greet(s->smtp);
    s->greeted = true;
    session_poke(s);
}

/* ---- what the engine asks for ---- */

static struct span shown(struct span s)
{
    return s.p ? s : SPAN("");
}

/* XCLIENT: the session is another client's from here on, and comes in by the door again. */
static void become(struct session *s)
{
    const struct smtp_xclient *x = smtp_server_xclient(s->smtp);
    struct smtpd *d = s->d;
    struct sockaddr_storage peer = s->peer;
    char before[64];
    if (x->has_addr)
        peer = x->addr.ss_family ? x->addr : s->front;
    if (x->has_port && peer.ss_family == AF_INET)
        ((struct sockaddr_in *)&peer)->sin_port = htons(x->port);
    else if (x->has_port)
        ((struct sockaddr_in6 *)&peer)->sin6_port = htons(x->port);
    if (x->has_name)
        snprintf(s->name, sizeof s->name, "%s", x->name);
    gate_leave(&d->gate, &s->peer);
    enum gate_answer a = gate_enter(&d->gate, &peer);
    if (a != GATE_IN) {
        gate_enter(&d->gate, &s->peer); /* its place is free still */
        smtp_server_shut(s->smtp, "4.7.0", "Too many connections from that client");
        return;
    }
    guest_over(s);
    smtp_server_pardon(s->smtp);
    snprintf(before, sizeof before, "%s", s->remote);
    s->peer = peer;
    remote_text(&peer, s->remote, sizeof s->remote);
    LOGI("xclient", KVT("front", before), KVT("client", s->remote), KVT("name", s->name),
         KVS("helo", shown(smtp_server_helo(s->smtp))));
    s->greeted = false;
    names_begin(s);
    door_enter(s);
}

static void start_tls(struct session *s)
{
    struct buf *out = smtp_server_output(s->smtp);
    stream_write(s->stream, buf_span(out));
    buf_clear(out);
    stream_flush(s->stream);
    stream_tls_server(s->stream, s->house->tls); /* drops, and logs, what came behind the command (HAZARDS 3) */
    s->shaking = true;
    set_timeout(s, handshake_ms(s));
}

static void note(struct session *s, const struct smtp_request *r)
{
    unsigned errors, refused;
    smtp_server_faults(s->smtp, &errors, &refused);
    guest_faults(&s->guest, errors, refused, tarpit_pace);
    if (s->drop)
        drop_refused(s->drop, r->data);
    const struct smtp_transaction *t = smtp_server_transaction(s->smtp);
    LOGI("refused", KVT("client", s->remote), KVS("helo", shown(smtp_server_helo(s->smtp))), KVS("command", r->address),
         KVS("reply", r->data), KVS("to", shown(r->about)), KVS("from", t ? shown(t->sender) : SPAN("")),
         KVS("login", shown(smtp_server_login_name(s->smtp))));
}

static void carry_out(struct session *s, enum smtp_want want, const struct smtp_request *r)
{
    switch (want) {
    case SMTP_WANT_INPUT: break;
    case SMTP_WANT_ABORT: spool_drop(s); break;
    case SMTP_WANT_LOGIN_FORGET: ask_login_forget(s); break;
    case SMTP_WANT_HELLO: names_hello(s); break;
    case SMTP_WANT_NOTE: note(s, r); break;
    case SMTP_WANT_SENDER: ask_sender(s, r); break;
    case SMTP_WANT_RCPT:
        if (s->local) /* who it is for is qmgr's and authd's business */
            smtp_server_rcpt(s->smtp, r->index, &(struct outcome){.kind = OUTCOME_DONE, .code = 250}, false);
        else
            ask_rcpt(s, r);
        break;
    case SMTP_WANT_ETRN: ask_etrn(s, r); break;
    case SMTP_WANT_TURN: ask_turn(s, r); break;
    case SMTP_WANT_XCLIENT: become(s); break;
    case SMTP_WANT_WHO: ask_who(s, r); break;
    case SMTP_WANT_LOGIN: ask_login(s, r); break;
    case SMTP_WANT_LOGIN_STEP: ask_login_step(s, r); break;
    case SMTP_WANT_TLS: start_tls(s); break;
    case SMTP_WANT_ROOM:
        if (!names_hold(s, false) && !authors_asked(s, want))
            spool_room(s);
        break;
    case SMTP_WANT_COMMIT:
        guest_message(&s->guest, tarpit_pace);
        if (!names_hold(s, true) && !authors_asked(s, want))
            commit(s);
        break;
    case SMTP_WANT_CLOSE: s->closing = true; break;
    }
}

/* ---- the turn of a session ---- */

static void pause_reading(struct session *s)
{
    if (!s->paused)
        stream_pause(s->stream);
    s->paused = true;
}

static void hold_over(void *ctx)
{
    struct session *s = ctx;
    s->held = false;
    s->prompt = true;
    session_poke(s);
}

/* The end of a message is answered at once: who waits too long for it sends it again. */
static bool is_delayed(struct session *s)
{
    bool now = s->prompt || s->closing;
    s->prompt = false;
    uint32_t ms = now ? 0 : tarpit_delay(s);
    if (ms == 0)
        return false;
    if (!s->slowed) {
        smtp_server_shut(s->smtp, "4.7.0", "Too many errors, closing the connection");
        LOGI("refused", KVT("client", s->remote), KVT("why", "no room in the tarpit"));
        s->closing = true;
        return false;
    }
    s->held = true;
    pause_reading(s);
    tarpit_wait(s, ms, hold_over);
    return true;
}

static void send_replies(struct session *s)
{
    struct buf *out = smtp_server_output(s->smtp);
    if (out->n == 0 || (s->held && !s->closing) || is_delayed(s))
        return;
    s->choked = !stream_write(s->stream, buf_span(out));
    buf_clear(out);
    smtp_pace_begin(&s->pace, loop_now(s->d->loop));
    if (s->choked)
        pause_reading(s); /* it asks and does not listen */
}

static void after_turn(struct session *s)
{
    const struct conf *c = s->house->conf;
    count_memory(s, smtp_server_held(s->smtp));
    send_replies(s);
    if (s->closing) {
        set_timeout(s, CLOSE_MS);
        stream_finish(s->stream);
    } else if (!s->shaking) {
        set_timeout(s, smtp_server_in_content(s->smtp) ? c->smtp.data_timeout : c->smtp.command_timeout);
    }
}

/* Runs the engine over `in`; returns how much of it was used. */
static size_t session_turn(struct session *s, struct span in)
{
    size_t total = 0;
    s->d->door.wall = loop_wall(s->d->loop);
    while (!s->closing) {
        size_t used;
        struct smtp_request r;
        enum smtp_want want = smtp_server_run(s->smtp, span_from(in, total), &used, &r);
        total += used;
        if (want == SMTP_WANT_INPUT)
            break;
        carry_out(s, want, &r);
        if (want == SMTP_WANT_TLS || (want == SMTP_WANT_XCLIENT && s->door))
            return total;
    }
    after_turn(s);
    return s->closing ? in.n : total;
}

/* RFC5321:4.5.3.2: single bytes win no time. */
static bool in_time(struct session *s, uint64_t used)
{
    const struct conf *c = s->house->conf;
    int64_t now = loop_now(s->d->loop);
    if (smtp_server_in_content(s->smtp))
        return smtp_pace_content(&s->pace, now, used, c->smtp.data_timeout, c->smtp.data_least);
    return smtp_pace_command(&s->pace, now, smtp_server_blocked(s->smtp), c->smtp.command_timeout);
}

static size_t on_data(void *ctx, struct span in)
{
    struct session *s = ctx;
    if (s->turned)
        return s->closing ? in.n : turn_data(s, in);
    if (s->door && !door_input(s))
        return 0;
    size_t used = session_turn(s, in);
    if (!s->closing && !s->shaking && !s->held && !in_time(s, used)) {
        smtp_server_timed_out(s->smtp);
        session_poke(s);
        return in.n;
    }
    if (!s->closing && used < in.n && smtp_server_blocked(s->smtp))
        pause_reading(s);
    return used;
}

void session_finish(struct session *s)
{
    s->closing = true;
    after_turn(s);
}

/* The client will say no more: once nothing is awaited any more, what we had to say is sent and it is over. */
static void finish_after_eof(struct session *s)
{
    if (!s->eof || s->closing || smtp_server_blocked(s->smtp))
        return;
    LOGD("client-gone", KVT("client", s->remote), KVT("state", smtp_server_state(s->smtp)));
    s->closing = true;
    after_turn(s);
}

void session_poke(struct session *s)
{
    if (s->closing)
        return;
    session_turn(s, SPAN(""));
    finish_after_eof(s);
    if (s->paused && !s->held && !s->closing && !s->choked && !smtp_server_blocked(s->smtp)) {
        s->paused = false;
        stream_resume(s->stream);
    }
}

void session_drain(struct session *s)
{
    if (!s->stream || s->closing || s->turned) /* relay drains, and ends what is reversed */
        return;
    if (s->shaking || s->door) { /* nothing was promised yet */
        session_end(s);
        return;
    }
    smtp_server_drain(s->smtp);
    session_poke(s);
}

static void timed_out(struct session *s)
{
    if (s->door) {
        door_time(s);
    } else if (s->closing || s->shaking) {
        session_end(s);
    } else if (smtp_server_blocked(s->smtp)) {
        stream_timeout(s->stream, s->timeout); /* the client waits for us */
    } else {
        smtp_server_timed_out(s->smtp);
        session_poke(s);
    }
}

static void tls_up(struct session *s)
{
    s->shaking = false;
    if (stream_tls_certified(s->stream))
        smtp_server_certified(s->smtp);
    if (s->greeted)
        smtp_server_tls_up(s->smtp);
    else
        smtp_server_greet(s->smtp);
    s->greeted = true;
    session_poke(s);
}

static void on_event(void *ctx, enum stream_event e)
{
    struct session *s = ctx;
    if (turn_event(s, e))
        return;
    switch (e) {
    case STREAM_TLS_UP: tls_up(s); break;
    case STREAM_EOF:
        s->eof = true;
        finish_after_eof(s);
        break;
    case STREAM_ERROR:
        LOGI("connection-lost", KVT("client", s->remote), KVT("state", smtp_server_state(s->smtp)),
             KVT("why", stream_error(s->stream)));
        session_end(s);
        break;
    case STREAM_DRAINED:
        s->choked = false;
        session_poke(s);
        break;
    case STREAM_TIMEOUT: timed_out(s); break;
    case STREAM_FLUSHED: session_end(s); break;
    }
}
