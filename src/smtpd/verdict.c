/* What smtpd asks of authd: is this recipient welcome, may this login send so, who is this. No answer, or authd gone,
 * is a 4xx at the door; what may be asked twice is asked once more when authd is back. */
#include <unistd.h>

#include "base/mem.h"
#include "smtpd/smtpd.h"

#define TRIES 2
#define WELCOME_MAX 1000   /* recipients that are kept */
#define WELCOME_LENGTH 100 /* of an address that is worth it */

static void drop_fd(int fd)
{
    if (fd >= 0)
        close(fd);
}

static struct outcome no_directory(void)
{
    return outcome_make(OUTCOME_RETRY, 451, 3, 0, "The directory does not answer just now, try again later");
}

static struct outcome from_verdict(const struct msg *m)
{
    if (m->type != MSG_verdict ||
        (m->verdict.kind != OUTCOME_DONE && m->verdict.kind != OUTCOME_RETRY && m->verdict.kind != OUTCOME_FAILED))
        return no_directory();
    const struct msg_verdict *v = &m->verdict;
    return outcome_text(v->kind, v->code, v->subject, v->detail, v->why);
}

/* ---- recipients ---- */

static struct question *question_new(struct session *s)
{
    struct question *q = s->first.id || list_linked(&s->first.link) ? mem_alloc(sizeof *q) : &s->first;
    *q = (struct question){.s = s};
    list_add_tail(&s->questions, &q->link);
    return q;
}

static void question_free(struct question *q)
{
    list_del(&q->link);
    q->id = 0;
    if (q != &q->s->first)
        mem_free(&q);
}

void questions_forget(struct session *s)
{
    LIST_EACH(&s->questions, l)
    {
        struct question *q = container_of(l, struct question, link);
        chan_forget(s->d->authd, q->id);
        question_free(q);
    }
    if (s->login.id)
        chan_forget(s->d->authd, s->login.id);
    s->login.id = 0;
}

/* Who is welcome, as authd said: it says when to forget it. */
static void welcome_keep(struct smtpd *d, struct span address)
{
    if (address.n > WELCOME_LENGTH)
        return;
    if (d->welcome.count >= WELCOME_MAX)
        welcome_forget(d);
    map_put(&d->welcome, address, d);
}

static bool is_welcome(const struct session *s, struct span address)
{
    return !s->login_begun && !smtp_server_transaction(s->smtp)->terminal && map_get(&s->d->welcome, address);
}

void welcome_forget(struct smtpd *d)
{
    map_free(&d->welcome);
}

static void rcpt_end(struct question *q, const struct outcome *o, bool relayed)
{
    struct session *s = q->s;
    unsigned index = q->index;
    question_free(q);
    smtp_server_rcpt(s->smtp, index, o, relayed);
}

static void rcpt_ask(struct question *q, struct span address);

static void on_rcpt(void *ctx, struct chan *c, enum chan_why why, const struct msg *m, int fd)
{
    (void)c;
    struct question *q = ctx;
    struct session *s = q->s;
    drop_fd(fd);
    const struct smtp_transaction *t = smtp_server_transaction(s->smtp);
    if (why == CHAN_GONE && ++q->tries < TRIES && t && q->index < t->rcpt_count) {
        rcpt_ask(q, t->rcpts[q->index].address);
        session_poke(s);
        return;
    }
    struct outcome o = why == CHAN_ANSWERED ? from_verdict(m) : no_directory();
    bool judged = why == CHAN_ANSWERED && m->type == MSG_verdict;
    if (judged && m->verdict.keep && o.kind == OUTCOME_DONE && t && q->index < t->rcpt_count)
        welcome_keep(s->d, t->rcpts[q->index].address);
    rcpt_end(q, &o, judged && m->verdict.relayed);
    session_poke(s);
}

static void rcpt_ask(struct question *q, struct span address)
{
    struct session *s = q->s;
    const struct smtp_transaction *t = smtp_server_transaction(s->smtp);
    struct msg m = {.type = MSG_rcpt_check};
    m.rcpt_check = (struct msg_rcpt_check){
        .session = s->login_begun ? s->id : 0, .address = address, .sender = t->sender, .size = t->declared, .terminal = t->terminal};
    q->id = chan_ask(s->d->authd, &m, -1, on_rcpt, q);
    if (q->id)
        return;
    struct outcome o = no_directory();
    rcpt_end(q, &o, false);
}

/* A recipient that the client's own manners keep out is not asked about, and neither is one that is known to be welcome. */
static void rcpt_go(struct question *q, struct span address)
{
    struct outcome o;
    q->held = false;
    if (!names_refuse(q->s, address, &o)) {
        if (!is_welcome(q->s, address)) {
            rcpt_ask(q, address);
            return;
        }
        o = outcome_make(OUTCOME_DONE, 250, 2, 1, "ok");
    }
    rcpt_end(q, &o, false);
}

void held_rcpts_go(struct session *s)
{
    LIST_EACH(&s->questions, l)
    {
        struct question *q = container_of(l, struct question, link);
        const struct smtp_transaction *t = smtp_server_transaction(s->smtp);
        if (q->held && t && q->index < t->rcpt_count)
            rcpt_go(q, t->rcpts[q->index].address);
    }
}

void ask_rcpt(struct session *s, const struct smtp_request *r)
{
    if (chan_full(s->d->authd)) {
        struct outcome o = no_directory();
        smtp_server_rcpt(s->smtp, r->index, &o, false);
        return;
    }
    struct question *q = question_new(s);
    q->index = r->index;
    q->held = names_pending(s, CONF_GRADE_DEFER);
    if (!q->held)
        rcpt_go(q, r->address);
}

/* ---- sender, name and login: one at a time for a session ---- */

