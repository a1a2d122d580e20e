/* The sending engine's session: greeting, EHLO, STARTTLS, AUTH, readiness, and the ways it ends. Transactions are in client_mail.c.
 * Trusts: the driver. The peer may say anything at any time: a reply that nothing asked for, bytes behind the 220 of STARTTLS, or a
 * reply beyond its limits ends the session. */
#include "smtp/client.h"

#include <stdlib.h>

#include "base/base64.h"
#include "base/mem.h"
#include "base/sm.h"
#include "smtp/client_private.h"

static const struct sm_state states[CLIENT_STATES] = {
    [CLIENT_GREETING] = {"the greeting", SM_TO(CLIENT_EHLO) | SM_TO(CLIENT_OVER)},
    [CLIENT_EHLO] = {"the answer to EHLO",
                     SM_TO(CLIENT_HELO) | SM_TO(CLIENT_STARTTLS) | SM_TO(CLIENT_AUTH) | SM_TO(CLIENT_READY) | SM_TO(CLIENT_OVER)},
    [CLIENT_HELO] = {"the answer to HELO", SM_TO(CLIENT_READY) | SM_TO(CLIENT_OVER)},
    [CLIENT_STARTTLS] = {"the answer to STARTTLS", SM_TO(CLIENT_TLS) | SM_TO(CLIENT_AUTH) | SM_TO(CLIENT_READY) | SM_TO(CLIENT_OVER)},
    [CLIENT_TLS] = {"the TLS handshake", SM_TO(CLIENT_EHLO) | SM_TO(CLIENT_OVER)},
    [CLIENT_AUTH] = {"the answer to AUTH", SM_TO(CLIENT_READY) | SM_TO(CLIENT_OVER)},
    [CLIENT_READY] = {"the next message", SM_TO(CLIENT_ENVELOPE) | SM_TO(CLIENT_QUIT) | SM_TO(CLIENT_OVER)},
    [CLIENT_ENVELOPE] = {"the answers to MAIL, RCPT and DATA",
                         SM_TO(CLIENT_CONTENT) | SM_TO(CLIENT_DOT) | SM_TO(CLIENT_READY) | SM_TO(CLIENT_RSET) | SM_TO(CLIENT_OVER)},
    [CLIENT_CONTENT] = {"the content to be sent", SM_TO(CLIENT_DOT) | SM_TO(CLIENT_OVER)},
    [CLIENT_DOT] = {"the answer to the content", SM_TO(CLIENT_READY) | SM_TO(CLIENT_RSET) | SM_TO(CLIENT_OVER)},
    [CLIENT_RSET] = {"the answer to RSET", SM_TO(CLIENT_READY) | SM_TO(CLIENT_OVER)},
    [CLIENT_QUIT] = {"the answer to QUIT", SM_TO(CLIENT_OVER)},
    [CLIENT_OVER] = {"nothing", 0},
};

void client_move(struct smtp_client *c, enum client_state next)
{
    sm_move(states, COUNT_OF(states), &c->state, next);
}

bool client_over(const struct smtp_client *c)
{
    return c->freed || c->state == CLIENT_OVER;
}

/* ---- life ---- */

static void copy_name(char out[SMTP_DOMAIN_MAX + 1], struct span name)
{
    size_t n = MIN_OF(name.n, (size_t)SMTP_DOMAIN_MAX);
    for (size_t i = 0; i < n; i++)
        out[i] = name.p[i] > 0x20 && name.p[i] < 0x7f ? name.p[i] : '?';
    out[n] = '\0';
}

struct smtp_client *smtp_client_new(const struct smtp_client_options *o, struct buf *out, const struct smtp_client_ops *ops, void *ctx)
{
    if (o->helo.n == 0 || o->helo.n > SMTP_DOMAIN_MAX || span_has_control(o->helo))
        abort();
    struct smtp_client *c = mem_alloc(sizeof *c);
    c->out = out;
    c->ops = ops;
    c->ctx = ctx;
    c->tls = o->tls;
    c->tls_on = o->tls == SMTP_CLIENT_IS_TLS;
    c->auth_in_clear = o->auth_in_clear;
    c->timeout_max = o->timeout_max;
    copy_name(c->helo, o->helo);
    buf_add(&c->user, o->user);
    buf_add(&c->password, o->password);
    c->state = CLIENT_GREETING;
    return c;
}

