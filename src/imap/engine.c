/* The session: bytes to commands, one at a time, and the replies. See engine.h. */
#include "imap/engine.h"

#include "base/mem.h"
#include "imap/capability.h"
#include "imap/impl.h"
#include "mail/nstring.h"

/* ---- writing ---- */

void imap_text(struct imap *s, const char *text)
{
    buf_adds(&s->out, text);
}

void imap_number(struct imap *s, uint64_t n)
{
    char digits[24];
    size_t at = sizeof digits;
    do
        digits[--at] = (char)('0' + n % 10);
    while (n /= 10);
    buf_add(&s->out, span_make(digits + at, sizeof digits - at));
}

static void end_command(struct imap *s)
{
    s->work = NULL;
    s->uid = s->keep_numbers = s->idling = false;
    s->tag_n = 0;
    fetch_free(s);
    search_free(s);
    append_free(s);
    arena_reset(&s->arena);
    imap_collect_next(&s->collect);
}

/* `text` is our own, never the client's or a message's. */
static void reply(struct imap *s, const char *kind, const char *text)
{
    view_tell(s);
    if (s->tag_n)
        buf_add(&s->out, span_make(s->tag, s->tag_n));
    else
        imap_text(s, "*");
    imap_text(s, kind);
    imap_text(s, text);
    imap_text(s, "\r\n");
    end_command(s);
}

void imap_ok(struct imap *s, const char *text)
{
    s->errors = 0;
    reply(s, " OK ", text);
}

void imap_no(struct imap *s, const char *text)
{
    s->errors = 0;
    reply(s, " NO ", text);
}

void imap_bad(struct imap *s, const char *text)
{
    reply(s, " BAD ", text);
    if (++s->errors >= IMAP_ERRORS_MAX)
        imap_bye(s, "Too many commands that can't be understood");
}

/* RFC5530:3 */
void imap_no_code(struct imap *s, int code, const char *missing)
{
    switch (code) {
    case IMAP_FULL: imap_no(s, "[OVERQUOTA] No room left"); return;
    case IMAP_NO_SUCH: imap_no(s, missing); return;
    case IMAP_EXISTS: imap_no(s, "[ALREADYEXISTS] There is a mailbox of that name"); return;
    case IMAP_BAD_NAME: imap_no(s, "[CANNOT] That is not a name for a mailbox"); return;
    case IMAP_LIMIT: imap_no(s, "[LIMIT] That is more than this server keeps"); return;
    case IMAP_NOT_ALLOWED: imap_no(s, "[CANNOT] That can't be done with this mailbox"); return;
    default:
        s->b->trouble(s->ctx, &s->err);
        imap_no(s, "[UNAVAILABLE] The mailbox can't be used right now");
        return;
    }
}

void imap_bye(struct imap *s, const char *why)
{
    if (s->over)
        return;
    imap_text(s, "* BYE ");
    imap_text(s, why);
    imap_text(s, "\r\n");
    s->over = true;
}

/* ---- small commands ---- */

static void cmd_capability(struct imap *s, struct lex *x)
{
    (void)x;
    imap_text(s, "* CAPABILITY ");
    imap_put_capabilities(&s->out, IMAP_AFTER_LOGIN, false, SPAN_NONE);
    imap_text(s, "\r\n");
    imap_ok(s, "Done");
}

static void cmd_noop(struct imap *s, struct lex *x)
{
    (void)x;
    imap_ok(s, "Done");
}

static void cmd_logout(struct imap *s, struct lex *x)
{
    (void)x;
    imap_text(s, "* BYE Until next time\r\n");
    imap_ok(s, "Logged out"); /* RFC3501:6.1.3: BYE comes first */
    s->over = true;
}

/* RFC2177:3 */
static void cmd_idle(struct imap *s, struct lex *x)
{
    (void)x;
    view_tell(s);
    imap_text(s, "+ Waiting\r\n");
    s->idling = true;
    imap_collect_next(&s->collect);
    structure_free(s); /* it may take long: what can be got again is given back */
    arena_free(&s->arena);
}

