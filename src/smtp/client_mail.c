/* A transaction of the sending engine: MAIL, RCPT for each recipient, DATA, content. With PIPELINING up to SMTP_CLIENT_WINDOW commands
 * go ahead of their replies (RFC 2920), without it each waits for its own.
 * Trusts nothing that the peer says beyond its limits; addresses are checked against the grammar before they go on the wire. */
#include "smtp/client_private.h"

#include <stdlib.h>

#include "base/mem.h"
#include "smtp/path.h"
#include "smtp/wishes.h"

#define NEEDS_UTF8 "the next host does not take internationalized addresses (SMTPUTF8)"

static void tell(struct smtp_client *c, size_t index, const struct outcome *o)
{
    if (c->freed || c->rcpts[index] == CLIENT_RCPT_TOLD)
        return;
    c->rcpts[index] = CLIENT_RCPT_TOLD;
    c->ops->on_rcpt(c->ctx, index, o);
}

static void tell_all(struct smtp_client *c, const struct outcome *o)
{
    for (size_t i = 0; i < c->mail.rcpt_count && !c->freed; i++)
        tell(c, i, o);
}

void client_mail_drop(struct smtp_client *c)
{
    mem_free(&c->rcpts);
    mem_free(&c->rcpt_codes);
    mem_free(&c->order);
    c->mail = (struct smtp_client_mail){0};
    c->order_count = 0;
}

/* Every recipient has its outcome. reset: the peer may still hold a sender and recipients. */
static void finish(struct smtp_client *c, bool reset)
{
    client_mail_drop(c);
    if (reset)
        buf_add(c->out, SPAN("RSET\r\n"));
    client_move(c, reset ? CLIENT_RSET : CLIENT_READY);
    c->ops->on_done(c->ctx);
    if (!c->freed && c->state == CLIENT_READY)
        c->ops->on_ready(c->ctx);
}

size_t client_mail_outstanding(const struct smtp_client *c)
{
    return c->sent - c->answered;
}

/* ---- commands ---- */

static bool address_fits(struct span address, bool smtputf8)
{
    struct smtp_path path;
    return smtp_mailbox_parse(address, smtputf8 ? SMTP_PATH_UTF8 : 0, &path) == SMTP_PATH_OK;
}

static void put_mail(struct smtp_client *c)
{
    const struct smtp_client_mail *m = &c->mail;
    buf_add(c->out, SPAN("MAIL FROM:<"));
    buf_add(c->out, m->sender);
    buf_addc(c->out, '>');
    if (c->caps & SMTP_CAP_SIZE) /* RFC1870:5 */
        buf_printf(c->out, " SIZE=%llu", (unsigned long long)m->size);
    if (m->binary)
        buf_add(c->out, SPAN(" BODY=BINARYMIME"));
    else if (m->body_8bit)
        buf_add(c->out, SPAN(" BODY=8BITMIME"));
    if (m->smtputf8)
        buf_add(c->out, SPAN(" SMTPUTF8"));
    if (m->requiretls)
        buf_add(c->out, SPAN(" REQUIRETLS"));
    if (m->by_mode)
        smtp_by_put(c->out, m->by_seconds, m->by_mode);
    if (c->caps & SMTP_CAP_MT_PRIORITY) /* RFC6710:4.2 */
        buf_printf(c->out, " MT-PRIORITY=%d", m->priority);
    if (c->caps & SMTP_CAP_DSN) { /* RFC3461:5.2.1; not to others: RFC3461:5.2.2 */
        smtp_ret_put(c->out, m->ret);
        if (smtp_envid_valid(m->envid)) {
            buf_add(c->out, SPAN(" ENVID="));
            buf_add(c->out, m->envid);
        }
    }
    buf_add(c->out, SPAN("\r\n"));
}

static void put_rcpt(struct smtp_client *c, size_t index)
{
    buf_add(c->out, SPAN("RCPT TO:<"));
    buf_add(c->out, c->mail.rcpts[index]);
    buf_addc(c->out, '>');
    if ((c->caps & SMTP_CAP_DSN) && c->mail.notify) {
        const struct smtp_client_notify *n = &c->mail.notify[index];
        smtp_notify_put(c->out, n->notify);
        smtp_orcpt_put(c->out, n->orcpt, c->mail.smtputf8);
    }
    buf_add(c->out, SPAN("\r\n"));
}

