/* A server session: its life, its states, the way from bytes to commands, and the answers of its owner. See
 * smtp/server.h. */
#include "smtp/server.h"

#include "base/mem.h"
#include "smtp/server_impl.h"

#define KEEP_RCPTS 64 /* slots and bytes that a reused session keeps */
#define KEEP_BYTES (16u << 10)
#define IN_FLIGHT_MAX 64 /* recipients being asked about at once */

static const struct sm_state states[S_COUNT] = {
    [S_CONNECT] = {"connect", SM_TO(S_HELLO) | SM_TO(S_CLOSED)},
    [S_HELLO] = {"hello", SM_TO(S_CONNECT) | SM_TO(S_ASK) | SM_TO(S_READY) | SM_TO(S_CHUNK) | SM_TO(S_CLOSED)},
    [S_READY] = {"ready", SM_TO(S_CONNECT) | SM_TO(S_ASK) | SM_TO(S_READY) | SM_TO(S_SENDER) | SM_TO(S_MAIL) | SM_TO(S_LOGIN) | SM_TO(S_TLS) |
                              SM_TO(S_CHUNK) | SM_TO(S_CLOSED)},
    [S_SENDER] = {"sender", SM_TO(S_MAIL) | SM_TO(S_READY) | SM_TO(S_CLOSED)},
    [S_MAIL] = {"mail", SM_TO(S_ASK) | SM_TO(S_READY) | SM_TO(S_DATA) | SM_TO(S_CHUNK) | SM_TO(S_CLOSED)},
    [S_ASK] = {"ask", SM_TO(S_HELLO) | SM_TO(S_READY) | SM_TO(S_MAIL) | SM_TO(S_CHUNKS) | SM_TO(S_CLOSED)},
    [S_LOGIN] = {"login", SM_TO(S_LOGIN_LINE) | SM_TO(S_READY) | SM_TO(S_CLOSED)},
    [S_LOGIN_LINE] = {"login-line", SM_TO(S_LOGIN) | SM_TO(S_READY) | SM_TO(S_CLOSED)},
    [S_TLS] = {"tls", SM_TO(S_HELLO) | SM_TO(S_CLOSED)},
    [S_DATA] = {"data", SM_TO(S_ROOM) | SM_TO(S_COMMIT) | SM_TO(S_READY) | SM_TO(S_CLOSED)},
    [S_CHUNK] = {"chunk", SM_TO(S_HELLO) | SM_TO(S_READY) | SM_TO(S_MAIL) | SM_TO(S_CHUNKS) | SM_TO(S_ROOM) |
                              SM_TO(S_COMMIT) | SM_TO(S_CLOSED)},
    [S_CHUNKS] = {"chunks", SM_TO(S_ASK) | SM_TO(S_CHUNK) | SM_TO(S_READY) | SM_TO(S_CLOSED)},
    [S_ROOM] = {"room", SM_TO(S_DATA) | SM_TO(S_CHUNK) | SM_TO(S_CLOSED)},
    [S_COMMIT] = {"commit", SM_TO(S_READY) | SM_TO(S_CLOSED)},
    [S_CLOSED] = {"closed", SM_TO(S_CLOSED)},
};

void smtp_server_move(struct smtp_server *s, enum smtp_state next)
{
    sm_move(states, COUNT_OF(states), &s->state, next);
}

const char *smtp_server_state(const struct smtp_server *s)
{
    return states[s->state].name;
}

void smtp_server_want(struct smtp_server *s, enum smtp_want want)
{
    s->todo |= UINT32_C(1) << want;
}

/* ---- life ---- */

struct smtp_server *smtp_server_new(void)
{
    struct smtp_server *s = mem_alloc(sizeof *s);
    s->state = S_CLOSED;
    return s;
}

static void keep_or_free(struct buf *b)
{
    if (b->cap > KEEP_BYTES)
        buf_free(b);
    else
        buf_clear(b);
}