static void end_idle(struct imap *s)
{
    if (span_ieqs(imap_collect_text(&s->collect), "DONE"))
        imap_ok(s, "Done");
    else
        imap_bad(s, "DONE was expected");
}

/* ---- commands ---- */

enum {
    SELECTED = 1,     /* only with a mailbox selected */
    WITH_UID = 2,     /* also as UID X */
    KEEP_NUMBERS = 4, /* RFC3501:7.4.1: no EXPUNGE while it runs, unless it came as UID X */
    ALONE = 8,        /* no arguments */
};

static const struct command {
    const char *name;
    unsigned how;
    command_fn *run;
} commands[] = {
    {"CAPABILITY", ALONE, cmd_capability},
    {"NOOP", ALONE, cmd_noop},
    {"LOGOUT", ALONE, cmd_logout},
    {"ID", 0, cmd_id},
    {"NAMESPACE", ALONE, cmd_namespace},
    {"SELECT", 0, cmd_select},
    {"EXAMINE", 0, cmd_examine},
    {"CREATE", 0, cmd_create},
    {"DELETE", 0, cmd_delete},
    {"RENAME", 0, cmd_rename},
    {"SUBSCRIBE", 0, cmd_subscribe},
    {"UNSUBSCRIBE", 0, cmd_unsubscribe},
    {"LIST", 0, cmd_list},
    {"LSUB", 0, cmd_lsub},
    {"STATUS", 0, cmd_status},
    {"APPEND", 0, cmd_append},
    {"IDLE", ALONE, cmd_idle},
    {"CHECK", SELECTED | ALONE, cmd_noop},
    {"CLOSE", SELECTED | ALONE, cmd_close},
    {"UNSELECT", SELECTED | ALONE, cmd_unselect},
    {"EXPUNGE", SELECTED | WITH_UID, cmd_expunge},
    {"SEARCH", SELECTED | WITH_UID | KEEP_NUMBERS, cmd_search},
    {"FETCH", SELECTED | WITH_UID | KEEP_NUMBERS, cmd_fetch},
    {"STORE", SELECTED | WITH_UID | KEEP_NUMBERS, cmd_store},
    {"COPY", SELECTED | WITH_UID, cmd_copy},
    {"MOVE", SELECTED | WITH_UID, cmd_move},
};

static const struct command *find_command(struct span name)
{
    for (size_t i = 0; i < COUNT_OF(commands); i++)
        if (span_ieqs(name, commands[i].name))
            return &commands[i];
    return NULL;
}

static bool take_tag(struct imap *s, struct lex *x)
{
    struct span tag;
    s->tag_n = 0;
    if (!lex_tag(x, &tag) || tag.n > IMAP_TAG_MAX)
        return false;
    memcpy(s->tag, tag.p, tag.n);
    s->tag_n = tag.n;
    return true;
}

static void run_command(struct imap *s)
{
    struct lex x = {.rest = imap_collect_text(&s->collect), .arena = &s->arena};
    struct span name;
    if (!take_tag(s, &x)) {
        imap_bad(s, "A command begins with a tag");
        return;
    }
    if (!lex_sp(&x) || !lex_atom(&x, &name)) {
        imap_bad(s, "No command");
        return;
    }
    s->uid = span_ieqs(name, "UID");
    if (s->uid && (!lex_sp(&x) || !lex_atom(&x, &name))) {
        imap_bad(s, "UID of what?");
        return;
    }
    const struct command *c = find_command(name);
    s->keep_numbers = c && (c->how & KEEP_NUMBERS) && !s->uid;
    if (!c || (s->uid && !(c->how & WITH_UID)))
        imap_bad(s, "Unknown command");
    else if ((c->how & SELECTED) && !s->view.selected)
        imap_bad(s, "No mailbox is selected");
    else if ((c->how & ALONE) && !lex_end(&x))
        imap_bad(s, "This command takes no arguments");
    else
        c->run(s, &x);
}

