#include "imap/prelogin.h"

#include "auth/mechanisms.h"
#include "base/arena.h"
#include "base/base64.h"
#include "base/mem.h"
#include "imap/capability.h"
#include "imap/collect.h"
#include "imap/lex.h"

#define ID_FIELDS_MAX 30 /* RFC2971:3.3 */

struct imap_prelogin {
    struct imap_prelogin_options o;
    struct imap_collect collect;
    struct arena arena; /* one command */
    struct buf tag;     /* of the login under way */
    struct buf response;
    bool in_sasl; /* the next line is a response, not a command */
    unsigned errors;
};

static bool may_login(const struct imap_prelogin *p)
{
    return p->o.tls || p->o.login_in_clear;
}

static void put_capabilities(const struct imap_prelogin *p, struct buf *out)
{
    char names[SASL_OFFER_MAX];
    imap_put_capabilities(out, may_login(p) ? IMAP_BEFORE_LOGIN : IMAP_BEFORE_TLS, p->o.starttls && !p->o.tls,
                          sasl_offer(p->o.mechanisms | (p->o.tls ? SASL_TLS : 0u), names));
}

struct imap_prelogin *imap_prelogin_new(const struct imap_prelogin_options *o, struct buf *out)
{
    struct imap_prelogin *p = mem_alloc(sizeof *p);
    p->o = *o;
    p->o.hostname = SPAN_NONE;
    imap_collect_init(&p->collect, IMAP_PRELOGIN_MAX);
    buf_adds(out, "* OK [CAPABILITY ");
    put_capabilities(p, out);
    buf_printf(out, "] %.*s ready\r\n", SPANV(o->hostname));
    return p;
}

static void wipe(struct buf *b)
{
    if (b->p)
        explicit_bzero(b->p, b->cap);
    buf_free(b);
}

void imap_prelogin_free(struct imap_prelogin **pp)
{
    struct imap_prelogin *p = *pp;
    if (!p)
        return;
    wipe(&p->collect.text);
    imap_collect_free(&p->collect);
    arena_free(&p->arena);
    buf_free(&p->tag);
    wipe(&p->response);
    mem_free(pp);
}

void imap_prelogin_secured(struct imap_prelogin *p, bool certified)
{
    p->o.tls = true;
    p->o.mechanisms |= certified ? SASL_EXTERNAL : 0u;
    p->in_sasl = false;
    imap_collect_free(&p->collect);
    imap_collect_init(&p->collect, IMAP_PRELOGIN_MAX);
}

struct span imap_prelogin_tag(const struct imap_prelogin *p)
{
    return buf_span(&p->tag);
}

/* ---- replies ---- */

static void reply(struct buf *out, struct span tag, const char *text)
{
    buf_add(out, tag);
    buf_addc(out, ' ');
    buf_adds(out, text);
    buf_adds(out, "\r\n");
}

void imap_prelogin_challenge(struct imap_prelogin *p, struct span challenge, struct buf *out)
{
    p->in_sasl = true;
    buf_adds(out, "+ ");
    base64_encode(challenge, out);
    buf_adds(out, "\r\n");
}

void imap_prelogin_refused(struct imap_prelogin *p, enum login_refusal why, struct buf *out)
{
    p->in_sasl = false;
    reply(out, buf_span(&p->tag), why == LOGIN_LATER ? "NO [UNAVAILABLE] can't check that now, try again later" /* RFC5530:3 */
                                                     : "NO [AUTHENTICATIONFAILED] not the right name and password");
}

void imap_prelogin_bye(enum login_bye why, struct buf *out)
{
    static const char *const texts[] = {[LOGIN_BYE_IDLE] = "no login came for too long",
                                        [LOGIN_BYE_STOPPING] = "[UNAVAILABLE] the server is stopping, come back soon",
                                        [LOGIN_BYE_FAILURES] = "too many failed logins",
                                        [LOGIN_BYE_FULL] = "[UNAVAILABLE] too many connections, try again later",
                                        [LOGIN_BYE_GARBAGE] = "too many wrong commands"};
    buf_printf(out, "* BYE %s\r\n", texts[why]);
}

/* ---- commands ---- */

struct command {
    struct imap_prelogin *p;
    struct span tag;
    struct lex x; /* the arguments */
    struct buf *out;
    struct login_action *a;
};