void smtp_server_open(struct smtp_server *s, const struct smtp_server_config *config,
                      const struct smtp_server_door *door, bool tls)
{
    struct smtp_server fresh = {.config = config, .door = door, .state = S_CONNECT, .tls = tls};
    smtp_server_forget(s);
    struct buf *kept[] = {&s->out, &s->content, &s->helo, &s->login, &s->scratch, &s->note, &s->told_helo, &s->held_text};
    for (size_t i = 0; i < COUNT_OF(kept); i++)
        keep_or_free(kept[i]);
    if (s->rcpt_cap > KEEP_RCPTS) {
        mem_free(&s->txn.rcpts);
        s->rcpt_cap = 0;
    }
    fresh.out = s->out;
    fresh.content = s->content;
    fresh.helo = s->helo;
    fresh.login = s->login;
    fresh.scratch = s->scratch;
    fresh.note = s->note;
    fresh.told_helo = s->told_helo;
    fresh.held_text = s->held_text;
    fresh.arena = s->arena;
    fresh.txn.rcpts = s->txn.rcpts;
    fresh.rcpt_cap = s->rcpt_cap;
    *s = fresh;
}

void smtp_server_free(struct smtp_server **sp)
{
    struct smtp_server *s = *sp;
    if (!s)
        return;
    struct buf *all[] = {&s->out, &s->content, &s->helo, &s->login, &s->scratch, &s->note, &s->told_helo, &s->held_text};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        buf_free(all[i]);
    arena_free(&s->arena);
    mem_free(&s->txn.rcpts);
    mem_free(sp);
}

void smtp_server_forget(struct smtp_server *s)
{
    if (s->spooling)
        smtp_server_want(s, SMTP_WANT_ABORT);
    s->spooling = s->turned_away = s->txn.data.limits.chunked = false;
    arena_reset(&s->arena);
    keep_or_free(&s->content);
    s->txn.sender = SPAN_NONE;
    s->txn.body_8bit = s->txn.binary = s->txn.smtputf8 = false;
    s->txn.ret = 0;
    s->txn.envid = SPAN_NONE;
    s->txn.declared = 0;
    s->txn.requiretls = s->txn.lowered = false;
    s->txn.by_mode = 0;
    s->txn.priority = 0;
    s->txn.terminal = SMTP_MAIL;
    s->txn.deliver_by = s->txn.hold_until = 0;
    s->txn.hold = SPAN_NONE;
    s->txn.has_token = s->txn.excess = false;
    s->txn.rcpt_count = s->txn.welcome = s->waiting = s->next_reply = 0;
}

void smtp_server_forget_login(struct smtp_server *s)
{
    if (s->login.n || s->state == S_LOGIN || s->state == S_LOGIN_LINE)
        smtp_server_want(s, SMTP_WANT_LOGIN_FORGET);
    buf_clear(&s->login);
}

/* ---- replies ---- */

void smtp_server_say(struct smtp_server *s, unsigned code, const char *status, const char *text)
{
    smtp_reply_put(&s->out, code, status, span_of(text));
}

void smtp_server_note(struct smtp_server *s, struct span reply)
{
    struct span verb = span_sub(s->verb, 0, sizeof s->note_verb);
    memset(s->note_verb, 0, sizeof s->note_verb);
    memcpy(s->note_verb, verb.n ? verb.p : "", verb.n);
    s->note_about = SPAN_NONE;
    buf_clear(&s->note);
    buf_add(&s->note, span_trim(reply));
    smtp_server_want(s, SMTP_WANT_NOTE);
}

void smtp_server_end(struct smtp_server *s, unsigned code, const char *status, const char *text)
{
    size_t start = s->out.n;
    smtp_reply_put(&s->out, code, status, span_of(text));
    smtp_server_note(s, span_from(buf_span(&s->out), start));
    smtp_server_move(s, S_CLOSED);
    smtp_server_want(s, SMTP_WANT_CLOSE);
}

void smtp_server_count_error(struct smtp_server *s)
{
    if (++s->errors > s->config->max_errors && s->state != S_CLOSED)
        smtp_server_end(s, 421, "4.7.0", "Too many errors, closing the connection");
}

void smtp_server_count_idle(struct smtp_server *s)
{
    if (s->idle < SMTP_IDLE_MAX)
        s->idle++;
    else
        smtp_server_count_error(s);
}

void smtp_server_refuse(struct smtp_server *s, unsigned code, const char *status, const char *text)
{
    if (++s->errors > s->config->max_errors) {
        smtp_server_end(s, 421, "4.7.0", "Too many errors, closing the connection");
        return;
    }
    size_t start = s->out.n;
    smtp_reply_put(&s->out, code, status, span_of(text));
    smtp_server_note(s, span_from(buf_span(&s->out), start));
}

struct buf *smtp_server_output(struct smtp_server *s)
{
    return &s->out;
}

void smtp_server_greet(struct smtp_server *s)
{
    if (s->state != S_CONNECT)
        return;
    buf_add(&s->out, SPAN("220 "));
    buf_add(&s->out, s->config->hostname);
    buf_add(&s->out, SPAN(" ESMTP Waypost\r\n"));
    smtp_server_move(s, S_HELLO);
}