/* The beginning of a command that wasn't taken in whole: its tag is all that counts. */
static void unreadable(struct imap *s, const char *why)
{
    struct lex x = {.rest = imap_collect_text(&s->collect), .arena = &s->arena};
    if (!s->idling && (!take_tag(s, &x) || !lex_sp(&x)))
        s->tag_n = 0;
    imap_bad(s, why);
}

static void announced(struct imap *s)
{
    enum append_literal what = s->idling ? APPEND_REFUSED : append_announced(s);
    bool wanted = what != APPEND_REFUSED;
    if (what == APPEND_MESSAGE)
        imap_collect_stream(&s->collect);
    else if (what == APPEND_ARGUMENT)
        wanted = imap_collect_accept(&s->collect);
    else
        imap_collect_refuse(&s->collect);
    if (wanted && s->collect.sync)
        imap_text(s, "+ Go ahead\r\n");
}

/* One step with the input. False: more of it is needed. */
static bool take_input(struct imap *s, struct span *in)
{
    switch (imap_collect_feed(&s->collect, in)) {
    case IMAP_MORE: return false;
    case IMAP_LITERAL: announced(s); return true;
    case IMAP_COMMAND:
        if (s->idling)
            end_idle(s);
        else
            run_command(s);
        return true;
    case IMAP_TOO_LONG: unreadable(s, "Command too long"); return true;
    case IMAP_REFUSED:
        if (s->append)
            cmd_append(s, NULL);
        else
            unreadable(s, "Literal too long, or out of place");
        return true;
    }
    return false;
}

bool imap_unsettled(const struct imap *s)
{
    return s->unsynced && s->out.n > 0;
}

/* What the output promises must be on disk before it leaves. */
enum imap_want imap_settle(struct imap *s, enum imap_want want)
{
    if (!imap_unsettled(s))
        return want;
    s->unsynced = false;
    if (s->b->sync(s->ctx, &s->err) == IMAP_DONE)
        return want;
    s->b->trouble(s->ctx, &s->err);
    buf_clear(&s->out);
    s->over = false;
    imap_bye(s, "[UNAVAILABLE] The disk failed: what was asked last may not have been done");
    return IMAP_OVER;
}

enum imap_want imap_run(struct imap *s, struct span *in)
{
    if (s->idling)
        view_tell(s);
    while (!s->over) {
        if (s->out.n >= IMAP_OUT_HIGH)
            return IMAP_ROOM;
        if (s->work) {
            if (!s->work(s) && s->out.n < IMAP_OUT_HIGH)
                return IMAP_TURN;
        } else if (append_streaming(s)) {
            if (!append_take(s, in))
                return IMAP_INPUT;
        } else if (!take_input(s, in)) {
            return IMAP_INPUT;
        }
    }
    return IMAP_OVER;
}

struct buf *imap_output(struct imap *s)
{
    return &s->out;
}

struct imap *imap_new(const struct imap_setup *o)
{
    struct imap *s = mem_alloc(sizeof *s);
    s->b = o->backend;
    s->ctx = o->ctx;
    s->message_max = o->message_max;
    imap_collect_init(&s->collect, IMAP_COMMAND_MAX);
    if (o->tag.n <= IMAP_TAG_MAX) {
        memcpy(s->tag, o->tag.p, o->tag.n);
        s->tag_n = o->tag.n;
    }
    buf_add(&s->out, span_make(s->tag, s->tag_n));
    imap_text(s, " OK [CAPABILITY ");
    imap_put_capabilities(&s->out, IMAP_AFTER_LOGIN, false, SPAN_NONE);
    imap_text(s, "] Logged in\r\n");
    s->tag_n = 0;
    return s;
}

void imap_free(struct imap **address)
{
    struct imap *s = *address;
    if (!s)
        return;
    fetch_free(s);
    search_free(s);
    append_free(s);
    view_close(s);
    structure_free(s);
    imap_collect_free(&s->collect);
    arena_free(&s->arena);
    buf_free(&s->out);
    mem_free(address);
}
