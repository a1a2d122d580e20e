/* See prelogin.h. The client is nobody yet: every line has its limit, wrong ones are counted, secrets are wiped. */
#include "pop3/prelogin.h"

#include "auth/mechanisms.h"
#include "base/base64.h"
#include "base/mem.h"
#include "pop3/line.h"

struct pop3_prelogin {
    struct pop3_lines lines;
    bool tls, starttls, login_in_clear;
    unsigned mechanisms; /* enum sasl_can bits as configured */
    bool challenged;   /* the next line answers a challenge */
    bool has_user;
    unsigned errors;
    struct buf user;     /* of USER, or what AUTH PLAIN says */
    struct buf mechanism;
    struct buf response; /* decoded; a password may be in it */
};

struct call {
    struct pop3_prelogin *p;
    struct span args;
    struct buf *out;
    struct login_action *a;
};

static void wipe(struct buf *b)
{
    if (b->p)
        explicit_bzero(b->p, b->cap);
    buf_free(b);
}

static bool login_allowed(const struct pop3_prelogin *p)
{
    return p->tls || p->login_in_clear;
}

static unsigned can(const struct pop3_prelogin *p)
{
    return p->mechanisms | (p->tls ? SASL_TLS : 0u);
}

static void wrong(struct call *c, const char *text)
{
    buf_printf(c->out, "-ERR %s\r\n", text);
    if (++c->p->errors < POP3_ERRORS_MAX)
        return;
    buf_adds(c->out, "-ERR too many wrong commands, closing\r\n");
    c->a->what = LOGIN_CLOSE;
}

/* RFC2595:4 RFC5034:4: no password over a line that anybody may read. */
static bool needs_tls(struct call *c)
{
    if (login_allowed(c->p))
        return false;
    wrong(c, c->p->starttls ? "STLS first: logins need TLS here" : "logins need TLS, which is not offered here");
    return true;
}

/* ---- logins ---- */

/* authcid of a PLAIN response, for the log. RFC4616:2 */
static struct span plain_user(struct span response)
{
    ptrdiff_t at = span_find(response, '\0');
    if (at < 0)
        return SPAN_NONE;
    struct span rest = span_from(response, (size_t)at + 1);
    ptrdiff_t end = span_find(rest, '\0');
    return end < 0 ? SPAN_NONE : span_sub(rest, 0, (size_t)end);
}

static void begin(struct call *c, bool has_initial)
{
    struct pop3_prelogin *p = c->p;
    *c->a = (struct login_action){.what = LOGIN_BEGIN,
                                  .mechanism = buf_span(&p->mechanism),
                                  .has_initial = has_initial,
                                  .initial = buf_span(&p->response),
                                  .user = buf_span(&p->user)};
}

static void do_user(struct call *c)
{
    if (needs_tls(c))
        return;
    if (c->args.n == 0) {
        wrong(c, "USER name");
        return;
    }
    buf_clear(&c->p->user);
    buf_add(&c->p->user, c->args);
    c->p->has_user = true;
    buf_adds(c->out, "+OK now PASS\r\n"); /* whoever it is: nobody learns here which accounts exist */
}

/* The whole rest of the line is the password, blanks too. RFC1939:7 */
static void do_pass(struct call *c)
{
    struct pop3_prelogin *p = c->p;
    if (needs_tls(c))
        return;
    if (!p->has_user || c->args.n == 0) {
        wrong(c, p->has_user ? "PASS password" : "USER first");
        return;
    }
    p->has_user = false;
    buf_clear(&p->mechanism);
    buf_adds(&p->mechanism, "PLAIN");
    buf_clear(&p->response);
    buf_addc(&p->response, '\0');
    buf_add(&p->response, buf_span(&p->user));
    buf_addc(&p->response, '\0');
    buf_add(&p->response, c->args);
    begin(c, true);
}

/* AUTH mechanism [initial-response], "=" for an empty one. RFC5034:4 */
static void do_auth(struct call *c)
{
    struct pop3_prelogin *p = c->p;
    struct span initial = c->args, name = span_cut(&initial, ' ');
    if (needs_tls(c))
        return;
    if (!sasl_offered(can(p), name)) {
        wrong(c, name.n ? "no such mechanism; CAPA lists them" : "AUTH mechanism");
        return;
    }
    buf_clear(&p->response);
    if (initial.n && !span_eqs(initial, "=") && base64_decode(initial, &p->response)) {
        wrong(c, "the initial response is not base64");
        return;
    }
    if (p->response.n > LOGIN_RESPONSE_MAX) {
        wrong(c, "the initial response is too long");
        return;
    }
    buf_clear(&p->mechanism);
    buf_add(&p->mechanism, name);
    buf_clear(&p->user);
    if (span_ieqs(name, "PLAIN"))
        buf_add(&p->user, plain_user(buf_span(&p->response)));
    p->has_user = false;
    begin(c, initial.n > 0);
}

/* The line that answers a challenge: base64, or "*" to give up. RFC5034:4 */
static void respond(struct call *c, struct span line)
{
    struct pop3_prelogin *p = c->p;
    p->challenged = false;
    buf_clear(&p->response);
    if (span_eqs(line, "*") || base64_decode(line, &p->response) || p->response.n > LOGIN_RESPONSE_MAX) {
        wrong(c, span_eqs(line, "*") ? "cancelled" : "that is not base64");
        if (c->a->what == LOGIN_NOTHING)
            c->a->what = LOGIN_CANCEL;
        return;
    }
    if (span_ieqs(buf_span(&p->mechanism), "PLAIN")) {
        buf_clear(&p->user);
        buf_add(&p->user, plain_user(buf_span(&p->response)));
    }
    *c->a = (struct login_action){.what = LOGIN_STEP,
                                  .has_initial = true,
                                  .initial = buf_span(&p->response),
                                  .user = buf_span(&p->user)};
}