static bool no_more(struct command *c)
{
    if (lex_end(&c->x))
        return true;
    reply(c->out, c->tag, "BAD no arguments, please");
    c->p->errors++;
    return false;
}

static void cmd_capability(struct command *c)
{
    if (!no_more(c))
        return;
    buf_adds(c->out, "* CAPABILITY ");
    put_capabilities(c->p, c->out);
    buf_adds(c->out, "\r\n");
    reply(c->out, c->tag, "OK that is all");
}

static void cmd_noop(struct command *c)
{
    if (no_more(c))
        reply(c->out, c->tag, "OK done");
}

static void cmd_logout(struct command *c)
{
    if (!no_more(c))
        return;
    buf_adds(c->out, "* BYE see you\r\n");
    reply(c->out, c->tag, "OK done");
    c->a->what = LOGIN_CLOSE;
}

/* RFC2971:3.1: NIL, or a list of pairs; what the client says of itself is of no use here. */
static bool id_arguments(struct lex *x)
{
    struct span s;
    if (!lex_sp(x))
        return false;
    if (lex_word(x, "NIL"))
        return lex_end(x);
    if (!lex_char(x, '('))
        return false;
    for (unsigned n = 0; !lex_char(x, ')'); n++)
        if (n >= ID_FIELDS_MAX || (n && !lex_sp(x)) || !lex_string(x, &s) || !lex_sp(x) || !lex_nstring(x, &s))
            return false;
    return lex_end(x);
}

static void cmd_id(struct command *c)
{
    if (!id_arguments(&c->x)) {
        reply(c->out, c->tag, "BAD ID takes NIL or a list of pairs");
        c->p->errors++;
        return;
    }
    buf_adds(c->out, "* ID (\"name\" \"Waypost\")\r\n");
    reply(c->out, c->tag, "OK done");
}

static void cmd_starttls(struct command *c)
{
    if (!no_more(c))
        return;
    if (!c->p->o.starttls || c->p->o.tls) {
        reply(c->out, c->tag, c->p->o.tls ? "BAD TLS is on already" : "BAD no TLS here");
        c->p->errors++;
        return;
    }
    reply(c->out, c->tag, "OK begin TLS now");
    c->a->what = LOGIN_STARTTLS;
}

static bool login_allowed(struct command *c)
{
    if (may_login(c->p))
        return true;
    reply(c->out, c->tag, "NO [PRIVACYREQUIRED] STARTTLS first"); /* RFC5530:3, HAZARDS 4 */
    return false;
}

static void begin(struct command *c, struct span mechanism, bool has_initial)
{
    struct imap_prelogin *p = c->p;
    buf_clear(&p->tag);
    buf_add(&p->tag, c->tag);
    *c->a = (struct login_action){.what = LOGIN_BEGIN, .mechanism = mechanism, .has_initial = has_initial, .initial = buf_span(&p->response)};
}

/* LOGIN is PLAIN in other clothes: RFC3501:6.2.3, RFC4616:2. A name or password with a NUL could be taken for another pair. */
static void cmd_login(struct command *c)
{
    struct span user, password;
    if (!lex_sp(&c->x) || !lex_astring(&c->x, &user) || !lex_sp(&c->x) || !lex_astring(&c->x, &password) || !lex_end(&c->x) ||
        span_find(user, '\0') >= 0 || span_find(password, '\0') >= 0) {
        reply(c->out, c->tag, "BAD LOGIN takes a name and a password");
        c->p->errors++;
        return;
    }
    if (!login_allowed(c))
        return;
    struct buf *r = &c->p->response;
    buf_addc(r, '\0');
    buf_add(r, user);
    buf_addc(r, '\0');
    buf_add(r, password);
    begin(c, SPAN("PLAIN"), true);
    c->a->user = user;
}

static void cmd_authenticate(struct command *c)
{
    struct span mechanism;
    bool initial = false, good = lex_sp(&c->x) && lex_atom(&c->x, &mechanism) && mechanism.n <= 32;
    if (good && !lex_end(&c->x)) { /* RFC4959:3: "=" is an empty initial response */
        initial = good = lex_sp(&c->x);
        good = good && c->x.rest.n && (span_eq(c->x.rest, SPAN("=")) || base64_decode(c->x.rest, &c->p->response) == 0);
    }
    if (!good || c->p->response.n > LOGIN_RESPONSE_MAX) {
        reply(c->out, c->tag, "BAD AUTHENTICATE takes a mechanism and perhaps a response in base64");
        c->p->errors++;
    } else if (login_allowed(c)) {
        begin(c, mechanism, initial);
    }
}