static size_t data_index(const struct smtp_client *c)
{
    return c->order_count + 1;
}

/* Whether the next command may go out now. DATA ends a group (RFC2920:3.1), and is pointless once it is known that nobody was accepted. */
static bool may_send(const struct smtp_client *c)
{
    size_t window = c->caps & SMTP_CAP_PIPELINING ? SMTP_CLIENT_WINDOW : 1;
    if (c->mail_refused || c->sent > data_index(c) || c->sent - c->answered >= window)
        return false;
    if (c->mail.binary && c->sent == data_index(c))
        return false; /* content follows BDAT at once: begin_chunk() */
    return c->sent != data_index(c) || c->answered != c->sent || c->accepted > 0;
}

/* RFC3030:2: all of it in one chunk, when it is known who takes it. */
static void begin_chunk(struct smtp_client *c)
{
    buf_printf(c->out, "BDAT %llu LAST\r\n", (unsigned long long)c->mail.size);
    c->chunk_left = c->mail.size;
    client_move(c, CLIENT_CONTENT);
    c->ops->on_content(c->ctx);
}

static void advance(struct smtp_client *c)
{
    while (may_send(c)) {
        if (c->sent == 0)
            put_mail(c);
        else if (c->sent == data_index(c))
            buf_add(c->out, SPAN("DATA\r\n"));
        else
            put_rcpt(c, c->order[c->sent - 1]);
        c->sent++;
    }
    if (c->sent != c->answered)
        return;
    if (c->mail.binary && c->accepted && !c->mail_refused)
        begin_chunk(c);
    else /* nobody is left to send to */
        finish(c, !c->mail_refused);
}

/* Who can't be said on the wire fails here; the others are put in order. */
static void sort_out(struct smtp_client *c)
{
    struct outcome bad = outcome_make(OUTCOME_FAILED, 0, 1, 3, "this address can't be given to the next host");
    struct outcome utf8 = outcome_make(OUTCOME_FAILED, 0, 6, 7, NEEDS_UTF8); /* RFC6531:3.5 */
    for (size_t i = 0; i < c->mail.rcpt_count && !c->freed; i++) {
        if (address_fits(c->mail.rcpts[i], c->mail.smtputf8))
            c->order[c->order_count++] = i;
        else
            tell(c, i, span_is_ascii(c->mail.rcpts[i]) || c->mail.smtputf8 ? &bad : &utf8);
    }
}

void smtp_client_mail(struct smtp_client *c, const struct smtp_client_mail *m)
{
    if (c->state != CLIENT_READY || m->rcpt_count == 0 || (m->body_8bit && !(c->caps & SMTP_CAP_8BITMIME)) ||
        (m->smtputf8 && !(c->caps & SMTP_CAP_SMTPUTF8)) ||
        (m->requiretls && !(c->caps & SMTP_CAP_REQUIRETLS && c->tls_on)) ||
        (m->by_mode && !(c->caps & SMTP_CAP_DELIVERBY)) ||
        (m->binary && (~c->caps & (SMTP_CAP_BINARYMIME | SMTP_CAP_CHUNKING))))
        abort();
    client_enter(c);
    client_move(c, CLIENT_ENVELOPE);
    c->mail = *m;
    c->rcpts = mem_array(m->rcpt_count, sizeof *c->rcpts);
    c->rcpt_codes = mem_array(m->rcpt_count, sizeof *c->rcpt_codes);
    c->order = mem_array(m->rcpt_count, sizeof *c->order);
    c->order_count = c->sent = c->answered = c->accepted = 0;
    c->mail_refused = c->empty_content = false;
    c->progress++;
    if (m->sender.n && !address_fits(m->sender, m->smtputf8)) {
        bool utf8 = !span_is_ascii(m->sender) && !m->smtputf8;
        struct outcome bad =
            utf8 ? outcome_make(OUTCOME_FAILED, 0, 6, 7, NEEDS_UTF8)
                 : outcome_make(OUTCOME_FAILED, 0, 1, 7, "the sender's address can't be given to the next host");
        tell_all(c, &bad);
    } else {
        sort_out(c);
    }
    if (!c->freed && c->order_count)
        advance(c);
    else if (!c->freed)
        finish(c, false);
    client_leave(c);
}

