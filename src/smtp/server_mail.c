/* A mail transaction: MAIL, RCPT, DATA and the content, of BDAT too (RFC 5321 §3.3, §4.1.1.2 to §4.1.1.4). */
#include <stdio.h>

#include "base/mem.h"
#include "smtp/server_impl.h"

/* ---- MAIL ---- */

static void refuse_path(struct smtp_server *s, enum smtp_path_result r, const char *status,
                        void refuse(struct smtp_server *, unsigned, const char *, const char *))
{
    if (r == SMTP_PATH_NOT_ASCII)
        refuse(s, 553, "5.6.7", "Addresses outside of ASCII are UTF-8 and need SMTPUTF8"); /* RFC6531:3.5 */
    else if (r == SMTP_PATH_TOO_LONG)
        refuse(s, 501, status, "Path too long"); /* RFC5321:4.5.3.1.9 */
    else
        refuse(s, 501, status, "That is no address in angle brackets");
}

/* The address of a path; a local part alone gets its domain. */
static struct span whole_address(struct smtp_server *s, const struct smtp_path *path)
{
    if (!s->config->local || path->domain.n || path->address.n == 0)
        return arena_dup(&s->arena, path->address);
    return arena_printf(&s->arena, "%.*s@%.*s", SPANV(path->address), SPANV(s->config->domain));
}

void smtp_server_hold_back(struct smtp_server *s, int64_t until, struct span text)
{
    s->held_until = until;
    buf_clear(&s->held_text);
    buf_add(&s->held_text, text);
}

/* It did nothing wrong but haste: it is to be here still when its time has come. */
static void held_back(struct smtp_server *s)
{
    size_t start = s->out.n;
    smtp_reply_put(&s->out, 450, "4.7.0", buf_span(&s->held_text));
    smtp_server_note(s, span_from(buf_span(&s->out), start));
    smtp_server_count_idle(s);
}

/* Whether a transaction may begin at all. */
static bool mail_welcome(struct smtp_server *s)
{
    if (s->config->submission && s->login.n == 0) {
        bool tls_first = !s->tls && !s->config->auth_in_clear;
        smtp_server_refuse(s, 530, "5.7.0",
                           tls_first ? "Start TLS first" : "Log in first"); /* RFC6409:4.3, RFC3207:4 */
    } else if (s->config->max_transactions && s->transactions >= s->config->max_transactions) {
        smtp_server_end(s, 421, "4.7.0", "Enough messages for one connection, make a new one");
    } else if (s->held_until > s->door->wall) {
        held_back(s);
    } else if (s->door->crowded) {
        smtp_server_refuse(s, 452, "4.3.1", "Too much mail is under way just now, try again later");
    } else if (s->door->queue_closed) {
        smtp_server_refuse(s, 452, "4.3.1", SMTP_QUEUE_CLOSED);
    } else {
        return true;
    }
    return false;
}

static void welcome_mail(struct smtp_server *s)
{
    smtp_server_move(s, S_MAIL);
    if (s->txn.lowered) { /* RFC6710:4.1 */
        char text[64];
        snprintf(text, sizeof text, "%d is the priority of this message", s->txn.priority);
        smtp_server_say(s, 250, "2.3.6", text);
    } else {
        smtp_server_say(s, 250, "2.1.0", "Ok");
    }
}

void smtp_server_act_mail(struct smtp_server *s, struct span arg)
{
    struct smtp_path path;
    if (!span_istarts(arg, SPAN("FROM:"))) {
        smtp_server_refuse(s, 501, "5.5.4", "MAIL FROM:<address> is its form");
        return;
    }
    if (!mail_welcome(s))
        return;
    smtp_server_forget(s);
    arg = span_from(arg, 5);
    unsigned allow = SMTP_PATH_NULL | (s->config->local ? SMTP_PATH_BARE : 0u);
    enum smtp_path_result r = smtp_path_take(&arg, allow, &path);
    /* The parameter that allows UTF-8 stands behind the address. */
    bool utf8 = r == SMTP_PATH_NOT_ASCII && span_is_utf8(arg);
    if (utf8)
        r = smtp_path_take(&arg, allow | SMTP_PATH_UTF8, &path);
    if (r != SMTP_PATH_OK) {
        refuse_path(s, r, "5.1.7", smtp_server_refuse);
        return;
    }
    if (smtp_server_mail_params(s, arg))
        return;
    if (utf8 && !s->txn.smtputf8) {
        refuse_path(s, SMTP_PATH_NOT_ASCII, "5.1.7", smtp_server_refuse);
        return;
    }
    s->txn.sender = whole_address(s, &path);
    if (s->config->submission) {
        s->ask.address = s->txn.sender;
        smtp_server_move(s, S_SENDER);
        smtp_server_want(s, SMTP_WANT_SENDER);
        return;
    }
    welcome_mail(s);
}

