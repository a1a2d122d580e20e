/* What people read of a notification, from the texts of conf/notice_text.h. */
#include "mail/date.h"
#include "mail/dsn_priv.h"
#include "mail/header.h"
#include "mail/notice_fill.h"
#include "mail/words.h"

#define NAMED_MAX 50    /* recipients that people read of; machines read of all */
#define SUBJECT_MAX 200 /* bytes of the original's */

/* The values of placeholders. */
struct values {
    const struct dsn *d;
    struct span subject; /* of the original, decoded */
    int64_t until;
    const struct dsn_rcpt *r; /* of phrases about one recipient */
    size_t count;             /* of NOTICE_MORE */
};

static enum notice_kind kind_of(const struct dsn *d, enum dsn_action action)
{
    return d->double_bounce && action == DSN_FAILED ? NOTICE_DOUBLE_BOUNCE : (enum notice_kind)action;
}

static void text_of(const struct dsn *d, enum notice_kind kind, struct notice_text *out)
{
    notice_text_of(d->texts ? d->texts[kind] : SPAN_NONE, kind, out);
}

/* ---- values ---- */

static void put_when(struct buf *out, int64_t at, enum notice_place as, enum notice_place day, enum notice_place time)
{
    struct mail_date t;
    if (at == 0)
        return;
    date_from_unix(at, 0, &t);
    if (as == day)
        buf_printf(out, "%04d-%02d-%02d", t.year, t.month, t.day);
    else if (as == time)
        buf_printf(out, "%02d:%02d", t.hour, t.minute);
    else
        date_put(out, at, 0);
}

static void put_answer(struct buf *out, const struct dsn_rcpt *r)
{
    if (r->code)
        buf_printf(out, "%u ", r->code);
    dsn_put_line(out, r->why, DSN_HALF_LINE);
}

static void put_value(struct buf *out, const void *ctx, enum notice_place place)
{
    const struct values *v = ctx;
    const struct dsn *d = v->d;
    switch (place) {
    case NOTICE_HOST: buf_add(out, d->reporting_mta); break;
    case NOTICE_SENDER: dsn_put_line(out, d->sender, DSN_HALF_LINE); break;
    case NOTICE_SUBJECT_LINE: buf_add(out, v->subject); break;
    case NOTICE_REFERENCE: buf_add(out, d->original_qid); break;
    case NOTICE_DATE:
    case NOTICE_DAY:
    case NOTICE_TIME: put_when(out, d->arrival, place, NOTICE_DAY, NOTICE_TIME); break;
    case NOTICE_UNTIL:
    case NOTICE_UNTIL_DAY:
    case NOTICE_UNTIL_TIME: put_when(out, v->until, place, NOTICE_UNTIL_DAY, NOTICE_UNTIL_TIME); break;
    case NOTICE_ADDRESS: dsn_put_line(out, v->r->address, DSN_HALF_LINE); break;
    case NOTICE_SERVER: dsn_put_line(out, v->r->host, DSN_HALF_LINE); break;
    case NOTICE_ANSWER: put_answer(out, v->r); break;
    case NOTICE_ATTEMPTS: buf_printf(out, "%u", v->r->attempts); break;
    case NOTICE_COUNT: buf_printf(out, "%zu", v->count); break;
    default: break; /* not of these texts */
    }
}

static void put_filled(struct buf *out, const char *indent, struct span text, const struct values *v)
{
    notice_put_line(out, indent, text, put_value, v);
}

/* ---- recipients ---- */

static void put_failure(struct buf *out, const struct notice_text *text, const struct values *v)
{
    const struct dsn_rcpt *r = v->r;
    if (r->late)
        put_filled(out, "    ", text->phrase[NOTICE_LATE], v);
    if (r->expired)
        put_filled(out, "    ", text->phrase[NOTICE_TRIED], v);
    if (r->why.n == 0) {
        put_filled(out, "    ", text->phrase[NOTICE_UNKNOWN], v);
    } else if (r->host.n) {
        put_filled(out, "    ", text->phrase[NOTICE_SAID], v);
    } else {
        buf_adds(out, "    ");
        put_answer(out, r);
        buf_adds(out, "\r\n");
    }
}

