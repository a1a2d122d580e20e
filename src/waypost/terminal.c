/* `waypost terminal ACCOUNT`: shows what is sent to that account's terminal (SEND, SOML, SAML) as it comes, until it is
 * interrupted. A message is a stranger's: nothing of it reaches the terminal but text and line ends. */
#include "waypost/terminal.h"

#include "mail/header.h"
#include "mail/mime.h"
#include "mail/words.h"
#include "waypost/output.h"

#define TEXT_MAX 16384 /* of a message's text, in UTF-8 */
#define FIELD_MAX 400

static void put_field(struct buf *out, struct span header, const char *name)
{
    struct span value;
    struct buf text = {0};
    if (!header_find(header, name, &value))
        return;
    words_decode(span_sub(value, 0, 4 * FIELD_MAX), &text);
    struct span shown = span_trim(buf_span(&text));
    while (shown.n > FIELD_MAX && ((unsigned char)shown.p[FIELD_MAX] & 0xc0) == 0x80)
        shown.n--;
    buf_printf(out, "%s: ", name);
    output_clean(out, span_sub(shown, 0, shown.n > FIELD_MAX ? FIELD_MAX : shown.n), false);
    buf_addc(out, '\n');
    buf_free(&text);
}

/* The first part of plain text; NULL: there is none. */
static const struct mime_part *text_part(const struct mime_part *p, unsigned depth)
{
    if (!p || depth > MIME_DEPTH_MAX)
        return NULL;
    if (!p->multipart)
        return !p->type.n || (span_ieqs(p->type, "text") && span_ieqs(p->subtype, "plain")) ? p : NULL;
    for (const struct mime_part *c = p->children; c; c = c->next) {
        const struct mime_part *found = text_part(c, depth + 1);
        if (found)
            return found;
    }
    return NULL;
}

/* Line ends are LF, tabs blanks; the rest is output_clean()'s. */
static void put_lines(struct buf *out, struct span text)
{
    struct buf plain = {0};
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] == '\r' && i + 1 < text.n && text.p[i + 1] == '\n')
            continue;
        buf_addc(&plain, text.p[i] == '\t' ? ' ' : text.p[i]);
    }
    while (plain.n && plain.p[plain.n - 1] == '\n')
        plain.n--;
    output_clean(out, buf_span(&plain), true);
    buf_addc(out, '\n');
    buf_free(&plain);
}

/* Cut behind a whole character. */
static struct span bounded(struct span s)
{
    if (s.n <= TEXT_MAX)
        return s;
    size_t n = TEXT_MAX;
    while (n && ((unsigned char)s.p[n] & 0xc0) == 0x80)
        n--;
    return span_sub(s, 0, n);
}

static void put_text(struct buf *out, struct span message)
{
    struct mime *parse = mime_new();
    mime_feed(parse, message);
    const struct mime_part *p = text_part(mime_end(parse), 0);
    if (!p) {
        buf_adds(out, "(no text that could be shown)\n");
        mime_free(&parse);
        return;
    }
    struct buf raw = {0}, text = {0};
    struct transfer_state st = {0};
    struct span body = span_sub(message, (size_t)p->body, (size_t)(p->end - p->body));
    transfer_decode(transfer_of(p->encoding), &st, body, true, &raw);
    charset_to_utf8(mime_param_value(p->params, "charset"), buf_span(&raw), &text);
    put_lines(out, bounded(buf_span(&text)));
    if (text.n > TEXT_MAX)
        buf_adds(out, "(more was cut off)\n");
    buf_free(&raw);
    buf_free(&text);
    mime_free(&parse);
}

void terminal_render(struct span message, struct buf *out)
{
    struct span header = span_sub(message, 0, header_length(message));
    put_field(out, header, "From");
    put_field(out, header, "Subject");
    put_field(out, header, "Date");
    buf_addc(out, '\n');
    put_text(out, message);
}

void terminal_row(void *to, const struct client_row *row)
{
    struct buf text = {0};
    for (size_t i = 0; i < row->count; i++) {
        if (span_eqs(row->cells[i].name, "open")) {
            buf_adds(&text, "What is sent to ");
            output_clean(&text, row->cells[i].value, false);
            buf_adds(&text, " appears here; interrupt to end.\n");
        } else if (span_eqs(row->cells[i].name, "message")) {
            buf_adds(&text, "\n----\n");
            terminal_render(row->cells[i].value, &text);
        }
    }
    fwrite(text.p, 1, text.n, to);
    fflush(to);
    buf_free(&text);
}