static void mail_to_terminal(struct smtp_server *s, struct span arg, enum smtp_terminal how)
{
    smtp_server_act_mail(s, arg);
    if (s->state == S_MAIL || s->state == S_SENDER)
        s->txn.terminal = how;
}

bool smtp_server_serves_send(const struct smtp_server *s)
{
    return s->config->send_commands;
}

void smtp_server_act_send(struct smtp_server *s, struct span arg)
{
    mail_to_terminal(s, arg, SMTP_SEND);
}

void smtp_server_act_soml(struct smtp_server *s, struct span arg)
{
    mail_to_terminal(s, arg, SMTP_SOML);
}

void smtp_server_act_saml(struct smtp_server *s, struct span arg)
{
    mail_to_terminal(s, arg, SMTP_SAML);
}

/* A final refusal counts as an error; one for now may be our own fault. The client hears it whatever it has done before:
 * 421 instead of it would have the message sent again. */
static void refuse_outcome(struct smtp_server *s, const struct outcome *o)
{
    size_t start = s->out.n;
    smtp_reply_outcome(&s->out, o);
    smtp_server_note(s, span_from(buf_span(&s->out), start));
    if (o->kind == OUTCOME_FAILED)
        smtp_server_count_error(s);
}

void smtp_server_sender(struct smtp_server *s, const struct outcome *o)
{
    if (s->state != S_SENDER)
        return;
    if (o->kind == OUTCOME_DONE) {
        welcome_mail(s);
        return;
    }
    s->verb = SPAN("MAIL");
    smtp_server_forget(s);
    smtp_server_move(s, S_READY);
    refuse_outcome(s, o);
}

/* ---- RCPT: slots keep the order of replies while several recipients are being asked about ---- */

static unsigned new_slot(struct smtp_server *s, struct span address)
{
    struct smtp_transaction *t = &s->txn;
    if (t->rcpt_count == s->rcpt_cap) {
        s->rcpt_cap = s->rcpt_cap ? s->rcpt_cap * 2 : 4;
        t->rcpts = mem_resize(t->rcpts, s->rcpt_cap * sizeof *t->rcpts);
    }
    t->rcpts[t->rcpt_count] = (struct smtp_rcpt){.address = arena_dup(&s->arena, address), .state = SMTP_RCPT_WAITING};
    return t->rcpt_count++;
}

static void flush_slots(struct smtp_server *s)
{
    struct smtp_transaction *t = &s->txn;
    while (s->next_reply < t->rcpt_count && t->rcpts[s->next_reply].state != SMTP_RCPT_WAITING)
        buf_add(&s->out, t->rcpts[s->next_reply++].reply);
}

static void slot_refused(struct smtp_server *s, unsigned index, const struct outcome *o)
{
    struct smtp_rcpt *r = &s->txn.rcpts[index];
    buf_clear(&s->scratch);
    smtp_reply_outcome(&s->scratch, o);
    r->state = SMTP_RCPT_REFUSED;
    r->reply = arena_dup(&s->arena, buf_span(&s->scratch));
    smtp_server_note(s, r->reply);
    s->note_about = r->address;
    flush_slots(s);
}

/* A refusal of our own: waits for its turn behind recipients that are still being asked about. */
static void refuse_rcpt(struct smtp_server *s, unsigned code, const char *status, const char *text)
{
    if (s->waiting == 0) {
        smtp_server_refuse(s, code, status, text);
        return;
    }
    s->errors++;
    struct buf line = {0};
    smtp_reply_put(&line, code, status, span_of(text));
    unsigned i = new_slot(s, SPAN(""));
    s->txn.rcpts[i].state = SMTP_RCPT_REFUSED;
    s->txn.rcpts[i].reply = arena_dup(&s->arena, buf_span(&line));
    smtp_server_note(s, buf_span(&line));
    buf_free(&line);
}

