/* APPEND (RFC 3501 §6.3.11, APPENDUID of RFC 4315): the message goes from the input straight to the backend, in the
 * pieces it comes in, and through the MIME parser on the way, so that memory is bounded whatever its size. */
#include <stdio.h>

#include "base/mem.h"
#include "imap/impl.h"
#include "mail/date.h"

struct append {
    struct imap_mailbox box;
    struct imap_new message;
    struct imap_stage *stage;
    struct mime *mime;
    uint64_t left;
    size_t command_n; /* length of the command's text up to the message: nothing may follow it */
    bool failed;      /* the answer is settled: `code`, or `refusal` when it isn't NULL */
    int code;
    const char *refusal;
};

void append_free(struct imap *s)
{
    if (!s->append)
        return;
    if (s->append->stage)
        s->b->stage_free(s->ctx, &s->append->stage);
    mime_free(&s->append->mime);
    mem_free(&s->append);
}

bool append_streaming(const struct imap *s)
{
    return s->append && s->append->left > 0;
}

/* What stands before the message, but for the mailbox: [SP flag-list] [SP date-time] SP literal. */
struct arguments {
    struct span mailbox;
    struct flags flags;
    int64_t date_ms;
};

static bool take_date(struct lex *x, int64_t *ms)
{
    struct span text;
    struct mail_date d;
    if (!x->rest.n || *x->rest.p != '"')
        return true;
    if (!lex_string(x, &text) || date_parse_imap(text, &d) != 0)
        return false;
    *ms = date_unix(&d) * 1000;
    return lex_sp(x);
}

/* 1: the announced literal is the message; 0: it is the mailbox's name; -1: neither. */
static int take_arguments(struct lex *x, struct arguments *a)
{
    struct span raw;
    if (!lex_sp(x))
        return -1;
    bool literal = x->rest.n && *x->rest.p == '{';
    if (!lex_astring(x, &raw))
        return literal ? 0 : -1;
    a->mailbox = raw;
    if (!lex_sp(x))
        return -1;
    if (x->rest.n && *x->rest.p == '(' && (!flags_parse(x, &a->flags, true) || !lex_sp(x)))
        return -1;
    return take_date(x, &a->date_ms) && x->rest.n && *x->rest.p == '{' ? 1 : -1;
}

static void fail(struct append *a, int code, const char *refusal)
{
    a->failed = true;
    a->code = code;
    a->refusal = refusal;
}

static void find_target(struct imap *s, struct append *a, const struct arguments *args)
{
    struct span name;
    int r = IMAP_BAD_NAME;
    if (imap_decode_name(&s->arena, args->mailbox, &name))
        r = s->b->find(s->ctx, name, &s->arena, &a->box, &s->err);
    if (r == IMAP_DONE && a->box.noselect)
        r = IMAP_NOT_ALLOWED;
    if (r == IMAP_DONE)
        r = flags_bits(s, a->box.id, &args->flags, true, &a->message.keywords);
    if (r != IMAP_DONE)
        fail(a, r, NULL);
}

/* Everything that can be said before the message has come is said before it comes. */
static void prepare(struct imap *s, struct append *a, const struct arguments *args)
{
    a->message.flags = args->flags.system;
    a->message.date_ms = args->date_ms;
    a->command_n = s->collect.text.n;
    a->left = s->collect.literal;
    if (a->left == 0)
        fail(a, 0, "[CANNOT] A message has at least one byte");
    else if (a->left > s->message_max)
        fail(a, 0, "[TOOBIG] The message is too large");
    else
        find_target(s, a, args);
    if (a->failed)
        return;
    a->stage = s->b->stage_new(s->ctx);
    a->mime = mime_new();
}

enum append_literal append_announced(struct imap *s)
{
    struct lex x = {.rest = imap_collect_text(&s->collect), .arena = &s->arena};
    struct arguments args = {.date_ms = INT64_MIN};
    struct span tag;
    if (s->append || !lex_tag(&x, &tag) || !lex_sp(&x) || !lex_word(&x, "APPEND"))
        return s->append ? APPEND_REFUSED : APPEND_ARGUMENT;
    int kind = take_arguments(&x, &args);
    if (kind == 0)
        return APPEND_ARGUMENT;
    s->append = mem_alloc(sizeof *s->append);
    if (kind < 0)
        fail(s->append, 0, NULL);
    else
        prepare(s, s->append, &args);
    if (!s->append->failed)
        return APPEND_MESSAGE;
    s->append->left = 0;
    return APPEND_REFUSED;
}

bool append_take(struct imap *s, struct span *in)
{
    struct append *a = s->append;
    struct span piece = span_sub(*in, 0, (size_t)MIN_OF(a->left, (uint64_t)in->n));
    if (!piece.n)
        return false;
    if (!a->failed) {
        int r = s->b->stage_write(s->ctx, a->stage, piece, &s->err);
        if (r != IMAP_DONE)
            fail(a, r, NULL);
        mime_feed(a->mime, piece);
    }
    a->left -= piece.n;
    *in = span_from(*in, piece.n);
    return true;
}

static void answer_failure(struct imap *s)
{
    const struct append *a = s->append;
    struct lex x = {.rest = imap_collect_text(&s->collect), .arena = &s->arena};
    struct span tag;
    if (!s->tag_n && lex_tag(&x, &tag) && tag.n <= IMAP_TAG_MAX) {
        memcpy(s->tag, tag.p, tag.n);
        s->tag_n = tag.n;
    }
    if (a->refusal)
        imap_no(s, a->refusal);
    else if (a->code)
        imap_no_code(s, a->code, "[TRYCREATE] There is no such mailbox"); /* RFC3501:6.3.11 */
    else
        imap_bad(s, "APPEND wants a mailbox, flags, a date and a message");
}

static void append_now(struct imap *s)
{
    struct append *a = s->append;
    struct buf structure = {0};
    uint32_t uid, uidvalidity;
    mime_put_structure(&structure, mime_end(a->mime), true);
    a->message.envelope = mime_envelope(a->mime);
    a->message.structure = buf_span(&structure);
    if (a->message.date_ms == INT64_MIN)
        a->message.date_ms = s->b->now(s->ctx);
    int r = s->b->append(s->ctx, a->box.id, &a->stage, &a->message, &uid, &uidvalidity, &s->err);
    buf_free(&structure);
    if (r != IMAP_DONE) {
        fail(a, r, NULL);
        answer_failure(s);
        return;
    }
    s->unsynced = true;
    char text[80];
    snprintf(text, sizeof text, "[APPENDUID %u %u] Appended", uidvalidity, uid); /* RFC4315:3 */
    imap_ok(s, text);
}

/* The command is complete, its message taken in; or it was refused (x is NULL). */
void cmd_append(struct imap *s, struct lex *x)
{
    if (!s->append)
        imap_bad(s, "APPEND wants a mailbox, flags, a date and a message");
    else if (s->append->failed || !x)
        answer_failure(s);
    else if (s->collect.text.n != s->append->command_n)
        imap_bad(s, "Nothing may follow the message");
    else
        append_now(s);
}