static void wipe(struct buf *b)
{
    if (b->p)
        explicit_bzero(b->p, b->cap);
    buf_free(b);
}

static void free_now(struct smtp_client *c)
{
    client_mail_drop(c);
    client_reply_free(&c->reply);
    wipe(&c->user);
    wipe(&c->password);
    mem_free(&c);
}

void smtp_client_free(struct smtp_client **cp)
{
    struct smtp_client *c = *cp;
    *cp = NULL;
    if (!c)
        return;
    c->freed = true;
    if (c->depth == 0)
        free_now(c);
}

void client_enter(struct smtp_client *c)
{
    c->depth++;
}

void client_leave(struct smtp_client *c)
{
    if (--c->depth == 0 && c->freed)
        free_now(c);
}

/* ---- ends ---- */

enum smtp_client_stage smtp_client_stage(const struct smtp_client *c)
{
    switch ((enum client_state)c->state) {
    case CLIENT_GREETING:
        return SMTP_STAGE_GREETING;
    case CLIENT_EHLO:
    case CLIENT_HELO:
        return SMTP_STAGE_HELLO;
    case CLIENT_STARTTLS:
    case CLIENT_TLS:
        return SMTP_STAGE_TLS;
    case CLIENT_AUTH:
        return SMTP_STAGE_AUTH;
    case CLIENT_ENVELOPE:
        return c->answered < 2 ? SMTP_STAGE_MAIL : SMTP_STAGE_RCPT;
    case CLIENT_CONTENT:
        return SMTP_STAGE_CONTENT;
    case CLIENT_DOT:
        return SMTP_STAGE_DOT;
    default:
        return SMTP_STAGE_IDLE;
    }
}

void client_fail(struct smtp_client *c, const struct outcome *why)
{
    enum smtp_client_stage at = smtp_client_stage(c);
    struct outcome copy = *why;
    client_move(c, CLIENT_OVER);
    client_mail_drop(c);
    c->ops->on_failed(c->ctx, at, &copy);
}

void client_broke_rules(struct smtp_client *c, const char *how)
{
    struct outcome o = outcome_make(OUTCOME_RETRY, 0, 5, 0, "the next host broke the protocol: %s (waiting for %s)", how, states[c->state].name);
    client_fail(c, &o);
}

void smtp_client_lost(struct smtp_client *c, const char *what)
{
    if (client_over(c))
        return;
    client_enter(c);
    if (c->state == CLIENT_QUIT) {
        client_move(c, CLIENT_OVER);
        c->ops->on_quit(c->ctx);
    } else {
        struct outcome o = outcome_make(OUTCOME_RETRY, 0, 4, 2, "%s while waiting for %s", what, states[c->state].name);
        client_fail(c, &o);
    }
    client_leave(c);
}

/* ---- setting the session up ---- */

static void become_ready(struct smtp_client *c)
{
    client_move(c, CLIENT_READY);
    c->ops->on_ready(c->ctx);
}

static void refuse_auth(struct smtp_client *c, const char *why)
{
    struct outcome o = outcome_make(OUTCOME_RETRY, 0, 7, 0, "%s", why);
    client_fail(c, &o);
}

static void put_base64_line(struct smtp_client *c, struct span bytes)
{
    base64_encode(bytes, c->out);
    buf_add(c->out, SPAN("\r\n"));
}

/* RFC4616: authorization identity (empty), user, password, with NUL between them. */
static void send_auth_plain(struct smtp_client *c)
{
    struct buf message = {0};
    buf_addc(&message, '\0');
    buf_add(&message, buf_span(&c->user));
    buf_addc(&message, '\0');
    buf_add(&message, buf_span(&c->password));
    buf_add(c->out, SPAN("AUTH PLAIN "));
    put_base64_line(c, buf_span(&message));
    wipe(&message);
}