/* ---- the other commands ---- */

static void do_capa(struct call *c)
{
    char names[SASL_OFFER_MAX];
    enum pop3_when when = login_allowed(c->p) ? POP3_BEFORE_LOGIN : POP3_NO_LOGIN_YET;
    pop3_put_capabilities(c->out, when, c->p->starttls && !c->p->tls, sasl_offer(can(c->p), names));
}

static void do_stls(struct call *c)
{
    if (c->args.n || c->p->tls || !c->p->starttls) {
        wrong(c, c->p->tls ? "TLS is active already" : c->args.n ? "STLS takes nothing" : "TLS is not offered here");
        return;
    }
    buf_adds(c->out, "+OK begin TLS\r\n");
    c->a->what = LOGIN_STARTTLS;
}

static void do_quit(struct call *c)
{
    buf_adds(c->out, "+OK bye\r\n");
    c->a->what = LOGIN_CLOSE;
}

static const struct {
    const char *keyword;
    void (*run)(struct call *c);
} commands[] = {
    {"CAPA", do_capa}, {"STLS", do_stls}, {"USER", do_user}, {"PASS", do_pass}, {"AUTH", do_auth}, {"QUIT", do_quit},
};

static void command(struct call *c, struct span line)
{
    struct pop3_command cmd = pop3_split(line);
    c->args = cmd.args;
    for (size_t i = 0; i < COUNT_OF(commands); i++)
        if (span_ieqs(cmd.keyword, commands[i].keyword)) {
            commands[i].run(c);
            return;
        }
    wrong(c, "not a command, or not before the login");
}

static bool is_auth(struct span in)
{
    return span_istarts(in, SPAN("AUTH "));
}

size_t pop3_prelogin_input(struct pop3_prelogin *p, struct span in, struct buf *out, struct login_action *a)
{
    struct call c = {.p = p, .out = out, .a = a};
    struct span line;
    size_t used, max = p->challenged || is_auth(in) ? POP3_AUTH_LINE_MAX : POP3_LINE_MAX;
    a->what = LOGIN_NOTHING;
    switch (pop3_take_line(&p->lines, in, max, &used, &line)) {
    case POP3_LINE_MORE:
        break;
    case POP3_LINE_LONG:
        wrong(&c, "the line is too long");
        if (p->challenged && a->what == LOGIN_NOTHING)
            a->what = LOGIN_CANCEL;
        p->challenged = false;
        break;
    case POP3_LINE_WHOLE:
        if (p->challenged)
            respond(&c, line);
        else if (!pop3_clean(line))
            wrong(&c, "control characters in a command");
        else
            command(&c, line);
        break;
    }
    return used;
}

/* ---- what the front tells ---- */

struct pop3_prelogin *pop3_prelogin_new(const struct pop3_prelogin_options *o, struct buf *out)
{
    struct pop3_prelogin *p = mem_alloc(sizeof *p);
    p->tls = o->tls;
    p->starttls = o->starttls;
    p->login_in_clear = o->login_in_clear;
    p->mechanisms = o->mechanisms;
    buf_printf(out, "+OK %.*s ready\r\n", SPANV(o->hostname)); /* no <timestamp>: APOP is not offered, RFC1939:7 */
    return p;
}

static void forget(struct pop3_prelogin *p)
{
    wipe(&p->user);
    wipe(&p->response);
    p->has_user = p->challenged = false;
}

void pop3_prelogin_free(struct pop3_prelogin **pp)
{
    struct pop3_prelogin *p = *pp;
    if (!p)
        return;
    forget(p);
    buf_free(&p->mechanism);
    mem_free(pp);
}

void pop3_prelogin_secured(struct pop3_prelogin *p, bool certified)
{
    p->mechanisms |= certified ? SASL_EXTERNAL : 0u;
    forget(p);
    p->lines = (struct pop3_lines){0};
    p->tls = true;
    p->errors = 0;
}

void pop3_prelogin_challenge(struct pop3_prelogin *p, struct span challenge, struct buf *out)
{
    p->challenged = true;
    buf_adds(out, "+ ");
    base64_encode(challenge, out);
    buf_adds(out, "\r\n");
}

void pop3_prelogin_refused(struct pop3_prelogin *p, enum login_refusal why, struct buf *out)
{
    forget(p);
    buf_adds(out, why == LOGIN_WRONG ? "-ERR [AUTH] name or password is wrong\r\n"
                                     : "-ERR [SYS/TEMP] can't log you in now, try again later\r\n");
}

void pop3_prelogin_bye(enum login_bye why, struct buf *out)
{
    static const char *const words[] = {[LOGIN_BYE_IDLE] = "[SYS/TEMP] no login came for too long",
                                        [LOGIN_BYE_STOPPING] = "[SYS/TEMP] the server is stopping",
                                        [LOGIN_BYE_FAILURES] = "[AUTH] too many failed logins",
                                        [LOGIN_BYE_FULL] = "[SYS/TEMP] too many connections, try again later",
                                        [LOGIN_BYE_GARBAGE] = "this is not POP3"};
    buf_printf(out, "-ERR %s\r\n", words[why]);
}
