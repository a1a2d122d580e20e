/* BDAT: content in chunks of a told size (RFC 3030 §2). The octets of a chunk follow its command whatever becomes of
 * it: those of a refused one are read and dropped before the refusal is said, so that they can never run as commands.
 */
#include "smtp/server_impl.h"

#include <stdio.h>

#define DROP_MORE (1u << 20) /* octets above the message's limit that are read and dropped */

/* chunk-size [ SP "LAST" ] */
static bool parse(struct span arg, uint64_t *size, bool *last)
{
    struct span number = span_cut(&arg, ' ');
    arg = span_trim(arg);
    *last = span_ieqs(arg, "LAST");
    return number.n > 0 && number.n <= 20 && span_u64(number, UINT64_MAX, size) && (arg.n == 0 || *last);
}

static void refuse(struct smtp_server *s, unsigned code, const char *status, const char *text, int back)
{
    s->chunk.code = code;
    s->chunk.status = status;
    s->chunk.text = text;
    s->chunk.back = back;
}

/* Why this chunk can't be taken, if it can't. */
static void judge(struct smtp_server *s)
{
    if (s->state == S_HELLO)
        refuse(s, 503, "5.5.1", "Say EHLO first", S_HELLO);
    else if (s->state == S_READY) /* also behind a refused chunk or the last one: RFC3030:2 */
        refuse(s, 503, "5.5.1", "Say MAIL first", S_READY);
    else if (s->txn.welcome == 0 && s->txn.rcpt_count)
        refuse(s, 554, "5.5.1", "No valid recipients", S_MAIL);
    else if (s->txn.welcome == 0)
        refuse(s, 503, "5.5.1", "Say RCPT first", S_MAIL);
    else if (s->state == S_MAIL && s->door->queue_closed)
        refuse(s, 452, "4.3.1", SMTP_QUEUE_CLOSED, S_MAIL);
}

void smtp_server_act_bdat(struct smtp_server *s, struct span arg)
{
    s->chunk = (struct smtp_chunk){0};
    if (!parse(arg, &s->chunk.size, &s->chunk.last)) {
        /* Where its content ends isn't known: nothing behind it may be read as a command. */
        smtp_server_end(s, 501, "5.5.4", "BDAT size, or BDAT size LAST, is its form; closing the connection");
        return;
    }
    if (s->chunk.size > s->config->max_size + DROP_MORE) {
        smtp_server_end(s, 552, "5.3.4", "The message is larger than what is taken here, closing the connection");
        return;
    }
    s->chunk.left = s->chunk.size;
    judge(s);
    if (!s->chunk.code && s->state == S_MAIL)
        smtp_server_content_begin(s, true);
    smtp_server_move(s, S_CHUNK);
}

static void chunk_over(struct smtp_server *s)
{
    if (s->chunk.code) {
        s->verb = SPAN("BDAT");
        if (s->chunk.last && s->chunk.back == S_MAIL) { /* a MAIL behind it must not give its recipients to this sender */
            smtp_server_forget(s);
            s->chunk.back = S_READY;
        }
        smtp_server_move(s, s->chunk.back);
        smtp_server_refuse(s, s->chunk.code, s->chunk.status, s->chunk.text);
        return;
    }
    if (s->chunk.last)
        smtp_data_end(&s->txn.data, &s->content);
    /* A flaw is told with the chunk that has it: the transaction is over, and what is pipelined behind it is dropped.
     */
    if (s->chunk.last || s->txn.data.flaws || s->turned_away) {
        smtp_server_content_over(s);
        return;
    }
    smtp_server_move(s, S_CHUNKS);
    char text[64];
    snprintf(text, sizeof text, "%llu octets received", (unsigned long long)s->chunk.size);
    smtp_server_say(s, 250, "2.0.0", text);
}

bool smtp_server_read_chunk(struct smtp_server *s, struct span in, size_t *used)
{
    struct span part = span_sub(in, 0, (size_t)MIN_OF((uint64_t)in.n, s->chunk.left));
    *used = part.n;
    if (!s->chunk.code) {
        if (smtp_server_content_full(s)) {
            *used = 0;
            return true;
        }
        if (part.n)
            smtp_server_content_take(s, part, used);
        s->chunk.left -= part.n;
        if (smtp_server_content_endless(s))
            return true;
    } else {
        s->chunk.left -= part.n;
    }
    if (s->chunk.left == 0)
        chunk_over(s);
    return true;
}