static void begin_auth(struct smtp_client *c)
{
    if (c->user.n == 0) {
        become_ready(c);
        return;
    }
    client_move(c, CLIENT_AUTH);
    c->auth_step = 0;
    c->auth_plain = (c->caps & SMTP_CAP_AUTH_PLAIN) != 0;
    if (!c->tls_on && !c->auth_in_clear)
        refuse_auth(c, "the connection has no TLS, so the password is not given");
    else if (c->auth_plain)
        send_auth_plain(c);
    else if (c->caps & SMTP_CAP_AUTH_LOGIN)
        buf_add(c->out, SPAN("AUTH LOGIN\r\n"));
    else
        refuse_auth(c, "the next host offers no way to log in that is known here (AUTH PLAIN or LOGIN)");
}

static void on_auth(struct smtp_client *c, unsigned code)
{
    if (code == 235) {
        become_ready(c);
    } else if (code == 334 && !c->auth_plain && c->auth_step < 2) {
        put_base64_line(c, buf_span(c->auth_step == 0 ? &c->user : &c->password));
        c->auth_step++;
    } else if (code / 100 == 4 || code / 100 == 5) {
        struct outcome o = client_reply_outcome(&c->reply);
        o.kind = OUTCOME_RETRY; /* ours to mend: no message fails because of a password */
        client_fail(c, &o);
    } else {
        client_broke_rules(c, "an answer to AUTH that is out of place");
    }
}

static void begin_tls(struct smtp_client *c)
{
    bool wanted = !c->tls_on && (c->tls == SMTP_CLIENT_MAY || c->tls == SMTP_CLIENT_MUST);
    if (wanted && c->caps & SMTP_CAP_STARTTLS) {
        client_move(c, CLIENT_STARTTLS);
        buf_add(c->out, SPAN("STARTTLS\r\n"));
    } else if (wanted && c->tls == SMTP_CLIENT_MUST) {
        struct outcome o = outcome_make(OUTCOME_RETRY, 0, 7, 4, "the next host does not offer STARTTLS, which is required");
        client_fail(c, &o);
    } else {
        begin_auth(c);
    }
}

static void on_starttls(struct smtp_client *c, unsigned code)
{
    if (code == 220) {
        client_move(c, CLIENT_TLS);
        c->ops->on_start_tls(c->ctx);
    } else if (c->tls == SMTP_CLIENT_MUST) {
        struct outcome o = client_reply_outcome(&c->reply);
        o.kind = OUTCOME_RETRY;
        client_fail(c, &o);
    } else {
        begin_auth(c);
    }
}

static void say_hello(struct smtp_client *c, const char *verb)
{
    c->caps = 0; /* what was said before TLS counts no more: RFC3207:4.2 */
    c->size_limit = c->by_min = 0;
    buf_printf(c->out, "%s %s\r\n", verb, c->helo);
}

void smtp_client_tls_up(struct smtp_client *c)
{
    if (c->state != CLIENT_TLS)
        abort();
    c->tls_on = true;
    c->progress++;
    client_move(c, CLIENT_EHLO);
    say_hello(c, "EHLO");
}

static void on_greeting(struct smtp_client *c, unsigned code)
{
    struct span text = buf_span(&c->reply.text);
    struct span line = span_cut(&text, '\n');
    if (code / 100 != 2) {
        struct outcome o = client_reply_outcome(&c->reply);
        client_fail(c, &o);
        return;
    }
    copy_name(c->peer_name, span_word(&line));
    client_move(c, CLIENT_EHLO);
    say_hello(c, "EHLO");
}

static void take_auth(struct smtp_client *c, struct span mechanisms)
{
    for (struct span m = span_word(&mechanisms); m.n; m = span_word(&mechanisms)) {
        if (span_ieqs(m, "PLAIN"))
            c->caps |= SMTP_CAP_AUTH_PLAIN;
        else if (span_ieqs(m, "LOGIN"))
            c->caps |= SMTP_CAP_AUTH_LOGIN;
    }
}