/* ---- replies ---- */

static void on_mail_reply(struct smtp_client *c, unsigned code)
{
    if (code / 100 == 2)
        return;
    struct outcome o = client_reply_outcome(&c->reply);
    c->mail_refused = true;
    tell_all(c, &o);
}

static void on_rcpt_reply(struct smtp_client *c, size_t index, unsigned code)
{
    if (c->mail_refused)
        return;
    if (code / 100 == 2) {
        c->rcpts[index] = CLIENT_RCPT_ACCEPTED;
        c->accepted++;
        return;
    }
    struct outcome o = client_reply_outcome(&c->reply);
    bool says_why = o.subject != 0 && !(o.subject == 5 && o.detail == 3);
    if (code == 552 && c->accepted && !says_why) /* too many recipients, said in an old way: RFC5321:4.5.3.1.10 */
        o.kind = OUTCOME_RETRY;
    tell(c, index, &o);
}

static void on_data_reply(struct smtp_client *c, unsigned code)
{
    if (code == 354 && (c->mail_refused || c->accepted == 0)) {
        buf_add(c->out, SPAN(".\r\n")); /* the peer waits for content that goes to nobody: RFC2920:3.1 */
        c->empty_content = true;
        client_move(c, CLIENT_DOT);
    } else if (code == 354) {
        client_content_begin(&c->content);
        client_move(c, CLIENT_CONTENT);
        c->ops->on_content(c->ctx);
    } else if (code / 100 == 4 || code / 100 == 5) {
        struct outcome o = client_reply_outcome(&c->reply);
        tell_all(c, &o);
        if (!c->freed)
            finish(c, !c->mail_refused);
    } else {
        client_broke_rules(c, "an answer to DATA that is neither 354 nor a refusal");
    }
}

void client_on_envelope(struct smtp_client *c, unsigned code)
{
    size_t at = c->answered++;
    if (at == data_index(c)) {
        on_data_reply(c, code);
        return;
    }
    if (code / 100 == 3) {
        client_broke_rules(c, "an intermediate reply to MAIL or RCPT");
        return;
    }
    if (at == 0)
        on_mail_reply(c, code);
    else
        on_rcpt_reply(c, c->order[at - 1], code);
    if (!client_over(c))
        advance(c);
}

/* A reply before the content has ended: the peer has decided, and the rest of the content can't be taken back. */
void client_on_early(struct smtp_client *c, unsigned code)
{
    if (code / 100 != 4 && code / 100 != 5) {
        client_broke_rules(c, "a reply in the middle of the content");
        return;
    }
    struct outcome o = client_reply_outcome(&c->reply);
    client_fail(c, &o);
}

void client_on_dot(struct smtp_client *c, unsigned code)
{
    if (code / 100 == 3) {
        client_broke_rules(c, "an intermediate reply to the content");
        return;
    }
    if (!c->empty_content) {
        struct outcome o = client_reply_outcome(&c->reply);
        tell_all(c, &o);
    }
    if (!c->freed)
        finish(c, c->empty_content);
}

void smtp_client_content(struct smtp_client *c, struct span chunk, bool last)
{
    if (c->state != CLIENT_CONTENT)
        abort();
    c->progress++;
    if (c->mail.binary) {
        if (chunk.n > c->chunk_left || (last && chunk.n != c->chunk_left))
            abort(); /* the driver said how much it would be */
        c->chunk_left -= chunk.n;
        buf_add(c->out, chunk);
    } else {
        client_content_put(&c->content, chunk, c->out);
    }
    if (!last)
        return;
    if (!c->mail.binary)
        client_content_end(&c->content, c->out);
    client_move(c, CLIENT_DOT);
}
