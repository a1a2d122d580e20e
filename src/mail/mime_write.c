/* What IMAP shows of a message: ENVELOPE, BODY, BODYSTRUCTURE, RFC 3501 §7.4.2 and §9. Strings go through nstring.h
 * alone. */
#include "mail/mime.h"
#include "mail/nstring.h"

/* ---- ENVELOPE ---- */

struct envelope {
    struct span date, subject, in_reply_to, message_id;
    struct span from, sender, reply_to, to, cc, bcc;
};

static void find_fields(struct envelope *e, struct span header)
{
    const struct {
        const char *name;
        struct span *value;
    } wanted[] = {
        {"Date", &e->date},
        {"Subject", &e->subject},
        {"From", &e->from},
        {"Sender", &e->sender},
        {"Reply-To", &e->reply_to},
        {"To", &e->to},
        {"Cc", &e->cc},
        {"Bcc", &e->bcc},
        {"In-Reply-To", &e->in_reply_to},
        {"Message-ID", &e->message_id},
    };
    struct header_field f;
    while (header_next(&header, &f))
        for (size_t i = 0; i < COUNT_OF(wanted); i++)
            if (!wanted[i].value->p && span_ieqs(f.name, wanted[i].name))
                *wanted[i].value = f.value.p ? f.value : SPAN("");
}

static void put_text(struct buf *out, struct span value, struct buf *flat)
{
    buf_clear(flat);
    if (value.p)
        header_unfold(value, flat);
    if (value.p)
        nstring_put_string(out, buf_span(flat));
    else
        nstring_put(out, SPAN_NONE);
}

/* RFC3501:7.4.2: a group begins with its name as the mailbox and NIL as the host, and ends with all NIL; a mailbox has
 * both. */
static void put_address(struct buf *out, const struct header_address *a)
{
    bool mailbox = a->kind == HEADER_MAILBOX;
    buf_addc(out, '(');
    nstring_put(out, mailbox ? a->name : SPAN_NONE);
    buf_adds(out, " NIL ");
    nstring_put(out, mailbox && !a->local.p ? SPAN("") : a->local);
    buf_addc(out, ' ');
    nstring_put(out, mailbox && !a->domain.p ? SPAN("") : a->domain);
    buf_addc(out, ')');
}

static bool put_addresses(struct buf *out, struct span value)
{
    struct arena arena = {0};
    const struct header_address *a = header_addresses(value, &arena), *first = a;
    if (a)
        buf_addc(out, '(');
    for (; a; a = a->next)
        put_address(out, a);
    if (first)
        buf_addc(out, ')');
    arena_free(&arena);
    return first != NULL;
}

static void put_address_field(struct buf *out, struct span value)
{
    buf_addc(out, ' ');
    if (!put_addresses(out, value))
        buf_adds(out, "NIL");
}

/* RFC3501:7.4.2: sender and reply-to are the from when they are absent or empty; `from` to `end` of what is put already. */
static void put_like_from(struct buf *out, struct span value, size_t from, size_t end)
{
    buf_addc(out, ' ');
    if (put_addresses(out, value))
        return;
    char *to = buf_room(out, end - from); /* may move what is there */
    memcpy(to, out->p + from, end - from);
    out->n += end - from;
}

void mime_put_envelope(struct buf *out, struct span header)
{
    struct envelope e = {0};
    struct buf flat = {0};
    find_fields(&e, header);
    buf_addc(out, '(');
    put_text(out, e.date, &flat);
    buf_addc(out, ' ');
    put_text(out, e.subject, &flat);
    size_t from = out->n + 1;
    put_address_field(out, e.from);
    size_t end = out->n;
    put_like_from(out, e.sender, from, end);
    put_like_from(out, e.reply_to, from, end);
    put_address_field(out, e.to);
    put_address_field(out, e.cc);
    put_address_field(out, e.bcc);
    buf_addc(out, ' ');
    put_text(out, e.in_reply_to, &flat);
    buf_addc(out, ' ');
    put_text(out, e.message_id, &flat);
    buf_addc(out, ')');
    buf_free(&flat);
}

/* ---- BODY and BODYSTRUCTURE ---- */