/* RFC2852:2: the first of a list with commas. */
static void take_by_min(struct smtp_client *c, struct span options)
{
    uint64_t n;
    if (span_u64(span_cut(&options, ','), UINT32_MAX, &n))
        c->by_min = n;
}

static void take_capability(struct smtp_client *c, struct span line)
{
    static const struct {
        const char *keyword;
        enum smtp_client_cap cap;
    } known[] = {
        {"PIPELINING", SMTP_CAP_PIPELINING},
        {"SIZE", SMTP_CAP_SIZE},
        {"8BITMIME", SMTP_CAP_8BITMIME},
        {"STARTTLS", SMTP_CAP_STARTTLS},
        {"SMTPUTF8", SMTP_CAP_SMTPUTF8},
        {"ENHANCEDSTATUSCODES", SMTP_CAP_ENHANCED},
        {"DSN", SMTP_CAP_DSN},
        {"REQUIRETLS", SMTP_CAP_REQUIRETLS},
        {"DELIVERBY", SMTP_CAP_DELIVERBY},
        {"MT-PRIORITY", SMTP_CAP_MT_PRIORITY},
        {"CHUNKING", SMTP_CAP_CHUNKING},
        {"BINARYMIME", SMTP_CAP_BINARYMIME},
    };
    struct span keyword = span_word(&line);
    for (size_t i = 0; i < COUNT_OF(known); i++)
        if (span_ieqs(keyword, known[i].keyword))
            c->caps |= known[i].cap;
    if (span_ieqs(keyword, "AUTH"))
        take_auth(c, line);
    if (span_ieqs(keyword, "SIZE"))
        span_u64(span_word(&line), UINT64_MAX, &c->size_limit);
    if (span_ieqs(keyword, "DELIVERBY"))
        take_by_min(c, span_word(&line));
}

static void on_ehlo(struct smtp_client *c, unsigned code)
{
    if (code / 100 == 2) {
        struct span text = buf_span(&c->reply.text);
        span_cut(&text, '\n'); /* the first line is for people: RFC5321:4.1.1.1 */
        while (text.n)
            take_capability(c, span_cut(&text, '\n'));
        begin_tls(c);
    } else if (code / 100 == 5 && !c->tls_on && c->tls != SMTP_CLIENT_MUST && c->user.n == 0) {
        client_move(c, CLIENT_HELO); /* an old host: RFC5321:3.2 */
        say_hello(c, "HELO");
    } else {
        struct outcome o = client_reply_outcome(&c->reply);
        client_fail(c, &o);
    }
}

static void on_helo(struct smtp_client *c, unsigned code)
{
    if (code / 100 == 2) {
        become_ready(c);
        return;
    }
    struct outcome o = client_reply_outcome(&c->reply);
    client_fail(c, &o);
}

static void on_unasked(struct smtp_client *c, unsigned code)
{
    (void)code;
    client_broke_rules(c, "a reply that nothing asked for");
}

/* A peer that can't answer RSET can't be trusted with a next message. */
static void on_rset(struct smtp_client *c, unsigned code)
{
    if (code / 100 == 2) {
        become_ready(c);
        return;
    }
    struct outcome o = client_reply_outcome(&c->reply);
    client_fail(c, &o);
}

static void on_quit(struct smtp_client *c, unsigned code)
{
    (void)code;
    client_move(c, CLIENT_OVER);
    c->ops->on_quit(c->ctx);
}

void smtp_client_quit(struct smtp_client *c)
{
    if (c->state != CLIENT_READY)
        abort();
    client_move(c, CLIENT_QUIT);
    c->progress++;
    buf_add(c->out, SPAN("QUIT\r\n"));
}

/* ---- replies ---- */

typedef void reply_fn(struct smtp_client *c, unsigned code);