/* The transcript, a line for each reply. */
static void put_dialogue(struct buf *out, const struct notice_text *text, const struct values *v)
{
    const struct span between = SPAN(" | ");
    struct span all = v->r->dialogue;
    if (!all.n)
        return;
    put_filled(out, "    ", text->phrase[NOTICE_DIALOGUE], v);
    for (ptrdiff_t at; all.n; all = span_from(all, (size_t)at + between.n)) {
        at = span_search(all, between);
        at = at < 0 ? (ptrdiff_t)all.n : at;
        buf_adds(out, "      ");
        dsn_put_line(out, span_sub(all, 0, (size_t)at), DSN_LINE);
        buf_adds(out, "\r\n");
    }
}

static void put_rcpt(struct buf *out, const struct notice_text *text, const struct values *v)
{
    const struct dsn_rcpt *r = v->r;
    buf_adds(out, "  ");
    dsn_put_line(out, r->given, DSN_LINE);
    buf_adds(out, "\r\n");
    if (!span_eq(r->given, r->address))
        put_filled(out, "    ", text->phrase[NOTICE_LEADS_TO], v);
    if (r->action <= DSN_DELAYED)
        put_failure(out, text, v);
    if (r->action == DSN_FAILED)
        put_dialogue(out, text, v);
}

static void put_rcpts(struct buf *out, const struct notice_text *text, struct values *v, enum dsn_action action)
{
    size_t named = 0;
    v->count = 0;
    for (size_t i = 0; i < v->d->count; i++) {
        if (v->d->rcpts[i].action != action)
            continue;
        v->r = &v->d->rcpts[i];
        if (named++ < NAMED_MAX)
            put_rcpt(out, text, v);
        else
            v->count++;
    }
    if (v->count)
        put_filled(out, "  ", text->phrase[NOTICE_MORE], v);
}

/* ---- the whole ---- */

static void put_body(struct buf *out, const struct notice_text *text, struct values *v, enum dsn_action action)
{
    struct span body = text->body, line;
    while (notice_line_next(&body, &line)) {
        if (span_eqs(span_trim(line), "{recipients}"))
            put_rcpts(out, text, v, action);
        else
            put_filled(out, "", line, v);
    }
}

static void begin(struct values *v, const struct dsn *d, struct buf *subject)
{
    struct span header = span_sub(d->header, 0, header_length(d->header)), value;
    struct buf decoded = {0};
    *v = (struct values){.d = d};
    if (header_find(header, "Subject", &value)) {
        words_decode(value, &decoded);
        dsn_put_line(subject, span_trim(buf_span(&decoded)), SUBJECT_MAX);
    }
    buf_free(&decoded);
    v->subject = buf_span(subject);
    for (size_t i = 0; i < d->count; i++)
        if (d->rcpts[i].action == DSN_DELAYED)
            v->until = MAX_OF(v->until, d->rcpts[i].retry_until);
}

void dsn_put_human(struct buf *out, const struct dsn *d)
{
    struct values v;
    struct buf subject = {0};
    bool any = false;
    begin(&v, d, &subject);
    notice_put_type(out, d->language);
    buf_adds(out, "\r\n");
    for (unsigned action = 0; action < DSN_ACTIONS; action++) {
        bool some = false;
        for (size_t i = 0; i < d->count && !some; i++)
            some = d->rcpts[i].action == action;
        if (!some)
            continue;
        struct notice_text text;
        text_of(d, kind_of(d, (enum dsn_action)action), &text);
        if (any)
            buf_adds(out, "\r\n* * *\r\n\r\n");
        put_body(out, &text, &v, (enum dsn_action)action);
        any = true;
    }
    buf_free(&subject);
}

/* ---- the header ---- */

void dsn_put_subject(struct buf *out, const struct dsn *d)
{
    struct values v;
    struct buf subject = {0};
    struct notice_text text;
    begin(&v, d, &subject);
    text_of(d, kind_of(d, dsn_first_action(d)), &text);
    notice_put_subject(out, &text, put_value, &v);
    buf_free(&subject);
}

void dsn_put_from(struct buf *out, const struct dsn *d)
{
    struct values v = {.d = d};
    struct notice_text text;
    text_of(d, kind_of(d, dsn_first_action(d)), &text);
    notice_put_from(out, &text, put_value, &v);
}