static void on_sender(void *ctx, struct chan *c, enum chan_why why, const struct msg *m, int fd)
{
    (void)c;
    struct session *s = ctx;
    drop_fd(fd);
    s->login.id = 0;
    struct outcome o = why == CHAN_ANSWERED ? from_verdict(m) : no_directory();
    smtp_server_sender(s->smtp, &o);
    session_poke(s);
}

void ask_sender(struct session *s, const struct smtp_request *r)
{
    s->authors_good = s->add_sender = false; /* another message */
    struct msg m = {.type = MSG_sender_check};
    m.sender_check =
        (struct msg_sender_check){.instance = service_instance(s->d->service), .session = s->id, .sender = r->address};
    s->login.id = chan_full(s->d->authd) ? 0 : chan_ask(s->d->authd, &m, -1, on_sender, s);
    if (s->login.id)
        return;
    struct outcome o = no_directory();
    smtp_server_sender(s->smtp, &o);
}

/* ---- names ---- */

static void on_who(void *ctx, struct chan *c, enum chan_why why, const struct msg *m, int fd)
{
    (void)c;
    struct session *s = ctx;
    drop_fd(fd);
    s->login.id = 0;
    struct outcome o = no_directory();
    const struct msg_who *w = &m->who;
    if (why == CHAN_ANSWERED && m->type == MSG_who &&
        (w->kind == OUTCOME_DONE || w->kind == OUTCOME_RETRY || w->kind == OUTCOME_FAILED))
        o = outcome_text(w->kind, w->code, w->subject, w->detail, w->why);
    smtp_server_who(s->smtp, &o, why == CHAN_ANSWERED && m->type == MSG_who ? w->members : SPAN(""));
    session_poke(s);
}

void ask_who(struct session *s, const struct smtp_request *r)
{
    struct msg m = {.type = MSG_who_ask,
                    .who_ask = {.session = s->login_begun ? s->id : 0, .what = r->expand, .name = r->address}};
    s->login.id = chan_full(s->d->authd) ? 0 : chan_ask(s->d->authd, &m, -1, on_who, s);
    if (s->login.id)
        return;
    struct outcome o = no_directory();
    smtp_server_who(s->smtp, &o, SPAN(""));
}

/* ---- logins ---- */

static struct outcome from_result(const struct msg *m)
{
    const struct msg_auth_result *r = &m->auth_result;
    if (r->kind == OUTCOME_DONE)
        return outcome_make(OUTCOME_DONE, 235, 7, 0, "Welcome");
    if (r->kind == OUTCOME_FAILED) /* RFC4954:6; a mechanism that authd has not: RFC4954:4 */
        return outcome_text(OUTCOME_FAILED, r->subject == 5 ? 504 : 535, r->subject, r->detail, r->why);
    return outcome_text(OUTCOME_RETRY, 454, r->subject, r->detail, r->why);
}

static void on_login(void *ctx, struct chan *c, enum chan_why why, const struct msg *m, int fd)
{
    (void)c;
    struct session *s = ctx;
    drop_fd(fd);
    s->login.id = 0;
    if (why == CHAN_ANSWERED && m->type == MSG_auth_challenge) {
        smtp_server_challenge(s->smtp, m->auth_challenge.challenge);
    } else if (why == CHAN_ANSWERED && m->type == MSG_auth_result) {
        struct outcome o = from_result(m);
        smtp_server_login(s->smtp, &o, m->auth_result.login);
    } else {
        struct outcome o = outcome_make(OUTCOME_RETRY, 454, 7, 0, "Logins are not possible just now, try again later");
        smtp_server_login(s->smtp, &o, SPAN(""));
    }
    session_poke(s);
}

static void login_ask(struct session *s, const struct msg *m)
{
    s->login.id = chan_full(s->d->authd) ? 0 : chan_ask(s->d->authd, m, -1, on_login, s);
    if (s->login.id)
        return;
    struct outcome o = outcome_make(OUTCOME_RETRY, 454, 7, 0, "Logins are not possible just now, try again later");
    smtp_server_login(s->smtp, &o, SPAN(""));
}

void ask_login(struct session *s, const struct smtp_request *r)
{
    struct msg m = {.type = MSG_auth_begin};
    struct stream_binding bound;
    stream_tls_binding(s->stream, &bound);
    struct stream_client client;
    bool shown = span_ieqs(r->mechanism, "EXTERNAL") && stream_tls_client_certificate(s->stream, &client);
    m.auth_begin = (struct msg_auth_begin){.session = s->id,
                                           .protocol = CONF_PROTOCOL_SUBMISSION,
                                           .mechanism = r->mechanism,
                                           .remote = span_of(s->remote),
                                           .tls = stream_is_tls(s->stream),
                                           .has_initial = r->has_data,
                                           .initial = r->data,
                                           .exporter = span_make(bound.exporter, bound.exporter_n),
                                           .end_point = span_make(bound.end_point, bound.end_point_n)};
    if (shown) {
        m.auth_begin.certificate = span_make(client.fingerprint, sizeof client.fingerprint);
        m.auth_begin.names = span_make(client.names, client.names_n);
    }
    s->login_begun = true;
    login_ask(s, &m);
}

void ask_login_step(struct session *s, const struct smtp_request *r)
{
    struct msg m = {.type = MSG_auth_step};
    m.auth_step = (struct msg_auth_step){.session = s->id, .response = r->data};
    login_ask(s, &m);
}

void ask_login_forget(struct session *s)
{
    struct msg m = {.type = MSG_auth_forget};
    m.auth_forget.session = s->id;
    chan_say(s->d->authd, &m, -1);
    s->login_begun = false;
    s->id = smtpd_id(s->d); /* what comes next is another login */
}