static const struct {
    reply_fn *fn;
    int64_t timeout; /* RFC5321:4.5.3.2, ms */
} waits[CLIENT_STATES] = {
    [CLIENT_GREETING] = {on_greeting, 300000}, /* RFC5321:4.5.3.2.1 */
    [CLIENT_EHLO] = {on_ehlo, 300000},
    [CLIENT_HELO] = {on_helo, 300000},
    [CLIENT_STARTTLS] = {on_starttls, 120000},
    [CLIENT_TLS] = {on_unasked, 120000},
    [CLIENT_AUTH] = {on_auth, 180000}, /* RFC4954:4 */
    [CLIENT_READY] = {on_unasked, 0},
    [CLIENT_ENVELOPE] = {client_on_envelope, 300000}, /* RFC5321:4.5.3.2.2 and 3; DATA's 2 minutes below */
    [CLIENT_CONTENT] = {client_on_early, 180000},     /* RFC5321:4.5.3.2.5 */
    [CLIENT_DOT] = {client_on_dot, 600000},           /* RFC5321:4.5.3.2.6 */
    [CLIENT_RSET] = {on_rset, 60000},
    [CLIENT_QUIT] = {on_quit, 10000},
    [CLIENT_OVER] = {NULL, 0},
};

int64_t smtp_client_timeout(const struct smtp_client *c)
{
    int64_t ms = waits[c->state].timeout;
    if (c->state == CLIENT_ENVELOPE && c->answered == c->order_count + 1)
        ms = 120000; /* RFC5321:4.5.3.2.4 */
    return ms && c->timeout_max ? MIN_OF(ms, c->timeout_max) : ms;
}

static size_t outstanding(const struct smtp_client *c)
{
    switch (c->state) {
    case CLIENT_ENVELOPE:
        return client_mail_outstanding(c);
    case CLIENT_READY:
    case CLIENT_CONTENT:
        return 0;
    default:
        return 1;
    }
}

/* 421 may come at any time and ends the session: RFC5321:3.8. */
static void take_reply(struct smtp_client *c)
{
    unsigned code = c->reply.code;
    c->progress++;
    client_note_reply(c);
    if (code == 421 && c->state != CLIENT_QUIT) {
        struct outcome o = client_reply_outcome(&c->reply);
        client_fail(c, &o);
        return;
    }
    waits[c->state].fn(c, code);
}

/* Every reply in `in` was sent before the peer saw anything that we answer it with: more of them than were open at the start is a peer
 * that talks before it is asked, or somebody who put bytes into its stream. */
static void feed(struct smtp_client *c, struct span in)
{
    size_t credit = MAX_OF(outstanding(c), 1u);
    while (in.n && !client_over(c)) {
        const char *why = "";
        if (c->state == CLIENT_TLS) {
            client_broke_rules(c, "bytes in clear text behind its answer to STARTTLS"); /* HAZARDS 3 */
            return;
        }
        if (credit == 0 && c->state != CLIENT_CONTENT) {
            client_broke_rules(c, "a reply before its command");
            return;
        }
        enum client_reply_result r = client_reply_read(&c->reply, &in, &why);
        if (r == CLIENT_REPLY_BAD)
            client_broke_rules(c, why);
        if (r != CLIENT_REPLY_DONE)
            return;
        if (credit)
            credit--;
        take_reply(c);
    }
}

void smtp_client_feed(struct smtp_client *c, struct span in)
{
    if (client_over(c))
        return;
    client_enter(c);
    feed(c, in);
    client_leave(c);
}

/* ---- what is known ---- */

bool smtp_client_can(const struct smtp_client *c, enum smtp_client_cap cap)
{
    return (c->caps & cap) != 0;
}

uint64_t smtp_client_size_limit(const struct smtp_client *c)
{
    return c->size_limit;
}

uint64_t smtp_client_by_min(const struct smtp_client *c)
{
    return c->by_min;
}

bool smtp_client_is_ready(const struct smtp_client *c)
{
    return c->state == CLIENT_READY;
}

uint64_t smtp_client_progress(const struct smtp_client *c)
{
    return c->progress;
}

struct span smtp_client_peer_name(const struct smtp_client *c)
{
    return span_of(c->peer_name);
}