/* What RCPT says beside the address. */
struct rcpt_params {
    uint8_t notify;
    struct span orcpt;
};

/* Why this parameter can't be taken; NULL: it was. RFC3461:4.1, RFC3461:4.2. */
static const char *rcpt_param(const struct smtp_param *p, bool utf8, struct rcpt_params *out)
{
    if (span_ieqs(p->keyword, "NOTIFY")) {
        if (out->notify)
            return "NOTIFY came twice";
        return smtp_notify_parse(p->value, &out->notify) ? NULL : "NOTIFY is NEVER, or some of SUCCESS,FAILURE,DELAY";
    }
    if (out->orcpt.n)
        return "ORCPT came twice";
    out->orcpt = p->value;
    return smtp_orcpt_valid(p->value, utf8) ? NULL : "ORCPT is type;xtext of 500 characters at most";
}

static int take_rcpt_params(struct smtp_server *s, struct span text, struct rcpt_params *out)
{
    struct smtp_param p;
    int r;
    while ((r = smtp_param_take(&text, &p)) > 0) {
        if (!span_ieqs(p.keyword, "NOTIFY") && !span_ieqs(p.keyword, "ORCPT")) {
            refuse_rcpt(s, 555, "5.5.4", "A parameter of RCPT that is not served here"); /* RFC5321:4.1.1.11 */
            return -1;
        }
        const char *why = rcpt_param(&p, s->txn.smtputf8, out);
        if (why) {
            refuse_rcpt(s, 501, "5.5.4", why);
            return -1;
        }
    }
    if (r < 0)
        refuse_rcpt(s, 501, "5.5.4", "The parameters of RCPT make no sense");
    return r;
}

bool smtp_server_is_full(const struct smtp_server *s)
{
    return s->door->crowded || s->door->queue_closed || s->txn.welcome + s->waiting >= s->config->max_recipients;
}

/* RFC5321:4.5.3.1.10: the client sends the message to those it has, and again for the others. Not an error of its own: it must
 * get to its DATA, however many more it names; the log has one of them. Nothing is being asked about now: must_wait(). */
static void put_off(struct smtp_server *s)
{
    size_t start = s->out.n;
    if (s->txn.welcome >= s->config->max_recipients)
        smtp_server_say(s, 452, "4.5.3", "Too many recipients, send the message again for the others");
    else
        smtp_server_say(s, 452, "4.3.1", s->door->queue_closed ? SMTP_QUEUE_CLOSED : "Too much mail is under way just now, try again later");
    if (!s->txn.excess)
        smtp_server_note(s, span_from(buf_span(&s->out), start));
    s->txn.excess = true;
}

void smtp_server_act_rcpt(struct smtp_server *s, struct span arg)
{
    struct smtp_path path;
    if (!span_istarts(arg, SPAN("TO:"))) {
        refuse_rcpt(s, 501, "5.5.4", "RCPT TO:<address> is its form");
        return;
    }
    arg = span_from(arg, 3);
    unsigned allow = SMTP_PATH_POSTMASTER | (s->txn.smtputf8 ? SMTP_PATH_UTF8 : 0u) | (s->config->local ? SMTP_PATH_BARE : 0u);
    enum smtp_path_result r = smtp_path_take(&arg, allow, &path);
    if (r != SMTP_PATH_OK) {
        refuse_path(s, r, "5.1.3", refuse_rcpt);
        return;
    }
    struct rcpt_params params = {0};
    if (take_rcpt_params(s, arg, &params))
        return;
    if (smtp_server_is_full(s)) {
        put_off(s);
        return;
    }
    unsigned i = new_slot(s, whole_address(s, &path));
    s->txn.rcpts[i].notify = params.notify;
    s->txn.rcpts[i].orcpt = params.orcpt.n ? arena_dup(&s->arena, params.orcpt) : SPAN_NONE;
    s->waiting++;
    s->ask.index = i;
    s->ask.address = s->txn.rcpts[i].address;
    s->ask.sender = s->txn.sender;
    s->ask.size = s->txn.declared;
    smtp_server_want(s, SMTP_WANT_RCPT);
}

