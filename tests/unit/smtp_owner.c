/* See smtp_owner.h. */
#include "smtp_owner.h"

static struct outcome rcpt_outcome(struct span address, bool *relayed)
{
    ptrdiff_t at = span_rfind(address, '@');
    struct span local = at < 0 ? address : span_sub(address, 0, (size_t)at);
    *relayed = at >= 0 && !span_ieqs(span_from(address, (size_t)at + 1), "example.test");
    if (*relayed || span_ieqs(local, "alice") || span_ieqs(local, "bob") || span_ieqs(local, "postmaster"))
        return outcome_make(OUTCOME_DONE, 250, 1, 5, "Ok");
    if (span_ieqs(local, "later"))
        return outcome_make(OUTCOME_RETRY, 450, 2, 1, "Try later");
    return outcome_make(OUTCOME_FAILED, 550, 1, 1, "No such user here");
}

void smtp_owner_open(struct smtp_owner *o, bool submission)
{
    *o = (struct smtp_owner){0};
    o->config = (struct smtp_server_config){.hostname = SPAN("mx.example.test"),
                                            .submission = submission,
                                            .starttls = true,
                                            .max_size = 100000,
                                            .max_command_line = 512,
                                            .max_text_line = 1000,
                                            .max_header = 20000,
                                            .max_recipients = 100,
                                            .max_refused = 20,
                                            .max_errors = 20,
                                            .max_login_failures = 2,
                                            .max_transactions = 50,
                                            .by_min = 60,
                                            .hold_max = 86400,
                                            .content_high = 32768};
    o->door.wall = SMTP_OWNER_WALL;
    o->s = smtp_server_new();
    smtp_server_open(o->s, &o->config, &o->door, false);
    smtp_server_greet(o->s);
    smtp_owner_run(o);
}

void smtp_owner_close(struct smtp_owner *o)
{
    smtp_server_free(&o->s);
    struct buf *all[] = {&o->in, &o->sent, &o->stored, &o->taken, &o->recipients, &o->message_id};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        buf_free(all[i]);
}

static void login_answer(struct smtp_owner *o, const struct smtp_request *r, bool begins)
{
    bool plain = begins ? span_ieqs(r->mechanism, "PLAIN") : o->login_step == 9;
    bool good = false;
    if (plain) {
        if (begins && !r->has_data) {
            o->login_step = 9;
            smtp_server_challenge(o->s, SPAN(""));
            return;
        }
        good = span_eq(r->data, span_make("\0alice@example.test\0secret-words", 32));
    } else if (begins && !r->has_data) {
        o->login_step = 1;
        smtp_server_challenge(o->s, SPAN("Username:"));
        return;
    } else if (begins || o->login_step == 1) {
        o->login_step = span_eqs(r->data, "alice@example.test") ? 2 : 3;
        smtp_server_challenge(o->s, SPAN("Password:"));
        return;
    } else {
        good = o->login_step == 2 && span_eqs(r->data, "secret-words");
    }
    o->login_step = 0;
    struct outcome yes = outcome_make(OUTCOME_DONE, 235, 7, 0, "Welcome");
    struct outcome no = outcome_make(OUTCOME_FAILED, 535, 7, 8, "Wrong name or password");
    smtp_server_login(o->s, good ? &yes : &no, SPAN("alice@example.test"));
}

/* What a directory says: bob is one of two, `list` has members, `\xc3\xbcmit` needs UTF-8. */
static void who_answer(struct smtp_owner *o, const struct smtp_request *r)
{
    struct outcome yes = outcome_make(OUTCOME_DONE, 250, 1, 5, "Ok");
    struct outcome no = outcome_make(OUTCOME_FAILED, 550, 1, 1, "No such user here");
    struct outcome many = outcome_make(OUTCOME_FAILED, 553, 1, 4, "Ambiguous, it may be one of");
    struct outcome unsure = outcome_make(OUTCOME_DONE, 252, 5, 0, "That domain is not served here");
    if (r->expand)
        smtp_server_who(o->s, span_ieqs(r->address, "list") ? &yes : &no,
                        span_ieqs(r->address, "list") ? SPAN("<alice@example.test>\n<bob@example.test>\n") : SPAN(""));
    else if (span_ieqs(r->address, "bob"))
        smtp_server_who(o->s, &many, SPAN("<bob@example.test>\n<bob@second.test>\n"));
    else if (span_istarts(r->address, SPAN("alice")))
        smtp_server_who(o->s, &yes, SPAN("<alice@example.test>\n"));
    else if (span_ieqs(r->address, "jurgen"))
        smtp_server_who(o->s, &yes, SPAN("<j\xc3\xbcrgen@example.test>\n"));
    else
        smtp_server_who(o->s, span_iends(r->address, SPAN("elsewhere.test")) ? &unsure : &no, SPAN(""));
}

/* customer.test has three messages, empty.test none, full.test too many to count, huge.test so many that none was seen. */
static void etrn_answer(struct smtp_owner *o, const struct smtp_request *r)
{
    struct outcome out = outcome_make(OUTCOME_RETRY, 459, 7, 1, "not allowed for you");
    if (span_ieqs(r->address, "customer.test") || span_ieqs(r->address, "@customer.test"))
        out = outcome_make(OUTCOME_DONE, 253, 0, 0, "OK, 3 pending messages started");
    else if (span_ieqs(r->address, "empty.test"))
        out = outcome_make(OUTCOME_DONE, 251, 0, 0, "OK, no messages waiting");
    smtp_server_flushed(o->s, &out);
}