void smtp_server_turn_away(struct smtp_server *s, unsigned code, const char *status, const char *text)
{
    if (s->state == S_CONNECT)
        smtp_server_end(s, code, status, text);
}

/* ---- from bytes to commands ---- */

static uint32_t line_limit(const struct smtp_server *s, struct span in)
{
    bool login = s->state == S_LOGIN_LINE || (s->config->submission && span_istarts(in, SPAN("AUTH ")));
    return login ? MAX_OF(SMTP_AUTH_LINE_MAX, s->config->max_command_line) : s->config->max_command_line;
}

/* Something stands behind a line of a login, in whatever form that is. */
static bool login_is_blind(struct smtp_server *s)
{
    if (s->state != S_LOGIN_LINE || !s->more_behind)
        return false;
    smtp_server_forget_login(s);
    smtp_server_end(s, 503, "5.5.1", SMTP_AUTH_LAST);
    return true;
}

/* RFC5321:4.5.3.1.9, RFC4954:4 for the lines of a login. */
static void line_too_long(struct smtp_server *s)
{
    s->verb = SPAN("");
    if (login_is_blind(s))
        return;
    if (s->state == S_LOGIN_LINE) {
        smtp_server_forget_login(s);
        smtp_server_move(s, S_READY);
        smtp_server_refuse(s, 500, "5.5.6", "Line too long");
        return;
    }
    smtp_server_refuse(s, 500, "5.5.2", "Line too long");
}

/* Commands end with CRLF and hold neither another CR nor any control character (RFC5321:2.3.8, HAZARDS 2). */
static bool line_clean(struct span line)
{
    return line.n && line.p[line.n - 1] == '\r' && !span_has_control(span_sub(line, 0, line.n - 1));
}

static void handle_line(struct smtp_server *s, struct span line)
{
    s->verb = SPAN("");
    if (login_is_blind(s))
        return;
    if (!line_clean(line)) {
        if (s->state == S_LOGIN_LINE) {
            smtp_server_forget_login(s);
            smtp_server_move(s, S_READY);
        }
        smtp_server_refuse(s, 500, "5.5.2", "A line ends with CRLF and holds no control characters");
        return;
    }
    line.n--;
    if (s->state == S_LOGIN_LINE)
        smtp_server_login_line(s, line);
    else
        smtp_server_command(s, line);
}

/* While recipients are being asked about only further ones are looked at, so that replies keep their order. */
static bool must_wait(const struct smtp_server *s, struct span in)
{
    return s->waiting && (s->waiting >= IN_FLIGHT_MAX || smtp_server_is_full(s) || !span_istarts(in, SPAN("RCPT ")));
}

/* The rest of a line that was too long. */
static bool skip_line(struct smtp_server *s, struct span in, size_t *used)
{
    const char *lf = in.n ? memchr(in.p, '\n', in.n) : NULL;
    *used = lf ? (size_t)(lf + 1 - in.p) : in.n;
    if (lf) {
        s->skipping = false;
        s->more_behind = *used < in.n;
        line_too_long(s);
    }
    return *used > 0;
}

static bool take_line(struct smtp_server *s, struct span in, size_t *used)
{
    if (in.n == 0 || must_wait(s, in))
        return false;
    if (s->skipping)
        return skip_line(s, in, used);
    uint32_t limit = line_limit(s, in);
    const char *lf = memchr(in.p, '\n', in.n);
    size_t n = lf ? (size_t)(lf + 1 - in.p) : in.n;
    if (n > limit) {
        s->skipping = true;
        return skip_line(s, in, used);
    }
    if (!lf)
        return false;
    *used = n;
    s->more_behind = n < in.n;
    handle_line(s, span_sub(in, 0, n - 1));
    return true;
}

/* One step: true when something was done. */
static bool step(struct smtp_server *s, struct span in, size_t *used)
{
    switch ((enum smtp_state)s->state) {
    case S_CONNECT:
        if (in.n == 0)
            return false;
        s->verb = SPAN("");
        smtp_server_end(s, 554, "5.5.1", "You spoke before the greeting");
        return true;
    case S_CLOSED: *used = in.n; return false;
    case S_DATA: return in.n && smtp_server_read_content(s, in, used);
    case S_CHUNK: return (in.n || s->chunk.left == 0) && smtp_server_read_chunk(s, in, used);
    case S_HELLO:
    case S_READY:
    case S_MAIL:
    case S_CHUNKS:
    case S_LOGIN_LINE: return take_line(s, in, used);
    default: return false;
    }
}