static const struct {
    const char *name;
    void (*run)(struct command *c);
} commands[] = {
    {"CAPABILITY", cmd_capability}, {"NOOP", cmd_noop},   {"LOGOUT", cmd_logout},           {"ID", cmd_id},
    {"STARTTLS", cmd_starttls},     {"LOGIN", cmd_login}, {"AUTHENTICATE", cmd_authenticate},
};

static void run_command(struct imap_prelogin *p, struct span text, struct buf *out, struct login_action *a)
{
    struct command c = {.p = p, .x = {text, &p->arena}, .out = out, .a = a};
    struct span name;
    if (!lex_tag(&c.x, &c.tag) || !lex_sp(&c.x) || !lex_atom(&c.x, &name)) {
        buf_adds(out, "* BAD that is not a command\r\n");
        p->errors++;
        return;
    }
    for (size_t i = 0; i < COUNT_OF(commands); i++)
        if (span_ieqs(name, commands[i].name)) {
            commands[i].run(&c);
            return;
        }
    p->errors++;
    reply(out, c.tag, "BAD not a command, or not before login");
}

/* RFC3501:6.2.2: a response in base64, or "*" to give up. */
static void run_response(struct imap_prelogin *p, struct span text, struct buf *out, struct login_action *a)
{
    p->in_sasl = false;
    if (span_eq(text, SPAN("*"))) {
        reply(out, buf_span(&p->tag), "BAD given up, as you wish");
        a->what = LOGIN_CANCEL;
    } else if (base64_decode(text, &p->response) || p->response.n > LOGIN_RESPONSE_MAX) {
        reply(out, buf_span(&p->tag), "BAD that is not base64");
        p->errors++;
        a->what = LOGIN_CANCEL;
    } else {
        *a = (struct login_action){.what = LOGIN_STEP, .has_initial = true, .initial = buf_span(&p->response)};
    }
}

static void too_long(struct imap_prelogin *p, struct buf *out)
{
    struct lex x = {imap_collect_text(&p->collect), &p->arena};
    struct span tag;
    if (lex_tag(&x, &tag) && tag.n <= 64 && lex_sp(&x))
        reply(out, tag, "BAD too long");
    else
        buf_adds(out, "* BAD too long\r\n");
    p->errors++;
}

static void take_literal(struct imap_prelogin *p, struct buf *out)
{
    bool sync = p->collect.sync;
    if (imap_collect_accept(&p->collect) && sync)
        buf_adds(out, "+ go on\r\n");
}

size_t imap_prelogin_input(struct imap_prelogin *p, struct span in, struct buf *out, struct login_action *a)
{
    size_t before = in.n;
    arena_reset(&p->arena);
    wipe(&p->response);
    enum imap_collected got;
    while ((got = imap_collect_feed(&p->collect, &in)) == IMAP_LITERAL)
        take_literal(p, out);
    if (got == IMAP_MORE)
        return before - in.n;
    struct span text = imap_collect_text(&p->collect);
    if (got == IMAP_COMMAND && p->in_sasl)
        run_response(p, text, out, a);
    else if (got == IMAP_COMMAND)
        run_command(p, text, out, a);
    else
        too_long(p, out);
    /* what the action points to is in the arena or in p->response: the collector's text is wiped */
    if (a->mechanism.n)
        a->mechanism = arena_dup(&p->arena, a->mechanism);
    if (a->user.n)
        a->user = arena_dup(&p->arena, a->user);
    if (p->collect.text.p)
        explicit_bzero(p->collect.text.p, p->collect.text.n);
    imap_collect_next(&p->collect);
    if (p->errors >= IMAP_PRELOGIN_ERRORS && a->what == LOGIN_NOTHING) {
        imap_prelogin_bye(LOGIN_BYE_GARBAGE, out);
        a->what = LOGIN_CLOSE;
    }
    return before - in.n;
}