static void slot_welcome(struct smtp_server *s, unsigned index)
{
    struct smtp_rcpt *r = &s->txn.rcpts[index];
    r->state = SMTP_RCPT_WELCOME;
    r->reply = SPAN("250 2.1.5 Ok\r\n");
    s->txn.welcome++;
    flush_slots(s);
}

void smtp_server_rcpt(struct smtp_server *s, unsigned index, const struct outcome *o, bool relayed)
{
    if (s->state != S_MAIL || index >= s->txn.rcpt_count || s->txn.rcpts[index].state != SMTP_RCPT_WAITING)
        return;
    s->waiting--;
    /* Never an open relay: what is not ours goes out for a login only, whatever the answer says. */
    bool refused_relay = o->kind == OUTCOME_DONE && relayed && !(s->config->submission && s->login.n) && !s->config->local;
    if (o->kind == OUTCOME_DONE && !refused_relay) {
        slot_welcome(s, index);
        return;
    }
    s->verb = SPAN("RCPT");
    struct outcome relay = outcome_make(OUTCOME_FAILED, 550, 7, 1, "Mail for that domain is not taken here");
    slot_refused(s, index, refused_relay ? &relay : o);
    if (++s->refused > s->config->max_refused)
        smtp_server_end(s, 421, "4.7.0", "Too many recipients were refused, closing the connection");
}

/* ---- DATA ---- */

void smtp_server_content_begin(struct smtp_server *s, bool chunked)
{
    const struct smtp_data_limits limits = {.size = s->config->max_size,
                                            .line = s->config->max_text_line,
                                            .header = s->config->max_header,
                                            .strip = s->config->submission || s->config->local,
                                            .normalise = s->config->normalise,
                                            .own = s->config->strip_results,
                                            .chunked = chunked,
                                            .watched = s->config->watched,
                                            .watched_count = s->config->watched_count,
                                            .binary = s->txn.binary};
    smtp_data_begin(&s->txn.data, &limits);
}

void smtp_server_act_data(struct smtp_server *s, struct span arg UNUSED)
{
    if (s->txn.welcome == 0 || s->state == S_CHUNKS || s->txn.binary) {
        if (s->state == S_CHUNKS)
            smtp_server_refuse(s, 503, "5.5.1", "The content has begun with BDAT, go on with BDAT"); /* RFC3030:2 */
        else if (s->txn.binary)
            smtp_server_refuse(s, 503, "5.5.1", "BODY=BINARYMIME goes with BDAT"); /* RFC3030:3 */
        else if (s->txn.rcpt_count)
            smtp_server_refuse(s, 554, "5.5.1", "No valid recipients"); /* RFC5321:3.3 */
        else
            smtp_server_refuse(s, 503, "5.5.1", "Say RCPT first");
        return;
    }
    if (s->more_behind && !s->esmtp) { /* RFC2920:3.1, HAZARDS 5: it was not told of PIPELINING, and what it sent must never run as commands */
        smtp_server_end(s, 554, "5.5.0", "You sent the message without waiting for the answer to DATA");
        return;
    }
    if (s->door->queue_closed) { /* before the content comes in vain */
        smtp_server_refuse(s, 452, "4.3.1", SMTP_QUEUE_CLOSED);
        return;
    }
    smtp_server_content_begin(s, false);
    smtp_reply_put(&s->out, 354, NULL, SPAN("End data with <CR><LF>.<CR><LF>"));
    smtp_server_move(s, S_DATA);
}

/* ---- content ---- */

static const struct flaw_reply {
    unsigned flaw;
    unsigned code;
    const char *status, *text;
} flaw_replies[] = {
    {SMTP_FLAW_BARE_CR | SMTP_FLAW_BARE_LF, 554, "5.6.0",
     "The message holds a CR or LF alone; lines end with CRLF (RFC 5321 2.3.8)"},
    {SMTP_FLAW_SIZE, 552, "5.3.4", "The message is larger than what is taken here"},
    {SMTP_FLAW_HEADER, 552, "5.3.4", "The header section is larger than what is taken here"},
    {SMTP_FLAW_NUL, 554, "5.6.0", "The message holds a NUL octet"},
    {SMTP_FLAW_LINE, 554, "5.6.0", "The message holds a line longer than what is taken here"},
};