/* What the owner is to do next, if anything. */
static enum smtp_want take_todo(struct smtp_server *s, struct smtp_request *request)
{
    enum smtp_want want = (enum smtp_want)__builtin_ctz(s->todo);
    s->todo &= s->todo - 1;
    *request = s->ask;
    if (want == SMTP_WANT_NOTE) {
        request->address = span_make(s->note_verb, strnlen(s->note_verb, sizeof s->note_verb));
        request->data = buf_span(&s->note);
        request->about = s->note_about;
    }
    return want;
}

enum smtp_want smtp_server_run(struct smtp_server *s, struct span in, size_t *used, struct smtp_request *request)
{
    *used = 0;
    for (;;) {
        if (s->todo)
            return take_todo(s, request);
        size_t n = 0;
        bool done = step(s, span_from(in, *used), &n);
        *used += n;
        if (!done && !s->todo)
            return SMTP_WANT_INPUT;
    }
}

/* ---- the owner's answers and decisions ---- */

void smtp_server_tls_up(struct smtp_server *s)
{
    if (s->state != S_TLS)
        return;
    /* RFC3207:4.2: nothing learned before TLS is known behind it (HAZARDS 3). */
    smtp_server_forget(s);
    smtp_server_forget_login(s);
    buf_clear(&s->helo);
    s->esmtp = false;
    s->tls = true;
    smtp_server_move(s, S_HELLO);
}

void smtp_server_shut(struct smtp_server *s, const char *status, const char *text)
{
    if (s->state == S_CLOSED)
        return;
    s->verb = SPAN("");
    smtp_server_end(s, 421, status, text);
}

void smtp_server_timed_out(struct smtp_server *s)
{
    smtp_server_shut(s, "4.4.2", "Nothing came for too long, closing the connection");
}

void smtp_server_drain(struct smtp_server *s)
{
    s->leaving = true;
    if (s->state == S_CONNECT || s->state == S_HELLO || s->state == S_READY || s->state == S_LOGIN_LINE)
        smtp_server_shut(s, "4.3.2", "The service is going down, try again in a moment");
}

/* ---- looking inside ---- */

const struct smtp_transaction *smtp_server_transaction(const struct smtp_server *s)
{
    static const unsigned within =
        1u << S_MAIL | 1u << S_SENDER | 1u << S_DATA | 1u << S_CHUNK | 1u << S_CHUNKS | 1u << S_ROOM | 1u << S_COMMIT;
    return within & 1u << (s->state == S_ASK ? s->ask_back : s->state) ? &s->txn : NULL;
}

size_t smtp_server_held(const struct smtp_server *s)
{
    return s->arena.total + s->rcpt_cap * sizeof *s->txn.rcpts + s->content.cap + s->out.cap;
}

const struct buf *smtp_server_content(const struct smtp_server *s)
{
    return &s->content;
}

struct span smtp_server_helo(const struct smtp_server *s)
{
    return buf_span(s->told_helo.n ? &s->told_helo : &s->helo);
}

bool smtp_server_is_esmtp(const struct smtp_server *s)
{
    return s->told_proto ? s->told_proto == 2 : s->esmtp;
}

struct span smtp_server_login_name(const struct smtp_server *s)
{
    return buf_span(&s->login);
}

void smtp_server_faults(const struct smtp_server *s, unsigned *errors, unsigned *refused)
{
    *errors = s->errors;
    *refused = s->refused;
}

void smtp_server_pardon(struct smtp_server *s)
{
    s->errors = s->refused = 0;
}

bool smtp_server_between(const struct smtp_server *s)
{
    static const unsigned quiet = 1u << S_HELLO | 1u << S_READY | 1u << S_SENDER | 1u << S_MAIL | 1u << S_LOGIN_LINE;
    return quiet >> s->state & 1;
}

bool smtp_server_blocked(const struct smtp_server *s)
{
    return s->waiting || s->state == S_CONNECT || s->state == S_SENDER || s->state == S_ASK ||
           s->state == S_LOGIN || s->state == S_TLS ||
           s->state == S_ROOM || s->state == S_COMMIT;
}

bool smtp_server_in_content(const struct smtp_server *s)
{
    return s->state == S_DATA || s->state == S_CHUNK || s->state == S_ROOM;
}