static void put_number(struct buf *out, uint64_t n)
{
    buf_printf(out, " %llu", (unsigned long long)n);
}

static void put_params(struct buf *out, const struct mime_param *p, bool with_ascii)
{
    if (!p && !with_ascii) {
        buf_adds(out, " NIL");
        return;
    }
    buf_adds(out, " (");
    for (const struct mime_param *q = p; q; q = q->next) {
        if (q != p)
            buf_addc(out, ' ');
        nstring_put_string(out, q->name);
        buf_addc(out, ' ');
        nstring_put_string(out, q->value);
    }
    if (with_ascii)
        buf_adds(out, p ? " \"charset\" \"us-ascii\"" : "\"charset\" \"us-ascii\"");
    buf_addc(out, ')');
}

static void put_disposition(struct buf *out, const struct mime_part *p)
{
    if (!p->disposition.p) {
        buf_adds(out, " NIL");
        return;
    }
    buf_adds(out, " (");
    nstring_put_string(out, p->disposition);
    put_params(out, p->disposition_params, false);
    buf_addc(out, ')');
}

/* body-fld-dsp, body-fld-lang, body-fld-loc */
static void put_extension(struct buf *out, const struct mime_part *p)
{
    put_disposition(out, p);
    buf_addc(out, ' ');
    if (!p->languages_n)
        nstring_put(out, SPAN_NONE);
    for (size_t i = 0; i < p->languages_n; i++) {
        buf_addc(out, i ? ' ' : '(');
        nstring_put_string(out, p->languages[i]);
    }
    if (p->languages_n)
        buf_addc(out, ')');
    buf_addc(out, ' ');
    nstring_put(out, p->location);
}

static void put_multipart(struct buf *out, const struct mime_part *p, bool extended)
{
    for (const struct mime_part *c = p->children; c; c = c->next)
        mime_put_structure(out, c, extended);
    buf_addc(out, ' ');
    nstring_put_string(out, p->subtype);
    if (!extended)
        return;
    put_params(out, p->params, false);
    put_extension(out, p);
}

/* What a leaf is shown as: a multipart that can't be divided is text, one that the limits kept closed is bytes. */
static void shown_type(const struct mime_part *p, struct span *type, struct span *subtype)
{
    *type = p->type;
    *subtype = p->subtype;
    if (p->leaf_by_limit) {
        *type = SPAN("application");
        *subtype = SPAN("octet-stream");
    } else if (span_ieqs(p->type, "multipart")) {
        *type = SPAN("text");
        *subtype = SPAN("plain");
    }
}

static void put_message(struct buf *out, const struct mime_part *inside, bool extended)
{
    buf_addc(out, ' ');
    if (inside->envelope.p)
        buf_add(out, inside->envelope);
    else
        mime_put_envelope(out, SPAN(""));
    buf_addc(out, ' ');
    mime_put_structure(out, inside, extended);
}

static void put_leaf(struct buf *out, const struct mime_part *p, bool extended)
{
    struct span type, subtype;
    shown_type(p, &type, &subtype);
    bool text = span_ieqs(type, "text");
    nstring_put_string(out, type);
    buf_addc(out, ' ');
    nstring_put_string(out, subtype);
    put_params(out, p->params, text && !mime_param_value(p->params, "charset").p);
    buf_addc(out, ' ');
    nstring_put(out, p->id);
    buf_addc(out, ' ');
    nstring_put(out, p->description);
    buf_addc(out, ' ');
    nstring_put_string(out, p->encoding.p ? p->encoding : SPAN("7bit"));
    put_number(out, p->end - p->body);
    if (p->rfc822)
        put_message(out, p->children, extended);
    if (p->rfc822 || text)
        put_number(out, p->lines);
    if (!extended)
        return;
    buf_addc(out, ' ');
    nstring_put(out, p->md5);
    put_extension(out, p);
}

void mime_put_structure(struct buf *out, const struct mime_part *p, bool extended)
{
    buf_addc(out, '(');
    if (p->multipart)
        put_multipart(out, p, extended);
    else
        put_leaf(out, p, extended);
    buf_addc(out, ')');
}