static const struct flaw_reply *worst_flaw(unsigned flaws)
{
    for (size_t i = 0; i < COUNT_OF(flaw_replies); i++)
        if (flaws & flaw_replies[i].flaw)
            return &flaw_replies[i];
    return NULL;
}

static void transaction_over(struct smtp_server *s)
{
    s->verb = s->txn.data.limits.chunked ? SPAN("BDAT") : SPAN("DATA");
    smtp_server_forget(s);
    smtp_server_move(s, S_READY);
}

void smtp_server_content_over(struct smtp_server *s)
{
    const struct flaw_reply *flaw = worst_flaw(s->txn.data.flaws);
    if (flaw) {
        /* HAZARDS 1: where another server may have read on past this end, what follows was not meant as commands. */
        bool doubtful = s->txn.data.doubtful_end && !s->txn.data.limits.chunked;
        transaction_over(s);
        smtp_server_refuse(s, flaw->code, flaw->status, flaw->text);
        if (doubtful && s->state != S_CLOSED) {
            smtp_server_move(s, S_CLOSED);
            smtp_server_want(s, SMTP_WANT_CLOSE);
        }
    } else if (s->txn.data.received > SMTP_HOPS_MAX) {
        transaction_over(s);
        smtp_server_refuse(s, 554, "5.4.6", "The message loops: too many Received fields"); /* RFC5321:6.3 */
    } else if (s->turned_away) {
        struct outcome why = s->why_not;
        transaction_over(s);
        refuse_outcome(s, &why);
    } else {
        smtp_server_move(s, S_COMMIT);
        smtp_server_want(s, SMTP_WANT_COMMIT);
    }
}

/* A sender that goes on and on behind the limit isn't listened to for ever. */
static bool far_too_large(const struct smtp_server *s)
{
    return s->txn.data.size / 2 > s->config->max_size + (1u << 20);
}

bool smtp_server_content_full(struct smtp_server *s)
{
    if (s->content.n < s->config->content_high || s->txn.data.in_header)
        return false;
    s->spooling = true;
    smtp_server_move(s, S_ROOM);
    smtp_server_want(s, SMTP_WANT_ROOM);
    return true;
}

bool smtp_server_content_take(struct smtp_server *s, struct span in, size_t *used)
{
    bool over = smtp_data_read(&s->txn.data, in, used, &s->content);
    if (s->turned_away || s->txn.data.flaws)
        buf_clear(&s->content);
    return over;
}

bool smtp_server_content_endless(struct smtp_server *s)
{
    if (!far_too_large(s))
        return false;
    transaction_over(s);
    smtp_server_end(s, 552, "5.3.4", "The message is larger than what is taken here, closing the connection");
    return true;
}

bool smtp_server_read_content(struct smtp_server *s, struct span in, size_t *used)
{
    if (smtp_server_content_full(s))
        return true;
    if (smtp_server_content_take(s, in, used))
        smtp_server_content_over(s);
    else
        smtp_server_content_endless(s);
    return true;
}

/* Where the content goes on when the owner has dealt with what is there. */
static void content_goes_on(struct smtp_server *s)
{
    if (s->state == S_ROOM)
        smtp_server_move(s, s->txn.data.limits.chunked ? S_CHUNK : S_DATA);
}

void smtp_server_take(struct smtp_server *s, struct buf *content)
{
    struct buf mine = s->content;
    s->content = *content;
    buf_clear(&s->content);
    *content = mine;
    content_goes_on(s);
}

void smtp_server_no_room(struct smtp_server *s, const struct outcome *o)
{
    if (s->state != S_ROOM && s->state != S_DATA && s->state != S_CHUNK && s->state != S_CHUNKS)
        return;
    s->turned_away = true;
    s->why_not = *o;
    s->spooling = false;
    buf_clear(&s->content);
    content_goes_on(s);
}

void smtp_server_committed(struct smtp_server *s, const struct outcome *o)
{
    if (s->state != S_COMMIT)
        return;
    s->spooling = false;
    transaction_over(s);
    if (o->kind == OUTCOME_DONE) {
        s->transactions++;
        s->idle = 0;
        smtp_reply_outcome(&s->out, o);
    } else {
        refuse_outcome(s, o);
    }
    if (smtp_server_leaves(s))
        smtp_server_drain(s);
}