static void turn_answer(struct smtp_owner *o, const struct smtp_request *r)
{
    struct outcome out = outcome_make(OUTCOME_FAILED, 550, 7, 1, "That mail is not yours to take");
    if (span_ieqs(r->data, "customer.test") || (r->data.n == 0 && o->entitled))
        out = outcome_make(OUTCOME_DONE, 250, 0, 0, "OK now reversing the connection");
    else if (span_ieqs(r->data, "empty.test,empty2.test"))
        out = outcome_make(OUTCOME_RETRY, 453, 0, 0, "You have no mail");
    smtp_server_turned(o->s, &out);
}

static void sender_answer(struct smtp_owner *o, const struct smtp_request *r)
{
    struct outcome yes = outcome_make(OUTCOME_DONE, 250, 1, 0, "Ok");
    struct outcome no = outcome_make(OUTCOME_FAILED, 550, 7, 1, "That address is not yours");
    smtp_server_sender(o->s, r->address.n == 0 || span_ieqs(r->address, "alice@example.test") ? &yes : &no);
}

static void rcpt_answer(struct smtp_owner *o, unsigned index, struct span address)
{
    bool relayed;
    struct outcome out = rcpt_outcome(address, &relayed);
    smtp_server_rcpt(o->s, index, &out, relayed);
}

void smtp_owner_answer_rcpt(struct smtp_owner *o, unsigned held)
{
    const struct smtp_transaction *t = smtp_server_transaction(o->s);
    if (t && o->held[held] < t->rcpt_count)
        rcpt_answer(o, o->held[held], t->rcpts[o->held[held]].address);
    smtp_owner_run(o);
}

static void commit(struct smtp_owner *o)
{
    const struct smtp_transaction *t = smtp_server_transaction(o->s);
    buf_add(&o->stored, buf_span(&o->taken));
    buf_add(&o->stored, buf_span(smtp_server_content(o->s)));
    buf_clear(&o->taken);
    for (unsigned i = 0; i < t->rcpt_count; i++)
        if (t->rcpts[i].state == SMTP_RCPT_WELCOME) {
            buf_add(&o->recipients, t->rcpts[i].address);
            buf_addc(&o->recipients, '\n');
        }
    buf_clear(&o->message_id);
    buf_add(&o->message_id, smtp_data_message_id(&t->data));
    o->header_bytes = t->data.header_bytes;
    o->binary |= t->binary;
    o->commits++;
    if (o->hold_commits)
        return;
    struct outcome yes = outcome_make(OUTCOME_DONE, 250, 0, 0, "Ok: queued as Q%u", o->commits);
    smtp_server_committed(o->s, &yes);
}

static void room(struct smtp_owner *o)
{
    o->rooms++;
    if (o->refuse_room) {
        struct outcome no = outcome_make(OUTCOME_RETRY, 452, 3, 1, "No room");
        smtp_server_no_room(o->s, &no);
        return;
    }
    struct buf swap = {0};
    smtp_server_take(o->s, &swap);
    buf_add(&o->taken, buf_span(&swap));
    buf_free(&swap);
}

static void carry_out(struct smtp_owner *o, enum smtp_want want, const struct smtp_request *r)
{
    switch (want) {
    case SMTP_WANT_INPUT: break;
    case SMTP_WANT_ABORT:
        o->aborts++;
        buf_clear(&o->taken);
        break;
    case SMTP_WANT_LOGIN_FORGET:
        o->forgets++;
        o->login_step = 0;
        break;
    case SMTP_WANT_HELLO: break;
    case SMTP_WANT_NOTE: o->notes++; break;
    case SMTP_WANT_SENDER: sender_answer(o, r); break;
    case SMTP_WANT_RCPT:
        if (o->hold_rcpts && o->held_count < COUNT_OF(o->held))
            o->held[o->held_count++] = r->index;
        else
            rcpt_answer(o, r->index, r->address);
        break;
    case SMTP_WANT_ETRN: etrn_answer(o, r); break;
    case SMTP_WANT_TURN: turn_answer(o, r); break;
    case SMTP_WANT_XCLIENT: smtp_server_greet(o->s); break;
    case SMTP_WANT_WHO: who_answer(o, r); break;
    case SMTP_WANT_LOGIN:
    case SMTP_WANT_LOGIN_STEP: login_answer(o, r, want == SMTP_WANT_LOGIN); break;
    case SMTP_WANT_TLS:
        buf_clear(&o->in); /* what the stream does with input that came in clear */
        if (!o->hold_tls)
            smtp_server_tls_up(o->s);
        break;
    case SMTP_WANT_ROOM: room(o); break;
    case SMTP_WANT_COMMIT: commit(o); break;
    case SMTP_WANT_CLOSE: o->closed = true; break;
    }
}

void smtp_owner_run(struct smtp_owner *o)
{
    for (;;) {
        size_t used;
        struct smtp_request r = {0};
        struct span in = buf_span(&o->in);
        enum smtp_want want = smtp_server_run(o->s, in, &used, &r);
        if (want == SMTP_WANT_INPUT && used == 0)
            break;
        buf_drop(&o->in, used);
        carry_out(o, want, &r);
        buf_add(&o->sent, buf_span(smtp_server_output(o->s)));
        buf_clear(smtp_server_output(o->s));
    }
    buf_add(&o->sent, buf_span(smtp_server_output(o->s)));
    buf_clear(smtp_server_output(o->s));
}

void smtp_owner_feed(struct smtp_owner *o, struct span bytes)
{
    buf_add(&o->in, bytes);
    smtp_owner_run(o);
}

void smtp_owner_feed_slowly(struct smtp_owner *o, struct span bytes)
{
    for (size_t i = 0; i < bytes.n; i++)
        smtp_owner_feed(o, span_sub(bytes, i, 1));
}
