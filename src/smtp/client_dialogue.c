/* What was said in a session lately, for people: verbs with the replies to them. No addresses of ours: a sender is shown it, and recipients
 * need not know of each other. What the peer says is cut, and made one line. */
#include <stdio.h>

#include "smtp/client_private.h"

static const char *verb_of(const struct smtp_client *c)
{
    static const char *const verbs[CLIENT_STATES] = {
        [CLIENT_GREETING] = "connect", [CLIENT_EHLO] = "EHLO",       [CLIENT_HELO] = "HELO", [CLIENT_STARTTLS] = "STARTTLS",
        [CLIENT_AUTH] = "AUTH",             [CLIENT_CONTENT] = "content", [CLIENT_DOT] = "content"};
    if (c->state == CLIENT_ENVELOPE)
        return c->answered == 0 ? "MAIL" : c->answered == c->order_count + 1 ? "DATA" : "RCPT";
    return verbs[c->state];
}

static void keep(struct client_said *s, const char *verb, unsigned code, struct span text)
{
    s->verb = verb;
    s->code = (uint16_t)code;
    snprintf(s->text, sizeof s->text, "%.*s", (int)MIN_OF(text.n, sizeof s->text - 1), text.p);
}

void client_note_reply(struct smtp_client *c)
{
    const char *verb = verb_of(c);
    struct span text = buf_span(&c->reply.text), line = span_cut(&text, '\n');
    if (!verb)
        return;
    if (c->state == CLIENT_ENVELOPE && c->answered && c->answered <= c->order_count) {
        c->rcpt_codes[c->order[c->answered - 1]] = (uint16_t)c->reply.code;
        keep(&c->rcpt_said, verb, c->reply.code, line);
        c->rcpt_said_of = c->order[c->answered - 1];
        return;
    }
    if (c->said_count == SMTP_CLIENT_SAID_MAX)
        memmove(c->said, c->said + 1, --c->said_count * sizeof *c->said);
    keep(&c->said[c->said_count++], verb, c->reply.code, line);
}

static void put(struct buf *out, const char *verb, unsigned code, const char *text)
{
    struct outcome line = outcome_make(OUTCOME_DONE, 0, 0, 0, "%s", text);
    for (char *p = line.text; *p; p++)
        *p = *p == '|' ? '/' : *p;
    buf_printf(out, "%s%s -> %u%s%s", out->n ? " | " : "", verb, code, *line.text ? " " : "", line.text);
}

static void put_rcpt(const struct smtp_client *c, size_t index, struct buf *out)
{
    if (!c->rcpts || index >= c->mail.rcpt_count || !c->rcpt_codes[index])
        return;
    put(out, "RCPT", c->rcpt_codes[index], c->rcpt_said_of == index ? c->rcpt_said.text : "");
}

void smtp_client_dialogue(const struct smtp_client *c, size_t index, struct buf *out)
{
    for (unsigned i = 0; i < c->said_count; i++) {
        put(out, c->said[i].verb, c->said[i].code, c->said[i].text);
        if (span_eqs(SPAN("MAIL"), c->said[i].verb))
            put_rcpt(c, index, out);
    }
}
